//! Metadata read back: a snapshot, then the batches of the log behind it, into an image, the voters and the
//! offsets that go with it. Pure: batches in, facts out. Whoever reads a metadata log reads it through this.

use bytes::Bytes;
use thiserror::Error;

use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::{DecodeError, DecodeFault, Decoder, Message};
use crate::record::{Batch, BatchError, ControlKey, ControlType, InflateLimits};
use crate::types::{LeaderEpoch, Offset};

use super::apply::{ApplyError, ImageBuilder};
use super::image::Image;
use super::record::{MetadataRecord, RecordError};
use super::snapshot::SnapshotId;

/// Bytes that are no metadata, or do not follow from what came before them.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// No batch, or a damaged one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A record that cannot be read.
    #[error("offset {offset}: {source}")]
    Record {
        /// Where.
        offset: Offset,
        /// Why.
        source: RecordError,
    },
    /// A record of the quorum's own that cannot be read.
    #[error("offset {offset}: {source}")]
    Control {
        /// Where.
        offset: Offset,
        /// Why.
        source: DecodeError,
    },
    /// A record that does not fit what came before it.
    #[error("offset {offset}: {source}")]
    Apply {
        /// Where.
        offset: Offset,
        /// Why.
        source: ApplyError,
    },
    /// The log goes on behind a hole.
    #[error("the batch at offset {found} follows offset {expected}: what was between them is missing")]
    Gap {
        /// The offset that was due.
        expected: Offset,
        /// The offset that came.
        found: Offset,
    },
    /// A snapshot that does not begin or end as one.
    #[error("the snapshot {0}")]
    NotASnapshot(&'static str),
}

impl ReplayError {
    /// Whether a newer Kafka wrote it, rather than a failing disk.
    #[must_use]
    pub fn is_newer_format(&self) -> bool {
        let is_newer = |error: &DecodeError| matches!(error.fault, DecodeFault::UnsupportedVersion);
        match self {
            Self::Record { source: RecordError::UnknownType(_), .. } => true,
            Self::Record { source: RecordError::Message(error), .. }
            | Self::Control { source: error, .. } => is_newer(error),
            _ => false,
        }
    }
}

/// Metadata on its way into an image.
#[derive(Debug)]
pub struct Replay {
    builder: ImageBuilder,
    voters: Option<VotersRecord>,
    kraft_version: i16,
    epoch: LeaderEpoch,
    end_offset: Offset,
    last_timestamp_ms: i64,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            builder: Image::default().builder(),
            voters: None,
            kraft_version: 0,
            epoch: LeaderEpoch(0),
            end_offset: Offset::ZERO,
            last_timestamp_ms: -1,
        }
    }
}

impl Replay {
    /// Goes on where an image ends.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        Self {
            builder: image.builder(),
            voters: None,
            kraft_version: 0,
            epoch: image.epoch(),
            end_offset: image.end_offset(),
            last_timestamp_ms: -1,
        }
    }

    /// Takes over a snapshot, all of it; the log goes on at its end offset.
    ///
    /// # Errors
    /// [`ReplayError`]; the replay is then of no further use.
    pub fn load_snapshot(&mut self, id: SnapshotId, bytes: Bytes) -> Result<(), ReplayError> {
        let mut next = Offset::ZERO;
        let (mut has_header, mut has_footer) = (false, false);
        each_batch(bytes, |batch| {
            if has_footer {
                return Err(ReplayError::NotASnapshot("goes on behind its end"));
            }
            if batch.header.base_offset != next {
                return Err(ReplayError::Gap { expected: next, found: batch.header.base_offset });
            }
            next = batch.header.next_offset();
            for kind in self.take_records(batch, Offset::ZERO)? {
                has_header |= kind == ControlType::SnapshotHeader;
                has_footer |= kind == ControlType::SnapshotFooter;
            }
            if has_header { Ok(()) } else { Err(ReplayError::NotASnapshot("does not begin with a header")) }
        })?;
        if !has_footer {
            return Err(ReplayError::NotASnapshot("has no end"));
        }
        (self.end_offset, self.epoch) = (id.end_offset, id.epoch);
        Ok(())
    }

    /// Takes over one batch of the log, whose CRC was checked; `false` where the snapshot holds it already.
    ///
    /// # Errors
    /// [`ReplayError`]; the replay is then of no further use.
    pub fn take(&mut self, batch: &Batch) -> Result<bool, ReplayError> {
        let header = &batch.header;
        self.epoch = self.epoch.max(header.leader_epoch);
        if header.next_offset() <= self.end_offset {
            return Ok(false);
        }
        if header.base_offset > self.end_offset {
            return Err(ReplayError::Gap { expected: self.end_offset, found: header.base_offset });
        }
        self.take_records(batch, self.end_offset)?;
        self.end_offset = header.next_offset();
        self.last_timestamp_ms = self.last_timestamp_ms.max(header.max_timestamp_ms);
        Ok(true)
    }

    /// The offset that the next batch of the log has.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The youngest epoch of any batch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// 0: the voters are static, and stand in `quorum-state`; 1: they are among the records.
    #[must_use]
    pub fn kraft_version(&self) -> i16 {
        self.kraft_version
    }

    /// The voters of a dynamic quorum.
    #[must_use]
    pub fn voters(&self) -> Option<&VotersRecord> {
        self.voters.as_ref()
    }

    /// The time of the last batch; -1 where none was read.
    #[must_use]
    pub fn last_timestamp_ms(&self) -> i64 {
        self.last_timestamp_ms
    }

    /// The image that all of it adds up to.
    #[must_use]
    pub fn finish(self) -> Image {
        self.builder.finish(self.end_offset, self.epoch)
    }

    /// Takes over the records from `from` on; returns what kinds of control records were among them.
    fn take_records(&mut self, batch: &Batch, from: Offset) -> Result<Vec<ControlType>, ReplayError> {
        let mut kinds = Vec::new();
        for record in batch.records(&InflateLimits::default())? {
            let record = record?;
            let (offset, value) = (record.offset, record.value.unwrap_or_default());
            if offset < from {
                continue;
            }
            if !batch.header.is_control() {
                let decoded = MetadataRecord::decode(value);
                let decoded = decoded.map_err(|source| ReplayError::Record { offset, source })?;
                self.builder.apply(decoded).map_err(|source| ReplayError::Apply { offset, source })?;
            } else if let Some(key) = record.key.as_deref().and_then(ControlKey::parse) {
                let taken = self.take_control(key.kind, value);
                taken.map_err(|source| ReplayError::Control { offset, source })?;
                kinds.push(key.kind);
            }
        }
        Ok(kinds)
    }

    fn take_control(&mut self, kind: ControlType, value: Bytes) -> Result<(), DecodeError> {
        match kind {
            ControlType::SnapshotHeader => {
                let header: SnapshotHeaderRecord = decode(value)?;
                self.last_timestamp_ms = header.last_contained_log_timestamp;
            }
            ControlType::KRaftVersion => {
                self.kraft_version = decode::<KRaftVersionRecord>(value)?.kraft_version;
            }
            ControlType::KRaftVoters => self.voters = Some(decode(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// The records of a file of batches that stands alone, control records left out: `bootstrap.checkpoint`.
///
/// # Errors
/// [`ReplayError`]
pub fn records_of_file(bytes: Bytes) -> Result<Vec<MetadataRecord>, ReplayError> {
    let mut records = Vec::new();
    each_batch(bytes, |batch| {
        if batch.header.is_control() {
            return Ok(());
        }
        for record in batch.records(&InflateLimits::default())? {
            let record = record?;
            let decoded = MetadataRecord::decode(record.value.unwrap_or_default());
            let offset = record.offset;
            records.push(decoded.map_err(|source| ReplayError::Record { offset, source })?);
        }
        Ok(())
    })?;
    Ok(records)
}

/// Hands over the batches of `bytes`, each checked against its CRC.
fn each_batch(
    mut bytes: Bytes,
    mut visit: impl FnMut(&Batch) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    while !bytes.is_empty() {
        let batch = Batch::first(&bytes)?;
        batch.as_ref().check_crc()?;
        bytes = bytes.slice(batch.bytes.len()..);
        visit(&batch)?;
    }
    Ok(())
}

fn decode<M: Message>(value: Bytes) -> Result<M, DecodeError> {
    M::decode(&mut Decoder::new(value), 0)
}
