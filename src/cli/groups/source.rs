//! Where groups are read from: a cluster or a directory. Both answer the same questions.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::output::Output;
use crate::cli::queries::{EARLIEST, LATEST, Offsets, offsets_at};
use crate::client::{ClientError, Cluster, Committed, CommittedOffsets, Group, Topics};
use crate::protocol::ErrorCode;
use crate::types::{TopicName, TopicPartition};

use super::ask;
use super::stored::Stored;
use super::view::{GroupView, Listed, Progress};

/// What groups are read from.
pub(super) enum Source {
    Cluster(Cluster),
    Directory(Box<Stored>),
}

/// Where logs begin and end. What is gone is not in it.
pub(super) type Bounds = BTreeMap<TopicPartition, (i64, i64)>;

impl Source {
    pub(super) async fn open(connection: &Connection, output: &mut Output) -> anyhow::Result<Self> {
        match connection.target()? {
            Target::Cluster(_) => Ok(Self::Cluster(connection.cluster(output).await?)),
            Target::Dir(dir) => Ok(Self::Directory(Box::new(Stored::read(Directory::open(&dir)?)?))),
        }
    }

    /// All groups; true where some broker could not be asked, which has been said.
    pub(super) async fn list(&self, output: &mut Output) -> (Vec<Listed>, bool) {
        match self {
            Self::Cluster(cluster) => {
                let (listed, troubles) = ask::list(cluster).await;
                troubles.iter().for_each(|trouble| output.error(trouble));
                (listed, !troubles.is_empty())
            }
            Self::Directory(stored) => (stored.list(), false),
        }
    }

    /// The groups that are meant: those named, or all that consumers' commands are for.
    pub(super) async fn names(&self, named: &[String], output: &mut Output) -> (Vec<String>, bool) {
        if !named.is_empty() {
            let mut seen = BTreeSet::new();
            let names = named.iter().filter(|name| seen.insert((*name).clone())).cloned();
            return (names.collect(), false);
        }
        let (listed, failed) = self.list(output).await;
        let ours = listed.into_iter().filter(|group| matches!(group.kind.as_str(), "classic" | "consumer"));
        // Connect's workers and their like form groups too; they commit nothing there.
        let ours = ours.filter(|group| matches!(group.protocol_type.as_str(), "" | "consumer"));
        (ours.map(|group| group.group).collect(), failed)
    }

    pub(super) async fn describe(&self, name: &str) -> anyhow::Result<Option<GroupView>> {
        match self {
            Self::Cluster(cluster) => Ok(ask::describe(cluster, name).await?),
            Self::Directory(stored) => Ok(stored.describe(name)),
        }
    }

    /// Several groups, in the order of their names here.
    pub(super) async fn describe_all(&self, names: &[String]) -> Vec<anyhow::Result<Option<GroupView>>> {
        match self {
            Self::Cluster(cluster) => {
                let describe = |name: String| {
                    let cluster = cluster.clone();
                    async move { Ok(ask::describe(&cluster, &name).await?) }
                };
                ask::each(names.iter().cloned(), describe).await
            }
            Self::Directory(stored) => names.iter().map(|name| Ok(stored.describe(name))).collect(),
        }
    }

    /// What a group has committed. Partitions whose offset cannot be read are said and left out.
    pub(super) async fn committed(
        &self,
        name: &str,
        output: &mut Output,
    ) -> anyhow::Result<(BTreeMap<TopicPartition, Committed>, bool)> {
        let mut all = self.committed_by_all(std::slice::from_ref(&name)).await;
        let found = all.pop().unwrap_or_else(|| Ok(CommittedOffsets::new()))?;
        Ok(readable(name, found, output))
    }

    async fn committed_by_all(&self, names: &[&str]) -> Vec<Result<CommittedOffsets, ClientError>> {
        match self {
            Self::Cluster(cluster) => {
                let committed = |name: &str| {
                    let group = Group::new(cluster, name);
                    async move { group.committed(None, false).await }
                };
                ask::each(names.iter().copied(), committed).await
            }
            Self::Directory(stored) => {
                let of = |name: &&str| {
                    let offsets = stored.groups.get(*name).map(|group| group.offsets.clone());
                    let offsets = offsets.unwrap_or_default().into_iter();
                    Ok(offsets.map(|(partition, committed)| (partition, Ok(committed))).collect())
                };
                names.iter().map(of).collect()
            }
        }
    }

    /// Where `partitions` begin and end; those that are gone are left out, others that fail are said.
    pub(super) async fn bounds(
        &self,
        partitions: &[TopicPartition],
        output: &mut Output,
    ) -> anyhow::Result<(Bounds, bool)> {
        let existing = self.existing(partitions).await?;
        let starts = self.offsets(&existing, EARLIEST).await;
        let ends = self.offsets(&existing, LATEST).await;
        let (mut bounds, mut failed) = (Bounds::new(), false);
        for (partition, end) in ends {
            let start = starts.get(&partition).cloned();
            match (start, end) {
                (Some(Ok(start)), Ok(end)) => {
                    bounds.insert(partition, (start, end));
                }
                (Some(Err(error)), _) | (_, Err(error)) => {
                    failed = true;
                    output.error(error);
                }
                (None, _) => {}
            }
        }
        Ok((bounds, failed))
    }

    /// Those of `partitions` that exist: the others would be asked for in vain, again and again.
    async fn existing(&self, partitions: &[TopicPartition]) -> anyhow::Result<Vec<TopicPartition>> {
        let names: BTreeSet<&str> = partitions.iter().map(|partition| partition.topic.as_str()).collect();
        let counts = self.partitions_of(&names.into_iter().collect::<Vec<_>>()).await?;
        let exists = |partition: &&TopicPartition| {
            counts.get(partition.topic.as_str()).is_some_and(|of| of.contains(&partition.partition))
        };
        Ok(partitions.iter().filter(exists).cloned().collect())
    }

    /// The partitions of those of `topics` that exist.
    pub(super) async fn partitions_of(&self, topics: &[&str]) -> anyhow::Result<BTreeMap<String, Vec<i32>>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        match self {
            Self::Cluster(cluster) => {
                let metadata = cluster.metadata(Topics::Named { names: topics, create: false }).await?;
                let usable = metadata.topics.iter().filter(|(_, topic)| topic.error == ErrorCode::None);
                let numbers = usable.map(|(name, topic)| {
                    (name.clone(), topic.partitions.iter().map(|partition| partition.partition).collect())
                });
                Ok(numbers.collect())
            }
            Self::Directory(stored) => {
                let of = |topic: &&str| Some(((*topic).to_owned(), stored.directory.partitions_of(topic)?));
                Ok(topics.iter().filter_map(of).collect())
            }
        }
    }

    /// The offset at a point of each partition; the log's end where no record is that young.
    pub(super) async fn offsets(
        &self,
        partitions: &[TopicPartition],
        point: i64,
    ) -> BTreeMap<TopicPartition, Result<i64, String>> {
        let found: Offsets = match self {
            Self::Cluster(cluster) => offsets_at(cluster, partitions, point, 0).await,
            Self::Directory(stored) => {
                let of = |partition: &TopicPartition| {
                    let found = stored.directory.offset_at(partition, point);
                    let offset = found.map(|found| found.offset.map_or(-1, |offset| offset.0));
                    (partition.clone(), offset.map_err(|error| format!("{error:#}")))
                };
                return partitions.iter().map(of).collect();
            }
        };
        let offset = |(partition, found): (TopicPartition, Result<crate::cli::queries::FoundOffset, _>)| {
            let offset = found.map(|found| found.offset.map_or(-1, |offset| offset.0));
            (partition, offset.map_err(|error: ClientError| error.to_string()))
        };
        found.into_iter().map(offset).collect()
    }

    /// How far these groups are, each in every partition that it has committed or that is somebody's.
    pub(super) async fn progress(
        &self,
        groups: &[GroupView],
        output: &mut Output,
    ) -> anyhow::Result<(Vec<Vec<Progress>>, bool)> {
        let names: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
        let (mut of_groups, mut failed) = (Vec::new(), false);
        for (group, found) in groups.iter().zip(self.committed_by_all(&names).await) {
            let (committed, some_failed) = match found {
                Ok(found) => readable(&group.group, found, output),
                Err(error) => {
                    output.error(error);
                    (BTreeMap::new(), true)
                }
            };
            failed |= some_failed;
            of_groups.push((group, partitions_of(group, &committed), committed));
        }
        let all: BTreeSet<&TopicPartition> =
            of_groups.iter().flat_map(|(_, partitions, _)| partitions).collect();
        let all: Vec<TopicPartition> = all.into_iter().cloned().collect();
        let (bounds, some_failed) = self.bounds(&all, output).await?;
        let progress = of_groups.iter().map(|(group, partitions, committed)| {
            let of = |partition| progress_of(group, partition, committed.get(partition), &bounds);
            partitions.iter().map(of).collect()
        });
        Ok((progress.collect(), failed || some_failed))
    }
}

/// What of a group's commits could be read; the others are said.
fn readable(
    name: &str,
    found: CommittedOffsets,
    output: &mut Output,
) -> (BTreeMap<TopicPartition, Committed>, bool) {
    let (mut committed, mut failed) = (BTreeMap::new(), false);
    for (partition, found) in found {
        match found {
            Ok(found) => {
                committed.insert(partition, found);
            }
            Err(code) => {
                failed = true;
                let (message, code) = (code.message(), code.name());
                output.error(format_args!("group {name}, {partition}: {message} ({code})"));
            }
        }
    }
    (committed, failed)
}

/// The partitions that a group has committed or that are somebody's in it.
fn partitions_of(
    group: &GroupView,
    committed: &BTreeMap<TopicPartition, Committed>,
) -> BTreeSet<TopicPartition> {
    let mut partitions: BTreeSet<TopicPartition> = committed.keys().cloned().collect();
    for (topic, numbers) in group.members.iter().flat_map(|member| &member.assignment) {
        let Ok(topic) = TopicName::new(topic) else { continue };
        partitions.extend(numbers.iter().map(|&number| TopicPartition::new(topic.clone(), number)));
    }
    partitions
}

fn progress_of(
    group: &GroupView,
    partition: &TopicPartition,
    committed: Option<&Committed>,
    bounds: &Bounds,
) -> Progress {
    let (start, end) = bounds.get(partition).map_or((None, None), |&(start, end)| (Some(start), Some(end)));
    let current = committed.map(|committed| committed.offset);
    let member = group.member_of(partition);
    Progress {
        group: group.group.clone(),
        topic: partition.topic.to_string(),
        partition: partition.partition,
        current,
        start,
        end,
        lag: end.zip(current.or(start)).map(|(end, from)| (end - from).max(0)),
        metadata: committed.map(|committed| committed.metadata.clone()).filter(|words| !words.is_empty()),
        member: member.map(|member| member.member.clone()),
        client: member.map(|member| member.client.clone()),
        host: member.map(|member| member.host.clone()),
    }
}
