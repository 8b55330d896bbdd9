//! Message formats 0 and 1, from before Kafka 0.11: read, for whoever looks at an old directory, never written.
//!
//! ```text
//! | offset i64 | size i32 | CRC-32 u32 of what follows | magic i8 | attributes i8 | magic 1: timestamp i64
//! | key length i32, -1 for null | key | value length i32 | value |
//! ```
//! Attributes: codec in bits 0-2, bit 3 log append time. A compressed message holds further messages in its
//! value; its own offset is that of the last one. Inside it, offsets of magic 1 count from zero, those of
//! magic 0 are absolute.

use flate2::Crc;

use crate::types::Offset;

use super::compression::{Codec, InflateLimits, Scratch, inflate_to_vec};
use super::error::BatchError;
use super::header::{BatchFrame, CODEC_MASK, LOG_APPEND_TIME_BIT, NO_TIMESTAMP, TimestampType};

const CRC_AT: usize = 12;
const CRC_FROM: usize = 16;
const ATTRIBUTES_AT: usize = 17;
const TIMESTAMP_AT: usize = 18;

/// One message, plain or compressed, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyMessage<'a> {
    /// Its offset; of a compressed one, that of the last message inside.
    pub offset: Offset,
    /// 0 or 1.
    pub magic: i8,
    /// CRC-32 (not 32C) of everything behind it.
    pub crc: u32,
    /// Codec and timestamp type.
    pub attributes: i8,
    /// -1 in magic 0.
    pub timestamp_ms: i64,
    /// Null and empty are two things.
    pub key: Option<&'a [u8]>,
    /// Where it is compressed, the messages inside.
    pub value: Option<&'a [u8]>,
    /// From the offset to the value.
    pub bytes: &'a [u8],
}

impl<'a> LegacyMessage<'a> {
    /// The message at the front of `bytes`.
    ///
    /// # Errors
    /// `Truncated` where it, or a length inside it, goes beyond the bytes; `UnknownMagic` for anything but 0 and 1.
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let frame = BatchFrame::parse(bytes)?;
        if frame.magic > 1 {
            return Err(BatchError::UnknownMagic { magic: frame.magic });
        }
        let truncated = |needed| BatchError::Truncated { needed, available: bytes.len() };
        let bytes = bytes.get(..frame.size()).ok_or_else(|| truncated(frame.size()))?;
        let fields_at = if frame.magic == 1 { TIMESTAMP_AT + 8 } else { TIMESTAMP_AT };
        let mut rest = bytes.get(fields_at..).ok_or_else(|| truncated(fields_at))?;
        let key = take_bytes(&mut rest).ok_or_else(|| truncated(bytes.len() + 1))?;
        let value = take_bytes(&mut rest).ok_or_else(|| truncated(bytes.len() + 1))?;
        let mut timestamp = [0; 8];
        timestamp.copy_from_slice(&bytes[TIMESTAMP_AT..TIMESTAMP_AT + 8]);
        let mut crc = [0; 4];
        crc.copy_from_slice(&bytes[CRC_AT..CRC_FROM]);
        Ok(Self {
            offset: frame.base_offset,
            magic: frame.magic,
            crc: u32::from_be_bytes(crc),
            attributes: bytes[ATTRIBUTES_AT] as i8,
            timestamp_ms: if frame.magic == 1 { i64::from_be_bytes(timestamp) } else { NO_TIMESTAMP },
            key,
            value,
            bytes,
        })
    }

    /// Whether the CRC fits the bytes.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let mut crc = Crc::new();
        crc.update(&self.bytes[CRC_FROM..]);
        crc.sum() == self.crc
    }

    /// The codec.
    ///
    /// # Errors
    /// `UnknownCodec`.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = (i16::from(self.attributes) & CODEC_MASK) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec { id })
    }

    /// Who set the timestamp; `None` in magic 0, which has none.
    #[must_use]
    pub fn timestamp_type(&self) -> Option<TimestampType> {
        let is_stamped = i16::from(self.attributes) & LOG_APPEND_TIME_BIT != 0;
        let kind = if is_stamped { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        (self.magic == 1).then_some(kind)
    }

    /// Gives each message inside to `see`, with its absolute offset and timestamp; one that is not compressed
    /// gives itself.
    ///
    /// # Errors
    /// What inflating meets, or a message inside that is none.
    pub fn for_each(
        &self,
        limits: &InflateLimits,
        scratch: &mut Scratch,
        mut see: impl FnMut(&LegacyMessage<'_>),
    ) -> Result<(), BatchError> {
        let codec = self.codec()?;
        if codec == Codec::None {
            see(self);
            return Ok(());
        }
        let plain = inflate_to_vec(codec, self.value.unwrap_or_default(), limits, scratch)?;
        let mut inner = Vec::new();
        let mut rest = &*plain;
        while !rest.is_empty() {
            let message = LegacyMessage::first(rest)?;
            rest = &rest[message.bytes.len()..];
            inner.push(message);
        }
        let shift = match inner.last() {
            Some(last) if self.magic == 1 => self.offset - last.offset,
            _ => 0,
        };
        for message in &mut inner {
            message.offset = message.offset + shift;
            if self.timestamp_type() == Some(TimestampType::LogAppendTime) {
                message.timestamp_ms = self.timestamp_ms;
            }
            see(message);
        }
        Ok(())
    }
}

/// Takes a length and so many bytes; outside `None` where there are fewer, inside `None` where it is null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = after;
        return Some(None);
    };
    let (taken, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(Some(taken))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_of_magic_0_is_read_as_kafka_wrote_it() {
        let mut bytes = vec![0; 8];
        bytes.extend(18i32.to_be_bytes());
        bytes.extend(2_258_072_140u32.to_be_bytes());
        bytes.extend(b"\0\0\0\0\0\x02k0\0\0\0\x02v0");
        let message = LegacyMessage::first(&bytes).unwrap();
        assert!(message.is_valid());
        assert_eq!((message.key, message.value), (Some(&b"k0"[..]), Some(&b"v0"[..])));
        assert_eq!((message.timestamp_ms, message.timestamp_type()), (-1, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(magic in 0u8..2, attributes in 0u8..16, tail: Vec<u8>) {
            let mut bytes = vec![0; 8];
            bytes.extend((tail.len() as i32 + 6).to_be_bytes());
            bytes.extend([0, 0, 0, 0, magic, attributes]);
            bytes.extend(&tail);
            if let Ok(message) = LegacyMessage::first(&bytes) {
                let _ = message.for_each(&InflateLimits::default(), &mut Scratch::new(), |inner| {
                    let _ = inner.is_valid();
                });
            }
        }
    }
}
