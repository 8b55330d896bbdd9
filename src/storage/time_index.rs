//! `.timeindex`: from a timestamp to an offset before which no record is as young.
//!
//! ```text
//! entry: | timestamp i64 | relative offset i32 |   both grow
//! ```
//! An entry says: the largest timestamp up to here is `timestamp`, and the batch that ends with that offset
//! holds it. One is added beside every offset index entry if the timestamp has grown, and one for the maximum
//! when the segment is rolled or closed, which is why the last slot is kept free for it.

use std::io;
use std::sync::Arc;

use super::disk::DiskFile;
use super::index_file::IndexFile;
use crate::record::NO_TIMESTAMP;
use crate::types::Offset;

pub(super) const ENTRY_SIZE: usize = 12;

/// A timestamp, and the last offset of the batch that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub(super) timestamp_ms: i64,
    pub(super) offset: Offset,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TimeIndex {
    base: Offset,
    file: IndexFile<ENTRY_SIZE>,
}

impl TimeIndex {
    pub(super) fn empty(base: Offset, file: Arc<dyn DiskFile>) -> io::Result<Self> {
        Ok(Self { base, file: IndexFile::empty(file)? })
    }

    /// `None` where the file cannot be the time index of a segment with that base.
    pub(super) fn load(base: Offset, file: Arc<dyn DiskFile>, sealed: bool) -> io::Result<Option<Self>> {
        let Some(file) = IndexFile::load(file, sealed)? else { return Ok(None) };
        let index = Self { base, file };
        let Some(slot) = index.file.entries().checked_sub(1) else { return Ok(Some(index)) };
        let (first, last) = (index.entry(0)?, index.entry(slot)?);
        let fits = last.offset >= base && first.timestamp_ms <= last.timestamp_ms && first.timestamp_ms >= 0;
        Ok(fits.then_some(index))
    }

    /// The last entry of a file that is read once and not kept open. `None` where only [`Self::load`] can tell:
    /// the file is no index, or was not cut to its entries.
    pub(super) fn last_in(base: Offset, file: &dyn DiskFile) -> io::Result<Option<TimeEntry>> {
        let len = file.len()?;
        let mut entry = [0; ENTRY_SIZE];
        let Some(position) =
            len.checked_sub(ENTRY_SIZE as u64).filter(|_| len.is_multiple_of(ENTRY_SIZE as u64))
        else {
            return Ok(None);
        };
        let filled = file.read_at(&mut entry, position)?;
        let (timestamp_ms, relative) = split(&entry);
        let is_entry = filled == ENTRY_SIZE && entry != [0; ENTRY_SIZE] && timestamp_ms >= 0;
        Ok(is_entry.then(|| TimeEntry { timestamp_ms, offset: base + i64::from(relative) }))
    }

    fn entry(&self, slot: u32) -> io::Result<TimeEntry> {
        let (timestamp_ms, relative) = split(&self.file.get(slot)?);
        Ok(TimeEntry { timestamp_ms, offset: self.base + i64::from(relative) })
    }

    pub(super) fn entries(&self) -> u32 {
        self.file.entries()
    }

    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        self.file.file()
    }

    /// Full but for the slot of the closing entry.
    pub(super) fn is_full(&self, index_bytes: u64) -> bool {
        u64::from(self.file.entries()) + 1 >= index_bytes / ENTRY_SIZE as u64
    }

    /// The last entry; without one, "no timestamp" at the base.
    pub(super) fn last(&self) -> io::Result<TimeEntry> {
        match self.file.entries().checked_sub(1) {
            Some(slot) => self.entry(slot),
            None => Ok(TimeEntry { timestamp_ms: NO_TIMESTAMP, offset: self.base }),
        }
    }

    /// From which offset on to look for records at or after `timestamp_ms`.
    pub(super) fn lookup(&self, timestamp_ms: i64) -> io::Result<Offset> {
        match self.file.last_slot_where(|entry| split(entry).0 <= timestamp_ms)? {
            Some(slot) => Ok(self.entry(slot)?.offset),
            None => Ok(self.base),
        }
    }

    /// Adds `largest` where it is younger than the last entry.
    pub(super) fn push_if_younger(&mut self, largest: TimeEntry, index_bytes: u64) -> io::Result<()> {
        let last = self.last()?;
        if largest.timestamp_ms <= last.timestamp_ms {
            return Ok(());
        }
        let relative = u32::try_from(largest.offset - self.base).map_err(io::Error::other)?;
        let mut entry = [0; ENTRY_SIZE];
        entry[..8].copy_from_slice(&largest.timestamp_ms.to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        self.file.push(&entry, index_bytes / ENTRY_SIZE as u64 * ENTRY_SIZE as u64)
    }

    /// Drops the entries for `offset` and what follows it.
    pub(super) fn truncate_to(&mut self, offset: Offset) -> io::Result<()> {
        let relative = offset - self.base;
        let last = self.file.last_slot_where(|entry| i64::from(split(entry).1) < relative)?;
        self.file.truncate(last.map_or(0, |slot| slot + 1))
    }

    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.cut()
    }

    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.file.seal()
    }
}

fn split(entry: &[u8; ENTRY_SIZE]) -> (i64, u32) {
    let [t0, t1, t2, t3, t4, t5, t6, t7, a, b, c, d] = *entry;
    (i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]), u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Access, Disk, RealDisk};

    #[test]
    fn only_younger_timestamps_are_added_and_lookups_stay_before_their_target() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let file = disk.open(&folder.path().join("10.timeindex"), Access::Create).unwrap();
        let mut index = TimeIndex::empty(Offset(10), file).unwrap();
        assert_eq!(index.lookup(5).unwrap(), Offset(10));
        for (timestamp_ms, offset) in [(100, 19), (100, 29), (90, 39), (200, 49), (-1, 59)] {
            index.push_if_younger(TimeEntry { timestamp_ms, offset: Offset(offset) }, 1_200).unwrap();
        }
        assert_eq!(index.file.entries(), 2);
        for (timestamp_ms, offset) in [(99, 10), (100, 19), (199, 19), (200, 49), (i64::MAX, 49)] {
            assert_eq!(index.lookup(timestamp_ms).unwrap(), Offset(offset), "{timestamp_ms}");
        }
        assert!(index.is_full(36) && !index.is_full(48));
        index.truncate_to(Offset(49)).unwrap();
        assert_eq!(index.last().unwrap(), TimeEntry { timestamp_ms: 100, offset: Offset(19) });
    }
}
