//! What is known of a log before its batches are read: its files, what stands beside them, how its directory was left.

use std::path::PathBuf;
use std::sync::Arc;

use super::finding::Severity;
use crate::storage::disk::Disk;
use crate::storage::place::{Suffix, file_name};
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// How a log directory was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its last broker stopped in order: everything must be as it should be.
    Clean,
    /// It was not marked clean: the next start recovers it.
    Unclean,
    /// A broker holds its lock: what is read may change meanwhile.
    Running,
    /// It is no broker's: a copy of some folders. What a copy of a directory in use has is normal.
    Copy,
}

impl State {
    /// As the summary says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Unclean => "not marked clean",
            Self::Running => "in use",
            Self::Copy => "a copy",
        }
    }
}

/// One segment's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentFiles {
    pub(super) base: Offset,
    pub(super) bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) partition: Option<TopicPartition>,
    pub(super) state: State,
    /// In order of their base offsets.
    pub(super) segments: Vec<SegmentFiles>,
    /// Offsets of producer snapshots, in order.
    pub(super) snapshots: Vec<Offset>,
    /// From `leader-epoch-checkpoint`; `None` where there is none to go by.
    pub(super) epochs: Option<Vec<(LeaderEpoch, Offset)>>,
    /// The first offset that counts.
    pub(super) log_start: Offset,
    pub(super) recovery_point: Option<Offset>,
    /// The topic is compacted, or was once.
    pub(super) is_compacted: bool,
    /// The log's neighbours and checkpoints are there to be held against it.
    pub(super) is_whole: bool,
}

impl Context {
    pub(super) fn path(&self, base: Offset, suffix: Suffix) -> PathBuf {
        self.folder.join(file_name(base, suffix))
    }

    pub(super) fn next_base(&self, slot: usize) -> Option<Offset> {
        self.segments.get(slot + 1).map(|segment| segment.base)
    }

    /// Whether a start takes the segment as it is: all of it was flushed, or the directory was left in order.
    pub(super) fn is_settled(&self, slot: usize) -> bool {
        let flushed = self.recovery_point.unwrap_or(Offset::ZERO);
        self.state == State::Clean || self.next_base(slot).is_some_and(|next| next <= flushed)
    }

    /// How bad it is that something beside the log of a segment says what is not so. Recovery makes it anew where it
    /// reads the log; a copy sees no recovery.
    pub(super) fn severity_beside(&self, slot: usize) -> Severity {
        if self.is_settled(slot) || self.state == State::Copy { Severity::Damage } else { Severity::Note }
    }

    /// How bad it is that an index was not finished.
    pub(super) fn severity_of_rest(&self, slot: usize) -> Severity {
        if self.is_settled(slot) { Severity::Damage } else { Severity::Note }
    }

    /// How bad it is that a file of the folder is not what a broker wrote.
    pub(super) fn severity_of_files(&self) -> Severity {
        match self.state {
            State::Clean | State::Copy => Severity::Damage,
            State::Unclean | State::Running => Severity::Note,
        }
    }

    /// How bad bytes behind the last whole batch are.
    pub(super) fn severity_of_tail(&self) -> Severity {
        if self.state == State::Clean { Severity::Damage } else { Severity::Note }
    }

    /// The epoch that the checkpoint has for offsets `base` to `last`, as far as they count; `None` where it has
    /// none, or more than one.
    pub(super) fn listed_epoch(&self, base: Offset, last: Offset) -> Option<LeaderEpoch> {
        let entries = self.epochs.as_deref()?;
        let after =
            entries.partition_point(|(_, start)| *start <= base.max(self.log_start).min(last.max(base)));
        let (epoch, _) = after.checked_sub(1).map(|slot| entries[slot])?;
        entries.get(after).is_none_or(|(_, start)| *start > last).then_some(epoch)
    }
}
