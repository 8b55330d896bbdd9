//! Offset and time indexes, dumped and held against their logs as Kafka's tool does.

use crate::cli::dump_segment::files::{Dump, Fault, LIMITS};
use crate::cli::dump_segment::lines::{Field, Target};
use crate::record::{BatchError, LegacyMessage, NO_TIMESTAMP, Scratch};
use crate::storage::inspect::{
    BatchScan, OFFSET_ENTRY_SIZE, OffsetIndexFile, RawBatch, ScanFault, TIME_ENTRY_SIZE, TimeIndexFile,
};
use crate::types::Offset;

const PASSED: &str = "passed sanity check";

/// An `.index`: each entry must name the last offset of the batch at its position.
pub(super) fn offset_index(dump: &mut Dump<'_>, target: &Target, base: Offset) -> Result<(), Fault> {
    let index = OffsetIndexFile::read(&*dump.disk, &target.path, base)?;
    if index.is_empty() {
        return dump.lines.remark(dump.output, target, "is empty").map_err(Fault::Output);
    }
    if dump.index_sanity_check {
        return sanity(dump, target, index.sanity_fault());
    }
    let mut log = open_log(dump, target);
    let mut mismatches = Vec::new();
    for (slot, entry) in index.entries.iter().enumerate() {
        // No entry points at the beginning of its log: this one is the first zero of an index that was made and
        // not yet written to.
        let is_unwritten = entry.offset == base && entry.position == 0;
        if let Some(log) = log.as_mut().filter(|_| !is_unwritten) {
            let found = u64::try_from(entry.position).ok().and_then(|position| last_offset_at(log, position));
            if found != Some(entry.offset) {
                let found = found.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
                let (at, position) = (slot * OFFSET_ENTRY_SIZE, entry.position);
                mismatches.push(format!(
                    "  Index offset: {}, log offset: {found} (byte {at} of the index, byte {position} of the log)",
                    entry.offset
                ));
            }
        }
        if !dump.verify_index_only {
            dump.print(
                target,
                &[
                    ("offset", Field::Number(entry.offset.0)),
                    ("position", Field::Number(entry.position.into())),
                ],
            )?;
        }
    }
    if !mismatches.is_empty() {
        dump.damage(format_args!("Mismatches in :{target}\n{}", mismatches.join("\n")));
    }
    Ok(())
}

/// A `.timeindex`: each entry must name the last offset of a batch whose largest timestamp is the entry's.
pub(super) fn time_index(dump: &mut Dump<'_>, target: &Target, base: Offset) -> Result<(), Fault> {
    let times = TimeIndexFile::read(&*dump.disk, &target.path, base)?;
    if dump.index_sanity_check {
        return sanity(dump, target, times.sanity_fault());
    }
    let offsets = OffsetIndexFile::read(&*dump.disk, &target.path.with_extension("index"), base).ok();
    let mut log = open_log(dump, target);
    let mut findings = Findings::default();
    let mut previous_ms = NO_TIMESTAMP;
    for (slot, entry) in times.entries.iter().enumerate() {
        findings.at = slot * TIME_ENTRY_SIZE;
        let position = offsets.as_ref().map_or(0, |index| index.position_before(entry.offset));
        let is_unwritten = entry.offset == base && entry.timestamp_ms == 0;
        if let Some(log) = log.as_mut().filter(|_| !is_unwritten) {
            log.seek(position);
            match max_timestamp_at(log, entry.offset, &mut dump.scratch) {
                Found::Nothing => findings.missing(entry.offset, Offset::UNKNOWN),
                Found::Other(offset) => findings.missing(entry.offset, offset),
                Found::Batch(max_ms) => findings.compare(entry.timestamp_ms, max_ms, previous_ms),
                Found::Broken(error) => findings.broken(entry.offset, &error),
            }
        }
        if !dump.verify_index_only {
            dump.print(
                target,
                &[
                    ("timestamp", Field::Number(entry.timestamp_ms)),
                    ("offset", Field::Number(entry.offset.0)),
                ],
            )?;
        }
        previous_ms = entry.timestamp_ms;
    }
    findings.tell(dump, target);
    Ok(())
}

fn sanity(dump: &mut Dump<'_>, target: &Target, fault: Option<String>) -> Result<(), Fault> {
    match fault {
        None => dump.lines.remark(dump.output, target, PASSED).map_err(Fault::Output)?,
        Some(why) => dump.damage(format_args!("{target}: the index is corrupt: {why}")),
    }
    Ok(())
}

/// The log of an index; without it the index is shown but not compared.
fn open_log(dump: &mut Dump<'_>, target: &Target) -> Option<BatchScan> {
    let path = target.path.with_extension("log");
    match BatchScan::open(&*dump.disk, &path, 0, u64::MAX) {
        Ok(scan) => Some(scan),
        Err(error) => {
            dump.output.warn(format_args!("{target} is not compared: {}: {error}", path.display()));
            None
        }
    }
}

fn last_offset_at(log: &mut BatchScan, position: u64) -> Option<Offset> {
    log.seek(position);
    log.next().ok().flatten()?.last_offset().ok()
}

/// What the log has for an entry of the time index.
enum Found {
    /// No batch at or behind the offset.
    Nothing,
    /// The batch that holds it ends with another offset.
    Other(Offset),
    /// The batch that ends with it has this largest timestamp.
    Batch(i64),
    /// That batch cannot be read.
    Broken(BatchError),
}

fn max_timestamp_at(log: &mut BatchScan, offset: Offset, scratch: &mut Scratch) -> Found {
    loop {
        let raw = match log.next() {
            Ok(Some(raw)) => raw,
            Ok(None) | Err(ScanFault::Io(_) | ScanFault::Lost { .. }) => return Found::Nothing,
        };
        match raw.last_offset() {
            Ok(last) if last < offset => {}
            Ok(last) if last > offset => return Found::Other(last),
            Ok(_) => return max_timestamp(&raw, scratch).map_or_else(Found::Broken, Found::Batch),
            Err(error) => return Found::Broken(error),
        }
    }
}

fn max_timestamp(raw: &RawBatch<'_>, scratch: &mut Scratch) -> Result<i64, BatchError> {
    let mut max_ms = NO_TIMESTAMP;
    if let Ok(message) = LegacyMessage::first(raw.bytes) {
        message.for_each(&LIMITS, scratch, |inner| max_ms = max_ms.max(inner.timestamp_ms))?;
        return Ok(max_ms);
    }
    let batch = raw.batch()?;
    if batch.header.record_count == 0 {
        // The cleaner has taken its records. Kafka's tool calls its entry a mismatch, of Kafka's own logs, too.
        return Ok(batch.header.max_timestamp_ms);
    }
    let mut records = batch.records(&LIMITS, scratch)?;
    while let Some(record) = records.next() {
        max_ms = max_ms.max(record?.timestamp_ms);
    }
    Ok(max_ms)
}

/// What is wrong with a time index, in the order in which Kafka's tool says it.
#[derive(Default)]
struct Findings {
    /// Where in the index the entry stands that is looked at.
    at: usize,
    mismatches: Vec<String>,
    out_of_order: Vec<String>,
    not_found: Vec<String>,
}

impl Findings {
    fn missing(&mut self, indexed: Offset, found: Offset) {
        let at = self.at;
        self.not_found
            .push(format!("Indexed offset: {indexed}, found log offset: {found} (byte {at} of the index)"));
    }

    fn broken(&mut self, indexed: Offset, error: &BatchError) {
        let at = self.at;
        self.not_found.push(format!(
            "Indexed offset: {indexed}, whose batch cannot be read: {error} (byte {at} of the index)"
        ));
    }

    fn compare(&mut self, indexed_ms: i64, log_ms: i64, previous_ms: i64) {
        let at = self.at;
        if indexed_ms != log_ms {
            self.mismatches.push(format!(
                "  Index timestamp: {indexed_ms}, log timestamp: {log_ms} (byte {at} of the index)"
            ));
        }
        if previous_ms >= indexed_ms {
            self.out_of_order.push(format!(
                "  Index timestamp: {indexed_ms}, Previously indexed timestamp: {previous_ms} (byte {at} of the index)"
            ));
        }
    }

    fn tell(&self, dump: &mut Dump<'_>, target: &Target) {
        let findings = [
            ("Found timestamp mismatch in :", &self.mismatches),
            ("Found out of order timestamp in :", &self.out_of_order),
            ("The following indexed offsets are not found in :", &self.not_found),
        ];
        for (head, lines) in findings.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            dump.damage(format_args!("{head}{target}\n{}", lines.join("\n")));
        }
    }
}
