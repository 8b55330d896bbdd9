//! What members tell each other through a classic group's coordinator, as Java's and librdkafka's clients write it.
//!
//! ```text
//! subscription, assignment   version int16, then the message of that version; a newer one is read as the newest known
//! sticky's user data         [topic string, [partition int32]], generation int32 (absent in its version 0)
//! cooperative-sticky's       generation int32; what is owned stands in the subscription itself
//! ```
//! What cannot be read costs its member its partitions, not the group its assignment.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as Assigned,
};
use crate::protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition as Owned,
};
use crate::protocol::{Decoder, Message, encode_to_bytes};

use super::assignor::{Assignor, Part, Subscriber};

/// The newest version of both messages.
const VERSION: i16 = 3;

/// What a member says of itself when it joins.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish<'a> {
    pub(super) topics: Vec<&'a str>,
    /// What it reads while the group rebalances, or had before.
    pub(super) owned: &'a [Part],
    pub(super) generation: i32,
    pub(super) rack: Option<&'a str>,
}

impl Wish<'_> {
    /// The metadata under one assignor's name.
    pub(super) fn encode(&self, assignor: Assignor, keeps_while_joining: bool) -> Bytes {
        let user_data = match assignor {
            Assignor::Range | Assignor::RoundRobin => None,
            Assignor::Sticky => Some(sticky_user_data(self.owned, self.generation)),
            Assignor::CooperativeSticky => Some(Bytes::copy_from_slice(&self.generation.to_be_bytes())),
        };
        let owned = if keeps_while_joining { self.owned } else { &[] };
        let owned = by_topic(owned)
            .into_iter()
            .map(|(topic, partitions)| Owned { topic: (&*topic).into(), partitions });
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(|&topic| topic.into()).collect(),
            user_data,
            owned_partitions: owned.collect(),
            generation_id: self.generation,
            rack_id: self.rack.map(Into::into),
        };
        versioned(&subscription)
    }
}

/// What another member said; `None` where that cannot be read.
pub(super) fn read_subscription(
    assignor: Assignor,
    member_id: &str,
    instance_id: Option<&str>,
    metadata: Bytes,
) -> Option<Subscriber> {
    let subscription: ConsumerProtocolSubscription = read_versioned(metadata)?;
    let owned = subscription.owned_partitions.iter().flat_map(|owned| {
        let topic: Arc<str> = (&*owned.topic).into();
        owned.partitions.iter().map(move |&partition| (Arc::clone(&topic), partition))
    });
    let mut owned: Vec<Part> = owned.collect();
    let mut generation = subscription.generation_id;
    let user_data = subscription.user_data.unwrap_or_default();
    match assignor {
        Assignor::Range | Assignor::RoundRobin => {}
        // Members that revoke everything before they join say in the user data what they had.
        Assignor::Sticky => {
            (owned, generation) = read_sticky_user_data(user_data).unwrap_or((Vec::new(), -1));
        }
        Assignor::CooperativeSticky if generation < 0 => {
            generation = match user_data.len() {
                4 => (&user_data[..]).get_i32(),
                // librdkafka writes sticky's there.
                _ => read_sticky_user_data(user_data).map_or(-1, |(_, generation)| generation),
            };
        }
        Assignor::CooperativeSticky => {}
    }
    Some(Subscriber {
        member_id: member_id.to_owned(),
        instance_id: instance_id.map(str::to_owned),
        topics: subscription.topics.iter().map(|topic| (&**topic).into()).collect(),
        owned,
        generation,
    })
}

/// A member's share as it is sent to it.
pub(super) fn encode_assignment(share: &[Part]) -> Bytes {
    let partitions = by_topic(share)
        .into_iter()
        .map(|(topic, partitions)| Assigned { topic: (&*topic).into(), partitions });
    versioned(&ConsumerProtocolAssignment { assigned_partitions: partitions.collect(), user_data: None })
}

/// A share as it came; nothing at all is an empty share, `None` what cannot be read.
#[must_use]
pub fn read_assignment(bytes: Bytes) -> Option<Vec<(Arc<str>, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let assignment: ConsumerProtocolAssignment = read_versioned(bytes)?;
    let parts = assignment.assigned_partitions.iter().flat_map(|assigned| {
        let topic: Arc<str> = (&*assigned.topic).into();
        assigned.partitions.iter().map(move |&partition| (Arc::clone(&topic), partition))
    });
    Some(parts.collect())
}

/// The topics that a subscription names; `None` where it cannot be read.
#[must_use]
pub fn read_subscribed_topics(bytes: Bytes) -> Option<Vec<String>> {
    let subscription: ConsumerProtocolSubscription = read_versioned(bytes)?;
    Some(subscription.topics.iter().map(ToString::to_string).collect())
}

pub(super) fn by_topic(parts: &[Part]) -> BTreeMap<Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in parts {
        topics.entry(Arc::clone(topic)).or_default().push(*partition);
    }
    topics
}

fn versioned<M: Message>(message: &M) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    // Both messages can be said in every version: no name in them is longer than a topic's may be.
    bytes.put(encode_to_bytes(message, VERSION).unwrap_or_default());
    bytes.freeze()
}

fn read_versioned<M: Message>(mut bytes: Bytes) -> Option<M> {
    let version = bytes.try_get_i16().ok().filter(|version| *version >= 0)?;
    M::decode(&mut Decoder::new(bytes), version.min(VERSION)).ok()
}

fn sticky_user_data(owned: &[Part], generation: i32) -> Bytes {
    let topics = by_topic(owned);
    let mut bytes = BytesMut::new();
    bytes.put_i32(i32::try_from(topics.len()).unwrap_or(0));
    for (topic, partitions) in topics {
        // A topic's name has at most 249 bytes.
        bytes.put_i16(i16::try_from(topic.len()).unwrap_or(0));
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(i32::try_from(partitions.len()).unwrap_or(0));
        partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
    }
    bytes.put_i32(generation);
    bytes.freeze()
}

/// What it had, and in which generation (-1 in version 0, which does not say).
fn read_sticky_user_data(mut bytes: Bytes) -> Option<(Vec<Part>, i32)> {
    let mut parts = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if length > bytes.remaining() {
            return None;
        }
        let topic: Arc<str> = std::str::from_utf8(&bytes.split_to(length)).ok()?.into();
        let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
        if count > bytes.remaining() / 4 {
            return None;
        }
        parts.extend((0..count).map(|_| (Arc::clone(&topic), bytes.get_i32())));
    }
    Some((parts, bytes.try_get_i32().unwrap_or(-1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNED: &[(&str, i32)] = &[("t", 1), ("t", 3), ("u", 0)];

    fn owned() -> Vec<Part> {
        OWNED.iter().map(|&(topic, partition)| (topic.into(), partition)).collect()
    }

    #[test]
    fn what_a_member_says_is_what_the_leader_hears() {
        let owned = owned();
        let wish = Wish { topics: vec!["t", "u"], owned: &owned, generation: 7, rack: Some("r1") };
        for (assignor, keeps, heard) in [
            (Assignor::Range, false, (Vec::new(), 7)),
            (Assignor::Sticky, false, (owned.clone(), 7)),
            (Assignor::CooperativeSticky, true, (owned.clone(), 7)),
        ] {
            let metadata = wish.encode(assignor, keeps);
            let member = read_subscription(assignor, "m", Some("i"), metadata).unwrap();
            assert_eq!((member.owned, member.generation), heard, "{}", assignor.name());
            assert_eq!(member.topics.len(), 2);
            assert_eq!(member.instance_id.as_deref(), Some("i"));
        }
    }

    #[test]
    fn user_data_has_javas_layout() {
        let bytes = sticky_user_data(&[("ab".into(), 5)], 9);
        assert_eq!(bytes[..], [0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9]);
        // Version 0 ends before the generation.
        let old = bytes.slice(..bytes.len() - 4);
        assert_eq!(read_sticky_user_data(old), Some((vec![("ab".into(), 5)], -1)));
    }

    #[test]
    fn older_members_say_the_generation_in_their_user_data() {
        let of = |user_data: Bytes| {
            let subscription = ConsumerProtocolSubscription {
                topics: vec!["t".into()],
                user_data: Some(user_data),
                owned_partitions: vec![Owned { topic: "t".into(), partitions: vec![2] }],
                ..Default::default()
            };
            let mut bytes = BytesMut::new();
            bytes.put_i16(1);
            bytes.put(encode_to_bytes(&subscription, 1).unwrap_or_default());
            read_subscription(Assignor::CooperativeSticky, "m", None, bytes.freeze()).unwrap()
        };
        assert_eq!(of(Bytes::from_static(&[0, 0, 0, 4])).generation, 4);
        let librdkafka = of(sticky_user_data(&[("t".into(), 2)], 5));
        assert_eq!((librdkafka.generation, librdkafka.owned), (5, vec![("t".into(), 2)]));
    }

    #[test]
    fn assignments_come_back_and_nothing_is_an_empty_share() {
        assert_eq!(read_assignment(encode_assignment(&owned())), Some(owned()));
        assert_eq!(read_assignment(Bytes::new()), Some(Vec::new()));
        assert_eq!(read_assignment(Bytes::from_static(&[0, 0, 127])), None);
        // A version that is not there yet reads as the newest that is.
        let mut newer = BytesMut::from(&encode_assignment(&owned())[..]);
        newer[1] = 9;
        assert_eq!(read_assignment(newer.freeze()), Some(owned()));
    }

    #[test]
    fn lengths_that_lie_are_not_believed() {
        for bytes in [
            &[0x7f, 0xff, 0xff, 0xff][..],
            &[0, 0, 0, 1, 0x7f, 0xff],
            &[0, 0, 0, 1, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(read_sticky_user_data(Bytes::copy_from_slice(bytes)), None);
        }
        assert!(read_subscription(Assignor::Range, "m", None, Bytes::from_static(&[255, 255])).is_none());
    }
}
