//! The log directories of one node, held against each other, and against what the metadata log in one of them says
//! lies in them: whose they are, which partitions are missing, in two of them, or about to be erased.
//!
//! What is not certain is a note: a directory that was offline when its broker registered, a partition that may never
//! have been made here, directories without a metadata log among them. Of directories in use nothing is said: what
//! lies in them changes under the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::context::State;
use super::facts::{Facts, Known, properties_remedy, read_bounded};
use super::finding::{Finding, Remedy, Severity};
use super::text;
use crate::storage::METADATA_TOPIC;
use crate::storage::checkpoint::{META_PROPERTIES_FILE, MetaProperties, PARTITION_METADATA_FILE};
use crate::storage::disk::Disk;
use crate::storage::reader::{FolderKind, PartitionFolder};
use crate::types::{TopicName, TopicPartition, Uuid};

const ONE_CLUSTER: &str = "all directories of a node have the same cluster.id and node.id: write what is right by \
                           hand; other nodes' meta.properties have the cluster's id too";
const OWN_ID: &str =
    "each directory has an id of its own: write by hand the one that its broker is registered with";

/// What a log directory holds, by names.
#[derive(Debug)]
pub struct Surveyed {
    facts: Facts,
    folders: Vec<PartitionFolder>,
    /// Of folders that were put away: the topic's id that is in them.
    topic_ids: BTreeMap<PathBuf, Uuid>,
}

/// The given directories of one node.
#[derive(Debug, Default)]
pub struct Node {
    /// The first has the metadata log, where one has it.
    members: Vec<Surveyed>,
    has_metadata: bool,
}

impl Surveyed {
    /// Looks at the names in `path`, and at the directory's own files.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let facts = Facts::read(disk, path, None)?;
        let mut entries = disk.list(path)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let folders: Vec<PartitionFolder> = entries
            .iter()
            .filter(|entry| entry.is_folder)
            .filter_map(|entry| PartitionFolder::parse(&path.join(&entry.name)))
            .collect();
        let mut topic_ids = BTreeMap::new();
        for folder in folders.iter().filter(|one| one.kind == FolderKind::Deleted) {
            let bytes = read_bounded(disk, &folder.path.join(PARTITION_METADATA_FILE))?;
            if let Some(id) = bytes.and_then(|bytes| text::topic_id(&bytes).value) {
                topic_ids.insert(folder.path.clone(), id);
            }
        }
        Ok(Self { facts, folders, topic_ids })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.facts.path()
    }

    /// Whether the metadata log is in it.
    #[must_use]
    pub fn has_metadata(&self) -> bool {
        self.folders.iter().any(|folder| folder.partition.topic.as_str() == METADATA_TOPIC)
    }

    fn node_id(&self) -> Option<i32> {
        self.facts.meta.as_ref()?.node_id
    }

    fn cluster_id(&self) -> Option<&str> {
        self.facts.meta.as_ref()?.cluster_id.as_deref()
    }

    fn directory_id(&self) -> Option<Uuid> {
        self.facts.meta.as_ref()?.directory_id
    }

    /// Partitions that are in place.
    fn current(&self) -> impl Iterator<Item = &PartitionFolder> {
        self.folders.iter().filter(|folder| {
            folder.kind == FolderKind::Current && folder.partition.topic.as_str() != METADATA_TOPIC
        })
    }

    /// Whether a broker keeps partitions in it; not a directory that is for the metadata log alone.
    fn is_brokers(&self) -> bool {
        self.facts.state() == State::Clean
            || self.facts.recovery_points.is_some()
            || self.current().next().is_some()
    }

    /// Whether a checkpoint of it has the partition.
    fn lists(&self, partition: &TopicPartition) -> bool {
        let files = [&self.facts.recovery_points, &self.facts.high_watermarks];
        files.into_iter().flatten().any(|offsets| offsets.contains_key(partition))
    }

    fn properties(&self) -> PathBuf {
        self.path().join(META_PROPERTIES_FILE)
    }
}

impl Node {
    /// Sorts directories by their nodes: each node has one metadata log, and each directory without one belongs to the
    /// node that its properties name; where only one metadata log is given, to its node.
    #[must_use]
    pub fn all(surveyed: Vec<Surveyed>) -> Vec<Self> {
        let (heads, others): (Vec<_>, Vec<_>) = surveyed.into_iter().partition(Surveyed::has_metadata);
        let mut nodes: Vec<Self> =
            heads.into_iter().map(|head| Self { members: vec![head], has_metadata: true }).collect();
        for other in others {
            let is_alike = |node: &&mut Self| {
                node.members[0].node_id() == other.node_id()
                    && node.members[0].cluster_id() == other.cluster_id()
            };
            let is_copy = other.facts.state() == State::Copy;
            match nodes.as_mut_slice() {
                [one] if one.has_metadata && !is_copy => one.members.push(other),
                several => match several.iter_mut().find(is_alike).filter(|_| !is_copy) {
                    Some(node) => node.members.push(other),
                    None => nodes.push(Self { members: vec![other], has_metadata: false }),
                },
            }
        }
        nodes
    }

    /// Its directories.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(Surveyed::path)
    }

    /// The directory with its metadata log.
    #[must_use]
    pub fn metadata_directory(&self) -> Option<&Path> {
        self.members.first().filter(|_| self.has_metadata).map(Surveyed::path)
    }

    /// The ids that its directories have.
    #[must_use]
    pub fn claimed(&self) -> BTreeSet<Uuid> {
        self.members.iter().filter_map(Surveyed::directory_id).collect()
    }

    /// The partitions that the metadata log has in one of its directories, and that are in none.
    #[must_use]
    pub fn missing_partitions(&self, known: &Known) -> BTreeSet<TopicPartition> {
        self.missing(known).into_iter().map(|(_, missing)| missing.partition).collect()
    }

    /// Those that were not only just assigned, with the directory that they are assigned to; but none of a directory
    /// in use.
    fn missing(&self, known: &Known) -> Vec<(&Surveyed, Missing)> {
        let Some(node_id) = self.members.first().and_then(Surveyed::node_id) else { return Vec::new() };
        let places = self.places();
        let mut found = Vec::new();
        for (topic, number, registered) in known.partitions() {
            let here = registered.directory_on(node_id);
            let mut ours = self.own_members().filter(|one| here.is_some() && one.directory_id() == here);
            let (Some(one), None) = (ours.next(), ours.next()) else { continue };
            let Ok(topic) = TopicName::new(topic) else { continue };
            let partition = TopicPartition::new(topic, number);
            let is_kept = |kind| matches!(kind, FolderKind::Current | FolderKind::Future);
            let is_here =
                places.get(&partition).is_some_and(|all| all.iter().any(|(_, one)| is_kept(one.kind)));
            if is_here || registered.adding.contains(&node_id) || one.facts.state() == State::Running {
                continue;
            }
            let others = registered.assigned.iter().map(|(node, _)| *node).filter(|node| *node != node_id);
            let (others, has_changed) = (others.collect(), registered.has_changed);
            found.push((one, Missing { partition, others, has_changed }));
        }
        found
    }

    /// Its directories, but for one that says another node's name.
    fn own_members(&self) -> impl Iterator<Item = &Surveyed> {
        let node_id = self.members.first().and_then(Surveyed::node_id);
        self.members.iter().filter(move |one| one.node_id() == node_id)
    }

    /// The folders of each partition, whatever they are there for.
    fn places(&self) -> BTreeMap<&TopicPartition, Vec<(&Surveyed, &PartitionFolder)>> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in self.own_members() {
            let folders =
                one.folders.iter().filter(|folder| folder.partition.topic.as_str() != METADATA_TOPIC);
            folders.for_each(|folder| places.entry(&folder.partition).or_default().push((one, folder)));
        }
        places
    }

    /// What is wrong, by the directory that it is found in.
    #[must_use]
    pub fn check(&self, known: Option<&Known>) -> Vec<(PathBuf, Finding)> {
        let known = known.filter(|known| !known.is_unreadable);
        let mut check = Together { node: self, known, findings: Vec::new() };
        for index in 0..self.members.len() {
            check.agreement(index);
            check.registration(index);
        }
        check.twins();
        check.assigned();
        check.metadata();
        check.findings
    }
}

struct Together<'a> {
    node: &'a Node,
    known: Option<&'a Known>,
    findings: Vec<(PathBuf, Finding)>,
}

impl<'a> Together<'a> {
    fn push(&mut self, directory: &Surveyed, finding: Finding) {
        self.findings.push((directory.path().to_owned(), finding));
    }

    /// Holds a directory's properties against those before it.
    fn agreement(&mut self, index: usize) {
        let Some((one, before)) = self.node.members[..=index].split_last() else { return };
        let Some(first) = before.first() else { return };
        // Without a metadata log among them, nobody knows that they belong together.
        let severity = if self.node.has_metadata { Severity::Damage } else { Severity::Note };
        let at = |what: String, remedy| Finding::damage(one.properties(), what, remedy).as_bad_as(severity);
        if let (Some(id), Some(due)) = (one.cluster_id(), first.cluster_id())
            && id != due
        {
            let what = format!("cluster.id is {id}, that of {} is {due}", first.path().display());
            self.push(one, at(what, Remedy::Person(ONE_CLUSTER)));
        }
        if let (Some(id), Some(due)) = (one.node_id(), first.node_id())
            && id != due
            && !self.is_registered(id, one.directory_id())
        {
            let what = format!("node.id is {id}, that of {} is {due}", first.path().display());
            self.push(one, at(what, Remedy::Person(ONE_CLUSTER)));
        }
        let same =
            |other: &&Surveyed| one.directory_id().is_some() && other.directory_id() == one.directory_id();
        if let Some(other) = before.iter().find(same) {
            let id = one.directory_id().unwrap_or(Uuid::ZERO);
            // The one whose partitions are assigned to that id has it by right.
            let is_ones = self.assigned_ids(one).contains(&id) && !self.assigned_ids(other).contains(&id);
            let (wrong, right) = if is_ones { (other, one) } else { (one, other) };
            let what = format!("directory.id is {id}, and so is that of {}", right.path().display());
            let remedy = self.write_id(wrong);
            self.push(wrong, Finding::damage(wrong.properties(), what, remedy).as_bad_as(severity));
        }
    }

    fn is_registered(&self, node_id: i32, directory: Option<Uuid>) -> bool {
        let broker = self.known.and_then(|known| known.brokers.get(&node_id));
        broker.zip(directory).is_some_and(|(broker, id)| broker.directories.contains(&id))
    }

    /// Holds a directory's properties against its broker's last registration. That names the directories that were
    /// online then: what is not among them may be right all the same.
    fn registration(&mut self, index: usize) {
        let one = &self.node.members[index];
        let (Some(known), Some(meta)) = (self.known, &one.facts.meta) else { return };
        let Some(node_id) = meta.node_id.filter(|_| !known.brokers.is_empty() && one.is_brokers()) else {
            return;
        };
        let Some(broker) = known.brokers.get(&node_id) else {
            if known.quorum.ever.contains(&node_id) && one.current().next().is_none() {
                return;
            }
            let what = format!("node.id is {node_id}; no such broker is registered");
            let remedy = properties_remedy(&meta.render(), Some(known));
            return self.push(one, Finding::damage(one.properties(), what, remedy));
        };
        if broker.directories.is_empty()
            || meta.directory_id.is_some_and(|id| broker.directories.contains(&id))
        {
            return;
        }
        let id = meta.directory_id.map_or_else(|| "missing".to_owned(), |id| id.to_string());
        let is_assigned = meta.directory_id.is_some_and(|id| known.assigns_to(node_id, id));
        let finding = if is_assigned || (meta.directory_id.is_some() && self.due_id(one).is_none()) {
            let what = format!(
                "directory.id is {id}; when broker {node_id} registered last, that directory was not among those it had"
            );
            Finding::damage(one.properties(), what, Remedy::Passes).as_bad_as(Severity::Note)
        } else {
            let what = format!("directory.id is {id}; broker {node_id} is not registered with it");
            Finding::damage(one.properties(), what, self.write_id(one))
        };
        self.push(one, finding);
    }

    /// The directories that the metadata log has the partitions in, which are in place here.
    fn assigned_ids(&self, one: &Surveyed) -> BTreeSet<Uuid> {
        let (Some(known), Some(node_id)) = (self.known, one.node_id()) else { return BTreeSet::new() };
        let partitions = one.current().filter_map(|folder| known.partition(&folder.partition));
        partitions.filter_map(|partition| partition.directory_on(node_id)).collect()
    }

    /// The id that a directory should have: no other given one has it, and its partitions are assigned to it, or it is
    /// the one that is left.
    fn due_id(&self, one: &Surveyed) -> Option<Uuid> {
        let others = self.node.members.iter().filter(|other| other.path() != one.path());
        let taken: BTreeSet<Uuid> = others.filter_map(Surveyed::directory_id).collect();
        let mut ids = self.assigned_ids(one);
        if ids.is_empty() {
            let broker = self.known?.brokers.get(&one.node_id()?)?;
            if broker.directories.len() == self.node.members.len() {
                ids.extend(&broker.directories);
            }
        }
        let mut free = ids.difference(&taken);
        free.next().copied().filter(|_| free.next().is_none())
    }

    fn write_id(&self, one: &Surveyed) -> Remedy {
        let due = || {
            let directory_id = Some(self.due_id(one)?);
            let meta = one.facts.meta.clone().filter(|meta| meta.cluster_id.is_some())?;
            Some(MetaProperties { version: 1, directory_id, ..meta })
        };
        due().map_or(Remedy::Person(OWN_ID), |properties| Remedy::WriteProperties(Box::new(properties)))
    }

    /// Partitions that are in place in two directories: Kafka's start refuses them, klamm's keeps the one that the
    /// metadata log names. A kill amid a move leaves such.
    fn twins(&mut self) {
        const ADVICE: &str =
            "a start of Kafka's refuses both: move the one that is behind out of its directory";
        for (partition, places) in self.node.places() {
            let current: Vec<_> =
                places.iter().filter(|(_, folder)| folder.kind == FolderKind::Current).collect();
            let directories: Vec<&Surveyed> = current.iter().map(|(one, _)| *one).collect();
            let in_use = directories.iter().any(|one| one.facts.state() == State::Running);
            if current.len() < 2 || in_use || !self.node.has_metadata {
                continue;
            }
            let is_clean = directories.iter().all(|one| one.facts.state() == State::Clean);
            let known = self.known.and_then(|known| known.partition(partition));
            let due = known.and_then(|known| known.directory_on(self.node.members[0].node_id()?));
            let is_decided = due.is_some() && directories.iter().any(|one| one.directory_id() == due);
            let severity = if is_decided && !is_clean { Severity::Note } else { Severity::Damage };
            for (slot, (one, folder)) in current.iter().enumerate() {
                let other = current[usize::from(slot == 0)].1.path.display();
                let right = if due.is_some() && one.directory_id() == due {
                    "; the metadata log has it here"
                } else {
                    ""
                };
                let what = format!("the partition is in {other} too{right}");
                let finding =
                    Finding::damage(&*folder.path, what, Remedy::Person(ADVICE)).as_bad_as(severity);
                self.push(one, finding);
            }
        }
    }

    /// Partitions that the metadata log has here, and that are in none of the directories, or on their way out.
    fn assigned(&mut self) {
        const RENAME: &str =
            "give the folder its partition's name again before the next start, which erases it";
        const LOST: &str =
            "put the folder of a backup in its place before the next start, which makes an empty one";
        const COPY: &str = "the next start makes it anew, and fetches the records from the leader";
        let Some(known) = self.known else { return };
        let places = self.node.places();
        for (one, missing) in self.node.missing(known) {
            let partition = &missing.partition;
            let topic_id = known.topic(partition).map(|topic| topic.id);
            let mut put_away = places.get(partition).into_iter().flatten();
            let put_away = put_away.find(|(one, folder)| {
                folder.kind == FolderKind::Deleted && one.topic_ids.get(&folder.path).copied() == topic_id
            });
            if let Some((directory, folder)) = put_away {
                let what = "the metadata log has this partition here, and there is no other folder of it";
                self.push(directory, Finding::damage(&*folder.path, what, Remedy::Person(RENAME)));
                continue;
            }
            let is_alone = missing.others.is_empty();
            let elsewhere = if is_alone {
                "no other broker has its records".to_owned()
            } else {
                let others: Vec<String> = missing.others.iter().map(i32::to_string).collect();
                format!("it is on broker {} too", others.join(", "))
            };
            let what = format!(
                "the metadata log has the partition here, and its folder is in none of the given directories: {elsewhere}"
            );
            let was_made = one.lists(partition) || (missing.has_changed && one.facts.state() == State::Clean);
            let severity = if was_made { Severity::Damage } else { Severity::Note };
            let remedy = Remedy::Person(if is_alone { LOST } else { COPY });
            let path = one.path().join(partition.to_string());
            self.push(one, Finding::damage(path, what, remedy).as_bad_as(severity));
        }
    }

    /// A node that ran has a metadata log, in one of its directories.
    fn metadata(&mut self) {
        const ADVICE: &str = "give the directory that has it too; if none of this node has one any more, put the folder \
                              of a backup or of another controller in its place";
        for one in &self.node.members {
            let has_run = one.facts.meta.is_some() && one.current().next().is_some();
            if self.node.has_metadata || !has_run {
                continue;
            }
            let what = "no metadata log is in the given directories: what is missing here, or belongs elsewhere, \
                        cannot be seen";
            let path = one.path().join(format!("{METADATA_TOPIC}-0"));
            let finding = Finding::damage(path, what, Remedy::Person(ADVICE)).as_bad_as(Severity::Note);
            self.push(one, finding);
        }
    }
}

/// A partition that the metadata log has in a directory, and that is not in place.
struct Missing {
    partition: TopicPartition,
    others: Vec<i32>,
    has_changed: bool,
}
