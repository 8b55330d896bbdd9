//! DescribeCluster (60) at the controller's listener: the controllers, for tools that are pointed at one of them
//! (`--bootstrap-controller`, KIP-919).

use std::sync::Arc;

use super::QuorumService;
use crate::net::Reply;
use crate::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use crate::protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use crate::protocol::messages::register_controller_record::RegisterControllerRecord;
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::server::authorized;
use crate::server::call::{Call, text};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// DescribeCluster, versions 0 to 2; the first knows brokers only.
pub(super) fn describe(service: &Arc<QuorumService>, call: &Call) -> Result<Reply, DecodeError> {
    let request: DescribeClusterRequest = call.decode()?;
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        CONTROLLERS => fill(&mut response, service, call, &request),
        BROKERS => {
            response.error_code = ErrorCode::MismatchedEndpointType.code();
            response.error_message =
                text("this is a listener of controllers; brokers are described by their own");
        }
        _ => {
            response.error_code = ErrorCode::UnsupportedEndpointType.code();
            response.error_message = text("the endpoint type is none of 1 (brokers) and 2 (controllers)");
        }
    }
    Ok(call.reply(&response))
}

fn fill(
    response: &mut DescribeClusterResponse,
    service: &QuorumService,
    call: &Call,
    request: &DescribeClusterRequest,
) {
    let image = service.controller.image();
    response.cluster_id = Str::from(service.cluster_id.as_str());
    response.controller_id = service.controller.leader().borrow().id.unwrap_or(-1);
    let described = image.controllers().values().filter_map(|controller| endpoint_of(controller, call));
    response.brokers = described.collect();
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized::CLUSTER;
    }
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
