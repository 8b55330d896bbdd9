//! A topic's settings in the terms of those who act on them: its logs, and the walk over its batches.

use crate::config::{CompressionSetting, TopicConfig};
use crate::record::{Codec, Compression};
use crate::storage::LogOptions;

pub(super) fn compression_of(setting: CompressionSetting) -> Option<Compression> {
    match setting {
        CompressionSetting::Producer => None,
        CompressionSetting::Uncompressed => Some(Compression::NONE),
        CompressionSetting::Snappy => Some(Compression::new(Codec::Snappy)),
        CompressionSetting::Gzip(level) => Some(with_level(Codec::Gzip, level)),
        CompressionSetting::Lz4(level) => Some(with_level(Codec::Lz4, level)),
        CompressionSetting::Zstd(level) => Some(with_level(Codec::Zstd, level)),
    }
}

/// The level was checked when it was set; one that is out of range all the same gives way to the default.
fn with_level(codec: Codec, level: i32) -> Compression {
    Compression::with_level(codec, level).unwrap_or(Compression::new(codec))
}

/// A topic's settings in the terms of its logs.
#[must_use]
pub fn log_options(config: &TopicConfig, producer_id_expiration_ms: i64) -> LogOptions {
    LogOptions {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: segment_ms(config),
        segment_jitter_ms: config.segment_jitter_ms,
        segment_index_bytes: u64::from(config.segment_index_bytes),
        index_interval_bytes: u64::from(config.index_interval_bytes),
        preallocate: config.preallocate,
        flush_messages: config.flush_messages,
        flush_ms: config.flush_ms,
        retention_ms: config.retention_ms.unwrap_or(-1),
        retention_bytes: config.retention_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
        delete_old_segments: config.cleanup_policy.delete,
        compact: config.cleanup_policy.compact,
        file_delete_delay_ms: config.file_delete_delay_ms,
        producer_id_expiration_ms,
    }
}

/// How old a segment grows: one that is to be compacted in time must come to an end in time.
fn segment_ms(config: &TopicConfig) -> i64 {
    if config.cleanup_policy.compact && config.max_compaction_lag_ms > 0 {
        config.segment_ms.min(config.max_compaction_lag_ms)
    } else {
        config.segment_ms
    }
}
