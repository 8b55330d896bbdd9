//! A log directory's own files: whose it is, how it was left, what its checkpoints say; and what the cluster's
//! metadata says of it, where the caller knows that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::context::State;
use super::finding::{Finding, Findings, Remedy, Severity};
use super::text::{self, Text};
use crate::storage::checkpoint::{
    CLEAN_SHUTDOWN_FILE, CLEANER_OFFSET_FILE, HIGH_WATERMARK_FILE, LOCK_FILE, LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE, MetaProperties, RECOVERY_POINT_FILE, render_clean_shutdown,
};
use crate::storage::disk::{Disk, read_small};
use crate::types::{LeaderEpoch, Offset, TopicPartition, Uuid};

/// No file of these is larger: a checkpoint has a line a partition.
const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;

/// What a cluster's metadata says of a topic.
#[derive(Debug, Clone, Default)]
pub struct KnownTopic {
    /// Its id.
    pub id: Uuid,
    /// Its `cleanup.policy` has `compact` in it.
    pub is_compacted: bool,
    /// Its partitions.
    pub partitions: BTreeMap<i32, KnownPartition>,
}

/// What a cluster's metadata says of a partition.
#[derive(Debug, Clone, Default)]
pub struct KnownPartition {
    /// The brokers that it is on, and in which of their directories; a reserved id where that is not known.
    pub assigned: Vec<(i32, Uuid)>,
    /// Those among them that it is still on its way to.
    pub adding: Vec<i32>,
    /// Something was decided about it since it was made.
    pub has_changed: bool,
    /// Of its leader.
    pub leader_epoch: LeaderEpoch,
}

impl KnownPartition {
    /// The directory that it has on a broker, where that is known.
    pub(super) fn directory_on(&self, node_id: i32) -> Option<Uuid> {
        let (_, directory) = self.assigned.iter().find(|(node, _)| *node == node_id)?;
        (!directory.is_reserved()).then_some(*directory)
    }
}

/// What a cluster's metadata says of a broker.
#[derive(Debug, Clone, Default)]
pub struct KnownBroker {
    /// Of its last registration.
    pub epoch: i64,
    /// The ids of its log directories.
    pub directories: Vec<Uuid>,
}

/// What a metadata log says of the quorum that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct KnownQuorum {
    /// Who votes, as the log says it last.
    pub voters: Option<Vec<i32>>,
    /// Who voted at some time.
    pub ever: BTreeSet<i32>,
    /// The newest epoch that a leader began in the log, and who that was.
    pub leader: Option<(LeaderEpoch, i32)>,
}

/// What the cluster agreed on, as far as a log directory can be held against it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Topics by name.
    pub topics: BTreeMap<String, KnownTopic>,
    /// Brokers by node id.
    pub brokers: BTreeMap<i32, KnownBroker>,
    /// Who leads and votes.
    pub quorum: KnownQuorum,
    /// The metadata cannot be read as a whole: topics and brokers are not known.
    pub is_unreadable: bool,
    /// The ids of the directories that are looked at together.
    pub claimed: BTreeSet<Uuid>,
    /// Partitions that should be in one of these, and are in none.
    pub missing: BTreeSet<TopicPartition>,
}

impl Known {
    /// What it says of a topic.
    #[must_use]
    pub fn topic(&self, partition: &TopicPartition) -> Option<&KnownTopic> {
        self.topics.get(partition.topic.as_str())
    }

    /// Whether nothing is lost when a node forgets whom it voted for: it is the only voter, or none.
    pub(super) fn needs_no_vote(&self, node_id: Option<i32>) -> bool {
        let (Some(voters), Some(node_id)) = (&self.quorum.voters, node_id) else { return false };
        *voters == [node_id] || !voters.contains(&node_id)
    }

    /// What it says of a partition.
    #[must_use]
    pub fn partition(&self, partition: &TopicPartition) -> Option<&KnownPartition> {
        self.topic(partition)?.partitions.get(&partition.partition)
    }

    /// All partitions, with the names of their topics.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&str, i32, &KnownPartition)> {
        self.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().map(|(number, partition)| (name.as_str(), *number, partition))
        })
    }

    /// Whether a partition is in this directory of a broker.
    pub(super) fn assigns_to(&self, node_id: i32, directory: Uuid) -> bool {
        self.partitions().any(|(_, _, partition)| partition.directory_on(node_id) == Some(directory))
    }
}

/// An offset checkpoint; `None` where it is missing, or none.
pub(super) type Offsets = Option<BTreeMap<TopicPartition, Offset>>;

/// See the module.
#[derive(Debug)]
pub struct Facts {
    pub(super) path: PathBuf,
    pub(super) state: State,
    pub(super) meta: Option<MetaProperties>,
    pub(super) recovery_points: Offsets,
    pub(super) high_watermarks: Offsets,
    pub(super) log_starts: Offsets,
    pub(super) cleaned: Offsets,
    pub(super) findings: Findings,
    pub(super) files: u64,
}

impl Facts {
    /// Reads the directory's own files.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(disk: &dyn Disk, path: &Path, known: Option<&Known>) -> io::Result<Self> {
        let mut facts = Self {
            path: path.to_owned(),
            state: state_of(disk, path)?,
            meta: None,
            recovery_points: None,
            high_watermarks: None,
            log_starts: None,
            cleaned: None,
            findings: Findings::default(),
            files: 0,
        };
        facts.recovery_points = facts.offsets(disk, RECOVERY_POINT_FILE)?;
        facts.high_watermarks = facts.offsets(disk, HIGH_WATERMARK_FILE)?;
        facts.log_starts = facts.offsets(disk, LOG_START_OFFSET_FILE)?;
        facts.cleaned = facts.offsets(disk, CLEANER_OFFSET_FILE)?;
        facts.read_meta(disk, known)?;
        facts.read_mark(disk, known)?;
        facts.read_lock(disk)?;
        Ok(facts)
    }

    /// How the directory was left.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn severity(&self) -> Severity {
        if self.state == State::Clean { Severity::Damage } else { Severity::Note }
    }

    fn offsets(&mut self, disk: &dyn Disk, name: &str) -> io::Result<Offsets> {
        let path = self.path.join(name);
        let Some(bytes) = read_bounded(disk, &path)? else { return Ok(None) };
        self.files += 1;
        // Kafka makes them empty; it writes to the cleaner's with the first cleaning, to that of high watermarks with
        // the first partition, and to the others later or at a stop.
        let is_lazy = name == CLEANER_OFFSET_FILE || name == HIGH_WATERMARK_FILE;
        if bytes.is_empty() && (is_lazy || self.state != State::Clean) {
            return Ok(Some(BTreeMap::new()));
        }
        let Text { value, fault } = text::offsets(&bytes);
        if let Some(fault) = fault {
            self.findings
                .push(Finding::damage(path, fault, Remedy::WriteCheckpoint).as_bad_as(self.severity()));
        }
        Ok(value)
    }

    fn read_meta(&mut self, disk: &dyn Disk, known: Option<&Known>) -> io::Result<()> {
        let path = self.path.join(META_PROPERTIES_FILE);
        // No recovery mends it: a start refuses the directory, or takes it for another's.
        let Some(bytes) = read_bounded(disk, &path)? else {
            if self.state != State::Copy {
                let what = "it is missing: nothing says whose directory this is";
                self.findings.push(Finding::damage(path, what, properties_remedy(&[], known)));
            }
            return Ok(());
        };
        self.files += 1;
        let Text { value, fault } = text::meta_properties(&bytes);
        let damage = |what: String| Finding::damage(&*path, what, properties_remedy(&bytes, known));
        if let Some(fault) = fault {
            self.findings.push(damage(fault));
        }
        let Some(meta) = value else { return Ok(()) };
        self.meta = Some(meta);
        Ok(())
    }

    fn read_mark(&mut self, disk: &dyn Disk, known: Option<&Known>) -> io::Result<()> {
        let path = self.path.join(CLEAN_SHUTDOWN_FILE);
        let Some(bytes) = read_bounded(disk, &path)? else { return Ok(()) };
        self.files += 1;
        let epoch = std::str::from_utf8(&bytes).ok().and_then(|text| {
            text.strip_prefix(r#"{"version":0,"brokerEpoch":"#)?.strip_suffix('}')?.parse::<i64>().ok()
        });
        let node = self.meta.as_ref().and_then(|meta| meta.node_id);
        let broker = node.and_then(|node| known?.brokers.get(&node));
        let registered = broker.map(|broker| broker.epoch);
        // A directory that was not there when its broker registered last has the mark of an earlier run.
        let id = self.meta.as_ref().and_then(|meta| meta.directory_id);
        let is_of_last_run = broker.is_none_or(|broker| {
            broker.directories.is_empty() || id.is_some_and(|id| broker.directories.contains(&id))
        });
        let remedy = registered.map_or(Remedy::Nothing, Remedy::WriteMark);
        let what = match (epoch, registered) {
            // Brokers before Kafka 3.9 left it empty.
            (None, _) if bytes.is_empty() => return Ok(()),
            (None, _) => "it is not as a broker writes it".to_owned(),
            (Some(epoch), _) if render_clean_shutdown(epoch) != bytes => {
                "it is not as a broker writes it".to_owned()
            }
            (Some(epoch), Some(registered))
                if (is_of_last_run && epoch != registered && epoch >= 0) || epoch > registered =>
            {
                format!("its broker epoch is {epoch}, {registered} was registered last")
            }
            _ => return Ok(()),
        };
        self.findings.push(Finding::damage(path, what, remedy).as_bad_as(self.severity()));
        Ok(())
    }

    fn read_lock(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let path = self.path.join(LOCK_FILE);
        let Some(stat) = disk.stat(&path)? else { return Ok(()) };
        self.files += 1;
        if stat.len > 0 {
            let what = format!("it holds {} bytes, and should be empty", stat.len);
            self.findings.push(Finding::damage(path, what, Remedy::Passes).as_bad_as(self.severity()));
        }
        Ok(())
    }
}

/// What `meta.properties` should say: from those of its lines that are whole, and from the broker's registration.
pub(super) fn properties_remedy(bytes: &[u8], known: Option<&Known>) -> Remedy {
    const BY_HAND: &str = "write version=1, cluster.id, node.id and directory.id by hand; another directory of this \
                           broker has the first three, the broker's registration in the metadata log the last";
    let text = String::from_utf8_lossy(bytes);
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().filter(|value| value.bytes().all(|byte| byte.is_ascii_graphic()) && !value.is_empty())
    };
    let find = || {
        let brokers = &known?.brokers;
        let of_line = value("node.id").and_then(|text| text.parse().ok());
        let alone = brokers.keys().next().copied().filter(|_| brokers.len() == 1);
        let node_id = of_line.filter(|id| brokers.contains_key(id)).or(alone)?;
        let registered = &brokers.get(&node_id)?.directories;
        let of_line = value("directory.id").and_then(|text| text.parse().ok());
        let mut free = registered.iter().filter(|id| !known.is_some_and(|known| known.claimed.contains(id)));
        let alone = free.next().copied().filter(|_| free.next().is_none());
        Some(MetaProperties {
            version: 1,
            cluster_id: Some(value("cluster.id")?.to_owned()),
            node_id: Some(node_id),
            directory_id: Some(of_line.filter(|id| registered.contains(id)).or(alone)?),
        })
    };
    find().map_or(Remedy::Person(BY_HAND), |properties| Remedy::WriteProperties(Box::new(properties)))
}

/// How a log directory was left, at this moment.
///
/// # Errors
/// What the system says.
pub fn state_of(disk: &dyn Disk, path: &Path) -> io::Result<State> {
    if disk.is_locked(&path.join(LOCK_FILE))? {
        return Ok(State::Running);
    }
    let exists = |name: &str| Ok::<_, io::Error>(disk.stat(&path.join(name))?.is_some());
    if exists(CLEAN_SHUTDOWN_FILE)? {
        return Ok(State::Clean);
    }
    let is_brokers = exists(META_PROPERTIES_FILE)? || exists(RECOVERY_POINT_FILE)? || exists(LOCK_FILE)?;
    Ok(if is_brokers { State::Unclean } else { State::Copy })
}

/// A small file; one that is far too large is an error, not memory.
pub(super) fn read_bounded(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk.stat(path)? {
        None => Ok(None),
        Some(stat) if stat.len > SMALL_FILE_BYTES_MAX => Err(io::Error::other(format!(
            "{}: {} bytes are too many for such a file",
            path.display(),
            stat.len
        ))),
        Some(_) => read_small(disk, path),
    }
}
