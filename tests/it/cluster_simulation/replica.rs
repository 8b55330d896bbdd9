//! A replica of a partition: a log in memory with what of it is synced, and the decisions of `klamm::replication` around
//! it. Each record carries a digest of everything before it, so that two logs are compared by one number.

use std::collections::VecDeque;

use klamm::metadata::PartitionRegistration;
use klamm::replication::divergence::{Relation, Resume, relation, resume, truncation_point};
use klamm::replication::{Granted, Leader, LogOffsets, ReplicaFetch, Standing, Terms};
use klamm::storage::{EpochEnd, LeaderEpochs};
use klamm::types::{LeaderEpoch, Offset};

use super::flaw::Flaw;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub epoch: i32,
    /// Nobody has changed it on its way.
    pub is_whole: bool,
    pub value: u64,
    /// Of this record and all before it.
    pub chain: u64,
}

pub enum Role {
    None,
    Leader(Box<Leader>),
    Follower { leader: i32, epoch: i32 },
}

/// What a follower asks.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub partition: usize,
    /// Which topic of that name.
    pub topic: usize,
    pub fetch: ReplicaFetch,
    pub leader_epoch: i32,
    pub last_epoch: i32,
    /// How many records are taken at once.
    pub records_max: i64,
    pub life: u32,
    pub number: u64,
}

/// What a leader answers.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    Records { from: i64, end: i64, high_watermark: i64 },
    Diverging(EpochEnd),
    OutOfRange { start: i64, end: i64 },
    Refused,
}

pub struct Replica {
    /// Which topic of that name.
    pub topic: usize,
    pub records: Vec<Record>,
    epochs: LeaderEpochs,
    pub flushed: usize,
    pub high_watermark: i64,
    /// The high watermark that is on disk.
    pub checkpoint: i64,
    pub leader_epoch: i32,
    pub role: Role,
    /// Where records wait that were written with acks=all, each before this offset.
    pub unanswered: VecDeque<i64>,
    /// Follower: which fetch is waited for, and whose turn it is.
    pub fetching: u64,
    pub turn: u32,
    /// Of the leader's epoch: it has looked once (the mistake that looks no more).
    has_asked: bool,
}

pub fn chain(before: u64, epoch: i32, value: u64) -> u64 {
    let mut mixed = before ^ (u64::from(epoch as u32) << 40) ^ value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

impl Replica {
    pub fn new(topic: usize) -> Self {
        Self {
            topic,
            records: Vec::new(),
            epochs: LeaderEpochs::default(),
            flushed: 0,
            high_watermark: 0,
            checkpoint: 0,
            leader_epoch: -1,
            role: Role::None,
            unanswered: VecDeque::new(),
            fetching: 0,
            turn: 0,
            has_asked: false,
        }
    }

    pub fn end(&self) -> i64 {
        self.records.len() as i64
    }

    /// The digest of everything before `offset`.
    pub fn chain_at(&self, offset: usize) -> Option<u64> {
        match offset.checked_sub(1) {
            None => Some(0),
            Some(last) => self.records.get(last).map(|record| record.chain),
        }
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

    pub fn append(&mut self, epoch: i32, value: u64, is_whole: bool) {
        self.assign(epoch, self.end());
        let before = self.records.last().map_or(0, |record| record.chain);
        self.records.push(Record { epoch, is_whole, value, chain: chain(before, epoch, value) });
    }

    /// Cuts the log; `Err` where that takes away what the replica knows to be committed.
    fn truncate(&mut self, end: i64) -> Result<(), String> {
        let before = self.high_watermark;
        self.cut(end as usize);
        if end < before {
            return Err(format!("cuts its log at {end}, below its high watermark {before}"));
        }
        Ok(())
    }

    fn cut(&mut self, end: usize) {
        self.records.truncate(end);
        let end = self.records.len() as i64;
        self.flushed = self.flushed.min(self.records.len());
        self.epochs.truncate_from_end(Offset(end));
        self.high_watermark = self.high_watermark.min(end);
        self.checkpoint = self.checkpoint.min(end);
    }

    /// Takes the role that the metadata gives; `true` where it leads from here on.
    pub fn assume(
        &mut self,
        node: i32,
        partition: &PartitionRegistration,
        now_ms: i64,
        flaw: Option<Flaw>,
    ) -> Result<bool, String> {
        if partition.leader_epoch <= self.leader_epoch {
            if let Role::Leader(leader) = &mut self.role {
                leader.follow(partition, now_ms);
            }
            return Ok(false);
        }
        self.leader_epoch = partition.leader_epoch;
        self.unanswered.clear();
        self.has_asked = false;
        self.turn += 1;
        self.fetching = 0;
        if partition.leader == node {
            let start = self.end();
            if flaw != Some(Flaw::NotesNoEpochStart) {
                self.assign(partition.leader_epoch, start);
            }
            let leader = Leader::new(node, partition, Offset(start), now_ms);
            if leader.is_alone() {
                self.high_watermark = start;
            }
            self.role = Role::Leader(Box::new(leader));
            return Ok(true);
        }
        self.role = Role::Follower { leader: partition.leader, epoch: partition.leader_epoch };
        if flaw == Some(Flaw::TruncatesToHighWatermark) {
            self.truncate(self.high_watermark)?;
        }
        Ok(false)
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
        asked: &Asked,
        standings: &dyn Fn(i32) -> Option<Standing>,
        now_ms: i64,
        flaw: Option<Flaw>,
    ) -> Body {
        let offsets = self.offsets();
        let fetch = &asked.fetch;
        let known = self.end_of(LeaderEpoch(asked.last_epoch));
        let Role::Leader(leader) = &mut self.role else { return Body::Refused };
        let is_same_epoch = leader.epoch().0 == asked.leader_epoch;
        if asked.topic != self.topic || !(is_same_epoch || flaw == Some(Flaw::IgnoresLeaderEpochs)) {
            return Body::Refused;
        }
        let out_of_range = Body::OutOfRange { start: 0, end: offsets.end.0 };
        if asked.last_epoch >= 0 && flaw != Some(Flaw::IgnoresLeaderEpochs) {
            match relation((fetch.fetch_offset, LeaderEpoch(asked.last_epoch)), known, offsets.start) {
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
        let from = fetch.fetch_offset.0;
        let end = offsets.end.0.min(from + asked.records_max);
        Body::Records { from, end, high_watermark: self.high_watermark }
    }

    /// Moves the high watermark of a leader; where it was.
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
            self.high_watermark = match flaw {
                Some(Flaw::ShrinksAlone) => {
                    counting_the_proposal(leader, standings).high_watermark(&offsets, &terms, standings).0
                }
                _ => leader.high_watermark(&offsets, &terms, standings).0,
            };
        }
        before
    }

    /// Takes an answer; `from` are the leader's records, as they lie there now. What was not whole is among them.
    pub fn take(
        &mut self,
        body: Body,
        sent: &[Record],
        damaged: Option<usize>,
        flaw: Option<Flaw>,
    ) -> Result<(), String> {
        let Role::Follower { epoch, .. } = self.role else { return Ok(()) };
        match body {
            Body::Refused => {}
            Body::Diverging(leaders) => {
                self.has_asked = true;
                let own = self.end_of(leaders.epoch);
                let point = truncation_point(leaders, own, Offset(self.end())).max(Offset(0));
                let point = if flaw == Some(Flaw::BeginsAnewWhenAhead) { Offset(0) } else { point };
                self.truncate(point.0)?;
            }
            Body::OutOfRange { start, end } => {
                if let Resume::TruncateTo(end) = resume(Offset(start), Offset(end), Offset(self.end())) {
                    self.truncate(end.0)?;
                }
            }
            Body::Records { from, end, high_watermark } => {
                self.has_asked = true;
                if from != self.end() {
                    return Ok(());
                }
                let range = (from as usize).min(sent.len())..(end as usize).min(sent.len());
                for (at, record) in sent[range].iter().enumerate() {
                    let is_whole = record.is_whole && damaged != Some(at);
                    let is_good = is_whole && record.epoch <= epoch;
                    if !is_good && flaw != Some(Flaw::StoresWhatComes) {
                        break;
                    }
                    self.append(record.epoch, if is_whole { record.value } else { u64::MAX }, is_whole);
                }
                self.high_watermark = self.high_watermark.max(high_watermark.min(self.end()));
            }
        }
        Ok(())
    }

    /// The process is gone. `keep` records of the log are left, all of them where only the process ended.
    pub fn stop(&mut self, keep: usize, is_clean: bool, flaw: Option<Flaw>) {
        let is_torn = keep < self.records.len();
        if is_clean {
            self.flushed = self.records.len();
            self.checkpoint = self.high_watermark;
        }
        self.cut(keep);
        self.high_watermark = self.checkpoint;
        self.role = Role::None;
        self.leader_epoch = -1;
        self.unanswered.clear();
        self.fetching = 0;
        self.turn += 1;
        if is_torn {
            // What is in the batches is known again; an epoch in which nothing was written is not.
            self.epochs = LeaderEpochs::default();
            if flaw != Some(Flaw::LosesEpochs) {
                for offset in 0..self.records.len() {
                    self.assign(self.records[offset].epoch, offset as i64);
                }
            }
        }
    }
}

/// A leader that takes its proposal for decided.
fn counting_the_proposal(leader: &Leader, standings: &dyn Fn(i32) -> Option<Standing>) -> Leader {
    let mut decided = leader.clone();
    if let Some(proposal) = leader.proposal(standings) {
        decided.granted(Granted {
            leader_epoch: leader.epoch(),
            partition_epoch: leader.partition_epoch(),
            isr: proposal.isr.iter().map(|(id, _)| *id).collect(),
        });
    }
    decided
}
