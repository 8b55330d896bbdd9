//! What the metadata log in a directory says of its topics and brokers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::directory::read_image;
use crate::metadata::snapshot::SnapshotName;
use crate::metadata::{ConfigResource, Image, PartitionRegistration, Replay};
use crate::protocol::messages::leader_change_message::LeaderChangeMessage;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::{Decoder, Message};
use crate::record::{Batch, ControlKey, ControlType, InflateLimits};
use crate::storage::disk::read_small;
use crate::storage::reader::LogReader;
use crate::storage::verify::{Finding, Known, KnownBroker, KnownPartition, KnownQuorum, KnownTopic, Remedy};
use crate::storage::{Disk, METADATA_TOPIC};
use crate::types::{Offset, Uuid};

/// How much of the metadata log is read at once.
const READ_BYTES: usize = 1 << 20;
const CLEANUP_POLICY: &str = "cleanup.policy";
const CLEANUP_POLICY_DEFAULT: &str = "log.cleanup.policy";

/// The metadata log's folder in a log directory.
pub(super) fn metadata_folder(directory: &Path) -> PathBuf {
    directory.join(format!("{METADATA_TOPIC}-0"))
}

/// Reads what the metadata log says; `None` where there is none. A log that cannot be read is a finding too.
pub(super) fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Option<(Known, Option<Finding>)> {
    const ADVICE: &str = "where --repair mends nothing else in this folder, put that of a backup or of another \
                          controller in its place";
    let folder = metadata_folder(directory);
    if !matches!(disk.stat(&folder), Ok(Some(_))) {
        return None;
    }
    let log = LogReader::in_folder(Arc::clone(disk), &folder);
    let (mut known, finding) = match read_image(&**disk, &log) {
        Ok(image) => (known(&image), None),
        Err(error) => {
            let what = format!("the cluster's metadata cannot be read: {error:#}");
            let known = Known { is_unreadable: true, ..Known::default() };
            (known, Some(Finding::damage(folder.clone(), what, Remedy::Person(ADVICE))))
        }
    };
    known.quorum = quorum_of(&log);
    if let Some(voters) = voters_of_snapshots(&**disk, &folder) {
        known.quorum.ever.extend(&voters);
        known.quorum.voters.get_or_insert(voters);
    }
    Some((known, finding))
}

/// The quorum as the control records of the log say, up to the first damage: each leader begins its epoch with itself
/// and the voters.
fn quorum_of(log: &LogReader) -> KnownQuorum {
    let mut quorum = KnownQuorum::default();
    let Ok(start) = log.log_start_offset() else { return quorum };
    let mut cursor = log.cursor(start);
    while let Ok(Some(mut bytes)) = cursor.read(READ_BYTES, Offset(i64::MAX)) {
        while let Ok(batch) = Batch::first(&bytes) {
            bytes = bytes.slice(batch.bytes.len()..);
            if batch.header.is_control() && batch.as_ref().check_crc().is_ok() {
                let _ = take_batch(&mut quorum, &batch);
            }
        }
    }
    quorum
}

/// Takes what a batch of control records says; `None` where one of them cannot be read.
fn take_batch(quorum: &mut KnownQuorum, batch: &Batch) -> Option<()> {
    for record in batch.records(&InflateLimits::default()).ok()? {
        let record = record.ok()?;
        let kind = record.key.as_deref().and_then(ControlKey::parse).map(|key| key.kind);
        let mut value = Decoder::new(record.value?);
        let voters: Vec<i32> = match kind {
            Some(ControlType::LeaderChange) => {
                let message = LeaderChangeMessage::decode(&mut value, 0).ok()?;
                quorum.leader = Some((batch.header.leader_epoch, message.leader_id));
                message.voters.iter().map(|voter| voter.voter_id).collect()
            }
            Some(ControlType::KRaftVoters) => ids_of(&VotersRecord::decode(&mut value, 0).ok()?),
            _ => continue,
        };
        quorum.ever.extend(&voters);
        quorum.voters = Some(voters);
    }
    Some(())
}

/// The voters in the newest snapshot that can be read and has some.
fn voters_of_snapshots(disk: &dyn Disk, folder: &Path) -> Option<Vec<i32>> {
    let names = disk.list(folder).ok()?;
    let mut whole: Vec<_> = names
        .iter()
        .filter_map(|entry| match SnapshotName::parse(&entry.name)? {
            SnapshotName::Whole(id) => Some(id),
            SnapshotName::Part(_) | SnapshotName::Deleted(_) => None,
        })
        .collect();
    whole.sort();
    whole.into_iter().rev().find_map(|id| {
        let bytes = read_small(disk, &folder.join(id.file_name())).ok()??;
        let mut replay = Replay::default();
        replay.load_snapshot(id, bytes.into()).ok()?;
        replay.voters().map(ids_of)
    })
}

fn ids_of(record: &VotersRecord) -> Vec<i32> {
    record.voters.iter().map(|voter| voter.voter_id).collect()
}

fn known_partition(partition: &PartitionRegistration) -> KnownPartition {
    let directories = partition.directories.iter().copied().chain(std::iter::repeat(Uuid::ZERO));
    KnownPartition {
        assigned: partition.replicas.iter().copied().zip(directories).collect(),
        adding: partition.adding_replicas.clone(),
        has_changed: partition.partition_epoch > 0 || partition.leader_epoch > 0,
        leader_epoch: partition.epoch(),
    }
}

fn known(image: &Image) -> Known {
    let default = image.configs(&ConfigResource::cluster_default());
    let default = default.get(CLEANUP_POLICY_DEFAULT);
    let topics = image.topics().iter().map(|topic| {
        let configs = image.configs(&ConfigResource::topic(topic.name.as_str()));
        let policy = configs.get(CLEANUP_POLICY).or(default);
        let known = KnownTopic {
            id: topic.id,
            is_compacted: policy.is_some_and(|policy| policy.contains("compact")),
            partitions: topic
                .partitions
                .iter()
                .map(|(number, one)| (*number, known_partition(one)))
                .collect(),
        };
        (topic.name.to_string(), known)
    });
    let brokers = image
        .brokers()
        .iter()
        .map(|(id, broker)| (*id, KnownBroker { epoch: broker.epoch, directories: broker.log_dirs.clone() }));
    Known { topics: topics.collect(), brokers: brokers.collect(), ..Known::default() }
}
