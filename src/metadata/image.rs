//! Everything the cluster has agreed on, at one offset of the metadata log. An image never changes; the next
//! one shares with it all that stayed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::messages::access_control_entry_record::AccessControlEntryRecord;
use crate::protocol::messages::delegation_token_record::DelegationTokenRecord;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
use crate::protocol::messages::register_controller_record::RegisterControllerRecord;
use crate::protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use crate::types::{LeaderEpoch, Offset, Uuid};

use super::apply::ImageBuilder;
use super::cluster::BrokerRegistration;
use super::record::MetadataRecord;
use super::topics::{PartitionRegistration, Topic, Topics};

/// The kinds of resources that have configurations. Kafka's numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigResourceType {
    /// 2
    Topic,
    /// 4; the empty name stands for all brokers.
    Broker,
    /// 8
    BrokerLogger,
    /// 16
    ClientMetrics,
    /// 32
    Group,
}

impl ConfigResourceType {
    /// Kafka's number.
    #[must_use]
    pub fn id(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The kind of this number.
    #[must_use]
    pub fn from_id(id: i8) -> Option<Self> {
        [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group]
            .into_iter()
            .find(|kind| kind.id() == id)
    }
}

/// A resource that has configurations. The number is kept as it came: a later Kafka may have more kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConfigResource {
    /// [`ConfigResourceType::id`]
    pub type_id: i8,
    /// The topic, the broker's id, the group; empty for all brokers.
    pub name: String,
}

impl ConfigResource {
    /// The resource of this kind and name.
    #[must_use]
    pub fn new(kind: ConfigResourceType, name: impl Into<String>) -> Self {
        Self { type_id: kind.id(), name: name.into() }
    }

    /// A topic.
    #[must_use]
    pub fn topic(name: &str) -> Self {
        Self::new(ConfigResourceType::Topic, name)
    }

    /// One broker.
    #[must_use]
    pub fn broker(id: i32) -> Self {
        Self::new(ConfigResourceType::Broker, id.to_string())
    }

    /// All brokers of the cluster.
    #[must_use]
    pub fn cluster_default() -> Self {
        Self::new(ConfigResourceType::Broker, "")
    }
}

/// Whom a client quota is for: entity type and name, the name `None` for the default.
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// Everything the cluster has agreed on, at one offset.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Image {
    pub(super) end_offset: Offset,
    pub(super) epoch: LeaderEpoch,
    pub(super) features: Arc<BTreeMap<String, i16>>,
    pub(super) brokers: Arc<BTreeMap<i32, Arc<BrokerRegistration>>>,
    pub(super) controllers: Arc<BTreeMap<i32, RegisterControllerRecord>>,
    pub(super) topics: Arc<Topics>,
    pub(super) configs: Arc<BTreeMap<ConfigResource, Arc<BTreeMap<String, String>>>>,
    pub(super) client_quotas: Arc<BTreeMap<QuotaEntity, BTreeMap<String, f64>>>,
    pub(super) producer_ids: Option<ProducerIdsRecord>,
    pub(super) acls: Arc<BTreeMap<Uuid, AccessControlEntryRecord>>,
    pub(super) scram: Arc<BTreeMap<(i8, String), UserScramCredentialRecord>>,
    pub(super) delegation_tokens: Arc<BTreeMap<String, DelegationTokenRecord>>,
    pub(super) zk_migration_state: Option<i8>,
    /// Records of a transaction that has not ended: none of them counts yet.
    pub(super) open_transaction: Option<Arc<Vec<MetadataRecord>>>,
}

impl Image {
    /// The offset behind the last record that is in the image.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The epoch of the quorum's leader that wrote that record.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The finalised features by name.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The level of a feature; 0 where it is not finalised.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All topics.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.by_id(id)
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionRegistration> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// The registered brokers by id, fenced ones included.
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<i32, Arc<BrokerRegistration>> {
        &self.brokers
    }

    /// The broker of this id.
    #[must_use]
    pub fn broker(&self, id: i32) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// The registered controllers by id.
    #[must_use]
    pub fn controllers(&self) -> &BTreeMap<i32, RegisterControllerRecord> {
        &self.controllers
    }

    /// The settings of a resource; empty where it has none.
    #[must_use]
    pub fn configs(&self, resource: &ConfigResource) -> Arc<BTreeMap<String, String>> {
        self.configs.get(resource).cloned().unwrap_or_default()
    }

    /// Whether no setting of any resource differs, without looking at them: `false` may be a false alarm.
    #[must_use]
    pub fn shares_configs_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.configs, &other.configs)
    }

    /// Every resource that has settings.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// The quotas of clients, users and addresses.
    #[must_use]
    pub fn client_quotas(&self) -> &BTreeMap<QuotaEntity, BTreeMap<String, f64>> {
        &self.client_quotas
    }

    /// The first producer id that nobody has been given.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.producer_ids.as_ref().map_or(0, |record| record.next_producer_id)
    }

    /// How many access control entries there are.
    #[must_use]
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// How many SCRAM credentials users have.
    #[must_use]
    pub fn scram_credential_count(&self) -> usize {
        self.scram.len()
    }

    /// Whether records of a transaction wait for its end.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.open_transaction.is_some()
    }

    /// A builder for the image that follows.
    #[must_use]
    pub fn builder(&self) -> ImageBuilder {
        ImageBuilder::new(self.clone())
    }
}
