//! What is left of one batch: which of its records stay, and what the batch looks like without the others.
//!
//! Offsets never change. A batch keeps its base offset, last offset delta, sequence, epoch and codec whatever goes;
//! one without records stays as a bare header where it holds what its producer wrote last, or where the round
//! ends. A tombstone or an idle marker is first given its delete horizon (KIP-534), in the place of the batch's
//! base timestamp, and goes in a round after that has passed.

use std::collections::BTreeMap;

use super::offset_map::OffsetMap;
use super::transactions::{MarkerKind, TransactionTrack};
use crate::record::{
    BatchBuilder, BatchError, BatchHeader, BatchRef, Codec, Compression, ControlKey, ControlType,
    InflateLimits, RecordRef, Scratch, empty_batch,
};
use crate::storage::transaction_index::AbortedTransaction;
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// What an active producer wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct LastRecord {
    /// `None` where only a marker is known.
    pub(in crate::storage) data_offset: Option<Offset>,
    pub(in crate::storage) epoch: ProducerEpoch,
}

/// What one round of cleaning decides by.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// The end of the round: the batch in front of it stays, so that nobody wonders where the offsets went.
    pub(super) upper: Offset,
    pub(super) last_records: BTreeMap<ProducerId, LastRecord>,
    scratch: Scratch,
    builders: [Option<BatchBuilder>; Codec::ALL.len()],
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Filtered {
    pub(super) records_read: u64,
    pub(super) records_kept: u64,
    /// Records without a key, from before the topic was compacted; they are dropped.
    pub(super) records_keyless: u64,
    /// Stays in the index of aborted transactions.
    pub(super) aborted: Option<AbortedTransaction>,
}

/// What a look through a batch's records finds.
#[derive(Default)]
struct Counts {
    read: u64,
    kept: u64,
    keyless: u64,
    has_tombstone: bool,
}

impl Filter {
    pub(super) fn new(
        now_ms: i64,
        delete_retention_ms: i64,
        upper: Offset,
        last_records: BTreeMap<ProducerId, LastRecord>,
    ) -> Self {
        let (scratch, builders) = (Scratch::new(), std::array::from_fn(|_| None));
        Self { now_ms, delete_retention_ms, upper, last_records, scratch, builders }
    }

    /// Notes the keys of a batch of the dirty part. `false` where the map was full before the last of them.
    pub(super) fn index(
        &mut self,
        batch: &BatchRef<'_>,
        from: Offset,
        track: &mut TransactionTrack,
        map: &mut OffsetMap,
    ) -> Result<bool, BatchError> {
        batch.check_crc()?;
        if batch.header.is_control() {
            let kind = self.marker_kind(batch)?;
            track.note_marker(&batch.header, kind);
        } else if !track.note_data(&batch.header) {
            let mut records = batch.records(&InflateLimits::default(), &mut self.scratch)?;
            while let Some(record) = records.next() {
                let record = record?;
                if let Some(key) = record.key.filter(|_| record.offset >= from)
                    && !map.put(key, record.offset)
                {
                    return Ok(false);
                }
            }
        }
        map.advance(batch.header.last_offset());
        Ok(true)
    }

    /// Appends what stays of a batch to `out`.
    pub(super) fn filter(
        &mut self,
        batch: &BatchRef<'_>,
        track: &mut TransactionTrack,
        map: &OffsetMap,
        out: &mut Vec<u8>,
    ) -> Result<Filtered, BatchError> {
        batch.check_crc()?;
        let header = &batch.header;
        let horizon_ms = header.delete_horizon_ms();
        let mut filtered = Filtered::default();
        let (drops_records, is_idle_marker) = if header.is_control() {
            let kind = self.marker_kind(batch)?;
            let fate = track.note_marker(header, kind);
            filtered.aborted = fate.aborted;
            (fate.may_go && horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms), fate.may_go)
        } else {
            (track.note_data(header), false)
        };
        let stays = self.is_last_of_producer(header) || header.next_offset() == self.upper;
        let mut counts = Counts { read: header.record_count.max(0) as u64, ..Counts::default() };
        if !drops_records {
            counts = self.count(batch, map)?;
        }
        filtered.records_read = counts.read;
        filtered.records_kept = counts.kept;
        filtered.records_keyless = counts.keyless;
        if counts.kept == 0 {
            if stays {
                out.extend_from_slice(&empty_batch(header));
            }
            return Ok(filtered);
        }
        let needs_horizon = horizon_ms.is_none() && (counts.has_tombstone || is_idle_marker);
        if counts.kept == counts.read && !needs_horizon {
            out.extend_from_slice(batch.bytes);
        } else {
            let fresh_ms = self.now_ms.saturating_add(self.delete_retention_ms);
            let horizon_ms = if needs_horizon { Some(fresh_ms) } else { horizon_ms };
            self.rebuild(batch, map, horizon_ms, out)?;
        }
        Ok(filtered)
    }

    fn count(&mut self, batch: &BatchRef<'_>, map: &OffsetMap) -> Result<Counts, BatchError> {
        let mut counts = Counts::default();
        let mut records = batch.records(&InflateLimits::default(), &mut self.scratch)?;
        while let Some(record) = records.next() {
            let record = record?;
            counts.read += 1;
            counts.keyless += u64::from(record.key.is_none() && record.offset <= map.latest());
            if keeps(&batch.header, &record, map, self.now_ms) {
                counts.kept += 1;
                counts.has_tombstone |= record.value.is_none();
            }
        }
        Ok(counts)
    }

    fn rebuild(
        &mut self,
        batch: &BatchRef<'_>,
        map: &OffsetMap,
        horizon_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let codec = batch.header.codec()?;
        let fresh = || BatchBuilder::new(Compression::new(codec));
        let builder = self.builders[usize::from(codec.id())].get_or_insert_with(fresh);
        builder.replace(&batch.header, horizon_ms);
        let mut records = batch.records(&InflateLimits::default(), &mut self.scratch)?;
        while let Some(record) = records.next() {
            let record = record?;
            if keeps(&batch.header, &record, map, self.now_ms) {
                let offset_delta = (record.offset - batch.header.base_offset) as i32;
                builder.append_at(
                    offset_delta,
                    record.timestamp_ms,
                    record.key,
                    record.value,
                    record.headers.iter(),
                );
            }
        }
        builder.build_into(out)
    }

    /// Whether this batch is what an active producer would be recognised by after a recovery: its last sequence,
    /// or where no data is known of it, the marker with its epoch.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer() {
            return false;
        }
        self.last_records.get(&header.producer_id).is_some_and(|last| match last.data_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        })
    }

    fn marker_kind(&mut self, batch: &BatchRef<'_>) -> Result<MarkerKind, BatchError> {
        let mut records = batch.records(&InflateLimits::default(), &mut self.scratch)?;
        let Some(record) = records.next() else { return Ok(MarkerKind::Gone) };
        Ok(match record?.key.and_then(ControlKey::parse).map(|key| key.kind) {
            Some(ControlType::Abort) => MarkerKind::Abort,
            Some(ControlType::Commit) => MarkerKind::Commit,
            _ => MarkerKind::Other,
        })
    }
}

/// Whether a record stays: what this round has not seen yet does, and the last one of each key, but for a
/// tombstone whose time is over. Control records are not in the map and never compared with it (KAFKA-14055).
fn keeps(header: &BatchHeader, record: &RecordRef<'_>, map: &OffsetMap, now_ms: i64) -> bool {
    if header.is_control() || record.offset > map.latest() {
        return true;
    }
    let Some(key) = record.key else { return false };
    let is_newest = map.get(key).is_none_or(|newest| record.offset >= newest);
    is_newest && (record.value.is_some() || header.delete_horizon_ms().is_none_or(|ms| now_ms < ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EndMarker, ProducerState, TimestampType};
    use crate::types::LeaderEpoch;

    const RETENTION_MS: i64 = 100;

    fn producer(id: i64, base_sequence: i32, is_transactional: bool) -> ProducerState {
        ProducerState { id: ProducerId(id), epoch: ProducerEpoch(2), base_sequence, is_transactional }
    }

    fn batch(codec: Codec, base: i64, by: ProducerState, records: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::new(codec)).by(by).at(Offset(base), LeaderEpoch(5));
        for (index, (key, value)) in records.iter().enumerate() {
            let headers = [crate::record::HeaderRef { key: b"h", value: Some(b"x") }];
            let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
            builder.append(1_000 + index as i64, key, value.map(str::as_bytes), headers);
        }
        builder.build().unwrap().to_vec()
    }

    fn marker(base: i64, id: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::NONE)
            .by(producer(id, -1, true))
            .at(Offset(base), LeaderEpoch(5))
            .control();
        let value = EndMarker { coordinator_epoch: 3 }.to_bytes();
        builder.append_control(2_000, ControlType::Commit, &value);
        builder.build().unwrap().to_vec()
    }

    struct Bench {
        filter: Filter,
        track: TransactionTrack,
        map: OffsetMap,
    }

    impl Bench {
        fn new(now_ms: i64, newest: &[(&str, i64)]) -> Self {
            let mut map = OffsetMap::new(1 << 16, 0.9, 1_000, [3; 16]);
            for (key, offset) in newest {
                assert!(map.put(key.as_bytes(), Offset(*offset)));
            }
            map.advance(Offset(999));
            let filter = Filter::new(now_ms, RETENTION_MS, Offset(1_000), BTreeMap::new());
            Self { filter, track: TransactionTrack::default(), map }
        }

        fn run(&mut self, batch: &[u8]) -> Vec<u8> {
            let mut out = Vec::new();
            let batch = BatchRef::first(batch).unwrap();
            self.filter.filter(&batch, &mut self.track, &self.map, &mut out).unwrap();
            if !out.is_empty() {
                BatchRef::first(&out).unwrap().check_crc().unwrap();
            }
            out
        }
    }

    fn records(batch: &[u8]) -> Vec<(i64, i64, Option<Vec<u8>>)> {
        let batch = BatchRef::first(batch).unwrap();
        let mut scratch = Scratch::new();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
        let mut found = Vec::new();
        while let Some(record) = records.next() {
            let record = record.unwrap();
            assert_eq!(record.headers.len(), usize::from(!batch.header.is_control()));
            found.push((record.offset.0, record.timestamp_ms, record.value.map(<[u8]>::to_vec)));
        }
        found
    }

    #[test]
    fn the_last_of_each_key_stays_where_it_was() {
        for codec in Codec::ALL {
            let source = batch(
                codec,
                10,
                producer(7, 40, false),
                &[("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("d", Some("4"))],
            );
            let mut bench = Bench::new(0, &[("a", 10), ("b", 500), ("c", 12), ("d", 900)]);
            let out = bench.run(&source);
            let (before, after) =
                (BatchRef::first(&source).unwrap().header, BatchRef::first(&out).unwrap().header);
            assert_eq!(
                records(&out),
                [(10, 1_000, Some(b"1".to_vec())), (12, 1_002, Some(b"3".to_vec()))],
                "{codec}"
            );
            assert_eq!(
                (after.base_offset, after.last_offset(), after.base_sequence, after.producer_epoch),
                (before.base_offset, before.last_offset(), before.base_sequence, before.producer_epoch)
            );
            assert_eq!((after.codec(), after.max_timestamp_ms, after.record_count), (Ok(codec), 1_002, 2));
            assert_eq!(after.leader_epoch, before.leader_epoch);
            let mut bench = Bench::new(0, &[("a", 10)]);
            assert_eq!(bench.run(&source), source, "untouched where all stays");
        }
    }

    #[test]
    fn tombstones_get_a_horizon_and_go_after_it() {
        let source = batch(Codec::None, 10, ProducerState::NONE, &[("a", None), ("b", Some("2"))]);
        let marked = Bench::new(5_000, &[]).run(&source);
        let header = BatchRef::first(&marked).unwrap().header;
        assert_eq!(header.delete_horizon_ms(), Some(5_100));
        assert_eq!(records(&marked), [(10, 1_000, None), (11, 1_001, Some(b"2".to_vec()))]);
        assert_eq!(Bench::new(5_099, &[]).run(&marked), marked, "the horizon is set once");
        let after = Bench::new(5_100, &[]).run(&marked);
        assert_eq!(records(&after), [(11, 1_001, Some(b"2".to_vec()))]);
        assert_eq!(BatchRef::first(&after).unwrap().header.delete_horizon_ms(), Some(5_100));
        let newer = Bench::new(5_000, &[("a", 700)]).run(&source);
        assert_eq!(BatchRef::first(&newer).unwrap().header.delete_horizon_ms(), None);
    }

    #[test]
    fn what_a_producer_wrote_last_stays_as_an_empty_batch() {
        let source = batch(Codec::Gzip, 10, producer(7, 40, false), &[("a", Some("1")), ("a", Some("2"))]);
        let newest = [("a", 500)];
        assert_eq!(Bench::new(0, &newest).run(&source), b"");
        let mut bench = Bench::new(0, &newest);
        let last = LastRecord { data_offset: Some(Offset(11)), epoch: ProducerEpoch(2) };
        bench.filter.last_records.insert(ProducerId(7), last);
        let out = bench.run(&source);
        let header = BatchRef::first(&out).unwrap().header;
        assert_eq!((out.len(), header.record_count, header.last_sequence()), (61, 0, 41));
        assert_eq!((header.last_offset(), header.max_timestamp_ms), (Offset(11), 1_001));
        assert_eq!((header.base_timestamp_ms, header.timestamp_type()), (-1, TimestampType::CreateTime));
        assert_eq!(bench.run(&out), out, "and again");
        let mut at_the_end = Bench::new(0, &newest);
        at_the_end.filter.upper = Offset(12);
        assert_eq!(at_the_end.run(&source), out);
    }

    #[test]
    fn kafka_8335_coordinator_batches_are_not_pinned_by_their_missing_sequence() {
        let mut bench = Bench::new(0, &[("a", 500)]);
        let last = LastRecord { data_offset: Some(Offset(300)), epoch: ProducerEpoch(2) };
        bench.filter.last_records.insert(ProducerId(7), last);
        let source = batch(Codec::None, 10, producer(7, -1, true), &[("a", Some("1"))]);
        assert_eq!(bench.run(&source), b"");
    }

    #[test]
    fn kafka_14055_markers_are_not_compared_with_keys_and_go_after_their_horizon() {
        let marker_key = "\0\0\0\u{1}";
        let newest = [(marker_key, 900)];
        let data = batch(Codec::None, 10, producer(7, 0, true), &[("a", Some("1"))]);
        let mut bench = Bench::new(5_000, &newest);
        bench.run(&data);
        assert_eq!(bench.run(&marker(11, 7)), marker(11, 7), "its data was there");
        let idle = Bench::new(5_000, &newest).run(&marker(11, 7));
        assert_eq!(BatchRef::first(&idle).unwrap().header.delete_horizon_ms(), Some(5_100));
        assert_eq!(records(&idle).len(), 1);
        assert_eq!(Bench::new(5_099, &newest).run(&idle), idle);
        assert_eq!(Bench::new(5_100, &newest).run(&idle), b"");
        let mut fencing = Bench::new(5_100, &newest);
        let last = LastRecord { data_offset: None, epoch: ProducerEpoch(2) };
        fencing.filter.last_records.insert(ProducerId(7), last);
        let bare = fencing.run(&idle);
        assert_eq!(bare.len(), 61);
        assert!(BatchRef::first(&bare).unwrap().header.is_control());
        assert_eq!(Bench::new(5_100, &newest).run(&bare), b"");
    }

    #[test]
    fn records_without_a_key_and_damage_are_noticed() {
        let source = batch(Codec::None, 10, ProducerState::NONE, &[("", Some("1")), ("b", Some("2"))]);
        let mut bench = Bench::new(0, &[]);
        assert_eq!(records(&bench.run(&source)).len(), 1);
        let mut broken = source;
        broken[70] ^= 1;
        let batch = BatchRef::first(&broken).unwrap();
        assert!(bench.filter.filter(&batch, &mut bench.track, &bench.map, &mut Vec::new()).is_err());
    }
}
