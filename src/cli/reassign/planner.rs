//! Where replicas go: the plan that moves least. Pure, and the same for the same facts.
//!
//! A replica that may stay where it is stays there. One that must go, or is new, goes to the broker that has least of its
//! topic, then least of all, in a rack that keeps no other replica of it where there is one.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::types::TopicPartition;

use super::balance;

/// What a broker is good for in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It keeps what it has, and may get more.
    Takes,
    /// It keeps what it has.
    Keeps,
    /// Nothing of what is planned for stays there.
    Leaves,
}

/// A broker.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    pub(super) id: i32,
    pub(super) rack: Option<String>,
    pub(super) role: Role,
}

/// A partition as it is.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) partition: TopicPartition,
    pub(super) replicas: Vec<i32>,
    pub(super) size_bytes: u64,
    /// Whether it is planned for; the others only count as load.
    pub(super) is_planned: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// Replicas of each partition; as many as it has, where that is not said.
    pub(super) replication_factor: Option<usize>,
    /// Whether what could stay is moved so that all brokers have as much.
    pub(super) balances: bool,
    /// Whether racks do not count.
    pub(super) ignores_racks: bool,
}

/// A partition that gets other replicas, or others first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) partition: TopicPartition,
    pub(super) from: Vec<i32>,
    pub(super) to: Vec<i32>,
    pub(super) size_bytes: u64,
}

impl Change {
    /// Who gets a copy.
    pub(super) fn adding(&self) -> impl Iterator<Item = i32> {
        self.to.iter().copied().filter(|id| !self.from.contains(id))
    }

    /// What is copied.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.size_bytes * self.adding().count() as u64
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NoPlan {
    /// Fewer brokers than replicas.
    #[error("{partition} shall have {wanted} replicas, and only {there} brokers may keep them")]
    TooFewBrokers {
        /// Whose replicas.
        partition: TopicPartition,
        /// How many.
        wanted: usize,
        /// How many brokers there are for them.
        there: usize,
    },
    /// Racks on some brokers only: they cannot be counted with.
    #[error(
        "broker {without} has no rack and broker {with} has one: give all brokers a rack, or '--ignore-racks'"
    )]
    SomeRacks {
        /// A broker without.
        without: i32,
        /// A broker with.
        with: i32,
    },
}

/// Makes the plan: what changes, in the order of the partitions.
///
/// # Errors
/// [`NoPlan`].
pub(super) fn plan(placed: &[Placed], brokers: &[Broker], wishes: Wishes) -> Result<Vec<Change>, NoPlan> {
    let mut layout = Layout::new(placed, brokers, wishes.ignores_racks)?;
    let planned: Vec<usize> = (0..placed.len()).filter(|&index| placed[index].is_planned).collect();
    for &index in &planned {
        layout.settle(index, wishes.replication_factor)?;
    }
    if wishes.balances {
        balance::racks(&mut layout, &planned);
        balance::replicas(&mut layout, &planned);
        balance::leaders(&mut layout, &planned);
    } else {
        let changed: Vec<usize> =
            planned.into_iter().filter(|&index| layout.replicas[index] != placed[index].replicas).collect();
        balance::leaders(&mut layout, &changed);
    }
    let changes = placed.iter().zip(layout.replicas).filter(|(before, after)| before.replicas != *after);
    Ok(changes
        .map(|(before, after)| Change {
            partition: before.partition.clone(),
            from: before.replicas.clone(),
            to: after,
            size_bytes: before.size_bytes,
        })
        .collect())
}

/// Replicas on brokers while they are being moved about, and what that comes to.
pub(super) struct Layout<'a> {
    pub(super) placed: &'a [Placed],
    pub(super) replicas: Vec<Vec<i32>>,
    brokers: BTreeMap<i32, &'a Broker>,
    has_racks: bool,
    /// Replicas by broker.
    load: BTreeMap<i32, i64>,
    /// Partitions by preferred leader.
    leads: BTreeMap<i32, i64>,
    /// Replicas by topic and broker.
    of_topic: BTreeMap<(&'a str, i32), i64>,
}

impl<'a> Layout<'a> {
    fn new(placed: &'a [Placed], brokers: &'a [Broker], ignores_racks: bool) -> Result<Self, NoPlan> {
        let counting = brokers.iter().filter(|broker| broker.role != Role::Leaves);
        let with = counting.clone().find(|broker| broker.rack.is_some());
        let without = counting.clone().find(|broker| broker.rack.is_none());
        if let (Some(with), Some(without), false) = (with, without, ignores_racks) {
            return Err(NoPlan::SomeRacks { without: without.id, with: with.id });
        }
        let mut layout = Self {
            placed,
            replicas: placed.iter().map(|one| one.replicas.clone()).collect(),
            brokers: brokers.iter().map(|broker| (broker.id, broker)).collect(),
            has_racks: with.is_some() && !ignores_racks,
            load: BTreeMap::new(),
            leads: BTreeMap::new(),
            of_topic: BTreeMap::new(),
        };
        for (index, one) in placed.iter().enumerate() {
            layout.count(index, &one.replicas, 1);
        }
        Ok(layout)
    }

    fn count(&mut self, index: usize, replicas: &[i32], by: i64) {
        let topic = self.placed[index].partition.topic.as_str();
        for &id in replicas {
            *self.load.entry(id).or_default() += by;
            *self.of_topic.entry((topic, id)).or_default() += by;
        }
        if let Some(&first) = replicas.first() {
            *self.leads.entry(first).or_default() += by;
        }
    }

    /// Gives a partition these replicas.
    pub(super) fn set(&mut self, index: usize, replicas: Vec<i32>) {
        let before = std::mem::take(&mut self.replicas[index]);
        self.count(index, &before, -1);
        self.count(index, &replicas, 1);
        self.replicas[index] = replicas;
    }

    /// Brokers that may get replicas.
    pub(super) fn takers(&self) -> Vec<i32> {
        let takers = self.brokers.values().filter(|broker| broker.role == Role::Takes);
        takers.map(|broker| broker.id).collect()
    }

    pub(super) fn load(&self, id: i32) -> i64 {
        self.load.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn leads(&self, id: i32) -> i64 {
        self.leads.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn of_topic(&self, index: usize, id: i32) -> i64 {
        let topic = self.placed[index].partition.topic.as_str();
        self.of_topic.get(&(topic, id)).copied().unwrap_or(0)
    }

    fn role(&self, id: i32) -> Role {
        // Who is not registered any more keeps nothing.
        self.brokers.get(&id).map_or(Role::Leaves, |broker| broker.role)
    }

    fn rack(&self, id: i32) -> Option<&str> {
        if self.has_racks { self.brokers.get(&id)?.rack.as_deref() } else { None }
    }

    /// How many of these brokers are in the rack of `id`.
    fn in_rack_of(&self, id: i32, replicas: &[i32]) -> usize {
        match self.rack(id) {
            Some(rack) => replicas.iter().filter(|&&other| self.rack(other) == Some(rack)).count(),
            None => 0,
        }
    }

    /// How many racks these brokers are in.
    pub(super) fn racks_of(&self, replicas: &[i32]) -> usize {
        replicas.iter().filter_map(|&id| self.rack(id)).collect::<BTreeSet<_>>().len()
    }

    /// How many racks replicas can be in.
    pub(super) fn racks(&self) -> usize {
        self.racks_of(&self.takers())
    }

    /// Where a further replica of a partition goes that has `replicas`; `None` where no broker is left.
    pub(super) fn best_taker(&self, index: usize, replicas: &[i32]) -> Option<i32> {
        let free = self.takers().into_iter().filter(|id| !replicas.contains(id));
        free.min_by_key(|&id| (self.in_rack_of(id, replicas), self.of_topic(index, id), self.load(id), id))
    }

    /// Which replica is missed least where there is one too many: never the first, then who can take nothing, who
    /// shares a rack, who has most.
    fn most_dispensable(&self, index: usize, replicas: &[i32]) -> Option<i32> {
        let others = replicas.iter().copied().skip(1);
        others.max_by_key(|&id| {
            let is_weak = self.role(id) != Role::Takes;
            (is_weak, self.in_rack_of(id, replicas), self.of_topic(index, id), self.load(id), id)
        })
    }

    /// Has a partition keep what may stay, and as many replicas as are wanted.
    fn settle(&mut self, index: usize, replication_factor: Option<usize>) -> Result<(), NoPlan> {
        let before = self.replicas[index].clone();
        let wanted = replication_factor.unwrap_or(before.len());
        let mut kept: Vec<i32> = before.iter().copied().filter(|&id| self.role(id) != Role::Leaves).collect();
        while kept.len() > wanted {
            let Some(dropped) = self.most_dispensable(index, &kept) else { break };
            kept.retain(|&id| id != dropped);
        }
        // Who comes takes the place of who goes, so that a preferred leader is replaced as one.
        let mut after: Vec<Option<i32>> = before.iter().map(|&id| kept.contains(&id).then_some(id)).collect();
        while kept.len() < wanted {
            let Some(taker) = self.best_taker(index, &kept) else {
                let partition = self.placed[index].partition.clone();
                return Err(NoPlan::TooFewBrokers { partition, wanted, there: kept.len() });
            };
            kept.push(taker);
            match after.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(taker),
                None => after.push(Some(taker)),
            }
        }
        self.set(index, after.into_iter().flatten().collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift: the same seed, the same cluster.
    struct Random(u64);

    impl Random {
        /// Below `limit`.
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit
        }
    }

    fn brokers(roles: &[Role], racks: Option<i32>) -> Vec<Broker> {
        let broker = |(index, &role): (usize, &Role)| {
            let id = i32::try_from(index).unwrap() + 1;
            Broker { id, rack: racks.map(|racks| format!("r{}", id % racks)), role }
        };
        roles.iter().enumerate().map(broker).collect()
    }

    fn placed(name: &str, replicas: &[i32]) -> Placed {
        let partition = TopicPartition::from_dir_name(name).unwrap();
        Placed { partition, replicas: replicas.to_vec(), size_bytes: 10, is_planned: true }
    }

    fn targets(changes: &[Change]) -> Vec<(String, Vec<i32>)> {
        changes.iter().map(|change| (change.partition.to_string(), change.to.clone())).collect()
    }

    #[test]
    fn a_decommissioned_broker_is_emptied_and_nothing_else_moves() {
        use Role::{Leaves, Takes};
        let there = [placed("a-0", &[1, 2]), placed("a-1", &[2, 3]), placed("a-2", &[3, 1])];
        let brokers = brokers(&[Takes, Takes, Leaves, Takes], None);
        let changes = plan(&there, &brokers, Wishes::default()).unwrap();
        assert_eq!(
            targets(&changes),
            [("a-1".to_owned(), vec![2, 4]), ("a-2".to_owned(), vec![4, 1])],
            "broker 4 has nothing yet, and comes where 3 was"
        );
        assert_eq!(changes[0].copied_bytes(), 10);
    }

    #[test]
    fn a_replication_factor_adds_and_removes_in_other_racks() {
        use Role::Takes;
        let there = [placed("a-0", &[1])];
        let brokers = brokers(&[Takes; 4], Some(2));
        let wishes = Wishes { replication_factor: Some(2), ..Default::default() };
        let more = plan(&there, &brokers, wishes).unwrap();
        assert_eq!(targets(&more), [("a-0".to_owned(), vec![1, 2])], "3 shares the rack of 1");
        let there = [placed("a-0", &[1, 3, 2])];
        let fewer = plan(&there, &brokers, wishes).unwrap();
        assert_eq!(targets(&fewer), [("a-0".to_owned(), vec![1, 2])]);
        let wishes = Wishes { replication_factor: Some(5), ..Default::default() };
        let error = plan(&there, &brokers, wishes).unwrap_err();
        assert!(matches!(error, NoPlan::TooFewBrokers { wanted: 5, there: 4, .. }));
    }

    #[test]
    fn a_broker_that_is_down_keeps_and_takes_nothing() {
        use Role::{Keeps, Takes};
        let there = [placed("a-0", &[1, 3])];
        let wishes = Wishes { replication_factor: Some(3), ..Default::default() };
        let some = brokers(&[Takes, Takes, Keeps, Keeps], None);
        let changes = plan(&there, &some, wishes).unwrap();
        assert_eq!(targets(&changes), [("a-0".to_owned(), vec![1, 3, 2])]);
        assert_eq!(plan(&there, &brokers(&[Takes, Takes, Keeps], None), Wishes::default()).unwrap(), []);
    }

    #[test]
    fn racks_on_some_brokers_only_are_refused() {
        let mut some = brokers(&[Role::Takes; 2], Some(2));
        some[1].rack = None;
        let there = [placed("a-0", &[1])];
        assert_eq!(
            plan(&there, &some, Wishes::default()).unwrap_err(),
            NoPlan::SomeRacks { without: 2, with: 1 }
        );
        assert!(plan(&there, &some, Wishes { ignores_racks: true, ..Default::default() }).is_ok());
    }

    /// Random clusters: whatever is wished, the plan is one that a controller accepts and that does what was wished.
    #[test]
    fn every_plan_holds_what_it_promises() {
        let seed = std::env::var("KLAMM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
        let rounds = std::env::var("KLAMM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300);
        for round in 0..rounds {
            let seed = seed + round;
            check_one(seed);
        }
    }

    fn check_one(seed: u64) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = 3 + random.below(5);
        let racks = [None, Some(2), Some(3)][random.below(3)];
        let mut roles = vec![Role::Takes; count];
        let decommissions = random.below(5) < 2;
        if decommissions {
            roles[random.below(count)] = Role::Leaves;
        }
        let brokers = brokers(&roles, racks);
        let factor = 1 + random.below(3.min(count - usize::from(decommissions)));
        let mut there = Vec::new();
        for topic in 0..=random.below(5) {
            for partition in 0..=random.below(11) {
                let mut ids: Vec<i32> = brokers.iter().map(|broker| broker.id).collect();
                let replicas: Vec<i32> =
                    (0..factor).map(|_| ids.swap_remove(random.below(ids.len()))).collect();
                let mut one = placed(&format!("t{topic}-{partition}"), &replicas);
                one.size_bytes = random.below(100) as u64;
                there.push(one);
            }
        }
        let balances = random.below(2) == 0;
        let wishes = Wishes { balances, ..Default::default() };
        let changes = plan(&there, &brokers, wishes).unwrap();
        let leaving: BTreeSet<i32> =
            brokers.iter().filter(|broker| broker.role == Role::Leaves).map(|broker| broker.id).collect();
        let mut load: BTreeMap<i32, i64> =
            brokers.iter().filter(|b| b.role == Role::Takes).map(|b| (b.id, 0)).collect();
        for one in &there {
            let change = changes.iter().find(|change| change.partition == one.partition);
            let after = change.map_or(&one.replicas, |change| &change.to);
            let distinct: BTreeSet<_> = after.iter().collect();
            assert_eq!(distinct.len(), factor, "seed {seed}: {one:?} {after:?}");
            assert!(after.iter().all(|id| !leaving.contains(id)), "seed {seed}: {one:?} {after:?}");
            if !balances {
                let left = one.replicas.iter().filter(|id| leaving.contains(id)).count();
                let moved = change.map_or(0, |change| change.adding().count());
                assert_eq!(moved, left, "seed {seed}: only what must move does");
            }
            if balances && let Some(racks) = racks {
                let rack = |id: &i32| brokers.iter().find(|b| b.id == *id).unwrap().rack.clone();
                let there: BTreeSet<_> = load.keys().map(rack).collect();
                let most = factor.min(there.len()).min(usize::try_from(racks).unwrap());
                let racks: BTreeSet<_> = after.iter().map(rack).collect();
                assert_eq!(racks.len(), most, "seed {seed}: {one:?} {after:?}");
            }
            after.iter().for_each(|id| *load.entry(*id).or_default() += 1);
        }
        if balances && racks.is_none() {
            let (least, most) = (load.values().min().unwrap(), load.values().max().unwrap());
            assert!(most - least <= 1, "seed {seed}: {load:?}");
        }
        assert_eq!(plan(&there, &brokers, wishes).unwrap(), changes, "seed {seed}: the same again");
    }
}
