//! One run over everything that was asked for: plan, read on all threads, conclude; and look again at what a running
//! broker may have changed under the reader.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::output::Output;
use crate::cli::verify::{known, workers};
use crate::storage::inspect::Content;
use crate::storage::reader::PartitionFolder;
use crate::storage::verify::{
    Counts, Finding, Findings, Known, LogCheck, LogOutcome, Node, Plan, RegularFiles, Severity, State,
    Surveyed, folder_of, is_log_directory, state_of,
};
use crate::storage::{Disk, RealDisk};

/// How often damage in a directory that is in use must be found again before it is believed.
const LOOKS: usize = 3;
/// Below this a progress bar would only flicker.
const PROGRESS_BYTES_MIN: u64 = 256 << 20;

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A log directory, or a folder of partitions' folders.
    Directory(PathBuf),
    /// A partition's folder.
    Partition(PathBuf),
    /// A file in a partition's folder, which is read, or in a log directory, whose own files are read.
    File { folder: PathBuf, file: PathBuf },
}

impl Target {
    pub(super) fn of(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if disk.list(&path).is_err() {
            disk.stat(&path)?.ok_or(io::ErrorKind::NotFound)?;
            let folder = folder_of(&path).or_else(|| path.parent().map(Path::to_owned)).unwrap_or_default();
            return Ok(Self::File { folder, file: path });
        }
        let holds_batches = || -> io::Result<bool> {
            Ok(disk
                .list(&path)?
                .iter()
                .any(|entry| matches!(Content::of(&entry.name), Some(Content::Log(_)))))
        };
        let is_partition = PartitionFolder::parse(&path).is_some() || holds_batches()?;
        Ok(if is_partition && !is_log_directory(disk, &path)? {
            Self::Partition(path)
        } else {
            Self::Directory(path)
        })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Partition(path) => path,
            Self::File { file, .. } => file,
        }
    }

    /// The log directory around it.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Partition(path) => path.parent(),
            Self::File { folder, .. } if PartitionFolder::parse(folder).is_some() => folder.parent(),
            Self::File { folder, .. } => Some(folder),
        }
    }

    fn plan(&self, disk: &Arc<dyn Disk>, known: Option<&Known>) -> io::Result<Plan> {
        match self {
            Self::Directory(path) => Plan::directory(disk, path, known),
            Self::Partition(path) => Plan::partition(disk, path, known),
            Self::File { folder, .. } if PartitionFolder::parse(folder).is_some() => {
                Plan::partition(disk, folder, known)
            }
            Self::File { folder, .. } => Plan::files(disk, folder, known),
        }
    }
}

/// What one target came to.
#[derive(Debug)]
pub struct Checked {
    /// What was asked for.
    pub target: PathBuf,
    /// How its directory was left.
    pub state: State,
    /// Logs that were read.
    pub logs: u64,
    /// Files that were looked at.
    pub files: u64,
    /// What they hold.
    pub counts: Counts,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Findings that were not kept.
    pub hidden: u64,
    /// How many findings are damage.
    pub damage: u64,
    /// What each log came to; its findings are among the others.
    pub outcomes: Vec<LogOutcome>,
    /// All logs of the directory were read.
    pub is_whole: bool,
}

impl Checked {
    fn in_directory(target: &Target, state: State) -> Self {
        Self {
            target: target.path().to_owned(),
            state,
            logs: 0,
            files: 0,
            counts: Counts::default(),
            findings: Vec::new(),
            hidden: 0,
            damage: 0,
            outcomes: Vec::new(),
            is_whole: false,
        }
    }

    fn add_log(&mut self, log: &LogOutcome) {
        self.logs += 1;
        self.files += log.files;
        self.counts.add(&log.counts);
    }

    fn add_findings(&mut self, findings: Findings) {
        self.hidden += findings.hidden();
        self.damage += findings.damage();
        self.findings.extend(findings.into_list());
    }

    /// Whether partitions were found, and none of the node's directories has its metadata log.
    pub(super) fn lacks_metadata(&self) -> bool {
        let folder = known::metadata_folder(&self.target);
        self.findings.iter().any(|finding| finding.file == folder && finding.severity == Severity::Note)
    }

    /// The folders that damage was found in.
    fn damaged_folders(&self) -> HashSet<PathBuf> {
        let damage = self.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        damage.filter_map(|finding| Some(finding.file.parent()?.to_owned())).collect()
    }

    /// Leaves out the damage that another look did not find.
    fn keep_what_was_found_again(&mut self, again: &Self) {
        let found: HashSet<&Finding> = again.findings.iter().collect();
        let stays = |finding: &Finding| finding.severity == Severity::Note || found.contains(finding);
        let passed = self.findings.iter().filter(|finding| !stays(finding)).count() as u64;
        self.findings.retain(stays);
        self.damage -= passed;
        if again.damage == 0 {
            (self.damage, self.hidden) = (0, 0);
        }
    }
}

/// See the module.
pub struct Pass {
    disk: Arc<dyn Disk>,
    threads: usize,
    targets: Vec<Target>,
    /// What could not be read at all.
    pub failed: Vec<String>,
    missing: Vec<String>,
    /// What the metadata log of a directory's node says.
    known: BTreeMap<PathBuf, Arc<Known>>,
    /// What is wrong with a directory among those of its node, and with a metadata log as records.
    together: BTreeMap<PathBuf, Vec<Finding>>,
}

impl Pass {
    /// A run on so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::on(RegularFiles::on(RealDisk::new()), threads)
    }

    /// The same, on `disk`: locks that it holds are the caller's own.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, threads: usize) -> Self {
        Self {
            disk,
            threads,
            targets: Vec::new(),
            failed: Vec::new(),
            missing: Vec::new(),
            known: BTreeMap::new(),
            together: BTreeMap::new(),
        }
    }

    /// Adds a path; one that cannot be read is among what failed.
    pub fn add(&mut self, path: &Path) {
        match Target::of(&*self.disk, path) {
            Ok(target) => self.targets.push(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing.push(format!("{}: no such file or directory", path.display()));
            }
            Err(error) => self.missing.push(format!("{}: {error}", path.display())),
        }
    }

    /// What the metadata log of a directory's node says, where there is one.
    pub(super) fn known(&self, directory: &Path) -> Option<Arc<Known>> {
        self.known.get(directory).map(Arc::clone)
    }

    /// Checks all targets.
    pub fn run(&mut self, output: &Output) -> Vec<Checked> {
        self.failed.clone_from(&self.missing);
        self.learn();
        let targets = self.targets.clone();
        let mut checked = Vec::with_capacity(targets.len());
        for target in &targets {
            match self.check(target, output) {
                Ok(one) => checked.push(one),
                Err(error) => self.failed.push(format!("{}: {error}", target.path().display())),
            }
        }
        checked
    }

    /// Looks at the directories of the targets together, and reads what the metadata logs in them say.
    fn learn(&mut self) {
        self.known.clear();
        self.together.clear();
        let directories: BTreeSet<&Path> = self.targets.iter().filter_map(Target::directory).collect();
        // One that cannot be read fails where it is checked.
        let surveyed = directories.into_iter().filter_map(|path| Surveyed::read(&*self.disk, path).ok());
        for node in Node::all(surveyed.collect()) {
            let mut known = None;
            if let Some(directory) = node.metadata_directory()
                && let Some((mut read, finding)) = known::read(&self.disk, directory)
            {
                read.claimed = node.claimed();
                read.missing = node.missing_partitions(&read);
                let findings = self.together.entry(directory.to_owned()).or_default();
                findings.extend(finding);
                known = Some(Arc::new(read));
            }
            for (directory, finding) in node.check(known.as_deref()) {
                self.together.entry(directory).or_default().push(finding);
            }
            if let Some(known) = known {
                let of_node = node.directories().map(|directory| (directory.to_owned(), Arc::clone(&known)));
                self.known.extend(of_node);
            }
        }
    }

    fn check(&mut self, target: &Target, output: &Output) -> io::Result<Checked> {
        let mut checked = self.read(target, None, Some(output))?;
        for look in 1..LOOKS {
            if checked.damage == 0 || !self.may_have_changed(target, checked.state)? {
                break;
            }
            tracing::debug!(look, "looking again at what a running broker may have changed");
            self.learn();
            let again = self.read(target, Some(&checked.damaged_folders()), None)?;
            checked.keep_what_was_found_again(&again);
        }
        Ok(checked)
    }

    /// Whether a broker runs on the directory, or has run since it was looked at.
    fn may_have_changed(&self, target: &Target, state: State) -> io::Result<bool> {
        let Some(directory) = target.directory() else { return Ok(false) };
        Ok(state == State::Running || state_of(&*self.disk, directory)? != state)
    }

    /// Reads a target, or the logs of it that are in one of `folders`.
    fn read(
        &mut self,
        target: &Target,
        folders: Option<&HashSet<PathBuf>>,
        output: Option<&Output>,
    ) -> io::Result<Checked> {
        let known = target.directory().and_then(|directory| self.known(directory));
        let known = known.as_deref();
        let mut plan = target.plan(&self.disk, known)?;
        let mut checked = Checked::in_directory(target, plan.state());
        let mut logs = plan.take_logs();
        logs.retain(|log| folders.is_none_or(|folders| folders.contains(log.folder())));
        for (log, error) in self.read_logs(&logs, output) {
            self.failed.push(format!("{}: {error}", logs[log].folder().display()));
        }
        for log in logs {
            let mut outcome = log.finish();
            checked.add_log(&outcome);
            let mut findings = std::mem::take(&mut outcome.findings);
            findings.append(plan.conclude(&outcome, known));
            outcome.leave_with_folder(&mut findings);
            checked.add_findings(findings);
            checked.outcomes.push(outcome);
        }
        checked.files += plan.own_files();
        checked.is_whole = plan.is_whole && folders.is_none();
        checked.add_findings(plan.own_findings(known));
        let together = target.directory().and_then(|path| self.together.get(path));
        let mut findings = Findings::default();
        for finding in together.into_iter().flatten() {
            if plan.is_whole || finding.file == target.path() {
                findings.push(finding.clone());
            }
        }
        checked.add_findings(findings);
        if let Target::File { file, .. } = target {
            checked.findings.retain(|finding| finding.file == *file);
            let damage = checked.findings.iter().filter(|finding| finding.severity == Severity::Damage);
            checked.damage = damage.count() as u64;
        }
        checked
            .findings
            .sort_by(|a, b| (&a.file, a.position, a.offset).cmp(&(&b.file, b.position, b.offset)));
        Ok(checked)
    }

    fn read_logs(&self, logs: &[LogCheck], output: Option<&Output>) -> Vec<(usize, io::Error)> {
        let total: u64 = logs.iter().map(LogCheck::size_bytes).sum();
        let bar = output
            .filter(|_| total >= PROGRESS_BYTES_MIN)
            .map(|output| output.progress_bytes(total, "checking"));
        let failed =
            workers::read_all(logs, self.threads, &|bytes| bar.iter().for_each(|bar| bar.inc(bytes)));
        bar.iter().for_each(|bar| bar.finish_and_clear());
        failed
    }
}
