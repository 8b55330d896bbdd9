//! The leader epochs of what was read: what a leader is asked to compare with its own log.

use super::Assignment;

/// So many epochs are remembered; of older records nobody takes anything back.
const EPOCHS_MAX: usize = 64;

/// Epochs in ascending order, each with the offset of its first record that was read.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    epochs: Vec<(i32, i64)>,
    /// Reading never steps back behind this offset.
    floor: i64,
}

impl History {
    /// The epoch of the last record, -1 where it is not known.
    pub(super) fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// A record at `offset` was read, of this epoch.
    pub(super) fn read(&mut self, offset: i64, epoch: i32) {
        if self.last_epoch() != epoch {
            self.epochs.push((epoch, offset));
            if self.epochs.len() > EPOCHS_MAX {
                self.epochs.remove(0);
            }
        }
    }

    /// Reading goes on somewhere else.
    pub(super) fn forget(&mut self) {
        self.epochs.clear();
    }

    /// Where to go on from `position`, in a log that has nothing of a later epoch than `epoch` that we have, and of that
    /// one nothing from `end` on. What is left is remembered, so that the next answer may lead back further still; the
    /// steps come to an end, as each forgets an epoch or goes back.
    pub(super) fn step_back(&mut self, position: i64, (epoch, end): (i32, i64)) -> i64 {
        let later = self.epochs.iter().find(|(own, _)| *own > epoch).map_or(position, |(_, first)| *first);
        let to = end.min(later).max(self.floor).min(position);
        self.epochs.retain(|(own, first)| *own <= epoch && *first < to);
        to
    }
}

impl From<&Assignment> for History {
    /// Who begins at an offset of its own choice knows nothing of what stands before it, and does not want it.
    fn from(assignment: &Assignment) -> Self {
        match assignment.start_epoch {
            Some(epoch) => Self { epochs: vec![(epoch, assignment.start)], floor: 0 },
            None => Self { epochs: Vec::new(), floor: assignment.start },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TopicName, TopicPartition};

    fn history(start: i64, start_epoch: Option<i32>) -> History {
        let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
        History::from(&Assignment { partition, start, start_epoch, end: None })
    }

    #[test]
    fn steps_go_back_to_where_the_logs_agree_epoch_by_epoch() {
        let mut history = history(10, None);
        for (offset, epoch) in [(10, 1), (11, 1), (15, 2), (20, 5)] {
            history.read(offset, epoch);
        }
        assert_eq!(history.last_epoch(), 5);
        // The leader has epochs 1, up to 13, and 3.
        assert_eq!((history.step_back(25, (3, 40)), history.last_epoch()), (20, 2));
        assert_eq!((history.step_back(20, (1, 13)), history.last_epoch()), (13, 1));
        // Nothing before what was asked for is read.
        assert_eq!((history.step_back(13, (1, 4)), history.last_epoch()), (10, -1));
    }

    #[test]
    fn a_committed_offset_that_was_taken_back_leads_to_the_end_of_its_epoch() {
        let mut shorter = history(100, Some(4));
        assert_eq!((shorter.step_back(100, (4, 90)), shorter.last_epoch()), (90, -1));
        let mut without_the_epoch = history(100, Some(4));
        assert_eq!((without_the_epoch.step_back(100, (3, 200)), without_the_epoch.last_epoch()), (100, -1));
    }
}
