//! What one answer brought of one partition, and the records in it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::{
    BatchError, BatchHeader, BatchRef, ControlKey, ControlType, InflateLimits, RecordRef, Scratch, batches,
};

/// Whole batches of one partition, their CRC checked.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Records before this offset were read before.
    pub from: i64,
    /// Records from this offset on were not asked for.
    pub end: i64,
    /// The batches, one behind the other.
    pub batches: Bytes,
    /// The log's first offset.
    pub log_start: i64,
    /// Below it no transaction is open.
    pub last_stable: i64,
    /// Below it everything is replicated.
    pub high_watermark: i64,
    /// Transactions that were taken back: producer id, first offset; in order of offsets. Empty where
    /// uncommitted records are wanted.
    pub aborted: Vec<(i64, i64)>,
}

/// What reading keeps between batches. One a thread.
#[derive(Default)]
pub struct Reading {
    scratch: Scratch,
    /// Whether markers are shown as well.
    pub shows_control: bool,
}

impl Fetched {
    /// Where reading goes on after all of this, and the epoch of the last batch.
    #[must_use]
    pub fn next_position(&self) -> (i64, i32) {
        let sound = batches(&self.batches).map_while(Result::ok);
        let last = sound.last().map(|batch| (batch.header.next_offset().0, batch.header.leader_epoch.0));
        let (next, epoch) = last.unwrap_or((self.from, -1));
        (next.clamp(self.from, self.end.max(self.from)), epoch)
    }

    /// Lends each record, in order, to `each`, which may break off.
    ///
    /// # Errors
    /// What `each` fails with, or the batch that cannot be read, with the offset it begins at.
    pub fn read<E, F>(&self, reading: &mut Reading, mut each: F) -> Result<ControlFlow<()>, E>
    where
        E: From<(i64, BatchError)>,
        F: FnMut(&BatchHeader, &RecordRef<'_>) -> Result<ControlFlow<()>, E>,
    {
        let mut taken_back = BTreeSet::new();
        let mut aborted = self.aborted.iter().peekable();
        let limits = InflateLimits::default();
        let mut at = self.from;
        for batch in batches(&self.batches) {
            let batch = batch.map_err(|error| (at, error))?;
            at = batch.header.base_offset.0;
            let last = batch.header.last_offset().0;
            while let Some((producer, _)) = aborted.next_if(|(_, first)| *first <= last) {
                taken_back.insert(*producer);
            }
            let producer = batch.header.producer_id.0;
            if batch.header.is_control() {
                if is_abort(&batch, &mut reading.scratch) {
                    taken_back.remove(&producer);
                }
                if !reading.shows_control {
                    continue;
                }
            } else if batch.header.is_transactional() && taken_back.contains(&producer) {
                continue;
            }
            let mut records = batch.records(&limits, &mut reading.scratch).map_err(|error| (at, error))?;
            while let Some(record) = records.next() {
                let record = record.map_err(|error| (at, error))?;
                if record.offset.0 < self.from {
                    continue;
                }
                if record.offset.0 >= self.end || each(&batch.header, &record)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Whether a control batch takes its producer's transaction back. Markers stand alone in their batch.
fn is_abort(batch: &BatchRef<'_>, scratch: &mut Scratch) -> bool {
    let Ok(mut records) = batch.records(&InflateLimits::default(), scratch) else { return false };
    match records.next() {
        Some(Ok(record)) => {
            let key = record.key.and_then(ControlKey::parse);
            key.is_some_and(|key| key.kind == ControlType::Abort)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Compression, ProducerState};
    use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    fn batch(offset: i64, producer: Option<i64>, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::NONE).at(Offset(offset), LeaderEpoch(0));
        if let Some(id) = producer {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(0));
            builder = builder.by(ProducerState { id, epoch, base_sequence: 0, is_transactional: true });
        }
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), []);
        }
        builder.build().unwrap()
    }

    fn marker(offset: i64, producer: i64, commit: bool) -> Bytes {
        let marker = BatchBuilder::end_marker(ProducerId(producer), ProducerEpoch(0), 1, commit, 0).unwrap();
        let mut marker = marker.to_vec();
        crate::record::assign_offsets(&mut marker, Offset(offset), LeaderEpoch(0));
        marker.into()
    }

    fn fetched(parts: &[Bytes], aborted: &[(i64, i64)]) -> Fetched {
        Fetched {
            topic: "t".into(),
            partition: 0,
            from: 0,
            end: i64::MAX,
            batches: parts.concat().into(),
            log_start: 0,
            last_stable: 100,
            high_watermark: 100,
            aborted: aborted.to_vec(),
        }
    }

    fn values(fetched: &Fetched) -> Vec<String> {
        let mut found = Vec::new();
        let read = fetched.read(&mut Reading::default(), |_, record| {
            found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            Ok::<_, (i64, BatchError)>(ControlFlow::Continue(()))
        });
        let _ = read.unwrap();
        found
    }

    #[test]
    fn g1a_what_a_transaction_took_back_is_not_read() {
        let parts = [
            batch(0, Some(1), &["a", "b"]),
            batch(2, Some(2), &["c"]),
            batch(3, None, &["d"]),
            marker(4, 1, false),
            batch(5, Some(1), &["e"]),
            marker(6, 1, true),
            marker(7, 2, true),
        ];
        assert_eq!(values(&fetched(&parts, &[(1, 0)])), ["c", "d", "e"]);
        assert_eq!(values(&fetched(&parts, &[])), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn only_the_offsets_that_were_asked_for_are_read() {
        let parts = [batch(10, None, &["a", "b", "c"]), batch(13, None, &["d", "e"])];
        let mut some = fetched(&parts, &[]);
        (some.from, some.end) = (11, 14);
        assert_eq!(values(&some), ["b", "c", "d"]);
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_named_by_its_offset() {
        let mut bytes = batch(10, None, &["a", "b"]).to_vec();
        let length = bytes.len();
        bytes[length - 3] = 0x7e;
        let read = fetched(&[bytes.into()], &[])
            .read(&mut Reading::default(), |_, _| Ok::<_, (i64, BatchError)>(ControlFlow::Continue(())));
        assert_eq!(read.unwrap_err().0, 10);
    }
}
