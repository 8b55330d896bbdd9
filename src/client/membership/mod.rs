//! Membership in a consumer group: which partitions are this reader's now, by either of Kafka's protocols.
//!
//! - [`Membership`]: joins, heartbeats, rebalances and leaves in the background; tells the reader what it may read.
//! - [`Group`]: the group at its coordinator: committed offsets, read and written.
//! - [`Assignor`]: what the leader of a classic group shares out by.
//!
//! The reader's side of the bargain: after [`MembershipEvent::Revoked`] it stops reading those partitions, commits what
//! it has done, and calls [`Membership::released`]; until then nobody else gets them (as long as it does so within
//! `max.poll.interval.ms`). What is [`MembershipEvent::Lost`] is others' already: commits for it are refused.

mod assignor;
mod classic;
mod driver;
mod group;
mod protocol;
mod reconciling;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use regex::Regex;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::protocol::Str;
use crate::types::TopicPartition;

use super::config::{GroupOptions, GroupProtocol};
use super::error::ClientError;

pub use assignor::Assignor;
pub use group::{Committed, CommittedOffsets, Group};
pub use subscription::{read_assignment, read_subscribed_topics};

/// How long leaving may take, whatever the driver waits for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Under what name a member commits; `Identity::default()` is nobody's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The member's id.
    pub member_id: Str,
    /// The classic group's generation, or the member's epoch; -1 outside of both.
    pub generation_or_epoch: i32,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
}

impl Identity {
    /// Whether it is a member's, of some generation.
    #[must_use]
    pub fn is_member(&self) -> bool {
        !self.member_id.is_empty() && self.generation_or_epoch > 0
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self { member_id: Str::empty(), generation_or_epoch: -1, instance_id: None }
    }
}

/// Which topics a member wants.
#[derive(Debug, Clone, Default)]
pub struct Subscription {
    /// By name.
    pub topics: BTreeSet<Arc<str>>,
    /// By pattern; topics that come later are found within `metadata.max.age.ms`.
    pub pattern: Option<Regex>,
    /// Whether the pattern passes over Kafka's own topics.
    pub excludes_internal: bool,
}

/// What the reader is told.
#[derive(Debug)]
pub enum MembershipEvent {
    /// These may be read from now on, besides what was before. None at all says that the group has settled.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: commit, then [`Membership::released`].
    Revoked(Vec<TopicPartition>),
    /// These are others' already.
    Lost(Vec<TopicPartition>),
    /// The membership has failed for good.
    Failed(MembershipError),
}

/// Why a membership failed.
#[derive(Debug, Clone, Error)]
pub enum MembershipError {
    /// Broker or network.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The group agreed on something that this member never offered.
    #[error("the group has chosen the assignor {0:?}, which klamm does not have")]
    UnknownAssignor(String),
    /// The leader sent what is no assignment.
    #[error("the group's leader sent an assignment that cannot be read")]
    UnreadableAssignment,
    /// The background work has ended without a word.
    #[error("the membership ended unexpectedly")]
    Ended,
}

/// A member of a group. [`Membership::leave`] takes leave; dropped, it stops and its session runs out.
pub struct Membership {
    events: mpsc::UnboundedReceiver<MembershipEvent>,
    commands: mpsc::UnboundedSender<driver::Command>,
    identity: Arc<Mutex<Identity>>,
    /// Since when the reader is at work, in milliseconds of the clock, plus one; 0 while it waits.
    busy_since: Arc<AtomicU64>,
    group: Group,
    task: JoinHandle<()>,
}

impl Membership {
    /// Joins in the background, on the current runtime. `member_id` is for the new protocol: unique in the world.
    #[must_use]
    pub fn join(
        group: &Group,
        subscription: Subscription,
        options: &GroupOptions,
        rack: &str,
        member_id: &str,
    ) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let (commands, given) = mpsc::unbounded_channel();
        let busy_since = Arc::<AtomicU64>::default();
        let identity = Arc::new(Mutex::new(Identity::default()));
        let rack = (!rack.is_empty()).then(|| rack.to_owned());
        let backoff = group.cluster().options().backoff;
        let (id, options) = (group.id(), options.clone());
        let patience = options.poll_interval_max;
        let protocol: Box<dyn protocol::Protocol> = match options.protocol {
            GroupProtocol::Classic => Box::new(classic::Classic::new(id, options, rack, backoff)),
            GroupProtocol::Consumer => {
                let regex = subscription.pattern.as_ref().map(|pattern| format!("(?:{pattern}).*"));
                Box::new(reconciling::Reconciling::new(
                    id,
                    member_id,
                    options,
                    rack.as_deref(),
                    regex.as_deref(),
                    backoff,
                ))
            }
        };
        let reader = driver::Reader { busy_since: Arc::clone(&busy_since), patience };
        let driver =
            driver::Driver::new(group.clone(), protocol, subscription, Arc::clone(&identity), reader);
        let task = tokio::spawn(driver.run(tell, given));
        Self { events, commands, identity, busy_since, group: group.clone(), task }
    }

    /// What comes next.
    pub async fn next(&mut self) -> MembershipEvent {
        self.events.recv().await.unwrap_or(MembershipEvent::Failed(MembershipError::Ended))
    }

    /// What is there without waiting.
    pub fn try_next(&mut self) -> Option<MembershipEvent> {
        self.events.try_recv().ok()
    }

    /// The partitions of the oldest [`MembershipEvent::Revoked`] are no longer read, and what was done is committed.
    pub fn released(&self) {
        // Where the driver has ended there is nobody to tell.
        let _ = self.commands.send(driver::Command::Released);
    }

    /// The reader is at work, and may take `max.poll.interval.ms` for it.
    pub fn works(&self) {
        let now = self.group.cluster().options().clock.elapsed().as_millis();
        self.busy_since.store(u64::try_from(now).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    /// The reader waits for more: no time runs.
    pub fn waits(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// Under what name offsets are committed now.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity.lock().clone()
    }

    /// Leaves the group, so that others get the partitions at once; a static member keeps its place for as long as its
    /// session lasts. Ends within a few seconds, whatever the coordinator does.
    pub async fn leave(self) {
        let _ = self.commands.send(driver::Command::Leave);
        let clock = Arc::clone(&self.group.cluster().options().clock);
        let mut task = self.task;
        tokio::select! {
            _ = &mut task => {}
            () = clock.wait(LEAVE_TIMEOUT) => task.abort(),
        }
    }
}
