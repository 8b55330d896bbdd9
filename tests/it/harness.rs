//! A broker in this process and a client that speaks raw frames to it.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use klamm::config::{BrokerConfig, Layers};
use klamm::protocol::codec::decode_whole;
use klamm::protocol::frame::{ResponseHeader, encode_request, join};
use klamm::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm::protocol::messages::produce_response::PartitionProduceResponse;
use klamm::protocol::{Decoder, ErrorCode, Records, Request, Str};
use klamm::record::{BatchBuilder, Compression, InflateLimits, ProducerState, Scratch, batches};
use klamm::server::{Broker, BrokerOptions, StopError};
use klamm::storage::{Disk, RealDisk};
use klamm::types::{ProducerEpoch, ProducerId, Uuid};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Puts a disk over another.
type Wrap = dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk>;

/// A broker on directories of its own, which go with it.
pub struct TestBroker {
    broker: Option<Broker>,
    settings: Vec<(String, String)>,
    folders: Vec<TempDir>,
    /// Counts what was read and written.
    pub disk: Arc<RealDisk>,
    wrap: Box<Wrap>,
}

impl TestBroker {
    /// A broker on an empty directory.
    pub async fn start() -> Self {
        Self::with(1, &[]).await
    }

    /// A broker on `dirs` empty directories with these settings.
    pub async fn with(dirs: usize, settings: &[(&str, &str)]) -> Self {
        Self::on(dirs, settings, |disk| disk).await
    }

    /// As [`TestBroker::with`], on a disk that `wrap` puts over the real one.
    pub async fn on(
        dirs: usize,
        settings: &[(&str, &str)],
        wrap: impl Fn(Arc<dyn Disk>) -> Arc<dyn Disk> + 'static,
    ) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let folders = (0..dirs).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut broker =
            Self { broker: None, settings, folders, disk: RealDisk::new(), wrap: Box::new(wrap) };
        broker.open().await;
        broker
    }

    async fn open(&mut self) {
        self.disk = RealDisk::new();
        let layers = Layers {
            flags: self.settings.clone(),
            dirs: self.folders.iter().map(|folder| folder.path().to_owned()).collect(),
            listen: vec!["127.0.0.1:0".to_owned()],
            ..Layers::default()
        };
        let (config, _) = BrokerConfig::load(layers).unwrap();
        let disk: Arc<dyn Disk> = Arc::<RealDisk>::clone(&self.disk);
        let options = BrokerOptions { disk: (self.wrap)(disk), ..BrokerOptions::new(config) };
        self.broker = Some(Broker::start(options).await.unwrap());
    }

    /// The first log directory.
    pub fn dir(&self) -> &Path {
        self.folders[0].path()
    }

    /// One of the log directories.
    pub fn dir_at(&self, index: usize) -> &Path {
        self.folders[index].path()
    }

    /// A connection of its own.
    pub fn connect(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.broker.as_ref().unwrap().attach(theirs);
        Client::over(ours)
    }

    /// Stops in order and starts again on the same directories.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.open().await;
    }

    /// Starts a broker that was stopped again.
    pub async fn restart_stopped(&mut self) {
        self.open().await;
    }

    /// What the next start is configured with.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    }

    /// Stops in order.
    pub async fn stop(&mut self) {
        self.try_stop().await.unwrap();
    }

    /// Stops in order, as far as that goes.
    pub async fn try_stop(&mut self) -> Result<(), StopError> {
        self.broker.take().unwrap().shutdown().await
    }
}

/// A connection that sends frames and reads answers in order.
pub struct Client {
    pub stream: UnixStream,
    next_correlation_id: i32,
    sent: Vec<(i32, i16)>,
}

impl Client {
    /// A client on a connected stream.
    pub fn over(stream: UnixStream) -> Self {
        Self { stream, next_correlation_id: 1, sent: Vec::new() }
    }

    /// Every record's value in a partition, with its offset, read to the high watermark.
    pub async fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
        self.read_from(topic, partition, 0).await
    }

    /// The error code of a fetch at an offset.
    pub async fn fetch_code(&mut self, topic: &str, partition: i32, fetch_offset: i64) -> &'static str {
        let asked =
            FetchPartition { partition, fetch_offset, partition_max_bytes: 1, ..FetchPartition::default() };
        let topic = FetchTopic { topic: Str::from(topic), partitions: vec![asked], ..FetchTopic::default() };
        let request = FetchRequest { topics: vec![topic], ..FetchRequest::default() };
        name_of(self.ask(12, &request).await.responses[0].partitions[0].error_code)
    }

    /// As [`Client::read_all`], from an offset on.
    pub async fn read_from(&mut self, topic: &str, partition: i32, start: i64) -> Vec<(i64, Vec<u8>)> {
        let mut values: Vec<(i64, Vec<u8>)> = Vec::new();
        loop {
            let fetch_offset = values.last().map_or(start, |(offset, _)| offset + 1);
            let asked = FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            };
            let topic =
                FetchTopic { topic: Str::from(topic), partitions: vec![asked], ..FetchTopic::default() };
            let request = FetchRequest { min_bytes: 0, topics: vec![topic], ..FetchRequest::default() };
            let response = self.ask(12, &request).await;
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, 0, "{}", name_of(data.error_code));
            let Some(Records::Inline(bytes)) = &data.records else { panic!("no records field") };
            let before = values.len();
            for batch in batches(bytes).map_while(Result::ok) {
                batch.check_crc().unwrap();
                let mut scratch = Scratch::default();
                let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
                while let Some(record) = records.next() {
                    let record = record.unwrap();
                    if record.offset.0 >= fetch_offset {
                        values.push((record.offset.0, record.value.unwrap().to_vec()));
                    }
                }
            }
            if values.len() == before {
                return values;
            }
        }
    }

    /// Sends a request; [`Client::receive`] reads its answer.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let pieces = encode_request(correlation_id, Some(&Str::from("test")), version, request).unwrap();
        // An error shows when the answer is read.
        let _ = self.stream.write_all(&join(&pieces).unwrap()).await;
        self.sent.push((correlation_id, version));
    }

    /// The answer to the oldest request that has none.
    pub async fn receive<R: Request>(&mut self) -> R::Response {
        let (correlation_id, version) = self.sent.remove(0);
        let mut decoder = Decoder::new(self.receive_frame().await);
        let header = ResponseHeader::decode(&mut decoder, R::KEY, version).unwrap();
        assert_eq!(header.correlation_id, correlation_id, "answers come in order");
        decode_whole(&mut decoder, version).unwrap()
    }

    /// The request sent last will have no answer.
    pub fn expect_no_answer(&mut self) {
        self.sent.pop();
    }

    /// As [`Client::receive`]; `None` where the connection has ended.
    pub async fn try_receive<R: Request>(&mut self) -> Option<R::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(i32::from_be_bytes(size)).unwrap());
        self.stream.read_exact(&mut frame).await.ok()?;
        let (_, version) = self.sent.remove(0);
        let mut decoder = Decoder::new(frame.freeze());
        ResponseHeader::decode(&mut decoder, R::KEY, version).unwrap();
        Some(decode_whole(&mut decoder, version).unwrap())
    }

    /// The next frame, whatever it is.
    pub async fn receive_frame(&mut self) -> Bytes {
        let size = self.stream.read_i32().await.expect("an answer instead of the connection's end");
        let mut frame = BytesMut::zeroed(usize::try_from(size).unwrap());
        self.stream.read_exact(&mut frame).await.unwrap();
        frame.freeze()
    }

    /// Asks and waits for the answer.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>().await
    }

    /// Asks in the highest version.
    pub async fn ask_latest<R: Request>(&mut self, request: &R) -> R::Response {
        self.ask(R::KEY.api().highest, request).await
    }

    /// Whether the broker has closed the connection without another answer.
    pub async fn is_closed(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0]).await, Ok(1..))
    }

    /// Makes a topic and returns its id.
    pub async fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Str::from(*name),
            value: Some(Str::from(*value)),
            ..CreatableTopicConfig::default()
        });
        let topic = CreatableTopic {
            name: Str::from(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = self.ask_latest(&request).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }

    /// Produces one batch and returns what its partition answered.
    pub async fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        let response = self.ask(12, &produce_request(topic, partition, -1, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }
}

/// A request with one batch.
pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::Inline(batch)),
        ..PartitionProduceData::default()
    };
    let topic = TopicProduceData {
        name: Str::from(topic),
        partition_data: vec![data],
        ..TopicProduceData::default()
    };
    ProduceRequest { acks, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// A batch of values stamped now.
pub fn batch<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    batch_at(now_ms(), values)
}

/// A batch of values with one timestamp.
pub fn batch_at<'a>(timestamp_ms: i64, values: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for value in values {
        builder.append(timestamp_ms, None, Some(value), []);
    }
    builder.build().unwrap()
}

/// A batch of an idempotent producer, given by id and epoch.
pub fn idempotent(producer: (i64, i16), sequence: i32, values: &[&[u8]]) -> Bytes {
    let state = ProducerState {
        id: ProducerId(producer.0),
        epoch: ProducerEpoch(producer.1),
        base_sequence: sequence,
        ..ProducerState::NONE
    };
    let mut builder = BatchBuilder::new(Compression::NONE).by(state);
    for value in values {
        builder.append(now_ms(), None, Some(value), []);
    }
    builder.build().unwrap()
}

/// The time of records that are to be young.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// The code's name, for messages of failed assertions.
pub fn name_of(code: i16) -> &'static str {
    ErrorCode::from_code(code).map_or("?", ErrorCode::name)
}
