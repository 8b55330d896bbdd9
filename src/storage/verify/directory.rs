//! A log directory: the logs in it, and what its checkpoints say of them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::State;
use super::facts::{Facts, Known, Offsets};
use super::finding::{Finding, Findings, Remedy, Severity};
use super::log::{KEPT_SUFFIX, LogCheck, LogOutcome};
use super::quorum;
use crate::storage::METADATA_TOPIC;
use crate::storage::checkpoint::{
    CLEANER_OFFSET_FILE, HIGH_WATERMARK_FILE, LEADER_EPOCH_FILE, LOCK_FILE, LOG_START_OFFSET_FILE,
    META_PROPERTIES_FILE, RECOVERY_POINT_FILE,
};
use crate::storage::disk::Disk;
use crate::storage::inspect::Content;
use crate::storage::reader::{FolderKind, PartitionFolder};
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// What is to be read of one directory.
#[derive(Debug)]
pub struct Plan {
    /// The directory's own files; `None` for a folder that stands alone.
    pub facts: Option<Facts>,
    /// The logs.
    pub logs: Vec<LogCheck>,
    /// Of names, and of files that no log has.
    pub findings: Findings,
    /// Whether all partitions of the directory are among the logs.
    pub is_whole: bool,
    /// Partitions that are here, on their way in and out too.
    present: BTreeSet<TopicPartition>,
    /// One of them, at least, is neither on its way nor the metadata log.
    has_partitions: bool,
    /// Their folders, until they are looked into.
    folders: Vec<PartitionFolder>,
}

/// Whether files of a log directory itself are in `path`.
///
/// # Errors
/// What the system says.
pub fn is_log_directory(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    for name in [META_PROPERTIES_FILE, RECOVERY_POINT_FILE, HIGH_WATERMARK_FILE, LOCK_FILE] {
        if disk.stat(&path.join(name))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Plan {
    /// Everything in a log directory, or in a folder of partitions' folders.
    ///
    /// # Errors
    /// What the system says.
    pub fn directory(disk: &Arc<dyn Disk>, path: &Path, known: Option<&Known>) -> io::Result<Self> {
        let mut plan = Self::files(disk, path, known)?;
        let Some(facts) = plan.facts.take() else { return Ok(plan) };
        for folder in std::mem::take(&mut plan.folders) {
            plan.folder(disk, folder, &facts, known)?;
        }
        plan.facts = Some(facts);
        Ok(plan)
    }

    /// The own files of a log directory, and the names in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn files(disk: &Arc<dyn Disk>, path: &Path, known: Option<&Known>) -> io::Result<Self> {
        let facts = Facts::read(&**disk, path, known)?;
        let mut plan = Self {
            folders: Vec::new(),
            facts: None,
            logs: Vec::new(),
            findings: Findings::default(),
            is_whole: true,
            present: BTreeSet::new(),
            has_partitions: false,
        };
        let mut entries = disk.list(path)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let path = path.join(&entry.name);
            match PartitionFolder::parse(&path) {
                Some(folder) if entry.is_folder => {
                    plan.has_partitions |= folder.kind == FolderKind::Current
                        && folder.partition.topic.as_str() != METADATA_TOPIC;
                    plan.present.insert(folder.partition.clone());
                    plan.folders.push(folder);
                }
                _ if Content::of(&entry.name).is_some() && disk.is_special(&path)? => {
                    plan.findings.push(Finding::no_file(path, entry.is_folder));
                }
                _ if entry.is_folder => {
                    let what = "not a partition's folder";
                    plan.findings
                        .push(Finding::damage(path, what, Remedy::Nothing).as_bad_as(Severity::Note));
                }
                _ => plan.file(&**disk, &entry.name, &path, facts.state())?,
            }
        }
        plan.facts = Some(facts);
        Ok(plan)
    }

    /// One partition's folder; its directory is consulted, if it is in one.
    ///
    /// # Errors
    /// What the system says.
    pub fn partition(disk: &Arc<dyn Disk>, path: &Path, known: Option<&Known>) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let facts = match parent {
            Some(parent) if is_log_directory(&**disk, parent)? => Some(Facts::read(&**disk, parent, known)?),
            _ => None,
        };
        let folder = PartitionFolder::parse(path);
        let kind = folder.as_ref().map_or(FolderKind::Current, |folder| folder.kind);
        let partition = folder.map(|folder| folder.partition);
        let log = LogCheck::plan(Arc::clone(disk), path, partition.clone(), kind, facts.as_ref(), known)?;
        Ok(Self {
            facts,
            logs: vec![log],
            findings: Findings::default(),
            is_whole: false,
            present: partition.into_iter().collect(),
            has_partitions: true,
            folders: Vec::new(),
        })
    }

    /// How the directory was left.
    #[must_use]
    pub fn state(&self) -> State {
        self.facts.as_ref().map_or(State::Copy, Facts::state)
    }

    /// How many files of the directory itself were looked at.
    #[must_use]
    pub fn own_files(&self) -> u64 {
        self.facts.as_ref().filter(|_| self.is_whole).map_or(0, |facts| facts.files)
    }

    fn folder(
        &mut self,
        disk: &Arc<dyn Disk>,
        folder: PartitionFolder,
        facts: &Facts,
        known: Option<&Known>,
    ) -> io::Result<()> {
        let PartitionFolder { partition, path, kind } = folder;
        let note = |what: &str, remedy| Finding::damage(&*path, what, remedy).as_bad_as(Severity::Note);
        match kind {
            FolderKind::Deleted => {
                if facts.state() != State::Running {
                    self.findings.push(note("a deleted partition's folder, not looked into", Remedy::Passes));
                }
                return Ok(());
            }
            FolderKind::Stray => {
                self.findings.push(note("a folder that belongs to no topic", Remedy::Nothing));
            }
            FolderKind::Future => {}
            FolderKind::Current => {
                let is_unknown =
                    known.is_some_and(|known| !known.is_unreadable && known.topic(&partition).is_none());
                if is_unknown && partition.topic.as_str() != METADATA_TOPIC && facts.state() != State::Running
                {
                    let what =
                        "the metadata log knows no such topic: a start puts the folder away as a stray";
                    self.findings.push(note(what, Remedy::Nothing));
                }
            }
        }
        match LogCheck::plan(Arc::clone(disk), &path, Some(partition), kind, Some(facts), known) {
            Ok(log) => self.logs.push(log),
            // Renamed meanwhile, on its way out.
            Err(error) if error.kind() == io::ErrorKind::NotFound && facts.state() == State::Running => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn file(&mut self, disk: &dyn Disk, name: &str, path: &Path, state: State) -> io::Result<()> {
        match Content::of(name) {
            Some(Content::Bootstrap) => quorum::check_bootstrap(disk, path, &mut self.findings),
            Some(
                Content::Offsets
                | Content::MetaProperties
                | Content::CleanShutdown
                | Content::Lock
                | Content::QuorumState,
            ) => Ok(()),
            _ if name.ends_with(KEPT_SUFFIX) => {
                let note = Finding::damage(path, "kept by a repair", Remedy::Nothing);
                self.findings.push(note.as_bad_as(Severity::Note));
                Ok(())
            }
            _ => {
                let is_temporary = name.ends_with(".tmp");
                if !(is_temporary && state == State::Running) {
                    let remedy = if is_temporary { Remedy::Passes } else { Remedy::Nothing };
                    let what = if is_temporary { "left over" } else { "not a file of Kafka's" };
                    self.findings.push(Finding::damage(path, what, remedy).as_bad_as(Severity::Note));
                }
                Ok(())
            }
        }
    }

    /// Takes the logs out, to be read.
    #[must_use]
    pub fn take_logs(&mut self) -> Vec<LogCheck> {
        std::mem::take(&mut self.logs)
    }

    /// What the checkpoints say of a log that was read, held against it.
    #[must_use]
    pub fn conclude(&self, log: &LogOutcome, known: Option<&Known>) -> Findings {
        let mut findings = Findings::default();
        let (Some(facts), Some(partition)) = (&self.facts, &log.partition) else { return findings };
        if log.kind == FolderKind::Current && partition.topic.as_str() != METADATA_TOPIC {
            Concluding { facts, log, partition, findings: &mut findings }.run(known);
        }
        findings
    }

    /// What was found in no log: names, and the directory's own files.
    #[must_use]
    pub fn own_findings(&self, known: Option<&Known>) -> Findings {
        let mut findings = self.findings.clone();
        if let Some(facts) = self.facts.as_ref().filter(|_| self.is_whole) {
            facts.findings.list().iter().cloned().for_each(|finding| findings.push(finding));
            if facts.state() == State::Clean {
                self.strangers(facts, known, &mut findings);
                self.missing(facts, &mut findings);
            }
        }
        findings
    }

    /// Checkpoints that a stop in order writes, where there are partitions.
    fn missing(&self, facts: &Facts, findings: &mut Findings) {
        if !self.has_partitions {
            return;
        }
        let files =
            [(RECOVERY_POINT_FILE, &facts.recovery_points), (HIGH_WATERMARK_FILE, &facts.high_watermarks)];
        for (name, offsets) in files {
            let path = facts.path().join(name);
            // One that cannot be read was reported.
            if offsets.is_none() && !findings.list().iter().any(|finding| finding.file == path) {
                findings.push(Finding::damage(path, "it is missing", Remedy::WriteCheckpoint));
            }
        }
    }

    /// Partitions that a checkpoint has, and the directory has not; but for those that it should have.
    fn strangers(&self, facts: &Facts, known: Option<&Known>, findings: &mut Findings) {
        let files: [(&str, &Offsets); 4] = [
            (RECOVERY_POINT_FILE, &facts.recovery_points),
            (HIGH_WATERMARK_FILE, &facts.high_watermarks),
            (LOG_START_OFFSET_FILE, &facts.log_starts),
            (CLEANER_OFFSET_FILE, &facts.cleaned),
        ];
        for (name, offsets) in files {
            for partition in offsets.iter().flat_map(|offsets| offsets.keys()) {
                let is_lost = known.is_some_and(|known| known.missing.contains(partition));
                if !self.present.contains(partition) && !is_lost {
                    let what = format!("it has {partition}, which is not here");
                    findings.push(Finding::damage(facts.path().join(name), what, Remedy::WriteCheckpoint));
                }
            }
        }
    }
}

/// One log, held against the checkpoints.
struct Concluding<'a> {
    facts: &'a Facts,
    log: &'a LogOutcome,
    partition: &'a TopicPartition,
    findings: &'a mut Findings,
}

impl Concluding<'_> {
    fn run(mut self, known: Option<&Known>) {
        let Self { facts, log, partition, .. } = self;
        let is_clean = facts.state() == State::Clean;
        let of = |offsets: &Offsets| offsets.as_ref().map(|offsets| offsets.get(partition).copied());
        match of(&facts.recovery_points) {
            Some(Some(point)) if is_clean && point != log.end => {
                self.odd(RECOVERY_POINT_FILE, &format!("{point}, the log ends at {}", log.end));
            }
            // What was flushed is gone: no recovery brings it back.
            Some(Some(point)) if point > log.end => {
                let what = format!("{partition} was flushed up to {point}, the log ends at {}", log.end);
                let path = facts.path().join(RECOVERY_POINT_FILE);
                self.findings.push(Finding::damage(path, what, Remedy::WriteCheckpoint));
            }
            Some(None) if is_clean => {
                self.odd(RECOVERY_POINT_FILE, &format!("nothing, the log ends at {}", log.end));
            }
            _ => {}
        }
        if !is_clean {
            return;
        }
        let known = known.and_then(|known| known.partition(partition));
        let replicas = known.map(|known| known.assigned.len());
        match of(&facts.high_watermarks) {
            Some(Some(mark))
                if mark > log.end || mark < log.start || (replicas == Some(1) && mark != log.end) =>
            {
                self.odd(
                    HIGH_WATERMARK_FILE,
                    &format!("{mark}, the log goes from {} to {}", log.start, log.end),
                );
            }
            Some(None) => self.odd(HIGH_WATERMARK_FILE, &format!("nothing, the log ends at {}", log.end)),
            _ => {}
        }
        self.log_start(of(&facts.log_starts).flatten());
        self.latest_epoch(known.map(|known| known.leader_epoch));
        if let Some(cleaned) = of(&facts.cleaned).flatten().filter(|cleaned| *cleaned > log.end) {
            self.odd(CLEANER_OFFSET_FILE, &format!("{cleaned}, the log ends at {}", log.end));
        }
    }

    /// A log start is listed where the first segment's name does not say it; the first epoch begins there.
    fn log_start(&mut self, listed: Option<Offset>) {
        let log = self.log;
        let first_base = log.first_base.unwrap_or(Offset::ZERO);
        match (listed, log.first_epoch_start) {
            (Some(start), _) if start <= first_base || start > log.end => {
                self.odd(
                    LOG_START_OFFSET_FILE,
                    &format!("{start}, the log goes from {first_base} to {}", log.end),
                );
            }
            (Some(start), Some(epoch)) if epoch != start => {
                self.odd(
                    LOG_START_OFFSET_FILE,
                    &format!("{start}, its first leader epoch begins at {epoch}"),
                );
            }
            _ => {}
        }
    }

    /// The last epoch began in the log, and is not younger than the cluster knows.
    fn latest_epoch(&mut self, known: Option<LeaderEpoch>) {
        let Some((epoch, start)) = self.log.latest_epoch else { return };
        let what = match known {
            _ if start > self.log.end => {
                format!("epoch {epoch} begins at {start}, the log ends at {}", self.log.end)
            }
            Some(known) if epoch > known => format!("epoch {epoch} is listed, the metadata log says {known}"),
            _ => return,
        };
        let path = self.log.folder.join(LEADER_EPOCH_FILE);
        self.findings.push(Finding::damage(path, what, Remedy::MakeEpochs).of(start));
    }

    fn odd(&mut self, name: &str, what: &str) {
        let what = format!("{} is at {what}", self.partition);
        self.findings.push(Finding::damage(self.facts.path().join(name), what, Remedy::WriteCheckpoint));
    }
}

/// The partition's folder that a file is in.
#[must_use]
pub fn folder_of(file: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(file).ok()?;
    let parent = absolute.parent()?;
    PartitionFolder::parse(parent)?;
    Some(parent.to_owned())
}
