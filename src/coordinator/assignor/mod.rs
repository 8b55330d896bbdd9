//! Server-side assignors: who of a group's members should own which partitions. What came out last time is part
//! of the input, so that a partition moves only where it must. Kafka's results: every partition that somebody
//! subscribes to has one owner, who subscribes to it.
//!
//! Where Kafka's result depends on the order of a hash table, members and topics are taken in the order of their
//! ids here: the same input has the same outcome.

mod heterogeneous;
mod partitions;
mod range;
mod uniform;

use std::collections::BTreeMap;
use std::rc::Rc;

use thiserror::Error;

use crate::types::Uuid;

pub use partitions::Partitions;

/// A server-side assignor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// As many partitions for each member, give or take one, moving as few as possible.
    Uniform,
    /// Consecutive partitions of each topic, in the order of members, so that topics are co-partitioned.
    Range,
}

impl Assignor {
    /// The assignor of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each member should own. A member that is not in the answer should own nothing.
    ///
    /// # Errors
    /// [`AssignorError`]: a mistake of the caller.
    pub fn assign<'a>(self, group: &GroupSpec<'a>) -> Result<BTreeMap<&'a str, Partitions>, AssignorError> {
        if let Some(id) = group.unknown_topic() {
            return Err(AssignorError::UnknownTopic(id));
        }
        if group.members.is_empty() {
            return Ok(BTreeMap::new());
        }
        match self {
            Self::Range => Ok(range::assign(group)),
            Self::Uniform if group.homogeneous => uniform::assign(group),
            Self::Uniform => Ok(heterogeneous::assign(group)),
        }
    }
}

/// What an assignor cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AssignorError {
    /// A subscription names a topic whose partitions are not given.
    #[error("a member is subscribed to topic {0}, which does not exist")]
    UnknownTopic(Uuid),
    /// The members' quotas do not add up to the partitions.
    #[error("partitions were left without an owner")]
    LeftOver,
}

/// One member, as an assignor sees it.
#[derive(Debug, Clone)]
pub struct Subscriber<'a> {
    /// The id of a static member.
    pub instance_id: Option<&'a str>,
    /// The topics that it subscribes to, by id, each once.
    pub topics: Rc<[Uuid]>,
    /// What it should own so far.
    pub assigned: &'a Partitions,
}

/// A group, as an assignor sees it.
#[derive(Debug, Clone, Default)]
pub struct GroupSpec<'a> {
    /// The members by id.
    pub members: BTreeMap<&'a str, Subscriber<'a>>,
    /// Whether all of them subscribe to the same topics.
    pub homogeneous: bool,
    /// How many partitions the topics have.
    pub partition_counts: BTreeMap<Uuid, i32>,
}

impl GroupSpec<'_> {
    fn unknown_topic(&self) -> Option<Uuid> {
        let topics = self.members.values().flat_map(|member| member.topics.iter().copied());
        topics.into_iter().find(|id| !self.partition_counts.contains_key(id))
    }

    fn partition_count(&self, topic: Uuid) -> i32 {
        self.partition_counts.get(&topic).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
