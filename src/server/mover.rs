//! Carries out moves of partitions between log directories: one after the other, at
//! `replica.alter.log.dirs.io.max.bytes.per.second` at most.
//!
//! The order at the end is what survives a kill at any point: the copy is complete and synced, the metadata log
//! says where the replica will be, then the future folder gets the partition's name, and only then the old one
//! is put away. A start that finds a future folder goes on copying; one that finds the partition twice takes the
//! log that the metadata names.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::node::Node;

use crate::metadata::ReplicaDirectory;
use crate::protocol::ErrorCode;
use crate::replication::Partition;
use crate::storage::{Checkpoint, StorageError};

/// How much is copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The partitions that are to be moved.
#[derive(Default)]
pub struct Mover {
    queue: Mutex<VecDeque<Arc<Partition>>>,
    filled: Notify,
}

/// How a step of a move ended.
enum Step {
    /// More is to be copied, after so long.
    Rest(Duration),
    /// All that was there a moment ago is copied.
    Near,
    /// Somebody gave it up.
    Gone,
}

impl Mover {
    /// Has a partition whose move has begun moved in its turn.
    pub fn enqueue(&self, partition: &Arc<Partition>) {
        self.queue.lock().push_back(Arc::clone(partition));
        self.filled.notify_one();
    }

    fn next(&self) -> Option<Arc<Partition>> {
        self.queue.lock().pop_front()
    }
}

/// Runs until the broker stops, and ends after the step that is under way: the rest of its move goes on at the
/// next start.
pub async fn run(node: Arc<Node>) {
    let resumed = node.partitions.all().into_iter().filter(|it| it.future_directory().is_some());
    resumed.for_each(|partition| node.mover.enqueue(&partition));
    loop {
        while let Some(partition) = node.mover.next() {
            carry_out(&node, &partition).await;
            if *node.stopping.borrow() {
                return;
            }
        }
        tokio::select! {
            () = node.mover.filled.notified() => {}
            () = node.stopping() => return,
        }
    }
}

fn assignment(node: &Node, partition: &Partition) -> Option<ReplicaDirectory> {
    let directory = node.directories.at(&partition.directory())?.id()?;
    Some(ReplicaDirectory { topic_id: partition.topic_id(), partition: partition.id().partition, directory })
}

/// Moves one partition, or says why it stays.
async fn carry_out(node: &Arc<Node>, partition: &Arc<Partition>) {
    let begun = node.clock.elapsed();
    match copy_and_swap(node, partition).await {
        Ok(true) => {
            let took_ms = (node.clock.elapsed() - begun).as_millis();
            let directory = partition.directory();
            info!(partition = %partition.id(), "moved to {} in {took_ms} ms", directory.display());
        }
        Ok(false) => {}
        Err(error) => {
            error!(partition = %partition.id(), "cannot be moved to another directory: {error}");
            node.failures.look();
            if let Some(mut future) = partition.cancel_move()
                && let Err(error) = node.partitions.remove_log(&mut future)
            {
                warn!(partition = %partition.id(), "its unfinished copy cannot be removed: {error}");
            }
        }
    }
}

/// `false` where the move was given up meanwhile.
async fn copy_and_swap(node: &Arc<Node>, partition: &Arc<Partition>) -> Result<bool, StorageError> {
    loop {
        let (worker, moved) = (Arc::clone(node), Arc::clone(partition));
        match blocking(move || copy(&worker, &moved)).await? {
            Step::Rest(rest) => tokio::select! {
                () = node.clock.wait(rest) => {}
                () = node.stopping() => return Ok(false),
            },
            Step::Near => break,
            Step::Gone => return Ok(false),
        }
    }
    let target = partition.future_directory().and_then(|path| node.directories.at(&path)?.id());
    let Some(directory) = target else { return Ok(false) };
    let here = assignment(node, partition);
    let there =
        ReplicaDirectory { topic_id: partition.topic_id(), partition: partition.id().partition, directory };
    let assigned = node.controller.assign_directories(vec![there]).await;
    assigned.map_err(|code: ErrorCode| StorageError::Refused(code.message().to_owned()))?;
    let (worker, moved) = (Arc::clone(node), Arc::clone(partition));
    let swapped = blocking(move || swap(&worker, &moved)).await;
    if let (Err(_) | Ok(false), Some(here)) = (&swapped, here) {
        // It stays where it was; where that cannot be written down, the next start sees it.
        let _ = node.controller.assign_directories(vec![here]).await;
    }
    swapped
}

fn copy(node: &Node, partition: &Partition) -> Result<Step, StorageError> {
    loop {
        let Some(copied) = partition.copy_to_future(PIECE_BYTES, node.clock.now_ms())? else {
            return Ok(Step::Gone);
        };
        if copied.lag == 0 {
            // What comes from now on is copied under the partition's locks, where there is then little to sync.
            partition.flush_future()?;
            return Ok(Step::Near);
        }
        let rest = rest_after(copied.bytes, node.config().alter_log_dirs_max_bytes_per_second);
        if !rest.is_zero() || *node.stopping.borrow() {
            return Ok(Step::Rest(rest));
        }
    }
}

/// How long `bytes` take at that rate; nothing below a millisecond.
fn rest_after(bytes: usize, bytes_per_second: i64) -> Duration {
    let rate = u64::try_from(bytes_per_second).unwrap_or(0).max(1);
    Duration::from_millis(bytes as u64 * 1_000 / rate)
}

fn swap(node: &Node, partition: &Partition) -> Result<bool, StorageError> {
    let now_ms = node.clock.now_ms();
    let finished = node.partitions.with_points(Some(partition), |mut points| {
        partition.finish_move(now_ms, |point| {
            // What lies before the log's start must not come back with a start that follows a kill here.
            if let Some(directory) = node.directories.at(&point.directory) {
                points.push(point);
                // A failure is the directory's, and the rename meets it.
                let _ = directory.write_checkpoint(Checkpoint::LogStartOffset, &points);
            }
        })
    });
    let Some(mut before) = finished? else { return Ok(false) };
    if let Err(error) = node.partitions.remove_log(&mut before) {
        error!(partition = %partition.id(), "the log that it has left cannot be removed: {error}");
        node.failures.look();
    }
    node.partitions.with_points(None, |points| {
        Checkpoint::ALL.into_iter().for_each(|kind| node.directories.write_checkpoint(kind, &points));
    });
    Ok(true)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(StorageError::Refused(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_by_resting() {
        assert_eq!(rest_after(1 << 20, i64::MAX), Duration::ZERO);
        assert_eq!(rest_after(1 << 20, 1 << 20), Duration::from_secs(1));
        assert_eq!(rest_after(5, 0), Duration::from_secs(5));
    }
}
