//! Which partition of `__consumer_offsets` a group lives in.

/// Whether Kafka takes this for a group's id: anything but the empty text.
#[must_use]
pub fn is_group_id(group_id: &str) -> bool {
    !group_id.is_empty()
}

/// The partition of a group: Java's hash of its id, without the sign, modulo the number of partitions.
#[must_use]
pub fn group_partition(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `abs`: the one number without a positive twin counts as 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_live_where_kafka_looks_for_them() {
        // String.hashCode: "a" is 97, "my-group" is -1379785441.
        assert_eq!(group_partition("a", 50), 47);
        assert_eq!(group_partition("polygenelubricants", 50), 0, "its hash is the least integer");
        assert!((0..50).contains(&group_partition("grün-🦀", 50)));
    }
}
