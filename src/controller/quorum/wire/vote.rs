//! Vote (52).

use crate::protocol::ErrorCode;
use crate::protocol::messages::vote_request;
use crate::protocol::messages::vote_response;
use crate::types::{LeaderEpoch, Offset};

use super::super::message::{EpochEnd, Leadership, Response, Vote};
use super::super::voters::ReplicaKey;
use super::{TOPIC, code, id_of, leadership, only};

/// What is sent.
#[must_use]
pub fn request(vote: &Vote, cluster_id: &str) -> vote_request::VoteRequest {
    let partition = vote_request::PartitionData {
        partition_index: 0,
        replica_epoch: vote.epoch.0,
        replica_id: vote.candidate.id,
        replica_directory_id: vote.candidate.directory_id,
        voter_directory_id: vote.voter.directory_id,
        last_offset_epoch: vote.last.epoch.0,
        last_offset: vote.last.end_offset.0,
        pre_vote: vote.pre_vote,
        ..vote_request::PartitionData::default()
    };
    let topic = vote_request::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..vote_request::TopicData::default()
    };
    vote_request::VoteRequest {
        cluster_id: Some(cluster_id.into()),
        voter_id: vote.voter.id,
        topics: vec![topic],
        ..vote_request::VoteRequest::default()
    }
}

/// What was asked.
///
/// # Errors
/// INVALID_REQUEST.
pub fn asked(request: &vote_request::VoteRequest) -> Result<Vote, ErrorCode> {
    let partition = only(
        &request.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    )?;
    if partition.last_offset < 0 || partition.last_offset_epoch < 0 || partition.replica_id < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    let last = EpochEnd {
        epoch: LeaderEpoch(partition.last_offset_epoch),
        end_offset: Offset(partition.last_offset),
    };
    // A candidate's own epoch is above that of its log; one that only asks may have the same.
    let is_behind = if partition.pre_vote {
        last.epoch.0 > partition.replica_epoch
    } else {
        last.epoch.0 >= partition.replica_epoch
    };
    if is_behind {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(Vote {
        candidate: ReplicaKey::new(partition.replica_id, partition.replica_directory_id),
        voter: ReplicaKey::new(request.voter_id, partition.voter_directory_id),
        epoch: LeaderEpoch(partition.replica_epoch),
        last,
        pre_vote: partition.pre_vote,
    })
}

/// The answer that refuses the request as a whole.
#[must_use]
pub fn refused(error: ErrorCode) -> vote_response::VoteResponse {
    vote_response::VoteResponse { error_code: error.code(), ..vote_response::VoteResponse::default() }
}

/// The answer.
#[must_use]
pub fn response(error: ErrorCode, leadership: &Leadership, granted: bool) -> vote_response::VoteResponse {
    let partition = vote_response::PartitionData {
        partition_index: 0,
        error_code: error.code(),
        leader_id: id_of(leadership),
        leader_epoch: leadership.epoch.0,
        vote_granted: granted,
        ..vote_response::PartitionData::default()
    };
    let topic = vote_response::TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..vote_response::TopicData::default()
    };
    vote_response::VoteResponse {
        topics: vec![topic],
        node_endpoints: listing!(vote_response, leadership),
        ..vote_response::VoteResponse::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &vote_response::VoteResponse) -> Response {
    let partition = only(
        &response.topics,
        |topic| &topic.topic_name,
        |topic| &topic.partitions,
        |partition| partition.partition_index,
    );
    match (code(response.error_code), partition) {
        (ErrorCode::None, Ok(partition)) => Response::Vote {
            error: code(partition.error_code),
            leadership: leadership(
                partition.leader_id,
                partition.leader_epoch,
                listed!(response.node_endpoints, partition.leader_id),
            ),
            granted: partition.vote_granted,
        },
        (error, partition) => Response::Vote {
            error: partition.err().filter(|_| error == ErrorCode::None).unwrap_or(error),
            leadership: Leadership::default(),
            granted: false,
        },
    }
}
