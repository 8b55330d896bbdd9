//! Records in: delimiters, format strings and JSON lines, taken from the front of a buffer.
//!
//! Nothing here reads: a [`Splitter`] looks at the bytes that are there and says whether they begin with a
//! whole record. What [`super::output`] prints with the same arguments, it reads back unchanged.

use std::borrow::Cow;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::json;
use super::output::{number_form, text_form};
use super::verbs::{NumberForm, Piece, TextForm, pieces};
use super::{InputHeader, InputRecord};

/// What stands at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Take<'a> {
    /// A record, and how many bytes it took.
    Record(usize, InputRecord<'a>),
    /// Nothing that counts (a blank line between JSON objects); so many bytes of it.
    Skip(usize),
    /// The beginning of a record: more bytes are needed.
    More,
    /// No record, and why. So many bytes are to be left out; 0 where the rest makes no sense at all.
    Wrong(usize, String),
}

/// How input is cut into records.
#[derive(Debug)]
pub enum Splitter {
    /// Values between delimiters, with or without a key in front.
    Delimited(Box<Delimited>),
    /// A compiled format string.
    Format(InputFormat),
    /// One JSON object a line.
    Json,
    /// All of it is one value, with or without a key in front.
    Whole {
        /// What ends the key.
        key_delimiter: Option<Vec<u8>>,
        /// Whether an empty part is null.
        empty_is_null: bool,
    },
}

impl Splitter {
    /// Takes what stands at the front of `bytes`; with `is_last`, nothing follows them. `bytes` is not empty.
    pub fn take<'a>(&self, bytes: &'a [u8], is_last: bool) -> Take<'a> {
        match self {
            Self::Delimited(delimited) => delimited.take(bytes, is_last),
            Self::Format(format) => format.take(bytes, is_last),
            Self::Json => take_json(bytes, is_last),
            Self::Whole { key_delimiter, empty_is_null } if is_last => {
                take_part(bytes, bytes.len(), key_delimiter.as_deref(), *empty_is_null)
            }
            Self::Whole { .. } => Take::More,
        }
    }

    /// Where the next record begins, after one that is too long to be held; `None` where that cannot be told.
    #[must_use]
    pub fn resume(&self, bytes: &[u8]) -> Option<Resume> {
        match self {
            Self::Delimited(delimited) => Some(delimited.resume(bytes)),
            Self::Json => Some(match memchr::memchr(b'\n', bytes) {
                Some(at) => Resume::At(at + 1),
                None => Resume::Later(bytes.len()),
            }),
            Self::Format(_) | Self::Whole { .. } => None,
        }
    }
}

/// The answer of [`Splitter::resume`].
#[derive(Debug, PartialEq, Eq)]
pub enum Resume {
    /// Here.
    At(usize),
    /// Not within these bytes, of which so many can be forgotten.
    Later(usize),
}

/// Values between delimiters.
#[derive(Debug)]
pub struct Delimited {
    delimiter: Finder<'static>,
    /// The delimiter where it is one byte, the usual case.
    byte: Option<u8>,
    key_delimiter: Option<Finder<'static>>,
    empty_is_null: bool,
}

impl Delimited {
    /// `delimiter` is not empty. With `key_delimiter`, what stands before its first occurrence is the key.
    #[must_use]
    pub fn new(delimiter: &[u8], key_delimiter: Option<&[u8]>, empty_is_null: bool) -> Self {
        let byte = if let [byte] = delimiter { Some(*byte) } else { None };
        Self {
            delimiter: Finder::new(delimiter).into_owned(),
            byte,
            key_delimiter: key_delimiter.map(|delimiter| Finder::new(delimiter).into_owned()),
            empty_is_null,
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self.byte {
            Some(byte) => memchr::memchr(byte, bytes),
            None => self.delimiter.find(bytes),
        }
    }

    fn take<'a>(&self, bytes: &'a [u8], is_last: bool) -> Take<'a> {
        let (part, taken) = match self.find(bytes) {
            Some(at) => (&bytes[..at], at + self.delimiter.needle().len()),
            None if is_last => (bytes, bytes.len()),
            None => return Take::More,
        };
        let key_delimiter = self.key_delimiter.as_ref().map(Finder::needle);
        take_part(part, taken, key_delimiter, self.empty_is_null)
    }

    fn resume(&self, bytes: &[u8]) -> Resume {
        let length = self.delimiter.needle().len();
        match self.find(bytes) {
            Some(at) => Resume::At(at + length),
            // The delimiter may have begun.
            None => Resume::Later(bytes.len().saturating_sub(length - 1)),
        }
    }
}

/// One record without its delimiter.
#[inline]
fn take_part<'a>(
    part: &'a [u8],
    taken: usize,
    key_delimiter: Option<&[u8]>,
    empty_is_null: bool,
) -> Take<'a> {
    let nullable = |part: &'a [u8]| (!(empty_is_null && part.is_empty())).then_some(Cow::Borrowed(part));
    let Some(key_delimiter) = key_delimiter else {
        return Take::Record(taken, InputRecord { value: nullable(part), ..InputRecord::default() });
    };
    let found = match key_delimiter {
        [byte] => memchr::memchr(*byte, part),
        delimiter => memchr::memmem::find(part, delimiter),
    };
    match found {
        Some(at) => {
            let (key, value) = (nullable(&part[..at]), nullable(&part[at + key_delimiter.len()..]));
            Take::Record(taken, InputRecord { key, value, ..InputRecord::default() })
        }
        None => {
            let delimiter = key_delimiter.escape_ascii();
            Take::Wrong(taken, format!("there is no key delimiter \"{delimiter}\" in it; it is not sent"))
        }
    }
}

fn take_json(bytes: &[u8], is_last: bool) -> Take<'_> {
    let (line, taken) = match memchr::memchr(b'\n', bytes) {
        Some(at) => (&bytes[..at], at + 1),
        None if is_last => (bytes, bytes.len()),
        None => return Take::More,
    };
    if line.iter().all(u8::is_ascii_whitespace) {
        return Take::Skip(taken);
    }
    match json::read(line) {
        Ok(record) => Take::Record(taken, record),
        Err(why) => Take::Wrong(taken, why),
    }
}

/// A compiled input format.
///
/// Text is as long as a length in front of it says (`%V{big32}%v`), else it ends where the literal behind it
/// begins. Lengths count the bytes that are meant, not the digits of an encoding; -1 is null.
#[derive(Debug)]
pub struct InputFormat {
    steps: Vec<Step>,
    empty_is_null: bool,
}

#[derive(Debug)]
enum Step {
    Literal(Vec<u8>),
    Text {
        field: Field,
        form: Form,
        until: Until,
    },
    Number(Number, NumberForm),
    /// A timestamp as text, until the literal.
    Time(Until),
    Headers(Vec<Step>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Topic,
    Key,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Partition,
    Timestamp,
    KeyLength,
    ValueLength,
    HeaderCount,
    /// Read and not used: offsets, epochs.
    Ignored,
}

#[derive(Debug)]
enum Form {
    Text(TextForm),
    Matching(Box<Regex>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Until {
    /// A length that was read before.
    Length,
    /// These bytes, which stay.
    Literal(Vec<u8>),
    /// The end of the input.
    End,
}

/// Why a format does not match here.
enum Mismatch {
    More,
    Wrong(String),
}

/// What is known while a record is being read.
#[derive(Default)]
struct Lengths {
    key: Option<i64>,
    value: Option<i64>,
    headers: Option<i64>,
}

impl InputFormat {
    /// Compiles `format`; with `empty_is_null`, an empty key or value without a length is null.
    ///
    /// # Errors
    /// A message that names the verb that cannot stand where it stands.
    pub fn compile(format: &str, empty_is_null: bool) -> Result<Self, String> {
        let steps = compile(format, false)?;
        if steps.is_empty() {
            return Err("the format is empty".to_owned());
        }
        Ok(Self { steps, empty_is_null })
    }

    fn take<'a>(&self, bytes: &'a [u8], is_last: bool) -> Take<'a> {
        let mut input = Input { bytes, at: 0, is_last, empty_is_null: self.empty_is_null };
        let mut record = InputRecord::default();
        match input.read(&self.steps, &mut record) {
            Ok(()) if input.at == 0 => {
                Take::Wrong(0, "the format matches without taking anything".to_owned())
            }
            Ok(()) => Take::Record(input.at, record),
            Err(Mismatch::More) if is_last => Take::Wrong(0, "the input ends inside of it".to_owned()),
            Err(Mismatch::More) => Take::More,
            Err(Mismatch::Wrong(why)) => Take::Wrong(0, why),
        }
    }
}

fn compile(format: &str, in_header: bool) -> Result<Vec<Step>, String> {
    let pieces = pieces(format)?;
    let mut steps = Vec::with_capacity(pieces.len());
    let (mut key_sized, mut value_sized, mut headers_counted) = (false, false, false);
    for (index, piece) in pieces.iter().enumerate() {
        let (verb, argument) = match piece {
            Piece::Literal(bytes) => {
                steps.push(Step::Literal(bytes.clone()));
                continue;
            }
            Piece::Verb(verb, argument) => (*verb, *argument),
        };
        let until = |is_sized: bool| match pieces.get(index + 1) {
            _ if is_sized => Ok(Until::Length),
            // A pattern knows its own end.
            _ if argument.is_some_and(|argument| argument.starts_with("re[")) => Ok(Until::End),
            Some(Piece::Literal(literal)) => Ok(Until::Literal(literal.clone())),
            None if !in_header => Ok(Until::End),
            _ => Err(format!("%{verb} needs its length in front of it, or a literal behind it")),
        };
        let step = match verb {
            't' if !in_header => text(Field::Topic, verb, argument, until(false)?)?,
            'k' => text(Field::Key, verb, argument, until(key_sized)?)?,
            's' | 'v' => text(Field::Value, verb, argument, until(value_sized)?)?,
            'K' => {
                key_sized = true;
                Step::Number(Number::KeyLength, number(verb, argument, "")?)
            }
            'S' | 'V' | 'R' => {
                value_sized = true;
                let default = if verb == 'R' { "big32" } else { "" };
                Step::Number(Number::ValueLength, number(verb, argument, default)?)
            }
            'H' if !in_header => {
                headers_counted = true;
                Step::Number(Number::HeaderCount, number(verb, argument, "")?)
            }
            'h' if !in_header => match argument {
                Some(inside) if headers_counted => {
                    let inner = compile(inside, true)?;
                    // A header that takes nothing could be counted for ever.
                    if !inner.iter().any(|step| matches!(step, Step::Text { field: Field::Key, .. })) {
                        return Err("%h{…} wants the header's name %k in it".to_owned());
                    }
                    Step::Headers(inner)
                }
                _ => return Err("%h wants their count %H in front, and %h{…} around one header".to_owned()),
            },
            'T' | 'd' if !in_header && matches!(argument, Some("rfc3339" | "iso" | "iso8601")) => {
                Step::Time(until(false)?)
            }
            'T' | 'd' if !in_header => Step::Number(Number::Timestamp, number(verb, argument, "")?),
            'p' if !in_header => Step::Number(Number::Partition, number(verb, argument, "")?),
            'o' | 'e' | 'x' | 'y' | 'i' if !in_header => {
                Step::Number(Number::Ignored, number(verb, argument, "")?)
            }
            verb => {
                return Err(format!("%{verb} cannot be read{}", if in_header { " in a header" } else { "" }));
            }
        };
        steps.push(step);
    }
    Ok(steps)
}

fn text(field: Field, verb: char, argument: Option<&str>, until: Until) -> Result<Step, String> {
    let pattern = argument.and_then(|argument| argument.strip_prefix("re[")?.strip_suffix(']'));
    let form = match pattern {
        Some(pattern) => {
            let regex =
                Regex::new(&format!("^(?:{pattern})")).map_err(|error| format!("%{verb}: {error}"))?;
            Form::Matching(Box::new(regex))
        }
        None => Form::Text(text_form(verb, argument)?),
    };
    if matches!((&form, &until), (Form::Text(TextForm::Json), Until::Length)) {
        return Err(format!("%{verb}{{json}} cannot have a length: how long it is depends on its escapes"));
    }
    Ok(Step::Text { field, form, until })
}

fn number(verb: char, argument: Option<&str>, default: &str) -> Result<NumberForm, String> {
    match number_form(verb, argument, default)? {
        NumberForm::Bool => Err(format!("%{verb}{{bool}} cannot be read as a number")),
        form => Ok(form),
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    is_last: bool,
    empty_is_null: bool,
}

impl<'a> Input<'a> {
    fn read(&mut self, steps: &[Step], record: &mut InputRecord<'a>) -> Result<(), Mismatch> {
        let mut lengths = Lengths::default();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Literal(literal) => self.literal(literal, index + 1 == steps.len())?,
                Step::Number(number, form) => {
                    let value = self.number(*form)?;
                    store_number(*number, value, &mut lengths, record)?;
                }
                Step::Time(until) => {
                    let text = self.until(until)?;
                    record.timestamp_ms = Some(time(text)?);
                }
                Step::Text { field, form, until } => {
                    let length = match field {
                        Field::Key => lengths.key,
                        Field::Value => lengths.value,
                        Field::Topic => None,
                    };
                    let text = self.text(form, until, length)?;
                    store_text(*field, text, record)?;
                }
                Step::Headers(inner) => {
                    for _ in 0..lengths.headers.unwrap_or(0) {
                        let mut header = InputRecord::default();
                        self.read(inner, &mut header)?;
                        let key = header.key.unwrap_or_default();
                        record.headers.push(InputHeader { key, value: header.value });
                    }
                }
            }
        }
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Mismatch> {
        let taken = self.rest().get(..count).ok_or(Mismatch::More)?;
        self.at += count;
        Ok(taken)
    }

    /// The last literal of a record may be missing at the end of the input, as the last newline of a file.
    fn literal(&mut self, literal: &[u8], is_final: bool) -> Result<(), Mismatch> {
        let rest = self.rest();
        if rest.starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        if literal.starts_with(rest) {
            return if is_final && self.is_last && rest.is_empty() { Ok(()) } else { Err(Mismatch::More) };
        }
        let found = &rest[..rest.len().min(16)];
        let (wanted, found) = (literal.escape_ascii(), found.escape_ascii());
        Err(Mismatch::Wrong(format!("\"{wanted}\" is expected where \"{found}\" stands")))
    }

    fn number(&mut self, form: NumberForm) -> Result<i64, Mismatch> {
        let digits = match form.width() {
            Some(width) => self.take(width)?,
            None => {
                let is_hex = matches!(form, NumberForm::Hex(_));
                let is_digit = |&byte: &u8| byte.is_ascii_digit() || (is_hex && byte.is_ascii_hexdigit());
                let rest = self.rest();
                let sign = usize::from(rest.first() == Some(&b'-'));
                let count = sign + rest.iter().skip(sign).take_while(|byte| is_digit(byte)).count();
                if count == rest.len() && !self.is_last {
                    return Err(Mismatch::More);
                }
                self.take(count)?
            }
        };
        form.read(digits).map_err(Mismatch::Wrong)
    }

    fn until(&mut self, until: &Until) -> Result<&'a [u8], Mismatch> {
        let rest = self.rest();
        let count = match until {
            Until::Literal(literal) => match memchr::memmem::find(rest, literal) {
                Some(at) => at,
                None if self.is_last => rest.len(),
                None => return Err(Mismatch::More),
            },
            Until::End if self.is_last => rest.len(),
            Until::End | Until::Length => return Err(Mismatch::More),
        };
        self.take(count)
    }

    fn text(
        &mut self,
        form: &Form,
        until: &Until,
        length: Option<i64>,
    ) -> Result<Option<Cow<'a, [u8]>>, Mismatch> {
        let (raw, is_sized) = match (form, until, length) {
            (Form::Matching(pattern), _, _) => (self.matching(pattern)?, false),
            (_, Until::Length, Some(-1)) => return Ok(None),
            (Form::Text(form), Until::Length, Some(length)) => {
                let count = usize::try_from(length).ok().and_then(|length| form.encoded_length(length));
                let count = count.ok_or_else(|| Mismatch::Wrong(format!("{length} is no length")))?;
                (self.take(count)?, true)
            }
            (Form::Text(_), until, _) => (self.until(until)?, false),
        };
        if raw.is_empty() && !is_sized && self.empty_is_null {
            return Ok(None);
        }
        match form {
            Form::Matching(_) | Form::Text(TextForm::Raw) => Ok(Some(Cow::Borrowed(raw))),
            Form::Text(form) => form.read(raw).map(|bytes| Some(Cow::Owned(bytes))).map_err(Mismatch::Wrong),
        }
    }

    fn matching(&mut self, pattern: &Regex) -> Result<&'a [u8], Mismatch> {
        let rest = self.rest();
        match pattern.find(rest) {
            // More input might make the match longer.
            Some(found) if found.end() == rest.len() && !self.is_last => Err(Mismatch::More),
            Some(found) => self.take(found.end()),
            None if self.is_last => {
                Err(Mismatch::Wrong(format!("{} does not match", &pattern.as_str()[1..])))
            }
            None => Err(Mismatch::More),
        }
    }
}

fn store_number(
    number: Number,
    value: i64,
    lengths: &mut Lengths,
    record: &mut InputRecord<'_>,
) -> Result<(), Mismatch> {
    match number {
        Number::KeyLength => lengths.key = Some(value),
        Number::ValueLength => lengths.value = Some(value),
        Number::HeaderCount => lengths.headers = Some(value),
        Number::Timestamp => record.timestamp_ms = Some(value),
        Number::Partition => {
            let partition =
                i32::try_from(value).map_err(|_| Mismatch::Wrong(format!("partition {value}")))?;
            record.partition = Some(partition);
        }
        Number::Ignored => {}
    }
    Ok(())
}

fn store_text<'a>(
    field: Field,
    text: Option<Cow<'a, [u8]>>,
    record: &mut InputRecord<'a>,
) -> Result<(), Mismatch> {
    match field {
        Field::Key => record.key = text,
        Field::Value => record.value = text,
        Field::Topic => {
            let name = String::from_utf8(text.unwrap_or_default().into_owned())
                .map_err(|_| Mismatch::Wrong("the topic's name is not UTF-8".to_owned()))?;
            record.topic = Some(Cow::Owned(name));
        }
    }
    Ok(())
}

fn time(text: &[u8]) -> Result<i64, Mismatch> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let wrong = || Mismatch::Wrong(format!("\"{}\" is not an RFC 3339 time", text.escape_ascii()));
    parsed.map(jiff::Timestamp::as_millisecond).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
