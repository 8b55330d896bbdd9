//! One partition that has a replica here: its log and this broker's role around it behind a lock, and who waits for
//! it to move.
//!
//! The high watermark of a leader without followers is the log end offset, or with `flush.messages=1` the flushed
//! offset, so that nobody reads what a power cut can take back; with followers it is what all replicas in sync have
//! (`leader`), and a follower's is what its leader said. Waiters are told after the lock is released.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;

use super::divergence::{Relation, relation};
use super::leader::{Leader, Terms};
use super::role::{Following, Held, Role, offsets_of};
use super::settings::compression_of;
use super::surroundings::Surroundings;
use super::waiters::{Waiter, Waiters};
use crate::config::{CompressionSetting, MessageTimestampType, TopicConfig};
use crate::metadata::PartitionRegistration;
use crate::record::{TimestampType, WalkRules};
use crate::storage::{AppendError, AppendOrigin, Log, LogOptions, ReadError, Region, StorageError};
use crate::types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicPartition, Uuid};

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
    /// acks=all, and too few replicas are in sync: nothing was appended.
    #[error("{in_sync} replicas are in sync, fewer than min.insync.replicas={min}")]
    TooFewInSync {
        /// How many are.
        in_sync: usize,
        /// How many have to be.
        min: i32,
    },
    /// acks=all, and too few replicas were in sync when the others had it.
    #[error("too few replicas are in sync by now")]
    TooFewAfterAppend,
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
    /// Whether a follower may not answer.
    pub leader_only: bool,
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
    /// A replica that lies nearer to the consumer: it is to read there.
    pub preferred_replica: Option<i32>,
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

/// On how many replicas a batch has to be before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The leader's own (acks=1, and acks=0).
    Leader,
    /// All that are in sync, and enough of them (acks=all).
    All,
}

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The offset of its first record; that of the first time if it came before.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// The epoch in which it was appended.
    pub leader_epoch: LeaderEpoch,
    /// Other replicas have to have it before it is committed ([`Partition::is_committed`]).
    pub must_replicate: bool,
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

/// A partition with a replica here.
#[derive(Debug)]
pub struct Partition {
    surroundings: Arc<Surroundings>,
    id: TopicPartition,
    topic_id: Uuid,
    leader_epoch: AtomicI32,
    state: AtomicU8,
    config: ArcSwap<TopicConfig>,
    pub(super) log: Mutex<Held>,
    /// Readers wait for bytes to become visible, acknowledgements for the flushed offset.
    waiters: Waiters,
    /// Followers wait for bytes to be appended, acknowledgements for the high watermark.
    replication: Waiters,
    /// DeleteRecords waits for the low watermark.
    trimming: Waiters,
    flush_queued: AtomicBool,
    /// Held while a flush is on its way, and taken before `log`: two flushes at once would write the same
    /// epoch file, and one of a folder that is being renamed would look like a failed disk.
    pub(super) flushing: Mutex<()>,
    directory: ArcSwap<PathBuf>,
    /// The log on its way into another directory; taken after `flushing` and before `log`.
    pub(super) future: Mutex<Option<Box<Log>>>,
}

impl Partition {
    /// Holds `log`, and has no part in it before [`Partition::assume`] is called.
    #[must_use]
    pub fn new(
        id: TopicPartition,
        topic_id: Uuid,
        surroundings: Arc<Surroundings>,
        config: Arc<TopicConfig>,
        log: Log,
    ) -> Self {
        let directory = log.directory();
        let role = Role::Follower(Following { leader: BrokerId::NONE, epoch: LeaderEpoch::UNKNOWN });
        Self {
            surroundings,
            id,
            topic_id,
            leader_epoch: AtomicI32::new(LeaderEpoch::UNKNOWN.0),
            state: AtomicU8::new(ONLINE),
            config: ArcSwap::new(config),
            log: Mutex::new(Held { log, role }),
            waiters: Waiters::default(),
            replication: Waiters::default(),
            trimming: Waiters::default(),
            flush_queued: AtomicBool::new(false),
            flushing: Mutex::new(()),
            directory: ArcSwap::from_pointee(directory),
            future: Mutex::default(),
        }
    }

    /// Takes the role that the metadata gives this broker; `true` where it is another one than before. An older
    /// registration changes nothing.
    pub fn assume(&self, registration: &PartitionRegistration) -> bool {
        let mut held = self.log.lock();
        let (node, epoch) = (self.surroundings.node(), registration.epoch());
        let is_new = epoch > self.leader_epoch();
        if is_new && registration.leader_id() == node {
            self.take_office(&mut held, registration);
        } else if is_new {
            held.role = Role::Follower(Following { leader: registration.leader_id(), epoch });
        } else if let Role::Leader(leader) = &mut held.role {
            leader.follow(registration, self.surroundings.now_ms());
        }
        self.leader_epoch.store(epoch.max(self.leader_epoch()).0, Ordering::Release);
        let is_visible = self.advance(&mut held);
        let high_watermark = held.high_watermark();
        drop(held);
        if is_new {
            self.notify_all();
        } else {
            self.settle(is_visible, high_watermark);
            self.notify_committing();
        }
        is_new
    }

    /// Leads from here on. The epoch's start is noted before anything is written in it (KAFKA-7415).
    fn take_office(&self, held: &mut Held, registration: &PartitionRegistration) {
        let end = held.log_end_offset();
        held.assign_epoch_start(registration.epoch(), end);
        let leader = Leader::new(self.surroundings.node().0, registration, end, self.surroundings.now_ms());
        if leader.is_alone() {
            // What a stop left behind is in the log: with no other replica, it is committed.
            held.advance_high_watermark(end);
        }
        held.role = Role::Leader(leader);
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(super) fn terms(&self) -> Terms {
        self.surroundings.terms(self.config.load().min_insync_replicas)
    }

    /// Moves the high watermark as far as the role allows; `true` where it moved. A follower's moves by what its
    /// leader says alone.
    pub(super) fn advance(&self, held: &mut Held) -> bool {
        let Role::Leader(leader) = &held.role else { return false };
        let end = if leader.is_alone() {
            held.log.visible_end_offset()
        } else {
            let offsets = offsets_of(&held.log);
            leader.high_watermark(&offsets, &self.terms(), &|id| self.surroundings.standing(id))
        };
        held.log.advance_high_watermark(end)
    }

    /// Tells who waited for the high watermark, where it has moved.
    pub(super) fn settle(&self, is_visible: bool, high_watermark: Offset) {
        if is_visible {
            self.notify_visible();
            self.replication.notify_offset(high_watermark);
        }
    }

    /// How many bytes became visible is not counted here: whoever waits looks again.
    pub(super) fn notify_visible(&self) {
        self.waiters.notify_bytes(usize::MAX);
    }

    /// Whoever waits for an acknowledgement looks again.
    pub(super) fn notify_committing(&self) {
        self.replication.notify_offset(Offset(i64::MAX));
    }

    /// Whoever waits for replicas to follow a log start looks again.
    pub(super) fn notify_low_watermark(&self) {
        self.trimming.notify_offset(Offset(i64::MAX));
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

    /// The epoch of the partition's leader, here or elsewhere.
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

    /// Appends one walked batch as leader; its offsets and epoch are written on the way. When this returns it is in
    /// the page cache, and visible unless the log is flushed first or other replicas must have it.
    ///
    /// # Errors
    /// [`PartitionError`]; nothing was appended then.
    pub fn append(&self, batch: &[u8], acks: Acks, now_ms: i64) -> Result<Accepted, PartitionError> {
        self.check_online()?;
        let mut held = self.log.lock();
        let Held { log, role: Role::Leader(leader) } = &mut *held else {
            return Err(PartitionError::NotLeader);
        };
        let (leader_epoch, is_alone) = (leader.epoch(), leader.is_alone());
        if !is_alone && acks == Acks::All && leader.is_under_min_isr(&self.terms()) {
            let (in_sync, min) = (leader.isr().len(), self.config.load().min_insync_replicas);
            return Err(PartitionError::TooFewInSync { in_sync, min });
        }
        let appended = log.append_as_leader(batch, leader_epoch, AppendOrigin::Client, now_ms)?;
        let is_visible = self.advance(&mut held);
        let high_watermark = held.high_watermark();
        drop(held);
        if is_alone && is_visible {
            self.waiters.notify_bytes(appended.size);
        } else if !is_alone {
            self.replication.notify_bytes(appended.size);
            self.settle(is_visible, high_watermark);
        }
        let end_offset = appended.last_offset.next();
        Ok(Accepted {
            base_offset: appended.base_offset,
            end_offset,
            leader_epoch,
            must_replicate: !is_alone && acks == Acks::All,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            flush_to: appended.must_flush_to,
            rolled: appended.rolled,
        })
    }

    /// Reads what a consumer may see. Followers serve it too, unless `spec` says otherwise.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub fn read(&self, spec: &ReadSpec) -> Result<ReadOutcome, PartitionError> {
        self.check_online()?;
        self.check_leader_epoch(spec.current_leader_epoch)?;
        let mut held = self.log.lock();
        if spec.leader_only && !matches!(held.role, Role::Leader(_)) {
            return Err(PartitionError::NotLeader);
        }
        let end = match spec.isolation {
            Isolation::Uncommitted => held.high_watermark(),
            Isolation::Committed => held.last_stable_offset(),
        };
        let outcome = read_log(&held, spec, end);
        held.spare_files();
        outcome
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
    pub(super) fn replace_log(&self, held: &mut Held, next: Log) -> Log {
        self.directory.store(Arc::new(next.directory()));
        let before = std::mem::replace(&mut held.log, next);
        self.advance(held);
        before
    }

    /// Tells everybody who waits for anything here to look again.
    pub(super) fn notify_all(&self) {
        self.waiters.notify_all();
        self.replication.notify_all();
        self.trimming.notify_all();
    }

    /// Makes everything below `offset` unreachable; the segments go later. `None` is the high watermark.
    /// Returns the log start offset.
    ///
    /// # Errors
    /// [`PartitionError::OffsetOutOfRange`] beyond the high watermark.
    pub fn delete_records_before(&self, offset: Option<Offset>) -> Result<Offset, PartitionError> {
        self.check_online()?;
        let mut log = self.log.lock();
        if !matches!(log.role, Role::Leader(_)) {
            return Err(PartitionError::NotLeader);
        }
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

    /// `waiter` is told about bytes that are appended here, visible or not: a follower's.
    pub fn wait_for_append(&self, waiter: &Waiter) {
        self.replication.wait_for_bytes(waiter);
    }

    /// `waiter` is told when everything below `offset` may be committed.
    pub fn wait_for_commit(&self, waiter: &Waiter, offset: Offset) {
        self.replication.wait_for_offset(waiter, offset);
    }

    /// `waiter` is told when the low watermark may have moved.
    pub fn wait_for_low_watermark(&self, waiter: &Waiter) {
        self.trimming.wait_for_offset(waiter, Offset::ZERO);
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
        let mut held = self.log.lock();
        held.mark_flushed(&ticket);
        let is_visible = self.advance(&mut held);
        let (high_watermark, flushed) = (held.high_watermark(), held.flushed_offset());
        drop(held);
        self.settle(is_visible, high_watermark);
        self.waiters.notify_offset(flushed);
        Ok(())
    }

    /// Gives a partition new settings.
    pub fn set_config(&self, config: Arc<TopicConfig>, options: LogOptions) {
        self.config.store(config);
        self.set_future_options(options);
        let mut held = self.log.lock();
        held.set_options(options);
        self.advance(&mut held);
        let high_watermark = held.high_watermark();
        drop(held);
        self.settle(true, high_watermark);
        self.notify_committing();
    }

    /// Its log directory has failed: everything from now on is refused.
    pub fn set_offline(&self) {
        self.state.store(OFFLINE, Ordering::Release);
        self.notify_all();
    }

    /// Its topic is gone: everything from now on is refused.
    pub fn set_deleted(&self) {
        self.state.store(DELETED, Ordering::Release);
        self.notify_all();
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

    pub(super) fn check_leader_epoch(&self, requested: i32) -> Result<(), PartitionError> {
        let current = self.leader_epoch();
        match requested {
            ..0 => Ok(()),
            epoch if epoch < current.0 => Err(PartitionError::FencedLeaderEpoch { requested, current }),
            epoch if epoch > current.0 => Err(PartitionError::UnknownLeaderEpoch { requested, current }),
            _ => Ok(()),
        }
    }
}

/// Reads up to `end`, all offsets of one moment.
pub(super) fn read_log(log: &Log, spec: &ReadSpec, end: Offset) -> Result<ReadOutcome, PartitionError> {
    let mut outcome = ReadOutcome {
        region: None,
        high_watermark: log.high_watermark(),
        last_stable_offset: log.last_stable_offset(),
        log_start_offset: log.log_start_offset(),
        diverging: None,
        aborted: (spec.isolation == Isolation::Committed).then(Vec::new),
        preferred_replica: None,
    };
    if spec.last_fetched_epoch >= 0 {
        outcome.diverging = diverging(log, spec)?;
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

/// Whether the reader's log, whose last record is of `last_fetched_epoch`, is not a prefix of ours (KIP-595).
fn diverging(log: &Log, spec: &ReadSpec) -> Result<Option<(LeaderEpoch, Offset)>, PartitionError> {
    let requested = LeaderEpoch(spec.last_fetched_epoch);
    let known = log.epoch_end_offset(requested);
    match relation((spec.from, requested), known, log.log_start_offset()) {
        Relation::Prefix => Ok(None),
        Relation::Diverged(at) => Ok(Some((at.epoch, at.end_offset))),
        Relation::OutOfRange => Err(PartitionError::OffsetOutOfRange {
            requested: spec.from,
            start: log.log_start_offset(),
            end: log.high_watermark(),
        }),
    }
}
