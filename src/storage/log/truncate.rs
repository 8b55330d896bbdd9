//! Cutting a log at its end: a follower whose log has grown apart from its leader's, or begins anew.

use super::Log;
use crate::storage::error::StorageError;
use crate::types::Offset;

impl Log {
    /// Where the log ends once it is cut at `offset`: before a batch that holds `offset` and begins before it. A
    /// log that ended inside a batch would have a hole there, which the next recovery takes for a loss.
    ///
    /// # Errors
    /// The disk failed.
    pub fn end_cut_at(&self, offset: Offset) -> Result<Offset, StorageError> {
        if offset >= self.log_end_offset || offset < self.first_segment_base_offset() {
            return Ok(offset);
        }
        let holder = self.segments[self.segment_slot(offset)].find(&self.place, offset)?;
        Ok(holder.map_or(offset, |batch| batch.base_offset.min(offset)))
    }

    /// Removes everything from `offset` on; a batch that holds `offset` goes whole, and the log ends where it
    /// began ([`Log::end_cut_at`]). `true` where anything went. The removed segments keep their files under
    /// `.deleted` names for `file.delete.delay.ms`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn truncate_to(&mut self, offset: Offset, now_ms: i64) -> Result<bool, StorageError> {
        assert!(offset.0 >= 0, "offsets are not negative");
        let offset = self.end_cut_at(offset)?;
        if offset >= self.log_end_offset {
            // Nothing is there to remove, but an epoch may have been noted that the leader does not know.
            self.has_unstored_epochs |= self.epochs.truncate_from_end(offset);
            self.store_epochs()?;
            return Ok(false);
        }
        if offset < self.first_segment_base_offset() {
            self.truncate_fully_and_start_at(offset, now_ms)?;
            return Ok(true);
        }
        self.generation += 1;
        self.abort_cleaning();
        self.cleaner_point = self.cleaner_point.map(|point| point.min(offset));
        // Snapshots go, too.
        self.names_made += 1;
        let slot = self.segment_slot(offset);
        self.remove_segments(slot + 1..self.segments.len(), now_ms)?;
        self.segments[slot].truncate_to(&self.place, offset, now_ms)?;
        self.is_touched = true;
        self.end_at(offset);
        self.has_unstored_epochs |= self.epochs.truncate_from_end(offset);
        self.store_epochs()?;
        self.log_start_offset = self.log_start_offset.min(offset);
        self.local_log_start_offset = self.local_log_start_offset.min(offset);
        self.reload_producers(now_ms)?;
        Ok(true)
    }

    /// Removes everything; the next batch gets `offset`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset, now_ms: i64) -> Result<(), StorageError> {
        self.generation += 1;
        self.abort_cleaning();
        self.cleaner_point = None;
        self.remove_segments(0..self.segments.len(), now_ms)?;
        self.segments.clear();
        let jitter_ms = self.options.draw_jitter_ms();
        let segment = crate::storage::segment::Segment::create(&self.place, offset, jitter_ms, None, now_ms)?;
        self.segments.push(segment);
        self.names_made += 1;
        self.has_unstored_epochs |= self.epochs.clear();
        self.store_epochs()?;
        self.producers.reset(&self.place, offset)?;
        self.unsynced_snapshots.clear();
        self.log_end_offset = offset;
        self.log_start_offset = offset;
        self.local_log_start_offset = offset;
        self.high_watermark = offset;
        self.flushed_offset = offset;
        self.unflushed_since_ms = None;
        self.is_touched = true;
        Ok(())
    }

    fn end_at(&mut self, offset: Offset) {
        self.log_end_offset = offset;
        self.high_watermark = self.high_watermark.min(offset);
        self.flushed_offset = self.flushed_offset.min(offset);
    }

    /// What is known of producers is what the rest of the log says: a batch that was cut off is no duplicate
    /// (Redpanda #5355).
    fn reload_producers(&mut self, now_ms: i64) -> Result<(), StorageError> {
        let range = (self.log_start_offset, self.log_end_offset);
        self.producers.reload(&self.place, range, now_ms, self.options.producer_id_expiration_ms)?;
        crate::storage::recovery::settle_transactions(
            &self.place,
            &self.segments,
            self.log_start_offset,
            &mut self.producers,
        )?;
        let slot = self.segment_slot(self.producers.end_offset());
        crate::storage::recovery::replay_producers(
            &self.place,
            &self.segments[slot..],
            range,
            &mut self.producers,
        )?;
        self.producers.high_watermark_advanced(self.high_watermark);
        let snapshot = self.producers.take_snapshot(&self.place)?;
        self.unsynced_snapshots.extend(snapshot);
        Ok(())
    }
}
