//! Which brokers hold a partition, where nobody says it: in stripes over the racks, and over the brokers of each
//! rack, each broker at most once. The leader serves at that moment; brokers that are fenced are the last to be
//! taken, and those on their way down, or with nothing but cordoned directories, are not.
//!
//! ```text
//!  racks A, B, C with three brokers each, three replicas
//!  partition 0: A0 B1 C2     1: B0 C1 A2     2: C0 A1 B2     3: A1 B2 C0   ...
//! ```
//! So each broker leads as often as any other of its rack, and those who follow one leader differ.

use std::collections::BTreeMap;

use crate::metadata::Image;
use crate::protocol::ErrorCode;
use crate::types::Uuid;

use super::decision::Refusal;

/// Registered, unfenced, and not on its way down.
pub(super) fn is_active(image: &Image, broker: i32) -> bool {
    image.broker(broker).is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
}

/// The brokers of one rack.
#[derive(Default)]
struct Rack {
    serving: Vec<i32>,
    fenced: Vec<i32>,
}

impl Rack {
    /// All of them in the order in which a partition takes them: `turn` says who is first, and the others change
    /// places with every full turn.
    fn order(&self, turn: usize) -> Vec<i32> {
        let mut order = Vec::with_capacity(self.serving.len() + self.fenced.len());
        let count = self.serving.len();
        if count > 0 {
            order.push(self.serving[turn % count]);
            let others = count - 1;
            let follower = |at: usize| (turn + 1 + (at + turn / count) % others) % count;
            order.extend((0..others).map(|at| self.serving[follower(at)]));
        }
        order.extend((0..self.fenced.len()).map(|at| self.fenced[(turn + at) % self.fenced.len()]));
        order
    }
}

/// The racks by name; brokers without one stand in one together.
fn racks(image: &Image) -> Vec<Rack> {
    let mut racks: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
    for broker in image.brokers().values() {
        let cordoned = broker.cordoned_log_dirs.as_deref().unwrap_or_default();
        let has_room = broker.log_dirs.is_empty() || broker.log_dirs.iter().any(|it| !cordoned.contains(it));
        if broker.in_controlled_shutdown || !has_room {
            continue;
        }
        let rack = racks.entry(broker.rack.as_deref()).or_default();
        if broker.fenced { rack.fenced.push(broker.id) } else { rack.serving.push(broker.id) }
    }
    racks.into_values().collect()
}

/// Replicas for `partitions` new partitions, the leader of each first.
pub(super) fn place(
    image: &Image,
    partitions: usize,
    replication_factor: usize,
    start: &mut usize,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let racks = racks(image);
    let brokers: usize = racks.iter().map(|rack| rack.serving.len() + rack.fenced.len()).sum();
    let refuse = |why: String| {
        let message = format!("Unable to replicate the partition {replication_factor} time(s): {why}");
        Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message))
    };
    if replication_factor > brokers {
        return refuse(format!("{brokers} broker(s) are registered and able to take it."));
    }
    if racks.iter().all(|rack| rack.serving.is_empty()) {
        return refuse("all brokers are fenced.".to_owned());
    }
    let first = *start;
    *start = start.wrapping_add(partitions) % TURNS;
    Ok((first..first + partitions).map(|turn| stripe(&racks, turn, replication_factor)).collect())
}

/// Where the count of partitions begins anew; divided by any usual number of brokers.
const TURNS: usize = 720_720;

/// The replicas of one partition: racks take turns, and so do the brokers of each.
fn stripe(racks: &[Rack], turn: usize, replication_factor: usize) -> Vec<i32> {
    let count = racks.len();
    let mut orders: Vec<std::vec::IntoIter<i32>> = Vec::with_capacity(count);
    for place in 0..count {
        let rack = &racks[(turn + place) % count];
        // With every full turn other brokers follow the same leader.
        let full_turns = turn / (count * rack.serving.len().max(1));
        orders.push(rack.order(turn / count + place * (1 + full_turns)).into_iter());
    }
    // The leader serves: racks in which nobody does come after it.
    let leads = |place: &usize| !racks[(turn + place) % count].serving.is_empty();
    let first = (0..count).find(leads).unwrap_or(0);
    orders.rotate_left(first);
    let mut replicas = Vec::with_capacity(replication_factor);
    while replicas.len() < replication_factor {
        let before = replicas.len();
        let room = replication_factor - before;
        replicas.extend(orders.iter_mut().filter_map(Iterator::next).take(room));
        if replicas.len() == before {
            break;
        }
    }
    replicas
}

/// The directory that a new replica on a broker gets, as far as it is certain: a broker with one uses that.
pub(super) fn default_directory(image: &Image, broker: i32) -> Uuid {
    match image.broker(broker).map(|broker| broker.log_dirs.as_slice()) {
        Some([only]) => *only,
        _ => Uuid::ZERO,
    }
}

/// Checks replicas that somebody chose by hand for partition `partition`; `factor` is what the other
/// partitions of the topic have.
pub(super) fn check_manual(
    image: &Image,
    partition: i32,
    replicas: &[i32],
    factor: Option<usize>,
) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    check_replicas(image, replicas)?;
    if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
        return refuse(format!(
            "The manual partition assignment includes a partition with {} replica(s), but the others have \
             {factor}.",
            replicas.len()
        ));
    }
    if !replicas.iter().any(|replica| is_active(image, *replica)) {
        return refuse(format!(
            "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
             controlled shutdown."
        ));
    }
    Ok(())
}

/// Checks that replicas are registered brokers, each once, and at least one.
pub(super) fn check_replicas(image: &Image, replicas: &[i32]) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    for (index, replica) in replicas.iter().enumerate() {
        if image.broker(*replica).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        }
        if replicas[..index].contains(replica) {
            return refuse(format!(
                "The manual partition assignment includes the broker {replica} more than once."
            ));
        }
    }
    Ok(())
}
