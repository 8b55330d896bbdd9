//! What a producer snapshot has left out, read from the batches themselves.
//!
//! A snapshot keeps one batch of each producer. A producer with several batches on their way may repeat one before
//! that after the log was opened again: it stands in the log, and is no gap. So before a sequence is refused, the
//! headers of the last batches are read, once for each producer that is known from a snapshot.

use std::collections::VecDeque;

use super::Log;
use crate::record::BatchHeader;
use crate::storage::error::StorageError;
use crate::storage::place::Suffix;
use crate::storage::producer_state::{BATCHES_MAX, BatchTrace, Duplicate};
use crate::storage::scan::WALK_WINDOW;
use crate::types::Offset;

/// How far back is looked: several times the five largest batches of one producer, for others write as well.
const REACH_BYTES: u64 = 16 * 1_024 * 1_024;

impl Log {
    /// The batch that `header` repeats, where what is known of its producer comes from a snapshot and the log knows
    /// more.
    pub(super) fn recalled(&mut self, header: &BatchHeader) -> Result<Option<Duplicate>, StorageError> {
        let Some(before) = self.producers.unrecalled_before(header) else { return Ok(None) };
        let earlier = self.traces_before(before, header)?;
        self.producers.recall(header.producer_id, earlier);
        Ok(self.producers.duplicate(header))
    }

    /// The producer's last batches in its present epoch before `before`, oldest first.
    fn traces_before(
        &self,
        before: Offset,
        header: &BatchHeader,
    ) -> Result<VecDeque<BatchTrace>, StorageError> {
        let mut found = VecDeque::with_capacity(BATCHES_MAX);
        let mut left = REACH_BYTES;
        let mut window = vec![0; WALK_WINDOW];
        for segment in self.segments[..=self.segment_slot(before)].iter().rev() {
            let end = segment.find(&self.place, before)?.map_or(segment.size, |batch| batch.position);
            let from = match end.checked_sub(left).filter(|&skipped| skipped > 0) {
                None => Some(0),
                Some(skipped) => match segment.upper_bound(&self.place, skipped)? {
                    Some(offset) => segment.find(&self.place, offset)?.map(|batch| batch.position),
                    None => None,
                },
            };
            let Some(from) = from else { break };
            let mut traces = VecDeque::with_capacity(BATCHES_MAX);
            let path = self.place.file(segment.base, Suffix::Log);
            let mut scanner = segment.scan(&self.place, from, &mut window)?;
            while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
                if scanned.base_offset >= before {
                    break;
                }
                if let Some(batch) = scanned.header.filter(|batch| is_of_the_same(batch, header)) {
                    if traces.len() == BATCHES_MAX {
                        traces.pop_front();
                    }
                    traces.push_back(BatchTrace::of(&batch));
                }
            }
            while let Some(trace) = traces.pop_back().filter(|_| found.len() < BATCHES_MAX) {
                found.push_front(trace);
            }
            left = left.saturating_sub(end.saturating_sub(from));
            if left == 0 || found.len() == BATCHES_MAX {
                break;
            }
        }
        Ok(found)
    }
}

fn is_of_the_same(batch: &BatchHeader, header: &BatchHeader) -> bool {
    !batch.is_control()
        && batch.producer_id == header.producer_id
        && batch.producer_epoch == header.producer_epoch
}
