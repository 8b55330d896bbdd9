//! JSON to the letter as Kafka's tools print it: no spaces, control characters escaped in upper-case hex, and
//! floating point as Java writes it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter, Serializer};

struct JavaFormatter;

impl Formatter for JavaFormatter {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(java_double(value).as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04X}"),
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
        }
    }
}

/// Writes `value` on one line, without its end.
pub(super) fn write(writer: &mut dyn Write, value: &Value) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(writer, JavaFormatter)).map_err(io::Error::from)
}

/// `Double.toString`: plain from a thousandth to ten million, else with an exponent; always with a fraction.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_read_as_java_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (1024.0, "1024.0"),
            (0.5, "0.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (-2.5e300, "-2.5E300"),
        ];
        for (value, text) in cases {
            assert_eq!(java_double(value), text);
        }
    }

    #[test]
    fn control_characters_are_escaped_in_upper_case() {
        let mut out = Vec::new();
        write(&mut out, &serde_json::json!({"a": "\u{1f}\n\u{7f}ü\"\\/"})).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":\"\\u001F\\n\u{7f}ü\\\"\\\\/\"}");
    }
}
