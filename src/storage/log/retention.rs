//! Cutting a log at its start: by age, by size, and by the log start offset.
//!
//! Only whole segments are deleted, only below the high watermark, oldest first. If even the active one is due,
//! a new one is begun before. Files are renamed to `.deleted` and removed after `file.delete.delay.ms`.

use std::ops::Range;

use super::Log;
use crate::storage::error::{ReadError, StorageError};
use crate::storage::segment::Segment;
use crate::types::Offset;

/// What retention has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Segments.
    pub segments: usize,
    /// Bytes of batches in them.
    pub bytes: u64,
}

impl Log {
    /// Deletes the segments that retention does not keep at `now_ms`: both of its steps. While the cleaner works on
    /// them they wait.
    ///
    /// # Errors
    /// The disk failed.
    pub fn apply_retention(&mut self, now_ms: i64) -> Result<Deleted, StorageError> {
        self.retire(now_ms)?;
        self.delete_retired(now_ms)
    }

    /// Moves the log start behind the segments that retention does not keep at `now_ms`. `true` where segments
    /// lie below it now: once `log-start-offset-checkpoint` says so they may be deleted, and a power cut that
    /// brings back some of their files, and not all, leaves no hole.
    ///
    /// # Errors
    /// The disk failed.
    pub fn retire(&mut self, now_ms: i64) -> Result<bool, StorageError> {
        if self.is_being_cleaned() {
            return Ok(false);
        }
        let mut due = self.count_below_log_start();
        if self.options.delete_old_segments {
            due = due.max(self.count_too_old(now_ms)?).max(self.count_over_size());
        }
        if due == self.segments.len() {
            self.roll_at(self.log_end_offset, now_ms)?;
        }
        if due > 0 {
            self.advance_log_start(self.segments[due].base);
        }
        Ok(due > 0)
    }

    /// Deletes the segments below the log start.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete_retired(&mut self, now_ms: i64) -> Result<Deleted, StorageError> {
        let count = self.count_below_log_start();
        if count == 0 || self.is_being_cleaned() {
            return Ok(Deleted::default());
        }
        let bytes = self.segments[..count].iter().map(|segment| segment.size).sum();
        self.remove_segments(0..count, now_ms)?;
        tracing::debug!(partition = %self.partition, count, bytes, start = %self.log_start_offset, "segments deleted");
        Ok(Deleted { segments: count, bytes })
    }

    /// DeleteRecords: nothing before `offset` can be read any more. The segments go with the next retention.
    ///
    /// # Errors
    /// `OutOfRange` behind the high watermark.
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, ReadError> {
        if offset > self.high_watermark {
            let (start, end) = (self.log_start_offset, self.high_watermark);
            return Err(ReadError::OutOfRange { requested: offset, start, end });
        }
        if offset > self.log_start_offset {
            self.abort_cleaning();
        }
        self.advance_log_start(offset);
        Ok(self.log_start_offset)
    }

    pub(super) fn advance_log_start(&mut self, offset: Offset) {
        if offset <= self.log_start_offset {
            return;
        }
        self.log_start_offset = offset;
        self.local_log_start_offset = offset;
        self.high_watermark = self.high_watermark.max(offset);
        self.producers.log_start_advanced(offset);
        self.has_unstored_epochs |= self.epochs.truncate_from_start(offset);
    }

    /// The segments from the first on that `is_due`, as far as they lie below the high watermark and hold
    /// anything at all.
    fn count_while(&self, mut is_due: impl FnMut(&Segment, Option<&Segment>) -> bool) -> usize {
        let mut slots = 0..self.segments.len();
        let count = slots.position(|slot| {
            let (segment, next) = (&self.segments[slot], self.segments.get(slot + 1));
            let end = next.map_or(self.log_end_offset, |next| next.base);
            let is_last_and_empty = next.is_none() && segment.size == 0;
            is_last_and_empty || self.high_watermark < end || !is_due(segment, next)
        });
        count.unwrap_or(self.segments.len())
    }

    fn count_below_log_start(&self) -> usize {
        self.count_while(|_, next| next.is_some_and(|next| next.base <= self.log_start_offset))
    }

    fn count_too_old(&self, now_ms: i64) -> Result<usize, StorageError> {
        if self.options.retention_ms < 0 {
            return Ok(0);
        }
        let mut failure = None;
        let count = self.count_while(|segment, _| match segment.largest_or_modified_ms(&self.place) {
            Ok(youngest) => now_ms.saturating_sub(youngest) > self.options.retention_ms,
            Err(error) => {
                failure = Some(error);
                false
            }
        });
        failure.map_or(Ok(count), Err)
    }

    fn count_over_size(&self) -> usize {
        let Ok(retention_bytes) = u64::try_from(self.options.retention_bytes) else { return 0 };
        let Some(mut surplus) = self.size_bytes().checked_sub(retention_bytes) else { return 0 };
        self.count_while(|segment, _| match surplus.checked_sub(segment.size) {
            Some(rest) => {
                surplus = rest;
                true
            }
            None => false,
        })
    }

    /// Takes segments out of the log, and their files under `.deleted` names.
    pub(super) fn remove_segments(&mut self, slots: Range<usize>, now_ms: i64) -> Result<(), StorageError> {
        let removed: Vec<Segment> = self.segments.drain(slots).collect();
        self.names_made += u64::from(!removed.is_empty());
        let due_ms = now_ms.saturating_add(self.options.file_delete_delay_ms);
        for segment in removed {
            self.producers.release_snapshot(segment.base);
            self.deletions.add_segment(&self.place, segment.base, due_ms)?;
        }
        Ok(())
    }
}
