//! [`Partitions`]: partitions by topic, small in memory and always in the same order.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Uuid;

/// Partitions by topic id. No topic is without a partition; topics and partitions are in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partitions(Box<[(Uuid, Box<[i32]>)]>);

impl Partitions {
    /// The topics with their partitions.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &[i32])> {
        self.0.iter().map(|(topic, partitions)| (*topic, &**partitions))
    }

    /// Every partition.
    pub fn flat(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, *partition)))
    }

    /// The partitions of one topic.
    #[must_use]
    pub fn of(&self, topic: Uuid) -> &[i32] {
        let at = self.0.binary_search_by_key(&topic, |(id, _)| *id);
        at.ok().and_then(|at| self.0.get(at)).map_or(&[], |(_, partitions)| partitions)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same as sets, to be changed.
    #[must_use]
    pub fn to_sets(&self) -> BTreeMap<Uuid, BTreeSet<i32>> {
        self.iter().map(|(topic, partitions)| (topic, partitions.iter().copied().collect())).collect()
    }
}

impl FromIterator<(Uuid, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32)>>(partitions: I) -> Self {
        let mut sets: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            sets.entry(topic).or_default().insert(partition);
        }
        Self::from(sets)
    }
}

impl From<BTreeMap<Uuid, BTreeSet<i32>>> for Partitions {
    fn from(sets: BTreeMap<Uuid, BTreeSet<i32>>) -> Self {
        let topics = sets.into_iter().filter(|(_, partitions)| !partitions.is_empty());
        Self(topics.map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect())
    }
}
