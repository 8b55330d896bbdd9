//! What can be wrong with a configuration, said with the key, the value and what to do.

use thiserror::Error;

/// A configuration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No such key.
    #[error("there is no configuration {name:?}{}", suggestion(.nearest.as_deref()))]
    UnknownKey {
        /// The key as it was given.
        name: String,
        /// The known key that is most like it.
        nearest: Option<String>,
    },
    /// The value has the wrong type or range. Kafka's form of the message.
    #[error("Invalid value {value} for configuration {name}: {why}")]
    InvalidValue {
        /// The key.
        name: String,
        /// The value; hidden where it is a password.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The value asks for a part that is not there.
    #[error("{name}={value} is refused: klamm does not have {part} yet; leave {name} at its default")]
    NotBuilt {
        /// The key.
        name: String,
        /// The value; hidden where it is a password.
        value: String,
        /// What it waits for.
        part: String,
    },
    /// Two settings that cannot both hold.
    #[error("{0}")]
    Conflict(String),
    /// The text of a properties file cannot be read.
    #[error("line {line}: {why}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name:?}?"),
        None => "; the names are those of Apache Kafka 4.3".to_owned(),
    }
}

/// What is said once at the start, and does not stop it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Warning {
    /// Keys of a file that no version of klamm or Kafka 4.3 knows.
    #[error("unknown configurations, ignored: {}", .0.join(", "))]
    UnknownKeys(Vec<String>),
    /// A key that is accepted and does nothing, now or ever.
    #[error("{name}={value} has no effect: {why}")]
    NoEffect {
        /// The key.
        name: String,
        /// Its value; hidden where it is a password.
        value: String,
        /// Why not.
        why: String,
    },
}
