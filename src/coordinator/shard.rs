//! One partition of `__consumer_offsets`, coordinated: requests, time and the cluster's changes in, records and
//! answers out.

use std::sync::Arc;

use crate::metadata::{Image, Topic};
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::{ErrorCode, Str};

use super::exchange::{Answer, Asked, Effects, Refusal, Request};
use super::group::Group;
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

    /// Makes a record of the log hold.
    pub fn replay(&mut self, record: &GroupRecord) {
        self.state.apply(record);
    }

    /// Everything has been replayed: members are given their time from now on.
    pub fn loaded(&mut self, around: Surroundings<'_>) -> Effects {
        self.step(around, |state, step| state.consumer_groups_loaded(step))
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
        Some(self.step(around, |state, step| match state.groups.get(&due.group_id) {
            Some(Group::Consumer(_)) => state.consumer_group_timer(step, &due),
            Some(Group::Classic(_) | Group::Foreign(_)) | None => {}
        }))
    }

    /// The cluster has changed since `before`.
    pub fn follow(&mut self, around: Surroundings<'_>, before: &Image) -> Effects {
        let topics = changed_topics(before, around.image);
        self.step(around, |state, step| state.consumer_groups_follow(step, &topics))
    }

    fn step(&mut self, around: Surroundings<'_>, act: impl FnOnce(&mut State, &mut Step<'_>)) -> Effects {
        let mut effects = Effects::default();
        let Surroundings { now, image, settings, draw_id } = around;
        let mut step =
            Step { now, image, settings, draw_id, timers: &mut self.timers, effects: &mut effects };
        act(&mut self.state, &mut step);
        effects
    }
}

impl State {
    fn handle(&mut self, step: &mut Step<'_>, asked: Asked) {
        let Asked { token, client, request, .. } = asked;
        let answer = match request {
            Request::ConsumerGroupHeartbeat(request) => {
                let answered = self.consumer_group_heartbeat(step, &client, &request);
                Answer::ConsumerGroupHeartbeat(answered.unwrap_or_else(refused_heartbeat))
            }
            Request::ConsumerGroupDescribe(groups) => Answer::ConsumerGroupDescribe(
                groups.iter().map(|group_id| self.describe_consumer_group(step, group_id)).collect(),
            ),
            _ => Answer::ConsumerGroupHeartbeat(refused_heartbeat(ErrorCode::UnsupportedVersion.into())),
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

/// The names of topics that were made, deleted, made anew or given partitions.
fn changed_topics(before: &Image, after: &Image) -> Vec<Str> {
    let differs = |topic: &Arc<Topic>, other: &Image| {
        other.topic(topic.name.as_str()).is_none_or(|twin| {
            !Arc::ptr_eq(twin, topic)
                && (twin.id != topic.id || twin.partitions.len() != topic.partitions.len())
        })
    };
    let changed = after.topics().iter().filter(|topic| differs(topic, before));
    let gone = before.topics().iter().filter(|topic| after.topic(topic.name.as_str()).is_none());
    changed.chain(gone).map(|topic| Str::from(topic.name.as_str())).collect()
}
