//! `--tail N`: the last N records over all partitions, by timestamp.
//!
//! Each partition gives its own last N at most; of all these the newest N are kept. How far back a partition's
//! last N records begin is found by stepping back further and further: offsets may be markers or holes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::client::{Assignment, Fetched, Reading};
use crate::record::{BatchBuilder, BatchError, BatchHeader, Compression, ProducerState, RecordRef};
use crate::types::TopicPartition;

/// What a record is ordered by: time, then place.
type Order = (i64, Arc<str>, i32, i64);

/// The newest records seen so far.
pub(super) struct Tail {
    count: usize,
    newest: BinaryHeap<Reverse<(Order, Kept)>>,
    /// How many records each partition has given in this round.
    found: BTreeMap<(Arc<str>, i32), u64>,
}

/// A record as a batch of its own.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    bytes: Bytes,
    log_start: i64,
    last_stable: i64,
    high_watermark: i64,
}

impl Tail {
    pub(super) fn new(count: usize) -> Self {
        Self { count, newest: BinaryHeap::new(), found: BTreeMap::new() }
    }

    /// Forgets what a partition gave: it is read again, from further back.
    pub(super) fn begin(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for partition in partitions {
            self.newest.retain(|Reverse(((_, topic, number, _), _))| {
                **topic != *partition.topic.as_str() || *number != partition.partition
            });
            self.found.insert((partition.topic.as_str().into(), partition.partition), 0);
        }
    }

    /// Takes in what was fetched, as far as `wanted` says.
    pub(super) fn take(
        &mut self,
        fetched: &Fetched,
        reading: &mut Reading,
        wanted: impl Fn(&RecordRef<'_>) -> bool,
    ) -> Result<(), (i64, BatchError)> {
        let read = fetched.read(reading, |batch, record| {
            if wanted(record) {
                self.keep(fetched, batch, record)?;
                *self.found.entry((Arc::clone(&fetched.topic), fetched.partition)).or_default() += 1;
            }
            Ok::<_, (i64, BatchError)>(ControlFlow::Continue(()))
        });
        read.map(|_| ())
    }

    /// Whether a partition that was read from `start` on must be read from further back: it gave too few.
    pub(super) fn further_back(&self, assignment: &Assignment, earliest: i64, latest: i64) -> Option<i64> {
        let partition = &assignment.partition;
        let name = (partition.topic.as_str().into(), partition.partition);
        let found = self.found.get(&name).copied().unwrap_or(0);
        if assignment.start <= earliest || found >= self.count as u64 {
            return None;
        }
        let span = (latest - assignment.start).max(1);
        Some(latest.saturating_sub(span.saturating_mul(4)).max(earliest))
    }

    /// The newest, oldest first.
    pub(super) fn into_fetched(self) -> impl Iterator<Item = Fetched> {
        let sorted = self.newest.into_sorted_vec();
        sorted.into_iter().rev().map(|Reverse(((_, topic, partition, offset), kept))| Fetched {
            topic,
            partition,
            from: offset,
            end: i64::MAX,
            batches: kept.bytes,
            log_start: kept.log_start,
            last_stable: kept.last_stable,
            high_watermark: kept.high_watermark,
            aborted: Vec::new(),
        })
    }

    fn keep(
        &mut self,
        fetched: &Fetched,
        batch: &BatchHeader,
        record: &RecordRef<'_>,
    ) -> Result<(), (i64, BatchError)> {
        let order = (record.timestamp_ms, Arc::clone(&fetched.topic), fetched.partition, record.offset.0);
        let is_newer = self.newest.peek().is_none_or(|Reverse((oldest, _))| order > *oldest);
        if self.newest.len() >= self.count && !is_newer {
            return Ok(());
        }
        let producer = ProducerState {
            id: batch.producer_id,
            epoch: batch.producer_epoch,
            base_sequence: record.sequence,
            is_transactional: false,
        };
        let mut alone =
            BatchBuilder::new(Compression::NONE).at(record.offset, batch.leader_epoch).by(producer);
        alone.append(record.timestamp_ms, record.key, record.value, record.headers);
        let kept = Kept {
            bytes: alone.build().map_err(|error| (record.offset.0, error))?,
            log_start: fetched.log_start,
            last_stable: fetched.last_stable,
            high_watermark: fetched.high_watermark,
        };
        self.newest.push(Reverse((order, kept)));
        if self.newest.len() > self.count {
            self.newest.pop();
        }
        Ok(())
    }
}
