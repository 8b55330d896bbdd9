//! Records out: a format string compiled once, then written record by record.
//!
//! Verbs are kcat's, and kcl's where they do not clash: `%s %v` value, `%S %V` its length, `%R` its length as
//! four bytes, `%k %K` key and length, `%T %d` timestamp, `%h` headers (`%h{…}` header by header), `%H` their
//! count, `%t` topic, `%p` partition, `%o` offset, `%e` leader epoch, `%x %y` producer id and epoch,
//! `%a{compression|timestamp-type|transactional-bit|control-bit}`, `%[ %| %]` log start, last stable offset
//! and high watermark, `%i` the record's number. Braces say the encoding: `%k{hex}`, `%T{rfc3339}`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::record::{HeaderRef, TimestampType};

use super::RecordView;
use super::verbs::{NumberForm, Piece, TextForm, decimal, pieces};

/// A compiled format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFormat {
    steps: Vec<Step>,
    /// What stands for null where text is printed.
    null: &'static [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Literal(Vec<u8>),
    Text(Text, TextForm),
    Number(Number, NumberForm),
    Time(TimeForm),
    /// kcat's `name=value,name=value`.
    HeaderList,
    Headers(Vec<HeaderStep>),
    Compression,
    TimestampType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Topic,
    Key,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Partition,
    Offset,
    Timestamp,
    KeyLength,
    ValueLength,
    HeaderCount,
    LeaderEpoch,
    ProducerId,
    ProducerEpoch,
    LogStart,
    LastStable,
    HighWatermark,
    Iteration,
    IsTransactional,
    IsControl,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TimeForm {
    Rfc3339,
    Strftime(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HeaderStep {
    Literal(Vec<u8>),
    Key(TextForm),
    Value(TextForm),
    KeyLength(NumberForm),
    ValueLength(NumberForm),
}

const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

impl OutputFormat {
    /// Compiles `format`; with `show_null` a null key or value prints as `NULL`, else as nothing.
    ///
    /// # Errors
    /// A message that names the verb or the encoding that is none.
    pub fn compile(format: &str, show_null: bool) -> Result<Self, String> {
        let steps = pieces(format)?.into_iter().map(Step::new).collect::<Result<_, _>>()?;
        Ok(Self { steps, null: if show_null { b"NULL" } else { b"" } })
    }

    /// The value, preceded by key and `key_delimiter` where there is one, and `delimiter`.
    #[must_use]
    pub fn delimited(delimiter: &[u8], key_delimiter: Option<&[u8]>, show_null: bool) -> Self {
        let mut steps = Vec::new();
        if let Some(key_delimiter) = key_delimiter {
            steps.push(Step::Text(Text::Key, TextForm::Raw));
            steps.push(Step::Literal(key_delimiter.to_vec()));
        }
        steps.push(Step::Text(Text::Value, TextForm::Raw));
        if !delimiter.is_empty() {
            steps.push(Step::Literal(delimiter.to_vec()));
        }
        Self { steps, null: if show_null { b"NULL" } else { b"" } }
    }

    /// Where the format is no more than a value and a delimiter: the delimiter. Nothing else of a record
    /// need be looked at then.
    #[must_use]
    pub fn value_only(&self) -> Option<&[u8]> {
        match self.steps.as_slice() {
            _ if !self.null.is_empty() => None,
            [Step::Text(Text::Value, TextForm::Raw)] => Some(b""),
            [Step::Text(Text::Value, TextForm::Raw), Step::Literal(delimiter)] => Some(delimiter),
            _ => None,
        }
    }

    /// Whether any header is printed.
    #[must_use]
    pub fn wants_headers(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step, Step::HeaderList | Step::Headers(_) | Step::Number(Number::HeaderCount, _))
        })
    }

    /// Appends `record`, the `iteration`th, to `out`.
    ///
    /// # Errors
    /// Where a value does not fit its encoding. What was appended before stays in `out`.
    pub fn write(&self, record: &RecordView<'_>, iteration: i64, out: &mut Vec<u8>) -> Result<(), String> {
        for step in &self.steps {
            match step {
                Step::Literal(bytes) => out.extend_from_slice(bytes),
                Step::Text(text, form) => match text.of(record) {
                    Some(bytes) => form.write(bytes, out)?,
                    None => out.extend_from_slice(self.null),
                },
                Step::Number(number, form) => form.write(number.of(record, iteration), out)?,
                Step::Time(form) => form.write(record.timestamp_ms, out)?,
                Step::HeaderList => write_header_list(&record.headers, out),
                Step::Headers(steps) => {
                    for header in &record.headers {
                        write_header(steps, header, self.null, out)?;
                    }
                }
                Step::Compression => out.extend_from_slice(codec_name(record.batch.attributes).as_bytes()),
                Step::TimestampType => {
                    let name = timestamp_type_name(record.timestamp_ms, record.timestamp_type);
                    out.extend_from_slice(name.as_bytes());
                }
            }
        }
        Ok(())
    }
}

impl Step {
    fn new(piece: Piece<'_>) -> Result<Self, String> {
        let (verb, argument) = match piece {
            Piece::Literal(bytes) => return Ok(Self::Literal(bytes)),
            Piece::Verb(verb, argument) => (verb, argument),
        };
        if let Some(text) = Text::from_verb(verb) {
            return Ok(Self::Text(text, text_form(verb, argument)?));
        }
        let number = match verb {
            'T' | 'd' => match time_form(argument) {
                Some(form) => return Ok(Self::Time(form)),
                None => Number::Timestamp,
            },
            'h' => return Self::headers(argument),
            'a' => return attribute(argument),
            'R' => return Ok(Self::Number(Number::ValueLength, number_form(verb, argument, "big32")?)),
            verb => Number::from_verb(verb).ok_or_else(|| format!("%{verb} is no verb"))?,
        };
        Ok(Self::Number(number, number_form(verb, argument, "")?))
    }

    fn headers(argument: Option<&str>) -> Result<Self, String> {
        let Some(argument) = argument else { return Ok(Self::HeaderList) };
        let steps = pieces(argument)?.into_iter().map(|piece| match piece {
            Piece::Literal(bytes) => Ok(HeaderStep::Literal(bytes)),
            Piece::Verb('k', form) => text_form('k', form).map(HeaderStep::Key),
            Piece::Verb(verb @ ('v' | 's'), form) => text_form(verb, form).map(HeaderStep::Value),
            Piece::Verb('K', form) => number_form('K', form, "").map(HeaderStep::KeyLength),
            Piece::Verb(verb @ ('V' | 'S'), form) => number_form(verb, form, "").map(HeaderStep::ValueLength),
            Piece::Verb(verb, _) => Err(format!("%{verb} is no verb of a header: %k %K %v %V are")),
        });
        steps.collect::<Result<_, _>>().map(Self::Headers)
    }
}

fn attribute(argument: Option<&str>) -> Result<Step, String> {
    match argument {
        Some("compression") => Ok(Step::Compression),
        Some("timestamp-type") => Ok(Step::TimestampType),
        Some("transactional-bit") => Ok(Step::Number(Number::IsTransactional, NumberForm::Ascii)),
        Some("control-bit") => Ok(Step::Number(Number::IsControl, NumberForm::Ascii)),
        _ => Err("%a wants {compression}, {timestamp-type}, {transactional-bit} or {control-bit}".to_owned()),
    }
}

pub(super) fn text_form(verb: char, argument: Option<&str>) -> Result<TextForm, String> {
    let name = argument.unwrap_or_default();
    TextForm::parse(name).ok_or_else(|| {
        format!("%{verb}{{{name}}}: {name:?} is no encoding; hex, base64, base64raw, base64url and json are")
    })
}

pub(super) fn number_form(verb: char, argument: Option<&str>, default: &str) -> Result<NumberForm, String> {
    let name = argument.unwrap_or(default);
    NumberForm::parse(name).ok_or_else(|| {
        format!("%{verb}{{{name}}}: {name:?} is no form of a number; ascii, hex, big32, little16 … are")
    })
}

fn time_form(argument: Option<&str>) -> Option<TimeForm> {
    let argument = argument?;
    if matches!(argument, "rfc3339" | "iso" | "iso8601") {
        return Some(TimeForm::Rfc3339);
    }
    let pattern = argument.strip_prefix("strftime[")?.strip_suffix(']')?;
    Some(TimeForm::Strftime(pattern.to_owned()))
}

impl TimeForm {
    fn write(&self, timestamp_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        let time = Timestamp::from_millisecond(timestamp_ms)
            .map_err(|_| format!("the timestamp {timestamp_ms} is beyond the calendar"))?;
        match self {
            Self::Rfc3339 => out.extend_from_slice(format!("{time:.3}").as_bytes()),
            Self::Strftime(pattern) => {
                let zoned = time.to_zoned(TimeZone::UTC);
                let text = jiff::fmt::strtime::format(pattern, &zoned)
                    .map_err(|error| format!("strftime[{pattern}]: {error}"))?;
                out.extend_from_slice(text.as_bytes());
            }
        }
        Ok(())
    }
}

impl Text {
    fn from_verb(verb: char) -> Option<Self> {
        Some(match verb {
            't' => Self::Topic,
            'k' => Self::Key,
            's' | 'v' => Self::Value,
            _ => return None,
        })
    }

    fn of<'a>(self, record: &RecordView<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Topic => Some(record.topic.as_bytes()),
            Self::Key => record.key,
            Self::Value => record.value,
        }
    }
}

impl Number {
    fn from_verb(verb: char) -> Option<Self> {
        Some(match verb {
            'p' => Self::Partition,
            'o' => Self::Offset,
            'K' => Self::KeyLength,
            'S' | 'V' => Self::ValueLength,
            'H' => Self::HeaderCount,
            'e' => Self::LeaderEpoch,
            'x' => Self::ProducerId,
            'y' => Self::ProducerEpoch,
            '[' => Self::LogStart,
            '|' => Self::LastStable,
            ']' => Self::HighWatermark,
            'i' => Self::Iteration,
            _ => return None,
        })
    }

    fn of(self, record: &RecordView<'_>, iteration: i64) -> i64 {
        match self {
            Self::Partition => i64::from(record.partition),
            Self::Offset => record.offset,
            Self::Timestamp => record.timestamp_ms,
            Self::KeyLength => length(record.key),
            Self::ValueLength => length(record.value),
            Self::HeaderCount => record.headers.len() as i64,
            Self::LeaderEpoch => i64::from(record.batch.leader_epoch),
            Self::ProducerId => record.batch.producer_id,
            Self::ProducerEpoch => i64::from(record.batch.producer_epoch),
            Self::LogStart => record.log.log_start,
            Self::LastStable => record.log.last_stable,
            Self::HighWatermark => record.log.high_watermark,
            Self::Iteration => iteration,
            Self::IsTransactional => i64::from(record.batch.attributes & TRANSACTIONAL_BIT != 0),
            Self::IsControl => i64::from(record.batch.attributes & CONTROL_BIT != 0),
        }
    }
}

/// -1 for null, as kcat.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn write_header_list(headers: &[HeaderRef<'_>], out: &mut Vec<u8>) {
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.key);
        out.push(b'=');
        out.extend_from_slice(header.value.unwrap_or(b"NULL"));
    }
}

fn write_header(
    steps: &[HeaderStep],
    header: &HeaderRef<'_>,
    null: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    for step in steps {
        match step {
            HeaderStep::Literal(bytes) => out.extend_from_slice(bytes),
            HeaderStep::Key(form) => form.write(header.key, out)?,
            HeaderStep::Value(form) => match header.value {
                Some(value) => form.write(value, out)?,
                None => out.extend_from_slice(null),
            },
            HeaderStep::KeyLength(form) => form.write(header.key.len() as i64, out)?,
            HeaderStep::ValueLength(form) => form.write(length(header.value), out)?,
        }
    }
    Ok(())
}

fn codec_name(attributes: i16) -> &'static str {
    match attributes & 7 {
        0 => "none",
        1 => "gzip",
        2 => "snappy",
        3 => "lz4",
        4 => "zstd",
        _ => "unknown",
    }
}

/// Kafka's name of a timestamp's type; a record may have none.
pub(super) fn timestamp_type_name(timestamp_ms: i64, kind: TimestampType) -> &'static str {
    match kind {
        TimestampType::CreateTime if timestamp_ms < 0 => "NoTimestampType",
        kind => kind.name(),
    }
}

/// A number, in decimal, for the JSON writer.
pub fn write_decimal(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

#[cfg(test)]
mod tests {
    use super::super::{BatchFacts, LogFacts};
    use super::*;

    fn record() -> RecordView<'static> {
        RecordView {
            topic: "orders",
            partition: 3,
            offset: 42,
            timestamp_ms: 1_767_225_600_123,
            timestamp_type: TimestampType::CreateTime,
            key: Some(b"k\xff"),
            value: Some(b"hello"),
            headers: vec![
                HeaderRef { key: b"a", value: Some(b"1") },
                HeaderRef { key: b"a", value: None },
                HeaderRef { key: b"b", value: Some(b"") },
            ],
            batch: BatchFacts { leader_epoch: 5, producer_id: 9, producer_epoch: 1, attributes: 0x14 },
            log: LogFacts { log_start: 1, last_stable: 50, high_watermark: 60 },
        }
    }

    fn print(format: &str, record: &RecordView<'_>) -> String {
        let mut out = Vec::new();
        let compiled = OutputFormat::compile(format, false).unwrap_or_else(|e| panic!("{format}: {e}"));
        compiled.write(record, 7, &mut out).unwrap_or_else(|e| panic!("{format}: {e}"));
        out.into_iter().map(|byte| byte as char).collect()
    }

    #[test]
    fn every_verb_prints_what_it_says() {
        let cases = [
            ("%t-%p@%o", "orders-3@42"),
            ("%s|%v|%S|%V", "hello|hello|5|5"),
            ("%R", "\0\0\0\u{5}"),
            ("%k{hex} %k{base64} %k{base64raw} %K", "6bff a/8= a/8 2"),
            ("%T %d", "1767225600123 1767225600123"),
            ("%T{rfc3339}", "2026-01-01T00:00:00.123Z"),
            ("%T{strftime[%Y/%m/%d]}", "2026/01/01"),
            ("%h", "a=1,a=NULL,b="),
            ("%H %h{<%k:%V:%v>}", "3 <a:1:1><a:-1:><b:0:>"),
            ("%e %x %y %i", "5 9 1 7"),
            (
                "%a{compression} %a{timestamp-type} %a{transactional-bit} %a{control-bit}",
                "zstd CreateTime 1 0",
            ),
            ("%[ %| %]", "1 50 60"),
            ("%o{hex16} %p{big16} %p{little16}", "002a \0\u{3} \u{3}\0"),
            ("%%\\t%{%}\\x41", "%\t{}A"),
            ("%v{json}", "\"hello\""),
        ];
        for (format, expected) in cases {
            assert_eq!(print(format, &record()), expected, "{format}");
        }
    }

    #[test]
    fn nulls_print_as_nothing_or_as_null() {
        let tombstone = RecordView { key: None, value: None, ..record() };
        assert_eq!(print("[%k|%s|%K|%S]", &tombstone), "[||-1|-1]");
        let mut out = Vec::new();
        OutputFormat::compile("%k %s", true).unwrap().write(&tombstone, 0, &mut out).unwrap();
        assert_eq!(out, b"NULL NULL");
    }

    #[test]
    fn unknown_verbs_and_encodings_are_named() {
        for (format, named) in [
            ("%q", "%q"),
            ("%k{rot13}", "rot13"),
            ("%p{big24}", "big24"),
            ("%a", "compression"),
            ("%h{%o}", "%o"),
            ("%", "%%"),
        ] {
            let error = OutputFormat::compile(format, false).unwrap_err();
            assert!(error.contains(named), "{format}: {error}");
        }
    }

    #[test]
    fn what_does_not_fit_its_encoding_is_an_error() {
        let format = OutputFormat::compile("%k{json}", false).unwrap();
        assert!(format.write(&record(), 0, &mut Vec::new()).is_err());
    }

    #[test]
    fn the_default_is_recognised_as_value_only() {
        assert_eq!(OutputFormat::delimited(b"\n", None, false).value_only(), Some(&b"\n"[..]));
        assert_eq!(OutputFormat::compile("%s\\n", false).unwrap().value_only(), Some(&b"\n"[..]));
        assert_eq!(OutputFormat::delimited(b"", None, false).value_only(), Some(&b""[..]));
        assert_eq!(OutputFormat::delimited(b"\n", None, true).value_only(), None);
        assert_eq!(OutputFormat::delimited(b"\n", Some(b":"), false).value_only(), None);
    }
}
