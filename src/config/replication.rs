//! What the broker's keys say about replication: how followers fetch, and how long they may lag.

use super::error::ConfigError;
use super::layers::BrokerLayers;

/// The broker's settings of replication.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicationConfig {
    /// `replica.lag.time.max.ms`
    pub lag_time_max_ms: i64,
    /// `num.replica.fetchers`: connections to each leader.
    pub fetchers: usize,
    /// `replica.fetch.max.bytes`: of one partition.
    pub fetch_max_bytes: i32,
    /// `replica.fetch.response.max.bytes`
    pub fetch_response_max_bytes: i32,
    /// `replica.fetch.min.bytes`
    pub fetch_min_bytes: i32,
    /// `replica.fetch.wait.max.ms`
    pub fetch_wait_max_ms: i32,
    /// `replica.fetch.backoff.ms`
    pub fetch_backoff_ms: i64,
    /// `replica.socket.timeout.ms`
    pub socket_timeout_ms: i64,
    /// `replica.selector.class`
    pub selector_class: Option<String>,
    /// `inter.broker.listener.name`, where it is set.
    pub inter_broker_listener: Option<String>,
    /// `leader.replication.throttled.rate`
    pub leader_throttled_rate: i64,
    /// `follower.replication.throttled.rate`
    pub follower_throttled_rate: i64,
}

impl ReplicationConfig {
    pub(super) fn resolve(layers: &BrokerLayers) -> Result<Self, ConfigError> {
        let int = |name: &str| -> Result<i32, ConfigError> {
            Ok(i32::try_from(layers.integer(name)?).unwrap_or(i32::MAX))
        };
        Ok(Self {
            lag_time_max_ms: layers.integer("replica.lag.time.max.ms")?,
            fetchers: usize::try_from(layers.integer("num.replica.fetchers")?).unwrap_or(1).max(1),
            fetch_max_bytes: int("replica.fetch.max.bytes")?,
            fetch_response_max_bytes: int("replica.fetch.response.max.bytes")?,
            fetch_min_bytes: int("replica.fetch.min.bytes")?,
            fetch_wait_max_ms: int("replica.fetch.wait.max.ms")?,
            fetch_backoff_ms: layers.integer("replica.fetch.backoff.ms")?,
            socket_timeout_ms: layers.integer("replica.socket.timeout.ms")?,
            selector_class: layers.text("replica.selector.class")?,
            inter_broker_listener: layers.text("inter.broker.listener.name")?,
            leader_throttled_rate: layers.integer("leader.replication.throttled.rate")?,
            follower_throttled_rate: layers.integer("follower.replication.throttled.rate")?,
        })
    }
}
