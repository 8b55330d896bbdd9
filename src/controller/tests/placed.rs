//! Where new partitions are put.

use std::collections::BTreeMap;

use super::*;
use crate::controller::placement::place;

fn rack(cluster: &mut Cluster, broker: i32, rack: &str) {
    let mut request = cluster.registration(broker, -1);
    request.rack = Some(rack.into());
    cluster.start_with(&request);
}

fn counts(partitions: &[Vec<i32>], of: impl Fn(&[i32]) -> Vec<i32>) -> BTreeMap<i32, usize> {
    let mut counts = BTreeMap::new();
    for replica in partitions.iter().flat_map(|partition| of(partition)) {
        *counts.entry(replica).or_default() += 1;
    }
    counts
}

#[test]
fn partitions_go_in_stripes_over_the_brokers() {
    let cluster = Cluster::with_brokers(3);
    let mut start = 0;
    let placed = place(&cluster.image, 3, 2, &mut start).unwrap();
    assert_eq!(placed, [[1, 2], [2, 3], [3, 1]]);
    assert_eq!(place(&cluster.image, 3, 2, &mut start).unwrap(), [[1, 3], [2, 1], [3, 2]], "others follow");
    let all = place(&cluster.image, 300, 2, &mut start).unwrap();
    assert_eq!(counts(&all, |it| vec![it[0]]), BTreeMap::from([(1, 100), (2, 100), (3, 100)]));
    assert_eq!(counts(&all, <[i32]>::to_vec), BTreeMap::from([(1, 200), (2, 200), (3, 200)]));
}

#[test]
fn every_rack_has_a_replica_and_every_broker_its_share() {
    let mut cluster = Cluster::new();
    for broker in 0..9 {
        rack(&mut cluster, broker, ["a", "b", "c"][broker as usize / 3]);
    }
    let placed = place(&cluster.image, 90, 3, &mut 0).unwrap();
    for replicas in &placed {
        let mut racks: Vec<i32> = replicas.iter().map(|replica| replica / 3).collect();
        racks.sort_unstable();
        assert_eq!(racks, [0, 1, 2], "{replicas:?}");
    }
    assert!(counts(&placed, |it| vec![it[0]]).values().all(|leads| *leads == 10));
    assert!(counts(&placed, <[i32]>::to_vec).values().all(|holds| *holds == 30));
    let of_zero = placed.iter().filter(|it| it[0] == 0);
    assert!(counts(&of_zero.cloned().collect::<Vec<_>>(), |it| it[1..].to_vec()).len() > 2);
    let four = place(&cluster.image, 9, 4, &mut 0).unwrap();
    assert!(four.iter().all(|it| (0..4).all(|at| !it[..at].contains(&it[at]))));
}

#[test]
fn fenced_brokers_come_last_and_never_first() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.kill(1);
    for replicas in place(&cluster.image, 12, 2, &mut 0).unwrap() {
        assert!(!replicas.contains(&1));
    }
    for replicas in place(&cluster.image, 12, 3, &mut 0).unwrap() {
        assert!(replicas[0] != 1 && replicas.contains(&1));
    }
    let refused = place(&cluster.image, 1, 4, &mut 0).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidReplicationFactor);
    assert!(refused.message.contains("3 broker(s)"));
    cluster.kill(2);
    cluster.kill(3);
    let refused = place(&cluster.image, 1, 1, &mut 0).unwrap_err();
    assert!(refused.message.contains("fenced"));
}

#[test]
fn who_is_on_its_way_down_gets_nothing_new() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[&[1, 2]], &[]);
    cluster.ask_to_stop(1);
    assert!(place(&cluster.image, 1, 2, &mut 0).is_err());
    assert_eq!(place(&cluster.image, 2, 1, &mut 0).unwrap(), [[2], [2]]);
}

#[test]
fn a_partition_begins_with_those_in_sync_that_are_up() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.kill(1);
    cluster.create("t", &[&[1, 2, 3]], &[]);
    assert_eq!(cluster.standing("t"), (2, vec![2, 3], vec![]));
}
