//! JoinGroup of a classic group.

use crate::coordinator::exchange::{Client, Token};
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::members::{answer_join, answer_join_refused, protocols_of, refused_join};
use super::rebalance::encoded_size;
use super::{ClassicGroup, ClassicMember, ClassicState};

/// From this version on a new dynamic member is first given its id (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader that comes back can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// How long a JoinGroup of a new member may wait: nobody can tell whether its client is still there.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// The longest text that records can carry.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// One JoinGroup on its way through the group.
pub(in crate::coordinator) struct Join<'a> {
    pub(in crate::coordinator) token: Token,
    pub(in crate::coordinator) client: &'a Client,
    pub(in crate::coordinator) version: i16,
    pub(in crate::coordinator) request: &'a JoinGroupRequest,
}

impl ClassicGroup {
    /// JoinGroup: answered now, or when the others have joined.
    pub(in crate::coordinator) fn join(&mut self, step: &mut Step<'_>, join: &Join<'_>) {
        let request = join.request;
        let refused = |code, member_id: &Str| Some(refused_join(code, member_id.clone()));
        let is_unknown = request.member_id.is_empty();
        let answer = if !self.accepts(&request.member_id, step.settings.max_size) {
            self.remove(step, &request.member_id);
            refused(ErrorCode::GroupMaxSizeReached, &Str::empty())
        } else if self.state == ClassicState::Dead {
            refused(ErrorCode::CoordinatorNotAvailable, &request.member_id)
        } else if !self.supports_protocols(&request.protocol_type, &request.protocols) {
            refused(ErrorCode::InconsistentGroupProtocol, &request.member_id)
        } else if is_unknown {
            self.join_new(step, join)
        } else {
            self.join_known(step, join)
        };
        if let Some(answer) = answer {
            answer_join(step, join.token, answer);
        }
    }

    /// Whether there is room. While members join, those who wait are counted, so that the last to rejoin are left
    /// out where the limit was lowered.
    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            ClassicState::Empty | ClassicState::Dead => true,
            ClassicState::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|member| member.waiting_join.is_some())
                    || self.waiting_join() < max_size
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    fn join_new(&mut self, step: &mut Step<'_>, join: &Join<'_>) -> Option<JoinGroupResponse> {
        let request = join.request;
        let prefix = request.group_instance_id.as_ref().unwrap_or(&join.client.id);
        let member_id = Str::from(format!("{prefix}-{}", java_text((step.draw_id)())));
        if member_id.len() > TEXT_BYTES_MAX {
            return Some(refused_join(ErrorCode::InvalidRequest, Str::empty()));
        }
        if let Some(instance_id) = &request.group_instance_id {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.join_static_again(step, join, &old_id, &member_id),
                None => self.join_as(step, join, member_id),
            };
        }
        if join.version < MEMBER_ID_REQUIRED_FROM {
            return self.join_as(step, join, member_id);
        }
        self.pending_members.insert(member_id.clone());
        let session_ms = i64::from(request.session_timeout_ms);
        step.timers.set(&self.id, Timer::Session(member_id.clone()), step.now.timer_ms + session_ms);
        Some(refused_join(ErrorCode::MemberIdRequired, member_id))
    }

    fn join_known(&mut self, step: &mut Step<'_>, join: &Join<'_>) -> Option<JoinGroupResponse> {
        let request = join.request;
        if self.pending_members.contains(&request.member_id) {
            if request.group_instance_id.is_some() {
                // A static member is never given an id in advance: this one contradicts itself.
                return Some(refused_join(ErrorCode::UnknownMemberId, request.member_id.clone()));
            }
            return self.join_as(step, join, request.member_id.detached());
        }
        if let Err(code) = self.check_member(&request.member_id, request.group_instance_id.as_ref()) {
            return Some(refused_join(code, request.member_id.clone()));
        }
        let member_id = request.member_id.detached();
        let is_same = self.members.get(&member_id).is_some_and(|member| member.matches(&request.protocols));
        match self.state {
            // It may have missed the answer to its first JoinGroup.
            ClassicState::CompletingRebalance if is_same => Some(self.joined(&member_id, false)),
            // A leader asks for a rebalance because something outside of the group has changed.
            ClassicState::Stable if is_same && !self.is_leader(&member_id) => {
                let mut response = self.joined(&member_id, false);
                response.members = Vec::new();
                Some(response)
            }
            ClassicState::Empty | ClassicState::Dead => {
                Some(refused_join(ErrorCode::UnknownMemberId, member_id))
            }
            _ => self.rejoin(step, join, &member_id),
        }
    }

    /// A new member under this id.
    fn join_as(&mut self, step: &mut Step<'_>, join: &Join<'_>, member_id: Str) -> Option<JoinGroupResponse> {
        let request = join.request;
        let member = ClassicMember {
            id: member_id.clone(),
            instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: join.client.id.detached(),
            client_host: join.client.host.detached(),
            rebalance_timeout_ms: rebalance_timeout_ms(request, join.version),
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(&request.protocols),
            assignment: bytes::Bytes::new(),
            waiting_join: Some(join.token),
            waiting_sync: None,
            is_new: true,
        };
        if self.state == ClassicState::PreparingRebalance && self.initial_delay.is_some() {
            self.new_member_added = true;
        }
        self.add(member, &request.protocol_type);
        let at_ms = step.now.timer_ms + NEW_MEMBER_JOIN_TIMEOUT_MS;
        step.timers.set(&self.id, Timer::Session(member_id), at_ms);
        self.rebalance_or_complete(step, "a new member");
        None
    }

    /// A member that is known joins again.
    fn rejoin(&mut self, step: &mut Step<'_>, join: &Join<'_>, member_id: &Str) -> Option<JoinGroupResponse> {
        self.update(step, join, member_id);
        self.rebalance_or_complete(step, "a member joined again");
        None
    }

    fn update(&mut self, step: &mut Step<'_>, join: &Join<'_>, member_id: &Str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        // Its client has given up on the one before.
        answer_join_refused(step, member, ErrorCode::RebalanceInProgress, member_id.clone());
        member.protocols = protocols_of(&join.request.protocols);
        member.rebalance_timeout_ms = rebalance_timeout_ms(join.request, join.version);
        member.session_timeout_ms = join.request.session_timeout_ms;
        member.waiting_join = Some(join.token);
    }

    /// A static member that was restarted takes its place again: in a stable group without a rebalance.
    fn join_static_again(
        &mut self,
        step: &mut Step<'_>,
        join: &Join<'_>,
        old_id: &Str,
        member_id: &Str,
    ) -> Option<JoinGroupResponse> {
        let leader_before = self.leader.clone();
        self.replace_static(step, old_id, member_id);
        self.update(step, join, member_id);
        let session_ms = i64::from(join.request.session_timeout_ms);
        step.timers.set(&self.id, Timer::Session(member_id.clone()), step.now.timer_ms + session_ms);
        match self.state {
            ClassicState::Stable if self.select_protocol() == self.protocol_name => {
                self.take_back(step, join, leader_before, member_id)
            }
            ClassicState::Stable => {
                self.rebalance_or_complete(step, "a static member changed the vote");
                None
            }
            // Its old id may be on its way to the leader: the assignment would miss it.
            ClassicState::CompletingRebalance => {
                self.prepare_rebalance(step, "a static member came back");
                None
            }
            _ => {
                self.complete_join_if_all_joined(step);
                None
            }
        }
    }

    fn take_back(
        &mut self,
        step: &mut Step<'_>,
        join: &Join<'_>,
        leader_before: Option<Str>,
        member_id: &Str,
    ) -> Option<JoinGroupResponse> {
        if let Some(member) = self.members.get_mut(member_id) {
            member.waiting_join = None;
        }
        let value = self.to_value();
        if encoded_size(&value) > step.record_bytes_max {
            return Some(refused_join(ErrorCode::UnknownServerError, Str::empty()));
        }
        self.write(step, value);
        if join.version >= SKIP_ASSIGNMENT_FROM {
            return Some(self.joined(member_id, self.is_leader(member_id)));
        }
        // Told of the leader under its old id, the member does not take itself for it and assigns nothing.
        let mut response = self.joined(member_id, false);
        response.members = Vec::new();
        response.leader = leader_before.unwrap_or_default();
        Some(response)
    }
}

/// Before version 1 the session timeout is both.
fn rebalance_timeout_ms(request: &JoinGroupRequest, version: i16) -> i32 {
    if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}

/// A UUID as Java prints it.
fn java_text(id: Uuid) -> String {
    let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
