//! Producer ids, given out in blocks that are never given again.

use crate::metadata::MetadataRecord;
use crate::protocol::ErrorCode;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
use crate::types::ProducerId;

use super::decision::{Answer, Context, Decision, Refusal};

/// How many ids are in a block.
pub(super) const BLOCK_SIZE: i32 = 1_000;

/// The first id of a block and how many it holds, or why there is none.
pub(super) type Block = Result<(ProducerId, i32), ErrorCode>;

/// Decides on the next block for this broker.
pub(super) fn allocate(context: &mut Context<'_>) -> Decision<Block> {
    match next_block(context) {
        Ok((first, record)) => Decision { records: vec![record], answer: Ok((first, BLOCK_SIZE)) },
        Err(refusal) => Decision { records: Vec::new(), answer: Err(refusal.code) },
    }
}

fn next_block(context: &mut Context<'_>) -> Result<(ProducerId, MetadataRecord), Refusal> {
    let first = context.image().next_producer_id();
    let next_producer_id = first
        .checked_add(i64::from(BLOCK_SIZE))
        .ok_or_else(|| Refusal::new(ErrorCode::UnknownServerError, "All producer ids are used up."))?;
    let node_id = context.node_id;
    let record = MetadataRecord::from(ProducerIdsRecord {
        broker_id: node_id,
        broker_epoch: context.image().broker(node_id).map_or(-1, |broker| broker.epoch),
        next_producer_id,
        ..ProducerIdsRecord::default()
    });
    context.builder.apply(record.clone())?;
    Ok((ProducerId(first), record))
}

impl Answer for Block {
    fn refuse(&mut self, refusal: &Refusal) {
        *self = Err(refusal.code);
    }
}
