//! What can go wrong between a client and its brokers, as facts.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::net::outgoing::ConnectionError;
use crate::protocol::ErrorCode;
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
    /// The connection to a broker: it cannot be made, it broke, or what came over it is no answer.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
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
            Self::NoBroker { .. } => true,
            Self::Connection(error) => error.is_retriable(),
            Self::Broker(error) => error.code.is_retriable(),
            Self::NoSuchBroker(_) => false,
        }
    }

    /// Whether the broker certainly has not acted on the request.
    #[must_use]
    pub fn is_before_sending(&self) -> bool {
        match self {
            Self::NoBroker { .. } | Self::NoSuchBroker(_) => true,
            Self::Connection(error) => error.is_before_sending(),
            Self::Broker(_) => false,
        }
    }

    /// The code, where a broker answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            Self::Connection(error) => error.code(),
            _ => None,
        }
    }
}
