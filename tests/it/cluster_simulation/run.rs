//! One event after the other.

use klamm::controller::Question;

use super::queue::Event;
use super::replica::Role;
use super::world::{TOPIC, World};

/// Within so many events after all faults everything must be well.
const RECOVERY_STEPS: u64 = 60_000;

impl World {
    /// Lets `steps` events happen, and then waits until all is well.
    pub fn run_and_recover(&mut self, steps: u64) {
        while self.steps < steps && !self.is_excused {
            self.step();
        }
        self.calm_down();
        let last = self.steps + RECOVERY_STEPS;
        while !(self.is_excused || self.steps.is_multiple_of(64) && self.is_well()) {
            if self.steps > last {
                self.broken(&format!("the replicas do not come together: {}", self.standing()));
            }
            self.step();
        }
    }

    /// All replicas hold the same, in sync, and committed but for what is being written.
    fn is_well(&self) -> bool {
        let image = self.agreed.newest();
        let Some(topic) = image.topic(TOPIC) else { return false };
        topic.partitions.iter().all(|(index, partition)| {
            let is_whole = partition.isr.len() == partition.replicas.len()
                && partition.adding_replicas.is_empty()
                && partition.leader != -1;
            let truth =
                self.truths.iter().find(|(id, _)| *id == topic.id).map(|(_, all)| &all[*index as usize]);
            let committed = truth.map_or(0, |truth| truth.committed.len());
            // All that could lead stopped uncleanly, one after the other, or the last of them to lead is no replica any
            // more: somebody has to choose.
            let candidates = [&partition.isr, &partition.eligible_leader_replicas, &partition.last_known_elr];
            if partition.leader == -1
                && !candidates.iter().any(|ids| ids.iter().any(|id| partition.replicas.contains(id)))
            {
                return true;
            }
            is_whole
                && partition.replicas.iter().all(|id| {
                    let replica = self.nodes[*id as usize - 1].replicas[*index as usize].as_ref();
                    replica.is_some_and(|it| {
                        it.records.len() >= committed && it.high_watermark as usize + 40 >= committed
                    })
                })
        })
    }

    fn standing(&self) -> String {
        let image = self.agreed.newest();
        let partitions = image.topic(TOPIC).map(|topic| topic.partitions.clone());
        let replica = |replica: &Option<super::replica::Replica>| {
            replica.as_ref().map(|it| {
                let role = match &it.role {
                    Role::None => "none".to_owned(),
                    Role::Leader(leader) => format!("leads {}", leader.epoch()),
                    Role::Follower { leader, epoch } => format!("follows {leader} in {epoch}"),
                };
                (it.end(), it.high_watermark, role)
            })
        };
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let roles: Vec<_> = node.replicas.iter().map(replica).collect();
                (
                    node.life,
                    node.quorum.as_ref().map(|it| (it.role(), it.epoch())),
                    node.term.is_some(),
                    roles,
                )
            })
            .collect();
        format!("{partitions:?}, {nodes:?}")
    }

    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { self.broken("nothing will ever happen") };
        self.now = self.now.max(at);
        let (node, is_there) = match event.place() {
            Place::World => (None, true),
            Place::Node(node) => (Some(node), true),
            Place::Process(node, life) => (Some(node), self.nodes[node].life_number == life),
            Place::Quorum(node, life) => (Some(node), self.nodes[node].quorum_life == life),
        };
        let Some(node) = node else { return self.happen(event) };
        if !is_there || !self.nodes[node].is_up() {
            return;
        }
        if self.nodes[node].paused_until > self.now {
            // What arrives meanwhile waits in its buffers.
            let until = self.nodes[node].paused_until;
            if let Event::Tick { .. } = event {
                self.nodes[node].next_tick = until;
            }
            return self.queue.push(until, event);
        }
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        self.steps += 1;
        match event {
            Event::Tick { node, .. } => {
                if self.nodes[node].next_tick > self.now {
                    self.steps -= 1;
                    return;
                }
                self.act(node, klamm::controller::quorum::Quorum::tick);
            }
            Event::Ask { from, from_life, to, call, request, .. } => {
                if !matches!(*request, klamm::controller::quorum::Request::Fetch(_)) {
                    self.note(|| format!("{} -> {}: {request:?}", from + 1, to + 1));
                }
                self.asked(from, from_life, to, call, *request);
            }
            Event::Answer { to, call, response, .. } => self.answered(to, call, *response),
            Event::Question { from, from_life, to, number, question } => {
                self.consider(from, from_life, to, number, &question);
            }
            Event::Reply { to, number, reply, .. } => self.replied(to, number, *reply),
            Event::Beat { node, .. } => self.beat(node),
            Event::Apply { node, .. } => self.apply(node),
            Event::Look { node, .. } => self.look(node),
            Event::Propose { node, number, .. } => self.propose(node, number),
            Event::Turn { node, partition, turn, .. } => {
                if self.nodes[node].replicas[partition].as_ref().is_some_and(|it| it.turn == turn) {
                    self.turn(node, partition);
                } else {
                    self.steps -= 1;
                }
            }
            Event::Fetch { from, to, asked } => self.serve(from, to, asked),
            Event::Fetched { from, from_life, to, partition, number, body, .. } => {
                self.fetched(from, from_life, to, partition, number, body);
            }
            Event::Produce { partition } => self.produce(partition),
            Event::Judge { node, asked, .. } => self.judge(node, &asked),
            Event::Lost { node } => {
                if let Some(active) = self.in_office().filter(|active| self.cut[*active] == 0) {
                    self.decide(active, &Question::ConnectionLost(node as i32 + 1), None);
                    self.settle(active);
                }
            }
            Event::Restart { node } => {
                if !self.nodes[node].is_up() {
                    self.start(node);
                    self.fail_start_soon(node);
                }
            }
            Event::FailStart { node, life } => self.fail_start(node, life),
            Event::Pursue { node } => self.pursue(node),
            Event::Swap { partition, between, left } => self.swap(partition, between, left),
            Event::Flush { node, life } => self.flush(node, life),
            Event::Admin => self.admin(),
            Event::Fault => self.fault(),
        }
    }

    /// A request arrives at the node that was taken for the active controller.
    fn consider(&mut self, from: usize, from_life: u32, to: usize, number: u64, question: &Question) {
        let has_ended = from_life <= self.nodes[from].ended_life;
        if has_ended && matches!(question, Question::AlterPartition(_)) {
            return;
        }
        let who = Some((from, from_life, number));
        if self.nodes[to].term.is_some() {
            if !matches!(question, Question::Heartbeat(_) | Question::RegisterBroker(_)) {
                self.note(|| {
                    let what = format!("{question:?}");
                    format!("{} asks {}: {}", from + 1, to + 1, what.get(..300).unwrap_or(&what))
                });
            }
            self.decide(to, question, who);
            self.settle(to);
        } else if !self.is_lost(to, from) {
            let delay = self.delay(to, from);
            self.push(delay, Event::Reply { to: from, life: from_life, number, reply: Box::new(None) });
        }
    }

    /// Some of what was written is on disk now, and some of what is known to be committed.
    fn flush(&mut self, node: usize, life: u32) {
        let after = 50 + self.random.below(300) as i64;
        self.push(after, Event::Flush { node, life });
        let draw = self.random.next();
        for (at, replica) in self.nodes[node].replicas.iter_mut().flatten().enumerate() {
            if draw & (1 << at) != 0 {
                replica.flushed = replica.records.len();
            }
            if draw & (16 << at) != 0 {
                replica.checkpoint = replica.high_watermark;
            }
        }
    }
}

/// Where an event happens.
enum Place {
    World,
    Node(usize),
    /// One life of a process.
    Process(usize, u32),
    /// One life of its part in the quorum.
    Quorum(usize, u32),
}

impl Event {
    fn place(&self) -> Place {
        match self {
            Self::Tick { node, life } => Place::Quorum(*node, *life),
            Self::Ask { to, to_life, .. } => Place::Quorum(*to, *to_life),
            Self::Answer { to, life, .. } => Place::Quorum(*to, *life),
            Self::Beat { node, life }
            | Self::Apply { node, life }
            | Self::Look { node, life }
            | Self::Propose { node, life, .. }
            | Self::Turn { node, life, .. }
            | Self::Judge { node, life, .. }
            | Self::Flush { node, life } => Place::Process(*node, *life),
            Self::Reply { to, life, .. } | Self::Fetched { to, life, .. } => Place::Process(*to, *life),
            Self::Fetch { to, .. } | Self::Question { to, .. } => Place::Node(*to),
            Self::Restart { .. }
            | Self::FailStart { .. }
            | Self::Pursue { .. }
            | Self::Swap { .. }
            | Self::Lost { .. }
            | Self::Produce { .. }
            | Self::Admin
            | Self::Fault => Place::World,
        }
    }
}
