//! Envelope (58): a request that a broker passes on for its client, served as if it had come by itself.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tracing::warn;

use super::QuorumService;
use crate::net::{Answer, Piece, Reply};
use crate::protocol::messages::envelope_request::EnvelopeRequest;
use crate::protocol::messages::envelope_response::EnvelopeResponse;
use crate::protocol::{ApiKey, DecodeError, ErrorCode};
use crate::server::call::Call;
use crate::server::session::Session;

/// The size in front of an answer.
const SIZE_BYTES: usize = 4;

/// Envelope, version 0.
pub(super) fn handle(
    service: &Arc<QuorumService>,
    session: &mut Session,
    mut call: Call,
) -> Result<Reply, DecodeError> {
    let request: EnvelopeRequest = call.decode()?;
    call.forget_frame();
    let inner = Call::parse(request.request_data, &session.peer);
    let served = match inner {
        Ok(inner) if inner.key != ApiKey::Envelope && inner.key.api().forwarded => {
            service.serve(session, inner)
        }
        Ok(inner) => Err(super::Refusal::UnknownApi(inner.key as i16)),
        Err(refusal) => Err(refusal),
    };
    Ok(match served {
        Ok(Reply::Now(answer)) => call.reply(&wrapped(answer)),
        Ok(Reply::Later(answer)) => {
            Reply::Later(Box::pin(async move { call.answer(&wrapped(answer.await)) }))
        }
        Err(refusal) => {
            warn!(peer = &*call.peer.address, %refusal, "what a broker passes on is refused");
            call.reply(&refused(ErrorCode::InvalidRequest))
        }
    })
}

fn wrapped(answer: Answer) -> EnvelopeResponse {
    let Answer::Send(pieces) = answer else { return refused(ErrorCode::UnknownServerError) };
    let mut bytes = BytesMut::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
            // No answer of a controller comes from a file.
            Piece::File { .. } => return refused(ErrorCode::UnknownServerError),
        }
    }
    let bytes: Bytes = bytes.freeze();
    match bytes.len() {
        SIZE_BYTES.. => {
            EnvelopeResponse { response_data: Some(bytes.slice(SIZE_BYTES..)), ..Default::default() }
        }
        _ => refused(ErrorCode::UnknownServerError),
    }
}

fn refused(code: ErrorCode) -> EnvelopeResponse {
    EnvelopeResponse { error_code: code.code(), ..Default::default() }
}
