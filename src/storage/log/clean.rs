//! What the cleaner asks of a log, and gives back to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Log;
use crate::storage::cleaner::{CompactionRules, LastRecord};
use crate::storage::disk::Access;
use crate::storage::error::StorageError;
use crate::storage::place::{Place, Suffix};
use crate::storage::segment::Segment;
use crate::storage::transaction_index::AbortedTransaction;
use crate::types::{Offset, ProducerId};

/// How much of a log a round of cleaning would look at. Segments count whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirtiness {
    /// Everything before is clean.
    pub first_dirty_offset: Offset,
    /// The base of the first segment that may not be cleaned yet.
    pub first_uncleanable_offset: Offset,
    /// Bytes of the clean segments.
    pub clean_bytes: u64,
    /// Bytes of the dirty segments that may be cleaned.
    pub cleanable_bytes: u64,
    /// A dirty record is older than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Dirtiness {
    /// The dirty share of what could be cleaned.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.cleanable_bytes;
        if all == 0 { 0.0 } else { self.cleanable_bytes as f64 / all as f64 }
    }

    /// Whether the log is to be cleaned.
    #[must_use]
    pub fn is_due(&self, rules: &CompactionRules) -> bool {
        let is_overdue = self.is_overdue && self.cleanable_bytes > 0;
        is_overdue || self.ratio() > rules.min_cleanable_dirty_ratio
    }
}

/// A sealed segment that is to be cleaned.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct SourceSegment {
    pub(in crate::storage) base: Offset,
    /// The base of the next one.
    pub(in crate::storage) end: Offset,
    pub(in crate::storage) size: u64,
    pub(in crate::storage) modified_ms: i64,
}

/// What a round of cleaning works on, as it was at its begin.
#[derive(Debug)]
pub(in crate::storage) struct CleaningSource {
    pub(in crate::storage) place: Place,
    pub(in crate::storage) segments: Vec<SourceSegment>,
    pub(in crate::storage) aborted: Vec<AbortedTransaction>,
    pub(in crate::storage) last_records: BTreeMap<ProducerId, LastRecord>,
    /// Set when the log changes under the cleaner.
    pub(in crate::storage) abort: Arc<AtomicBool>,
}

/// A cleaned segment whose `.cleaned` files are synced.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Replacement {
    pub(in crate::storage) base: Offset,
    pub(in crate::storage) size: u64,
    pub(in crate::storage) modified_ms: i64,
    pub(in crate::storage) has_transactions: bool,
}

impl Replacement {
    fn suffixes(&self) -> impl Iterator<Item = Suffix> {
        let transactions = self.has_transactions.then_some(Suffix::TransactionIndex);
        [Suffix::Log, Suffix::OffsetIndex, Suffix::TimeIndex].into_iter().chain(transactions)
    }
}

/// Of a segment that is replaced under its own base, all but the producer snapshot goes.
const WITHOUT_SNAPSHOT: [Suffix; 4] =
    [Suffix::Log, Suffix::OffsetIndex, Suffix::TimeIndex, Suffix::TransactionIndex];

impl Log {
    /// Everything below is clean: what `cleaner-offset-checkpoint` says of this log.
    #[must_use]
    pub fn cleaner_point(&self) -> Option<Offset> {
        self.cleaner_point
    }

    /// Takes over what the checkpoint says, at the start or from the log that this one replaces.
    pub fn set_cleaner_point(&mut self, offset: Option<Offset>) {
        self.cleaner_point = offset;
    }

    /// A round of cleaning is under way: segments are not to be deleted.
    #[must_use]
    pub fn is_being_cleaned(&self) -> bool {
        self.cleaning.upgrade().is_some_and(|abort| !abort.load(Ordering::Acquire))
    }

    /// Ends a round of cleaning that is under way: what it works on has changed.
    pub fn abort_cleaning(&self) {
        if let Some(abort) = self.cleaning.upgrade() {
            abort.store(true, Ordering::Release);
        }
    }

    /// How much of the log is dirty and may be cleaned at `now_ms`: never the active segment, nothing above the
    /// last stable offset, and no segment with a record younger than the least lag.
    ///
    /// # Errors
    /// The disk failed.
    pub fn dirtiness(&self, rules: &CompactionRules, now_ms: i64) -> Result<Dirtiness, StorageError> {
        let start = self.log_start_offset;
        let known = self.cleaner_point.unwrap_or(start);
        let first_dirty = if known > self.log_end_offset { start } else { known.max(start) };
        let active = self.segments.len() - 1;
        let dirty =
            &self.segments[self.segment_slot(first_dirty)..active.max(self.segment_slot(first_dirty))];
        let mut uncleanable = self.last_stable_offset().min(self.segments[active].base);
        if rules.min_compaction_lag_ms > 0 {
            let youngest_ms = now_ms.saturating_sub(rules.min_compaction_lag_ms);
            for segment in dirty {
                if segment.largest_or_modified_ms(&self.place)? > youngest_ms {
                    uncleanable = uncleanable.min(segment.base);
                    break;
                }
            }
        }
        let end_slot = self.segment_slot(uncleanable.max(first_dirty)).min(active);
        let first_uncleanable = self.segments[end_slot].base;
        let from_slot = self.segment_slot(first_dirty.min(first_uncleanable)).min(end_slot);
        let bytes = |segments: &[Segment]| segments.iter().map(|segment| segment.size).sum();
        let clean = &self.segments[..self.segments.partition_point(|segment| segment.base < first_dirty)];
        Ok(Dirtiness {
            first_dirty_offset: first_dirty,
            first_uncleanable_offset: first_uncleanable,
            clean_bytes: bytes(clean),
            cleanable_bytes: bytes(&self.segments[from_slot..end_slot]),
            is_overdue: self.is_overdue(dirty, rules.max_compaction_lag_ms, now_ms)?,
        })
    }

    fn is_overdue(&self, dirty: &[Segment], lag_ms: i64, now_ms: i64) -> Result<bool, StorageError> {
        if lag_ms == i64::MAX {
            return Ok(false);
        }
        for segment in dirty {
            let first_ms = segment.first_timestamp_ms(&self.place)?;
            if first_ms > 0 && first_ms < now_ms.saturating_sub(lag_ms.max(0)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Claims the log for a round of cleaning that ends at `upper`, the base of a segment. `None` where another
    /// round is under way, or there is nothing below.
    pub(in crate::storage) fn begin_cleaning(
        &mut self,
        upper: Offset,
    ) -> Result<Option<CleaningSource>, StorageError> {
        let count = self.segments.partition_point(|segment| segment.base < upper);
        if self.cleaning.strong_count() > 0 || count == 0 || count == self.segments.len() {
            return Ok(None);
        }
        let segments = self.segments.windows(2).take(count).map(|pair| SourceSegment {
            base: pair[0].base,
            end: pair[1].base,
            size: pair[0].size,
            modified_ms: pair[0].modified_ms(),
        });
        let last_records = self.active_producers().filter_map(|producer| {
            let data_offset = producer.last_data_offset;
            // What it wrote last lies behind this round: nothing here is kept for it.
            let is_behind = data_offset.is_some_and(|offset| offset >= upper);
            let last = LastRecord { data_offset, epoch: producer.epoch };
            (!is_behind).then_some((producer.producer_id, last))
        });
        let abort = Arc::new(AtomicBool::new(false));
        let source = CleaningSource {
            place: self.place.clone(),
            segments: segments.collect(),
            aborted: self.aborted_transactions(self.first_segment_base_offset(), upper)?,
            last_records: last_records.collect(),
            abort: Arc::clone(&abort),
        };
        self.cleaning = Arc::downgrade(&abort);
        Ok(Some(source))
    }

    /// Whether these segments are still in the log as they were.
    pub(in crate::storage) fn still_holds(&self, segments: &[SourceSegment]) -> bool {
        let Some(first) = segments.first() else { return true };
        let slot = self.segments.partition_point(|segment| segment.base < first.base);
        let here = self.segments[slot..].iter().take(segments.len());
        here.len() == segments.len()
            && here.zip(segments).all(|(here, known)| here.base == known.base && here.size == known.size)
    }

    /// Makes a `.cleaned` segment, with a file for aborted transactions where some may come.
    pub(in crate::storage) fn create_cleaned(
        &mut self,
        base: Offset,
        has_transactions: bool,
        now_ms: i64,
    ) -> Result<(Segment, Option<Arc<dyn crate::storage::disk::DiskFile>>), StorageError> {
        let place = self.place.cleaned();
        let segment = Segment::create(&place, base, 0, None, now_ms)?;
        // Opened now: later the folder may have another name.
        segment.offset_index(&place)?;
        segment.time_index(&place)?;
        segment.log_file(&place)?;
        let path = place.file(base, Suffix::TransactionIndex);
        let open = || place.disk.open(&path, Access::Replace).map_err(StorageError::io("create", &path));
        let transactions = has_transactions.then(open).transpose()?;
        Ok((segment, transactions))
    }

    /// Removes the `.cleaned` files of a segment.
    pub(in crate::storage) fn remove_cleaned(&self, base: Offset) -> Result<(), StorageError> {
        let place = self.place.cleaned();
        for suffix in WITHOUT_SNAPSHOT {
            let path = place.file(base, suffix);
            place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Puts cleaned segments in the place of `old` ones, which [`Self::still_holds`].
    ///
    /// The names change in an order that a power cut may end anywhere: while a `.cleaned` file is left nothing
    /// has happened, then the `.swap` files are the truth, until the old ones are gone for certain and the new
    /// ones have their names.
    pub(in crate::storage) fn replace_segments(
        &mut self,
        old: &[SourceSegment],
        new: &[Replacement],
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let Some(first) = old.first() else { return Ok(()) };
        for replacement in new.iter().rev() {
            if !replacement.has_transactions {
                let path = self.place.cleaned().file(replacement.base, Suffix::TransactionIndex);
                self.place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))?;
            }
            self.rename_all(replacement, &self.place.cleaned(), &self.place.swap())?;
        }
        self.sync_folder()?;
        let due_ms = now_ms.saturating_add(self.options.file_delete_delay_ms);
        for segment in old {
            if new.iter().any(|replacement| replacement.base == segment.base) {
                self.deletions.add_files(&self.place, segment.base, &WITHOUT_SNAPSHOT, due_ms)?;
            } else {
                self.producers.release_snapshot(segment.base);
                self.deletions.add_segment(&self.place, segment.base, due_ms)?;
            }
        }
        self.sync_folder()?;
        for replacement in new {
            self.rename_all(replacement, &self.place.swap(), &self.place)?;
        }
        let slot = self.segments.partition_point(|segment| segment.base < first.base);
        let segments = new.iter().map(|one| {
            let segment = Segment::existing(one.base, one.size, true, one.modified_ms);
            if one.has_transactions { segment } else { segment.without_transactions() }
        });
        self.segments.splice(slot..slot + old.len(), segments);
        self.names_made += 1;
        Ok(())
    }

    fn rename_all(&self, replacement: &Replacement, from: &Place, to: &Place) -> Result<(), StorageError> {
        for suffix in replacement.suffixes() {
            let path = from.file(replacement.base, suffix);
            let target = to.file(replacement.base, suffix);
            self.place.disk.rename(&path, &target).map_err(StorageError::io("rename", &path))?;
        }
        Ok(())
    }
}
