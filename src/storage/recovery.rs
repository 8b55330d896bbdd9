//! What happens between the last stop and the first append: which files count, what must be checked, what is
//! mended and what is thrown away.
//!
//! 1. Leftovers go: `.deleted`, `.cleaned`, `.tmp`; complete `.swap` segments take the place of those they cover.
//! 2. Segments are the `.log` files that are left; an index without one goes.
//! 3. After a clean stop the log's end is the recovery point, if the producer snapshot of that offset is there
//!    to confirm it: nothing of a `.log` file is read. Else the last segment is read from its last index entry.
//! 4. After any other stop every batch from the recovery point's segment on is checked; the log ends before the
//!    first that is not whole, or is of an older leader than one before it, and segments behind that one go. So
//!    do segments that do not begin where the one before them ends, but for holes below the recovery point, which
//!    the cleaner has left.
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
use crate::types::{LeaderEpoch, Offset, Uuid};

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
    /// From `cleaner-offset-checkpoint`.
    pub cleaner_point: Option<Offset>,
}

/// What opening a log did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Segments whose batches were checked one by one.
    pub segments_checked: usize,
    /// Bytes of those segments.
    pub bytes_checked: u64,
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
    /// Segments whose indexes were made again.
    pub(super) unsynced_indexes: Vec<Offset>,
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
    let first_base = segments.first().map_or(Offset::ZERO, |segment| segment.base);
    let log_start_offset = first_base.max(hints.log_start_offset.unwrap_or_default());
    if segments.is_empty() {
        segments.push(Segment::create(place, log_start_offset, 0, None, now_ms)?);
    }
    let (epochs, epochs_are_whole) = LeaderEpochs::load(place)?;
    let mut loaded = Loaded {
        topic_id,
        segments,
        log_start_offset,
        log_end_offset: log_start_offset,
        flushed_offset: log_start_offset,
        producers: ProducerStates::new(files.snapshots.clone()),
        epochs: epochs.clone(),
        unsynced_snapshots: Vec::new(),
        unsynced_indexes: Vec::new(),
        recovered: Recovered::default(),
    };
    let opening = Opening { place, deletions, options, hints, now_ms };
    let is_whole = epochs_are_whole && transaction_indexes_are_whole(place, &loaded.segments);
    match opening.end_after_clean_stop(&loaded.segments, &files)?.filter(|_| is_whole) {
        Some(end) => opening.take_over(&mut loaded, end)?,
        None => opening.check(&mut loaded, epochs_are_whole)?,
    }
    loaded.epochs.truncate_from_start(loaded.log_start_offset);
    if loaded.epochs != epochs || !epochs_are_whole {
        loaded.epochs.store(place)?;
    }
    if let Some(active) = loaded.segments.last_mut() {
        active.set_jitter_ms(options.draw_jitter_ms());
    }
    Ok(loaded)
}

/// What opening a log has to go by.
struct Opening<'a> {
    place: &'a Place,
    deletions: &'a DeletionQueue,
    options: &'a LogOptions,
    hints: &'a OpenHints,
    now_ms: i64,
}

impl Opening<'_> {
    /// The log's end after a clean stop; `None` after any other, and where the last segment ends with something
    /// that is no batch.
    fn end_after_clean_stop(
        &self,
        segments: &[Segment],
        files: &Files,
    ) -> Result<Option<Offset>, StorageError> {
        let Some(active) = segments.last().filter(|_| self.hints.clean) else { return Ok(None) };
        if active.size == 0 {
            return Ok(Some(active.base));
        }
        let point = self.hints.recovery_point;
        let has_indexes =
            files.offset_indexes.contains(&active.base) && files.time_indexes.contains(&active.base);
        if point > active.base && files.snapshots.contains(&point) && has_indexes {
            return Ok(Some(point));
        }
        match active.read_next_offset(self.place) {
            Ok(Ok(next)) => Ok(Some(next)),
            // Marked clean or not: a segment that does not end with a whole batch is checked.
            Ok(Err(_)) | Err(StorageError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// After a clean stop everything is as it should be; producer state comes from the snapshot.
    fn take_over(&self, loaded: &mut Loaded, end: Offset) -> Result<(), StorageError> {
        self.load_producers(loaded, (loaded.log_start_offset, end))?;
        loaded.log_end_offset = end;
        loaded.flushed_offset = end;
        self.settle_snapshots(loaded)?;
        loaded.epochs.truncate_from_end(end.next());
        self.begin_anew_if_lost(loaded)
    }

    /// After any other stop: checks the segments from the recovery point's on, and ends the log at the first
    /// bad batch.
    fn check(&self, loaded: &mut Loaded, epochs_are_whole: bool) -> Result<(), StorageError> {
        let from = if epochs_are_whole { self.hints.recovery_point } else { Offset::ZERO };
        let first = loaded.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let base = loaded.segments[first].base;
        self.load_producers(loaded, (loaded.log_start_offset.min(base), base))?;
        settle_transactions(self.place, &loaded.segments, loaded.log_start_offset, &mut loaded.producers)?;
        let last = loaded.segments.len() - 1;
        let mut youngest = LeaderEpoch::UNKNOWN;
        for slot in first..=last {
            let misplaced = if slot > first { self.misplaced(loaded, slot) } else { None };
            let (fault, kept) = match misplaced {
                Some(fault) => (Some(fault), slot),
                None => (self.check_segment(loaded, slot, &mut youngest)?, slot + 1),
            };
            if let Some(fault) = fault {
                let (folder, end) = (self.place.folder.display(), loaded.log_end_offset);
                tracing::warn!(%folder, %end, fault, "log cut behind its last whole batch");
                loaded.recovered.fault = Some(fault);
                loaded.recovered.segments_dropped = last + 1 - kept;
                self.drop_segments(loaded, kept)?;
                self.reopen_last(loaded);
                break;
            }
            if slot < last {
                loaded.segments[slot].seal(self.place)?;
            }
        }
        loaded.flushed_offset = self.hints.recovery_point.min(loaded.log_end_offset);
        self.settle_snapshots(loaded)?;
        // An epoch that began at the end and wrote nothing yet is kept.
        loaded.epochs.truncate_from_end(loaded.log_end_offset.next());
        find_first_epochs(self.place, &loaded.segments, loaded.log_start_offset, &mut loaded.epochs)?;
        self.begin_anew_if_lost(loaded)
    }

    /// Why a segment cannot follow the one before it. Where nothing was promised to be on the disk, the end of
    /// the one before may be lost, and one that was removed may be back.
    fn misplaced(&self, loaded: &Loaded, slot: usize) -> Option<String> {
        let (base, end) = (loaded.segments[slot].base, loaded.log_end_offset);
        if base < end {
            return Some(format!("the segment at {base} begins before {end}, where the one before it ends"));
        }
        let known_to = self.hints.recovery_point.max(self.hints.cleaner_point.unwrap_or_default());
        // A segment begins where the log ended, but where no index reaches so far.
        // What DeleteRecords has removed is missing rightly, even where a segment before it is back.
        let due_from = end.max(known_to).max(loaded.log_start_offset);
        let is_hole = base > due_from && base - end <= i64::from(i32::MAX);
        (is_hole && !self.options.compact)
            .then(|| format!("what lies between {end} and the segment at {base} is lost"))
    }

    /// The last segment takes batches, even if it was sealed before what came behind it was dropped.
    fn reopen_last(&self, loaded: &mut Loaded) {
        if let Some(active) = loaded.segments.last_mut() {
            active.unseal();
        }
    }

    fn check_segment(
        &self,
        loaded: &mut Loaded,
        slot: usize,
        youngest: &mut LeaderEpoch,
    ) -> Result<Option<String>, StorageError> {
        let Loaded { segments, producers, epochs, unsynced_snapshots, unsynced_indexes, recovered, .. } =
            loaded;
        let segment = &mut segments[slot];
        recovered.bytes_checked += segment.size;
        producers.set_end_offset(segment.base.max(producers.end_offset()));
        unsynced_snapshots.extend(producers.take_snapshot(self.place)?);
        unsynced_indexes.push(segment.base);
        let found = segment.recover(self.place, |batch| {
            let epoch = batch.header.leader_epoch;
            if epoch < *youngest && epoch >= LeaderEpoch(0) {
                return Err(format!("a batch of leader epoch {epoch} behind one of {youngest}"));
            }
            *youngest = epoch.max(*youngest);
            epochs.assign_if_younger(epoch, batch.header.base_offset);
            Ok(producers.note(&batch.header, Marker::read(batch).as_ref()))
        })?;
        recovered.segments_checked += 1;
        recovered.bytes_cut += found.bytes_cut;
        loaded.log_end_offset = found.next_offset;
        Ok(found.fault)
    }

    fn load_producers(&self, loaded: &mut Loaded, range: (Offset, Offset)) -> Result<(), StorageError> {
        let expiration_ms = self.options.producer_id_expiration_ms;
        loaded.producers.reload(self.place, range, self.now_ms, expiration_ms)?;
        let from = loaded.producers.end_offset();
        if from >= range.1 {
            return Ok(());
        }
        let slot = loaded.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        replay_producers(self.place, &loaded.segments[slot..], range, &mut loaded.producers)
    }

    /// Keeps the snapshots that belong to a segment, and the newest; takes one at the end.
    fn settle_snapshots(&self, loaded: &mut Loaded) -> Result<(), StorageError> {
        let Loaded { segments, producers, unsynced_snapshots, log_end_offset, .. } = loaded;
        let is_base = |offset: &Offset| segments.binary_search_by_key(offset, |one| one.base).is_ok();
        let newest = producers.snapshots().last().copied();
        let is_stray =
            |offset: &Offset| offset > log_end_offset || (!is_base(offset) && Some(*offset) != newest);
        let strays: Vec<Offset> = producers.snapshots().iter().copied().filter(is_stray).collect();
        for offset in strays {
            producers.release_snapshot(offset);
            let path = self.place.file(offset, Suffix::Snapshot);
            self.place.disk.remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
        unsynced_snapshots.extend(producers.take_snapshot(self.place)?);
        unsynced_snapshots.retain(|offset| producers.snapshots().contains(offset));
        Ok(())
    }

    /// What a crash has lost may reach below what DeleteRecords had removed: the log then begins anew at its
    /// start.
    fn begin_anew_if_lost(&self, loaded: &mut Loaded) -> Result<(), StorageError> {
        let start = loaded.log_start_offset;
        if loaded.log_end_offset >= start {
            return Ok(());
        }
        loaded.recovered.segments_dropped += loaded.segments.len();
        self.drop_segments(loaded, 0)?;
        loaded.segments.push(Segment::create(self.place, start, 0, None, self.now_ms)?);
        loaded.unsynced_snapshots.clear();
        loaded.log_end_offset = start;
        loaded.flushed_offset = start;
        loaded.producers.reset(self.place, start)
    }

    /// Takes the segments from `slot` on out of the log.
    fn drop_segments(&self, loaded: &mut Loaded, slot: usize) -> Result<(), StorageError> {
        let due_ms = self.now_ms.saturating_add(self.options.file_delete_delay_ms);
        for segment in loaded.segments.drain(slot..) {
            self.deletions.add_segment(self.place, segment.base, due_ms)?;
        }
        Ok(())
    }
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

/// Closes the transactions that are open only in the snapshot the producers were read from: where no batch of one is left
/// between the log's start and the snapshot, it has ended, and cleaning may have taken the marker that lay behind.
/// Cleaning keeps a marker for as long as a batch of its transaction is left.
pub(super) fn settle_transactions(
    place: &Place,
    segments: &[Segment],
    log_start_offset: Offset,
    producers: &mut ProducerStates,
) -> Result<(), StorageError> {
    let Some((first, mut unseen)) = producers.ongoing() else { return Ok(()) };
    let (from, end) = (first.max(log_start_offset), producers.end_offset());
    let mut window = Vec::new();
    for segment in segments.iter().filter(|segment| segment.size > 0 && segment.base < end) {
        let Some(first) = (if from < end { segment.find(place, from)? } else { None }) else { continue };
        let path = place.file(segment.base, Suffix::Log);
        window.resize(WALK_WINDOW, 0);
        let mut scanner = segment.scan(place, first.position, &mut window)?;
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            if scanned.base_offset >= end || unseen.is_empty() {
                break;
            }
            if let Some(header) = scanned.header.filter(|header| header.is_transactional())
                && !header.is_control()
            {
                unseen.remove(&header.producer_id);
            }
        }
    }
    producers.close_transactions(&unseen);
    Ok(())
}

/// Finds the epochs of what lies before the first that is known. Records were deleted, and the checkpoint that says where
/// the log begins since was lost: they are back, and what was known of their epochs is gone.
fn find_first_epochs(
    place: &Place,
    segments: &[Segment],
    log_start_offset: Offset,
    epochs: &mut LeaderEpochs,
) -> Result<(), StorageError> {
    let Some(&(known, end)) = epochs.entries().first() else { return Ok(()) };
    let mut earlier = LeaderEpochs::default();
    let mut window = Vec::new();
    for segment in segments.iter().filter(|segment| segment.size > 0 && segment.base < end) {
        let Some(first) =
            (if log_start_offset < end { segment.find(place, log_start_offset)? } else { None })
        else {
            continue;
        };
        let path = place.file(segment.base, Suffix::Log);
        window.resize(WALK_WINDOW, 0);
        let mut scanner = segment.scan(place, first.position, &mut window)?;
        while let Some(scanned) = scanner.next().map_err(|error| error.at(&path))? {
            // Batches from before there were epochs have none.
            let epoch = scanned.header.map_or(LeaderEpoch::UNKNOWN, |header| header.leader_epoch);
            if scanned.base_offset >= end || !(LeaderEpoch(0)..=known).contains(&epoch) {
                break;
            }
            earlier.assign_if_younger(epoch, scanned.base_offset.max(log_start_offset));
        }
    }
    epochs.prepend(earlier);
    Ok(())
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
