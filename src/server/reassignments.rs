//! AlterPartitionReassignments (45), versions 0 and 1, and ListPartitionReassignments (46): which replicas are on
//! their way to other brokers. A lone node has nowhere to send one: what asks for the replicas that are there is
//! done already, and everything else is refused as Kafka refuses brokers that it does not know. Kafka's tool asks
//! both before it moves replicas between the directories of a broker.

use super::call::{Call, text};
use super::node::Node;
use crate::metadata::{Image, PartitionRegistration};
use crate::net::Reply;
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use crate::protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::protocol::messages::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::protocol::{DecodeError, ErrorCode, Str};

/// AlterPartitionReassignments.
///
/// # Errors
/// The request is malformed.
pub fn alter(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: AlterPartitionReassignmentsRequest = call.decode()?;
    let image = node.image();
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let outcome = check(&image, &topic.name, asked);
            ReassignablePartitionResponse {
                partition_index: asked.partition_index,
                error_code: outcome.as_ref().map_or_else(|(code, _)| code.code(), |()| 0),
                error_message: outcome.err().and_then(|(_, why)| text(why)),
                ..ReassignablePartitionResponse::default()
            }
        });
        ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..ReassignableTopicResponse::default()
        }
    });
    Ok(call.reply(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }))
}

fn check(image: &Image, topic: &str, asked: &ReassignablePartition) -> Result<(), (ErrorCode, String)> {
    let index = asked.partition_index;
    let Some(partition) = image.partition(topic, index) else {
        return Err((ErrorCode::UnknownTopicOrPartition, format!("{topic}-{index} does not exist.")));
    };
    let Some(replicas) = &asked.replicas else {
        return Err((
            ErrorCode::NoReassignmentInProgress,
            "No partition reassignment is in progress.".to_owned(),
        ));
    };
    if *replicas == partition.replicas {
        return Ok(());
    }
    let why = match replicas.iter().find(|replica| image.broker(**replica).is_none()) {
        Some(unknown) => format!("Broker {unknown} is not registered."),
        None => format!("The partition's replicas are {:?}; no other broker is there.", partition.replicas),
    };
    Err((ErrorCode::InvalidReplicaAssignment, why))
}

/// ListPartitionReassignments.
///
/// # Errors
/// The request is malformed.
pub fn list(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: ListPartitionReassignmentsRequest = call.decode()?;
    let is_asked = |name: &str, index: i32| match &request.topics {
        None => true,
        Some(topics) => {
            topics.iter().any(|topic| topic.name == name && topic.partition_indexes.contains(&index))
        }
    };
    let image = node.image();
    let topics = image.topics().iter().filter_map(|topic| {
        let name = topic.name.as_str();
        let moving = topic.partitions.iter().filter(|(index, it)| is_moving(it) && is_asked(name, **index));
        let partitions: Vec<_> = moving.map(|(index, partition)| ongoing(*index, partition)).collect();
        (!partitions.is_empty()).then(|| OngoingTopicReassignment {
            name: Str::from(name),
            partitions,
            ..OngoingTopicReassignment::default()
        })
    });
    let topics = topics.collect();
    Ok(call.reply(&ListPartitionReassignmentsResponse {
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }))
}

fn is_moving(partition: &PartitionRegistration) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

fn ongoing(partition_index: i32, partition: &PartitionRegistration) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment {
        partition_index,
        replicas: partition.replicas.clone(),
        adding_replicas: partition.adding_replicas.clone(),
        removing_replicas: partition.removing_replicas.clone(),
        ..OngoingPartitionReassignment::default()
    }
}
