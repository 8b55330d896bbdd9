//! Which batches belong to aborted transactions, and which markers are still needed: what the cleaner learns as
//! it goes through a log from its start.
//!
//! A marker may go only once no batch of its transaction is left in front of it, and then only after the delete
//! horizon that is set in its batch.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::BatchHeader;
use crate::storage::transaction_index::AbortedTransaction;
use crate::types::{Offset, ProducerId};

/// What a control batch says of its producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerKind {
    Abort,
    Commit,
    /// The record was removed by an earlier round.
    Gone,
    /// A control record that ends no transaction.
    Other,
}

/// What becomes of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MarkerFate {
    /// Nothing of its transaction is left.
    pub(super) may_go: bool,
    /// The transaction stays in the index of aborted ones.
    pub(super) aborted: Option<AbortedTransaction>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TransactionTrack {
    /// By first offset, the next one last.
    aborted: Vec<AbortedTransaction>,
    ongoing_aborted: BTreeMap<ProducerId, Ongoing>,
    ongoing_committed: BTreeSet<ProducerId>,
}

#[derive(Debug)]
struct Ongoing {
    transaction: AbortedTransaction,
    has_batches: bool,
}

impl TransactionTrack {
    /// A track that begins at `from`, with all the aborted transactions that may come.
    pub(super) fn new(aborted: &[AbortedTransaction], from: Offset) -> Self {
        let mut aborted: Vec<AbortedTransaction> =
            aborted.iter().filter(|transaction| transaction.last_offset >= from).copied().collect();
        aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { aborted, ..Self::default() }
    }

    /// Notes a batch of records. `true` where its transaction was aborted.
    pub(super) fn note_data(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.ongoing_aborted.get_mut(&header.producer_id) {
            Some(ongoing) if ongoing.transaction.last_offset >= header.base_offset => {
                ongoing.has_batches = true;
                true
            }
            _ => {
                self.ongoing_committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Notes a control batch.
    pub(super) fn note_marker(&mut self, header: &BatchHeader, kind: MarkerKind) -> MarkerFate {
        self.begin_up_to(header.last_offset());
        let (may_go, aborted) = match kind {
            MarkerKind::Abort => match self.ongoing_aborted.remove(&header.producer_id) {
                Some(Ongoing { transaction, has_batches: true }) => (false, Some(transaction)),
                _ => (true, None),
            },
            MarkerKind::Commit => (!self.ongoing_committed.remove(&header.producer_id), None),
            MarkerKind::Gone => (true, None),
            MarkerKind::Other => (false, None),
        };
        MarkerFate { may_go, aborted }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(next) = self.aborted.last().filter(|next| next.first_offset <= offset) {
            let is_over = |known: &Ongoing| known.transaction.last_offset < next.first_offset;
            if self.ongoing_aborted.get(&next.producer_id).is_none_or(is_over) {
                let ongoing = Ongoing { transaction: *next, has_batches: false };
                self.ongoing_aborted.insert(next.producer_id, ongoing);
            }
            self.aborted.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchRef, Compression, ProducerState};
    use crate::types::{LeaderEpoch, ProducerEpoch};

    fn batch(id: i64, base: i64, count: usize) -> BatchHeader {
        let producer = ProducerState {
            id: ProducerId(id),
            epoch: ProducerEpoch(0),
            base_sequence: 0,
            is_transactional: true,
        };
        let mut builder = BatchBuilder::new(Compression::NONE).by(producer).at(Offset(base), LeaderEpoch(0));
        for _ in 0..count {
            builder.append(0, Some(b"k"), Some(b"v"), []);
        }
        BatchRef::first(&builder.build().unwrap()).unwrap().header
    }

    fn aborted(id: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(id),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    #[test]
    fn kafka_14055_a_marker_stays_while_a_batch_of_its_transaction_is_left() {
        let mut track = TransactionTrack::new(&[aborted(7, 10, 20), aborted(7, 30, 40)], Offset(0));
        assert!(!track.note_data(&batch(7, 0, 2)), "committed before");
        assert_eq!(
            track.note_marker(&batch(7, 5, 1), MarkerKind::Commit),
            MarkerFate { may_go: false, aborted: None }
        );
        assert!(track.note_data(&batch(7, 10, 2)));
        assert!(!track.note_data(&batch(8, 12, 2)), "of another producer");
        let fate = track.note_marker(&batch(7, 20, 1), MarkerKind::Abort);
        assert_eq!(fate, MarkerFate { may_go: false, aborted: Some(aborted(7, 10, 20)) });
        let empty = track.note_marker(&batch(7, 40, 1), MarkerKind::Abort);
        assert_eq!(empty, MarkerFate { may_go: true, aborted: None });
        assert!(!track.note_data(&batch(7, 50, 1)));
        assert!(track.note_marker(&batch(9, 60, 1), MarkerKind::Commit).may_go);
        assert!(!track.note_marker(&batch(7, 61, 1), MarkerKind::Commit).may_go);
        assert!(!track.note_marker(&batch(7, 62, 1), MarkerKind::Other).may_go);
    }

    #[test]
    fn a_track_that_begins_late_forgets_what_ended_before() {
        let mut track = TransactionTrack::new(&[aborted(7, 10, 20)], Offset(25));
        assert!(!track.note_data(&batch(7, 25, 2)));
        let mut inside = TransactionTrack::new(&[aborted(7, 10, 30)], Offset(25));
        assert!(inside.note_data(&batch(7, 25, 2)));
    }
}
