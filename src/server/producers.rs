//! InitProducerId (22), versions 0 to 5, for idempotent producers, and DescribeProducers (61), version 0.

use std::sync::Arc;

use parking_lot::Mutex;

use super::call::{Call, text};
use super::error_map;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use crate::protocol::messages::describe_producers_request::DescribeProducersRequest;
use crate::protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::init_producer_id_response::InitProducerIdResponse;
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::storage::ActiveProducer;
use crate::types::ProducerId;

/// Producer ids that the controller has given to this broker and no producer has yet.
#[derive(Debug, Default)]
pub struct ProducerIds {
    block: Mutex<std::ops::Range<i64>>,
    /// One block is asked for at a time.
    refill: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// The next id, if one is left.
    fn next(&self) -> Option<ProducerId> {
        self.block.lock().next().map(ProducerId)
    }

    /// The next id, of a new block if need be.
    async fn next_or_refill(&self, node: &Node) -> Result<ProducerId, ErrorCode> {
        let _refilling = self.refill.lock().await;
        loop {
            if let Some(id) = self.next() {
                return Ok(id);
            }
            let request = AllocateProducerIdsRequest {
                broker_id: node.id.0,
                broker_epoch: node.controller.broker_epoch(),
                ..AllocateProducerIdsRequest::default()
            };
            let block = node.controller.allocate_producer_ids(request).await;
            match ErrorCode::from_wire(block.error_code) {
                ErrorCode::None => {}
                // Whoever asked may ask again: the controller changes, or this broker registers anew.
                ErrorCode::NotController | ErrorCode::StaleBrokerEpoch => {
                    return Err(ErrorCode::CoordinatorLoadInProgress);
                }
                code => return Err(code),
            }
            let first = block.producer_id_start;
            *self.block.lock() = first..first.saturating_add(i64::from(block.producer_id_len));
        }
    }
}

/// Gives an id nobody else has. A transactional id is answered with COORDINATOR_NOT_AVAILABLE, as by a
/// Kafka broker whose coordinator does not answer: transactions are not served here yet.
///
/// # Errors
/// The request is malformed.
pub fn init_producer_id(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: InitProducerIdRequest = call.decode()?;
    call.forget_frame();
    if let Some(error) = refuse(&request) {
        return Ok(call.reply(&init_response(Err(error))));
    }
    if let Some(id) = node.producer_ids.next() {
        return Ok(call.reply(&init_response(Ok(id))));
    }
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let id = node.producer_ids.next_or_refill(&node).await;
        call.answer(&init_response(id))
    })))
}

fn refuse(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        _ if (request.producer_id < 0) != (request.producer_epoch < 0) => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::CoordinatorNotAvailable),
        None => None,
    }
}

fn init_response(id: Result<ProducerId, ErrorCode>) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse { producer_epoch: -1, ..InitProducerIdResponse::default() };
    match id {
        Ok(id) => (response.producer_id, response.producer_epoch) = (id.0, 0),
        Err(error) => response.error_code = error.code(),
    }
    response
}

/// The producers that a partition remembers.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: DescribeProducersRequest = call.decode()?;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| describe_one(node, &topic.name, index));
        TopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..TopicResponse::default()
        }
    });
    let topics = topics.collect();
    Ok(call.reply(&DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }))
}

fn describe_one(node: &Node, topic: &Str, partition_index: i32) -> PartitionResponse {
    let mut response = PartitionResponse { partition_index, ..PartitionResponse::default() };
    let producers = node.partition(topic, partition_index).and_then(|partition| {
        let listed = partition.with_log(-1, |log| Ok(log.active_producers().map(state_of).collect()));
        listed.map_err(|error| error_map::of_partition(&error))
    });
    match producers {
        Ok(producers) => response.active_producers = producers,
        Err(error) => {
            response.error_code = error.code();
            response.error_message = text(error.message());
        }
    }
    response
}

fn state_of(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_first_offset.map_or(-1, |offset| offset.0),
        ..ProducerState::default()
    }
}
