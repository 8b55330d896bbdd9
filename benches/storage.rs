//! What the log costs: appending, finding and handing out batches, and opening many partitions.
//!
//! `cargo bench --bench storage`. `crc_and_write` is the floor under `append`: a CRC over the batch and one write
//! to the same kind of file, which is what any log has to pay. The files are in `$TMPDIR`; what is written stays
//! below 256 MiB, so that pages are reused. Compare figures of one run only.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::io::IoSlice;
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use klamm::record::{BatchBuilder, Compression, Scratch, WalkRules, walk};
use klamm::storage::disk::Access;
use klamm::storage::{
    AppendOrigin, Disk, Log, LogDirectories, LogHome, LogOptions, LogPoint, OpenHints, RealDisk,
};
use klamm::types::{LeaderEpoch, Offset, TopicName, TopicPartition};

fn main() {
    divan::main();
}

const NOW_MS: i64 = 1_700_000_000_000;
const EPOCH: LeaderEpoch = LeaderEpoch(0);
/// Written before the file is begun anew.
const BYTES_MAX: u64 = 256 << 20;

/// Records in a batch, and bytes of each.
const SHAPES: [(usize, usize); 3] = [(1, 100), (128, 100), (900, 1_000)];

fn batch((count, value_size): (usize, usize)) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for index in 0..count {
        let value: Vec<u8> = (0..value_size).map(|at| (index * 31 + at * 7) as u8).collect();
        builder.append(NOW_MS, None, Some(&value), []);
    }
    builder.build().unwrap().to_vec()
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), number)
}

fn new_log(folder: &tempfile::TempDir, options: LogOptions) -> Log {
    let home = LogHome::new(RealDisk::new());
    Log::create(&home, &folder.path().join("t-0"), partition(0), None, options, NOW_MS).unwrap()
}

/// Appends, and begins anew when the log is as large as the benchmark may get.
fn append(log: &mut Log, bytes: &[u8]) {
    if log.size_bytes() > BYTES_MAX {
        log.truncate_fully_and_start_at(Offset(0), NOW_MS).unwrap();
        log.deletions().remove_due(&**log.disk(), i64::MAX).unwrap();
    }
    black_box(log.append_as_leader(bytes, EPOCH, AppendOrigin::Client, NOW_MS).unwrap());
}

#[divan::bench(args = SHAPES.map(|shape| format!("{} x {} B", shape.0, shape.1)))]
fn crc_and_write(bencher: Bencher<'_, '_>, shape: &str) {
    let bytes = batch(parse(shape));
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::new();
    let file = disk.open(&folder.path().join("0.log"), Access::Create).unwrap();
    let mut position = 0;
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        if position > BYTES_MAX {
            file.set_len(0).unwrap();
            position = 0;
        }
        black_box(crc32c::crc32c(&bytes));
        file.write_at(&mut [IoSlice::new(&bytes)], position).unwrap();
        position += bytes.len() as u64;
    });
}

#[divan::bench(args = SHAPES.map(|shape| format!("{} x {} B", shape.0, shape.1)))]
fn append_batches(bencher: Bencher<'_, '_>, shape: &str) {
    let bytes = batch(parse(shape));
    let folder = tempfile::tempdir().unwrap();
    let mut log = new_log(&folder, LogOptions::default());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| append(&mut log, &bytes));
}

/// All that a produced batch goes through between the socket and the page cache.
#[divan::bench(args = SHAPES.map(|shape| format!("{} x {} B", shape.0, shape.1)))]
fn walk_and_append(bencher: Bencher<'_, '_>, shape: &str) {
    let bytes = batch(parse(shape));
    let folder = tempfile::tempdir().unwrap();
    let mut log = new_log(&folder, LogOptions::default());
    let mut scratch = Scratch::new();
    let rules = WalkRules { now_ms: NOW_MS, ..WalkRules::default() };
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        black_box(walk(&bytes, &rules, &mut scratch).unwrap());
        append(&mut log, &bytes);
    });
}

fn parse(shape: &str) -> (usize, usize) {
    *SHAPES.iter().find(|(count, size)| format!("{count} x {size} B") == shape).unwrap()
}

fn filled() -> (tempfile::TempDir, Log) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = new_log(&folder, LogOptions { segment_bytes: 32 << 20, ..LogOptions::default() });
    let bytes = batch((128, 100));
    while log.size_bytes() < 128 << 20 {
        append(&mut log, &bytes);
    }
    log.advance_high_watermark(log.log_end_offset());
    (folder, log)
}

/// A fetch near the end: its index entries are in memory.
#[divan::bench]
fn find_tail(bencher: Bencher<'_, '_>) {
    let (_folder, log) = filled();
    let from = log.log_end_offset() + -100;
    bencher
        .bench_local(|| black_box(log.read(black_box(from), log.log_end_offset(), 1 << 20, true).unwrap()));
}

/// A fetch somewhere in a sealed segment: its index is mapped.
#[divan::bench]
fn find_anywhere(bencher: Bencher<'_, '_>) {
    let (_folder, log) = filled();
    let end = log.log_end_offset();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 7_919 * 128) % end.0;
        black_box(log.read(Offset(at), end, 1 << 20, true).unwrap())
    });
}

#[divan::bench]
fn find_timestamp(bencher: Bencher<'_, '_>) {
    let (_folder, log) = filled();
    bencher.bench_local(|| black_box(log.offset_for_timestamp(black_box(NOW_MS)).unwrap()));
}

/// Opens 1,000 partitions that were stopped cleanly, on one thread.
#[divan::bench(sample_count = 20)]
fn open_1000_clean(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = RealDisk::new();
    let paths = [folder.path().to_owned()];
    let bytes = batch((10, 100));
    let directories = LogDirectories::open(&disk, &paths).unwrap();
    let mut logs: Vec<Log> = (0..1_000)
        .map(|number| directories.create_log(partition(number), None, LogOptions::default(), NOW_MS).unwrap())
        .collect();
    let points: Vec<LogPoint> = logs
        .iter_mut()
        .map(|log| {
            append(log, &bytes);
            log.close_clean().unwrap();
            log.point()
        })
        .collect();
    directories.finish_clean(&points, 1);
    drop((logs, directories));
    let mark = folder.path().join(".kafka_cleanshutdown");
    let marked = || std::fs::write(&mark, "{}").unwrap();
    bencher.counter(ItemsCount::new(1_000_usize)).with_inputs(marked).bench_local_values(|()| {
        let directories = LogDirectories::open(&disk, &paths).unwrap();
        let planned = directories.plan(NOW_MS).unwrap();
        let open =
            |planned: klamm::storage::PlannedLog| planned.open(LogOptions::default(), NOW_MS).unwrap().0;
        planned.into_iter().map(open).collect::<Vec<Log>>()
    });
}

/// Checks 64 MiB after an unclean stop.
#[divan::bench(sample_count = 10)]
fn recover_64_mib(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = new_log(&folder, LogOptions::default());
    let bytes = batch((128, 100));
    while log.size_bytes() < 64 << 20 {
        append(&mut log, &bytes);
    }
    let size = log.size_bytes();
    drop(log);
    let home = LogHome::new(RealDisk::new());
    let path = folder.path().join("t-0");
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        Log::open(&home, &path, partition(0), LogOptions::default(), OpenHints::default(), NOW_MS).unwrap()
    });
}
