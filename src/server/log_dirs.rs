//! DescribeLogDirs (35), versions 1 to 5: what lies in which log directory, and how much room is left.
//! AlterReplicaLogDirs (34), versions 1 and 2: partitions on their way from one to another. It answers when the
//! moves have begun; [`super::mover`] carries them out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::warn;

use super::call::Call;
use super::error_map::Failure;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use crate::protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};
use crate::protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use crate::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::replication::PartitionError;
use crate::storage::{LogDirectory, folder_name_for_future};
use crate::types::{TopicName, TopicPartition, Uuid};

type Partitions = BTreeMap<TopicName, Vec<DescribeLogDirsPartition>>;

/// Answers for each directory, failed ones included.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: DescribeLogDirsRequest = call.decode()?;
    let working = node.directories.all().iter().map(|directory| describe_one(node, directory, &request));
    let failed = node.directories.failed().iter().map(|(path, _)| offline(path));
    let results = working.chain(failed).collect();
    Ok(call.reply(&DescribeLogDirsResponse { results, ..DescribeLogDirsResponse::default() }))
}

fn describe_one(
    node: &Node,
    directory: &LogDirectory,
    request: &DescribeLogDirsRequest,
) -> DescribeLogDirsResult {
    let Ok(space) = directory.space() else { return offline(directory.path()) };
    let topics = partitions_of(node, directory.path(), request).into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: Str::from(name.as_str()), partitions, ..DescribeLogDirsTopic::default() }
    });
    DescribeLogDirsResult {
        log_dir: name_of(directory.path()),
        topics: topics.collect(),
        total_bytes: i64::try_from(space.total_bytes).unwrap_or(i64::MAX),
        usable_bytes: i64::try_from(space.usable_bytes).unwrap_or(i64::MAX),
        ..DescribeLogDirsResult::default()
    }
}

fn partitions_of(node: &Node, directory: &Path, request: &DescribeLogDirsRequest) -> Partitions {
    let mut found = Partitions::new();
    for partition in node.partitions.all() {
        let id = partition.id();
        if !is_asked(request, id.topic.as_str(), id.partition) {
            continue;
        }
        let mut add = |size: u64, offset_lag: i64, is_future_key: bool| {
            found.entry(id.topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: id.partition,
                partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                offset_lag,
                is_future_key,
                ..DescribeLogDirsPartition::default()
            });
        };
        if **partition.directory() == *directory {
            add(partition.with_log_anyway(|log| log.size_bytes()), 0, false);
        }
        if let Some(future) = partition.future_log().filter(|future| future.directory == directory) {
            add(future.size_bytes, future.lag, true);
        }
    }
    found
}

/// AlterReplicaLogDirs.
///
/// # Errors
/// The request is malformed.
pub fn alter(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: AlterReplicaLogDirsRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        // Making a log waits for the disk.
        let begun = spawn_blocking(move || begin_moves(&node, &request)).await;
        call.answer(&begun.unwrap_or_default())
    })))
}

fn begin_moves(node: &Node, request: &AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut results: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            for &partition_index in &topic.partitions {
                let outcome = begin_move(node, &dir.path, &topic.name, partition_index);
                if let Err(failure) = &outcome {
                    let why = failure.message.as_deref().unwrap_or(failure.code.message());
                    warn!(topic = %topic.name, partition_index, directory = %dir.path, "not moved: {why}");
                }
                results.entry(topic.name.clone()).or_default().push(AlterReplicaLogDirPartitionResult {
                    partition_index,
                    error_code: outcome.map_or_else(|failure| failure.code.code(), |()| 0),
                    ..AlterReplicaLogDirPartitionResult::default()
                });
            }
        }
    }
    let results = results.into_iter().map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
        topic_name,
        partitions,
        ..AlterReplicaLogDirTopicResult::default()
    });
    AlterReplicaLogDirsResponse { results: results.collect(), ..AlterReplicaLogDirsResponse::default() }
}

/// Begins one move, as Kafka does: a move to where the log is ends the one that is under way, and none begins
/// while a directory is offline, which may hold the same log.
fn begin_move(node: &Node, path: &str, topic: &str, index: i32) -> Result<(), Failure> {
    let failure = |code: ErrorCode, why: String| Failure::new(code, why);
    let id = TopicName::new(topic)
        .map_err(|error| failure(ErrorCode::InvalidTopicException, error.to_string()))
        .map(|name| TopicPartition::new(name, index))?;
    if folder_name_for_future(&id, Uuid::ZERO).is_none() {
        let why = format!("the name of {id} is too long for a second folder");
        return Err(failure(ErrorCode::InvalidTopicException, why));
    }
    let all = node.directories.all();
    let Some(directory) = all.iter().find(|directory| *name_of(directory.path()) == *path) else {
        let is_known = node.directories.failed().iter().any(|(failed, _)| *name_of(failed) == *path);
        return Err(match is_known {
            true => failure(ErrorCode::KafkaStorageError, format!("{path} is offline")),
            false => failure(ErrorCode::LogDirNotFound, format!("{path} is none of this broker's log.dirs")),
        });
    };
    let partition = node.partition(topic, index).map_err(|code| match code {
        ErrorCode::NotLeaderOrFollower => {
            failure(ErrorCode::ReplicaNotAvailable, "it is not here".to_owned())
        }
        code => code.into(),
    })?;
    let under_way = partition.future_directory();
    let is_there = **partition.directory() == *directory.path();
    if is_there || under_way.as_deref().is_some_and(|to| to != directory.path()) {
        if let Some(mut other) = partition.cancel_move() {
            node.partitions.remove_log(&mut other).map_err(PartitionError::from)?;
        }
    } else if under_way.is_some() {
        return Ok(());
    }
    if is_there {
        return Ok(());
    }
    let is_offline = |directory: &Arc<LogDirectory>| directory.health().failure().is_some();
    if !node.directories.failed().is_empty() || all.iter().any(is_offline) {
        return Err(failure(ErrorCode::KafkaStorageError, "a log directory is offline".to_owned()));
    }
    let begun = node.partitions.begin_move(&partition, directory, &node.config());
    begun.map_err(PartitionError::from)?;
    node.mover.enqueue(&partition);
    Ok(())
}

fn is_asked(request: &DescribeLogDirsRequest, topic: &str, partition: i32) -> bool {
    let Some(topics) = &request.topics else { return true };
    topics.iter().any(|asked| asked.topic == topic && asked.partitions.contains(&partition))
}

/// As Kafka names it: absolute, however it was given.
fn name_of(path: &Path) -> Str {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Str::from(path.display().to_string())
}

fn offline(path: &Path) -> DescribeLogDirsResult {
    DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError.code(),
        log_dir: name_of(path),
        ..DescribeLogDirsResult::default()
    }
}
