//! ConsumerGroupHeartbeat (68), versions 0 and 1: a member joins (epoch 0), stays, leaves (-1), or leaves for a
//! while (-2, static members only). Version 0 may leave the member's id to the coordinator.
//!
//! Everything that can be refused is refused before the first record is written.

use crate::coordinator::assignor::Partitions;
use crate::coordinator::exchange::{Client, Refusal};
use crate::coordinator::group::Group;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::protocol::{ErrorCode, Str};

use super::member::{LEAVE, LEAVE_FOR_A_WHILE, Member, MemberState, sorted};
use super::owned::Owned;
use super::reconcile::Reconciliation;
use super::regexes::PatternChange;
use super::{ConsumerGroup, records, regex};

/// The most that the length of a text takes in a record.
const LENGTH_BYTES_MAX: usize = 3;

/// A request with what it says that its member owns.
struct Heartbeat<'a> {
    request: &'a ConsumerGroupHeartbeatRequest,
    owned: Option<Partitions>,
}

/// A member that a request is for.
pub(super) struct Found {
    /// As it is, or as a new one begins.
    pub(super) member: Member,
    /// The id under which a static member was known before.
    pub(super) replaces: Option<Str>,
}

impl State {
    /// The consumer group of this id.
    pub(super) fn consumer_group(&self, group_id: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }

    pub(super) fn consumer_group_mut(&mut self, group_id: &str) -> Option<&mut ConsumerGroup> {
        match self.groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }

    /// ConsumerGroupHeartbeat, of any group.
    pub(in crate::coordinator) fn consumer_group_heartbeat(
        &mut self,
        step: &mut Step<'_>,
        client: &Client,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        check_request(step, version, request)?;
        if matches!(request.member_epoch, LEAVE | LEAVE_FOR_A_WHILE) {
            return self.leave_by_heartbeat(step, request);
        }
        let topics = request.topic_partitions.as_ref();
        let owned = topics.map(|topics| {
            let partitions = topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic.topic_id, *partition)));
            partitions.collect()
        });
        self.stay(step, client, &Heartbeat { request, owned })
    }

    fn stay(
        &mut self,
        step: &mut Step<'_>,
        client: &Client,
        heartbeat: &Heartbeat<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let request = heartbeat.request;
        let group_id = &request.group_id;
        let joins = request.member_epoch == 0;
        self.check_group(step, heartbeat)?;
        if joins {
            self.check_pattern(request)?;
        }
        self.become_consumer_group(step, group_id, joins)?;
        let found = self.find_member(step, heartbeat)?;
        // Who is not a member any more is to hear that first.
        if !joins {
            self.check_pattern(request)?;
        }
        let before = match &found.replaces {
            Some(old_id) => self.replace_member(step, group_id, old_id, found.member),
            None => found.member,
        };
        let after = described(&before, request, client);
        let has_changed = self.take_description(step, group_id, &before, &after);
        let after = self.advance(step, group_id, &after.id, has_changed, heartbeat.owned.as_ref())?;
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownServerError)?;
        let settings = group.settings(step);
        let session_ends_ms = step.now.timer_ms + i64::from(settings.session_timeout_ms);
        step.timers.set(&group.id, Timer::Session(after.id.clone()), session_ends_ms);
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(after.id.clone()),
            member_epoch: after.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: assignment_for(heartbeat, &before, &after),
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// Whether the group can take this request at all.
    fn check_group(&self, step: &Step<'_>, heartbeat: &Heartbeat<'_>) -> Result<(), Refusal> {
        let request = heartbeat.request;
        let joins = request.member_epoch == 0;
        match self.groups.get(&request.group_id) {
            None if !joins => {
                let message = format!("there is no group {}; a member joins with epoch 0", request.group_id);
                return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
            }
            None => {}
            Some(Group::Consumer(group)) => group.check_size(step, &request.member_id)?,
            Some(Group::Classic(group)) if joins && group.members.is_empty() => {}
            Some(Group::Classic(group)) if joins => {
                group.check_upgrade(step)?;
                let is_member = group.members.contains_key(&request.member_id);
                check_size(step, group.members.len(), is_member)?;
            }
            Some(Group::Classic(_) | Group::Foreign(_)) => {
                return Err(not_a_consumer_group(&request.group_id));
            }
        }
        Ok(())
    }

    /// Whether a member's pattern can be read, where the group does not know it yet.
    fn check_pattern(&self, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
        let pattern = request.subscribed_topic_regex.as_ref().filter(|pattern| !pattern.is_empty());
        let Some(pattern) = pattern else { return Ok(()) };
        let group = self.consumer_group(&request.group_id);
        if group.is_some_and(|group| group.patterns.of(pattern) > 0) {
            return Ok(());
        }
        regex::compile(pattern).map(drop).map_err(|error| {
            let message = format!("the pattern {pattern} is not one that RE2 reads: {error}");
            Refusal::new(ErrorCode::InvalidRegularExpression, message)
        })
    }

    /// The member that a heartbeat is for, if it may be.
    fn find_member(&mut self, step: &mut Step<'_>, heartbeat: &Heartbeat<'_>) -> Result<Found, Refusal> {
        let request = heartbeat.request;
        let group_id = &request.group_id;
        let fresh = ConsumerGroup::new(group_id.clone());
        let group = self.consumer_group(group_id).unwrap_or(&fresh);
        let joins = request.member_epoch == 0;
        let member_id = match request.member_id.as_str() {
            "" => Str::from((step.draw_id)().to_string()),
            _ => request.member_id.clone(),
        };
        let found = match &request.instance_id {
            None => group.dynamic_member(&member_id, joins)?,
            Some(instance_id) => {
                let found = group.static_member_for(&member_id, instance_id, joins)?;
                let held = found.replaces.as_ref().and_then(|_| group.static_member(instance_id));
                if let Some(held) =
                    held.filter(|held| held.classic.is_none() && held.epoch != LEAVE_FOR_A_WHILE)
                {
                    let message = format!(
                        "Static member {member_id} with instance id {instance_id} cannot join the group because \
                         the instance id is owned by {} member.",
                        held.id
                    );
                    return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
                }
                found
            }
        };
        check_epoch(&found.member, request.member_epoch, heartbeat.owned.as_ref())?;
        Ok(found)
    }

    /// Writes down what a member says of itself, and bumps the group epoch where that asks for another target.
    /// Says whether what it reads has changed.
    pub(super) fn take_description(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        before: &Member,
        after: &Member,
    ) -> bool {
        let is_member =
            self.consumer_group(group_id).is_some_and(|group| group.members.contains_key(&after.id));
        if before != after || !is_member {
            let record = records::member(group_id, after);
            self.write(step, record);
        }
        let topics_changed = before.topics != after.topics;
        let pattern = self.follow_pattern(step, group_id, before, after);
        // A classic member cannot have a pattern: where it had one, what it reads is known at once.
        let bump = match pattern {
            PatternChange::None => topics_changed,
            PatternChange::Unresolved => topics_changed || after.classic.is_some(),
            PatternChange::Resolved => true,
        };
        let Some(group) = self.consumer_group(group_id) else { return false };
        let has_old_record = group.has_partition_metadata;
        if bump || group.metadata_is_stale {
            self.bump_epoch_if(step, group_id, bump);
            if has_old_record {
                self.write(step, records::partition_metadata_tombstone(group_id));
            }
        }
        topics_changed || pattern != PatternChange::None
    }

    /// Makes a new target if it is time, and takes the member one step towards its own.
    pub(super) fn advance(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        member_id: &Str,
        has_changed: bool,
        owned: Option<&Partitions>,
    ) -> Result<Member, Refusal> {
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownServerError)?;
        if group.target_is_due(step) {
            let target = group.next_target(step).map_err(|error| {
                let epoch = group.group_epoch;
                let message = format!("partitions could not be assigned for epoch {epoch}: {error}");
                Refusal::new(ErrorCode::UnknownServerError, message)
            })?;
            for record in target {
                self.write(step, record);
            }
        }
        self.reconcile(step, group_id, member_id, has_changed, owned)
    }

    /// Takes a member one step towards its target.
    pub(super) fn reconcile(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        member_id: &Str,
        has_changed: bool,
        owned: Option<&Partitions>,
    ) -> Result<Member, Refusal> {
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownServerError)?;
        let member = group.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !has_changed && member.is_reconciled_to(group.assignment_epoch) {
            return Ok(Member::clone(member));
        }
        let topics = group.topics_of(member, step.image);
        let reconciliation = Reconciliation { group, member, topics: &topics, has_changed, owned };
        let Some(after) = reconciliation.step() else { return Ok(Member::clone(member)) };
        if after.classic.is_none() {
            let timer = Timer::Rebalance(after.id.clone());
            if after.state == MemberState::UnrevokedPartitions {
                let at_ms = step.now.timer_ms + i64::from(after.rebalance_timeout_ms);
                step.timers.set(&group.id, timer, at_ms);
            } else {
                step.timers.cancel(&group.id, timer);
            }
        }
        let record = records::standing(group_id, &after);
        self.write(step, record);
        Ok(after)
    }

    /// A static member is back under another id: the new one takes over all that the old one had. Returns it.
    pub(super) fn replace_member(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        old_id: &Str,
        new: Member,
    ) -> Member {
        let target = self.consumer_group(group_id).and_then(|group| group.target(old_id)).cloned();
        self.write_removal(step, group_id, old_id);
        self.write(step, records::member(group_id, &new));
        self.write(step, records::target(group_id, &new.id, &target.unwrap_or_default()));
        self.write(step, records::standing(group_id, &new));
        new
    }
}

impl ConsumerGroup {
    pub(super) fn check_size(&self, step: &Step<'_>, member_id: &str) -> Result<(), Refusal> {
        check_size(step, self.members.len(), self.members.contains_key(member_id))
    }

    /// A dynamic member, made where it `may_be_new`.
    pub(super) fn dynamic_member(&self, member_id: &Str, may_be_new: bool) -> Result<Found, Refusal> {
        match self.members.get(member_id) {
            Some(member) => Ok(Found { member: Member::clone(member), replaces: None }),
            None if may_be_new => Ok(Found { member: Member::new(member_id.detached()), replaces: None }),
            None => Err(self.unknown_member(member_id)),
        }
    }

    /// The member of an instance id. Where it `joins`, it takes over what the id's last holder had.
    pub(super) fn static_member_for(
        &self,
        member_id: &Str,
        instance_id: &Str,
        joins: bool,
    ) -> Result<Found, Refusal> {
        match self.static_member(instance_id) {
            None if joins => self.dynamic_member(member_id, true),
            Some(held) if joins => {
                let mut member = held.clone();
                member.id = member_id.detached();
                (member.epoch, member.previous_epoch) = (0, 0);
                Ok(Found { member, replaces: Some(held.id.clone()) })
            }
            held => {
                let member = check_instance(held, member_id, instance_id)?;
                Ok(Found { member: member.clone(), replaces: None })
            }
        }
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> Refusal {
        let message =
            format!("group {} does not know member {member_id}: it left or its session ran out", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }
}

/// The holder of an instance id, if it is this member.
pub(super) fn check_instance<'a>(
    held: Option<&'a Member>,
    member_id: &str,
    instance_id: &str,
) -> Result<&'a Member, Refusal> {
    let Some(held) = held else {
        let message = format!("no member has instance id {instance_id}");
        return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
    };
    if held.id != *member_id {
        let holder = &held.id;
        let message =
            format!("instance id {instance_id} belongs to {holder} by now, no longer to {member_id}");
        return Err(Refusal::new(ErrorCode::FencedInstanceId, message));
    }
    Ok(held)
}

/// A group is no consumer group, and cannot become one.
pub(super) fn not_a_consumer_group(group_id: &str) -> Refusal {
    Refusal::new(
        ErrorCode::GroupIdNotFound,
        format!("{group_id} is a group of another kind, and cannot become a consumer group"),
    )
}

fn check_size(step: &Step<'_>, size: usize, is_member: bool) -> Result<(), Refusal> {
    let max = step.settings.consumer_max_size;
    if size >= max && !is_member {
        let message = format!("the group is full: group.consumer.max.size is {max}");
        return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
    }
    Ok(())
}

/// What a member says is written down in one record. One that the log cannot take would cost all groups of its
/// partition their coordinator for a while: it is refused before anything is decided.
pub(super) fn check_room(step: &Step<'_>, said_bytes: usize) -> Result<(), Refusal> {
    // The rest is for ids, rack, client and the batch's own.
    let room = step.record_bytes_max / 4 * 3;
    if said_bytes <= room {
        return Ok(());
    }
    let message =
        format!("what the member reads takes {said_bytes} bytes, and its record has room for {room}");
    Err(Refusal::new(ErrorCode::UnknownServerError, message))
}

/// An older epoch is taken only from a member whose last answer was lost: it says the previous epoch, and owns
/// nothing but what that answer left it.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let keeps_to = |owned: &Partitions| {
        owned.flat().all(|(topic, partition)| member.assigned.contains(topic, partition))
    };
    let known = member.epoch;
    let how = if epoch != 0 && epoch > known {
        "greater"
    } else if epoch != 0 && epoch < known && !(epoch == member.previous_epoch && owned.is_some_and(keeps_to))
    {
        "smaller"
    } else if member.state == MemberState::Unknown && !owned.is_some_and(Partitions::is_empty) {
        let message = "The consumer group member is in a unknown state. The member must abandon all its \
                       partitions and rejoin.";
        return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
    } else {
        return Ok(());
    };
    let message = format!(
        "The consumer group member has a {how} member epoch ({epoch}) than the one known by the group \
         coordinator ({known}). The member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

/// A member with what a request says of it; what the request leaves out stays.
fn described(before: &Member, request: &ConsumerGroupHeartbeatRequest, client: &Client) -> Member {
    let mut member = before.clone();
    let keep = |field: &mut Option<Str>, said: &Option<Str>| {
        if said.is_some() {
            field.clone_from(said);
        }
    };
    keep(&mut member.instance_id, &request.instance_id);
    keep(&mut member.rack_id, &request.rack_id);
    keep(&mut member.assignor, &request.server_assignor);
    keep(&mut member.regex, &request.subscribed_topic_regex);
    if request.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(topics) = &request.subscribed_topic_names {
        member.topics = sorted(topics.clone());
    }
    member.client_id = client.id.clone();
    member.client_host = client.host.clone();
    member.classic = None;
    member
}

/// The assignment is told to who joins, who says everything about itself, and where it changed.
fn assignment_for(heartbeat: &Heartbeat<'_>, before: &Member, after: &Member) -> Option<Assignment> {
    let request = heartbeat.request;
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    let says_everything = request.rebalance_timeout_ms != -1 && subscribes && heartbeat.owned.is_some();
    let told = request.member_epoch == 0 || says_everything || before.assigned != after.assigned;
    told.then(|| wire_assignment(&after.assigned))
}

fn wire_assignment(assigned: &Owned) -> Assignment {
    let partitions = assigned.partitions();
    let topics = partitions.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id,
        partitions: partitions.to_vec(),
        ..TopicPartitions::default()
    });
    Assignment { topic_partitions: topics.collect(), ..Assignment::default() }
}

fn check_request(
    step: &Step<'_>,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let blank = |text: &str| text.trim().is_empty();
    let blank_option = |text: &Option<Str>| text.as_ref().is_some_and(|text| blank(text));
    let epoch = request.member_epoch;
    if (version >= 1 || epoch > 0 || epoch == LEAVE) && blank(&request.member_id) {
        return invalid("a member needs an id (MemberId is empty)");
    }
    if blank(&request.group_id) {
        return invalid("which group is meant? (GroupId is empty)");
    }
    if blank_option(&request.instance_id) {
        return invalid("an instance id has at least one letter (InstanceId)");
    }
    if blank_option(&request.rack_id) {
        return invalid("a rack has at least one letter (RackId)");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid(
                "a member that joins says how long it may take to give partitions up (RebalanceTimeoutMs)",
            );
        }
        if request.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty()) {
            return invalid("a member that joins owns nothing yet (TopicPartitions)");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "a member that joins says what it reads (SubscribedTopicNames or SubscribedTopicRegex)",
            );
        }
    } else if epoch == LEAVE_FOR_A_WHILE && request.instance_id.is_none() {
        return invalid("only a member with an InstanceId goes for a while (epoch -2)");
    } else if epoch < LEAVE_FOR_A_WHILE {
        return invalid("no epoch is below -2 (MemberEpoch)");
    }
    let names = request.subscribed_topic_names.iter().flatten();
    let regex = request.subscribed_topic_regex.as_ref().map_or(0, |regex| regex.len());
    check_room(step, regex + names.map(|name| name.len() + LENGTH_BYTES_MAX).sum::<usize>())?;
    let assignors = &step.settings.consumer_assignors;
    match &request.server_assignor {
        Some(assignor) if !assignors.iter().any(|known| *known == **assignor) => {
            let message = format!(
                "no assignor is called {assignor}; group.consumer.assignors has {}",
                assignors.join(", ")
            );
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}
