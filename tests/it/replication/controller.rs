//! What the controller decides of one partition, by Kafka's rules: who leads, who is in sync, who is eligible.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use klamm::metadata::PartitionRegistration;
use klamm::protocol::ErrorCode;
use klamm::replication::{Granted, Proposal, Standing};
use klamm::types::LeaderEpoch;

/// The metadata at one moment.
#[derive(Clone)]
pub struct View {
    pub partition: PartitionRegistration,
    pub brokers: BTreeMap<i32, Standing>,
}

pub struct Controller {
    pub views: Vec<Rc<View>>,
    now: View,
    min_isr: usize,
    next_epoch: i64,
    /// Brokers that were started again without a clean stop stay where they were (the mistake).
    pub trusts_unclean_restarts: bool,
    pub ignores_broker_epochs: bool,
}

impl Controller {
    pub fn new(brokers: i32, min_isr: usize) -> Self {
        let ids: Vec<i32> = (1..=brokers).collect();
        let partition = PartitionRegistration {
            replicas: ids.clone(),
            isr: ids.clone(),
            leader: 1,
            ..PartitionRegistration::default()
        };
        let standing = |id: &i32| (*id, Standing { epoch: i64::from(*id), is_active: true });
        let now = View { partition, brokers: ids.iter().map(standing).collect() };
        Self {
            views: vec![Rc::new(now.clone())],
            now,
            min_isr,
            next_epoch: 100,
            trusts_unclean_restarts: false,
            ignores_broker_epochs: false,
        }
    }

    pub fn partition(&self) -> &PartitionRegistration {
        &self.now.partition
    }

    pub fn is_active(&self, id: i32) -> bool {
        self.now.brokers[&id].is_active
    }

    fn publish(&mut self) {
        self.views.push(Rc::new(self.now.clone()));
    }

    /// A broker has not been heard of.
    pub fn fence(&mut self, id: i32) {
        self.stand(id).is_active = false;
        let isr: Vec<i32> = self.now.partition.isr.iter().copied().filter(|it| *it != id).collect();
        self.decide(isr, &BTreeSet::new());
    }

    /// A broker is heard of again.
    pub fn unfence(&mut self, id: i32) {
        self.stand(id).is_active = true;
        self.decide(self.now.partition.isr.clone(), &BTreeSet::new());
    }

    /// A broker was started; returns its epoch. It is fenced until it is heard of.
    pub fn register(&mut self, id: i32, was_clean: bool) -> i64 {
        self.next_epoch += 1;
        let epoch = self.next_epoch;
        *self.stand(id) = Standing { epoch, is_active: false };
        let keep = |it: &i32| *it != id || (self.trusts_unclean_restarts && !was_clean);
        let isr: Vec<i32> = self.now.partition.isr.iter().copied().filter(keep).collect();
        let unclean = if was_clean || self.trusts_unclean_restarts { BTreeSet::new() } else { [id].into() };
        self.decide(isr, &unclean);
        epoch
    }

    /// Hands the leadership to another replica in sync.
    pub fn prefer(&mut self, id: i32) {
        let partition = &mut self.now.partition;
        if partition.isr.contains(&id) && partition.leader != id && self.now.brokers[&id].is_active {
            partition.leader = id;
            partition.leader_epoch += 1;
            partition.partition_epoch += 1;
            self.publish();
        }
    }

    /// AlterPartition.
    pub fn alter(&mut self, from: i32, proposal: &Proposal) -> Result<Granted, ErrorCode> {
        let partition = &self.now.partition;
        if from != partition.leader || proposal.leader_epoch.0 != partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if proposal.partition_epoch != partition.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        for (id, epoch) in &proposal.isr {
            let standing = self.now.brokers[id];
            let is_same = *epoch == -1 || *epoch == standing.epoch || self.ignores_broker_epochs;
            if !standing.is_active || !is_same {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        self.decide(proposal.isr.iter().map(|(id, _)| *id).collect(), &BTreeSet::new());
        let partition = &self.now.partition;
        Ok(Granted {
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.clone(),
        })
    }

    fn stand(&mut self, id: i32) -> &mut Standing {
        self.now.brokers.get_mut(&id).unwrap()
    }

    /// Takes `isr`, elects where the leader is not in it, and keeps who left last while too few are in sync.
    fn decide(&mut self, mut isr: Vec<i32>, unclean: &BTreeSet<i32>) {
        let is_active = |id: &i32| self.now.brokers[id].is_active;
        let before = self.now.partition.clone();
        let mut eligible: BTreeSet<i32> =
            before.eligible_leader_replicas.iter().chain(&before.isr).copied().collect();
        eligible.retain(|id| !unclean.contains(id));
        let mut leader = before.leader;
        if !isr.contains(&leader) || !is_active(&leader) {
            let from_isr = isr.iter().copied().find(is_active);
            leader = from_isr.or_else(|| eligible.iter().copied().find(is_active)).unwrap_or(-1);
        }
        if leader != -1 && !isr.contains(&leader) {
            isr = vec![leader];
        }
        eligible.retain(|id| !isr.contains(id));
        if isr.len() >= self.min_isr {
            eligible.clear();
        }
        let partition = &mut self.now.partition;
        partition.isr = isr;
        partition.eligible_leader_replicas = eligible.into_iter().collect();
        partition.leader = leader;
        if leader != before.leader {
            partition.leader_epoch += 1;
        }
        if *partition != before {
            partition.partition_epoch += 1;
        }
        self.publish();
    }
}
