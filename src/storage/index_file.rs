//! What the offset index and the time index share: fixed-size entries in a file that only grows at its end.
//!
//! ```text
//! active: | entry | entry | … | entry | 0 0 0 … preallocated to segment.index.bytes … 0 |
//!                      ^ the newest entries are kept in memory, older ones are read by position
//! sealed: | entry | entry | … | entry |      cut to its entries, and mapped at the first look-up
//! ```
//! An entry is written as soon as it is made: one pwrite, no sync. After an unclean stop indexes are made anew
//! from the log, so that nothing here has to survive a power cut but sealed files, which a flush syncs.

use std::io;
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};

use super::disk::{DiskFile, Mapped};

/// The newest entries that an active index keeps in memory, at most; half of them after a trim.
const TAIL_ENTRIES_MAX: u32 = 1_024;

/// A file of entries of `N` bytes.
#[derive(Debug)]
pub(super) struct IndexFile<const N: usize> {
    file: Arc<dyn DiskFile>,
    entries: u32,
    /// Length of the file as we left it: more than the entries while preallocated.
    file_len: u64,
    /// Entries from `entries - tail.len() / N` on.
    tail: Vec<u8>,
    map: OnceLock<Mapped>,
    sealed: bool,
}

impl<const N: usize> IndexFile<N> {
    /// An empty index on `file`, whatever the file held.
    pub(super) fn empty(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self { file, entries: 0, file_len: 0, tail: Vec::new(), map: OnceLock::new(), sealed: false })
    }

    /// Takes over what `file` holds. `None` where its length is no multiple of an entry: not an index.
    ///
    /// A file that ends in zeros was preallocated and not cut: only the entries before the zeros count.
    pub(super) fn load(file: Arc<dyn DiskFile>, sealed: bool) -> io::Result<Option<Self>> {
        let file_len = file.len()?;
        let Ok(slots) = u32::try_from(file_len / N as u64) else { return Ok(None) };
        if !file_len.is_multiple_of(N as u64) {
            return Ok(None);
        }
        let mut index =
            Self { file, entries: slots, file_len, tail: Vec::new(), map: OnceLock::new(), sealed };
        if slots > 0 && index.get(slots - 1)? == [0; N] {
            index.entries = index.first_zero()?;
            index.sealed = false;
        }
        if !index.sealed {
            index.fill_tail()?;
        }
        Ok(Some(index))
    }

    /// The number of entries in front of the zeros: entries grow, so that zeros stand only at the end.
    fn first_zero(&self) -> io::Result<u32> {
        // Most often the file was only just made.
        if self.get(0)? == [0; N] {
            return Ok(0);
        }
        let (mut low, mut high) = (1, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)? == [0; N] {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    fn fill_tail(&mut self) -> io::Result<()> {
        let count = self.entries.min(TAIL_ENTRIES_MAX / 2);
        let mut tail = vec![0; count as usize * N];
        let position = u64::from(self.entries - count) * N as u64;
        if self.file.read_at(&mut tail, position)? != tail.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.tail = tail;
        Ok(())
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    pub(super) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    fn tail_start(&self) -> u32 {
        self.entries - (self.tail.len() / N) as u32
    }

    /// Entry `slot`, below [`Self::entries`].
    pub(super) fn get(&self, slot: u32) -> io::Result<[u8; N]> {
        assert!(slot < self.entries, "slot {slot} of {}", self.entries);
        let mut entry = [0; N];
        let from_tail = slot.checked_sub(self.tail_start()).filter(|_| !self.tail.is_empty());
        if let Some(index) = from_tail {
            let at = index as usize * N;
            entry.copy_from_slice(&self.tail[at..at + N]);
        } else if self.sealed {
            let at = slot as usize * N;
            entry.copy_from_slice(&self.mapped()?[at..at + N]);
        } else if self.file.read_at(&mut entry, u64::from(slot) * N as u64)? != N {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(entry)
    }

    fn mapped(&self) -> io::Result<&Mapped> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = self.file.map(self.entries as usize * N)?;
        Ok(self.map.get_or_init(|| map))
    }

    pub(super) fn last(&self) -> io::Result<Option<[u8; N]>> {
        self.entries.checked_sub(1).map(|slot| self.get(slot)).transpose()
    }

    /// The last slot whose entry satisfies `fits`, which must hold for a front part and for no other.
    pub(super) fn last_slot_where(&self, fits: impl Fn(&[u8; N]) -> bool) -> io::Result<Option<u32>> {
        let (mut low, mut high) = (0, self.entries);
        // Most look-ups are near the end: when the tail's first entry fits, nothing before it is read.
        let tail_start = self.tail_start();
        if tail_start > 0 && tail_start < self.entries {
            if fits(&self.get(tail_start)?) {
                low = tail_start + 1;
            } else {
                high = tail_start;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(&self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    /// Writes one more entry; the file is preallocated to `preallocated_len` first where it is shorter.
    pub(super) fn push(&mut self, entry: &[u8; N], preallocated_len: u64) -> io::Result<()> {
        assert!(!self.sealed, "a sealed index takes no entry");
        let position = u64::from(self.entries) * N as u64;
        if self.file_len < preallocated_len {
            self.file.set_len(preallocated_len)?;
            self.file_len = preallocated_len;
        }
        self.file.write_at(&mut [IoSlice::new(entry)], position)?;
        self.file_len = self.file_len.max(position + N as u64);
        self.entries += 1;
        self.tail.extend_from_slice(entry);
        if self.tail.len() / N > TAIL_ENTRIES_MAX as usize {
            self.tail.drain(..self.tail.len() / N / 2 * N);
        }
        Ok(())
    }

    /// Keeps the first `entries` entries; the file stays open for more.
    pub(super) fn truncate(&mut self, entries: u32) -> io::Result<()> {
        assert!(entries <= self.entries, "an index is cut, not stretched");
        self.sealed = false;
        self.map = OnceLock::new();
        self.entries = entries;
        self.cut()?;
        self.fill_tail()
    }

    /// Cuts the file to its entries. Does nothing where it has no more.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        let len = u64::from(self.entries) * N as u64;
        if self.file_len != len {
            self.file.set_len(len)?;
            self.file_len = len;
        }
        Ok(())
    }

    /// Cuts the file to its entries and takes no more of them.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.cut()?;
        self.sealed = true;
        self.tail = Vec::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Access, Disk, RealDisk};

    fn number(entry: &[u8; 8]) -> u64 {
        u64::from_be_bytes(*entry)
    }

    #[test]
    fn entries_are_found_in_the_tail_in_the_file_and_in_the_map() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let path = folder.path().join("0.index");
        let mut index = IndexFile::<8>::empty(disk.open(&path, Access::Create).unwrap()).unwrap();
        for n in 1..=5_000u64 {
            index.push(&(n * 10).to_be_bytes(), 1 << 20).unwrap();
        }
        assert_eq!(disk.stat(&path).unwrap().unwrap().len, 1 << 20);
        let check = |index: &IndexFile<8>| {
            for (target, slot) in
                [(9, None), (10, Some(0)), (19, Some(0)), (25_000, Some(2_499)), (1 << 40, Some(4_999))]
            {
                assert_eq!(index.last_slot_where(|entry| number(entry) <= target).unwrap(), slot, "{target}");
            }
            assert_eq!(number(&index.last().unwrap().unwrap()), 50_000);
        };
        check(&index);
        // Left preallocated, as a killed process leaves it: the zeros do not count.
        let reopened = IndexFile::<8>::load(disk.open(&path, Access::Write).unwrap(), true).unwrap().unwrap();
        assert_eq!(reopened.entries(), 5_000);
        check(&reopened);
        index.seal().unwrap();
        assert_eq!(disk.stat(&path).unwrap().unwrap().len, 40_000);
        check(&index);
        let sealed = IndexFile::<8>::load(disk.open(&path, Access::Read).unwrap(), true).unwrap().unwrap();
        check(&sealed);
        index.truncate(3).unwrap();
        assert_eq!(number(&index.last().unwrap().unwrap()), 30);
        index.push(&35u64.to_be_bytes(), 0).unwrap();
        assert_eq!(index.last_slot_where(|entry| number(entry) <= 35).unwrap(), Some(3));
    }

    #[test]
    fn a_file_of_another_length_is_no_index() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        let file = disk.open(&folder.path().join("0.index"), Access::Create).unwrap();
        file.set_len(15).unwrap();
        assert!(IndexFile::<8>::load(file, false).unwrap().is_none());
    }
}
