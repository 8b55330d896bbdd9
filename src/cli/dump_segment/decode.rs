//! What keys and values are, beyond bytes: text and numbers as Kafka's decoder classes print them, and the
//! records of Kafka's own topics in their JSON form.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::cli::dump_segment::java_text::java_text;
use crate::protocol::messages;
use crate::protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::leader_change_message::LeaderChangeMessage;
use crate::protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use crate::protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::schema::{Kind, Schema};
use crate::protocol::{DecodeError, Decoder, Message};
use crate::record::{ControlType, EndMarker};
use crate::types::Offset;

/// The frame version that stands before a metadata record.
const METADATA_FRAME_VERSION: u32 = 1;
/// The record type of a classic group in `__consumer_offsets`.
const GROUP_METADATA_TYPE: i16 = 2;

/// How one key or value is printed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shown<'a> {
    /// As text.
    Text(Cow<'a, str>),
    /// As Kafka's JSON form.
    Json(Value),
}

impl Shown<'_> {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }
}

/// A decoder class of Kafka's tools, by its Java name or a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderClass {
    /// UTF-8, with replacement characters for what is none.
    #[default]
    Text,
    /// Four bytes, big-endian.
    Integer,
    /// Eight bytes, big-endian.
    Long,
    /// Hexadecimal digits.
    Hex,
}

impl std::str::FromStr for DecoderClass {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let short = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        match short.trim_end_matches("decoder") {
            "string" => Ok(Self::Text),
            "integer" => Ok(Self::Integer),
            "long" => Ok(Self::Long),
            "hex" | "default" | "bytes" => Ok(Self::Hex),
            _ => Err(
                "klamm knows StringDecoder, IntegerDecoder, LongDecoder and hex; it loads no Java classes"
                    .into(),
            ),
        }
    }
}

impl DecoderClass {
    fn show(self, bytes: &[u8]) -> Shown<'_> {
        match self {
            Self::Text => Shown::Text(java_text(bytes)),
            Self::Integer => match bytes.try_into() {
                Ok(four) => Shown::text(i32::from_be_bytes(four).to_string()),
                Err(_) => Shown::text(format!("not an integer: {}", hex(bytes))),
            },
            Self::Long => match bytes.try_into() {
                Ok(eight) => Shown::text(i64::from_be_bytes(eight).to_string()),
                Err(_) => Shown::text(format!("not a long: {}", hex(bytes))),
            },
            Self::Hex => Shown::text(hex(bytes)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the records of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordDecoder {
    /// An application's.
    Plain { key: DecoderClass, value: DecoderClass },
    /// A coordinator's, by the family of its messages.
    Coordinator { family: &'static str },
    /// `__cluster_metadata`.
    ClusterMetadata,
    /// `__remote_log_metadata`.
    RemoteLogMetadata,
}

/// A record's key and value, decoded.
pub(super) type Decoded<'a> = (Option<Shown<'a>>, Option<Shown<'a>>);

impl RecordDecoder {
    /// Whether it does no more than print bytes as text.
    pub(super) fn is_text(self) -> bool {
        self == Self::Plain { key: DecoderClass::Text, value: DecoderClass::Text }
    }

    /// Decodes one record. What cannot be decoded is said in place of it, as Kafka does.
    pub(super) fn decode<'a>(
        self,
        offset: Offset,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Decoded<'a> {
        let said = |error: &dyn std::fmt::Display| {
            Shown::text(format!("Error at offset {offset}, skipping. {error}"))
        };
        match self {
            Self::Plain { key: key_class, value: value_class } => {
                (key.map(|key| key_class.show(key)), value.map(|value| value_class.show(value)))
            }
            Self::Coordinator { family } => match coordinator_record(family, key, value) {
                Ok(decoded) => decoded,
                Err(CoordinatorFault::UnknownType(id)) => (
                    Some(Shown::text(format!("Unknown record type {id} at offset {offset}, skipping."))),
                    None,
                ),
                Err(CoordinatorFault::Broken(why)) => (Some(said(&why)), None),
            },
            Self::ClusterMetadata => {
                let shown = metadata_record(value.unwrap_or_default()).map_or_else(
                    |why| Shown::text(format!("Error at {offset}, skipping. {why}")),
                    Shown::Json,
                );
                (None, Some(shown))
            }
            Self::RemoteLogMetadata => {
                let shown =
                    remote_log_record(value.unwrap_or_default()).map_or_else(|why| said(&why), Shown::Json);
                (None, Some(shown))
            }
        }
    }
}

enum CoordinatorFault {
    UnknownType(i16),
    Broken(String),
}

fn broken(error: impl std::fmt::Display) -> CoordinatorFault {
    CoordinatorFault::Broken(error.to_string())
}

/// A key is a record type and a message, a value a version and a message; no value deletes the key.
fn coordinator_record(
    family: &'static str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Decoded<'static>, CoordinatorFault> {
    let (kind, mut rest) =
        leading_i16(key.ok_or_else(|| broken("the record has no key"))?).map_err(broken)?;
    let find = |of| messages::find(of, kind, Some(family)).ok_or(CoordinatorFault::UnknownType(kind));
    let data = find(Kind::CoordinatorKey)?.json(&mut rest, 0).map_err(broken)?;
    let key = json!({"type": kind.to_string(), "data": data});
    let Some(value) = value else {
        return Ok((Some(Shown::Json(key)), Some(Shown::Text(Cow::Borrowed("<DELETE>")))));
    };
    let (version, mut rest) = leading_i16(value).map_err(broken)?;
    let mut data = find(Kind::CoordinatorValue)?.json(&mut rest, version).map_err(broken)?;
    if family == "group_records" && kind == GROUP_METADATA_TYPE {
        open_members(&mut data);
    }
    let value = json!({"version": version.to_string(), "data": data});
    Ok((Some(Shown::Json(key)), Some(Shown::Json(value))))
}

/// The number that a key or value begins with, and what follows it.
fn leading_i16(bytes: &[u8]) -> Result<(i16, Decoder), String> {
    let (number, rest) = bytes.split_first_chunk::<2>().ok_or("it is shorter than two bytes")?;
    Ok((i16::from_be_bytes(*number), Decoder::new(Bytes::copy_from_slice(rest))))
}

/// Members of consumer groups carry two more messages as bytes; where they can be read they are shown opened.
fn open_members(group: &mut Value) {
    if group.get("protocolType").and_then(Value::as_str) != Some("consumer") {
        return;
    }
    let members = group.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten();
    for member in members.filter_map(Value::as_object_mut) {
        open_field(member, "subscription", ConsumerProtocolSubscription::SCHEMA);
        open_field(member, "assignment", ConsumerProtocolAssignment::SCHEMA);
    }
}

fn open_field(member: &mut Map<String, Value>, name: &str, schema: &Schema) {
    use base64::Engine as _;
    let Some(field) = member.get_mut(name) else { return };
    let bytes = field.as_str().and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    let Some(Ok((version, mut rest))) = bytes.as_deref().map(leading_i16) else { return };
    // Later versions only append: what is known of them is read as the highest known.
    if let Ok(opened) = schema.json(&mut rest, version.min(schema.highest)) {
        *field = opened;
    }
}

/// A metadata record: frame version, record type and version as unsigned varints, then the message.
fn metadata_record(value: &[u8]) -> Result<Value, String> {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(value));
    let frame = decoder.unsigned_varint();
    let (kind, version) = (decoder.unsigned_varint(), decoder.unsigned_varint());
    if let Some((_, fault)) = decoder.take_fault() {
        return Err(fault.to_string());
    }
    if frame != METADATA_FRAME_VERSION {
        return Err(format!("Could not deserialize metadata record due to unknown frame version {frame}"));
    }
    let number = |raw: u32| i16::try_from(raw).map_err(|_| format!("{raw} is out of range"));
    let (kind, version) = (number(kind)?, number(version)?);
    let schema =
        messages::find(Kind::Metadata, kind, None).ok_or_else(|| format!("Unknown metadata id {kind}"))?;
    let data = schema.json(&mut decoder, version).map_err(|error| error.to_string())?;
    if decoder.remaining() > 0 {
        return Err(format!("Found {} byte(s) of garbage after {}", decoder.remaining(), schema.name));
    }
    Ok(json!({"type": constant_name(schema.name), "version": version, "data": data}))
}

/// A record of the remote log manager: API key and version as unsigned varints, then the message.
fn remote_log_record(value: &[u8]) -> Result<Value, String> {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(value));
    let (kind, version) = (decoder.unsigned_varint() as i16, decoder.unsigned_varint() as i16);
    let schema =
        messages::find(Kind::RemoteLog, kind, None).ok_or_else(|| format!("unknown record type {kind}"))?;
    let data = schema.json(&mut decoder, version).map_err(|error| error.to_string())?;
    Ok(json!({"type": constant_name(schema.name), "version": version, "data": data}))
}

/// `TopicRecord` as `TOPIC_RECORD`.
fn constant_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (index, character) in name.char_indices() {
        if index > 0 && character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_uppercase());
    }
    out
}

/// What a control record says.
pub(super) enum Control {
    /// The end of a transaction.
    End { marker: &'static str, coordinator_epoch: i32 },
    /// A message of the quorum: its label in Kafka's line, and the message.
    Message { label: &'static str, json: Value },
    /// A type of a later Kafka.
    Unknown { id: i16 },
}

/// Reads the value of a control record.
pub(super) fn control(kind: ControlType, value: Option<&[u8]>) -> Result<Control, String> {
    let value = value.ok_or("a control record without a value")?;
    let message = |label, json: Result<Value, DecodeError>| {
        json.map(|json| Control::Message { label, json }).map_err(|error| error.to_string())
    };
    match kind {
        ControlType::Abort | ControlType::Commit => {
            let marker = if kind == ControlType::Commit { "COMMIT" } else { "ABORT" };
            let end = EndMarker::parse(value).ok_or("an end marker that is too short")?;
            Ok(Control::End { marker, coordinator_epoch: end.coordinator_epoch })
        }
        ControlType::LeaderChange => message("LeaderChange:", versioned::<LeaderChangeMessage>(value)),
        ControlType::SnapshotHeader => message("SnapshotHeader", versioned::<SnapshotHeaderRecord>(value)),
        ControlType::SnapshotFooter => message("SnapshotFooter", versioned::<SnapshotFooterRecord>(value)),
        ControlType::KRaftVersion => message("KRaftVersion", versioned::<KRaftVersionRecord>(value)),
        ControlType::KRaftVoters => message("KRaftVoters", versioned::<VotersRecord>(value)),
        ControlType::Unknown(id) => Ok(Control::Unknown { id }),
    }
}

/// A message whose first field is its own version.
fn versioned<M: Message>(value: &[u8]) -> Result<Value, DecodeError> {
    let version = value.first_chunk::<2>().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    let version = version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end());
    M::SCHEMA.json(&mut Decoder::new(Bytes::copy_from_slice(value)), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoder_classes_are_known_by_kafkas_names_and_short_ones() {
        for (name, class) in [
            ("org.apache.kafka.tools.api.StringDecoder", DecoderClass::Text),
            ("kafka.serializer.LongDecoder", DecoderClass::Long),
            ("integer", DecoderClass::Integer),
            ("hex", DecoderClass::Hex),
        ] {
            assert_eq!(name.parse(), Ok(class));
        }
        assert!("com.example.AvroDecoder".parse::<DecoderClass>().is_err());
    }

    #[test]
    fn what_cannot_be_decoded_is_said_in_its_place() {
        let group = RecordDecoder::Coordinator { family: "group_records" };
        let text = |shown: Option<Shown<'_>>| match shown {
            Some(Shown::Text(text)) => text.into_owned(),
            other => format!("{other:?}"),
        };
        let (key, value) = group.decode(Offset(7), Some(&[0, 99]), None);
        assert_eq!(text(key), "Unknown record type 99 at offset 7, skipping.");
        assert_eq!(value, None);
        assert!(text(group.decode(Offset(7), None, None).0).starts_with("Error at offset 7, skipping. "));
        assert!(text(group.decode(Offset(7), Some(&[0, 2]), None).0).starts_with("Error at offset 7"));
        let (_, value) = RecordDecoder::ClusterMetadata.decode(Offset(3), None, Some(&[9, 9, 9]));
        assert!(text(value).starts_with("Error at 3, skipping. "));
    }

    #[test]
    fn names_become_constants() {
        assert_eq!(constant_name("NoOpRecord"), "NO_OP_RECORD");
        assert_eq!(constant_name("TopicRecord"), "TOPIC_RECORD");
    }
}
