//! Limits on names, and bytes around requests, as a client of a whole broker meets them.

use bytes::Bytes;
use klamm::protocol::Str;
use klamm::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::types::Uuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{TestBroker, batch, name_of, produce_request};

#[tokio::test]
async fn s1_8_acks_other_than_all_one_and_none_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    for acks in [5, 2, -2, i16::MAX] {
        let answer = client.ask(12, &produce_request("t", 0, acks, batch([&b"x"[..]]))).await;
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(name_of(code), "INVALID_REQUIRED_ACKS", "acks={acks}");
    }
}

#[tokio::test]
async fn s1_8_names_that_collide_in_metrics_are_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("a.b_c", 1, &[]).await;
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let topic = CreatableTopic {
            name: Str::from(name),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = client.ask_latest(&request).await;
        assert_eq!(name_of(answer.topics[0].error_code), "INVALID_TOPIC_EXCEPTION", "{name}");
    }
}

/// The folder of such a topic looks like one on its way out, and must not be taken for one.
#[tokio::test]
async fn s1_8_a_topic_named_like_a_deleted_one_lives_on() {
    let mut broker = TestBroker::start().await;
    let hex = "0123456789abcdef0123456789abcdef";
    let names = [format!("x-0.{hex}-delete"), format!("x.{}-delete", Uuid([1; 16])), "x-0-stray".to_owned()];
    let mut ids = Vec::new();
    let mut client = broker.connect();
    for name in &names {
        ids.push(client.create_topic(name, 1, &[]).await);
        assert_eq!(client.produce(name, 0, batch([&b"kept"[..]])).await.base_offset, 0);
    }
    broker.restart().await;
    let mut client = broker.connect();
    for (name, id) in names.iter().zip(ids) {
        let wanted = FetchPartition { partition_max_bytes: 1_000, ..FetchPartition::default() };
        let wanted = FetchTopic { topic_id: id, partitions: vec![wanted], ..FetchTopic::default() };
        let answer =
            client.ask_latest(&FetchRequest { topics: vec![wanted], ..FetchRequest::default() }).await;
        let found = &answer.responses[0].partitions[0];
        assert_eq!((name_of(found.error_code), found.high_watermark), ("NONE", 1), "{name}");
    }
}

/// librdkafka 2.16 asks for the metadata of all topics with three bytes to spare, and Kafka does not mind.
#[tokio::test]
async fn bytes_behind_a_request_are_let_pass() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let frame = Bytes::from_static(b"\0\0\0\x19\0\x03\0\x0d\0\0\0\x05\0\x07rdkafka\0\0\0\0\0\x01\0\0");
    client.stream.write_all(&frame).await.unwrap();
    let size = client.stream.read_i32().await.unwrap();
    assert!(size > 20);
    assert_eq!(client.stream.read_i32().await.unwrap(), 5, "the correlation id");
}
