//! KIP-848 from a member's side: the coordinator says what this member shall have; the member lets go of what it
//! shall not, takes the rest, and says so with its next heartbeat.
//!
//! A heartbeat carries what has changed since the last one that was answered; after any failure it carries everything.
//! Partitions are named by topic ids: what they are called is asked before anything is done with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use crate::protocol::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse,
};
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::super::config::GroupOptions;
use super::super::error::{BrokerError, ClientError};
use super::super::options::Backoff;
use super::Identity;
use super::assignor::{Layout, Part};
use super::protocol::{Answer, Common, Goodbye, Protocol, Question, Step, Told};

/// The epochs that say hello and goodbye.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;
const LEAVING_FOR_A_WHILE: i32 = -2;
/// How often names of topic ids are asked for again that nobody knew.
const ASK_NAMES_AGAIN: Duration = Duration::from_millis(500);

/// A partition by its topic's id.
type IdPart = (Uuid, i32);

/// A member of a group of type `consumer`.
pub(super) struct Reconciling {
    group: Str,
    options: GroupOptions,
    rack: Option<Str>,
    regex: Option<Str>,
    common: Common,
    topics: BTreeSet<Arc<str>>,
    member_id: Str,
    epoch: i32,
    names: BTreeMap<Uuid, Arc<str>>,
    ask_names_from: Duration,
    /// What the reader may read.
    owned: BTreeSet<IdPart>,
    /// What the coordinator wants, where that is not reached yet.
    target: Option<BTreeSet<IdPart>>,
    /// What the reader is letting go.
    releasing: Option<BTreeSet<IdPart>>,
    heartbeat_interval: Duration,
    next_heartbeat: Duration,
    /// The next heartbeat tells everything.
    tells_all: bool,
    /// The next heartbeat tells what is owned.
    tells_owned: bool,
    tells_topics: bool,
    is_paused: bool,
    /// Whether anybody has been told that the group has settled.
    has_settled: bool,
}

impl Reconciling {
    /// `regex` is for the broker to match; `member_id` is unique in the world.
    pub(super) fn new(
        group: &str,
        member_id: &str,
        options: GroupOptions,
        rack: Option<&str>,
        regex: Option<&str>,
        backoff: Backoff,
    ) -> Self {
        Self {
            group: group.into(),
            rack: rack.map(Into::into),
            regex: regex.map(Into::into),
            common: Common::new(backoff),
            topics: BTreeSet::new(),
            member_id: member_id.into(),
            epoch: JOINING,
            names: BTreeMap::new(),
            ask_names_from: Duration::ZERO,
            owned: BTreeSet::new(),
            target: None,
            releasing: None,
            heartbeat_interval: options.heartbeat_interval,
            next_heartbeat: Duration::ZERO,
            tells_all: true,
            tells_owned: false,
            tells_topics: false,
            is_paused: false,
            has_settled: false,
            options,
        }
    }

    fn instance_id(&self) -> Option<Str> {
        self.options.instance_id.as_deref().map(Into::into)
    }

    fn heartbeat(&mut self) -> Step {
        let all = std::mem::take(&mut self.tells_all) || self.epoch == JOINING;
        let tells_owned = std::mem::take(&mut self.tells_owned) || all;
        let tells_topics = std::mem::take(&mut self.tells_topics) || all;
        let owned = || {
            let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
            for &(id, partition) in &self.owned {
                topics.entry(id).or_default().push(partition);
            }
            let topics = topics.into_iter();
            topics
                .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions, ..Default::default() })
                .collect()
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id(),
            rack_id: self.rack.clone().filter(|_| all),
            rebalance_timeout_ms: match all {
                true => i32::try_from(self.options.poll_interval_max.as_millis()).unwrap_or(i32::MAX),
                false => -1,
            },
            subscribed_topic_names: tells_topics
                .then(|| self.topics.iter().map(|topic| (&**topic).into()).collect()),
            subscribed_topic_regex: self.regex.clone().filter(|_| tells_topics),
            server_assignor: self.options.remote_assignor.as_deref().map(Into::into).filter(|_| all),
            topic_partitions: tells_owned.then(owned),
            ..Default::default()
        };
        self.common.ask(Question::Reconcile(request))
    }

    fn heard(&mut self, now: Duration, response: ConsumerGroupHeartbeatResponse) {
        match ErrorCode::from_wire(response.error_code) {
            ErrorCode::None => {}
            code => return self.refused(now, code, response.error_message),
        }
        self.common.succeeded();
        if let Some(member_id) = response.member_id {
            self.member_id = member_id;
        }
        self.epoch = response.member_epoch;
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
        if interval > 0 {
            self.heartbeat_interval = Duration::from_millis(interval);
        }
        self.next_heartbeat = now + self.heartbeat_interval;
        if let Some(assignment) = response.assignment {
            self.target = Some(parts_of(&assignment));
        }
        if self.target.is_none() && !std::mem::replace(&mut self.has_settled, true) {
            self.common.told.push_back(Told::Assigned(Vec::new()));
        }
    }

    fn refused(&mut self, now: Duration, code: ErrorCode, message: Option<Str>) {
        let message = message.map(|message| message.to_string());
        let error: ClientError = BrokerError { code, about: format!("group {}", self.group), message }.into();
        match code {
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.lose(now),
            // The member that had the instance id is given until its session ends to come back.
            code if code.is_retriable() || code == ErrorCode::TopicAuthorizationFailed => {
                self.failed(now, error);
            }
            _ => self.common.failed = Some(error.into()),
        }
    }

    fn failed(&mut self, now: Duration, error: ClientError) {
        self.tells_all = true;
        self.next_heartbeat = self.common.after_failure(now, error);
    }

    fn lose(&mut self, now: Duration) {
        let owned = std::mem::take(&mut self.owned);
        let lost = self.named(&owned);
        if !lost.is_empty() {
            self.common.told.push_back(Told::Lost(lost));
        }
        (self.target, self.releasing) = (None, None);
        self.epoch = JOINING;
        self.tells_all = true;
        self.has_settled = false;
        self.next_heartbeat = now;
    }

    fn named(&self, parts: &BTreeSet<IdPart>) -> Vec<Part> {
        let named = |&(id, partition): &IdPart| Some((Arc::clone(self.names.get(&id)?), partition));
        parts.iter().filter_map(named).collect()
    }

    /// One step nearer to the target; `None` where there is nothing to do, or the reader is doing it.
    fn reconcile(&mut self, now: Duration) -> Option<Step> {
        if self.releasing.is_some() {
            return None;
        }
        let target = self.target.as_ref()?;
        let gone: BTreeSet<IdPart> = self.owned.difference(target).copied().collect();
        if !gone.is_empty() {
            let revoked = self.named(&gone);
            self.releasing = Some(gone);
            return Some(Step::Tell(Told::Revoke(revoked)));
        }
        let unnamed: BTreeSet<Uuid> =
            target.iter().map(|(id, _)| *id).filter(|id| !self.names.contains_key(id)).collect();
        if !unnamed.is_empty() {
            if now < self.ask_names_from {
                return None;
            }
            return Some(self.common.ask(Question::Names(unnamed.into_iter().collect())));
        }
        let added: BTreeSet<IdPart> = target.difference(&self.owned).copied().collect();
        self.owned = self.target.take().unwrap_or_default();
        self.tells_owned = true;
        self.has_settled = true;
        self.next_heartbeat = now;
        Some(Step::Tell(Told::Assigned(self.named(&added))))
    }
}

impl Protocol for Reconciling {
    fn next(&mut self, now: Duration) -> Step {
        if let Some(step) = self.common.first() {
            return step;
        }
        if self.is_paused {
            return Step::Wait(None);
        }
        if let Some(step) = self.reconcile(now) {
            return step;
        }
        if now >= self.next_heartbeat {
            return self.heartbeat();
        }
        let names = (self.target.is_some() && self.releasing.is_none()).then_some(self.ask_names_from);
        Step::Wait(Some(names.map_or(self.next_heartbeat, |names| names.min(self.next_heartbeat))))
    }

    fn answered(&mut self, now: Duration, answer: Result<Answer, ClientError>) {
        self.common.is_asking = false;
        match answer {
            _ if self.is_paused => {}
            Ok(Answer::Reconcile(response)) => self.heard(now, response),
            Ok(Answer::Names(names)) => {
                self.names.extend(names);
                self.ask_names_from = now + ASK_NAMES_AGAIN;
            }
            Ok(_) => {}
            Err(error) => match error.code() {
                Some(code) => self.refused(now, code, None),
                None if error.is_retriable() => self.failed(now, error),
                None => self.common.failed = Some(error.into()),
            },
        }
    }

    fn released(&mut self, now: Duration) {
        let Some(gone) = self.releasing.take() else { return };
        self.owned.retain(|part| !gone.contains(part));
        // The coordinator gives them to others once it hears of it.
        self.tells_owned = true;
        self.next_heartbeat = now;
    }

    fn watched(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn subscribed(&mut self, now: Duration, topics: &BTreeSet<Arc<str>>, _: &Layout) {
        if self.topics != *topics {
            self.topics.clone_from(topics);
            self.tells_topics = true;
            self.next_heartbeat = now;
        }
    }

    fn pause(&mut self) -> Option<Goodbye> {
        let goodbye = self.goodbye();
        self.lose(Duration::ZERO);
        self.is_paused = true;
        goodbye
    }

    fn resume(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_paused) {
            self.next_heartbeat = now;
        }
    }

    fn goodbye(&self) -> Option<Goodbye> {
        // The id is ours: even a first heartbeat whose answer never came may have made us a member.
        let is_static = self.options.instance_id.is_some();
        Some(Goodbye::Reconciling(ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: if is_static { LEAVING_FOR_A_WHILE } else { LEAVING },
            instance_id: self.instance_id(),
            ..Default::default()
        }))
    }

    fn identity(&self) -> Identity {
        Identity {
            member_id: self.member_id.clone(),
            generation_or_epoch: self.epoch,
            instance_id: self.instance_id(),
        }
    }
}

fn parts_of(assignment: &Assignment) -> BTreeSet<IdPart> {
    let topics = assignment.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|&partition| (topic.topic_id, partition))).collect()
}

#[cfg(test)]
mod tests;
