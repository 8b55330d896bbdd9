//! Which log directory of a broker holds which replica, and what becomes of the replicas in one that is out of
//! use. Decided by what the broker tells: it chooses the directories.

use std::collections::BTreeSet;

use crate::metadata::record::LEVEL_DIRECTORIES;
use crate::metadata::{Image, METADATA_VERSION, MetadataRecord, PartitionRegistration, ReplicaDirectory};
use crate::protocol::ErrorCode;
use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::types::Uuid;

use super::brokers::{lead, may_lead};
use super::decision::{Answer, Context, Decision, Refusal};

/// As a leader: none.
const NO_LEADER: i32 = -1;
/// As a directory: one that is gone, not known which.
const LOST: Uuid = Uuid::ONE;

/// Whether a replica in `directory` can be used on a broker with these online directories. One that is not
/// assigned yet can; a broker that names no directories does not keep track of them.
pub(super) fn is_online(directory: Uuid, online: &[Uuid]) -> bool {
    if directory.is_reserved() { directory != LOST } else { online.is_empty() || online.contains(&directory) }
}

/// Decides to note where replicas lie. What is noted already, or gone meanwhile, is passed over.
pub(super) fn assign(context: &mut Context<'_>, replicas: &[ReplicaDirectory]) -> Decision<Noted> {
    let mut records = Vec::new();
    for replica in replicas {
        let Some(record) = assignment(context.image(), context.node_id, replica) else { continue };
        if context.builder.apply(record.clone()).is_ok() {
            records.push(record);
        }
    }
    Decision { records, answer: Ok(()) }
}

fn assignment(image: &Image, broker: i32, replica: &ReplicaDirectory) -> Option<MetadataRecord> {
    let topic = image.topic_by_id(replica.topic_id)?;
    let partition = topic.partitions.get(&replica.partition)?;
    let at = partition.replicas.iter().position(|id| *id == broker)?;
    let tracks = image.feature(METADATA_VERSION) >= LEVEL_DIRECTORIES;
    if !tracks || partition.directory_of(broker) == replica.directory {
        return None;
    }
    let mut directories = partition.directories.clone();
    directories.resize(partition.replicas.len(), Uuid::ZERO);
    directories[at] = replica.directory;
    let online = image.broker(broker).map(|broker| broker.log_dirs.as_slice()).unwrap_or_default();
    let is_usable = is_online(replica.directory, online);
    let change = match partition.leader {
        NO_LEADER if is_usable && may_lead(partition, broker) => lead(partition, broker),
        // The directory failed before the replica was assigned to it.
        leader if leader == broker && !is_usable => without_leader(partition, broker, tracks_eligible(image)),
        _ => PartitionChangeRecord::default(),
    };
    Some(MetadataRecord::from(PartitionChangeRecord {
        partition_id: replica.partition,
        topic_id: topic.id,
        directories: Some(directories),
        ..change
    }))
}

/// Decides that directories of this broker are out of use: it registers the others, and its replicas in them
/// lead no more.
pub(super) fn fail(context: &mut Context<'_>, failed: &BTreeSet<Uuid>) -> Decision<Noted> {
    let image = context.image();
    let mut records = Vec::new();
    if let Some(broker) = image.broker(context.node_id)
        && image.feature(METADATA_VERSION) >= LEVEL_DIRECTORIES
    {
        let online: Vec<Uuid> = broker.log_dirs.iter().copied().filter(|id| !failed.contains(id)).collect();
        // With none left the broker is about to end.
        if online.len() < broker.log_dirs.len() && !online.is_empty() {
            records.extend(stop_leading(image, context.node_id, &online));
            records.push(MetadataRecord::from(BrokerRegistrationChangeRecord {
                broker_id: context.node_id,
                broker_epoch: broker.epoch,
                log_dirs: online,
                ..BrokerRegistrationChangeRecord::default()
            }));
        }
    }
    for record in &records {
        if let Err(error) = context.builder.apply(record.clone()) {
            return Decision { records: Vec::new(), answer: Err(Refusal::from(error).code) };
        }
    }
    Decision { records, answer: Ok(()) }
}

/// The partitions that `broker` leads and whose replica there is in none of the `online` directories lose
/// their leader.
pub(super) fn stop_leading(image: &Image, broker: i32, online: &[Uuid]) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics().iter() {
        for (&partition_id, partition) in &topic.partitions {
            if partition.leader == broker && !is_online(partition.directory_of(broker), online) {
                records.push(MetadataRecord::from(PartitionChangeRecord {
                    partition_id,
                    topic_id: topic.id,
                    ..without_leader(partition, broker, tracks_eligible(image))
                }));
            }
        }
    }
    records
}

fn tracks_eligible(image: &Image) -> bool {
    image.feature("eligible.leader.replicas.version") > 0
}

/// The last replica in sync stays the one that may lead again: among the eligible ones where they are kept
/// track of, else in sync.
fn without_leader(
    partition: &PartitionRegistration,
    broker: i32,
    tracks_eligible: bool,
) -> PartitionChangeRecord {
    let rest: Vec<i32> = partition.isr.iter().copied().filter(|id| *id != broker).collect();
    let mut change = PartitionChangeRecord { leader: NO_LEADER, ..PartitionChangeRecord::default() };
    if tracks_eligible {
        let mut eligible = partition.eligible_leader_replicas.clone();
        eligible.extend(partition.isr.iter().filter(|id| **id == broker));
        change.isr = Some(rest);
        change.eligible_leader_replicas = Some(eligible);
    }
    change
}

/// Whether it was noted.
pub(super) type Noted = Result<(), ErrorCode>;

impl Answer for Noted {
    fn refuse(&mut self, refusal: &Refusal) {
        *self = Err(refusal.code);
    }
}
