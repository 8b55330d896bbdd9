//! SyncGroup, Heartbeat and LeaveGroup of a classic group, its timers, and what it says of itself.

use std::collections::HashMap;

use bytes::Bytes;

use super::members::{answer_sync, answer_sync_refused, refused_sync};
use super::{ClassicGroup, ClassicMember, ClassicState};
use crate::coordinator::exchange::Token;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::{ErrorCode, Str};

impl ClassicGroup {
    /// SyncGroup: answered now, or when the leader has assigned.
    pub(in crate::coordinator) fn sync(
        &mut self,
        step: &mut Step<'_>,
        token: Token,
        request: &SyncGroupRequest,
    ) {
        if let Err(code) = self.check_sync(request) {
            return answer_sync(step, token, refused_sync(code));
        }
        match self.state {
            ClassicState::PreparingRebalance => {
                answer_sync(step, token, refused_sync(ErrorCode::RebalanceInProgress));
            }
            ClassicState::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(&request.member_id) {
                    answer_sync_refused(step, member, ErrorCode::RebalanceInProgress);
                    member.waiting_sync = Some(token);
                }
                self.has_synced(step, &request.member_id);
                if self.is_leader(&request.member_id) {
                    let given: HashMap<&Str, &Bytes> =
                        request.assignments.iter().map(|it| (&it.member_id, &it.assignment)).collect();
                    self.assign(step, &given);
                }
            }
            ClassicState::Stable => {
                self.has_synced(step, &request.member_id);
                let response = self.synced(&request.member_id);
                answer_sync(step, token, response);
            }
            ClassicState::Empty | ClassicState::Dead => {
                answer_sync(step, token, refused_sync(ErrorCode::UnknownMemberId));
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        match self.state {
            ClassicState::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            ClassicState::Empty => return Err(ErrorCode::UnknownMemberId),
            _ => {}
        }
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differ = |asked: &Option<Str>, known: &Option<Str>| matches!((asked, known), (Some(asked), Some(known)) if asked != known);
        if differ(&request.protocol_type, &self.protocol_type)
            || differ(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, step: &mut Step<'_>, member_id: &Str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            step.timers.cancel(&self.id, Timer::Sync);
        }
    }

    /// Heartbeat.
    pub(in crate::coordinator) fn heartbeat(
        &mut self,
        step: &mut Step<'_>,
        request: &HeartbeatRequest,
    ) -> ErrorCode {
        if self.state == ClassicState::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(code) = self.check_member(&request.member_id, request.group_instance_id.as_ref()) {
            return code;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.renew_session(step, &request.member_id);
        match self.state {
            ClassicState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            ClassicState::Empty => ErrorCode::UnknownMemberId,
            _ => ErrorCode::None,
        }
    }

    /// The member has been heard of.
    pub(in crate::coordinator) fn renew_session(&self, step: &mut Step<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let at_ms = step.now.timer_ms + i64::from(member.session_timeout_ms);
            step.timers.set(&self.id, Timer::Session(member.id.clone()), at_ms);
        }
    }

    /// LeaveGroup, of one member or many.
    pub(in crate::coordinator) fn leave(
        &mut self,
        step: &mut Step<'_>,
        request: &LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let mut has_changed = false;
        let mut members = Vec::with_capacity(request.members.len());
        for member in &request.members {
            let code = match self.leaving(member) {
                Ok(member_id) => {
                    has_changed = true;
                    self.remove(step, &member_id);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            members.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: code.code(),
                ..MemberResponse::default()
            });
        }
        if has_changed {
            match self.state {
                ClassicState::Stable | ClassicState::CompletingRebalance => {
                    self.rebalance_or_complete(step, "members left");
                }
                _ => self.complete_join_if_all_joined(step),
            }
        }
        LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
    }

    /// Whom a LeaveGroup means: an administrator names a static member by its instance alone.
    fn leaving(&self, member: &MemberIdentity) -> Result<Str, ErrorCode> {
        if member.member_id.is_empty() {
            let by_instance = member.group_instance_id.as_ref().and_then(|id| self.static_members.get(id));
            return by_instance.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending_members.contains(&member.member_id) {
            self.check_member(&member.member_id, member.group_instance_id.as_ref())?;
        }
        Ok(member.member_id.detached())
    }

    /// One of the group's timers is due.
    pub(in crate::coordinator) fn timer(&mut self, step: &mut Step<'_>, timer: &Timer) {
        match timer {
            Timer::Join => self.join_timer(step),
            Timer::Sync => self.sync_timer(step),
            Timer::Session(member_id) => self.session_timer(step, member_id),
            Timer::Rebalance(_) | Timer::Rejoin(_) | Timer::Resync(_) | Timer::RegexRefresh => {}
        }
    }

    fn session_timer(&mut self, step: &mut Step<'_>, member_id: &Str) {
        if self.pending_members.contains(member_id) {
            self.remove(step, member_id);
            return self.complete_join_if_all_joined(step);
        }
        let is_gone = self.members.get(member_id).is_some_and(|member| !member.is_waiting());
        if !is_gone {
            return;
        }
        self.remove(step, member_id);
        self.rebalance_or_complete(step, "a member's session ended");
    }

    /// The group has been loaded: its members are given their time from now on.
    pub(in crate::coordinator) fn loaded(&mut self, step: &mut Step<'_>) {
        self.read_subscriptions();
        for member in self.members.values() {
            let at_ms = step.now.timer_ms + i64::from(member.session_timeout_ms);
            step.timers.set(&self.id, Timer::Session(member.id.clone()), at_ms);
        }
        if self.members.len() > step.settings.max_size {
            self.prepare_rebalance(step, "the group is larger than it may be");
        } else if self.leader.is_none() && !self.members.is_empty() {
            self.prepare_rebalance(step, "the group is no longer a consumer group");
        }
    }

    /// For DescribeGroups. The protocol and what members said is shown of a stable group only, what they were given
    /// last always.
    pub(in crate::coordinator) fn describe(&self) -> DescribedGroup {
        let is_stable = self.state == ClassicState::Stable;
        let member = |member: &ClassicMember| DescribedGroupMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: match is_stable {
                true => member.metadata(self.protocol_name.as_ref()),
                false => Bytes::new(),
            },
            member_assignment: member.assignment.clone(),
            ..DescribedGroupMember::default()
        };
        let protocol = self.protocol_name.clone().filter(|_| is_stable);
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state.name()),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.unwrap_or_default(),
            members: self.members.values().map(|it| member(it)).collect(),
            ..DescribedGroup::default()
        }
    }

    /// Whether offsets may be committed by whoever says this of itself.
    ///
    /// # Errors
    /// Kafka's code.
    pub(in crate::coordinator) fn check_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == ClassicState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == ClassicState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == ClassicState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}
