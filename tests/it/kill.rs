//! `kill -9` of the real program at random moments, while an idempotent producer sends: what was acknowledged is
//! there after the restart, in order, once. What went in and came out is judged by `history`.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use klamm::client::{
    Backoff, Bootstrap, ClientOptions, Cluster, Delivery, NewRecord, Producer, ProducerOptions, TopicHandle,
    Topics,
};
use klamm::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::{Records, Str};
use klamm::record::{InflateLimits, Scratch, batches};
use klamm::types::{TopicName, TopicPartition};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::history::{Op, Outcome, anomalies};
use crate::random::Random;

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 3;
const KILLS: usize = 8;

/// `klamm serve`, which is killed with its owner.
struct Server {
    process: Child,
}

impl Server {
    /// Starts on `dir` and waits for the ready line.
    fn start(dir: &Path, port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_klamm"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "-d"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "{line:?}");
        Self { process }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends numbered records to each partition in turn and keeps the book on them.
struct Sending {
    producer: Producer,
    deliveries: UnboundedReceiver<Delivery>,
    topic: TopicHandle,
    history: Vec<Op>,
    sent: u64,
    delivered: u64,
}

impl Sending {
    async fn start(cluster: &Cluster) -> Self {
        let options = ProducerOptions {
            // Small, so that the book is never far behind what is sent.
            buffer_bytes: 64 << 10,
            delivery_timeout: Duration::from_secs(60),
            ..ProducerOptions::default()
        };
        let (mut producer, deliveries) = Producer::start(cluster.clone(), options).unwrap();
        let topic = producer.open_topic(TOPIC).await.unwrap();
        Self { producer, deliveries, topic, history: Vec::new(), sent: 0, delivered: 0 }
    }

    /// Sends until `count` more records were acknowledged.
    async fn until_delivered(&mut self, count: u64) {
        let goal = self.delivered + count;
        while self.delivered < goal {
            for _ in 0..30 {
                let partition = (self.sent % PARTITIONS as u64) as i32;
                let value = self.sent.to_string();
                let record = NewRecord {
                    partition: Some(partition),
                    value: Some(value.as_bytes()),
                    ..NewRecord::default()
                };
                self.producer.append(self.topic, record, [], self.sent).unwrap();
                self.sent += 1;
            }
            self.producer.send_open();
            self.producer.room().await;
            self.note_deliveries();
        }
    }

    /// The sends, in the order in which they were made.
    async fn end(mut self) -> Vec<Op> {
        self.producer.flush().await;
        self.note_deliveries();
        assert_eq!(self.delivered, self.sent, "every record was acknowledged in the end");
        self.history.sort_by_key(|op| match op {
            Op::Send { value, .. } => *value,
            Op::Poll { .. } => u64::MAX,
        });
        self.history
    }

    fn note_deliveries(&mut self) {
        while let Ok(delivery) = self.deliveries.try_recv() {
            let base =
                delivery.outcome.unwrap_or_else(|error| panic!("a record was given up: {error}")).base_offset;
            for (index, value) in delivery.tags.iter().enumerate() {
                let outcome = Outcome::Acknowledged(base.map(|base| base + index as i64));
                self.history.push(Op::Send { process: 0, partition: delivery.partition, value, outcome });
                self.delivered += 1;
            }
        }
    }
}

/// Everything in a partition, a poll for each answer.
async fn read_all(cluster: &Cluster, process: u32, partition: i32) -> Vec<Op> {
    let topic = cluster.topic(TOPIC, false).await.unwrap();
    let place = TopicPartition { topic: TopicName::new(TOPIC).unwrap(), partition };
    let mut polls = Vec::new();
    let mut next = 0;
    loop {
        let wanted = FetchPartition {
            partition,
            fetch_offset: next,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let wanted = FetchTopic {
            topic: Str::from(TOPIC),
            topic_id: topic.id,
            partitions: vec![wanted],
            ..FetchTopic::default()
        };
        let request = FetchRequest { max_bytes: 1 << 20, topics: vec![wanted], ..FetchRequest::default() };
        let answer = cluster.to_leader(&place, &request).await.unwrap();
        let found = &answer.responses[0].partitions[0];
        assert_eq!(found.error_code, 0);
        let records = values(found.records.as_ref());
        let Some((last, _)) = records.last() else { return polls };
        next = last + 1;
        polls.push(Op::Poll { process, partition, records });
    }
}

fn values(records: Option<&Records>) -> Vec<(i64, u64)> {
    let Some(Records::Inline(bytes)) = records else { return Vec::new() };
    let mut found = Vec::new();
    let mut scratch = Scratch::default();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        let mut reader = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
        while let Some(record) = reader.next() {
            let record = record.unwrap();
            let value = std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
            found.push((record.offset.0, value));
        }
    }
    found
}

async fn connect(port: u16) -> Cluster {
    let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(100) };
    let options =
        ClientOptions { backoff, bootstrap_timeout: Duration::from_secs(20), ..ClientOptions::default() };
    let cluster =
        Cluster::connect(Bootstrap::parse(&format!("127.0.0.1:{port}")).unwrap(), options).await.unwrap();
    cluster.metadata(Topics::None).await.unwrap();
    cluster
}

/// Below the ports of outgoing connections: while the broker is dead, one of its own client's could take it.
fn free_port(random: &mut Random) -> u16 {
    loop {
        let port = u16::try_from(15_000 + random.below(17_000)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_2_kills_under_load_lose_double_and_reorder_nothing() {
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port(&mut random);
    let mut server = Server::start(dir.path(), port);
    let cluster = connect(port).await;
    let topic = CreatableTopic {
        name: Str::from(TOPIC),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(cluster.controller(&request).await.unwrap().topics[0].error_code, 0);

    let mut sending = Sending::start(&cluster).await;
    for _ in 0..KILLS {
        sending.until_delivered(100 + random.below(3_000) as u64).await;
        server.kill();
        server = Server::start(dir.path(), port);
    }
    sending.until_delivered(100).await;
    let mut history = sending.end().await;
    // Two readers, so that they can disagree.
    for process in 1..=2 {
        for partition in 0..PARTITIONS {
            history.extend(read_all(&cluster, process, partition).await);
        }
    }
    assert_eq!(anomalies(&history), [], "KLAMM_SEED={}", random.seed);
}
