//! Where groups are read from: a cluster or a directory. Both answer the same questions.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::output::Output;
use crate::cli::queries::{EARLIEST, LATEST, Offsets, offsets_at};
use crate::client::{Cluster, Committed, Group, Topics};
use crate::protocol::ErrorCode;
use crate::types::TopicPartition;

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

    /// What a group has committed. Partitions whose offset cannot be read are said and left out.
    pub(super) async fn committed(
        &self,
        name: &str,
        output: &mut Output,
    ) -> anyhow::Result<(BTreeMap<TopicPartition, Committed>, bool)> {
        let cluster = match self {
            Self::Cluster(cluster) => cluster,
            Self::Directory(stored) => {
                let group = stored.groups.get(name);
                return Ok((group.map(|group| group.offsets.clone()).unwrap_or_default(), false));
            }
        };
        let mut committed = BTreeMap::new();
        let mut failed = false;
        for (partition, found) in Group::new(cluster, name).committed(None, false).await? {
            match found {
                Ok(found) => {
                    committed.insert(partition, found);
                }
                Err(code) => {
                    failed = true;
                    output.error(format_args!(
                        "group {name}, {partition}: {} ({})",
                        code.message(),
                        code.name()
                    ));
                }
            }
        }
        Ok((committed, failed))
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
            (partition, offset.map_err(|error: crate::client::ClientError| error.to_string()))
        };
        found.into_iter().map(offset).collect()
    }

    /// How far one group is, in every partition that it has committed or that is somebody's.
    pub(super) async fn progress(
        &self,
        group: &GroupView,
        output: &mut Output,
    ) -> anyhow::Result<(Vec<Progress>, bool)> {
        let (committed, mut failed) = self.committed(&group.group, output).await?;
        let mut partitions: BTreeSet<TopicPartition> = committed.keys().cloned().collect();
        for (topic, numbers) in group.members.iter().flat_map(|member| &member.assignment) {
            let Ok(topic) = crate::types::TopicName::new(topic) else { continue };
            partitions.extend(numbers.iter().map(|&number| TopicPartition::new(topic.clone(), number)));
        }
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        let (bounds, some_failed) = self.bounds(&partitions, output).await?;
        failed |= some_failed;
        let progress = partitions.iter().map(|partition| {
            let (start, end) =
                bounds.get(partition).map_or((None, None), |&(start, end)| (Some(start), Some(end)));
            let found = committed.get(partition);
            let current = found.map(|found| found.offset);
            let member = group.member_of(partition);
            let from = current.or(start);
            Progress {
                group: group.group.clone(),
                topic: partition.topic.to_string(),
                partition: partition.partition,
                current,
                start,
                end,
                lag: end.zip(from).map(|(end, from)| (end - from).max(0)),
                metadata: found.map(|found| found.metadata.clone()).filter(|metadata| !metadata.is_empty()),
                member: member.map(|member| member.member.clone()),
                client: member.map(|member| member.client.clone()),
                host: member.map(|member| member.host.clone()),
            }
        });
        Ok((progress.collect(), failed))
    }
}
