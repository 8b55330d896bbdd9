//! How messages become bytes and bytes messages: [`Decoder`] and [`Encoder`] know Kafka's primitive types,
//! [`Message`] is what every generated struct of the top level can do.
//!
//! Both keep the first fault and carry on harmlessly (reads yield zeros and empty collections), so that the
//! generated code is straight lines; [`Message::decode`] and [`Message::encode`] report the fault at the end.

mod decoder;
mod encoder;
mod tags;

use std::ops::RangeInclusive;

use bytes::Bytes;
use thiserror::Error;

pub use decoder::{DecodeFault, Decoder};
pub use encoder::{EncodeFault, EncodedPiece, Encoder};
pub use tags::{Tags, UnknownTags};

use super::apis::ApiKey;
use super::schema::{self, Schema};

/// Bytes that are no message of their kind: what was being read, where it went wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} version {version}, byte {position}: {fault}")]
pub struct DecodeError {
    /// Kafka's name of the message.
    pub message: &'static str,
    /// The version it was read as.
    pub version: i16,
    /// How many bytes into the decoder's input.
    pub position: usize,
    /// What is wrong there.
    pub fault: DecodeFault,
}

/// A message that cannot be written in this version: a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} version {version}: {fault}")]
pub struct EncodeError {
    /// Kafka's name of the message.
    pub message: &'static str,
    /// The version it was to be written in.
    pub version: i16,
    /// What is wrong.
    pub fault: EncodeFault,
}

/// Record batches in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// The batches as they stand in the message.
    Inline(Bytes),
    /// Batches that stand elsewhere, in a file say: encoding leaves a gap of this length.
    Outside {
        /// How many bytes the batches have.
        len: usize,
    },
}

impl Records {
    /// How many bytes the batches have.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Outside { len } => *len,
        }
    }

    /// Whether there is no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are here.
    #[must_use]
    pub fn inline(&self) -> Option<&Bytes> {
        match self {
            Self::Inline(bytes) => Some(bytes),
            Self::Outside { .. } => None,
        }
    }
}

/// A message of the tables in `messages/*.txt`.
pub trait Message: Default {
    /// Kafka's name, without the `Data` that its Java classes end with.
    const NAME: &'static str;
    /// The API key; the record type for a log record; -1 where there is none.
    const TYPE: i16;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` where there is none.
    const FLEXIBLE_FROM: i16;
    /// The fields as a table.
    const SCHEMA: &'static Schema;

    /// Reads the fields; faults stay in the decoder. [`Message::decode`] is what callers want.
    fn read(decoder: &mut Decoder, version: i16) -> Self;

    /// Writes the fields; faults stay in the encoder. [`Message::encode`] is what callers want.
    fn write(&self, encoder: &mut Encoder, version: i16);

    /// Reads one message. Bytes after it stay in the decoder: see [`Decoder::remaining`].
    ///
    /// # Errors
    /// [`DecodeError`]: unknown version, bytes that end early, lengths that lie, null where none is allowed,
    /// text that is not UTF-8, tags out of order, more elements than a frame of this size may hold.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            decoder.fail(DecodeFault::UnsupportedVersion);
        }
        let message = Self::read(decoder, version);
        match decoder.take_fault() {
            None => Ok(message),
            Some((position, fault)) => Err(DecodeError { message: Self::NAME, version, position, fault }),
        }
    }

    /// Writes the message.
    ///
    /// # Errors
    /// [`EncodeError`]: a version that does not exist, a field that this version cannot carry and that may not
    /// be left out, null where none is allowed, text over 32,767 bytes. What was written by then is of no use.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            encoder.fail(EncodeFault::UnsupportedVersion);
        } else {
            self.write(encoder, version);
        }
        match encoder.take_fault() {
            None => Ok(()),
            Some(fault) => Err(EncodeError { message: Self::NAME, version, fault }),
        }
    }

    /// Kafka's JSON form: camelCase names, bytes in base64, record batches as an empty string, tagged fields
    /// left out where they have their default. Fields that the version does not carry are left out.
    fn to_json(&self, version: i16) -> serde_json::Value {
        let mut encoder = Encoder::lenient();
        self.write(&mut encoder, version);
        schema::json_of_encoded(Self::SCHEMA, encoder.into_bytes_with_empty_gaps(), version)
    }
}

/// A request: knows its API and what answers it.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// What answers it, in the same version.
    type Response: Message;
}

/// The message as bytes, where no records stand outside.
///
/// # Errors
/// As [`Message::encode`]; and [`EncodeFault::RecordsOutside`].
pub fn encode_to_bytes<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version)?;
    encoder.into_bytes().map_err(|fault| EncodeError { message: M::NAME, version, fault })
}

/// A message that is all that the decoder still holds.
///
/// # Errors
/// As [`Message::decode`]; and [`DecodeFault::TrailingBytes`].
pub fn decode_whole<M: Message>(decoder: &mut Decoder, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(decoder, version)?;
    match decoder.remaining() {
        0 => Ok(message),
        left => {
            let fault = DecodeFault::TrailingBytes { left };
            Err(DecodeError { message: M::NAME, version, position: decoder.position(), fault })
        }
    }
}
