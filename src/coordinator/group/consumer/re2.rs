//! RE2's language in that of the engine that patterns run on here, which knows a superset of it; a few texts mean
//! something else there. What RE2 refuses is refused, what only it knows is spelled out.

use std::fmt::Write as _;

use super::regex::InvalidPattern;

/// Larger counts of repetitions are refused by RE2.
const REPEAT_MAX: u32 = 1000;

/// RE2's spelling in that of the engine.
pub(super) fn translate(pattern: &str) -> Result<String, InvalidPattern> {
    let mut rest = pattern;
    let mut out = String::with_capacity(pattern.len());
    let mut after_repeat = false;
    let mut open_groups = 0_usize;
    while let Some(first) = rest.chars().next() {
        let tail = &rest[first.len_utf8()..];
        let repeats = matches!(first, '*' | '+' | '?') || (first == '{' && repeat_length(tail)?.is_some());
        if repeats && after_repeat {
            return Err(InvalidPattern(format!("invalid nested repetition operator: `{rest}`")));
        }
        after_repeat = false;
        rest = match first {
            '\\' => escape(tail, &mut out)?,
            '[' => class(tail, &mut out)?,
            '{' => match repeat_length(tail)? {
                Some(length) => {
                    after_repeat = true;
                    push_repeat('{', &tail[..length], &tail[length..], &mut out)
                }
                None => {
                    out.push_str(r"\{");
                    tail
                }
            },
            '}' => {
                out.push_str(r"\}");
                tail
            }
            '*' | '+' | '?' => {
                after_repeat = true;
                push_repeat(first, "", tail, &mut out)
            }
            '(' => {
                open_groups += 1;
                group(tail, &mut out)?
            }
            ')' => {
                let unexpected = || InvalidPattern(format!("unexpected ): `{pattern}`"));
                open_groups = open_groups.checked_sub(1).ok_or_else(unexpected)?;
                out.push(')');
                tail
            }
            other => {
                out.push(other);
                tail
            }
        };
    }
    match open_groups {
        0 => Ok(out),
        _ => Err(InvalidPattern(format!("missing closing ): `{pattern}`"))),
    }
}

/// A repetition and, behind it, the `?` that makes it lazy.
fn push_repeat<'a>(first: char, body: &str, rest: &'a str, out: &mut String) -> &'a str {
    out.push(first);
    out.push_str(body);
    match rest.strip_prefix('?') {
        Some(rest) => {
            out.push('?');
            rest
        }
        None => rest,
    }
}

/// How long `n}`, `n,}` or `n,m}` is, if the text begins with one; otherwise the brace stands for itself.
fn repeat_length(text: &str) -> Result<Option<usize>, InvalidPattern> {
    let Some(end) = text.find('}') else { return Ok(None) };
    let (least, most) = text[..end].split_once(',').unwrap_or((&text[..end], ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(None);
    }
    let over =
        |text: &str| !text.is_empty() && text.parse::<u32>().map_or(true, |number| number > REPEAT_MAX);
    if over(least) || over(most) {
        return Err(InvalidPattern(format!("invalid repetition operator: `{{{}`", &text[..=end])));
    }
    Ok(Some(end + 1))
}

/// What follows a backslash outside of a class.
fn escape<'a>(tail: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let Some(escaped) = tail.chars().next() else {
        return Err(InvalidPattern("trailing backslash at end of expression: ``".to_owned()));
    };
    let rest = &tail[escaped.len_utf8()..];
    match escaped {
        'Q' => {
            let (literal, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(literal));
            Ok(rest)
        }
        // Any byte: names of topics are ASCII.
        'C' => {
            out.push('.');
            Ok(rest)
        }
        'b' if rest.starts_with('{') => Err(invalid_escape("b{")),
        '0'..='7' => Ok(octal(escaped, rest, out)?),
        other => push_escape(other, rest, out),
    }
}

/// An escape that means the same inside and outside of a class.
fn push_escape<'a>(escaped: char, rest: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let known = matches!(
        escaped,
        'A' | 'b'
            | 'B'
            | 'z'
            | 'd'
            | 'D'
            | 's'
            | 'S'
            | 'w'
            | 'W'
            | 'p'
            | 'P'
            | 'x'
            | 'a'
            | 'f'
            | 'n'
            | 'r'
            | 't'
            | 'v'
    );
    if escaped.is_ascii_alphanumeric() && !known {
        return Err(invalid_escape(&escaped.to_string()));
    }
    if escaped.is_ascii_punctuation() || known {
        out.push('\\');
        // The engine's name for a punctuation mark is its number: it gives some of them a meaning of their own.
        if matches!(escaped, '<' | '>') {
            let _ = write!(out, "x{:02x}", u32::from(escaped));
        } else {
            out.push(escaped);
        }
        return Ok(rest);
    }
    Err(invalid_escape(&escaped.to_string()))
}

/// `\0` to `\777`; a single digit but 0 would refer back to a group, which RE2 has not.
fn octal<'a>(first: char, rest: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    let more = rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if first != '0' && more == 0 {
        return Err(invalid_escape(&first.to_string()));
    }
    let digits = format!("{first}{}", &rest[..more]);
    let number = u32::from_str_radix(&digits, 8).unwrap_or(0);
    let _ = write!(out, "\\x{{{number:x}}}");
    Ok(&rest[more..])
}

fn invalid_escape(escaped: &str) -> InvalidPattern {
    InvalidPattern(format!("invalid escape sequence: `\\{escaped}`"))
}

/// What follows an opening bracket. Classes do not nest in RE2, nor do they intersect.
fn class<'a>(tail: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    out.push('[');
    let mut rest = tail;
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    let mut first = true;
    loop {
        let Some(next) = rest.chars().next() else {
            return Err(InvalidPattern(format!("missing closing ]: `[{tail}`")));
        };
        let tail = &rest[next.len_utf8()..];
        rest = match next {
            ']' if !first => {
                out.push(']');
                return Ok(tail);
            }
            '\\' => class_escape(tail, out)?,
            '[' => match named_class(rest) {
                Some(named) => {
                    out.push_str(named);
                    &rest[named.len()..]
                }
                None => {
                    out.push_str("\\[");
                    tail
                }
            },
            ']' | '&' | '~' | '^' => {
                out.push('\\');
                out.push(next);
                tail
            }
            // A hyphen beside an end stands for itself; the engine takes two of them for a difference.
            '-' if first || tail.starts_with(']') => {
                out.push_str("\\-");
                tail
            }
            other => {
                out.push(other);
                tail
            }
        };
        first = false;
    }
}

/// `[:alpha:]` and the like.
fn named_class(text: &str) -> Option<&str> {
    let body = text.strip_prefix("[:")?;
    let end = body.find(":]")?;
    let name = body[..end].trim_start_matches('^');
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())).then(|| &text[..end + 4])
}

fn class_escape<'a>(tail: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    match tail.chars().next() {
        None => Err(InvalidPattern("missing closing ]".to_owned())),
        Some(escaped @ '0'..='7') => octal(escaped, &tail[1..], out),
        Some(escaped @ ('A' | 'b' | 'B' | 'z')) => Err(invalid_escape(&escaped.to_string())),
        Some(escaped) => push_escape(escaped, &tail[escaped.len_utf8()..], out),
    }
}

/// What follows an opening parenthesis: flags that RE2 has not are refused.
fn group<'a>(tail: &'a str, out: &mut String) -> Result<&'a str, InvalidPattern> {
    out.push('(');
    let Some(special) = tail.strip_prefix('?') else { return Ok(tail) };
    if special.starts_with("P<") || special.starts_with('<') {
        return Ok(tail);
    }
    let flags: String = special.chars().take_while(|flag| !matches!(flag, ':' | ')')).collect();
    if flags.chars().any(|flag| !matches!(flag, 'i' | 'm' | 's' | 'U' | '-')) {
        return Err(InvalidPattern(format!("invalid or unsupported Perl syntax: `(?{flags}`")));
    }
    out.push('?');
    out.push_str(&flags);
    Ok(&special[flags.len()..])
}
