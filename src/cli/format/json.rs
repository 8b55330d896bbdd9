//! Records as JSON, one object a line, both ways.
//!
//! Out: `{"topic","partition","offset","timestamp","timestamp_type","key","value","headers":[{"key","value"}]}`.
//! Null is null; bytes that are not UTF-8 stand under the same name with `_base64` behind it. In: the same,
//! and what kcat -J prints (`payload`, `ts`, `tstype`, headers as one flat list). A name that is neither is
//! an error: a mistyped `"vlaue"` must not become a tombstone.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::record::HeaderRef;

use super::output::{timestamp_type_name, write_decimal};
use super::{InputHeader, InputRecord, RecordView};

/// What other tools print beside a record and we have no use for.
const IGNORED: &[&str] = &[
    "offset",
    "timestamp_type",
    "tstype",
    "broker",
    "leader_epoch",
    "key_error",
    "payload_error",
    "key_schema_id",
    "value_schema_id",
    "key_size",
    "value_size",
    "control",
];

/// Appends `record` as one line.
pub fn write(record: &RecordView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_string(record.topic, out);
    out.extend_from_slice(b",\"partition\":");
    write_decimal(i64::from(record.partition), out);
    out.extend_from_slice(b",\"offset\":");
    write_decimal(record.offset, out);
    out.extend_from_slice(b",\"timestamp\":");
    write_decimal(record.timestamp_ms, out);
    out.extend_from_slice(b",\"timestamp_type\":\"");
    out.extend_from_slice(timestamp_type_name(record.timestamp_ms, record.timestamp_type).as_bytes());
    out.extend_from_slice(b"\",");
    write_bytes("key", record.key, out);
    out.push(b',');
    write_bytes("value", record.value, out);
    out.extend_from_slice(b",\"headers\":[");
    for (index, header) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",{" } else { b"{" });
        write_header(header, out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn write_header(header: &HeaderRef<'_>, out: &mut Vec<u8>) {
    write_bytes("key", Some(header.key), out);
    out.push(b',');
    write_bytes("value", header.value, out);
}

/// `"name":"text"`, `"name":null` or `"name_base64":"…"`.
fn write_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match bytes.map(std::str::from_utf8) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            write_string(text, out);
        }
        Some(Err(_)) => {
            out.extend_from_slice(b"_base64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes.unwrap_or_default()).as_bytes());
            out.push(b'"');
        }
    }
}

/// A JSON string: what needs no escape is copied in runs.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Reads one record from one line.
///
/// # Errors
/// A message that names the field.
pub fn read(line: &[u8]) -> Result<InputRecord<'static>, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| not_json(line, &error))?;
    let Value::Object(mut object) = value else {
        return Err("a JSON object is expected".to_owned());
    };
    let key = bytes(&mut object, &["key"])?.flatten();
    let value = bytes(&mut object, &["value", "payload"])?.ok_or_else(|| {
        "there is no \"value\" (nor \"value_base64\", nor \"payload\"); a tombstone is \"value\":null"
            .to_owned()
    })?;
    let record = InputRecord {
        topic: topic(&mut object)?,
        partition: partition(&mut object)?,
        timestamp_ms: timestamp(&mut object)?,
        key,
        value,
        headers: headers(object.remove("headers"))?,
    };
    match object.keys().find(|name| !IGNORED.contains(&name.as_str())) {
        Some(name) => Err(format!("{name:?} is no field of a record")),
        None => Ok(record),
    }
}

/// kcat -J writes bytes as they are, text or not.
fn not_json(line: &[u8], error: &serde_json::Error) -> String {
    match std::str::from_utf8(line) {
        Ok(_) => format!("not JSON: {error}"),
        Err(error) => format!(
            "not UTF-8 from byte {} on, so not JSON; bytes that are no text stand in base64, as \"value_base64\" \
             or \"key_base64\": 'klamm consume --json' prints them so, kcat -J does not",
            error.valid_up_to() + 1
        ),
    }
}

type Nullable = Option<Cow<'static, [u8]>>;

/// The bytes under one of `names`, plain or in base64; the outer `None` where there are none.
fn bytes(object: &mut Map<String, Value>, names: &[&str]) -> Result<Option<Nullable>, String> {
    let mut found = None;
    for name in names {
        for (name, is_base64) in [((*name).to_owned(), false), (format!("{name}_base64"), true)] {
            let Some(value) = object.remove(&name) else { continue };
            if found.is_some() {
                return Err(format!("{name:?} says again what another field says"));
            }
            found = Some(match value {
                Value::Null => None,
                Value::String(text) if is_base64 => {
                    let decoded = STANDARD.decode(&text).map_err(|error| format!("{name}: {error}"))?;
                    Some(Cow::Owned(decoded))
                }
                Value::String(text) => Some(Cow::Owned(text.into_bytes())),
                _ => return Err(format!("{name:?} is neither a string nor null")),
            });
        }
    }
    Ok(found)
}

fn topic(object: &mut Map<String, Value>) -> Result<Option<Cow<'static, str>>, String> {
    match object.remove("topic") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(Cow::Owned(name))),
        Some(_) => Err("\"topic\" is not a string".to_owned()),
    }
}

fn partition(object: &mut Map<String, Value>) -> Result<Option<i32>, String> {
    match object.remove("partition") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
            number.filter(|&n| n >= 0).map(Some).ok_or_else(|| format!("\"partition\" is {value}"))
        }
    }
}

/// Milliseconds, or RFC 3339.
fn timestamp(object: &mut Map<String, Value>) -> Result<Option<i64>, String> {
    let given = object.remove("timestamp").or_else(|| object.remove("ts"));
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text
            .parse::<jiff::Timestamp>()
            .map(|time| Some(time.as_millisecond()))
            .map_err(|error| format!("\"timestamp\": {error}")),
        Some(value) => match value.as_i64() {
            Some(millis) => Ok(Some(millis)),
            None => Err(format!("\"timestamp\" is {value}; milliseconds or RFC 3339 are expected")),
        },
    }
}

/// A list of objects, or kcat's flat list of names and values in turn.
fn headers(given: Option<Value>) -> Result<Vec<InputHeader<'static>>, String> {
    let list = match given {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("\"headers\" is not a list".to_owned()),
    };
    if list.first().is_some_and(Value::is_string) {
        return flat_headers(list);
    }
    list.into_iter().enumerate().map(|(index, header)| object_header(index, header)).collect()
}

fn object_header(index: usize, header: Value) -> Result<InputHeader<'static>, String> {
    let wrong = |why: String| format!("header {index}: {why}");
    let Value::Object(mut header) = header else {
        return Err(wrong("an object with \"key\" and \"value\" is expected".to_owned()));
    };
    let key = bytes(&mut header, &["key"]).map_err(wrong)?.flatten();
    let key = key.ok_or_else(|| wrong("there is no \"key\"".to_owned()))?;
    let value = bytes(&mut header, &["value"]).map_err(wrong)?;
    let value = value.ok_or_else(|| wrong("there is no \"value\"".to_owned()))?;
    match header.keys().next() {
        Some(name) => Err(wrong(format!("{name:?} is no field of a header"))),
        None => Ok(InputHeader { key, value }),
    }
}

fn flat_headers(list: Vec<Value>) -> Result<Vec<InputHeader<'static>>, String> {
    let mut headers = Vec::with_capacity(list.len() / 2);
    let mut rest = list.into_iter();
    while let Some(key) = rest.next() {
        let (Value::String(key), Some(value)) = (key, rest.next()) else {
            return Err("\"headers\": names and values must take turns".to_owned());
        };
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(Cow::Owned(text.into_bytes())),
            _ => return Err(format!("the value of header {key:?} is neither a string nor null")),
        };
        headers.push(InputHeader { key: Cow::Owned(key.into_bytes()), value });
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::super::{BatchFacts, LogFacts};
    use super::*;
    use crate::record::TimestampType;

    fn view<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> RecordView<'a> {
        RecordView {
            topic: "t",
            partition: 2,
            offset: 7,
            timestamp_ms: 1_700_000_000_000,
            timestamp_type: TimestampType::CreateTime,
            key,
            value,
            headers: Vec::new(),
            batch: BatchFacts::default(),
            log: LogFacts::default(),
        }
    }

    fn print(record: &RecordView<'_>) -> String {
        let mut out = Vec::new();
        write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_prints_as_one_line_of_known_shape() {
        let mut record = view(None, Some(b"say \"hi\"\n\x01"));
        record.headers =
            vec![HeaderRef { key: b"h", value: Some(b"\xff") }, HeaderRef { key: b"h", value: None }];
        assert_eq!(
            print(&record),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":1700000000000,\
             \"timestamp_type\":\"CreateTime\",\"key\":null,\"value\":\"say \\\"hi\\\"\\n\\u0001\",\
             \"headers\":[{\"key\":\"h\",\"value_base64\":\"/w==\"},{\"key\":\"h\",\"value\":null}]}\n"
        );
    }

    #[test]
    fn what_was_printed_is_read_back() {
        let samples: [Option<&[u8]>; 6] = [
            None,
            Some(b""),
            Some(b"plain"),
            Some(b"\xff\x00\xfe"),
            Some("ä\u{2028}\u{7f}".as_bytes()),
            Some(b"\\\"\0"),
        ];
        for key in samples {
            for value in samples {
                let mut record = view(key, value);
                record.headers = vec![HeaderRef { key: b"\xc3", value: key }, HeaderRef { key: b"", value }];
                let read = read(print(&record).trim_end().as_bytes()).unwrap();
                assert_eq!((read.key.as_deref(), read.value.as_deref()), (key, value));
                assert_eq!(read.headers[0].key.as_ref(), b"\xc3");
                assert_eq!(read.headers[0].value.as_deref(), key);
                assert_eq!(read.headers[1].value.as_deref(), value);
                assert_eq!((read.topic.as_deref(), read.partition), (Some("t"), Some(2)));
                assert_eq!(read.timestamp_ms, Some(1_700_000_000_000));
            }
        }
    }

    #[test]
    fn kcats_shape_is_read() {
        let line = br#"{"topic":"t","partition":0,"offset":1,"tstype":"create","ts":1700000000000,"broker":1,
            "headers":["a","1","b",null],"key":"k","payload":"p"}"#;
        let record = read(line).unwrap();
        assert_eq!(record.value.as_deref(), Some(&b"p"[..]));
        assert_eq!(record.timestamp_ms, Some(1_700_000_000_000));
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[1], InputHeader { key: Cow::Borrowed(b"b"), value: None });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("", "not JSON"),
            ("[1]", "object"),
            ("{}", "\"value\""),
            ("{\"key\":\"a\"}", "\"value\""),
            ("{\"vlaue\":\"a\",\"value\":\"b\"}", "vlaue"),
            ("{\"value\":1}", "neither"),
            ("{\"value\":\"a\",\"payload\":\"b\"}", "again"),
            ("{\"value\":\"a\",\"partition\":-1}", "partition"),
            ("{\"value\":\"a\",\"partition\":1.5}", "partition"),
            ("{\"value\":\"a\",\"timestamp\":\"soon\"}", "timestamp"),
            ("{\"value\":\"a\",\"headers\":{\"a\":1}}", "not a list"),
            ("{\"value\":\"a\",\"headers\":[\"a\"]}", "turns"),
            ("{\"value\":\"a\",\"headers\":[{\"value\":\"x\"}]}", "header 0"),
            ("{\"value_base64\":\"!\"}", "value_base64"),
        ] {
            let error = read(line.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
