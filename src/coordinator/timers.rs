//! What is due when: one deadline for each name, the next one at the front. Time comes from outside.

use std::collections::{BTreeSet, HashMap};

use crate::protocol::Str;

/// What a group waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A classic group: the rebalance ends, with whoever has joined.
    Join,
    /// A classic group: whoever has not synced by now is out.
    Sync,
    /// A member has not been heard of, or has not joined with the id that it was given.
    Session(Str),
    /// A member of a consumer group has not given its partitions back.
    Rebalance(Str),
    /// A classic member of a consumer group has been told to join again, and has not.
    Rejoin(Str),
    /// A classic member of a consumer group has joined and not synced.
    Resync(Str),
    /// A consumer group's patterns are to be looked up.
    RegexRefresh,
}

/// A group's timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// The group.
    pub group_id: Str,
    /// Which of its timers.
    pub timer: Timer,
}

/// All timers of a shard. Deadlines are in the milliseconds of [`super::Now::timer_ms`].
#[derive(Debug, Default)]
pub struct Timers {
    deadlines: HashMap<TimerKey, i64>,
    queue: BTreeSet<(i64, TimerKey)>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub fn set(&mut self, group_id: &Str, timer: Timer, at_ms: i64) {
        let key = TimerKey { group_id: group_id.clone(), timer };
        if let Some(before_ms) = self.deadlines.insert(key.clone(), at_ms) {
            if before_ms == at_ms {
                return;
            }
            let mut entry = (before_ms, key);
            self.queue.remove(&entry);
            entry.0 = at_ms;
            self.queue.insert(entry);
        } else {
            self.queue.insert((at_ms, key));
        }
    }

    /// Takes a timer away, if it is set.
    pub fn cancel(&mut self, group_id: &Str, timer: Timer) {
        let key = TimerKey { group_id: group_id.clone(), timer };
        if let Some(at_ms) = self.deadlines.remove(&key) {
            self.queue.remove(&(at_ms, key));
        }
    }

    /// When a timer is due, if it is set.
    #[must_use]
    pub fn deadline_ms(&self, group_id: &Str, timer: Timer) -> Option<i64> {
        self.deadlines.get(&TimerKey { group_id: group_id.clone(), timer }).copied()
    }

    /// When the first timer is due.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.queue.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes the first timer that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<TimerKey> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.deadlines.remove(&key);
        Some(key)
    }

    /// How many are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        let group = Str::from("g");
        timers.set(&group, Timer::Join, 10);
        timers.set(&group, Timer::Session("m".into()), 5);
        timers.set(&group, Timer::Join, 3);
        timers.set(&group, Timer::Sync, 4);
        timers.cancel(&group, Timer::Sync);
        assert_eq!(timers.next_deadline_ms(), Some(3));
        assert_eq!(timers.pop_due(2), None);
        assert_eq!(timers.pop_due(3).unwrap().timer, Timer::Join);
        assert_eq!(timers.pop_due(3), None);
        assert_eq!(timers.pop_due(100).unwrap().timer, Timer::Session("m".into()));
        assert!(timers.is_empty() && timers.next_deadline_ms().is_none());
    }
}
