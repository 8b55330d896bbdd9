//! The walk that every produced batch takes before its partition's lock is taken: header, bounds, CRC, then
//! record by record. It answers as Kafka does, and finds what a broker has to rewrite.
//!
//! An uncompressed batch is walked where it lies, without an allocation; a compressed one streams through the
//! scratch's window, which does not grow however long a record is.

use std::fmt;

use crate::types::Offset;

use super::batch::BatchRef;
use super::compression::{Codec, Compression, InflateLimits, Scratch, Window};
use super::error::{BatchError, RecordFault};
use super::header::{BatchFrame, BatchHeader, NO_TIMESTAMP, TimestampType};
use super::rewrite::Rewrite;
use super::varint::{take_varint, take_varlong};

/// What a partition asks of the batches that producers send to it.
#[derive(Debug, Clone, Copy)]
pub struct WalkRules {
    /// The broker's time: the middle of the allowed timestamps, and the LogAppendTime.
    pub now_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// The topic is compacted: a record without a key could never be replaced.
    pub key_required: bool,
    /// `compression.type`; `None` is `producer`: the batch keeps its codec.
    pub compression: Option<Compression>,
    /// Whether the request's version knows zstd (Produce 7 and later).
    pub zstd_allowed: bool,
    /// `max.message.bytes`, of the batch as it came.
    pub batch_bytes_max: usize,
    /// How far a compressed batch may inflate.
    pub inflate: InflateLimits,
}

impl Default for WalkRules {
    /// Kafka's defaults for a topic, at time 0.
    fn default() -> Self {
        Self {
            now_ms: 0,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            key_required: false,
            compression: None,
            zstd_allowed: true,
            batch_bytes_max: 1_048_588,
            inflate: InflateLimits::default(),
        }
    }
}

/// A batch that may be appended, and what is to be changed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// The header as it came.
    pub header: BatchHeader,
    /// The codec as it came.
    pub codec: Codec,
    /// The type the batch gets.
    pub timestamp_type: TimestampType,
    /// The max timestamp the batch gets.
    pub max_timestamp_ms: i64,
    /// The first record with the largest timestamp, relative to the base offset; under LogAppendTime, where
    /// all are equal, the last record.
    pub offset_delta_of_max_timestamp: i32,
    /// Bytes of the records, inflated.
    pub inflated_bytes: u64,
    /// What must change.
    pub rewrite: Rewrite,
}

/// The Kafka error a refused batch is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WalkErrorKind {
    /// 2: bytes were damaged on the way.
    CorruptMessage,
    /// 87: the producer made a batch that no log may hold.
    InvalidRecord,
    /// 32: a timestamp beyond what the topic allows.
    InvalidTimestamp,
    /// 76: a codec that this version of the request does not know.
    UnsupportedCompressionType,
    /// 10: larger than `max.message.bytes`.
    RecordTooLarge,
}

/// One record that is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a batch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkError {
    /// What the producer is answered.
    pub kind: WalkErrorKind,
    /// For people.
    pub message: String,
    /// The records to blame, where single ones are: the first [`RECORD_ERRORS_MAX`].
    pub record_errors: Vec<RecordError>,
}

/// The most records that are named in one answer: a producer that got it all wrong must not cost memory.
pub const RECORD_ERRORS_MAX: usize = 100;

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WalkError {}

impl WalkError {
    fn new(kind: WalkErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), record_errors: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(WalkErrorKind::InvalidRecord, message)
    }
}

impl From<BatchError> for WalkError {
    fn from(error: BatchError) -> Self {
        let kind = match error {
            BatchError::InvalidLength { .. }
            | BatchError::UnknownMagic { .. }
            | BatchError::CrcMismatch { .. } => WalkErrorKind::CorruptMessage,
            _ => WalkErrorKind::InvalidRecord,
        };
        let record_errors = match &error {
            BatchError::Record { index, fault } => {
                vec![RecordError { index: *index, message: fault.to_string() }]
            }
            _ => Vec::new(),
        };
        Self { kind, message: error.to_string(), record_errors }
    }
}

/// Checks what a producer sent for one partition: exactly one batch that a log may hold.
///
/// # Errors
/// [`WalkError`], with Kafka's answer and a message for people.
pub fn walk(bytes: &[u8], rules: &WalkRules, scratch: &mut Scratch) -> Result<Walked, WalkError> {
    let batch = single_batch(bytes)?;
    let codec = check_header(&batch, rules)?;
    batch.check_crc()?;
    check_counts(&batch.header)?;
    let mut tally = Tally::new(&batch.header, rules);
    let inflated_bytes = match codec {
        Codec::None => walk_plain(batch.payload(), &mut tally)?,
        codec => walk_window(scratch.window(codec, batch.payload(), &rules.inflate)?, &mut tally)?,
    };
    tally.finish()?;
    Ok(conclude(&tally, codec, inflated_bytes, rules))
}

/// The batch, if `bytes` are one whole batch of magic 2 and nothing else.
fn single_batch(bytes: &[u8]) -> Result<BatchRef<'_>, WalkError> {
    if bytes.is_empty() {
        return Err(WalkError::invalid("a partition was sent without a record batch; exactly one is needed"));
    }
    let batch = BatchRef::first(bytes)?;
    let rest = &bytes[batch.bytes.len()..];
    if rest.is_empty() {
        return Ok(batch);
    }
    Err(WalkError::invalid(if BatchFrame::parse(rest).is_ok() {
        "a partition was sent more than one record batch; exactly one is allowed".to_owned()
    } else {
        format!("{} bytes follow the record batch", rest.len())
    }))
}

/// What the header alone can be refused for; the codec, where nothing is.
fn check_header(batch: &BatchRef<'_>, rules: &WalkRules) -> Result<Codec, WalkError> {
    let header = &batch.header;
    let codec = header.codec()?;
    if codec == Codec::Zstd && !rules.zstd_allowed {
        let message = "this version of the produce request may not use zstd; version 7 is the first that may";
        return Err(WalkError::new(WalkErrorKind::UnsupportedCompressionType, message));
    }
    if header.base_offset != Offset::ZERO {
        let message = format!("the base offset should be 0, it is {}", header.base_offset);
        return Err(WalkError::invalid(message));
    }
    if batch.bytes.len() > rules.batch_bytes_max {
        let (size, most) = (batch.bytes.len(), rules.batch_bytes_max);
        let message = format!("the record batch is {size} bytes long; max.message.bytes allows {most}");
        return Err(WalkError::new(WalkErrorKind::RecordTooLarge, message));
    }
    Ok(codec)
}

fn check_counts(header: &BatchHeader) -> Result<(), WalkError> {
    let (count, last) = (header.record_count, header.last_offset_delta);
    if last < 0 {
        return Err(WalkError::invalid(format!("the last offset delta is {last}")));
    }
    if count <= 0 {
        return Err(WalkError::invalid(format!("the batch counts {count} records")));
    }
    if i64::from(last) + 1 != i64::from(count) {
        let message = format!("offsets 0 to {last} do not go with a count of {count} records");
        return Err(WalkError::invalid(message));
    }
    if header.is_control() {
        return Err(WalkError::invalid("clients may not write control records"));
    }
    if header.has_producer() && header.base_sequence < 0 {
        let message = format!("a batch with a producer id has the sequence {}", header.base_sequence);
        return Err(WalkError::invalid(message));
    }
    Ok(())
}

/// What one record's grammar yields; its bytes were stepped over.
pub(super) struct Stepped {
    timestamp_delta: i64,
    pub(super) offset_delta: i32,
    has_key: bool,
}

/// What has been seen of the records so far.
struct Tally<'r> {
    header: BatchHeader,
    rules: &'r WalkRules,
    next_index: i32,
    max_timestamp_ms: i64,
    max_timestamp_delta: i32,
    /// Allowed timestamps; the widest range where the broker's time is what counts.
    earliest_ms: i64,
    latest_ms: i64,
    errors: Vec<RecordError>,
    error_count: u64,
    any_bad_timestamp: bool,
}

impl<'r> Tally<'r> {
    fn new(header: &BatchHeader, rules: &'r WalkRules) -> Self {
        let (earliest_ms, latest_ms) = match rules.timestamp_type {
            TimestampType::CreateTime => (
                rules.now_ms.saturating_sub(rules.timestamp_before_max_ms),
                rules.now_ms.saturating_add(rules.timestamp_after_max_ms),
            ),
            TimestampType::LogAppendTime => (i64::MIN, i64::MAX),
        };
        Self {
            header: *header,
            rules,
            next_index: 0,
            max_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_delta: 0,
            earliest_ms,
            latest_ms,
            errors: Vec::new(),
            error_count: 0,
            any_bad_timestamp: false,
        }
    }

    #[inline(always)]
    fn record(&mut self, record: &Stepped) {
        let index = self.next_index;
        self.next_index += 1;
        let timestamp_ms = self.header.base_timestamp_ms.wrapping_add(record.timestamp_delta);
        if timestamp_ms > self.max_timestamp_ms {
            self.max_timestamp_ms = timestamp_ms;
            self.max_timestamp_delta = index;
        }
        let is_in_time = (self.earliest_ms..=self.latest_ms).contains(&timestamp_ms);
        let is_keyed = record.has_key || !self.rules.key_required;
        if record.offset_delta != index || !is_keyed || !(is_in_time || timestamp_ms == NO_TIMESTAMP) {
            self.blame(index, timestamp_ms, record);
        }
    }

    #[cold]
    fn blame(&mut self, index: i32, timestamp_ms: i64, record: &Stepped) {
        self.error_count += 1;
        let message = if record.offset_delta != index {
            format!("its offset delta is {}, {index} was due", record.offset_delta)
        } else if self.rules.key_required && !record.has_key {
            "a compacted topic takes no record without a key".to_owned()
        } else {
            self.any_bad_timestamp = true;
            let (earliest, latest) = (self.earliest_ms, self.latest_ms);
            format!("its timestamp {timestamp_ms} is out of range; {earliest} to {latest} is allowed")
        };
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(RecordError { index, message });
        }
    }

    fn finish(&mut self) -> Result<(), WalkError> {
        if self.header.timestamp_type() == TimestampType::LogAppendTime {
            let message = "a producer may not set the timestamp type to LogAppendTime";
            return Err(WalkError::new(WalkErrorKind::InvalidTimestamp, message));
        }
        let Some(first) = self.errors.first() else { return Ok(()) };
        let kind = if self.any_bad_timestamp {
            WalkErrorKind::InvalidTimestamp
        } else {
            WalkErrorKind::InvalidRecord
        };
        let message = format!(
            "{} of {} records are refused; the first is record {}: {}",
            self.error_count, self.header.record_count, first.index, first.message
        );
        Err(WalkError { kind, message, record_errors: std::mem::take(&mut self.errors) })
    }
}

/// Walks the records where they lie.
fn walk_plain(mut rest: &[u8], tally: &mut Tally<'_>) -> Result<u64, WalkError> {
    let size = rest.len() as u64;
    let count = tally.header.record_count;
    for index in 0..count {
        let record = step(&mut rest).map_err(|fault| BatchError::Record { index, fault })?;
        tally.record(&record);
    }
    if rest.is_empty() { Ok(size) } else { Err(BatchError::TrailingBytes { count }.into()) }
}

/// Steps over one record at the front of `rest`.
#[inline(always)]
pub(super) fn step(rest: &mut &[u8]) -> Result<Stepped, RecordFault> {
    let length = take_varint(rest)?;
    let size = usize::try_from(length).map_err(|_| RecordFault::InvalidLength(length))?;
    let (mut body, after) = rest.split_at_checked(size).ok_or(RecordFault::OutOfBytes)?;
    *rest = after;
    // The attributes of a record mean nothing yet; Kafka reads past them.
    skip(&mut body, 1)?;
    let timestamp_delta = take_varlong(&mut body)?;
    let offset_delta = take_varint(&mut body)?;
    let key_length = take_varint(&mut body)?;
    skip(&mut body, key_length)?;
    let value_length = take_varint(&mut body)?;
    skip(&mut body, value_length)?;
    let header_count = take_varint(&mut body)?;
    if header_count != 0 {
        step_headers(&mut body, header_count)?;
    }
    if !body.is_empty() {
        return Err(RecordFault::SizeMismatch { declared: length, actual: (size - body.len()) as u64 });
    }
    Ok(Stepped { timestamp_delta, offset_delta, has_key: key_length >= 0 })
}

/// Steps over `length` bytes; a negative length is null and takes none.
#[inline(always)]
fn skip(rest: &mut &[u8], length: i32) -> Result<(), RecordFault> {
    *rest = rest.get(length.max(0) as usize..).ok_or(RecordFault::OutOfBytes)?;
    Ok(())
}

fn step_headers(rest: &mut &[u8], count: i32) -> Result<(), RecordFault> {
    // A header takes two bytes at the least.
    if count < 0 || count as usize > rest.len() / 2 {
        return Err(RecordFault::InvalidHeaderCount(count));
    }
    for _ in 0..count {
        let key_length = take_varint(rest)?;
        if key_length < 0 {
            return Err(RecordFault::InvalidHeaderKeyLength(key_length));
        }
        skip(rest, key_length)?;
        let value_length = take_varint(rest)?;
        skip(rest, value_length)?;
    }
    Ok(())
}

/// Walks the records of a compressed batch as they stream by.
fn walk_window(mut window: Window<'_>, tally: &mut Tally<'_>) -> Result<u64, WalkError> {
    let count = tally.header.record_count;
    for index in 0..count {
        let record = step_window(&mut window)?.map_err(|fault| BatchError::Record { index, fault })?;
        tally.record(&record);
    }
    let size = window.position();
    if window.is_at_end()? { Ok(size) } else { Err(BatchError::TrailingBytes { count }.into()) }
}

/// Steps over the next record: in one piece where the window holds it, else field by field.
#[inline]
pub(super) fn step_window(window: &mut Window<'_>) -> Result<Result<Stepped, RecordFault>, BatchError> {
    let available = window.available();
    let mut rest = available;
    if let Ok(stepped) = step(&mut rest) {
        let count = available.len() - rest.len();
        window.consume(count);
        return Ok(Ok(stepped));
    }
    // Cut by the window's edge, or broken: the streaming form tells which.
    StreamStep { window, record_end: 0 }.run()
}

/// Unwraps a fault to the caller of a function that returns `Result<Result<_, RecordFault>, BatchError>`.
macro_rules! fault {
    ($result:expr) => {
        match $result? {
            Ok(value) => value,
            Err(fault) => return Ok(Err(fault)),
        }
    };
}

/// One record, field by field from a window that refills itself.
struct StreamStep<'w, 's> {
    window: &'w mut Window<'s>,
    /// Where the stream will stand after the record.
    record_end: u64,
}

impl StreamStep<'_, '_> {
    fn run(&mut self) -> Result<Result<Stepped, RecordFault>, BatchError> {
        let length = fault!(self.window.varint());
        let Ok(size) = u64::try_from(length) else { return Ok(Err(RecordFault::InvalidLength(length))) };
        let start = self.window.position();
        self.record_end = start + size;
        fault!(self.skip(1));
        let timestamp_delta = fault!(self.window.varlong());
        let offset_delta = fault!(self.window.varint());
        let key_length = fault!(self.window.varint());
        fault!(self.skip(key_length));
        let value_length = fault!(self.window.varint());
        fault!(self.skip(value_length));
        fault!(self.headers());
        let actual = self.window.position() - start;
        if actual != size {
            return Ok(Err(RecordFault::SizeMismatch { declared: length, actual }));
        }
        Ok(Ok(Stepped { timestamp_delta, offset_delta, has_key: key_length >= 0 }))
    }

    fn headers(&mut self) -> Result<Result<(), RecordFault>, BatchError> {
        let count = fault!(self.window.varint());
        let left = self.record_end.saturating_sub(self.window.position());
        if count < 0 || count as u64 > left / 2 {
            return Ok(Err(RecordFault::InvalidHeaderCount(count)));
        }
        for _ in 0..count {
            let key_length = fault!(self.window.varint());
            if key_length < 0 {
                return Ok(Err(RecordFault::InvalidHeaderKeyLength(key_length)));
            }
            fault!(self.skip(key_length));
            let value_length = fault!(self.window.varint());
            fault!(self.skip(value_length));
        }
        Ok(Ok(()))
    }

    /// Steps over `length` bytes, never beyond the record.
    fn skip(&mut self, length: i32) -> Result<Result<(), RecordFault>, BatchError> {
        let length = length.max(0) as u64;
        if length > self.record_end.saturating_sub(self.window.position()) || !self.window.skip(length)? {
            return Ok(Err(RecordFault::OutOfBytes));
        }
        Ok(Ok(()))
    }
}

fn conclude(tally: &Tally<'_>, codec: Codec, inflated_bytes: u64, rules: &WalkRules) -> Walked {
    let header = tally.header;
    let (max_timestamp_ms, delta) = match rules.timestamp_type {
        TimestampType::CreateTime => (tally.max_timestamp_ms, tally.max_timestamp_delta),
        TimestampType::LogAppendTime => (rules.now_ms, header.last_offset_delta),
    };
    let is_stamped =
        header.timestamp_type() == rules.timestamp_type && header.max_timestamp_ms == max_timestamp_ms;
    let rewrite = match rules.compression {
        Some(compression) if compression.codec() != codec => Rewrite::Recompress(compression),
        _ if is_stamped => Rewrite::None,
        _ => Rewrite::Stamp,
    };
    Walked {
        header,
        codec,
        timestamp_type: rules.timestamp_type,
        max_timestamp_ms,
        offset_delta_of_max_timestamp: delta,
        inflated_bytes,
        rewrite,
    }
}

#[cfg(test)]
mod tests;
