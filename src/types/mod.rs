//! The words every layer shares: newtypes that must not be swapped, units that parse and print one way,
//! and the [`Clock`] through which all time is read.
//!
//! Nothing here knows a file, a socket or a message. Only `clock.rs` touches real time.

mod clock;
mod ids;
mod topic;
mod units;
mod uuid;

pub use clock::{Clock, ManualClock, SystemClock};
pub use ids::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
pub use topic::{InvalidTopicName, TopicName, TopicPartition};
pub use units::{ByteSize, UnitError, parse_duration, parse_time, print_duration};
pub use uuid::{InvalidUuid, Uuid};
