//! One unit of work: a segment, or a piece of a large one, read once from front to back, with the indexes beside it.
//!
//! Units know nothing of each other. Where one begins is taken from the index; if that was wrong, the unit before it
//! ends elsewhere, and the fold ([`super::fold`]) reads the rest of the segment again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beside::{Beside, BesideReport};
use super::context::{Context, State};
use super::finding::{Finding, Findings, Remedy};
use super::order::{Misplaced, Order};
use super::producers::{Event, Trail};
use super::resync::next_sound;
use super::window::{Buffer, TRUSTED_SIZE_MAX, Window};
use crate::record::{
    BATCH_HEADER_SIZE, BatchFrame, BatchHeader, BatchRef, FRAME_SIZE, InflateLimits, LegacyMessage, MAGIC,
    Scratch, StoredFault, check_records, check_stored,
};
use crate::storage::disk::{Access, DiskFile};
use crate::storage::place::Suffix;
use crate::types::{LeaderEpoch, Offset};

/// A batch that a broker took may inflate far; nothing of it is kept.
const LIMITS: InflateLimits = InflateLimits { floor_bytes: 4 << 30, ratio: 1_000 };
/// Messages of before Kafka 0.11 are inflated in one piece.
const LEGACY_LIMITS: InflateLimits = InflateLimits { floor_bytes: 64 << 20, ratio: 100 };
/// Progress is told about that often.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Which segment of the log.
    pub(super) slot: usize,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where the segment's file ended when the units were planned.
    pub(super) file_end: u64,
    /// The slots of the offset index that point into this unit.
    pub(super) entries: (u64, u64),
    /// The last offset of the unit's first batch, as the index has it; `None` at the segment's beginning.
    pub(super) first_last_offset: Option<Offset>,
    /// Where its first batch should begin, where that is known.
    pub(super) due: Option<Offset>,
    /// Index entries that lead before it say nothing: what they lead to is damaged.
    pub(super) skips_entries: bool,
}

impl Unit {
    pub(super) fn is_first(&self) -> bool {
        self.start == 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.end == self.file_end
    }
}

/// What a thread keeps from unit to unit.
#[derive(Debug, Default)]
pub struct Tools {
    buffer: Buffer,
    scratch: Scratch,
}

/// A batch whose epoch is not the checkpoint's.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrongEpoch {
    pub(super) position: u64,
    pub(super) offset: Offset,
    pub(super) found: LeaderEpoch,
    pub(super) listed: Option<LeaderEpoch>,
}

/// What the epochs of a unit's batches come to.
#[derive(Debug, Default)]
pub(super) struct EpochTally {
    pub(super) wrong: u64,
    pub(super) first_wrong: Option<WrongEpoch>,
    pub(super) first: Option<LeaderEpoch>,
    /// The last batch, if it is wrong: the next one may show that it alone is.
    pending: Option<WrongEpoch>,
    last_right: Option<LeaderEpoch>,
    /// Batches that fit neither the checkpoint nor their neighbours.
    pub(super) blamed: Vec<WrongEpoch>,
    /// The batch of the lowest epoch, and the highest epoch: whether epochs go back.
    pub(super) lowest: Option<WrongEpoch>,
    pub(super) highest: Option<LeaderEpoch>,
    /// The first batch that is of an older epoch than one before it.
    pub(super) went_back: Option<WrongEpoch>,
}

/// What was counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Batches.
    pub batches: u64,
    /// Records, by the headers.
    pub records: u64,
    /// Bytes of logs.
    pub bytes: u64,
    /// Entries of `.index` and `.timeindex`.
    pub index_entries: u64,
}

impl Counts {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.index_entries += other.index_entries;
    }
}

/// What a unit found.
#[derive(Debug, Default)]
pub(super) struct UnitReport {
    /// The file went away, as files of running brokers do.
    pub(super) is_gone: bool,
    pub(super) stopped_at: u64,
    /// Where the first batch was due, and where the next unit's is.
    pub(super) expected: Offset,
    pub(super) next: Offset,
    pub(super) findings: Findings,
    /// Holes between batches: position, first missing offset, the offset behind the last.
    pub(super) gaps: Vec<(u64, Offset, Offset)>,
    /// Fewer records than offsets, or a delete horizon: it was compacted.
    pub(super) is_compacted: bool,
    pub(super) is_damaged: bool,
    pub(super) epochs: EpochTally,
    pub(super) events: Vec<Event>,
    pub(super) beside: BesideReport,
    pub(super) max_timestamp_ms: i64,
    pub(super) counts: Counts,
}

impl UnitReport {
    /// There is nothing to read.
    pub(super) fn gone(unit: &Unit) -> Self {
        Self { is_gone: true, stopped_at: unit.end, ..Self::default() }
    }
}

/// Reads one unit.
pub(super) fn read_unit(
    context: &Context,
    unit: &Unit,
    tools: &mut Tools,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<UnitReport> {
    let base = context.segments[unit.slot].base;
    let path = context.path(base, Suffix::Log);
    let file = match context.disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && context.state != State::Clean => {
            return Ok(UnitReport::gone(unit));
        }
        Err(error) => return Err(error),
    };
    Reader::new(context, unit, path, file, tools)?.run(progress)
}

/// What stands at a position of a log.
enum Found {
    /// A batch that was looked at, and the number of its bytes.
    Batch { size: u64 },
    /// Nothing that is sound.
    Bad(String),
}

struct Reader<'a> {
    context: &'a Context,
    unit: &'a Unit,
    path: PathBuf,
    window: Window<'a>,
    scratch: &'a mut Scratch,
    order: Order,
    beside: Beside,
    trail: Trail,
    /// Producer snapshots that are still to come by.
    snapshots: &'a [Offset],
    report: UnitReport,
}

impl<'a> Reader<'a> {
    fn new(
        context: &'a Context,
        unit: &'a Unit,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        tools: &'a mut Tools,
    ) -> io::Result<Self> {
        let Tools { buffer, scratch } = tools;
        let base = context.segments[unit.slot].base;
        let mut window = Window::new(file, buffer, unit.file_end);
        let expected = expected_at(base, unit, &mut window)?;
        let mut beside = Beside::open(context, unit)?;
        if unit.skips_entries {
            beside.skip(unit.start, Some(expected))?;
        }
        let ahead = context.snapshots.partition_point(|offset| *offset <= expected);
        let report = UnitReport { expected, max_timestamp_ms: i64::MIN, ..UnitReport::default() };
        let order = Order::new(expected);
        let snapshots = &context.snapshots[ahead..];
        Ok(Self {
            context,
            unit,
            path,
            window,
            scratch,
            order,
            beside,
            trail: Trail::default(),
            snapshots,
            report,
        })
    }
}

/// Where the unit's first batch should begin.
fn expected_at(base: Offset, unit: &Unit, window: &mut Window<'_>) -> io::Result<Offset> {
    if let Some(due) = unit.due {
        return Ok(due);
    }
    let Some(last) = unit.first_last_offset else { return Ok(base) };
    let header = BatchHeader::parse(window.bytes(unit.start, BATCH_HEADER_SIZE)?);
    Ok(header.map_or(last, |header| last + -i64::from(header.last_offset_delta)))
}

impl Reader<'_> {
    fn run(mut self, progress: &(dyn Fn(u64) + Sync)) -> io::Result<UnitReport> {
        let mut position = self.unit.start;
        let mut told = position;
        while position < self.unit.end {
            position = match self.look(position)? {
                Found::Batch { size } => position + size,
                Found::Bad(why) => self.skip_bad(position, &why)?,
            };
            if position - told >= PROGRESS_BYTES {
                progress(position - told);
                told = position;
            }
        }
        progress(position - told);
        self.finish(position)
    }

    /// Looks at what begins at `position`, and notes it where it is a batch.
    fn look(&mut self, position: u64) -> io::Result<Found> {
        let left = self.window.end() - position;
        let head = self.window.bytes(position, BATCH_HEADER_SIZE)?;
        if head.len() < FRAME_SIZE {
            return Ok(Found::Bad(format!("{} bytes are too few for a batch", head.len())));
        }
        let frame = match BatchFrame::parse(head) {
            Ok(frame) => frame,
            Err(error) => return Ok(Found::Bad(error.to_string())),
        };
        let size = frame.size();
        if size as u64 > left {
            return Ok(Found::Bad(format!("the batch is {size} bytes long, {left} are left")));
        }
        if size > TRUSTED_SIZE_MAX
            && let Some(why) = self.distrust(position, size)?
        {
            return Ok(Found::Bad(why));
        }
        let fault =
            if frame.magic == MAGIC { self.batch(position, size)? } else { self.legacy(position, size)? };
        Ok(fault.map_or(Found::Batch { size: size as u64 }, Found::Bad))
    }

    /// Why a batch of this size is not taken into memory.
    fn distrust(&mut self, position: u64, size: usize) -> io::Result<Option<String>> {
        let Ok(header) = BatchHeader::parse(self.window.bytes(position, BATCH_HEADER_SIZE)?) else {
            return Ok(Some(format!("a message of {size} bytes")));
        };
        // Everything from the attributes on.
        let computed = self.window.crc(position + 21, size as u64 - 21)?;
        let fits = computed == Some(header.crc);
        Ok((!fits).then(|| format!("CRC-32C mismatch in a batch of {size} bytes")))
    }

    fn batch(&mut self, position: u64, size: usize) -> io::Result<Option<String>> {
        let Self { window, scratch, report, beside, trail, order, snapshots, context, path, .. } = self;
        let bytes = window.bytes(position, size)?;
        let batch = match BatchRef::first(bytes) {
            Ok(batch) => batch,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let checked = if size > TRUSTED_SIZE_MAX {
            check_records(&batch, &LIMITS, scratch)
        } else {
            check_stored(&batch, &LIMITS, scratch)
        };
        let header = &batch.header;
        let broken = match checked {
            Ok(()) => None,
            Err(fault) if fault.is_of_records() => Some(fault),
            Err(fault) => return Ok(Some(fault.to_string())),
        };
        while let Some(snapshot) = snapshots.first().filter(|snapshot| **snapshot <= header.base_offset) {
            trail.snapshot(*snapshot);
            *snapshots = &snapshots[1..];
        }
        let last = header.last_offset();
        let said = order.batch(position, header.base_offset, last);
        report.counts.batches += 1;
        report.counts.records += u64::try_from(header.record_count).unwrap_or(0);
        report.is_compacted |= i64::from(header.record_count) <= i64::from(header.last_offset_delta)
            || header.delete_horizon_ms().is_some();
        report.max_timestamp_ms = report.max_timestamp_ms.max(header.max_timestamp_ms);
        report.epochs.add(context, position, header);
        trail.batch(position, &batch, scratch);
        beside.batch(position, header.base_offset, last, header.max_timestamp_ms, Some(&batch))?;
        if let Some(fault) = broken {
            let finding = broken_records(path, &fault);
            report.findings.push(finding.at(position).of(header.base_offset));
        }
        self.misplaced(said);
        Ok(None)
    }

    fn legacy(&mut self, position: u64, size: usize) -> io::Result<Option<String>> {
        let Self { window, scratch, report, beside, order, .. } = self;
        let bytes = window.bytes(position, size)?;
        let message = match LegacyMessage::first(bytes) {
            Ok(message) if message.is_valid() => message,
            Ok(_) => return Ok(Some("CRC-32 mismatch".to_owned())),
            Err(error) => return Ok(Some(error.to_string())),
        };
        let mut records = 0;
        if let Err(error) = message.for_each(&LEGACY_LIMITS, scratch, |_| records += 1) {
            return Ok(Some(error.to_string()));
        }
        // A compressed set has the offset of its last message; where it begins is inside.
        let base = if message.offset >= order.next() { order.next() } else { message.offset };
        let said = order.batch(position, base, message.offset);
        report.counts.batches += 1;
        report.counts.records += records;
        report.max_timestamp_ms = report.max_timestamp_ms.max(message.timestamp_ms);
        beside.batch(position, base, message.offset, message.timestamp_ms, None)?;
        self.misplaced(said);
        Ok(None)
    }

    /// Says what is wrong at `position`, and goes to the next sound batch, or the end of the file.
    fn skip_bad(&mut self, position: u64, why: &str) -> io::Result<u64> {
        let first = self.order.next();
        let limit = self.context.next_base(self.unit.slot);
        let file_end = self.window.end();
        self.report.is_damaged = true;
        let (end, resumes) = match next_sound(&mut self.window, position, first, limit)? {
            Some((end, base)) => (end, Some(base)),
            None => (file_end, limit),
        };
        let said = resumes.and_then(|base| self.order.skip_to(base));
        self.misplaced(said);
        self.beside.skip(end, resumes)?;
        let damage = |what, remedy| Finding::damage(&*self.path, what, remedy).at(position).of(first);
        let count = end - position;
        let finding = match resumes {
            Some(base) => {
                let last = base + -1;
                damage(
                    format!("{why}: {count} bytes are no sound batch"),
                    Remedy::TakeOut { end, first, last },
                )
            }
            None if self.is_being_written()? => return Ok(end),
            None => {
                let what = format!("{why}: {count} bytes behind the last whole batch");
                damage(what, Remedy::Cut).as_bad_as(self.context.severity_of_tail())
            }
        };
        self.report.findings.push(finding);
        Ok(end)
    }

    /// Whether a broker wrote on since the file's end was asked for: a batch that is cut there is whole by now.
    fn is_being_written(&self) -> io::Result<bool> {
        Ok(self.context.state == State::Running && self.window.file_len()? > self.window.end())
    }

    fn misplaced(&mut self, said: Option<(u64, Misplaced)>) {
        let Some((position, misplaced)) = said else { return };
        let damage = |what, remedy| Finding::damage(&*self.path, what, remedy).at(position);
        let finding = match misplaced {
            Misplaced::Gap { from, to } => {
                self.report.gaps.push((position, from, to));
                self.report.gaps.truncate(super::finding::FINDINGS_MAX);
                return;
            }
            Misplaced::Wrong { base, due } => {
                let what = format!("its base offset is {base}, its neighbours say {due}");
                damage(what, Remedy::SetBaseOffset(due)).of(base)
            }
            Misplaced::Overlaps { base, expected } => {
                let what = format!(
                    "its base offset is {base}, which does not fit between its neighbours; {expected} is the smallest possible"
                );
                damage(what, Remedy::LeftAlone).of(base)
            }
        };
        self.report.findings.push(finding);
    }

    fn finish(mut self, position: u64) -> io::Result<UnitReport> {
        let is_at_end = position >= self.window.end();
        let following = match (is_at_end, self.context.next_base(self.unit.slot)) {
            (false, _) => {
                let head = self.window.bytes(position, BATCH_HEADER_SIZE)?;
                BatchFrame::parse(head).ok().map(|frame| frame.base_offset)
            }
            (true, Some(next)) => Some(next),
            (true, None) if self.context.state == State::Clean => self.context.recovery_point,
            (true, None) => None,
        };
        let said = self.order.end(following);
        self.misplaced(said);
        if is_at_end {
            while let Some(snapshot) =
                self.snapshots.first().filter(|snapshot| **snapshot <= self.order.next())
            {
                self.trail.snapshot(*snapshot);
                self.snapshots = &self.snapshots[1..];
            }
        }
        let is_growing = self.context.state == State::Running;
        let mut report = self.report;
        report.beside = self.beside.finish(is_at_end, is_growing)?;
        report.findings.append(std::mem::take(&mut report.beside.findings));
        report.stopped_at = position;
        report.next = self.order.next();
        report.counts.bytes = position.saturating_sub(self.unit.start);
        report.counts.index_entries = report.beside.entries;
        report.events = self.trail.into_events();
        Ok(report)
    }
}

/// The bytes are those that were written: recovery leaves them, and so does a repair.
fn broken_records(path: &Path, fault: &StoredFault) -> Finding {
    Finding::damage(path, format!("{fault}, and the CRC is right: it was written so"), Remedy::Nothing)
}

impl EpochTally {
    fn add(&mut self, context: &Context, position: u64, header: &BatchHeader) {
        let found = header.leader_epoch;
        if found == LeaderEpoch::UNKNOWN {
            return;
        }
        let (base, last) = (header.base_offset, header.last_offset());
        let batch = WrongEpoch { position, offset: base, found, listed: None };
        self.first.get_or_insert(found);
        self.note(batch);
        let Some(listed) = context.epochs.as_deref() else { return };
        // What lies before the log's start is listed no more; what a broker has not flushed, not yet.
        let is_unlisted = last < context.log_start
            || (context.state != State::Clean && listed.last().is_none_or(|(latest, _)| *latest < found));
        if is_unlisted {
            return;
        }
        let due = context.listed_epoch(base, last);
        if due == Some(found) {
            if let Some(wrong) = self.pending.take().filter(|wrong| wrong.found > found) {
                self.blame(wrong);
            }
            self.last_right = Some(found);
            return;
        }
        let wrong = WrongEpoch { listed: due, ..batch };
        self.wrong += 1;
        self.first_wrong.get_or_insert(wrong);
        self.pending = Some(wrong);
        if due.is_some() && self.last_right.is_some_and(|right| found < right) {
            self.pending = None;
            self.blame(wrong);
        }
    }

    fn blame(&mut self, wrong: WrongEpoch) {
        if self.blamed.len() < super::finding::FINDINGS_MAX {
            self.blamed.push(wrong);
        }
    }

    /// Notes whether the batch is of an older epoch than one before it.
    pub(super) fn note(&mut self, batch: WrongEpoch) {
        if self.highest.is_some_and(|highest| batch.found < highest) && self.went_back.is_none() {
            self.went_back = Some(batch);
        }
        self.highest = self.highest.max(Some(batch.found));
        if self.lowest.is_none_or(|lowest| batch.found < lowest.found) {
            self.lowest = Some(batch);
        }
    }
}
