//! The controller of a lone node, from outside: what it writes is what Kafka writes, what it acknowledges is
//! there after a restart, and what is not its own it leaves alone.

mod changes;
mod directories;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use klamm::config::{BrokerConfig, Layers};
use klamm::controller::{Controller, ControllerError, ControllerOptions};
use klamm::metadata::{BrokerEndpoint, ConfigResource, MetadataRecord, ReplicaDirectory};
use klamm::protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use klamm::protocol::messages::alter_configs_request::{self, AlterConfigsRequest};
use klamm::protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use klamm::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use klamm::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use klamm::protocol::messages::voters_record::{Voter, VotersRecord};
use klamm::protocol::{ErrorCode, encode_to_bytes};
use klamm::record::{Batch, BatchBuilder, Compression, ControlKey, ControlType, InflateLimits};
use klamm::storage::{Disk, GuardedDisk, LogHome, RealDisk};
use klamm::types::{LeaderEpoch, ManualClock, Offset, Uuid};

const NOW_MS: i64 = 1_800_000_000_000;
const METADATA: &str = "__cluster_metadata-0";
const FIRST_LOG: &str = "__cluster_metadata-0/00000000000000000000.log";

fn options(directory: &Path) -> ControllerOptions {
    options_on(RealDisk::new(), directory)
}

fn options_on(disk: Arc<dyn Disk>, directory: &Path) -> ControllerOptions {
    ControllerOptions {
        home: LogHome::new(disk),
        metadata_dir: directory.to_owned(),
        metadata_dir_id: Uuid([7; 16]),
        log_dir_ids: vec![Uuid([7; 16])],
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        has_several_voters: false,
        clock: ManualClock::new(NOW_MS),
        config: Arc::new(BrokerConfig::default()),
        endpoints: vec![BrokerEndpoint {
            name: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            security_protocol: 0,
        }],
        controller_endpoint: None,
        clean_broker_epoch: None,
    }
}

fn start(directory: &Path) -> Controller {
    Controller::start(options(directory)).unwrap()
}

fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    };
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    }
}

/// The error code of each topic of the answer.
async fn create(controller: &Controller, topics: Vec<CreatableTopic>) -> Vec<ErrorCode> {
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let response = controller.create_topics(request).await;
    response.topics.iter().map(|topic| ErrorCode::from_wire(topic.error_code)).collect()
}

/// Every record of a segment or snapshot: its offset, and its type with the values that matter.
fn dump(file: &Path) -> Vec<String> {
    let mut bytes = Bytes::from(fs::read(file).unwrap());
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let batch = Batch::first(&bytes).unwrap();
        batch.as_ref().check_crc().unwrap();
        let count = batch.header.record_count;
        lines.push(format!("batch of {count}, epoch {}", batch.header.leader_epoch));
        for record in batch.records(&InflateLimits::default()).unwrap() {
            let record = record.unwrap();
            let value = record.value.unwrap();
            lines.push(match record.key.as_deref().and_then(ControlKey::parse) {
                Some(key) => format!("{} {:?} {} bytes", record.offset, key.kind, value.len()),
                None => format!("{} {} {} bytes", record.offset, describe(value.clone()), value.len()),
            });
        }
        bytes = bytes.slice(batch.bytes.len()..);
    }
    lines
}

fn describe(value: Bytes) -> String {
    match MetadataRecord::decode(value).unwrap() {
        MetadataRecord::FeatureLevel(record) => {
            format!("FeatureLevel {} {}", record.name, record.feature_level)
        }
        MetadataRecord::Config(record) => {
            format!(
                "Config {} {:?} {}={:?}",
                record.resource_type,
                record.resource_name.as_str(),
                record.name,
                record.value.as_deref()
            )
        }
        MetadataRecord::RegisterBroker(record) => format!("RegisterBroker epoch {}", record.broker_epoch),
        MetadataRecord::Topic(record) => format!("Topic {}", record.name),
        MetadataRecord::Partition(record) => {
            format!("Partition {} leader {} isr {:?}", record.partition_id, record.leader, record.isr)
        }
        other => other.name().to_owned(),
    }
}

/// Offsets, types, values and sizes as Kafka 4.3.1 wrote them for `format --standalone` and a first start
/// (there with the endpoint 127.0.0.1:19593, three characters more).

#[tokio::test]
async fn a_new_directory_holds_what_kafka_writes_into_one() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    controller.shutdown().await.unwrap();
    assert_eq!(
        dump(&directory.path().join(FIRST_LOG)),
        [
            "batch of 3, epoch 1",
            "0 LeaderChange 19 bytes",
            "1 KRaftVersion 5 bytes",
            "2 KRaftVoters 55 bytes",
            "batch of 9, epoch 1",
            "3 BeginTransactionRecord 24 bytes",
            "4 FeatureLevel metadata.version 30 23 bytes",
            "5 FeatureLevel eligible.leader.replicas.version 1 39 bytes",
            "6 FeatureLevel group.version 1 20 bytes",
            "7 FeatureLevel share.version 1 20 bytes",
            "8 FeatureLevel streams.version 1 22 bytes",
            "9 FeatureLevel transaction.version 2 26 bytes",
            "10 Config 4 \"\" min.insync.replicas=Some(\"1\") 28 bytes",
            "11 EndTransactionRecord 4 bytes",
            "batch of 1, epoch 1",
            "12 RegisterControllerRecord 216 bytes",
            "batch of 1, epoch 1",
            "13 RegisterBroker epoch 13 245 bytes",
            "batch of 1, epoch 1",
            "14 BrokerRegistrationChangeRecord 19 bytes",
            // What a clean stop adds.
            "batch of 1, epoch 1",
            "15 BrokerRegistrationChangeRecord 19 bytes",
        ]
    );
    let snapshot = format!("{METADATA}/00000000000000000000-0000000000.checkpoint");
    assert_eq!(
        dump(&directory.path().join(snapshot)),
        [
            "batch of 3, epoch 0",
            "0 SnapshotHeader 11 bytes",
            "1 KRaftVersion 5 bytes",
            "2 KRaftVoters 55 bytes",
            "batch of 1, epoch 0",
            "3 SnapshotFooter 3 bytes",
        ]
    );
    let bootstrap = dump(&directory.path().join("bootstrap.checkpoint"));
    assert_eq!(bootstrap.len(), 11);
    assert_eq!(bootstrap[3], "1 FeatureLevel metadata.version 30 23 bytes");
    assert_eq!(
        fs::read_to_string(directory.path().join(METADATA).join("quorum-state")).unwrap(),
        r#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#
    );
    assert_eq!(
        fs::read_to_string(directory.path().join(METADATA).join("partition.metadata")).unwrap(),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_in_a_new_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(directory.path());
    let made = create(&first, vec![topic("one", 3, &[("retention.ms", "1000")]), topic("two", 1, &[])]).await;
    assert_eq!(made, [ErrorCode::None, ErrorCode::None]);
    let before = first.image();
    drop(first);

    let second = start(directory.path());
    let image = second.image();
    assert_eq!(image.epoch(), LeaderEpoch(2));
    assert_eq!(image.topics().len(), 2);
    let one = image.topic("one").unwrap();
    assert_eq!(one.id, before.topic("one").unwrap().id);
    assert_eq!(one.partitions.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(one.partitions[&0].directories, [Uuid([7; 16])]);
    let settings = image.configs(&ConfigResource::topic("one"));
    assert_eq!(*settings, BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]));
    let broker = image.broker(1).unwrap();
    assert!(!broker.fenced && broker.epoch > before.broker(1).unwrap().epoch);
    assert_eq!(second.broker_epoch(), broker.epoch);
}

#[tokio::test]
async fn partitions_begin_a_leader_epoch_after_an_unclean_stop_and_keep_it_after_a_clean_one() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(directory.path());
    create(&first, vec![topic("t", 2, &[])]).await;
    let clean_broker_epoch = Some(first.broker_epoch());
    first.shutdown().await.unwrap();

    let epoch = |controller: &Controller| controller.image().partition("t", 1).unwrap().leader_epoch;
    let second =
        Controller::start(ControllerOptions { clean_broker_epoch, ..options(directory.path()) }).unwrap();
    assert_eq!(epoch(&second), 0);
    drop(second);
    let third =
        Controller::start(ControllerOptions { clean_broker_epoch, ..options(directory.path()) }).unwrap();
    assert_eq!(epoch(&third), 1, "the mark was an older incarnation's");
    assert_eq!(third.image().partition("t", 1).unwrap().isr, [1]);
}

async fn next_block(controller: &Controller) -> Result<(i64, i32), ErrorCode> {
    let broker_id = *controller.image().brokers().keys().next().unwrap();
    let broker_epoch = controller.broker_epoch();
    let request = AllocateProducerIdsRequest { broker_id, broker_epoch, ..Default::default() };
    let block = controller.allocate_producer_ids(request).await;
    match ErrorCode::from_wire(block.error_code) {
        ErrorCode::None => Ok((block.producer_id_start, block.producer_id_len)),
        code => Err(code),
    }
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(directory.path());
    assert_eq!(next_block(&first).await, Ok((0, 1000)));
    assert_eq!(next_block(&first).await, Ok((1000, 1000)));
    drop(first);
    let second = start(directory.path());
    assert_eq!(next_block(&second).await, Ok((2000, 1000)));
}

#[tokio::test]
async fn requests_that_wait_together_are_all_answered_and_all_kept() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..200 {
        let controller = controller.clone();
        waiting.spawn(async move { create(&controller, vec![topic(&format!("t-{number}"), 5, &[])]).await });
    }
    for codes in waiting.join_all().await {
        assert_eq!(codes, [ErrorCode::None]);
    }
    assert_eq!(create(&controller, vec![topic("wide", 1000, &[])]).await, [ErrorCode::None]);
    drop(controller);
    let image = start(directory.path()).image();
    assert_eq!((image.topics().len(), image.topics().partition_count()), (201, 2000));
}

#[tokio::test]
async fn changes_are_announced() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    let mut changes = controller.changes();
    changes.mark_unchanged();
    create(&controller, vec![topic("t", 1, &[])]).await;
    changes.changed().await.unwrap();
    assert!(changes.borrow_and_update().topic("t").is_some());
}

#[tokio::test]
async fn after_the_disk_has_failed_everything_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let guarded = GuardedDisk::new(RealDisk::new(), directory.path());
    let controller = Controller::start(options_on(guarded.clone(), directory.path())).unwrap();
    create(&controller, vec![topic("before", 1, &[])]).await;
    guarded.health().fail("a test");
    for name in ["a", "b"] {
        assert_eq!(create(&controller, vec![topic(name, 1, &[])]).await, [ErrorCode::KafkaStorageError]);
    }
    assert_eq!(next_block(&controller).await, Err(ErrorCode::KafkaStorageError));
    assert_eq!(controller.image().topics().len(), 1);
}

#[tokio::test]
async fn after_shutdown_everything_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    controller.shutdown().await.unwrap();
    assert_eq!(create(&controller, vec![topic("t", 1, &[])]).await, [ErrorCode::NotController]);
    controller.shutdown().await.unwrap();
}

/// The directory of each partition of `t`, its leader, its replicas in sync and those that may lead.
fn replicas(controller: &Controller) -> Vec<(Uuid, i32, Vec<i32>, Vec<i32>)> {
    let image = controller.image();
    let partitions = image.topic("t").unwrap().partitions.values();
    partitions
        .map(|it| (it.directory_of(1), it.leader, it.isr.clone(), it.eligible_leader_replicas.clone()))
        .collect()
}

#[tokio::test]
async fn replicas_are_assigned_to_directories_and_lead_only_where_those_are_online() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (Uuid([7; 16]), Uuid([9; 16]));
    let both = || ControllerOptions { log_dir_ids: vec![one, two], ..options(directory.path()) };
    let controller = Controller::start(both()).unwrap();
    create(&controller, vec![topic("t", 2, &[])]).await;
    let unassigned = (Uuid::ZERO, 1, vec![1], vec![]);
    assert_eq!(replicas(&controller), [unassigned.clone(), unassigned], "the broker chooses");
    let topic_id = controller.image().topic("t").unwrap().id;
    let lies = |partition, directory| ReplicaDirectory { topic_id, partition, directory };
    controller.assign_directories(vec![lies(0, one), lies(1, two), lies(7, two)]).await.unwrap();
    let leads = |directory| (directory, 1, vec![1], vec![]);
    assert_eq!(replicas(&controller), [leads(one), leads(two)]);
    let before = controller.image().end_offset();
    controller.assign_directories(vec![lies(0, one), lies(1, two)]).await.unwrap();
    assert_eq!(controller.image().end_offset(), before, "what is known is not written again");

    let mut changes = controller.changes();
    changes.mark_unchanged();
    controller.note_failed_directories([two].into());
    changes.changed().await.unwrap();
    assert_eq!(replicas(&controller), [leads(one), (two, -1, vec![], vec![1])]);
    assert_eq!(controller.image().broker(1).unwrap().log_dirs, [one]);
    // The broker had put another there just before.
    create(&controller, vec![topic("late", 1, &[])]).await;
    let topic_id = controller.image().topic("late").unwrap().id;
    let late = ReplicaDirectory { topic_id, partition: 0, directory: two };
    controller.assign_directories(vec![late]).await.unwrap();
    assert_eq!(controller.image().partition("late", 0).unwrap().leader, -1);
    controller.shutdown().await.unwrap();

    // It stays away, comes back, is away from the start.
    let without = Controller::start(options(directory.path())).unwrap();
    assert_eq!(replicas(&without), [leads(one), (two, -1, vec![], vec![1])]);
    drop(without);
    let back = Controller::start(both()).unwrap();
    assert_eq!(replicas(&back), [leads(one), leads(two)]);
    drop(back);
    let gone = Controller::start(options(directory.path())).unwrap();
    assert_eq!(replicas(&gone), [leads(one), (two, -1, vec![], vec![1])]);
    // Its log was carried over by hand.
    gone.assign_directories(vec![lies(1, one)]).await.unwrap();
    assert_eq!(replicas(&gone), [leads(one), leads(one)]);
}

/// Every file below `directory` with its bytes.

#[test]
fn errors_name_the_file_and_the_remedy() {
    let error =
        ControllerError::OtherVoters { file: "/d/quorum-state".into(), voters: vec![1, 2], node_id: 1 };
    let message = error.to_string();
    assert!(message.starts_with("/d/quorum-state: ") && message.contains("Apache Kafka"), "{message}");
}

#[tokio::test]
async fn the_defaults_of_the_broker_count_for_new_topics() {
    let directory = tempfile::tempdir().unwrap();
    let flags = vec![
        ("num.partitions".to_owned(), "4".to_owned()),
        ("delete.topic.enable".to_owned(), "false".to_owned()),
    ];
    let config = Arc::new(BrokerConfig::load(Layers { flags, ..Layers::default() }).unwrap().0);
    let controller = Controller::start(ControllerOptions { config, ..options(directory.path()) }).unwrap();
    let topic = CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("t", -1, &[]) };
    assert_eq!(create(&controller, vec![topic]).await, [ErrorCode::None]);
    assert_eq!(controller.image().topic("t").unwrap().partitions.len(), 4);
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    let response = controller.delete_topics(request).await;
    assert_eq!(ErrorCode::from_wire(response.responses[0].error_code), ErrorCode::TopicDeletionDisabled);
}
