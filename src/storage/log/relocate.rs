//! A log on its way into another log directory: a second log of the same partition, in a folder named
//! `…-future`, that is filled from the first one and then takes its place.
//!
//! The future log is written like a follower's. It is complete once it ends where the current one ends; then
//! [`Log::take_over`] gives it what batches alone do not tell, and [`Log::become_current`] its name. Until that
//! rename the current log is the partition; from then on the future one is, whatever happens to the other.

use std::path::{Path, PathBuf};

use super::Log;
use super::lifecycle::capped_folder_name;
use crate::storage::error::{AppendError, ReadError, StorageError};
use crate::types::{LeaderEpoch, Offset, TopicPartition, Uuid};

/// Every epoch that stands in a log is older.
const ANY_EPOCH: LeaderEpoch = LeaderEpoch(i32::MAX);

/// `<topic>-<partition>.<32 hexadecimal digits>-future`; `None` where that is no legal name of a folder: a start
/// has to read topic and partition from it.
#[must_use]
pub fn folder_name_for_future(partition: &TopicPartition, unique: Uuid) -> Option<String> {
    let name = capped_folder_name(partition, unique, "-future");
    name.starts_with(&partition.to_string()).then_some(name)
}

/// Whole batches of the current log, to be appended to the future one.
#[derive(Debug)]
pub struct Extract {
    bytes: bytes::Bytes,
    /// Where the first batch begins, or where the current log ends.
    from: Offset,
    /// The first offset that the current log still has.
    start: Offset,
    /// The current log's end.
    end: Offset,
}

impl Log {
    /// The batches that a future log which ends at `from` lacks, about `max_bytes` of them and at least one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn extract(&self, from: Offset, max_bytes: usize) -> Result<Extract, StorageError> {
        let (start, end) = (self.local_log_start_offset, self.log_end_offset);
        // What lies before was deleted meanwhile, or was cut off: the future log follows.
        let from = from.max(start).min(end);
        let slice = match self.read(from, end, max_bytes, true) {
            Ok(outcome) => outcome.into_slice(),
            Err(ReadError::Storage(error)) => return Err(error),
            Err(error @ ReadError::OutOfRange { .. }) => {
                return Err(StorageError::corrupt(&self.place.folder, error.to_string()));
            }
        };
        let Some(slice) = slice.filter(|slice| !slice.region.is_empty()) else {
            return Ok(Extract { bytes: bytes::Bytes::new(), from: end, start, end });
        };
        let bytes = slice.region.read().map_err(StorageError::io("read a segment of", &self.place.folder))?;
        Ok(Extract { bytes, from: slice.first_batch_offset.unwrap_or(from), start, end })
    }

    /// Appends what was extracted from the current log; returns how many bytes that were, and how many offsets
    /// are still missing.
    ///
    /// # Errors
    /// The disk failed, or a batch of the current log is damaged: it is not copied.
    pub fn append_extract(&mut self, extract: &Extract, now_ms: i64) -> Result<(usize, i64), StorageError> {
        // Offsets may be missing between two batches; what was deleted before it was copied makes a new begin.
        let is_cut_off = self.log_end_offset < extract.start;
        let is_unwritten = self.size_bytes() == 0 && self.log_end_offset < extract.from;
        if is_cut_off || is_unwritten {
            self.truncate_fully_and_start_at(extract.from, now_ms)?;
        } else if self.log_end_offset > extract.end {
            self.truncate_to(extract.end, now_ms)?;
        }
        let appended = match self.append_as_follower(&extract.bytes, ANY_EPOCH, now_ms) {
            Ok(appended) => appended,
            Err(AppendError::Storage(error)) => return Err(error),
            Err(error) => return Err(StorageError::corrupt(&self.place.folder, error.to_string())),
        };
        Ok((appended.size, (extract.end - self.log_end_offset).max(0)))
    }

    /// What the current log knows beyond its batches: producers whose batches are deleted, epochs that wrote
    /// nothing, where it begins, how far it is committed and clean. It is not cleaned while it moves.
    ///
    /// # Errors
    /// The disk failed.
    pub fn take_over(&mut self, current: &Self) -> Result<(), StorageError> {
        assert!(
            self.log_end_offset == current.log_end_offset,
            "a future log is complete before it takes over"
        );
        self.high_watermark = self.high_watermark.max(current.high_watermark);
        self.advance_log_start(current.log_start_offset);
        self.cleaner_point = current.cleaner_point;
        self.producers.adopt(&current.producers);
        self.epochs.clone_from(&current.epochs);
        (self.has_unstored_epochs, self.has_fresh_epoch) = (true, current.has_fresh_epoch);
        self.flush()
    }

    /// Renames the folder to the partition's own name, for good when this returns.
    ///
    /// # Errors
    /// The disk failed; the folder may have either name.
    pub fn become_current(&mut self) -> Result<PathBuf, StorageError> {
        let folder = self.rename_folder(&self.partition.to_string())?;
        let directory = folder.parent().unwrap_or(Path::new(""));
        self.place.disk.sync_dir(directory).map_err(StorageError::io("sync", directory))?;
        self.is_folder_synced = true;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicName;

    #[test]
    fn s1_8_a_future_folders_name_tells_its_partition_or_there_is_none() {
        let unique = Uuid([0xab; 16]);
        let named = |topic: &str| {
            folder_name_for_future(&TopicPartition::new(TopicName::new(topic).unwrap(), 3), unique)
        };
        assert_eq!(named("t"), Some(format!("t-3.{}-future", "ab".repeat(16))));
        assert_eq!(named(&"x".repeat(213)).map(|name| name.len()), Some(255));
        assert_eq!(named(&"x".repeat(214)), None);
    }
}
