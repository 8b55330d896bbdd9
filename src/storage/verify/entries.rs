//! Entries of an index file, one after another, with one of look-ahead and a few KiB of memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::storage::disk::{Access, Disk, DiskFile};
use crate::types::Offset;

/// Entries read at once.
const PIECE_ENTRIES: usize = 512;

/// What an index entry of either kind is made of.
pub(super) trait Entry: Copy {
    /// Reads one; `base` is the segment's.
    fn parse(bytes: &[u8], base: Offset) -> Self;
}

/// An entry of an `.index`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetEntry {
    pub(super) offset: Offset,
    pub(super) position: u64,
}

impl Entry for OffsetEntry {
    fn parse(bytes: &[u8], base: Offset) -> Self {
        let field = |at: usize| i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        // Read as Java reads them: what is negative leads nowhere.
        let position = u64::try_from(field(4)).unwrap_or(u64::MAX);
        Self { offset: base + i64::from(field(0)), position }
    }
}

/// An entry of a `.timeindex`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeEntry {
    pub(super) timestamp_ms: i64,
    pub(super) offset: Offset,
}

impl Entry for TimeEntry {
    fn parse(bytes: &[u8], base: Offset) -> Self {
        let mut timestamp = [0; 8];
        timestamp.copy_from_slice(&bytes[..8]);
        let relative = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        Self { timestamp_ms: i64::from_be_bytes(timestamp), offset: base + i64::from(relative) }
    }
}

/// What follows the entries of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    None,
    /// The zeros of a preallocated file.
    Zeros { bytes: u64 },
    /// Zeros, and something behind them.
    Strange { position: u64 },
    /// Fewer bytes than an entry takes.
    Torn { bytes: u64 },
}

/// A run of slots of one index file.
#[derive(Debug)]
pub(super) struct Entries<T, const N: usize> {
    file: Arc<dyn DiskFile>,
    base: Offset,
    /// Of the file as it was when it was opened.
    len: u64,
    /// The next slot to be given out, and the first that is not ours.
    slot: u64,
    end: u64,
    piece: Vec<u8>,
    piece_slot: u64,
    _entry: std::marker::PhantomData<T>,
}

/// `.index`.
pub(super) type OffsetEntries = Entries<OffsetEntry, 8>;
/// `.timeindex`.
pub(super) type TimeEntries = Entries<TimeEntry, 12>;

impl<T: Entry, const N: usize> Entries<T, N> {
    /// Opens all slots of the file; `None` where there is no file.
    pub(super) fn open(disk: &dyn Disk, path: &Path, base: Offset) -> io::Result<Option<Self>> {
        let file = match disk.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        let end = len / N as u64;
        Ok(Some(Self {
            file,
            base,
            len,
            slot: 0,
            end,
            piece: Vec::new(),
            piece_slot: 0,
            _entry: std::marker::PhantomData,
        }))
    }

    /// The file's length.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where the entry that [`Self::peek`] gives stands in the file.
    pub(super) fn position(&self) -> u64 {
        self.slot * N as u64
    }

    pub(super) fn slot(&self) -> u64 {
        self.slot
    }

    /// Goes on at `slot`.
    pub(super) fn seek(&mut self, slot: u64) {
        self.slot = slot;
    }

    /// Gives out no slot from `end` on.
    pub(super) fn stop_at(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    pub(super) fn next(&mut self) {
        self.slot += 1;
    }

    /// The next entry; `None` behind the last, and where zeros begin: no entry is all zeros.
    pub(super) fn peek(&mut self) -> io::Result<Option<T>> {
        self.at(self.slot)
    }

    /// The one behind it.
    pub(super) fn peek_second(&mut self) -> io::Result<Option<T>> {
        self.at(self.slot + 1)
    }

    fn at(&mut self, slot: u64) -> io::Result<Option<T>> {
        let base = self.base;
        Ok(self
            .raw(slot)?
            .filter(|bytes| bytes.iter().any(|byte| *byte != 0))
            .map(|bytes| T::parse(bytes, base)))
    }

    fn raw(&mut self, slot: u64) -> io::Result<Option<&[u8]>> {
        if slot >= self.end {
            return Ok(None);
        }
        let held = self.piece.len() as u64 / N as u64;
        if slot < self.piece_slot || slot >= self.piece_slot + held {
            let count = (self.end - slot).min(PIECE_ENTRIES as u64) as usize;
            self.piece.resize(count * N, 0);
            let filled = self.file.read_at(&mut self.piece, slot * N as u64)?;
            self.piece.truncate(filled / N * N);
            self.piece_slot = slot;
        }
        let at = (slot - self.piece_slot) as usize * N;
        Ok(self.piece.get(at..at + N))
    }

    /// The first slot whose entry does not satisfy `before`; entries are taken to grow.
    pub(super) fn partition_point(&mut self, before: impl Fn(&T) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            // Read alone, not piece by piece.
            let mut entry = [0; N];
            let filled = self.file.read_at(&mut entry, middle * N as u64)?;
            let is_entry = filled == N && entry != [0; N];
            if is_entry && before(&T::parse(&entry, self.base)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// What stands at the slot where [`Self::peek`] found no entry, to the end of the file.
    pub(super) fn tail(&mut self) -> io::Result<Tail> {
        let from = self.slot * N as u64;
        let mut position = from;
        let mut piece = vec![0; 64 << 10];
        while position < self.len {
            let filled = self.file.read_at(&mut piece, position)?;
            if filled == 0 {
                break;
            }
            if let Some(at) = piece[..filled].iter().position(|byte| *byte != 0) {
                let position = position + at as u64;
                let is_torn = self.len - from < N as u64;
                return Ok(if is_torn {
                    Tail::Torn { bytes: self.len - from }
                } else {
                    Tail::Strange { position }
                });
            }
            position += filled as u64;
        }
        Ok(match self.len - from.min(self.len) {
            0 => Tail::None,
            bytes if bytes % N as u64 != 0 => Tail::Torn { bytes: bytes % N as u64 },
            bytes => Tail::Zeros { bytes },
        })
    }
}
