//! A process that is killed, a power cut, a call that fails, at any call of a round: whatever had its new name by
//! then, the log opens as what it was, cleaned or not.

use std::sync::Arc;

use klamm::record::{Codec, ProducerState, batches};
use klamm::storage::hostile::{Failure, HostileDisk, Moment, Survival};
use klamm::storage::reader::{LogCursor, LogReader};
use klamm::storage::{ActiveProducer, AppendOrigin, Log, LogOptions, OpenHints};
use klamm::types::{Offset, ProducerEpoch, ProducerId};

use super::world::{
    Entry, START_MS, append, batch, clean_with, create, entries, folder, last_values, limits, marker, names,
    open, read_committed, rules, seeds,
};

fn options() -> LogOptions {
    LogOptions {
        compact: true,
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
                // One in four has a key of its own and stays.
                let key = if index == 3 {
                    format!("only-{round}")
                } else {
                    format!("key-{}", (round * 3 + index) % 11)
                };
                let key = key.into_bytes();
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

fn seen(log: &Log) -> Vec<Entry> {
    read_committed(log, log.log_start_offset(), 1 << 20)
}

/// What a log must say after any crash of a round, and after one more round.
struct Expected {
    records: Vec<Entry>,
    end: Offset,
    producers: Vec<ActiveProducer>,
}

impl Expected {
    fn check(&self, disk: &Arc<HostileDisk>, recovery_point: Offset, what: &str) {
        let hints = OpenHints { recovery_point, ..OpenHints::default() };
        let mut log = open(disk, options(), hints, START_MS);
        assert_eq!(log.log_end_offset(), self.end, "{what}");
        log.advance_high_watermark(self.end);
        let after = seen(&log);
        assert_eq!(last_values(&after), last_values(&self.records), "{what}");
        assert!(after.iter().all(|entry| self.records.contains(entry)), "{what}");
        assert_eq!(log.active_producers().collect::<Vec<_>>(), self.producers, "{what}");
        for name in names(disk) {
            let is_left = [".cleaned", ".swap", ".deleted"].iter().any(|suffix| name.ends_with(suffix));
            assert!(!is_left, "{what}: {name} is left");
        }
        let later_ms = START_MS + 20_000;
        clean_with(&mut log, &rules(), &limits(), later_ms, |_| true).unwrap();
        assert_eq!(last_values(&seen(&log)), last_values(&self.records), "{what}");
    }
}

/// A log whose round was recorded, call by call.
fn recorded() -> (Expected, Vec<Moment>) {
    let disk = HostileDisk::new();
    let mut log = create(&disk, options());
    write(&mut log);
    let expected = Expected {
        records: seen(&log),
        end: log.log_end_offset(),
        producers: log.active_producers().collect(),
    };
    log.flush().unwrap();
    disk.record();
    clean_with(&mut log, &rules(), &limits(), START_MS, |_| true).unwrap();
    assert!(seen(&log).len() < expected.records.len() * 2 / 3);
    (expected, disk.moments())
}

#[test]
fn s1_3_log_compaction_test_a_round_killed_at_any_call_leaves_the_log_as_it_was() {
    let (expected, moments) = recorded();
    assert!(moments.len() > 60, "{} calls were cut at", moments.len());
    for moment in moments {
        let what = format!("killed at {moment:?}");
        // Once from the start, once trusting what lies before the recovery point, as a broker does.
        for recovery_point in [expected.end, Offset::ZERO] {
            expected.check(&moment.restart(Survival::Everything), recovery_point, &what);
        }
    }
}

#[test]
fn s1_3_log_compaction_test_a_power_cut_at_any_call_leaves_the_log_as_it_was() {
    let (expected, moments) = recorded();
    let seeds = seeds(1) as u64;
    for (index, moment) in moments.iter().enumerate() {
        let first = index as u64 * 1_000;
        let seeded = (first..first + seeds).map(Survival::Seeded);
        let plain = [Survival::Nothing, Survival::Names, Survival::Contents, Survival::Torn(first)];
        for survival in plain.into_iter().chain(seeded) {
            let what = format!("{survival:?} at {moment:?}");
            expected.check(&moment.restart(survival), expected.end, &what);
        }
    }
}

#[test]
fn a_call_that_fails_ends_the_round_and_costs_no_record() {
    let (expected, moments) = recorded();
    for nth in 1..moments.len() as u64 * 2 {
        let disk = HostileDisk::new();
        let mut log = create(&disk, options());
        write(&mut log);
        log.flush().unwrap();
        disk.fail_call(nth, Failure::EIO);
        let cleaned = clean_with(&mut log, &rules(), &limits(), START_MS, |_| true);
        let Some(failed) = disk.failed_call() else { break };
        drop((cleaned, log));
        expected.check(&disk.restart(Survival::Seeded(nth)), expected.end, &format!("{failed} failed"));
    }
}

/// Everything that a command sees that reads the directory, from `from` on.
fn read_directory(cursor: &mut LogCursor) -> Vec<Entry> {
    let mut found = Vec::new();
    while let Some(bytes) = cursor.read(1, Offset(i64::MAX)).unwrap() {
        for batch in batches(&bytes).map(Result::unwrap) {
            found.extend(entries(&batch).into_iter().filter(|_| !batch.header.is_control()));
        }
    }
    found
}

#[test]
fn a_reader_of_the_directory_misses_no_key_whatever_moment_it_looks() {
    let (expected, moments) = recorded();
    let newest = last_values(&expected.records);
    for moment in moments {
        let reader = LogReader::in_folder(moment.restart(Survival::Everything), &folder());
        for from in [0, 40, 90] {
            let read = read_directory(&mut reader.cursor(Offset(from)));
            assert!(read.windows(2).all(|pair| pair[0].offset < pair[1].offset), "{moment:?}");
            for (key, (offset, value)) in newest.iter().filter(|(_, (offset, _))| *offset >= from) {
                let is_there = |entry: &Entry| entry.offset == *offset && entry.value.as_ref() == Some(value);
                let key = String::from_utf8_lossy(key);
                assert!(read.iter().any(is_there), "{key} at {offset}, read from {from}, {moment:?}");
            }
        }
    }
}

#[test]
fn a_reader_of_the_directory_goes_on_after_the_segments_were_put_together() {
    for batches_read in 0..60 {
        let disk = HostileDisk::new();
        let mut log = create(&disk, options());
        write(&mut log);
        let newest = last_values(&seen(&log));
        let reader = LogReader::in_folder(Arc::<HostileDisk>::clone(&disk), &folder());
        let mut cursor = reader.cursor(Offset::ZERO);
        for _ in 0..batches_read {
            cursor.read(1, Offset(i64::MAX)).unwrap();
        }
        let next = cursor.next_offset().0;
        // Twice, so that small segments become one.
        for later_ms in [0, 20_000] {
            log.set_cleaner_point(None);
            clean_with(&mut log, &rules(), &limits(), START_MS + later_ms, |_| true).unwrap();
        }
        let rest = read_directory(&mut cursor);
        for (key, (offset, value)) in newest.iter().filter(|(_, (offset, _))| *offset >= next) {
            let is_there = |entry: &Entry| entry.offset == *offset && entry.value.as_ref() == Some(value);
            let key = String::from_utf8_lossy(key);
            assert!(rest.iter().any(is_there), "{key} at {offset} after {batches_read} batches");
        }
    }
}
