//! AlterPartitionReassignments (45), versions 0 and 1, and ListPartitionReassignments (46): which replicas are on
//! their way to other brokers. Decided by the controller. Kafka's tool asks both before it moves replicas between
//! the directories of a broker.

use std::sync::Arc;

use super::call::Call;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::DecodeError;
use crate::protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;

/// AlterPartitionReassignments.
///
/// # Errors
/// The request is malformed.
pub fn alter(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: AlterPartitionReassignmentsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.alter_partition_reassignments(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// ListPartitionReassignments.
///
/// # Errors
/// The request is malformed.
pub fn list(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: ListPartitionReassignmentsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.list_partition_reassignments(request).await;
        call.answer(&response)
    })))
}
