//! FindCoordinator (10), versions 0 to 6: of groups. The first one that is asked for makes the topic
//! `__consumer_offsets`, with Kafka's settings.

use std::sync::Arc;

use tracing::{info, warn};

use super::OFFSETS_TOPIC;
use crate::coordinator::group_partition;
use crate::net::Reply;
use crate::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::server::call::{Call, text};
use crate::server::node::Node;

/// From this version on a request asks for several coordinators.
const MANY_FROM: i16 = 4;
/// From this version on share groups have coordinators.
const SHARE_FROM: i16 = 6;
/// What old versions have for a message where all is well.
const NO_ERROR: &str = "NONE";
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// Replicas of `__consumer_offsets` where nothing says otherwise and there are as many brokers.
const REPLICAS: usize = 3;

/// FindCoordinator.
///
/// # Errors
/// The request is malformed.
pub fn find(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: FindCoordinatorRequest = call.decode()?;
    call.forget_frame();
    if request.key_type != GROUP || node.image().topic(OFFSETS_TOPIC).is_some() {
        return Ok(call.reply(&respond(node, &call, request)));
    }
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        create_offsets_topic(&node).await;
        call.answer(&respond(&node, &call, request))
    })))
}

fn respond(node: &Node, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let key_type = request.key_type;
    if call.version >= MANY_FROM {
        let found = request.coordinator_keys.into_iter().map(|key| coordinator(node, call, key_type, key));
        let coordinators = found.collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let found = coordinator(node, call, key_type, request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator(node: &Node, call: &Call, key_type: i8, key: Str) -> Coordinator {
    match locate(node, call, key_type, &key) {
        Ok((node_id, host, port)) => {
            let error_message = text(if call.version < MANY_FROM { NO_ERROR } else { "" });
            Coordinator { key, node_id, host, port, error_message, ..Coordinator::default() }
        }
        Err((code, message)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: text(message),
            ..Coordinator::default()
        },
    }
}

type Place = (i32, Str, i32);

fn locate(node: &Node, call: &Call, key_type: i8, key: &str) -> Result<Place, (ErrorCode, String)> {
    let refuse = |code: ErrorCode, message: &str| Err((code, message.to_owned()));
    match key_type {
        GROUP => {}
        TRANSACTION => {
            return refuse(ErrorCode::CoordinatorNotAvailable, "klamm does not coordinate transactions yet");
        }
        SHARE if call.version >= SHARE_FROM => {
            return refuse(ErrorCode::CoordinatorNotAvailable, "klamm does not coordinate share groups yet");
        }
        _ => {
            let message =
                "the key type is none of 0 (group), 1 (transaction), and from version 6 on 2 (share)";
            return refuse(ErrorCode::InvalidRequest, message);
        }
    }
    let image = node.image();
    let not_yet =
        || (ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorNotAvailable.message().to_owned());
    let topic = image.topic(OFFSETS_TOPIC).ok_or_else(not_yet)?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = topic.partitions.get(&group_partition(key, partitions)).ok_or_else(not_yet)?;
    let broker = image.broker(partition.leader).filter(|broker| !broker.fenced).ok_or_else(not_yet)?;
    let endpoint = call.endpoint_of(broker).ok_or_else(not_yet)?;
    Ok((broker.id, Str::from(endpoint.host.as_str()), i32::from(endpoint.port)))
}

/// Makes the topic and waits until this broker coordinates what it leads of it. What could not be made is missing
/// from the image afterwards, and the client is told to try again.
async fn create_offsets_topic(node: &Arc<Node>) {
    let (config, image) = (node.config(), node.image());
    // Those that are away for a moment count: the topic outlives that.
    let replicas = i16::try_from(image.brokers().len().clamp(1, REPLICAS)).unwrap_or(1);
    let setting = |name: &'static str, value: String| CreatableTopicConfig {
        name: Str::from_static(name),
        value: Some(Str::from(value)),
        ..CreatableTopicConfig::default()
    };
    let topic = CreatableTopic {
        name: Str::from_static(OFFSETS_TOPIC),
        num_partitions: config.groups.offsets_topic_partitions,
        replication_factor: config.offsets_topic_replication_factor.unwrap_or(replicas),
        configs: vec![
            setting("compression.type", "producer".to_owned()),
            setting("cleanup.policy", "compact".to_owned()),
            setting("segment.bytes", config.groups.offsets_topic_segment_bytes.to_string()),
        ],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let response = node.controller.create_topics(request).await;
    for result in &response.topics {
        match ErrorCode::from_wire(result.error_code) {
            ErrorCode::None => info!(topic = OFFSETS_TOPIC, "created for the first group"),
            ErrorCode::TopicAlreadyExists => {}
            code => warn!(
                topic = OFFSETS_TOPIC,
                %code,
                "cannot be created: {}", result.error_message.as_deref().unwrap_or_default()
            ),
        }
    }
    node.partitions_made().await;
    node.groups.follow(node);
}
