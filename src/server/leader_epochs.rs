//! OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch ends, so that a client whose log went another
//! way finds the point where it did.

use super::call::Call;
use super::error_map;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::storage::EpochEnd;
use crate::types::LeaderEpoch;

/// Answers for each partition: the largest epoch at or below the one asked for, and its end.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: OffsetForLeaderEpochRequest = call.decode()?;
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| look_up(node, &topic.topic, asked));
        response.topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
            ..OffsetForLeaderTopicResult::default()
        });
    }
    Ok(call.reply(&response))
}

fn look_up(node: &Node, topic: &Str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut answer = EpochEndOffset { partition: asked.partition, ..EpochEndOffset::default() };
    match find(node, topic, asked) {
        Ok(known) => {
            answer.leader_epoch = known.epoch.0;
            answer.end_offset = known.end_offset.0;
        }
        Err(code) => answer.error_code = code.code(),
    }
    answer
}

fn find(node: &Node, topic: &Str, asked: &OffsetForLeaderPartition) -> Result<EpochEnd, ErrorCode> {
    let partition = node.partition(topic, asked.partition)?;
    let requested = LeaderEpoch(asked.leader_epoch);
    partition
        .with_led_log(asked.current_leader_epoch, |log| Ok(log.epoch_end_offset(requested)))
        .map_err(|error| error_map::of_partition(&error))
}
