//! `.txnindex`: the aborted transactions whose markers are in this segment. Made only where there is one.
//!
//! ```text
//! entry: | version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64 |
//! ```
//! `last offset` is the marker's and grows from entry to entry. A segment's entries are read once, at the first
//! question, and kept: readers of committed records ask at every fetch.

use std::io;
use std::io::IoSlice;

use super::disk::{Access, read_small};
use super::place::{Place, Suffix};
use crate::types::{Offset, ProducerId};

pub(super) const ENTRY_SIZE: usize = 34;
const VERSION: i16 = 0;

/// A transaction that was aborted, as Fetch lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who aborted.
    pub producer_id: ProducerId,
    /// Its first record in this partition.
    pub first_offset: Offset,
    /// Its abort marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was written.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    /// The entry's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_SIZE] {
        let mut out = [0; ENTRY_SIZE];
        out[..2].copy_from_slice(&VERSION.to_be_bytes());
        let fields = [self.producer_id.0, self.first_offset.0, self.last_offset.0, self.last_stable_offset.0];
        for (index, field) in fields.iter().enumerate() {
            out[2 + index * 8..10 + index * 8].copy_from_slice(&field.to_be_bytes());
        }
        out
    }

    /// Reads an entry; `None` for a version that is not known.
    #[must_use]
    pub fn from_bytes(entry: &[u8; ENTRY_SIZE]) -> Option<Self> {
        let field = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[2 + index * 8..10 + index * 8]);
            i64::from_be_bytes(bytes)
        };
        (entry[..2] == VERSION.to_be_bytes()).then(|| Self {
            producer_id: ProducerId(field(0)),
            first_offset: Offset(field(1)),
            last_offset: Offset(field(2)),
            last_stable_offset: Offset(field(3)),
        })
    }
}

/// Reads a whole `.txnindex`; `None` where it is not one: a torn or unknown entry, markers that go back, or
/// one before `base`.
#[must_use]
pub fn parse(bytes: &[u8], base: Offset) -> Option<Vec<AbortedTransaction>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_SIZE>();
    let mut parsed: Vec<AbortedTransaction> = Vec::with_capacity(entries.len());
    for entry in entries {
        let aborted = AbortedTransaction::from_bytes(entry)?;
        let floor = parsed.last().map_or(base, |last| last.last_offset.next());
        if aborted.last_offset < floor {
            return None;
        }
        parsed.push(aborted);
    }
    rest.is_empty().then_some(parsed)
}

/// The entries of one segment, all in memory.
#[derive(Debug, Default)]
pub(super) struct TransactionIndex {
    entries: Vec<AbortedTransaction>,
}

impl TransactionIndex {
    /// `None` where the file is there and is no transaction index.
    pub(super) fn load(place: &Place, base: Offset) -> io::Result<Option<Self>> {
        let bytes =
            read_small(&*place.disk, &place.file(base, Suffix::TransactionIndex))?.unwrap_or_default();
        Ok(parse(&bytes, base).map(|entries| Self { entries }))
    }

    pub(super) fn entries(&self) -> &[AbortedTransaction] {
        &self.entries
    }

    pub(super) fn push(
        &mut self,
        place: &Place,
        base: Offset,
        aborted: AbortedTransaction,
    ) -> io::Result<()> {
        let last = self.entries.last().map(|last| last.last_offset);
        assert!(last.is_none_or(|last| last < aborted.last_offset), "markers are appended in order");
        let file = place.disk.open(&place.file(base, Suffix::TransactionIndex), Access::Create)?;
        let position = self.entries.len() * ENTRY_SIZE;
        file.write_at(&mut [IoSlice::new(&aborted.to_bytes())], position as u64)?;
        self.entries.push(aborted);
        Ok(())
    }

    /// Drops the transactions whose marker is at `offset` or behind it.
    pub(super) fn truncate_to(&mut self, place: &Place, base: Offset, offset: Offset) -> io::Result<()> {
        let keep = self.entries.partition_point(|entry| entry.last_offset < offset);
        if keep == self.entries.len() {
            return Ok(());
        }
        self.entries.truncate(keep);
        let path = place.file(base, Suffix::TransactionIndex);
        if keep == 0 {
            return place.disk.remove_file(&path);
        }
        place.disk.open(&path, Access::Write)?.set_len((keep * ENTRY_SIZE) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::options::LogOptions;

    fn aborted(first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(7),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    #[test]
    fn entries_have_kafkas_layout_and_survive_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(crate::storage::disk::RealDisk::new(), folder.path(), &LogOptions::default());
        let mut index = TransactionIndex::load(&place, Offset(0)).unwrap().unwrap();
        index.push(&place, Offset(0), aborted(1, 5)).unwrap();
        index.push(&place, Offset(0), aborted(3, 9)).unwrap();
        let bytes = std::fs::read(folder.path().join("00000000000000000000.txnindex")).unwrap();
        assert_eq!(bytes.len(), 68);
        assert_eq!(bytes[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut reloaded = TransactionIndex::load(&place, Offset(0)).unwrap().unwrap();
        assert_eq!(reloaded.entries(), [aborted(1, 5), aborted(3, 9)]);
        reloaded.truncate_to(&place, Offset(0), Offset(9)).unwrap();
        assert_eq!(TransactionIndex::load(&place, Offset(0)).unwrap().unwrap().entries(), [aborted(1, 5)]);
    }

    #[test]
    fn a_torn_or_unordered_file_is_no_index() {
        assert!(parse(&[0; 33], Offset(0)).is_none());
        assert!(parse(&[1; 34], Offset(0)).is_none());
        assert!(parse(&aborted(1, 5).to_bytes(), Offset(6)).is_none());
        let twice = [aborted(1, 5).to_bytes(), aborted(1, 5).to_bytes()].concat();
        assert!(parse(&twice, Offset(0)).is_none());
    }
}
