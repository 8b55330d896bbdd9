//! What classic consumers put into their members' metadata and assignments: Kafka's "consumer protocol". Two
//! bytes of version, then the message; a later version is read as the highest that is known here.

use bytes::{BufMut, Bytes, BytesMut};

use crate::coordinator::assignor::Partitions;
use crate::metadata::Image;
use crate::protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::{Decoder, Encoder, Message, Str};

/// The protocol type of groups of consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

fn version(bytes: &Bytes, highest: i16) -> Option<i16> {
    let version = i16::from_be_bytes(*bytes.first_chunk::<2>()?);
    (version >= 0).then_some(version.min(highest))
}

fn decode<M: Message>(bytes: &Bytes) -> Option<M> {
    let version = version(bytes, *M::VERSIONS.end())?;
    M::decode(&mut Decoder::new(bytes.slice(2..)), version).ok()
}

/// What a member's metadata says that it reads and owns; `None` where it cannot be read.
pub(super) fn subscription(metadata: &Bytes) -> Option<ConsumerProtocolSubscription> {
    decode(metadata)
}

/// What a leader gave to a member; nothing where it gave nothing, `None` where it cannot be read.
pub(super) fn assignment(bytes: &Bytes) -> Option<ConsumerProtocolAssignment> {
    if bytes.is_empty() { Some(ConsumerProtocolAssignment::default()) } else { decode(bytes) }
}

/// The partitions of an assignment that exist.
pub(super) fn assigned(assignment: &ConsumerProtocolAssignment, image: &Image) -> Partitions {
    let topics = assignment.assigned_partitions.iter();
    existing(topics.map(|entry| (&entry.topic, &*entry.partitions)), image)
}

/// The partitions that a member says it owns and that exist.
pub(super) fn owned(subscription: &ConsumerProtocolSubscription, image: &Image) -> Partitions {
    let topics = subscription.owned_partitions.iter();
    existing(topics.map(|entry| (&entry.topic, &*entry.partitions)), image)
}

fn existing<'a>(topics: impl Iterator<Item = (&'a Str, &'a [i32])>, image: &Image) -> Partitions {
    let known = topics.filter_map(|(name, partitions)| Some((image.topic(name)?, partitions)));
    known
        .flat_map(|(topic, partitions)| {
            let there = partitions.iter().filter(|partition| topic.partitions.contains_key(partition));
            there.map(|partition| (topic.id, *partition))
        })
        .collect()
}

/// An assignment for a member with this metadata, in the version that it speaks.
pub(super) fn assignment_bytes(partitions: &Partitions, metadata: &Bytes, image: &Image) -> Bytes {
    let version = version(metadata, *ConsumerProtocolAssignment::VERSIONS.end()).unwrap_or(0);
    let topics = partitions.iter().filter_map(|(topic, partitions)| {
        Some(AssignedTopic {
            topic: image.topic_by_id(topic)?.name.as_str().into(),
            partitions: partitions.to_vec(),
        })
    });
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: topics.collect(), ..Default::default() };
    let mut encoder = Encoder::new();
    // Every field has every version: neither can fail.
    let encoded = assignment.encode(&mut encoder, version).ok().and_then(|()| encoder.into_bytes().ok());
    let body = encoded.unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    bytes.put_i16(version);
    bytes.extend_from_slice(&body);
    bytes.freeze()
}
