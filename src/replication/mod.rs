//! A partition's role around its log: leader or follower, leader epoch, who is in sync, high watermark, who waits for
//! it to move, and the fetch sessions of those who read it.
//!
//! `log_start_offset <= last_stable_offset <= high_watermark <= log_end_offset`, in every answer: all of an
//! answer's offsets are read under one lock. Nobody is shown records at or above the high watermark.

pub mod divergence;
pub mod fetch_session;
mod fetcher;
pub mod fetchers;
pub mod fetching;
pub mod following;
pub mod leader;
pub mod manager;
pub mod partition;
mod recoveries;
mod relocation;
pub mod replicas;
mod role;
mod settings;
pub mod surroundings;
pub mod throttle;
pub mod waiters;

pub use divergence::{Relation, Resume};
pub use fetch_session::{FetchItem, Outcome, SessionCache, TopicKey};
pub use fetchers::{Fetchers, Sources};
pub use following::{Position, Sent, Taken};
pub use leader::{After, FetchRefused, Granted, Leader, LogOffsets, Proposal, ReplicaFetch, Standing, Terms};
pub use manager::{Partitions, Topic};
pub use partition::{Accepted, Acks, Isolation, Partition, PartitionError, ReadOutcome, ReadSpec};
pub use relocation::{Copied, FutureLog};
pub use replicas::ReadableReplica;
pub use role::Following;
pub use surroundings::Surroundings;
pub use throttle::Throttle;
pub use waiters::Waiter;
