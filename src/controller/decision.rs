//! What every decision is made of: what is asked about ([`Context`]), what is refused ([`Refusal`]), and what
//! comes out ([`Decision`]): records that must be in the log before the answer is true.

use std::collections::BTreeSet;

use crate::config::{BrokerConfig, ConfigError};
use crate::metadata::{ApplyError, Image, ImageBuilder, MetadataRecord};
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::sessions::BrokerSessions;

/// A request, or one item of it, that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For the user.
    pub message: String,
}

impl Refusal {
    /// `code` with a message.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The two fields of an answer.
    pub(super) fn fields(&self) -> (i16, Option<Str>) {
        (self.code.code(), Some(self.message.as_str().into()))
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::new(ErrorCode::InvalidConfig, error.to_string())
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        Self::new(ErrorCode::UnknownServerError, error.to_string())
    }
}

/// What a decision may look at and build on.
pub(super) struct Context<'a> {
    /// The image as it will be once everything decided so far is in the log.
    pub builder: &'a mut ImageBuilder,
    /// This broker's configuration, dynamic values included.
    pub config: &'a BrokerConfig,
    /// The configuration it was started with.
    pub static_config: &'a BrokerConfig,
    /// This node.
    pub node_id: i32,
    /// Draws an id that nobody has had.
    pub draw_id: &'a mut dyn FnMut() -> Uuid,
    /// Where the search for replicas begins, so that topics spread.
    pub next_start: &'a mut usize,
    /// Which brokers were heard of, and when.
    pub sessions: &'a mut BrokerSessions,
    /// Milliseconds of the clock that never goes back.
    pub elapsed_ms: i64,
    /// The offset that the first record of the decision gets.
    pub next_offset: i64,
    /// The cluster's id.
    pub cluster_id: &'a str,
}

impl Context<'_> {
    pub(super) fn image(&self) -> &Image {
        self.builder.image()
    }

    /// Builds on these records from now on.
    pub(super) fn apply(&mut self, records: &[MetadataRecord]) -> Result<(), Refusal> {
        records.iter().try_for_each(|record| self.builder.apply(record.clone())).map_err(Refusal::from)
    }
}

/// What was decided: all of `records`, in one piece, make `answer` true.
pub(super) struct Decision<A> {
    pub records: Vec<MetadataRecord>,
    pub answer: A,
}

/// An answer that can be turned into a refusal of everything in it, for when its records cannot be written.
pub(super) trait Answer: Send + 'static {
    /// Refuses every item that was not refused already.
    fn refuse(&mut self, refusal: &Refusal);

    /// The error codes in it that may say that somebody else is the controller.
    fn codes(&self) -> Vec<i16> {
        Vec::new()
    }
}

/// The most bytes of settings in one request: its records stand in one batch.
pub(super) const SETTINGS_BYTES_MAX: usize = 4 << 20;

/// The longest text that a record carries.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// A value or name that a record can carry.
pub(super) fn check_text(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{what} is {} bytes long; {TEXT_BYTES_MAX} are the most.", text.len());
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// The names that stand in a request more than once.
pub(super) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}
