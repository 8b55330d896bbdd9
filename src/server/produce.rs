//! Produce (0), versions 3 to 13: appends batches and answers when they are as safe as `acks` asks.
//!
//! Every batch is walked before any lock is taken; then appends happen in the order of the request, each
//! partition by itself: one that is refused costs the others nothing. acks=1 is answered when the append is done, or
//! synced where `flush.messages` says so; acks=all when every replica in sync has it; acks=0 never, and an error
//! then ends the connection, as it does in Kafka. Whoever asks the wrong broker is told who leads.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::call::{Call, text};
use super::error_map::Failure;
use super::intake::{Place, Turn, Wait};
use super::leader_hints::{LeaderHint, LeaderHints};
use super::node::{Absence, Node};
use super::session::Session;
use crate::net::{Answer, Reply};
use crate::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Records, Str};
use crate::record::{Rewrite, Scratch, Walked, rewrite, walk};
use crate::replication::{Accepted, Acks, Partition, Topic, Waiter};
use crate::types::{TopicName, Uuid};

/// From this version on batches may be packed with zstd.
const ZSTD_FROM: i16 = 7;
/// From this version on answers say who leads.
const HINTS_FROM: i16 = 10;
/// From this version on topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;

thread_local! {
    /// The window that compressed batches stream through: one a thread, whatever the number of connections.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Appends, or queues the append behind those that wait.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Arc<Node>, session: &mut Session, call: Call) -> Result<Reply, DecodeError> {
    let request: ProduceRequest = call.decode()?;
    let job = Job::new(node, call, &request);
    drop(request);
    let Some(turn) = job.turn(node, session) else {
        return Ok(job.append(node));
    };
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let reply = job.append_in_turn(&node, turn).await;
        match reply {
            Reply::Now(answer) => answer,
            Reply::Later(future) => future.await,
        }
    })))
}

/// A topic that a request names, and the cluster may have.
struct Found {
    /// Its partitions, unless they are still being made here.
    here: Option<Arc<Topic>>,
    name: Str,
}

/// One request, taken apart.
struct Job {
    call: Call,
    acks: i16,
    timeout: Duration,
    topics: Vec<(Str, Uuid)>,
    parts: Vec<Part>,
}

/// One partition's share of the request.
struct Part {
    /// Which of the job's topics.
    topic: usize,
    index: i32,
    state: State,
}

enum State {
    Refused(Failure),
    /// Known to the cluster, but its log is still being made here.
    Expected(Bytes),
    /// Walked, and rewritten where that was due.
    Ready(Arc<Partition>, Bytes),
    Appended(Arc<Partition>, Accepted),
}

impl Job {
    fn new(node: &Arc<Node>, call: Call, request: &ProduceRequest) -> Self {
        let mut job = Self {
            acks: request.acks,
            timeout: Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)),
            topics: Vec::with_capacity(request.topic_data.len()),
            parts: Vec::with_capacity(request.topic_data.len()),
            call,
        };
        let refused = refuse_whole(request);
        for data in &request.topic_data {
            job.take_topic(node, data, refused.as_ref());
        }
        job
    }

    fn take_topic(&mut self, node: &Node, data: &TopicProduceData, refused: Option<&Failure>) {
        let topic = self.find_topic(node, data);
        let name = topic.as_ref().map_or_else(|_| data.name.detached(), |topic| topic.name.clone());
        let at = self.topics.len();
        self.topics.push((name, data.topic_id));
        for partition in &data.partition_data {
            let state = match (&topic, refused) {
                (_, Some(failure)) | (Err(failure), None) => State::Refused(failure.clone()),
                (Ok(topic), None) => self.take_partition(node, topic, partition),
            };
            self.parts.push(Part { topic: at, index: partition.index, state });
        }
    }

    fn find_topic(&self, node: &Node, data: &TopicProduceData) -> Result<Found, Failure> {
        let by_id = self.call.version >= TOPIC_IDS_FROM;
        let here = if by_id { node.topic_by_id(data.topic_id) } else { node.topic_by_name(&data.name) };
        let name = match &here {
            Some(topic) => topic.text.clone(),
            None if by_id => {
                let image = node.image();
                let topic = image.topic_by_id(data.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
                Str::from(topic.name.as_str())
            }
            None => data.name.detached(),
        };
        if is_internal(&name) && !self.call.from_admin_client {
            let message = format!("{name} is one of Kafka's own topics; clients do not write to it");
            return Err(Failure::new(ErrorCode::InvalidTopicException, message));
        }
        Ok(Found { here, name })
    }

    fn take_partition(&self, node: &Node, topic: &Found, data: &PartitionProduceData) -> State {
        let Some(Records::Inline(batch)) = &data.records else {
            return State::Refused(Failure::new(ErrorCode::InvalidRecord, "the partition has no batch"));
        };
        if let Some(partition) = topic.here.as_ref().and_then(|topic| topic.partition(data.index)) {
            return self.walk(node, partition, batch);
        }
        match node.absence(topic.here.as_deref(), &topic.name, data.index) {
            Absence::Expected => State::Expected(batch.clone()),
            Absence::Offline => State::Refused(ErrorCode::KafkaStorageError.into()),
            Absence::Elsewhere => State::Refused(ErrorCode::NotLeaderOrFollower.into()),
            Absence::Unknown => State::Refused(ErrorCode::UnknownTopicOrPartition.into()),
        }
    }

    fn walk(&self, node: &Node, partition: &Arc<Partition>, batch: &Bytes) -> State {
        let mut rules = partition.walk_rules(node.clock.now_ms());
        rules.zstd_allowed = self.call.version >= ZSTD_FROM;
        SCRATCH.with_borrow_mut(|scratch| {
            let walked = match walk(batch, &rules, scratch) {
                Ok(walked) => walked,
                Err(error) => return State::Refused(error.into()),
            };
            if let Some(failure) = refuse_transactional(&walked) {
                return State::Refused(failure);
            }
            if walked.rewrite == Rewrite::None {
                return State::Ready(Arc::clone(partition), batch.clone());
            }
            match rewrite(batch, &walked, &rules.inflate, scratch) {
                Ok(rewritten) => State::Ready(Arc::clone(partition), rewritten.into()),
                Err(error) => State::Refused(error.into()),
            }
        })
    }

    /// The request's place in the queue of its connection, where it has to wait.
    fn turn(&self, node: &Arc<Node>, session: &Session) -> Option<Turn> {
        let expected = self.parts.iter().any(|part| matches!(part.state, State::Expected(_)));
        if !expected && session.intake.is_empty() {
            return None;
        }
        let places = self.parts.iter().map(|part| place(&self.topics[part.topic], part.index)).collect();
        let wait = expected.then(|| {
            let node = Arc::clone(node);
            let wait: Wait = Box::pin(async move { node.partitions_made().await });
            wait
        });
        session.intake.enter(places, wait)
    }

    async fn append_in_turn(mut self, node: &Arc<Node>, turn: Turn) -> Reply {
        let mut turn = turn;
        (&mut turn).await;
        for at in 0..self.parts.len() {
            if let State::Expected(batch) = &self.parts[at].state {
                let (name, _) = &self.topics[self.parts[at].topic];
                self.parts[at].state = match node.partition(name, self.parts[at].index) {
                    Ok(partition) => self.walk(node, &partition, batch),
                    Err(code) => State::Refused(code.into()),
                };
            }
        }
        let reply = self.append(node);
        drop(turn);
        reply
    }

    /// Appends what is ready. The answer comes now, or when what has to be synced or replicated is.
    fn append(mut self, node: &Arc<Node>) -> Reply {
        let acks = if self.acks == -1 { Acks::All } else { Acks::Leader };
        for part in &mut self.parts {
            if let State::Ready(partition, batch) = &part.state {
                part.state = append_one(node, partition, batch, acks);
            }
        }
        self.call.forget_frame();
        let is_waiting = |part: &Part| match &part.state {
            State::Appended(_, accepted) => accepted.flush_to.is_some() || accepted.must_replicate,
            _ => false,
        };
        if self.acks == 0 || !self.parts.iter().any(is_waiting) {
            return Reply::Now(self.answer(node));
        }
        let node = Arc::clone(node);
        Reply::Later(Box::pin(async move {
            let deadline = node.clock.elapsed() + self.timeout;
            for part in &mut self.parts {
                if let State::Appended(partition, accepted) = &part.state
                    && let Err(failure) = wait_until_safe(&node, partition, accepted, deadline).await
                {
                    part.state = State::Refused(failure);
                }
            }
            self.answer(&node)
        }))
    }

    fn answer(&self, node: &Node) -> Answer {
        if self.acks == 0 {
            return match self.parts.iter().find_map(|part| part.failure()) {
                None => Answer::Silence,
                Some(failure) => {
                    Answer::Close { reason: format!("a produce request with acks=0 failed: {failure}") }
                }
            };
        }
        let mut responses: Vec<TopicProduceResponse> = Vec::with_capacity(self.topics.len());
        for (name, id) in &self.topics {
            responses.push(TopicProduceResponse {
                name: name.clone(),
                topic_id: *id,
                ..TopicProduceResponse::default()
            });
        }
        let mut hints = LeaderHints::default();
        for part in &self.parts {
            let mut response = part.response();
            if self.call.version >= HINTS_FROM && response.error_code != 0 {
                let (name, _) = &self.topics[part.topic];
                response.current_leader = hints.look_up(node, (name, part.index), response.error_code).into();
            }
            responses[part.topic].partition_responses.push(response);
        }
        let node_endpoints = hints.endpoints(node, &self.call, |id, endpoint, rack| NodeEndpoint {
            node_id: id,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack,
            ..NodeEndpoint::default()
        });
        self.call.answer(&ProduceResponse { responses, node_endpoints, ..ProduceResponse::default() })
    }
}

impl Part {
    fn failure(&self) -> Option<&Failure> {
        if let State::Refused(failure) = &self.state { Some(failure) } else { None }
    }

    fn response(&self) -> PartitionProduceResponse {
        let mut response =
            PartitionProduceResponse { index: self.index, ..PartitionProduceResponse::default() };
        match &self.state {
            State::Appended(_, accepted) => {
                response.base_offset = accepted.base_offset.0;
                response.log_append_time_ms = accepted.log_append_time_ms.unwrap_or(-1);
                response.log_start_offset = accepted.log_start_offset.0;
            }
            State::Refused(failure) => {
                response.error_code = failure.code.code();
                response.base_offset = -1;
                response.error_message = failure.message.clone().and_then(text);
                response.record_errors = failure
                    .record_errors
                    .iter()
                    .map(|error| BatchIndexAndErrorMessage {
                        batch_index: error.index,
                        batch_index_error_message: text(error.message.clone()),
                        ..BatchIndexAndErrorMessage::default()
                    })
                    .collect();
            }
            State::Expected(_) | State::Ready(..) => {
                response.error_code = ErrorCode::UnknownServerError.code();
                response.base_offset = -1;
            }
        }
        response
    }
}

impl From<LeaderHint> for LeaderIdAndEpoch {
    fn from(hint: LeaderHint) -> Self {
        Self { leader_id: hint.leader, leader_epoch: hint.epoch, ..Self::default() }
    }
}

/// Waits until an append is as safe as it has to be, and no longer than until `deadline`.
async fn wait_until_safe(
    node: &Node,
    partition: &Partition,
    accepted: &Accepted,
    deadline: Duration,
) -> Result<(), Failure> {
    loop {
        // There is something to wait for, and it is registered before it is looked at.
        let waiter = Waiter::new(i64::MAX);
        if let Some(offset) = accepted.flush_to {
            partition.wait_for_flush(&waiter, offset);
        }
        if accepted.must_replicate {
            partition.wait_for_commit(&waiter, accepted.end_offset);
        }
        let is_flushed = accepted.flush_to.map_or(Ok(true), |offset| partition.is_flushed(offset))?;
        if is_flushed && (!accepted.must_replicate || partition.is_committed(accepted)?) {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = waiter => {}
            () = node.clock.wait_until(deadline) => return Err(ErrorCode::RequestTimedOut.into()),
        }
    }
}

fn append_one(node: &Node, partition: &Arc<Partition>, batch: &[u8], acks: Acks) -> State {
    match partition.append(batch, acks, node.clock.now_ms()) {
        Ok(accepted) => {
            if accepted.flush_to.is_some() || accepted.rolled {
                node.flusher.enqueue(partition);
            }
            State::Appended(Arc::clone(partition), accepted)
        }
        Err(error) => {
            node.note_failure(partition, &error);
            State::Refused(error.into())
        }
    }
}

/// What is wrong with the request as a whole.
fn refuse_whole(request: &ProduceRequest) -> Option<Failure> {
    if !(-1..=1).contains(&request.acks) {
        return Some(Failure::new(
            ErrorCode::InvalidRequiredAcks,
            format!("acks={} is none of -1, 0 and 1", request.acks),
        ));
    }
    if request.transactional_id.is_some() {
        // What Kafka answers while it cannot reach the transaction coordinator: the client tries again.
        let message =
            "transactions are not served here yet, so the partition cannot be verified as part of one";
        return Some(Failure::new(ErrorCode::NotEnoughReplicas, message));
    }
    None
}

fn refuse_transactional(walked: &Walked) -> Option<Failure> {
    walked.header.is_transactional().then(|| {
        let message = "a transactional batch in a request without a transactional id";
        Failure::new(ErrorCode::TransactionalIdAuthorizationFailed, message)
    })
}

fn is_internal(name: &str) -> bool {
    TopicName::new(name).is_ok_and(|name| name.is_internal())
}

/// The same number for the same partition within a connection.
fn place(topic: &(Str, Uuid), index: i32) -> Place {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (topic.0.as_str(), index).hash(&mut hasher);
    hasher.finish()
}
