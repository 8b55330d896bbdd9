//! One segment: a `.log` file, its two indexes and, where transactions were aborted, its `.txnindex`.
//!
//! Only the last segment of a log takes batches; the others are sealed. Files are opened at first use, so that
//! a segment that nobody touches costs a few hundred bytes and no descriptor. An index that is missing or is
//! none is made again from the log when it is first asked.
//!
//! `size` counts whole batches: bytes behind it in the file are preallocated zeros.

mod lookup;
mod rebuild;

use std::cell::{Cell, OnceCell};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Access, DiskFile, Region};
use super::error::StorageError;
use super::offset_index::OffsetIndex;
use super::place::{Place, Suffix};
use super::scan::{LOOKUP_WINDOW, ScanError, Scanned, Scanner};
use super::time_index::{TimeEntry, TimeIndex};
use super::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::record::NO_TIMESTAMP;
use crate::types::{LeaderEpoch, Offset};

/// What an index needs to know of a batch that is appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchMark {
    pub(super) size: u64,
    pub(super) last_offset: Offset,
    pub(super) max_timestamp_ms: i64,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's.
    pub timestamp_ms: i64,
    /// The record's.
    pub offset: Offset,
    /// The epoch of the leader that appended it, or -1.
    pub leader_epoch: LeaderEpoch,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: Offset,
    pub(super) size: u64,
    sealed: bool,
    created_ms: i64,
    modified_ms: i64,
    jitter_ms: i64,
    log: OnceCell<Arc<dyn DiskFile>>,
    offset_index: OnceCell<OffsetIndex>,
    time_index: OnceCell<TimeIndex>,
    transactions: OnceCell<TransactionIndex>,
    /// The largest timestamp so far; read from the time index when first asked.
    largest: Cell<Option<TimeEntry>>,
    /// Of the first batch; read from the log when first asked.
    first_timestamp_ms: Cell<Option<i64>>,
    bytes_since_index_entry: u64,
}

impl Segment {
    /// An empty segment, its files made and its indexes preallocated. Whatever had these names is replaced.
    pub(super) fn create(
        place: &Place,
        base: Offset,
        jitter_ms: i64,
        preallocated_len: Option<u64>,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let make = |suffix, len| {
            let path = place.file(base, suffix);
            let made = place.disk.open(&path, Access::Replace).and_then(|file| match len {
                0 => Ok(()),
                len => file.set_len(len),
            });
            made.map_err(StorageError::io("create", &path))
        };
        let whole = |entry_size: usize| place.segment_index_bytes / entry_size as u64 * entry_size as u64;
        make(Suffix::OffsetIndex, whole(super::offset_index::ENTRY_SIZE))?;
        make(Suffix::TimeIndex, whole(super::time_index::ENTRY_SIZE))?;
        make(Suffix::Log, preallocated_len.unwrap_or(0))?;
        let mut segment = Self::existing(base, 0, false, now_ms);
        segment.jitter_ms = jitter_ms;
        segment.largest.set(Some(TimeEntry { timestamp_ms: NO_TIMESTAMP, offset: base }));
        // Nothing was aborted yet, so that there is no file to look for.
        segment.transactions = OnceCell::from(TransactionIndex::default());
        Ok(segment)
    }

    /// A segment that is on the disk.
    pub(super) fn existing(base: Offset, size: u64, sealed: bool, modified_ms: i64) -> Self {
        Self {
            base,
            size,
            sealed,
            created_ms: modified_ms,
            modified_ms,
            jitter_ms: 0,
            log: OnceCell::new(),
            offset_index: OnceCell::new(),
            time_index: OnceCell::new(),
            transactions: OnceCell::new(),
            largest: Cell::new(None),
            first_timestamp_ms: Cell::new(None),
            bytes_since_index_entry: 0,
        }
    }

    /// Says that there is no `.txnindex`, so that it is not looked for.
    pub(super) fn without_transactions(mut self) -> Self {
        self.transactions = OnceCell::from(TransactionIndex::default());
        self
    }

    pub(super) fn set_jitter_ms(&mut self, jitter_ms: i64) {
        self.jitter_ms = jitter_ms;
    }

    fn access(&self) -> Access {
        if self.sealed { Access::Read } else { Access::Write }
    }

    pub(super) fn log_file(&self, place: &Place) -> Result<&Arc<dyn DiskFile>, StorageError> {
        if let Some(file) = self.log.get() {
            return Ok(file);
        }
        let path = place.file(self.base, Suffix::Log);
        let file = place.disk.open(&path, self.access()).map_err(StorageError::io("open", &path))?;
        Ok(self.log.get_or_init(|| file))
    }

    pub(super) fn offset_index(&self, place: &Place) -> Result<&OffsetIndex, StorageError> {
        if self.offset_index.get().is_none() {
            let path = place.file(self.base, Suffix::OffsetIndex);
            let loaded = match place.disk.open(&path, self.access()) {
                Ok(file) => OffsetIndex::load(self.base, file, self.sealed, self.size)
                    .map(|index| index.filter(|index| !self.lacks_entries(place, index.entries()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            match loaded.map_err(StorageError::io("open", &path))? {
                Some(index) => drop(self.offset_index.set(index)),
                None => self.rebuild_indexes(place)?,
            }
        }
        let path = || place.file(self.base, Suffix::OffsetIndex);
        self.offset_index.get().ok_or_else(|| StorageError::corrupt(&path(), "no index could be made"))
    }

    /// Whether an offset index without entries cannot be right for so many bytes.
    fn lacks_entries(&self, place: &Place, entries: u32) -> bool {
        entries == 0 && self.size > place.index_interval_bytes.saturating_mul(2)
    }

    pub(super) fn time_index(&self, place: &Place) -> Result<&TimeIndex, StorageError> {
        if self.time_index.get().is_none() {
            let path = place.file(self.base, Suffix::TimeIndex);
            let loaded = match place.disk.open(&path, self.access()) {
                // A segment that was left has a closing entry.
                Ok(file) => TimeIndex::load(self.base, file, self.sealed)
                    .map(|index| index.filter(|index| self.size == 0 || index.entries() > 0)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            match loaded.map_err(StorageError::io("open", &path))? {
                Some(index) => drop(self.time_index.set(index)),
                None => self.rebuild_indexes(place)?,
            }
        }
        let path = || place.file(self.base, Suffix::TimeIndex);
        self.time_index.get().ok_or_else(|| StorageError::corrupt(&path(), "no index could be made"))
    }

    pub(super) fn transactions(&self, place: &Place) -> Result<&TransactionIndex, StorageError> {
        if let Some(index) = self.transactions.get() {
            return Ok(index);
        }
        let path = place.file(self.base, Suffix::TransactionIndex);
        let index = TransactionIndex::load(place, self.base)
            .map_err(StorageError::io("read", &path))?
            .ok_or_else(|| StorageError::corrupt(&path, "not a transaction index"))?;
        Ok(self.transactions.get_or_init(|| index))
    }

    /// The largest timestamp, and the last offset of the batch that holds it. Asked of every log now and then by
    /// retention: where the time index is not in use, it is not kept open for this.
    pub(super) fn largest(&self, place: &Place) -> Result<TimeEntry, StorageError> {
        if let Some(largest) = self.largest.get() {
            return Ok(largest);
        }
        let path = place.file(self.base, Suffix::TimeIndex);
        let peeked = match self.time_index.get() {
            Some(_) => None,
            None => self.peek_largest(place, &path)?,
        };
        let largest = match peeked {
            Some(largest) => largest,
            None => self.time_index(place)?.last().map_err(StorageError::io("read", &path))?,
        };
        self.largest.set(Some(largest));
        Ok(largest)
    }

    fn peek_largest(&self, place: &Place, path: &Path) -> Result<Option<TimeEntry>, StorageError> {
        match place.disk.open(path, Access::Read) {
            Ok(file) => TimeIndex::last_in(self.base, &*file).map_err(StorageError::io("read", path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("open", path)(error)),
        }
    }

    /// The largest timestamp; where no batch has one, when the file was last written.
    pub(super) fn largest_or_modified_ms(&self, place: &Place) -> Result<i64, StorageError> {
        let largest = self.largest(place)?.timestamp_ms;
        Ok(if largest >= 0 { largest } else { self.modified_ms })
    }

    /// When the file was last written.
    pub(super) fn modified_ms(&self) -> i64 {
        self.modified_ms
    }

    /// Of the first batch, its largest.
    pub(super) fn first_timestamp_ms(&self, place: &Place) -> Result<i64, StorageError> {
        if let Some(first) = self.first_timestamp_ms.get() {
            return Ok(first);
        }
        let mut window = [0; LOOKUP_WINDOW];
        let first = self.scan(place, 0, &mut window)?.next().ok().flatten();
        let first = first.map_or(NO_TIMESTAMP, |scanned| scanned.max_timestamp_ms);
        self.first_timestamp_ms.set(Some(first));
        Ok(first)
    }

    /// Whether an offset can stand in this segment's indexes.
    pub(super) fn can_hold(&self, offset: Offset) -> bool {
        (0..=i64::from(i32::MAX)).contains(&(offset - self.base))
    }

    /// Whether batches that end with `last_offset` must go to a new segment.
    pub(super) fn should_roll(
        &self,
        place: &Place,
        (segment_bytes, segment_ms): (u64, i64),
        (batch_bytes, max_timestamp_ms, last_offset): (u64, i64, Offset),
        now_ms: i64,
    ) -> Result<bool, StorageError> {
        if self.size == 0 {
            return Ok(!self.can_hold(last_offset));
        }
        if self.size + batch_bytes > segment_bytes || !self.can_hold(last_offset) {
            return Ok(true);
        }
        let is_full = self.offset_index(place)?.is_full(place.segment_index_bytes)
            || self.time_index(place)?.is_full(place.segment_index_bytes);
        if is_full {
            return Ok(true);
        }
        let first = self.first_timestamp_ms(place)?;
        let waited = if first >= 0 {
            max_timestamp_ms.saturating_sub(first)
        } else {
            now_ms.saturating_sub(self.created_ms)
        };
        Ok(waited > segment_ms.saturating_sub(self.jitter_ms))
    }

    /// Writes batches at the end, in one call, and what the indexes need of them.
    pub(super) fn append(
        &mut self,
        place: &Place,
        pieces: &mut [IoSlice<'_>],
        marks: &[BatchMark],
        now_ms: i64,
    ) -> Result<(), StorageError> {
        assert!(!self.sealed, "a sealed segment takes no batch");
        // Everything that may fail to open does so before a byte is written.
        self.offset_index(place)?;
        self.time_index(place)?;
        let mut largest = self.largest(place)?;
        let path = || place.file(self.base, Suffix::Log);
        let file = self.log_file(place)?;
        file.write_at(pieces, self.size).map_err(|error| StorageError::io("write", &path())(error))?;
        let (Some(offsets), Some(times)) = (self.offset_index.get_mut(), self.time_index.get_mut()) else {
            unreachable!("both were loaded above");
        };
        if self.size == 0 {
            self.first_timestamp_ms.set(marks.first().map(|mark| mark.max_timestamp_ms));
        }
        for mark in marks {
            if mark.max_timestamp_ms > largest.timestamp_ms {
                largest = TimeEntry { timestamp_ms: mark.max_timestamp_ms, offset: mark.last_offset };
            }
            if self.bytes_since_index_entry > place.index_interval_bytes {
                let bytes = place.segment_index_bytes;
                offsets
                    .push(mark.last_offset, self.size, bytes)
                    .and_then(|()| times.push_if_younger(largest, bytes))
                    .map_err(|error| {
                        StorageError::io("write index of", &place.file(self.base, Suffix::Log))(error)
                    })?;
                self.bytes_since_index_entry = 0;
            }
            self.size += mark.size;
            self.bytes_since_index_entry += mark.size;
        }
        self.largest.set(Some(largest));
        self.modified_ms = now_ms;
        Ok(())
    }

    pub(super) fn note_aborted(
        &mut self,
        place: &Place,
        aborted: AbortedTransaction,
    ) -> Result<(), StorageError> {
        self.transactions(place)?;
        let path = place.file(self.base, Suffix::TransactionIndex);
        match self.transactions.get_mut() {
            Some(index) => index.push(place, self.base, aborted).map_err(StorageError::io("write", &path)),
            None => unreachable!("it was loaded above"),
        }
    }

    /// A scanner over the batches from `position` on.
    pub(super) fn scan<'a>(
        &'a self,
        place: &Place,
        position: u64,
        window: &'a mut [u8],
    ) -> Result<Scanner<'a>, StorageError> {
        Ok(Scanner::new(&**self.log_file(place)?, position, self.size, window))
    }

    /// The first batch that ends at or behind `offset`.
    pub(super) fn find(&self, place: &Place, offset: Offset) -> Result<Option<Scanned>, StorageError> {
        if self.size == 0 {
            return Ok(None);
        }
        let index_path = || place.file(self.base, Suffix::OffsetIndex);
        let position = self
            .offset_index(place)?
            .lookup(offset)
            .map_err(|error| StorageError::io("read", &index_path())(error))?;
        let mut window = [0; LOOKUP_WINDOW];
        let mut scanner = self.scan(place, position, &mut window)?;
        loop {
            match scanner.next().map_err(|error| error.at(&place.file(self.base, Suffix::Log)))? {
                Some(scanned) if scanned.last_offset < offset => {}
                found => return Ok(found),
            }
        }
    }

    /// An offset that no batch beginning before `position` reaches, as near as the index tells.
    pub(super) fn upper_bound(&self, place: &Place, position: u64) -> Result<Option<Offset>, StorageError> {
        let path = place.file(self.base, Suffix::OffsetIndex);
        let entry = self.offset_index(place)?.first_at_or_after(position);
        Ok(entry.map_err(StorageError::io("read", &path))?.map(|entry| entry.offset))
    }

    pub(super) fn region(&self, place: &Place, position: u64, len: usize) -> Result<Region, StorageError> {
        let path = || place.file(self.base, Suffix::Log);
        let region = self.log_file(place)?.region(position, len);
        region.map_err(|error| StorageError::io("read", &path())(error))
    }

    /// The offset after the last batch, read from the last index entry on. Where the file does not end with a
    /// whole batch: `Err(Broken)`.
    pub(super) fn read_next_offset(&self, place: &Place) -> Result<Result<Offset, ScanError>, StorageError> {
        let path = place.file(self.base, Suffix::OffsetIndex);
        let last = self.offset_index(place)?.last().map_err(StorageError::io("read", &path))?;
        let mut window = [0; LOOKUP_WINDOW];
        let mut scanner = self.scan(place, last.map_or(0, |last| last.position), &mut window)?;
        let mut next = self.base;
        loop {
            match scanner.next() {
                Ok(Some(scanned)) => next = scanned.last_offset.next(),
                Ok(None) => return Ok(Ok(next)),
                Err(ScanError::Io(error)) => return Err(StorageError::io("read", &path)(error)),
                Err(broken) => return Ok(Err(broken)),
            }
        }
    }

    /// Removes the batch that holds `offset` and all behind it. The segment takes batches again.
    pub(super) fn truncate_to(
        &mut self,
        place: &Place,
        offset: Offset,
        now_ms: i64,
    ) -> Result<u64, StorageError> {
        let cut = self.find(place, offset)?.map_or(self.size, |scanned| scanned.position);
        self.transactions(place)?;
        self.unseal();
        self.offset_index(place)?;
        self.time_index(place)?;
        let path = place.file(self.base, Suffix::Log);
        let (Some(offsets), Some(times), Some(transactions)) =
            (self.offset_index.get_mut(), self.time_index.get_mut(), self.transactions.get_mut())
        else {
            unreachable!("all three were loaded above");
        };
        offsets
            .truncate_to(offset)
            .and_then(|()| times.truncate_to(offset))
            .and_then(|()| transactions.truncate_to(place, self.base, offset))
            .map_err(StorageError::io("truncate index of", &path))?;
        self.log_file(place)?.set_len(cut).map_err(StorageError::io("truncate", &path))?;
        let removed = self.size - cut;
        self.size = cut;
        self.bytes_since_index_entry = 0;
        self.modified_ms = now_ms;
        if cut == 0 {
            self.created_ms = now_ms;
            self.first_timestamp_ms.set(None);
        }
        self.largest.set(None);
        let largest = self.largest_after(place, self.largest(place)?)?;
        self.largest.set(Some(largest));
        Ok(removed)
    }

    /// Drops read-only handles; the files are opened for writing when they are needed next.
    pub(super) fn unseal(&mut self) {
        if self.sealed {
            self.sealed = false;
            self.close_files();
        }
    }

    /// Closes the files; they are opened again when they are needed next.
    pub(super) fn close_files(&mut self) {
        self.log = OnceCell::new();
        self.offset_index = OnceCell::new();
        self.time_index = OnceCell::new();
    }

    /// The largest timestamp behind the time index's last entry, or that entry.
    fn largest_after(&self, place: &Place, indexed: TimeEntry) -> Result<TimeEntry, StorageError> {
        let path = place.file(self.base, Suffix::Log);
        let position =
            self.offset_index(place)?.lookup(indexed.offset).map_err(StorageError::io("read", &path))?;
        let mut window = vec![0; LOOKUP_WINDOW];
        let mut scanner = self.scan(place, position, &mut window)?;
        let mut largest = indexed;
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            if scanned.max_timestamp_ms > largest.timestamp_ms {
                largest = TimeEntry { timestamp_ms: scanned.max_timestamp_ms, offset: scanned.last_offset };
            }
        }
        Ok(largest)
    }

    /// Adds the time index's closing entry and cuts all files to their length: what a roll and a clean stop do.
    pub(super) fn finish(&mut self, place: &Place) -> Result<(), StorageError> {
        let largest = self.largest(place)?;
        self.offset_index(place)?;
        self.time_index(place)?;
        let path = place.file(self.base, Suffix::Log);
        let (Some(offsets), Some(times)) = (self.offset_index.get_mut(), self.time_index.get_mut()) else {
            unreachable!("both were loaded above");
        };
        times
            .push_if_younger(largest, place.segment_index_bytes)
            .and_then(|()| times.cut())
            .and_then(|()| offsets.cut())
            .map_err(StorageError::io("finish index of", &path))?;
        let file = self.log_file(place)?;
        let len = file.len().map_err(StorageError::io("stat", &path))?;
        if len > self.size {
            file.set_len(self.size).map_err(StorageError::io("truncate", &path))?;
        }
        Ok(())
    }

    /// Finishes the segment and takes no more batches.
    pub(super) fn seal(&mut self, place: &Place) -> Result<(), StorageError> {
        self.finish(place)?;
        let path = place.file(self.base, Suffix::Log);
        if let (Some(offsets), Some(times)) = (self.offset_index.get_mut(), self.time_index.get_mut()) {
            offsets.seal().and_then(|()| times.seal()).map_err(StorageError::io("seal index of", &path))?;
        }
        self.sealed = true;
        Ok(())
    }

    /// The files that a flush of this segment syncs: its log, and where asked for its indexes.
    pub(super) fn files_to_sync(
        &self,
        place: &Place,
        with_indexes: bool,
        out: &mut Vec<Arc<dyn DiskFile>>,
    ) -> Result<(), StorageError> {
        out.push(Arc::clone(self.log_file(place)?));
        if with_indexes {
            out.push(Arc::clone(self.offset_index(place)?.file()));
            out.push(Arc::clone(self.time_index(place)?.file()));
            if !self.transactions(place)?.entries().is_empty() {
                let path = place.file(self.base, Suffix::TransactionIndex);
                out.push(place.disk.open(&path, Access::Read).map_err(StorageError::io("open", &path))?);
            }
        }
        Ok(())
    }
}
