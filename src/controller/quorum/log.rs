//! The log that a quorum agrees on, as the quorum sees it. What acts on a directory stands behind it in the broker; the
//! simulator puts a log in memory there that forgets what was not synced.

use bytes::Bytes;

use crate::types::{LeaderEpoch, Offset};

use super::message::{EpochEnd, SnapshotId};
use super::voters::{Membership, ReplicaKey};

/// The log failed: the node can take no further part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogFailure(pub String);

/// What a follower was sent and could not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// Bytes that no leader writes: dropped, and asked for again.
    #[error("the leader sent damaged records: {0}")]
    Damaged(String),
    /// The log failed.
    #[error("{0}")]
    Failed(#[from] LogFailure),
}

/// What must outlive a crash besides the log (`quorum-state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ElectionState {
    /// The newest epoch this node has heard of.
    pub epoch: LeaderEpoch,
    /// Who leads in it, where that is known.
    pub leader_id: Option<i32>,
    /// Whom this node has voted for in it.
    pub voted: Option<ReplicaKey>,
}

/// A part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPart {
    /// How long the whole is, in bytes.
    pub size: u64,
    /// The bytes from the position asked for.
    pub bytes: Bytes,
}

/// The metadata log of one node. Every method that returns has done what it says; `flush`, `store`, `install_snapshot`
/// have it on disk.
pub trait QuorumLog {
    /// Where the log begins; everything before is in a snapshot.
    fn start_offset(&self) -> Offset;

    /// The offset that the next record gets.
    fn end_offset(&self) -> Offset;

    /// The epoch of the last record, or of the snapshot that the log begins after.
    fn last_epoch(&self) -> LeaderEpoch;

    /// The largest epoch in the log that is not above `epoch`, and where it ends. Where the log has none that small: the
    /// epoch and end of the snapshot before it, or epoch 0 and its start.
    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd;

    /// Appends whole batches, which get the next offsets and `epoch`.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn append_as_leader(&mut self, batches: &[u8], epoch: LeaderEpoch) -> Result<(), LogFailure>;

    /// Appends whole batches as the leader sent them; they begin at the end of the log.
    ///
    /// # Errors
    /// [`AppendRefused::Damaged`] where they do not fit, and nothing was appended; [`AppendRefused::Failed`].
    fn append_as_follower(&mut self, batches: &[u8]) -> Result<(), AppendRefused>;

    /// Everything that was appended is on disk.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn flush(&mut self) -> Result<(), LogFailure>;

    /// Cuts the log off at `end_offset`.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn truncate(&mut self, end_offset: Offset) -> Result<(), LogFailure>;

    /// Whole batches from `from`, about `bytes_max` of them, at least one where there is one.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn read(&self, from: Offset, bytes_max: usize) -> Result<Bytes, LogFailure>;

    /// Everything before this offset is agreed on. Never called with an offset beyond the end.
    fn advance_high_watermark(&mut self, offset: Offset);

    /// The newest snapshot.
    fn latest_snapshot(&self) -> Option<SnapshotId>;

    /// A part of a snapshot; `None` where it is not there.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        position: u64,
        bytes_max: usize,
    ) -> Result<Option<SnapshotPart>, LogFailure>;

    /// Puts a part of a snapshot that is being fetched at `position`; 0 begins it anew.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn write_snapshot(&mut self, snapshot: SnapshotId, position: u64, bytes: &[u8])
    -> Result<(), LogFailure>;

    /// The fetched snapshot is whole: it is kept, the log is emptied and begins at its end. What the snapshot says of the
    /// voters goes into `membership`.
    ///
    /// # Errors
    /// [`AppendRefused::Damaged`] where it is no snapshot, and nothing has changed; [`AppendRefused::Failed`].
    fn install_snapshot(
        &mut self,
        snapshot: SnapshotId,
        membership: &mut Membership,
    ) -> Result<(), AppendRefused>;

    /// Keeps the election's state.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn store(&mut self, state: &ElectionState, membership: &Membership) -> Result<(), LogFailure>;

    /// Notes that this node may vote from now on.
    ///
    /// # Errors
    /// [`LogFailure`].
    fn allow_vote(&mut self) -> Result<(), LogFailure>;
}
