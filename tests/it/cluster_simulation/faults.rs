//! What goes wrong: processes that are killed, machines that lose what was not synced, disks that fail or are wiped,
//! networks that are cut, clocks that jump; and what administrators do meanwhile.

use std::sync::Arc;

use klamm::controller::quorum::SnapshotId;
use klamm::controller::{Decided, Question};
use klamm::metadata::Image;
use klamm::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use klamm::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use klamm::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use klamm::protocol::messages::partition_change_record::PartitionChangeRecord;

use super::flaw::Flaw;
use super::node::{Life, Node};
use super::queue::Event;
use super::world::{PARTITIONS, TOPIC, World};
use crate::quorum::log::Snapshot;

/// How many replicas a partition has.
const FACTOR: usize = 3;

/// The mistake that lets the last known leader lead before it is unfenced.
pub fn elect_fenced(question: &Question, decided: &mut Decided) {
    let Question::RegisterBroker(request) = question else { return };
    let Some(topic) = decided.builder.image().topic(TOPIC).cloned() else { return };
    for (index, partition) in &topic.partitions {
        if partition.leader != -1 || partition.last_known_elr != [request.broker_id] {
            continue;
        }
        let record = PartitionChangeRecord {
            partition_id: *index,
            topic_id: topic.id,
            leader: request.broker_id,
            isr: Some(vec![request.broker_id]),
            last_known_elr: Some(Vec::new()),
            ..PartitionChangeRecord::default()
        };
        decided.builder.apply(record.clone().into()).unwrap();
        decided.records.push(record.into());
    }
}

impl World {
    pub fn fault(&mut self) {
        let after = 80 + self.random.below(700) as i64;
        self.push(after, Event::Fault);
        if self.is_calm {
            return;
        }
        self.faults += 1;
        if self.is_pursued && self.random.one_in(4) {
            return self.begin_swaps();
        }
        let node = self.random.below(self.nodes.len());
        self.without_power = self.without_power.filter(|node| !self.is_known(*node));
        let kinds = if self.without_power.is_some() { 18..26 } else { 0..26 };
        match kinds.start + self.random.below(kinds.len()) {
            0..=2 => self.kill(node),
            3..=5 | 24 if self.without_power.is_none() => self.cut_power(node, false),
            6 | 25 if self.without_power.is_none() => self.cut_power(node, true),
            7 | 8 => self.ask_to_stop(node),
            9 | 10 => {
                let pause = 1 + self.random.below(2_500) as i64;
                self.nodes[node].paused_until = self.now + pause;
                self.note(|| format!("node {} is paused for {pause} ms", node + 1));
            }
            11..=13 => self.cut_network(),
            14..=16 => {
                self.cut.fill(0);
                self.note(|| "the network is whole".to_owned());
            }
            17 => {
                let calls = self.random.below(6) as u32;
                self.nodes[node].directory.borrow_mut().fails_in = Some(calls);
            }
            18 => self.snapshot(node),
            19 => self.nodes[node].skew_ms += self.random.below(2_500) as i64,
            20 => self.nodes[node].slowness = 1 + self.random.below(3) as i64,
            21 | 22 => self.move_replicas(),
            _ => self.elect_preferred(),
        }
    }

    fn cut_network(&mut self) {
        let side = self.random.next() as u32;
        let one_way = self.random.one_in(3);
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let (is_from, is_to) = (side & (1 << from) != 0, side & (1 << to) != 0);
                if (is_from && !is_to) || (!one_way && !is_from && is_to) {
                    self.cut[from] |= 1 << to;
                }
            }
        }
        let side: Vec<usize> =
            (0..self.nodes.len()).filter(|node| side & (1 << node) != 0).map(|node| node + 1).collect();
        self.note(|| format!("{side:?} are cut off, one way: {one_way}"));
    }

    /// The process ends; the page cache has all it wrote.
    fn kill(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            self.note(|| format!("node {} is killed", node + 1));
            self.nodes[node].clean_mark = None;
            self.end(node, usize::MAX, false);
        }
    }

    /// The metadata log of a node failed, and with it the node.
    pub fn fail(&mut self, node: usize) {
        self.note(|| format!("the disk of node {} fails", node + 1));
        self.nodes[node].clean_mark = None;
        self.end(node, usize::MAX, false);
    }

    /// The machine stops: what was not synced is gone; or all of the replicas with their disk.
    fn cut_power(&mut self, node: usize, is_wiped: bool) {
        if !self.nodes[node].is_up() || !self.may_lose_power(node) {
            return;
        }
        self.without_power = Some(node);
        self.note(|| format!("node {} loses its power, its disk: {is_wiped}", node + 1));
        let is_starting = matches!(self.nodes[node].life, Life::Registering);
        let state = &mut self.nodes[node];
        state.clean_mark = None;
        if is_starting && self.flaw == Some(Flaw::MarksFailedStarts) {
            state.clean_mark = state.image.broker(node as i32 + 1).map(|broker| broker.epoch);
        }
        let kept = self.random.below(4);
        self.end(node, kept, true);
        if self.is_pursued {
            self.push(20, Event::Pursue { node });
        }
        if is_wiped {
            // Its id is still there, as where only the folders were lost.
            self.nodes[node].replicas.fill_with(|| None);
        }
    }

    /// Where machines are pursued, some lose their power while they begin.
    pub fn fail_start_soon(&mut self, node: usize) {
        if self.is_pursued && !self.is_calm && self.random.one_in(3) {
            let (life, after) = (self.nodes[node].life_number, 1 + self.random.below(60) as i64);
            self.push(after, Event::FailStart { node, life });
        }
    }

    pub fn fail_start(&mut self, node: usize, life: u32) {
        let state = &self.nodes[node];
        let is_starting = state.life_number == life && matches!(state.life, Life::Registering);
        self.without_power = self.without_power.filter(|node| !self.is_known(*node));
        if is_starting && !self.is_calm && self.without_power.is_none() {
            self.cut_power(node, false);
        }
    }

    /// A machine that lost its power is back: before it has all again, who leads is killed.
    pub fn pursue(&mut self, node: usize) {
        if self.is_calm {
            return;
        }
        if !self.is_known(node) {
            return self.push(10, Event::Pursue { node });
        }
        let image = self.agreed.newest();
        let id = node as i32 + 1;
        let partitions = image.topic(TOPIC).into_iter().flat_map(|topic| topic.partitions.values());
        let mut leaders: Vec<i32> = partitions
            .filter(|partition| partition.replicas.contains(&id) && ![id, -1].contains(&partition.leader))
            .map(|partition| partition.leader)
            .collect();
        if !leaders.is_empty() && self.random.one_in(2) {
            let leader = leaders.swap_remove(self.random.below(leaders.len()));
            self.kill(leader as usize - 1);
        } else {
            let after = 1 + self.random.below(300) as i64;
            self.push(after, Event::Pursue { node });
        }
    }

    /// A process is gone, and another one begins before long. `kept` entries of the metadata log that were not synced
    /// are left.
    fn end(&mut self, node: usize, kept: usize, is_torn: bool) {
        let flaw = self.flaw;
        self.nodes[node].quorum = None;
        self.nodes[node].term = None;
        self.nodes[node].ended_life = self.nodes[node].life_number;
        let directory = std::rc::Rc::clone(&self.nodes[node].directory);
        directory.borrow_mut().crash(kept.min(usize::MAX >> 8));
        for partition in 0..PARTITIONS {
            let Some(replica) = &mut self.nodes[node].replicas[partition] else { continue };
            let (flushed, all) = (replica.flushed, replica.records.len());
            let keep = match self.random.below(4) {
                _ if !is_torn => all,
                0 => 0,
                1 => all,
                _ => flushed + self.random.below(all - flushed + 1),
            };
            let is_clean = !is_torn && self.nodes[node].clean_mark.is_some();
            if let Some(replica) = &mut self.nodes[node].replicas[partition] {
                replica.stop(keep, is_clean, flaw);
            }
        }
        // Some are back before the others have noticed.
        let longest = if self.is_calm || self.random.one_in(3) { 20 } else { 3_000 };
        let after = 1 + self.random.below(longest) as i64;
        self.push(after, Event::Restart { node });
        if !self.random.one_in(4) {
            let after = 1 + self.random.below(60) as i64;
            self.push(after, Event::Lost { node });
        }
    }

    /// The process is told to stop: it hands over what it leads first.
    fn ask_to_stop(&mut self, node: usize) {
        if self.nodes[node].broker_epoch().is_some() {
            self.note(|| format!("node {} is asked to stop", node + 1));
            self.nodes[node].wants_stop = true;
        }
    }

    /// It may go: its logs are synced, and it says so. It stays eligible, and comes back with everything.
    pub fn stop_cleanly(&mut self, node: usize) {
        self.note(|| format!("node {} stops", node + 1));
        let life = self.nodes[node].life_number;
        self.act(node, klamm::controller::quorum::Quorum::resign);
        if self.nodes[node].is_up() && self.nodes[node].life_number == life {
            self.nodes[node].clean_mark = self.nodes[node].broker_epoch();
            self.end(node, usize::MAX, false);
        }
    }

    /// Nothing is promised where all that may lead stop uncleanly at once: so a power goes only while everybody else is
    /// well, and nothing else happens to a broker before the controller knows.
    fn may_lose_power(&self, node: usize) -> bool {
        let image = self.agreed.newest();
        let is_well = |(at, other): (usize, &Node)| {
            let registered = image.broker(at as i32 + 1).map(|broker| broker.epoch);
            at == node
                || (other.broker_epoch().is_some()
                    && other.broker_epoch() == registered
                    && !other.wants_stop
                    && other.paused_until <= self.now
                    && other.directory.borrow().fails_in.is_none())
        };
        let id = node as i32 + 1;
        let is_not_alone = |image: &Image| {
            let partitions = image.topic(TOPIC).into_iter().flat_map(|topic| topic.partitions.values());
            partitions.into_iter().all(|partition| {
                let holders = || partition.isr.iter().chain(&partition.eligible_leader_replicas);
                let is_holder = holders().any(|holder| *holder == id);
                partition.leader != -1 && (!is_holder || holders().any(|holder| *holder != id))
            })
        };
        let term = self.in_office().and_then(|active| self.nodes[active].term.as_ref());
        self.min_isr > 1
            && self.cut.iter().all(|cut| *cut == 0)
            && term.is_some_and(|term| !term.is_waiting() && is_not_alone(term.image()))
            && is_not_alone(&image)
            && self.nodes.iter().enumerate().all(is_well)
    }

    /// Whether the controller knows of the last life that ended with its power.
    fn is_known(&self, node: usize) -> bool {
        let registered = self.agreed.newest().broker(node as i32 + 1).map(|broker| broker.epoch);
        self.nodes[node].broker_epoch().is_some_and(|epoch| registered == Some(epoch))
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
        let Some(digest) = self.agreed.digest_at(last.next) else { return };
        let snapshot = Snapshot {
            voters: membership.voters_before(last.next).cloned(),
            kraft_version: membership.kraft_version_before(last.next),
            digest,
        };
        directory.trim(id, snapshot);
    }

    /// Somebody asks the active controller for something, from beside it.
    fn administrate(&mut self, question: &Question) {
        if let Some(node) = self.in_office() {
            self.decide(node, question, None);
            self.settle(node);
        }
    }

    fn some_replicas(&mut self, image: &Image) -> Option<Vec<i32>> {
        let mut serving: Vec<i32> =
            image.brokers().values().filter(|broker| !broker.fenced).map(|broker| broker.id).collect();
        if serving.len() < FACTOR {
            return None;
        }
        Some((0..FACTOR).map(|_| serving.swap_remove(self.random.below(serving.len()))).collect())
    }

    /// The topic is made where it is not there; seldom it is deleted.
    pub fn admin(&mut self) {
        let after = if self.is_calm { 200 } else { 30 + self.random.below(400) as i64 };
        self.push(after, Event::Admin);
        let Some(node) = self.in_office() else { return };
        let Some(image) = self.nodes[node].term.as_ref().map(|term| Arc::clone(term.image())) else { return };
        if image.topic(TOPIC).is_none() {
            let Some(replicas) =
                (0..PARTITIONS).map(|_| self.some_replicas(&image)).collect::<Option<Vec<_>>>()
            else {
                return;
            };
            self.create_topic(replicas);
        } else if !self.is_calm && self.random.one_in(200) {
            let request =
                DeleteTopicsRequest { topic_names: vec![TOPIC.into()], ..DeleteTopicsRequest::default() };
            self.note(|| "the topic is deleted".to_owned());
            self.administrate(&Question::DeleteTopics(request));
        }
    }

    fn create_topic(&mut self, replicas: Vec<Vec<i32>>) {
        let assignment = |(partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index,
            broker_ids,
            ..CreatableReplicaAssignment::default()
        };
        let min_isr = CreatableTopicConfig {
            name: "min.insync.replicas".into(),
            value: Some(self.min_isr.to_string().into()),
            ..CreatableTopicConfig::default()
        };
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(replicas).map(assignment).collect(),
            configs: vec![min_isr],
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        self.administrate(&Question::CreateTopics(request));
    }

    fn reassign(&mut self, partition_index: i32, replicas: Option<Vec<i32>>) {
        let partition =
            ReassignablePartition { partition_index, replicas, ..ReassignablePartition::default() };
        let topic = ReassignableTopic {
            name: TOPIC.into(),
            partitions: vec![partition],
            ..ReassignableTopic::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: true,
            topics: vec![topic],
            ..AlterPartitionReassignmentsRequest::default()
        };
        self.administrate(&Question::Reassign(request));
    }

    fn move_replicas(&mut self) {
        let index = self.random.below(PARTITIONS) as i32;
        let image = self.agreed.newest();
        let replicas = if self.random.one_in(4) { None } else { self.some_replicas(&image) };
        if replicas.is_some() || self.random.one_in(2) {
            self.note(|| format!("{TOPIC}-{index} moves to {replicas:?}"));
            self.reassign(index, replicas);
        }
    }

    /// Two replicas in sync that do not hear each other begin to take turns: each writes what the other has not seen.
    pub fn begin_swaps(&mut self) {
        let image = self.agreed.newest();
        let partition = self.random.below(PARTITIONS);
        let Some(found) = image.topic(TOPIC).and_then(|topic| topic.partitions.get(&(partition as i32)))
        else {
            return;
        };
        let other = found.isr.iter().copied().find(|id| *id != found.leader);
        let (Some(other), true) = (other, self.without_power.is_none() && found.leader > 0) else { return };
        let between = (found.leader, other);
        self.cut_between(between, true);
        let left = 2 + self.random.below(4) as u32;
        self.push(10, Event::Swap { partition, between, left });
    }

    fn cut_between(&mut self, (one, other): (i32, i32), is_cut: bool) {
        for (from, to) in [(one - 1, other - 1), (other - 1, one - 1)] {
            let links = &mut self.cut[from as usize];
            *links = if is_cut { *links | (1 << to) } else { *links & !(1 << to) };
        }
        self.note(|| format!("{one} and {other} are cut from each other: {is_cut}"));
    }

    pub fn swap(&mut self, partition: usize, between: (i32, i32), left: u32) {
        let image = self.agreed.newest();
        let found = image.topic(TOPIC).and_then(|topic| topic.partitions.get(&(partition as i32)));
        let Some(found) = found.filter(|_| left > 0 && !self.is_calm) else {
            return self.cut_between(between, false);
        };
        let next = if found.leader == between.0 { between.1 } else { between.0 };
        let mut replicas: Vec<i32> = found.replicas.iter().copied().filter(|id| *id != next).collect();
        replicas.insert(0, next);
        if found.isr.contains(&next) && found.adding_replicas.is_empty() {
            self.reassign(partition as i32, Some(replicas));
            self.elect_preferred();
        }
        let after = 15 + self.random.below(60) as i64;
        self.push(after, Event::Swap { partition, between, left: left - 1 });
    }

    fn elect_preferred(&mut self) {
        let request = ElectLeadersRequest { election_type: 0, ..ElectLeadersRequest::default() };
        self.administrate(&Question::ElectLeaders(request));
    }

    /// Everything works again.
    pub fn calm_down(&mut self) {
        self.is_calm = true;
        self.cut.fill(0);
        for node in &mut self.nodes {
            node.directory.borrow_mut().fails_in = None;
            node.paused_until = 0;
            node.slowness = 1;
        }
    }
}
