//! Asks one broker for its own copy of partitions, whether it leads them or not: where the copy begins, and what it holds.
//!
//! A Fetch of version 11 or later without a replica id is answered by followers too, up to the high watermark that they
//! know (KIP-392); ListOffsets is answered by followers where its replica id is that of a debugger.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::client::{BrokerError, ClientError, Cluster, Lane};
use crate::protocol::ErrorCode;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::types::{BrokerId, TopicPartition, Uuid};

/// From this version on followers answer.
const FOLLOWERS_FROM: i16 = 11;
/// The first version that names topics by their ids alone.
const TOPIC_IDS_FROM: i16 = 13;
/// Who asks for any copy, whoever leads.
const DEBUGGER: i32 = -2;
const EARLIEST: i64 = -2;
/// So many partitions are asked about in one request.
const PARTITIONS_MAX: usize = 1_000;
/// So often a failure that may pass is met before a copy is given up.
const ATTEMPTS_MAX: u32 = 8;

/// Which partition, and by which id its topic is asked for.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: Uuid,
}

/// What a broker has at an offset.
#[derive(Debug)]
pub(super) enum Answer {
    /// Bytes from there on, perhaps none, and its high watermark.
    Bytes(Bytes, i64),
    /// The offset is before the copy's first or behind its last.
    OutOfRange,
    /// The broker holds back: its quota.
    Nothing,
}

/// Where the copies of a broker begin; or why it does not say so of one.
pub(super) type CopyStarts = BTreeMap<TopicPartition, Result<i64, ErrorCode>>;

/// Where the broker's copies begin. A copy may fail alone.
///
/// # Errors
/// Where the broker does not answer at all.
pub(super) async fn starts(
    cluster: &Cluster,
    broker: BrokerId,
    partitions: &[TopicPartition],
) -> Result<CopyStarts, ClientError> {
    let mut found = BTreeMap::new();
    for some in partitions.chunks(PARTITIONS_MAX) {
        let request = starts_request(some);
        let answer = cluster.retrying(|| cluster.send(broker, &request)).await?;
        let mut codes: BTreeMap<(&str, i32), Result<i64, ErrorCode>> = BTreeMap::new();
        for topic in &answer.topics {
            for one in &topic.partitions {
                let outcome = match ErrorCode::from_wire(one.error_code) {
                    ErrorCode::None => Ok(one.offset),
                    code => Err(code),
                };
                codes.insert((&topic.name, one.partition_index), outcome);
            }
        }
        for partition in some {
            let outcome = codes.remove(&(partition.topic.as_str(), partition.partition));
            found.insert(partition.clone(), outcome.unwrap_or(Err(ErrorCode::UnknownServerError)));
        }
    }
    Ok(found)
}

fn starts_request(partitions: &[TopicPartition]) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str()).or_default().push(ListOffsetsPartition {
            partition_index: partition.partition,
            timestamp: EARLIEST,
            ..Default::default()
        });
    }
    let topic = |(name, partitions): (&str, _)| ListOffsetsTopic {
        name: name.into(),
        partitions,
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: DEBUGGER,
        topics: topics.into_iter().map(topic).collect(),
        timeout_ms: 30_000,
        ..Default::default()
    }
}

/// What the broker's copy holds from `offset` on, a whole batch at least if `bytes_max` does for one. Failures that may
/// pass are tried again.
///
/// # Errors
/// Where the broker does not answer, or refuses.
pub(super) async fn fetch(
    cluster: &Cluster,
    broker: BrokerId,
    which: &Which,
    offset: i64,
    bytes_max: i32,
) -> Result<Answer, ClientError> {
    let mut failures = 0;
    loop {
        match fetch_once(cluster, broker, which, offset, bytes_max).await {
            Err(error) if error.is_retriable() && failures < ATTEMPTS_MAX => {
                failures += 1;
                let options = cluster.options();
                options.clock.wait(options.backoff.after(failures)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn fetch_once(
    cluster: &Cluster,
    broker: BrokerId,
    which: &Which,
    offset: i64,
    bytes_max: i32,
) -> Result<Answer, ClientError> {
    let connection = cluster.connection(broker, Lane::Fetch).await?;
    let at_most = if which.topic_id.is_zero() { TOPIC_IDS_FROM - 1 } else { i16::MAX };
    let version = connection.version_of::<FetchRequest>(at_most)?;
    let about = || format!("{} at broker {broker}", which.partition);
    if version < FOLLOWERS_FROM {
        let message = Some(format!("Fetch version {FOLLOWERS_FROM} is needed to read from followers"));
        return Err(BrokerError { code: ErrorCode::UnsupportedVersion, about: about(), message }.into());
    }
    let partition = FetchPartition {
        partition: which.partition.partition,
        fetch_offset: offset,
        partition_max_bytes: bytes_max,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: which.partition.topic.as_str().into(),
        topic_id: which.topic_id,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = FetchRequest { max_bytes: bytes_max, topics: vec![topic], ..Default::default() };
    let answer = connection.start(&request, version, cluster.options().request_timeout)?.answer().await?;
    BrokerError::check(answer.error_code, about, None)?;
    let Some(data) = answer.responses.into_iter().flat_map(|topic| topic.partitions).next() else {
        return Ok(Answer::Nothing);
    };
    match ErrorCode::from_wire(data.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => return Ok(Answer::OutOfRange),
        code => return Err(BrokerError { code, about: about(), message: None }.into()),
    }
    let bytes = data.records.as_ref().and_then(|records| records.inline()).cloned().unwrap_or_default();
    Ok(Answer::Bytes(bytes, data.high_watermark))
}
