//! Producer ids, given out in blocks that are never given again (AllocateProducerIds).

use crate::metadata::MetadataRecord;
use crate::protocol::ErrorCode;
use crate::protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use crate::protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;

use super::decision::{Answer, Context, Decision, Refusal};
use super::heartbeats::check_epoch;

/// How many ids are in a block.
pub(super) const BLOCK_SIZE: i32 = 1_000;

/// Decides on the next block for a broker.
pub(super) fn allocate(
    context: &mut Context<'_>,
    request: &AllocateProducerIdsRequest,
) -> Decision<AllocateProducerIdsResponse> {
    let mut answer = AllocateProducerIdsResponse::default();
    let records = match next_block(context, request) {
        Ok((first, record)) => {
            (answer.producer_id_start, answer.producer_id_len) = (first, BLOCK_SIZE);
            vec![record]
        }
        Err(refusal) => {
            answer.refuse(&refusal);
            Vec::new()
        }
    };
    Decision { records, answer }
}

fn next_block(
    context: &mut Context<'_>,
    request: &AllocateProducerIdsRequest,
) -> Result<(i64, MetadataRecord), Refusal> {
    check_epoch(context, request.broker_id, request.broker_epoch)?;
    let first = context.image().next_producer_id();
    let next_producer_id = first
        .checked_add(i64::from(BLOCK_SIZE))
        .ok_or_else(|| Refusal::new(ErrorCode::UnknownServerError, "All producer ids are used up."))?;
    let record = MetadataRecord::from(ProducerIdsRecord {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        next_producer_id,
        ..ProducerIdsRecord::default()
    });
    context.apply(std::slice::from_ref(&record))?;
    Ok((first, record))
}

impl Answer for AllocateProducerIdsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        self.error_code = refusal.code.code();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
