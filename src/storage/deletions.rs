//! Files on their way out: renamed to `.deleted` (or a folder to `-delete`) at once, removed after
//! `file.delete.delay.ms`, so that readers in flight come to their end.
//!
//! The queue is in memory: whatever a stop leaves behind is removed at the next start.

use std::path::PathBuf;

use parking_lot::Mutex;

use super::disk::Disk;
use super::error::StorageError;
use super::place::{DELETED_SUFFIX, Place, Suffix, file_name};
use crate::types::Offset;

#[derive(Debug)]
struct Doomed {
    path: PathBuf,
    is_folder: bool,
    due_ms: i64,
}

/// See the module. One queue serves all logs of a log directory.
#[derive(Debug, Default)]
pub struct DeletionQueue {
    doomed: Mutex<Vec<Doomed>>,
}

impl DeletionQueue {
    /// Puts a file in the queue that nobody finds under its name any more.
    pub fn add_file(&self, path: PathBuf, due_ms: i64) {
        self.doomed.lock().push(Doomed { path, is_folder: false, due_ms });
    }

    /// Renames the files of a segment, its producer snapshot among them, and puts them in the queue.
    pub(super) fn add_segment(&self, place: &Place, base: Offset, due_ms: i64) -> Result<(), StorageError> {
        self.add_files(place, base, &Suffix::ALL, due_ms)
    }

    /// As [`Self::add_segment`], of the files with these suffixes.
    pub(super) fn add_files(
        &self,
        place: &Place,
        base: Offset,
        suffixes: &[Suffix],
        due_ms: i64,
    ) -> Result<(), StorageError> {
        for &suffix in suffixes {
            let path = place.file(base, suffix);
            if place.disk.stat(&path).map_err(StorageError::io("stat", &path))?.is_none() {
                continue;
            }
            let deleted = place.named(&format!("{}{DELETED_SUFFIX}", file_name(base, suffix)));
            place.disk.rename(&path, &deleted).map_err(StorageError::io("rename", &path))?;
            self.add_file(deleted, due_ms);
        }
        Ok(())
    }

    pub(super) fn add_folder(&self, path: PathBuf, due_ms: i64) {
        self.doomed.lock().push(Doomed { path, is_folder: true, due_ms });
    }

    /// How many files and folders wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.doomed.lock().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<i64> {
        self.doomed.lock().iter().map(|doomed| doomed.due_ms).min()
    }

    /// Removes what is due at `now_ms`; returns how many that were. Blocks for as long as removing takes.
    ///
    /// # Errors
    /// The first failure; the rest of what was due is then left for the next start.
    pub fn remove_due(&self, disk: &dyn Disk, now_ms: i64) -> Result<usize, StorageError> {
        let due: Vec<Doomed> = {
            let mut doomed = self.doomed.lock();
            doomed.extract_if(.., |one| one.due_ms <= now_ms).collect()
        };
        for Doomed { path, is_folder, .. } in &due {
            let removed = if *is_folder { disk.remove_folder(path) } else { disk.remove_file(path) };
            removed.map_err(StorageError::io("remove", path))?;
        }
        Ok(due.len())
    }
}
