//! DeleteTopics and CreatePartitions, decided.

use std::collections::BTreeSet;

use crate::metadata::{Image, MetadataRecord, Topic};
use crate::protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::decision::{Answer, Context, Decision, Refusal, repeated};
use super::placement::{check_manual, place};
use super::topics::{PARTITIONS_PER_REQUEST_MAX, new_partition};

/// Decides on a whole DeleteTopics request, by name or by id.
pub(super) fn delete(
    context: &mut Context<'_>,
    request: &DeleteTopicsRequest,
) -> Decision<DeleteTopicsResponse> {
    let by_name = |name: &Str| DeleteTopicState { name: Some(name.clone()), ..DeleteTopicState::default() };
    let asked: Vec<DeleteTopicState> =
        request.topics.iter().cloned().chain(request.topic_names.iter().map(by_name)).collect();
    let twice = named_twice(context.image(), &asked);
    let mut records = Vec::new();
    let mut responses = Vec::with_capacity(asked.len());
    for state in asked {
        let mut response = DeletableTopicResult { name: state.name.clone(), ..Default::default() };
        response.topic_id = state.topic_id;
        match delete_one(context, &state, &twice) {
            Ok((name, record)) => {
                (response.name, response.topic_id) = (Some(name), record.topic_id);
                records.push(record.into());
            }
            Err(refusal) => (response.error_code, response.error_message) = refusal.fields(),
        }
        responses.push(response);
    }
    Decision { records, answer: DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() } }
}

/// The topics that a request means more than once, by name or by id: none of them is deleted.
fn named_twice(image: &Image, asked: &[DeleteTopicState]) -> BTreeSet<Uuid> {
    let mut seen = BTreeSet::new();
    let ids = asked.iter().filter_map(|state| find_topic(image, state).ok()).map(|topic| topic.id);
    ids.filter(|id| !seen.insert(*id)).collect()
}

fn delete_one(
    context: &mut Context<'_>,
    state: &DeleteTopicState,
    twice: &BTreeSet<Uuid>,
) -> Result<(Str, RemoveTopicRecord), Refusal> {
    if !context.config.delete_topic_enable {
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, "Topic deletion is disabled."));
    }
    let topic = find_topic(context.image(), state)?;
    let (name, topic_id) = (topic.name.as_str().into(), topic.id);
    if twice.contains(&topic_id) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "The topic stands in the request more than once.",
        ));
    }
    let record = RemoveTopicRecord { topic_id, ..RemoveTopicRecord::default() };
    context.builder.apply(record.clone().into())?;
    Ok((name, record))
}

fn find_topic<'a>(image: &'a Image, state: &DeleteTopicState) -> Result<&'a Topic, Refusal> {
    let refuse = |code, message: &str| Refusal::new(code, message);
    match (&state.name, state.topic_id.is_zero()) {
        (Some(_), false) => {
            Err(refuse(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."))
        }
        (None, true) => Err(refuse(ErrorCode::InvalidRequest, "Neither topic name nor id were specified.")),
        (Some(name), true) => image.topic(name).map(AsRef::as_ref).ok_or_else(unknown_topic),
        (None, false) => image
            .topic_by_id(state.topic_id)
            .map(AsRef::as_ref)
            .ok_or_else(|| refuse(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")),
    }
}

fn unknown_topic() -> Refusal {
    Refusal::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
}

/// Decides on a whole CreatePartitions request.
pub(super) fn create_partitions(
    context: &mut Context<'_>,
    request: &CreatePartitionsRequest,
) -> Decision<CreatePartitionsResponse> {
    let twice = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut answered = BTreeSet::new();
    let mut room = PARTITIONS_PER_REQUEST_MAX;
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut result = CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        let outcome = if twice.contains(topic.name.as_str()) {
            if !answered.insert(topic.name.as_str()) {
                continue;
            }
            Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            add_partitions(context, topic, &mut room, request.validate_only)
        };
        match outcome {
            Ok(mut made) => records.append(&mut made),
            Err(refusal) => (result.error_code, result.error_message) = refusal.fields(),
        }
        results.push(result);
    }
    Decision { records, answer: CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() } }
}

fn add_partitions(
    context: &mut Context<'_>,
    asked: &CreatePartitionsTopic,
    room: &mut i64,
    validate_only: bool,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let topic = context.image().topic(&asked.name).cloned().ok_or_else(unknown_topic)?;
    let has = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    if asked.count == has {
        return refuse(format!("Topic already has {has} partition(s)."));
    }
    if asked.count < has {
        let (name, count) = (&topic.name, asked.count);
        return refuse(format!(
            "The topic {name} currently has {has} partition(s); {count} would not be an increase."
        ));
    }
    let more = (asked.count - has).unsigned_abs() as usize;
    *room -= more as i64;
    if *room < 0 {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!(
                "Excessively large number of partitions per request: {PARTITIONS_PER_REQUEST_MAX} are the most."
            ),
        ));
    }
    let factor = topic.partitions.values().next().map_or(1, |partition| partition.replicas.len());
    let replicas = match &asked.assignments {
        Some(assignments) => {
            if assignments.len() != more {
                let message = format!(
                    "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                );
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            for (number, assignment) in (has..).zip(assignments) {
                check_manual(context.image(), number, &assignment.broker_ids, Some(factor))?;
            }
            assignments.iter().map(|assignment| assignment.broker_ids.clone()).collect()
        }
        None => place(context.builder.image(), more, factor, context.next_start)?,
    };
    if validate_only {
        return Ok(Vec::new());
    }
    let mut records = Vec::with_capacity(replicas.len());
    for (number, replicas) in (has..).zip(&replicas) {
        let record = MetadataRecord::from(new_partition(context.image(), topic.id, number, replicas));
        context.builder.apply(record.clone())?;
        records.push(record);
    }
    Ok(records)
}

impl Answer for DeleteTopicsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        for response in self.responses.iter_mut().filter(|response| response.error_code == 0) {
            (response.error_code, response.error_message) = refusal.fields();
        }
    }

    fn codes(&self) -> Vec<i16> {
        self.responses.iter().map(|item| item.error_code).collect()
    }
}

impl Answer for CreatePartitionsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        for result in self.results.iter_mut().filter(|result| result.error_code == 0) {
            (result.error_code, result.error_message) = refusal.fields();
        }
    }

    fn codes(&self) -> Vec<i16> {
        self.results.iter().map(|item| item.error_code).collect()
    }
}
