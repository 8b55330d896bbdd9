//! What the members of the simulated groups do: join, assign as leaders, sync, beat, commit, start again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use klamm::coordinator::{Answer, ClassicGroup, Group, Request};
use klamm::protocol::messages::heartbeat_request::HeartbeatRequest;
use klamm::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use klamm::protocol::messages::join_group_response::JoinGroupResponse;
use klamm::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use klamm::protocol::{ErrorCode, Str};

use super::{HEARTBEAT_MS, Member, Phase, Place, REBALANCE_MS, SESSION_MS, World};

impl World {
    pub(super) fn act(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        if let Some(answer) = member.mailbox.pop_front() {
            return self.read(number, answer);
        }
        match member.phase {
            Phase::Out => self.join(number),
            Phase::Joining(_) | Phase::Syncing(_) => {}
            Phase::In => self.live(number),
        }
    }

    fn join(&mut self, number: u64) {
        let member = &self.members[&number];
        let protocol = |name: &&'static str| JoinGroupRequestProtocol {
            name: Str::from(*name),
            metadata: subscription(&member.topics),
            ..JoinGroupRequestProtocol::default()
        };
        let request = JoinGroupRequest {
            group_id: member.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            protocol_type: Str::from("consumer"),
            protocols: member.protocols.iter().map(protocol).collect(),
            ..JoinGroupRequest::default()
        };
        let version = if member.instance.is_some() { 5 + self.pick(5) as i16 } else { self.pick(10) as i16 };
        let token = self.ask(number, version, Request::JoinGroup(request));
        self.wait(number, Phase::Joining(token));
    }

    /// The answer may be in the mailbox already.
    fn wait(&mut self, number: u64, phase: Phase) {
        if let Some(member) = self.members.get_mut(&number) {
            member.phase = phase;
        }
    }

    fn live(&mut self, number: u64) {
        let member = &self.members[&number];
        if member.seen.as_ref().is_some_and(|seen| *seen != self.counts(member)) {
            // The leader has noticed that topics have changed.
            return self.join(number);
        }
        let commits = self.pick(3) == 0;
        if commits {
            return self.commit(number);
        }
        let member = &self.members[&number];
        if self.now.timer_ms < member.beats_at_ms {
            return;
        }
        let request = HeartbeatRequest {
            group_id: member.group.clone(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            ..HeartbeatRequest::default()
        };
        let beats_at_ms = self.now.timer_ms + HEARTBEAT_MS;
        self.ask(number, 4, Request::Heartbeat(request));
        if let Some(member) = self.members.get_mut(&number) {
            member.beats_at_ms = beats_at_ms;
        }
    }

    fn commit(&mut self, number: u64) {
        let stale = self.pick(5) == 0;
        let offset = self.now.timer_ms;
        let member = &self.members[&number];
        let Some((topic, partition)) = member.owned.first().cloned() else { return };
        let generation = member.generation - i32::from(stale);
        let group_id = member.group.clone();
        let asked = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            ..OffsetCommitRequestPartition::default()
        };
        let request = OffsetCommitRequest {
            group_id: group_id.clone(),
            generation_id_or_member_epoch: generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: topic.clone(),
                partitions: vec![asked],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let (member_id, exists) = (member.id.clone(), self.image.topic(&topic).is_some());
        if !exists {
            return;
        }
        let before =
            self.classic(&group_id).map(|group| (group.generation, group.members.contains_key(&member_id)));
        self.ask(number, 9, Request::OffsetCommit(request));
        let answer = self.members.get(&number).and_then(|member| member.mailbox.back().cloned());
        let Some(Answer::OffsetCommit(answer)) = answer else { panic!("a commit is answered at once") };
        if answer.topics[0].partitions[0].error_code == 0 {
            assert_eq!(before, Some((generation, true)), "seed {}: an old commit was taken", self.seed);
            self.committed.insert((group_id, topic, partition), offset);
            self.tally.taken += 1;
        } else if stale {
            self.tally.stale_refused += 1;
        }
    }

    pub(super) fn classic(&self, group_id: &str) -> Option<&ClassicGroup> {
        match self.shard.group(group_id) {
            Some(Group::Classic(group)) => Some(group),
            _ => None,
        }
    }

    /// How many partitions the topics have that the members of its group read.
    fn counts(&self, leader: &Member) -> BTreeMap<Str, i32> {
        let known = leader.seen.iter().flat_map(BTreeMap::keys);
        known.map(|topic| (topic.clone(), self.partitions_of(topic))).collect()
    }

    pub(super) fn partitions_of(&self, topic: &str) -> i32 {
        self.image.topic(topic).map_or(0, |topic| topic.partitions.len() as i32)
    }

    fn read(&mut self, number: u64, answer: Answer) {
        match answer {
            Answer::JoinGroup(joined) => self.joined(number, joined),
            Answer::SyncGroup(synced) => {
                let Some(member) = self.members.get_mut(&number) else { return };
                match ErrorCode::from_wire(synced.error_code) {
                    ErrorCode::None => {
                        member.phase = Phase::In;
                        let (generation, owned) = places(&synced.assignment);
                        let seed = self.seed;
                        assert_eq!(
                            generation.unwrap_or(member.generation),
                            member.generation,
                            "seed {seed}: an assignment of another generation"
                        );
                        member.owned = owned;
                        self.note(number);
                    }
                    code => self.start_again(number, code),
                }
            }
            Answer::Heartbeat(beat) => match ErrorCode::from_wire(beat.error_code) {
                ErrorCode::None => {}
                code => self.start_again(number, code),
            },
            Answer::OffsetCommit(answer) => {
                match ErrorCode::from_wire(answer.topics[0].partitions[0].error_code) {
                    // A stale commit was sent on purpose.
                    ErrorCode::None | ErrorCode::IllegalGeneration => {}
                    code => self.start_again(number, code),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// A partition belongs to one member in a generation.
    fn note(&mut self, number: u64) {
        let member = &self.members[&number];
        let who = member.instance.clone().unwrap_or_else(|| member.id.clone()).to_string();
        for place in &member.owned {
            let key = (member.group.clone(), member.generation, place.clone());
            let before = self.given.insert(key, who.clone());
            assert!(
                before.is_none() || before.as_ref() == Some(&who),
                "seed {}: {place:?} was given to {before:?} and to {who} in generation {}",
                self.seed,
                member.generation
            );
        }
    }

    fn start_again(&mut self, number: u64, code: ErrorCode) {
        let Some(member) = self.members.get_mut(&number) else { return };
        match code {
            // Another process has its instance: it ends.
            ErrorCode::FencedInstanceId => {
                self.tally.fenced += 1;
                self.members.remove(&number);
                return;
            }
            // Of members that were loaded from the log only the protocol that they had agreed on is known: one that
            // does not speak it cannot join before they have joined again. Clients give up.
            ErrorCode::InconsistentGroupProtocol => {
                self.tally.inconsistent += 1;
                self.members.remove(&number);
                return;
            }
            ErrorCode::UnknownMemberId => member.id = Str::empty(),
            ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::CoordinatorNotAvailable => {}
            code => panic!("seed {}: {code}", self.seed),
        }
        if matches!(member.phase, Phase::In | Phase::Joining(_) | Phase::Syncing(_)) {
            member.phase = Phase::Out;
            member.mailbox.clear();
        }
    }

    fn joined(&mut self, number: u64, joined: JoinGroupResponse) {
        let Some(member) = self.members.get_mut(&number) else { return };
        match ErrorCode::from_wire(joined.error_code) {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                (member.id, member.phase) = (joined.member_id, Phase::Out);
                return;
            }
            code => return self.start_again(number, code),
        }
        let chosen = joined.protocol_name.as_deref().unwrap_or_default();
        assert!(member.protocols.contains(&chosen), "seed {}: {chosen} is not spoken by all", self.seed);
        (member.id, member.generation) = (joined.member_id.clone(), joined.generation_id);
        member.seen = None;
        let leads = joined.leader == joined.member_id && !joined.members.is_empty();
        let assignments = if leads { self.assign(number, &joined) } else { Vec::new() };
        // A static leader that came back leaves the assignment as it is, and looks after the topics (KIP-814).
        if let Some(member) = self.members.get_mut(&number) {
            member.has_inherited = joined.skip_assignment;
        }
        let assignments = if joined.skip_assignment { Vec::new() } else { assignments };
        let member = &self.members[&number];
        let request = SyncGroupRequest {
            group_id: member.group.clone(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            assignments,
            ..SyncGroupRequest::default()
        };
        let token = self.ask(number, 5, Request::SyncGroup(request));
        self.wait(number, Phase::Syncing(token));
    }

    /// Every partition of what the members read, to one of those who read it.
    fn assign(&mut self, number: u64, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let reads: Vec<(Str, Vec<Str>)> =
            joined.members.iter().map(|it| (it.member_id.clone(), topics_of(&it.metadata))).collect();
        let topics: BTreeSet<&Str> = reads.iter().flat_map(|(_, topics)| topics).collect();
        let mut given: BTreeMap<Str, String> = BTreeMap::new();
        let mut turn = 0;
        for topic in &topics {
            let readers: Vec<&Str> =
                reads.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
            for partition in 0..self.partitions_of(topic) {
                let to = readers[turn % readers.len()];
                let places = given.entry(to.clone()).or_insert_with(|| format!("{} ", joined.generation_id));
                places.push_str(&format!("{topic}:{partition} "));
                turn += 1;
            }
        }
        let seen = topics.iter().map(|topic| ((*topic).clone(), self.partitions_of(topic))).collect();
        if let Some(member) = self.members.get_mut(&number) {
            member.seen = Some(seen);
        }
        given
            .into_iter()
            .map(|(member_id, places)| SyncGroupRequestAssignment {
                member_id,
                assignment: Bytes::from(places),
                ..SyncGroupRequestAssignment::default()
            })
            .collect()
    }
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

fn topics_of(subscription: &[u8]) -> Vec<Str> {
    let count = i32::from_be_bytes(subscription[2..6].try_into().unwrap());
    let mut rest = &subscription[6..];
    let mut topics = Vec::new();
    for _ in 0..count {
        let len = i16::from_be_bytes(rest[..2].try_into().unwrap()) as usize;
        topics.push(Str::from(std::str::from_utf8(&rest[2..2 + len]).unwrap()));
        rest = &rest[2 + len..];
    }
    topics
}

/// The generation that an assignment was made for, and its partitions: `7 a:0 b:1`. Nothing is for any.
fn places(assignment: &[u8]) -> (Option<i32>, Vec<Place>) {
    let text = std::str::from_utf8(assignment).unwrap();
    let mut words = text.split_whitespace();
    let generation = words.next().map(|generation| generation.parse().unwrap());
    let place = |place: &str| {
        let (topic, partition) = place.split_once(':').unwrap();
        (Str::from(topic), partition.parse().unwrap())
    };
    (generation, words.map(place).collect())
}
