//! What is true of a partition whoever believes what: the records that count as committed, the registrations that the
//! controller has made, and the newest leader that has taken office.

use klamm::metadata::PartitionRegistration;

use super::replica::{Replica, Role};
use super::world::World;

/// See the module.
#[derive(Default)]
pub struct Truth {
    /// The digest behind each record that somebody knows to be committed.
    pub committed: Vec<u64>,
    /// The newest leader's epoch, and where its log ended when it took office.
    office: Option<(i32, i64)>,
    /// Leader's epoch and ISR, by partition epoch.
    registered: Vec<Option<(i32, Vec<i32>)>>,
    /// The registration as it is now.
    pub newest_leader_epoch: i32,
    /// The event with which something was committed last.
    committed_step: u64,
    /// The first leader's epoch, since then, for which nobody eligible was left, and the last known leader taken.
    last_known_epoch: Option<i32>,
}

impl Truth {
    pub fn register(&mut self, partition: &PartitionRegistration) {
        let at = partition.partition_epoch as usize;
        if self.registered.len() <= at {
            self.registered.resize(at + 1, None);
        }
        if self.registered[at].is_none() {
            self.registered[at] = Some((partition.leader_epoch, partition.isr.clone()));
        }
        self.newest_leader_epoch = self.newest_leader_epoch.max(partition.leader_epoch);
    }

    /// Nobody in sync and nobody eligible was left: who led last leads from `epoch` on, whatever it has (KIP-966).
    pub fn take_last_known(&mut self, epoch: i32) {
        self.last_known_epoch.get_or_insert(epoch);
    }

    /// Whether the leader of `epoch` may lack what was committed: as many as must be in sync were registered since then
    /// after they had ended uncleanly, and the last known leader was all that was left.
    pub fn is_excused(&self, epoch: i32, unclean_starts: impl Iterator<Item = u64>, min_isr: usize) -> bool {
        let since = unclean_starts.filter(|step| *step >= self.committed_step).count();
        self.last_known_epoch.is_some_and(|first| first <= epoch) && since >= min_isr
    }

    /// Every ISR that a leader counts by is one that the controller decided.
    pub fn check_isr(&self, leader: &klamm::replication::Leader) -> Result<(), String> {
        let known = self.registered.get(leader.partition_epoch() as usize).and_then(Option::as_ref);
        match known {
            Some((epoch, isr)) if *epoch == leader.epoch().0 && *isr == leader.isr() => Ok(()),
            _ => Err(format!(
                "the leader of epoch {} has {:?} in sync at partition epoch {}, where the controller decided {known:?}",
                leader.epoch(),
                leader.isr(),
                leader.partition_epoch()
            )),
        }
    }

    /// Whatever was committed is in the log of a new leader, unless it was succeeded already.
    pub fn take_office(&mut self, epoch: i32, replica: &Replica) -> Result<(), String> {
        let committed = self.committed.len();
        let last = committed.checked_sub(1).map_or(0, |last| self.committed[last]);
        if epoch >= self.newest_leader_epoch && replica.chain_at(committed) != Some(last) {
            return Err(format!(
                "the leader of epoch {epoch} has {} records; {committed} were committed, and not these",
                replica.end()
            ));
        }
        if self.office.is_none_or(|(newest, _)| newest < epoch) {
            self.office = Some((epoch, replica.end()));
        }
        Ok(())
    }

    /// What a replica has below its high watermark is what all have there.
    pub fn commit(&mut self, replica: &Replica) -> Result<(), String> {
        let end = replica.high_watermark as usize;
        let known = end.min(self.committed.len());
        let expected = known.checked_sub(1).map_or(0, |last| self.committed[last]);
        if replica.chain_at(known) != Some(expected) {
            return Err(format!("it has other records before {known} than were committed"));
        }
        if end > replica.records.len() {
            return Err(format!("its high watermark {end} is behind the end of its log"));
        }
        self.committed.extend(replica.records[known..end].iter().map(|record| record.chain));
        Ok(())
    }

    /// A leader acknowledges the record before `offset`. One that was succeeded may do so only for what its successor
    /// began with.
    pub fn acknowledge(&self, epoch: i32, offset: i64) -> Result<(), String> {
        if offset > self.committed.len() as i64 {
            return Err(format!("the record before {offset} is acknowledged, and not committed"));
        }
        match self.office {
            Some((newest, start)) if newest > epoch && offset > start => Err(format!(
                "the leader of epoch {epoch} acknowledges the record before {offset}; the one of epoch {newest} began at \
                 {start}"
            )),
            _ => Ok(()),
        }
    }
}

impl World {
    /// Holds a replica against the truth after its high watermark may have moved.
    pub fn check_replica(&mut self, node: usize, partition: usize) {
        let Some(replica) = &self.nodes[node].replicas[partition] else { return };
        let truth = &mut self.truths[replica.topic].1[partition];
        let known = truth.committed.len();
        let mut outcome = truth.commit(replica);
        if truth.committed.len() > known {
            (truth.committed_step, truth.last_known_epoch) = (self.steps, None);
        }
        if let (Ok(()), Role::Leader(leader)) = (&outcome, &replica.role) {
            outcome = truth.check_isr(leader);
        }
        if let Err(why) = outcome {
            self.broken(&format!("node {} of partition {partition}: {why}", node + 1));
        }
    }
}
