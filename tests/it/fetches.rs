//! Fetch as a consumer sees it: limits, waiting, sessions, isolation, epochs.

use std::time::Duration;

use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use klamm::protocol::messages::fetch_response::{FetchResponse, PartitionData};
use klamm::protocol::messages::produce_request::ProduceRequest;
use klamm::protocol::{Message, Records, Str};
use klamm::record::batches;
use klamm::types::Uuid;

use crate::harness::{TestBroker, batch, name_of, produce_request};

/// A fetch of one partition by name (up to version 12) or id, answered at once.
fn fetch(topic: &str, id: Uuid, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    });
    let topic = FetchTopic {
        topic: Str::from(topic),
        topic_id: id,
        partitions: partitions.collect(),
        ..FetchTopic::default()
    };
    FetchRequest { max_wait_ms: 0, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() }
}

fn only(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, 0, "{}", name_of(response.error_code));
    assert_eq!((response.responses.len(), response.responses[0].partitions.len()), (1, 1));
    &response.responses[0].partitions[0]
}

/// The offset ranges of the whole batches in an answer.
fn offsets(data: &PartitionData) -> Vec<(i64, i64)> {
    let Some(Records::Inline(bytes)) = &data.records else { panic!("no records field") };
    let whole = batches(bytes).map_while(Result::ok);
    whole.map(|batch| (batch.header.base_offset.0, batch.header.last_offset().0)).collect()
}

#[tokio::test]
async fn every_version_of_produce_and_fetch_carries_the_same_records() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 1, &[]).await;
    let mut expected = Vec::new();
    for version in ProduceRequest::VERSIONS {
        let mut request = produce_request("t", 0, 1, batch([&b"one"[..], b"two"]));
        request.topic_data[0].topic_id = id;
        let response = client.ask(version, &request).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, expected.len() as i64 * 2), "{version}");
        expected.push((answer.base_offset, answer.base_offset + 1));
    }
    for version in FetchRequest::VERSIONS {
        let response = client.ask(version, &fetch("t", id, &[(0, 0)])).await;
        let data = only(&response);
        assert_eq!(offsets(data), expected, "{version}");
        assert_eq!((data.high_watermark, data.last_stable_offset), (22, 22), "{version}");
    }
}

#[tokio::test]
async fn a_fetch_inside_a_batch_returns_the_whole_batch_even_beyond_the_limits() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 2, &[]).await;
    for _ in 0..3 {
        client.produce("t", 0, batch([&[1; 500][..], &[2; 500]])).await;
        client.produce("t", 1, batch([&[3; 500][..]])).await;
    }
    let mut request = fetch("t", id, &[(0, 3), (1, 0)]);
    (request.max_bytes, request.min_bytes) = (10, 10_000);
    request.topics[0].partitions[0].partition_max_bytes = 10;
    let response = client.ask_latest(&request).await;
    let [first, second] = &response.responses[0].partitions[..] else { panic!("two partitions") };
    assert_eq!(offsets(first), [(2, 3)]);
    assert_eq!(offsets(second), [], "only the first partition is beyond the limit");
    assert_eq!(second.high_watermark, 3);
}

#[tokio::test]
async fn errors_of_one_partition_leave_the_others_alone() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch([&b"x"[..]])).await;
    let cases =
        [(0, 0, "NONE"), (0, 1, "NONE"), (0, 2, "OFFSET_OUT_OF_RANGE"), (7, 0, "UNKNOWN_TOPIC_OR_PARTITION")];
    for (partition, offset, code) in cases {
        let response = client.ask_latest(&fetch("t", id, &[(partition, offset)])).await;
        assert_eq!(name_of(only(&response).error_code), code, "{partition} {offset}");
    }
    let unknown = client.ask_latest(&fetch("t", Uuid([9; 16]), &[(0, 0)])).await;
    assert_eq!(name_of(only(&unknown).error_code), "UNKNOWN_TOPIC_ID");
    let unknown = client.ask(12, &fetch("nope", id, &[(0, 0)])).await;
    assert_eq!(name_of(only(&unknown).error_code), "UNKNOWN_TOPIC_OR_PARTITION");
    let mut fenced = fetch("t", id, &[(0, 0)]);
    for (epoch, code) in [(0, "NONE"), (5, "UNKNOWN_LEADER_EPOCH")] {
        fenced.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(name_of(only(&client.ask_latest(&fenced).await).error_code), code);
    }
    let mut replica = fetch("t", id, &[(0, 0)]);
    replica.replica_state.replica_id = 2;
    let response = client.ask_latest(&replica).await;
    assert_eq!(name_of(only(&response).error_code), "NOT_LEADER_OR_FOLLOWER", "nobody forges a replica");
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_record_and_holds_no_append_back() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 1, &[]).await;
    let mut poll = fetch("t", id, &[(0, 0)]);
    poll.max_wait_ms = 60_000;
    client.send(17, &poll).await;
    // The append on the same connection is what ends the poll: were it held back, both would wait.
    client.send(9, &produce_request("t", 0, -1, batch([&b"x"[..]]))).await;
    assert_eq!(offsets(only(&client.receive::<FetchRequest>().await)), [(0, 0)]);
    assert_eq!(client.receive::<ProduceRequest>().await.responses[0].partition_responses[0].base_offset, 0);
}

#[tokio::test]
async fn min_bytes_are_waited_for_over_all_partitions() {
    let broker = TestBroker::start().await;
    let (mut consumer, mut producer) = (broker.connect(), broker.connect());
    let id = producer.create_topic("t", 2, &[]).await;
    let mut poll = fetch("t", id, &[(0, 0), (1, 0)]);
    (poll.max_wait_ms, poll.min_bytes) = (60_000, 1_000);
    consumer.send(17, &poll).await;
    producer.produce("t", 0, batch([&[1; 400][..]])).await;
    let mut byte = [0];
    assert!(consumer.stream.try_read(&mut byte).is_err(), "400 bytes are too few");
    producer.produce("t", 1, batch([&[1; 600][..]])).await;
    let response = consumer.receive::<FetchRequest>().await;
    let lens: Vec<usize> = response.responses[0].partitions.iter().map(|data| offsets(data).len()).collect();
    assert_eq!(lens, [1, 1]);
}

#[tokio::test]
async fn a_poll_ends_empty_when_its_time_is_over_or_the_broker_stops() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 1, &[]).await;
    let mut poll = fetch("t", id, &[(0, 0)]);
    poll.max_wait_ms = 20;
    assert_eq!(offsets(only(&client.ask_latest(&poll).await)), []);
    poll.max_wait_ms = 600_000;
    client.send(17, &poll).await;
    // The next answer shows that the poll has been taken in.
    let mut other = broker.connect();
    other.create_topic("u", 1, &[]).await;
    let stopping = tokio::time::timeout(Duration::from_secs(10), broker.stop());
    let (stopped, response) = tokio::join!(stopping, client.receive::<FetchRequest>());
    stopped.unwrap();
    assert_eq!(offsets(only(&response)), []);
}

#[tokio::test]
async fn a_session_answers_only_what_is_new() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 3, &[]).await;
    let mut full = fetch("t", id, &[(0, 0), (1, 0), (2, 0)]);
    full.session_epoch = 0;
    let opened = client.ask_latest(&full).await;
    assert_ne!(opened.session_id, 0);
    assert_eq!(opened.responses[0].partitions.len(), 3);

    client.produce("t", 1, batch([&b"x"[..]])).await;
    let mut incremental = FetchRequest { topics: Vec::new(), ..full.clone() };
    (incremental.session_id, incremental.session_epoch) = (opened.session_id, 1);
    let news = client.ask_latest(&incremental).await;
    assert_eq!((only(&news).partition_index, offsets(only(&news))), (1, vec![(0, 0)]));

    incremental.topics = fetch("t", id, &[(1, 1)]).topics;
    incremental.session_epoch = 2;
    assert!(client.ask_latest(&incremental).await.responses.is_empty());

    incremental.topics.clear();
    incremental.session_epoch = 3;
    let forgotten = ForgottenTopic { topic_id: id, partitions: vec![0, 1], ..ForgottenTopic::default() };
    incremental.forgotten_topics_data = vec![forgotten];
    client.produce("t", 0, batch([&b"x"[..]])).await;
    client.produce("t", 2, batch([&b"x"[..]])).await;
    assert_eq!(only(&client.ask_latest(&incremental).await).partition_index, 2);

    let wrong_epoch = client.ask_latest(&incremental).await;
    assert_eq!(name_of(wrong_epoch.error_code), "INVALID_FETCH_SESSION_EPOCH");
    incremental.session_id ^= 1;
    let unknown = client.ask_latest(&incremental).await;
    assert_eq!(name_of(unknown.error_code), "FETCH_SESSION_ID_NOT_FOUND");
}
