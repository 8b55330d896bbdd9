//! A produce request that was encoded beforehand: sending it again costs a patch of its correlation id and,
//! for an idempotent producer, of the base sequence and the CRC over it.
//!
//! The CRC is patched, not computed: CRCs are linear, so flipping bit `b` of the sequence flips a set of CRC
//! bits that depends on `b` and the batch's length alone. 32 such sets are computed at the start.

use bytes::Bytes;

use crate::record::{BATCH_HEADER_SIZE, advance_sequence};

/// Where the correlation id stands: behind size, API key and version.
const CORRELATION_ID_AT: usize = 4 + 2 + 2;
/// Where the CRC stands in a batch, and what it covers begins.
const CRC_AT: usize = 17;
const CRC_COVERS_FROM: usize = 21;
/// Where the base sequence stands in a batch.
const BASE_SEQUENCE_AT: usize = 53;

/// The frame, and where its batch begins.
#[derive(Debug, Clone)]
pub struct Template {
    /// Size, header, body.
    pub frame: Vec<u8>,
    /// Where the batch begins in `frame`.
    pub batch_at: usize,
    /// How long the batch is.
    pub batch_bytes: usize,
    /// How many records it holds.
    pub records: u32,
}

impl Template {
    /// Puts the frame together around its batch.
    #[must_use]
    pub fn new(before: &[Bytes], batch: &[u8], after: &[Bytes], records: u32) -> Self {
        assert!(batch.len() >= BATCH_HEADER_SIZE, "a batch has a header");
        let mut frame = before.concat();
        let batch_at = frame.len();
        frame.extend_from_slice(batch);
        for piece in after {
            frame.extend_from_slice(piece);
        }
        Self { frame, batch_at, batch_bytes: batch.len(), records }
    }

    /// How the CRC changes with each bit of the base sequence, lowest bit first.
    #[must_use]
    pub fn sequence_patch(&self) -> SequencePatch {
        let mut covered = vec![0; self.batch_bytes - CRC_COVERS_FROM];
        let at = BASE_SEQUENCE_AT - CRC_COVERS_FROM;
        let of_zeros = crc32c::crc32c(&covered);
        let flips = std::array::from_fn(|bit| {
            covered[at..at + 4].copy_from_slice(&(1u32 << bit).to_be_bytes());
            crc32c::crc32c(&covered) ^ of_zeros
        });
        SequencePatch { flips }
    }
}

/// Sets the correlation id of a frame.
pub fn set_correlation_id(frame: &mut [u8], id: i32) {
    frame[CORRELATION_ID_AT..CORRELATION_ID_AT + 4].copy_from_slice(&id.to_be_bytes());
}

/// The CRC bits that each bit of the base sequence flips.
#[derive(Debug, Clone)]
pub struct SequencePatch {
    flips: [u32; 32],
}

impl SequencePatch {
    /// Sets the base sequence of a batch, and its CRC with it.
    pub fn set(&self, batch: &mut [u8], sequence: i32) {
        let old = word(batch, BASE_SEQUENCE_AT);
        let new = u32::from_be_bytes(sequence.to_be_bytes());
        let mut changed = old ^ new;
        let mut crc = word(batch, CRC_AT);
        while changed != 0 {
            crc ^= self.flips[changed.trailing_zeros() as usize];
            changed &= changed - 1;
        }
        batch[BASE_SEQUENCE_AT..BASE_SEQUENCE_AT + 4].copy_from_slice(&new.to_be_bytes());
        batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Computes the CRC of a batch anew, after its records were changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// The sequence after a batch of `records`, as Kafka wraps it.
#[must_use]
pub fn next_sequence(sequence: i32, records: u32) -> i32 {
    advance_sequence(sequence, i32::try_from(records).unwrap_or(i32::MAX))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patched_sequence_leaves_a_valid_crc() {
        let mut batch: Vec<u8> = (0..200u8).collect();
        seal(&mut batch);
        let template = Template::new(&[Bytes::from_static(b"head")], &batch, &[], 1);
        let patch = template.sequence_patch();
        for sequence in [0, 1, 0x7fff_ffff, 0x1234_5678, 5] {
            patch.set(&mut batch, sequence);
            assert_eq!(word(&batch, BASE_SEQUENCE_AT), sequence as u32);
            assert_eq!(word(&batch, CRC_AT), crc32c::crc32c(&batch[CRC_COVERS_FROM..]), "{sequence}");
        }
    }
}
