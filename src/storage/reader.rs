//! Read-only access to a log directory, beside a broker that may be running on it or without one.
//!
//! Nothing is locked, written, formatted or mapped: every byte comes by pread, so that a broker may append,
//! roll, cut, delete and compact meanwhile. What is read is whole batches; a batch that is still being written at the
//! end of the last segment is not there yet. A file that was deleted after it was opened is still read.
//!
//! [`DirectoryReader`] is the directory, [`LogReader`] one partition in it, [`LogCursor`] reads its batches in
//! order.

mod cursor;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{
    self, CLEAN_SHUTDOWN_FILE, CheckpointError, LEADER_EPOCH_FILE, LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE, MetaProperties, PARTITION_METADATA_FILE,
};
use super::disk::{Access, Disk, DiskFile, DiskSpace, read_small};
use super::error::StorageError;
use super::place::{SWAP_SUFFIX, Suffix, file_name, parse_file_name};
use super::scan::{LOOKUP_WINDOW, ScanError, Scanned, Scanner, WALK_WINDOW};
use super::segment::TimestampOffset;
use super::transaction_index::{self, AbortedTransaction};
use crate::record::{BatchRef, InflateLimits, Scratch};
use crate::types::{LeaderEpoch, Offset, TopicPartition, Uuid};

pub use cursor::LogCursor;

/// Bytes of an entry of `.index` and `.timeindex`.
const OFFSET_ENTRY_BYTES: u64 = 8;
const TIME_ENTRY_BYTES: u64 = 12;

/// A log directory, not locked.
#[derive(Debug, Clone)]
pub struct DirectoryReader {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// What a partition's folder is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FolderKind {
    /// The partition.
    Current,
    /// On its way into this directory (`-future`).
    Future,
    /// On its way out (`-delete`).
    Deleted,
    /// Belongs to no topic (`-stray`).
    Stray,
}

/// A partition's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFolder {
    /// Whose it is.
    pub partition: TopicPartition,
    /// Where it is.
    pub path: PathBuf,
    /// What it is there for.
    pub kind: FolderKind,
}

impl PartitionFolder {
    /// Reads a folder's name: `t-0`, `t-0.<uuid>-delete`; `None` where it is no partition's.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let kinds = [
            ("-future", FolderKind::Future),
            ("-delete", FolderKind::Deleted),
            ("-stray", FolderKind::Stray),
        ];
        let suffixed = kinds.into_iter().find_map(|(suffix, kind)| {
            let (name, unique) = name.strip_suffix(suffix)?.rsplit_once('.')?;
            let is_unique = unique.len() == 32 && unique.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_unique.then_some((name, kind))
        });
        let (name, kind) = suffixed.unwrap_or((name, FolderKind::Current));
        let partition = TopicPartition::from_dir_name(name)?;
        Some(Self { partition, path: path.to_owned(), kind })
    }
}

impl DirectoryReader {
    /// A reader of the directory at `path`.
    ///
    /// # Errors
    /// Where there is no such directory.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StorageError> {
        disk.list(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                StorageError::Refused(format!("{} is not a directory", path.display()))
            }
            _ => StorageError::io("read", path)(error),
        })?;
        Ok(Self { disk, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file system it is on.
    ///
    /// # Errors
    /// What the system says.
    pub fn space(&self) -> Result<DiskSpace, StorageError> {
        self.disk.space(&self.path).map_err(StorageError::io("read", &self.path))
    }

    /// Whose directory it is; `None` where it was never formatted.
    ///
    /// # Errors
    /// Where `meta.properties` cannot be read, or is none.
    pub fn meta_properties(&self) -> Result<Option<MetaProperties>, StorageError> {
        self.parsed(&self.path.join(META_PROPERTIES_FILE), MetaProperties::parse)
    }

    /// Whether the last broker here stopped in order and none has started since.
    ///
    /// # Errors
    /// What the system says.
    pub fn is_clean(&self) -> Result<bool, StorageError> {
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        Ok(self.disk.stat(&path).map_err(StorageError::io("read", &path))?.is_some())
    }

    /// One of the offset checkpoints, by its file name; empty where it is missing.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn checkpoint(&self, file: &str) -> Result<BTreeMap<TopicPartition, Offset>, StorageError> {
        Ok(self.parsed(&self.path.join(file), checkpoint::parse_offsets)?.unwrap_or_default())
    }

    /// The folders of partitions, in order.
    ///
    /// # Errors
    /// What the system says.
    pub fn folders(&self) -> Result<Vec<PartitionFolder>, StorageError> {
        let entries = self.disk.list(&self.path).map_err(StorageError::io("read", &self.path))?;
        let folders = entries.iter().filter(|entry| entry.is_folder);
        let mut folders: Vec<PartitionFolder> =
            folders.filter_map(|entry| PartitionFolder::parse(&self.path.join(&entry.name))).collect();
        folders.sort_by(|a, b| (&a.partition, a.kind).cmp(&(&b.partition, b.kind)));
        Ok(folders)
    }

    /// The log of `partition`; `None` where it is not here.
    ///
    /// # Errors
    /// What the system says, or a log start offset checkpoint that is none.
    pub fn log(&self, partition: &TopicPartition) -> Result<Option<LogReader>, StorageError> {
        let folder = self.path.join(partition.to_string());
        if self.disk.stat(&folder).map_err(StorageError::io("read", &folder))?.is_none() {
            return Ok(None);
        }
        let start = self.checkpoint(LOG_START_OFFSET_FILE)?.get(partition).copied();
        Ok(Some(LogReader { disk: Arc::clone(&self.disk), folder, start: start.unwrap_or(Offset::ZERO) }))
    }

    fn parsed<T>(
        &self,
        path: &Path,
        parse: impl FnOnce(&[u8]) -> Result<T, CheckpointError>,
    ) -> Result<Option<T>, StorageError> {
        parsed(&*self.disk, path, parse)
    }
}

fn parsed<T>(
    disk: &dyn Disk,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, CheckpointError>,
) -> Result<Option<T>, StorageError> {
    match read_small(disk, path).map_err(StorageError::io("read", path))? {
        None => Ok(None),
        Some(bytes) => {
            parse(&bytes).map(Some).map_err(|error| StorageError::corrupt(path, error.to_string()))
        }
    }
}

/// A segment of a log, by its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFile {
    /// The offset in its name.
    pub base: Offset,
    /// The size of its `.log`.
    pub bytes: u64,
}

/// One partition's log, as it is on the disk at each call.
#[derive(Debug, Clone)]
pub struct LogReader {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// As the checkpoint says; 0 where it says nothing.
    start: Offset,
}

impl LogReader {
    /// The log in `folder`, whatever its name, from its first segment on.
    #[must_use]
    pub fn in_folder(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, folder: folder.to_owned(), start: Offset::ZERO }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of its topic.
    ///
    /// # Errors
    /// Where `partition.metadata` cannot be read, or is none.
    pub fn topic_id(&self) -> Result<Option<Uuid>, StorageError> {
        let path = self.folder.join(PARTITION_METADATA_FILE);
        parsed(&*self.disk, &path, checkpoint::parse_partition_metadata)
    }

    /// Which leader epoch began where.
    ///
    /// # Errors
    /// Where the checkpoint cannot be read, or is none.
    pub fn leader_epochs(&self) -> Result<Vec<(LeaderEpoch, Offset)>, StorageError> {
        let path = self.folder.join(LEADER_EPOCH_FILE);
        Ok(parsed(&*self.disk, &path, checkpoint::parse_epochs)?.unwrap_or_default())
    }

    /// The segments, oldest first.
    ///
    /// # Errors
    /// What the system says.
    pub fn segments(&self) -> Result<Vec<SegmentFile>, StorageError> {
        let read = |error| StorageError::io("read", &self.folder)(error);
        let mut bases = BTreeSet::new();
        for entry in self.disk.list(&self.folder).map_err(read)? {
            let name = entry.name.strip_suffix(SWAP_SUFFIX).unwrap_or(&entry.name);
            bases.extend(parse_file_name(name).filter(|(_, suffix)| *suffix == Suffix::Log));
        }
        let mut segments = Vec::with_capacity(bases.len());
        for (base, suffix) in bases {
            // One that was deleted since the folder was listed is not there.
            for path in self.paths(base, suffix) {
                if let Some(stat) = self.disk.stat(&path).map_err(read)? {
                    segments.push(SegmentFile { base, bytes: stat.len });
                    break;
                }
            }
        }
        Ok(segments)
    }

    /// Where a file may be: under its name, or where the cleaner is about to give it that.
    fn paths(&self, base: Offset, suffix: Suffix) -> [PathBuf; 2] {
        let name = file_name(base, suffix);
        [self.folder.join(&name), self.folder.join(format!("{name}{SWAP_SUFFIX}"))]
    }

    /// Bytes of all its `.log` files.
    ///
    /// # Errors
    /// What the system says.
    pub fn size_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.segments()?.iter().map(|segment| segment.bytes).sum())
    }

    /// The first offset that may be read.
    ///
    /// # Errors
    /// What the system says.
    pub fn log_start_offset(&self) -> Result<Offset, StorageError> {
        Ok(self.segments()?.first().map_or(self.start, |first| first.base.max(self.start)))
    }

    /// The offset behind the last whole batch.
    ///
    /// # Errors
    /// What the system says.
    pub fn log_end_offset(&self) -> Result<Offset, StorageError> {
        let Some(last) = self.segments()?.last().copied() else { return Ok(self.start) };
        let position = self.position_at_or_before(&last, Offset(i64::MAX))?;
        let mut end = last.base;
        self.scan(&last, position, LOOKUP_WINDOW, |scanned| {
            end = scanned.last_offset.next();
            Ok(true)
        })?;
        Ok(end.max(self.start))
    }

    /// The first record whose timestamp is `timestamp_ms` or later.
    ///
    /// # Errors
    /// What the system says, or a batch that is none.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>, StorageError> {
        let start = self.log_start_offset()?;
        for segment in self.segments()? {
            let before = self.last_time_entry(&segment, |entry| entry < timestamp_ms)?;
            let from = before.map_or(segment.base, |(_, offset)| offset).max(start);
            let found = self.find_record(
                &segment,
                from,
                |batch| batch >= timestamp_ms,
                |record| record.timestamp_ms >= timestamp_ms && record.offset >= start,
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record that holds the largest timestamp.
    ///
    /// # Errors
    /// What the system says, or a batch that is none.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, StorageError> {
        let start = self.log_start_offset()?;
        let mut largest: Option<(i64, SegmentFile, Offset)> = None;
        for segment in self.segments()? {
            let indexed = self.last_time_entry(&segment, |_| true)?;
            let from = indexed.map_or(segment.base, |(_, offset)| offset);
            let position = self.position_at_or_before(&segment, from)?;
            self.scan(&segment, position, WALK_WINDOW, |scanned| {
                let is_larger = largest.is_none_or(|(most, ..)| scanned.max_timestamp_ms > most);
                if is_larger && scanned.max_timestamp_ms >= 0 && scanned.last_offset >= start {
                    largest = Some((scanned.max_timestamp_ms, segment, scanned.base_offset));
                }
                Ok(true)
            })?;
        }
        let Some((most, segment, from)) = largest else { return Ok(None) };
        self.find_record(&segment, from, |batch| batch >= most, |record| record.timestamp_ms >= most)
    }

    /// The aborted transactions that have records in `from..to`, by their markers' order.
    ///
    /// # Errors
    /// What the system says, or a `.txnindex` that is none.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        let mut found = Vec::new();
        for segment in self.segments()? {
            let path = self.folder.join(file_name(segment.base, Suffix::TransactionIndex));
            let Some(bytes) = read_small(&*self.disk, &path).map_err(StorageError::io("read", &path))? else {
                continue;
            };
            let entries = transaction_index::parse(&bytes, segment.base)
                .ok_or_else(|| StorageError::corrupt(&path, "not a transaction index"))?;
            found.extend(
                entries.into_iter().filter(|entry| entry.last_offset >= from && entry.first_offset < to),
            );
        }
        Ok(found)
    }

    /// Reads whole batches from the one that holds `from` on (or the first after it).
    #[must_use]
    pub fn cursor(&self, from: Offset) -> LogCursor {
        LogCursor::new(self.clone(), from)
    }

    fn open(&self, base: Offset, suffix: Suffix) -> Result<Option<Arc<dyn DiskFile>>, StorageError> {
        for path in self.paths(base, suffix) {
            match self.disk.open(&path, Access::Read) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("open", &path)(error)),
            }
        }
        Ok(None)
    }

    /// Where in a segment the last index entry at or before `offset` points; 0 where there is none. The index
    /// only saves reading: one that is missing or wrong in its order costs a longer scan.
    fn position_at_or_before(&self, segment: &SegmentFile, offset: Offset) -> Result<u64, StorageError> {
        let entry = |bytes: &[u8]| {
            let relative = i64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            let position = u64::from(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
            (segment.base + relative, position)
        };
        // Nothing is indexed at position 0: an entry of zeros is one that was preallocated.
        let holds = |bytes: &[u8]| {
            let (last_offset, position) = entry(bytes);
            position > 0 && position < segment.bytes && last_offset <= offset
        };
        let found = self.last_slot(segment.base, Suffix::OffsetIndex, OFFSET_ENTRY_BYTES, holds)?;
        Ok(found.map_or(0, |bytes| entry(&bytes).1))
    }

    /// The last time index entry whose timestamp is as `holds` says (true up to some timestamp).
    fn last_time_entry(
        &self,
        segment: &SegmentFile,
        holds: impl Fn(i64) -> bool,
    ) -> Result<Option<(i64, Offset)>, StorageError> {
        let entry = |bytes: &[u8]| {
            let mut timestamp = [0; 8];
            timestamp.copy_from_slice(&bytes[..8]);
            let relative = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            (i64::from_be_bytes(timestamp), segment.base + i64::from(relative))
        };
        // No record is from 1970: an entry of zeros is one that was preallocated.
        let holds = |bytes: &[u8]| entry(bytes).0 > 0 && holds(entry(bytes).0);
        let found = self.last_slot(segment.base, Suffix::TimeIndex, TIME_ENTRY_BYTES, holds)?;
        Ok(found.map(|bytes| entry(&bytes)))
    }

    /// The last entry of an index for which `holds`, which is true up to some entry and false from there on.
    fn last_slot(
        &self,
        base: Offset,
        suffix: Suffix,
        entry_bytes: u64,
        holds: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.folder.join(file_name(base, suffix));
        let Some(file) = self.open(base, suffix)? else { return Ok(None) };
        let read = |error| StorageError::io("read", &path)(error);
        let mut entry = vec![0; entry_bytes as usize];
        let mut found = None;
        let (mut low, mut high) = (0, file.len().map_err(read)? / entry_bytes);
        while low < high {
            let middle = low + (high - low) / 2;
            let count = file.read_at(&mut entry, middle * entry_bytes).map_err(read)?;
            if count == entry.len() && holds(&entry) {
                found = Some(entry.clone());
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// Visits the batches of a segment from `position` on, until `visit` says no more. What stands behind the
    /// last whole batch ends the scan: it is being written, or a crash left it.
    fn scan(
        &self,
        segment: &SegmentFile,
        position: u64,
        window: usize,
        mut visit: impl FnMut(&Scanned) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let Some(file) = self.open(segment.base, Suffix::Log)? else { return Ok(()) };
        let mut window = vec![0; window];
        let mut scanner = Scanner::new(&*file, position.min(segment.bytes), segment.bytes, &mut window);
        loop {
            match scanner.next() {
                Ok(None) | Err(ScanError::Broken { .. }) => return Ok(()),
                Ok(Some(scanned)) => {
                    if !visit(&scanned)? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.at(&self.folder.join(file_name(segment.base, Suffix::Log)))),
            }
        }
    }

    /// The first record that `is_it`, looked for in the batches whose largest timestamp `may_hold` it, from
    /// the one that holds `from` on.
    fn find_record(
        &self,
        segment: &SegmentFile,
        from: Offset,
        may_hold: impl Fn(i64) -> bool,
        is_it: impl Fn(&TimestampOffset) -> bool,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let position = self.position_at_or_before(segment, from)?;
        let mut found = None;
        self.scan(segment, position, WALK_WINDOW, |scanned| {
            if scanned.last_offset >= from && may_hold(scanned.max_timestamp_ms) {
                found = self.record_in(segment, scanned, &is_it)?;
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    fn record_in(
        &self,
        segment: &SegmentFile,
        scanned: &Scanned,
        is_it: impl Fn(&TimestampOffset) -> bool,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let path = self.folder.join(file_name(segment.base, Suffix::Log));
        let Some(file) = self.open(segment.base, Suffix::Log)? else { return Ok(None) };
        // The scanner has held the size against the file's.
        let mut bytes = vec![0; scanned.size as usize];
        if file.read_at(&mut bytes, scanned.position).map_err(StorageError::io("read", &path))? < bytes.len()
        {
            return Ok(None);
        }
        let broken = |error: crate::record::BatchError| {
            StorageError::corrupt(&path, format!("position {}: {error}", scanned.position))
        };
        let batch = BatchRef::first(&bytes).map_err(broken)?;
        let mut scratch = Scratch::default();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).map_err(broken)?;
        while let Some(record) = records.next() {
            let record = record.map_err(broken)?;
            let candidate = TimestampOffset {
                timestamp_ms: record.timestamp_ms,
                offset: record.offset,
                leader_epoch: batch.header.leader_epoch,
            };
            if is_it(&candidate) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{BatchBuilder, Compression};
    use crate::storage::disk::RealDisk;
    use std::fs;

    /// A batch of `count` records from `base` on, one millisecond apart from `time` on.
    fn batch(base: i64, count: i64, time: i64) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(base), LeaderEpoch(7));
        for index in 0..count {
            builder.append(time + index, None, Some(b"value"), []);
        }
        builder.build().unwrap()
    }

    fn log(segments: &[(i64, &[Bytes])]) -> (tempfile::TempDir, LogReader) {
        let folder = tempfile::tempdir().unwrap();
        for (base, batches) in segments {
            fs::write(folder.path().join(file_name(Offset(*base), Suffix::Log)), batches.concat()).unwrap();
        }
        let reader = LogReader::in_folder(RealDisk::new(), folder.path());
        (folder, reader)
    }

    fn offsets(bytes: &Bytes) -> Vec<i64> {
        crate::record::batches(bytes).map(|batch| batch.unwrap().header.base_offset.0).collect()
    }

    #[test]
    fn folders_are_told_apart_by_their_suffix() {
        let unique = "0123456789abcdef0123456789abcdef";
        let kind = |name: &str| {
            PartitionFolder::parse(Path::new(name)).map(|folder| (folder.partition.to_string(), folder.kind))
        };
        assert_eq!(kind("/d/t-0"), Some(("t-0".into(), FolderKind::Current)));
        assert_eq!(kind(&format!("/d/t.x-1.{unique}-delete")), Some(("t.x-1".into(), FolderKind::Deleted)));
        assert_eq!(kind(&format!("/d/t-1.{unique}-future")), Some(("t-1".into(), FolderKind::Future)));
        assert_eq!(kind(&format!("/d/t-1.{unique}-stray")), Some(("t-1".into(), FolderKind::Stray)));
        assert_eq!(kind("/d/lost+found"), None);
    }

    #[test]
    fn a_cursor_reads_whole_batches_across_segments_and_goes_on_later() {
        let first = [batch(0, 10, 1_000), batch(10, 10, 2_000)];
        let second = [batch(20, 5, 3_000)];
        let (folder, log) = log(&[(0, &first), (20, &second)]);
        assert_eq!(log.log_end_offset().unwrap(), Offset(25));
        let mut cursor = log.cursor(Offset(12));
        let bytes = cursor.read(1 << 20, Offset(i64::MAX)).unwrap().unwrap();
        assert_eq!(offsets(&bytes), [10]);
        assert_eq!(offsets(&cursor.read(1, Offset(i64::MAX)).unwrap().unwrap()), [20]);
        assert_eq!(cursor.read(1, Offset(i64::MAX)).unwrap(), None);
        let path = folder.path().join(file_name(Offset(20), Suffix::Log));
        let torn = batch(25, 1, 4_000);
        fs::write(&path, [second[0].clone(), torn.slice(..torn.len() - 1)].concat()).unwrap();
        assert_eq!(cursor.read(1, Offset(i64::MAX)).unwrap(), None);
        assert_eq!(log.log_end_offset().unwrap(), Offset(25));
        fs::write(&path, [second[0].clone(), torn].concat()).unwrap();
        assert_eq!(offsets(&cursor.read(1, Offset(i64::MAX)).unwrap().unwrap()), [25]);
        assert_eq!(cursor.next_offset(), Offset(26));
    }

    #[test]
    fn a_cursor_stops_before_the_offset_it_is_given() {
        let (_folder, log) = log(&[(0, &[batch(0, 10, 1), batch(10, 10, 1)])]);
        let mut cursor = log.cursor(Offset::ZERO);
        assert_eq!(offsets(&cursor.read(1 << 20, Offset(10)).unwrap().unwrap()), [0]);
        assert_eq!(cursor.read(1 << 20, Offset(10)).unwrap(), None);
        assert_eq!(offsets(&cursor.read(1 << 20, Offset(11)).unwrap().unwrap()), [10]);
    }

    #[test]
    fn damage_in_a_sealed_segment_is_an_error_and_not_an_end() {
        let good = batch(0, 1, 1);
        let (_folder, log) = log(&[(0, &[good.clone(), good.slice(..30)]), (5, &[batch(5, 1, 1)])]);
        let mut cursor = log.cursor(Offset::ZERO);
        cursor.read(1 << 20, Offset(i64::MAX)).unwrap().unwrap();
        assert!(matches!(cursor.read(1 << 20, Offset(i64::MAX)), Err(StorageError::Corrupt { .. })));
    }

    #[test]
    fn times_are_found_with_and_without_an_index() {
        let first = [batch(0, 10, 1_000), batch(10, 10, 2_000)];
        let (folder, log) = log(&[(0, &first), (20, &[batch(20, 5, 3_000)])]);
        let at = |timestamp| log.offset_for_timestamp(timestamp).unwrap().map(|found| found.offset.0);
        let check = || {
            for (timestamp, offset) in [(0, Some(0)), (1_005, Some(5)), (1_500, Some(10)), (2_009, Some(19))]
            {
                assert_eq!(at(timestamp), offset, "{timestamp}");
            }
            assert_eq!(at(2_500), Some(20));
            assert_eq!(at(3_005), None);
            let newest = log.max_timestamp().unwrap().unwrap();
            assert_eq!(
                (newest.timestamp_ms, newest.offset, newest.leader_epoch),
                (3_004, Offset(24), LeaderEpoch(7))
            );
        };
        check();
        let mut entries = Vec::new();
        entries.extend([19u32.to_be_bytes(), (first[0].len() as u32).to_be_bytes()].concat());
        entries.extend([0; 800]);
        fs::write(folder.path().join(file_name(Offset(0), Suffix::OffsetIndex)), entries).unwrap();
        let times = [&1_009i64.to_be_bytes()[..], &9u32.to_be_bytes(), &[0; 1_200]].concat();
        fs::write(folder.path().join(file_name(Offset(0), Suffix::TimeIndex)), times).unwrap();
        check();
        assert_eq!(offsets(&log.cursor(Offset(19)).read(1, Offset(i64::MAX)).unwrap().unwrap()), [10]);
    }
}
