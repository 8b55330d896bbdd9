//! Consumers as clients are: each keeps what it believes to own, and does what answers tell it.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as Assigned,
};
use crate::protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition as Owned,
};
use crate::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::protocol::{Decoder, Encoder, ErrorCode, Message, Str};
use crate::types::Uuid;

use super::world::{GROUP, World};

/// Topic and partition.
pub(super) type Partition = (Uuid, i32);

/// xorshift: the same seed, the same run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        dice
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What a consumer reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscription {
    pub(super) names: Vec<String>,
    pub(super) pattern: Option<String>,
}

/// A consumer of the new protocol.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) epoch: i32,
    pub(super) owned: BTreeSet<Partition>,
    /// Told, and not yet taken up.
    pub(super) told: Option<BTreeSet<Partition>>,
    pub(super) subscription: Subscription,
    /// The next heartbeat says everything.
    pub(super) says_all: bool,
    /// What it owns has changed since it last said so.
    pub(super) owned_changed: bool,
}

impl Consumer {
    pub(super) fn new(id: String, instance: Option<String>, subscription: Subscription) -> Self {
        Self {
            id,
            instance,
            epoch: 0,
            owned: BTreeSet::new(),
            told: None,
            subscription,
            says_all: true,
            owned_changed: false,
        }
    }

    /// The next heartbeat.
    pub(super) fn request(&mut self) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP,
            member_id: self.id.as_str().into(),
            member_epoch: self.epoch,
            instance_id: self.instance.as_deref().map(Str::from),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if self.says_all || self.epoch == 0 {
            request.rebalance_timeout_ms = 60_000;
            request.subscribed_topic_names = Some(self.subscription.names.iter().map(Str::from).collect());
            request.subscribed_topic_regex = Some(self.subscription.pattern.as_deref().unwrap_or("").into());
        }
        if self.says_all || self.owned_changed || self.epoch == 0 {
            request.topic_partitions = Some(wire(&self.owned));
        }
        (self.says_all, self.owned_changed) = (false, false);
        request
    }

    /// Leaves: what it owned is given up first.
    pub(super) fn leave(&mut self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        self.owned.clear();
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP,
            member_id: self.id.as_str().into(),
            member_epoch: epoch,
            instance_id: self.instance.as_deref().map(Str::from),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Does what the answer says; assignments are taken up by [`Consumer::take_up`].
    pub(super) fn hear(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        match ErrorCode::from_code(response.error_code).unwrap() {
            ErrorCode::None => {
                self.epoch = response.member_epoch;
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    let all = topics.flat_map(|topic| {
                        topic.partitions.iter().map(|partition| (topic.topic_id, *partition))
                    });
                    self.told = Some(all.collect());
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                self.begin_anew();
            }
            ErrorCode::UnreleasedInstanceId => {
                assert_eq!(self.epoch, 0);
                self.says_all = true;
            }
            other => panic!("{other:?}: {response:?} for {self:?}"),
        }
    }

    /// No answer came: whether the request did, nobody knows. Where it said what is owned, what was told before and is
    /// not taken up yet may have been given to others on the strength of that: it is not taken up any more. (A client
    /// that does so all the same reads until its next heartbeat what another one has; its commits are refused.)
    pub(super) fn hear_nothing(&mut self, said_what_it_owns: bool) {
        self.says_all = true;
        if said_what_it_owns {
            self.told = None;
        }
    }

    pub(super) fn begin_anew(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.told = None;
        self.says_all = true;
    }

    pub(super) fn take_up(&mut self) {
        if let Some(told) = self.told.take() {
            self.owned_changed |= told != self.owned;
            self.owned = told;
        }
    }
}

fn wire(partitions: &BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for (topic_id, partition) in partitions {
        match topics.last_mut() {
            Some(last) if last.topic_id == *topic_id => last.partitions.push(*partition),
            _ => topics.push(TopicPartitions {
                topic_id: *topic_id,
                partitions: vec![*partition],
                ..TopicPartitions::default()
            }),
        }
    }
    topics
}

fn versioned<M: Message>(message: &M, version: i16) -> Bytes {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.extend_from_slice(&encoder.into_bytes().unwrap());
    bytes.freeze()
}

/// A classic consumer's JoinGroup, with the topics that it reads and the partitions that it has.
pub(super) fn join_request(
    member: &str,
    instance: Option<&str>,
    topics: &[&str],
    owned: &[(&str, &[i32])],
) -> JoinGroupRequest {
    let owned = owned
        .iter()
        .map(|(topic, partitions)| Owned { topic: Str::from(*topic), partitions: partitions.to_vec() });
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
        owned_partitions: owned.collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: versioned(&subscription, 1),
        ..JoinGroupRequestProtocol::default()
    };
    JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        group_instance_id: instance.map(Str::from),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// What a leader gives to a member.
pub(super) fn assignment_bytes(partitions: &[(&str, &[i32])]) -> Bytes {
    let topics = partitions
        .iter()
        .map(|(topic, partitions)| Assigned { topic: Str::from(*topic), partitions: partitions.to_vec() });
    versioned(&ConsumerProtocolAssignment { assigned_partitions: topics.collect(), ..Default::default() }, 1)
}

/// The other way round.
pub(super) fn assignment_of(bytes: &Bytes) -> Vec<(String, Vec<i32>)> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let version = i16::from_be_bytes([bytes[0], bytes[1]]);
    let assignment =
        ConsumerProtocolAssignment::decode(&mut Decoder::new(bytes.slice(2..)), version).unwrap();
    let topics = assignment.assigned_partitions.into_iter();
    topics.map(|topic| (topic.topic.to_string(), topic.partitions)).collect()
}

/// The topics that a subscription stands for now.
pub(super) fn reads(subscription: &Subscription, world: &World) -> BTreeSet<Uuid> {
    let topics = world.image.topics().iter().filter(|topic| {
        let name = topic.name.as_str();
        subscription.names.iter().any(|other| other == name)
            || subscription.pattern.as_deref().is_some_and(|pattern| matches(pattern, name))
    });
    topics.map(|topic| topic.id).collect()
}

/// The patterns of the simulation.
pub(super) const PATTERNS: [&str; 3] = ["a-.*", ".*", "[bc].*"];

fn matches(pattern: &str, name: &str) -> bool {
    match pattern {
        "a-.*" => name.starts_with("a-"),
        ".*" => true,
        "[bc].*" => name.starts_with(['b', 'c']),
        other => panic!("{other}"),
    }
}
