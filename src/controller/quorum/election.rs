//! Elections: who may ask for votes, who gets one, and how a node moves between the roles that lead to office.

use crate::protocol::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

use super::log::{ElectionState, LogFailure, QuorumLog};
use super::message::{BeginEpoch, EndEpoch, EpochEnd, Leadership, Request, Response, Vote};
use super::role::{Ballot, Following, Role};
use super::voters::{Endpoint, ReplicaKey};
use super::{CallFailure, Quorum};

/// How often a node that has no vote yet looks for the other voters.
const MEETING_BACKOFF_MS: i64 = 100;

impl<L: QuorumLog> Quorum<L> {
    /// Answers a request for a vote.
    pub(super) fn vote_requested(&mut self, now_ms: i64, vote: &Vote) -> Result<Response, LogFailure> {
        if vote.epoch < self.state.epoch {
            self.meet(now_ms, vote)?;
            return Ok(self.vote_answer(ErrorCode::FencedLeaderEpoch, false));
        }
        if !vote.voter.matches(&self.local) && vote.voter.id >= 0 {
            return Ok(self.vote_answer(ErrorCode::InvalidVoterKey, false));
        }
        if self.is_stranger(vote.candidate.id, vote.epoch) {
            return Ok(self.vote_answer(ErrorCode::None, false));
        }
        if vote.epoch > self.state.epoch {
            self.become_unattached(now_ms, vote.epoch)?;
        }
        self.meet(now_ms, vote)?;
        let granted = self.may_vote && self.would_grant(vote);
        if granted && !vote.pre_vote && self.state.voted.is_none() {
            self.state.voted = Some(vote.candidate);
            self.store()?;
            // Whoever has just given its vote does not stand before the other has had its time.
            let election_deadline_ms = now_ms + self.draw_election_timeout();
            self.change_role(Role::Unattached { election_deadline_ms });
        }
        Ok(self.vote_answer(ErrorCode::None, granted))
    }

    /// Whether a node that is no voter here speaks of a later epoch while all is well. A voter that was added since, and
    /// is one already elsewhere, is heard once this node hears no leader any more.
    fn is_stranger(&self, id: i32, epoch: LeaderEpoch) -> bool {
        let hears_leader = match &self.role {
            Role::Leader(_) => true,
            Role::Follower(following) => following.has_fetched,
            _ => false,
        };
        hears_leader && epoch > self.state.epoch && self.membership.voters().get(id).is_none()
    }

    fn vote_answer(&self, error: ErrorCode, granted: bool) -> Response {
        Response::Vote { error, leadership: self.leadership(), granted }
    }

    fn would_grant(&self, vote: &Vote) -> bool {
        let is_current = vote.last >= self.last();
        if vote.pre_vote {
            return match &self.role {
                // Whoever hears from its leader needs no election.
                Role::Follower(following) => is_current && !following.has_fetched,
                Role::Leader(_) => false,
                _ => is_current,
            };
        }
        match self.state.voted {
            Some(voted) => voted.matches(&vote.candidate),
            None => {
                let waits = matches!(self.role, Role::Unattached { .. } | Role::Prospective { .. });
                waits && self.state.leader_id.is_none() && is_current
            }
        }
    }

    /// Where this node's log ends.
    pub(super) fn last(&self) -> EpochEnd {
        EpochEnd { epoch: self.log.last_epoch(), end_offset: self.log.end_offset() }
    }

    /// A voter with an empty log, met while this node has an empty one and no vote. Once it has met all of them the
    /// cluster is new, and it may vote.
    fn meet(&mut self, now_ms: i64, vote: &Vote) -> Result<(), LogFailure> {
        let empty = EpochEnd { epoch: LeaderEpoch(0), end_offset: Offset::ZERO };
        if vote.last != empty || self.last() != empty || !self.membership.voters().contains(&vote.candidate) {
            return Ok(());
        }
        self.met.insert(vote.candidate.id, vote.candidate);
        if !self.may_vote && self.other_voter_ids().all(|id| self.met.contains_key(&id)) {
            self.log.allow_vote()?;
            self.may_vote = true;
            if let Role::Unattached { election_deadline_ms } = &mut self.role {
                // All that start together have their turn at different times.
                *election_deadline_ms = now_ms + self.draw.below(self.settings.election_timeout_ms / 2);
            }
        }
        Ok(())
    }

    /// What came of asking for a vote.
    pub(super) fn vote_answered(
        &mut self,
        now_ms: i64,
        target: i32,
        vote: &Vote,
        error: ErrorCode,
        leadership: &Leadership,
        granted: bool,
    ) -> Result<(), LogFailure> {
        self.learn(now_ms, leadership)?;
        if vote.epoch != self.state.epoch {
            return Ok(());
        }
        if let Role::Unattached { .. } = self.role {
            // A node without a vote looks again after a while.
            self.calls.back_off(target, now_ms + MEETING_BACKOFF_MS);
            return Ok(());
        }
        let ballot = match &mut self.role {
            Role::Prospective { ballot, .. } if vote.pre_vote => ballot,
            Role::Candidate { ballot, .. } if !vote.pre_vote => ballot,
            _ => return Ok(()),
        };
        if error == ErrorCode::None {
            ballot.record(target, granted);
            return self.count(now_ms);
        }
        self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
        Ok(())
    }

    /// Moves on if the ballot is decided.
    fn count(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let voters = self.membership.voters();
        let (majority, all) = (voters.majority(), voters.len());
        let count = |ids: &std::collections::BTreeSet<i32>| {
            ids.iter().filter(|id| voters.get(**id).is_some()).count()
        };
        match &mut self.role {
            Role::Prospective { ballot, .. } => {
                if count(&ballot.granted) >= majority {
                    return self.become_candidate(now_ms);
                }
                if count(&ballot.refused) > all - majority {
                    return self.give_up_prospect(now_ms);
                }
            }
            Role::Candidate { ballot, backoff_until_ms, .. } => {
                if count(&ballot.granted) >= majority {
                    let granting: Vec<i32> = ballot.granted.iter().copied().collect();
                    return self.become_leader(now_ms, &granting);
                }
                if count(&ballot.refused) > all - majority && backoff_until_ms.is_none() {
                    let backoff_ms = 1 + self.draw.below(self.settings.election_backoff_ms_max);
                    *backoff_until_ms = Some(now_ms + backoff_ms);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The leader says that it leads.
    pub(super) fn leader_began(&mut self, now_ms: i64, begin: &BeginEpoch) -> Result<Response, LogFailure> {
        let error = if begin.epoch < self.state.epoch {
            ErrorCode::FencedLeaderEpoch
        } else if begin.voter.id >= 0 && !begin.voter.matches(&self.local) {
            ErrorCode::InvalidVoterKey
        } else if self.is_stranger(begin.leader_id, begin.epoch) {
            ErrorCode::InconsistentVoterSet
        } else {
            let endpoint = begin.leader_endpoints.first().cloned();
            let leadership = Leadership { leader_id: Some(begin.leader_id), epoch: begin.epoch, endpoint };
            self.learn(now_ms, &leadership)?;
            ErrorCode::None
        };
        Ok(Response::BeginEpoch { error, leadership: self.leadership() })
    }

    /// The leader says that it leads no more: whoever has most of the log stands first.
    pub(super) fn leader_ended(&mut self, now_ms: i64, end: &EndEpoch) -> Result<Response, LogFailure> {
        if end.epoch < self.state.epoch {
            let leadership = self.leadership();
            return Ok(Response::EndEpoch { error: ErrorCode::FencedLeaderEpoch, leadership });
        }
        if self.is_stranger(end.leader_id, end.epoch) {
            let leadership = self.leadership();
            return Ok(Response::EndEpoch { error: ErrorCode::InconsistentVoterSet, leadership });
        }
        let endpoint = end.leader_endpoints.first().cloned();
        self.learn(now_ms, &Leadership { leader_id: Some(end.leader_id), epoch: end.epoch, endpoint })?;
        let place = end.preferred.iter().position(|preferred| preferred.matches(&self.local));
        let wait_ms = match place {
            Some(0) => 0,
            Some(place) => {
                let step_ms = self.settings.retry_backoff_ms << place.min(10);
                step_ms.min(self.settings.election_backoff_ms_max) + self.draw.below(step_ms)
            }
            None => self.settings.election_backoff_ms_max,
        };
        if let Role::Follower(following) = &mut self.role
            && following.leader_id == end.leader_id
        {
            following.fetch_deadline_ms = following.fetch_deadline_ms.min(now_ms + wait_ms);
            // It does not answer any more, so it stands in nobody's way.
            following.has_fetched = false;
        }
        Ok(Response::EndEpoch { error: ErrorCode::None, leadership: self.leadership() })
    }

    /// Takes note of an epoch, and of its leader, that another node knows of.
    pub(super) fn learn(&mut self, now_ms: i64, leadership: &Leadership) -> Result<(), LogFailure> {
        if leadership.epoch < self.state.epoch {
            return Ok(());
        }
        let leader = leadership.leader_id.filter(|id| *id >= 0 && *id != self.local.id);
        let endpoint = leader.and_then(|id| leadership.endpoint.clone().or_else(|| self.voter_endpoint(id)));
        if let (Some(leader), Some(endpoint)) = (leader, endpoint) {
            let is_known = match &self.role {
                Role::Follower(_) | Role::Leader(_) | Role::Resigned { .. } => true,
                // It lost sight of that leader, and only the leader itself can bring it back.
                Role::Prospective { lost, .. } => lost.is_some() && self.state.leader_id == Some(leader),
                _ => false,
            };
            if leadership.epoch > self.state.epoch || !is_known {
                return self.become_follower(now_ms, leadership.epoch, leader, endpoint);
            }
        } else if leadership.epoch > self.state.epoch {
            return self.become_unattached(now_ms, leadership.epoch);
        }
        Ok(())
    }

    /// Nothing came back from a node.
    pub(super) fn unanswered(&mut self, now_ms: i64, target: i32, failure: CallFailure) {
        if let Role::Follower(following) = &mut self.role
            && following.leader_id == target
            && failure == CallFailure::Refused
        {
            // The leader's process is gone: no need to wait for a timeout. Whoever can still reach it refuses the
            // pre-vote, so this costs nothing where it is wrong.
            let soon_ms = now_ms + self.draw.below(self.settings.election_timeout_ms / 4);
            following.fetch_deadline_ms = following.fetch_deadline_ms.min(soon_ms);
            following.has_fetched = false;
        }
    }

    pub(super) fn tick_unattached(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let Role::Unattached { election_deadline_ms } = self.role else { return Ok(()) };
        if self.may_stand() {
            if election_deadline_ms <= now_ms || self.membership.voters().is_only(&self.local) {
                return self.become_prospective(now_ms, None);
            }
            return Ok(());
        }
        if election_deadline_ms <= now_ms {
            self.role = Role::Unattached { election_deadline_ms: now_ms + self.settings.election_timeout_ms };
        }
        if !self.may_vote
            && self.membership.voters().contains(&self.local)
            && self.last().end_offset == Offset::ZERO
        {
            self.ask_for_votes(now_ms, true, &Ballot::default());
            return Ok(());
        }
        self.look_for_leader(now_ms);
        Ok(())
    }

    pub(super) fn tick_ballot(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        match &mut self.role {
            Role::Prospective { ballot, election_deadline_ms, .. } => {
                if *election_deadline_ms <= now_ms {
                    return self.give_up_prospect(now_ms);
                }
                let ballot = std::mem::take(ballot);
                self.ask_for_votes(now_ms, true, &ballot);
                if let Role::Prospective { ballot: place, .. } = &mut self.role {
                    *place = ballot;
                }
                self.count(now_ms)
            }
            Role::Candidate { ballot, election_deadline_ms, backoff_until_ms } => {
                if backoff_until_ms.unwrap_or(*election_deadline_ms) <= now_ms {
                    return self.become_prospective(now_ms, None);
                }
                let ballot = std::mem::take(ballot);
                self.ask_for_votes(now_ms, false, &ballot);
                if let Role::Candidate { ballot: place, .. } = &mut self.role {
                    *place = ballot;
                }
                self.count(now_ms)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn tick_resigned(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let Role::Resigned { election_deadline_ms, preferred, untold } = &self.role else { return Ok(()) };
        if self.membership.voters().is_only(&self.local) {
            return self.become_prospective(now_ms, None);
        }
        if *election_deadline_ms <= now_ms {
            return self.become_unattached(now_ms, LeaderEpoch(self.state.epoch.0.saturating_add(1)));
        }
        let end = EndEpoch {
            leader_id: self.local.id,
            epoch: self.state.epoch,
            preferred: preferred.clone(),
            leader_endpoints: self.endpoints.clone(),
        };
        let untold = untold.clone();
        for (key, endpoint) in self.other_voters().into_iter().filter(|(key, _)| untold.contains(&key.id)) {
            self.send(now_ms, key.id, endpoint, Request::EndEpoch(end.clone()));
        }
        Ok(())
    }

    fn ask_for_votes(&mut self, now_ms: i64, pre_vote: bool, ballot: &Ballot) {
        for (voter, endpoint) in self.other_voters() {
            if ballot.is_open(voter.id) {
                let (candidate, epoch, last) = (self.local, self.state.epoch, self.last());
                let vote = Vote { candidate, voter, epoch, last, pre_vote };
                self.send(now_ms, voter.id, endpoint, Request::Vote(vote));
            }
        }
    }

    /// Nobody is known to lead in `epoch`, which is not below the one known.
    pub(super) fn become_unattached(&mut self, now_ms: i64, epoch: LeaderEpoch) -> Result<(), LogFailure> {
        // A turn that has been waited for is not lost to every stranger with a higher epoch.
        let election_deadline_ms = match &self.role {
            Role::Unattached { election_deadline_ms }
            | Role::Prospective { election_deadline_ms, .. }
            | Role::Candidate { election_deadline_ms, .. }
                if *election_deadline_ms > now_ms =>
            {
                *election_deadline_ms
            }
            _ => now_ms + self.draw_election_timeout(),
        };
        if epoch > self.state.epoch {
            self.state = ElectionState { epoch, leader_id: None, voted: None };
            self.store()?;
        }
        self.change_role(Role::Unattached { election_deadline_ms });
        Ok(())
    }

    fn become_prospective(&mut self, now_ms: i64, lost: Option<Endpoint>) -> Result<(), LogFailure> {
        let election_deadline_ms = now_ms + self.draw_election_timeout();
        self.change_role(Role::Prospective { ballot: Ballot::of(self.local.id), election_deadline_ms, lost });
        self.tick_ballot(now_ms)
    }

    /// It would not be elected, or nobody says so: it goes back to what it was.
    fn give_up_prospect(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let lost = match &mut self.role {
            Role::Prospective { lost, .. } => lost.take(),
            _ => None,
        };
        match (self.state.leader_id, lost) {
            (Some(leader), Some(endpoint)) => {
                self.become_follower(now_ms, self.state.epoch, leader, endpoint)
            }
            _ => {
                let election_deadline_ms =
                    now_ms + self.draw.below(self.settings.election_backoff_ms_max) + 1;
                self.change_role(Role::Unattached { election_deadline_ms });
                Ok(())
            }
        }
    }

    /// A follower whose leader is silent.
    pub(super) fn lose_leader(&mut self, now_ms: i64, endpoint: Endpoint) -> Result<(), LogFailure> {
        if self.may_stand() {
            return self.become_prospective(now_ms, Some(endpoint));
        }
        let election_deadline_ms = now_ms + self.draw_election_timeout();
        self.change_role(Role::Unattached { election_deadline_ms });
        Ok(())
    }

    fn become_candidate(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let epoch = LeaderEpoch(self.state.epoch.0.saturating_add(1));
        self.state = ElectionState { epoch, leader_id: None, voted: Some(self.local) };
        self.store()?;
        let election_deadline_ms = now_ms + self.draw_election_timeout();
        let ballot = Ballot::of(self.local.id);
        self.change_role(Role::Candidate { ballot, election_deadline_ms, backoff_until_ms: None });
        self.tick_ballot(now_ms)
    }

    pub(super) fn become_follower(
        &mut self,
        now_ms: i64,
        epoch: LeaderEpoch,
        leader_id: i32,
        endpoint: Endpoint,
    ) -> Result<(), LogFailure> {
        let voted = self.state.voted.filter(|_| epoch == self.state.epoch);
        let state = ElectionState { epoch, leader_id: Some(leader_id), voted };
        if state != self.state {
            self.state = state;
            self.store()?;
        }
        self.change_role(Role::Follower(Following {
            leader_id,
            endpoint,
            fetch_deadline_ms: now_ms + self.settings.fetch_timeout_ms,
            has_fetched: false,
            download: None,
            update_due_ms: now_ms,
        }));
        Ok(())
    }

    /// The voters by what they have of the log, most first: they should stand in that order.
    pub(super) fn become_resigned(&mut self, now_ms: i64) {
        let preferred: Vec<ReplicaKey> = match &self.role {
            Role::Leader(office) => office.voters_by_progress(self.membership.voters(), &self.local),
            _ => Vec::new(),
        };
        let untold = self.other_voter_ids().collect();
        let election_deadline_ms = now_ms + self.draw_election_timeout();
        self.change_role(Role::Resigned { election_deadline_ms, preferred, untold });
    }

    /// Answers that belong to what the node was do not matter any more; who waits for its decisions hears that it
    /// decides nothing now.
    pub(super) fn change_role(&mut self, role: Role) {
        self.calls.forget();
        if let Role::Leader(office) = std::mem::replace(&mut self.role, role) {
            self.leave_office(*office);
        }
    }
}
