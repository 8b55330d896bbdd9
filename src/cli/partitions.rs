//! `TOPIC[:PARTITIONS]`: which partitions of a topic a command is about.

use std::str::FromStr;

use crate::cli::output::Output;
use crate::types::{TopicName, TopicPartition};

/// `orders` (all of its partitions), `orders:0`, `orders:0,2-4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// The topic.
    pub topic: TopicName,
    /// Inclusive ranges; none means all.
    ranges: Vec<(i32, i32)>,
}

impl Partitions {
    /// Whether it means this partition.
    #[must_use]
    pub fn names(&self, topic: &str, partition: i32) -> bool {
        let in_range = |&(first, last): &(i32, i32)| (first..=last).contains(&partition);
        self.topic.as_str() == topic && (self.ranges.is_empty() || self.ranges.iter().any(in_range))
    }
}

impl FromStr for Partitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, ranges) = match text.split_once(':') {
            Some((topic, ranges)) => (topic, Some(ranges)),
            None => (text, None),
        };
        let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
        let ranges = match ranges {
            Some(ranges) => parse_ranges(ranges)?,
            None => Vec::new(),
        };
        Ok(Self { topic, ranges })
    }
}

/// What is said of a topic that is not there, and where to look for the others.
#[must_use]
pub fn no_such_topic(name: &str) -> String {
    format!("topic {name} does not exist; 'klamm topics list' shows those that do")
}

/// Reads `0,2-4`.
///
/// # Errors
/// A message for clap.
pub fn parse_ranges(text: &str) -> Result<Vec<(i32, i32)>, String> {
    let number = |text: &str| text.parse::<i32>().ok().filter(|&number| number >= 0);
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
        None => number(part).map(|number| (number, number)),
    };
    let parsed: Option<Vec<_>> = text.split(',').map(|part| range(part.trim())).collect();
    parsed.ok_or_else(|| format!("{text:?} names no partitions: numbers and ranges like 0,2-4 are expected"))
}

/// The single partitions, by what there is in each topic, in order and each once. What is asked for and not
/// there is said, and the second value is false.
pub fn expand<'a>(
    wanted: impl IntoIterator<Item = &'a Partitions>,
    of_topic: impl Fn(&str) -> Option<Vec<i32>>,
    output: &mut Output,
) -> (Vec<TopicPartition>, bool) {
    let mut found = Vec::new();
    let mut complete = true;
    for wanted in wanted {
        let Some(existing) = of_topic(wanted.topic.as_str()) else {
            output.error(no_such_topic(wanted.topic.as_str()));
            complete = false;
            continue;
        };
        for &(first, last) in &wanted.ranges {
            let beyond = existing.iter().max().map_or(0, |most| most + 1);
            if last >= beyond {
                let missing = first.max(beyond);
                output.error(format_args!(
                    "topic {} has no partition {missing}: it has {}",
                    wanted.topic,
                    existing.len()
                ));
                complete = false;
            }
        }
        let meant = |partition: &i32| {
            wanted.ranges.is_empty()
                || wanted.ranges.iter().any(|(first, last)| (first..=last).contains(&partition))
        };
        let meant = existing.into_iter().filter(meant);
        found.extend(meant.map(|partition| TopicPartition::new(wanted.topic.clone(), partition)));
    }
    found.sort();
    found.dedup();
    (found, complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_name_partitions() {
        assert_eq!("t".parse::<Partitions>().unwrap().ranges, []);
        assert_eq!("t:0,2-4".parse::<Partitions>().unwrap().ranges, [(0, 0), (2, 4)]);
        for bad in ["", ":0", "t:", "t:x", "t:3-1", "t:-1", "a b:0", "t:1-"] {
            assert!(bad.parse::<Partitions>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_and_the_rest_is_kept() {
        let wanted: Vec<Partitions> =
            ["t:1-5", "t:1", "gone"].iter().map(|text| text.parse().unwrap()).collect();
        let existing = |topic: &str| (topic == "t").then(|| vec![0, 1, 2]);
        let (found, complete) = expand(&wanted, existing, &mut Output::for_test());
        assert!(!complete);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["t-1", "t-2"]);
    }
}
