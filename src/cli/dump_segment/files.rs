//! From paths to lines: finds the files, reads each by its kind, and keeps count of what is wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;

use crate::cli::dump_segment::KafkaOptions;
use crate::cli::dump_segment::indexes;
use crate::cli::dump_segment::json::JsonLines;
use crate::cli::dump_segment::lines::{BatchLine, Field, Lines, Target};
use crate::cli::dump_segment::range::Range;
use crate::cli::dump_segment::text::KafkaLines;
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::record::{BatchError, BatchRef, InflateLimits, LegacyMessage, MAGIC, Scratch, advance_sequence};
use crate::storage::checkpoint;
use crate::storage::disk::{Disk, read_small};
use crate::storage::inspect::{
    BatchScan, Content, OffsetIndexFile, RawBatch, ScanFault, TransactionIndexFile,
};
use crate::storage::producer_snapshot;
use crate::types::{Offset, TopicPartition};

/// A batch that a broker took may inflate far: memory is taken for one record at a time.
pub(super) const LIMITS: InflateLimits = InflateLimits { floor_bytes: 4 << 30, ratio: 1_000 };
/// No small file of Kafka's is larger: a checkpoint has a line a partition.
const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;

/// Below this a progress bar would only flicker.
const PROGRESS_BYTES_MIN: u64 = 64 << 20;

/// A bar over all that the logs among `targets` hold, where that is long work.
pub(super) fn progress(disk: &dyn Disk, targets: &[Target], output: &Output) -> Option<ProgressBar> {
    let logs = targets.iter().filter(|target| target.content.holds_batches());
    let total: u64 = logs.filter_map(|log| disk.stat(&log.path).ok()?).map(|stat| stat.len).sum();
    (total >= PROGRESS_BYTES_MIN).then(|| output.progress_bytes(total, "reading"))
}

/// The files below `path` in the order in which they are read; a file stands for itself. Names that are none of
/// Kafka's are given to `ignored`.
pub(super) fn targets(
    disk: &dyn Disk,
    path: &Path,
    ignored: &mut dyn FnMut(&Path),
) -> io::Result<Vec<Target>> {
    let Ok(entries) = disk.list(path) else {
        // Not a folder. Whether it exists is found out when it is opened.
        let content = path.file_name().and_then(|name| Content::of(name.to_str()?));
        let Some(content) = content else {
            disk.stat(path)?.ok_or(io::ErrorKind::NotFound)?;
            ignored(path);
            return Ok(Vec::new());
        };
        let folder = std::path::absolute(path)?;
        let folder = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let partition = folder.and_then(TopicPartition::from_dir_name);
        return Ok(vec![Target { path: path.to_owned(), content, partition }]);
    };
    let name = std::path::absolute(path)?;
    let partition = name.file_name().and_then(|name| name.to_str()).and_then(TopicPartition::from_dir_name);
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for entry in entries {
        let path = path.join(&entry.name);
        match Content::of(&entry.name) {
            _ if entry.is_folder => folders.push(path),
            Some(Content::Lock) => {}
            Some(content) => files.push(Target { path, content, partition: partition.clone() }),
            None => ignored(&path),
        }
    }
    files.sort_by(|a, b| a.content.place().cmp(&b.content.place()).then_with(|| a.path.cmp(&b.path)));
    folders.sort();
    for folder in folders {
        files.extend(targets(disk, &folder, ignored)?);
    }
    Ok(files)
}

/// One run of the command.
pub(super) struct Dump<'o> {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) lines: Box<dyn Lines>,
    pub(super) output: &'o mut Output,
    pub(super) verify_index_only: bool,
    pub(super) index_sanity_check: bool,
    deep: bool,
    max_bytes: Option<u64>,
    range: Range,
    pub(super) scratch: Scratch,
    /// Only where stdout is no terminal: there the lines themselves show that it goes on.
    progress: Option<ProgressBar>,
    is_damaged: bool,
    has_failed: bool,
}

impl<'o> Dump<'o> {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: &KafkaOptions,
        json: bool,
        range: Range,
        output: &'o mut Output,
    ) -> Self {
        let records = options.records();
        let deep = options.deep_iteration || records.contents;
        let lines: Box<dyn Lines> =
            if json { Box::new(JsonLines::new(records, deep)) } else { Box::new(KafkaLines::new(records)) };
        Self {
            disk,
            lines,
            output,
            verify_index_only: options.verify_index_only,
            index_sanity_check: options.index_sanity_check,
            deep,
            max_bytes: options.max_bytes,
            range,
            scratch: Scratch::new(),
            progress: None,
            is_damaged: false,
            has_failed: false,
        }
    }

    pub(super) fn run(mut self, paths: &[PathBuf]) -> anyhow::Result<Exit> {
        let mut found = Vec::new();
        for path in paths {
            let output = &mut *self.output;
            let mut ignored =
                |path: &Path| output.say(format_args!("Ignoring unknown file {}", path.display()));
            match targets(&*self.disk, path, &mut ignored) {
                Ok(targets) if targets.is_empty() && path.is_dir() => {
                    self.failed(format_args!("{}: no file of a log directory is in it", path.display()));
                }
                Ok(targets) => found.extend(targets),
                Err(error) => self.failed(format_args!("{}: {error}", path.display())),
            }
        }
        if !self.output.is_terminal() {
            self.progress = progress(&*self.disk, &found, self.output);
        }
        for target in found {
            self.file(&target)?;
        }
        self.progress.iter().for_each(ProgressBar::finish_and_clear);
        Ok(if self.is_damaged { Exit::Damage } else { Exit::failed_if(self.has_failed) })
    }

    /// Dumps one file. Errors are those of stdout; what is wrong with the file is said.
    fn file(&mut self, target: &Target) -> anyhow::Result<()> {
        self.lines.begin(self.output, target)?;
        match self.content(target) {
            Err(Fault::Output(error)) => Err(error.into()),
            Err(Fault::File(error)) => {
                self.failed(format_args!("{target}: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn content(&mut self, target: &Target) -> Result<(), Fault> {
        match target.content {
            Content::Log(_) | Content::MetadataSnapshot(..) | Content::Bootstrap => self.log(target),
            Content::OffsetIndex(base) => indexes::offset_index(self, target, base),
            Content::TimeIndex(base) => indexes::time_index(self, target, base),
            Content::TransactionIndex(base) => self.transaction_index(target, base),
            Content::ProducerSnapshot(_) => self.producer_snapshot(target),
            _ => self.small_file(target),
        }
    }

    fn log(&mut self, target: &Target) -> Result<(), Fault> {
        let bytes_max = self.max_bytes.unwrap_or(u64::MAX);
        let from = self.first_position(target);
        let mut scan = BatchScan::open(&*self.disk, &target.path, from, bytes_max)?;
        let mut order = Order::default();
        loop {
            match scan.next() {
                Ok(Some(raw)) => {
                    self.entry(target, &raw, &mut order)?;
                    self.progress.iter().for_each(|bar| bar.inc(raw.bytes.len() as u64));
                }
                Ok(None) => break,
                Err(ScanFault::Io(error)) => return Err(error.into()),
                Err(fault) => {
                    self.damage(format_args!("{target}: {fault}"));
                    break;
                }
            }
        }
        if scan.bytes_left() > 0 && self.max_bytes.is_none() {
            self.lines.trailing(self.output, target, scan.bytes_left()).map_err(Fault::Output)?;
            let (count, position) = (scan.bytes_left(), scan.position());
            self.damage(format_args!("{target}: position {position}: {count} bytes are no whole batch"));
        }
        order.tell(target, self.output);
        Ok(())
    }

    /// Where to begin for the first offset that is asked for: by the index beside the log, if there is a sound one.
    fn first_position(&self, target: &Target) -> u64 {
        let (Content::Log(base), Some(first)) = (target.content, self.range.first_offset()) else { return 0 };
        let index = OffsetIndexFile::read(&*self.disk, &target.path.with_extension("index"), base);
        match index {
            Ok(index) if index.sanity_fault().is_none() => index.position_before(first),
            _ => 0,
        }
    }

    fn entry(&mut self, target: &Target, raw: &RawBatch<'_>, order: &mut Order) -> Result<(), Fault> {
        let read = match raw.frame() {
            Ok(frame) if frame.magic == MAGIC => match raw.batch() {
                Ok(batch) => self.batch(target, raw.position, &batch, order)?,
                Err(error) => Err(error),
            },
            Ok(_) => match LegacyMessage::first(raw.bytes) {
                Ok(message) => self.legacy(target, raw.position, &message)?,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            self.damage(format_args!("{target}: position {}: {error}", raw.position));
        }
        Ok(())
    }

    fn batch(
        &mut self,
        target: &Target,
        position: u64,
        batch: &BatchRef<'_>,
        order: &mut Order,
    ) -> Result<Result<(), BatchError>, Fault> {
        let checked = batch.check_crc();
        let line = BatchLine { position, batch: *batch, is_valid: checked.is_ok() };
        if let Some(last) = order.batch(batch) {
            let base = batch.header.base_offset;
            self.damage(format_args!("{target}: position {position}: offset {base} follows {last}"));
        }
        if !self.range.may_touch(&batch.header) {
            return Ok(checked);
        }
        self.lines.batch(self.output, target, &line).map_err(Fault::Output)?;
        if let Err(error) = &checked {
            self.damage(format_args!("{target}: position {position}: {error}"));
        }
        if !self.deep {
            return Ok(Ok(()));
        }
        let mut records = match batch.records(&LIMITS, &mut self.scratch) {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        while let Some(record) = records.next() {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(error)),
            };
            order.record(record.offset);
            if self.range.has_record(record.offset, record.timestamp_ms) {
                self.lines.record(self.output, target, &line, &record).map_err(Fault::Output)?;
            }
        }
        Ok(Ok(()))
    }

    fn legacy(
        &mut self,
        target: &Target,
        position: u64,
        message: &LegacyMessage<'_>,
    ) -> Result<Result<(), BatchError>, Fault> {
        if !self.range.has_record(message.offset, message.timestamp_ms) {
            return Ok(Ok(()));
        }
        self.lines.legacy_batch(self.output, target, position, message).map_err(Fault::Output)?;
        if !message.is_valid() {
            self.damage(format_args!("{target}: position {position}: CRC-32 mismatch"));
        }
        if !self.deep {
            return Ok(Ok(()));
        }
        let mut printed = Ok(());
        let read = message.for_each(&LIMITS, &mut self.scratch, |inner| {
            if printed.is_ok() {
                printed = self.lines.legacy_record(self.output, target, inner);
            }
        });
        printed.map_err(Fault::Output)?;
        Ok(read)
    }

    fn transaction_index(&mut self, target: &Target, base: Offset) -> Result<(), Fault> {
        let index = TransactionIndexFile::read(&*self.disk, &target.path, base)?;
        for entry in &index.entries {
            self.print(
                target,
                &[
                    ("version", Field::Number(0)),
                    ("producerId", Field::Number(entry.producer_id.0)),
                    ("firstOffset", Field::Number(entry.first_offset.0)),
                    ("lastOffset", Field::Number(entry.last_offset.0)),
                    ("lastStableOffset", Field::Number(entry.last_stable_offset.0)),
                ],
            )?;
        }
        if index.is_damaged {
            self.damage(format_args!(
                "{target}: entry {} is torn, unknown or out of order",
                index.entries.len()
            ));
        }
        Ok(())
    }

    fn producer_snapshot(&mut self, target: &Target) -> Result<(), Fault> {
        let bytes = self.small_bytes(target)?;
        let entries = match producer_snapshot::parse(&bytes) {
            Ok(entries) => entries,
            Err(why) => {
                self.damage(format_args!("{target}: the snapshot is corrupt: {why}"));
                return Ok(());
            }
        };
        for entry in entries {
            let mut fields = vec![
                ("producerId", Field::Number(entry.producer_id.0)),
                ("producerEpoch", Field::Number(entry.epoch.0.into())),
                ("coordinatorEpoch", Field::Number(entry.coordinator_epoch.into())),
                (
                    "currentTxnFirstOffset",
                    Field::Optional(entry.transaction_first_offset.map(|offset| offset.0)),
                ),
                ("lastTimestamp", Field::Number(entry.timestamp_ms)),
            ];
            if entry.last_sequence >= 0 || entry.last_offset.0 >= 0 {
                let first_sequence = advance_sequence(entry.last_sequence, -entry.offset_delta);
                fields.extend([
                    ("firstSequence", Field::Number(first_sequence.into())),
                    ("lastSequence", Field::Number(entry.last_sequence.into())),
                    ("lastOffset", Field::Number(entry.last_offset.0)),
                    ("offsetDelta", Field::Number(entry.offset_delta.into())),
                    ("timestamp", Field::Number(entry.timestamp_ms)),
                ]);
            }
            self.print(target, &fields)?;
        }
        Ok(())
    }

    /// Checkpoints and properties: a line an entry.
    fn small_file(&mut self, target: &Target) -> Result<(), Fault> {
        let bytes = self.small_bytes(target)?;
        match small_entries(target.content, &bytes) {
            Ok(entries) => {
                for entry in entries {
                    let fields: Vec<_> =
                        entry.iter().map(|(name, field)| (name.as_str(), field.clone())).collect();
                    self.print(target, &fields)?;
                }
            }
            Err(why) => self.damage(format_args!("{target}: {why}")),
        }
        Ok(())
    }

    fn small_bytes(&self, target: &Target) -> Result<Vec<u8>, Fault> {
        let stat = self.disk.stat(&target.path)?.ok_or(io::ErrorKind::NotFound)?;
        if stat.len > SMALL_FILE_BYTES_MAX {
            let error = format!("{} bytes are too many for such a file", stat.len);
            return Err(io::Error::other(error).into());
        }
        let bytes = read_small(&*self.disk, &target.path)?;
        Ok(bytes.ok_or(io::ErrorKind::NotFound)?)
    }

    pub(super) fn print(&mut self, target: &Target, fields: &[(&str, Field)]) -> Result<(), Fault> {
        self.lines.entry(self.output, target, fields).map_err(Fault::Output)
    }

    pub(super) fn damage(&mut self, what: fmt::Arguments<'_>) {
        self.is_damaged = true;
        self.output.error(what);
    }

    fn failed(&mut self, what: fmt::Arguments<'_>) {
        self.has_failed = true;
        self.output.error(what);
    }
}

/// Why a file was not dumped to its end.
pub(super) enum Fault {
    /// Stdout takes no more: the command ends.
    Output(io::Error),
    /// The file cannot be read: the next one is dumped.
    File(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<io::ErrorKind> for Fault {
    fn from(kind: io::ErrorKind) -> Self {
        Self::File(kind.into())
    }
}

/// The offsets of one log, in the order in which they come by.
#[derive(Default)]
struct Order {
    last_of_batch: Option<Offset>,
    last_record: Option<Offset>,
    gaps: Vec<(Offset, Offset)>,
}

impl Order {
    /// Notes a batch; the offset that it should come after, where it does not.
    fn batch(&mut self, batch: &BatchRef<'_>) -> Option<Offset> {
        let last = self.last_of_batch.replace(batch.header.last_offset());
        last.filter(|&last| batch.header.base_offset <= last)
    }

    fn record(&mut self, offset: Offset) {
        let last = self.last_record.replace(offset);
        self.gaps.extend(last.filter(|last| last.next() != offset).map(|last| (last, offset)));
    }

    /// Says where offsets are missing: cleaning leaves such gaps, and so does loss.
    fn tell(&self, target: &Target, output: &mut Output) {
        if self.gaps.is_empty() {
            return;
        }
        output.say(format_args!("Non-consecutive offsets in {target}"));
        for (last, next) in &self.gaps {
            output.say(format_args!("  {last} is followed by {next}"));
        }
    }
}

type SmallEntry = Vec<(String, Field)>;

/// The entries of a small text file.
fn small_entries(content: Content, bytes: &[u8]) -> Result<Vec<SmallEntry>, String> {
    let number = |name: &str, value: i64| (name.to_owned(), Field::Number(value));
    let text = |name: &str, value: String| (name.to_owned(), Field::Text(value));
    let wrong = |error: checkpoint::CheckpointError| error.to_string();
    Ok(match content {
        Content::LeaderEpochs => checkpoint::parse_epochs(bytes)
            .map_err(wrong)?
            .into_iter()
            .map(|(epoch, start)| vec![number("epoch", epoch.0.into()), number("startOffset", start.0)])
            .collect(),
        // The cleaner's checkpoint is made empty.
        Content::Offsets if bytes.is_empty() => Vec::new(),
        Content::Offsets => checkpoint::parse_offsets(bytes)
            .map_err(wrong)?
            .into_iter()
            .map(|(partition, offset)| {
                vec![
                    text("topic", partition.topic.to_string()),
                    number("partition", partition.partition.into()),
                    number("offset", offset.0),
                ]
            })
            .collect(),
        Content::PartitionMetadata => {
            let topic_id = checkpoint::parse_partition_metadata(bytes).map_err(wrong)?;
            vec![vec![number("version", 0), text("topicId", topic_id.to_string())]]
        }
        Content::QuorumState | Content::CleanShutdown => vec![json_entry(bytes)?],
        Content::MetaProperties => vec![property_entry(bytes)?],
        _ => Vec::new(),
    })
}

fn json_entry(bytes: &[u8]) -> Result<SmallEntry, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON object: {error}"))?;
    let field = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Field::Text(text),
        other => other.as_i64().map_or_else(|| Field::Text(other.to_string()), Field::Number),
    };
    Ok(object.into_iter().map(|(name, value)| (name, field(value))).collect())
}

fn property_entry(bytes: &[u8]) -> Result<SmallEntry, String> {
    checkpoint::MetaProperties::parse(bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), Field::Text(value.trim().to_owned())))
        .collect())
}
