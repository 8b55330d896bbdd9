//! A group as its coordinator knows it: who that is, and the offsets that are committed there.
//!
//! Reading and committing find the coordinator anew where it has moved, and wait where it is still loading. A commit
//! that the coordinator took is never sent again; one whose answer was lost may be, which changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::net::outgoing::{Connection, Pending};
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::protocol::messages::offset_fetch_response::OffsetFetchResponse;
use crate::protocol::{ErrorCode, Request, Str};
use crate::types::{BrokerId, TopicName, TopicPartition, Uuid};

use super::super::cluster::{Cluster, Lane};
use super::super::error::{BrokerError, ClientError};
use super::Identity;

/// The last versions that name topics by their names; behind them topics have their ids alone, so that nothing is
/// committed to another topic of the same name.
const NAMES_UP_TO: i16 = 9;
/// The first FindCoordinator, and OffsetFetch, that ask for several at once.
const FIND_SEVERAL_FROM: i16 = 4;
const FETCH_SEVERAL_FROM: i16 = 8;
/// The first OffsetFetch that takes "all partitions", and the first that waits for transactions.
const FETCH_ALL_FROM: i16 = 2;
const FETCH_STABLE_FROM: i16 = 7;

/// An offset that a group has committed, or shall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The epoch of the record before it; -1 where that is not known.
    pub leader_epoch: i32,
    /// What was committed with it.
    pub metadata: String,
}

/// What a group has committed; each partition may fail alone.
pub type CommittedOffsets = BTreeMap<TopicPartition, Result<Committed, ErrorCode>>;

/// A group at its coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    cluster: Cluster,
    id: Arc<str>,
    coordinator: Arc<Mutex<Option<BrokerId>>>,
}

impl Group {
    /// The group called `id`, whether it exists or not.
    #[must_use]
    pub fn new(cluster: &Cluster, id: &str) -> Self {
        Self { cluster: cluster.clone(), id: id.into(), coordinator: Arc::default() }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cluster that it lives in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The broker that coordinates it, as far as is known; found where it is not.
    ///
    /// # Errors
    /// Where no broker says, in [`super::super::ClientOptions::api_timeout`].
    pub async fn coordinator(&self) -> Result<BrokerId, ClientError> {
        let known = *self.coordinator.lock();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.cluster.retrying(|| self.find()).await?;
        *self.coordinator.lock() = Some(found);
        Ok(found)
    }

    /// The same without patience: one question.
    pub(super) async fn coordinator_at_once(&self) -> Result<BrokerId, ClientError> {
        let known = *self.coordinator.lock();
        match known {
            Some(known) => Ok(known),
            None => {
                let found = self.find().await?;
                *self.coordinator.lock() = Some(found);
                Ok(found)
            }
        }
    }

    /// Forgets who coordinates: it turned out to be another, or cannot be reached.
    pub fn forget_coordinator(&self) {
        *self.coordinator.lock() = None;
    }

    async fn find(&self) -> Result<BrokerId, ClientError> {
        let connection = self.cluster.home().await?;
        let version = connection.version_of::<FindCoordinatorRequest>(i16::MAX)?;
        let key: Str = (&*self.id).into();
        let request = match version >= FIND_SEVERAL_FROM {
            true => FindCoordinatorRequest { coordinator_keys: vec![key], ..Default::default() },
            false => FindCoordinatorRequest { key, ..Default::default() },
        };
        let timeout = self.cluster.patience_with_any(FindCoordinatorRequest::KEY);
        let response = connection.start(&request, version, timeout)?.answer().await?;
        let (code, message, node) = match response.coordinators.first() {
            Some(found) => (found.error_code, found.error_message.as_deref(), found.node_id),
            None => (response.error_code, response.error_message.as_deref(), response.node_id),
        };
        BrokerError::check(code, || self.about(), message.filter(|_| code != 15))?;
        let node = BrokerId(node);
        if !self.cluster.latest().brokers.contains_key(&node) {
            self.cluster.metadata(super::super::metadata::Topics::None).await?;
        }
        Ok(node)
    }

    /// A connection to the coordinator.
    pub(super) async fn connection(&self, lane: Lane) -> Result<Connection, ClientError> {
        let coordinator = self.coordinator_at_once().await?;
        let connection = self.cluster.connection(coordinator, lane).await;
        if connection.is_err() {
            self.forget_coordinator();
        }
        connection
    }

    /// What the coordinator answers at the other end of `connection`; see [`Cluster::answer`].
    pub(super) async fn answer<R: Request>(
        &self,
        connection: &Connection,
        pending: Pending<R>,
    ) -> Result<R::Response, ClientError> {
        let known = *self.coordinator.lock();
        Ok(match known {
            Some(coordinator) => self.cluster.answer((coordinator, connection), pending.answer()).await?,
            None => pending.answer().await?,
        })
    }

    /// Asks the coordinator, wherever it is by now, until it answers with another code than "not I" or "not yet".
    ///
    /// # Errors
    /// The last attempt's, after [`super::super::ClientOptions::api_timeout`]. Codes that are final are answers.
    pub async fn ask<R: Request>(
        &self,
        request: impl Fn(i16) -> R,
        version_max: i16,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let attempt = async || {
            let connection = self.connection(Lane::Requests).await?;
            let version = connection.version_of::<R>(version_max)?;
            let timeout = self.cluster.options().request_timeout;
            let pending = connection.start(&request(version), version, timeout)?;
            let response = self.answer(&connection, pending).await?;
            match ErrorCode::from_wire(code(&response)) {
                code @ (ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::UnstableOffsetCommit) => {
                    Err(BrokerError { code, about: self.about(), message: None }.into())
                }
                _ => Ok(response),
            }
        };
        let outcome = self.cluster.retrying(async || {
            let outcome = attempt().await;
            if outcome.as_ref().is_err_and(ClientError::is_retriable) {
                self.forget_coordinator();
            }
            outcome
        });
        outcome.await
    }

    /// What is committed for `partitions`, or for all that have a commit; partitions without one are left out.
    /// With `stable` it waits until transactions that commit offsets have ended.
    ///
    /// # Errors
    /// The group's own error, or that nobody answers.
    pub async fn committed(
        &self,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
    ) -> Result<CommittedOffsets, ClientError> {
        let ids = match partitions {
            Some(partitions) => self.topic_ids(partitions.iter()).await,
            // Of all partitions of the group the answer would name none.
            None => TopicIds::default(),
        };
        let found = self.committed_by(partitions, stable, &ids).await?;
        if !found.values().any(|found| matches!(found, Err(ErrorCode::UnknownTopicId))) {
            return Ok(found);
        }
        // A topic is another by now.
        ids.keys().for_each(|name| self.cluster.forget_topic(name));
        self.committed_by(partitions, stable, &TopicIds::default()).await
    }

    async fn committed_by(
        &self,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
        ids: &TopicIds,
    ) -> Result<CommittedOffsets, ClientError> {
        let request = |version| self.fetch_request(version, partitions, stable, ids);
        let response = self.ask(request, version_max(ids), first_fetch_error).await?;
        BrokerError::check(first_group_error(&response), || self.about(), None)?;
        Ok(committed_of(&response, ids))
    }

    /// The ids of all these topics; none at all where one has none, or is not there.
    async fn topic_ids(&self, partitions: impl Iterator<Item = &TopicPartition>) -> TopicIds {
        let mut ids = TopicIds::new();
        for partition in partitions {
            let name = partition.topic.as_str();
            if ids.contains_key(name) {
                continue;
            }
            match self.cluster.topic(name, false).await {
                Ok(topic) if !topic.id.is_zero() => ids.insert(name.into(), topic.id),
                _ => return TopicIds::new(),
            };
        }
        ids
    }

    fn fetch_request(
        &self,
        version: i16,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
        ids: &TopicIds,
    ) -> OffsetFetchRequest {
        let topics = partitions.map(by_topic);
        let require_stable = stable && version >= FETCH_STABLE_FROM;
        if version < FETCH_SEVERAL_FROM {
            let topics = topics.map(|topics| {
                let topic = |(name, partition_indexes)| OffsetFetchRequestTopic {
                    name,
                    partition_indexes,
                    ..Default::default()
                };
                topics.into_iter().map(topic).collect()
            });
            let topics = topics.or((version < FETCH_ALL_FROM).then(Vec::new));
            return OffsetFetchRequest {
                group_id: (&*self.id).into(),
                topics,
                require_stable,
                ..Default::default()
            };
        }
        let topics = topics.map(|topics| {
            let topic = |(name, partition_indexes): (Str, _)| OffsetFetchRequestTopics {
                topic_id: ids.get(&*name).copied().unwrap_or_default(),
                name,
                partition_indexes,
                ..Default::default()
            };
            topics.into_iter().map(topic).collect()
        });
        let group = OffsetFetchRequestGroup { group_id: (&*self.id).into(), topics, ..Default::default() };
        OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() }
    }

    /// Commits `offsets` as the member that `identity` says, or as nobody's member (a tool's commit, which an active
    /// group refuses). Returns what became of each partition.
    ///
    /// # Errors
    /// That nobody answers.
    pub async fn commit(
        &self,
        identity: &Identity,
        offsets: &BTreeMap<TopicPartition, Committed>,
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>, ClientError> {
        if offsets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids = self.topic_ids(offsets.keys()).await;
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, committed) in offsets {
            topics.entry(partition.topic.as_str()).or_default().push(OffsetCommitRequestPartition {
                partition_index: partition.partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                committed_metadata: Some(committed.metadata.as_str().into()),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            topic_id: ids.get(name).copied().unwrap_or_default(),
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: (&*self.id).into(),
            generation_id_or_member_epoch: identity.generation_or_epoch,
            member_id: identity.member_id.clone(),
            group_instance_id: identity.instance_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        };
        let code = |response: &crate::protocol::messages::offset_commit_response::OffsetCommitResponse| {
            let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
            codes.next().map_or(0, |partition| partition.error_code)
        };
        let response = self.ask(|_| request.clone(), version_max(&ids), code).await?;
        let mut outcomes = BTreeMap::new();
        for topic in &response.topics {
            let Ok(name) = TopicName::new(name_of(&topic.name, topic.topic_id, &ids)) else { continue };
            for partition in &topic.partitions {
                let code = ErrorCode::from_wire(partition.error_code);
                if code == ErrorCode::UnknownTopicId {
                    self.cluster.forget_topic(name.as_str());
                }
                outcomes.insert(TopicPartition::new(name.clone(), partition.partition_index), code);
            }
        }
        Ok(outcomes)
    }

    pub(super) fn about(&self) -> String {
        format!("group {}", self.id)
    }
}

/// The ids of topics by their names.
type TopicIds = BTreeMap<Box<str>, Uuid>;

fn version_max(ids: &TopicIds) -> i16 {
    if ids.is_empty() { NAMES_UP_TO } else { i16::MAX }
}

/// A topic's name, which an answer may have left to its id.
fn name_of<'a>(name: &'a str, id: Uuid, ids: &'a TopicIds) -> &'a str {
    let by_id = || ids.iter().find(|(_, known)| **known == id).map_or("", |(name, _)| name);
    if name.is_empty() { by_id() } else { name }
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str().into()).or_default().push(partition.partition);
    }
    topics
}

fn first_group_error(response: &OffsetFetchResponse) -> i16 {
    response.groups.first().map_or(response.error_code, |group| group.error_code)
}

/// The group's error, else the first of a partition: a coordinator that loads says so there in old versions.
fn first_fetch_error(response: &OffsetFetchResponse) -> i16 {
    let group = first_group_error(response);
    let mut flat = response.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    let groups = response.groups.iter().flat_map(|group| &group.topics);
    let mut nested = groups.flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    let codes =
        [group, flat.find(|&code| code != 0).unwrap_or(0), nested.find(|&code| code != 0).unwrap_or(0)];
    codes.into_iter().find(|&code| code != 0).unwrap_or(0)
}

fn committed_of(response: &OffsetFetchResponse, ids: &TopicIds) -> CommittedOffsets {
    let flat = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|found| {
            let committed = (found.committed_offset, found.committed_leader_epoch, found.metadata.as_ref());
            (&*topic.name, found.partition_index, committed, found.error_code)
        })
    });
    let nested = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
        topic.partitions.iter().map(|found| {
            let committed = (found.committed_offset, found.committed_leader_epoch, found.metadata.as_ref());
            (name_of(&topic.name, topic.topic_id, ids), found.partition_index, committed, found.error_code)
        })
    });
    let found = flat.chain(nested).filter_map(|(name, partition, (offset, leader_epoch, metadata), code)| {
        let partition = TopicPartition::new(TopicName::new(name).ok()?, partition);
        match ErrorCode::from_wire(code) {
            ErrorCode::None if offset < 0 => None,
            ErrorCode::None => {
                let metadata = metadata.map(ToString::to_string).unwrap_or_default();
                Some((partition, Ok(Committed { offset, leader_epoch, metadata })))
            }
            code => Some((partition, Err(code))),
        }
    });
    found.collect()
}
