//! A group of either protocol, and what both can be asked.

mod classic;
mod consumer;

use crate::protocol::Str;

use super::records::ForeignKind;

pub use classic::{ClassicGroup, ClassicMember, ClassicProtocol, ClassicState, InitialDelay};
pub(super) use classic::{Join, refused_join, refused_sync};
pub use consumer::ConsumerGroup;

/// A group. Boxed: one that merely commits should stay small.
#[derive(Debug)]
pub enum Group {
    /// Members vote and their leader assigns.
    Classic(Box<ClassicGroup>),
    /// The coordinator assigns.
    Consumer(Box<ConsumerGroup>),
    /// Of a type that is not coordinated here: its id is taken.
    Foreign(ForeignKind),
}

/// The type of a group, as ListGroups names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupType {
    /// `classic`
    Classic,
    /// `consumer`
    Consumer,
    /// `share`
    Share,
    /// `streams`
    Streams,
}

impl GroupType {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
        }
    }
}

impl Group {
    /// Its type.
    #[must_use]
    pub fn group_type(&self) -> GroupType {
        match self {
            Self::Classic(_) => GroupType::Classic,
            Self::Consumer(_) => GroupType::Consumer,
            Self::Foreign(ForeignKind::Share) => GroupType::Share,
            Self::Foreign(ForeignKind::Streams) => GroupType::Streams,
        }
    }

    /// Its state, as Kafka names it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state.name(),
            Self::Consumer(group) => group.state_name(),
            Self::Foreign(_) => "Unknown",
        }
    }

    /// Its protocol type, as ListGroups has it.
    #[must_use]
    pub fn protocol_type(&self) -> Str {
        match self {
            Self::Classic(group) => group.protocol_type.clone().unwrap_or_default(),
            Self::Consumer(_) => Str::from_static("consumer"),
            Self::Foreign(ForeignKind::Share) => Str::from_static("share"),
            Self::Foreign(ForeignKind::Streams) => Str::from_static("streams"),
        }
    }

    /// Whether a member reads this topic: its offsets then neither expire nor may be deleted.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
            Self::Foreign(_) => true,
        }
    }
}
