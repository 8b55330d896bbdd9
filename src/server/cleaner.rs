//! The log cleaner: looks for the filthiest compacted log, cleans it, and rests when there is none.
//!
//! Up to `log.cleaner.threads` logs are cleaned at a time, each by one task whose work runs where it may block.
//! Nothing is taken, and no log is looked at, while no topic is compacted. A log whose cleaning fails for another
//! reason than the disk is left alone until the next start, with one line in the log. Settings that change act
//! with the next log, the rate at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::{debug, error, info, warn};

use super::node::Node;
use crate::config::CleanerConfig;
use crate::replication::Partition;
use crate::storage::cleaner::{
    CleanError, Cleaned, Cleaning, CleaningLimits, CompactionRules, Progress, Throttle,
};
use crate::storage::{Checkpoint, Dirtiness, StorageError};
use crate::types::Uuid;

/// Half a thread's share of `log.cleaner.io.buffer.size` is read at a time, within these bounds.
const BUFFER_BYTES: (u64, u64) = (16 << 10, 16 << 20);

/// What the cleaner of a broker knows.
struct Cleaner {
    node: Arc<Node>,
    throttle: Mutex<Throttle>,
    /// Topic id and number of the partitions that cannot be cleaned.
    uncleanable: Mutex<BTreeSet<(Uuid, i32)>>,
}

/// A log that is being cleaned.
struct Job {
    partition: Arc<Partition>,
    cleaning: Cleaning,
}

/// Why a job stopped working.
enum Pause {
    /// It has read and written as much as it may for now.
    Rest(Duration),
    Done(Cleaned),
    Failed(CleanError),
}

/// Runs until the broker stops; then what is under way is ended and cleared away.
pub async fn run(node: Arc<Node>) {
    let cleaner = Arc::new(Cleaner { node, throttle: Mutex::default(), uncleanable: Mutex::default() });
    let node = &cleaner.node;
    let mut running = JoinSet::new();
    loop {
        let config = node.config();
        while running.len() < threads(&config.cleaner) && node.partitions.compacts() {
            let finder = Arc::clone(&cleaner);
            match spawn_blocking(move || finder.grab_filthiest()).await {
                Ok(Some(job)) => drop(running.spawn(clean(Arc::clone(&cleaner), job))),
                Ok(None) => break,
                Err(error) => {
                    error!("the cleaner has panicked: {error}");
                    break;
                }
            }
        }
        let backoff = Duration::from_millis(u64::try_from(config.cleaner.backoff_ms).unwrap_or(0));
        tokio::select! {
            () = node.stopping() => break,
            Some(_) = running.join_next(), if !running.is_empty() => {}
            () = node.clock.wait(backoff.max(Duration::from_millis(1))) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

fn threads(config: &CleanerConfig) -> usize {
    if config.enable { config.threads } else { 0 }
}

async fn clean(cleaner: Arc<Cleaner>, job: Job) {
    let mut job = job;
    loop {
        let worker = Arc::clone(&cleaner);
        let worked = spawn_blocking(move || {
            let pause = worker.work(&mut job);
            (job, pause)
        });
        let pause = match worked.await {
            Ok((back, pause)) => {
                job = back;
                pause
            }
            Err(error) => return error!("the cleaner has panicked: {error}"),
        };
        if let Pause::Rest(rest) = pause {
            tokio::select! {
                () = cleaner.node.stopping() => {}
                () = cleaner.node.clock.wait(rest) => {}
            }
            continue;
        }
        let finisher = Arc::clone(&cleaner);
        let finished = spawn_blocking(move || match pause {
            Pause::Done(cleaned) => finisher.finish(&job.partition, &cleaned),
            Pause::Failed(error) => finisher.give_up(&mut job, &error),
            Pause::Rest(_) => {}
        });
        if let Err(error) = finished.await {
            error!("the cleaner has panicked: {error}");
        }
        return;
    }
}

impl Cleaner {
    /// Claims the log with the largest dirty share among those that are due.
    fn grab_filthiest(&self) -> Option<Job> {
        let mut due: Vec<(Arc<Partition>, Dirtiness)> = Vec::new();
        for partition in self.node.partitions.all() {
            let config = partition.config();
            let id = (partition.topic_id(), partition.id().partition);
            let is_uncleanable = || self.uncleanable.lock().contains(&id) || partition.is_moving();
            if !config.cleanup_policy.compact || is_uncleanable() {
                continue;
            }
            let rules = CompactionRules::from(&*config);
            let now_ms = self.node.clock.now_ms();
            let looked = partition.with_log(-1, |log| {
                let dirtiness = log.dirtiness(&rules, now_ms)?;
                Ok((!log.is_being_cleaned() && dirtiness.is_due(&rules)).then_some(dirtiness))
            });
            match looked {
                Ok(dirtiness) => due.extend(dirtiness.map(|dirtiness| (partition, dirtiness))),
                Err(error) => self.node.note_failure(&partition, &error),
            }
        }
        due.sort_by(|(_, one), (_, other)| other.ratio().total_cmp(&one.ratio()));
        due.into_iter().find_map(|(partition, _)| self.begin(partition))
    }

    fn begin(&self, partition: Arc<Partition>) -> Option<Job> {
        let config = self.node.config();
        let limits = limits(&config.cleaner);
        let rules = CompactionRules::from(&*partition.config());
        let now_ms = self.node.clock.now_ms();
        let mut secret = [0; 16];
        if let Err(error) = getrandom::fill(&mut secret) {
            error!("no randomness for the cleaner: {error}");
            return None;
        }
        let begun = partition.with_log(-1, |log| Ok(Cleaning::begin(log, &rules, &limits, secret, now_ms)?));
        match begun {
            // Asked once it is begun: a move that begins later ends it. Nothing is written yet.
            Ok(_) if partition.is_moving() => None,
            Ok(cleaning) => cleaning.map(|cleaning| Job { partition, cleaning }),
            Err(error) => {
                self.node.note_failure(&partition, &error);
                None
            }
        }
    }

    /// Works until there is a reason to stop.
    fn work(&self, job: &mut Job) -> Pause {
        loop {
            if *self.node.stopping.borrow() {
                return Pause::Failed(CleanError::Aborted);
            }
            match job.cleaning.work() {
                Ok(Progress::Worked(bytes)) => {
                    let rate = self.node.config().cleaner.io_max_bytes_per_second;
                    let rest = self.throttle.lock().rest(bytes, rate, self.node.clock.elapsed());
                    if !rest.is_zero() {
                        return Pause::Rest(rest);
                    }
                }
                Ok(Progress::NeedsLog) => {
                    match job.partition.with_log_alone(|log| job.cleaning.settle(log)) {
                        Ok(None) => {}
                        Ok(Some(cleaned)) => return Pause::Done(cleaned),
                        Err(error) => return Pause::Failed(error),
                    }
                }
                Err(error) => return Pause::Failed(error),
            }
        }
    }

    /// Notes how far the log is clean, and deletes what waited for the round's end.
    fn finish(&self, partition: &Partition, cleaned: &Cleaned) {
        info!(
            partition = %partition.id(),
            from = %cleaned.first_dirty_offset,
            to = %cleaned.cleaner_point,
            keys = cleaned.keys,
            "cleaned: {} records of {}, {} bytes of {}, {} segments of {}",
            cleaned.records_after,
            cleaned.records_before,
            cleaned.bytes_after,
            cleaned.bytes_before,
            cleaned.segments_after,
            cleaned.segments_before,
        );
        if cleaned.records_keyless > 0 {
            warn!(partition = %partition.id(), records = cleaned.records_keyless, "records without a key were dropped");
        }
        self.node.partitions.with_points(None, |points| {
            self.node.directories.write_checkpoint(Checkpoint::Cleaner, &points);
        });
        let now_ms = self.node.clock.now_ms();
        if let Err(error) = partition.with_log(-1, |log| Ok(log.apply_retention(now_ms)?)) {
            self.node.note_failure(partition, &error);
        }
    }

    fn give_up(&self, job: &mut Job, why: &CleanError) {
        let partition = &job.partition;
        partition.with_log_alone(|log| job.cleaning.abandon(log));
        match why {
            CleanError::Aborted => debug!(partition = %partition.id(), "cleaning aborted"),
            CleanError::Storage(StorageError::Offline(_)) => self.node.failures.look(),
            why => {
                warn!(partition = %partition.id(), "cannot be cleaned, and is left as it is until the next start: {why}");
                self.uncleanable.lock().insert((partition.topic_id(), partition.id().partition));
                self.node.failures.look();
            }
        }
    }
}

/// What one of the threads may take.
fn limits(config: &CleanerConfig) -> CleaningLimits {
    let threads = config.threads.max(1) as u64;
    let buffer_bytes = (config.io_buffer_bytes / threads / 2).clamp(BUFFER_BYTES.0, BUFFER_BYTES.1);
    CleaningLimits {
        key_map_bytes: config.dedupe_buffer_bytes / threads,
        key_map_load_factor: config.load_factor,
        buffer_bytes: buffer_bytes as usize,
    }
}
