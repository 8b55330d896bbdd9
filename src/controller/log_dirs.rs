//! Which log directory of a broker holds which replica, and what becomes of the replicas in one that is out of
//! use. Decided by what the broker tells: it chooses the directories.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::BrokerConfig;
use crate::metadata::record::LEVEL_DIRECTORIES;
use crate::metadata::{Image, METADATA_VERSION, MetadataRecord, ReplicaDirectory};
use crate::protocol::ErrorCode;
use crate::protocol::messages::assign_replicas_to_dirs_request::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use crate::protocol::messages::assign_replicas_to_dirs_response::{
    AssignReplicasToDirsResponse, DirectoryData as DirectoryAnswer, PartitionData as PartitionAnswer,
    TopicData as TopicAnswer,
};
use crate::types::Uuid;

use super::decision::{Answer, Context, Decision, Refusal};
use super::elections::leave_where;
use super::heartbeats::{check_epoch, fail_directories};
use super::partition_change::{Election, PartitionChange};

/// As a directory: one that is gone, not known which.
const LOST: Uuid = Uuid::ONE;

/// Whether a replica in `directory` can be used on a broker with these online directories. One that is not
/// assigned yet can; a broker that names no directories does not keep track of them.
pub(super) fn is_online(directory: Uuid, online: &[Uuid]) -> bool {
    if directory.is_reserved() { directory != LOST } else { online.is_empty() || online.contains(&directory) }
}

/// A broker's request to note where these replicas lie.
pub(super) fn request(
    broker_id: i32,
    broker_epoch: i64,
    replicas: &[ReplicaDirectory],
) -> AssignReplicasToDirsRequest {
    let mut by_directory: BTreeMap<Uuid, BTreeMap<Uuid, Vec<PartitionData>>> = BTreeMap::new();
    for replica in replicas {
        let partition = PartitionData { partition_index: replica.partition, ..PartitionData::default() };
        let topics = by_directory.entry(replica.directory).or_default();
        topics.entry(replica.topic_id).or_default().push(partition);
    }
    let topic = |(topic_id, partitions)| TopicData { topic_id, partitions, ..TopicData::default() };
    let directory = |(id, topics): (Uuid, BTreeMap<Uuid, Vec<PartitionData>>)| DirectoryData {
        id,
        topics: topics.into_iter().map(topic).collect(),
        ..DirectoryData::default()
    };
    let directories = by_directory.into_iter().map(directory).collect();
    AssignReplicasToDirsRequest { broker_id, broker_epoch, directories, ..Default::default() }
}

/// Decides on AssignReplicasToDirs: notes where replicas lie. What is noted already is passed over; a replica in a
/// directory that has failed meanwhile is in sync no more.
pub(super) fn assign(
    context: &mut Context<'_>,
    request: &AssignReplicasToDirsRequest,
) -> Decision<AssignReplicasToDirsResponse> {
    let mut answer = AssignReplicasToDirsResponse::default();
    if let Err(refusal) = check_assign(context, request) {
        answer.refuse(&refusal);
        return Decision { records: Vec::new(), answer };
    }
    let mut records = Vec::new();
    for directory in &request.directories {
        let topics = directory.topics.iter();
        answer.directories.push(DirectoryAnswer {
            id: directory.id,
            topics: topics
                .map(|topic| assign_topic(context, request.broker_id, directory, topic, &mut records))
                .collect(),
            ..DirectoryAnswer::default()
        });
    }
    Decision { records, answer }
}

fn check_assign(context: &Context<'_>, request: &AssignReplicasToDirsRequest) -> Result<(), Refusal> {
    if context.image().feature(METADATA_VERSION) < LEVEL_DIRECTORIES {
        let message = "Directories are not kept track of at this metadata.version.";
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    check_epoch(context, request.broker_id, request.broker_epoch)
}

fn assign_topic(
    context: &mut Context<'_>,
    broker: i32,
    directory: &DirectoryData,
    topic: &TopicData,
    records: &mut Vec<MetadataRecord>,
) -> TopicAnswer {
    let mut answer = TopicAnswer { topic_id: topic.topic_id, ..TopicAnswer::default() };
    for asked in &topic.partitions {
        let outcome = assign_one(context, broker, directory.id, topic.topic_id, asked.partition_index);
        let error_code = outcome.as_ref().err().map_or(0, |code| code.code());
        records.extend(outcome.ok().flatten());
        let partition_index = asked.partition_index;
        answer.partitions.push(PartitionAnswer { partition_index, error_code, ..PartitionAnswer::default() });
    }
    answer
}

fn assign_one(
    context: &mut Context<'_>,
    broker: i32,
    directory: Uuid,
    topic_id: Uuid,
    index: i32,
) -> Result<Option<MetadataRecord>, ErrorCode> {
    let topic = context.image().topic_by_id(topic_id).cloned().ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partitions.get(&index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !partition.replicas.contains(&broker) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let online = context.image().broker(broker).map(|broker| broker.log_dirs.clone()).unwrap_or_default();
    let mut change = PartitionChange::new(context.image(), context.config, &topic, index, partition);
    change.moved = Some((broker, directory));
    if is_online(directory, &online) {
        change.election = Election::Online;
    } else {
        // It failed before the replica was assigned to it.
        change.leaving = Some(broker);
        change.isr.retain(|replica| *replica != broker);
    }
    let record = change.build();
    if let Some(record) = &record {
        context.apply(std::slice::from_ref(record)).map_err(|refusal| refusal.code)?;
    }
    Ok(record)
}

/// Decides that directories of this broker, which shares its life with the controller, are out of use: it registers
/// the others, and its replicas in them lead no more.
pub(super) fn fail(context: &mut Context<'_>, failed: &BTreeSet<Uuid>) -> Decision<Noted> {
    let failed: Vec<Uuid> = failed.iter().copied().collect();
    match fail_directories(context, context.node_id, &failed) {
        Ok(records) => Decision { records, answer: Ok(()) },
        Err(refusal) => Decision { records: Vec::new(), answer: Err(refusal.code) },
    }
}

/// The partitions that `broker` leads and whose replica there is in none of the `online` directories lose
/// their leader.
pub(super) fn stop_leading(
    image: &Image,
    config: &BrokerConfig,
    broker: i32,
    online: &[Uuid],
) -> Vec<MetadataRecord> {
    leave_where(image, config, broker, |_, _, partition| {
        partition.leader == broker && !is_online(partition.directory_of(broker), online)
    })
}

impl Answer for AssignReplicasToDirsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        self.error_code = refusal.code.code();
        self.directories.clear();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}

/// Whether it was noted.
pub(super) type Noted = Result<(), ErrorCode>;

impl Answer for Noted {
    fn refuse(&mut self, refusal: &Refusal) {
        *self = Err(refusal.code);
    }
}
