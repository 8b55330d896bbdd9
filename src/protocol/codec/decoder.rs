//! [`Decoder`]: Kafka's primitive types out of bytes that a stranger sent.
//!
//! Holds: no length is believed before it is compared with the bytes that are left; a collection is allocated
//! only after its elements are paid for out of the frame's allowance; after the first fault every read yields
//! nothing, so no loop runs on. Never panics.

use bytes::Bytes;
use thiserror::Error;

use super::Records;
use super::tags::{Tags, UnknownTags};
use crate::protocol::text::Str;
use crate::types::Uuid;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeFault {
    /// The message has no such version.
    #[error("the message has no such version")]
    UnsupportedVersion,
    /// A value reaches beyond the end.
    #[error("{wanted} more bytes are due, {left} are left")]
    UnexpectedEnd {
        /// How many bytes the value has.
        wanted: usize,
        /// How many there are.
        left: usize,
    },
    /// A length that is negative, or more than its type allows.
    #[error("{field} has the length {length}")]
    InvalidLength {
        /// The field's name.
        field: &'static str,
        /// What stands there.
        length: i64,
    },
    /// A length or count that the rest of the bytes cannot hold.
    #[error("{field} claims {claimed}, {left} bytes are left")]
    LengthBeyondEnd {
        /// The field's name.
        field: &'static str,
        /// Bytes, or elements of at least one byte.
        claimed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// Null where the version allows none.
    #[error("{field} is null, which it may not be")]
    Null {
        /// The field's name.
        field: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotUtf8 {
        /// The field's name.
        field: &'static str,
    },
    /// A variable-length integer of more than 32 bits.
    #[error("a variable-length integer does not end within 32 bits")]
    InvalidVarint,
    /// Tagged fields must come in growing order, each once.
    #[error("tag {tag} comes after tag {previous}")]
    TagOrder {
        /// The tag that is out of order, or there again.
        tag: u32,
        /// The one before it.
        previous: u32,
    },
    /// A tagged field whose value is shorter than it says.
    #[error("tag {tag} leaves {left} bytes of its value unread")]
    TagSize {
        /// The tag.
        tag: u32,
        /// How many bytes too many it claims.
        left: usize,
    },
    /// More elements than a frame of this size may hold.
    #[error("{count} elements of {field} are more than a message of this size may hold")]
    TooManyElements {
        /// The field's name.
        field: &'static str,
        /// How many elements it claims.
        count: usize,
    },
    /// Bytes after the end of the message.
    #[error("{left} bytes follow the end of the message")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
}

/// Memory that decoded collections may take for each byte of input: honest messages stay well below it
/// (20 for a configuration entry, 6 for a partition of Metadata).
const MEMORY_PER_BYTE: usize = 32;
/// What every message may take, however small.
const MEMORY_MIN: usize = 64 * 1024;
/// The input size up to which [`MEMORY_PER_BYTE`] counts; what is larger is mostly records, which share the
/// frame's buffer.
const DENSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory for each further byte.
const MEMORY_PER_FURTHER_BYTE: usize = 4;

/// The longest text, in bytes; compact lengths could say more, but Kafka refuses it.
pub(super) const STRING_LENGTH_MAX: usize = i16::MAX as usize;

/// Reads Kafka's primitive types from one frame.
#[derive(Debug)]
pub struct Decoder {
    bytes: Bytes,
    position: usize,
    /// Where reading must stop: the end of the bytes, or of the tagged field being read.
    end: usize,
    /// Memory that further collections may take.
    allowance: usize,
    fault: Option<(usize, DecodeFault)>,
}

impl Decoder {
    /// Reads from the start of `bytes`, with the allowance of elements that a frame of this size has.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let allowance = Self::allowance_for(bytes.len());
        Self::with_allowance(bytes, allowance)
    }

    /// Reads from the start of `bytes`; decoded collections may take `allowance` bytes of memory.
    #[must_use]
    pub fn with_allowance(bytes: Bytes, allowance: usize) -> Self {
        let end = bytes.len();
        Self { bytes, position: 0, end, allowance, fault: None }
    }

    /// How much memory the collections decoded from a frame of `len` bytes may take: 64 KiB, and 32 bytes a
    /// byte up to 8 MiB, 4 a byte beyond.
    #[must_use]
    pub fn allowance_for(len: usize) -> usize {
        let dense = len.min(DENSE_BYTES_MAX);
        (MEMORY_MIN + dense * MEMORY_PER_BYTE)
            .saturating_add((len - dense).saturating_mul(MEMORY_PER_FURTHER_BYTE))
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes not read yet, shared; the decoder is then at its end.
    #[must_use]
    pub fn take_remaining(&mut self) -> Bytes {
        self.slice(self.remaining())
    }

    /// Whether a fault was met and not yet taken.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.fault.is_some()
    }

    /// The first fault and its position, if there was one. The decoder is at its end then.
    pub fn take_fault(&mut self) -> Option<(usize, DecodeFault)> {
        self.fault.take()
    }

    /// Records the fault, unless there is one already; nothing can be read from here on.
    #[cold]
    #[inline(never)]
    pub fn fail(&mut self, fault: DecodeFault) {
        if self.fault.is_none() {
            self.fault = Some((self.position, fault));
        }
        self.end = self.position;
    }

    #[cold]
    #[inline(never)]
    fn fail_end(&mut self, wanted: usize) {
        self.fail(DecodeFault::UnexpectedEnd { wanted, left: self.remaining() });
    }

    fn array_of<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes[self.position..self.end].first_chunk::<N>() {
            Some(chunk) => {
                let chunk = *chunk;
                self.position += N;
                chunk
            }
            None => {
                self.fail_end(N);
                [0; N]
            }
        }
    }

    /// `len` must not be more than what remains.
    fn slice(&mut self, len: usize) -> Bytes {
        let from = self.position;
        self.position += len;
        self.bytes.slice(from..from + len)
    }

    /// `int8`.
    pub fn int8(&mut self) -> i8 {
        i8::from_be_bytes(self.array_of())
    }

    /// `bool`: every byte but 0 is true.
    pub fn bool(&mut self) -> bool {
        self.int8() != 0
    }

    /// `int16`.
    pub fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.array_of())
    }

    /// `uint16`.
    pub fn uint16(&mut self) -> u16 {
        u16::from_be_bytes(self.array_of())
    }

    /// `int32`.
    pub fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.array_of())
    }

    /// `uint32`.
    pub fn uint32(&mut self) -> u32 {
        u32::from_be_bytes(self.array_of())
    }

    /// `int64`.
    pub fn int64(&mut self) -> i64 {
        i64::from_be_bytes(self.array_of())
    }

    /// `float64`.
    pub fn float64(&mut self) -> f64 {
        f64::from_be_bytes(self.array_of())
    }

    /// `uuid`.
    pub fn uuid(&mut self) -> Uuid {
        Uuid(self.array_of())
    }

    /// An unsigned variable-length integer of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> u32 {
        let mut value = 0u32;
        for (index, &byte) in self.bytes[self.position..self.end].iter().enumerate() {
            if index == 4 && byte > 0x0f {
                self.fail(DecodeFault::InvalidVarint);
                return 0;
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.position += index + 1;
                return value;
            }
        }
        self.fail_end(1);
        0
    }

    /// A length in front of text (`short`: 16 bits) or bytes; compact: one more than the length, 0 is null.
    /// What is returned is not more than the bytes that are left.
    fn length(&mut self, flexible: bool, short: bool, field: &'static str) -> Option<usize> {
        let length = if flexible {
            i64::from(self.unsigned_varint()) - 1
        } else if short {
            i64::from(self.int16())
        } else {
            i64::from(self.int32())
        };
        if self.failed() || length == -1 {
            return None;
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() => Some(length),
            Ok(claimed) if length <= i64::from(i32::MAX) => {
                self.fail(DecodeFault::LengthBeyondEnd { field, claimed, left: self.remaining() });
                None
            }
            _ => {
                self.fail(DecodeFault::InvalidLength { field, length });
                None
            }
        }
    }

    /// Null is what came; where it is not allowed, that is a fault.
    fn null<T>(&mut self, nullable: bool, field: &'static str) -> Option<T> {
        if !nullable && !self.failed() {
            self.fail(DecodeFault::Null { field });
        }
        None
    }

    /// `string`.
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Str {
        self.string_opt(flexible, false, field).unwrap_or_default()
    }

    /// `string` that may be null if `nullable`.
    pub fn string_opt(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Str> {
        let Some(length) = self.length(flexible, true, field) else { return self.null(nullable, field) };
        if length > STRING_LENGTH_MAX {
            self.fail(DecodeFault::InvalidLength { field, length: length as i64 });
            return None;
        }
        let text = Str::from_utf8(self.slice(length));
        if text.is_none() {
            self.position -= length;
            self.fail(DecodeFault::NotUtf8 { field });
        }
        text
    }

    /// `bytes`.
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Bytes {
        self.bytes_opt(flexible, false, field).unwrap_or_default()
    }

    /// `bytes` that may be null if `nullable`.
    pub fn bytes_opt(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Bytes> {
        match self.length(flexible, false, field) {
            Some(length) => Some(self.slice(length)),
            None => self.null(nullable, field),
        }
    }

    /// `records`.
    pub fn records(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Records> {
        self.bytes_opt(flexible, nullable, field).map(Records::Inline)
    }

    /// Whether a struct that may be null is there: its first byte is negative if not.
    pub fn present(&mut self, nullable: bool, field: &'static str) -> bool {
        if self.int8() < 0 {
            self.null::<()>(nullable, field);
            return false;
        }
        !self.failed()
    }

    /// The same inside a tagged field, where Kafka marks null with an unsigned zero.
    pub fn present_in_tag(&mut self) -> bool {
        self.unsigned_varint() != 0 && !self.failed()
    }

    /// The number of elements of an array, each of at least `wire_size` bytes here and `memory_size` bytes in
    /// memory, paid for out of the allowance.
    pub(crate) fn count(
        &mut self,
        flexible: bool,
        wire_size: usize,
        memory_size: usize,
        field: &'static str,
    ) -> Option<usize> {
        let count = self.length(flexible, false, field)?;
        if count.saturating_mul(wire_size) > self.remaining() {
            self.fail(DecodeFault::LengthBeyondEnd { field, claimed: count, left: self.remaining() });
            return None;
        }
        match self.allowance.checked_sub(count.saturating_mul(memory_size)) {
            Some(rest) => self.allowance = rest,
            None => {
                self.fail(DecodeFault::TooManyElements { field, count });
                return None;
            }
        }
        Some(count)
    }

    /// An array of structs.
    pub fn structs<T>(
        &mut self,
        flexible: bool,
        version: i16,
        field: &'static str,
        read: fn(&mut Self, i16) -> T,
    ) -> Vec<T> {
        self.structs_opt(flexible, false, version, field, read).unwrap_or_default()
    }

    /// An array of structs that may be null if `nullable`.
    pub fn structs_opt<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        version: i16,
        field: &'static str,
        read: fn(&mut Self, i16) -> T,
    ) -> Option<Vec<T>> {
        let Some(count) = self.count(flexible, 1, size_of::<T>(), field) else {
            return self.null(nullable, field);
        };
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self, version));
            if self.fault.is_some() {
                break;
            }
        }
        Some(items)
    }

    fn scalars<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        wire_size: usize,
        field: &'static str,
        read: fn(&mut Self) -> T,
    ) -> Option<Vec<T>> {
        match self.count(flexible, wire_size, size_of::<T>(), field) {
            Some(count) => Some((0..count).map(|_| read(self)).collect()),
            None => self.null(nullable, field),
        }
    }

    /// An array of `int8`.
    pub fn int8s(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<i8>> {
        self.scalars(flexible, nullable, 1, field, Self::int8)
    }

    /// An array of `int16`.
    pub fn int16s(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<i16>> {
        self.scalars(flexible, nullable, 2, field, Self::int16)
    }

    /// An array of `int32`.
    pub fn int32s(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<i32>> {
        self.scalars(flexible, nullable, 4, field, Self::int32)
    }

    /// An array of `int64`.
    pub fn int64s(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<i64>> {
        self.scalars(flexible, nullable, 8, field, Self::int64)
    }

    /// An array of `uuid`.
    pub fn uuids(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<Uuid>> {
        self.scalars(flexible, nullable, 16, field, Self::uuid)
    }

    /// An array of `string`.
    pub fn strings(&mut self, flexible: bool, nullable: bool, field: &'static str) -> Option<Vec<Str>> {
        let Some(count) = self.count(flexible, if flexible { 1 } else { 2 }, size_of::<Str>(), field) else {
            return self.null(nullable, field);
        };
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.string(flexible, field));
            if self.fault.is_some() {
                break;
            }
        }
        Some(items)
    }

    /// The start of the tagged fields: none where the version is not flexible.
    pub fn tags(&mut self, flexible: bool) -> Tags {
        let count = if flexible { self.unsigned_varint() } else { 0 };
        Tags::new(count, self.end)
    }

    /// The next tag; reading stops at the end of its value. The value of the tag before must be read whole.
    pub fn next_tag(&mut self, tags: &mut Tags) -> Option<u32> {
        if let Some(tag) = tags.current.filter(|_| self.fault.is_none() && self.remaining() > 0) {
            self.fail(DecodeFault::TagSize { tag, left: self.remaining() });
        }
        if self.fault.is_some() {
            return None;
        }
        self.end = tags.outer_end;
        tags.left = tags.left.checked_sub(1)?;
        let tag = self.unsigned_varint();
        let size = self.unsigned_varint() as usize;
        if self.fault.is_some() {
            return None;
        }
        if let Some(previous) = tags.current.filter(|&previous| previous >= tag) {
            self.fail(DecodeFault::TagOrder { tag, previous });
            return None;
        }
        if size > self.remaining() {
            self.fail(DecodeFault::LengthBeyondEnd {
                field: "tagged field",
                claimed: size,
                left: self.remaining(),
            });
            return None;
        }
        self.end = self.position + size;
        tags.current = Some(tag);
        Some(tag)
    }

    /// Keeps the value of a tag that this version does not know.
    pub fn keep_tag(&mut self, tag: u32, unknown: &mut UnknownTags) {
        match self.allowance.checked_sub(UnknownTags::ENTRY_SIZE) {
            Some(rest) => self.allowance = rest,
            None => {
                return self
                    .fail(DecodeFault::TooManyElements { field: "tagged fields", count: unknown.len() + 1 });
            }
        }
        let value = self.take_remaining();
        unknown.push(tag, value);
    }

    /// The tagged fields of a struct that knows none.
    pub fn unknown_tags(&mut self, flexible: bool) -> UnknownTags {
        let mut unknown = UnknownTags::default();
        let mut tags = self.tags(flexible);
        while let Some(tag) = self.next_tag(&mut tags) {
            self.keep_tag(tag, &mut unknown);
        }
        unknown
    }
}
