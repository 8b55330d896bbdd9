//! What became of the records: reports on stdout, complaints on stderr, and the count that decides the exit
//! code.

use std::io::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::audit::Tally;
use crate::cli::format::json::write_string;
use crate::cli::format::output::write_decimal;
use crate::cli::output::Output;
use crate::client::{Delivery, DeliveryCause, DeliveryError};
use crate::record::{BatchRef, InflateLimits, Scratch};

/// So many complaints are printed; the rest is counted.
const COMPLAINTS_MAX: u64 = 20;

/// Names inputs by the numbers of their records.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The tag before the first record of each input, and its name.
    inputs: Vec<(u64, String)>,
}

impl Places {
    pub(super) fn begin(&mut self, before: u64, name: &str) {
        self.inputs.push((before, name.to_owned()));
    }

    /// `stdin:3`.
    pub(super) fn name(&self, tag: u64) -> String {
        let input = self.inputs.iter().rev().find(|(before, _)| tag > *before);
        input.map_or_else(|| tag.to_string(), |(before, name)| format!("{name}:{}", tag - before))
    }
}

/// Counts and tells.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    is_report: bool,
    is_json: bool,
    /// What is counted for the audit.
    tally: Option<Arc<Mutex<Tally>>>,
    pub(super) places: Places,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    complaints: u64,
    line: Vec<u8>,
    scratch: Scratch,
}

impl Reporter {
    pub(super) fn new(is_report: bool, is_json: bool, tally: Option<Arc<Mutex<Tally>>>) -> Self {
        Self { is_report, is_json, tally, ..Self::default() }
    }

    /// A record that was not even sent.
    pub(super) fn not_sent(&mut self, tag: u64, why: &str, output: &mut Output) {
        self.failed += 1;
        let place = self.places.name(tag);
        self.complain(&format!("{place}: {why}"), output);
    }

    pub(super) fn delivery(
        &mut self,
        delivery: &Delivery,
        now_ms: i64,
        output: &mut Output,
    ) -> io::Result<()> {
        let count = delivery.tags.len() as u64;
        self.count(delivery, now_ms);
        match &delivery.outcome {
            Ok(delivered) => {
                self.delivered += count;
                if self.is_report {
                    self.print(delivery, delivered.base_offset, delivered.log_append_time_ms, output)?;
                }
            }
            Err(error) => {
                self.failed += count;
                self.failure(delivery, error, output);
            }
        }
        Ok(())
    }

    /// Counts for the audit what was acknowledged, and what may have been written all the same.
    fn count(&mut self, delivery: &Delivery, now_ms: i64) {
        let Some(tally) = self.tally.clone() else { return };
        let delivered = match &delivery.outcome {
            Ok(delivered) => Some(*delivered),
            Err(error) if error.maybe_written => None,
            Err(_) => return,
        };
        let stamped = delivered.and_then(|delivered| delivered.log_append_time_ms);
        let timestamps = self.timestamps(&delivery.batch);
        let mut tally = tally.lock();
        for (place, timestamp_ms) in timestamps.into_iter().enumerate() {
            let timestamp_ms = stamped.unwrap_or(timestamp_ms);
            match delivered {
                Some(delivered) => {
                    let offset = delivered.base_offset.map(|base| base + place as i64);
                    tally.count(&delivery.topic, (delivery.partition, offset), timestamp_ms, now_ms);
                }
                None => tally.unknown(&delivery.topic, timestamp_ms, now_ms),
            }
        }
    }

    /// Says how many failed, where any did.
    pub(super) fn conclude(&mut self, output: &mut Output) {
        if self.complaints > COMPLAINTS_MAX {
            output.error(format_args!("… and {} more errors", self.complaints - COMPLAINTS_MAX));
        }
        if self.failed > 0 {
            let all = self.failed + self.delivered;
            output.error(format_args!("{} of {all} records were not acknowledged", self.failed));
        }
    }

    fn complain(&mut self, message: &str, output: &mut Output) {
        self.complaints += 1;
        if self.complaints <= COMPLAINTS_MAX {
            output.error(message);
        }
    }

    fn failure(&mut self, delivery: &Delivery, error: &DeliveryError, output: &mut Output) {
        let partition = format!("{}-{}", delivery.topic, delivery.partition);
        if let DeliveryCause::Refused { records, .. } = &error.cause {
            for (place, why) in records {
                if let Some(tag) = delivery.tags.iter().nth(*place) {
                    let record = self.places.name(tag);
                    self.complain(&format!("{record} to {partition}: {why}"), output);
                }
            }
        }
        let mut tags = delivery.tags.iter();
        let first = tags.next().map(|tag| self.places.name(tag)).unwrap_or_default();
        let which = match tags.last() {
            Some(last) => format!("{} records, {first} to {}", delivery.tags.len(), self.places.name(last)),
            None => first,
        };
        self.complain(&format!("{which}, to {partition}: {error}"), output);
    }

    /// One line a record.
    fn print(
        &mut self,
        delivery: &Delivery,
        base_offset: Option<i64>,
        log_append_time_ms: Option<i64>,
        output: &mut Output,
    ) -> io::Result<()> {
        let timestamps = if self.is_json { self.timestamps(&delivery.batch) } else { Vec::new() };
        for place in 0..delivery.tags.len() {
            let offset = base_offset.map_or(-1, |base| base + place as i64);
            let timestamp_ms = log_append_time_ms.or_else(|| timestamps.get(place).copied()).unwrap_or(-1);
            let line = &mut self.line;
            line.clear();
            if self.is_json {
                line.extend_from_slice(b"{\"topic\":");
                write_string(&delivery.topic, line);
                line.extend_from_slice(b",\"partition\":");
                write_decimal(i64::from(delivery.partition), line);
                line.extend_from_slice(b",\"offset\":");
                write_decimal(offset, line);
                line.extend_from_slice(b",\"timestamp\":");
                write_decimal(timestamp_ms, line);
                line.extend_from_slice(b"}\n");
            } else {
                line.extend_from_slice(delivery.topic.as_bytes());
                line.push(b'\t');
                write_decimal(i64::from(delivery.partition), line);
                line.push(b'\t');
                write_decimal(offset, line);
                line.push(b'\n');
            }
            output.write_all(&self.line)?;
        }
        Ok(())
    }

    /// The records' timestamps, as they were sent.
    fn timestamps(&mut self, batch: &[u8]) -> Vec<i64> {
        let limits = InflateLimits { floor_bytes: u64::MAX, ratio: 1 };
        let mut found = Vec::new();
        if let Ok(Ok(mut records)) =
            BatchRef::first(batch).map(|batch| batch.records(&limits, &mut self.scratch))
        {
            while let Some(Ok(record)) = records.next() {
                found.push(record.timestamp_ms);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_named_by_input_and_line() {
        let mut places = Places::default();
        places.begin(0, "stdin");
        places.begin(10, "b.txt");
        assert_eq!((places.name(1), places.name(10)), ("stdin:1".into(), "stdin:10".into()));
        assert_eq!(places.name(11), "b.txt:1");
    }
}
