//! What DescribeConfigs says against what Apache Kafka says, key by key, with the places a value is set in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use klamm::config::{BrokerConfig, DescribedConfig, Layers, properties};

/// Where our defaults differ on purpose, and with them what is said.
const OURS: &[&str] = &[
    "listeners",
    "max.connections",
    "offsets.topic.replication.factor",
    "process.roles",
    "queued.max.request.bytes",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
];

/// One line of `kafka-configs --describe --all`.
fn line(config: &DescribedConfig) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let places: Vec<String> = config
        .synonyms
        .iter()
        .map(|synonym| format!("{}:{}={}", synonym.source.name(), synonym.name, text(&synonym.value)))
        .collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}",
        config.name,
        text(&config.value),
        config.is_sensitive,
        places.join(", ")
    )
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_key_is_described_as_kafka_describes_it_but_for_our_own_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka-configs-describe.txt");
    let text = fs::read_to_string(path).unwrap();
    let properties: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#= ")).collect();
    let file = properties::parse(&properties.join("\n")).unwrap();
    let (config, warnings) = BrokerConfig::load(Layers { file, ..Layers::default() }).unwrap();
    assert_eq!(warnings, []);
    let cluster = settings(&[("log.retention.ms", "5000"), ("min.insync.replicas", "1")]);
    let config = config.with_dynamic(&cluster, &BTreeMap::new()).unwrap();
    let topic =
        config.describe_topic(&settings(&[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")]));
    let ours = topic.iter().chain(&config.describe()).map(line).collect::<Vec<_>>();
    let kafkas: Vec<&str> = text.lines().filter(|line| line.contains(" sensitive=")).collect();
    let key = |line: &str| line.trim().split('=').next().unwrap_or_default().to_owned();
    let keys = |lines: &[String]| lines.iter().map(|line| key(line)).collect::<Vec<_>>();
    let kafkas: Vec<String> = kafkas.into_iter().map(str::to_owned).collect();
    assert_eq!(keys(&ours), keys(&kafkas));
    let differing: Vec<String> =
        ours.iter().zip(&kafkas).filter(|(ours, kafkas)| ours != kafkas).map(|(ours, _)| key(ours)).collect();
    assert_eq!(differing, OURS);
}
