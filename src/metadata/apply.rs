//! Records applied to an image make the next one. Records between BeginTransaction and EndTransaction count
//! together or, after AbortTransaction, not at all.

use std::sync::Arc;

use thiserror::Error;

use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use crate::protocol::messages::client_quota_record::ClientQuotaRecord;
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::messages::topic_record::TopicRecord;
use crate::types::{LeaderEpoch, Offset, TopicName};

use super::cluster::BrokerRegistration;
use super::image::{ConfigResource, ConfigResourceType, Image, QuotaEntity};
use super::record::MetadataRecord;
use super::topics::PartitionRegistration;

/// A record that does not fit what came before it: the log is damaged or was written by other rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("metadata record {record} does not fit: {why}")]
pub struct ApplyError {
    /// The record's type.
    pub record: &'static str,
    /// What is wrong.
    pub why: String,
}

/// An image in the making.
#[derive(Debug)]
pub struct ImageBuilder {
    image: Image,
}

impl ImageBuilder {
    pub(super) fn new(image: Image) -> Self {
        Self { image }
    }

    /// Applies one record.
    ///
    /// # Errors
    /// [`ApplyError`]; the builder is then of no further use.
    pub fn apply(&mut self, record: MetadataRecord) -> Result<(), ApplyError> {
        let name = record.name();
        self.stage(record).map_err(|why| ApplyError { record: name, why })
    }

    /// The image that all records so far add up to.
    #[must_use]
    pub fn finish(mut self, end_offset: Offset, epoch: LeaderEpoch) -> Image {
        (self.image.end_offset, self.image.epoch) = (end_offset, epoch);
        self.image
    }

    /// What the image would be now, for decisions that build on each other.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    fn stage(&mut self, record: MetadataRecord) -> Result<(), String> {
        match (record, &mut self.image.open_transaction) {
            (MetadataRecord::BeginTransaction(_), Some(_)) => Err("a transaction is open already".to_owned()),
            (MetadataRecord::BeginTransaction(_), none) => {
                *none = Some(Arc::default());
                Ok(())
            }
            (MetadataRecord::EndTransaction(_) | MetadataRecord::AbortTransaction(_), None) => {
                Err("no transaction is open".to_owned())
            }
            (MetadataRecord::AbortTransaction(_), open) => {
                *open = None;
                Ok(())
            }
            (MetadataRecord::EndTransaction(_), open) => {
                let records = open.take().map(Arc::unwrap_or_clone).unwrap_or_default();
                records.into_iter().try_for_each(|record| self.apply_committed(record))
            }
            (record, Some(open)) => {
                Arc::make_mut(open).push(record);
                Ok(())
            }
            (record, None) => self.apply_committed(record),
        }
    }

    fn apply_committed(&mut self, record: MetadataRecord) -> Result<(), String> {
        let image = &mut self.image;
        match record {
            MetadataRecord::RegisterBroker(record) => {
                let broker = BrokerRegistration::from_record(&record);
                Arc::make_mut(&mut image.brokers).insert(broker.id, Arc::new(broker));
            }
            MetadataRecord::UnregisterBroker(record) => {
                Arc::make_mut(&mut image.brokers).remove(&record.broker_id);
            }
            MetadataRecord::BrokerRegistrationChange(change) => return self.change_broker(&change),
            MetadataRecord::FenceBroker(record) => return self.fence(record.id, record.epoch, 1),
            MetadataRecord::UnfenceBroker(record) => return self.fence(record.id, record.epoch, -1),
            MetadataRecord::RegisterController(record) => {
                Arc::make_mut(&mut image.controllers).insert(record.controller_id, record);
            }
            MetadataRecord::Topic(record) => return self.add_topic(&record),
            MetadataRecord::RemoveTopic(record) => return self.remove_topic(&record),
            MetadataRecord::Partition(record) => {
                let partition = PartitionRegistration::from_record(&record);
                let topics = Arc::make_mut(&mut image.topics);
                if !topics.insert_partition(record.topic_id, record.partition_id, partition) {
                    return Err(format!("there is no topic with id {}", record.topic_id));
                }
            }
            MetadataRecord::PartitionChange(change) => return self.change_partition(&change),
            MetadataRecord::ClearElr(record) => {
                let name = Some(record.topic_name.as_str()).filter(|name| !name.is_empty());
                if !Arc::make_mut(&mut image.topics).clear_elr(name) {
                    return Err(format!("there is no topic {:?}", record.topic_name.as_str()));
                }
            }
            MetadataRecord::Config(record) => self.set_config(&record),
            MetadataRecord::FeatureLevel(record) => {
                let features = Arc::make_mut(&mut image.features);
                match record.feature_level {
                    0 => features.remove(record.name.as_str()),
                    level => features.insert(record.name.to_string(), level),
                };
            }
            MetadataRecord::ClientQuota(record) => self.set_quota(&record),
            MetadataRecord::ProducerIds(record) => image.producer_ids = Some(record),
            MetadataRecord::AccessControlEntry(record) => {
                Arc::make_mut(&mut image.acls).insert(record.id, record);
            }
            MetadataRecord::RemoveAccessControlEntry(record) => {
                Arc::make_mut(&mut image.acls).remove(&record.id);
            }
            MetadataRecord::UserScramCredential(record) => {
                let key = (record.mechanism, record.name.to_string());
                Arc::make_mut(&mut image.scram).insert(key, record);
            }
            MetadataRecord::RemoveUserScramCredential(record) => {
                let key = (record.mechanism, record.name.to_string());
                Arc::make_mut(&mut image.scram).remove(&key);
            }
            MetadataRecord::DelegationToken(record) => {
                let key = record.token_id.to_string();
                Arc::make_mut(&mut image.delegation_tokens).insert(key, record);
            }
            MetadataRecord::RemoveDelegationToken(record) => {
                Arc::make_mut(&mut image.delegation_tokens).remove(record.token_id.as_str());
            }
            MetadataRecord::ZkMigrationState(record) => {
                image.zk_migration_state = Some(record.zk_migration_state);
            }
            MetadataRecord::NoOp(_)
            | MetadataRecord::BeginTransaction(_)
            | MetadataRecord::EndTransaction(_)
            | MetadataRecord::AbortTransaction(_) => {}
        }
        Ok(())
    }

    fn fence(&mut self, broker_id: i32, broker_epoch: i64, fenced: i8) -> Result<(), String> {
        let change = BrokerRegistrationChangeRecord { broker_id, broker_epoch, fenced, ..Default::default() };
        self.change_broker(&change)
    }

    fn change_broker(&mut self, change: &BrokerRegistrationChangeRecord) -> Result<(), String> {
        let brokers = Arc::make_mut(&mut self.image.brokers);
        let broker = brokers
            .get_mut(&change.broker_id)
            .ok_or_else(|| format!("broker {} has not registered", change.broker_id))?;
        if broker.epoch != change.broker_epoch {
            return Err(format!(
                "broker {} is in epoch {}, not {}",
                change.broker_id, broker.epoch, change.broker_epoch
            ));
        }
        Arc::make_mut(broker).change(change);
        Ok(())
    }

    fn add_topic(&mut self, record: &TopicRecord) -> Result<(), String> {
        let name = TopicName::new(&record.name).map_err(|error| error.to_string())?;
        if Arc::make_mut(&mut self.image.topics).insert(name, record.topic_id) {
            return Ok(());
        }
        Err(format!("topic {} or its id {} is there already", record.name.as_str(), record.topic_id))
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), String> {
        let removed = Arc::make_mut(&mut self.image.topics).remove(record.topic_id);
        let topic = removed.ok_or_else(|| format!("there is no topic with id {}", record.topic_id))?;
        let resource = ConfigResource::topic(topic.name.as_str());
        if self.image.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.image.configs).remove(&resource);
        }
        Ok(())
    }

    fn change_partition(&mut self, change: &PartitionChangeRecord) -> Result<(), String> {
        let topics = Arc::make_mut(&mut self.image.topics);
        let partition = topics
            .partition_mut(change.topic_id, change.partition_id)
            .ok_or_else(|| format!("topic {} has no partition {}", change.topic_id, change.partition_id))?;
        partition.change(change);
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord) {
        let resource =
            ConfigResource { type_id: record.resource_type, name: record.resource_name.to_string() };
        let configs = Arc::make_mut(&mut self.image.configs);
        let settings = Arc::make_mut(configs.entry(resource.clone()).or_default());
        match &record.value {
            Some(value) => settings.insert(record.name.to_string(), value.to_string()),
            None => settings.remove(record.name.as_str()),
        };
        // A group or subscription is there as long as it has settings.
        if settings.is_empty() {
            configs.remove(&resource);
        }
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord) {
        let mut entity: QuotaEntity = record
            .entity
            .iter()
            .map(|part| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)))
            .collect();
        entity.sort();
        let quotas = Arc::make_mut(&mut self.image.client_quotas);
        let limits = quotas.entry(entity.clone()).or_default();
        if record.remove {
            limits.remove(record.key.as_str());
        } else {
            limits.insert(record.key.to_string(), record.value);
        }
        if limits.is_empty() {
            quotas.remove(&entity);
        }
    }
}

impl ConfigResource {
    /// The kind, where it is a known one.
    #[must_use]
    pub fn kind(&self) -> Option<ConfigResourceType> {
        ConfigResourceType::from_id(self.type_id)
    }
}
