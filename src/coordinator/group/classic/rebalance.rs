//! A rebalance of a classic group: it is prepared, members join, the next generation begins, the leader's
//! assignment is handed out.

use std::collections::HashMap;

use bytes::Bytes;
use tracing::debug;

use super::members::{answer_join, answer_sync, answer_sync_refused};
use super::{ClassicGroup, ClassicMember, ClassicState};
use crate::coordinator::records::GroupRecord;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use crate::protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

/// The first rebalance of an empty group waits for company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialDelay {
    /// The period that is running.
    pub delay_ms: i64,
    /// How much longer it may take after that.
    pub left_ms: i64,
}

impl ClassicGroup {
    pub(super) fn transition(&mut self, step: &Step<'_>, state: ClassicState) {
        self.state = state;
        self.state_timestamp_ms = Some(step.now.wall_ms);
    }

    /// Has everybody join again, or sees whether they all have.
    pub(in crate::coordinator) fn rebalance_or_complete(&mut self, step: &mut Step<'_>, reason: &str) {
        match self.state {
            ClassicState::Empty | ClassicState::Stable | ClassicState::CompletingRebalance => {
                self.prepare_rebalance(step, reason);
            }
            ClassicState::PreparingRebalance => self.complete_join_if_all_joined(step),
            ClassicState::Dead => {}
        }
    }

    /// Has everybody join again.
    pub(in crate::coordinator) fn prepare_rebalance(&mut self, step: &mut Step<'_>, reason: &str) {
        if self.state == ClassicState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.propagate_error(step, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        step.timers.cancel(&self.id, Timer::Sync);
        let is_first = self.state == ClassicState::Empty;
        debug!(group = %self.id, generation = self.generation, state = self.state.name(), reason, "rebalancing");
        self.transition(step, ClassicState::PreparingRebalance);
        if is_first {
            let delay_ms = i64::from(step.settings.initial_rebalance_delay_ms.max(0));
            let left_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.new_member_added = false;
            self.initial_delay = Some(InitialDelay { delay_ms, left_ms });
            step.timers.set(&self.id, Timer::Join, step.now.timer_ms + delay_ms);
        } else if self.have_all_joined() {
            self.complete_join(step);
        } else {
            step.timers.set(&self.id, Timer::Join, step.now.timer_ms + self.rebalance_timeout_ms());
        }
    }

    /// Goes on once all have joined; a first rebalance waits for its time all the same.
    pub(super) fn complete_join_if_all_joined(&mut self, step: &mut Step<'_>) {
        let is_first = self.initial_delay.is_some();
        if self.state == ClassicState::PreparingRebalance && !is_first && self.have_all_joined() {
            self.complete_join(step);
        }
    }

    /// Time is up for joining, or for waiting for company.
    pub(super) fn join_timer(&mut self, step: &mut Step<'_>) {
        if self.state != ClassicState::PreparingRebalance {
            return;
        }
        match self.initial_delay {
            Some(InitialDelay { delay_ms, left_ms }) if self.new_member_added && left_ms > 0 => {
                self.new_member_added = false;
                let next_ms = i64::from(step.settings.initial_rebalance_delay_ms.max(0)).min(left_ms);
                self.initial_delay =
                    Some(InitialDelay { delay_ms: next_ms, left_ms: (left_ms - delay_ms).max(0) });
                step.timers.set(&self.id, Timer::Join, step.now.timer_ms + next_ms);
            }
            _ => self.complete_join(step),
        }
    }

    /// The next generation: whoever has not joined is out, unless static.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        step.timers.cancel(&self.id, Timer::Join);
        self.initial_delay = None;
        let late = self.members.values().filter(|it| it.waiting_join.is_none() && it.instance_id.is_none());
        let late: Vec<Str> = late.map(|member| member.id.clone()).collect();
        for member_id in &late {
            self.remove(step, member_id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, none of them here: their sessions decide.
            step.timers.set(&self.id, Timer::Join, step.now.timer_ms + self.rebalance_timeout_ms());
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol_name = self.select_protocol();
        self.read_subscriptions();
        if self.members.is_empty() {
            self.transition(step, ClassicState::Empty);
            self.write(step, self.to_value());
            return;
        }
        self.transition(step, ClassicState::CompletingRebalance);
        debug!(group = %self.id, generation = self.generation, members = self.members.len(), "all have joined");
        self.answer_joins(step);
        step.timers.set(&self.id, Timer::Sync, step.now.timer_ms + self.rebalance_timeout_ms());
    }

    fn answer_joins(&mut self, step: &mut Step<'_>) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in ids {
            let response = self.joined(&member_id, false);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            if let Some(token) = member.waiting_join.take() {
                answer_join(step, token, response);
            }
            member.is_new = false;
            let session_ms = i64::from(member.session_timeout_ms);
            self.pending_sync.insert(member_id.clone());
            step.timers.set(&self.id, Timer::Session(member_id), step.now.timer_ms + session_ms);
        }
    }

    /// What a member that joined is told: the leader about everybody, the others about themselves.
    pub(super) fn joined(&self, member_id: &Str, skip_assignment: bool) -> JoinGroupResponse {
        let member = |member: &ClassicMember| JoinGroupResponseMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol_name.as_ref()),
            ..JoinGroupResponseMember::default()
        };
        let members = if self.is_leader(member_id) {
            self.members.values().map(|it| member(it)).collect()
        } else {
            Vec::new()
        };
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment,
            member_id: member_id.clone(),
            members,
            ..JoinGroupResponse::default()
        }
    }

    /// The leader has said who gets what: it is written down and handed out.
    pub(super) fn assign(&mut self, step: &mut Step<'_>, assignments: &HashMap<&Str, &Bytes>) {
        let mut value = self.to_value();
        for member in &mut value.members {
            let given = assignments.get(&member.member_id);
            member.assignment = given.map(|given| Bytes::copy_from_slice(given)).unwrap_or_default();
        }
        if encoded_size(&value) > step.record_bytes_max {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.propagate_error(step, ErrorCode::UnknownServerError);
            self.rebalance_or_complete(step, "the assignment does not fit into a record");
            return;
        }
        self.write(step, value);
        self.state_timestamp_ms = Some(step.now.wall_ms);
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in ids {
            let response = self.synced(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            if let Some(token) = member.waiting_sync.take() {
                answer_sync(step, token, response);
                let session_ms = i64::from(member.session_timeout_ms);
                step.timers.set(&self.id, Timer::Session(member_id), step.now.timer_ms + session_ms);
            }
        }
    }

    /// What a member that synced is told.
    pub(super) fn synced(&self, member_id: &Str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }

    fn propagate_error(&mut self, step: &mut Step<'_>, code: ErrorCode) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in ids {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            if member.waiting_sync.is_some() {
                answer_sync_refused(step, member, code);
                let session_ms = i64::from(member.session_timeout_ms);
                step.timers.set(&self.id, Timer::Session(member_id), step.now.timer_ms + session_ms);
            }
        }
    }

    /// Whoever has not synced in time is out.
    pub(super) fn sync_timer(&mut self, step: &mut Step<'_>) {
        let is_due = matches!(self.state, ClassicState::CompletingRebalance | ClassicState::Stable);
        if !is_due || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.remove(step, &member_id);
        }
        self.prepare_rebalance(step, "members did not sync in time");
    }

    /// The group as it stands, for the log.
    #[must_use]
    pub(in crate::coordinator) fn to_value(&self) -> GroupMetadataValue {
        let member = |member: &ClassicMember| MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(self.protocol_name.as_ref()),
            assignment: member.assignment.clone(),
            ..MemberMetadata::default()
        };
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_timestamp_ms.unwrap_or(-1),
            members: self.members.values().map(|it| member(it)).collect(),
            ..GroupMetadataValue::default()
        }
    }

    /// Decides on a record of this group: it holds from now on, and is on its way to the log.
    pub(in crate::coordinator) fn write(&mut self, step: &mut Step<'_>, value: GroupMetadataValue) {
        self.apply(&value);
        let key = GroupMetadataKey { group: self.id.clone() };
        step.effects.records.push(GroupRecord::GroupMetadata(key, Some(value)));
    }
}

/// About how many bytes a record of this value takes.
pub(super) fn encoded_size(value: &GroupMetadataValue) -> usize {
    const MEMBER_OVERHEAD: usize = 32;
    let member = |member: &MemberMetadata| {
        MEMBER_OVERHEAD
            + member.member_id.len()
            + member.group_instance_id.as_ref().map_or(0, |id| id.len())
            + member.client_id.len()
            + member.client_host.len()
            + member.subscription.len()
            + member.assignment.len()
    };
    2 * MEMBER_OVERHEAD + value.members.iter().map(member).sum::<usize>()
}
