//! What the handlers work with: the broker's parts, and the questions they all ask.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::error;

use super::flusher::Flusher;
use super::groups::Groups;
use super::isr::IsrQueue;
use super::mover::Mover;
use super::producers::ProducerIds;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::metadata::Image;
use crate::protocol::ErrorCode;
use crate::replication::{Partition, PartitionError, Partitions, SessionCache, Throttle, Topic};
use crate::storage::{AppendError, LogDirectories, ReadError};
use crate::types::{BrokerId, Clock, Uuid};

/// The broker's parts.
pub struct Node {
    /// `node.id`.
    pub id: BrokerId,
    /// The cluster's id.
    pub cluster_id: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The decisions.
    pub controller: Controller,
    /// The partitions.
    pub partitions: Arc<Partitions>,
    /// The disks.
    pub directories: Arc<LogDirectories>,
    /// The fetch sessions.
    pub sessions: SessionCache,
    /// Group commit.
    pub flusher: Flusher,
    /// The coordinators of groups.
    pub groups: Arc<Groups>,
    /// Moves between directories.
    pub mover: Mover,
    /// What the controller is to be asked of who is in sync.
    pub isr: IsrQueue,
    /// What throttled followers are sent.
    pub leader_throttle: Throttle,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    pub(super) config: ArcSwap<BrokerConfig>,
    pub(super) stopping: watch::Sender<bool>,
    /// Whether the cluster has opened this broker to clients; a lone one is never asked.
    pub(super) unfenced: watch::Sender<bool>,
    pub(super) failures: Failures,
}

/// Why a partition that a request names cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The cluster has it, and its log is being made here.
    Expected,
    /// Its log directory has failed.
    Offline,
    /// Other brokers have it.
    Elsewhere,
    /// There is no such partition here.
    Unknown,
}

impl Node {
    /// What the cluster has agreed on.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.controller.image()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.load_full()
    }

    /// A partition that a request names by topic.
    ///
    /// # Errors
    /// The code for a partition that is not here.
    pub fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let found = self.partitions.topic(topic);
        if let Some(partition) = found.as_ref().and_then(|topic| topic.partition(index)) {
            return Ok(Arc::clone(partition));
        }
        Err(match self.absence(found.as_deref(), topic, index) {
            Absence::Expected | Absence::Elsewhere => ErrorCode::NotLeaderOrFollower,
            Absence::Offline => ErrorCode::KafkaStorageError,
            Absence::Unknown => ErrorCode::UnknownTopicOrPartition,
        })
    }

    /// Why [`Topic::partition`] finds nothing.
    #[must_use]
    pub fn absence(&self, found: Option<&Topic>, name: &str, index: i32) -> Absence {
        if found.is_some_and(|topic| topic.is_offline(index)) {
            return Absence::Offline;
        }
        match self.image().partition(name, index) {
            Some(registration) if registration.replicas.contains(&self.id.0) => Absence::Expected,
            Some(_) => Absence::Elsewhere,
            None => Absence::Unknown,
        }
    }

    /// Resolves when every partition of the image as it is now has been made here, or deleted.
    pub async fn partitions_made(&self) {
        let wanted = self.image().end_offset();
        let mut applied = self.partitions.applied();
        tokio::select! {
            _ = applied.wait_for(|applied| *applied >= wanted) => {}
            () = self.stopping() => {}
        }
    }

    /// Resolves when the broker begins to stop.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives in this node.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Looks whether a directory has failed, after an error at one of its partitions.
    pub fn note_failure(&self, partition: &Partition, error: &PartitionError) {
        let is_storage = matches!(
            error,
            PartitionError::Storage(_)
                | PartitionError::Append(AppendError::Storage(_))
                | PartitionError::Read(ReadError::Storage(_))
        );
        if is_storage {
            error!(partition = %partition.id(), "{error}");
            self.failures.look();
        }
    }

    /// The topic of this id, if its partitions are here.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.partitions.topic_by_id(id)
    }

    /// The topic of this name, if its partitions are here.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.partitions.topic(name)
    }
}

/// What is done when a disk fails.
#[derive(Clone)]
pub(super) struct Failures {
    pub(super) partitions: Arc<Partitions>,
    pub(super) directories: Arc<LogDirectories>,
    pub(super) controller: Controller,
    pub(super) metadata_dir: PathBuf,
    pub(super) failed: watch::Sender<bool>,
    /// How many directories have failed, as far as it was looked.
    pub(super) known: watch::Sender<usize>,
}

impl Failures {
    /// Looks where a directory has failed since: not every error is a partition's.
    pub(super) fn look_again(&self) {
        let failed = self.directories.all().iter().filter(|directory| directory.health().failure().is_some());
        if failed.count() > *self.known.borrow() {
            self.look();
        }
    }

    /// Takes the partitions of failed directories offline; the others go on. Without a directory, or without
    /// that of the metadata log, the broker has failed.
    pub(super) fn look(&self) {
        if self.partitions.drop_failed_directories() == 0 {
            error!("every log directory has failed");
            self.failed.send_replace(true);
        }
        let failed = self.directories.all().iter().filter(|directory| directory.health().failure().is_some());
        let failed: BTreeSet<Uuid> = failed.filter_map(|directory| directory.id()).collect();
        let count = failed.len();
        if !failed.is_empty() {
            self.controller.note_failed_directories(failed);
        }
        self.known.send_if_modified(|known| std::mem::replace(known, count) != count);
        let metadata = self.directories.at(&self.metadata_dir);
        if metadata.is_none_or(|directory| directory.health().failure().is_some()) {
            error!(directory = %self.metadata_dir.display(), "the directory of the metadata log has failed");
            self.failed.send_replace(true);
        }
    }
}
