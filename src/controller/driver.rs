//! The acting part: one thread that owns the metadata log. It takes what waits, decides one request after the
//! other, writes all that was decided with one append and one sync, publishes the image, and answers.
//!
//! Records are on disk before an answer says so. When the disk has failed nothing more is decided: every
//! request is refused with KAFKA_STORAGE_ERROR.
//!
//! Snapshots are written on a thread of their own, one at a time, from an image that does not change; what they
//! stand for is deleted here, once they are on disk.

use std::sync::atomic::AtomicI16;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::config::BrokerConfig;
use crate::metadata::record::{LEVEL_CONTROLLER_REGISTRATION, LEVEL_TRANSACTIONS, LEVELS};
use crate::metadata::snapshot::SnapshotId;
use crate::metadata::{ConfigResource, Image, ImageBuilder, METADATA_VERSION, MetadataRecord};
use crate::protocol::ErrorCode;
use crate::protocol::messages::begin_transaction_record::BeginTransactionRecord;
use crate::protocol::messages::end_transaction_record::EndTransactionRecord;
use crate::types::{Clock, Offset, Uuid};

use super::brokers::{
    NodeIdentity, elect_after_return, fence, min_isr_record, register_broker, register_controller, unfence,
};
use super::decision::{Answer, Context, Decision, Refusal};
use super::error::ControllerError;
use super::heartbeats::tick;
use super::member::{Leader, MemberCommand};
use super::metadata_log::{MetadataLog, Opened, StartDisk};
use super::sessions::BrokerSessions;
use super::snapshots::SnapshotFacts;

/// How many requests are decided before their records are written.
const GROUP_MAX: usize = 1_000;

/// How many records stand in one batch, where they need not stand together.
const BATCH_RECORDS_MAX: usize = 10_000;

/// A group that is larger than this is written in several appends. With the bounds of one request it stays
/// below the smallest segment that `metadata.log.segment.bytes` allows, 8 MiB.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// What the thread shares with the handles.
#[derive(Debug)]
pub(super) struct Shared {
    pub image: ArcSwap<Image>,
    pub changes: watch::Sender<Arc<Image>>,
    /// The newest snapshot; told once what it stands for is deleted.
    pub snapshot: watch::Sender<Option<SnapshotId>>,
    /// Who leads the quorum.
    pub leader: watch::Sender<Leader>,
    /// The quorum's protocol: 0 with configured voters, 1 with those in the log.
    pub kraft_version: AtomicI16,
}

impl Shared {
    pub(super) fn new(image: Image, snapshot: Option<SnapshotId>, kraft_version: i16) -> Arc<Self> {
        let image = Arc::new(image);
        Arc::new(Self {
            image: ArcSwap::new(Arc::clone(&image)),
            changes: watch::Sender::new(image),
            snapshot: watch::Sender::new(snapshot),
            leader: watch::Sender::default(),
            kraft_version: AtomicI16::new(kraft_version),
        })
    }

    pub(super) fn publish(&self, image: Image) -> Arc<Image> {
        let image = Arc::new(image);
        self.image.store(Arc::clone(&image));
        self.changes.send_replace(Arc::clone(&image));
        image
    }
}

/// A request that waits for its decision.
pub(super) trait Job: Send {
    /// Decides, and keeps the answer.
    fn decide(&mut self, context: &mut Context<'_>) -> Vec<MetadataRecord>;
    /// Answers, with a refusal where the records could not be written.
    fn answer(self: Box<Self>, failure: Option<&Refusal>);
}

/// A [`Job`] of one kind of request.
pub(super) struct Pending<A, F> {
    decide: F,
    answer: Option<A>,
    reply: oneshot::Sender<A>,
}

impl<A, F> Pending<A, F> {
    pub(super) fn new(decide: F, reply: oneshot::Sender<A>) -> Self {
        Self { decide, answer: None, reply }
    }

    /// One that nobody waits for.
    pub(super) fn unasked(decide: F) -> Self {
        Self::new(decide, oneshot::channel().0)
    }
}

impl<A: Answer, F: Fn(&mut Context<'_>) -> Decision<A> + Send> Job for Pending<A, F> {
    fn decide(&mut self, context: &mut Context<'_>) -> Vec<MetadataRecord> {
        let Decision { records, answer } = (self.decide)(context);
        self.answer = Some(answer);
        records
    }

    fn answer(self: Box<Self>, failure: Option<&Refusal>) {
        let Some(mut answer) = self.answer else { return };
        if let Some(refusal) = failure {
            answer.refuse(refusal);
        }
        // Nobody may be waiting any more; what was decided stands.
        let _ = self.reply.send(answer);
    }
}

/// What time decides; nobody waits for it.
pub(super) fn due() -> Box<dyn Job> {
    Box::new(Pending::unasked(|context: &mut Context<'_>| Decision { records: tick(context), answer: () }))
}

/// What is sent to the thread.
pub(super) enum Command {
    /// Decide on this.
    Decide(Box<dyn Job>),
    /// Decide on what is due by now.
    Tick,
    /// Look whether a snapshot is due, and what need not be kept.
    Maintain,
    /// A snapshot is on disk, or why it is not.
    SnapshotWritten(SnapshotId, Result<SnapshotFacts, ControllerError>),
    /// What concerns the quorum of a node that is not alone.
    Member(MemberCommand),
    /// Close the log and end.
    Shutdown(oneshot::Sender<Result<(), ControllerError>>),
}

/// What decisions are taken with, besides the image.
pub(super) struct Desk<'a> {
    pub config: &'a BrokerConfig,
    pub static_config: &'a BrokerConfig,
    pub node_id: i32,
    pub cluster_id: &'a str,
    pub next_start: &'a mut usize,
    pub sessions: &'a mut BrokerSessions,
    pub elapsed_ms: i64,
    /// The offset that the next record gets.
    pub next_offset: i64,
}

impl Desk<'_> {
    /// What the next decision looks at, which is built on `builder`.
    pub(super) fn context<'a>(
        &'a mut self,
        builder: &'a mut ImageBuilder,
        draw_id: &'a mut dyn FnMut() -> Uuid,
    ) -> Context<'a> {
        Context {
            builder,
            config: self.config,
            static_config: self.static_config,
            node_id: self.node_id,
            draw_id,
            next_start: self.next_start,
            sessions: self.sessions,
            elapsed_ms: self.elapsed_ms,
            next_offset: self.next_offset,
            cluster_id: self.cluster_id,
        }
    }
}

/// Decides on each request of a group, on what was decided before it. Returns the appends to make: each request's
/// records stand in one batch, unless they are too many for one.
pub(super) fn decide_all(
    group: &mut [Box<dyn Job>],
    builder: &mut ImageBuilder,
    desk: &mut Desk<'_>,
    mut encode: impl FnMut(&[MetadataRecord], &mut Vec<u8>) -> Result<(), ControllerError>,
) -> Result<Vec<Vec<u8>>, ControllerError> {
    let mut appends: Vec<Vec<u8>> = Vec::new();
    for job in group {
        let records = job.decide(&mut desk.context(builder, &mut draw_id));
        desk.next_offset += records.len() as i64;
        for records in records.chunks(BATCH_RECORDS_MAX) {
            let mut batch = Vec::new();
            encode(records, &mut batch)?;
            match appends.last_mut() {
                Some(last) if last.len() + batch.len() <= APPEND_BYTES_MAX => last.append(&mut batch),
                _ => appends.push(batch),
            }
        }
    }
    Ok(appends)
}

/// The state of the thread.
pub(super) struct Driver {
    pub log: MetadataLog,
    pub start_disk: StartDisk,
    pub shared: Arc<Shared>,
    pub image: Arc<Image>,
    pub static_config: Arc<BrokerConfig>,
    pub config: Arc<BrokerConfig>,
    pub node_id: i32,
    pub cluster_id: Arc<str>,
    pub sessions: BrokerSessions,
    pub clock: Arc<dyn Clock>,
    pub next_start: usize,
    /// The way to this thread, for the one that writes a snapshot.
    pub commands: Weak<Mutex<Option<Sender<Command>>>>,
    /// When the last snapshot was begun, or the node.
    pub last_snapshot_ms: i64,
    /// The thread that writes a snapshot now.
    pub writing: Option<JoinHandle<()>>,
    /// Why nothing is decided any more.
    pub failure: Option<Refusal>,
}

impl Driver {
    /// Runs until every handle is gone or one asked for the end.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        if let Err(error) = self.start_disk.catch_up() {
            self.fail(&error.to_string());
        }
        self.maintain();
        while let Ok(command) = self.next(commands) {
            let mut group = Vec::new();
            let mut shutdown = None;
            let mut next = Some(command);
            while let Some(command) = next {
                match command {
                    Command::Decide(job) => group.push(job),
                    Command::Tick => group.push(due()),
                    Command::Maintain => self.maintain(),
                    Command::SnapshotWritten(id, written) => self.take_snapshot(id, written),
                    Command::Member(MemberCommand::Describe(reply)) => {
                        // Nobody may be waiting any more.
                        let _ = reply.send(self.log.describe(self.node_id, self.clock.now_ms()));
                    }
                    // Alone there is no quorum to ask: whoever waits hears that nobody answers.
                    Command::Member(_) => {}
                    Command::Shutdown(reply) => shutdown = Some(reply),
                }
                let more = shutdown.is_none() && group.len() < GROUP_MAX;
                next = if more { commands.try_recv().ok() } else { None };
            }
            self.decide(group);
            if let Some(reply) = shutdown {
                let _ = reply.send(self.close());
                return;
            }
        }
    }

    /// The next command, or that something is due.
    fn next(&self, commands: &Receiver<Command>) -> Result<Command, RecvError> {
        let deadline_ms = self.sessions.next_deadline_ms(&self.image).filter(|_| self.failure.is_none());
        let Some(deadline_ms) = deadline_ms else { return commands.recv() };
        let wait_ms = deadline_ms.saturating_sub(self.elapsed_ms());
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        match commands.recv_timeout(wait) {
            Ok(command) => Ok(command),
            Err(RecvTimeoutError::Timeout) => Ok(Command::Tick),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.clock.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Fences the broker, so that the next one on this directory need not wait for its session to end, and
    /// leaves the log whole.
    fn close(&mut self) -> Result<(), ControllerError> {
        if let Some(writing) = self.writing.take() {
            // One that panicked has left a file that nobody reads.
            let _ = writing.join();
        }
        let epoch = self.image.broker(self.node_id).map(|broker| broker.epoch);
        if let (None, Some(epoch)) = (&self.failure, epoch) {
            let mut bytes = Vec::new();
            let now_ms = self.clock.now_ms();
            let level = level_of(&self.image);
            self.log.encode(&[fence(self.node_id, epoch)], level, now_ms, &mut bytes)?;
            self.write(&[bytes], now_ms)?;
        }
        self.log.close()
    }

    /// Does what time and size ask for: retention of the log, and the next snapshot.
    fn maintain(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let now_ms = self.clock.now_ms();
        if let Err(error) = self.log.apply_retention(now_ms) {
            return self.fail(&error.to_string());
        }
        let age_ms = now_ms.saturating_sub(self.last_snapshot_ms);
        if self.writing.is_none() && self.log.asks_for_snapshot(age_ms) {
            self.begin_snapshot(now_ms);
        }
    }

    fn begin_snapshot(&mut self, now_ms: i64) {
        // While the node comes up or goes down there is no way back to this thread, and no hurry.
        let Some(commands) = self.commands.upgrade().and_then(|commands| commands.lock().clone()) else {
            return;
        };
        let job = self.log.begin_snapshot(Arc::clone(&self.image), level_of(&self.image), now_ms);
        self.last_snapshot_ms = now_ms;
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            // Nobody waits where the node was dropped meanwhile.
            let _ = commands.send(Command::SnapshotWritten(job.head.id, job.write()));
        });
        match thread {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => tracing::error!(%error, "the thread for a metadata snapshot cannot start"),
        }
    }

    fn take_snapshot(&mut self, id: SnapshotId, written: Result<SnapshotFacts, ControllerError>) {
        self.writing = None;
        match written {
            Ok(facts) => {
                tracing::info!(end_offset = %id.end_offset, bytes = facts.bytes, "metadata snapshot written");
                self.log.snapshots().add(id, facts);
                self.maintain();
                self.shared.snapshot.send_replace(Some(id));
            }
            Err(error) => self.fail(&format!("a snapshot cannot be written: {error}")),
        }
    }

    fn fail(&mut self, why: &str) {
        tracing::error!(why, "the metadata log failed; nothing can be changed until a restart");
        self.failure = Some(Refusal::new(
            ErrorCode::KafkaStorageError,
            format!("The metadata log failed: {why}. Restart the broker once its disk works."),
        ));
    }

    /// Decides on a group of requests and answers all of them.
    fn decide(&mut self, mut group: Vec<Box<dyn Job>>) {
        let now_ms = self.clock.now_ms();
        let elapsed_ms = self.elapsed_ms();
        let level = level_of(&self.image);
        let mut builder = self.image.builder();
        let mut desk = Desk {
            config: &self.config,
            static_config: &self.static_config,
            node_id: self.node_id,
            cluster_id: &self.cluster_id,
            next_start: &mut self.next_start,
            sessions: &mut self.sessions,
            elapsed_ms,
            next_offset: self.log.end_offset().0,
        };
        let log = &mut self.log;
        let decided = decide_all(&mut group, &mut builder, &mut desk, |records, out| {
            log.encode(records, level, now_ms, out)
        });
        let (appends, encoded) = match decided {
            Ok(appends) => (appends, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let written = match (&self.failure, encoded) {
            (Some(refusal), _) => Err(refusal.clone()),
            // Nothing was written, and what was decided is forgotten.
            (None, Err(error)) => Err(Refusal::new(ErrorCode::InvalidRequest, error.to_string())),
            (None, Ok(())) => self.write(&appends, now_ms).map_err(|error| {
                self.fail(&error.to_string());
                Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
            }),
        };
        if written.is_ok() && !appends.is_empty() {
            let image = builder.finish(self.log.end_offset(), self.log.epoch());
            self.publish(image);
        }
        for job in group {
            job.answer(written.as_ref().err());
        }
        if !appends.is_empty() {
            self.maintain();
        }
    }

    fn write(&mut self, appends: &[Vec<u8>], now_ms: i64) -> Result<(), ControllerError> {
        for bytes in appends {
            self.log.append(bytes, now_ms)?;
        }
        if appends.is_empty() { Ok(()) } else { self.log.commit() }
    }

    fn publish(&mut self, image: Image) {
        let before = std::mem::replace(&mut self.image, self.shared.publish(image));
        let changed = [ConfigResource::cluster_default(), ConfigResource::broker(self.node_id)]
            .iter()
            .any(|resource| before.configs(resource) != self.image.configs(resource));
        if changed {
            self.config = dynamic_config(&self.static_config, &self.image, self.node_id);
        }
    }
}

/// The broker's configuration with the dynamic values of `image`. A directory may come from elsewhere: values
/// that do not fit are left out, and said.
pub(super) fn dynamic_config(config: &Arc<BrokerConfig>, image: &Image, node_id: i32) -> Arc<BrokerConfig> {
    let cluster = image.configs(&ConfigResource::cluster_default());
    let broker = image.configs(&ConfigResource::broker(node_id));
    match config.with_dynamic(&cluster, &broker) {
        Ok(dynamic) => Arc::new(dynamic),
        Err(error) => {
            tracing::warn!(%error, "dynamic broker configurations are left out");
            Arc::clone(config)
        }
    }
}

/// The level that records are written for.
pub(super) fn level_of(image: &Image) -> i16 {
    match image.feature(METADATA_VERSION) {
        0 => *LEVELS.end(),
        level => level,
    }
}

/// An id that nobody has had: Kafka's rules (no reserved one, none whose text looks like an option).
pub(super) fn draw_id() -> Uuid {
    loop {
        let mut bytes = [0; 16];
        // The system's randomness does not fail once it is there; a zero id is reserved and drawn again.
        if getrandom::fill(&mut bytes).is_err() {
            continue;
        }
        let id = Uuid::from_random_bytes(bytes);
        if !id.is_reserved() && !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// The records of a start, written in one append: the features of a new log, this node's registrations, and
/// the partitions that get their leader back. Returns the image that they add up to.
pub(super) fn begin(
    opened: &mut Opened,
    node: &NodeIdentity,
    config: &BrokerConfig,
    clean_broker_epoch: Option<i64>,
    now_ms: i64,
) -> Result<Image, ControllerError> {
    let mut start = Start {
        builder: opened.image.builder(),
        next: opened.log.end_offset(),
        bytes: Vec::new(),
        log: &mut opened.log,
        now_ms,
    };
    if opened.image.features().is_empty() {
        start.write(&bootstrap(&opened.bootstrap, config))?;
    }
    if level_of(start.builder.image()) >= LEVEL_CONTROLLER_REGISTRATION {
        start.write(&[register_controller(node)])?;
    }
    let registered = start.builder.image().broker(node.node_id).map(|broker| broker.epoch);
    let was_clean = clean_broker_epoch.is_some() && clean_broker_epoch == registered;
    let broker_epoch = start.next.0;
    start.write(&[register_broker(node, broker_epoch)])?;
    start.write(&[unfence(node.node_id, broker_epoch)])?;
    let elections = elect_after_return(start.builder.image(), config, node, was_clean);
    for chunk in elections.chunks(BATCH_RECORDS_MAX) {
        start.write(chunk)?;
    }
    start.finish()
}

/// The records that a log without features begins with.
pub(super) fn bootstrap(features: &[MetadataRecord], config: &BrokerConfig) -> Vec<MetadataRecord> {
    let level_named = |wanted: &str| {
        features.iter().find_map(|record| match record {
            MetadataRecord::FeatureLevel(feature) if &*feature.name == wanted => Some(feature.feature_level),
            _ => None,
        })
    };
    let in_transaction = level_named(METADATA_VERSION).is_some_and(|level| level >= LEVEL_TRANSACTIONS);
    let mut records = Vec::with_capacity(features.len() + 3);
    if in_transaction {
        let begin = BeginTransactionRecord {
            name: Some("Bootstrap records".into()),
            ..BeginTransactionRecord::default()
        };
        records.push(begin.into());
    }
    records.extend_from_slice(features);
    if level_named("eligible.leader.replicas.version").is_some_and(|level| level > 0) {
        records.push(min_isr_record(config.topic_defaults.min_insync_replicas));
    }
    if in_transaction {
        records.push(EndTransactionRecord::default().into());
    }
    records
}

/// The batches of a start on their way.
struct Start<'a> {
    builder: ImageBuilder,
    next: Offset,
    bytes: Vec<u8>,
    log: &'a mut MetadataLog,
    now_ms: i64,
}

impl Start<'_> {
    /// Adds one batch; none where there are no records.
    fn write(&mut self, records: &[MetadataRecord]) -> Result<(), ControllerError> {
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            let unfit = |error: crate::metadata::ApplyError| ControllerError::Record(error.to_string());
            self.builder.apply(record.clone()).map_err(unfit)?;
        }
        let level = level_of(self.builder.image());
        self.log.encode(records, level, self.now_ms, &mut self.bytes)?;
        self.next = self.next + records.len() as i64;
        if self.bytes.len() > APPEND_BYTES_MAX {
            self.append()?;
        }
        Ok(())
    }

    fn append(&mut self) -> Result<(), ControllerError> {
        if !self.bytes.is_empty() {
            self.log.append(&std::mem::take(&mut self.bytes), self.now_ms)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Image, ControllerError> {
        self.append()?;
        assert!(self.next == self.log.end_offset(), "every record of the start got the offset it was given");
        self.log.commit()?;
        Ok(self.builder.finish(self.next, self.log.epoch()))
    }
}

/// The thread; who drops it waits for its end. Nothing is written behind the back of the next one on the directory.
#[derive(Debug)]
pub(super) struct DriverThread(Option<JoinHandle<()>>);

impl Drop for DriverThread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take().filter(|it| it.thread().id() != std::thread::current().id()) {
            // It has panicked, or it has not: it is gone.
            let _ = thread.join();
        }
    }
}

/// Starts the thread. It ends once the sender is gone.
pub(super) fn spawn(
    run: impl FnOnce(&Receiver<Command>) + Send + 'static,
) -> Result<(Sender<Command>, DriverThread), ControllerError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(move || run(&receiver))
        .map_err(|error| ControllerError::System(format!("the controller's thread cannot start: {error}")))?;
    Ok((sender, DriverThread(Some(thread))))
}
