//! OffsetCommit (8), OffsetFetch (9), OffsetDelete (47): topics are found in the image first, by name or by id.

use std::collections::HashMap;
use std::sync::Arc;

use super::membership::failure;
use super::{Asking, Outcome, answer, answer_all, client_of};
use crate::coordinator::{Answer, Request};
use crate::metadata::Image;
use crate::net::Reply;
use crate::protocol::messages::offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestTopic};
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestTopic};
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::server::call::Call;
use crate::server::node::Node;

/// From these versions on topics are named by id.
const TOPIC_IDS_FROM: i16 = 10;
/// From this version on OffsetFetch asks for several groups.
const MANY_GROUPS_FROM: i16 = 8;
/// From this version on OffsetFetch has an error for the whole.
const TOP_LEVEL_ERROR_FROM: i16 = 2;

/// OffsetCommit, versions 2 to 10.
///
/// # Errors
/// The request is malformed.
pub fn commit(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let mut request: OffsetCommitRequest = call.decode()?;
    let image = node.groups.newest_image(node);
    let by_id = call.version >= TOPIC_IDS_FROM;
    let mut response = OffsetCommitResponse::default();
    let mut known = Vec::with_capacity(request.topics.len());
    for mut topic in std::mem::take(&mut request.topics) {
        if by_id && let Some(found) = image.topic_by_id(topic.topic_id) {
            topic.name = Str::from(found.name.as_str());
        }
        split_commit(&image, by_id, topic, &mut known, &mut response.topics);
    }
    request.topics = known;
    if request.topics.is_empty() {
        return Ok(call.reply(&response));
    }
    let names: Vec<OffsetCommitRequestTopic> = request.topics.clone();
    let group_id = request.group_id.clone();
    let asking =
        node.groups.ask(node, &group_id, client_of(&call), call.version, Request::OffsetCommit(request));
    Ok(answer(call, asking, move |outcome: Outcome| {
        let answered = match outcome {
            Ok(Answer::OffsetCommit(answered)) => answered.topics,
            outcome => refuse_commit(&names, failure(&outcome)),
        };
        response.topics = merged(response.topics, answered);
        response
    }))
}

/// Sorts a topic's partitions into those that are there and those that are refused.
fn split_commit(
    image: &Image,
    by_id: bool,
    topic: OffsetCommitRequestTopic,
    known: &mut Vec<OffsetCommitRequestTopic>,
    refused: &mut Vec<OffsetCommitResponseTopic>,
) {
    let missing = match by_id && topic.name.is_empty() {
        true => ErrorCode::UnknownTopicId,
        false => ErrorCode::UnknownTopicOrPartition,
    };
    let found = image.topic(&topic.name);
    let OffsetCommitRequestTopic { name, topic_id, partitions, .. } = topic;
    let (there, absent): (Vec<_>, Vec<_>) = partitions
        .into_iter()
        .partition(|asked| found.is_some_and(|found| found.partitions.contains_key(&asked.partition_index)));
    // A topic that is not there is answered for, even if nothing was asked about it.
    if !absent.is_empty() || found.is_none() {
        let refuse = |index: i32| OffsetCommitResponsePartition {
            partition_index: index,
            error_code: missing.code(),
            ..OffsetCommitResponsePartition::default()
        };
        refused.push(OffsetCommitResponseTopic {
            name: name.clone(),
            topic_id,
            partitions: absent.iter().map(|asked| refuse(asked.partition_index)).collect(),
            ..OffsetCommitResponseTopic::default()
        });
    }
    if !there.is_empty() {
        known.push(OffsetCommitRequestTopic {
            name,
            topic_id,
            partitions: there,
            ..OffsetCommitRequestTopic::default()
        });
    }
}

fn refuse_commit(topics: &[OffsetCommitRequestTopic], error_code: i16) -> Vec<OffsetCommitResponseTopic> {
    let refuse = |topic: &OffsetCommitRequestTopic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|asked| OffsetCommitResponsePartition {
                partition_index: asked.partition_index,
                error_code,
                ..OffsetCommitResponsePartition::default()
            })
            .collect(),
        ..OffsetCommitResponseTopic::default()
    };
    topics.iter().map(refuse).collect()
}

/// What was answered, with the partitions that were refused before anybody was asked at their topics.
fn merged(
    refused: Vec<OffsetCommitResponseTopic>,
    mut answered: Vec<OffsetCommitResponseTopic>,
) -> Vec<OffsetCommitResponseTopic> {
    if refused.is_empty() {
        return answered;
    }
    let index =
        |(index, topic): (usize, &OffsetCommitResponseTopic)| ((topic.name.clone(), topic.topic_id), index);
    let known: HashMap<_, _> = answered.iter().enumerate().map(index).collect();
    for topic in refused {
        match known.get(&(topic.name.clone(), topic.topic_id)) {
            Some(index) => answered[*index].partitions.extend(topic.partitions),
            None => answered.push(topic),
        }
    }
    answered
}

/// OffsetFetch, versions 1 to 10.
///
/// # Errors
/// The request is malformed.
pub fn fetch(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let mut request: OffsetFetchRequest = call.decode()?;
    let (version, image) = (call.version, node.image());
    if version < MANY_GROUPS_FROM {
        request.groups = vec![single_group(&request)];
    }
    let require_stable = request.require_stable;
    let client = client_of(&call);
    let asked = request.groups.into_iter().map(|mut group| {
        let unknown = if version >= TOPIC_IDS_FROM { name_topics(&image, &mut group) } else { Vec::new() };
        let plain = group.clone();
        let asking = if group.topics.as_ref().is_some_and(Vec::is_empty) && !unknown.is_empty() {
            Asking::Now(Ok(Answer::OffsetFetch(fetched_nothing(&group, 0))))
        } else {
            let group_id = group.group_id.clone();
            let request = Request::OffsetFetch { group, require_stable };
            node.groups.ask(node, &group_id, client.clone(), version, request)
        };
        ((plain, unknown), asking)
    });
    let asked = asked.collect();
    Ok(answer_all(call, asked, move |outcomes: Vec<((OffsetFetchRequestGroup, Vec<_>), Outcome)>| {
        let groups = outcomes.into_iter().map(|((asked, unknown), outcome)| {
            let mut group = match outcome {
                Ok(Answer::OffsetFetch(group)) => group,
                outcome => fetched_nothing(&asked, failure(&outcome)),
            };
            if version >= TOPIC_IDS_FROM {
                identify_topics(&image, &mut group);
            }
            if group.error_code == 0 {
                group.topics.extend(unknown);
            }
            group
        });
        let groups: Vec<OffsetFetchResponseGroup> = groups.collect();
        if version < MANY_GROUPS_FROM {
            as_single(groups, version)
        } else {
            OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
        }
    }))
}

/// The one group of an old request.
fn single_group(request: &OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.as_ref().map(|topics| {
        let topic = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: topic.partition_indexes.clone(),
            ..OffsetFetchRequestTopics::default()
        });
        topic.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id.clone(),
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

/// Gives topics their names; those that are not there are taken out, and come back refused.
fn name_topics(image: &Image, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = group.topics.take() else { return Vec::new() };
    let mut unknown = Vec::new();
    let mut known = Vec::with_capacity(topics.len());
    for mut topic in topics {
        match image.topic_by_id(topic.topic_id) {
            Some(found) => {
                topic.name = Str::from(found.name.as_str());
                known.push(topic);
            }
            None => unknown.push(nothing_of(&topic, ErrorCode::UnknownTopicId.code())),
        }
    }
    group.topics = Some(known);
    unknown
}

/// Gives topics their ids where all were asked for; those that have none any more are left out.
fn identify_topics(image: &Image, group: &mut OffsetFetchResponseGroup) {
    let ids: HashMap<Str, _> = group
        .topics
        .iter()
        .filter_map(|topic| Some((topic.name.clone(), image.topic(&topic.name)?.id)))
        .collect();
    group.topics.retain_mut(|topic| {
        if topic.topic_id.is_zero() {
            topic.topic_id = ids.get(&topic.name).copied().unwrap_or_default();
        }
        !topic.topic_id.is_zero()
    });
}

fn nothing_of(topic: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let nothing = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::empty()),
        error_code,
        ..OffsetFetchResponsePartitions::default()
    };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(nothing).collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

/// A refused group. Its topics stand in the answer all the same, for versions that have no other place for the
/// error.
fn fetched_nothing(asked: &OffsetFetchRequestGroup, error_code: i16) -> OffsetFetchResponseGroup {
    let topics = asked.topics.iter().flatten().map(|topic| nothing_of(topic, error_code));
    OffsetFetchResponseGroup {
        group_id: asked.group_id.clone(),
        topics: topics.collect(),
        error_code,
        ..OffsetFetchResponseGroup::default()
    }
}

/// The answer to an old request.
fn as_single(groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    let Some(group) = groups.into_iter().next() else { return response };
    if group.error_code != 0 && version >= TOP_LEVEL_ERROR_FROM {
        response.error_code = group.error_code;
    }
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..OffsetFetchResponsePartition::default()
    };
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
        ..OffsetFetchResponseTopic::default()
    });
    response.topics = topics.collect();
    response
}

/// OffsetDelete, version 0.
///
/// # Errors
/// The request is malformed.
pub fn delete(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let mut request: OffsetDeleteRequest = call.decode()?;
    let image = node.image();
    let mut refused = Vec::new();
    let mut known = Vec::new();
    for mut topic in std::mem::take(&mut request.topics) {
        let found = image.topic(&topic.name);
        let mut absent = Vec::new();
        topic.partitions.retain(|asked| {
            let is_there = found.is_some_and(|found| found.partitions.contains_key(&asked.partition_index));
            if !is_there {
                absent.push(OffsetDeleteResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                });
            }
            is_there
        });
        if !absent.is_empty() {
            refused.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: absent });
        }
        if !topic.partitions.is_empty() || found.is_some() {
            known.push(OffsetDeleteRequestTopic { name: topic.name, partitions: topic.partitions });
        }
    }
    request.topics = known;
    let group_id = request.group_id.clone();
    let asking =
        node.groups.ask(node, &group_id, client_of(&call), call.version, Request::OffsetDelete(request));
    Ok(answer(call, asking, move |outcome: Outcome| {
        let mut response = match outcome {
            Ok(Answer::OffsetDelete(response)) => response,
            outcome => {
                OffsetDeleteResponse { error_code: failure(&outcome), ..OffsetDeleteResponse::default() }
            }
        };
        if response.error_code == 0 {
            let topics = &mut response.topics;
            let known: HashMap<_, _> =
                topics.iter().enumerate().map(|(index, topic)| (topic.name.clone(), index)).collect();
            for topic in refused {
                match known.get(&topic.name) {
                    Some(index) => topics[*index].partitions.extend(topic.partitions),
                    None => topics.push(topic),
                }
            }
        }
        response
    }))
}
