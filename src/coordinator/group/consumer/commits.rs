//! Which offsets a member of a consumer group may commit and fetch.

use crate::metadata::Image;
use crate::protocol::messages::offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestTopic};
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::ConsumerGroup;
use super::member::Member;

/// The first version of OffsetCommit that members of the consumer protocol may use.
const FIRST_VERSION_WITH_EPOCHS: i16 = 9;

impl ConsumerGroup {
    /// Whether these offsets may be committed, all of them. A commit that was under way while its member came to
    /// a newer epoch is taken for partitions that the member has had all the time. Who is no member may commit
    /// while the group is empty.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn check_offset_commit(
        &self,
        image: &Image,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.classic.is_none() && version < FIRST_VERSION_WITH_EPOCHS {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if epoch == member.epoch {
            return Ok(());
        }
        let had = |topic: &OffsetCommitRequestTopic| {
            let id = topic_id(topic, image);
            topic.partitions.iter().all(|partition| member.has_had(id, partition.partition_index, epoch))
        };
        if epoch < member.epoch && request.topics.iter().all(had) { Ok(()) } else { Err(member.stale()) }
    }

    /// Whether offsets may be fetched.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn check_offset_fetch(&self, member_id: Option<&Str>, member_epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && member_epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|member_id| self.members.get(member_id));
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == member_epoch { Ok(()) } else { Err(member.stale()) }
    }
}

impl Member {
    /// Whether it has had this partition since this epoch, and still has it or has yet to give it back.
    fn has_had(&self, topic: Uuid, partition: i32, epoch: i32) -> bool {
        let assigned = self.assigned.epoch_of(topic, partition);
        let since = assigned.or_else(|| self.pending_revocation.epoch_of(topic, partition));
        since.is_some_and(|since| epoch >= since)
    }

    /// The code for an epoch that is not its own.
    fn stale(&self) -> ErrorCode {
        if self.classic.is_some() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
    }
}

/// Older versions name the topic only.
fn topic_id(topic: &OffsetCommitRequestTopic, image: &Image) -> Uuid {
    if topic.topic_id.is_zero() {
        image.topic(&topic.name).map(|topic| topic.id).unwrap_or_default()
    } else {
        topic.topic_id
    }
}
