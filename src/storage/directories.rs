//! All log directories of one broker.
//!
//! The first holds the metadata log. A directory that cannot be locked, or is another's, stops the start; one
//! whose disk fails is offline, and the others go on. Nothing here runs by itself: the caller plans, opens the
//! logs on as many threads as it likes, writes checkpoints and calls [`LogDirectories::tick`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::MetaProperties;
use super::directory::{Checkpoint, DirectoryError, LogDirectory, LogPoint, PlannedLog};
use super::disk::{Disk, raise_open_files_limit};
use super::error::StorageError;
use super::log::Log;
use super::options::LogOptions;
use crate::types::{TopicPartition, Uuid};

/// See the module.
#[derive(Debug)]
pub struct LogDirectories {
    directories: Vec<Arc<LogDirectory>>,
    failed: Vec<(PathBuf, StorageError)>,
}

impl LogDirectories {
    /// Locks and reads all of them. Those whose disk fails are in [`LogDirectories::failed`]. Raises the process's
    /// limit of open files to what it may be.
    ///
    /// # Errors
    /// One is locked by another broker, has a `meta.properties` that is none, or all have failed.
    pub fn open(disk: &Arc<dyn Disk>, paths: &[PathBuf]) -> Result<Self, DirectoryError> {
        tracing::debug!(limit = raise_open_files_limit(), "open files");
        let mut directories = Vec::with_capacity(paths.len());
        let mut failed = Vec::new();
        for path in paths {
            match LogDirectory::open(disk, path) {
                Ok(directory) => directories.push(directory),
                Err(DirectoryError::Storage(error)) if paths.len() > 1 => {
                    tracing::error!(directory = %path.display(), %error, "log directory is offline");
                    failed.push((path.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        match (directories.is_empty(), failed.pop()) {
            (true, Some((_, error))) => Err(error.into()),
            (_, last) => {
                failed.extend(last);
                Ok(Self { directories, failed })
            }
        }
    }

    /// Those that were opened, in the order given; see [`LogDirectory::health`].
    #[must_use]
    pub fn all(&self) -> &[Arc<LogDirectory>] {
        &self.directories
    }

    /// Those that could not be opened.
    #[must_use]
    pub fn failed(&self) -> &[(PathBuf, StorageError)] {
        &self.failed
    }

    /// The directory at `path`.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Arc<LogDirectory>> {
        self.directories.iter().find(|directory| directory.path() == path)
    }

    /// The directory that a log is in.
    #[must_use]
    pub fn of(&self, log: &Log) -> Option<&Arc<LogDirectory>> {
        log.folder().parent().and_then(|path| self.at(path))
    }

    /// Checks that all directories belong to this node of this cluster and have ids of their own; then takes
    /// their clean marks away and gives those that are new a `meta.properties`. Nothing is written before all
    /// of them were checked.
    ///
    /// # Errors
    /// `Foreign`, or the disk failed.
    pub fn claim(
        &self,
        cluster_id: &str,
        node_id: i32,
        mut new_directory_id: impl FnMut() -> Uuid,
    ) -> Result<(), DirectoryError> {
        let mut ids: Vec<Uuid> = Vec::new();
        let mut claimed = Vec::with_capacity(self.directories.len());
        for directory in &self.directories {
            let meta = directory.meta().unwrap_or(MetaProperties {
                version: 1,
                cluster_id: None,
                node_id: None,
                directory_id: None,
            });
            let foreign = |what, found: String, expected: String| {
                Err(DirectoryError::Foreign { path: directory.path().to_owned(), what, found, expected })
            };
            match (&meta.cluster_id, meta.node_id) {
                (Some(found), _) if found != cluster_id => {
                    return foreign("cluster.id", found.clone(), cluster_id.to_owned());
                }
                (_, Some(found)) if found != node_id => {
                    return foreign("node.id", found.to_string(), node_id.to_string());
                }
                _ => {}
            }
            let directory_id = meta.directory_id.unwrap_or_else(&mut new_directory_id);
            if ids.contains(&directory_id) {
                let own = "an id of its own: the directory is a copy of another".to_owned();
                return foreign("directory.id", directory_id.to_string(), own);
            }
            ids.push(directory_id);
            let complete = MetaProperties {
                version: 1,
                cluster_id: Some(cluster_id.to_owned()),
                node_id: Some(node_id),
                directory_id: Some(directory_id),
            };
            claimed.push((directory, complete));
        }
        for (directory, complete) in claimed {
            directory.take_clean_mark()?;
            if directory.meta().as_ref() != Some(&complete) {
                directory.write_meta(complete)?;
            }
        }
        Ok(())
    }

    /// The broker epoch of the last run, where all directories were left clean by the same; else `None`.
    #[must_use]
    pub fn clean_broker_epoch(&self) -> Option<i64> {
        let mut epochs = self.directories.iter().map(|directory| directory.clean_broker_epoch());
        let first = epochs.next()??;
        epochs.all(|epoch| epoch == Some(first)).then_some(first)
    }

    /// All logs that were found, to be opened. A partition that is in two directories is an error: nobody can
    /// say which is right.
    ///
    /// # Errors
    /// A partition was found twice. A directory whose disk fails is offline, and none of its logs is planned.
    pub fn plan(&self, now_ms: i64) -> Result<Vec<PlannedLog>, StorageError> {
        self.plan_assigned(now_ms, |_| None, &mut || Uuid::ZERO)
    }

    /// As [`LogDirectories::plan`]; where a partition is in two directories, the one that it is `assigned` to
    /// counts: a move between the two was all but over. The other log is put away.
    ///
    /// # Errors
    /// A partition was found twice, and neither log is where it should be.
    pub fn plan_assigned(
        &self,
        now_ms: i64,
        assigned: impl Fn(&TopicPartition) -> Option<Uuid>,
        draw_id: &mut dyn FnMut() -> Uuid,
    ) -> Result<Vec<PlannedLog>, StorageError> {
        let mut planned: Vec<PlannedLog> = Vec::new();
        for directory in &self.directories {
            match directory.plan(now_ms) {
                Ok(found) => planned.extend(found),
                Err(error) => directory.health().fail(&error.to_string()),
            }
        }
        let key = |log: &PlannedLog| (log.is_future(), log.partition().clone());
        planned.sort_by_key(key);
        let mut kept: Vec<PlannedLog> = Vec::with_capacity(planned.len());
        for log in planned {
            let Some(twin) = kept.pop_if(|kept| key(kept) == key(&log)) else {
                kept.push(log);
                continue;
            };
            let (right, wrong) = choose(twin, log, &assigned)?;
            tracing::warn!(
                partition = %wrong.partition(), directory = %wrong.directory().path().display(),
                "it is in {} too, and belongs there; this one is removed", right.directory().path().display()
            );
            wrong.put_away_for_delete(draw_id(), now_ms)?;
            kept.push(right);
        }
        Ok(kept)
    }

    /// The directory for a new log: the one with the fewest partitions among those that work.
    #[must_use]
    pub fn for_new_log(&self) -> Option<&Arc<LogDirectory>> {
        let works = |directory: &&Arc<LogDirectory>| directory.health().failure().is_none();
        self.directories.iter().filter(works).min_by_key(|directory| directory.partition_count())
    }

    /// Makes a new log where there is most room for it.
    ///
    /// # Errors
    /// Every directory is offline, or as [`Log::create`].
    pub fn create_log(
        &self,
        partition: TopicPartition,
        topic_id: Option<Uuid>,
        options: LogOptions,
        now_ms: i64,
    ) -> Result<Log, StorageError> {
        match self.for_new_log() {
            Some(directory) => directory.create_log(partition, topic_id, options, now_ms),
            None => match self.directories.first().and_then(|directory| directory.health().failure()) {
                Some(offline) => Err(offline.clone().into()),
                None => Err(StorageError::Refused("there is no log directory".to_owned())),
            },
        }
    }

    /// Takes a log out of the way; see [`LogDirectory::delete_log`].
    ///
    /// # Errors
    /// The disk failed, or the log is of none of these directories.
    pub fn delete_log(&self, log: &mut Log, unique: Uuid, now_ms: i64) -> Result<(), StorageError> {
        match self.of(log) {
            Some(directory) => directory.delete_log(log, unique, now_ms),
            None => Err(StorageError::Refused(format!("{} is in no log directory", log.folder().display()))),
        }
    }

    /// Makes what was renamed in the directories survive a power cut. One whose disk fails is offline afterwards.
    pub fn sync_names(&self) {
        for directory in self.directories.iter().filter(|directory| directory.health().failure().is_none()) {
            // The failure is the directory's, noted and logged by its guard.
            let _ = directory.sync_names();
        }
    }

    /// Replaces one checkpoint in every directory that works. One whose disk fails is offline afterwards.
    pub fn write_checkpoint(&self, kind: Checkpoint, points: &[LogPoint]) {
        for directory in self.directories.iter().filter(|directory| directory.health().failure().is_none()) {
            // The failure is the directory's, noted and logged by its guard.
            let _ = directory.write_checkpoint(kind, points);
        }
    }

    /// The last step of a clean stop, after every log was closed and `points` taken: checkpoints and marks.
    /// Returns how many directories are clean.
    pub fn finish_clean(&self, points: &[LogPoint], broker_epoch: i64) -> usize {
        Checkpoint::ALL.into_iter().for_each(|kind| self.write_checkpoint(kind, points));
        let is_clean =
            |directory: &&Arc<LogDirectory>| directory.mark_clean(broker_epoch).unwrap_or_default();
        self.directories.iter().filter(is_clean).count()
    }

    /// Removes files and folders whose delay is over. Returns when the next is due.
    pub fn tick(&self, now_ms: i64) -> Option<i64> {
        for directory in &self.directories {
            let home = directory.home();
            if let Err(error) = home.deletions.remove_due(&*home.disk, now_ms) {
                tracing::warn!(%error, "deleted files are left until the next start");
            }
        }
        self.directories.iter().filter_map(|directory| directory.home().deletions.next_due_ms()).min()
    }
}

/// Of two logs of one partition the one that counts, and the other. Of two that are on their way in, either is
/// as good.
fn choose(
    one: PlannedLog,
    other: PlannedLog,
    assigned: impl Fn(&TopicPartition) -> Option<Uuid>,
) -> Result<(PlannedLog, PlannedLog), StorageError> {
    let right = assigned(one.partition());
    if right.is_some() && other.directory().id() == right {
        return Ok((other, one));
    }
    if one.is_future() || right.is_some() && one.directory().id() == right {
        return Ok((one, other));
    }
    let why = format!("{} is in {} too", one.partition(), other.directory().path().display());
    Err(StorageError::corrupt(one.directory().path(), why))
}
