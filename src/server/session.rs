//! What the broker remembers of one connection.

use std::sync::Arc;

use tracing::debug;

use super::intake::Intake;
use super::lifeline::Lifeline;
use crate::net::Peer;

/// One connection, as its requests see it.
#[derive(Debug)]
pub struct Session {
    /// Who is on the other end.
    pub peer: Arc<Peer>,
    /// The order of its appends.
    pub intake: Intake,
    /// The broker whose heartbeats come here, if any do.
    pub lifeline: Option<Lifeline>,
}

impl Session {
    /// A connection that has asked nothing yet.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        Self { peer: Arc::new(peer), intake: Intake::default(), lifeline: None }
    }

    /// The client has said which software it is (ApiVersions 3 and later).
    pub fn greet(&self, name: &str, version: &str) {
        debug!(peer = &*self.peer.address, name, version, "client");
    }
}
