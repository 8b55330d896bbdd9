//! A partition's role around its log: leader epoch, high watermark, who waits for it to move, and the fetch
//! sessions of those who read it.
//!
//! `log_start_offset <= last_stable_offset <= high_watermark <= log_end_offset`, in every answer: all of an
//! answer's offsets are read under one lock. Nobody is shown records at or above the high watermark.

pub mod fetch_session;
pub mod manager;
pub mod partition;
mod recoveries;
mod relocation;
pub mod waiters;

pub use fetch_session::{FetchItem, Outcome, SessionCache, TopicKey};
pub use manager::{Partitions, Topic};
pub use partition::{Accepted, Isolation, Partition, PartitionError, ReadOutcome, ReadSpec};
pub use relocation::{Copied, FutureLog};
pub use waiters::Waiter;
