//! Snapshots of the metadata as files of batches: their names, how one is written, and what it must hold to be
//! read. Pure: names and bytes.
//!
//! ```text
//! <20 digits: end offset>-<10 digits: epoch>.checkpoint
//!
//!   control batch   SnapshotHeader, then KRaftVersion and KRaftVoters where the voters are dynamic
//!   batches         the records of the image, in Kafka's order
//!   control batch   SnapshotFooter
//! ```
//! It holds all that the log says below its end offset; the epoch is that of the last batch below it. Offsets
//! inside count from 0. A file on its way in is named `<snapshot>-<number>.checkpoint.part`, one on its way out
//! `<snapshot>.checkpoint.deleted`.

use bytes::Bytes;
use thiserror::Error;

use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use crate::protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::{Decoder, EncodeError, Message, encode_to_bytes};
use crate::record::{Batch, BatchBuilder, BatchError, Compression, ControlKey, ControlType, InflateLimits};
use crate::types::{LeaderEpoch, Offset};

use super::record::MetadataRecord;

/// A batch of a snapshot is closed once it is as large as this.
const BATCH_BYTES: usize = 1 << 20;

/// Which snapshot: newer ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnapshotId {
    /// Everything below this offset of the log is in it.
    pub end_offset: Offset,
    /// The epoch of the last batch below that offset.
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    /// `<20 digits>-<10 digits>.checkpoint`
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}.checkpoint", self.stem())
    }

    /// The name while it is written; `unique` tells attempts apart.
    #[must_use]
    pub fn part_name(self, unique: u64) -> String {
        format!("{}-{unique}.checkpoint.part", self.stem())
    }

    /// The name once nobody is to find it any more.
    #[must_use]
    pub fn deleted_name(self) -> String {
        format!("{}.checkpoint.deleted", self.stem())
    }

    fn stem(self) -> String {
        format!("{:020}-{:010}", self.end_offset.0, self.epoch.0)
    }
}

/// What the name of a file in the metadata log's folder says of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotName {
    /// A snapshot.
    Whole(SnapshotId),
    /// One that was never finished.
    Part(SnapshotId),
    /// One that is on its way out.
    Deleted(SnapshotId),
}

impl SnapshotName {
    /// Reads a name; `None` for every other file, `bootstrap.checkpoint` among them.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (offset, rest) = name.split_at_checked(20)?;
        let (epoch, suffix) = rest.strip_prefix('-')?.split_at_checked(10)?;
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(offset) || !is_number(epoch) {
            return None;
        }
        let id =
            SnapshotId { end_offset: Offset(offset.parse().ok()?), epoch: LeaderEpoch(epoch.parse().ok()?) };
        match suffix {
            ".checkpoint" => Some(Self::Whole(id)),
            _ if suffix.ends_with(".checkpoint.part") => Some(Self::Part(id)),
            _ if suffix.ends_with(".checkpoint.deleted") => Some(Self::Deleted(id)),
            _ => None,
        }
    }
}

/// A snapshot that cannot be written.
#[derive(Debug, Error)]
pub enum SnapshotWriteError {
    /// A record does not fit its message.
    #[error(transparent)]
    Record(#[from] EncodeError),
    /// A batch cannot be built.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// What a snapshot says besides its records.
#[derive(Clone, Debug)]
pub struct SnapshotHead {
    /// Which one it is.
    pub id: SnapshotId,
    /// The time of the last batch that is in it.
    pub last_contained_timestamp_ms: i64,
    /// The time it is written at.
    pub now_ms: i64,
    /// The voters, where they are dynamic (kraft.version 1).
    pub voters: Option<VotersRecord>,
}

/// Writes the records of a snapshot, batch by batch, into whatever takes bytes.
pub struct SnapshotWriter {
    batch: BatchBuilder,
    next: Offset,
    epoch: LeaderEpoch,
    now_ms: i64,
    level: i16,
    /// Finished batches that nobody has taken yet.
    out: Vec<u8>,
}

impl SnapshotWriter {
    /// Begins with the header; records are written for a cluster at `metadata_version`.
    ///
    /// # Errors
    /// The voters cannot be written.
    pub fn new(head: &SnapshotHead, metadata_version: i16) -> Result<Self, SnapshotWriteError> {
        let (epoch, now_ms) = (head.id.epoch, head.now_ms);
        let header = SnapshotHeaderRecord {
            last_contained_log_timestamp: head.last_contained_timestamp_ms,
            ..SnapshotHeaderRecord::default()
        };
        let mut control = vec![(ControlType::SnapshotHeader, encoded(&header)?)];
        if let Some(voters) = &head.voters {
            let version = KRaftVersionRecord { kraft_version: 1, ..KRaftVersionRecord::default() };
            control.push((ControlType::KRaftVersion, encoded(&version)?));
            control.push((ControlType::KRaftVoters, encoded(voters)?));
        }
        let mut writer = Self {
            batch: BatchBuilder::new(Compression::NONE),
            next: Offset::ZERO,
            epoch,
            now_ms,
            level: metadata_version,
            out: Vec::new(),
        };
        writer.write_control(&control)?;
        Ok(writer)
    }

    /// Adds one record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, record: &MetadataRecord) -> Result<(), SnapshotWriteError> {
        let value = record.encode(self.level)?;
        self.batch.append(self.now_ms, None, Some(&value), []);
        if self.batch.size_estimate() >= BATCH_BYTES { self.close_batch() } else { Ok(()) }
    }

    /// The bytes that are finished so far, to be written behind those that were taken before.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Ends the snapshot; the last bytes.
    ///
    /// # Errors
    /// The last batch cannot be built.
    pub fn finish(mut self) -> Result<Vec<u8>, SnapshotWriteError> {
        self.close_batch()?;
        let footer = encoded(&SnapshotFooterRecord::default())?;
        self.write_control(&[(ControlType::SnapshotFooter, footer)])?;
        Ok(self.out)
    }

    fn close_batch(&mut self) -> Result<(), SnapshotWriteError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let count = self.batch.record_count();
        self.batch.set_position(self.next, self.epoch);
        self.batch.build_into(&mut self.out)?;
        self.next = self.next + i64::from(count);
        Ok(())
    }

    fn write_control(&mut self, records: &[(ControlType, Bytes)]) -> Result<(), SnapshotWriteError> {
        let mut batch = BatchBuilder::new(Compression::NONE).control().at(self.next, self.epoch);
        for (kind, value) in records {
            batch.append_control(self.now_ms, *kind, value);
        }
        batch.build_into(&mut self.out)?;
        self.next = self.next + records.len() as i64;
        Ok(())
    }
}

/// The time of the last batch that a snapshot holds, from its first bytes; `None` where they do not say.
#[must_use]
pub fn last_contained_timestamp(first_bytes: &Bytes) -> Option<i64> {
    let batch = Batch::first(first_bytes).ok()?;
    let record = batch.records(&InflateLimits::default()).ok()?.next()?.ok()?;
    let kind = ControlKey::parse(record.key.as_deref()?)?.kind;
    if !batch.header.is_control() || kind != ControlType::SnapshotHeader {
        return None;
    }
    let header = SnapshotHeaderRecord::decode(&mut Decoder::new(record.value?), 0).ok()?;
    Some(header.last_contained_log_timestamp)
}

fn encoded<M: Message>(message: &M) -> Result<Bytes, SnapshotWriteError> {
    Ok(encode_to_bytes(message, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let id = SnapshotId { end_offset: Offset(194), epoch: LeaderEpoch(1) };
        assert_eq!(id.file_name(), "00000000000000000194-0000000001.checkpoint");
        assert_eq!(SnapshotName::parse(&id.file_name()), Some(SnapshotName::Whole(id)));
        assert_eq!(SnapshotName::parse(&id.part_name(7)), Some(SnapshotName::Part(id)));
        assert_eq!(SnapshotName::parse(&id.deleted_name()), Some(SnapshotName::Deleted(id)));
        // As Kafka names its own: a random number, and none.
        for (suffix, name) in [
            ("-8046389147041962534.checkpoint.part", SnapshotName::Part(id)),
            (".checkpoint.deleted", SnapshotName::Deleted(id)),
        ] {
            let text = format!("00000000000000000194-0000000001{suffix}");
            assert_eq!(SnapshotName::parse(&text), Some(name), "{text}");
        }
        for other in [
            "",
            "bootstrap.checkpoint",
            "leader-epoch-checkpoint",
            "00000000000000000194.log",
            "194-1.checkpoint",
            "00000000000000000194-0000000001.checkpoint.tmp",
            "0000000000000000019x-0000000001.checkpoint",
            "99999999999999999999-0000000001.checkpoint",
            "00000000000000000194-9999999999.checkpoint",
        ] {
            assert_eq!(SnapshotName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn newer_snapshots_are_greater() {
        let id = |end_offset, epoch| SnapshotId { end_offset: Offset(end_offset), epoch: LeaderEpoch(epoch) };
        assert!(id(2, 1) > id(1, 9) && id(2, 2) > id(2, 1));
    }
}
