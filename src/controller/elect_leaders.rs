//! ElectLeaders, decided: leadership to the preferred replicas, or, at the price of lost records, to whoever is up.

use std::sync::Arc;

use crate::metadata::{MetadataRecord, Topic};
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::protocol::messages::elect_leaders_response::{
    ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use crate::protocol::{ErrorCode, Str};

use super::decision::{Answer, Context, Decision, Refusal};
use super::partition_change::{Election, NO_LEADER, PartitionChange};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Decides on a whole request; each partition is answered by itself. Without topics it is about all, and those that
/// need no election are left out of the answer.
pub(super) fn elect_leaders(
    context: &mut Context<'_>,
    request: &ElectLeadersRequest,
) -> Decision<ElectLeadersResponse> {
    let mut answer = ElectLeadersResponse::default();
    let election = match request.election_type {
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        _ => {
            answer.refuse(&Refusal::new(ErrorCode::InvalidRequest, "Such a kind of election is not known."));
            return Decision { records: Vec::new(), answer };
        }
    };
    let mut records = Vec::new();
    match &request.topic_partitions {
        Some(asked) => {
            for topic in asked {
                let result = elect_in(context, &topic.topic, &topic.partitions, election, &mut records);
                answer.replica_election_results.push(result);
            }
        }
        None => {
            let topics: Vec<Arc<Topic>> = context.image().topics().iter().cloned().collect();
            for topic in topics {
                let (name, all) = (Str::from(topic.name.as_str()), topic.partitions.keys().copied());
                let mut result = elect_in(context, &name, &all.collect::<Vec<i32>>(), election, &mut records);
                let not_needed = ErrorCode::ElectionNotNeeded.code();
                result.partition_result.retain(|partition| partition.error_code != not_needed);
                answer.replica_election_results.push(result);
            }
        }
    }
    Decision { records, answer }
}

fn elect_in(
    context: &mut Context<'_>,
    topic: &Str,
    partitions: &[i32],
    election: Election,
    records: &mut Vec<MetadataRecord>,
) -> ReplicaElectionResult {
    let mut result = ReplicaElectionResult { topic: topic.clone(), ..ReplicaElectionResult::default() };
    for &partition_id in partitions {
        let mut partition = PartitionResult { partition_id, ..PartitionResult::default() };
        match elect(context, topic, partition_id, election) {
            Ok(record) => records.push(record),
            Err(refusal) => (partition.error_code, partition.error_message) = refusal.fields(),
        }
        result.partition_result.push(partition);
    }
    result
}

fn elect(
    context: &mut Context<'_>,
    name: &str,
    partition_id: i32,
    election: Election,
) -> Result<MetadataRecord, Refusal> {
    let unknown = || {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("There is no partition {name}-{partition_id}."),
        )
    };
    let topic = context.image().topic(name).cloned().ok_or_else(unknown)?;
    let partition = topic.partitions.get(&partition_id).ok_or_else(unknown)?;
    let is_there = match election {
        Election::Preferred => partition.replicas.first() == Some(&partition.leader),
        _ => partition.leader != NO_LEADER,
    };
    let refuse = |code: ErrorCode| Refusal::new(code, code.message());
    if is_there {
        return Err(refuse(ErrorCode::ElectionNotNeeded));
    }
    let mut change = PartitionChange::new(context.image(), context.config, &topic, partition_id, partition);
    change.election = election;
    let unavailable = match election {
        Election::Preferred => ErrorCode::PreferredLeaderNotAvailable,
        _ => ErrorCode::EligibleLeadersNotAvailable,
    };
    let record = change.build().ok_or_else(|| refuse(unavailable))?;
    context.apply(std::slice::from_ref(&record))?;
    Ok(record)
}

impl Answer for ElectLeadersResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        self.error_code = refusal.code.code();
        self.replica_election_results.clear();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
