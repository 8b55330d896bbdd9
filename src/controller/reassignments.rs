//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455), decided.
//!
//! ```text
//!  asked for [4, 5] where [1, 2] are:  replicas [4, 5, 1, 2], adding [4, 5], removing [1, 2]
//!  4 and 5 are in sync:                replicas [4, 5]          (AlterPartition, in partition_change)
//!  cancelled instead:                  replicas [1, 2]
//! ```
//! A reassignment that is asked for while another is on its way takes its place: what the earlier one was adding and
//! the later one does not want is removed again.

use crate::metadata::{Image, MetadataRecord, PartitionRegistration, Topic};
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use crate::protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::protocol::messages::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::protocol::{ErrorCode, Str};

use super::decision::{Answer, Context, Decision, Refusal};
use super::partition_change::{Election, PartitionChange, may_elect_uncleanly, tracks_eligible};
use super::placement::check_replicas;

/// Decides on a whole request; each partition is answered by itself.
pub(super) fn alter(
    context: &mut Context<'_>,
    request: &AlterPartitionReassignmentsRequest,
) -> Decision<AlterPartitionReassignmentsResponse> {
    let may_change_factor = request.allow_replication_factor_change;
    let mut records = Vec::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut response =
            ReassignableTopicResponse { name: topic.name.clone(), ..ReassignableTopicResponse::default() };
        for asked in &topic.partitions {
            let mut partition = ReassignablePartitionResponse {
                partition_index: asked.partition_index,
                ..ReassignablePartitionResponse::default()
            };
            match alter_one(context, &topic.name, asked, may_change_factor) {
                Ok(record) => records.extend(record),
                Err(refusal) => (partition.error_code, partition.error_message) = refusal.fields(),
            }
            response.partitions.push(partition);
        }
        responses.push(response);
    }
    let answer = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    };
    Decision { records, answer }
}

fn alter_one(
    context: &mut Context<'_>,
    name: &str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<Option<MetadataRecord>, Refusal> {
    let index = asked.partition_index;
    let unknown =
        || Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("There is no partition {name}-{index}."));
    let topic = context.image().topic(name).cloned().ok_or_else(unknown)?;
    let partition = topic.partitions.get(&index).ok_or_else(unknown)?;
    let mut change = PartitionChange::new(context.image(), context.config, &topic, index, partition);
    match &asked.replicas {
        None => cancel(context, &topic, index, partition, &mut change)?,
        Some(target) => {
            check_replicas(context.image(), target)?;
            check_factor(partition, target, may_change_factor)?;
            set_target(partition, target, &mut change);
        }
    }
    let record = change.build();
    if let Some(record) = &record {
        context.apply(std::slice::from_ref(record))?;
    }
    Ok(record)
}

fn check_factor(
    partition: &PartitionRegistration,
    target: &[i32],
    may_change_factor: bool,
) -> Result<(), Refusal> {
    let factor = partition.replicas.iter().filter(|it| !partition.removing_replicas.contains(it)).count();
    if may_change_factor || target.len() == factor {
        return Ok(());
    }
    let message = format!(
        "The replication factor would change from {factor} to {}, which the request does not allow.",
        target.len()
    );
    Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message))
}

/// The target first, so that its first replica is the preferred leader from now on.
fn set_target(partition: &PartitionRegistration, target: &[i32], change: &mut PartitionChange<'_>) {
    let without = |from: &[i32], others: &[i32]| {
        let mut left: Vec<i32> = from.iter().copied().filter(|it| !others.contains(it)).collect();
        left.sort_unstable();
        left
    };
    change.removing = without(&partition.replicas, target);
    change.adding = without(target, &original_replicas(partition));
    change.election = Election::Online;
    change.replicas = target.iter().chain(&change.removing).copied().collect();
}

/// The replicas without those that are being added.
fn original_replicas(partition: &PartitionRegistration) -> Vec<i32> {
    partition.replicas.iter().copied().filter(|it| !partition.adding_replicas.contains(it)).collect()
}

fn cancel(
    context: &Context<'_>,
    topic: &Topic,
    index: i32,
    partition: &PartitionRegistration,
    change: &mut PartitionChange<'_>,
) -> Result<(), Refusal> {
    if !is_moving(partition) {
        let code = ErrorCode::NoReassignmentInProgress;
        return Err(Refusal::new(code, code.message()));
    }
    change.replicas = original_replicas(partition);
    change.isr.retain(|replica| !partition.adding_replicas.contains(replica));
    (change.adding, change.removing) = (Vec::new(), Vec::new());
    // Who has all that was committed, as far as anybody is known to.
    let holders = [&partition.isr, &partition.eligible_leader_replicas, &partition.last_known_elr];
    let holders = holders.into_iter().find(|ids| !ids.is_empty());
    if holders.is_some_and(|holders| !holders.iter().any(|it| change.replicas.contains(it))) {
        let first = change.replicas.first().copied();
        if first.is_none() || !may_elect_uncleanly(context.image(), context.config, topic) {
            let message = format!(
                "No replica that {}-{index} had before has all that was committed: going back would lose records, and \
                 unclean.leader.election.enable is off.",
                topic.name
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        // An election takes whoever is up. Where eligible replicas are not kept track of, somebody is always in sync.
        if !tracks_eligible(context.image()) {
            change.isr.extend(first);
        }
    }
    Ok(())
}

/// What is on its way, of all topics or of those that are asked about. Decides nothing.
pub(super) fn list(
    context: &mut Context<'_>,
    request: &ListPartitionReassignmentsRequest,
) -> Decision<ListPartitionReassignmentsResponse> {
    Decision { records: Vec::new(), answer: listed(context.image(), request) }
}

fn listed(image: &Image, request: &ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    let is_asked = |name: &str, index: i32| match &request.topics {
        None => true,
        Some(topics) => {
            topics.iter().any(|topic| topic.name == name && topic.partition_indexes.contains(&index))
        }
    };
    let topics = image.topics().iter().filter_map(|topic| {
        let name = topic.name.as_str();
        let moving = topic.partitions.iter().filter(|(index, it)| is_moving(it) && is_asked(name, **index));
        let partitions: Vec<_> = moving.map(|(index, partition)| ongoing(*index, partition)).collect();
        (!partitions.is_empty()).then(|| OngoingTopicReassignment {
            name: Str::from(name),
            partitions,
            ..OngoingTopicReassignment::default()
        })
    });
    ListPartitionReassignmentsResponse {
        topics: topics.collect(),
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn is_moving(partition: &PartitionRegistration) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

fn ongoing(partition_index: i32, partition: &PartitionRegistration) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment {
        partition_index,
        replicas: partition.replicas.clone(),
        adding_replicas: partition.adding_replicas.clone(),
        removing_replicas: partition.removing_replicas.clone(),
        ..OngoingPartitionReassignment::default()
    }
}

impl Answer for AlterPartitionReassignmentsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.error_message) = refusal.fields();
        for partition in self.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            (partition.error_code, partition.error_message) = refusal.fields();
        }
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}

impl Answer for ListPartitionReassignmentsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.error_message) = refusal.fields();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
