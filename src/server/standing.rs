//! How a topic's partitions stand, as Metadata and DescribeTopicPartitions tell it: who leads, and which
//! replicas are not there. A log directory of this node that fails while it runs counts from that moment on.

use std::sync::Arc;

use super::node::Node;
use crate::metadata::{Image, PartitionRegistration, Topic};
use crate::protocol::ErrorCode;
use crate::replication::{PartitionError, Topic as LocalTopic};

/// What is said of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// `LeaderNotAvailable` where nobody leads.
    pub(super) error: ErrorCode,
    /// -1 where nobody leads.
    pub(super) leader: i32,
    /// The replicas whose broker, or whose directory on it, is not there.
    pub(super) offline_replicas: Vec<i32>,
}

/// The partitions of one topic.
pub(super) struct Standings<'a> {
    image: &'a Image,
    node: i32,
    here: Option<Arc<LocalTopic>>,
}

impl<'a> Standings<'a> {
    pub(super) fn of(node: &Node, image: &'a Image, topic: &Topic) -> Self {
        Self { image, node: node.id.0, here: node.topic_by_id(topic.id) }
    }

    pub(super) fn partition(&self, index: i32, partition: &PartitionRegistration) -> Standing {
        let is_offline = |replica: &i32| self.is_offline(*replica, index, partition);
        let has_leader = self.is_alive(partition.leader) && !is_offline(&partition.leader);
        Standing {
            error: if has_leader { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
            leader: if has_leader { partition.leader } else { -1 },
            offline_replicas: partition.replicas.iter().copied().filter(is_offline).collect(),
        }
    }

    fn is_alive(&self, broker: i32) -> bool {
        self.image.broker(broker).is_some_and(|broker| !broker.fenced)
    }

    fn is_offline(&self, replica: i32, index: i32, partition: &PartitionRegistration) -> bool {
        let Some(broker) = self.image.broker(replica).filter(|broker| !broker.fenced) else { return true };
        let directory = partition.directory_of(replica);
        let is_elsewhere =
            !directory.is_reserved() && !broker.log_dirs.is_empty() && !broker.log_dirs.contains(&directory);
        is_elsewhere || replica == self.node && self.has_failed(index)
    }

    /// Whether this node's own log of the partition cannot be used: the image does not know that.
    fn has_failed(&self, index: i32) -> bool {
        let Some(topic) = &self.here else { return false };
        let log = topic.partition(index).map(|partition| partition.check_online());
        topic.is_offline(index) || matches!(log, Some(Err(PartitionError::Offline)))
    }
}
