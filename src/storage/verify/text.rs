//! Kafka's small text files, to the letter: what a broker would read all the same (another space, a leading zero, a
//! missing newline) no broker wrote.

use std::collections::BTreeMap;

use crate::storage::checkpoint::{
    CheckpointError, MetaProperties, parse_epochs, parse_offsets, parse_partition_metadata,
    render_partition_metadata, shown,
};
use crate::types::{LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};

/// A text file that was read, and what is odd about it.
#[derive(Debug)]
pub(super) struct Text<T> {
    /// What a broker would read; `None` where it would refuse the file.
    pub(super) value: Option<T>,
    /// Why it is not what a broker writes.
    pub(super) fault: Option<String>,
}

impl<T> Text<T> {
    /// Reads as a broker does, then to the letter.
    fn read(lenient: Result<T, CheckpointError>, strict: impl FnOnce() -> Result<(), String>) -> Self {
        match lenient {
            Err(error) => Self { value: None, fault: Some(error.to_string()) },
            Ok(value) => Self { value: Some(value), fault: strict().err() },
        }
    }
}

/// `leader-epoch-checkpoint`: epochs and offsets grow.
pub(super) fn epochs(bytes: &[u8]) -> Text<Vec<(LeaderEpoch, Offset)>> {
    let mut text = Text::read(parse_epochs(bytes), || {
        lines(bytes, |words| matches!(words, [epoch, start] if is_number(epoch) && is_number(start)))
    });
    let grows = |pair: &[(LeaderEpoch, Offset)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    if text.value.as_ref().is_some_and(|entries| !entries.windows(2).all(grows)) {
        text = Text { value: None, fault: Some("its epochs do not grow".to_owned()) };
    }
    text
}

/// One of the four offset checkpoints.
pub(super) fn offsets(bytes: &[u8]) -> Text<BTreeMap<TopicPartition, Offset>> {
    let is_entry = |words: &[&str]| match words {
        [topic, partition, offset] => {
            TopicName::new(topic).is_ok() && is_number(partition) && is_number(offset)
        }
        _ => false,
    };
    let mut text = Text::read(parse_offsets(bytes), || lines(bytes, is_entry));
    if let (Some(value), None) = (&text.value, &text.fault) {
        let entries = bytes.iter().filter(|byte| **byte == b'\n').count().saturating_sub(2);
        if entries != value.len() {
            text.fault = Some("a partition is listed twice".to_owned());
        } else if let Some((partition, offset)) = value.iter().find(|(_, offset)| offset.0 < 0) {
            text.fault = Some(format!("{partition} is at {offset}"));
        }
    }
    text
}

/// `partition.metadata`.
pub(super) fn topic_id(bytes: &[u8]) -> Text<Uuid> {
    let value = parse_partition_metadata(bytes);
    let is_exact = value.as_ref().is_ok_and(|id| render_partition_metadata(*id) == bytes);
    Text::read(value, || if is_exact { Ok(()) } else { Err("it is not as a broker writes it".to_owned()) })
}

/// `meta.properties`: comments and keys of others are passed over.
pub(super) fn meta_properties(bytes: &[u8]) -> Text<MetaProperties> {
    Text::read(MetaProperties::parse(bytes), || {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if !text.ends_with('\n') {
            return Err("its last line has no end".to_owned());
        }
        let mut keys = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let is_written = line.split_once('=').is_some_and(|(key, value)| {
                keys.push(key);
                let is_numeric = matches!(key, "version" | "node.id" | "broker.id");
                let is_clear = line.bytes().all(|byte| byte.is_ascii_graphic());
                !key.is_empty() && !value.is_empty() && is_clear && (!is_numeric || is_number(value))
            });
            if !is_written {
                return Err(format!("line {}: no broker writes {}", index + 1, shown(line)));
            }
        }
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} is there twice", pair[0]));
        }
        let missing = ["version", "cluster.id", "node.id"].into_iter().find(|key| !keys.contains(key));
        missing.map_or(Ok(()), |key| Err(format!("{key} is missing")))
    })
}

/// Lines `0`, the number of entries, then entries, each ended by a newline, words one space apart.
fn lines(bytes: &[u8], is_entry: impl Fn(&[&str]) -> bool) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let Some(text) = text.strip_suffix('\n') else { return Err("its last line has no end".to_owned()) };
    for (index, line) in text.split('\n').enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let is_right = match index {
            0 => line == "0",
            1 => is_number(line),
            _ => is_entry(&words),
        };
        if !is_right {
            return Err(format!("line {}: no broker writes {}", index + 1, shown(line)));
        }
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every single bit flipped, every byte doubled or left out: what is still read as the same value without a
    /// complaint.
    fn unseen<T: PartialEq + std::fmt::Debug>(sound: &[u8], read: impl Fn(&[u8]) -> Text<T>) -> Vec<String> {
        let Text { value: Some(value), fault: None } = read(sound) else {
            panic!("the sound text is refused")
        };
        let mut changed: Vec<Vec<u8>> = Vec::new();
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut bytes = sound.to_vec();
                bytes[at] ^= 1 << bit;
                changed.push(bytes);
            }
            changed.push([&sound[..at], &sound[at + 1..]].concat());
            for added in [b' ', b'\n', b'0', b'+', 0, sound[at]] {
                changed.push([&sound[..at], &[added], &sound[at..]].concat());
            }
        }
        let is_unseen = |bytes: &Vec<u8>| {
            let text = read(bytes);
            text.fault.is_none() && text.value.as_ref() == Some(&value)
        };
        changed
            .iter()
            .filter(|bytes| is_unseen(bytes))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    #[test]
    fn no_changed_byte_reads_as_the_same_value_in_silence() {
        let none: [String; 0] = [];
        assert_eq!(unseen(b"0\n2\n0 0\n5 100\n", epochs), none);
        assert_eq!(unseen(b"0\n2\na 0 7\nmy-topic 12 100\n", offsets), none);
        assert_eq!(unseen(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ", topic_id), none);
    }

    #[test]
    fn only_comments_and_blank_lines_of_properties_say_nothing() {
        let sound = b"#x\nnode.id=1\nversion=1\ncluster.id=ab\n";
        for text in unseen(sound, meta_properties) {
            let without_comment = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
            let kept: Vec<&str> = without_comment.collect();
            assert!(kept.ends_with(&["node.id=1", "version=1", "cluster.id=ab"]), "{text:?}");
        }
    }

    #[test]
    fn what_a_broker_would_read_is_told_apart_from_what_it_would_refuse() {
        let text = epochs(b"0\n1\n 3 07\n");
        assert_eq!(text.value, Some(vec![(LeaderEpoch(3), Offset(7))]));
        assert!(text.fault.is_some());
        assert!(epochs(b"0\n2\n3 7\n2 9\n").value.is_none());
        assert_eq!(offsets(b"0\n2\na 0 1\na 0 2\n").fault.as_deref(), Some("a partition is listed twice"));
    }
}
