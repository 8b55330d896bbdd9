//! Who leads, for clients that asked a broker that does not (KIP-951): they go there without asking for metadata.

use std::collections::BTreeSet;

use super::call::Call;
use super::node::Node;
use crate::metadata::BrokerEndpoint;
use crate::protocol::{ErrorCode, Str};

/// A leader and its epoch; -1 each where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    /// Its node.
    pub leader: i32,
    /// Its epoch.
    pub epoch: i32,
}

impl LeaderHint {
    /// Nothing to say.
    pub const NONE: Self = Self { leader: -1, epoch: -1 };
}

/// The leaders that one answer names.
#[derive(Debug, Default)]
pub struct LeaderHints {
    named: BTreeSet<i32>,
}

impl LeaderHints {
    /// Who leads the partition, where `error_code` says that it is not this broker.
    pub fn look_up(&mut self, node: &Node, (topic, index): (&str, i32), error_code: i16) -> LeaderHint {
        let is_elsewhere = error_code == ErrorCode::NotLeaderOrFollower.code()
            || error_code == ErrorCode::FencedLeaderEpoch.code();
        if !is_elsewhere {
            return LeaderHint::NONE;
        }
        let image = node.image();
        let Some(partition) = image.partition(topic, index) else { return LeaderHint::NONE };
        if partition.leader >= 0 {
            self.named.insert(partition.leader);
        }
        LeaderHint { leader: partition.leader, epoch: partition.leader_epoch }
    }

    /// Where the leaders that were named are reached, each as `make` says it.
    pub fn endpoints<T>(
        &self,
        node: &Node,
        call: &Call,
        make: impl Fn(i32, &BrokerEndpoint, Option<Str>) -> T,
    ) -> Vec<T> {
        if self.named.is_empty() {
            return Vec::new();
        }
        let image = node.image();
        let reached = self.named.iter().filter_map(|id| {
            let broker = image.broker(*id)?;
            Some(make(*id, call.endpoint_of(broker)?, broker.rack.as_deref().map(Str::from)))
        });
        reached.collect()
    }
}
