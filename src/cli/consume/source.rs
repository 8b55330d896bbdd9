//! Where records come from: a cluster or a directory. Both answer the same questions and give the same things.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::cli::directory::Directory;
use crate::cli::exit::usage;
use crate::cli::partitions::no_such_topic;
use crate::cli::queries::{EARLIEST, LATEST, offsets_at};
use crate::client::{
    Assignment, Bootstrap, ClientConfig, Cluster, Consumer, ConsumerOptions, IsolationLevel,
};
use crate::protocol::ErrorCode;
use crate::types::{Clock, TopicName, TopicPartition};

use super::directory;
use super::range::Range;

/// What is read.
pub(super) enum Source {
    Cluster { cluster: Cluster, options: ConsumerOptions },
    Directory { directory: Arc<Directory>, is_committed_only: bool, clock: Arc<dyn Clock> },
}

/// A partition, what it holds, and what of it is wanted.
pub(super) struct Span {
    pub(super) partition: TopicPartition,
    pub(super) earliest: i64,
    pub(super) latest: i64,
    pub(super) start: i64,
    pub(super) end: Option<i64>,
}

impl Source {
    pub(super) async fn cluster(list: &str, config: ClientConfig) -> anyhow::Result<Self> {
        let bootstrap = Bootstrap::parse(list).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
        let cluster = Cluster::connect(bootstrap, config.client).await?;
        Ok(Self::Cluster { cluster, options: config.consumer })
    }

    pub(super) fn directory(
        dir: &Path,
        isolation: IsolationLevel,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let directory = Arc::new(Directory::open(dir)?);
        let is_committed_only = isolation == IsolationLevel::ReadCommitted;
        Ok(Self::Directory { directory, is_committed_only, clock })
    }

    /// The partitions of `topics` that are wanted: all, or those in the inclusive `ranges`.
    pub(super) async fn partitions(
        &self,
        topics: &[TopicName],
        ranges: &[(i32, i32)],
    ) -> anyhow::Result<Vec<TopicPartition>> {
        let mut wanted = Vec::new();
        for topic in topics {
            let existing = match self {
                Self::Cluster { cluster, .. } => {
                    let metadata = cluster.topic(topic.as_str(), false).await;
                    let metadata = metadata.map_err(|error| match error.code() {
                        Some(ErrorCode::UnknownTopicOrPartition) => anyhow!(no_such_topic(topic.as_str())),
                        _ => error.into(),
                    })?;
                    metadata.partitions.iter().map(|partition| partition.partition).collect()
                }
                Self::Directory { directory, .. } => {
                    directory.partitions_of(topic.as_str()).with_context(|| no_such_topic(topic.as_str()))?
                }
            };
            let count = existing.len();
            let beyond = existing.iter().max().map_or(0, |most| most + 1);
            if let Some((first, _)) = ranges.iter().find(|(_, last)| *last >= beyond) {
                let missing = (*first).max(beyond);
                anyhow::bail!("topic {topic} has no partition {missing}: it has {count}");
            }
            let is_meant = |partition: &i32| {
                ranges.is_empty() || ranges.iter().any(|(first, last)| (first..=last).contains(&partition))
            };
            let meant = existing.into_iter().filter(is_meant);
            wanted.extend(meant.map(|partition| TopicPartition::new(topic.clone(), partition)));
        }
        Ok(wanted)
    }

    /// What the partitions hold, and where in them `range` begins and ends.
    pub(super) async fn spans(
        &self,
        partitions: Vec<TopicPartition>,
        range: &Range,
    ) -> anyhow::Result<Vec<Span>> {
        let earliest = self.offsets(&partitions, EARLIEST).await?;
        let latest = self.offsets(&partitions, LATEST).await?;
        let mut times = BTreeMap::new();
        for time in range.times() {
            times.insert(time, self.offsets(&partitions, time).await?);
        }
        let span = |partition: TopicPartition| {
            let of = |offsets: &BTreeMap<TopicPartition, Option<i64>>| {
                offsets.get(&partition).copied().flatten().unwrap_or(0)
            };
            let (earliest, latest) = (of(&earliest), of(&latest));
            let first_at = |time: i64| {
                Ok::<_, anyhow::Error>(times.get(&time).and_then(|o| o.get(&partition).copied().flatten()))
            };
            let (start, end) = range.resolve(earliest, latest, first_at)?;
            Ok(Span { partition, earliest, latest, start, end })
        };
        partitions.into_iter().map(span).collect()
    }

    /// Starts reading.
    pub(super) fn start(&self, assignments: Vec<Assignment>) -> anyhow::Result<Consumer> {
        match self {
            Self::Cluster { cluster, options } => Ok(Consumer::start(cluster, options, assignments)),
            Self::Directory { directory, is_committed_only, clock } => {
                directory::start(Arc::clone(directory), assignments, *is_committed_only, Arc::clone(clock))
            }
        }
    }

    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Option<i64>>> {
        let mut found = BTreeMap::new();
        match self {
            Self::Cluster { cluster, options } => {
                let isolation = i8::from(options.isolation == IsolationLevel::ReadCommitted);
                for (partition, outcome) in offsets_at(cluster, partitions, timestamp, isolation).await {
                    let offset = outcome.with_context(|| partition.to_string())?.offset;
                    found.insert(partition, offset.map(|offset| offset.0));
                }
            }
            Self::Directory { directory, .. } => {
                for partition in partitions {
                    let offset = directory.offset_at(partition, timestamp);
                    let offset = offset.with_context(|| partition.to_string())?.offset;
                    found.insert(partition.clone(), offset.map(|offset| offset.0));
                }
            }
        }
        Ok(found)
    }
}
