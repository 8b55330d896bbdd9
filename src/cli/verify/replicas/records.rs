//! Compares copies of a compacted topic. Each replica cleans alone, so that batches and what is in them may differ; what
//! holds all the same: records at the same offset are the same, and the last record of each key is in every copy unless
//! it is a tombstone or its transaction was taken back.
//!
//! A record that one copy lacks is kept in mind by its key until a later record of that key comes. How many are kept in
//! mind is bounded; what is beyond is counted and not judged.

use std::collections::{HashMap, VecDeque};

use siphasher::sip128::SipHasher13;

use crate::cli::verify::replicas::read::{Checked, Finding, Kind, Read};
use crate::record::{ControlKey, ControlType, InflateLimits, Record};

/// So many records that a copy lacks are kept in mind: some 100 MiB.
const PENDING_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Records {
    decoded: Vec<VecDeque<Entry>>,
    /// Offsets of each copy that cannot be read: nothing is missing there.
    blind: Vec<(i64, i64)>,
    pending: HashMap<u128, Pending>,
    /// Keys in `pending` by the producer whose transaction is not decided yet.
    undecided: HashMap<i64, Vec<u128>>,
    /// Records that a copy lacks and that were not kept in mind.
    pub(super) untracked: u64,
    /// Batches looked at, and their bytes, in the copy that was read first.
    pub(super) same: (u64, u64),
}

/// A record, and what its batch says of it.
#[derive(Debug, Clone)]
struct Entry {
    record: Record,
    producer: Option<i64>,
    is_control: bool,
}

/// A record that some copies lack.
#[derive(Debug, Clone)]
struct Pending {
    offset: i64,
    has: Vec<i32>,
    lacks: Vec<i32>,
    producer: Option<i64>,
}

impl Records {
    /// Compares as far as all copies were read; `found` gets what is wrong.
    pub(super) fn compare(&mut self, reads: &mut [Read], found: &mut Vec<Finding>) {
        self.decoded.resize_with(reads.len(), VecDeque::new);
        self.blind.resize(reads.len(), (0, 0));
        loop {
            let is_empty = |place: usize| self.decoded[place].is_empty();
            let all_taken = (0..reads.len()).all(is_empty);
            if all_taken && self.skip_same(reads, found) {
                continue;
            }
            for (place, read) in reads.iter_mut().enumerate().filter(|(_, read)| !read.is_lost) {
                while self.decoded[place].is_empty()
                    && let Some(checked) = read.batches.pop_front()
                {
                    self.decode(place, read.broker, &checked, found);
                }
            }
            let waits = |(place, read): (usize, &Read)| {
                !read.is_lost && !read.is_at_end && self.decoded[place].is_empty()
            };
            if reads.iter().enumerate().any(waits) || !self.take_one(reads, found) {
                return;
            }
        }
    }

    /// Whether a key is in mind whose last record a copy lacks, as far as was read.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing more comes: what is still in mind is missing.
    pub(super) fn finish(&mut self, found: &mut Vec<Finding>) {
        let mut pending: Vec<Pending> = self.pending.drain().map(|(_, pending)| pending).collect();
        pending.sort_unstable_by_key(|pending| pending.offset);
        found.extend(pending.into_iter().map(|Pending { offset, has, lacks, .. }| Finding {
            kind: Kind::Difference,
            offset,
            last_offset: offset,
            what: "the last record of its key is not in every copy".to_owned(),
            held: vec![(has, "has it".to_owned()), (lacks, "lacks it".to_owned())],
        }));
    }

    /// Takes a batch that all copies have in front; true if there was one.
    fn skip_same(&mut self, reads: &mut [Read], found: &mut Vec<Finding>) -> bool {
        let mut fronts = reads.iter().filter(|read| !read.is_lost).map(|read| read.batches.front());
        let Some(Some(first)) = fronts.clone().next() else { return false };
        if !fronts.all(|front| front.is_some_and(|front| front.is_same(first))) {
            return false;
        }
        let mut taken = None;
        for read in reads.iter_mut().filter(|read| !read.is_lost) {
            taken = read.batches.pop_front().map(|checked| (read.broker, checked));
        }
        if let Some((broker, checked)) = taken {
            self.same.0 += 1;
            self.same.1 += checked.batch.bytes.len() as u64;
            if self.has_pending() {
                for entry in entries(&checked).unwrap_or_else(|why| {
                    found.push(broken(&checked, broker, why));
                    VecDeque::new()
                }) {
                    self.note(&entry);
                }
            }
        }
        true
    }

    fn decode(&mut self, place: usize, broker: i32, checked: &Checked, found: &mut Vec<Finding>) {
        if place == 0 {
            self.same.0 += 1;
            self.same.1 += checked.batch.bytes.len() as u64;
        }
        match entries(checked) {
            Ok(entries) => self.decoded[place].extend(entries),
            Err(why) => {
                self.blind[place] = (checked.base(), checked.next());
                found.push(broken(checked, broker, why));
            }
        }
    }

    /// Compares the records at the lowest offset; false if there is none.
    fn take_one(&mut self, reads: &[Read], found: &mut Vec<Finding>) -> bool {
        let live = |place: &usize| !reads[*place].is_lost;
        let places: Vec<usize> = (0..reads.len()).filter(live).collect();
        let front = |place: usize| self.decoded[place].front().map(|entry| entry.record.offset.0);
        let Some(offset) = places.iter().filter_map(|&place| front(place)).min() else { return false };
        let (has, lacks): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|&place| front(place) == Some(offset));
        let taken: Vec<(i32, Entry)> = has
            .iter()
            .filter_map(|&place| Some((reads[place].broker, self.decoded[place].pop_front()?)))
            .collect();
        let Some((_, first)) = taken.first() else { return false };
        if taken.iter().any(|(_, entry)| !is_same(&entry.record, &first.record)) {
            found.push(Finding {
                kind: Kind::Difference,
                offset,
                last_offset: offset,
                what: "records differ".to_owned(),
                held: Finding::group(taken.iter().map(|(broker, entry)| (*broker, describe(&entry.record)))),
            });
        }
        self.note(first);
        let is_blind = |place: usize| (self.blind[place].0..self.blind[place].1).contains(&offset);
        let lacks: Vec<i32> =
            lacks.into_iter().filter(|&place| !is_blind(place)).map(|place| reads[place].broker).collect();
        if !lacks.is_empty() {
            self.keep_in_mind(first, taken.iter().map(|(broker, _)| *broker).collect(), lacks);
        }
        true
    }

    /// What a record says about those that came before it.
    fn note(&mut self, entry: &Entry) {
        if !entry.is_control {
            if let Some(key) = &entry.record.key {
                self.pending.remove(&hash(key));
            }
            return;
        }
        let kind = entry.record.key.as_deref().and_then(ControlKey::parse).map(|key| key.kind);
        let Some(keys) = entry.producer.and_then(|producer| self.undecided.remove(&producer)) else { return };
        for key in keys {
            match (kind, self.pending.get_mut(&key)) {
                (Some(ControlType::Abort), Some(pending)) if pending.producer == entry.producer => {
                    self.pending.remove(&key);
                }
                (_, Some(pending)) if pending.producer == entry.producer => pending.producer = None,
                _ => {}
            }
        }
    }

    fn keep_in_mind(&mut self, entry: &Entry, has: Vec<i32>, lacks: Vec<i32>) {
        let (Some(key), Some(_)) = (&entry.record.key, &entry.record.value) else { return };
        if entry.is_control {
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            self.untracked += 1;
            return;
        }
        let key = hash(key);
        if let Some(producer) = entry.producer {
            self.undecided.entry(producer).or_default().push(key);
        }
        let pending = Pending { offset: entry.record.offset.0, has, lacks, producer: entry.producer };
        self.pending.insert(key, pending);
    }
}

fn broken(checked: &Checked, broker: i32, why: String) -> Finding {
    Finding {
        kind: Kind::Damage,
        offset: checked.base(),
        last_offset: (checked.next() - 1).max(checked.base()),
        what: "a batch is broken".to_owned(),
        held: vec![(vec![broker], why)],
    }
}

fn entries(checked: &Checked) -> Result<VecDeque<Entry>, String> {
    if let Some(fault) = &checked.fault {
        return Err(fault.clone());
    }
    let header = &checked.batch.header;
    let producer = (header.is_transactional()).then_some(header.producer_id.0);
    let records = checked.batch.records(&InflateLimits::default()).map_err(|error| error.to_string())?;
    let entry = |record| Entry { record, producer, is_control: header.is_control() };
    records.map(|record| record.map(entry).map_err(|error| error.to_string())).collect()
}

/// Sequences are those of batches, which compaction makes anew.
fn is_same(one: &Record, other: &Record) -> bool {
    one.timestamp_ms == other.timestamp_ms
        && one.key == other.key
        && one.value == other.value
        && one.headers == other.headers
}

fn describe(record: &Record) -> String {
    let part = |part: &Option<bytes::Bytes>| match part {
        Some(bytes) => format!("{} bytes ({:08x})", bytes.len(), crc32c::crc32c(bytes)),
        None => "null".to_owned(),
    };
    let (key, value) = (part(&record.key), part(&record.value));
    format!("key {key}, value {value}, {} headers, timestamp {}", record.headers.len(), record.timestamp_ms)
}

fn hash(key: &[u8]) -> u128 {
    SipHasher13::new().hash(key).as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, BatchBuilder, Compression, ProducerState};
    use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    type Pair<'a> = (i64, &'a str, Option<&'a str>);

    /// A batch for each record, as a cleaner may leave them; a producer's are transactional.
    fn copy(producer: Option<i64>, records: &[Pair<'_>]) -> Vec<Batch> {
        let batch = |&(offset, key, value): &Pair<'_>| {
            let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(0));
            if let Some(id) = producer {
                let (id, epoch) = (ProducerId(id), ProducerEpoch(0));
                builder = builder.by(ProducerState { id, epoch, base_sequence: 0, is_transactional: true });
            }
            builder.append(offset, Some(key.as_bytes()), value.map(str::as_bytes), []);
            Batch::first(&builder.build().unwrap()).unwrap()
        };
        records.iter().map(batch).collect()
    }

    fn marker(offset: i64, producer: i64, commits: bool) -> Batch {
        let marker = BatchBuilder::end_marker(ProducerId(producer), ProducerEpoch(0), 1, commits, 0).unwrap();
        let mut marker = marker.to_vec();
        crate::record::assign_offsets(&mut marker, Offset(offset), LeaderEpoch(0));
        Batch::first(&marker.into()).unwrap()
    }

    fn findings(copies: &[Vec<Batch>]) -> Vec<(i64, String)> {
        let read = |(place, batches): (usize, &Vec<Batch>)| {
            let mut read = Read::new(i32::try_from(place).unwrap() + 1);
            read.batches.extend(batches.iter().cloned().map(Checked::new));
            read.is_at_end = true;
            read
        };
        let mut reads: Vec<Read> = copies.iter().enumerate().map(read).collect();
        let (mut found, mut records) = (Vec::new(), Records::default());
        records.compare(&mut reads, &mut found);
        records.finish(&mut found);
        found.into_iter().map(|finding| (finding.offset, finding.what)).collect()
    }

    #[test]
    fn copies_that_were_cleaned_to_different_points_are_the_same() {
        let whole =
            copy(None, &[(0, "a", Some("1")), (1, "b", Some("1")), (2, "a", Some("2")), (3, "c", None)]);
        let cleaned = copy(None, &[(1, "b", Some("1")), (2, "a", Some("2"))]);
        assert_eq!(findings(&[whole.clone(), cleaned.clone()]), []);
        assert_eq!(findings(&[cleaned, whole.clone(), whole]), []);
    }

    #[test]
    fn a_last_record_that_is_missing_and_one_that_differs_are_found() {
        let whole = copy(None, &[(0, "a", Some("1")), (1, "b", Some("1")), (2, "a", Some("2"))]);
        let without = copy(None, &[(0, "a", Some("1")), (2, "a", Some("2"))]);
        let missing = "the last record of its key is not in every copy".to_owned();
        assert_eq!(findings(&[whole.clone(), without]), [(1, missing)]);
        let other = copy(None, &[(1, "b", Some("x")), (2, "a", Some("2"))]);
        assert_eq!(findings(&[whole, other]), [(1, "records differ".to_owned())]);
    }

    #[test]
    fn records_of_a_transaction_that_was_taken_back_may_be_missing_and_committed_ones_may_not() {
        for (commits, wrong) in [(true, 1), (false, 0)] {
            let mut whole = copy(Some(7), &[(0, "a", Some("1"))]);
            whole.push(marker(1, 7, commits));
            let mut cleaned = vec![marker(1, 7, commits)];
            let rest = copy(None, &[(2, "b", Some("1"))]);
            whole.extend(rest.clone());
            cleaned.extend(rest);
            assert_eq!(findings(&[whole, cleaned]).len(), wrong, "commits: {commits}");
        }
    }

    #[test]
    fn a_broken_batch_is_damage_and_its_records_are_not_missing_too() {
        let whole = copy(None, &[(0, "a", Some("1")), (1, "b", Some("1"))]);
        let mut bytes = whole[0].bytes.to_vec();
        let last = bytes.len() - 1;
        bytes[last - 1] ^= 1;
        let bad = vec![Batch::first(&bytes.into()).unwrap(), whole[1].clone()];
        assert_eq!(findings(&[whole, bad]), [(0, "a batch is broken".to_owned())]);
    }
}
