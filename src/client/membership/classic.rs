//! The classic protocol, from a member's side: join, let the leader share out, sync, and heartbeat.
//!
//! ```text
//!            joined as leader          layout known
//! Unjoined ──────────────────► Sharing ─────────────► Syncing ──► Stable
//!    ▲   └──── joined ───────────────────────────────────┘          │
//!    │                                                              │ the group rebalances
//!    └── everything is let go (eager) ◄── Releasing ◄───────────────┘
//! ```
//! With a cooperative assignor nothing is let go before joining: what the new share lacks is released afterwards, and
//! the member joins again so that it can be given to others. An eager member joins with nothing in hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

use super::super::config::GroupOptions;
use super::super::error::{BrokerError, ClientError};
use super::super::options::Backoff;
use super::assignor::{Assignor, Layout, Part, Subscriber};
use super::protocol::{Answer, Common, Goodbye, Protocol, Question, Step, Told};
use super::subscription::{Wish, encode_assignment, read_assignment, read_subscription};
use super::{Identity, MembershipError};

/// Kafka's name for groups of consumers.
const PROTOCOL_TYPE: &str = "consumer";

/// A member of a classic group.
pub(super) struct Classic {
    group: Str,
    options: GroupOptions,
    rack: Option<String>,
    common: Common,
    topics: BTreeSet<Arc<str>>,
    state: State,
    member_id: Str,
    generation: i32,
    assignor: Option<Assignor>,
    /// What the reader may read.
    owned: BTreeSet<Part>,
    /// What it had in the last generation, for assignors that keep it.
    previous: Vec<Part>,
    /// Where this member led the group: the topics it shared out, and their partitions then.
    shared_out: Option<Layout>,
    next_heartbeat: Duration,
    /// The group has moved on while the reader lets go.
    must_rejoin: bool,
}

#[derive(Debug)]
enum State {
    /// Outside, and may join from this time on.
    Unjoined(Duration),
    Joining,
    /// The leader needs to know what there is before it shares out.
    Sharing(Vec<JoinGroupResponseMember>),
    /// To be sent, with the leader's shares.
    Synced(Vec<SyncGroupRequestAssignment>),
    Syncing,
    Stable,
    /// The reader lets these go; then this share is what it has.
    Releasing {
        gone: BTreeSet<Part>,
        then: Then,
    },
    /// The reader has been away for too long.
    Paused,
}

#[derive(Debug)]
enum Then {
    Join,
    /// Takes what is new, and joins again for what others may have now.
    Take(BTreeSet<Part>),
}

impl Classic {
    pub(super) fn new(group: &str, options: GroupOptions, rack: Option<String>, backoff: Backoff) -> Self {
        Self {
            group: group.into(),
            options,
            rack,
            common: Common::new(backoff),
            topics: BTreeSet::new(),
            state: State::Unjoined(Duration::ZERO),
            member_id: Str::empty(),
            generation: -1,
            assignor: None,
            owned: BTreeSet::new(),
            previous: Vec::new(),
            shared_out: None,
            next_heartbeat: Duration::ZERO,
            must_rejoin: false,
        }
    }

    /// Whether partitions are kept while the group rebalances: only where every assignor can.
    fn is_cooperative(&self) -> bool {
        self.options.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    fn instance_id(&self) -> Option<Str> {
        self.options.instance_id.as_deref().map(Into::into)
    }

    fn join(&mut self) -> Step {
        let owned: Vec<Part> = self.owned.iter().cloned().collect();
        let is_cooperative = self.is_cooperative();
        let wish = Wish {
            topics: self.topics.iter().map(|topic| &**topic).collect(),
            owned: if is_cooperative { &owned } else { &self.previous },
            generation: self.generation,
            rack: self.rack.as_deref(),
        };
        let protocol = |&assignor: &Assignor| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: wish.encode(assignor, is_cooperative),
            ..Default::default()
        };
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.poll_interval_max),
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: self.options.assignors.iter().map(protocol).collect(),
            ..Default::default()
        };
        self.state = State::Joining;
        self.must_rejoin = false;
        self.common.ask(Question::Join(request))
    }

    fn sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) -> Step {
        self.state = State::Syncing;
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: self.assignor.map(|assignor| assignor.name().into()),
            assignments,
            ..Default::default()
        };
        self.common.ask(Question::Sync(request))
    }

    fn heartbeat(&mut self, now: Duration) -> Step {
        if now < self.next_heartbeat {
            return Step::Wait(Some(self.next_heartbeat));
        }
        self.next_heartbeat = now + self.options.heartbeat_interval;
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            ..Default::default()
        };
        self.common.ask(Question::Heartbeat(request))
    }

    fn joined(&mut self, now: Duration, response: JoinGroupResponse) {
        let code = ErrorCode::from_wire(response.error_code);
        match code {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id;
                self.state = State::Unjoined(now);
                return;
            }
            code => return self.refused(now, code),
        }
        self.common.succeeded();
        self.member_id = response.member_id;
        self.generation = response.generation_id;
        self.next_heartbeat = now + self.options.heartbeat_interval;
        let protocol = response.protocol_name.unwrap_or_default();
        self.assignor = Assignor::from_name(&protocol);
        if self.assignor.is_none() {
            self.common.failed = Some(MembershipError::UnknownAssignor(protocol.to_string()));
            return;
        }
        let leads = response.leader == self.member_id && !response.skip_assignment;
        self.shared_out = None;
        self.state = if leads { State::Sharing(response.members) } else { State::Synced(Vec::new()) };
    }

    /// The leader's part: who gets what.
    fn share_out(&mut self, now: Duration, answer: Result<Answer, ClientError>) {
        let State::Sharing(members) = std::mem::replace(&mut self.state, State::Unjoined(now)) else {
            return;
        };
        let (layout, assignor) = match (answer, self.assignor) {
            (Ok(Answer::Layout(layout)), Some(assignor)) => (layout, assignor),
            (Err(error), _) => {
                self.state = State::Unjoined(self.common.after_failure(now, error));
                return;
            }
            _ => return,
        };
        let subscribers: Vec<Subscriber> =
            members.iter().map(|member| subscriber(assignor, member)).collect();
        let shares = assignor.assign(&subscribers, &layout);
        let assignments = members.iter().zip(shares).map(|(member, share)| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: encode_assignment(&share),
            ..Default::default()
        });
        self.state = State::Synced(assignments.collect());
        self.shared_out = Some(layout);
    }

    fn synced(&mut self, now: Duration, response: SyncGroupResponse) {
        match ErrorCode::from_wire(response.error_code) {
            ErrorCode::None => {}
            code => return self.refused(now, code),
        }
        let Some(share) = read_assignment(response.assignment) else {
            self.common.failed = Some(MembershipError::UnreadableAssignment);
            return;
        };
        self.common.succeeded();
        let share: BTreeSet<Part> = share.into_iter().collect();
        let gone: BTreeSet<Part> = self.owned.difference(&share).cloned().collect();
        if gone.is_empty() {
            self.take(share);
            self.state = State::Stable;
        } else {
            self.release(gone, Then::Take(share));
        }
    }

    fn take(&mut self, share: BTreeSet<Part>) {
        let added = share.difference(&self.owned).cloned().collect();
        self.previous = share.iter().cloned().collect();
        self.owned = share;
        self.common.told.push_back(Told::Assigned(added));
    }

    fn release(&mut self, gone: BTreeSet<Part>, then: Then) {
        self.common.told.push_back(Told::Revoke(gone.iter().cloned().collect()));
        self.state = State::Releasing { gone, then };
    }

    /// The group rebalances, or this member wants it to.
    fn rejoin(&mut self, now: Duration) {
        if self.owned.is_empty() || self.is_cooperative() {
            self.state = State::Unjoined(now);
        } else {
            self.release(self.owned.clone(), Then::Join);
        }
    }

    /// What was owned is others' already.
    fn lose(&mut self, now: Duration) {
        self.generation = -1;
        self.previous.clear();
        self.state = State::Unjoined(now);
        let owned = std::mem::take(&mut self.owned);
        if !owned.is_empty() {
            self.common.told.push_back(Told::Lost(owned.into_iter().collect()));
        }
    }

    /// What a refusal of Join or Sync comes to.
    fn refused(&mut self, now: Duration, code: ErrorCode) {
        match code {
            ErrorCode::UnknownMemberId => {
                self.member_id = Str::empty();
                self.lose(now);
            }
            ErrorCode::IllegalGeneration => self.lose(now),
            ErrorCode::RebalanceInProgress => self.state = State::Unjoined(now),
            code if code.is_retriable() => {
                self.state = State::Unjoined(self.common.after_failure(now, self.error(code)));
            }
            code => self.common.failed = Some(self.error(code).into()),
        }
    }

    fn error(&self, code: ErrorCode) -> ClientError {
        BrokerError { code, about: format!("group {}", self.group), message: None }.into()
    }

    fn beaten(&mut self, now: Duration, answer: Result<ErrorCode, ClientError>) {
        match answer {
            Ok(ErrorCode::None) => self.common.succeeded(),
            Ok(ErrorCode::RebalanceInProgress) => match self.state {
                State::Stable => self.rejoin(now),
                _ => self.must_rejoin = true,
            },
            Ok(ErrorCode::UnknownMemberId) => {
                self.member_id = Str::empty();
                self.lose(now);
            }
            Ok(ErrorCode::IllegalGeneration) => self.lose(now),
            Ok(code) if code.is_retriable() => {
                self.next_heartbeat = self.common.after_failure(now, self.error(code));
            }
            Ok(code) => self.common.failed = Some(self.error(code).into()),
            Err(error) => self.next_heartbeat = self.common.after_failure(now, error),
        }
    }
}

impl Protocol for Classic {
    fn next(&mut self, now: Duration) -> Step {
        if let Some(step) = self.common.first() {
            return step;
        }
        match &mut self.state {
            State::Unjoined(from) if now < *from => Step::Wait(Some(*from)),
            State::Unjoined(_) => self.join(),
            State::Sharing(members) => {
                let topics = topics_of(self.assignor, members);
                self.common.ask(Question::Layout(topics))
            }
            State::Synced(assignments) => {
                let assignments = std::mem::take(assignments);
                self.sync(assignments)
            }
            State::Stable if self.must_rejoin => {
                self.must_rejoin = false;
                self.rejoin(now);
                self.next(now)
            }
            State::Stable | State::Releasing { .. } => self.heartbeat(now),
            State::Joining | State::Syncing | State::Paused => Step::Wait(None),
        }
    }

    fn answered(&mut self, now: Duration, answer: Result<Answer, ClientError>) {
        self.common.is_asking = false;
        match (&self.state, answer) {
            (State::Paused, _) => {}
            (State::Joining, Ok(Answer::Join(response))) => self.joined(now, response),
            (State::Syncing, Ok(Answer::Sync(response))) => self.synced(now, response),
            (State::Sharing(_), answer) => self.share_out(now, answer),
            (State::Joining | State::Syncing, Err(error)) => match error.code() {
                Some(code) => self.refused(now, code),
                None if error.is_retriable() => {
                    self.state = State::Unjoined(self.common.after_failure(now, error));
                }
                None => self.common.failed = Some(error.into()),
            },
            (_, Ok(Answer::Heartbeat(response))) => {
                self.beaten(now, Ok(ErrorCode::from_wire(response.error_code)));
            }
            (_, Err(error)) => self.beaten(now, Err(error)),
            // An answer to a question of before: the state has moved on without it.
            (_, Ok(_)) => {}
        }
    }

    fn released(&mut self, now: Duration) {
        match std::mem::replace(&mut self.state, State::Unjoined(now)) {
            State::Releasing { gone, then } => {
                self.owned.retain(|part| !gone.contains(part));
                if let Then::Take(share) = then {
                    self.take(share);
                    // What was let go can be given to another only in a new generation.
                    self.must_rejoin = true;
                    self.state = State::Stable;
                }
            }
            // What it let go was lost before it had.
            state => self.state = state,
        }
    }

    fn watched(&self) -> Vec<Arc<str>> {
        self.shared_out.iter().flatten().map(|(topic, _)| Arc::clone(topic)).collect()
    }

    fn subscribed(&mut self, now: Duration, topics: &BTreeSet<Arc<str>>, layout: &Layout) {
        let has_changed = self.shared_out.as_ref().is_some_and(|shared_out| {
            let count = |layout: &Layout, topic: &Arc<str>| layout.get(topic).copied().unwrap_or(0);
            let mut either = shared_out.keys().chain(topics);
            either.any(|topic| count(shared_out, topic) != count(layout, topic))
        });
        if self.topics == *topics && !has_changed {
            return;
        }
        self.topics.clone_from(topics);
        match self.state {
            State::Stable if !self.common.is_asking => self.rejoin(now),
            State::Unjoined(_) | State::Paused => {}
            _ => self.must_rejoin = true,
        }
    }

    fn pause(&mut self) -> Option<Goodbye> {
        let goodbye = self.goodbye();
        self.lose(Duration::ZERO);
        if goodbye.is_some() {
            self.member_id = Str::empty();
        }
        self.state = State::Paused;
        goodbye
    }

    fn resume(&mut self, now: Duration) {
        if matches!(self.state, State::Paused) {
            self.state = State::Unjoined(now);
        }
    }

    fn goodbye(&self) -> Option<Goodbye> {
        if self.member_id.is_empty() || self.options.instance_id.is_some() {
            return None;
        }
        let member = MemberIdentity { member_id: self.member_id.clone(), ..Default::default() };
        Some(Goodbye::Classic(LeaveGroupRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            members: vec![member],
            ..Default::default()
        }))
    }

    fn identity(&self) -> Identity {
        Identity {
            member_id: self.member_id.clone(),
            generation_or_epoch: self.generation,
            instance_id: self.instance_id(),
        }
    }
}

/// What the leader heard of a member; one that cannot be understood gets nothing.
fn subscriber(assignor: Assignor, member: &JoinGroupResponseMember) -> Subscriber {
    let instance = member.group_instance_id.as_deref();
    let read = read_subscription(assignor, &member.member_id, instance, member.metadata.clone());
    read.unwrap_or_else(|| Subscriber { member_id: member.member_id.to_string(), ..Default::default() })
}

/// Every topic that some member wants.
fn topics_of(assignor: Option<Assignor>, members: &[JoinGroupResponseMember]) -> Vec<Arc<str>> {
    let Some(assignor) = assignor else { return Vec::new() };
    let topics: BTreeSet<Arc<str>> =
        members.iter().flat_map(|member| subscriber(assignor, member).topics).collect();
    topics.into_iter().collect()
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
