//! Records to state. A tombstone for what is not there is passed over: a compacted log may begin with it.

use std::collections::HashMap;

use crate::coordinator::assignor::Partitions;
use crate::coordinator::group::Group;
use crate::coordinator::records::GroupRecord;
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_current_member_assignment_value::ConsumerGroupCurrentMemberAssignmentValue;
use crate::protocol::messages::consumer_group_member_metadata_value::ConsumerGroupMemberMetadataValue;
use crate::protocol::messages::consumer_group_regular_expression_value::ConsumerGroupRegularExpressionValue;
use crate::protocol::messages::consumer_group_target_assignment_member_value::ConsumerGroupTargetAssignmentMemberValue;

use super::ConsumerGroup;
use super::member::{LEAVE, Member, sorted};
use super::owned::Owned;
use super::regex::Resolved;

impl ConsumerGroup {
    /// Makes one of its records hold. Takes all groups: the first record makes the group, its tombstone takes it
    /// away.
    pub(in crate::coordinator) fn apply(groups: &mut HashMap<Str, Group>, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroupMetadata(key, None) => {
                if matches!(groups.get(&key.group_id), Some(Group::Consumer(_))) {
                    groups.remove(&key.group_id);
                }
            }
            GroupRecord::ConsumerGroupMetadata(key, Some(value)) => {
                if let Some(group) = find(groups, &key.group_id, true) {
                    group.group_epoch = value.epoch;
                    group.metadata_hash = value.metadata_hash;
                }
            }
            GroupRecord::ConsumerGroupPartitionMetadata(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.has_partition_metadata = value.is_some();
                }
            }
            GroupRecord::ConsumerGroupMemberMetadata(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.apply_member(&key.member_id, value.as_ref());
                }
            }
            GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.assignment_epoch = value.as_ref().map_or(-1, |value| value.assignment_epoch);
                    group.assignment_timestamp_ms =
                        value.as_ref().map_or(0, |value| value.assignment_timestamp);
                }
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.apply_target(&key.member_id, value.as_ref());
                }
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.apply_standing(&key.member_id, value.as_ref());
                }
            }
            GroupRecord::ConsumerGroupRegularExpression(key, value) => {
                if let Some(group) = find(groups, &key.group_id, value.is_some()) {
                    group.apply_regex(&key.regular_expression, value.as_ref());
                }
            }
            GroupRecord::OffsetCommit(..)
            | GroupRecord::GroupMetadata(..)
            | GroupRecord::ForeignGroup { .. }
            | GroupRecord::Unread { .. } => {}
        }
    }

    fn apply_member(&mut self, member_id: &Str, value: Option<&ConsumerGroupMemberMetadataValue>) {
        let before = self.members.remove(member_id);
        if let Some(member) = &before {
            self.uncount(member);
        }
        let Some(value) = value else { return };
        let mut member = before.unwrap_or_else(|| Box::new(Member::new(member_id.detached())));
        member.describe_by(value);
        self.count(member);
    }

    fn apply_standing(&mut self, member_id: &Str, value: Option<&ConsumerGroupCurrentMemberAssignmentValue>) {
        let before = self.members.remove(member_id);
        if let Some(member) = &before {
            self.uncount(member);
        }
        match (before, value) {
            (None, None) => {}
            (before, Some(value)) => {
                let mut member = before.unwrap_or_else(|| Box::new(Member::new(member_id.detached())));
                member.stand_at(value);
                self.count(member);
            }
            (Some(mut member), None) => {
                (member.epoch, member.previous_epoch) = (LEAVE, LEAVE);
                (member.assigned, member.pending_revocation) = (Owned::default(), Owned::default());
                self.count(member);
            }
        }
    }

    fn apply_target(&mut self, member_id: &Str, value: Option<&ConsumerGroupTargetAssignmentMemberValue>) {
        let Some(value) = value else {
            self.targets.remove(member_id);
            return;
        };
        let topics = value.topic_partitions.iter();
        let partitions: Partitions = topics
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)))
            .collect();
        match self.targets.get_mut(member_id) {
            Some(target) => *target = partitions,
            None => {
                let id = self.members.get_key_value(member_id).map(|(id, _)| id.clone());
                self.targets.insert(id.unwrap_or_else(|| member_id.detached()), partitions);
            }
        }
    }

    fn apply_regex(&mut self, regex: &Str, value: Option<&ConsumerGroupRegularExpressionValue>) {
        if let Some(before) = self.resolved.remove(regex) {
            for topic in &before.topics {
                self.topics.change(topic, |readers| readers.by_regex = readers.by_regex.saturating_sub(1));
            }
        }
        let Some(value) = value else { return };
        let resolved = Resolved {
            topics: sorted(value.topics.iter().map(Str::detached).collect()),
            version: value.version,
            timestamp_ms: value.timestamp,
        };
        for topic in &resolved.topics {
            self.topics.change(topic, |readers| readers.by_regex += 1);
        }
        self.resolved.insert(regex.detached(), resolved);
    }

    /// Takes a member in, with all that follows from it.
    fn count(&mut self, member: Box<Member>) {
        for topic in &member.topics {
            self.topics.change(topic, |readers| readers.by_name += 1);
        }
        if let Some(assignor) = &member.assignor {
            self.assignors.add(assignor);
        }
        if let Some(pattern) = member.pattern() {
            self.patterns.add(pattern);
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if member.classic.is_some() {
            self.classic_members += 1;
        }
        for protocol in member.classic_protocols() {
            self.classic_protocols.add(&protocol.name);
        }
        for (topic, partition, _) in member.assigned.iter().chain(member.pending_revocation.iter()) {
            let epoch = self.partition_epochs.entry((topic, partition)).or_insert(member.epoch);
            *epoch = member.epoch.max(*epoch);
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Takes back what [`ConsumerGroup::count`] did. What meanwhile belongs to somebody else stays.
    fn uncount(&mut self, member: &Member) {
        for topic in &member.topics {
            self.topics.change(topic, |readers| readers.by_name = readers.by_name.saturating_sub(1));
        }
        if let Some(assignor) = &member.assignor {
            self.assignors.remove(assignor);
        }
        if let Some(pattern) = member.pattern() {
            self.patterns.remove(pattern);
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(&member.id)
        {
            self.static_members.remove(instance_id);
        }
        if member.classic.is_some() {
            self.classic_members = self.classic_members.saturating_sub(1);
        }
        for protocol in member.classic_protocols() {
            self.classic_protocols.remove(&protocol.name);
        }
        for (topic, partition, _) in member.assigned.iter().chain(member.pending_revocation.iter()) {
            if self.partition_epochs.get(&(topic, partition)) == Some(&member.epoch) {
                self.partition_epochs.remove(&(topic, partition));
            }
        }
    }
}

/// The group, if it is there; made where the record says that it is. What was there under its id then, a group
/// that merely committed offsets, is replaced.
fn find<'a>(
    groups: &'a mut HashMap<Str, Group>,
    group_id: &Str,
    is_there: bool,
) -> Option<&'a mut ConsumerGroup> {
    if is_there && !matches!(groups.get(group_id), Some(Group::Consumer(_))) {
        let id = group_id.detached();
        groups.insert(id.clone(), Group::Consumer(Box::new(ConsumerGroup::new(id))));
    }
    match groups.get_mut(group_id) {
        Some(Group::Consumer(group)) => Some(group),
        _ => None,
    }
}
