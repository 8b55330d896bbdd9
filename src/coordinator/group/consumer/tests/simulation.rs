//! Members that join, leave, lag, crash, time out and come back, lose answers and change what they read, while
//! topics come, grow and go and the coordinator is loaded again from its records, compacted or not.
//!
//! What must hold: a partition never has two owners among those whom the coordinator takes for members; no commit
//! is taken from whoever is no owner; in the end everybody has come to rest, with every partition that is read
//! owned by one who reads it; and what is replayed is what was there.
//!
//! `KLAMM_SIMULATION_SEEDS=100000 cargo test --lib consumer::tests::simulation` is the long run.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::group::Group;
use crate::coordinator::{Answer, Request};
use crate::protocol::Str;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use super::classic::Classic;
use super::consumers::{Consumer, Dice, PATTERNS, Partition, Subscription, reads};
use super::mistakes::Mistake;
use super::world::{GROUP, World, recorded};

/// Runs of one `cargo test`.
const SEEDS: u64 = 60;
const STEPS: usize = 120;
const TOPICS: [&str; 4] = ["a-1", "a-2", "b-1", "c"];

pub(super) struct Run {
    world: World,
    dice: Dice,
    members: Vec<Consumer>,
    /// Members of the classic protocol, in half of the runs.
    classic: Vec<Classic>,
    is_mixed: bool,
    /// Static members that are away, to come back.
    away: Vec<Consumer>,
    next_id: usize,
}

#[test]
fn members_converge_and_no_partition_has_two_owners() {
    let seeds = std::env::var("KLAMM_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let first: u64 =
        std::env::var("KLAMM_SIMULATION_FIRST").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds.unwrap_or(SEEDS) {
        let outcome = std::panic::catch_unwind(|| Run::new(seed, None).run());
        if outcome.is_err() {
            panic!("seed {seed}: KLAMM_SIMULATION_FIRST={seed} KLAMM_SIMULATION_SEEDS=1 repeats it");
        }
    }
}

impl Run {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        world.mistake = mistake;
        if dice.one_in(2) {
            world.settings.consumer_assignors.reverse();
        }
        for topic in TOPICS {
            if dice.one_in(2) {
                world.create_topic(topic, i32::try_from(1 + dice.below(5)).unwrap());
            }
        }
        let is_mixed = dice.one_in(2);
        Self { world, dice, members: Vec::new(), classic: Vec::new(), is_mixed, away: Vec::new(), next_id: 0 }
    }

    pub(super) fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.come_to_rest();
        self.check_rest();
        self.change_at_rest();
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0 | 1 if self.members.len() < 6 => self.join(),
            2 => self.leave(),
            3 => self.crash(),
            4 => self.change_topics(),
            5 => self.change_subscription(),
            6 => self.reload(),
            7 | 8 => self.commit(),
            9 => self.return_static(),
            10 if self.is_mixed => self.join_classic(),
            11 if self.is_mixed && self.dice.one_in(3) => self.leave_classic(),
            11..=15 if self.is_mixed => self.beat_classic(),
            _ => self.beat(true),
        }
        let ms = [0, 100, 900, 3_000, 3_000, 12_000][self.dice.below(6)];
        self.world.pass(ms);
    }

    fn subscription(&mut self) -> Subscription {
        if self.dice.one_in(4) {
            let pattern = PATTERNS[self.dice.below(PATTERNS.len())].to_owned();
            let names = if self.dice.one_in(3) { vec!["c".to_owned()] } else { Vec::new() };
            return Subscription { names, pattern: Some(pattern) };
        }
        let all = self.dice.one_in(2);
        let names = TOPICS.iter().filter(|_| all || self.dice.one_in(2)).map(ToString::to_string);
        Subscription { names: names.collect(), pattern: None }
    }

    fn fresh_id(&mut self) -> String {
        self.next_id += 1;
        format!("m{:03}", self.next_id)
    }

    fn join(&mut self) {
        let id = self.fresh_id();
        let instance = self.dice.one_in(3).then(|| format!("i{}", self.dice.below(4)));
        let subscription = self.subscription();
        let instance = instance.filter(|instance| !self.is_taken(instance));
        self.members.push(Consumer::new(id, instance, subscription));
    }

    fn is_taken(&self, instance: &str) -> bool {
        let consumers = self.members.iter().chain(&self.away).map(|member| &member.instance);
        let mut all = consumers.chain(self.classic.iter().map(|member| &member.instance));
        all.any(|other| other.as_deref() == Some(instance))
    }

    /// A classic consumer starts; or one that was away comes back as a classic one.
    fn join_classic(&mut self) {
        if self.dice.one_in(3)
            && let Some(gone) = self.away.pop()
        {
            self.classic.push(Classic::new(gone.instance, gone.subscription.names));
        } else if self.classic.len() < 4 {
            let topics = TOPICS.iter().filter(|_| self.dice.one_in(2)).map(ToString::to_string).collect();
            let instance = self.dice.one_in(4).then(|| format!("i{}", self.dice.below(4)));
            let instance = instance.filter(|instance| !self.is_taken(instance));
            self.classic.push(Classic::new(instance, topics));
        }
    }

    fn beat_classic(&mut self) {
        if !self.classic.is_empty() {
            let at = self.dice.below(self.classic.len());
            let loses = self.dice.one_in(12);
            self.classic[at].beat(&mut self.world, loses);
            self.classic.retain(|member| !member.is_fenced());
        }
    }

    fn leave_classic(&mut self) {
        if !self.classic.is_empty() {
            let at = self.dice.below(self.classic.len());
            let mut member = self.classic.swap_remove(at);
            if self.dice.one_in(2) {
                member.leave(&mut self.world);
            } else if member.instance.is_some() {
                // It comes back as a consumer of either protocol.
                let subscription = Subscription { names: member.topics, pattern: None };
                self.away.push(Consumer::new(String::new(), member.instance, subscription));
            }
        }
    }

    /// One member's heartbeat; it, or its answer, may be lost, and its owner may be slow to do what it says.
    fn beat(&mut self, with_faults: bool) {
        if self.members.is_empty() {
            return;
        }
        let at = self.dice.below(self.members.len());
        self.beat_of(at, with_faults);
    }

    fn beat_of(&mut self, at: usize, with_faults: bool) {
        let member = &mut self.members[at];
        let is_slow = with_faults && self.dice.one_in(4);
        if !is_slow {
            member.take_up();
        }
        let request = member.request();
        let says_what_it_owns = request.topic_partitions.is_some();
        if with_faults && self.dice.one_in(12) {
            member.hear_nothing(says_what_it_owns);
            return;
        }
        let response = self.world.heartbeat(request);
        if with_faults && self.dice.one_in(10) {
            member.hear_nothing(says_what_it_owns);
            return;
        }
        member.hear(&response);
    }

    fn leave(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let at = self.dice.below(self.members.len());
        let mut member = self.members.swap_remove(at);
        let for_a_while = member.instance.is_some() && self.dice.one_in(2);
        if member.epoch > 0 {
            let request = member.leave(if for_a_while { -2 } else { -1 });
            self.world.heartbeat(request);
        }
        if for_a_while {
            self.away.push(member);
        }
    }

    fn crash(&mut self) {
        if !self.members.is_empty() && self.dice.one_in(2) {
            let at = self.dice.below(self.members.len());
            let member = self.members.swap_remove(at);
            if member.instance.is_some() {
                self.away.push(member);
            }
        }
    }

    /// A static member comes back as another process.
    fn return_static(&mut self) {
        if let Some(gone) = self.away.pop() {
            let id = self.fresh_id();
            self.members.push(Consumer::new(id, gone.instance, gone.subscription));
        }
    }

    fn change_topics(&mut self) {
        let topic = TOPICS[self.dice.below(TOPICS.len())];
        self.change_topic(topic);
    }

    fn change_topic(&mut self, topic: &str) {
        if self.world.image.topic(topic).is_none() {
            self.world.create_topic(topic, i32::try_from(1 + self.dice.below(5)).unwrap());
        } else if self.dice.one_in(3) {
            self.world.delete_topic(topic);
        } else {
            self.world.add_partitions(topic, i32::try_from(1 + self.dice.below(3)).unwrap());
        }
    }

    fn change_subscription(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let at = self.dice.below(self.members.len());
        let subscription = self.subscription();
        self.members[at].subscription = subscription;
        self.members[at].says_all = true;
    }

    /// What is loaded from the log, whole or compacted, is what was there.
    fn reload(&mut self) {
        let live = recorded(self.world.group());
        if self.dice.one_in(2) {
            self.world.log = self.world.compacted();
        }
        let is_consumer_group = self.world.consumer_group().is_some();
        self.world.reload();
        self.classic.iter_mut().for_each(Classic::lose_coordinator);
        // Of a classic group, who joins is in memory only.
        if is_consumer_group || self.world.consumer_group().is_some() {
            assert_eq!(recorded(self.world.group()), live, "replayed state differs");
        }
    }

    /// A member commits a partition that it believes to own. If it is taken, nobody else owns it.
    fn commit(&mut self) {
        let owners = self.members.iter().enumerate();
        let owned: Vec<(usize, Partition)> =
            owners.flat_map(|(at, member)| member.owned.iter().map(move |owned| (at, *owned))).collect();
        if owned.is_empty() {
            return;
        }
        let (at, partition) = owned[self.dice.below(owned.len())];
        let member = &self.members[at];
        let epoch = if self.dice.one_in(3) { member.epoch - 1 } else { member.epoch };
        if !self.commit_is_taken(&member.id.clone(), epoch, partition) {
            return;
        }
        let Some(group) = self.world.consumer_group() else {
            panic!("{} is of no classic group", self.members[at].id)
        };
        let member = &self.members[at];
        assert!(group.members.contains_key(member.id.as_str()), "a commit of {} was taken", member.id);
        let others = self.members.iter().filter(|other| other.id != member.id);
        for other in others.filter(|other| group.members.contains_key(other.id.as_str())) {
            assert!(!other.owned.contains(&partition), "{} and {} own {partition:?}", member.id, other.id);
        }
    }

    fn commit_is_taken(&mut self, member: &str, epoch: i32, (topic_id, partition): Partition) -> bool {
        let partition = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 1,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            topic_id,
            name: "t".into(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP,
            generation_id_or_member_epoch: epoch,
            member_id: Str::from(member),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        match self.world.ask(10, Request::OffsetCommit(request)).1 {
            Some(Answer::OffsetCommit(response)) => response.topics[0].partitions[0].error_code == 0,
            other => panic!("{other:?}"),
        }
    }

    /// Whoever the coordinator takes for a member owns alone. (Whoever was thrown out and does not know it yet
    /// is kept from committing instead.)
    fn check(&self) {
        // Commits of a classic member are taken at the generation that the coordinator knows it by: a static one
        // that slept through a rebalance is still a member, and fenced by that.
        let epoch = |id: &str| match self.world.group() {
            Some(Group::Consumer(group)) => group.members.get(id).map(|member| member.epoch),
            Some(Group::Classic(group)) => group.members.get(id).map(|_| group.generation),
            _ => None,
        };
        let consumers = self.members.iter().filter(|member| epoch(&member.id).is_some());
        let consumers = consumers.map(|member| (&member.id, &member.owned));
        let classic = self.classic.iter().filter(|member| epoch(&member.id) == Some(member.generation));
        let all = consumers.chain(classic.map(|member| (&member.id, &member.owned)));
        let mut owners: BTreeMap<Partition, &str> = BTreeMap::new();
        for (id, owned) in all {
            for partition in owned {
                let other = owners.insert(*partition, id);
                assert_eq!(other, None, "{partition:?} is owned by {id} as well");
            }
        }
        let Some(group) = self.world.consumer_group() else { return };
        for (member_id, member) in &group.members {
            for (topic, partition, _) in member.assigned.iter().chain(member.pending_revocation.iter()) {
                let epoch = group.partition_epochs.get(&(topic, partition));
                assert_eq!(epoch, Some(&member.epoch), "{member_id} has {topic}-{partition}");
            }
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..60 {
            for at in 0..self.members.len() {
                self.beat_of(at, false);
                self.check();
            }
            for at in 0..self.classic.len() {
                self.classic[at].beat(&mut self.world, false);
                self.check();
            }
            self.classic.retain(|member| !member.is_fenced());
            self.world.pass(3_000);
        }
        for member in &mut self.members {
            member.take_up();
        }
    }

    /// A change of a topic makes the group rebalance if somebody reads it, and not otherwise.
    fn change_at_rest(&mut self) {
        let topic = TOPICS[self.dice.below(TOPICS.len())];
        let before = self.epoch_and_whether_it_is_read(topic);
        self.change_topic(topic);
        let after = self.epoch_and_whether_it_is_read(topic);
        self.come_to_rest();
        self.check_rest();
        // Read before or now: a pattern may take up what has come.
        let (Some((epoch, read)), Some((_, reads))) = (before, after) else { return };
        let now = self.epoch_and_whether_it_is_read(topic).map(|(epoch, _)| epoch);
        assert_eq!(now > Some(epoch), read || reads, "{topic} was changed at epoch {epoch}, now {now:?}");
    }

    /// The group's epoch or generation.
    fn epoch_and_whether_it_is_read(&self, topic: &str) -> Option<(i32, bool)> {
        let epoch = match self.world.group()? {
            Group::Consumer(group) => group.group_epoch,
            Group::Classic(group) => group.generation,
            Group::Foreign(_) => return None,
        };
        let named = self.classic.iter().any(|member| member.topics.iter().any(|name| name == topic));
        let topic_id = self.world.image.topic(topic).map(|topic| topic.id);
        let consumers = self.members.iter().map(|member| &member.subscription);
        let mut consumers = consumers.map(|subscription| {
            subscription.names.iter().any(|name| name == topic)
                || topic_id.is_some_and(|topic_id| reads(subscription, &self.world).contains(&topic_id))
        });
        Some((epoch, named || consumers.any(|reads| reads)))
    }

    fn check_rest(&self) {
        let classic = self.classic.iter().map(|member| {
            assert!(member.is_settled(), "{member:?}");
            let subscription = Subscription { names: member.topics.clone(), pattern: None };
            (member.id.as_str(), reads(&subscription, &self.world), &member.owned)
        });
        let consumers = self
            .members
            .iter()
            .map(|member| (member.id.as_str(), reads(&member.subscription, &self.world), &member.owned));
        let all: Vec<_> = consumers.chain(classic).collect();
        let ids: BTreeSet<&str> = all.iter().map(|(id, _, _)| *id).collect();
        let known: BTreeSet<&str> = match self.world.group() {
            Some(Group::Consumer(group)) => group.members.keys().map(|id| id.as_str()).collect(),
            Some(Group::Classic(group)) => group.members.keys().map(|id| id.as_str()).collect(),
            _ => BTreeSet::new(),
        };
        assert_eq!(ids, known, "who is a member");
        if ids.is_empty() {
            return;
        }
        assert_eq!(self.world.group().map(Group::state_name), Some("Stable"));
        let mut read = BTreeSet::new();
        let mut owned = BTreeSet::new();
        for (id, topics, partitions) in all {
            for (topic, partition) in partitions {
                assert!(topics.contains(topic), "{id} does not read {topic}");
                assert!(owned.insert((*topic, *partition)), "{topic}-{partition} has two owners");
            }
            read.extend(topics);
        }
        let topics = read.iter().filter_map(|topic| self.world.image.topic_by_id(*topic));
        let all: BTreeSet<Partition> = topics
            .flat_map(|topic| topic.partitions.keys().map(|partition| (topic.id, *partition)))
            .collect();
        assert_eq!(owned, all, "partitions without an owner");
    }
}
