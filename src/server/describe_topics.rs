//! DescribeTopicPartitions (75), version 0: topics with their partitions, a page at a time.

use std::collections::BTreeSet;

use super::authorized;
use super::call::{Call, text};
use super::node::Node;
use super::standing::{Standing, Standings};
use crate::metadata::{Image, PartitionRegistration, Topic};
use crate::net::Reply;
use crate::protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::types::TopicName;

/// Answers with the topics asked for, or all, in the order of their names, from the cursor on, up to the
/// smaller of the client's limit and `max.request.partition.size.limit`.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: DescribeTopicPartitionsRequest = call.decode()?;
    let image = node.image();
    let wants_all = request.topics.is_empty();
    let names: BTreeSet<&str> = if wants_all {
        image.topics().iter().map(|topic| topic.name.as_str()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let cursor = request.cursor.as_ref().map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    let most = node.config().max_request_partition_size_limit;
    let limit =
        usize::try_from(request.response_partition_limit).map_or(most, |limit| limit.min(most)).max(1);
    Ok(call.reply(&page(node, &image, &names, cursor, limit)))
}

/// One page of at most `limit` partitions.
fn page(
    node: &Node,
    image: &Image,
    names: &BTreeSet<&str>,
    cursor: Option<(&str, i32)>,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for &name in names.range(cursor.map_or("", |(name, _)| name)..) {
        let first = cursor.filter(|(topic, _)| *topic == name).map_or(0, |(_, index)| index.max(0));
        let next = match image.topic(name) {
            _ if left == 0 => Some(0),
            None => {
                response.topics.push(unknown(name));
                None
            }
            Some(topic) => {
                let mut partitions = topic.partitions.range(first..);
                let taken = partitions.by_ref().take(left);
                let standings = Standings::of(node, image, topic);
                let described: Vec<_> = taken
                    .map(|(&index, partition)| {
                        describe(standings.partition(index, partition), index, partition)
                    })
                    .collect();
                left -= described.len();
                response.topics.push(topic_of(topic, described));
                partitions.next().map(|(&index, _)| index)
            }
        };
        if let Some(partition_index) = next {
            let topic_name = Str::from(name);
            response.next_cursor = Some(Cursor { topic_name, partition_index, ..Cursor::default() });
            break;
        }
    }
    response
}

fn topic_of(
    topic: &Topic,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        name: text(topic.name.as_str()),
        topic_id: topic.id,
        is_internal: topic.name.is_internal(),
        partitions,
        topic_authorized_operations: authorized::TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match TopicName::new(name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: text(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn describe(
    standing: Standing,
    partition_index: i32,
    partition: &PartitionRegistration,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: standing.error.code(),
        partition_index,
        leader_id: standing.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(partition.eligible_leader_replicas.clone()),
        last_known_elr: Some(partition.last_known_elr.clone()),
        offline_replicas: standing.offline_replicas,
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
