//! One log: append, read, roll, stop and start.

use std::sync::atomic::Ordering;

use klamm::record::{BatchHeader, batches};
use klamm::storage::{FileKind, ReadError, ReadOutcome, Recovered};
use klamm::types::Offset;

use super::world::{NOW, World, append, batch, batch_at, names, read_bytes, records_from, sized, values};

#[test]
fn what_is_appended_is_read_back_with_its_offsets() {
    let world = World::new();
    let mut log = world.create();
    assert_eq!(append(&mut log, &batch(&["a", "b"])).base_offset, Offset(0));
    let second = append(&mut log, &batch(&["c"]));
    assert_eq!((second.base_offset, second.last_offset, second.duplicate), (Offset(2), Offset(2), false));
    assert_eq!(values(&log), ["a", "b", "c"]);
    assert_eq!(records_from(&log, Offset(1)), [(1, "b".to_owned()), (2, "c".to_owned())]);
    assert_eq!(log.log_end_offset(), Offset(3));
    let headers: Vec<BatchHeader> =
        batches(&read_bytes(&log, Offset(0), 1 << 20)).map(|batch| batch.unwrap().header).collect();
    assert_eq!(headers[1].base_offset, Offset(2));
    assert_eq!(headers[1].leader_epoch.0, 0);
    assert_eq!(log.leader_epochs().entries(), [(klamm::types::LeaderEpoch(0), Offset(0))]);
}

#[test]
fn a_read_inside_a_batch_returns_the_whole_batch_and_out_of_range_says_so() {
    let world = World::new();
    let mut log = world.create();
    let first = batch(&["a", "b", "c"]);
    append(&mut log, &first);
    append(&mut log, &batch(&["d"]));
    let ReadOutcome::Slice(slice) = log.read(Offset(2), Offset(4), 1, true).unwrap() else { panic!("local") };
    assert_eq!((slice.first_batch_offset, slice.region.len()), (Some(Offset(0)), first.len()));
    let none = log.read(Offset(2), Offset(4), 1, false).unwrap().into_slice().unwrap();
    assert!(none.region.is_empty());
    let at_end = log.read(Offset(4), Offset(4), 1, true).unwrap().into_slice().unwrap();
    assert!(at_end.region.is_empty() && at_end.first_batch_offset.is_none());
    for requested in [-1, 5] {
        let error = log.read(Offset(requested), Offset(4), 1, true).unwrap_err();
        assert!(matches!(error, ReadError::OutOfRange { start: Offset(0), end: Offset(4), .. }), "{error}");
    }
}

#[test]
fn segments_roll_by_size_and_reads_cross_them() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    let rolled: Vec<bool> = (0..10).map(|_| append(&mut log, &sized(300)).rolled).collect();
    assert_eq!(rolled.iter().filter(|rolled| **rolled).count(), 4);
    assert_eq!(log.segment_count(), 5);
    assert_eq!(values(&log).len(), 10);
    assert_eq!(
        names(&world.path())[..6],
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000002.index",
            "00000000000000000002.log",
            "00000000000000000002.snapshot",
        ]
    );
}

#[test]
fn a_clean_restart_reads_no_byte_of_any_log_file() {
    let world = World::small_segments(10_000);
    let mut log = world.create();
    for _ in 0..100 {
        append(&mut log, &sized(300));
    }
    log.close_clean().unwrap();
    let hints = super::world::clean_hints(&log);
    drop(log);
    let read = &world.home.disk.stats().of(FileKind::Log).bytes_read;
    let before = read.load(Ordering::Relaxed);
    let (log, recovered) = world.open(hints);
    assert_eq!(recovered, Recovered::default());
    assert_eq!(read.load(Ordering::Relaxed), before);
    assert_eq!((log.log_end_offset(), log.flushed_offset()), (Offset(100), Offset(100)));
    assert_eq!(values(&log).len(), 100);
}

#[test]
fn reopen_after_torn_write_keeps_acknowledged_batches() {
    let world = World::small_segments(10_000);
    let mut log = world.create();
    for _ in 0..50 {
        append(&mut log, &sized(300));
    }
    drop(log);
    let last = names(&world.path()).into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    let path = world.path().join(last);
    let mut bytes = std::fs::read(&path).unwrap();
    let torn = batch(&["never acknowledged"]);
    bytes.extend_from_slice(&torn[..torn.len() - 1]);
    std::fs::write(&path, bytes).unwrap();
    let (mut log, recovered) = world.reopen_unclean(Offset(0));
    assert_eq!(recovered.bytes_cut, torn.len() as u64 - 1);
    assert_eq!(values(&log).len(), 50);
    assert_eq!(append(&mut log, &batch(&["next"])).base_offset, Offset(50));
    let log = world.reopen_clean(log);
    assert_eq!(values(&log).last().unwrap(), "next");
}

/// Base offsets stand outside the checksum.
#[test]
fn a_base_offset_that_changed_before_a_recovery_is_set_right_by_its_neighbours() {
    let values_of = |batch: usize| [format!("{batch}a"), format!("{batch}b")];
    let all: Vec<(i64, String)> =
        (0..5).flat_map(values_of).enumerate().map(|(offset, value)| (offset as i64, value)).collect();
    let world = World::new();
    let mut log = world.create();
    for [a, b] in (0..5).map(values_of) {
        append(&mut log, &batch_at(NOW, &[&a, &b]));
    }
    drop(log);
    let path = world.path().join("00000000000000000000.log");
    let sound = std::fs::read(&path).unwrap();
    let size = sound.len() / 5;
    // The sign makes it no batch at all.
    for (batch, bit) in (0..4).flat_map(|batch| (0..63).map(move |bit| (batch, bit))) {
        let mut bytes = sound.clone();
        bytes[batch * size + 7 - bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let (log, recovered) = world.reopen_unclean(Offset(0));
        let what = format!("bit {bit} of batch {batch}, {recovered:?}");
        assert_eq!((records_from(&log, Offset(0)), recovered.fault), (all.clone(), None), "{what}");
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), sound, "{what}");
    }
}
