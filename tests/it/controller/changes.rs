//! Topics, partitions and settings change, or are refused with Kafka's codes.

use super::*;

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
