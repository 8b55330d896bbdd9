//! What the opening of directories that were not left clean came to, for the one line that says so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::storage::Recovered;
use crate::types::ByteSize;

/// The sums of one log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Recovery {
    logs: u64,
    segments: u64,
    bytes_checked: u64,
    bytes_cut: u64,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logs, segments, bytes_checked, bytes_cut } = *self;
        write!(
            f,
            "{} in {} of {} checked",
            ByteSize(bytes_checked),
            of(segments, "segment"),
            of(logs, "log")
        )?;
        match bytes_cut {
            0 => write!(f, ", nothing cut off"),
            _ => write!(f, ", {} cut off", of(bytes_cut, "byte")),
        }
    }
}

/// `1 log`, `2 logs`.
fn of(count: u64, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// The sums of all of them.
#[derive(Debug, Default)]
pub(super) struct Recoveries(BTreeMap<PathBuf, Recovery>);

impl Recoveries {
    /// Adds what one log's opening did.
    pub(super) fn note(&mut self, directory: &Path, recovered: &Recovered) {
        let sum = self.0.entry(directory.to_owned()).or_default();
        sum.logs += 1;
        sum.segments += recovered.segments_checked as u64;
        sum.bytes_checked += recovered.bytes_checked;
        sum.bytes_cut += recovered.bytes_cut;
    }

    pub(super) fn by_directory(self) -> impl Iterator<Item = (PathBuf, Recovery)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_was_checked_and_what_was_lost() {
        let mut all = Recoveries::default();
        let one = Recovered { segments_checked: 1, bytes_checked: 2 << 20, ..Recovered::default() };
        all.note(Path::new("/a"), &one);
        all.note(Path::new("/b"), &one);
        all.note(Path::new("/b"), &Recovered { segments_checked: 1, bytes_cut: 1, ..Recovered::default() });
        let lines: Vec<String> = all.by_directory().map(|(_, sum)| sum.to_string()).collect();
        assert_eq!(
            lines,
            [
                "2MiB in 1 segment of 1 log checked, nothing cut off",
                "2MiB in 2 segments of 2 logs checked, 1 byte cut off"
            ]
        );
    }
}
