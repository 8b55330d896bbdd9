//! DeleteRecords (21), versions 0 to 2: moves a partition's log start offset.

use super::call::Call;
use super::error_map;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::types::{Offset, TopicName};

/// "Everything that can be read now."
const HIGH_WATERMARK: i64 = -1;

/// Deletes what is below the offsets asked for; with no other replica to wait for, it is done at once.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: DeleteRecordsRequest = call.decode()?;
    let mut response = DeleteRecordsResponse::default();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = delete(node, &topic.name, asked);
            DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.map_or(-1, |offset| offset.0),
                error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
                ..DeleteRecordsPartitionResult::default()
            }
        });
        response.topics.push(DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..DeleteRecordsTopicResult::default()
        });
    }
    Ok(call.reply(&response))
}

fn delete(node: &Node, topic: &Str, asked: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    if TopicName::new(topic).is_ok_and(|name| name.is_internal()) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = node.partition(topic, asked.partition_index)?;
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    partition.delete_records_before(offset).map_err(|error| {
        node.note_failure(&partition, &error);
        error_map::of_partition(&error)
    })
}
