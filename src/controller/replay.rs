//! Reading the metadata of a directory without changing it: the newest snapshot, then the log behind it, into
//! an image. What is found decides whether this node may use the directory at all.

use std::path::{Path, PathBuf};

use crate::metadata::record::RecordError;
use crate::metadata::{Image, ImageBuilder, MetadataRecord};
use crate::protocol::messages::kraft_version_record::KRaftVersionRecord;
use crate::protocol::messages::voters_record::VotersRecord;
use crate::protocol::{Decoder, Message};
use crate::record::{Batch, BatchError, ControlKey, ControlType, InflateLimits};
use crate::storage::Disk;
use crate::storage::disk::{Access, read_small};
use crate::storage::place::{Suffix, parse_file_name};
use crate::types::{LeaderEpoch, Offset};

use super::error::ControllerError;

/// How much of a log is read at a time.
const WINDOW: usize = 256 << 10;

/// What a directory's metadata adds up to.
#[derive(Debug)]
pub(super) struct Replayed {
    pub image: Image,
    /// The voters of a dynamic quorum, and the file that names them.
    pub voters: Option<(PathBuf, VotersRecord)>,
    /// 0: the voters are static; 1: they are in the log.
    pub kraft_version: i16,
    /// The youngest epoch of any batch.
    pub last_epoch: i32,
    /// Behind the last batch that is whole.
    pub end_offset: Offset,
    /// The base offsets of the log's segments.
    pub segments: Vec<Offset>,
    /// The offset before which the newest snapshot ends.
    pub snapshot_end: Option<Offset>,
}

impl Replayed {
    /// Neither a snapshot nor a segment was there.
    pub(super) fn is_fresh(&self) -> bool {
        self.segments.is_empty() && self.snapshot_end.is_none()
    }
}

/// Reads the folder `__cluster_metadata-0`; one that is missing is a fresh start.
pub(super) fn replay(disk: &dyn Disk, folder: &Path) -> Result<Replayed, ControllerError> {
    let mut names = Vec::new();
    if disk.stat(folder).map_err(io(folder))?.is_some() {
        names = disk.list(folder).map_err(io(folder))?.into_iter().map(|entry| entry.name).collect();
    }
    let mut segments: Vec<Offset> = names
        .iter()
        .filter_map(|name| parse_file_name(name))
        .filter_map(|(offset, suffix)| (suffix == Suffix::Log).then_some(offset))
        .collect();
    segments.sort_unstable();
    let snapshot = names.iter().filter_map(|name| parse_snapshot_name(name)).max();
    let mut reader = Reader {
        builder: Image::default().builder(),
        voters: None,
        kraft_version: 0,
        last_epoch: 0,
        end_offset: Offset::ZERO,
    };
    if let Some((end, epoch)) = snapshot {
        reader.read_snapshot(disk, &folder.join(snapshot_name(end, epoch)))?;
        (reader.end_offset, reader.last_epoch) = (end, epoch.0);
    }
    let first = segments.partition_point(|base| *base <= reader.end_offset).saturating_sub(1);
    for base in &segments[first.min(segments.len())..] {
        let whole = reader.read_segment(disk, folder, *base)?;
        if !whole {
            break;
        }
    }
    let (end_offset, last_epoch) = (reader.end_offset, reader.last_epoch);
    Ok(Replayed {
        image: reader.builder.finish(end_offset, LeaderEpoch(last_epoch)),
        voters: reader.voters,
        kraft_version: reader.kraft_version,
        last_epoch,
        end_offset,
        segments,
        snapshot_end: snapshot.map(|(end, _)| end),
    })
}

/// The records of a snapshot's file, control records left out: `bootstrap.checkpoint`.
pub(super) fn read_bootstrap(
    disk: &dyn Disk,
    file: &Path,
) -> Result<Option<Vec<MetadataRecord>>, ControllerError> {
    let Some(bytes) = read_small(disk, file).map_err(io(file))? else { return Ok(None) };
    let mut records = Vec::new();
    each_batch(file, bytes.into(), |batch| {
        if batch.header.is_control() {
            Ok(())
        } else {
            each_record(file, batch, |record| {
                records.push(record);
                Ok(())
            })
        }
    })?;
    Ok(Some(records))
}

/// `<20 digits>-<10 digits>.checkpoint`
pub(super) fn snapshot_name(end: Offset, epoch: LeaderEpoch) -> String {
    format!("{:020}-{:010}.checkpoint", end.0, epoch.0)
}

fn parse_snapshot_name(name: &str) -> Option<(Offset, LeaderEpoch)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(offset, 20) || !digits(epoch, 10) {
        return None;
    }
    Some((Offset(offset.parse().ok()?), LeaderEpoch(epoch.parse().ok()?)))
}

struct Reader {
    builder: ImageBuilder,
    voters: Option<(PathBuf, VotersRecord)>,
    kraft_version: i16,
    last_epoch: i32,
    end_offset: Offset,
}

impl Reader {
    fn read_snapshot(&mut self, disk: &dyn Disk, file: &Path) -> Result<(), ControllerError> {
        let bytes = read_small(disk, file).map_err(io(file))?.unwrap_or_default();
        let mut has_footer = false;
        each_batch(file, bytes.into(), |batch| {
            has_footer |= self.take(file, batch)?;
            Ok(())
        })?;
        if has_footer { Ok(()) } else { Err(damaged(file, "the snapshot has no end")) }
    }

    /// Reads one segment; `false` where it ends in bytes that are no whole batch, which recovery cuts off.
    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        base: Offset,
    ) -> Result<bool, ControllerError> {
        let path = folder.join(crate::storage::place::file_name(base, Suffix::Log));
        let file = disk.open(&path, Access::Read).map_err(io(&path))?;
        let len = file.len().map_err(io(&path))?;
        let mut position = 0;
        let mut window = WINDOW;
        while position < len {
            let wanted = usize::try_from(len - position).unwrap_or(usize::MAX).min(window);
            let mut bytes = vec![0; wanted];
            let filled = file.read_at(&mut bytes, position).map_err(io(&path))?;
            bytes.truncate(filled);
            let mut rest = bytes::Bytes::from(bytes);
            let before = position;
            loop {
                match Batch::first(&rest) {
                    Ok(batch) => {
                        if batch.as_ref().check_crc().is_err() || batch.header.base_offset < base {
                            return Ok(false);
                        }
                        rest = rest.slice(batch.bytes.len()..);
                        position += batch.bytes.len() as u64;
                        self.take_from_log(&path, &batch)?;
                    }
                    Err(BatchError::Truncated { .. }) if position + (rest.len() as u64) < len => break,
                    Err(BatchError::Truncated { .. }) => return Ok(rest.is_empty()),
                    Err(_) => return Ok(false),
                }
            }
            // A batch that is larger than the window wants a larger one.
            window = if position == before { window.saturating_mul(2) } else { WINDOW };
        }
        Ok(true)
    }

    fn take_from_log(&mut self, file: &Path, batch: &Batch) -> Result<(), ControllerError> {
        let next = batch.header.next_offset();
        self.last_epoch = self.last_epoch.max(batch.header.leader_epoch.0);
        if next > self.end_offset {
            self.take(file, batch)?;
            self.end_offset = next;
        }
        Ok(())
    }

    /// Takes over what a batch says; `true` where it ends a snapshot.
    fn take(&mut self, file: &Path, batch: &Batch) -> Result<bool, ControllerError> {
        if !batch.header.is_control() {
            let builder = &mut self.builder;
            each_record(file, batch, |record| {
                builder.apply(record).map_err(|error| damaged(file, &error.to_string()))
            })?;
            return Ok(false);
        }
        let mut ends = false;
        for record in
            batch.records(&InflateLimits::default()).map_err(|error| damaged(file, &error.to_string()))?
        {
            let record = record.map_err(|error| damaged(file, &error.to_string()))?;
            let kind = record.key.as_deref().and_then(ControlKey::parse).map(|key| key.kind);
            let value = record.value.unwrap_or_default();
            match kind {
                Some(ControlType::KRaftVersion) => {
                    self.kraft_version = decode::<KRaftVersionRecord>(file, value)?.kraft_version;
                }
                Some(ControlType::KRaftVoters) => {
                    self.voters = Some((file.to_owned(), decode(file, value)?));
                }
                Some(ControlType::SnapshotFooter) => ends = true,
                _ => {}
            }
        }
        Ok(ends)
    }
}

fn each_batch(
    file: &Path,
    mut bytes: bytes::Bytes,
    mut visit: impl FnMut(&Batch) -> Result<(), ControllerError>,
) -> Result<(), ControllerError> {
    while !bytes.is_empty() {
        let batch = Batch::first(&bytes).map_err(|error| damaged(file, &error.to_string()))?;
        batch.as_ref().check_crc().map_err(|error| damaged(file, &error.to_string()))?;
        bytes = bytes.slice(batch.bytes.len()..);
        visit(&batch)?;
    }
    Ok(())
}

fn each_record(
    file: &Path,
    batch: &Batch,
    mut visit: impl FnMut(MetadataRecord) -> Result<(), ControllerError>,
) -> Result<(), ControllerError> {
    for record in
        batch.records(&InflateLimits::default()).map_err(|error| damaged(file, &error.to_string()))?
    {
        let record = record.map_err(|error| damaged(file, &error.to_string()))?;
        let decoded =
            MetadataRecord::decode(record.value.unwrap_or_default()).map_err(|error| match error {
                RecordError::UnknownType(_) => {
                    ControllerError::NewerFormat { file: file.to_owned(), what: error.to_string() }
                }
                other => damaged(file, &format!("offset {}: {other}", record.offset)),
            })?;
        visit(decoded)?;
    }
    Ok(())
}

fn decode<M: Message>(file: &Path, value: bytes::Bytes) -> Result<M, ControllerError> {
    M::decode(&mut Decoder::new(value), 0).map_err(|error| damaged(file, &error.to_string()))
}

fn damaged(file: &Path, why: &str) -> ControllerError {
    ControllerError::Damaged { file: file.to_owned(), why: why.to_owned() }
}

fn io(file: &Path) -> impl FnOnce(std::io::Error) -> ControllerError {
    let file = file.to_owned();
    move |source| ControllerError::Io { file, source }
}
