//! What every copy of a partition holds is the same, and where it is not, `klamm verify -b` names the copy; both ends of a
//! pipeline come to the same counts.

use std::fs;

use serde_json::Value;

use super::nodes::Nodes;

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn copies_are_compared_over_the_wire_and_one_that_a_disk_has_changed_is_named() {
    let mut nodes = Nodes::start();
    assert_eq!(nodes.create(0, "kept", 1, 3).await, 0);
    let lines: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
    nodes.done(&["produce", "kept", "--timestamp", "-10m", "--audit", "counts"], &lines);
    nodes.done(&["consume", "kept", "-e", "--audit", "counts", "--audit-as", "reader"], "");
    let audited = objects(&nodes.done(&["audit", "counts", "--json"], ""));
    assert!(audited.iter().all(|row| row["verdict"] == "same"), "{audited:?}");
    assert_eq!(audited.iter().map(|row| row["consumed"].as_u64().unwrap()).sum::<u64>(), 5_000);

    let compared = objects(&nodes.done(&["verify", "kept", "--json"], ""));
    assert_eq!((&compared[0]["to"], &compared[0]["copies"]), (&5_000.into(), &3.into()), "{compared:?}");

    assert!(nodes.stop(1).success());
    let output = nodes.klamm(&["verify", "kept"], "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not compared: broker 2: "), "{said}");

    let segment = nodes.dir(1).join("kept-0/00000000000000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(9).rposition(|part| part == b"line 4999").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    nodes.start_all();
    nodes.partitions(0, "kept", "all are in sync", |it| it.isr_nodes.len() == 3).await;
    let output = nodes.klamm(&["verify", "kept", "--json"], "");
    let found = objects(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(3), "{found:?}");
    assert_eq!(found[0]["severity"], "difference", "{found:?}");
    let held = found[0]["held"].as_array().unwrap();
    let broken = held.iter().find(|held| held["what"].as_str().unwrap().contains("CRC-32C")).unwrap();
    assert_eq!(broken["brokers"], serde_json::json!([2]), "{found:?}");
}
