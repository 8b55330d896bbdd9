//! The metadata log of one node of a quorum, on its directory: what [`QuorumLog`] asks for, done and on disk.
//!
//! Beside the log and its snapshots in `__cluster_metadata-0`: `quorum-state` (epoch, leader, vote), synced before
//! a message that depends on it leaves; `voteless`, an empty file for as long as this node has no vote, because its
//! directory was made new as one of several voters; `….checkpoint.part`, a snapshot on its way in, which is renamed
//! once it is whole, checked and synced.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::metadata::snapshot::SnapshotId as Snapshot;
use crate::metadata::{Image, MetadataRecord, Replay};
use crate::protocol::messages::voters_record::VotersRecord;
use crate::record::batches;
use crate::storage::disk::{Access, read_small, replace_file};
use crate::storage::{AppendError, Disk, DiskFile};
use crate::types::{Clock, LeaderEpoch, Offset};

use super::super::brokers::feature_records;
use super::super::error::ControllerError;
use super::super::found::{FoundMetadata, QUORUM_STATE_FILE};
use super::super::metadata_log::{Home, MetadataLog};
use super::super::quorum::{
    AppendRefused, ElectionState, EpochEnd, LogFailure, Membership, QuorumLog, ReplicaKey, SnapshotId,
    SnapshotPart, VoterSet,
};
use super::super::quorum_state::QuorumState;
use super::super::replay::io;

/// Says that this node has no vote.
const VOTELESS_FILE: &str = "voteless";

/// How much of the log is read at a time.
const READ_BYTES: usize = 1 << 20;

/// The log of a node of a quorum.
pub(super) struct ReplicaLog {
    pub(super) inner: MetadataLog,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// A snapshot on its way in.
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

/// What a node of a quorum begins with.
pub(super) struct Opened {
    pub log: ReplicaLog,
    pub membership: Membership,
    pub state: ElectionState,
    pub may_vote: bool,
    /// What the newest snapshot says; nothing behind it is known to be agreed on.
    pub image: Image,
    /// What a log without features begins with.
    pub bootstrap: Vec<MetadataRecord>,
}

impl ReplicaLog {
    /// Formats where nothing is there: without a vote, if there are other voters to meet.
    pub(super) fn open(
        home: &Home<'_>,
        found: &FoundMetadata,
        configured: VoterSet,
        clock: Arc<dyn Clock>,
    ) -> Result<Opened, ControllerError> {
        let folder = home.claimant.folder();
        let disk = Arc::clone(&home.home.disk);
        disk.create_folder(&folder).map_err(io(&folder))?;
        let marker = folder.join(VOTELESS_FILE);
        let replayed = &found.replayed;
        let is_bare = replayed.segments.is_empty() && replayed.snapshot.is_none() && found.state.is_none();
        // Whatever stands beside it: without a log and an epoch it may be a voter's that was wiped.
        if found.is_new() || is_bare {
            replace_file(&*disk, &marker, b"").map_err(io(&marker))?;
        }
        if found.is_new() {
            home.write_bootstrap()?;
        }
        let may_vote = disk.stat(&marker).map_err(io(&marker))?.is_none();
        let state = found.state.as_ref().map(QuorumState::election).unwrap_or_default();
        let bootstrap = found.bootstrap.clone().unwrap_or_else(|| feature_records().collect());
        let (inner, snapshot) = home.open_member(found)?;
        let mut log = Self { inner, folder, clock, part: None };
        let mut membership = Membership::new(configured);
        let mut image = Image::default();
        if let Some(id) = snapshot {
            let replay = log.load_snapshot(id)?;
            log.cut_what_parts_from(id)?;
            note_voters(&mut membership, id, &replay);
            image = replay.finish();
        }
        log.each_batch(log.start_offset(), log.end_offset(), |from, bytes| {
            membership.read_control_records(from, bytes);
            Ok(())
        })?;
        Ok(Opened { log, membership, state, may_vote, image, bootstrap })
    }

    /// A crash while a snapshot was taken over may have left a log that it does not follow from.
    fn cut_what_parts_from(&mut self, id: Snapshot) -> Result<(), ControllerError> {
        let Some(last) = id.end_offset.0.checked_sub(1).filter(|last| *last >= self.start_offset().0) else {
            return Ok(());
        };
        let epoch = self.inner.log.leader_epochs().epoch_of(Offset(last));
        if epoch.is_some_and(|epoch| epoch != id.epoch) {
            self.inner.log.truncate_fully_and_start_at(id.end_offset, self.clock.now_ms())?;
        }
        Ok(())
    }

    /// The image of a snapshot, and the voters it names.
    pub(super) fn load_snapshot(&self, id: Snapshot) -> Result<Replay, ControllerError> {
        let file = self.folder.join(id.file_name());
        let bytes = read_small(self.disk(), &file).map_err(io(&file))?.unwrap_or_default();
        let mut replay = Replay::default();
        let damaged = |why: String| ControllerError::Damaged { file: file.clone(), why };
        replay.load_snapshot(id, bytes.into()).map_err(|error| damaged(error.to_string()))?;
        Ok(replay)
    }

    /// Hands on whole batches between the two offsets, a few at a time.
    pub(super) fn each_batch(
        &self,
        from: Offset,
        until: Offset,
        mut take: impl FnMut(Offset, &Bytes) -> Result<(), ControllerError>,
    ) -> Result<(), ControllerError> {
        let mut next = from;
        while next < until {
            let bytes = self.read(next, READ_BYTES).map_err(|failure| ControllerError::System(failure.0))?;
            let Some(last) = batches(&bytes).map_while(Result::ok).last() else { break };
            take(next, &bytes)?;
            next = last.header.next_offset();
        }
        Ok(())
    }

    /// The newest snapshot, by its name on the disk.
    pub(super) fn newest(&self) -> Option<Snapshot> {
        self.inner.snapshots.latest()
    }

    fn disk(&self) -> &dyn Disk {
        &**self.inner.log.disk()
    }

    fn keep(&self, path: &Path) -> Result<(), ControllerError> {
        self.disk().sync_dir(path).map_err(io(path))
    }

    fn begin_part(&mut self, snapshot: SnapshotId) -> Result<(), ControllerError> {
        let unique = u64::try_from(self.clock.now_ms()).unwrap_or_default();
        let path = self.folder.join(named(snapshot).part_name(unique));
        let file = self.disk().open(&path, Access::Replace).map_err(io(&path))?;
        if let Some(before) = self.part.replace(Part { path, file }) {
            self.disk().remove_file(&before.path).map_err(io(&before.path))?;
        }
        Ok(())
    }

    fn install(&mut self, id: Snapshot, part: &Part) -> Result<Replay, AppendRefused> {
        let failed = |error: ControllerError| AppendRefused::Failed(failure(&error));
        part.file.sync().map_err(|error| failed(io(&part.path)(error)))?;
        let bytes = read_small(self.disk(), &part.path).map_err(|error| failed(io(&part.path)(error)))?;
        let mut replay = Replay::default();
        let whole = replay.load_snapshot(id, bytes.unwrap_or_default().into());
        whole.map_err(|error| AppendRefused::Damaged(error.to_string()))?;
        let kept = self.folder.join(id.file_name());
        self.disk().rename(&part.path, &kept).map_err(|error| failed(io(&kept)(error)))?;
        self.keep(&self.folder).map_err(failed)?;
        let now_ms = self.clock.now_ms();
        let emptied = self.inner.log.truncate_fully_and_start_at(id.end_offset, now_ms);
        emptied.map_err(|error| failed(error.into()))?;
        self.inner.log.flush().map_err(|error| failed(error.into()))?;
        self.inner.note_installed(id, now_ms).map_err(failed)?;
        Ok(replay)
    }
}

/// What a snapshot says of the voters counts before its end.
fn note_voters(membership: &mut Membership, id: Snapshot, replay: &Replay) {
    let at = Offset(id.end_offset.0 - 1);
    if let Some(voters) = replay.voters() {
        membership.add_voters(at, VoterSet::from_record(voters));
    }
    if replay.kraft_version() > 0 {
        membership.add_kraft_version(at, replay.kraft_version());
    }
}

/// The voters that a snapshot up to `end_offset` is to name.
pub(super) fn voters_record(membership: &Membership, end_offset: Offset) -> Option<VotersRecord> {
    let is_dynamic = membership.kraft_version_before(end_offset) > 0;
    membership.voters_before(end_offset).filter(|_| is_dynamic).map(VoterSet::to_record)
}

fn named(id: SnapshotId) -> Snapshot {
    Snapshot { end_offset: id.end_offset, epoch: id.epoch }
}

fn failure(error: &dyn std::error::Error) -> LogFailure {
    LogFailure(error.to_string())
}

impl QuorumLog for ReplicaLog {
    fn start_offset(&self) -> Offset {
        self.inner.log.log_start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.inner.log.log_end_offset()
    }

    fn last_epoch(&self) -> LeaderEpoch {
        let snapshot = self.newest().map_or(LeaderEpoch(0), |id| id.epoch);
        if self.end_offset() == self.start_offset() {
            return snapshot;
        }
        self.inner.log.leader_epochs().latest().unwrap_or(snapshot)
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let entries = self.inner.log.leader_epochs().entries();
        let after = entries.partition_point(|(known, _)| *known <= epoch);
        let is_empty = self.end_offset() == self.start_offset();
        match entries[..after].last().filter(|_| !is_empty) {
            Some((known, _)) => EpochEnd {
                epoch: *known,
                end_offset: entries.get(after).map_or(self.end_offset(), |(_, start)| *start),
            },
            None => EpochEnd {
                epoch: self.newest().map_or(LeaderEpoch(0), |id| id.epoch),
                end_offset: self.start_offset(),
            },
        }
    }

    fn append_as_leader(&mut self, batches: &[u8], epoch: LeaderEpoch) -> Result<(), LogFailure> {
        let now_ms = self.clock.now_ms();
        self.inner.append_in(epoch, batches, now_ms).map_err(|error| failure(&error))
    }

    fn append_as_follower(&mut self, sent: &[u8]) -> Result<(), AppendRefused> {
        let (mut next, mut epoch, mut timestamp_ms) = (self.end_offset(), self.last_epoch(), -1);
        for batch in batches(sent) {
            let batch = match batch {
                Ok(batch) => batch,
                // Cut off where the fetch was full.
                Err(crate::record::BatchError::Truncated { .. }) => break,
                Err(error) => return Err(AppendRefused::Damaged(error.to_string())),
            };
            batch.check_crc().map_err(|error| AppendRefused::Damaged(error.to_string()))?;
            let header = &batch.header;
            if header.base_offset != next || header.leader_epoch < epoch {
                let why = format!("a batch at {} of epoch {}", header.base_offset, header.leader_epoch);
                return Err(AppendRefused::Damaged(format!("{why} after {next} of epoch {epoch}")));
            }
            (next, epoch) = (header.next_offset(), header.leader_epoch);
            timestamp_ms = timestamp_ms.max(header.max_timestamp_ms);
        }
        let now_ms = self.clock.now_ms();
        let appended =
            self.inner.log.append_as_follower(sent, epoch, now_ms).map_err(|error| match error {
                AppendError::Storage(error) => AppendRefused::Failed(failure(&error)),
                error => AppendRefused::Damaged(error.to_string()),
            })?;
        self.inner.note_appended(appended.size as u64, timestamp_ms);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogFailure> {
        self.inner.log.flush().map_err(|error| failure(&error))
    }

    fn truncate(&mut self, end_offset: Offset) -> Result<(), LogFailure> {
        let now_ms = self.clock.now_ms();
        let from = self.end_offset();
        self.inner.log.truncate_to(end_offset, now_ms).map_err(|error| failure(&error))?;
        tracing::info!(%from, %end_offset, "metadata log cut off where the leader's goes on differently");
        Ok(())
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Bytes, LogFailure> {
        let slice = self.inner.log.read(from, self.end_offset(), bytes_max, true);
        let Some(slice) = slice.map_err(|error| failure(&error))?.into_slice() else {
            return Ok(Bytes::new());
        };
        let bytes = slice.region.read().map_err(|error| failure(&error))?;
        let whole: usize = batches(&bytes).map_while(Result::ok).map(|batch| batch.bytes.len()).sum();
        Ok(bytes.slice(..whole))
    }

    fn advance_high_watermark(&mut self, offset: Offset) {
        self.inner.log.advance_high_watermark(offset);
    }

    fn latest_snapshot(&self) -> Option<SnapshotId> {
        let id = self.newest().filter(|id| id.end_offset > Offset::ZERO)?;
        Some(SnapshotId { end_offset: id.end_offset, epoch: id.epoch })
    }

    fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        position: u64,
        bytes_max: usize,
    ) -> Result<Option<SnapshotPart>, LogFailure> {
        if !self.inner.snapshots.contains(named(snapshot)) {
            return Ok(None);
        }
        let path = self.folder.join(named(snapshot).file_name());
        let file = self.disk().open(&path, Access::Read).map_err(|error| failure(&error))?;
        let size = file.len().map_err(|error| failure(&error))?;
        let left = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(bytes_max)];
        let filled = file.read_at(&mut bytes, position).map_err(|error| failure(&error))?;
        bytes.truncate(filled);
        Ok(Some(SnapshotPart { size, bytes: bytes.into() }))
    }

    fn write_snapshot(
        &mut self,
        snapshot: SnapshotId,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), LogFailure> {
        if position == 0 {
            self.begin_part(snapshot).map_err(|error| failure(&error))?;
        }
        let Some(part) = &self.part else { return Err(LogFailure("a snapshot without a begin".to_owned())) };
        part.file.write_at(&mut [IoSlice::new(bytes)], position).map_err(|error| failure(&error))
    }

    fn install_snapshot(
        &mut self,
        snapshot: SnapshotId,
        membership: &mut Membership,
    ) -> Result<(), AppendRefused> {
        let Some(part) = self.part.take() else {
            return Err(AppendRefused::Damaged("nothing of the snapshot has come".to_owned()));
        };
        let replay = self.install(named(snapshot), &part)?;
        membership.clear();
        note_voters(membership, named(snapshot), &replay);
        tracing::info!(end_offset = %snapshot.end_offset, "metadata snapshot taken over from the leader");
        Ok(())
    }

    fn store(&mut self, state: &ElectionState, membership: &Membership) -> Result<(), LogFailure> {
        let is_static = membership.kraft_version() == 0;
        let voters = || membership.voters().iter().map(|voter| voter.key.id).collect();
        let state = QuorumState {
            cluster_id: String::new(),
            leader_id: state.leader_id.unwrap_or(-1),
            leader_epoch: state.epoch.0,
            voted: state.voted.unwrap_or(ReplicaKey::new(-1, Default::default())),
            current_voters: is_static.then(voters),
        };
        let file = self.folder.join(QUORUM_STATE_FILE);
        replace_file(self.disk(), &file, &state.render()).map_err(|error| failure(&error))
    }

    fn allow_vote(&mut self) -> Result<(), LogFailure> {
        let marker = self.folder.join(VOTELESS_FILE);
        self.disk().remove_file(&marker).map_err(|error| failure(&error))?;
        self.keep(&self.folder).map_err(|error| failure(&error))
    }
}
