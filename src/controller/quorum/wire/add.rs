//! AddRaftVoter (80), where a node asks for its own vote.

use crate::protocol::messages::add_raft_voter_request::{AddRaftVoterRequest, Listener};
use crate::protocol::messages::add_raft_voter_response::AddRaftVoterResponse;

use super::super::change::{KRAFT_VERSIONS, VoterChangeRequest};
use super::super::message::{AddVoter, Response};
use super::super::voters::{ReplicaKey, Voter};
use super::code;

/// From this version on it may be answered when the leader has written the change down. A node that waits for its own
/// vote to be agreed on does not fetch meanwhile, and may be needed for the majority.
pub const ACK_WHEN_WRITTEN_FROM: i16 = 1;

/// What is sent in `version`.
#[must_use]
pub fn request(add: &AddVoter, cluster_id: &str, version: i16) -> AddRaftVoterRequest {
    AddRaftVoterRequest {
        cluster_id: Some(cluster_id.into()),
        timeout_ms: i32::try_from(add.timeout_ms).unwrap_or(i32::MAX),
        voter_id: add.voter.key.id,
        voter_directory_id: add.voter.key.directory_id,
        listeners: listeners!(Listener, add.voter.endpoints),
        ack_when_committed: version < ACK_WHEN_WRITTEN_FROM,
        ..Default::default()
    }
}

/// What was asked, by a node or by an operator.
#[must_use]
pub fn asked(request: &AddRaftVoterRequest) -> VoterChangeRequest {
    VoterChangeRequest::Add {
        voter: Voter {
            key: ReplicaKey::new(request.voter_id, request.voter_directory_id),
            endpoints: named!(request.listeners),
            kraft_versions: KRAFT_VERSIONS,
        },
        timeout_ms: i64::from(request.timeout_ms),
        ack_when_committed: request.ack_when_committed,
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &AddRaftVoterResponse) -> Response {
    Response::VoterChange {
        error: code(response.error_code),
        message: response.error_message.as_ref().map(ToString::to_string),
    }
}
