//! How patient a client is, and who it says it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::net::outgoing::ConnectionOptions;
use crate::types::{Clock, SystemClock};

/// What every connection and cluster needs to know. `ClientOptions::default()` is what Kafka's clients do.
#[derive(Clone)]
pub struct ClientOptions {
    /// `client.id`: what the broker logs and meters by.
    pub client_id: String,
    /// How long the first broker may take to be found.
    pub bootstrap_timeout: Duration,
    /// How long one address may take to be connected to, until its ApiVersions are known.
    pub connect_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a broker may be silent before another one is asked what has become of it.
    pub patience: Duration,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long a whole call with its retries may take.
    pub api_timeout: Duration,
    /// The largest answer that is taken.
    pub receive_bytes_max: usize,
    /// Metadata older than this is asked for again.
    pub metadata_age_max: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: "klamm".to_owned(),
            bootstrap_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            backoff: Backoff::default(),
            api_timeout: Duration::from_secs(60),
            receive_bytes_max: 256 << 20,
            metadata_age_max: Duration::from_secs(300),
            clock: SystemClock::new(),
        }
    }
}

impl ClientOptions {
    /// What one of its connections needs to know.
    pub(super) fn of_connection(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: self.client_id.as_str().into(),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            receive_bytes_max: self.receive_bytes_max,
            clock: Arc::clone(&self.clock),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("client_id", &self.client_id)
            .field("bootstrap_timeout", &self.bootstrap_timeout)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

/// Pauses that double from `first` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// `retry.backoff.ms`.
    pub first: Duration,
    /// `retry.backoff.max.ms`.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The pause after `failures` failures in a row (the first is 1).
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.max.max(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::default();
        let pauses: Vec<u128> = (1..=6).map(|n| backoff.after(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.after(u32::MAX).as_millis(), 1_000);
    }
}
