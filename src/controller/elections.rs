//! What becomes of partitions when a broker leaves, comes back, or turns out to have stopped uncleanly; and
//! leaderships that go back to the preferred replicas by themselves.

use crate::config::BrokerConfig;
use crate::metadata::{Image, MetadataRecord, PartitionRegistration, Topic};

use super::partition_change::{Election, NO_LEADER, PartitionChange, may_elect_uncleanly};

/// How many leaderships move at a time by themselves.
const BALANCED_MAX: usize = 1_000;

/// The broker serves no more: it is fenced, on its way down, or gone.
pub(super) fn leave(image: &Image, config: &BrokerConfig, broker: i32) -> Vec<MetadataRecord> {
    leave_where(image, config, broker, |_, _, partition| partition.isr.contains(&broker))
}

/// The same, of some partitions only. One that nobody can lead any more keeps nobody as its leader.
pub(super) fn leave_where(
    image: &Image,
    config: &BrokerConfig,
    broker: i32,
    concerns: impl Fn(&Topic, i32, &PartitionRegistration) -> bool,
) -> Vec<MetadataRecord> {
    changes(image, config, concerns, |change| {
        change.leaving = Some(broker);
        change.isr.retain(|replica| *replica != broker);
    })
}

/// The broker serves again: partitions without a leader may have one now.
pub(super) fn arrive(image: &Image, config: &BrokerConfig, broker: i32) -> Vec<MetadataRecord> {
    let concerns = |_: &Topic, _: i32, partition: &PartitionRegistration| partition.leader == NO_LEADER;
    changes(image, config, concerns, |change| change.arriving = Some(broker))
}

/// The broker stopped without closing its logs: nowhere is it in sync, and nowhere may it lead without being so.
pub(super) fn stop_uncleanly(image: &Image, config: &BrokerConfig, broker: i32) -> Vec<MetadataRecord> {
    let concerns = |_: &Topic, _: i32, partition: &PartitionRegistration| {
        partition.isr.contains(&broker) || partition.eligible_leader_replicas.contains(&broker)
    };
    changes(image, config, concerns, |change| {
        change.stopped_uncleanly = Some(broker);
        change.isr.retain(|replica| *replica != broker);
    })
}

/// Leaderships back to the preferred replicas, as far as those are in sync: some of them, and whether there may be
/// more to move.
pub(super) fn balance(image: &Image, config: &BrokerConfig) -> (Vec<MetadataRecord>, bool) {
    let away = |_: &Topic, _: i32, partition: &PartitionRegistration| {
        partition.leader != NO_LEADER
            && partition.replicas.first().is_some_and(|first| *first != partition.leader)
    };
    let mut records = changes(image, config, away, |change| change.election = Election::Preferred);
    let has_more = records.len() > BALANCED_MAX;
    records.truncate(BALANCED_MAX);
    (records, has_more)
}

/// Leaders for partitions that have none, where the topic would rather lose records than wait: the setting may have
/// changed since they lost it.
pub(super) fn elect_uncleanly(image: &Image, config: &BrokerConfig) -> Vec<MetadataRecord> {
    let concerns = |topic: &Topic, _: i32, partition: &PartitionRegistration| {
        partition.leader == NO_LEADER && may_elect_uncleanly(image, config, topic)
    };
    changes(image, config, concerns, |_| {})
}

fn changes(
    image: &Image,
    config: &BrokerConfig,
    concerns: impl Fn(&Topic, i32, &PartitionRegistration) -> bool,
    set: impl Fn(&mut PartitionChange<'_>),
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics().iter() {
        for (&partition_id, partition) in &topic.partitions {
            if concerns(topic, partition_id, partition) {
                let mut change = PartitionChange::new(image, config, topic, partition_id, partition);
                set(&mut change);
                records.extend(change.build());
            }
        }
    }
    records
}
