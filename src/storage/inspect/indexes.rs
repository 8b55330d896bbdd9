//! The three index files of a segment, read whole but for their zero tails.
//!
//! An active index is preallocated with zeros, up to 10 MiB of them; a file is read piece by piece, and reading
//! stops where the zeros begin.

use std::io;
use std::path::Path;

use super::super::disk::{Access, Disk, DiskFile};
use super::super::transaction_index::{self, AbortedTransaction};
use crate::types::Offset;

/// Bytes of an entry of an `.index`.
pub const OFFSET_ENTRY_SIZE: usize = 8;
/// Bytes of an entry of a `.timeindex`.
pub const TIME_ENTRY_SIZE: usize = 12;
/// A multiple of both entry sizes.
const PIECE_SIZE: usize = 48 * 1024;
/// More than any `.txnindex` ever was: one entry an aborted transaction.
const TRANSACTION_INDEX_SIZE_MAX: u64 = 1 << 30;

/// One entry of an `.index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The last offset of the batch.
    pub offset: Offset,
    /// Where the batch begins in the log.
    pub position: i32,
}

/// One entry of a `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp up to there.
    pub timestamp_ms: i64,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

/// An `.index`, read.
#[derive(Debug)]
pub struct OffsetIndexFile {
    /// The offset in its name.
    pub base: Offset,
    /// Its length on disk.
    pub size_bytes: u64,
    /// The entries before the zero tail.
    pub entries: Vec<OffsetEntry>,
    last: Option<OffsetEntry>,
}

/// A `.timeindex`, read.
#[derive(Debug)]
pub struct TimeIndexFile {
    /// The offset in its name.
    pub base: Offset,
    /// Its length on disk.
    pub size_bytes: u64,
    /// The entries before the zero tail.
    pub entries: Vec<TimeEntry>,
    last: Option<TimeEntry>,
}

/// A `.txnindex`, read.
#[derive(Debug)]
pub struct TransactionIndexFile {
    /// Its entries, as far as they can be read.
    pub entries: Vec<AbortedTransaction>,
    /// Whether what follows the entries is none, or the entries go back.
    pub is_damaged: bool,
}

impl OffsetIndexFile {
    /// Reads the index at `path`, whose name says `base`.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(disk: &dyn Disk, path: &Path, base: Offset) -> io::Result<Self> {
        let parse = |bytes: &[u8; OFFSET_ENTRY_SIZE]| {
            let [a, b, c, d, position @ ..] = *bytes;
            let offset = base + i64::from(i32::from_be_bytes([a, b, c, d]));
            OffsetEntry { offset, position: i32::from_be_bytes(position) }
        };
        let read = read_entries(disk, path, parse, |entry| entry.offset == base)?;
        Ok(Self { base, size_bytes: read.size_bytes, entries: read.entries, last: read.last })
    }

    /// Whether the file has not one entry, zeros included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// What a broker's check at start-up would refuse: it rebuilds the index then.
    #[must_use]
    pub fn sanity_fault(&self) -> Option<String> {
        let last = self.last?;
        if last.offset < self.base {
            let (last, base) = (last.offset, self.base);
            return Some(format!("its last offset is {last}, before the segment's base {base}"));
        }
        odd_size(self.size_bytes, OFFSET_ENTRY_SIZE)
    }

    /// Where to begin to look for `offset`: the position of the last entry at or before it, or 0.
    #[must_use]
    pub fn position_before(&self, offset: Offset) -> u64 {
        let count = self.entries.partition_point(|entry| entry.offset <= offset);
        let entry = count.checked_sub(1).map(|index| self.entries[index]);
        entry.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0))
    }
}

impl TimeIndexFile {
    /// Reads the index at `path`, whose name says `base`.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(disk: &dyn Disk, path: &Path, base: Offset) -> io::Result<Self> {
        let parse = |bytes: &[u8; TIME_ENTRY_SIZE]| {
            let [a, b, c, d, e, f, g, h, relative @ ..] = *bytes;
            TimeEntry {
                timestamp_ms: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                offset: base + i64::from(i32::from_be_bytes(relative)),
            }
        };
        let read = read_entries(disk, path, parse, |entry| entry.offset == base)?;
        Ok(Self { base, size_bytes: read.size_bytes, entries: read.entries, last: read.last })
    }

    /// What a broker's check at start-up would refuse: it rebuilds the index then.
    #[must_use]
    pub fn sanity_fault(&self) -> Option<String> {
        let (last, first) = (self.last?, self.entries.first()?);
        if last.timestamp_ms < first.timestamp_ms {
            let (last, first) = (last.timestamp_ms, first.timestamp_ms);
            return Some(format!("its last timestamp is {last}, before its first, {first}"));
        }
        if last.offset < self.base {
            let (last, base) = (last.offset, self.base);
            return Some(format!("its last offset is {last}, before the segment's base {base}"));
        }
        odd_size(self.size_bytes, TIME_ENTRY_SIZE)
    }
}

impl TransactionIndexFile {
    /// Reads the index at `path`, whose name says `base`.
    ///
    /// # Errors
    /// What the system says, or that the file is far too long to be one.
    pub fn read(disk: &dyn Disk, path: &Path, base: Offset) -> io::Result<Self> {
        let file = disk.open(path, Access::Read)?;
        let size = file.len()?;
        if size > TRANSACTION_INDEX_SIZE_MAX {
            return Err(io::Error::other(format!("{size} bytes are too many for a transaction index")));
        }
        let mut bytes = vec![0; size as usize];
        let filled = file.read_at(&mut bytes, 0)?;
        bytes.truncate(filled);
        let (chunks, _) = bytes.as_chunks();
        let entries: Vec<_> = chunks.iter().map_while(AbortedTransaction::from_bytes).collect();
        Ok(Self { entries, is_damaged: transaction_index::parse(&bytes, base).is_none() })
    }
}

fn odd_size(size_bytes: u64, entry_size: usize) -> Option<String> {
    let is_odd = !size_bytes.is_multiple_of(entry_size as u64);
    is_odd.then(|| format!("its {size_bytes} bytes are no multiple of {entry_size}"))
}

/// What an index file holds.
struct Entries<T> {
    size_bytes: u64,
    entries: Vec<T>,
    /// The last entry of the file, in the zero tail or not.
    last: Option<T>,
}

/// Reads entries of `N` bytes until the file or its sense ends: an entry other than the first that points at the
/// base offset is the beginning of the zero tail.
fn read_entries<T: Copy, const N: usize>(
    disk: &dyn Disk,
    path: &Path,
    parse: impl Fn(&[u8; N]) -> T,
    points_at_base: impl Fn(&T) -> bool,
) -> io::Result<Entries<T>> {
    let file = disk.open(path, Access::Read)?;
    let size_bytes = file.len()?;
    let mut entries: Vec<T> = Vec::new();
    let mut piece = vec![0; PIECE_SIZE.min(usize::try_from(size_bytes).unwrap_or(PIECE_SIZE))];
    let mut position = 0;
    'file: while size_bytes - position >= N as u64 {
        let filled = file.read_at(&mut piece, position)?;
        let (chunks, _) = piece[..filled].as_chunks::<N>();
        if chunks.is_empty() {
            break;
        }
        for chunk in chunks {
            let entry = parse(chunk);
            if !entries.is_empty() && points_at_base(&entry) {
                break 'file;
            }
            entries.push(entry);
        }
        position += (chunks.len() * N) as u64;
    }
    let last = last_entry(&*file, size_bytes)?.map(|bytes| parse(&bytes));
    Ok(Entries { size_bytes, entries, last })
}

fn last_entry<const N: usize>(file: &dyn DiskFile, size_bytes: u64) -> io::Result<Option<[u8; N]>> {
    let count = size_bytes / N as u64;
    let Some(last) = count.checked_sub(1) else { return Ok(None) };
    let mut bytes = [0; N];
    let filled = file.read_at(&mut bytes, last * N as u64)?;
    Ok((filled == N).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::super::super::disk::RealDisk;
    use super::*;

    fn written(bytes: &[u8], see: impl FnOnce(&dyn Disk, &Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let disk = RealDisk::new();
        disk.open(&path, Access::Create).unwrap().write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
        see(&*disk, &path);
    }

    #[test]
    fn a_zero_tail_is_not_read_as_entries() {
        let mut bytes: Vec<u8> =
            [[5i32, 100], [9, 200]].iter().flatten().flat_map(|n| n.to_be_bytes()).collect();
        bytes.resize(10 << 20, 0);
        written(&bytes, |disk, path| {
            let index = OffsetIndexFile::read(disk, path, Offset(1_000)).unwrap();
            let entries: Vec<_> =
                index.entries.iter().map(|entry| (entry.offset.0, entry.position)).collect();
            assert_eq!(entries, [(1_005, 100), (1_009, 200)]);
            assert_eq!(index.sanity_fault(), None);
            let positions =
                [1_000, 1_005, 1_008, 1_009, 5_000].map(|offset| index.position_before(Offset(offset)));
            assert_eq!(positions, [0, 100, 100, 200, 200]);
        });
    }

    #[test]
    fn what_a_broker_would_rebuild_is_named() {
        written(&[0xff; 12], |disk, path| {
            let offsets = OffsetIndexFile::read(disk, path, Offset(7)).unwrap();
            assert!(offsets.sanity_fault().unwrap().contains("before the segment's base"));
            let times = TimeIndexFile::read(disk, path, Offset(7)).unwrap();
            assert!(times.sanity_fault().unwrap().contains("before the segment's base"));
        });
        written(&[0, 0, 0, 1, 0, 0, 0, 0, 0], |disk, path| {
            let index = OffsetIndexFile::read(disk, path, Offset(7)).unwrap();
            assert!(index.sanity_fault().unwrap().contains("no multiple of 8"));
        });
        written(&[], |disk, path| {
            assert!(OffsetIndexFile::read(disk, path, Offset(7)).unwrap().is_empty());
            assert_eq!(TimeIndexFile::read(disk, path, Offset(7)).unwrap().sanity_fault(), None);
        });
    }
}
