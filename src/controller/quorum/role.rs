//! What a node is in the quorum at the moment, and the timers that go with it.
//!
//! ```text
//!   Unattached ──timeout──▶ Prospective ──majority would vote──▶ Candidate ──majority votes──▶ Leader
//!       ▲  ▲                 │      ▲ └─timeout──▶ Follower        │  │                          │
//!       │  └──no leader──────┘      └───────lost, timeout──────────┘  │                       resigns
//!       └──a higher epoch, from every role──────────────────────────┘                           │
//!   Follower ◀──hears of a leader, from every role              Resigned ◀──────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Offset;

use super::leader::Office;
use super::message::SnapshotId;
use super::voters::{Endpoint, ReplicaKey};

/// What a node is at the moment.
#[derive(Debug)]
pub(super) enum Role {
    /// It knows no leader, and waits for one or for its own turn.
    Unattached {
        /// When its turn comes.
        election_deadline_ms: i64,
    },
    /// It asks whether it would be elected.
    Prospective {
        /// What it was told.
        ballot: Ballot,
        /// When it gives up.
        election_deadline_ms: i64,
        /// The leader it lost sight of: it goes back to it if it is not to stand.
        lost: Option<Endpoint>,
    },
    /// It stands.
    Candidate {
        /// What it was told.
        ballot: Ballot,
        /// When it gives up.
        election_deadline_ms: i64,
        /// It has lost, and asks again then.
        backoff_until_ms: Option<i64>,
    },
    /// It follows the leader of the epoch.
    Follower(Following),
    /// It leads.
    Leader(Box<Office>),
    /// It led, and leads no more.
    Resigned {
        /// When it takes part again.
        election_deadline_ms: i64,
        /// Who should stand first.
        preferred: Vec<ReplicaKey>,
        /// Who has not taken note yet.
        untold: BTreeSet<i32>,
    },
}

/// See [`Role::Follower`].
#[derive(Debug)]
pub(super) struct Following {
    pub leader_id: i32,
    pub endpoint: Endpoint,
    /// Without an answer of the leader until then, it is taken for gone.
    pub fetch_deadline_ms: i64,
    /// The leader has answered in this epoch.
    pub has_fetched: bool,
    /// A snapshot on its way: which, and from where it goes on.
    pub download: Option<(SnapshotId, u64)>,
    /// When the leader is told of changed endpoints again.
    pub update_due_ms: i64,
}

/// The answers to one round of votes.
#[derive(Debug, Default)]
pub(super) struct Ballot {
    pub granted: BTreeSet<i32>,
    pub refused: BTreeSet<i32>,
}

impl Ballot {
    /// A ballot with one's own vote.
    pub(super) fn of(id: i32) -> Self {
        Self { granted: BTreeSet::from([id]), refused: BTreeSet::new() }
    }

    pub(super) fn record(&mut self, id: i32, granted: bool) {
        if granted {
            self.granted.insert(id);
            self.refused.remove(&id);
        } else if !self.granted.contains(&id) {
            self.refused.insert(id);
        }
    }

    pub(super) fn is_open(&self, id: i32) -> bool {
        !self.granted.contains(&id) && !self.refused.contains(&id)
    }
}

/// Draws that a seed decides, so that a run can be repeated.
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`; 0 where there is nothing to choose.
    pub(super) fn below(&mut self, bound: i64) -> i64 {
        let Some(bound) = u64::try_from(bound).ok().filter(|bound| *bound > 0) else { return 0 };
        i64::try_from(self.next() % bound).unwrap_or(0)
    }
}

/// What a node waits for from others, at most one request to each.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: u64,
    open: BTreeMap<i32, OpenCall>,
    backoff_until_ms: BTreeMap<i32, i64>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub call: u64,
    pub deadline_ms: i64,
    pub request: super::message::Request,
}

impl Calls {
    /// Whether `target` may be sent something now.
    pub(super) fn is_ready(&self, target: i32, now_ms: i64) -> bool {
        !self.open.contains_key(&target)
            && self.backoff_until_ms.get(&target).is_none_or(|until_ms| *until_ms <= now_ms)
    }

    /// Whether something is on its way to `target`.
    pub(super) fn is_open(&self, target: i32) -> bool {
        self.open.contains_key(&target)
    }

    /// Notes a request, and names it.
    pub(super) fn begin(&mut self, target: i32, request: super::message::Request, deadline_ms: i64) -> u64 {
        self.next += 1;
        self.backoff_until_ms.remove(&target);
        self.open.insert(target, OpenCall { call: self.next, deadline_ms, request });
        self.next
    }

    /// The request of this name, if it is still waited for.
    pub(super) fn end(&mut self, call: u64) -> Option<(i32, OpenCall)> {
        let target = self.open.iter().find(|(_, open)| open.call == call).map(|(target, _)| *target)?;
        self.open.remove(&target).map(|open| (target, open))
    }

    /// Gives up on what is overdue.
    pub(super) fn expire(&mut self, now_ms: i64, backoff_ms: i64) {
        let overdue: Vec<i32> = self
            .open
            .iter()
            .filter(|(_, open)| open.deadline_ms <= now_ms)
            .map(|(target, _)| *target)
            .collect();
        for target in overdue {
            self.open.remove(&target);
            self.back_off(target, now_ms + backoff_ms);
        }
    }

    pub(super) fn back_off(&mut self, target: i32, until_ms: i64) {
        self.backoff_until_ms.insert(target, until_ms);
    }

    /// Answers that belong to what the node was before do not matter any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.backoff_until_ms.clear();
    }

    /// When something changes here by itself.
    pub(super) fn deadline_ms(&self, now_ms: i64) -> Option<i64> {
        let backoffs = self.backoff_until_ms.values().copied().filter(|until_ms| *until_ms > now_ms);
        self.open.values().map(|open| open.deadline_ms).chain(backoffs).min()
    }
}

/// The largest offset that a majority has: the `majority`-th of what each has, counted from the largest.
pub(super) fn agreed(mut offsets: Vec<Offset>, majority: usize) -> Option<Offset> {
    offsets.sort_unstable_by(|left, right| right.cmp(left));
    offsets.get(majority.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_has_the_middle_offset() {
        assert_eq!(agreed(vec![Offset(5), Offset(9), Offset(7)], 2), Some(Offset(7)));
        assert_eq!(agreed(vec![Offset(5), Offset(9), Offset(7), Offset(1)], 3), Some(Offset(5)));
        assert_eq!(agreed(vec![], 1), None);
    }

    #[test]
    fn a_vote_that_was_granted_is_not_taken_back() {
        let mut ballot = Ballot::of(1);
        ballot.record(2, false);
        ballot.record(2, true);
        ballot.record(2, false);
        assert!(ballot.granted.contains(&2) && ballot.refused.is_empty());
    }

    #[test]
    fn one_request_to_a_node_at_a_time() {
        let mut calls = Calls::default();
        let call = calls.begin(2, super::super::message::Request::ApiVersions, 100);
        assert!(!calls.is_ready(2, 0) && calls.is_ready(3, 0));
        calls.expire(100, 20);
        assert!(calls.end(call).is_none() && !calls.is_ready(2, 110) && calls.is_ready(2, 120));
    }
}
