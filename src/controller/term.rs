//! A term of the active controller, without its log: the image as it will be once everything decided is agreed on, and
//! what waits until a majority has its records. The owner appends what was decided to the log, tells how far that is
//! agreed on, and ends the term with the quorum's.
//!
//! Promised: an answer that follows from records that are not agreed on yet waits for them; what was decided is handed
//! out in the order in which it was decided.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::metadata::{Image, ImageBuilder, MetadataRecord};
use crate::protocol::messages::abort_transaction_record::AbortTransactionRecord;
use crate::types::{LeaderEpoch, Offset};

use super::decision::Context;
use super::driver::{Desk, bootstrap};
use super::sessions::BrokerSessions;

/// See the module; `W` is who waits.
#[derive(Debug)]
pub struct Term<W> {
    epoch: LeaderEpoch,
    image: Arc<Image>,
    waiting: VecDeque<Waiting<W>>,
    pub(super) sessions: BrokerSessions,
    pub(super) next_start: usize,
}

#[derive(Debug)]
struct Waiting<W> {
    end_offset: Offset,
    image: Arc<Image>,
    who: W,
}

/// What decisions look at besides the term.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// This broker's configuration, dynamic values included.
    pub config: &'a BrokerConfig,
    /// The configuration it was started with.
    pub static_config: &'a BrokerConfig,
    /// This node.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: &'a str,
    /// Milliseconds of a clock that never goes back.
    pub elapsed_ms: i64,
    /// The offset that the next record gets.
    pub next_offset: i64,
}

impl<W> Term<W> {
    /// The term of `epoch` begins on what was agreed on; every broker counts as heard of now.
    #[must_use]
    pub fn begin(epoch: LeaderEpoch, image: Arc<Image>, session_timeout_ms: i64, elapsed_ms: i64) -> Self {
        let sessions = BrokerSessions::new(&image, session_timeout_ms, None, elapsed_ms);
        Self { epoch, image, waiting: VecDeque::new(), sessions, next_start: 0 }
    }

    /// The epoch of the quorum that it is the term of.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The image as it will be.
    #[must_use]
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Whether something that was decided is not agreed on yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The oldest that was decided, if all of it is before the high watermark.
    pub fn take_agreed(&mut self, high_watermark: Offset) -> Option<(Arc<Image>, W)> {
        self.waiting.front().filter(|oldest| oldest.end_offset <= high_watermark)?;
        let Waiting { image, who, .. } = self.waiting.pop_front()?;
        Some((image, who))
    }

    /// The quorum's own records are behind what was decided; nothing waits.
    pub fn go_on_from(&mut self, image: Arc<Image>) {
        assert!(self.waiting.is_empty(), "what was decided stays");
        self.image = image;
    }

    /// Everything that was decided up to now is in the log, which ends at `end_offset`: `builder` has made the image of
    /// it, where there were records at all. Who need not wait comes back.
    pub fn decided(&mut self, builder: Option<ImageBuilder>, end_offset: Offset, who: W) -> Option<W> {
        match builder {
            Some(builder) => self.image = Arc::new(builder.finish(end_offset, self.epoch)),
            None if self.waiting.is_empty() => return Some(who),
            None => {}
        }
        // An answer that follows from what is not agreed on yet waits for it.
        let end_offset = self.image.end_offset();
        self.waiting.push_back(Waiting { end_offset, image: Arc::clone(&self.image), who });
        None
    }

    /// The term is over: who waits.
    pub fn end(self) -> impl Iterator<Item = W> {
        self.waiting.into_iter().map(|waiting| waiting.who)
    }

    /// When time decides something next, on the clock that never goes back; see
    /// [`BrokerSessions::next_deadline_ms`].
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.sessions.next_deadline_ms(&self.image)
    }

    pub(super) fn desk<'a>(&'a mut self, around: Around<'a>) -> (ImageBuilder, Desk<'a>) {
        let desk = Desk {
            config: around.config,
            static_config: around.static_config,
            node_id: around.node_id,
            cluster_id: around.cluster_id,
            next_start: &mut self.next_start,
            sessions: &mut self.sessions,
            elapsed_ms: around.elapsed_ms,
            next_offset: around.next_offset,
        };
        (self.image.builder(), desk)
    }
}

/// The records that a term begins with, built on: a transaction that whoever led before left open counts for nothing,
/// and a log without any features gets `features`.
pub(super) fn opening(context: &mut Context<'_>, features: &[MetadataRecord]) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if context.image().in_transaction() {
        tracing::warn!(
            "a transaction of the metadata was left open by who led before; it counts for nothing"
        );
        records.push(AbortTransactionRecord::default().into());
    }
    if context.image().features().is_empty() {
        records.append(&mut bootstrap(features, context.static_config));
    }
    match context.apply(&records) {
        Ok(()) => records,
        Err(refusal) => {
            tracing::error!(why = refusal.message, "the cluster cannot begin with these features");
            Vec::new()
        }
    }
}
