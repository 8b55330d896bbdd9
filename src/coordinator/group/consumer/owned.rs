//! [`Owned`]: partitions, each with the epoch at which its member was given it.

use std::collections::BTreeMap;

use crate::coordinator::assignor::Partitions;
use crate::protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use crate::types::Uuid;

/// A partition's number and the epoch at which its member was given it.
type Since = (i32, i32);

/// Partitions by topic id, with the epoch of their assignment, in ascending order. No topic is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::coordinator) struct Owned(Box<[(Uuid, Box<[Since]>)]>);

impl Owned {
    /// Topic, partition and epoch of each.
    pub(in crate::coordinator) fn iter(&self) -> impl Iterator<Item = (Uuid, i32, i32)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, epoch)| (*topic, *partition, *epoch))
        })
    }

    /// Whether there is none.
    pub(in crate::coordinator) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The epoch at which this partition was assigned, if it is here.
    pub(in crate::coordinator) fn epoch_of(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let (_, partitions) = self.0.get(self.0.binary_search_by_key(&topic, |(id, _)| *id).ok()?)?;
        let at = partitions.binary_search_by_key(&partition, |(number, _)| *number).ok()?;
        partitions.get(at).map(|(_, epoch)| *epoch)
    }

    /// Whether this partition is here.
    pub(in crate::coordinator) fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.epoch_of(topic, partition).is_some()
    }

    /// Without the epochs.
    pub(in crate::coordinator) fn partitions(&self) -> Partitions {
        self.iter().map(|(topic, partition, _)| (topic, partition)).collect()
    }

    /// The same partitions, all since this epoch.
    pub(in crate::coordinator) fn since(partitions: &Partitions, epoch: i32) -> Self {
        partitions.flat().map(|(topic, partition)| (topic, partition, epoch)).collect()
    }

    /// As a record has it. Epochs that an older Kafka did not write count as `default_epoch`.
    pub(in crate::coordinator) fn from_record(topics: &[TopicPartitions], default_epoch: i32) -> Self {
        let entries = topics.iter().flat_map(|topic| {
            let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
            let whole = epochs.len() == topic.partitions.len();
            topic.partitions.iter().enumerate().map(move |(at, partition)| {
                let epoch = epochs.get(at).copied().filter(|_| whole).unwrap_or(default_epoch.max(0));
                (topic.topic_id, *partition, epoch)
            })
        });
        entries.collect()
    }

    /// As a record has it.
    pub(in crate::coordinator) fn to_record(&self) -> Vec<TopicPartitions> {
        let topic = |(topic_id, partitions): &(Uuid, Box<[Since]>)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().map(|(partition, _)| *partition).collect(),
            assignment_epochs: Some(partitions.iter().map(|(_, epoch)| *epoch).collect()),
            ..TopicPartitions::default()
        };
        self.0.iter().map(topic).collect()
    }
}

impl FromIterator<(Uuid, i32, i32)> for Owned {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32, i32)>>(entries: I) -> Self {
        let mut topics: BTreeMap<Uuid, BTreeMap<i32, i32>> = BTreeMap::new();
        for (topic, partition, epoch) in entries {
            topics.entry(topic).or_default().insert(partition, epoch);
        }
        Self(
            topics.into_iter().map(|(topic, partitions)| (topic, partitions.into_iter().collect())).collect(),
        )
    }
}
