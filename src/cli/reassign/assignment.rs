//! Who shall keep which partition: Kafka's reassignment JSON, `TOPIC:PARTITIONS=BROKERS`, and what is wrong with them.
//!
//! ```text
//! {"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,2,3],"log_dirs":["any","any","any"]}]}
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;
use std::str::FromStr;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::cli::exit::usage;
use crate::cli::output::Output;
use crate::cli::partitions::{Partitions, expand, no_such_topic};
use crate::client::ClusterMetadata;
use crate::types::{TopicName, TopicPartition};

/// The replicas that partitions shall have, the preferred leader first.
pub(super) type Targets = BTreeMap<TopicPartition, Vec<i32>>;

/// The version of the JSON, the only one there is.
const VERSION: i32 = 1;
/// A log directory of Kafka's JSON that leaves the choice to the broker.
const ANY_DIRECTORY: &str = "any";

/// What is given on the command line: a file, standard input, or the wish itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `-`.
    Stdin,
    /// Kafka's JSON.
    File(String),
    /// `TOPIC[:PARTITIONS]=BROKERS`.
    Wish(Wish),
}

/// These partitions on those brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    partitions: Partitions,
    replicas: Vec<i32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    #[serde(default = "newest")]
    version: i32,
    partitions: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log_dirs: Vec<String>,
}

fn newest() -> i32 {
    VERSION
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(_) if text.contains('/') => Ok(Self::File(text.to_owned())),
            Some((partitions, replicas)) => {
                let ids = replicas.split(',').map(|id| id.trim().parse::<i32>().ok().filter(|id| *id >= 0));
                let replicas: Option<Vec<i32>> = ids.collect();
                let replicas = replicas.ok_or("brokers are expected behind '=', like orders:0=1,2,3")?;
                check_replicas(&replicas)?;
                Ok(Self::Wish(Wish { partitions: partitions.parse()?, replicas }))
            }
            None if text == "-" => Ok(Self::Stdin),
            None => Ok(Self::File(text.to_owned())),
        }
    }
}

/// What all the sources come to, before the cluster is asked about their topics.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    targets: Targets,
    wishes: Vec<Wish>,
}

impl Wanted {
    /// Reads files and standard input.
    ///
    /// # Errors
    /// A file that cannot be read; a usage mistake for what cannot be meant.
    pub(super) fn read(sources: &[Source]) -> anyhow::Result<Self> {
        let mut wanted = Self::default();
        for source in sources {
            let (name, text) = match source {
                Source::Wish(wish) => {
                    wanted.wishes.push(wish.clone());
                    continue;
                }
                Source::Stdin => {
                    let mut text = String::new();
                    std::io::stdin().read_to_string(&mut text).context("standard input")?;
                    ("standard input", text)
                }
                Source::File(path) => {
                    (path.as_str(), std::fs::read_to_string(path).with_context(|| path.clone())?)
                }
            };
            let read = parse(&text).map_err(|why| usage(format!("{name}: {why}")))?;
            for (partition, replicas) in read {
                wanted.add(partition, replicas)?;
            }
        }
        Ok(wanted)
    }

    /// The topics it is about.
    pub(super) fn topics(&self) -> Vec<String> {
        let wished = self.wishes.iter().map(|wish| wish.partitions.topic.to_string());
        let mut topics: Vec<String> =
            self.targets.keys().map(|partition| partition.topic.to_string()).chain(wished).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// Every partition by itself; what the cluster does not have is said, and is a failure.
    ///
    /// # Errors
    /// A usage mistake where a partition is given twice.
    pub(super) fn resolve(
        mut self,
        metadata: &ClusterMetadata,
        output: &mut Output,
    ) -> anyhow::Result<(Targets, bool)> {
        let of_topic = |topic: &str| {
            let topic = metadata.topics.get(topic)?;
            let partitions: Vec<i32> = topic.partitions.iter().map(|one| one.partition).collect();
            (!partitions.is_empty()).then_some(partitions)
        };
        let mut complete = true;
        for Wish { partitions, replicas } in std::mem::take(&mut self.wishes) {
            let (found, all) = expand([&partitions], of_topic, output);
            complete &= all;
            for partition in found {
                self.add(partition, replicas.clone())?;
            }
        }
        self.targets.retain(|partition, _| {
            let name = partition.topic.as_str();
            match of_topic(name) {
                Some(existing) if existing.contains(&partition.partition) => return true,
                Some(existing) => output.error(format_args!(
                    "topic {name} has no partition {}: it has {}",
                    partition.partition,
                    existing.len()
                )),
                None => output.error(no_such_topic(name)),
            }
            complete = false;
            false
        });
        Ok((self.targets, complete))
    }

    fn add(&mut self, partition: TopicPartition, replicas: Vec<i32>) -> anyhow::Result<()> {
        if self.targets.contains_key(&partition) {
            return Err(usage(format!("{partition} is given twice")));
        }
        self.targets.insert(partition, replicas);
        Ok(())
    }
}

/// Reads Kafka's JSON.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn parse(text: &str) -> Result<Vec<(TopicPartition, Vec<i32>)>, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| {
        format!(
            "{error}: {{\"version\":1,\"partitions\":[{{\"topic\":T,\"partition\":P,\"replicas\":[1,2,3]}},…]}} is expected"
        )
    })?;
    if document.version != VERSION {
        return Err(format!("version {} is not known; {VERSION} is", document.version));
    }
    let read = |entry: Entry| {
        let name = TopicName::new(&entry.topic).map_err(|error| error.to_string())?;
        let partition = TopicPartition::new(name, entry.partition);
        if entry.partition < 0 {
            return Err(format!("{}: partition {} is negative", entry.topic, entry.partition));
        }
        check_replicas(&entry.replicas).map_err(|why| format!("{partition}: {why}"))?;
        if let Some(directory) = entry.log_dirs.iter().find(|directory| *directory != ANY_DIRECTORY) {
            return Err(format!(
                "{partition}: log directory {directory} is asked for, which is for 'klamm log-dirs move' to do; \
                 here only \"{ANY_DIRECTORY}\" can be"
            ));
        }
        Ok((partition, entry.replicas))
    };
    document.partitions.into_iter().map(read).collect()
}

fn check_replicas(replicas: &[i32]) -> Result<(), String> {
    if replicas.is_empty() {
        return Err("no broker is named".to_owned());
    }
    for (index, id) in replicas.iter().enumerate() {
        if *id < 0 {
            return Err(format!("{id} is no broker's id"));
        }
        if replicas[..index].contains(id) {
            return Err(format!("broker {id} is named twice"));
        }
    }
    Ok(())
}

/// Kafka's JSON of these assignments, as one object.
pub(super) fn to_json<'a>(
    assignments: impl IntoIterator<Item = (&'a TopicPartition, &'a [i32])>,
) -> impl Serialize {
    let entry = |(partition, replicas): (&TopicPartition, &[i32])| Entry {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        replicas: replicas.to_vec(),
        log_dirs: vec![ANY_DIRECTORY.to_owned(); replicas.len()],
    };
    Document { version: VERSION, partitions: assignments.into_iter().map(entry).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_json_is_read_and_written() {
        let text = r#"{"version":1,"partitions":[{"topic":"a","partition":1,"replicas":[1,2],"log_dirs":["any","any"]}]}"#;
        let read = parse(text).unwrap();
        assert_eq!((read[0].0.to_string().as_str(), read[0].1.as_slice()), ("a-1", &[1, 2][..]));
        let again = to_json(read.iter().map(|(partition, replicas)| (partition, replicas.as_slice())));
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert!(parse(r#"{"partitions":[{"topic":"a","partition":1,"replicas":[1]}]}"#).is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let entry = |inner: &str| format!("{{\"version\":1,\"partitions\":[{{\"topic\":\"a\",{inner}}}]}}");
        let cases = [
            ("{".to_owned(), "line 1"),
            ("[]".to_owned(), "is expected"),
            (r#"{"version":2,"partitions":[]}"#.to_owned(), "version 2"),
            (entry(r#""partition":0,"replicas":[1,1]"#), "a-0: broker 1 is named twice"),
            (entry(r#""partition":0,"replicas":[]"#), "a-0: no broker"),
            (entry(r#""partition":0,"replicas":[-1]"#), "-1 is no broker"),
            (entry(r#""partition":-1,"replicas":[1]"#), "negative"),
            (entry(r#""partition":0,"replicas":[1],"log_dirs":["/x"]"#), "log-dirs move"),
        ];
        for (text, why) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_wish_names_partitions_and_brokers() {
        let wish = |text: &str| text.parse::<Source>();
        assert!(matches!(wish("a:0,2-3=1,2"), Ok(Source::Wish(Wish { replicas, .. })) if replicas == [1, 2]));
        assert_eq!(wish("-"), Ok(Source::Stdin));
        assert_eq!(wish("plan.json"), Ok(Source::File("plan.json".to_owned())));
        assert_eq!(wish("./a=b.json"), Ok(Source::File("./a=b.json".to_owned())));
        for wrong in ["a:0=", "a:0=x", "a:0=1,1", "a:x=1", "=1", "a=-1"] {
            assert!(wish(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_partition_is_given_once() {
        let mut wanted = Wanted::default();
        let partition = TopicPartition::from_dir_name("a-0").unwrap();
        wanted.add(partition.clone(), vec![1]).unwrap();
        assert!(wanted.add(partition, vec![2]).is_err());
        assert_eq!(wanted.topics(), ["a"]);
    }
}
