//! One JSON object a line: batches, or with deep iteration their records, in the names that `consume --json`
//! has. Bytes that are not UTF-8 come as base64 under `…_base64`.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cli::dump_segment::decode::{Control, Shown, control};
use crate::cli::dump_segment::lines::{BatchLine, Entry, Field, Lines, RecordOptions, Target};
use crate::cli::output::Output;
use crate::record::{Codec, ControlKey, ControlType, LegacyMessage, RecordRef, TimestampType};
use crate::types::Offset;

/// JSON lines.
pub(super) struct JsonLines {
    options: RecordOptions,
    /// Records are printed: a batch is not, besides.
    deep: bool,
}

impl JsonLines {
    pub(super) fn new(options: RecordOptions, deep: bool) -> Self {
        Self { options, deep }
    }

    fn contents(
        &self,
        object: &mut Map<String, Value>,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        if self.options.decoder.is_text() {
            put_bytes(object, "key", key);
            put_bytes(object, "value", value);
            return;
        }
        let (key, value) = self.options.decoder.decode(offset, key, value);
        for (name, shown) in [("key", key), ("value", value)] {
            let shown = shown.map_or(Value::Null, |shown| match shown {
                Shown::Text(text) => text.into(),
                Shown::Json(value) => value,
            });
            object.insert(name.to_owned(), shown);
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
        let mut object = named(target);
        object.insert("offset".into(), record.offset.0.into());
        object.insert("timestamp".into(), record.timestamp_ms.into());
        object.insert("timestamp_type".into(), header.timestamp_type().name().into());
        if header.is_control() {
            object.insert("control".into(), control_json(record));
        } else if self.options.contents {
            self.contents(&mut object, record.offset, record.key, record.value);
        }
        let headers = record.headers.iter().map(|header| {
            let mut object = Map::new();
            put_bytes(&mut object, "key", Some(header.key));
            put_bytes(&mut object, "value", header.value);
            Value::Object(object)
        });
        object.insert("headers".into(), headers.collect());
        if !self.options.skip_metadata {
            object.insert("key_size".into(), record.key.map(<[u8]>::len).into());
            object.insert("value_size".into(), record.value.map(<[u8]>::len).into());
            object.insert("sequence".into(), record.sequence.into());
            object.insert("producer_id".into(), header.producer_id.0.into());
            object.insert("transactional".into(), header.is_transactional().into());
            object.insert("leader_epoch".into(), header.leader_epoch.0.into());
            object.insert("file".into(), target.to_string().into());
            object.insert("position".into(), line.position.into());
            object.insert("valid".into(), line.is_valid.into());
        }
        out.json(&object)
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
        let mut object = named(target);
        object.insert("offset".into(), message.offset.0.into());
        object.insert("timestamp".into(), message.timestamp_ms.into());
        object.insert("timestamp_type".into(), message.timestamp_type().map(TimestampType::name).into());
        if self.options.contents {
            self.contents(&mut object, message.offset, message.key, message.value);
        }
        if !self.options.skip_metadata {
            object.insert("file".into(), target.to_string().into());
            object.insert("magic".into(), message.magic.into());
            object.insert("valid".into(), message.is_valid().into());
        }
        out.json(&object)
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

/// An object that begins with the partition, where the folder names one.
fn named(target: &Target) -> Map<String, Value> {
    let mut object = Map::new();
    if let Some(partition) = &target.partition {
        object.insert("topic".into(), partition.topic.as_str().into());
        object.insert("partition".into(), partition.partition.into());
    }
    object
}

/// Text under `name`, other bytes in base64 under `<name>_base64`, null under `name`.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), text.into()),
        Some((bytes, Err(_))) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
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
