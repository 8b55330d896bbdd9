//! A node's storage on the hostile disk, without the broker: what a workload is written in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use klamm::record::{BatchBuilder, Compression, ProducerState};
use klamm::storage::hostile::HostileDisk;
use klamm::storage::{
    AppendOrigin, Checkpoint, Disk, FlushTicket, Log, LogDirectories, LogOptions, LogPoint, StorageError,
};
use klamm::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};

use super::story::{Partition, Story, Written};

pub const NOW: i64 = 1_800_000_000_000;

/// What a node is set up with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub directories: usize,
    pub options: LogOptions,
}

impl Setup {
    pub fn paths(&self) -> Vec<PathBuf> {
        (0..self.directories).map(|index| PathBuf::from(format!("/data/d{index}"))).collect()
    }
}

pub fn partition(name: &str) -> TopicPartition {
    TopicPartition::from_dir_name(name).unwrap()
}

pub struct Run {
    pub disk: Arc<HostileDisk>,
    pub setup: Setup,
    pub directories: Option<LogDirectories>,
    pub logs: BTreeMap<String, Log>,
    pub story: Story,
    pub now_ms: i64,
    epochs: BTreeMap<String, i32>,
    sequences: BTreeMap<(String, i64), i32>,
    serial: u64,
    topic_ids: u8,
}

impl Run {
    pub fn new(setup: Setup) -> Self {
        let disk = HostileDisk::new();
        disk.create_folder("/data".as_ref()).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        let mut run = Self {
            disk,
            setup,
            directories: None,
            logs: BTreeMap::new(),
            story: Story::default(),
            now_ms: NOW,
            epochs: BTreeMap::new(),
            sequences: BTreeMap::new(),
            serial: 0,
            topic_ids: 0,
        };
        run.start();
        run
    }

    /// Opens the directories and every log in them.
    pub fn start(&mut self) {
        let (directories, logs) = open(&self.disk, self.setup, |name| {
            self.story.partitions.get(name).and_then(|partition| partition.topic_id)
        })
        .unwrap();
        self.directories = Some(directories);
        self.logs = logs;
    }

    pub fn directories(&self) -> &LogDirectories {
        self.directories.as_ref().unwrap()
    }

    /// Stops in order.
    pub fn stop(&mut self) {
        self.logs.values_mut().for_each(|log| log.close_clean().unwrap());
        for name in self.logs.keys().cloned().collect::<Vec<_>>() {
            self.acknowledge(&name);
        }
        let points: Vec<LogPoint> = self.logs.values().map(Log::point).collect();
        assert_eq!(self.directories().finish_clean(&points, 5), self.setup.directories);
        self.logs.clear();
        self.directories = None;
    }

    /// Stops as a killed process does.
    pub fn kill(&mut self) {
        self.logs.clear();
        self.directories = None;
    }

    pub fn log(&mut self, name: &str) -> &mut Log {
        self.logs.get_mut(name).unwrap()
    }

    pub fn create(&mut self, name: &str) {
        self.topic_ids += 1;
        let topic_id = Uuid([self.topic_ids; 16]);
        let born = self.disk.changes();
        let (options, now_ms) = (self.setup.options, self.now_ms);
        let log = self.directories().create_log(partition(name), Some(topic_id), options, now_ms).unwrap();
        self.logs.insert(name.to_owned(), log);
        let story = Partition { topic_id: Some(topic_id), born, ..Partition::default() };
        self.epochs.insert(name.to_owned(), 0);
        self.sequences.retain(|(of, _), _| of != name);
        if let Some(former) = self.story.partitions.insert(name.to_owned(), story) {
            self.story.former.push((name.to_owned(), former));
        }
    }

    pub fn delete(&mut self, name: &str) {
        let gone = self.disk.changes();
        let mut log = self.logs.remove(name).unwrap();
        self.topic_ids += 1;
        let unique = Uuid([self.topic_ids; 16]);
        self.directories().delete_log(&mut log, unique, self.now_ms).unwrap();
        self.directories().sync_names();
        self.story.partitions.get_mut(name).unwrap().gone = Some(gone);
    }

    fn value(&mut self, name: &str) -> String {
        self.serial += 1;
        // Of different lengths, and never twice the same.
        format!("{name}#{}#{}", self.serial, "x".repeat((self.serial * 37 % 61) as usize))
    }

    pub fn append(&mut self, name: &str, records: usize) {
        self.append_by(name, records, ProducerState::NONE);
    }

    /// The next batch of an idempotent producer.
    pub fn append_of(&mut self, name: &str, records: usize, id: i64, is_transactional: bool) {
        let sequence = self.sequences.entry((name.to_owned(), id)).or_default();
        let state = ProducerState {
            id: ProducerId(id),
            epoch: ProducerEpoch(0),
            base_sequence: *sequence,
            is_transactional,
        };
        *sequence += records as i32;
        self.append_by(name, records, state);
    }

    fn append_by(&mut self, name: &str, records: usize, producer: ProducerState) {
        let mut builder = BatchBuilder::new(Compression::NONE).by(producer);
        for _ in 0..records {
            let value = self.value(name);
            // Mostly growing.
            let timestamp_ms = self.now_ms + (self.serial * 7 % 30) as i64;
            builder.append(timestamp_ms, None, Some(value.as_bytes()), []);
        }
        let bytes = builder.build().unwrap();
        self.append_bytes(name, bytes, AppendOrigin::Client);
    }

    /// Ends a producer's transaction.
    pub fn end(&mut self, name: &str, id: i64, commit: bool) {
        let bytes =
            BatchBuilder::end_marker(ProducerId(id), ProducerEpoch(0), self.now_ms, commit, 1).unwrap();
        self.append_bytes(name, bytes, AppendOrigin::TransactionMarker { transaction_version: 0 });
    }

    fn append_bytes(&mut self, name: &str, bytes: Bytes, origin: AppendOrigin) {
        let from = self.disk.changes();
        let (epoch, now_ms) = (self.epochs[name], self.now_ms);
        let log = self.logs.get_mut(name).unwrap();
        let appended = log.append_as_leader(&bytes, LeaderEpoch(epoch), origin, now_ms).unwrap();
        assert!(!appended.duplicate);
        log.advance_high_watermark(log.log_end_offset());
        self.now_ms += 10;
        self.story.partitions.get_mut(name).unwrap().written.push(Written {
            base: appended.base_offset.0,
            last: appended.last_offset.0,
            epoch,
            bytes,
            from,
            acknowledged: None,
            cut: None,
        });
    }

    /// A leader takes office.
    pub fn elect(&mut self, name: &str) {
        let epoch = self.epochs.get_mut(name).unwrap();
        *epoch += 1;
        let epoch = LeaderEpoch(*epoch);
        let log = self.logs.get_mut(name).unwrap();
        let end = log.log_end_offset();
        log.assign_epoch_start(epoch, end);
    }

    pub fn flush(&mut self, name: &str) {
        self.log(name).flush().unwrap();
        self.acknowledge(name);
    }

    pub fn begin_flush(&mut self, name: &str) -> Option<FlushTicket> {
        self.log(name).flush_ticket().unwrap()
    }

    pub fn finish_flush(&mut self, name: &str, ticket: &FlushTicket) {
        ticket.sync().unwrap();
        self.log(name).mark_flushed(ticket);
        self.acknowledge(name);
    }

    /// Everything that the log calls flushed must be there from now on.
    fn acknowledge(&mut self, name: &str) {
        let flushed = self.logs[name].flushed_offset().0;
        let now = self.disk.changes();
        for one in &mut self.story.partitions.get_mut(name).unwrap().written {
            if one.last < flushed && one.cut.is_none() {
                one.acknowledged.get_or_insert(now);
            }
        }
    }

    pub fn checkpoint(&mut self, kind: Checkpoint) {
        let points: Vec<LogPoint> = self.logs.values().map(Log::point).collect();
        self.directories().write_checkpoint(kind, &points);
    }

    pub fn roll(&mut self, name: &str) {
        let now_ms = self.now_ms;
        self.log(name).roll(now_ms).unwrap();
    }

    /// Retention, as housekeeping does it.
    pub fn retain(&mut self, name: &str) {
        let (from, now_ms) = (self.disk.changes(), self.now_ms);
        if self.log(name).retire(now_ms).unwrap() {
            self.checkpoint(Checkpoint::LogStartOffset);
        }
        self.log(name).delete_retired(now_ms).unwrap();
        self.note_start(name, from);
    }

    pub fn delete_records(&mut self, name: &str, offset: i64) {
        let from = self.disk.changes();
        self.log(name).delete_records_before(Offset(offset)).unwrap();
        self.note_start(name, from);
    }

    fn note_start(&mut self, name: &str, from: u64) {
        let start = self.logs[name].log_start_offset().0;
        self.story.partitions.get_mut(name).unwrap().starts.push((from, start));
    }

    /// Cuts the log's end off, as a follower does, and goes on in a younger epoch.
    pub fn truncate(&mut self, name: &str, offset: i64) {
        let (from, now_ms) = (self.disk.changes(), self.now_ms);
        let log = self.logs.get_mut(name).unwrap();
        let directory = self.directories.as_ref().unwrap().of(log).unwrap();
        directory.truncate_log(log, Offset(offset), now_ms).unwrap();
        self.note_cut(name, offset, from);
    }

    pub fn truncate_fully(&mut self, name: &str, offset: i64) {
        let (from, now_ms) = (self.disk.changes(), self.now_ms);
        let log = self.logs.get_mut(name).unwrap();
        let directory = self.directories.as_ref().unwrap().of(log).unwrap();
        directory.truncate_log_fully(log, Offset(offset), now_ms).unwrap();
        self.note_cut(name, 0, from);
        self.note_start(name, from);
    }

    fn note_cut(&mut self, name: &str, offset: i64, from: u64) {
        for one in &mut self.story.partitions.get_mut(name).unwrap().written {
            if one.last >= offset {
                one.cut.get_or_insert(from);
            }
        }
        self.elect(name);
        // A producer whose batches are cut begins anew.
        let end = self.logs[name].log_end_offset().0;
        let written = &self.story.partitions[name].written;
        for ((_, id), sequence) in self.sequences.iter_mut().filter(|((of, _), _)| of == name) {
            let last =
                written.iter().filter(|one| one.cut.is_none() && one.last < end).rev().find_map(|one| {
                    let header = klamm::record::BatchHeader::parse(&one.bytes).unwrap();
                    (header.producer_id.0 == *id && !header.is_control()).then(|| header.last_sequence())
                });
            *sequence = last.unwrap_or(-1) + 1;
        }
    }

    /// Time passes; what waits for its removal goes.
    pub fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.disk.set_now_ms(self.now_ms);
        self.directories().tick(self.now_ms);
    }

    pub fn end_of(&self, name: &str) -> i64 {
        self.logs[name].log_end_offset().0
    }
}

/// Opens everything, as the broker does: a folder of another topic is put away.
pub fn open(
    disk: &Arc<HostileDisk>,
    setup: Setup,
    topic_id: impl Fn(&str) -> Option<Uuid>,
) -> Result<(LogDirectories, BTreeMap<String, Log>), String> {
    let dyn_disk: Arc<dyn Disk> = Arc::<HostileDisk>::clone(disk);
    let directories = LogDirectories::open(&dyn_disk, &setup.paths()).map_err(|error| error.to_string())?;
    let mut ids = 100;
    let new_id = || {
        ids += 1;
        Uuid([ids; 16])
    };
    directories.claim("cluster", 1, new_id).map_err(|error| error.to_string())?;
    let failed = |error: StorageError| error.to_string();
    let mut logs = BTreeMap::new();
    for planned in directories.plan(NOW).map_err(failed)? {
        let name = planned.partition().to_string();
        let wanted = topic_id(&name);
        let found = planned.topic_id().map_err(failed)?;
        let is_ours = wanted.is_some()
            && (found == wanted || found.is_none() && planned.is_untouched().map_err(failed)?);
        if !is_ours {
            planned.put_away_as_stray(Uuid(rand())).map_err(failed)?;
            continue;
        }
        let (mut log, _) = planned.open(setup.options, NOW).map_err(failed)?;
        log.assign_topic_id(wanted.unwrap()).map_err(failed)?;
        log.advance_high_watermark(log.log_end_offset());
        logs.insert(name, log);
    }
    Ok((directories, logs))
}

fn rand() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
