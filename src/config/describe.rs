//! What DescribeConfigs says: every key with its value, where the value comes from, and what stands behind
//! it. The value of a password is never part of it.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::key::{ConfigKey, Kind, Scope};
use super::layers::ConfigSource;
use super::table;
use super::topic::{View, broker_keys};

/// One key of a described resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConfig {
    /// The key.
    pub name: String,
    /// Its value; `None` where there is none, and for every sensitive key.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Its value is never shown.
    pub is_sensitive: bool,
    /// It cannot be changed while the broker runs.
    pub read_only: bool,
    /// All places it is set in, the one in force first.
    pub synonyms: Vec<Synonym>,
    /// The type of its values.
    pub kind: Kind,
    /// One sentence, and what holds here beyond it.
    pub documentation: String,
}

/// One place a value is set in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    /// The key it is set by.
    pub name: String,
    /// The value there; `None` for sensitive keys.
    pub value: Option<String>,
    /// The layer.
    pub source: ConfigSource,
}

/// Throttles that a reassignment sets and takes away again; without one, Kafka does not list them.
const SHOWN_WHERE_SET: &[&str] = &[
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

impl BrokerConfig {
    /// Every documented key of this broker.
    #[must_use]
    pub fn describe(&self) -> Vec<DescribedConfig> {
        let is_shown = |key: &&ConfigKey| {
            !key.internal && (self.layers().set(key.name).is_some() || !SHOWN_WHERE_SET.contains(&key.name))
        };
        table::keys(Scope::Broker).filter(is_shown).map(|key| self.describe_key(key)).collect()
    }

    /// What is set for all brokers of the cluster.
    #[must_use]
    pub fn describe_cluster_default(&self) -> Vec<DescribedConfig> {
        let cluster = ConfigSource::DynamicDefaultBrokerConfig;
        let only_cluster = |key: &'static ConfigKey| {
            let mut described = self.describe_key(key);
            described.synonyms.retain(|synonym| synonym.source == cluster);
            described.source = cluster;
            described.value = self.layers().cluster.get(key.name).cloned().filter(|_| !key.is_sensitive());
            described
        };
        let set = |key: &&ConfigKey| self.layers().cluster.contains_key(key.name);
        table::keys(Scope::Broker).filter(set).map(only_cluster).collect()
    }

    /// Every documented key of a topic with these settings of its own.
    #[must_use]
    pub fn describe_topic(&self, overrides: &BTreeMap<String, String>) -> Vec<DescribedConfig> {
        let view = View { layers: self.layers(), overrides };
        let describe = |key: &'static ConfigKey| {
            let value = view.value(key.name).ok().map(|value| value.to_string());
            let names: Vec<&str> = broker_keys(key.name).into_iter().map(|(name, _)| name).collect();
            let mut synonyms = match key.synonym {
                Some(first) => self.synonyms(first, &names, false),
                None => Vec::new(),
            };
            if overrides.contains_key(key.name) {
                let own = Synonym {
                    name: key.name.to_owned(),
                    value: value.clone(),
                    source: ConfigSource::DynamicTopicConfig,
                };
                synonyms.insert(0, own);
            }
            described(key, value, synonyms, false)
        };
        table::keys(Scope::Topic).filter(|key| !key.internal).map(describe).collect()
    }

    /// Every key of a group with these settings of its own. Where it has none, the broker's `group.` key of the same
    /// name holds.
    #[must_use]
    pub fn describe_group(&self, overrides: &BTreeMap<String, String>) -> Vec<DescribedConfig> {
        let describe = |key: &'static ConfigKey| {
            let of_broker = format!("group.{}", key.name);
            let below = match table::find(Scope::Broker, &of_broker) {
                Some(_) => self.synonyms(&of_broker, &[&of_broker], false),
                None => default_of(key),
            };
            describe_over(key, ConfigSource::DynamicGroupConfig, overrides, below)
        };
        table::keys(Scope::Group).map(describe).collect()
    }

    fn describe_key(&self, key: &'static ConfigKey) -> DescribedConfig {
        let value = self.layers().value(key.name).ok().flatten().map(|value| value.to_string());
        let family = family(key.name);
        let names = if family.is_empty() { vec![key.name] } else { family.to_vec() };
        let synonyms = self.synonyms(key.name, &names, key.is_sensitive());
        described(key, value, synonyms, !key.is_dynamic())
    }

    /// All places that set one of `names`, layer by layer; those before `first` do not count.
    fn synonyms(&self, first: &str, names: &[&str], sensitive: bool) -> Vec<Synonym> {
        let layers = self.layers();
        let mut synonyms = Vec::new();
        let mut add = |name: &str, value: Option<String>, source: ConfigSource| {
            if let Some(value) = value {
                let value = Some(value).filter(|_| !sensitive);
                synonyms.push(Synonym { name: name.to_owned(), value, source });
            }
        };
        for (layer, source) in [
            (&layers.broker, ConfigSource::DynamicBrokerConfig),
            (&layers.cluster, ConfigSource::DynamicDefaultBrokerConfig),
            (&layers.fixed, ConfigSource::StaticBrokerConfig),
        ] {
            names.iter().for_each(|name| add(name, layer.get(*name).cloned(), source));
        }
        for name in names {
            let default = table::find(Scope::Broker, name).and_then(ConfigKey::default_value);
            add(name, default.map(|value| value.to_string()), ConfigSource::DefaultConfig);
        }
        synonyms.into_iter().skip_while(|synonym| synonym.name != first).collect()
    }
}

/// Every key of a subscription to client metrics with these settings.
#[must_use]
pub fn describe_client_metrics(overrides: &BTreeMap<String, String>) -> Vec<DescribedConfig> {
    let own = ConfigSource::DynamicClientMetricsConfig;
    let describe = |key| describe_over(key, own, overrides, default_of(key));
    table::keys(Scope::ClientMetrics).map(describe).collect()
}

fn default_of(key: &'static ConfigKey) -> Vec<Synonym> {
    let value = key.default_value().map(|value| value.to_string());
    let synonym = |value| Synonym {
        name: key.name.to_owned(),
        value: Some(value),
        source: ConfigSource::DefaultConfig,
    };
    value.map(synonym).into_iter().collect()
}

/// A key whose own setting, if there is one, stands over these.
fn describe_over(
    key: &'static ConfigKey,
    own: ConfigSource,
    overrides: &BTreeMap<String, String>,
    mut synonyms: Vec<Synonym>,
) -> DescribedConfig {
    if let Some(value) = overrides.get(key.name) {
        synonyms.insert(0, Synonym { name: key.name.to_owned(), value: Some(value.clone()), source: own });
    }
    let value = synonyms.first().and_then(|synonym| synonym.value.clone());
    described(key, value, synonyms, false)
}

fn described(
    key: &'static ConfigKey,
    value: Option<String>,
    synonyms: Vec<Synonym>,
    read_only: bool,
) -> DescribedConfig {
    let source = synonyms.first().map_or(ConfigSource::DefaultConfig, |synonym| synonym.source);
    DescribedConfig {
        name: key.name.to_owned(),
        value: value.filter(|_| !key.is_sensitive()),
        source,
        is_sensitive: key.is_sensitive(),
        read_only,
        synonyms,
        kind: key.kind,
        documentation: key.documentation(),
    }
}

/// Keys that stand for the same thing in different units, the strongest first.
fn family(name: &str) -> &'static [&'static str] {
    match name {
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.roll.ms" | "log.roll.hours" => &["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "log.flush.interval.ms" => &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        _ => &[],
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

    fn find(described: Vec<DescribedConfig>, name: &str) -> DescribedConfig {
        described.into_iter().find(|config| config.name == name).unwrap()
    }

    fn places(config: &DescribedConfig) -> Vec<String> {
        let place = |synonym: &Synonym| {
            format!("{}:{}={}", synonym.source.name(), synonym.name, synonym.value.as_deref().unwrap_or("?"))
        };
        config.synonyms.iter().map(place).collect()
    }

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_topics_value_is_traced_through_the_broker_to_the_default() {
        let broker = broker(&[("message.max.bytes", "5")])
            .with_dynamic(&map("message.max.bytes", "6"), &BTreeMap::new())
            .unwrap();
        let config = find(broker.describe_topic(&map("max.message.bytes", "7")), "max.message.bytes");
        assert_eq!(config.value.as_deref(), Some("7"));
        assert_eq!(
            places(&config),
            [
                "DYNAMIC_TOPIC_CONFIG:max.message.bytes=7",
                "DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=6",
                "STATIC_BROKER_CONFIG:message.max.bytes=5",
                "DEFAULT_CONFIG:message.max.bytes=1048588",
            ]
        );
    }

    #[test]
    fn a_groups_value_is_traced_through_the_broker_to_the_default() {
        let broker = broker(&[("group.consumer.session.timeout.ms", "50000")]);
        let key = "consumer.session.timeout.ms";
        let config = find(broker.describe_group(&BTreeMap::new()), key);
        assert_eq!(
            (config.value.as_deref(), config.source),
            (Some("50000"), ConfigSource::StaticBrokerConfig)
        );
        let config = find(broker.describe_group(&map(key, "47000")), key);
        assert_eq!(
            places(&config),
            [
                "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=47000",
                "STATIC_BROKER_CONFIG:group.consumer.session.timeout.ms=50000",
                "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000",
            ]
        );
    }

    #[test]
    fn a_default_in_hours_stands_behind_no_milliseconds_as_in_kafka() {
        let config = find(broker(&[]).describe_topic(&BTreeMap::new()), "retention.ms");
        assert_eq!(config.value.as_deref(), Some("604800000"));
        assert_eq!((config.source, config.synonyms.len()), (ConfigSource::DefaultConfig, 0));
    }

    #[test]
    fn cve_2019_12399_passwords_are_described_without_their_value() {
        let config = find(broker(&[]).describe(), "ssl.key.password");
        assert!(config.is_sensitive && config.value.is_none());
        let node = find(broker(&[]).describe(), "node.id");
        assert!(node.read_only);
        assert!(!find(broker(&[]).describe(), "log.retention.ms").read_only);
    }
}
