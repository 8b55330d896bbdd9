//! What a file in a log directory is, by its name.

use crate::types::Offset;

use super::super::checkpoint::{
    CLEAN_SHUTDOWN_FILE, CLEANER_OFFSET_FILE, HIGH_WATERMARK_FILE, LEADER_EPOCH_FILE, LOCK_FILE,
    LOG_START_OFFSET_FILE, META_PROPERTIES_FILE, PARTITION_METADATA_FILE, RECOVERY_POINT_FILE,
};

/// The digits before a suffix.
const OFFSET_DIGITS: usize = 20;
/// The digits of the epoch in a metadata snapshot's name.
const EPOCH_DIGITS: usize = 10;

/// One kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// `.log`: batches from this offset on.
    Log(Offset),
    /// `.index` of that log.
    OffsetIndex(Offset),
    /// `.timeindex` of that log.
    TimeIndex(Offset),
    /// `.txnindex` of that log.
    TransactionIndex(Offset),
    /// `.snapshot`: the producers as they were before this offset.
    ProducerSnapshot(Offset),
    /// `.checkpoint`: the metadata as it was before this offset, in this epoch.
    MetadataSnapshot(Offset, i32),
    /// `bootstrap.checkpoint`: what the metadata log begins with.
    Bootstrap,
    /// `leader-epoch-checkpoint`.
    LeaderEpochs,
    /// One of the four offset checkpoints of a log directory.
    Offsets,
    /// `partition.metadata`.
    PartitionMetadata,
    /// `meta.properties`.
    MetaProperties,
    /// `quorum-state`.
    QuorumState,
    /// `.kafka_cleanshutdown`.
    CleanShutdown,
    /// `.lock`: always empty.
    Lock,
}

impl Content {
    /// The kind of a file of this bare name; `None` where it is none of Kafka's.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "bootstrap.checkpoint" => Self::Bootstrap,
            "quorum-state" => Self::QuorumState,
            LEADER_EPOCH_FILE => Self::LeaderEpochs,
            RECOVERY_POINT_FILE | HIGH_WATERMARK_FILE | LOG_START_OFFSET_FILE | CLEANER_OFFSET_FILE => {
                Self::Offsets
            }
            PARTITION_METADATA_FILE => Self::PartitionMetadata,
            META_PROPERTIES_FILE => Self::MetaProperties,
            CLEAN_SHUTDOWN_FILE => Self::CleanShutdown,
            LOCK_FILE => Self::Lock,
            _ => return Self::of_numbered(name),
        })
    }

    fn of_numbered(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once('.')?;
        if let Some((offset, epoch)) = stem.split_once('-') {
            let epoch = number(epoch, EPOCH_DIGITS)?;
            return (suffix == "checkpoint").then_some(Self::MetadataSnapshot(
                Offset(number(offset, OFFSET_DIGITS)?),
                epoch.try_into().ok()?,
            ));
        }
        let offset = Offset(number(stem, OFFSET_DIGITS)?);
        Some(match suffix {
            "log" => Self::Log(offset),
            "index" => Self::OffsetIndex(offset),
            "timeindex" => Self::TimeIndex(offset),
            "txnindex" => Self::TransactionIndex(offset),
            "snapshot" => Self::ProducerSnapshot(offset),
            _ => return None,
        })
    }

    /// Sorts the files of a folder as a reader wants them: segment by segment, then the rest.
    #[must_use]
    pub fn place(self) -> (bool, Offset, Self) {
        match self {
            Self::Log(offset)
            | Self::OffsetIndex(offset)
            | Self::TimeIndex(offset)
            | Self::TransactionIndex(offset)
            | Self::ProducerSnapshot(offset) => (false, offset, self),
            _ => (true, Offset::ZERO, self),
        }
    }

    /// Whether it holds record batches.
    #[must_use]
    pub fn holds_batches(self) -> bool {
        matches!(self, Self::Log(_) | Self::MetadataSnapshot(..) | Self::Bootstrap)
    }
}

/// A number of exactly so many digits; of more where the number needs them.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() >= digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let cases = [
            ("00000000000000000042.log", Some(Content::Log(Offset(42)))),
            ("00000000000000000042.timeindex", Some(Content::TimeIndex(Offset(42)))),
            ("00000000000000000089-0000000001.checkpoint", Some(Content::MetadataSnapshot(Offset(89), 1))),
            ("bootstrap.checkpoint", Some(Content::Bootstrap)),
            ("replication-offset-checkpoint", Some(Content::Offsets)),
            (".lock", Some(Content::Lock)),
            ("00000000000000000042.log.deleted", None),
            ("42.log", None),
            ("00000000000000000042", None),
            ("99999999999999999999.log", None),
            ("00000000000000000089-1.checkpoint", None),
            ("notes.txt", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Content::of(name), expected, "{name}");
        }
    }

    #[test]
    fn files_sort_segment_by_segment() {
        let mut names = ["leader-epoch-checkpoint", "00000000000000000010.log", "00000000000000000010.index"]
            .map(|name| Content::of(name).unwrap());
        names.sort_by_key(|content| content.place());
        assert_eq!(
            names,
            [Content::Log(Offset(10)), Content::OffsetIndex(Offset(10)), Content::LeaderEpochs]
        );
    }
}
