//! What the broker's keys say about the log cleaner.

use super::error::ConfigError;
use super::key::Value;
use super::layers::BrokerLayers;

/// The least that a thread's table of keys may be given.
const KEY_MAP_BYTES_MIN: i64 = 1 << 20;

/// The broker's settings of the log cleaner. Each may change while it runs, but for `enable`.
#[derive(Clone, PartialEq, Debug)]
pub struct CleanerConfig {
    /// `log.cleaner.enable`
    pub enable: bool,
    /// `log.cleaner.threads`: logs that are cleaned at the same time.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`, for all threads together.
    pub dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`, for all threads together.
    pub io_buffer_bytes: u64,
    /// `log.cleaner.io.max.bytes.per.second`, for all threads together.
    pub io_max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`
    pub backoff_ms: i64,
}

impl CleanerConfig {
    pub(super) fn resolve(layers: &BrokerLayers) -> Result<Self, ConfigError> {
        let double = |name: &str| -> Result<f64, ConfigError> {
            Ok(match layers.value(name)? {
                Some(Value::Double(number)) => number,
                _ => f64::MAX,
            })
        };
        let threads = layers.integer("log.cleaner.threads")?;
        let dedupe_buffer_bytes = layers.integer("log.cleaner.dedupe.buffer.size")?;
        if threads > 0 && dedupe_buffer_bytes / threads < KEY_MAP_BYTES_MIN {
            return Err(ConfigError::Conflict(format!(
                "log.cleaner.dedupe.buffer.size ({dedupe_buffer_bytes}) must be at least 1 MiB for each of the \
                 {threads} threads of log.cleaner.threads"
            )));
        }
        Ok(Self {
            enable: layers.boolean("log.cleaner.enable")?,
            threads: usize::try_from(threads).unwrap_or(0),
            dedupe_buffer_bytes: dedupe_buffer_bytes.unsigned_abs(),
            load_factor: double("log.cleaner.io.buffer.load.factor")?,
            io_buffer_bytes: layers.size("log.cleaner.io.buffer.size")?,
            io_max_bytes_per_second: double("log.cleaner.io.max.bytes.per.second")?,
            backoff_ms: layers.integer("log.cleaner.backoff.ms")?,
        })
    }
}
