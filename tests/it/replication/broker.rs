//! A broker with one replica: a log in memory, and the decisions of `klamm::replication` around it.

use std::rc::Rc;

use klamm::replication::divergence::{Relation, Resume, relation, resume, truncation_point};
use klamm::replication::{Leader, LogOffsets, ReplicaFetch, Standing, Terms};
use klamm::storage::{EpochEnd, LeaderEpochs};
use klamm::types::{LeaderEpoch, Offset};

use super::controller::View;
use super::world::Flaw;

pub const LAG_MAX_MS: i64 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub epoch: i32,
    pub value: u64,
    pub is_whole: bool,
}

pub enum Role {
    None,
    Leader(Box<Leader>),
    Follower { leader: i32, epoch: i32 },
}

pub struct Broker {
    pub id: i32,
    pub epoch: i64,
    pub is_up: bool,
    pub was_clean: bool,
    pub log: Vec<Record>,
    epochs: LeaderEpochs,
    pub flushed: usize,
    pub high_watermark: i64,
    pub view: usize,
    pub role: Role,
    /// Appended here with acks=all and not answered: offset and value.
    pub unanswered: Vec<(i64, u64)>,
    /// The fetch whose answer is waited for.
    pub fetching: Option<u64>,
    /// Of the leader's epoch: it has looked once (the mistake that looks no more).
    has_asked: bool,
    pub sent_proposal: Option<i32>,
}

/// What a leader answers to a fetch.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    Records { from: i64, end: i64, high_watermark: i64 },
    Diverging(EpochEnd),
    OutOfRange { start: i64, end: i64 },
    Refused,
}

impl Broker {
    pub fn new(id: i32) -> Self {
        Self {
            id,
            epoch: i64::from(id),
            is_up: true,
            was_clean: true,
            log: Vec::new(),
            epochs: LeaderEpochs::default(),
            flushed: 0,
            high_watermark: 0,
            view: 0,
            role: Role::None,
            unanswered: Vec::new(),
            fetching: None,
            has_asked: false,
            sent_proposal: None,
        }
    }

    pub fn end(&self) -> i64 {
        self.log.len() as i64
    }

    pub fn offsets(&self) -> LogOffsets {
        let end = Offset(self.end());
        LogOffsets { start: Offset(0), end, held: end, high_watermark: Offset(self.high_watermark) }
    }

    fn assign(&mut self, epoch: i32, start: i64) {
        self.epochs.assign_if_younger(LeaderEpoch(epoch), Offset(start));
    }

    fn end_of(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.epochs.end_of(epoch, Offset(self.end()))
    }

    pub fn append(&mut self, record: Record) {
        self.assign(record.epoch, self.end());
        self.log.push(record);
    }

    /// Cuts the log; `Err` where that takes away what the replica knows to be committed.
    pub fn truncate(&mut self, end: i64) -> Result<(), String> {
        let is_committed = end < self.high_watermark;
        self.log.truncate(end as usize);
        self.flushed = self.flushed.min(self.log.len());
        self.epochs.truncate_from_end(Offset(end));
        let before = self.high_watermark;
        self.high_watermark = before.min(end);
        if is_committed {
            return Err(format!("{} truncates to {end}, below its high watermark {before}", self.id));
        }
        Ok(())
    }

    /// Follows the metadata.
    pub fn follow(&mut self, view: &Rc<View>, now_ms: i64, flaw: Option<Flaw>) -> Result<(), String> {
        let partition = &view.partition;
        let current = match &self.role {
            Role::Leader(leader) => leader.epoch().0,
            Role::Follower { epoch, .. } => *epoch,
            Role::None => -1,
        };
        if partition.leader_epoch == current {
            if let Role::Leader(leader) = &mut self.role {
                leader.follow(partition, now_ms);
            }
            return Ok(());
        }
        self.unanswered.clear();
        self.fetching = None;
        self.sent_proposal = None;
        self.has_asked = false;
        if partition.leader == self.id {
            let start = self.end();
            if flaw != Some(Flaw::NotesNoEpochStart) {
                self.assign(partition.leader_epoch, start);
            }
            self.role = Role::Leader(Box::new(Leader::new(self.id, partition, Offset(start), now_ms)));
            return Ok(());
        }
        self.role = Role::Follower { leader: partition.leader, epoch: partition.leader_epoch };
        if flaw == Some(Flaw::TruncatesToHighWatermark) {
            return self.truncate(self.high_watermark);
        }
        Ok(())
    }

    /// The epoch that a fetch says its last record is of.
    pub fn last_fetched_epoch(&self, flaw: Option<Flaw>) -> i32 {
        let is_blind = match flaw {
            Some(Flaw::TruncatesToHighWatermark) => true,
            Some(Flaw::AsksOnce) => self.has_asked,
            _ => false,
        };
        if is_blind { -1 } else { self.epochs.latest().map_or(-1, |epoch| epoch.0) }
    }

    /// Answers a follower's fetch, and counts it.
    pub fn serve(
        &mut self,
        fetch: &ReplicaFetch,
        (leader_epoch, last_epoch): (i32, i32),
        standings: &dyn Fn(i32) -> Option<Standing>,
        now_ms: i64,
    ) -> Body {
        let offsets = self.offsets();
        let known = self.end_of(LeaderEpoch(last_epoch));
        let Role::Leader(leader) = &mut self.role else { return Body::Refused };
        if leader.epoch().0 != leader_epoch {
            return Body::Refused;
        }
        let out_of_range = Body::OutOfRange { start: 0, end: offsets.end.0 };
        if last_epoch >= 0 {
            match relation((fetch.fetch_offset, LeaderEpoch(last_epoch)), known, offsets.start) {
                Relation::Prefix => {}
                Relation::Diverged(end) => return Body::Diverging(end),
                Relation::OutOfRange => return out_of_range,
            }
        }
        if fetch.fetch_offset > offsets.end {
            return out_of_range;
        }
        if leader.note_fetch(fetch, &offsets, now_ms, standings).is_err() {
            return Body::Refused;
        }
        Body::Records { from: fetch.fetch_offset.0, end: offsets.end.0, high_watermark: self.high_watermark }
    }

    /// Moves the high watermark of a leader. The records that became committed begin at the offset returned.
    pub fn advance(
        &mut self,
        terms: &Terms,
        standings: &dyn Fn(i32) -> Option<Standing>,
        flaw: Option<Flaw>,
    ) -> i64 {
        let offsets = self.offsets();
        let before = self.high_watermark;
        if let Role::Leader(leader) = &self.role {
            let terms = match flaw {
                Some(Flaw::CommitsBelowMinIsr) => Terms { insync_min: 1, ..*terms },
                _ => *terms,
            };
            let leader = match flaw {
                Some(Flaw::ShrinksAlone) => &counting_the_proposal(leader, standings),
                _ => leader,
            };
            self.high_watermark = leader.high_watermark(&offsets, &terms, standings).0;
        }
        before
    }

    /// Takes an answer from a leader; `records` is what came.
    pub fn take(&mut self, body: Body, records: &[Record], flaw: Option<Flaw>) -> Result<(), String> {
        let Role::Follower { epoch, .. } = self.role else { return Ok(()) };
        match body {
            Body::Refused => {}
            Body::Diverging(leaders) => {
                self.has_asked = true;
                let own = self.end_of(leaders.epoch);
                let point = truncation_point(leaders, own, Offset(self.end()));
                let point = if flaw == Some(Flaw::BeginsAnewWhenAhead) { Offset(0) } else { point };
                self.truncate(point.0)?;
            }
            Body::OutOfRange { start, end } => {
                if (start..=end).contains(&self.end()) && flaw != Some(Flaw::TruncatesToHighWatermark) {
                    return Err(format!("{} asked for an offset in range, and was told it is not", self.id));
                }
                match resume(Offset(start), Offset(end), Offset(self.end())) {
                    Resume::TruncateTo(end) => self.truncate(end.0)?,
                    Resume::StartAt(_) | Resume::GoOn => {}
                }
            }
            Body::Records { from, high_watermark, .. } => {
                self.has_asked = true;
                if from != self.end() {
                    return Ok(());
                }
                let is_good = |record: &&Record| {
                    flaw == Some(Flaw::StoresWhatComes) || (record.is_whole && record.epoch <= epoch)
                };
                for record in records.iter().take_while(is_good) {
                    self.append(*record);
                }
                self.high_watermark = self.high_watermark.max(high_watermark.min(self.end()));
            }
        }
        Ok(())
    }

    /// The process ends; what was not synced is forgotten where the power goes, too.
    pub fn stop(&mut self, keep: usize) {
        self.is_up = false;
        self.log.truncate(keep);
        self.flushed = self.flushed.min(keep);
        self.high_watermark = self.high_watermark.min(self.end());
        self.role = Role::None;
        self.unanswered.clear();
        self.fetching = None;
        // What is in the batches is known again; an epoch in which nothing was written is not.
        self.epochs = LeaderEpochs::default();
        for offset in 0..self.log.len() {
            self.assign(self.log[offset].epoch, offset as i64);
        }
    }
}

/// A leader that takes its proposal for decided.
fn counting_the_proposal(leader: &Leader, standings: &dyn Fn(i32) -> Option<Standing>) -> Leader {
    let mut decided = leader.clone();
    if let Some(proposal) = leader.proposal(standings) {
        decided.granted(klamm::replication::Granted {
            leader_epoch: leader.epoch(),
            partition_epoch: leader.partition_epoch(),
            isr: proposal.isr.iter().map(|(id, _)| *id).collect(),
        });
    }
    decided
}
