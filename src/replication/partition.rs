//! One partition of which this broker is the leader: its log behind a lock, and who waits for it.
//!
//! The high watermark of a lone node is the log end offset, or with `flush.messages=1` the flushed offset, so
//! that nobody reads what a power cut can take back. Waiters are told after the lock is released.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;

use super::waiters::{Waiter, Waiters};
use crate::config::{CompressionSetting, MessageTimestampType, TopicConfig};
use crate::record::{Codec, Compression, TimestampType, WalkRules};
use crate::storage::{AppendError, AppendOrigin, EpochEnd, Log, LogOptions, ReadError, Region, StorageError};
use crate::types::{LeaderEpoch, Offset, ProducerId, TopicPartition, Uuid};

/// Why a partition did not do what it was asked.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// The client knows an older leader epoch than the partition's.
    #[error("leader epoch {requested} is older than {current}")]
    FencedLeaderEpoch {
        /// What the client said.
        requested: i32,
        /// What holds.
        current: LeaderEpoch,
    },
    /// The client knows a leader epoch that has not come here yet.
    #[error("leader epoch {requested} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the client said.
        requested: i32,
        /// What holds.
        current: LeaderEpoch,
    },
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// Its topic has been deleted.
    #[error("the topic has been deleted")]
    Deleted,
    /// Its log directory has failed.
    #[error("the log directory of the partition is offline")]
    Offline,
    /// No such offset.
    #[error("offset {requested} is out of range: {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The high watermark.
        end: Offset,
    },
    /// The log took nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log gave nothing.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All below the high watermark (read_uncommitted).
    Uncommitted,
    /// Those below the last stable offset (read_committed).
    Committed,
}

/// What a fetch asks of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ReadSpec {
    /// The offset to begin at.
    pub from: Offset,
    /// How much to return.
    pub max_bytes: usize,
    /// Whether the first batch is returned even if it is larger.
    pub at_least_one: bool,
    /// What may be seen.
    pub isolation: Isolation,
    /// The leader epoch the client believes current, or -1.
    pub current_leader_epoch: i32,
    /// The epoch of the client's last record, or -1.
    pub last_fetched_epoch: i32,
}

/// What a partition gives to a fetch: offsets and records of one moment.
#[derive(Debug, Clone)]
pub struct ReadOutcome {
    /// The records, if there are any.
    pub region: Option<Region>,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log start offset.
    pub log_start_offset: Offset,
    /// Where the client's log leaves ours: the largest epoch at or below its own, and that epoch's end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Producer and first offset of the aborted transactions among the records; with read_committed only.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
}

impl ReadOutcome {
    /// Bytes of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.region.as_ref().map_or(0, Region::len)
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The offset of its first record; that of the first time if it came before.
    pub base_offset: Offset,
    /// The broker's time, with LogAppendTime.
    pub log_append_time_ms: Option<i64>,
    /// The log start offset at that moment.
    pub log_start_offset: Offset,
    /// Where `flush.messages` asks for it: the acknowledgement waits until the log is flushed to here.
    pub flush_to: Option<Offset>,
    /// A segment came to its end: it should be flushed soon.
    pub rolled: bool,
}

const ONLINE: u8 = 0;
const OFFLINE: u8 = 1;
const DELETED: u8 = 2;

/// A partition led by this broker.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    topic_id: Uuid,
    leader_epoch: AtomicI32,
    state: AtomicU8,
    config: ArcSwap<TopicConfig>,
    pub(super) log: Mutex<Log>,
    waiters: Waiters,
    flush_queued: AtomicBool,
    /// Held while a flush is on its way, and taken before `log`: two flushes at once would write the same
    /// epoch file, and one of a folder that is being renamed would look like a failed disk.
    pub(super) flushing: Mutex<()>,
    directory: ArcSwap<PathBuf>,
    /// The log on its way into another directory; taken after `flushing` and before `log`.
    pub(super) future: Mutex<Option<Box<Log>>>,
}

impl Partition {
    /// Leads `log` in `leader_epoch`.
    #[must_use]
    pub fn lead(
        id: TopicPartition,
        topic_id: Uuid,
        leader_epoch: LeaderEpoch,
        config: Arc<TopicConfig>,
        mut log: Log,
    ) -> Self {
        let (end, directory) = (log.log_end_offset(), log.directory());
        log.assign_epoch_start(leader_epoch, end);
        // What a stop left behind is in the log: with no other replica, it is committed.
        log.advance_high_watermark(end);
        Self {
            id,
            topic_id,
            leader_epoch: AtomicI32::new(leader_epoch.0),
            state: AtomicU8::new(ONLINE),
            config: ArcSwap::new(config),
            log: Mutex::new(log),
            waiters: Waiters::default(),
            flush_queued: AtomicBool::new(false),
            flushing: Mutex::new(()),
            directory: ArcSwap::from_pointee(directory),
            future: Mutex::default(),
        }
    }

    /// Topic and number.
    #[must_use]
    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// The log directory that its log is in.
    #[must_use]
    pub fn directory(&self) -> Arc<PathBuf> {
        self.directory.load_full()
    }

    /// The topic's id.
    #[must_use]
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The epoch this broker leads in.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.load(Ordering::Acquire))
    }

    /// The topic's configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// What a produced batch has to keep to.
    #[must_use]
    pub fn walk_rules(&self, now_ms: i64) -> WalkRules {
        let config = self.config.load();
        WalkRules {
            now_ms,
            timestamp_type: match config.message_timestamp_type {
                MessageTimestampType::CreateTime => TimestampType::CreateTime,
                MessageTimestampType::LogAppendTime => TimestampType::LogAppendTime,
            },
            timestamp_before_max_ms: config.message_timestamp_before_max_ms,
            timestamp_after_max_ms: config.message_timestamp_after_max_ms,
            key_required: config.cleanup_policy.compact,
            compression: compression_of(config.compression_type),
            batch_bytes_max: config.max_message_bytes as usize,
            ..WalkRules::default()
        }
    }

    /// Whether the topic stores its batches packed with zstd, which old fetches do not understand.
    #[must_use]
    pub fn packs_with_zstd(&self) -> bool {
        matches!(self.config.load().compression_type, CompressionSetting::Zstd(_))
    }

    /// Appends one walked batch; its offsets and epoch are written on the way. When this returns it is in the
    /// page cache, and visible unless the log is flushed first.
    ///
    /// # Errors
    /// [`PartitionError`]; nothing was appended then.
    pub fn append(&self, batch: &[u8], now_ms: i64) -> Result<Accepted, PartitionError> {
        self.check_online()?;
        let mut log = self.log.lock();
        let appended = log.append_as_leader(batch, self.leader_epoch(), AppendOrigin::Client, now_ms)?;
        let end = log.visible_end_offset();
        let is_visible = log.advance_high_watermark(end);
        drop(log);
        if is_visible {
            self.waiters.notify_bytes(appended.size);
        }
        Ok(Accepted {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            flush_to: appended.must_flush_to,
            rolled: appended.rolled,
        })
    }

    /// Reads what a fetch may see.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub fn read(&self, spec: &ReadSpec) -> Result<ReadOutcome, PartitionError> {
        self.check_online()?;
        self.check_leader_epoch(spec.current_leader_epoch)?;
        let log = self.log.lock();
        let mut outcome = ReadOutcome {
            region: None,
            high_watermark: log.high_watermark(),
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            diverging: None,
            aborted: (spec.isolation == Isolation::Committed).then(Vec::new),
        };
        let end = match spec.isolation {
            Isolation::Uncommitted => outcome.high_watermark,
            Isolation::Committed => outcome.last_stable_offset,
        };
        if spec.last_fetched_epoch >= 0 {
            outcome.diverging = diverging(&log, spec)?;
            if outcome.diverging.is_some() {
                return Ok(outcome);
            }
        }
        let Some(slice) = log.read(spec.from, end, spec.max_bytes, spec.at_least_one)?.into_slice() else {
            return Ok(outcome);
        };
        if slice.region.is_empty() {
            return Ok(outcome);
        }
        if let Some(aborted) = &mut outcome.aborted {
            let found = log.aborted_transactions(spec.from, slice.upper_bound)?;
            aborted.extend(found.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)));
        }
        outcome.region = Some(slice.region);
        Ok(outcome)
    }

    /// The log, for questions that need several answers of one moment.
    ///
    /// # Errors
    /// [`PartitionError`]: the partition cannot be asked now.
    pub fn with_log<T>(
        &self,
        current_leader_epoch: i32,
        ask: impl FnOnce(&mut Log) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        self.check_online()?;
        self.check_leader_epoch(current_leader_epoch)?;
        ask(&mut self.log.lock())
    }

    /// The log, whatever the partition's state: for checkpoints and sizes.
    pub fn with_log_anyway<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        act(&mut self.log.lock())
    }

    /// The log while no flush of it is on its way: for closing it and renaming its folder.
    pub fn with_log_alone<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        let _no_flush = self.flushing.lock();
        act(&mut self.log.lock())
    }

    /// Puts a log that is complete in the place of this partition's, under all of its locks; returns the one
    /// that was there.
    pub(super) fn replace_log(&self, log: &mut Log, mut next: Log) -> Log {
        let end = next.visible_end_offset();
        next.advance_high_watermark(end);
        self.directory.store(Arc::new(next.directory()));
        std::mem::replace(log, next)
    }

    /// Tells everybody who waits for anything here to look again.
    pub(super) fn notify_all(&self) {
        self.waiters.notify_all();
    }

    /// Makes everything below `offset` unreachable; the segments go later. `None` is the high watermark.
    /// Returns the log start offset.
    ///
    /// # Errors
    /// [`PartitionError::OffsetOutOfRange`] beyond the high watermark.
    pub fn delete_records_before(&self, offset: Option<Offset>) -> Result<Offset, PartitionError> {
        self.check_online()?;
        let mut log = self.log.lock();
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let offset = offset.unwrap_or(end);
        if offset > end || offset < Offset::ZERO {
            return Err(PartitionError::OffsetOutOfRange { requested: offset, start, end });
        }
        log.delete_records_before(offset)?;
        Ok(log.log_start_offset())
    }

    /// `waiter` is told about bytes that become visible here.
    pub fn wait_for_bytes(&self, waiter: &Waiter) {
        self.waiters.wait_for_bytes(waiter);
    }

    /// `waiter` is told when the log is flushed to `offset`.
    pub fn wait_for_flush(&self, waiter: &Waiter, offset: Offset) {
        self.waiters.wait_for_offset(waiter, offset);
    }

    /// Whether everything below `offset` is on the disk.
    ///
    /// # Errors
    /// The partition has failed or was deleted: it never will be.
    pub fn is_flushed(&self, offset: Offset) -> Result<bool, PartitionError> {
        self.check_online()?;
        Ok(self.log.lock().flushed_offset() >= offset)
    }

    /// Asks for a flush: `true` for the one caller that has to queue it.
    #[must_use]
    pub fn begin_flush_request(&self) -> bool {
        !self.flush_queued.swap(true, Ordering::AcqRel)
    }

    /// Syncs what has been appended so far, without holding the lock meanwhile: one sync serves every
    /// append before it.
    ///
    /// # Errors
    /// The disk failed; its directory is to be taken offline.
    pub fn flush(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.flushing.lock();
        self.flush_queued.store(false, Ordering::Release);
        if self.check_online().is_err() {
            return Ok(());
        }
        let Some(ticket) = self.log.lock().flush_ticket()? else { return Ok(()) };
        ticket.sync()?;
        let mut log = self.log.lock();
        log.mark_flushed(&ticket);
        let (end, flushed) = (log.visible_end_offset(), log.flushed_offset());
        let is_visible = log.advance_high_watermark(end);
        drop(log);
        if is_visible {
            // How many bytes became visible is not counted here: whoever waits looks again.
            self.waiters.notify_bytes(usize::MAX);
        }
        self.waiters.notify_offset(flushed);
        Ok(())
    }

    /// Gives a partition new settings.
    pub fn set_config(&self, config: Arc<TopicConfig>, options: LogOptions) {
        self.config.store(config);
        self.set_future_options(options);
        let mut log = self.log.lock();
        log.set_options(options);
        let end = log.visible_end_offset();
        log.advance_high_watermark(end);
        drop(log);
        self.waiters.notify_bytes(usize::MAX);
    }

    /// Leads in a new epoch.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let mut log = self.log.lock();
        let end = log.log_end_offset();
        log.assign_epoch_start(epoch, end);
        self.leader_epoch.store(epoch.0, Ordering::Release);
        drop(log);
        self.waiters.notify_all();
    }

    /// Its log directory has failed: everything from now on is refused.
    pub fn set_offline(&self) {
        self.state.store(OFFLINE, Ordering::Release);
        self.waiters.notify_all();
    }

    /// Its topic is gone: everything from now on is refused.
    pub fn set_deleted(&self) {
        self.state.store(DELETED, Ordering::Release);
        self.waiters.notify_all();
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_online(&self) -> Result<(), PartitionError> {
        match self.state.load(Ordering::Acquire) {
            ONLINE => Ok(()),
            OFFLINE => Err(PartitionError::Offline),
            _ => Err(PartitionError::Deleted),
        }
    }

    fn check_leader_epoch(&self, requested: i32) -> Result<(), PartitionError> {
        let current = self.leader_epoch();
        match requested {
            ..0 => Ok(()),
            epoch if epoch < current.0 => Err(PartitionError::FencedLeaderEpoch { requested, current }),
            epoch if epoch > current.0 => Err(PartitionError::UnknownLeaderEpoch { requested, current }),
            _ => Ok(()),
        }
    }
}

/// Whether the client's log, whose last record is of `last_fetched_epoch`, is not a prefix of ours (KIP-595).
fn diverging(log: &Log, spec: &ReadSpec) -> Result<Option<(LeaderEpoch, Offset)>, PartitionError> {
    let out_of_range = || PartitionError::OffsetOutOfRange {
        requested: spec.from,
        start: log.log_start_offset(),
        end: log.high_watermark(),
    };
    let requested = LeaderEpoch(spec.last_fetched_epoch);
    let known = log.epoch_end_offset(requested);
    if known == EpochEnd::UNKNOWN || spec.from < log.log_start_offset() {
        return Err(out_of_range());
    }
    Ok((known.epoch < requested || known.end_offset < spec.from).then_some((known.epoch, known.end_offset)))
}

fn compression_of(setting: CompressionSetting) -> Option<Compression> {
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
