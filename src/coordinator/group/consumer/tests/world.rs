//! A shard with a log, a clock and a cluster of topics: what a broker would be around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::GroupSettings;
use crate::coordinator::group::Group;
use crate::coordinator::group::consumer::ConsumerGroup;
use crate::coordinator::{
    Answer, Asked, Client, Effects, GroupRecord, Now, Request, Shard, Surroundings, Token,
};
use crate::metadata::{Image, MetadataRecord};
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::messages::topic_record::TopicRecord;
use crate::types::{LeaderEpoch, Offset, Uuid};

use super::mistakes::Mistake;

/// The one group of most tests.
pub(super) const GROUP: Str = Str::from_static("group");

type Key = Bytes;
type Value = Option<Bytes>;

pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) image: Arc<Image>,
    pub(super) settings: GroupSettings,
    pub(super) now: Now,
    /// Batches of records, as they stand in the log.
    pub(super) log: Vec<(Key, Value)>,
    /// Answers that belong to requests of an earlier call.
    pub(super) late_answers: Vec<(Token, Answer)>,
    /// What its coordinator does wrong.
    pub(super) mistake: Option<Mistake>,
    metadata_offset: i64,
    next_token: u64,
    next_id: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            shard: Shard::new(),
            image: Arc::new(Image::default()),
            settings: GroupSettings::default(),
            now: Now { wall_ms: 1_700_000_000_000, timer_ms: 1_000_000 },
            log: Vec::new(),
            late_answers: Vec::new(),
            mistake: None,
            metadata_offset: 0,
            next_token: 0,
            next_id: 0,
        }
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut Shard, Surroundings<'_>) -> R) -> R {
        let next_id = &mut self.next_id;
        let mut draw_id = || {
            *next_id += 1;
            Uuid(u128::from(*next_id).to_be_bytes())
        };
        let around = Surroundings {
            now: self.now,
            image: &self.image,
            settings: &self.settings,
            record_bytes_max: 1 << 20,
            draw_id: &mut draw_id,
        };
        act(&mut self.shard, around)
    }

    fn append(&mut self, effects: Effects) {
        for record in &effects.records {
            self.log.push(record.encode().unwrap());
        }
        if self.mistake == Some(Mistake::LosesRecords) && self.log.len().is_multiple_of(16) {
            self.log.pop();
        }
        self.late_answers.extend(effects.answers);
    }

    /// Asks, and returns the token with the answer, if it came at once.
    pub(super) fn ask(&mut self, version: i16, request: Request) -> (Token, Option<Answer>) {
        self.next_token += 1;
        let token = Token(self.next_token);
        let client = Client { id: "client".into(), host: "/127.0.0.1".into() };
        let request = self.mistaken(request);
        self.overlook_owners();
        let effects =
            self.call(|shard, around| shard.handle(around, Asked { token, client, version, request }));
        self.remember_owners();
        self.append(effects);
        let at = self.late_answers.iter().position(|(of, _)| *of == token);
        (token, at.map(|at| self.late_answers.swap_remove(at).1))
    }

    pub(super) fn heartbeat(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        match self.ask(1, Request::ConsumerGroupHeartbeat(request)).1 {
            Some(Answer::ConsumerGroupHeartbeat(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass; what becomes due happens on the way.
    pub(super) fn pass(&mut self, ms: i64) {
        let until = self.now.timer_ms + ms;
        while let Some(due) = self.shard.next_deadline_ms().filter(|due| *due <= until) {
            let step = (due - self.now.timer_ms).max(0);
            self.now.timer_ms += step;
            self.now.wall_ms += step;
            match self.call(Shard::tick) {
                Some(effects) => self.append(effects),
                None => break,
            }
        }
        self.now.wall_ms += until - self.now.timer_ms;
        self.now.timer_ms = until;
    }

    fn change_metadata(&mut self, records: Vec<MetadataRecord>) {
        let before = Arc::clone(&self.image);
        let mut builder = self.image.builder();
        self.metadata_offset += 1;
        for record in records {
            builder.apply(record).unwrap();
        }
        self.image = Arc::new(builder.finish(Offset(self.metadata_offset), LeaderEpoch(1)));
        let changes = crate::coordinator::TopicChanges::between(&before, &self.image);
        if self.mistake != Some(Mistake::OverlooksTopics) {
            let effects = self.call(|shard, around| shard.follow(around, &changes));
            self.append(effects);
        }
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: i32) -> Uuid {
        self.next_id += 1;
        let topic_id = Uuid(u128::from(self.next_id).to_be_bytes());
        let mut records = vec![TopicRecord { name: name.into(), topic_id, ..Default::default() }.into()];
        records.extend((0..partitions).map(|partition| partition_record(topic_id, partition)));
        self.change_metadata(records);
        topic_id
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        let topic_id = self.image.topic(name).unwrap().id;
        self.change_metadata(vec![RemoveTopicRecord { topic_id, ..Default::default() }.into()]);
    }

    pub(super) fn add_partitions(&mut self, name: &str, count: i32) {
        let topic = Arc::clone(self.image.topic(name).unwrap());
        let first = i32::try_from(topic.partitions.len()).unwrap();
        let added = (first..first + count).map(|partition| partition_record(topic.id, partition));
        self.change_metadata(added.collect());
    }

    pub(super) fn group(&self) -> Option<&Group> {
        self.shard.group(&GROUP)
    }

    pub(super) fn consumer_group(&self) -> Option<&ConsumerGroup> {
        match self.group() {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }

    /// What the log from here on says, as text.
    pub(super) fn records_since(&self, start: usize) -> Vec<GroupRecord> {
        let records = self.log[start..].iter();
        records.map(|(key, value)| GroupRecord::decode(Some(key), value.as_ref()).unwrap()).collect()
    }

    /// What a shard knows that has loaded these records.
    pub(super) fn loaded_from<'a>(records: impl Iterator<Item = (&'a Key, &'a Value)>) -> Shard {
        let mut shard = Shard::new();
        for (offset, (key, value)) in (0..).zip(records) {
            shard.replay(Offset(offset), &GroupRecord::decode(Some(key), value.as_ref()).unwrap(), None);
        }
        shard
    }

    /// The last record of each key, in the order of the log: what compaction leaves, tombstones included.
    pub(super) fn compacted(&self) -> Vec<(Key, Value)> {
        let last: BTreeMap<&Key, usize> =
            self.log.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
        let is_last = |(at, (key, _)): &(usize, &(Key, Value))| last[key] == *at;
        self.log.iter().enumerate().filter(is_last).map(|(_, record)| record.clone()).collect()
    }

    /// The shard is loaded from its log, be it a compacted one; requests that waited are lost.
    pub(super) fn reload(&mut self) {
        if self.mistake == Some(Mistake::ReplaysOutOfOrder) {
            self.log.chunks_mut(2).for_each(<[_]>::reverse);
        }
        self.shard = Self::loaded_from(self.log.iter().map(|(key, value)| (key, value)));
        let effects = self.call(Shard::loaded);
        self.append(effects);
    }
}

fn partition_record(topic_id: Uuid, partition_id: i32) -> MetadataRecord {
    PartitionRecord {
        partition_id,
        topic_id,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        directories: vec![Uuid::ONE],
        ..PartitionRecord::default()
    }
    .into()
}

/// Everything about a group that is in records, as text.
pub(super) fn recorded(group: Option<&Group>) -> String {
    match group {
        Some(Group::Consumer(group)) => {
            let epochs: BTreeMap<_, _> = group.partition_epochs.iter().collect();
            format!(
                "{} {} {} {} {} {:#?} {:#?} {:?} {:?} {:?} {:?} {:?} {} {:?} {epochs:?}",
                group.id,
                group.group_epoch,
                group.metadata_hash,
                group.assignment_epoch,
                group.assignment_timestamp_ms,
                group.members,
                group.targets,
                group.static_members,
                group.topics,
                group.assignors,
                group.patterns,
                group.resolved,
                group.classic_members,
                group.classic_protocols,
            )
        }
        Some(Group::Classic(group)) => {
            let members: Vec<_> =
                group.members.values().map(|member| (&member.id, &member.assignment)).collect();
            format!("{} {} {:?} {:?}", group.id, group.generation, group.leader, members)
        }
        other => format!("{other:?}"),
    }
}
