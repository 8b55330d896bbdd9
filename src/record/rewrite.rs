//! The three things a broker changes in a producer's batch: a max timestamp that lies, LogAppendTime, and a
//! codec other than the topic's. Everything else stays as it came. And what is left of a batch whose records
//! are all gone.

use super::batch::BatchRef;
use super::builder::ProducerState;
use super::compression::{Compression, Compressor, InflateLimits, Scratch, inflate_to_vec};
use super::error::BatchError;
use super::header::{
    ATTRIBUTES_AT, BATCH_HEADER_SIZE, BatchHeader, CODEC_MASK, DELETE_HORIZON_BIT, LENGTH_AT,
    LOG_APPEND_TIME_BIT, LOG_OVERHEAD, MAX_TIMESTAMP_AT, NO_TIMESTAMP, PRODUCER_ID_AT, TimestampType, seal,
};
use super::walk::Walked;

/// What the walk found must change before the batch is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// Nothing: the bytes go to disk as they came.
    None,
    /// Timestamp type, max timestamp and CRC in the header: [`stamp`] does it in place.
    Stamp,
    /// The records are packed anew with this codec, and the header is stamped too.
    Recompress(Compression),
}

/// Does what the walk found, into a new buffer.
///
/// # Errors
/// What inflating meets; the walk has met it before.
pub fn rewrite(
    batch: &[u8],
    walked: &Walked,
    limits: &InflateLimits,
    scratch: &mut Scratch,
) -> Result<Vec<u8>, BatchError> {
    let mut out = match walked.rewrite {
        Rewrite::None => return Ok(batch.to_vec()),
        Rewrite::Stamp => batch.to_vec(),
        Rewrite::Recompress(compression) => recompress(batch, compression, limits, scratch)?,
    };
    stamp(&mut out, walked.timestamp_type, walked.max_timestamp_ms);
    Ok(out)
}

/// Sets timestamp type and max timestamp of a whole batch in place, and its CRC.
pub fn stamp(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp_ms: i64) {
    assert!(batch.len() >= BATCH_HEADER_SIZE, "only whole batches are stamped");
    let low = &mut batch[ATTRIBUTES_AT + 1];
    match timestamp_type {
        TimestampType::CreateTime => *low &= !(LOG_APPEND_TIME_BIT as u8),
        TimestampType::LogAppendTime => *low |= LOG_APPEND_TIME_BIT as u8,
    }
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    seal(batch);
}

/// Sets who writes a whole batch in place, and its CRC: a batch that a broker certainly does not have is sent
/// under another identity.
pub fn assign_producer(batch: &mut [u8], producer: ProducerState) {
    assert!(batch.len() >= BATCH_HEADER_SIZE, "only whole batches have a producer");
    batch[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].copy_from_slice(&producer.id.0.to_be_bytes());
    batch[PRODUCER_ID_AT + 8..PRODUCER_ID_AT + 10].copy_from_slice(&producer.epoch.0.to_be_bytes());
    batch[PRODUCER_ID_AT + 10..PRODUCER_ID_AT + 14].copy_from_slice(&producer.base_sequence.to_be_bytes());
    seal(batch);
}

/// The same batch with its records packed by `compression`; offsets, timestamps and producer stay.
///
/// # Errors
/// What inflating meets.
pub fn recompress(
    batch: &[u8],
    compression: Compression,
    limits: &InflateLimits,
    scratch: &mut Scratch,
) -> Result<Vec<u8>, BatchError> {
    let batch = BatchRef::first(batch)?;
    let plain = inflate_to_vec(batch.header.codec()?, batch.payload(), limits, scratch)?;
    let mut out = Vec::with_capacity(BATCH_HEADER_SIZE + plain.len());
    out.extend_from_slice(&batch.bytes[..BATCH_HEADER_SIZE]);
    Compressor::new(compression).compress_into(&plain, &mut out)?;
    let length = (out.len() - LOG_OVERHEAD) as i32;
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    out[ATTRIBUTES_AT + 1] = out[ATTRIBUTES_AT + 1] & !(CODEC_MASK as u8) | compression.codec().id();
    seal(&mut out);
    Ok(out)
}

/// The batch with this header, its records removed: offsets, producer, epoch and max timestamp stay.
#[must_use]
pub fn empty_batch(header: &BatchHeader) -> [u8; BATCH_HEADER_SIZE] {
    let mut batch = BatchHeader {
        length: (BATCH_HEADER_SIZE - LOG_OVERHEAD) as i32,
        attributes: header.attributes & !(CODEC_MASK | DELETE_HORIZON_BIT),
        base_timestamp_ms: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    }
    .to_bytes();
    seal(&mut batch);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;
    use crate::types::{ProducerEpoch, ProducerId};

    #[test]
    fn a_batch_under_another_identity_is_the_same_batch() {
        let producer = ProducerState {
            id: ProducerId(77),
            epoch: ProducerEpoch(3),
            base_sequence: 12,
            is_transactional: false,
        };
        let batch = |producer| {
            let mut builder = BatchBuilder::new(Compression::NONE).by(producer);
            builder.append(1_000, Some(b"k"), Some(b"v"), []);
            builder.build().unwrap()
        };
        let mut changed = batch(ProducerState::NONE).to_vec();
        assign_producer(&mut changed, producer);
        assert_eq!(changed, batch(producer));
    }

    #[test]
    fn build_with_gives_the_bytes_of_build() {
        for compression in [Compression::NONE, Compression::new(crate::record::Codec::Lz4)] {
            let mut one = BatchBuilder::new(compression);
            let mut other = BatchBuilder::new(compression);
            for round in 0..3 {
                for builder in [&mut one, &mut other] {
                    builder.append(round, None, Some(b"value"), []);
                    builder.append(round + 1, Some(b"key"), None, []);
                }
                let spare = vec![0xaa; 500];
                assert_eq!(one.build_with(spare).unwrap(), other.build().unwrap());
            }
        }
    }
}
