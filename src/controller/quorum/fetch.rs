//! Fetches of the metadata log, as the leader answers them: records, where the logs part, or a snapshot.

use crate::protocol::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

use super::Quorum;
use super::leader::Parked;
use super::log::{LogFailure, QuorumLog};
use super::message::{Content, Fetch, FetchSnapshot, Fetched, Request, Response, SnapshotId};
use super::role::Role;

impl<L: QuorumLog> Quorum<L> {
    /// Answers a fetch, now or when there is something new.
    pub(super) fn fetch_requested(
        &mut self,
        now_ms: i64,
        token: u64,
        fetch: Fetch,
    ) -> Result<(), LogFailure> {
        if let Some(error) = self.not_leading_in(fetch.epoch) {
            let fetched = Fetched::refusing(error, self.leadership());
            self.answer(token, Response::Fetch(fetched));
            return Ok(());
        }
        let fetched = self.content_for(&fetch)?;
        let is_behind = match &fetched.content {
            Content::Records(_) => self.high_watermark.is_some_and(|offset| fetch.high_watermark < offset),
            Content::Diverging(_) | Content::Snapshot(_) => true,
        };
        if fetch.replica.id >= 0 && matches!(fetched.content, Content::Records(_)) {
            self.note_progress(now_ms, fetch.replica, fetch.offset)?;
        }
        // Noting may have ended the term: a voter's removal counts with the last copy.
        let nothing_new = fetch.offset >= self.log.end_offset() && !is_behind;
        if nothing_new
            && fetch.wait_ms_max > 0
            && let Role::Leader(office) = &mut self.role
        {
            let deadline_ms = now_ms + fetch.wait_ms_max;
            office.parked.push(Parked { token, fetch, deadline_ms });
            return Ok(());
        }
        let high_watermark = self.high_watermark.unwrap_or(Offset::UNKNOWN);
        self.answer(token, Response::Fetch(Fetched { high_watermark, ..fetched }));
        Ok(())
    }

    /// Why a request that only the leader of `epoch` may answer is refused.
    pub(super) fn not_leading_in(&self, epoch: LeaderEpoch) -> Option<ErrorCode> {
        if epoch.0 >= 0 && epoch < self.state.epoch {
            return Some(ErrorCode::FencedLeaderEpoch);
        }
        if epoch > self.state.epoch {
            return Some(ErrorCode::UnknownLeaderEpoch);
        }
        (!matches!(self.role, Role::Leader(_))).then_some(ErrorCode::NotLeaderOrFollower)
    }

    pub(super) fn content_for(&self, fetch: &Fetch) -> Result<Fetched, LogFailure> {
        let content = match self.where_logs_part(fetch.offset, fetch.last_fetched_epoch) {
            Some(content) => content,
            None => Content::Records(self.log.read(fetch.offset, fetch.bytes_max)?),
        };
        Ok(Fetched {
            error: ErrorCode::None,
            leadership: self.leadership(),
            high_watermark: self.high_watermark.unwrap_or(Offset::UNKNOWN),
            log_start_offset: self.log.start_offset(),
            content,
        })
    }

    /// `None` where a log that ends at `offset` with a record of `epoch` is a part of this one.
    fn where_logs_part(&self, offset: Offset, epoch: LeaderEpoch) -> Option<Content> {
        let start_offset = self.log.start_offset();
        if start_offset == Offset::ZERO && offset == start_offset {
            return None;
        }
        let end = self.log.epoch_end(epoch);
        // What both have in common, if anything, is in the snapshot: nothing of this log goes on from there.
        let is_before =
            offset < start_offset || end.epoch > epoch || (offset == start_offset && end.epoch != epoch);
        if is_before && let Some(snapshot) = self.log.latest_snapshot() {
            return Some(Content::Snapshot(snapshot));
        }
        (end.epoch != epoch || end.end_offset < offset).then_some(Content::Diverging(end))
    }

    /// Answers a fetch of a part of a snapshot.
    pub(super) fn snapshot_requested(
        &mut self,
        now_ms: i64,
        fetch: &FetchSnapshot,
    ) -> Result<Response, LogFailure> {
        if let Some(error) = self.not_leading_in(fetch.epoch) {
            return Ok(self.no_snapshot(error, fetch.snapshot));
        }
        let Some(part) = self.log.read_snapshot(fetch.snapshot, fetch.position, fetch.bytes_max)? else {
            return Ok(self.no_snapshot(ErrorCode::SnapshotNotFound, fetch.snapshot));
        };
        if fetch.position > part.size {
            return Ok(self.no_snapshot(ErrorCode::PositionOutOfRange, fetch.snapshot));
        }
        // Whoever fetches a snapshot is alive, however long that takes.
        let known = match &self.role {
            Role::Leader(office) => office.progress(&fetch.replica).map(|progress| progress.offset),
            _ => None,
        };
        if fetch.replica.id >= 0 {
            self.note_progress(now_ms, fetch.replica, known.unwrap_or(Offset::UNKNOWN))?;
        }
        Ok(Response::FetchSnapshot {
            error: ErrorCode::None,
            leadership: self.leadership(),
            snapshot: fetch.snapshot,
            size: part.size,
            position: fetch.position,
            bytes: part.bytes,
        })
    }

    fn no_snapshot(&self, error: ErrorCode, snapshot: SnapshotId) -> Response {
        Response::FetchSnapshot {
            error,
            leadership: self.leadership(),
            snapshot,
            size: 0,
            position: 0,
            bytes: bytes::Bytes::new(),
        }
    }

    /// Asks one of those who may know who leads.
    pub(super) fn look_for_leader(&mut self, now_ms: i64) {
        let voters = self.other_voters();
        let targets: Vec<(i32, super::Endpoint)> = if voters.is_empty() {
            let number = |place: usize| -2 - i32::try_from(place).unwrap_or(0);
            self.bootstrap
                .iter()
                .cloned()
                .enumerate()
                .map(|(place, endpoint)| (number(place), endpoint))
                .collect()
        } else {
            voters.into_iter().map(|(key, endpoint)| (key.id, endpoint)).collect()
        };
        let count = i64::try_from(targets.len()).unwrap_or(0);
        let Ok(drawn) = usize::try_from(self.draw.below(count)) else { return };
        // One at a time: whoever is asked first most likely knows.
        let is_asking = targets.iter().any(|(id, _)| self.calls.is_open(*id));
        if let Some((target, endpoint)) = targets.into_iter().nth(drawn).filter(|_| !is_asking) {
            let request = Request::Fetch(self.next_fetch(0));
            self.send(now_ms, target, endpoint, request);
        }
    }

    /// The fetch that goes on where the log ends.
    pub(super) fn next_fetch(&self, wait_ms_max: i64) -> Fetch {
        Fetch {
            replica: self.local,
            epoch: self.state.epoch,
            offset: self.log.end_offset(),
            last_fetched_epoch: self.log.last_epoch(),
            high_watermark: self.high_watermark.unwrap_or(Offset::UNKNOWN),
            bytes_max: self.settings.fetch_bytes_max,
            wait_ms_max,
        }
    }
}
