//! What a log knows of the producers that write to it: the last five batches of each idempotent one, its epoch,
//! and its open transaction.
//!
//! [`ProducerStates::check`] decides before an append, changing nothing; [`ProducerStates::note`] takes over
//! what is in the log, for the leader's own appends, a follower's, and recovery alike. A transaction that ended
//! stays unstable until its marker is below the high watermark.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Access, read_small};
use super::error::{AppendError, StorageError};
use super::place::{Place, Suffix};
use super::producer_snapshot::{self, SnapshotEntry};
use super::transaction_index::AbortedTransaction;
use crate::record::{BatchHeader, BatchRef, ControlKey, ControlType, EndMarker, InflateLimits, Scratch};
use crate::record::{NO_SEQUENCE, NO_TIMESTAMP, advance_sequence};
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// Batches of a producer that a repeat is recognised among.
pub(super) const BATCHES_MAX: usize = 5;
const NO_COORDINATOR_EPOCH: i32 = -1;

/// Who appends, and so how much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: sequences and epochs are checked, repeats answered.
    Client,
    /// A coordinator of this broker: epochs are checked, it keeps no sequences.
    Coordinator,
    /// The transaction coordinator's end marker. From transaction version 2 on its epoch must be larger than
    /// the producer's last one (KIP-890).
    TransactionMarker {
        /// 0, 1 or 2.
        transaction_version: i16,
    },
    /// The quorum's leader: no producer is involved.
    Quorum,
}

/// What an end marker says, read from a control batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    is_abort: bool,
    coordinator_epoch: i32,
    timestamp_ms: i64,
}

impl Marker {
    /// Reads the marker of a control batch; `None` where it holds none (compacted away, or of the quorum's).
    #[must_use]
    pub fn read(batch: &BatchRef<'_>) -> Option<Self> {
        if !batch.header.is_control() {
            return None;
        }
        let mut scratch = Scratch::new();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).ok()?;
        let record = records.next()?.ok()?;
        let is_abort = match ControlKey::parse(record.key?)?.kind {
            ControlType::Abort => true,
            ControlType::Commit => false,
            _ => return None,
        };
        let EndMarker { coordinator_epoch } = EndMarker::parse(record.value?)?;
        Some(Self { is_abort, coordinator_epoch, timestamp_ms: record.timestamp_ms })
    }
}

/// The last thing known of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchTrace {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp_ms: i64,
}

impl BatchTrace {
    pub(super) fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp_ms,
        }
    }

    fn base_offset(&self) -> Offset {
        self.last_offset + -i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        // Sequences run from 0 to i32::MAX and begin again.
        advance_sequence(self.last_sequence, -self.offset_delta)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first; of the current epoch only.
    batches: [Option<BatchTrace>; BATCHES_MAX],
    last_timestamp_ms: i64,
    coordinator_epoch: i32,
    transaction_first_offset: Option<Offset>,
    /// It comes from a snapshot: batches before the one that is known may stand in the log.
    is_from_snapshot: bool,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: [None; BATCHES_MAX],
            last_timestamp_ms: NO_TIMESTAMP,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            transaction_first_offset: None,
            is_from_snapshot: false,
        }
    }

    fn last_batch(&self) -> Option<&BatchTrace> {
        self.batches.iter().rev().flatten().next()
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches = [None; BATCHES_MAX];
            self.is_from_snapshot = false;
        }
    }

    fn push(&mut self, batch: BatchTrace) {
        match self.batches.iter().position(Option::is_none) {
            Some(free) => self.batches[free] = Some(batch),
            None => {
                self.batches.rotate_left(1);
                self.batches[BATCHES_MAX - 1] = Some(batch);
            }
        }
    }

    fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.transaction_first_offset.is_none()
            && now_ms.saturating_sub(self.last_timestamp_ms) >= expiration_ms
    }
}

/// A batch that is in the log already, as the repeat of it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// Where the first one's records are.
    pub base_offset: Offset,
    /// Its last record.
    pub last_offset: Offset,
    /// Its max timestamp.
    pub timestamp_ms: i64,
}

/// A producer as DescribeProducers lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Of its last batch, or -1.
    pub last_sequence: i32,
    /// Of its last batch; `None` where only a marker is known.
    pub last_data_offset: Option<Offset>,
    /// Of its last batch or marker, or -1.
    pub last_timestamp_ms: i64,
    /// Of its last marker, or -1.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_first_offset: Option<Offset>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ProducerStates {
    producers: BTreeMap<ProducerId, Box<Producer>>,
    /// Open transactions by first offset.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended ones by first offset, with the offset of their marker.
    unreplicated: BTreeMap<Offset, Offset>,
    snapshots: BTreeSet<Offset>,
    /// Everything before this offset is known here.
    end_offset: Offset,
    last_snapshot_offset: Offset,
}

impl ProducerStates {
    /// No producer, but snapshots on the disk.
    pub(super) fn new(snapshots: BTreeSet<Offset>) -> Self {
        Self { snapshots, ..Self::default() }
    }

    pub(super) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    pub(super) fn set_end_offset(&mut self, offset: Offset) {
        self.end_offset = offset;
    }

    pub(super) fn snapshots(&self) -> &BTreeSet<Offset> {
        &self.snapshots
    }

    /// The batch among the producer's last five that `header` repeats.
    pub(super) fn duplicate(&self, header: &BatchHeader) -> Option<Duplicate> {
        let producer = self.producers.get(&header.producer_id)?;
        if producer.epoch != header.producer_epoch {
            return None;
        }
        let repeats = |batch: &&BatchTrace| {
            batch.first_sequence() == header.base_sequence && batch.last_sequence == header.last_sequence()
        };
        producer.batches.iter().flatten().find(repeats).map(|batch| Duplicate {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset,
            timestamp_ms: batch.timestamp_ms,
        })
    }

    /// Where the batches end that may hold more of this producer's epoch than is known; `None` where all is known.
    pub(super) fn unrecalled_before(&self, header: &BatchHeader) -> Option<Offset> {
        let producer = self.producers.get(&header.producer_id)?;
        let is_open = producer.is_from_snapshot && producer.epoch == header.producer_epoch;
        let oldest = producer.batches[0].map_or(self.end_offset, |batch| batch.base_offset());
        is_open.then_some(oldest)
    }

    /// Takes over the batches of a producer's epoch that stand in the log before those that are known.
    pub(super) fn recall(&mut self, producer_id: ProducerId, earlier: impl IntoIterator<Item = BatchTrace>) {
        let Some(producer) = self.producers.get_mut(&producer_id) else { return };
        let known = std::mem::replace(&mut producer.batches, [None; BATCHES_MAX]);
        earlier.into_iter().chain(known.into_iter().flatten()).for_each(|batch| producer.push(batch));
        producer.is_from_snapshot = false;
    }

    /// Whether a leader may append this batch now.
    pub(super) fn check(
        &self,
        header: &BatchHeader,
        marker: Option<&Marker>,
        origin: AppendOrigin,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.producers.get(&header.producer_id) else { return Ok(()) };
        let version = match origin {
            AppendOrigin::TransactionMarker { transaction_version } => transaction_version,
            _ => 0,
        };
        let (epoch, current) = (header.producer_epoch, producer.epoch);
        // A repeated marker of an ended transaction is let through (KAFKA-19999).
        let is_repeat = epoch == current && producer.transaction_first_offset.is_none();
        if epoch < current || (version >= 2 && epoch == current && !is_repeat) {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                epoch,
                current,
            });
        }
        if let Some(marker) = marker {
            return check_coordinator(header, marker, producer);
        }
        if origin == AppendOrigin::Client {
            check_sequence(header, producer)?;
        }
        match producer.transaction_first_offset {
            Some(since) if !header.is_transactional() && !header.is_control() => {
                Err(AppendError::InvalidTransactionState { producer_id: header.producer_id, since })
            }
            _ => Ok(()),
        }
    }

    /// Takes over a batch that is in the log. An aborted transaction that it ended is returned, for the index.
    pub(super) fn note(
        &mut self,
        header: &BatchHeader,
        marker: Option<&Marker>,
    ) -> Option<AbortedTransaction> {
        self.end_offset = header.next_offset();
        if !header.has_producer() {
            return None;
        }
        match marker {
            Some(marker) => self.note_marker(header, marker),
            None => {
                if !header.is_control() {
                    self.note_data(header);
                }
                None
            }
        }
    }

    fn producer(&mut self, header: &BatchHeader) -> &mut Producer {
        let fresh = || Box::new(Producer::new(header.producer_epoch));
        self.producers.entry(header.producer_id).or_insert_with(fresh)
    }

    fn note_data(&mut self, header: &BatchHeader) {
        let producer = self.producer(header);
        producer.set_epoch(header.producer_epoch);
        producer.push(BatchTrace::of(header));
        producer.last_timestamp_ms = header.max_timestamp_ms;
        if header.is_transactional() && producer.transaction_first_offset.is_none() {
            producer.transaction_first_offset = Some(header.base_offset);
            self.ongoing.insert(header.base_offset, header.producer_id);
        }
    }

    fn note_marker(&mut self, header: &BatchHeader, marker: &Marker) -> Option<AbortedTransaction> {
        let producer = self.producer(header);
        producer.set_epoch(header.producer_epoch);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp_ms = marker.timestamp_ms;
        // A marker with no data before it in this partition ends nothing here.
        let first_offset = producer.transaction_first_offset.take()?;
        let last_offset = header.base_offset;
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, last_offset);
        let next_open = self.ongoing.keys().next().copied();
        marker.is_abort.then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: next_open.unwrap_or(last_offset.next()),
        })
    }

    /// Where the first open transaction begins, and who has one; `None` where nobody has.
    pub(super) fn ongoing(&self) -> Option<(Offset, BTreeSet<ProducerId>)> {
        let (first, _) = self.ongoing.first_key_value()?;
        Some((*first, self.ongoing.values().copied().collect()))
    }

    /// Takes the transactions of these producers for ended.
    pub(super) fn close_transactions(&mut self, producer_ids: &BTreeSet<ProducerId>) {
        self.ongoing.retain(|_, producer_id| !producer_ids.contains(producer_id));
        for producer_id in producer_ids {
            if let Some(producer) = self.producers.get_mut(producer_id) {
                producer.transaction_first_offset = None;
            }
        }
    }

    /// The first offset that is undecided, or decided above the high watermark.
    pub(super) fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.ongoing.keys().next();
        let unreplicated = self.unreplicated.keys().next();
        open.into_iter().chain(unreplicated).min().copied()
    }

    /// Transactions whose marker is below `offset` are stable.
    pub(super) fn high_watermark_advanced(&mut self, offset: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= offset);
    }

    pub(super) fn log_start_advanced(&mut self, offset: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= offset);
        self.end_offset = self.end_offset.max(offset);
        self.last_snapshot_offset = self.snapshots.last().copied().unwrap_or(offset);
    }

    /// Forgets the producers that have been silent for longer than `expiration_ms`.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, producer| !producer.is_expired(now_ms, expiration_ms));
        before - self.producers.len()
    }

    pub(super) fn active(&self) -> impl ExactSizeIterator<Item = ActiveProducer> + '_ {
        self.producers.iter().map(|(producer_id, producer)| ActiveProducer {
            producer_id: *producer_id,
            epoch: producer.epoch,
            last_sequence: producer.last_batch().map_or(NO_SEQUENCE, |batch| batch.last_sequence),
            last_data_offset: producer.last_batch().map(|batch| batch.last_offset),
            last_timestamp_ms: producer.last_timestamp_ms,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_first_offset: producer.transaction_first_offset,
        })
    }

    /// Forgets everything, and takes over the newest snapshot at or before `end` and behind `start`. Snapshots
    /// outside are removed; a broken one is, too, and the one before it is used.
    pub(super) fn reload(
        &mut self,
        place: &Place,
        (start, end): (Offset, Offset),
        now_ms: i64,
        expiration_ms: i64,
    ) -> Result<(), StorageError> {
        self.forget();
        // The one at the very end is kept even where all records are deleted: it confirms where the end is.
        let is_outside = |offset: Offset| offset > end || (offset <= start && offset != end);
        let outside: Vec<Offset> =
            self.snapshots.iter().copied().filter(|&offset| is_outside(offset)).collect();
        for offset in outside {
            self.remove_snapshot(place, offset)?;
        }
        while let Some(&offset) = self.snapshots.last() {
            let path = place.file(offset, Suffix::Snapshot);
            let bytes = read_small(&*place.disk, &path).map_err(StorageError::io("read", &path))?;
            match producer_snapshot::parse(&bytes.unwrap_or_default()) {
                Ok(entries) => {
                    entries.iter().for_each(|entry| self.take_over(entry));
                    self.expire(now_ms, expiration_ms);
                    (self.end_offset, self.last_snapshot_offset) = (offset, offset);
                    return Ok(());
                }
                Err(why) => {
                    tracing::warn!(path = %path.display(), why, "producer snapshot is not used");
                    self.remove_snapshot(place, offset)?;
                }
            }
        }
        (self.end_offset, self.last_snapshot_offset) = (start, start);
        Ok(())
    }

    /// Takes over all that another log of the same batches knows, but for what lies on its disk.
    pub(super) fn adopt(&mut self, other: &Self) {
        self.producers.clone_from(&other.producers);
        self.ongoing.clone_from(&other.ongoing);
        self.unreplicated.clone_from(&other.unreplicated);
        self.end_offset = other.end_offset;
    }

    fn forget(&mut self) {
        self.producers.clear();
        self.ongoing.clear();
        self.unreplicated.clear();
    }

    fn take_over(&mut self, entry: &SnapshotEntry) {
        let mut producer = Producer::new(entry.epoch);
        if entry.last_offset.0 >= 0 {
            producer.push(BatchTrace {
                last_sequence: entry.last_sequence,
                last_offset: entry.last_offset,
                offset_delta: entry.offset_delta,
                timestamp_ms: entry.timestamp_ms,
            });
        }
        producer.last_timestamp_ms = entry.timestamp_ms;
        producer.coordinator_epoch = entry.coordinator_epoch;
        producer.transaction_first_offset = entry.transaction_first_offset;
        producer.is_from_snapshot = true;
        if let Some(first) = entry.transaction_first_offset {
            self.ongoing.insert(first, entry.producer_id);
        }
        self.producers.insert(entry.producer_id, Box::new(producer));
    }

    /// Writes a snapshot at the end offset, where there is none newer. Not synced: a torn one is recognised,
    /// and the next flush syncs it.
    pub(super) fn take_snapshot(&mut self, place: &Place) -> Result<Option<Offset>, StorageError> {
        if self.end_offset <= self.last_snapshot_offset {
            return Ok(None);
        }
        let path = place.file(self.end_offset, Suffix::Snapshot);
        let bytes = producer_snapshot::render(self.entries());
        let written = place
            .disk
            .open(&path, Access::Replace)
            .and_then(|file| file.write_at(&mut [std::io::IoSlice::new(&bytes)], 0));
        written.map_err(StorageError::io("write", &path))?;
        self.snapshots.insert(self.end_offset);
        self.last_snapshot_offset = self.end_offset;
        Ok(Some(self.end_offset))
    }

    fn entries(&self) -> impl ExactSizeIterator<Item = SnapshotEntry> + '_ {
        self.producers.iter().map(|(producer_id, producer)| {
            let last = producer.last_batch();
            SnapshotEntry {
                producer_id: *producer_id,
                epoch: producer.epoch,
                last_sequence: last.map_or(NO_SEQUENCE, |batch| batch.last_sequence),
                last_offset: last.map_or(Offset::UNKNOWN, |batch| batch.last_offset),
                offset_delta: last.map_or(0, |batch| batch.offset_delta),
                timestamp_ms: producer.last_timestamp_ms,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_first_offset: producer.transaction_first_offset,
            }
        })
    }

    /// Takes the snapshot at `offset` off the books; its file is the caller's.
    pub(super) fn release_snapshot(&mut self, offset: Offset) -> bool {
        self.snapshots.remove(&offset)
    }

    fn remove_snapshot(&mut self, place: &Place, offset: Offset) -> Result<(), StorageError> {
        self.snapshots.remove(&offset);
        let path = place.file(offset, Suffix::Snapshot);
        place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))
    }

    /// Forgets everything, snapshots too; the next batch is expected at `offset`.
    pub(super) fn reset(&mut self, place: &Place, offset: Offset) -> Result<(), StorageError> {
        self.forget();
        while let Some(&snapshot) = self.snapshots.last() {
            self.remove_snapshot(place, snapshot)?;
        }
        (self.end_offset, self.last_snapshot_offset) = (offset, Offset::ZERO);
        Ok(())
    }
}

fn check_coordinator(header: &BatchHeader, marker: &Marker, producer: &Producer) -> Result<(), AppendError> {
    if producer.coordinator_epoch > marker.coordinator_epoch {
        return Err(AppendError::CoordinatorFenced {
            producer_id: header.producer_id,
            epoch: marker.coordinator_epoch,
            current: producer.coordinator_epoch,
        });
    }
    Ok(())
}

/// A new epoch begins at sequence 0; within one, sequences follow each other. Where nothing of the producer's
/// epoch is left, any sequence is taken up.
fn check_sequence(header: &BatchHeader, producer: &Producer) -> Result<(), AppendError> {
    let sequence = header.base_sequence;
    let last = producer.last_batch().map(|batch| batch.last_sequence);
    let fits = if header.producer_epoch == producer.epoch {
        sequence == advance_sequence(last.unwrap_or(NO_SEQUENCE), 1)
    } else {
        sequence == 0
    };
    if fits {
        return Ok(());
    }
    Err(AppendError::OutOfOrderSequence { producer_id: header.producer_id, sequence, last_sequence: last })
}
