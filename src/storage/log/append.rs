//! Taking batches in.
//!
//! A leader's batches were walked before (`record::walk`); what happens here under the lock is the producer's
//! sequence check, the offsets, and one write call: base offset and leader epoch stand outside the CRC, so that
//! the bytes go from the request to the page cache as they came.

use std::io::IoSlice;

use super::Log;
use crate::record::{BatchError, BatchHeader, BatchRef, NO_TIMESTAMP, TimestampType, batches};
use crate::storage::error::{AppendError, StorageError};
use crate::storage::producer_state::{AppendOrigin, Marker};
use crate::storage::segment::{BatchMark, Segment};
use crate::types::{LeaderEpoch, Offset};

/// The bytes of a batch that a leader writes itself: base offset, length, leader epoch.
const PATCHED_SIZE: usize = 16;

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; where nothing was appended, the log's end.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The batch's timestamp under LogAppendTime.
    pub log_append_time_ms: Option<i64>,
    /// The log start offset at that moment.
    pub log_start_offset: Offset,
    /// The batch was in the log already: the offsets are those of the first one.
    pub duplicate: bool,
    /// The acknowledgement waits until [`Log::flushed_offset`] is at least this (`flush.messages`).
    pub must_flush_to: Option<Offset>,
    /// A new segment was begun: the old one should be flushed soon.
    pub rolled: bool,
    /// Bytes written.
    pub size: usize,
}

/// One batch of an append, its header as it stands in the log.
struct Incoming<'a> {
    header: BatchHeader,
    marker: Option<Marker>,
    bytes: &'a [u8],
}

impl Incoming<'_> {
    fn mark(&self) -> BatchMark {
        BatchMark {
            size: self.bytes.len() as u64,
            last_offset: self.header.last_offset(),
            max_timestamp_ms: self.header.max_timestamp_ms,
        }
    }
}

impl Log {
    /// Appends whole, walked batches as the partition's leader in `epoch`: they get the next offsets.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is in the log then.
    pub fn append_as_leader(
        &mut self,
        bytes: &[u8],
        epoch: LeaderEpoch,
        origin: AppendOrigin,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let mut incoming = parse_all(bytes)?;
        if bytes.len() as u64 > self.options.segment_bytes {
            let segment_bytes = self.options.segment_bytes;
            return Err(AppendError::LargerThanSegment { size: bytes.len(), segment_bytes });
        }
        let mut next = self.log_end_offset;
        for batch in &mut incoming {
            assert!(batch.header.last_offset_delta >= 0, "batches are walked before they are appended");
            if batch.header.has_producer() {
                if origin == AppendOrigin::Client
                    && let Some(duplicate) = self.producers.duplicate(&batch.header)
                {
                    return Ok(self.repeated(&batch.header, duplicate));
                }
                match self.producers.check(&batch.header, batch.marker.as_ref(), origin) {
                    Err(gap @ AppendError::OutOfOrderSequence { .. }) => {
                        let duplicate = self.recalled(&batch.header)?.ok_or(gap)?;
                        return Ok(self.repeated(&batch.header, duplicate));
                    }
                    checked => checked?,
                }
            }
            (batch.header.base_offset, batch.header.leader_epoch) = (next, epoch);
            next = batch.header.next_offset();
        }
        self.assign_epoch_start(epoch, self.log_end_offset);
        let rolled = self.roll_for(&incoming, now_ms)?;
        let heads: Vec<[u8; PATCHED_SIZE]> = incoming.iter().map(|batch| patched(&batch.header)).collect();
        let mut pieces = Vec::with_capacity(heads.len() * 2);
        for (head, batch) in heads.iter().zip(&incoming) {
            pieces.extend([IoSlice::new(head), IoSlice::new(&batch.bytes[PATCHED_SIZE..])]);
        }
        self.write(&mut pieces, &incoming, rolled, now_ms)
    }

    /// Appends what a leader sent, offsets and epochs as they are. A batch cut off at the end is ignored, as is
    /// everything from the first batch on that is of a younger epoch than the leader's (KAFKA-18723).
    ///
    /// # Errors
    /// [`AppendError`]: a batch is corrupt, or an offset is in the log already. What stands before it in `bytes`
    /// may have been appended; the log's end says so.
    pub fn append_as_follower(
        &mut self,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let incoming = self.check_replicated(bytes, leader_epoch)?;
        let mut appended = self.nothing_appended();
        let mut rest = &incoming[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.chunk_len(rest));
            self.note_epochs(chunk);
            let rolled = self.roll_for(chunk, now_ms)?;
            let mut pieces: Vec<IoSlice<'_>> = chunk.iter().map(|batch| IoSlice::new(batch.bytes)).collect();
            let written = self.write(&mut pieces, chunk, rolled, now_ms)?;
            let is_first = appended.size == 0;
            appended = Appended {
                base_offset: if is_first { written.base_offset } else { appended.base_offset },
                rolled: rolled || appended.rolled,
                size: appended.size + written.size,
                ..written
            };
            rest = after;
        }
        Ok(appended)
    }

    fn check_replicated<'a>(
        &self,
        bytes: &'a [u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<Vec<Incoming<'a>>, AppendError> {
        let mut incoming = Vec::new();
        let mut expected = self.log_end_offset;
        let mut position = 0;
        for batch in batches(bytes) {
            let wrong = |source| AppendError::Batch { position, source };
            let batch = match batch {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return Err(wrong(error)),
            };
            batch.check_crc().map_err(wrong)?;
            if batch.header.leader_epoch > leader_epoch {
                break;
            }
            if batch.header.base_offset < expected || batch.header.last_offset_delta < 0 {
                return Err(AppendError::UnexpectedOffset { offset: batch.header.base_offset, expected });
            }
            expected = batch.header.next_offset();
            position += batch.bytes.len();
            incoming.push(Incoming {
                header: batch.header,
                marker: Marker::read(&batch),
                bytes: batch.bytes,
            });
        }
        Ok(incoming)
    }

    /// How many of the batches can stand in one segment together: offsets within 2^31 (KAFKA-5413), and no more
    /// bytes than a segment holds.
    fn chunk_len(&self, batches: &[Incoming<'_>]) -> usize {
        let Some(first) = batches.first() else { return 0 };
        let mut size = 0;
        let fits = batches.iter().take_while(|batch| {
            size += batch.bytes.len() as u64;
            size <= self.options.segment_bytes
                && batch.header.last_offset() - first.header.base_offset <= i64::from(i32::MAX)
        });
        fits.count().max(1)
    }

    fn note_epochs(&mut self, batches: &[Incoming<'_>]) {
        for Incoming { header, .. } in batches {
            self.has_fresh_epoch |= self.epochs.assign_if_younger(header.leader_epoch, header.base_offset);
        }
    }

    /// Begins a new segment where these batches need one.
    fn roll_for(&mut self, incoming: &[Incoming<'_>], now_ms: i64) -> Result<bool, StorageError> {
        let (Some(first), Some(last)) = (incoming.first(), incoming.last()) else { return Ok(false) };
        let size = incoming.iter().map(|batch| batch.bytes.len() as u64).sum();
        let youngest = incoming.iter().map(|batch| batch.header.max_timestamp_ms).max();
        let batch = (size, youngest.unwrap_or(NO_TIMESTAMP), last.header.last_offset());
        let limits = (self.options.segment_bytes, self.options.segment_ms);
        let slot = self.segments.len() - 1;
        if !self.segments[slot].should_roll(&self.place, limits, batch, now_ms)? {
            return Ok(false);
        }
        // Without a hole between the two, so that recovery takes no hole for what it is not.
        let reaches = last.header.last_offset() - self.log_end_offset <= i64::from(i32::MAX);
        let base = if reaches { self.log_end_offset } else { first.header.base_offset };
        self.roll_at(base, now_ms)?;
        Ok(true)
    }

    /// Seals the active segment and begins a new one at the log's end. Does nothing where the active one is
    /// empty. The sealed one is on disk after the next flush.
    ///
    /// # Errors
    /// The disk failed.
    pub fn roll(&mut self, now_ms: i64) -> Result<bool, StorageError> {
        if self.active().size == 0 {
            return Ok(false);
        }
        self.roll_at(self.log_end_offset, now_ms)?;
        Ok(true)
    }

    pub(super) fn roll_at(&mut self, offset: Offset, now_ms: i64) -> Result<(), StorageError> {
        let base = offset.max(self.log_end_offset);
        let slot = self.segments.len() - 1;
        // A segment's name is on the disk before the next one's may be: what a power cut leaves has its beginning.
        if self.may_return() {
            self.sync_folder()?;
        }
        self.segments[slot].seal(&self.place)?;
        if self.flushed_offset >= self.log_end_offset {
            // Recovery may begin at the new segment, and no flush of batches comes by here again.
            let mut files = Vec::with_capacity(4);
            self.segments[slot].files_to_sync(&self.place, true, &mut files)?;
            for file in files {
                file.sync().map_err(StorageError::io("sync a file of", &self.place.folder))?;
            }
        } else {
            self.unsynced_indexes.push(self.segments[slot].base);
        }
        self.place.segment_index_bytes = self.options.segment_index_bytes;
        let jitter_ms = self.options.draw_jitter_ms();
        let preallocated_len = self.options.preallocate.then_some(self.options.segment_bytes);
        self.segments.push(Segment::create(&self.place, base, jitter_ms, preallocated_len, now_ms)?);
        self.names_made += 1;
        self.is_touched = true;
        self.producers.set_end_offset(base);
        let snapshot = self.producers.take_snapshot(&self.place)?;
        self.unsynced_snapshots.extend(snapshot);
        Ok(())
    }

    /// Writes batches that are decided on, and takes over what they change.
    fn write(
        &mut self,
        pieces: &mut [IoSlice<'_>],
        incoming: &[Incoming<'_>],
        rolled: bool,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let (Some(first), Some(last)) = (incoming.first(), incoming.last()) else {
            return Ok(self.nothing_appended());
        };
        let slot = self.segments.len() - 1;
        let one;
        let many: Vec<BatchMark>;
        let marks = if incoming.len() == 1 {
            one = [first.mark()];
            &one[..]
        } else {
            many = incoming.iter().map(Incoming::mark).collect();
            &many[..]
        };
        self.segments[slot].append(&self.place, pieces, marks, now_ms)?;
        self.is_touched = true;
        self.has_unstored_epochs |= std::mem::take(&mut self.has_fresh_epoch);
        self.log_end_offset = last.header.next_offset();
        for Incoming { header, marker, .. } in incoming {
            if let Some(aborted) = self.producers.note(header, marker.as_ref()) {
                self.segments[slot].note_aborted(&self.place, aborted)?;
            }
        }
        self.unflushed_since_ms.get_or_insert(now_ms);
        self.spare_files();
        let unflushed = self.log_end_offset - self.flushed_offset;
        let is_log_append_time = first.header.timestamp_type() == TimestampType::LogAppendTime;
        Ok(Appended {
            base_offset: first.header.base_offset,
            last_offset: last.header.last_offset(),
            log_append_time_ms: is_log_append_time.then_some(first.header.max_timestamp_ms),
            log_start_offset: self.log_start_offset,
            duplicate: false,
            must_flush_to: (unflushed >= self.options.flush_messages).then_some(self.log_end_offset),
            rolled,
            size: incoming.iter().map(|batch| batch.bytes.len()).sum(),
        })
    }

    fn nothing_appended(&self) -> Appended {
        Appended {
            base_offset: self.log_end_offset,
            last_offset: self.log_end_offset + -1,
            log_append_time_ms: None,
            log_start_offset: self.log_start_offset,
            duplicate: false,
            must_flush_to: None,
            rolled: false,
            size: 0,
        }
    }

    fn repeated(&self, header: &BatchHeader, first: crate::storage::producer_state::Duplicate) -> Appended {
        let is_log_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
        // The first one may not have been flushed yet; the repeat is no sooner acknowledged.
        let unflushed = first.last_offset.next() > self.flushed_offset && self.options.flush_messages <= 1;
        Appended {
            base_offset: first.base_offset,
            last_offset: first.last_offset,
            log_append_time_ms: is_log_append_time.then_some(first.timestamp_ms),
            duplicate: true,
            must_flush_to: unflushed.then_some(first.last_offset.next()),
            ..self.nothing_appended()
        }
    }
}

fn parse_all(bytes: &[u8]) -> Result<Vec<Incoming<'_>>, AppendError> {
    let mut incoming = Vec::with_capacity(1);
    let mut position = 0;
    while position < bytes.len() {
        let batch =
            BatchRef::first(&bytes[position..]).map_err(|source| AppendError::Batch { position, source })?;
        position += batch.bytes.len();
        incoming.push(Incoming { header: batch.header, marker: Marker::read(&batch), bytes: batch.bytes });
    }
    Ok(incoming)
}

/// The front of a batch with the fields that its leader assigns.
fn patched(header: &BatchHeader) -> [u8; PATCHED_SIZE] {
    let mut head = [0; PATCHED_SIZE];
    head.copy_from_slice(&header.to_bytes()[..PATCHED_SIZE]);
    head
}
