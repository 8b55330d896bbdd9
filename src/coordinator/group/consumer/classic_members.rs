//! Members of a consumer group that use the classic protocol. JoinGroup is their heartbeat with news, SyncGroup
//! tells them what they have, Heartbeat tells them when to join again. To themselves they are followers of a
//! leader that they never see; their generation is their member epoch.

use crate::coordinator::exchange::{Client, Refusal};
use crate::coordinator::group::ClassicProtocol;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

use super::heartbeat::{Found, check_instance, check_room};
use super::member::{ClassicMetadata, Member, MemberState, sorted};
use super::{ConsumerGroup, embedded};

/// From this version of JoinGroup on, a new dynamic member is first told its id.
const FIRST_VERSION_WITH_KNOWN_IDS: i16 = 4;

/// A classic member that may join, with what it reads.
struct Joiner {
    found: Found,
    subscription: ConsumerProtocolSubscription,
}

impl State {
    /// JoinGroup of a classic member, where the group is a consumer group with members.
    pub(in crate::coordinator) fn join_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        client: &Client,
        version: i16,
        request: &JoinGroupRequest,
    ) -> Result<JoinGroupResponse, Refusal> {
        let group_id = &request.group_id;
        let group = self.consumer_group(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        let is_unknown = request.member_id.is_empty();
        let member_id =
            if is_unknown { Str::from((step.draw_id)().to_string()) } else { request.member_id.clone() };
        group.check_joining(step, &member_id, request)?;
        if is_unknown && request.group_instance_id.is_none() && version >= FIRST_VERSION_WITH_KNOWN_IDS {
            let error_code = ErrorCode::MemberIdRequired.code();
            return Ok(JoinGroupResponse { member_id, error_code, ..JoinGroupResponse::default() });
        }
        let joiner = group.joiner(&member_id, is_unknown, request)?;
        let downgrades = request.group_instance_id.as_ref().is_some_and(|instance_id| {
            let held = group.static_member(instance_id);
            held.is_some_and(|held| group.may_downgrade_replacing(step, held))
        });
        let before = match &joiner.found.replaces {
            Some(old_id) => self.replace_member(step, group_id, old_id, joiner.found.member),
            None => joiner.found.member,
        };
        let owned = embedded::owned(&joiner.subscription, step.image);
        let after = described(&before, request, client, &joiner.subscription);
        let has_changed = self.take_description(step, group_id, &before, &after);
        let member_id = after.id.clone();
        let (after, generation_id) = if downgrades {
            let generation = self.become_classic_group(step, group_id, &[]);
            (after, generation)
        } else {
            let after = self.advance(step, group_id, &member_id, has_changed, Some(&owned))?;
            let epoch = after.epoch;
            (after, epoch)
        };
        step.timers.cancel(group_id, Timer::Rejoin(member_id.clone()));
        if !downgrades {
            let now_ms = step.now.timer_ms;
            let session_ends_ms = now_ms + i64::from(request.session_timeout_ms);
            step.timers.set(group_id, Timer::Session(member_id.clone()), session_ends_ms);
            let sync_ends_ms = now_ms + i64::from(rebalance_timeout_ms(request));
            step.timers.set(group_id, Timer::Resync(member_id.clone()), sync_ends_ms);
        }
        Ok(JoinGroupResponse {
            member_id,
            generation_id,
            protocol_type: Some(Str::from_static(embedded::PROTOCOL_TYPE)),
            protocol_name: after.classic_protocols().first().map(|protocol| protocol.name.clone()),
            ..JoinGroupResponse::default()
        })
    }

    /// SyncGroup of a classic member of a consumer group.
    pub(in crate::coordinator) fn sync_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, Refusal> {
        let group = self.consumer_group(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let member = group.classic_member(&request.member_id, request.group_instance_id.as_ref())?;
        check_generation(member, request.generation_id)?;
        let protocol = member.classic_protocols().first();
        let is_consumer = request.protocol_type.as_ref().is_none_or(|it| *it == *embedded::PROTOCOL_TYPE);
        let name = request.protocol_name.as_ref();
        let is_told = name.is_none_or(|name| protocol.is_some_and(|protocol| protocol.name == *name));
        if !is_consumer || !is_told {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        if group.assignment_epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            group.expect_rejoin(step, member);
            return Err(ErrorCode::RebalanceInProgress.into());
        }
        step.timers.cancel(&group.id, Timer::Resync(member.id.clone()));
        group.renew_classic_session(step, member);
        let metadata = protocol.map(|protocol| protocol.metadata.clone()).unwrap_or_default();
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment: embedded::assignment_bytes(&member.assigned.partitions(), &metadata, step.image),
            ..SyncGroupResponse::default()
        })
    }

    /// Heartbeat of a classic member of a consumer group.
    pub(in crate::coordinator) fn heartbeat_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), Refusal> {
        let group = self.consumer_group(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let member = group.classic_member(&request.member_id, request.group_instance_id.as_ref())?;
        check_generation(member, request.generation_id)?;
        group.renew_classic_session(step, member);
        let can_go_on = match member.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !group.waits_for_others(member),
            MemberState::Stable | MemberState::Unknown => false,
        };
        if member.epoch < group.assignment_epoch || can_go_on {
            group.expect_rejoin(step, member);
            return Err(ErrorCode::RebalanceInProgress.into());
        }
        Ok(())
    }
}

impl ConsumerGroup {
    /// Whether a classic member may join at all.
    fn check_joining(
        &self,
        step: &Step<'_>,
        member_id: &Str,
        request: &JoinGroupRequest,
    ) -> Result<(), Refusal> {
        let policy = step.settings.consumer_migration;
        if !policy.upgrade && !policy.downgrade {
            let message = format!(
                "Cannot join the consumer group {} with the classic protocol because the group migration is \
                 disabled.",
                self.id
            );
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        self.check_size(step, member_id)?;
        // The subscription is kept as it was said, and as it was read.
        let said = request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len());
        check_room(step, said.sum::<usize>() * 2)?;
        let all_support = |name: &str| self.classic_protocols.of(name) == self.classic_members;
        let is_consumer = request.protocol_type == *embedded::PROTOCOL_TYPE;
        if !is_consumer || !request.protocols.iter().any(|protocol| all_support(&protocol.name)) {
            let message = format!("none of {member_id}'s assignors is one that all classic members have");
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        Ok(())
    }

    fn joiner(
        &self,
        member_id: &Str,
        is_unknown: bool,
        request: &JoinGroupRequest,
    ) -> Result<Joiner, Refusal> {
        let found = match &request.group_instance_id {
            None => self.dynamic_member(member_id, true)?,
            Some(instance_id) => self.static_member_for(member_id, instance_id, is_unknown)?,
        };
        let metadata = request.protocols.first().map(|protocol| &protocol.metadata);
        let subscription = metadata.and_then(embedded::subscription);
        let subscription = subscription.ok_or_else(|| {
            Refusal::new(
                ErrorCode::InconsistentGroupProtocol,
                "what the member reads is not written as consumers write it",
            )
        })?;
        Ok(Joiner { found, subscription })
    }

    fn classic_member(&self, member_id: &Str, instance_id: Option<&Str>) -> Result<&Member, Refusal> {
        let member = match instance_id {
            None => self.members.get(member_id).ok_or_else(|| self.unknown_member(member_id))?,
            Some(instance_id) => check_instance(self.static_member(instance_id), member_id, instance_id)?,
        };
        if member.classic.is_none() {
            let message = format!("{member_id} speaks the consumer protocol, and asked by the classic one");
            return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
        }
        Ok(member)
    }

    fn renew_classic_session(&self, step: &mut Step<'_>, member: &Member) {
        let timeout_ms = member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        let at_ms = step.now.timer_ms + i64::from(timeout_ms);
        step.timers.set(&self.id, Timer::Session(member.id.clone()), at_ms);
    }

    /// The member has been told to join again: it has its rebalance timeout for that.
    fn expect_rejoin(&self, step: &mut Step<'_>, member: &Member) {
        if step.timers.deadline_ms(&self.id, Timer::Rejoin(member.id.clone())).is_none() {
            let at_ms = step.now.timer_ms + i64::from(member.rebalance_timeout_ms);
            step.timers.set(&self.id, Timer::Rejoin(member.id.clone()), at_ms);
        }
    }

    /// Whether others still have partitions that this member should have.
    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.target(&member.id);
        target.is_some_and(|target| {
            target.flat().any(|(topic, partition)| {
                !member.assigned.contains(topic, partition) && self.is_owned(topic, partition)
            })
        })
    }
}

fn check_generation(member: &Member, generation: i32) -> Result<(), Refusal> {
    if member.epoch == generation {
        return Ok(());
    }
    let message =
        format!("generation {generation} is not the one that {} is at, {}", member.id, member.epoch);
    Err(Refusal::new(ErrorCode::IllegalGeneration, message))
}

/// Version 0 has no time for rebalances but the session's.
fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    if request.rebalance_timeout_ms < 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}

fn described(
    before: &Member,
    request: &JoinGroupRequest,
    client: &Client,
    subscription: &ConsumerProtocolSubscription,
) -> Member {
    let mut member = before.clone();
    if request.group_instance_id.is_some() {
        member.instance_id.clone_from(&request.group_instance_id);
    }
    if subscription.rack_id.as_ref().is_some_and(|rack| !rack.is_empty()) {
        member.rack_id.clone_from(&subscription.rack_id);
    }
    member.rebalance_timeout_ms = rebalance_timeout_ms(request);
    member.topics = sorted(subscription.topics.clone());
    member.regex = Some(Str::empty());
    member.client_id = client.id.clone();
    member.client_host = client.host.clone();
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| ClassicProtocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() });
    member.classic = Some(Box::new(ClassicMetadata {
        session_timeout_ms: request.session_timeout_ms,
        protocols: protocols.collect(),
    }));
    member
}
