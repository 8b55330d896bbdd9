//! How patient one connection out is, and who it says it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::types::{Clock, SystemClock};

/// What a connection needs to know.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// `client.id`: what the other end logs and meters by.
    pub client_id: Arc<str>,
    /// How long connecting may take, until the other end's ApiVersions are known.
    pub connect_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The largest answer that is taken.
    pub receive_bytes_max: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "klamm".into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            receive_bytes_max: 256 << 20,
            clock: SystemClock::new(),
        }
    }
}

impl fmt::Debug for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOptions")
            .field("client_id", &self.client_id)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}
