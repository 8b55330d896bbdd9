//! A classic group: who is a member, what they voted for, what their leader assigned.
//!
//! ```text
//!            join                  all joined, or time is up            the leader has synced
//!  Empty ----------> PreparingRebalance ----------> CompletingRebalance ----------> Stable
//!    ^                 ^         | nobody is left            |                        |
//!    +-----------------|---------+                           |  join, leave, expiry   |
//!                      +-------------------------------------+------------------------+
//! ```

mod join;
mod members;
mod rebalance;
mod requests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use crate::coordinator::exchange::Token;
use crate::protocol::Str;
use crate::protocol::messages::group_metadata_value::{GroupMetadataValue, MemberMetadata};

pub(in crate::coordinator) use join::Join;
pub(in crate::coordinator) use members::{refused_join, refused_sync};
pub use rebalance::InitialDelay;

/// Where a classic group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassicState {
    /// No members; it may have offsets.
    Empty,
    /// Members are to join.
    PreparingRebalance,
    /// All have joined; the leader is to say who gets what.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// It is being taken away.
    Dead,
}

impl ClassicState {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// An assignment strategy that a member can follow, with what it says about itself for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicProtocol {
    /// `range`, `cooperative-sticky`.
    pub name: Str,
    /// The member's subscription, for the leader.
    pub metadata: Bytes,
}

/// A member of a classic group.
#[derive(Debug, Clone)]
pub struct ClassicMember {
    /// Its id.
    pub id: Str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    /// `client.id`
    pub client_id: Str,
    /// Where it connected from.
    pub client_host: Str,
    /// How long others wait for it to join.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it can do, the best first.
    pub protocols: Vec<ClassicProtocol>,
    /// What the leader gave it in this generation.
    pub assignment: Bytes,
    /// Its JoinGroup that waits for the others.
    pub waiting_join: Option<Token>,
    /// Its SyncGroup that waits for the leader.
    pub waiting_sync: Option<Token>,
    /// It joins for the first time.
    pub is_new: bool,
}

/// A classic group.
#[derive(Debug)]
pub struct ClassicGroup {
    /// Its id.
    pub id: Str,
    /// Where it stands.
    pub state: ClassicState,
    /// When it came to its state.
    pub state_timestamp_ms: Option<i64>,
    /// `consumer`, `connect`.
    pub protocol_type: Option<Str>,
    /// The strategy that was voted for.
    pub protocol_name: Option<Str>,
    /// The member that assigns.
    pub leader: Option<Str>,
    /// Counts the rebalances.
    pub generation: i32,
    /// By id.
    /// Boxed: a map of few is allocated for eleven, and most groups are small.
    pub members: BTreeMap<Str, Box<ClassicMember>>,
    /// The members that are static, by instance id.
    pub static_members: HashMap<Str, Str>,
    /// Ids that were given out and not joined with yet.
    pub pending_members: BTreeSet<Str>,
    /// Members that have yet to sync in this generation.
    pub pending_sync: BTreeSet<Str>,
    /// Somebody came while the first rebalance was waiting for company.
    pub new_member_added: bool,
    /// The first rebalance is waiting for company.
    pub initial_delay: Option<InitialDelay>,
    /// What the members read, where their subscriptions say it.
    pub subscribed_topics: Option<HashSet<Str>>,
}

impl ClassicGroup {
    /// An empty group.
    #[must_use]
    pub fn new(id: Str) -> Self {
        Self {
            id,
            state: ClassicState::Empty,
            state_timestamp_ms: None,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            generation: 0,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            new_member_added: false,
            initial_delay: None,
            subscribed_topics: None,
        }
    }

    /// Makes a record of this group hold: its generation, members and assignments. Members that are here
    /// already keep what is not in records.
    pub fn apply(&mut self, value: &GroupMetadataValue) {
        self.protocol_type = Some(value.protocol_type.detached()).filter(|it| !it.is_empty());
        self.protocol_name = value.protocol.as_ref().map(Str::detached);
        self.leader = value.leader.as_ref().map(Str::detached);
        self.generation = value.generation;
        self.state_timestamp_ms =
            Some(value.current_state_timestamp).filter(|timestamp_ms| *timestamp_ms != -1);
        let mut before = std::mem::take(&mut self.members);
        self.static_members.clear();
        for recorded in &value.members {
            let mut member = match before.remove(&recorded.member_id) {
                Some(member) => member,
                None => Box::new(loaded(recorded, self.protocol_name.as_ref())),
            };
            member.assignment = Bytes::copy_from_slice(&recorded.assignment);
            if let Some(instance_id) = &member.instance_id {
                self.static_members.insert(instance_id.clone(), member.id.clone());
            }
            self.members.insert(member.id.clone(), member);
        }
        self.state = if self.members.is_empty() { ClassicState::Empty } else { ClassicState::Stable };
    }

    /// Whether a member reads this topic. Where consumers' subscriptions cannot be read, it may be so.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics
            .as_ref()
            .map_or_else(|| self.is_of_consumers(), |topics| topics.contains(topic))
    }
}

/// A member as a record has it.
fn loaded(recorded: &MemberMetadata, protocol: Option<&Str>) -> ClassicMember {
    let metadata = Bytes::copy_from_slice(&recorded.subscription);
    ClassicMember {
        id: recorded.member_id.detached(),
        instance_id: recorded.group_instance_id.as_ref().map(Str::detached),
        client_id: recorded.client_id.detached(),
        client_host: recorded.client_host.detached(),
        rebalance_timeout_ms: match recorded.rebalance_timeout {
            -1 => recorded.session_timeout,
            timeout_ms => timeout_ms,
        },
        session_timeout_ms: recorded.session_timeout,
        protocols: protocol
            .map(|name| ClassicProtocol { name: name.clone(), metadata })
            .into_iter()
            .collect(),
        assignment: Bytes::new(),
        waiting_join: None,
        waiting_sync: None,
        is_new: false,
    }
}
