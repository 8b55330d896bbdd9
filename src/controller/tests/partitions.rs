//! Who leads and who is in sync, through everything that happens to brokers.

use super::*;
use crate::controller::elect_leaders::elect_leaders;
use crate::metadata::LeaderRecoveryState;
use crate::protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use crate::protocol::messages::elect_leaders_response::ElectLeadersResponse;

const MIN_TWO: &[(&str, &str)] = &[("min.insync.replicas", "2")];

#[test]
fn kip_966_replicas_that_leave_with_too_few_in_sync_stay_eligible() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], MIN_TWO);
    cluster.kill(1);
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]), "two are enough");
    cluster.kill(2);
    assert_eq!(cluster.standing("t"), (3, vec![3], vec![2]));
    cluster.kill(3);
    assert_eq!(cluster.standing("t"), (-1, vec![], vec![2, 3]));
    assert_eq!(cluster.partition("t", 0).last_known_elr, [3]);
    // 1 left while enough were in sync: it may lack what was committed since.
    cluster.start(1);
    assert_eq!(cluster.standing("t").0, -1);
    cluster.start(2);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![3]));
    assert_eq!(cluster.partition("t", 0).leader_recovery_state, LeaderRecoveryState::Recovered);
    assert_eq!(cluster.set_isr("t", &[2, 1]), ErrorCode::None);
    assert_eq!(cluster.standing("t"), (2, vec![2, 1], vec![]), "enough are in sync: nobody else is needed");
}

#[test]
fn kafka_18106_an_unclean_restart_of_the_last_in_sync_leaves_it_to_an_eligible_replica() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], MIN_TWO);
    cluster.kill(1);
    cluster.kill(2);
    cluster.kill(3);
    assert_eq!(cluster.standing("t"), (-1, vec![], vec![2, 3]));
    cluster.start_uncleanly(3);
    assert_eq!(cluster.standing("t"), (-1, vec![], vec![2]), "it may have lost what it had acknowledged");
    cluster.start(2);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
}

#[test]
fn kafka_18635_an_unclean_restart_is_seen_whatever_the_registration_leaves_out() {
    for previous_epoch in [-1, 0, i64::MAX] {
        let mut cluster = Cluster::with_brokers(2);
        cluster.create("t", &[&[1, 2]], MIN_TWO);
        cluster.kill(1);
        cluster.kill(2);
        assert_eq!(cluster.standing("t"), (-1, vec![], vec![1, 2]));
        let request = cluster.registration(1, previous_epoch);
        cluster.start_with(&request);
        assert_eq!(cluster.standing("t"), (-1, vec![], vec![2]), "epoch {previous_epoch} is not its last");
    }
}

#[test]
fn kafka_19522_a_last_known_leader_that_is_fenced_is_not_elected() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2]], &[]);
    cluster.kill(2);
    cluster.kill(1);
    cluster.start_uncleanly(2);
    let request = cluster.registration(1, -1);
    cluster.register(&request);
    assert_eq!(cluster.standing("t"), (-1, vec![], vec![]));
    assert_eq!(cluster.partition("t", 0).last_known_elr, [1]);
    // Others come and go, and elections are asked for, while it is fenced.
    cluster.kill(3);
    cluster.start(3);
    elect(&mut cluster, 0, &["t"]);
    assert_eq!(cluster.standing("t").0, -1);
    cluster.beat(1);
    assert_eq!(cluster.standing("t"), (1, vec![1], vec![]));
    let partition = cluster.partition("t", 0);
    assert_eq!(partition.leader_recovery_state, LeaderRecoveryState::Recovering, "records may be gone");
    assert!(partition.last_known_elr.is_empty());
}

#[test]
fn kip_903_a_wiped_follower_is_not_taken_in_by_the_request_made_before() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], MIN_TWO);
    assert_eq!(cluster.set_isr("t", &[1, 2]), ErrorCode::None);
    // 3 had caught up; before the leader's request arrives it is killed, wiped, and back.
    let before = cluster.isr_request("t", &[1, 2, 3]);
    cluster.kill(3);
    cluster.start_uncleanly(3);
    assert_eq!(partition_code(&cluster.alter(&before)), ErrorCode::IneligibleReplica);
    assert_eq!(cluster.standing("t").1, [1, 2]);
    assert_eq!(cluster.set_isr("t", &[1, 2, 3]), ErrorCode::None, "it caught up anew");
}

#[test]
fn kafka_14139_a_wiped_follower_that_is_known_by_its_epoch_alone() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    assert_eq!(cluster.set_isr("t", &[1]), ErrorCode::None);
    let mut before = cluster.isr_request("t", &[1, 2]);
    cluster.kill(2);
    cluster.start_uncleanly(2);
    // Even were the request made on this very registration: it names the follower's earlier life.
    before.topics[0].partitions[0].partition_epoch = cluster.partition("t", 0).partition_epoch;
    assert_eq!(partition_code(&cluster.alter(&before)), ErrorCode::IneligibleReplica);
    // A leader of before KIP-903 cannot tell lives apart; its request is taken as it is.
    let asked = &mut before.topics[0].partitions[0];
    (asked.new_isr, asked.new_isr_with_epochs) = (vec![1, 2], Vec::new());
    assert_eq!(partition_code(&cluster.alter(&before)), ErrorCode::None);
}

#[test]
fn an_isr_is_changed_only_on_the_registration_as_it_is() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], &[]);
    let good = cluster.isr_request("t", &[1, 2]);
    let with = |change: &dyn Fn(&mut AlterPartitionRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let epoch_of_two = cluster.epoch_of(2);
    let cases: [(AlterPartitionRequest, ErrorCode); 11] = [
        (with(&|it| it.topics[0].partitions[0].leader_epoch += 1), ErrorCode::NotController),
        (with(&|it| it.topics[0].partitions[0].partition_epoch += 1), ErrorCode::NotController),
        (with(&|it| it.topics[0].partitions[0].leader_epoch -= 1), ErrorCode::FencedLeaderEpoch),
        (with(&|it| it.topics[0].partitions[0].partition_epoch -= 1), ErrorCode::InvalidUpdateVersion),
        (with(&|it| (it.broker_id, it.broker_epoch) = (2, epoch_of_two)), ErrorCode::InvalidRequest),
        (with(&|it| it.topics[0].partitions[0].new_isr_with_epochs.truncate(0)), ErrorCode::InvalidRequest),
        (
            with(&|it| it.topics[0].partitions[0].new_isr_with_epochs[1].broker_id = 9),
            ErrorCode::InvalidRequest,
        ),
        (
            with(&|it| it.topics[0].partitions[0].new_isr_with_epochs[1].broker_id = 1),
            ErrorCode::InvalidRequest,
        ),
        (with(&|it| it.topics[0].partitions[0].leader_recovery_state = 1), ErrorCode::InvalidRequest),
        (with(&|it| it.topics[0].partitions[0].partition_index = 1), ErrorCode::UnknownTopicOrPartition),
        (with(&|it| it.topics[0].topic_id = Uuid([9; 16])), ErrorCode::UnknownTopicId),
    ];
    for (request, expected) in cases {
        assert_eq!(partition_code(&cluster.alter(&request)), expected);
        assert_eq!(cluster.standing("t").1, [1, 2, 3]);
    }
    let stale = with(&|it| it.broker_epoch -= 1);
    assert_eq!(cluster.alter(&stale).error_code, ErrorCode::StaleBrokerEpoch.code());
    let answer = cluster.alter(&good);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((partition.error_code, &partition.isr[..]), (0, &[1, 2][..]));
    assert_eq!(partition.partition_epoch, cluster.partition("t", 0).partition_epoch);
    assert_eq!(partition_code(&cluster.alter(&good)), ErrorCode::InvalidUpdateVersion, "it has moved on");
}

#[test]
fn who_is_fenced_or_stops_is_not_taken_into_the_isr() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3], &[2, 1, 3]], &[]);
    cluster.kill(3);
    assert_eq!(cluster.set_isr("t", &[1, 2, 3]), ErrorCode::IneligibleReplica);
    cluster.ask_to_stop(2);
    assert_eq!(cluster.set_isr("t", &[1, 2]), ErrorCode::IneligibleReplica);
}

#[test]
fn nobody_out_of_sync_leads_but_where_it_is_configured() {
    for (unclean, expected) in [("false", -1), ("true", 2)] {
        let mut cluster = Cluster::with_brokers(2);
        cluster.create("t", &[&[1, 2]], &[("unclean.leader.election.enable", unclean)]);
        assert_eq!(cluster.set_isr("t", &[1]), ErrorCode::None);
        cluster.kill(1);
        assert_eq!(cluster.standing("t").0, expected);
        let recovers = cluster.partition("t", 0).leader_recovery_state == LeaderRecoveryState::Recovering;
        assert_eq!(recovers, expected == 2);
    }
}

#[test]
fn a_topic_that_is_allowed_to_lose_records_later_gets_its_leader_by_and_by() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    cluster.set_isr("t", &[1]);
    cluster.kill(1);
    cluster.set_cluster_setting("unclean.leader.election.enable", "true");
    cluster.pass(1);
    assert_eq!(cluster.standing("t").0, -1);
    for _ in 0..100 {
        cluster.beat(2);
        cluster.pass(5_000);
    }
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
}

#[test]
fn leaders_recover_before_others_follow_them() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    cluster.set_isr("t", &[1]);
    cluster.kill(1);
    cluster.start(1);
    let mut recovering = cluster.isr_request("t", &[2, 1]);
    recovering.topics[0].partitions[0].leader_recovery_state = 1;
    assert_eq!(partition_code(&cluster.alter(&recovering)), ErrorCode::InvalidRequest);
    assert_eq!(cluster.set_isr("t", &[2, 1]), ErrorCode::None, "it says that it has recovered");
    assert_eq!(cluster.partition("t", 0).leader_recovery_state, LeaderRecoveryState::Recovered);
}

#[test]
fn without_eligible_replicas_the_last_in_sync_stays_in_sync() {
    let mut cluster = Cluster::at_level(22, false);
    (1..=2).for_each(|broker| cluster.start(broker));
    cluster.create("t", &[&[1, 2]], MIN_TWO);
    cluster.kill(1);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
    cluster.kill(2);
    assert_eq!(cluster.standing("t"), (-1, vec![2], vec![]));
    cluster.start(1);
    assert_eq!(cluster.standing("t").0, -1);
    cluster.start_uncleanly(2);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
}

#[test]
fn an_old_level_begins_an_epoch_with_every_replica_that_leaves() {
    for (level, grows) in [(11, 1), (12, 0)] {
        let mut cluster = Cluster::at_level(level, false);
        (1..=2).for_each(|broker| cluster.start(broker));
        cluster.create("t", &[&[1, 2]], &[]);
        cluster.kill(2);
        assert_eq!(cluster.partition("t", 0).leader_epoch, grows);
    }
}

fn elect(cluster: &mut Cluster, election_type: i8, topics: &[&str]) -> ElectLeadersResponse {
    let topic =
        |topic: &&str| TopicPartitions { topic: (*topic).into(), partitions: vec![0], ..Default::default() };
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions: Some(topics.iter().map(topic).collect()),
        ..Default::default()
    };
    cluster.decide(|context| elect_leaders(context, &request))
}

fn elected(answer: &ElectLeadersResponse) -> ErrorCode {
    assert_eq!(answer.error_code, 0);
    ErrorCode::from_wire(answer.replica_election_results[0].partition_result[0].error_code)
}

#[test]
fn elections_that_are_asked_for_take_the_preferred_or_whoever_is_up() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    assert_eq!(elected(&elect(&mut cluster, 0, &["t"])), ErrorCode::ElectionNotNeeded);
    assert_eq!(elected(&elect(&mut cluster, 0, &["u"])), ErrorCode::UnknownTopicOrPartition);
    cluster.kill(1);
    assert_eq!(elected(&elect(&mut cluster, 0, &["t"])), ErrorCode::PreferredLeaderNotAvailable);
    cluster.start(1);
    assert_eq!(elected(&elect(&mut cluster, 0, &["t"])), ErrorCode::PreferredLeaderNotAvailable);
    cluster.set_isr("t", &[2, 1]);
    assert_eq!(elected(&elect(&mut cluster, 0, &["t"])), ErrorCode::None);
    assert_eq!(cluster.standing("t"), (1, vec![2, 1], vec![]));
    assert_eq!(elected(&elect(&mut cluster, 1, &["t"])), ErrorCode::ElectionNotNeeded);
    cluster.set_isr("t", &[1]);
    cluster.kill(1);
    assert_eq!(cluster.standing("t").0, -1);
    assert_eq!(elected(&elect(&mut cluster, 1, &["t"])), ErrorCode::None);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
    cluster.kill(2);
    assert_eq!(elected(&elect(&mut cluster, 1, &["t"])), ErrorCode::EligibleLeadersNotAvailable);
    assert_eq!(elect(&mut cluster, 2, &["t"]).error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn an_election_of_all_leaves_out_what_needs_none() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2], &[2, 1]], &[]);
    cluster.kill(1);
    cluster.start(1);
    let request = ElectLeadersRequest { election_type: 0, topic_partitions: None, ..Default::default() };
    let answer = cluster.decide(|context| elect_leaders(context, &request));
    let results = &answer.replica_election_results[0].partition_result;
    assert_eq!((results.len(), results[0].partition_id), (1, 0));
}

#[test]
fn leaderships_go_back_to_the_preferred_replicas_by_themselves() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    cluster.kill(1);
    cluster.start(1);
    cluster.set_isr("t", &[2, 1]);
    // The driver wakes for it though every broker is heard of in time.
    assert_eq!(cluster.sessions.next_deadline_ms(&cluster.image), Some(i64::MIN));
    let mut passed_ms = 0;
    while cluster.standing("t").0 == 2 {
        assert!(passed_ms <= 300_000, "leader.imbalance.check.interval.seconds has passed");
        cluster.beat(1);
        cluster.beat(2);
        cluster.pass(5_000);
        passed_ms += 5_000;
    }
    assert_eq!(cluster.standing("t"), (1, vec![2, 1], vec![]));
    assert!(passed_ms > 200_000);
}
