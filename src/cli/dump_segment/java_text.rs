//! Bytes as Java's `new String(bytes, UTF_8)` shows them: what Kafka's tool prints of keys and values.
//!
//! Java and Rust replace what is no UTF-8 alike, but for encoded surrogates (`ED A0..BF`): Java takes such a
//! sequence, two or three bytes long, for one character; Rust takes each byte for one.

use std::borrow::Cow;

const REPLACEMENT: char = '\u{fffd}';

/// The text of `bytes`, with a replacement character for each piece that Java cannot read.
pub fn java_text(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Owned(_) if has_surrogate(bytes) => Cow::Owned(with_surrogates(bytes)),
        text => text,
    }
}

fn has_surrogate(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| surrogate_bytes(pair) > 0)
}

/// How many bytes at the front Java reads as one surrogate; 0 where there is none.
fn surrogate_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => 3,
        [0xED, 0xA0..=0xBF, ..] => 2,
        _ => 0,
    }
}

fn with_surrogates(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        rest = &rest[chunk.valid().len()..];
        if chunk.invalid().is_empty() {
            continue;
        }
        text.push(REPLACEMENT);
        rest = &rest[surrogate_bytes(rest).max(chunk.invalid().len())..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_are_one_character_each() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            (b"a\xED\xA0\x80b", "a\u{fffd}b"),
            (b"\xED\xA0b", "\u{fffd}b"),
            (b"\xED\xBF", "\u{fffd}"),
            (b"\xED", "\u{fffd}"),
            (b"\xFF\xED\xA0\x80\xFF", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xE2\x82b", "\u{fffd}b"),
        ];
        for (bytes, text) in cases {
            assert_eq!(java_text(bytes), *text, "{bytes:x?}");
        }
    }
}
