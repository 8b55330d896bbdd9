//! Reading a partition of `__consumer_offsets` from its log, in the background, a few at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::slot::Slot;
use crate::coordinator::{GroupLogError, Shard, replay};
use crate::protocol::ErrorCode;
use crate::replication::{Partition, PartitionError};
use crate::server::node::Node;
use crate::types::Offset;

/// How many partitions are read at a time, as in Kafka.
const AT_A_TIME: usize = 2;
/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// Why a partition could not be loaded.
#[derive(Debug, Error)]
enum LoadError {
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error(transparent)]
    Records(#[from] GroupLogError),
    #[error("the segment could not be read: {0}")]
    Read(#[from] std::io::Error),
}

/// Loads these: at once where nothing has been written yet, else in the background.
pub(super) fn load_all(node: &Arc<Node>, slots: Vec<Arc<Slot>>) {
    let (short, long): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| is_empty(&slot.partition));
    short.into_iter().for_each(|slot| load(node, &slot));
    in_background(node, long);
}

/// Loads these; whoever asks meanwhile is told so.
pub(super) fn in_background(node: &Arc<Node>, slots: Vec<Arc<Slot>>) {
    if slots.is_empty() {
        return;
    }
    let queue = Arc::new(Mutex::new(VecDeque::from(slots)));
    for _ in 0..AT_A_TIME {
        let (node, queue) = (Arc::clone(node), Arc::clone(&queue));
        spawn_blocking(move || {
            loop {
                let next = queue.lock().pop_front();
                let Some(slot) = next else { return };
                load(&node, &slot);
            }
        });
    }
}

fn is_empty(partition: &Partition) -> bool {
    partition.with_log(-1, |log| Ok(log.log_start_offset() == log.log_end_offset())).unwrap_or(false)
}

fn load(node: &Arc<Node>, slot: &Arc<Slot>) {
    let begun = node.clock.elapsed();
    match read(&slot.partition) {
        Ok((shard, end)) => {
            let groups = shard.group_count();
            slot.loaded(node, shard, end);
            if groups > 0 {
                let took_ms = (node.clock.elapsed().saturating_sub(begun)).as_millis();
                info!(partition = %slot.partition.id(), groups, took_ms, "groups are loaded");
            }
        }
        Err(error) => {
            error!(partition = %slot.partition.id(), "groups cannot be loaded: {error}");
            if let LoadError::Partition(error) = &error {
                node.note_failure(&slot.partition, error);
            }
            slot.failed(ErrorCode::NotCoordinator);
        }
    }
}

/// Everything that is in the log.
fn read(partition: &Partition) -> Result<(Shard, Offset), LoadError> {
    let mut shard = Shard::new();
    let mut next = partition.with_log(-1, |log| Ok(log.log_start_offset()))?;
    loop {
        let (slice, end) = partition.with_log(-1, |log| {
            let end = log.log_end_offset();
            Ok((log.read(next, end, READ_BYTES, true)?.into_slice(), end))
        })?;
        let Some(slice) = slice.filter(|slice| !slice.region.is_empty()) else {
            return Ok((shard, end.max(next)));
        };
        let bytes = slice.region.read()?;
        let after = replay(&mut shard, &bytes, next)?;
        if after == next {
            return Ok((shard, end.max(next)));
        }
        next = after;
    }
}
