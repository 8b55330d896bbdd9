//! The settings of group coordinators, typed: those of the broker, and what a group may set for itself.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::error::ConfigError;
use super::key::{Scope, Value};
use super::layers::BrokerLayers;
use super::table;

/// Which conversions between the classic and the consumer protocol are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MigrationPolicy {
    /// A classic group may become a consumer group.
    pub upgrade: bool,
    /// A consumer group may become a classic group.
    pub downgrade: bool,
}

/// What the broker's configuration says about groups. Times are milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.commit.timeout.ms`
    pub offsets_commit_timeout_ms: i64,
    /// `offsets.topic.num.partitions`
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.segment.bytes`
    pub offsets_topic_segment_bytes: i32,
    /// `offsets.topic.compression.codec`, Kafka's number.
    pub offsets_topic_codec: i8,
    /// `group.coordinator.rebalance.protocols` has `consumer`.
    pub serves_consumer_protocol: bool,
    /// `group.consumer.assignors`, the default first.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.max.size`
    pub consumer_max_size: usize,
    /// `group.consumer.migration.policy`
    pub consumer_migration: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`
    pub consumer_regex_refresh_interval_ms: i64,
    consumer_defaults: ConsumerGroupSettings,
    consumer_minimum: ConsumerGroupSettings,
    consumer_maximum: ConsumerGroupSettings,
}

/// What a consumer group may set for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerGroupSettings {
    /// `consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`
    pub assignment_interval_ms: i32,
}

/// One of a consumer group's settings.
type Setting = fn(&ConsumerGroupSettings) -> i32;

impl GroupSettings {
    pub(super) fn build(layers: &BrokerLayers) -> Result<Self, ConfigError> {
        let int =
            |name: &str| Ok::<i32, ConfigError>(i32::try_from(layers.integer(name)?).unwrap_or(i32::MAX));
        let consumer = |bound: &str| {
            Ok::<_, ConfigError>(ConsumerGroupSettings {
                session_timeout_ms: int(&format!("group.consumer.{bound}session.timeout.ms"))?,
                heartbeat_interval_ms: int(&format!("group.consumer.{bound}heartbeat.interval.ms"))?,
                assignment_interval_ms: int(&format!("group.consumer.{bound}assignment.interval.ms"))?,
            })
        };
        Ok(Self {
            min_session_timeout_ms: int("group.min.session.timeout.ms")?,
            max_session_timeout_ms: int("group.max.session.timeout.ms")?,
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms")?,
            max_size: layers.size("group.max.size")?,
            offset_metadata_max_bytes: layers.size("offset.metadata.max.bytes")?,
            offsets_retention_ms: layers.integer("offsets.retention.minutes")?.saturating_mul(60_000),
            offsets_retention_check_interval_ms: layers.integer("offsets.retention.check.interval.ms")?,
            offsets_commit_timeout_ms: layers.integer("offsets.commit.timeout.ms")?,
            offsets_topic_partitions: int("offsets.topic.num.partitions")?,
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes")?,
            offsets_topic_codec: i8::try_from(layers.integer("offsets.topic.compression.codec")?)
                .unwrap_or(0),
            serves_consumer_protocol: layers
                .list("group.coordinator.rebalance.protocols")?
                .iter()
                .any(|protocol| protocol.eq_ignore_ascii_case("consumer")),
            consumer_assignors: layers.list("group.consumer.assignors")?,
            consumer_max_size: layers.size("group.consumer.max.size")?,
            consumer_migration: migration(
                &layers.text("group.consumer.migration.policy")?.unwrap_or_default(),
            ),
            consumer_regex_refresh_interval_ms: layers.integer("group.consumer.regex.refresh.interval.ms")?,
            consumer_defaults: consumer("")?,
            consumer_minimum: consumer("min.")?,
            consumer_maximum: consumer("max.")?,
        })
    }

    /// Whether a group may have these settings: within the broker's bounds, and a session longer than the beats
    /// that keep it.
    ///
    /// # Errors
    /// The first that is out of bounds.
    pub fn check_group(&self, own: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let (low, high) = (&self.consumer_minimum, &self.consumer_maximum);
        let bounds: [(&str, Setting); 3] = [
            ("session.timeout.ms", |it| it.session_timeout_ms),
            ("heartbeat.interval.ms", |it| it.heartbeat_interval_ms),
            ("assignment.interval.ms", |it| it.assignment_interval_ms),
        ];
        for (name, of) in bounds {
            let key = format!("consumer.{name}");
            let Some(text) = own.get(&key) else { continue };
            let Some(Value::Integer(number)) =
                table::find(Scope::Group, &key).and_then(|row| row.parse(text).ok())
            else {
                continue;
            };
            if number < i64::from(of(low)) {
                let bound = format!("{key} may not be below group.consumer.min.{name}, {}", of(low));
                return Err(ConfigError::Conflict(bound));
            }
            if number > i64::from(of(high)) {
                let bound = format!("{key} may not be above group.consumer.max.{name}, {}", of(high));
                return Err(ConfigError::Conflict(bound));
            }
        }
        let settings = self.consumer_group(own);
        if settings.session_timeout_ms <= settings.heartbeat_interval_ms {
            let order = "consumer.session.timeout.ms has to be longer than consumer.heartbeat.interval.ms";
            return Err(ConfigError::Conflict(order.to_owned()));
        }
        Ok(())
    }

    /// What holds for a consumer group with these settings of its own: within the broker's bounds, whatever
    /// they were when the group was set up.
    #[must_use]
    pub fn consumer_group(&self, own: &BTreeMap<String, String>) -> ConsumerGroupSettings {
        let value = |name: &str, default: i32| {
            let text = own.get(name)?;
            match table::find(Scope::Group, name)?.parse(text) {
                Ok(Value::Integer(number)) => i32::try_from(number).ok(),
                _ => Some(default),
            }
        };
        let (default, low, high) = (&self.consumer_defaults, &self.consumer_minimum, &self.consumer_maximum);
        let pick = |name: &str, of: Setting| match value(name, of(default)) {
            Some(number) => number.min(of(high)).max(of(low)),
            None => of(default),
        };
        ConsumerGroupSettings {
            session_timeout_ms: pick("consumer.session.timeout.ms", |it| it.session_timeout_ms),
            heartbeat_interval_ms: pick("consumer.heartbeat.interval.ms", |it| it.heartbeat_interval_ms),
            assignment_interval_ms: pick("consumer.assignment.interval.ms", |it| it.assignment_interval_ms),
        }
    }
}

fn migration(policy: &str) -> MigrationPolicy {
    let is = |word: &str| policy.eq_ignore_ascii_case(word);
    MigrationPolicy {
        upgrade: is("UPGRADE") || is("BIDIRECTIONAL"),
        downgrade: is("DOWNGRADE") || is("BIDIRECTIONAL"),
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        BrokerConfig::default().groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_own_settings_stay_within_the_brokers_bounds() {
        let settings = GroupSettings::default();
        assert_eq!(settings.consumer_group(&BTreeMap::new()), settings.consumer_defaults);
        let own = |name: &str, value: &str| {
            settings.consumer_group(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(own("consumer.session.timeout.ms", "50000").session_timeout_ms, 50_000);
        assert_eq!(own("consumer.session.timeout.ms", "1").session_timeout_ms, 45_000);
        assert_eq!(own("consumer.heartbeat.interval.ms", "99999").heartbeat_interval_ms, 15_000);
        let check = |name: &str, value: &str| {
            settings.check_group(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert!(check("consumer.session.timeout.ms", "50000").is_ok());
        let low = check("consumer.session.timeout.ms", "1000").unwrap_err().to_string();
        assert!(low.contains("group.consumer.min.session.timeout.ms"), "{low}");
        let high = check("consumer.heartbeat.interval.ms", "99999").unwrap_err().to_string();
        assert!(high.contains("group.consumer.max.heartbeat.interval.ms"), "{high}");
    }
}
