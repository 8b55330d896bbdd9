//! A classic group becomes a consumer group when the first member of the consumer protocol joins it, and a
//! consumer group a classic one when the last of them leaves; members of the classic protocol go on as they are.
//! `group.consumer.migration.policy` says which of it is allowed; empty groups may always change.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::coordinator::assignor::Partitions;
use crate::coordinator::exchange::{Answer, Refusal, Token};
use crate::coordinator::group::{ClassicGroup, ClassicMember, Group};
use crate::coordinator::records::GroupRecord;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::metadata::Image;
use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::group_metadata_value::GroupMetadataValue;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

use super::leaving::cancel_timers;
use super::member::{ClassicMetadata, Member, sorted};
use super::owned::Owned;
use super::{ConsumerGroup, embedded, metadata_hash, records};

impl State {
    /// Makes way for a member of the consumer protocol. What the group is was checked before.
    pub(super) fn become_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        joins: bool,
    ) -> Result<(), Refusal> {
        let Some(Group::Classic(group)) = self.groups.get(group_id) else { return Ok(()) };
        if !joins {
            return Ok(());
        }
        let members = group.upgraded_members(step.image)?;
        let answers: Vec<_> = group.members.values().flat_map(|member| rebalance_answers(member)).collect();
        for (token, answer) in answers {
            step.effects.answer(token, answer);
        }
        for timer in [Timer::Join, Timer::Sync] {
            step.timers.cancel(&group.id, timer);
        }
        for pending in &group.pending_members {
            step.timers.cancel(&group.id, Timer::Session(pending.clone()));
        }
        let (group_id, generation) = (group.id.clone(), group.generation);
        let key = GroupMetadataKey { group: group_id.clone() };
        self.write(step, GroupRecord::GroupMetadata(key, None));
        if !members.is_empty() {
            self.write_upgrade(step, &group_id, generation, &members);
        }
        Ok(())
    }

    fn write_upgrade(&mut self, step: &mut Step<'_>, group_id: &Str, generation: i32, members: &[Member]) {
        for member in members {
            self.write(step, records::member(group_id, member));
        }
        // What the classic leader gave out need not be what is read today, as where a static member came back with other
        // topics and nobody rebalanced: a hash of nothing makes the next heartbeat, this one, ask for a target.
        self.write(step, records::epoch(group_id, generation, metadata_hash::OF_NOTHING));
        for member in members {
            self.write(step, records::target(group_id, &member.id, &member.assigned.partitions()));
        }
        self.write(step, records::target_epoch(group_id, generation, 0));
        for member in members {
            self.write(step, records::standing(group_id, member));
            let timeout_ms = member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            let session_ends_ms = step.now.timer_ms + i64::from(timeout_ms);
            step.timers.set(group_id, Timer::Session(member.id.clone()), session_ends_ms);
        }
    }

    /// Makes a classic group of the members that stay, all of whom use the classic protocol. Their target is
    /// what they have in it until they have joined again: members may have left, and none of them leads, so that
    /// nobody would see a topic grow. The record names no leader, so that a coordinator that loads it knows as much.
    /// Returns the generation that the group begins with.
    pub(super) fn become_classic_group(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        leaving: &[Str],
    ) -> i32 {
        let Some(group) = self.consumer_group(group_id) else { return 0 };
        let group_id = group.id.clone();
        let mut classic = ClassicGroup::new(group_id.clone());
        let members = group.members.values().filter(|member| !leaving.contains(&member.id));
        let members: Vec<ClassicMember> = members.map(|member| classic_member(member)).collect();
        classic.adopt(step, group.group_epoch, members);
        let protocol = classic.protocol_name.clone();
        for (id, member) in &mut classic.members {
            let target = group.target(id).cloned().unwrap_or_default();
            member.assignment =
                embedded::assignment_bytes(&target, &member.metadata(protocol.as_ref()), step.image);
        }
        let all: Vec<Str> = group.members.keys().cloned().collect();
        for tombstone in group.tombstones() {
            self.write(step, tombstone);
        }
        for member_id in &all {
            cancel_timers(step, &group_id, member_id);
        }
        step.timers.cancel(&group_id, Timer::RegexRefresh);
        let value = GroupMetadataValue { leader: None, ..classic.to_value() };
        classic.write(step, value);
        let ids: Vec<Str> = classic.members.keys().cloned().collect();
        for member_id in &ids {
            classic.renew_session(step, member_id);
        }
        classic.prepare_rebalance(step, "the group is no longer a consumer group");
        let generation = classic.generation;
        self.groups.insert(group_id, Group::Classic(Box::new(classic)));
        generation
    }
}

impl ConsumerGroup {
    /// Whether the group becomes a classic one when these members have left.
    pub(super) fn may_downgrade_without(&self, step: &Step<'_>, leaving: &[Str]) -> bool {
        let leaving = leaving.iter().filter_map(|member_id| self.members.get(member_id));
        let (all, classic) = leaving.fold((0, 0), |(all, classic), member| {
            (all + 1, classic + usize::from(member.classic.is_some()))
        });
        let staying = self.members.len() - all;
        staying > 0 && self.classic_members - classic == staying && may_be_classic(step, staying)
    }

    /// Whether the group becomes a classic one when this member comes back as a classic one.
    pub(super) fn may_downgrade_replacing(&self, step: &Step<'_>, member: &Member) -> bool {
        let all = self.members.len();
        member.classic.is_none() && self.classic_members + 1 == all && may_be_classic(step, all)
    }
}

fn may_be_classic(step: &Step<'_>, size: usize) -> bool {
    step.settings.consumer_migration.downgrade && size <= step.settings.max_size
}

impl ClassicGroup {
    /// Whether the group, which has members, may become a consumer group.
    pub(super) fn check_upgrade(&self, step: &Step<'_>) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            let message = format!("group {} stays with the classic protocol: {why}", self.id);
            Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
        };
        if !step.settings.consumer_migration.upgrade {
            return refuse("group.consumer.migration.policy does not let it change");
        }
        if self.protocol_type.as_deref() != Some(embedded::PROTOCOL_TYPE) {
            return refuse("its members are no consumers");
        }
        if self.members.len() > step.settings.consumer_max_size {
            return refuse("it has more members than group.consumer.max.size");
        }
        Ok(())
    }

    /// The members as they go on in the consumer group. What their leader gave them is theirs; what it gave to several
    /// is the first one's, and the others are told to join again without it.
    fn upgraded_members(&self, image: &Image) -> Result<Vec<Member>, Refusal> {
        let refuse = |why: &str| {
            let message = format!("group {} stays with the classic protocol: {why}", self.id);
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        let malformed = || refuse("what a member says is not written as consumers write it");
        let mut given = BTreeSet::new();
        self.members
            .values()
            .map(|member| {
                let assignment = embedded::assignment(&member.assignment).ok_or_else(malformed)?;
                if assignment.user_data.as_ref().is_some_and(|data| !data.is_empty()) {
                    return Err(refuse(
                        "its assignor hands out data of its own, which the consumer protocol has no place for; \
                         change to range, roundrobin or cooperative-sticky first",
                    ));
                }
                let assigned = embedded::assigned(&assignment, image);
                let assigned = assigned.flat().filter(|partition| given.insert(*partition)).collect();
                self.upgraded(member, &assigned).ok_or_else(malformed)
            })
            .collect()
    }

    fn upgraded(&self, classic: &ClassicMember, assigned: &Partitions) -> Option<Member> {
        let voted = |name: &Str| classic.protocols.iter().find(|protocol| protocol.name == *name);
        let protocol = self.protocol_name.as_ref().and_then(voted).or_else(|| classic.protocols.first())?;
        let subscription = embedded::subscription(&protocol.metadata)?;
        let mut member = Member::new(classic.id.clone());
        (member.epoch, member.previous_epoch) = (self.generation, self.generation);
        member.instance_id.clone_from(&classic.instance_id);
        member.rack_id = subscription.rack_id.filter(|rack| !rack.is_empty());
        member.rebalance_timeout_ms = classic.rebalance_timeout_ms;
        member.client_id = classic.client_id.clone();
        member.client_host = classic.client_host.clone();
        member.topics = sorted(subscription.topics);
        member.assigned = Owned::since(assigned, self.generation);
        member.classic = Some(Box::new(ClassicMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols.clone(),
        }));
        Some(member)
    }
}

/// Whoever waits for the others of a classic group is told to begin anew.
fn rebalance_answers(member: &ClassicMember) -> Vec<(Token, Answer)> {
    let error_code = ErrorCode::RebalanceInProgress.code();
    let join = member.waiting_join.map(|token| {
        let member_id = member.id.clone();
        (
            token,
            Answer::JoinGroup(JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() }),
        )
    });
    let sync = member.waiting_sync.map(|token| {
        (token, Answer::SyncGroup(SyncGroupResponse { error_code, ..SyncGroupResponse::default() }))
    });
    join.into_iter().chain(sync).collect()
}

fn classic_member(member: &Member) -> ClassicMember {
    ClassicMember {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms),
        protocols: member.classic_protocols().to_vec(),
        assignment: Bytes::new(),
        waiting_join: None,
        waiting_sync: None,
        is_new: false,
    }
}
