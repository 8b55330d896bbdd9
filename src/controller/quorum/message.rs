//! What nodes of a quorum say to each other, without the frames: one request a kind, one answer a kind. `wire` turns
//! them into Kafka's messages and back.

use bytes::Bytes;

use crate::protocol::ErrorCode;
use crate::types::{LeaderEpoch, Offset, Uuid};

use super::voters::{Endpoint, ReplicaKey, Voter};

/// Names a snapshot: it holds everything before `end_offset`, the last of it written in `epoch`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnapshotId {
    /// The first offset that it does not contain.
    pub end_offset: Offset,
    /// The epoch of the record before that.
    pub epoch: LeaderEpoch,
}

/// Where an epoch ends in a log: the offset after its last record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end_offset: Offset,
}

/// A request of one node to another.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Vote (52): may I lead, or would I be elected?
    Vote(Vote),
    /// BeginQuorumEpoch (53): I lead.
    BeginEpoch(BeginEpoch),
    /// EndQuorumEpoch (54): I lead no more.
    EndEpoch(EndEpoch),
    /// Fetch (1) of the metadata log.
    Fetch(Fetch),
    /// FetchSnapshot (59).
    FetchSnapshot(FetchSnapshot),
    /// UpdateRaftVoter (82): a voter's own endpoints and versions, as they are now.
    UpdateVoter(UpdateVoter),
    /// AddRaftVoter (80): a node that does not vote asks for its own vote (KIP-1186).
    AddVoter(AddVoter),
    /// ApiVersions (18), to learn whether a voter to be added knows `kraft.version` 1.
    ApiVersions,
}

/// See [`Request::Vote`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// Who asks.
    pub candidate: ReplicaKey,
    /// Who is asked; its directory is unknown with static voters.
    pub voter: ReplicaKey,
    /// The candidate's epoch.
    pub epoch: LeaderEpoch,
    /// Where the candidate's log ends.
    pub last: EpochEnd,
    /// It only asks whether it would be elected (KIP-996).
    pub pre_vote: bool,
}

/// See [`Request::BeginEpoch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeginEpoch {
    /// Who leads.
    pub leader_id: i32,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Who is told.
    pub voter: ReplicaKey,
    /// Where the leader listens.
    pub leader_endpoints: Vec<Endpoint>,
}

/// See [`Request::EndEpoch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndEpoch {
    /// Who led.
    pub leader_id: i32,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Who should stand first: the voters by what they have of the log.
    pub preferred: Vec<ReplicaKey>,
    /// Where the leader listens.
    pub leader_endpoints: Vec<Endpoint>,
}

/// See [`Request::Fetch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Who fetches; the id is -1 for a client that only reads.
    pub replica: ReplicaKey,
    /// The epoch it knows; -1 where it does not care.
    pub epoch: LeaderEpoch,
    /// Where its log ends.
    pub offset: Offset,
    /// The epoch of its last record.
    pub last_fetched_epoch: LeaderEpoch,
    /// The high watermark it knows; `i64::MAX` where it does not say (before version 18).
    pub high_watermark: Offset,
    /// How many bytes it takes at most.
    pub bytes_max: usize,
    /// How long it waits for something new.
    pub wait_ms_max: i64,
}

/// See [`Request::FetchSnapshot`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchSnapshot {
    /// Who fetches.
    pub replica: ReplicaKey,
    /// The epoch it knows.
    pub epoch: LeaderEpoch,
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// From which byte.
    pub position: u64,
    /// How many bytes at most.
    pub bytes_max: usize,
}

/// See [`Request::UpdateVoter`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateVoter {
    /// The epoch the voter knows.
    pub epoch: LeaderEpoch,
    /// The voter as it is now.
    pub voter: Voter,
}

/// See [`Request::AddVoter`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddVoter {
    /// Who asks.
    pub voter: Voter,
    /// Given up by the leader after so long.
    pub timeout_ms: i64,
}

/// Who leads, as far as whoever answers knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leadership {
    /// The leader, where there is one.
    pub leader_id: Option<i32>,
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Where it listens, where that is known.
    pub endpoint: Option<Endpoint>,
}

/// An answer to a [`Request`].
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// To Vote.
    Vote {
        /// NONE, or why nothing was decided.
        error: ErrorCode,
        /// Who leads.
        leadership: Leadership,
        /// The vote.
        granted: bool,
    },
    /// To BeginQuorumEpoch.
    BeginEpoch {
        /// NONE, or why it was not taken.
        error: ErrorCode,
        /// Who leads.
        leadership: Leadership,
    },
    /// To EndQuorumEpoch.
    EndEpoch {
        /// NONE, or why it was not taken.
        error: ErrorCode,
        /// Who leads.
        leadership: Leadership,
    },
    /// To Fetch.
    Fetch(Fetched),
    /// To FetchSnapshot.
    FetchSnapshot {
        /// NONE, or why there is nothing.
        error: ErrorCode,
        /// Who leads.
        leadership: Leadership,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How long it is as a whole, in bytes.
        size: u64,
        /// Where `bytes` begin in it.
        position: u64,
        /// A part of it.
        bytes: Bytes,
    },
    /// To UpdateRaftVoter.
    UpdateVoter {
        /// NONE, or why it was not done.
        error: ErrorCode,
        /// Who leads.
        leadership: Leadership,
    },
    /// To AddRaftVoter (80) and RemoveRaftVoter (81).
    VoterChange {
        /// NONE, or why it was not done.
        error: ErrorCode,
        /// For the user.
        message: Option<String>,
    },
    /// To ApiVersions: the range of `kraft.version` that the node supports.
    ApiVersions {
        /// NONE, or why there is no answer.
        error: ErrorCode,
        /// Lowest and highest.
        kraft_versions: (i16, i16),
    },
}

impl Response {
    /// NONE, or why it was not done.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        match self {
            Self::Vote { error, .. }
            | Self::BeginEpoch { error, .. }
            | Self::EndEpoch { error, .. }
            | Self::FetchSnapshot { error, .. }
            | Self::UpdateVoter { error, .. }
            | Self::VoterChange { error, .. }
            | Self::ApiVersions { error, .. } => *error,
            Self::Fetch(fetched) => fetched.error,
        }
    }
}

/// See [`Response::Fetch`].
#[derive(Clone, PartialEq, Debug)]
pub struct Fetched {
    /// NONE, or why there is nothing.
    pub error: ErrorCode,
    /// Who leads.
    pub leadership: Leadership,
    /// The leader's high watermark; -1 before it knows one.
    pub high_watermark: Offset,
    /// Where the leader's log begins.
    pub log_start_offset: Offset,
    /// What comes of it.
    pub content: Content,
}

/// What a fetch is answered with.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// Whole batches from the offset asked for; none where nothing is new.
    Records(Bytes),
    /// The logs part: whoever fetched cuts its own off at the end of that epoch, and asks again.
    Diverging(EpochEnd),
    /// The log no longer begins that early: this snapshot is to be fetched first.
    Snapshot(SnapshotId),
}

impl Fetched {
    /// An answer without records.
    #[must_use]
    pub(super) fn refusing(error: ErrorCode, leadership: Leadership) -> Self {
        Self {
            error,
            leadership,
            high_watermark: Offset::UNKNOWN,
            log_start_offset: Offset::UNKNOWN,
            content: Content::Records(Bytes::new()),
        }
    }
}

/// A node without a directory id: static voters, and requests of old versions.
pub(super) const NO_DIRECTORY: Uuid = Uuid::ZERO;
