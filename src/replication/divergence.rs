//! Where a follower's log leaves its leader's, and how far back it has to go (KIP-101, KIP-279, KIP-595).
//!
//! A follower says with each fetch which epoch its last record is of. A leader that knows an earlier end of that
//! epoch answers with the largest epoch at or below it and that epoch's end, and no records; the follower cuts its
//! log back to where both may agree, and asks again. It ends, for each round leaves an epoch behind. Nothing is cut
//! on the word of a high watermark.

use crate::storage::EpochEnd;
use crate::types::{LeaderEpoch, Offset};

/// What a leader finds when it looks for the fetch offset of another log in its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The other log, up to where it asks, is the beginning of ours.
    Prefix,
    /// It went another way: this is the largest epoch of ours at or below its last, and where that ended.
    Diverged(EpochEnd),
    /// It cannot be said: the offset or the epoch lies outside of what is known.
    OutOfRange,
}

/// Compares a log that ends at `fetch_offset` with a record of `last_fetched_epoch` with ours, which knows that epoch
/// to end at `known`.
#[must_use]
pub fn relation(
    (fetch_offset, last_fetched_epoch): (Offset, LeaderEpoch),
    known: EpochEnd,
    log_start_offset: Offset,
) -> Relation {
    if known == EpochEnd::UNKNOWN || fetch_offset < log_start_offset {
        return Relation::OutOfRange;
    }
    if known.epoch < last_fetched_epoch || known.end_offset < fetch_offset {
        return Relation::Diverged(known);
    }
    Relation::Prefix
}

/// Where a follower cuts its log that a leader said to diverge at `leaders`, when its own log ends the same epoch at
/// `own` and itself at `log_end_offset`.
#[must_use]
pub fn truncation_point(leaders: EpochEnd, own: EpochEnd, log_end_offset: Offset) -> Offset {
    let point = if own == EpochEnd::UNKNOWN {
        leaders.end_offset
    } else if own.epoch != leaders.epoch {
        // Ours has nothing of that epoch: what is behind the one before it is not the leader's.
        own.end_offset
    } else {
        own.end_offset.min(leaders.end_offset)
    };
    point.min(log_end_offset)
}

/// What a follower does whose leader knows no such offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Cuts off what is behind the leader's end, and goes on there.
    TruncateTo(Offset),
    /// Has nothing that the leader still has: begins anew at its start.
    StartAt(Offset),
    /// Goes on where it is.
    GoOn,
}

/// Decides it from where the leader's log starts and ends (KAFKA-2143: a replica that is ahead keeps what the leader
/// has, too).
#[must_use]
pub fn resume(leader_start: Offset, leader_end: Offset, log_end_offset: Offset) -> Resume {
    if leader_end < log_end_offset {
        Resume::TruncateTo(leader_end)
    } else if leader_start > log_end_offset {
        Resume::StartAt(leader_start)
    } else {
        Resume::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(epoch: i32, end_offset: i64) -> EpochEnd {
        EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(end_offset) }
    }

    #[test]
    fn a_log_is_a_prefix_while_its_last_epoch_reaches_as_far_as_ours() {
        let asks = |offset, epoch| (Offset(offset), LeaderEpoch(epoch));
        assert_eq!(relation(asks(7, 3), end(3, 9), Offset(0)), Relation::Prefix);
        assert_eq!(relation(asks(9, 3), end(3, 9), Offset(0)), Relation::Prefix);
        assert_eq!(relation(asks(10, 3), end(3, 9), Offset(0)), Relation::Diverged(end(3, 9)));
        assert_eq!(relation(asks(7, 4), end(3, 9), Offset(0)), Relation::Diverged(end(3, 9)));
        assert_eq!(relation(asks(7, 3), EpochEnd::UNKNOWN, Offset(0)), Relation::OutOfRange);
        assert_eq!(relation(asks(7, 3), end(3, 9), Offset(8)), Relation::OutOfRange);
    }

    #[test]
    fn kip_279_a_follower_goes_back_one_epoch_a_round() {
        // The same epoch: the shorter of the two.
        assert_eq!(truncation_point(end(3, 9), end(3, 12), Offset(12)), Offset(9));
        assert_eq!(truncation_point(end(3, 12), end(3, 9), Offset(20)), Offset(9));
        // Ours has no epoch 3: everything behind the end of its 2 goes, and 2 is asked for next.
        assert_eq!(truncation_point(end(3, 12), end(2, 7), Offset(20)), Offset(7));
        assert_eq!(truncation_point(end(3, 12), EpochEnd::UNKNOWN, Offset(8)), Offset(8));
    }

    #[test]
    fn kafka_2143_a_replica_ahead_of_its_leader_is_cut_at_the_leaders_end_not_to_nothing() {
        assert_eq!(resume(Offset(0), Offset(90), Offset(100)), Resume::TruncateTo(Offset(90)));
        assert_eq!(resume(Offset(50), Offset(90), Offset(40)), Resume::StartAt(Offset(50)));
        assert_eq!(resume(Offset(50), Offset(90), Offset(50)), Resume::GoOn);
    }
}
