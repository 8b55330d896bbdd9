//! The lines of `kafka-dump-log`, to the letter.

use std::io::{self, Write};

use crate::cli::dump_segment::decode::{Control, Shown, control};
use crate::cli::dump_segment::java_json;
use crate::cli::dump_segment::java_text::java_text;
use crate::cli::dump_segment::lines::{BatchLine, Entry, Field, Lines, RecordOptions, Target};
use crate::cli::output::Output;
use crate::record::{Codec, ControlKey, ControlType, LegacyMessage, RecordRef, TimestampType};
use crate::storage::inspect::Content;
use crate::types::Offset;

/// Kafka's own lines.
pub(super) struct KafkaLines {
    options: RecordOptions,
}

impl KafkaLines {
    pub(super) fn new(options: RecordOptions) -> Self {
        Self { options }
    }

    fn contents(
        &self,
        out: &mut Output,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        let (key, value) = self.options.decoder.decode(offset, key, value);
        let mut prefix = if self.options.skip_metadata { "| " } else { " " };
        if let Some(key) = &key {
            write!(out, "{prefix}key: ")?;
            show(out, key)?;
            prefix = " ";
        }
        if let Some(value) = &value {
            write!(out, "{prefix}payload: ")?;
            show(out, value)?;
        }
        Ok(())
    }
}

impl Lines for KafkaLines {
    fn begin(&mut self, out: &mut Output, target: &Target) -> io::Result<()> {
        writeln!(out, "Dumping {target}")?;
        match target.content {
            Content::Log(offset) => writeln!(out, "Log starting offset: {offset}"),
            Content::Bootstrap => writeln!(out, "KRaft bootstrap snapshot"),
            Content::MetadataSnapshot(offset, epoch) => {
                writeln!(out, "Snapshot end offset: {offset}, epoch: {epoch}")
            }
            _ => Ok(()),
        }
    }

    fn batch(&mut self, out: &mut Output, _target: &Target, line: &BatchLine<'_>) -> io::Result<()> {
        let header = &line.batch.header;
        write!(
            out,
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} \
             producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: ",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.base_sequence,
            header.last_sequence(),
            header.producer_id,
            header.producer_epoch,
            header.leader_epoch,
            header.is_transactional(),
            header.is_control(),
        )?;
        optional(out, header.delete_horizon_ms())?;
        write!(
            out,
            " position: {} {}: {} size: {} magic: 2 compresscodec: ",
            line.position,
            header.timestamp_type().name(),
            header.max_timestamp_ms,
            line.batch.bytes.len(),
        )?;
        match header.codec() {
            Ok(codec) => out.write_all(codec.name().as_bytes())?,
            Err(_) => write!(out, "unknown({})", header.attributes & 7)?,
        }
        writeln!(out, " crc: {} isvalid: {}", header.crc, line.is_valid)
    }

    fn record(
        &mut self,
        out: &mut Output,
        _target: &Target,
        line: &BatchLine<'_>,
        record: &RecordRef<'_>,
    ) -> io::Result<()> {
        let header = &line.batch.header;
        if !self.options.skip_metadata {
            write!(
                out,
                "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headerKeys: [",
                record.offset,
                header.timestamp_type().name(),
                record.timestamp_ms,
                size(record.key),
                size(record.value),
                record.sequence,
            )?;
            for (index, header) in record.headers.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(out, "{comma}{}", java_text(header.key))?;
            }
            out.write_all(b"]")?;
            if header.is_control() {
                control_record(out, record)?;
            }
        }
        if self.options.contents && !header.is_control() {
            self.contents(out, record.offset, record.key, record.value)?;
        }
        out.write_all(b"\n")
    }

    fn legacy_batch(
        &mut self,
        out: &mut Output,
        _target: &Target,
        position: u64,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()> {
        writeln!(
            out,
            "offset: {} position: {position} {}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {}",
            message.offset,
            timestamp_type(message),
            message.timestamp_ms,
            message.bytes.len(),
            message.magic,
            message.codec().map_or("unknown", Codec::name),
            message.crc,
            message.is_valid(),
        )
    }

    fn legacy_record(
        &mut self,
        out: &mut Output,
        _target: &Target,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()> {
        if !self.options.skip_metadata {
            write!(
                out,
                "| offset: {} {}: {} keySize: {} valueSize: {} isValid: {} crc: {}",
                message.offset,
                timestamp_type(message),
                message.timestamp_ms,
                size(message.key),
                size(message.value),
                message.is_valid(),
                message.crc,
            )?;
        }
        if self.options.contents {
            self.contents(out, message.offset, message.key, message.value)?;
        }
        out.write_all(b"\n")
    }

    fn entry(&mut self, out: &mut Output, _target: &Target, entry: Entry<'_>) -> io::Result<()> {
        for (index, (name, field)) in entry.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(out, "{space}{name}: ")?;
            match field {
                Field::Number(number) => write!(out, "{number}")?,
                Field::Optional(number) => optional(out, *number)?,
                Field::Text(text) => out.write_all(text.as_bytes())?,
            }
        }
        out.write_all(b"\n")
    }

    fn remark(&mut self, out: &mut Output, target: &Target, remark: &str) -> io::Result<()> {
        writeln!(out, "{target} {remark}.")
    }

    fn trailing(&mut self, out: &mut Output, target: &Target, count: u64) -> io::Result<()> {
        let name = target.path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "Found {count} invalid bytes at the end of {name}")
    }
}

/// Null is -1.
fn size(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

/// Java's `OptionalLong`.
fn optional(out: &mut Output, number: Option<i64>) -> io::Result<()> {
    match number {
        Some(number) => write!(out, "OptionalLong[{number}]"),
        None => out.write_all(b"OptionalLong.empty"),
    }
}

fn timestamp_type(message: &LegacyMessage<'_>) -> &'static str {
    message.timestamp_type().map_or("NoTimestampType", TimestampType::name)
}

fn show(out: &mut Output, shown: &Shown<'_>) -> io::Result<()> {
    match shown {
        Shown::Text(text) => out.write_all(text.as_bytes()),
        Shown::Json(value) => java_json::write(out, value),
    }
}

fn control_record(out: &mut Output, record: &RecordRef<'_>) -> io::Result<()> {
    let kind = record.key.and_then(ControlKey::parse).map_or(ControlType::Unknown(-1), |key| key.kind);
    match control(kind, record.value) {
        Ok(Control::End { marker, coordinator_epoch }) => {
            write!(out, " endTxnMarker: {marker} coordinatorEpoch: {coordinator_epoch}")
        }
        Ok(Control::Message { label, json }) => {
            write!(out, " {label} ")?;
            java_json::write(out, &json)
        }
        Ok(Control::Unknown { id }) => write!(out, " controlType: UNKNOWN({id})"),
        Err(why) => write!(out, " controlType: {kind:?} ({why})"),
    }
}
