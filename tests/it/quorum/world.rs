//! A world of nodes with one clock, a network that loses, delays, doubles and cuts, disks that fail and forget: a seed
//! is a run. After every event the invariants of Kafka's own simulation are checked, and that nothing agreed on is lost.

mod checks;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use klamm::controller::quorum::{
    CallFailure, Endpoint, Output, Quorum, QuorumOptions, QuorumSettings, ReplicaKey, Request, Response,
    RoleName, SnapshotId, Voter, VoterChangeRequest, VoterSet,
};
use klamm::protocol::ErrorCode;
use klamm::record::{BatchBuilder, Compression};
use klamm::types::{LeaderEpoch, Offset, Uuid};

use super::log::{Directory, Flaw, MemoryLog, Snapshot};
use crate::random::Random;

/// How many steps are shown of a run that broke something.
const TRACE_LEN: usize = 60;

/// How hard a run is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Messages lost, of a thousand.
    pub loss: usize,
    /// Of a thousand steps, how many bring a fault.
    pub faults: usize,
    /// Whether nodes are wiped and voters come and go.
    pub changes: bool,
}

struct Node {
    directory: Rc<RefCell<Directory>>,
    directory_id: Uuid,
    quorum: Option<Quorum<MemoryLog>>,
    /// Connections of an older process are gone.
    incarnation: u32,
    paused_until: i64,
    skew_ms: i64,
    next_tick: i64,
    high_watermark: Offset,
}

#[derive(Clone, Debug)]
enum Event {
    Tick {
        node: usize,
        incarnation: u32,
    },
    Request {
        from: usize,
        to: usize,
        from_incarnation: u32,
        to_incarnation: u32,
        call: u64,
        request: Request,
    },
    Response {
        to: usize,
        incarnation: u32,
        call: u64,
        response: Box<Result<Response, CallFailure>>,
    },
    Restart {
        node: usize,
    },
    Append,
    Fault,
}

struct Queued {
    at: i64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What was agreed on: each batch with where it ends, and a digest of everything up to there.
#[derive(Default)]
struct Agreed {
    ends: Vec<Offset>,
    digests: Vec<u64>,
}

pub struct World {
    nodes: Vec<Node>,
    configured: VoterSet,
    random: Random,
    weather: Weather,
    now: i64,
    order: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    /// Links that are cut, by sender and receiver.
    cut: BTreeSet<(usize, usize)>,
    tokens: BTreeMap<u64, (usize, u32, u64)>,
    next_token: u64,
    leaders: BTreeMap<LeaderEpoch, i32>,
    agreed: Agreed,
    appended: u64,
    trace: VecDeque<(i64, String)>,
    traced: bool,
    calm: bool,
    /// Messages are encoded and decoded on their way.
    encoded: bool,
    /// Whether controllers that do not vote ask for their votes (KIP-1186).
    joins: bool,
    /// When a voter was last added or removed, whoever asked for it.
    changed_at: i64,
    pub steps: u64,
}

fn key(node: usize, directory_id: Uuid) -> ReplicaKey {
    ReplicaKey::new(node as i32 + 1, directory_id)
}

fn endpoint(node: usize) -> Endpoint {
    Endpoint { name: "CONTROLLER".to_owned(), host: "node".to_owned(), port: 9000 + node as u16 }
}

fn voter(node: usize, directory_id: Uuid) -> Voter {
    Voter { key: key(node, directory_id), endpoints: vec![endpoint(node)], kraft_versions: (0, 1) }
}

impl World {
    /// `voters` nodes that vote and `observers` that do not. A new cluster of klamm: nobody has a vote before all have
    /// met; or one that `kafka-storage format --initial-controllers` has made.
    pub fn new(
        seed: u64,
        voters: usize,
        observers: usize,
        weather: Weather,
        traced: bool,
        flaw: Option<Flaw>,
    ) -> Self {
        let mut random = Random::from_seed(seed);
        let formatted = voters == 1 || random.one_in(2);
        let mut draw_id = || Uuid::from_random_bytes(std::array::from_fn(|_| random.next() as u8));
        let ids: Vec<Uuid> = (0..voters + observers).map(|_| draw_id()).collect();
        let known: VoterSet = (0..voters).map(|node| voter(node, ids[node])).collect();
        let configured = (0..voters).map(|node| voter(node, Uuid::ZERO)).collect();
        let nodes = ids.iter().enumerate().map(|(node, directory_id)| {
            let mut directory =
                Directory { may_vote: formatted && node < voters, flaw, ..Directory::default() };
            if formatted && node < voters {
                let id = SnapshotId { end_offset: Offset::ZERO, epoch: LeaderEpoch(0) };
                let snapshot = Snapshot { voters: Some(known.clone()), kraft_version: 1, digest: 0 };
                directory.snapshots.insert(id, snapshot);
            }
            Node {
                directory: Rc::new(RefCell::new(directory)),
                directory_id: *directory_id,
                quorum: None,
                incarnation: 0,
                paused_until: 0,
                skew_ms: 0,
                next_tick: i64::MAX,
                high_watermark: Offset::ZERO,
            }
        });
        let nodes = nodes.collect();
        let mut world = Self {
            nodes,
            configured,
            random,
            weather,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            cut: BTreeSet::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            leaders: BTreeMap::new(),
            agreed: Agreed::default(),
            appended: 0,
            trace: VecDeque::new(),
            traced,
            calm: false,
            encoded: seed.is_multiple_of(8),
            changed_at: i64::MIN / 2,
            joins: weather.changes && seed.is_multiple_of(3),
            steps: 0,
        };
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        world.push(10, Event::Append);
        world.push(50, Event::Fault);
        world
    }

    fn push(&mut self, after: i64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at: self.now + after, order: self.order, event }));
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            if self.trace.len() == TRACE_LEN {
                self.trace.pop_front();
            }
            self.trace.push_back((self.now, text()));
        }
    }

    fn broken(&self, what: &str) -> ! {
        for (at, text) in &self.trace {
            eprintln!("{at:>8} {text}");
        }
        for (node, state) in self.nodes.iter().enumerate() {
            let directory = state.directory.borrow();
            eprintln!(
                "node {}: {:?}, {:?}, log {} to {} (epoch {}), high watermark {}, directory {}, may vote {}, voters {:?}",
                node + 1,
                state.quorum.as_ref().map(Quorum::role),
                directory.state,
                directory.start,
                directory.end(),
                directory.last_epoch(),
                state.high_watermark,
                state.directory_id,
                directory.may_vote,
                directory
                    .membership(self.configured.clone())
                    .voters()
                    .iter()
                    .map(|voter| voter.key)
                    .collect::<Vec<_>>()
            );
        }
        panic!("KLAMM_SEED={}: at {} ms, step {}: {what}", self.random.seed, self.now, self.steps);
    }

    fn start(&mut self, node: usize) {
        let seed = self.random.next();
        let configured = self.configured.clone();
        let now = self.local_time(node);
        let state = &mut self.nodes[node];
        state.incarnation += 1;
        state.next_tick = i64::MAX;
        let directory = state.directory.borrow();
        let options = QuorumOptions {
            local: key(node, state.directory_id),
            endpoints: vec![endpoint(node)],
            bootstrap: Vec::new(),
            membership: directory.membership(configured),
            state: directory.state,
            may_vote: directory.may_vote,
            settings: QuorumSettings { joins: self.joins, ..QuorumSettings::default() },
            seed,
        };
        drop(directory);
        state.high_watermark = Offset::ZERO;
        let log = MemoryLog(Rc::clone(&state.directory));
        match Quorum::open(log, options, now) {
            Ok(quorum) => {
                state.quorum = Some(quorum);
                self.settle(node);
            }
            Err(_) => self.crash(node),
        }
        self.note(|| format!("node {} starts", node + 1));
    }

    fn local_time(&self, node: usize) -> i64 {
        self.now + self.nodes[node].skew_ms
    }

    fn crash(&mut self, node: usize) {
        let kept = self.random.below(4);
        let state = &mut self.nodes[node];
        if state.quorum.take().is_some() || state.next_tick != i64::MIN {
            state.directory.borrow_mut().crash(kept);
            state.next_tick = i64::MIN;
            // Some are back before the others have noticed.
            let longest = if self.calm || self.random.one_in(3) { 20 } else { 4_000 };
            let after = 1 + self.random.below(longest) as i64;
            self.push(after, Event::Restart { node });
        }
        self.note(|| format!("node {} is killed", node + 1));
    }

    /// Sends what a node has to send, sees to its next tick, and checks what must hold.
    fn settle(&mut self, node: usize) {
        let now = self.local_time(node);
        let Some(quorum) = self.nodes[node].quorum.as_mut() else { return };
        let outputs = quorum.take_outputs();
        let deadline = quorum.deadline_ms(now) - self.nodes[node].skew_ms;
        let has_voted = outputs.iter().any(|output| {
            matches!(output, Output::Answer { response: Response::Vote { granted: true, .. }, .. })
        });
        for output in outputs {
            self.output(node, output);
        }
        if has_voted && !self.calm && self.weather.faults > 1 && self.random.one_in(8) {
            self.check(node);
            self.crash(node);
            return;
        }
        let state = &mut self.nodes[node];
        let at = deadline.max(self.now + 1);
        if state.next_tick > at || state.next_tick <= self.now {
            state.next_tick = at;
            let incarnation = state.incarnation;
            self.push(at - self.now, Event::Tick { node, incarnation });
        }
        self.check(node);
    }

    fn delay(&mut self) -> i64 {
        match self.random.below(100) {
            0 if !self.calm => 1 + self.random.below(3_000) as i64,
            1..10 => 1 + self.random.below(60) as i64,
            _ => 1 + self.random.below(4) as i64,
        }
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to)) || (!self.calm && self.random.below(1_000) < self.weather.loss)
    }

    fn output(&mut self, node: usize, output: Output) {
        let incarnation = self.nodes[node].incarnation;
        let delay = self.delay();
        match output {
            Output::Send { call, target, request, .. } => {
                let request = if self.encoded { super::wire::request(request) } else { request };
                let to = target as usize - 1;
                if self.nodes[to].quorum.is_none() && !self.cut.contains(&(node, to)) {
                    let response = Box::new(Err(CallFailure::Refused));
                    self.push(delay, Event::Response { to: node, incarnation, call, response });
                } else if !self.is_lost(node, to) {
                    let to_incarnation = self.nodes[to].incarnation;
                    let event = Event::Request {
                        from: node,
                        to,
                        from_incarnation: incarnation,
                        to_incarnation,
                        call,
                        request,
                    };
                    if !self.calm && self.random.one_in(50) {
                        let again = delay + self.delay();
                        self.push(again, event.clone());
                    }
                    self.push(delay, event);
                }
            }
            Output::Answer { token, response } => {
                if matches!(response, Response::VoterChange { error: ErrorCode::None, .. }) {
                    self.changed_at = self.now;
                }
                let Some((to, incarnation, call)) = self.tokens.remove(&token) else { return };
                if to != usize::MAX && !self.is_lost(node, to) {
                    let response = if self.encoded { super::wire::response(response) } else { response };
                    let response = Box::new(Ok(response));
                    self.push(delay, Event::Response { to, incarnation, call, response });
                }
            }
        }
    }

    /// Lets `steps` events happen.
    pub fn run(&mut self, steps: u64) {
        let last = self.steps + steps;
        while self.steps < last {
            self.step();
        }
    }

    fn step(&mut self) {
        let Some(Reverse(next)) = self.queue.pop() else { self.broken("nothing will ever happen") };
        self.now = self.now.max(next.at);
        self.steps += 1;
        match next.event {
            Event::Tick { node, incarnation } => self.act(node, incarnation, |quorum, now| quorum.tick(now)),
            Event::Request { from, to, from_incarnation, to_incarnation, call, request } => {
                self.note(|| format!("{} -> {}: {request:?}", from + 1, to + 1));
                if self.nodes[to].quorum.is_none() || self.nodes[to].incarnation != to_incarnation {
                    return;
                }
                self.next_token += 1;
                let token = self.next_token;
                self.tokens.insert(token, (from, from_incarnation, call));
                self.act(to, to_incarnation, |quorum, now| quorum.request(now, token, request));
            }
            Event::Response { to, incarnation, call, response } => {
                self.note(|| format!("{} <- {response:?}", to + 1));
                self.act(to, incarnation, |quorum, now| quorum.response(now, call, *response));
            }
            Event::Restart { node } => self.start(node),
            Event::Append => {
                self.append();
                let after = 5 + self.random.below(60) as i64;
                self.push(after, Event::Append);
            }
            Event::Fault => {
                if !self.calm {
                    self.fault();
                }
                let after = (20 + self.random.below(20_000) / self.weather.faults.max(1)) as i64;
                self.push(after, Event::Fault);
            }
        }
    }

    fn act(
        &mut self,
        node: usize,
        incarnation: u32,
        act: impl FnOnce(&mut Quorum<MemoryLog>, i64) -> Result<(), klamm::controller::quorum::LogFailure>,
    ) {
        let now = self.local_time(node);
        if self.nodes[node].incarnation != incarnation {
            return;
        }
        if self.nodes[node].paused_until > self.now && !self.calm {
            // What arrives meanwhile waits in its buffers: it is a tick when the node goes on.
            let after = self.nodes[node].paused_until - self.now;
            self.nodes[node].next_tick = self.now + after;
            self.push(after, Event::Tick { node, incarnation });
            return;
        }
        let Some(quorum) = self.nodes[node].quorum.as_mut() else { return };
        match act(quorum, now) {
            Ok(()) => self.settle(node),
            Err(failure) if failure.0.contains("agreed on") => self.broken(&failure.0),
            Err(_) => self.crash(node),
        }
    }

    fn leaders_now(&self) -> Vec<usize> {
        let leads = |node: &usize| {
            self.nodes[*node].quorum.as_ref().is_some_and(|quorum| quorum.role() == RoleName::Leader)
        };
        (0..self.nodes.len()).filter(leads).collect()
    }

    fn append(&mut self) {
        for node in self.leaders_now() {
            self.appended += 1;
            let mut batch = BatchBuilder::new(Compression::NONE);
            batch.append(self.appended as i64, None, Some(&self.appended.to_be_bytes()), []);
            let bytes = batch.build().unwrap();
            let incarnation = self.nodes[node].incarnation;
            self.act(node, incarnation, |quorum, now| {
                let epoch = quorum.epoch();
                quorum.append(now, epoch, &bytes).map(|_| ())
            });
        }
    }

    fn fault(&mut self) {
        let node = self.random.below(self.nodes.len());
        match self.random.below(11) {
            0 | 1 => self.crash(node),
            2 => self.nodes[node].paused_until = self.now + self.random.below(5_000) as i64,
            3 => {
                let side: BTreeSet<usize> = (0..self.nodes.len()).filter(|_| self.random.one_in(2)).collect();
                let one_way = self.random.one_in(2);
                for (from, to) in self.pairs() {
                    if side.contains(&from) && !side.contains(&to) {
                        self.cut.insert((from, to));
                        if !one_way {
                            self.cut.insert((to, from));
                        }
                    }
                }
                self.note(|| format!("{side:?} is cut off, one way: {one_way}"));
            }
            4 | 5 => self.cut.clear(),
            6 => {
                let calls = self.random.below(6) as u32;
                self.nodes[node].directory.borrow_mut().fails_in = Some(calls);
            }
            7 => self.snapshot(node),
            8 => self.nodes[node].skew_ms += self.random.below(3_000) as i64,
            9 if self.weather.changes => self.wipe(node),
            10 if self.weather.changes => self.change_voters(node),
            _ => {}
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.nodes.len();
        all.clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect()
    }

    /// A node makes a snapshot of all it knows to be agreed on, and drops that from its log.
    fn snapshot(&mut self, node: usize) {
        let state = &self.nodes[node];
        let Some(quorum) = &state.quorum else { return };
        let mut directory = state.directory.borrow_mut();
        let cut = directory.entries.partition_point(|entry| entry.next <= state.high_watermark);
        let Some(last) = cut.checked_sub(1).map(|last| directory.entries[last].clone()) else { return };
        let id = SnapshotId { end_offset: last.next, epoch: last.epoch };
        let membership = quorum.membership();
        let at = self.agreed.ends.binary_search(&last.next).expect("what is agreed on was noted");
        let snapshot = Snapshot {
            voters: membership.voters_before(last.next).cloned(),
            kraft_version: membership.kraft_version_before(last.next),
            digest: self.agreed.digests[at],
        };
        directory.trim(id, snapshot);
    }

    /// The directory is lost; the node comes back with an empty one. Never more than a minority is without its log.
    pub fn wipe(&mut self, node: usize) {
        let Some(voters) = self.newest_voters() else { return };
        let intact = voters.iter().filter(|voter| {
            let state = &self.nodes[voter.key.id as usize - 1];
            let may_vote = state.directory.borrow().may_vote;
            may_vote && state.directory_id == voter.key.directory_id && voter.key.id as usize - 1 != node
        });
        // Whoever takes voters out must not lose the directories of others meanwhile.
        let is_changing = self.now - self.changed_at < 15_000;
        // It may have asked for its vote already, and be counted as soon as that arrives.
        let with_it = voters.with(voter(node, self.nodes[node].directory_id));
        let majority = if self.joins { with_it.majority() } else { voters.majority() };
        if intact.count() < majority || is_changing {
            return;
        }
        let id = Uuid::from_random_bytes(std::array::from_fn(|_| self.random.next() as u8));
        self.crash(node);
        let state = &mut self.nodes[node];
        let flaw = state.directory.borrow().flaw;
        let is_flawed = flaw == Some(Flaw::WipedVoterVotes);
        if !is_flawed {
            state.directory_id = id;
        }
        *state.directory.borrow_mut() = Directory { may_vote: is_flawed, flaw, ..Directory::default() };
        self.note(|| format!("node {} is wiped", node + 1));
    }

    /// The voters as the leader with the newest epoch has them, where all of it is agreed on.
    fn newest_voters(&self) -> Option<VoterSet> {
        let quorums = self.nodes.iter().filter_map(|node| node.quorum.as_ref());
        let leader =
            quorums.filter(|quorum| quorum.role() == RoleName::Leader).max_by_key(|quorum| quorum.epoch())?;
        let high_watermark = leader.high_watermark()?;
        let settled = leader.membership().voters_offset().is_some_and(|offset| offset < high_watermark);
        (settled && leader.membership().kraft_version() > 0).then(|| leader.membership().voters().clone())
    }

    /// Removes a voter, or adds a node that is none.
    fn change_voters(&mut self, node: usize) {
        let Some(voters) = self.newest_voters() else { return };
        let directory_id = self.nodes[node].directory_id;
        let may_vote = |voter: &&Voter| {
            let state = &self.nodes[voter.key.id as usize - 1];
            state.directory.borrow().may_vote && state.directory_id == voter.key.directory_id
        };
        let rest = voters.without(node as i32 + 1);
        if rest.iter().filter(may_vote).count() < rest.majority() {
            return;
        }
        let request = match voters.get(node as i32 + 1) {
            Some(known) if voters.len() > 2 || known.key.directory_id != directory_id => {
                VoterChangeRequest::Remove { key: known.key }
            }
            Some(_) => return,
            None => VoterChangeRequest::Add {
                voter: voter(node, directory_id),
                timeout_ms: 5_000,
                ack_when_committed: self.random.one_in(2),
            },
        };
        self.note(|| format!("{request:?}"));
        self.changed_at = self.now;
        for leader in self.leaders_now() {
            self.next_token += 1;
            let token = self.next_token;
            self.tokens.insert(token, (usize::MAX, 0, 0));
            let (incarnation, request) = (self.nodes[leader].incarnation, request.clone());
            self.act(leader, incarnation, |quorum, now| quorum.change_voters(now, token, request));
        }
    }

    /// Everything works again: before long there is one leader, and it gets its records agreed on.
    pub fn must_recover(&mut self) {
        self.calm = true;
        self.cut.clear();
        for node in 0..self.nodes.len() {
            self.nodes[node].directory.borrow_mut().fails_in = None;
            self.nodes[node].paused_until = 0;
        }
        let agreed = self.agreed.ends.len();
        let deadline = self.now + 60_000;
        while self.agreed.ends.len() < agreed + 5 || self.leaders_now().is_empty() {
            if self.now > deadline {
                self.broken("nothing is agreed on a minute after all faults");
            }
            self.step();
        }
        self.check_leader_completeness();
    }

    /// Has all nodes that do not vote ask for their votes, once they are started again.
    pub fn let_join(&mut self) {
        self.joins = true;
        for node in 0..self.nodes.len() {
            self.crash(node);
        }
    }

    /// How many batches were agreed on.
    pub fn agreed(&self) -> usize {
        self.agreed.ends.len()
    }

    /// The nodes that lead.
    pub fn leaders(&self) -> Vec<usize> {
        self.leaders_now()
    }

    /// No more faults from here on but those the caller brings.
    pub fn calm_down(&mut self) {
        self.calm = true;
    }

    /// Whether this node's directory, as it is now, has one of `count` votes.
    pub fn votes(&self, node: usize, count: usize) -> bool {
        let key = key(node, self.nodes[node].directory_id);
        self.newest_voters().is_some_and(|voters| voters.contains(&key) && voters.len() == count)
    }

    /// A request from nowhere arrives at a node.
    pub fn hear(&mut self, node: usize, request: Request) {
        self.next_token += 1;
        let token = self.next_token;
        self.tokens.insert(token, (usize::MAX, 0, 0));
        let incarnation = self.nodes[node].incarnation;
        self.act(node, incarnation, |quorum, now| quorum.request(now, token, request));
    }

    /// The epoch that each node is in.
    pub fn epochs(&self) -> Vec<LeaderEpoch> {
        self.nodes.iter().filter_map(|node| node.quorum.as_ref()).map(Quorum::epoch).collect()
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        let links = self.pairs().into_iter().filter(|(from, to)| *from == node || *to == node);
        self.cut = links.collect();
    }

    /// Lets everything happen that is due within so many milliseconds.
    pub fn run_for(&mut self, ms: i64) {
        let until = self.now + ms;
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= until) {
            self.step();
        }
        self.now = until;
    }
}
