//! Mistakes of a coordinator of consumer groups, put back one by one: a run of the simulation finds each.

use std::collections::HashMap;

use crate::coordinator::Request;
use crate::coordinator::group::Group;
use crate::coordinator::group::consumer::ConsumerGroup;

use super::simulation::Run;
use super::world::{GROUP, World};

/// How many seeds a mistake may take to be found.
const SEEDS_TO_FIND: u64 = 100;

/// A mistake that is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A partition is handed out while its owner has yet to give it back.
    HandsOutTooSoon,
    /// A member that says nothing of what it owns counts as having given everything back.
    BelievesInReturns,
    /// A target misses a partition.
    LeavesOneOut,
    /// Groups do not hear of topics.
    OverlooksTopics,
    /// A commit of somebody who is no member is taken for that of one who is.
    TakesCommitsOfStrangers,
    LosesRecords,
    ReplaysOutOfOrder,
}

impl World {
    /// What a coordinator that does not look closely takes a request for.
    pub(super) fn mistaken(&self, mut request: Request) -> Request {
        match (self.mistake, &mut request, self.consumer_group()) {
            (Some(Mistake::BelievesInReturns), Request::ConsumerGroupHeartbeat(beat), _)
                if beat.member_epoch > 0 =>
            {
                beat.topic_partitions = Some(Vec::new());
            }
            (Some(Mistake::TakesCommitsOfStrangers), Request::OffsetCommit(commit), Some(group)) => {
                let knows = group.members.contains_key(&commit.member_id);
                if let Some(member) = group.members.values().next().filter(|_| !knows) {
                    commit.member_id = member.id.clone();
                    commit.generation_id_or_member_epoch = member.epoch;
                }
            }
            _ => {}
        }
        request
    }

    fn group_mut(&mut self) -> Option<&mut ConsumerGroup> {
        match self.shard.group_mut(&GROUP) {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }

    pub(super) fn overlook_owners(&mut self) {
        if self.mistake == Some(Mistake::HandsOutTooSoon)
            && let Some(group) = self.group_mut()
        {
            group.partition_epochs.clear();
        }
    }

    pub(super) fn remember_owners(&mut self) {
        let mistake = self.mistake;
        let Some(group) = self.group_mut() else { return };
        match mistake {
            Some(Mistake::HandsOutTooSoon) => {
                let mut epochs = HashMap::new();
                for member in group.members.values() {
                    let held = member.assigned.iter().chain(member.pending_revocation.iter());
                    epochs.extend(held.map(|(topic, partition, _)| ((topic, partition), member.epoch)));
                }
                group.partition_epochs = epochs;
            }
            Some(Mistake::LeavesOneOut) => {
                if let Some(target) = group.targets.values_mut().find(|target| !target.is_empty()) {
                    *target = target.flat().skip(1).collect();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn mistakes_of_a_coordinator_of_consumer_groups_are_found() {
    let mistakes = [
        Mistake::HandsOutTooSoon,
        Mistake::BelievesInReturns,
        Mistake::LeavesOneOut,
        Mistake::OverlooksTopics,
        Mistake::TakesCommitsOfStrangers,
        Mistake::LosesRecords,
        Mistake::ReplaysOutOfOrder,
    ];
    for mistake in mistakes {
        let is_found =
            |seed: &u64| std::panic::catch_unwind(|| Run::new(*seed, Some(mistake)).run()).is_err();
        let found = (0..SEEDS_TO_FIND).find(is_found);
        let seed = found.unwrap_or_else(|| panic!("{mistake:?} was not found in {SEEDS_TO_FIND} seeds"));
        println!("{mistake:?} was found by seed {seed}");
    }
}
