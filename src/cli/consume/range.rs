//! `-o`: where reading begins and ends.
//!
//! ```text
//! START            beginning  end  N  -N (before the end)  +N (after the beginning)  start+N  end-N  @TIME
//! START:END        END is exclusive: N  end  end-N  @TIME; a missing START is the beginning
//! s@TIME, e@TIME   kcat's, given as two flags
//! ```

use crate::types::parse_time;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// So many offsets behind the log's first.
    AfterBeginning(i64),
    /// So many offsets before the log's end.
    BeforeEnd(i64),
    Offset(i64),
    /// The first record at or after this time.
    TimeMs(i64),
}

/// Where reading ends: the first offset that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// So many offsets before the log's end.
    Back(i64),
    Offset(i64),
    /// The first record at or after this time.
    TimeMs(i64),
}

/// What `-o` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Start,
    /// `None` reads on.
    pub(super) end: Option<End>,
}

impl Default for Range {
    fn default() -> Self {
        Self { start: Start::AfterBeginning(0), end: None }
    }
}

const EXPECTED: &str = "beginning, end, N, -N, N:M, @TIME or @TIME:@TIME is expected";

impl Range {
    /// The last `count` offsets.
    pub(super) fn before_end(count: i64) -> Self {
        Self { start: Start::BeforeEnd(count), end: None }
    }

    /// Reads every `-o` that was given.
    ///
    /// # Errors
    /// A message for the user.
    pub(super) fn parse_all(given: &[String], now_ms: i64) -> Result<Self, String> {
        match given {
            [] => Ok(Self::default()),
            [one] if !one.starts_with("s@") && !one.starts_with("e@") => Self::parse(one, now_ms),
            several => {
                let mut range = Self::default();
                for text in several {
                    let time = |text: &str| parse_time(text, now_ms).map_err(|error| error.to_string());
                    if let Some(start) = text.strip_prefix("s@") {
                        range.start = Start::TimeMs(time(start)?);
                    } else if let Some(end) = text.strip_prefix("e@") {
                        range.end = Some(End::TimeMs(time(end)?));
                    } else {
                        return Err(format!("{text:?}: several -o must be s@TIME and e@TIME"));
                    }
                }
                range.forward().ok_or_else(|| "e@TIME is before s@TIME".to_owned())
            }
        }
    }

    /// Reads one `-o`.
    fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        // Times hold colons themselves: the whole text is tried first, then every colon, from the left.
        if let Some(start) = parse_start(text, now_ms) {
            return Ok(Self { start, end: None });
        }
        for (at, _) in text.match_indices(':') {
            let (start, end) = (&text[..at], &text[at + 1..]);
            let start =
                if start.is_empty() { Some(Start::AfterBeginning(0)) } else { parse_start(start, now_ms) };
            let Some(start) = start else { continue };
            if end.is_empty() {
                return Ok(Self { start, end: None });
            }
            if let Some(end) = parse_end(end, start, now_ms) {
                return Self { start, end: Some(end) }.forward().ok_or_else(|| {
                    format!("{text:?} ends before it begins: START:END is expected, END exclusive")
                });
            }
        }
        Err(format!("{text:?}: {EXPECTED}"))
    }

    /// The range, unless it runs backwards whatever a partition holds.
    fn forward(self) -> Option<Self> {
        let is_backward = match (self.start, self.end) {
            (Start::Offset(start), Some(End::Offset(end)))
            | (Start::TimeMs(start), Some(End::TimeMs(end)))
            | (Start::AfterBeginning(start), Some(End::Offset(end))) => end < start,
            (Start::BeforeEnd(start), Some(End::Back(end))) => end > start,
            _ => false,
        };
        (!is_backward).then_some(self)
    }

    /// The offsets of one partition that holds `earliest..latest`; `first_at` finds the first record at or
    /// after a time, as far as there is one. The end is never beyond the log's.
    pub(super) fn resolve<E>(
        &self,
        earliest: i64,
        latest: i64,
        first_at: impl Fn(i64) -> Result<Option<i64>, E>,
    ) -> Result<(i64, Option<i64>), E> {
        let at = |time_ms| Ok(first_at(time_ms)?.unwrap_or(latest));
        let start = match self.start {
            Start::AfterBeginning(count) => earliest.saturating_add(count).min(latest),
            Start::BeforeEnd(count) => latest.saturating_sub(count).max(earliest),
            Start::Offset(offset) => offset,
            Start::TimeMs(time) => at(time)?,
        };
        let end = match self.end {
            None => None,
            Some(End::Back(count)) => Some(latest.saturating_sub(count)),
            Some(End::Offset(offset)) => Some(offset.min(latest)),
            Some(End::TimeMs(time)) => Some(at(time)?),
        };
        Ok((start, end))
    }

    /// The time that must be looked up for the start, and for the end.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> {
        let start = if let Start::TimeMs(time) = self.start { Some(time) } else { None };
        let end = if let Some(End::TimeMs(time)) = self.end { Some(time) } else { None };
        start.into_iter().chain(end)
    }
}

fn parse_start(text: &str, now_ms: i64) -> Option<Start> {
    match text {
        "beginning" | "start" | "earliest" => return Some(Start::AfterBeginning(0)),
        "end" | "latest" => return Some(Start::BeforeEnd(0)),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return parse_time(time, now_ms).ok().map(Start::TimeMs);
    }
    if let Some(count) = text.strip_prefix("end-").or_else(|| text.strip_prefix('-')) {
        return number(count).map(Start::BeforeEnd);
    }
    if let Some(count) = text.strip_prefix("start+").or_else(|| text.strip_prefix('+')) {
        return number(count).map(Start::AfterBeginning);
    }
    number(text).map(Start::Offset)
}

fn parse_end(text: &str, start: Start, now_ms: i64) -> Option<End> {
    if matches!(text, "end" | "latest") {
        return Some(End::Back(0));
    }
    if let Some(count) = text.strip_prefix("end-") {
        return number(count).map(End::Back);
    }
    let time = match (text.strip_prefix('@'), start) {
        (Some(time), _) => time,
        // Behind a time an end is a time, with or without its sign.
        (None, Start::TimeMs(_)) => text,
        (None, _) => return number(text).map(End::Offset),
    };
    // `+1h` counts from the start where that is a time, `-5m` from now.
    let from = match start {
        Start::TimeMs(start_ms) if time.starts_with('+') => start_ms,
        _ => now_ms,
    };
    parse_time(time, from).ok().map(End::TimeMs)
}

fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const NEW_YEAR: i64 = 1_767_225_600_000;

    fn range(start: Start, end: Option<End>) -> Range {
        Range { start, end }
    }

    #[test]
    fn every_form_of_the_grammar() {
        let cases = [
            ("beginning", range(Start::AfterBeginning(0), None)),
            ("end", range(Start::BeforeEnd(0), None)),
            ("42", range(Start::Offset(42), None)),
            ("-3", range(Start::BeforeEnd(3), None)),
            ("end-3", range(Start::BeforeEnd(3), None)),
            ("+3", range(Start::AfterBeginning(3), None)),
            ("start+3", range(Start::AfterBeginning(3), None)),
            ("5:9", range(Start::Offset(5), Some(End::Offset(9)))),
            ("5:", range(Start::Offset(5), None)),
            (":9", range(Start::AfterBeginning(0), Some(End::Offset(9)))),
            (":end", range(Start::AfterBeginning(0), Some(End::Back(0)))),
            ("5:end-2", range(Start::Offset(5), Some(End::Back(2)))),
            ("-9:end", range(Start::BeforeEnd(9), Some(End::Back(0)))),
            ("@2026-01-01", range(Start::TimeMs(NEW_YEAR), None)),
            ("@2026-01-01T00:00:00Z", range(Start::TimeMs(NEW_YEAR), None)),
            ("@-15m", range(Start::TimeMs(NOW - 900_000), None)),
            ("@2026-01-01T00:00:00Z:@-5m", range(Start::TimeMs(NEW_YEAR), Some(End::TimeMs(NOW - 300_000)))),
            (
                "@2026-01-01T00:00:00Z:+1h",
                range(Start::TimeMs(NEW_YEAR), Some(End::TimeMs(NEW_YEAR + 3_600_000))),
            ),
            ("@1767225600000:1767225600005", range(Start::TimeMs(NEW_YEAR), Some(End::TimeMs(NEW_YEAR + 5)))),
            (":@2026-01-01", range(Start::AfterBeginning(0), Some(End::TimeMs(NEW_YEAR)))),
            ("@-1h:end", range(Start::TimeMs(NOW - 3_600_000), Some(End::Back(0)))),
        ];
        for (text, expected) in cases {
            assert_eq!(Range::parse(text, NOW), Ok(expected), "{text}");
        }
        for backward in ["5:3", "@2026-01-02:@2026-01-01", "-3:end-5", "+5:3"] {
            assert!(Range::parse(backward, NOW).unwrap_err().contains("before it begins"), "{backward}");
        }
        for bad in ["", "x", "1:x", "--1", "1-2", "@", "@soon", "@2026-01-01:soon", "1:2:3", "+-1", "stored"]
        {
            assert!(Range::parse(bad, NOW).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn kcats_two_flags_are_one_range() {
        let given = ["s@1767225600000".to_owned(), "e@-5m".to_owned()];
        let expected = range(Start::TimeMs(NEW_YEAR), Some(End::TimeMs(NOW - 300_000)));
        assert_eq!(Range::parse_all(&given, NOW), Ok(expected));
        assert_eq!(Range::parse_all(&given[..1], NOW), Ok(range(Start::TimeMs(NEW_YEAR), None)));
        assert!(Range::parse_all(&["1".to_owned(), "2".to_owned()], NOW).is_err());
        assert_eq!(Range::parse_all(&[], NOW), Ok(Range::default()));
    }

    #[test]
    fn ranges_resolve_within_what_is_there() {
        let cases = [
            ("beginning", (10, None)),
            ("end", (100, None)),
            ("-5", (95, None)),
            ("-500", (10, None)),
            ("+5", (15, None)),
            ("+500", (100, None)),
            ("20:30", (20, Some(30))),
            ("20:500", (20, Some(100))),
            (":end-10", (10, Some(90))),
            ("@2026-01-01", (50, None)),
            ("@2027-12-01", (100, None)),
            ("@2026-01-01:@2027-12-01", (50, Some(100))),
        ];
        for (text, expected) in cases {
            let first_at = |time| Ok::<_, ()>((time == NEW_YEAR).then_some(50));
            let resolved = Range::parse(text, NOW).unwrap().resolve(10, 100, first_at);
            assert_eq!(resolved, Ok(expected), "{text}");
        }
    }
}
