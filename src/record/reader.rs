//! Records out of a batch: lent one at a time from the batch's bytes or an inflating window, or owned.

use bytes::Bytes;

use crate::types::Offset;

use super::compression::{Codec, InflateLimits, Scratch, Window, inflate_to_bytes};
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, NO_SEQUENCE, TimestampType, advance_sequence};
use super::varint::{take_varint, take_varlong};

/// One record, lent.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its own, or the batch's under LogAppendTime.
    pub timestamp_ms: i64,
    /// Its sequence, or -1 where the producer is not idempotent.
    pub sequence: i32,
    /// Null and empty are two things.
    pub key: Option<&'a [u8]>,
    /// Null is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// In the order they were written; keys may repeat.
    pub headers: Headers<'a>,
    /// Bytes of the record, its length field left out.
    pub body_size: usize,
}

impl RecordRef<'_> {
    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let copy = Bytes::copy_from_slice;
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            sequence: self.sequence,
            key: self.key.map(copy),
            value: self.value.map(copy),
            headers: self
                .headers
                .iter()
                .map(|header| Header { key: copy(header.key), value: header.value.map(copy) })
                .collect(),
        }
    }
}

/// One header, lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// UTF-8 from well-behaved producers; Kafka lets any bytes through, and so does this.
    pub key: &'a [u8],
    /// Null and empty are two things.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, already checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In the order they were written.
    #[must_use]
    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { left: self.count, rest: self.bytes }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = HeaderRef<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

/// Iterator of [`Headers`].
#[derive(Debug, Clone)]
pub struct HeadersIter<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        // The bytes were checked when the record was read, so this cannot fail.
        take_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// One record that owns (or shares) its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its own, or the batch's under LogAppendTime.
    pub timestamp_ms: i64,
    /// Its sequence, or -1 where the producer is not idempotent.
    pub sequence: i32,
    /// Null and empty are two things.
    pub key: Option<Bytes>,
    /// Null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In the order they were written; keys may repeat.
    pub headers: Vec<Header>,
}

/// One header that owns (or shares) its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// UTF-8 from well-behaved producers; any bytes are let through.
    pub key: Bytes,
    /// Null and empty are two things.
    pub value: Option<Bytes>,
}

impl Header {
    /// The same, lent.
    #[must_use]
    pub fn as_ref(&self) -> HeaderRef<'_> {
        HeaderRef { key: &self.key, value: self.value.as_deref() }
    }
}

/// What a record's deltas count from.
#[derive(Debug, Clone, Copy)]
struct Base {
    offset: Offset,
    timestamp_ms: i64,
    /// Under LogAppendTime the one timestamp of all records.
    log_append_time_ms: Option<i64>,
    sequence: i32,
}

impl Base {
    fn of(header: &BatchHeader) -> Self {
        let stamped = header.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            offset: header.base_offset,
            timestamp_ms: header.base_timestamp_ms,
            log_append_time_ms: stamped.then_some(header.max_timestamp_ms),
            sequence: header.base_sequence,
        }
    }
}

/// Reads the records of one batch in order. Not an `Iterator`: each record lives until the next is asked for.
#[derive(Debug)]
pub struct RecordReader<'s> {
    base: Base,
    count: i32,
    next_index: i32,
    source: Source<'s>,
}

enum Source<'s> {
    Plain(&'s [u8]),
    Inflated {
        window: Window<'s>,
        lent: usize,
    },
    /// After the end or an error.
    Done,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Plain(_) => "Plain",
            Source::Inflated { .. } => "Inflated",
            Source::Done => "Done",
        })
    }
}

impl<'s> RecordReader<'s> {
    pub(super) fn new(
        header: &BatchHeader,
        payload: &'s [u8],
        limits: &InflateLimits,
        scratch: &'s mut Scratch,
    ) -> Result<Self, BatchError> {
        let count = header.record_count;
        if count < 0 {
            return Err(BatchError::InvalidCount { count });
        }
        let source = match header.codec()? {
            Codec::None => Source::Plain(payload),
            // The cleaner leaves batches without records, and nothing is compressed there.
            _ if count == 0 && payload.is_empty() => Source::Plain(payload),
            codec => Source::Inflated { window: scratch.window(codec, payload, limits)?, lent: 0 },
        };
        Ok(Self { base: Base::of(header), count, next_index: 0, source })
    }

    /// The next record; `None` after the last one. After an error there is nothing more.
    #[allow(clippy::should_implement_trait, reason = "each record borrows the reader")]
    pub fn next(&mut self) -> Option<Result<RecordRef<'_>, BatchError>> {
        let index = self.next_index;
        if index == self.count {
            return match self.end() {
                Ok(()) => None,
                Err(error) => Some(Err(error)),
            };
        }
        self.next_index += 1;
        let base = self.base;
        let failed = |fault| BatchError::Record { index, fault };
        let body = match self.next_body() {
            Ok(Ok(body)) => body,
            Ok(Err(fault)) => return Some(Err(failed(fault))),
            Err(error) => return Some(Err(error)),
        };
        Some(parse_body(body, &base).map_err(failed))
    }

    /// Records that are still to come, by the header's count.
    #[must_use]
    pub fn remaining(&self) -> i32 {
        self.count - self.next_index
    }

    /// Takes the next record's body off the source.
    fn next_body(&mut self) -> Result<Result<&[u8], RecordFault>, BatchError> {
        let body = match &mut self.source {
            Source::Done => Ok(&[][..]),
            Source::Plain(rest) => take_length(rest).and_then(|length| take_bytes(rest, length)),
            Source::Inflated { window, lent } => {
                window.consume(std::mem::take(lent));
                let length = match window.varint()? {
                    Ok(length) => usize::try_from(length).map_err(|_| RecordFault::InvalidLength(length)),
                    Err(fault) => Err(fault),
                };
                match length {
                    Ok(length) if window.hold(length)? => {
                        *lent = length;
                        Ok(&window.available()[..length])
                    }
                    Ok(_) => Err(RecordFault::OutOfBytes),
                    Err(fault) => Err(fault),
                }
            }
        };
        Ok(body)
    }

    /// Checks, once, that nothing follows the last record.
    fn end(&mut self) -> Result<(), BatchError> {
        let at_end = match &mut self.source {
            Source::Done => true,
            Source::Plain(rest) => rest.is_empty(),
            Source::Inflated { window, lent } => {
                window.consume(std::mem::take(lent));
                window.is_at_end()?
            }
        };
        self.source = Source::Done;
        if at_end { Ok(()) } else { Err(BatchError::TrailingBytes { count: self.count }) }
    }
}

/// The records of one batch as owned values; made by [`super::Batch::records`].
#[derive(Debug)]
pub struct OwnedRecords {
    base: Base,
    count: i32,
    next_index: i32,
    bytes: Bytes,
    at: usize,
    failed: bool,
}

impl OwnedRecords {
    pub(super) fn new(
        header: &BatchHeader,
        payload: &Bytes,
        limits: &InflateLimits,
    ) -> Result<Self, BatchError> {
        let count = header.record_count;
        if count < 0 {
            return Err(BatchError::InvalidCount { count });
        }
        let bytes = match header.codec()? {
            Codec::None => payload.clone(),
            _ if count == 0 && payload.is_empty() => payload.clone(),
            codec => inflate_to_bytes(codec, payload, limits)?,
        };
        Ok(Self { base: Base::of(header), count, next_index: 0, bytes, at: 0, failed: false })
    }

    fn read(&mut self) -> Result<Record, RecordFault> {
        let mut rest = &self.bytes[self.at..];
        let length = take_length(&mut rest)?;
        let body = take_bytes(&mut rest, length)?;
        let record = parse_body(body, &self.base)?;
        let share = |slice: &[u8]| self.bytes.slice_ref(slice);
        let owned = Record {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            sequence: record.sequence,
            key: record.key.map(share),
            value: record.value.map(share),
            headers: record
                .headers
                .iter()
                .map(|header| Header { key: share(header.key), value: header.value.map(share) })
                .collect(),
        };
        self.at = self.bytes.len() - rest.len();
        Ok(owned)
    }
}

impl Iterator for OwnedRecords {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let index = self.next_index;
        let record = if index < self.count {
            self.next_index += 1;
            self.read().map_err(|fault| BatchError::Record { index, fault })
        } else if self.at == self.bytes.len() {
            return None;
        } else {
            Err(BatchError::TrailingBytes { count: self.count })
        };
        self.failed = record.is_err();
        Some(record)
    }
}

#[inline(always)]
fn take_length(rest: &mut &[u8]) -> Result<usize, RecordFault> {
    let length = take_varint(rest)?;
    usize::try_from(length).map_err(|_| RecordFault::InvalidLength(length))
}

#[inline(always)]
fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RecordFault> {
    let (taken, left) = rest.split_at_checked(count).ok_or(RecordFault::OutOfBytes)?;
    *rest = left;
    Ok(taken)
}

/// A key or value: any negative length is null, as in Kafka.
#[inline(always)]
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match usize::try_from(take_varint(rest)?) {
        Ok(length) => take_bytes(rest, length).map(Some),
        Err(_) => Ok(None),
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<HeaderRef<'a>, RecordFault> {
    let length = take_varint(rest)?;
    let length = usize::try_from(length).map_err(|_| RecordFault::InvalidHeaderKeyLength(length))?;
    Ok(HeaderRef { key: take_bytes(rest, length)?, value: take_nullable(rest)? })
}

/// Reads one record out of exactly its body.
fn parse_body<'a>(body: &'a [u8], base: &Base) -> Result<RecordRef<'a>, RecordFault> {
    let mut rest = body;
    take_bytes(&mut rest, 1)?;
    let timestamp_delta = take_varlong(&mut rest)?;
    let offset_delta = take_varint(&mut rest)?;
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    let header_count = take_varint(&mut rest)?;
    // A header takes two bytes at the least.
    let count = usize::try_from(header_count)
        .ok()
        .filter(|&count| count <= rest.len() / 2)
        .ok_or(RecordFault::InvalidHeaderCount(header_count))?;
    let header_bytes = rest;
    for _ in 0..count {
        take_header(&mut rest)?;
    }
    if !rest.is_empty() {
        let actual = (body.len() - rest.len()) as u64;
        return Err(RecordFault::SizeMismatch { declared: body.len() as i32, actual });
    }
    Ok(RecordRef {
        offset: base.offset + i64::from(offset_delta),
        timestamp_ms: base.log_append_time_ms.unwrap_or(base.timestamp_ms.wrapping_add(timestamp_delta)),
        sequence: match base.sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            sequence => advance_sequence(sequence, offset_delta),
        },
        key,
        value,
        headers: Headers { count, bytes: header_bytes },
        body_size: body.len(),
    })
}
