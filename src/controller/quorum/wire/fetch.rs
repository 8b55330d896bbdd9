//! Fetch (1) of the metadata log, versions 12 and later.

use bytes::Bytes;

use crate::protocol::messages::fetch_request;
use crate::protocol::messages::fetch_response;
use crate::protocol::{ErrorCode, Records};
use crate::types::{LeaderEpoch, Offset};

use super::super::message::{Content, EpochEnd, Fetch, Fetched, Leadership, Response, SnapshotId};
use super::super::voters::ReplicaKey;
use super::{TOPIC, TOPIC_ID, code, id_of, leadership};

/// What is sent.
#[must_use]
pub fn request(fetch: &Fetch, cluster_id: &str) -> fetch_request::FetchRequest {
    let bytes_max = i32::try_from(fetch.bytes_max).unwrap_or(i32::MAX);
    let partition = fetch_request::FetchPartition {
        partition: 0,
        current_leader_epoch: fetch.epoch.0,
        fetch_offset: fetch.offset.0,
        last_fetched_epoch: fetch.last_fetched_epoch.0,
        partition_max_bytes: bytes_max,
        replica_directory_id: fetch.replica.directory_id,
        high_watermark: fetch.high_watermark.0,
        ..fetch_request::FetchPartition::default()
    };
    let topic = fetch_request::FetchTopic {
        topic: TOPIC.into(),
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..fetch_request::FetchTopic::default()
    };
    fetch_request::FetchRequest {
        cluster_id: Some(cluster_id.into()),
        replica_id: fetch.replica.id,
        replica_state: fetch_request::ReplicaState {
            replica_id: fetch.replica.id,
            ..fetch_request::ReplicaState::default()
        },
        max_wait_ms: i32::try_from(fetch.wait_ms_max).unwrap_or(i32::MAX),
        min_bytes: 0,
        max_bytes: bytes_max,
        topics: vec![topic],
        ..fetch_request::FetchRequest::default()
    }
}

/// What was asked, in this version of the request.
///
/// # Errors
/// INVALID_REQUEST.
pub fn asked(request: &fetch_request::FetchRequest, version: i16) -> Result<Fetch, ErrorCode> {
    let [topic] = &*request.topics else { return Err(ErrorCode::InvalidRequest) };
    let is_metadata = if version >= 13 { topic.topic_id == TOPIC_ID } else { &*topic.topic == TOPIC };
    let [partition] = &*topic.partitions else { return Err(ErrorCode::InvalidRequest) };
    if !is_metadata || partition.partition != 0 {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if partition.fetch_offset < 0 || partition.last_fetched_epoch < 0 || partition.current_leader_epoch < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    let replica_id = if version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    let bytes_max = partition.partition_max_bytes.min(request.max_bytes);
    Ok(Fetch {
        replica: ReplicaKey::new(replica_id, partition.replica_directory_id),
        epoch: LeaderEpoch(partition.current_leader_epoch),
        offset: Offset(partition.fetch_offset),
        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
        high_watermark: Offset(if version >= 18 { partition.high_watermark } else { i64::MAX }),
        bytes_max: usize::try_from(bytes_max).unwrap_or(0),
        wait_ms_max: i64::from(request.max_wait_ms.max(0)),
    })
}

/// The answer that refuses the request as a whole.
#[must_use]
pub fn refused(error: ErrorCode) -> fetch_response::FetchResponse {
    fetch_response::FetchResponse { error_code: error.code(), ..Default::default() }
}

/// The answer.
#[must_use]
pub fn response(fetched: Fetched) -> fetch_response::FetchResponse {
    let mut partition = fetch_response::PartitionData {
        partition_index: 0,
        error_code: fetched.error.code(),
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.high_watermark.0,
        log_start_offset: fetched.log_start_offset.0,
        current_leader: fetch_response::LeaderIdAndEpoch {
            leader_id: id_of(&fetched.leadership),
            leader_epoch: fetched.leadership.epoch.0,
            ..Default::default()
        },
        records: Some(Records::Inline(Bytes::new())),
        ..fetch_response::PartitionData::default()
    };
    match fetched.content {
        Content::Records(records) => partition.records = Some(Records::Inline(records)),
        Content::Diverging(end) => {
            partition.diverging_epoch = fetch_response::EpochEndOffset {
                epoch: end.epoch.0,
                end_offset: end.end_offset.0,
                ..Default::default()
            };
        }
        Content::Snapshot(snapshot) => {
            partition.snapshot_id = fetch_response::SnapshotId {
                end_offset: snapshot.end_offset.0,
                epoch: snapshot.epoch.0,
                ..Default::default()
            };
        }
    }
    let topic = fetch_response::FetchableTopicResponse {
        topic: TOPIC.into(),
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    fetch_response::FetchResponse {
        responses: vec![topic],
        node_endpoints: listing!(fetch_response, fetched.leadership),
        ..Default::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &fetch_response::FetchResponse) -> Response {
    let error = code(response.error_code);
    let partition = match &*response.responses {
        [topic] => topic.partitions.first().filter(|partition| partition.partition_index == 0),
        _ => None,
    };
    let Some(partition) = partition.filter(|_| error == ErrorCode::None) else {
        let error = if error == ErrorCode::None { ErrorCode::InvalidRequest } else { error };
        return Response::Fetch(Fetched::refusing(error, Leadership::default()));
    };
    let (diverging, snapshot) = (&partition.diverging_epoch, &partition.snapshot_id);
    let content = if diverging.epoch >= 0 {
        Content::Diverging(EpochEnd {
            epoch: LeaderEpoch(diverging.epoch),
            end_offset: Offset(diverging.end_offset),
        })
    } else if snapshot.end_offset >= 0 {
        let (end_offset, epoch) = (Offset(snapshot.end_offset), LeaderEpoch(snapshot.epoch));
        Content::Snapshot(SnapshotId { end_offset, epoch })
    } else {
        Content::Records(match &partition.records {
            Some(Records::Inline(bytes)) => bytes.clone(),
            _ => Bytes::new(),
        })
    };
    let leader = &partition.current_leader;
    Response::Fetch(Fetched {
        error: code(partition.error_code),
        leadership: leadership(
            leader.leader_id,
            leader.leader_epoch,
            listed!(response.node_endpoints, leader.leader_id),
        ),
        high_watermark: Offset(partition.high_watermark),
        log_start_offset: Offset(partition.log_start_offset),
        content,
    })
}
