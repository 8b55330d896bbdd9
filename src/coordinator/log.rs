//! Records to batches, and batches to a shard: what a partition of `__consumer_offsets` holds.

use bytes::Bytes;
use thiserror::Error;
use tracing::warn;

use super::records::GroupRecord;
use super::shard::Shard;
use crate::protocol::EncodeError;
use crate::record::{
    Batch, BatchBuilder, BatchError, BatchRef, Compression, ControlKey, ControlType, InflateLimits,
};
use crate::types::Offset;

/// Why records are no batch, or batches no records.
#[derive(Debug, Error)]
pub enum GroupLogError {
    /// A record cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A batch cannot be read or built.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Records as batches, each of at most `batch_bytes_max`, or of the one record that is larger.
///
/// # Errors
/// [`GroupLogError`]: a field that its record cannot carry.
pub fn batches_of(
    records: &[GroupRecord],
    now_ms: i64,
    compression: Compression,
    batch_bytes_max: usize,
) -> Result<Vec<Bytes>, GroupLogError> {
    let mut builder = BatchBuilder::new(compression);
    let mut batches = Vec::with_capacity(1);
    for record in records {
        let (key, value) = record.encode()?;
        let size = BatchBuilder::record_size_max(Some(&key), value.as_deref());
        if !builder.is_empty() && builder.size_estimate() + size > batch_bytes_max {
            batches.push(builder.build()?);
        }
        builder.append(now_ms, Some(&key), value.as_deref(), []);
    }
    if !builder.is_empty() {
        batches.push(builder.build()?);
    }
    Ok(batches)
}

/// Makes the batches in `bytes` that stand at `from` or behind it hold in a shard; one that is cut off at the end
/// is left for the next call. Returns the offset behind the last batch.
///
/// A record that is none of this topic's is passed over with a line in the log, as Kafka does.
///
/// # Errors
/// [`GroupLogError::Batch`]: the log is damaged.
pub fn replay(shard: &mut Shard, bytes: &Bytes, from: Offset) -> Result<Offset, GroupLogError> {
    let mut next = from;
    let mut rest = bytes.clone();
    loop {
        match BatchRef::first(&rest) {
            Ok(_) => {}
            Err(BatchError::Truncated { .. }) => return Ok(next),
            Err(error) => return Err(error.into()),
        }
        let batch = Batch::first(&rest)?;
        if batch.header.next_offset() > from {
            replay_batch(shard, &batch, from)?;
            next = batch.header.next_offset();
        }
        rest = rest.slice(batch.bytes.len()..);
    }
}

fn replay_batch(shard: &mut Shard, batch: &Batch, from: Offset) -> Result<(), GroupLogError> {
    let header = &batch.header;
    let transaction = header.is_transactional().then_some(header.producer_id);
    for record in batch.records(&InflateLimits::default())? {
        let record = record?;
        if record.offset < from {
            continue;
        }
        if header.is_control() {
            let kind = record.key.as_deref().and_then(ControlKey::parse).map(|key| key.kind);
            match kind {
                Some(ControlType::Commit) => shard.end_transaction(header.producer_id, true),
                Some(ControlType::Abort) => shard.end_transaction(header.producer_id, false),
                _ => {}
            }
            continue;
        }
        match GroupRecord::decode(record.key.as_ref(), record.value.as_ref()) {
            Ok(decoded) => shard.replay(record.offset, &decoded, transaction),
            Err(error) => {
                warn!(offset = record.offset.0, "a record of __consumer_offsets is passed over: {error}");
            }
        }
    }
    Ok(())
}
