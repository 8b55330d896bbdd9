//! What can go wrong on a disk, as facts. `server` turns them into Kafka's error codes in one place.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::record::BatchError;
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// The directory was taken offline: a write or sync failed, and what reached the disk since is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("log directory {} is offline: {why}", directory.display())]
pub struct DirectoryOffline {
    /// The log directory.
    pub directory: PathBuf,
    /// The first failure.
    pub why: String,
}

/// Why storage could not do what it was asked.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `write`, `sync` …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The whole log directory is out of use until a restart.
    #[error(transparent)]
    Offline(#[from] DirectoryOffline),
    /// A file does not hold what it must, and recovery is not allowed to mend it.
    #[error("{}: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found, with the position where there is one.
        why: String,
    },
    /// The log of that partition exists already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The partition's folder.
        path: PathBuf,
    },
    /// The name is no legal one for a partition's folder.
    #[error("{0}")]
    Refused(String),
}

impl StorageError {
    /// Wraps what the system said; an error that carries [`DirectoryOffline`] stays that.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.get_ref().and_then(|inner| inner.downcast_ref::<DirectoryOffline>()) {
            Some(offline) => Self::Offline(offline.clone()),
            None => Self::Io { action, path, source },
        }
    }

    /// A file whose content is not what it must be.
    pub(super) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), why: why.into() }
    }
}

/// Why a read gave no slice.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no such offset (any more, or yet).
    #[error("offset {requested} is out of range: {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The log end offset.
        end: Offset,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why batches were not appended. Nothing of them is in the log then, but for `Storage`: what the disk holds
/// after it failed is unknown, and the directory is offline.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The bytes are not whole batches.
    #[error("batch at byte {position}: {source}")]
    Batch {
        /// Where the batch begins in what was handed over.
        position: usize,
        /// What is wrong with it.
        source: BatchError,
    },
    /// More bytes than a segment may hold.
    #[error("{size} bytes do not fit a segment of {segment_bytes}")]
    LargerThanSegment {
        /// Bytes handed over.
        size: usize,
        /// `segment.bytes`.
        segment_bytes: u64,
    },
    /// The sequence does not follow the producer's last one, and is none of its last five batches.
    #[error(
        "out of order sequence of producer {producer_id}: {sequence} came, {} was the last",
        last_sequence.map_or_else(|| "none".to_owned(), |last| last.to_string())
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The first sequence of the batch.
        sequence: i32,
        /// The last sequence in the log.
        last_sequence: Option<i32>,
    },
    /// A newer incarnation of this producer has written.
    #[error("epoch {epoch} of producer {producer_id} is fenced by {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The epoch in the log.
        current: ProducerEpoch,
    },
    /// A marker of an older transaction coordinator.
    #[error("coordinator epoch {epoch} of producer {producer_id} is fenced by {current}")]
    CoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The marker's coordinator epoch.
        epoch: i32,
        /// The coordinator epoch in the log.
        current: i32,
    },
    /// A batch outside the transaction that its producer has open.
    #[error("producer {producer_id} has a transaction open since offset {since}; a batch outside it came")]
    InvalidTransactionState {
        /// The producer.
        producer_id: ProducerId,
        /// The first offset of the open transaction.
        since: Offset,
    },
    /// A follower was handed an offset that it holds already, or offsets that go back.
    #[error("offset {offset} cannot be appended: the next one is {expected}")]
    UnexpectedOffset {
        /// The base offset of the batch.
        offset: Offset,
        /// The smallest that is allowed.
        expected: Offset,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
