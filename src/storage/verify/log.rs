//! One partition's folder: what is in it, the units that it is read in, and what they come to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::context::{Context, SegmentFiles, State};
use super::entries::OffsetEntries;
use super::facts::{Facts, Known, read_bounded};
use super::finding::{Finding, Findings, Remedy, Severity};
use super::fold::Fold;
use super::quorum::{self, MetadataSnapshots};
use super::text::{self, Text};
use super::unit::{Counts, Tools, Unit, UnitReport, read_unit};
use crate::storage::METADATA_TOPIC;
use crate::storage::checkpoint::{LEADER_EPOCH_FILE, PARTITION_METADATA_FILE};
use crate::storage::disk::Disk;
use crate::storage::inspect::Content;
use crate::storage::place::{CLEANED_SUFFIX, DELETED_SUFFIX, SWAP_SUFFIX, Suffix, parse_file_name};
use crate::storage::producer_snapshot;
use crate::storage::reader::FolderKind;
use crate::types::{LeaderEpoch, Offset, TopicPartition, Uuid};

/// Segments that are larger are read in pieces, so that several cores work on one.
const UNIT_BYTES: u64 = 32 << 20;
/// The id of the topic of the metadata log.
const METADATA_TOPIC_ID: Uuid = Uuid::ONE;
/// What `--repair` puts its side files' names together with.
pub(super) const KEPT_SUFFIX: &str = ".kept";

/// A partition's log, to be read unit by unit, on as many threads as there are.
#[derive(Debug)]
pub struct LogCheck {
    context: Context,
    kind: FolderKind,
    units: Vec<Unit>,
    files: u64,
    /// Of the folder's small files and names.
    findings: Findings,
    /// Of the metadata log alone.
    metadata: Option<MetadataSnapshots>,
    fold: Mutex<Fold>,
}

/// What became of one log.
#[derive(Debug)]
pub struct LogOutcome {
    /// Where it is.
    pub folder: PathBuf,
    /// Whose it is.
    pub partition: Option<TopicPartition>,
    /// What the folder is there for.
    pub kind: FolderKind,
    /// The first offset that counts.
    pub start: Offset,
    /// The base offset of the first segment.
    pub first_base: Option<Offset>,
    /// The offset behind the last sound batch.
    pub end: Offset,
    /// Where the first epoch begins that is listed.
    pub first_epoch_start: Option<Offset>,
    /// The last epoch that is listed, and where it begins.
    pub latest_epoch: Option<(LeaderEpoch, Offset)>,
    /// What was read.
    pub counts: Counts,
    /// Files that were looked at.
    pub files: u64,
    /// What was found.
    pub findings: Findings,
}

impl LogOutcome {
    /// Recovery would begin such a log anew.
    pub(super) fn ends_before_its_start(&self) -> bool {
        self.end < self.start
    }

    /// Where a repair leaves the folder alone as a whole, no finding in it says that it would be mended.
    pub fn leave_with_folder(&self, findings: &mut Findings) {
        let is_left = findings.list().iter().any(|finding| finding.remedy.leaves_folder());
        if !is_left && !self.ends_before_its_start() {
            return;
        }
        let of_folder = |finding: &&mut Finding| finding.file.parent() == Some(&*self.folder);
        for finding in findings.list_mut().iter_mut().filter(of_folder).filter(|one| one.remedy.mends()) {
            finding.remedy = Remedy::LeftWithFolder;
        }
    }
}

/// The names in a folder, sorted out.
#[derive(Default)]
struct Names {
    segments: Vec<SegmentFiles>,
    indexes: Vec<(Offset, Suffix)>,
    snapshots: Vec<Offset>,
    metadata_snapshots: Vec<(Offset, i32, PathBuf)>,
    has_cleaned: bool,
    files: u64,
}

impl LogCheck {
    /// Looks at the folder's names and small files.
    ///
    /// # Errors
    /// What the system says.
    pub fn plan(
        disk: Arc<dyn Disk>,
        folder: &Path,
        partition: Option<TopicPartition>,
        kind: FolderKind,
        facts: Option<&Facts>,
        known: Option<&Known>,
    ) -> io::Result<Self> {
        let mut findings = Findings::default();
        let state = match facts.map_or(State::Copy, Facts::state) {
            // It was put away by a start that did not recover it first: the clean mark does not speak for it.
            State::Clean if kind == FolderKind::Stray => State::Unclean,
            state => state,
        };
        let names = Names::list(&*disk, folder, state, &mut findings)?;
        let first_base = names.segments.first().map_or(Offset::ZERO, |first| first.base);
        let current = facts.filter(|_| kind == FolderKind::Current);
        let of = |offsets: fn(&Facts) -> &super::facts::Offsets| {
            offsets(current?).as_ref()?.get(partition.as_ref()?).copied()
        };
        let log_start = first_base.max(of(|facts| &facts.log_starts).unwrap_or(first_base));
        let topic = partition.as_ref().and_then(|partition| known?.topic(partition));
        let is_compacted = names.has_cleaned
            || topic.is_some_and(|topic| topic.is_compacted)
            || of(|facts| &facts.cleaned).is_some()
            || partition.as_ref().is_some_and(is_compacted_by_kafka);
        let mut context = Context {
            disk,
            folder: folder.to_owned(),
            state,
            segments: names.segments.clone(),
            snapshots: names.snapshots.clone(),
            epochs: None,
            log_start,
            recovery_point: of(|facts| &facts.recovery_points),
            is_compacted,
            is_whole: true,
            partition,
        };
        context.epochs = read_epochs(&context, &mut findings)?;
        if let Some((_, start)) = context.epochs.as_ref().and_then(|epochs| epochs.first())
            && state != State::Clean
        {
            // Records were deleted, and the checkpoint that says so was not written any more.
            context.log_start = context.log_start.max(*start);
        }
        check_snapshots(&context, &mut findings)?;
        check_orphans(&context, &names, &mut findings);
        check_topic_id(&context, topic.map(|topic| topic.id), &mut findings)?;
        let is_quorum = context.partition.as_ref().is_some_and(|one| one.topic.as_str() == METADATA_TOPIC);
        let mut files = names.files;
        if is_quorum {
            let node_id = facts.and_then(|facts| facts.meta.as_ref()?.node_id);
            files += quorum::check_state(&context, node_id, known, &mut findings)?;
        }
        let mut snapshots = MetadataSnapshots::default();
        for (offset, epoch, path) in &names.metadata_snapshots {
            snapshots.check(&*context.disk, path, (*offset, *epoch))?;
        }
        let mut units = Vec::new();
        for slot in 0..context.segments.len() {
            plan_units(&context, slot, &mut units)?;
        }
        let metadata = is_quorum.then_some(snapshots);
        Ok(Self { context, kind, units, files, findings, metadata, fold: Mutex::default() })
    }

    /// How many units there are.
    #[must_use]
    pub fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// The bytes of all its `.log` files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.context.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.context.folder
    }

    /// How many units were joined so far, in order. Whoever reads units far ahead of it fills memory with their
    /// reports.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.fold.lock().next_unit
    }

    /// Reads a unit. Any thread may read any unit, each once.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, unit: usize, tools: &mut Tools, progress: &(dyn Fn(u64) + Sync)) -> io::Result<()> {
        let read = read_unit(&self.context, &self.units[unit], tools, progress);
        // What cannot be read must not hold up those that come behind it.
        let (report, failed) = match read {
            Ok(report) => (report, Ok(())),
            Err(error) => (UnitReport::gone(&self.units[unit]), Err(error)),
        };
        failed.and(self.fold.lock().take(&self.context, &self.units, unit, report, tools))
    }

    /// What the log came to, once all units were read.
    #[must_use]
    pub fn finish(self) -> LogOutcome {
        let Self { context, kind, files, mut findings, metadata, fold, .. } = self;
        let folded = fold.into_inner().finish(&context);
        findings.append(folded.findings);
        let end = folded.end.unwrap_or(context.log_start);
        match metadata {
            Some(snapshots) => {
                snapshots.conclude(context.segments.first().map(|first| first.base), end, &mut findings);
            }
            None if kind == FolderKind::Current => check_last_snapshot(&context, end, &mut findings),
            None => {}
        }
        LogOutcome {
            start: context.log_start,
            first_base: context.segments.first().map(|first| first.base),
            end,
            first_epoch_start: context.epochs.as_ref().and_then(|epochs| Some(epochs.first()?.1)),
            latest_epoch: context.epochs.as_ref().and_then(|epochs| epochs.last()).copied(),
            counts: folded.counts,
            folder: context.folder,
            partition: context.partition,
            kind,
            files,
            findings,
        }
    }
}

/// Kafka compacts these whatever its configuration says.
fn is_compacted_by_kafka(partition: &TopicPartition) -> bool {
    matches!(partition.topic.as_str(), "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl Names {
    fn list(disk: &dyn Disk, folder: &Path, state: State, findings: &mut Findings) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in disk.list(folder)? {
            let path = folder.join(&entry.name);
            names.files += u64::from(!entry.is_folder);
            if Content::of(&entry.name).is_some() && disk.is_special(&path)? {
                findings.push(Finding::no_file(path, entry.is_folder));
            } else if entry.is_folder {
                let what = "a folder, where a partition has none";
                findings.push(Finding::damage(path, what, Remedy::Nothing).as_bad_as(Severity::Note));
            } else if let Some((base, suffix)) = parse_file_name(&entry.name) {
                match suffix {
                    // One that is gone again was removed by a running broker.
                    Suffix::Log => {
                        let stat = disk.stat(&path)?;
                        names.segments.extend(stat.map(|stat| SegmentFiles { base, bytes: stat.len }));
                    }
                    Suffix::Snapshot => names.snapshots.push(base),
                    _ => names.indexes.push((base, suffix)),
                }
            } else {
                names.odd(&entry.name, path, state, findings);
            }
        }
        names.segments.sort_by_key(|segment| segment.base);
        names.snapshots.sort();
        Ok(names)
    }

    fn odd(&mut self, name: &str, path: PathBuf, state: State, findings: &mut Findings) {
        let note = |what: &str, remedy| Finding::damage(path.clone(), what, remedy).as_bad_as(Severity::Note);
        if let Some(Content::MetadataSnapshot(offset, epoch)) = Content::of(name) {
            self.metadata_snapshots.push((offset, epoch, path));
        } else if matches!(name, LEADER_EPOCH_FILE | PARTITION_METADATA_FILE | quorum::STATE_FILE) {
            // Read by themselves.
        } else if name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX) {
            self.has_cleaned = true;
            if state != State::Running {
                findings.push(note("left over from a cleaning", Remedy::Passes));
            }
        } else if name.ends_with(DELETED_SUFFIX) || name.ends_with(".tmp") || name.ends_with(".part") {
            if state != State::Running {
                findings.push(note("left over, on its way out", Remedy::Passes));
            }
        } else if name.ends_with(KEPT_SUFFIX) {
            findings.push(note("kept by a repair", Remedy::Nothing));
        } else {
            self.files -= 1;
            if state != State::Running {
                findings.push(note("not a file of Kafka's", Remedy::Nothing));
            }
        }
    }
}

fn read_epochs(context: &Context, findings: &mut Findings) -> io::Result<Option<Vec<(LeaderEpoch, Offset)>>> {
    let path = context.folder.join(LEADER_EPOCH_FILE);
    // Kafka makes the file empty and writes it with the first epoch.
    let Some(bytes) = read_bounded(&*context.disk, &path)?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let Text { value, fault } = text::epochs(&bytes);
    if let Some(fault) = fault {
        findings
            .push(Finding::damage(path, fault, Remedy::MakeEpochs).as_bad_as(context.severity_of_files()));
    }
    Ok(value)
}

fn check_snapshots(context: &Context, findings: &mut Findings) -> io::Result<()> {
    for &offset in &context.snapshots {
        let path = context.path(offset, Suffix::Snapshot);
        // Removed meanwhile by a running broker.
        let Some(bytes) = read_bounded(&*context.disk, &path)? else { continue };
        if let Err(why) = producer_snapshot::parse(&bytes) {
            let finding = Finding::damage(path, why, Remedy::DropSnapshot).of(offset);
            findings.push(finding.as_bad_as(context.severity_of_files()));
        }
    }
    Ok(())
}

/// A stop in order leaves a snapshot of the producers where the log ends. Without any, Kafka's next start takes
/// producers for forgotten, and their next batches for wrong or new.
fn check_last_snapshot(context: &Context, end: Offset, findings: &mut Findings) {
    let has_batches = context.segments.iter().any(|segment| segment.bytes > 0);
    if context.state == State::Clean && has_batches && context.snapshots.last() != Some(&end) {
        let what = "the producers' snapshot where the log ends is missing";
        let path = context.path(end, Suffix::Snapshot);
        // Of a log whose end is damaged, more is said already.
        if !findings.list().iter().any(|finding| matches!(finding.remedy, Remedy::Cut)) {
            findings.push(Finding::damage(path, what, Remedy::DropSnapshot).of(end));
        }
    }
}

fn check_orphans(context: &Context, names: &Names, findings: &mut Findings) {
    const ADVICE: &str = "the records in it are lost here; a backup or another replica has them";
    if context.state == State::Running {
        return;
    }
    let is_orphan = |base: &Offset| context.segments.binary_search_by_key(base, |one| one.base).is_err();
    let orphans = names.indexes.iter().filter(|(base, _)| is_orphan(base));
    let mut missing = BTreeSet::new();
    for &(base, suffix) in orphans {
        let finding = Finding::damage(
            context.path(base, suffix),
            "an index without its log",
            Remedy::PutAside("its log is gone"),
        );
        findings.push(finding.as_bad_as(context.severity_of_files()));
        missing.insert(base);
    }
    for base in missing {
        // What retention deletes may leave indexes before the first segment, where a kill came between.
        let was_flushed =
            base >= context.log_start && context.recovery_point.is_some_and(|point| point > base);
        let severity = if was_flushed { Severity::Damage } else { context.severity_of_files() };
        let path = context.path(base, Suffix::Log);
        let finding =
            Finding::damage(path, "it is missing, and its indexes are here", Remedy::Person(ADVICE));
        findings.push(finding.of(base).as_bad_as(severity));
    }
}

fn check_topic_id(context: &Context, known: Option<Uuid>, findings: &mut Findings) -> io::Result<()> {
    let path = context.folder.join(PARTITION_METADATA_FILE);
    let Some(partition) = &context.partition else { return Ok(()) };
    let is_quorum = partition.topic.as_str() == METADATA_TOPIC;
    let due = if is_quorum { Some(METADATA_TOPIC_ID) } else { known };
    let remedy = due.map_or(Remedy::Nothing, Remedy::WriteTopicId);
    let severity = context.severity_of_files();
    let Some(bytes) = read_bounded(&*context.disk, &path)? else {
        let has_batches = context.segments.iter().any(|segment| segment.bytes > 0);
        if due.is_some() && has_batches {
            findings.push(Finding::damage(path, "the topic's id is missing", remedy).as_bad_as(severity));
        }
        return Ok(());
    };
    let Text { value, fault } = text::topic_id(&bytes);
    if let Some(fault) = fault {
        findings.push(Finding::damage(&*path, fault, remedy.clone()).as_bad_as(severity));
    }
    if let (Some(found), Some(due)) = (value, due)
        && found != due
    {
        // A start takes the folder for that of another topic, and puts it away.
        let what = format!("the topic's id is {found}, the metadata log says {due}");
        findings.push(Finding::damage(path, what, remedy));
    }
    Ok(())
}

/// The units of one segment. Where a large one may be parted is taken from its index.
fn plan_units(context: &Context, slot: usize, units: &mut Vec<Unit>) -> io::Result<()> {
    let SegmentFiles { base, bytes } = context.segments[slot];
    let whole = Unit {
        slot,
        start: 0,
        end: bytes,
        file_end: bytes,
        entries: (0, u64::MAX),
        first_last_offset: None,
        due: None,
        skips_entries: false,
    };
    let index = if bytes < 2 * UNIT_BYTES {
        None
    } else {
        OffsetEntries::open(&*context.disk, &context.path(base, Suffix::OffsetIndex), base)?
    };
    let Some(mut index) = index else {
        units.push(whole);
        return Ok(());
    };
    let mut unit = whole;
    loop {
        let goal = unit.start + UNIT_BYTES;
        let cut = index.partition_point(|entry| entry.position < goal)?;
        index.seek(cut);
        let entry = index
            .peek()?
            .filter(|entry| entry.position + UNIT_BYTES / 2 < bytes && entry.position > unit.start);
        let Some(entry) = entry else {
            units.push(unit);
            return Ok(());
        };
        let next = Unit {
            start: entry.position,
            entries: (cut, u64::MAX),
            first_last_offset: Some(entry.offset),
            ..unit.clone()
        };
        units.push(Unit { end: entry.position, entries: (unit.entries.0, cut), ..unit });
        unit = next;
    }
}
