//! The way out to the other nodes of the quorum: a thread with a runtime of its own, so that no stalled disk and no
//! crowd of clients costs an election. One connection a place; what cannot be sent is answered as lost, at once.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::net::outgoing::{Address, Connection, ConnectionError, ConnectionOptions};
use crate::protocol::ErrorCode;
use crate::protocol::messages::add_raft_voter_request::AddRaftVoterRequest;
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::types::Clock;

use super::super::driver::Command;
use super::super::error::ControllerError;
use super::super::quorum::wire::{add, begin, end, fetch, snapshot, update, vote};
use super::super::quorum::{CallFailure, Endpoint, Request, Response};
use super::MemberCommand;

/// From this version of Fetch on a replica names itself in another place.
const REPLICA_STATE_FROM: i16 = 15;

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub call: u64,
    pub endpoint: Endpoint,
    pub request: Request,
}

/// The way out; it ends with its last handle.
pub(super) type Peers = mpsc::UnboundedSender<Outgoing>;

/// The way back to the thread that owns the quorum.
type Answers = Weak<parking_lot::Mutex<Option<Sender<Command>>>>;

type Slot = Arc<Mutex<Option<Connection>>>;

/// Starts the thread. Answers go to `answers`.
pub(super) fn spawn(
    cluster_id: Arc<str>,
    node_id: i32,
    request_timeout: Duration,
    clock: Arc<dyn Clock>,
    answers: Answers,
) -> Result<(Peers, JoinHandle<()>), ControllerError> {
    let system = |error: io::Error| ControllerError::System(format!("the quorum's thread: {error}"));
    let (sender, receiver) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let options = ConnectionOptions {
        client_id: format!("klamm-quorum-{node_id}").into(),
        connect_timeout: request_timeout,
        request_timeout,
        clock,
        ..ConnectionOptions::default()
    };
    let thread = std::thread::Builder::new()
        .name("quorum".to_owned())
        .spawn(move || runtime.block_on(run(receiver, options, cluster_id, answers)))
        .map_err(system)?;
    Ok((sender, thread))
}

async fn run(
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    options: ConnectionOptions,
    cluster_id: Arc<str>,
    answers: Answers,
) {
    let mut slots: HashMap<(String, u16), Slot> = HashMap::new();
    let is_foreign = Arc::new(AtomicBool::new(false));
    let mut calls = JoinSet::new();
    while let Some(Outgoing { call, endpoint, request }) = outgoing.recv().await {
        let slot = slots.entry((endpoint.host.clone(), endpoint.port)).or_default();
        let (slot, options) = (Arc::clone(slot), options.clone());
        let (cluster_id, answers) = (Arc::clone(&cluster_id), Weak::clone(&answers));
        let is_foreign = Arc::clone(&is_foreign);
        while calls.try_join_next().is_some() {}
        calls.spawn(async move {
            let result = ask(&slot, &endpoint, &options, &cluster_id, &request).await;
            if let Ok(response) = &result {
                note_foreign(&is_foreign, response, &endpoint, &cluster_id);
            }
            if let Err(error) = &result {
                tracing::debug!(%error, "a request inside the quorum has no answer");
            }
            let result = result.map_err(|error| match error {
                ConnectionError::Connect { source, .. }
                    if source.kind() == io::ErrorKind::ConnectionRefused =>
                {
                    CallFailure::Refused
                }
                _ => CallFailure::Lost,
            });
            // Nobody waits where the node has ended meanwhile.
            if let Some(answers) = answers.upgrade().and_then(|answers| answers.lock().clone()) {
                let _ = answers.send(Command::Member(MemberCommand::Answered { call, result }));
            }
        });
    }
    // The last words of a node that stops.
    while calls.join_next().await.is_some() {}
}

/// Says once that this node is in the wrong place: it would ask in vain for ever.
fn note_foreign(is_said: &AtomicBool, response: &Response, endpoint: &Endpoint, cluster_id: &str) {
    let code = response.error();
    if code == ErrorCode::InconsistentClusterId && !is_said.swap(true, Ordering::Relaxed) {
        let (host, port) = (&endpoint.host, endpoint.port);
        tracing::error!(
            code = code.name(),
            "the quorum at {host}:{port} is of another cluster; this node's directory is of cluster {cluster_id}"
        );
    }
}

/// One request over the connection to `endpoint`, which is made where there is none.
async fn ask(
    slot: &Slot,
    endpoint: &Endpoint,
    options: &ConnectionOptions,
    cluster_id: &str,
    request: &Request,
) -> Result<Response, ConnectionError> {
    let known = slot.lock().await.clone().filter(|connection| connection.broken().is_none());
    let connection = match known {
        Some(connection) => connection,
        None => {
            let address = Address::Tcp { host: endpoint.host.clone(), port: endpoint.port };
            let connection = Connection::connect(&address, options).await?;
            *slot.lock().await = Some(connection.clone());
            connection
        }
    };
    match request {
        Request::Vote(asked) => {
            Ok(vote::answered(&connection.call(&vote::request(asked, cluster_id)).await?))
        }
        Request::BeginEpoch(asked) => {
            Ok(begin::answered(&connection.call(&begin::request(asked, cluster_id)).await?))
        }
        Request::EndEpoch(asked) => {
            Ok(end::answered(&connection.call(&end::request(asked, cluster_id)).await?))
        }
        Request::Fetch(asked) => {
            let version = connection.version_of::<FetchRequest>(i16::MAX)?;
            let mut request = fetch::request(asked, cluster_id);
            // One of the two places says who fetches.
            if version >= REPLICA_STATE_FROM {
                request.replica_id = -1;
            } else {
                request.replica_state = Default::default();
            }
            let pending = connection.start(&request, version, options.request_timeout)?;
            Ok(fetch::answered(&pending.answer().await?))
        }
        Request::FetchSnapshot(asked) => {
            Ok(snapshot::answered(&connection.call(&snapshot::request(asked, cluster_id)).await?))
        }
        Request::UpdateVoter(asked) => {
            Ok(update::answered(&connection.call(&update::request(asked, cluster_id)).await?))
        }
        Request::AddVoter(asked) => {
            let version = connection.version_of::<AddRaftVoterRequest>(i16::MAX)?;
            let request = add::request(asked, cluster_id, version);
            let pending = connection.start(&request, version, options.request_timeout)?;
            Ok(add::answered(&pending.answer().await?))
        }
        Request::ApiVersions => {
            // Whoever does not say what it is is refused by some.
            let request = ApiVersionsRequest {
                client_software_name: "klamm".into(),
                client_software_version: env!("CARGO_PKG_VERSION").into(),
                ..ApiVersionsRequest::default()
            };
            let answer = connection.call(&request).await?;
            let supported =
                answer.supported_features.iter().find(|feature| &*feature.name == "kraft.version");
            let kraft_versions = supported.map_or((0, 0), |known| (known.min_version, known.max_version));
            Ok(Response::ApiVersions { error: ErrorCode::from_wire(answer.error_code), kraft_versions })
        }
    }
}
