//! Which leader epoch began at which offset: what decides how far a replica's log agrees with its leader's
//! (KIP-101, KIP-279). Kept in memory; `leader-epoch-checkpoint` is replaced whole, synced before it is renamed
//! (KAFKA-16541), at every change.
//!
//! Both columns grow from entry to entry.

use super::checkpoint::{LEADER_EPOCH_FILE, parse_epochs, render_epochs};
use super::disk::{read_small, replace_file};
use super::error::StorageError;
use super::place::Place;
use crate::types::{LeaderEpoch, Offset};

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

/// What the answer to OffsetForLeaderEpoch says: the largest epoch that is not younger than the one asked
/// for, and where it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// -1 where nothing is known.
    pub epoch: LeaderEpoch,
    /// The offset after the epoch's last; -1 where nothing is known.
    pub end_offset: Offset,
}

impl EpochEnd {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { epoch: LeaderEpoch::UNKNOWN, end_offset: Offset::UNKNOWN };
}

impl LeaderEpochs {
    /// Reads the checkpoint. One that is torn or unordered counts as missing, with `false`: its entries stand
    /// in the batches too, and recovery finds them there.
    pub(super) fn load(place: &Place) -> Result<(Self, bool), StorageError> {
        let path = place.named(LEADER_EPOCH_FILE);
        let bytes = read_small(&*place.disk, &path).map_err(StorageError::io("read", &path))?;
        let Some(bytes) = bytes else { return Ok((Self::default(), true)) };
        let grows = |pair: &[(LeaderEpoch, Offset)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        match parse_epochs(&bytes) {
            Ok(entries) if entries.windows(2).all(grows) => Ok((Self { entries }, true)),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "leader epochs do not grow; they are read from the log");
                Ok((Self::default(), false))
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "leader epochs are read from the log");
                Ok((Self::default(), false))
            }
        }
    }

    /// Replaces the checkpoint.
    pub(super) fn store(&self, place: &Place) -> Result<(), StorageError> {
        let path = place.named(LEADER_EPOCH_FILE);
        let bytes = render_epochs(self.entries.iter().copied());
        replace_file(&*place.disk, &path, &bytes).map_err(StorageError::io("replace", &path))
    }

    /// The epochs and where they began.
    #[must_use]
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The youngest epoch.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch that `offset` belongs to.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|index| self.entries[index].0)
    }

    /// The largest epoch known that is not younger than `requested`, and where it ended (KIP-279).
    #[must_use]
    pub fn end_of(&self, requested: LeaderEpoch, log_end_offset: Offset) -> EpochEnd {
        if requested == LeaderEpoch::UNKNOWN {
            return EpochEnd::UNKNOWN;
        }
        if self.latest() == Some(requested) {
            return EpochEnd { epoch: requested, end_offset: log_end_offset };
        }
        let after = self.entries.partition_point(|(epoch, _)| *epoch <= requested);
        match (after.checked_sub(1), self.entries.get(after)) {
            (_, None) => EpochEnd::UNKNOWN,
            (None, Some((_, start))) => EpochEnd { epoch: requested, end_offset: *start },
            (Some(floor), Some((_, start))) => EpochEnd { epoch: self.entries[floor].0, end_offset: *start },
        }
    }

    /// Notes that `epoch` begins at `start`; what contradicts it is dropped. `true` where that changed anything.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0 || start.0 < 0 {
            return false;
        }
        if self.entries.last().is_some_and(|last| last.0 == epoch && last.1 <= start) {
            return false;
        }
        // An epoch that wrote nothing gives way to the next one at the same offset: nothing contradicts that.
        let contradicts = |entry: &&(LeaderEpoch, Offset)| entry.0 >= epoch || entry.1 > start;
        let dropped = self.entries.iter().filter(contradicts).count();
        if dropped > 0 {
            tracing::warn!(%epoch, %start, dropped, "conflicting leader epochs");
        }
        self.entries.retain(|entry| entry.0 < epoch && entry.1 < start);
        self.entries.push((epoch, start));
        true
    }

    /// Notes that `epoch` begins at `start`, unless one as young is known already; what contradicts it is dropped.
    /// `true` where that changed anything.
    pub fn assign_if_younger(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        self.latest().is_none_or(|latest| latest < epoch) && self.assign(epoch, start)
    }

    /// Puts `earlier` in front, which begin before the first of these; the last of them may be the first of these.
    pub(super) fn prepend(&mut self, earlier: Self) {
        let Self { mut entries } = earlier;
        let known = std::mem::take(&mut self.entries);
        let youngest = entries.last().map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| *epoch);
        entries.extend(known.into_iter().filter(|(epoch, _)| *epoch > youngest));
        self.entries = entries;
    }

    /// Drops the epochs that begin at `end` or behind it. `true` where there were any.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let keep = self.entries.partition_point(|(_, start)| *start < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Drops what lies before `start`; the epoch that holds `start` then begins there.
    pub(super) fn truncate_from_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|(_, begin)| *begin <= start);
        let Some(holder) = after.checked_sub(1) else { return false };
        if holder == 0 && self.entries[0].1 == start {
            return false;
        }
        self.entries.drain(..holder);
        self.entries[0].1 = start;
        true
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) -> bool {
        let changed = !self.entries.is_empty();
        self.entries.clear();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;
    use crate::storage::options::LogOptions;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs {
            entries: entries.iter().map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start))).collect(),
        }
    }

    fn end(epoch: i32, end_offset: i64) -> EpochEnd {
        EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(end_offset) }
    }

    #[test]
    fn kafka_6361_the_answer_is_the_largest_epoch_not_younger_than_asked() {
        let known = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let asked = |epoch| known.end_of(LeaderEpoch(epoch), Offset(40));
        assert_eq!(asked(-1), EpochEnd::UNKNOWN);
        assert_eq!(asked(0), end(0, 10));
        assert_eq!(asked(2), end(2, 20));
        assert_eq!(asked(3), end(2, 20));
        assert_eq!(asked(5), end(4, 30));
        assert_eq!(asked(7), end(7, 40));
        assert_eq!(asked(8), EpochEnd::UNKNOWN);
        assert_eq!(LeaderEpochs::default().end_of(LeaderEpoch(3), Offset(0)), EpochEnd::UNKNOWN);
        assert_eq!(known.epoch_of(Offset(9)), None);
        assert_eq!(known.epoch_of(Offset(29)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn a_younger_leader_drops_what_contradicts_it() {
        let mut known = epochs(&[(1, 0), (3, 10), (5, 20)]);
        assert!(!known.assign(LeaderEpoch(5), Offset(25)));
        assert!(known.assign(LeaderEpoch(6), Offset(10)));
        assert_eq!(known, epochs(&[(1, 0), (6, 10)]));
        assert!(!known.assign_if_younger(LeaderEpoch(6), Offset(5)));
        assert!(!known.assign(LeaderEpoch(-1), Offset(50)));
    }

    #[test]
    fn earlier_epochs_are_put_in_front_and_lengthen_the_first() {
        let mut known = epochs(&[(3, 13), (5, 20)]);
        known.prepend(epochs(&[(2, 10), (3, 12)]));
        assert_eq!(known, epochs(&[(2, 10), (3, 12), (5, 20)]));
        known.prepend(epochs(&[(1, 0)]));
        assert_eq!(known, epochs(&[(1, 0), (2, 10), (3, 12), (5, 20)]));
    }

    #[test]
    fn truncation_at_both_ends_keeps_the_epoch_of_what_is_left() {
        let mut known = epochs(&[(1, 0), (3, 10), (5, 20)]);
        assert!(known.truncate_from_start(Offset(15)));
        assert_eq!(known, epochs(&[(3, 15), (5, 20)]));
        assert!(!known.truncate_from_start(Offset(15)));
        assert!(known.truncate_from_end(Offset(20)));
        assert_eq!(known, epochs(&[(3, 15)]));
        assert!(!known.truncate_from_end(Offset(20)));
        assert!(!epochs(&[(4, 9)]).truncate_from_start(Offset(5)));
    }

    #[test]
    fn kafka_16541_a_torn_checkpoint_is_taken_as_missing_and_stored_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(RealDisk::new(), folder.path(), &LogOptions::default());
        assert_eq!(LeaderEpochs::load(&place).unwrap(), (LeaderEpochs::default(), true));
        let known = epochs(&[(1, 0), (3, 10)]);
        known.store(&place).unwrap();
        assert_eq!(LeaderEpochs::load(&place).unwrap(), (known, true));
        let path = folder.path().join(LEADER_EPOCH_FILE);
        for torn in ["0\n2\n1 0\n", "0\n2\n1 0\n3", "0\n2\n3 0\n1 5\n", "\0\0\0"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(LeaderEpochs::load(&place).unwrap(), (LeaderEpochs::default(), false), "{torn:?}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(LeaderEpochs::load(&place).unwrap().1);
    }
}
