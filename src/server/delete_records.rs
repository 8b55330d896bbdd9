//! DeleteRecords (21), versions 0 to 2: moves a partition's log start offset.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::error_map;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::replication::{Partition, Waiter};
use crate::types::{Offset, TopicName};

/// "Everything that can be read now."
const HIGH_WATERMARK: i64 = -1;

/// Deletes what is below the offsets asked for, and answers when every living replica has followed, or the time is
/// over.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: DeleteRecordsRequest = call.decode()?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| Trimmed { index: asked.partition_index, outcome: trim(node, &topic.name, asked) });
        topics.push((topic.name.detached(), partitions.collect::<Vec<_>>()));
    }
    call.forget_frame();
    let mut all = topics.iter().flat_map(|(_, partitions)| partitions);
    if all.all(|trimmed| trimmed.outcome.as_ref().map_or(true, Awaited::is_done)) {
        return Ok(call.reply(&response_of(topics)));
    }
    let node = Arc::clone(node);
    let deadline =
        node.clock.elapsed() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Ok(Reply::Later(Box::pin(async move {
        for trimmed in topics.iter_mut().flat_map(|(_, partitions)| partitions) {
            if let Ok(awaited) = &mut trimmed.outcome
                && let Err(code) = awaited.wait(&node, deadline).await
            {
                trimmed.outcome = Err(code);
            }
        }
        call.answer(&response_of(topics))
    })))
}

/// One partition's share of the answer.
struct Trimmed {
    index: i32,
    outcome: Result<Awaited, ErrorCode>,
}

/// A log start that has moved here, and is to move on the other replicas.
struct Awaited {
    partition: Arc<Partition>,
    offset: Offset,
    low_watermark: Option<Offset>,
}

impl Awaited {
    fn is_done(&self) -> bool {
        self.low_watermark.is_some_and(|low| low >= self.offset)
    }

    async fn wait(&mut self, node: &Node, deadline: Duration) -> Result<(), ErrorCode> {
        while !self.is_done() {
            let waiter = Waiter::new(i64::MAX);
            self.partition.wait_for_low_watermark(&waiter);
            let low = self.partition.low_watermark();
            self.low_watermark = low.map_err(|error| error_map::of_partition(&error))?;
            if self.is_done() {
                break;
            }
            tokio::select! {
                biased;
                () = waiter => {}
                () = node.clock.wait_until(deadline) => return Err(ErrorCode::RequestTimedOut),
            }
        }
        Ok(())
    }
}

fn trim(node: &Node, topic: &Str, asked: &DeleteRecordsPartition) -> Result<Awaited, ErrorCode> {
    if TopicName::new(topic).is_ok_and(|name| name.is_internal()) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = node.partition(topic, asked.partition_index)?;
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    let deleted = partition.delete_records_before(offset).and_then(|start| {
        Ok(Awaited {
            offset: offset.unwrap_or(start),
            low_watermark: partition.low_watermark()?,
            partition: Arc::clone(&partition),
        })
    });
    deleted.map_err(|error| {
        node.note_failure(&partition, &error);
        error_map::of_partition(&error)
    })
}

fn response_of(topics: Vec<(Str, Vec<Trimmed>)>) -> DeleteRecordsResponse {
    let topics = topics.into_iter().map(|(name, partitions)| DeleteRecordsTopicResult {
        name,
        partitions: partitions.iter().map(result_of).collect(),
        ..DeleteRecordsTopicResult::default()
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

fn result_of(trimmed: &Trimmed) -> DeleteRecordsPartitionResult {
    let low = trimmed.outcome.as_ref().ok().and_then(|awaited| awaited.low_watermark);
    let code = trimmed.outcome.as_ref().err().copied().unwrap_or(ErrorCode::None);
    DeleteRecordsPartitionResult {
        partition_index: trimmed.index,
        low_watermark: low.map_or(-1, |offset| offset.0),
        error_code: code.code(),
        ..DeleteRecordsPartitionResult::default()
    }
}
