//! Topics, configurations, offsets and the rest that tools ask of a broker, in every version.

use klamm::protocol::messages::alter_configs_request as alter;
use klamm::protocol::messages::api_versions_request::ApiVersionsRequest;
use klamm::protocol::messages::api_versions_response::ApiVersionsResponse;
use klamm::protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use klamm::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use klamm::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use klamm::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use klamm::protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use klamm::protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use klamm::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use klamm::protocol::messages::incremental_alter_configs_request as incremental;
use klamm::protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use klamm::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use klamm::protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use klamm::protocol::messages::produce_request::ProduceRequest;
use klamm::protocol::{ApiKey, Decoder, Message as _, Request, Str};
use klamm::types::Uuid;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Client, TestBroker, batch, batch_at, name_of, now_ms};

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::KEY.api().versions()
}

fn metadata(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some(Str::from(*name)),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

#[tokio::test]
async fn only_what_is_built_is_advertised_in_every_version_of_api_versions() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    for version in versions::<ApiVersionsRequest>() {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("test"),
            client_software_version: Str::from("1.0"),
            ..ApiVersionsRequest::default()
        };
        let response = client.ask(version, &request).await;
        assert_eq!(response.error_code, 0);
        let range = |key: ApiKey| {
            let found = response.api_keys.iter().find(|api| api.api_key == key as i16);
            found.map(|api| (api.min_version, api.max_version))
        };
        assert_eq!(range(ApiKey::Produce), Some((0, 13)), "old librdkafka takes 3 for 'no compression'");
        assert_eq!(range(ApiKey::Fetch), Some((4, 18)));
        assert_eq!(range(ApiKey::InitProducerId), Some((0, 5)), "6 is not stable");
        for absent in [ApiKey::EndTxn, ApiKey::ShareFetch, ApiKey::PushTelemetry] {
            assert_eq!(range(absent), None);
        }
        if version >= 3 {
            let finalized = |name: &str| response.finalized_features.iter().find(|f| f.name == name).unwrap();
            assert_eq!(finalized("metadata.version").max_version_level, 30);
            assert!(response.supported_features.iter().any(|feature| feature.name == "transaction.version"));
        }
    }
    let bad_name =
        ApiVersionsRequest { client_software_name: Str::from("-"), ..ApiVersionsRequest::default() };
    assert_eq!(name_of(client.ask(3, &bad_name).await.error_code), "INVALID_REQUEST");
}

#[tokio::test]
async fn s1_8_an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.stream.write_all(b"\0\0\0\x0b\0\x12\0\x63\0\0\0\x05\xff\xff\0").await.unwrap();
    let mut decoder = Decoder::new(client.receive_frame().await);
    assert_eq!(decoder.int32(), 5);
    let response = ApiVersionsResponse::decode(&mut decoder, 0).unwrap();
    assert_eq!(name_of(response.error_code), "UNSUPPORTED_VERSION");
    assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 4));
    assert_eq!(client.ask(4, &greeting()).await.error_code, 0, "the connection goes on");
}

fn greeting() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: Str::from("a"),
        client_software_version: Str::from("1"),
        ..ApiVersionsRequest::default()
    }
}

#[tokio::test]
async fn s1_8_a_request_that_is_none_closes_its_connection_and_no_other() {
    let broker = TestBroker::start().await;
    let mut bystander = broker.connect();
    let bad: [&[u8]; 6] = [
        b"\0\0\0\x0a\x03\xe8\0\0\0\0\0\x05\xff\xff", // API key 1000
        b"\0\0\0\x0a\0\0\0\x02\0\0\0\x05\xff\xff",   // Produce 2
        b"\0\0\0\x0a\0\x0b\0\0\0\0\0\x05\xff\xff",   // JoinGroup, which is not served
        b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x05\xff\xff\x7f\xff\xff\xff", // an array of 2^31 topics
        b"\0\0\0\x0c\0\x03\0\x01\0\0\0\x05\0\x50ab", // a client id longer than the frame
        b"\0\0\0\x0c\0\x03\0\x01\0\0\0\x05\0\x02\xff\xfe", // a client id that is not UTF-8
    ];
    for bytes in bad {
        let mut client = broker.connect();
        client.stream.write_all(bytes).await.unwrap();
        assert!(client.is_closed().await, "{bytes:?}");
    }
    assert_eq!(bystander.ask(4, &greeting()).await.error_code, 0);
}

#[tokio::test]
async fn metadata_describes_and_creates_in_every_version() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 2, &[]).await;
    for version in versions::<MetadataRequest>() {
        let all = MetadataRequest {
            topics: if version == 0 { Some(vec![]) } else { None },
            ..MetadataRequest::default()
        };
        let response = client.ask(version, &all).await;
        assert_eq!((response.brokers.len(), response.topics[0].partitions.len()), (1, 2), "{version}");
        assert_eq!(response.topics[0].partitions[1].leader_id, 1);
        if version > 0 {
            let nothing = MetadataRequest { allow_auto_topic_creation: version < 4, ..metadata(&[]) };
            assert!(client.ask(version, &nothing).await.topics.is_empty(), "{version}");
        }
        let mut request = metadata(&["missing", "no/name"]);
        request.allow_auto_topic_creation = version < 4;
        let missing = client.ask(version, &request).await;
        let codes: Vec<&str> = missing.topics.iter().map(|topic| name_of(topic.error_code)).collect();
        let expected = if version < 4 { "NONE" } else { "UNKNOWN_TOPIC_OR_PARTITION" };
        assert_eq!(codes, [expected, "INVALID_TOPIC_EXCEPTION"], "{version}");
        if version < 4 {
            delete(&mut client, "missing").await;
        }
    }
    let by_id = MetadataRequestTopic { topic_id: id, name: None, ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![by_id]), ..MetadataRequest::default() };
    let response = client.ask(12, &request).await;
    assert_eq!(response.topics[0].name.as_deref(), Some("t"));
    let mut created = metadata(&["made"]);
    created.allow_auto_topic_creation = true;
    let response = client.ask_latest(&created).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 1));
    assert_eq!(client.produce("made", 0, batch([&b"x"[..]])).await.base_offset, 0, "it is there at once");
}

async fn delete(client: &mut Client, name: &str) {
    let topic = DeleteTopicState { name: Some(Str::from(name)), ..DeleteTopicState::default() };
    let request =
        DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1_000, ..DeleteTopicsRequest::default() };
    assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
}

#[tokio::test]
async fn topics_are_made_grown_and_deleted_on_disk() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let first = client.create_topic("t", 1, &[]).await;
    let more =
        CreatePartitionsTopic { name: Str::from("t"), count: 3, assignments: None, ..Default::default() };
    let request = CreatePartitionsRequest { topics: vec![more], timeout_ms: 1_000, ..Default::default() };
    assert_eq!(client.ask_latest(&request).await.results[0].error_code, 0);
    assert_eq!(client.produce("t", 2, batch([&b"x"[..]])).await.base_offset, 0);
    assert!(broker.dir().join("t-2/00000000000000000000.log").exists());

    delete(&mut client, "t").await;
    let gone = client.produce("t", 0, batch([&b"x"[..]])).await;
    assert_eq!(name_of(gone.error_code), "UNKNOWN_TOPIC_OR_PARTITION");
    assert!(!broker.dir().join("t-0").exists(), "renamed on its way out");
    let again = client.create_topic("t", 1, &[]).await;
    assert_ne!(first, again);
    assert_eq!(client.produce("t", 0, batch([&b"x"[..]])).await.base_offset, 0);
}

#[tokio::test]
async fn list_offsets_finds_times_and_special_times() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let now = now_ms();
    for (at, values) in [(now - 100, 2), (now, 3), (now - 50, 1)] {
        client.produce("t", 0, batch_at(at, vec![&b"x"[..]; values])).await;
    }
    let cases = [
        (-1, -1, 6, 1),
        (-2, -1, 0, 1),
        (-3, now, 2, 7),
        (-4, -1, 0, 8),
        (-5, -1, -1, 9),
        (-6, -1, -1, 11),
        (now - 100, now - 100, 0, 1),
        (now - 99, now, 2, 1),
        (now + 1, -1, -1, 1),
    ];
    for version in versions::<ListOffsetsRequest>() {
        for (timestamp, found_at, offset, since) in cases {
            let partition = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
            let topic =
                ListOffsetsTopic { name: Str::from("t"), partitions: vec![partition], ..Default::default() };
            let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
            let response = client.ask(version, &request).await;
            let answer = &response.topics[0].partitions[0];
            if version < since {
                assert_eq!(name_of(answer.error_code), "UNSUPPORTED_VERSION", "{version} {timestamp}");
            } else {
                assert_eq!((answer.timestamp, answer.offset), (found_at, offset), "{version} {timestamp}");
            }
        }
    }
}

#[tokio::test]
async fn deleted_records_stay_deleted_over_a_restart() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(vec![&b"x"[..]; 10])).await;
    let request = |offset| {
        let partition = DeleteRecordsPartition { offset, ..DeleteRecordsPartition::default() };
        let topic =
            DeleteRecordsTopic { name: Str::from("t"), partitions: vec![partition], ..Default::default() };
        DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000, ..DeleteRecordsRequest::default() }
    };
    for version in versions::<DeleteRecordsRequest>() {
        let answer = client.ask(version, &request(4)).await;
        assert_eq!(answer.topics[0].partitions[0].low_watermark, 4);
        let beyond = client.ask(version, &request(11)).await;
        assert_eq!(name_of(beyond.topics[0].partitions[0].error_code), "OFFSET_OUT_OF_RANGE");
    }
    broker.restart().await;
    let mut client = broker.connect();
    assert_eq!(client.ask_latest(&request(0)).await.topics[0].partitions[0].low_watermark, 4);
    assert_eq!(client.ask_latest(&request(-1)).await.topics[0].partitions[0].low_watermark, 10);
}

#[tokio::test]
async fn leader_epochs_have_their_ends() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(vec![&b"x"[..]; 3])).await;
    for version in versions::<OffsetForLeaderEpochRequest>() {
        for (leader_epoch, current, end, code) in [(0, -1, 3, "NONE"), (0, 7, -1, "UNKNOWN_LEADER_EPOCH")] {
            let partition = OffsetForLeaderPartition {
                leader_epoch,
                current_leader_epoch: current,
                ..Default::default()
            };
            let topic = OffsetForLeaderTopic {
                topic: Str::from("t"),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
            let response = client.ask(version, &request).await;
            let answer = &response.topics[0].partitions[0];
            assert_eq!((answer.end_offset, name_of(answer.error_code)), (end, code), "{version}");
        }
    }
}

fn config_request(resource_type: i8, name: &str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: Str::from(name),
        ..DescribeConfigsResource::default()
    };
    DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() }
}

async fn value_of(client: &mut Client, resource_type: i8, name: &str, key: &str) -> (Option<String>, i8) {
    let response = client.ask_latest(&config_request(resource_type, name)).await;
    assert_eq!(response.results[0].error_code, 0, "{:?}", response.results[0].error_message);
    let entry = response.results[0].configs.iter().find(|config| config.name == key).unwrap();
    (entry.value.as_ref().map(ToString::to_string), entry.config_source)
}

async fn set(client: &mut Client, resource_type: i8, name: &str, key: &str, value: Option<&str>) -> i16 {
    let config = incremental::AlterableConfig {
        name: Str::from(key),
        config_operation: i8::from(value.is_none()),
        value: value.map(Str::from),
        ..Default::default()
    };
    let resource = incremental::AlterConfigsResource {
        resource_type,
        resource_name: Str::from(name),
        configs: vec![config],
        ..Default::default()
    };
    let request =
        incremental::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.ask_latest(&request).await.responses[0].error_code
}

#[tokio::test]
async fn settings_say_where_they_come_from_and_act_at_once() {
    let broker = TestBroker::with(1, &[("log.retention.ms", "1000000")]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    for version in versions::<DescribeConfigsRequest>() {
        let response = client.ask(version, &config_request(TOPIC, "t")).await;
        assert!(response.results[0].configs.len() > 20, "{version}");
    }
    let retention = value_of(&mut client, TOPIC, "t", "retention.ms").await;
    assert_eq!(retention, (Some("1000000".to_owned()), 4), "from the broker's own file or flags");
    assert_eq!(set(&mut client, TOPIC, "t", "max.message.bytes", Some("100")).await, 0);
    assert_eq!(value_of(&mut client, TOPIC, "t", "max.message.bytes").await, (Some("100".to_owned()), 1));
    let large = client.produce("t", 0, batch([&[0; 200][..]])).await;
    assert_eq!(name_of(large.error_code), "MESSAGE_TOO_LARGE");
    assert_eq!(set(&mut client, TOPIC, "t", "max.message.bytes", None).await, 0);
    assert_eq!(client.produce("t", 0, batch([&[0; 200][..]])).await.error_code, 0);

    assert_eq!(set(&mut client, BROKER, "", "message.max.bytes", Some("100")).await, 0);
    let large = client.produce("t", 0, batch([&[0; 200][..]])).await;
    assert_eq!(name_of(large.error_code), "MESSAGE_TOO_LARGE", "the cluster's default reaches topics");
    assert_eq!(value_of(&mut client, BROKER, "1", "message.max.bytes").await, (Some("100".to_owned()), 3));
    assert_eq!(
        name_of(set(&mut client, TOPIC, "t", "remote.storage.enable", Some("true")).await),
        "INVALID_CONFIG"
    );
    assert_eq!(name_of(set(&mut client, TOPIC, "t", "no.such.key", Some("1")).await), "INVALID_CONFIG");
    let other = client.ask_latest(&config_request(BROKER, "7")).await;
    assert_eq!(name_of(other.results[0].error_code), "INVALID_REQUEST");
    let unknown = client.ask_latest(&config_request(TOPIC, "nope")).await;
    assert_eq!(name_of(unknown.results[0].error_code), "UNKNOWN_TOPIC_OR_PARTITION");

    let entry = alter::AlterableConfig {
        name: Str::from("retention.ms"),
        value: Some(Str::from("5")),
        ..Default::default()
    };
    let resource = alter::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: Str::from("t"),
        configs: vec![entry],
        ..Default::default()
    };
    for version in versions::<alter::AlterConfigsRequest>() {
        let request = alter::AlterConfigsRequest { resources: vec![resource.clone()], ..Default::default() };
        assert_eq!(client.ask(version, &request).await.responses[0].error_code, 0);
    }
    assert_eq!(value_of(&mut client, TOPIC, "t", "retention.ms").await, (Some("5".to_owned()), 1));
}

#[tokio::test]
async fn config_resources_are_listed_by_kind() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    assert!(client.ask(0, &ListConfigResourcesRequest::default()).await.config_resources.is_empty());
    let topics = ListConfigResourcesRequest { resource_types: vec![2, 4], ..Default::default() };
    let listed = client.ask(1, &topics).await.config_resources;
    let listed: Vec<(&str, i8)> =
        listed.iter().map(|it| (it.resource_name.as_str(), it.resource_type)).collect();
    assert_eq!(listed, [("t", 2), ("1", 4)]);
    let unknown = ListConfigResourcesRequest { resource_types: vec![99], ..Default::default() };
    assert_eq!(name_of(client.ask(1, &unknown).await.error_code), "UNSUPPORTED_VERSION");
}

#[tokio::test]
async fn s1_8_topic_partitions_come_a_page_at_a_time() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    for (topic, partitions) in [("a", 3), ("b", 2), ("c", 1)] {
        client.create_topic(topic, partitions, &[]).await;
    }
    let mut request = DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let response = client.ask_latest(&request).await;
        let page: Vec<(String, usize)> = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.partitions.len()))
            .collect();
        pages.push(page);
        let Some(next) = response.next_cursor else { break };
        request.cursor = Some(Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Cursor::default()
        });
    }
    let page = |topics: &[(&str, usize)]| {
        topics.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>()
    };
    assert_eq!(pages, [page(&[("a", 2)]), page(&[("a", 1), ("b", 1)]), page(&[("b", 1), ("c", 1)])]);
    let asked = TopicRequest { name: Str::from("nope"), ..TopicRequest::default() };
    let response = client
        .ask_latest(&DescribeTopicPartitionsRequest { topics: vec![asked], ..Default::default() })
        .await;
    assert_eq!(name_of(response.topics[0].error_code), "UNKNOWN_TOPIC_OR_PARTITION");
}

#[tokio::test]
async fn the_cluster_its_directories_and_its_missing_coordinators_are_described() {
    let broker = TestBroker::with(2, &[]).await;
    let mut client = broker.connect();
    client.create_topic("t", 4, &[]).await;
    for version in versions::<DescribeClusterRequest>() {
        let response = client.ask(version, &DescribeClusterRequest::default()).await;
        assert_eq!((response.brokers.len(), response.controller_id, response.cluster_id.len()), (1, 1, 22));
    }
    let controllers = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
    assert_eq!(name_of(client.ask(1, &controllers).await.error_code), "MISMATCHED_ENDPOINT_TYPE");
    for version in versions::<DescribeLogDirsRequest>() {
        let response =
            client.ask(version, &DescribeLogDirsRequest { topics: None, ..Default::default() }).await;
        let spread: Vec<usize> = response
            .results
            .iter()
            .map(|dir| dir.topics.iter().map(|topic| topic.partitions.len()).sum())
            .collect();
        assert_eq!(spread, [2, 2], "partitions are spread over the directories");
    }
    // Version 0 can ask for groups only, and they are coordinated.
    for version in 1..=*versions::<FindCoordinatorRequest>().end() {
        let (key, keys) = match version {
            ..4 => (Str::from("g"), vec![]),
            _ => (Str::empty(), vec![Str::from("g"), Str::from("h")]),
        };
        let request =
            FindCoordinatorRequest { key, coordinator_keys: keys, key_type: 1, ..Default::default() };
        let response = client.ask(version, &request).await;
        let code = if version >= 4 { response.coordinators[1].error_code } else { response.error_code };
        assert_eq!(name_of(code), "COORDINATOR_NOT_AVAILABLE", "{version}");
    }
}

#[tokio::test]
async fn s1_8_names_that_would_leave_the_directory_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    for name in ["../x", "a/b", "a\0b", ".", "..", "", &"x".repeat(250)] {
        let mut request = metadata(&[name]);
        request.allow_auto_topic_creation = true;
        let response = client.ask_latest(&request).await;
        assert_eq!(name_of(response.topics[0].error_code), "INVALID_TOPIC_EXCEPTION", "{name:?}");
    }
    let odd = format!("x.{}-delete", Uuid([1; 16]));
    client.create_topic(&odd, 1, &[]).await;
    assert_eq!(client.produce(&odd, 0, batch([&b"x"[..]])).await.base_offset, 0);
    client.send(12, &ProduceRequest { acks: 1, ..ProduceRequest::default() }).await;
    assert!(client.receive::<ProduceRequest>().await.responses.is_empty());
}

#[tokio::test]
async fn retention_moves_the_log_start_and_a_delayed_delete_removes_the_folder() {
    let settings = [("log.retention.check.interval.ms", "20"), ("log.segment.delete.delay.ms", "50")];
    let broker = TestBroker::with(1, &settings).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[("segment.bytes", "1048576"), ("retention.ms", "1000")]).await;
    let long_ago = now_ms() - 3_600_000;
    for _ in 0..30 {
        client.produce("t", 0, batch_at(long_ago, [&[0; 100_000][..]])).await;
    }
    let earliest = ListOffsetsPartition { timestamp: -2, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: Str::from("t"), partitions: vec![earliest], ..Default::default() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    while client.ask_latest(&request).await.topics[0].partitions[0].offset < 10 {
        tokio::task::yield_now().await;
    }
    delete(&mut client, "t").await;
    let is_there = || {
        std::fs::read_dir(broker.dir())
            .unwrap()
            .any(|it| it.unwrap().file_name().to_str().unwrap().starts_with("t-0"))
    };
    while is_there() {
        tokio::task::yield_now().await;
    }
}
