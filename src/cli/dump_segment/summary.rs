//! `--summary`: a row a log, read from front to back with its checksums.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use crate::cli::dump_segment::files::{progress, targets};
use crate::cli::dump_segment::lines::Target;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Table};
use crate::record::{BatchError, BatchRef, Codec, LegacyMessage, MAGIC, NO_TIMESTAMP};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::inspect::{BatchScan, RawBatch, ScanFault};
use crate::types::{ByteSize, Offset};

/// What is counted of one log.
#[derive(Debug, Default)]
struct Segment {
    first_offset: Option<Offset>,
    last_offset: Option<Offset>,
    batches: u64,
    records: u64,
    bytes: u64,
    first_timestamp_ms: Option<i64>,
    last_timestamp_ms: Option<i64>,
    codecs: BTreeSet<&'static str>,
    producers: BTreeSet<i64>,
    control_batches: u64,
    transactional_batches: u64,
    old_messages: u64,
    damage: Vec<String>,
}

impl Segment {
    fn entry(&mut self, raw: &RawBatch<'_>) {
        self.batches += 1;
        self.bytes += raw.bytes.len() as u64;
        let seen = match raw.frame() {
            Ok(frame) if frame.magic == MAGIC => {
                raw.batch().and_then(|batch| self.batch(raw.position, &batch))
            }
            Ok(_) => LegacyMessage::first(raw.bytes).map(|message| self.legacy(raw.position, &message)),
            Err(error) => Err(error),
        };
        if let Err(error) = seen {
            self.damage.push(format!("position {}: {error}", raw.position));
        }
    }

    fn batch(&mut self, position: u64, batch: &BatchRef<'_>) -> Result<(), BatchError> {
        let header = &batch.header;
        self.offsets(position, header.base_offset, header.last_offset());
        self.timestamp(header.base_timestamp_ms);
        self.timestamp(header.max_timestamp_ms);
        self.records += u64::try_from(header.record_count).unwrap_or(0);
        self.codecs.insert(header.codec()?.name());
        if header.has_producer() {
            self.producers.insert(header.producer_id.0);
        }
        self.control_batches += u64::from(header.is_control());
        self.transactional_batches += u64::from(header.is_transactional() && !header.is_control());
        batch.check_crc()
    }

    fn legacy(&mut self, position: u64, message: &LegacyMessage<'_>) {
        self.offsets(position, message.offset, message.offset);
        self.timestamp(message.timestamp_ms);
        self.old_messages += 1;
        self.codecs.insert(message.codec().map_or("unknown", Codec::name));
        if !message.is_valid() {
            self.damage.push(format!("position {position}: offset {}: CRC-32 mismatch", message.offset));
        }
    }

    fn offsets(&mut self, position: u64, base: Offset, last: Offset) {
        if let Some(before) = self.last_offset.filter(|&before| base <= before) {
            self.damage.push(format!("position {position}: offset {base} follows {before}"));
        }
        self.first_offset.get_or_insert(base);
        self.last_offset = Some(last);
    }

    fn timestamp(&mut self, timestamp_ms: i64) {
        if timestamp_ms != NO_TIMESTAMP {
            let first = self.first_timestamp_ms.map_or(timestamp_ms, |first| first.min(timestamp_ms));
            let last = self.last_timestamp_ms.map_or(timestamp_ms, |last| last.max(timestamp_ms));
            (self.first_timestamp_ms, self.last_timestamp_ms) = (Some(first), Some(last));
        }
    }

    fn state(&self) -> String {
        match (self.damage.len(), self.old_messages) {
            (0, 0) => "ok".to_owned(),
            (0, _) => "ok, old message format".to_owned(),
            (count, _) => format!("{count} damaged"),
        }
    }
}

/// Prints a row for each log below the paths.
pub(super) fn run(paths: &[PathBuf], json: bool, output: &mut Output) -> anyhow::Result<Exit> {
    let disk = RealDisk::new();
    let mut logs = Vec::new();
    let mut has_failed = false;
    for path in paths {
        match targets(&*disk, path, &mut |_| {}) {
            Ok(targets) => logs.extend(targets.into_iter().filter(|target| target.content.holds_batches())),
            Err(error) => {
                has_failed = true;
                output.error(format_args!("{}: {error}", path.display()));
            }
        }
    }
    let progress = progress(&*disk, &logs, output);
    let mut table = Table::new([
        "FILE",
        ">FIRST",
        ">LAST",
        ">BATCHES",
        ">RECORDS",
        ">SIZE",
        "FROM",
        "UNTIL",
        "CODECS",
        ">PRODUCERS",
        "STATE",
    ]);
    let mut is_damaged = false;
    for log in &logs {
        let segment = match read(&*disk, log, |bytes| progress.iter().for_each(|bar| bar.inc(bytes))) {
            Ok(segment) => segment,
            Err(error) => {
                has_failed = true;
                output.error(format_args!("{log}: {error}"));
                continue;
            }
        };
        is_damaged |= !segment.damage.is_empty();
        if json {
            output.json(&as_json(log, &segment))?;
        } else {
            table.row(row(log, &segment));
        }
        for what in &segment.damage {
            output.error(format_args!("{log}: {what}"));
        }
    }
    progress.iter().for_each(|bar| bar.finish_and_clear());
    output.table(&table)?;
    Ok(if is_damaged { Exit::Damage } else { Exit::failed_if(has_failed) })
}

fn read(disk: &dyn Disk, log: &Target, mut advance: impl FnMut(u64)) -> io::Result<Segment> {
    let mut scan = BatchScan::open(disk, &log.path, 0, u64::MAX)?;
    let mut segment = Segment::default();
    loop {
        match scan.next() {
            Ok(Some(raw)) => {
                segment.entry(&raw);
                advance(raw.bytes.len() as u64);
            }
            Ok(None) => break,
            Err(ScanFault::Io(error)) => return Err(error),
            Err(fault) => {
                segment.damage.push(fault.to_string());
                break;
            }
        }
    }
    if scan.bytes_left() > 0 {
        let (count, position) = (scan.bytes_left(), scan.position());
        segment.damage.push(format!("position {position}: {count} bytes are no whole batch"));
    }
    Ok(segment)
}

fn row(log: &Target, segment: &Segment) -> [String; 11] {
    let offset = |offset: Option<Offset>| offset.map(|offset| offset.to_string()).unwrap_or_default();
    [
        log.to_string(),
        offset(segment.first_offset),
        offset(segment.last_offset),
        segment.batches.to_string(),
        segment.records.to_string(),
        ByteSize(segment.bytes).to_string(),
        time(segment.first_timestamp_ms),
        time(segment.last_timestamp_ms),
        segment.codecs.iter().copied().collect::<Vec<_>>().join(","),
        segment.producers.len().to_string(),
        segment.state(),
    ]
}

fn as_json(log: &Target, segment: &Segment) -> serde_json::Value {
    json!({
        "file": log.to_string(),
        "topic": log.partition.as_ref().map(|partition| partition.topic.as_str()),
        "partition": log.partition.as_ref().map(|partition| partition.partition),
        "first_offset": segment.first_offset.map(|offset| offset.0),
        "last_offset": segment.last_offset.map(|offset| offset.0),
        "batches": segment.batches,
        "records": segment.records,
        "bytes": segment.bytes,
        "first_timestamp": segment.first_timestamp_ms,
        "last_timestamp": segment.last_timestamp_ms,
        "codecs": segment.codecs,
        "producers": segment.producers.len(),
        "control_batches": segment.control_batches,
        "transactional_batches": segment.transactional_batches,
        "old_messages": segment.old_messages,
        "damage": segment.damage,
    })
}

fn time(timestamp_ms: Option<i64>) -> String {
    let time = timestamp_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map(|time| format!("{time:.3}")).unwrap_or_default()
}
