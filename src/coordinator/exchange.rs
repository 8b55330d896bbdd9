//! What a shard is asked and what it answers. An answer may come much later than its request: the token says
//! which request it belongs to.

use crate::protocol::ErrorCode;
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::leave_group_response::LeaveGroupResponse;
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::offset_commit_request::OffsetCommitRequest;
use crate::protocol::messages::offset_commit_response::OffsetCommitResponse;
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequest;
use crate::protocol::messages::offset_delete_response::OffsetDeleteResponse;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;

use super::records::GroupRecord;

/// A request that waits for its answer. Never used twice by whoever hands them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// `client.id`
    pub id: Str,
    /// The address as Kafka shows it: `/127.0.0.1`.
    pub host: Str,
}

/// A request with what belongs to it.
#[derive(Debug)]
pub struct Asked {
    /// What its answer will be called by.
    pub token: Token,
    /// Who asks.
    pub client: Client,
    /// The version of the API.
    pub version: i16,
    /// What is asked.
    pub request: Request,
}

/// What a shard is asked. Requests for several groups are split by whoever holds the shards.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are Kafka's")]
pub enum Request {
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    OffsetCommit(OffsetCommitRequest),
    /// Of one group; with `require_stable`, offsets of an open transaction are not passed over.
    OffsetFetch {
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    },
    OffsetDelete(OffsetDeleteRequest),
    DescribeGroups(Vec<Str>),
    ListGroups {
        states: Vec<Str>,
        types: Vec<Str>,
    },
    DeleteGroups(Vec<Str>),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    ConsumerGroupDescribe(Vec<Str>),
}

/// What a shard answers, request by request.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are Kafka's")]
pub enum Answer {
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    DescribeGroups(Vec<DescribedGroup>),
    ListGroups(Vec<ListedGroup>),
    DeleteGroups(Vec<DeletableGroupResult>),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerGroupDescribe(Vec<DescribedConsumerGroup>),
}

/// What comes out of a call: records for the log, and answers that may be given once they are committed.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order; they count together or not at all.
    pub records: Vec<GroupRecord>,
    /// Of this request, and of others that waited.
    pub answers: Vec<(Token, Answer)>,
}

impl Effects {
    /// Answers the request of `token`.
    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }
}

/// A request, or one item of it, that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For the user, where the answer has room for it.
    pub message: Option<Str>,
}

impl Refusal {
    /// `code` with a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(Str::from(message.into())) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}
