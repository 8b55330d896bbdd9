//! Group coordinators, in Kafka's shape and pure: a request becomes records and an answer; the answer may be
//! given once the records are committed; loading a partition of `__consumer_offsets` applies the same records
//! through the same functions.
//!
//! One [`Shard`] for each partition of `__consumer_offsets`. Whoever holds it gives it requests
//! ([`Shard::handle`]), time ([`Shard::tick`]) and changes of the cluster ([`Shard::follow`]); each call returns
//! [`Effects`]: records, which are to be appended in that order as one batch, and answers by [`Token`], which are
//! to be held back until everything appended so far is committed. If an append fails, what the shard knows is
//! ahead of its log: it is thrown away and loaded again, and its waiting requests are refused by the holder.
//!
//! | file | what it is |
//! |---|---|
//! | `shard` | one partition's groups and offsets; requests to functions |
//! | `group` | a group of either protocol, and what both can be asked |
//! | `group/classic` | JoinGroup and SyncGroup: members vote and their leader assigns |
//! | `group/consumer` | KIP-848: the coordinator assigns and reconciles |
//! | `offsets` | committed offsets, those of open transactions, their expiry |
//! | `records` | what stands in the log |
//! | `log` | records to batches, batches to a shard |
//! | `partition` | which partition a group lives in |

mod admin;
mod assignor;
mod exchange;
mod group;
mod log;
mod membership;
mod offsets;
mod partition;
mod records;
mod shard;
mod state;
mod step;
mod timers;

pub use assignor::{Assignor, AssignorError, GroupSpec, Partitions, Subscriber};
pub use exchange::{Answer, Asked, Client, Effects, Refusal, Request, Token};
pub use group::{
    ClassicGroup, ClassicMember, ClassicProtocol, ClassicState, ConsumerGroup, Group, GroupType, InitialDelay,
};
pub use log::{GroupLogError, batches_of, replay};
pub use offsets::Committed;
pub use partition::{group_partition, is_group_id};
pub use records::{ForeignKind, GroupRecord, RecordError};
pub use shard::{Shard, TopicChanges};
pub use step::{Now, Surroundings};
pub use timers::Timers;
