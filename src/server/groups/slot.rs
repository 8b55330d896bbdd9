//! One partition of `__consumer_offsets` at work: its shard behind a lock, its log, and who waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::error;

use super::{Asking, Groups, Outcome, draw_id, load, now_of};
use crate::coordinator::{
    Answer, Asked, Effects, GroupLogError, Now, Shard, Surroundings, Token, TopicChanges, batches_of,
};
use crate::protocol::ErrorCode;
use crate::record::{Codec, Compression};
use crate::replication::{Acks, Partition, PartitionError, Waiter};
use crate::server::error_map;
use crate::server::node::Node;
use crate::types::{LeaderEpoch, Offset};

/// No deadline.
const NEVER_MS: i64 = i64::MAX;

/// A coordinator of one partition.
pub(super) struct Slot {
    /// The epoch that this broker leads the partition in.
    pub(super) epoch: LeaderEpoch,
    pub(super) partition: Arc<Partition>,
    state: Mutex<State>,
    next_deadline_ms: AtomicI64,
}

enum State {
    /// Its log is being read.
    Loading,
    Active(Box<Active>),
    /// It is led elsewhere, or cannot be read.
    Gone(ErrorCode),
}

struct Active {
    shard: Shard,
    /// Behind everything that the shard has appended.
    end: Offset,
    /// Requests whose answers come later.
    waiting: HashMap<Token, oneshot::Sender<Ready>>,
    expires_at_ms: i64,
}

/// An answer, and what has to be committed before it is given.
type Ready = Result<(Answer, Offset), ErrorCode>;

impl Slot {
    pub(super) fn new(epoch: LeaderEpoch, partition: Arc<Partition>) -> Self {
        Self {
            epoch,
            partition,
            state: Mutex::new(State::Loading),
            next_deadline_ms: AtomicI64::new(NEVER_MS),
        }
    }

    /// When [`Slot::tick`] is due.
    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        let next_ms = self.next_deadline_ms.load(Ordering::Acquire);
        (next_ms != NEVER_MS).then_some(next_ms)
    }

    /// Its log has been read, up to `end`.
    pub(super) fn loaded(self: &Arc<Self>, node: &Arc<Node>, shard: Shard, end: Offset) {
        let now = now_of(node);
        let expires_at_ms = now.timer_ms + node.config().groups.offsets_retention_check_interval_ms;
        let mut state = self.state.lock();
        if !matches!(*state, State::Loading) {
            return;
        }
        *state = State::Active(Box::new(Active { shard, end, waiting: HashMap::new(), expires_at_ms }));
        self.act(node, &mut state, now, Shard::loaded);
    }

    /// Its log cannot be read.
    pub(super) fn failed(&self, code: ErrorCode) {
        let mut state = self.state.lock();
        if matches!(*state, State::Loading) {
            *state = State::Gone(code);
        }
    }

    /// It is led elsewhere: whoever waits is told.
    pub(super) fn unload(&self, code: ErrorCode) {
        self.next_deadline_ms.store(NEVER_MS, Ordering::Release);
        let before = std::mem::replace(&mut *self.state.lock(), State::Gone(code));
        if let State::Active(active) = before {
            active.refuse_waiting(code);
        }
    }

    /// Decides on a request. Its records are in the log when this returns, its answer may come later.
    pub(super) fn ask(self: &Arc<Self>, node: &Arc<Node>, asked: Asked) -> Asking {
        let token = asked.token;
        let now = now_of(node);
        let mut state = self.state.lock();
        match &*state {
            State::Active(_) => {}
            State::Loading => return Asking::Now(Err(ErrorCode::CoordinatorLoadInProgress)),
            State::Gone(code) => return Asking::Now(Err(*code)),
        }
        let own =
            self.act_for(node, &mut state, now, Some(token), |shard, around| shard.handle(around, asked));
        match own {
            Err(code) => Asking::Now(Err(code)),
            Ok(Some(answer)) => {
                let State::Active(active) = &*state else {
                    return Asking::Now(Err(ErrorCode::NotCoordinator));
                };
                let end = active.end;
                drop(state);
                self.when_committed(node, answer, end)
            }
            Ok(None) => {
                let State::Active(active) = &mut *state else {
                    return Asking::Now(Err(ErrorCode::NotCoordinator));
                };
                let (sender, receiver) = oneshot::channel();
                active.waiting.insert(token, sender);
                drop(state);
                self.parked(node, token, receiver)
            }
        }
    }

    /// The answer, now if everything below `end` is committed.
    fn when_committed(self: &Arc<Self>, node: &Arc<Node>, answer: Answer, end: Offset) -> Asking {
        match is_committed(&self.partition, end) {
            Ok(true) => Asking::Now(Ok(answer)),
            Ok(false) => {
                let (slot, node) = (Arc::clone(self), Arc::clone(node));
                Asking::Later(Box::pin(async move {
                    slot.committed(&node, end).await?;
                    Ok(answer)
                }))
            }
            Err(code) => Asking::Now(Err(code)),
        }
    }

    /// The answer of a request that waits in its group.
    fn parked(
        self: &Arc<Self>,
        node: &Arc<Node>,
        token: Token,
        receiver: oneshot::Receiver<Ready>,
    ) -> Asking {
        let (parked, node) = (Parked { slot: Arc::clone(self), token }, Arc::clone(node));
        Asking::Later(Box::pin(async move {
            let outcome: Outcome = tokio::select! {
                ready = receiver => match ready {
                    Ok(Ok((answer, end))) => parked.slot.committed(&node, end).await.map(|()| answer),
                    Ok(Err(code)) => Err(code),
                    Err(_) => Err(ErrorCode::NotCoordinator),
                },
                // A client that is kept waiting would keep the broker from stopping.
                () = node.stopping() => Err(ErrorCode::NotCoordinator),
            };
            drop(parked);
            outcome
        }))
    }

    /// Waits until everything below `end` is committed.
    async fn committed(&self, node: &Node, end: Offset) -> Result<(), ErrorCode> {
        let timeout_ms = node.config().groups.offsets_commit_timeout_ms;
        let deadline = node.clock.elapsed() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        loop {
            let waiter = Waiter::new(1);
            self.partition.wait_for_bytes(&waiter);
            if is_committed(&self.partition, end)? {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = waiter => {}
                () = node.clock.wait_until(deadline) => return Err(ErrorCode::CoordinatorNotAvailable),
            }
        }
    }

    /// Does what is due.
    pub(super) fn tick(self: &Arc<Self>, node: &Arc<Node>) {
        let now = now_of(node);
        let mut state = self.state.lock();
        loop {
            let State::Active(active) = &mut *state else { return };
            if active.expires_at_ms <= now.timer_ms {
                let interval_ms = node.config().groups.offsets_retention_check_interval_ms.max(1);
                active.expires_at_ms = now.timer_ms + interval_ms;
                self.act(node, &mut state, now, Shard::expire);
            } else if active.shard.next_deadline_ms().is_some_and(|due_ms| due_ms <= now.timer_ms) {
                self.act(node, &mut state, now, |shard, around| shard.tick(around).unwrap_or_default());
            } else {
                let next_ms = active.next_deadline_ms();
                return self.next_deadline_ms.store(next_ms, Ordering::Release);
            }
        }
    }

    /// The cluster has changed.
    pub(super) fn follow(self: &Arc<Self>, node: &Arc<Node>, changes: &TopicChanges) {
        let now = now_of(node);
        let mut state = self.state.lock();
        if matches!(*state, State::Active(_)) {
            self.act(node, &mut state, now, |shard, around| shard.follow(around, changes));
        }
    }

    fn act(
        self: &Arc<Self>,
        node: &Arc<Node>,
        state: &mut State,
        now: Now,
        act: impl FnOnce(&mut Shard, Surroundings<'_>) -> Effects,
    ) {
        // What went wrong has been logged, and whoever waits been told.
        let _ = self.act_for(node, state, now, None, act);
    }

    /// Has the shard act and sees to the effects. Returns the answer to `token`, if it is there.
    fn act_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        state: &mut State,
        now: Now,
        token: Option<Token>,
        act: impl FnOnce(&mut Shard, Surroundings<'_>) -> Effects,
    ) -> Result<Option<Answer>, ErrorCode> {
        let State::Active(active) = state else { return Err(ErrorCode::NotCoordinator) };
        let config = node.config();
        let image = node.image();
        let surroundings = Surroundings {
            now,
            image: &image,
            settings: &config.groups,
            record_bytes_max: self.partition.config().max_message_bytes as usize,
            draw_id: &mut draw_id,
        };
        let Effects { records, answers } = act(&mut active.shard, surroundings);
        if !records.is_empty() {
            let compression = codec_of(config.groups.offsets_topic_codec);
            let bytes_max = self.partition.config().max_message_bytes as usize;
            let appended = batches_of(&records, now.wall_ms, compression, bytes_max)
                .map_err(AppendFailure::from)
                .and_then(|batches| self.append(node, &batches, now.wall_ms));
            match appended {
                Ok(end) => active.end = end,
                Err(failure) => return Err(self.reload(node, state, &failure)),
            }
        }
        let mut own = None;
        for (of, answer) in answers {
            if token == Some(of) {
                own = Some(answer);
            } else if let Some(sender) = active.waiting.remove(&of) {
                // Whoever waited may be gone.
                let _ = sender.send(Ok((answer, active.end)));
            }
        }
        let next_ms = active.next_deadline_ms();
        if next_ms < self.next_deadline_ms.swap(next_ms, Ordering::AcqRel) {
            node.groups.wake();
        }
        Ok(own)
    }

    fn append(&self, node: &Node, batches: &[bytes::Bytes], now_ms: i64) -> Result<Offset, AppendFailure> {
        let mut end = Offset::ZERO;
        for batch in batches {
            let accepted = self.partition.append(batch, Acks::All, now_ms).inspect_err(|error| {
                node.note_failure(&self.partition, error);
            })?;
            if accepted.flush_to.is_some() || accepted.rolled {
                node.flusher.enqueue(&self.partition);
            }
            end = accepted.base_offset;
        }
        // One record at the least was appended; the log's end says how many.
        Ok(self.partition.with_log(-1, |log| Ok(log.log_end_offset())).unwrap_or(end.next()))
    }

    /// What the shard knows is ahead of its log: it begins again from there.
    fn reload(self: &Arc<Self>, node: &Arc<Node>, state: &mut State, failure: &AppendFailure) -> ErrorCode {
        error!(partition = %self.partition.id(), "records of groups could not be written: {failure}");
        let code = failure.code();
        if let State::Active(active) = std::mem::replace(state, State::Loading) {
            active.refuse_waiting(code);
        }
        self.next_deadline_ms.store(NEVER_MS, Ordering::Release);
        load::in_background(node, vec![Arc::clone(self)]);
        code
    }
}

impl Active {
    fn next_deadline_ms(&self) -> i64 {
        self.shard.next_deadline_ms().unwrap_or(NEVER_MS).min(self.expires_at_ms)
    }

    fn refuse_waiting(self, code: ErrorCode) {
        for sender in self.waiting.into_values() {
            let _ = sender.send(Err(code));
        }
    }
}

/// A request that waits in its group; nothing is kept of it once nobody waits for it.
struct Parked {
    slot: Arc<Slot>,
    token: Token,
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let State::Active(active) = &mut *self.slot.state.lock() {
            active.waiting.remove(&self.token);
        }
    }
}

/// Why records are not in the log.
#[derive(Debug, thiserror::Error)]
enum AppendFailure {
    #[error(transparent)]
    Records(#[from] GroupLogError),
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

impl AppendFailure {
    /// What clients are told, as Kafka translates what its log says.
    fn code(&self) -> ErrorCode {
        match self {
            Self::Records(_) => ErrorCode::UnknownServerError,
            Self::Partition(error) => coordinator_code(error_map::of_partition(error)),
        }
    }
}

/// What a failure of the partition means to a group.
fn coordinator_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        code => code,
    }
}

fn is_committed(partition: &Partition, end: Offset) -> Result<bool, ErrorCode> {
    let high_watermark = partition.with_led_log(-1, |log| Ok(log.high_watermark()));
    match high_watermark {
        Ok(high_watermark) => Ok(high_watermark >= end),
        Err(error) => Err(coordinator_code(error_map::of_partition(&error))),
    }
}

fn codec_of(id: i8) -> Compression {
    let codec = u8::try_from(id).ok().and_then(Codec::from_id).unwrap_or(Codec::None);
    Compression::new(codec)
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Groups of {} partitions", self.slots.read().len())
    }
}
