//! What must hold of a directory that is opened after a power cut, whatever was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm::record::{BatchBuilder, BatchHeader, BatchRef, Compression, InflateLimits, Scratch, batches};
use klamm::storage::hostile::{HostileDisk, Survival};
use klamm::storage::{AbortedTransaction, AppendOrigin, Log, LogPoint};
use klamm::types::{LeaderEpoch, Offset, ProducerId};

use super::run::{NOW, Setup, open, partition};
use super::story::{Expected, ExpectedLog};

/// A batch as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    header: BatchHeader,
    bytes: Vec<u8>,
}

const GROWN: &[u8] = b"after the cut";

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Opens what a cut has left, checks it, goes on working in it, and stops in both ways.
pub fn check(disk: &Arc<HostileDisk>, setup: Setup, expected: &Expected) -> Result<(), String> {
    let topic_id = |name: &str| expected.logs.get(name).map(|log| log.topic_id);
    let (directories, mut logs) = open(disk, setup, topic_id)?;
    let mut contents = BTreeMap::new();
    for (name, expected_log) in &expected.logs {
        let in_name = |why: String| format!("{name}: {why}");
        if !logs.contains_key(name) {
            ensure!(
                expected_log.must.is_empty(),
                "{name}: the log is gone, {} batches too",
                expected_log.must.len()
            );
            let made =
                directories.create_log(partition(name), Some(expected_log.topic_id), setup.options, NOW);
            logs.insert(name.clone(), made.map_err(|error| in_name(error.to_string()))?);
        }
        let Some(log) = logs.get_mut(name) else { continue };
        let found = read_all(log).map_err(in_name)?;
        check_content(expected, expected_log, log, &found).map_err(in_name)?;
        check_lookups(log, &found).map_err(in_name)?;
        check_producers(log, &found).map_err(in_name)?;
        contents.insert(name.clone(), found);
    }
    for (name, log) in &mut logs {
        go_on(log).map_err(|why| format!("{name}: going on: {why}"))?;
        contents.insert(name.clone(), read_all(log)?);
    }
    // Without another word the power fails again: all of it was flushed.
    let again = disk.restart(Survival::Nothing);
    check_same(&again, setup, topic_id, &contents, false).map_err(|why| format!("second cut: {why}"))?;
    for (name, log) in &mut logs {
        log.close_clean().map_err(|error| format!("{name} cannot be closed: {error}"))?;
    }
    let points: Vec<LogPoint> = logs.values().map(Log::point).collect();
    let clean = directories.finish_clean(&points, 9);
    ensure!(clean == setup.directories, "{clean} directories are clean");
    drop((logs, directories));
    check_same(&disk.restart(Survival::Nothing), setup, topic_id, &contents, true)
        .map_err(|why| format!("clean stop: {why}"))
}

fn check_same(
    disk: &Arc<HostileDisk>,
    setup: Setup,
    topic_id: impl Fn(&str) -> Option<klamm::types::Uuid>,
    contents: &BTreeMap<String, Vec<Found>>,
    is_clean: bool,
) -> Result<(), String> {
    let (directories, logs) = open(disk, setup, topic_id)?;
    ensure!(
        directories.clean_broker_epoch().is_some() == is_clean,
        "clean is {:?}",
        directories.clean_broker_epoch()
    );
    for (name, found) in contents {
        let log = logs.get(name).ok_or_else(|| format!("{name} is gone"))?;
        let again = read_all(log).map_err(|why| format!("{name}: {why}"))?;
        // What lies before the log start may come back until the next checkpoint.
        ensure!(again.ends_with(found), "{name}: {:?} became {:?}", offsets(found), offsets(&again));
        check_lookups(log, &again).map_err(|why| format!("{name}: {why}"))?;
        check_producers(log, &again).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn offsets(found: &[Found]) -> Vec<(i64, i64)> {
    found.iter().map(|one| (one.header.base_offset.0, one.header.last_offset().0)).collect()
}

/// Every batch, in order, from the one that holds the log's start.
fn read_all(log: &Log) -> Result<Vec<Found>, String> {
    let mut found: Vec<Found> = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let slice = log.read(next, log.log_end_offset(), 1 << 20, true).map_err(|error| error.to_string())?;
        let slice = slice.into_slice().ok_or("not local")?;
        let bytes = slice.region.read().map_err(|error| error.to_string())?;
        ensure!(!bytes.is_empty(), "nothing at {next}, and the log ends at {}", log.log_end_offset());
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| format!("at {next}: {error}"))?;
            batch.check_crc().map_err(|error| format!("at {next}: {error}"))?;
            let header = batch.header;
            let is_first = found.is_empty() && header.base_offset <= next && header.last_offset() >= next;
            ensure!(
                is_first || header.base_offset == next,
                "a gap: {} comes where {next} should",
                header.base_offset
            );
            next = header.next_offset();
            found.push(Found { header, bytes: batch.bytes.to_vec() });
        }
    }
    ensure!(
        next == log.log_end_offset(),
        "the last batch ends at {next}, the log at {}",
        log.log_end_offset()
    );
    Ok(found)
}

fn check_content(all: &Expected, expected: &ExpectedLog, log: &Log, found: &[Found]) -> Result<(), String> {
    let start = log.log_start_offset().0;
    ensure!(start <= expected.start_max.max(0), "it begins at {start}, not before {}", expected.start_max);
    let is_written = |one: &Found| {
        let body = &one.bytes[16..];
        expected.may.iter().any(|written| {
            written.base == one.header.base_offset.0
                && written.epoch == one.header.leader_epoch.0
                && written.bytes[16..] == *body
        }) || (all.may_have_grown && one.bytes.ends_with(&[GROWN, &[0]].concat()))
    };
    for one in found {
        ensure!(is_written(one), "nobody wrote what is at {}", one.header.base_offset);
    }
    for index in &expected.must {
        let written = &expected.may[*index];
        let is_there = found
            .iter()
            .any(|one| one.header.base_offset.0 == written.base && one.bytes[16..] == written.bytes[16..]);
        ensure!(
            is_there,
            "acknowledged and lost: {} to {}; there are {:?}",
            written.base,
            written.last,
            offsets(found)
        );
    }
    let epochs = found.iter().map(|one| one.header.leader_epoch);
    ensure!(epochs.is_sorted(), "epochs go back: {:?}", offsets(found));
    // Of deleted records that came back, the epochs may be forgotten.
    let known_from = log.leader_epochs().entries().first().map(|(_, start)| *start);
    for one in found.iter().filter(|one| known_from.is_none_or(|from| from <= one.header.base_offset)) {
        let known = log.leader_epochs().epoch_of(one.header.base_offset.max(log.log_start_offset()));
        ensure!(
            known == Some(one.header.leader_epoch),
            "epoch {} at {} is known as {known:?}",
            one.header.leader_epoch,
            one.header.base_offset
        );
    }
    Ok(())
}

/// By offset and by time, everything is found where a walk through the log finds it.
fn check_lookups(log: &Log, found: &[Found]) -> Result<(), String> {
    let mut stamps: Vec<(i64, i64)> = Vec::new();
    let start = log.log_start_offset();
    for one in found {
        for offset in [one.header.base_offset, one.header.last_offset()].into_iter().filter(|o| *o >= start) {
            let slice = log.read(offset, log.log_end_offset(), 1, true).map_err(|error| error.to_string())?;
            let first = slice.into_slice().and_then(|slice| slice.first_batch_offset);
            ensure!(first == Some(one.header.base_offset), "a read at {offset} begins at {first:?}");
        }
        let batch = BatchRef { header: one.header, bytes: &one.bytes };
        let mut scratch = Scratch::new();
        let mut records =
            batch.records(&InflateLimits::default(), &mut scratch).map_err(|error| error.to_string())?;
        while let Some(record) = records.next() {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset >= start {
                stamps.push((record.timestamp_ms, record.offset.0));
            }
        }
    }
    for (timestamp_ms, _) in stamps.iter().step_by(3) {
        let by_hand = stamps.iter().find(|(stamp, _)| stamp >= timestamp_ms).map(|(_, offset)| *offset);
        let asked = log.offset_for_timestamp(*timestamp_ms).map_err(|error| error.to_string())?;
        let asked = asked.map(|record| record.offset.0);
        ensure!(asked == by_hand, "time {timestamp_ms} is at {by_hand:?}, and found at {asked:?}");
    }
    let youngest = stamps.iter().map(|(stamp, _)| *stamp).max();
    let asked = log.max_timestamp().map_err(|error| error.to_string())?.map(|record| record.timestamp_ms);
    ensure!(youngest.is_none() || asked >= youngest, "the largest time is {youngest:?}, not {asked:?}");
    Ok(())
}

#[derive(Default)]
struct Producer {
    last: Option<BatchHeader>,
    open_since: Option<i64>,
}

/// What is known of producers is what their batches say: sequences, open and aborted transactions.
fn check_producers(log: &Log, found: &[Found]) -> Result<(), String> {
    let mut producers: BTreeMap<ProducerId, Producer> = BTreeMap::new();
    let mut aborted: Vec<(ProducerId, i64, i64)> = Vec::new();
    for one in found.iter().filter(|one| one.header.has_producer()) {
        let producer = producers.entry(one.header.producer_id).or_default();
        if one.header.is_control() {
            let began = producer.open_since.take();
            if let Some(began) = began.filter(|_| is_abort(one)) {
                aborted.push((one.header.producer_id, began, one.header.base_offset.0));
            }
            continue;
        }
        producer.last = Some(one.header);
        if one.header.is_transactional() {
            producer.open_since.get_or_insert(one.header.base_offset.0);
        }
    }
    for (id, producer) in &producers {
        let known = log.active_producers().find(|active| active.producer_id == *id);
        let Some(known) = known else { return Err(format!("producer {id} is not known")) };
        if let Some(last) = &producer.last {
            let sequence = last.last_sequence();
            ensure!(known.last_sequence == sequence, "producer {id} is at {sequence}, known: {known:?}");
        }
        let since = known.transaction_first_offset.map(|offset| offset.0);
        // A transaction may have begun before the log's start.
        ensure!(
            since == producer.open_since || since.is_some_and(|since| since < found[0].header.base_offset.0),
            "producer {id} is in a transaction since {:?}, known: {since:?}",
            producer.open_since
        );
    }
    let listed: Vec<AbortedTransaction> = log
        .aborted_transactions(log.log_start_offset(), log.log_end_offset())
        .map_err(|error| error.to_string())?;
    for one in &aborted {
        let is_listed = listed.iter().any(|it| (it.producer_id, it.first_offset.0, it.last_offset.0) == *one);
        ensure!(is_listed, "the aborted transaction {one:?} is not listed: {listed:?}");
    }
    let ends: Vec<i64> = found.iter().map(|one| one.header.base_offset.0).collect();
    for one in &listed {
        ensure!(ends.contains(&one.last_offset.0), "an aborted transaction without its marker: {one:?}");
    }
    Ok(())
}

fn is_abort(found: &Found) -> bool {
    let batch = BatchRef { header: found.header, bytes: &found.bytes };
    let mut scratch = Scratch::new();
    let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
    let record = records.next().unwrap().unwrap();
    record.key.unwrap() == [0, 0, 0, 0]
}

/// A repeat is known, the next batch is taken, and it is on the disk once it is flushed.
fn go_on(log: &mut Log) -> Result<(), String> {
    let epoch = log.leader_epochs().latest().unwrap_or(LeaderEpoch(0));
    let found = read_all(log)?;
    let last_of = |id: ProducerId| {
        found.iter().rfind(|one| one.header.producer_id == id && !one.header.is_control()).cloned()
    };
    let ids: Vec<ProducerId> =
        found.iter().filter(|one| one.header.has_producer()).map(|one| one.header.producer_id).collect();
    for last in ids.into_iter().filter_map(last_of) {
        let repeated = log
            .append_as_leader(&last.bytes, epoch, AppendOrigin::Client, NOW)
            .map_err(|error| error.to_string())?;
        ensure!(
            repeated.duplicate && repeated.base_offset == last.header.base_offset,
            "a repeat of {} became {repeated:?}",
            last.header.base_offset
        );
    }
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.append(NOW + 1, None, Some(GROWN), []);
    let bytes = builder.build().map_err(|error| error.to_string())?;
    let end = log.log_end_offset();
    let appended =
        log.append_as_leader(&bytes, epoch, AppendOrigin::Client, NOW).map_err(|error| error.to_string())?;
    ensure!(appended.base_offset == end, "appended at {}, the end was {end}", appended.base_offset);
    log.advance_high_watermark(log.log_end_offset());
    log.flush().map_err(|error| error.to_string())?;
    ensure!(log.flushed_offset() == Offset(end.0 + 1), "flushed to {}", log.flushed_offset());
    Ok(())
}
