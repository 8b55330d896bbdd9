//! From where to where a log is dumped: by offset or by time, the end left out.

use crate::record::BatchHeader;
use crate::types::{Offset, parse_time};

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Offset(Offset),
    TimeMs(i64),
}

impl Bound {
    /// Reads `1000` as an offset, `@TIME` as a time.
    pub(super) fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(time) => parse_time(time, now_ms).map(Self::TimeMs).map_err(|error| error.to_string()),
            None => text
                .parse()
                .map(|offset| Self::Offset(Offset(offset)))
                .map_err(|_| format!("{text:?} is neither an offset nor @TIME")),
        }
    }

    fn is_at_or_before(self, offset: Offset, timestamp_ms: i64) -> bool {
        match self {
            Self::Offset(bound) => bound <= offset,
            Self::TimeMs(bound) => bound <= timestamp_ms,
        }
    }
}

/// Which records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) from: Option<Bound>,
    pub(super) to: Option<Bound>,
}

impl Range {
    pub(super) fn has_record(&self, offset: Offset, timestamp_ms: i64) -> bool {
        self.from.is_none_or(|from| from.is_at_or_before(offset, timestamp_ms))
            && !self.to.is_some_and(|to| to.is_at_or_before(offset, timestamp_ms))
    }

    /// Whether a batch can hold a record of the range: its times lie at or before its largest.
    pub(super) fn may_touch(&self, header: &BatchHeader) -> bool {
        self.from.is_none_or(|from| from.is_at_or_before(header.last_offset(), header.max_timestamp_ms))
            && !self.to.is_some_and(|to| to.is_at_or_before(header.base_offset, i64::MIN))
    }

    /// The offset before which nothing is shown.
    pub(super) fn first_offset(&self) -> Option<Offset> {
        match self.from {
            Some(Bound::Offset(offset)) => Some(offset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_offsets_or_times() {
        assert_eq!(Bound::parse("12", 0), Ok(Bound::Offset(Offset(12))));
        assert_eq!(Bound::parse("@1970-01-01T00:00:01Z", 0), Ok(Bound::TimeMs(1_000)));
        assert_eq!(Bound::parse("@-1s", 5_000), Ok(Bound::TimeMs(4_000)));
        assert!(Bound::parse("twelve", 0).is_err());
        assert!(Bound::parse("@soon", 0).is_err());
    }

    #[test]
    fn the_end_is_left_out() {
        let range = Range { from: Some(Bound::Offset(Offset(3))), to: Some(Bound::TimeMs(100)) };
        assert!(range.has_record(Offset(3), 99));
        assert!(!range.has_record(Offset(2), 99));
        assert!(!range.has_record(Offset(3), 100));
        assert!(Range::default().has_record(Offset(0), i64::MAX));
    }
}
