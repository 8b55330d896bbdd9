//! Java's properties syntax, as `server.properties` and `meta.properties` are written in.
//!
//! `#` and `!` begin a comment; a key ends at `=`, `:` or white space; a backslash at the end of a line
//! continues it, before another character it takes its meaning away, and `\uXXXX`, `\t`, `\n`, `\r`, `\f`
//! are characters. Lines end with `\n`, `\r` or both.

use std::iter::Peekable;
use std::str::Chars;

use super::error::ConfigError;

/// Reads all pairs in the order they stand in; a key may come twice, and then the last one counts.
///
/// # Errors
/// [`ConfigError::Syntax`] for a broken `\u` escape.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    let mut lines = LogicalLines { rest: text.strip_prefix('\u{feff}').unwrap_or(text), number: 0 };
    while let Some((number, line)) = lines.next_line() {
        let syntax = |why: String| ConfigError::Syntax { line: number, why };
        pairs.push(split_pair(&line).map_err(syntax)?);
    }
    Ok(pairs)
}

/// Lines with their continuations joined, without comments and blank ones.
struct LogicalLines<'a> {
    rest: &'a str,
    number: usize,
}

impl LogicalLines<'_> {
    fn next_physical(&mut self) -> Option<&str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r'])).unwrap_or(rest);
        Some(line.trim_start_matches(is_blank))
    }

    fn next_line(&mut self) -> Option<(usize, String)> {
        loop {
            let line = self.next_physical()?;
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = line.to_owned();
            let number = self.number;
            while ends_with_continuation(&logical) {
                logical.pop();
                match self.next_physical() {
                    Some(next) => logical.push_str(next),
                    None => break,
                }
            }
            return Some((number, logical));
        }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// An even number of backslashes at the end are backslashes; an odd one is left over.
fn ends_with_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn split_pair(line: &str) -> Result<(String, String), String> {
    let mut chars = line.chars().peekable();
    let key = unescape(&mut chars, |c| is_blank(c) || matches!(c, '=' | ':'))?;
    while chars.next_if(|&c| is_blank(c)).is_some() {}
    if chars.next_if(|&c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(|&c| is_blank(c)).is_some() {}
    }
    let value = unescape(&mut chars, |_| false)?;
    Ok((key, value))
}

fn unescape(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> Result<String, String> {
    let mut text = String::new();
    // Java's escapes are UTF-16 units: a pair of them may make one character.
    let mut units: Vec<u16> = Vec::new();
    while let Some(c) = chars.next_if(|&c| !ends(c)) {
        let plain = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(unicode_escape(chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        text.push_str(&String::from_utf16_lossy(&std::mem::take(&mut units)));
        text.push(plain);
    }
    text.push_str(&String::from_utf16_lossy(&units));
    Ok(text)
}

fn unicode_escape(chars: &mut Peekable<Chars<'_>>) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    match u16::from_str_radix(&digits, 16) {
        Ok(unit) if digits.len() == 4 => Ok(unit),
        _ => Err(format!("\\u must be followed by four hexadecimal digits, not {digits:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (String, String) {
        let mut pairs = parse(text).unwrap();
        assert_eq!(pairs.len(), 1, "{text:?}");
        pairs.remove(0)
    }

    #[test]
    fn keys_end_at_equals_colon_or_space() {
        for text in ["a=b", "a:b", "a b", "a = b", "  a\t:\tb", "a\\\n  =b", "a=b\r\n", "# x\n\n!y\na=b"] {
            assert_eq!(one(text), ("a".to_owned(), "b".to_owned()), "{text:?}");
        }
        assert_eq!(one("a"), ("a".to_owned(), String::new()));
        assert_eq!(one("a==b"), ("a".to_owned(), "=b".to_owned()));
        assert_eq!(one("a b=c"), ("a".to_owned(), "b=c".to_owned()));
    }

    #[test]
    fn escapes_and_continuations_are_undone() {
        assert_eq!(one("a\\ b\\=c=d\\\\"), ("a b=c".to_owned(), "d\\".to_owned()));
        assert_eq!(one("k=one,\\\n   two,\\\n\tthree"), ("k".to_owned(), "one,two,three".to_owned()));
        assert_eq!(one("k=\\u00e4\\ud83d\\ude00\\t."), ("k".to_owned(), "ä😀\t.".to_owned()));
        assert_eq!(one("k=C:\\temp"), ("k".to_owned(), "C:\temp".to_owned()));
        assert_eq!(one("k=v\\"), ("k".to_owned(), "v".to_owned()));
        assert_eq!(
            parse("a=1\nb=\\u12").unwrap_err().to_string(),
            "line 2: \\u must be followed by four hexadecimal digits, not \"12\""
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a\\\\=: \t\n\r#!u0-9ä\u{feff}]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn escaped_pairs_come_back(key in "[a-z.]{1,20}", value in ".{0,40}") {
            let escaped: String = value
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            assert_eq!(parse(&format!("{key}={escaped}")).unwrap(), [(key, value)]);
        }
    }
}
