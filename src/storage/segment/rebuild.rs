//! Making a segment's indexes again: from headers where an index is missing or is none, and after an unclean
//! stop from batches that are checked one by one.

use std::cell::{Cell, OnceCell};
use std::io::IoSlice;

use super::Segment;
use crate::record::{BatchRef, LegacyMessage, NO_TIMESTAMP};
use crate::storage::disk::Access;
use crate::storage::error::StorageError;
use crate::storage::offset_index::OffsetIndex;
use crate::storage::place::{Place, Suffix};
use crate::storage::scan::{ScanError, Scanned, Scanner, WALK_WINDOW};
use crate::storage::time_index::{TimeEntry, TimeIndex};
use crate::storage::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::types::Offset;

/// What [`Segment::recover`] found.
#[derive(Debug)]
pub(in crate::storage) struct RecoveredSegment {
    pub(in crate::storage) next_offset: Offset,
    pub(in crate::storage) bytes_cut: u64,
    pub(in crate::storage) fault: Option<String>,
}

/// What a check makes on its way through a segment.
struct Rebuilt {
    offsets: OffsetIndex,
    times: TimeIndex,
    aborted: TransactionIndex,
    marks: IndexMarks,
    found: RecoveredSegment,
}

/// Makes indexes from batches that are in the log, with entries where an append would have put them.
struct IndexMarks {
    largest: TimeEntry,
    last_entry_position: u64,
}

/// The entry with the base offset that it must have had. That stands outside the checksum; but where what comes `after`
/// begins just where an entry at `expected` would end, no other fits, and no cleaning leaves such a one. Of the last
/// entry nothing can be said: cleaning may have left what looks like a hole before it.
fn in_its_place(found: Scanned, expected: Offset, after: Option<Offset>) -> Scanned {
    let placed = found.at(expected);
    if found.header.is_some() && after == Some(placed.last_offset.next()) { placed } else { found }
}

impl IndexMarks {
    fn new(base: Offset) -> Self {
        Self { largest: TimeEntry { timestamp_ms: NO_TIMESTAMP, offset: base }, last_entry_position: 0 }
    }

    fn add(
        &mut self,
        place: &Place,
        scanned: &Scanned,
        offsets: &mut OffsetIndex,
        times: &mut TimeIndex,
    ) -> Result<(), StorageError> {
        if scanned.max_timestamp_ms > self.largest.timestamp_ms {
            self.largest = TimeEntry { timestamp_ms: scanned.max_timestamp_ms, offset: scanned.last_offset };
        }
        if scanned.position - self.last_entry_position > place.index_interval_bytes {
            offsets
                .push(scanned.last_offset, scanned.position, 0)
                .and_then(|()| times.push_if_younger(self.largest, 0))
                .map_err(StorageError::io("write index in", &place.folder))?;
            self.last_entry_position = scanned.position;
        }
        Ok(())
    }

    fn close(&self, place: &Place, times: &mut TimeIndex) -> Result<(), StorageError> {
        times.push_if_younger(self.largest, 0).map_err(StorageError::io("write index in", &place.folder))
    }
}

fn is_whole_message(bytes: &[u8]) -> bool {
    LegacyMessage::first(bytes).is_ok_and(|message| message.is_valid())
}

impl Segment {
    /// Makes whichever of the two indexes is not loaded again from the headers in the log. Those of a segment that no
    /// recovery will look at again get their names only once they are on disk: half of one may look whole.
    pub(super) fn rebuild_indexes(&self, place: &Place) -> Result<(), StorageError> {
        tracing::info!(folder = %place.folder.display(), base = %self.base, "index is made again from the log");
        let written_at = if self.sealed { place.unfinished() } else { place.clone() };
        let (mut offsets, mut times) = self.empty_indexes(&written_at)?;
        let file = self.log_file(place)?;
        let path = place.file(self.base, Suffix::Log);
        let mut window = vec![0; WALK_WINDOW];
        let mut scanner = Scanner::new(&**file, 0, self.size, &mut window);
        let mut marks = IndexMarks::new(self.base);
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            marks.add(place, &scanned, &mut offsets, &mut times)?;
        }
        marks.close(place, &mut times)?;
        if self.sealed {
            let sealed = offsets.seal().and_then(|()| times.seal());
            // No flush comes by here again.
            let synced = sealed.and_then(|()| offsets.file().sync()).and_then(|()| times.file().sync());
            synced.map_err(StorageError::io("write", &path))?;
            for suffix in [Suffix::OffsetIndex, Suffix::TimeIndex] {
                let (from, to) = (written_at.file(self.base, suffix), place.file(self.base, suffix));
                place.disk.rename(&from, &to).map_err(StorageError::io("rename", &from))?;
            }
        }
        // One of them may be in use already; it is as good.
        drop(self.offset_index.set(offsets));
        drop(self.time_index.set(times));
        Ok(())
    }

    fn empty_indexes(&self, place: &Place) -> Result<(OffsetIndex, TimeIndex), StorageError> {
        let open = |suffix| {
            let path = place.file(self.base, suffix);
            place.disk.open(&path, Access::Replace).map_err(StorageError::io("create", &path))
        };
        let path = place.file(self.base, Suffix::OffsetIndex);
        let offsets = OffsetIndex::empty(self.base, open(Suffix::OffsetIndex)?);
        let times = TimeIndex::empty(self.base, open(Suffix::TimeIndex)?);
        Ok((
            offsets.map_err(StorageError::io("create", &path))?,
            times.map_err(StorageError::io("create", &path))?,
        ))
    }

    /// Checks every batch from the first on, makes the indexes again, and cuts the file behind the last batch
    /// that is whole. `accept` sees each good batch, and refuses it or names the aborted transaction that it ends.
    pub(in crate::storage) fn recover(
        &mut self,
        place: &Place,
        accept: impl FnMut(&BatchRef<'_>) -> Result<Option<AbortedTransaction>, String>,
    ) -> Result<RecoveredSegment, StorageError> {
        let path = place.file(self.base, Suffix::Log);
        let transactions = place.file(self.base, Suffix::TransactionIndex);
        self.unseal();
        place.disk.remove_file(&transactions).map_err(StorageError::io("remove", &transactions))?;
        let (offsets, times) = self.empty_indexes(place)?;
        let mut rebuilt = Rebuilt {
            offsets,
            times,
            aborted: TransactionIndex::default(),
            marks: IndexMarks::new(self.base),
            found: RecoveredSegment { next_offset: self.base, bytes_cut: self.size, fault: None },
        };
        rebuilt.found.fault = self.check_batches(place, &mut rebuilt, accept)?;
        let Rebuilt { offsets, mut times, aborted, marks, found } = rebuilt;
        marks.close(place, &mut times)?;
        if found.bytes_cut > 0 {
            self.size -= found.bytes_cut;
            self.log_file(place)?.set_len(self.size).map_err(StorageError::io("truncate", &path))?;
        }
        self.largest = Cell::new(Some(marks.largest));
        self.first_timestamp_ms = Cell::new(None);
        (self.offset_index, self.time_index) = (OnceCell::from(offsets), OnceCell::from(times));
        self.transactions = OnceCell::from(aborted);
        Ok(found)
    }

    /// Takes over batch after batch; returns why the first bad one is bad.
    fn check_batches(
        &self,
        place: &Place,
        rebuilt: &mut Rebuilt,
        mut accept: impl FnMut(&BatchRef<'_>) -> Result<Option<AbortedTransaction>, String>,
    ) -> Result<Option<String>, StorageError> {
        let path = place.file(self.base, Suffix::Log);
        let file = self.log_file(place)?;
        let mut window = vec![0; WALK_WINDOW];
        let mut spill = Vec::new();
        let mut scanner = Scanner::new(&**file, 0, self.size, &mut window);
        loop {
            let found = match scanner.next() {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(ScanError::Io(error)) => return Err(StorageError::io("read", &path)(error)),
                Err(ScanError::Broken { why, .. }) => return Ok(Some(why)),
            };
            let expected = rebuilt.found.next_offset;
            let scanned = if found.base_offset == expected {
                found
            } else {
                let after = scanner.next_base_offset().map_err(StorageError::io("read", &path))?;
                in_its_place(found, expected, after)
            };
            if scanned.base_offset < expected || !self.can_hold(scanned.last_offset) {
                return Ok(Some(format!("offset {} where {expected} is the smallest", scanned.base_offset)));
            }
            let bytes = scanner.bytes(&scanned, &mut spill).map_err(StorageError::io("read", &path))?;
            if scanned.header.is_none() && !is_whole_message(bytes) {
                // What a torn write has left may look like a message of an old magic: zeros are magic 0.
                return Ok(Some("neither a batch nor a whole message of an old magic".to_owned()));
            }
            if let Some(header) = scanned.header {
                let batch = BatchRef { header, bytes };
                if let Err(error) = batch.check_crc() {
                    return Ok(Some(error.to_string()));
                }
                let aborted = match accept(&batch) {
                    Ok(aborted) => aborted,
                    Err(why) => return Ok(Some(why)),
                };
                if let Some(aborted) = aborted {
                    let pushed = rebuilt.aborted.push(place, self.base, aborted);
                    pushed.map_err(StorageError::io("write transaction index of", &path))?;
                }
            }
            if scanned.base_offset != found.base_offset {
                let (is, due) = (found.base_offset, scanned.base_offset);
                tracing::warn!(file = %path.display(), position = found.position, %is, %due, "base offset set right");
                let mended = file.write_at(&mut [IoSlice::new(&due.0.to_be_bytes())], found.position);
                mended.map_err(StorageError::io("write", &path))?;
            }
            rebuilt.marks.add(place, &scanned, &mut rebuilt.offsets, &mut rebuilt.times)?;
            rebuilt.found.next_offset = scanned.last_offset.next();
            rebuilt.found.bytes_cut -= scanned.size;
        }
    }
}
