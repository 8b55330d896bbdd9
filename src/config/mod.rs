//! Configuration: Kafka's names, defaults, units and layers. Text in, typed values and messages out; no
//! file is opened here.
//!
//! [`table::KEYS`] has a row for every key; [`BrokerConfig`] and [`TopicConfig`] are the typed views that
//! the rest of the program reads. Adding a key is adding a row, and a field where it acts.

mod adopted;
mod broker;
mod cleaner;
mod cluster;
mod describe;
mod error;
mod groups;
mod key;
mod layers;
mod listeners;
mod nearest;
pub mod properties;
mod quorum;
mod replication;
pub mod table;
mod throttled;
mod topic;

pub use broker::{BrokerConfig, Layers};
pub use cleaner::CleanerConfig;
pub use cluster::ClusterConfig;
pub use describe::{DescribedConfig, Synonym, describe_client_metrics};
pub use error::{ConfigError, Warning};
pub use groups::{ConsumerGroupSettings, GroupSettings, MigrationPolicy};
pub use key::{ConfigKey, Effect, Fallback, Importance, Kind, Scope, Update, Valid, Value};
pub use layers::ConfigSource;
pub use listeners::{AdvertisedListener, ListenAddress, Listener, SecurityProtocol};
pub use nearest::{edit_distance, nearest, suggest};
pub use quorum::{ControllerAddress, QuorumConfig};
pub use replication::ReplicationConfig;
pub use throttled::ThrottledReplicas;
pub use topic::{CleanupPolicy, CompressionSetting, MessageTimestampType, TopicConfig};
