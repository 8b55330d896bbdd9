//! `__cluster_metadata-0` of a node that is its own quorum: formatted as `kafka-storage format --standalone`
//! formats it, checked before a byte is touched, appended to in whole decisions.
//!
//! What a new directory gets: `bootstrap.checkpoint` (the features to begin with), the snapshot
//! `00000000000000000000-0000000000.checkpoint` (the voters), `quorum-state`, and the log itself, which begins
//! with LeaderChange, KRaftVersion and KRaftVoters in one control batch. Every start is a new leader epoch.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::metadata::record::LEVELS;
use crate::metadata::{METADATA_VERSION, MetadataRecord};
use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::leader_change_message::{LeaderChangeMessage, Voter as LeaderVoter};
use crate::protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use crate::protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use crate::protocol::messages::voters_record::{Endpoint, KRaftVersionFeature, Voter, VotersRecord};
use crate::protocol::{Message, encode_to_bytes};
use crate::record::{BatchBuilder, Compression, ControlType};
use crate::storage::disk::{Access, read_small, replace_file};
use crate::storage::{AppendOrigin, Disk, Log, LogHome, LogOptions, METADATA_TOPIC, OpenHints};
use crate::types::{LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};

use super::brokers::{NodeIdentity, feature_records};
use super::error::ControllerError;
use super::quorum_state::QuorumState;
use super::replay::{Replayed, read_bootstrap, replay, snapshot_name};

/// The level that a new directory is formatted with.
const NEWEST_LEVEL: i16 = *LEVELS.end();
const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";
const QUORUM_STATE_FILE: &str = "quorum-state";

/// The log, open for the leader of a quorum of one.
#[derive(Debug)]
pub(super) struct MetadataLog {
    log: Log,
    epoch: LeaderEpoch,
    batch: BatchBuilder,
}

/// Where the metadata is and whose it must be.
pub(super) struct Home<'a> {
    pub home: &'a LogHome,
    /// The directory that holds `__cluster_metadata-0`.
    pub directory: &'a Path,
    pub directory_id: Uuid,
    pub cluster_id: &'a str,
    pub node: &'a NodeIdentity,
    pub options: LogOptions,
    pub now_ms: i64,
}

/// What a start found and began.
#[derive(Debug)]
pub(super) struct Opened {
    pub log: MetadataLog,
    pub replayed: Replayed,
    /// What a log without features begins with.
    pub bootstrap: Vec<MetadataRecord>,
}

impl Home<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.home.disk
    }

    fn folder(&self) -> PathBuf {
        self.directory.join(format!("{METADATA_TOPIC}-0"))
    }

    /// Reads, checks, formats where nothing is there, and takes office in a new epoch.
    pub(super) fn open(&self) -> Result<Opened, ControllerError> {
        let folder = self.folder();
        let bootstrap_file = self.directory.join(BOOTSTRAP_FILE);
        let state_file = folder.join(QUORUM_STATE_FILE);
        let mut replayed = replay(self.disk(), &folder)?;
        let found_bootstrap = read_bootstrap(self.disk(), &bootstrap_file)?;
        let state = self.read_state(&state_file)?;
        self.check(&replayed, state.as_ref(), &state_file, &bootstrap_file, found_bootstrap.as_deref())?;
        let is_new = replayed.is_fresh() && state.is_none() && found_bootstrap.is_none();
        self.disk().create_folder(&folder).map_err(io(&folder))?;
        if is_new {
            self.format(&bootstrap_file, &folder)?;
            replayed.kraft_version = 1;
        }
        let log = self.open_log(&folder, &replayed)?;
        let last_epoch = state.as_ref().map_or(0, |state| state.leader_epoch).max(replayed.last_epoch);
        let epoch = LeaderEpoch(last_epoch.saturating_add(1));
        let state = QuorumState {
            cluster_id: String::new(),
            leader_id: self.node.node_id,
            leader_epoch: epoch.0,
            current_voters: (replayed.kraft_version == 0).then(|| vec![self.node.node_id]),
        };
        replace_file(self.disk(), &state_file, &state.render()).map_err(io(&state_file))?;
        let mut log = MetadataLog { log, epoch, batch: BatchBuilder::new(Compression::NONE) };
        self.take_office(&mut log, &replayed, is_new)?;
        let bootstrap = found_bootstrap.unwrap_or_else(|| feature_records().collect());
        Ok(Opened { log, replayed, bootstrap })
    }

    fn read_state(&self, file: &Path) -> Result<Option<QuorumState>, ControllerError> {
        let Some(bytes) = read_small(self.disk(), file).map_err(io(file))? else { return Ok(None) };
        let damaged = |why| ControllerError::Damaged { file: file.to_owned(), why };
        QuorumState::parse(&bytes).map(Some).map_err(damaged)
    }

    /// Everything that must hold before anything is written.
    fn check(
        &self,
        replayed: &Replayed,
        state: Option<&QuorumState>,
        state_file: &Path,
        bootstrap_file: &Path,
        bootstrap: Option<&[MetadataRecord]>,
    ) -> Result<(), ControllerError> {
        let node_id = self.node.node_id;
        if let Some((file, voters)) = &replayed.voters {
            self.check_voters(file, voters)?;
        }
        if let Some(voters) = state.and_then(|state| state.current_voters.as_ref())
            && voters.iter().any(|voter| *voter != node_id)
        {
            let (file, voters) = (state_file.to_owned(), voters.clone());
            return Err(ControllerError::OtherVoters { file, voters, node_id });
        }
        if let Some(found) = state.map(|state| &state.cluster_id)
            && !found.is_empty()
            && found != self.cluster_id
        {
            let expected = self.cluster_id.to_owned();
            return Err(ControllerError::OtherCluster {
                file: state_file.to_owned(),
                found: found.clone(),
                expected,
            });
        }
        let brokers: Vec<i32> =
            replayed.image.brokers().keys().copied().filter(|id| *id != node_id).collect();
        if !brokers.is_empty() {
            return Err(ControllerError::OtherBrokers { file: self.folder(), brokers });
        }
        check_level(&self.folder(), replayed.image.feature(METADATA_VERSION))?;
        for record in bootstrap.unwrap_or_default() {
            if let MetadataRecord::FeatureLevel(feature) = record
                && &*feature.name == METADATA_VERSION
            {
                check_level(bootstrap_file, feature.feature_level)?;
            }
        }
        Ok(())
    }

    fn check_voters(&self, file: &Path, record: &VotersRecord) -> Result<(), ControllerError> {
        let node_id = self.node.node_id;
        let voters: Vec<i32> = record.voters.iter().map(|voter| voter.voter_id).collect();
        if voters != [node_id] {
            return Err(ControllerError::OtherVoters { file: file.to_owned(), voters, node_id });
        }
        let found = record.voters[0].voter_directory_id;
        if found != self.directory_id && !found.is_zero() {
            return Err(ControllerError::OtherDirectory {
                file: file.to_owned(),
                node_id,
                found: found.to_string(),
                expected: self.directory_id.to_string(),
            });
        }
        Ok(())
    }

    /// Writes what `kafka-storage format --standalone` writes.
    fn format(&self, bootstrap_file: &Path, folder: &Path) -> Result<(), ControllerError> {
        let features: Vec<MetadataRecord> = feature_records().collect();
        let bootstrap = self.snapshot(0, &[], &features)?;
        self.write_file(bootstrap_file, &bootstrap)?;
        let voters = [
            (ControlType::KRaftVersion, encoded(&kraft_version_record())?),
            (ControlType::KRaftVoters, encoded(&self.voters_record())?),
        ];
        let snapshot = self.snapshot(self.now_ms, &voters, &[])?;
        self.write_file(&folder.join(snapshot_name(Offset::ZERO, LeaderEpoch(0))), &snapshot)
    }

    /// A snapshot's bytes: header and control records in one batch, the records in the next, the footer.
    fn snapshot(
        &self,
        last_timestamp_ms: i64,
        control: &[(ControlType, bytes::Bytes)],
        records: &[MetadataRecord],
    ) -> Result<Vec<u8>, ControllerError> {
        let epoch = LeaderEpoch(0);
        let mut out = Vec::new();
        let mut head = BatchBuilder::new(Compression::NONE).control().at(Offset::ZERO, epoch);
        let header = SnapshotHeaderRecord {
            last_contained_log_timestamp: last_timestamp_ms,
            ..SnapshotHeaderRecord::default()
        };
        head.append_control(self.now_ms, ControlType::SnapshotHeader, &encoded(&header)?);
        for (kind, value) in control {
            head.append_control(self.now_ms, *kind, value);
        }
        let mut next = Offset(i64::from(head.record_count()));
        head.build_into(&mut out).map_err(unwritable)?;
        if !records.is_empty() {
            let mut body = BatchBuilder::new(Compression::NONE).at(next, epoch);
            append_records(&mut body, records, NEWEST_LEVEL, self.now_ms)?;
            next = next + i64::from(body.record_count());
            body.build_into(&mut out).map_err(unwritable)?;
        }
        let mut foot = BatchBuilder::new(Compression::NONE).control().at(next, epoch);
        let footer = encoded(&SnapshotFooterRecord::default())?;
        foot.append_control(self.now_ms, ControlType::SnapshotFooter, &footer);
        foot.build_into(&mut out).map_err(unwritable)?;
        Ok(out)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), ControllerError> {
        let file = self.disk().open(path, Access::Replace).map_err(io(path))?;
        file.write_at(&mut [IoSlice::new(bytes)], 0).map_err(io(path))?;
        file.sync().map_err(io(path))?;
        let folder = path.parent().unwrap_or(self.directory);
        self.disk().sync_dir(folder).map_err(io(folder))
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
            voter_directory_id: self.directory_id,
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
        let (home, options, now_ms) = (self.home, self.options, self.now_ms);
        // Replaying has checked every batch; only the last segment's indexes may still be behind.
        let hints = OpenHints {
            recovery_point: replayed.segments.last().copied().unwrap_or_default(),
            log_start_offset: replayed.snapshot_end.filter(|_| replayed.segments.is_empty()),
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
        if let Some(end) = replayed.snapshot_end.filter(|end| log.log_end_offset() < *end) {
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

    /// Appends whole batches; they are in the page cache, not yet on disk.
    pub(super) fn append(&mut self, batches: &[u8], now_ms: i64) -> Result<(), ControllerError> {
        self.log.append_as_leader(batches, self.epoch, AppendOrigin::Quorum, now_ms)?;
        Ok(())
    }

    /// Waits until all of it survives a power cut. A quorum of one commits what is on its disk.
    pub(super) fn commit(&mut self) -> Result<(), ControllerError> {
        self.log.flush()?;
        self.log.advance_high_watermark(self.log.log_end_offset());
        Ok(())
    }

    /// Leaves the log so that the next start finds it whole.
    pub(super) fn close(&mut self) -> Result<(), ControllerError> {
        Ok(self.log.close_clean()?)
    }
}

fn check_level(file: &Path, level: i16) -> Result<(), ControllerError> {
    // A log without features has none yet.
    if level == 0 || LEVELS.contains(&level) {
        return Ok(());
    }
    let what = format!("its metadata.version is {level}; {} to {} are known", LEVELS.start(), LEVELS.end());
    Err(ControllerError::NewerFormat { file: file.to_owned(), what })
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

fn io(file: &Path) -> impl FnOnce(std::io::Error) -> ControllerError {
    let file = file.to_owned();
    move |source| ControllerError::Io { file, source }
}

/// Settings of the metadata log: nothing is deleted by age or size, and every commit is a flush of its own.
pub(super) fn log_options(config: &crate::config::BrokerConfig) -> LogOptions {
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
