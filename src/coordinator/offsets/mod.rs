//! Committed offsets: by group, topic and partition. Those of an open transaction are pending until its marker.

mod expiry;
mod requests;

use std::collections::{BTreeMap, HashMap};

use crate::protocol::Str;
use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
use crate::types::Uuid;

use super::records::GroupRecord;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: Str,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it expires, where an old client said so; else -1.
    pub expire_timestamp_ms: i64,
    /// The topic's id, all zeros where it was not known.
    pub topic_id: Uuid,
    /// Where its record stands in the log: of two, the later holds.
    record_offset: i64,
}

/// The place of a record that is only now on its way to the log: behind all others.
pub(super) const NEWEST: i64 = i64::MAX;

impl Committed {
    fn new(value: &OffsetCommitValue, record_offset: i64) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.detached(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: value.expire_timestamp,
            topic_id: value.topic_id,
            record_offset,
        }
    }
}

/// The offsets of one group, by topic and partition.
type GroupOffsets = BTreeMap<Str, BTreeMap<i32, Committed>>;

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    groups: HashMap<Str, GroupOffsets>,
    /// By the producer of the open transaction.
    pending: BTreeMap<i64, HashMap<Str, GroupOffsets>>,
}

impl Offsets {
    /// Makes one record hold, `record_offset` being its place in the log.
    pub(super) fn apply(
        &mut self,
        key: &OffsetCommitKey,
        value: Option<&OffsetCommitValue>,
        record_offset: i64,
    ) {
        match value {
            Some(value) => insert(&mut self.groups, key, Committed::new(value, record_offset)),
            None => {
                remove(&mut self.groups, key);
                for groups in self.pending.values_mut() {
                    remove(groups, key);
                }
                self.pending.retain(|_, groups| !groups.is_empty());
            }
        }
    }

    /// Keeps an offset until its transaction ends.
    pub(super) fn apply_pending(
        &mut self,
        producer_id: i64,
        key: &OffsetCommitKey,
        value: &OffsetCommitValue,
        record_offset: i64,
    ) {
        let groups = self.pending.entry(producer_id).or_default();
        insert(groups, key, Committed::new(value, record_offset));
    }

    /// The producer's transaction has ended. An offset that was committed meanwhile without one stays.
    pub(super) fn end_transaction(&mut self, producer_id: i64, commits: bool) {
        let Some(groups) = self.pending.remove(&producer_id) else { return };
        if !commits {
            return;
        }
        for (group_id, topics) in groups {
            let known = self.groups.entry(group_id).or_default();
            for (topic, partitions) in topics {
                let known = known.entry(topic).or_default();
                for (partition, committed) in partitions {
                    let before = known.get(&partition).map(|before| before.record_offset);
                    if before.is_none_or(|before| before < committed.record_offset) {
                        known.insert(partition, committed);
                    }
                }
            }
        }
    }

    /// A committed offset.
    pub(super) fn get(&self, group_id: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group_id)?.get(topic)?.get(&partition)
    }

    /// All offsets of a group.
    pub(super) fn of_group(&self, group_id: &str) -> Option<&GroupOffsets> {
        self.groups.get(group_id)
    }

    /// Whether an open transaction is about to change this offset.
    pub(super) fn is_pending(&self, group_id: &str, topic: &str, partition: i32) -> bool {
        self.pending.values().any(|groups| {
            let topics = groups.get(group_id).and_then(|topics| topics.get(topic));
            topics.is_some_and(|partitions| partitions.contains_key(&partition))
        })
    }

    /// Whether an open transaction is about to change any offset of the group.
    pub(super) fn has_pending(&self, group_id: &str) -> bool {
        self.pending.values().any(|groups| groups.contains_key(group_id))
    }

    /// The tombstones of those offsets of a group that are `chosen` by topic and partition.
    pub(super) fn tombstones(
        &self,
        group_id: &str,
        chosen: impl Fn(&Str, i32, &Committed) -> bool,
    ) -> Vec<GroupRecord> {
        let Some((group, topics)) = self.groups.get_key_value(group_id) else { return Vec::new() };
        let mut tombstones = Vec::new();
        for (topic, partitions) in topics {
            for (partition, _) in partitions.iter().filter(|(at, committed)| chosen(topic, **at, committed)) {
                tombstones.push(tombstone(group, topic, *partition));
            }
        }
        tombstones
    }

    /// The tombstones of all offsets, pending ones included, in these topics.
    pub(super) fn tombstones_of_topics(&self, is_gone: impl Fn(&str) -> bool) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        for groups in std::iter::once(&self.groups).chain(self.pending.values()) {
            for (group, topics) in groups {
                for (topic, partitions) in topics.iter().filter(|(topic, _)| is_gone(topic)) {
                    tombstones.extend(partitions.keys().map(|at| tombstone(group, topic, *at)));
                }
            }
        }
        tombstones
    }
}

fn tombstone(group: &Str, topic: &Str, partition: i32) -> GroupRecord {
    let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition };
    GroupRecord::OffsetCommit(key, None)
}

fn insert(groups: &mut HashMap<Str, GroupOffsets>, key: &OffsetCommitKey, committed: Committed) {
    if let Some(topics) = groups.get_mut(&key.group)
        && let Some(partitions) = topics.get_mut(&key.topic)
    {
        partitions.insert(key.partition, committed);
        return;
    }
    let topics = groups.entry(key.group.detached()).or_default();
    topics.entry(key.topic.detached()).or_default().insert(key.partition, committed);
}

fn remove(groups: &mut HashMap<Str, GroupOffsets>, key: &OffsetCommitKey) {
    let Some(topics) = groups.get_mut(&key.group) else { return };
    if let Some(partitions) = topics.get_mut(&key.topic) {
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
    }
    if topics.is_empty() {
        groups.remove(&key.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> OffsetCommitKey {
        OffsetCommitKey { group: "g".into(), topic: "t".into(), partition }
    }

    fn value(offset: i64) -> OffsetCommitValue {
        OffsetCommitValue { offset, ..OffsetCommitValue::default() }
    }

    #[test]
    fn offsets_of_a_transaction_count_once_it_is_committed_and_not_over_later_ones() {
        let mut offsets = Offsets::default();
        offsets.apply_pending(7, &key(0), &value(10), 100);
        offsets.apply_pending(7, &key(1), &value(10), 101);
        offsets.apply_pending(8, &key(2), &value(10), 102);
        assert!(offsets.is_pending("g", "t", 0) && offsets.get("g", "t", 0).is_none());
        offsets.apply(&key(1), Some(&value(5)), 103);
        offsets.end_transaction(7, true);
        offsets.end_transaction(8, false);
        assert_eq!(offsets.get("g", "t", 0).unwrap().offset, 10);
        assert_eq!(offsets.get("g", "t", 1).unwrap().offset, 5, "committed after the transaction's");
        assert!(offsets.get("g", "t", 2).is_none() && !offsets.has_pending("g"));
    }

    #[test]
    fn a_tombstone_forgets_an_offset_pending_or_not_and_leaves_nothing_behind() {
        let mut offsets = Offsets::default();
        offsets.apply(&key(0), Some(&value(1)), 0);
        offsets.apply_pending(7, &key(0), &value(2), 1);
        offsets.apply(&key(0), None, 2);
        assert!(offsets.groups.is_empty() && offsets.pending.is_empty());
    }
}
