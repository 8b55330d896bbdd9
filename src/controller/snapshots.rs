//! The snapshots beside the metadata log: which there are, when the next is due, which may go, and the writing
//! of one.
//!
//! A snapshot is written under a name that nobody reads, synced, renamed, and its folder synced: after a power
//! cut there is all of it or none. Only then is anything deleted that it stands for. The log keeps everything
//! behind the oldest snapshot that is kept; which one that is, `metadata.max.retention.bytes` and
//! `metadata.max.retention.ms` say, and the newest always stays.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::metadata::Image;
use crate::metadata::snapshot::{
    SnapshotHead, SnapshotId, SnapshotName, SnapshotWriter, last_contained_timestamp,
};
use crate::storage::Disk;
use crate::storage::disk::Access;
use crate::types::Offset;

use super::error::ControllerError;
use super::replay::{io, names_in};

/// Enough of a snapshot to hold its first batch: header and voters.
const HEAD_BYTES: usize = 64 << 10;

/// What the configuration says of snapshots.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotLimits {
    /// `metadata.log.max.record.bytes.between.snapshots`
    pub bytes_between: u64,
    /// `metadata.log.max.snapshot.interval.ms`; 0 is never.
    pub interval_ms: i64,
    /// `metadata.max.retention.bytes`; below zero is no limit.
    pub retention_bytes: i64,
    /// `metadata.max.retention.ms`; below zero is no limit.
    pub retention_ms: i64,
}

impl SnapshotLimits {
    pub(super) fn of(config: &BrokerConfig) -> Self {
        Self {
            bytes_between: config.metadata_log_max_record_bytes_between_snapshots,
            interval_ms: config.metadata_log_max_snapshot_interval_ms,
            retention_bytes: config.metadata_max_retention_bytes,
            retention_ms: config.metadata_max_retention_ms,
        }
    }

    /// Whether `bytes` behind the last snapshot, which began `age_ms` ago, ask for another.
    pub(super) fn asks_for_one(&self, bytes: u64, age_ms: i64) -> bool {
        bytes >= self.bytes_between || (bytes > 0 && self.interval_ms > 0 && age_ms >= self.interval_ms)
    }
}

/// What is known of a snapshot's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SnapshotFacts {
    pub bytes: u64,
    /// The time of the last batch that is in it.
    pub timestamp_ms: i64,
}

/// The snapshots of one folder.
#[derive(Debug)]
pub(super) struct Snapshots {
    pub limits: SnapshotLimits,
    known: BTreeMap<SnapshotId, SnapshotFacts>,
    /// Files that were never finished, that are on their way out, or that end before the log begins.
    leftovers: Vec<PathBuf>,
}

impl Snapshots {
    /// Looks what there is; `log_start` is where the log's first segment begins.
    pub(super) fn list(
        disk: &dyn Disk,
        folder: &Path,
        log_start: Offset,
        limits: SnapshotLimits,
    ) -> Result<Self, ControllerError> {
        let mut snapshots = Self { limits, known: BTreeMap::new(), leftovers: Vec::new() };
        for name in names_in(disk, folder)? {
            match SnapshotName::parse(&name) {
                Some(SnapshotName::Whole(id)) if id.end_offset >= log_start => {
                    snapshots.known.insert(id, facts(disk, &folder.join(&name))?);
                }
                Some(_) => snapshots.leftovers.push(folder.join(&name)),
                None => {}
            }
        }
        Ok(snapshots)
    }

    /// Removes what nobody reads.
    pub(super) fn remove_leftovers(&mut self, disk: &dyn Disk) -> Result<(), ControllerError> {
        for path in self.leftovers.drain(..) {
            disk.remove_file(&path).map_err(io(&path))?;
        }
        Ok(())
    }

    /// The newest.
    pub(super) fn latest(&self) -> Option<SnapshotId> {
        self.known.last_key_value().map(|(id, _)| *id)
    }

    pub(super) fn contains(&self, id: SnapshotId) -> bool {
        self.known.contains_key(&id)
    }

    /// One that was put there whole.
    pub(super) fn take_in(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        id: SnapshotId,
    ) -> Result<(), ControllerError> {
        self.add(id, facts(disk, &folder.join(id.file_name()))?);
        Ok(())
    }

    pub(super) fn add(&mut self, id: SnapshotId, facts: SnapshotFacts) {
        self.known.insert(id, facts);
    }

    /// Forgets those before `id`, oldest first.
    pub(super) fn forget_before(&mut self, id: SnapshotId) -> Vec<SnapshotId> {
        let kept = self.known.split_off(&id);
        std::mem::replace(&mut self.known, kept).into_keys().collect()
    }

    /// The snapshot to begin the log at, where the oldest need not be kept: log and snapshots together are too
    /// large, or it is too old.
    pub(super) fn next_log_start(&self, log_bytes: u64, now_ms: i64) -> Option<SnapshotId> {
        let mut oldest_first = self.known.iter();
        let ((_, oldest), (next, _)) = (oldest_first.next()?, oldest_first.next()?);
        let snapshot_bytes: u64 = self.known.values().map(|facts| facts.bytes).sum();
        let is_over = |limit: i64, value: u64| u64::try_from(limit).is_ok_and(|limit| value > limit);
        let age_ms = u64::try_from(now_ms.saturating_sub(oldest.timestamp_ms)).unwrap_or(0);
        let is_due = is_over(self.limits.retention_bytes, log_bytes.saturating_add(snapshot_bytes))
            || is_over(self.limits.retention_ms, age_ms);
        is_due.then_some(*next)
    }
}

fn facts(disk: &dyn Disk, path: &Path) -> Result<SnapshotFacts, ControllerError> {
    let file = disk.open(path, Access::Read).map_err(io(path))?;
    let bytes = file.len().map_err(io(path))?;
    let mut head = vec![0; HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES))];
    let filled = file.read_at(&mut head, 0).map_err(io(path))?;
    head.truncate(filled);
    // One that does not say is as old as can be: it goes first, and is never the last to go.
    let timestamp_ms = last_contained_timestamp(&head.into()).unwrap_or(0);
    Ok(SnapshotFacts { bytes, timestamp_ms })
}

/// A snapshot to be written.
#[derive(Debug)]
pub(super) struct SnapshotJob {
    pub disk: Arc<dyn Disk>,
    pub folder: PathBuf,
    pub image: Arc<Image>,
    pub head: SnapshotHead,
    /// The `metadata.version` that its records are written for.
    pub level: i16,
}

impl SnapshotJob {
    /// Writes it; when this returns, it survives a power cut.
    pub(super) fn write(&self) -> Result<SnapshotFacts, ControllerError> {
        assert!(!self.image.in_transaction(), "no snapshot is taken inside a transaction");
        let unique = u64::try_from(self.head.now_ms).unwrap_or_default();
        let part = self.folder.join(self.head.id.part_name(unique));
        let file = self.disk.open(&part, Access::Replace).map_err(io(&part))?;
        let mut bytes = 0;
        let mut put = |piece: &[u8]| {
            let written = file.write_at(&mut [IoSlice::new(piece)], bytes).map_err(io(&part));
            bytes += piece.len() as u64;
            written
        };
        let mut writer = SnapshotWriter::new(&self.head, self.level)?;
        for record in self.image.to_records() {
            writer.append(&record)?;
            let finished = writer.take_bytes();
            if !finished.is_empty() {
                put(&finished)?;
            }
        }
        put(&writer.finish()?)?;
        file.sync().map_err(io(&part))?;
        let path = self.folder.join(self.head.id.file_name());
        self.disk.rename(&part, &path).map_err(io(&path))?;
        self.disk.sync_dir(&self.folder).map_err(io(&self.folder))?;
        Ok(SnapshotFacts { bytes, timestamp_ms: self.head.last_contained_timestamp_ms })
    }
}

#[cfg(test)]
mod tests {
    use crate::types::LeaderEpoch;

    use super::*;

    const LIMITS: SnapshotLimits =
        SnapshotLimits { bytes_between: 100, interval_ms: 1_000, retention_bytes: 50, retention_ms: 500 };

    fn id(end_offset: i64) -> SnapshotId {
        SnapshotId { end_offset: Offset(end_offset), epoch: LeaderEpoch(1) }
    }

    fn snapshots(limits: SnapshotLimits, known: &[(i64, u64, i64)]) -> Snapshots {
        let known = known.iter().map(|&(end_offset, bytes, timestamp_ms)| {
            (id(end_offset), SnapshotFacts { bytes, timestamp_ms })
        });
        Snapshots { limits, known: known.collect(), leftovers: Vec::new() }
    }

    #[test]
    fn enough_bytes_or_enough_time_ask_for_a_snapshot_and_silence_never_does() {
        assert!(LIMITS.asks_for_one(100, 0) && LIMITS.asks_for_one(1, 1_000));
        assert!(!LIMITS.asks_for_one(99, 999) && !LIMITS.asks_for_one(0, i64::MAX));
        assert!(!SnapshotLimits { interval_ms: 0, ..LIMITS }.asks_for_one(1, i64::MAX));
    }

    #[test]
    fn the_oldest_goes_by_size_or_age_and_the_newest_stays() {
        let of_two = [(10, 20, 1_000), (20, 20, 2_000)];
        assert_eq!(snapshots(LIMITS, &of_two).next_log_start(10, 1_500), None);
        assert_eq!(snapshots(LIMITS, &of_two).next_log_start(11, 1_500), Some(id(20)));
        assert_eq!(snapshots(LIMITS, &of_two).next_log_start(0, 1_501), Some(id(20)));
        assert_eq!(snapshots(LIMITS, &[(20, 1_000, 0)]).next_log_start(9_999, i64::MAX), None);
        let unlimited = SnapshotLimits { retention_bytes: -1, retention_ms: -1, ..LIMITS };
        assert_eq!(snapshots(unlimited, &of_two).next_log_start(u64::MAX, i64::MAX), None);
    }

    #[test]
    fn what_comes_before_the_logs_new_start_is_forgotten() {
        let mut snapshots = snapshots(LIMITS, &[(0, 1, 0), (10, 1, 0), (20, 1, 0)]);
        assert_eq!(snapshots.forget_before(id(10)), [id(0)]);
        assert_eq!(snapshots.latest(), Some(id(20)));
        assert!(snapshots.forget_before(id(10)).is_empty());
    }
}
