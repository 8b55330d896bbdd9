//! Which brokers hold a partition, where nobody says it: leaders and followers in stripes over the brokers
//! that are up, each broker at most once.

use crate::metadata::Image;
use crate::protocol::ErrorCode;
use crate::types::Uuid;

use super::decision::Refusal;

/// Brokers that may be given replicas.
pub(super) fn usable_brokers(image: &Image) -> Vec<i32> {
    let usable = |broker: &i32| is_active(image, *broker);
    image.brokers().keys().copied().filter(usable).collect()
}

/// Registered, unfenced, and not on its way down.
pub(super) fn is_active(image: &Image, broker: i32) -> bool {
    image.broker(broker).is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
}

/// Replicas for `partitions` new partitions, the leader of each first.
pub(super) fn place(
    image: &Image,
    partitions: usize,
    replication_factor: usize,
    start: &mut usize,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let brokers = usable_brokers(image);
    if replication_factor > brokers.len() {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {replication_factor} time(s): {} broker(s) are registered and \
                 able to take it.",
                brokers.len()
            ),
        ));
    }
    let first = *start;
    *start = start.wrapping_add(partitions) % brokers.len();
    let replicas = |partition: usize| {
        (0..replication_factor)
            .map(|replica| brokers[(first + partition + replica) % brokers.len()])
            .collect()
    };
    Ok((0..partitions).map(replicas).collect())
}

/// The directory of each replica as far as it is certain: a broker with one directory uses that.
pub(super) fn directories(image: &Image, replicas: &[i32]) -> Vec<Uuid> {
    let only = |broker: &i32| match image.broker(*broker).map(|broker| broker.log_dirs.as_slice()) {
        Some([only]) => *only,
        _ => Uuid::ZERO,
    };
    replicas.iter().map(only).collect()
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
