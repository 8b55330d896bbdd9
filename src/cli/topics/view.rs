//! What is known of topics: facts, wherever they come from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::queries::{self, EARLIEST, LATEST};
use crate::client::{ClientError, Cluster, ClusterMetadata, TopicMetadata};
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_topic_partitions_request::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use crate::types::{TopicName, TopicPartition};

/// `DescribeConfigs`' type of a topic.
const TOPIC_RESOURCE: i8 = 2;
/// `DescribeConfigs`' source of a value that was set on the topic itself.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
/// How many partitions a broker describes in one answer.
const PARTITION_LIMIT: i32 = 2_000;

/// One topic.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TopicView {
    /// Its name.
    pub topic: String,
    /// Its id, 22 characters; none before Kafka 2.8.
    pub id: Option<String>,
    /// Whether Kafka keeps it for itself.
    pub internal: bool,
    /// Its partitions in order.
    pub partitions: Vec<PartitionView>,
    /// What was set on the topic itself.
    pub configs: BTreeMap<String, Option<String>>,
    /// What `min.insync.replicas` comes to.
    pub min_insync_replicas: Option<usize>,
}

/// One partition.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<i32>,
    /// How many leaders it has had.
    pub leader_epoch: Option<i32>,
    /// Who keeps it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Who of them is in sync.
    pub isr: Vec<i32>,
    /// Who may lead although not in sync.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<i32>,
    /// Who of them is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offline: Vec<i32>,
    /// The first offset.
    pub start_offset: Option<i64>,
    /// The high watermark.
    pub end_offset: Option<i64>,
    /// Bytes on the leader's disk.
    pub size_bytes: Option<i64>,
}

impl TopicView {
    /// The number of replicas of its first partition.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

impl PartitionView {
    /// Whether a replica lags behind or is gone.
    #[must_use]
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replicas.len()
    }
}

/// All topics with what the metadata tells.
#[must_use]
pub fn outline(metadata: &ClusterMetadata) -> Vec<TopicView> {
    metadata.topics.values().map(|topic| outline_topic(topic)).collect()
}

fn outline_topic(topic: &TopicMetadata) -> TopicView {
    let ids = |brokers: &[crate::types::BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let partitions = topic.partitions.iter().map(|partition| PartitionView {
        partition: partition.partition,
        leader: partition.leader.map(|broker| broker.0),
        leader_epoch: (partition.leader_epoch.0 >= 0).then_some(partition.leader_epoch.0),
        replicas: ids(&partition.replicas),
        isr: ids(&partition.in_sync),
        offline: ids(&partition.offline),
        ..Default::default()
    });
    TopicView {
        topic: topic.name.clone(),
        id: (!topic.id.is_zero()).then(|| topic.id.to_string()),
        internal: topic.is_internal,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// Adds offsets, sizes, configurations and eligible leaders to outlines; returns what could not be learned.
pub async fn complete(cluster: &Cluster, topics: &mut [TopicView]) -> Vec<ClientError> {
    let mut troubles = Vec::new();
    if !topics.is_empty() {
        add_offsets(cluster, topics, &mut troubles).await;
        add_sizes(cluster, topics, &mut troubles).await;
        add_configs(cluster, topics, &mut troubles).await;
        add_eligible_leaders(cluster, topics).await;
    }
    troubles
}

async fn add_offsets(cluster: &Cluster, topics: &mut [TopicView], troubles: &mut Vec<ClientError>) {
    // A partition without a leader has nobody to ask; the table says so by itself.
    let led: Vec<TopicPartition> = topics
        .iter()
        .filter_map(|topic| Some((TopicName::new(&topic.topic).ok()?, &topic.partitions)))
        .flat_map(|(name, partitions)| {
            let led = partitions.iter().filter(|partition| partition.leader.is_some());
            led.map(move |partition| TopicPartition::new(name.clone(), partition.partition))
        })
        .collect();
    for timestamp in [EARLIEST, LATEST] {
        for (partition, outcome) in queries::offsets_at(cluster, &led, timestamp, 0).await {
            let view = find(topics, partition.topic.as_str(), partition.partition);
            match (outcome, view) {
                (Ok(found), Some(view)) if timestamp == EARLIEST => {
                    view.start_offset = found.offset.map(|o| o.0);
                }
                (Ok(found), Some(view)) => view.end_offset = found.offset.map(|o| o.0),
                (Ok(_), None) => {}
                (Err(error), _) => troubles.push(error),
            }
        }
    }
}

async fn add_sizes(cluster: &Cluster, topics: &mut [TopicView], troubles: &mut Vec<ClientError>) {
    let mut wanted: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in topics.iter() {
        let partitions = topic.partitions.iter().map(|partition| partition.partition).collect();
        wanted.insert(topic.topic.clone(), partitions);
    }
    let brokers: Vec<_> = cluster.latest().brokers.keys().copied().collect();
    for broker in brokers {
        let dirs = match queries::log_dirs(cluster, broker, Some(&wanted)).await {
            Ok(dirs) => dirs,
            Err(error) => {
                troubles.push(error);
                continue;
            }
        };
        for replica in dirs.iter().flat_map(|dir| &dir.replicas).filter(|replica| !replica.is_future) {
            let (topic, partition) = (replica.partition.topic.as_str(), replica.partition.partition);
            let view = find(topics, topic, partition).filter(|view| view.leader == Some(broker.0));
            if let Some(view) = view {
                view.size_bytes = Some(replica.size_bytes);
            }
        }
    }
}

async fn add_configs(cluster: &Cluster, topics: &mut [TopicView], troubles: &mut Vec<ClientError>) {
    let resources = topics.iter().map(|topic| DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: topic.topic.as_str().into(),
        configuration_keys: None,
        ..Default::default()
    });
    let results = match queries::configs(cluster, None, resources.collect(), false).await {
        Ok(results) => results,
        Err(error) => return troubles.push(error),
    };
    for result in results {
        let Some(view) = topics.iter_mut().find(|topic| topic.topic == *result.resource_name) else {
            continue;
        };
        for config in &result.configs {
            let value = config.value.as_ref().map(ToString::to_string);
            if &*config.name == "min.insync.replicas" {
                view.min_insync_replicas = value.as_deref().and_then(|value| value.parse().ok());
            }
            if config.config_source == DYNAMIC_TOPIC_CONFIG {
                view.configs.insert(config.name.to_string(), value);
            }
        }
    }
}

/// Brokers before 3.7 do not know the question; then there are none.
async fn add_eligible_leaders(cluster: &Cluster, topics: &mut [TopicView]) {
    let names =
        topics.iter().map(|topic| TopicRequest { name: topic.topic.as_str().into(), ..Default::default() });
    let mut request = DescribeTopicPartitionsRequest {
        topics: names.collect(),
        response_partition_limit: PARTITION_LIMIT,
        ..Default::default()
    };
    loop {
        let Ok(answer) = cluster.any(&request).await else { return };
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let name = topic.name.as_deref().unwrap_or_default();
                if let Some(view) = find(topics, name, partition.partition_index) {
                    view.elr = partition.eligible_leader_replicas.clone().unwrap_or_default();
                }
            }
        }
        let Some(next) = answer.next_cursor else { return };
        let cursor = crate::protocol::messages::describe_topic_partitions_request::Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        };
        // A cursor that does not move would keep us here.
        if request.cursor.as_ref() == Some(&cursor) {
            return;
        }
        request.cursor = Some(cursor);
    }
}

fn find<'a>(topics: &'a mut [TopicView], name: &str, partition: i32) -> Option<&'a mut PartitionView> {
    let topic = topics.iter_mut().find(|topic| topic.topic == name)?;
    topic.partitions.iter_mut().find(|view| view.partition == partition)
}
