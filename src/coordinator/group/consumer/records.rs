//! The records of a consumer group, as Kafka 4.3 writes them.

use crate::coordinator::assignor::Partitions;
use crate::coordinator::records::GroupRecord;
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_current_member_assignment_key::ConsumerGroupCurrentMemberAssignmentKey;
use crate::protocol::messages::consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey;
use crate::protocol::messages::consumer_group_metadata_key::ConsumerGroupMetadataKey;
use crate::protocol::messages::consumer_group_metadata_value::ConsumerGroupMetadataValue;
use crate::protocol::messages::consumer_group_partition_metadata_key::ConsumerGroupPartitionMetadataKey;
use crate::protocol::messages::consumer_group_regular_expression_key::ConsumerGroupRegularExpressionKey;
use crate::protocol::messages::consumer_group_regular_expression_value::ConsumerGroupRegularExpressionValue;
use crate::protocol::messages::consumer_group_target_assignment_member_key::ConsumerGroupTargetAssignmentMemberKey;
use crate::protocol::messages::consumer_group_target_assignment_member_value::{
    ConsumerGroupTargetAssignmentMemberValue, TopicPartition,
};
use crate::protocol::messages::consumer_group_target_assignment_metadata_key::ConsumerGroupTargetAssignmentMetadataKey;
use crate::protocol::messages::consumer_group_target_assignment_metadata_value::ConsumerGroupTargetAssignmentMetadataValue;

use super::member::Member;
use super::regex::Resolved;

pub(super) fn epoch(group_id: &Str, epoch: i32, metadata_hash: i64) -> GroupRecord {
    let value = ConsumerGroupMetadataValue { epoch, metadata_hash, ..Default::default() };
    GroupRecord::ConsumerGroupMetadata(epoch_key(group_id), Some(value))
}

pub(super) fn epoch_tombstone(group_id: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupMetadata(epoch_key(group_id), None)
}

fn epoch_key(group_id: &Str) -> ConsumerGroupMetadataKey {
    ConsumerGroupMetadataKey { group_id: group_id.clone() }
}

/// Older Kafkas recorded the topics' partitions; what they wrote is taken away.
pub(super) fn partition_metadata_tombstone(group_id: &Str) -> GroupRecord {
    let key = ConsumerGroupPartitionMetadataKey { group_id: group_id.clone() };
    GroupRecord::ConsumerGroupPartitionMetadata(key, None)
}

pub(super) fn member(group_id: &Str, member: &Member) -> GroupRecord {
    GroupRecord::ConsumerGroupMemberMetadata(member_key(group_id, &member.id), Some(member.description()))
}

pub(super) fn member_tombstone(group_id: &Str, member_id: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupMemberMetadata(member_key(group_id, member_id), None)
}

fn member_key(group_id: &Str, member_id: &Str) -> ConsumerGroupMemberMetadataKey {
    let (group_id, member_id) = (group_id.clone(), member_id.clone());
    ConsumerGroupMemberMetadataKey { group_id, member_id }
}

pub(super) fn target_epoch(group_id: &Str, epoch: i32, timestamp_ms: i64) -> GroupRecord {
    let value = ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: epoch,
        assignment_timestamp: timestamp_ms,
        ..Default::default()
    };
    GroupRecord::ConsumerGroupTargetAssignmentMetadata(target_epoch_key(group_id), Some(value))
}

pub(super) fn target_epoch_tombstone(group_id: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupTargetAssignmentMetadata(target_epoch_key(group_id), None)
}

fn target_epoch_key(group_id: &Str) -> ConsumerGroupTargetAssignmentMetadataKey {
    ConsumerGroupTargetAssignmentMetadataKey { group_id: group_id.clone() }
}

pub(super) fn target(group_id: &Str, member_id: &Str, partitions: &Partitions) -> GroupRecord {
    let topics = partitions.iter().map(|(topic_id, partitions)| TopicPartition {
        topic_id,
        partitions: partitions.to_vec(),
        ..TopicPartition::default()
    });
    let value =
        ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topics.collect(), ..Default::default() };
    GroupRecord::ConsumerGroupTargetAssignmentMember(target_key(group_id, member_id), Some(value))
}

pub(super) fn target_tombstone(group_id: &Str, member_id: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupTargetAssignmentMember(target_key(group_id, member_id), None)
}

fn target_key(group_id: &Str, member_id: &Str) -> ConsumerGroupTargetAssignmentMemberKey {
    let (group_id, member_id) = (group_id.clone(), member_id.clone());
    ConsumerGroupTargetAssignmentMemberKey { group_id, member_id }
}

pub(super) fn standing(group_id: &Str, member: &Member) -> GroupRecord {
    let key = standing_key(group_id, &member.id);
    GroupRecord::ConsumerGroupCurrentMemberAssignment(key, Some(member.standing()))
}

pub(super) fn standing_tombstone(group_id: &Str, member_id: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupCurrentMemberAssignment(standing_key(group_id, member_id), None)
}

fn standing_key(group_id: &Str, member_id: &Str) -> ConsumerGroupCurrentMemberAssignmentKey {
    let (group_id, member_id) = (group_id.clone(), member_id.clone());
    ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id }
}

pub(super) fn regex(group_id: &Str, regex: &Str, resolved: &Resolved) -> GroupRecord {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.to_vec(),
        version: resolved.version,
        timestamp: resolved.timestamp_ms,
        ..Default::default()
    };
    GroupRecord::ConsumerGroupRegularExpression(regex_key(group_id, regex), Some(value))
}

pub(super) fn regex_tombstone(group_id: &Str, regex: &Str) -> GroupRecord {
    GroupRecord::ConsumerGroupRegularExpression(regex_key(group_id, regex), None)
}

fn regex_key(group_id: &Str, regex: &Str) -> ConsumerGroupRegularExpressionKey {
    let (group_id, regular_expression) = (group_id.clone(), regex.clone());
    ConsumerGroupRegularExpressionKey { group_id, regular_expression }
}
