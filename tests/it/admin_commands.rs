//! `topics`, `configs`, `offsets`, `log-dirs` and `bench` against a running broker, and beside it on its
//! directory.

use crate::serving::{Serving, klamm, run};

#[test]
fn topics_live_from_creation_to_deletion() {
    let broker = Serving::start(&[]);
    let created = broker.ask(&["topics", "create", "orders", "returns", "-p", "3", "--json"]).json();
    assert_eq!((&created[0]["created"], &created[0]["partitions"]), (&true.into(), &3.into()));
    assert!(broker.ask(&["topics", "create", "orders"]).failed(1).contains("TOPIC_ALREADY_EXISTS"));
    broker.ask(&["topics", "create", "orders", "--if-not-exists"]).well();
    assert_eq!(broker.ask(&["topics", "list"]).well(), "orders\nreturns\n");
    assert_eq!(broker.ask(&["topics", "list", "-e", "ret.*"]).well(), "returns\n");

    broker.ask(&["topics", "alter", "orders", "-p", "5", "--validate-only"]).well();
    broker.ask(&["topics", "alter", "orders", "-p", "5"]).well();
    assert!(broker.ask(&["topics", "alter", "orders", "-p", "2"]).failed(1).contains("INVALID_PARTITIONS"));
    let described = broker.ask(&["topics", "describe", "orders", "--json"]).json();
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 5);
    assert_eq!(described[0]["partitions"][4]["leader"], 1);

    assert!(
        broker.ask(&["topics", "delete", "returns"]).well().contains("would delete returns: 3 partition(s)")
    );
    assert_eq!(broker.ask(&["topics", "list"]).well(), "orders\nreturns\n");
    broker.ask(&["topics", "delete", "returns", "--execute"]).well();
    assert_eq!(broker.ask(&["topics", "list"]).well(), "orders\n");
    assert!(broker.ask(&["topics", "describe", "returns"]).failed(1).contains("returns does not exist"));
    broker.ask(&["topics", "delete", "returns", "--execute", "--if-exists"]).well();
}

#[test]
fn what_the_broker_refuses_is_said_and_the_rest_is_done() {
    let broker = Serving::start(&[]);
    broker.ask(&["topics", "create", "a"]).well();
    let said = broker.ask(&["topics", "create", "a", "b"]);
    assert!(said.failed(1).contains("topic a:"));
    assert_eq!(broker.ask(&["topics", "list"]).well(), "a\nb\n");
    assert!(
        broker.ask(&["topics", "create", "c", "-r", "3"]).failed(1).contains("INVALID_REPLICATION_FACTOR")
    );
    assert!(
        broker
            .ask(&["topics", "create", "c", "--config", "retention.ms=x"])
            .failed(1)
            .contains("INVALID_CONFIG")
    );
    broker.ask(&["topics", "create", "c", "--validate-only"]).well();
    assert_eq!(broker.ask(&["topics", "list"]).well(), "a\nb\n");
}

#[test]
fn configs_say_where_they_come_from() {
    let broker = Serving::start(&["--set", "log.segment.bytes=2000000"]);
    broker.ask(&["topics", "create", "t", "--config", "max.message.bytes=5000"]).well();
    broker.ask(&["configs", "set", "topic:t", "retention.ms=86400000"]).well();
    broker.ask(&["configs", "set", "broker", "log.retention.ms=1000000"]).well();
    let all = broker.ask(&["configs", "get", "topic:t", "--all", "--json"]).json();
    let source = |key: &str| {
        let row = all.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(source("max.message.bytes"), ("5000".into(), "DYNAMIC_TOPIC_CONFIG".into()));
    assert_eq!(source("retention.ms"), ("86400000".into(), "DYNAMIC_TOPIC_CONFIG".into()));
    assert_eq!(source("segment.bytes"), ("2000000".into(), "STATIC_BROKER_CONFIG".into()));
    assert_eq!(source("index.interval.bytes"), ("4096".into(), "DEFAULT_CONFIG".into()));

    broker.ask(&["configs", "unset", "topic:t", "retention.ms"]).well();
    let row = &broker.ask(&["configs", "get", "topic:t", "retention.ms", "--json"]).json()[0];
    assert_eq!((&row["value"], &row["source"]), (&"1000000".into(), &"DYNAMIC_DEFAULT_BROKER_CONFIG".into()));
    assert_eq!(
        &broker.read(&["configs", "get", "topic:t", "retention.ms", "--json"]).json()[0]["value"],
        "1000000"
    );

    assert!(
        broker.ask(&["configs", "set", "topic:t", "retention.mss=1"]).failed(1).contains("INVALID_CONFIG")
    );
    assert!(broker.ask(&["configs", "set", "topic:no", "retention.ms=1"]).failed(1).contains("topic:no"));
    assert!(broker.ask(&["configs", "get", "topic:no"]).failed(1).contains("topic no does not exist"));

    let changed = broker.ask(&["configs", "set", "topic:t", "retention.ms=5", "--json"]).json();
    let told = serde_json::json!({
        "entity": "topic:t", "key": "retention.ms", "operation": "set", "value": "5", "applied": true
    });
    assert_eq!(changed, [told]);
    let changed = broker.ask(&["configs", "unset", "topic:t", "retention.ms", "--validate-only", "--json"]);
    assert_eq!(changed.json()[0]["applied"], false);
    assert!(broker.ask(&["configs", "set", "broker:1", "num.io.threads=999"]).failed(1).contains("double"));
    assert!(broker.ask(&["configs", "set", "broker", "num.io.threads=3"]).failed(1).contains("half"));
    broker.ask(&["configs", "set", "broker:1", "num.io.threads=16"]).well();
    let listed = broker.ask(&["configs", "get", "broker:1"]).well();
    assert!(!listed.contains("advertised.listeners") && !listed.contains("protocol.map"), "{listed}");
}

#[test]
fn offsets_are_found_and_the_front_is_cut_off() {
    let broker = Serving::start(&[]);
    broker.ask(&["topics", "create", "t", "-p", "2"]).well();
    broker.ask(&["bench", "produce", "t", "-n", "1000", "--batch", "10"]).well();
    let offset =
        |at: &str| broker.ask(&["offsets", "get", "t:0", "--at", at, "--json"]).json()[0]["offset"].clone();
    assert_eq!((offset("earliest"), offset("latest")), (0.into(), 1000.into()));
    assert_eq!((offset("-1h"), offset("+1h")), (0.into(), serde_json::Value::Null));

    assert!(broker.ask(&["offsets", "trim", "t:0=15"]).well().contains("would delete 15 offsets of t-0"));
    assert_eq!(offset("earliest"), 0);
    broker.ask(&["offsets", "trim", "t:0=15", "--execute"]).well();
    assert_eq!(offset("earliest"), 15);
    broker.ask(&["offsets", "trim", "t=end", "--execute"]).well();
    assert_eq!((offset("earliest"), offset("latest")), (1000.into(), 1000.into()));
    let refused = broker.ask(&["offsets", "trim", "t:0=5000", "--execute"]).failed(1);
    assert!(refused.contains("t-0: 5000 is outside of 1000 to 1000 (OFFSET_OUT_OF_RANGE)"), "{refused}");
    assert!(broker.ask(&["offsets", "get", "t:0,7"]).failed(1).contains("no partition 7"));
}

#[test]
fn a_broker_in_this_process_is_measured_on_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let on_dir = |arguments: &[&str]| run(klamm().args(arguments).arg("-d").arg(folder.path()));
    assert!(on_dir(&["bench", "produce", "t", "-n", "100"]).failed(1).contains("topic t does not exist"));
    on_dir(&["topics", "create", "t"]).well();
    let report = on_dir(&["bench", "produce", "t", "-n", "1000", "--batch", "10", "--json"]).json();
    assert_eq!(report[0]["records"], 1000);
    let found = on_dir(&["offsets", "get", "t", "--json"]).json();
    assert_eq!(found[0]["offset"], 1000);
}

#[test]
fn partitions_are_moved_to_another_directory_by_one_command() {
    let other = tempfile::tempdir().unwrap();
    let other_path = other.path().to_str().unwrap();
    let broker = Serving::start(&["-d", other_path]);
    broker.ask(&["topics", "create", "t", "-p", "2"]).well();
    broker.ask(&["bench", "produce", "t", "-n", "20000"]).well();
    let wish = format!("t={other_path}/");
    let moved = broker.ask(&["log-dirs", "move", &wish, "--json"]).json();
    assert_eq!(moved.len(), 2);
    assert!(moved.iter().all(|one| one["moved"] == true && one["directory"] == other_path), "{moved:?}");
    let dirs = broker.ask(&["log-dirs", "--json"]).json();
    let count = |path: &str| {
        let dir = dirs.iter().find(|dir| dir["directory"] == path).unwrap();
        dir["partitions"].as_array().unwrap().len()
    };
    assert_eq!((count(broker.dir().to_str().unwrap()), count(other_path)), (0, 2));
    let found = broker.ask(&["offsets", "get", "t", "--json"]).json();
    let total: i64 = found.iter().map(|one| one["offset"].as_i64().unwrap()).sum();
    assert!(total >= 20_000, "{total}");

    let refused = broker.ask(&["log-dirs", "move", "t:0=/nowhere"]).failed(1);
    assert!(
        refused.contains("no log directory /nowhere: it has ") && refused.contains(other_path),
        "{refused}"
    );
    assert!(broker.ask(&["log-dirs", "move", "no=/nowhere"]).failed(1).contains("topic no does not exist"));
    assert!(broker.ask(&["log-dirs", "move", "t:0=/x", "--broker", "7"]).failed(1).contains("no replica"));
    assert!(broker.read(&["log-dirs", "move", "t:0=/x"]).failed(2).contains("-b HOST:PORT"));
}

#[test]
fn a_directory_beside_its_broker_answers_as_the_broker_does() {
    let broker = Serving::start(&[]);
    broker.ask(&["topics", "create", "a", "b", "-p", "3", "--config", "segment.bytes=1048576"]).well();
    broker.ask(&["bench", "produce", "a", "-c", "3", "-n", "60000"]).well();
    for question in [
        &["topics", "list", "--json"][..],
        &["topics", "describe", "--json"],
        &["offsets", "get", "a", "--at", "latest", "--at", "max-timestamp", "--at", "-1h", "--json"],
        &["configs", "get", "topic:a", "--json"],
    ] {
        let by_broker = broker.ask(question).well();
        assert_eq!(broker.read(question).well(), by_broker, "{question:?}");
        assert!(!by_broker.is_empty(), "{question:?}");
    }
    let partitions = |said: &serde_json::Value| {
        let mut rows: Vec<String> =
            said["partitions"].as_array().unwrap().iter().map(ToString::to_string).collect();
        rows.sort();
        rows
    };
    let by_broker = &broker.ask(&["log-dirs", "--json"]).json()[0];
    let by_directory = &broker.read(&["log-dirs", "--json"]).json()[0];
    assert_eq!(partitions(by_directory), partitions(by_broker));
    assert_eq!(by_directory["broker"], by_broker["broker"]);
}

#[test]
fn bench_counts_what_it_sent_and_reads_it_back_whole() {
    let broker = Serving::start(&[]);
    let pid = broker.pid().to_string();
    broker.ask(&["topics", "create", "t", "-p", "2"]).well();
    let mut sent = 0;
    for extra in [
        &["--idempotent"][..],
        &["--idempotent", "-z", "lz4", "--depth", "1"],
        &["--acks", "1", "-z", "zstd"],
    ] {
        let arguments =
            ["bench", "produce", "t", "-n", "5000", "--batch", "100", "-c", "2", "--json", "--pid", &pid];
        let report = &broker.ask(&[&arguments, extra].concat()).json()[0];
        assert_eq!((&report["records"], &report["requests"]), (&5000.into(), &50.into()), "{extra:?}");
        assert_eq!(report["processes"][0]["pid"], broker.pid());
        sent += 5000;
    }
    let report = &broker.ask(&["bench", "consume", "t", "--verify", "--json"]).json()[0];
    assert_eq!(report["records"], sent);
    let latency =
        ["bench", "latency", "t", "--rate", "200", "-c", "2", "-t", "300ms", "--end-to-end", "--json"];
    let report = &broker.ask(&latency).json()[0];
    assert_eq!(report["latency_us"]["count"], report["records"]);
    assert_eq!(report["end_to_end_us"]["count"], report["records"]);
    assert!(broker.ask(&["bench", "produce", "nothing"]).failed(1).contains("klamm topics create nothing"));
}

#[test]
fn a_directory_without_a_broker_is_changed_by_one_inside_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let on_dir = |arguments: &[&str]| run(klamm().args(arguments).arg("-d").arg(&dir));
    assert!(on_dir(&["topics", "delete", "t", "--execute"]).failed(1).contains("new"));
    assert!(on_dir(&["configs", "set", "topic:t", "retention.ms=1"]).failed(1).contains("new"));
    assert!(!dir.exists(), "only what may be the first makes a directory");

    on_dir(&["topics", "create", "t", "-p", "2"]).well();
    on_dir(&["configs", "set", "topic:t", "retention.ms=86400000"]).well();
    on_dir(&["topics", "alter", "t", "-p", "3"]).well();
    run(klamm().args(["produce", "t", "-p", "0", "-d"]).arg(&dir).arg("Cargo.toml")).well();
    on_dir(&["offsets", "trim", "t:0=3", "--execute"]).well();
    let described = &on_dir(&["topics", "describe", "t", "--json"]).json()[0];
    assert_eq!(described["configs"]["retention.ms"], "86400000");
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    let first = &described["partitions"][0];
    assert_eq!(first["start_offset"], 3);
    let lines = std::fs::read_to_string("Cargo.toml").unwrap().lines().count();
    assert_eq!(first["end_offset"], lines);
    on_dir(&["topics", "delete", "t", "--execute"]).well();
    assert_eq!(on_dir(&["topics", "list"]).well(), "");
}

#[test]
fn a_directory_in_use_is_shown_and_not_changed() {
    let broker = Serving::start(&[]);
    broker.ask(&["topics", "create", "t"]).well();
    assert!(broker.read(&["topics", "delete", "t"]).well().contains("would delete t: 1 partition(s)"));
    assert!(broker.read(&["offsets", "trim", "t=end"]).well().contains("would delete 0 offsets of t-0"));
    for change in [
        &["topics", "delete", "t", "--execute"][..],
        &["topics", "create", "u"],
        &["configs", "set", "topic:t", "retention.ms=1000"],
    ] {
        let said = broker.read(change).failed(1);
        assert!(said.contains("in use by another broker") && said.contains("-b HOST:PORT"), "{said}");
    }
    assert_eq!(broker.ask(&["topics", "list"]).well(), "t\n");
}
