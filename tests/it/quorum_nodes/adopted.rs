//! A stopped cluster of three Apache Kafka nodes, taken over node by node: its quorum with configured voters
//! (kraft.version 0), its replicas, its records.

use std::fs;
use std::path::Path;

use super::nodes::Nodes;

/// The directory of node 2 is `testdata/kafka/cluster-node`; those of the others differ in their ids, and in what they
/// have alone.
const DIRECTORIES: [&str; 3] = ["NF0d-Nm7LYEi49XGc2fHYQ", "quUhJGumVq9KJxQ18esNFQ", "tOSXEhm1keV8Fe-MvfSYjw"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_stopped_cluster_of_kafkas_is_taken_over_by_all_of_its_nodes() {
    let mut nodes = Nodes::none();
    let kafkas = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka/cluster-node");
    for (id, directory) in (1..=3).zip(DIRECTORIES) {
        let place = nodes.add(id, &[]);
        let dir = nodes.dir(place);
        copy(&kafkas, &dir);
        let meta = fs::read_to_string(dir.join("meta.properties")).unwrap();
        let meta = meta.replace("node.id=2", &format!("node.id={id}")).replace(DIRECTORIES[1], directory);
        fs::write(dir.join("meta.properties"), meta).unwrap();
        if id != 2 {
            fs::remove_dir_all(dir.join("elsewhere-0")).unwrap();
        }
    }
    nodes.start_all();
    for index in 0..3 {
        let what = "all three are in sync";
        nodes.partitions(index, "replicated", what, |it| it.isr_nodes.len() == 3).await;
    }
    assert_eq!(nodes.done(&["consume", "replicated", "-e"], "").lines().count(), 30);
    nodes.done(&["produce", "replicated"], "one\ntwo\nthree\n");
    assert_eq!(nodes.done(&["consume", "replicated", "-e"], "").lines().count(), 33);
    let quorum = nodes.describe(0).await;
    assert!(quorum.leader_epoch > 1 && quorum.current_voters.len() == 3);
    for index in 0..3 {
        assert!(nodes.stop(index).success());
        let state = fs::read_to_string(nodes.dir(index).join("__cluster_metadata-0/quorum-state")).unwrap();
        assert!(state.contains("\"currentVoters\""), "the voters stay configured ones: {state}");
    }
}
