//! Members that join, leave, lag, crash, time out and come back, lose answers and change what they read, while
//! topics come, grow and go and the coordinator is loaded again from its records, compacted or not.
//!
//! What must hold: a partition never has two owners among those whom the coordinator takes for members; no commit
//! is taken from whoever is no owner; in the end everybody has come to rest, with every partition that is read
//! owned by one who reads it; and what is replayed is what was there.
//!
//! `KLAMM_SIMULATION_SEEDS=100000 cargo test --lib consumer::tests::simulation` is the long run.

use std::collections::BTreeSet;

use crate::coordinator::{Answer, Request};
use crate::protocol::Str;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use super::consumers::{Consumer, Dice, PATTERNS, Partition, Subscription, reads};
use super::world::{GROUP, World, recorded};

/// Runs of one `cargo test`.
const SEEDS: u64 = 60;
const STEPS: usize = 120;
const TOPICS: [&str; 4] = ["a-1", "a-2", "b-1", "c"];

struct Run {
    world: World,
    dice: Dice,
    members: Vec<Consumer>,
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
        let outcome = std::panic::catch_unwind(|| Run::new(seed).run());
        if outcome.is_err() {
            panic!("seed {seed}: KLAMM_SIMULATION_FIRST={seed} KLAMM_SIMULATION_SEEDS=1 repeats it");
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        if dice.one_in(2) {
            world.settings.consumer_assignors.reverse();
        }
        for topic in TOPICS {
            if dice.one_in(2) {
                world.create_topic(topic, i32::try_from(1 + dice.below(5)).unwrap());
            }
        }
        Self { world, dice, members: Vec::new(), away: Vec::new(), next_id: 0 }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.come_to_rest();
        self.check_rest();
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
        let taken = self.members.iter().chain(&self.away).any(|other| other.instance == instance);
        let subscription = self.subscription();
        self.members.push(Consumer::new(id, instance.filter(|_| !taken), subscription));
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
        if with_faults && self.dice.one_in(12) {
            member.says_all = true;
            return;
        }
        let response = self.world.heartbeat(request);
        if with_faults && self.dice.one_in(10) {
            member.says_all = true;
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
        self.world.reload();
        assert_eq!(recorded(self.world.group()), live, "replayed state differs");
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
        let group = self.world.consumer_group().unwrap();
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
        let Some(group) = self.world.consumer_group() else { return };
        let mut owned: BTreeSet<Partition> = BTreeSet::new();
        for member in &self.members {
            if !group.members.contains_key(member.id.as_str()) {
                continue;
            }
            for partition in &member.owned {
                assert!(owned.insert(*partition), "{partition:?} has two owners, {} one of them", member.id);
            }
        }
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
            self.world.pass(3_000);
        }
        for member in &mut self.members {
            member.take_up();
        }
    }

    fn check_rest(&self) {
        let Some(group) = self.world.consumer_group() else {
            assert!(self.members.is_empty(), "the group is gone");
            return;
        };
        let ids: BTreeSet<&str> = self.members.iter().map(|member| member.id.as_str()).collect();
        let known: BTreeSet<&str> = group.members.keys().map(|id| id.as_str()).collect();
        assert_eq!(ids, known, "who is a member");
        if ids.is_empty() {
            return;
        }
        assert_eq!(group.state_name(), "Stable");
        let mut read = BTreeSet::new();
        let mut owned = BTreeSet::new();
        for member in &self.members {
            let topics = reads(&member.subscription, &self.world);
            for (topic, partition) in &member.owned {
                assert!(topics.contains(topic), "{} does not read {topic}", member.id);
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
