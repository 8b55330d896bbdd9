//! Produce as a producer sees it: acknowledgements, what is refused and how, idempotence.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use klamm::protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use klamm::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use klamm::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm::protocol::messages::produce_response::PartitionProduceResponse;
use klamm::protocol::{Records, Str};
use klamm::record::{BatchBuilder, Codec, Compression};
use klamm::storage::{Disk as _, FileKind};
use klamm::types::Uuid;

use crate::harness::{TestBroker, batch, batch_at, idempotent, name_of, now_ms, produce_request};

fn syncs(broker: &TestBroker) -> u64 {
    broker.disk.stats().of(FileKind::Log).syncs.load(Ordering::Relaxed)
}

fn code(answer: &PartitionProduceResponse) -> &'static str {
    name_of(answer.error_code)
}

/// Changes bytes of a batch and seals it again where the change is below the CRC.
fn changed(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut changed = BytesMut::from(&batch[..]);
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&changed[21..]);
    changed[17..21].copy_from_slice(&crc.to_be_bytes());
    changed.freeze()
}

#[tokio::test]
async fn pipelined_batches_get_their_offsets_in_order() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    for acks in [1, -1] {
        for _ in 0..50 {
            client.send(12, &produce_request("t", 0, acks, batch([&b"a"[..], b"b", b"c"]))).await;
        }
    }
    for index in 0..100 {
        let response = client.receive::<ProduceRequest>().await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, index * 3);
    }
}

#[tokio::test]
async fn s1_8_each_kind_of_bad_batch_gets_the_error_that_kafka_gives() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let good = batch([&b"one"[..], b"two"]);
    let two_batches: Bytes = [&good[..], &good[..]].concat().into();
    let cut = good.slice(..good.len() - 3);
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    let garbage_gzip = changed(&good, 21, &1_i16.to_be_bytes());
    let cases = [
        ("record count", changed(&good, 57, &3_i32.to_be_bytes()), "INVALID_RECORD"),
        ("no record", changed(&good, 57, &0_i32.to_be_bytes()), "INVALID_RECORD"),
        ("last offset delta", changed(&good, 23, &7_i32.to_be_bytes()), "INVALID_RECORD"),
        ("control bit", changed(&good, 21, &0x20_i16.to_be_bytes()), "INVALID_RECORD"),
        ("base offset", changed(&good, 0, &5_i64.to_be_bytes()), "INVALID_RECORD"),
        ("two batches", two_batches, "INVALID_RECORD"),
        ("no batch", Bytes::new(), "INVALID_RECORD"),
        ("garbage gzip", garbage_gzip, "INVALID_RECORD"),
        ("codec 5", changed(&good, 21, &5_i16.to_be_bytes()), "INVALID_RECORD"),
        ("crc", flipped.freeze(), "CORRUPT_MESSAGE"),
        (
            "transactional bit",
            changed(&good, 21, &0x10_i16.to_be_bytes()),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        ),
        ("future", batch_at(now_ms() + 7_200_000, [&b"x"[..]]), "INVALID_TIMESTAMP"),
        ("too large", batch([&vec![0; 1_100_000][..]]), "MESSAGE_TOO_LARGE"),
    ];
    for (what, bad, expected) in cases {
        let answer = client.produce("t", 0, bad).await;
        assert_eq!((code(&answer), answer.base_offset), (expected, -1), "{what}: {:?}", answer.error_message);
    }
    let cut = client.produce("t", 0, cut).await;
    assert!(matches!(code(&cut), "INVALID_RECORD" | "CORRUPT_MESSAGE"), "{}", code(&cut));
    let magic_1 = client.produce("t", 0, changed(&good, 16, &[1])).await;
    assert_eq!(code(&magic_1), "INVALID_RECORD");
    assert_eq!(client.produce("t", 0, good).await.base_offset, 0, "nothing of all that is in the log");
}

#[tokio::test]
async fn requests_that_cannot_be_meant_are_refused_for_each_partition() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    let id = client.create_topic("t", 1, &[]).await;
    let acks_5 = client.ask(12, &produce_request("t", 0, 5, batch([&b"x"[..]]))).await;
    assert_eq!(code(&acks_5.responses[0].partition_responses[0]), "INVALID_REQUIRED_ACKS");
    assert_eq!(code(&client.produce("t", 9, batch([&b"x"[..]])).await), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(code(&client.produce("nope", 0, batch([&b"x"[..]])).await), "UNKNOWN_TOPIC_OR_PARTITION");
    let mut by_id = produce_request("", 0, -1, batch([&b"x"[..]]));
    for (topic_id, expected) in [(id, "NONE"), (Uuid([7; 16]), "UNKNOWN_TOPIC_ID")] {
        by_id.topic_data[0].topic_id = topic_id;
        let response = client.ask(13, &by_id).await;
        assert_eq!(code(&response.responses[0].partition_responses[0]), expected);
        assert_eq!(response.responses[0].topic_id, topic_id);
    }
    let mut zstd = BatchBuilder::new(Compression::new(Codec::Zstd));
    zstd.append(now_ms(), None, Some(b"x"), []);
    let zstd = zstd.build().unwrap();
    for (version, expected) in [(6, "UNSUPPORTED_COMPRESSION_TYPE"), (7, "NONE")] {
        let response = client.ask(version, &produce_request("t", 0, -1, zstd.clone())).await;
        assert_eq!(code(&response.responses[0].partition_responses[0]), expected);
    }
}

#[tokio::test]
async fn one_refused_partition_costs_the_others_nothing() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 2, &[]).await;
    let part = |index, records| PartitionProduceData {
        index,
        records: Some(Records::Inline(records)),
        ..PartitionProduceData::default()
    };
    let data = vec![
        part(0, Bytes::from_static(b"rubbish")),
        part(1, batch([&b"x"[..]])),
        part(5, batch([&b"x"[..]])),
    ];
    let topic =
        TopicProduceData { name: Str::from("t"), partition_data: data, ..TopicProduceData::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data: vec![topic], ..ProduceRequest::default() };
    let response = client.ask(12, &request).await;
    let answers = &response.responses[0].partition_responses;
    let codes: Vec<&str> = answers.iter().map(code).collect();
    assert!(matches!(codes[0], "INVALID_RECORD" | "CORRUPT_MESSAGE"));
    assert_eq!(codes[1..], ["NONE", "UNKNOWN_TOPIC_OR_PARTITION"]);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_an_error_ends_the_connection() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let mut silent = broker.connect();
    let good = produce_request("t", 0, 0, batch([&b"x"[..]]));
    silent.send(12, &good).await;
    silent.expect_no_answer();
    silent.send(12, &produce_request("t", 0, 1, batch([&b"y"[..]]))).await;
    let response = silent.receive::<ProduceRequest>().await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1, "the silent one came first");
    silent.send(12, &produce_request("nope", 0, 0, batch([&b"x"[..]]))).await;
    assert!(silent.is_closed().await);
}

#[tokio::test]
async fn an_idempotent_producer_is_answered_once_and_in_order() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let given = client.ask(4, &request).await;
    let again = client.ask(0, &request).await;
    assert_eq!((given.error_code, given.producer_epoch), (0, 0));
    assert_ne!(given.producer_id, again.producer_id);
    let producer = (given.producer_id, 0);
    let first = idempotent(producer, 0, &[b"a", b"b"]);
    assert_eq!(client.produce("t", 0, first.clone()).await.base_offset, 0);
    let repeated = client.produce("t", 0, first.clone()).await;
    assert_eq!(
        (code(&repeated), repeated.base_offset),
        ("NONE", 0),
        "a repeat is answered with its first offset"
    );
    let gap = client.produce("t", 0, idempotent(producer, 5, &[b"x"])).await;
    assert_eq!(code(&gap), "OUT_OF_ORDER_SEQUENCE_NUMBER");

    broker.restart().await;
    let mut client = broker.connect();
    assert_eq!(client.produce("t", 0, first).await.base_offset, 0, "remembered over a restart");
    assert_eq!(client.produce("t", 0, idempotent(producer, 2, &[b"c"])).await.base_offset, 2);
    let bumped = client.produce("t", 0, idempotent((producer.0, 1), 0, &[b"d"])).await;
    assert_eq!(bumped.base_offset, 3);
    let fenced = client.produce("t", 0, idempotent(producer, 3, &[b"x"])).await;
    assert_eq!(code(&fenced), "INVALID_PRODUCER_EPOCH");
    let topic =
        TopicRequest { name: Str::from("t"), partition_indexes: vec![0, 1], ..TopicRequest::default() };
    let described =
        client.ask_latest(&DescribeProducersRequest { topics: vec![topic], ..Default::default() }).await;
    let [first, unknown] = &described.topics[0].partitions[..] else { panic!("two partitions") };
    let active = &first.active_producers[0];
    assert_eq!((active.producer_id, active.producer_epoch, active.last_sequence), (producer.0, 1, 0));
    assert_eq!(name_of(unknown.error_code), "UNKNOWN_TOPIC_OR_PARTITION");
}

#[tokio::test]
async fn transactions_are_told_that_nobody_coordinates_them() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let mut request = InitProducerIdRequest { transaction_timeout_ms: 1, ..Default::default() };
    for (id, expected) in [("tx", "COORDINATOR_NOT_AVAILABLE"), ("", "INVALID_REQUEST")] {
        request.transactional_id = Some(Str::from(id));
        assert_eq!(name_of(client.ask_latest(&request).await.error_code), expected);
    }
    let mut produce = produce_request("t", 0, -1, batch([&b"x"[..]]));
    produce.transactional_id = Some(Str::from("tx"));
    let response = client.ask(12, &produce).await;
    assert_eq!(code(&response.responses[0].partition_responses[0]), "NOT_ENOUGH_REPLICAS");
}

#[tokio::test]
async fn an_acknowledgement_with_flush_messages_1_means_synced() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[("flush.messages", "1")]).await;
    for index in 0..21 {
        client.send(12, &produce_request("t", 0, 1, batch([&b"x"[..]]))).await;
        if index % 7 == 6 {
            let before = syncs(&broker);
            for _ in 0..7 {
                let response = client.receive::<ProduceRequest>().await;
                assert_eq!(code(&response.responses[0].partition_responses[0]), "NONE");
            }
            assert!(syncs(&broker) >= before.max(1));
        }
    }
}
