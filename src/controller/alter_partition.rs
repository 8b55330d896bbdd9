//! AlterPartition, decided: the leader of a partition says who is in sync with it.
//!
//! A request counts only if it comes from the present life of the present leader and was made on the registration as
//! it is now. Nobody gets into the ISR who is fenced, on its way down, or of another life than the leader saw it
//! in (KIP-903): its log may not be the one that the leader sent records to.

use crate::metadata::{LeaderRecoveryState, MetadataRecord, PartitionRegistration, Topic};
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_partition_request::{AlterPartitionRequest, BrokerState, PartitionData};
use crate::protocol::messages::alter_partition_response::{
    AlterPartitionResponse, PartitionData as PartitionAnswer, TopicData as TopicAnswer,
};

use super::decision::{Answer, Context, Decision, Refusal};
use super::heartbeats::check_epoch;
use super::partition_change::PartitionChange;

const RECOVERING: i8 = 1;
/// The epoch of a broker that the leader could not know.
const ANY_EPOCH: i64 = -1;

/// Decides on a whole request; each partition is answered by itself.
pub(super) fn alter_partition(
    context: &mut Context<'_>,
    request: &AlterPartitionRequest,
) -> Decision<AlterPartitionResponse> {
    let mut answer = AlterPartitionResponse::default();
    if let Err(refusal) = check_epoch(context, request.broker_id, request.broker_epoch) {
        answer.refuse(&refusal);
        return Decision { records: Vec::new(), answer };
    }
    let mut records = Vec::new();
    for topic in &request.topics {
        let found = context.image().topic_by_id(topic.topic_id).cloned();
        let mut topic_answer = TopicAnswer { topic_id: topic.topic_id, ..TopicAnswer::default() };
        for asked in &topic.partitions {
            let outcome = match &found {
                None => Err(ErrorCode::UnknownTopicId),
                Some(topic) => alter_one(context, request.broker_id, topic, asked, &mut records),
            };
            topic_answer.partitions.push(answer_of(asked.partition_index, outcome));
        }
        answer.topics.push(topic_answer);
    }
    Decision { records, answer }
}

/// The registration as it is then. A reassignment that is completed by the change may end the asker's leadership:
/// then there is a record and an error.
fn alter_one(
    context: &mut Context<'_>,
    asker: i32,
    topic: &Topic,
    asked: &PartitionData,
    records: &mut Vec<MetadataRecord>,
) -> Result<PartitionRegistration, ErrorCode> {
    let index = asked.partition_index;
    // A request may name a partition twice: what the first time has made of it counts.
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let registered = context.image().partition(topic.name.as_str(), index).ok_or(unknown)?;
    let in_sync = in_sync(asked);
    check(context, asker, registered, asked, &in_sync)?;
    let mut change = PartitionChange::new(context.image(), context.config, topic, index, registered);
    change.isr = in_sync.iter().map(|replica| replica.broker_id).collect();
    change.recovery = recovery_of(asked);
    if let Some(record) = change.build() {
        context.apply(std::slice::from_ref(&record)).map_err(|refusal| refusal.code)?;
        records.push(record);
    }
    let now = context.image().partition(topic.name.as_str(), index).ok_or(unknown)?;
    if now.leader == asker { Ok(now.clone()) } else { Err(ErrorCode::NewLeaderElected) }
}

fn in_sync(asked: &PartitionData) -> Vec<BrokerState> {
    if !asked.new_isr_with_epochs.is_empty() {
        return asked.new_isr_with_epochs.clone();
    }
    let state = |broker_id: &i32| BrokerState {
        broker_id: *broker_id,
        broker_epoch: ANY_EPOCH,
        ..BrokerState::default()
    };
    asked.new_isr.iter().map(state).collect()
}

fn recovery_of(asked: &PartitionData) -> LeaderRecoveryState {
    match asked.leader_recovery_state {
        RECOVERING => LeaderRecoveryState::Recovering,
        _ => LeaderRecoveryState::Recovered,
    }
}

fn check(
    context: &Context<'_>,
    asker: i32,
    registered: &PartitionRegistration,
    asked: &PartitionData,
    in_sync: &[BrokerState],
) -> Result<(), ErrorCode> {
    // Whoever knows of a later epoch has it from a later controller.
    if asked.leader_epoch > registered.leader_epoch || asked.partition_epoch > registered.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if asked.leader_epoch < registered.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if asker != registered.leader {
        return Err(ErrorCode::InvalidRequest);
    }
    if asked.partition_epoch < registered.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    check_isr(registered, asked, in_sync)?;
    match in_sync.iter().all(|replica| is_eligible(context, replica)) {
        true => Ok(()),
        false => Err(ErrorCode::IneligibleReplica),
    }
}

fn check_isr(
    registered: &PartitionRegistration,
    asked: &PartitionData,
    in_sync: &[BrokerState],
) -> Result<(), ErrorCode> {
    let is_replica = |id: i32| registered.replicas.contains(&id);
    let is_first = |at: usize, id: i32| in_sync[..at].iter().all(|other| other.broker_id != id);
    let is_set =
        in_sync.iter().enumerate().all(|(at, it)| is_replica(it.broker_id) && is_first(at, it.broker_id));
    let has_leader = in_sync.iter().any(|it| it.broker_id == registered.leader);
    let recovers = recovery_of(asked) == LeaderRecoveryState::Recovering;
    let was_recovered = registered.leader_recovery_state == LeaderRecoveryState::Recovered;
    let is_legal = is_set && has_leader && !(recovers && (in_sync.len() > 1 || was_recovered));
    if is_legal { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
}

fn is_eligible(context: &Context<'_>, replica: &BrokerState) -> bool {
    let Some(broker) = context.image().broker(replica.broker_id) else { return false };
    let is_this_life = replica.broker_epoch == ANY_EPOCH || replica.broker_epoch == broker.epoch;
    !broker.fenced && !broker.in_controlled_shutdown && is_this_life
}

fn answer_of(partition_index: i32, outcome: Result<PartitionRegistration, ErrorCode>) -> PartitionAnswer {
    match outcome {
        Ok(registered) => PartitionAnswer {
            partition_index,
            leader_id: registered.leader,
            leader_epoch: registered.leader_epoch,
            isr: registered.isr,
            leader_recovery_state: i8::from(
                registered.leader_recovery_state == LeaderRecoveryState::Recovering,
            ),
            partition_epoch: registered.partition_epoch,
            ..PartitionAnswer::default()
        },
        Err(code) => {
            PartitionAnswer { partition_index, error_code: code.code(), ..PartitionAnswer::default() }
        }
    }
}

impl Answer for AlterPartitionResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        self.error_code = refusal.code.code();
        self.topics.clear();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
