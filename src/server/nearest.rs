//! Which replica a consumer should read from (KIP-392): one in its own rack, if `replica.selector.class` is Kafka's
//! RackAwareReplicaSelector; among several the one that has the most, and of those the one that caught up last.

use super::node::Node;
use crate::protocol::Str;
use crate::replication::{Partition, ReadableReplica};
use crate::types::Offset;

/// The one selector there is, by the name of Kafka's class.
pub const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// The consumer's rack, where it said one and replicas are chosen by it.
#[must_use]
pub fn rack_of(node: &Node, rack_id: &Str) -> Option<String> {
    if rack_id.is_empty() {
        return None;
    }
    let config = node.config();
    let is_aware = config.replication.selector_class.as_deref() == Some(RACK_AWARE);
    is_aware.then(|| rack_id.to_string())
}

/// The follower to read from at `fetch_offset`; `None` where this broker is as good as any, or does not lead.
#[must_use]
pub fn choose(node: &Node, partition: &Partition, fetch_offset: Offset, rack: &str) -> Option<i32> {
    let image = node.image();
    let is_near = |id: i32| {
        image.broker(id).is_some_and(|broker| !broker.fenced && broker.rack.as_deref() == Some(rack))
    };
    if is_near(node.id.0) {
        return None;
    }
    let (replicas, _) = partition.readable_replicas(fetch_offset);
    best(replicas.into_iter().filter(|replica| is_near(replica.node)))
}

fn best(replicas: impl Iterator<Item = ReadableReplica>) -> Option<i32> {
    replicas.max_by_key(|replica| (replica.log_end_offset, replica.caught_up_ms)).map(|replica| replica.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_that_has_the_most_is_chosen_and_then_the_one_that_caught_up_last() {
        let replica =
            |node, end, caught_up_ms| ReadableReplica { node, log_end_offset: Offset(end), caught_up_ms };
        assert_eq!(best([replica(1, 5, 9), replica(2, 7, 3), replica(3, 7, 4)].into_iter()), Some(3));
        assert_eq!(best(std::iter::empty()), None);
    }
}
