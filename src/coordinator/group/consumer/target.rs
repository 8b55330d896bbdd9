//! Who should have what: the assignor's result as records.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::coordinator::assignor::{Assignor, AssignorError, GroupSpec, Partitions, Subscriber};
use crate::coordinator::records::GroupRecord;
use crate::coordinator::step::Step;
use crate::protocol::Str;
use crate::types::Uuid;

use super::{ConsumerGroup, DEFAULT_ASSIGNOR, records};

/// What a member reads: names and a pattern.
type Subscription<'a> = (&'a [Str], Option<&'a Str>);

impl ConsumerGroup {
    /// Whether the group has outgrown its target, and the last target is old enough for another.
    pub(super) fn target_is_due(&self, step: &Step<'_>) -> bool {
        let interval_ms = i64::from(self.settings(step).assignment_interval_ms);
        self.assignment_epoch < self.group_epoch
            && (self.assignment_timestamp_ms == 0
                || interval_ms == 0
                || step.now.wall_ms >= self.assignment_timestamp_ms + interval_ms)
    }

    /// The records of a target for the group as it is.
    pub(super) fn next_target(&self, step: &Step<'_>) -> Result<Vec<GroupRecord>, AssignorError> {
        let assigned = self.assignor(step).assign(&self.spec(step))?;
        let mut next = Vec::new();
        let nothing = Partitions::default();
        for id in self.members.keys() {
            let partitions = assigned.get(id.as_str()).unwrap_or(&nothing);
            if self.target(id) != Some(partitions) {
                next.push(records::target(&self.id, id, partitions));
            }
        }
        next.push(records::target_epoch(&self.id, self.group_epoch, step.now.wall_ms));
        Ok(next)
    }

    /// The assignor that most members prefer, else the configured one.
    fn assignor(&self, step: &Step<'_>) -> Assignor {
        let configured = step.settings.consumer_assignors.first().map_or(DEFAULT_ASSIGNOR, String::as_str);
        let preferred = self.preferred_assignor().and_then(|name| Assignor::from_name(name));
        preferred.or_else(|| Assignor::from_name(configured)).unwrap_or(Assignor::Uniform)
    }

    fn spec<'a>(&'a self, step: &Step<'_>) -> GroupSpec<'a> {
        let mut spec = GroupSpec { homogeneous: self.is_homogeneous(), ..GroupSpec::default() };
        // Most members share their subscription with others: looked up once.
        let mut topics_by_subscription: HashMap<Subscription<'a>, Rc<[Uuid]>> = HashMap::new();
        for (id, member) in &self.members {
            let subscription = (&*member.topics, member.pattern());
            let topics = topics_by_subscription.entry(subscription).or_insert_with(|| {
                let topics: BTreeSet<Uuid> = self.topics_of(member, step.image);
                for topic in topics.iter().filter_map(|topic| step.image.topic_by_id(*topic)) {
                    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    spec.partition_counts.insert(topic.id, count);
                }
                topics.into_iter().collect()
            });
            let subscriber = Subscriber {
                instance_id: member.instance_id.as_deref(),
                topics: Rc::clone(topics),
                assigned: self.target(id).unwrap_or(&NOTHING),
            };
            spec.members.insert(id.as_str(), subscriber);
        }
        spec
    }
}

/// For members without a target.
static NOTHING: std::sync::LazyLock<Partitions> = std::sync::LazyLock::new(Partitions::default);
