//! UpdateRaftVoter (82).

use crate::protocol::ErrorCode;
use crate::protocol::messages::update_raft_voter_request as update_request;
use crate::protocol::messages::update_raft_voter_response as update_response;
use crate::types::LeaderEpoch;

use super::super::message::{Leadership, Response, UpdateVoter};
use super::super::voters::{ReplicaKey, Voter};
use super::{code, endpoint, id_of, leadership};

/// What is sent.
#[must_use]
pub fn request(update: &UpdateVoter, cluster_id: &str) -> update_request::UpdateRaftVoterRequest {
    update_request::UpdateRaftVoterRequest {
        cluster_id: Some(cluster_id.into()),
        current_leader_epoch: update.epoch.0,
        voter_id: update.voter.key.id,
        voter_directory_id: update.voter.key.directory_id,
        listeners: listeners!(update_request::Listener, update.voter.endpoints),
        kraft_version_feature: update_request::KRaftVersionFeature {
            min_supported_version: update.voter.kraft_versions.0,
            max_supported_version: update.voter.kraft_versions.1,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// What was asked.
#[must_use]
pub fn asked(request: &update_request::UpdateRaftVoterRequest) -> UpdateVoter {
    UpdateVoter {
        epoch: LeaderEpoch(request.current_leader_epoch),
        voter: Voter {
            key: ReplicaKey::new(request.voter_id, request.voter_directory_id),
            endpoints: named!(request.listeners),
            kraft_versions: (
                request.kraft_version_feature.min_supported_version,
                request.kraft_version_feature.max_supported_version,
            ),
        },
    }
}

/// The answer.
#[must_use]
pub fn response(error: ErrorCode, leadership: &Leadership) -> update_response::UpdateRaftVoterResponse {
    let endpoint = leadership.endpoint.clone().unwrap_or_default();
    update_response::UpdateRaftVoterResponse {
        error_code: error.code(),
        current_leader: update_response::CurrentLeader {
            leader_id: id_of(leadership),
            leader_epoch: leadership.epoch.0,
            host: endpoint.host.as_str().into(),
            port: endpoint.port.into(),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &update_response::UpdateRaftVoterResponse) -> Response {
    let leader = &response.current_leader;
    let port = u16::try_from(leader.port).unwrap_or_default();
    let known = (leader.leader_id >= 0 && port > 0).then(|| endpoint(&leader.host, port));
    Response::UpdateVoter {
        error: code(response.error_code),
        leadership: leadership(leader.leader_id, leader.leader_epoch, known),
    }
}
