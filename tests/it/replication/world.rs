//! The world around the brokers: what is on its way, what the controller decided, what clients were told; and what
//! must hold after every event.

use std::collections::VecDeque;
use std::rc::Rc;

use klamm::protocol::ErrorCode;
use klamm::replication::{After, Granted, Proposal, ReplicaFetch, Standing, Terms};
use klamm::types::Offset;

use super::broker::{Body, Broker, LAG_MAX_MS, Record, Role};
use super::controller::{Controller, View};
use crate::random::Random;

/// A mistake that is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    TruncatesToHighWatermark,
    AsksOnce,
    NotesNoEpochStart,
    IgnoresBrokerEpochs,
    MixesReplicaStates,
    TrustsUncleanRestarts,
    CommitsBelowMinIsr,
    ReadsToTheEnd,
    BeginsAnewWhenAhead,
    StoresWhatComes,
    ShrinksAlone,
}

#[derive(Clone, Debug)]
enum Message {
    Fetch { to: i32, fetch: ReplicaFetch, number: u64, leader_epoch: i32, last_epoch: i32 },
    Answer { from: i32, to: i32, number: u64, body: Body },
    Alter { from: i32, epoch: i64, proposal: Proposal },
    Altered { to: i32, epoch: i64, partition_epoch: i32, answer: Result<Granted, ErrorCode> },
}

pub struct World {
    random: Random,
    flaw: Option<Flaw>,
    controller: Controller,
    brokers: Vec<Broker>,
    messages: Vec<Message>,
    now_ms: i64,
    min_isr: usize,
    next_value: u64,
    next_fetch: u64,
    /// What somebody knows to be committed, by offset.
    committed: Vec<u64>,
    acknowledged: u64,
    /// Followers whose fetch has been counted, and who may come in.
    to_judge: Vec<(i32, ReplicaFetch)>,
    is_calm: bool,
    trace: VecDeque<String>,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, flaw: Option<Flaw>, is_traced: bool) -> Self {
        let mut random = Random::from_seed(seed);
        let (brokers, min_isr) = (3 + random.below(3) as i32, 1 + random.below(2));
        let mut controller = Controller::new(brokers, min_isr);
        controller.trusts_unclean_restarts = flaw == Some(Flaw::TrustsUncleanRestarts);
        controller.ignores_broker_epochs = flaw == Some(Flaw::IgnoresBrokerEpochs);
        let mut world = Self {
            random,
            flaw,
            controller,
            brokers: (1..=brokers).map(Broker::new).collect(),
            messages: Vec::new(),
            now_ms: 1_000,
            min_isr,
            next_value: 0,
            next_fetch: 0,
            committed: Vec::new(),
            acknowledged: 0,
            to_judge: Vec::new(),
            is_calm: false,
            trace: VecDeque::new(),
            is_traced,
        };
        for id in 1..=brokers {
            world.follow(id, 0);
        }
        world
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn run_and_recover(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
        self.recover();
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.trace.push_back(line());
            if self.trace.len() > super::number("KLAMM_TRACE", 80) as usize {
                self.trace.pop_front();
            }
        }
    }

    fn broken(&self, why: &str) -> ! {
        for line in &self.trace {
            eprintln!("{line}");
        }
        panic!("KLAMM_SEED={}: {why}", self.random.seed);
    }

    fn must(&self, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            self.broken(&why);
        }
    }

    fn at(&mut self, id: i32) -> &mut Broker {
        &mut self.brokers[id as usize - 1]
    }

    fn any(&mut self) -> i32 {
        1 + self.random.below(self.brokers.len()) as i32
    }

    fn view_of(&self, id: i32) -> Rc<View> {
        Rc::clone(&self.controller.views[self.brokers[id as usize - 1].view])
    }

    fn terms(&self) -> Terms {
        Terms { now_ms: self.now_ms, lag_max_ms: LAG_MAX_MS, insync_min: self.min_isr }
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(8) as i64;
        match self.random.below(100) {
            0..=34 => self.deliver(),
            35..=54 => self.fetch(),
            55..=69 => self.produce(),
            70..=79 => self.learn(),
            80..=84 => self.judge(),
            85..=86 => self.shrink(),
            87..=89 => {
                let id = self.any();
                let broker = self.at(id);
                broker.flushed = broker.log.len();
            }
            90..=91 => self.fence_or_not(),
            92..=93 => self.stop(),
            94..=95 => self.start(),
            96 => {
                let id = self.any();
                self.controller.prefer(id);
                self.note(|| format!("{id} is preferred"));
            }
            97 => self.read(),
            _ => self.propose(),
        }
    }

    /// A broker learns what the controller has decided, one decision after the other or several at once.
    fn learn(&mut self) {
        let id = self.any();
        let (last, view) = (self.controller.views.len() - 1, self.at(id).view);
        if self.at(id).is_up && view < last {
            let next = if self.random.one_in(3) { last } else { view + 1 };
            self.follow(id, next);
        }
    }

    fn follow(&mut self, id: i32, next: usize) {
        let view = Rc::clone(&self.controller.views[next]);
        let (now_ms, flaw) = (self.now_ms, self.flaw);
        let partition = view.partition.clone();
        self.note(|| {
            format!(
                "{id} learns: leader {} of epoch {}, isr {:?}",
                partition.leader, partition.leader_epoch, partition.isr
            )
        });
        let broker = self.at(id);
        broker.view = next;
        let before = matches!(broker.role, Role::Leader(_));
        let outcome = broker.follow(&view, now_ms, flaw);
        let leads = matches!(broker.role, Role::Leader(_));
        self.must(outcome);
        if leads && !before {
            self.check_leader(id);
        }
        self.advance(id);
    }

    /// Whatever was committed is in the log of a new leader.
    fn check_leader(&mut self, id: i32) {
        let view = self.view_of(id);
        if view.partition.leader_epoch != self.controller.partition().leader_epoch {
            // It has been succeeded already: what was committed since is not its business.
            return;
        }
        let broker = &self.brokers[id as usize - 1];
        for (offset, value) in self.committed.iter().enumerate() {
            if broker.log.get(offset).map(|record| record.value) != Some(*value) {
                let found = broker.log.get(offset);
                self.broken(&format!("leader {id} has {found:?} at {offset}, where {value} was committed"));
            }
        }
    }

    /// Moves a leader's high watermark; notes what became committed, and answers who waited for it.
    fn advance(&mut self, id: i32) {
        let (terms, flaw) = (self.terms(), self.flaw);
        let view = self.view_of(id);
        let standings = |id: i32| view.brokers.get(&id).copied();
        let broker = self.at(id);
        let before = broker.advance(&terms, &standings, flaw);
        self.committed_by(id, before);
        let broker = self.at(id);
        let Role::Leader(leader) = &broker.role else { return };
        let may_acknowledge = leader.may_acknowledge(&terms);
        let high_watermark = broker.high_watermark;
        let all = broker.unanswered.len();
        broker.unanswered.retain(|(offset, _)| *offset >= high_watermark);
        if may_acknowledge {
            let answered = (all - broker.unanswered.len()) as u64;
            self.acknowledged += answered;
        }
    }

    /// What a replica holds below its high watermark, from `before` on, is what all hold there.
    fn committed_by(&mut self, id: i32, before: i64) {
        let broker = &self.brokers[id as usize - 1];
        let (log, end) = (&broker.log, broker.high_watermark);
        let mut news = Vec::new();
        for offset in before..end {
            let value = log[offset as usize].value;
            match self.committed.get(offset as usize) {
                Some(known) if *known != value => {
                    self.broken(&format!("{id} has {value} committed at {offset}, where {known} was"));
                }
                Some(_) => {}
                None => news.push(value),
            }
        }
        self.committed.extend(news);
    }

    fn produce(&mut self) {
        if self.is_calm && !self.committed.is_empty() {
            return;
        }
        let id = self.any();
        let (terms, value) = (self.terms(), self.next_value);
        self.next_value += 1;
        let broker = self.at(id);
        let Role::Leader(leader) = &broker.role else { return };
        if leader.is_under_min_isr(&terms) {
            return;
        }
        let epoch = leader.epoch().0;
        broker.unanswered.push((broker.end(), value));
        broker.append(Record { epoch, value, is_whole: true });
        self.note(|| format!("{id} appends {value} in epoch {epoch}"));
        self.advance(id);
    }

    /// A consumer reads from whoever leads: what it has seen must stay.
    fn read(&mut self) {
        let id = self.any();
        let is_flawed = self.flaw == Some(Flaw::ReadsToTheEnd);
        let broker = self.at(id);
        if is_flawed && matches!(broker.role, Role::Leader(_)) {
            let before = std::mem::replace(&mut broker.high_watermark, broker.log.len() as i64);
            self.committed_by(id, before);
            self.at(id).high_watermark = before;
        }
    }

    fn fetch(&mut self) {
        let id = self.any();
        let (number, flaw) = (self.next_fetch, self.flaw);
        self.next_fetch += 1;
        let broker = self.at(id);
        let Role::Follower { leader, epoch } = broker.role else { return };
        if leader < 1 {
            return;
        }
        broker.fetching = Some(number);
        let fetch = ReplicaFetch {
            replica: id,
            broker_epoch: if flaw == Some(Flaw::IgnoresBrokerEpochs) { -1 } else { broker.epoch },
            fetch_offset: Offset(broker.end()),
            log_start_offset: Offset(0),
        };
        let last_epoch = broker.last_fetched_epoch(flaw);
        self.messages.push(Message::Fetch { to: leader, fetch, number, leader_epoch: epoch, last_epoch });
    }

    /// Something arrives: anything that is on its way, perhaps not for the last time, perhaps never.
    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let at = if self.is_calm { 0 } else { self.random.below(self.messages.len()) };
        let message = match self.random.below(20) {
            // What is asked of the controller is not asked twice at a time: see `propose`.
            0 if !self.is_calm && !matches!(self.messages[at], Message::Alter { .. }) => {
                self.messages[at].clone()
            }
            1 if !self.is_calm => {
                self.messages.remove(at);
                return;
            }
            _ => self.messages.remove(at),
        };
        self.note(|| format!("arrives: {message:?}"));
        match message {
            Message::Fetch { to, fetch, number, leader_epoch, last_epoch } => {
                self.serve(to, &fetch, number, (leader_epoch, last_epoch));
            }
            Message::Answer { from, to, number, body } => self.take(from, to, number, body),
            Message::Alter { from, epoch, proposal } => {
                let answer = self.controller.alter(from, &proposal);
                let partition_epoch = proposal.partition_epoch;
                self.messages.push(Message::Altered { to: from, epoch, partition_epoch, answer });
            }
            Message::Altered { to, epoch, partition_epoch, answer } => {
                let broker = self.at(to);
                if broker.epoch == epoch
                    && let Role::Leader(leader) = &mut broker.role
                {
                    let after = match answer {
                        Ok(granted) => leader.granted(granted),
                        Err(code) => leader.refused(partition_epoch, code),
                    };
                    if after == After::Again {
                        broker.sent_proposal = None;
                    }
                    self.advance(to);
                }
            }
        }
    }

    fn serve(&mut self, to: i32, fetch: &ReplicaFetch, number: u64, epochs: (i32, i32)) {
        let view = self.view_of(to);
        let standings = |id: i32| view.brokers.get(&id).copied();
        let now_ms = self.now_ms;
        let broker = self.at(to);
        if !broker.is_up {
            return;
        }
        let body = broker.serve(fetch, epochs, &standings, now_ms);
        self.advance(to);
        if matches!(body, Body::Records { .. }) {
            self.to_judge.push((to, *fetch));
        }
        self.messages.push(Message::Answer { from: to, to: fetch.replica, number, body });
    }

    /// The bytes leave the leader's page cache when they are sent, not when they were promised.
    fn take(&mut self, from: i32, to: i32, number: u64, body: Body) {
        let mut records = Vec::new();
        if let Body::Records { from: start, end, .. } = body {
            let log = &self.brokers[from as usize - 1].log;
            let range = (start as usize).min(log.len())..(end as usize).min(log.len());
            records.extend_from_slice(&log[range]);
            if !self.is_calm && !records.is_empty() && self.random.one_in(20) {
                let at = self.random.below(records.len());
                records[at] = Record { is_whole: false, value: u64::MAX, ..records[at] };
            }
        }
        let flaw = self.flaw;
        let broker = self.at(to);
        if !broker.is_up || broker.fetching != Some(number) {
            return;
        }
        broker.fetching = None;
        let before = broker.high_watermark;
        let outcome = broker.take(body, &records, flaw);
        self.must(outcome);
        self.committed_by(to, before);
    }

    /// A leader looks whether a follower that fetched should come in.
    fn judge(&mut self) {
        if self.to_judge.is_empty() {
            return;
        }
        let at = self.random.below(self.to_judge.len());
        let (id, fetch) = self.to_judge.swap_remove(at);
        let view = self.view_of(id);
        let standings = |id: i32| view.brokers.get(&id).copied();
        let (is_mixed, now_ms) = (self.flaw == Some(Flaw::MixesReplicaStates), self.now_ms);
        let broker = self.at(id);
        let offsets = broker.offsets();
        let Role::Leader(leader) = &mut broker.role else { return };
        if is_mixed {
            // The incarnation is read from the metadata of now, the offset from the fetch of then.
            let broker_epoch = view.brokers[&fetch.replica].epoch;
            let forged = ReplicaFetch { broker_epoch, ..fetch };
            let _ = leader.note_fetch(&forged, &offsets, now_ms, &standings);
        }
        leader.propose_expansion(fetch.replica, &offsets, &standings);
        self.advance(id);
    }

    fn shrink(&mut self) {
        let (id, terms) = (self.any(), self.terms());
        let broker = self.at(id);
        let offsets = broker.offsets();
        if let Role::Leader(leader) = &mut broker.role {
            leader.propose_shrink(&offsets, &terms);
        }
        self.advance(id);
    }

    /// What a leader wants goes to the controller, again where it was lost; a broker has one such request on its way at
    /// most, as Kafka's have.
    fn propose(&mut self) {
        let id = self.any();
        let is_waited_for = |it: &Message| match it {
            Message::Alter { from: leader, .. } | Message::Altered { to: leader, .. } => *leader == id,
            _ => false,
        };
        if self.messages.iter().any(is_waited_for) {
            return;
        }
        let view = self.view_of(id);
        let standings = |id: i32| -> Option<Standing> { view.brokers.get(&id).copied() };
        let broker = self.at(id);
        let epoch = broker.epoch;
        let Role::Leader(leader) = &broker.role else { return };
        let Some(proposal) = leader.proposal(&standings) else { return };
        self.messages.push(Message::Alter { from: id, epoch, proposal });
    }

    fn fence_or_not(&mut self) {
        let id = self.any();
        let (is_up, is_active) = (self.at(id).is_up, self.controller.is_active(id));
        if is_up && !is_active {
            self.controller.unfence(id);
            self.note(|| format!("{id} is unfenced"));
        } else if is_active && (!is_up || (!self.is_calm && self.random.one_in(6) && self.may_go(id, true))) {
            self.controller.fence(id);
            self.note(|| format!("{id} is fenced"));
        }
    }

    fn stop(&mut self) {
        let id = self.any();
        if self.is_calm || !self.at(id).is_up {
            return;
        }
        let is_clean = self.random.one_in(3);
        if !self.may_go(id, is_clean) {
            return;
        }
        // What it had asked for came before its end, or never.
        self.messages.retain(|it| !matches!(it, Message::Alter { from, .. } if *from == id));
        let (flushed, len) = (self.at(id).flushed, self.at(id).log.len());
        let keep = match self.random.below(4) {
            _ if is_clean => len,
            0 => 0,
            1 => len,
            _ => flushed + self.random.below(len - flushed + 1),
        };
        self.note(|| format!("{id} stops (clean: {is_clean}), keeps {keep} of {len}"));
        let broker = self.at(id);
        broker.stop(keep);
        broker.was_clean = is_clean;
    }

    /// Nothing is promised where the last replica that has what was committed forgets it, or leaves those who did
    /// as the only ones in sync.
    fn may_go(&self, id: i32, keeps_all: bool) -> bool {
        let partition = self.controller.partition();
        let holders = || partition.isr.iter().chain(&partition.eligible_leader_replicas);
        let mut others = holders().filter(|it| **it != id).peekable();
        let is_last = others.peek().is_none();
        let is_holder = holders().any(|it| *it == id);
        !is_holder || (keeps_all && is_last) || others.any(|it| self.brokers[*it as usize - 1].is_up)
    }

    fn start(&mut self) {
        let id = self.any();
        if self.at(id).is_up {
            return;
        }
        let was_clean = self.at(id).was_clean;
        let epoch = self.controller.register(id, was_clean);
        self.note(|| format!("{id} starts with epoch {epoch}"));
        let last = self.controller.views.len() - 1;
        let broker = self.at(id);
        broker.epoch = epoch;
        broker.is_up = true;
        self.follow(id, last);
    }

    /// Everybody is well again: all replicas come to hold the same, and all of it is committed.
    fn recover(&mut self) {
        self.is_calm = true;
        for _ in 0..40_000 {
            self.step();
            // What is on its way arrives in time.
            self.deliver();
            self.judge();
            let isr = self.controller.partition().isr.len();
            let first = &self.brokers[0];
            let is_done = isr == self.brokers.len()
                && !self.committed.is_empty()
                && self.brokers.iter().all(|it| it.log == first.log && it.high_watermark == it.end());
            if is_done {
                return;
            }
            if self.brokers.iter().any(|it| !it.is_up) {
                self.start();
            }
        }
        let states: Vec<_> = self.brokers.iter().map(|it| (it.id, it.end(), it.high_watermark)).collect();
        self.broken(&format!(
            "the replicas do not come together: {states:?}, {:?}",
            self.controller.partition()
        ));
    }
}
