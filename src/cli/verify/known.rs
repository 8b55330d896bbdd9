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
use crate::storage::verify::{Finding, Known, KnownBroker, KnownPartition, KnownTopic, Remedy};
use crate::storage::{Disk, METADATA_TOPIC};
use crate::types::Offset;

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
    known.voters = voters_of_log(&log).or_else(|| voters_of_snapshots(&**disk, &folder));
    Some((known, finding))
}

/// The voters as the log says them last, up to the first damage: each leader begins its epoch with them.
fn voters_of_log(log: &LogReader) -> Option<Vec<i32>> {
    let mut voters = None;
    let mut cursor = log.cursor(log.log_start_offset().ok()?);
    while let Ok(Some(mut bytes)) = cursor.read(READ_BYTES, Offset(i64::MAX)) {
        while let Ok(batch) = Batch::first(&bytes) {
            bytes = bytes.slice(batch.bytes.len()..);
            if batch.header.is_control() && batch.as_ref().check_crc().is_ok() {
                voters = voters_of_batch(&batch).or(voters);
            }
        }
    }
    voters
}

fn voters_of_batch(batch: &Batch) -> Option<Vec<i32>> {
    let mut voters = None;
    for record in batch.records(&InflateLimits::default()).ok()? {
        let record = record.ok()?;
        let (Some(key), Some(value)) = (record.key.as_deref().and_then(ControlKey::parse), record.value)
        else {
            continue;
        };
        let found = match key.kind {
            ControlType::LeaderChange => {
                let message = LeaderChangeMessage::decode(&mut Decoder::new(value), 0).ok();
                message.map(|message| message.voters.iter().map(|voter| voter.voter_id).collect())
            }
            ControlType::KRaftVoters => {
                let record = VotersRecord::decode(&mut Decoder::new(value), 0).ok();
                record.map(|record| ids_of(&record))
            }
            _ => None,
        };
        voters = found.or(voters);
    }
    voters
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
    KnownPartition { replicas: partition.replicas.len(), leader_epoch: partition.epoch() }
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
