//! All fetchers of a broker: `num.replica.fetchers` to each leader. A partition belongs to one of them at a time, by its
//! leader.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::fetcher::{Fetcher, Inbox, Order};
use super::fetching::{Key, key_of};
use super::partition::{Partition, PartitionError};
use super::throttle::Throttle;
use crate::config::BrokerConfig;
use crate::net::outgoing::Address;
use crate::types::{BrokerId, Clock};

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
            let (sources, throttle) = (Arc::clone(&fetchers.sources), Arc::clone(&fetchers.throttle));
            let fetcher = Fetcher::new(BrokerId(slot.0), sources, throttle, Arc::clone(&inbox));
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::super::fetcher::EARLIEST;
    use super::*;
    use crate::config::{Layers, TopicConfig};
    use crate::metadata::PartitionRegistration;
    use crate::net::outgoing::fake::{Asked, Reply, listen};
    use crate::protocol::messages::fetch_request::FetchRequest;
    use crate::protocol::messages::fetch_response::{
        EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use crate::protocol::messages::list_offsets_request::ListOffsetsRequest;
    use crate::protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
    };
    use crate::protocol::{ApiKey, ErrorCode, Records};
    use crate::record::{BatchBuilder, Compression};
    use crate::replication::surroundings::Surroundings;
    use crate::replication::{Acks, Isolation, ReadSpec, ReplicaFetch};
    use crate::storage::{Log, LogHome, LogOptions, RealDisk};
    use crate::types::{Offset, SystemClock, TopicPartition, Uuid};

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
    #[tokio::test(flavor = "multi_thread")]
    async fn a_leader_of_a_new_epoch_does_not_wait_for_the_fetch_on_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("leader");
        let (leader, follower) = (replica(1, folder.path()), replica(2, folder.path()));
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        listen(&socket, {
            let leader = Arc::clone(&leader);
            move |asked| match asked.key() {
                ApiKey::Fetch if asked.connection == 0 => {
                    sender.send(()).unwrap();
                    Reply::Nothing
                }
                _ => lead(&leader, asked),
            }
        });
        // Longer than the test waits.
        let flags = vec![("replica.socket.timeout.ms".to_owned(), "600000".to_owned())];
        let layers = Layers { flags, dirs: vec![folder.path().to_owned()], ..Layers::default() };
        let (config, _) = BrokerConfig::load(layers).unwrap();
        let fetchers =
            Fetchers::new(Arc::new(Node2 { socket, config: Arc::new(config), clock: SystemClock::new() }));
        leader.assume(&registration(1, 2));
        follower.assume(&registration(1, 2));
        fetchers.follow(&[Arc::clone(&follower)]);
        arrived.recv().await.unwrap();
        leader.assume(&registration(1, 3));
        follower.assume(&registration(1, 3));
        append(&leader, &["one"]);
        fetchers.follow(&[Arc::clone(&follower)]);
        until(&follower, |log| log.log_end_offset() == Offset(1)).await;
        fetchers.close().await;
    }
}
