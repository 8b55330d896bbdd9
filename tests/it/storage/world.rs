//! What the storage tests share: batches, logs in temporary folders, and what a log holds.
#![allow(dead_code, reason = "shared by the storage tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use klamm::record::{BatchBuilder, Compression, InflateLimits, ProducerState, Scratch, batches};
use klamm::storage::{
    AppendOrigin, Appended, Disk, Log, LogHome, LogOptions, OpenHints, ReadOutcome, RealDisk, Recovered,
};
use klamm::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicName, TopicPartition};

pub const NOW: i64 = 1_800_000_000_000;
pub const EPOCH: LeaderEpoch = LeaderEpoch(0);

pub fn partition(name: &str) -> TopicPartition {
    TopicPartition::from_dir_name(name).unwrap()
}

/// A batch of the records `values`, all with `timestamp_ms`.
pub fn batch_at(timestamp_ms: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for value in values {
        builder.append(timestamp_ms, None, Some(value.as_bytes()), []);
    }
    builder.build().unwrap()
}

pub fn batch(values: &[&str]) -> Bytes {
    batch_at(NOW, values)
}

/// A batch of one record of `size` bytes.
pub fn sized(size: usize) -> Bytes {
    batch(&[&"x".repeat(size)])
}

pub fn producer(id: i64, epoch: i16, base_sequence: i32) -> ProducerState {
    ProducerState { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence, is_transactional: false }
}

/// `count` records of a producer.
pub fn batch_of(producer: ProducerState, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE).by(producer);
    for index in 0..count {
        builder.append(NOW, None, Some(format!("{}-{index}", producer.base_sequence).as_bytes()), []);
    }
    builder.build().unwrap()
}

pub fn marker(id: i64, epoch: i16, commit: bool, coordinator_epoch: i32) -> Bytes {
    BatchBuilder::end_marker(ProducerId(id), ProducerEpoch(epoch), NOW, commit, coordinator_epoch).unwrap()
}

/// A log in a temporary folder that can be stopped in both ways.
pub struct World {
    pub folder: tempfile::TempDir,
    pub home: LogHome,
    pub options: LogOptions,
    pub now_ms: i64,
}

impl World {
    pub fn new() -> Self {
        Self::on(RealDisk::new())
    }

    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            home: LogHome::new(disk),
            options: LogOptions::default(),
            now_ms: NOW,
        }
    }

    pub fn small_segments(segment_bytes: u64) -> Self {
        let mut world = Self::new();
        world.options.segment_bytes = segment_bytes;
        world
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("t-0")
    }

    pub fn create(&self) -> Log {
        Log::create(&self.home, &self.path(), partition("t-0"), None, self.options, self.now_ms).unwrap()
    }

    /// After `kill -9`: nothing is known but the recovery point.
    pub fn reopen_unclean(&self, recovery_point: Offset) -> (Log, Recovered) {
        self.open(OpenHints { clean: false, recovery_point, ..OpenHints::default() })
    }

    /// Closes cleanly and opens with what the checkpoints would say.
    pub fn reopen_clean(&self, mut log: Log) -> Log {
        log.close_clean().unwrap();
        let hints = clean_hints(&log);
        drop(log);
        let (log, recovered) = self.open(hints);
        assert_eq!(recovered, Recovered::default());
        log
    }

    pub fn open(&self, hints: OpenHints) -> (Log, Recovered) {
        Log::open(&self.home, &self.path(), partition("t-0"), self.options, hints, self.now_ms).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        names(&self.path())
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn clean_hints(log: &Log) -> OpenHints {
    let point = log.point();
    OpenHints {
        clean: true,
        recovery_point: point.recovery_point,
        log_start_offset: point.log_start_offset,
        high_watermark: Some(point.high_watermark),
        cleaner_point: None,
    }
}

pub fn append(log: &mut Log, bytes: &[u8]) -> Appended {
    append_at(log, bytes, NOW)
}

pub fn append_times(log: &mut Log, times: usize, bytes: &[u8]) {
    for _ in 0..times {
        append(log, bytes);
    }
}

pub fn append_at(log: &mut Log, bytes: &[u8], now_ms: i64) -> Appended {
    let appended = log.append_as_leader(bytes, EPOCH, AppendOrigin::Client, now_ms).unwrap();
    log.advance_high_watermark(log.log_end_offset());
    appended
}

pub fn read_bytes(log: &Log, from: Offset, max_bytes: usize) -> Bytes {
    match log.read(from, log.log_end_offset(), max_bytes, true).unwrap() {
        ReadOutcome::Slice(slice) => slice.region.read().unwrap(),
        ReadOutcome::Later { offset } => panic!("offset {offset} is not local"),
    }
}

/// All records from `from` on: offset and value.
pub fn records_from(log: &Log, from: Offset) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let bytes = read_bytes(log, next, 1 << 20);
        if bytes.is_empty() {
            return found;
        }
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.check_crc().unwrap();
            let mut scratch = Scratch::new();
            let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
            while let Some(record) = records.next() {
                let record = record.unwrap();
                if record.offset >= next && !batch.header.is_control() {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    found.push((record.offset.0, value));
                }
            }
            next = batch.header.next_offset();
        }
    }
}

pub fn values(log: &Log) -> Vec<String> {
    records_from(log, log.log_start_offset()).into_iter().map(|(_, value)| value).collect()
}

pub fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}
