//! Reading: by offset, by timestamp.
//!
//! A read decides everything once, under the owner's lock: where it begins, where it must stop, and the offsets
//! that go into the same answer (KAFKA-7104, KAFKA-9807, KAFKA-9835). The bytes come later, without the lock,
//! from a region whose length is fixed here.

use super::Log;
use crate::storage::disk::Region;
use crate::storage::error::{ReadError, StorageError};
use crate::storage::segment::TimestampOffset;
use crate::types::Offset;

/// Whole batches of one segment (the last one may be cut off by `max_bytes`), and the offsets that belong to
/// them in one answer.
#[derive(Debug, Clone)]
pub struct ReadSlice {
    /// The bytes.
    pub region: Region,
    /// Base offset of the first batch: at or before what was asked for. `None` where there is no byte.
    pub first_batch_offset: Option<Offset>,
    /// No batch in the region holds this offset or a later one: up to where aborted transactions matter.
    pub upper_bound: Offset,
    /// As it was when the region was decided.
    pub log_start_offset: Offset,
    /// As it was when the region was decided.
    pub high_watermark: Offset,
    /// As it was when the region was decided.
    pub last_stable_offset: Offset,
    /// As it was when the region was decided.
    pub log_end_offset: Offset,
}

/// What a read gives.
#[derive(Debug, Clone)]
pub enum ReadOutcome {
    /// Bytes that are on this disk.
    Slice(ReadSlice),
    /// The offset is known and its bytes are not on this disk: they must be fetched from tiered storage.
    Later {
        /// What was asked for.
        offset: Offset,
    },
}

impl ReadOutcome {
    /// The slice; `None` for `Later`.
    #[must_use]
    pub fn into_slice(self) -> Option<ReadSlice> {
        match self {
            Self::Slice(slice) => Some(slice),
            Self::Later { .. } => None,
        }
    }
}

impl Log {
    /// Batches from the one that holds `from` on, all below `upper`: at most `max_bytes`, but where
    /// `at_least_one`, the first batch whole. Empty at `upper` and behind it.
    ///
    /// # Errors
    /// `OutOfRange` before the log start and behind the log's end.
    pub fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ReadError> {
        if from < self.log_start_offset || from > self.log_end_offset {
            let (start, end) = (self.log_start_offset, self.log_end_offset);
            return Err(ReadError::OutOfRange { requested: from, start, end });
        }
        if from < self.local_log_start_offset() {
            return Ok(ReadOutcome::Later { offset: from });
        }
        let upper = upper.min(self.log_end_offset);
        let slice = self.slice(from, upper, max_bytes, at_least_one)?;
        Ok(ReadOutcome::Slice(slice.unwrap_or_else(|| self.empty_slice(from))))
    }

    fn slice(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<ReadSlice>, StorageError> {
        if from >= upper {
            return Ok(None);
        }
        for slot in self.segment_slot(from)..self.segments.len() {
            let segment = &self.segments[slot];
            // Behind the last batch of a segment, the first of the next one is meant.
            let Some(first) = segment.find(&self.place, from)? else { continue };
            if first.last_offset >= upper {
                return Ok(None);
            }
            let wanted = if at_least_one { max_bytes.max(first.size as usize) } else { max_bytes };
            if (wanted as u64) < first.size {
                return Ok(None);
            }
            let segment_end = self.segments.get(slot + 1).map_or(self.log_end_offset, |next| next.base);
            let limit = if upper >= segment_end {
                segment.size
            } else {
                segment.find(&self.place, upper)?.map_or(segment.size, |beyond| beyond.position)
            };
            let len = (wanted as u64).min(limit - first.position);
            let end = first.position + len;
            let upper_bound = if end >= limit { None } else { segment.upper_bound(&self.place, end)? };
            return Ok(Some(ReadSlice {
                region: segment.region(&self.place, first.position, len as usize)?,
                first_batch_offset: Some(first.base_offset),
                upper_bound: upper_bound.map_or(segment_end.min(upper), |bound| bound.next().min(upper)),
                ..self.empty_slice(from)
            }));
        }
        Ok(None)
    }

    fn empty_slice(&self, from: Offset) -> ReadSlice {
        ReadSlice {
            region: Region::empty(),
            first_batch_offset: None,
            upper_bound: from,
            log_start_offset: self.log_start_offset,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_end_offset: self.log_end_offset,
        }
    }

    /// The first record whose timestamp is `timestamp_ms` or later. The caller compares its offset with what the
    /// reader may see.
    ///
    /// # Errors
    /// The disk failed, or the log is damaged.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>, StorageError> {
        for segment in &self.segments[self.segment_slot(self.log_start_offset)..] {
            if segment.size == 0 || segment.largest(&self.place)?.timestamp_ms < timestamp_ms {
                continue;
            }
            let found = segment.find_timestamp(&self.place, timestamp_ms, self.log_start_offset)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record that holds the log's largest timestamp.
    ///
    /// # Errors
    /// The disk failed, or the log is damaged.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, StorageError> {
        let mut youngest = None;
        for segment in self.segments.iter().filter(|segment| segment.size > 0) {
            let largest = segment.largest(&self.place)?.timestamp_ms;
            if largest >= 0 && youngest.is_none_or(|(timestamp_ms, _)| timestamp_ms < largest) {
                youngest = Some((largest, segment));
            }
        }
        match youngest {
            Some((_, segment)) => segment.find_largest(&self.place),
            None => Ok(None),
        }
    }
}
