//! What the code of a broker's answer means for a batch and for where its partition leads.

use crate::protocol::ErrorCode;

use super::queue::Outcome;

/// What an answer's code means for the batch.
pub(super) fn judge(code: ErrorCode, message: Option<&str>) -> Outcome {
    let why = || format!("{} ({})", message.unwrap_or(code.message()), code.name());
    match code {
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Outcome::Written,
        ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::InvalidProducerIdMapping => Outcome::WrongSequence { why: why() },
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => Outcome::TooLarge,
        ErrorCode::RequestTimedOut
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::KafkaStorageError
        | ErrorCode::NetworkException => Outcome::Retry { maybe_written: true, why: why() },
        code if code.is_retriable() => Outcome::Retry { maybe_written: false, why: why() },
        _ => Outcome::Refused,
    }
}

/// Whether somebody else has to be asked, who is to be found first.
pub(super) fn leader_is_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::KafkaStorageError
    )
}
