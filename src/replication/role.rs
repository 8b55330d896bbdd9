//! A log together with the role that this broker plays around it: one value behind one lock, so that a role never
//! changes between two looks at the log.

use std::ops::{Deref, DerefMut};

use super::leader::{Leader, LogOffsets};
use crate::storage::Log;
use crate::types::{BrokerId, LeaderEpoch};

/// Whom a follower follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Following {
    /// The leader; [`BrokerId::NONE`] where there is none now.
    pub leader: BrokerId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
}

/// What this broker is to a partition.
#[derive(Debug)]
pub(super) enum Role {
    Leader(Leader),
    Follower(Following),
}

/// What a partition's lock guards.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) log: Log,
    pub(super) role: Role,
}

impl Held {
    pub(super) fn offsets(&self) -> LogOffsets {
        offsets_of(&self.log)
    }
}

/// The log's offsets in the terms of a leader.
pub(super) fn offsets_of(log: &Log) -> LogOffsets {
    LogOffsets {
        start: log.log_start_offset(),
        end: log.log_end_offset(),
        held: log.visible_end_offset(),
        high_watermark: log.high_watermark(),
    }
}

impl Deref for Held {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Log {
        &mut self.log
    }
}
