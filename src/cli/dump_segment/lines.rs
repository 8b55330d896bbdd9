//! What there is to print about a file, and the two forms it is printed in: [`Lines`] is implemented by
//! Kafka's own lines (`text.rs`) and by JSON (`json.rs`).

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::cli::dump_segment::decode::RecordDecoder;
use crate::cli::output::Output;
use crate::record::{BatchRef, LegacyMessage, RecordRef};
use crate::storage::inspect::Content;
use crate::types::TopicPartition;

/// The file that is being dumped.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// As the user named it, or below the folder that the user named.
    pub(super) path: PathBuf,
    pub(super) content: Content,
    /// By the folder's name, where it is a partition's.
    pub(super) partition: Option<TopicPartition>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// A batch and where it stands.
#[derive(Clone, Copy)]
pub(super) struct BatchLine<'a> {
    pub(super) position: u64,
    pub(super) batch: BatchRef<'a>,
    pub(super) is_valid: bool,
}

/// What is shown of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordOptions {
    /// `--print-data-log`, or any decoder: keys and values too.
    pub(super) contents: bool,
    /// `--skip-record-metadata`: nothing but those.
    pub(super) skip_metadata: bool,
    pub(super) decoder: RecordDecoder,
}

/// One value of an entry that is neither batch nor record.
#[derive(Debug, Clone)]
pub(super) enum Field {
    Number(i64),
    Optional(Option<i64>),
    Text(String),
}

/// An entry of an index, a snapshot or a checkpoint: names as Kafka prints them, and values.
pub(super) type Entry<'a> = &'a [(&'a str, Field)];

/// One form of output.
pub(super) trait Lines {
    /// A file begins.
    fn begin(&mut self, out: &mut Output, target: &Target) -> io::Result<()>;
    /// A batch of magic 2.
    fn batch(&mut self, out: &mut Output, target: &Target, line: &BatchLine<'_>) -> io::Result<()>;
    /// A record in it.
    fn record(
        &mut self,
        out: &mut Output,
        target: &Target,
        line: &BatchLine<'_>,
        record: &RecordRef<'_>,
    ) -> io::Result<()>;
    /// A message of magic 0 or 1 that stands in the file itself.
    fn legacy_batch(
        &mut self,
        out: &mut Output,
        target: &Target,
        position: u64,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()>;
    /// A message of magic 0 or 1: that one, or one inside it.
    fn legacy_record(
        &mut self,
        out: &mut Output,
        target: &Target,
        message: &LegacyMessage<'_>,
    ) -> io::Result<()>;
    /// An entry of another kind of file.
    fn entry(&mut self, out: &mut Output, target: &Target, entry: Entry<'_>) -> io::Result<()>;
    /// A sentence about the whole file: "is empty", "passed sanity check".
    fn remark(&mut self, out: &mut Output, target: &Target, remark: &str) -> io::Result<()>;
    /// Bytes after the last whole batch.
    fn trailing(&mut self, out: &mut Output, target: &Target, count: u64) -> io::Result<()>;
}
