//! Compacted topics as clients meet them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use klamm::protocol::Str;
use klamm::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use klamm::protocol::messages::incremental_alter_configs_request as alter;
use klamm::record::{BatchBuilder, Compression};

use crate::harness::{Client, TestBroker, batch, name_of, now_ms};
use crate::moves::{arrived, here_and_there, move_to};
use crate::serving::Serving;

/// Cleans whatever is dirty, as soon as it is.
const EAGER: [(&str, &str); 2] =
    [("log.cleaner.backoff.ms", "1"), ("log.cleaner.min.cleanable.ratio", "0.001")];
const SMALL: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("internal.segment.bytes", "500")];

fn keyed(records: &[(&str, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for (key, value) in records {
        builder.append(now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), []);
    }
    builder.build().unwrap()
}

/// `count` records, each with one of ten keys and its number as its value; one a batch.
async fn fill(client: &mut Client, topic: &str, count: usize) {
    for number in 0..count {
        let (key, value) = (format!("key-{}", number % 10), number.to_string());
        assert_eq!(client.produce(topic, 0, keyed(&[(&key, &value)])).await.error_code, 0);
    }
}

/// Reads the topic again and again until `is_it` holds of its offsets.
async fn read_until(client: &mut Client, topic: &str, is_it: impl Fn(&[i64]) -> bool) -> Vec<(i64, Vec<u8>)> {
    loop {
        let read = client.read_all(topic, 0).await;
        let offsets: Vec<i64> = read.iter().map(|(offset, _)| *offset).collect();
        if is_it(&offsets) {
            return read;
        }
        tokio::task::yield_now().await;
    }
}

async fn set(client: &mut Client, topic: &str, name: &str, value: &str) {
    let config = alter::AlterableConfig {
        name: Str::from(name),
        value: Some(Str::from(value)),
        ..alter::AlterableConfig::default()
    };
    let resource = alter::AlterConfigsResource {
        resource_type: 2,
        resource_name: Str::from(topic),
        configs: vec![config],
        ..alter::AlterConfigsResource::default()
    };
    let request = alter::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
}

#[tokio::test]
async fn s1_3_log_compaction_test_a_broker_cleans_and_goes_on_after_a_restart() {
    let mut broker = TestBroker::with(1, &EAGER).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &SMALL).await;
    fill(&mut client, "t", 200).await;
    // The active segment is left alone; before it, of each key one record is left.
    let read = read_until(&mut client, "t", |offsets| offsets.len() < 25).await;
    let last: BTreeMap<String, i64> = read
        .iter()
        .map(|(offset, value)| {
            let number: i64 = String::from_utf8(value.clone()).unwrap().parse().unwrap();
            assert_eq!(number, *offset);
            (format!("key-{}", number % 10), number)
        })
        .collect();
    assert_eq!(last.into_values().collect::<Vec<_>>(), (190..200).collect::<Vec<_>>());
    let checkpoint = || std::fs::read_to_string(broker.dir().join("cleaner-offset-checkpoint")).unwrap();
    assert!(checkpoint().starts_with("0\n1\nt 0 "), "{}", checkpoint());
    broker.restart().await;
    let mut client = broker.connect();
    assert!(client.read_all("t", 0).await.len() < 25);
    fill(&mut client, "t", 200).await;
    let read = read_until(&mut client, "t", |offsets| offsets.len() < 25).await;
    assert_eq!(read.last().unwrap().0, 399);
    broker.stop().await;
}

#[tokio::test]
async fn records_without_a_key_are_refused_where_the_topic_is_compacted() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    assert_eq!(client.produce("t", 0, batch([&b"a"[..]])).await.error_code, 0);
    set(&mut client, "t", "cleanup.policy", "compact,delete").await;
    let refused = client.produce("t", 0, batch([&b"a"[..]])).await;
    assert_eq!(name_of(refused.error_code), "INVALID_RECORD");
    assert_eq!(refused.record_errors.len(), 1);
    assert_eq!(client.produce("t", 0, keyed(&[("k", "v")])).await.error_code, 0);
}

#[tokio::test]
async fn settings_act_while_the_broker_runs_and_a_damaged_log_does_not_keep_others_from_being_cleaned() {
    let mut broker = TestBroker::with(1, &EAGER[..1]).await;
    let mut client = broker.connect();
    for name in ["damaged", "sound"] {
        client.create_topic(name, 1, &[SMALL[0], SMALL[1], ("min.cleanable.dirty.ratio", "1")]).await;
        fill(&mut client, name, 60).await;
    }
    let path = broker.dir().join("damaged-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(client.read_all("sound", 0).await.len(), 60, "nothing is due");
    for name in ["damaged", "sound"] {
        set(&mut client, name, "min.cleanable.dirty.ratio", "0.001").await;
    }
    read_until(&mut client, "sound", |offsets| offsets.len() < 25).await;
    fill(&mut client, "sound", 60).await;
    read_until(&mut client, "sound", |offsets| offsets.len() < 25).await;
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it is");
    assert_eq!(client.produce("damaged", 0, keyed(&[("k", "v")])).await.error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_cleaned_costs_nobody_else_anything() {
    let slow = [EAGER[0], EAGER[1], ("log.cleaner.io.max.bytes.per.second", "1")];
    let mut broker = TestBroker::with(1, &slow).await;
    let mut client = broker.connect();
    for name in ["gone", "stays"] {
        client.create_topic(name, 1, &SMALL).await;
        fill(&mut client, name, 60).await;
    }
    let state = DeleteTopicState { name: Some(Str::from("gone")), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![state], timeout_ms: 5_000, ..Default::default() };
    assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
    client.create_topic("gone", 1, &SMALL).await;
    for name in ["gone", "stays"] {
        fill(&mut client, name, 10).await;
    }
    broker.stop().await;
    for entry in std::fs::read_dir(broker.dir().join("stays-0")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".cleaned") && !name.ends_with(".swap"), "{name}");
    }
}

/// The offset below which a topic's first partition is clean, as the cleaner's checkpoint has it.
fn cleaned_up_to(dir: &Path, topic: &str) -> Option<i64> {
    let text = std::fs::read_to_string(dir.join("cleaner-offset-checkpoint")).ok()?;
    let entry = text.lines().find_map(|line| line.strip_prefix(&format!("{topic} 0 ")))?;
    entry.parse().ok()
}

/// The base offset of a partition's active segment.
fn active_base(folder: &Path) -> i64 {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).max().unwrap()
}

#[test]
fn commands_read_a_log_with_holes() {
    let serving = Serving::start(&["--set", "log.cleaner.backoff.ms=1"]);
    let create = ["topics", "create", "t", "--config", "cleanup.policy=compact"];
    let settings = ["--config", "internal.segment.bytes=500", "--config", "min.cleanable.dirty.ratio=0.001"];
    serving.ask(&[&create[..], &settings[..]].concat()).well();
    let lines: String = (0..300).map(|number| format!("key-{}:{number}\n", number % 10)).collect();
    let file = serving.dir().join("lines");
    std::fs::write(&file, lines).unwrap();
    for _ in 0..2 {
        let arguments = ["produce", "t", "-K", ":", "-X", "batch.size=1", file.to_str().unwrap()];
        serving.ask(&arguments).well();
    }
    // Up to the active segment: nothing is left that a round between two reads would clean.
    while cleaned_up_to(serving.dir(), "t") != Some(active_base(&serving.dir().join("t-0"))) {
        std::thread::yield_now();
    }
    let read = serving.ask(&["consume", "t", "-e", "-f", "%o %k %s\n"]).well();
    assert!(read.ends_with("599 key-9 299\n"), "{read}");
    let middle = serving.ask(&["consume", "t", "-o", "3", "-c", "1", "-f", "%o\n"]).well();
    assert_eq!(middle.trim(), read.split(' ').next().unwrap(), "the first there is behind the hole");
    let from_directory = serving.read(&["consume", "t", "-e", "-f", "%o %k %s\n"]).well();
    assert_eq!(from_directory, read);
    let dump = serving.dir().join("t-0");
    let dumped = crate::serving::run(crate::serving::klamm().arg("dump-segment").arg(&dump)).well();
    assert!(dumped.contains("baseOffset: 599"), "{dumped}");
}

#[tokio::test]
async fn a_log_that_moves_to_another_directory_stays_as_clean_as_it_was() {
    let broker = TestBroker::with(2, &EAGER).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &SMALL).await;
    let (here, there) = here_and_there(&broker);
    fill(&mut client, "t", 200).await;
    read_until(&mut client, "t", |offsets| offsets.len() < 25).await;
    let entry = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("cleaner-offset-checkpoint")).unwrap_or_default();
        text.lines().find(|line| line.starts_with("t 0 ")).map(str::to_owned)
    };
    while entry(&here).is_none() {
        tokio::task::yield_now().await;
    }
    // Nothing is due any more, so that no round writes what the move should have kept.
    set(&mut client, "t", "min.cleanable.dirty.ratio", "1").await;
    assert_eq!(move_to(&mut client, "t", 0, &there).await, "NONE");
    arrived(&mut client, &there).await;
    while entry(&there).is_none() || entry(&here).is_some() {
        tokio::task::yield_now().await;
    }
    fill(&mut client, "t", 1).await;
}
