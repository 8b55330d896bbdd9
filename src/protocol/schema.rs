//! The fields of messages as tables, generated beside the structs: Kafka's JSON form is made from the encoded
//! bytes and these, so that it needs no code per message, and `dump-segment` can print a record it has only
//! as bytes.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::codec::{DecodeError, DecodeFault, Decoder};

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asked of a broker or controller.
    Request,
    /// The answer.
    Response,
    /// What stands before one of these.
    Header,
    /// A record of `__cluster_metadata`.
    Metadata,
    /// A record key of `__consumer_offsets`, `__transaction_state` or `__share_group_state`.
    CoordinatorKey,
    /// A record value of these.
    CoordinatorValue,
    /// A record of `__remote_log_metadata`.
    RemoteLog,
    /// Anything else that is written in the message format.
    Data,
}

/// A message as a table.
#[derive(Debug)]
pub struct Schema {
    /// Kafka's name, without `Data`.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// The API key, or the record type; -1 where there is none.
    pub type_key: i16,
    /// The table that it stands in: the file's name below `messages/`, without `.txt`.
    pub family: &'static str,
    /// Lowest version.
    pub lowest: i16,
    /// Highest version.
    pub highest: i16,
    /// First version with compact lengths and tagged fields; `i16::MAX` where there is none.
    pub flexible_from: i16,
    /// The fields.
    pub fields: &'static [Field],
}

impl Schema {
    /// The versions that can be read and written.
    #[must_use]
    pub fn versions(&self) -> RangeInclusive<i16> {
        self.lowest..=self.highest
    }

    /// Kafka's JSON form of an encoded message. Bytes after it stay in the decoder.
    ///
    /// # Errors
    /// [`DecodeError`], as [`super::Message::decode`].
    pub fn json(&self, decoder: &mut Decoder, version: i16) -> Result<Value, DecodeError> {
        if !self.versions().contains(&version) {
            decoder.fail(DecodeFault::UnsupportedVersion);
        }
        let value = self.walk(decoder, version);
        match decoder.take_fault() {
            None => Ok(value),
            Some((position, fault)) => Err(DecodeError { message: self.name, version, position, fault }),
        }
    }

    fn walk(&self, decoder: &mut Decoder, version: i16) -> Value {
        Walk { decoder, version, flexible: version >= self.flexible_from }.fields(self.fields)
    }
}

/// A field as a table row.
#[derive(Debug)]
pub struct Field {
    /// Its name in Kafka's JSON form: camelCase.
    pub name: &'static str,
    /// What it holds.
    pub holds: Type,
    /// The versions that have it.
    pub versions: (i16, i16),
    /// The versions in which it may be null; an empty range if never.
    pub nullable: (i16, i16),
    /// Its tag, where it is a tagged field.
    pub tag: Option<u32>,
    /// Whether its lengths are compact in flexible versions: all but the client id in request headers.
    pub compact: bool,
}

impl Field {
    /// A field that is never null.
    #[must_use]
    pub const fn new(name: &'static str, holds: Type, lowest: i16, highest: i16) -> Self {
        Self { name, holds, versions: (lowest, highest), nullable: (1, 0), tag: None, compact: true }
    }

    /// May be null in these versions.
    #[must_use]
    pub const fn nullable(mut self, lowest: i16, highest: i16) -> Self {
        self.nullable = (lowest, highest);
        self
    }

    /// Is a tagged field.
    #[must_use]
    pub const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Has no compact length.
    #[must_use]
    pub const fn plain(mut self) -> Self {
        self.compact = false;
        self
    }

    fn is_in(&self, version: i16) -> bool {
        self.versions.0 <= version && version <= self.versions.1
    }

    fn may_be_null(&self, version: i16) -> bool {
        self.nullable.0 <= version && version <= self.nullable.1
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// `bool`.
    Bool,
    /// `int8`.
    Int8,
    /// `int16`.
    Int16,
    /// `uint16`.
    Uint16,
    /// `int32`.
    Int32,
    /// `uint32`.
    Uint32,
    /// `int64`.
    Int64,
    /// `float64`.
    Float64,
    /// `uuid`.
    Uuid,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `records`.
    Records,
    /// A struct of these fields.
    Struct(&'static [Field]),
    /// An array of these.
    Array(&'static Type),
}

impl Type {
    /// The least number of bytes that a value has.
    fn wire_size_min(self) -> usize {
        match self {
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 => 4,
            Self::Int64 | Self::Float64 => 8,
            Self::Uuid => 16,
            _ => 1,
        }
    }
}

/// What an element of a JSON array costs in memory, roughly.
const JSON_ELEMENT_SIZE: usize = size_of::<Value>();

struct Walk<'a> {
    decoder: &'a mut Decoder,
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Value {
        let mut values: Vec<Option<Value>> = Vec::with_capacity(fields.len());
        for field in fields {
            let here = field.tag.is_none() && field.is_in(self.version) && !self.decoder.failed();
            values.push(here.then(|| self.field(field)));
        }
        let mut tags = self.decoder.tags(self.flexible);
        while let Some(tag) = self.decoder.next_tag(&mut tags) {
            match fields.iter().position(|field| field.tag == Some(tag) && field.is_in(self.version)) {
                Some(index) => values[index] = Some(self.field(&fields[index])),
                None => drop(self.decoder.take_remaining()),
            }
        }
        let named = fields.iter().zip(values);
        Value::Object(
            named.filter_map(|(field, value)| Some((field.name.to_owned(), value?))).collect::<Map<_, _>>(),
        )
    }

    fn field(&mut self, field: &Field) -> Value {
        let flexible = self.flexible && field.compact;
        if let (Type::Struct(fields), Some(_), true) =
            (field.holds, field.tag, field.may_be_null(self.version))
        {
            return if self.decoder.present_in_tag() { self.fields(fields) } else { Value::Null };
        }
        self.value(field.holds, flexible, field.may_be_null(self.version), field.name)
    }

    fn value(&mut self, holds: Type, flexible: bool, nullable: bool, name: &'static str) -> Value {
        match holds {
            Type::Bool => self.decoder.bool().into(),
            Type::Int8 => self.decoder.int8().into(),
            Type::Int16 => self.decoder.int16().into(),
            Type::Uint16 => self.decoder.uint16().into(),
            Type::Int32 => self.decoder.int32().into(),
            Type::Uint32 => self.decoder.uint32().into(),
            Type::Int64 => self.decoder.int64().into(),
            Type::Float64 => self.decoder.float64().into(),
            Type::Uuid => self.decoder.uuid().to_string().into(),
            Type::String => self
                .decoder
                .string_opt(flexible, nullable, name)
                .map_or(Value::Null, |text| text.as_str().into()),
            Type::Bytes => self
                .decoder
                .bytes_opt(flexible, nullable, name)
                .map_or(Value::Null, |b| STANDARD.encode(b).into()),
            Type::Records => {
                self.decoder.records(flexible, nullable, name).map_or(Value::Null, |_| "".into())
            }
            Type::Struct(fields) if nullable => {
                if self.decoder.present(true, name) {
                    self.fields(fields)
                } else {
                    Value::Null
                }
            }
            Type::Struct(fields) => self.fields(fields),
            Type::Array(element) => self.array(*element, flexible, nullable, name),
        }
    }

    fn array(&mut self, element: Type, flexible: bool, nullable: bool, name: &'static str) -> Value {
        let Some(count) = self.decoder.count(flexible, element.wire_size_min(), JSON_ELEMENT_SIZE, name)
        else {
            if !nullable && !self.decoder.failed() {
                self.decoder.fail(DecodeFault::Null { field: name });
            }
            return Value::Null;
        };
        let mut items = Vec::new();
        for _ in 0..count {
            if self.decoder.failed() {
                break;
            }
            items.push(self.value(element, flexible, false, name));
        }
        Value::Array(items)
    }
}

/// The JSON form of bytes that an encoder just wrote.
pub(super) fn json_of_encoded(schema: &Schema, bytes: Bytes, version: i16) -> Value {
    schema.walk(&mut Decoder::with_allowance(bytes, usize::MAX), version)
}
