//! What a membership protocol asks of the world and is told by it. The protocols decide ([`super::classic`],
//! [`super::reconciling`]); the driver does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::types::Uuid;

use super::super::error::ClientError;
use super::super::options::Backoff;
use super::assignor::{Layout, Part};
use super::{Identity, MembershipError};

/// After so many failures in a row of a kind that may pass, the group is given up: a minute or so.
const FAILURES_MAX: u32 = 60;

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// To be asked; the answer comes back through [`Protocol::answered`]. One at a time.
    Ask(Box<Question>),
    /// The reader is to be told.
    Tell(Told),
    /// Nothing before this time, unless something comes.
    Wait(Option<Duration>),
    /// The membership has failed for good.
    Fail(MembershipError),
}

/// What the reader is told. After [`Told::Revoke`] it says when it has let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// These come to what is read already; none where the group has settled without more for this member.
    Assigned(Vec<Part>),
    Revoke(Vec<Part>),
    Lost(Vec<Part>),
}

/// What is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Question {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Reconcile(ConsumerGroupHeartbeatRequest),
    /// How many partitions these topics have.
    Layout(Vec<Arc<str>>),
    /// What the topics of these ids are called.
    Names(Vec<Uuid>),
}

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Reconcile(ConsumerGroupHeartbeatResponse),
    Layout(Layout),
    Names(BTreeMap<Uuid, Arc<str>>),
}

/// How a member says goodbye.
#[derive(Debug, PartialEq)]
pub(super) enum Goodbye {
    Classic(LeaveGroupRequest),
    Reconciling(ConsumerGroupHeartbeatRequest),
}

/// A membership protocol, from a member's side.
pub(super) trait Protocol: Send {
    /// What to do now.
    fn next(&mut self, now: Duration) -> Step;

    /// The answer to the last question, or why there is none.
    fn answered(&mut self, now: Duration, answer: Result<Answer, ClientError>);

    /// The reader has let go of what it was told to give up.
    fn released(&mut self, now: Duration);

    /// Topics beyond the subscription whose partitions this member must keep an eye on.
    fn watched(&self) -> Vec<Arc<str>>;

    /// What is subscribed to by name, and how many partitions that and what is watched have now.
    fn subscribed(&mut self, now: Duration, topics: &BTreeSet<Arc<str>>, layout: &Layout);

    /// The reader has not come back for too long: others shall have its partitions.
    fn pause(&mut self) -> Option<Goodbye>;

    /// The reader is back.
    fn resume(&mut self, now: Duration);

    /// How to leave for good; `None` where there is nothing to leave, or a static member stays.
    fn goodbye(&self) -> Option<Goodbye>;

    /// Under what name offsets may be committed now.
    fn identity(&self) -> Identity;
}

/// What both protocols keep alike: what is to be told, and how patience runs out.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub(super) told: VecDeque<Told>,
    pub(super) failed: Option<MembershipError>,
    pub(super) is_asking: bool,
    pub(super) backoff: Backoff,
    failures: u32,
}

impl Common {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Default::default() }
    }

    /// What comes before anything the protocol wants.
    pub(super) fn first(&mut self) -> Option<Step> {
        if let Some(told) = self.told.pop_front() {
            return Some(Step::Tell(told));
        }
        if let Some(error) = self.failed.clone() {
            return Some(Step::Fail(error));
        }
        self.is_asking.then_some(Step::Wait(None))
    }

    pub(super) fn ask(&mut self, question: Question) -> Step {
        self.is_asking = true;
        Step::Ask(Box::new(question))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When to try again after one more failure; gives up after too many.
    pub(super) fn after_failure(&mut self, now: Duration, error: ClientError) -> Duration {
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.failed = Some(error.into());
        }
        now + self.backoff.after(self.failures)
    }
}
