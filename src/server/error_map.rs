//! What the layers below call wrong, in Kafka's error codes: here and nowhere else.

use std::fmt;

use crate::protocol::ErrorCode;
use crate::record::{BatchError, RecordError, WalkError, WalkErrorKind};
use crate::replication::PartitionError;
use crate::storage::{AppendError, ReadError, StorageError};

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people, where there is more to say than the code does.
    pub message: Option<String>,
    /// The records to blame.
    pub record_errors: Vec<RecordError>,
}

impl Failure {
    /// A code with a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), record_errors: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.code.name()),
            None => f.write_str(self.code.name()),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, record_errors: Vec::new() }
    }
}

impl From<WalkError> for Failure {
    fn from(error: WalkError) -> Self {
        let code = match error.kind {
            WalkErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
            WalkErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
            WalkErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
            WalkErrorKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
            WalkErrorKind::RecordTooLarge => ErrorCode::MessageTooLarge,
        };
        Self { code, message: Some(error.message), record_errors: error.record_errors }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        Self::new(ErrorCode::CorruptMessage, error.to_string())
    }
}

impl From<PartitionError> for Failure {
    fn from(error: PartitionError) -> Self {
        let code = of_partition(&error);
        Self::new(code, error.to_string())
    }
}

/// The code of what went wrong at a partition.
#[must_use]
pub fn of_partition(error: &PartitionError) -> ErrorCode {
    match error {
        PartitionError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        PartitionError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        PartitionError::NotLeader => ErrorCode::NotLeaderOrFollower,
        PartitionError::TooFewInSync { .. } => ErrorCode::NotEnoughReplicas,
        PartitionError::TooFewAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        PartitionError::Deleted => ErrorCode::UnknownTopicOrPartition,
        PartitionError::Offline => ErrorCode::KafkaStorageError,
        PartitionError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        PartitionError::Append(error) => of_append(error),
        PartitionError::Read(error) => of_read(error),
        PartitionError::Storage(error) => of_storage(error),
    }
}

fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Batch { .. } => ErrorCode::CorruptMessage,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
        AppendError::UnexpectedOffset { .. } => ErrorCode::UnknownServerError,
        AppendError::Storage(error) => of_storage(error),
    }
}

fn of_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Storage(error) => of_storage(error),
    }
}

/// The code of a disk's failure.
#[must_use]
pub fn of_storage(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Io { .. }
        | StorageError::Offline(_)
        | StorageError::Corrupt { .. }
        | StorageError::Exists { .. }
        | StorageError::Refused(_) => ErrorCode::KafkaStorageError,
    }
}
