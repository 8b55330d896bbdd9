//! Units of one log, joined in order: what only the whole log can tell.

use std::collections::BTreeMap;
use std::io;

use super::context::{Context, State};
use super::entries::TimeEntry;
use super::finding::{FINDINGS_MAX, Finding, Findings, Remedy, Severity};
use super::producers::{End, Event, Producers};
use super::transactions::Transactions;
use super::unit::{Counts, EpochTally, Tools, Unit, UnitReport, WrongEpoch, read_unit};
use crate::storage::checkpoint::LEADER_EPOCH_FILE;
use crate::storage::disk::read_small;
use crate::storage::place::Suffix;
use crate::storage::producer_snapshot;
use crate::types::{LeaderEpoch, Offset};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// The unit that is joined next; those behind it wait here.
    pub(super) next_unit: usize,
    waiting: BTreeMap<usize, UnitReport>,
    joined: Joined,
}

/// What is known of the log so far.
#[derive(Debug, Default)]
struct Joined {
    /// Where the last unit ended, in its segment, and the offset behind it.
    slot: usize,
    stopped_at: u64,
    next: Option<Offset>,
    findings: Findings,
    /// What cleaning explains: kept apart until it is known whether the log was cleaned.
    unless_cleaned: Findings,
    is_cleaned: bool,
    is_damaged: bool,
    epochs: EpochTally,
    segment: SegmentTimes,
    producers: Producers,
    /// Every producer's past is known.
    is_complete: bool,
    transactions: Option<Transactions>,
    counts: Counts,
}

/// The time index of the segment that is being joined.
#[derive(Debug, Default)]
struct SegmentTimes {
    is_damaged: bool,
    next_slot: u64,
    largest_ms: Option<i64>,
    last: Option<TimeEntry>,
    has_index: bool,
}

/// What a whole log came to.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub(super) findings: Findings,
    pub(super) end: Option<Offset>,
    pub(super) counts: Counts,
}

impl Fold {
    /// Takes a unit's report, and joins it and those behind it as far as they are there. Reads again what a unit
    /// began at the wrong place.
    pub(super) fn take(
        &mut self,
        context: &Context,
        units: &[Unit],
        index: usize,
        report: UnitReport,
        tools: &mut Tools,
    ) -> io::Result<()> {
        self.waiting.insert(index, report);
        while let Some(report) = self.waiting.remove(&self.next_unit) {
            let unit = &units[self.next_unit];
            self.next_unit += 1;
            let report = self.joined.placed(context, unit, report, tools)?;
            if let Some(report) = report {
                self.joined.join(context, unit, report)?;
            }
        }
        Ok(())
    }

    /// The log is over.
    pub(super) fn finish(&mut self, context: &Context) -> Folded {
        std::mem::take(&mut self.joined).finish(context)
    }
}

impl Joined {
    /// The report, if its unit began where the one before it ended; else that of the unit read anew from there.
    fn placed(
        &mut self,
        context: &Context,
        unit: &Unit,
        report: UnitReport,
        tools: &mut Tools,
    ) -> io::Result<Option<UnitReport>> {
        if unit.is_first() || report.is_gone || (self.slot == unit.slot && self.stopped_at == unit.start) {
            return Ok(Some(report));
        }
        if self.stopped_at >= unit.end {
            return Ok(None);
        }
        let again = Unit {
            start: self.stopped_at,
            due: self.next,
            skips_entries: self.segment.is_damaged,
            ..unit.clone()
        };
        read_unit(context, &again, tools, &|_| {}).map(Some)
    }

    fn join(&mut self, context: &Context, unit: &Unit, mut report: UnitReport) -> io::Result<()> {
        if report.is_gone {
            // Retention was faster.
            self.next = None;
            self.is_complete = false;
            return Ok(());
        }
        if unit.is_first() {
            self.begin_segment(context, unit)?;
        }
        self.chain(context, unit, &report);
        self.slot = unit.slot;
        self.stopped_at = report.stopped_at;
        self.next = Some(report.next);
        self.is_cleaned |= report.is_compacted;
        self.is_damaged |= report.is_damaged;
        self.segment.is_damaged |= report.is_damaged;
        self.counts.add(&report.counts);
        self.findings.append(std::mem::take(&mut report.findings));
        let path = context.path(context.segments[unit.slot].base, Suffix::Log);
        for (position, from, to) in report.gaps.drain(..) {
            self.gap(&path, Some(position), from, to);
        }
        self.join_epochs(&mut report.epochs);
        self.join_times(context, unit, &mut report);
        self.follow(context, unit, std::mem::take(&mut report.events))?;
        if unit.is_last() {
            self.end_segment(context, unit)?;
        }
        Ok(())
    }

    fn begin_segment(&mut self, context: &Context, unit: &Unit) -> io::Result<()> {
        self.segment = SegmentTimes::default();
        let base = context.segments[unit.slot].base;
        if unit.slot == 0 {
            self.is_complete = base == Offset::ZERO;
            if context.snapshots.contains(&base) {
                let path = context.path(base, Suffix::Snapshot);
                let bytes = read_small(&*context.disk, &path)?.unwrap_or_default();
                if let Ok(entries) = producer_snapshot::parse(&bytes) {
                    self.producers.begin_with(&entries);
                    self.is_complete = true;
                }
            }
            self.is_complete &= context.log_start <= base;
        }
        self.transactions = Transactions::open(context, unit.slot)?;
        Ok(())
    }

    /// Whether the unit's offsets go on where those before it ended.
    fn chain(&mut self, context: &Context, unit: &Unit, report: &UnitReport) {
        let Some(next) = self.next else { return };
        let path = context.path(context.segments[unit.slot].base, Suffix::Log);
        if report.expected > next {
            self.gap(&path, Some(unit.start), next, report.expected);
        } else if report.expected < next {
            let what = format!(
                "it begins with offset {}, what comes before ends with {}",
                report.expected,
                next + -1
            );
            self.findings
                .push(Finding::damage(path, what, Remedy::LeftAlone).at(unit.start).of(report.expected));
        }
    }

    fn gap(&mut self, path: &std::path::Path, position: Option<u64>, from: Offset, to: Offset) {
        let what = format!("offsets {from} to {} are missing, in a log that was never compacted", to + -1);
        let finding = Finding::damage(path, what, Remedy::Nothing).of(from);
        self.unless_cleaned.push(position.map_or(finding.clone(), |position| finding.at(position)));
    }

    fn join_epochs(&mut self, unit: &mut EpochTally) {
        let mine = &mut self.epochs;
        mine.wrong += unit.wrong;
        mine.first_wrong = mine.first_wrong.or(unit.first_wrong);
        mine.blamed.append(&mut unit.blamed);
        mine.blamed.truncate(FINDINGS_MAX);
        // Across units, and then within this one.
        unit.lowest.into_iter().for_each(|lowest| mine.note(lowest));
        mine.went_back = mine.went_back.or(unit.went_back);
        mine.highest = mine.highest.max(unit.highest);
        mine.first = mine.first.or(unit.first);
    }

    fn join_times(&mut self, context: &Context, unit: &Unit, report: &mut UnitReport) {
        let path = context.path(context.segments[unit.slot].base, Suffix::TimeIndex);
        let severity = context.severity_beside(unit.slot);
        let mut odd = |what: &str| {
            self.findings.push(Finding::damage(&*path, what, Remedy::MakeIndex).as_bad_as(severity));
        };
        if let Some((from, to)) = report.beside.time_slots {
            if !unit.is_first()
                && self.segment.has_index
                && !self.segment.is_damaged
                && from != self.segment.next_slot
            {
                odd("its entries are out of order");
            }
            self.segment.next_slot = to;
            self.segment.has_index = true;
        }
        if let (Some(first), Some(largest)) = (report.beside.first_time, self.segment.largest_ms)
            && first.timestamp_ms <= largest
            && !self.segment.is_damaged
        {
            odd("an entry says a time that came before it already");
        }
        self.segment.last = report.beside.last_time.or(self.segment.last);
        let unit_largest = Some(report.max_timestamp_ms).filter(|largest| *largest > i64::MIN);
        self.segment.largest_ms = self.segment.largest_ms.max(unit_largest);
        self.join_grouped(context, unit, report);
    }

    /// Followers of before Kafka 4.1 wrote one entry an append, for the last offset of all its batches: look-ups work
    /// with it. One such entry alone is a damaged one.
    fn join_grouped(&mut self, context: &Context, unit: &Unit, report: &mut UnitReport) {
        let Some(first) = report.beside.first_grouped.take() else { return };
        if report.beside.grouped == 1 {
            self.findings.push(first);
            return;
        }
        let path = context.path(context.segments[unit.slot].base, Suffix::OffsetIndex);
        let what = format!(
            "{} entries stand for appends of several batches, as followers before Kafka 4.1 wrote them: look-ups work",
            report.beside.grouped
        );
        self.findings.push(Finding::damage(path, what, Remedy::Passes).as_bad_as(Severity::Note));
    }

    fn follow(&mut self, context: &Context, unit: &Unit, events: Vec<Event>) -> io::Result<()> {
        let path = context.path(context.segments[unit.slot].base, Suffix::Log);
        for event in events {
            match event {
                Event::Run(run) => {
                    // Behind bytes that are lost, sequences are as well.
                    if let Some(odd) = self.producers.run(&run).filter(|_| !self.is_damaged) {
                        let finding = Finding::damage(&*path, odd.what, Remedy::Nothing);
                        self.unless_cleaned.push(finding.at(odd.position).of(odd.offset));
                    }
                }
                Event::Open { producer_id, offset, has_records } => {
                    self.producers.opened(producer_id, offset, has_records);
                }
                Event::End(end) => self.ended(&path, &end)?,
                Event::Snapshot(offset) => self.snapshot(context, offset)?,
            }
        }
        Ok(())
    }

    fn ended(&mut self, path: &std::path::Path, end: &End) -> io::Result<()> {
        let (odd, aborted) = self.producers.ended(end);
        if let Some(odd) = odd {
            let finding = Finding::damage(path, odd.what, Remedy::Nothing);
            self.unless_cleaned.push(finding.at(odd.position).of(odd.offset));
        }
        let (Some(aborted), Some(transactions)) = (aborted, &mut self.transactions) else { return Ok(()) };
        let is_certain = self.is_complete && !self.is_damaged;
        let said = transactions.aborted(&aborted, is_certain)?;
        said.findings.into_iter().for_each(|finding| self.findings.push(finding));
        said.unless_cleaned.into_iter().for_each(|finding| self.unless_cleaned.push(finding));
        Ok(())
    }

    fn snapshot(&mut self, context: &Context, offset: Offset) -> io::Result<()> {
        if !self.is_complete
            || self.is_damaged
            || context.segments.first().is_some_and(|first| first.base == offset)
        {
            return Ok(());
        }
        let path = context.path(offset, Suffix::Snapshot);
        let bytes = read_small(&*context.disk, &path)?.unwrap_or_default();
        // One that cannot be read was reported with the folder's files.
        let Ok(entries) = producer_snapshot::parse(&bytes) else { return Ok(()) };
        let first_base = context.segments.first().map_or(Offset::ZERO, |first| first.base);
        if let Some(what) = self.producers.compare(&entries, first_base) {
            let finding = Finding::damage(path, what, Remedy::DropSnapshot);
            self.unless_cleaned.push(finding.of(offset).as_bad_as(context.severity_of_files()));
        }
        Ok(())
    }

    fn end_segment(&mut self, context: &Context, unit: &Unit) -> io::Result<()> {
        let base = context.segments[unit.slot].base;
        let times = &self.segment;
        let is_judged = times.has_index && !times.is_damaged && context.is_settled(unit.slot);
        if let Some(largest) = times.largest_ms.filter(|largest| *largest > 0 && is_judged) {
            let last = times.last.map(|last| last.timestamp_ms);
            if last != Some(largest) {
                let said = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
                let what = format!("its last entry says {said}, the largest time of the log is {largest}");
                let path = context.path(base, Suffix::TimeIndex);
                self.findings.push(Finding::damage(path, what, Remedy::MakeIndex));
            }
        }
        if let Some(mut transactions) = self.transactions.take() {
            let left = transactions.left_over(context)?;
            if !self.segment.is_damaged {
                left.into_iter().for_each(|finding| self.findings.push(finding));
            }
        }
        Ok(())
    }

    fn finish(mut self, context: &Context) -> Folded {
        if !self.is_cleaned && !context.is_compacted {
            self.findings.append(std::mem::take(&mut self.unless_cleaned));
        }
        self.judge_epochs(context);
        Folded { findings: self.findings, end: self.next, counts: self.counts }
    }

    fn judge_epochs(&mut self, context: &Context) {
        let log_of = |offset: Offset| {
            let slot = context.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1);
            context.path(context.segments[slot].base, Suffix::Log)
        };
        let epochs = std::mem::take(&mut self.epochs);
        let checkpoint = context.folder.join(LEADER_EPOCH_FILE);
        let is_blamed = epochs.wrong > 0 && epochs.blamed.len() as u64 == epochs.wrong;
        if let Some(WrongEpoch { position, offset, found, .. }) = epochs.went_back.filter(|_| !is_blamed) {
            let what = format!("its leader epoch is {found}, a younger one came before");
            let finding = Finding::damage(log_of(offset), what, Remedy::LeftAlone);
            self.findings.push(finding.at(position).of(offset));
        }
        let Some(first) = epochs.first_wrong else {
            let lacks = context.is_whole && context.state == State::Clean && context.epochs.is_none();
            if lacks && epochs.first.is_some_and(|first| first > LeaderEpoch::UNKNOWN) {
                let what = "it lists nothing, but the batches have epochs";
                self.findings.push(Finding::damage(checkpoint, what, Remedy::MakeEpochs));
            }
            return;
        };
        if is_blamed {
            for WrongEpoch { position, offset, found, listed } in epochs.blamed {
                let due = listed.unwrap_or(LeaderEpoch::UNKNOWN);
                let what =
                    format!("its leader epoch is {found}; {LEADER_EPOCH_FILE} and its neighbours say {due}");
                let finding = Finding::damage(log_of(offset), what, Remedy::SetLeaderEpoch(due));
                self.findings.push(finding.at(position).of(offset));
            }
            return;
        }
        let said =
            first.listed.map_or_else(|| "none, or more than one".to_owned(), |listed| listed.to_string());
        let what = format!(
            "{} batches are not of the epochs that it lists: the first, at offset {}, is of epoch {}, listed is {said}",
            epochs.wrong, first.offset, first.found
        );
        self.findings.push(Finding::damage(checkpoint, what, Remedy::MakeEpochs).of(first.offset));
    }
}
