//! A log's coming and going: created, opened after a stop of either kind, closed, renamed on its way out.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::Log;
use crate::storage::checkpoint::{PARTITION_METADATA_FILE, render_partition_metadata};
use crate::storage::deletions::DeletionQueue;
use crate::storage::disk::{Access, Disk};
use crate::storage::error::StorageError;
use crate::storage::leader_epochs::LeaderEpochs;
use crate::storage::options::LogOptions;
use crate::storage::place::Place;
use crate::storage::producer_state::ProducerStates;
use crate::storage::recovery::{self, OpenHints, Recovered};
use crate::storage::segment::Segment;
use crate::types::{Offset, TopicPartition, Uuid};

/// The longest name a folder may have.
const FOLDER_NAME_MAX: usize = 255;

/// What all logs of one log directory share.
#[derive(Debug, Clone)]
pub struct LogHome {
    /// Their disk, guarded: its first failed write takes all of them offline.
    pub disk: Arc<dyn Disk>,
    /// Files that wait for their removal.
    pub deletions: Arc<DeletionQueue>,
}

impl LogHome {
    /// A home with a queue of its own.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, deletions: Arc::default() }
    }
}

impl Log {
    /// Makes a new, empty log in `folder`, with `partition.metadata` where a topic id is given.
    ///
    /// # Errors
    /// `Exists` where the folder holds anything, or the disk failed.
    pub fn create(
        home: &LogHome,
        folder: &Path,
        partition: TopicPartition,
        topic_id: Option<Uuid>,
        options: LogOptions,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let disk = &home.disk;
        if disk.stat(folder).map_err(StorageError::io("stat", folder))?.is_some() {
            let entries = disk.list(folder).map_err(StorageError::io("list", folder))?;
            if !entries.is_empty() {
                return Err(StorageError::Exists { path: folder.to_owned() });
            }
        }
        disk.create_folder(folder).map_err(StorageError::io("create", folder))?;
        let place = Place::new(Arc::clone(disk), folder, &options);
        let preallocated_len = options.preallocate.then_some(options.segment_bytes);
        let jitter_ms = options.draw_jitter_ms();
        let segment = Segment::create(&place, Offset::ZERO, jitter_ms, preallocated_len, now_ms)?;
        let mut log = Self {
            place,
            partition,
            topic_id: None,
            options,
            segments: vec![segment],
            log_start_offset: Offset::ZERO,
            local_log_start_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            flushed_offset: Offset::ZERO,
            producers: ProducerStates::default(),
            epochs: LeaderEpochs::default(),
            has_unstored_epochs: false,
            has_fresh_epoch: false,
            deletions: Arc::clone(&home.deletions),
            generation: 0,
            names_made: 1,
            names_synced: 0,
            is_folder_synced: false,
            unsynced_snapshots: Vec::new(),
            unsynced_indexes: Vec::new(),
            has_unsynced_topic_id: false,
            unflushed_since_ms: None,
            is_touched: true,
            cleaner_point: None,
            cleaning: Weak::new(),
        };
        if let Some(topic_id) = topic_id {
            log.assign_topic_id(topic_id)?;
        }
        Ok(log)
    }

    /// Opens the log in `folder`, mending what the last stop left behind.
    ///
    /// After a clean stop nothing of a `.log` file is read. After any other, every batch from the recovery point
    /// on is checked and the log ends before the first that is not whole.
    ///
    /// # Errors
    /// The disk failed, or the folder holds what recovery may not mend.
    pub fn open(
        home: &LogHome,
        folder: &Path,
        partition: TopicPartition,
        options: LogOptions,
        hints: OpenHints,
        now_ms: i64,
    ) -> Result<(Self, Recovered), StorageError> {
        let place = Place::new(Arc::clone(&home.disk), folder, &options);
        let loaded = recovery::load(&place, &home.deletions, &options, &hints, now_ms)?;
        let mut log = Self {
            place,
            partition,
            topic_id: loaded.topic_id,
            options,
            segments: loaded.segments,
            log_start_offset: loaded.log_start_offset,
            local_log_start_offset: loaded.log_start_offset,
            high_watermark: loaded.log_start_offset,
            log_end_offset: loaded.log_end_offset,
            flushed_offset: loaded.flushed_offset,
            producers: loaded.producers,
            epochs: loaded.epochs,
            has_unstored_epochs: false,
            has_fresh_epoch: false,
            deletions: Arc::clone(&home.deletions),
            generation: 0,
            // A log that nobody wrote to, or that was mended, has names that were never synced.
            names_made: 1,
            names_synced: 0,
            is_folder_synced: hints.clean,
            unsynced_snapshots: loaded.unsynced_snapshots,
            unsynced_indexes: loaded.unsynced_indexes,
            // The first flush has synced it.
            has_unsynced_topic_id: loaded.topic_id.is_some() && hints.recovery_point == Offset::ZERO,
            unflushed_since_ms: None,
            is_touched: false,
            cleaner_point: None,
            cleaning: Weak::new(),
        };
        if log.flushed_offset < log.log_end_offset {
            log.unflushed_since_ms = Some(now_ms);
        }
        log.advance_high_watermark(hints.high_watermark.unwrap_or(log.log_start_offset));
        if log.options.flush_messages <= 1 {
            // What a killed process has left in the page cache is shown to nobody before it is on disk.
            log.flush()?;
        }
        // Thousands of logs may have been looked into just now, and most of them are not needed soon.
        log.close_files();
        Ok((log, loaded.recovered))
    }

    fn close_files(&mut self) {
        self.segments.iter_mut().for_each(Segment::close_files);
    }

    /// Closes the files of this log where too many are open; they are opened again at their next use.
    pub fn spare_files(&mut self) {
        if self.place.disk.is_short_of_files() {
            self.close_files();
        }
    }

    /// Writes the topic's id beside the log. An id that is there already must be the same.
    ///
    /// # Errors
    /// `Refused` where the folder belongs to another topic, or the disk failed.
    pub fn assign_topic_id(&mut self, topic_id: Uuid) -> Result<(), StorageError> {
        match self.topic_id {
            Some(there) if there == topic_id => return Ok(()),
            Some(there) => {
                let folder = self.place.folder.display();
                return Err(StorageError::Refused(format!(
                    "{folder} belongs to topic id {there}, not {topic_id}"
                )));
            }
            None => {}
        }
        // Synced with the first flush: a file that a power cut tore is taken as missing, and written again.
        let path = self.place.named(PARTITION_METADATA_FILE);
        let bytes = render_partition_metadata(topic_id);
        let file = self.place.disk.open(&path, Access::Replace).map_err(StorageError::io("open", &path))?;
        file.write_at(&mut [IoSlice::new(&bytes)], 0).map_err(StorageError::io("write", &path))?;
        self.topic_id = Some(topic_id);
        self.has_unsynced_topic_id = true;
        self.names_made += 1;
        Ok(())
    }

    /// Leaves the folder so that the next start needs to read no batch: closing index entries, files cut to
    /// their length, a producer snapshot, everything synced. The log must not be written to afterwards.
    ///
    /// # Errors
    /// The disk failed: the directory must not be marked clean.
    pub fn close_clean(&mut self) -> Result<(), StorageError> {
        self.abort_cleaning();
        if self.is_touched {
            let slot = self.segments.len() - 1;
            self.segments[slot].finish(&self.place)?;
            self.unsynced_indexes.push(self.segments[slot].base);
            self.is_touched = false;
        }
        let snapshot = self.producers.take_snapshot(&self.place)?;
        if snapshot.is_some() {
            self.unsynced_snapshots.extend(snapshot);
            self.names_made += 1;
        }
        if self.log_end_offset == Offset::ZERO && self.generation == 0 {
            // Nothing was ever written: what a power cut takes of it is made again at the next start.
            self.close_files();
            return Ok(());
        }
        self.flush()?;
        self.close_files();
        Ok(())
    }

    /// Moves the folder out of the way, under a name that the next start removes; returns the new path. Readers
    /// that hold regions are not disturbed.
    ///
    /// # Errors
    /// The disk failed.
    pub fn rename_for_delete(&mut self, unique: Uuid) -> Result<PathBuf, StorageError> {
        self.rename_folder(&folder_name_for_delete(&self.partition, unique))
    }

    /// As [`Log::rename_for_delete`], for a log that nobody knows: it is kept for the administrator.
    ///
    /// # Errors
    /// The disk failed.
    pub fn rename_as_stray(&mut self, unique: Uuid) -> Result<PathBuf, StorageError> {
        self.rename_folder(&folder_name_for_stray(&self.partition, unique))
    }

    pub(super) fn rename_folder(&mut self, name: &str) -> Result<PathBuf, StorageError> {
        self.abort_cleaning();
        let target = self.directory().join(name);
        let from = self.place.folder.clone();
        self.place.disk.rename(&from, &target).map_err(StorageError::io("rename", &from))?;
        self.place.folder.clone_from(&target);
        Ok(target)
    }
}

/// `<topic>-<partition>.<32 hexadecimal digits>-delete`, the topic cut short where that would be too long.
#[must_use]
pub fn folder_name_for_delete(partition: &TopicPartition, unique: Uuid) -> String {
    capped_folder_name(partition, unique, "-delete")
}

/// As [`folder_name_for_delete`], with `-stray`.
#[must_use]
pub fn folder_name_for_stray(partition: &TopicPartition, unique: Uuid) -> String {
    capped_folder_name(partition, unique, "-stray")
}

pub(super) fn capped_folder_name(partition: &TopicPartition, unique: Uuid, suffix: &str) -> String {
    let digits: String = unique.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let tail = format!("-{}.{digits}{suffix}", partition.partition);
    let topic = partition.topic.as_str();
    let kept = topic.len().min(FOLDER_NAME_MAX - tail.len());
    format!("{}{tail}", &topic[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicName;

    #[test]
    fn s1_8_folder_names_on_their_way_out_fit_the_file_system() {
        let unique = Uuid([0xab; 16]);
        let short = TopicPartition::new(TopicName::new("t").unwrap(), 3);
        let hex = "ab".repeat(16);
        assert_eq!(folder_name_for_delete(&short, unique), format!("t-3.{hex}-delete"));
        let long = TopicPartition::new(TopicName::new(&"x".repeat(249)).unwrap(), i32::MAX);
        for name in [folder_name_for_delete(&long, unique), folder_name_for_stray(&long, unique)] {
            assert_eq!(name.len(), 255);
            assert!(name.starts_with("xxx") && name.contains(&hex));
        }
    }
}
