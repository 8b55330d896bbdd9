//! The check of a batch that lies in a log: everything that its bytes can be held to, from the CRC to the bounds
//! of the last record. It says what is wrong; it does not ask whether a producer may send it ([`super::walk`]).
//!
//! Records that were cleaned away leave holes: offsets grow within the header's range, and there may be fewer
//! records than offsets, or none. A batch as a producer made it has neither.

use thiserror::Error;

use super::batch::BatchRef;
use super::compression::{Codec, InflateLimits, Scratch};
use super::error::{BatchError, RecordFault};
use super::header::BatchHeader;
use super::walk::{step, step_window};

/// What is wrong with a batch in a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoredFault {
    /// The bytes are no batch, or not the ones that were written.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The last offset would lie before the first.
    #[error("its last offset is {0} behind its first")]
    LastOffsetDelta(i32),
    /// More records than offsets.
    #[error("it counts {count} records for {offsets} offsets")]
    Count {
        /// The count field.
        count: i32,
        /// The offsets that the header spans.
        offsets: i64,
    },
    /// The offsets of the records do not grow, or leave the header's range.
    #[error("record {index} is {delta} behind the first offset, {least} to {most} are possible")]
    OffsetDelta {
        /// The record's place, from 0.
        index: i32,
        /// Its offset delta.
        delta: i32,
        /// What follows the record before.
        least: i32,
        /// The last offset delta.
        most: i32,
    },
}

impl StoredFault {
    /// Whether the header and the CRC are right all the same: the bytes are those that were written.
    #[must_use]
    pub fn is_of_records(&self) -> bool {
        !matches!(
            self,
            Self::Batch(
                BatchError::Truncated { .. }
                    | BatchError::InvalidLength { .. }
                    | BatchError::OldMagic { .. }
                    | BatchError::UnknownMagic { .. }
                    | BatchError::CrcMismatch { .. }
            )
        )
    }
}

/// Checks the CRC, then header and records.
///
/// # Errors
/// The first [`StoredFault`].
pub fn check_stored(
    batch: &BatchRef<'_>,
    limits: &InflateLimits,
    scratch: &mut Scratch,
) -> Result<(), StoredFault> {
    batch.check_crc()?;
    check_records(batch, limits, scratch)
}

/// Checks everything but the CRC.
///
/// # Errors
/// The first [`StoredFault`].
pub fn check_records(
    batch: &BatchRef<'_>,
    limits: &InflateLimits,
    scratch: &mut Scratch,
) -> Result<(), StoredFault> {
    let header = &batch.header;
    let codec = header.codec()?;
    check_counts(header)?;
    let payload = batch.payload();
    if codec == Codec::None || (header.record_count == 0 && payload.is_empty()) {
        return check_plain(header, payload);
    }
    let mut window = scratch.window(codec, payload, limits)?;
    let mut deltas = Deltas::new(header);
    for index in 0..header.record_count {
        let stepped = step_window(&mut window)?;
        deltas.add(index, stepped.map(|record| record.offset_delta))?;
    }
    if window.is_at_end()? {
        return Ok(());
    }
    Err(BatchError::TrailingBytes { count: header.record_count }.into())
}

fn check_counts(header: &BatchHeader) -> Result<(), StoredFault> {
    let (count, last) = (header.record_count, header.last_offset_delta);
    if last < 0 {
        return Err(StoredFault::LastOffsetDelta(last));
    }
    if count < 0 {
        return Err(BatchError::InvalidCount { count }.into());
    }
    let offsets = i64::from(last) + 1;
    if i64::from(count) > offsets {
        return Err(StoredFault::Count { count, offsets });
    }
    Ok(())
}

fn check_plain(header: &BatchHeader, mut rest: &[u8]) -> Result<(), StoredFault> {
    let mut deltas = Deltas::new(header);
    for index in 0..header.record_count {
        deltas.add(index, step(&mut rest).map(|record| record.offset_delta))?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(BatchError::TrailingBytes { count: header.record_count }.into())
}

/// The offset deltas that are still possible.
struct Deltas {
    least: i32,
    most: i32,
}

impl Deltas {
    fn new(header: &BatchHeader) -> Self {
        Self { least: 0, most: header.last_offset_delta }
    }

    #[inline(always)]
    fn add(&mut self, index: i32, delta: Result<i32, RecordFault>) -> Result<(), StoredFault> {
        let delta = delta.map_err(|fault| BatchError::Record { index, fault })?;
        if delta < self.least || delta > self.most {
            return Err(StoredFault::OffsetDelta { index, delta, least: self.least, most: self.most });
        }
        self.least = delta.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::header::seal;
    use crate::record::{BatchBuilder, Compression};

    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::new(codec));
        for index in 0..5 {
            builder.append(index, Some(b"key"), Some(b"value"), []);
        }
        builder.build().unwrap().to_vec()
    }

    fn check(bytes: &[u8]) -> Result<(), StoredFault> {
        check_stored(&BatchRef::first(bytes)?, &InflateLimits::default(), &mut Scratch::new())
    }

    #[test]
    fn batches_of_every_codec_are_sound_and_a_flipped_bit_is_not() {
        for codec in Codec::ALL {
            let sound = batch(codec);
            check(&sound).unwrap();
            // What lies before the magic is outside the CRC.
            for bit in 16 * 8..sound.len() * 8 {
                let mut flipped = sound.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(check(&flipped).is_err(), "{codec} bit {bit}");
            }
        }
    }

    #[test]
    fn counts_and_deltas_are_held_against_each_other_behind_a_right_crc() {
        for codec in [Codec::None, Codec::Zstd] {
            let changed = |at: usize, value: i32| {
                let mut bytes = batch(codec);
                bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
                seal(&mut bytes);
                check(&bytes)
            };
            assert_eq!(changed(23, -1), Err(StoredFault::LastOffsetDelta(-1)));
            assert_eq!(changed(23, 3), Err(StoredFault::Count { count: 5, offsets: 4 }));
            // A hole at the end is what cleaning leaves.
            assert_eq!(changed(23, 9), Ok(()));
            assert_eq!(changed(57, 4), Err(BatchError::TrailingBytes { count: 4 }.into()));
            assert!(matches!(changed(57, -1), Err(StoredFault::Batch(BatchError::InvalidCount { .. }))));
        }
        let mut bytes = batch(Codec::None);
        // Length, attributes, timestamp delta, then the offset delta.
        bytes[61 + 3] = 10;
        seal(&mut bytes);
        let fault = check(&bytes).unwrap_err();
        assert_eq!(fault, StoredFault::OffsetDelta { index: 0, delta: 5, least: 0, most: 4 });
        assert!(fault.is_of_records());
    }
}
