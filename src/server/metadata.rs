//! Metadata (3), versions 0 to 13: brokers, topics, who leads what. Creates a missing topic where the client
//! asks for it and `auto.create.topics.enable` allows it, and answers when it is there.

use std::sync::Arc;

use super::authorized;
use super::call::{Call, text};
use super::node::Node;
use super::standing::Standings;
use super::topics;
use crate::metadata::{Image, Topic};
use crate::net::Reply;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::types::TopicName;

/// From this version on topics may be asked for by id.
const TOPIC_IDS_FROM: i16 = 12;

/// Answers from the image, after creating what is to be created.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: MetadataRequest = call.decode()?;
    call.forget_frame();
    if let Some(error) = refuse(&request, call.version) {
        return Ok(call.reply(&refusal(&request, error)));
    }
    let missing = to_create(node, &request);
    if missing.is_empty() {
        return Ok(call.reply(&respond(node, &call, &request)));
    }
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        topics::create_automatically(&node, missing).await;
        call.answer(&respond(&node, &call, &request))
    })))
}

/// Names are not to be mixed with ids, and ids not to come before version 12.
fn refuse(request: &MetadataRequest, version: i16) -> Option<ErrorCode> {
    let is_wrong = |topic: &MetadataRequestTopic| match version {
        ..TOPIC_IDS_FROM => topic.name.is_none() || !topic.topic_id.is_zero(),
        _ => topic.name.is_none() && topic.topic_id.is_zero(),
    };
    let topics = request.topics.as_deref().unwrap_or_default();
    topics.iter().any(is_wrong).then_some(ErrorCode::InvalidRequest)
}

/// The error for the whole, and for each topic: versions before 13 have no other place for it.
fn refusal(request: &MetadataRequest, error: ErrorCode) -> MetadataResponse {
    let topic = |asked: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: error.code(),
        name: Some(asked.name.clone().unwrap_or_default()),
        topic_id: asked.topic_id,
        ..MetadataResponseTopic::default()
    };
    MetadataResponse {
        error_code: error.code(),
        topics: request.topics.iter().flatten().map(topic).collect(),
        ..MetadataResponse::default()
    }
}

fn to_create(node: &Node, request: &MetadataRequest) -> Vec<TopicName> {
    if !request.allow_auto_topic_creation || !node.config().auto_create_topics_enable {
        return Vec::new();
    }
    let image = node.image();
    let asked = request.topics.as_deref().unwrap_or_default();
    let names = asked.iter().filter(|topic| topic.topic_id.is_zero()).filter_map(|topic| topic.name.as_ref());
    let mut missing: Vec<TopicName> = names
        .filter(|name| image.topic(name).is_none())
        .filter_map(|name| TopicName::new(name).ok())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

fn respond(node: &Node, call: &Call, request: &MetadataRequest) -> MetadataResponse {
    let image = node.image();
    let operations = request.include_topic_authorized_operations;
    let mut topics = match &request.topics {
        Some(asked) if !(asked.is_empty() && call.version == 0) => {
            asked.iter().map(|topic| describe_asked(node, &image, topic)).collect()
        }
        _ => image.topics().iter().map(|topic| describe(node, &image, topic)).collect::<Vec<_>>(),
    };
    if operations {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = authorized::TOPIC;
        }
    }
    let mut response = MetadataResponse {
        brokers: brokers(&image, call),
        cluster_id: text(node.cluster_id.clone()),
        controller_id: controller_id(node, &image),
        topics,
        ..MetadataResponse::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized::CLUSTER;
    }
    response
}

/// Where clients send what only the controller decides: any broker that serves passes it on.
pub(super) fn controller_id(node: &Node, image: &Image) -> i32 {
    let mut serving = image.brokers().values().filter(|broker| !broker.fenced).map(|broker| broker.id);
    if serving.clone().any(|id| id == node.id.0) { node.id.0 } else { serving.next().unwrap_or(-1) }
}

/// The unfenced brokers, by the addresses of the listener that was asked.
fn brokers(image: &Image, call: &Call) -> Vec<MetadataResponseBroker> {
    let unfenced = image.brokers().values().filter(|broker| !broker.fenced);
    unfenced
        .filter_map(|broker| {
            let endpoint = call.endpoint_of(broker)?;
            Some(MetadataResponseBroker {
                node_id: broker.id,
                host: Str::from(endpoint.host.as_str()),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_deref().map(Str::from),
                ..MetadataResponseBroker::default()
            })
        })
        .collect()
}

fn describe_asked(node: &Node, image: &Image, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    let found = match &asked.name {
        Some(name) if asked.topic_id.is_zero() => image.topic(name),
        _ => image.topic_by_id(asked.topic_id),
    };
    if let Some(topic) = found {
        return describe(node, image, topic);
    }
    let error = match &asked.name {
        _ if !asked.topic_id.is_zero() => ErrorCode::UnknownTopicId,
        Some(name) if TopicName::new(name).is_ok() => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::InvalidTopicException,
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..MetadataResponseTopic::default()
    }
}

fn describe(node: &Node, image: &Image, topic: &Topic) -> MetadataResponseTopic {
    let standings = Standings::of(node, image, topic);
    let partitions = topic.partitions.iter().map(|(&index, partition)| {
        let standing = standings.partition(index, partition);
        MetadataResponsePartition {
            error_code: standing.error.code(),
            partition_index: index,
            leader_id: standing.leader,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: standing.offline_replicas,
            ..MetadataResponsePartition::default()
        }
    });
    MetadataResponseTopic {
        name: text(topic.name.as_str()),
        topic_id: topic.id,
        is_internal: topic.name.is_internal(),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
