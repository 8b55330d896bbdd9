//! A cluster of real processes on loopback: its quorum agrees and goes on when one of it is killed, its partitions are
//! replicated and lose nothing that was acknowledged, controllers may be nodes of their own, and strangers get Kafka's
//! codes.

mod adopted;
mod copies;
mod elections;
mod nodes;
mod places;
mod replicas;
mod roles;
mod strangers;

use klamm::protocol::messages::describe_cluster_request::DescribeClusterRequest;

use nodes::{Nodes, eventually};

#[tokio::test]
async fn three_nodes_decide_and_go_on_when_the_active_controller_is_killed() {
    let mut nodes = Nodes::start();
    let before = nodes.describe(0).await;
    assert_eq!(before.current_voters.len(), 3);
    assert!(before.current_voters.iter().all(|voter| !voter.replica_directory_id.is_zero()));
    for index in 0..3 {
        // Whoever is asked, the active controller decides.
        assert_eq!(nodes.create(index, &format!("before-{index}"), 1, 2).await, 0);
    }
    let leader = nodes.place(before.leader_id);
    nodes.kill(leader);
    let other = (leader + 1) % 3;
    let after = eventually("another leader", || async {
        Some(nodes.describe(other).await).filter(|it| it.leader_id != before.leader_id)
    });
    let after = after.await;
    assert!(after.leader_epoch > before.leader_epoch, "{after:?}");
    assert_eq!(nodes.create(other, "meanwhile", 1, 2).await, 0);
    nodes.start_all();
    for name in ["before-0", "before-1", "before-2", "meanwhile"] {
        assert_eq!(nodes.create(leader, name, 1, 2).await, 36, "{name} is there: TOPIC_ALREADY_EXISTS");
    }
}

#[tokio::test]
async fn every_node_tells_the_same_of_the_cluster_a_broker_that_does_not_vote_too() {
    let mut nodes = Nodes::start();
    let fourth = nodes.add(4, &[]);
    nodes.start_all();
    assert_eq!(nodes.create(fourth, "everywhere", 2, 4).await, 0);
    let mut told = Vec::new();
    for index in 0..4 {
        let what = "all four are in sync";
        let partitions = nodes.partitions(index, "everywhere", what, |it| it.isr_nodes.len() == 4).await;
        let mut cluster = nodes.client(index).await.call(&DescribeClusterRequest::default()).await.unwrap();
        cluster.brokers.sort_by_key(|broker| broker.broker_id);
        let mut brokers = nodes.metadata(index, "everywhere").await.brokers;
        brokers.sort_by_key(|broker| broker.node_id);
        assert_eq!(cluster.brokers.iter().map(|it| it.broker_id).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let leaders: Vec<(i32, i32)> = partitions.iter().map(|it| (it.leader_id, it.leader_epoch)).collect();
        told.push((cluster.cluster_id, cluster.brokers, brokers, leaders));
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:#?}");
    let quorum = nodes.describe(fourth).await;
    assert_eq!(quorum.current_voters.len(), 3);
    assert_eq!(quorum.observers.iter().map(|it| it.replica_id).collect::<Vec<_>>(), [4]);
}
