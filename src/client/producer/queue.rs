//! The batches of one partition on their way, and the rules that keep them in order and single.
//!
//! ```text
//! waiting:    not sent, or to be sent again        \ together in the order of the records,
//! in flight:  sent; unanswered, or answered badly  / in flight before waiting
//! ```
//! - A batch gets its sequence when it is first sent and keeps it for every attempt, so that a broker that
//!   has it already says so instead of appending it twice.
//! - When an attempt fails nothing more is sent until every batch in flight is answered; then all that failed
//!   go back to the front, in order.
//! - Until a producer id's first batch is acknowledged only one is in flight: a broker that does not know a
//!   producer takes any sequence, so a second batch could overtake the first.
//! - A batch that is sent again flies alone. It may be in the log already, and a broker remembers a producer's
//!   last five batches: new ones behind it would push it out, and it would no longer be known.
//! - A batch gets a new identity only when it is certain that no attempt was appended: the broker answered
//!   that the sequence at the front is not the next one.
//! - Without idempotence, and where attempts are repeated, one batch is in flight.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::record::{
    BatchBuilder, BatchError, BatchRef, Compression, InflateLimits, ProducerState, Scratch, advance_sequence,
    assign_producer,
};
use crate::types::{ProducerEpoch, ProducerId};

use super::super::options::Backoff;
use super::delivery::Tags;
use super::pool::Pool;

/// Who the broker takes us for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// The rules of one producer, the same for all its queues.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) is_idempotent: bool,
    /// Batches of one partition in flight.
    pub(super) window: usize,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) compression: Compression,
}

/// Records on their way.
#[derive(Debug)]
pub(super) struct Batch {
    /// Grows within a producer.
    pub(super) id: u64,
    pub(super) content: Content,
    pub(super) tags: Tags,
    pub(super) records: i32,
    /// What it weighs in `buffer.memory`.
    pub(super) weight: usize,
    pub(super) born: Duration,
    pub(super) sequence: Option<i32>,
    pub(super) attempts: u32,
    /// Whether an attempt may have been appended.
    pub(super) maybe_written: bool,
    pub(super) last_failure: Option<String>,
}

#[derive(Debug)]
pub(super) enum Content {
    Records(Box<BatchBuilder>),
    Built(Bytes),
}

impl Batch {
    /// The bytes as last sent; empty where they were never built.
    pub(super) fn bytes(&self) -> Bytes {
        match &self.content {
            Content::Built(bytes) => bytes.clone(),
            Content::Records(_) => Bytes::new(),
        }
    }
}

/// What came of one attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is in the log.
    Written,
    /// Not now; `maybe_written` where the append may have happened.
    Retry { maybe_written: bool, why: String },
    /// The broker expects another sequence, or does not know the producer.
    WrongSequence { why: String },
    /// Larger than the broker takes.
    TooLarge,
    /// Never.
    Refused,
}

/// What the sender is to do about an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The batch's journey is over.
    Over(Batch),
    /// It stays in the queue.
    Kept,
}

#[derive(Debug)]
struct Flying {
    batch: Batch,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unanswered,
    Failed,
    Split,
}

/// One partition's batches.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Batch>,
    in_flight: VecDeque<Flying>,
    identity: Option<Identity>,
    /// The identity turned out to be of no use.
    wants_identity: bool,
    next_sequence: i32,
    /// The broker has acknowledged a batch of this identity.
    is_established: bool,
    is_recovering: bool,
    failures: u32,
    retry_at: Duration,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            identity: None,
            wants_identity: true,
            next_sequence: 0,
            is_established: false,
            is_recovering: false,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether the queue needs a producer id before anything can be sent.
    pub(super) fn wants_identity(&self, rules: &Rules) -> bool {
        rules.is_idempotent && self.wants_identity && self.in_flight.is_empty()
    }

    /// Starts a new life: everything that waits is numbered from 0 again.
    pub(super) fn set_identity(&mut self, identity: Identity) {
        assert!(self.in_flight.is_empty(), "what is in flight keeps its identity");
        self.identity = Some(identity);
        self.wants_identity = false;
        self.next_sequence = 0;
        self.is_established = false;
        for batch in &mut self.waiting {
            batch.sequence = None;
        }
    }

    /// When something can be sent, seen from this queue alone; `None` while it cannot say.
    pub(super) fn send_at(&self, rules: &Rules) -> Option<Duration> {
        let window = if self.is_repeating() || (rules.is_idempotent && !self.is_established) {
            1
        } else {
            rules.window
        };
        let is_blocked = self.is_recovering
            || (rules.is_idempotent && self.wants_identity)
            || self.waiting.is_empty()
            || self.in_flight.len() >= window;
        (!is_blocked).then_some(self.retry_at)
    }

    fn is_repeating(&self) -> bool {
        self.waiting.front().is_some_and(|batch| batch.sequence.is_some())
            || self.in_flight.iter().any(|flying| flying.batch.attempts > 1)
    }

    /// What the next batch weighs.
    pub(super) fn next_weight(&self) -> usize {
        self.waiting.front().map_or(0, |batch| batch.weight)
    }

    /// Builds the next batch and puts it in flight; its id and bytes are to be sent.
    pub(super) fn send_next(
        &mut self,
        rules: &Rules,
        pool: &Pool,
    ) -> Result<(u64, Bytes), Box<(Batch, BatchError)>> {
        let Some(mut batch) = self.waiting.pop_front() else {
            unreachable!("send_at said that a batch waits");
        };
        let is_numbered = batch.sequence.is_some();
        let producer = match self.identity.filter(|_| rules.is_idempotent) {
            None => ProducerState::NONE,
            Some(Identity { id, epoch }) => {
                let base_sequence = *batch.sequence.get_or_insert(self.next_sequence);
                ProducerState { id, epoch, base_sequence, is_transactional: false }
            }
        };
        let bytes = match build(&mut batch, producer, is_numbered, pool) {
            Ok(bytes) => bytes,
            Err(error) => return Err(Box::new((batch, error))),
        };
        if !is_numbered && rules.is_idempotent {
            self.next_sequence = advance_sequence(self.next_sequence, batch.records);
        }
        if let Content::Records(builder) =
            std::mem::replace(&mut batch.content, Content::Built(bytes.clone()))
        {
            pool.put_builder(builder);
        }
        batch.attempts += 1;
        let id = batch.id;
        self.in_flight.push_back(Flying { batch, state: State::Unanswered });
        Ok((id, bytes))
    }

    /// Takes the answer to one attempt.
    pub(super) fn answered(&mut self, id: u64, outcome: Outcome, rules: &Rules, now: Duration) -> Verdict {
        let Some(place) = self.in_flight.iter().position(|flying| flying.batch.id == id) else {
            unreachable!("each attempt is answered once");
        };
        let verdict = match outcome {
            Outcome::Written => {
                self.is_established = true;
                self.failures = 0;
                self.land(place)
            }
            Outcome::Refused => self.land_unwritten(place),
            Outcome::TooLarge if self.in_flight[place].batch.records == 1 => self.land_unwritten(place),
            Outcome::TooLarge => self.fail(place, State::Split),
            Outcome::Retry { maybe_written, why } => {
                let batch = &mut self.in_flight[place].batch;
                batch.maybe_written |= maybe_written;
                batch.last_failure = Some(why);
                if batch.attempts > rules.retries {
                    self.land(place)
                } else {
                    self.failures += u32::from(place == 0);
                    self.fail(place, State::Failed)
                }
            }
            Outcome::WrongSequence { why } => {
                // Behind a batch that failed this is to be expected; at the front the numbers are wrong, and
                // the broker has said that this batch is not in the log.
                let batch = &mut self.in_flight[place].batch;
                batch.attempts -= u32::from(place > 0);
                batch.last_failure = Some(why);
                if place == 0 {
                    batch.maybe_written = false;
                    self.wants_identity = true;
                    self.failures += 1;
                }
                if batch.attempts > rules.retries {
                    self.land(place)
                } else {
                    self.fail(place, State::Failed)
                }
            }
        };
        self.settle(rules, now);
        verdict
    }

    /// Gives up what has waited for `patience`: from the front, so that nothing overtakes.
    pub(super) fn expire(&mut self, now: Duration, patience: Duration) -> Option<Batch> {
        let front = self.waiting.front()?;
        if front.born + patience > now || !self.in_flight.is_empty() {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        if !batch.maybe_written {
            self.take_back_sequence(&batch);
        }
        Some(batch)
    }

    /// When the next batch expires.
    pub(super) fn expires_at(&self, patience: Duration) -> Option<Duration> {
        self.waiting.front().filter(|_| self.in_flight.is_empty()).map(|batch| batch.born + patience)
    }

    /// Everything that waits: the producer cannot work.
    pub(super) fn take_all_waiting(&mut self) -> impl Iterator<Item = Batch> + '_ {
        self.waiting.drain(..)
    }

    fn land(&mut self, place: usize) -> Verdict {
        match self.in_flight.remove(place) {
            Some(flying) => Verdict::Over(flying.batch),
            None => Verdict::Kept,
        }
    }

    fn land_unwritten(&mut self, place: usize) -> Verdict {
        let verdict = self.land(place);
        if let Verdict::Over(batch) = &verdict {
            self.take_back_sequence(batch);
        }
        verdict
    }

    /// A sequence that was not used and after which none was given is given again. Otherwise the broker will
    /// call what follows out of order, and it gets a new identity.
    fn take_back_sequence(&mut self, batch: &Batch) {
        let Some(sequence) = batch.sequence else { return };
        let numbered_behind = self.in_flight.iter().any(|flying| flying.batch.sequence.is_some())
            || self.waiting.iter().any(|waiting| waiting.sequence.is_some());
        if !numbered_behind && !batch.maybe_written {
            self.next_sequence = sequence;
        }
    }

    fn fail(&mut self, place: usize, state: State) -> Verdict {
        self.in_flight[place].state = state;
        self.is_recovering = true;
        Verdict::Kept
    }

    /// Once everything in flight is answered, what failed goes back to the front.
    fn settle(&mut self, rules: &Rules, now: Duration) {
        let is_unanswered = |flying: &Flying| flying.state == State::Unanswered;
        if !self.is_recovering || self.in_flight.iter().any(is_unanswered) {
            return;
        }
        self.is_recovering = false;
        while let Some(Flying { batch, state }) = self.in_flight.pop_back() {
            if state == State::Split {
                for half in split(batch, rules.compression).into_iter().rev() {
                    self.waiting.push_front(half);
                }
            } else {
                self.waiting.push_front(batch);
            }
        }
        if self.failures > 0 {
            self.retry_at = now + rules.backoff.after(self.failures);
        }
    }
}

/// The bytes of an attempt. A batch that was built and has lost its number is stamped anew, in a copy: the
/// old bytes may still be on their way into a socket.
fn build(
    batch: &mut Batch,
    producer: ProducerState,
    is_numbered: bool,
    pool: &Pool,
) -> Result<Bytes, BatchError> {
    match &mut batch.content {
        Content::Records(builder) => {
            builder.set_producer(producer);
            builder.build_with(pool.take()).map(|bytes| pool.share(bytes))
        }
        Content::Built(bytes) if is_numbered || producer == ProducerState::NONE => Ok(bytes.clone()),
        Content::Built(bytes) => {
            let mut copy = pool.take();
            copy.extend_from_slice(bytes);
            assign_producer(&mut copy, producer);
            Ok(pool.share(copy))
        }
    }
}

/// Two halves with the same records, sequences and tags; the batch itself where it cannot be read.
fn split(batch: Batch, compression: Compression) -> Vec<Batch> {
    let first_count = batch.records / 2;
    let halves = halve(&batch.bytes(), first_count, batch.sequence, compression);
    let Ok([first, second]) = halves else { return vec![batch] };
    let (first_tags, second_tags) = batch.tags.split(first_count as usize);
    let half = |bytes: Bytes, records: i32, tags: Tags, id: u64, sequence, weight| Batch {
        id,
        content: Content::Built(bytes),
        tags,
        records,
        weight,
        born: batch.born,
        sequence,
        attempts: 0,
        maybe_written: false,
        last_failure: None,
    };
    let second_sequence = batch.sequence.map(|sequence| advance_sequence(sequence, first_count));
    let first_weight = batch.weight / 2;
    vec![
        half(first, first_count, first_tags, batch.id, batch.sequence, first_weight),
        half(
            second,
            batch.records - first_count,
            second_tags,
            // Ids are given in steps that leave room for the parts.
            batch.id + first_count as u64,
            second_sequence,
            batch.weight - first_weight,
        ),
    ]
}

fn halve(
    bytes: &Bytes,
    first_count: i32,
    sequence: Option<i32>,
    compression: Compression,
) -> Result<[Bytes; 2], BatchError> {
    let whole = BatchRef::first(bytes)?;
    let producer = |sequence: Option<i32>| ProducerState {
        id: whole.header.producer_id,
        epoch: whole.header.producer_epoch,
        base_sequence: sequence.unwrap_or(whole.header.base_sequence),
        is_transactional: false,
    };
    let mut scratch = Scratch::new();
    // Our own batch: it inflates to what we put in.
    let limits = InflateLimits { floor_bytes: u64::MAX, ratio: 1 };
    let mut records = whole.records(&limits, &mut scratch)?;
    let second_sequence = sequence.map(|sequence| advance_sequence(sequence, first_count));
    let mut first = BatchBuilder::new(compression).by(producer(sequence));
    let mut second = BatchBuilder::new(compression).by(producer(second_sequence));
    let mut index = 0;
    while let Some(record) = records.next() {
        let record = record?;
        let half = if index < first_count { &mut first } else { &mut second };
        half.append(record.timestamp_ms, record.key, record.value, record.headers);
        index += 1;
    }
    Ok([first.build()?, second.build()?])
}
