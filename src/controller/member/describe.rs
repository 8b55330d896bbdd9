//! How the quorum is, for those who ask (DescribeQuorum).

use crate::types::Offset;

use super::super::quorum::{Quorum, ReplicaProgress, RoleName, Voter};
use super::log::ReplicaLog;

/// What a node knows of its quorum.
#[derive(Clone, Debug, Default)]
pub struct QuorumDescription {
    /// Whether it leads: only then the progress of the others is known.
    pub leads: bool,
    /// Who leads, as far as it knows.
    pub leader_id: Option<i32>,
    /// The epoch.
    pub epoch: i32,
    /// What a majority has.
    pub high_watermark: Offset,
    /// The voters.
    pub voters: Vec<ReplicaProgress>,
    /// Who else fetches.
    pub observers: Vec<ReplicaProgress>,
    /// Where the voters listen.
    pub nodes: Vec<Voter>,
}

pub(super) fn describe(quorum: &Quorum<ReplicaLog>, now_ms: i64) -> QuorumDescription {
    let voters = quorum.membership().voters();
    let (of_voters, of_observers) =
        quorum.replicas(now_ms).into_iter().partition(|replica| voters.contains(&replica.key));
    QuorumDescription {
        leads: quorum.role() == RoleName::Leader,
        leader_id: quorum.leader_id(),
        epoch: quorum.epoch().0,
        high_watermark: quorum.high_watermark().unwrap_or(Offset::UNKNOWN),
        voters: of_voters,
        observers: of_observers,
        nodes: voters.iter().cloned().collect(),
    }
}
