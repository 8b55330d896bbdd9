//! Consumers of the classic protocol as clients are, eager ones: who is to join again gives up everything first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::coordinator::{Answer, Request, Token};
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{Decoder, ErrorCode, Message, Str};

use super::consumers::{Partition, assignment_bytes, assignment_of, join_request};
use super::world::{GROUP, World};

#[derive(Debug, Clone)]
enum Phase {
    Joins,
    WaitsToJoin(Token),
    /// With what it gives to the members, if it leads.
    Syncs(Vec<(Str, Bytes)>),
    WaitsToSync(Token),
    Member,
    /// Another process took its place.
    Fenced,
}

/// A classic consumer.
#[derive(Debug, Clone)]
pub(super) struct Classic {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) topics: Vec<String>,
    pub(super) owned: BTreeSet<Partition>,
    pub(super) generation: i32,
    phase: Phase,
    /// As a leader: the topics of all members, and the partitions that it shared out. Where they differ from what is
    /// there, it joins again; a follower does not look.
    watched: BTreeSet<String>,
    seen: Vec<(String, usize)>,
}

impl Classic {
    pub(super) fn new(instance: Option<String>, topics: Vec<String>) -> Self {
        let (id, owned) = (String::new(), BTreeSet::new());
        let (watched, seen) = (BTreeSet::new(), Vec::new());
        Self { id, instance, topics, owned, generation: -1, phase: Phase::Joins, watched, seen }
    }

    /// Goes on: asks, or looks for the answer. `loses` is whether an answer is lost.
    pub(super) fn beat(&mut self, world: &mut World, loses: bool) {
        match &self.phase {
            Phase::Joins => self.join(world, loses),
            Phase::WaitsToJoin(token) => {
                if let Some(Answer::JoinGroup(response)) = late_answer(world, *token) {
                    self.hear_join(world, &response);
                }
            }
            Phase::Syncs(given) => {
                let given = given.clone();
                self.sync(world, given, loses);
            }
            Phase::WaitsToSync(token) => {
                if let Some(Answer::SyncGroup(response)) = late_answer(world, *token) {
                    self.hear_sync(world, &response);
                }
            }
            Phase::Member if self.seen != self.partitions(world) => {
                self.phase = Phase::Joins;
                self.join(world, loses);
            }
            Phase::Member => self.heartbeat(world, loses),
            Phase::Fenced => {}
        }
    }

    pub(super) fn is_fenced(&self) -> bool {
        matches!(self.phase, Phase::Fenced)
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Member)
    }

    /// Its coordinator was loaded anew: what waited there is lost.
    pub(super) fn lose_coordinator(&mut self) {
        if matches!(self.phase, Phase::WaitsToJoin(_) | Phase::WaitsToSync(_)) {
            self.phase = Phase::Joins;
        }
    }

    pub(super) fn leave(&mut self, world: &mut World) {
        self.owned.clear();
        let identity = MemberIdentity {
            member_id: self.id.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Str::from),
            ..MemberIdentity::default()
        };
        let request =
            LeaveGroupRequest { group_id: GROUP, members: vec![identity], ..LeaveGroupRequest::default() };
        world.ask(5, Request::LeaveGroup(request));
    }

    fn partitions(&self, world: &World) -> Vec<(String, usize)> {
        let known = self.watched.iter().filter_map(|name| Some((name.clone(), world.image.topic(name)?)));
        known.map(|(name, topic)| (name, topic.partitions.len())).collect()
    }

    fn join(&mut self, world: &mut World, loses: bool) {
        self.owned.clear();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let request = join_request(&self.id, self.instance.as_deref(), &topics, &[]);
        let (token, answer) = world.ask(9, Request::JoinGroup(request));
        match answer {
            _ if loses => {}
            Some(Answer::JoinGroup(response)) => self.hear_join(world, &response),
            _ => self.phase = Phase::WaitsToJoin(token),
        }
    }

    fn hear_join(&mut self, world: &World, response: &JoinGroupResponse) {
        self.phase = Phase::Joins;
        match ErrorCode::from_code(response.error_code).unwrap() {
            ErrorCode::None => {
                self.id = response.member_id.to_string();
                self.generation = response.generation_id;
                self.watched =
                    response.members.iter().flat_map(|member| topics_of(&member.metadata)).collect();
                self.seen = self.partitions(world);
                self.phase = Phase::Syncs(self.give(world, response));
            }
            ErrorCode::MemberIdRequired => self.id = response.member_id.to_string(),
            ErrorCode::UnknownMemberId => self.id.clear(),
            ErrorCode::FencedInstanceId => self.phase = Phase::Fenced,
            ErrorCode::RebalanceInProgress => {}
            other => panic!("{other:?}: {response:?}"),
        }
    }

    /// What a leader gives: each topic's partitions in turn to those who read it.
    fn give(&self, world: &World, response: &JoinGroupResponse) -> Vec<(Str, Bytes)> {
        let mut given: BTreeMap<&Str, BTreeMap<String, Vec<i32>>> =
            response.members.iter().map(|member| (&member.member_id, BTreeMap::new())).collect();
        for topic in world.image.topics().iter() {
            let name = topic.name.as_str();
            let readers: Vec<&Str> = response
                .members
                .iter()
                .filter(|member| topics_of(&member.metadata).iter().any(|read| read == name))
                .map(|member| &member.member_id)
                .collect();
            for (partition, reader) in topic.partitions.keys().zip(readers.iter().cycle()) {
                given.get_mut(reader).unwrap().entry(name.to_owned()).or_default().push(*partition);
            }
        }
        let bytes = |topics: &BTreeMap<String, Vec<i32>>| {
            let topics: Vec<(&str, &[i32])> =
                topics.iter().map(|(name, list)| (name.as_str(), &**list)).collect();
            assignment_bytes(&topics)
        };
        given.iter().map(|(member, topics)| ((*member).clone(), bytes(topics))).collect()
    }

    fn sync(&mut self, world: &mut World, given: Vec<(Str, Bytes)>, loses: bool) {
        let assignments = given.into_iter().map(|(member_id, assignment)| SyncGroupRequestAssignment {
            member_id,
            assignment,
            ..SyncGroupRequestAssignment::default()
        });
        let request = SyncGroupRequest {
            group_id: GROUP,
            generation_id: self.generation,
            member_id: self.id.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Str::from),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        let (token, answer) = world.ask(5, Request::SyncGroup(request));
        match answer {
            _ if loses => {}
            Some(Answer::SyncGroup(response)) => self.hear_sync(world, &response),
            _ => self.phase = Phase::WaitsToSync(token),
        }
    }

    fn hear_sync(&mut self, world: &World, response: &SyncGroupResponse) {
        if response.error_code != 0 {
            return self.hear_error(response.error_code);
        }
        let given = assignment_of(&response.assignment);
        let known = given.iter().filter_map(|(name, list)| Some((world.image.topic(name)?.id, list)));
        self.owned =
            known.flat_map(|(topic, list)| list.iter().map(move |partition| (topic, *partition))).collect();
        self.phase = Phase::Member;
    }

    fn heartbeat(&mut self, world: &mut World, loses: bool) {
        let request = HeartbeatRequest {
            group_id: GROUP,
            generation_id: self.generation,
            member_id: self.id.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Str::from),
            ..HeartbeatRequest::default()
        };
        match world.ask(4, Request::Heartbeat(request)).1 {
            _ if loses => {}
            Some(Answer::Heartbeat(response)) if response.error_code != 0 => {
                self.hear_error(response.error_code);
            }
            Some(Answer::Heartbeat(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    fn hear_error(&mut self, code: i16) {
        self.phase = Phase::Joins;
        match ErrorCode::from_code(code).unwrap() {
            ErrorCode::RebalanceInProgress => {}
            ErrorCode::IllegalGeneration => self.owned.clear(),
            ErrorCode::UnknownMemberId => {
                self.owned.clear();
                self.id.clear();
            }
            ErrorCode::FencedInstanceId => {
                self.owned.clear();
                self.phase = Phase::Fenced;
            }
            other => panic!("{other:?} for {self:?}"),
        }
    }
}

fn late_answer(world: &mut World, token: Token) -> Option<Answer> {
    let at = world.late_answers.iter().position(|(of, _)| *of == token)?;
    Some(world.late_answers.swap_remove(at).1)
}

fn topics_of(metadata: &Bytes) -> Vec<String> {
    let version = i16::from_be_bytes([metadata[0], metadata[1]]);
    let mut decoder = Decoder::new(metadata.slice(2..));
    let subscription = ConsumerProtocolSubscription::decode(&mut decoder, version).unwrap();
    subscription.topics.iter().map(ToString::to_string).collect()
}
