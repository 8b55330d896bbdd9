//! Offsets that nobody wants any more: those whose time is over, and those of deleted topics.

use std::collections::BTreeSet;

use crate::coordinator::group::{ClassicGroup, ClassicState, Group};
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::protocol::Str;

use super::Committed;

/// From when on an offset's time of retention runs.
#[derive(Debug, Clone, Copy)]
enum Since {
    /// Its commit.
    Commit,
    /// The group's last change of state.
    State(i64),
}

impl State {
    /// Removes what has expired, and groups that have neither members nor offsets.
    pub(in crate::coordinator) fn expire_offsets(&mut self, step: &mut Step<'_>) {
        let group_ids: Vec<Str> = self.groups.keys().cloned().collect();
        for group_id in group_ids {
            self.expire_group(step, &group_id);
        }
    }

    fn expire_group(&mut self, step: &mut Step<'_>, group_id: &Str) {
        let Some(group) = self.groups.get(group_id) else { return };
        let (now_ms, retention_ms) = (step.now.wall_ms, step.settings.offsets_retention_ms);
        if let Some(since) = retention_of(group) {
            let is_expired = |topic: &Str, partition: i32, committed: &Committed| {
                is_over(committed, since, now_ms, retention_ms)
                    && !group.is_subscribed_to(topic)
                    && !self.offsets.is_pending(group_id, topic, partition)
            };
            for tombstone in self.offsets.tombstones(group_id, is_expired) {
                self.write(step, tombstone);
            }
        }
        let is_empty = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => {
                group.state == ClassicState::Empty && group.pending_members.is_empty()
            }
            Some(Group::Consumer(group)) => group.is_empty(),
            Some(Group::Foreign(_)) | None => false,
        };
        if is_empty && self.offsets.of_group(group_id).is_none() && !self.offsets.has_pending(group_id) {
            self.forget_group(step, group_id);
        }
    }

    /// Topics of these names are gone, and their offsets with them.
    pub(in crate::coordinator) fn forget_topics(&mut self, step: &mut Step<'_>, gone: &BTreeSet<Str>) {
        if gone.is_empty() {
            return;
        }
        for tombstone in self.offsets.tombstones_of_topics(|topic| gone.contains(topic)) {
            self.write(step, tombstone);
        }
    }
}

/// From when on the offsets of a group may expire; `None` while they may not.
fn retention_of(group: &Group) -> Option<Since> {
    match group {
        Group::Classic(group) => retention_of_classic(group),
        Group::Consumer(_) => Some(Since::Commit),
        Group::Foreign(_) => None,
    }
}

fn retention_of_classic(group: &ClassicGroup) -> Option<Since> {
    match group.state {
        // Nobody but a client that only commits.
        _ if group.protocol_type.is_none() => Some(Since::Commit),
        ClassicState::Empty => Some(group.state_timestamp_ms.map_or(Since::Commit, Since::State)),
        ClassicState::Stable if group.is_of_consumers() && group.subscribed_topics.is_some() => {
            Some(Since::Commit)
        }
        _ => None,
    }
}

fn is_over(committed: &Committed, since: Since, now_ms: i64, retention_ms: i64) -> bool {
    if committed.expire_timestamp_ms != -1 {
        return now_ms >= committed.expire_timestamp_ms;
    }
    let since_ms = match since {
        Since::Commit => committed.commit_timestamp_ms,
        Since::State(timestamp_ms) => timestamp_ms,
    };
    now_ms.saturating_sub(since_ms) >= retention_ms
}
