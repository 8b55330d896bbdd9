//! The leader: what it knows of each replica, what a majority has, whether it still has one behind it, and the fetches
//! that wait for something new.

use std::collections::BTreeMap;

use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::leader_change_message::{LeaderChangeMessage, Voter as LeaderVoter};
use crate::protocol::{ErrorCode, Message, encode_to_bytes};
use crate::record::{BatchBuilder, Compression, ControlType};
use crate::types::Offset;

use super::Quorum;
use super::change::Change;
use super::log::{LogFailure, QuorumLog};
use super::message::{BeginEpoch, Fetch, Fetched, Leadership, Request, Response};
use super::role::{Role, agreed};
use super::voters::{ReplicaKey, Voter, VoterSet};

/// An observer that has not fetched for so long is forgotten.
const OBSERVER_SESSION_MS: i64 = 300_000;

/// A leader without a majority for so many halves of the fetch timeout resigns (KAFKA-15489).
const CHECK_QUORUM_HALVES: i64 = 3;

/// What a leader knows of one replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaProgress {
    /// Who.
    pub key: ReplicaKey,
    /// Where its log ends, as far as it has said.
    pub offset: Offset,
    /// When it fetched last.
    pub last_fetch_ms: i64,
    /// When it had last everything that the leader had.
    pub last_caught_up_ms: i64,
}

/// A term of office.
#[derive(Debug)]
pub(super) struct Office {
    /// Where the term began in the log.
    pub epoch_start: Offset,
    pub began_ms: i64,
    pub replicas: BTreeMap<ReplicaKey, ReplicaProgress>,
    /// When each voter was told last that the term has begun.
    pub told_ms: BTreeMap<i32, i64>,
    /// Until then a majority must have fetched.
    pub quorum_deadline_ms: i64,
    pub heard: std::collections::BTreeSet<i32>,
    pub parked: Vec<Parked>,
    pub change: Option<Change>,
    /// When a voter is to be told again.
    pub tell_due_ms: i64,
}

/// A fetch that waits for something new.
#[derive(Debug)]
pub(super) struct Parked {
    pub token: u64,
    pub fetch: Fetch,
    pub deadline_ms: i64,
}

impl Office {
    pub(super) fn deadline_ms(&self, now_ms: i64) -> i64 {
        let parked = self.parked.iter().map(|parked| parked.deadline_ms);
        let change = self.change.as_ref().map(Change::deadline_ms);
        let due = parked.chain(change).min().unwrap_or(i64::MAX);
        due.min(self.quorum_deadline_ms).min(self.tell_due_ms.max(now_ms + 1))
    }

    /// How far a voter's log goes, as far as it has said.
    pub(super) fn progress(&self, voter: &ReplicaKey) -> Option<&ReplicaProgress> {
        let known = self.replicas.values().filter(|progress| voter.matches(&progress.key));
        known.max_by_key(|progress| progress.last_fetch_ms)
    }

    /// The other voters, those with most of the log first.
    pub(super) fn voters_by_progress(&self, voters: &VoterSet, local: &ReplicaKey) -> Vec<ReplicaKey> {
        let mut keys: Vec<ReplicaKey> =
            voters.iter().map(|voter| voter.key).filter(|key| key.id != local.id).collect();
        let offset =
            |key: &ReplicaKey| self.progress(key).map_or(Offset::UNKNOWN, |progress| progress.offset);
        keys.sort_by_key(|key| std::cmp::Reverse(offset(key)));
        keys
    }
}

impl<L: QuorumLog> Quorum<L> {
    /// Takes office: the term begins with a record of its own, before which nothing of it counts.
    pub(super) fn become_leader(&mut self, now_ms: i64, granting: &[i32]) -> Result<(), LogFailure> {
        let epoch_start = self.log.end_offset();
        self.state.leader_id = Some(self.local.id);
        self.store()?;
        let begin = self.first_batch(now_ms, granting)?;
        self.change_role(Role::Leader(Box::new(Office {
            epoch_start,
            began_ms: now_ms,
            replicas: BTreeMap::new(),
            told_ms: BTreeMap::new(),
            quorum_deadline_ms: now_ms + self.check_quorum_ms(),
            heard: std::collections::BTreeSet::new(),
            parked: Vec::new(),
            change: None,
            tell_due_ms: now_ms,
        })));
        self.append_and_flush(now_ms, &begin)?;
        self.tick_leader(now_ms)
    }

    fn check_quorum_ms(&self) -> i64 {
        self.settings.fetch_timeout_ms * CHECK_QUORUM_HALVES / 2
    }

    /// LeaderChange; and, where the voters do not stand in the log yet, the quorum's version and its voters.
    fn first_batch(&mut self, now_ms: i64, granting: &[i32]) -> Result<Vec<u8>, LogFailure> {
        // Kafka 4.3 knows a version with directory ids, and neither writes nor reads it.
        let voter = |voter_id: i32| LeaderVoter { voter_id, ..LeaderVoter::default() };
        let change = LeaderChangeMessage {
            leader_id: self.local.id,
            voters: self.membership.voters().iter().map(|known| voter(known.key.id)).collect(),
            granting_voters: granting.iter().map(|id| voter(*id)).collect(),
            ..LeaderChangeMessage::default()
        };
        let mut batch = BatchBuilder::new(Compression::NONE).control();
        batch.append_control(now_ms, ControlType::LeaderChange, &encoded(&change, 0)?);
        if let Some(voters) = self.voters_to_write_down() {
            let kraft = KRaftVersionRecord { kraft_version: 1, ..KRaftVersionRecord::default() };
            batch.append_control(now_ms, ControlType::KRaftVersion, &encoded(&kraft, 0)?);
            batch.append_control(now_ms, ControlType::KRaftVoters, &encoded(&voters.to_record(), 0)?);
        }
        batch.build().map(|bytes| bytes.to_vec()).map_err(|error| LogFailure(error.to_string()))
    }

    /// The voters of a new cluster, with the directories they were met with; or those of the snapshot that a new
    /// directory begins with.
    fn voters_to_write_down(&self) -> Option<VoterSet> {
        let voters = self.membership.voters();
        match self.membership.voters_offset() {
            Some(offset) => (offset < Offset::ZERO).then(|| voters.clone()),
            None => {
                let meet = |voter: &Voter| {
                    let key = if voter.key.id == self.local.id {
                        Some(self.local)
                    } else {
                        self.met.get(&voter.key.id).copied()
                    };
                    key.filter(|key| !key.directory_id.is_zero()).map(|key| Voter { key, ..voter.clone() })
                };
                (self.log.end_offset() == Offset::ZERO).then(|| voters.iter().map(meet).collect())?
            }
        }
    }

    /// Appends, syncs, and counts itself.
    pub(super) fn append_and_flush(&mut self, now_ms: i64, batches: &[u8]) -> Result<(), LogFailure> {
        let from = self.log.end_offset();
        self.log.append_as_leader(batches, self.state.epoch)?;
        self.log.flush()?;
        self.membership.read_control_records(from, batches);
        self.count_copies(now_ms)?;
        self.wake_fetches(now_ms, false)
    }

    pub(super) fn tick_leader(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let alone = self.membership.voters().is_only(&self.local);
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        if alone {
            office.quorum_deadline_ms = i64::MAX;
        } else if office.quorum_deadline_ms == i64::MAX {
            office.quorum_deadline_ms = now_ms + self.settings.fetch_timeout_ms * CHECK_QUORUM_HALVES / 2;
        }
        if office.quorum_deadline_ms <= now_ms {
            self.become_resigned(now_ms);
            return self.tick_resigned(now_ms);
        }
        let voters = self.membership.voters();
        office.replicas.retain(|key, progress| {
            voters.contains(key) || now_ms - progress.last_fetch_ms < OBSERVER_SESSION_MS
        });
        self.wake_fetches(now_ms, false)?;
        self.tick_change(now_ms)?;
        self.tell_voters(now_ms);
        Ok(())
    }

    /// Tells the voters that have not fetched lately who leads.
    fn tell_voters(&mut self, now_ms: i64) {
        let every_ms = (self.settings.fetch_timeout_ms / 2).max(1);
        let (local, epoch) = (self.local, self.state.epoch);
        let mut tell_due_ms = i64::MAX;
        for (voter, endpoint) in self.other_voters() {
            let ready = self.calls.is_ready(voter.id, now_ms);
            let Role::Leader(office) = &mut self.role else { return };
            let fetched_ms = office.progress(&voter).map(|progress| progress.last_fetch_ms);
            let told_ms = office.told_ms.get(&voter.id).copied();
            let heard_ms = fetched_ms.max(told_ms);
            let due_ms = heard_ms.map_or(now_ms, |heard_ms| heard_ms + every_ms);
            if due_ms > now_ms {
                tell_due_ms = tell_due_ms.min(due_ms);
            } else if ready {
                office.told_ms.insert(voter.id, now_ms);
                tell_due_ms = tell_due_ms.min(now_ms + every_ms);
                let begin = BeginEpoch {
                    leader_id: local.id,
                    epoch,
                    voter,
                    leader_endpoints: self.endpoints.clone(),
                };
                self.send(now_ms, voter.id, endpoint, Request::BeginEpoch(begin));
            }
        }
        if let Role::Leader(office) = &mut self.role {
            office.tell_due_ms = tell_due_ms;
        }
    }

    pub(super) fn begin_answered(
        &mut self,
        now_ms: i64,
        target: i32,
        error: ErrorCode,
        leadership: &Leadership,
    ) -> Result<(), LogFailure> {
        self.learn(now_ms, leadership)?;
        if error != ErrorCode::None {
            self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
        }
        Ok(())
    }

    /// A replica says where its log ends.
    pub(super) fn note_progress(
        &mut self,
        now_ms: i64,
        replica: ReplicaKey,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        let end_offset = self.log.end_offset();
        let check_quorum_ms = self.check_quorum_ms();
        let voters = self.membership.voters();
        let (is_voter, leads_as_voter) = (voters.contains(&replica), voters.contains(&self.local));
        let majority = voters.majority();
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        let progress = office.replicas.entry(replica).or_insert(ReplicaProgress {
            key: replica,
            offset,
            last_fetch_ms: now_ms,
            last_caught_up_ms: -1,
        });
        // A request that was overtaken by a later one says nothing new; but one that lost its tail says so.
        progress.offset = offset;
        progress.last_fetch_ms = now_ms;
        if offset >= end_offset {
            progress.last_caught_up_ms = now_ms;
        }
        if is_voter {
            office.heard.insert(replica.id);
            if office.heard.len() + usize::from(leads_as_voter) >= majority {
                office.heard.clear();
                office.quorum_deadline_ms = now_ms + check_quorum_ms;
            }
        }
        self.count_copies(now_ms)
    }

    /// Raises the high watermark to what a majority has, once that is beyond the begin of this term: records of older
    /// terms count with the first one of this (Raft §5.4.2).
    pub(super) fn count_copies(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let Role::Leader(office) = &self.role else { return Ok(()) };
        let voters = self.membership.voters();
        let copy = |voter: &Voter| {
            if voter.key.matches(&self.local) {
                self.log.end_offset()
            } else {
                office.progress(&voter.key).map_or(Offset::UNKNOWN, |progress| progress.offset)
            }
        };
        let Some(offset) = agreed(voters.iter().map(copy).collect(), voters.majority()) else {
            return Ok(());
        };
        if offset <= office.epoch_start || self.high_watermark.is_some_and(|known| known >= offset) {
            return Ok(());
        }
        self.raise_high_watermark(offset);
        self.wake_fetches(now_ms, false)?;
        self.change_committed(now_ms)
    }

    /// Answers the fetches for which there is something new, or whose time is over.
    pub(super) fn wake_fetches(&mut self, now_ms: i64, all: bool) -> Result<(), LogFailure> {
        let (end_offset, high_watermark) = (self.log.end_offset(), self.high_watermark);
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        let is_due = |parked: &Parked| {
            all || parked.deadline_ms <= now_ms
                || parked.fetch.offset < end_offset
                || high_watermark.is_some_and(|offset| parked.fetch.high_watermark < offset)
        };
        if !office.parked.iter().any(is_due) {
            return Ok(());
        }
        let (due, waiting) = std::mem::take(&mut office.parked).into_iter().partition(is_due);
        office.parked = waiting;
        let due: Vec<Parked> = due;
        for Parked { token, fetch, .. } in due {
            let fetched = self.content_for(&fetch)?;
            self.answer(token, Response::Fetch(fetched));
        }
        Ok(())
    }

    /// Whoever waits is told that this node leads no more.
    pub(super) fn leave_office(&mut self, office: Office) {
        let leadership = self.leadership();
        for parked in office.parked {
            let fetched = Fetched::refusing(ErrorCode::NotLeaderOrFollower, leadership.clone());
            self.answer(parked.token, Response::Fetch(fetched));
        }
        if let Some(change) = office.change {
            self.give_up_change(&change, ErrorCode::NotLeaderOrFollower, "The leader has resigned.");
        }
    }

    /// What this leader knows of the replicas, itself included: voters, then observers. Empty where it does not lead.
    #[must_use]
    pub fn replicas(&self, now_ms: i64) -> Vec<ReplicaProgress> {
        let Role::Leader(office) = &self.role else { return Vec::new() };
        let voters = self.membership.voters();
        let of_voter = |voter: &Voter| {
            if voter.key.matches(&self.local) {
                let offset = self.log.end_offset();
                return ReplicaProgress {
                    key: self.local,
                    offset,
                    last_fetch_ms: now_ms,
                    last_caught_up_ms: now_ms,
                };
            }
            let unknown = ReplicaProgress {
                key: voter.key,
                offset: Offset::UNKNOWN,
                last_fetch_ms: -1,
                last_caught_up_ms: -1,
            };
            office.progress(&voter.key).copied().unwrap_or(unknown)
        };
        let observers = office.replicas.values().filter(|progress| !voters.contains(&progress.key)).copied();
        voters.iter().map(of_voter).chain(observers).collect()
    }
}

pub(super) fn encoded<M: Message>(message: &M, version: i16) -> Result<bytes::Bytes, LogFailure> {
    encode_to_bytes(message, version).map_err(|error| LogFailure(error.to_string()))
}
