//! What a broker does by the clock: retention, `flush.ms`, checkpoints, the expiry of producers, removal of
//! deleted files, snapshots of the metadata. One task waits; the work itself runs where it may block.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::node::Node;
use crate::replication::Partition;
use crate::storage::{Checkpoint, LogPoint};

/// How often `flush.ms` is looked at where a topic sets it: Kafka's scheduler never runs unless told to.
const FLUSH_LOOK: Duration = Duration::from_millis(500);
/// How often the metadata log is looked at, as in Kafka: its retention, and snapshots by time.
const METADATA_LOOK: Duration = Duration::from_secs(60);
/// How long nothing waits for longer, so that a clock that jumps is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Retention,
    Flush,
    RecoveryPoints,
    LogStartOffsets,
    CleanerPoints,
    HighWatermarks,
    ProducerExpiry,
    Deletions,
    Metadata,
}

const JOBS: [Job; 9] = [
    Job::Retention,
    Job::Flush,
    Job::RecoveryPoints,
    Job::LogStartOffsets,
    Job::CleanerPoints,
    Job::HighWatermarks,
    Job::ProducerExpiry,
    Job::Deletions,
    Job::Metadata,
];

/// Runs until the broker begins to stop, and ends what it is at: nobody else writes when this returns.
pub async fn run(node: Arc<Node>) {
    let first = interval_ms(node.config().log_initial_task_delay_ms);
    let mut due = JOBS.map(|job| node.clock.elapsed() + first.min(interval(&node, job)));
    let mut written = Written::default();
    loop {
        let next = due.iter().min().copied().unwrap_or_default();
        let now = node.clock.elapsed();
        tokio::select! {
            () = node.clock.wait_until(next.min(now + LONGEST_WAIT)) => {}
            () = node.stopping() => return,
        }
        let now = node.clock.elapsed();
        for (due, job) in due.iter_mut().zip(JOBS).filter(|(_, job)| *job == Job::Deletions) {
            // What was deleted meanwhile may be due before anything that waited then.
            *due = (*due).min(now + interval(&node, job));
        }
        let mut ready = Vec::new();
        for (due, job) in due.iter_mut().zip(JOBS).filter(|(due, _)| **due <= now) {
            *due = now + interval(&node, job);
            if job != Job::Flush || node.partitions.flushes_by_time() {
                ready.push(job);
            }
        }
        if ready.is_empty() {
            continue;
        }
        let worker = Arc::clone(&node);
        let done = spawn_blocking(move || {
            ready.into_iter().for_each(|job| work(&worker, job, &mut written));
            worker.failures.look_again();
            written
        });
        written = match done.await {
            Ok(written) => written,
            Err(error) => {
                error!("housekeeping failed: {error}");
                Written::default()
            }
        };
    }
}

/// What the checkpoints hold, so that an idle broker writes none.
#[derive(Debug, Default)]
struct Written {
    recovery_points: Vec<LogPoint>,
    log_start_offsets: Vec<LogPoint>,
    cleaner_points: Vec<LogPoint>,
    high_watermarks: Vec<LogPoint>,
}

fn interval_ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn interval(node: &Node, job: Job) -> Duration {
    let config = node.config();
    let ms = match job {
        Job::Retention => config.log_retention_check_interval_ms,
        Job::Flush => return interval_ms(config.log_flush_scheduler_interval_ms).min(FLUSH_LOOK),
        Job::RecoveryPoints => config.log_flush_offset_checkpoint_interval_ms,
        Job::LogStartOffsets | Job::CleanerPoints => config.log_flush_start_offset_checkpoint_interval_ms,
        Job::HighWatermarks => config.replica_high_watermark_checkpoint_interval_ms,
        Job::ProducerExpiry => config.producer_id_expiration_check_interval_ms,
        Job::Deletions => return deletions_due(node),
        Job::Metadata => return METADATA_LOOK,
    };
    interval_ms(ms)
}

fn deletions_due(node: &Node) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    let directories = node.directories.all().iter();
    let next = directories.filter_map(|directory| directory.home().deletions.next_due_ms()).min();
    next.map_or(LONGEST_WAIT, |due_ms| {
        interval_ms(due_ms - node.clock.now_ms()).clamp(SHORTEST, LONGEST_WAIT)
    })
}

fn work(node: &Node, job: Job, written: &mut Written) {
    let now_ms = node.clock.now_ms();
    match job {
        Job::Retention => retain_all(node, now_ms, written),
        Job::Flush => {
            node.partitions.all().iter().for_each(|partition| flush_if_due(node, partition, now_ms));
        }
        Job::RecoveryPoints => checkpoint(node, Checkpoint::RecoveryPoint, &mut written.recovery_points),
        Job::LogStartOffsets => checkpoint(node, Checkpoint::LogStartOffset, &mut written.log_start_offsets),
        Job::CleanerPoints => checkpoint(node, Checkpoint::Cleaner, &mut written.cleaner_points),
        Job::HighWatermarks => checkpoint(node, Checkpoint::HighWatermark, &mut written.high_watermarks),
        Job::ProducerExpiry => {
            for partition in node.partitions.all() {
                partition.with_log_anyway(|log| log.expire_producers(now_ms));
            }
        }
        Job::Deletions => {
            node.directories.tick(now_ms);
        }
        Job::Metadata => node.controller.maintain(),
    }
}

/// Log starts are moved, then they are written down, and only then files go: see [`Log::retire`].
///
/// [`Log::retire`]: crate::storage::Log::retire
fn retain_all(node: &Node, now_ms: i64, written: &mut Written) {
    let mut due = Vec::new();
    for partition in node.partitions.all() {
        match partition.with_log(-1, |log| Ok(log.retire(now_ms)?)) {
            Ok(true) => due.push(partition),
            Ok(false) => {}
            Err(error) => node.note_failure(&partition, &error),
        }
    }
    if !due.is_empty() {
        checkpoint(node, Checkpoint::LogStartOffset, &mut written.log_start_offsets);
    }
    due.iter().for_each(|partition| delete_retired(node, partition, now_ms));
}

fn delete_retired(node: &Node, partition: &Partition, now_ms: i64) {
    match partition.with_log(-1, |log| Ok(log.delete_retired(now_ms)?)) {
        Ok(deleted) if deleted.segments > 0 => {
            info!(partition = %partition.id(), segments = deleted.segments, "deleted by retention");
        }
        Ok(_) => {}
        Err(error) => node.note_failure(partition, &error),
    }
}

fn flush_if_due(node: &Node, partition: &Arc<Partition>, now_ms: i64) {
    if partition.with_log(-1, |log| Ok(log.is_flush_due(now_ms))).unwrap_or(false) {
        node.flusher.enqueue(partition);
    }
}

fn checkpoint(node: &Node, kind: Checkpoint, written: &mut Vec<LogPoint>) {
    node.partitions.with_points(None, |points| {
        if points != *written {
            node.directories.write_checkpoint(kind, &points);
            *written = points;
        }
    });
}
