//! One partition of `__consumer_offsets`, coordinated: requests, time and the cluster's changes in, records and
//! answers out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::metadata::{Image, Topic};
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::types::{Offset, ProducerId};

use super::exchange::{Answer, Asked, Effects, Refusal, Request};
use super::group::Group;
use super::offsets::Committed;
use super::records::GroupRecord;
use super::state::State;
use super::step::{Step, Surroundings};
use super::timers::Timers;

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Shard {
    state: State,
    timers: Timers,
}

impl Shard {
    /// A shard that has loaded nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a record of the log hold that stands at `offset` there. `producer_id` is that of the transaction that
    /// it is part of: it counts from [`Shard::end_transaction`] on.
    pub fn replay(&mut self, offset: Offset, record: &GroupRecord, producer_id: Option<ProducerId>) {
        match (record, producer_id) {
            (GroupRecord::OffsetCommit(key, Some(value)), Some(producer_id)) => {
                self.state.simple_group(&key.group);
                self.state.offsets.apply_pending(producer_id.0, key, value, offset.0);
            }
            _ => self.state.apply(record, offset.0),
        }
    }

    /// The marker of a transaction.
    pub fn end_transaction(&mut self, producer_id: ProducerId, commits: bool) {
        self.state.offsets.end_transaction(producer_id.0, commits);
    }

    /// Everything has been replayed: members are given their time from now on.
    pub fn loaded(&mut self, around: Surroundings<'_>) -> Effects {
        self.step(around, |state, step| {
            for group in state.groups.values_mut() {
                if let Group::Classic(group) = group {
                    group.loaded(step);
                }
            }
            state.consumer_groups_loaded(step);
        })
    }

    /// Answers a request, now or in the effects of a later call.
    pub fn handle(&mut self, around: Surroundings<'_>, asked: Asked) -> Effects {
        self.step(around, |state, step| state.handle(step, asked))
    }

    /// When [`Shard::tick`] is due next.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_deadline_ms()
    }

    /// Does the first thing that is due; `None` where nothing is. Each call's effects are one batch.
    pub fn tick(&mut self, around: Surroundings<'_>) -> Option<Effects> {
        let due = self.timers.pop_due(around.now.timer_ms)?;
        Some(self.step(around, |state, step| match state.groups.get_mut(&due.group_id) {
            Some(Group::Classic(group)) => group.timer(step, &due.timer),
            Some(Group::Consumer(_)) => state.consumer_group_timer(step, &due),
            Some(Group::Foreign(_)) | None => {}
        }))
    }

    /// Removes offsets whose time is over, and groups that nothing is left of.
    pub fn expire(&mut self, around: Surroundings<'_>) -> Effects {
        self.step(around, State::expire_offsets)
    }

    /// The cluster has changed.
    pub fn follow(&mut self, around: Surroundings<'_>, changes: &TopicChanges) -> Effects {
        self.step(around, |state, step| {
            state.forget_topics(step, &changes.gone);
            state.consumer_groups_follow(step, &changes.changed);
        })
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.state.groups.len()
    }

    /// A group: for tests and for what is shown of a shard.
    #[must_use]
    pub fn group(&self, group_id: &str) -> Option<&Group> {
        self.state.groups.get(group_id)
    }

    /// A group, for tests that put a mistake into it.
    #[cfg(test)]
    pub(in crate::coordinator) fn group_mut(&mut self, group_id: &str) -> Option<&mut Group> {
        self.state.groups.get_mut(group_id)
    }

    /// A committed offset.
    #[must_use]
    pub fn committed(&self, group_id: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.state.offsets.get(group_id, topic, partition)
    }

    fn step(&mut self, around: Surroundings<'_>, act: impl FnOnce(&mut State, &mut Step<'_>)) -> Effects {
        let mut effects = Effects::default();
        let Surroundings { now, image, settings, record_bytes_max, draw_id } = around;
        let mut step = Step {
            now,
            image,
            settings,
            record_bytes_max,
            draw_id,
            timers: &mut self.timers,
            effects: &mut effects,
        };
        act(&mut self.state, &mut step);
        effects
    }
}

impl State {
    fn handle(&mut self, step: &mut Step<'_>, asked: Asked) {
        let Asked { token, client, version, request } = asked;
        let answer = match request {
            Request::JoinGroup(request) => return self.join_group(step, token, &client, version, &request),
            Request::SyncGroup(request) => return self.sync_group(step, token, &request),
            Request::Heartbeat(request) => Answer::Heartbeat(self.heartbeat(step, &request)),
            Request::LeaveGroup(request) => Answer::LeaveGroup(self.leave_group(step, &request)),
            Request::OffsetCommit(request) => {
                Answer::OffsetCommit(self.commit_offsets(step, version, &request))
            }
            Request::OffsetFetch { group, require_stable } => {
                Answer::OffsetFetch(self.fetch_offsets(&group, require_stable))
            }
            Request::OffsetDelete(request) => Answer::OffsetDelete(self.delete_offsets(step, &request)),
            Request::DescribeGroups(groups) => Answer::DescribeGroups(
                groups.iter().map(|group_id| self.describe_group(version, group_id)).collect(),
            ),
            Request::ListGroups { states, types } => Answer::ListGroups(self.list_groups(&states, &types)),
            Request::DeleteGroups(groups) => Answer::DeleteGroups(
                groups.iter().map(|group_id| self.delete_group(step, group_id)).collect(),
            ),
            Request::ConsumerGroupHeartbeat(request) => {
                let answered = self.consumer_group_heartbeat(step, &client, version, &request);
                Answer::ConsumerGroupHeartbeat(answered.unwrap_or_else(refused_heartbeat))
            }
            Request::ConsumerGroupDescribe(groups) => Answer::ConsumerGroupDescribe(
                groups.iter().map(|group_id| self.describe_consumer_group(step, group_id)).collect(),
            ),
        };
        step.effects.answer(token, answer);
    }
}

fn refused_heartbeat(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: refusal.code.code(),
        error_message: refusal.message,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// What became of topics from one image to the next, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicChanges {
    /// Made, deleted, made anew, or given partitions.
    pub changed: Vec<Str>,
    /// Deleted, be it to make room for another of the same name.
    pub gone: BTreeSet<Str>,
}

impl TopicChanges {
    /// What differs in `after`.
    #[must_use]
    pub fn between(before: &Image, after: &Image) -> Self {
        let is_same = |topic: &Arc<Topic>, twin: &Arc<Topic>| {
            Arc::ptr_eq(twin, topic) || twin.id == topic.id && twin.partitions.len() == topic.partitions.len()
        };
        let name = |topic: &Arc<Topic>| Str::from(topic.name.as_str());
        let gone: BTreeSet<Str> =
            before.topics().iter().filter(|topic| after.topic_by_id(topic.id).is_none()).map(name).collect();
        let differs =
            |topic: &&Arc<Topic>| before.topic(topic.name.as_str()).is_none_or(|twin| !is_same(topic, twin));
        let mut changed: BTreeSet<Str> = after.topics().iter().filter(differs).map(name).collect();
        changed.extend(gone.iter().cloned());
        Self { changed: changed.into_iter().collect(), gone }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}
