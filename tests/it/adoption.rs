//! Directories of Apache Kafka: what klamm may not have stays as it is, byte for byte; and nothing is deleted in
//! what it takes over by settings that nobody gave.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use klamm::config::{BrokerConfig, Layers};
use klamm::metadata::MetadataRecord;
use klamm::protocol::encode_to_bytes;
use klamm::protocol::messages::begin_transaction_record::BeginTransactionRecord;
use klamm::protocol::messages::config_record::ConfigRecord;
use klamm::protocol::messages::topic_record::TopicRecord;
use klamm::protocol::messages::user_scram_credential_record::UserScramCredentialRecord;
use klamm::protocol::messages::voters_record::{Voter, VotersRecord};
use klamm::record::{BatchBuilder, Compression, ControlType};
use klamm::server::{Broker, BrokerOptions};
use klamm::types::Uuid;
use tempfile::TempDir;

use crate::kafka_metadata::{append_batch, remove_guards};

const LOG: &str = "__cluster_metadata-0/00000000000000000000.log";

/// A copy of a directory of Kafka, all of it, with the lock's file that a broker leaves behind.
fn copy_of(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka").join(name);
    copy_folder(&from, copy.path());
    fs::write(copy.path().join(".lock"), "").unwrap();
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Every file and folder below `directory`: bytes, and when it was changed.
fn state_of(directory: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let changed = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        found.insert(folder.clone(), (None, changed(&folder)));
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), (Some(fs::read(&path).unwrap()), changed(&path)));
            }
        }
    }
    found
}

async fn start(directories: &[&Path]) -> Result<Broker, String> {
    start_with(directories, Layers::default()).await
}

async fn start_with(directories: &[&Path], layers: Layers) -> Result<Broker, String> {
    let layers = Layers {
        dirs: directories.iter().map(|path| (*path).to_owned()).collect(),
        listen: vec!["127.0.0.1:0".to_owned()],
        ..layers
    };
    let (config, _) = BrokerConfig::load(layers).unwrap();
    Broker::start(BrokerOptions::new(config)).await.map_err(|error| error.to_string())
}

/// Starts a broker that must not start and must not leave a trace; returns what it says.
async fn refused(directory: &Path) -> String {
    let before = state_of(directory);
    let said = match start(&[directory]).await {
        Ok(_) => panic!("{} was taken over", directory.display()),
        Err(said) => said,
    };
    assert!(state_of(directory) == before, "something was touched: {said}");
    assert!(said.starts_with(&directory.display().to_string()), "the file is named: {said}");
    said
}

fn records(records: &[MetadataRecord]) -> BatchBuilder {
    let mut batch = BatchBuilder::new(Compression::NONE);
    for record in records {
        batch.append(1_700_000_000_000, None, Some(&record.encode(30).unwrap()), []);
    }
    batch
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_before_a_byte_is_touched() {
    let said = refused(copy_of("cluster-node").path()).await;
    assert!(said.contains("voters [1, 2, 3]") && said.contains("remove-controller"), "{said}");
    let copy = copy_of("clean");
    remove_guards(&copy.path().join(LOG));
    let voter = |voter_id| Voter { voter_id, ..Default::default() };
    let voters = VotersRecord { voters: vec![voter(1), voter(2)], ..Default::default() };
    let mut batch = BatchBuilder::new(Compression::NONE).control();
    batch.append_control(1, ControlType::KRaftVoters, &encode_to_bytes(&voters, 0).unwrap());
    append_batch(&copy.path().join(LOG), batch);
    assert!(refused(copy.path()).await.contains("voters [1, 2]"));
}

#[tokio::test]
async fn acls_and_passwords_that_nobody_would_ask_for_are_refused_before_a_byte_is_touched() {
    let copy = copy_of("clean");
    let said = refused(copy.path()).await;
    assert!(said.contains("1 ACLs") && said.contains("kafka-acls --remove"), "{said}");
    let log = copy.path().join(LOG);
    remove_guards(&log);
    let credential = UserScramCredentialRecord { name: "u".into(), mechanism: 2, ..Default::default() };
    append_batch(&log, records(&[credential.into()]));
    let said = refused(copy.path()).await;
    assert!(said.contains("1 SCRAM credentials") && said.contains("--delete-config"), "{said}");
    remove_guards(&log);
    start(&[copy.path()]).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn an_unfinished_transaction_of_the_controller_is_refused_before_a_byte_is_touched() {
    let copy = copy_of("clean");
    let log = copy.path().join(LOG);
    remove_guards(&log);
    let topic = TopicRecord { name: "half".into(), topic_id: Uuid([5; 16]), ..Default::default() };
    append_batch(&log, records(&[BeginTransactionRecord::default().into(), topic.into()]));
    let said = refused(copy.path()).await;
    assert!(said.contains("middle of a transaction") && said.contains("start Apache Kafka"), "{said}");
}

#[tokio::test]
async fn what_a_newer_kafka_wrote_is_refused_before_a_byte_is_touched() {
    let copy = copy_of("clean");
    let log = copy.path().join(LOG);
    remove_guards(&log);
    let good = fs::read(&log).unwrap();
    for (value, word) in [
        // A type that Kafka 4.3 has not, and a version of TopicRecord that it has not.
        (&b"\x01\x70\x00"[..], "type 112"),
        (b"\x01\x02\x09\x00", "TopicRecord version 9"),
    ] {
        let mut batch = BatchBuilder::new(Compression::NONE);
        batch.append(1, None, Some(value), []);
        append_batch(&log, batch);
        let said = refused(copy.path()).await;
        assert!(said.contains(word) && said.contains("newer klamm"), "{said}");
        fs::write(&log, &good).unwrap();
    }
}

#[tokio::test]
async fn one_directory_of_two_that_is_not_ours_leaves_both_as_they_are() {
    let (first, second) = (copy_of("clean"), copy_of("static-voters"));
    remove_guards(&first.path().join(LOG));
    let before = (state_of(first.path()), state_of(second.path()));
    let said = start(&[first.path(), second.path()]).await.err().unwrap();
    assert!(said.contains("cluster.id"), "{said}");
    assert!((state_of(first.path()), state_of(second.path())) == before, "{said}");
}

/// `key=value` pairs that make retention run at once, and these besides.
fn hasty(others: &[(&str, &str)]) -> Vec<(String, String)> {
    let hasty = [("log.initial.task.delay.ms", "0"), ("log.retention.check.interval.ms", "1")];
    hasty.iter().chain(others).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Serves the directory until retention has deleted from the topic `sentinel`, which has settings of its own;
/// returns the partitions whose first segment is gone as well.
async fn deleted_besides(directory: &Path, layers: Layers) -> Vec<String> {
    let before = first_segments(directory);
    let broker = start_with(&[directory], layers).await.unwrap();
    let sentinel = "codec-none-0";
    while first_segments(directory)[sentinel] == before[sentinel] {
        tokio::task::yield_now().await;
    }
    broker.shutdown().await.unwrap();
    let after = first_segments(directory);
    let is_gone = |name: &&String| before[*name] != after[*name] && *name != sentinel;
    before.keys().filter(is_gone).cloned().collect()
}

/// The first segment of each partition.
fn first_segments(directory: &Path) -> BTreeMap<String, String> {
    let folders = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir() && !path.ends_with("__cluster_metadata-0"));
    folders
        .map(|folder| {
            let names = fs::read_dir(&folder).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let first = names.filter(|name| name.ends_with(".log")).min().unwrap();
            (folder.file_name().unwrap().to_str().unwrap().to_owned(), first)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_old_is_deleted_after_an_adoption_until_somebody_says_so() {
    // Kafka kept all of it by log.retention.ms=-1 in its server.properties; the records are of 2023.
    let copy = copy_of("clean");
    let log = copy.path().join(LOG);
    remove_guards(&log);
    let setting = ConfigRecord {
        resource_type: 2,
        resource_name: "codec-none".into(),
        name: "retention.ms".into(),
        value: Some("1".into()),
        ..Default::default()
    };
    append_batch(&log, records(&[setting.into()]));
    let none: [String; 0] = [];
    let by_default = || Layers { flags: hasty(&[]), ..Layers::default() };
    assert_eq!(deleted_besides(copy.path(), by_default()).await, none);
    // It is known over a restart, too, although klamm has registered by then. A roll has emptied the sentinel.
    let second = copy_of("clean");
    fs::remove_dir_all(second.path().join("__cluster_metadata-0")).unwrap();
    copy_folder(&copy.path().join("__cluster_metadata-0"), &second.path().join("__cluster_metadata-0"));
    assert_eq!(deleted_besides(second.path(), by_default()).await, none);
    // Somebody says it.
    fs::remove_dir_all(second.path().join("codec-none-0")).unwrap();
    copy_folder(&copy_of("clean").path().join("codec-none-0"), &second.path().join("codec-none-0"));
    let told = Layers { flags: hasty(&[("log.retention.hours", "168")]), ..Layers::default() };
    let deleted = deleted_besides(second.path(), told).await;
    assert!(deleted.contains(&"codec-zstd-0".to_owned()), "{deleted:?}");
}
