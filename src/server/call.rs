//! One request on its way through a handler: what it says, who asks, and how it is answered.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::metadata::{BrokerEndpoint, BrokerRegistration};
use crate::net::{Answer, Peer, Piece, Reply};
use crate::protocol::frame::{RequestHeader, encode_response};
use crate::protocol::{ApiKey, DecodeError, Decoder, EncodedPiece, ErrorCode, Message, Request, Str};
use crate::storage::Region;

/// Why a request cannot be served at all: its connection ends.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The bytes are not the request that the header announces.
    #[error("a malformed request: {0}")]
    Malformed(#[from] DecodeError),
    /// No such API, or none that is served here.
    #[error("API key {0} is not served here")]
    UnknownApi(i16),
    /// The API has no such version.
    #[error("{api} version {version} is not supported")]
    UnsupportedVersion {
        /// The API's name.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// One request.
#[derive(Debug)]
pub struct Call {
    /// The API.
    pub key: ApiKey,
    /// The request's version.
    pub version: i16,
    correlation_id: i32,
    /// The frame from the header on. Whoever owns it alone may write into it.
    pub frame: Bytes,
    body_at: usize,
    /// Whether the client is Kafka's admin client, which may write to internal topics.
    pub from_admin_client: bool,
    /// Who asks.
    pub peer: Arc<Peer>,
}

/// What Kafka's admin client calls itself.
const ADMIN_CLIENT_ID: &str = "__admin_client";

impl Call {
    /// Reads the header of a frame.
    ///
    /// # Errors
    /// [`Refusal`]: the header is none, or names no API.
    pub fn parse(frame: Bytes, peer: &Arc<Peer>) -> Result<Self, Refusal> {
        let mut decoder = Decoder::new(frame.clone());
        let header = RequestHeader::decode(&mut decoder)?;
        let key = ApiKey::from_key(header.api_key).ok_or(Refusal::UnknownApi(header.api_key))?;
        Ok(Self {
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
            body_at: decoder.position(),
            frame,
            from_admin_client: header.client_id.as_deref() == Some(ADMIN_CLIENT_ID),
            peer: Arc::clone(peer),
        })
    }

    /// The request behind the header.
    ///
    /// # Errors
    /// [`DecodeError`]: the bytes are not a request of this API and version.
    pub fn decode<R: Request>(&self) -> Result<R, DecodeError> {
        R::decode(&mut Decoder::new(self.frame.slice(self.body_at..)), self.version)
    }

    /// What the client calls itself, in a buffer of its own.
    #[must_use]
    pub fn client_id(&self) -> Str {
        let header = RequestHeader::decode(&mut Decoder::new(self.frame.clone()));
        header.ok().and_then(|header| header.client_id).map(|id| id.detached()).unwrap_or_default()
    }

    /// Lets go of the frame, which may be large, before waiting.
    pub fn forget_frame(&mut self) {
        self.frame = Bytes::new();
    }

    /// The answer, in the request's own version.
    pub fn answer<M: Message>(&self, response: &M) -> Answer {
        self.answer_in_version(self.version, response, Vec::new())
    }

    /// The answer in a given version, its gaps filled with `regions` in order.
    pub fn answer_in_version<M: Message>(&self, version: i16, response: &M, regions: Vec<Region>) -> Answer {
        match encode_response(self.correlation_id, self.key, version, response) {
            Ok(pieces) => Answer::Send(fill(pieces, regions)),
            // Our own mistake: say so in the log and end this connection, not the broker.
            Err(error) => Answer::Close { reason: format!("an answer could not be encoded: {error}") },
        }
    }

    /// Where the client reaches `broker` through the listener that it asked.
    #[must_use]
    pub fn endpoint_of<'a>(&self, broker: &'a BrokerRegistration) -> Option<&'a BrokerEndpoint> {
        let by_name = broker.endpoints.iter().find(|endpoint| *endpoint.name == *self.peer.listener);
        by_name.or_else(|| broker.endpoints.first())
    }

    /// The answer, ready at once.
    pub fn reply<M: Message>(&self, response: &M) -> Reply {
        Reply::Now(self.answer(response))
    }
}

/// Puts each region where the message left a gap for it.
fn fill(pieces: Vec<EncodedPiece>, regions: Vec<Region>) -> Vec<Piece> {
    let mut regions = regions.into_iter();
    let mut filled = Vec::with_capacity(pieces.len());
    for piece in pieces {
        filled.push(match piece {
            EncodedPiece::Bytes(bytes) => Piece::Bytes(bytes),
            EncodedPiece::Gap { len } => {
                let region = regions.next().map(piece_of);
                assert!(region.as_ref().is_some_and(|piece| piece.len() == len), "each gap has its region");
                let Some(piece) = region else { continue };
                piece
            }
        });
    }
    assert!(regions.next().is_none(), "each region has its gap");
    filled
}

fn piece_of(region: Region) -> Piece {
    match region {
        Region::File { file, position, len } => Piece::File { file, position, len },
        Region::Bytes(bytes) => Piece::Bytes(bytes),
    }
}

/// An error code as messages carry it.
#[must_use]
pub fn code(error: ErrorCode) -> i16 {
    error.code()
}

/// An error message as messages carry it.
#[must_use]
pub fn text(message: impl Into<String>) -> Option<Str> {
    Some(Str::from(message.into()))
}
