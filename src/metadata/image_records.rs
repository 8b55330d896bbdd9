//! An image as the records that make it again, in Kafka's order: features, brokers, controllers, topics,
//! configurations, quotas, producer ids, ACLs, SCRAM credentials, delegation tokens.

use crate::protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::topic_record::TopicRecord;
use crate::protocol::messages::zk_migration_state_record::ZkMigrationStateRecord;

use super::METADATA_VERSION;
use super::image::Image;
use super::record::MetadataRecord;

impl Image {
    /// Every record of a snapshot, between its header and its footer. What an open transaction holds is not
    /// part of it: a snapshot is taken where none is open.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::with_capacity(64 + self.topics().len() + self.topics().partition_count());
        self.write_features(&mut records);
        records.extend(self.brokers.values().map(|broker| broker.to_record().into()));
        records.extend(self.controllers.values().cloned().map(MetadataRecord::from));
        self.write_topics(&mut records);
        self.write_configs(&mut records);
        self.write_quotas(&mut records);
        records.extend(self.producer_ids.clone().map(MetadataRecord::from));
        records.extend(self.acls.values().cloned().map(MetadataRecord::from));
        records.extend(self.scram.values().cloned().map(MetadataRecord::from));
        records.extend(self.delegation_tokens.values().cloned().map(MetadataRecord::from));
        records
    }

    fn write_features(&self, records: &mut Vec<MetadataRecord>) {
        let (first, rest): (Vec<_>, Vec<_>) =
            self.features.iter().partition(|(name, _)| name.as_str() == METADATA_VERSION);
        for (name, level) in first.into_iter().chain(rest) {
            let record = FeatureLevelRecord {
                name: name.as_str().into(),
                feature_level: *level,
                ..FeatureLevelRecord::default()
            };
            records.push(record.into());
        }
        if let Some(zk_migration_state) = self.zk_migration_state {
            let record = ZkMigrationStateRecord { zk_migration_state, ..ZkMigrationStateRecord::default() };
            records.push(record.into());
        }
    }

    fn write_topics(&self, records: &mut Vec<MetadataRecord>) {
        for topic in self.topics().iter() {
            let record = TopicRecord {
                name: topic.name.as_str().into(),
                topic_id: topic.id,
                ..TopicRecord::default()
            };
            records.push(record.into());
            for (number, partition) in &topic.partitions {
                records.push(partition.to_record(topic.id, *number).into());
            }
        }
    }

    fn write_configs(&self, records: &mut Vec<MetadataRecord>) {
        for (resource, settings) in self.configs.iter() {
            for (name, value) in settings.iter() {
                let record = ConfigRecord {
                    resource_type: resource.type_id,
                    resource_name: resource.name.as_str().into(),
                    name: name.as_str().into(),
                    value: Some(value.as_str().into()),
                    ..ConfigRecord::default()
                };
                records.push(record.into());
            }
        }
    }

    fn write_quotas(&self, records: &mut Vec<MetadataRecord>) {
        for (entity, limits) in self.client_quotas.iter() {
            let part = |(entity_type, entity_name): &(String, Option<String>)| EntityData {
                entity_type: entity_type.as_str().into(),
                entity_name: entity_name.as_deref().map(Into::into),
                ..EntityData::default()
            };
            for (key, value) in limits {
                let record = ClientQuotaRecord {
                    entity: entity.iter().map(part).collect(),
                    key: key.as_str().into(),
                    value: *value,
                    ..ClientQuotaRecord::default()
                };
                records.push(record.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::messages::abort_transaction_record::AbortTransactionRecord;
    use crate::protocol::messages::access_control_entry_record::AccessControlEntryRecord;
    use crate::protocol::messages::begin_transaction_record::BeginTransactionRecord;
    use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
    use crate::protocol::messages::delegation_token_record::DelegationTokenRecord;
    use crate::protocol::messages::end_transaction_record::EndTransactionRecord;
    use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
    use crate::protocol::messages::partition_record::PartitionRecord;
    use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
    use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
    use crate::protocol::messages::register_controller_record::RegisterControllerRecord;
    use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
    use crate::protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
    use crate::types::{LeaderEpoch, Offset, Uuid};

    use super::*;

    fn topic(name: &str, id: u8) -> MetadataRecord {
        TopicRecord { name: name.into(), topic_id: Uuid([id; 16]), ..Default::default() }.into()
    }

    fn partition(id: u8, partition_id: i32) -> MetadataRecord {
        PartitionRecord {
            partition_id,
            topic_id: Uuid([id; 16]),
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            directories: vec![Uuid([9; 16])],
            ..Default::default()
        }
        .into()
    }

    fn config(resource_type: i8, resource: &str, name: &str, value: Option<&str>) -> MetadataRecord {
        ConfigRecord {
            resource_type,
            resource_name: resource.into(),
            name: name.into(),
            value: value.map(Into::into),
            ..Default::default()
        }
        .into()
    }

    fn build(records: Vec<MetadataRecord>) -> Image {
        let mut builder = Image::default().builder();
        for record in records {
            builder.apply(record).unwrap();
        }
        builder.finish(Offset(7), LeaderEpoch(1))
    }

    #[test]
    fn a_snapshot_makes_the_same_image_and_drops_nothing() {
        let feature =
            FeatureLevelRecord { name: METADATA_VERSION.into(), feature_level: 30, ..Default::default() };
        let other =
            FeatureLevelRecord { name: "group.version".into(), feature_level: 1, ..Default::default() };
        let quota = ClientQuotaRecord {
            entity: vec![EntityData { entity_type: "user".into(), ..Default::default() }],
            key: "producer_byte_rate".into(),
            value: 5.0,
            ..Default::default()
        };
        let image = build(vec![
            other.into(),
            feature.into(),
            RegisterBrokerRecord {
                broker_id: 1,
                broker_epoch: 4,
                rack: Some("r".into()),
                ..Default::default()
            }
            .into(),
            RegisterControllerRecord { controller_id: 1, ..Default::default() }.into(),
            topic("b", 2),
            topic("a", 1),
            partition(1, 0),
            partition(1, 1),
            config(2, "a", "retention.ms", Some("5")),
            config(4, "", "min.insync.replicas", Some("1")),
            config(99, "later", "x", Some("y")),
            quota.into(),
            ProducerIdsRecord { broker_id: 1, broker_epoch: 4, next_producer_id: 1000, ..Default::default() }
                .into(),
            AccessControlEntryRecord { id: Uuid([3; 16]), ..Default::default() }.into(),
            UserScramCredentialRecord { name: "u".into(), mechanism: 1, ..Default::default() }.into(),
            DelegationTokenRecord { token_id: "t".into(), ..Default::default() }.into(),
            ZkMigrationStateRecord { zk_migration_state: 4, ..Default::default() }.into(),
        ]);
        let records = image.to_records();
        assert_eq!(records.len(), 17);
        assert_eq!(build(records.clone()), image);
        let first = MetadataRecord::decode(records[0].encode(30).unwrap()).unwrap();
        assert!(matches!(first, MetadataRecord::FeatureLevel(record) if &*record.name == METADATA_VERSION));
    }

    #[test]
    fn a_removed_topic_takes_its_partitions_and_settings_along() {
        let image = build(vec![topic("a", 1), partition(1, 0), config(2, "a", "retention.ms", Some("5"))]);
        assert_eq!(image.topics().partition_count(), 1);
        let mut builder = image.builder();
        builder.apply(RemoveTopicRecord { topic_id: Uuid([1; 16]), ..Default::default() }.into()).unwrap();
        let next = builder.finish(Offset(8), LeaderEpoch(1));
        assert!(next.topic("a").is_none() && next.topic_by_id(Uuid([1; 16])).is_none());
        assert_eq!((next.topics().partition_count(), next.config_resources().count()), (0, 0));
        assert!(image.topic("a").is_some(), "the older image stays as it was");
    }

    #[test]
    fn a_named_leader_begins_an_epoch_and_every_change_counts() {
        let mut builder = build(vec![topic("a", 1), partition(1, 0)]).builder();
        let topic_id = Uuid([1; 16]);
        let mut change =
            PartitionChangeRecord { partition_id: 0, topic_id, leader: -2, ..Default::default() };
        change.isr = Some(vec![]);
        builder.apply(change.clone().into()).unwrap();
        change.leader = 1;
        builder.apply(change.into()).unwrap();
        let image = builder.finish(Offset(9), LeaderEpoch(1));
        let partition = image.partition("a", 0).unwrap();
        assert_eq!((partition.leader_epoch, partition.partition_epoch), (1, 2));
        assert_eq!(partition.directory_of(1), Uuid([9; 16]));
    }

    #[test]
    fn a_transaction_counts_when_it_ends_and_never_when_it_is_aborted() {
        let begin = || MetadataRecord::from(BeginTransactionRecord::default());
        let image = build(vec![begin(), topic("a", 1)]);
        assert!(image.in_transaction() && image.topics().is_empty());
        let mut ended = image.builder();
        ended.apply(EndTransactionRecord::default().into()).unwrap();
        assert_eq!(ended.image().topics().len(), 1);
        let mut aborted = image.builder();
        aborted.apply(AbortTransactionRecord::default().into()).unwrap();
        assert!(aborted.image().topics().is_empty());
        assert!(image.builder().apply(begin()).is_err());
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let change = BrokerRegistrationChangeRecord { broker_id: 1, ..Default::default() };
        let unfit: Vec<MetadataRecord> = vec![
            partition(1, 0),
            RemoveTopicRecord::default().into(),
            topic("../etc", 1),
            change.into(),
            PartitionChangeRecord::default().into(),
            EndTransactionRecord::default().into(),
        ];
        for record in unfit {
            let name = record.name();
            assert!(Image::default().builder().apply(record).is_err(), "{name}");
        }
        let mut builder = build(vec![topic("a", 1)]).builder();
        assert!(builder.apply(topic("a", 2)).is_err());
    }

    #[test]
    fn settings_and_registrations_change_and_go() {
        let mut builder = Image::default().builder();
        builder.apply(config(2, "a", "x", Some("1"))).unwrap();
        builder.apply(config(2, "a", "x", None)).unwrap();
        assert_eq!(builder.image().config_resources().count(), 0);
        builder
            .apply(RegisterBrokerRecord { broker_id: 1, broker_epoch: 4, ..Default::default() }.into())
            .unwrap();
        assert!(builder.image().broker(1).unwrap().fenced);
        let change = BrokerRegistrationChangeRecord {
            broker_id: 1,
            broker_epoch: 4,
            fenced: -1,
            ..Default::default()
        };
        builder.apply(change.into()).unwrap();
        assert!(!builder.image().broker(1).unwrap().fenced);
    }
}
