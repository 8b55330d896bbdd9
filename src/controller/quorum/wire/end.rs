//! EndQuorumEpoch (54).

use crate::protocol::ErrorCode;
use crate::protocol::messages::end_quorum_epoch_request as end_request;
use crate::protocol::messages::end_quorum_epoch_response as end_response;
use crate::types::LeaderEpoch;

use super::super::message::{EndEpoch, Leadership, NO_DIRECTORY, Response};
use super::super::voters::ReplicaKey;
use super::{TOPIC, code, id_of, leadership, only};

/// What is sent.
#[must_use]
pub fn request(end: &EndEpoch, cluster_id: &str) -> end_request::EndQuorumEpochRequest {
    let candidate = |key: &ReplicaKey| end_request::ReplicaInfo {
        candidate_id: key.id,
        candidate_directory_id: key.directory_id,
        ..end_request::ReplicaInfo::default()
    };
    let partition = end_request::PartitionData {
        partition_index: 0,
        leader_id: end.leader_id,
        leader_epoch: end.epoch.0,
        preferred_successors: end.preferred.iter().map(|key| key.id).collect(),
        preferred_candidates: end.preferred.iter().map(candidate).collect(),
        ..end_request::PartitionData::default()
    };
    let topic = end_request::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..end_request::TopicData::default()
    };
    end_request::EndQuorumEpochRequest {
        cluster_id: Some(cluster_id.into()),
        topics: vec![topic],
        leader_endpoints: listeners!(end_request::LeaderEndpoint, end.leader_endpoints),
        ..end_request::EndQuorumEpochRequest::default()
    }
}

/// What was asked.
///
/// # Errors
/// INVALID_REQUEST.
pub fn asked(request: &end_request::EndQuorumEpochRequest) -> Result<EndEpoch, ErrorCode> {
    let partition = only(
        &request.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    )?;
    if partition.leader_id < 0 || partition.leader_epoch < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    let known = partition.preferred_candidates.iter();
    let mut preferred: Vec<ReplicaKey> =
        known.map(|key| ReplicaKey::new(key.candidate_id, key.candidate_directory_id)).collect();
    if preferred.is_empty() {
        preferred =
            partition.preferred_successors.iter().map(|id| ReplicaKey::new(*id, NO_DIRECTORY)).collect();
    }
    Ok(EndEpoch {
        leader_id: partition.leader_id,
        epoch: LeaderEpoch(partition.leader_epoch),
        preferred,
        leader_endpoints: named!(request.leader_endpoints),
    })
}

/// The answer that refuses the request as a whole.
#[must_use]
pub fn refused(error: ErrorCode) -> end_response::EndQuorumEpochResponse {
    end_response::EndQuorumEpochResponse { error_code: error.code(), ..Default::default() }
}

/// The answer.
#[must_use]
pub fn response(error: ErrorCode, leadership: &Leadership) -> end_response::EndQuorumEpochResponse {
    let partition = end_response::PartitionData {
        partition_index: 0,
        error_code: error.code(),
        leader_id: id_of(leadership),
        leader_epoch: leadership.epoch.0,
        ..end_response::PartitionData::default()
    };
    let topic = end_response::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..end_response::TopicData::default()
    };
    end_response::EndQuorumEpochResponse {
        topics: vec![topic],
        node_endpoints: listing!(end_response, leadership),
        ..Default::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &end_response::EndQuorumEpochResponse) -> Response {
    let partition = only(
        &response.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    );
    match (code(response.error_code), partition) {
        (ErrorCode::None, Ok(partition)) => Response::EndEpoch {
            error: code(partition.error_code),
            leadership: leadership(
                partition.leader_id,
                partition.leader_epoch,
                listed!(response.node_endpoints, partition.leader_id),
            ),
        },
        (error, partition) => Response::EndEpoch {
            error: partition.err().filter(|_| error == ErrorCode::None).unwrap_or(error),
            leadership: Leadership::default(),
        },
    }
}
