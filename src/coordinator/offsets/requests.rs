//! OffsetCommit, OffsetFetch, OffsetDelete. That topics exist was checked by whoever asks.

use crate::coordinator::exchange::Refusal;
use crate::coordinator::group::{ClassicState, Group};
use crate::coordinator::partition::is_group_id;
use crate::coordinator::records::{ForeignKind, GroupRecord};
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::metadata::Image;
use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequest;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::Committed;

/// From this version of OffsetCommit on a group that is not there is told from a generation that is not.
const GROUP_NOT_FOUND_FROM: i16 = 9;
/// "As the broker's configuration says."
const DEFAULT_RETENTION: i64 = -1;
/// About what a record of an offset takes beside its texts.
const RECORD_OVERHEAD: usize = 64;

impl State {
    /// OffsetCommit: all of it, or per partition what is wrong with its note.
    pub(in crate::coordinator) fn commit_offsets(
        &mut self,
        step: &mut Step<'_>,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        let refused = match self.check_commit(step.image, version, request) {
            Err(code) => code,
            Ok(()) if commit_size(request) > step.record_bytes_max => ErrorCode::InvalidCommitOffsetSize,
            Ok(()) => ErrorCode::None,
        };
        if refused.is_ok()
            && let Some(Group::Classic(group)) = self.groups.get(&request.group_id)
            && matches!(group.state, ClassicState::Stable | ClassicState::PreparingRebalance)
        {
            group.renew_session(step, &request.member_id);
        }
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let code = match refused {
                    ErrorCode::None => self.commit_offset(step, request, topic, partition),
                    refused => refused,
                };
                OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                    ..OffsetCommitResponsePartition::default()
                }
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..OffsetCommitResponseTopic::default()
            }
        });
        let topics = topics.collect();
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    }

    fn check_commit(
        &self,
        image: &Image,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let (instance_id, generation) =
            (request.group_instance_id.as_ref(), request.generation_id_or_member_epoch);
        match self.groups.get(&request.group_id) {
            Some(Group::Classic(group)) => {
                group.check_offset_commit(&request.member_id, instance_id, generation)
            }
            Some(Group::Consumer(group)) => group.check_offset_commit(image, version, request),
            Some(Group::Foreign(ForeignKind::Share | ForeignKind::Streams)) => {
                Err(ErrorCode::GroupIdNotFound)
            }
            // Whoever only commits brings a group along.
            None if generation < 0 => Ok(()),
            None if version >= GROUP_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn commit_offset(
        &mut self,
        step: &mut Step<'_>,
        request: &OffsetCommitRequest,
        topic: &OffsetCommitRequestTopic,
        partition: &OffsetCommitRequestPartition,
    ) -> ErrorCode {
        let metadata = partition.committed_metadata.clone().unwrap_or_default();
        // Kafka counts Java's characters, UTF-16 units.
        if metadata.len() > step.settings.offset_metadata_max_bytes
            && metadata.encode_utf16().count() > step.settings.offset_metadata_max_bytes
        {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        let now_ms = step.now.wall_ms;
        let key = OffsetCommitKey {
            group: request.group_id.clone(),
            topic: topic.name.clone(),
            partition: partition.partition_index,
        };
        let value = OffsetCommitValue {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata,
            commit_timestamp: now_ms,
            expire_timestamp: match request.retention_time_ms {
                DEFAULT_RETENTION => -1,
                retention_ms => now_ms.saturating_add(retention_ms),
            },
            topic_id: topic.topic_id,
            ..OffsetCommitValue::default()
        };
        self.write(step, GroupRecord::OffsetCommit(key, Some(value)));
        ErrorCode::None
    }

    /// OffsetFetch of one group.
    pub(in crate::coordinator) fn fetch_offsets(
        &self,
        group: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let mut response = OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            ..OffsetFetchResponseGroup::default()
        };
        let is_readable = match self.groups.get(&group.group_id) {
            Some(Group::Consumer(known)) => {
                if let Err(code) = known.check_offset_fetch(group.member_id.as_ref(), group.member_epoch) {
                    response.error_code = code.code();
                    return response;
                }
                true
            }
            Some(Group::Classic(known)) => known.state != ClassicState::Dead,
            Some(Group::Foreign(_)) | None => false,
        };
        let Some(asked) = &group.topics else {
            if is_readable {
                response.topics = self.all_offsets(&group.group_id, require_stable);
            }
            return response;
        };
        let topics = asked.iter().map(|topic| OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| {
                    let found = self.offsets.get(&group.group_id, &topic.name, *index);
                    let found = found.filter(|it| is_readable && is_of_topic(it, topic.topic_id));
                    self.fetched(&group.group_id, &topic.name, *index, found, require_stable)
                })
                .collect(),
            ..OffsetFetchResponseTopics::default()
        });
        response.topics = topics.collect();
        response
    }

    fn all_offsets(&self, group_id: &Str, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
        let topics = self.offsets.of_group(group_id).into_iter().flatten();
        topics
            .map(|(topic, partitions)| OffsetFetchResponseTopics {
                name: topic.clone(),
                partitions: partitions
                    .iter()
                    .map(|(index, committed)| {
                        self.fetched(group_id, topic, *index, Some(committed), require_stable)
                    })
                    .collect(),
                ..OffsetFetchResponseTopics::default()
            })
            .collect()
    }

    fn fetched(
        &self,
        group_id: &Str,
        topic: &Str,
        partition_index: i32,
        committed: Option<&Committed>,
        require_stable: bool,
    ) -> OffsetFetchResponsePartitions {
        let mut fetched = OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(Str::empty()),
            ..OffsetFetchResponsePartitions::default()
        };
        if require_stable && self.offsets.is_pending(group_id, topic, partition_index) {
            fetched.error_code = ErrorCode::UnstableOffsetCommit.code();
        } else if let Some(committed) = committed {
            fetched.committed_offset = committed.offset;
            fetched.committed_leader_epoch = committed.leader_epoch;
            fetched.metadata = Some(committed.metadata.clone());
        }
        fetched
    }

    /// OffsetDelete: offsets of topics that nobody in the group reads.
    pub(in crate::coordinator) fn delete_offsets(
        &mut self,
        step: &mut Step<'_>,
        request: &OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        if let Err(refusal) = self.check_delete(&request.group_id) {
            return OffsetDeleteResponse {
                error_code: refusal.code.code(),
                ..OffsetDeleteResponse::default()
            };
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let group = self.groups.get(&request.group_id);
            let is_read = group.is_some_and(|group| group.is_subscribed_to(&topic.name));
            let code = if is_read { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                if !is_read && self.offsets.get(&request.group_id, &topic.name, index).is_some() {
                    let tombstone = super::tombstone(&request.group_id, &topic.name, index);
                    self.write(step, tombstone);
                }
                partitions
                    .push(OffsetDeleteResponsePartition { partition_index: index, error_code: code.code() });
            }
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
    }

    fn check_delete(&self, group_id: &Str) -> Result<(), Refusal> {
        match self.groups.get(group_id) {
            _ if !is_group_id(group_id) => Err(ErrorCode::InvalidGroupId.into()),
            None | Some(Group::Foreign(_)) => Err(ErrorCode::GroupIdNotFound.into()),
            Some(Group::Classic(group)) => match group.state {
                ClassicState::Dead => Err(ErrorCode::GroupIdNotFound.into()),
                ClassicState::Empty => Ok(()),
                _ if group.is_of_consumers() => Ok(()),
                _ => Err(ErrorCode::NonEmptyGroup.into()),
            },
            Some(Group::Consumer(_)) => Ok(()),
        }
    }
}

/// Whether an offset was committed for the topic that is asked about, as far as both are known.
fn is_of_topic(committed: &Committed, topic_id: Uuid) -> bool {
    committed.topic_id.is_zero() || topic_id.is_zero() || committed.topic_id == topic_id
}

/// About how many bytes the records of a commit take.
fn commit_size(request: &OffsetCommitRequest) -> usize {
    let topic = |topic: &OffsetCommitRequestTopic| {
        let partition = |partition: &OffsetCommitRequestPartition| {
            let note = partition.committed_metadata.as_ref().map_or(0, |note| note.len());
            RECORD_OVERHEAD + request.group_id.len() + topic.name.len() + note
        };
        topic.partitions.iter().map(partition).sum::<usize>()
    };
    RECORD_OVERHEAD + request.topics.iter().map(topic).sum::<usize>()
}
