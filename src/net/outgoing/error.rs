//! What can go wrong on one connection out, as facts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};
use crate::types::print_duration;

/// Why a call over one connection failed. Cheap to clone: one broken connection fails every call on it.
#[derive(Debug, Clone, Error)]
pub enum ConnectionError {
    /// A broker's address cannot be connected to.
    #[error("cannot connect to {peer}: {source}")]
    Connect {
        /// The address.
        peer: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The broker closed the connection, or it broke.
    #[error("the connection to {peer} broke: {why}")]
    Disconnected {
        /// The address.
        peer: Arc<str>,
        /// What the system said.
        why: Arc<str>,
    },
    /// The answer did not come in time.
    #[error("{peer} did not answer {} within {}", .api.name(), print_duration(*.after))]
    TimedOut {
        /// The address.
        peer: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// How long was waited.
        after: Duration,
    },
    /// The broker announces an answer larger than is accepted, or of a negative size.
    #[error(
        "{peer} announces an answer of {size} bytes; at most {max} are taken (receive.message.max.bytes)"
    )]
    FrameSize {
        /// The address.
        peer: Arc<str>,
        /// The size announced.
        size: i32,
        /// The most that is accepted.
        max: usize,
    },
    /// The answer is not what Kafka's protocol says.
    #[error("{peer} answers {} version {version} with what is none: {source}", .api.name())]
    Decode {
        /// The address.
        peer: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// Where it stops making sense.
        source: DecodeError,
    },
    /// An answer to another request than the oldest unanswered one.
    #[error("{peer} answers request {got}, but {expected} is next")]
    OutOfOrder {
        /// The address.
        peer: Arc<str>,
        /// The correlation id that came.
        got: i32,
        /// The correlation id that is due.
        expected: i32,
    },
    /// The request cannot be said in the version that both sides know.
    #[error("{} cannot be sent in version {version}: {source}", .api.name())]
    Encode {
        /// What was to be asked.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// Which field it lacks.
        source: EncodeError,
    },
    /// The broker does not know the API, or no version of it that we know.
    #[error("{peer} does not speak {} in a version that klamm knows ({theirs}; klamm {ours})", .api.name())]
    UnsupportedVersion {
        /// The address.
        peer: Arc<str>,
        /// The API.
        api: ApiKey,
        /// What the broker offers, in words.
        theirs: String,
        /// What we offer, in words.
        ours: String,
    },
    /// The broker answers the first question, which versions it knows, with an error.
    #[error("{peer}: {} ({})", .code.message(), .code.name())]
    Refused {
        /// The address.
        peer: Arc<str>,
        /// Its reason.
        code: ErrorCode,
    },
}

impl ConnectionError {
    /// Whether the same call may succeed a little later, over another connection.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether the other end certainly has not acted on the request.
    #[must_use]
    pub fn is_before_sending(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Encode { .. }
                | Self::UnsupportedVersion { .. }
                | Self::Refused { .. }
        )
    }

    /// The code, where the other end answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}
