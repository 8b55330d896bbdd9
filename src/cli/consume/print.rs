//! Records to stdout: filtered, formatted into one large buffer, written in large pieces.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::audit::Tally;
use crate::cli::format::output::OutputFormat;
use crate::cli::format::{BatchFacts, LogFacts, RecordView, json};
use crate::cli::output::Output;
use crate::client::{Fetched, Reading};
use crate::record::{BatchError, BatchHeader, RecordRef};
use crate::types::{Clock as _, SystemClock};

use super::filter::Filter;

/// So much is collected before it is written.
const WRITE_BYTES: usize = 128 << 10;

/// What a record looks like.
pub(super) enum Look {
    Format(OutputFormat),
    Json,
}

/// Prints records until enough are printed.
pub(super) struct Printer {
    pub(super) look: Look,
    pub(super) filters: Vec<Filter>,
    /// `-c`.
    pub(super) count_max: u64,
    /// `-u`.
    pub(super) is_unbuffered: bool,
    pub(super) reading: Reading,
    /// What is counted for the audit: records that were printed or passed over.
    pub(super) tally: Option<Arc<Mutex<Tally>>>,
    pub(super) printed: u64,
    /// Behind the last record that was printed or passed over, and its batch's epoch, since the last
    /// [`Printer::print`] began.
    pub(super) position: Option<(i64, i32)>,
    buffer: Vec<u8>,
}

/// Why printing ended.
#[derive(Debug)]
pub(super) enum PrintError {
    Damaged {
        offset: i64,
        source: BatchError,
    },
    /// A record does not fit the format.
    Format {
        offset: i64,
        why: String,
    },
    Output(io::Error),
}

impl From<(i64, BatchError)> for PrintError {
    fn from((offset, source): (i64, BatchError)) -> Self {
        Self::Damaged { offset, source }
    }
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Printer {
    pub(super) fn new(look: Look, filters: Vec<Filter>, count_max: u64) -> Self {
        Self {
            look,
            filters,
            count_max,
            is_unbuffered: false,
            reading: Reading::default(),
            tally: None,
            printed: 0,
            position: None,
            buffer: Vec::new(),
        }
    }

    /// Whether as many records are printed as were asked for.
    pub(super) fn is_done(&self) -> bool {
        self.printed >= self.count_max
    }

    /// Prints what was fetched.
    pub(super) fn print(&mut self, fetched: &Fetched, output: &mut Output) -> Result<(), PrintError> {
        self.position = None;
        if self.is_done() {
            return Ok(());
        }
        let mut reading = std::mem::take(&mut self.reading);
        let read = match &self.look {
            Look::Format(format) if self.filters.is_empty() && !self.is_unbuffered => {
                match format.value_only().map(<[u8]>::to_vec) {
                    Some(delimiter) => self.print_values(fetched, &mut reading, &delimiter, output),
                    None => self.print_records(fetched, &mut reading, output),
                }
            }
            _ => self.print_records(fetched, &mut reading, output),
        };
        self.reading = reading;
        let written = output.write_all(&self.buffer);
        self.buffer.clear();
        written?;
        read?;
        if !self.is_done() {
            self.position = Some(fetched.next_position());
        }
        Ok(())
    }

    /// Where printing `fetched` would end, without printing it.
    pub(super) fn foresee(&mut self, fetched: &Fetched) -> Result<(i64, i32), PrintError> {
        let mut left = self.count_max - self.printed;
        let mut position = fetched.next_position();
        if self.count_max == u64::MAX {
            return Ok(position);
        }
        let Self { filters, reading, .. } = self;
        let _ = fetched.read(reading, |batch, record| {
            left -= u64::from(filters.iter().all(|filter| filter.holds(&fetched.topic, record)));
            if left > 0 {
                return Ok::<_, PrintError>(ControlFlow::Continue(()));
            }
            position = (record.offset.0 + 1, batch.leader_epoch.0);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(position)
    }

    /// The usual case: a value and a delimiter.
    fn print_values(
        &mut self,
        fetched: &Fetched,
        reading: &mut Reading,
        delimiter: &[u8],
        output: &mut Output,
    ) -> Result<(), PrintError> {
        let buffer = &mut self.buffer;
        let left = self.count_max - self.printed;
        let position = &mut self.position;
        let mut count = 0;
        let mut tally = self.tally.as_ref().map(|tally| (tally.lock(), now_ms()));
        let read = fetched.read(reading, |batch, record| {
            if let Some((tally, now_ms)) = &mut tally {
                let place = (fetched.partition, Some(record.offset.0));
                tally.count(&fetched.topic, place, record.timestamp_ms, *now_ms);
            }
            buffer.extend_from_slice(record.value.unwrap_or_default());
            buffer.extend_from_slice(delimiter);
            if buffer.len() >= WRITE_BYTES {
                output.write_all(buffer)?;
                buffer.clear();
            }
            count += 1;
            *position = Some((record.offset.0 + 1, batch.leader_epoch.0));
            Ok::<_, PrintError>(if count < left { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        self.printed += count;
        read.map(|_| ())
    }

    fn print_records(
        &mut self,
        fetched: &Fetched,
        reading: &mut Reading,
        output: &mut Output,
    ) -> Result<(), PrintError> {
        let tally = self.tally.clone();
        let mut tally = tally.as_ref().map(|tally| (tally.lock(), now_ms()));
        let read = fetched.read(reading, |batch, record| {
            if self.filters.iter().all(|filter| filter.holds(&fetched.topic, record)) {
                self.one(fetched, batch, record, output)?;
            }
            if let Some((tally, now_ms)) = &mut tally {
                let place = (fetched.partition, Some(record.offset.0));
                tally.count(&fetched.topic, place, record.timestamp_ms, *now_ms);
            }
            self.position = Some((record.offset.0 + 1, batch.leader_epoch.0));
            Ok(if self.is_done() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        read.map(|_| ())
    }

    fn one(
        &mut self,
        fetched: &Fetched,
        batch: &BatchHeader,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<(), PrintError> {
        let begin = self.buffer.len();
        let view = view(fetched, batch, record);
        match &self.look {
            Look::Json => json::write(&view, &mut self.buffer),
            Look::Format(format) => {
                let iteration = i64::try_from(self.printed).unwrap_or(i64::MAX);
                if let Err(why) = format.write(&view, iteration, &mut self.buffer) {
                    // Half a record helps nobody.
                    self.buffer.truncate(begin);
                    return Err(PrintError::Format { offset: record.offset.0, why });
                }
            }
        }
        self.printed += 1;
        if self.is_unbuffered || self.buffer.len() >= WRITE_BYTES {
            output.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        if self.is_unbuffered {
            output.flush_all()?;
        }
        Ok(())
    }
}

/// For the audit: what is late.
fn now_ms() -> i64 {
    SystemClock::new().now_ms()
}

fn view<'a>(fetched: &'a Fetched, batch: &BatchHeader, record: &RecordRef<'a>) -> RecordView<'a> {
    RecordView {
        topic: &fetched.topic,
        partition: fetched.partition,
        offset: record.offset.0,
        timestamp_ms: record.timestamp_ms,
        timestamp_type: batch.timestamp_type(),
        key: record.key,
        value: record.value,
        headers: record.headers.iter().collect(),
        batch: BatchFacts {
            leader_epoch: batch.leader_epoch.0,
            producer_id: batch.producer_id.0,
            producer_epoch: batch.producer_epoch.0,
            attributes: batch.attributes,
        },
        log: LogFacts {
            log_start: fetched.log_start,
            last_stable: fetched.last_stable,
            high_watermark: fetched.high_watermark,
        },
    }
}
