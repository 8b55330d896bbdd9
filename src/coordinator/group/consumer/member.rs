//! A member of a consumer group: what it said of itself, and where its assignment stands.
//!
//! ```text
//!                    has to give partitions back
//!        STABLE ----------------------------------> UNREVOKED_PARTITIONS
//!         ^  |                                          |
//!         |  | others still have some of its partitions | it gave them back
//!         |  v                                          |
//!   UNRELEASED_PARTITIONS <-----------------------------+--> STABLE
//! ```

use bytes::Bytes;

use crate::coordinator::group::ClassicProtocol;
use crate::protocol::Str;
use crate::protocol::messages::consumer_group_current_member_assignment_value::ConsumerGroupCurrentMemberAssignmentValue;
use crate::protocol::messages::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol as RecordedProtocol, ConsumerGroupMemberMetadataValue,
};

use super::owned::Owned;

/// In a heartbeat: the member leaves.
pub(in crate::coordinator) const LEAVE: i32 = -1;
/// In a heartbeat: the static member leaves and will be back.
pub(in crate::coordinator) const LEAVE_FOR_A_WHILE: i32 = -2;

/// Where a member's assignment stands. Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator) enum MemberState {
    /// It has what it should have at its epoch.
    Stable,
    /// It has yet to give partitions back.
    UnrevokedPartitions,
    /// Others have yet to give partitions back that it should have.
    UnreleasedPartitions,
    /// A later Kafka's.
    Unknown,
}

impl MemberState {
    fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }

    fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }
}

/// What a member that uses the classic protocol said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::coordinator) struct ClassicMetadata {
    pub(in crate::coordinator) session_timeout_ms: i32,
    /// The best first.
    pub(in crate::coordinator) protocols: Vec<ClassicProtocol>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::coordinator) struct Member {
    pub(in crate::coordinator) id: Str,
    /// The assignment epoch that it has come to; [`LEAVE_FOR_A_WHILE`] while a static member is away.
    pub(in crate::coordinator) epoch: i32,
    /// The one before: a member whose answer was lost still says this one.
    pub(in crate::coordinator) previous_epoch: i32,
    pub(in crate::coordinator) state: MemberState,
    pub(in crate::coordinator) instance_id: Option<Str>,
    pub(in crate::coordinator) rack_id: Option<Str>,
    pub(in crate::coordinator) rebalance_timeout_ms: i32,
    pub(in crate::coordinator) client_id: Str,
    pub(in crate::coordinator) client_host: Str,
    /// In ascending order, each once.
    pub(in crate::coordinator) topics: Box<[Str]>,
    /// A pattern of topics; empty or none: no pattern.
    pub(in crate::coordinator) regex: Option<Str>,
    pub(in crate::coordinator) assignor: Option<Str>,
    pub(in crate::coordinator) assigned: Owned,
    pub(in crate::coordinator) pending_revocation: Owned,
    /// It uses the classic protocol.
    pub(in crate::coordinator) classic: Option<Box<ClassicMetadata>>,
}

impl Member {
    /// A member of whom nothing is known.
    pub(in crate::coordinator) fn new(id: Str) -> Self {
        Self {
            id,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: -1,
            client_id: Str::empty(),
            client_host: Str::empty(),
            topics: Box::default(),
            regex: Some(Str::empty()),
            assignor: None,
            assigned: Owned::default(),
            pending_revocation: Owned::default(),
            classic: None,
        }
    }

    /// The pattern, if it has one.
    pub(in crate::coordinator) fn pattern(&self) -> Option<&Str> {
        self.regex.as_ref().filter(|regex| !regex.is_empty())
    }

    /// Whether it has what it should have at this assignment epoch.
    pub(in crate::coordinator) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }

    /// The next epoch; what it was becomes the previous one.
    pub(in crate::coordinator) fn move_to(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }

    /// The classic strategies that it supports.
    pub(in crate::coordinator) fn classic_protocols(&self) -> &[ClassicProtocol] {
        self.classic.as_ref().map_or(&[], |classic| &classic.protocols)
    }

    /// Takes over what a record says of it.
    pub(super) fn describe_by(&mut self, value: &ConsumerGroupMemberMetadataValue) {
        let own = |text: &Option<Str>| text.as_ref().map(Str::detached);
        self.instance_id = own(&value.instance_id);
        self.rack_id = own(&value.rack_id);
        self.client_id = value.client_id.detached();
        self.client_host = value.client_host.detached();
        self.topics = sorted(value.subscribed_topic_names.iter().map(Str::detached).collect());
        self.regex = own(&value.subscribed_topic_regex);
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = own(&value.server_assignor);
        self.classic = value.classic_member_metadata.as_ref().map(|classic| {
            let protocols = classic.supported_protocols.iter().map(|protocol| ClassicProtocol {
                name: protocol.name.detached(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            });
            Box::new(ClassicMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: protocols.collect(),
            })
        });
    }

    /// What [`Member::describe_by`] takes over.
    pub(super) fn description(&self) -> ConsumerGroupMemberMetadataValue {
        let classic = self.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|protocol| RecordedProtocol {
                    name: protocol.name.clone(),
                    metadata: protocol.metadata.clone(),
                    ..RecordedProtocol::default()
                })
                .collect(),
            ..ClassicMemberMetadata::default()
        });
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.to_vec(),
            subscribed_topic_regex: self.regex.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: classic,
            ..ConsumerGroupMemberMetadataValue::default()
        }
    }

    /// Takes over where a record says that its assignment stands.
    pub(super) fn stand_at(&mut self, value: &ConsumerGroupCurrentMemberAssignmentValue) {
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = MemberState::from_number(value.state);
        self.assigned = Owned::from_record(&value.assigned_partitions, value.member_epoch);
        self.pending_revocation =
            Owned::from_record(&value.partitions_pending_revocation, value.member_epoch);
    }

    /// What [`Member::stand_at`] takes over.
    pub(super) fn standing(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.number(),
            assigned_partitions: self.assigned.to_record(),
            partitions_pending_revocation: self.pending_revocation.to_record(),
            ..ConsumerGroupCurrentMemberAssignmentValue::default()
        }
    }
}

/// In ascending order, each once.
pub(super) fn sorted(mut names: Vec<Str>) -> Box<[Str]> {
    names.sort_unstable();
    names.dedup();
    names.into_boxed_slice()
}
