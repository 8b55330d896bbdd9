//! DescribeLogDirs (35), versions 1 to 5: what lies in which log directory, and how much room is left.

use std::collections::BTreeMap;
use std::path::Path;

use super::call::Call;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use crate::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::storage::LogDirectory;
use crate::types::TopicName;

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
        if partition.directory() != directory || !is_asked(request, id.topic.as_str(), id.partition) {
            continue;
        }
        let size = partition.with_log_anyway(|log| log.size_bytes());
        found.entry(id.topic.clone()).or_default().push(DescribeLogDirsPartition {
            partition_index: id.partition,
            partition_size: i64::try_from(size).unwrap_or(i64::MAX),
            ..DescribeLogDirsPartition::default()
        });
    }
    found
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
