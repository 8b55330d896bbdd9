//! One JSON object a line: batches, or with deep iteration their records, in the names that `consume --json`
//! has. Bytes that are not UTF-8 come as base64 under `…_base64`.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cli::dump_segment::decode::{Control, RecordDecoder, Shown, control};
use crate::cli::dump_segment::lines::{BatchLine, Entry, Field, Lines, RecordOptions, Target};
use crate::cli::format::json::write_string;
use crate::cli::output::Output;
use crate::record::{Codec, ControlKey, ControlType, Headers, LegacyMessage, RecordRef, TimestampType};
use crate::types::Offset;

/// JSON lines.
pub(super) struct JsonLines {
    options: RecordOptions,
    /// Records are printed: a batch is not, besides.
    deep: bool,
    line: Vec<u8>,
}

impl JsonLines {
    pub(super) fn new(options: RecordOptions, deep: bool) -> Self {
        Self { options, deep, line: Vec::new() }
    }

    /// An object that begins with the partition, where the folder names one.
    fn begin_record(&mut self, target: &Target) -> Object<'_> {
        self.line.clear();
        let mut object = Object::begin(&mut self.line);
        if let Some(partition) = &target.partition {
            object.text("topic", partition.topic.as_str());
            object.number("partition", partition.partition.into());
        }
        object
    }
}

/// Key and value, decoded where there is more to them than bytes.
fn contents(
    object: &mut Object<'_>,
    decoder: RecordDecoder,
    offset: Offset,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) {
    if decoder.is_text() {
        object.bytes("key", key);
        object.bytes("value", value);
        return;
    }
    let (key, value) = decoder.decode(offset, key, value);
    for (name, shown) in [("key", key), ("value", value)] {
        match shown {
            None => object.value(name, &Value::Null),
            Some(Shown::Text(text)) => object.text(name, &text),
            Some(Shown::Json(value)) => object.value(name, &value),
        }
    }
}

impl Lines for JsonLines {
    fn begin(&mut self, _out: &mut Output, _target: &Target) -> io::Result<()> {
        Ok(())
    }

    fn batch(&mut self, out: &mut Output, target: &Target, line: &BatchLine<'_>) -> io::Result<()> {
        if self.deep {
            return Ok(());
        }
        let header = &line.batch.header;
        out.json(&json!({
            "file": target.to_string(),
            "position": line.position,
            "base_offset": header.base_offset.0,
            "last_offset": header.last_offset().0,
            "count": header.record_count,
            "base_sequence": header.base_sequence,
            "last_sequence": header.last_sequence(),
            "producer_id": header.producer_id.0,
            "producer_epoch": header.producer_epoch.0,
            "leader_epoch": header.leader_epoch.0,
            "transactional": header.is_transactional(),
            "control": header.is_control(),
            "delete_horizon": header.delete_horizon_ms(),
            "timestamp_type": header.timestamp_type().name(),
            "base_timestamp": header.base_timestamp_ms,
            "max_timestamp": header.max_timestamp_ms,
            "size": line.batch.bytes.len(),
            "magic": 2,
            "codec": header.codec().ok().map(Codec::name),
            "crc": header.crc,
            "valid": line.is_valid,
        }))
    }

    fn record(
        &mut self,
        out: &mut Output,
        target: &Target,
        line: &BatchLine<'_>,
        record: &RecordRef<'_>,
    ) -> io::Result<()> {
        let header = &line.batch.header;
        if header.is_control() && self.options.skip_metadata {
            return Ok(());
        }
        let options = self.options;
        let mut object = self.begin_record(target);
        object.number("offset", record.offset.0);
        object.number("timestamp", record.timestamp_ms);
        object.text("timestamp_type", header.timestamp_type().name());
        if header.is_control() {
            object.value("control", &control_json(record));
        } else if options.contents {
            contents(&mut object, options.decoder, record.offset, record.key, record.value);
        }
        object.headers(record.headers);
        if !options.skip_metadata {
            object.size("key_size", record.key);
            object.size("value_size", record.value);
            object.number("sequence", record.sequence.into());
            object.number("producer_id", header.producer_id.0);
            object.boolean("transactional", header.is_transactional());
            object.number("leader_epoch", header.leader_epoch.0.into());
            object.text("file", &target.path.to_string_lossy());
            object.number("position", line.position as i64);
            object.boolean("valid", line.is_valid);
        }
        object.end();
        out.write_all(&self.line)
    }

    fn legacy_batch(
        &mut self,
        out: &mut Output,
        target: &Target,
        position: u64,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()> {
        if self.deep {
            return Ok(());
        }
        out.json(&json!({
            "file": target.to_string(),
            "position": position,
            "last_offset": message.offset.0,
            "timestamp_type": message.timestamp_type().map(TimestampType::name),
            "max_timestamp": message.timestamp_ms,
            "size": message.bytes.len(),
            "magic": message.magic,
            "codec": message.codec().ok().map(Codec::name),
            "crc": message.crc,
            "valid": message.is_valid(),
        }))
    }

    fn legacy_record(
        &mut self,
        out: &mut Output,
        target: &Target,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()> {
        let options = self.options;
        let mut object = self.begin_record(target);
        object.number("offset", message.offset.0);
        object.number("timestamp", message.timestamp_ms);
        object
            .text("timestamp_type", message.timestamp_type().map_or("NoTimestampType", TimestampType::name));
        if options.contents {
            contents(&mut object, options.decoder, message.offset, message.key, message.value);
        }
        if !options.skip_metadata {
            object.text("file", &target.path.to_string_lossy());
            object.number("magic", message.magic.into());
            object.boolean("valid", message.is_valid());
        }
        object.end();
        out.write_all(&self.line)
    }

    fn entry(&mut self, out: &mut Output, target: &Target, entry: Entry<'_>) -> io::Result<()> {
        let mut object = Map::new();
        object.insert("file".into(), target.to_string().into());
        for (name, field) in entry {
            let value = match field {
                Field::Number(number) => (*number).into(),
                Field::Optional(number) => (*number).into(),
                Field::Text(text) => text.as_str().into(),
            };
            object.insert(snake_case(name), value);
        }
        out.json(&object)
    }

    fn remark(&mut self, out: &mut Output, target: &Target, remark: &str) -> io::Result<()> {
        out.json(&json!({"file": target.to_string(), "remark": remark}))
    }

    fn trailing(&mut self, out: &mut Output, target: &Target, count: u64) -> io::Result<()> {
        out.json(&json!({"file": target.to_string(), "invalid_bytes_at_end": count}))
    }
}

/// One object on one line, written as it is filled: records are many.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// Names are plain: they need no escape.
    fn name(&mut self, name: &str, suffix: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, name: &str, number: i64) {
        self.name(name, "");
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{number}");
    }

    fn boolean(&mut self, name: &str, is_true: bool) {
        self.name(name, "");
        self.out.extend_from_slice(if is_true { b"true" } else { b"false" });
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name, "");
        write_string(text, self.out);
    }

    fn value(&mut self, name: &str, value: &Value) {
        self.name(name, "");
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn size(&mut self, name: &str, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.number(name, bytes.len() as i64),
            None => self.value(name, &Value::Null),
        }
    }

    /// Text under `name`, other bytes in base64 under `<name>_base64`, null under `name`.
    fn bytes(&mut self, name: &str, bytes: Option<&[u8]>) {
        match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => self.value(name, &Value::Null),
            Some((_, Ok(text))) => self.text(name, text),
            Some((bytes, Err(_))) => {
                self.name(name, "_base64");
                write_string(&STANDARD.encode(bytes), self.out);
            }
        }
    }

    fn headers(&mut self, headers: Headers<'_>) {
        self.name("headers", "");
        self.out.push(b'[');
        for (index, header) in headers.iter().enumerate() {
            self.out.extend_from_slice(if index == 0 { b"" } else { b"," });
            let mut object = Object::begin(self.out);
            object.bytes("key", Some(header.key));
            object.bytes("value", header.value);
            self.out.push(b'}');
        }
        self.out.push(b']');
    }
}

fn control_json(record: &RecordRef<'_>) -> Value {
    let kind = record.key.and_then(ControlKey::parse).map_or(ControlType::Unknown(-1), |key| key.kind);
    match control(kind, record.value) {
        Ok(Control::End { marker, coordinator_epoch }) => {
            json!({"type": marker, "coordinator_epoch": coordinator_epoch})
        }
        Ok(Control::Message { label, json }) => json!({"type": label.trim_end_matches(':'), "data": json}),
        Ok(Control::Unknown { id }) => json!({"type": id}),
        Err(why) => json!({"type": kind.id(), "error": why}),
    }
}

/// Kafka prints `producerId`; our JSON says `producer_id`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}
