//! Members that leave, or are thrown out because they were not heard of in time.

use crate::coordinator::assignor::Partitions;
use crate::coordinator::exchange::Refusal;
use crate::coordinator::group::Group;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::{Timer, TimerKey};
use crate::protocol::ErrorCode;
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};

use super::heartbeat::{check_instance, not_a_consumer_group};
use super::member::{LEAVE_FOR_A_WHILE, MemberState};
use super::owned::Owned;
use super::{ConsumerGroup, metadata_hash, records};

impl State {
    /// A heartbeat of epoch -1 or -2.
    pub(super) fn leave_by_heartbeat(
        &mut self,
        step: &mut Step<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let (group_id, member_id) = (&request.group_id, &request.member_id);
        let group = match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => group,
            Some(_) => return Err(not_a_consumer_group(group_id)),
            None => {
                return Err(Refusal::new(
                    ErrorCode::GroupIdNotFound,
                    format!("there is no group {group_id}"),
                ));
            }
        };
        match &request.instance_id {
            None if !group.members.contains_key(member_id) => return Err(group.unknown_member(member_id)),
            None => {}
            Some(instance_id) => {
                check_instance(group.static_member(instance_id), member_id, instance_id)?;
            }
        }
        if request.member_epoch == LEAVE_FOR_A_WHILE {
            self.leave_for_a_while(step, group_id, member_id);
        } else {
            self.fence_members(step, group_id, std::slice::from_ref(member_id));
        }
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// A static member keeps its place, and its session goes on running out.
    fn leave_for_a_while(&mut self, step: &mut Step<'_>, group_id: &Str, member_id: &Str) {
        let Some(group) = self.consumer_group(group_id) else { return };
        let Some(mut member) = group.members.get(member_id).cloned() else { return };
        step.timers.cancel(&group.id, Timer::Rebalance(member.id.clone()));
        let assigned: Partitions = member.assigned.partitions();
        member.assigned = Owned::since(&assigned, 0);
        member.pending_revocation = Owned::default();
        member.epoch = LEAVE_FOR_A_WHILE;
        self.write(step, records::standing(group_id, &member));
    }

    /// LeaveGroup, where the group is a consumer group.
    pub(in crate::coordinator) fn leave_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &LeaveGroupRequest,
    ) -> Result<LeaveGroupResponse, Refusal> {
        let group_id = &request.group_id;
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let mut leaving: Vec<Str> = Vec::new();
        let mut members = Vec::new();
        for identity in &request.members {
            let found = group.leaving_member(identity);
            members.push(MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: found.as_ref().map_or_else(|refusal| refusal.code, |_| ErrorCode::None).code(),
                ..MemberResponse::default()
            });
            leaving.extend(found.ok());
        }
        leaving.sort_unstable();
        leaving.dedup();
        self.fence_members(step, group_id, &leaving);
        Ok(LeaveGroupResponse { members, ..LeaveGroupResponse::default() })
    }

    /// Takes members out of a group. The group epoch grows, so that others get what they had; or, where only
    /// members of the classic protocol are left, the group becomes a classic one.
    pub(super) fn fence_members(&mut self, step: &mut Step<'_>, group_id: &Str, leaving: &[Str]) {
        let Some(group) = self.consumer_group(group_id) else { return };
        if leaving.is_empty() {
            return;
        }
        if group.may_downgrade_without(step, leaving) {
            self.become_classic_group(step, group_id, leaving);
            return;
        }
        let group_id = group.id.clone();
        let patterns: Vec<Str> =
            leaving.iter().filter_map(|member_id| group.members.get(member_id)?.pattern().cloned()).collect();
        for member_id in leaving {
            self.write_removal(step, &group_id, member_id);
            cancel_timers(step, &group_id, member_id);
        }
        let Some(group) = self.consumer_group(&group_id) else { return };
        let forgotten = group
            .resolved
            .keys()
            .chain(&patterns)
            .filter(|pattern| patterns.contains(pattern) && group.patterns.of(pattern) == 0);
        let mut forgotten: Vec<Str> = forgotten.cloned().collect();
        forgotten.sort_unstable();
        forgotten.dedup();
        for pattern in forgotten {
            self.write(step, records::regex_tombstone(&group_id, &pattern));
        }
        let Some(group) = self.consumer_group(&group_id) else { return };
        let hash = metadata_hash::of_group(group.topics.names(), step.image);
        let record = records::epoch(&group_id, group.group_epoch + 1, hash);
        self.write(step, record);
    }

    /// The tombstones of one member.
    pub(super) fn write_removal(&mut self, step: &mut Step<'_>, group_id: &Str, member_id: &Str) {
        self.write(step, records::standing_tombstone(group_id, member_id));
        self.write(step, records::target_tombstone(group_id, member_id));
        self.write(step, records::member_tombstone(group_id, member_id));
    }

    /// A timer of a consumer group is due.
    pub(in crate::coordinator) fn consumer_group_timer(&mut self, step: &mut Step<'_>, due: &TimerKey) {
        let group_id = &due.group_id;
        let Some(group) = self.consumer_group(group_id) else { return };
        match &due.timer {
            Timer::Rebalance(member_id) => {
                let member = group.members.get(member_id);
                if member.is_some_and(|member| member.state == MemberState::UnrevokedPartitions) {
                    self.fence_members(step, group_id, std::slice::from_ref(member_id));
                }
            }
            Timer::Session(member_id) | Timer::Rejoin(member_id) | Timer::Resync(member_id) => {
                if group.members.contains_key(member_id) {
                    self.fence_members(step, group_id, std::slice::from_ref(member_id));
                }
            }
            Timer::RegexRefresh => self.refresh_patterns(step, group_id),
            Timer::Join | Timer::Sync => {}
        }
    }

    /// All consumer groups are loaded: sets their timers.
    pub(in crate::coordinator) fn consumer_groups_loaded(&mut self, step: &mut Step<'_>) {
        for group in self.groups.values() {
            let Group::Consumer(group) = group else { continue };
            let session_ends_ms = step.now.timer_ms + i64::from(group.settings(step).session_timeout_ms);
            for member in group.members.values() {
                step.timers.set(&group.id, Timer::Session(member.id.clone()), session_ends_ms);
                if member.state == MemberState::UnrevokedPartitions {
                    let at_ms = step.now.timer_ms + i64::from(member.rebalance_timeout_ms);
                    step.timers.set(&group.id, Timer::Rebalance(member.id.clone()), at_ms);
                }
            }
        }
    }

    /// The topics of these names were made, changed or deleted: groups that read them look again at their next
    /// heartbeat.
    pub(in crate::coordinator) fn consumer_groups_follow(&mut self, _step: &mut Step<'_>, topics: &[Str]) {
        for group in self.groups.values_mut() {
            let Group::Consumer(group) = group else { continue };
            group.topics_are_new |= !topics.is_empty();
            group.metadata_is_stale |= topics.iter().any(|topic| group.topics.contains(topic));
        }
    }
}

impl ConsumerGroup {
    /// The member that a LeaveGroup names. Of a static member, the instance id is enough.
    fn leaving_member(&self, identity: &MemberIdentity) -> Result<Str, Refusal> {
        let found = match &identity.group_instance_id {
            None => self
                .members
                .get(&identity.member_id)
                .ok_or_else(|| self.unknown_member(&identity.member_id))?,
            Some(instance_id) => {
                let held = self.static_member(instance_id);
                let member_id = match (identity.member_id.as_str(), held) {
                    ("", Some(held)) => &held.id,
                    _ => &identity.member_id,
                };
                check_instance(held, member_id, instance_id)?
            }
        };
        Ok(found.id.clone())
    }
}

/// Nothing is awaited from this member any more.
pub(super) fn cancel_timers(step: &mut Step<'_>, group_id: &Str, member_id: &Str) {
    for timer in [Timer::Session, Timer::Rebalance, Timer::Rejoin, Timer::Resync] {
        step.timers.cancel(group_id, timer(member_id.clone()));
    }
}
