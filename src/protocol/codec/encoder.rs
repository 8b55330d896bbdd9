//! [`Encoder`]: Kafka's primitive types into pieces of bytes, with gaps where records stand elsewhere.
//!
//! Holds: what it writes, [`super::Decoder`] reads back. Large record batches are not copied: they become
//! pieces of their own.

use bytes::Bytes;
use thiserror::Error;

use super::Records;
use super::decoder::STRING_LENGTH_MAX;
use super::tags::UnknownTags;
use crate::protocol::text::Str;
use crate::types::Uuid;

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeFault {
    /// The message has no such version.
    #[error("the message has no such version")]
    UnsupportedVersion,
    /// A field is set that this version does not have, and that may not be left out.
    #[error("{field} is set, but this version cannot carry it")]
    FieldNotInVersion {
        /// The field's name.
        field: &'static str,
    },
    /// Null where the version allows none.
    #[error("{field} is null, which it may not be")]
    Null {
        /// The field's name.
        field: &'static str,
    },
    /// Text over 32,767 bytes, or a collection or bytes over 2 GiB.
    #[error("a value of {length} bytes or elements is too long")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Records that stand elsewhere, where plain bytes were asked for.
    #[error("records stand outside of the message")]
    RecordsOutside,
}

/// A stretch of an encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodedPiece {
    /// These bytes.
    Bytes(Bytes),
    /// Records that the caller sends from elsewhere ([`Records::Outside`]), in the order of the message.
    Gap {
        /// How many bytes.
        len: usize,
    },
}

impl EncodedPiece {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Gap { len } => *len,
        }
    }

    /// Whether it is of no length.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// From this size on, bytes become a piece of their own instead of being copied.
const SHARED_BYTES_MIN: usize = 1024;

/// A first buffer that holds most messages.
const FIRST_CAPACITY: usize = 256;

/// Bytes that are not in the buffer, and where in it they belong.
#[derive(Debug)]
struct Cut {
    at: usize,
    piece: EncodedPiece,
}

/// Writes Kafka's primitive types.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: Vec<u8>,
    cuts: Vec<Cut>,
    /// How many tagged fields are open: their bytes move when they close, so nothing is cut out of them.
    open_tags: u32,
    /// What cannot be said in the version is left out instead of being a fault.
    lenient: bool,
    fault: Option<EncodeFault>,
}

impl Encoder {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(FIRST_CAPACITY)
    }

    /// An empty message, with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// Leaves out what the version cannot carry: for printing.
    pub(super) fn lenient() -> Self {
        Self { lenient: true, ..Self::new() }
    }

    /// How many bytes the message has so far, gaps counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() + self.cuts.iter().map(|cut| cut.piece.len()).sum::<usize>()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.cuts.is_empty()
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> Vec<EncodedPiece> {
        let bytes = Bytes::from(self.buffer);
        let mut pieces = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for cut in self.cuts {
            if cut.at > from {
                pieces.push(EncodedPiece::Bytes(bytes.slice(from..cut.at)));
            }
            from = cut.at;
            pieces.push(cut.piece);
        }
        if from < bytes.len() {
            pieces.push(EncodedPiece::Bytes(bytes.slice(from..)));
        }
        pieces
    }

    /// The message in one piece.
    ///
    /// # Errors
    /// [`EncodeFault::RecordsOutside`].
    pub fn into_bytes(self) -> Result<Bytes, EncodeFault> {
        if self.cuts.iter().any(|cut| matches!(cut.piece, EncodedPiece::Gap { .. })) {
            return Err(EncodeFault::RecordsOutside);
        }
        Ok(self.into_bytes_with_empty_gaps())
    }

    /// The message in one piece, with nothing where records stand elsewhere: shorter than its lengths say.
    pub(super) fn into_bytes_with_empty_gaps(self) -> Bytes {
        if self.cuts.is_empty() {
            return Bytes::from(self.buffer);
        }
        let mut whole = Vec::with_capacity(self.len());
        for piece in self.finish() {
            if let EncodedPiece::Bytes(bytes) = piece {
                whole.extend_from_slice(&bytes);
            }
        }
        Bytes::from(whole)
    }

    /// The first fault, if there was one.
    pub fn take_fault(&mut self) -> Option<EncodeFault> {
        self.fault.take()
    }

    /// Records the fault, unless there is one already.
    #[cold]
    #[inline(never)]
    pub fn fail(&mut self, fault: EncodeFault) {
        self.fault.get_or_insert(fault);
    }

    /// A field that the version does not have must have its default.
    pub fn absent(&mut self, is_default: bool, field: &'static str) {
        if !is_default && !self.lenient {
            self.fail(EncodeFault::FieldNotInVersion { field });
        }
    }

    /// Overwrites four bytes that were written before.
    pub(crate) fn patch_int32(&mut self, at: usize, value: i32) {
        if let Some(place) = self.buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// `int8`.
    pub fn int8(&mut self, value: i8) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `bool`.
    pub fn bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    /// `int16`.
    pub fn int16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `uint16`.
    pub fn uint16(&mut self, value: u16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `int32`.
    pub fn int32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `uint32`.
    pub fn uint32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `int64`.
    pub fn int64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `float64`.
    pub fn float64(&mut self, value: f64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// `uuid`.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.extend_from_slice(&value.0);
    }

    /// An unsigned variable-length integer.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// A length in front of text (`short`: 16 bits), bytes or elements; `None` is null.
    fn length(&mut self, flexible: bool, short: bool, length: Option<usize>) {
        let max = if short { STRING_LENGTH_MAX } else { i32::MAX as usize };
        let length = match length {
            Some(length) if length > max => return self.fail(EncodeFault::TooLong { length }),
            Some(length) => length as i32,
            None => -1,
        };
        if flexible {
            self.unsigned_varint((length + 1) as u32);
        } else if short {
            self.int16(length as i16);
        } else {
            self.int32(length);
        }
    }

    /// Null, where it is allowed.
    fn null(&mut self, flexible: bool, short: bool, nullable: bool, field: &'static str) {
        let length = if nullable {
            None
        } else {
            if !self.lenient {
                self.fail(EncodeFault::Null { field });
            }
            Some(0)
        };
        self.length(flexible, short, length);
    }

    /// `string`.
    pub fn string(&mut self, flexible: bool, text: &Str) {
        self.length(flexible, true, Some(text.len()));
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// `string` that may be null if `nullable`.
    pub fn string_opt(&mut self, flexible: bool, nullable: bool, text: Option<&Str>, field: &'static str) {
        match text {
            Some(text) => self.string(flexible, text),
            None => self.null(flexible, true, nullable, field),
        }
    }

    fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() >= SHARED_BYTES_MIN && self.open_tags == 0 {
            self.cuts.push(Cut { at: self.buffer.len(), piece: EncodedPiece::Bytes(bytes.clone()) });
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// `bytes`.
    pub fn bytes(&mut self, flexible: bool, bytes: &Bytes) {
        self.length(flexible, false, Some(bytes.len()));
        self.raw(bytes);
    }

    /// `bytes` that may be null if `nullable`.
    pub fn bytes_opt(&mut self, flexible: bool, nullable: bool, bytes: Option<&Bytes>, field: &'static str) {
        match bytes {
            Some(bytes) => self.bytes(flexible, bytes),
            None => self.null(flexible, false, nullable, field),
        }
    }

    /// `records`.
    pub fn records(
        &mut self,
        flexible: bool,
        nullable: bool,
        records: Option<&Records>,
        field: &'static str,
    ) {
        match records {
            Some(Records::Inline(bytes)) => self.bytes(flexible, bytes),
            Some(Records::Outside { len }) => {
                assert!(self.open_tags == 0, "no tagged field of Kafka's holds records");
                // Printing shows no records; the length must then be that of nothing.
                let len = if self.lenient { 0 } else { *len };
                self.length(flexible, false, Some(len));
                if len > 0 {
                    self.cuts.push(Cut { at: self.buffer.len(), piece: EncodedPiece::Gap { len } });
                }
            }
            None => self.null(flexible, false, nullable, field),
        }
    }

    /// The byte in front of a struct that may be null; whether the struct follows.
    pub fn present(&mut self, present: bool, nullable: bool, field: &'static str) {
        if !present && !nullable && !self.lenient {
            self.fail(EncodeFault::Null { field });
        }
        self.int8(if present { 1 } else { -1 });
    }

    /// The same inside a tagged field, where Kafka marks null with an unsigned zero.
    pub fn present_in_tag(&mut self, present: bool) {
        self.unsigned_varint(u32::from(present));
    }

    /// An array of structs.
    pub fn structs<T>(&mut self, flexible: bool, version: i16, items: &[T], write: fn(&T, &mut Self, i16)) {
        self.length(flexible, false, Some(items.len()));
        for item in items {
            write(item, self, version);
        }
    }

    /// An array of structs that may be null if `nullable`.
    pub fn structs_opt<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        version: i16,
        items: Option<&Vec<T>>,
        field: &'static str,
        write: fn(&T, &mut Self, i16),
    ) {
        match items {
            Some(items) => self.structs(flexible, version, items, write),
            None => self.null(flexible, false, nullable, field),
        }
    }

    fn scalars<T: Copy, const N: usize>(
        &mut self,
        flexible: bool,
        nullable: bool,
        items: Option<&Vec<T>>,
        field: &'static str,
        to_bytes: fn(T) -> [u8; N],
    ) {
        let Some(items) = items else { return self.null(flexible, false, nullable, field) };
        self.length(flexible, false, Some(items.len()));
        self.buffer.reserve(items.len() * N);
        for item in items {
            self.buffer.extend_from_slice(&to_bytes(*item));
        }
    }

    /// An array of `int8`.
    pub fn int8s(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<i8>>, field: &'static str) {
        self.scalars(flexible, nullable, items, field, i8::to_be_bytes);
    }

    /// An array of `int16`.
    pub fn int16s(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<i16>>, field: &'static str) {
        self.scalars(flexible, nullable, items, field, i16::to_be_bytes);
    }

    /// An array of `int32`.
    pub fn int32s(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<i32>>, field: &'static str) {
        self.scalars(flexible, nullable, items, field, i32::to_be_bytes);
    }

    /// An array of `int64`.
    pub fn int64s(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<i64>>, field: &'static str) {
        self.scalars(flexible, nullable, items, field, i64::to_be_bytes);
    }

    /// An array of `uuid`.
    pub fn uuids(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<Uuid>>, field: &'static str) {
        self.scalars(flexible, nullable, items, field, |id| id.0);
    }

    /// An array of `string`.
    pub fn strings(&mut self, flexible: bool, nullable: bool, items: Option<&Vec<Str>>, field: &'static str) {
        let Some(items) = items else { return self.null(flexible, false, nullable, field) };
        self.length(flexible, false, Some(items.len()));
        for item in items {
            self.string(flexible, item);
        }
    }

    /// The tagged fields of a struct that knows none.
    pub fn unknown_tags(&mut self, flexible: bool, unknown: &UnknownTags) {
        if flexible {
            self.unsigned_varint(unknown.len() as u32);
            self.unknown_tags_between(unknown, 0, u32::MAX);
        }
    }

    /// The unknown tagged fields from `low` to below `high` (`u32::MAX` included as the last).
    pub fn unknown_tags_between(&mut self, unknown: &UnknownTags, low: u32, high: u32) {
        for (tag, value) in unknown.iter().filter(|(tag, _)| *tag >= low && (*tag < high || high == u32::MAX))
        {
            self.unsigned_varint(tag);
            self.unsigned_varint(value.len() as u32);
            self.buffer.extend_from_slice(value);
        }
    }

    /// Begins a tagged field, before its value; what is returned goes to [`Encoder::end_tag`].
    pub fn begin_tag(&mut self, tag: u32) -> usize {
        self.unsigned_varint(tag);
        self.open_tags += 1;
        self.buffer.len()
    }

    /// Ends the tagged field that began at `start`: puts its length in front of its value.
    pub fn end_tag(&mut self, start: usize) {
        self.open_tags -= 1;
        let value_end = self.buffer.len();
        self.unsigned_varint((value_end - start) as u32);
        let prefix = self.buffer.len() - value_end;
        self.buffer[start..].rotate_right(prefix);
    }
}
