//! The uniform assignor where members subscribe to different topics. Members keep what they have and still
//! subscribe to; what is left goes to the least loaded subscribers, topic by topic; then partitions move from
//! the most to the least loaded subscribers of each topic, until a round of all topics moves none.

mod balancer;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::Uuid;

use super::{GroupSpec, Partitions};
use balancer::Balancer;

/// Rounds over all topics, at most. Few inputs need more than two.
const ROUNDS_MAX: usize = 16;

/// A topic under way: who subscribes to it and who owns which partition, by the members' indices.
struct Topic {
    id: Uuid,
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

/// An assignment under way. `loads[member]` is how many partitions the member has in `topics`.
struct Plan {
    topics: Vec<Topic>,
    loads: Vec<usize>,
}

pub(super) fn assign<'a>(group: &GroupSpec<'a>) -> BTreeMap<&'a str, Partitions> {
    let mut plan = Plan::new(group);
    let mut balancer = Balancer::default();
    plan.hand_out_the_rest(&mut balancer);
    plan.balance(&mut balancer);
    let mut owned: Vec<BTreeMap<Uuid, BTreeSet<i32>>> = vec![BTreeMap::new(); group.members.len()];
    for topic in &plan.topics {
        for (partition, owner) in (0..).zip(&topic.owners) {
            if let Some(sets) = owner.and_then(|owner| owned.get_mut(owner)) {
                sets.entry(topic.id).or_default().insert(partition);
            }
        }
    }
    group.members.keys().zip(owned).map(|(id, sets)| (*id, Partitions::from(sets))).collect()
}

impl Plan {
    /// What members have and still subscribe to. The topics come in the order in which they are handed out.
    fn new(group: &GroupSpec<'_>) -> Self {
        let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
        let mut loads = vec![0; group.members.len()];
        for (index, member) in group.members.values().enumerate() {
            for id in member.topics.iter() {
                let partitions = usize::try_from(group.partition_count(*id)).unwrap_or(0);
                let topic = topics.entry(*id).or_insert_with(|| Topic {
                    id: *id,
                    subscribers: Vec::new(),
                    owners: vec![None; partitions],
                });
                topic.subscribers.push(index);
                for partition in member.assigned.of(*id) {
                    let at = usize::try_from(*partition).ok();
                    if let Some(owner @ None) = at.and_then(|at| topic.owners.get_mut(at)) {
                        *owner = Some(index);
                        loads[index] += 1;
                    }
                }
            }
        }
        let mut topics: Vec<_> = topics.into_values().collect();
        topics.sort_by(Topic::order);
        Self { topics, loads }
    }

    fn hand_out_the_rest(&mut self, balancer: &mut Balancer) {
        for topic in &mut self.topics {
            if topic.owners.iter().all(Option::is_some) {
                continue;
            }
            balancer.start(&topic.subscribers, &self.loads);
            for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
                let member = balancer.next_least_loaded(&self.loads);
                *owner = Some(member);
                self.loads[member] += 1;
            }
        }
    }

    fn balance(&mut self, balancer: &mut Balancer) {
        let shared: Vec<usize> =
            (0..self.topics.len()).filter(|at| self.topics[*at].subscribers.len() >= 2).collect();
        let mut last_moved = None;
        for _ in 0..ROUNDS_MAX {
            for at in &shared {
                if last_moved == Some(*at) {
                    return;
                }
                if self.topics[*at].balance(&mut self.loads, balancer) > 0 || last_moved.is_none() {
                    last_moved = Some(*at);
                }
            }
        }
    }
}

impl Topic {
    /// Topics with the most partitions for each subscriber first, then those with the fewest subscribers.
    fn order(&self, other: &Self) -> Ordering {
        let (partitions, subscribers) = (self.owners.len(), self.subscribers.len());
        let (other_partitions, other_subscribers) = (other.owners.len(), other.subscribers.len());
        (other_partitions * subscribers)
            .cmp(&(partitions * other_subscribers))
            .then(subscribers.cmp(&other_subscribers))
            .then_with(|| halves(self.id).cmp(&halves(other.id)))
    }

    /// Moves partitions from the most to the least loaded subscribers, and says how many. Of each owner, those
    /// of the highest numbers go first.
    fn balance(&mut self, loads: &mut [usize], balancer: &mut Balancer) -> usize {
        if balancer.start(&self.subscribers, loads) <= 1 {
            return 0;
        }
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(partition);
            }
        }
        let mut moved = 0;
        while !balancer.is_balanced() {
            let Some((from, partition)) = next_to_give(&mut owned, loads, balancer) else { break };
            let to = balancer.next_least_loaded(loads);
            if balancer.is_balanced() {
                break;
            }
            self.owners[partition] = Some(to);
            loads[from] -= 1;
            loads[to] += 1;
            moved += 1;
        }
        moved
    }
}

/// The most loaded member that still has a partition to give, and that partition.
fn next_to_give(
    owned: &mut BTreeMap<usize, Vec<usize>>,
    loads: &[usize],
    balancer: &mut Balancer,
) -> Option<(usize, usize)> {
    loop {
        let member = balancer.next_most_loaded(loads)?;
        match owned.get_mut(&member).and_then(Vec::pop) {
            Some(partition) => return Some((member, partition)),
            None => balancer.exclude_most_loaded(),
        }
    }
}

/// Java compares ids by their halves, as signed numbers.
fn halves(id: Uuid) -> (i64, i64) {
    let number = i128::from_be_bytes(id.0);
    #[allow(clippy::cast_possible_truncation, reason = "the halves")]
    ((number >> 64) as i64, number as i64)
}
