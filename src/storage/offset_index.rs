//! `.index`: from an offset to a position in the log that is not behind it.
//!
//! ```text
//! entry: | relative offset i32 | position i32 |   relative to the segment's base; both grow
//! ```
//! An entry stands for the **last** offset of a batch and points to where that batch begins.

use std::io;
use std::sync::Arc;

use super::disk::DiskFile;
use super::index_file::IndexFile;
use crate::types::Offset;

pub(super) const ENTRY_SIZE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct OffsetIndex {
    base: Offset,
    file: IndexFile<ENTRY_SIZE>,
}

/// One entry, absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    pub(super) offset: Offset,
    pub(super) position: u64,
}

impl OffsetIndex {
    pub(super) fn empty(base: Offset, file: Arc<dyn DiskFile>) -> io::Result<Self> {
        Ok(Self { base, file: IndexFile::empty(file)? })
    }

    /// `None` where the file cannot be the index of a log of `log_size` bytes.
    pub(super) fn load(
        base: Offset,
        file: Arc<dyn DiskFile>,
        sealed: bool,
        log_size: u64,
    ) -> io::Result<Option<Self>> {
        let Some(file) = IndexFile::load(file, sealed)? else { return Ok(None) };
        let index = Self { base, file };
        let fits = match index.last()? {
            None => true,
            Some(last) => last.offset >= base && last.position < log_size,
        };
        Ok(fits.then_some(index))
    }

    fn parse(&self, entry: &[u8; ENTRY_SIZE]) -> OffsetEntry {
        let (relative, position) = split(entry);
        OffsetEntry { offset: self.base + i64::from(relative), position: position.into() }
    }

    pub(super) fn entries(&self) -> u32 {
        self.file.entries()
    }

    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        self.file.file()
    }

    pub(super) fn is_full(&self, index_bytes: u64) -> bool {
        u64::from(self.file.entries()) >= index_bytes / ENTRY_SIZE as u64
    }

    pub(super) fn last(&self) -> io::Result<Option<OffsetEntry>> {
        Ok(self.file.last()?.map(|entry| self.parse(&entry)))
    }

    /// Where to begin reading for `target`: position of the last entry at or below it, else 0.
    pub(super) fn lookup(&self, target: Offset) -> io::Result<u64> {
        let Ok(relative) = u32::try_from(target - self.base) else {
            let behind_all = target > self.base;
            return Ok(if behind_all { self.last()?.map_or(0, |last| last.position) } else { 0 });
        };
        let slot = self.file.last_slot_where(|entry| split(entry).0 <= relative)?;
        slot.map_or(Ok(0), |slot| Ok(split(&self.file.get(slot)?).1.into()))
    }

    /// The first entry whose batch begins at or behind `position`.
    pub(super) fn first_at_or_after(&self, position: u64) -> io::Result<Option<OffsetEntry>> {
        let before = self.file.last_slot_where(|entry| u64::from(split(entry).1) < position)?;
        let slot = before.map_or(0, |slot| slot + 1);
        if slot >= self.file.entries() {
            return Ok(None);
        }
        Ok(Some(self.parse(&self.file.get(slot)?)))
    }

    /// Adds the batch that begins at `position` and ends with `last_offset`.
    pub(super) fn push(&mut self, last_offset: Offset, position: u64, index_bytes: u64) -> io::Result<()> {
        let relative = u32::try_from(last_offset - self.base).map_err(io::Error::other)?;
        let position = u32::try_from(position).map_err(io::Error::other)?;
        let mut entry = [0; ENTRY_SIZE];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&position.to_be_bytes());
        self.file.push(&entry, index_bytes / ENTRY_SIZE as u64 * ENTRY_SIZE as u64)
    }

    /// Drops the entries for `offset` and what follows it.
    pub(super) fn truncate_to(&mut self, offset: Offset) -> io::Result<()> {
        let relative = offset - self.base;
        let last = self.file.last_slot_where(|entry| i64::from(split(entry).0) < relative)?;
        self.file.truncate(last.map_or(0, |slot| slot + 1))
    }

    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.cut()
    }

    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.file.seal()
    }
}

fn split(entry: &[u8; ENTRY_SIZE]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *entry;
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Access, Disk, RealDisk};

    #[test]
    fn a_lookup_never_lands_behind_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let file = disk.open(&folder.path().join("100.index"), Access::Create).unwrap();
        let mut index = OffsetIndex::empty(Offset(100), file).unwrap();
        assert_eq!(index.lookup(Offset(100)).unwrap(), 0);
        for (offset, position) in [(109, 500), (119, 1_000), (i64::from(i32::MAX) + 100, 1_500)] {
            index.push(Offset(offset), position, 800).unwrap();
        }
        for (target, position) in
            [(0, 0), (108, 0), (109, 500), (118, 500), (119, 1_000), (120, 1_000), (i64::MAX, 1_500)]
        {
            assert_eq!(index.lookup(Offset(target)).unwrap(), position, "{target}");
        }
        assert_eq!(index.first_at_or_after(501).unwrap().unwrap().offset, Offset(119));
        assert_eq!(index.first_at_or_after(1_501).unwrap(), None);
        index.truncate_to(Offset(119)).unwrap();
        assert_eq!(index.last().unwrap(), Some(OffsetEntry { offset: Offset(109), position: 500 }));
        assert!(!index.is_full(16) && index.is_full(8));
    }
}
