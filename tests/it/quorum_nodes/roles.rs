//! Controllers that are no brokers, brokers that are no controllers, told so by server.properties; and nodes that are so far
//! behind that they take a snapshot of the metadata.

use klamm::protocol::messages::api_versions_request::ApiVersionsRequest;
use klamm::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use klamm::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use klamm::protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::nodes::{Nodes, connect, eventually};

const CONTROLLERS: i8 = 2;
const BROKER: i8 = 4;
const UPGRADE: i8 = 1;
const INVALID_REQUEST: i16 = 42;
const INVALID_UPDATE_VERSION: i16 = 95;

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
    doors_tell_features_and_settings(&nodes).await;
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

/// What `--bootstrap-controller` of Kafka's tools needs: all features at every controller, its settings, and changes.
async fn doors_tell_features_and_settings(nodes: &Nodes) {
    let known = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    for port in &nodes.controllers {
        let answer = connect(*port).await.call(&known).await.unwrap();
        let mut names: Vec<&str> = answer.supported_features.iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "eligible.leader.replicas.version",
                "group.version",
                "kraft.version",
                "metadata.version",
                "share.version",
                "streams.version",
                "transaction.version",
            ]
        );
        assert!(answer.finalized_features.iter().any(|it| &*it.name == "group.version"));
    }
    let resource = |name: &str| DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: name.into(),
        ..Default::default()
    };
    let asked =
        DescribeConfigsRequest { resources: ["", "1", "4"].map(resource).to_vec(), ..Default::default() };
    let answer = connect(nodes.controllers[0]).await.call(&asked).await.unwrap();
    let codes: Vec<i16> = answer.results.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [0, 0, INVALID_REQUEST], "each describes itself");
    assert!(answer.results[0].configs.iter().any(|it| &*it.name == "min.insync.replicas"));
    let has_role = answer.results[1].configs.iter().find(|it| &*it.name == "process.roles").unwrap();
    assert_eq!(has_role.value.as_deref(), Some("controller"));
    // The level that the quorum is at is no change; to another one it does not go.
    let leader = nodes.place(nodes.describe(3).await.leader_id);
    for (level, code) in [(1, 0), (0, INVALID_UPDATE_VERSION)] {
        let key = FeatureUpdateKey {
            feature: "kraft.version".into(),
            max_version_level: level,
            upgrade_type: UPGRADE,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![key], ..Default::default() };
        let answer = connect(nodes.controllers[leader]).await.call(&request).await.unwrap();
        assert_eq!(answer.error_code, code, "{level}: {:?}", answer.error_message);
    }
}

#[test]
fn a_new_node_that_is_not_told_its_cluster_does_not_start_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_klamm"));
    command.args(["serve", "--node", "4", "--listen", "127.0.0.1:0", "-d"]).arg(&dir);
    for setting in [
        "process.roles=broker",
        "controller.listener.names=CONTROLLER",
        "controller.quorum.bootstrap.servers=127.0.0.1:1",
    ] {
        command.args(["--set", setting]);
    }
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("--cluster-id"), "{said}");
    let left = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name != ".lock").collect();
    assert!(left.is_empty(), "{left:?}");
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
