//! Topic names and partitions, checked once at the door.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A legal Kafka topic name: 1 to 249 characters of `[a-zA-Z0-9._-]`, not `.` and not `..`.
///
/// Cheap to clone. Safe as part of a folder name: it holds no separator and no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a string is no topic name, in Kafka's own categories.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidTopicName {
    /// The empty string.
    #[error("the topic name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("the topic name cannot be {0:?}")]
    Dots(String),
    /// Longer than [`TopicName::LENGTH_MAX`].
    #[error("the topic name is {0} characters long; {max} is the longest allowed", max = TopicName::LENGTH_MAX)]
    TooLong(usize),
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("the topic name {0:?} is illegal: it may hold only ASCII letters, digits, '.', '_' and '-'")]
    IllegalCharacter(String),
}

impl TopicName {
    /// The longest legal name, in characters: with `-<partition>.<uuid>-delete` it still fits a folder name.
    pub const LENGTH_MAX: usize = 249;

    /// Checks `name` by Kafka's rules.
    ///
    /// # Errors
    /// [`InvalidTopicName`], with a message for the user.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Dots(name.to_owned()));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(InvalidTopicName::IllegalCharacter(name.chars().take(Self::LENGTH_MAX).collect()));
        }
        if name.len() > Self::LENGTH_MAX {
            return Err(InvalidTopicName::TooLong(name.len()));
        }
        Ok(Self(name.into()))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as metric systems fold it, `.` to `_`: two topics whose folded names are equal collide
    /// (Kafka refuses to create the second).
    #[must_use]
    pub fn collision_key(&self) -> String {
        self.0.replace('.', "_")
    }

    /// One of Kafka's own topics: `__consumer_offsets`, `__transaction_state`, `__share_group_state`.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One partition of one topic; prints as Kafka does, `topic-partition`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, 0 or more.
    pub partition: i32,
}

impl TopicPartition {
    /// Puts the two together; `partition` is taken as it is.
    #[must_use]
    pub fn new(topic: TopicName, partition: i32) -> Self {
        Self { topic, partition }
    }

    /// Reads a folder name `<topic>-<partition>`; `None` where it is not one.
    #[must_use]
    pub fn from_dir_name(name: &str) -> Option<Self> {
        let (topic, digits) = name.rsplit_once('-')?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self { topic: TopicName::new(topic).ok()?, partition: digits.parse().ok()? })
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../etc", "a\0", "ä", "a b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn folder_names_round_trip() {
        let parsed = TopicPartition::from_dir_name("my-topic-12").unwrap();
        assert_eq!((parsed.topic.as_str(), parsed.partition), ("my-topic", 12));
        assert_eq!(parsed.to_string(), "my-topic-12");
        for bad in ["nodash", "-1", "t-", "t-x", "t-99999999999", "t-1.abc-delete"] {
            assert_eq!(TopicPartition::from_dir_name(bad), None, "{bad}");
        }
    }
}
