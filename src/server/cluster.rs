//! DescribeCluster (60), versions 0 to 2: the cluster's id, its brokers, its controller.

use super::authorized;
use super::call::{Call, text};
use super::metadata::controller_id;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use crate::protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use crate::protocol::{DecodeError, ErrorCode, Str};

/// What a listener's DescribeCluster is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EndpointType {
    Brokers = 1,
    Controllers = 2,
}

impl EndpointType {
    /// Of the number on the wire.
    fn of(number: i8) -> Option<Self> {
        [Self::Brokers, Self::Controllers].into_iter().find(|known| *known as i8 == number)
    }

    /// Why a listener that serves `self` does not describe the others.
    fn mismatch(self) -> &'static str {
        match self {
            Self::Brokers => "this is a listener of brokers; controllers are described by their own",
            Self::Controllers => "this is a listener of controllers; brokers are described by their own",
        }
    }
}

/// Answers from the image.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Node, call: &Call) -> Result<Reply, DecodeError> {
    describe_served(call, EndpointType::Brokers, |response, request| fill(response, node, call, request))
}

/// Answers at a listener that serves endpoints of one type: `fill` puts them into the answer.
pub(super) fn describe_served(
    call: &Call,
    served: EndpointType,
    fill: impl FnOnce(&mut DescribeClusterResponse, &DescribeClusterRequest),
) -> Result<Reply, DecodeError> {
    let request: DescribeClusterRequest = call.decode()?;
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        ..DescribeClusterResponse::default()
    };
    match EndpointType::of(request.endpoint_type) {
        Some(asked) if asked == served => {
            fill(&mut response, &request);
            if request.include_cluster_authorized_operations {
                response.cluster_authorized_operations = authorized::CLUSTER;
            }
        }
        Some(_) => {
            response.error_code = ErrorCode::MismatchedEndpointType.code();
            response.error_message = text(served.mismatch());
        }
        None => {
            response.error_code = ErrorCode::UnsupportedEndpointType.code();
            response.error_message = text("the endpoint type is none of 1 (brokers) and 2 (controllers)");
        }
    }
    Ok(call.reply(&response))
}

fn fill(response: &mut DescribeClusterResponse, node: &Node, call: &Call, request: &DescribeClusterRequest) {
    let image = node.image();
    response.cluster_id = Str::from(node.cluster_id.as_str());
    response.controller_id = controller_id(node, &image);
    let asked = image.brokers().values().filter(|broker| request.include_fenced_brokers || !broker.fenced);
    let described = asked.filter_map(|broker| {
        let endpoint = call.endpoint_of(broker)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host: Str::from(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Str::from),
            is_fenced: broker.fenced,
            ..DescribeClusterBroker::default()
        })
    });
    response.brokers = described.collect();
}
