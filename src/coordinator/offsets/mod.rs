//! Committed offsets: by group, topic and partition.

use std::collections::{BTreeMap, HashMap};

use crate::protocol::Str;
use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
use crate::types::Uuid;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: Str,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it expires, where an old client said so; else -1.
    pub expire_timestamp_ms: i64,
    /// The topic's id, all zeros where it was not known.
    pub topic_id: Uuid,
}

/// The offsets of one group, by topic and partition.
pub(super) type GroupOffsets = BTreeMap<Str, BTreeMap<i32, Committed>>;

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    groups: HashMap<Str, GroupOffsets>,
}

impl Offsets {
    /// Makes one record hold.
    pub(super) fn apply(&mut self, key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) {
        let _ = (&self.groups, key, value);
    }
}
