//! Where a round ends, what wakes it, and what it leaves alone.

use std::io::IoSlice;
use std::sync::Arc;

use klamm::record::{BatchBuilder, Codec, Compression, ProducerState};
use klamm::storage::cleaner::{CleanError, Cleaning, CompactionRules, Progress};
use klamm::storage::disk::Access;
use klamm::storage::hostile::{HostileDisk, Survival};
use klamm::storage::{AppendOrigin, Disk as _, Log, LogOptions, OpenHints, ReadOutcome};
use klamm::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::world::{
    EPOCH, START_MS, append, batch, clean_with, create, folder, limits, marker, names, open, read_all, rules,
};

/// What happens to a log while it is cleaned.
type Act = fn(&mut Log);

struct Ground {
    disk: Arc<HostileDisk>,
    log: Log,
}

impl Ground {
    fn new() -> Self {
        let disk = HostileDisk::new();
        let log = create(&disk, LogOptions { compact: true, segment_bytes: 400, ..LogOptions::default() });
        Self { disk, log }
    }

    /// `count` batches with one of three keys each.
    fn fill(&mut self, count: usize) {
        for number in 0..count {
            self.put(&format!("key-{}", number % 3), Some("value"), START_MS);
        }
    }

    fn put(&mut self, key: &str, value: Option<&str>, now_ms: i64) -> i64 {
        let record = (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()));
        let bytes = batch(Codec::None, ProducerState::NONE, now_ms, &[record]);
        append(&mut self.log, &bytes, AppendOrigin::Client, now_ms)
    }

    fn clean(&mut self, rules: &CompactionRules, now_ms: i64) -> Option<Offset> {
        let cleaned = clean_with(&mut self.log, rules, &limits(), now_ms, |_| true).unwrap();
        cleaned.map(|cleaned| cleaned.cleaner_point)
    }

    fn offsets(&self) -> Vec<i64> {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        read_all(&self.log, start, end, 1 << 20).iter().map(|entry| entry.offset).collect()
    }
}

#[test]
fn kafka_13194_the_cleaner_stops_at_the_high_watermark_and_the_last_stable_offset() {
    let mut ground = Ground::new();
    ground.fill(12);
    let end = ground.log.log_end_offset();
    let mut behind = Ground::new();
    for number in 0..30 {
        let record = (format!("key-{}", number % 3).into_bytes(), Some(b"value".to_vec()));
        let bytes = batch(Codec::None, ProducerState::NONE, START_MS, &[record]);
        behind.log.append_as_leader(&bytes, EPOCH, AppendOrigin::Client, START_MS).unwrap();
    }
    assert_eq!(behind.clean(&rules(), START_MS), None, "nothing is committed");
    behind.log.advance_high_watermark(Offset(10));
    let point = behind.clean(&rules(), START_MS).unwrap();
    assert!(point <= Offset(10) && point > Offset(0), "{point}");
    assert_eq!(behind.offsets().iter().filter(|offset| **offset >= point.0).count() as i64, 30 - point.0);

    let open = ProducerState {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
        base_sequence: 0,
        is_transactional: true,
    };
    let bytes = batch(Codec::None, open, START_MS, &[(b"key-0".to_vec(), None)]);
    append(&mut ground.log, &bytes, AppendOrigin::Client, START_MS);
    ground.fill(30);
    let stopped = ground.clean(&rules(), START_MS).unwrap();
    assert!(stopped <= end, "{stopped} is above the open transaction at {end}");
    assert_eq!(ground.clean(&rules(), START_MS), None, "nothing more until the transaction ends");
    marker(&mut ground.log, 7, 0, true, START_MS);
    assert!(ground.clean(&rules(), START_MS).unwrap() > end);
}

#[test]
fn kafka_6264_a_segment_whose_offsets_span_more_than_2_to_the_31_is_split() {
    const FAR: i64 = 3_000_000_000;
    let disk = HostileDisk::new();
    disk.create_folder(&folder()).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let file = disk.open(&folder().join(name), Access::Create).unwrap();
        file.write_at(&mut [IoSlice::new(bytes)], 0).unwrap();
    };
    let one = |offset: i64, key: &str| {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(0));
        builder.append(
            START_MS,
            Some(key.as_bytes()),
            Some(b"v"),
            [klamm::record::HeaderRef { key: b"n", value: None }],
        );
        builder.build().unwrap()
    };
    let wide = [one(0, "a"), one(1, "b"), one(FAR, "c"), one(FAR + 1, "a")].concat();
    put("00000000000000000000.log", &wide);
    put("00000000003000000010.log", b"");
    let hints = OpenHints { clean: true, recovery_point: Offset(FAR + 10), ..OpenHints::default() };
    let options = LogOptions::default();
    let mut log = open(&disk, options, hints, START_MS);
    log.advance_high_watermark(Offset(FAR + 10));
    let cleaned = clean_with(&mut log, &rules(), &limits(), START_MS, |_| true).unwrap().unwrap();
    assert_eq!((cleaned.segments_before, cleaned.segments_after), (1, 2));
    let offsets = |log: &Log| -> Vec<i64> {
        let read = read_all(log, Offset(0), log.log_end_offset(), 1 << 20);
        read.iter().map(|entry| entry.offset).collect()
    };
    assert_eq!(offsets(&log), [1, FAR, FAR + 1]);
    assert!(names(&disk).contains(&"00000000003000000000.log".to_owned()));
    drop(log);
    let log = open(&disk, options, OpenHints::default(), START_MS);
    assert_eq!(offsets(&log), [1, FAR, FAR + 1], "a recovery takes all of it");
}

#[test]
fn lags_and_ratios_say_when_a_log_is_cleaned() {
    let mut ground = Ground::new();
    for minute in 0..20 {
        ground.put(&format!("key-{}", minute % 3), Some("value"), START_MS + minute * 60_000);
    }
    let now_ms = START_MS + 20 * 60_000;
    let lagging = CompactionRules { min_compaction_lag_ms: 10 * 60_000, ..rules() };
    let dirtiness = ground.log.dirtiness(&lagging, now_ms).unwrap();
    assert!(dirtiness.first_uncleanable_offset <= Offset(10));
    assert!((dirtiness.ratio() - 1.0).abs() < f64::EPSILON && dirtiness.is_due(&lagging));
    let picky = CompactionRules { min_cleanable_dirty_ratio: 1.0, ..rules() };
    assert!(!ground.log.dirtiness(&picky, now_ms).unwrap().is_due(&picky), "not above its ratio");
    let impatient = CompactionRules { max_compaction_lag_ms: 19 * 60_000, ..picky };
    assert!(ground.log.dirtiness(&impatient, now_ms).unwrap().is_due(&impatient));
    let patient = CompactionRules { max_compaction_lag_ms: 21 * 60_000, ..picky };
    assert!(!ground.log.dirtiness(&patient, now_ms).unwrap().is_due(&patient));
    let point = ground.clean(&lagging, now_ms).unwrap();
    assert!(point <= Offset(10), "{point}");
    let clean = ground.log.dirtiness(&lagging, now_ms).unwrap();
    assert_eq!((clean.cleanable_bytes, clean.is_due(&lagging)), (0, false));
}

#[test]
fn truncation_and_deleted_records_abort_a_round_and_retention_waits_for_it() {
    let acts: [(&str, Act); 3] = [
        ("truncation", |log| assert!(log.truncate_to(Offset(20), START_MS).unwrap())),
        ("DeleteRecords", |log| assert_eq!(log.delete_records_before(Offset(5)).unwrap(), Offset(5))),
        ("a new beginning", |log| log.truncate_fully_and_start_at(Offset(50), START_MS).unwrap()),
    ];
    for (what, act) in acts {
        let mut ground = Ground::new();
        ground.fill(40);
        let mut step = 0;
        let ended = clean_with(&mut ground.log, &rules(), &limits(), START_MS, |log| {
            step += 1;
            if step == 4 {
                assert!(log.is_being_cleaned());
                assert_eq!(log.apply_retention(i64::MAX / 2).unwrap().segments, 0, "{what}");
                act(log);
            }
            true
        });
        assert!(matches!(ended, Err(CleanError::Aborted)), "{what}");
        assert!(!ground.log.is_being_cleaned());
        for name in names(&ground.disk) {
            assert!(!name.ends_with(".cleaned") && !name.ends_with(".swap"), "{what}: {name}");
        }
        ground.fill(10);
        ground.clean(&rules(), START_MS);
    }
}

#[test]
fn a_region_that_a_reader_holds_outlives_the_swap_and_the_removal() {
    let mut ground = Ground::new();
    ground.fill(40);
    let end = ground.log.log_end_offset();
    let ReadOutcome::Slice(held) = ground.log.read(Offset(0), end, 1 << 20, true).unwrap() else { panic!() };
    let before = held.region.read().unwrap();
    ground.clean(&rules(), START_MS).unwrap();
    let deletions = Arc::clone(ground.log.deletions());
    deletions.remove_due(&**ground.log.disk(), i64::MAX).unwrap();
    assert_eq!(held.region.read().unwrap(), before);
    assert_ne!(ground.offsets()[0], 0);
}

#[test]
fn only_one_round_at_a_time_works_on_a_log_and_memory_follows_what_is_dirty() {
    let mut ground = Ground::new();
    ground.fill(40);
    let begin = |log: &mut Log| Cleaning::begin(log, &rules(), &limits(), [1; 16], START_MS).unwrap();
    let first = begin(&mut ground.log).unwrap();
    assert!(first.key_map_bytes() < 60 * 24, "128 MiB are allowed, 40 records are there");
    assert!(begin(&mut ground.log).is_none());
    drop(first);
    assert!(begin(&mut ground.log).is_some());
}

#[test]
fn damage_ends_a_round_before_anything_is_swapped() {
    let mut ground = Ground::new();
    ground.fill(40);
    let path = folder().join("00000000000000000000.log");
    assert!(ground.disk.flip_bit(&path, 70 * 8));
    let before = ground.disk.files(&folder());
    let mut cleaning =
        Cleaning::begin(&mut ground.log, &rules(), &limits(), [1; 16], START_MS).unwrap().unwrap();
    let error = loop {
        match cleaning.work() {
            Ok(Progress::Worked(_)) => {}
            Ok(Progress::NeedsLog) => drop(cleaning.settle(&mut ground.log).unwrap()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("batch at offset 0, position 0"), "{error}");
    cleaning.abandon(&ground.log);
    assert_eq!(ground.disk.files(&folder()), before);
}

/// The snapshot of the first segment still says that a transaction is open; its marker lay behind that snapshot, and was
/// cleaned away once its records were gone.
#[test]
fn a_marker_that_was_cleaned_away_leaves_no_transaction_open_after_a_crash() {
    let mut ground = Ground::new();
    ground.fill(12);
    let producer = ProducerState {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
        base_sequence: 0,
        is_transactional: true,
    };
    let bytes = batch(Codec::None, producer, START_MS, &[(b"key-0".to_vec(), Some(b"of it".to_vec()))]);
    let first = append(&mut ground.log, &bytes, AppendOrigin::Client, START_MS);
    ground.fill(12);
    let ended = marker(&mut ground.log, 7, 0, true, START_MS);
    ground.fill(30);
    let bases: Vec<i64> = ground.log.segment_base_offsets().map(|base| base.0).collect();
    let base = *bases.iter().rev().find(|base| **base <= ended).unwrap();
    assert!(base > first, "the marker is in a later segment than its records");
    ground.log.delete_records_before(Offset(base + 1)).unwrap();
    ground.log.apply_retention(START_MS).unwrap();
    assert_eq!(ground.log.first_segment_base_offset(), Offset(base));
    let eager = CompactionRules { delete_retention_ms: 0, ..rules() };
    for round in 1..4 {
        ground.fill(12);
        assert!(ground.clean(&eager, START_MS + round * 10).is_some());
    }
    let end = ground.log.log_end_offset();
    assert_eq!(ground.log.last_stable_offset(), end);
    let hints = OpenHints { log_start_offset: Some(ground.log.log_start_offset()), ..OpenHints::default() };
    let options = *ground.log.options();
    ground.disk = ground.disk.restart(Survival::Everything);
    ground.log = open(&ground.disk, options, hints, START_MS);
    ground.log.advance_high_watermark(end);
    assert_eq!(ground.log.last_stable_offset(), end, "nothing is open");
    assert_eq!(ground.log.active_producers().count(), 1, "the producer is known all the same");
}
