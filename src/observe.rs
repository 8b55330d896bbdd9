//! What a running klamm tells: log lines on stderr, and ONE table of metrics with Prometheus' text form.
//!
//! A metric is a row of [`Metric`]'s table and an atomic number; adding to it costs one instruction, and
//! nothing is allocated but by [`Metrics::render`]. Stdout is never touched.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicI64, Ordering};

use tracing_subscriber::EnvFilter;

/// Which messages are logged: `KLAMM_LOG`, in the syntax of tracing's filters, e.g. `debug` or
/// `klamm::storage=trace`.
pub const LOG_VARIABLE: &str = "KLAMM_LOG";

/// Sends log lines to stderr, from `default_level` on where `KLAMM_LOG` does not say otherwise. A second call
/// changes nothing.
pub fn log_to_stderr(default_level: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default_level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    // An embedding program, or a test, may have set up its own.
    let _ = lines.try_init();
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from 0 at the start.
    Counter,
    /// Up and down.
    Gauge,
}

macro_rules! metrics {
    ($($name:ident $kind:ident $text:literal $help:literal;)*) => {
        /// The rows of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $name,)*
        }

        /// Name, kind and sentence of each row, in the order of [`Metric`].
        const TABLE: &[(&str, MetricKind, &str)] = &[$(($text, MetricKind::$kind, $help),)*];
    };
}

metrics! {
    ConnectionsOpen Gauge "klamm_connections_open" "Connections that are open.";
    ConnectionsAccepted Counter "klamm_connections_accepted_total" "Connections that were accepted.";
    ConnectionsRefused Counter "klamm_connections_refused_total" "Connections closed at once because of a limit.";
    Requests Counter "klamm_requests_total" "Requests that were answered.";
    RequestsMalformed Counter "klamm_requests_malformed_total" "Requests that closed their connection.";
    RequestBytesHeld Gauge "klamm_request_bytes_held" "Bytes of requests in memory.";
    ProduceBytes Counter "klamm_produce_bytes_total" "Bytes of batches that producers sent.";
    ProduceBatches Counter "klamm_produce_batches_total" "Batches that were appended for producers.";
    ProduceRefused Counter "klamm_produce_refused_total" "Batches that were answered with an error.";
    FetchBytes Counter "klamm_fetch_bytes_total" "Bytes of batches that were sent to readers.";
    FetchSessions Gauge "klamm_fetch_sessions" "Fetch sessions that are kept.";
    Partitions Gauge "klamm_partitions" "Partitions that are open.";
    SegmentsRolled Counter "klamm_segments_rolled_total" "Segments that were begun because another was full or old.";
    SegmentsDeleted Counter "klamm_segments_deleted_total" "Segments that retention has deleted.";
    Flushes Counter "klamm_flushes_total" "Syncs of partitions to disk.";
    LogDirectoriesOffline Gauge "klamm_log_directories_offline" "Log directories out of use after a failure.";
}

/// The numbers of one broker.
#[derive(Debug, Default)]
pub struct Metrics {
    values: [AtomicI64; TABLE.len()],
}

impl Metrics {
    /// Adds to a counter, or moves a gauge.
    pub fn add(&self, metric: Metric, by: i64) {
        self.values[metric as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, value: i64) {
        self.values[metric as usize].store(value, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self, metric: Metric) -> i64 {
        self.values[metric as usize].load(Ordering::Relaxed)
    }

    /// All of them in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(TABLE.len() * 160);
        for ((name, kind, help), value) in TABLE.iter().zip(&self.values) {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let value = value.load(Ordering::Relaxed);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.add(Metric::ProduceBytes, 40);
        metrics.add(Metric::ProduceBytes, 2);
        metrics.set(Metric::Partitions, 7);
        assert_eq!(metrics.get(Metric::ProduceBytes), 42);
        let text = metrics.render();
        assert!(text.contains("# TYPE klamm_produce_bytes_total counter\nklamm_produce_bytes_total 42\n"));
        assert!(text.contains("# TYPE klamm_partitions gauge\nklamm_partitions 7\n"));
        assert_eq!(text.lines().count(), TABLE.len() * 3);
    }

    #[test]
    fn counters_end_in_total_and_names_are_used_once() {
        let mut names: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
        for (name, kind, _) in TABLE {
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
