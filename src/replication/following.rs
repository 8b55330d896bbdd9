//! A partition of which this broker is a follower: where it stands, and what it does with what its leader sent.
//!
//! Everything is checked against the leader's epoch under the lock: an answer that comes after the role has changed
//! does nothing. Bytes are stored only batch by batch with a good CRC, at the offset where the log ends.

use super::divergence::{Resume, resume, truncation_point};
use super::leader::LogOffsets;
use super::partition::{Partition, PartitionError};
use super::role::{Following, Held, Role};
use crate::record::BatchRef;
use crate::storage::{AppendError, EpochEnd, Log};
use crate::types::{BrokerId, LeaderEpoch, Offset};

/// Where a follower stands: what it asks its leader for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Whom it follows.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub fetch_offset: Offset,
    /// The epoch of its last record, or -1.
    pub last_fetched_epoch: LeaderEpoch,
    /// Where its log starts.
    pub log_start_offset: Offset,
}

/// What a leader says with the records it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<'a> {
    /// The batches; the last one may be cut off.
    pub bytes: &'a [u8],
    /// Its high watermark.
    pub high_watermark: Offset,
    /// Its log start offset.
    pub log_start_offset: Offset,
}

/// What a follower has made of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the log.
    Done {
        /// Bytes of batches.
        bytes: usize,
        /// A flush is due before the leader may be told (`flush.messages`).
        must_flush: bool,
    },
    /// It was of another epoch, or came for another offset: nothing happened.
    Ignored,
}

impl Partition {
    /// Whom this broker follows here, if it follows.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        match &self.log.lock().role {
            Role::Follower(following) if self.check_online().is_ok() => Some(*following),
            _ => None,
        }
    }

    /// Where the follower stands; `None` where this broker does not follow a leader here.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let held = self.log.lock();
        let Role::Follower(Following { leader, epoch }) = held.role else { return None };
        if leader == BrokerId::NONE || self.check_online().is_err() {
            return None;
        }
        Some(Position {
            leader,
            leader_epoch: epoch,
            fetch_offset: held.log_end_offset(),
            last_fetched_epoch: held.leader_epochs().latest().unwrap_or(LeaderEpoch::UNKNOWN),
            log_start_offset: held.log_start_offset(),
        })
    }

    /// Appends what the leader of `asked` sent for it, and follows its high watermark and its log start.
    ///
    /// # Errors
    /// A batch is corrupt or does not follow; what stood before it may be in the log.
    pub fn append_fetched(
        &self,
        asked: &Position,
        sent: &Sent<'_>,
        now_ms: i64,
    ) -> Result<Taken, PartitionError> {
        let mut held = self.log.lock();
        if !self.is_current(&held, asked) || held.log_end_offset() != asked.fetch_offset {
            return Ok(Taken::Ignored);
        }
        let log = &mut held.log;
        let before = log.high_watermark();
        let appended = append(log, sent.bytes, asked.leader_epoch, now_ms);
        // What came before a batch that is refused counts, too.
        log.advance_high_watermark(sent.high_watermark);
        if sent.log_start_offset > log.log_start_offset() {
            log.delete_records_before(sent.log_start_offset.min(log.high_watermark()))?;
        }
        let is_visible = log.high_watermark() > before;
        drop(held);
        if is_visible {
            self.notify_visible();
        }
        let (bytes, must_flush) = appended?;
        Ok(Taken::Done { bytes, must_flush })
    }

    /// Cuts the log back to where it may agree with the leader's, which ends the epoch at `leaders`. Returns where
    /// it ends now.
    ///
    /// # Errors
    /// The disk failed.
    pub fn truncate_diverging(
        &self,
        asked: &Position,
        leaders: EpochEnd,
        now_ms: i64,
    ) -> Result<Option<Offset>, PartitionError> {
        let mut held = self.log.lock();
        if !self.is_current(&held, asked) {
            return Ok(None);
        }
        let own = held.epoch_end_offset(leaders.epoch);
        let point = truncation_point(leaders, own, held.log_end_offset());
        held.truncate_to(point.max(Offset::ZERO), now_ms)?;
        Ok(Some(held.log_end_offset()))
    }

    /// Goes on after the leader said that it has no such offset; `offsets` are those of its log.
    ///
    /// # Errors
    /// The disk failed.
    pub fn resume_within(
        &self,
        asked: &Position,
        offsets: &LogOffsets,
        now_ms: i64,
    ) -> Result<Option<Resume>, PartitionError> {
        let mut held = self.log.lock();
        if !self.is_current(&held, asked) {
            return Ok(None);
        }
        let resume = resume(offsets.start, offsets.end, held.log_end_offset());
        match resume {
            Resume::TruncateTo(end) => drop(held.truncate_to(end, now_ms)?),
            Resume::StartAt(start) => held.truncate_fully_and_start_at(start, now_ms)?,
            Resume::GoOn => {}
        }
        Ok(Some(resume))
    }

    fn is_current(&self, held: &Held, asked: &Position) -> bool {
        let Role::Follower(following) = held.role else { return false };
        following.epoch == asked.leader_epoch
            && following.leader == asked.leader
            && self.check_online().is_ok()
    }
}

/// Appends whole batches. A log that has nothing yet may have to begin in the middle of a batch: it begins with it.
fn append(
    log: &mut Log,
    bytes: &[u8],
    leader_epoch: LeaderEpoch,
    now_ms: i64,
) -> Result<(usize, bool), PartitionError> {
    let mut appended = log.append_as_follower(bytes, leader_epoch, now_ms);
    if let Err(AppendError::UnexpectedOffset { offset, expected }) = appended
        && log.log_end_offset() == expected
        && log.log_start_offset() == expected
        && first_batch(bytes).is_some_and(|(base, next)| base == offset && base < expected && expected < next)
    {
        log.truncate_fully_and_start_at(offset, now_ms)?;
        appended = log.append_as_follower(bytes, leader_epoch, now_ms);
    }
    let appended = appended?;
    Ok((appended.size, appended.must_flush_to.is_some()))
}

/// Where the first batch begins, and where the one after it.
fn first_batch(bytes: &[u8]) -> Option<(Offset, Offset)> {
    let batch = BatchRef::first(bytes).ok()?;
    Some((batch.header.base_offset, batch.header.next_offset()))
}
