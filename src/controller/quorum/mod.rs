//! KRaft, the quorum that agrees on the metadata log (KIP-595), as a pure state machine: what arrives and what time it
//! is goes in ([`Quorum::request`], [`Quorum::response`], [`Quorum::tick`]), what is to be sent comes out
//! ([`Quorum::take_outputs`]). The log stands behind [`QuorumLog`].
//!
//! Pre-vote (KIP-996), check-quorum (KAFKA-15489), diverging epochs, snapshots (KIP-630), voters in the log with directory
//! ids (KIP-853). Beyond Kafka: a node whose directory was made new as one of several voters has no vote until it has
//! met every voter with an empty log, or has fetched to a leader's high watermark, so that a wiped voter cannot vote
//! away what was agreed on (KAFKA-14077).
//!
//! Promised: at most one leader an epoch; what the high watermark has passed is never cut off; what a message depends on
//! is on disk before the message is in the outputs.

mod change;
mod election;
mod fetch;
mod follower;
mod leader;
mod log;
mod message;
mod role;
mod voters;
pub mod wire;

use crate::protocol::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

pub use change::VoterChangeRequest;
pub use leader::ReplicaProgress;
pub use log::{AppendRefused, ElectionState, LogFailure, QuorumLog, SnapshotPart};
pub use message::{
    AddVoter, BeginEpoch, Content, EndEpoch, EpochEnd, Fetch, FetchSnapshot, Fetched, Leadership, Request,
    Response, SnapshotId, UpdateVoter, Vote,
};
pub use voters::{Endpoint, Membership, ReplicaKey, Voter, VoterSet};

use role::{Calls, Draw, Role};

/// How long things may take, in milliseconds, and what else a node of the quorum is told, by the names of Kafka's
/// configuration.
#[derive(Clone, Copy, Debug)]
pub struct QuorumSettings {
    /// `controller.quorum.election.timeout.ms`: without a leader for so long, and up to as long again, a voter stands.
    pub election_timeout_ms: i64,
    /// `controller.quorum.fetch.timeout.ms`: without an answer of the leader for so long it is taken for gone.
    pub fetch_timeout_ms: i64,
    /// `controller.quorum.election.backoff.max.ms`
    pub election_backoff_ms_max: i64,
    /// `controller.quorum.request.timeout.ms`
    pub request_timeout_ms: i64,
    /// `controller.quorum.retry.backoff.ms`
    pub retry_backoff_ms: i64,
    /// How long a fetch waits at the leader for something new.
    pub fetch_wait_ms_max: i64,
    /// How many bytes a fetch takes.
    pub fetch_bytes_max: usize,
    /// `controller.quorum.auto.join.enable`: a controller that does not vote asks for its vote once it has the log.
    pub joins: bool,
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self {
            election_timeout_ms: 1_000,
            fetch_timeout_ms: 2_000,
            election_backoff_ms_max: 1_000,
            request_timeout_ms: 2_000,
            retry_backoff_ms: 20,
            fetch_wait_ms_max: 500,
            fetch_bytes_max: 8 << 20,
            joins: false,
        }
    }
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct QuorumOptions {
    /// This node and its metadata directory.
    pub local: ReplicaKey,
    /// Where it listens for the quorum; none for a broker.
    pub endpoints: Vec<Endpoint>,
    /// Whom an observer asks for the leader where it knows no voters (`controller.quorum.bootstrap.servers`).
    pub bootstrap: Vec<Endpoint>,
    /// Who votes, as configured and as the log and its snapshot say.
    pub membership: Membership,
    /// What was on disk.
    pub state: ElectionState,
    /// Whether this node may vote already.
    pub may_vote: bool,
    /// Timeouts.
    pub settings: QuorumSettings,
    /// Decides the random part of the timeouts.
    pub seed: u64,
}

/// Why a request has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallFailure {
    /// Nobody listens at that port of a machine that answers: the process is gone.
    Refused,
    /// Lost on the way, or no answer in time.
    Lost,
}

/// Something to do for the owner of the state machine.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send a request; its answer, or that there is none, comes to [`Quorum::response`] by this name.
    Send {
        /// The name.
        call: u64,
        /// Node id, negative where only the endpoint is known.
        target: i32,
        /// Where.
        endpoint: Endpoint,
        /// What.
        request: Request,
    },
    /// Answer the request that came with this token.
    Answer {
        /// The token.
        token: u64,
        /// The answer.
        response: Response,
    },
}

/// What this node is, for whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleName {
    /// Knows no leader.
    Unattached,
    /// Asks whether it would be elected.
    Prospective,
    /// Stands.
    Candidate,
    /// Follows.
    Follower,
    /// Leads.
    Leader,
    /// Led until just now.
    Resigned,
}

/// One node of the quorum.
#[derive(Debug)]
pub struct Quorum<L> {
    log: L,
    local: ReplicaKey,
    endpoints: Vec<Endpoint>,
    bootstrap: Vec<Endpoint>,
    membership: Membership,
    state: ElectionState,
    settings: QuorumSettings,
    may_vote: bool,
    /// Another directory of this node has the vote that its configuration gives it, or had until just now.
    takes_place_back: bool,
    /// Voters that came with an empty log while this node had no vote.
    met: std::collections::BTreeMap<i32, ReplicaKey>,
    role: Role,
    high_watermark: Option<Offset>,
    draw: Draw,
    calls: Calls,
    outputs: Vec<Output>,
}

impl<L: QuorumLog> Quorum<L> {
    /// Takes its place again. A lone voter leads at once; a node that led waits until its old epoch is over.
    ///
    /// # Errors
    /// The log failed.
    pub fn open(log: L, options: QuorumOptions, now_ms: i64) -> Result<Self, LogFailure> {
        let mut quorum = Self {
            log,
            local: options.local,
            endpoints: options.endpoints,
            bootstrap: options.bootstrap,
            membership: options.membership,
            state: options.state,
            settings: options.settings,
            may_vote: options.may_vote,
            takes_place_back: false,
            met: std::collections::BTreeMap::new(),
            role: Role::Unattached { election_deadline_ms: 0 },
            high_watermark: None,
            draw: Draw::new(options.seed),
            calls: Calls::default(),
            outputs: Vec::new(),
        };
        // A log may hold records of an epoch whose election this node was not told of.
        if quorum.log.last_epoch() > quorum.state.epoch {
            quorum.state = ElectionState { epoch: quorum.log.last_epoch(), leader_id: None, voted: None };
            quorum.store()?;
        }
        if let Some(snapshot) = quorum.log.latest_snapshot() {
            quorum.raise_high_watermark(snapshot.end_offset);
        }
        let election_deadline_ms = now_ms + quorum.draw_election_timeout();
        quorum.role = if quorum.state.leader_id == Some(quorum.local.id) {
            let untold = quorum.other_voter_ids().collect();
            Role::Resigned { election_deadline_ms, preferred: Vec::new(), untold }
        } else {
            Role::Unattached { election_deadline_ms }
        };
        quorum.tick(now_ms)?;
        Ok(quorum)
    }

    /// Another node's request; the answer comes with `token`, at once or later.
    ///
    /// # Errors
    /// The log failed.
    pub fn request(&mut self, now_ms: i64, token: u64, request: Request) -> Result<(), LogFailure> {
        match request {
            Request::Vote(vote) => {
                let response = self.vote_requested(now_ms, &vote)?;
                self.answer(token, response);
            }
            Request::BeginEpoch(begin) => {
                let response = self.leader_began(now_ms, &begin)?;
                self.answer(token, response);
            }
            Request::EndEpoch(end) => {
                let response = self.leader_ended(now_ms, &end)?;
                self.answer(token, response);
            }
            Request::Fetch(fetch) => self.fetch_requested(now_ms, token, fetch)?,
            Request::FetchSnapshot(fetch) => {
                let response = self.snapshot_requested(now_ms, &fetch)?;
                self.answer(token, response);
            }
            Request::UpdateVoter(update) => self.update_voter_requested(now_ms, token, update)?,
            Request::AddVoter(AddVoter { voter, timeout_ms }) => {
                let add = VoterChangeRequest::Add { voter, timeout_ms, ack_when_committed: false };
                self.change_voters(now_ms, token, add)?;
            }
            Request::ApiVersions => self.answer(
                token,
                Response::ApiVersions { error: ErrorCode::None, kraft_versions: change::KRAFT_VERSIONS },
            ),
        }
        self.tick(now_ms)
    }

    /// The answer to a request of this node, or that there is none.
    ///
    /// # Errors
    /// The log failed.
    pub fn response(
        &mut self,
        now_ms: i64,
        call: u64,
        result: Result<Response, CallFailure>,
    ) -> Result<(), LogFailure> {
        // Whatever the node was when it asked, it is something else now.
        let Some((target, open)) = self.calls.end(call) else { return Ok(()) };
        match result {
            Err(failure) => {
                let until_ms = now_ms + self.settings.retry_backoff_ms;
                self.calls.back_off(target, until_ms);
                self.unanswered(now_ms, target, failure);
            }
            Ok(response) => self.answered(now_ms, target, open.request, response)?,
        }
        self.tick(now_ms)
    }

    fn answered(
        &mut self,
        now_ms: i64,
        target: i32,
        request: Request,
        response: Response,
    ) -> Result<(), LogFailure> {
        match (request, response) {
            (Request::Vote(vote), Response::Vote { error, leadership, granted }) => {
                self.vote_answered(now_ms, target, &vote, error, &leadership, granted)
            }
            (Request::BeginEpoch(_), Response::BeginEpoch { error, leadership }) => {
                self.begin_answered(now_ms, target, error, &leadership)
            }
            (Request::EndEpoch(_), Response::EndEpoch { leadership, .. }) => {
                if let Role::Resigned { untold, .. } = &mut self.role {
                    untold.remove(&target);
                }
                self.learn(now_ms, &leadership)
            }
            (Request::Fetch(_), Response::Fetch(fetched)) => self.fetched(now_ms, target, fetched),
            (
                Request::FetchSnapshot(asked),
                Response::FetchSnapshot { error, leadership, size, position, bytes, .. },
            ) => {
                let part = follower::Part { error, size, position, bytes };
                self.snapshot_fetched(now_ms, target, &asked, &leadership, &part)
            }
            (Request::UpdateVoter(_), Response::UpdateVoter { leadership, .. }) => {
                self.learn(now_ms, &leadership)
            }
            (Request::ApiVersions, Response::ApiVersions { error, kraft_versions }) => {
                self.versions_answered(now_ms, target, error, kraft_versions)
            }
            // An answer of another kind is no answer.
            _ => Ok(()),
        }
    }

    /// Does whatever is due by now.
    ///
    /// # Errors
    /// The log failed.
    pub fn tick(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        self.calls.expire(now_ms, self.settings.retry_backoff_ms);
        match &self.role {
            Role::Unattached { .. } => self.tick_unattached(now_ms),
            Role::Prospective { .. } | Role::Candidate { .. } => self.tick_ballot(now_ms),
            Role::Follower(_) => self.tick_follower(now_ms),
            Role::Leader(_) => self.tick_leader(now_ms),
            Role::Resigned { .. } => self.tick_resigned(now_ms),
        }
    }

    /// When [`Quorum::tick`] is to be called next, if nothing else happens before.
    #[must_use]
    pub fn deadline_ms(&self, now_ms: i64) -> i64 {
        let role = match &self.role {
            Role::Unattached { election_deadline_ms }
            | Role::Prospective { election_deadline_ms, .. }
            | Role::Resigned { election_deadline_ms, .. } => *election_deadline_ms,
            Role::Candidate { election_deadline_ms, backoff_until_ms, .. } => {
                backoff_until_ms.unwrap_or(*election_deadline_ms)
            }
            Role::Follower(following) => following.fetch_deadline_ms,
            Role::Leader(office) => office.deadline_ms(now_ms),
        };
        self.calls.deadline_ms(now_ms).map_or(role, |calls| calls.min(role))
    }

    /// What is to be done, in this order; nothing stays behind.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Appends whole batches as the leader; they count once the high watermark has passed them. Returns the offset
    /// after them, or `None` where this node does not lead in `epoch`.
    ///
    /// # Errors
    /// The log failed.
    pub fn append(
        &mut self,
        now_ms: i64,
        epoch: LeaderEpoch,
        batches: &[u8],
    ) -> Result<Option<Offset>, LogFailure> {
        if !matches!(self.role, Role::Leader(_)) || epoch != self.state.epoch {
            return Ok(None);
        }
        self.append_and_flush(now_ms, batches)?;
        self.tick(now_ms)?;
        Ok(Some(self.log.end_offset()))
    }

    /// Leads no more, and tells the others so. A node that does not lead stays what it is.
    ///
    /// # Errors
    /// The log failed.
    pub fn resign(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        if matches!(self.role, Role::Leader(_)) {
            self.become_resigned(now_ms);
            self.tick(now_ms)?;
        }
        Ok(())
    }

    /// Whether nobody is left who should be told that this node has resigned.
    #[must_use]
    pub fn has_told_all(&self) -> bool {
        !matches!(&self.role, Role::Resigned { untold, .. } if !untold.is_empty())
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.log
    }

    /// The log, for what does not concern the agreement: snapshots made, old segments removed.
    pub fn log_mut(&mut self) -> &mut L {
        &mut self.log
    }

    /// What this node is.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Unattached { .. } => RoleName::Unattached,
            Role::Prospective { .. } => RoleName::Prospective,
            Role::Candidate { .. } => RoleName::Candidate,
            Role::Follower(_) => RoleName::Follower,
            Role::Leader(_) => RoleName::Leader,
            Role::Resigned { .. } => RoleName::Resigned,
        }
    }

    /// The newest epoch this node knows.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.state.epoch
    }

    /// Who leads in it.
    #[must_use]
    pub fn leader_id(&self) -> Option<i32> {
        self.state.leader_id
    }

    /// Everything before it is agreed on; `None` until that is known.
    #[must_use]
    pub fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// Where this node's term began in the log; `None` where it does not lead. A leader decides nothing before its high
    /// watermark has passed that.
    #[must_use]
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(office) => Some(office.epoch_start),
            _ => None,
        }
    }

    /// Who votes.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether this node may stand: it votes, or it was removed by a record that may not be agreed on yet. The one with
    /// such a record may have the longest log, and then nobody else can be elected (Raft, Ongaro's thesis §4.2.2).
    #[must_use]
    pub fn may_stand(&self) -> bool {
        let is_leaving = || {
            let Some(offset) = self.membership.voters_offset() else { return false };
            let is_agreed = self.high_watermark.is_some_and(|known| offset < known);
            !is_agreed
                && self.membership.voters_before(offset).is_some_and(|voters| voters.contains(&self.local))
        };
        self.may_vote && (self.membership.voters().contains(&self.local) || is_leaving())
    }

    fn answer(&mut self, token: u64, response: Response) {
        self.outputs.push(Output::Answer { token, response });
    }

    /// Sends unless something is on its way to that node already, or it is left alone for a while.
    fn send(&mut self, now_ms: i64, target: i32, endpoint: Endpoint, request: Request) {
        if self.calls.is_ready(target, now_ms) {
            let deadline_ms = now_ms + self.settings.request_timeout_ms;
            let call = self.calls.begin(target, request.clone(), deadline_ms);
            self.outputs.push(Output::Send { call, target, endpoint, request });
        }
    }

    fn store(&mut self) -> Result<(), LogFailure> {
        self.log.store(&self.state, &self.membership)
    }

    fn draw_election_timeout(&mut self) -> i64 {
        self.settings.election_timeout_ms + self.draw.below(self.settings.election_timeout_ms)
    }

    fn other_voter_ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.membership.voters().iter().map(|voter| voter.key.id).filter(|id| *id != self.local.id)
    }

    /// The other voters with where they listen.
    fn other_voters(&self) -> Vec<(ReplicaKey, Endpoint)> {
        let others = self.membership.voters().iter().filter(|voter| voter.key.id != self.local.id);
        others.filter_map(|voter| Some((voter.key, voter.endpoints.first()?.clone()))).collect()
    }

    /// What this node knows of who leads.
    pub fn leadership(&self) -> Leadership {
        let endpoint = match (&self.role, self.state.leader_id) {
            (Role::Follower(following), _) => Some(following.endpoint.clone()),
            (_, Some(leader)) if leader == self.local.id => self.endpoints.first().cloned(),
            (_, Some(leader)) => self.voter_endpoint(leader),
            (_, None) => None,
        };
        // One who has resigned is not to be asked any more.
        let leader_id = self.state.leader_id.filter(|_| !matches!(self.role, Role::Resigned { .. }));
        Leadership { leader_id, epoch: self.state.epoch, endpoint }
    }

    fn voter_endpoint(&self, id: i32) -> Option<Endpoint> {
        self.membership.voters().get(id).and_then(|voter| voter.endpoints.first().cloned())
    }

    fn raise_high_watermark(&mut self, offset: Offset) {
        let offset = offset.min(self.log.end_offset());
        if self.high_watermark.is_none_or(|known| known < offset) {
            self.high_watermark = Some(offset);
            self.log.advance_high_watermark(offset);
        }
    }
}
