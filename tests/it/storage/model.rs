//! A log against a plain list of batches: random appends, reads, look-ups, truncations, retention and restarts
//! of both kinds must leave the two the same.

use std::io::Write as _;

use klamm::record::{
    BatchBuilder, BatchHeader, Codec, Compression, InflateLimits, ProducerState, Scratch, batches,
};
use klamm::storage::{AppendOrigin, Log, TimestampOffset};
use klamm::types::{Offset, ProducerEpoch, ProducerId};

use super::world::{EPOCH, NOW, World, clean_hints, names};
use crate::random::Random;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    offset: i64,
    timestamp_ms: i64,
    value: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Written {
    entries: Vec<Entry>,
    last_offset: i64,
    /// What the producer sent, to be sent again.
    sent: Vec<u8>,
    producer: Option<i64>,
}

#[derive(Default)]
struct Model {
    batches: Vec<Written>,
    start: i64,
    end: i64,
    /// Next sequence of each producer.
    sequences: [i32; 3],
}

impl Model {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.batches.iter().flat_map(|batch| &batch.entries)
    }

    fn first_at(&self, timestamp_ms: i64) -> Option<TimestampOffset> {
        self.entries()
            .find(|entry| entry.offset >= self.start && entry.timestamp_ms >= timestamp_ms)
            .map(found)
    }
}

fn found(entry: &Entry) -> TimestampOffset {
    TimestampOffset { timestamp_ms: entry.timestamp_ms, offset: Offset(entry.offset), leader_epoch: EPOCH }
}

struct Run {
    random: Random,
    world: World,
    model: Model,
    log: Log,
}

impl Run {
    fn new(random: Random) -> Self {
        let mut random = random;
        let mut world = World::new();
        world.options.segment_bytes = 2_000 + random.below(20_000) as u64;
        world.options.index_interval_bytes = [1, 100, 500, 4_096][random.below(4)];
        world.options.segment_index_bytes = [60, 240, 10 << 20][random.below(3)];
        world.options.segment_ms = [5_000, 604_800_000][random.below(2)];
        world.options.preallocate = random.one_in(4);
        let log = world.create();
        Self { random, world, model: Model::default(), log }
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(8);
        let producer = self.random.one_in(2).then(|| self.random.below(3));
        let codec = [Codec::None, Codec::None, Codec::Lz4, Codec::Gzip, Codec::Zstd][self.random.below(5)];
        let mut builder = BatchBuilder::new(Compression::new(codec));
        if let Some(index) = producer {
            let base_sequence = self.model.sequences[index];
            builder = builder.by(ProducerState {
                id: ProducerId(index as i64),
                epoch: ProducerEpoch(0),
                base_sequence,
                is_transactional: false,
            });
            self.model.sequences[index] = klamm::record::advance_sequence(base_sequence, count as i32);
        }
        let mut entries = Vec::new();
        for index in 0..count {
            let timestamp_ms = NOW + self.model.end * 10 + self.random.below(200) as i64;
            let len = self.random.below(150);
            let value = (0..len).map(|_| self.random.next() as u8).collect::<Vec<u8>>();
            builder.append(timestamp_ms, None, Some(&value), []);
            entries.push(Entry { offset: self.model.end + index as i64, timestamp_ms, value });
        }
        let sent = builder.build().unwrap().to_vec();
        let appended = self.log.append_as_leader(&sent, EPOCH, AppendOrigin::Client, NOW).unwrap();
        assert_eq!((appended.base_offset.0, appended.duplicate), (self.model.end, false));
        let last_offset = self.model.end + count as i64 - 1;
        self.model.end = last_offset + 1;
        self.log.advance_high_watermark(self.log.log_end_offset());
        let producer = producer.map(|index| index as i64);
        self.model.batches.push(Written { entries, last_offset, sent, producer });
    }

    /// The last batch of a producer is known after any restart.
    fn repeat(&mut self) {
        let Some(last) = self.model.batches.iter().rev().find(|batch| batch.producer.is_some()) else {
            return;
        };
        let appended = self.log.append_as_leader(&last.sent, EPOCH, AppendOrigin::Client, NOW).unwrap();
        assert!(appended.duplicate);
        assert_eq!(appended.last_offset.0, last.last_offset);
    }

    fn read(&mut self) {
        let range = (self.model.end - self.model.start + 1) as usize;
        let from = self.model.start + self.random.below(range) as i64;
        let max_bytes = self.random.below(3_000);
        let upper = Offset(self.model.end - self.random.below(3) as i64);
        let slice = self.log.read(Offset(from), upper, max_bytes, true).unwrap().into_slice().unwrap();
        let bytes = slice.region.read().unwrap();
        let mut got = Vec::new();
        for batch in batches(&bytes).map_while(Result::ok) {
            assert!(batch.header.last_offset() < upper && batch.header.last_offset() < slice.upper_bound);
            got.extend(decode(&batch.header, batch.bytes));
        }
        let wanted: Vec<&Written> = self
            .model
            .batches
            .iter()
            .filter(|batch| batch.last_offset >= from && batch.last_offset < upper.0)
            .collect();
        assert_eq!(got.is_empty(), wanted.is_empty(), "from {from} below {upper}");
        let wanted: Vec<&Entry> = wanted.iter().flat_map(|batch| &batch.entries).take(got.len()).collect();
        assert_eq!(got.iter().collect::<Vec<_>>(), wanted);
    }

    fn look_up(&mut self) {
        let timestamp_ms = NOW - 50 + self.random.below((self.model.end as usize + 30) * 10) as i64;
        let expected = self.model.first_at(timestamp_ms);
        assert_eq!(self.log.offset_for_timestamp(timestamp_ms).unwrap(), expected, "at {timestamp_ms}");
    }

    fn truncate(&mut self) {
        let range = (self.model.end - self.model.start + 1) as usize;
        let to = self.model.end - (self.random.below(range) as i64).min(self.random.below(20) as i64);
        self.log.truncate_to(Offset(to), NOW).unwrap();
        // A batch that is cut goes whole, also one that begins below the log's start.
        let cut = self.model.batches.iter().find(|batch| batch.last_offset >= to);
        let end = cut.map_or(to, |batch| batch.last_offset + 1 - batch.entries.len() as i64);
        self.model.batches.retain(|batch| batch.last_offset < to);
        self.model.end = end;
        self.model.start = self.model.start.min(end);
        assert_eq!(self.log.log_end_offset(), Offset(end), "cut at {to}");
        for (index, next) in self.model.sequences.iter_mut().enumerate() {
            let last = self.model.batches.iter().rev().find(|batch| batch.producer == Some(index as i64));
            let header = last.map(|batch| BatchHeader::parse(&batch.sent).unwrap());
            *next = header.map_or(0, |header| klamm::record::advance_sequence(header.last_sequence(), 1));
        }
    }

    fn delete_records(&mut self) {
        let range = (self.model.end - self.model.start + 1) as usize;
        let before = self.model.start + self.random.below(range).min(self.random.below(30)) as i64;
        self.log.delete_records_before(Offset(before)).unwrap();
        self.model.start = before;
    }

    fn retain(&mut self) {
        let mut options = *self.log.options();
        options.retention_bytes = self.random.below(40_000) as i64;
        options.retention_ms = -1;
        self.log.set_options(options);
        let before = self.log.size_bytes();
        let deleted = self.log.apply_retention(NOW).unwrap();
        assert_eq!(self.log.size_bytes(), before - deleted.bytes);
        let start = self.log.log_start_offset().0;
        assert!(start >= self.model.start && start <= self.model.end);
        self.model.start = start;
    }

    fn stop_clean(&mut self) {
        self.log.close_clean().unwrap();
        let (log, recovered) = self.world.open(clean_hints(&self.log));
        assert_eq!(recovered.bytes_cut, 0);
        self.log = log;
    }

    /// The process dies in the middle of a write, which was not acknowledged.
    fn kill(&mut self) {
        let hints = klamm::storage::OpenHints { clean: false, ..clean_hints(&self.log) };
        let active = names(&self.world.path()).into_iter().rfind(|name| name.ends_with(".log")).unwrap();
        let path = self.world.path().join(active);
        if !self.log.options().preallocate && self.random.one_in(2) {
            let mut torn = super::world::sized(100 + self.random.below(500)).to_vec();
            torn[..8].copy_from_slice(&self.model.end.to_be_bytes());
            torn.truncate(1 + self.random.below(torn.len() - 1));
            std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&torn).unwrap();
        }
        let (log, recovered) = self.world.open(hints);
        assert_eq!(recovered.segments_dropped, 0);
        self.log = log;
    }

    fn check(&mut self) {
        // What a truncation inside a batch left between the last record and the end is not on disk.
        let end = self.log.log_end_offset().0;
        let last = self.model.batches.last().map_or(self.model.start, |batch| batch.last_offset + 1);
        assert!(end == self.model.end || end == last.max(self.model.start), "{end} of {}", self.model.end);
        self.model.end = end;
        assert_eq!(self.log.log_start_offset().0, self.model.start);
        self.log.advance_high_watermark(Offset(end));
        let mut next = self.model.start;
        let mut got = Vec::new();
        while next < end {
            let slice = self.log.read(Offset(next), Offset(end), 10_000, true).unwrap().into_slice().unwrap();
            let bytes = slice.region.read().unwrap();
            let Some(last) = batches(&bytes).map_while(Result::ok).last() else { break };
            next = last.header.next_offset().0;
            for batch in batches(&bytes).map_while(Result::ok) {
                got.extend(decode(&batch.header, batch.bytes));
            }
        }
        let kept: Vec<&Entry> =
            self.model.entries().filter(|entry| entry.offset >= self.model.start).collect();
        let got: Vec<&Entry> = got.iter().filter(|entry| entry.offset >= self.model.start).collect();
        assert_eq!(got, kept);
    }
}

fn decode(header: &BatchHeader, bytes: &[u8]) -> Vec<Entry> {
    let batch = klamm::record::BatchRef { header: *header, bytes };
    batch.check_crc().unwrap();
    let mut scratch = Scratch::new();
    let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
    let mut entries = Vec::new();
    while let Some(record) = records.next() {
        let record = record.unwrap();
        entries.push(Entry {
            offset: record.offset.0,
            timestamp_ms: record.timestamp_ms,
            value: record.value.unwrap().to_vec(),
        });
    }
    entries
}

#[test]
fn a_log_is_the_list_of_its_batches_through_every_stop() {
    for _ in 0..3 {
        let mut run = Run::new(Random::new());
        for _ in 0..250 {
            match run.random.below(40) {
                0 => run.truncate(),
                1 => run.delete_records(),
                2 => run.retain(),
                3 => {
                    run.stop_clean();
                    run.check();
                }
                4 => {
                    run.kill();
                    run.check();
                }
                5 => drop(run.log.roll(NOW).unwrap()),
                6 => run.log.flush().unwrap(),
                7 => run.repeat(),
                8..16 => run.read(),
                16..20 => run.look_up(),
                _ => run.append(),
            }
            assert_eq!(run.log.log_end_offset().0, run.model.end);
        }
        run.check();
    }
}
