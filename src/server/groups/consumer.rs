//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69): KIP-848's consumer groups.

use std::sync::Arc;

use super::admin::each;
use super::membership::failure;
use super::{Outcome, answer, answer_all, client_of};
use crate::coordinator::{Answer, Request};
use crate::net::Reply;
use crate::protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use crate::protocol::messages::consumer_group_describe_response::{
    ConsumerGroupDescribeResponse, DescribedGroup,
};
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::{DecodeError, ErrorCode};
use crate::server::authorized;
use crate::server::call::Call;
use crate::server::node::Node;

/// ConsumerGroupHeartbeat, versions 0 and 1.
///
/// # Errors
/// The request is malformed.
pub fn heartbeat(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: ConsumerGroupHeartbeatRequest = call.decode()?;
    if !node.config().groups.serves_consumer_protocol {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return Ok(call.reply(&ConsumerGroupHeartbeatResponse {
            error_code,
            ..ConsumerGroupHeartbeatResponse::default()
        }));
    }
    let group_id = request.group_id.clone();
    let request = Request::ConsumerGroupHeartbeat(request);
    let asking = node.groups.ask(node, &group_id, client_of(&call), call.version, request);
    Ok(answer(call, asking, |outcome: Outcome| match outcome {
        Ok(Answer::ConsumerGroupHeartbeat(response)) => response,
        outcome => ConsumerGroupHeartbeatResponse {
            error_code: failure(&outcome),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    }))
}

/// ConsumerGroupDescribe, versions 0 and 1.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: ConsumerGroupDescribeRequest = call.decode()?;
    let shows_operations = request.include_authorized_operations;
    let asked =
        each(node, &call, &request.group_ids, |group_id| Request::ConsumerGroupDescribe(vec![group_id]));
    Ok(answer_all(call, asked, move |outcomes| {
        let groups = outcomes.into_iter().flat_map(|(group_id, outcome)| match outcome {
            Ok(Answer::ConsumerGroupDescribe(described)) => described,
            outcome => {
                let error_code = failure(&outcome);
                vec![DescribedGroup { group_id, error_code, ..DescribedGroup::default() }]
            }
        });
        let mut groups: Vec<DescribedGroup> = groups.collect();
        if shows_operations {
            for group in groups.iter_mut().filter(|group| group.error_code == 0) {
                group.authorized_operations = authorized::GROUP;
            }
        }
        ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() }
    }))
}
