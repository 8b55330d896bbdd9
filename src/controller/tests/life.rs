//! Brokers that register, beat, stop, crash and come back.

use super::*;
use crate::controller::registrations::{register_controller, unregister_broker};
use crate::protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;

fn code(response: &BrokerRegistrationResponse) -> ErrorCode {
    ErrorCode::from_wire(response.error_code)
}

#[test]
fn a_broker_serves_once_it_has_applied_its_own_registration() {
    let mut cluster = Cluster::new();
    let request = cluster.registration(1, -1);
    let answer = cluster.register(&request);
    assert_eq!(answer.broker_epoch, cluster.image.end_offset().0 - 1, "its epoch is the record's offset");
    assert!(cluster.image.broker(1).unwrap().fenced);
    let behind = BrokerHeartbeatRequest {
        broker_id: 1,
        broker_epoch: answer.broker_epoch,
        current_metadata_offset: answer.broker_epoch - 1,
        ..Default::default()
    };
    let beat = cluster.beat_with(&behind);
    assert!(!beat.is_caught_up && beat.is_fenced);
    let wants_fence =
        BrokerHeartbeatRequest { current_metadata_offset: answer.broker_epoch, want_fence: true, ..behind };
    let beat = cluster.beat_with(&wants_fence);
    assert!(beat.is_caught_up && beat.is_fenced, "it does not want to serve yet");
    let beat = cluster.beat(1);
    assert!(beat.is_caught_up && !beat.is_fenced);
    assert!(!cluster.image.broker(1).unwrap().fenced);
}

#[test]
fn a_silent_broker_is_fenced_when_its_session_ends_and_serves_again_when_it_is_back() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    cluster.pass(SESSION_MS - 1);
    cluster.beat(2);
    cluster.beat(3);
    assert_eq!(cluster.standing("t"), (1, vec![1, 2, 3], vec![]));
    assert_eq!(cluster.sessions.next_deadline_ms(&cluster.image), Some(SESSION_MS));
    cluster.pass(1);
    assert!(cluster.image.broker(1).unwrap().fenced);
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]));
    assert!(!cluster.beat(1).is_fenced, "it was only silent");
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]), "it has to catch up with its leader first");
}

#[test]
fn a_new_controller_counts_every_broker_as_heard_of_when_it_takes_office() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.elapsed_ms = 1_000_000;
    cluster.sessions = BrokerSessions::new(&cluster.image, SESSION_MS, None, cluster.elapsed_ms);
    cluster.pass(SESSION_MS - 1);
    assert!(cluster.image.brokers().values().all(|broker| !broker.fenced));
    cluster.pass(1);
    assert!(cluster.image.brokers().values().all(|broker| broker.fenced));
}

#[test]
fn a_lost_connection_fences_at_once_and_lets_the_next_life_register() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], &[]);
    let next_life = cluster.registration(1, -1);
    assert_eq!(code(&cluster.register(&next_life)), ErrorCode::DuplicateBrokerRegistration);
    cluster.kill(1);
    assert!(cluster.image.broker(1).unwrap().fenced);
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]));
    assert_eq!(code(&cluster.register(&next_life)), ErrorCode::None);
}

#[test]
fn a_heartbeat_of_an_earlier_life_is_stale() {
    let mut cluster = Cluster::with_brokers(1);
    let stale =
        BrokerHeartbeatRequest { broker_id: 1, broker_epoch: cluster.epoch_of(1) - 1, ..Default::default() };
    let end = cluster.image.end_offset();
    let stale_epoch = ErrorCode::StaleBrokerEpoch.code();
    assert_eq!(cluster.beat_with(&stale).error_code, stale_epoch);
    assert_eq!(cluster.beat_with(&BrokerHeartbeatRequest { broker_id: 7, ..stale }).error_code, stale_epoch);
    assert_eq!(cluster.image.end_offset(), end);
}

#[test]
fn registering_again_in_the_same_life_keeps_epoch_and_standing() {
    let mut cluster = Cluster::new();
    let request = cluster.registration(1, -1);
    cluster.start_with(&request);
    let epoch = cluster.epoch_of(1);
    cluster.create("t", &[&[1]], &[]);
    assert_eq!(cluster.register(&request).broker_epoch, epoch);
    assert!(!cluster.image.broker(1).unwrap().fenced);
    assert_eq!(cluster.standing("t"), (1, vec![1], vec![]));
}

#[test]
fn registrations_that_do_not_fit_the_cluster_are_refused() {
    let mut cluster = Cluster::with_brokers(1);
    let good = cluster.registration(2, -1);
    let with = |change: &dyn Fn(&mut BrokerRegistrationRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let cases = [
        (with(&|it| it.cluster_id = "another".into()), ErrorCode::InconsistentClusterId),
        (with(&|it| it.is_migrating_zk_broker = true), ErrorCode::InvalidRegistration),
        (with(&|it| it.listeners[0].security_protocol = 9), ErrorCode::InvalidRegistration),
        (with(&|it| it.log_dirs.clear()), ErrorCode::InvalidRegistration),
        (with(&|it| it.listeners = vec![Listener::default(); 1_001]), ErrorCode::InvalidRegistration),
        (with(&|it| it.rack = Some("r".repeat(5_000).into())), ErrorCode::InvalidRegistration),
        (with(&|it| it.log_dirs.push(Uuid::ONE)), ErrorCode::InvalidRegistration),
        (with(&|it| it.log_dirs = vec![directory_of(2); 2]), ErrorCode::InvalidRegistration),
        (with(&|it| it.log_dirs = vec![directory_of(1)]), ErrorCode::InvalidRegistration),
        (with(&|it| it.features[0].max_supported_version = 29), ErrorCode::UnsupportedVersion),
        (with(&|it| it.features.retain(|it| it.name != "group.version")), ErrorCode::UnsupportedVersion),
    ];
    for (request, expected) in cases {
        let answer = cluster.register(&request);
        assert_eq!((code(&answer), answer.broker_epoch), (expected, -1));
        assert!(cluster.image.broker(2).is_none());
    }
    assert_eq!(code(&cluster.register(&good)), ErrorCode::None);
}

#[test]
fn a_broker_that_stops_hands_its_leaderships_over_and_waits_until_all_know() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[&[1, 2, 3]], &[]);
    let answer = cluster.ask_to_stop(1);
    assert!(!answer.should_shut_down && !answer.is_fenced);
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]));
    assert!(cluster.image.broker(1).unwrap().in_controlled_shutdown);
    assert!(!cluster.ask_to_stop(1).should_shut_down, "2 and 3 have not heard of it");
    cluster.beat(2);
    assert!(!cluster.ask_to_stop(1).should_shut_down);
    cluster.beat(3);
    let answer = cluster.ask_to_stop(1);
    assert!(answer.should_shut_down && answer.is_fenced);
    cluster.start(1);
    assert!(!cluster.image.broker(1).unwrap().in_controlled_shutdown);
    assert_eq!(cluster.set_isr("t", &[2, 3, 1]), ErrorCode::None);
}

#[test]
fn a_broker_that_leads_nothing_or_is_fenced_may_stop_at_once() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    assert!(cluster.ask_to_stop(2).should_shut_down);
    assert_eq!(cluster.standing("t"), (1, vec![1], vec![]));
    assert!(cluster.ask_to_stop(2).should_shut_down, "it is fenced by then");
}

#[test]
fn the_only_replica_of_a_partition_leads_again_after_a_clean_stop() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1]], &[]);
    cluster.ask_to_stop(1);
    assert_eq!(cluster.standing("t"), (-1, vec![], vec![1]));
    assert_eq!(cluster.partition("t", 0).last_known_elr, [1]);
    cluster.beat(2);
    assert!(cluster.ask_to_stop(1).should_shut_down);
    cluster.start(1);
    assert_eq!(cluster.standing("t"), (1, vec![1], vec![]));
    assert!(cluster.partition("t", 0).last_known_elr.is_empty());
}

#[test]
fn failed_directories_cost_their_replicas_alone() {
    let mut cluster = Cluster::new();
    let mut request = cluster.registration(1, -1);
    request.log_dirs = vec![Uuid([0x51; 16]), Uuid([0x52; 16])];
    cluster.start_with(&request);
    cluster.start(2);
    cluster.create("t", &[&[1, 2], &[1, 2]], &[]);
    for (index, directory) in [(0, 0x51), (1, 0x52)] {
        let topic_id = cluster.image.topic("t").unwrap().id;
        let replica = crate::metadata::ReplicaDirectory {
            topic_id,
            partition: index,
            directory: Uuid([directory; 16]),
        };
        let request = crate::controller::log_dirs::request(1, cluster.epoch_of(1), &[replica]);
        let answer = cluster.decide(|context| crate::controller::log_dirs::assign(context, &request));
        assert_eq!(answer.directories[0].topics[0].partitions[0].error_code, 0);
        assert_eq!(cluster.partition("t", index).directory_of(1), replica.directory);
    }
    cluster.beat_with(&BrokerHeartbeatRequest {
        broker_id: 1,
        broker_epoch: cluster.epoch_of(1),
        current_metadata_offset: cluster.image.end_offset().0 - 1,
        offline_log_dirs: vec![Uuid([0x52; 16])],
        ..Default::default()
    });
    assert_eq!(cluster.image.broker(1).unwrap().log_dirs, [Uuid([0x51; 16])]);
    assert_eq!((cluster.partition("t", 0).leader, cluster.partition("t", 1).leader), (1, 2));
    assert_eq!(cluster.partition("t", 1).isr, [2]);
    // One that lies in a failed directory by the time it is told is in sync no more.
    let topic_id = cluster.image.topic("t").unwrap().id;
    let late = crate::metadata::ReplicaDirectory { topic_id, partition: 0, directory: Uuid([0x52; 16]) };
    let request = crate::controller::log_dirs::request(1, cluster.epoch_of(1), &[late]);
    cluster.decide(|context| crate::controller::log_dirs::assign(context, &request));
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
}

#[test]
fn an_unregistered_broker_is_nowhere_in_sync_and_cannot_beat() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    let unregister = |cluster: &mut Cluster, broker_id| {
        let request = UnregisterBrokerRequest { broker_id, ..Default::default() };
        ErrorCode::from_wire(cluster.decide(|context| unregister_broker(context, &request)).error_code)
    };
    assert_eq!(unregister(&mut cluster, 1), ErrorCode::None);
    assert_eq!(cluster.standing("t"), (2, vec![2], vec![]));
    assert_eq!(cluster.beat(1).error_code, ErrorCode::StaleBrokerEpoch.code());
    assert_eq!(unregister(&mut cluster, 1), ErrorCode::BrokerIdNotRegistered);
}

#[test]
fn controllers_register_where_the_level_has_records_for_it() {
    let request = ControllerRegistrationRequest { controller_id: 5, ..Default::default() };
    let mut cluster = Cluster::new();
    assert_eq!(cluster.decide(|context| register_controller(context, &request)).error_code, 0);
    assert!(cluster.image.controllers().contains_key(&5));
    let mut old = Cluster::at_level(14, false);
    let answer = old.decide(|context| register_controller(context, &request));
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
}
