//! What the codec costs for the messages that a broker sees most: `cargo bench --bench protocol`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use bytes::Bytes;
use divan::{Bencher, black_box};
use klamm::protocol::frame::encode_response;
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use klamm::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use klamm::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm::protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use klamm::protocol::{ApiKey, Decoder, Message, Records, decode_whole, encode_to_bytes};

fn main() {
    divan::main();
}

const PARTITIONS: &[usize] = &[1, 100];

fn produce_request(partitions: usize) -> ProduceRequest {
    let records = Some(Records::Inline(Bytes::from(vec![7; 16 * 1024])));
    let partition = |index| PartitionProduceData { index, records: records.clone(), ..Default::default() };
    let partition_data = (0..partitions as i32).map(partition).collect();
    let topic = TopicProduceData { name: "orders".into(), partition_data, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

fn produce_response(partitions: usize) -> ProduceResponse {
    let partition = |index| PartitionProduceResponse {
        index,
        base_offset: 1 << 33,
        log_start_offset: 0,
        ..Default::default()
    };
    let partition_responses = (0..partitions as i32).map(partition).collect();
    let topic = TopicProduceResponse { name: "orders".into(), partition_responses, ..Default::default() };
    ProduceResponse { responses: vec![topic], ..Default::default() }
}

fn fetch_request(partitions: usize) -> FetchRequest {
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1 << 33,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic =
        FetchTopic { partitions: (0..partitions as i32).map(partition).collect(), ..Default::default() };
    FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

fn fetch_response(partitions: usize) -> FetchResponse {
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1 << 33,
        aborted_transactions: None,
        records: Some(Records::Outside { len: 64 * 1024 }),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        partitions: (0..partitions as i32).map(partition).collect(),
        ..Default::default()
    };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

fn metadata_response(partitions: usize) -> MetadataResponse {
    let broker = |node_id| MetadataResponseBroker {
        node_id,
        host: "localhost".into(),
        port: 9092,
        ..Default::default()
    };
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 5,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let topic = |index: usize| MetadataResponseTopic {
        name: Some(format!("topic-{index}").into()),
        partitions: (0..partitions as i32).map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse {
        brokers: (1..4).map(broker).collect(),
        topics: (0..10).map(topic).collect(),
        ..Default::default()
    }
}

fn decode<M: Message>(bencher: Bencher<'_, '_>, message: &M, version: i16) {
    let bytes = encode_to_bytes(message, version).unwrap();
    bencher.bench_local(|| decode_whole::<M>(&mut Decoder::new(black_box(&bytes).clone()), version).unwrap());
}

fn encode<M: Message>(bencher: Bencher<'_, '_>, message: &M, key: ApiKey, version: i16) {
    bencher.bench_local(|| encode_response(7, key, version, black_box(message)).unwrap());
}

#[divan::bench(args = PARTITIONS)]
fn decode_produce_request(bencher: Bencher<'_, '_>, partitions: usize) {
    decode(bencher, &produce_request(partitions), 12);
}

#[divan::bench(args = PARTITIONS)]
fn encode_produce_response(bencher: Bencher<'_, '_>, partitions: usize) {
    encode(bencher, &produce_response(partitions), ApiKey::Produce, 12);
}

#[divan::bench(args = PARTITIONS)]
fn decode_fetch_request(bencher: Bencher<'_, '_>, partitions: usize) {
    decode(bencher, &fetch_request(partitions), 17);
}

#[divan::bench(args = PARTITIONS)]
fn encode_fetch_response(bencher: Bencher<'_, '_>, partitions: usize) {
    encode(bencher, &fetch_response(partitions), ApiKey::Fetch, 17);
}

#[divan::bench(args = PARTITIONS)]
fn decode_metadata_response_of_ten_topics(bencher: Bencher<'_, '_>, partitions: usize) {
    decode(bencher, &metadata_response(partitions), 13);
}

#[divan::bench(args = PARTITIONS)]
fn encode_metadata_response_of_ten_topics(bencher: Bencher<'_, '_>, partitions: usize) {
    encode(bencher, &metadata_response(partitions), ApiKey::Metadata, 13);
}
