//! BeginQuorumEpoch (53).

use crate::protocol::ErrorCode;
use crate::protocol::messages::begin_quorum_epoch_request as begin_request;
use crate::protocol::messages::begin_quorum_epoch_response as begin_response;
use crate::types::LeaderEpoch;

use super::super::message::{BeginEpoch, Leadership, Response};
use super::super::voters::ReplicaKey;
use super::{TOPIC, code, id_of, leadership, only};

/// What is sent.
#[must_use]
pub fn request(begin: &BeginEpoch, cluster_id: &str) -> begin_request::BeginQuorumEpochRequest {
    let partition = begin_request::PartitionData {
        partition_index: 0,
        voter_directory_id: begin.voter.directory_id,
        leader_id: begin.leader_id,
        leader_epoch: begin.epoch.0,
        ..begin_request::PartitionData::default()
    };
    let topic = begin_request::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..begin_request::TopicData::default()
    };
    begin_request::BeginQuorumEpochRequest {
        cluster_id: Some(cluster_id.into()),
        voter_id: begin.voter.id,
        topics: vec![topic],
        leader_endpoints: listeners!(begin_request::LeaderEndpoint, begin.leader_endpoints),
        ..begin_request::BeginQuorumEpochRequest::default()
    }
}

/// What was asked.
///
/// # Errors
/// INVALID_REQUEST.
pub fn asked(request: &begin_request::BeginQuorumEpochRequest) -> Result<BeginEpoch, ErrorCode> {
    let partition = only(
        &request.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    )?;
    if partition.leader_id < 0 || partition.leader_epoch < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(BeginEpoch {
        leader_id: partition.leader_id,
        epoch: LeaderEpoch(partition.leader_epoch),
        voter: ReplicaKey::new(request.voter_id, partition.voter_directory_id),
        leader_endpoints: named!(request.leader_endpoints),
    })
}

/// The answer that refuses the request as a whole.
#[must_use]
pub fn refused(error: ErrorCode) -> begin_response::BeginQuorumEpochResponse {
    begin_response::BeginQuorumEpochResponse { error_code: error.code(), ..Default::default() }
}

/// The answer.
#[must_use]
pub fn response(error: ErrorCode, leadership: &Leadership) -> begin_response::BeginQuorumEpochResponse {
    let partition = begin_response::PartitionData {
        partition_index: 0,
        error_code: error.code(),
        leader_id: id_of(leadership),
        leader_epoch: leadership.epoch.0,
        ..begin_response::PartitionData::default()
    };
    let topic = begin_response::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..begin_response::TopicData::default()
    };
    begin_response::BeginQuorumEpochResponse {
        topics: vec![topic],
        node_endpoints: listing!(begin_response, leadership),
        ..Default::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &begin_response::BeginQuorumEpochResponse) -> Response {
    let partition = only(
        &response.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    );
    match (code(response.error_code), partition) {
        (ErrorCode::None, Ok(partition)) => Response::BeginEpoch {
            error: code(partition.error_code),
            leadership: leadership(
                partition.leader_id,
                partition.leader_epoch,
                listed!(response.node_endpoints, partition.leader_id),
            ),
        },
        (error, partition) => Response::BeginEpoch {
            error: partition.err().filter(|_| error == ErrorCode::None).unwrap_or(error),
            leadership: Leadership::default(),
        },
    }
}
