//! Questions that several commands put to a cluster, and their answers as plain facts. Reading a directory
//! (`directory.rs`) answers in the same facts, so that what prints them need not know where they came from.

use std::collections::BTreeMap;

use crate::client::{BrokerError, ClientError, Cluster};
use crate::protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::protocol::messages::describe_configs_response::DescribeConfigsResult;
use crate::protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use crate::protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::{ErrorCode, Str};
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicPartition};

/// `ListOffsets`: the high watermark (or the last stable offset, for read_committed).
pub const LATEST: i64 = -1;
/// `ListOffsets`: the log start offset.
pub const EARLIEST: i64 = -2;
/// `ListOffsets`: the record with the largest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;

/// How often partitions whose leader has just moved are asked again.
const ATTEMPTS_MAX: u32 = 10;

/// What `ListOffsets` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// `None` where there is no such record.
    pub offset: Option<Offset>,
    /// The record's timestamp, where one was looked up.
    pub timestamp_ms: Option<i64>,
    /// The epoch the record was written in, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Answers by partition; each may fail alone.
pub type Offsets = BTreeMap<TopicPartition, Result<FoundOffset, ClientError>>;

/// Looks up `timestamp` (a time, or one of the constants above) in each partition, at its leader.
pub async fn offsets_at(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    timestamp: i64,
    isolation: i8,
) -> Offsets {
    let mut found = Offsets::new();
    let mut missing: Vec<TopicPartition> = partitions.to_vec();
    for attempt in 1..=ATTEMPTS_MAX {
        let mut again = Vec::new();
        for (partition, outcome) in ask_leaders(cluster, &missing, timestamp, isolation).await {
            match outcome {
                Err(error) if error.is_retriable() && attempt < ATTEMPTS_MAX => {
                    cluster.forget_topic(partition.topic.as_str());
                    again.push(partition);
                }
                outcome => {
                    found.insert(partition, outcome);
                }
            }
        }
        if again.is_empty() {
            break;
        }
        missing = again;
        let options = cluster.options();
        options.clock.wait(options.backoff.after(attempt)).await;
    }
    found
}

/// One request to each leader.
async fn ask_leaders(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    timestamp: i64,
    isolation: i8,
) -> Vec<(TopicPartition, Result<FoundOffset, ClientError>)> {
    let mut by_leader: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for partition in partitions {
        match cluster.leader(partition).await {
            Ok((leader, _)) => by_leader.entry(leader).or_default().push(partition.clone()),
            Err(error) => outcomes.push((partition.clone(), Err(error))),
        }
    }
    for (leader, partitions) in by_leader {
        let request = list_offsets_request(&partitions, timestamp, isolation);
        match cluster.send(leader, &request).await {
            Err(error) => {
                outcomes.extend(partitions.into_iter().map(|partition| (partition, Err(error.clone()))));
            }
            Ok(answer) => {
                let mut answers: BTreeMap<(Str, i32), Result<FoundOffset, ClientError>> = BTreeMap::new();
                for topic in answer.topics {
                    for found in topic.partitions {
                        let about = || format!("{}-{}", topic.name, found.partition_index);
                        let checked = BrokerError::check(found.error_code, about, None);
                        let outcome = checked.map_err(ClientError::from).map(|()| FoundOffset {
                            offset: (found.offset >= 0).then_some(Offset(found.offset)),
                            timestamp_ms: (found.timestamp >= 0).then_some(found.timestamp),
                            leader_epoch: (found.leader_epoch >= 0)
                                .then_some(LeaderEpoch(found.leader_epoch)),
                        });
                        answers.insert((topic.name.clone(), found.partition_index), outcome);
                    }
                }
                outcomes.extend(partitions.into_iter().map(|partition| {
                    let key = (Str::from(partition.topic.as_str()), partition.partition);
                    let outcome = answers.remove(&key).unwrap_or_else(|| Err(unanswered(&partition)));
                    (partition, outcome)
                }));
            }
        }
    }
    outcomes
}

fn unanswered(partition: &TopicPartition) -> ClientError {
    BrokerError {
        code: ErrorCode::UnknownServerError,
        about: partition.to_string(),
        message: Some("the broker did not answer for it".to_owned()),
    }
    .into()
}

fn list_offsets_request(partitions: &[TopicPartition], timestamp: i64, isolation: i8) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str()).or_default().push(ListOffsetsPartition {
            partition_index: partition.partition,
            timestamp,
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
        name: name.into(),
        partitions,
        ..Default::default()
    });
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation,
        topics: topics.collect(),
        timeout_ms: 30_000,
        ..Default::default()
    }
}

/// One replica in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSize {
    /// Which partition.
    pub partition: TopicPartition,
    /// Bytes of its `.log` files.
    pub size_bytes: i64,
    /// How far it is behind.
    pub offset_lag: i64,
    /// Whether it is on its way into this directory.
    pub is_future: bool,
}

/// One log directory of one broker.
#[derive(Debug, Clone)]
pub struct LogDir {
    /// Whose it is; `None` where a directory does not say.
    pub broker: Option<BrokerId>,
    /// Where it is, as the broker names it.
    pub path: String,
    /// Why it cannot be used.
    pub error: Option<String>,
    /// Size of its file system, where the broker tells.
    pub total_bytes: Option<i64>,
    /// What of that is free, where the broker tells.
    pub usable_bytes: Option<i64>,
    /// Whether it takes no new partitions.
    pub is_cordoned: bool,
    /// What is in it.
    pub replicas: Vec<ReplicaSize>,
}

/// The log directories of `broker`, with the replicas of `topics` (of all, where that is `None`).
///
/// # Errors
/// Where the broker does not answer, or refuses.
pub async fn log_dirs(
    cluster: &Cluster,
    broker: BrokerId,
    topics: Option<&BTreeMap<String, Vec<i32>>>,
) -> Result<Vec<LogDir>, ClientError> {
    let topics = topics.map(|topics| {
        let topic = |(name, partitions): (&String, &Vec<i32>)| DescribableLogDirTopic {
            topic: name.as_str().into(),
            partitions: partitions.clone(),
            ..Default::default()
        };
        topics.iter().map(topic).collect()
    });
    let answer = cluster.send(broker, &DescribeLogDirsRequest { topics, ..Default::default() }).await?;
    BrokerError::check(answer.error_code, || format!("broker {broker}"), None)?;
    Ok(answer.results.iter().map(|result| log_dir(broker, result)).collect())
}

fn log_dir(broker: BrokerId, result: &DescribeLogDirsResult) -> LogDir {
    let error = match ErrorCode::from_wire(result.error_code) {
        ErrorCode::None => None,
        code => Some(format!("{} ({})", code.message(), code.name())),
    };
    let replicas = result.topics.iter().flat_map(|topic| {
        topic.partitions.iter().filter_map(|partition| {
            let name = crate::types::TopicName::new(&topic.name).ok()?;
            Some(ReplicaSize {
                partition: TopicPartition::new(name, partition.partition_index),
                size_bytes: partition.partition_size,
                offset_lag: partition.offset_lag,
                is_future: partition.is_future_key,
            })
        })
    });
    let known = |bytes: i64| (bytes >= 0).then_some(bytes);
    LogDir {
        broker: Some(broker),
        path: result.log_dir.to_string(),
        error,
        total_bytes: known(result.total_bytes),
        usable_bytes: known(result.usable_bytes),
        is_cordoned: result.is_cordoned,
        replicas: replicas.collect(),
    }
}

/// Asks for configurations, of `broker` where the question is about one, else of any.
///
/// # Errors
/// Where no broker answers. What is refused for a single resource stands in its result.
pub async fn configs(
    cluster: &Cluster,
    broker: Option<BrokerId>,
    resources: Vec<DescribeConfigsResource>,
    documentation: bool,
) -> Result<Vec<DescribeConfigsResult>, ClientError> {
    let request = DescribeConfigsRequest {
        resources,
        include_synonyms: true,
        include_documentation: documentation,
        ..Default::default()
    };
    let answer = match broker {
        Some(broker) => cluster.send(broker, &request).await?,
        None => cluster.any(&request).await?,
    };
    Ok(answer.results)
}
