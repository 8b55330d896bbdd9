//! Where a group's offsets are to be moved: what was asked for, partition by partition, within what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::client::Committed;
use crate::types::{TopicName, TopicPartition, parse_time};

/// Where offsets are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    /// Where they are; the end, where nothing is committed.
    Current,
    Offset(i64),
    /// The first record at or after this time; the end, where there is none.
    TimeMs(i64),
    /// So many records on, or back.
    Shift(i64),
}

impl Target {
    /// Reads `earliest`, `latest`, `current`, `N`, `@TIME`.
    pub(super) fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        match text {
            "earliest" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            "current" => return Ok(Self::Current),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return parse_time(time, now_ms).map(Self::TimeMs).map_err(|error| error.to_string());
        }
        let offset = text.parse().ok().filter(|&offset: &i64| offset >= 0);
        offset.map(Self::Offset).ok_or_else(|| {
            "earliest, latest, current, an offset, or @TIME (@2026-01-01T00:00:00Z, @-15m) is expected"
                .to_owned()
        })
    }
}

/// What becomes of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) current: Option<i64>,
    /// What is committed instead.
    pub(super) offset: i64,
    pub(super) metadata: String,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Whether what was asked for lies outside of what is there.
    #[serde(skip)]
    pub(super) is_clamped: bool,
}

impl Change {
    /// A change to `wanted`, or to what is there that is nearest.
    pub(super) fn new(
        group: &str,
        partition: &TopicPartition,
        current: Option<i64>,
        wanted: i64,
        (start, end): (i64, i64),
    ) -> Self {
        let offset = wanted.clamp(start, end.max(start));
        Self {
            group: group.to_owned(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            current,
            offset,
            metadata: String::new(),
            start,
            end,
            is_clamped: offset != wanted,
        }
    }
}

/// A line of `groups export`, or of `groups lag --json`.
#[derive(Debug, Deserialize)]
struct Line {
    group: Option<String>,
    topic: String,
    partition: i32,
    #[serde(alias = "current")]
    offset: Option<i64>,
    #[serde(default)]
    leader_epoch: Option<i32>,
    #[serde(default)]
    metadata: Option<String>,
}

/// Offsets of a group, as a file has them.
#[derive(Debug, Default)]
pub struct FileOffsets {
    /// By partition.
    pub offsets: BTreeMap<TopicPartition, Committed>,
    /// Whose they are in the file, where that is another group.
    pub of: Option<String>,
}

/// Reads what `groups export` wrote, or Kafka's CSV: `topic,partition,offset`, `group,topic,partition,offset`. Where the
/// file has one group, `group` stands in its place; where it has several, the lines of others are passed over.
///
/// # Errors
/// What is wrong with it, and in which line; or which groups it has, where `group` is none of several.
pub fn parse_file(text: &str, group: &str) -> Result<FileOffsets, String> {
    let lines = parse_lines(text)?;
    let groups: BTreeSet<&str> = lines.iter().filter_map(|(_, line)| line.group.as_deref()).collect();
    let is_one = groups.len() == 1;
    if groups.len() > 1 && !groups.contains(group) && lines.iter().all(|(_, line)| line.group.is_some()) {
        let names: Vec<&str> = groups.into_iter().collect();
        return Err(format!("the file has offsets of the groups {}; none of {group}", names.join(", ")));
    }
    let of = groups.first().filter(|of| is_one && **of != group).map(|of| (*of).to_owned());
    let mut offsets = BTreeMap::new();
    for (number, line) in lines {
        let at = |why: String| format!("line {number}: {why}");
        let Line { group: of, topic, partition, offset, leader_epoch, metadata } = line;
        // What was never committed has nothing to go back to.
        let Some(offset) = offset else { continue };
        if !is_one && of.is_some_and(|of| of != group) {
            continue;
        }
        let topic = TopicName::new(&topic).map_err(|error| at(error.to_string()))?;
        if partition < 0 || offset < 0 {
            return Err(at("partition and offset are numbers from 0".to_owned()));
        }
        let partition = TopicPartition::new(topic, partition);
        let committed = Committed {
            offset,
            leader_epoch: leader_epoch.unwrap_or(-1),
            metadata: metadata.unwrap_or_default(),
        };
        if offsets.insert(partition.clone(), committed).is_some() {
            return Err(at(format!("{partition} is named twice")));
        }
    }
    Ok(FileOffsets { offsets, of })
}

/// The lines that say something, with their numbers.
fn parse_lines(text: &str) -> Result<Vec<(usize, Line)>, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let at = |why: String| format!("line {}: {why}", index + 1);
        let parsed = if line.starts_with('{') {
            serde_json::from_str(line).map_err(|error| at(error.to_string()))?
        } else {
            parse_csv(line).map_err(at)?
        };
        lines.push((index + 1, parsed));
    }
    Ok(lines)
}

fn parse_csv(line: &str) -> Result<Line, String> {
    let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
    let (group, rest) = match fields.as_slice() {
        [topic, partition, offset] => (None, [*topic, *partition, *offset]),
        [group, topic, partition, offset] => (Some((*group).to_owned()), [*topic, *partition, *offset]),
        _ => return Err("topic,partition,offset or group,topic,partition,offset is expected".to_owned()),
    };
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text:?} is not a number"));
    Ok(Line {
        group,
        topic: rest[0].to_owned(),
        partition: i32::try_from(number(rest[1])?)
            .map_err(|_| format!("{:?} is not a partition", rest[1]))?,
        offset: Some(number(rest[2])?),
        leader_epoch: None,
        metadata: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, number: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new(topic).unwrap(), number)
    }

    #[test]
    fn targets_are_names_numbers_and_times() {
        for (text, target) in [
            ("earliest", Target::Earliest),
            ("end", Target::Latest),
            ("current", Target::Current),
            ("42", Target::Offset(42)),
            ("@-15m", Target::TimeMs(100_000)),
            ("@1970-01-01T00:00:01Z", Target::TimeMs(1_000)),
        ] {
            assert_eq!(Target::parse(text, 1_000_000), Ok(target), "{text}");
        }
        for bad in ["", "-5", "soon", "@", "@soon", "1e9"] {
            assert!(Target::parse(bad, 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_of_kafka_and_ours_are_read() {
        let kafka = "t,0,5\n\"g\",\"u\",1,7\nother,t,1,9\n";
        let read = parse_file(kafka, "g").unwrap().offsets;
        assert_eq!(read.len(), 2);
        assert_eq!((read[&partition("t", 0)].offset, read[&partition("u", 1)].offset), (5, 7));
        let ours = "{\"group\":\"g\",\"topic\":\"t\",\"partition\":0,\"offset\":5,\"leader_epoch\":2,\"metadata\":\"m\"}\n\
                    {\"group\":\"g\",\"topic\":\"t\",\"partition\":1,\"current\":6,\"lag\":3}\n\
                    {\"group\":\"g\",\"topic\":\"t\",\"partition\":2,\"current\":null}\n\n";
        let read = parse_file(ours, "g").unwrap().offsets;
        let first = Committed { offset: 5, leader_epoch: 2, metadata: "m".to_owned() };
        assert_eq!((&read[&partition("t", 0)], read[&partition("t", 1)].offset, read.len()), (&first, 6, 2));
    }

    #[test]
    fn the_one_group_of_a_file_gives_way_to_the_one_that_is_named_and_one_of_several_does_not() {
        let json = "{\"group\":\"old\",\"topic\":\"t\",\"partition\":0,\"offset\":5}\n";
        for one in [json, "old,t,0,5\n"] {
            let read = parse_file(one, "new").unwrap();
            assert_eq!((read.offsets[&partition("t", 0)].offset, read.of.as_deref()), (5, Some("old")));
            assert_eq!(parse_file(one, "old").unwrap().of, None);
        }
        let several = "old,t,0,5\nother,t,0,6\n";
        assert_eq!(parse_file(several, "other").unwrap().offsets[&partition("t", 0)].offset, 6);
        let error = parse_file(several, "new").unwrap_err();
        assert!(error.contains("old, other") && error.contains("new"), "{error}");
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        for (text, what) in [
            ("t,0,5\nt,0", "line 2: topic,partition,offset"),
            ("t,x,5", "line 1: \"x\""),
            ("t,0,-1", "line 1: partition and offset"),
            ("a b,0,1", "line 1: "),
            ("{\"topic\":\"t\"}", "line 1: "),
            ("t,0,1\nt,0,2", "line 2: t-0 is named twice"),
        ] {
            let error = parse_file(text, "g").unwrap_err();
            assert!(error.starts_with(what), "{error}");
        }
    }

    #[test]
    fn what_lies_outside_becomes_what_is_nearest() {
        let change = |wanted| Change::new("g", &partition("t", 0), Some(7), wanted, (5, 10));
        assert_eq!((change(3).offset, change(3).is_clamped), (5, true));
        assert_eq!((change(12).offset, change(12).is_clamped), (10, true));
        assert_eq!((change(10).offset, change(10).is_clamped), (10, false));
    }
}
