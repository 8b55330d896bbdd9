//! Where one partition lives: its disk, its folder, how its files are named and its indexes laid out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::options::LogOptions;
use crate::types::Offset;

/// Marks a file that will be removed after `file.delete.delay.ms`.
pub const DELETED_SUFFIX: &str = ".deleted";
/// Marks a segment that the cleaner was writing.
pub const CLEANED_SUFFIX: &str = ".cleaned";
/// Marks a cleaned segment that is complete and takes the place of those it covers.
pub const SWAP_SUFFIX: &str = ".swap";

/// What follows the 20 digits of a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suffix {
    /// `.log`: the batches.
    Log,
    /// `.index`.
    OffsetIndex,
    /// `.timeindex`.
    TimeIndex,
    /// `.txnindex`.
    TransactionIndex,
    /// `.snapshot`: producer state before that offset.
    Snapshot,
}

impl Suffix {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::TransactionIndex, Self::Snapshot];

    /// With its dot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TransactionIndex => ".txnindex",
            Self::Snapshot => ".snapshot",
        }
    }
}

/// The name of a partition's file: 20 digits and a suffix.
#[must_use]
pub fn file_name(offset: Offset, suffix: Suffix) -> String {
    format!("{:020}{}", offset.0, suffix.as_str())
}

/// Reads such a name; `None` for every other.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(Offset, Suffix)> {
    let (digits, _) = name.split_at_checked(20)?;
    let suffix = Suffix::ALL.into_iter().find(|suffix| name[20..] == *suffix.as_str())?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), suffix))
}

/// See the module.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    /// What stands behind the name of every file: nothing, but where files are being written that others stand for yet.
    ending: &'static str,
    /// `index.interval.bytes`.
    pub(super) index_interval_bytes: u64,
    /// `segment.index.bytes`.
    pub(super) segment_index_bytes: u64,
}

impl Place {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: &Path, options: &LogOptions) -> Self {
        Self {
            disk,
            folder: folder.to_owned(),
            ending: "",
            index_interval_bytes: options.index_interval_bytes,
            segment_index_bytes: options.segment_index_bytes,
        }
    }

    pub(super) fn file(&self, offset: Offset, suffix: Suffix) -> PathBuf {
        let mut name = file_name(offset, suffix);
        name.push_str(self.ending);
        self.folder.join(name)
    }

    /// The same folder, for files that the cleaner is writing.
    pub(super) fn cleaned(&self) -> Self {
        Self { ending: CLEANED_SUFFIX, ..self.clone() }
    }

    /// The same folder, for cleaned files that are complete and take the place of others.
    pub(super) fn swap(&self) -> Self {
        Self { ending: SWAP_SUFFIX, ..self.clone() }
    }

    /// The same folder, for files that are made again and not yet whole.
    pub(super) fn unfinished(&self) -> Self {
        Self { ending: ".tmp", ..self.clone() }
    }

    pub(super) fn named(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.folder.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_twenty_digits() {
        assert_eq!(file_name(Offset(42), Suffix::TimeIndex), "00000000000000000042.timeindex");
        for suffix in Suffix::ALL {
            assert_eq!(
                parse_file_name(&file_name(Offset(i64::MAX), suffix)),
                Some((Offset(i64::MAX), suffix))
            );
        }
        for other in [
            "42.log",
            "00000000000000000042.log.deleted",
            "partition.metadata",
            "0000000000000000004x.log",
            "",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
        assert_eq!(parse_file_name("99999999999999999999.log"), None);
    }
}
