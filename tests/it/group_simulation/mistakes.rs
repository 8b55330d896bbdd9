//! Mistakes of a coordinator, each put back between it and the world: that a run finds it is what makes a run that
//! finds nothing worth something.

use klamm::coordinator::{Answer, ClassicState, Effects, Request};
use klamm::protocol::messages::heartbeat_request::HeartbeatRequest;
use klamm::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use klamm::protocol::{ErrorCode, Str};

use super::{Asked, Client, GROUPS, Shard, Token, World, run};

/// How many seeds a mistake may take to be found.
const SEEDS_TO_FIND: u64 = 100;

/// A mistake that is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    TakesOldCommits,
    StoresOldAssignments,
    GivesAnAssignmentTwice,
    AnswersBeforeTheLeader,
    HidesRebalances,
    NeverEndsSessions,
    ForgetsInstances,
    IgnoresWhatMembersSpeak,
    KeepsOffsetsOfDeletedTopics,
    LosesRecords,
    ReplaysOutOfOrder,
}

impl World {
    /// What a coordinator that does not look closely takes a request for.
    pub(super) fn mistaken_request(&mut self, mut request: Request) -> Request {
        let Some(mistake) = self.mistake else { return request };
        let generation_of = |group_id: &str| self.classic(group_id).map(|group| group.generation);
        match (mistake, &mut request) {
            (Mistake::TakesOldCommits, Request::OffsetCommit(commit)) => {
                let known = generation_of(&commit.group_id);
                commit.generation_id_or_member_epoch = known.unwrap_or(commit.generation_id_or_member_epoch);
            }
            (Mistake::StoresOldAssignments, Request::SyncGroup(sync)) => {
                sync.generation_id = generation_of(&sync.group_id).unwrap_or(sync.generation_id);
            }
            (Mistake::IgnoresWhatMembersSpeak, Request::JoinGroup(join)) => {
                let metadata = join.protocols[0].metadata.clone();
                for name in ["range", "cooperative-sticky"] {
                    if !join.protocols.iter().any(|known| known.name == *name) {
                        let (name, metadata) = (Str::from(name), metadata.clone());
                        join.protocols.push(JoinGroupRequestProtocol {
                            name,
                            metadata,
                            ..Default::default()
                        });
                    }
                }
            }
            (Mistake::ForgetsInstances, Request::JoinGroup(join)) => join.group_instance_id = None,
            (Mistake::ForgetsInstances, Request::SyncGroup(sync)) => sync.group_instance_id = None,
            (Mistake::ForgetsInstances, Request::Heartbeat(heartbeat)) => heartbeat.group_instance_id = None,
            (Mistake::ForgetsInstances, Request::OffsetCommit(commit)) => commit.group_instance_id = None,
            (Mistake::ForgetsInstances, Request::LeaveGroup(leave)) => {
                leave.members.iter_mut().for_each(|member| member.group_instance_id = None);
            }
            _ => {}
        }
        request
    }

    /// Whether this follower does not wait for its leader.
    pub(super) fn answers_early(&self, request: &Request) -> bool {
        let Request::SyncGroup(sync) = request else { return false };
        self.mistake == Some(Mistake::AnswersBeforeTheLeader)
            && sync.assignments.is_empty()
            && self
                .classic(&sync.group_id)
                .is_some_and(|group| group.state == ClassicState::CompletingRebalance)
    }

    /// What becomes of what was decided.
    pub(super) fn mistaken_effects(&mut self, mut effects: Effects) -> Effects {
        let loses = self.mistake == Some(Mistake::LosesRecords);
        if loses && !effects.records.is_empty() && self.pick(20) == 0 {
            effects.records.pop();
        }
        match self.mistake {
            Some(Mistake::HidesRebalances) => {
                for (_, answer) in &mut effects.answers {
                    if let Answer::Heartbeat(beat) = answer
                        && beat.error_code == ErrorCode::RebalanceInProgress.code()
                    {
                        beat.error_code = 0;
                    }
                }
            }
            Some(Mistake::GivesAnAssignmentTwice) => {
                let mut given = effects.answers.iter_mut().filter_map(|(_, answer)| match answer {
                    Answer::SyncGroup(synced) if synced.error_code == 0 => Some(synced),
                    _ => None,
                });
                if let (Some(first), Some(second)) = (given.next(), given.next()) {
                    second.assignment = first.assignment.clone();
                }
            }
            _ => {}
        }
        effects
    }

    /// Whoever vanished counts as there.
    pub(super) fn keep_sessions(&mut self) {
        if self.mistake != Some(Mistake::NeverEndsSessions) {
            return;
        }
        let mut beats = Vec::new();
        for group in GROUPS.iter().filter_map(|group_id| self.classic(group_id)) {
            beats.extend(group.members.values().map(|member| HeartbeatRequest {
                group_id: group.id.clone(),
                generation_id: group.generation,
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                ..HeartbeatRequest::default()
            }));
        }
        for beat in beats {
            let request = Request::Heartbeat(beat);
            let asked = Asked { token: Token(0), client: Client::default(), version: 4, request };
            self.call(|shard: &mut Shard, around| shard.handle(around, asked));
        }
    }
}

#[test]
fn mistakes_of_a_coordinator_are_found() {
    let mistakes = [
        Mistake::TakesOldCommits,
        Mistake::StoresOldAssignments,
        Mistake::GivesAnAssignmentTwice,
        Mistake::AnswersBeforeTheLeader,
        Mistake::HidesRebalances,
        Mistake::NeverEndsSessions,
        Mistake::ForgetsInstances,
        Mistake::IgnoresWhatMembersSpeak,
        Mistake::KeepsOffsetsOfDeletedTopics,
        Mistake::LosesRecords,
        Mistake::ReplaysOutOfOrder,
    ];
    for mistake in mistakes {
        let is_found = |seed: &u64| std::panic::catch_unwind(|| run(*seed, Some(mistake))).is_err();
        let found = (0..SEEDS_TO_FIND).find(is_found);
        let seed = found.unwrap_or_else(|| panic!("{mistake:?} was not found in {SEEDS_TO_FIND} seeds"));
        println!("{mistake:?} was found by seed {seed}");
    }
}
