//! Sizes, durations and times as people write them. One grammar for every flag and file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};
use thiserror::Error;

/// What was wrong with a size, duration or time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given:?} is not a {what}: {expected}")]
pub struct UnitError {
    /// The text as it was given.
    pub given: String,
    /// `size`, `duration` or `time`.
    pub what: &'static str,
    /// The forms that are accepted.
    pub expected: &'static str,
}

/// A number of bytes: `1048576`, `64MiB`, `1.5 GB`, `10k` (decimal for `k M G T` and `kB MB GB TB`,
/// binary for `KiB MiB GiB TiB`). Prints with the largest binary unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

/// Splits `12.5MiB` into the number and the unit; the unit is lower-cased.
fn split_unit(text: &str) -> Option<(f64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            given: text.to_owned(),
            what: "size",
            expected: "a number of bytes, or one with kB, MB, GB, KiB, MiB, GiB",
        };
        if let Ok(bytes) = text.trim().parse::<u64>() {
            return Ok(Self(bytes));
        }
        let (number, unit) = split_unit(text.trim()).ok_or_else(error)?;
        let &(_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let bytes = number * factor as f64;
        if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(error()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (name, shift) in units {
            if self.0 >= 1 << shift {
                let whole = self.0 as f64 / (1u64 << shift) as f64;
                let text =
                    if whole.fract() == 0.0 { format!("{whole}{name}") } else { format!("{whole:.1}{name}") };
                return f.pad(&text);
            }
        }
        f.pad(&format!("{}B", self.0))
    }
}

/// Reads `250ms`, `15m`, `1.5h`, `7d`, `90` (seconds where no unit stands).
///
/// # Errors
/// [`UnitError`] where it is none of these, negative, or too long for a `Duration`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = || UnitError {
        given: text.to_owned(),
        what: "duration",
        expected: "a number with ms, s, m, h, d or w; without a unit, seconds",
    };
    let (number, unit) = split_unit(text.trim()).ok_or_else(error)?;
    let seconds_per_unit = match unit.as_str() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(error()),
    };
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| error())
}

/// Prints a duration with the largest unit that says it in at most one decimal: `250ms`, `1.5s`, `15m`.
#[must_use]
pub fn print_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-3 => return format!("{}µs", duration.as_micros()),
        s if s < 1.0 => (s * 1e3, "ms"),
        s if s < 60.0 => (s, "s"),
        s if s < 3_600.0 => (s / 60.0, "m"),
        s if s < 86_400.0 => (s / 3_600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}{unit}")
}

/// Reads a point in time, in milliseconds since the Unix epoch: epoch milliseconds (11 digits or more),
/// epoch seconds (10 digits or fewer), ISO 8601 (`2026-01-01`, `2026-01-01T12:00`, with `Z`, an offset, or
/// none for UTC), `now`, or relative to `now_ms`: `-15m`, `+1h`.
///
/// # Errors
/// [`UnitError`] with the accepted forms.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, UnitError> {
    let error = || UnitError {
        given: text.to_owned(),
        what: "time",
        expected: "ISO 8601 (2026-01-01T12:00:00Z), epoch milliseconds, or relative to now (-15m)",
    };
    let text = text.trim();
    if text == "now" {
        return Ok(now_ms);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| error())?;
        return Ok(if text.len() <= 10 { number.saturating_mul(1_000) } else { number });
    }
    if let Some(back) = text.strip_prefix('-') {
        return parse_duration(back).map(|d| now_ms.saturating_sub(millis(d))).map_err(|_| error());
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return parse_duration(ahead).map(|d| now_ms.saturating_add(millis(d))).map_err(|_| error());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let civil = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(civil::DateTime::from))
        .map_err(|_| error())?;
    civil.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond()).map_err(|_| error())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        let cases =
            [("0", 0), ("1048576", 1 << 20), ("64MiB", 64 << 20), ("1.5kB", 1_500), ("2 GiB", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1", "1XB", "99999999999TiB", "1e9"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5KiB");
        assert_eq!(ByteSize(999).to_string(), "999B");
    }

    #[test]
    fn durations_parse_and_print() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("soon").is_err());
        assert_eq!(print_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(print_duration(Duration::from_secs(90)), "1.5m");
    }

    #[test]
    fn times_parse_in_every_form() {
        let now = 1_800_000_000_000;
        let cases = [
            ("now", now),
            ("-15m", now - 900_000),
            ("+1h", now + 3_600_000),
            ("1767225600000", 1_767_225_600_000),
            ("1767225600", 1_767_225_600_000),
            ("2026-01-01", 1_767_225_600_000),
            ("2026-01-01T00:00:00", 1_767_225_600_000),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        assert!(parse_time("yesterday", now).is_err());
    }
}
