//! Reading a log directory in place of a cluster (`-d`): no lock, nothing written, beside a running broker.
//!
//! What brokers agreed on comes from the metadata log, what they keep from the partitions' own files. Where a
//! directory holds no metadata log (it is not the first of its broker), the folders' names have to do. In a
//! quorum of several, the last records of the metadata log may not be committed yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::cli::configs::{ConfigView, Entity, Home, SynonymView};
use crate::cli::partitions::no_such_topic;
use crate::cli::queries::{EARLIEST, FoundOffset, LATEST, LogDir, MAX_TIMESTAMP, ReplicaSize};
use crate::cli::topics::{PartitionView, TopicView};
use crate::config::{BrokerConfig, DescribedConfig, Layers, TopicConfig};
use crate::metadata::snapshot::{SnapshotId, SnapshotName};
use crate::metadata::{ConfigResource, ConfigResourceType, Image, Replay};
use crate::record::{Batch, BatchHeader};
use crate::storage::checkpoint::{HIGH_WATERMARK_FILE, MetaProperties};
use crate::storage::disk::read_small;
use crate::storage::reader::{DirectoryReader, FolderKind, LogReader, PartitionFolder};
use crate::storage::{Disk, METADATA_TOPIC, RealDisk};
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicName, TopicPartition};

/// How much of the metadata log is read at once.
const METADATA_READ_BYTES: usize = 1 << 20;

/// An opened log directory.
#[derive(Debug)]
pub struct Directory {
    reader: DirectoryReader,
    meta: Option<MetaProperties>,
    folders: Vec<PartitionFolder>,
    image: Option<Image>,
    high_watermarks: BTreeMap<TopicPartition, Offset>,
}

impl Directory {
    /// Opens `dir` for reading.
    ///
    /// # Errors
    /// Where it is no log directory, or what it holds cannot be read.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let disk: Arc<dyn Disk> = RealDisk::new();
        let reader = DirectoryReader::open(Arc::clone(&disk), dir)?;
        let meta = reader.meta_properties()?;
        let folders = reader.folders()?;
        if meta.is_none() && folders.is_empty() {
            bail!("{} is no log directory: neither meta.properties nor partitions are in it", dir.display());
        }
        let metadata_log = TopicName::new(METADATA_TOPIC).map(|topic| TopicPartition::new(topic, 0))?;
        let image = match reader.log(&metadata_log)? {
            Some(log) => Some(read_image(&*disk, &log)?),
            None => None,
        };
        let high_watermarks = reader.checkpoint(HIGH_WATERMARK_FILE)?;
        Ok(Self { reader, meta, folders, image, high_watermarks })
    }

    /// The node whose directory it is.
    #[must_use]
    pub fn node(&self) -> Option<BrokerId> {
        self.meta.as_ref()?.node_id.map(BrokerId)
    }

    /// What the cluster agreed on; `None` where the directory holds no metadata log.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// The log of a partition; `None` where it is not here.
    ///
    /// # Errors
    /// Where its files cannot be read.
    pub fn log(&self, partition: &TopicPartition) -> anyhow::Result<Option<LogReader>> {
        Ok(self.reader.log(partition)?)
    }

    /// The offset that reading ends at: behind the last whole batch, or, where other brokers have replicas,
    /// the high watermark as it was last written down.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn end_offset(&self, partition: &TopicPartition, log: &LogReader) -> anyhow::Result<Offset> {
        let end = log.log_end_offset()?;
        let registered = self
            .image
            .as_ref()
            .and_then(|image| image.partition(partition.topic.as_str(), partition.partition));
        if registered.is_none_or(|registered| registered.replicas.len() < 2) {
            return Ok(end);
        }
        let high_watermark = self.high_watermarks.get(partition).copied().unwrap_or(Offset::ZERO);
        Ok(high_watermark.min(end).max(log.log_start_offset()?))
    }

    /// The topics there are, in order.
    ///
    /// # Errors
    /// Where the id of a topic cannot be read.
    pub fn topics(&self) -> anyhow::Result<Vec<TopicView>> {
        match &self.image {
            Some(image) => Ok(self.topics_of_image(image)),
            None => self.topics_of_folders(),
        }
    }

    fn topics_of_image(&self, image: &Image) -> Vec<TopicView> {
        let topics = image.topics().iter().map(|topic| TopicView {
            topic: topic.name.to_string(),
            id: Some(topic.id.to_string()),
            internal: topic.name.is_internal(),
            partitions: topic
                .partitions
                .iter()
                .map(|(&partition, registered)| PartitionView {
                    partition,
                    leader: (registered.leader >= 0).then_some(registered.leader),
                    leader_epoch: Some(registered.leader_epoch),
                    replicas: registered.replicas.clone(),
                    isr: registered.isr.clone(),
                    elr: registered.eligible_leader_replicas.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let mut topics: Vec<TopicView> = topics.collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        topics
    }

    /// Without a metadata log, this node is all that is known of who has the partitions.
    fn topics_of_folders(&self) -> anyhow::Result<Vec<TopicView>> {
        let mut topics: Vec<TopicView> = Vec::new();
        let node: Vec<i32> = self.node().map(|node| node.0).into_iter().collect();
        for folder in self.current_folders() {
            let name = &folder.partition.topic;
            if topics.last().is_none_or(|last| last.topic != name.as_str()) {
                let id = self.log(&folder.partition)?.map(|log| log.topic_id()).transpose()?.flatten();
                topics.push(TopicView {
                    topic: name.to_string(),
                    id: id.map(|id| id.to_string()),
                    internal: name.is_internal(),
                    ..Default::default()
                });
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(PartitionView {
                    partition: folder.partition.partition,
                    replicas: node.clone(),
                    ..Default::default()
                });
            }
        }
        Ok(topics)
    }

    fn current_folders(&self) -> impl Iterator<Item = &PartitionFolder> {
        let current = self.folders.iter().filter(|folder| folder.kind == FolderKind::Current);
        current.filter(|folder| folder.partition.topic.as_str() != METADATA_TOPIC)
    }

    /// Adds offsets and sizes of the partitions that are here, and configurations; returns what could not be
    /// read.
    pub fn complete(&self, topics: &mut [TopicView]) -> Vec<anyhow::Error> {
        let mut troubles = Vec::new();
        for topic in topics {
            let Ok(name) = TopicName::new(&topic.topic) else { continue };
            if let Some(image) = &self.image {
                let overrides = image.configs(&ConfigResource::topic(&topic.topic));
                topic.min_insync_replicas = self.min_insync_replicas(&overrides);
                topic.configs =
                    overrides.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            }
            for view in &mut topic.partitions {
                let partition = TopicPartition::new(name.clone(), view.partition);
                if let Err(error) = self.complete_partition(&partition, view) {
                    troubles.push(error.context(partition.to_string()));
                }
            }
        }
        troubles
    }

    fn complete_partition(&self, partition: &TopicPartition, view: &mut PartitionView) -> anyhow::Result<()> {
        let Some(log) = self.log(partition)? else { return Ok(()) };
        view.start_offset = Some(log.log_start_offset()?.0);
        view.end_offset = Some(self.end_offset(partition, &log)?.0);
        view.size_bytes = Some(i64::try_from(log.size_bytes()?)?);
        Ok(())
    }

    /// The partitions of a topic; `None` where there is no such topic.
    #[must_use]
    pub fn partitions_of(&self, topic: &str) -> Option<Vec<i32>> {
        let partitions: Vec<i32> = match &self.image {
            Some(image) => image.topic(topic)?.partitions.keys().copied().collect(),
            None => {
                let folders =
                    self.current_folders().filter(|folder| folder.partition.topic.as_str() == topic);
                folders.map(|folder| folder.partition.partition).collect()
            }
        };
        (!partitions.is_empty()).then_some(partitions)
    }

    /// The offset at a time, or at one of `ListOffsets`' names for a point.
    ///
    /// # Errors
    /// Where the partition is not here, or its files cannot be read.
    pub fn offset_at(&self, partition: &TopicPartition, timestamp: i64) -> anyhow::Result<FoundOffset> {
        let log = self.log(partition)?;
        let log = log.with_context(|| format!("{partition} is not in {}", self.reader.path().display()))?;
        let epochs = log.leader_epochs()?;
        let end = self.end_offset(partition, &log)?;
        let known = |offset: Offset, epoch: Option<LeaderEpoch>, timestamp_ms: Option<i64>| FoundOffset {
            offset: Some(offset),
            timestamp_ms,
            leader_epoch: epoch,
        };
        let found = match timestamp {
            EARLIEST => {
                let start = log.log_start_offset()?;
                let listed = epochs.iter().rev().find(|(_, from)| *from <= start).map(|(epoch, _)| *epoch);
                return Ok(known(start, epoch_of_batch_at(&log, start)?.or(listed), None));
            }
            LATEST => {
                let listed = epochs.last().map(|(epoch, _)| *epoch);
                return Ok(known(end, listed.max(epoch_of_batch_at(&log, end + (-1))?), None));
            }
            MAX_TIMESTAMP => log.max_timestamp()?,
            time => log.offset_for_timestamp(time)?,
        };
        let found = found.filter(|found| found.offset < end);
        Ok(match found {
            Some(found) => known(found.offset, Some(found.leader_epoch), Some(found.timestamp_ms)),
            None => FoundOffset { offset: None, timestamp_ms: None, leader_epoch: None },
        })
    }

    /// The directory as a whole.
    ///
    /// # Errors
    /// Where the files cannot be read.
    pub fn log_dir(&self) -> anyhow::Result<LogDir> {
        let space = self.reader.space()?;
        let mut replicas = Vec::new();
        for folder in &self.folders {
            let is_future = folder.kind == FolderKind::Future;
            let is_metadata = folder.partition.topic.as_str() == METADATA_TOPIC;
            if is_metadata || !(is_future || folder.kind == FolderKind::Current) {
                continue;
            }
            let log = LogReader::in_folder(RealDisk::new(), &folder.path);
            replicas.push(ReplicaSize {
                partition: folder.partition.clone(),
                size_bytes: i64::try_from(log.size_bytes()?)?,
                offset_lag: self.future_lag(folder, &log)?,
                is_future,
            });
        }
        Ok(LogDir {
            broker: self.node(),
            path: absolute(self.reader.path()).display().to_string(),
            error: None,
            total_bytes: i64::try_from(space.total_bytes).ok(),
            usable_bytes: i64::try_from(space.usable_bytes).ok(),
            is_cordoned: false,
            replicas,
        })
    }

    /// How far a replica that is on its way in is behind the one it will replace; both may be here.
    fn future_lag(&self, folder: &PartitionFolder, log: &LogReader) -> anyhow::Result<i64> {
        if folder.kind != FolderKind::Future {
            return Ok(0);
        }
        match self.log(&folder.partition)? {
            Some(current) => Ok((current.log_end_offset()? - log.log_end_offset()?).max(0)),
            None => Ok(0),
        }
    }

    /// The configurations of an entity. What a broker's own file says is not in its directory.
    ///
    /// # Errors
    /// Where the directory holds no metadata log, or the entity does not exist.
    pub fn configs(&self, entity: &Entity) -> anyhow::Result<Vec<ConfigView>> {
        let path = self.reader.path().display();
        let image = self.image.as_ref().with_context(|| {
            format!("{path} holds no metadata log: configurations are in the first directory of a broker")
        })?;
        let name = entity.name().unwrap_or_default();
        let kind = match entity.home() {
            Home::Quotas(kind) => return Ok(quotas(image, kind, entity.name())),
            Home::Configs(type_id) => ConfigResourceType::from_id(type_id),
        };
        let own = kind.map(|kind| image.configs(&ConfigResource::new(kind, name))).unwrap_or_default();
        let described = match kind {
            Some(ConfigResourceType::Topic) => {
                anyhow::ensure!(image.topic(name).is_some(), no_such_topic(name));
                self.broker_config(image, None)?.describe_topic(&own)
            }
            Some(ConfigResourceType::Broker) if name.is_empty() => {
                self.broker_config(image, None)?.describe_cluster_default()
            }
            Some(ConfigResourceType::Broker) => self.broker_config(image, Some(name))?.describe(),
            Some(ConfigResourceType::Group) => self.broker_config(image, None)?.describe_group(&own),
            Some(ConfigResourceType::ClientMetrics) => crate::config::describe_client_metrics(&own),
            _ => bail!("{entity} lives in a running broker: ask it with -b HOST:PORT"),
        };
        Ok(described.into_iter().map(view_of).collect())
    }

    /// A broker of which nothing is known but what was set while it ran.
    fn broker_config(&self, image: &Image, broker: Option<&str>) -> anyhow::Result<BrokerConfig> {
        let (config, _) = BrokerConfig::load(Layers::default())?;
        let cluster = image.configs(&ConfigResource::cluster_default());
        let own = match broker {
            Some(id) => image.configs(&ConfigResource::broker(id.parse()?)),
            None => Arc::default(),
        };
        Ok(config.with_dynamic(&cluster, &own)?)
    }

    fn min_insync_replicas(&self, overrides: &BTreeMap<String, String>) -> Option<usize> {
        let config = self.broker_config(self.image.as_ref()?, None).ok()?;
        let resolved = TopicConfig::resolve(&config, overrides).ok()?;
        usize::try_from(resolved.min_insync_replicas).ok()
    }
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn view_of(described: DescribedConfig) -> ConfigView {
    let synonyms = described.synonyms.into_iter().map(|synonym| SynonymView {
        key: synonym.name,
        value: synonym.value,
        source: synonym.source.name(),
    });
    ConfigView {
        key: described.name,
        value: described.value,
        source: described.source.name(),
        read_only: described.read_only,
        sensitive: described.is_sensitive,
        synonyms: synonyms.collect(),
        documentation: Some(described.documentation),
    }
}

fn quotas(image: &Image, kind: &str, name: Option<&str>) -> Vec<ConfigView> {
    let wanted = vec![(kind.to_owned(), name.map(str::to_owned))];
    let set = image.client_quotas().get(&wanted).into_iter().flatten();
    let views = set.map(|(key, value)| ConfigView {
        key: key.clone(),
        value: Some(value.to_string()),
        source: "QUOTA",
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        documentation: None,
    });
    views.collect()
}

/// The latest snapshot, and what the log has behind it. A running broker may delete the snapshot that was just
/// found: then there is a newer one.
pub(crate) fn read_image(disk: &dyn Disk, log: &LogReader) -> anyhow::Result<Image> {
    const ATTEMPTS: usize = 3;
    let mut attempt = 1;
    loop {
        let read = read_replay(disk, log);
        match read {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            read => return Ok(read?.finish()),
        }
    }
}

fn read_replay(disk: &dyn Disk, log: &LogReader) -> anyhow::Result<Replay> {
    let folder = log.folder().display().to_string();
    let mut replay = Replay::default();
    if let Some(id) = latest_snapshot(disk, log.folder())? {
        let path = log.folder().join(id.file_name());
        let named = || path.display().to_string();
        let bytes = read_small(disk, &path).with_context(named)?.with_context(named)?;
        replay.load_snapshot(id, bytes.into()).with_context(named)?;
    }
    let mut cursor = log.cursor(replay.end_offset());
    while let Some(mut bytes) = cursor.read(METADATA_READ_BYTES, Offset(i64::MAX))? {
        while !bytes.is_empty() {
            let batch = Batch::first(&bytes).with_context(|| folder.clone())?;
            bytes = bytes.slice(batch.bytes.len()..);
            let offset = batch.header.base_offset;
            batch.as_ref().check_crc().with_context(|| format!("{folder}: offset {offset}"))?;
            replay.take(&batch).with_context(|| folder.clone())?;
        }
    }
    Ok(replay)
}

/// The epoch of the batch that holds `offset`. A running broker lists an epoch with its first flush: until then
/// the batches alone tell.
fn epoch_of_batch_at(log: &LogReader, offset: Offset) -> anyhow::Result<Option<LeaderEpoch>> {
    let bytes = log.cursor(offset).read(1, Offset(i64::MAX))?;
    let header = bytes.as_deref().map(BatchHeader::parse).transpose()?;
    Ok(header.map(|header| header.leader_epoch))
}

fn latest_snapshot(disk: &dyn Disk, folder: &Path) -> anyhow::Result<Option<SnapshotId>> {
    let entries = disk.list(folder).with_context(|| folder.display().to_string())?;
    let whole = entries.iter().filter_map(|entry| match SnapshotName::parse(&entry.name)? {
        SnapshotName::Whole(id) => Some(id),
        SnapshotName::Part(_) | SnapshotName::Deleted(_) => None,
    });
    Ok(whole.max())
}
