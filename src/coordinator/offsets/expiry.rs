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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::config::GroupSettings;
    use crate::coordinator::{GroupRecord, Now, Shard, Surroundings};
    use crate::metadata::Image;
    use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
    use crate::protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
    use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
    use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
    use crate::types::{Offset, ProducerId, Uuid};

    const DAY_MS: i64 = 24 * 3600 * 1000;

    fn commit(
        shard: &mut Shard,
        group: &str,
        at_ms: i64,
        expire_timestamp: i64,
        producer: Option<ProducerId>,
    ) {
        let key = OffsetCommitKey { group: group.into(), topic: "t".into(), partition: 0 };
        let value =
            OffsetCommitValue { commit_timestamp: at_ms, expire_timestamp, ..OffsetCommitValue::default() };
        shard.replay(Offset(0), &GroupRecord::OffsetCommit(key, Some(value)), producer);
    }

    /// A group that came to its state at `at_ms`, with a member that reads `topic`.
    fn group(shard: &mut Shard, group: &str, at_ms: i64, topic: Option<&str>) {
        let member = topic.map(|topic| {
            let mut subscription = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
            subscription.extend(topic.as_bytes());
            subscription.extend([0xff; 4]);
            MemberMetadata {
                member_id: "m".into(),
                subscription: Bytes::from(subscription),
                ..MemberMetadata::default()
            }
        });
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            protocol: member.is_some().then(|| "range".into()),
            current_state_timestamp: at_ms,
            members: member.into_iter().collect(),
            ..GroupMetadataValue::default()
        };
        let key = GroupMetadataKey { group: group.into() };
        shard.replay(Offset(0), &GroupRecord::GroupMetadata(key, Some(value)), None);
    }

    /// Looks for what has expired, `days` after the epoch. The default retention is seven days.
    fn expire(shard: &mut Shard, days: i64) {
        let (image, settings) = (Arc::new(Image::default()), GroupSettings::default());
        let mut draw_id = || Uuid::ZERO;
        for act in [Shard::loaded, Shard::expire] {
            let now = Now { wall_ms: days * DAY_MS, timer_ms: 0 };
            let (image, settings, draw_id) = (&image, &settings, &mut draw_id);
            act(shard, Surroundings { now, image, settings, record_bytes_max: 1 << 20, draw_id });
        }
    }

    #[test]
    fn offsets_expire_by_kafkas_rules_for_each_state_and_take_empty_groups_along() {
        let mut shard = Shard::new();
        commit(&mut shard, "simple", DAY_MS, -1, None);
        group(&mut shard, "empty", 3 * DAY_MS, None);
        commit(&mut shard, "empty", 0, -1, None);
        group(&mut shard, "reads it", 0, Some("t"));
        commit(&mut shard, "reads it", 0, -1, None);
        group(&mut shard, "reads another", 0, Some("u"));
        commit(&mut shard, "reads another", 4 * DAY_MS, -1, None);
        commit(&mut shard, "old client", 0, 2 * DAY_MS, None);
        commit(&mut shard, "in a transaction", 0, -1, Some(ProducerId(1)));
        group(&mut shard, "nothing left", 0, None);
        let left = |shard: &Shard| {
            let all = ["simple", "empty", "reads it", "reads another", "old client"];
            all.into_iter().filter(|group| shard.committed(group, "t", 0).is_some()).collect::<Vec<_>>()
        };
        expire(&mut shard, 1);
        assert_eq!(left(&shard), ["simple", "empty", "reads it", "reads another", "old client"]);
        assert!(shard.group("nothing left").is_none(), "neither members nor offsets");
        expire(&mut shard, 2);
        assert_eq!(left(&shard), ["simple", "empty", "reads it", "reads another"]);
        expire(&mut shard, 8);
        assert_eq!(left(&shard), ["empty", "reads it", "reads another"]);
        assert!(shard.group("simple").is_none());
        expire(&mut shard, 10);
        assert_eq!(
            left(&shard),
            ["reads it", "reads another"],
            "ten days after it became empty at day three"
        );
        expire(&mut shard, 11);
        assert_eq!(left(&shard), ["reads it"], "a topic that nobody in the group reads");
        assert!(shard.group("reads another").is_some(), "it has a member");
        expire(&mut shard, 100);
        assert_eq!(left(&shard), ["reads it"]);
        assert!(shard.group("in a transaction").is_some(), "its offsets are about to come");
    }
}
