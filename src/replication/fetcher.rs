//! A fetcher: one connection to one leader, with an incremental session on it (KIP-227), so that a request names only
//! what has moved.
//!
//! What is answered after a partition has another leader is ignored by the partition itself. A partition that cannot
//! go on waits for `replica.fetch.backoff.ms`, out of the session meanwhile; the others of its leader do not wait for it.
//! One that changes to this leader does not wait for the fetch on its way either, which may take as long as
//! `replica.fetch.wait.max.ms`: acks=all of its new leader would wait as long.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::divergence::Resume;
use super::fetchers::Sources;
use super::fetching::{Answered, Key, Session, key_of};
use super::following::{Position, Sent, Taken};
use super::leader::LogOffsets;
use super::partition::{Partition, PartitionError};
use super::throttle::Throttle;
use crate::net::outgoing::{Connection, ConnectionError, ConnectionOptions};
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::{ErrorCode, Records};
use crate::storage::EpochEnd;
use crate::types::{BrokerId, LeaderEpoch, Offset};

/// The special times of ListOffsets.
const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;
/// From this version on a follower names itself with its broker's epoch.
const REPLICA_STATE_FROM: i16 = 15;
/// How often a fetch on its way is given up at the most: the next one has to name every partition.
const GIVE_UP_PAUSE: Duration = Duration::from_secs(1);

/// The first pause after the leader knew of another leader than this follower; it doubles.
const DISAGREEMENT_PAUSE: Duration = Duration::from_millis(10);
const DISAGREEMENTS_MAX: u32 = 10;

/// What a fetcher is told.
#[derive(Default)]
pub(super) struct Inbox {
    orders: Mutex<Vec<Order>>,
    wake: Notify,
    /// A partition has changed its leader, and its new one waits for this follower.
    is_urgent: AtomicBool,
}

pub(super) enum Order {
    Begin(Arc<Partition>),
    End(Key),
}

impl Inbox {
    pub(super) fn put(&self, order: Order) {
        let is_urgent = match &order {
            // The first leader of a new topic has nobody waiting yet.
            Order::Begin(partition) => partition.following().is_some_and(|it| it.epoch > LeaderEpoch(0)),
            Order::End(_) => false,
        };
        self.orders.lock().push(order);
        self.is_urgent.fetch_or(is_urgent, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Order> {
        // Before the orders: one that comes in between stays urgent.
        self.is_urgent.store(false, Ordering::Release);
        std::mem::take(&mut *self.orders.lock())
    }

    /// Resolves when something has come that cannot wait. Whoever waits takes the orders next.
    async fn urgent(&self) {
        while !self.is_urgent.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }
}

/// One connection to one leader.
pub(super) struct Fetcher {
    leader: BrokerId,
    sources: Arc<dyn Sources>,
    throttle: Arc<Throttle>,
    inbox: Arc<Inbox>,
    connection: Option<Connection>,
    session: Session,
    partitions: HashMap<Key, Arc<Partition>>,
    /// Until when they wait.
    delayed: HashMap<Key, Duration>,
    /// How often in a row the two sides did not know of the same leader.
    disagreements: HashMap<Key, u32>,
    /// The leader cannot be reached, and that has been said.
    is_cut_off: bool,
    /// From when on a fetch on its way may be given up again.
    may_give_up_at: Duration,
}

impl Fetcher {
    /// One without partitions.
    pub(super) fn new(
        leader: BrokerId,
        sources: Arc<dyn Sources>,
        throttle: Arc<Throttle>,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self {
            leader,
            sources,
            throttle,
            inbox,
            connection: None,
            session: Session::default(),
            partitions: HashMap::new(),
            delayed: HashMap::new(),
            disagreements: HashMap::new(),
            is_cut_off: false,
            may_give_up_at: Duration::ZERO,
        }
    }

    /// Fetches until it is aborted.
    pub(super) async fn run(mut self) {
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
        for order in self.inbox.take() {
            match order {
                Order::Begin(partition) => {
                    let key = key_of(&partition);
                    self.delayed.remove(&key);
                    self.disagreements.remove(&key);
                    self.session.touch(key);
                    self.partitions.insert(key, partition);
                }
                Order::End(key) => {
                    self.delayed.remove(&key);
                    self.disagreements.remove(&key);
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
        self.delay_for(key, self.backoff());
    }

    fn delay_for(&mut self, key: Key, pause: Duration) {
        let until = self.sources.clock().elapsed() + pause;
        self.session.forget(key);
        self.delayed.insert(key, until);
    }

    /// The two sides learn of a new leader within milliseconds of each other: a short wait at first.
    fn disagree(&mut self, key: Key) {
        let times = self.disagreements.entry(key).or_default();
        let pause = DISAGREEMENT_PAUSE.saturating_mul(1 << (*times).min(DISAGREEMENTS_MAX));
        *times = times.saturating_add(1);
        self.delay_for(key, pause.min(self.backoff()));
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
        let pending = connection.start(&request, version, timeout)?;
        let response = tokio::select! {
            response = pending.answer() => response?,
            () = self.urgent() => {
                // Nothing of that fetch counts: the connection goes with it, and the next one begins a session.
                self.may_give_up_at = self.sources.clock().elapsed() + GIVE_UP_PAUSE;
                self.connection = None;
                return Ok(true);
            }
        };
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

    /// Resolves when the fetch on its way should be given up for a partition that cannot wait for it.
    async fn urgent(&self) {
        self.inbox.urgent().await;
        self.sources.clock().wait_until(self.may_give_up_at).await;
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
                if is_about_the_leader(code) {
                    return self.disagree(key);
                }
                Ok(false)
            }
        };
        match outcome {
            Ok(true) => {
                self.disagreements.remove(&key);
            }
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

/// One of the two sides has not heard of a change yet.
fn is_about_the_leader(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
    )
}
