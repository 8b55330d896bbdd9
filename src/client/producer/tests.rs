//! A producer against a model broker that checks sequences as Kafka does and fails in every way a broker or a
//! network can: what was acknowledged is in the log once and in order, and every record is reported once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::fake::{Asked, Fake, Reply};
use super::super::{Backoff, ClientOptions};
use super::*;
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::init_producer_id_response::InitProducerIdResponse;
use crate::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::produce_request::ProduceRequest;
use crate::protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use crate::protocol::{ApiKey, ErrorCode, Records};
use crate::record::{BatchRef, InflateLimits, Scratch, advance_sequence};
use crate::types::Uuid;

const TOPIC_ID: Uuid = Uuid([7; 16]);

/// One partition's log and what it knows of producers.
#[derive(Default)]
struct Log {
    /// The tags, which the records carry as values, in order.
    tags: Vec<u64>,
    producers: HashMap<i64, VecDeque<(i32, i32, i64)>>,
}

impl Log {
    /// Kafka's sequence check, then the append.
    fn append(&mut self, bytes: &[u8]) -> (ErrorCode, i64) {
        let batch = BatchRef::first(bytes).unwrap();
        batch.check_crc().unwrap();
        let header = batch.header;
        assert_eq!(bytes.len(), header.size());
        let (first, last) = (header.base_sequence, header.last_sequence());
        if header.has_producer() {
            let known = self.producers.entry(header.producer_id.0).or_default();
            if let Some((_, _, offset)) = known.iter().find(|(f, l, _)| (*f, *l) == (first, last)) {
                return (ErrorCode::None, *offset);
            }
            if known.back().is_some_and(|(_, last, _)| advance_sequence(*last, 1) != first) {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
            known.push_back((first, last, self.tags.len() as i64));
            if known.len() > 5 {
                known.pop_front();
            }
        }
        let offset = self.tags.len() as i64;
        let mut scratch = Scratch::new();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
        while let Some(record) = records.next() {
            let value = record.unwrap().value.unwrap();
            self.tags.push(u64::from_le_bytes(value[..8].try_into().unwrap()));
        }
        (ErrorCode::None, offset)
    }
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

struct Model {
    logs: BTreeMap<i32, Log>,
    dice: Dice,
    /// Of a thousand produce requests, so many meet a fault.
    faults: u64,
    next_producer: i64,
    largest_batch: usize,
    acks: Vec<i16>,
}

impl Model {
    fn new(seed: u64, faults: u64, partitions: i32) -> Arc<Mutex<Self>> {
        let logs = (0..partitions).map(|partition| (partition, Log::default())).collect();
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Arc::new(Mutex::new(Self {
            logs,
            dice,
            faults,
            next_producer: 100,
            largest_batch: 8_000,
            acks: Vec::new(),
        }))
    }

    fn answer(&mut self, mut asked: Asked) -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata => asked.answer(&self.metadata()),
            ApiKey::InitProducerId => {
                let _: InitProducerIdRequest = asked.read();
                self.next_producer += 1;
                asked
                    .answer(&InitProducerIdResponse { producer_id: self.next_producer, ..Default::default() })
            }
            ApiKey::Produce => self.produce(asked),
            other => panic!("{other}"),
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let partitions = self.logs.keys().map(|&partition| MetadataResponsePartition {
            partition_index: partition,
            leader_id: 1,
            ..Default::default()
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, ..Default::default() }],
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                topic_id: TOPIC_ID,
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, mut asked: Asked) -> Reply {
        let request: ProduceRequest = asked.read();
        self.acks.push(request.acks);
        let fault = if self.dice.roll(1000) < self.faults { self.dice.roll(6) } else { 99 };
        if fault == 0 {
            return Reply::Close;
        }
        let mut answers = Vec::new();
        for topic in &request.topic_data {
            assert_eq!(topic.topic_id, TOPIC_ID);
            for partition in &topic.partition_data {
                let Some(Records::Inline(bytes)) = &partition.records else { panic!("no records") };
                let code = match fault {
                    1 => Some(ErrorCode::NotLeaderOrFollower),
                    2 => Some(ErrorCode::NotEnoughReplicas),
                    3 => Some(ErrorCode::InvalidRecord),
                    _ if bytes.len() > self.largest_batch => Some(ErrorCode::MessageTooLarge),
                    _ => None,
                };
                let log = self.logs.get_mut(&partition.index).unwrap();
                let (code, base_offset) = code.map_or_else(|| log.append(bytes), |code| (code, -1));
                // Appended, and the answer says that it took too long.
                let code =
                    if fault == 4 && code == ErrorCode::None { ErrorCode::RequestTimedOut } else { code };
                answers.push(PartitionProduceResponse {
                    index: partition.index,
                    error_code: code.code(),
                    base_offset,
                    ..Default::default()
                });
            }
        }
        if fault == 5 || request.acks == 0 {
            return if fault == 5 { Reply::Close } else { Reply::Nothing };
        }
        let topic =
            TopicProduceResponse { topic_id: TOPIC_ID, partition_responses: answers, ..Default::default() };
        asked.answer(&ProduceResponse { responses: vec![topic], ..Default::default() })
    }
}

async fn connect(model: &Arc<Mutex<Model>>) -> Cluster {
    connect_with(model, ClientOptions::default()).await
}

async fn connect_with(model: &Arc<Mutex<Model>>, options: ClientOptions) -> Cluster {
    let model = Arc::clone(model);
    let bootstrap = Fake::bootstrap(move |asked| model.lock().answer(asked));
    let backoff = Backoff { first: Duration::from_micros(100), max: Duration::from_millis(1) };
    Cluster::connect(bootstrap, ClientOptions { backoff, ..options }).await.unwrap()
}

fn options() -> ProducerOptions {
    ProducerOptions { batch_bytes: 400, ..Default::default() }
}

/// Appends `count` records, each with its tag as value, spread over partitions by key; returns what was
/// reported, by tag.
async fn produce(
    model: &Arc<Mutex<Model>>,
    options: ProducerOptions,
    count: u64,
) -> BTreeMap<u64, (i32, Result<Option<i64>, DeliveryError>)> {
    let (mut producer, mut deliveries) = Producer::start(connect(model).await, options).unwrap();
    let topic = producer.open_topic("t").await.unwrap();
    for tag in 0..count {
        let key = (tag % 7).to_le_bytes();
        let value = tag.to_le_bytes();
        let record = NewRecord { partition: None, timestamp_ms: 1_000, key: Some(&key), value: Some(&value) };
        producer.append(topic, record, [], tag).unwrap();
        if tag % 50 == 0 {
            producer.send_open();
            tokio::task::yield_now().await;
        }
        producer.room().await;
    }
    producer.flush().await;
    drop(producer);
    let mut reported = BTreeMap::new();
    while let Some(delivery) = deliveries.recv().await {
        for (place, tag) in delivery.tags.iter().enumerate() {
            let end = delivery.outcome.clone().map(|d| d.base_offset.map(|base| base + place as i64));
            let old = reported.insert(tag, (delivery.partition, end));
            assert!(old.is_none(), "record {tag} is reported twice");
        }
    }
    reported
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_of_a_partition_are_reported_in_the_order_of_their_offsets() {
    let model = Model::new(1, 0, 1);
    let (mut producer, mut deliveries) = Producer::start(connect(&model).await, options()).unwrap();
    let topic = producer.open_topic("t").await.unwrap();
    for tag in 0..3_000_u64 {
        let record =
            NewRecord { partition: Some(0), timestamp_ms: 1_000, key: None, value: Some(&tag.to_le_bytes()) };
        producer.append(topic, record, [], tag).unwrap();
        producer.send_open();
        producer.room().await;
    }
    producer.flush().await;
    drop(producer);
    let mut due = 0;
    while let Some(delivery) = deliveries.recv().await {
        assert_eq!(delivery.outcome.unwrap().base_offset, Some(due));
        assert_eq!(delivery.tags.iter().next(), Some(due.unsigned_abs()));
        due += delivery.tags.len() as i64;
    }
    assert_eq!(due, 3_000);
}

/// Jepsen's rules for one producer: nothing lost, doubled, reordered, or read although it failed.
fn check(
    seed: u64,
    model: &Model,
    reported: &BTreeMap<u64, (i32, Result<Option<i64>, DeliveryError>)>,
    count: u64,
) {
    assert_eq!(reported.len() as u64, count, "seed {seed}: every record is reported");
    for (partition, log) in &model.logs {
        assert!(log.tags.is_sorted(), "seed {seed}: nonmonotonic-send in {partition}: {:?}", log.tags);
        let doubled = log.tags.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(doubled, None, "seed {seed}: duplicate in {partition}");
    }
    for (tag, (partition, end)) in reported {
        let log = &model.logs[partition].tags;
        match end {
            Ok(offset) => {
                let offset = usize::try_from(offset.unwrap()).unwrap();
                assert_eq!(log.get(offset), Some(tag), "seed {seed}: lost-write or inconsistent-offsets");
            }
            Err(error) if !error.maybe_written => {
                assert!(!log.contains(tag), "seed {seed}: G1a: {tag} failed ({error}) and is there");
            }
            Err(_) => {}
        }
    }
}

#[tokio::test]
async fn jepsen_an_idempotent_producer_loses_doubles_and_reorders_nothing_whatever_fails() {
    for seed in 1..=40 {
        let model = Model::new(seed, 10 * (seed % 20), 3);
        let reported = produce(&model, options(), 2_000).await;
        check(seed, &model.lock(), &reported, 2_000);
    }
}

#[tokio::test]
async fn without_faults_everything_is_delivered_with_its_offset() {
    let model = Model::new(1, 0, 3);
    let reported = produce(&model, options(), 3_000).await;
    assert!(reported.values().all(|(_, end)| end.is_ok()));
    check(1, &model.lock(), &reported, 3_000);
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_topic_is_split_and_delivered() {
    let model = Model::new(1, 0, 1);
    model.lock().largest_batch = 300;
    for codec in [crate::record::Codec::None, crate::record::Codec::Zstd] {
        let options = ProducerOptions { batch_bytes: 60_000, codec, ..Default::default() };
        let reported = produce(&model, options, 1_000).await;
        assert!(reported.values().all(|(_, end)| end.is_ok()), "{codec}");
    }
    let model = model.lock();
    assert_eq!(model.logs[&0].tags.len(), 2_000);
    assert!(model.logs[&0].tags[..1_000].is_sorted());
}

#[tokio::test]
async fn acks_1_repeats_in_order_without_sequences() {
    let model = Model::new(3, 0, 2);
    let options = ProducerOptions { acks: Acks::Leader, ..options() };
    let reported = produce(&model, options, 1_000).await;
    check(3, &model.lock(), &reported, 1_000);
    assert!(model.lock().acks.iter().all(|&acks| acks == 1));
    assert!(model.lock().logs.values().all(|log| log.producers.is_empty()));
}

#[tokio::test]
async fn acks_0_reports_records_once_they_are_written_to_the_socket() {
    let model = Model::new(3, 0, 1);
    let options = ProducerOptions { acks: Acks::None, ..options() };
    let reported = produce(&model, options, 500).await;
    assert!(reported.values().all(|(_, end)| matches!(end, Ok(None))));
}

#[tokio::test]
async fn a_broker_that_never_takes_anything_costs_the_delivery_timeout_and_every_record_is_reported() {
    let model = Model::new(5, 0, 1);
    let (mut producer, mut deliveries) = {
        let model = Arc::clone(&model);
        let bootstrap = Fake::bootstrap(move |asked| match asked.key() {
            ApiKey::Produce => Reply::Close,
            _ => model.lock().answer(asked),
        });
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2) };
        let client = ClientOptions { backoff, ..Default::default() };
        let cluster = Cluster::connect(bootstrap, client).await.unwrap();
        let options = ProducerOptions { delivery_timeout: Duration::from_millis(60), ..options() };
        Producer::start(cluster, options).unwrap()
    };
    let topic = producer.open_topic("t").await.unwrap();
    for tag in 0..100 {
        let record = NewRecord { value: Some(b"12345678"), ..Default::default() };
        producer.append(topic, record, [], tag).unwrap();
    }
    producer.flush().await;
    drop(producer);
    let mut count = 0;
    while let Some(delivery) = deliveries.recv().await {
        count += delivery.tags.len();
        let error = delivery.outcome.unwrap_err();
        assert!(matches!(error.cause, DeliveryCause::GaveUp { .. }), "{error}");
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn records_that_cannot_be_sent_are_refused_before_anything_is_kept() {
    let model = Model::new(5, 0, 2);
    let (mut producer, _deliveries) = Producer::start(connect(&model).await, options()).unwrap();
    let topic = producer.open_topic("t").await.unwrap();
    let large = vec![0; 2 << 20];
    let error = producer.append(topic, NewRecord { value: Some(&large), ..Default::default() }, [], 0);
    assert!(matches!(error, Err(AppendError::TooLarge { .. })), "{error:?}");
    let error = producer.append(topic, NewRecord { partition: Some(2), ..Default::default() }, [], 0);
    assert!(matches!(error, Err(AppendError::NoSuchPartition { partition: 2, count: 2, .. })), "{error:?}");
}

#[tokio::test]
async fn buffer_memory_holds_the_caller_back_until_batches_are_answered() {
    let model = Model::new(5, 0, 1);
    let options = ProducerOptions { buffer_bytes: 1_000, ..options() };
    let (mut producer, mut deliveries) = Producer::start(connect(&model).await, options).unwrap();
    let topic = producer.open_topic("t").await.unwrap();
    let mut tag = 0;
    while producer.has_room() {
        let record = NewRecord { value: Some(b"12345678"), ..Default::default() };
        producer.append(topic, record, [], tag).unwrap();
        tag += 1;
    }
    assert!(tag < 100, "{tag}");
    producer.room().await;
    assert!(deliveries.recv().await.is_some_and(|delivery| delivery.outcome.is_ok()));
}

#[tokio::test]
async fn partitions_that_are_added_while_it_runs_are_written_to() {
    let model = Model::new(5, 0, 1);
    let client = ClientOptions { metadata_age_max: Duration::from_millis(2), ..Default::default() };
    let cluster = connect_with(&model, client).await;
    let (mut producer, mut deliveries) = Producer::start(cluster, options()).unwrap();
    let topic = producer.open_topic("t").await.unwrap();
    let mut tag = 0;
    let mut send = async |producer: &mut Producer, partition: Option<i32>| {
        let key = u64::to_le_bytes(tag);
        let record = NewRecord { partition, key: Some(&key), value: Some(&key), ..Default::default() };
        let appended = producer.append(topic, record, [], tag);
        tag += 1;
        producer.flush().await;
        appended.map(|()| deliveries.try_recv().unwrap().partition)
    };
    assert_eq!(send(&mut producer, None).await, Ok(0));
    for count in 2..=3 {
        model.lock().logs.insert(count - 1, Log::default());
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while send(&mut producer, None).await != Ok(count - 1) {
            assert!(std::time::Instant::now() < deadline, "partition {} stays unknown", count - 1);
        }
        assert_eq!(producer.partition_count(topic), usize::try_from(count).unwrap());
    }
    model.lock().logs.insert(3, Log::default());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    // One that is asked for by its number is found as soon as it is heard of.
    while send(&mut producer, Some(3)).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "partition 3 stays unknown");
    }
    let logs = &model.lock().logs;
    assert_eq!(logs.values().map(|log| log.tags.len()).filter(|&count| count > 0).count(), 4);
}
