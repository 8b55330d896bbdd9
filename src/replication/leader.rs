//! What the leader of a partition knows of its followers, and what follows from it: the high watermark, and which
//! replicas are in sync. Pure: the log's offsets, the time and the standing of brokers come from outside.
//!
//! ```text
//! ISR as committed   what the controller has decided last
//! maximal ISR        with those that the leader has proposed to take in: what the high watermark waits for
//! ```
//! A replica that is to be taken out is waited for until the controller has taken it out, and one that is to be
//! taken in from the moment it is proposed: whatever the controller decides, nothing counts as committed too early
//! (KIP-497). While fewer replicas are in sync than `min.insync.replicas` nothing becomes committed (KIP-966): the
//! replicas that left the ISR last have every committed record.

use crate::metadata::PartitionRegistration;
use crate::protocol::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

/// The offsets of the leader's log at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// The log start offset.
    pub start: Offset,
    /// Its end.
    pub end: Offset,
    /// How far it may count as held by the leader itself: the end, or what is flushed.
    pub held: Offset,
    /// The high watermark as it is.
    pub high_watermark: Offset,
}

/// What the metadata says of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its epoch: a later incarnation has a larger one.
    pub epoch: i64,
    /// It is neither fenced nor shutting down.
    pub is_active: bool,
}

/// Where the standing of a broker is looked up; `None` where it has not registered.
pub type Standings<'a> = &'a dyn Fn(i32) -> Option<Standing>;

/// What a follower's fetch says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaFetch {
    /// Its node.
    pub replica: i32,
    /// Its broker's epoch, or -1.
    pub broker_epoch: i64,
    /// It has everything below.
    pub fetch_offset: Offset,
    /// Its log start offset, or -1.
    pub log_start_offset: Offset,
}

/// What holds when in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Now, on a clock that does not go back.
    pub now_ms: i64,
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: i64,
    /// `min.insync.replicas`
    pub insync_min: usize,
}

/// Why a fetch is not taken for a follower's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRefused {
    /// It holds no replica of the partition, as far as the leader knows.
    NoReplica,
    /// Its broker has been started again since.
    OldIncarnation,
}

/// An ISR that the controller is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The registration that it was thought of on.
    pub partition_epoch: i32,
    /// The replicas with the epochs of their brokers, -1 where it is not known.
    pub isr: Vec<(i32, i64)>,
}

/// What the controller has made of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the registration.
    pub partition_epoch: i32,
    /// The replicas in sync.
    pub isr: Vec<i32>,
}

/// What is to be done after an answer of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Settled,
    /// The proposal is to be sent again.
    Again,
    /// The metadata will say what holds.
    Awaited,
}

/// One follower.
#[derive(Debug, Clone)]
struct Remote {
    id: i32,
    /// What it has said in this leader's epoch; -1 before.
    end: Offset,
    start: Offset,
    /// When it had everything that was there.
    caught_up_ms: Option<i64>,
    /// Its last fetch, and where the log ended then: who has come so far was caught up at that moment.
    fetched_ms: i64,
    fetched_leader_end: Offset,
    /// The incarnation that said so.
    broker_epoch: Option<i64>,
}

impl Remote {
    fn new(id: i32, caught_up_ms: Option<i64>) -> Self {
        Self {
            id,
            end: Offset::UNKNOWN,
            start: Offset::UNKNOWN,
            caught_up_ms,
            fetched_ms: 0,
            fetched_leader_end: Offset::UNKNOWN,
            broker_epoch: None,
        }
    }

    fn is_caught_up(&self, leader_end: Offset, terms: &Terms) -> bool {
        let is_recent = |at: i64| terms.now_ms.saturating_sub(at) <= terms.lag_max_ms;
        self.end == leader_end || self.caught_up_ms.is_some_and(is_recent)
    }

    /// Whether the incarnation that fetched is the one the metadata knows, and may be in sync (KIP-903).
    fn is_eligible(&self, standings: Standings<'_>) -> bool {
        let Some(standing) = standings(self.id) else { return false };
        let is_same = self.broker_epoch.is_some_and(|epoch| epoch == -1 || epoch == standing.epoch);
        standing.is_active && is_same
    }
}

/// An ISR that the controller is to be asked for.
#[derive(Debug, Clone)]
struct Pending {
    isr: Vec<i32>,
    /// Who comes in, and the incarnation that has caught up: one that was started since then may have lost everything.
    newcomer: Option<(i32, Option<i64>)>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Leader {
    node: i32,
    epoch: LeaderEpoch,
    partition_epoch: i32,
    /// Where the log ended when this leader took office.
    epoch_start: Offset,
    isr: Vec<i32>,
    pending: Option<Pending>,
    remotes: Vec<Remote>,
}

impl Leader {
    /// `node` takes office as `registration` says, its log ending at `epoch_start`.
    #[must_use]
    pub fn new(node: i32, registration: &PartitionRegistration, epoch_start: Offset, now_ms: i64) -> Self {
        let mut leader = Self {
            node,
            epoch: registration.epoch(),
            partition_epoch: registration.partition_epoch,
            epoch_start,
            isr: Vec::new(),
            pending: None,
            remotes: Vec::new(),
        };
        leader.take_over(registration, now_ms);
        leader
    }

    /// Follows a later registration of the same leader epoch; an older one changes nothing.
    pub fn follow(&mut self, registration: &PartitionRegistration, now_ms: i64) {
        if registration.partition_epoch > self.partition_epoch {
            self.partition_epoch = registration.partition_epoch;
            self.pending = None;
            self.take_over(registration, now_ms);
        }
    }

    fn take_over(&mut self, registration: &PartitionRegistration, now_ms: i64) {
        self.isr.clone_from(&registration.isr);
        let others = registration.replicas.iter().filter(|id| **id != self.node);
        self.remotes = others
            .map(|id| {
                let known = self.remotes.iter().find(|remote| remote.id == *id);
                let in_sync = registration.isr.contains(id).then_some(now_ms);
                known.cloned().unwrap_or_else(|| Remote::new(*id, in_sync))
            })
            .collect();
    }

    /// The epoch it leads in.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The epoch of the registration it knows.
    #[must_use]
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Where its log ended when it took office.
    #[must_use]
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Whether nobody else holds a replica.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.remotes.is_empty()
    }

    /// The replicas in sync, as the controller has decided.
    #[must_use]
    pub fn isr(&self) -> &[i32] {
        &self.isr
    }

    /// How many replicas must be in sync, of those there are.
    fn insync_min(&self, terms: &Terms) -> usize {
        terms.insync_min.min(self.remotes.len() + 1)
    }

    /// Whether so few replicas are in sync that acks=all is refused.
    #[must_use]
    pub fn is_under_min_isr(&self, terms: &Terms) -> bool {
        self.isr.len() < self.insync_min(terms)
    }

    /// Whether what is committed may be acknowledged as such: enough replicas have it now.
    #[must_use]
    pub fn may_acknowledge(&self, terms: &Terms) -> bool {
        let joining =
            self.pending.iter().flat_map(|pending| &pending.isr).filter(|id| !self.isr.contains(id)).count();
        self.isr.len() + joining >= self.insync_min(terms)
    }

    /// Takes a follower's fetch to heart: it has everything below the offset that it asks for.
    ///
    /// # Errors
    /// [`FetchRefused`]: then it counts for nothing.
    pub fn note_fetch(
        &mut self,
        fetch: &ReplicaFetch,
        offsets: &LogOffsets,
        now_ms: i64,
        standings: Standings<'_>,
    ) -> Result<(), FetchRefused> {
        let remote = self.remotes.iter_mut().find(|remote| remote.id == fetch.replica);
        let remote = remote.ok_or(FetchRefused::NoReplica)?;
        if fetch.broker_epoch != -1 && standings(remote.id).is_some_and(|it| it.epoch > fetch.broker_epoch) {
            return Err(FetchRefused::OldIncarnation);
        }
        let caught_up_ms = if fetch.fetch_offset >= offsets.end {
            Some(now_ms)
        } else if fetch.fetch_offset >= remote.fetched_leader_end && remote.fetched_leader_end.0 >= 0 {
            Some(remote.fetched_ms)
        } else {
            None
        };
        remote.caught_up_ms = remote.caught_up_ms.max(caught_up_ms);
        remote.end = fetch.fetch_offset;
        remote.start = fetch.log_start_offset;
        remote.fetched_ms = now_ms;
        remote.fetched_leader_end = remote.fetched_leader_end.max(offsets.end);
        remote.broker_epoch = Some(fetch.broker_epoch);
        Ok(())
    }

    /// Up to where everything is committed now; never less than before.
    #[must_use]
    pub fn high_watermark(&self, offsets: &LogOffsets, terms: &Terms, standings: Standings<'_>) -> Offset {
        if self.is_under_min_isr(terms) {
            return offsets.high_watermark;
        }
        let mut lowest = offsets.held;
        for remote in self.remotes.iter().filter(|remote| remote.end < offsets.held) {
            // One that has caught up and is about to come in is waited for: else it would run after the high
            // watermark for ever.
            let is_awaited = self.is_in_maximal_isr(remote.id)
                || (remote.is_caught_up(offsets.end, terms) && remote.is_eligible(standings));
            if is_awaited {
                lowest = lowest.min(remote.end);
            }
        }
        lowest.max(offsets.high_watermark)
    }

    fn is_in_maximal_isr(&self, id: i32) -> bool {
        self.isr.contains(&id) || self.pending.as_ref().is_some_and(|pending| pending.isr.contains(&id))
    }

    /// The lowest log start of all replicas that live: what DeleteRecords answers. `None` where one has not said.
    #[must_use]
    pub fn low_watermark(&self, offsets: &LogOffsets, standings: Standings<'_>) -> Option<Offset> {
        let alive = self.remotes.iter().filter(|it| standings(it.id).is_some_and(|it| it.is_active));
        let lowest = alive.fold(offsets.start, |lowest, remote| lowest.min(remote.start));
        (lowest.0 >= 0).then_some(lowest)
    }

    /// Followers that may serve a consumer at `fetch_offset`: in sync, and with that record.
    pub fn readable_replicas(&self, fetch_offset: Offset) -> impl Iterator<Item = (i32, Offset, i64)> + '_ {
        self.remotes
            .iter()
            .filter(move |it| {
                self.isr.contains(&it.id)
                    && it.end >= fetch_offset
                    && it.start <= fetch_offset
                    && it.start.0 >= 0
            })
            .map(|it| (it.id, it.end, it.caught_up_ms.unwrap_or(i64::MIN)))
    }

    /// Whether a follower that has just fetched should be in sync, is not, and nothing else is being asked for:
    /// then it is proposed.
    pub fn propose_expansion(
        &mut self,
        replica: i32,
        offsets: &LogOffsets,
        standings: Standings<'_>,
    ) -> bool {
        if self.pending.is_some() || self.isr.contains(&replica) {
            return false;
        }
        let Some(remote) = self.remotes.iter().find(|remote| remote.id == replica) else { return false };
        let has_all = remote.end >= offsets.high_watermark && remote.end >= self.epoch_start;
        if !has_all || !remote.is_eligible(standings) {
            return false;
        }
        let newcomer = Some((replica, remote.broker_epoch));
        let isr = self.isr.iter().copied().chain([replica]).collect();
        self.pending = Some(Pending { isr, newcomer });
        true
    }

    /// Looks for replicas that have been behind for too long, and proposes an ISR without them.
    pub fn propose_shrink(&mut self, offsets: &LogOffsets, terms: &Terms) -> bool {
        if self.pending.is_some() {
            return false;
        }
        let lags = |id: &i32| {
            let remote = self.remotes.iter().find(|remote| remote.id == *id);
            remote.is_some_and(|remote| !remote.is_caught_up(offsets.end, terms))
        };
        let isr: Vec<i32> = self.isr.iter().copied().filter(|id| !lags(id)).collect();
        let is_smaller = isr.len() < self.isr.len();
        if is_smaller {
            self.pending = Some(Pending { isr, newcomer: None });
        }
        is_smaller
    }

    /// What the controller is to be asked, where there is something.
    #[must_use]
    pub fn proposal(&self, standings: Standings<'_>) -> Option<Proposal> {
        let pending = self.pending.as_ref()?;
        let epoch_of = |id: i32| {
            if id == self.node {
                return standings(id).map_or(-1, |standing| standing.epoch);
            }
            let fetched = || self.remotes.iter().find(|remote| remote.id == id)?.broker_epoch;
            let newcomer = pending.newcomer.filter(|(newcomer, _)| *newcomer == id);
            newcomer.map_or_else(fetched, |(_, broker_epoch)| broker_epoch).unwrap_or(-1)
        };
        Some(Proposal {
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: pending.isr.iter().map(|id| (*id, epoch_of(*id))).collect(),
        })
    }

    /// Takes over what the controller made of a proposal. An answer to an older one changes nothing.
    pub fn granted(&mut self, granted: Granted) -> After {
        if granted.leader_epoch != self.epoch || granted.partition_epoch < self.partition_epoch {
            return After::Awaited;
        }
        self.partition_epoch = granted.partition_epoch;
        self.isr = granted.isr;
        self.pending = None;
        After::Settled
    }

    /// The controller did not grant what was thought of on `partition_epoch`.
    pub fn refused(&mut self, partition_epoch: i32, code: ErrorCode) -> After {
        if partition_epoch != self.partition_epoch || self.pending.is_none() {
            return After::Settled;
        }
        match code {
            // The controller knows of a broker what this one does not yet: thought of anew with the next fetch.
            ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted => {
                self.pending = None;
                After::Settled
            }
            // Something later holds already: the image brings it, and until then the larger set is waited for.
            ErrorCode::FencedLeaderEpoch
            | ErrorCode::InvalidUpdateVersion
            | ErrorCode::NewLeaderElected
            | ErrorCode::InvalidRequest
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId => After::Awaited,
            _ => After::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { now_ms: 0, lag_max_ms: 10_000, insync_min: 2 };

    fn registration(isr: &[i32], partition_epoch: i32) -> PartitionRegistration {
        PartitionRegistration {
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            leader: 1,
            leader_epoch: 4,
            partition_epoch,
            ..PartitionRegistration::default()
        }
    }

    fn offsets(end: i64, high_watermark: i64) -> LogOffsets {
        let (end, high_watermark) = (Offset(end), Offset(high_watermark));
        LogOffsets { start: Offset(0), end, held: end, high_watermark }
    }

    fn fetch(replica: i32, broker_epoch: i64, at: i64) -> ReplicaFetch {
        let (fetch_offset, log_start_offset) = (Offset(at), Offset(0));
        ReplicaFetch { replica, broker_epoch, fetch_offset, log_start_offset }
    }

    /// Every broker lives in epoch 100 plus its id.
    fn alive(id: i32) -> Option<Standing> {
        Some(Standing { epoch: 100 + i64::from(id), is_active: true })
    }

    fn terms(now_ms: i64) -> Terms {
        Terms { now_ms, ..TERMS }
    }

    #[test]
    fn the_high_watermark_is_what_every_replica_in_sync_has() {
        let mut leader = Leader::new(1, &registration(&[1, 2, 3], 0), Offset(5), 0);
        let at = offsets(9, 5);
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(5), "nobody has said anything yet");
        leader.note_fetch(&fetch(2, 102, 9), &at, 0, &alive).unwrap();
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(5));
        leader.note_fetch(&fetch(3, 103, 7), &at, 0, &alive).unwrap();
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(7));
        let unflushed = LogOffsets { held: Offset(6), ..at };
        assert_eq!(leader.high_watermark(&unflushed, &TERMS, &alive), Offset(6));
        assert_eq!(leader.note_fetch(&fetch(4, 104, 9), &at, 0, &alive), Err(FetchRefused::NoReplica));
    }

    #[test]
    fn kip_966_nothing_is_committed_below_min_isr() {
        let mut leader = Leader::new(1, &registration(&[1], 0), Offset(5), 0);
        let at = offsets(9, 5);
        assert!(leader.is_under_min_isr(&TERMS) && !leader.may_acknowledge(&TERMS));
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(5));
        let alone = Terms { insync_min: 1, ..terms(60_000) };
        assert_eq!(leader.high_watermark(&at, &alone, &alive), Offset(9));
        leader.note_fetch(&fetch(2, 102, 9), &at, 0, &alive).unwrap();
        assert!(leader.propose_expansion(2, &at, &alive) && leader.may_acknowledge(&TERMS));
        assert_eq!(
            leader.high_watermark(&at, &TERMS, &alive),
            Offset(5),
            "it is not in sync before it is decided"
        );
        leader.follow(&registration(&[1, 2], 1), 0);
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(9));
        let mut lone = registration(&[1], 0);
        lone.replicas = vec![1];
        assert!(
            !Leader::new(1, &lone, Offset(0), 0).is_under_min_isr(&TERMS),
            "there is no second one to wait for"
        );
    }

    #[test]
    fn a_replica_comes_in_when_it_has_all_and_goes_when_it_lags() {
        let mut leader = Leader::new(1, &registration(&[1, 2], 0), Offset(5), 0);
        let at = offsets(9, 6);
        leader.note_fetch(&fetch(3, 103, 4), &at, 0, &alive).unwrap();
        assert!(!leader.propose_expansion(3, &at, &alive), "below the start of the epoch");
        leader.note_fetch(&fetch(3, 103, 6), &at, 0, &alive).unwrap();
        assert!(leader.propose_expansion(3, &at, &alive));
        assert!(!leader.propose_shrink(&at, &terms(99_000)), "one thing at a time");
        let proposal = leader.proposal(&alive).unwrap();
        assert_eq!(proposal.isr, [(1, 101), (2, -1), (3, 103)]);
        leader.note_fetch(&fetch(2, 102, 9), &at, 0, &alive).unwrap();
        assert_eq!(leader.high_watermark(&at, &TERMS, &alive), Offset(6), "it is waited for already");
        let granted = Granted { leader_epoch: LeaderEpoch(4), partition_epoch: 1, isr: vec![1, 2, 3] };
        assert_eq!(leader.granted(granted), After::Settled);
        leader.note_fetch(&fetch(2, 102, 9), &at, 11_000, &alive).unwrap();
        assert!(leader.propose_shrink(&at, &terms(11_001)));
        assert_eq!(leader.proposal(&alive).unwrap().isr, [(1, 101), (2, 102)]);
        assert_eq!(leader.high_watermark(&at, &terms(11_001), &alive), Offset(6), "until it is decided");
        assert_eq!(leader.refused(1, ErrorCode::RequestTimedOut), After::Again);
        leader.follow(&registration(&[1, 2], 2), 11_001);
        assert_eq!(leader.proposal(&alive), None);
        assert_eq!(leader.high_watermark(&at, &terms(11_001), &alive), Offset(9));
    }

    #[test]
    fn a_busy_leader_counts_who_keeps_up_with_the_fetch_before() {
        let mut leader = Leader::new(1, &registration(&[1, 2], 0), Offset(0), 0);
        for step in 0..10 {
            let at = offsets(step * 10 + 10, 0);
            leader.note_fetch(&fetch(2, 102, step * 10), &at, step * 5_000, &alive).unwrap();
        }
        assert!(!leader.propose_shrink(&offsets(100, 0), &terms(45_000)));
    }

    #[test]
    fn kafka_14139_an_older_incarnation_counts_for_nothing_and_does_not_come_in() {
        let mut leader = Leader::new(1, &registration(&[1, 2], 0), Offset(5), 0);
        let at = offsets(9, 6);
        let refused = leader.note_fetch(&fetch(3, 99, 9), &at, 0, &alive);
        assert_eq!(refused, Err(FetchRefused::OldIncarnation));
        // The fetch came first and the news of the restart second.
        leader.note_fetch(&fetch(3, 103, 9), &at, 0, &alive).unwrap();
        let restarted = |id| Some(Standing { epoch: 200 + i64::from(id), is_active: true });
        assert!(!leader.propose_expansion(3, &at, &restarted));
        let fenced = |id| alive(id).map(|standing| Standing { is_active: false, ..standing });
        assert!(!leader.propose_expansion(3, &at, &fenced));
        assert!(leader.propose_expansion(3, &at, &alive));
        assert_eq!(
            leader.proposal(&restarted).unwrap().isr[2],
            (3, 103),
            "the controller is told who caught up"
        );
        assert_eq!(leader.refused(0, ErrorCode::IneligibleReplica), After::Settled);
        assert_eq!(leader.proposal(&alive), None);
    }

    #[test]
    fn kip_903_the_incarnation_that_caught_up_is_proposed_and_not_the_one_that_was_started_since() {
        let mut leader = Leader::new(1, &registration(&[1, 2], 0), Offset(5), 0);
        let at = offsets(9, 6);
        leader.note_fetch(&fetch(3, 103, 6), &at, 0, &alive).unwrap();
        assert!(leader.propose_expansion(3, &at, &alive));
        let started_again = |id: i32| Some(Standing { epoch: 200 + i64::from(id), is_active: true });
        leader.note_fetch(&fetch(3, 203, 0), &at, 0, &started_again).unwrap();
        let proposal = leader.proposal(&started_again).unwrap();
        assert_eq!(proposal.isr.last(), Some(&(3, 103)), "which the controller refuses");
        assert_eq!(leader.refused(0, ErrorCode::IneligibleReplica), After::Settled);
        assert!(!leader.propose_expansion(3, &at, &started_again), "it has nothing yet");
    }

    #[test]
    fn an_answer_to_an_old_proposal_changes_nothing() {
        let mut leader = Leader::new(1, &registration(&[1, 2, 3], 7), Offset(5), 0);
        let old = |leader_epoch, partition_epoch| Granted {
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch,
            isr: vec![1],
        };
        assert_eq!(leader.granted(old(3, 9)), After::Awaited);
        assert_eq!(leader.granted(old(4, 6)), After::Awaited);
        assert_eq!(leader.isr(), [1, 2, 3]);
        leader.follow(&registration(&[1], 6), 0);
        assert_eq!(leader.isr(), [1, 2, 3]);
    }
}
