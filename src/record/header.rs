//! The fixed 61 bytes at the front of a batch: a typed view, the frame shared by all magics, and the two
//! fields that a leader patches without touching the CRC.

use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::compression::Codec;
use super::error::BatchError;

/// Base offset and length: what stands before the part that the length field counts.
pub const LOG_OVERHEAD: usize = 12;
/// A magic 2 batch up to its first record.
pub const BATCH_HEADER_SIZE: usize = 61;
/// Up to and including the magic byte, which stands in the same place in every format.
pub const FRAME_SIZE: usize = 17;
/// The one record batch format this project writes and reads.
pub const MAGIC: i8 = 2;
/// "No sequence": the batch is not idempotent.
pub const NO_SEQUENCE: i32 = -1;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;

/// Where the CRC begins to count.
pub(super) const CRC_FROM: usize = 21;
pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;

/// The smallest length field of a magic 0 message: offset and length apart, CRC, magic, attributes, two lengths.
const OLD_LENGTH_MIN: i32 = 14;

pub(super) const CODEC_MASK: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Who set the timestamps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer, record by record.
    #[default]
    CreateTime,
    /// The broker, one for the whole batch: its max timestamp.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name, as configurations and tools print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}

/// What every format has in common: where the entry begins in offsets, how long it is, and its magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFrame {
    /// The first offset (of a compressed magic 0 or 1 set: the last).
    pub base_offset: Offset,
    /// Bytes behind the length field.
    pub length: i32,
    /// 0, 1 or 2.
    pub magic: i8,
}

impl BatchFrame {
    /// Reads the first [`FRAME_SIZE`] bytes.
    ///
    /// # Errors
    /// `Truncated` below 17 bytes, `UnknownMagic`, or `InvalidLength` where the length cannot hold a header of
    /// that magic. Old magics are no error here: the frame tells where the next entry begins.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(frame) = bytes.first_chunk::<FRAME_SIZE>() else {
            return Err(BatchError::Truncated { needed: FRAME_SIZE, available: bytes.len() });
        };
        let length = i32_at(frame, LENGTH_AT);
        let magic = frame[MAGIC_AT] as i8;
        let length_min = match magic {
            0 | 1 => OLD_LENGTH_MIN,
            MAGIC => (BATCH_HEADER_SIZE - LOG_OVERHEAD) as i32,
            _ if length < OLD_LENGTH_MIN => return Err(BatchError::InvalidLength { length }),
            _ => return Err(BatchError::UnknownMagic { magic }),
        };
        if length < length_min {
            return Err(BatchError::InvalidLength { length });
        }
        Ok(Self { base_offset: Offset(i64_at(frame, 0)), length, magic })
    }

    /// All bytes of the entry, its overhead included.
    #[must_use]
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.length.max(0) as usize
    }
}

/// The header of a magic 2 batch, every field typed. Copied out of the bytes; keeps nothing borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was made with (compaction may have removed it).
    pub base_offset: Offset,
    /// Bytes behind the length field, at least 49.
    pub length: i32,
    /// The leader's epoch when it was appended.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags; see the accessors.
    pub attributes: i16,
    /// Offset of the last record, relative to the base.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from; the delete horizon where that bit is set.
    pub base_timestamp_ms: i64,
    /// The largest timestamp; under LogAppendTime the timestamp of all records.
    pub max_timestamp_ms: i64,
    /// -1 where the producer is not idempotent.
    pub producer_id: ProducerId,
    /// -1 where the producer is not idempotent.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// How many records are in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first [`BATCH_HEADER_SIZE`] bytes. Checks length and magic; neither the CRC (it needs the
    /// whole batch: [`super::BatchRef::check_crc`]) nor anything the walk checks.
    ///
    /// # Errors
    /// `Truncated`, `InvalidLength`, `OldMagic` or `UnknownMagic`.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let frame = BatchFrame::parse(bytes)?;
        if frame.magic != MAGIC {
            return Err(BatchError::OldMagic { magic: frame.magic });
        }
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_SIZE>() else {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_SIZE, available: bytes.len() });
        };
        Ok(Self {
            base_offset: frame.base_offset,
            length: frame.length,
            leader_epoch: LeaderEpoch(i32_at(header, LEADER_EPOCH_AT)),
            crc: i32_at(header, CRC_AT) as u32,
            attributes: i16_at(header, ATTRIBUTES_AT),
            last_offset_delta: i32_at(header, 23),
            base_timestamp_ms: i64_at(header, 27),
            max_timestamp_ms: i64_at(header, MAX_TIMESTAMP_AT),
            producer_id: ProducerId(i64_at(header, 43)),
            producer_epoch: ProducerEpoch(i16_at(header, 51)),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
        })
    }

    /// The 61 bytes of this header, the CRC field as it stands.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_SIZE] {
        let mut out = [0; BATCH_HEADER_SIZE];
        out[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        out[16] = MAGIC as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// All bytes of the batch, from base offset to the last record.
    #[must_use]
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.length.max(0) as usize
    }

    /// Offset of the last record the batch was made with.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// `UnknownCodec` for ids 5 to 7.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = (self.attributes & CODEC_MASK) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec { id })
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Holds control records: markers that no application sees.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When tombstones and markers in this batch may be removed, once the cleaner has set it.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp_ms)
    }

    /// Whether an idempotent producer wrote it.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// Sequence of the last record; wraps from `i32::MAX` to 0. -1 where there are none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence `by` places after `sequence`; after `i32::MAX` comes 0.
#[must_use]
pub fn advance_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// Writes the two fields that a leader assigns; they stand outside the CRC.
///
/// `batch` is a whole batch that was walked: fewer than [`BATCH_HEADER_SIZE`] bytes are our mistake.
pub fn assign_offsets(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    assert!(batch.len() >= BATCH_HEADER_SIZE, "offsets are assigned to whole batches");
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

/// Sets the CRC field of a whole batch to what its bytes give.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

#[inline(always)]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[inline(always)]
fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

#[inline(always)]
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

#[inline(always)]
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(1_000),
            length: 49,
            leader_epoch: LeaderEpoch(7),
            crc: 0xdead_beef,
            attributes: 0b111_0100,
            last_offset_delta: 9,
            base_timestamp_ms: 1_700_000_000_000,
            max_timestamp_ms: 1_700_000_000_009,
            producer_id: ProducerId(4_000),
            producer_epoch: ProducerEpoch(3),
            base_sequence: i32::MAX - 4,
            record_count: 10,
        }
    }

    #[test]
    fn header_round_trips_and_its_accessors_agree() {
        let parsed = BatchHeader::parse(&header().to_bytes()).unwrap();
        assert_eq!(parsed, header());
        assert_eq!(
            (parsed.size(), parsed.last_offset(), parsed.next_offset()),
            (61, Offset(1_009), Offset(1_010))
        );
        assert_eq!(parsed.codec(), Ok(Codec::Zstd));
        assert!(parsed.is_transactional() && parsed.is_control() && parsed.has_producer());
        assert_eq!(parsed.delete_horizon_ms(), Some(1_700_000_000_000));
        assert_eq!(parsed.timestamp_type(), TimestampType::CreateTime);
    }

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        assert_eq!(header().last_sequence(), 4);
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(5, 10), 15);
        assert_eq!(BatchHeader { base_sequence: -1, ..header() }.last_sequence(), -1);
    }

    #[test]
    fn s1_8_sizes_and_magics_that_cannot_be_are_refused() {
        let with = |at: usize, bytes: &[u8]| {
            let mut header = header().to_bytes();
            header[at..at + bytes.len()].copy_from_slice(bytes);
            BatchHeader::parse(&header)
        };
        for length in [i32::MIN, -1, 0, 48] {
            assert_eq!(with(LENGTH_AT, &length.to_be_bytes()), Err(BatchError::InvalidLength { length }));
        }
        assert_eq!(with(LENGTH_AT, &i32::MAX.to_be_bytes()).unwrap().size(), i32::MAX as usize + 12);
        for magic in [0, 1] {
            assert_eq!(with(MAGIC_AT, &[magic]), Err(BatchError::OldMagic { magic: magic as i8 }));
        }
        for magic in [3u8, 0x7f, 0xff] {
            assert_eq!(with(MAGIC_AT, &[magic]), Err(BatchError::UnknownMagic { magic: magic as i8 }));
        }
        assert!(matches!(
            with(ATTRIBUTES_AT, &[0, 5]).unwrap().codec(),
            Err(BatchError::UnknownCodec { id: 5 })
        ));
        assert!(matches!(BatchHeader::parse(&header().to_bytes()[..60]), Err(BatchError::Truncated { .. })));
    }
}
