//! Vote (52), BeginQuorumEpoch (53), EndQuorumEpoch (54), Fetch (1) of the metadata log, FetchSnapshot (59),
//! UpdateRaftVoter (82): what nodes of a quorum ask of each other. A request of another cluster, or about anything
//! else than the metadata log, gets its code and one line in the log, and changes nothing.

use std::sync::Arc;

use tracing::warn;

use super::QuorumService;
use crate::controller::quorum::wire::{self, begin, end, fetch as fetched, snapshot, update, vote as voted};
use crate::controller::quorum::{Request, Response};
use crate::net::{Answer, Reply};
use crate::protocol::messages::begin_quorum_epoch_request::BeginQuorumEpochRequest;
use crate::protocol::messages::end_quorum_epoch_request::EndQuorumEpochRequest;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_snapshot_request::FetchSnapshotRequest;
use crate::protocol::messages::update_raft_voter_request::UpdateRaftVoterRequest;
use crate::protocol::messages::vote_request::VoteRequest;
use crate::protocol::{DecodeError, ErrorCode, Message};
use crate::server::call::Call;
use crate::server::session::Session;

/// Whoever fetches the metadata log says the epoch of its last record since this version.
const FETCH_WITH_EPOCHS_FROM: i16 = 12;

/// Has the quorum answer, or refuses.
fn answer<M: Message + 'static>(
    service: &Arc<QuorumService>,
    mut call: Call,
    asked: Result<Request, ErrorCode>,
    refused: fn(ErrorCode) -> M,
    response: fn(Response) -> Option<M>,
) -> Reply {
    call.forget_frame();
    match asked {
        Err(code) => {
            let (peer, api) = (&*call.peer.address, call.key.name());
            if service.refusals.is_new(peer, call.key, code) {
                warn!(peer, api, code = code.name(), "a request to the quorum is refused; this is said once");
            }
            call.reply(&refused(code))
        }
        Ok(request) => {
            let controller = service.controller.clone();
            Reply::Later(Box::pin(async move {
                match controller.quorum_request(request).await.and_then(response) {
                    Some(response) => call.answer(&response),
                    None => Answer::Close { reason: "this node takes no part in the quorum".to_owned() },
                }
            }))
        }
    }
}

/// Vote, versions 0 to 2.
pub(super) fn vote(service: &Arc<QuorumService>, _: &mut Session, call: Call) -> Result<Reply, DecodeError> {
    let request: VoteRequest = call.decode()?;
    let asked = wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
        .and_then(|()| voted::asked(&request).map(Request::Vote));
    Ok(answer(service, call, asked, voted::refused, |response| match response {
        Response::Vote { error, leadership, granted } => Some(voted::response(error, &leadership, granted)),
        _ => None,
    }))
}

/// BeginQuorumEpoch, versions 0 and 1.
pub(super) fn begin_epoch(
    service: &Arc<QuorumService>,
    _: &mut Session,
    call: Call,
) -> Result<Reply, DecodeError> {
    let request: BeginQuorumEpochRequest = call.decode()?;
    let asked = wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
        .and_then(|()| begin::asked(&request).map(Request::BeginEpoch));
    Ok(answer(service, call, asked, begin::refused, |response| match response {
        Response::BeginEpoch { error, leadership } => Some(begin::response(error, &leadership)),
        _ => None,
    }))
}

/// EndQuorumEpoch, versions 0 and 1.
pub(super) fn end_epoch(
    service: &Arc<QuorumService>,
    _: &mut Session,
    call: Call,
) -> Result<Reply, DecodeError> {
    let request: EndQuorumEpochRequest = call.decode()?;
    let asked = wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
        .and_then(|()| end::asked(&request).map(Request::EndEpoch));
    Ok(answer(service, call, asked, end::refused, |response| match response {
        Response::EndEpoch { error, leadership } => Some(end::response(error, &leadership)),
        _ => None,
    }))
}

/// Fetch of the metadata log, versions 12 and later.
pub(super) fn fetch(service: &Arc<QuorumService>, _: &mut Session, call: Call) -> Result<Reply, DecodeError> {
    let request: FetchRequest = call.decode()?;
    let asked = match call.version {
        FETCH_WITH_EPOCHS_FROM.. => wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
            .and_then(|()| fetched::asked(&request, call.version).map(Request::Fetch)),
        _ => Err(ErrorCode::InvalidRequest),
    };
    Ok(answer(service, call, asked, fetched::refused, |response| match response {
        Response::Fetch(content) => Some(fetched::response(content)),
        _ => None,
    }))
}

/// FetchSnapshot, versions 0 and 1.
pub(super) fn fetch_snapshot(
    service: &Arc<QuorumService>,
    _: &mut Session,
    call: Call,
) -> Result<Reply, DecodeError> {
    let request: FetchSnapshotRequest = call.decode()?;
    let asked = wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
        .and_then(|()| snapshot::asked(&request).map(Request::FetchSnapshot));
    Ok(answer(service, call, asked, snapshot::refused, |response| match response {
        Response::FetchSnapshot { error, leadership, snapshot: id, size, position, bytes } => {
            Some(snapshot::response(error, &leadership, id, (size, position), bytes))
        }
        _ => None,
    }))
}

/// UpdateRaftVoter, version 0.
pub(super) fn update_voter(
    service: &Arc<QuorumService>,
    _: &mut Session,
    call: Call,
) -> Result<Reply, DecodeError> {
    let request: UpdateRaftVoterRequest = call.decode()?;
    let asked = wire::check_cluster(request.cluster_id.as_ref(), &service.cluster_id)
        .map(|()| Request::UpdateVoter(update::asked(&request)));
    let refused = |code| update::response(code, &Default::default());
    Ok(answer(service, call, asked, refused, |response| match response {
        Response::UpdateVoter { error, leadership } => Some(update::response(error, &leadership)),
        _ => None,
    }))
}
