//! DescribeCluster (60) at the controller's listener: the controllers, for tools that are pointed at one of them
//! (`--bootstrap-controller`, KIP-919).

use std::sync::Arc;

use super::QuorumService;
use crate::net::Reply;
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::register_controller_record::RegisterControllerRecord;
use crate::protocol::{DecodeError, Str};
use crate::server::call::Call;
use crate::server::cluster::{EndpointType, describe_served};

/// DescribeCluster, versions 0 to 2; the first knows brokers only.
pub(super) fn describe(service: &Arc<QuorumService>, call: &Call) -> Result<Reply, DecodeError> {
    describe_served(call, EndpointType::Controllers, |response, _| {
        let image = service.controller.image();
        response.cluster_id = Str::from(service.cluster_id.as_str());
        response.controller_id = service.controller.leader().borrow().id.unwrap_or(-1);
        let described = image.controllers().values().filter_map(|controller| endpoint_of(controller, call));
        response.brokers = described.collect();
    })
}

/// Where it listens by the name of the listener that was asked, else by its first.
fn endpoint_of(controller: &RegisterControllerRecord, call: &Call) -> Option<DescribeClusterBroker> {
    let same_name = controller.end_points.iter().find(|endpoint| *endpoint.name == *call.peer.listener);
    let endpoint = same_name.or_else(|| controller.end_points.first())?;
    Some(DescribeClusterBroker {
        broker_id: controller.controller_id,
        host: endpoint.host.clone(),
        port: i32::from(endpoint.port),
        ..DescribeClusterBroker::default()
    })
}
