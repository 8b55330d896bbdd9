//! Kafka's small text files, as pure functions between bytes and values: offset checkpoints, leader epochs,
//! `meta.properties`, `partition.metadata`, `.kafka_cleanshutdown`. Files are read and replaced by the callers.
//!
//! Parsing refuses what it does not know (a newer version, a wrong count, a line too many), naming the line;
//! rendering writes what Kafka writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use thiserror::Error;

use crate::types::{LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};

/// Where each log would be recovered from after a crash.
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// The high watermarks.
pub const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
/// Log start offsets that are not the base of the first segment.
pub const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
/// How far each compacted log is clean.
pub const CLEANER_OFFSET_FILE: &str = "cleaner-offset-checkpoint";
/// In each partition: which leader epoch began where.
pub const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";
/// In each partition: the id of its topic.
pub const PARTITION_METADATA_FILE: &str = "partition.metadata";
/// In each log directory: whose it is.
pub const META_PROPERTIES_FILE: &str = "meta.properties";
/// In each log directory, only between a clean stop and the next start.
pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
/// In each log directory: locked while a broker runs on it.
pub const LOCK_FILE: &str = ".lock";

/// The largest checkpoint that is believed: a line of each of a million partitions.
const ENTRIES_MAX: usize = 10_000_000;

/// A text file that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {why}")]
pub struct CheckpointError {
    /// From 1; 0 where the file as a whole is wrong.
    pub line: usize,
    /// What was found.
    pub why: String,
}

fn wrong(line: usize, why: impl Into<String>) -> CheckpointError {
    CheckpointError { line, why: why.into() }
}

/// As much of a line as is worth showing.
pub(in crate::storage) fn shown(line: &str) -> String {
    const CHARS_MAX: usize = 60;
    match line.char_indices().nth(CHARS_MAX) {
        None => format!("{line:?}"),
        Some((end, _)) => format!("{:?} and more", &line[..end]),
    }
}

fn text(bytes: &[u8]) -> Result<&str, CheckpointError> {
    std::str::from_utf8(bytes).map_err(|error| wrong(0, format!("not UTF-8: {error}")))
}

/// `0`, the number of entries, then an entry a line, read by `parse`. A file without a byte has no entries: Kafka
/// creates its checkpoints so when it starts, long before it first writes them.
fn parse_entries<T>(
    bytes: &[u8],
    parse: impl Fn(&mut std::str::SplitAsciiWhitespace<'_>) -> Option<T>,
) -> Result<Vec<T>, CheckpointError> {
    let mut lines = text(bytes)?.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version.trim() != "0" {
        return Err(wrong(1, format!("version {}; 0 is the only one known", shown(version))));
    }
    let count = lines.next().and_then(|line| line.trim().parse::<usize>().ok());
    let count =
        count.filter(|&count| count <= ENTRIES_MAX).ok_or_else(|| wrong(2, "no number of entries"))?;
    let mut entries = Vec::with_capacity(count.min(bytes.len() / 4));
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let entry = parse(&mut words).filter(|_| words.next().is_none());
        entries.push(entry.ok_or_else(|| wrong(index + 3, format!("not an entry: {}", shown(line))))?);
    }
    if entries.len() != count {
        return Err(wrong(2, format!("{count} entries are announced, {} are there", entries.len())));
    }
    Ok(entries)
}

/// Reads one of the four offset checkpoints: `topic partition offset` a line.
///
/// # Errors
/// [`CheckpointError`] with the first line that is wrong.
pub fn parse_offsets(bytes: &[u8]) -> Result<BTreeMap<TopicPartition, Offset>, CheckpointError> {
    let entries = parse_entries(bytes, |words| {
        let topic = TopicName::new(words.next()?).ok()?;
        let partition = words.next()?.parse().ok()?;
        Some((TopicPartition::new(topic, partition), Offset(words.next()?.parse().ok()?)))
    })?;
    Ok(entries.into_iter().collect())
}

/// Writes an offset checkpoint.
#[must_use]
pub fn render_offsets<'a>(offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>) -> Vec<u8> {
    let mut out = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {} {offset}", partition.topic, partition.partition);
    }
    out.into_bytes()
}

/// Reads a `leader-epoch-checkpoint`: `epoch start_offset` a line, both growing.
///
/// # Errors
/// [`CheckpointError`] with the first line that is wrong.
pub fn parse_epochs(bytes: &[u8]) -> Result<Vec<(LeaderEpoch, Offset)>, CheckpointError> {
    parse_entries(bytes, |words| {
        let epoch = LeaderEpoch(words.next()?.parse().ok().filter(|&epoch| epoch >= 0)?);
        let start = Offset(words.next()?.parse().ok().filter(|&offset| offset >= 0)?);
        Some((epoch, start))
    })
}

/// Writes a `leader-epoch-checkpoint`.
#[must_use]
pub fn render_epochs(epochs: impl ExactSizeIterator<Item = (LeaderEpoch, Offset)>) -> Vec<u8> {
    let mut out = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        let _ = writeln!(out, "{epoch} {start}");
    }
    out.into_bytes()
}

/// What `meta.properties` says: whose directory this is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MetaProperties {
    /// 1. Version 0 was written by brokers before KRaft; it is refused.
    pub version: i32,
    /// The cluster the directory belongs to.
    pub cluster_id: Option<String>,
    /// The node that writes to it.
    pub node_id: Option<i32>,
    /// This directory among all of the cluster.
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// Reads `meta.properties`. Keys it does not know are left alone, as Kafka does.
    ///
    /// # Errors
    /// [`CheckpointError`] where a value is not of its kind, or the version is not 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut found = Self { version: -1, cluster_id: None, node_id: None, directory_id: None };
        let mut version_line = 0;
        for (index, line) in text(bytes)?.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let (key, value) = line
                .split_once(['=', ':'])
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| wrong(index + 1, format!("not `key=value`: {}", shown(line))))?;
            let bad = || wrong(index + 1, format!("{key} has no legal value: {}", shown(value)));
            match key {
                "version" => {
                    found.version = value.parse().map_err(|_| bad())?;
                    version_line = index + 1;
                }
                "node.id" | "broker.id" => found.node_id = Some(value.parse().map_err(|_| bad())?),
                "cluster.id" => found.cluster_id = Some(value.to_owned()),
                "directory.id" => found.directory_id = Some(value.parse().map_err(|_| bad())?),
                _ => {}
            }
        }
        match found.version {
            1 => Ok(found),
            -1 => Err(wrong(0, "version is missing")),
            other => {
                let why =
                    format!("version {other}; 1 is the only one known: a newer broker wrote it, use that");
                Err(wrong(version_line, why))
            }
        }
    }

    /// The file's text, keys in alphabetical order.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut out = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(out, "{key}={value}");
            }
        };
        line("cluster.id", self.cluster_id.clone());
        line("directory.id", self.directory_id.map(|id| id.to_string()));
        line("node.id", self.node_id.map(|id| id.to_string()));
        line("version", Some(self.version.to_string()));
        out.into_bytes()
    }
}

/// Reads `partition.metadata`: the topic id.
///
/// # Errors
/// [`CheckpointError`] where version or id is missing or wrong.
pub fn parse_partition_metadata(bytes: &[u8]) -> Result<Uuid, CheckpointError> {
    let mut lines = text(bytes)?.lines();
    let mut value = |number: usize, key: &str| {
        let line = lines.next().unwrap_or_default();
        match line.split_once(':') {
            Some((found, value)) if found.trim() == key => Ok(value.trim()),
            _ => Err(wrong(number, format!("{key:?} is expected, not {}", shown(line)))),
        }
    };
    let version = value(1, "version")?;
    if version != "0" {
        return Err(wrong(1, format!("version {}; 0 is the only one known", shown(version))));
    }
    let id: Uuid = value(2, "topic_id")?.parse().map_err(|error| wrong(2, format!("{error}")))?;
    if id.is_zero() {
        return Err(wrong(2, "the topic id is all zeros"));
    }
    Ok(id)
}

/// Writes `partition.metadata`; as Kafka does, with no newline at its end.
#[must_use]
pub fn render_partition_metadata(topic_id: Uuid) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic_id}").into_bytes()
}

/// Reads `.kafka_cleanshutdown`: the broker epoch of the last run, or -1 where it does not say (old brokers
/// left the file empty; that it is there is what counts).
#[must_use]
pub fn parse_clean_shutdown(bytes: &[u8]) -> i64 {
    let json: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    json.and_then(|value| value.get("brokerEpoch")?.as_i64()).unwrap_or(-1)
}

/// Writes `.kafka_cleanshutdown`.
#[must_use]
pub fn render_clean_shutdown(broker_epoch: i64) -> Vec<u8> {
    format!(r#"{{"version":0,"brokerEpoch":{broker_epoch}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &str) -> TopicPartition {
        TopicPartition::from_dir_name(name).unwrap()
    }

    #[test]
    fn offsets_are_written_and_read_as_kafka_does() {
        let text = "0\n2\n__consumer_offsets 12 7\nmy-topic 0 9223372036854775807\n";
        let parsed = parse_offsets(text.as_bytes()).unwrap();
        assert_eq!(parsed[&partition("__consumer_offsets-12")], Offset(7));
        let rendered = render_offsets(parsed.iter().map(|(partition, offset)| (partition, *offset)));
        assert_eq!(String::from_utf8(rendered).unwrap(), text);
    }

    #[test]
    fn a_checkpoint_that_kafka_has_made_but_not_written_has_no_entries() {
        assert!(parse_offsets(b"").unwrap().is_empty());
        assert!(parse_epochs(b"").unwrap().is_empty());
    }

    #[test]
    fn a_torn_or_foreign_checkpoint_is_refused_with_its_line() {
        for (text, line) in [
            ("1\n0\n", 1),
            ("0\n", 2),
            ("0\nx\n", 2),
            ("0\n2\na 0 1\n", 2),
            ("0\n1\na 0\n", 3),
            ("0\n1\na 0 1 2\n", 3),
            ("0\n99999999999\n", 2),
        ] {
            assert_eq!(parse_offsets(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn epochs_round_trip() {
        let epochs = [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(5), Offset(100))];
        let text = render_epochs(epochs.into_iter());
        assert_eq!(text, b"0\n2\n0 0\n5 100\n");
        assert_eq!(parse_epochs(&text).unwrap(), epochs);
        assert!(parse_epochs(b"0\n1\n-1 0\n").is_err());
    }

    #[test]
    fn meta_properties_of_kafka_are_read() {
        let text =
            b"#\n#Mon Nov 23 04:00:00 UTC 2026\nnode.id=1\ndirectory.id=zKQVbZl1R1WKNf1Hfbv4VQ\nversion=1\ncluster.id=c-1\n";
        let parsed = MetaProperties::parse(text).unwrap();
        assert_eq!((parsed.node_id, parsed.cluster_id.as_deref()), (Some(1), Some("c-1")));
        assert_eq!(MetaProperties::parse(&parsed.render()).unwrap(), parsed);
        assert!(MetaProperties::parse(b"version=0\nbroker.id=1\n").unwrap_err().why.contains("version 0"));
        assert!(MetaProperties::parse(b"node.id=x\nversion=1\n").is_err());
        assert!(MetaProperties::parse(b"").is_err());
    }

    #[test]
    fn partition_metadata_has_no_newline_at_its_end() {
        let text = render_partition_metadata(Uuid::ONE);
        assert_eq!(text, b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(parse_partition_metadata(&text), Ok(Uuid::ONE));
        for torn in [&b""[..], b"version: 0", b"version: 0\ntopic_id: AAAA", b"version: 1\ntopic_id: x"] {
            assert!(parse_partition_metadata(torn).is_err());
        }
    }

    #[test]
    fn the_clean_mark_keeps_the_broker_epoch() {
        assert_eq!(render_clean_shutdown(17), br#"{"version":0,"brokerEpoch":17}"#);
        assert_eq!(parse_clean_shutdown(&render_clean_shutdown(17)), 17);
        assert_eq!(parse_clean_shutdown(b""), -1);
    }
}
