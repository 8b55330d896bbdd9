//! What a shard knows: groups and offsets. It changes by records being applied, the same ones whether they were
//! just decided on or are read back from the log; only what a classic group keeps in memory (who is joining) is
//! not in records, as in Kafka.

use std::collections::HashMap;

use crate::protocol::Str;

use super::group::{ClassicGroup, ConsumerGroup, Group};
use super::offsets::{NEWEST, Offsets};
use super::records::GroupRecord;
use super::step::Step;

/// The groups and offsets of one partition.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: HashMap<Str, Group>,
    pub(super) offsets: Offsets,
}

impl State {
    /// Decides on a record: it holds from now on, and is on its way to the log.
    pub(super) fn write(&mut self, step: &mut Step<'_>, record: GroupRecord) {
        self.apply(&record, NEWEST);
        step.effects.records.push(record);
    }

    /// Makes one record hold, `record_offset` being its place in the log. Never fails: what does not fit (a member of no group, say) is passed over, as a
    /// compacted log may have lost what stood before it.
    pub(super) fn apply(&mut self, record: &GroupRecord, record_offset: i64) {
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                if value.is_some() {
                    self.simple_group(&key.group);
                }
                self.offsets.apply(key, value.as_ref(), record_offset);
            }
            GroupRecord::GroupMetadata(key, None) => {
                if matches!(self.groups.get(&key.group), Some(Group::Classic(_))) {
                    self.groups.remove(&key.group);
                }
            }
            GroupRecord::GroupMetadata(key, Some(value)) => {
                let group_id = key.group.detached();
                let group = self.groups.entry(group_id.clone());
                let group =
                    group.or_insert_with(|| Group::Classic(Box::new(ClassicGroup::new(group_id.clone()))));
                // Of a group that is loaded the last record says all: what an earlier one said of members is over.
                if record_offset != NEWEST || !matches!(group, Group::Classic(_)) {
                    *group = Group::Classic(Box::new(ClassicGroup::new(group_id)));
                }
                if let Group::Classic(group) = group {
                    group.apply(value);
                }
            }
            GroupRecord::ForeignGroup { kind, group_id, exists: true } => {
                self.groups.insert(group_id.detached(), Group::Foreign(*kind));
            }
            GroupRecord::ForeignGroup { group_id, exists: false, .. } => {
                if matches!(self.groups.get(group_id), Some(Group::Foreign(_))) {
                    self.groups.remove(group_id);
                }
            }
            GroupRecord::Unread { .. } => {}
            record => ConsumerGroup::apply(&mut self.groups, record),
        }
    }

    /// The group, made as an empty classic one where there is none: who only commits needs no more.
    pub(super) fn simple_group(&mut self, group_id: &Str) -> &mut Group {
        if !self.groups.contains_key(group_id) {
            let group_id = group_id.detached();
            let group = Group::Classic(Box::new(ClassicGroup::new(group_id.clone())));
            self.groups.insert(group_id, group);
        }
        // It is there: it was, or has just been put there.
        self.groups
            .entry(group_id.clone())
            .or_insert_with_key(|id| Group::Classic(Box::new(ClassicGroup::new(id.clone()))))
    }
}
