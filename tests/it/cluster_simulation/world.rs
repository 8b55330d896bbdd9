//! A cluster in one process: nodes of a quorum that are brokers as well, one clock, one network, their disks. A seed is
//! a run. What the nodes decide is decided by klamm's own state machines; here is what carries it from one to the other.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use klamm::config::BrokerConfig;
use klamm::controller::quorum::{
    CallFailure, Endpoint, LogFailure, Output, Quorum, QuorumLog, QuorumOptions, QuorumSettings, ReplicaKey,
    Response, RoleName, SnapshotId, Voter, VoterSet,
};
use klamm::controller::{Around, Question, Reply, Term};
use klamm::record::{BatchBuilder, Compression};
use klamm::types::{LeaderEpoch, Offset, Uuid};

use super::agreed::Agreed;
use super::flaw::Flaw;
use super::node::{Life, Node, Waiter};
use super::queue::{Event, Queue};
use super::truth::Truth;
use crate::quorum::log::{Directory, MemoryLog, Snapshot};
use crate::random::Random;

/// How many steps are shown of a run that broke something, where `KLAMM_TRACE` says nothing else.
const TRACE_LEN: u64 = 60;

pub const PARTITIONS: usize = 2;
pub const TOPIC: &str = "t";
pub const CLUSTER_ID: &str = "simulated-cluster-0001";
pub const LAG_MAX_MS: i64 = 600;
pub const SESSION_MS: i64 = 1_500;
const FETCH_TIMEOUT_MS: i64 = 800;
/// How long a leader may go on after another one was elected: until no majority has fetched for one and a half timeouts,
/// the fetches that were on their way included.
pub const LEADS_ON_MS_MAX: i64 = 4_000;

pub struct World {
    pub nodes: Vec<Node>,
    pub flaw: Option<Flaw>,
    pub configured: VoterSet,
    pub config: Arc<BrokerConfig>,
    pub random: Random,
    pub now: i64,
    pub queue: Queue,
    /// Links that are cut, from a node to the nodes of these bits.
    pub cut: Vec<u32>,
    pub tokens: BTreeMap<u64, (usize, u32, u64)>,
    pub next_number: u64,
    pub leaders: BTreeMap<LeaderEpoch, (usize, i64)>,
    pub agreed: Agreed,
    /// Who lost its power last, until the controller knows.
    pub without_power: Option<usize>,
    /// What is true of each topic that ever had the name, by number.
    pub truths: Vec<(Uuid, Vec<Truth>)>,
    pub min_isr: usize,
    pub next_value: u64,
    pub acknowledged: u64,
    pub is_calm: bool,
    /// More has failed than is promised to be survived: the run ends here.
    pub is_excused: bool,
    /// Who has lost something is hit again: see `faults`.
    pub is_pursued: bool,
    /// Messages of the quorum are encoded and decoded on their way.
    pub is_encoded: bool,
    pub steps: u64,
    pub faults: u64,
    trace: VecDeque<(i64, String)>,
    is_traced: bool,
    trace_len: usize,
}

fn key(node: usize, directory_id: Uuid) -> ReplicaKey {
    ReplicaKey::new(node as i32 + 1, directory_id)
}

fn endpoint(node: usize) -> Endpoint {
    Endpoint { name: "C".to_owned(), host: "n".to_owned(), port: 9000 + node as u16 }
}

fn voter(node: usize, directory_id: Uuid) -> Voter {
    Voter { key: key(node, directory_id), endpoints: vec![endpoint(node)], kraft_versions: (0, 1) }
}

impl World {
    pub fn new(seed: u64, config: &Arc<BrokerConfig>, flaw: Option<Flaw>, is_traced: bool) -> Self {
        let mut random = Random::from_seed(seed);
        let count = 3 + random.below(3);
        let voters = match random.below(10) {
            0 => 1,
            1 | 2 if count == 5 => 5,
            _ => 3,
        };
        let is_formatted = voters == 1 || random.one_in(2);
        let mut draw_id = || Uuid::from_random_bytes(std::array::from_fn(|_| random.next() as u8));
        let ids: Vec<(Uuid, Uuid)> = (0..count).map(|_| (draw_id(), draw_id())).collect();
        let known: VoterSet = (0..voters).map(|node| voter(node, ids[node].0)).collect();
        let configured = (0..voters).map(|node| voter(node, Uuid::ZERO)).collect();
        let log_flaw = match flaw {
            Some(Flaw::Quorum(flaw)) => Some(flaw),
            _ => None,
        };
        let nodes = ids.iter().enumerate().map(|(node, (directory_id, data_id))| {
            let begins = is_formatted && node < voters;
            let mut directory = Directory { may_vote: begins, flaw: log_flaw, ..Directory::default() };
            if begins {
                let id = SnapshotId { end_offset: Offset::ZERO, epoch: LeaderEpoch(0) };
                let snapshot = Snapshot { voters: Some(known.clone()), kraft_version: 1, digest: 0 };
                directory.snapshots.insert(id, snapshot);
            }
            Node::new(directory, *directory_id, *data_id, PARTITIONS)
        });
        let nodes: Vec<Node> = nodes.collect();
        let mut world = Self {
            cut: vec![0; nodes.len()],
            nodes,
            flaw,
            configured,
            config: Arc::clone(config),
            min_isr: 1 + random.below(2),
            random,
            now: 0,
            queue: Queue::default(),
            tokens: BTreeMap::new(),
            next_number: 0,
            leaders: BTreeMap::new(),
            agreed: Agreed::default(),
            without_power: None,
            truths: Vec::new(),
            next_value: 0,
            acknowledged: 0,
            is_calm: false,
            is_excused: false,
            is_pursued: false,
            is_encoded: seed.is_multiple_of(16),
            steps: 0,
            faults: 0,
            trace: VecDeque::new(),
            is_traced,
            trace_len: super::number("KLAMM_TRACE", TRACE_LEN) as usize,
        };
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        world.push(5, Event::Admin);
        world.push(1_000, Event::Fault);
        for partition in 0..PARTITIONS {
            world.push(20, Event::Produce { partition });
        }
        world
    }

    pub fn push(&mut self, after: i64, event: Event) {
        self.queue.push(self.now + after, event);
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.is_traced {
            if self.trace.len() == self.trace_len {
                self.trace.pop_front();
            }
            self.trace.push_back((self.now, text()));
        }
    }

    pub fn broken(&self, what: &str) -> ! {
        for (at, text) in &self.trace {
            eprintln!("{at:>8} {text}");
        }
        panic!("KLAMM_SEED={}: at {} ms, event {}: {what}", self.random.seed, self.now, self.steps);
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn draw_id(&mut self) -> Uuid {
        Uuid::from_random_bytes(std::array::from_fn(|_| self.random.next() as u8))
    }

    pub fn local_time(&self, node: usize) -> i64 {
        self.now + self.nodes[node].skew_ms
    }

    /// A process begins on what the disk has.
    pub fn start(&mut self, node: usize) {
        let incarnation = self.draw_id();
        let state = &mut self.nodes[node];
        state.life_number += 1;
        let start = state.directory.borrow().start;
        state.agreed = self.agreed.position(start);
        state.image = self.agreed.image(state.agreed);
        state.applied = Arc::clone(&state.image);
        state.life = Life::Registering;
        state.incarnation = incarnation;
        state.previous_epoch = state.clean_mark.unwrap_or(-1);
        (state.is_applying, state.is_open, state.wants_stop) = (false, false, false);
        (state.proposing, state.isr_number) = (0, 0);
        state.proposed.clear();
        state.standings.clear();
        let life = state.life_number;
        self.note(|| format!("node {} starts, life {life}", node + 1));
        if self.open_quorum(node) {
            let after = 1 + self.random.below(20) as i64;
            self.push(after, Event::Beat { node, life });
            self.push(after + LAG_MAX_MS / 2, Event::Look { node, life });
            self.push(after + 40, Event::Flush { node, life });
            self.settle(node);
        }
    }

    /// Takes its place in the quorum on what the disk has.
    pub fn open_quorum(&mut self, node: usize) -> bool {
        let seed = self.random.next();
        let now = self.local_time(node);
        let never = self.flaw == Some(Flaw::NeverResigns) && node == 0;
        let state = &mut self.nodes[node];
        state.quorum_life += 1;
        state.next_tick = i64::MAX;
        state.high_watermark = Offset::ZERO;
        state.term = None;
        let directory = state.directory.borrow();
        let options = QuorumOptions {
            local: key(node, state.directory_id),
            endpoints: vec![endpoint(node)],
            bootstrap: Vec::new(),
            membership: directory.membership(self.configured.clone()),
            state: directory.state,
            may_vote: directory.may_vote,
            settings: QuorumSettings {
                election_timeout_ms: 400,
                fetch_timeout_ms: if never { 1_000_000_000 } else { FETCH_TIMEOUT_MS },
                election_backoff_ms_max: 300,
                request_timeout_ms: 800,
                fetch_wait_ms_max: 250,
                ..QuorumSettings::default()
            },
            seed,
        };
        drop(directory);
        let log = MemoryLog(Rc::clone(&state.directory));
        let opened = Quorum::open(log, options, now);
        let is_open = opened.is_ok();
        self.nodes[node].quorum = opened.ok();
        if !is_open {
            self.fail(node);
        }
        is_open
    }

    pub fn delay(&mut self, from: usize, to: usize) -> i64 {
        let slowness = self.nodes[from].slowness.max(self.nodes[to].slowness);
        let base = match self.random.below(128) {
            0 if !self.is_calm => 1 + self.random.below(800) as i64,
            1..12 => 1 + self.random.below(40) as i64,
            _ => 1 + self.random.below(4) as i64,
        };
        base * slowness
    }

    pub fn is_lost(&mut self, from: usize, to: usize) -> bool {
        self.cut[from] & (1 << to) != 0 || (!self.is_calm && from != to && self.random.below(128) == 0)
    }

    /// Something that is late, or comes twice.
    pub fn comes_twice(&mut self) -> bool {
        !self.is_calm && self.random.below(64) == 0
    }

    /// Draws the conclusions of what has happened to a node, as `controller/member` does.
    pub fn settle(&mut self, node: usize) {
        self.send_outputs(node);
        if !self.nodes[node].is_up() {
            return;
        }
        self.check_quorum(node);
        self.leave_office(node);
        self.advance_metadata(node);
        self.take_office(node);
        self.tick_office(node);
        self.send_outputs(node);
        self.schedule_tick(node);
    }

    fn schedule_tick(&mut self, node: usize) {
        let now = self.local_time(node);
        let state = &mut self.nodes[node];
        let Some(quorum) = &state.quorum else { return };
        let office = state.term.as_ref().and_then(Term::next_deadline_ms).unwrap_or(i64::MAX);
        let deadline = quorum.deadline_ms(now).min(office);
        let at = deadline.saturating_sub(state.skew_ms).max(self.now + 1);
        if state.next_tick > at || state.next_tick <= self.now {
            state.next_tick = at;
            let life = state.quorum_life;
            self.queue.push(at, Event::Tick { node, life });
        }
    }

    fn send_outputs(&mut self, node: usize) {
        let Some(quorum) = self.nodes[node].quorum.as_mut() else { return };
        let outputs = quorum.take_outputs();
        for output in outputs {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let life = self.nodes[node].quorum_life;
        match output {
            Output::Send { call, target, request, .. } => {
                let to = target as usize - 1;
                let delay = self.delay(node, to);
                let request = if self.is_encoded { crate::quorum::wire::request(request) } else { request };
                if !self.nodes[to].is_up() && self.cut[node] & (1 << to) == 0 {
                    let response = Box::new(Err(CallFailure::Refused));
                    self.push(delay, Event::Answer { to: node, life, call, response });
                } else if !self.is_lost(node, to) {
                    let to_life = self.nodes[to].quorum_life;
                    let event =
                        |request| Event::Ask { from: node, from_life: life, to, to_life, call, request };
                    let request = Box::new(request);
                    if self.comes_twice() {
                        let again = delay + self.delay(node, to);
                        let request = request.clone();
                        self.push(again, event(request));
                    }
                    self.push(delay, event(request));
                }
            }
            Output::Answer { token, response } => {
                let Some((to, life, call)) = self.tokens.remove(&token) else { return };
                if !self.is_lost(node, to) {
                    let response =
                        if self.is_encoded { crate::quorum::wire::response(response) } else { response };
                    let delay = self.delay(node, to);
                    self.push(delay, Event::Answer { to, life, call, response: Box::new(Ok(response)) });
                }
            }
        }
    }

    /// Lets something happen to a node's quorum.
    pub fn act(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Quorum<MemoryLog>, i64) -> Result<(), LogFailure>,
    ) {
        let now = self.local_time(node);
        let Some(quorum) = self.nodes[node].quorum.as_mut() else { return };
        match act(quorum, now) {
            Ok(()) => self.settle(node),
            Err(failure) if failure.0.contains("agreed on") => self.broken(&failure.0),
            Err(_) => self.fail(node),
        }
    }

    fn leave_office(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(quorum) = &state.quorum else { return };
        let leads = quorum.role() == RoleName::Leader;
        let epoch = quorum.epoch();
        let Some(term) = state.term.take_if(|term| !leads || term.epoch() != epoch) else { return };
        for waiter in term.end() {
            self.reply(node, waiter.who, None);
        }
    }

    /// Publishes what the high watermark has passed, and answers those who waited for it.
    fn advance_metadata(&mut self, node: usize) {
        let Some(high_watermark) = self.nodes[node].quorum.as_ref().and_then(Quorum::high_watermark) else {
            return;
        };
        let known = self.nodes[node].agreed;
        self.follow_agreed(node, high_watermark);
        loop {
            let term = self.nodes[node].term.as_mut();
            let Some((image, waiter)) = term.and_then(|term| term.take_agreed(high_watermark)) else { break };
            self.check_decided(node, &image);
            self.reply(node, waiter.who, Some(waiter.reply));
        }
        let state = &mut self.nodes[node];
        if state.agreed == known {
            return;
        }
        state.image = self.agreed.image(state.agreed);
        if let Some(term) = state.term.as_mut().filter(|term| !term.is_waiting()) {
            term.go_on_from(Arc::clone(&state.image));
        }
        if !state.is_applying {
            state.is_applying = true;
            let life = state.life_number;
            let longest = if self.random.one_in(10) { 200 } else { 6 };
            let after = (1 + self.random.below(longest) as i64) * self.nodes[node].slowness;
            self.push(after, Event::Apply { node, life });
        }
    }

    fn take_office(&mut self, node: usize) {
        let elapsed_ms = self.local_time(node);
        let state = &mut self.nodes[node];
        let Some(quorum) = &state.quorum else { return };
        let (Some(epoch_start), Some(high_watermark)) = (quorum.epoch_start(), quorum.high_watermark())
        else {
            return;
        };
        if state.term.is_some() || high_watermark <= epoch_start {
            return;
        }
        let epoch = quorum.epoch();
        state.term = Some(Term::begin(epoch, Arc::clone(&state.image), SESSION_MS, elapsed_ms));
        let is_new = state.image.features().is_empty() || state.image.in_transaction();
        self.note(|| format!("node {} is the active controller of epoch {}", node + 1, epoch.0));
        if is_new {
            self.decide(node, &Question::Begin, None);
        }
    }

    fn tick_office(&mut self, node: usize) {
        let elapsed_ms = self.local_time(node);
        let deadline = self.nodes[node].term.as_ref().and_then(Term::next_deadline_ms);
        if deadline.is_some_and(|deadline| deadline <= elapsed_ms) {
            self.decide(node, &Question::Tick, None);
        }
    }

    /// The active controller decides, appends, and answers once it is agreed on.
    pub fn decide(&mut self, node: usize, question: &Question, who: Option<(usize, u32, u64)>) {
        let elapsed_ms = self.local_time(node);
        let flaw = self.flaw;
        let random = &mut self.random;
        let state = &mut self.nodes[node];
        let (Some(term), Some(quorum)) = (&mut state.term, &mut state.quorum) else { return };
        let around = Around {
            config: &self.config,
            static_config: &self.config,
            node_id: node as i32 + 1,
            cluster_id: CLUSTER_ID,
            elapsed_ms,
            next_offset: quorum.log().end_offset().0,
        };
        let mut draw_id = || Uuid::from_random_bytes(std::array::from_fn(|_| random.next() as u8));
        let mut decided = term.ask(question, around, &mut draw_id);
        if flaw == Some(Flaw::ElectsFenced) {
            super::faults::elect_fenced(question, &mut decided);
        }
        let epoch = term.epoch();
        let has_records = !decided.records.is_empty();
        let waiter = Waiter { who, reply: decided.reply };
        let now_reply = (flaw == Some(Flaw::AnswersBeforeAgreed)).then(|| waiter.reply.clone());
        if has_records {
            let level = match decided.builder.image().feature("metadata.version") {
                0 => 30,
                level => level,
            };
            let mut batch = BatchBuilder::new(Compression::NONE);
            for record in &decided.records {
                let value = record.encode(level).unwrap();
                batch.append(elapsed_ms, None, Some(&value), []);
            }
            let bytes = batch.build().unwrap();
            match quorum.append(elapsed_ms, epoch, &bytes) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => return self.fail(node),
            }
        }
        let end_offset = quorum.log().end_offset();
        let builder = Some(decided.builder).filter(|_| has_records);
        let unwaited = term.decided(builder, end_offset, waiter);
        if let Some(waiter) = unwaited {
            self.reply(node, waiter.who, Some(waiter.reply));
        } else if let Some(reply) = now_reply {
            self.reply(node, who, Some(reply));
        }
        if has_records {
            self.advance_metadata(node);
        }
    }

    fn reply(&mut self, node: usize, who: Option<(usize, u32, u64)>, reply: Option<Reply>) {
        let Some((to, life, number)) = who else { return };
        if node == to || !self.is_lost(node, to) {
            let delay = if node == to { 1 } else { self.delay(node, to) };
            self.push(delay, Event::Reply { to, life, number, reply: Box::new(reply) });
        }
    }

    /// A broker asks the node that it takes for the active controller.
    pub fn question(&mut self, from: usize, number: u64, question: Question) {
        let Some(quorum) = &self.nodes[from].quorum else { return };
        let Some(leader) = quorum.leadership().leader_id else { return };
        let to = leader as usize - 1;
        let from_life = self.nodes[from].life_number;
        if from != to && self.is_lost(from, to) {
            return;
        }
        let delay = if from == to { 1 } else { self.delay(from, to) };
        if from != to && self.comes_twice() {
            let again = delay + 20 * self.delay(from, to);
            let question = Box::new(question.clone());
            self.push(again, Event::Question { from, from_life, to, number, question });
        }
        self.push(delay, Event::Question { from, from_life, to, number, question: Box::new(question) });
    }

    /// The nodes in office.
    pub fn in_office(&self) -> Option<usize> {
        let offices = self.nodes.iter().enumerate();
        offices.filter_map(|(at, node)| Some((node.term.as_ref()?.epoch(), at))).max().map(|(_, at)| at)
    }

    /// The answer that a request of the quorum waits for.
    pub fn asked(
        &mut self,
        from: usize,
        from_life: u32,
        to: usize,
        call: u64,
        request: klamm::controller::quorum::Request,
    ) {
        let token = self.number();
        self.tokens.insert(token, (from, from_life, call));
        self.act(to, |quorum, now| quorum.request(now, token, request));
    }

    pub fn answered(&mut self, to: usize, call: u64, response: Result<Response, CallFailure>) {
        self.act(to, |quorum, now| quorum.response(now, call, response));
    }
}
