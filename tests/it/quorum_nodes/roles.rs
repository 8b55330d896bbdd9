//! Controllers that are no brokers, brokers that are no controllers, told so by server.properties; and nodes that are so far
//! behind that they take a snapshot of the metadata.

use klamm::protocol::messages::describe_cluster_request::DescribeClusterRequest;

use super::nodes::{Nodes, connect, eventually};

const CONTROLLERS: i8 = 2;

#[tokio::test]
async fn three_controllers_alone_and_two_brokers_go_on_when_the_active_one_is_killed() {
    let mut nodes = Nodes::none();
    (1..=3).for_each(|id| {
        nodes.add_by_file(id, "controller");
    });
    let (first, second) = (nodes.add_by_file(4, "broker"), nodes.add_by_file(5, "broker"));
    nodes.start_all();
    assert_eq!(nodes.create(first, "before", 2, 2).await, 0);
    let quorum = nodes.describe(second).await;
    assert_eq!(quorum.observers.iter().map(|it| it.replica_id).collect::<Vec<_>>(), [4, 5]);
    // The controllers are described at their own doors.
    let asked = DescribeClusterRequest { endpoint_type: CONTROLLERS, ..Default::default() };
    eventually("all three are registered", || async {
        let answer = connect(nodes.controllers[0]).await.call(&asked).await.unwrap();
        assert_eq!(answer.error_code, 0);
        let ids: Vec<i32> = answer.brokers.iter().map(|controller| controller.broker_id).collect();
        (ids == [1, 2, 3]).then_some(())
    })
    .await;
    let brokers = nodes.client(first).await.call(&DescribeClusterRequest::default()).await.unwrap();
    assert_eq!(brokers.brokers.iter().map(|broker| broker.broker_id).collect::<Vec<_>>(), [4, 5]);
    let active = nodes.place(quorum.leader_id);
    nodes.kill(active);
    assert_eq!(nodes.create(second, "meanwhile", 2, 2).await, 0);
    let made = nodes.partitions(first, "meanwhile", "both are in sync", |it| it.isr_nodes.len() == 2).await;
    assert_eq!(made.len(), 2);
    nodes.start_all();
    for index in [first, second, 0, 1, 2] {
        assert!(nodes.stop(index).success());
    }
}

#[tokio::test]
async fn s1_3_snapshot_test_who_is_far_behind_takes_a_snapshot_over_the_wire() {
    // Snapshots every few records, and nothing kept behind them.
    let mut arguments = Vec::new();
    for setting in [
        "metadata.log.segment.ms=1",
        "metadata.log.max.record.bytes.between.snapshots=500",
        "metadata.max.retention.bytes=1000",
        "metadata.max.retention.ms=1",
    ] {
        arguments.extend(["--set", setting]);
    }
    let mut nodes = Nodes::start_with(&arguments);
    let leader = nodes.place(nodes.describe(0).await.leader_id);
    let behind = (leader + 1) % 3;
    nodes.kill(behind);
    let begin = nodes.dir(leader).join("__cluster_metadata-0/00000000000000000000.log");
    for number in 0..500 {
        assert_eq!(nodes.create(leader, &format!("topic-{number}"), 1, 1).await, 0);
        if !begin.exists() {
            break;
        }
    }
    assert!(!begin.exists(), "the log's begin is deleted by now");
    let fourth = nodes.add(4, &arguments);
    nodes.start_all();
    for index in [behind, fourth] {
        assert!(nodes.log(index).contains("metadata snapshot taken over from the leader"));
        // What it knows of the cluster came with it.
        nodes.partitions(index, "topic-0", "is known", |it| it.error_code == 0).await;
    }
    for index in 0..4 {
        assert!(nodes.stop(index).success());
    }
}
