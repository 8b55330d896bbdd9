//! A partition that this broker leads, as its followers and the controller see it: their fetches, who is in sync,
//! and what is proposed of it.

use std::future::Future;
use std::pin::Pin;

use super::leader::{After, FetchRefused, Granted, LogOffsets, Proposal, ReplicaFetch};
use super::partition::{Accepted, Partition, PartitionError, ReadOutcome, ReadSpec, read_log};
use super::role::{Held, Role, offsets_of};
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_partition_request::AlterPartitionRequest;
use crate::protocol::messages::alter_partition_response::AlterPartitionResponse;
use crate::storage::Log;
use crate::types::Offset;

/// Whoever decides on ISRs: the active controller, here or elsewhere.
pub trait AlterPartitions: Send + Sync {
    /// Decides on the request; an answer comes always, with an error where nobody could be asked.
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = AlterPartitionResponse> + Send + '_>>;
}

/// A follower that may serve a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadableReplica {
    /// Its node.
    pub node: i32,
    /// Where its log ended when it fetched last.
    pub log_end_offset: Offset,
    /// When it had everything, on a clock that does not go back.
    pub caught_up_ms: i64,
}

impl Partition {
    /// Reads for a follower, up to the end of the log. With `count`, its fetch counts as what it says: that it has
    /// everything below its offset. `true` beside the outcome where the controller is to be asked for a new ISR.
    ///
    /// # Errors
    /// [`PartitionError`]; then nothing counts.
    pub fn read_for_replica(
        &self,
        spec: &ReadSpec,
        fetch: &ReplicaFetch,
        count: bool,
    ) -> Result<(ReadOutcome, bool), PartitionError> {
        self.check_online()?;
        self.check_leader_epoch(spec.current_leader_epoch)?;
        let mut held = self.log.lock();
        let Held { log, role: Role::Leader(leader) } = &mut *held else {
            return Err(PartitionError::NotLeader);
        };
        let outcome = read_log(log, spec, log.log_end_offset());
        log.spare_files();
        let mut outcome = outcome?;
        if !count || outcome.diverging.is_some() {
            return Ok((outcome, false));
        }
        let around = self.surroundings();
        let (now_ms, standings) = (around.now_ms(), |id| around.standing(id));
        leader.note_fetch(fetch, &offsets_of(log), now_ms, &standings).map_err(|refused| match refused {
            FetchRefused::NoReplica if spec.current_leader_epoch >= 0 => PartitionError::UnknownLeaderEpoch {
                requested: spec.current_leader_epoch,
                current: leader.epoch(),
            },
            FetchRefused::NoReplica | FetchRefused::OldIncarnation => PartitionError::NotLeader,
        })?;
        let proposes = leader.propose_expansion(fetch.replica, &offsets_of(log), &standings);
        let is_visible = self.advance(&mut held);
        outcome.high_watermark = held.high_watermark();
        outcome.last_stable_offset = held.last_stable_offset();
        drop(held);
        self.settle(is_visible, outcome.high_watermark);
        self.notify_low_watermark();
        Ok((outcome, proposes))
    }

    /// Whether an append with acks=all is on every replica in sync, and these are enough.
    ///
    /// # Errors
    /// It cannot be said here any more, or too few replicas are in sync.
    pub fn is_committed(&self, accepted: &Accepted) -> Result<bool, PartitionError> {
        self.check_online()?;
        let held = self.log.lock();
        let Role::Leader(leader) = &held.role else { return Err(PartitionError::NotLeader) };
        if leader.epoch() != accepted.leader_epoch {
            return Err(PartitionError::NotLeader);
        }
        if held.high_watermark() < accepted.end_offset {
            return Ok(false);
        }
        if leader.may_acknowledge(&self.terms()) { Ok(true) } else { Err(PartitionError::TooFewAfterAppend) }
    }

    /// Looks for followers that lag; `true` where the controller is to be asked for an ISR without them.
    pub fn shrink_isr(&self) -> bool {
        let mut held = self.log.lock();
        let offsets = held.offsets();
        let Role::Leader(leader) = &mut held.role else { return false };
        if leader.is_alone() || self.check_online().is_err() {
            return false;
        }
        let proposes = leader.propose_shrink(&offsets, &self.terms());
        // What only time changes may have changed, too: who is waited for although not in sync.
        let is_visible = self.advance(&mut held);
        let high_watermark = held.high_watermark();
        drop(held);
        self.settle(is_visible, high_watermark);
        proposes
    }

    /// What the controller is to be asked, where there is something.
    #[must_use]
    pub fn proposal(&self) -> Option<Proposal> {
        let held = self.log.lock();
        let Role::Leader(leader) = &held.role else { return None };
        self.check_online().ok()?;
        leader.proposal(&|id| self.surroundings().standing(id))
    }

    /// Takes over what the controller has made of `proposal`.
    pub fn answered(&self, proposal: &Proposal, answer: Result<Granted, ErrorCode>) -> After {
        let mut held = self.log.lock();
        let Role::Leader(leader) = &mut held.role else { return After::Settled };
        if leader.epoch() != proposal.leader_epoch {
            return After::Settled;
        }
        let after = match answer {
            Ok(granted) => leader.granted(granted),
            Err(code) => leader.refused(proposal.partition_epoch, code),
        };
        let is_visible = self.advance(&mut held);
        let high_watermark = held.high_watermark();
        drop(held);
        self.settle(is_visible, high_watermark);
        // Acknowledgements also depend on how many are in sync.
        self.notify_committing();
        after
    }

    /// The log of the leader, for questions that only the leader answers.
    ///
    /// # Errors
    /// [`PartitionError`]: the partition cannot be asked now.
    pub fn with_led_log<T>(
        &self,
        current_leader_epoch: i32,
        ask: impl FnOnce(&mut Log) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        self.check_online()?;
        self.check_leader_epoch(current_leader_epoch)?;
        let mut held = self.log.lock();
        match held.role {
            Role::Leader(_) => ask(&mut held.log),
            Role::Follower(_) => Err(PartitionError::NotLeader),
        }
    }

    /// Whether a replica is in sync, as far as its leader knows.
    #[must_use]
    pub fn is_in_sync(&self, replica: i32) -> bool {
        match &self.log.lock().role {
            Role::Leader(leader) => leader.isr().contains(&replica),
            Role::Follower(_) => false,
        }
    }

    /// Whether this broker leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.log.lock().role, Role::Leader(_))
    }

    /// Where the log ended when this broker took office: below it the high watermark may not be known yet.
    #[must_use]
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.log.lock().role {
            Role::Leader(leader) => Some(leader.epoch_start()),
            Role::Follower(_) => None,
        }
    }

    /// The followers that may serve a consumer at `fetch_offset`, and the leader's own end.
    #[must_use]
    pub fn readable_replicas(&self, fetch_offset: Offset) -> (Vec<ReadableReplica>, Offset) {
        let held = self.log.lock();
        let end = held.log_end_offset();
        let Role::Leader(leader) = &held.role else { return (Vec::new(), end) };
        let replicas = leader.readable_replicas(fetch_offset);
        let replicas = replicas.map(|(node, log_end_offset, caught_up_ms)| ReadableReplica {
            node,
            log_end_offset,
            caught_up_ms,
        });
        (replicas.collect(), end)
    }

    /// The lowest log start of all living replicas; `None` where one of them has not said.
    ///
    /// # Errors
    /// This broker does not lead.
    pub fn low_watermark(&self) -> Result<Option<Offset>, PartitionError> {
        self.check_online()?;
        let held = self.log.lock();
        let offsets: LogOffsets = held.offsets();
        let Role::Leader(leader) = &held.role else { return Err(PartitionError::NotLeader) };
        if leader.is_alone() {
            return Ok(Some(offsets.start));
        }
        Ok(leader.low_watermark(&offsets, &|id| self.surroundings().standing(id)))
    }
}
