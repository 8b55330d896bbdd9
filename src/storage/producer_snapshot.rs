//! `<offset>.snapshot`: what was known of every producer before that offset. Pure: bytes in, entries out.
//!
//! ```text
//! | version i16 = 1 | crc u32: CRC-32C of what follows | count i32 | entry … |
//! entry: | producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32
//!        | timestamp i64 | coordinator epoch i32 | first offset of the open transaction i64, or -1 |
//! ```

use crate::types::{Offset, ProducerEpoch, ProducerId};

const VERSION: i16 = 1;
const HEADER_SIZE: usize = 10;
const CRC_FROM: usize = 6;
const ENTRY_SIZE: usize = 46;

/// One producer in a snapshot: only its last batch is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Who.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Of its last batch; -1 where only a marker is known.
    pub last_sequence: i32,
    /// Of its last batch; -1 where only a marker is known.
    pub last_offset: Offset,
    /// Records in its last batch, less one.
    pub offset_delta: i32,
    /// Of its last batch or marker.
    pub timestamp_ms: i64,
    /// Of its last marker, or -1.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_first_offset: Option<Offset>,
}

/// Writes a snapshot, entries in the order given.
#[must_use]
pub fn render(entries: impl ExactSizeIterator<Item = SnapshotEntry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + entries.len() * ENTRY_SIZE);
    out.extend(VERSION.to_be_bytes());
    out.extend([0; 4]);
    out.extend((entries.len() as i32).to_be_bytes());
    for entry in entries {
        out.extend(entry.producer_id.0.to_be_bytes());
        out.extend(entry.epoch.0.to_be_bytes());
        out.extend(entry.last_sequence.to_be_bytes());
        out.extend(entry.last_offset.0.to_be_bytes());
        out.extend(entry.offset_delta.to_be_bytes());
        out.extend(entry.timestamp_ms.to_be_bytes());
        out.extend(entry.coordinator_epoch.to_be_bytes());
        out.extend(entry.transaction_first_offset.unwrap_or(Offset::UNKNOWN).0.to_be_bytes());
    }
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    out[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Reads a snapshot.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, String> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_SIZE>()
        .ok_or_else(|| format!("{} bytes are too few for a snapshot", bytes.len()))?;
    let version = i16::from_be_bytes([header[0], header[1]]);
    if version != VERSION {
        return Err(format!("version {version}; {VERSION} is the only one known"));
    }
    let stored = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
    let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
    if stored != computed {
        return Err(format!("CRC-32C mismatch: the file says {stored}, its bytes give {computed}"));
    }
    let count = i32::from_be_bytes([header[6], header[7], header[8], header[9]]);
    let (entries, rest) = body.as_chunks::<ENTRY_SIZE>();
    if !rest.is_empty() || usize::try_from(count) != Ok(entries.len()) {
        return Err(format!("{count} entries are announced, {} bytes are there", body.len()));
    }
    Ok(entries.iter().map(parse_entry).collect())
}

fn parse_entry(entry: &[u8; ENTRY_SIZE]) -> SnapshotEntry {
    let i64_at = |at: usize| i64::from_be_bytes(array(entry, at));
    let i32_at = |at: usize| i32::from_be_bytes(array(entry, at));
    SnapshotEntry {
        producer_id: ProducerId(i64_at(0)),
        epoch: ProducerEpoch(i16::from_be_bytes(array(entry, 8))),
        last_sequence: i32_at(10),
        last_offset: Offset(i64_at(14)),
        offset_delta: i32_at(22),
        timestamp_ms: i64_at(26),
        coordinator_epoch: i32_at(34),
        transaction_first_offset: Some(Offset(i64_at(38))).filter(|offset| offset.0 >= 0),
    }
}

fn array<const N: usize>(entry: &[u8; ENTRY_SIZE], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&entry[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_round_trip_and_a_flipped_bit_is_found() {
        let entries = [
            SnapshotEntry {
                producer_id: ProducerId(1_000),
                epoch: ProducerEpoch(3),
                last_sequence: 41,
                last_offset: Offset(99),
                offset_delta: 9,
                timestamp_ms: 1_700_000_000_000,
                coordinator_epoch: -1,
                transaction_first_offset: Some(Offset(50)),
            },
            SnapshotEntry {
                producer_id: ProducerId(1_001),
                epoch: ProducerEpoch(0),
                last_sequence: -1,
                last_offset: Offset::UNKNOWN,
                offset_delta: 0,
                timestamp_ms: 5,
                coordinator_epoch: 7,
                transaction_first_offset: None,
            },
        ];
        let bytes = render(entries.into_iter());
        assert_eq!(bytes.len(), 10 + 2 * 46);
        assert_eq!(parse(&bytes).unwrap(), entries);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&flipped).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert_eq!(parse(&render([].into_iter())).unwrap(), []);
    }
}
