//! A disk that fails takes its own partitions along, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm::protocol::Str;
use klamm::protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use klamm::protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use klamm::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use klamm::protocol::messages::metadata_request::MetadataRequest;
use klamm::protocol::messages::produce_request::ProduceRequest;
use klamm::storage::Disk;

use crate::harness::{Client, TestBroker, batch, name_of, produce_request};
use crate::storage::hostile::{Faults, HostileDisk};

/// A broker on directories that `faults` rules over.
async fn broker(dirs: usize) -> (TestBroker, Arc<Faults>) {
    let disk = HostileDisk::new();
    let faults = Arc::clone(&disk.faults);
    let wrap = move |_| Arc::<HostileDisk>::clone(&disk) as Arc<dyn Disk>;
    (TestBroker::on(dirs, &[], wrap).await, faults)
}

/// The partition of `t` that lies in the second directory, and the one that does not.
fn lies_in_second(broker: &TestBroker) -> (i32, i32) {
    let is_there = broker.dir_at(1).join("t-0").exists();
    if is_there { (0, 1) } else { (1, 0) }
}

async fn fetch_code(client: &mut Client, partition: i32) -> &'static str {
    let asked = FetchPartition { partition, partition_max_bytes: 1_000, ..FetchPartition::default() };
    let topic = FetchTopic { topic: Str::from("t"), partitions: vec![asked], ..FetchTopic::default() };
    let response = client.ask(12, &FetchRequest { topics: vec![topic], ..FetchRequest::default() }).await;
    name_of(response.responses[0].partitions[0].error_code)
}

#[tokio::test]
async fn kafka_10778_a_failed_write_takes_the_directory_offline_and_the_other_serves_on() {
    let (mut broker, faults) = broker(2).await;
    let mut client = broker.connect();
    client.create_topic("t", 2, &[]).await;
    let (sick, well) = lies_in_second(&broker);
    for partition in [sick, well] {
        assert_eq!(client.produce("t", partition, batch([&b"x"[..]])).await.error_code, 0);
    }
    *faults.below.lock() = broker.dir_at(1).to_owned();
    faults.writes.store(true, Ordering::Relaxed);
    let refused = client.produce("t", sick, batch([&b"y"[..]])).await;
    assert_eq!(name_of(refused.error_code), "KAFKA_STORAGE_ERROR");
    faults.writes.store(false, Ordering::Relaxed);
    let refused = client.produce("t", sick, batch([&b"y"[..]])).await;
    assert_eq!(name_of(refused.error_code), "KAFKA_STORAGE_ERROR", "nobody tries again");
    assert_eq!(fetch_code(&mut client, sick).await, "KAFKA_STORAGE_ERROR");
    assert_eq!(client.produce("t", well, batch([&b"y"[..]])).await.base_offset, 1);
    assert_eq!(fetch_code(&mut client, well).await, "NONE");

    let metadata = client.ask_latest(&MetadataRequest { topics: None, ..MetadataRequest::default() }).await;
    let asked = DescribeTopicPartitionsRequest {
        response_partition_limit: 10,
        ..DescribeTopicPartitionsRequest::default()
    };
    let described = client.ask_latest(&asked).await;
    for (partition, told) in [(sick, ("LEADER_NOT_AVAILABLE", -1, vec![1])), (well, ("NONE", 1, vec![]))] {
        let it = metadata.topics[0].partitions.iter().find(|it| it.partition_index == partition).unwrap();
        assert_eq!((name_of(it.error_code), it.leader_id, it.offline_replicas.clone()), told);
        let it = described.topics[0].partitions.iter().find(|it| it.partition_index == partition).unwrap();
        assert_eq!((name_of(it.error_code), it.leader_id, it.offline_replicas.clone()), told);
    }

    let asked = DescribeLogDirsRequest { topics: None, ..DescribeLogDirsRequest::default() };
    let codes: Vec<&str> =
        client.ask_latest(&asked).await.results.iter().map(|dir| name_of(dir.error_code)).collect();
    assert_eq!(codes, ["NONE", "KAFKA_STORAGE_ERROR"]);
    assert!(broker.try_stop().await.is_err(), "a directory that failed is not left clean");
    assert!(broker.dir_at(0).join(".kafka_cleanshutdown").exists());
    assert!(!broker.dir_at(1).join(".kafka_cleanshutdown").exists());
}

#[tokio::test]
async fn a_failed_sync_is_answered_and_never_tried_again() {
    let (broker, faults) = broker(2).await;
    let mut client = broker.connect();
    client.create_topic("t", 2, &[("flush.messages", "1")]).await;
    let (sick, well) = lies_in_second(&broker);
    *faults.below.lock() = broker.dir_at(1).to_owned();
    faults.syncs.store(true, Ordering::Relaxed);
    client.send(9, &produce_request("t", sick, -1, batch([&b"x"[..]]))).await;
    let response = client.receive::<ProduceRequest>().await;
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(name_of(answer.error_code), "KAFKA_STORAGE_ERROR");
    faults.syncs.store(false, Ordering::Relaxed);
    let again = client.produce("t", sick, batch([&b"x"[..]])).await;
    assert_eq!(name_of(again.error_code), "KAFKA_STORAGE_ERROR");
    assert_eq!(client.produce("t", well, batch([&b"x"[..]])).await.error_code, 0);
}

/// Eligible leaders and in-sync replicas of each partition of `t`.
async fn eligible(client: &mut Client) -> Vec<(i32, Vec<i32>, Vec<i32>)> {
    let asked = DescribeTopicPartitionsRequest {
        response_partition_limit: 10,
        ..DescribeTopicPartitionsRequest::default()
    };
    let described = client.ask_latest(&asked).await;
    let partitions = described.topics[0].partitions.iter();
    partitions
        .map(|it| {
            let eligible = it.eligible_leader_replicas.clone().unwrap_or_default();
            (it.leader_id, it.isr_nodes.clone(), eligible)
        })
        .collect()
}

#[tokio::test]
async fn a_failed_directory_is_recorded_and_leads_again_once_it_is_back() {
    let (mut broker, faults) = broker(2).await;
    let mut client = broker.connect();
    client.create_topic("t", 2, &[]).await;
    let (sick, well) = lies_in_second(&broker);
    client.produce("t", sick, batch([&b"x"[..]])).await;
    *faults.below.lock() = broker.dir_at(1).to_owned();
    faults.writes.store(true, Ordering::Relaxed);
    client.produce("t", sick, batch([&b"y"[..]])).await;
    let lost = (-1, vec![], vec![1]);
    let leads = (1, vec![1], vec![]);
    // The answer to the producer does not wait for the record.
    let mut recorded = eligible(&mut client).await;
    while recorded[sick as usize] != lost {
        recorded = eligible(&mut client).await;
    }
    assert_eq!(recorded[well as usize], leads);
    let _ = broker.try_stop().await;
    faults.writes.store(false, Ordering::Relaxed);
    broker.restart_stopped().await;
    let mut client = broker.connect();
    assert_eq!(eligible(&mut client).await, [leads.clone(), leads]);
    assert_eq!(client.produce("t", sick, batch([&b"y"[..]])).await.base_offset, 1);
}
