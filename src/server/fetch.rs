//! Fetch (1), versions 4 to 18: records from partitions, whole batches from the page cache.
//!
//! Waits up to `max_wait_ms` until `min_bytes` are there; nobody polls meanwhile. The first partition that
//! has records gives at least one whole batch, whatever the limits. Sessions as in KIP-227. All offsets of a
//! partition in an answer are of one moment, and no record at or above the high watermark (with
//! read_committed: the last stable offset) is in a consumer's. A follower reads to the end of the leader's log, and
//! the offset that it asks for says what it has. A consumer that says where it is may be sent to a nearer replica
//! (KIP-392), which serves it below its own high watermark.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::call::Call;
use super::error_map;
use super::leader_hints::{LeaderHint, LeaderHints};
use super::nearest;
use super::node::Node;
use super::session::Session;
use crate::net::{Answer, Reply};
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use crate::protocol::{DecodeError, ErrorCode, Records, Str};
use crate::replication::fetch_session::FetchContext;
use crate::replication::{
    FetchItem, Isolation, Outcome, Partition, PartitionError, ReadOutcome, ReadSpec, ReplicaFetch, TopicKey,
    Waiter,
};
use crate::storage::Region;
use crate::types::{Offset, Uuid};

/// From this version on topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;
/// From this version on a consumer says where it is, and may read from followers.
const RACKS_FROM: i16 = 11;
/// From this version on answers say who leads.
const HINTS_FROM: i16 = 16;
/// From this version on batches packed with zstd may be sent.
const ZSTD_FROM: i16 = 10;

/// Reads at once what is there, or waits for more.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Arc<Node>, _: &mut Session, mut call: Call) -> Result<Reply, DecodeError> {
    let request: FetchRequest = call.decode()?;
    let items = items_of(&request, call.version);
    let forgotten = forgotten_of(&request, call.version);
    let session = (request.session_id, request.session_epoch);
    let context = match node.sessions.begin(call.version, session, items, &forgotten, node.clock.now_ms()) {
        Ok(context) => context,
        Err(error) => return Ok(call.reply(&refused(error))),
    };
    call.forget_frame();
    let fetch = Fetch::new(node, call, &request, context);
    let attempt = fetch.read(node, true);
    if fetch.is_enough(&attempt) {
        return Ok(Reply::Now(fetch.answer(node, attempt)));
    }
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let attempt = fetch.wait(&node, attempt.bytes).await;
        fetch.answer(&node, attempt)
    })))
}

/// One request whose partitions have been looked up.
struct Fetch {
    call: Call,
    context: FetchContext,
    /// One for each item of the context.
    found: Vec<Result<Arc<Partition>, ErrorCode>>,
    isolation: Isolation,
    /// The follower that asks, and the epoch of its broker.
    replica: Option<(i32, i64)>,
    /// Where the consumer is, if a nearer replica may be chosen for it.
    rack: Option<String>,
    max_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
}

/// What one look at all partitions gave.
struct Attempt {
    reads: Vec<Result<ReadOutcome, ErrorCode>>,
    bytes: usize,
    /// An error or a divergence: the client is told at once.
    is_news: bool,
}

impl Fetch {
    fn new(node: &Arc<Node>, call: Call, request: &FetchRequest, context: FetchContext) -> Self {
        let replica = match (request.replica_state.replica_id, request.replica_id) {
            (id, _) if id >= 0 => Some((id, request.replica_state.replica_epoch)),
            (_, id) if id >= 0 => Some((id, -1)),
            _ => None,
        };
        let version = call.version;
        let found = context.items.iter().map(|item| find_partition(node, item, version)).collect();
        let rack = nearest::rack_of(node, &request.rack_id).filter(|_| replica.is_none());
        let max_bytes =
            usize::try_from(request.max_bytes).unwrap_or(0).min(node.config().fetch_max_bytes as usize);
        Self {
            call,
            context,
            found,
            isolation: if request.isolation_level == 1 {
                Isolation::Committed
            } else {
                Isolation::Uncommitted
            },
            replica,
            rack,
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        }
    }

    /// Looks at all partitions. What a follower asks for counts the first time only: later it says nothing new.
    fn read(&self, node: &Node, count: bool) -> Attempt {
        let mut attempt = Attempt { reads: Vec::with_capacity(self.found.len()), bytes: 0, is_news: false };
        for (item, found) in self.context.items.iter().zip(&self.found) {
            let read = match found {
                Ok(partition) => self.read_one(node, item, partition, attempt.bytes, count),
                Err(code) => Err(*code),
            };
            match &read {
                Ok(outcome) => {
                    attempt.bytes += outcome.len();
                    attempt.is_news |= outcome.diverging.is_some() || outcome.preferred_replica.is_some();
                }
                Err(_) => attempt.is_news = true,
            }
            attempt.reads.push(read);
        }
        attempt
    }

    fn read_one(
        &self,
        node: &Node,
        item: &FetchItem,
        partition: &Arc<Partition>,
        bytes_so_far: usize,
        count: bool,
    ) -> Result<ReadOutcome, ErrorCode> {
        let partition_max = usize::try_from(item.partition_max_bytes).unwrap_or(0);
        let spec = ReadSpec {
            from: Offset(item.fetch_offset),
            max_bytes: partition_max.min(self.max_bytes.saturating_sub(bytes_so_far)),
            at_least_one: bytes_so_far == 0,
            isolation: self.isolation,
            current_leader_epoch: item.current_leader_epoch,
            last_fetched_epoch: item.last_fetched_epoch,
            leader_only: self.call.version < RACKS_FROM,
        };
        let read = match self.replica {
            Some((replica, broker_epoch)) => {
                let fetch = ReplicaFetch {
                    replica,
                    broker_epoch,
                    fetch_offset: spec.from,
                    log_start_offset: Offset(item.log_start_offset),
                };
                read_for_replica(node, partition, spec, &fetch, count)
            }
            None => partition.read(&spec),
        };
        let mut outcome = read.map_err(|error| error_map::of_partition(&error))?;
        if let Some(rack) = &self.rack {
            outcome.preferred_replica = nearest::choose(node, partition, spec.from, rack);
            if outcome.preferred_replica.is_some() {
                outcome.region = None;
            }
        }
        Ok(outcome)
    }

    fn is_enough(&self, attempt: &Attempt) -> bool {
        attempt.is_news
            || attempt.bytes >= self.min_bytes
            || self.max_wait.is_zero()
            || self.context.items.is_empty()
    }

    /// Waits until there is enough, the time is over, or the broker stops. `bytes` were there at the last look.
    async fn wait(&self, node: &Arc<Node>, mut bytes: usize) -> Attempt {
        let mut deadline = node.clock.wait(self.max_wait);
        let mut stopping = std::pin::pin!(node.stopping());
        loop {
            let missing = self.min_bytes.saturating_sub(bytes).max(1);
            let waiter = Waiter::new(i64::try_from(missing).unwrap_or(i64::MAX));
            for partition in self.found.iter().flatten() {
                match self.replica {
                    Some(_) => partition.wait_for_append(&waiter),
                    None => partition.wait_for_bytes(&waiter),
                }
            }
            let attempt = self.read(node, false);
            if self.is_enough(&attempt) {
                return attempt;
            }
            if std::mem::replace(&mut bytes, attempt.bytes) != attempt.bytes {
                // Something came before the waiter was there: it would wait for too much.
                continue;
            }
            let is_over = tokio::select! {
                biased;
                () = waiter => false,
                () = &mut deadline => true,
                () = &mut stopping => true,
            };
            if is_over {
                return self.read(node, false);
            }
        }
    }

    fn answer(self, node: &Node, attempt: Attempt) -> Answer {
        let Self { call, context, .. } = self;
        let items = context.items.clone();
        let outcomes: Vec<Outcome> = attempt.reads.iter().map(outcome_of).collect();
        let (session_id, told) = match node.sessions.finish(context, &outcomes, node.clock.now_ms()) {
            Ok(finished) => finished,
            Err(error) => return call.answer(&refused(error)),
        };
        let mut response = FetchResponse { session_id, ..FetchResponse::default() };
        let mut regions = Vec::new();
        let mut hints = LeaderHints::default();
        for ((item, read), told) in items.into_iter().zip(attempt.reads).zip(told) {
            if told {
                let mut data = partition_data(item.partition, read, &mut regions);
                if call.version >= HINTS_FROM && data.error_code != 0 {
                    data.current_leader = hint(node, &mut hints, &item, data.error_code).into();
                }
                push(&mut response.responses, item.topic, data);
            }
        }
        response.node_endpoints = hints.endpoints(node, &call, |id, endpoint, rack| NodeEndpoint {
            node_id: id,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack,
            ..NodeEndpoint::default()
        });
        call.answer_in_version(call.version, &response, regions)
    }
}

/// Reads for a follower; one that is throttled gets nothing while the rate is exceeded.
fn read_for_replica(
    node: &Node,
    partition: &Arc<Partition>,
    mut spec: ReadSpec,
    fetch: &ReplicaFetch,
    count: bool,
) -> Result<ReadOutcome, PartitionError> {
    let is_throttled = partition.config().leader_throttled.contains(partition.id().partition, node.id.0)
        && !partition.is_in_sync(fetch.replica);
    let now_ms = i64::try_from(node.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
    if is_throttled
        && node.leader_throttle.is_exceeded(now_ms, node.config().replication.leader_throttled_rate)
    {
        (spec.max_bytes, spec.at_least_one) = (0, false);
    }
    let (outcome, proposes) = partition.read_for_replica(&spec, fetch, count)?;
    if is_throttled {
        node.leader_throttle.record(now_ms, outcome.len());
    }
    if proposes {
        node.isr.enqueue(partition);
    }
    Ok(outcome)
}

/// Who leads instead; topics are named by id in all versions that say so.
fn hint(node: &Node, hints: &mut LeaderHints, item: &FetchItem, error_code: i16) -> LeaderHint {
    let image = node.image();
    match image.topic_by_id(item.topic.id) {
        Some(topic) => hints.look_up(node, (topic.name.as_str(), item.partition), error_code),
        None => LeaderHint::NONE,
    }
}

impl From<LeaderHint> for LeaderIdAndEpoch {
    fn from(hint: LeaderHint) -> Self {
        Self { leader_id: hint.leader, leader_epoch: hint.epoch, ..Self::default() }
    }
}

fn items_of(request: &FetchRequest, version: i16) -> Vec<FetchItem> {
    let mut items = Vec::new();
    for topic in &request.topics {
        let key = key_of(&topic.topic, topic.topic_id, version);
        for partition in &topic.partitions {
            items.push(FetchItem {
                topic: key.clone(),
                partition: partition.partition,
                current_leader_epoch: partition.current_leader_epoch,
                fetch_offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                partition_max_bytes: partition.partition_max_bytes,
            });
        }
    }
    items
}

fn forgotten_of(request: &FetchRequest, version: i16) -> Vec<(TopicKey, i32)> {
    let topics = request.forgotten_topics_data.iter();
    topics
        .flat_map(|topic| {
            let key = key_of(&topic.topic, topic.topic_id, version);
            topic.partitions.iter().map(move |&partition| (key.clone(), partition))
        })
        .collect()
}

fn key_of(name: &Str, id: Uuid, version: i16) -> TopicKey {
    if version >= TOPIC_IDS_FROM {
        TopicKey { name: Str::empty(), id }
    } else {
        TopicKey { name: name.detached(), id: Uuid::ZERO }
    }
}

fn find_partition(node: &Node, item: &FetchItem, version: i16) -> Result<Arc<Partition>, ErrorCode> {
    let topic = if version >= TOPIC_IDS_FROM {
        node.topic_by_id(item.topic.id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        let topic = node.topic_by_name(&item.topic.name);
        topic.ok_or_else(|| absence_code(node, &item.topic.name, item.partition))?
    };
    let Some(partition) = topic.partition(item.partition) else {
        return node.partition(&topic.text, item.partition);
    };
    if version < ZSTD_FROM && partition.packs_with_zstd() {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    Ok(Arc::clone(partition))
}

/// A topic of which nothing is here may be elsewhere.
fn absence_code(node: &Node, topic: &str, index: i32) -> ErrorCode {
    node.partition(topic, index).err().unwrap_or(ErrorCode::NotLeaderOrFollower)
}

fn outcome_of(read: &Result<ReadOutcome, ErrorCode>) -> Outcome {
    match read {
        Ok(read) => Outcome {
            error_code: 0,
            high_watermark: read.high_watermark.0,
            log_start_offset: read.log_start_offset.0,
            records_len: read.len(),
            diverges: read.diverging.is_some() || read.preferred_replica.is_some(),
        },
        Err(code) => Outcome {
            error_code: code.code(),
            high_watermark: -1,
            log_start_offset: -1,
            records_len: 0,
            diverges: false,
        },
    }
}

fn partition_data(
    partition_index: i32,
    read: Result<ReadOutcome, ErrorCode>,
    regions: &mut Vec<Region>,
) -> PartitionData {
    let empty = || Some(Records::Inline(Bytes::new()));
    let mut data = PartitionData { partition_index, records: empty(), ..PartitionData::default() };
    let read = match read {
        Ok(read) => read,
        Err(code) => {
            data.error_code = code.code();
            data.high_watermark = -1;
            return data;
        }
    };
    data.high_watermark = read.high_watermark.0;
    data.last_stable_offset = read.last_stable_offset.0;
    data.log_start_offset = read.log_start_offset.0;
    data.preferred_read_replica = read.preferred_replica.unwrap_or(-1);
    if let Some((epoch, end_offset)) = read.diverging {
        data.diverging_epoch =
            EpochEndOffset { epoch: epoch.0, end_offset: end_offset.0, ..EpochEndOffset::default() };
    }
    data.aborted_transactions = read.aborted.map(|aborted| {
        let aborted = aborted.into_iter().map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id: producer_id.0,
            first_offset: first_offset.0,
            ..AbortedTransaction::default()
        });
        aborted.collect()
    });
    if let Some(region) = read.region {
        data.records = Some(Records::Outside { len: region.len() });
        regions.push(region);
    }
    data
}

/// Partitions of one topic that follow each other share an entry.
fn push(responses: &mut Vec<FetchableTopicResponse>, topic: TopicKey, data: PartitionData) {
    match responses.last_mut() {
        Some(last) if last.topic == topic.name && last.topic_id == topic.id => last.partitions.push(data),
        _ => responses.push(FetchableTopicResponse {
            topic: topic.name,
            topic_id: topic.id,
            partitions: vec![data],
            ..FetchableTopicResponse::default()
        }),
    }
}

fn refused(error: ErrorCode) -> FetchResponse {
    FetchResponse { error_code: error.code(), ..FetchResponse::default() }
}
