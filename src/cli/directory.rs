//! Reading a log directory in place of a cluster (`-d`): no lock, nothing written, beside a running broker.

use std::path::Path;

use anyhow::bail;

use crate::cli::configs::{ConfigView, Entity};
use crate::cli::queries::{FoundOffset, LogDir};
use crate::cli::topics::TopicView;
use crate::types::TopicPartition;

/// An opened log directory.
#[derive(Debug)]
pub struct Directory;

impl Directory {
    /// Opens `dir` for reading.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        bail!("{}: reading a directory needs a server on it: use -b HOST:PORT", dir.display())
    }

    /// The topics there are.
    pub fn topics(&self) -> anyhow::Result<Vec<TopicView>> {
        Ok(Vec::new())
    }

    /// Adds offsets, sizes and configurations; returns what could not be read.
    pub fn complete(&self, _topics: &mut [TopicView]) -> Vec<anyhow::Error> {
        Vec::new()
    }

    /// The partitions of a topic; `None` where there is no such topic.
    pub fn partitions_of(&self, _topic: &str) -> Option<Vec<i32>> {
        None
    }

    /// The offset at a time.
    pub fn offset_at(&self, _partition: &TopicPartition, _timestamp: i64) -> anyhow::Result<FoundOffset> {
        bail!("no such partition")
    }

    /// The directory as a whole.
    pub fn log_dir(&self) -> anyhow::Result<LogDir> {
        bail!("no directory")
    }

    /// The configurations of an entity.
    pub fn configs(&self, _entity: &Entity) -> anyhow::Result<Vec<ConfigView>> {
        Ok(Vec::new())
    }
}
