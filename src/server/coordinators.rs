//! FindCoordinator (10), versions 0 to 6: answered, because old clients look for the API; but no coordinator
//! is served here yet, and the answer says so.

use super::call::{Call, text};
use crate::net::Reply;
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use crate::protocol::{DecodeError, ErrorCode};

/// From this version on a request asks for several coordinators.
const MANY_FROM: i16 = 4;

/// COORDINATOR_NOT_AVAILABLE, with what is missing.
///
/// # Errors
/// The request is malformed.
pub fn find(call: &Call) -> Result<Reply, DecodeError> {
    let request: FindCoordinatorRequest = call.decode()?;
    let (code, message) = match request.key_type {
        0 => (ErrorCode::CoordinatorNotAvailable, "klamm does not coordinate consumer groups yet"),
        1 => (ErrorCode::CoordinatorNotAvailable, "klamm does not coordinate transactions yet"),
        2 => (ErrorCode::CoordinatorNotAvailable, "klamm does not coordinate share groups yet"),
        _ => (ErrorCode::InvalidRequest, "the key type is none of 0 (group), 1 (transaction), 2 (share)"),
    };
    let mut response = FindCoordinatorResponse::default();
    if call.version < MANY_FROM {
        response.error_code = code.code();
        response.error_message = text(message);
        (response.node_id, response.port) = (-1, -1);
    } else {
        let answers = request.coordinator_keys.into_iter().map(|key| Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: text(message),
            ..Coordinator::default()
        });
        response.coordinators = answers.collect();
    }
    Ok(call.reply(&response))
}
