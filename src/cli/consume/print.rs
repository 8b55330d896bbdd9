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
/// So much where a reader may be slow: what is written at once is waited for at once, whatever happens meanwhile.
/// Smaller pieces cost pipes speed.
const SLOW_WRITE_BYTES: usize = 16 << 10;

/// Whether printing is to break off between two writes.
pub(super) type Pause<'a> = &'a dyn Fn() -> bool;

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
    /// Whether the last [`Printer::print`] broke off at `position`, with more to print.
    pub(super) has_paused: bool,
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
            has_paused: false,
            buffer: Vec::new(),
        }
    }

    /// Whether as many records are printed as were asked for.
    pub(super) fn is_done(&self) -> bool {
        self.printed >= self.count_max
    }

    /// Prints what was fetched.
    pub(super) fn print(&mut self, fetched: &Fetched, output: &mut Output) -> Result<(), PrintError> {
        self.print_until(fetched, output, None)
    }

    /// Prints what was fetched, in small pieces where stdout is a pipe, until a pause is due behind one of them.
    pub(super) fn print_until(
        &mut self,
        fetched: &Fetched,
        output: &mut Output,
        pause: Option<Pause<'_>>,
    ) -> Result<(), PrintError> {
        (self.position, self.has_paused) = (None, false);
        if self.is_done() {
            return Ok(());
        }
        let sink = &mut Pieces { output, pause, has_paused: false };
        let mut reading = std::mem::take(&mut self.reading);
        let read = match &self.look {
            Look::Format(format) if self.filters.is_empty() && !self.is_unbuffered => {
                match format.value_only().map(<[u8]>::to_vec) {
                    Some(delimiter) => self.print_values(fetched, &mut reading, &delimiter, sink),
                    None => self.print_records(fetched, &mut reading, sink),
                }
            }
            _ => self.print_records(fetched, &mut reading, sink),
        };
        self.reading = reading;
        let written = sink.output.write_all(&self.buffer);
        self.buffer.clear();
        written?;
        read?;
        self.has_paused = sink.has_paused && !self.is_done();
        if !self.is_done() && !self.has_paused {
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
        sink: &mut Pieces<'_>,
    ) -> Result<(), PrintError> {
        let buffer = &mut self.buffer;
        let piece_bytes = sink.piece_bytes();
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
            if buffer.len() >= piece_bytes {
                sink.write(buffer)?;
            }
            count += 1;
            *position = Some((record.offset.0 + 1, batch.leader_epoch.0));
            Ok::<_, PrintError>(match count < left && !sink.has_paused {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        });
        self.printed += count;
        read.map(|_| ())
    }

    fn print_records(
        &mut self,
        fetched: &Fetched,
        reading: &mut Reading,
        sink: &mut Pieces<'_>,
    ) -> Result<(), PrintError> {
        let tally = self.tally.clone();
        let mut tally = tally.as_ref().map(|tally| (tally.lock(), now_ms()));
        let read = fetched.read(reading, |batch, record| {
            if self.filters.iter().all(|filter| filter.holds(&fetched.topic, record)) {
                self.one(fetched, batch, record, sink)?;
            }
            if let Some((tally, now_ms)) = &mut tally {
                let place = (fetched.partition, Some(record.offset.0));
                tally.count(&fetched.topic, place, record.timestamp_ms, *now_ms);
            }
            self.position = Some((record.offset.0 + 1, batch.leader_epoch.0));
            let is_over = self.is_done() || sink.has_paused;
            Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        read.map(|_| ())
    }

    fn one(
        &mut self,
        fetched: &Fetched,
        batch: &BatchHeader,
        record: &RecordRef<'_>,
        sink: &mut Pieces<'_>,
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
        if self.is_unbuffered || self.buffer.len() >= sink.piece_bytes() {
            sink.write(&mut self.buffer)?;
        }
        if self.is_unbuffered {
            sink.output.flush_all()?;
        }
        Ok(())
    }
}

/// Stdout, and when to leave it alone for a while.
struct Pieces<'a> {
    output: &'a mut Output,
    pause: Option<Pause<'a>>,
    has_paused: bool,
}

impl Pieces<'_> {
    fn piece_bytes(&self) -> usize {
        if self.may_wait() { SLOW_WRITE_BYTES } else { WRITE_BYTES }
    }

    /// Whether somebody has to be heard while a reader takes its time.
    fn may_wait(&self) -> bool {
        self.pause.is_some() && self.output.is_pipe()
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.output.write_all(buffer)?;
        buffer.clear();
        if self.may_wait() {
            self.output.flush_all()?;
        }
        self.has_paused = self.pause.is_some_and(|pause| pause());
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
