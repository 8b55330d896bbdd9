//! The life of a log: rolling, indexes, look-ups by time, truncation, retention, leftovers, flushing.

use std::sync::atomic::Ordering;

use klamm::record::{BatchBuilder, Compression};
use klamm::storage::{AppendError, AppendOrigin, Deleted, FileKind, OpenHints, ReadError, TimestampOffset};
use klamm::types::{LeaderEpoch, Offset};

use super::world::{
    EPOCH, NOW, World, append, append_at, append_times, batch, batch_at, clean_hints, records_from, sized,
    values,
};

const INDEX: &str = "00000000000000000000.index";
const TIME_INDEX: &str = "00000000000000000000.timeindex";

fn entries<const N: usize>(world: &World, name: &str) -> Vec<[u8; N]> {
    let bytes = std::fs::read(world.path().join(name)).unwrap();
    bytes.as_chunks::<N>().0.iter().copied().take_while(|entry| *entry != [0; N]).collect()
}

/// (relative offset, position)
fn offset_entries(world: &World) -> Vec<(i32, i32)> {
    let int = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().unwrap());
    entries::<8>(world, INDEX).iter().map(|entry| (int(&entry[..4]), int(&entry[4..]))).collect()
}

/// (timestamp, relative offset)
fn time_entries(world: &World) -> Vec<(i64, i32)> {
    entries::<12>(world, TIME_INDEX)
        .iter()
        .map(|entry| {
            (
                i64::from_be_bytes(entry[..8].try_into().unwrap()),
                i32::from_be_bytes(entry[8..].try_into().unwrap()),
            )
        })
        .collect()
}

#[test]
fn an_index_entry_stands_for_the_last_offset_of_the_batch_after_the_interval() {
    let world = World::new();
    let mut log = world.create();
    let size = i32::try_from(batch_at(NOW, &["x".repeat(1_000).as_str(), "y"]).len()).unwrap();
    for index in 0..12 {
        append(&mut log, &batch_at(NOW + 100 - i64::from(index % 3), &["x".repeat(1_000).as_str(), "y"]));
    }
    // 4,096 bytes are crossed by the fourth batch; the fifth gets the entry.
    assert!((1_024..1_365).contains(&size));
    assert_eq!(offset_entries(&world), [(9, 4 * size), (17, 8 * size)]);
    assert_eq!(time_entries(&world), [(NOW + 100, 1)]);
    assert_eq!(std::fs::metadata(world.path().join(INDEX)).unwrap().len(), 10 << 20);
    assert_eq!(std::fs::metadata(world.path().join(TIME_INDEX)).unwrap().len(), (10 << 20) / 12 * 12);
    log.close_clean().unwrap();
    assert_eq!(std::fs::metadata(world.path().join(INDEX)).unwrap().len(), 16);
    assert_eq!(std::fs::metadata(world.path().join(TIME_INDEX)).unwrap().len(), 12);
}

#[test]
fn the_largest_timestamp_gets_its_entry_when_the_segment_is_left() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch_at(NOW - 5, &["a"]));
    append(&mut log, &batch_at(NOW - 9, &["b"]));
    assert_eq!(time_entries(&world), []);
    assert!(log.roll(NOW).unwrap());
    assert!(!log.roll(NOW).unwrap());
    assert_eq!(time_entries(&world), [(NOW - 5, 0)]);
}

#[test]
fn a_missing_or_foreign_index_is_made_again_from_the_log() {
    let world = World::small_segments(40_000);
    let mut log = world.create();
    for index in 0..100 {
        append(&mut log, &batch_at(NOW + index, &["x".repeat(900).as_str()]));
    }
    log.close_clean().unwrap();
    let hints = clean_hints(&log);
    drop(log);
    let before: Vec<_> =
        [INDEX, TIME_INDEX].iter().map(|name| std::fs::read(world.path().join(name)).unwrap()).collect();
    type Damage = fn(&std::path::Path);
    let damages: [Damage; 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"seven b").unwrap(),
        |path| std::fs::write(path, [0xff; 24]).unwrap(),
        |path| std::fs::write(path, []).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for name in [INDEX, TIME_INDEX] {
            damage(&world.path().join(name));
            let (log, _) = world.open(hints);
            assert_eq!(values(&log).len(), 100, "{number} {name}");
            let found = log.offset_for_timestamp(NOW + 20).unwrap().unwrap();
            assert_eq!(found.offset, Offset(20), "{number} {name}");
            drop(log);
            {
                for (name, bytes) in [INDEX, TIME_INDEX].iter().zip(&before) {
                    assert_eq!(&std::fs::read(world.path().join(name)).unwrap(), bytes, "{number} {name}");
                }
            }
            std::fs::write(world.path().join(INDEX), &before[0]).unwrap();
            std::fs::write(world.path().join(TIME_INDEX), &before[1]).unwrap();
        }
    }
}

#[test]
fn a_full_index_rolls_the_segment() {
    let mut world = World::new();
    world.options.segment_index_bytes = 48;
    world.options.index_interval_bytes = 1;
    let mut log = world.create();
    // Four slots of the time index, one kept for the closing entry.
    let rolled: Vec<bool> =
        (0..9).map(|index| append(&mut log, &batch_at(NOW + index, &["x"])).rolled).collect();
    assert_eq!(rolled, [false, false, false, false, true, false, false, false, true]);
    assert_eq!(values(&log).len(), 9);
}

#[test]
fn segments_roll_by_the_time_of_their_records() {
    let mut world = World::new();
    world.options.segment_ms = 1_000;
    let mut log = world.create();
    assert!(!append_at(&mut log, &batch_at(NOW, &["a"]), NOW).rolled);
    assert!(!append_at(&mut log, &batch_at(NOW + 1_000, &["b"]), NOW + 50_000).rolled);
    assert!(append_at(&mut log, &batch_at(NOW + 1_001, &["c"]), NOW).rolled);
    let mut log = world.reopen_clean(log);
    assert!(append_at(&mut log, &batch_at(NOW + 2_002, &["d"]), NOW).rolled);
}

#[test]
fn kafka_5413_offsets_beyond_the_reach_of_an_index_roll_the_segment() {
    let world = World::new();
    let mut log = world.create();
    let at = |offset: i64| {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), EPOCH);
        builder.append(NOW, None, Some(format!("at {offset}").as_bytes()), std::iter::empty());
        builder.build().unwrap()
    };
    let far = i64::from(i32::MAX);
    // A compacted leader's gaps arrive in one fetch.
    let fetched = [at(0), at(far), at(far + 1), at(3 * far), at(10 * far)].concat();
    let appended = log.append_as_follower(&fetched, EPOCH, NOW).unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(10 * far)));
    assert_eq!(log.segment_count(), 4);
    log.advance_high_watermark(log.log_end_offset());
    let offsets: Vec<i64> = records_from(&log, Offset(0)).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, far, far + 1, 3 * far, 10 * far]);
    let (log, _) = {
        drop(log);
        world.reopen_unclean(Offset(0))
    };
    assert_eq!(log.log_end_offset(), Offset(10 * far + 1));
}

#[test]
fn kafka_18723_a_follower_refuses_corrupt_and_younger_batches_and_offsets_it_has() {
    let world = World::new();
    let mut log = world.create();
    let made = |offset: i64, epoch: i32| {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(epoch));
        builder.append(NOW, None, Some(b"x"), std::iter::empty());
        builder.build().unwrap()
    };
    let fetched = [made(0, 1), made(1, 1), made(2, 3)].concat();
    let appended = log.append_as_follower(&fetched[..fetched.len() - 1], LeaderEpoch(2), NOW).unwrap();
    assert_eq!(appended.last_offset, Offset(1));
    let appended = log.append_as_follower(&made(2, 3), LeaderEpoch(2), NOW).unwrap();
    assert_eq!((appended.size, log.log_end_offset()), (0, Offset(2)));
    let mut corrupt = made(2, 2).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    assert!(matches!(
        log.append_as_follower(&corrupt, LeaderEpoch(2), NOW),
        Err(AppendError::Batch { position: 0, .. })
    ));
    let error = log.append_as_follower(&made(1, 2), LeaderEpoch(2), NOW).unwrap_err();
    assert!(
        matches!(error, AppendError::UnexpectedOffset { offset: Offset(1), expected: Offset(2) }),
        "{error}"
    );
    assert_eq!(log.leader_epochs().latest(), Some(LeaderEpoch(1)));
    assert_eq!(log.log_end_offset(), Offset(2));
}

fn found(timestamp_ms: i64, offset: i64) -> Option<TimestampOffset> {
    Some(TimestampOffset { timestamp_ms, offset: Offset(offset), leader_epoch: EPOCH })
}

#[test]
fn offsets_are_found_by_the_timestamp_of_single_records() {
    let world = World::small_segments(20_000);
    let mut log = world.create();
    for index in 0..200i64 {
        let mut builder = BatchBuilder::new(if index % 2 == 0 {
            Compression::NONE
        } else {
            Compression::new(klamm::record::Codec::Gzip)
        });
        for record in 0..5 {
            let timestamp_ms = NOW + index * 50 + record * 10;
            builder.append(timestamp_ms, None, Some("v".repeat(50).as_bytes()), std::iter::empty());
        }
        append(&mut log, &builder.build().unwrap());
    }
    assert!(log.segment_count() > 2);
    let check = |log: &klamm::storage::Log| {
        let at = |timestamp_ms| log.offset_for_timestamp(timestamp_ms).unwrap();
        assert_eq!(at(0), found(NOW, 0));
        for record in [0, 1, 7, 333, 500, 999] {
            assert_eq!(at(NOW + record * 10), found(NOW + record * 10, record));
            assert_eq!(at(NOW + record * 10 - 9), found(NOW + record * 10, record));
        }
        assert_eq!(at(NOW + 9_991), None);
        assert_eq!(log.max_timestamp().unwrap(), found(NOW + 9_990, 999));
    };
    check(&log);
    let mut log = world.reopen_clean(log);
    check(&log);
    log.delete_records_before(Offset(333)).unwrap();
    assert_eq!(log.offset_for_timestamp(0).unwrap(), found(NOW + 3_330, 333));
    assert_eq!(World::new().create().max_timestamp().unwrap(), None);
}

#[test]
fn max_timestamp_is_the_first_record_that_has_it() {
    let world = World::new();
    let mut log = world.create();
    for timestamp_ms in [5, 9, 7, 9, 3] {
        append(&mut log, &batch_at(timestamp_ms, &["a", "b"]));
    }
    assert_eq!(log.max_timestamp().unwrap(), found(9, 2));
}

#[test]
fn truncation_removes_the_batch_that_holds_the_offset_and_all_behind_it() {
    let world = World::small_segments(2_000);
    let mut log = world.create();
    for index in 0..20 {
        append(&mut log, &batch(&["x".repeat(200).as_str(), &format!("{index}")]));
    }
    let segments = log.segment_count();
    assert!(log.truncate_to(Offset(25), NOW).unwrap());
    assert_eq!((log.log_end_offset(), log.high_watermark()), (Offset(24), Offset(24)));
    assert!(log.segment_count() < segments);
    assert_eq!(values(&log).len(), 24);
    assert!(!log.truncate_to(Offset(25), NOW).unwrap());
    assert_eq!(append(&mut log, &batch(&["new"])).base_offset, Offset(24));
    let log = world.reopen_clean(log);
    assert_eq!(values(&log).last().unwrap(), "new");
    let (log, _) = {
        drop(log);
        world.reopen_unclean(Offset(0))
    };
    assert_eq!((values(&log).len(), log.log_end_offset()), (25, Offset(25)));
}

#[test]
fn what_follows_a_truncation_inside_a_batch_survives_a_kill() {
    let world = World::new();
    let mut log = world.create();
    append_times(&mut log, 3, &batch(&["a", "b", "c"]));
    assert!(log.truncate_to(Offset(7), NOW).unwrap());
    log.roll(NOW).unwrap();
    append(&mut log, &batch(&["behind"]));
    drop(log);
    let (log, recovered) = world.reopen_unclean(Offset(0));
    assert_eq!(recovered.fault, None);
    assert_eq!((values(&log).last().unwrap().as_str(), log.log_end_offset()), ("behind", Offset(7)));
}

#[test]
fn truncation_to_before_the_log_begins_it_anew() {
    let world = World::new();
    let mut log = world.create();
    append_times(&mut log, 5, &batch(&["a"]));
    log.truncate_fully_and_start_at(Offset(100), NOW).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(100), Offset(100)));
    assert!(log.leader_epochs().entries().is_empty());
    append(&mut log, &batch(&["b"]));
    assert!(log.truncate_to(Offset(7), NOW).unwrap());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(7), Offset(7)));
    append(&mut log, &batch(&["c"]));
    let log = world.reopen_clean(log);
    assert_eq!(records_from(&log, Offset(7)), [(7, "c".to_owned())]);
}

#[test]
fn a_flush_from_before_a_truncation_proves_nothing() {
    let world = World::new();
    let mut log = world.create();
    append_times(&mut log, 5, &batch(&["old"]));
    let ticket = log.flush_ticket().unwrap().unwrap();
    ticket.sync().unwrap();
    log.truncate_to(Offset(2), NOW).unwrap();
    append_times(&mut log, 5, &batch(&["new"]));
    log.mark_flushed(&ticket);
    assert_eq!(log.flushed_offset(), Offset(0));
    log.flush().unwrap();
    assert_eq!(log.flushed_offset(), Offset(7));
    assert!(log.flush_ticket().unwrap().is_none());
}

#[test]
fn one_sync_serves_every_batch_that_waited() {
    let mut world = World::new();
    world.options.flush_messages = 1;
    let mut log = world.create();
    for index in 0..10 {
        let appended = log.append_as_leader(&batch(&["a"]), EPOCH, AppendOrigin::Client, NOW).unwrap();
        assert_eq!(appended.must_flush_to, Some(Offset(index + 1)));
        // Nobody may see what a power cut can take back.
        assert_eq!(log.visible_end_offset(), Offset(0));
    }
    let syncs = &world.home.disk.stats().of(FileKind::Log).syncs;
    let before = syncs.load(Ordering::Relaxed);
    let ticket = log.flush_ticket().unwrap().unwrap();
    ticket.sync().unwrap();
    log.mark_flushed(&ticket);
    assert_eq!(syncs.load(Ordering::Relaxed), before + 1);
    assert_eq!((ticket.up_to(), log.visible_end_offset()), (Offset(10), Offset(10)));
    world.options.flush_messages = 3;
    log.set_options(world.options);
    let waits: Vec<bool> = (0..4).map(|_| append(&mut log, &batch(&["a"])).must_flush_to.is_some()).collect();
    assert_eq!(waits, [false, false, true, true]);
    assert_eq!(log.visible_end_offset(), Offset(14));
}

#[test]
fn flush_ms_asks_for_a_flush_after_the_oldest_unflushed_batch() {
    let mut world = World::new();
    world.options.flush_ms = 500;
    let mut log = world.create();
    assert!(!log.is_flush_due(NOW + 1_000_000));
    append_at(&mut log, &batch(&["a"]), NOW);
    append_at(&mut log, &batch(&["b"]), NOW + 400);
    assert!(!log.is_flush_due(NOW + 499));
    assert!(log.is_flush_due(NOW + 500));
    log.flush().unwrap();
    assert!(!log.is_flush_due(NOW + 500));
}

#[test]
fn retention_by_time_deletes_whole_segments_and_even_the_active_one() {
    let mut world = World::small_segments(1_000);
    world.options.retention_ms = 10_000;
    let mut log = world.create();
    for index in 0..10 {
        append(&mut log, &batch_at(NOW + index * 1_000, &["x".repeat(400).as_str()]));
    }
    assert_eq!(log.apply_retention(NOW + 10_000).unwrap(), Deleted::default());
    let deleted = log.apply_retention(NOW + 13_500).unwrap();
    assert_eq!((deleted.segments, log.log_start_offset()), (2, Offset(4)));
    assert!(matches!(log.read(Offset(3), Offset(10), 1, true), Err(ReadError::OutOfRange { .. })));
    assert_eq!(log.leader_epochs().entries(), [(EPOCH, Offset(4))]);
    log.apply_retention(NOW + 1_000_000).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.segment_count()),
        (Offset(10), Offset(10), 1)
    );
    assert_eq!(log.apply_retention(NOW + 2_000_000).unwrap(), Deleted::default());
    let mut log = world.reopen_clean(log);
    assert_eq!(append(&mut log, &batch(&["a"])).base_offset, Offset(10));
}

#[test]
fn retention_never_passes_the_high_watermark() {
    let mut world = World::small_segments(1_000);
    world.options.retention_ms = 1;
    let mut log = world.create();
    for _ in 0..10 {
        log.append_as_leader(&sized(400), EPOCH, AppendOrigin::Client, NOW).unwrap();
    }
    assert_eq!(log.apply_retention(NOW + 100).unwrap().segments, 0);
    log.advance_high_watermark(Offset(5));
    assert_eq!(log.apply_retention(NOW + 100).unwrap().segments, 2);
    assert_eq!(log.log_start_offset(), Offset(4));
    assert!(log.delete_records_before(Offset(6)).is_err());
}

#[test]
fn retention_by_size_keeps_at_least_that_much() {
    let mut world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 10, &sized(400));
    let segment = log.size_bytes() / 5;
    world.options.retention_bytes = i64::try_from(segment * 3).unwrap();
    log.set_options(world.options);
    assert_eq!(log.apply_retention(NOW).unwrap(), Deleted { segments: 2, bytes: segment * 2 });
    assert_eq!(log.size_bytes(), segment * 3);
    // Without the delete policy only the log start offset deletes.
    world.options.retention_bytes = 0;
    world.options.delete_old_segments = false;
    log.set_options(world.options);
    assert_eq!(log.apply_retention(NOW).unwrap().segments, 0);
    log.delete_records_before(Offset(7)).unwrap();
    assert_eq!(log.apply_retention(NOW).unwrap().segments, 1);
    assert_eq!((log.log_start_offset(), log.first_segment_base_offset()), (Offset(7), Offset(6)));
}

#[test]
fn deleted_segments_keep_their_files_for_the_delay_and_readers_their_bytes() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 10, &sized(400));
    let slice = log.read(Offset(0), Offset(10), 1_000, true).unwrap().into_slice().unwrap();
    log.delete_records_before(Offset(2)).unwrap();
    log.apply_retention(NOW).unwrap();
    assert!(world.names().contains(&"00000000000000000000.log.deleted".to_owned()));
    assert!(!slice.region.read().unwrap().is_empty());
    log.deletions().remove_due(&*world.home.disk, NOW + 59_999).unwrap();
    assert!(world.names().iter().any(|name| name.ends_with(".deleted")));
    log.deletions().remove_due(&*world.home.disk, NOW + 60_000).unwrap();
    assert!(!world.names().iter().any(|name| name.ends_with(".deleted")));
    log.delete_records_before(Offset(4)).unwrap();
    log.apply_retention(NOW).unwrap();
    let log = world.reopen_clean(log);
    assert!(!world.names().iter().any(|name| name.ends_with(".deleted")));
    assert_eq!(log.log_start_offset(), Offset(4));
}

#[test]
fn what_a_cleaner_left_half_done_is_thrown_away_and_what_it_finished_is_taken() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 10, &sized(400));
    log.close_clean().unwrap();
    let hints = clean_hints(&log);
    drop(log);
    let path = |name: &str| world.path().join(name);
    let segment = |base: i64| std::fs::read(path(&format!("{base:020}.log"))).unwrap();
    // Half written: goes.
    std::fs::write(path("00000000000000000004.log.cleaned"), b"half").unwrap();
    std::fs::write(path("00000000000000000004.log.swap"), b"of the same round").unwrap();
    // Complete: one segment in place of two.
    std::fs::write(path("00000000000000000000.log.swap"), [segment(0), segment(2)].concat()).unwrap();
    std::fs::write(path("00000000000000000000.index.swap"), []).unwrap();
    std::fs::write(path("00000000000000000000.timeindex.swap"), []).unwrap();
    std::fs::write(path("00000000000000000077.index"), []).unwrap();
    std::fs::write(path("leader-epoch-checkpoint.tmp"), b"torn").unwrap();
    let (log, _) = world.open(hints);
    assert_eq!(values(&log).len(), 10);
    assert_eq!(log.segment_count(), 4);
    let left = world.names();
    for gone in [".cleaned", ".swap", ".tmp", "77.index", "00000000000000000002.log"] {
        assert!(!left.iter().any(|name| name.ends_with(gone)), "{gone} in {left:?}");
    }
}

#[test]
fn recovery_cuts_at_the_first_bad_batch_and_drops_the_segments_behind_it() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 10, &sized(400));
    drop(log);
    let path = world.path().join("00000000000000000004.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let flipped = bytes.len() - 10;
    bytes[flipped] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let (mut log, recovered) = world.reopen_unclean(Offset(3));
    assert_eq!((recovered.segments_checked, recovered.segments_dropped), (2, 2));
    assert!(recovered.fault.unwrap().contains("CRC"));
    assert_eq!((log.log_end_offset(), values(&log).len()), (Offset(5), 5));
    assert_eq!(append(&mut log, &batch(&["a"])).base_offset, Offset(5));
    // What lies before the recovery point is believed.
    let log = world.reopen_clean(log);
    assert_eq!(log.log_end_offset(), Offset(6));
}

#[test]
fn kafka_16541_a_torn_epoch_checkpoint_is_read_again_from_the_log() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    for epoch in 0..5 {
        log.append_as_leader(&sized(300), LeaderEpoch(epoch), AppendOrigin::Client, NOW).unwrap();
    }
    let epochs = log.leader_epochs().clone();
    assert_eq!(epochs.entries().len(), 5);
    log.close_clean().unwrap();
    let hints = clean_hints(&log);
    drop(log);
    for torn in ["0\n5\n0 0\n1", "\0\0\0\0", "0\n2\n4 4\n1 1\n"] {
        std::fs::write(world.path().join("leader-epoch-checkpoint"), torn).unwrap();
        let (log, _) = world.open(hints);
        assert_eq!(log.leader_epochs(), &epochs);
    }
}

#[test]
fn kafka_7415_a_leader_that_never_wrote_knows_where_its_epoch_began() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    log.assign_epoch_start(LeaderEpoch(3), log.log_end_offset());
    let known = |log: &klamm::storage::Log, epoch| log.epoch_end_offset(LeaderEpoch(epoch));
    // A follower that wrote more in epoch 0, or in 1, which never got here, is cut back to where 3 began.
    for epoch in [0, 1, 2] {
        assert_eq!((known(&log, epoch).epoch, known(&log, epoch).end_offset), (EPOCH, Offset(1)));
    }
    let mut log = world.reopen_clean(log);
    log.assign_epoch_start(LeaderEpoch(4), log.log_end_offset());
    assert_eq!((known(&log, 3).epoch, known(&log, 3).end_offset), (EPOCH, Offset(1)));
    // With its first batch the epoch is on disk.
    log.append_as_leader(&batch(&["b"]), LeaderEpoch(4), AppendOrigin::Client, NOW).unwrap();
    drop(log);
    let (log, _) = world.reopen_unclean(Offset(0));
    assert_eq!(log.leader_epochs().entries(), [(EPOCH, Offset(0)), (LeaderEpoch(4), Offset(1))]);
}

#[test]
fn kafka_7104_the_offsets_of_an_answer_are_of_one_moment() {
    let world = World::new();
    let mut log = world.create();
    append_times(&mut log, 10, &batch(&["a"]));
    let slice = log.read(Offset(2), Offset(10), 1 << 20, true).unwrap().into_slice().unwrap();
    log.delete_records_before(Offset(8)).unwrap();
    append(&mut log, &batch(&["later"]));
    assert_eq!(
        (slice.log_start_offset, slice.high_watermark, slice.log_end_offset),
        (Offset(0), Offset(10), Offset(10))
    );
}

#[test]
fn kafka_9835_a_read_at_the_end_never_returns_what_is_appended_meanwhile() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    let size = batch(&["a"]).len();
    log.append_as_leader(&batch(&["above the high watermark"]), EPOCH, AppendOrigin::Client, NOW).unwrap();
    let slice = log.read(Offset(0), log.high_watermark(), 1 << 20, true).unwrap().into_slice().unwrap();
    append(&mut log, &batch(&["b"]));
    assert_eq!(slice.region.read().unwrap().len(), size);
    let none = log.read(Offset(1), Offset(1), 1 << 20, true).unwrap().into_slice().unwrap();
    assert!(none.region.is_empty());
}

#[test]
fn kafka_9807_a_committed_read_stops_at_the_stable_offset_it_was_given() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    let open = klamm::record::ProducerState { is_transactional: true, ..super::world::producer(1, 0, 0) };
    append(&mut log, &super::world::batch_of(open, 1));
    append(&mut log, &batch(&["b"]));
    let stable = log.last_stable_offset();
    assert_eq!(stable, Offset(1));
    let slice = log.read(Offset(0), stable, 1 << 20, true).unwrap().into_slice().unwrap();
    append(&mut log, &batch(&["c"]));
    assert_eq!(slice.region.read().unwrap().len(), batch(&["a"]).len());
    assert_eq!(
        (slice.upper_bound, slice.last_stable_offset, slice.high_watermark),
        (Offset(1), Offset(1), Offset(3))
    );
}

#[test]
fn a_log_start_behind_what_survived_a_crash_begins_the_log_anew() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    drop(log);
    let hints = OpenHints { log_start_offset: Some(Offset(50)), ..OpenHints::default() };
    let (mut log, _) = world.open(hints);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(50), Offset(50)));
    assert_eq!(append(&mut log, &batch(&["b"])).base_offset, Offset(50));
}

#[test]
fn a_preallocated_log_is_cut_when_it_is_left() {
    let mut world = World::new();
    world.options.preallocate = true;
    world.options.segment_bytes = 100_000;
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    let file = world.path().join("00000000000000000000.log");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 100_000);
    drop(log);
    let (log, recovered) = world.reopen_unclean(Offset(0));
    assert_eq!((log.log_end_offset(), recovered.bytes_cut > 90_000), (Offset(1), true));
    let mut log = world.reopen_clean(log);
    append(&mut log, &batch(&["b"]));
    log.close_clean().unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), log.size_bytes());
}

#[test]
fn batches_larger_than_a_segment_are_refused() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    let error = log.append_as_leader(&sized(2_000), EPOCH, AppendOrigin::Client, NOW).unwrap_err();
    assert!(matches!(error, AppendError::LargerThanSegment { segment_bytes: 1_000, .. }), "{error}");
}

#[test]
fn a_segment_that_was_begun_and_not_written_to_is_cut_at_a_clean_stop() {
    let mut world = World::new();
    world.options.preallocate = true;
    world.options.segment_bytes = 100_000;
    let mut log = world.create();
    append(&mut log, &batch(&["a"]));
    log.roll(NOW).unwrap();
    let log = world.reopen_clean(log);
    assert_eq!((log.log_end_offset(), log.segment_count()), (Offset(1), 2));
    for suffix in ["log", "index", "timeindex"] {
        let file = world.path().join(format!("00000000000000000001.{suffix}"));
        assert_eq!(std::fs::metadata(file).unwrap().len(), 0, "{suffix}");
    }
}

#[test]
fn what_a_killed_process_left_unflushed_is_flushed_before_it_is_shown() {
    let mut world = World::new();
    world.options.flush_messages = 1;
    let mut log = world.create();
    append_times(&mut log, 5, &batch(&["a"]));
    assert_eq!(log.visible_end_offset(), Offset(0));
    drop(log);
    let (log, _) = world.reopen_unclean(Offset(0));
    assert_eq!((log.visible_end_offset(), log.flushed_offset()), (Offset(5), Offset(5)));
}

#[test]
fn retention_looks_at_an_idle_log_without_keeping_its_files_open() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 10, &sized(400));
    let mut log = world.reopen_clean(log);
    let opens = |kind| world.home.disk.stats().of(kind).opens.load(Ordering::Relaxed);
    let before = opens(FileKind::TimeIndex);
    for _ in 0..3 {
        assert_eq!(log.apply_retention(NOW).unwrap(), Deleted::default());
    }
    // Once, to read the last entry; the answer is kept, the file is not.
    assert_eq!(opens(FileKind::TimeIndex), before + 1);
    let path = world.path().join(TIME_INDEX);
    let is_it = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok().and_then(|entry| std::fs::read_link(entry.path()).ok()).is_some_and(|open| open == path)
    };
    assert!(!std::fs::read_dir("/proc/self/fd").unwrap().any(is_it));
    assert_eq!(log.max_timestamp().unwrap(), found(NOW, 0));
}

#[test]
fn records_that_a_crash_brings_back_have_their_epochs_again() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    for epoch in 0..6 {
        let two = LeaderEpoch(epoch / 2);
        log.append_as_leader(&sized(400), two, AppendOrigin::Client, NOW).unwrap();
        log.append_as_leader(&sized(400), two, AppendOrigin::Client, NOW).unwrap();
    }
    log.advance_high_watermark(log.log_end_offset());
    let written = log.leader_epochs().entries().to_vec();
    assert_eq!(written.len(), 3);
    log.flush().unwrap();
    log.delete_records_before(Offset(9)).unwrap();
    assert_eq!(log.leader_epochs().entries(), [(LeaderEpoch(2), Offset(9))]);
    drop(log);
    // The checkpoint of log starts is written once a minute. All but the last segment was flushed.
    for recovery_point in [0, 12] {
        let (log, _) = world.reopen_unclean(Offset(recovery_point));
        let start = log.log_start_offset();
        let first = written.iter().rfind(|(_, begin)| *begin <= start).unwrap().0;
        assert_eq!(log.leader_epochs().entries()[0], (first, start), "{recovery_point}");
    }
}

#[test]
fn a_removed_segment_that_a_crash_brings_back_takes_nothing_with_it() {
    let world = World::small_segments(1_000);
    let mut log = world.create();
    append_times(&mut log, 12, &sized(400));
    log.flush().unwrap();
    drop(log);
    // Two to a segment. Records were deleted up to 8, the first segment's removal was lost with the power, the others'
    // was not; nothing says how far the log was flushed.
    for base in [2, 4, 6] {
        for suffix in ["log", "index", "timeindex", "snapshot"] {
            let _ = std::fs::remove_file(world.path().join(format!("{base:020}.{suffix}")));
        }
    }
    let (log, _) = world.open(OpenHints { log_start_offset: Some(Offset(9)), ..OpenHints::default() });
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(9), Offset(12)));
    assert_eq!(records_from(&log, Offset(9)).len(), 3);
}
