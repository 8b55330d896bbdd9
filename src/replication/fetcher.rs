//! Fetches for the partitions that this broker follows: `num.replica.fetchers` connections to each leader, an
//! incremental session on each (KIP-227), so that a request names only what has moved.
//!
//! A partition belongs to one fetcher at a time, by its leader. What is answered after the partition has another
//! leader is ignored by the partition itself. A partition that cannot go on waits for `replica.fetch.backoff.ms`, out
//! of the session meanwhile; the others of its leader do not wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, info, warn};

use super::divergence::Resume;
use super::fetching::{Answered, Key, Session, key_of};
use super::following::{Position, Sent, Taken};
use super::leader::LogOffsets;
use super::partition::{Partition, PartitionError};
use super::throttle::Throttle;
use crate::config::BrokerConfig;
use crate::net::outgoing::{Address, Connection, ConnectionError, ConnectionOptions};
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::{ErrorCode, Records};
use crate::storage::EpochEnd;
use crate::types::{BrokerId, Clock, LeaderEpoch, Offset};

/// The special times of ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// From this version on a follower names itself with its broker's epoch.
const REPLICA_STATE_FROM: i16 = 15;

/// What fetchers need of the broker that they run in.
pub trait Sources: Send + Sync + 'static {
    /// Where other brokers reach `broker`.
    fn address(&self, broker: BrokerId) -> Option<Address>;
    /// The configuration in force.
    fn config(&self) -> Arc<BrokerConfig>;
    /// This broker, and its epoch.
    fn identity(&self) -> (BrokerId, i64);
    /// Time.
    fn clock(&self) -> &Arc<dyn Clock>;
    /// Whether this broker's replica is in sync with its leader.
    fn is_in_sync(&self, partition: &Partition) -> bool;
    /// A partition's disk may have failed.
    fn note_failure(&self, partition: &Partition, error: &PartitionError);
}

/// All fetchers of a broker.
pub struct Fetchers {
    sources: Arc<dyn Sources>,
    throttle: Arc<Throttle>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    workers: HashMap<(i32, usize), Worker>,
    assigned: HashMap<Key, (i32, usize)>,
}

struct Worker {
    inbox: Arc<Inbox>,
    task: JoinHandle<()>,
    partitions: usize,
}

/// What a fetcher is told.
#[derive(Default)]
struct Inbox {
    orders: Mutex<Vec<Order>>,
    wake: Notify,
}

enum Order {
    Begin(Arc<Partition>),
    End(Key),
}

impl Inbox {
    fn put(&self, order: Order) {
        self.orders.lock().push(order);
        self.wake.notify_one();
    }
}

impl Fetchers {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(sources: Arc<dyn Sources>) -> Self {
        Self { sources, throttle: Arc::default(), inner: Mutex::default() }
    }

    /// Begins, ends or changes the fetching for partitions whose role has changed. Needs tokio's runtime.
    pub fn follow(&self, changed: &[Arc<Partition>]) {
        let fetchers = self.sources.config().replication.fetchers;
        let mut inner = self.inner.lock();
        for partition in changed {
            let key = key_of(partition);
            let following = partition.following().filter(|following| following.leader != BrokerId::NONE);
            inner.end(&key);
            if let Some(following) = following {
                let slot = (following.leader.0, key.slot(fetchers));
                inner.begin(slot, key, partition, self);
            }
        }
        inner.rest();
    }

    /// Ends all fetching.
    pub async fn close(&self) {
        let workers = std::mem::take(&mut self.inner.lock().workers);
        for worker in workers.into_values() {
            worker.task.abort();
            // Cancelled is what it should be.
            let _ = worker.task.await;
        }
    }
}

impl Inner {
    fn begin(&mut self, slot: (i32, usize), key: Key, partition: &Arc<Partition>, fetchers: &Fetchers) {
        let worker = self.workers.entry(slot).or_insert_with(|| {
            let inbox = Arc::new(Inbox::default());
            let fetcher = Fetcher {
                leader: BrokerId(slot.0),
                sources: Arc::clone(&fetchers.sources),
                throttle: Arc::clone(&fetchers.throttle),
                inbox: Arc::clone(&inbox),
                connection: None,
                session: Session::default(),
                partitions: HashMap::new(),
                delayed: HashMap::new(),
                is_cut_off: false,
            };
            Worker { inbox, task: tokio::spawn(fetcher.run()), partitions: 0 }
        });
        worker.partitions += 1;
        worker.inbox.put(Order::Begin(Arc::clone(partition)));
        self.assigned.insert(key, slot);
    }

    fn end(&mut self, key: &Key) {
        let Some(slot) = self.assigned.remove(key) else { return };
        if let Some(worker) = self.workers.get_mut(&slot) {
            worker.partitions -= 1;
            worker.inbox.put(Order::End(*key));
        }
    }

    /// A fetcher without partitions ends.
    fn rest(&mut self) {
        self.workers.retain(|_, worker| {
            if worker.partitions == 0 {
                worker.task.abort();
            }
            worker.partitions > 0
        });
    }
}

/// One connection to one leader.
struct Fetcher {
    leader: BrokerId,
    sources: Arc<dyn Sources>,
    throttle: Arc<Throttle>,
    inbox: Arc<Inbox>,
    connection: Option<Connection>,
    session: Session,
    partitions: HashMap<Key, Arc<Partition>>,
    /// Until when they wait.
    delayed: HashMap<Key, Duration>,
    /// The leader cannot be reached, and that has been said.
    is_cut_off: bool,
}

impl Fetcher {
    async fn run(mut self) {
        loop {
            self.take_orders();
            self.wake_delayed();
            if self.partitions.len() == self.delayed.len() {
                self.rest().await;
                continue;
            }
            match self.round().await {
                Ok(true) => self.is_cut_off = false,
                Ok(false) => self.back_off().await,
                Err(why) => {
                    // Said once, however long it lasts.
                    if !std::mem::replace(&mut self.is_cut_off, true) {
                        warn!(leader = %self.leader, "cannot be fetched from: {why}");
                    }
                    self.connection = None;
                    self.session.reset();
                    self.back_off().await;
                }
            }
        }
    }

    /// Waits for a while, or until there is another partition.
    async fn back_off(&self) {
        tokio::select! {
            () = self.sources.clock().wait(self.backoff()) => {}
            () = self.inbox.wake.notified() => {}
        }
    }

    fn take_orders(&mut self) {
        let orders = std::mem::take(&mut *self.inbox.orders.lock());
        for order in orders {
            match order {
                Order::Begin(partition) => {
                    let key = key_of(&partition);
                    self.delayed.remove(&key);
                    self.session.touch(key);
                    self.partitions.insert(key, partition);
                }
                Order::End(key) => {
                    self.delayed.remove(&key);
                    self.session.forget(key);
                    self.partitions.remove(&key);
                }
            }
        }
    }

    fn wake_delayed(&mut self) {
        let now = self.sources.clock().elapsed();
        let due: Vec<Key> = self.delayed.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for key in due {
            self.delayed.remove(&key);
            self.session.touch(key);
        }
    }

    /// Waits until there is something to fetch.
    async fn rest(&self) {
        let clock = self.sources.clock();
        let next =
            self.delayed.values().min().copied().unwrap_or(clock.elapsed() + Duration::from_secs(3600));
        tokio::select! {
            () = clock.wait_until(next) => {}
            () = self.inbox.wake.notified() => {}
        }
    }

    fn backoff(&self) -> Duration {
        let ms = self.sources.config().replication.fetch_backoff_ms;
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    fn delay(&mut self, key: Key) {
        let until = self.sources.clock().elapsed() + self.backoff();
        self.session.forget(key);
        self.delayed.insert(key, until);
    }

    /// One request and its answer; `false` where none of the partitions can be fetched now.
    async fn round(&mut self) -> Result<bool, ConnectionError> {
        let connection = self.connected().await?;
        let config = self.sources.config();
        let positions = |key: &Key| {
            self.partitions
                .get(key)
                .and_then(|partition| Some((partition.position()?, partition.id().clone())))
        };
        let mut request = self.session.request(self.leader, positions);
        if self.session.is_empty() {
            self.session.reset();
            return Ok(false);
        }
        let (node, epoch) = self.sources.identity();
        let settings = &config.replication;
        request.replica_id = node.0;
        (request.replica_state.replica_id, request.replica_state.replica_epoch) = (node.0, epoch);
        (request.max_wait_ms, request.min_bytes) = (settings.fetch_wait_max_ms, settings.fetch_min_bytes);
        request.max_bytes = settings.fetch_response_max_bytes;
        for topic in &mut request.topics {
            for partition in &mut topic.partitions {
                partition.partition_max_bytes = settings.fetch_max_bytes;
            }
        }
        let version = connection.version_of::<FetchRequest>(i16::MAX)?;
        if version >= REPLICA_STATE_FROM {
            request.replica_id = -1;
        } else {
            request.replica_state = Default::default();
        }
        let timeout = Duration::from_millis(u64::try_from(settings.socket_timeout_ms).unwrap_or(0));
        let response = connection.start(&request, version, timeout)?.answer().await?;
        match self.session.answered(version, response) {
            Answered::Partitions(answers) => {
                for (key, asked, data) in answers {
                    self.take(&connection, key, &asked, data).await;
                }
            }
            // The session begins anew with the next request.
            Answered::SessionEnded => {}
            Answered::Refused(code) => {
                info!(leader = %self.leader, "refuses to be fetched from: {}", code.name());
                self.partitions
                    .keys()
                    .copied()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|key| self.delay(key));
            }
        }
        Ok(true)
    }

    async fn connected(&mut self) -> Result<Connection, ConnectionError> {
        if let Some(connection) = self.connection.as_ref().filter(|it| it.broken().is_none()) {
            return Ok(connection.clone());
        }
        self.session.reset();
        let options = ConnectionOptions {
            client_id: format!("broker-{}-fetcher", self.sources.identity().0).into(),
            clock: Arc::clone(self.sources.clock()),
            ..ConnectionOptions::default()
        };
        let Some(address) = self.sources.address(self.leader) else {
            return Err(ConnectionError::Disconnected {
                peer: format!("broker {}", self.leader).into(),
                why: "the metadata has no address of it".into(),
            });
        };
        let connection = Connection::connect(&address, &options).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Takes what the leader says of one partition.
    async fn take(&mut self, connection: &Connection, key: Key, asked: &Position, data: PartitionData) {
        let Some(partition) = self.partitions.get(&key).cloned() else { return };
        let outcome = match ErrorCode::from_wire(data.error_code) {
            ErrorCode::None => self.take_records(&partition, key, asked, data).await,
            ErrorCode::OffsetOutOfRange => {
                self.session.touch(key);
                self.resume(connection, &partition, asked).await
            }
            code => {
                debug!(partition = %partition.id(), leader = %self.leader, "cannot be fetched: {}", code.name());
                Ok(false)
            }
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => self.delay(key),
            Err(error) => {
                warn!(partition = %partition.id(), leader = %self.leader, "what came is not stored: {error}");
                self.sources.note_failure(&partition, &error);
                self.delay(key);
            }
        }
    }

    async fn take_records(
        &mut self,
        partition: &Arc<Partition>,
        key: Key,
        asked: &Position,
        data: PartitionData,
    ) -> Result<bool, PartitionError> {
        let now_ms = self.sources.clock().now_ms();
        if data.diverging_epoch.end_offset >= 0 {
            let leaders = EpochEnd {
                epoch: LeaderEpoch(data.diverging_epoch.epoch),
                end_offset: Offset(data.diverging_epoch.end_offset),
            };
            self.session.touch(key);
            if let Some(end) = partition.truncate_diverging(asked, leaders, now_ms)? {
                info!(partition = %partition.id(), leader = %self.leader, %end, "cut back to where it agrees with its leader");
            }
            return Ok(true);
        }
        let bytes = match &data.records {
            Some(Records::Inline(bytes)) => bytes.clone(),
            _ => bytes::Bytes::new(),
        };
        let sent = Sent {
            bytes: &bytes,
            high_watermark: Offset(data.high_watermark),
            log_start_offset: Offset(data.log_start_offset),
        };
        if !bytes.is_empty() || sent.log_start_offset > asked.log_start_offset {
            self.session.touch(key);
        }
        let taken = partition.append_fetched(asked, &sent, now_ms)?;
        if let Taken::Done { must_flush: true, .. } = taken {
            let flushed = Arc::clone(partition);
            // The next fetch says that it has this: not before it has.
            match spawn_blocking(move || flushed.flush()).await {
                Ok(flushed) => flushed?,
                Err(_) => return Ok(false),
            }
        }
        Ok(!self.must_wait(partition, bytes.len()))
    }

    /// Counts what came for a throttled replica; `true` where it has to wait before it gets more.
    fn must_wait(&self, partition: &Partition, bytes: usize) -> bool {
        let node = self.sources.identity().0;
        let is_throttled = partition.config().follower_throttled.contains(partition.id().partition, node.0);
        if !is_throttled || self.sources.is_in_sync(partition) {
            return false;
        }
        let now_ms = i64::try_from(self.sources.clock().elapsed().as_millis()).unwrap_or(i64::MAX);
        self.throttle.record(now_ms, bytes);
        self.throttle.is_exceeded(now_ms, self.sources.config().replication.follower_throttled_rate)
    }

    /// Finds out where the leader's log begins and ends, and goes on within it.
    async fn resume(
        &self,
        connection: &Connection,
        partition: &Arc<Partition>,
        asked: &Position,
    ) -> Result<bool, PartitionError> {
        let (start, end) = (
            self.offset_at(connection, partition, asked, EARLIEST).await,
            self.offset_at(connection, partition, asked, LATEST).await,
        );
        let (Some(start), Some(end)) = (start, end) else { return Ok(false) };
        let offsets = LogOffsets { start, end, held: end, high_watermark: start };
        let resumed = partition.resume_within(asked, &offsets, self.sources.clock().now_ms())?;
        if let Some(resumed) = resumed {
            warn!(
                partition = %partition.id(),
                leader = %self.leader,
                offset = %asked.fetch_offset,
                "the leader's log is from {start} to {end}: {resumed:?}"
            );
        }
        // One that is in range, and yet was refused, asks again later.
        Ok(resumed.is_some_and(|resumed| resumed != Resume::GoOn))
    }

    async fn offset_at(
        &self,
        connection: &Connection,
        partition: &Partition,
        asked: &Position,
        timestamp: i64,
    ) -> Option<Offset> {
        let id = partition.id();
        let request = ListOffsetsRequest {
            replica_id: self.sources.identity().0.0,
            topics: vec![ListOffsetsTopic {
                name: id.topic.as_str().into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: id.partition,
                    current_leader_epoch: asked.leader_epoch.0,
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
                ..ListOffsetsTopic::default()
            }],
            ..ListOffsetsRequest::default()
        };
        let response = connection.call(&request).await.ok()?;
        let answer = response.topics.first()?.partitions.first()?;
        (answer.error_code == 0 && answer.offset >= 0).then_some(Offset(answer.offset))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{Layers, TopicConfig};
    use crate::metadata::PartitionRegistration;
    use crate::net::outgoing::fake::{Asked, Reply, listen};
    use crate::protocol::ApiKey;
    use crate::protocol::messages::fetch_response::{EpochEndOffset, FetchResponse, FetchableTopicResponse};
    use crate::protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
    };
    use crate::record::{BatchBuilder, Compression};
    use crate::replication::surroundings::Surroundings;
    use crate::replication::{Acks, Isolation, ReadSpec, ReplicaFetch};
    use crate::storage::{Log, LogHome, LogOptions, RealDisk};
    use crate::types::{SystemClock, TopicPartition, Uuid};

    const TOPIC: Uuid = Uuid([5; 16]);

    fn replica(node: i32, folder: &Path) -> Arc<Partition> {
        let id = TopicPartition::from_dir_name("t-0").unwrap();
        let home = LogHome::new(RealDisk::new());
        let folder = folder.join(node.to_string());
        std::fs::create_dir(&folder).unwrap();
        let log = Log::create(&home, &folder.join("t-0"), id.clone(), None, LogOptions::default(), 0);
        let around = Arc::new(Surroundings::new(BrokerId(node), SystemClock::new()));
        Arc::new(Partition::new(id, TOPIC, around, Arc::new(TopicConfig::default()), log.unwrap()))
    }

    fn registration(leader: i32, leader_epoch: i32) -> PartitionRegistration {
        let (replicas, isr) = (vec![1, 2], vec![1, 2]);
        PartitionRegistration { replicas, isr, leader, leader_epoch, ..PartitionRegistration::default() }
    }

    fn append(partition: &Partition, values: &[&str]) {
        for value in values {
            let mut builder = BatchBuilder::new(Compression::NONE);
            builder.append(0, None, Some(value.as_bytes()), []);
            partition.append(&builder.build().unwrap(), Acks::Leader, 0).unwrap();
        }
    }

    /// Answers as a leader, without sessions and without waiting.
    fn lead(partition: &Partition, mut asked: Asked) -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Fetch => {
                let request: FetchRequest = asked.read();
                let answers = request.topics.iter().flat_map(|topic| &topic.partitions).map(|wanted| {
                    let spec = ReadSpec {
                        from: Offset(wanted.fetch_offset),
                        max_bytes: 1 << 20,
                        at_least_one: true,
                        isolation: Isolation::Uncommitted,
                        current_leader_epoch: wanted.current_leader_epoch,
                        last_fetched_epoch: wanted.last_fetched_epoch,
                        leader_only: true,
                    };
                    let fetch = ReplicaFetch {
                        replica: request.replica_state.replica_id,
                        broker_epoch: request.replica_state.replica_epoch,
                        fetch_offset: spec.from,
                        log_start_offset: Offset(wanted.log_start_offset),
                    };
                    data_of(partition.read_for_replica(&spec, &fetch, true).map(|(outcome, _)| outcome))
                });
                let topic = FetchableTopicResponse {
                    topic_id: TOPIC,
                    partitions: answers.collect(),
                    ..FetchableTopicResponse::default()
                };
                asked.answer(&FetchResponse { responses: vec![topic], ..FetchResponse::default() })
            }
            _ => {
                let request: ListOffsetsRequest = asked.read();
                let timestamp = request.topics[0].partitions[0].timestamp;
                let offset = partition.with_log_anyway(|log| match timestamp {
                    EARLIEST => log.log_start_offset(),
                    _ => log.log_end_offset(),
                });
                let answer = ListOffsetsPartitionResponse {
                    offset: offset.0,
                    ..ListOffsetsPartitionResponse::default()
                };
                let topic = ListOffsetsTopicResponse {
                    partitions: vec![answer],
                    ..ListOffsetsTopicResponse::default()
                };
                asked.answer(&ListOffsetsResponse { topics: vec![topic], ..ListOffsetsResponse::default() })
            }
        }
    }

    fn data_of(read: Result<crate::replication::ReadOutcome, PartitionError>) -> PartitionData {
        let Ok(read) = read else {
            return PartitionData {
                error_code: ErrorCode::OffsetOutOfRange.code(),
                ..PartitionData::default()
            };
        };
        let mut data = PartitionData {
            high_watermark: read.high_watermark.0,
            log_start_offset: read.log_start_offset.0,
            records: Some(Records::Inline(read.region.map(|it| it.read().unwrap()).unwrap_or_default())),
            ..PartitionData::default()
        };
        if let Some((epoch, end_offset)) = read.diverging {
            data.diverging_epoch =
                EpochEndOffset { epoch: epoch.0, end_offset: end_offset.0, ..EpochEndOffset::default() };
        }
        data
    }

    /// Node 2, whose leader is at `socket`.
    struct Node2 {
        socket: PathBuf,
        config: Arc<BrokerConfig>,
        clock: Arc<dyn Clock>,
    }

    impl Sources for Node2 {
        fn address(&self, _: BrokerId) -> Option<Address> {
            Some(Address::Unix(self.socket.clone()))
        }

        fn config(&self) -> Arc<BrokerConfig> {
            Arc::clone(&self.config)
        }

        fn identity(&self) -> (BrokerId, i64) {
            (BrokerId(2), 7)
        }

        fn clock(&self) -> &Arc<dyn Clock> {
            &self.clock
        }

        fn is_in_sync(&self, _: &Partition) -> bool {
            true
        }

        fn note_failure(&self, _: &Partition, _: &PartitionError) {}
    }

    async fn until(partition: &Partition, is_so: impl Fn(&mut Log) -> bool) {
        let clock = SystemClock::new();
        while !partition.with_log_anyway(&is_so) {
            assert!(clock.elapsed() < Duration::from_secs(60), "it does not come");
            clock.wait(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_follower_becomes_what_its_leader_is_over_the_wire() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("leader");
        let (leader, follower) = (replica(1, folder.path()), replica(2, folder.path()));
        // What the follower wrote when it led is not what the leader has there.
        follower.assume(&registration(2, 1));
        append(&follower, &["mine", "mine as well"]);
        leader.assume(&registration(1, 2));
        append(&leader, &["one", "two", "three"]);
        listen(&socket, {
            let leader = Arc::clone(&leader);
            move |asked| lead(&leader, asked)
        });
        let flags = vec![("replica.fetch.backoff.ms".to_owned(), "1".to_owned())];
        let layers = Layers { flags, dirs: vec![folder.path().to_owned()], ..Layers::default() };
        let (config, _) = BrokerConfig::load(layers).unwrap();
        let fetchers =
            Fetchers::new(Arc::new(Node2 { socket, config: Arc::new(config), clock: SystemClock::new() }));
        follower.assume(&registration(1, 2));
        fetchers.follow(&[Arc::clone(&follower)]);
        until(&leader, |log| log.high_watermark() == Offset(3)).await;
        until(&follower, |log| log.high_watermark() == Offset(3)).await;
        // Behind the follower's back the leader's log begins later: it begins there, too.
        append(&leader, &["four"]);
        until(&leader, |log| log.high_watermark() == Offset(4)).await;
        leader.delete_records_before(Some(Offset(3))).unwrap();
        until(&follower, |log| log.log_start_offset() == Offset(3)).await;
        let bytes = |partition: &Partition| {
            partition.with_log_anyway(|log| {
                let read = log.read(Offset(3), log.log_end_offset(), 1 << 20, true).unwrap();
                read.into_slice().unwrap().region.read().unwrap()
            })
        };
        assert_eq!(bytes(&leader), bytes(&follower));
        // It does not follow any more, and nothing is fetched.
        follower.assume(&registration(2, 3));
        fetchers.follow(&[Arc::clone(&follower)]);
        assert!(fetchers.inner.lock().workers.is_empty());
        fetchers.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_follower_that_has_nothing_of_what_is_left_begins_where_its_leader_does() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("leader");
        let (leader, follower) = (replica(1, folder.path()), replica(2, folder.path()));
        let alone = PartitionRegistration { replicas: vec![1], isr: vec![1], ..registration(1, 1) };
        leader.assume(&alone);
        append(&leader, &["one", "two", "three"]);
        leader.delete_records_before(Some(Offset(2))).unwrap();
        leader.assume(&registration(1, 2));
        listen(&socket, {
            let leader = Arc::clone(&leader);
            move |asked| lead(&leader, asked)
        });
        let layers = Layers { dirs: vec![folder.path().to_owned()], ..Layers::default() };
        let (config, _) = BrokerConfig::load(layers).unwrap();
        let fetchers =
            Fetchers::new(Arc::new(Node2 { socket, config: Arc::new(config), clock: SystemClock::new() }));
        follower.assume(&registration(1, 2));
        fetchers.follow(&[Arc::clone(&follower)]);
        until(&follower, |log| log.log_start_offset() == Offset(2) && log.log_end_offset() == Offset(3))
            .await;
        fetchers.close().await;
    }
}
