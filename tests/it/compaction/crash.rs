//! A process that is killed at any call of a round: whatever had its new name by then, the log opens as what it
//! was, cleaned or not.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use klamm::record::{Codec, ProducerState};
use klamm::storage::disk::{
    Access, DirectoryEntry, DiskLock, DiskSpace, DiskStats, FileStat, LockError, Mapped,
};
use klamm::storage::{AppendOrigin, Disk, DiskFile, Log, LogHome, LogOptions, OpenHints, RealDisk, Region};
use klamm::types::{Offset, ProducerEpoch, ProducerId};

use super::world::{
    Entry, START_MS, append, batch, clean_with, folder, id, last_values, limits, marker, open,
    read_committed, rules,
};

/// The machine's disk, but that nothing waits for it, and that no change is made after the first few.
#[derive(Debug)]
pub struct ShortDisk {
    inner: Arc<RealDisk>,
    changes_left: Arc<AtomicUsize>,
}

impl ShortDisk {
    pub fn new(changes: usize) -> Arc<Self> {
        Arc::new(Self { inner: RealDisk::new(), changes_left: Arc::new(AtomicUsize::new(changes)) })
    }

    /// One that makes every change.
    pub fn lasting() -> Arc<Self> {
        Self::new(usize::MAX / 2)
    }

    fn changes_left(&self) -> usize {
        self.changes_left.load(Ordering::Relaxed)
    }
}

fn spend(changes_left: &AtomicUsize) -> io::Result<()> {
    let spent = changes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    spent.map(drop).map_err(|_| io::Error::other("killed"))
}

#[derive(Debug)]
struct ShortFile {
    inner: Arc<dyn DiskFile>,
    changes_left: Arc<AtomicUsize>,
}

impl Disk for ShortDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(access, Access::Create | Access::Replace) {
            spend(&self.changes_left)?;
        }
        let inner = self.inner.open(path, access)?;
        Ok(Arc::new(ShortFile { inner, changes_left: Arc::clone(&self.changes_left) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(folder)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.remove_folder(path)
    }

    fn sync_dir(&self, _folder: &Path) -> io::Result<()> {
        spend(&self.changes_left)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.inner.lock(path)
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        self.inner.space(folder)
    }

    fn stats(&self) -> &DiskStats {
        self.inner.stats()
    }
}

impl DiskFile for ShortFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.write_at(pieces, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        spend(&self.changes_left)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        spend(&self.changes_left)
    }

    fn map(&self, len: usize) -> io::Result<Mapped> {
        self.inner.map(len)
    }

    fn region(&self, position: u64, len: usize) -> io::Result<Region> {
        self.inner.region(position, len)
    }
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2_500,
        index_interval_bytes: 200,
        segment_index_bytes: 240,
        ..LogOptions::default()
    }
}

/// Several groups of several segments, with tombstones, an aborted transaction and a committed one.
fn write(log: &mut Log) {
    let transactional = |base_sequence| ProducerState {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
        base_sequence,
        is_transactional: true,
    };
    let mut sequence = 0;
    for round in 0..40_i64 {
        let records: Vec<_> = (0..4)
            .map(|index| {
                let key = format!("key-{}", (round * 3 + index) % 11).into_bytes();
                let value = (round % 9 != index).then(|| format!("{round}-{index}-{:060}", 0).into_bytes());
                (key, value)
            })
            .collect();
        let in_transaction = round % 5 == 0;
        let producer = if in_transaction { transactional(sequence) } else { ProducerState::NONE };
        let codec = Codec::ALL[(round % 5) as usize];
        append(log, &batch(codec, producer, START_MS + round, &records), AppendOrigin::Client, START_MS);
        if in_transaction {
            sequence += 4;
            marker(log, 7, 0, round % 10 == 0, START_MS);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(folder(to)).unwrap();
    for entry in std::fs::read_dir(folder(from)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder(to).join(entry.file_name())).unwrap();
    }
}

fn seen(log: &Log) -> Vec<Entry> {
    read_committed(log, log.log_start_offset(), 1 << 20)
}

#[test]
fn s1_3_log_compaction_test_a_round_killed_at_any_call_leaves_the_log_as_it_was() {
    let original = tempfile::tempdir().unwrap();
    let home = LogHome::new(RealDisk::new());
    let mut log = Log::create(&home, &folder(original.path()), id(), None, options(), START_MS).unwrap();
    write(&mut log);
    let (before, end) = (seen(&log), log.log_end_offset());
    let producers: Vec<_> = log.active_producers().collect();
    log.close_clean().unwrap();
    let flushed = log.flushed_offset();
    drop(log);
    let mut changes = 0;
    loop {
        let copied = tempfile::tempdir().unwrap();
        copy(original.path(), copied.path());
        let hints = OpenHints { clean: true, recovery_point: flushed, ..OpenHints::default() };
        let disk = ShortDisk::new(usize::MAX / 2);
        let mut log = open(copied.path(), disk.clone(), options(), hints, START_MS);
        log.advance_high_watermark(end);
        disk.changes_left.store(changes, Ordering::Relaxed);
        let cleaned = clean_with(&mut log, &rules(), &limits(), START_MS, |_| true);
        let is_whole = cleaned.is_ok() && disk.changes_left() > 0;
        drop(log);
        // Once from the start, once trusting what lies before the recovery point, as a broker does.
        for recovery_point in [flushed, Offset::ZERO] {
            let hints = OpenHints { recovery_point, ..OpenHints::default() };
            let mut log = open(copied.path(), ShortDisk::lasting(), options(), hints, START_MS);
            assert_eq!(log.log_end_offset(), end, "killed after {changes} changes");
            log.advance_high_watermark(end);
            let after = seen(&log);
            assert_eq!(last_values(&after), last_values(&before), "killed after {changes} changes");
            assert!(after.iter().all(|entry| before.contains(entry)), "killed after {changes} changes");
            assert_eq!(log.active_producers().collect::<Vec<_>>(), producers, "after {changes} changes");
            let names = std::fs::read_dir(folder(copied.path())).unwrap();
            for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
                let is_left = [".cleaned", ".swap", ".deleted"].iter().any(|suffix| name.ends_with(suffix));
                assert!(!is_left, "{name} is left, killed after {changes} changes");
            }
            // And it can be cleaned.
            clean_with(&mut log, &rules(), &limits(), START_MS, |_| true).unwrap();
            assert_eq!(last_values(&seen(&log)), last_values(&before), "killed after {changes} changes");
        }
        if is_whole {
            break;
        }
        changes += 1;
    }
    assert!(changes > 60, "{changes} calls were cut at");
}
