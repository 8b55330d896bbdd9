//! What the active controller may be asked, as one type: for whoever has a log and a network of his own around the
//! decisions, as the simulator does. A broker asks through [`super::Controller`].

use crate::metadata::{ImageBuilder, MetadataRecord};
use crate::protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use crate::protocol::messages::alter_partition_request::AlterPartitionRequest;
use crate::protocol::messages::alter_partition_response::AlterPartitionResponse;
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use crate::protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use crate::protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use crate::protocol::messages::create_topics_request::CreateTopicsRequest;
use crate::protocol::messages::create_topics_response::CreateTopicsResponse;
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::types::Uuid;

use super::brokers::feature_records;
use super::decision::{Answer, Context, Decision};
use super::term::{Around, Term, opening};
use super::{
    alter_partition, elect_leaders, heartbeats, reassignments, registrations, topic_changes, topics,
};

/// See the module.
#[derive(Clone, Debug)]
pub enum Question {
    /// The records that a term begins with: an open transaction ended, the features of a new log.
    Begin,
    /// What is due by now.
    Tick,
    /// A broker's connection was reset, and nobody answers at its port.
    ConnectionLost(i32),
    /// BrokerRegistration (62).
    RegisterBroker(BrokerRegistrationRequest),
    /// BrokerHeartbeat (63).
    Heartbeat(BrokerHeartbeatRequest),
    /// AlterPartition (56).
    AlterPartition(AlterPartitionRequest),
    /// CreateTopics (19).
    CreateTopics(CreateTopicsRequest),
    /// DeleteTopics (20).
    DeleteTopics(DeleteTopicsRequest),
    /// ElectLeaders (43).
    ElectLeaders(ElectLeadersRequest),
    /// AlterPartitionReassignments (45).
    Reassign(AlterPartitionReassignmentsRequest),
}

/// The answer, where there is something in it to go on with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To BrokerRegistration.
    Registered(BrokerRegistrationResponse),
    /// To BrokerHeartbeat.
    Beaten(BrokerHeartbeatResponse),
    /// To AlterPartition.
    Altered(AlterPartitionResponse),
    /// To CreateTopics.
    Created(CreateTopicsResponse),
    /// To everything else.
    Done,
}

/// What was decided: true once `records` are agreed on.
#[derive(Debug)]
pub struct Decided {
    /// They go into the log together.
    pub records: Vec<MetadataRecord>,
    /// The image with these records in it, in the making.
    pub builder: ImageBuilder,
    /// The answer.
    pub reply: Reply,
}

impl<W> Term<W> {
    /// Decides, on everything that was decided before.
    pub fn ask(
        &mut self,
        question: &Question,
        around: Around<'_>,
        draw_id: &mut dyn FnMut() -> Uuid,
    ) -> Decided {
        let (mut builder, mut desk) = self.desk(around);
        let (records, reply) = answer(&mut desk.context(&mut builder, draw_id), question);
        Decided { records, builder, reply }
    }
}

fn answer(context: &mut Context<'_>, question: &Question) -> (Vec<MetadataRecord>, Reply) {
    match question {
        Question::Begin => {
            let features: Vec<MetadataRecord> = feature_records().collect();
            (opening(context, &features), Reply::Done)
        }
        Question::Tick => (heartbeats::tick(context), Reply::Done),
        Question::ConnectionLost(broker) => done(heartbeats::connection_lost(context, *broker)),
        Question::RegisterBroker(request) => {
            with(registrations::register_broker(context, request), Reply::Registered)
        }
        Question::Heartbeat(request) => with(heartbeats::heartbeat(context, request), Reply::Beaten),
        Question::AlterPartition(request) => {
            with(alter_partition::alter_partition(context, request), Reply::Altered)
        }
        Question::CreateTopics(request) => with(topics::create(context, request), Reply::Created),
        Question::DeleteTopics(request) => done(topic_changes::delete(context, request)),
        Question::ElectLeaders(request) => done(elect_leaders::elect_leaders(context, request)),
        Question::Reassign(request) => done(reassignments::alter(context, request)),
    }
}

fn with<A: Answer>(decision: Decision<A>, reply: impl FnOnce(A) -> Reply) -> (Vec<MetadataRecord>, Reply) {
    (decision.records, reply(decision.answer))
}

fn done<A: Answer>(decision: Decision<A>) -> (Vec<MetadataRecord>, Reply) {
    with(decision, |_| Reply::Done)
}
