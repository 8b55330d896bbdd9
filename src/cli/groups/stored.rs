//! Groups as a directory's `__consumer_offsets` has them, without a server: what was committed, and who was in a group
//! when its last record was written.
//!
//! Records count in the order of their partition; those of a transaction count from its commit on, or never.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use bytes::Bytes;

use crate::cli::directory::Directory;
use crate::client::{Committed, read_assignment, read_subscribed_topics};
use crate::coordinator::{ForeignKind, GroupRecord};
use crate::protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use crate::record::{ControlKey, ControlType, InflateLimits, Scratch, batches};
use crate::types::{TopicName, TopicPartition};

use super::view::{GroupView, Listed, MemberView};

const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// So much is read at once.
const READ_BYTES: usize = 1 << 20;

/// One group's state.
#[derive(Debug, Default)]
pub(super) struct StoredGroup {
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
    classic: Option<GroupMetadataValue>,
    /// The epoch of a group of type `consumer`.
    epoch: Option<i32>,
    assignment_epoch: Option<i32>,
    members: BTreeMap<String, MemberView>,
    /// What members have, by topic ids until all is read.
    foreign: Option<ForeignKind>,
}

/// All groups of a directory.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) directory: Directory,
    pub(super) groups: BTreeMap<String, StoredGroup>,
}

impl Stored {
    /// Reads every partition of the topic that is here.
    pub(super) fn read(directory: Directory) -> anyhow::Result<Self> {
        let mut stored = Self { directory, groups: BTreeMap::new() };
        let topic = TopicName::new(OFFSETS_TOPIC)?;
        for number in stored.directory.partitions_of(OFFSETS_TOPIC).unwrap_or_default() {
            let partition = TopicPartition::new(topic.clone(), number);
            stored.read_partition(&partition).with_context(|| partition.to_string())?;
        }
        stored.groups.retain(|_, group| !group.is_nothing());
        Ok(stored)
    }

    fn read_partition(&mut self, partition: &TopicPartition) -> anyhow::Result<()> {
        let Some(log) = self.directory.log(partition)? else { return Ok(()) };
        let end = self.directory.end_offset(partition, &log)?;
        let mut cursor = log.cursor(log.log_start_offset()?);
        let mut scratch = Scratch::new();
        // What transactions hold back, by producer.
        let mut pending: HashMap<i64, Vec<GroupRecord>> = HashMap::new();
        while let Some(bytes) = cursor.read(READ_BYTES, end)? {
            for batch in batches(&bytes) {
                let batch = batch?;
                let at = batch.header.base_offset;
                batch.check_crc().with_context(|| format!("offset {at}"))?;
                let producer = batch.header.producer_id.0;
                let mut records = batch.records(&InflateLimits::default(), &mut scratch)?;
                while let Some(record) = records.next() {
                    let record = record.with_context(|| format!("offset {at}"))?;
                    if batch.header.is_control() {
                        let held = pending.remove(&producer).unwrap_or_default();
                        let key = record.key.and_then(ControlKey::parse);
                        if key.is_some_and(|key| key.kind == ControlType::Commit) {
                            held.into_iter().for_each(|record| self.apply(record));
                        }
                        continue;
                    }
                    let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
                    let (key, value) = (owned(record.key), owned(record.value));
                    let decoded = GroupRecord::decode(key.as_ref(), value.as_ref());
                    let decoded = decoded.with_context(|| format!("offset {}", record.offset))?;
                    match batch.header.is_transactional() {
                        true => pending.entry(producer).or_default().push(decoded),
                        false => self.apply(decoded),
                    }
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                let Ok(topic) = TopicName::new(&key.topic) else { return };
                let offsets = &mut self.group(&key.group).offsets;
                let partition = TopicPartition::new(topic, key.partition);
                match value {
                    Some(value) => {
                        let committed = Committed {
                            offset: value.offset,
                            leader_epoch: value.leader_epoch,
                            metadata: value.metadata.to_string(),
                        };
                        offsets.insert(partition, committed);
                    }
                    None => {
                        offsets.remove(&partition);
                    }
                }
            }
            GroupRecord::GroupMetadata(key, value) => self.group(&key.group).classic = value,
            GroupRecord::ConsumerGroupMetadata(key, value) => {
                self.group(&key.group_id).epoch = value.map(|value| value.epoch);
            }
            GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, value) => {
                self.group(&key.group_id).assignment_epoch = value.map(|value| value.assignment_epoch);
            }
            GroupRecord::ConsumerGroupMemberMetadata(key, value) => {
                let members = &mut self.group(&key.group_id).members;
                let Some(value) = value else {
                    members.remove(&*key.member_id);
                    return;
                };
                let member = members.entry(key.member_id.to_string()).or_default();
                member.member = key.member_id.to_string();
                member.instance = value.instance_id.as_ref().map(ToString::to_string);
                member.client = value.client_id.to_string();
                member.host = value.client_host.to_string();
                member.rack = value.rack_id.as_ref().map(ToString::to_string);
                let is_classic = value.classic_member_metadata.is_some();
                member.protocol = Some(if is_classic { "classic" } else { "consumer" });
                member.topics = value.subscribed_topic_names.iter().map(ToString::to_string).collect();
                member.regex =
                    value.subscribed_topic_regex.as_deref().filter(|r| !r.is_empty()).map(str::to_owned);
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, value) => {
                let named: BTreeMap<String, Vec<i32>> = value
                    .iter()
                    .flat_map(|value| &value.assigned_partitions)
                    .filter_map(|topic| Some((self.name_of(topic.topic_id)?, topic.partitions.clone())))
                    .collect();
                let Some(value) = value else { return };
                let members = &mut self.group(&key.group_id).members;
                if let Some(member) = members.get_mut(&*key.member_id) {
                    (member.epoch, member.assignment) = (Some(value.member_epoch), named);
                }
            }
            GroupRecord::ForeignGroup { kind, group_id, exists } => {
                self.group(&group_id).foreign = exists.then_some(kind);
            }
            _ => {}
        }
    }

    fn group(&mut self, name: &str) -> &mut StoredGroup {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn name_of(&self, id: crate::types::Uuid) -> Option<String> {
        let topics = self.directory.image()?.topics();
        topics.iter().find(|topic| topic.id == id).map(|topic| topic.name.to_string())
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = self.groups.iter().map(|(name, group)| Listed {
            group: name.clone(),
            kind: group.kind().to_owned(),
            state: group.state().to_owned(),
            protocol_type: match group.kind() {
                "classic" => group.classic.as_ref().map(|c| c.protocol_type.to_string()).unwrap_or_default(),
                kind => kind.to_owned(),
            },
            coordinator: None,
        });
        listed.collect()
    }

    pub(super) fn describe(&self, name: &str) -> Option<GroupView> {
        let group = self.groups.get(name)?;
        let classic = group.classic.as_ref();
        let is_consumer = group.epoch.is_some();
        Some(GroupView {
            group: name.to_owned(),
            kind: group.kind(),
            state: group.state().to_owned(),
            assignor: classic
                .and_then(|classic| classic.protocol.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            coordinator: None,
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            members: match is_consumer {
                true => group.members.values().cloned().collect(),
                false => classic.iter().flat_map(|classic| &classic.members).map(classic_member).collect(),
            },
        })
    }
}

impl StoredGroup {
    /// Whether everything about it has been forgotten.
    fn is_nothing(&self) -> bool {
        self.offsets.is_empty() && self.classic.is_none() && self.epoch.is_none() && self.foreign.is_none()
    }

    fn kind(&self) -> &'static str {
        match self.foreign {
            Some(ForeignKind::Share) => "share",
            Some(ForeignKind::Streams) => "streams",
            None if self.epoch.is_some() => "consumer",
            None => "classic",
        }
    }

    /// As its coordinator would have it after loading.
    fn state(&self) -> &'static str {
        let has_members = match self.epoch {
            Some(_) => !self.members.is_empty(),
            None => self.classic.as_ref().is_some_and(|classic| !classic.members.is_empty()),
        };
        if has_members { "Stable" } else { "Empty" }
    }
}

fn classic_member(member: &MemberMetadata) -> MemberView {
    let mut view = MemberView {
        member: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        topics: read_subscribed_topics(member.subscription.clone()).unwrap_or_default(),
        ..Default::default()
    };
    for (topic, partition) in read_assignment(member.assignment.clone()).unwrap_or_default() {
        view.assignment.entry(topic.to_string()).or_default().push(partition);
    }
    view
}
