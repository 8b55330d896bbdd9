//! What time, size and DeleteRecords take from a log: Kafka's segments, suffixes and delays.

use std::collections::BTreeSet;
use std::fs;

use klamm::protocol::Str;
use klamm::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::harness::{Client, TestBroker, batch_at, name_of, now_ms};

/// Looks at once and often; what it deletes stays under its new name for an hour.
const SETTINGS: [(&str, &str); 3] = [
    ("log.retention.check.interval.ms", "10"),
    ("log.initial.task.delay.ms", "0"),
    ("log.segment.delete.delay.ms", "3600000"),
];

/// Twelve batches of 100 kB, written an hour ago, ten to a segment.
async fn twelve(client: &mut Client, configs: &[(&str, &str)]) {
    let configs: Vec<_> = [("segment.bytes", "1048576")].into_iter().chain(configs.iter().copied()).collect();
    client.create_topic("t", 1, &configs).await;
    for offset in 0..12 {
        let answer = client.produce("t", 0, batch_at(now_ms() - 3_600_000, [&[0; 100_000][..]])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
}

/// The files of `t-0` whose names end so, by their offsets.
fn files(broker: &TestBroker, ending: &str) -> BTreeSet<i64> {
    let names = fs::read_dir(broker.dir().join("t-0")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(ending)?.parse().ok()).collect()
}

async fn until(broker: &TestBroker, is_so: impl Fn(&TestBroker) -> bool) {
    while !is_so(broker) {
        tokio::task::yield_now().await;
    }
}

async fn delete_before(client: &mut Client, topic: &str, offset: i64) -> (&'static str, i64) {
    let topic = DeleteRecordsTopic {
        name: Str::from(topic),
        partitions: vec![DeleteRecordsPartition { offset, ..DeleteRecordsPartition::default() }],
        ..DeleteRecordsTopic::default()
    };
    let request =
        DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000, ..DeleteRecordsRequest::default() };
    let answer = client.ask_latest(&request).await;
    let partition = &answer.topics[0].partitions[0];
    (name_of(partition.error_code), partition.low_watermark)
}

#[tokio::test]
async fn deleted_files_go_once_their_delay_is_over() {
    let mut settings = SETTINGS;
    settings[2].1 = "100";
    let broker = TestBroker::with(1, &settings).await;
    let mut client = broker.connect();
    twelve(&mut client, &[("retention.ms", "-1")]).await;
    assert_eq!(delete_before(&mut client, "t", 11).await, ("NONE", 11));
    until(&broker, |broker| files(broker, ".log") == [10].into()).await;
    until(&broker, |broker| files(broker, ".log.deleted").is_empty()).await;
}

#[tokio::test]
async fn time_takes_even_the_active_segment_and_its_files_wait_under_another_name() {
    let mut broker = TestBroker::with(1, &SETTINGS).await;
    let mut client = broker.connect();
    twelve(&mut client, &[("retention.ms", "-1")]).await;
    let config = AlterableConfig {
        name: Str::from("retention.ms"),
        value: Some(Str::from("60000")),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: Str::from("t"),
        configs: vec![config],
        ..AlterConfigsResource::default()
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..IncrementalAlterConfigsRequest::default()
    };
    assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
    until(&broker, |broker| files(broker, ".log") == [12].into()).await;
    assert_eq!(client.fetch_code("t", 0, 11).await, "OFFSET_OUT_OF_RANGE");
    let gone: BTreeSet<i64> = [0, 10].into();
    for ending in [".log.deleted", ".index.deleted", ".timeindex.deleted"] {
        assert_eq!(files(&broker, ending), gone, "{ending}");
    }
    assert_eq!(files(&broker, ".snapshot.deleted"), [10].into());
    broker.restart().await;
    assert_eq!(files(&broker, ".log.deleted"), BTreeSet::new(), "a start removes what a stop left waiting");
    let mut client = broker.connect();
    let answer = client.produce("t", 0, batch_at(now_ms(), [&b"x"[..]])).await;
    assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (0, 12, 12));
}

#[tokio::test]
async fn size_takes_whole_segments_as_long_as_enough_is_left() {
    let broker = TestBroker::with(1, &SETTINGS).await;
    let mut client = broker.connect();
    twelve(&mut client, &[("retention.ms", "-1"), ("retention.bytes", "200000")]).await;
    until(&broker, |broker| files(broker, ".log") == [10].into()).await;
    assert_eq!(client.fetch_code("t", 0, 9).await, "OFFSET_OUT_OF_RANGE");
    assert_eq!(
        client.read_from("t", 0, 10).await.len(),
        2,
        "200,000 bytes are to stay, and no segment goes in part"
    );
}

#[tokio::test]
async fn deleted_records_are_gone_at_once_and_their_segments_with_the_next_look() {
    let mut broker = TestBroker::with(1, &SETTINGS).await;
    let mut client = broker.connect();
    twelve(&mut client, &[("retention.ms", "-1")]).await;
    assert_eq!(delete_before(&mut client, "t", 5).await, ("NONE", 5));
    assert_eq!(client.fetch_code("t", 0, 4).await, "OFFSET_OUT_OF_RANGE");
    assert_eq!(client.read_from("t", 0, 5).await.len(), 7);
    assert_eq!(delete_before(&mut client, "t", 3).await, ("NONE", 5), "it never goes back");
    assert_eq!(delete_before(&mut client, "t", 13).await, ("OFFSET_OUT_OF_RANGE", -1));
    assert_eq!(files(&broker, ".log"), [0, 10].into(), "half a segment stays");
    assert_eq!(delete_before(&mut client, "t", 11).await, ("NONE", 11));
    until(&broker, |broker| files(broker, ".log") == [10].into()).await;
    assert_eq!(delete_before(&mut client, "t", -1).await, ("NONE", 12));
    broker.restart().await;
    let mut client = broker.connect();
    assert_eq!(client.fetch_code("t", 0, 11).await, "OFFSET_OUT_OF_RANGE", "a restart brings nothing back");
    assert_eq!(files(&broker, ".log"), [10].into(), "the active segment stays, whatever is deleted in it");
}

#[tokio::test]
async fn records_are_not_deleted_where_nobody_may() {
    let broker = TestBroker::with(1, &SETTINGS).await;
    let mut client = broker.connect();
    client.create_topic("kept", 1, &[("cleanup.policy", "compact")]).await;
    assert_eq!(delete_before(&mut client, "kept", 0).await, ("POLICY_VIOLATION", -1));
    assert_eq!(delete_before(&mut client, "__consumer_offsets", 0).await, ("INVALID_TOPIC_EXCEPTION", -1));
    assert_eq!(delete_before(&mut client, "no", 0).await, ("UNKNOWN_TOPIC_OR_PARTITION", -1));
}
