//! Where replicas are: spread over racks, read in the reader's own, on a directory that fails on one node of several, of a
//! topic that was made again while a node was away; and settings that belong to one broker.

use std::collections::BTreeSet;
use std::fs;

use klamm::protocol::messages::alter_configs_request as legacy;
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::messages::fetch_response::PartitionData;
use klamm::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use klamm::types::Uuid;

use super::nodes::{Nodes, eventually};
use crate::harness::name_of;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn lines(word: &str, numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{word} {number}\n")).collect()
}

fn fetch_in(rack: &str, topic_id: Uuid, partition: i32) -> FetchRequest {
    let asked = FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    FetchRequest {
        replica_id: -1,
        max_bytes: 1 << 20,
        rack_id: rack.into(),
        topics: vec![FetchTopic { topic_id, partitions: vec![asked], ..Default::default() }],
        ..Default::default()
    }
}

#[tokio::test]
async fn kip_392_replicas_stand_in_different_racks_and_a_reader_is_sent_to_the_one_in_its_own() {
    let selector = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let mut nodes = Nodes::none();
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        let rack = format!("broker.rack={rack}");
        nodes.add(id, &["--set", &rack, "--set", selector]);
    }
    nodes.start_all();
    let rack_of = |id: i32| if id <= 2 { "a" } else { "b" };
    assert_eq!(nodes.create(0, "spread", 8, 2).await, 0);
    let partitions = nodes.partitions(0, "spread", "both are in sync", |it| it.isr_nodes.len() == 2).await;
    for partition in &partitions {
        let racks: BTreeSet<&str> = partition.replica_nodes.iter().map(|id| rack_of(*id)).collect();
        assert_eq!(racks.len(), 2, "{partition:?}");
    }
    nodes.done(&["produce", "spread", "--partitioner", "round-robin"], &lines("spread", 0..800));
    let topic_id = nodes.metadata(0, "spread").await.topics[0].topic_id;
    for partition in &partitions {
        let (index, leader) = (partition.partition_index, partition.leader_id);
        let follower = *partition.replica_nodes.iter().find(|id| **id != leader).unwrap();
        let fetch = async |at: i32, rack: &str| -> PartitionData {
            let connection = nodes.client(nodes.place(at)).await;
            let answer = connection.call(&fetch_in(rack, topic_id, index)).await.unwrap();
            answer.responses[0].partitions[0].clone()
        };
        let at_home = fetch(leader, rack_of(leader)).await;
        assert_eq!(at_home.preferred_read_replica, -1);
        assert!(at_home.records.is_some_and(|records| !records.is_empty()));
        // Once the leader knows that the follower has it all.
        let sent_away = eventually("the reader is sent to its rack", || async {
            let answer = fetch(leader, rack_of(follower)).await;
            (answer.preferred_read_replica == follower).then_some(answer)
        });
        assert!(sent_away.await.records.is_none_or(|records| records.is_empty()));
        let nearest = eventually("the follower has all of it committed", || async {
            let answer = fetch(follower, rack_of(follower)).await;
            (answer.high_watermark == at_home.high_watermark).then_some(answer)
        })
        .await;
        assert_eq!((name_of(nearest.error_code), nearest.preferred_read_replica), ("NONE", -1));
        assert!(nearest.records.is_some_and(|records| !records.is_empty()));
    }
    for rack in ["a", "b", "elsewhere"] {
        let rack = format!("client.rack={rack}");
        let consumed = nodes.done(&["consume", "spread", "-e", "-X", &rack], "");
        assert_eq!(consumed.lines().collect::<BTreeSet<_>>().len(), 800);
    }
}

#[tokio::test]
async fn s1_3_log_dir_failure_test_a_directory_that_fails_on_one_node_hands_over_what_it_led_and_no_more() {
    let mut nodes = Nodes::none();
    let first = tempfile::tempdir().unwrap();
    let first = first.path().join("first");
    // The first directory holds the metadata, too; the one that fails does not.
    let often = "replica.high.watermark.checkpoint.interval.ms=200";
    nodes.add(1, &["-d", first.to_str().unwrap(), "--set", often]);
    nodes.add(2, &[]);
    nodes.add(3, &[]);
    nodes.start_all();
    let second = nodes.dir(0);
    let assignment = ["1:2:3"; 6].join(",");
    nodes.done(&["topics", "create", "held", "--replica-assignment", &assignment], "");
    let produce = ["produce", "held", "--partitioner", "round-robin"];
    nodes.done(&produce, &lines("held", 0..600));
    nodes.partitions(1, "held", "all are in sync", |it| it.isr_nodes.len() == 3).await;
    let lies_in_second = |partition: i32| second.join(format!("held-{partition}")).exists();
    let sick: BTreeSet<i32> = (0..6).filter(|partition| lies_in_second(*partition)).collect();
    assert_eq!(sick.len(), 3, "{sick:?}");
    let gone = second.with_extension("gone");
    fs::rename(&second, &gone).unwrap();
    fs::write(&second, "no directory").unwrap();
    nodes.done(&produce, &lines("held", 600..900));
    nodes
        .partitions(1, "held", "what failed is led elsewhere", |it| {
            let (leads, is_in_sync) = (it.leader_id == 1, it.isr_nodes.contains(&1));
            if sick.contains(&it.partition_index) { !leads && !is_in_sync } else { leads && is_in_sync }
        })
        .await;
    nodes.done(&produce, &lines("held", 900..1_200));
    assert!(nodes.log(0).contains("offline"), "it is said in the log");
    // It runs on, and is mended by a start.
    nodes.kill(0);
    fs::remove_file(&second).unwrap();
    fs::rename(&gone, &second).unwrap();
    nodes.start_one(0);
    nodes.partitions(1, "held", "all are in sync again", |it| it.isr_nodes.len() == 3).await;
    let consumed = nodes.done(&["consume", "held", "-e"], "");
    assert_eq!(consumed.lines().collect::<BTreeSet<_>>().len(), 1_200);
    assert_eq!(consumed.lines().count(), 1_200);
}

#[tokio::test]
async fn kafka_14616_a_topic_that_was_made_again_while_a_node_was_away_is_another_one_there() {
    let mut nodes = Nodes::start();
    nodes.done(&["topics", "create", "again", "-p", "2", "-r", "3"], "");
    nodes.done(&["produce", "again"], &lines("old", 0..500));
    nodes.partitions(0, "again", "all are in sync", |it| it.isr_nodes.len() == 3).await;
    nodes.kill(2);
    nodes.done(&["topics", "delete", "again", "--execute"], "");
    nodes.done(&["topics", "create", "again", "-p", "2", "-r", "3"], "");
    nodes.done(&["produce", "again"], &lines("new", 0..20));
    nodes.start_one(2);
    nodes.partitions(0, "again", "all are in sync", |it| it.isr_nodes.len() == 3).await;
    let mut consumed: Vec<String> =
        nodes.done(&["consume", "again", "-e"], "").lines().map(str::to_owned).collect();
    consumed.sort();
    let mut expected: Vec<String> = lines("new", 0..20).lines().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(consumed, expected);
    for index in 0..3 {
        assert!(nodes.stop(index).success());
    }
    let log = |index: usize, partition: usize| {
        fs::read(nodes.dir(index).join(format!("again-{partition}/00000000000000000000.log"))).unwrap()
    };
    for partition in 0..2 {
        assert!((1..3).all(|index| log(index, partition) == log(0, partition)), "{partition} differs");
    }
}

#[tokio::test]
async fn settings_of_a_broker_are_changed_at_that_broker_alone() {
    let nodes = Nodes::start();
    assert_eq!(nodes.create(0, "beside", 1, 1).await, 0);
    let resource = |resource_type: i8, name: &str, key: &str, value: &str| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: vec![AlterableConfig { name: key.into(), value: Some(value.into()), ..Default::default() }],
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![
            resource(BROKER, "1", "log.cleaner.threads", "2"),
            resource(TOPIC, "beside", "retention.ms", "3600000"),
            resource(BROKER, "2", "log.cleaner.threads", "2"),
            resource(BROKER, "9", "log.cleaner.threads", "2"),
            resource(BROKER, "", "message.max.bytes", "2000000"),
        ],
        ..Default::default()
    };
    let answer = nodes.client(nodes.place(2)).await.call(&request).await.unwrap();
    let codes = |codes: Vec<i16>| codes.into_iter().map(name_of).collect::<Vec<_>>();
    let names: Vec<&str> = answer.responses.iter().map(|it| it.resource_name.as_str()).collect();
    assert_eq!(names, ["1", "beside", "2", "9", ""]);
    assert_eq!(
        codes(answer.responses.iter().map(|it| it.error_code).collect()),
        ["INVALID_REQUEST", "NONE", "NONE", "INVALID_REQUEST", "NONE"]
    );
    let older = |broker: &str| legacy::AlterConfigsRequest {
        resources: vec![legacy::AlterConfigsResource {
            resource_type: BROKER,
            resource_name: broker.into(),
            configs: vec![legacy::AlterableConfig {
                name: "log.cleaner.threads".into(),
                value: Some("2".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for (broker, expected) in [("1", "NONE"), ("3", "INVALID_REQUEST")] {
        let answer = nodes.client(nodes.place(1)).await.call(&older(broker)).await.unwrap();
        assert_eq!(codes(answer.responses.iter().map(|it| it.error_code).collect()), [expected]);
    }
    // The command knows where to go.
    nodes.done(&["configs", "set", "broker:3", "log.cleaner.threads=2"], "");
    assert!(nodes.done(&["configs", "get", "broker:3", "log.cleaner.threads"], "").contains('2'));
}
