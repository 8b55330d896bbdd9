//! Whatever happens to brokers, in any order: every image that comes of it is a sound one ([`super::check_image`]).
//!
//! `KLAMM_SEEDS=100000 cargo test --release --lib controller::tests::random` is the long run.

use super::*;
use crate::controller::{elect_leaders, reassignments, registrations, topic_changes};
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;

const BROKERS: i32 = 5;
const STEPS: usize = 300;

struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn broker(&mut self) -> i32 {
        1 + self.below(BROKERS as usize) as i32
    }

    /// Some of them, in any order.
    fn some(&mut self, from: &[i32]) -> Vec<i32> {
        let mut left = from.to_vec();
        let count = 1 + self.below(left.len().max(1));
        (0..count.min(left.len())).map(|_| left.remove(self.below(left.len()))).collect()
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let (level, tracks) = [(30, true), (30, false), (22, false), (11, false)][random.below(4)];
    let mut cluster = Cluster::at_level(level, tracks);
    (1..=BROKERS).for_each(|broker| cluster.start(broker));
    let mut made = 0;
    let mut held = None;
    for _ in 0..STEPS {
        step(&mut cluster, &mut random, &mut made, &mut held);
    }
}

fn step(
    cluster: &mut Cluster,
    random: &mut Random,
    made: &mut usize,
    held: &mut Option<AlterPartitionRequest>,
) {
    let broker = random.broker();
    let is_fenced = cluster.image.broker(broker).is_none_or(|broker| broker.fenced);
    match random.below(16) {
        0 => cluster.kill(broker),
        1 | 2 if is_fenced => cluster.start(broker),
        3 if is_fenced => cluster.start_uncleanly(broker),
        4 if is_fenced => {
            let request = cluster.registration(broker, cluster.epoch_of(broker));
            cluster.register(&request);
        }
        5 => {
            cluster.ask_to_stop(broker);
        }
        6 if cluster.image.topics().len() < 4 => create_some(cluster, random, made),
        7 => {
            let ms = random.below(20_000) as i64;
            cluster.pass(ms);
        }
        8 => move_some(cluster, random),
        9 => {
            let election_type = random.below(2) as i8;
            let request = ElectLeadersRequest { election_type, topic_partitions: None, ..Default::default() };
            cluster.decide(|context| elect_leaders::elect_leaders(context, &request));
        }
        10 => {
            let unclean = ["true", "false"][random.below(2)];
            cluster.set_cluster_setting("unclean.leader.election.enable", unclean);
        }
        // A request that was on its way while other things happened.
        11 => {
            if let Some(request) = held.take() {
                cluster.alter(&request);
            }
        }
        12 if random.below(8) == 0 => forget_some(cluster, random, broker),
        13 => {
            cluster.beat(broker);
        }
        _ => *held = change_isr(cluster, random).or_else(|| held.take()),
    }
}

fn create_some(cluster: &mut Cluster, random: &mut Random, made: &mut usize) {
    *made += 1;
    let known: Vec<i32> = cluster.image.brokers().keys().copied().collect();
    let replicas = [random.some(&known), random.some(&known)];
    let active = |id: &i32| crate::controller::placement::is_active(&cluster.image, *id);
    let factor = replicas[0].len().min(replicas[1].len());
    let replicas = replicas.map(|mut replicas| {
        replicas.truncate(factor);
        replicas
    });
    if factor == 0 || !replicas.iter().all(|replicas| replicas.iter().any(active)) {
        return;
    }
    let min_isr = (1 + random.below(3)).to_string();
    let settings = [("min.insync.replicas", min_isr.as_str())];
    cluster.create(&format!("t{made}"), &[&replicas[0], &replicas[1]], &settings);
}

fn any_topic(cluster: &Cluster, random: &mut Random) -> Option<String> {
    let names: Vec<String> = cluster.image.topics().iter().map(|topic| topic.name.to_string()).collect();
    (!names.is_empty()).then(|| names[random.below(names.len())].clone())
}

/// A leader changes its ISR, or has said so and the request takes its time.
fn change_isr(cluster: &mut Cluster, random: &mut Random) -> Option<AlterPartitionRequest> {
    let topic = any_topic(cluster, random)?;
    let replicas = cluster.partition(&topic, 0).replicas.clone();
    let mut isr = random.some(&replicas);
    let leader = cluster.partition(&topic, 0).leader;
    if !isr.contains(&leader) && random.below(10) > 0 {
        isr.push(leader);
    }
    let request = cluster.isr_request(&topic, &isr);
    if random.below(3) == 0 {
        return Some(request);
    }
    cluster.alter(&request);
    None
}

fn move_some(cluster: &mut Cluster, random: &mut Random) {
    let Some(topic) = any_topic(cluster, random) else { return };
    let known: Vec<i32> = cluster.image.brokers().keys().copied().collect();
    let replicas = (random.below(4) > 0).then(|| random.some(&known));
    let partition = ReassignablePartition { partition_index: 0, replicas, ..Default::default() };
    let topic =
        ReassignableTopic { name: topic.as_str().into(), partitions: vec![partition], ..Default::default() };
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: random.below(2) == 0,
        topics: vec![topic],
        ..Default::default()
    };
    cluster.decide(|context| reassignments::alter(context, &request));
}

fn forget_some(cluster: &mut Cluster, random: &mut Random, broker_id: i32) {
    if random.below(2) == 0 {
        let request = UnregisterBrokerRequest { broker_id, ..Default::default() };
        cluster.decide(|context| registrations::unregister_broker(context, &request));
    } else if let Some(topic) = any_topic(cluster, random) {
        let topic_names = vec![topic.as_str().into()];
        let request = DeleteTopicsRequest { topic_names, ..Default::default() };
        cluster.decide(|context| topic_changes::delete(context, &request));
    }
}

#[test]
fn whatever_happens_to_brokers_every_image_is_sound() {
    let seeds = std::env::var("KLAMM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
