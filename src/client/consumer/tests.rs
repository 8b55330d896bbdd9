//! A consumer against a scripted broker: moved leaders, offsets that are gone, holes at the end, damage.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::fake::{Asked, Fake, Reply};
use super::super::{Bootstrap, ClientOptions, Cluster};
use super::*;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::{ApiKey, Records};
use crate::record::{BatchBuilder, Compression};
use crate::types::{LeaderEpoch, Offset, TopicName, Uuid};

const TOPIC_ID: Uuid = Uuid([7; 16]);

fn batch(offset: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(0));
    for value in values {
        builder.append(1, None, Some(value.as_bytes()), []);
    }
    builder.build().unwrap()
}

fn metadata() -> MetadataResponse {
    let partition = MetadataResponsePartition { leader_id: 1, ..Default::default() };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let brokers = vec![MetadataResponseBroker { node_id: 1, ..Default::default() }];
    MetadataResponse { brokers, controller_id: 1, topics: vec![topic], ..Default::default() }
}

/// Reads `t-0` from 0 to `end`; `fetch` answers with a code, records and a high watermark, by the offset asked for
/// and how often a fetch came before.
async fn read(
    end: i64,
    fetch: impl Fn(i64, usize) -> (ErrorCode, Bytes, i64) + Send + Sync + 'static,
) -> (Vec<String>, Vec<String>) {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let bootstrap = Fake::bootstrap(move |mut asked: Asked| -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata => asked.answer(&metadata()),
            ApiKey::ListOffsets => {
                let partition = ListOffsetsPartitionResponse { offset: 3, ..Default::default() };
                let topic = ListOffsetsTopicResponse { partitions: vec![partition], ..Default::default() };
                asked.answer(&ListOffsetsResponse { topics: vec![topic], ..Default::default() })
            }
            _ => {
                let request: FetchRequest = asked.read();
                let offset = request.topics[0].partitions[0].fetch_offset;
                let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let (code, records, high_watermark) = fetch(offset, nth);
                let partition = PartitionData {
                    error_code: code.code(),
                    high_watermark,
                    records: Some(Records::Inline(records)),
                    ..Default::default()
                };
                let topic = FetchableTopicResponse {
                    topic_id: TOPIC_ID,
                    partitions: vec![partition],
                    ..Default::default()
                };
                asked.answer(&FetchResponse { responses: vec![topic], ..Default::default() })
            }
        }
    });
    read_from(bootstrap, end).await
}

async fn read_from(bootstrap: Bootstrap, end: i64) -> (Vec<String>, Vec<String>) {
    read_with(bootstrap, &ConsumerOptions::default(), end).await
}

async fn read_with(bootstrap: Bootstrap, options: &ConsumerOptions, end: i64) -> (Vec<String>, Vec<String>) {
    let cluster = Cluster::connect(bootstrap, ClientOptions::default()).await.unwrap();
    let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
    let assignment = Assignment { partition, start: 0, start_epoch: None, end: Some(end) };
    let mut consumer = Consumer::start(&cluster, options, vec![assignment]);
    let (mut values, mut told) = (Vec::new(), Vec::new());
    while let Some(pulled) = consumer.next().await {
        match pulled {
            Pulled::Data(fetched) => {
                let read = fetched.read(&mut Reading::default(), |_, record| {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    Ok::<_, (i64, BatchError)>(ControlFlow::Continue(()))
                });
                let _ = read.unwrap();
            }
            Pulled::Ended(_) => told.push("ended".to_owned()),
            Pulled::Jumped { from, to, .. } => told.push(format!("{from}->{to}")),
            Pulled::Failed(_, error) => told.push(error.to_string()),
        }
    }
    (values, told)
}

#[tokio::test]
async fn an_end_within_a_batch_is_exact() {
    let (values, told) =
        read(2, |_, _| (ErrorCode::None, [batch(0, &["a"]), batch(1, &["b", "c"])].concat().into(), 9)).await;
    assert_eq!((values, told), (vec!["a".into(), "b".into()], vec!["ended".to_owned()]));
}

#[tokio::test]
async fn a_hole_up_to_the_end_ends_the_partition() {
    let (values, told) = read(9, |offset, _| match offset {
        0 => (ErrorCode::None, batch(0, &["a"]), 9),
        _ => (ErrorCode::None, Bytes::new(), 9),
    })
    .await;
    assert_eq!((values, told), (vec!["a".into()], vec!["ended".to_owned()]));
}

#[tokio::test]
async fn a_leader_that_is_none_is_looked_up_again() {
    let (values, told) = read(1, |_, nth| match nth {
        0 => (ErrorCode::NotLeaderOrFollower, Bytes::new(), -1),
        _ => (ErrorCode::None, batch(0, &["a"]), 1),
    })
    .await;
    assert_eq!((values, told), (vec!["a".into()], vec!["ended".to_owned()]));
}

#[tokio::test]
async fn kip_392_the_replica_that_the_leader_names_is_read_from_until_it_lacks_the_offset() {
    let leader = std::sync::OnceLock::new();
    let bootstrap = Fake::bootstrap(move |mut asked: Asked| -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata => {
                let mut metadata = metadata();
                metadata.brokers.push(MetadataResponseBroker { node_id: 2, ..Default::default() });
                asked.answer(&metadata)
            }
            _ => {
                let request: FetchRequest = asked.read();
                assert_eq!(request.rack_id, "b");
                let is_leader = *leader.get_or_init(|| asked.connection) == asked.connection;
                let mut partition = PartitionData { high_watermark: 2, ..Default::default() };
                match (is_leader, request.topics[0].partitions[0].fetch_offset) {
                    (true, 0) => partition.preferred_read_replica = 2,
                    (false, 0) => partition.records = Some(Records::Inline(batch(0, &["a"]))),
                    (true, _) => partition.records = Some(Records::Inline(batch(1, &["b"]))),
                    (false, _) => partition.error_code = ErrorCode::OffsetOutOfRange.code(),
                }
                let partitions = vec![partition];
                let topic = FetchableTopicResponse { topic_id: TOPIC_ID, partitions, ..Default::default() };
                asked.answer(&FetchResponse { responses: vec![topic], ..Default::default() })
            }
        }
    });
    let options = ConsumerOptions { rack: "b".to_owned(), ..Default::default() };
    let (values, told) = read_with(bootstrap, &options, 2).await;
    assert_eq!((values, told), (vec!["a".into(), "b".into()], vec!["ended".to_owned()]));
}

#[tokio::test]
async fn offsets_that_are_gone_are_said_and_reading_goes_on_behind_them() {
    let (values, told) = read(4, |offset, _| match offset {
        3 => (ErrorCode::None, batch(3, &["d"]), 4),
        _ => (ErrorCode::OffsetOutOfRange, Bytes::new(), -1),
    })
    .await;
    assert_eq!((values, told), (vec!["d".into()], vec!["0->3".to_owned(), "ended".to_owned()]));
}

#[tokio::test]
async fn a_damaged_batch_is_never_handed_out() {
    let (values, told) = read(1, |_, _| {
        let mut bytes = batch(0, &["a"]).to_vec();
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        (ErrorCode::None, bytes.into(), 1)
    })
    .await;
    assert!(values.is_empty() && told.len() == 1 && told[0].contains("CRC"), "{told:?}");
}

#[tokio::test]
async fn kip_320_records_that_were_taken_back_are_noticed_and_reading_goes_on_where_logs_agree() {
    let asked_for = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&asked_for);
    let bootstrap = Fake::bootstrap(move |mut asked: Asked| -> Reply {
        let mut asked_for = log.lock();
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata => {
                let mut metadata = metadata();
                // Once the old epoch was refused, the new leader is known.
                metadata.topics[0].partitions[0].leader_epoch = i32::from(asked_for.len() >= 2);
                asked.answer(&metadata)
            }
            _ => {
                let request: FetchRequest = asked.read();
                let of = &request.topics[0].partitions[0];
                asked_for.push((of.fetch_offset, of.current_leader_epoch, of.last_fetched_epoch));
                let mut partition = PartitionData { high_watermark: 4, ..Default::default() };
                match asked_for.len() {
                    1 => partition.records = Some(Records::Inline(batch(0, &["a", "b", "c"]))),
                    2 => partition.error_code = ErrorCode::FencedLeaderEpoch.code(),
                    3 => (partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset) = (0, 2),
                    _ => {
                        let mut records = batch(2, &["x", "y"]).to_vec();
                        crate::record::assign_offsets(&mut records, Offset(2), LeaderEpoch(1));
                        partition.records = Some(Records::Inline(records.into()));
                    }
                }
                let topic = FetchableTopicResponse {
                    topic_id: TOPIC_ID,
                    partitions: vec![partition],
                    ..Default::default()
                };
                asked.answer(&FetchResponse { responses: vec![topic], ..Default::default() })
            }
        }
    });
    let (values, told) = read_from(bootstrap, 4).await;
    assert_eq!(values, ["a", "b", "c", "x", "y"]);
    assert_eq!(told, ["3->2", "ended"]);
    assert_eq!(*asked_for.lock(), [(0, 0, -1), (3, 0, 0), (3, 1, 0), (2, 1, 0)]);
}
