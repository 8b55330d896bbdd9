//! Who may lead: nobody that was not in sync, unless that is asked for; and what a leader may acknowledge while others are
//! away.

use std::fs;
use std::process::{Command, Stdio};

use klamm::protocol::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use klamm::protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use klamm::protocol::messages::produce_response::ProduceResponse;
use nix::sys::signal::Signal;

use super::nodes::{METADATA_TOPIC, Nodes, eventually};
use crate::harness::{batch, name_of, produce_request};

const UNCLEAN: i8 = 1;

fn lines(word: &str, numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{word} {number}\n")).collect()
}

/// Three nodes that decide, and brokers 4 and 5 that keep the topics: those may go without taking the quorum along.
fn five() -> (Nodes, usize, usize) {
    let settings = ["--set", "broker.session.timeout.ms=2000", "--set", "broker.heartbeat.interval.ms=300"];
    let mut nodes = Nodes::none();
    (1..=3).for_each(|id| {
        nodes.add(id, &settings);
    });
    let (fourth, fifth) = (nodes.add(4, &settings), nodes.add(5, &settings));
    nodes.start_all();
    (nodes, fourth, fifth)
}

async fn elect(nodes: &Nodes, index: usize, topic: &str, election_type: i8) -> &'static str {
    let partitions = TopicPartitions { topic: topic.into(), partitions: vec![0], ..Default::default() };
    let request =
        ElectLeadersRequest { election_type, topic_partitions: Some(vec![partitions]), ..Default::default() };
    let answer = nodes.client(index).await.call(&request).await.unwrap();
    let results = answer.replica_election_results.first();
    name_of(results.map_or(answer.error_code, |result| result.partition_result[0].error_code))
}

/// What is acknowledged of one record, or why not.
async fn produced(nodes: &Nodes, index: usize, topic: &str, acks: i16, timeout_ms: i32) -> &'static str {
    let mut request = produce_request(topic, 0, acks, batch([b"guarded".as_slice()]));
    request.timeout_ms = timeout_ms;
    request.topic_data[0].topic_id = nodes.metadata(index, topic).await.topics[0].topic_id;
    let answer: ProduceResponse = nodes.client(index).await.call(&request).await.unwrap();
    name_of(answer.responses[0].partition_responses[0].error_code)
}

#[tokio::test]
async fn s1_3_truncation_test_only_where_it_is_asked_for_leads_who_was_not_in_sync_and_a_consumer_notices() {
    let (mut nodes, fourth, fifth) = five();
    let loose = ["--config", "unclean.leader.election.enable=true"];
    for (topic, settings) in [("strict", &[][..]), ("loose", &loose)] {
        nodes.done(&[&["topics", "create", topic, "--replica-assignment", "4:5"], settings].concat(), "");
        nodes.done(&["produce", topic], &lines("kept", 0..10));
        nodes.partitions(0, topic, "both are in sync", |it| it.isr_nodes.len() == 2).await;
    }
    let seen = tempfile::tempdir().unwrap();
    let seen = seen.path().join("seen");
    let mut reader = Command::new(env!("CARGO_BIN_EXE_klamm"))
        .args(["consume", "strict", "-u", "-b", &nodes.bootstrap()])
        .stdout(fs::File::create(&seen).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nodes.kill(fifth);
    for topic in ["strict", "loose"] {
        nodes.partitions(0, topic, "one is in sync", |it| it.isr_nodes == [4]).await;
        nodes.done(&["produce", topic], &lines("lost", 10..20));
    }
    let read = || fs::read_to_string(&seen).unwrap();
    eventually("all is read", || async { read().contains("lost 19\n").then_some(()) }).await;
    nodes.kill(fourth);
    nodes.partitions(0, "strict", "nobody leads", |it| it.leader_id == -1).await;
    nodes.start_one(fifth);
    nodes.partitions(0, "loose", "whoever is left leads", |it| it.leader_id == 5).await;
    let strict = nodes.partitions(0, "strict", "is there", |_| true).await;
    assert_eq!((strict[0].leader_id, &strict[0].isr_nodes[..]), (-1, &[][..]), "{strict:?}");
    assert_eq!(elect(&nodes, 0, "strict", 0).await, "PREFERRED_LEADER_NOT_AVAILABLE");
    assert_eq!(elect(&nodes, 0, "strict", UNCLEAN).await, "NONE");
    assert_eq!(elect(&nodes, 1, "strict", UNCLEAN).await, "ELECTION_NOT_NEEDED");
    nodes.partitions(0, "strict", "was asked for", |it| it.leader_id == 5).await;
    for topic in ["strict", "loose"] {
        nodes.done(&["produce", topic], &lines("other", 10..15));
    }
    eventually("what came instead is read", || async { read().contains("other 14\n").then_some(()) }).await;
    assert_eq!(read(), [lines("kept", 0..10), lines("lost", 10..20), lines("other", 10..15)].concat());
    reader.kill().unwrap();
    reader.wait().unwrap();
    nodes.start_one(fourth);
    for topic in ["strict", "loose"] {
        nodes.partitions(0, topic, "both are in sync", |it| it.isr_nodes.len() == 2).await;
        let consumed = nodes.done(&["consume", topic, "-e"], "");
        assert_eq!(consumed, lines("kept", 0..10) + &lines("other", 10..15));
    }
    for index in [fourth, fifth] {
        assert!(nodes.stop(index).success());
    }
    for topic in ["strict", "loose"] {
        let log = |index: usize| {
            fs::read(nodes.dir(index).join(format!("{topic}-0/00000000000000000000.log"))).unwrap()
        };
        assert!(log(fourth) == log(fifth), "{topic} differs");
    }
}

#[tokio::test]
async fn with_too_few_in_sync_nothing_is_acknowledged_and_what_was_written_counts_once_they_are_back() {
    let (nodes, fourth, fifth) = five();
    nodes.done(
        &["topics", "create", "guarded", "--replica-assignment", "4:5", "--config", "min.insync.replicas=2"],
        "",
    );
    nodes.partitions(0, "guarded", "both are in sync", |it| it.isr_nodes.len() == 2).await;
    nodes.partitions(fourth, "guarded", "knows so", |it| it.isr_nodes.len() == 2).await;
    assert_eq!(produced(&nodes, fourth, "guarded", -1, 60_000).await, "NONE");
    assert_eq!(elect(&nodes, 0, "guarded", 0).await, "ELECTION_NOT_NEEDED");
    // In sync by the book, but silent: it is written, and nobody may say so.
    nodes.signal(fifth, Signal::SIGSTOP);
    assert_eq!(produced(&nodes, fourth, "guarded", -1, 300).await, "REQUEST_TIMED_OUT");
    nodes.partitions(fourth, "guarded", "one is in sync", |it| it.isr_nodes == [4]).await;
    assert_eq!(produced(&nodes, fourth, "guarded", -1, 60_000).await, "NOT_ENOUGH_REPLICAS");
    assert_eq!(produced(&nodes, fourth, "guarded", 1, 60_000).await, "NONE");
    // Two of three records are above the high watermark.
    let latest = nodes.done(&["offsets", "get", "guarded:0", "--json"], "");
    assert!(latest.contains("\"offset\":1"), "{latest}");
    nodes.signal(fifth, Signal::SIGCONT);
    nodes.partitions(fourth, "guarded", "both are in sync again", |it| it.isr_nodes.len() == 2).await;
    assert_eq!(produced(&nodes, fourth, "guarded", -1, 60_000).await, "NONE");
    assert_eq!(nodes.done(&["consume", "guarded", "-e"], ""), "guarded\n".repeat(4));
}

#[tokio::test]
async fn who_asks_for_a_quorum_without_a_majority_hears_that_it_has_no_leader() {
    let mut nodes = Nodes::start();
    nodes.kill(1);
    nodes.kill(2);
    let topic = TopicData {
        topic_name: METADATA_TOPIC.into(),
        partitions: vec![PartitionData::default()],
        ..Default::default()
    };
    let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
    eventually("it is said", || async {
        let answer = nodes.client(0).await.call(&request).await.unwrap();
        let partition = &answer.topics[0].partitions[0];
        let words = partition.error_message.as_deref().unwrap_or_default();
        (name_of(partition.error_code) == "NOT_LEADER_OR_FOLLOWER"
            && (words.contains("no leader") || words.contains("no answer")))
        .then_some(())
    })
    .await;
}
