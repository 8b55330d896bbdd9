//! FetchSnapshot (59).

use bytes::Bytes;

use crate::protocol::messages::fetch_snapshot_request as snapshot_request;
use crate::protocol::messages::fetch_snapshot_response as snapshot_response;
use crate::protocol::{ErrorCode, Records};
use crate::types::{LeaderEpoch, Offset};

use super::super::message::{FetchSnapshot, Leadership, Response, SnapshotId};
use super::super::voters::ReplicaKey;
use super::{TOPIC, code, id_of, leadership, only};

/// What is sent.
#[must_use]
pub fn request(fetch: &FetchSnapshot, cluster_id: &str) -> snapshot_request::FetchSnapshotRequest {
    let partition = snapshot_request::PartitionSnapshot {
        partition: 0,
        current_leader_epoch: fetch.epoch.0,
        snapshot_id: snapshot_request::SnapshotId {
            end_offset: fetch.snapshot.end_offset.0,
            epoch: fetch.snapshot.epoch.0,
            ..Default::default()
        },
        position: i64::try_from(fetch.position).unwrap_or(i64::MAX),
        replica_directory_id: fetch.replica.directory_id,
        ..Default::default()
    };
    let topic = snapshot_request::TopicSnapshot {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    snapshot_request::FetchSnapshotRequest {
        cluster_id: Some(cluster_id.into()),
        replica_id: fetch.replica.id,
        max_bytes: i32::try_from(fetch.bytes_max).unwrap_or(i32::MAX),
        topics: vec![topic],
        ..Default::default()
    }
}

/// What was asked.
///
/// # Errors
/// INVALID_REQUEST, or POSITION_OUT_OF_RANGE below 0.
pub fn asked(request: &snapshot_request::FetchSnapshotRequest) -> Result<FetchSnapshot, ErrorCode> {
    let partition = only(
        &request.topics,
        |topic| &topic.name,
        |topic| &topic.partitions,
        |partition| partition.partition,
    )?;
    let position = u64::try_from(partition.position).map_err(|_| ErrorCode::PositionOutOfRange)?;
    Ok(FetchSnapshot {
        replica: ReplicaKey::new(request.replica_id, partition.replica_directory_id),
        epoch: LeaderEpoch(partition.current_leader_epoch),
        snapshot: SnapshotId {
            end_offset: Offset(partition.snapshot_id.end_offset),
            epoch: LeaderEpoch(partition.snapshot_id.epoch),
        },
        position,
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
    })
}

/// The answer that refuses the request as a whole.
#[must_use]
pub fn refused(error: ErrorCode) -> snapshot_response::FetchSnapshotResponse {
    snapshot_response::FetchSnapshotResponse { error_code: error.code(), ..Default::default() }
}

/// The answer.
#[must_use]
pub fn response(
    error: ErrorCode,
    leadership: &Leadership,
    snapshot: SnapshotId,
    (size, position): (u64, u64),
    bytes: Bytes,
) -> snapshot_response::FetchSnapshotResponse {
    let partition = snapshot_response::PartitionSnapshot {
        index: 0,
        error_code: error.code(),
        snapshot_id: snapshot_response::SnapshotId {
            end_offset: snapshot.end_offset.0,
            epoch: snapshot.epoch.0,
            ..Default::default()
        },
        current_leader: snapshot_response::LeaderIdAndEpoch {
            leader_id: id_of(leadership),
            leader_epoch: leadership.epoch.0,
            ..Default::default()
        },
        size: i64::try_from(size).unwrap_or(i64::MAX),
        position: i64::try_from(position).unwrap_or(i64::MAX),
        unaligned_records: Some(Records::Inline(bytes)),
        ..Default::default()
    };
    let topic = snapshot_response::TopicSnapshot {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    snapshot_response::FetchSnapshotResponse {
        topics: vec![topic],
        node_endpoints: listing!(snapshot_response, leadership),
        ..Default::default()
    }
}

/// What was answered.
#[must_use]
pub fn answered(response: &snapshot_response::FetchSnapshotResponse) -> Response {
    let partition =
        only(&response.topics, |topic| &topic.name, |topic| &topic.partitions, |partition| partition.index);
    let none = SnapshotId { end_offset: Offset::UNKNOWN, epoch: LeaderEpoch::UNKNOWN };
    match (code(response.error_code), partition) {
        (ErrorCode::None, Ok(partition)) => {
            let leader = &partition.current_leader;
            Response::FetchSnapshot {
                error: code(partition.error_code),
                leadership: leadership(
                    leader.leader_id,
                    leader.leader_epoch,
                    listed!(response.node_endpoints, leader.leader_id),
                ),
                snapshot: SnapshotId {
                    end_offset: Offset(partition.snapshot_id.end_offset),
                    epoch: LeaderEpoch(partition.snapshot_id.epoch),
                },
                size: u64::try_from(partition.size).unwrap_or(0),
                position: u64::try_from(partition.position).unwrap_or(0),
                bytes: match &partition.unaligned_records {
                    Some(Records::Inline(bytes)) => bytes.clone(),
                    _ => Bytes::new(),
                },
            }
        }
        (error, partition) => Response::FetchSnapshot {
            error: partition.err().filter(|_| error == ErrorCode::None).unwrap_or(error),
            leadership: Leadership::default(),
            snapshot: none,
            size: 0,
            position: 0,
            bytes: Bytes::new(),
        },
    }
}
