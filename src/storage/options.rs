//! The settings a log acts on, in the units it needs them; a topic's configuration is turned into these.

use crate::config::TopicConfig;

/// Settings of one log. `set_options` changes all of them on a live log, but `preallocate` and
/// `segment_index_bytes`, which act from the next segment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// `segment.bytes`: a segment is rolled before it would grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: and when a batch is this much younger than the segment's first.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much earlier, drawn for each segment.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: the size an active index is preallocated to, and may not outgrow.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: an index entry about every so many bytes.
    pub index_interval_bytes: u64,
    /// `preallocate`: new `.log` files get `segment_bytes` at once.
    pub preallocate: bool,
    /// `flush.messages`: an append that makes so many offsets unflushed waits for the disk.
    pub flush_messages: i64,
    /// `flush.ms`: unflushed batches are flushed after this.
    pub flush_ms: i64,
    /// `retention.ms`; -1 keeps forever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 sets no limit.
    pub retention_bytes: i64,
    /// Whether `cleanup.policy` holds `delete`: only then age and size delete. Below the log start offset
    /// segments are always deleted.
    pub delete_old_segments: bool,
    /// Whether `cleanup.policy` holds `compact`: the cleaner leaves holes between segments, which recovery
    /// otherwise takes for losses.
    pub compact: bool,
    /// `file.delete.delay.ms`: how long files stay under their `.deleted` name.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`: how long an idle producer's sequence is remembered.
    pub producer_id_expiration_ms: i64,
}

impl From<&TopicConfig> for LogOptions {
    /// The topic's part; `producer_id_expiration_ms` is the broker's and is left at its default.
    fn from(topic: &TopicConfig) -> Self {
        Self {
            segment_bytes: topic.segment_bytes.into(),
            segment_ms: topic.segment_ms,
            segment_jitter_ms: topic.segment_jitter_ms,
            segment_index_bytes: topic.segment_index_bytes.into(),
            index_interval_bytes: topic.index_interval_bytes.into(),
            preallocate: topic.preallocate,
            flush_messages: topic.flush_messages,
            flush_ms: topic.flush_ms,
            retention_ms: topic.retention_ms.unwrap_or(-1),
            retention_bytes: topic
                .retention_bytes
                .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            delete_old_segments: topic.cleanup_policy.delete,
            compact: topic.cleanup_policy.compact,
            file_delete_delay_ms: topic.file_delete_delay_ms,
            ..Self::default()
        }
    }
}

impl LogOptions {
    /// The topic's settings with the broker's `producer.id.expiration.ms`.
    #[must_use]
    pub fn new(topic: &TopicConfig, producer_id_expiration_ms: i64) -> Self {
        Self { producer_id_expiration_ms, ..Self::from(topic) }
    }

    /// One segment's share of the jitter, so that partitions made together do not roll together.
    pub(super) fn draw_jitter_ms(&self) -> i64 {
        let most = self.segment_jitter_ms.min(self.segment_ms);
        let mut random = [0; 8];
        if most <= 0 || getrandom::fill(&mut random).is_err() {
            return 0;
        }
        (u64::from_be_bytes(random) % most.unsigned_abs()) as i64
    }
}

impl Default for LogOptions {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4_096,
            preallocate: false,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            delete_old_segments: true,
            compact: false,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}
