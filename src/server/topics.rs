//! CreateTopics (19), DeleteTopics (20), CreatePartitions (37): decided by the controller, answered when this
//! broker has followed, so that the next request finds what was made.

use std::sync::Arc;

use tracing::{info, warn};

use super::call::Call;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::types::TopicName;

/// "As the broker's configuration says."
const BROKER_DEFAULT: i32 = -1;

/// CreateTopics, versions 2 to 7.
///
/// # Errors
/// The request is malformed.
pub fn create(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: CreateTopicsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.create_topics(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// DeleteTopics, versions 1 to 6.
///
/// # Errors
/// The request is malformed.
pub fn delete(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: DeleteTopicsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.delete_topics(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// CreatePartitions, versions 0 to 3.
///
/// # Errors
/// The request is malformed.
pub fn create_partitions(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: CreatePartitionsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.create_partitions(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// Creates topics that a client asked about, with the broker's defaults. What could not be created is
/// missing from the image afterwards, and the client is told so.
pub async fn create_automatically(node: &Arc<Node>, names: Vec<TopicName>) {
    let topic = |name: TopicName| CreatableTopic {
        name: Str::from(name.as_str()),
        num_partitions: BROKER_DEFAULT,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    let topics = names.into_iter().map(topic).collect();
    let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
    let response = node.controller.create_topics(request).await;
    for result in &response.topics {
        match ErrorCode::from_code(result.error_code) {
            Some(ErrorCode::None) => info!(topic = %result.name, "created because a client asked for it"),
            Some(ErrorCode::TopicAlreadyExists) => {}
            _ => warn!(
                topic = %result.name,
                code = result.error_code,
                "cannot be created: {}", result.error_message.as_deref().unwrap_or_default()
            ),
        }
    }
    node.partitions_made().await;
}
