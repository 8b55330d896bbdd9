//! One change of one partition, decided: who leads it then, who is in sync, who may lead though it is not (KIP-966),
//! and whether a reassignment is done by it.
//!
//! What always holds of the outcome: the leader is in sync, or there is none; no replica is in sync and eligible at
//! the same time; while as many as `min.insync.replicas` are in sync nobody is eligible beside them. A leader from
//! outside is taken only where an unclean election was asked for, or where the last known leader is back and nobody
//! else ever can be; it is then marked as recovering.

use std::collections::BTreeSet;

use crate::config::BrokerConfig;
use crate::metadata::record::{LEVEL_DIRECTORIES, LEVEL_ELIGIBLE_REPLICAS};
use crate::metadata::{
    ConfigResource, Image, LeaderRecoveryState, METADATA_VERSION, MetadataRecord, PartitionRegistration,
    Topic,
};
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::types::Uuid;

use super::log_dirs::is_online;
use super::placement::{default_directory, is_active};

/// As a leader: none.
pub(super) const NO_LEADER: i32 = -1;
/// As the leader of a change: it stays, and its epoch.
const SAME_LEADER: i32 = -2;
/// Below this level (3.6-IV0) a replica that leaves the ISR takes the leader's epoch along (KAFKA-15021).
const LEVEL_SHRINKS_KEEP_EPOCH: i16 = 12;

/// Whom an election may choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Whoever is in sync; the leader stays if it can.
    Online,
    /// The same, and where nobody is in sync whoever is up: committed records may be lost.
    Unclean,
}

/// A change in the making: what is to be true of the partition afterwards.
pub(super) struct PartitionChange<'a> {
    partition: &'a PartitionRegistration,
    topic_id: Uuid,
    partition_id: i32,
    image: &'a Image,
    tracks_eligible: bool,
    min_isr: usize,
    pub(super) election: Election,
    /// It may lead though the image has it fenced still.
    pub(super) arriving: Option<i32>,
    /// It may not lead though the image has it up.
    pub(super) leaving: Option<i32>,
    /// It stopped uncleanly: its log may lack records that it had acknowledged.
    pub(super) stopped_uncleanly: Option<i32>,
    pub(super) isr: Vec<i32>,
    pub(super) replicas: Vec<i32>,
    pub(super) removing: Vec<i32>,
    pub(super) adding: Vec<i32>,
    pub(super) recovery: LeaderRecoveryState,
    /// A replica that is in another directory than was known.
    pub(super) moved: Option<(i32, Uuid)>,
    eligible: Vec<i32>,
}

/// Whether replicas that may lead are kept track of.
pub(super) fn tracks_eligible(image: &Image) -> bool {
    image.feature("eligible.leader.replicas.version") > 0
        && image.feature(METADATA_VERSION) >= LEVEL_ELIGIBLE_REPLICAS
}

/// Whether a topic's partitions may have a leader that is not in sync rather than none.
pub(super) fn may_elect_uncleanly(image: &Image, config: &BrokerConfig, topic: &Topic) -> bool {
    const KEY: &str = "unclean.leader.election.enable";
    match image.configs(&ConfigResource::topic(topic.name.as_str())).get(KEY) {
        Some(value) => value.trim().eq_ignore_ascii_case("true"),
        None => config.topic_defaults.unclean_leader_election_enable,
    }
}

/// How many replicas of a topic must be in sync, as far as it has as many.
fn min_isr(image: &Image, config: &BrokerConfig, topic: &Topic) -> usize {
    let own = image.configs(&ConfigResource::topic(topic.name.as_str()));
    let own = own.get("min.insync.replicas").and_then(|value| value.trim().parse().ok());
    let wanted = own.unwrap_or(config.topic_defaults.min_insync_replicas);
    let replicas = topic.partitions.values().next().map_or(1, |first| first.replicas.len());
    usize::try_from(wanted).unwrap_or(1).min(replicas)
}

impl<'a> PartitionChange<'a> {
    /// Nothing is to change but what follows from the brokers that are up. Elections are as the topic allows.
    pub(super) fn new(
        image: &'a Image,
        config: &BrokerConfig,
        topic: &'a Topic,
        partition_id: i32,
        partition: &'a PartitionRegistration,
    ) -> Self {
        let is_unclean = may_elect_uncleanly(image, config, topic);
        Self {
            partition,
            topic_id: topic.id,
            partition_id,
            image,
            tracks_eligible: tracks_eligible(image),
            min_isr: min_isr(image, config, topic),
            election: if is_unclean { Election::Unclean } else { Election::Online },
            arriving: None,
            leaving: None,
            stopped_uncleanly: None,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing_replicas.clone(),
            adding: partition.adding_replicas.clone(),
            recovery: partition.leader_recovery_state,
            moved: None,
            eligible: partition.eligible_leader_replicas.clone(),
        }
    }

    /// The record that makes it so; `None` where it is so already.
    pub(super) fn build(mut self) -> Option<MetadataRecord> {
        let mut change = PartitionChangeRecord {
            partition_id: self.partition_id,
            topic_id: self.topic_id,
            ..PartitionChangeRecord::default()
        };
        self.complete_reassignment();
        self.keep_track_of_eligible();
        self.elect(&mut change);
        let loses_replicas = self.partition.replicas.iter().any(|it| !self.replicas.contains(it));
        self.begin_epoch_if(loses_replicas, &mut change);
        self.set_in_sync(&mut change);
        let shrinks =
            change.isr.as_ref().is_some_and(|isr| self.partition.isr.iter().any(|it| !isr.contains(it)));
        let level = self.image.feature(METADATA_VERSION);
        self.begin_epoch_if(shrinks && level < LEVEL_SHRINKS_KEEP_EPOCH, &mut change);
        self.set_last_leader(&mut change);
        self.set_assignment(&mut change);
        if self.recovery != self.partition.leader_recovery_state {
            change.leader_recovery_state = i8::from(self.recovery == LeaderRecoveryState::Recovering);
        }
        let unchanged = PartitionChangeRecord {
            partition_id: self.partition_id,
            topic_id: self.topic_id,
            ..PartitionChangeRecord::default()
        };
        (change != unchanged).then(|| change.into())
    }

    /// A reassignment ends once every replica that is to stay is in sync.
    fn complete_reassignment(&mut self) {
        if self.removing.is_empty() && self.adding.is_empty() {
            return;
        }
        let stays = |replica: &&i32| !self.removing.contains(replica);
        let isr: Vec<i32> = self.isr.iter().filter(stays).copied().collect();
        let replicas: Vec<i32> = self.replicas.iter().filter(stays).copied().collect();
        let is_done = !isr.is_empty() && !replicas.is_empty() && replicas.iter().all(|it| isr.contains(it));
        if is_done {
            (self.isr, self.replicas) = (isr, replicas);
            (self.removing, self.adding) = (Vec::new(), Vec::new());
        }
    }

    /// Who leaves the ISR while too few are left keeps what was committed, since nothing is committed without
    /// `min.insync.replicas` of them.
    fn keep_track_of_eligible(&mut self) {
        if !self.tracks_eligible {
            return;
        }
        if self.isr.len() >= self.min_isr {
            self.eligible.clear();
            return;
        }
        let before: BTreeSet<i32> = self.eligible.iter().chain(&self.partition.isr).copied().collect();
        let is_eligible = |replica: &i32| {
            !self.isr.contains(replica)
                && self.stopped_uncleanly != Some(*replica)
                && self.replicas.contains(replica)
        };
        self.eligible = before.into_iter().filter(is_eligible).collect();
    }

    fn elect(&mut self, change: &mut PartitionChangeRecord) {
        let (leader, is_unclean) = self.choose();
        if leader == self.partition.leader {
            return;
        }
        change.leader = leader;
        if is_unclean {
            change.isr = Some(vec![leader]);
            // What it lacks is to be found out before anybody follows it.
            self.recovery = LeaderRecoveryState::Recovering;
        } else if self.eligible.contains(&leader) {
            self.isr = vec![leader];
            self.eligible.retain(|replica| *replica != leader);
        }
    }

    /// The leader, and whether it may lack committed records.
    fn choose(&self) -> (i32, bool) {
        let preferred = self.replicas.first().copied().filter(|_| self.election == Election::Preferred);
        let current = Some(self.partition.leader);
        let candidates = preferred.into_iter().chain(current).chain(self.replicas.iter().copied());
        if let Some(leader) = candidates.into_iter().find(|replica| self.may_lead_cleanly(*replica)) {
            return (leader, false);
        }
        if let Some(leader) = self.last_known_leader() {
            return (leader, true);
        }
        let any = self.replicas.iter().copied().find(|replica| self.is_up(*replica));
        match any.filter(|_| self.election == Election::Unclean) {
            Some(leader) => (leader, true),
            None => (NO_LEADER, false),
        }
    }

    fn may_lead_cleanly(&self, replica: i32) -> bool {
        let from_eligible = self.isr.is_empty() && self.tracks_eligible && self.eligible.contains(&replica);
        (self.isr.contains(&replica) || from_eligible) && self.is_up(replica)
    }

    /// With nobody in sync or eligible, the last one that led has as much as anybody, once it is back.
    fn last_known_leader(&self) -> Option<i32> {
        let nobody = self.tracks_eligible && self.isr.is_empty() && self.eligible.is_empty();
        match self.partition.last_known_elr[..] {
            [last] if nobody && self.replicas.contains(&last) && self.is_up(last) => Some(last),
            _ => None,
        }
    }

    /// Its broker serves, and its directory there is not lost.
    fn is_up(&self, replica: i32) -> bool {
        let gone = self.leaving == Some(replica) || self.stopped_uncleanly == Some(replica);
        let serves = self.arriving == Some(replica) || is_active(self.image, replica);
        let Some(broker) = self.image.broker(replica) else { return false };
        let directory = match self.moved {
            Some((moved, directory)) if moved == replica => directory,
            _ => self.partition.directory_of(replica),
        };
        !gone && serves && is_online(directory, &broker.log_dirs)
    }

    /// Names the leader that stays, so that its epoch grows.
    fn begin_epoch_if(&self, needed: bool, change: &mut PartitionChangeRecord) {
        if needed && change.leader == SAME_LEADER {
            change.leader = self.partition.leader;
        }
    }

    fn set_in_sync(&mut self, change: &mut PartitionChangeRecord) {
        let was_unclean = change.isr.is_some();
        if was_unclean || !self.tracks_eligible {
            self.eligible.clear();
        }
        if self.eligible != self.partition.eligible_leader_replicas {
            change.eligible_leader_replicas = Some(self.eligible.clone());
        }
        // Where nobody is eligible beside them, the last one in sync stays in sync.
        let may_change = !self.isr.is_empty() || self.tracks_eligible;
        if !was_unclean && may_change && self.isr != self.partition.isr {
            change.isr = Some(self.isr.clone());
        }
    }

    /// Who led when the last replica left the ISR is noted until somebody leads again, or it is no replica any more: as
    /// one that is added later it begins with nothing.
    fn set_last_leader(&self, change: &mut PartitionChangeRecord) {
        if !self.tracks_eligible {
            return;
        }
        let last = &self.partition.last_known_elr;
        let leads_on =
            change.leader >= 0 || (self.partition.leader != NO_LEADER && change.leader == SAME_LEADER);
        let is_over = leads_on || last.iter().any(|replica| !self.replicas.contains(replica));
        let holds_it = self.replicas.contains(&self.partition.leader);
        if change.isr.as_ref().is_some_and(Vec::is_empty) && holds_it {
            change.last_known_elr = Some(vec![self.partition.leader]).filter(|leader| leader != last);
        } else if is_over && !last.is_empty() {
            change.last_known_elr = Some(Vec::new());
        }
    }

    fn set_assignment(&self, change: &mut PartitionChangeRecord) {
        let changed = |now: &Vec<i32>, before: &Vec<i32>| (now != before).then(|| now.clone());
        change.replicas = changed(&self.replicas, &self.partition.replicas);
        change.removing_replicas = changed(&self.removing, &self.partition.removing_replicas);
        change.adding_replicas = changed(&self.adding, &self.partition.adding_replicas);
        if self.image.feature(METADATA_VERSION) < LEVEL_DIRECTORIES {
            return;
        }
        let directory = |replica: &i32| match self.moved {
            Some((moved, directory)) if moved == *replica => directory,
            _ if self.partition.replicas.contains(replica) => self.partition.directory_of(*replica),
            _ => default_directory(self.image, *replica),
        };
        let directories: Vec<Uuid> = self.replicas.iter().map(directory).collect();
        let known: Vec<Uuid> =
            self.partition.replicas.iter().map(|it| self.partition.directory_of(*it)).collect();
        if directories != known {
            change.directories = Some(directories);
        }
    }
}
