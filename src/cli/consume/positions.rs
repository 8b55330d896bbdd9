//! How far a group's partitions are read, written to stdout, and committed.
//!
//! `committed <= written <= read`, partition by partition: what is read becomes written when stdout has taken all of it,
//! and only what is written is committed. Where stdout is a pipe whose reader has left, what it did not take out of the
//! pipe counts as not written.

use std::collections::BTreeMap;

use crate::client::{Assignment, Committed};
use crate::types::TopicPartition;

/// Where a partition of ours stands. Offsets are those of the next record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    start: i64,
    read: i64,
    read_epoch: i32,
    written: i64,
    written_epoch: i32,
    /// `None` where the group has committed nothing yet.
    committed: Option<i64>,
    /// Where `-e` ends.
    end: Option<i64>,
    has_ended: bool,
}

/// The partitions that are ours.
#[derive(Debug, Default)]
pub(super) struct Positions {
    of: BTreeMap<TopicPartition, Position>,
    /// What became written since the last commit, and how many bytes stdout had by then.
    written: Vec<(u64, TopicPartition, (i64, i32))>,
}

impl Positions {
    /// A partition is ours from `start` on, the record before which was of `epoch`, or -1; `committed` is what the
    /// group has committed, where it has.
    pub(super) fn add(
        &mut self,
        partition: TopicPartition,
        (start, epoch): (i64, i32),
        committed: Option<i64>,
        end: Option<i64>,
    ) {
        let position = Position {
            start,
            read: start,
            read_epoch: epoch,
            written: start,
            written_epoch: epoch,
            committed,
            end,
            has_ended: end.is_some_and(|end| start >= end),
        };
        self.of.insert(partition, position);
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.of.remove(partition);
        }
    }

    /// Those of a topic.
    pub(super) fn of_topic(&self, topic: &str) -> Vec<TopicPartition> {
        self.of.keys().filter(|partition| partition.topic.as_str() == topic).cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.of.contains_key(partition)
    }

    /// Whether every partition is read to its end.
    pub(super) fn have_ended(&self) -> bool {
        self.of.values().all(|position| position.has_ended)
    }

    /// Everything below `offset` is read; the record before it was of `epoch`.
    pub(super) fn read(&mut self, partition: &TopicPartition, (offset, epoch): (i64, i32)) {
        if let Some(position) = self.of.get_mut(partition) {
            (position.read, position.read_epoch) = (offset, epoch);
        }
    }

    /// A partition gives no more: its end, or a failure.
    pub(super) fn ended(&mut self, partition: &TopicPartition) {
        if let Some(position) = self.of.get_mut(partition) {
            position.has_ended = true;
        }
    }

    /// Stdout has taken everything that was read: `bytes` since the command began.
    pub(super) fn written(&mut self, bytes: u64) {
        for (partition, position) in &mut self.of {
            if position.written != position.read {
                let read = (position.read, position.read_epoch);
                (position.written, position.written_epoch) = read;
                self.written.push((bytes, partition.clone(), read));
            }
        }
    }

    /// The reader of stdout has left after `bytes`: what lies behind them was written in vain.
    pub(super) fn take_back(&mut self, bytes: u64) {
        for position in self.of.values_mut() {
            (position.written, position.written_epoch) = (position.committed.unwrap_or(position.start), -1);
        }
        for (written, partition, (offset, epoch)) in &self.written {
            if *written <= bytes
                && let Some(position) = self.of.get_mut(partition)
            {
                (position.written, position.written_epoch) = (*offset, *epoch);
            }
        }
    }

    /// What is to be committed, of all or of those that are `meant`: where nothing is committed yet, the start too,
    /// so that the next member begins there, whatever was written meanwhile and wherever it would begin by itself.
    pub(super) fn to_commit(
        &self,
        meant: impl Fn(&TopicPartition) -> bool,
    ) -> BTreeMap<TopicPartition, Committed> {
        let due = self
            .of
            .iter()
            .filter(|(partition, position)| Some(position.written) != position.committed && meant(partition));
        due.map(|(partition, position)| {
            let committed = Committed {
                offset: position.written,
                leader_epoch: position.written_epoch,
                ..Default::default()
            };
            (partition.clone(), committed)
        })
        .collect()
    }

    pub(super) fn committed(&mut self, partition: &TopicPartition, offset: i64) {
        self.written.retain(|(_, written, _)| written != partition);
        if let Some(position) = self.of.get_mut(partition) {
            position.committed = Some(offset);
        }
    }

    /// What is still to be read, from where.
    pub(super) fn assignments(&self) -> Vec<Assignment> {
        let open = self.of.iter().filter(|(_, position)| !position.has_ended);
        open.map(|(partition, position)| Assignment {
            partition: partition.clone(),
            start: position.read,
            start_epoch: Some(position.read_epoch).filter(|epoch| *epoch >= 0),
            end: position.end,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicName;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").unwrap(), number)
    }

    #[test]
    fn only_what_stdout_took_is_committed_and_only_once() {
        let mut positions = Positions::default();
        positions.add(partition(0), (5, -1), Some(5), None);
        positions.add(partition(1), (0, -1), Some(0), None);
        positions.read(&partition(0), (9, 2));
        assert!(positions.to_commit(|_| true).is_empty());
        positions.written(100);
        positions.read(&partition(0), (20, 2));
        let due = positions.to_commit(|_| true);
        assert_eq!(due.len(), 1);
        assert_eq!((due[&partition(0)].offset, due[&partition(0)].leader_epoch), (9, 2));
        assert!(positions.to_commit(|meant| *meant == partition(1)).is_empty());
        positions.committed(&partition(0), 9);
        assert!(positions.to_commit(|_| true).is_empty());
        // What comes again after a rebalance comes from where it was read to.
        assert_eq!(positions.assignments()[0].start, 20);
    }

    #[test]
    fn what_a_reader_left_in_the_pipe_is_not_committed() {
        let mut positions = Positions::default();
        positions.add(partition(0), (5, -1), Some(5), None);
        for (offset, bytes) in [(9, 100), (12, 150), (20, 300)] {
            positions.read(&partition(0), (offset, 2));
            positions.written(bytes);
        }
        positions.take_back(299);
        assert_eq!(positions.to_commit(|_| true)[&partition(0)].offset, 12);
        positions.take_back(99);
        assert!(positions.to_commit(|_| true).is_empty());
        positions.take_back(300);
        assert_eq!(positions.to_commit(|_| true)[&partition(0)].offset, 20);
    }

    #[test]
    fn where_nothing_is_committed_the_start_is() {
        let mut positions = Positions::default();
        positions.add(partition(0), (7, -1), None, None);
        assert_eq!(positions.to_commit(|_| true)[&partition(0)].offset, 7);
        positions.committed(&partition(0), 7);
        assert!(positions.to_commit(|_| true).is_empty());
    }

    #[test]
    fn a_partition_whose_commit_is_at_its_end_has_ended() {
        let mut positions = Positions::default();
        positions.add(partition(0), (7, -1), Some(7), Some(7));
        positions.add(partition(1), (0, -1), None, Some(3));
        assert!(!positions.have_ended());
        assert_eq!(positions.assignments().len(), 1);
        positions.ended(&partition(1));
        assert!(positions.have_ended());
    }
}
