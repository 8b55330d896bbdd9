//! One member's next step towards its target: give back what it should not have; only then come to the new
//! epoch; take what nobody else has, and wait for the rest.

use std::collections::BTreeSet;

use crate::coordinator::assignor::Partitions;
use crate::metadata::Image;
use crate::types::Uuid;

use super::ConsumerGroup;
use super::member::{Member, MemberState};
use super::owned::Owned;

/// What a step depends on.
pub(super) struct Reconciliation<'a> {
    pub(super) group: &'a ConsumerGroup,
    pub(super) member: &'a Member,
    /// The topics that it reads and that exist.
    pub(super) topics: &'a BTreeSet<Uuid>,
    /// Its subscription has just changed.
    pub(super) has_changed: bool,
    /// What it says that it owns; `None` where it does not say.
    pub(super) owned: Option<&'a Partitions>,
}

impl ConsumerGroup {
    /// The topics that a member reads and that exist.
    pub(super) fn topics_of(&self, member: &Member, image: &Image) -> BTreeSet<Uuid> {
        let resolved = member.pattern().and_then(|pattern| self.resolved.get(pattern));
        let by_pattern = resolved.map_or(&[][..], |resolved| &resolved.topics);
        let names = member.topics.iter().chain(by_pattern);
        names.filter_map(|name| image.topic(name)).map(|topic| topic.id).collect()
    }
}

impl Reconciliation<'_> {
    /// The member as it stands after the step; `None` where nothing changes.
    pub(super) fn step(&self) -> Option<Member> {
        let member = self.member;
        let after = match member.state {
            MemberState::Stable if member.epoch != self.group.assignment_epoch => self.next(),
            MemberState::Stable if self.has_changed => self.revoke_unsubscribed()?,
            MemberState::Stable => return None,
            MemberState::UnrevokedPartitions if !self.has_any_of(&member.pending_revocation) => self.next(),
            MemberState::UnrevokedPartitions if self.has_changed => self.revoke_unsubscribed()?,
            MemberState::UnrevokedPartitions => return None,
            MemberState::UnreleasedPartitions | MemberState::Unknown => self.next(),
        };
        (after != *member).then_some(after)
    }

    /// Whether the member says that it still has one of these, or does not say.
    fn has_any_of(&self, partitions: &Owned) -> bool {
        match self.owned {
            None => true,
            Some(owned) => owned.flat().any(|(topic, partition)| partitions.contains(topic, partition)),
        }
    }

    /// Within its epoch: what it no longer reads is to be given back at once.
    fn revoke_unsubscribed(&self) -> Option<Member> {
        let member = self.member;
        let reads = |(topic, _, _): &(Uuid, i32, i32)| self.topics.contains(topic);
        if member.assigned.iter().all(|entry| reads(&entry)) {
            return None;
        }
        let mut after = member.clone();
        after.assigned = member.assigned.iter().filter(reads).collect();
        let unread = member.assigned.iter().filter(|entry| !reads(entry));
        let pending: Owned = member.pending_revocation.iter().chain(unread).collect();
        after.move_to(member.epoch);
        if self.has_any_of(&pending) {
            after.state = MemberState::UnrevokedPartitions;
            after.pending_revocation = pending;
        }
        Some(after)
    }

    /// Towards the target.
    fn next(&self) -> Member {
        let member = self.member;
        let nothing = Partitions::default();
        let target = self.group.target(&member.id).unwrap_or(&nothing);
        let target: BTreeSet<(Uuid, i32)> =
            target.flat().filter(|(topic, _)| self.topics.contains(topic)).collect();
        let stays = |(topic, partition, _): &(Uuid, i32, i32)| target.contains(&(*topic, *partition));
        let pending_revocation: Owned = member.assigned.iter().filter(|entry| !stays(entry)).collect();
        let mut after = member.clone();
        if !pending_revocation.is_empty() && self.has_any_of(&pending_revocation) {
            after.assigned = member.assigned.iter().filter(stays).collect();
            after.pending_revocation = pending_revocation;
            after.state = MemberState::UnrevokedPartitions;
            let epoch =
                if member.state == MemberState::Unknown { self.group.assignment_epoch } else { member.epoch };
            after.move_to(epoch);
            return after;
        }
        let missing = target.iter().copied();
        let missing = missing.filter(|(topic, partition)| !member.assigned.contains(*topic, *partition));
        let (others, free): (Vec<_>, Vec<_>) = missing.partition(|(topic, partition)| {
            self.group.is_owned(*topic, *partition) && !member.pending_revocation.contains(*topic, *partition)
        });
        let epoch = self.group.assignment_epoch;
        let taken = free.into_iter().map(|(topic, partition)| (topic, partition, epoch));
        after.assigned = member.assigned.iter().filter(stays).chain(taken).collect();
        after.pending_revocation = Owned::default();
        after.state = if others.is_empty() { MemberState::Stable } else { MemberState::UnreleasedPartitions };
        after.move_to(epoch);
        after
    }
}
