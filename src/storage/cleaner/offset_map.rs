//! The newest offset of each key in the dirty part of a log: what one round of cleaning goes by.
//!
//! Keys stand in it as 128-bit hashes under a secret drawn for this map, so that nobody can choose two keys that
//! are taken for one. An entry is 24 bytes, as in Kafka, and the table is never larger than what it was allowed.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::types::Offset;

/// Bytes of one entry: the hash, and the offset plus one, so that zeros are a free slot.
pub(super) const ENTRY_BYTES: u64 = 24;

/// See the module.
#[derive(Debug)]
pub(super) struct OffsetMap {
    hasher: SipHasher13,
    slots: Vec<[u64; 3]>,
    entries: usize,
    entries_max: usize,
    latest: Offset,
}

impl OffsetMap {
    /// A map of at most `bytes` bytes, filled to `load_factor` of its slots, for no more than `records` records.
    pub(super) fn new(bytes: u64, load_factor: f64, records: u64, secret: [u8; 16]) -> Self {
        let load_factor = load_factor.clamp(0.01, 0.95);
        // Room for every record there is, though each had a key of its own, is all that can be of use.
        let useful = (records as f64 / load_factor).ceil() as u64 + 2;
        let slots = (bytes / ENTRY_BYTES).min(useful).max(1) as usize;
        Self {
            hasher: SipHasher13::new_with_key(&secret),
            slots: vec![[0; 3]; slots],
            entries: 0,
            entries_max: ((slots as f64 * load_factor) as usize).min(slots - 1),
            latest: Offset::UNKNOWN,
        }
    }

    /// Notes that `key` has a record at `offset`. `false` where the map is full.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        if self.entries >= self.entries_max {
            return false;
        }
        let (slot, hash) = self.find(key);
        if self.slots[slot][2] == 0 {
            self.entries += 1;
        }
        self.slots[slot] = [hash[0], hash[1], offset.0 as u64 + 1];
        true
    }

    /// The newest offset that was noted for `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (slot, _) = self.find(key);
        self.slots[slot][2].checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// The slot that holds `key`, or the free one where it belongs. There is always a free one.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        let hash = [hash.h1, hash.h2];
        let mut slot = (hash[0] % self.slots.len() as u64) as usize;
        while self.slots[slot][2] != 0 && self.slots[slot][..2] != hash {
            slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 };
        }
        (slot, hash)
    }

    /// Everything up to this offset has been noted; `UNKNOWN` while nothing was.
    pub(super) fn latest(&self) -> Offset {
        self.latest
    }

    /// Everything up to `offset` has been noted.
    pub(super) fn advance(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        self.slots.len() as u64 * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let mut map = OffsetMap::new(24 * 1_000, 0.9, u64::MAX / 4, [7; 16]);
        let mut plain = BTreeMap::new();
        for offset in 0..5_000_i64 {
            let key = format!("key-{}", offset * 7_919 % 700).into_bytes();
            assert!(map.put(&key, Offset(offset)));
            plain.insert(key, Offset(offset));
        }
        assert_eq!(map.len(), plain.len());
        for (key, offset) in &plain {
            assert_eq!(map.get(key), Some(*offset));
        }
        assert_eq!(map.get(b"other"), None);
    }

    #[test]
    fn it_takes_no_more_memory_than_it_may_or_can_use() {
        let mut full = OffsetMap::new(240, 0.9, 1 << 40, [0; 16]);
        assert_eq!(full.bytes(), 240);
        let taken = (0..20_u8).filter(|key| full.put(&[*key], Offset(0))).count();
        assert_eq!((taken, full.len()), (9, 9));
        assert_eq!(full.get(&[8]), Some(Offset(0)));
        assert_eq!(full.get(&[9]), None);
        assert!(OffsetMap::new(1 << 40, 0.9, 90, [0; 16]).bytes() < 110 * 24);
    }

    #[test]
    fn everything_that_one_record_a_key_needs_fits() {
        for records in 0..200_u64 {
            let mut map = OffsetMap::new(1 << 30, 0.9, records, [1; 16]);
            assert!((0..records).all(|key| map.put(&key.to_be_bytes(), Offset(key as i64))), "{records}");
        }
    }
}
