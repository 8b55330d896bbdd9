//! The two indexes of a segment, held against its batches as they come by: every entry, in one pass.

use std::io;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::entries::{Entries, Entry, OffsetEntries, Tail, TimeEntries, TimeEntry};
use super::finding::{Finding, Findings, Remedy, Severity};
use super::unit::Unit;
use crate::record::{BatchRef, InflateLimits, Scratch};
use crate::storage::place::Suffix;
use crate::types::Offset;

/// One entry of a `.timeindex`.
const TIME_ENTRY_SIZE: u64 = 12;

/// What a unit found in the indexes.
#[derive(Debug, Default)]
pub(super) struct BesideReport {
    pub(super) findings: Findings,
    pub(super) entries: u64,
    /// Slots of the time index that were looked at.
    pub(super) time_slots: Option<(u64, u64)>,
    pub(super) first_time: Option<TimeEntry>,
    pub(super) last_time: Option<TimeEntry>,
    /// Entries that stand for an append of several batches, and the first of them.
    pub(super) grouped: u64,
    pub(super) first_grouped: Option<Finding>,
}

/// See the module.
pub(super) struct Beside {
    severity: Severity,
    /// Of what was not finished.
    rest_severity: Severity,
    is_first: bool,
    offsets: Option<OffsetEntries>,
    offset_path: PathBuf,
    times: Option<TimeEntries>,
    time_path: PathBuf,
    /// The largest timestamp of the unit so far.
    largest_ms: i64,
    /// The first batch is of one record from 1970: its time entry is all zeros.
    begins_in_1970: bool,
    report: BesideReport,
}

impl Beside {
    pub(super) fn open(context: &Context, unit: &Unit) -> io::Result<Self> {
        let base = context.segments[unit.slot].base;
        let offset_path = context.path(base, Suffix::OffsetIndex);
        let time_path = context.path(base, Suffix::TimeIndex);
        let severity = context.severity_beside(unit.slot);
        let rest_severity = context.severity_of_rest(unit.slot);
        let mut offsets = OffsetEntries::open(&*context.disk, &offset_path, base)?;
        let times = TimeEntries::open(&*context.disk, &time_path, base)?;
        if let Some(offsets) = &mut offsets {
            offsets.seek(unit.entries.0);
            if !unit.is_last() {
                offsets.stop_at(unit.entries.1);
            }
        }
        let mut report = BesideReport::default();
        if unit.is_first() && context.is_whole {
            for (path, is_missing) in [(&offset_path, offsets.is_none()), (&time_path, times.is_none())] {
                if is_missing {
                    let finding = Finding::damage(path, "the index is missing", Remedy::MakeIndex);
                    report.findings.push(finding.as_bad_as(rest_severity));
                }
            }
        }
        let is_first = unit.is_first();
        Ok(Self {
            severity,
            rest_severity,
            is_first,
            offsets,
            offset_path,
            times,
            time_path,
            largest_ms: i64::MIN,
            begins_in_1970: false,
            report,
        })
    }

    /// The next batch of the log.
    #[inline]
    pub(super) fn batch(
        &mut self,
        position: u64,
        base: Offset,
        last: Offset,
        max_timestamp_ms: i64,
        batch: Option<&BatchRef<'_>>,
    ) -> io::Result<()> {
        self.begins_in_1970 |= position == 0 && base == last && max_timestamp_ms == 0;
        self.largest_ms = self.largest_ms.max(max_timestamp_ms);
        self.offset_entries(position, last)?;
        self.time_entries(base, last, max_timestamp_ms, batch)
    }

    fn offset_entries(&mut self, position: u64, last: Offset) -> io::Result<()> {
        let Some(offsets) = &mut self.offsets else { return Ok(()) };
        while let Some(entry) = offsets.peek()? {
            let at = offsets.position();
            // One that leads beyond its successor would hide all that come between.
            let is_disordered = entry.position > position
                && offsets.peek_second()?.is_some_and(|next| next.position <= entry.position);
            if entry.position > position && !is_disordered {
                break;
            }
            offsets.next();
            self.report.entries += 1;
            let what = if is_disordered {
                format!("an entry leads to position {}, beyond the one behind it", entry.position)
            } else if entry.position < position {
                format!("an entry leads to position {}, where no batch begins", entry.position)
            } else if entry.offset == last {
                continue;
            } else {
                let offset = entry.offset;
                format!("an entry says {offset}, the batch at its position {position} ends with {last}")
            };
            let finding = Finding::damage(&*self.offset_path, what, Remedy::MakeIndex);
            let finding = finding.as_bad_as(self.severity).at(at).of(entry.offset);
            if entry.position == position && entry.offset > last {
                self.report.grouped += 1;
                self.report.first_grouped.get_or_insert(finding);
            } else {
                self.report.findings.push(finding);
            }
        }
        Ok(())
    }

    fn time_entries(
        &mut self,
        base: Offset,
        last: Offset,
        max_timestamp_ms: i64,
        batch: Option<&BatchRef<'_>>,
    ) -> io::Result<()> {
        let Some(times) = &mut self.times else { return Ok(()) };
        if self.report.time_slots.is_none() {
            let slot = if self.is_first { 0 } else { times.partition_point(|entry| entry.offset < base)? };
            times.seek(slot);
            self.report.time_slots = Some((slot, slot));
        }
        while let Some(entry) = times.peek()? {
            let is_disordered =
                entry.offset > last && times.peek_second()?.is_some_and(|next| next.offset < entry.offset);
            if entry.offset > last && !is_disordered {
                break;
            }
            let at = times.position();
            times.next();
            self.report.entries += 1;
            let (said, offset) = (entry.timestamp_ms, entry.offset);
            let before = self.report.last_time.replace(entry);
            self.report.first_time.get_or_insert(entry);
            let what = if is_disordered {
                format!("an entry says offset {offset}, beyond the one behind it")
            } else if offset < base {
                format!("an entry says offset {offset}, which no batch ends with")
            } else if said != max_timestamp_ms {
                format!("an entry says time {said}, the batch that holds it has {max_timestamp_ms}")
            } else if said < self.largest_ms || before.is_some_and(|before| before.timestamp_ms >= said) {
                format!("an entry says time {said}, which came before it already")
            } else if offset != last && !is_first_with(batch, offset, said) {
                format!("an entry says offset {offset}, the batch that holds it ends with {last}")
            } else {
                continue;
            };
            let finding = Finding::damage(&*self.time_path, what, Remedy::MakeIndex);
            self.report.findings.push(finding.as_bad_as(self.severity).at(at).of(offset));
        }
        Ok(())
    }

    /// The log's bytes up to `end`, and offsets up to `base`, are lost: entries that lead there say nothing.
    pub(super) fn skip(&mut self, end: u64, base: Option<Offset>) -> io::Result<()> {
        if let Some(offsets) = &mut self.offsets {
            while offsets.peek()?.is_some_and(|entry| entry.position < end || base.is_none()) {
                offsets.next();
            }
        }
        if let Some(times) = self.times.as_mut() {
            if self.report.time_slots.is_none() {
                let slot = times.slot();
                self.report.time_slots = Some((slot, slot));
            }
            while times.peek()?.is_some_and(|entry| base.is_none_or(|base| entry.offset < base)) {
                times.next();
            }
        }
        // The largest timestamp may have been among what is lost.
        self.largest_ms = i64::MIN;
        Ok(())
    }

    /// The unit is over, and with `is_at_end` the log: what is left of the indexes leads nowhere.
    pub(super) fn finish(mut self, is_at_end: bool, is_growing: bool) -> io::Result<BesideReport> {
        if let (Some(times), Some((from, _))) = (&self.times, self.report.time_slots) {
            self.report.time_slots = Some((from, times.slot()));
        }
        if !is_at_end {
            return Ok(self.report);
        }
        let Self { offset_path, time_path, offsets, times, mut report, .. } = self;
        let severity = (self.severity, self.rest_severity);
        if let Some(mut offsets) = offsets {
            left_over(&mut offsets, &offset_path, severity, is_growing, &mut report, |entry| entry.offset)?;
        }
        if let Some(mut times) = times {
            if self.begins_in_1970 && times.slot() == 0 && times.len() == TIME_ENTRY_SIZE {
                times.next();
            }
            left_over(&mut times, &time_path, severity, is_growing, &mut report, |entry| entry.offset)?;
            report.time_slots = report.time_slots.map(|(from, _)| (from, times.slot()));
        }
        Ok(report)
    }
}

/// What stands in an index behind the last entry that leads into the log.
fn left_over<T: Entry, const N: usize>(
    entries: &mut Entries<T, N>,
    path: &Path,
    (severity, rest_severity): (Severity, Severity),
    is_growing: bool,
    report: &mut BesideReport,
    offset: impl Fn(&T) -> Offset,
) -> io::Result<()> {
    let finding = |what: String| Finding::damage(path, what, Remedy::MakeIndex).as_bad_as(severity);
    while let Some(entry) = entries.peek()? {
        // A broker appends to the log first: what it added since is none of ours.
        if !is_growing {
            let what = "an entry leads beyond the end of the log".to_owned();
            let finding = finding(what).as_bad_as(rest_severity);
            report.findings.push(finding.at(entries.position()).of(offset(&entry)));
        }
        report.entries += 1;
        entries.next();
    }
    let position = entries.position();
    match entries.tail()? {
        Tail::None => {}
        Tail::Zeros { .. } if is_growing => {}
        Tail::Zeros { bytes } => {
            let what = format!("{bytes} zero bytes at the end: it was not cut to its entries");
            report.findings.push(finding(what).at(position).as_bad_as(rest_severity));
        }
        Tail::Strange { position } => {
            report.findings.push(finding("an entry behind zeros".to_owned()).at(position));
        }
        Tail::Torn { bytes } => {
            let what = format!(
                "{bytes} bytes at the end are no entry: its {} bytes are no multiple of {N}",
                entries.len()
            );
            report.findings.push(finding(what).at(entries.len() - bytes));
        }
    }
    Ok(())
}

/// Whether `offset` is the first record of the batch with this time: so Kafka before 3.7 wrote its entries.
fn is_first_with(batch: Option<&BatchRef<'_>>, offset: Offset, timestamp_ms: i64) -> bool {
    let Some(batch) = batch else { return true };
    let mut scratch = Scratch::new();
    let Ok(mut records) = batch.records(&InflateLimits::default(), &mut scratch) else { return false };
    while let Some(Ok(record)) = records.next() {
        if record.timestamp_ms == timestamp_ms {
            return record.offset == offset;
        }
    }
    false
}
