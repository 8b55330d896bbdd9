//! Changes of the set of voters, one at a time (KIP-853): a voter is added once it has the log, removed by its id and
//! directory, updated when it listens elsewhere. Two sets that follow each other differ by one voter at most, so that
//! every majority of the one meets every majority of the other.

use crate::protocol::ErrorCode;
use crate::record::{BatchBuilder, Compression, ControlType};
use crate::types::Offset;

use super::Quorum;
use super::leader::encoded;
use super::log::{LogFailure, QuorumLog};
use super::message::{Request, Response, UpdateVoter};
use super::role::Role;
use super::voters::{ReplicaKey, Voter, VoterSet};

/// The versions of `kraft.version` that this node supports.
pub(super) const KRAFT_VERSIONS: (i16, i16) = (0, 1);

/// A voter that has not fetched for so many fetch timeouts may give its place to another directory of its node.
const SILENT_FETCH_TIMEOUTS: i64 = 5;

/// What is asked of the set of voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VoterChangeRequest {
    /// AddRaftVoter (80).
    Add {
        /// Whom.
        voter: Voter,
        /// Given up after so long.
        timeout_ms: i64,
        /// Answered when the change is agreed on; else when the leader has written it down.
        ack_when_committed: bool,
    },
    /// RemoveRaftVoter (81).
    Remove {
        /// Whom.
        key: ReplicaKey,
    },
}

/// A change under way.
#[derive(Debug)]
pub(super) struct Change {
    /// Who waits for it; nobody where it was answered already.
    token: Option<u64>,
    kind: Kind,
    stage: Stage,
    deadline_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Change,
    Update,
}

#[derive(Debug)]
enum Stage {
    /// The new voter is asked what it supports.
    Asking { voter: Voter, ack_when_committed: bool },
    /// The record ends before this offset, and waits for a majority.
    Committing { end_offset: Offset },
}

impl Change {
    pub(super) fn deadline_ms(&self) -> i64 {
        self.deadline_ms
    }
}

/// Why a change is refused.
type Refused = (ErrorCode, String);

impl<L: QuorumLog> Quorum<L> {
    /// A change of the voters is asked for; the answer comes with `token`.
    ///
    /// # Errors
    /// The log failed.
    pub fn change_voters(
        &mut self,
        now_ms: i64,
        token: u64,
        request: VoterChangeRequest,
    ) -> Result<(), LogFailure> {
        let checked = self.check_change().and_then(|()| self.check_request(now_ms, &request));
        if let Err((error, message)) = checked {
            self.answer(token, Response::VoterChange { error, message: Some(message) });
            return Ok(());
        }
        match request {
            VoterChangeRequest::Add { voter, timeout_ms, ack_when_committed } => {
                let deadline_ms = now_ms.saturating_add(timeout_ms.max(1));
                let stage = Stage::Asking { voter, ack_when_committed };
                self.set_change(Change { token: Some(token), kind: Kind::Change, stage, deadline_ms });
            }
            VoterChangeRequest::Remove { key } => {
                let voters = self.membership.voters().without(key.id);
                self.write_voters(now_ms, Some(token), Kind::Change, &voters, i64::MAX)?;
            }
        }
        self.tick(now_ms)
    }

    /// What has to hold before any change.
    fn check_change(&self) -> Result<(), Refused> {
        let Role::Leader(office) = &self.role else {
            return Err((ErrorCode::NotLeaderOrFollower, "This node does not lead the quorum.".to_owned()));
        };
        if self.membership.kraft_version() < 1 {
            let message = "The voters are static (kraft.version 0): controller.quorum.voters says who votes. Upgrade \
                           kraft.version to 1 first.";
            return Err((ErrorCode::UnsupportedVersion, message.to_owned()));
        }
        let committed = self.high_watermark.filter(|known| *known > office.epoch_start);
        let is_settled = committed
            .is_some_and(|known| self.membership.voters_offset().is_none_or(|offset| offset < known));
        if office.change.is_some() || !is_settled {
            let message = "Another change of the voters, or the leader's first record, is not agreed on yet. Try again.";
            return Err((ErrorCode::RequestTimedOut, message.to_owned()));
        }
        Ok(())
    }

    fn check_request(&self, now_ms: i64, request: &VoterChangeRequest) -> Result<(), Refused> {
        let voters = self.membership.voters();
        match request {
            VoterChangeRequest::Add { voter, .. } => {
                let id = voter.key.id;
                if voters.get(id).is_some() {
                    return Err((ErrorCode::DuplicateVoter, format!("Node {id} votes already.")));
                }
                if voter.key.directory_id.is_zero() || voter.endpoints.is_empty() {
                    let message = format!("Node {id} needs a directory id and a listener to vote.");
                    return Err((ErrorCode::InvalidRequest, message));
                }
                if !self.is_caught_up(now_ms, &voter.key) {
                    let message = format!(
                        "Node {id} with directory {} does not have the log yet: it has to run as an observer of this \
                         quorum first.",
                        voter.key.directory_id
                    );
                    return Err((ErrorCode::RequestTimedOut, message));
                }
                Ok(())
            }
            VoterChangeRequest::Remove { key } => {
                if voters.get(key.id).is_none_or(|voter| voter.key != *key) {
                    let message =
                        format!("Node {} with directory {} does not vote.", key.id, key.directory_id);
                    return Err((ErrorCode::VoterNotFound, message));
                }
                if voters.len() == 1 {
                    let message = format!("Node {} is the only voter.", key.id);
                    return Err((ErrorCode::InvalidRequest, message));
                }
                self.check_rest(now_ms, &voters.without(key.id))
            }
        }
    }

    /// Those who stay must be able to go on without the one that leaves.
    fn check_rest(&self, now_ms: i64, rest: &VoterSet) -> Result<(), Refused> {
        let has_log =
            |voter: &&Voter| voter.key.matches(&self.local) || self.is_caught_up(now_ms, &voter.key);
        let (count, majority) = (rest.iter().filter(has_log).count(), rest.majority());
        if count >= majority {
            return Ok(());
        }
        let message = format!(
            "Only {count} of the voters that would stay have the log, and a majority is {majority}: start the others first."
        );
        Err((ErrorCode::RequestTimedOut, message))
    }

    fn is_caught_up(&self, now_ms: i64, key: &ReplicaKey) -> bool {
        let Role::Leader(office) = &self.role else { return false };
        // Of one that has been silent for longer nobody knows whether it still has its directory.
        let silent_ms_max = 2 * self.settings.fetch_timeout_ms;
        office.replicas.get(key).is_some_and(|progress| {
            progress.last_caught_up_ms >= 0 && now_ms - progress.last_fetch_ms < silent_ms_max
        })
    }

    fn set_change(&mut self, change: Change) {
        if let Role::Leader(office) = &mut self.role {
            office.change = Some(change);
        }
    }

    /// Writes the new set down. It counts from now on, for its own record too.
    fn write_voters(
        &mut self,
        now_ms: i64,
        token: Option<u64>,
        kind: Kind,
        voters: &VoterSet,
        deadline_ms: i64,
    ) -> Result<(), LogFailure> {
        assert!(kind == Kind::Update || self.membership.voters().overlaps(voters), "one voter at a time");
        let mut batch = BatchBuilder::new(Compression::NONE).control();
        batch.append_control(now_ms, ControlType::KRaftVoters, &encoded(&voters.to_record(), 0)?);
        let bytes = batch.build().map_err(|error| LogFailure(error.to_string()))?;
        let end_offset = self.log.end_offset().next();
        self.set_change(Change { token, kind, stage: Stage::Committing { end_offset }, deadline_ms });
        self.append_and_flush(now_ms, &bytes)
    }

    pub(super) fn tick_change(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        let Some(change) = &office.change else { return Ok(()) };
        if change.deadline_ms <= now_ms {
            let Some(change) = office.change.take() else { return Ok(()) };
            self.give_up_change(&change, ErrorCode::RequestTimedOut, "The change was not agreed on in time.");
            return Ok(());
        }
        if let Stage::Asking { voter, .. } = &change.stage
            && let Some(endpoint) = voter.endpoints.first().cloned()
        {
            let id = voter.key.id;
            self.send(now_ms, id, endpoint, Request::ApiVersions);
        }
        Ok(())
    }

    /// The voter to be added says what it supports.
    pub(super) fn versions_answered(
        &mut self,
        now_ms: i64,
        target: i32,
        error: ErrorCode,
        kraft_versions: (i16, i16),
    ) -> Result<(), LogFailure> {
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        let is_asked = matches!(
            &office.change,
            Some(Change { stage: Stage::Asking { voter, .. }, .. }) if voter.key.id == target
        );
        if !is_asked || error != ErrorCode::None {
            self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
            return Ok(());
        }
        let Some(change) = office.change.take() else { return Ok(()) };
        let still_there =
            matches!(&change.stage, Stage::Asking { voter, .. } if self.is_caught_up(now_ms, &voter.key));
        if !still_there {
            let message = format!("Node {target} does not fetch from this leader any more.");
            self.give_up_change(&change, ErrorCode::RequestTimedOut, &message);
            return Ok(());
        }
        let needed = self.membership.kraft_version();
        if kraft_versions.0 > needed || kraft_versions.1 < needed {
            let message = format!("Node {target} does not support kraft.version {needed}.");
            self.give_up_change(&change, ErrorCode::InvalidRequest, &message);
            return Ok(());
        }
        let Stage::Asking { voter, ack_when_committed } = change.stage else { return Ok(()) };
        let voters = self.membership.voters().with(Voter { kraft_versions, ..voter });
        let token = change.token.filter(|_| ack_when_committed);
        self.write_voters(now_ms, token, Kind::Change, &voters, change.deadline_ms)?;
        if let (false, Some(token)) = (ack_when_committed, change.token) {
            self.answer(token, Response::VoterChange { error: ErrorCode::None, message: None });
        }
        Ok(())
    }

    /// The high watermark has moved: a change that it has passed is done.
    pub(super) fn change_committed(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let high_watermark = self.high_watermark.unwrap_or(Offset::UNKNOWN);
        let leads_on = self.membership.voters().contains(&self.local);
        let settled = self.membership.voters_offset().is_none_or(|offset| offset < high_watermark);
        let Role::Leader(office) = &mut self.role else { return Ok(()) };
        let is_done = matches!(
            &office.change,
            Some(Change { stage: Stage::Committing { end_offset }, .. }) if *end_offset <= high_watermark
        );
        if is_done && let Some(change) = office.change.take() {
            self.answer_change(&change, ErrorCode::None, None);
        }
        if !leads_on && settled {
            // It has led its own removal to the end.
            self.become_resigned(now_ms);
        }
        Ok(())
    }

    pub(super) fn update_voter_requested(
        &mut self,
        now_ms: i64,
        token: u64,
        update: UpdateVoter,
    ) -> Result<(), LogFailure> {
        if let Some(error) = self.not_leading_in(update.epoch) {
            let leadership = self.leadership();
            self.answer(token, Response::UpdateVoter { error, leadership });
            return Ok(());
        }
        let error = match self.check_change() {
            Err((error, _)) => error,
            Ok(()) if update.voter.endpoints.is_empty() => ErrorCode::InvalidRequest,
            Ok(()) => match self.membership.voters().get(update.voter.key.id) {
                Some(known) if *known == update.voter => ErrorCode::None,
                Some(known) if known.key == update.voter.key => {
                    let voters = self.membership.voters().with(update.voter);
                    return self.write_voters(now_ms, Some(token), Kind::Update, &voters, i64::MAX);
                }
                Some(_) | None if !self.may_take_place(now_ms, &update.voter.key) => ErrorCode::VoterNotFound,
                Some(known) => {
                    let voters = self.membership.voters().without(known.key.id);
                    return self.write_voters(now_ms, Some(token), Kind::Update, &voters, i64::MAX);
                }
                None => {
                    let deadline_ms = now_ms + self.settings.request_timeout_ms;
                    let stage = Stage::Asking { voter: update.voter, ack_when_committed: true };
                    self.set_change(Change { token: Some(token), kind: Kind::Update, stage, deadline_ms });
                    return Ok(());
                }
            },
        };
        let leadership = self.leadership();
        self.answer(token, Response::UpdateVoter { error, leadership });
        Ok(())
    }

    /// Whether `key`, which does not vote, may come to vote by saying that it is its node's voter: a directory that never
    /// voted, in the place of one that has been silent for long. First that one is removed, then, asked again, the new
    /// one is added: sets of voters that follow each other differ by one.
    fn may_take_place(&self, now_ms: i64, key: &ReplicaKey) -> bool {
        let Role::Leader(office) = &self.role else { return false };
        let is_new = !key.directory_id.is_zero() && !self.membership.has_known(key);
        let is_free = self.membership.voters().get(key.id).is_none_or(|known| {
            let heard_ms = office.progress(&known.key).map_or(office.began_ms, |it| it.last_fetch_ms);
            now_ms - heard_ms >= SILENT_FETCH_TIMEOUTS * self.settings.fetch_timeout_ms
                && self.check_rest(now_ms, &self.membership.voters().without(key.id)).is_ok()
        });
        is_new && is_free && self.is_caught_up(now_ms, key)
    }

    pub(super) fn give_up_change(&mut self, change: &Change, error: ErrorCode, message: &str) {
        self.answer_change(change, error, Some(message.to_owned()));
    }

    fn answer_change(&mut self, change: &Change, error: ErrorCode, message: Option<String>) {
        let Some(token) = change.token else { return };
        let response = match change.kind {
            Kind::Change => Response::VoterChange { error, message },
            Kind::Update => Response::UpdateVoter { error, leadership: self.leadership() },
        };
        self.answer(token, response);
    }
}
