//! One log directory: its lock, whose it is, its checkpoints, its clean mark, and whether it still works.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use thiserror::Error;

use super::checkpoint::{
    CLEAN_SHUTDOWN_FILE, CLEANER_OFFSET_FILE, CheckpointError, HIGH_WATERMARK_FILE, LOCK_FILE,
    LOG_START_OFFSET_FILE, META_PROPERTIES_FILE, MetaProperties, PARTITION_METADATA_FILE,
    RECOVERY_POINT_FILE, parse_clean_shutdown, parse_offsets, parse_partition_metadata,
    render_clean_shutdown, render_offsets,
};
use super::disk::{Disk, DiskLock, DiskSpace, LockError, create_folder_durably, read_small, replace_file};
use super::error::StorageError;
use super::guard::{GuardedDisk, Health};
use super::log::{Log, LogHome, folder_name_for_delete, folder_name_for_future, folder_name_for_stray};
use super::options::LogOptions;
use super::place::{Suffix, parse_file_name};
use super::reader::{FolderKind, PartitionFolder};
use super::recovery::{OpenHints, Recovered};
use crate::types::{Offset, TopicPartition, Uuid};

/// The quorum's own log: opened by the controller, not among the partitions.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// Why a log directory cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Another broker runs on it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// `meta.properties` is none.
    #[error("{}: {source}", path.display())]
    Properties {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// It belongs to another cluster, node or directory than it should.
    #[error("{}: {what} is {found}, not {expected}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// `cluster.id`, `node.id` or `directory.id`.
        what: &'static str,
        /// In its `meta.properties`.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The offsets of one log that checkpoints hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPoint {
    /// Whose log.
    pub partition: TopicPartition,
    /// In which log directory.
    pub directory: PathBuf,
    /// Flushed so far.
    pub recovery_point: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The log start offset, where the first segment's name does not say it, or segments before it may be back
    /// after a power cut.
    pub log_start_offset: Option<Offset>,
    /// How far the log is clean, where it was ever cleaned.
    pub cleaner_point: Option<Offset>,
}

impl Log {
    /// What the checkpoints should say of this log.
    #[must_use]
    pub fn point(&self) -> LogPoint {
        let start = self.log_start_offset();
        LogPoint {
            partition: self.partition().clone(),
            directory: self.directory(),
            recovery_point: self.recovery_point(),
            high_watermark: self.high_watermark(),
            log_start_offset: (start > self.first_segment_base_offset() || self.may_return())
                .then_some(start)
                .filter(|start| *start > Offset::ZERO),
            cleaner_point: self.cleaner_point(),
        }
    }
}

/// One of the four checkpoints that a broker writes from its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checkpoint {
    /// Where recovery begins after a crash.
    RecoveryPoint,
    /// The high watermarks.
    HighWatermark,
    /// Log start offsets.
    LogStartOffset,
    /// How far compacted logs are clean.
    Cleaner,
}

impl Checkpoint {
    /// All four.
    pub const ALL: [Self; 4] =
        [Self::RecoveryPoint, Self::HighWatermark, Self::LogStartOffset, Self::Cleaner];

    /// Its file.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => RECOVERY_POINT_FILE,
            Self::HighWatermark => HIGH_WATERMARK_FILE,
            Self::LogStartOffset => LOG_START_OFFSET_FILE,
            Self::Cleaner => CLEANER_OFFSET_FILE,
        }
    }

    fn offset(self, point: &LogPoint) -> Option<Offset> {
        match self {
            Self::RecoveryPoint => Some(point.recovery_point),
            Self::HighWatermark => Some(point.high_watermark),
            Self::LogStartOffset => point.log_start_offset,
            Self::Cleaner => point.cleaner_point,
        }
    }
}

/// See the module. Its lock is held until it is dropped.
pub struct LogDirectory {
    path: PathBuf,
    home: LogHome,
    health: Arc<Health>,
    meta: Mutex<Option<MetaProperties>>,
    clean_broker_epoch: Option<i64>,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    high_watermarks: BTreeMap<TopicPartition, Offset>,
    log_start_offsets: BTreeMap<TopicPartition, Offset>,
    cleaner_points: BTreeMap<TopicPartition, Offset>,
    /// What the checkpoints say now.
    written: Mutex<BTreeMap<Checkpoint, BTreeMap<TopicPartition, Offset>>>,
    /// Logs that were found and are neither opened nor put away: while there is one, the directory is not
    /// marked clean.
    unopened: AtomicUsize,
    partitions: AtomicUsize,
    _lock: Box<dyn DiskLock>,
}

impl fmt::Debug for LogDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogDirectory({})", self.path.display())
    }
}

impl LogDirectory {
    /// Locks the directory, making it where it is missing, and reads what it says of itself. Nothing but the
    /// lock's own file is touched.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Arc<Self>, DirectoryError> {
        // Nothing of it is known yet that could fail: a name that is no directory is a mistake, not a broken disk.
        create_folder_durably(&**disk, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                StorageError::Refused(format!("{} is not a directory", path.display()))
            }
            _ => StorageError::io("create", path)(error),
        })?;
        let guarded = GuardedDisk::new(Arc::clone(disk), path);
        let health = Arc::clone(guarded.health());
        let disk: Arc<dyn Disk> = guarded;
        let lock = disk.lock(&path.join(LOCK_FILE))?;
        let meta = read_meta(&*disk, path)?;
        let mark = path.join(CLEAN_SHUTDOWN_FILE);
        let clean = read_small(&*disk, &mark).map_err(StorageError::io("read", &mark))?;
        let mut written = BTreeMap::new();
        for kind in Checkpoint::ALL {
            written.insert(kind, read_checkpoint(&*disk, path, kind.file_name())?);
        }
        let read = |kind| written.get(&kind).cloned().unwrap_or_default();
        Ok(Arc::new(Self {
            path: path.to_owned(),
            recovery_points: read(Checkpoint::RecoveryPoint),
            high_watermarks: read(Checkpoint::HighWatermark),
            log_start_offsets: read(Checkpoint::LogStartOffset),
            cleaner_points: read(Checkpoint::Cleaner),
            written: Mutex::new(written),
            home: LogHome::new(disk),
            health,
            meta: Mutex::new(meta),
            clean_broker_epoch: clean.map(|bytes| parse_clean_shutdown(&bytes)),
            unopened: AtomicUsize::new(0),
            partitions: AtomicUsize::new(0),
            _lock: lock,
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its disk, guarded, and its deletions.
    #[must_use]
    pub fn home(&self) -> &LogHome {
        &self.home
    }

    /// Whether it still works.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Its `meta.properties`; `None` while it is new.
    #[must_use]
    pub fn meta(&self) -> Option<MetaProperties> {
        self.meta.lock().clone()
    }

    /// Its id, once it has one.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.meta.lock().as_ref().and_then(|meta| meta.directory_id)
    }

    /// Takes the clean mark away: from here on only a clean stop makes the directory clean. Called before
    /// anything else is written to it; a power cut does not bring the mark back.
    ///
    /// # Errors
    /// The disk failed.
    pub fn take_clean_mark(&self) -> Result<(), StorageError> {
        if self.clean_broker_epoch.is_none() {
            return Ok(());
        }
        let mark = self.path.join(CLEAN_SHUTDOWN_FILE);
        self.home.disk.remove_file(&mark).map_err(StorageError::io("remove", &mark))?;
        self.home.disk.sync_dir(&self.path).map_err(StorageError::io("sync", &self.path))
    }

    /// Writes `meta.properties`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_meta(&self, meta: MetaProperties) -> Result<(), StorageError> {
        let path = self.path.join(META_PROPERTIES_FILE);
        let written = replace_file(&*self.home.disk, &path, &meta.render());
        written.map_err(StorageError::io("replace", &path))?;
        *self.meta.lock() = Some(meta);
        Ok(())
    }

    /// The broker epoch of the run that left the directory clean; `None` after any other stop.
    #[must_use]
    pub fn clean_broker_epoch(&self) -> Option<i64> {
        self.clean_broker_epoch
    }

    /// How much room there is.
    ///
    /// # Errors
    /// The directory is offline.
    pub fn space(&self) -> Result<DiskSpace, StorageError> {
        self.home.disk.space(&self.path).map_err(StorageError::io("statvfs", &self.path))
    }

    /// How many partitions it holds.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    /// What the checkpoints say of a partition.
    #[must_use]
    pub fn hints(&self, partition: &TopicPartition) -> OpenHints {
        OpenHints {
            clean: self.clean_broker_epoch.is_some(),
            recovery_point: self.recovery_points.get(partition).copied().unwrap_or_default(),
            log_start_offset: self.log_start_offsets.get(partition).copied(),
            high_watermark: self.high_watermarks.get(partition).copied(),
            cleaner_point: self.cleaner_points.get(partition).copied(),
        }
    }

    /// The logs in it, not yet opened, those on their way in among them. Folders on their way out are queued
    /// for removal; the metadata log and strays are left alone.
    ///
    /// # Errors
    /// The disk failed.
    pub fn plan(self: &Arc<Self>, now_ms: i64) -> Result<Vec<PlannedLog>, StorageError> {
        let entries = self.home.disk.list(&self.path).map_err(StorageError::io("list", &self.path))?;
        let mut planned = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().filter(|entry| entry.is_folder) {
            let folder = self.path.join(&entry.name);
            match PartitionFolder::parse(&folder) {
                Some(found) if found.partition.topic.as_str() == METADATA_TOPIC => {}
                Some(PartitionFolder { partition, kind, .. })
                    if matches!(kind, FolderKind::Current | FolderKind::Future) =>
                {
                    let is_future = kind == FolderKind::Future;
                    planned.push(PlannedLog { directory: Arc::clone(self), folder, partition, is_future });
                }
                _ if entry.name.ends_with("-delete") => self.home.deletions.add_folder(folder, now_ms),
                _ => tracing::warn!(folder = %folder.display(), "not a partition's folder; left alone"),
            }
        }
        self.unopened.store(planned.len(), Ordering::Relaxed);
        self.partitions.store(planned.len(), Ordering::Relaxed);
        Ok(planned)
    }

    /// Makes a new log in this directory.
    ///
    /// # Errors
    /// As [`Log::create`].
    pub fn create_log(
        &self,
        partition: TopicPartition,
        topic_id: Option<Uuid>,
        options: LogOptions,
        now_ms: i64,
    ) -> Result<Log, StorageError> {
        let folder = self.path.join(partition.to_string());
        self.forget(&partition)?;
        let log = Log::create(&self.home, &folder, partition, topic_id, options, now_ms)?;
        self.partitions.fetch_add(1, Ordering::Relaxed);
        Ok(log)
    }

    /// Makes a new log of a partition whose log is in another directory, in a folder named `…-future`.
    ///
    /// # Errors
    /// `Refused` where the name would be too long; else as [`Log::create`].
    pub fn create_future_log(
        &self,
        partition: TopicPartition,
        topic_id: Uuid,
        options: LogOptions,
        unique: Uuid,
        now_ms: i64,
    ) -> Result<Log, StorageError> {
        let name = folder_name_for_future(&partition, unique).ok_or_else(|| {
            StorageError::Refused(format!("{partition}: the topic's name is too long for a second folder"))
        })?;
        let log = Log::create(&self.home, &self.path.join(name), partition, Some(topic_id), options, now_ms)?;
        self.partitions.fetch_add(1, Ordering::Relaxed);
        Ok(log)
    }

    /// Takes a log out of the way; its folder is removed after `file.delete.delay.ms`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete_log(&self, log: &mut Log, unique: Uuid, now_ms: i64) -> Result<(), StorageError> {
        let folder = log.rename_for_delete(unique)?;
        let delay_ms = log.options().file_delete_delay_ms;
        self.home.deletions.add_folder(folder, now_ms.saturating_add(delay_ms));
        self.partitions.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Replaces one checkpoint with what `points` say; those of other directories are passed over.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_checkpoint(&self, kind: Checkpoint, points: &[LogPoint]) -> Result<(), StorageError> {
        let offsets: BTreeMap<TopicPartition, Offset> = points
            .iter()
            .filter(|point| point.directory == self.path)
            .filter_map(|point| Some((point.partition.clone(), kind.offset(point)?)))
            .collect();
        self.replace_checkpoint(&mut self.written.lock(), kind, offsets)
    }

    fn replace_checkpoint(
        &self,
        written: &mut BTreeMap<Checkpoint, BTreeMap<TopicPartition, Offset>>,
        kind: Checkpoint,
        offsets: BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), StorageError> {
        let path = self.path.join(kind.file_name());
        if kind == Checkpoint::Cleaner && offsets.is_empty() {
            // Where nothing was ever cleaned, there is no such file.
            let there = self.home.disk.stat(&path).map_err(StorageError::io("stat", &path))?;
            if there.is_none() {
                return Ok(());
            }
        }
        let bytes = render_offsets(offsets.iter().map(|(partition, offset)| (partition, *offset)));
        replace_file(&*self.home.disk, &path, &bytes).map_err(StorageError::io("replace", &path))?;
        written.insert(kind, offsets);
        Ok(())
    }

    /// Takes a partition out of the checkpoints: what they say of a log that was deleted is wrong of the next one
    /// of that name.
    fn forget(&self, partition: &TopicPartition) -> Result<(), StorageError> {
        let mut written = self.written.lock();
        for kind in Checkpoint::ALL {
            let Some(mut offsets) = written.get(&kind).cloned() else { continue };
            if offsets.remove(partition).is_some() {
                self.replace_checkpoint(&mut written, kind, offsets)?;
            }
        }
        Ok(())
    }

    /// Takes a log's recovery point back, before its end is cut off: what is appended then may stand below the
    /// point where the next recovery would begin.
    fn lower_recovery_point(&self, partition: &TopicPartition, offset: Offset) -> Result<(), StorageError> {
        let mut written = self.written.lock();
        let Some(mut offsets) = written.get(&Checkpoint::RecoveryPoint).cloned() else { return Ok(()) };
        match offsets.get_mut(partition) {
            Some(point) if *point > offset => *point = offset,
            _ => return Ok(()),
        }
        self.replace_checkpoint(&mut written, Checkpoint::RecoveryPoint, offsets)
    }

    /// Cuts a log's end off; see [`Log::truncate_to`].
    ///
    /// # Errors
    /// The disk failed.
    pub fn truncate_log(&self, log: &mut Log, offset: Offset, now_ms: i64) -> Result<bool, StorageError> {
        if offset < log.log_end_offset() {
            self.lower_recovery_point(log.partition(), log.end_cut_at(offset)?)?;
        }
        log.truncate_to(offset, now_ms)
    }

    /// Empties a log; see [`Log::truncate_fully_and_start_at`].
    ///
    /// # Errors
    /// The disk failed.
    pub fn truncate_log_fully(&self, log: &mut Log, offset: Offset, now_ms: i64) -> Result<(), StorageError> {
        self.forget(log.partition())?;
        log.truncate_fully_and_start_at(offset, now_ms)
    }

    /// Makes what was renamed in the directory survive a power cut.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync_names(&self) -> Result<(), StorageError> {
        self.home.disk.sync_dir(&self.path).map_err(StorageError::io("sync", &self.path))
    }

    /// Marks the directory clean, once its logs are closed and its checkpoints written. `false` where it may
    /// not be: a log that was found was never opened (KAFKA-15375), or a write has failed.
    ///
    /// # Errors
    /// The disk failed.
    pub fn mark_clean(&self, broker_epoch: i64) -> Result<bool, StorageError> {
        if self.health.failure().is_some() || self.unopened.load(Ordering::Relaxed) > 0 {
            return Ok(false);
        }
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        let bytes = render_clean_shutdown(broker_epoch);
        replace_file(&*self.home.disk, &path, &bytes).map_err(StorageError::io("replace", &path))?;
        Ok(true)
    }
}

/// A log that was found and is not open yet. Independent of all others: they may be opened on several threads.
#[derive(Debug)]
pub struct PlannedLog {
    directory: Arc<LogDirectory>,
    folder: PathBuf,
    partition: TopicPartition,
    is_future: bool,
}

impl PlannedLog {
    /// Whose log.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// In which directory.
    #[must_use]
    pub fn directory(&self) -> &Arc<LogDirectory> {
        &self.directory
    }

    /// Whether it is on its way into the directory.
    #[must_use]
    pub fn is_future(&self) -> bool {
        self.is_future
    }

    /// The topic id that its `partition.metadata` gives, to tell a stray from a topic of the same name.
    ///
    /// # Errors
    /// The disk failed.
    pub fn topic_id(&self) -> Result<Option<Uuid>, StorageError> {
        let path = self.folder.join(PARTITION_METADATA_FILE);
        let bytes = read_small(&*self.directory.home.disk, &path).map_err(StorageError::io("read", &path))?;
        Ok(bytes.and_then(|bytes| parse_partition_metadata(&bytes).ok()))
    }

    /// Whether no batch was ever written to it: each `.log` is empty.
    ///
    /// # Errors
    /// The disk failed.
    pub fn is_untouched(&self) -> Result<bool, StorageError> {
        let disk = &*self.directory.home.disk;
        for entry in disk.list(&self.folder).map_err(StorageError::io("list", &self.folder))? {
            if let Some((_, Suffix::Log)) = parse_file_name(&entry.name) {
                let path = self.folder.join(&entry.name);
                let stat = disk.stat(&path).map_err(StorageError::io("stat", &path))?;
                if stat.is_some_and(|stat| stat.len > 0) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(self, options: LogOptions, now_ms: i64) -> Result<(Log, Recovered), StorageError> {
        let hints = self.directory.hints(&self.partition);
        let cleaner_point = self.directory.cleaner_points.get(&self.partition).copied();
        let opened = Log::open(&self.directory.home, &self.folder, self.partition, options, hints, now_ms)?;
        self.directory.unopened.fetch_sub(1, Ordering::Relaxed);
        let (mut log, recovered) = opened;
        log.set_cleaner_point(cleaner_point);
        Ok((log, recovered))
    }

    /// Renames its folder to `…-delete` and has it removed: another log is the partition's.
    ///
    /// # Errors
    /// The disk failed.
    pub fn put_away_for_delete(self, unique: Uuid, now_ms: i64) -> Result<(), StorageError> {
        let target = self.put_away(&folder_name_for_delete(&self.partition, unique))?;
        self.directory.home.deletions.add_folder(target, now_ms);
        Ok(())
    }

    /// Renames its folder to `…-stray`: no topic of this id has that partition here.
    ///
    /// # Errors
    /// The disk failed.
    pub fn put_away_as_stray(self, unique: Uuid) -> Result<PathBuf, StorageError> {
        self.put_away(&folder_name_for_stray(&self.partition, unique))
    }

    fn put_away(&self, name: &str) -> Result<PathBuf, StorageError> {
        let target = self.directory.path.join(name);
        let renamed = self.directory.home.disk.rename(&self.folder, &target);
        renamed.map_err(StorageError::io("rename", &self.folder))?;
        // It must not be back when another log of the partition is there.
        self.directory.sync_names()?;
        self.directory.unopened.fetch_sub(1, Ordering::Relaxed);
        self.directory.partitions.fetch_sub(1, Ordering::Relaxed);
        Ok(target)
    }
}

fn read_meta(disk: &dyn Disk, directory: &Path) -> Result<Option<MetaProperties>, DirectoryError> {
    let path = directory.join(META_PROPERTIES_FILE);
    match read_small(disk, &path).map_err(StorageError::io("read", &path))? {
        None => Ok(None),
        Some(bytes) => match MetaProperties::parse(&bytes) {
            Ok(meta) => Ok(Some(meta)),
            Err(source) => Err(DirectoryError::Properties { path, source }),
        },
    }
}

/// A checkpoint that is no checkpoint is taken as missing: recovery then begins earlier.
fn read_checkpoint(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, StorageError> {
    let path = directory.join(name);
    let Some(bytes) = read_small(disk, &path).map_err(StorageError::io("read", &path))? else {
        return Ok(BTreeMap::new());
    };
    Ok(parse_offsets(&bytes).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "checkpoint is taken as missing");
        BTreeMap::new()
    }))
}
