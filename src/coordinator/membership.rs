//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: which group is meant, and of which protocol it is.

use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::{ErrorCode, Str};

use super::exchange::{Answer, Client, Token};
use super::group::{ClassicGroup, Group, Join, refused_join, refused_sync};
use super::partition::is_group_id;
use super::records::GroupRecord;
use super::state::State;
use super::step::Step;

impl State {
    pub(super) fn join_group(
        &mut self,
        step: &mut Step<'_>,
        token: Token,
        client: &Client,
        version: i16,
        request: &JoinGroupRequest,
    ) {
        if let Err((code, member_id)) = self.check_join(step, request) {
            return step.effects.answer(token, Answer::JoinGroup(refused_join(code, member_id)));
        }
        if let Some(Group::Consumer(group)) = self.groups.get(&request.group_id) {
            if !group.is_empty() {
                let joined = self.join_consumer_group(step, client, version, request);
                let response = joined.unwrap_or_else(|refusal| refused_join(refusal.code, Str::empty()));
                return step.effects.answer(token, Answer::JoinGroup(response));
            }
            // Nobody is left who speaks the newer protocol.
            for tombstone in group.tombstones() {
                self.write(step, tombstone);
            }
        }
        if !self.groups.contains_key(&request.group_id) {
            if !request.member_id.is_empty() {
                let refused = refused_join(ErrorCode::UnknownMemberId, request.member_id.clone());
                return step.effects.answer(token, Answer::JoinGroup(refused));
            }
            self.create_classic_group(step, &request.group_id);
        }
        if let Some(Group::Classic(group)) = self.groups.get_mut(&request.group_id) {
            group.join(step, &Join { token, client, version, request });
        }
    }

    fn check_join(&self, step: &Step<'_>, request: &JoinGroupRequest) -> Result<(), (ErrorCode, Str)> {
        if !is_group_id(&request.group_id) {
            return Err((ErrorCode::InvalidGroupId, request.member_id.clone()));
        }
        let allowed = step.settings.min_session_timeout_ms..=step.settings.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err((ErrorCode::InvalidSessionTimeout, request.member_id.clone()));
        }
        if matches!(self.groups.get(&request.group_id), Some(Group::Foreign(_))) {
            return Err((ErrorCode::InconsistentGroupProtocol, Str::empty()));
        }
        Ok(())
    }

    /// A group is in the log from its first member's first request on.
    fn create_classic_group(&mut self, step: &mut Step<'_>, group_id: &Str) {
        let mut group = ClassicGroup::new(group_id.detached());
        group.state_timestamp_ms = Some(step.now.wall_ms);
        let key = GroupMetadataKey { group: group.id.clone() };
        let record = GroupRecord::GroupMetadata(key, Some(group.to_value()));
        self.write(step, record);
    }

    pub(super) fn sync_group(&mut self, step: &mut Step<'_>, token: Token, request: &SyncGroupRequest) {
        let answer = match self.groups.get_mut(&request.group_id) {
            _ if !is_group_id(&request.group_id) => refused_sync(ErrorCode::InvalidGroupId),
            Some(Group::Classic(group)) => return group.sync(step, token, request),
            Some(Group::Consumer(group)) if !group.is_empty() => {
                self.sync_consumer_group(step, request).unwrap_or_else(|refusal| refused_sync(refusal.code))
            }
            _ => refused_sync(ErrorCode::UnknownMemberId),
        };
        step.effects.answer(token, Answer::SyncGroup(answer));
    }

    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>, request: &HeartbeatRequest) -> HeartbeatResponse {
        let code = match self.groups.get_mut(&request.group_id) {
            _ if !is_group_id(&request.group_id) => ErrorCode::InvalidGroupId,
            Some(Group::Classic(group)) => group.heartbeat(step, request),
            Some(Group::Consumer(_)) => match self.heartbeat_consumer_group(step, request) {
                Ok(()) => ErrorCode::None,
                Err(refusal) => refusal.code,
            },
            _ => ErrorCode::UnknownMemberId,
        };
        HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() }
    }

    pub(super) fn leave_group(
        &mut self,
        step: &mut Step<'_>,
        request: &LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let refused =
            |code: ErrorCode| LeaveGroupResponse { error_code: code.code(), ..LeaveGroupResponse::default() };
        match self.groups.get_mut(&request.group_id) {
            _ if !is_group_id(&request.group_id) => refused(ErrorCode::InvalidGroupId),
            Some(Group::Classic(group)) => group.leave(step, request),
            Some(Group::Consumer(_)) => {
                self.leave_consumer_group(step, request).unwrap_or_else(|refusal| refused(refusal.code))
            }
            // Nobody is in a group that is not there.
            _ => {
                let unknown = |member: &MemberIdentity| MemberResponse {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error_code: ErrorCode::UnknownMemberId.code(),
                    ..MemberResponse::default()
                };
                let members = request.members.iter().map(unknown).collect();
                LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
            }
        }
    }
}
