//! Who is in a classic group: members come, go and are replaced; which protocols they have in common.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{ClassicGroup, ClassicMember, ClassicProtocol, ClassicState};
use crate::coordinator::exchange::Token;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{Decoder, ErrorCode, Message, Str};

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// The names and metadata of a JoinGroup, in buffers of their own.
pub(super) fn protocols_of(asked: &[JoinGroupRequestProtocol]) -> Vec<ClassicProtocol> {
    let protocol = |asked: &JoinGroupRequestProtocol| ClassicProtocol {
        name: asked.name.detached(),
        metadata: Bytes::copy_from_slice(&asked.metadata),
    };
    asked.iter().map(protocol).collect()
}

impl ClassicMember {
    /// What it says about itself for one protocol.
    #[must_use]
    pub fn metadata(&self, protocol: Option<&Str>) -> Bytes {
        let found = self.protocols.iter().find(|known| Some(&known.name) == protocol);
        found.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// Whether a JoinGroup says nothing new.
    pub(super) fn matches(&self, asked: &[JoinGroupRequestProtocol]) -> bool {
        let same = |(known, asked): (&ClassicProtocol, &JoinGroupRequestProtocol)| {
            known.name == asked.name && known.metadata == asked.metadata
        };
        self.protocols.len() == asked.len() && self.protocols.iter().zip(asked).all(same)
    }

    /// Whether it may be silent: its own request waits here. One that joins for the first time has no id yet that
    /// it could be heard by; its wait is limited.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.waiting_join.is_some() || self.waiting_sync.is_some())
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == *protocol)
    }
}

impl ClassicGroup {
    /// Whether members are consumers, whose subscriptions can be read.
    #[must_use]
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|protocol_type| *protocol_type == CONSUMER)
    }

    /// Whether a member with these protocols has one in common with all others.
    pub(super) fn supports_protocols(&self, protocol_type: &str, asked: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == ClassicState::Empty {
            return !protocol_type.is_empty() && !asked.is_empty();
        }
        self.protocol_type.as_ref().is_some_and(|known| *known == *protocol_type)
            && asked.iter().any(|asked| self.members.values().all(|member| member.supports(&asked.name)))
    }

    /// Kafka's rules for a member that says who it is.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if *known != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| *leader == *member_id)
    }

    pub(super) fn waiting_join(&self) -> usize {
        self.members.values().filter(|member| member.waiting_join.is_some()).count()
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|member| member.waiting_join.is_some())
    }

    /// The longest of the members' rebalance timeouts.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// A new member. The first one sets the group's protocol type and leads.
    pub(super) fn add(&mut self, member: ClassicMember, protocol_type: &Str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.detached());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_members.remove(&member.id);
        self.members.insert(member.id.clone(), Box::new(member));
    }

    /// Begins with these members of a consumer group, who use the classic protocol, at this generation. What they
    /// are assigned is up to the caller.
    pub(in crate::coordinator) fn adopt(
        &mut self,
        step: &Step<'_>,
        generation: i32,
        members: Vec<ClassicMember>,
    ) {
        for member in members {
            self.add(member, &Str::from_static(CONSUMER));
        }
        self.generation = generation;
        self.protocol_name = self.select_protocol();
        self.read_subscriptions();
        self.transition(step, ClassicState::Stable);
    }

    /// Takes a member, or one that was to become one, out of the group. Its waiting requests are answered.
    pub(in crate::coordinator) fn remove(&mut self, step: &mut Step<'_>, member_id: &Str) {
        step.timers.cancel(&self.id, Timer::Session(member_id.clone()));
        if let Some(mut member) = self.members.remove(member_id) {
            answer_join_refused(step, &mut member, ErrorCode::UnknownMemberId, Str::empty());
            answer_sync_refused(step, &mut member, ErrorCode::UnknownMemberId);
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    /// A static member comes back under a new id; whoever still waits under the old one is fenced.
    pub(super) fn replace_static(&mut self, step: &mut Step<'_>, old_id: &Str, new_id: &Str) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        step.timers.cancel(&self.id, Timer::Session(old_id.clone()));
        answer_join_refused(step, &mut member, ErrorCode::FencedInstanceId, old_id.clone());
        answer_sync_refused(step, &mut member, ErrorCode::FencedInstanceId);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        member.id = new_id.clone();
        member.is_new = false;
        self.members.insert(new_id.clone(), member);
    }

    /// A leader that has not joined makes way for one that has; `false` where nobody has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| leader.waiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.waiting_join.is_some());
        let Some(joined) = joined.map(|member| member.id.clone()) else { return false };
        self.leader = Some(joined);
        true
    }

    /// Each member votes for the first of its protocols that all have; the most votes win, and the first by name
    /// among equals.
    pub(super) fn select_protocol(&self) -> Option<Str> {
        let first = self.members.values().next()?;
        let names = first.protocols.iter().map(|protocol| &protocol.name);
        let common: BTreeSet<&Str> =
            names.filter(|name| self.members.values().all(|member| member.supports(name))).collect();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(vote) = member.protocols.iter().find(|protocol| common.contains(&protocol.name)) {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// What the members read; `None` where they are no consumers, or do not say it in a way that can be read.
    pub(super) fn read_subscriptions(&mut self) {
        self.subscribed_topics = None;
        if !self.is_of_consumers() || (!self.members.is_empty() && self.protocol_name.is_none()) {
            return;
        }
        let subscriptions = self.members.values().map(|member| {
            let mut decoder = Decoder::new(member.metadata(self.protocol_name.as_ref()));
            // The first version is the beginning of every later one.
            let _version = decoder.int16();
            ConsumerProtocolSubscription::decode(&mut decoder, 0).map(|subscription| subscription.topics)
        });
        let topics: Result<Vec<Vec<Str>>, _> = subscriptions.collect();
        self.subscribed_topics =
            topics.ok().map(|topics| topics.into_iter().flatten().map(|topic| topic.detached()).collect());
    }
}

/// Answers a waiting JoinGroup with an error.
pub(super) fn answer_join_refused(
    step: &mut Step<'_>,
    member: &mut ClassicMember,
    code: ErrorCode,
    member_id: Str,
) {
    if let Some(token) = member.waiting_join.take() {
        answer_join(step, token, refused_join(code, member_id));
    }
}

/// Answers a waiting SyncGroup with an error.
pub(super) fn answer_sync_refused(step: &mut Step<'_>, member: &mut ClassicMember, code: ErrorCode) {
    if let Some(token) = member.waiting_sync.take() {
        answer_sync(step, token, refused_sync(code));
    }
}

pub(super) fn answer_join(step: &mut Step<'_>, token: Token, response: JoinGroupResponse) {
    step.effects.answer(token, crate::coordinator::Answer::JoinGroup(response));
}

pub(super) fn answer_sync(step: &mut Step<'_>, token: Token, response: SyncGroupResponse) {
    step.effects.answer(token, crate::coordinator::Answer::SyncGroup(response));
}

/// A JoinGroup that is refused. Without a protocol: a name is due before version 7, and empty then.
pub(in crate::coordinator) fn refused_join(code: ErrorCode, member_id: Str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code.code(),
        member_id,
        protocol_name: Some(Str::empty()),
        ..JoinGroupResponse::default()
    }
}

/// A SyncGroup that is refused.
pub(in crate::coordinator) fn refused_sync(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}
