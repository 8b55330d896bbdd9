//! Changes to the bytes of a `.log`: what is bad goes, into a file beside it; what is sound stays as it is.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Done;
use crate::record::{BATCH_HEADER_SIZE, BatchHeader, LOG_OVERHEAD, NO_SEQUENCE, NO_TIMESTAMP, empty_batch};
use crate::storage::disk::{Access, Disk, DiskFile};
use crate::storage::verify::finding::{Finding, Remedy};
use crate::storage::verify::log::KEPT_SUFFIX;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// What is copied at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Where a batch keeps its leader epoch.
const LEADER_EPOCH_AT: u64 = 12;

/// Bytes that go, and the offsets that get an empty batch in their place.
#[derive(Debug, Clone, Copy)]
struct Hole {
    start: u64,
    end: u64,
    first: Offset,
    last: Offset,
}

/// Mends one `.log` as its findings say. `epochs` are those that the log's checkpoint lists.
pub(super) fn mend_log(
    disk: &dyn Disk,
    path: &Path,
    findings: &[&Finding],
    epochs: &[(LeaderEpoch, Offset)],
) -> io::Result<Vec<Done>> {
    let file = disk.open(path, Access::Write)?;
    let mut done = Vec::new();
    let mut holes = Vec::new();
    for finding in findings {
        let Some(position) = finding.position else { continue };
        match finding.remedy {
            Remedy::SetBaseOffset(offset) => {
                file.write_at(&mut [IoSlice::new(&offset.0.to_be_bytes())], position)?;
                done.push(Done::new(path, format!("position {position}: base offset set to {offset}")));
            }
            Remedy::SetLeaderEpoch(epoch) => {
                file.write_at(&mut [IoSlice::new(&epoch.0.to_be_bytes())], position + LEADER_EPOCH_AT)?;
                done.push(Done::new(path, format!("position {position}: leader epoch set to {epoch}")));
            }
            Remedy::TakeOut { end, first, last } => holes.push(Hole { start: position, end, first, last }),
            Remedy::Cut => {
                let (first, last) = (Offset::ZERO, Offset::UNKNOWN);
                holes.push(Hole { start: position, end: file.len()?, first, last });
            }
            _ => {}
        }
    }
    if !done.is_empty() {
        file.sync()?;
    }
    holes.sort_by_key(|hole| hole.start);
    for hole in &holes {
        let kept = keep(disk, &*file, path, hole)?;
        let count = hole.end - hole.start;
        let place = if hole.last < hole.first {
            String::new()
        } else {
            format!("; an empty batch holds offsets {} to {}", hole.first, hole.last)
        };
        let what = format!("position {}: {count} bytes moved to {}{place}", hole.start, kept.display());
        done.push(Done::new(path, what));
    }
    match holes.as_slice() {
        [] => {}
        [tail] if tail.last < tail.first && tail.end >= file.len()? => {
            file.set_len(tail.start)?;
            file.sync()?;
        }
        _ => rewrite(disk, &file, path, &holes, epochs)?,
    }
    Ok(done)
}

/// Copies the bytes of a hole into a file beside the log, on disk before anything is changed.
fn keep(disk: &dyn Disk, file: &dyn DiskFile, path: &Path, hole: &Hole) -> io::Result<PathBuf> {
    let kept = suffixed(path, &format!(".{}{KEPT_SUFFIX}", hole.start));
    let target = disk.open(&kept, Access::Replace)?;
    copy(file, hole.start..hole.end, &*target, 0)?;
    target.sync()?;
    sync_folder(disk, path)?;
    Ok(kept)
}

/// Writes the log anew without its holes, and puts it in the old one's place. Its indexes go first: a start makes
/// missing ones from the log, and must not meet wrong ones.
fn rewrite(
    disk: &dyn Disk,
    file: &Arc<dyn DiskFile>,
    path: &Path,
    holes: &[Hole],
    epochs: &[(LeaderEpoch, Offset)],
) -> io::Result<()> {
    let fresh_path = suffixed(path, ".tmp");
    let fresh = disk.open(&fresh_path, Access::Replace)?;
    let (mut from, mut to) = (0, 0);
    for hole in holes {
        to = copy(&**file, from..hole.start, &*fresh, to)?;
        for batch in fillers(hole.first, hole.last, epochs) {
            fresh.write_at(&mut [IoSlice::new(&batch)], to)?;
            to += batch.len() as u64;
        }
        from = hole.end;
    }
    copy(&**file, from..file.len()?, &*fresh, to)?;
    fresh.sync()?;
    for extension in ["index", "timeindex"] {
        disk.remove_file(&path.with_extension(extension))?;
    }
    sync_folder(disk, path)?;
    disk.rename(&fresh_path, path)?;
    sync_folder(disk, path)
}

/// Copies a range; where the copy ends.
fn copy(from: &dyn DiskFile, range: std::ops::Range<u64>, to: &dyn DiskFile, mut at: u64) -> io::Result<u64> {
    let mut position = range.start;
    let mut piece = Vec::new();
    while position < range.end {
        piece.resize((range.end - position).min(PIECE_BYTES) as usize, 0);
        let filled = from.read_at(&mut piece, position)?;
        if filled == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(&mut [IoSlice::new(&piece[..filled])], at)?;
        position += filled as u64;
        at += filled as u64;
    }
    Ok(at)
}

/// Batches without records, as the cleaner leaves them, for `first` to `last`: one for each epoch.
fn fillers(first: Offset, last: Offset, epochs: &[(LeaderEpoch, Offset)]) -> Vec<[u8; BATCH_HEADER_SIZE]> {
    let mut batches = Vec::new();
    let mut from = first;
    while from <= last {
        let after = epochs.partition_point(|(_, start)| *start <= from);
        let leader_epoch = after.checked_sub(1).map_or(LeaderEpoch::UNKNOWN, |slot| epochs[slot].0);
        let epoch_end = epochs.get(after).map_or(last, |(_, start)| *start + -1);
        let until = last.min(epoch_end).min(from + i64::from(i32::MAX));
        batches.push(empty_batch(&BatchHeader {
            base_offset: from,
            length: (BATCH_HEADER_SIZE - LOG_OVERHEAD) as i32,
            leader_epoch,
            crc: 0,
            attributes: 0,
            last_offset_delta: (until - from) as i32,
            base_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_ms: NO_TIMESTAMP,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        }));
        from = until.next();
    }
    batches
}

pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
}
