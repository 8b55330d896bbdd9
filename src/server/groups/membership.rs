//! JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14), each from its first version on.

use std::sync::Arc;

use super::{Outcome, answer, client_of};
use crate::coordinator::{Answer, Request};
use crate::net::Reply;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::leave_group_response::LeaveGroupResponse;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{DecodeError, ErrorCode};
use crate::server::call::Call;
use crate::server::node::Node;

/// From this version on LeaveGroup names several members.
const LEAVE_MANY_FROM: i16 = 3;
/// From this version on JoinGroup answers with null where there is no protocol, before it with an empty name.
const PROTOCOL_NULLABLE_FROM: i16 = 7;
/// From this version on SyncGroup says which protocol its member believes to be in use.
const PROTOCOL_SAID_FROM: i16 = 5;

/// JoinGroup, versions 0 to 9.
///
/// # Errors
/// The request is malformed.
pub fn join(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: JoinGroupRequest = call.decode()?;
    let (group_id, member_id, version) =
        (request.group_id.clone(), request.member_id.detached(), call.version);
    let asking = node.groups.ask(node, &group_id, client_of(&call), version, Request::JoinGroup(request));
    Ok(answer(call, asking, move |outcome: Outcome| {
        let mut response = match outcome {
            Ok(Answer::JoinGroup(response)) => response,
            outcome => {
                JoinGroupResponse { error_code: failure(&outcome), member_id, ..JoinGroupResponse::default() }
            }
        };
        let protocol = response.protocol_name.take().filter(|name| !name.is_empty());
        response.protocol_name = match version < PROTOCOL_NULLABLE_FROM {
            true => Some(protocol.unwrap_or_default()),
            false => protocol,
        };
        response
    }))
}

/// SyncGroup, versions 0 to 5.
///
/// # Errors
/// The request is malformed.
pub fn sync(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: SyncGroupRequest = call.decode()?;
    let is_told = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= PROTOCOL_SAID_FROM && !is_told {
        let error_code = ErrorCode::InconsistentGroupProtocol.code();
        return Ok(call.reply(&SyncGroupResponse { error_code, ..SyncGroupResponse::default() }));
    }
    let group_id = request.group_id.clone();
    let asking =
        node.groups.ask(node, &group_id, client_of(&call), call.version, Request::SyncGroup(request));
    Ok(answer(call, asking, |outcome: Outcome| match outcome {
        Ok(Answer::SyncGroup(response)) => response,
        outcome => SyncGroupResponse { error_code: failure(&outcome), ..SyncGroupResponse::default() },
    }))
}

/// Heartbeat, versions 0 to 4.
///
/// # Errors
/// The request is malformed.
pub fn heartbeat(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: HeartbeatRequest = call.decode()?;
    let group_id = request.group_id.clone();
    let asking =
        node.groups.ask(node, &group_id, client_of(&call), call.version, Request::Heartbeat(request));
    Ok(answer(call, asking, |outcome: Outcome| match outcome {
        Ok(Answer::Heartbeat(response)) => response,
        // The member will be given its time once its group is loaded.
        Err(ErrorCode::CoordinatorLoadInProgress) => HeartbeatResponse::default(),
        outcome => HeartbeatResponse { error_code: failure(&outcome), ..HeartbeatResponse::default() },
    }))
}

/// LeaveGroup, versions 0 to 5.
///
/// # Errors
/// The request is malformed.
pub fn leave(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let mut request: LeaveGroupRequest = call.decode()?;
    let version = call.version;
    if version < LEAVE_MANY_FROM {
        let member_id = request.member_id.clone();
        request.members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    }
    let group_id = request.group_id.clone();
    let asking = node.groups.ask(node, &group_id, client_of(&call), version, Request::LeaveGroup(request));
    Ok(answer(call, asking, move |outcome: Outcome| {
        let mut response = match outcome {
            Ok(Answer::LeaveGroup(response)) => response,
            outcome => LeaveGroupResponse { error_code: failure(&outcome), ..LeaveGroupResponse::default() },
        };
        if version < LEAVE_MANY_FROM {
            let own = response.members.first().map_or(0, |member| member.error_code);
            response.error_code = if response.error_code == 0 { own } else { response.error_code };
            response.members = Vec::new();
        }
        response
    }))
}

/// The code of what is no answer of this request.
pub(super) fn failure(outcome: &Outcome) -> i16 {
    match outcome {
        Err(code) => code.code(),
        Ok(_) => ErrorCode::UnknownServerError.code(),
    }
}
