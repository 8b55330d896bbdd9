//! Every record type of Kafka 4.3's metadata log with random values, through an image and a snapshot's bytes:
//! what a record says is in the snapshot, and the snapshot read back is the same image.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use klamm::metadata::record::LEVELS;
use klamm::metadata::snapshot::{SnapshotHead, SnapshotId, SnapshotWriter};
use klamm::metadata::{Image, MetadataRecord, Replay};
use klamm::protocol::Str;
use klamm::protocol::messages::config_record::ConfigRecord;
use klamm::protocol::messages::partition_change_record::PartitionChangeRecord;
use klamm::protocol::messages::partition_record::PartitionRecord;
use klamm::protocol::messages::register_broker_record::RegisterBrokerRecord;
use klamm::protocol::messages::topic_record::TopicRecord;
use klamm::protocol::messages::{self, Entry};
use klamm::protocol::schema::Kind;
use klamm::types::{LeaderEpoch, Offset};

use crate::random::Random;
use crate::random_message::random_message;

fn entries() -> impl Iterator<Item = &'static Entry> {
    messages::ALL.iter().filter(|entry| entry.schema.kind == Kind::Metadata)
}

/// A random record in a random version, as it would stand in the log. Tags that Kafka 4.3 does not know are none
/// of its fields, and it does not keep them either.
fn random_record(entry: &Entry, random: &mut Random) -> MetadataRecord {
    let schema = entry.schema;
    let version = schema.lowest + random.below((schema.highest - schema.lowest + 1) as usize) as i16;
    loop {
        let mut value = vec![1, schema.type_key as u8, version as u8];
        value.extend(random_message(schema, version, random));
        let record = MetadataRecord::decode(value.into()).unwrap();
        if !format!("{record:?}").contains("UnknownTags(Some") {
            return record;
        }
    }
}

/// The record with the few values that must fit others, or that have one form only once they are applied.
fn fitting(record: MetadataRecord) -> MetadataRecord {
    let some = |ids: Option<Vec<i32>>| ids.filter(|ids| !ids.is_empty());
    match record {
        MetadataRecord::Topic(record) => TopicRecord { name: "a.topic".into(), ..record }.into(),
        MetadataRecord::ClearElr(mut record) => {
            record.topic_name = "a.topic".into();
            record.into()
        }
        MetadataRecord::Partition(record) => PartitionRecord {
            leader_recovery_state: record.leader_recovery_state & 1,
            eligible_leader_replicas: some(record.eligible_leader_replicas),
            last_known_elr: some(record.last_known_elr),
            ..record
        }
        .into(),
        MetadataRecord::RegisterBroker(mut record) => {
            // A name that stands twice counts once, the last time it stands there.
            let features: BTreeMap<Str, _> =
                record.features.into_iter().map(|feature| (feature.name.clone(), feature)).collect();
            record.features = features.into_values().collect();
            record.into()
        }
        MetadataRecord::ClientQuota(mut record) => {
            record
                .entity
                .sort_by(|a, b| (&*a.entity_type, &a.entity_name).cmp(&(&*b.entity_type, &b.entity_name)));
            record.into()
        }
        other => other,
    }
}

/// What must be there before the record fits.
fn before(record: &MetadataRecord) -> Vec<MetadataRecord> {
    let topic = |topic_id| TopicRecord { name: "a.topic".into(), topic_id, ..Default::default() }.into();
    let partition = |topic_id, partition_id| {
        PartitionRecord {
            topic_id,
            partition_id,
            replicas: vec![1, 2],
            isr: vec![1],
            eligible_leader_replicas: Some(vec![2]),
            last_known_elr: Some(vec![2]),
            leader: 1,
            leader_epoch: 3,
            partition_epoch: 9,
            ..Default::default()
        }
        .into()
    };
    let broker = |broker_id, broker_epoch| {
        RegisterBrokerRecord { broker_id, broker_epoch, fenced: false, ..Default::default() }.into()
    };
    match record {
        MetadataRecord::UnregisterBroker(record) => vec![broker(record.broker_id, record.broker_epoch)],
        MetadataRecord::FenceBroker(record) => vec![broker(record.id, record.epoch)],
        MetadataRecord::UnfenceBroker(record) => vec![
            RegisterBrokerRecord { broker_id: record.id, broker_epoch: record.epoch, ..Default::default() }
                .into(),
        ],
        MetadataRecord::BrokerRegistrationChange(record) => {
            vec![broker(record.broker_id, record.broker_epoch)]
        }
        MetadataRecord::Partition(record) => vec![topic(record.topic_id)],
        MetadataRecord::PartitionChange(record) => {
            vec![topic(record.topic_id), partition(record.topic_id, record.partition_id)]
        }
        MetadataRecord::ClearElr(_) => vec![topic(Default::default()), partition(Default::default(), 0)],
        MetadataRecord::RemoveTopic(record) => {
            let setting = ConfigRecord {
                resource_type: 2,
                resource_name: "a.topic".into(),
                name: "retention.ms".into(),
                value: Some("1".into()),
                ..Default::default()
            };
            vec![topic(record.topic_id), partition(record.topic_id, 0), setting.into()]
        }
        MetadataRecord::Config(record) if record.value.is_none() => {
            vec![ConfigRecord { value: Some("old".into()), ..record.clone() }.into()]
        }
        MetadataRecord::FeatureLevel(record) => {
            vec![
                messages::feature_level_record::FeatureLevelRecord { feature_level: 1, ..record.clone() }
                    .into(),
            ]
        }
        MetadataRecord::ClientQuota(record) => {
            vec![
                messages::client_quota_record::ClientQuotaRecord {
                    remove: false,
                    value: 1.0,
                    ..record.clone()
                }
                .into(),
            ]
        }
        MetadataRecord::RemoveAccessControlEntry(record) => {
            vec![
                messages::access_control_entry_record::AccessControlEntryRecord {
                    id: record.id,
                    ..Default::default()
                }
                .into(),
            ]
        }
        MetadataRecord::RemoveUserScramCredential(record) => {
            vec![
                messages::user_scram_credential_record::UserScramCredentialRecord {
                    name: record.name.clone(),
                    mechanism: record.mechanism,
                    ..Default::default()
                }
                .into(),
            ]
        }
        MetadataRecord::RemoveDelegationToken(record) => {
            vec![
                messages::delegation_token_record::DelegationTokenRecord {
                    token_id: record.token_id.clone(),
                    ..Default::default()
                }
                .into(),
            ]
        }
        MetadataRecord::EndTransaction(_) | MetadataRecord::AbortTransaction(_) => {
            let begin = messages::begin_transaction_record::BeginTransactionRecord::default();
            vec![begin.into(), topic(Default::default())]
        }
        _ => Vec::new(),
    }
}

/// The records of a snapshot taken after `record`; registrations of brokers are what a change leaves of them.
fn after(record: &MetadataRecord) -> Vec<MetadataRecord> {
    let mut expected = before(record);
    let Some(first) = expected.first().cloned() else {
        return match record {
            MetadataRecord::NoOp(_) | MetadataRecord::BeginTransaction(_) => Vec::new(),
            kept => vec![kept.clone()],
        };
    };
    match (record, first) {
        (MetadataRecord::Partition(_), _) => expected.push(record.clone()),
        (MetadataRecord::PartitionChange(change), topic) => {
            let MetadataRecord::Partition(partition) = expected.remove(1) else { panic!() };
            return vec![topic, changed(partition, change).into()];
        }
        (MetadataRecord::ClearElr(_), topic) => {
            let MetadataRecord::Partition(partition) = expected.remove(1) else { panic!() };
            let cleared =
                PartitionRecord { eligible_leader_replicas: None, last_known_elr: None, ..partition };
            return vec![topic, cleared.into()];
        }
        (MetadataRecord::FenceBroker(_), MetadataRecord::RegisterBroker(broker)) => {
            return vec![RegisterBrokerRecord { fenced: true, ..broker }.into()];
        }
        (MetadataRecord::UnfenceBroker(_), MetadataRecord::RegisterBroker(broker)) => {
            return vec![RegisterBrokerRecord { fenced: false, ..broker }.into()];
        }
        (MetadataRecord::BrokerRegistrationChange(change), MetadataRecord::RegisterBroker(broker)) => {
            let log_dirs = if change.log_dirs.is_empty() { broker.log_dirs } else { change.log_dirs.clone() };
            let broker = RegisterBrokerRecord {
                fenced: change.fenced == 1,
                in_controlled_shutdown: change.in_controlled_shutdown == 1,
                cordoned_log_dirs: change.cordoned_log_dirs.clone(),
                log_dirs,
                ..broker
            };
            return vec![broker.into()];
        }
        (MetadataRecord::FeatureLevel(level), _) if level.feature_level != 0 => return vec![record.clone()],
        (MetadataRecord::ClientQuota(quota), _) if !quota.remove => return vec![record.clone()],
        (MetadataRecord::EndTransaction(_), _) => return expected.split_off(1),
        // What is left removes what was there.
        _ => return Vec::new(),
    }
    expected
}

fn changed(partition: PartitionRecord, change: &PartitionChangeRecord) -> PartitionRecord {
    let or = |new: &Option<Vec<i32>>, old: Vec<i32>| new.clone().unwrap_or(old);
    let some = |ids: Vec<i32>| Some(ids).filter(|ids| !ids.is_empty());
    let elr = |new: &Option<Vec<i32>>, old: Option<Vec<i32>>| some(or(new, old.unwrap_or_default()));
    let has_new_leader = change.leader != -2;
    PartitionRecord {
        isr: or(&change.isr, partition.isr),
        replicas: or(&change.replicas, partition.replicas),
        removing_replicas: or(&change.removing_replicas, partition.removing_replicas),
        adding_replicas: or(&change.adding_replicas, partition.adding_replicas),
        directories: change.directories.clone().unwrap_or(partition.directories),
        eligible_leader_replicas: elr(&change.eligible_leader_replicas, partition.eligible_leader_replicas),
        last_known_elr: elr(&change.last_known_elr, partition.last_known_elr),
        leader: if has_new_leader { change.leader } else { partition.leader },
        leader_epoch: partition.leader_epoch + i32::from(has_new_leader),
        partition_epoch: partition.partition_epoch + 1,
        leader_recovery_state: i8::from(change.leader_recovery_state == 1),
        ..partition
    }
}

fn image_of(records: &[MetadataRecord]) -> Image {
    let mut builder = Image::default().builder();
    for record in records {
        builder.apply(record.clone()).unwrap();
    }
    builder.finish(ID.end_offset, ID.epoch)
}

const ID: SnapshotId = SnapshotId { end_offset: Offset(77), epoch: LeaderEpoch(3) };

fn snapshot(image: &Image, level: i16) -> Bytes {
    let head = SnapshotHead { id: ID, last_contained_timestamp_ms: 5, now_ms: 6, voters: None };
    let mut writer = SnapshotWriter::new(&head, level).unwrap();
    for record in image.to_records() {
        writer.append(&record).unwrap();
    }
    writer.finish().unwrap().into()
}

#[test]
fn a_snapshot_says_what_every_type_of_record_said_and_is_read_back_as_the_same_image() {
    let mut random = Random::new();
    let mut types = BTreeSet::new();
    for entry in entries() {
        for _ in 0..40 {
            let record = fitting(random_record(entry, &mut random));
            types.insert(record.name());
            let mut records = before(&record);
            records.push(record.clone());
            let image = image_of(&records);
            if !image.in_transaction() {
                assert_eq!(image.to_records(), after(&record), "seed {}: {record:?}", random.seed);
            }
            let mut replay = Replay::default();
            replay.load_snapshot(ID, snapshot(&image, *LEVELS.end())).unwrap();
            let again = replay.finish();
            assert_eq!(again.to_records(), image.to_records(), "seed {}: {record:?}", random.seed);
        }
    }
    // As many as Kafka 4.3 has: RegisterBrokerRecord to ClearElrRecord.
    assert_eq!(types.len(), 26, "{types:?}");
}

/// A cluster at an older level has nothing that its records cannot say; what klamm itself keeps must not stop
/// a snapshot all the same.
#[test]
fn a_snapshot_can_be_written_at_every_level_whatever_the_image_holds() {
    let mut random = Random::new();
    for entry in entries() {
        for _ in 0..10 {
            let record = fitting(random_record(entry, &mut random));
            let mut records = before(&record);
            records.push(record);
            let image = image_of(&records);
            for level in LEVELS {
                let mut replay = Replay::default();
                replay.load_snapshot(ID, snapshot(&image, level)).unwrap();
            }
        }
    }
}

#[test]
fn a_snapshot_that_was_cut_or_changed_is_refused_wherever_that_was() {
    let mut random = Random::new();
    let mut records = Vec::new();
    for entry in entries() {
        if !matches!(
            entry.schema.name,
            "BeginTransactionRecord" | "EndTransactionRecord" | "AbortTransactionRecord"
        ) {
            let record = fitting(random_record(entry, &mut random));
            records.extend(after(&record));
        }
    }
    let mut builder = Image::default().builder();
    for record in records {
        // Types that need the same topic do not all fit together.
        let _ = builder.apply(record);
    }
    let image = builder.finish(ID.end_offset, ID.epoch);
    let whole = snapshot(&image, *LEVELS.end());
    let read = |bytes: Vec<u8>| {
        let mut replay = Replay::default();
        replay.load_snapshot(ID, bytes.into()).map(|()| replay.finish())
    };
    assert_eq!(read(whole.to_vec()).unwrap(), image);
    for cut in 0..whole.len() {
        assert!(read(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << random.below(8);
        // Only the leader epoch of a batch is in no CRC and means nothing here.
        if let Ok(other) = read(damaged) {
            assert_eq!(other, image, "byte {at}");
        }
    }
    let longer = [&whole[..], &whole[..]].concat();
    assert!(read(longer).unwrap_err().to_string().contains("goes on behind its end"));
}
