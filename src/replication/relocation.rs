//! Moving a partition's log into another log directory while it is written (AlterReplicaLogDirs).
//!
//! A future log is filled from the current one piece by piece; what is still missing at the end is copied under
//! the partition's locks, and then the two change places. Locks in their order: `flushing`, `future`, `log`.

use std::path::PathBuf;

use super::partition::Partition;
use crate::storage::{Log, LogOptions, LogPoint, StorageError};
use crate::types::Offset;

/// What one step of copying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of batches.
    pub bytes: usize,
    /// Offsets that the future log still lacks.
    pub lag: i64,
}

/// The future log, as DescribeLogDirs tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FutureLog {
    /// In which log directory.
    pub directory: PathBuf,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// Offsets that it lacks.
    pub lag: i64,
}

/// How much is copied at a time under the partition's locks.
const LAST_PIECE_BYTES: usize = 1 << 20;

impl Partition {
    /// Has `future` filled from now on. One that was there is returned: it is of no use any more.
    ///
    /// Nothing is cleaned until the move has ended: a record that was copied early and goes later, and its tombstone
    /// that goes before it is copied, would come back in the future log.
    pub fn begin_move(&self, future: Log) -> Option<Box<Log>> {
        let mut slot = self.future.lock();
        self.log.lock().abort_cleaning();
        slot.replace(Box::new(future))
    }

    /// Whether the log is on its way to another directory.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.future.lock().is_some()
    }

    /// Gives a move up: the future log, where there was one.
    pub fn cancel_move(&self) -> Option<Box<Log>> {
        self.future.lock().take()
    }

    /// The directory that the log is on its way to.
    #[must_use]
    pub fn future_directory(&self) -> Option<PathBuf> {
        self.future.lock().as_ref().map(|future| future.directory())
    }

    /// How far the move is.
    #[must_use]
    pub fn future_log(&self) -> Option<FutureLog> {
        let future = self.future.lock();
        let future = future.as_ref()?;
        let end: Offset = self.log.lock().log_end_offset();
        Some(FutureLog {
            directory: future.directory(),
            size_bytes: future.size_bytes(),
            lag: (end - future.log_end_offset()).max(0),
        })
    }

    /// What the checkpoints of its directory say of the future log.
    #[must_use]
    pub fn future_point(&self) -> Option<LogPoint> {
        self.future.lock().as_ref().map(|future| future.point())
    }

    /// Copies about `max_bytes` into the future log; `None` where nothing is to be moved any more.
    ///
    /// # Errors
    /// One of the two disks failed, or a batch is damaged.
    pub fn copy_to_future(&self, max_bytes: usize, now_ms: i64) -> Result<Option<Copied>, StorageError> {
        let mut future = self.future.lock();
        let Some(future) = future.as_mut().filter(|_| self.check_online().is_ok()) else { return Ok(None) };
        let extract = self.log.lock().extract(future.log_end_offset(), max_bytes)?;
        let (bytes, lag) = future.append_extract(&extract, now_ms)?;
        Ok(Some(Copied { bytes, lag }))
    }

    /// Syncs what has been copied, so that little is left for the moment in which the logs change places.
    ///
    /// # Errors
    /// The disk failed.
    pub fn flush_future(&self) -> Result<(), StorageError> {
        match &mut *self.future.lock() {
            Some(future) => future.flush(),
            None => Ok(()),
        }
    }

    /// Copies the rest and lets the two logs change places; returns the one that is to be deleted. `settle` is
    /// called when the future log is complete and before it counts, with what checkpoints are to say of it.
    ///
    /// # Errors
    /// The disk failed. The partition's log is the one that it was, unless a start finds both.
    pub fn finish_move(
        &self,
        now_ms: i64,
        settle: impl FnOnce(LogPoint),
    ) -> Result<Option<Log>, StorageError> {
        let _no_flush = self.flushing.lock();
        let mut slot = self.future.lock();
        let mut log = self.log.lock();
        let Some(future) = slot.as_mut().filter(|_| self.check_online().is_ok()) else { return Ok(None) };
        loop {
            let extract = log.extract(future.log_end_offset(), LAST_PIECE_BYTES)?;
            if future.append_extract(&extract, now_ms)?.1 == 0 {
                break;
            }
        }
        future.take_over(&log)?;
        settle(future.point());
        future.become_current()?;
        let Some(future) = slot.take() else { return Ok(None) };
        let before = self.replace_log(&mut log, *future);
        drop(log);
        self.notify_all();
        Ok(Some(before))
    }

    /// New settings hold for the future log, too.
    pub(super) fn set_future_options(&self, options: LogOptions) {
        if let Some(future) = &mut *self.future.lock() {
            future.set_options(options);
        }
    }
}
