//! A consumer group (KIP-848): the coordinator assigns and reconciles.

use std::collections::HashMap;

use crate::coordinator::exchange::{Client, Refusal};
use crate::coordinator::group::Group;
use crate::coordinator::records::GroupRecord;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::TimerKey;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::leave_group_response::LeaveGroupResponse;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

/// A consumer group.
#[derive(Debug)]
pub struct ConsumerGroup {
    /// Its id.
    pub id: Str,
}

impl ConsumerGroup {
    /// Makes one of its records hold. Takes all groups: the first record makes the group, its tombstone takes it
    /// away.
    pub(in crate::coordinator) fn apply(groups: &mut HashMap<Str, Group>, record: &GroupRecord) {
        let _ = (groups, record);
    }

    /// Its state, as Kafka names it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        "Empty"
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Whether a member reads this topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let _ = topic;
        false
    }

    /// Whether these offsets may be committed.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn check_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        member_epoch: i32,
        version: i16,
    ) -> Result<(), ErrorCode> {
        let _ = (member_id, instance_id, member_epoch, version);
        Ok(())
    }

    /// Whether offsets may be fetched.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn check_offset_fetch(&self, member_id: Option<&Str>, member_epoch: i32) -> Result<(), ErrorCode> {
        let _ = (member_id, member_epoch);
        Ok(())
    }

    /// The tombstones of everything that is recorded of the group.
    #[must_use]
    pub fn tombstones(&self) -> Vec<GroupRecord> {
        Vec::new()
    }
}

impl State {
    /// ConsumerGroupHeartbeat, of any group that is no share or streams group.
    pub(in crate::coordinator) fn consumer_group_heartbeat(
        &mut self,
        step: &mut Step<'_>,
        client: &Client,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let _ = (step, client, request);
        Err(ErrorCode::UnsupportedVersion.into())
    }

    /// ConsumerGroupDescribe, of one group.
    pub(in crate::coordinator) fn describe_consumer_group(
        &self,
        step: &Step<'_>,
        group_id: &Str,
    ) -> DescribedGroup {
        let _ = step;
        DescribedGroup {
            group_id: group_id.clone(),
            error_code: ErrorCode::GroupIdNotFound.code(),
            ..DescribedGroup::default()
        }
    }

    /// JoinGroup of a classic member, where the group is a consumer group.
    pub(in crate::coordinator) fn join_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        client: &Client,
        version: i16,
        request: &JoinGroupRequest,
    ) -> Result<JoinGroupResponse, Refusal> {
        let _ = (step, client, version, request);
        Err(ErrorCode::GroupIdNotFound.into())
    }

    /// SyncGroup of a classic member of a consumer group.
    pub(in crate::coordinator) fn sync_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, Refusal> {
        let _ = (step, request);
        Err(ErrorCode::GroupIdNotFound.into())
    }

    /// Heartbeat of a classic member of a consumer group.
    pub(in crate::coordinator) fn heartbeat_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), Refusal> {
        let _ = (step, request);
        Err(ErrorCode::GroupIdNotFound.into())
    }

    /// LeaveGroup, where the group is a consumer group.
    pub(in crate::coordinator) fn leave_consumer_group(
        &mut self,
        step: &mut Step<'_>,
        request: &LeaveGroupRequest,
    ) -> Result<LeaveGroupResponse, Refusal> {
        let _ = (step, request);
        Err(ErrorCode::GroupIdNotFound.into())
    }

    /// A timer of a consumer group is due.
    pub(in crate::coordinator) fn consumer_group_timer(&mut self, step: &mut Step<'_>, due: &TimerKey) {
        let _ = (step, due);
    }

    /// All consumer groups are loaded: sets their timers.
    pub(in crate::coordinator) fn consumer_groups_loaded(&mut self, step: &mut Step<'_>) {
        let _ = step;
    }

    /// The topics of these names were made, changed or deleted: groups that read them look again at their next
    /// heartbeat.
    pub(in crate::coordinator) fn consumer_groups_follow(&mut self, step: &mut Step<'_>, topics: &[Str]) {
        let _ = (step, topics);
    }
}
