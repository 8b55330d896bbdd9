//! Random workloads: keys, tombstones, idempotent producers, transactions that commit and abort, all codecs, small
//! segments, restarts of both kinds, rounds that are ended half-way. `KLAMM_COMPACTION_SEEDS` says how many.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm::record::{Codec, ProducerState};
use klamm::storage::cleaner::{CleanError, CleaningLimits, CompactionRules};
use klamm::storage::hostile::{HostileDisk, Survival};
use klamm::storage::{AppendOrigin, Disk as _, Log, LogOptions, OpenHints};
use klamm::types::{Offset, ProducerEpoch, ProducerId};

use super::world::{
    Entry, Fate, START_MS, Sent, append, batch, clean_with, create, folder, last_values, limits, marker,
    names, open, read_all, read_committed, rules, seeds,
};
use crate::random::Random;

const SEEDS: usize = 10;

struct Run {
    random: Random,
    disk: Arc<HostileDisk>,
    options: LogOptions,
    rules: CompactionRules,
    limits: CleaningLimits,
    log: Log,
    now_ms: i64,
    sent: Vec<Sent>,
    /// Next sequence of the idempotent producers.
    sequences: [i32; 3],
    /// Of the transactional ones, and whether a transaction is open.
    transactional: [(i32, bool); 3],
    keys: usize,
}

impl Run {
    fn new(mut random: Random) -> Self {
        let disk = HostileDisk::new();
        let options = LogOptions {
            compact: true,
            segment_bytes: 600 + random.below(6_000) as u64,
            index_interval_bytes: [1, 200, 4_096][random.below(3)],
            segment_index_bytes: [240, 1 << 20][random.below(2)],
            delete_old_segments: false,
            ..LogOptions::default()
        };
        let rules = CompactionRules {
            min_compaction_lag_ms: [0, 0, 5_000][random.below(3)],
            delete_retention_ms: [0, 3_000, 1_000_000][random.below(3)],
            ..rules()
        };
        let limits = CleaningLimits {
            key_map_bytes: [24 * 12, 24 * 40, 1 << 20][random.below(3)],
            buffer_bytes: [4_096, 1 << 16][random.below(2)],
            ..limits()
        };
        let log = create(&disk, options);
        let keys = 1 + random.below(40);
        Self {
            random,
            disk,
            options,
            rules,
            limits,
            log,
            now_ms: START_MS,
            sent: Vec::new(),
            sequences: [0; 3],
            transactional: [(0, false); 3],
            keys,
        }
    }

    fn records(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        // The key map of the smallest size holds ten keys: a batch may not have more.
        (0..1 + self.random.below(6))
            .map(|_| {
                let key = format!("key-{}", self.random.below(self.keys)).into_bytes();
                let size = self.random.below(60);
                let value = (0..size).map(|_| self.random.next() as u8).collect();
                (key, (!self.random.one_in(4)).then_some(value))
            })
            .collect()
    }

    fn send(&mut self, producer: ProducerState) {
        let codec = Codec::ALL[self.random.below(Codec::ALL.len())];
        let records = self.records();
        let bytes = batch(codec, producer, self.now_ms, &records);
        let base = append(&mut self.log, &bytes, AppendOrigin::Client, self.now_ms);
        for (index, (key, value)) in records.into_iter().enumerate() {
            let entry =
                Entry { offset: base + index as i64, timestamp_ms: self.now_ms + index as i64, key, value };
            self.sent.push(Sent {
                entry,
                producer: (producer.id != ProducerId::NONE).then_some(producer.id.0),
                fate: if producer.is_transactional { Fate::Open } else { Fate::Committed },
                sent_ms: self.now_ms,
            });
        }
    }

    fn produce(&mut self) {
        match self.random.below(4) {
            0 | 1 => self.send(ProducerState::NONE),
            2 => {
                let index = self.random.below(3);
                let before = self.log.log_end_offset().0;
                self.send(state(index as i64, self.sequences[index], false));
                self.sequences[index] += (self.log.log_end_offset().0 - before) as i32;
            }
            _ => {
                let index = self.random.below(3);
                let (sequence, _) = self.transactional[index];
                let before = self.log.log_end_offset().0;
                self.send(state(10 + index as i64, sequence, true));
                let count = (self.log.log_end_offset().0 - before) as i32;
                self.transactional[index] = (sequence + count, true);
                if self.random.one_in(2) {
                    self.end_transaction(index);
                }
            }
        }
    }

    fn end_transaction(&mut self, index: usize) {
        if !std::mem::take(&mut self.transactional[index].1) {
            return;
        }
        let commits = self.random.one_in(2);
        let producer = 10 + index as i64;
        marker(&mut self.log, producer, 0, commits, self.now_ms);
        let fate = if commits { Fate::Committed } else { Fate::Aborted };
        for sent in self.sent.iter_mut().rev() {
            if sent.producer == Some(producer) && sent.fate == Fate::Open {
                sent.fate = fate;
            }
        }
    }

    /// One round, which may be ended half-way; what it promises is checked.
    fn clean(&mut self) {
        let mut steps = if self.random.one_in(3) { self.random.below(12) } else { usize::MAX };
        let (rules, limits, now_ms) = (self.rules, self.limits, self.now_ms);
        let upper = self.log.dirtiness(&rules, now_ms).unwrap().first_uncleanable_offset;
        assert!(upper <= self.log.last_stable_offset().max(self.log.log_start_offset()));
        let cleaned = clean_with(&mut self.log, &rules, &limits, now_ms, |_| {
            steps = steps.saturating_sub(1);
            steps > 0
        });
        match cleaned {
            Ok(None) | Err(CleanError::Aborted) => {}
            Ok(Some(cleaned)) => {
                assert!(cleaned.cleaner_point > cleaned.first_dirty_offset && cleaned.cleaner_point <= upper);
                assert_eq!(self.log.cleaner_point(), Some(cleaned.cleaner_point));
                self.check_cleaned(cleaned.cleaner_point.0);
            }
            Err(error) => panic!("{error}"),
        }
        for name in names(&self.disk) {
            assert!(!name.ends_with(".cleaned") && !name.ends_with(".swap"), "{name}");
        }
    }

    /// Below the cleaner point each key is there once, and no aborted record is.
    fn check_cleaned(&self, point: i64) {
        let mut seen = BTreeMap::new();
        let first = self.log.log_start_offset();
        for entry in read_all(&self.log, first, Offset(point), 1 << 20) {
            assert_eq!(seen.insert(entry.key.clone(), entry.offset), None, "{entry:?}");
            assert_eq!(self.fate(entry.offset), Fate::Committed);
        }
    }

    fn fate(&self, offset: i64) -> Fate {
        let at = self.sent.binary_search_by_key(&offset, |sent| sent.entry.offset).unwrap();
        self.sent[at].fate
    }

    /// What a reader sees is what was sent, where it was sent; the last value of each key is the map's; nothing
    /// that was not cleaned is missing; tombstones stay for as long as they must.
    fn check(&mut self) {
        let (start, stable) = (self.log.log_start_offset(), self.log.last_stable_offset());
        let max_bytes = [1, 700, 1 << 20][self.random.below(3)];
        let seen = read_committed(&self.log, start, max_bytes);
        let decided = |sent: &&Sent| {
            let offset = sent.entry.offset;
            sent.fate == Fate::Committed && offset >= start.0 && offset < stable.0
        };
        let expected: Vec<&Sent> = self.sent.iter().filter(decided).collect();
        assert!(seen.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        let mut missing = Vec::new();
        let mut next = seen.iter().peekable();
        for sent in &expected {
            match next.next_if(|entry| entry.offset == sent.entry.offset) {
                Some(entry) => assert_eq!(*entry, sent.entry),
                None => missing.push(*sent),
            }
        }
        assert_eq!(next.next(), None, "nothing is read that was not committed");
        assert_eq!(last_values(&seen), last_values(expected.iter().map(|sent| &sent.entry)));
        let newest: BTreeMap<&[u8], i64> =
            expected.iter().map(|sent| (&sent.entry.key[..], sent.entry.offset)).collect();
        for sent in missing {
            let is_newest = newest.get(&sent.entry.key[..]) == Some(&sent.entry.offset);
            if is_newest {
                assert_eq!(sent.entry.value, None, "{sent:?}");
                assert!(sent.sent_ms + self.rules.delete_retention_ms <= self.now_ms, "{sent:?}");
            }
        }
        self.check_reads(&seen);
    }

    /// Reads that begin anywhere, and look-ups by time, find what a whole read finds.
    fn check_reads(&mut self, seen: &[Entry]) {
        let start = self.log.log_start_offset().0;
        let span = (self.log.last_stable_offset().0 - start) as usize;
        if span == 0 {
            return;
        }
        let from = start + self.random.below(span) as i64;
        let part = read_committed(&self.log, Offset(from), 2_000);
        let expected: Vec<&Entry> = seen.iter().filter(|entry| entry.offset >= from).collect();
        assert_eq!(part.iter().collect::<Vec<_>>(), expected, "from {from}");
        let all = read_all(&self.log, Offset(start), self.log.log_end_offset(), 1 << 20);
        let target = START_MS + self.random.below((self.now_ms - START_MS + 10) as usize) as i64;
        let found = self.log.offset_for_timestamp(target).unwrap().map(|found| found.offset.0);
        let expected = all.iter().find(|entry| entry.timestamp_ms >= target).map(|entry| entry.offset);
        // Markers have timestamps, too, and may be found.
        match (found, expected) {
            (Some(found), Some(expected)) => {
                assert!(found == expected || all.iter().all(|entry| entry.offset != found), "{target}");
                assert!(found <= expected, "{target}: {found} {expected}");
            }
            (Some(found), None) => assert!(all.iter().all(|entry| entry.offset != found)),
            (None, expected) => assert_eq!(expected, None, "{target}"),
        }
    }

    fn restart(&mut self) {
        let start = self.log.log_start_offset();
        let producers = |log: &Log| -> Vec<(i64, i16, i32)> {
            log.active_producers()
                .filter(|one| one.last_data_offset.is_some_and(|offset| offset >= start))
                .map(|one| (one.producer_id.0, one.epoch.0, one.last_sequence))
                .collect()
        };
        let before = producers(&self.log);
        let cleaner_point = self.log.cleaner_point();
        let is_clean = self.random.one_in(2);
        let mut hints = OpenHints {
            clean: is_clean,
            log_start_offset: Some(self.log.log_start_offset()),
            ..OpenHints::default()
        };
        // What is not flushed survives a killed process, and no power cut.
        let mut survival = Survival::Everything;
        if is_clean {
            self.log.close_clean().unwrap();
            hints.recovery_point = self.log.flushed_offset();
            survival = Survival::Seeded(self.random.next());
        } else if self.random.one_in(2) {
            self.log.flush().unwrap();
            hints.recovery_point = Offset(self.random.below(self.log.flushed_offset().0 as usize + 1) as i64);
            survival = Survival::Seeded(self.random.next());
        }
        self.disk = self.disk.restart(survival);
        if self.disk.list(&folder()).is_err() {
            // The folder is synced with the first batch: without one it is made again.
            assert_eq!(self.log.log_end_offset(), Offset::ZERO, "a log with batches is gone");
            self.log = create(&self.disk, self.options);
            return;
        }
        if !is_clean && self.random.one_in(2) {
            // The log alone must tell what the producers wrote last.
            for name in names(&self.disk).iter().filter(|name| name.ends_with(".snapshot")) {
                self.disk.remove_file(&folder().join(name)).unwrap();
            }
        }
        let (end, stable) = (self.log.log_end_offset(), self.log.last_stable_offset());
        self.log = open(&self.disk, self.options, hints, self.now_ms);
        assert_eq!(self.log.log_end_offset(), end);
        assert_eq!(producers(&self.log), before);
        self.log.set_cleaner_point(cleaner_point);
        self.log.advance_high_watermark(end);
        assert_eq!(
            self.log.last_stable_offset(),
            stable,
            "no transaction is open that was not, nor the reverse"
        );
        self.follow_sequences();
    }

    /// Of what DeleteRecords has taken, no producer can be told again: it goes on from what is known of it.
    fn follow_sequences(&mut self) {
        for one in self.log.active_producers() {
            let next = one.last_sequence + 1;
            match one.producer_id.0 {
                id @ 0..3 => self.sequences[id as usize] = next,
                id => self.transactional[id as usize - 10].0 = next,
            }
        }
    }

    fn delete_records(&mut self) {
        let (start, stable) = (self.log.log_start_offset().0, self.log.last_stable_offset().0);
        if stable > start {
            let to = start + self.random.below((stable - start) as usize) as i64;
            self.log.delete_records_before(Offset(to)).unwrap();
            self.log.apply_retention(self.now_ms).unwrap();
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(400) as i64;
        match self.random.below(40) {
            0..27 => self.produce(),
            27..30 => {
                let index = self.random.below(3);
                self.end_transaction(index);
            }
            30..35 => self.clean(),
            35 => self.now_ms += 20_000,
            36..38 => self.restart(),
            38 => self.check(),
            _ if self.random.one_in(4) => self.delete_records(),
            _ => {}
        }
    }
}

fn state(id: i64, base_sequence: i32, is_transactional: bool) -> ProducerState {
    ProducerState { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence, is_transactional }
}

#[test]
fn s1_3_log_compaction_test_random_workloads_leave_what_a_plain_map_holds() {
    let mut seed = Random::new().seed;
    for _ in 0..seeds(SEEDS) {
        seed = seed.wrapping_add(0x9e37_79b9);
        eprintln!("seed {seed}");
        let mut run = Run::new(Random::from_seed(seed));
        for _ in 0..300 {
            run.step();
        }
        for index in 0..3 {
            run.end_transaction(index);
        }
        run.check();
        run.clean();
        run.check();
        run.restart();
        run.check();
    }
}
