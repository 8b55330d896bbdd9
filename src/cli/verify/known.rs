//! What the metadata log in a directory says of its topics and brokers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::directory::read_image;
use crate::metadata::{ConfigResource, Image, PartitionRegistration};
use crate::storage::reader::LogReader;
use crate::storage::verify::{Finding, Known, KnownBroker, KnownPartition, KnownTopic, Remedy};
use crate::storage::{Disk, METADATA_TOPIC};

const CLEANUP_POLICY: &str = "cleanup.policy";
const CLEANUP_POLICY_DEFAULT: &str = "log.cleanup.policy";

/// The metadata log's folder in a log directory.
pub(super) fn metadata_folder(directory: &Path) -> PathBuf {
    directory.join(format!("{METADATA_TOPIC}-0"))
}

/// Reads what the metadata log says; `None` where there is none. A log that cannot be read is a finding.
pub(super) fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<Known>, Box<Finding>> {
    let folder = metadata_folder(directory);
    if !matches!(disk.stat(&folder), Ok(Some(_))) {
        return Ok(None);
    }
    match read_image(&**disk, &LogReader::in_folder(Arc::clone(disk), &folder)) {
        Ok(image) => Ok(Some(known(&image))),
        Err(error) => {
            let what = format!("the cluster's metadata cannot be read: {error:#}");
            Err(Box::new(Finding::damage(folder, what, Remedy::Nothing)))
        }
    }
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
    Known { topics: topics.collect(), brokers: brokers.collect() }
}
