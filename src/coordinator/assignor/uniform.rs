//! The uniform assignor where all members subscribe to the same topics: each gets as many partitions as the
//! others, give or take one. A member keeps what it has up to its quota; only the rest moves. What several are said
//! to have (the leader of a classic group assigns as it likes) the first of them keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Uuid;

use super::{AssignorError, GroupSpec, Partitions};

type Sets = BTreeMap<Uuid, BTreeSet<i32>>;

/// Members that take more, with how many more, and the partitions to be taken.
#[derive(Default)]
struct Open<'a> {
    members: Vec<(&'a str, usize)>,
    partitions: Vec<(Uuid, i32)>,
}

pub(super) fn assign<'a>(group: &GroupSpec<'a>) -> Result<BTreeMap<&'a str, Partitions>, AssignorError> {
    let topics: BTreeSet<Uuid> =
        group.members.values().flat_map(|member| member.topics.iter().copied()).collect();
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut open = Open { members: Vec::new(), partitions: unassigned(group, &topics) };
    let total: i32 = topics.iter().map(|topic| group.partition_count(*topic)).sum();
    let total = usize::try_from(total).unwrap_or(0);
    let mut kept = keep_within_quota(group, &topics, total, &mut open);
    let mut left = open.partitions.into_iter();
    for (member, room) in open.members {
        for (topic, partition) in left.by_ref().take(room) {
            kept.entry(member).or_default().entry(topic).or_default().insert(partition);
        }
    }
    match left.next() {
        Some(_) => Err(AssignorError::LeftOver),
        None => Ok(kept.into_iter().map(|(member, sets)| (member, Partitions::from(sets))).collect()),
    }
}

/// The partitions that no member has had so far.
fn unassigned(group: &GroupSpec<'_>, topics: &BTreeSet<Uuid>) -> Vec<(Uuid, i32)> {
    let assigned: BTreeSet<(Uuid, i32)> =
        group.members.values().flat_map(|member| member.assigned.flat()).collect();
    let all = topics
        .iter()
        .flat_map(|topic| (0..group.partition_count(*topic)).map(|partition| (*topic, partition)));
    all.filter(|partition| !assigned.contains(partition)).collect()
}

/// What each member keeps. Those with room are noted in `open`, and so is what is taken away from those with too
/// much. Quotas of one more go to those that can use them first, then to the last members.
fn keep_within_quota<'a>(
    group: &GroupSpec<'a>,
    topics: &BTreeSet<Uuid>,
    total: usize,
    open: &mut Open<'a>,
) -> BTreeMap<&'a str, Sets> {
    let count = group.members.len();
    let (quota_of_all, mut with_one_more) = (total / count, total % count);
    let mut kept = BTreeMap::new();
    let mut claimed = BTreeSet::new();
    for (index, (id, member)) in group.members.iter().enumerate() {
        let mut takes_one_more = with_one_more > 0;
        let mut quota = quota_of_all + usize::from(takes_one_more);
        let has = member.assigned.flat().filter(|(topic, partition)| {
            topics.contains(topic) && (0..group.partition_count(*topic)).contains(partition)
        });
        let has = has.filter(|partition| claimed.insert(*partition));
        kept.insert(*id, keep(has, &mut quota, &mut open.partitions));
        if quota > 0 && takes_one_more && count - index > with_one_more {
            takes_one_more = false;
            quota -= 1;
        }
        if quota > 0 {
            open.members.push((*id, quota));
        }
        with_one_more -= usize::from(takes_one_more);
    }
    kept
}

/// What one member keeps of what it has; `quota` is what remains of its quota.
fn keep(
    has: impl Iterator<Item = (Uuid, i32)>,
    quota: &mut usize,
    taken_away: &mut Vec<(Uuid, i32)>,
) -> Sets {
    let mut sets = Sets::new();
    for (topic, partition) in has {
        if *quota == 0 {
            taken_away.push((topic, partition));
        } else {
            *quota -= 1;
            sets.entry(topic).or_default().insert(partition);
        }
    }
    sets
}
