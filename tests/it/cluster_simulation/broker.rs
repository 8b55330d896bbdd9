//! The brokers' side: they register and send heartbeats, take the roles that the metadata gives them, fetch, write, and
//! ask for ISRs, as `server/lifecycle`, `replication/manager`, `replication/fetcher` and `server/isr` do.

use std::sync::Arc;

use klamm::controller::{Question, Reply};
use klamm::metadata::PartitionRegistration;
use klamm::protocol::ErrorCode;
use klamm::protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use klamm::protocol::messages::alter_partition_response::AlterPartitionResponse;
use klamm::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use klamm::replication::{After, Granted, ReplicaFetch, Standing, Terms};
use klamm::types::{LeaderEpoch, Offset};

use super::flaw::Flaw;
use super::node::Life;
use super::queue::Event;
use super::replica::{Asked, Body, Replica, Role};
use super::world::{LAG_MAX_MS, PARTITIONS, TOPIC, World};

/// How long a fetch is waited for.
const FETCH_TIMEOUT_MS: i64 = 250;
/// The most records of one answer; and where it is to take long until a replica has all of them again.
const RECORDS_MAX: i64 = 40;
const RECORDS_MAX_PURSUED: i64 = 3;
/// How long an answer of the controller is waited for.
const ISR_TIMEOUT_MS: i64 = 400;

fn standing_of(standings: &[Option<Standing>], id: i32) -> Option<Standing> {
    standings.get(id as usize).copied().flatten()
}

impl World {
    fn terms(&self, node: usize) -> Terms {
        Terms { now_ms: self.local_time(node), lag_max_ms: LAG_MAX_MS, insync_min: self.min_isr }
    }

    fn must(&self, node: usize, partition: usize, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            self.broken(&format!("node {} of partition {partition}: {why}", node + 1));
        }
    }

    /// A registration or a heartbeat is due.
    pub fn beat(&mut self, node: usize) {
        let number = self.number();
        let state = &self.nodes[node];
        let id = node as i32 + 1;
        let (question, again) = match state.life {
            Life::Registering => {
                let mut request = state.registration(id, super::world::CLUSTER_ID);
                if self.flaw == Some(Flaw::TrustsUncleanStops) {
                    let known = state.image.broker(id).map(|broker| broker.epoch);
                    request.previous_broker_epoch = known.unwrap_or(-1);
                }
                (Some(Question::RegisterBroker(request)), 100)
            }
            Life::Registered(epoch) => {
                // A late request of an older life may have come behind.
                let known = state.image.broker(id).map_or(-1, |broker| broker.epoch);
                if known > epoch {
                    self.nodes[node].life = Life::Registering;
                }
                (None, 50)
            }
            Life::Running(broker_epoch) => {
                let request = BrokerHeartbeatRequest {
                    broker_id: id,
                    broker_epoch,
                    current_metadata_offset: state.applied.end_offset().0 - 1,
                    want_shut_down: state.wants_stop,
                    ..BrokerHeartbeatRequest::default()
                };
                (Some(Question::Heartbeat(request)), if state.wants_stop { 60 } else { 280 })
            }
        };
        let life = self.nodes[node].life_number;
        if let Some(question) = question {
            self.question(node, number, question);
        }
        let after = again + self.random.below(30) as i64;
        self.push(after, Event::Beat { node, life });
    }

    /// What the controller has answered.
    pub fn replied(&mut self, node: usize, number: u64, reply: Option<Reply>) {
        let state = &mut self.nodes[node];
        match reply {
            Some(Reply::Registered(answer)) if answer.error_code == 0 && state.life == Life::Registering => {
                state.life = Life::Registered(answer.broker_epoch);
                self.apply(node);
            }
            Some(Reply::Beaten(answer)) if state.broker_epoch().is_some() => {
                let code = ErrorCode::from_wire(answer.error_code);
                if matches!(code, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered) {
                    state.previous_epoch =
                        state.applied.broker(node as i32 + 1).map_or(-1, |broker| broker.epoch);
                    state.life = Life::Registering;
                } else if answer.should_shut_down && state.wants_stop {
                    self.stop_cleanly(node);
                }
            }
            Some(Reply::Altered(answer)) if number == state.isr_number => self.altered(node, &answer),
            None if number == state.isr_number => self.altered(
                node,
                &AlterPartitionResponse {
                    error_code: ErrorCode::NotController.code(),
                    ..AlterPartitionResponse::default()
                },
            ),
            _ => {}
        }
    }

    /// Follows what was published.
    pub fn apply(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.is_applying = false;
        state.applied = Arc::clone(&state.image);
        let image = Arc::clone(&state.applied);
        state.standings.clear();
        for (id, broker) in image.brokers() {
            let is_active = !broker.fenced && !broker.in_controlled_shutdown;
            state.standings.resize(*id as usize + 1, None);
            state.standings[*id as usize] = Some(Standing { epoch: broker.epoch, is_active });
        }
        if let Life::Registered(epoch) = state.life
            && image.broker(node as i32 + 1).is_some_and(|broker| broker.epoch == epoch)
        {
            state.life = Life::Running(epoch);
            state.is_open = true;
        }
        if !state.is_open {
            return;
        }
        let topic = image.topic(TOPIC);
        let number = topic.and_then(|topic| self.truths.iter().position(|(id, _)| *id == topic.id));
        for partition in 0..PARTITIONS {
            let registered = topic.and_then(|topic| topic.partitions.get(&(partition as i32)));
            match (registered, number) {
                (Some(registered), Some(number)) => self.follow(node, partition, number, registered),
                _ => self.nodes[node].replicas[partition] = None,
            }
        }
    }

    fn follow(&mut self, node: usize, partition: usize, topic: usize, registered: &PartitionRegistration) {
        let (id, now_ms, flaw) = (node as i32 + 1, self.local_time(node), self.flaw);
        let slot = &mut self.nodes[node].replicas[partition];
        if !registered.replicas.contains(&id) {
            *slot = None;
            return;
        }
        let is_stray = slot.as_ref().is_some_and(|replica| replica.topic != topic);
        if is_stray && flaw == Some(Flaw::KeepsStrays) {
            if let Some(replica) = slot {
                replica.topic = topic;
            }
        } else if is_stray {
            *slot = None;
        }
        let replica = slot.get_or_insert_with(|| Replica::new(topic));
        let epoch = replica.leader_epoch;
        let outcome = replica.assume(id, registered, now_ms, flaw);
        let is_new = replica.leader_epoch > epoch;
        match outcome {
            Ok(true) => self.take_charge(node, partition, registered),
            Ok(false) if is_new => self.push_turn(node, partition, 1),
            Ok(false) => {}
            Err(why) => self.must(node, partition, Err(why)),
        }
        self.advance(node, partition);
        self.check_replica(node, partition);
    }

    fn take_charge(&mut self, node: usize, partition: usize, registered: &PartitionRegistration) {
        let Some(replica) = &self.nodes[node].replicas[partition] else { return };
        let truth = &mut self.truths[replica.topic].1[partition];
        let outcome = truth.take_office(registered.leader_epoch, replica);
        let (epoch, end) = (registered.leader_epoch, replica.end());
        let unclean_starts =
            registered.replicas.iter().filter_map(|id| self.nodes[*id as usize - 1].unclean_start);
        if outcome.is_err() && truth.is_excused(epoch, unclean_starts, self.min_isr) {
            self.note(|| format!("node {} leads {TOPIC}-{partition} without what was committed", node + 1));
            self.is_excused = true;
            return;
        }
        self.note(|| format!("node {} leads {TOPIC}-{partition} in epoch {epoch} from {end} on", node + 1));
        self.must(node, partition, outcome);
    }

    fn push_turn(&mut self, node: usize, partition: usize, after: i64) {
        let state = &self.nodes[node];
        let Some(replica) = &state.replicas[partition] else { return };
        let (life, turn) = (state.life_number, replica.turn);
        self.push(after, Event::Turn { node, life, partition, turn });
    }

    /// A follower fetches.
    pub fn turn(&mut self, node: usize, partition: usize) {
        let (number, flaw) = (self.number(), self.flaw);
        let state = &mut self.nodes[node];
        let life = state.life_number;
        // The epoch that the metadata gives this broker, as its sources say it to leaders.
        let broker_epoch = state.applied.broker(node as i32 + 1).map_or(-1, |broker| broker.epoch);
        let Some(replica) = &mut state.replicas[partition] else { return };
        let Role::Follower { leader, epoch } = replica.role else { return };
        if leader < 1 {
            return;
        }
        replica.fetching = number;
        replica.turn += 1;
        let fetch = ReplicaFetch {
            replica: node as i32 + 1,
            broker_epoch: if flaw == Some(Flaw::IgnoresBrokerEpochs) { -1 } else { broker_epoch },
            fetch_offset: Offset(replica.end()),
            log_start_offset: Offset(0),
        };
        let last_epoch = replica.last_fetched_epoch(flaw);
        let asked = Asked {
            partition,
            topic: replica.topic,
            fetch,
            leader_epoch: epoch,
            last_epoch,
            records_max: if self.is_pursued { RECORDS_MAX_PURSUED } else { RECORDS_MAX },
            life,
            number,
        };
        self.push_turn(node, partition, FETCH_TIMEOUT_MS);
        let to = leader as usize - 1;
        if self.is_lost(node, to) {
            return;
        }
        let delay = self.delay(node, to);
        if self.comes_twice() {
            let again = delay + 20 * self.delay(node, to);
            self.push(again, Event::Fetch { from: node, to, asked });
        }
        self.push(delay, Event::Fetch { from: node, to, asked });
    }

    /// A leader answers a follower, and counts what it says.
    pub fn serve(&mut self, from: usize, to: usize, asked: Asked) {
        let (now_ms, flaw) = (self.local_time(to), self.flaw);
        let state = &mut self.nodes[to];
        let (standings, partition) = (&state.standings, asked.partition);
        let standings = |id| standing_of(standings, id);
        let Some(replica) = &mut state.replicas[partition] else { return };
        let mut body = replica.serve(&asked, &standings, now_ms, flaw);
        if let Body::Records { high_watermark, .. } = &mut body {
            let offsets = replica.offsets();
            let mixes = flaw == Some(Flaw::MixesReplicaStates);
            if let (Role::Leader(leader), false) = (&mut replica.role, mixes)
                && leader.propose_expansion(asked.fetch.replica, &offsets, &standings)
            {
                self.wants(to, partition);
            } else if mixes {
                let life = state.life_number;
                // A thread may have to wait that long.
                let after = 1 + self.random.below(1_500) as i64;
                self.push(after, Event::Judge { node: to, life, asked });
            }
            *high_watermark = self.advance(to, partition);
        }
        if self.is_lost(to, from) {
            return;
        }
        let delay = self.delay(to, from);
        let from_life = self.nodes[to].life_number;
        let (life, number) = (asked.life, asked.number);
        self.push(delay, Event::Fetched { from: to, from_life, to: from, life, partition, number, body });
    }

    /// The mistake of two steps: the life of a broker is read later than its fetch.
    pub fn judge(&mut self, node: usize, asked: &Asked) {
        let now_ms = self.local_time(node);
        let state = &mut self.nodes[node];
        let standings = |id| standing_of(&state.standings, id);
        let Some(replica) = &mut state.replicas[asked.partition] else { return };
        let offsets = replica.offsets();
        let (Role::Leader(leader), Some(standing)) = (&mut replica.role, standings(asked.fetch.replica))
        else {
            return;
        };
        let forged = ReplicaFetch { broker_epoch: standing.epoch, ..asked.fetch };
        let _ = leader.note_fetch(&forged, &offsets, now_ms, &standings);
        if leader.propose_expansion(asked.fetch.replica, &offsets, &standings) {
            self.wants(node, asked.partition);
        }
        self.advance(node, asked.partition);
    }

    /// What a leader has sent arrives. The bytes leave its page cache when they are sent, not when they were promised.
    pub fn fetched(
        &mut self,
        from: usize,
        from_life: u32,
        to: usize,
        partition: usize,
        number: u64,
        body: Body,
    ) {
        let waits =
            self.nodes[to].replicas[partition].as_ref().is_some_and(|replica| replica.fetching == number);
        if !waits {
            return;
        }
        let Some(mut replica) = self.nodes[to].replicas[partition].take() else { return };
        replica.fetching = 0;
        replica.turn += 1;
        let (before, before_end) = (replica.high_watermark, replica.end());
        let damaged = (!self.is_calm && self.random.one_in(256)).then(|| self.random.below(3));
        let source = &self.nodes[from];
        let is_same = source.is_up() && source.life_number == from_life;
        let sent = source.replicas[partition].as_ref().filter(|it| is_same && it.topic == replica.topic);
        let outcome = match sent {
            Some(sent) => replica.take(body, &sent.records, damaged, self.flaw),
            None => Ok(()),
        };
        let is_busy = replica.end() != before_end || matches!(body, Body::Diverging(_));
        let moved = replica.high_watermark != before;
        self.nodes[to].replicas[partition] = Some(replica);
        self.must(to, partition, outcome);
        if moved {
            self.check_replica(to, partition);
        }
        let pause = if is_busy { 1 } else { 5 + self.random.below(30) as i64 };
        self.push_turn(to, partition, pause);
    }

    /// Moves the high watermark of a leader, and acknowledges what waited for it. Where it is then.
    fn advance(&mut self, node: usize, partition: usize) -> i64 {
        let (terms, flaw) = (self.terms(node), self.flaw);
        let state = &mut self.nodes[node];
        let standings = |id| standing_of(&state.standings, id);
        let Some(replica) = &mut state.replicas[partition] else { return 0 };
        let before = replica.advance(&terms, &standings, flaw);
        let now = replica.high_watermark;
        if now == before {
            return now;
        }
        self.check_replica(node, partition);
        let Some(replica) = &mut self.nodes[node].replicas[partition] else { return now };
        let Role::Leader(leader) = &replica.role else { return now };
        let may_acknowledge = leader.may_acknowledge(&terms);
        let epoch = leader.epoch().0;
        let truth = &self.truths[replica.topic].1[partition];
        let mut outcome = Ok(());
        while let Some(offset) = replica.unanswered.front().copied().filter(|offset| *offset <= now) {
            replica.unanswered.pop_front();
            if may_acknowledge {
                outcome = outcome.and_then(|()| truth.acknowledge(epoch, offset));
                self.acknowledged += 1;
            }
        }
        self.must(node, partition, outcome);
        now
    }

    /// A client writes to a leader, or to one who takes itself for it.
    pub fn produce(&mut self, partition: usize) {
        let after = 5 + self.random.below(if self.is_calm { 60 } else { 30 }) as i64;
        self.push(after, Event::Produce { partition });
        let first = self.random.below(self.nodes.len());
        let count = self.nodes.len();
        let leads = |node: &usize| {
            let state = &self.nodes[*node];
            let replica = state.replicas[partition].as_ref();
            state.is_up()
                && state.paused_until <= self.now
                && replica.is_some_and(|it| matches!(it.role, Role::Leader(_)))
        };
        let Some(node) = (0..count).map(|at| (first + at) % count).find(leads) else { return };
        let terms = self.terms(node);
        let records = 1 + if self.random.one_in(4) { self.random.below(12) } else { 0 };
        let reads_on = self.flaw == Some(Flaw::ReadsToTheEnd);
        let Some(replica) = &mut self.nodes[node].replicas[partition] else { return };
        let Role::Leader(leader) = &replica.role else { return };
        if leader.is_under_min_isr(&terms) && !self.is_calm {
            return;
        }
        let epoch = leader.epoch().0;
        if !leader.is_under_min_isr(&terms) {
            for _ in 0..records {
                self.next_value += 1;
                replica.append(epoch, self.next_value, true);
            }
            replica.unanswered.push_back(replica.end());
        }
        if reads_on {
            let (before, end) = (replica.high_watermark, replica.end());
            replica.high_watermark = end;
            self.check_replica(node, partition);
            if let Some(replica) = &mut self.nodes[node].replicas[partition] {
                replica.high_watermark = before;
            }
        }
        self.advance(node, partition);
    }

    /// A leader looks for followers that lag.
    pub fn look(&mut self, node: usize) {
        let life = self.nodes[node].life_number;
        self.push(LAG_MAX_MS / 2, Event::Look { node, life });
        let terms = self.terms(node);
        for partition in 0..PARTITIONS {
            let Some(replica) = &mut self.nodes[node].replicas[partition] else { continue };
            let offsets = replica.offsets();
            let Role::Leader(leader) = &mut replica.role else { continue };
            if leader.propose_shrink(&offsets, &terms) {
                self.wants(node, partition);
            }
            self.advance(node, partition);
        }
    }

    /// A partition has something to propose.
    fn wants(&mut self, node: usize, partition: usize) {
        let state = &mut self.nodes[node];
        let is_first = state.proposing == 0 && state.proposed.is_empty();
        state.proposing |= 1 << partition;
        let life = state.life_number;
        if is_first {
            self.push(1, Event::Propose { node, life, number: 0 });
        }
    }

    /// Sends what the partitions propose; or sends it again, where no answer came to the request of this `number`.
    pub fn propose(&mut self, node: usize, late: u64) {
        let number = self.number();
        let flaw = self.flaw;
        let state = &mut self.nodes[node];
        if late != state.isr_number {
            return;
        }
        for (partition, _) in state.proposed.drain(..) {
            state.proposing |= 1 << partition;
        }
        let wanted = std::mem::take(&mut state.proposing);
        let broker_epoch = state.applied.broker(node as i32 + 1).map_or(-1, |broker| broker.epoch);
        let mut partitions = Vec::new();
        for partition in (0..PARTITIONS).filter(|partition| wanted & (1 << partition) != 0) {
            let Some(replica) = &state.replicas[partition] else { continue };
            let Role::Leader(leader) = &replica.role else { continue };
            let Some(proposal) = leader.proposal(&|id| standing_of(&state.standings, id)) else { continue };
            let blind = flaw == Some(Flaw::IgnoresBrokerEpochs);
            let member = |(broker_id, broker_epoch): &(i32, i64)| BrokerState {
                broker_id: *broker_id,
                broker_epoch: if blind { -1 } else { *broker_epoch },
                ..BrokerState::default()
            };
            partitions.push(PartitionData {
                partition_index: partition as i32,
                leader_epoch: proposal.leader_epoch.0,
                new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
                partition_epoch: proposal.partition_epoch,
                ..PartitionData::default()
            });
            let topic_id = self.truths[replica.topic].0;
            state.proposed.push((partition, proposal));
            if state.applied.topic(TOPIC).is_none_or(|topic| topic.id != topic_id) {
                partitions.pop();
                state.proposed.pop();
            }
        }
        let Some(topic_id) = state.applied.topic(TOPIC).map(|topic| topic.id) else {
            state.isr_number = 0;
            return;
        };
        if partitions.is_empty() {
            state.isr_number = 0;
            return;
        }
        state.isr_number = number;
        let life = state.life_number;
        let request = AlterPartitionRequest {
            broker_id: node as i32 + 1,
            broker_epoch,
            topics: vec![TopicData { topic_id, partitions, ..TopicData::default() }],
            ..AlterPartitionRequest::default()
        };
        self.question(node, number, Question::AlterPartition(request));
        self.push(ISR_TIMEOUT_MS, Event::Propose { node, life, number });
    }

    /// What the controller has made of the proposals.
    fn altered(&mut self, node: usize, answer: &AlterPartitionResponse) {
        let state = &mut self.nodes[node];
        state.isr_number = 0;
        let life = state.life_number;
        if answer.error_code != 0 {
            // Sent again a little later.
            self.push(50, Event::Propose { node, life, number: 0 });
            return;
        }
        let proposed = std::mem::take(&mut state.proposed);
        let answers = answer
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |answer| (topic.topic_id, answer)));
        for (topic_id, answer) in answers {
            let partition = answer.partition_index as usize;
            let Some((_, proposal)) = proposed.iter().find(|(asked, _)| *asked == partition) else {
                continue;
            };
            let Some(replica) = &mut self.nodes[node].replicas[partition] else { continue };
            // What was asked for one topic is not answered for the next of that name.
            let is_of_topic = self.truths[replica.topic].0 == topic_id;
            let Role::Leader(leader) = &mut replica.role else { continue };
            if !is_of_topic || leader.epoch() != proposal.leader_epoch {
                continue;
            }
            let after = match ErrorCode::from_wire(answer.error_code) {
                ErrorCode::None => leader.granted(Granted {
                    leader_epoch: LeaderEpoch(answer.leader_epoch),
                    partition_epoch: answer.partition_epoch,
                    isr: answer.isr.clone(),
                }),
                code => leader.refused(proposal.partition_epoch, code),
            };
            if after == After::Again {
                self.nodes[node].proposing |= 1 << partition;
            }
            self.advance(node, partition);
            self.check_replica(node, partition);
        }
        if self.nodes[node].proposing != 0 {
            self.push(50, Event::Propose { node, life, number: 0 });
        }
    }
}
