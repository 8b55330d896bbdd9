//! A consumer group (KIP-848): members say what they read, the coordinator assigns and reconciles step by step.
//!
//! Three epochs: the **group epoch** counts changes of members, subscriptions and topics; the **assignment
//! epoch** is the group epoch that the target assignment was made for; a **member's epoch** is the assignment
//! epoch that it has come to. A partition goes to a member only when nobody else has it.
//!
//! ```text
//! group epoch > assignment epoch   Assigning     the next heartbeat makes the target, not too soon after the last
//! a member is not there yet        Reconciling
//! all are                          Stable
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `heartbeat` | join, and stay a member |
//! | `leaving` | leave, or be thrown out; timers |
//! | `target` | who should have what |
//! | `reconcile` | one member's next step towards it |
//! | `regexes` | patterns of topics, looked up again as topics come |
//! | `classic_members` | members that use the classic protocol |
//! | `conversion` | a classic group becomes a consumer group, and the other way round |
//! | `replay` | records to state, the only way in which state changes |

mod classic_members;
mod commits;
mod conversion;
mod counts;
mod describe;
mod embedded;
mod heartbeat;
mod leaving;
mod member;
mod metadata_hash;
mod owned;
mod re2;
mod reconcile;
mod records;
mod regex;
mod regexes;
mod replay;
mod target;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::config::ConsumerGroupSettings;
use crate::coordinator::assignor::Partitions;
use crate::coordinator::records::GroupRecord;
use crate::coordinator::step::Step;
use crate::metadata::{ConfigResource, ConfigResourceType};
use crate::protocol::Str;
use crate::types::Uuid;

use counts::{Counts, Topics};
use member::Member;
use regex::Resolved;

/// The assignor where no member prefers one and none is configured.
const DEFAULT_ASSIGNOR: &str = "uniform";

/// A consumer group. What is in records is changed by [`ConsumerGroup::apply`] alone.
#[derive(Debug)]
pub struct ConsumerGroup {
    /// Its id.
    pub id: Str,
    group_epoch: i32,
    metadata_hash: i64,
    assignment_epoch: i32,
    assignment_timestamp_ms: i64,
    members: BTreeMap<Str, Box<Member>>,
    targets: BTreeMap<Str, Partitions>,
    static_members: BTreeMap<Str, Str>,
    /// The topics that members read, by their names or by patterns that were looked up.
    topics: Topics,
    assignors: Counts,
    patterns: Counts,
    resolved: BTreeMap<Str, Resolved>,
    classic_members: usize,
    classic_protocols: Counts,
    /// The epoch of the member that has a partition, be it that it has yet to give it back.
    partition_epochs: HashMap<(Uuid, i32), i32>,
    /// An older Kafka's record of the topics' partitions is still there.
    has_partition_metadata: bool,
    /// Its topics are to be looked at again: not in records.
    metadata_is_stale: bool,
    /// There may be topics that its patterns have not been looked up in: not in records.
    topics_are_new: bool,
}

impl ConsumerGroup {
    /// A group without members.
    #[must_use]
    pub fn new(id: Str) -> Self {
        Self {
            id,
            group_epoch: 1,
            metadata_hash: metadata_hash::OF_NOTHING,
            assignment_epoch: 1,
            assignment_timestamp_ms: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            static_members: BTreeMap::new(),
            topics: Topics::default(),
            assignors: Counts::default(),
            patterns: Counts::default(),
            resolved: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: Counts::default(),
            partition_epochs: HashMap::new(),
            has_partition_metadata: false,
            metadata_is_stale: true,
            topics_are_new: true,
        }
    }

    /// Its state, as Kafka names it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.group_epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a member reads this topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// The tombstones of everything that is recorded of the group.
    #[must_use]
    pub fn tombstones(&self) -> Vec<GroupRecord> {
        let members = self.members.keys();
        let mut tombstones: Vec<_> =
            members.clone().map(|member| records::standing_tombstone(&self.id, member)).collect();
        tombstones.extend(members.clone().map(|member| records::target_tombstone(&self.id, member)));
        tombstones.push(records::target_epoch_tombstone(&self.id));
        tombstones.extend(members.map(|member| records::member_tombstone(&self.id, member)));
        tombstones.extend(self.resolved.keys().map(|regex| records::regex_tombstone(&self.id, regex)));
        tombstones.push(records::partition_metadata_tombstone(&self.id));
        tombstones.push(records::epoch_tombstone(&self.id));
        tombstones
    }

    /// The member that holds this instance id.
    fn static_member(&self, instance_id: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance_id)?).map(|member| &**member)
    }

    /// What a member should own.
    fn target(&self, member_id: &str) -> Option<&Partitions> {
        self.targets.get(member_id)
    }

    /// Whether somebody has this partition, be it that it has yet to give it back.
    fn is_owned(&self, topic: Uuid, partition: i32) -> bool {
        self.partition_epochs.contains_key(&(topic, partition))
    }

    /// Whether all members read the same topics, by names or by one pattern that stands for all of them.
    fn is_homogeneous(&self) -> bool {
        let count = self.members.len();
        match self.patterns.iter().next() {
            None => self.topics.readers().all(|readers| readers.by_name == count),
            Some((_, subscribers)) if subscribers == count => {
                self.topics.readers().all(|readers| readers.by_regex == 1 && readers.by_name == 0)
            }
            Some(_) => false,
        }
    }

    /// The assignor that most members prefer; where it is undecided, as it comes out in Kafka.
    fn preferred_assignor(&self) -> Option<&Str> {
        // "uniform" beats "range" there: the last of the maxima, by name.
        self.assignors.iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
    }

    /// The settings of the group.
    fn settings(&self, step: &Step<'_>) -> ConsumerGroupSettings {
        let resource = ConfigResource::new(ConfigResourceType::Group, self.id.as_str());
        step.settings.consumer_group(&step.image.configs(&resource))
    }
}
