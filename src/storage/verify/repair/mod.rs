//! Mending what was found, by the same means as a start's recovery, but for one: nothing that is sound is dropped.
//!
//! The caller holds the directory's lock, and has taken its clean mark away, so that whatever ends this halfway is
//! followed by a recovery. Bytes that go are copied into `.kept` files beside their own, and synced, before anything
//! is changed. A bad batch with sound ones behind it is taken out alone; the offsets it held get an empty batch, as
//! cleaning leaves them. Indexes, epochs and producers' snapshots are made by recovery itself, from the whole log.
//!
//! Left alone: batches that are sound and do not fit between their neighbours (recovery would cut them off), lost
//! offsets, and holes in the metadata log that no snapshot covers: they are decisions that would be forgotten. What
//! only the cluster knows (a damaged snapshot, whose directory it is, a vote) is mended where another file says the
//! same; else the finding says what a person can do.

mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::{Facts, Known};
use super::finding::{Finding, Remedy};
use super::log::{KEPT_SUFFIX, LogOutcome};
use super::text;
use crate::storage::METADATA_TOPIC;
use crate::storage::checkpoint::{
    CLEANER_OFFSET_FILE, HIGH_WATERMARK_FILE, LEADER_EPOCH_FILE, LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE,
    render_offsets, render_partition_metadata,
};
use crate::storage::disk::{Disk, read_small, replace_file};
use crate::storage::error::StorageError;
use crate::storage::log::{Log, LogHome};
use crate::storage::options::LogOptions;
use crate::storage::reader::{FolderKind, PartitionFolder};
use crate::storage::recovery::OpenHints;
use crate::types::{Offset, TopicPartition};

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Which file.
    pub file: PathBuf,
    /// What became of it.
    pub what: String,
}

impl Done {
    fn new(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into() }
    }
}

/// Mends the log in `folder`, as far as its findings can be. The folder's partition must be known by its name.
///
/// # Errors
/// The disk failed.
pub fn mend_folder(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    findings: &[&Finding],
    log: &LogOutcome,
    facts: Option<&Facts>,
    now_ms: i64,
) -> Result<Vec<Done>, StorageError> {
    let Some(PartitionFolder { partition, .. }) = PartitionFolder::parse(folder) else {
        return Ok(Vec::new());
    };
    if findings.iter().any(|finding| finding.remedy.leaves_folder()) || log.ends_before_its_start() {
        return Ok(Vec::new());
    }
    let mut done = mend_logs(disk, folder, findings).map_err(StorageError::io("mend", folder))?;
    done.extend(put_away(&**disk, findings).map_err(StorageError::io("mend", folder))?);
    let hints = OpenHints {
        clean: false,
        recovery_point: Offset::ZERO,
        log_start_offset: (log.start > log.first_base.unwrap_or(log.start)).then_some(log.start),
        high_watermark: facts.and_then(|facts| facts.high_watermarks.as_ref()?.get(&partition).copied()),
        cleaner_point: facts.and_then(|facts| facts.cleaned.as_ref()?.get(&partition).copied()),
    };
    // No producer is forgotten for its age: that is a running broker's to decide.
    // A hole between segments is none of a repair's: what stands behind it is sound.
    let options = LogOptions { producer_id_expiration_ms: i64::MAX, compact: true, ..LogOptions::default() };
    let home = LogHome::new(Arc::clone(disk));
    let (mut opened, recovered) = Log::open(&home, folder, partition, options, hints, now_ms)?;
    opened.close_clean()?;
    let what = format!(
        "recovered up to offset {}: {} segments checked, their indexes made anew",
        opened.log_end_offset(),
        recovered.segments_checked
    );
    done.push(Done::new(folder, what));
    if let Some(fault) = recovered.fault {
        done.push(Done::new(folder, format!("{} bytes cut off: {fault}", recovered.bytes_cut)));
    }
    Ok(done)
}

/// Mends the `.log` files.
fn mend_logs(disk: &Arc<dyn Disk>, folder: &Path, findings: &[&Finding]) -> io::Result<Vec<Done>> {
    let epochs = read_small(&**disk, &folder.join(LEADER_EPOCH_FILE))?.unwrap_or_default();
    let epochs = text::epochs(&epochs).value.unwrap_or_default();
    let mut logs: BTreeMap<&Path, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        let is_log = finding.file.extension().is_some_and(|extension| extension == "log");
        if is_log && finding.position.is_some() && finding.remedy.mends() {
            logs.entry(&finding.file).or_default().push(finding);
        }
    }
    let mut done = Vec::new();
    for (path, findings) in logs {
        done.extend(edits::mend_log(&**disk, path, &findings, &epochs)?);
    }
    Ok(done)
}

/// Mends files of the log directory itself that no log says anything about: whose it is, and what it began with.
///
/// # Errors
/// The disk failed.
pub fn mend_own(disk: &dyn Disk, directory: &Path, findings: &[Finding]) -> Result<Vec<Done>, StorageError> {
    let is_own = |finding: &&Finding| {
        finding.file.parent() == Some(directory)
            && matches!(finding.remedy, Remedy::PutAside(_) | Remedy::WriteProperties(_))
    };
    let findings: Vec<&Finding> = findings.iter().filter(is_own).collect();
    put_away(disk, &findings).map_err(StorageError::io("mend", directory))
}

/// Puts away the small files that are wrong; recovery makes them anew, but for the topic's id.
fn put_away(disk: &dyn Disk, findings: &[&Finding]) -> io::Result<Vec<Done>> {
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    for finding in findings.iter().filter(|finding| seen.insert(&finding.file)) {
        let path = &finding.file;
        match &finding.remedy {
            Remedy::MakeEpochs | Remedy::DropSnapshot => {
                let what = match put_aside(disk, path)? {
                    Some(kept) => format!("made anew from the log; the old one is {}", kept.display()),
                    None => "made anew from the log".to_owned(),
                };
                done.push(Done::new(&**path, what));
            }
            Remedy::PutAside(_) => {
                if let Some(kept) = put_aside(disk, path)? {
                    done.push(Done::new(&**path, format!("moved to {}", kept.display())));
                }
            }
            Remedy::WriteProperties(properties) => {
                put_aside(disk, path)?;
                replace_file(disk, path, &properties.render())?;
                done.push(Done::new(&**path, "written anew, as the metadata log says"));
            }
            Remedy::WriteTopicId(id) => {
                put_aside(disk, path)?;
                replace_file(disk, path, &render_partition_metadata(*id))?;
                done.push(Done::new(&**path, format!("topic id {id} written")));
            }
            _ => {}
        }
    }
    Ok(done)
}

/// Renames a file to a `.kept` name that nothing has yet; `None` where there is no file.
fn put_aside(disk: &dyn Disk, path: &Path) -> io::Result<Option<PathBuf>> {
    if disk.stat(path)?.is_none() {
        return Ok(None);
    }
    let mut kept = edits::suffixed(path, KEPT_SUFFIX);
    let mut number = 1;
    while disk.stat(&kept)?.is_some() {
        number += 1;
        kept = edits::suffixed(path, &format!(".{number}{KEPT_SUFFIX}"));
    }
    disk.rename(path, &kept)?;
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))?;
    Ok(Some(kept))
}

/// Writes those of the directory's checkpoints anew that `findings` name, or that say something else of the logs in
/// `mended`. Logs of a directory that was clean, and those just mended, are flushed up to their ends.
///
/// # Errors
/// The disk failed.
pub fn mend_checkpoints(
    disk: &dyn Disk,
    facts: &Facts,
    was_clean: bool,
    findings: &[Finding],
    logs: &[LogOutcome],
    mended: &BTreeSet<PathBuf>,
    known: Option<&Known>,
) -> Result<Vec<Done>, StorageError> {
    let current: Vec<(&TopicPartition, &LogOutcome)> = logs
        .iter()
        .filter(|log| log.kind == FolderKind::Current)
        .filter_map(|log| Some((log.partition.as_ref()?, log)))
        .filter(|(partition, _)| partition.topic.as_str() != METADATA_TOPIC)
        .collect();
    type Entry<'a> = &'a dyn Fn(&TopicPartition, &LogOutcome, Option<Offset>) -> Option<Offset>;
    let is_flushed = |log: &LogOutcome| was_clean || mended.contains(&log.folder);
    let recovery_point = |_: &TopicPartition, log: &LogOutcome, old: Option<Offset>| {
        if is_flushed(log) { Some(log.end) } else { old.map(|old| old.min(log.end)) }
    };
    let high_watermark = |partition: &TopicPartition, log: &LogOutcome, old: Option<Offset>| {
        let is_alone =
            known.and_then(|known| known.partition(partition)).is_some_and(|known| known.assigned.len() == 1);
        let fallback = was_clean.then_some(log.start);
        if was_clean && is_alone {
            Some(log.end)
        } else {
            old.or(fallback).map(|old| old.max(log.start).min(log.end))
        }
    };
    let log_start = |_: &TopicPartition, log: &LogOutcome, old: Option<Offset>| {
        let first_base = log.first_base.unwrap_or(Offset::ZERO);
        let by_epochs = log.first_epoch_start.filter(|_| was_clean && old.is_some());
        by_epochs.or(old).filter(|start| *start > first_base && *start <= log.end)
    };
    let cleaned =
        |_: &TopicPartition, log: &LogOutcome, old: Option<Offset>| old.filter(|old| *old <= log.end);
    let files: [(&str, &super::facts::Offsets, Entry<'_>); 4] = [
        (RECOVERY_POINT_FILE, &facts.recovery_points, &recovery_point),
        (HIGH_WATERMARK_FILE, &facts.high_watermarks, &high_watermark),
        (LOG_START_OFFSET_FILE, &facts.log_starts, &log_start),
        (CLEANER_OFFSET_FILE, &facts.cleaned, &cleaned),
    ];
    let mut done = Vec::new();
    for (name, old, entry) in files {
        let path = facts.path().join(name);
        let old = old.clone().unwrap_or_default();
        let mut fresh: BTreeMap<&TopicPartition, Offset> = current
            .iter()
            .filter_map(|(partition, log)| {
                Some((*partition, entry(partition, log, old.get(partition).copied())?))
            })
            .collect();
        // What it says of a partition that is lost stays: it says that there was one.
        let lost = known.iter().flat_map(|known| &known.missing).filter_map(|lost| old.get_key_value(lost));
        fresh.extend(lost.map(|(partition, offset)| (partition, *offset)));
        let is_same = fresh.len() == old.len()
            && fresh.iter().all(|(partition, offset)| old.get(partition) == Some(offset));
        let is_named = findings.iter().any(|one| one.file == path && one.remedy == Remedy::WriteCheckpoint);
        if is_named || (!is_same && !mended.is_empty()) {
            let mut what = "written anew".to_owned();
            if let Some(bytes) = read_small(disk, &path).map_err(StorageError::io("read", &path))? {
                let kept = edits::suffixed(&path, KEPT_SUFFIX);
                replace_file(disk, &kept, &bytes).map_err(StorageError::io("replace", &kept))?;
                what = format!("written anew; the old one is {}", kept.display());
            }
            let rendered = render_offsets(fresh.into_iter());
            replace_file(disk, &path, &rendered).map_err(StorageError::io("replace", &path))?;
            done.push(Done::new(&*path, what));
        }
    }
    Ok(done)
}
