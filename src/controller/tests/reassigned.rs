//! Replicas that move to other brokers.

use super::*;
use crate::controller::reassignments;
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;

fn reassign_with(cluster: &mut Cluster, replicas: Option<&[i32]>, may_change_factor: bool) -> ErrorCode {
    let partition = ReassignablePartition {
        partition_index: 0,
        replicas: replicas.map(<[i32]>::to_vec),
        ..Default::default()
    };
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: may_change_factor,
        topics: vec![ReassignableTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = cluster.decide(|context| reassignments::alter(context, &request));
    ErrorCode::from_wire(answer.responses[0].partitions[0].error_code)
}

fn reassign(cluster: &mut Cluster, replicas: &[i32]) -> ErrorCode {
    reassign_with(cluster, Some(replicas), true)
}

fn moving(cluster: &mut Cluster) -> Option<(Vec<i32>, Vec<i32>, Vec<i32>)> {
    let request = ListPartitionReassignmentsRequest::default();
    let listed = cluster.decide(|context| reassignments::list(context, &request));
    let partition = listed.topics.first()?.partitions.first()?.clone();
    Some((partition.replicas, partition.adding_replicas, partition.removing_replicas))
}

fn four_brokers(replicas: &[i32]) -> Cluster {
    let mut cluster = Cluster::with_brokers(4);
    cluster.create("t", &[replicas], &[]);
    cluster
}

#[test]
fn a_move_ends_when_every_replica_that_stays_is_in_sync() {
    let mut cluster = four_brokers(&[1, 2]);
    assert_eq!(reassign(&mut cluster, &[3, 4]), ErrorCode::None);
    assert_eq!(moving(&mut cluster), Some((vec![3, 4, 1, 2], vec![3, 4], vec![1, 2])));
    assert_eq!(cluster.partition("t", 0).directory_of(3), directory_of(3));
    assert_eq!(cluster.set_isr("t", &[1, 2, 3]), ErrorCode::None);
    assert!(moving(&mut cluster).is_some());
    let before = cluster.partition("t", 0).leader_epoch;
    assert_eq!(cluster.set_isr("t", &[1, 2, 3, 4]), ErrorCode::NewLeaderElected, "1 leads no more");
    assert_eq!(moving(&mut cluster), None);
    assert_eq!(cluster.standing("t"), (3, vec![3, 4], vec![]));
    assert_eq!(cluster.partition("t", 0).replicas, [3, 4]);
    assert_eq!(cluster.partition("t", 0).directories, [directory_of(3), directory_of(4)]);
    assert!(cluster.partition("t", 0).leader_epoch > before);
}

#[test]
fn a_leader_that_stays_begins_an_epoch_when_others_are_removed() {
    let mut cluster = four_brokers(&[1, 2]);
    reassign(&mut cluster, &[1, 3]);
    let before = cluster.partition("t", 0).leader_epoch;
    assert_eq!(cluster.set_isr("t", &[1, 2, 3]), ErrorCode::None);
    assert_eq!(cluster.standing("t"), (1, vec![1, 3], vec![]));
    assert_eq!(cluster.partition("t", 0).leader_epoch, before + 1, "2 is not to follow it any more");
}

#[test]
fn another_order_or_fewer_replicas_is_done_at_once() {
    let mut cluster = four_brokers(&[1, 2, 3]);
    assert_eq!(reassign(&mut cluster, &[2, 1, 3]), ErrorCode::None);
    assert_eq!((moving(&mut cluster), cluster.partition("t", 0).replicas.clone()), (None, vec![2, 1, 3]));
    assert_eq!(reassign(&mut cluster, &[2, 1]), ErrorCode::None);
    assert_eq!((moving(&mut cluster), cluster.partition("t", 0).replicas.clone()), (None, vec![2, 1]));
    assert_eq!(reassign(&mut cluster, &[2, 1]), ErrorCode::None, "nothing is left to do");
}

#[test]
fn a_move_that_is_cancelled_leaves_what_was_there() {
    let mut cluster = four_brokers(&[1, 2]);
    assert_eq!(reassign_with(&mut cluster, None, true), ErrorCode::NoReassignmentInProgress);
    reassign(&mut cluster, &[3, 4]);
    cluster.set_isr("t", &[1, 2, 3]);
    assert_eq!(reassign_with(&mut cluster, None, true), ErrorCode::None);
    assert_eq!((moving(&mut cluster), cluster.partition("t", 0).replicas.clone()), (None, vec![1, 2]));
    assert_eq!(cluster.standing("t"), (1, vec![1, 2], vec![]));
}

#[test]
fn a_move_is_not_cancelled_where_that_would_lose_records() {
    for (unclean, expected) in [("false", ErrorCode::InvalidReplicaAssignment), ("true", ErrorCode::None)] {
        let mut cluster = Cluster::with_brokers(4);
        cluster.create("t", &[&[1]], &[("unclean.leader.election.enable", unclean)]);
        reassign(&mut cluster, &[3, 4]);
        cluster.set_isr("t", &[1, 3]);
        cluster.kill(1);
        assert_eq!(cluster.standing("t").1, [3]);
        assert_eq!(reassign_with(&mut cluster, None, true), expected);
        if unclean == "false" {
            cluster.kill(3);
            assert_eq!(cluster.standing("t"), (-1, vec![], vec![3]), "nobody else is known to have all");
            assert_eq!(reassign_with(&mut cluster, None, true), expected);
        }
    }
}

#[test]
fn a_later_move_takes_the_place_of_one_on_its_way() {
    let mut cluster = four_brokers(&[1, 2]);
    reassign(&mut cluster, &[1, 3]);
    assert_eq!(reassign(&mut cluster, &[1, 4]), ErrorCode::None);
    assert_eq!(moving(&mut cluster), Some((vec![1, 4, 2, 3], vec![4], vec![2, 3])));
    cluster.set_isr("t", &[1, 2, 4]);
    assert_eq!(cluster.partition("t", 0).replicas, [1, 4]);
}

#[test]
fn moves_to_nobody_to_strangers_or_twice_to_one_are_refused() {
    let mut cluster = four_brokers(&[1, 2]);
    for replicas in [&[][..], &[1, 9], &[3, 3]] {
        assert_eq!(reassign(&mut cluster, replicas), ErrorCode::InvalidReplicaAssignment);
    }
    let more = Some(&[1, 2, 3][..]);
    assert_eq!(reassign_with(&mut cluster, more, false), ErrorCode::InvalidReplicationFactor);
    assert_eq!(reassign_with(&mut cluster, more, true), ErrorCode::None);
    assert_eq!(
        reassign_with(&mut cluster, Some(&[1, 2, 4]), false),
        ErrorCode::None,
        "three are wanted by now"
    );
}
