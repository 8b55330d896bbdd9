//! The one table of APIs that are served: a row each, key and handler. What has no row is not advertised.

use std::sync::Arc;

use bytes::Bytes;

use super::call::{Call, Refusal};
use super::node::Node;
use super::session::Session;
use super::{
    administration, api_versions, cluster, configs, delete_records, describe_topics, fetch, groups,
    leader_epochs, list_offsets, log_dirs, metadata, produce, producers, quorum, reassignments, topics,
};
use crate::net::{Answer, Peer, Reply, Service};
use crate::protocol::{Api, ApiKey, DecodeError};

type Handler = fn(&Arc<Node>, &mut Session, Call) -> Result<Reply, DecodeError>;

struct Row {
    key: ApiKey,
    handle: Handler,
}

const fn row(key: ApiKey, handle: Handler) -> Row {
    Row { key, handle }
}

/// Sorted by key.
static ROWS: &[Row] = &[
    row(ApiKey::Produce, produce::handle),
    row(ApiKey::Fetch, fetch::handle),
    row(ApiKey::ListOffsets, |node, _, call| list_offsets::handle(node, &call)),
    row(ApiKey::Metadata, |node, _, call| metadata::handle(node, call)),
    row(ApiKey::OffsetCommit, |node, _, call| groups::commit(node, call)),
    row(ApiKey::OffsetFetch, |node, _, call| groups::fetch(node, call)),
    row(ApiKey::FindCoordinator, |node, _, call| groups::find(node, call)),
    row(ApiKey::JoinGroup, |node, _, call| groups::join(node, call)),
    row(ApiKey::Heartbeat, |node, _, call| groups::heartbeat(node, call)),
    row(ApiKey::LeaveGroup, |node, _, call| groups::leave(node, call)),
    row(ApiKey::SyncGroup, |node, _, call| groups::sync(node, call)),
    row(ApiKey::DescribeGroups, |node, _, call| groups::describe(node, call)),
    row(ApiKey::ListGroups, |node, _, call| groups::list(node, call)),
    row(ApiKey::ApiVersions, |node, session, call| api_versions::handle(node, session, &call)),
    row(ApiKey::CreateTopics, |node, _, call| topics::create(node, call)),
    row(ApiKey::DeleteTopics, |node, _, call| topics::delete(node, call)),
    row(ApiKey::DeleteRecords, |node, _, call| delete_records::handle(node, call)),
    row(ApiKey::InitProducerId, |node, _, call| producers::init_producer_id(node, call)),
    row(ApiKey::OffsetForLeaderEpoch, |node, _, call| leader_epochs::handle(node, &call)),
    row(ApiKey::DescribeConfigs, |node, _, call| configs::describe(node, &call)),
    row(ApiKey::AlterConfigs, |node, _, call| configs::alter(node, call)),
    row(ApiKey::AlterReplicaLogDirs, |node, _, call| log_dirs::alter(node, call)),
    row(ApiKey::DescribeLogDirs, |node, _, call| log_dirs::describe(node, &call)),
    row(ApiKey::CreatePartitions, |node, _, call| topics::create_partitions(node, call)),
    row(ApiKey::DeleteGroups, |node, _, call| groups::delete(node, call)),
    row(ApiKey::ElectLeaders, |node, _, call| administration::elect_leaders(node, call)),
    row(ApiKey::IncrementalAlterConfigs, |node, _, call| configs::alter_incrementally(node, call)),
    row(ApiKey::AlterPartitionReassignments, |node, _, call| reassignments::alter(node, call)),
    row(ApiKey::ListPartitionReassignments, |node, _, call| reassignments::list(node, call)),
    row(ApiKey::OffsetDelete, |node, _, call| groups::delete_offsets(node, call)),
    row(ApiKey::DescribeQuorum, |node, _, call| quorum::describe(&node.controller, call)),
    row(ApiKey::UpdateFeatures, |node, _, call| administration::update_features(node, call)),
    row(ApiKey::DescribeCluster, |node, _, call| cluster::describe(node, &call)),
    row(ApiKey::DescribeProducers, |node, _, call| producers::describe(node, &call)),
    row(ApiKey::UnregisterBroker, |node, _, call| administration::unregister_broker(node, call)),
    row(ApiKey::ConsumerGroupHeartbeat, |node, _, call| groups::heartbeat_consumer(node, call)),
    row(ApiKey::ConsumerGroupDescribe, |node, _, call| groups::describe_consumer(node, call)),
    row(ApiKey::ListConfigResources, |node, _, call| configs::list_resources(node, &call)),
    row(ApiKey::DescribeTopicPartitions, |node, _, call| describe_topics::handle(node, &call)),
    row(ApiKey::AddRaftVoter, |node, _, call| quorum::add(&node.controller, &node.cluster_id, call)),
    row(ApiKey::RemoveRaftVoter, |node, _, call| quorum::remove(&node.controller, &node.cluster_id, call)),
];

/// The APIs that have a handler, by key.
pub fn served() -> impl Iterator<Item = &'static Api> {
    ROWS.iter().map(|row| row.key.api())
}

impl Service for Node {
    type Session = Session;

    fn open(&self, peer: &Peer) -> Session {
        Session::new(peer.clone())
    }

    fn call(self: &Arc<Self>, session: &mut Session, frame: Bytes) -> Reply {
        serve(self, session, frame)
            .unwrap_or_else(|refusal| Reply::Now(Answer::Close { reason: refusal.to_string() }))
    }
}

fn serve(node: &Arc<Node>, session: &mut Session, frame: Bytes) -> Result<Reply, Refusal> {
    let call = Call::parse(frame, &session.peer)?;
    let found = ROWS.binary_search_by_key(&(call.key as i16), |row| row.key as i16);
    let row = &ROWS[found.map_err(|_| Refusal::UnknownApi(call.key as i16))?];
    let api = row.key.api();
    if !api.versions().contains(&call.version) {
        if row.key == ApiKey::ApiVersions {
            return Ok(Reply::Now(api_versions::unsupported_version(&call)));
        }
        return Err(Refusal::UnsupportedVersion { api: api.name, version: call.version });
    }
    Ok((row.handle)(node, session, call)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_each_api_has_one() {
        assert!(ROWS.windows(2).all(|pair| (pair[0].key as i16) < (pair[1].key as i16)));
    }
}
