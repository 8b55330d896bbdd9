//! The follower: it fetches, cuts off what its leader does not have, and takes snapshots where the leader's log begins
//! later than its own ends.

use bytes::Bytes;

use crate::protocol::ErrorCode;
use crate::types::Offset;

use super::Quorum;
use super::log::{AppendRefused, LogFailure, QuorumLog};
use super::message::{AddVoter, Content, EpochEnd, FetchSnapshot, Fetched, Leadership, Request, UpdateVoter};
use super::role::Role;
use super::voters::Voter;

/// How often a leader is told of endpoints that it does not have in its set of voters.
const UPDATE_EVERY_MS: i64 = 3_000;

/// A part of a snapshot, as it came.
#[derive(Debug)]
pub(super) struct Part {
    pub error: ErrorCode,
    pub size: u64,
    pub position: u64,
    pub bytes: Bytes,
}

impl<L: QuorumLog> Quorum<L> {
    pub(super) fn tick_follower(&mut self, now_ms: i64) -> Result<(), LogFailure> {
        let Role::Follower(following) = &mut self.role else { return Ok(()) };
        let (leader_id, endpoint) = (following.leader_id, following.endpoint.clone());
        if following.fetch_deadline_ms <= now_ms {
            self.lose_leader(now_ms, endpoint)?;
            // What comes next is due now.
            return if matches!(self.role, Role::Follower(_)) { Ok(()) } else { self.tick(now_ms) };
        }
        let download = following.download;
        if let Some(request) = self.place_due(now_ms) {
            self.send(now_ms, leader_id, endpoint, request);
            return Ok(());
        }
        let request = match download {
            Some((snapshot, position)) => Request::FetchSnapshot(FetchSnapshot {
                replica: self.local,
                epoch: self.state.epoch,
                snapshot,
                position,
                bytes_max: self.settings.fetch_bytes_max,
            }),
            None => Request::Fetch(self.next_fetch(self.settings.fetch_wait_ms_max)),
        };
        self.send(now_ms, leader_id, endpoint, request);
        Ok(())
    }

    /// A voter that listens elsewhere than its leader knows says so, between two fetches; so does one whose directory was
    /// lost, and that has everything again: its leader gives it its place back. One that never voted asks for its vote,
    /// where it was told to (`controller.quorum.auto.join.enable`).
    fn place_due(&mut self, now_ms: i64) -> Option<Request> {
        if self.membership.kraft_version() < 1 || self.endpoints.is_empty() {
            return None;
        }
        let voter = Voter {
            key: self.local,
            endpoints: self.endpoints.clone(),
            kraft_versions: super::change::KRAFT_VERSIONS,
        };
        let joins = self.settings.joins && self.may_vote;
        let is_due = match self.membership.voters().get(self.local.id) {
            Some(known) if known.key == self.local => {
                self.takes_place_back = false;
                *known != voter
            }
            Some(known) if known.key.matches(&self.local) => false,
            Some(_) => {
                let is_expected = joins || self.membership.is_configured(self.local.id);
                self.takes_place_back = self.may_vote && is_expected;
                self.takes_place_back
            }
            None => joins || self.takes_place_back,
        };
        if !is_due {
            return None;
        }
        let is_stranger = self.membership.voters().get(self.local.id).is_none() && !self.takes_place_back;
        let Role::Follower(following) = &mut self.role else { return None };
        let leader_id = following.leader_id;
        if !following.has_fetched
            || following.update_due_ms > now_ms
            || !self.calls.is_ready(leader_id, now_ms)
        {
            return None;
        }
        following.update_due_ms = now_ms + UPDATE_EVERY_MS;
        Some(if is_stranger {
            Request::AddVoter(AddVoter { voter, timeout_ms: self.settings.request_timeout_ms })
        } else {
            Request::UpdateVoter(UpdateVoter { epoch: self.state.epoch, voter })
        })
    }

    /// What came of a fetch.
    pub(super) fn fetched(&mut self, now_ms: i64, target: i32, fetched: Fetched) -> Result<(), LogFailure> {
        self.learn(now_ms, &fetched.leadership)?;
        if fetched.error != ErrorCode::None || fetched.leadership.epoch != self.state.epoch {
            self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
            return Ok(());
        }
        let Role::Follower(following) = &mut self.role else { return Ok(()) };
        if following.leader_id != target && target >= 0 {
            return Ok(());
        }
        following.fetch_deadline_ms = now_ms + self.settings.fetch_timeout_ms;
        following.has_fetched = true;
        match fetched.content {
            Content::Diverging(end) => self.cut_off(end)?,
            Content::Snapshot(snapshot) => {
                if self.high_watermark.is_none_or(|known| known <= snapshot.end_offset) {
                    following.download = Some((snapshot, 0));
                }
            }
            Content::Records(records) => {
                if !self.take_in(now_ms, target, &records)? {
                    return Ok(());
                }
                self.raise_to(fetched.high_watermark)?;
            }
        }
        Ok(())
    }

    /// Appends what the leader sent; false where it could not be taken.
    fn take_in(&mut self, now_ms: i64, target: i32, records: &Bytes) -> Result<bool, LogFailure> {
        if records.is_empty() {
            return Ok(true);
        }
        let from = self.log.end_offset();
        match self.log.append_as_follower(records) {
            Ok(()) => {
                self.log.flush()?;
                self.membership.read_control_records(from, records);
                Ok(true)
            }
            Err(AppendRefused::Damaged(_)) => {
                // Asked for again; what is damaged on the leader's disk is damaged then as well, and the leader is
                // told by the fetches that do not get on.
                self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
                Ok(false)
            }
            Err(AppendRefused::Failed(failure)) => Err(failure),
        }
    }

    fn raise_to(&mut self, leaders: Offset) -> Result<(), LogFailure> {
        if leaders < Offset::ZERO {
            return Ok(());
        }
        self.raise_high_watermark(leaders);
        if !self.may_vote && self.log.end_offset() >= leaders {
            self.log.allow_vote()?;
            self.may_vote = true;
        }
        Ok(())
    }

    /// Cuts off what the leader does not have: everything behind the end of the last epoch that both know.
    fn cut_off(&mut self, leaders: EpochEnd) -> Result<(), LogFailure> {
        let own = self.log.epoch_end(leaders.epoch);
        let shared =
            if own.epoch == leaders.epoch { own.end_offset.min(leaders.end_offset) } else { own.end_offset };
        let end_offset = shared.max(self.log.start_offset()).min(self.log.end_offset());
        if self.high_watermark.is_some_and(|known| end_offset < known) {
            return Err(LogFailure(format!(
                "the leader of epoch {} has no records of epoch {} beyond offset {end_offset}, but everything before {} \
                 was agreed on: one of the two logs has lost what it had",
                self.state.epoch,
                leaders.epoch,
                self.high_watermark.unwrap_or_default()
            )));
        }
        self.log.truncate(end_offset)?;
        self.membership.truncate(end_offset);
        self.log.flush()
    }

    pub(super) fn snapshot_fetched(
        &mut self,
        now_ms: i64,
        target: i32,
        asked: &FetchSnapshot,
        leadership: &Leadership,
        part: &Part,
    ) -> Result<(), LogFailure> {
        self.learn(now_ms, leadership)?;
        let Role::Follower(following) = &mut self.role else { return Ok(()) };
        if following.leader_id != target || following.download != Some((asked.snapshot, asked.position)) {
            return Ok(());
        }
        if part.error != ErrorCode::None || part.position != asked.position || asked.epoch != self.state.epoch
        {
            // It may have been replaced by a newer one: the next fetch says.
            following.download = None;
            self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
            return Ok(());
        }
        following.fetch_deadline_ms = now_ms + self.settings.fetch_timeout_ms;
        let next = part.position + part.bytes.len() as u64;
        following.download = (!part.bytes.is_empty() || next >= part.size).then_some((asked.snapshot, next));
        self.log.write_snapshot(asked.snapshot, part.position, &part.bytes)?;
        if next < part.size {
            return Ok(());
        }
        if let Role::Follower(following) = &mut self.role {
            following.download = None;
        }
        match self.log.install_snapshot(asked.snapshot, &mut self.membership) {
            Ok(()) => {
                self.raise_high_watermark(asked.snapshot.end_offset);
                Ok(())
            }
            Err(AppendRefused::Damaged(_)) => {
                self.calls.back_off(target, now_ms + self.settings.retry_backoff_ms);
                Ok(())
            }
            Err(AppendRefused::Failed(failure)) => Err(failure),
        }
    }
}
