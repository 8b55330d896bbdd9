//! Who ran on a directory last. A broker's registration stands in the metadata log, and its incarnation id says
//! whose it is: Kafka draws UUIDs of version 4, klamm of version 8 (RFC 9562: for the maker's own use).
//!
//! ```text
//! byte 6 of the incarnation id   0x80  klamm, on a directory of its own
//!                                0x81  klamm, on a directory that Kafka served before, by settings that are
//!                                      in no directory
//!                                0x4.  Kafka
//! ```
//! So a directory stays known as adopted over restarts, a Kafka in between is noticed, and nothing lies in the
//! directory that Kafka does not know.

use crate::metadata::Image;
use crate::types::Uuid;

const MARK: usize = 6;
const OWN: u8 = 0x80;
const ADOPTED: u8 = 0x81;

/// An incarnation id from a random one.
#[must_use]
pub fn mark(random: Uuid, is_adopted: bool) -> Uuid {
    let mut bytes = random.0;
    bytes[MARK] = if is_adopted { ADOPTED } else { OWN };
    Uuid(bytes)
}

/// Whether topics of the image were made under the settings of a broker that was not klamm.
pub(super) fn is_adopted(image: &Image, node_id: i32) -> bool {
    match image.broker(node_id) {
        Some(broker) => broker.incarnation_id.0[MARK] != OWN,
        None => !image.topics().is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
    use crate::protocol::messages::topic_record::TopicRecord;
    use crate::types::{LeaderEpoch, Offset};

    use super::*;

    fn image(incarnation_id: Option<Uuid>) -> Image {
        let mut builder = Image::default().builder();
        let topic = TopicRecord { name: "t".into(), topic_id: Uuid([1; 16]), ..Default::default() };
        builder.apply(topic.into()).unwrap();
        if let Some(incarnation_id) = incarnation_id {
            let broker = RegisterBrokerRecord { broker_id: 1, incarnation_id, ..Default::default() };
            builder.apply(broker.into()).unwrap();
        }
        builder.finish(Offset(2), LeaderEpoch(1))
    }

    #[test]
    fn the_last_registration_says_whose_the_directory_is() {
        let random = Uuid::from_random_bytes([0xab; 16]);
        assert!(!is_adopted(&image(Some(mark(random, false))), 1));
        assert!(is_adopted(&image(Some(mark(random, true))), 1));
        assert!(is_adopted(&image(Some(random)), 1), "Kafka's are of version 4");
        assert!(is_adopted(&image(None), 1));
        assert!(!is_adopted(&Image::default(), 1), "a new directory");
    }
}
