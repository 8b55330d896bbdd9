//! What can go wrong between a client and its brokers, as facts.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};
use crate::types::{BrokerId, print_duration};

/// Why a call to a cluster failed. Cheap to clone: one broken connection fails every call on it.
#[derive(Debug, Clone, Error)]
pub enum ClientError {
    /// No bootstrap server answered.
    #[error("no broker answers at {bootstrap} ({why}, gave up after {})", print_duration(*.after))]
    NoBroker {
        /// The addresses tried.
        bootstrap: String,
        /// What the last one said.
        why: String,
        /// How long it was tried.
        after: Duration,
    },
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
    /// The cluster has no such broker (any more).
    #[error("the cluster has no broker {0}")]
    NoSuchBroker(BrokerId),
    /// A broker answered with one of Kafka's error codes.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// An error code of Kafka's, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct BrokerError {
    /// The code.
    pub code: ErrorCode,
    /// What it is about: `topic orders`, `orders-3`.
    pub about: String,
    /// The broker's own words, where it has any.
    pub message: Option<String>,
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.message.as_deref().filter(|words| !words.is_empty());
        if words.is_none() && self.code == ErrorCode::UnknownTopicOrPartition && !self.about.is_empty() {
            return write!(f, "{} does not exist ({})", self.about, self.code.name());
        }
        if !self.about.is_empty() {
            write!(f, "{}: ", self.about)?;
        }
        write!(f, "{} ({})", words.unwrap_or(self.code.message()), self.code.name())
    }
}

impl BrokerError {
    /// `Ok` for code 0, else the error with what it is about.
    ///
    /// # Errors
    /// The code, where it is one.
    pub fn check(code: i16, about: impl FnOnce() -> String, message: Option<&str>) -> Result<(), Self> {
        match ErrorCode::from_wire(code) {
            ErrorCode::None => Ok(()),
            code => Err(Self { code, about: about(), message: message.map(str::to_owned) }),
        }
    }
}

impl ClientError {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::NoBroker { .. } => true,
            Self::Broker(error) => error.code.is_retriable(),
            _ => false,
        }
    }

    /// Whether the broker certainly has not acted on the request.
    #[must_use]
    pub fn is_before_sending(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::NoBroker { .. }
                | Self::Encode { .. }
                | Self::UnsupportedVersion { .. }
                | Self::NoSuchBroker(_)
        )
    }

    /// The code, where a broker answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            _ => None,
        }
    }
}
