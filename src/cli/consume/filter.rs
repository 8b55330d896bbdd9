//! `--grep`: which records are printed.

use regex::bytes::Regex;

use crate::record::RecordRef;

/// One condition on a record. Several must all hold.
#[derive(Debug)]
pub(super) struct Filter {
    is_negated: bool,
    what: What,
    pattern: Regex,
}

#[derive(Debug)]
enum What {
    Key,
    Value,
    HeaderKey,
    HeaderValue,
    /// The values of the headers of this name.
    Header(String),
    Topic,
}

impl Filter {
    /// Reads `[!][k:|v:|hk:|hv:|h:NAME=|t:]PATTERN`; without a letter it is the value.
    ///
    /// # Errors
    /// A message that names the pattern.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (is_negated, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (what, pattern) = match rest.split_once(':') {
            Some(("k", pattern)) => (What::Key, pattern),
            Some(("v", pattern)) => (What::Value, pattern),
            Some(("hk", pattern)) => (What::HeaderKey, pattern),
            Some(("hv", pattern)) => (What::HeaderValue, pattern),
            Some(("t", pattern)) => (What::Topic, pattern),
            Some(("h", named)) => {
                let (name, pattern) =
                    named.split_once('=').ok_or_else(|| format!("{text:?}: h:NAME=PATTERN is expected"))?;
                (What::Header(name.to_owned()), pattern)
            }
            _ => (What::Value, rest),
        };
        let pattern = Regex::new(pattern).map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self { is_negated, what, pattern })
    }

    pub(super) fn holds(&self, topic: &str, record: &RecordRef<'_>) -> bool {
        let matches = |bytes: &[u8]| self.pattern.is_match(bytes);
        let found = match &self.what {
            What::Key => record.key.is_some_and(matches),
            What::Value => record.value.is_some_and(matches),
            What::HeaderKey => record.headers.iter().any(|header| matches(header.key)),
            What::HeaderValue => record.headers.iter().any(|header| header.value.is_some_and(matches)),
            What::Header(name) => record
                .headers
                .iter()
                .any(|header| header.key == name.as_bytes() && header.value.is_some_and(matches)),
            What::Topic => matches(topic.as_bytes()),
        };
        found != self.is_negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchRef, Compression, HeaderRef, InflateLimits, Scratch};

    fn holds(text: &str) -> bool {
        let mut builder = BatchBuilder::new(Compression::NONE);
        let header = HeaderRef { key: b"source", value: Some(b"web") };
        builder.append(1, Some(b"user-7"), Some(b"paid 12\xff"), [header]);
        let bytes = builder.build().unwrap();
        let mut scratch = Scratch::new();
        let batch = BatchRef::first(&bytes).unwrap();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
        Filter::parse(text).unwrap().holds("orders", &records.next().unwrap().unwrap())
    }

    #[test]
    fn each_part_of_a_record_can_be_asked_for() {
        for yes in [
            "paid",
            "v:^paid",
            "k:user-\\d",
            "hk:sour",
            "hv:web",
            "h:source=w.b",
            "t:^orders$",
            "!refund",
            "!k:x",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["user", "!paid", "k:^\\d", "h:source=app", "h:other=web", "t:x"] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn patterns_that_are_none_are_named() {
        for bad in ["(", "k:[", "h:source"] {
            assert!(Filter::parse(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
