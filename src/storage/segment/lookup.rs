//! Finding a record by its timestamp.

use super::{Segment, TimestampOffset};
use crate::record::{BatchRef, InflateLimits, Scratch};
use crate::storage::error::StorageError;
use crate::storage::place::{Place, Suffix};
use crate::storage::scan::{LOOKUP_WINDOW, Scanned};
use crate::types::{LeaderEpoch, Offset};

impl Segment {
    /// The first record at or behind `from` that is no older than `timestamp_ms`.
    pub(in crate::storage) fn find_timestamp(
        &self,
        place: &Place,
        timestamp_ms: i64,
        from: Offset,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let time_path = place.file(self.base, Suffix::TimeIndex);
        let hint =
            self.time_index(place)?.lookup(timestamp_ms).map_err(StorageError::io("read", &time_path))?;
        let found = |record: &TimestampOffset| record.timestamp_ms >= timestamp_ms && record.offset >= from;
        self.find_record(place, hint.max(from), |batch| batch.max_timestamp_ms >= timestamp_ms, found)
    }

    /// The first record that holds the segment's largest timestamp.
    pub(in crate::storage) fn find_largest(
        &self,
        place: &Place,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let largest = self.largest(place)?;
        let is_largest = |record: &TimestampOffset| record.timestamp_ms == largest.timestamp_ms;
        self.find_record(
            place,
            largest.offset,
            |batch| batch.max_timestamp_ms == largest.timestamp_ms,
            is_largest,
        )
    }

    /// Looks into the batches that `may_hold` it, from the one that holds `from` on, for a record.
    fn find_record(
        &self,
        place: &Place,
        from: Offset,
        may_hold: impl Fn(&Scanned) -> bool,
        is_it: impl Fn(&TimestampOffset) -> bool,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        if self.size == 0 {
            return Ok(None);
        }
        let path = place.file(self.base, Suffix::Log);
        let position = self.offset_index(place)?.lookup(from).map_err(StorageError::io("read", &path))?;
        let mut window = vec![0; LOOKUP_WINDOW];
        let mut spill = Vec::new();
        let mut scanner = self.scan(place, position, &mut window)?;
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            if scanned.last_offset < from || !may_hold(&scanned) {
                continue;
            }
            let bytes = scanner.bytes(&scanned, &mut spill).map_err(StorageError::io("read", &path))?;
            if let Some(found) = record_in(bytes, &scanned, &is_it) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The first record of a batch that `is_it`; for a batch of an old magic, the batch itself.
fn record_in(
    bytes: &[u8],
    scanned: &Scanned,
    is_it: &impl Fn(&TimestampOffset) -> bool,
) -> Option<TimestampOffset> {
    let Some(header) = scanned.header else {
        let whole = TimestampOffset {
            timestamp_ms: scanned.max_timestamp_ms,
            offset: scanned.base_offset,
            leader_epoch: LeaderEpoch::UNKNOWN,
        };
        return is_it(&whole).then_some(whole);
    };
    let mut scratch = Scratch::new();
    let batch = BatchRef { header, bytes };
    let mut records = batch.records(&InflateLimits::default(), &mut scratch).ok()?;
    while let Some(Ok(record)) = records.next() {
        let found = TimestampOffset {
            timestamp_ms: record.timestamp_ms,
            offset: record.offset,
            leader_epoch: header.leader_epoch,
        };
        if is_it(&found) {
            return Some(found);
        }
    }
    None
}
