//! The records of `__consumer_offsets`, as values: a key that says which group, and what is known of it, or
//! `None` (a tombstone) where it is forgotten. Keys start with the type, values with their version, each two
//! bytes, and are Kafka's to the letter.
//!
//! What share and streams groups wrote is kept out of the way: the log keeps it, memory only remembers that
//! the group is one of theirs.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::protocol::messages::consumer_group_current_member_assignment_key::ConsumerGroupCurrentMemberAssignmentKey;
use crate::protocol::messages::consumer_group_current_member_assignment_value::ConsumerGroupCurrentMemberAssignmentValue;
use crate::protocol::messages::consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey;
use crate::protocol::messages::consumer_group_member_metadata_value::ConsumerGroupMemberMetadataValue;
use crate::protocol::messages::consumer_group_metadata_key::ConsumerGroupMetadataKey;
use crate::protocol::messages::consumer_group_metadata_value::ConsumerGroupMetadataValue;
use crate::protocol::messages::consumer_group_partition_metadata_key::ConsumerGroupPartitionMetadataKey;
use crate::protocol::messages::consumer_group_partition_metadata_value::ConsumerGroupPartitionMetadataValue;
use crate::protocol::messages::consumer_group_regular_expression_key::ConsumerGroupRegularExpressionKey;
use crate::protocol::messages::consumer_group_regular_expression_value::ConsumerGroupRegularExpressionValue;
use crate::protocol::messages::consumer_group_target_assignment_member_key::ConsumerGroupTargetAssignmentMemberKey;
use crate::protocol::messages::consumer_group_target_assignment_member_value::ConsumerGroupTargetAssignmentMemberValue;
use crate::protocol::messages::consumer_group_target_assignment_metadata_key::ConsumerGroupTargetAssignmentMetadataKey;
use crate::protocol::messages::consumer_group_target_assignment_metadata_value::ConsumerGroupTargetAssignmentMetadataValue;
use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::group_metadata_value::GroupMetadataValue;
use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
use crate::protocol::messages::share_group_metadata_key::ShareGroupMetadataKey;
use crate::protocol::messages::streams_group_metadata_key::StreamsGroupMetadataKey;
use crate::protocol::{DecodeError, Decoder, EncodeError, Encoder, Message, Str};

/// Bytes of `__consumer_offsets` that are none of its records.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record without a key, or with one too short for a type.
    #[error("a record of __consumer_offsets has no whole key")]
    NoKey,
    /// A value too short for its version.
    #[error("a value of __consumer_offsets has no whole version")]
    NoVersion,
    /// What follows type or version is not the message that they announce.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

macro_rules! records {
    ($($variant:ident($key:ident, $value:ident) version $version:expr;)*) => {
        /// One record of `__consumer_offsets`.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names are Kafka's")]
        pub enum GroupRecord {
            $($variant($key, Option<$value>),)*
            /// A share or streams group is there, or is no longer.
            ForeignGroup {
                /// Whose it is.
                kind: ForeignKind,
                /// The group.
                group_id: Str,
                /// Whether it is there.
                exists: bool,
            },
            /// What is kept in the log and not in memory: details of share and streams groups, and types of a
            /// later Kafka.
            Unread {
                /// The type in the key.
                record_type: i16,
            },
        }

        $(
            impl From<($key, Option<$value>)> for GroupRecord {
                fn from((key, value): ($key, Option<$value>)) -> Self {
                    Self::$variant(key, value)
                }
            }
        )*

        impl GroupRecord {
            /// Reads what a record of the log says.
            ///
            /// # Errors
            /// [`RecordError`]: the bytes are no record of this topic.
            pub fn decode(key: Option<&Bytes>, value: Option<&Bytes>) -> Result<Self, RecordError> {
                let key = key.ok_or(RecordError::NoKey)?;
                let record_type = lead(key).ok_or(RecordError::NoKey)?;
                match record_type {
                    LEGACY_OFFSET_COMMIT => {
                        let key = read(key, 0)?;
                        Ok(Self::OffsetCommit(key, read_value(value)?))
                    }
                    $(<$key as Message>::TYPE => Ok(Self::$variant(read(key, 0)?, read_value(value)?)),)*
                    <ShareGroupMetadataKey as Message>::TYPE => {
                        let key: ShareGroupMetadataKey = read(key, 0)?;
                        let exists = value.is_some();
                        Ok(Self::ForeignGroup { kind: ForeignKind::Share, group_id: key.group_id, exists })
                    }
                    <StreamsGroupMetadataKey as Message>::TYPE => {
                        let key: StreamsGroupMetadataKey = read(key, 0)?;
                        let exists = value.is_some();
                        Ok(Self::ForeignGroup { kind: ForeignKind::Streams, group_id: key.group_id, exists })
                    }
                    record_type => Ok(Self::Unread { record_type }),
                }
            }

            /// The key and the value as the log has them.
            ///
            /// # Errors
            /// A field that its version cannot carry: a mistake of ours.
            pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
                match self {
                    $(Self::$variant(key, value) => {
                        let version: fn(&$value) -> i16 = $version;
                        let value = value.as_ref().map(|value| write(version(value), value, version(value)));
                        Ok((write(<$key as Message>::TYPE, key, 0)?, value.transpose()?))
                    })*
                    // Records of other groups are never written here.
                    Self::ForeignGroup { .. } | Self::Unread { .. } => Ok((Bytes::new(), None)),
                }
            }
        }
    };
}

/// A group of a type that is not coordinated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKind {
    /// A share group.
    Share,
    /// A streams group.
    Streams,
}

/// Kafka's first key of a committed offset; the fields are those of the second.
const LEGACY_OFFSET_COMMIT: i16 = 0;
/// The version that has a time of expiry, which only old clients set.
const OFFSET_WITH_EXPIRY: i16 = 1;
/// The version that has the topic's id.
const OFFSET_WITH_TOPIC_ID: i16 = 4;
/// The version of a classic group's value that Kafka 4.3 writes.
const GROUP_METADATA: i16 = 3;

records! {
    OffsetCommit(OffsetCommitKey, OffsetCommitValue) version |value| {
        if value.expire_timestamp == -1 { OFFSET_WITH_TOPIC_ID } else { OFFSET_WITH_EXPIRY }
    };
    GroupMetadata(GroupMetadataKey, GroupMetadataValue) version |_| GROUP_METADATA;
    ConsumerGroupMetadata(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue) version |_| 0;
    ConsumerGroupPartitionMetadata(ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue) version |_| 0;
    ConsumerGroupMemberMetadata(ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue) version |_| 0;
    ConsumerGroupTargetAssignmentMetadata(
        ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue
    ) version |_| 0;
    ConsumerGroupTargetAssignmentMember(
        ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue
    ) version |_| 0;
    ConsumerGroupCurrentMemberAssignment(
        ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue
    ) version |_| 0;
    ConsumerGroupRegularExpression(ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue) version |_| 0;
}

/// The two bytes that keys and values start with.
fn lead(bytes: &[u8]) -> Option<i16> {
    bytes.first_chunk::<2>().map(|lead| i16::from_be_bytes(*lead))
}

fn read<M: Message>(bytes: &Bytes, version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Decoder::new(bytes.slice(2..)), version)
}

fn read_value<M: Message>(value: Option<&Bytes>) -> Result<Option<M>, RecordError> {
    let Some(value) = value else { return Ok(None) };
    let version = lead(value).ok_or(RecordError::NoVersion)?;
    Ok(Some(read(value, version)?))
}

fn write<M: Message>(lead: i16, message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version)?;
    let body = encoder.into_bytes();
    let body = body.map_err(|fault| EncodeError { message: M::NAME, version, fault })?;
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    bytes.put_i16(lead);
    bytes.extend_from_slice(&body);
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_in_kafkas_versions() {
        let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 };
        let value = OffsetCommitValue { offset: 7, metadata: "m".into(), ..Default::default() };
        let record = GroupRecord::OffsetCommit(key.clone(), Some(value.clone()));
        let (written_key, written_value) = record.encode().unwrap();
        assert_eq!(lead(&written_key), Some(1));
        assert_eq!(lead(written_value.as_ref().unwrap()), Some(4));
        assert_eq!(GroupRecord::decode(Some(&written_key), written_value.as_ref()).unwrap(), record);
        let expiring = OffsetCommitValue { expire_timestamp: 5, ..value };
        let (_, written) = GroupRecord::OffsetCommit(key.clone(), Some(expiring)).encode().unwrap();
        assert_eq!(lead(written.as_ref().unwrap()), Some(1));
        let tombstone = GroupRecord::OffsetCommit(key, None);
        let (written_key, none) = tombstone.encode().unwrap();
        assert_eq!(none, None);
        assert_eq!(GroupRecord::decode(Some(&written_key), None).unwrap(), tombstone);
    }

    #[test]
    fn bytes_that_are_no_records_are_refused_and_later_types_passed_over() {
        assert_eq!(GroupRecord::decode(None, None), Err(RecordError::NoKey));
        assert_eq!(GroupRecord::decode(Some(&Bytes::from_static(b"\0")), None), Err(RecordError::NoKey));
        let later = Bytes::from_static(b"\x7f\x00rest");
        assert_eq!(GroupRecord::decode(Some(&later), None), Ok(GroupRecord::Unread { record_type: 0x7f00 }));
        let cut = Bytes::from_static(b"\0\x02\0\x09grou");
        assert!(matches!(GroupRecord::decode(Some(&cut), None), Err(RecordError::Malformed(_))));
    }
}
