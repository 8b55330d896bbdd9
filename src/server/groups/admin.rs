//! DescribeGroups (15), ListGroups (16), DeleteGroups (42).

use std::collections::HashSet;
use std::sync::Arc;

use super::membership::failure;
use super::{Asking, Outcome, answer_all, client_of};
use crate::coordinator::{Answer, Asked, Client, Request, Token};
use crate::net::Reply;
use crate::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use crate::protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use crate::protocol::messages::describe_groups_request::DescribeGroupsRequest;
use crate::protocol::messages::describe_groups_response::{DescribeGroupsResponse, DescribedGroup};
use crate::protocol::messages::list_groups_request::ListGroupsRequest;
use crate::protocol::messages::list_groups_response::ListGroupsResponse;
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::server::authorized;
use crate::server::call::Call;
use crate::server::node::Node;

/// DescribeGroups, versions 0 to 6.
///
/// # Errors
/// The request is malformed.
pub fn describe(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: DescribeGroupsRequest = call.decode()?;
    let shows_operations = request.include_authorized_operations;
    let asked = each(node, &call, &request.groups, |group_id| Request::DescribeGroups(vec![group_id]));
    Ok(answer_all(call, asked, move |outcomes| {
        let groups = outcomes.into_iter().flat_map(|(group_id, outcome)| match outcome {
            Ok(Answer::DescribeGroups(described)) => described,
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
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
    }))
}

/// DeleteGroups, versions 0 to 2. One that is named twice is asked for once.
///
/// # Errors
/// The request is malformed.
pub fn delete(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let mut request: DeleteGroupsRequest = call.decode()?;
    let mut seen = HashSet::new();
    request.groups_names.retain(|name| seen.insert(name.clone()));
    let asked = each(node, &call, &request.groups_names, |group_id| Request::DeleteGroups(vec![group_id]));
    Ok(answer_all(call, asked, |outcomes| {
        let results = outcomes.into_iter().flat_map(|(group_id, outcome)| match outcome {
            Ok(Answer::DeleteGroups(results)) => results,
            outcome => {
                let error_code = failure(&outcome);
                vec![DeletableGroupResult { group_id, error_code, ..DeletableGroupResult::default() }]
            }
        });
        DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() }
    }))
}

/// Asks the coordinator of each group.
pub(super) fn each(
    node: &Arc<Node>,
    call: &Call,
    group_ids: &[Str],
    request: impl Fn(Str) -> Request,
) -> Vec<(Str, Asking)> {
    let client = client_of(call);
    let ask = |group_id: &Str| {
        let asking = node.groups.ask(node, group_id, client.clone(), call.version, request(group_id.clone()));
        (group_id.detached(), asking)
    };
    group_ids.iter().map(ask).collect()
}

/// ListGroups, versions 0 to 5: of all coordinators here.
///
/// # Errors
/// The request is malformed.
pub fn list(node: &Arc<Node>, call: Call) -> Result<Reply, DecodeError> {
    let request: ListGroupsRequest = call.decode()?;
    let asked = node.groups.all().into_iter().map(|slot| {
        let request = Request::ListGroups {
            states: request.states_filter.clone(),
            types: request.types_filter.clone(),
        };
        let token = Token(u64::MAX);
        ((), slot.ask(node, Asked { token, client: Client::default(), version: call.version, request }))
    });
    let asked = asked.collect();
    Ok(answer_all(call, asked, |outcomes: Vec<((), Outcome)>| {
        let mut response = ListGroupsResponse::default();
        for (_, outcome) in outcomes {
            match outcome {
                Ok(Answer::ListGroups(groups)) => response.groups.extend(groups),
                // It is another broker's, which will list its groups itself.
                Err(ErrorCode::NotCoordinator) => {}
                outcome => response.error_code = failure(&outcome),
            }
        }
        response.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        response
    }))
}
