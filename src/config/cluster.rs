//! What the broker's keys say about the life of brokers in a cluster. Times are milliseconds.

use super::error::ConfigError;
use super::layers::BrokerLayers;

/// How brokers tell the controller that they live, and what it does about leaders.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterConfig {
    /// `broker.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i64,
    /// `broker.session.timeout.ms`
    pub session_timeout_ms: i64,
    /// `initial.broker.registration.timeout.ms`
    pub registration_timeout_ms: i64,
    /// `controlled.shutdown.enable`
    pub controlled_shutdown_enable: bool,
    /// `auto.leader.rebalance.enable`
    pub rebalance_enable: bool,
    /// `leader.imbalance.check.interval.seconds`
    pub rebalance_interval_ms: i64,
    /// `unclean.leader.election.interval.ms`
    pub unclean_election_interval_ms: i64,
}

impl ClusterConfig {
    pub(super) fn resolve(layers: &BrokerLayers) -> Result<Self, ConfigError> {
        Ok(Self {
            heartbeat_interval_ms: layers.integer("broker.heartbeat.interval.ms")?,
            session_timeout_ms: layers.integer("broker.session.timeout.ms")?,
            registration_timeout_ms: layers.integer("initial.broker.registration.timeout.ms")?,
            controlled_shutdown_enable: layers.boolean("controlled.shutdown.enable")?,
            rebalance_enable: layers.boolean("auto.leader.rebalance.enable")?,
            rebalance_interval_ms: layers
                .integer("leader.imbalance.check.interval.seconds")?
                .saturating_mul(1_000),
            unclean_election_interval_ms: layers.integer("unclean.leader.election.interval.ms")?,
        })
    }
}
