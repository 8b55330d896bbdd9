//! Directories that Apache Kafka wrote (`testdata/kafka`): opened as they are, left as they were, and written
//! again by us to the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm::record::{BatchRef, batches};
use klamm::storage::{
    AppendOrigin, Disk, FileKind, Log, LogDirectories, LogHome, LogOptions, LogPoint, OpenHints, RealDisk,
    Recovered,
};
use klamm::types::{LeaderEpoch, Offset, TopicPartition};

use super::world::{NOW, names, partition, read_bytes};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka").join(name)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// All files below a folder.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(content(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn open_all(directories: &LogDirectories) -> Vec<(Log, Recovered)> {
    let planned = directories.plan(NOW).unwrap();
    planned.into_iter().map(|planned| planned.open(LogOptions::default(), NOW).unwrap()).collect()
}

fn offsets(checkpoint: &Path) -> BTreeMap<TopicPartition, Offset> {
    klamm::storage::checkpoint::parse_offsets(&std::fs::read(checkpoint).unwrap()).unwrap()
}

/// The batches of a log, one after another, as they stand in its files.
fn whole(log: &Log) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let piece = read_bytes(log, next, 1 << 20);
        let Some(last) = batches(&piece).map(|batch| batch.unwrap().header).last() else { break };
        bytes.extend_from_slice(&piece);
        next = last.next_offset();
    }
    bytes
}

#[test]
fn a_directory_that_kafka_left_is_opened_without_reading_a_batch_and_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("logs");
    copy_folder(&testdata("clean"), &path);
    let mut before = content(&path);
    let disk = RealDisk::new();
    let seam: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let directories = LogDirectories::open(&seam, std::slice::from_ref(&path)).unwrap();
    assert!(directories.clean_broker_epoch().is_some());
    let mut logs = open_all(&directories);
    assert_eq!(logs.len(), 26);
    assert_eq!(disk.stats().of(FileKind::Log).bytes_read.load(Ordering::Relaxed), 0);
    let ends = offsets(&path.join("recovery-point-offset-checkpoint"));
    let starts = offsets(&path.join("log-start-offset-checkpoint"));
    for (log, recovered) in &logs {
        let name = log.partition();
        assert_eq!(recovered, &Recovered::default(), "{name}");
        assert_eq!(log.log_end_offset(), ends[name], "{name}");
        assert_eq!(log.high_watermark(), ends[name], "{name}");
        let first = log.first_segment_base_offset();
        assert_eq!(log.log_start_offset(), starts.get(name).copied().unwrap_or(first), "{name}");
        assert!(log.topic_id().is_some(), "{name}");
    }
    for (log, _) in &mut logs {
        log.close_clean().unwrap();
    }
    let points: Vec<LogPoint> = logs.iter().map(|(log, _)| log.point()).collect();
    let epoch = directories.clean_broker_epoch().unwrap();
    assert_eq!(directories.finish_clean(&points, epoch), 1);
    drop((logs, directories));
    let mut after = content(&path);
    after.remove(".lock");
    // What Kafka's own next start removes: snapshots of the stop before.
    for stray in ["codec-none-0/26", "idempotent-0/48"] {
        let (folder, offset) = stray.split_once('/').unwrap();
        before.remove(&format!("{folder}/{offset:0>20}.snapshot")).unwrap();
    }
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    for (name, bytes) in &before {
        if name.ends_with("-offset-checkpoint") {
            assert_eq!(offsets(&path.join(name)), offsets(&testdata("clean").join(name)), "{name}");
        } else {
            assert_eq!(&after[name], bytes, "{name}");
        }
    }
}

#[test]
fn what_kafka_wrote_is_read_whole_through_the_log() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("logs");
    copy_folder(&testdata("clean"), &path);
    let disk: Arc<dyn Disk> = RealDisk::new();
    let directories = LogDirectories::open(&disk, std::slice::from_ref(&path)).unwrap();
    for (log, _) in open_all(&directories) {
        let mut on_disk = Vec::new();
        for name in names(log.folder()).iter().filter(|name| name.ends_with(".log")) {
            on_disk.extend(std::fs::read(log.folder().join(name)).unwrap());
        }
        let read = whole(&log);
        // Behind DeleteRecords the first batches are not read.
        assert!(on_disk.ends_with(&read), "{}", log.partition());
        if log.log_start_offset() == log.first_segment_base_offset() {
            assert_eq!(read.len(), on_disk.len(), "{}", log.partition());
        }
    }
}

#[test]
fn aborted_transactions_and_the_stable_offset_are_those_of_kafka() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("logs");
    copy_folder(&testdata("clean"), &path);
    let disk: Arc<dyn Disk> = RealDisk::new();
    let directories = LogDirectories::open(&disk, std::slice::from_ref(&path)).unwrap();
    let logs = open_all(&directories);
    let log = |name: &str| &logs.iter().find(|(log, _)| log.partition() == &partition(name)).unwrap().0;
    let transactions = log("transactions-0");
    let aborted = transactions.aborted_transactions(Offset(0), transactions.log_end_offset()).unwrap();
    assert_eq!(aborted.len(), 2);
    assert_eq!(transactions.last_stable_offset(), transactions.log_end_offset());
    let open = log("open-transaction-0");
    assert_eq!((open.last_stable_offset(), open.log_end_offset()), (Offset(0), Offset(2)));
}

/// What `segments` and `transactions` were made with.
fn dense() -> LogOptions {
    LogOptions { segment_ms: 1_000, index_interval_bytes: 200, ..LogOptions::default() }
}

/// Opens a copy of one partition as after `kill -9`.
fn recover(folder: &Path) -> (tempfile::TempDir, Log, Recovered) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("t-0");
    copy_folder(folder, &path);
    let home = LogHome::new(RealDisk::new());
    let (log, recovered) =
        Log::open(&home, &path, partition("t-0"), dense(), OpenHints::default(), NOW).unwrap();
    (root, log, recovered)
}

#[test]
fn recovery_of_a_sound_log_changes_nothing_but_what_a_restart_had_left_out_of_an_index() {
    for name in names(&testdata("clean")) {
        let folder = testdata("clean").join(&name);
        if !folder.is_dir() || name.starts_with("__cluster_metadata") {
            continue;
        }
        let (root, log, recovered) = recover(&folder);
        assert_eq!(
            (recovered.bytes_cut, recovered.segments_dropped, recovered.fault),
            (0, 0, None),
            "{name}"
        );
        let end = offsets(&testdata("clean").join("recovery-point-offset-checkpoint"))[&partition(&name)];
        assert_eq!(log.log_end_offset(), end, "{name}");
        let (before, after) = (content(&folder), content(&root.path().join("t-0")));
        for (file, bytes) in &before {
            if file.ends_with(".log") || file.ends_with(".txnindex") || file.ends_with("metadata") {
                assert_eq!(Some(bytes), after.get(file), "{name}/{file}");
            }
        }
    }
}

#[test]
fn a_killed_kafka_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("logs");
    copy_folder(&testdata("killed"), &path);
    let disk: Arc<dyn Disk> = RealDisk::new();
    let directories = LogDirectories::open(&disk, std::slice::from_ref(&path)).unwrap();
    assert_eq!(directories.clean_broker_epoch(), None);
    let high_watermarks = offsets(&testdata("killed").join("replication-offset-checkpoint"));
    for (log, recovered) in open_all(&directories) {
        let name = log.partition();
        assert_eq!((recovered.bytes_cut, recovered.fault), (0, None), "{name}");
        assert!(high_watermarks.get(name).is_none_or(|mark| log.log_end_offset() >= *mark), "{name}");
        assert!(!names(log.folder()).iter().any(|file| file.ends_with(".deleted")), "{name}");
        // The same topics were written in the directory that was stopped cleanly.
        if name.topic.as_str().starts_with("codec-") {
            let clean =
                std::fs::read(testdata("clean").join(name.to_string()).join("00000000000000000000.log"));
            let frames =
                |bytes: &[u8]| batches(bytes).map(|batch| batch.unwrap().header.crc).collect::<Vec<_>>();
            assert!(frames(&clean.unwrap()).starts_with(&frames(&whole(&log))), "{name}");
        }
    }
}

#[test]
fn damage_that_kafkas_recovery_mends_is_mended_the_same() {
    let first_batch_end = |name: &str| {
        let bytes = std::fs::read(testdata("clean").join(name).join("00000000000000000000.log")).unwrap();
        BatchRef::first(&bytes).unwrap().header.next_offset()
    };
    let cases: [(&str, Offset); 5] = [
        ("flipped-0", Offset(0)),
        ("flipped-value-0", Offset(0)),
        ("flipped-inside-0", Offset(0)),
        ("gap-0", Offset(34)),
        ("zero-tail-0", Offset(34)),
    ];
    for (name, end) in cases {
        let (_root, log, recovered) = recover(&testdata("damaged").join(name));
        assert_eq!(log.log_end_offset(), end, "{name}");
        assert_eq!(recovered.fault.is_some(), name != "gap-0", "{name}");
    }
    let (_root, log, recovered) = recover(&testdata("damaged/torn-0"));
    assert!(log.log_end_offset() >= first_batch_end("codec-none-0") && log.log_end_offset() < Offset(34));
    assert!(recovered.bytes_cut > 0);
    // Indexes are made again, whatever stood in them.
    for name in ["index-0", "index-offset-0", "timeindex-0"] {
        let (root, log, _) = recover(&testdata("damaged").join(name));
        assert_eq!(log.log_end_offset(), Offset(30), "{name}");
        let sound = content(&testdata("clean/segments-0"));
        for (file, bytes) in
            content(&root.path().join("t-0")).iter().filter(|(file, _)| file.ends_with("index"))
        {
            assert_eq!(bytes, &sound[file], "{name}/{file}");
        }
    }
    // A snapshot with a flipped bit is not believed.
    let (_root, log, _) = recover(&testdata("damaged/snapshot-0"));
    assert_eq!((log.log_end_offset(), log.active_producers().len()), (Offset(56), 3));
}

/// Appends every batch of a log that Kafka wrote, as Kafka did, and compares the files.
fn write_again(name: &str, options: LogOptions, stops: &[i64]) {
    let source = testdata("clean").join(name);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(name);
    let home = LogHome::new(RealDisk::new());
    let mut log = Log::create(&home, &path, partition(name), None, options, NOW).unwrap();
    let logs: Vec<String> = names(&source).into_iter().filter(|file| file.ends_with(".log")).collect();
    for file in &logs {
        let bytes = std::fs::read(source.join(file)).unwrap();
        for batch in batches(&bytes).map(Result::unwrap) {
            if stops.contains(&batch.header.base_offset.0) {
                log.close_clean().unwrap();
                let hints =
                    OpenHints { clean: true, recovery_point: log.flushed_offset(), ..OpenHints::default() };
                drop(log);
                log = Log::open(&home, &path, partition(name), options, hints, NOW).unwrap().0;
            }
            let origin =
                if batch.header.is_control() { AppendOrigin::Coordinator } else { AppendOrigin::Client };
            // What the producer sent: base offset and epoch are the leader's.
            let mut sent = batch.bytes.to_vec();
            klamm::record::assign_offsets(&mut sent, Offset(0), LeaderEpoch(-1));
            let appended = log.append_as_leader(&sent, batch.header.leader_epoch, origin, NOW).unwrap();
            assert_eq!(appended.base_offset, batch.header.base_offset, "{name}");
            log.advance_high_watermark(log.log_end_offset());
        }
    }
    log.close_clean().unwrap();
    let (kafkas, ours) = (content(&source), content(&path));
    // Kafka notes the epoch of a leader that wrote nothing, too.
    let epochs = |files: &BTreeMap<String, Vec<u8>>| {
        let mut epochs = klamm::storage::checkpoint::parse_epochs(&files["leader-epoch-checkpoint"]).unwrap();
        epochs.retain(|(_, start)| *start < log.log_end_offset());
        epochs
    };
    assert_eq!(epochs(&kafkas), epochs(&ours), "{name}");
    let named = |file: &str| file != "partition.metadata" && file != "leader-epoch-checkpoint";
    for (file, bytes) in kafkas.iter().filter(|(file, _)| named(file)) {
        assert_eq!(Some(bytes), ours.get(file), "{name}/{file}");
    }
    assert_eq!(ours.len() + 1, kafkas.len(), "{name}: {:?}", ours.keys());
}

#[test]
fn the_files_we_write_for_the_same_batches_are_kafkas_byte_for_byte() {
    for name in ["codec-gzip-0", "codec-snappy-0", "codec-lz4-0", "codec-zstd-0", "binary-0", "append-time-0"]
    {
        write_again(name, LogOptions::default(), &[]);
    }
    write_again("codec-none-0", LogOptions::default(), &[26]);
    write_again("idempotent-0", LogOptions::default(), &[48]);
    write_again("segments-0", dense(), &[120]);
    write_again("segments-1", dense(), &[]);
    write_again("transactions-0", dense(), &[]);
    write_again("transactions-1", dense(), &[]);
    write_again("open-transaction-0", LogOptions::default(), &[]);
}
