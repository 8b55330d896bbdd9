//! What a running klamm tells: log lines on stderr. Stdout is never touched.

use std::io::IsTerminal as _;

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
        // Of a terminal that is gone nothing can be said anywhere.
        .log_internal_errors(false)
        .with_target(false);
    // An embedding program, or a test, may have set up its own.
    let _ = lines.try_init();
}
