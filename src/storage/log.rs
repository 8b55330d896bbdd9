//! One partition's log: segments, producer state, leader epochs and offsets, as one value with one owner.
//!
//! ```text
//! log_start <= local_log_start <= … <= last_stable <= high_watermark <= log_end
//!                                         flushed <= log_end
//! ```
//! There is no lock inside: the owner holds one. What a read returns stays valid without it. Everything here
//! blocks for a page-cache write at most, but for opening, truncation, retention and [`FlushTicket::sync`],
//! which wait for the disk.
//!
//! Only the leader of the partition calls `append_as_leader`, only a follower `append_as_follower`. When either
//! returns, the bytes are in the page cache; [`Log::flushed_offset`] says what survives a power cut. After a
//! failed write or sync the whole log directory is offline and every call that touches the disk says so.

mod append;
mod clean;
mod flush;
mod lifecycle;
mod read;
mod recall;
mod relocate;
mod retention;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

pub use append::Appended;
pub use clean::Dirtiness;
pub(super) use clean::{Replacement, SourceSegment};
pub use flush::FlushTicket;
pub use lifecycle::{LogHome, folder_name_for_delete, folder_name_for_stray};
pub use read::{ReadOutcome, ReadSlice};
pub use relocate::{Extract, folder_name_for_future};
pub use retention::Deleted;

use super::deletions::DeletionQueue;
use super::disk::Disk;
use super::error::StorageError;
use super::leader_epochs::{EpochEnd, LeaderEpochs};
use super::options::LogOptions;
use super::place::Place;
use super::producer_state::{ActiveProducer, ProducerStates};
use super::segment::Segment;
use super::transaction_index::AbortedTransaction;
use crate::types::{LeaderEpoch, Offset, TopicPartition, Uuid};

/// See the module.
#[derive(Debug)]
pub struct Log {
    place: Place,
    partition: TopicPartition,
    topic_id: Option<Uuid>,
    options: LogOptions,
    /// In order of their base offsets; never empty; the last one takes the batches.
    segments: Vec<Segment>,
    log_start_offset: Offset,
    local_log_start_offset: Offset,
    high_watermark: Offset,
    log_end_offset: Offset,
    flushed_offset: Offset,
    producers: ProducerStates,
    epochs: LeaderEpochs,
    /// The next flush writes them. Until then they can be read from the batches behind the recovery point.
    has_unstored_epochs: bool,
    /// A leader took office and has not written yet.
    has_fresh_epoch: bool,
    deletions: Arc<DeletionQueue>,
    /// Counts truncations: a flush that began before one proves nothing about what came after.
    generation: u64,
    /// Counts the files made in the folder, and how many of them a sync of the folder has covered.
    names_made: u64,
    names_synced: u64,
    /// The folder's own name survives a power cut.
    is_folder_synced: bool,
    unsynced_snapshots: Vec<Offset>,
    /// Bases of the segments whose indexes the next flush syncs, too: those that were closed or made again.
    unsynced_indexes: Vec<Offset>,
    has_unsynced_topic_id: bool,
    /// When the oldest batch that is not flushed was appended.
    unflushed_since_ms: Option<i64>,
    /// The active segment was written to since it was opened.
    is_touched: bool,
    /// Everything below is clean.
    cleaner_point: Option<Offset>,
    /// The round of cleaning that is under way; `true` ends it.
    cleaning: Weak<AtomicBool>,
}

impl Log {
    /// Whose log this is.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The topic's id from `partition.metadata`, where there is one.
    #[must_use]
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// The log directory that holds the folder.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.place.folder.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.place.disk
    }

    /// The settings in force.
    #[must_use]
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Changes the settings; see [`LogOptions`] for what acts when.
    pub fn set_options(&mut self, options: LogOptions) {
        self.options = options;
        self.place.index_interval_bytes = options.index_interval_bytes;
    }

    /// The first offset that a reader may ask for. Grows by retention and DeleteRecords.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// The first offset that is on this disk; what lies between the two is in tiered storage.
    #[must_use]
    pub fn local_log_start_offset(&self) -> Offset {
        self.local_log_start_offset
    }

    /// The base offset of the first segment: where `log-start-offset-checkpoint` has nothing to add.
    #[must_use]
    pub fn first_segment_base_offset(&self) -> Offset {
        self.segments.first().map_or(self.log_end_offset, |segment| segment.base)
    }

    /// Where each segment begins, in order.
    pub fn segment_base_offsets(&self) -> impl Iterator<Item = Offset> + '_ {
        self.segments.iter().map(|segment| segment.base)
    }

    /// Everything below is on every in-sync replica.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Everything below is decided: what a reader of committed records may see.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        match self.producers.first_unstable_offset() {
            Some(unstable) => unstable.max(self.log_start_offset).min(self.high_watermark),
            None => self.high_watermark,
        }
    }

    /// The offset that the next batch gets.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Everything below survives a power cut.
    #[must_use]
    pub fn flushed_offset(&self) -> Offset {
        self.flushed_offset
    }

    /// Where recovery has to begin after a crash: at the flushed offset, or at the first segment whose indexes are
    /// not synced.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        self.unsynced_indexes.iter().copied().chain([self.flushed_offset]).min().unwrap_or(Offset::ZERO)
    }

    /// What may become visible to others: with `flush.messages=1` only what is flushed, else all.
    #[must_use]
    pub fn visible_end_offset(&self) -> Offset {
        if self.options.flush_messages <= 1 { self.flushed_offset } else { self.log_end_offset }
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Which leader epoch began where.
    #[must_use]
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Where an epoch ended, for OffsetForLeaderEpoch and diverging fetches.
    #[must_use]
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.epochs.end_of(epoch, self.log_end_offset)
    }

    /// Notes that a leader took office at `start`, the log's end, before it writes anything (KAFKA-7415). It is on
    /// disk with the flush of its first batch; until then a restart loses nothing that matters, for the next
    /// leader's epoch begins at the same offset.
    pub fn assign_epoch_start(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.has_fresh_epoch |= self.epochs.assign(epoch, start);
    }

    fn store_epochs(&mut self) -> Result<(), StorageError> {
        if self.has_unstored_epochs {
            self.epochs.store(&self.place)?;
            self.has_unstored_epochs = false;
        }
        Ok(())
    }

    /// Moves the high watermark forward, to the log's end at most. `true` where it moved.
    pub fn advance_high_watermark(&mut self, offset: Offset) -> bool {
        let capped = offset.min(self.log_end_offset);
        if capped <= self.high_watermark {
            return false;
        }
        self.high_watermark = capped;
        self.producers.high_watermark_advanced(capped);
        true
    }

    /// The producers that are remembered.
    pub fn active_producers(&self) -> impl ExactSizeIterator<Item = ActiveProducer> + '_ {
        self.producers.active()
    }

    /// Forgets producers that were silent for `producer.id.expiration.ms`; returns how many.
    pub fn expire_producers(&mut self, now_ms: i64) -> usize {
        self.producers.expire(now_ms, self.options.producer_id_expiration_ms)
    }

    /// The aborted transactions that have a record at or behind `from` and begin before `to`.
    ///
    /// # Errors
    /// The disk failed, or a `.txnindex` is none.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        let mut found = Vec::new();
        for segment in &self.segments[self.segment_slot(from)..] {
            for aborted in segment.transactions(&self.place)?.entries() {
                if aborted.last_offset >= from && aborted.first_offset < to {
                    found.push(*aborted);
                }
                // No transaction that begins before `to` was open any more when this one was aborted.
                if aborted.last_stable_offset >= to {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The files of this log that wait for their removal, with those of its whole directory.
    #[must_use]
    pub fn deletions(&self) -> &Arc<DeletionQueue> {
        &self.deletions
    }

    /// Whether files that were renamed or removed may have their names again after a power cut.
    pub(super) fn may_return(&self) -> bool {
        self.names_made > self.names_synced
    }

    /// The slot of the segment that holds `offset`, or of the first.
    fn segment_slot(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }

    fn active(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Compression};
    use crate::storage::disk::RealDisk;
    use crate::storage::{AppendOrigin, LogHome, OpenHints};

    #[test]
    fn an_idle_partition_costs_less_than_two_kib() {
        assert!(
            size_of::<Log>() + size_of::<Segment>() < 1_536,
            "{} {}",
            size_of::<Log>(),
            size_of::<Segment>()
        );
    }

    fn append(log: &mut Log) {
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.append(0, None, Some(b"value"), []);
        log.append_as_leader(&builder.build().unwrap(), LeaderEpoch(0), AppendOrigin::Client, 0).unwrap();
    }

    #[test]
    fn a_log_that_was_recovered_or_closed_holds_no_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let home = LogHome::new(disk.clone());
        let (path, id) = (folder.path().join("t-0"), TopicPartition::from_dir_name("t-0").unwrap());
        let mut log = Log::create(&home, &path, id.clone(), None, LogOptions::default(), 0).unwrap();
        append(&mut log);
        assert_eq!(disk.stats().open_files(), 3);
        drop(log);
        let unclean = OpenHints::default();
        let (mut log, recovered) =
            Log::open(&home, &path, id.clone(), LogOptions::default(), unclean, 0).unwrap();
        assert_eq!((recovered.segments_checked, disk.stats().open_files()), (1, 0));
        append(&mut log);
        log.close_clean().unwrap();
        assert_eq!(disk.stats().open_files(), 0);
        let clean = OpenHints { clean: true, recovery_point: Offset(2), ..OpenHints::default() };
        let (log, recovered) = Log::open(&home, &path, id, LogOptions::default(), clean, 0).unwrap();
        assert_eq!((recovered.segments_checked, log.log_end_offset()), (0, Offset(2)));
    }

    #[test]
    fn files_are_closed_after_use_where_too_many_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::with_files_max(3);
        let home = LogHome::new(disk.clone());
        let (path, id) = (folder.path().join("t-0"), TopicPartition::from_dir_name("t-0").unwrap());
        let mut log = Log::create(&home, &path, id, None, LogOptions::default(), 0).unwrap();
        for count in 1..4 {
            append(&mut log);
            assert_eq!((log.log_end_offset(), disk.stats().open_files()), (Offset(count), 0));
        }
        let read = log.read(Offset(0), Offset(3), 1 << 20, true).unwrap().into_slice().unwrap();
        assert_eq!(disk.stats().open_files(), 2, "a look-up needs the log and one index");
        let region = read.region;
        log.close_clean().unwrap();
        assert_eq!(
            region.read().unwrap().len() as u64,
            std::fs::metadata(path.join("00000000000000000000.log")).unwrap().len()
        );
    }
}
