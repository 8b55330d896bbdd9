//! One round of cleaning, as a machine that its owner drives: [`Cleaning::work`] without the log's lock until it
//! asks for it, [`Cleaning::settle`] under the lock, and so on to the end.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::filter::{Filter, Filtered};
use super::groups::{SegmentSize, group};
use super::offset_map::OffsetMap;
use super::transactions::TransactionTrack;
use super::{CleanError, CleaningLimits, CompactionRules};
use crate::record::{BatchHeader, BatchRef};
use crate::storage::disk::{Access, DiskFile};
use crate::storage::error::StorageError;
use crate::storage::log::{Log, Replacement, SourceSegment};
use crate::storage::place::{Place, Suffix};
use crate::storage::scan::{Scanned, Scanner};
use crate::storage::segment::{BatchMark, Segment};
use crate::storage::transaction_index::AbortedTransaction;
use crate::types::{Offset, TopicPartition};

/// The smallest window that a scan works with.
const BUFFER_BYTES_MIN: usize = 4_096;
/// Positions in a log are 32 bits wide in its index, and signed in Kafka.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes were read and written.
    Worked(u64),
    /// The next step is [`Cleaning::settle`].
    NeedsLog,
}

/// What a finished round has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Where the round began.
    pub first_dirty_offset: Offset,
    /// Everything below is clean now.
    pub cleaner_point: Offset,
    /// Bytes read for the map of keys.
    pub indexed_bytes: u64,
    /// Different keys in it.
    pub keys: usize,
    /// Bytes in the segments that were cleaned.
    pub bytes_before: u64,
    /// Bytes in those that took their place.
    pub bytes_after: u64,
    /// Records before.
    pub records_before: u64,
    /// Records after.
    pub records_after: u64,
    /// Dropped because they had no key.
    pub records_keyless: u64,
    /// Segments before.
    pub segments_before: usize,
    /// Segments after.
    pub segments_after: usize,
}

/// A place among the source segments.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    slot: usize,
    position: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Index(Cursor),
    /// A `.cleaned` segment with this base is to be made, then copying goes on.
    Open(Offset, Cursor),
    Copy(Cursor),
    Swap,
    Finish,
}

/// A `.cleaned` segment being written.
#[derive(Debug)]
struct Output {
    segment: Segment,
    transactions: Option<Arc<dyn DiskFile>>,
    aborted: Vec<AbortedTransaction>,
}

/// See the module.
#[derive(Debug)]
pub struct Cleaning {
    partition: TopicPartition,
    place: Place,
    abort: Arc<AtomicBool>,
    now_ms: i64,
    buffer_bytes: usize,
    segment_bytes: u64,
    segments: Vec<SourceSegment>,
    aborted: Vec<AbortedTransaction>,
    map: OffsetMap,
    filter: Filter,
    track: TransactionTrack,
    source: Option<(usize, Arc<dyn DiskFile>)>,
    window: Vec<u8>,
    spill: Vec<u8>,
    /// What stays and is not written yet.
    kept: Vec<u8>,
    marks: Vec<BatchMark>,
    groups: VecDeque<Range<usize>>,
    outputs: Vec<Output>,
    phase: Phase,
    done: Cleaned,
}

impl Cleaning {
    /// Begins a round over what is dirty in `log` at `now_ms`, and claims it. `None` where nothing may be cleaned,
    /// or another round is under way. `secret` is for the map of keys.
    ///
    /// # Errors
    /// The disk failed.
    pub fn begin(
        log: &mut Log,
        rules: &CompactionRules,
        limits: &CleaningLimits,
        secret: [u8; 16],
        now_ms: i64,
    ) -> Result<Option<Self>, StorageError> {
        let dirtiness = log.dirtiness(rules, now_ms)?;
        let (first_dirty, upper) = (dirtiness.first_dirty_offset, dirtiness.first_uncleanable_offset);
        if first_dirty >= upper {
            return Ok(None);
        }
        let Some(source) = log.begin_cleaning(upper)? else { return Ok(None) };
        let slot = source.segments.partition_point(|segment| segment.end <= first_dirty);
        let records = (upper - first_dirty).unsigned_abs();
        let (key_map_bytes, load_factor) = (limits.key_map_bytes, limits.key_map_load_factor);
        let buffer_bytes = limits.buffer_bytes.max(BUFFER_BYTES_MIN);
        Ok(Some(Self {
            partition: log.partition().clone(),
            place: source.place,
            abort: source.abort,
            now_ms,
            buffer_bytes,
            segment_bytes: log.options().segment_bytes,
            segments: source.segments,
            map: OffsetMap::new(key_map_bytes, load_factor, records, secret),
            filter: Filter::new(now_ms, rules.delete_retention_ms, upper, source.last_records),
            track: TransactionTrack::new(&source.aborted, first_dirty),
            aborted: source.aborted,
            source: None,
            window: vec![0; buffer_bytes],
            spill: Vec::new(),
            kept: Vec::new(),
            marks: Vec::new(),
            groups: VecDeque::new(),
            outputs: Vec::new(),
            phase: Phase::Index(Cursor { slot, position: 0 }),
            done: Cleaned { first_dirty_offset: first_dirty, ..Cleaned::default() },
        }))
    }

    /// Whose log is cleaned.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Bytes of memory that the map of keys takes.
    #[must_use]
    pub fn key_map_bytes(&self) -> u64 {
        self.map.bytes()
    }

    /// Does a bounded piece of work, without the log.
    ///
    /// # Errors
    /// [`CleanError`]; then [`Cleaning::abandon`] is what is left to do.
    pub fn work(&mut self) -> Result<Progress, CleanError> {
        if self.abort.load(Ordering::Acquire) {
            return Err(CleanError::Aborted);
        }
        let done = match self.phase {
            Phase::Index(at) => self.index(at),
            Phase::Copy(at) => self.copy(at),
            Phase::Open(..) | Phase::Swap | Phase::Finish => return Ok(Progress::NeedsLog),
        };
        match done {
            // Files that are gone are those of a log that is gone.
            Err(_) if self.abort.load(Ordering::Acquire) => Err(CleanError::Aborted),
            done => Ok(Progress::Worked(done?)),
        }
    }

    /// Takes the step that needs the log, under its lock and while its folder keeps its name. At the end of the
    /// round: what it has done.
    ///
    /// # Errors
    /// [`CleanError`]; then [`Cleaning::abandon`] is what is left to do.
    pub fn settle(&mut self, log: &mut Log) -> Result<Option<Cleaned>, CleanError> {
        if self.abort.load(Ordering::Acquire) {
            return Err(CleanError::Aborted);
        }
        match self.phase {
            Phase::Index(_) | Phase::Copy(_) => {}
            Phase::Open(base, at) => {
                let may_abort = !self.aborted.is_empty();
                let (segment, transactions) = log.create_cleaned(base, may_abort, self.now_ms)?;
                self.outputs.push(Output { segment, transactions, aborted: Vec::new() });
                self.phase = Phase::Copy(at);
            }
            Phase::Swap => self.swap(log)?,
            Phase::Finish => {
                log.set_cleaner_point(Some(self.done.cleaner_point));
                return Ok(Some(self.done));
            }
        }
        Ok(None)
    }

    /// Removes what the round has written and not swapped in.
    pub fn abandon(&mut self, log: &Log) {
        for output in std::mem::take(&mut self.outputs) {
            if let Err(error) = log.remove_cleaned(output.segment.base) {
                tracing::debug!(partition = %self.partition, %error, "left for the next start");
            }
        }
    }

    /// Notes keys from `at` on.
    fn index(&mut self, at: Cursor) -> Result<u64, CleanError> {
        let Some(segment) = self.segments.get(at.slot).copied() else {
            self.begin_groups()?;
            return Ok(0);
        };
        let file = self.open_source(at.slot)?;
        let path = self.place.file(segment.base, Suffix::Log);
        let from = self.done.first_dirty_offset;
        let mut scanner = Scanner::new(&*file, at.position, segment.size, &mut self.window);
        let mut position = at.position;
        let mut is_full = false;
        while position - at.position < self.buffer_bytes as u64 && !is_full {
            let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? else { break };
            if let Some(header) = scanned.header.filter(|header| header.last_offset() >= from) {
                let bytes = scanner.bytes(&scanned, &mut self.spill);
                let batch = BatchRef { header, bytes: bytes.map_err(StorageError::io("read", &path))? };
                let indexed = self.filter.index(&batch, from, &mut self.track, &mut self.map);
                is_full = !indexed.map_err(|error| damaged(&path, &scanned, &error))?;
            }
            position = scanned.end();
        }
        let read = position - at.position;
        self.done.indexed_bytes += read;
        if is_full {
            self.begin_groups()?;
        } else if position >= segment.size {
            self.map.advance(segment.end + -1);
            self.phase = Phase::Index(Cursor { slot: at.slot + 1, position: 0 });
        } else {
            self.phase = Phase::Index(Cursor { position, ..at });
        }
        Ok(read)
    }

    /// The keys are known: decides what is cleaned, and into how many segments.
    fn begin_groups(&mut self) -> Result<(), CleanError> {
        let end = self.map.latest().next();
        if end <= self.done.first_dirty_offset {
            return Err(CleanError::MapTooSmall);
        }
        self.done.cleaner_point = end;
        self.done.keys = self.map.len();
        self.segments.retain(|segment| segment.base < end);
        let index_bytes = |base, suffix| {
            let path = self.place.file(base, suffix);
            let stat = self.place.disk.stat(&path).map_err(StorageError::io("stat", &path))?;
            Ok::<_, StorageError>(stat.map_or(0, |stat| stat.len))
        };
        let mut sizes = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            sizes.push(SegmentSize {
                base: segment.base,
                end: segment.end,
                log_bytes: segment.size,
                offset_index_bytes: index_bytes(segment.base, Suffix::OffsetIndex)?,
                time_index_bytes: index_bytes(segment.base, Suffix::TimeIndex)?,
            });
        }
        self.groups = group(&sizes, self.segment_bytes, self.place.segment_index_bytes).into();
        let first = self.segments.first().map_or(Offset::ZERO, |segment| segment.base);
        self.track = TransactionTrack::new(&self.aborted, first);
        self.begin_next_group();
        Ok(())
    }

    fn begin_next_group(&mut self) {
        self.phase = match self.groups.front() {
            Some(group) => {
                let at = Cursor { slot: group.start, position: 0 };
                Phase::Open(self.segments[group.start].base, at)
            }
            None => Phase::Finish,
        };
    }

    /// Copies what stays from `at` on, to the end of the segment at most.
    fn copy(&mut self, at: Cursor) -> Result<u64, CleanError> {
        let group_end = self.groups.front().map_or(0, |group| group.end);
        if at.slot >= group_end {
            self.phase = Phase::Swap;
            return self.finish_outputs();
        }
        let segment = self.segments[at.slot];
        let file = self.open_source(at.slot)?;
        let path = self.place.file(segment.base, Suffix::Log);
        let mut window = std::mem::take(&mut self.window);
        let mut spill = std::mem::take(&mut self.spill);
        let mut scanner = Scanner::new(&*file, at.position, segment.size, &mut window);
        let mut position = at.position;
        let mut split = None;
        while position - at.position < self.buffer_bytes as u64 {
            let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? else { break };
            if !self.fits(&scanned) {
                split = Some(scanned.base_offset);
                break;
            }
            let bytes = scanner.bytes(&scanned, &mut spill).map_err(StorageError::io("read", &path))?;
            self.copy_batch(&scanned, bytes).map_err(|error| damaged(&path, &scanned, &error))?;
            position = scanned.end();
        }
        (self.window, self.spill) = (window, spill);
        let read = position - at.position;
        self.done.bytes_before += read;
        self.phase = match split {
            Some(base) => Phase::Open(base, Cursor { position, ..at }),
            None if position >= segment.size => Phase::Copy(Cursor { slot: at.slot + 1, position: 0 }),
            None => Phase::Copy(Cursor { position, ..at }),
        };
        Ok(read + self.write_kept()?)
    }

    /// Whether a batch can stand in the segment being written: its offset within 2^31 of the base (KAFKA-6264), its
    /// position within 2^31.
    fn fits(&self, scanned: &Scanned) -> bool {
        self.outputs.last().is_some_and(|output| {
            let position = output.segment.size + self.kept.len() as u64;
            let is_new = position == 0 && scanned.base_offset == output.segment.base;
            is_new
                || output.segment.can_hold(scanned.last_offset)
                    && position + scanned.size <= SEGMENT_BYTES_MAX
        })
    }

    fn copy_batch(&mut self, scanned: &Scanned, bytes: &[u8]) -> Result<(), crate::record::BatchError> {
        let before = self.kept.len();
        let filtered = match scanned.header {
            Some(header) => {
                let batch = BatchRef { header, bytes };
                self.filter.filter(&batch, &mut self.track, &self.map, &mut self.kept)?
            }
            None => {
                self.kept.extend_from_slice(bytes);
                Filtered { records_read: 1, records_kept: 1, ..Filtered::default() }
            }
        };
        self.done.records_before += filtered.records_read;
        self.done.records_after += filtered.records_kept;
        self.done.records_keyless += filtered.records_keyless;
        if let (Some(aborted), Some(output)) = (filtered.aborted, self.outputs.last_mut()) {
            output.aborted.push(aborted);
        }
        let size = (self.kept.len() - before) as u64;
        if size > 0 {
            let max_timestamp_ms = match scanned.header {
                Some(_) => BatchHeader::parse(&self.kept[before..])?.max_timestamp_ms,
                None => scanned.max_timestamp_ms,
            };
            self.marks.push(BatchMark { size, last_offset: scanned.last_offset, max_timestamp_ms });
        }
        Ok(())
    }

    /// Writes what was kept so far to the segment it belongs to.
    fn write_kept(&mut self) -> Result<u64, CleanError> {
        let written = self.kept.len() as u64;
        if let Some(output) = self.outputs.last_mut().filter(|_| written > 0) {
            let mut pieces = [std::io::IoSlice::new(&self.kept)];
            output.segment.append(&self.place.cleaned(), &mut pieces, &self.marks, self.now_ms)?;
        }
        self.done.bytes_after += written;
        self.kept.clear();
        self.marks.clear();
        Ok(written)
    }

    /// Seals and syncs the segments of the group; nothing counts before they are swapped in.
    fn finish_outputs(&mut self) -> Result<u64, CleanError> {
        let place = self.place.cleaned();
        let modified_ms = self.group().last().map_or(self.now_ms, |segment| segment.modified_ms);
        self.source = None;
        for output in &mut self.outputs {
            let path = place.file(output.segment.base, Suffix::Log);
            output.segment.seal(&place)?;
            let mut files = Vec::with_capacity(4);
            let entries: Vec<u8> = output.aborted.iter().flat_map(AbortedTransaction::to_bytes).collect();
            if let Some(file) = output.transactions.as_ref().filter(|_| !entries.is_empty()) {
                file.write_at(&mut [std::io::IoSlice::new(&entries)], 0)
                    .map_err(StorageError::io("write transaction index of", &path))?;
                files.push(Arc::clone(file));
            }
            output.segment.files_to_sync(&place, true, &mut files)?;
            let log_file = output.segment.log_file(&place)?;
            log_file.set_modified_ms(modified_ms).map_err(StorageError::io("stamp", &path))?;
            for file in files {
                file.sync().map_err(StorageError::io("sync", &path))?;
            }
        }
        Ok(0)
    }

    fn group(&self) -> &[SourceSegment] {
        self.groups.front().map_or(&[], |group| &self.segments[group.clone()])
    }

    fn swap(&mut self, log: &mut Log) -> Result<(), CleanError> {
        let old = self.group().to_vec();
        if !log.still_holds(&old) {
            return Err(CleanError::Aborted);
        }
        let modified_ms = old.last().map_or(self.now_ms, |segment| segment.modified_ms);
        let new: Vec<Replacement> = self
            .outputs
            .iter()
            .map(|output| Replacement {
                base: output.segment.base,
                size: output.segment.size,
                modified_ms,
                has_transactions: !output.aborted.is_empty(),
            })
            .collect();
        log.replace_segments(&old, &new, self.now_ms)?;
        self.done.segments_before += old.len();
        self.done.segments_after += new.len();
        self.outputs.clear();
        self.groups.pop_front();
        self.begin_next_group();
        Ok(())
    }

    fn open_source(&mut self, slot: usize) -> Result<Arc<dyn DiskFile>, CleanError> {
        if let Some((_, file)) = self.source.as_ref().filter(|(open, _)| *open == slot) {
            return Ok(Arc::clone(file));
        }
        let path = self.place.file(self.segments[slot].base, Suffix::Log);
        let file = self.place.disk.open(&path, Access::Read).map_err(StorageError::io("open", &path))?;
        self.source = Some((slot, Arc::clone(&file)));
        Ok(file)
    }
}

fn damaged(path: &std::path::Path, scanned: &Scanned, error: &crate::record::BatchError) -> CleanError {
    let (offset, position) = (scanned.base_offset, scanned.position);
    StorageError::corrupt(path, format!("batch at offset {offset}, position {position}: {error}")).into()
}
