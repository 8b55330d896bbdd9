//! A term as the active controller: requests are decided on the image as it will be, and answered once it is.

use std::sync::Arc;

use crate::protocol::ErrorCode;
use crate::types::LeaderEpoch;

use super::super::decision::{Answer, Context, Decision, Refusal};
use super::super::driver::{self, Job, Pending, level_of};
use super::super::quorum::{QuorumLog, RoleName};
use super::super::term::{Around, Term, opening};
use super::Member;

/// A term, and who waits for what was decided in it.
pub(super) type Office = Term<Vec<Box<dyn Job>>>;

/// Refuses what waits.
pub(super) fn refuse(office: Office, refusal: &Refusal) {
    for job in office.end().flatten() {
        job.answer(Some(refusal));
    }
}

/// The answer of what nobody has asked for.
impl Answer for () {
    fn refuse(&mut self, _: &Refusal) {}
}

impl Member {
    /// Takes office where this node leads and has everything that was agreed on before its term.
    pub(super) fn take_office(&mut self) {
        let (Some(epoch_start), Some(high_watermark)) =
            (self.quorum.epoch_start(), self.quorum.high_watermark())
        else {
            return;
        };
        if self.office.is_some() || high_watermark <= epoch_start {
            return;
        }
        let timeout_ms = self.config.cluster.session_timeout_ms;
        let image = Arc::clone(&self.image);
        self.office = Some(Office::begin(self.quorum.epoch(), image, timeout_ms, self.elapsed_ms()));
        tracing::info!(epoch = self.quorum.epoch().0, "this node is the active controller");
        let features = self.bootstrap.clone();
        let begin =
            move |context: &mut Context<'_>| Decision { records: opening(context, &features), answer: () };
        self.decide(vec![Box::new(Pending::unasked(begin))]);
    }

    /// Leaves office where the term is over: what was not agreed on counts for nothing here.
    pub(super) fn leave_office(&mut self) {
        let leads = self.quorum.role() == RoleName::Leader;
        let is_over = |office: &mut Office| !leads || office.epoch() != self.quorum.epoch();
        if let Some(office) = self.office.take_if(is_over) {
            tracing::info!(epoch = office.epoch().0, "this node is no longer the active controller");
            refuse(office, &Refusal::new(ErrorCode::NotController, "The controller has changed."));
        }
    }

    /// When the office wants to be looked at, on the clock that never jumps.
    pub(super) fn office_deadline_ms(&self) -> i64 {
        let deadline_ms = self.office.as_ref().and_then(Office::next_deadline_ms);
        deadline_ms.unwrap_or(i64::MAX)
    }

    /// What the time asks the active controller for: silent brokers are fenced, leaders balanced.
    pub(super) fn tick_office(&mut self) {
        if self.office_deadline_ms() <= self.elapsed_ms() {
            self.decide(vec![driver::due()]);
        }
    }

    /// Decides on a group of requests. Where this node is not in office they are dropped: who asked asks the one
    /// who is.
    pub(super) fn decide(&mut self, mut group: Vec<Box<dyn Job>>) {
        let elapsed_ms = self.elapsed_ms();
        if let Some(refusal) = &self.failure {
            return group.into_iter().for_each(|job| job.answer(Some(refusal)));
        }
        let Some(office) = &mut self.office else { return };
        let now_ms = self.clock.now_ms();
        let level = level_of(office.image());
        let epoch = office.epoch();
        let (mut builder, mut desk) = office.desk(Around {
            config: &self.config,
            static_config: &self.static_config,
            node_id: self.node_id,
            cluster_id: &self.cluster_id,
            elapsed_ms,
            next_offset: self.quorum.log().end_offset().0,
        });
        let log = &mut self.quorum.log_mut().inner;
        let decided = driver::decide_all(&mut group, &mut builder, &mut desk, |records, out| {
            log.encode(records, level, now_ms, out)
        });
        let appends = match decided {
            Ok(appends) => appends,
            Err(error) => {
                // Nothing was written, and what was decided is forgotten.
                let refusal = Refusal::new(ErrorCode::InvalidRequest, error.to_string());
                return group.into_iter().for_each(|job| job.answer(Some(&refusal)));
            }
        };
        if !self.append(epoch, &appends) {
            return;
        }
        let end_offset = self.quorum.log().end_offset();
        let Some(office) = &mut self.office else { return };
        let builder = Some(builder).filter(|_| !appends.is_empty());
        if let Some(group) = office.decided(builder, end_offset, group) {
            return group.into_iter().for_each(|job| job.answer(None));
        }
        if !appends.is_empty() {
            self.maintain();
        }
    }

    /// Writes what was decided. `false` where the term is over, or the disk failed.
    fn append(&mut self, epoch: LeaderEpoch, appends: &[Vec<u8>]) -> bool {
        let now_ms = self.now_ms();
        for bytes in appends {
            match self.quorum.append(now_ms, epoch, bytes) {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(failure) => {
                    self.fail(&failure.0);
                    return false;
                }
            }
        }
        true
    }
}
