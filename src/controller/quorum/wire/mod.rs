//! The quorum's requests and answers as Kafka's messages, and back. What is not about the one partition of the metadata
//! log, or comes from another cluster, is refused here, before anything is decided.

use crate::protocol::{ErrorCode, Str};
use crate::types::{LeaderEpoch, Uuid};

use super::message::Leadership;
use super::voters::Endpoint;

/// The one topic of the quorum.
pub const TOPIC: &str = "__cluster_metadata";
/// Its id, the same in every cluster.
pub const TOPIC_ID: Uuid = Uuid::ONE;

/// Whose requests are answered: those that name no cluster, or this one.
///
/// # Errors
/// INCONSISTENT_CLUSTER_ID.
pub fn check_cluster(asked: Option<&Str>, own: &str) -> Result<(), ErrorCode> {
    match asked {
        Some(asked) if **asked != *own => Err(ErrorCode::InconsistentClusterId),
        _ => Ok(()),
    }
}

/// The one element of a list that is about partition 0 of the metadata log.
///
/// # Errors
/// INVALID_REQUEST where it is about anything else, or more.
fn only<'a, T, P>(
    topics: &'a [T],
    name: impl Fn(&T) -> &Str,
    partitions: impl Fn(&'a T) -> &'a [P],
    index: impl Fn(&P) -> i32,
) -> Result<&'a P, ErrorCode> {
    match topics {
        [topic] if &**name(topic) == TOPIC => match partitions(topic) {
            [partition] if index(partition) == 0 => Ok(partition),
            _ => Err(ErrorCode::InvalidRequest),
        },
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// The error of this number; of one that is not known only that it is one.
fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap_or(ErrorCode::UnknownServerError)
}

fn id_of(leadership: &Leadership) -> i32 {
    leadership.leader_id.unwrap_or(-1)
}

fn leadership(leader_id: i32, epoch: i32, endpoint: Option<Endpoint>) -> Leadership {
    Leadership { leader_id: (leader_id >= 0).then_some(leader_id), epoch: LeaderEpoch(epoch), endpoint }
}

fn endpoint(host: &Str, port: u16) -> Endpoint {
    Endpoint { name: String::new(), host: host.to_string(), port }
}

/// The endpoint that is listed for a leader.
macro_rules! listed {
    ($endpoints:expr, $leader:expr) => {
        $endpoints.iter().find(|listed| listed.node_id == $leader).map(|listed| {
            $crate::controller::quorum::wire::endpoint(
                &listed.host,
                u16::try_from(listed.port).unwrap_or_default(),
            )
        })
    };
}

/// The list with the endpoint of a leader that is known.
macro_rules! listing {
    ($module:ident, $leadership:expr) => {
        $leadership
            .leader_id
            .zip($leadership.endpoint.as_ref())
            .map(|(node_id, endpoint)| $module::NodeEndpoint {
                node_id,
                host: endpoint.host.as_str().into(),
                port: endpoint.port.into(),
                ..$module::NodeEndpoint::default()
            })
            .into_iter()
            .collect()
    };
}

/// Where a node listens, as the struct of this or that message.
macro_rules! listeners {
    ($($listener:ident)::+, $endpoints:expr) => {
        $endpoints
            .iter()
            .map(|endpoint| $($listener)::+ {
                name: endpoint.name.as_str().into(),
                host: endpoint.host.as_str().into(),
                port: endpoint.port,
                ..Default::default()
            })
            .collect()
    };
}
pub(crate) use listeners;

/// Endpoints by name.
macro_rules! named {
    ($listed:expr) => {
        $listed
            .iter()
            .map(|listed| $crate::controller::quorum::Endpoint {
                name: listed.name.to_string(),
                host: listed.host.to_string(),
                port: listed.port,
            })
            .collect()
    };
}

pub mod add;
pub mod begin;
pub mod end;
pub mod fetch;
pub mod snapshot;
pub mod update;
pub mod vote;
