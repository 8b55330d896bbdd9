//! Producers across a whole log: sequences, epochs, transactions.
//!
//! Units of a log are read side by side, so that a unit writes down, in few words, what its batches say of producers
//! ([`Trail`]); a log's trails are then followed in order ([`Producers`]). A trail grows with producers and
//! transactions, not with batches: batches that continue each other are one run.

use std::collections::{BTreeMap, HashMap};

use crate::record::{
    BatchRef, ControlKey, ControlType, EndMarker, InflateLimits, NO_SEQUENCE, Scratch, advance_sequence,
};
use crate::storage::producer_snapshot::SnapshotEntry;
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// Producers of one log that are remembered: beyond that the oldest are forgotten, and asked for nothing.
const PRODUCERS_MAX: usize = 200_000;
/// A producer that was silent for so long may have been forgotten by its broker, which then takes any sequence:
/// half of what `producer.id.expiration.ms` is by default.
const SILENCE_MS_MAX: i64 = 12 * 3_600_000;

/// Batches of one producer in one epoch, each continuing the sequence of the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    producer_id: ProducerId,
    epoch: ProducerEpoch,
    position: u64,
    first_offset: Offset,
    first_sequence: i32,
    last_sequence: i32,
    last_offset: Offset,
    first_timestamp_ms: i64,
    last_timestamp_ms: i64,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) producer_id: ProducerId,
    epoch: ProducerEpoch,
    pub(super) position: u64,
    pub(super) offset: Offset,
    is_abort: bool,
    timestamp_ms: i64,
}

/// What happened, in the order of the log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Run(Run),
    /// A batch of a transaction, the first of its unit.
    Open {
        producer_id: ProducerId,
        offset: Offset,
        has_records: bool,
    },
    End(End),
    /// Everything so far lies before the offset of a producer snapshot.
    Snapshot(Offset),
}

/// One unit's events.
#[derive(Debug, Default)]
pub(super) struct Trail {
    events: Vec<Event>,
    producers: HashMap<ProducerId, Walking>,
    last: Option<(ProducerId, usize)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Walking {
    run: Option<usize>,
    is_open: bool,
}

impl Trail {
    /// Takes a batch that is sound.
    #[inline]
    pub(super) fn batch(&mut self, position: u64, batch: &BatchRef<'_>, scratch: &mut Scratch) {
        let header = &batch.header;
        if !header.has_producer() {
            return;
        }
        if header.is_control() {
            self.control(position, batch, scratch);
            return;
        }
        // Most batches continue what the last one of the same producer began.
        if let Some((id, run)) = self.last
            && id == header.producer_id
            && self.continues(run, batch)
        {
            return;
        }
        self.data(position, batch);
    }

    fn continues(&mut self, run: usize, batch: &BatchRef<'_>) -> bool {
        let header = &batch.header;
        let is_open = !header.is_transactional()
            || self.producers.get(&header.producer_id).is_some_and(|walking| walking.is_open);
        let Some(Event::Run(run)) = self.events.get_mut(run).filter(|_| is_open) else { return false };
        let is_next = run.epoch == header.producer_epoch
            && header.base_sequence == advance_sequence(run.last_sequence, 1)
            && run.last_sequence != NO_SEQUENCE;
        if is_next {
            run.last_sequence = header.last_sequence();
            run.last_offset = header.last_offset();
            run.last_timestamp_ms = header.max_timestamp_ms;
        }
        is_next
    }

    fn data(&mut self, position: u64, batch: &BatchRef<'_>) {
        let header = &batch.header;
        let id = header.producer_id;
        let mut walking = self.producers.get(&id).copied().unwrap_or_default();
        if header.is_transactional() && !walking.is_open {
            let (offset, has_records) = (header.base_offset, header.record_count > 0);
            self.events.push(Event::Open { producer_id: id, offset, has_records });
            walking.is_open = true;
            self.producers.insert(id, walking);
        }
        if let Some(run) = walking.run
            && self.continues(run, batch)
        {
            self.last = Some((id, run));
            return;
        }
        let run = self.events.len();
        self.events.push(Event::Run(Run {
            producer_id: id,
            epoch: header.producer_epoch,
            position,
            first_offset: header.base_offset,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            first_timestamp_ms: header.base_timestamp_ms,
            last_timestamp_ms: header.max_timestamp_ms,
        }));
        self.producers.insert(id, Walking { run: Some(run), ..walking });
        self.last = Some((id, run));
    }

    fn control(&mut self, position: u64, batch: &BatchRef<'_>, scratch: &mut Scratch) {
        let Some(is_abort) = read_marker(batch, scratch) else { return };
        let header = &batch.header;
        self.producers.insert(header.producer_id, Walking::default());
        self.last = None;
        self.events.push(Event::End(End {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            position,
            offset: header.base_offset,
            is_abort,
            timestamp_ms: header.max_timestamp_ms,
        }));
    }

    /// The next batch begins at or behind `offset`, for which there is a producer snapshot.
    pub(super) fn snapshot(&mut self, offset: Offset) {
        self.events.push(Event::Snapshot(offset));
        self.producers.values_mut().for_each(|walking| walking.run = None);
        self.last = None;
    }

    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

/// Whether a control batch aborts; `None` where it holds no marker: cleaned away, or of the quorum's.
fn read_marker(batch: &BatchRef<'_>, scratch: &mut Scratch) -> Option<bool> {
    let mut records = batch.records(&InflateLimits::default(), scratch).ok()?;
    let record = records.next()?.ok()?;
    EndMarker::parse(record.value?)?;
    match ControlKey::parse(record.key?)?.kind {
        ControlType::Abort => Some(true),
        ControlType::Commit => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: ProducerEpoch,
    last_sequence: i32,
    last_offset: Offset,
    last_timestamp_ms: i64,
    open_since: Option<Offset>,
    /// The open transaction has records in the log: no cleaning has been there.
    has_records: bool,
    /// What is known was read in this log, not in a snapshot alone.
    was_seen: bool,
}

/// An abort marker that ends a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: ProducerId,
    /// Where the transaction began; `None` where nothing of it is in the log.
    pub(super) first_offset: Option<Offset>,
    /// Its records are in the log: cleaning takes those of aborted transactions away.
    pub(super) has_records: bool,
    pub(super) marker: Offset,
    pub(super) last_stable_offset: Offset,
}

/// What is odd about a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OddProducer {
    pub(super) position: u64,
    pub(super) offset: Offset,
    pub(super) what: String,
}

/// Producers as the log shows them, batch after batch.
#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<ProducerId, Known>,
    open: BTreeMap<Offset, ProducerId>,
    has_forgotten: bool,
}

impl Producers {
    /// Takes over what a snapshot says at the log's beginning.
    pub(super) fn begin_with(&mut self, entries: &[SnapshotEntry]) {
        for entry in entries {
            self.known.insert(
                entry.producer_id,
                Known {
                    epoch: entry.epoch,
                    last_sequence: entry.last_sequence,
                    last_offset: entry.last_offset,
                    last_timestamp_ms: entry.timestamp_ms,
                    open_since: entry.transaction_first_offset,
                    has_records: false,
                    was_seen: false,
                },
            );
            if let Some(offset) = entry.transaction_first_offset {
                self.open.insert(offset, entry.producer_id);
            }
        }
    }

    /// Follows a run; what is odd about its beginning.
    pub(super) fn run(&mut self, run: &Run) -> Option<OddProducer> {
        let known = self.known.get(&run.producer_id).copied();
        let odd = known.and_then(|known| odd_beginning(&known, run));
        let open_since = known.and_then(|known| known.open_since);
        let has_records = known.is_some_and(|known| known.has_records);
        self.insert(
            run.producer_id,
            Known {
                epoch: run.epoch,
                last_sequence: run.last_sequence,
                last_offset: run.last_offset,
                last_timestamp_ms: run.last_timestamp_ms,
                open_since,
                has_records,
                was_seen: true,
            },
        );
        odd.map(|what| OddProducer { position: run.position, offset: run.first_offset, what })
    }

    /// A batch of a transaction came.
    pub(super) fn opened(&mut self, producer_id: ProducerId, offset: Offset, has_records: bool) {
        let fresh = Known {
            epoch: ProducerEpoch::NONE,
            last_sequence: NO_SEQUENCE,
            last_offset: Offset::UNKNOWN,
            last_timestamp_ms: i64::MIN,
            open_since: None,
            has_records: false,
            was_seen: true,
        };
        let known = self.known.entry(producer_id).or_insert(fresh);
        if known.open_since.is_none() {
            known.open_since = Some(offset);
            known.has_records = has_records;
            self.open.insert(offset, producer_id);
        }
    }

    /// A marker came; what is odd about it, and the transaction that it aborted.
    pub(super) fn ended(&mut self, end: &End) -> (Option<OddProducer>, Option<Aborted>) {
        let known = self.known.get(&end.producer_id).copied();
        let odd = known.filter(|known| end.epoch < known.epoch).map(|known| OddProducer {
            position: end.position,
            offset: end.offset,
            what: format!(
                "the marker of producer {} has epoch {}, {} came before",
                end.producer_id, end.epoch, known.epoch
            ),
        });
        let first_offset = known.and_then(|known| known.open_since);
        first_offset.map(|first| self.open.remove(&first));
        // A marker in a later epoch forgets the sequences of the one before.
        let kept = known.filter(|known| known.epoch == end.epoch);
        self.insert(
            end.producer_id,
            Known {
                epoch: end.epoch,
                last_sequence: kept.map_or(NO_SEQUENCE, |known| known.last_sequence),
                last_offset: kept.map_or(Offset::UNKNOWN, |known| known.last_offset),
                last_timestamp_ms: end.timestamp_ms,
                open_since: None,
                has_records: false,
                was_seen: true,
            },
        );
        let aborted = Aborted {
            producer_id: end.producer_id,
            first_offset,
            has_records: known.is_some_and(|known| known.has_records),
            marker: end.offset,
            last_stable_offset: self.open.keys().next().copied().unwrap_or(end.offset.next()),
        };
        (odd, end.is_abort.then_some(aborted))
    }

    /// How a snapshot that was taken here differs from what the log says.
    pub(super) fn compare(&self, entries: &[SnapshotEntry], first_base: Offset) -> Option<String> {
        entries.iter().find_map(|entry| {
            let known = self.known.get(&entry.producer_id);
            let Some(known) = known.filter(|known| known.was_seen) else {
                let is_due = entry.last_offset >= first_base && !self.has_forgotten;
                return is_due.then(|| {
                    format!("producer {} is in no batch, the snapshot has it at {}", entry.producer_id, entry.last_offset)
                });
            };
            let found = (known.epoch, known.last_sequence, known.last_offset, known.open_since);
            let said = (entry.epoch, entry.last_sequence, entry.last_offset, entry.transaction_first_offset);
            (found != said).then(|| {
                format!(
                    "producer {} is at epoch {}, sequence {}, offset {} in the log, at {}, {}, {} in the snapshot",
                    entry.producer_id, known.epoch, known.last_sequence, known.last_offset,
                    entry.epoch, entry.last_sequence, entry.last_offset
                )
            })
        })
    }

    fn insert(&mut self, id: ProducerId, known: Known) {
        if self.known.len() >= PRODUCERS_MAX && !self.known.contains_key(&id) {
            self.forget_old();
        }
        self.known.insert(id, known);
    }

    /// Forgets the half that wrote last the longest ago, but for those with an open transaction.
    fn forget_old(&mut self) {
        let mut offsets: Vec<Offset> = self.known.values().map(|known| known.last_offset).collect();
        let middle = offsets.len() / 2;
        let (_, median, _) = offsets.select_nth_unstable(middle);
        let median = *median;
        self.known.retain(|_, known| known.last_offset > median || known.open_since.is_some());
        self.has_forgotten = true;
    }
}

/// What is odd about a run that begins after what is known.
fn odd_beginning(known: &Known, run: &Run) -> Option<String> {
    let id = run.producer_id;
    if run.epoch < known.epoch {
        return Some(format!("producer {id} writes in epoch {}, {} came before", run.epoch, known.epoch));
    }
    let is_silent = run.first_timestamp_ms.saturating_sub(known.last_timestamp_ms) > SILENCE_MS_MAX;
    // A coordinator's own writes carry no sequences.
    if run.first_sequence == NO_SEQUENCE || is_silent || known.epoch == ProducerEpoch::NONE {
        return None;
    }
    let due = if run.epoch == known.epoch { advance_sequence(known.last_sequence, 1) } else { 0 };
    let first = run.first_sequence;
    (first != due).then(|| format!("producer {id} goes on with sequence {first}, {due} is due"))
}
