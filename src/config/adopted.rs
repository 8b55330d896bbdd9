//! A broker on a directory that Apache Kafka served by a `server.properties` that nobody has shown us. What would
//! delete records by a default that may not have been in force there is off until somebody says otherwise: in a
//! file, by a flag, while the broker runs, or for the topic.

use super::broker::BrokerConfig;

/// Keys that delete by default, the value that deletes nothing, and the keys that say the same. Records are
/// deleted by size, and compacted, only where somebody asks for it anyway.
const DELETING: &[(&str, &str, &[&str])] = &[
    ("log.retention.ms", "-1", &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]),
    ("offsets.retention.minutes", "2147483647", &["offsets.retention.minutes"]),
];

impl BrokerConfig {
    /// The same broker, deleting nothing by default; and the keys that this is true of. None where a file was
    /// given.
    #[must_use]
    pub fn with_unknown_file(self) -> (Self, Vec<&'static str>) {
        let mut layers = self.layers().clone();
        if layers.has_file {
            return (self, Vec::new());
        }
        let mut changed = Vec::new();
        for (key, off, same) in DELETING {
            if !same.iter().any(|name| layers.fixed.contains_key(*name)) {
                layers.fixed.insert((*key).to_owned(), (*off).to_owned());
                changed.push(*key);
            }
        }
        // What was there is legal, and so are the values of the table: a test says so.
        let Ok(mut built) = Self::build(layers) else { return (self, Vec::new()) };
        (built.log_dirs, built.metadata_log_dir) = (self.log_dirs, self.metadata_log_dir);
        (built, changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::broker::Layers;
    use super::super::topic::TopicConfig;
    use super::*;

    fn load(file: &[(&str, &str)], flags: &[(&str, &str)]) -> BrokerConfig {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        BrokerConfig::load(Layers { file: pairs(file), flags: pairs(flags), ..Layers::default() }).unwrap().0
    }

    #[test]
    fn nothing_is_deleted_by_a_default_that_may_not_have_been_in_force() {
        let (config, changed) = load(&[], &[]).with_unknown_file();
        assert_eq!(changed, ["log.retention.ms", "offsets.retention.minutes"]);
        assert_eq!((config.topic_defaults.retention_ms, config.topic_defaults.retention_bytes), (None, None));
        assert!(config.groups.offsets_retention_ms > 4_000 * 365 * 86_400_000);
        let own = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        assert_eq!(TopicConfig::resolve(&config, &own).unwrap().retention_ms, Some(5));
        let dynamic = BTreeMap::from([("log.retention.ms".to_owned(), "7".to_owned())]);
        let config = config.with_dynamic(&dynamic, &BTreeMap::new()).unwrap();
        assert_eq!(config.topic_defaults.retention_ms, Some(7), "said while it runs");
    }

    #[test]
    fn what_somebody_said_counts() {
        let (config, changed) = load(&[("num.partitions", "3")], &[]).with_unknown_file();
        assert_eq!((config.topic_defaults.retention_ms, changed), (Some(604_800_000), vec![]));
        let (config, changed) = load(&[], &[("log.retention.hours", "2")]).with_unknown_file();
        assert_eq!(
            (config.topic_defaults.retention_ms, changed),
            (Some(7_200_000), vec!["offsets.retention.minutes"])
        );
    }
}
