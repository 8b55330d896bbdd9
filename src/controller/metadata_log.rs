//! `__cluster_metadata-0` of a node that is its own quorum: formatted as `kafka-storage format --standalone`
//! formats it, appended to in whole decisions, cut at its start where snapshots stand for it.
//!
//! What a new directory gets: `bootstrap.checkpoint` (the features to begin with), the snapshot
//! `00000000000000000000-0000000000.checkpoint` (the voters), `quorum-state`, and the log itself, which begins
//! with LeaderChange, KRaftVersion and KRaftVoters in one control batch. Every start is a new leader epoch.

use std::path::Path;
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::metadata::record::LEVELS;
use crate::metadata::snapshot::{SnapshotHead, SnapshotId, SnapshotWriter};
use crate::metadata::{Image, MetadataRecord};
use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::leader_change_message::{LeaderChangeMessage, Voter as LeaderVoter};
use crate::protocol::messages::voters_record::{Endpoint, KRaftVersionFeature, Voter, VotersRecord};
use crate::protocol::{Message, encode_to_bytes};
use crate::record::{BatchBuilder, Compression, ControlType};
use crate::storage::disk::replace_file;
use crate::storage::{AppendOrigin, Disk, Log, LogHome, LogOptions, METADATA_TOPIC, OpenHints, ReadError};
use crate::types::{LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};

use super::brokers::{NodeIdentity, feature_records};
use super::error::ControllerError;
use super::found::{BOOTSTRAP_FILE, Claimant, FoundMetadata, QUORUM_STATE_FILE};
use super::member::QuorumDescription;
use super::quorum::{ReplicaKey, ReplicaProgress, VoterSet};
use super::quorum_state::QuorumState;
use super::replay::{Replayed, io};
use super::snapshots::{SnapshotJob, SnapshotLimits, Snapshots};

/// The level that a new directory is formatted with.
const NEWEST_LEVEL: i16 = *LEVELS.end();

/// The snapshot that a new directory is formatted with: before all records.
const FIRST_SNAPSHOT: SnapshotId = SnapshotId { end_offset: Offset::ZERO, epoch: LeaderEpoch(0) };

/// The log, open for the leader of a quorum of one.
#[derive(Debug)]
pub(super) struct MetadataLog {
    pub(super) log: Log,
    epoch: LeaderEpoch,
    batch: BatchBuilder,
    pub(super) snapshots: Snapshots,
    /// The voters, where they are dynamic.
    voters: Option<VotersRecord>,
    /// Bytes that no snapshot holds.
    bytes_since_snapshot: u64,
    last_timestamp_ms: i64,
}

/// Where the metadata is and whose it is.
pub(super) struct Home<'a> {
    pub home: &'a LogHome,
    /// Whose it is, found fit to have it.
    pub claimant: &'a Claimant,
    pub node: &'a NodeIdentity,
    pub config: &'a BrokerConfig,
    /// Every directory was left clean.
    pub is_clean: bool,
    pub now_ms: i64,
}

/// What a start began.
#[derive(Debug)]
pub(super) struct Opened {
    pub log: MetadataLog,
    /// What was agreed on before this start.
    pub image: Image,
    /// What a log without features begins with.
    pub bootstrap: Vec<MetadataRecord>,
}

impl Home<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.home.disk
    }

    /// Formats where nothing is there, and takes office in a new epoch.
    pub(super) fn open(&self, found: FoundMetadata) -> Result<Opened, ControllerError> {
        let folder = self.claimant.folder();
        let is_new = found.is_new();
        let FoundMetadata { mut replayed, state, bootstrap } = found;
        self.disk().create_folder(&folder).map_err(io(&folder))?;
        if is_new {
            self.format(&folder)?;
            replayed.kraft_version = 1;
        } else if state.is_none() && bootstrap.is_none() && replayed.snapshot == Some(FIRST_SNAPSHOT) {
            self.write_bootstrap()?;
        }
        let log = self.open_log(&folder, &replayed)?;
        let start = log.first_segment_base_offset();
        let mut snapshots = Snapshots::list(self.disk(), &folder, start, SnapshotLimits::of(self.config))?;
        snapshots.remove_leftovers(self.disk())?;
        let last_epoch = state.map_or(0, |state| state.leader_epoch).max(replayed.last_epoch.0);
        let epoch = LeaderEpoch(last_epoch.saturating_add(1));
        let state = QuorumState {
            cluster_id: String::new(),
            leader_id: self.node.node_id,
            leader_epoch: epoch.0,
            voted: ReplicaKey::new(-1, Uuid::ZERO),
            current_voters: (replayed.kraft_version == 0).then(|| vec![self.node.node_id]),
        };
        let state_file = folder.join(QUORUM_STATE_FILE);
        replace_file(self.disk(), &state_file, &state.render()).map_err(io(&state_file))?;
        let known = replayed.voters.as_ref().map(|(_, voters)| voters.clone());
        let mut log = MetadataLog {
            log,
            epoch,
            batch: BatchBuilder::new(Compression::NONE),
            snapshots,
            voters: known.or_else(|| is_new.then(|| self.voters_record())),
            bytes_since_snapshot: replayed.bytes_since_snapshot,
            last_timestamp_ms: replayed.last_timestamp_ms,
        };
        self.take_office(&mut log, &replayed, is_new)?;
        let bootstrap = bootstrap.unwrap_or_else(|| feature_records().collect());
        Ok(Opened { log, image: replayed.image, bootstrap })
    }

    /// Writes what `kafka-storage format --standalone` writes. First the voters, with the folder that they are in:
    /// features without voters are those of a quorum with static ones.
    fn format(&self, folder: &Path) -> Result<(), ControllerError> {
        let directory = &self.claimant.metadata_dir;
        let head = SnapshotHead {
            id: FIRST_SNAPSHOT,
            last_contained_timestamp_ms: self.now_ms,
            now_ms: self.now_ms,
            voters: Some(self.voters_record()),
        };
        let snapshot = SnapshotWriter::new(&head, NEWEST_LEVEL)?.finish()?;
        let path = folder.join(FIRST_SNAPSHOT.file_name());
        replace_file(self.disk(), &path, &snapshot).map_err(io(&path))?;
        self.disk().sync_dir(directory).map_err(io(directory))?;
        self.write_bootstrap()
    }

    /// The features that a log begins with.
    pub(super) fn write_bootstrap(&self) -> Result<(), ControllerError> {
        let head = SnapshotHead {
            id: FIRST_SNAPSHOT,
            last_contained_timestamp_ms: 0,
            now_ms: self.now_ms,
            voters: None,
        };
        let mut bootstrap = SnapshotWriter::new(&head, NEWEST_LEVEL)?;
        for record in feature_records() {
            bootstrap.append(&record)?;
        }
        let path = self.claimant.metadata_dir.join(BOOTSTRAP_FILE);
        replace_file(self.disk(), &path, &bootstrap.finish()?).map_err(io(&path))
    }

    /// The log of a node of a quorum of several, as it was left, and its newest snapshot. Nobody leads yet.
    pub(super) fn open_member(
        &self,
        found: &FoundMetadata,
    ) -> Result<(MetadataLog, Option<SnapshotId>), ControllerError> {
        let folder = self.claimant.folder();
        let replayed = &found.replayed;
        let log = self.open_log(&folder, replayed)?;
        let start = log.first_segment_base_offset();
        let mut snapshots = Snapshots::list(self.disk(), &folder, start, SnapshotLimits::of(self.config))?;
        snapshots.remove_leftovers(self.disk())?;
        let log = MetadataLog {
            log,
            epoch: replayed.last_epoch,
            batch: BatchBuilder::new(Compression::NONE),
            snapshots,
            voters: None,
            bytes_since_snapshot: replayed.bytes_since_snapshot,
            last_timestamp_ms: replayed.last_timestamp_ms,
        };
        Ok((log, replayed.snapshot))
    }

    fn voters_record(&self) -> VotersRecord {
        let endpoint = &self.node.controller_endpoint;
        let endpoint = Endpoint {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            ..Endpoint::default()
        };
        let voter = Voter {
            voter_id: self.node.node_id,
            voter_directory_id: self.claimant.metadata_dir_id,
            endpoints: vec![endpoint],
            kraft_version_feature: KRaftVersionFeature {
                min_supported_version: 0,
                max_supported_version: 1,
                ..KRaftVersionFeature::default()
            },
            ..Voter::default()
        };
        VotersRecord { voters: vec![voter], ..VotersRecord::default() }
    }

    fn open_log(&self, folder: &Path, replayed: &Replayed) -> Result<Log, ControllerError> {
        let partition = TopicPartition::new(metadata_topic()?, 0);
        let (home, options, now_ms) = (self.home, log_options(self.config), self.now_ms);
        let snapshot_end = replayed.snapshot.map(|id| id.end_offset);
        // Replaying has checked every batch; only the indexes may be behind. Those of the segment before the last
        // were not synced yet where the last had just begun.
        let may_be_behind = if self.is_clean { 1 } else { 2 };
        let synced_to =
            replayed.segments.iter().rev().take(may_be_behind).next_back().copied().unwrap_or_default();
        let hints = OpenHints {
            recovery_point: synced_to.min(replayed.end_offset),
            log_start_offset: snapshot_end.filter(|_| replayed.segments.is_empty()),
            ..OpenHints::default()
        };
        let (mut log, recovered) = Log::open(home, folder, partition, options, hints, now_ms)?;
        if let Some(fault) = recovered.fault {
            tracing::warn!(
                bytes_cut = recovered.bytes_cut,
                fault,
                "metadata log was cut at its last whole batch"
            );
        }
        if let Some(end) = snapshot_end.filter(|end| log.log_end_offset() < *end) {
            log.truncate_fully_and_start_at(end, now_ms)?;
        }
        if log.log_end_offset() != replayed.end_offset {
            return Err(ControllerError::Damaged {
                file: folder.to_owned(),
                why: format!(
                    "the log ends at {} and its records at {}",
                    log.log_end_offset(),
                    replayed.end_offset
                ),
            });
        }
        if log.topic_id().is_none() {
            log.assign_topic_id(Uuid::ONE)?;
        }
        Ok(log)
    }

    /// The first batch of an epoch: who leads, and on a new directory which voters there are.
    fn take_office(
        &self,
        log: &mut MetadataLog,
        replayed: &Replayed,
        is_new: bool,
    ) -> Result<(), ControllerError> {
        let voter = || LeaderVoter { voter_id: self.node.node_id, ..LeaderVoter::default() };
        let change = LeaderChangeMessage {
            leader_id: self.node.node_id,
            voters: vec![voter()],
            granting_voters: vec![voter()],
            ..LeaderChangeMessage::default()
        };
        let mut batch = BatchBuilder::new(Compression::NONE).control();
        batch.append_control(self.now_ms, ControlType::LeaderChange, &encoded(&change)?);
        // The voters of a formatted directory stand in its snapshot until a leader has written them down.
        if is_new || (replayed.end_offset == Offset::ZERO && replayed.voters.is_some()) {
            let voters = match &replayed.voters {
                Some((_, voters)) => voters.clone(),
                None => self.voters_record(),
            };
            batch.append_control(self.now_ms, ControlType::KRaftVersion, &encoded(&kraft_version_record())?);
            batch.append_control(self.now_ms, ControlType::KRaftVoters, &encoded(&voters)?);
        }
        let bytes = batch.build().map_err(unwritable)?;
        log.append(&bytes, self.now_ms)
    }
}

impl MetadataLog {
    /// The snapshots beside it.
    pub(super) fn snapshots(&mut self) -> &mut Snapshots {
        &mut self.snapshots
    }

    /// Whether what no snapshot holds asks for one, where the last began `age_ms` ago.
    pub(super) fn asks_for_snapshot(&self, age_ms: i64) -> bool {
        self.snapshots.limits.asks_for_one(self.bytes_since_snapshot, age_ms)
    }

    /// A snapshot of `image`, which is all of the log.
    pub(super) fn begin_snapshot(&mut self, image: Arc<Image>, level: i16, now_ms: i64) -> SnapshotJob {
        assert!(image.end_offset() == self.log.log_end_offset(), "the image is what the log adds up to");
        let voters = self.voters.clone();
        self.begin_snapshot_with(image, voters, level, now_ms)
    }

    /// A snapshot of `image`, which is all that was agreed on, by these voters.
    pub(super) fn begin_snapshot_with(
        &mut self,
        image: Arc<Image>,
        voters: Option<VotersRecord>,
        level: i16,
        now_ms: i64,
    ) -> SnapshotJob {
        self.bytes_since_snapshot = 0;
        SnapshotJob {
            disk: Arc::clone(self.log.disk()),
            folder: self.log.folder().to_owned(),
            head: SnapshotHead {
                id: SnapshotId { end_offset: image.end_offset(), epoch: image.epoch() },
                last_contained_timestamp_ms: self.last_timestamp_ms,
                now_ms,
                voters,
            },
            image,
            level,
        }
    }

    /// Deletes what neither size nor age let keep: whole segments before a snapshot, and the snapshots before
    /// it. Crashes in between leave a log without holes that begins where a snapshot is, or before.
    pub(super) fn apply_retention(&mut self, now_ms: i64) -> Result<(), ControllerError> {
        while let Some(id) = self.snapshots.next_log_start(self.log.size_bytes(), now_ms) {
            let folder = self.log.folder().to_owned();
            let bases: Vec<Offset> = self.log.segment_base_offsets().skip(1).collect();
            for base in bases.into_iter().filter(|base| *base <= id.end_offset) {
                self.log.delete_records_before(base).map_err(|error| impossible(&error))?;
                self.log.apply_retention(now_ms)?;
                // One after the other, also on the disk: what is left never has a hole.
                self.log.disk().sync_dir(&folder).map_err(io(&folder))?;
            }
            self.log.delete_records_before(id.end_offset).map_err(|error| impossible(&error))?;
            self.forget_snapshots_before(id, now_ms)?;
        }
        Ok(())
    }

    fn forget_snapshots_before(&mut self, id: SnapshotId, now_ms: i64) -> Result<(), ControllerError> {
        let folder = self.log.folder().to_owned();
        for outdated in self.snapshots.forget_before(id) {
            let (path, deleted) = (folder.join(outdated.file_name()), folder.join(outdated.deleted_name()));
            self.log.disk().rename(&path, &deleted).map_err(io(&path))?;
            let due_ms = now_ms.saturating_add(self.log.options().file_delete_delay_ms);
            self.log.deletions().add_file(deleted, due_ms);
            tracing::info!(snapshot = %path.display(), "metadata snapshot is no longer needed");
        }
        Ok(())
    }

    /// The offset that the next record gets.
    pub(super) fn end_offset(&self) -> Offset {
        self.log.log_end_offset()
    }

    /// The epoch that this node leads in.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Adds `records` to `out` as one batch: they are in the log together or not at all.
    pub(super) fn encode(
        &mut self,
        records: &[MetadataRecord],
        level: i16,
        now_ms: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), ControllerError> {
        self.batch.clear();
        append_records(&mut self.batch, records, level, now_ms)?;
        self.batch.build_into(out).map_err(unwritable)
    }

    /// Appends whole batches; they are in the page cache, not yet on disk. What was appended before is on disk
    /// first: a power cut leaves no hole between two segments.
    pub(super) fn append(&mut self, batches: &[u8], now_ms: i64) -> Result<(), ControllerError> {
        self.append_in(self.epoch, batches, now_ms)
    }

    /// [`MetadataLog::append`] as the leader of `epoch`.
    pub(super) fn append_in(
        &mut self,
        epoch: LeaderEpoch,
        batches: &[u8],
        now_ms: i64,
    ) -> Result<(), ControllerError> {
        self.log.flush()?;
        self.log.append_as_leader(batches, epoch, AppendOrigin::Quorum, now_ms)?;
        self.note_appended(batches.len() as u64, now_ms);
        Ok(())
    }

    /// Counts what no snapshot holds.
    pub(super) fn note_appended(&mut self, bytes: u64, timestamp_ms: i64) {
        self.bytes_since_snapshot += bytes;
        self.last_timestamp_ms = self.last_timestamp_ms.max(timestamp_ms);
    }

    /// A snapshot was taken over: the log begins anew at its end, and those before it go.
    pub(super) fn note_installed(&mut self, id: SnapshotId, now_ms: i64) -> Result<(), ControllerError> {
        let folder = self.log.folder().to_owned();
        self.snapshots.take_in(&**self.log.disk(), &folder, id)?;
        self.bytes_since_snapshot = 0;
        self.forget_snapshots_before(id, now_ms)
    }

    /// Waits until all of it survives a power cut. A quorum of one commits what is on its disk.
    pub(super) fn commit(&mut self) -> Result<(), ControllerError> {
        self.log.flush()?;
        self.log.advance_high_watermark(self.log.log_end_offset());
        Ok(())
    }

    /// How a quorum of one is.
    pub(super) fn describe(&self, node_id: i32, now_ms: i64) -> QuorumDescription {
        let voters = self.voters.as_ref().map(VoterSet::from_record).unwrap_or_default();
        let known = voters.get(node_id).map(|voter| voter.key);
        let key = known.unwrap_or(ReplicaKey::new(node_id, Uuid::ZERO));
        let offset = self.log.log_end_offset();
        let own = ReplicaProgress { key, offset, last_fetch_ms: now_ms, last_caught_up_ms: now_ms };
        QuorumDescription {
            leads: true,
            leader_id: Some(node_id),
            epoch: self.epoch.0,
            high_watermark: offset,
            voters: vec![own],
            observers: Vec::new(),
            nodes: voters.iter().cloned().collect(),
        }
    }

    /// The quorum's protocol: its voters are those in the log from 1 on.
    pub(super) fn kraft_version(&self) -> i16 {
        i16::from(self.voters.is_some())
    }

    /// Leaves the log so that the next start finds it whole.
    pub(super) fn close(&mut self) -> Result<(), ControllerError> {
        Ok(self.log.close_clean()?)
    }
}

fn metadata_topic() -> Result<TopicName, ControllerError> {
    TopicName::new(METADATA_TOPIC).map_err(|error| ControllerError::System(error.to_string()))
}

fn kraft_version_record() -> KRaftVersionRecord {
    KRaftVersionRecord { kraft_version: 1, ..KRaftVersionRecord::default() }
}

fn append_records(
    batch: &mut BatchBuilder,
    records: &[MetadataRecord],
    level: i16,
    now_ms: i64,
) -> Result<(), ControllerError> {
    for record in records {
        let value = record.encode(level).map_err(unwritable)?;
        batch.append(now_ms, None, Some(&value), []);
    }
    Ok(())
}

fn encoded<M: Message>(message: &M) -> Result<bytes::Bytes, ControllerError> {
    encode_to_bytes(message, 0).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> ControllerError {
    ControllerError::Record(error.to_string())
}

/// An offset of a snapshot is committed, and so may be the start of the log.
fn impossible(error: &ReadError) -> ControllerError {
    ControllerError::System(error.to_string())
}

/// Settings of the metadata log: nothing is deleted by age or size, and every commit is a flush of its own.
fn log_options(config: &BrokerConfig) -> LogOptions {
    LogOptions {
        segment_bytes: u64::from(config.metadata_log_segment_bytes),
        segment_ms: config.metadata_log_segment_ms,
        retention_ms: -1,
        retention_bytes: -1,
        delete_old_segments: false,
        ..LogOptions::default()
    }
}

/// The disk that a start writes to; see [`super::deferred_sync`].
pub(super) type StartDisk = Arc<super::deferred_sync::DeferredSync>;
