//! What the nodes say, encoded and decoded as Kafka's messages on the way.

use klamm::controller::quorum::{AddVoter, Request, Response, VoterChangeRequest, wire};
use klamm::protocol::{Decoder, Message, encode_to_bytes};

const CLUSTER: &str = "simulated-cluster-0001";

/// The message as it comes out of its bytes, in its newest version.
fn sent<M: Message>(message: &M) -> M {
    let version = *M::VERSIONS.end();
    let bytes = encode_to_bytes(message, version).unwrap();
    let mut decoder = Decoder::new(bytes);
    let decoded = M::decode(&mut decoder, version).unwrap();
    assert_eq!(decoder.remaining(), 0);
    decoded
}

/// A request as it arrives.
pub fn request(request: Request) -> Request {
    match request {
        Request::Vote(vote) => {
            Request::Vote(wire::vote::asked(&sent(&wire::vote::request(&vote, CLUSTER))).unwrap())
        }
        Request::BeginEpoch(begin) => {
            Request::BeginEpoch(wire::begin::asked(&sent(&wire::begin::request(&begin, CLUSTER))).unwrap())
        }
        Request::EndEpoch(end) => {
            Request::EndEpoch(wire::end::asked(&sent(&wire::end::request(&end, CLUSTER))).unwrap())
        }
        Request::Fetch(fetch) => {
            let message = wire::fetch::request(&fetch, CLUSTER);
            // The newest version names the replica in a field of its own.
            let message =
                klamm::protocol::messages::fetch_request::FetchRequest { replica_id: -1, ..message };
            Request::Fetch(wire::fetch::asked(&sent(&message), 18).unwrap())
        }
        Request::FetchSnapshot(fetch) => {
            let message = wire::snapshot::request(&fetch, CLUSTER);
            Request::FetchSnapshot(wire::snapshot::asked(&sent(&message)).unwrap())
        }
        Request::UpdateVoter(update) => {
            Request::UpdateVoter(wire::update::asked(&sent(&wire::update::request(&update, CLUSTER))))
        }
        Request::AddVoter(add) => {
            let message = sent(&wire::add::request(&add, CLUSTER, 1));
            let VoterChangeRequest::Add { voter, timeout_ms, ack_when_committed } =
                wire::add::asked(&message)
            else {
                unreachable!("a request to add is one");
            };
            assert!(!ack_when_committed);
            Request::AddVoter(AddVoter { voter, timeout_ms })
        }
        Request::ApiVersions => Request::ApiVersions,
    }
}

/// An answer as it arrives.
pub fn response(response: Response) -> Response {
    match response {
        Response::Vote { error, leadership, granted } => {
            wire::vote::answered(&sent(&wire::vote::response(error, &leadership, granted)))
        }
        Response::BeginEpoch { error, leadership } => {
            wire::begin::answered(&sent(&wire::begin::response(error, &leadership)))
        }
        Response::EndEpoch { error, leadership } => {
            wire::end::answered(&sent(&wire::end::response(error, &leadership)))
        }
        Response::Fetch(fetched) => wire::fetch::answered(&sent(&wire::fetch::response(fetched))),
        Response::FetchSnapshot { error, leadership, snapshot, size, position, bytes } => {
            wire::snapshot::answered(&sent(&wire::snapshot::response(
                error,
                &leadership,
                snapshot,
                (size, position),
                bytes,
            )))
        }
        Response::UpdateVoter { error, leadership } => {
            wire::update::answered(&sent(&wire::update::response(error, &leadership)))
        }
        other @ (Response::VoterChange { .. } | Response::ApiVersions { .. }) => other,
    }
}
