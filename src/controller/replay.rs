//! Reading the metadata of a directory without changing it: the newest snapshot, then the log behind it.

use std::path::{Path, PathBuf};

use crate::metadata::snapshot::{SnapshotId, SnapshotName};
use crate::metadata::{Image, MetadataRecord, Replay, ReplayError, records_of_file};
use crate::protocol::messages::voters_record::VotersRecord;
use crate::record::{Batch, BatchError};
use crate::storage::Disk;
use crate::storage::disk::{Access, read_small};
use crate::storage::place::{Suffix, file_name, parse_file_name};
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
    pub last_epoch: LeaderEpoch,
    /// The time of the last batch.
    pub last_timestamp_ms: i64,
    /// Behind the last batch that is whole.
    pub end_offset: Offset,
    /// The base offsets of the log's segments.
    pub segments: Vec<Offset>,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// Bytes of batches behind it.
    pub bytes_since_snapshot: u64,
}

/// Reads the folder `__cluster_metadata-0`; one that is missing is a fresh start.
pub(super) fn replay(disk: &dyn Disk, folder: &Path) -> Result<Replayed, ControllerError> {
    let names = names_in(disk, folder)?;
    let mut segments: Vec<Offset> = names
        .iter()
        .filter_map(|name| parse_file_name(name))
        .filter_map(|(offset, suffix)| (suffix == Suffix::Log).then_some(offset))
        .collect();
    segments.sort_unstable();
    let whole = names.iter().filter_map(|name| match SnapshotName::parse(name)? {
        SnapshotName::Whole(id) => Some(id),
        SnapshotName::Part(_) | SnapshotName::Deleted(_) => None,
    });
    let snapshot = whole.max();
    let mut reader = Reader::default();
    if let Some(id) = snapshot {
        reader.read_snapshot(disk, folder, id)?;
    }
    let start = reader.replay.end_offset();
    if let Some(first) = segments.first().filter(|first| **first > start) {
        let file = folder.join(file_name(*first, Suffix::Log));
        let why = format!("the log begins at offset {first}, and no snapshot holds what was before it");
        return Err(ControllerError::Damaged { file, why });
    }
    let first = segments.partition_point(|base| *base <= start).saturating_sub(1);
    for base in segments.get(first..).unwrap_or_default() {
        if !reader.read_segment(disk, folder, *base)? {
            break;
        }
    }
    let Reader { replay, voters, bytes } = reader;
    Ok(Replayed {
        voters,
        kraft_version: replay.kraft_version(),
        last_epoch: replay.epoch(),
        last_timestamp_ms: replay.last_timestamp_ms(),
        end_offset: replay.end_offset(),
        image: replay.finish(),
        segments,
        snapshot,
        bytes_since_snapshot: bytes,
    })
}

/// The names in a folder; none where it is missing.
pub(super) fn names_in(disk: &dyn Disk, folder: &Path) -> Result<Vec<String>, ControllerError> {
    if disk.stat(folder).map_err(io(folder))?.is_none() {
        return Ok(Vec::new());
    }
    Ok(disk.list(folder).map_err(io(folder))?.into_iter().map(|entry| entry.name).collect())
}

/// The records of `bootstrap.checkpoint`; `None` where there is none.
pub(super) fn read_bootstrap(
    disk: &dyn Disk,
    file: &Path,
) -> Result<Option<Vec<MetadataRecord>>, ControllerError> {
    let Some(bytes) = read_small(disk, file).map_err(io(file))? else { return Ok(None) };
    records_of_file(bytes.into()).map(Some).map_err(|error| unreadable(file, &error))
}

#[derive(Default)]
struct Reader {
    replay: Replay,
    voters: Option<(PathBuf, VotersRecord)>,
    /// Of batches of the log that count.
    bytes: u64,
}

impl Reader {
    fn read_snapshot(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        id: SnapshotId,
    ) -> Result<(), ControllerError> {
        let file = folder.join(id.file_name());
        let bytes = read_small(disk, &file).map_err(io(&file))?.unwrap_or_default();
        self.replay.load_snapshot(id, bytes.into()).map_err(|error| unreadable(&file, &error))?;
        self.note_voters(&file);
        Ok(())
    }

    /// Reads one segment; `false` where it ends in bytes that are no whole batch, which recovery cuts off.
    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        base: Offset,
    ) -> Result<bool, ControllerError> {
        let path = folder.join(file_name(base, Suffix::Log));
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
                        self.take(&path, &batch)?;
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

    fn take(&mut self, file: &Path, batch: &Batch) -> Result<(), ControllerError> {
        if self.replay.take(batch).map_err(|error| unreadable(file, &error))? {
            self.bytes += batch.bytes.len() as u64;
            self.note_voters(file);
        }
        Ok(())
    }

    /// Remembers which file named the voters.
    fn note_voters(&mut self, file: &Path) {
        let known = self.voters.as_ref().map(|(_, voters)| voters);
        if self.replay.voters() != known {
            self.voters = self.replay.voters().map(|voters| (file.to_owned(), voters.clone()));
        }
    }
}

fn unreadable(file: &Path, error: &ReplayError) -> ControllerError {
    let (file, what) = (file.to_owned(), error.to_string());
    if error.is_newer_format() {
        ControllerError::NewerFormat { file, what }
    } else {
        ControllerError::Damaged { file, why: what }
    }
}

pub(super) fn io(file: &Path) -> impl FnOnce(std::io::Error) -> ControllerError {
    let file = file.to_owned();
    move |source| ControllerError::Io { file, source }
}
