//! Who gets which partitions, decided by the leader of a classic group: range, roundrobin, sticky and
//! cooperative-sticky, by Kafka's names and to the same ends.
//!
//! Every partition of a topic that a member subscribes to gets exactly one owner among those members; with
//! cooperative-sticky one that must first be given up gets none in this round. Members and topics are taken in an order
//! of their own, so that the same question has one answer.

mod sticky;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A partition, by its topic's name and its number.
pub(crate) type Part = (Arc<str>, i32);

/// How many partitions each topic has.
pub(crate) type Layout = BTreeMap<Arc<str>, i32>;

/// A way of sharing partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic is cut into runs, one a member; the same members get the same partitions of every topic.
    Range,
    /// All partitions of all topics are dealt one by one.
    RoundRobin,
    /// As even as can be, moving as little as can be.
    Sticky,
    /// The same, and members keep reading what they keep while the rest moves.
    CooperativeSticky,
}

impl Assignor {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// By Kafka's name, or by that of Java's class.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let class = name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name);
        match class {
            "range" | "RangeAssignor" => Some(Self::Range),
            "roundrobin" | "RoundRobinAssignor" => Some(Self::RoundRobin),
            "sticky" | "StickyAssignor" => Some(Self::Sticky),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Self::CooperativeSticky),
            _ => None,
        }
    }

    /// Whether members may keep partitions while the group rebalances.
    #[must_use]
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// What each of `members` gets, in the order of `members`.
    pub(crate) fn assign(self, members: &[Subscriber], layout: &Layout) -> Vec<Vec<Part>> {
        let order = in_order(members);
        match self {
            Self::Range => range(members, &order, layout),
            Self::RoundRobin => round_robin(members, &order, layout),
            Self::Sticky => sticky::assign(members, &order, layout),
            Self::CooperativeSticky => {
                sticky::without_what_moves(members, sticky::assign(members, &order, layout))
            }
        }
    }
}

/// What a member said when it joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// What it had before.
    pub(crate) owned: Vec<Part>,
    /// In which generation it had that; -1 where it does not say.
    pub(crate) generation: i32,
}

/// Members in Kafka's order: static ones first, by their instance ids, then the others, by their member ids.
fn in_order(members: &[Subscriber]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&members[a], &members[b]);
        match (&a.instance_id, &b.instance_id) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.member_id.cmp(&b.member_id),
        }
    });
    order
}

fn range(members: &[Subscriber], order: &[usize], layout: &Layout) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); members.len()];
    for (topic, &count) in layout {
        let subscribed: Vec<usize> =
            order.iter().copied().filter(|&member| members[member].topics.contains(topic)).collect();
        let mut left = count.max(0);
        let mut first = 0;
        for (nth, &member) in subscribed.iter().enumerate() {
            // The first ones get one more where it does not come out even.
            let behind = i32::try_from(subscribed.len() - nth).unwrap_or(i32::MAX);
            let take = left / behind + i32::from(left % behind != 0);
            shares[member].extend((first..first + take).map(|partition| (Arc::clone(topic), partition)));
            first += take;
            left -= take;
        }
    }
    shares
}

fn round_robin(members: &[Subscriber], order: &[usize], layout: &Layout) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); members.len()];
    let mut turn = 0;
    for (topic, &count) in layout {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for partition in 0..count {
            while !members[order[turn % order.len()]].topics.contains(topic) {
                turn += 1;
            }
            shares[order[turn % order.len()]].push((Arc::clone(topic), partition));
            turn += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn member(id: &str, topics: &[&str]) -> Subscriber {
        Subscriber {
            member_id: id.to_owned(),
            topics: topics.iter().map(|&topic| topic.into()).collect(),
            generation: -1,
            ..Default::default()
        }
    }

    pub(super) fn layout(topics: &[(&str, i32)]) -> Layout {
        topics.iter().map(|&(topic, count)| (topic.into(), count)).collect()
    }

    fn text(shares: &[Vec<Part>]) -> Vec<String> {
        let one = |share: &Vec<Part>| {
            share.iter().map(|(topic, partition)| format!("{topic}{partition}")).collect::<Vec<_>>().join(" ")
        };
        shares.iter().map(one).collect()
    }

    #[test]
    fn range_cuts_each_topic_and_the_first_get_more() {
        let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        let shares = Assignor::Range.assign(&members, &layout(&[("t", 3), ("u", 3)]));
        assert_eq!(text(&shares), ["t2 u2", "t0 t1 u0 u1"]);
        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["u"])];
        let shares = Assignor::Range.assign(&members, &layout(&[("t", 5), ("u", 1)]));
        assert_eq!(text(&shares), ["t0 t1 t2", "t3 t4 u0", ""]);
    }

    #[test]
    fn static_members_come_first_by_their_instance_ids() {
        let mut members = [member("a", &["t"]), member("z", &["t"]), member("y", &["t"])];
        members[1].instance_id = Some("2".to_owned());
        members[2].instance_id = Some("1".to_owned());
        let shares = Assignor::Range.assign(&members, &layout(&[("t", 4)]));
        assert_eq!(text(&shares), ["t3", "t2", "t0 t1"]);
    }

    #[test]
    fn roundrobin_deals_all_topics_and_skips_who_does_not_want_them() {
        let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let shares = Assignor::RoundRobin.assign(&members, &layout(&[("t", 3), ("u", 3)]));
        assert_eq!(text(&shares), ["t0 t2 u1", "t1 u0 u2"]);
        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["t", "u", "v"])];
        let shares = Assignor::RoundRobin.assign(&members, &layout(&[("t", 1), ("u", 2), ("v", 3)]));
        assert_eq!(text(&shares), ["t0", "u0", "u1 v0 v1 v2"]);
        // A topic that nobody wants is nobody's.
        let shares = Assignor::RoundRobin.assign(&[member("a", &["t"])], &layout(&[("x", 2)]));
        assert_eq!(text(&shares), [""]);
    }

    #[test]
    fn names_are_kafkas_and_javas() {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky]
        {
            assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
        }
        let class = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
        assert_eq!(Assignor::from_name(class), Some(Assignor::CooperativeSticky));
        assert_eq!(Assignor::from_name("uniform"), None);
    }
}
