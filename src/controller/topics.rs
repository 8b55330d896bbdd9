//! CreateTopics, decided: names, counts, replicas, settings; one atomic batch of records for one request.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::TopicConfig;
use crate::metadata::{ConfigResourceType, Image, MetadataRecord};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use crate::protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::topic_record::TopicRecord;
use crate::protocol::{ErrorCode, Str};
use crate::types::{TopicName, Uuid};

use super::decision::{Answer, Context, Decision, Refusal, SETTINGS_BYTES_MAX, check_text, repeated};
use super::placement::{check_manual, default_directory, is_active, place};

/// The most partitions that one request may make: they stand in one batch.
pub(super) const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

const METADATA_TOPIC: &str = "__cluster_metadata";

/// Decides on a whole request. Topics are independent: one that is refused does not stop the others.
pub(super) fn create(
    context: &mut Context<'_>,
    request: &CreateTopicsRequest,
) -> Decision<CreateTopicsResponse> {
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    let twice = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    let too_large = check_size(request, context.config.num_partitions).err();
    let mut answered = BTreeSet::new();
    for topic in &request.topics {
        let outcome = match (&too_large, twice.contains(topic.name.as_str())) {
            // One answer stands for all entries of the name.
            (_, true) if !answered.insert(topic.name.as_str()) => continue,
            (_, true) => {
                Err(Refusal::new(ErrorCode::InvalidRequest, "Found multiple entries for this topic."))
            }
            (Some(refusal), _) => Err(refusal.clone()),
            _ => create_one(context, topic, request.validate_only),
        };
        topics.push(match outcome {
            Ok((mut made, result)) => {
                records.append(&mut made);
                result
            }
            Err(refusal) => refused(&topic.name, &refusal),
        });
    }
    Decision { records, answer: CreateTopicsResponse { topics, ..CreateTopicsResponse::default() } }
}

fn check_size(request: &CreateTopicsRequest, default_partitions: i32) -> Result<(), Refusal> {
    let mut partitions = 0;
    let mut bytes = 0;
    for topic in &request.topics {
        partitions += match (topic.assignments.len(), topic.num_partitions) {
            (0, -1) => i64::from(default_partitions),
            (0, count) => i64::from(count.max(0)),
            (assigned, _) => assigned as i64,
        };
        let size = |value: &Option<Str>| value.as_ref().map_or(0, |value| value.len());
        bytes += topic.configs.iter().map(|config| config.name.len() + size(&config.value)).sum::<usize>();
    }
    if partitions > PARTITIONS_PER_REQUEST_MAX || bytes > SETTINGS_BYTES_MAX {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!(
                "Excessively large number of partitions per request: {partitions} with {bytes} bytes of settings; \
                 {PARTITIONS_PER_REQUEST_MAX} and {SETTINGS_BYTES_MAX} are the most."
            ),
        ));
    }
    Ok(())
}

type Made = (Vec<MetadataRecord>, CreatableTopicResult);

fn create_one(
    context: &mut Context<'_>,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<Made, Refusal> {
    let name = check_name(context.image(), &topic.name)?;
    let settings = check_settings(context, topic)?;
    let replicas = choose_replicas(context, topic)?;
    let topic_id = if validate_only { Uuid::ZERO } else { (context.draw_id)() };
    let records = topic_records(context.image(), &name, topic_id, &settings, &replicas);
    let result = CreatableTopicResult {
        name: topic.name.clone(),
        topic_id,
        num_partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
        replication_factor: replicas
            .first()
            .map_or(-1, |first| i16::try_from(first.len()).unwrap_or(i16::MAX)),
        configs: Some(described(context, &settings)),
        ..CreatableTopicResult::default()
    };
    if validate_only {
        return Ok((Vec::new(), result));
    }
    for record in &records {
        context.builder.apply(record.clone())?;
    }
    Ok((records, result))
}

/// Legal, free, and not so like another that metric systems would take them for one.
fn check_name(image: &Image, name: &str) -> Result<TopicName, Refusal> {
    let name = TopicName::new(name)
        .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
    if name.as_str() == METADATA_TOPIC {
        let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if image.topic(name.as_str()).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    if let Some(other) = colliding(image, name.as_str()) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
    }
    Ok(name)
}

/// An existing topic whose name differs only in `.` and `_`.
fn colliding<'a>(image: &'a Image, name: &str) -> Option<&'a TopicName> {
    let folded = |byte: u8| if byte == b'.' { b'_' } else { byte };
    if !name.contains(['.', '_']) {
        return None;
    }
    let same =
        |other: &str| other.len() == name.len() && other.bytes().map(folded).eq(name.bytes().map(folded));
    image.topics().iter().map(|topic| &topic.name).find(|other| same(other.as_str()))
}

fn check_settings(
    context: &Context<'_>,
    topic: &CreatableTopic,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut settings = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        check_text(&config.name, value)?;
        settings.insert(config.name.to_string(), value.to_string());
    }
    TopicConfig::check(context.config, &settings)?;
    Ok(settings)
}

fn choose_replicas(context: &mut Context<'_>, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if !topic.assignments.is_empty() {
        return manual_replicas(context.image(), topic);
    }
    let partitions = match topic.num_partitions {
        -1 => context.config.num_partitions,
        count => count,
    };
    let factor = match topic.replication_factor {
        -1 => context.config.default_replication_factor,
        factor => factor,
    };
    if partitions <= 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    if factor <= 0 {
        let message = "Replication factor was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let (partitions, factor) = (partitions.unsigned_abs() as usize, usize::from(factor.unsigned_abs()));
    place(context.builder.image(), partitions, factor, context.next_start)
}

fn manual_replicas(image: &Image, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if topic.replication_factor != -1 || topic.num_partitions != -1 {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions and replicationFactor were not both \
             set to -1.",
        ));
    }
    let mut by_number = BTreeMap::new();
    for assignment in &topic.assignments {
        let factor = by_number.values().next().map(|replicas: &&Vec<i32>| replicas.len());
        check_manual(image, assignment.partition_index, &assignment.broker_ids, factor)?;
        if by_number.insert(assignment.partition_index, &assignment.broker_ids).is_some() {
            let message = format!(
                "Found multiple manual partition assignments for partition {}",
                assignment.partition_index
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if !by_number.keys().copied().eq(0..topic.assignments.len() as i32) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(by_number.into_values().cloned().collect())
}

fn topic_records(
    image: &Image,
    name: &TopicName,
    topic_id: Uuid,
    settings: &BTreeMap<String, String>,
    replicas: &[Vec<i32>],
) -> Vec<MetadataRecord> {
    let mut records = Vec::with_capacity(1 + settings.len() + replicas.len());
    let record = TopicRecord { name: name.as_str().into(), topic_id, ..TopicRecord::default() };
    records.push(record.into());
    for (key, value) in settings {
        let record = ConfigRecord {
            resource_type: ConfigResourceType::Topic.id(),
            resource_name: name.as_str().into(),
            name: key.as_str().into(),
            value: Some(value.as_str().into()),
            ..ConfigRecord::default()
        };
        records.push(record.into());
    }
    for (number, replicas) in (0..).zip(replicas) {
        records.push(new_partition(image, topic_id, number, replicas).into());
    }
    records
}

/// A partition's first registration: in sync is who is up, and the first of those leads.
pub(super) fn new_partition(image: &Image, topic_id: Uuid, number: i32, replicas: &[i32]) -> PartitionRecord {
    let isr: Vec<i32> = replicas.iter().copied().filter(|replica| is_active(image, *replica)).collect();
    PartitionRecord {
        partition_id: number,
        topic_id,
        replicas: replicas.to_vec(),
        leader: isr.first().copied().unwrap_or(-1),
        isr,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: replicas.iter().map(|replica| default_directory(image, *replica)).collect(),
        ..PartitionRecord::default()
    }
}

fn described(context: &Context<'_>, settings: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let describe = |config: crate::config::DescribedConfig| CreatableTopicConfigs {
        name: config.name.into(),
        value: config.value.map(Into::into),
        read_only: config.read_only,
        config_source: config.source.id(),
        is_sensitive: config.is_sensitive,
        ..CreatableTopicConfigs::default()
    };
    context.config.describe_topic(settings).into_iter().map(describe).collect()
}

fn refused(name: &Str, refusal: &Refusal) -> CreatableTopicResult {
    let (error_code, error_message) = refusal.fields();
    CreatableTopicResult {
        name: name.clone(),
        error_code,
        error_message,
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

impl Answer for CreateTopicsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        for topic in self.topics.iter_mut().filter(|topic| topic.error_code == 0) {
            *topic = refused(&topic.name, refusal);
        }
    }

    fn codes(&self) -> Vec<i16> {
        self.topics.iter().map(|item| item.error_code).collect()
    }
}
