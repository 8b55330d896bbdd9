//! What format strings of both directions are made of: verbs, their encodings, literals.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::escape::escape;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextForm {
    /// As they are.
    Raw,
    Hex,
    Base64,
    Base64Raw,
    Base64Url,
    /// A JSON string; bytes that are not UTF-8 do not fit.
    Json,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberForm {
    /// Decimal digits.
    Ascii,
    /// Hexadecimal digits, as many as needed, or always that many.
    Hex(Option<u8>),
    /// Bytes, most significant first.
    Big(u8),
    /// Bytes, least significant first.
    Little(u8),
    /// Reading only: exactly so many decimal digits.
    Digits(u8),
    /// Writing only: `true` and `false`.
    Bool,
}

impl TextForm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "raw" => Self::Raw,
            "hex" => Self::Hex,
            "base64" => Self::Base64,
            "base64raw" => Self::Base64Raw,
            "base64url" => Self::Base64Url,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// Appends `bytes` in this form.
    pub(super) fn write(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Raw => out.extend_from_slice(bytes),
            Self::Hex => out.extend(bytes.iter().flat_map(|&byte| hex_digits(byte))),
            Self::Base64 => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
            Self::Base64Raw => out.extend_from_slice(STANDARD_NO_PAD.encode(bytes).as_bytes()),
            Self::Base64Url => out.extend_from_slice(URL_SAFE_NO_PAD.encode(bytes).as_bytes()),
            Self::Json => {
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| "{json} cannot print bytes that are not UTF-8; use {base64}".to_owned())?;
                serde_json::to_writer(out, text).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// How long `length` bytes are in this form; `None` where that depends on them.
    pub(super) fn encoded_length(self, length: usize) -> Option<usize> {
        match self {
            Self::Raw => Some(length),
            Self::Hex => length.checked_mul(2),
            Self::Base64 => length.div_ceil(3).checked_mul(4),
            Self::Base64Raw | Self::Base64Url => length.checked_mul(4).map(|bits| bits.div_ceil(3)),
            Self::Json => None,
        }
    }

    /// The bytes that `text` stands for in this form.
    pub(super) fn read(self, text: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Raw => Ok(text.to_vec()),
            Self::Hex => unhex(text).ok_or_else(|| "not hexadecimal".to_owned()),
            Self::Base64 | Self::Base64Raw => {
                let engine = if text.ends_with(b"=") { &STANDARD } else { &STANDARD_NO_PAD };
                engine.decode(text).map_err(|error| format!("not base64: {error}"))
            }
            Self::Base64Url => {
                URL_SAFE_NO_PAD.decode(text).map_err(|error| format!("not base64url: {error}"))
            }
            Self::Json => serde_json::from_slice::<String>(text)
                .map(String::into_bytes)
                .map_err(|error| format!("not a JSON string: {error}")),
        }
    }
}

fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

impl NumberForm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "ascii" | "number" | "dec" => Self::Ascii,
            "hex" => Self::Hex(None),
            "hex64" => Self::Hex(Some(16)),
            "hex32" => Self::Hex(Some(8)),
            "hex16" => Self::Hex(Some(4)),
            "hex8" => Self::Hex(Some(2)),
            "hex4" => Self::Hex(Some(1)),
            "big64" => Self::Big(8),
            "big32" => Self::Big(4),
            "big16" => Self::Big(2),
            "big8" | "byte" | "little8" => Self::Big(1),
            "little64" => Self::Little(8),
            "little32" => Self::Little(4),
            "little16" => Self::Little(2),
            "bool" => Self::Bool,
            digits => Self::Digits(digits.parse().ok().filter(|digits| (1..=19).contains(digits))?),
        })
    }

    /// Appends `number` in this form. What does not fit is an error: a cut length would shift all that
    /// follows. -1 (null) fits everywhere, as all ones.
    pub(super) fn write(self, number: i64, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Ascii | Self::Digits(_) => {
                out.extend_from_slice(decimal(number, &mut [0; 20]));
            }
            Self::Hex(None) => out.extend_from_slice(format!("{number:x}").as_bytes()),
            Self::Hex(Some(width)) => {
                let bits = fit(number, u32::from(width) * 4)?;
                out.extend_from_slice(format!("{bits:0width$x}", width = usize::from(width)).as_bytes());
            }
            Self::Big(width) => {
                let bits = fit(number, u32::from(width) * 8)?;
                out.extend_from_slice(&bits.to_be_bytes()[8 - usize::from(width)..]);
            }
            Self::Little(width) => {
                let bits = fit(number, u32::from(width) * 8)?;
                out.extend_from_slice(&bits.to_le_bytes()[..usize::from(width)]);
            }
            Self::Bool => out.extend_from_slice(if number == 0 { b"false" } else { b"true" }),
        }
        Ok(())
    }

    /// How many bytes this form takes when read; `None` where digits are read as far as they go.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Self::Ascii | Self::Bool | Self::Hex(None) => None,
            Self::Hex(Some(width)) | Self::Big(width) | Self::Little(width) | Self::Digits(width) => {
                Some(usize::from(width))
            }
        }
    }

    /// The number that `bytes` (of [`NumberForm::width`], where there is one) say. All ones is -1.
    pub(super) fn read(self, bytes: &[u8]) -> Result<i64, String> {
        let number = match self {
            Self::Ascii | Self::Digits(_) => text_number(bytes, 10),
            Self::Hex(width) => text_number(bytes, 16).map(|n| match width {
                Some(width) => sign(n as u64, u32::from(width) * 4),
                None => n,
            }),
            Self::Big(width) => {
                let bits = bytes.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
                Some(sign(bits, u32::from(width) * 8))
            }
            Self::Little(width) => {
                let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
                Some(sign(bits, u32::from(width) * 8))
            }
            Self::Bool => None,
        };
        number.ok_or_else(|| format!("{:?} is not a number", String::from_utf8_lossy(bytes)))
    }
}

/// `number` as the low `bits` bits.
fn fit(number: i64, bits: u32) -> Result<u64, String> {
    if bits >= 64 {
        return Ok(number as u64);
    }
    let all_ones = (1u64 << bits) - 1;
    match u64::try_from(number) {
        Err(_) if number == -1 => Ok(all_ones),
        // The largest value is taken by -1.
        Ok(number) if number < all_ones => Ok(number),
        _ => Err(format!("{number} does not fit in {bits} bits")),
    }
}

fn sign(number: u64, bits: u32) -> i64 {
    if bits < 64 && number == (1u64 << bits) - 1 { -1 } else { number as i64 }
}

fn text_number(bytes: &[u8], radix: u32) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    if radix == 16 && !text.starts_with('-') {
        return u64::from_str_radix(text, 16).ok().map(|bits| bits as i64);
    }
    i64::from_str_radix(text, radix).ok()
}

/// `number` in decimal, at the end of `buffer`.
pub(super) fn decimal(number: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// A piece of a format string, not yet given a meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Literal(Vec<u8>),
    /// `%c` or `%c{argument}`.
    Verb(char, Option<&'a str>),
}

/// Splits a format string into literals and verbs. `%%`, `%{` and `%}` are the characters themselves.
pub(super) fn pieces(format: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut at = 0;
    while let Some(character) = format[at..].chars().next() {
        match character {
            '\\' => {
                let (byte, length) = escape(&format.as_bytes()[at..])?;
                literal.push(byte);
                at += length;
            }
            '%' => {
                let verb = format[at + 1..].chars().next();
                let verb = verb.ok_or_else(|| "a lone % at the end; write %%".to_owned())?;
                at += 1 + verb.len_utf8();
                if matches!(verb, '%' | '{' | '}') {
                    literal.push(verb as u8);
                    continue;
                }
                let argument = if format[at..].starts_with('{') {
                    let length = braces(&format[at..]).ok_or_else(|| format!("%{verb}{{ is not closed"))?;
                    let inside = &format[at + 1..at + length - 1];
                    at += length;
                    Some(inside)
                } else {
                    None
                };
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Verb(verb, argument));
            }
            other => {
                let length = other.len_utf8();
                literal.extend_from_slice(&format.as_bytes()[at..at + length]);
                at += length;
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// The length of the braced text at the front of `text`, braces counted; inner pairs belong to it, and
/// `%{`, `%}` and what stands in brackets do not count.
fn braces(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut brackets, mut at) = (0, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'%' if matches!(bytes.get(at + 1), Some(b'%' | b'{' | b'}')) => at += 1,
            b'\\' => at += 1,
            b'[' if depth == 1 && bytes[at.saturating_sub(1)].is_ascii_alphanumeric() => brackets += 1,
            b']' if brackets > 0 => brackets -= 1,
            b'{' if brackets == 0 => depth += 1,
            b'}' if brackets == 0 => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_in_every_form() {
        let forms = "ascii hex hex64 hex32 hex16 big64 big32 big16 little64 little32 little16";
        for form in forms.split(' ').map(|name| NumberForm::parse(name).unwrap()) {
            for number in [-1, 0, 1, 255, 256, 65_534] {
                let mut out = Vec::new();
                form.write(number, &mut out).unwrap();
                if !(form == NumberForm::Hex(None) && number == -1) {
                    assert_eq!(form.read(&out), Ok(number), "{form:?} {number}");
                }
                assert!(form.width().is_none_or(|width| width == out.len()));
            }
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        for (form, number) in [("big8", 255), ("big16", 65_535), ("hex4", 16), ("little32", -2)] {
            assert!(NumberForm::parse(form).unwrap().write(number, &mut Vec::new()).is_err(), "{form}");
        }
    }

    #[test]
    fn decimals_print_to_the_ends_of_the_range() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn pieces_keep_nested_braces_together() {
        assert_eq!(
            pieces("%k{hex}\\t%h{%k=%v{hex} }%%%{x").unwrap(),
            [
                Piece::Verb('k', Some("hex")),
                Piece::Literal(b"\t".to_vec()),
                Piece::Verb('h', Some("%k=%v{hex} ")),
                Piece::Literal(b"%{x".to_vec()),
            ]
        );
        assert_eq!(pieces("%v{re[a{2}]}").unwrap(), [Piece::Verb('v', Some("re[a{2}]"))]);
        assert!(pieces("%k{hex").is_err());
        assert!(pieces("100%").is_err());
    }
}
