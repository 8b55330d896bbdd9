//! What a reassignment waits for, as far as it can be seen from outside.

use std::fmt;

use crate::types::{ByteSize, TopicPartition};

use super::facts::Look;
use super::throttle::Throttles;

/// Something that must happen before a reassignment is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nobody leads the partition, and these of its replicas are down.
    NoLeader { down: Vec<i32> },
    /// A broker that is to keep it is not there.
    Down { broker: i32 },
    /// A broker cannot use a log directory, or does not answer.
    Trouble { broker: i32, why: String },
    /// A broker has no replica yet.
    NotBegun { broker: i32 },
    /// A broker fetches what it lacks.
    Copies { broker: i32, left_bytes: u64, rate: Option<u64> },
    /// A broker has all, but is not in sync.
    Behind { broker: i32, rate: Option<u64> },
    /// All are in sync.
    Controller,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let throttled = |rate: Option<u64>| match rate {
            Some(rate) => format!(", throttled to {}/s", ByteSize(rate)),
            None => String::new(),
        };
        match self {
            Self::NoLeader { down } if down.is_empty() => f.write_str("nobody leads it"),
            Self::NoLeader { down } => write!(f, "nobody leads it while broker {} is down", super::ids(down)),
            Self::Down { broker } => write!(f, "broker {broker} is down"),
            Self::Trouble { broker, why } => write!(f, "broker {broker}: {why}"),
            Self::NotBegun { broker } => write!(f, "broker {broker} has no replica yet"),
            Self::Copies { broker, left_bytes, rate } => {
                write!(f, "broker {broker} lacks {}{}", ByteSize(*left_bytes), throttled(*rate))
            }
            Self::Behind { broker, rate } => {
                write!(f, "broker {broker} is not in sync{}", throttled(*rate))
            }
            Self::Controller => f.write_str("the controller, all replicas are in sync"),
        }
    }
}

impl Wait {
    /// Whether it will not end by itself, however long one waits.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self, Self::NoLeader { .. } | Self::Down { .. } | Self::Trouble { .. })
    }
}

/// What a partition's reassignment waits for.
pub(super) fn waits(look: &Look, partition: &TopicPartition, throttles: &Throttles) -> Vec<Wait> {
    let Some(ongoing) = look.ongoing.get(partition) else { return Vec::new() };
    let in_sync: Vec<i32> =
        look.partition(partition).map(|one| one.in_sync.iter().map(|id| id.0).collect()).unwrap_or_default();
    let leader = look.leader(partition);
    let mut waits = Vec::new();
    if leader.is_none() {
        let down = ongoing.replicas.iter().copied().filter(|&id| !look.is_alive(id));
        waits.push(Wait::NoLeader { down: down.collect() });
    }
    let whole = look.sizes.of_partition(partition, leader);
    for broker in ongoing.target().into_iter().filter(|id| !in_sync.contains(id)) {
        let rate = throttles.rate(partition, leader, broker);
        let wait = match (look.is_alive(broker), look.sizes.troubles.get(&broker)) {
            (false, _) => Wait::Down { broker },
            (true, Some(why)) => Wait::Trouble { broker, why: why.clone() },
            (true, None) => match look.sizes.of(partition, broker) {
                None => Wait::NotBegun { broker },
                Some(has) if has < whole => Wait::Copies { broker, left_bytes: whole - has, rate },
                Some(_) => Wait::Behind { broker, rate },
            },
        };
        waits.push(wait);
    }
    if waits.is_empty() {
        waits.push(Wait::Controller);
    }
    waits
}

/// Several, in one line.
pub(super) fn in_words(waits: &[Wait]) -> String {
    waits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
