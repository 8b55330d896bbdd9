//! A topic's configuration in force: its own settings over the broker's over the defaults, typed.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::error::ConfigError;
use super::key::{Scope, Value};
use super::layers::BrokerLayers;
use super::nearest::suggest;
use super::table;
use super::throttled::ThrottledReplicas;

/// What happens to old segments. Neither: they are kept for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// They go by time and size.
    pub delete: bool,
    /// The last record of each key stays.
    pub compact: bool,
}

/// The codec batches are stored in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionSetting {
    /// As the producer sent them.
    Producer,
    /// None.
    Uncompressed,
    /// gzip, at a level from 1 to 9, or -1 for its default.
    Gzip(i32),
    /// snappy.
    Snappy,
    /// lz4, at a level from 1 to 17.
    Lz4(i32),
    /// zstd, at a level from -131072 to 22.
    Zstd(i32),
}

/// Whose time a record carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageTimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when it was appended.
    LogAppendTime,
}

/// Every setting of a topic that something here reads. Times are milliseconds; `i64::MAX` is "never".
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with its level.
    pub compression_type: CompressionSetting,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `flush.messages`
    pub flush_messages: i64,
    /// `flush.ms`
    pub flush_ms: i64,
    /// `follower.replication.throttled.replicas`
    pub follower_throttled: ThrottledReplicas,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `leader.replication.throttled.replicas`
    pub leader_throttled: ThrottledReplicas,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`
    pub max_message_bytes: u32,
    /// `message.timestamp.type`
    pub message_timestamp_type: MessageTimestampType,
    /// `message.timestamp.before.max.ms`
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub message_timestamp_after_max_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`
    pub min_insync_replicas: i32,
    /// `preallocate`
    pub preallocate: bool,
    /// `retention.bytes`; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` is no limit.
    pub retention_ms: Option<i64>,
    /// `segment.bytes`
    pub segment_bytes: u32,
    /// `segment.index.bytes`
    pub segment_index_bytes: u32,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: i64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election_enable: bool,
}

impl TopicConfig {
    /// What holds for a topic with these settings of its own. Keys it does not know are skipped: a
    /// directory may come from another version.
    ///
    /// # Errors
    /// A value of the wrong type or range.
    pub fn resolve(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        Self::resolve_layers(broker.layers(), overrides)
    }

    pub(super) fn resolve_layers(
        layers: &BrokerLayers,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let view = View { layers, overrides };
        let policy = view.list("cleanup.policy")?;
        let has = |word: &str| policy.iter().any(|item| item == word);
        Ok(Self {
            cleanup_policy: CleanupPolicy { delete: has("delete"), compact: has("compact") },
            compression_type: view.compression()?,
            delete_retention_ms: view.integer("delete.retention.ms")?,
            file_delete_delay_ms: view.integer("file.delete.delay.ms")?,
            flush_messages: view.integer("flush.messages")?,
            flush_ms: view.integer("flush.ms")?,
            follower_throttled: ThrottledReplicas::of(&view.list("follower.replication.throttled.replicas")?),
            index_interval_bytes: view.size("index.interval.bytes")?,
            leader_throttled: ThrottledReplicas::of(&view.list("leader.replication.throttled.replicas")?),
            max_compaction_lag_ms: view.integer("max.compaction.lag.ms")?,
            max_message_bytes: view.size("max.message.bytes")?,
            message_timestamp_type: match view.value("message.timestamp.type")? {
                Value::Text(word) if word == "LogAppendTime" => MessageTimestampType::LogAppendTime,
                _ => MessageTimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: view.integer("message.timestamp.before.max.ms")?,
            message_timestamp_after_max_ms: view.integer("message.timestamp.after.max.ms")?,
            min_cleanable_dirty_ratio: match view.value("min.cleanable.dirty.ratio")? {
                Value::Double(ratio) => ratio,
                _ => 0.5,
            },
            min_compaction_lag_ms: view.integer("min.compaction.lag.ms")?,
            min_insync_replicas: i32::try_from(view.integer("min.insync.replicas")?).unwrap_or(i32::MAX),
            preallocate: view.value("preallocate")? == Value::Boolean(true),
            retention_bytes: u64::try_from(view.integer("retention.bytes")?).ok(),
            retention_ms: Some(view.integer("retention.ms")?).filter(|ms| *ms >= 0),
            segment_bytes: view.segment_bytes()?,
            segment_index_bytes: view.size("segment.index.bytes")?,
            segment_jitter_ms: view.integer("segment.jitter.ms")?,
            segment_ms: view.integer("segment.ms")?,
            unclean_leader_election_enable: view.value("unclean.leader.election.enable")?
                == Value::Boolean(true),
        })
    }

    /// Whether a topic may be given these settings: every key known, every value legal, nothing asked for
    /// that is not built, and the whole consistent.
    ///
    /// # Errors
    /// The first thing that is wrong, for INVALID_CONFIG.
    pub fn check(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (name, text) in overrides {
            let key = table::find(Scope::Topic, name).ok_or_else(|| unknown(name))?;
            key.check_built(text)?;
        }
        let resolved = Self::resolve(broker, overrides)?;
        if resolved.min_compaction_lag_ms > resolved.max_compaction_lag_ms {
            return Err(ConfigError::Conflict(format!(
                "min.compaction.lag.ms ({}) is larger than max.compaction.lag.ms ({})",
                resolved.min_compaction_lag_ms, resolved.max_compaction_lag_ms
            )));
        }
        Ok(())
    }
}

impl Default for TopicConfig {
    /// Kafka's defaults, for a topic without settings on a broker without settings.
    fn default() -> Self {
        let resolved = Self::resolve_layers(&BrokerLayers::default(), &BTreeMap::new());
        // Every default of the table parses: a test holds that.
        assert!(resolved.is_ok(), "the defaults of the table are legal");
        resolved.unwrap_or_else(|_| unreachable!("checked above"))
    }
}

fn unknown(name: &str) -> ConfigError {
    let nearest = suggest(name, table::keys(Scope::Topic).map(|key| key.name)).map(str::to_owned);
    ConfigError::UnknownKey { name: name.to_owned(), nearest }
}

/// The broker's keys behind a topic's key, each with what one of its units is in the topic's unit. The
/// first that is set counts; the last holds the default.
pub(super) fn broker_keys(topic_key: &str) -> Vec<(&'static str, i64)> {
    match topic_key {
        "retention.ms" => {
            vec![
                ("log.retention.ms", 1),
                ("log.retention.minutes", 60_000),
                ("log.retention.hours", 3_600_000),
            ]
        }
        "segment.ms" => vec![("log.roll.ms", 1), ("log.roll.hours", 3_600_000)],
        "segment.jitter.ms" => vec![("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)],
        "flush.ms" => vec![("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
        other => {
            let row = table::find(Scope::Topic, other).and_then(|key| key.synonym);
            row.map(|synonym| (synonym, 1)).into_iter().collect()
        }
    }
}

/// One topic's values, looked up key by key.
pub(super) struct View<'a> {
    pub layers: &'a BrokerLayers,
    pub overrides: &'a BTreeMap<String, String>,
}

impl View<'_> {
    /// The value in force of a topic's key.
    pub(super) fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let key = table::find(Scope::Topic, name).ok_or_else(|| unknown(name))?;
        if let Some(text) = self.overrides.get(name) {
            return key.parse(text);
        }
        for (synonym, unit) in broker_keys(name) {
            match self.layers.value(synonym)? {
                // Any time below zero is "for ever", whatever its unit.
                Some(Value::Integer(number)) if unit != 1 && number < 0 => return Ok(Value::Integer(-1)),
                Some(Value::Integer(number)) => return Ok(Value::Integer(number.saturating_mul(unit))),
                Some(value) => return Ok(value),
                None => {}
            }
        }
        Ok(key.default_value().unwrap_or(Value::Text(String::new())))
    }

    fn integer(&self, name: &str) -> Result<i64, ConfigError> {
        match self.value(name)? {
            Value::Integer(number) => Ok(number),
            _ => Ok(0),
        }
    }

    fn size(&self, name: &str) -> Result<u32, ConfigError> {
        Ok(u32::try_from(self.integer(name)?.max(0)).unwrap_or(u32::MAX))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(name)? {
            Value::List(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Kafka's tests go below the least segment size through a key of their own, and so do ours.
    fn segment_bytes(&self) -> Result<u32, ConfigError> {
        match self.overrides.contains_key("internal.segment.bytes") {
            true => self.size("internal.segment.bytes"),
            false => self.size("segment.bytes"),
        }
    }

    fn compression(&self) -> Result<CompressionSetting, ConfigError> {
        let level = |name: &str| Ok(i32::try_from(self.integer(name)?).unwrap_or_default());
        Ok(match self.value("compression.type")?.to_string().as_str() {
            "uncompressed" => CompressionSetting::Uncompressed,
            "gzip" => CompressionSetting::Gzip(level("compression.gzip.level")?),
            "snappy" => CompressionSetting::Snappy,
            "lz4" => CompressionSetting::Lz4(level("compression.lz4.level")?),
            "zstd" => CompressionSetting::Zstd(level("compression.zstd.level")?),
            _ => CompressionSetting::Producer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::broker::Layers;
    use super::*;

    fn broker(settings: &[(&str, &str)]) -> BrokerConfig {
        let flags = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        BrokerConfig::load(Layers { flags, ..Layers::default() }).unwrap().0
    }

    fn topic(broker: &BrokerConfig, settings: &[(&str, &str)]) -> Result<TopicConfig, String> {
        let overrides =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicConfig::check(broker, &overrides)
            .and_then(|()| TopicConfig::resolve(broker, &overrides))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert_eq!(config, topic(&broker(&[]), &[]).unwrap());
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(config.segment_ms, 604_800_000);
        assert_eq!(config.flush_ms, i64::MAX);
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(config.compression_type, CompressionSetting::Producer);
        assert_eq!(config.message_timestamp_after_max_ms, 3_600_000);
    }

    #[test]
    fn finer_units_beat_coarser_ones_and_the_topic_beats_all() {
        let hours = [("log.retention.hours", "2")];
        assert_eq!(topic(&broker(&hours), &[]).unwrap().retention_ms, Some(7_200_000));
        let minutes = [("log.retention.hours", "2"), ("log.retention.minutes", "3")];
        assert_eq!(topic(&broker(&minutes), &[]).unwrap().retention_ms, Some(180_000));
        let all = [("log.retention.minutes", "3"), ("log.retention.ms", "5"), ("log.roll.hours", "1")];
        assert_eq!(topic(&broker(&all), &[]).unwrap().retention_ms, Some(5));
        assert_eq!(topic(&broker(&all), &[]).unwrap().segment_ms, 3_600_000);
        assert_eq!(topic(&broker(&all), &[("retention.ms", "-1")]).unwrap().retention_ms, None);
        assert_eq!(topic(&broker(&[("log.retention.hours", "-1")]), &[]).unwrap().retention_ms, None);
        let flush = [("log.flush.scheduler.interval.ms", "7")];
        assert_eq!(topic(&broker(&flush), &[]).unwrap().flush_ms, 7);
        let zstd = [("compression.type", "zstd"), ("compression.zstd.level", "9")];
        assert_eq!(topic(&broker(&zstd), &[]).unwrap().compression_type, CompressionSetting::Zstd(9));
    }

    #[test]
    fn what_is_not_built_or_not_known_is_refused() {
        let broker = broker(&[]);
        for (name, value, word) in [
            ("remote.storage.enable", "true", "tiered storage"),
            ("retentoin.ms", "1", "\"retention.ms\""),
            ("segment.bytes", "1000", "at least 1048576"),
        ] {
            let error = topic(&broker, &[(name, value)]).unwrap_err();
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(topic(&broker, &[("remote.storage.enable", "false")]).is_ok());
        for policy in ["", "compact", "compact,delete"] {
            assert!(topic(&broker, &[("cleanup.policy", policy)]).is_ok(), "{policy}");
        }
        assert!(topic(&broker, &[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")]).is_err());
    }
}
