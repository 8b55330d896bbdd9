//! One compacted log, and everything that was ever written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm::record::{
    BatchBuilder, BatchRef, Codec, Compression, HeaderRef, InflateLimits, ProducerState, Scratch, batches,
};
use klamm::storage::cleaner::{CleanError, Cleaned, Cleaning, CleaningLimits, CompactionRules, Progress};
use klamm::storage::hostile::HostileDisk;
use klamm::storage::{AppendOrigin, Disk as _, Log, LogHome, LogOptions, OpenHints, ReadOutcome};
use klamm::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicName, TopicPartition};

pub const EPOCH: LeaderEpoch = LeaderEpoch(3);
pub const START_MS: i64 = 1_700_000_000_000;

/// A record, as it was sent and as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What became of a record's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Committed,
    Aborted,
    Open,
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub entry: Entry,
    pub producer: Option<i64>,
    pub fate: Fate,
    pub sent_ms: i64,
}

pub fn id() -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), 0)
}

pub fn rules() -> CompactionRules {
    CompactionRules {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: 10_000,
    }
}

pub fn limits() -> CleaningLimits {
    CleaningLimits { buffer_bytes: 4_096, ..CleaningLimits::default() }
}

/// Where the log lies on a disk in memory.
pub fn folder() -> PathBuf {
    PathBuf::from("/logs/t-0")
}

pub fn create(disk: &Arc<HostileDisk>, options: LogOptions) -> Log {
    disk.create_folder(Path::new("/logs")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let home = LogHome::new(Arc::<HostileDisk>::clone(disk));
    Log::create(&home, &folder(), id(), None, options, START_MS).unwrap()
}

pub fn open(disk: &Arc<HostileDisk>, options: LogOptions, hints: OpenHints, now_ms: i64) -> Log {
    let home = LogHome::new(Arc::<HostileDisk>::clone(disk));
    Log::open(&home, &folder(), id(), options, hints, now_ms).unwrap().0
}

/// The names in the folder.
pub fn names(disk: &Arc<HostileDisk>) -> Vec<String> {
    disk.list(&folder()).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// `KLAMM_COMPACTION_SEEDS` in the long run, else `few`.
pub fn seeds(few: usize) -> usize {
    std::env::var("KLAMM_COMPACTION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// A batch that stands for itself: keys and values with headers, at `now_ms` and later.
pub fn batch(
    codec: Codec,
    producer: ProducerState,
    now_ms: i64,
    records: &[(Vec<u8>, Option<Vec<u8>>)],
) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::new(codec)).by(producer);
    for (index, (key, value)) in records.iter().enumerate() {
        let header = HeaderRef { key: b"n", value: Some(key) };
        builder.append(now_ms + index as i64, Some(key), value.as_deref(), [header]);
    }
    builder.build().unwrap()
}

pub fn append(log: &mut Log, bytes: &[u8], origin: AppendOrigin, now_ms: i64) -> i64 {
    let appended = log.append_as_leader(bytes, EPOCH, origin, now_ms).unwrap();
    assert!(!appended.duplicate);
    log.advance_high_watermark(log.log_end_offset());
    appended.base_offset.0
}

pub fn marker(log: &mut Log, producer: i64, epoch: i16, commits: bool, now_ms: i64) -> i64 {
    let bytes =
        BatchBuilder::end_marker(ProducerId(producer), ProducerEpoch(epoch), now_ms, commits, 1).unwrap();
    append(log, &bytes, AppendOrigin::TransactionMarker { transaction_version: 1 }, now_ms)
}

/// Drives a round to its end; `between` sees the log before every step.
pub fn clean_with(
    log: &mut Log,
    rules: &CompactionRules,
    limits: &CleaningLimits,
    now_ms: i64,
    mut between: impl FnMut(&mut Log) -> bool,
) -> Result<Option<Cleaned>, CleanError> {
    let Some(mut cleaning) = Cleaning::begin(log, rules, limits, [9; 16], now_ms)? else { return Ok(None) };
    let mut drive = |log: &mut Log, cleaning: &mut Cleaning| loop {
        if !between(log) {
            return Err(CleanError::Aborted);
        }
        match cleaning.work()? {
            Progress::Worked(_) => {}
            Progress::NeedsLog => {
                if let Some(cleaned) = cleaning.settle(log)? {
                    return Ok(Some(cleaned));
                }
            }
        }
    };
    let driven = drive(log, &mut cleaning);
    if driven.is_err() {
        cleaning.abandon(log);
    }
    driven
}

/// Everything in the log below `end` that a consumer is sent from `from` on.
pub fn read_all(log: &Log, from: Offset, end: Offset, max_bytes: usize) -> Vec<Entry> {
    read(log, from, end, max_bytes, false)
}

/// As a consumer of committed records sees it, with the aborted transactions that come with each answer.
pub fn read_committed(log: &Log, from: Offset, max_bytes: usize) -> Vec<Entry> {
    read(log, from, log.last_stable_offset(), max_bytes, true)
}

fn read(log: &Log, from: Offset, end: Offset, max_bytes: usize, is_committed: bool) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut next = from;
    let mut scratch = Scratch::new();
    loop {
        let ReadOutcome::Slice(slice) = log.read(next, end, max_bytes, true).unwrap() else {
            panic!("local")
        };
        let bytes = slice.region.read().unwrap();
        if bytes.is_empty() {
            return found;
        }
        let mut aborted: Vec<(i64, i64)> = log
            .aborted_transactions(next, slice.upper_bound)
            .unwrap()
            .iter()
            .map(|aborted| (aborted.first_offset.0, aborted.producer_id.0))
            .collect();
        aborted.sort_unstable();
        let mut aborted = aborted.into_iter().peekable();
        let mut aborting = BTreeSet::new();
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.check_crc().unwrap();
            let header = batch.header;
            while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= header.last_offset().0) {
                aborting.insert(producer);
            }
            let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
            let mut is_dropped = header.is_control();
            if is_committed && header.is_transactional() {
                is_dropped |= aborting.contains(&header.producer_id.0);
            }
            while let Some(record) = records.next() {
                let record = record.unwrap();
                if header.is_control() {
                    if record.key.unwrap()[3] == 0 {
                        aborting.remove(&header.producer_id.0);
                    }
                } else if record.offset >= next && !is_dropped {
                    assert_eq!(record.headers.len(), 1);
                    found.push(Entry {
                        offset: record.offset.0,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.unwrap().to_vec(),
                        value: record.value.map(<[u8]>::to_vec),
                    });
                }
            }
            assert!(header.next_offset() > next, "no batch behind what was asked for");
            next = header.next_offset();
        }
    }
}

/// The records of a batch.
pub fn entries(batch: &BatchRef<'_>) -> Vec<Entry> {
    let mut scratch = Scratch::new();
    let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
    let mut found = Vec::new();
    while let Some(record) = records.next() {
        let record = record.unwrap();
        found.push(Entry {
            offset: record.offset.0,
            timestamp_ms: record.timestamp_ms,
            key: record.key.unwrap().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
        });
    }
    found
}

/// The last value of each key; a key whose last record is a tombstone is not there.
pub fn last_values<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<Vec<u8>, (i64, Vec<u8>)> {
    let mut last = BTreeMap::new();
    for entry in entries {
        match &entry.value {
            Some(value) => drop(last.insert(entry.key.clone(), (entry.offset, value.clone()))),
            None => drop(last.remove(&entry.key)),
        }
    }
    last
}
