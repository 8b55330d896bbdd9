//! A node of a quorum of several: one thread that owns the metadata log and its [`Quorum`]. What arrives, from the
//! listener or from the way out ([`peers`]), and what time it is goes in; what is agreed on becomes images.
//!
//! In office ([`office`]) requests are decided on the image as it will be, appended, and answered once a majority has
//! them on disk. Whoever loses office throws that image away: only what was agreed on was ever published. A follower
//! and an observer publish what the high watermark has passed. When the disk has failed the node falls silent.

mod describe;
mod log;
mod office;
mod peers;
mod start;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::BrokerConfig;
use crate::metadata::snapshot::SnapshotId;
use crate::metadata::{ConfigResource, Image, MetadataRecord, Replay};
use crate::protocol::ErrorCode;
use crate::record::{Batch, BatchError};
use crate::types::{Clock, Offset};

use super::decision::Refusal;
use super::driver::{Command, Job, Shared, due, dynamic_config, level_of};
use super::error::ControllerError;
use super::quorum::{
    CallFailure, Endpoint, LogFailure, Output, Quorum, QuorumLog, Request, Response, RoleName,
    VoterChangeRequest,
};
use super::snapshots::SnapshotFacts;

pub use describe::QuorumDescription;
pub use start::MemberOptions;

use log::ReplicaLog;
use office::Office;
use peers::{Outgoing, Peers};

/// How many requests are taken before the log is written.
const GROUP_MAX: usize = 1_000;
/// The longest the thread sleeps.
const WAIT_MS_MAX: i64 = 1_000;

/// Who leads the quorum, as far as this node knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leader {
    /// Its node id.
    pub id: Option<i32>,
    /// In which epoch.
    pub epoch: i32,
    /// Where its controller listens.
    pub endpoint: Option<Endpoint>,
    /// It is this node, and it decides.
    pub is_active: bool,
}

/// What is sent to the thread of a member.
pub(super) enum MemberCommand {
    /// Another node asks.
    Asked { request: Request, reply: oneshot::Sender<Response> },
    /// What came of a call.
    Answered { call: u64, result: Result<Response, CallFailure> },
    /// A change of the voters is asked for.
    ChangeVoters { request: VoterChangeRequest, reply: oneshot::Sender<Response> },
    /// How is the quorum?
    Describe(oneshot::Sender<QuorumDescription>),
}

/// The state of the thread.
pub(super) struct Member {
    quorum: Quorum<ReplicaLog>,
    shared: Arc<Shared>,
    /// All that was agreed on, as far as this node knows.
    image: Arc<Image>,
    office: Option<Office>,
    /// What a log without features begins with.
    bootstrap: Vec<MetadataRecord>,
    static_config: Arc<BrokerConfig>,
    config: Arc<BrokerConfig>,
    node_id: i32,
    cluster_id: Arc<str>,
    clock: Arc<dyn Clock>,
    /// The wall clock's time when the other clock stood at zero: elections must not follow its jumps.
    epoch_ms: i64,
    peers: Peers,
    peers_thread: Option<JoinHandle<()>>,
    replies: HashMap<u64, oneshot::Sender<Response>>,
    next_token: u64,
    /// The way to this thread, for the one that writes a snapshot.
    commands: Weak<Mutex<Option<Sender<Command>>>>,
    last_snapshot_ms: i64,
    writing: Option<JoinHandle<()>>,
    failure: Option<Refusal>,
}

impl Member {
    /// Runs until every handle is gone or one asked for the end.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        self.settle();
        loop {
            let first = match commands.recv_timeout(self.until_due()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(reply) = self.take(first, commands) {
                let _ = reply.send(self.close());
                return;
            }
            let now_ms = self.now_ms();
            self.guard(|member| member.quorum.tick(now_ms));
            self.settle();
        }
    }

    /// Takes what waits. Who asked for the end, if somebody did.
    fn take(
        &mut self,
        first: Option<Command>,
        commands: &Receiver<Command>,
    ) -> Option<oneshot::Sender<Result<(), ControllerError>>> {
        let mut group: Vec<Box<dyn Job>> = Vec::new();
        let mut shutdown = None;
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Decide(job) => group.push(job),
                Command::Tick => group.push(due()),
                Command::Maintain => self.maintain(),
                Command::SnapshotWritten(id, written) => self.take_snapshot(id, written),
                Command::Member(command) => self.take_member(command),
                Command::Shutdown(reply) => shutdown = Some(reply),
            }
            let more = shutdown.is_none() && group.len() < GROUP_MAX;
            next = if more { commands.try_recv().ok() } else { None };
        }
        if !group.is_empty() {
            // What has come meanwhile may have cost the office, or brought it.
            self.settle();
            self.decide(group);
        }
        shutdown
    }

    fn take_member(&mut self, command: MemberCommand) {
        let now_ms = self.now_ms();
        match command {
            MemberCommand::Asked { request, reply } => {
                let token = self.token(reply);
                self.guard(|member| member.quorum.request(now_ms, token, request));
            }
            MemberCommand::Answered { call, result } => {
                self.guard(|member| member.quorum.response(now_ms, call, result));
            }
            MemberCommand::ChangeVoters { request, reply } => {
                let token = self.token(reply);
                self.guard(|member| member.quorum.change_voters(now_ms, token, request));
            }
            MemberCommand::Describe(reply) => {
                let _ = reply.send(describe::describe(&self.quorum, now_ms));
            }
        }
        self.send_outputs();
    }

    fn token(&mut self, reply: oneshot::Sender<Response>) -> u64 {
        self.next_token += 1;
        self.replies.insert(self.next_token, reply);
        self.next_token
    }

    /// Milliseconds that follow the clock that never jumps, about the wall clock's.
    fn now_ms(&self) -> i64 {
        self.epoch_ms.saturating_add(self.elapsed_ms())
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.clock.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn until_due(&self) -> Duration {
        let now_ms = self.now_ms();
        let quorum_ms = self.quorum.deadline_ms(now_ms).saturating_sub(now_ms);
        let office_ms = self.office_deadline_ms().saturating_sub(self.elapsed_ms());
        let wait_ms = if self.failure.is_some() { WAIT_MS_MAX } else { quorum_ms.min(office_ms) };
        Duration::from_millis(u64::try_from(wait_ms.clamp(1, WAIT_MS_MAX)).unwrap_or(1))
    }

    /// Does something with the quorum; a log that failed ends this node's part in it.
    fn guard(&mut self, act: impl FnOnce(&mut Self) -> Result<(), LogFailure>) {
        if self.failure.is_none()
            && let Err(failure) = act(self)
        {
            self.fail(&failure.0);
        }
    }

    fn fail(&mut self, why: &str) {
        tracing::error!(
            why,
            "the metadata log failed; this node takes no part in the quorum until a restart"
        );
        let refusal = Refusal::new(
            ErrorCode::KafkaStorageError,
            format!("The metadata log failed: {why}. Restart the node once its disk works."),
        );
        if let Some(office) = self.office.take() {
            office::refuse(office, &refusal);
        }
        self.replies.clear();
        self.failure = Some(refusal);
        self.tell_leader();
    }

    /// Draws the conclusions of what has happened: sends, publishes, answers, takes or leaves office.
    fn settle(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.send_outputs();
        self.leave_office();
        if let Err(error) = self.advance() {
            return self.fail(&error.to_string());
        }
        self.take_office();
        self.tick_office();
        self.send_outputs();
        self.tell_leader();
    }

    fn send_outputs(&mut self) {
        for output in self.quorum.take_outputs() {
            match output {
                Output::Send { call, endpoint, request, .. } => {
                    // The way out ends after this thread.
                    let _ = self.peers.send(Outgoing { call, endpoint, request });
                }
                Output::Answer { token, response } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        let _ = reply.send(response);
                    }
                }
            }
        }
    }

    fn tell_leader(&self) {
        let leadership = self.quorum.leadership();
        let leader = Leader {
            id: leadership.leader_id,
            epoch: leadership.epoch.0,
            endpoint: leadership.endpoint,
            is_active: self.office.is_some(),
        };
        self.shared.leader.send_if_modified(|known| {
            let is_news = *known != leader;
            if is_news {
                if known.id != leader.id || known.epoch != leader.epoch {
                    tracing::info!(leader = ?leader.id, epoch = leader.epoch, "quorum leader");
                }
                *known = leader;
            }
            is_news
        });
    }

    /// Publishes what the high watermark has passed, and answers those who waited for it.
    fn advance(&mut self) -> Result<(), ControllerError> {
        let Some(high_watermark) = self.quorum.high_watermark() else { return Ok(()) };
        while let Some((image, jobs)) =
            self.office.as_mut().and_then(|office| office.take_agreed(high_watermark))
        {
            self.publish(Arc::unwrap_or_clone(image));
            jobs.into_iter().for_each(|job| job.answer(None));
        }
        let is_waiting = self.office.as_ref().is_some_and(Office::is_waiting);
        if is_waiting || self.image.end_offset() >= high_watermark {
            return Ok(());
        }
        let image = self.read_up_to(high_watermark)?;
        self.publish(image);
        if let Some(office) = &mut self.office {
            office.go_on_from(Arc::clone(&self.image));
        }
        // Who follows keeps snapshots of its own.
        self.maintain();
        Ok(())
    }

    /// The image that the log adds up to before `end_offset`.
    fn read_up_to(&self, end_offset: Offset) -> Result<Image, ControllerError> {
        let log = self.quorum.log();
        let mut replay = match log.newest() {
            Some(id) if self.image.end_offset() < log.start_offset() => log.load_snapshot(id)?,
            _ => Replay::of(&self.image),
        };
        log.each_batch(replay.end_offset(), end_offset, |_, bytes| {
            let mut rest = bytes.clone();
            loop {
                let batch = match Batch::first(&rest) {
                    Ok(batch) if batch.header.next_offset() <= end_offset => batch,
                    Ok(_) | Err(BatchError::Truncated { .. }) => return Ok(()),
                    Err(error) => return Err(ControllerError::Record(error.to_string())),
                };
                replay.take(&batch).map_err(|error| ControllerError::Record(error.to_string()))?;
                rest = rest.slice(batch.bytes.len()..);
            }
        })?;
        Ok(replay.finish())
    }

    fn publish(&mut self, image: Image) {
        let kraft_version = self.quorum.membership().kraft_version_before(image.end_offset());
        self.shared.kraft_version.store(kraft_version, Ordering::Relaxed);
        let before = std::mem::replace(&mut self.image, self.shared.publish(image));
        let changed = [ConfigResource::cluster_default(), ConfigResource::broker(self.node_id)]
            .iter()
            .any(|resource| before.configs(resource) != self.image.configs(resource));
        if changed {
            self.config = dynamic_config(&self.static_config, &self.image, self.node_id);
        }
    }

    /// Does what time and size ask for: retention of the log, and the next snapshot.
    fn maintain(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let now_ms = self.clock.now_ms();
        if let Err(error) = self.quorum.log_mut().inner.apply_retention(now_ms) {
            return self.fail(&error.to_string());
        }
        let age_ms = now_ms.saturating_sub(self.last_snapshot_ms);
        let newest = self.quorum.log().newest().map(|id| id.end_offset);
        let is_new = newest.is_none_or(|end_offset| end_offset < self.image.end_offset());
        if self.writing.is_none()
            && is_new
            && !self.image.in_transaction()
            && self.quorum.log().inner.asks_for_snapshot(age_ms)
        {
            self.begin_snapshot(now_ms);
        }
    }

    fn begin_snapshot(&mut self, now_ms: i64) {
        let Some(commands) = self.commands.upgrade().and_then(|commands| commands.lock().clone()) else {
            return;
        };
        let voters = log::voters_record(self.quorum.membership(), self.image.end_offset());
        let (image, level) = (Arc::clone(&self.image), level_of(&self.image));
        let job = self.quorum.log_mut().inner.begin_snapshot_with(image, voters, level, now_ms);
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
            // One that was taken over from the leader meanwhile is newer.
            Ok(facts) if self.quorum.log().newest().is_none_or(|newest| newest < id) => {
                tracing::info!(end_offset = %id.end_offset, bytes = facts.bytes, "metadata snapshot written");
                self.quorum.log_mut().inner.snapshots().add(id, facts);
                self.maintain();
                self.shared.snapshot.send_replace(Some(id));
            }
            Ok(_) => {}
            Err(error) => self.fail(&format!("a snapshot cannot be written: {error}")),
        }
    }

    /// Hands the office over, and leaves the log whole.
    fn close(&mut self) -> Result<(), ControllerError> {
        if let Some(writing) = self.writing.take() {
            // One that panicked has left a file that nobody reads.
            let _ = writing.join();
        }
        let now_ms = self.now_ms();
        if self.quorum.role() == RoleName::Leader {
            self.guard(|member| member.quorum.resign(now_ms));
            self.send_outputs();
        }
        self.leave_office();
        self.replies.clear();
        // The last requests are on their way, or time out.
        let (closed, _) = tokio::sync::mpsc::unbounded_channel();
        self.peers = closed;
        if let Some(thread) = self.peers_thread.take() {
            let _ = thread.join();
        }
        self.quorum.log_mut().inner.close()
    }
}
