//! What the cluster agrees on: the records of the log `__cluster_metadata`, and the immutable [`Image`] that
//! they add up to. Pure: bytes, records and images; no file, no log.
//!
//! Every record type of Kafka 4.3 has a place in the image, those included that nothing here acts on yet, so
//! that a snapshot of the image ([`Image::to_records`], [`snapshot`]) drops nothing. What is read back is read
//! through [`Replay`].

mod apply;
mod cluster;
mod image;
mod image_records;
pub mod record;
mod replay;
pub mod snapshot;
mod topics;

pub use apply::{ApplyError, ImageBuilder};
pub use cluster::{BrokerEndpoint, BrokerRegistration, VersionRange};
pub use image::{ConfigResource, ConfigResourceType, Image, QuotaEntity};
pub use record::{MetadataRecord, RecordError};
pub use replay::{Replay, ReplayError, records_of_file};
pub use topics::{LeaderRecoveryState, PartitionRegistration, ReplicaDirectory, Topic, Topics};

/// The finalised feature that says which metadata records may be written.
pub const METADATA_VERSION: &str = "metadata.version";
