//! What a cluster says about itself: brokers, topics, leaders. Immutable once read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::net::outgoing::Address;
use crate::protocol::ErrorCode;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use crate::types::{BrokerId, LeaderEpoch, Uuid};

/// Which topics to ask about.
#[derive(Debug, Clone, Copy)]
pub enum Topics<'a> {
    /// All of them.
    All,
    /// None: brokers and controller alone.
    None,
    /// These; where `create` is set the broker may create those that are missing.
    Named {
        /// Their names.
        names: &'a [&'a str],
        /// Whether they may be created.
        create: bool,
    },
}

impl Topics<'_> {
    pub(super) fn to_request(self) -> MetadataRequest {
        let topics = match self {
            Self::All => None,
            Self::None => Some(Vec::new()),
            Self::Named { names, .. } => Some(names.iter().map(|&name| named(name)).collect()),
        };
        let create = matches!(self, Self::Named { create: true, .. });
        MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() }
    }
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.into()), ..Default::default() }
}

/// One answer of one broker.
#[derive(Debug, Clone, Default)]
pub struct ClusterMetadata {
    /// The cluster's id, where brokers tell it.
    pub cluster_id: Option<String>,
    /// Where to send what only the controller may decide; with KRaft any broker, which forwards.
    pub controller: Option<BrokerId>,
    /// The live brokers.
    pub brokers: BTreeMap<BrokerId, BrokerMetadata>,
    /// The topics asked about.
    pub topics: BTreeMap<String, Arc<TopicMetadata>>,
}

/// One broker.
#[derive(Debug, Clone)]
pub struct BrokerMetadata {
    /// The host as the broker says it.
    pub host: String,
    /// The port as the broker says it.
    pub port: i32,
    /// Where it is connected to; `None` where host and port make no address.
    pub address: Option<Address>,
    /// Its `broker.rack`.
    pub rack: Option<String>,
}

/// One topic, or why there is none.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers that have none.
    pub id: Uuid,
    /// Why it cannot be used.
    pub error: ErrorCode,
    /// Kafka's own.
    pub is_internal: bool,
    /// By partition number: `partitions[n].partition == n`, as long as no partition is missing.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// Why it cannot be used.
    pub error: ErrorCode,
    /// Who leads it.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; unknown from old brokers.
    pub leader_epoch: LeaderEpoch,
    /// Who keeps it.
    pub replicas: Vec<BrokerId>,
    /// Who keeps it in sync.
    pub in_sync: Vec<BrokerId>,
    /// Whose copy is offline.
    pub offline: Vec<BrokerId>,
}

impl ClusterMetadata {
    /// Reads a broker's answer.
    #[must_use]
    pub fn new(response: &MetadataResponse) -> Self {
        let brokers = response.brokers.iter().map(|broker| {
            let metadata = BrokerMetadata {
                host: broker.host.to_string(),
                port: broker.port,
                address: Address::from_metadata(&broker.host, broker.port),
                rack: broker.rack.as_ref().map(ToString::to_string),
            };
            (BrokerId(broker.node_id), metadata)
        });
        let topics = response.topics.iter().filter_map(|topic| {
            let topic = TopicMetadata::new(topic)?;
            Some((topic.name.clone(), Arc::new(topic)))
        });
        Self {
            cluster_id: response.cluster_id.as_ref().map(ToString::to_string),
            controller: node(response.controller_id),
            brokers: brokers.collect(),
            topics: topics.collect(),
        }
    }
}

impl TopicMetadata {
    fn new(topic: &MetadataResponseTopic) -> Option<Self> {
        let mut partitions: Vec<PartitionMetadata> = topic
            .partitions
            .iter()
            .map(|partition| PartitionMetadata {
                partition: partition.partition_index,
                error: ErrorCode::from_wire(partition.error_code),
                leader: node(partition.leader_id),
                leader_epoch: LeaderEpoch(partition.leader_epoch),
                replicas: nodes(&partition.replica_nodes),
                in_sync: nodes(&partition.isr_nodes),
                offline: nodes(&partition.offline_replicas),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.partition);
        Some(Self {
            name: topic.name.as_ref()?.to_string(),
            id: topic.topic_id,
            error: ErrorCode::from_wire(topic.error_code),
            is_internal: topic.is_internal,
            partitions,
        })
    }

    /// One partition's metadata, where it exists.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&PartitionMetadata> {
        let at = self.partitions.binary_search_by_key(&partition, |p| p.partition).ok()?;
        self.partitions.get(at)
    }
}

fn node(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

fn nodes(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|&id| BrokerId(id)).collect()
}
