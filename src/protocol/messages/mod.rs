//! Kafka's messages, one module each: [`produce_request::ProduceRequest`], [`topic_record::TopicRecord`]. The
//! structs are made by `build.rs` from the tables beside this file, one table a family.
//!
//! Names are Kafka's in Rust's spelling (`TimeoutMs` is `timeout_ms`; a keyword gets an underscore: `type_`).
//! `Default` gives Kafka's defaults: a nullable field is null only where Kafka says so, else empty. Construct
//! with `..Default::default()`. Flexible messages keep tagged fields that they do not know.

use std::fmt;

use bytes::Bytes;

use super::codec::{DecodeError, Decoder, EncodeError, Message, decode_whole, encode_to_bytes};
use super::schema::{Kind, Schema};

/// What the generated modules need.
mod prelude {
    pub(super) use std::ops::RangeInclusive;

    pub(super) use bytes::Bytes;

    pub(super) use crate::protocol::apis::ApiKey;
    pub(super) use crate::protocol::codec::{Decoder, Encoder, Message, Records, Request, UnknownTags};
    pub(super) use crate::protocol::schema::{Field, Kind, Schema, Type};
    pub(super) use crate::protocol::text::Str;
    pub(super) use crate::types::Uuid;
}

/// A message by name: for tests, fuzzing, and decoders that are chosen at run time.
pub struct Entry {
    /// Its table, which also prints it: [`Schema::json`].
    pub schema: &'static Schema,
    /// Decodes the bytes, all of them, as this version, and encodes what came out.
    pub recode: fn(&Bytes, i16) -> Result<Bytes, RecodeError>,
}

/// Why [`Entry::recode`] could not.
#[derive(Debug)]
pub enum RecodeError {
    /// The bytes are no such message.
    Decode(DecodeError),
    /// What was decoded cannot be encoded: never, if this module keeps its promise.
    Encode(EncodeError),
}

impl Entry {
    const fn of<M: Message>() -> Self {
        Self { schema: M::SCHEMA, recode: recode::<M> }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema.name)
    }
}

fn recode<M: Message>(bytes: &Bytes, version: i16) -> Result<Bytes, RecodeError> {
    let message: M = decode_whole(&mut Decoder::new(bytes.clone()), version).map_err(RecodeError::Decode)?;
    encode_to_bytes(&message, version).map_err(RecodeError::Encode)
}

/// The message of this kind and type: see [`entry`].
#[must_use]
pub fn find(kind: Kind, type_key: i16, family: Option<&str>) -> Option<&'static Schema> {
    entry(kind, type_key, family).map(|entry| entry.schema)
}

/// The message of this kind, type and family (the table's name, without `.txt`): a coordinator's record types
/// are numbered per topic, so they need the family.
#[must_use]
pub fn entry(kind: Kind, type_key: i16, family: Option<&str>) -> Option<&'static Entry> {
    ALL.iter().find(|entry| {
        let schema = entry.schema;
        schema.kind == kind
            && schema.type_key == type_key
            && family.is_none_or(|family| family == schema.family)
    })
}

#[allow(missing_docs, reason = "the tables say what a field is")]
#[allow(
    unused_imports,
    unused_variables,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod generated {
    use super::{Entry, prelude};

    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use generated::*;
