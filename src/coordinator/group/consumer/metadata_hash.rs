//! One number for everything about a group's topics that an assignment depends on: their ids, names, partitions
//! and the racks of those. Where it changes, the group needs a new assignment. Kafka's number, so that a group
//! that moves between it and us does not rebalance for nothing.
//!
//! ```text
//! topic: XXH3-64 of 0:i8 id:16 bytes as two i64 name partitions:i32 (number:i32 (rack length:i32 rack)*)*
//!        numbers little-endian; a text as its UTF-16 units, little-endian, and how many they are:i32;
//!        racks in ascending order
//! group: XXH3-64 of the topics' numbers:i64, by ascending name; 0 where there is none
//! ```

use twox_hash::XxHash3_64;

use crate::metadata::{Image, Topic};
use crate::protocol::Str;

/// The number of a group that reads nothing.
pub(super) const OF_NOTHING: i64 = 0;

/// The number of a group that reads these topics, which come in ascending order. Those that do not exist do
/// not count.
pub(super) fn of_group<'a>(topics: impl Iterator<Item = &'a Str>, image: &Image) -> i64 {
    let topics = topics.filter_map(|name| image.topic(name));
    let bytes: Vec<u8> = topics.flat_map(|topic| of_topic(topic, image).to_le_bytes()).collect();
    if bytes.is_empty() { OF_NOTHING } else { XxHash3_64::oneshot(&bytes).cast_signed() }
}

fn of_topic(topic: &Topic, image: &Image) -> i64 {
    let mut bytes = vec![0];
    for half in topic.id.0.chunks_exact(8) {
        bytes.extend(half.iter().rev());
    }
    put_text(&mut bytes, topic.name.as_str());
    put_length(&mut bytes, topic.partitions.len());
    for (number, partition) in &topic.partitions {
        bytes.extend(number.to_le_bytes());
        let brokers = partition.replicas.iter().filter_map(|replica| image.broker(*replica));
        let mut racks: Vec<&str> = brokers.filter_map(|broker| broker.rack.as_deref()).collect();
        racks.sort_unstable();
        for rack in racks {
            put_length(&mut bytes, rack.encode_utf16().count());
            put_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes).cast_signed()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    put_length(bytes, text.encode_utf16().count());
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::metadata::PartitionRegistration;
    use crate::types::{TopicName, Uuid};

    use super::*;

    fn topic(name: &str, most: i64, least: i64, partitions: i32) -> Topic {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&most.to_be_bytes());
        id[8..].copy_from_slice(&least.to_be_bytes());
        let partitions: BTreeMap<_, _> =
            (0..partitions).map(|number| (number, PartitionRegistration::default())).collect();
        Topic { name: TopicName::new(name).unwrap(), id: Uuid(id), partitions }
    }

    /// What the hash functions of Kafka 4.3.1 return for the same.
    #[test]
    fn hashes_are_those_of_kafka() {
        let image = Image::default();
        assert_eq!(of_topic(&topic("foo", 1, 2, 3), &image), 8_773_618_633_639_361_573);
        let of_group: Vec<u8> = [5_i64, -7].into_iter().flat_map(i64::to_le_bytes).collect();
        assert_eq!(XxHash3_64::oneshot(&of_group).cast_signed(), -4_646_943_608_980_624_969);
        assert_eq!(of_group_without_topics(), 0);
    }

    fn of_group_without_topics() -> i64 {
        of_group([Str::from("missing")].iter(), &Image::default())
    }
}
