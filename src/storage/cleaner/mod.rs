//! Log compaction: of every key the last record stays, and everything else goes.
//!
//! [`Log::dirtiness`] says how much of a log would be looked at; [`Cleaning`] is one round over one log:
//!
//! ```text
//!          first segment          first dirty offset            end of the round         active segment
//!             |  clean: cleaned before  |  dirty: its keys go into the map  |  not yet      |
//!
//!  begin (lock) -> index keys -> for each group of segments: make .cleaned files (lock) -> copy what stays
//!                                -> sync -> swap in (lock)                  -> note the cleaner point
//! ```
//! Nothing is read or written under the log's lock but names: the steps that need it are [`Cleaning::settle`], all
//! others [`Cleaning::work`], bounded pieces that the owner may throttle or end. The swap is atomic for readers,
//! who keep the files they hold, and for crashes: `.cleaned` files do not count, `.swap` files do and take the
//! place of what they cover, at the next open if need be.
//!
//! Never touched are the active segment and what lies above the last stable offset. What goes is what Kafka's
//! cleaner would drop. Batches of formats 0 and 1 are kept as they are. The map of keys is the memory it takes,
//! and only while a round runs.

mod cleaning;
mod filter;
mod groups;
mod offset_map;
mod throttle;
mod transactions;

use thiserror::Error;

pub use cleaning::{Cleaned, Cleaning, Progress};
pub(super) use filter::LastRecord;
pub use throttle::Throttle;

use super::error::StorageError;
use crate::config::TopicConfig;

/// What a topic says about its cleaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionRules {
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
}

impl From<&TopicConfig> for CompactionRules {
    fn from(topic: &TopicConfig) -> Self {
        Self {
            min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: topic.min_compaction_lag_ms,
            max_compaction_lag_ms: topic.max_compaction_lag_ms,
            delete_retention_ms: topic.delete_retention_ms,
        }
    }
}

/// What one round of cleaning may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleaningLimits {
    /// Memory of the key map, in bytes.
    pub key_map_bytes: u64,
    /// How full the map may become.
    pub key_map_load_factor: f64,
    /// Bytes read before [`Cleaning::work`] returns, and before what stays is written.
    pub buffer_bytes: usize,
}

impl Default for CleaningLimits {
    /// Kafka's defaults for one thread.
    fn default() -> Self {
        Self { key_map_bytes: 128 << 20, key_map_load_factor: 0.9, buffer_bytes: 256 << 10 }
    }
}

/// Why a round of cleaning came to no end. What it had swapped in before stays.
#[derive(Debug, Error)]
pub enum CleanError {
    /// The log was truncated, deleted, or lost records meanwhile.
    #[error("the cleaning was aborted")]
    Aborted,
    /// The map of keys cannot hold the first dirty batch.
    #[error("log.cleaner.dedupe.buffer.size is too small for the first dirty batch")]
    MapTooSmall,
    /// The disk failed, or what is in the log is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
