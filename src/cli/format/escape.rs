//! Backslash escapes of delimiters and format strings: `\n \r \t \0 \\ \xNN`.

/// Turns escapes into the bytes they stand for; everything else is taken as it is.
///
/// # Errors
/// A message that names the escape that is none.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let (escaped, length) = escape(rest)?;
            out.push(escaped);
            rest = &rest[length..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    Ok(out)
}

/// The byte that the escape at the front of `text` (which begins with a backslash) stands for, and how long
/// the escape is.
pub(super) fn escape(text: &[u8]) -> Result<(u8, usize), String> {
    let simple = match text.get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = text.get(2..4).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            return byte.map(|byte| (byte, 4)).ok_or_else(|| "\\x needs two hex digits".to_owned());
        }
        Some(&other) => {
            return Err(format!("\\{} is no escape: \\n \\r \\t \\0 \\\\ \\xNN are", other as char));
        }
        None => return Err("a lone backslash at the end; write \\\\".to_owned()),
    };
    Ok((simple, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_their_bytes() {
        let cases: [(&str, &[u8]); 7] = [
            ("", b""),
            ("plain", b"plain"),
            ("\\n\\r\\t\\0\\\\", b"\n\r\t\0\\"),
            ("\\x00\\xff\\x7C", b"\x00\xff|"),
            ("a\\nb", b"a\nb"),
            ("\n", b"\n"),
            ("ß", "ß".as_bytes()),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_is_an_error() {
        for bad in ["\\", "\\q", "\\x", "\\x1", "\\xg0", "a\\"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
