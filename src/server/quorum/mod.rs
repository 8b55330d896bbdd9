//! What the controller's listener serves: the quorum's own requests, and whatever only the active controller decides.
//! A node that is not in office says so (NOT_CONTROLLER, NOT_LEADER_OR_FOLLOWER): nothing is passed on from here.

pub(super) mod cluster;
mod configs;
mod controllers;
pub(super) mod door;
mod envelope;
mod peers;
mod voters;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::api_versions;
use super::call::{Call, Refusal};
use super::lifeline;
use super::session::Session;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::net::{Answer, Peer, Reply, Service};
use crate::protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use crate::protocol::messages::alter_configs_request::AlterConfigsRequest;
use crate::protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use crate::protocol::messages::alter_partition_request::AlterPartitionRequest;
use crate::protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use crate::protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use crate::protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use crate::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use crate::protocol::messages::create_topics_request::CreateTopicsRequest;
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use crate::protocol::messages::update_features_request::UpdateFeaturesRequest;
use crate::protocol::{Api, ApiKey, DecodeError, ErrorCode, Request};

pub(super) use voters::{add, describe, remove};

/// What stands behind the controller's listener.
pub struct QuorumService {
    controller: Controller,
    cluster_id: String,
    node_id: i32,
    /// What it was started with.
    config: Arc<BrokerConfig>,
    refusals: Refusals,
}

/// Whose requests were refused, so that each is said once: a node in the wrong place asks many times a second.
#[derive(Default)]
struct Refusals(Mutex<BTreeSet<(String, i16, i16)>>);

/// How many are remembered; then it begins anew.
const REFUSALS_MAX: usize = 1_000;

impl Refusals {
    /// Whether this is the first one of its kind from that host.
    fn is_new(&self, peer: &str, api: ApiKey, code: ErrorCode) -> bool {
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        let mut known = self.0.lock();
        if known.len() >= REFUSALS_MAX {
            known.clear();
        }
        known.insert((host.to_owned(), api as i16, code.code()))
    }
}

type Handler = fn(&Arc<QuorumService>, &mut Session, Call) -> Result<Reply, DecodeError>;

struct Row {
    key: ApiKey,
    handle: Handler,
}

const fn row(key: ApiKey, handle: Handler) -> Row {
    Row { key, handle }
}

/// A request that the active controller decides.
macro_rules! decided {
    ($key:ident, $request:ty, $method:ident) => {
        row(ApiKey::$key, |service, _, call| {
            decided(service, call, |controller, request: $request| async move {
                controller.$method(request).await
            })
        })
    };
}

/// Sorted by key.
static ROWS: &[Row] = &[
    row(ApiKey::Fetch, peers::fetch),
    row(ApiKey::ApiVersions, |service, session, call| {
        api_versions::of_controller(served(), &service.controller, session, &call)
    }),
    decided!(CreateTopics, CreateTopicsRequest, create_topics),
    decided!(DeleteTopics, DeleteTopicsRequest, delete_topics),
    row(ApiKey::DescribeConfigs, |service, _, call| configs::describe(service, &call)),
    decided!(AlterConfigs, AlterConfigsRequest, alter_configs),
    decided!(CreatePartitions, CreatePartitionsRequest, create_partitions),
    decided!(ElectLeaders, ElectLeadersRequest, elect_leaders),
    decided!(IncrementalAlterConfigs, IncrementalAlterConfigsRequest, incremental_alter_configs),
    decided!(AlterPartitionReassignments, AlterPartitionReassignmentsRequest, alter_partition_reassignments),
    decided!(ListPartitionReassignments, ListPartitionReassignmentsRequest, list_partition_reassignments),
    row(ApiKey::Vote, peers::vote),
    row(ApiKey::BeginQuorumEpoch, peers::begin_epoch),
    row(ApiKey::EndQuorumEpoch, peers::end_epoch),
    row(ApiKey::DescribeQuorum, |service, _, call| describe(&service.controller, call)),
    decided!(AlterPartition, AlterPartitionRequest, alter_partition),
    decided!(UpdateFeatures, UpdateFeaturesRequest, update_features),
    row(ApiKey::Envelope, envelope::handle),
    row(ApiKey::FetchSnapshot, peers::fetch_snapshot),
    row(ApiKey::DescribeCluster, |service, _, call| controllers::describe(service, &call)),
    decided!(BrokerRegistration, BrokerRegistrationRequest, register_broker),
    row(ApiKey::BrokerHeartbeat, |service, session, call| {
        lifeline::heartbeat(&service.controller, session, call)
    }),
    decided!(UnregisterBroker, UnregisterBrokerRequest, unregister_broker),
    decided!(AllocateProducerIds, AllocateProducerIdsRequest, allocate_producer_ids),
    decided!(ControllerRegistration, ControllerRegistrationRequest, register_controller),
    decided!(AssignReplicasToDirs, AssignReplicasToDirsRequest, assign_replicas_to_dirs),
    row(ApiKey::AddRaftVoter, |service, _, call| add(&service.controller, &service.cluster_id, call)),
    row(ApiKey::RemoveRaftVoter, |service, _, call| remove(&service.controller, &service.cluster_id, call)),
    row(ApiKey::UpdateRaftVoter, peers::update_voter),
];

fn served() -> impl Iterator<Item = &'static Api> {
    ROWS.iter().map(|row| row.key.api())
}

impl QuorumService {
    /// Serves for this controller, which must not ask another one.
    pub(super) fn new(
        controller: &Controller,
        cluster_id: &str,
        node_id: i32,
        config: &Arc<BrokerConfig>,
    ) -> Arc<Self> {
        Arc::new(Self {
            controller: controller.without_forwarding(),
            cluster_id: cluster_id.to_owned(),
            node_id,
            config: Arc::clone(config),
            refusals: Refusals::default(),
        })
    }

    fn serve(self: &Arc<Self>, session: &mut Session, call: Call) -> Result<Reply, Refusal> {
        let found = ROWS.binary_search_by_key(&(call.key as i16), |row| row.key as i16);
        let row = &ROWS[found.map_err(|_| Refusal::UnknownApi(call.key as i16))?];
        let api = row.key.api();
        if !api.versions().contains(&call.version) {
            if row.key == ApiKey::ApiVersions {
                return Ok(Reply::Now(api_versions::unsupported_version(&call)));
            }
            return Err(Refusal::UnsupportedVersion { api: api.name, version: call.version });
        }
        Ok((row.handle)(self, session, call)?)
    }
}

impl Service for QuorumService {
    type Session = Session;

    fn open(&self, peer: &Peer) -> Session {
        Session::new(peer.clone())
    }

    fn call(self: &Arc<Self>, session: &mut Session, frame: Bytes) -> Reply {
        let parsed = Call::parse(frame, &session.peer);
        parsed
            .and_then(|call| self.serve(session, call))
            .unwrap_or_else(|refusal| Reply::Now(Answer::Close { reason: refusal.to_string() }))
    }
}

/// Has the controller decide, and answers.
fn decided<R, F>(
    service: &Arc<QuorumService>,
    mut call: Call,
    ask: impl FnOnce(Controller, R) -> F,
) -> Result<Reply, DecodeError>
where
    R: Request,
    F: Future<Output = R::Response> + Send + 'static,
{
    let request: R = call.decode()?;
    call.forget_frame();
    let answer = ask(service.controller.clone(), request);
    Ok(Reply::Later(Box::pin(async move { call.answer(&answer.await) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_each_api_has_one() {
        assert!(ROWS.windows(2).all(|pair| (pair[0].key as i16) < (pair[1].key as i16)));
    }
}
