//! Idempotent and transactional producers, as a partition's leader sees them.

use klamm::record::{BatchBuilder, Compression, ProducerState};
use klamm::storage::{AbortedTransaction, AppendError, AppendOrigin, Log};
use klamm::types::{Offset, ProducerId};

use super::world::{EPOCH, NOW, World, append, batch, batch_of, marker, producer, records_from, values};

fn try_append(log: &mut Log, bytes: &[u8]) -> Result<(i64, bool), AppendError> {
    let appended = log.append_as_leader(bytes, EPOCH, AppendOrigin::Client, NOW)?;
    log.advance_high_watermark(log.log_end_offset());
    Ok((appended.base_offset.0, appended.duplicate))
}

fn end(
    log: &mut Log,
    id: i64,
    epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
) -> Result<Offset, AppendError> {
    let origin = AppendOrigin::TransactionMarker { transaction_version: 0 };
    let bytes = marker(id, epoch, commit, coordinator_epoch);
    Ok(log.append_as_leader(&bytes, EPOCH, origin, NOW)?.base_offset)
}

fn transactional(id: i64, base_sequence: i32) -> ProducerState {
    ProducerState { is_transactional: true, ..producer(id, 0, base_sequence) }
}

#[test]
fn a_repeat_of_the_last_five_batches_is_answered_with_its_first_offset() {
    let world = World::new();
    let mut log = world.create();
    for index in 0..7 {
        assert_eq!(
            try_append(&mut log, &batch_of(producer(1, 0, index * 2), 2)).unwrap(),
            (i64::from(index) * 2, false)
        );
    }
    for index in 2..7 {
        let repeat = try_append(&mut log, &batch_of(producer(1, 0, index * 2), 2)).unwrap();
        assert_eq!(repeat, (i64::from(index) * 2, true));
    }
    let older = try_append(&mut log, &batch_of(producer(1, 0, 2), 2)).unwrap_err();
    assert!(
        matches!(older, AppendError::OutOfOrderSequence { sequence: 2, last_sequence: Some(13), .. }),
        "{older}"
    );
    // The same sequences in another cut are no repeat.
    assert!(try_append(&mut log, &batch_of(producer(1, 0, 12), 1)).is_err());
    assert_eq!(log.log_end_offset(), Offset(14));
}

#[test]
fn a_gap_in_the_sequence_is_refused_and_nothing_is_written() {
    let world = World::new();
    let mut log = world.create();
    try_append(&mut log, &batch_of(producer(1, 0, 0), 3)).unwrap();
    let error = try_append(&mut log, &batch_of(producer(1, 0, 4), 1)).unwrap_err();
    assert!(matches!(error, AppendError::OutOfOrderSequence { sequence: 4, last_sequence: Some(2), .. }));
    assert_eq!(log.log_end_offset(), Offset(3));
    assert_eq!(try_append(&mut log, &batch_of(producer(1, 0, 3), 1)).unwrap(), (3, false));
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    let world = World::new();
    let mut log = world.create();
    // A producer that is not known may begin anywhere: what it wrote before may be gone.
    try_append(&mut log, &batch_of(producer(1, 0, i32::MAX - 1), 2)).unwrap();
    try_append(&mut log, &batch_of(producer(1, 0, 0), 1)).unwrap();
    assert_eq!(try_append(&mut log, &batch_of(producer(1, 0, i32::MAX - 1), 2)).unwrap(), (0, true));
    let world = World::new();
    let mut log = world.create();
    try_append(&mut log, &batch_of(producer(2, 0, i32::MAX - 1), 5)).unwrap();
    try_append(&mut log, &batch_of(producer(2, 0, 3), 1)).unwrap();
    assert_eq!(try_append(&mut log, &batch_of(producer(2, 0, i32::MAX - 1), 5)).unwrap(), (0, true));
}

#[test]
fn an_older_epoch_is_fenced_and_a_new_one_begins_at_zero() {
    let world = World::new();
    let mut log = world.create();
    try_append(&mut log, &batch_of(producer(1, 1, 0), 1)).unwrap();
    let fenced = try_append(&mut log, &batch_of(producer(1, 0, 1), 1)).unwrap_err();
    assert!(matches!(fenced, AppendError::InvalidProducerEpoch { .. }), "{fenced}");
    let gap = try_append(&mut log, &batch_of(producer(1, 2, 1), 1)).unwrap_err();
    assert!(matches!(gap, AppendError::OutOfOrderSequence { .. }), "{gap}");
    assert_eq!(try_append(&mut log, &batch_of(producer(1, 2, 0), 1)).unwrap(), (1, false));
}

#[test]
fn duplicates_are_known_after_a_stop_of_either_kind() {
    let world = World::new();
    let mut log = world.create();
    for sequence in 0..4 {
        try_append(&mut log, &batch_of(producer(1, 0, sequence), 1)).unwrap();
    }
    let mut log = world.reopen_clean(log);
    // A snapshot keeps the last batch of each producer; those before it are found in the log.
    for sequence in [3, 1, 0, 2] {
        let repeat = try_append(&mut log, &batch_of(producer(1, 0, sequence), 1)).unwrap();
        assert_eq!(repeat, (i64::from(sequence), true));
    }
    try_append(&mut log, &batch_of(producer(1, 0, 4), 1)).unwrap();
    drop(log);
    let (mut log, recovered) = world.reopen_unclean(Offset(0));
    assert_eq!(recovered.segments_checked, 1);
    for sequence in 0..5 {
        let repeat = try_append(&mut log, &batch_of(producer(1, 0, sequence), 1)).unwrap();
        assert_eq!(repeat, (i64::from(sequence), true));
    }
}

#[test]
fn a_repeat_is_known_after_a_clean_stop_over_segments_and_other_producers_and_a_gap_still_is_one() {
    let world = World::small_segments(300);
    let mut log = world.create();
    let mut at = Vec::new();
    for sequence in 0..9 {
        at.push(try_append(&mut log, &batch_of(producer(1, 3, sequence * 2), 2)).unwrap().0);
        try_append(&mut log, &batch_of(producer(2, 0, sequence), 1)).unwrap();
    }
    assert!(log.segment_count() > 3);
    let mut log = world.reopen_clean(log);
    let end = log.log_end_offset();
    for sequence in 4..9 {
        let repeat = try_append(&mut log, &batch_of(producer(1, 3, sequence * 2), 2)).unwrap();
        assert_eq!(repeat, (at[sequence as usize], true));
    }
    let log = &mut world.reopen_clean(log);
    // Older than the last five, another cut, a gap, an older epoch.
    for sequence in [6, 15, 20] {
        let gap = try_append(log, &batch_of(producer(1, 3, sequence), 2)).unwrap_err();
        assert!(matches!(gap, AppendError::OutOfOrderSequence { .. }), "{gap}");
    }
    let fenced = try_append(log, &batch_of(producer(1, 2, 16), 2)).unwrap_err();
    assert!(matches!(fenced, AppendError::InvalidProducerEpoch { .. }), "{fenced}");
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(try_append(log, &batch_of(producer(1, 3, 18), 2)).unwrap(), (end.0, false));
    // The one that is known from a new batch and the four before it.
    for sequence in 5..9 {
        let repeat = try_append(log, &batch_of(producer(1, 3, sequence * 2), 2)).unwrap();
        assert_eq!(repeat, (at[sequence as usize], true));
    }
}

#[test]
fn redpanda_5355_a_batch_that_was_cut_off_is_no_duplicate() {
    let world = World::small_segments(600);
    let mut log = world.create();
    for sequence in 0..20 {
        try_append(&mut log, &batch_of(producer(1, 0, sequence), 1)).unwrap();
    }
    assert!(log.segment_count() > 2);
    log.truncate_to(Offset(10), NOW).unwrap();
    let mut answers =
        (10..20).map(|sequence| try_append(&mut log, &batch_of(producer(1, 0, sequence), 1)).unwrap());
    assert!(answers.all(|(_, duplicate)| !duplicate));
    // What retention has deleted was acknowledged: its repeat must not be written again.
    log.delete_records_before(Offset(20)).unwrap();
    log.apply_retention(NOW).unwrap();
    assert_eq!(try_append(&mut log, &batch_of(producer(1, 0, 19), 1)).unwrap(), (19, true));
    assert_eq!(log.log_end_offset(), Offset(20));
    log.truncate_fully_and_start_at(Offset(100), NOW).unwrap();
    assert_eq!(try_append(&mut log, &batch_of(producer(1, 0, 19), 1)).unwrap(), (100, false));
}

#[test]
fn idle_producers_expire_and_open_transactions_do_not() {
    let world = World::new();
    let mut log = world.create();
    try_append(&mut log, &batch_of(producer(1, 0, 0), 1)).unwrap();
    try_append(&mut log, &batch_of(transactional(2, 0), 1)).unwrap();
    let day = world.options.producer_id_expiration_ms;
    assert_eq!(log.expire_producers(NOW + day - 1), 0);
    assert_eq!(log.expire_producers(NOW + day), 1);
    let left: Vec<ProducerId> = log.active_producers().map(|producer| producer.producer_id).collect();
    assert_eq!(left, [ProducerId(2)]);
}

#[test]
fn kafka_9144_a_recent_marker_keeps_the_coordinator_epoch_of_old_records() {
    let world = World::new();
    let mut log = world.create();
    let mut old = BatchBuilder::new(Compression::NONE).by(transactional(1, 0));
    old.append(5, None, Some(b"from long ago"), []);
    try_append(&mut log, &old.build().unwrap()).unwrap();
    end(&mut log, 1, 0, true, 7).unwrap();
    assert_eq!(log.expire_producers(NOW + 1), 0);
    assert!(matches!(
        end(&mut log, 1, 0, true, 6),
        Err(AppendError::CoordinatorFenced { epoch: 6, current: 7, .. })
    ));
    let mut log = world.reopen_clean(log);
    assert!(matches!(
        end(&mut log, 1, 0, true, 6),
        Err(AppendError::CoordinatorFenced { epoch: 6, current: 7, .. })
    ));
    assert!(end(&mut log, 1, 0, true, 8).is_ok());
}

#[test]
fn the_last_stable_offset_waits_for_the_first_open_transaction() {
    let world = World::new();
    let mut log = world.create();
    append(&mut log, &batch(&["plain"]));
    try_append(&mut log, &batch_of(transactional(1, 0), 2)).unwrap();
    try_append(&mut log, &batch_of(transactional(2, 0), 1)).unwrap();
    assert_eq!((log.last_stable_offset(), log.high_watermark()), (Offset(1), Offset(4)));
    end(&mut log, 1, 0, true, 0).unwrap();
    // Decided, but its marker is not below the high watermark yet.
    assert_eq!(log.last_stable_offset(), Offset(1));
    log.advance_high_watermark(Offset(5));
    assert_eq!(log.last_stable_offset(), Offset(3));
    end(&mut log, 2, 0, false, 0).unwrap();
    log.advance_high_watermark(Offset(6));
    assert_eq!(log.last_stable_offset(), Offset(6));
    try_append(&mut log, &batch_of(transactional(1, 2), 1)).unwrap();
    let error = try_append(&mut log, &batch_of(producer(1, 0, 3), 1)).unwrap_err();
    assert!(matches!(error, AppendError::InvalidTransactionState { since: Offset(6), .. }), "{error}");
}

#[test]
fn aborted_transactions_are_listed_for_what_they_reach_and_survive_both_stops() {
    let world = World::new();
    let mut log = world.create();
    try_append(&mut log, &batch_of(transactional(1, 0), 2)).unwrap(); // 0, 1
    try_append(&mut log, &batch_of(transactional(2, 0), 1)).unwrap(); // 2
    assert_eq!(end(&mut log, 1, 0, false, 0).unwrap(), Offset(3));
    append(&mut log, &batch(&["plain"])); // 4
    assert_eq!(end(&mut log, 2, 0, false, 0).unwrap(), Offset(5));
    end(&mut log, 2, 0, false, 0).unwrap(); // 6: ends nothing
    log.advance_high_watermark(Offset(7));
    let first = AbortedTransaction {
        producer_id: ProducerId(1),
        first_offset: Offset(0),
        last_offset: Offset(3),
        last_stable_offset: Offset(2),
    };
    let second = AbortedTransaction {
        producer_id: ProducerId(2),
        first_offset: Offset(2),
        last_offset: Offset(5),
        last_stable_offset: Offset(6),
    };
    let check = |log: &Log| {
        let listed = |from, to| log.aborted_transactions(Offset(from), Offset(to)).unwrap();
        assert_eq!(listed(0, 7), [first, second]);
        assert_eq!(listed(0, 2), [first]);
        assert_eq!(listed(4, 7), [second]);
        assert_eq!(listed(6, 7), []);
    };
    check(&log);
    let log = world.reopen_clean(log);
    check(&log);
    drop(log);
    std::fs::remove_file(world.path().join("00000000000000000000.txnindex")).unwrap();
    let (log, _) = world.reopen_unclean(Offset(0));
    check(&log);
    assert_eq!(log.last_stable_offset(), Offset(0));
    assert_eq!(values(&log).len(), 4);
}

#[test]
fn an_open_transaction_is_still_open_after_a_restart() {
    let world = World::small_segments(400);
    let mut log = world.create();
    try_append(&mut log, &batch_of(transactional(1, 0), 1)).unwrap();
    for index in 0..10 {
        append(&mut log, &batch(&[&format!("between {index}")]));
    }
    assert!(log.segment_count() > 1);
    let mut log = world.reopen_clean(log);
    assert_eq!(log.last_stable_offset(), Offset(0));
    let at = end(&mut log, 1, 0, false, 0).unwrap();
    log.advance_high_watermark(at.next());
    assert_eq!(log.last_stable_offset(), at.next());
    let aborted = log.aborted_transactions(Offset(0), Offset(1)).unwrap();
    assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (Offset(0), at));
    assert_eq!(records_from(&log, Offset(0)).len(), 11);
}

#[test]
fn kip_890_a_late_marker_of_version_two_is_fenced_and_a_repeated_one_is_not() {
    let world = World::new();
    let mut log = world.create();
    let origin = AppendOrigin::TransactionMarker { transaction_version: 2 };
    try_append(&mut log, &batch_of(transactional(1, 0), 1)).unwrap();
    let late = log.append_as_leader(&marker(1, 0, true, 0), EPOCH, origin, NOW).unwrap_err();
    assert!(matches!(late, AppendError::InvalidProducerEpoch { .. }), "{late}");
    log.append_as_leader(&marker(1, 1, true, 0), EPOCH, origin, NOW).unwrap();
    log.append_as_leader(&marker(1, 1, true, 0), EPOCH, origin, NOW).unwrap();
}
