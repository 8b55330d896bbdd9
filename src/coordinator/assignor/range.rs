//! The range assignor: each topic's partitions in consecutive runs, one for each subscriber in the order of
//! members (static members first, by instance id; then the others by member id). The first subscribers get one
//! more where it does not come out even. Nothing is sticky but the order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::types::Uuid;

use super::{GroupSpec, Partitions, Subscriber};

/// A topic that is being handed out.
struct Topic {
    partitions: i32,
    subscribers: i32,
    handed_out: i32,
    served: i32,
}

impl Topic {
    /// The run of the next subscriber.
    fn next_run(&mut self) -> std::ops::Range<i32> {
        let one_more = i32::from(self.served < self.partitions % self.subscribers);
        let start = self.handed_out;
        self.handed_out = start + self.partitions / self.subscribers + one_more;
        self.served += 1;
        start..self.handed_out
    }
}

pub(super) fn assign<'a>(group: &GroupSpec<'a>) -> BTreeMap<&'a str, Partitions> {
    let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
    for id in group.members.values().flat_map(|member| member.topics.iter()) {
        let partitions = group.partition_count(*id);
        let unserved = Topic { partitions, subscribers: 0, handed_out: 0, served: 0 };
        topics.entry(*id).or_insert(unserved).subscribers += 1;
    }
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by(|(id, member), (other_id, other)| order(id, member, other_id, other));
    let mut assignment = BTreeMap::new();
    for (id, member) in members {
        let mut owned = Vec::new();
        for topic in member.topics.iter() {
            let run = topics.get_mut(topic).map(Topic::next_run).unwrap_or_default();
            owned.extend(run.map(|partition| (*topic, partition)));
        }
        assignment.insert(*id, owned.into_iter().collect());
    }
    assignment
}

fn order(id: &str, member: &Subscriber<'_>, other_id: &str, other: &Subscriber<'_>) -> Ordering {
    match (member.instance_id, other.instance_id) {
        (Some(instance), Some(other_instance)) => instance.cmp(other_instance),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => id.cmp(other_id),
    }
}
