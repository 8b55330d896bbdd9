//! How many members share a thing: an assignor, a pattern, a protocol. What nobody has is not kept.

use std::collections::BTreeMap;

use crate::protocol::Str;

/// How many have each of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::coordinator) struct Counts(BTreeMap<Str, usize>);

impl Counts {
    /// One more has it.
    pub(in crate::coordinator) fn add(&mut self, name: &Str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(name.clone(), 1)),
        }
    }

    /// One less has it.
    pub(in crate::coordinator) fn remove(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(name)),
        }
    }

    /// How many have it.
    pub(in crate::coordinator) fn of(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What at least one has, with how many do, by name.
    pub(in crate::coordinator) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Str, usize)> {
        self.0.iter().map(|(name, count)| (name, *count))
    }

    /// Whether there is none.
    pub(in crate::coordinator) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many different ones there are.
    pub(in crate::coordinator) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Who reads a topic: so many members by its name, so many patterns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::coordinator) struct Readers {
    pub(in crate::coordinator) by_name: usize,
    pub(in crate::coordinator) by_regex: usize,
}

/// The topics that somebody reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::coordinator) struct Topics(BTreeMap<Str, Readers>);

impl Topics {
    /// The names.
    pub(in crate::coordinator) fn names(&self) -> impl Iterator<Item = &Str> {
        self.0.keys()
    }

    /// Who reads each.
    pub(in crate::coordinator) fn readers(&self) -> impl Iterator<Item = Readers> {
        self.0.values().copied()
    }

    /// Whether somebody reads this one.
    pub(in crate::coordinator) fn contains(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// Changes who reads a topic.
    pub(in crate::coordinator) fn change(&mut self, topic: &Str, change: impl FnOnce(&mut Readers)) {
        let mut readers = self.0.get(topic).copied().unwrap_or_default();
        change(&mut readers);
        if readers == Readers::default() {
            self.0.remove(topic);
        } else if let Some(entry) = self.0.get_mut(topic) {
            *entry = readers;
        } else {
            self.0.insert(topic.clone(), readers);
        }
    }
}
