//! The controller of a lone node, from outside: what it writes is what Kafka writes, what it acknowledges is
//! there after a restart, and what is not its own it leaves alone.

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

#[tokio::test]
async fn topics_are_refused_with_kafkas_codes() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("a.b", 1, &[]), topic("there", 1, &[])]).await;
    let assigned = |assignments: &[(i32, &[i32])]| CreatableTopic {
        name: "assigned".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: assignments
            .iter()
            .map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: broker_ids.to_vec(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let factor = |replication_factor| CreatableTopic { replication_factor, ..topic("f", 1, &[]) };
    let null = CreatableTopic {
        configs: vec![CreatableTopicConfig { name: "retention.ms".into(), ..Default::default() }],
        ..topic("n", 1, &[])
    };
    let cases = [
        (topic("there", 1, &[]), ErrorCode::TopicAlreadyExists),
        (topic("a_b", 1, &[]), ErrorCode::InvalidTopicException),
        (topic("p", 0, &[]), ErrorCode::InvalidPartitions),
        (topic("p", -2, &[]), ErrorCode::InvalidPartitions),
        (topic("p", 10_001, &[]), ErrorCode::PolicyViolation),
        (topic("p", i32::MAX, &[]), ErrorCode::PolicyViolation),
        (factor(2), ErrorCode::InvalidReplicationFactor),
        (factor(0), ErrorCode::InvalidReplicationFactor),
        (topic("c", 1, &[("retention.msx", "1")]), ErrorCode::InvalidConfig),
        (topic("c", 1, &[("retention.ms", "x")]), ErrorCode::InvalidConfig),
        (topic("c", 1, &[("remote.storage.enable", "true")]), ErrorCode::InvalidConfig),
        (null, ErrorCode::InvalidConfig),
        (topic("__cluster_metadata", 1, &[]), ErrorCode::InvalidRequest),
        (assigned(&[(0, &[1]), (0, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[2])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[1, 1])]), ErrorCode::InvalidReplicaAssignment),
        (CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[1])]) }, ErrorCode::InvalidRequest),
    ];
    for (topic, expected) in cases {
        let name = topic.name.clone();
        assert_eq!(create(&controller, vec![topic]).await, [expected], "{name}");
    }
    let twice = create(&controller, vec![topic("x", 1, &[]), topic("x", 1, &[]), topic("y", 1, &[])]).await;
    assert_eq!(twice, [ErrorCode::InvalidRequest, ErrorCode::None], "one answer for both, the other is made");
    assert_eq!(create(&controller, vec![assigned(&[(0, &[1]), (1, &[1])])]).await, [ErrorCode::None]);
    assert_eq!(controller.image().topics().len(), 4);
}

#[tokio::test]
async fn s1_8_topic_names_that_could_reach_beyond_their_folder_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    let long = "x".repeat(250);
    for name in ["", ".", "..", "../etc", "a/b", "a\0b", "a b", "ä", "a\nb", &long] {
        let code = create(&controller, vec![topic(name, 1, &[])]).await;
        assert_eq!(code, [ErrorCode::InvalidTopicException], "{name:?}");
    }
    // Legal in Kafka, and like the folder of a deleted partition only as long as no number follows it.
    let deleted = format!("x.{}-delete", "0123456789abcdef".repeat(2));
    for name in ["...", deleted.as_str(), &"x".repeat(249)] {
        assert_eq!(create(&controller, vec![topic(name, 1, &[])]).await, [ErrorCode::None], "{name:?}");
    }
}

#[tokio::test]
async fn validation_alone_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    let request =
        CreateTopicsRequest { topics: vec![topic("t", 2, &[])], validate_only: true, ..Default::default() };
    let response = controller.create_topics(request).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 2));
    assert!(response.topics[0].configs.as_ref().is_some_and(|configs| configs.len() > 30));
    assert!(controller.image().topics().is_empty());
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("a", 1, &[]), topic("b", 1, &[]), topic("c", 1, &[])]).await;
    let id = controller.image().topic("b").unwrap().id;
    let state = |name: Option<&str>, topic_id| DeleteTopicState {
        name: name.map(Into::into),
        topic_id,
        ..Default::default()
    };
    let asked = vec![
        state(Some("a"), Uuid::ZERO),
        state(Some("c"), Uuid::ZERO),
        state(Some("c"), Uuid::ZERO),
        state(None, id),
        state(Some("gone"), Uuid::ZERO),
        state(None, Uuid([3; 16])),
        state(None, Uuid::ZERO),
        state(Some("a"), id),
    ];
    let request = DeleteTopicsRequest { topics: asked, ..Default::default() };
    let response = controller.delete_topics(request).await;
    let codes: Vec<ErrorCode> =
        response.responses.iter().map(|response| ErrorCode::from_wire(response.error_code)).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicId,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
        ]
    );
    assert_eq!(response.responses[3].name.as_deref(), Some("b"));
    assert_eq!(controller.image().topics().len(), 1, "what was named twice is still there");
}

#[tokio::test]
async fn partitions_are_added_and_never_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 2, &[])]).await;
    for (name, count, expected) in [
        ("t", 2, ErrorCode::InvalidPartitions),
        ("t", 1, ErrorCode::InvalidPartitions),
        ("none", 3, ErrorCode::UnknownTopicOrPartition),
        ("t", 20_000, ErrorCode::PolicyViolation),
        ("t", 5, ErrorCode::None),
    ] {
        let topics =
            vec![CreatePartitionsTopic { name: name.into(), count, assignments: None, ..Default::default() }];
        let request = CreatePartitionsRequest { topics, ..Default::default() };
        let response = controller.create_partitions(request).await;
        assert_eq!(ErrorCode::from_wire(response.results[0].error_code), expected, "{name} {count}");
    }
    assert_eq!(controller.image().topic("t").unwrap().partitions.len(), 5);
}

/// type, name, key, operation, value
type Change<'a> = (i8, &'a str, &'a str, i8, Option<&'a str>);

async fn alter(
    controller: &Controller,
    (kind, name, key, operation, value): Change<'_>,
) -> (ErrorCode, String) {
    let config = AlterableConfig {
        name: key.into(),
        config_operation: operation,
        value: value.map(Into::into),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configs: vec![config],
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = controller.incremental_alter_configs(request).await;
    let response = &response.responses[0];
    let message = response.error_message.as_deref().unwrap_or_default().to_owned();
    (ErrorCode::from_wire(response.error_code), message)
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

#[tokio::test]
async fn settings_change_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[("retention.ms", "5")])]).await;
    let throttled = "leader.replication.throttled.replicas";
    for change in [
        (TOPIC, "t", "retention.bytes", SET, Some("7")),
        (TOPIC, "t", "retention.ms", DELETE, None),
        (TOPIC, "t", throttled, APPEND, Some("0:1,1:1")),
        (TOPIC, "t", throttled, APPEND, Some("0:1,2:1")),
        (TOPIC, "t", throttled, SUBTRACT, Some("1:1")),
        (BROKER, "", "log.retention.ms", SET, Some("9")),
        (BROKER, "1", "message.max.bytes", SET, Some("2000")),
        (GROUP, "g", "consumer.session.timeout.ms", SET, Some("50000")),
    ] {
        let (code, message) = alter(&controller, change).await;
        assert_eq!(code, ErrorCode::None, "{change:?}: {message}");
    }
    let image = controller.image();
    let settings = image.configs(&ConfigResource::topic("t"));
    let expected = [(throttled, "0:1,2:1"), ("retention.bytes", "7")];
    assert_eq!(settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    let config = controller.broker_config();
    assert_eq!(config.topic_defaults.retention_ms, Some(9));
    assert_eq!(config.topic_defaults.max_message_bytes, 2000);
}

#[tokio::test]
async fn settings_are_refused_with_kafkas_codes() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[])]).await;
    for (change, expected, word) in [
        ((TOPIC, "none", "retention.ms", SET, Some("1")), ErrorCode::UnknownTopicOrPartition, "none"),
        ((TOPIC, "", "retention.ms", SET, Some("1")), ErrorCode::InvalidRequest, "Default topic"),
        (
            (TOPIC, "t", "retention.mss", SET, Some("1")),
            ErrorCode::InvalidConfig,
            "did you mean retention.ms?",
        ),
        ((TOPIC, "t", "retention.ms", SET, Some("x")), ErrorCode::InvalidConfig, "Not a number"),
        ((TOPIC, "t", "retention.ms", SET, None), ErrorCode::InvalidRequest, "Null value"),
        ((TOPIC, "t", "retention.ms", APPEND, Some("1")), ErrorCode::InvalidConfig, "not LIST"),
        ((TOPIC, "t", "retention.ms", 9, Some("1")), ErrorCode::InvalidRequest, "operation"),
        (
            (TOPIC, "t", "remote.storage.enable", SET, Some("true")),
            ErrorCode::InvalidConfig,
            "tiered storage",
        ),
        ((BROKER, "", "num.partitions", SET, Some("1")), ErrorCode::InvalidRequest, "dynamically"),
        ((BROKER, "", "listeners", SET, Some("PLAINTEXT://:1")), ErrorCode::InvalidRequest, "dynamically"),
        ((BROKER, "", "ssl.client.auth", SET, Some("none")), ErrorCode::InvalidRequest, "broker level"),
        (
            (BROKER, "2", "message.max.bytes", SET, Some("1")),
            ErrorCode::BrokerIdNotRegistered,
            "not registered",
        ),
        ((BROKER, "x", "message.max.bytes", SET, Some("1")), ErrorCode::InvalidRequest, "broker name"),
        ((BROKER, "1", "message.max.bytes", SET, Some("-1")), ErrorCode::InvalidRequest, "at least 0"),
        ((BROKER, "1", "min.insync.replicas", SET, Some("2")), ErrorCode::InvalidConfig, "ELR"),
        ((BROKER, "", "min.insync.replicas", DELETE, None), ErrorCode::InvalidConfig, "ELR"),
        (
            (GROUP, "", "consumer.session.timeout.ms", SET, Some("1")),
            ErrorCode::InvalidRequest,
            "Default group",
        ),
        ((GROUP, "g", "nonsense", SET, Some("1")), ErrorCode::InvalidConfig, "Unknown group"),
        ((77, "g", "nonsense", SET, Some("1")), ErrorCode::InvalidRequest, "77"),
    ] {
        let (code, message) = alter(&controller, change).await;
        assert_eq!(code, expected, "{change:?}: {message}");
        assert!(message.contains(word), "{change:?}: {message}");
    }
}

#[tokio::test]
async fn a_setting_that_no_record_can_carry_costs_nobody_else_anything() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[])]).await;
    let throttled = "leader.replication.throttled.replicas";
    let long = vec!["0:1"; 10_000].join(",");
    let change = (TOPIC, "t", throttled, SET, Some(long.as_str()));
    assert_eq!(alter(&controller, change).await.0, ErrorCode::InvalidRequest);
    // What fits by itself may not fit any more once it is appended.
    let replicas =
        |from: i32| (from..from + 4_000).map(|number| format!("{number}:1")).collect::<Vec<_>>().join(",");
    let append = |value: String| {
        let controller = controller.clone();
        async move { alter(&controller, (TOPIC, "t", throttled, APPEND, Some(&value))).await.0 }
    };
    assert_eq!(append(replicas(0)).await, ErrorCode::None);
    assert_eq!(append(replicas(4_000)).await, ErrorCode::InvalidRequest);
    let name = "g".repeat(40_000);
    let group = (GROUP, name.as_str(), "consumer.session.timeout.ms", SET, Some("50000"));
    assert_eq!(alter(&controller, group).await.0, ErrorCode::InvalidRequest);
    let created = create(&controller, vec![topic("l", 1, &[(throttled, &long)]), topic("m", 1, &[])]).await;
    assert_eq!(created, [ErrorCode::InvalidRequest, ErrorCode::None]);
    let huge = vec![(throttled, long.as_str()); 120];
    let created = create(&controller, vec![topic("h", 1, &huge)]).await;
    assert_eq!(created, [ErrorCode::PolicyViolation]);
    assert_eq!(create(&controller, vec![topic("after", 1, &[])]).await, [ErrorCode::None]);
}

#[tokio::test]
async fn cve_2023_25194_no_code_is_named_by_a_remote_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    let login = "com.sun.security.auth.module.JndiLoginModule required user.provider.url=\"ldap://x\";";
    for (name, key, value) in [
        ("1", "sasl.jaas.config", login),
        ("1", "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", login),
        ("1", "principal.builder.class", "x.Y"),
        ("1", "ssl.engine.factory.class", "x.Y"),
        ("", "config.providers", "file"),
        ("", "metric.reporters.x", "x.Y"),
    ] {
        let (code, message) = alter(&controller, (BROKER, name, key, SET, Some(value))).await;
        assert_eq!(code, ErrorCode::InvalidRequest, "{key}: {message}");
        assert!(!message.contains("ldap"), "{message}");
    }
}

#[tokio::test]
async fn replacing_settings_removes_what_is_not_named() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[("retention.ms", "5"), ("segment.ms", "6")])]).await;
    let config = alter_configs_request::AlterableConfig {
        name: "segment.ms".into(),
        value: Some("7".into()),
        ..Default::default()
    };
    let resource = alter_configs_request::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![config],
        ..Default::default()
    };
    let twice = AlterConfigsRequest { resources: vec![resource.clone(), resource], ..Default::default() };
    let response = controller.alter_configs(twice).await;
    assert_eq!(response.responses[0].error_code, 0);
    assert_eq!(ErrorCode::from_wire(response.responses[1].error_code), ErrorCode::InvalidRequest);
    let settings = controller.image().configs(&ConfigResource::topic("t"));
    assert_eq!(*settings, BTreeMap::from([("segment.ms".to_owned(), "7".to_owned())]));
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
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Starts on a directory that must be refused and stay as it is; returns the message.
fn refused(options: ControllerOptions) -> String {
    let directory = options.metadata_dir.clone();
    let before = contents(&directory);
    let error = Controller::start(options).expect_err("the directory is refused");
    assert!(contents(&directory) == before, "a byte was changed: {error}");
    error.to_string()
}

fn append_batch(file: &Path, batch: &Bytes) {
    let mut bytes = fs::read(file).unwrap();
    bytes.extend_from_slice(batch);
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_directory_of_another_quorum_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).shutdown().await.unwrap();
    let log = directory.path().join(FIRST_LOG);
    let other_directory = ControllerOptions { metadata_dir_id: Uuid([8; 16]), ..options(directory.path()) };
    assert!(refused(other_directory).contains("has the directory"));
    let other_node = ControllerOptions { node_id: 2, ..options(directory.path()) };
    assert!(refused(other_node).contains("voters [1]"));

    let voter = |voter_id| Voter { voter_id, ..Default::default() };
    let voters = VotersRecord { voters: vec![voter(1), voter(2), voter(3)], ..Default::default() };
    let mut batch = BatchBuilder::new(Compression::NONE).control().at(Offset(16), LeaderEpoch(1));
    batch.append_control(NOW_MS, ControlType::KRaftVoters, &encode_to_bytes(&voters, 0).unwrap());
    append_batch(&log, &batch.build().unwrap());
    let error = refused(options(directory.path()));
    assert!(error.contains("voters [1, 2, 3]") && error.contains(".log"), "{error}");
}

#[tokio::test]
async fn static_voters_are_read_from_quorum_state() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(METADATA);
    fs::create_dir(&folder).unwrap();
    let state = |voters: &str| {
        format!(
            r#"{{"clusterId":"","leaderId":1,"leaderEpoch":4,"votedId":-1,"appliedOffset":0,"currentVoters":[{voters}],"data_version":0}}"#
        )
    };
    fs::write(folder.join("quorum-state"), state(r#"{"voterId":1},{"voterId":2}"#)).unwrap();
    let error = refused(options(directory.path()));
    assert!(error.contains("voters [1, 2]") && error.contains("quorum-state"), "{error}");
    fs::write(folder.join("quorum-state"), state(r#"{"voterId":1}"#)).unwrap();
    let controller = start(directory.path());
    assert_eq!(controller.image().epoch(), LeaderEpoch(5));
    controller.shutdown().await.unwrap();
    let written = fs::read_to_string(folder.join("quorum-state")).unwrap();
    assert_eq!(written, state(r#"{"voterId":1}"#).replace("\"leaderEpoch\":4", "\"leaderEpoch\":5"));
    assert_eq!(dump(&directory.path().join(FIRST_LOG))[1], "0 LeaderChange 19 bytes");
}

#[tokio::test]
async fn a_newer_format_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).shutdown().await.unwrap();
    let log = directory.path().join(FIRST_LOG);
    let original = fs::read(&log).unwrap();
    let value = |bytes: &'static [u8]| {
        let mut batch = BatchBuilder::new(Compression::NONE).at(Offset(16), LeaderEpoch(1));
        batch.append(NOW_MS, None, Some(bytes), []);
        batch.build().unwrap()
    };
    append_batch(&log, &value(b"\x01\x0c\x00\x11metadata.version\x00\x63\x00"));
    assert!(refused(options(directory.path())).contains("metadata.version is 99"));
    fs::write(&log, &original).unwrap();
    append_batch(&log, &value(b"\x01\x70\x00"));
    assert!(refused(options(directory.path())).contains("type 112"));
    fs::write(&log, &original).unwrap();
    let state = directory.path().join(METADATA).join("quorum-state");
    fs::write(&state, r#"{"data_version":2}"#).unwrap();
    assert!(refused(options(directory.path())).contains("data_version is 2"));
}

#[tokio::test]
async fn a_torn_last_batch_is_cut_off_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("kept", 1, &[])]).await;
    drop(controller);
    let log = directory.path().join(FIRST_LOG);
    let whole = fs::read(&log).unwrap();
    for cut in [1, 30, 70] {
        let mut torn = whole.clone();
        torn.extend_from_slice(&whole[..cut]);
        fs::write(&log, torn).unwrap();
        let image = start(directory.path()).image();
        assert!(image.topic("kept").is_some(), "{cut}");
    }
}

#[tokio::test]
async fn a_flipped_byte_of_the_log_is_an_end_or_an_error_and_never_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[])]).await;
    drop(controller);
    let log = directory.path().join(FIRST_LOG);
    let whole = fs::read(&log).unwrap();
    for position in (0..whole.len()).step_by(13) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x5a;
        fs::write(&log, damaged).unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join(METADATA)).unwrap();
        fs::copy(&log, copy.path().join(FIRST_LOG)).unwrap();
        if let Ok(controller) = Controller::start(options(copy.path())) {
            assert!(controller.image().broker(1).is_some(), "{position}");
        }
    }
}

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
