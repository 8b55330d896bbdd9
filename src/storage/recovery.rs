//! What happens between the last stop and the first append: which files count, what must be checked, what is
//! mended and what is thrown away.
//!
//! 1. Leftovers go: `.deleted`, `.cleaned`, `.tmp`; complete `.swap` segments take the place of those they cover.
//! 2. Segments are the `.log` files that are left; an index without one goes.
//! 3. After a clean stop the log's end is the recovery point, if the producer snapshot of that offset is there
//!    to confirm it: nothing of a `.log` file is read. Else the last segment is read from its last index entry.
//! 4. After any other stop every batch from the recovery point's segment on is checked; the log ends before the
//!    first that is not whole, and segments behind that one go.
//! 5. Leader epochs and producer state are brought in line with what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::checkpoint::{PARTITION_METADATA_FILE, parse_partition_metadata};
use super::deletions::DeletionQueue;
use super::disk::read_small;
use super::error::StorageError;
use super::leader_epochs::LeaderEpochs;
use super::options::LogOptions;
use super::place::{CLEANED_SUFFIX, DELETED_SUFFIX, Place, SWAP_SUFFIX, Suffix, parse_file_name};
use super::producer_state::{Marker, ProducerStates};
use super::scan::{Scanner, WALK_WINDOW};
use super::segment::Segment;
use crate::record::BatchRef;
use crate::types::{Offset, Uuid};

/// What the log directory's checkpoints say of a log that is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenHints {
    /// The directory was marked clean.
    pub clean: bool,
    /// From `recovery-point-offset-checkpoint`, else 0.
    pub recovery_point: Offset,
    /// From `log-start-offset-checkpoint`.
    pub log_start_offset: Option<Offset>,
    /// From `replication-offset-checkpoint`.
    pub high_watermark: Option<Offset>,
}

/// What opening a log did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Segments whose batches were checked one by one.
    pub segments_checked: usize,
    /// Bytes cut off behind the last whole batch.
    pub bytes_cut: u64,
    /// Segments thrown away because they came after the cut.
    pub segments_dropped: usize,
    /// Why the log was cut.
    pub fault: Option<String>,
}

/// The parts of an opened log.
pub(super) struct Loaded {
    pub(super) topic_id: Option<Uuid>,
    pub(super) segments: Vec<Segment>,
    pub(super) log_start_offset: Offset,
    pub(super) log_end_offset: Offset,
    pub(super) flushed_offset: Offset,
    pub(super) producers: ProducerStates,
    pub(super) epochs: LeaderEpochs,
    pub(super) unsynced_snapshots: Vec<Offset>,
    pub(super) recovered: Recovered,
}

/// The files of a folder that count.
#[derive(Default)]
struct Files {
    logs: BTreeSet<Offset>,
    offset_indexes: BTreeSet<Offset>,
    time_indexes: BTreeSet<Offset>,
    transaction_indexes: BTreeSet<Offset>,
    snapshots: BTreeSet<Offset>,
    has_metadata: bool,
}

pub(super) fn load(
    place: &Place,
    deletions: &DeletionQueue,
    options: &LogOptions,
    hints: &OpenHints,
    now_ms: i64,
) -> Result<Loaded, StorageError> {
    let files = list_files(place)?;
    let topic_id = if files.has_metadata { read_topic_id(place)? } else { None };
    let mut segments = list_segments(place, &files)?;
    let (mut epochs, epochs_are_whole) = LeaderEpochs::load(place)?;
    let first_base = segments.first().map(|segment| segment.base);
    let log_start = first_base.unwrap_or_default().max(hints.log_start_offset.unwrap_or_default());
    let mut producers = ProducerStates::new(files.snapshots.clone());
    let mut recovered = Recovered::default();
    if segments.is_empty() {
        segments.push(Segment::create(place, log_start, 0, None, now_ms)?);
    }
    let mut clean_end =
        if hints.clean { end_after_clean_stop(place, &segments, &files, hints)? } else { None };
    if !epochs_are_whole || !transaction_indexes_are_whole(place, &segments) {
        clean_end = None;
    }
    let expiration_ms = options.producer_id_expiration_ms;
    let epochs_before = epochs.clone();
    let mut unsynced_snapshots = Vec::new();
    let log_end = if let Some(end) = clean_end {
        producers.reload(place, (log_start, end), now_ms, expiration_ms)?;
        replay_from_snapshot(place, &segments, (log_start, end), &mut producers)?;
        end
    } else {
        let from = if epochs_are_whole { hints.recovery_point } else { Offset::ZERO };
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let base = segments[first].base;
        producers.reload(place, (log_start.min(base), base), now_ms, expiration_ms)?;
        replay_from_snapshot(place, &segments, (log_start.min(base), base), &mut producers)?;
        let mut check =
            Check { place, producers: &mut producers, epochs: &mut epochs, recovered: &mut recovered };
        let end = check.run(&mut segments, first, &mut unsynced_snapshots)?;
        drop_behind(place, deletions, options, &mut segments, &mut recovered, now_ms)?;
        end
    };
    remove_stray_snapshots(place, &segments, &mut producers, log_end)?;
    unsynced_snapshots.extend(producers.take_snapshot(place)?);
    unsynced_snapshots.retain(|offset| producers.snapshots().contains(offset));
    let flushed_offset = if clean_end.is_some() { log_end } else { hints.recovery_point.min(log_end) };
    // What was lost may reach below what DeleteRecords had removed: the log then begins anew at its start.
    let (log_end, log_start_offset) = if log_end < log_start {
        recovered.segments_dropped = segments.len();
        drop_behind(place, deletions, options, &mut segments, &mut recovered, now_ms)?;
        segments.push(Segment::create(place, log_start, 0, None, now_ms)?);
        producers.reset(place, log_start)?;
        (log_start, log_start)
    } else {
        (log_end, log_start)
    };
    // An epoch that began at the end and wrote nothing yet is kept.
    epochs.truncate_from_end(log_end.next());
    epochs.truncate_from_start(log_start_offset);
    if epochs != epochs_before || !epochs_are_whole {
        epochs.store(place)?;
    }
    if let Some(active) = segments.last_mut() {
        active.set_jitter_ms(options.draw_jitter_ms());
    }
    Ok(Loaded {
        topic_id,
        segments,
        log_start_offset,
        log_end_offset: log_end,
        flushed_offset,
        producers,
        epochs,
        unsynced_snapshots,
        recovered,
    })
}

/// Lists the folder once, removes what is left over, and swaps in what the cleaner had finished.
fn list_files(place: &Place) -> Result<Files, StorageError> {
    let folder = &place.folder;
    let entries = place.disk.list(folder).map_err(StorageError::io("list", folder))?;
    let remove = |name: &str| {
        let path = place.named(name);
        place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))
    };
    let mut swaps: BTreeMap<Offset, Vec<String>> = BTreeMap::new();
    let mut cleaned_from: Option<Offset> = None;
    let mut names = Vec::with_capacity(entries.len());
    for entry in entries.into_iter().filter(|entry| !entry.is_folder) {
        let name = entry.name;
        if name.ends_with(DELETED_SUFFIX) || name.ends_with(".tmp") {
            remove(&name)?;
        } else if let Some(rest) = name.strip_suffix(CLEANED_SUFFIX) {
            if let Some((base, _)) = parse_file_name(rest) {
                cleaned_from = Some(cleaned_from.map_or(base, |least| least.min(base)));
            }
            remove(&name)?;
        } else if let Some((base, _)) = name.strip_suffix(SWAP_SUFFIX).and_then(parse_file_name) {
            swaps.entry(base).or_default().push(name);
        } else {
            names.push(name);
        }
    }
    // While a `.cleaned` file is left, the swap of that round had not begun to delete the originals.
    let unfinished: Vec<Offset> =
        swaps.keys().copied().filter(|base| cleaned_from.is_some_and(|least| *base >= least)).collect();
    for name in unfinished.iter().filter_map(|base| swaps.remove(base)).flatten() {
        remove(&name)?;
    }
    let mut files = Files::default();
    names.iter().for_each(|name| files.add(name));
    if !swaps.is_empty() {
        swap_in(place, &swaps, &mut files)?;
    }
    let orphans = [
        (Suffix::OffsetIndex, &mut files.offset_indexes),
        (Suffix::TimeIndex, &mut files.time_indexes),
        (Suffix::TransactionIndex, &mut files.transaction_indexes),
    ];
    for (suffix, bases) in orphans {
        for base in bases.difference(&files.logs) {
            remove(&super::place::file_name(*base, suffix))?;
        }
        bases.retain(|base| files.logs.contains(base));
    }
    Ok(files)
}

impl Files {
    fn of(&mut self, suffix: Suffix) -> &mut BTreeSet<Offset> {
        match suffix {
            Suffix::Log => &mut self.logs,
            Suffix::OffsetIndex => &mut self.offset_indexes,
            Suffix::TimeIndex => &mut self.time_indexes,
            Suffix::TransactionIndex => &mut self.transaction_indexes,
            Suffix::Snapshot => &mut self.snapshots,
        }
    }

    fn add(&mut self, name: &str) {
        if let Some((base, suffix)) = parse_file_name(name) {
            self.of(suffix).insert(base);
        } else if name == PARTITION_METADATA_FILE {
            self.has_metadata = true;
        }
    }
}

/// A `.log.swap` is complete: the segments it covers go, then it gets its name.
fn swap_in(
    place: &Place,
    swaps: &BTreeMap<Offset, Vec<String>>,
    files: &mut Files,
) -> Result<(), StorageError> {
    for (base, names) in swaps {
        let log = names.iter().find(|name| parse_swap(name).is_some_and(|(_, suffix)| suffix == Suffix::Log));
        if let Some(log) = log {
            let end = end_of_swap(place, &place.named(log), *base)?;
            let covered: Vec<Offset> = files.logs.range(*base..end.max(base.next())).copied().collect();
            for covered in covered {
                files.logs.remove(&covered);
                for suffix in Suffix::ALL.into_iter().filter(|suffix| *suffix != Suffix::Snapshot) {
                    let path = place.file(covered, suffix);
                    place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))?;
                }
            }
        }
        for name in names {
            let Some((base, suffix)) = parse_swap(name) else { continue };
            let (from, to) = (place.named(name), place.file(base, suffix));
            place.disk.rename(&from, &to).map_err(StorageError::io("rename", &from))?;
            files.of(suffix).insert(base);
        }
    }
    Ok(())
}

fn parse_swap(name: &str) -> Option<(Offset, Suffix)> {
    name.strip_suffix(SWAP_SUFFIX).and_then(parse_file_name)
}

fn end_of_swap(place: &Place, path: &Path, base: Offset) -> Result<Offset, StorageError> {
    let file = place.disk.open(path, super::disk::Access::Read).map_err(StorageError::io("open", path))?;
    let len = file.len().map_err(StorageError::io("stat", path))?;
    let mut window = vec![0; WALK_WINDOW];
    let mut scanner = Scanner::new(&*file, 0, len, &mut window);
    let mut end = base;
    while let Some(scanned) = scanner.next().map_err(|error| error.at(path))? {
        end = scanned.last_offset.next();
    }
    Ok(end)
}

fn read_topic_id(place: &Place) -> Result<Option<Uuid>, StorageError> {
    let path = place.named(PARTITION_METADATA_FILE);
    let bytes = read_small(&*place.disk, &path).map_err(StorageError::io("read", &path))?;
    match parse_partition_metadata(&bytes.unwrap_or_default()) {
        Ok(topic_id) => Ok(Some(topic_id)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the topic id is taken as missing");
            let removed = place.disk.remove_file(&path);
            removed.map_err(StorageError::io("remove", &path))?;
            Ok(None)
        }
    }
}

fn list_segments(place: &Place, files: &Files) -> Result<Vec<Segment>, StorageError> {
    let mut segments = Vec::with_capacity(files.logs.len());
    for &base in &files.logs {
        let path = place.file(base, Suffix::Log);
        let stat = place.disk.stat(&path).map_err(StorageError::io("stat", &path))?;
        let Some(stat) = stat else { continue };
        let is_last = files.logs.last() == Some(&base);
        let segment = Segment::existing(base, stat.len, !is_last, stat.modified_ms);
        let has_transactions = files.transaction_indexes.contains(&base);
        segments.push(if has_transactions { segment } else { segment.without_transactions() });
    }
    Ok(segments)
}

fn transaction_indexes_are_whole(place: &Place, segments: &[Segment]) -> bool {
    segments.iter().all(|segment| segment.transactions(place).is_ok())
}

/// The log's end after a clean stop; `None` where the last segment ends with something that is no batch.
fn end_after_clean_stop(
    place: &Place,
    segments: &[Segment],
    files: &Files,
    hints: &OpenHints,
) -> Result<Option<Offset>, StorageError> {
    let Some(active) = segments.last() else { return Ok(None) };
    if active.size == 0 {
        return Ok(Some(active.base));
    }
    let point = hints.recovery_point;
    let has_indexes =
        files.offset_indexes.contains(&active.base) && files.time_indexes.contains(&active.base);
    if point > active.base && files.snapshots.contains(&point) && has_indexes {
        return Ok(Some(point));
    }
    match active.read_next_offset(place) {
        Ok(Ok(next)) => Ok(Some(next)),
        // Marked clean or not: a segment that does not end with a whole batch is checked.
        Ok(Err(_)) | Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The check after an unclean stop.
struct Check<'a> {
    place: &'a Place,
    producers: &'a mut ProducerStates,
    epochs: &'a mut LeaderEpochs,
    recovered: &'a mut Recovered,
}

impl Check<'_> {
    /// Checks the segments from `first` on; what follows a cut is left in the list, to be dropped.
    fn run(
        &mut self,
        segments: &mut [Segment],
        first: usize,
        snapshots: &mut Vec<Offset>,
    ) -> Result<Offset, StorageError> {
        let mut end = segments[first].base;
        let last = segments.len() - 1;
        for (slot, segment) in segments.iter_mut().enumerate().skip(first) {
            self.producers.set_end_offset(segment.base.max(self.producers.end_offset()));
            snapshots.extend(self.producers.take_snapshot(self.place)?);
            let (producers, epochs) = (&mut *self.producers, &mut *self.epochs);
            let found = segment.recover(self.place, |batch| {
                epochs.assign_if_younger(batch.header.leader_epoch, batch.header.base_offset);
                producers.note(&batch.header, Marker::read(batch).as_ref())
            })?;
            self.recovered.segments_checked += 1;
            self.recovered.bytes_cut += found.bytes_cut;
            end = found.next_offset;
            if let Some(fault) = found.fault {
                let folder = self.place.folder.display();
                tracing::warn!(%folder, %end, cut = found.bytes_cut, fault, "log cut behind its last whole batch");
                self.recovered.fault = Some(fault);
                self.recovered.segments_dropped = last - slot;
                break;
            }
            if slot < last {
                segment.seal(self.place)?;
            }
        }
        Ok(end)
    }
}

/// Throws away the segments behind a cut.
fn drop_behind(
    place: &Place,
    deletions: &DeletionQueue,
    options: &LogOptions,
    segments: &mut Vec<Segment>,
    recovered: &mut Recovered,
    now_ms: i64,
) -> Result<(), StorageError> {
    let keep = segments.len() - recovered.segments_dropped;
    for segment in segments.drain(keep..) {
        let due_ms = now_ms.saturating_add(options.file_delete_delay_ms);
        deletions.add_segment(place, segment.base, due_ms)?;
    }
    Ok(())
}

/// Keeps the snapshots that belong to a segment, and the newest.
fn remove_stray_snapshots(
    place: &Place,
    segments: &[Segment],
    producers: &mut ProducerStates,
    log_end: Offset,
) -> Result<(), StorageError> {
    let bases: BTreeSet<Offset> = segments.iter().map(|segment| segment.base).collect();
    let newest = producers.snapshots().last().copied();
    let strays: Vec<Offset> = producers
        .snapshots()
        .iter()
        .copied()
        .filter(|offset| *offset > log_end || (!bases.contains(offset) && Some(*offset) != newest))
        .collect();
    for offset in strays {
        producers.release_snapshot(offset);
        let path = place.file(offset, Suffix::Snapshot);
        place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))?;
    }
    Ok(())
}

fn replay_from_snapshot(
    place: &Place,
    segments: &[Segment],
    range: (Offset, Offset),
    producers: &mut ProducerStates,
) -> Result<(), StorageError> {
    let from = producers.end_offset();
    if from >= range.1 {
        return Ok(());
    }
    let slot = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
    replay_producers(place, &segments[slot..], range, producers)
}

/// Reads the batches between what `producers` know and `range.1`, and takes over what they say of producers.
pub(super) fn replay_producers(
    place: &Place,
    segments: &[Segment],
    (start, end): (Offset, Offset),
    producers: &mut ProducerStates,
) -> Result<(), StorageError> {
    let from = producers.end_offset().max(start);
    let mut window = Vec::new();
    let mut spill = Vec::new();
    for segment in segments.iter().filter(|segment| segment.size > 0 && segment.base < end) {
        let Some(first) = (if from < end { segment.find(place, from)? } else { None }) else { continue };
        let path = place.file(segment.base, Suffix::Log);
        window.resize(WALK_WINDOW, 0);
        let mut scanner = segment.scan(place, first.position, &mut window)?;
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            if scanned.base_offset >= end {
                break;
            }
            let Some(header) = scanned.header.filter(|header| header.has_producer()) else { continue };
            let marker = if header.is_control() {
                let bytes = scanner.bytes(&scanned, &mut spill).map_err(StorageError::io("read", &path))?;
                Marker::read(&BatchRef { header, bytes })
            } else {
                None
            };
            // The segment's own `.txnindex` holds what was aborted.
            producers.note(&header, marker.as_ref());
        }
    }
    producers.set_end_offset(end);
    Ok(())
}
