//! Who does not belong gets Kafka's code and a line in the log, and changes nothing for those who do.

use klamm::protocol::messages::begin_quorum_epoch_request as begin;
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::messages::vote_request as vote;
use klamm::types::Uuid;

use super::nodes::{METADATA_TOPIC, Nodes, connect};
use crate::harness::{batch, name_of, produce_request};

/// A vote for node 9, which nobody knows.
fn vote_for_nine(cluster: Option<&str>, epoch: i32, pre_vote: bool) -> vote::VoteRequest {
    vote::VoteRequest {
        cluster_id: cluster.map(Into::into),
        voter_id: 1,
        topics: vec![vote::TopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![vote::PartitionData {
                replica_epoch: epoch,
                replica_id: 9,
                replica_directory_id: Uuid([9; 16]),
                last_offset_epoch: epoch,
                last_offset: 1_000_000,
                pre_vote,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Node 9 says that it leads.
fn led_by_nine(cluster: Option<&str>, epoch: i32) -> begin::BeginQuorumEpochRequest {
    begin::BeginQuorumEpochRequest {
        cluster_id: cluster.map(Into::into),
        voter_id: 1,
        topics: vec![begin::TopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![begin::PartitionData {
                leader_id: 9,
                leader_epoch: epoch,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A fetch of a broker that follows.
fn fetch_as(replica: i32, epoch: i64, topic_id: Uuid) -> FetchRequest {
    let mut request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition {
                fetch_offset: 1_000,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    (request.replica_state.replica_id, request.replica_state.replica_epoch) = (replica, epoch);
    request
}

#[tokio::test]
async fn strangers_at_the_controllers_door_get_kafkas_codes_and_change_nothing() {
    let nodes = Nodes::start();
    let known = nodes.describe(0).await;
    let door = connect(nodes.controllers[0]).await;
    for pre_vote in [true, false] {
        let answer = door.call(&vote_for_nine(Some("another"), 99, pre_vote)).await.unwrap();
        assert_eq!(name_of(answer.error_code), "INCONSISTENT_CLUSTER_ID");
    }
    let answer = door.call(&led_by_nine(Some("another"), 99)).await.unwrap();
    assert_eq!(name_of(answer.error_code), "INCONSISTENT_CLUSTER_ID");
    let mut fetch = FetchRequest { cluster_id: Some("another".into()), ..fetch_as(9, -1, Uuid::ONE) };
    (fetch.max_wait_ms, fetch.topics[0].partitions[0].fetch_offset) = (0, 0);
    let answer = door.call(&fetch).await.unwrap();
    assert_eq!(name_of(answer.error_code), "INCONSISTENT_CLUSTER_ID");
    assert!(nodes.log(0).contains("INCONSISTENT_CLUSTER_ID"), "it is said in the log");
    // One who knows the cluster's id, in a present epoch.
    let asked = vote_for_nine(None, known.leader_epoch, true);
    let answer = door.call(&asked).await.unwrap();
    assert!(!answer.topics[0].partitions[0].vote_granted, "{answer:?}");
    let after = nodes.describe(1).await;
    assert_eq!((after.leader_id, after.leader_epoch), (known.leader_id, known.leader_epoch));
    assert_eq!(nodes.create(2, "as-ever", 1, 3).await, 0);
}

#[tokio::test]
async fn a_partition_that_is_led_elsewhere_says_so_and_a_fetch_in_the_name_of_a_replica_moves_nothing() {
    let nodes = Nodes::start();
    assert_eq!(nodes.create(0, "led", 1, 2).await, 0);
    let partitions = nodes.partitions(0, "led", "both are in sync", |it| it.isr_nodes.len() == 2).await;
    let (leader, replicas) = (partitions[0].leader_id, partitions[0].replica_nodes.clone());
    let topic_id = nodes.metadata(0, "led").await.topics[0].topic_id;
    for index in 0..3 {
        let is_leader = nodes.nodes[index].id == leader;
        let connection = nodes.client(index).await;
        let mut request = produce_request("led", 0, -1, batch([b"x".as_slice()]));
        request.topic_data[0].topic_id = topic_id;
        let answer = connection.call(&request).await.unwrap();
        let expected = if is_leader { "NONE" } else { "NOT_LEADER_OR_FOLLOWER" };
        assert_eq!(name_of(answer.responses[0].partition_responses[0].error_code), expected);
    }
    let follower = *replicas.iter().find(|id| **id != leader).unwrap();
    let stranger = (1..=3).find(|id| !replicas.contains(id)).unwrap();
    let connection = nodes.client(nodes.place(leader)).await;
    for (replica, epoch) in [(9, 0), (stranger, 0), (follower, 0), (follower, i64::MAX)] {
        let answer = connection.call(&fetch_as(replica, epoch, topic_id)).await.unwrap();
        let code = answer.responses.first().map_or(answer.error_code, |it| it.partitions[0].error_code);
        assert_ne!(code, 0, "replica {replica} in epoch {epoch}");
    }
    let after = nodes.partitions(0, "led", "is led", |it| it.leader_id > 0).await;
    assert_eq!(after[0].isr_nodes.len(), 2);
    assert_eq!(after[0].leader_id, leader);
}

#[test]
fn a_node_of_another_cluster_is_not_taken() {
    let mut nodes = Nodes::start();
    let other = nodes.add(4, &["--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"]);
    nodes.nodes[other].stop_soon();
    let (status, log) = nodes.fails(other);
    assert!(!status.success());
    assert!(log.contains("INCONSISTENT_CLUSTER_ID"), "{log}");
}

#[test]
fn a_second_node_of_one_id_is_not_taken_while_the_first_one_lives() {
    let mut nodes = Nodes::start();
    let twin = nodes.add(4, &[]);
    nodes.start_all();
    let second = nodes.add(4, &[]);
    nodes.nodes[second].stop_soon();
    let (status, log) = nodes.fails(second);
    assert!(!status.success());
    assert!(log.contains("DUPLICATE_BROKER_REGISTRATION"), "{log}");
    assert!(nodes.log(twin).contains("open=true"));
}

#[test]
fn a_broker_that_cannot_reach_the_quorum_says_so_and_ends() {
    let mut nodes = Nodes::start();
    (0..3).for_each(|index| nodes.kill(index));
    let lonely = nodes.add(4, &[]);
    nodes.nodes[lonely].stop_soon();
    let (status, log) = nodes.fails(lonely);
    assert!(!status.success());
    assert!(log.contains("NOT_CONTROLLER"), "{log}");
}
