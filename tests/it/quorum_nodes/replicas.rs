//! What was acknowledged stays, whoever of three is killed, stopped or comes back with an empty disk, and the logs of
//! all replicas are the same bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::nodes::Nodes;

const PARTITIONS: i32 = 3;

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

/// The numbers in the topic, each once.
fn consumed(nodes: &Nodes, topic: &str) -> BTreeSet<u32> {
    let printed = nodes.done(&["consume", topic, "-e"], "");
    let numbers: Vec<u32> = printed.lines().map(|line| line.parse().unwrap()).collect();
    let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len(), "a record stands there twice");
    distinct
}

async fn all_in_sync(nodes: &Nodes, topic: &str) {
    for index in 0..3 {
        nodes.partitions(index, topic, "all three are in sync", |it| it.isr_nodes.len() == 3).await;
    }
}

/// Compares what the stopped nodes have of a topic.
fn assert_same_bytes(nodes: &Nodes, topic: &str) {
    let log = |dir: &Path, partition: i32| {
        fs::read(dir.join(format!("{topic}-{partition}/00000000000000000000.log"))).unwrap()
    };
    for partition in 0..PARTITIONS {
        let first = log(&nodes.dir(0), partition);
        assert!(!first.is_empty());
        for index in 1..3 {
            assert!(first == log(&nodes.dir(index), partition), "{topic}-{partition} differs");
        }
    }
}

#[tokio::test]
async fn s1_3_replication_replica_failure_test_records_survive_a_killed_leader_and_the_logs_of_all_replicas_are_the_same_bytes()
 {
    let mut nodes = Nodes::start();
    let made = ["topics", "create", "kept", "-p", "3", "-r", "3", "--config", "min.insync.replicas=2"];
    nodes.done(&made, "");
    let produce = ["produce", "kept", "--partitioner", "round-robin"];
    nodes.done(&produce, &lines(0..300));
    for (round, from) in [300, 600, 900].into_iter().enumerate() {
        let asked = (round + 1) % 3;
        let partitions = nodes.partitions(asked, "kept", "has leaders", |it| it.leader_id > 0).await;
        let leader = nodes.place(partitions[round].leader_id);
        nodes.kill(leader);
        nodes.done(&produce, &lines(from..from + 300));
        nodes.start_all();
        all_in_sync(&nodes, "kept").await;
    }
    assert_eq!(consumed(&nodes, "kept"), (0..1_200).collect());
    // A node of several knows its own directory again.
    assert!((0..3).all(|index| !nodes.log(index).contains("Apache Kafka served this directory")));
    for index in 0..3 {
        assert!(nodes.stop(index).success());
    }
    assert_same_bytes(&nodes, "kept");
}

#[tokio::test]
async fn a_node_that_stops_hands_over_first_and_one_with_an_emptied_disk_is_filled_again() {
    let mut nodes = Nodes::start();
    nodes.done(&["topics", "create", "moved", "-p", "3", "-r", "3"], "");
    let produce = ["produce", "moved", "--partitioner", "round-robin"];
    nodes.done(&produce, &lines(0..300));
    all_in_sync(&nodes, "moved").await;
    let (stopped, other) = (0, 1);
    let id = nodes.nodes[stopped].id;
    assert!(nodes.stop(stopped).success());
    // It has handed over before it went: nobody had to notice.
    let after = nodes.partitions(other, "moved", "led by others", |it| it.leader_id > 0).await;
    assert!(after.iter().all(|it| it.leader_id != id && it.isr_nodes.len() == 2), "{after:?}");
    assert!(nodes.dir(stopped).join(".kafka_cleanshutdown").exists());
    nodes.done(&produce, &lines(300..600));
    fs::remove_dir_all(nodes.dir(stopped)).unwrap();
    nodes.start_all();
    all_in_sync(&nodes, "moved").await;
    // It does not vote any more: with another directory it is another replica of the quorum, until it is added.
    let quorum = nodes.describe(other).await;
    assert_eq!(quorum.observers.iter().map(|it| it.replica_id).collect::<Vec<_>>(), [id]);
    assert_eq!(consumed(&nodes, "moved"), (0..600).collect());
    for index in 0..3 {
        assert!(nodes.stop(index).success());
    }
    assert_same_bytes(&nodes, "moved");
}
