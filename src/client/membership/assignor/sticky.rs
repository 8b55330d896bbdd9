//! Sharing evenly while moving little: what each member had stays with it as far as the balance allows.
//!
//! Where all members subscribe to the same topics, nobody gets two partitions more than another, and no more
//! partitions move than that takes. Where subscriptions differ, no single move of a partition could make any two
//! members more even.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Layout, Part, Subscriber};

/// Who owns what, while it is being worked out.
struct Balance<'a> {
    members: &'a [Subscriber],
    shares: Vec<BTreeSet<Part>>,
    /// How many each has, and its place in the order; its index.
    loads: BTreeSet<(usize, usize, usize)>,
    /// A member's place in the order.
    places: Vec<usize>,
    /// Who wants a topic.
    wanted_by: BTreeMap<Arc<str>, Vec<usize>>,
}

/// An even sharing near to what members had.
pub(super) fn assign(members: &[Subscriber], order: &[usize], layout: &Layout) -> Vec<Vec<Part>> {
    let mut balance = Balance::new(members, order, layout);
    let mut unowned: Vec<Part> = Vec::new();
    let owners = owners(members);
    for (topic, &count) in layout {
        let Some(wanting) = balance.wanted_by.get(topic).cloned() else { continue };
        for partition in 0..count {
            let part = (Arc::clone(topic), partition);
            match owners.get(&part).and_then(|owner| *owner).filter(|owner| wanting.contains(owner)) {
                Some(owner) => balance.give(owner, part),
                None => unowned.push(part),
            }
        }
    }
    // Those that few can take come first.
    unowned.sort_by_cached_key(|part| (balance.wanted_by.get(&part.0).map_or(0, Vec::len), part.clone()));
    for part in unowned {
        if let Some(member) = balance.least_loaded(&part.0) {
            balance.give(member, part);
        }
    }
    while balance.level() {}
    balance.shares.into_iter().map(|share| share.into_iter().collect()).collect()
}

/// Takes out what another member still has: it is given up first, and goes to its new owner in the round after.
pub(super) fn without_what_moves(members: &[Subscriber], shares: Vec<Vec<Part>>) -> Vec<Vec<Part>> {
    let mut holders: HashMap<&Part, (i32, HashSet<usize>)> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        for part in &member.owned {
            let holder = holders.entry(part).or_insert((member.generation, HashSet::new()));
            if member.generation > holder.0 {
                *holder = (member.generation, HashSet::new());
            }
            if member.generation == holder.0 {
                holder.1.insert(index);
            }
        }
    }
    let stays = |index: usize, part: &Part| {
        holders.get(part).is_none_or(|(_, holders)| holders.iter().all(|&holder| holder == index))
    };
    let filter = |(index, share): (usize, Vec<Part>)| {
        share.into_iter().filter(|part| stays(index, part)).collect::<Vec<_>>()
    };
    shares.into_iter().enumerate().map(filter).collect()
}

/// Who had each partition, by the newest generation; `None` where two claim it in the same one.
fn owners(members: &[Subscriber]) -> HashMap<Part, Option<usize>> {
    let mut claims: HashMap<Part, (i32, Option<usize>)> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        let own: HashSet<&Part> = member.owned.iter().collect();
        for part in own {
            match claims.get_mut(part) {
                Some(claim) if claim.0 > member.generation => {}
                Some(claim) if claim.0 == member.generation => claim.1 = None,
                _ => {
                    claims.insert(part.clone(), (member.generation, Some(index)));
                }
            }
        }
    }
    claims.into_iter().map(|(part, (_, owner))| (part, owner)).collect()
}

impl<'a> Balance<'a> {
    fn new(members: &'a [Subscriber], order: &[usize], layout: &Layout) -> Self {
        let mut places = vec![0; members.len()];
        for (place, &member) in order.iter().enumerate() {
            places[member] = place;
        }
        let mut wanted_by: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        for &member in order {
            for topic in members[member].topics.iter().filter(|topic| layout.contains_key(*topic)) {
                wanted_by.entry(Arc::clone(topic)).or_default().push(member);
            }
        }
        Self {
            members,
            shares: vec![BTreeSet::new(); members.len()],
            loads: order.iter().map(|&member| (0, places[member], member)).collect(),
            places,
            wanted_by,
        }
    }

    fn give(&mut self, member: usize, part: Part) {
        self.change(member, |share| {
            share.insert(part);
        });
    }

    fn change(&mut self, member: usize, change: impl FnOnce(&mut BTreeSet<Part>)) {
        self.loads.remove(&(self.shares[member].len(), self.places[member], member));
        change(&mut self.shares[member]);
        self.loads.insert((self.shares[member].len(), self.places[member], member));
    }

    /// The member with the fewest partitions among those that want `topic`.
    fn least_loaded(&self, topic: &str) -> Option<usize> {
        // Where everybody wants it, this ends at the first.
        self.loads
            .iter()
            .find(|&&(_, _, member)| self.members[member].topics.contains(topic))
            .map(|&(_, _, member)| member)
    }

    /// Moves one partition from who has most to one that has two fewer; false where there is none such.
    fn level(&mut self) -> bool {
        let Some(&(least, _, _)) = self.loads.first() else { return false };
        let found = self.loads.iter().rev().take_while(|(load, _, _)| *load >= least + 2).find_map(
            |&(load, _, from)| {
                // One partition of each topic stands for all of them: who may take it is the same.
                let mut topic: Option<&Arc<str>> = None;
                for part in self.shares[from].iter().rev() {
                    if topic == Some(&part.0) {
                        continue;
                    }
                    topic = Some(&part.0);
                    let to = self.least_loaded(&part.0)?;
                    if self.shares[to].len() + 2 <= load {
                        return Some((from, to, part.clone()));
                    }
                }
                None
            },
        );
        let Some((from, to, part)) = found else { return false };
        self.change(from, |share| {
            share.remove(&part);
        });
        self.give(to, part);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{layout, member};
    use super::super::{Assignor, Subscriber};
    use super::*;

    /// A generator of the test's own: seeds make the same case again.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    fn with_owned(id: &str, topics: &[&str], owned: &[(&str, i32)], generation: i32) -> Subscriber {
        let owned = owned.iter().map(|&(topic, partition)| (topic.into(), partition)).collect();
        Subscriber { owned, generation, ..member(id, topics) }
    }

    fn numbers(shares: &[Vec<Part>]) -> Vec<Vec<i32>> {
        shares.iter().map(|share| share.iter().map(|part| part.1).collect()).collect()
    }

    #[test]
    fn a_new_member_takes_no_more_than_its_part() {
        let all: Vec<(&str, i32)> = (0..4).map(|n| ("t", n)).collect();
        let members = [with_owned("a", &["t"], &all, 3), member("b", &["t"])];
        let shares = Assignor::Sticky.assign(&members, &layout(&[("t", 4)]));
        assert_eq!(numbers(&shares), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn cooperative_members_give_up_first() {
        let all: Vec<(&str, i32)> = (0..4).map(|n| ("t", n)).collect();
        let members = [with_owned("a", &["t"], &all, 3), member("b", &["t"])];
        let shares = Assignor::CooperativeSticky.assign(&members, &layout(&[("t", 5)]));
        // t4 is new and goes to b at once; what a gives up waits for the next round.
        assert_eq!(numbers(&shares), [vec![0, 1, 2], vec![4]]);
        let members = [with_owned("a", &["t"], &all[..3], 4), with_owned("b", &["t"], &[("t", 4)], 4)];
        let shares = Assignor::CooperativeSticky.assign(&members, &layout(&[("t", 5)]));
        assert_eq!(numbers(&shares), [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn the_newest_generation_owns_and_two_claims_are_none() {
        let members = [
            with_owned("a", &["t"], &[("t", 0), ("t", 1)], 5),
            with_owned("b", &["t"], &[("t", 0), ("t", 2)], 6),
            with_owned("c", &["t"], &[("t", 2)], 6),
        ];
        let owners = owners(&members);
        assert_eq!(owners[&("t".into(), 0)], Some(1));
        assert_eq!(owners[&("t".into(), 1)], Some(0));
        assert_eq!(owners[&("t".into(), 2)], None);
    }

    #[test]
    fn everything_has_one_owner_that_wants_it_whatever_came_before() {
        for seed in 0..500 {
            let mut dice = Dice(seed);
            let layout = layout(&[("t", dice.roll(9) as i32), ("u", dice.roll(9) as i32), ("v", 3)]);
            let alike = dice.roll(2) == 0;
            let mut members: Vec<Subscriber> = (0..1 + dice.roll(6))
                .map(|id| {
                    let wants = |dice: &mut Dice| alike || dice.roll(3) > 0;
                    let topics: Vec<&str> =
                        ["t", "u", "v"].into_iter().filter(|_| wants(&mut dice)).collect();
                    member(&format!("m{id}"), &topics)
                })
                .collect();
            let mut rounds = 0;
            loop {
                let even = Assignor::Sticky.assign(&members, &layout);
                let shares = Assignor::CooperativeSticky.assign(&members, &layout);
                check(&members, &layout, &even, alike, seed);
                let is_settled = even == shares;
                for (member, share) in members.iter_mut().zip(shares) {
                    (member.owned, member.generation) = (share, rounds);
                }
                rounds += 1;
                if is_settled {
                    break;
                }
                assert!(rounds < 3, "seed {seed}: the second round settles");
            }
            // Where nothing changed, nothing moves.
            let again = Assignor::CooperativeSticky.assign(&members, &layout);
            let owned: Vec<Vec<Part>> = members.iter().map(|member| member.owned.clone()).collect();
            assert_eq!(again, owned, "seed {seed}");
        }
    }

    fn check(members: &[Subscriber], layout: &Layout, shares: &[Vec<Part>], alike: bool, seed: u64) {
        let mut seen = BTreeSet::new();
        for (member, share) in members.iter().zip(shares) {
            for part in share {
                assert!(
                    member.topics.contains(&part.0) && seen.insert(part.clone()),
                    "seed {seed}: {part:?}"
                );
            }
        }
        let wanted = layout.iter().filter(|(topic, _)| members.iter().any(|m| m.topics.contains(*topic)));
        assert_eq!(seen.len(), wanted.map(|(_, count)| *count as usize).sum::<usize>(), "seed {seed}");
        if alike {
            let loads: Vec<usize> = shares.iter().map(Vec::len).collect();
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1, "seed {seed}: {loads:?}");
        }
    }
}
