//! Patterns of topics, as Kafka 4.3 understands them: the language of RE2, matched against whole names.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::metadata::Image;
use crate::protocol::Str;

use super::re2::translate;

/// Compiled patterns may be this large: with topic names of 249 characters nobody needs more.
const SIZE_MAX: usize = 1 << 20;

/// The topics that a pattern stands for, as of an offset of the metadata log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::coordinator) struct Resolved {
    /// In ascending order, each once.
    pub(in crate::coordinator) topics: Box<[Str]>,
    /// The offset.
    pub(in crate::coordinator) version: i64,
    /// When it was looked up, in milliseconds since the Unix epoch.
    pub(in crate::coordinator) timestamp_ms: i64,
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(in crate::coordinator) struct InvalidPattern(pub(super) String);

/// Compiles a pattern that matches whole names.
pub(super) fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let whole = format!(r"\A(?:{})\z", translate(pattern)?);
    let built = RegexBuilder::new(&whole).size_limit(SIZE_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => InvalidPattern("expression too large".to_owned()),
        // The last line says what; those before draw where, in the rewritten pattern.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            InvalidPattern(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        }
    })
}

/// The names of the topics that match, in ascending order. A pattern that does not compile matches none.
pub(super) fn matching(pattern: &str, image: &Image) -> Box<[Str]> {
    let Ok(regex) = compile(pattern) else { return Box::default() };
    let names = image.topics().iter().map(|topic| topic.name.as_str());
    names.filter(|name| regex.is_match(name)).map(Str::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_match(name)
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("orders", "orders") && !matches("orders", "orders-2") && !matches("rder", "orders"));
        assert!(matches("a|b.*", "bcd") && !matches("a|b.*", "ax"));
        assert!(matches("(?i)ORDERS[.-]\\d+", "orders-17"));
        assert!(matches("", "") && !matches("", "x"));
        assert!(matches(".*", "__consumer_offsets"));
    }

    #[test]
    fn what_only_re2_knows_is_understood() {
        assert!(matches(r"\Qa.b\E.*", "a.b-1") && !matches(r"\Qa.b\E", "axb"));
        assert!(matches("a{,3}", "a{,3}"), "no number, no repetition");
        assert!(matches("[[a]+", "[a["), "classes do not nest");
        assert!(matches("[a&&b]+", "a&b"), "nor intersect");
        assert!(matches("[]a]+", "]a"));
        assert!(matches("[a-]+", "a-a") && matches("[--a]+", "_-"));
        assert!(matches(r"\141\x62\056", "ab."));
        assert!(matches("[[:alpha:]_]+", "a_b") && matches("x{2}?y", "xxy"));
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [
            "[",
            "(",
            "a**",
            "*",
            r"\",
            r"\1",
            r"\y",
            "(?x)a",
            "(?=a)",
            "a{1001}",
            "[b-a]",
            r"\b{start}",
            "a)",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile(&"(a{1000}){1000}".repeat(3)).is_err(), "too large");
    }
}
