//! What the command line needs to talk to any Kafka cluster: connections, routing, a producer and a consumer.
//!
//! - [`Connection`]: one socket; requests pipeline, answers come in order, frames are bounded.
//! - [`Cluster`]: many brokers; bootstrap, metadata, leaders, retries.
//! - [`Producer`]: records to topics, in order, once, with a report for each.
//! - [`Consumer`]: records from partitions, in order, to an exact end.
//! - [`Membership`]: which partitions are a group member's now, by either of Kafka's group protocols.
//! - [`ClientConfig`]: `-X key=value` by Kafka's Java names and librdkafka's synonyms.
//!
//! The client promises: a call ends (every wait has a deadline), an answer is never taken for another
//! request's, and what a broker claims about sizes is not believed before the bytes are there.

mod address;
mod cluster;
mod config;
mod consumer;
mod error;
#[cfg(test)]
mod fake;
mod membership;
mod metadata;
mod options;
mod partitioner;
mod producer;
mod properties;

pub use address::Bootstrap;
pub use cluster::{Cluster, Lane};
pub use config::{
    Acks, ClientConfig, ConfigError, ConsumerOptions, GroupOptions, GroupProtocol, IsolationLevel,
    OffsetReset, ProducerOptions,
};
pub use consumer::{Assignment, ConsumeError, Consumer, Fetched, Pulled, Reading};
pub use error::{BrokerError, ClientError};
pub use membership::{
    Assignor, Committed, CommittedOffsets, Group, Identity, Membership, MembershipError, MembershipEvent,
    Subscription, read_assignment, read_subscribed_topics,
};
pub use metadata::{BrokerMetadata, ClusterMetadata, PartitionMetadata, TopicMetadata, Topics};
pub use options::{Backoff, ClientOptions};
pub use partitioner::{Partitioner, murmur2};
pub use producer::{
    AppendError, Delivered, Delivery, DeliveryCause, DeliveryError, NewRecord, Producer, Tags, TopicHandle,
};

pub use crate::net::outgoing::{
    Address, ApiVersions, Connection, ConnectionError, Dial, InvalidAddress, Pending, Written,
};
