//! Making batches survive a power cut, as a group: one sync serves every batch that waited for it.
//!
//! Under the lock the owner takes a [`FlushTicket`] of what is not flushed; without the lock it calls
//! [`FlushTicket::sync`]; under the lock again, [`Log::mark_flushed`]. Batches appended meanwhile are the next
//! ticket's. Of the active segment only the `.log` is synced: its indexes are made again after a crash, and
//! synced when it is closed.

use std::sync::Arc;

use super::Log;
use crate::storage::checkpoint::PARTITION_METADATA_FILE;
use crate::storage::disk::{Access, DiskFile};
use crate::storage::error::StorageError;
use crate::storage::leader_epochs::LeaderEpochs;
use crate::storage::place::{Place, Suffix};
use crate::types::Offset;

/// What a flush has to sync. Holds open files, no lock. At most one ticket of a log is on its way at a time, and
/// none while the log's folder is renamed: it stores the epochs by their path.
#[derive(Debug)]
pub struct FlushTicket {
    up_to: Offset,
    generation: u64,
    files: Vec<Arc<dyn DiskFile>>,
    snapshots: Vec<Offset>,
    /// Segments whose indexes are among the files.
    indexes: Vec<Offset>,
    /// Stored before anything counts as flushed: what lies below the recovery point is not read again.
    epochs: Option<LeaderEpochs>,
    names_made: u64,
    /// Files were made in the folder: it is synced, too.
    has_new_names: bool,
    /// The folder itself is new: the log directory is synced, too.
    has_new_folder: bool,
    /// `partition.metadata` is among the files.
    has_topic_id: bool,
    place: Place,
}

impl FlushTicket {
    /// Everything below this offset is flushed once [`FlushTicket::sync`] has returned.
    #[must_use]
    pub fn up_to(&self) -> Offset {
        self.up_to
    }

    /// Waits for the disk.
    ///
    /// # Errors
    /// The directory is offline then; a sync that failed is never tried again.
    pub fn sync(&self) -> Result<(), StorageError> {
        let folder = &self.place.folder;
        for file in &self.files {
            file.sync().map_err(StorageError::io("sync a file of", folder))?;
        }
        if let Some(directory) = folder.parent().filter(|_| self.has_new_folder) {
            self.place.disk.sync_dir(directory).map_err(StorageError::io("sync", directory))?;
        }
        if let Some(epochs) = &self.epochs {
            // This syncs the folder, too.
            return epochs.store(&self.place);
        }
        if self.has_new_names {
            self.place.disk.sync_dir(folder).map_err(StorageError::io("sync", folder))?;
        }
        Ok(())
    }
}

impl Log {
    /// What is to be synced so that all that is in the log now survives; `None` where it does already.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn flush_ticket(&mut self) -> Result<Option<FlushTicket>, StorageError> {
        let is_flushed = self.flushed_offset >= self.log_end_offset;
        let has_new_names = self.names_made > self.names_synced;
        let is_settled = !self.has_unstored_epochs
            && !self.has_unsynced_topic_id
            && self.unsynced_snapshots.is_empty()
            && self.unsynced_indexes.is_empty();
        if is_flushed && !has_new_names && is_settled {
            return Ok(None);
        }
        let mut files = Vec::with_capacity(1);
        let first_unflushed = self.segment_slot(self.flushed_offset);
        for (slot, segment) in self.segments.iter().enumerate() {
            let with_indexes = self.unsynced_indexes.contains(&segment.base);
            if with_indexes || (!is_flushed && slot >= first_unflushed) {
                segment.files_to_sync(&self.place, with_indexes, &mut files)?;
            }
        }
        for offset in &self.unsynced_snapshots {
            let path = self.place.file(*offset, Suffix::Snapshot);
            // Truncation and retention may have removed it again.
            if self.producers.snapshots().contains(offset) {
                files.push(
                    self.place.disk.open(&path, Access::Read).map_err(StorageError::io("open", &path))?,
                );
            }
        }
        if self.has_unsynced_topic_id {
            let path = self.place.named(PARTITION_METADATA_FILE);
            files.push(self.place.disk.open(&path, Access::Read).map_err(StorageError::io("open", &path))?);
        }
        Ok(Some(FlushTicket {
            up_to: self.log_end_offset,
            generation: self.generation,
            files,
            snapshots: self.unsynced_snapshots.clone(),
            indexes: self.unsynced_indexes.clone(),
            names_made: self.names_made,
            has_new_names,
            // A log without a batch is made again where its folder is missing.
            has_new_folder: !self.is_folder_synced && !is_flushed,
            has_topic_id: self.has_unsynced_topic_id,
            epochs: self.has_unstored_epochs.then(|| self.epochs.clone()),
            place: self.place.clone(),
        }))
    }

    /// Makes the names in the folder survive.
    pub(super) fn sync_folder(&mut self) -> Result<(), StorageError> {
        let folder = &self.place.folder;
        self.place.disk.sync_dir(folder).map_err(StorageError::io("sync", folder))?;
        self.names_synced = self.names_made;
        Ok(())
    }

    /// Takes over that `ticket` was synced. One from before a truncation proves nothing and is ignored.
    pub fn mark_flushed(&mut self, ticket: &FlushTicket) {
        if ticket.generation != self.generation {
            return;
        }
        if ticket.epochs.as_ref() == Some(&self.epochs) {
            self.has_unstored_epochs = false;
        }
        self.has_unsynced_topic_id &= !ticket.has_topic_id;
        self.is_folder_synced |= ticket.has_new_folder;
        self.names_synced = self.names_synced.max(ticket.names_made);
        self.unsynced_snapshots.retain(|offset| !ticket.snapshots.contains(offset));
        self.unsynced_indexes.retain(|base| !ticket.indexes.contains(base));
        self.flushed_offset = self.flushed_offset.max(ticket.up_to);
        if self.flushed_offset >= self.log_end_offset {
            self.unflushed_since_ms = None;
        }
    }

    /// Whether `flush.ms` asks for a flush now.
    #[must_use]
    pub fn is_flush_due(&self, now_ms: i64) -> bool {
        self.unflushed_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= self.options.flush_ms)
    }

    /// Flushes while the owner waits: for shutdown and the quorum's log.
    ///
    /// # Errors
    /// The disk failed; the directory is offline.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(ticket) = self.flush_ticket()? {
            ticket.sync()?;
            self.mark_flushed(&ticket);
        }
        Ok(())
    }
}
