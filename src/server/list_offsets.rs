//! ListOffsets (2), versions 1 to 11: the offset for a time, or one of Kafka's special times. Whoever leads a partition
//! answers; a debugger gets this broker's own copy, led or not.

use std::collections::HashSet;

use super::call::Call;
use super::error_map;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::replication::{Isolation, Partition, PartitionError};
use crate::storage::{Log, TimestampOffset};
use crate::types::{LeaderEpoch, Offset};

/// From this version on an answer names the leader epoch.
const LEADER_EPOCH_FROM: i16 = 4;

/// From this version on a client understands that an offset is not known yet.
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

/// Who asks.
#[derive(Clone, Copy)]
struct Reader {
    version: i16,
    isolation: Isolation,
    /// A follower or a debugger: all that is in the log counts.
    is_replica: bool,
    /// Whoever leads, this broker's copy is meant.
    is_debugger: bool,
}

/// The replica id of a debugger.
const DEBUGGER: i32 = -2;

/// The special times, and the first version that knows each.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: (i64, i16) = (-3, 7);
const EARLIEST_LOCAL: (i64, i16) = (-4, 8);
const LATEST_TIERED: (i64, i16) = (-5, 9);
const EARLIEST_PENDING_UPLOAD: (i64, i16) = (-6, 11);

/// What was found: timestamp, offset, leader epoch; each may be unknown.
type Found = Option<(i64, Offset, LeaderEpoch)>;

/// Answers for each partition.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    let request: ListOffsetsRequest = call.decode()?;
    let reader = Reader {
        version: call.version,
        isolation: if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted },
        is_replica: request.replica_id >= 0 || request.replica_id == DEBUGGER,
        is_debugger: request.replica_id == DEBUGGER,
    };
    let mut seen = HashSet::new();
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let answer = if seen.insert((topic.name.clone(), asked.partition_index)) {
                look_up(node, &topic.name, asked, reader)
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            partitions.push(response_of(asked.partition_index, answer, call.version));
        }
        response.topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
            ..ListOffsetsTopicResponse::default()
        });
    }
    Ok(call.reply(&response))
}

fn look_up(
    node: &Node,
    topic: &Str,
    asked: &ListOffsetsPartition,
    reader: Reader,
) -> Result<Found, ErrorCode> {
    check_special(asked.timestamp, reader.version)?;
    let partition = node.partition(topic, asked.partition_index)?;
    let epoch_start = partition.epoch_start();
    let look = |log: &mut Log| {
        let is_behind = !reader.is_replica && epoch_start.is_some_and(|start| start > log.high_watermark());
        Ok((offset_for(&partition, log, asked.timestamp, reader)?, is_behind))
    };
    let found = match reader.is_debugger {
        true => partition.with_log(asked.current_leader_epoch, look),
        false => partition.with_led_log(asked.current_leader_epoch, look),
    };
    let (found, is_behind) = found.map_err(|error| error_map::of_partition(&error))?;
    // A leader that has just been elected may not know yet how much of its log is committed.
    let depends_on_end = asked.timestamp == LATEST || (asked.timestamp != EARLIEST && found.is_none());
    match is_behind && depends_on_end {
        true if reader.version < OFFSET_NOT_AVAILABLE_FROM => Err(ErrorCode::LeaderNotAvailable),
        true => Err(ErrorCode::OffsetNotAvailable),
        false => Ok(found),
    }
}

fn check_special(timestamp: i64, version: i16) -> Result<(), ErrorCode> {
    let special = [MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD];
    let known = match timestamp {
        EARLIEST.. => true,
        other => special.iter().any(|(time, since)| *time == other && version >= *since),
    };
    if known { Ok(()) } else { Err(ErrorCode::UnsupportedVersion) }
}

fn offset_for(
    partition: &Partition,
    log: &mut Log,
    timestamp: i64,
    reader: Reader,
) -> Result<Found, PartitionError> {
    const NO_TIME: i64 = -1;
    let end = match reader.isolation {
        _ if reader.is_replica => log.log_end_offset(),
        Isolation::Uncommitted => log.high_watermark(),
        Isolation::Committed => log.last_stable_offset(),
    };
    let earliest = |offset: Offset, log: &Log| {
        (NO_TIME, offset, log.leader_epochs().epoch_of(offset).unwrap_or(LeaderEpoch::UNKNOWN))
    };
    Ok(match timestamp {
        LATEST => Some((NO_TIME, end, partition.leader_epoch())),
        EARLIEST => Some(earliest(log.log_start_offset(), log)),
        time if time == EARLIEST_LOCAL.0 => Some(earliest(log.local_log_start_offset(), log)),
        // There is no tiered storage here, hence nothing in it.
        time if time == LATEST_TIERED.0 || time == EARLIEST_PENDING_UPLOAD.0 => None,
        time if time == MAX_TIMESTAMP.0 => below(end, log.max_timestamp()?),
        time => below(end, log.offset_for_timestamp(time)?),
    })
}

/// A record that was found, unless readers may not see it yet.
fn below(end: Offset, found: Option<TimestampOffset>) -> Found {
    let found = found.filter(|found| found.offset < end)?;
    Some((found.timestamp_ms, found.offset, found.leader_epoch))
}

fn response_of(
    partition_index: i32,
    answer: Result<Found, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    };
    match answer {
        Err(code) => response.error_code = code.code(),
        Ok(None) => {}
        Ok(Some((timestamp_ms, offset, epoch))) => {
            response.timestamp = timestamp_ms;
            response.offset = offset.0;
            if version >= LEADER_EPOCH_FROM {
                response.leader_epoch = epoch.0;
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_times_are_known_from_their_version_on() {
        assert!(check_special(-1, 1).is_ok() && check_special(-2, 1).is_ok() && check_special(0, 1).is_ok());
        for (time, since) in [MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD] {
            assert!(check_special(time, since).is_ok());
            assert_eq!(check_special(time, since - 1), Err(ErrorCode::UnsupportedVersion));
        }
        assert_eq!(check_special(-7, 11), Err(ErrorCode::UnsupportedVersion));
    }
}
