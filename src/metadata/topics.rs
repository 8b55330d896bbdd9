//! Topics and their partitions as the quorum has decided them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::types::{BrokerId, LeaderEpoch, TopicName, Uuid};

/// Whether a leader may have lost records, having been elected out of sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeaderRecoveryState {
    /// It has all that was committed.
    #[default]
    Recovered,
    /// It was elected uncleanly and has not yet said that it recovered.
    Recovering,
}

/// A partition, decided.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionRegistration {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The directory of each replica, in their order; all zeros where it is not known.
    pub directories: Vec<Uuid>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
    /// Replicas on their way out.
    pub removing_replicas: Vec<i32>,
    /// Replicas on their way in.
    pub adding_replicas: Vec<i32>,
    /// Replicas out of sync that are known to have every committed record.
    pub eligible_leader_replicas: Vec<i32>,
    /// The last eligible replicas known, after an unclean stop.
    pub last_known_elr: Vec<i32>,
    /// The leader, or -1.
    pub leader: i32,
    /// Whether the leader was elected uncleanly.
    pub leader_recovery_state: LeaderRecoveryState,
    /// Counts the leaders.
    pub leader_epoch: i32,
    /// Counts the changes of this registration.
    pub partition_epoch: i32,
}

/// Where a replica of a broker lies, as the broker tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaDirectory {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The directory's id.
    pub directory: Uuid,
}

/// In PartitionChangeRecord: the leader stays, and with it its epoch.
const NO_LEADER_CHANGE: i32 = -2;

impl PartitionRegistration {
    /// The leader's id, [`BrokerId::NONE`] where there is none.
    #[must_use]
    pub fn leader_id(&self) -> BrokerId {
        BrokerId(self.leader)
    }

    /// The leader's epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch)
    }

    /// The directory that holds `broker`'s replica; all zeros where it is not known.
    #[must_use]
    pub fn directory_of(&self, broker: i32) -> Uuid {
        let at = self.replicas.iter().position(|replica| *replica == broker);
        at.and_then(|at| self.directories.get(at)).copied().unwrap_or_default()
    }

    pub(super) fn from_record(record: &PartitionRecord) -> Self {
        Self {
            replicas: record.replicas.clone(),
            directories: record.directories.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            leader: record.leader,
            leader_recovery_state: recovery_state(record.leader_recovery_state),
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        }
    }

    pub(super) fn to_record(&self, topic_id: Uuid, partition_id: i32) -> PartitionRecord {
        let some = |ids: &Vec<i32>| Some(ids.clone()).filter(|ids| !ids.is_empty());
        PartitionRecord {
            partition_id,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery_state: i8::from(self.leader_recovery_state == LeaderRecoveryState::Recovering),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leader_replicas: some(&self.eligible_leader_replicas),
            last_known_elr: some(&self.last_known_elr),
            ..PartitionRecord::default()
        }
    }

    /// A change names only what changes. A leader that is named, be it the same, begins a new epoch.
    pub(super) fn change(&mut self, change: &PartitionChangeRecord) {
        let set = |field: &mut Vec<i32>, value: &Option<Vec<i32>>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut self.isr, &change.isr);
        set(&mut self.replicas, &change.replicas);
        set(&mut self.removing_replicas, &change.removing_replicas);
        set(&mut self.adding_replicas, &change.adding_replicas);
        set(&mut self.eligible_leader_replicas, &change.eligible_leader_replicas);
        set(&mut self.last_known_elr, &change.last_known_elr);
        if let Some(directories) = &change.directories {
            self.directories.clone_from(directories);
        }
        if change.leader != NO_LEADER_CHANGE {
            self.leader = change.leader;
            self.leader_epoch = self.leader_epoch.saturating_add(1);
        }
        if change.leader_recovery_state >= 0 {
            self.leader_recovery_state = recovery_state(change.leader_recovery_state);
        }
        self.partition_epoch = self.partition_epoch.saturating_add(1);
    }
}

fn recovery_state(code: i8) -> LeaderRecoveryState {
    if code == 1 { LeaderRecoveryState::Recovering } else { LeaderRecoveryState::Recovered }
}

/// A topic and its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its id, never used again once the topic is gone.
    pub id: Uuid,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, PartitionRegistration>,
}

/// All topics. A clone shares every topic that is not changed afterwards.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Topics {
    by_name: BTreeMap<TopicName, Arc<Topic>>,
    names: HashMap<Uuid, TopicName>,
    partitions: usize,
}

impl Topics {
    /// The topic of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many partitions they have together.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    pub(super) fn insert(&mut self, name: TopicName, id: Uuid) -> bool {
        if self.by_name.contains_key(&name) || self.names.contains_key(&id) {
            return false;
        }
        self.names.insert(id, name.clone());
        self.by_name.insert(name.clone(), Arc::new(Topic { name, id, partitions: BTreeMap::new() }));
        true
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_name.remove(&self.names.remove(&id)?)?;
        self.partitions -= topic.partitions.len();
        Some(topic)
    }

    pub(super) fn insert_partition(
        &mut self,
        id: Uuid,
        number: i32,
        partition: PartitionRegistration,
    ) -> bool {
        let Some(topic) = self.topic_mut(id) else { return false };
        let is_new = topic.partitions.insert(number, partition).is_none();
        self.partitions += usize::from(is_new);
        true
    }

    pub(super) fn partition_mut(&mut self, id: Uuid, number: i32) -> Option<&mut PartitionRegistration> {
        self.topic_mut(id)?.partitions.get_mut(&number)
    }

    fn topic_mut(&mut self, id: Uuid) -> Option<&mut Topic> {
        let name = self.names.get(&id)?;
        self.by_name.get_mut(name).map(Arc::make_mut)
    }

    /// Forgets the eligible leaders of one topic, or of all.
    pub(super) fn clear_elr(&mut self, name: Option<&str>) -> bool {
        let clear = |topic: &mut Arc<Topic>| {
            for partition in Arc::make_mut(topic).partitions.values_mut() {
                partition.eligible_leader_replicas.clear();
                partition.last_known_elr.clear();
            }
        };
        match name {
            Some(name) => self.by_name.get_mut(name).map(clear).is_some(),
            None => {
                self.by_name.values_mut().for_each(clear);
                true
            }
        }
    }
}
