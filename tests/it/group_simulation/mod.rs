//! Classic groups under everything that happens to them: members join, leave, lag, crash, come back, with and
//! without a fixed identity; partitions are added, topics deleted, the coordinator is loaded again from its log.
//!
//! What holds whatever the order: in a generation a partition is given to one member; no commit of an old generation
//! is taken; once all is quiet everyone agrees, and nothing is without an owner; what is loaded is what was known.
//! `KLAMM_SIMULATION_SEEDS=100000` runs as many seeds, from `KLAMM_SEED` on.

mod members;
mod mistakes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use klamm::config::GroupSettings;
use klamm::coordinator::{
    Answer, Asked, ClassicGroup, ClassicState, Client, Effects, Group, GroupRecord, Now, Request, Shard,
    Surroundings, Token, TopicChanges, batches_of, replay,
};
use klamm::metadata::{Image, MetadataRecord};
use klamm::protocol::Str;
use klamm::protocol::messages::group_metadata_key::GroupMetadataKey;
use klamm::protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use klamm::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use klamm::protocol::messages::partition_record::PartitionRecord;
use klamm::protocol::messages::remove_topic_record::RemoveTopicRecord;
use klamm::protocol::messages::sync_group_response::SyncGroupResponse;
use klamm::protocol::messages::topic_record::TopicRecord;
use klamm::record::Compression;
use klamm::types::{LeaderEpoch, Offset, Uuid};

use crate::random::Random;
use mistakes::Mistake;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 15_000;
const HEARTBEAT_MS: i64 = 3_000;
const TOPICS: [&str; 3] = ["a", "b", "c"];
const GROUPS: [&str; 2] = ["one", "two"];

/// A partition of a topic that was made for the nth time: one deleted and made again is another.
type Place = (Str, i32);

/// A client of a group, as a consumer behaves.
struct Member {
    group: Str,
    instance: Option<Str>,
    id: Str,
    /// The protocols it knows, the best first.
    protocols: Vec<&'static str>,
    topics: Vec<&'static str>,
    generation: i32,
    phase: Phase,
    /// What has come for it and it has not looked at.
    mailbox: VecDeque<Answer>,
    owned: Vec<Place>,
    /// As its leader, how many partitions each topic had when it assigned, or came back and was told not to.
    seen: Option<BTreeMap<Str, i32>>,
    /// It leads with the assignment that was there when it came back.
    has_inherited: bool,
    beats_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is to join.
    Out,
    Joining(Token),
    Syncing(Token),
    In,
}

struct World {
    seed: u64,
    mistake: Option<Mistake>,
    random: Random,
    shard: Shard,
    log: Vec<Bytes>,
    log_end: i64,
    image: Arc<Image>,
    metadata_offset: i64,
    settings: GroupSettings,
    now: Now,
    next_token: u64,
    next_id: u64,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    /// Whose request a token is.
    asked: HashMap<Token, u64>,
    /// Who was given a partition in a generation.
    given: HashMap<(Str, i32, Place), String>,
    /// The offsets whose commits were taken.
    committed: HashMap<(Str, Str, i32), i64>,
    tally: Tally,
}

/// What a run has seen, so that one which sees nothing is noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    generations: usize,
    taken: u64,
    stale_refused: u64,
    loaded: u64,
    fenced: u64,
    inconsistent: u64,
    /// Groups that a change of a topic made rebalance while nothing else happened.
    rebalanced: u64,
}

impl World {
    fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut world = Self {
            seed,
            mistake,
            random: Random::from_seed(seed),
            shard: Shard::new(),
            log: Vec::new(),
            log_end: 0,
            image: Arc::new(Image::default()),
            metadata_offset: 0,
            settings: GroupSettings::default(),
            now: Now { wall_ms: 1_700_000_000_000, timer_ms: 1_000 },
            next_token: 0,
            next_id: 0,
            members: BTreeMap::new(),
            next_member: 0,
            asked: HashMap::new(),
            given: HashMap::new(),
            committed: HashMap::new(),
            tally: Tally::default(),
        };
        for topic in TOPICS {
            world.create_topic(topic);
        }
        world
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random.below(below as usize) as u64
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut Shard, Surroundings<'_>) -> R) -> R {
        let next_id = &mut self.next_id;
        let mut draw_id = || {
            *next_id += 1;
            Uuid(u128::from(*next_id).to_be_bytes())
        };
        let around = Surroundings {
            now: self.now,
            image: &self.image,
            settings: &self.settings,
            record_bytes_max: 1 << 20,
            draw_id: &mut draw_id,
        };
        act(&mut self.shard, around)
    }

    /// Appends records as batches, and delivers answers.
    fn see_to(&mut self, effects: Effects) {
        let effects = self.mistaken_effects(effects);
        let batches = batches_of(&effects.records, self.now.wall_ms, Compression::NONE, 1 << 20).unwrap();
        for batch in batches {
            let mut batch = batch.to_vec();
            klamm::record::assign_offsets(&mut batch, Offset(self.log_end), LeaderEpoch(0));
            self.log_end = klamm::record::BatchHeader::parse(&batch).unwrap().next_offset().0;
            self.log.push(batch.into());
        }
        for (token, answer) in effects.answers {
            let Some(number) = self.asked.remove(&token) else { continue };
            if let Some(member) = self.members.get_mut(&number) {
                member.mailbox.push_back(answer);
            }
        }
    }

    fn ask(&mut self, number: u64, version: i16, request: Request) -> Token {
        let request = self.mistaken_request(request);
        let answers_early = self.answers_early(&request);
        self.next_token += 1;
        let token = Token(self.next_token);
        self.asked.insert(token, number);
        let client = Client { id: Str::from("sim"), host: Str::from("/127.0.0.1") };
        let asked = Asked { token, client, version, request };
        let effects = self.call(|shard, around| shard.handle(around, asked));
        self.see_to(effects);
        if answers_early && self.asked.contains_key(&token) {
            let answers = vec![(token, Answer::SyncGroup(SyncGroupResponse::default()))];
            self.see_to(Effects { answers, ..Effects::default() });
        }
        token
    }

    // What happens.

    fn start_member(&mut self, instance: Option<Str>) {
        let group = Str::from(GROUPS[self.pick(GROUPS.len() as u64) as usize]);
        // An instance is configured once: it comes back with the topics and protocols that it had.
        let number = instance.as_ref().and_then(|id| id.bytes().last()).map(u64::from);
        let topics = match number.unwrap_or_else(|| self.pick(3)) % 3 {
            0 => vec!["a"],
            1 => vec!["a", "b"],
            _ => TOPICS.to_vec(),
        };
        let protocols = match number.unwrap_or_else(|| self.pick(3)) % 3 {
            0 => vec!["range"],
            1 => vec!["cooperative-sticky", "range"],
            _ => vec!["range", "cooperative-sticky"],
        };
        self.next_member += 1;
        let member = Member {
            group,
            instance,
            id: Str::empty(),
            protocols,
            topics,
            generation: -1,
            phase: Phase::Out,
            mailbox: VecDeque::new(),
            owned: Vec::new(),
            seen: None,
            has_inherited: false,
            beats_at_ms: 0,
        };
        self.members.insert(self.next_member, member);
    }

    /// A member vanishes; one with an instance id comes back as a new process that knows its instance.
    fn crash(&mut self, number: u64) {
        let Some(member) = self.members.remove(&number) else { return };
        if member.instance.is_some() && self.pick(2) == 0 {
            self.next_member += 1;
            let again = Member {
                id: Str::empty(),
                generation: -1,
                phase: Phase::Out,
                mailbox: VecDeque::new(),
                owned: Vec::new(),
                seen: None,
                has_inherited: false,
                ..member
            };
            self.members.insert(self.next_member, again);
        }
    }

    fn leave(&mut self, number: u64) {
        let Some(member) = self.members.remove(&number) else { return };
        let identity = MemberIdentity {
            member_id: member.id,
            group_instance_id: member.instance,
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: member.group,
            members: vec![identity],
            ..LeaveGroupRequest::default()
        };
        self.ask(number, 5, Request::LeaveGroup(request));
    }

    /// The coordinator forgets everything and reads its log.
    fn reload(&mut self) {
        for (_, number) in std::mem::take(&mut self.asked) {
            if let Some(member) = self.members.get_mut(&number) {
                member.mailbox.clear();
                (member.phase, member.generation) = (Phase::Out, -1);
                member.owned.clear();
            }
        }
        let loaded = self.loaded();
        self.compare(&loaded);
        self.shard = loaded;
        self.tally.loaded += 1;
        let effects = self.call(Shard::loaded);
        self.see_to(effects);
    }

    /// What the log says.
    fn loaded(&self) -> Shard {
        let mut shard = Shard::new();
        if self.mistake == Some(Mistake::ReplaysOutOfOrder) {
            for pair in self.log.chunks(2) {
                for batch in pair.iter().rev() {
                    replay(&mut shard, batch, Offset(0)).unwrap();
                }
            }
            return shard;
        }
        let bytes: Vec<u8> = self.log.iter().flat_map(|batch| batch.to_vec()).collect();
        let end = replay(&mut shard, &bytes.into(), Offset(0)).unwrap();
        assert_eq!(end.0, self.log_end);
        shard
    }

    /// What is loaded is what was known: of groups at rest all, of others what the last rest left.
    fn compare(&self, loaded: &Shard) {
        for (key, offset) in &self.committed {
            let found = loaded.committed(&key.0, &key.1, key.2).map(|committed| committed.offset);
            assert_eq!(found, Some(*offset), "seed {}: {key:?} in the log", self.seed);
            let known = self.shard.committed(&key.0, &key.1, key.2).map(|committed| committed.offset);
            assert_eq!(known, Some(*offset), "seed {}: {key:?} in memory", self.seed);
        }
        for group_id in GROUPS {
            let (Some(Group::Classic(known)), found) = (self.shard.group(group_id), loaded.group(group_id))
            else {
                continue;
            };
            let Some(Group::Classic(found)) = found else {
                panic!("seed {}: {group_id} is not in the log", self.seed);
            };
            if known.state == ClassicState::Stable {
                assert_eq!(rest_of(known), rest_of(found), "seed {}: {group_id}", self.seed);
            }
        }
    }

    fn change_metadata(&mut self, records: Vec<MetadataRecord>) {
        let before = Arc::clone(&self.image);
        let mut builder = self.image.builder();
        self.metadata_offset += 1;
        for record in records {
            builder.apply(record).unwrap();
        }
        self.image = Arc::new(builder.finish(Offset(self.metadata_offset), LeaderEpoch(1)));
        let changes = TopicChanges::between(&before, &self.image);
        if self.mistake != Some(Mistake::KeepsOffsetsOfDeletedTopics) {
            let effects = self.call(|shard, around| shard.follow(around, &changes));
            self.see_to(effects);
        }
    }

    fn create_topic(&mut self, name: &str) {
        self.next_id += 1;
        let topic_id = Uuid((u128::from(self.next_id) | 1 << 100).to_be_bytes());
        let mut records: Vec<MetadataRecord> =
            vec![TopicRecord { name: name.into(), topic_id, ..TopicRecord::default() }.into()];
        let partitions = 1 + self.pick(4) as i32;
        records.extend((0..partitions).map(|partition| partition_record(topic_id, partition)));
        self.change_metadata(records);
    }

    fn grow_topic(&mut self, name: &str) {
        let Some(topic) = self.image.topic(name) else { return };
        let (topic_id, partitions) = (topic.id, topic.partitions.len() as i32);
        self.change_metadata(vec![partition_record(topic_id, partitions)]);
    }

    fn delete_topic(&mut self, name: &str) {
        let Some(topic) = self.image.topic(name) else { return };
        let topic_id = topic.id;
        self.change_metadata(vec![RemoveTopicRecord { topic_id, ..RemoveTopicRecord::default() }.into()]);
        for (group, topic, partition) in self.committed.keys().filter(|(_, topic, _)| *topic == *name) {
            let left = self.shard.committed(group, topic, *partition);
            assert_eq!(left, None, "seed {}: {group} keeps an offset of {topic}", self.seed);
        }
        self.committed.retain(|(_, topic, _), _| *topic != *name);
        // Made again, its partitions are others.
        self.given.retain(|(_, _, (topic, _)), _| *topic != *name);
    }

    fn pass(&mut self, ms: i64) {
        let until = self.now.timer_ms + ms;
        while let Some(due) = self.shard.next_deadline_ms().filter(|due| *due <= until) {
            let step = (due - self.now.timer_ms).max(0);
            self.now.timer_ms += step;
            self.now.wall_ms += step;
            self.keep_sessions();
            let Some(effects) = self.call(Shard::tick) else { break };
            self.see_to(effects);
        }
        self.now.wall_ms += until - self.now.timer_ms;
        self.now.timer_ms = until;
    }

    // The run.

    fn event(&mut self, members_max: u64) {
        let numbers: Vec<u64> = self.members.keys().copied().collect();
        let pick = self.pick(100);
        let some = |world: &mut Self| {
            (!numbers.is_empty()).then(|| numbers[world.pick(numbers.len() as u64) as usize])
        };
        match pick {
            0..8 if (numbers.len() as u64) < members_max => {
                let instance = match self.pick(4) {
                    0 => Some(Str::from(format!("instance-{}", self.pick(6)))),
                    _ => None,
                };
                self.start_member(instance);
            }
            8..11 => {
                if let Some(number) = some(self) {
                    self.crash(number);
                }
            }
            11..13 => {
                if let Some(number) = some(self) {
                    self.leave(number);
                }
            }
            13 => self.reload(),
            14 => {
                let topic = TOPICS[self.pick(3) as usize];
                match self.pick(3) {
                    0 => self.delete_topic(topic),
                    _ if self.image.topic(topic).is_none() => self.create_topic(topic),
                    _ => self.grow_topic(topic),
                }
            }
            15..30 => {
                let ms = self.pick(2_500) as i64;
                self.pass(ms);
            }
            30..32 => {
                let ms = self.pick(30_000) as i64;
                self.pass(ms);
            }
            _ => {
                if let Some(number) = some(self) {
                    self.act(number);
                }
            }
        }
    }

    /// Lets everybody who is there go on undisturbed until nothing changes.
    fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for number in self.members.keys().copied().collect::<Vec<_>>() {
                for _ in 0..3 {
                    self.act(number);
                }
            }
            self.pass(500);
        }
    }

    /// A change of a topic makes each group rebalance whose leader knows that somebody reads it, and no other.
    fn change_at_rest(&mut self) {
        let topic = TOPICS[self.pick(3) as usize];
        let group_of = |world: &Self, group_id: &str| {
            let group = world.classic(group_id)?;
            let led = world.members.values().find(|member| Some(&member.id) == group.leader.as_ref());
            let reads = led.and_then(|leader| leader.seen.as_ref()).map(|seen| seen.contains_key(topic));
            Some((group.generation, reads))
        };
        let before: Vec<_> = GROUPS.iter().map(|group_id| group_of(self, group_id)).collect();
        let (exists, deletes) = (self.image.topic(topic).is_some(), self.pick(2) == 0);
        match (exists, deletes) {
            (false, _) => self.create_topic(topic),
            (true, true) => self.delete_topic(topic),
            (true, false) => self.grow_topic(topic),
        }
        self.settle(40);
        for (group_id, before) in GROUPS.iter().zip(before) {
            let Some((generation, Some(reads))) = before else { continue };
            let after = self.classic(group_id).map_or(-1, |group| group.generation);
            let seed = self.seed;
            assert_eq!(after > generation, reads, "seed {seed}: {group_id} after {topic} changed");
            self.tally.rebalanced += u64::from(reads);
        }
        self.check_rest();
    }

    fn check_rest(&mut self) {
        let seed = self.seed;
        for group_id in GROUPS {
            let living: Vec<&Member> =
                self.members.values().filter(|member| member.group == *group_id).collect();
            let Some(group) = self.classic(group_id) else {
                assert!(living.is_empty(), "seed {seed}: {group_id} is gone");
                continue;
            };
            let ids: BTreeSet<&Str> = living.iter().map(|member| &member.id).collect();
            let expected = if living.is_empty() { ClassicState::Empty } else { ClassicState::Stable };
            assert_eq!(group.state, expected, "seed {seed}: {group_id} with {} members", living.len());
            assert_eq!(group.members.keys().collect::<BTreeSet<_>>(), ids, "seed {seed}: {group_id}");
            let mut owned = BTreeSet::new();
            let mut wanted = BTreeSet::new();
            let mut instances = BTreeSet::new();
            for member in &living {
                let is_alone = member.instance.as_ref().is_none_or(|id| instances.insert(id));
                assert!(is_alone, "seed {seed}: two members of {group_id} are {:?}", member.instance);
                assert_eq!((member.phase, member.generation), (Phase::In, group.generation), "seed {seed}");
                for place in &member.owned {
                    assert!(owned.insert(place.clone()), "seed {seed}: {place:?} has two owners");
                }
                for topic in &member.topics {
                    wanted.extend((0..self.partitions_of(topic)).map(|at| (Str::from(*topic), at)));
                }
            }
            // A static leader that came back to its place by a version before 9 was not told that it leads: nobody
            // looks after topics then, until the next rebalance (KIP-814). One that was told looks at them from then on:
            // what changed while it was away it takes for what it assigned, as Kafka's clients do.
            let leader = living.iter().find(|member| Some(&member.id) == group.leader.as_ref());
            if leader.is_none_or(|leader| leader.seen.is_some() && !leader.has_inherited) {
                assert_eq!(owned, wanted, "seed {seed}: {group_id}: every partition has an owner");
            }
        }
        assert!(
            self.asked.values().all(|number| !self.members.contains_key(number)),
            "seed {seed}: nobody waits"
        );
        self.compare(&self.loaded());
    }
}

fn partition_record(topic_id: Uuid, partition_id: i32) -> MetadataRecord {
    PartitionRecord {
        topic_id,
        partition_id,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        ..Default::default()
    }
    .into()
}

/// What the log keeps of a group.
type Rest = (i32, Option<Str>, Option<Str>, Vec<(Str, Option<Str>, Bytes)>);

fn rest_of(group: &ClassicGroup) -> Rest {
    let members = group.members.values();
    let members = members.map(|it| (it.id.clone(), it.instance_id.clone(), it.assignment.clone())).collect();
    (group.generation, group.protocol_name.clone(), group.leader.clone(), members)
}

fn run(seed: u64, mistake: Option<Mistake>) -> Tally {
    let mut world = World::new(seed, mistake);
    // Most groups are small; some are very large.
    let (events, members_max) = match seed % 500 {
        499 => (3_000, 1_500),
        _ => (150 + world.pick(350), 2 + world.pick(12)),
    };
    if members_max > 1_000 {
        for _ in 0..members_max {
            world.start_member(None);
        }
    }
    for _ in 0..events {
        world.event(members_max);
    }
    for topic in TOPICS {
        if world.image.topic(topic).is_none() {
            world.create_topic(topic);
        }
    }
    world.settle(120);
    world.check_rest();
    world.change_at_rest();
    let generations: BTreeSet<(&Str, i32)> = world.given.keys().map(|(group, at, _)| (group, *at)).collect();
    Tally { generations: generations.len(), ..world.tally }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn s1_3_consumer_test_rebalances_under_bounces_give_each_partition_one_owner_and_converge() {
    let first = number("KLAMM_SEED", 0);
    let mut all = Tally::default();
    let seeds = number("KLAMM_SIMULATION_SEEDS", 40);
    for seed in first..first + seeds {
        let seen = run(seed, None);
        all.generations += seen.generations;
        all.taken += seen.taken;
        all.stale_refused += seen.stale_refused;
        all.loaded += seen.loaded;
        all.fenced += seen.fenced;
        all.inconsistent += seen.inconsistent;
        all.rebalanced += seen.rebalanced;
    }
    println!("{seeds} seeds: {all:?}");
    let each = [all.generations as u64, all.taken, all.stale_refused, all.loaded];
    assert!(each.iter().all(|count| *count >= seeds), "too little happened: {all:?}");
    assert!(all.fenced > 0 && all.rebalanced > 0 || seeds < 20, "too little happened: {all:?}");
}

#[test]
fn a_group_of_more_than_a_thousand_members_converges() {
    run(499, None);
}

#[test]
fn who_joins_and_never_syncs_is_put_out_and_the_others_go_on() {
    let mut world = World::new(1, None);
    let group = Str::from(GROUPS[0]);
    for _ in 0..3 {
        world.start_member(None);
    }
    for member in world.members.values_mut() {
        (member.group, member.protocols) = (group.clone(), vec!["range"]);
    }
    let (others, silent) = ([1, 2], 3);
    let has_joined = |world: &World| {
        let told = world.members[&silent].mailbox.front();
        matches!(told, Some(Answer::JoinGroup(joined)) if joined.error_code == 0)
    };
    while !has_joined(&world) {
        for number in others {
            world.act(number);
        }
        if !has_joined(&world) {
            world.act(silent);
        }
        world.pass(500);
    }
    for _ in 0..80 {
        for number in others {
            world.act(number);
        }
        world.pass(500);
    }
    world.members.remove(&silent);
    world.check_rest();
    let known = world.classic(&group).unwrap();
    assert_eq!((known.state, known.members.len()), (ClassicState::Stable, 2));
}

/// Two generations in one log, with another protocol each: members are those of the second.
#[test]
fn a_group_is_loaded_as_its_last_record_has_it() {
    let mut shard = Shard::new();
    for (generation, protocol) in [(1, "cooperative-sticky"), (2, "range")] {
        let members = vec![MemberMetadata { member_id: Str::from("m"), ..MemberMetadata::default() }];
        let value = GroupMetadataValue {
            protocol_type: Str::from("consumer"),
            generation,
            protocol: Some(Str::from(protocol)),
            members,
            ..GroupMetadataValue::default()
        };
        let key = GroupMetadataKey { group: Str::from("g") };
        shard.replay(Offset(i64::from(generation)), &GroupRecord::GroupMetadata(key, Some(value)), None);
    }
    let Some(Group::Classic(group)) = shard.group("g") else { panic!("a classic group") };
    let spoken: Vec<&str> = group.members["m"].protocols.iter().map(|protocol| &*protocol.name).collect();
    assert_eq!((group.generation, spoken), (2, vec!["range"]));
}
