//! Bytes that are no message, or a message made to hurt: each is refused for its own reason, nothing panics,
//! and nothing takes more memory than the frame's size allows.

use bytes::Bytes;
use klamm::protocol::frame::RequestHeader;
use klamm::protocol::messages::api_versions_request::ApiVersionsRequest;
use klamm::protocol::messages::create_topics_request::CreateTopicsRequest;
use klamm::protocol::messages::fetch_request::FetchRequest;
use klamm::protocol::messages::metadata_request::MetadataRequest;
use klamm::protocol::messages::metadata_response::MetadataResponse;
use klamm::protocol::messages::produce_request::ProduceRequest;
use klamm::protocol::messages::sasl_handshake_request::SaslHandshakeRequest;
use klamm::protocol::messages::{self, RecodeError};
use klamm::protocol::schema::Kind;
use klamm::protocol::{DecodeFault, Decoder, Message, decode_whole};

use crate::allocation::peak_of;
use crate::golden::vectors;
use crate::random::Random;

fn fault_of<M: Message>(bytes: &[u8], version: i16) -> DecodeFault {
    match decode_whole::<M>(&mut Decoder::new(Bytes::copy_from_slice(bytes)), version) {
        Ok(_) => panic!("{bytes:?} were read as a {}", M::NAME),
        Err(error) => error.fault,
    }
}

/// What reading and writing a frame of this size may take: the decoder's allowance, and a buffer that grows by
/// doubling.
fn memory_max(frame_len: usize) -> usize {
    Decoder::allowance_for(frame_len) + 4 * frame_len + 4096
}

#[test]
fn cve_2022_34917_a_collection_is_no_larger_than_the_bytes_that_are_left() {
    // The 5-byte body that makes another implementation allocate 4 billion topics: a compact count of 2^32 - 1.
    let count = b"\xff\xff\xff\xff\x0f";
    let left = 0;
    let (fault, peak) = peak_of(|| fault_of::<MetadataRequest>(count, 9));
    assert!(
        matches!(fault, DecodeFault::InvalidLength { .. } | DecodeFault::LengthBeyondEnd { .. }),
        "{fault}"
    );
    assert!(peak < 4096, "{peak} bytes");

    let (fault, peak) = peak_of(|| fault_of::<MetadataRequest>(&i32::MAX.to_be_bytes(), 1));
    assert_eq!(fault, DecodeFault::LengthBeyondEnd { field: "topics", claimed: i32::MAX as usize, left });
    assert!(peak < 4096, "{peak} bytes");

    // Before any authentication: the SASL mechanism's name.
    assert_eq!(
        fault_of::<SaslHandshakeRequest>(b"\x7f\xff", 1),
        DecodeFault::LengthBeyondEnd { field: "mechanism", claimed: 32767, left }
    );
}

#[test]
fn cve_2022_34917_no_request_of_one_length_field_takes_more_than_its_frame_allows() {
    let lengths: [&[u8]; 6] = [
        b"\x7f\xff\xff\xff",
        b"\x00\xff\xff\xff",
        b"\xff\xff\xff\xff\x07",
        b"\xff\xff\x7f",
        b"\x7f\xff",
        b"\x7f",
    ];
    for entry in messages::ALL {
        for version in entry.schema.versions() {
            for length in lengths {
                for padding in [0, 8, 1000] {
                    let mut frame = vec![0; 64];
                    frame.extend_from_slice(length);
                    frame.extend(std::iter::repeat_n(1, padding));
                    for from in 0..64 {
                        let bytes = Bytes::copy_from_slice(&frame[from..]);
                        let (_, peak) = peak_of(|| (entry.recode)(&bytes, version).is_ok());
                        let max = memory_max(bytes.len());
                        assert!(
                            peak <= max,
                            "{} version {version}: {peak} > {max} for {bytes:?}",
                            entry.schema.name
                        );
                        if padding > 0 {
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn s1_8_a_frame_full_of_the_smallest_elements_stays_within_its_allowance() {
    // A megabyte of topics that are four bytes each on the wire and many times that in memory.
    let count = 250_000u32;
    let mut frame = Vec::new();
    let mut claimed = count + 1;
    while claimed >= 0x80 {
        frame.push(claimed as u8 | 0x80);
        claimed >>= 7;
    }
    frame.push(claimed as u8);
    for _ in 0..count {
        frame.extend_from_slice(b"\x01\0\0\0");
    }
    let bytes = Bytes::from(frame);
    let length = bytes.len();
    let (result, peak) = peak_of(|| CreateTopicsRequest::decode(&mut Decoder::new(bytes), 5));
    assert!(result.is_err());
    assert!(peak <= memory_max(length), "{peak} bytes for a frame of {length}");
}

#[test]
fn s1_8_negative_and_largest_sizes_are_refused() {
    for length in [i32::MIN, -2] {
        assert_eq!(
            fault_of::<MetadataRequest>(&length.to_be_bytes(), 1),
            DecodeFault::InvalidLength { field: "topics", length: length.into() }
        );
    }
    let huge = fault_of::<ProduceRequest>(b"\xff\xff\0\x01\0\0\0\x01\x7f\xff\xff\xff", 3);
    assert_eq!(
        huge,
        DecodeFault::LengthBeyondEnd { field: "topicData", claimed: i32::MAX as usize, left: 0 }
    );
}

#[test]
fn s1_8_text_over_32767_bytes_is_refused_as_kafka_refuses_it() {
    let mut frame = b"\x81\x80\x02".to_vec();
    frame.extend(std::iter::repeat_n(b'a', 32768));
    frame.extend_from_slice(b"\x01\0");
    assert_eq!(
        fault_of::<ApiVersionsRequest>(&frame, 3),
        DecodeFault::InvalidLength { field: "clientSoftwareName", length: 32768 }
    );
}

#[test]
fn s1_8_duplicate_tags_are_refused() {
    assert_eq!(
        fault_of::<ApiVersionsRequest>(b"\x01\x01\x02\x07\x01\xaa\x07\x01\xaa", 3),
        DecodeFault::TagOrder { tag: 7, previous: 7 }
    );
    // Also a tag that the version knows: the cluster id of Fetch.
    let mut fetch = vec![0; 3 * 4 + 1 + 4 + 4];
    fetch.extend_from_slice(b"\x01\x01\x01\x02\x00\x02\x02a\x00\x02\x02b");
    assert_eq!(fault_of::<FetchRequest>(&fetch, 15), DecodeFault::TagOrder { tag: 0, previous: 0 });
}

#[test]
fn s1_8_unsorted_tags_are_refused() {
    assert_eq!(
        fault_of::<ApiVersionsRequest>(b"\x01\x01\x02\x09\x00\x08\x00", 3),
        DecodeFault::TagOrder { tag: 8, previous: 9 }
    );
}

#[test]
fn s1_8_a_tag_length_past_the_end_is_refused() {
    let past_the_end = fault_of::<ApiVersionsRequest>(b"\x01\x01\x01\x07\x05\xaa", 3);
    assert_eq!(past_the_end, DecodeFault::LengthBeyondEnd { field: "tagged field", claimed: 5, left: 1 });
    // More tagged fields than there are bytes.
    assert!(matches!(
        fault_of::<ApiVersionsRequest>(b"\x01\x01\xff\xff\xff\xff\x0f", 3),
        DecodeFault::UnexpectedEnd { .. }
    ));
}

#[test]
fn s1_8_a_tagged_field_is_as_long_as_it_says() {
    let mut fetch = vec![0; 3 * 4 + 1 + 4 + 4];
    let shorter = [fetch.as_slice(), b"\x01\x01\x01\x01\x00\x03\x02ab"].concat();
    assert_eq!(fault_of::<FetchRequest>(&shorter, 15), DecodeFault::TagSize { tag: 0, left: 1 });
    // Its value may not reach beyond its end either, though the frame has the bytes.
    fetch.extend_from_slice(b"\x01\x01\x01\x01\x00\x02\x05abcd");
    assert_eq!(
        fault_of::<FetchRequest>(&fetch, 15),
        DecodeFault::LengthBeyondEnd { field: "clusterId", claimed: 4, left: 1 }
    );
}

#[test]
fn s1_8_text_that_is_not_utf8_is_refused() {
    assert_eq!(
        fault_of::<SaslHandshakeRequest>(b"\0\x02\xc3\x28", 1),
        DecodeFault::NotUtf8 { field: "mechanism" }
    );
    assert_eq!(
        fault_of::<ApiVersionsRequest>(b"\x02\xff\x01\0", 3),
        DecodeFault::NotUtf8 { field: "clientSoftwareName" }
    );
}

#[test]
fn s1_8_null_where_none_is_allowed_is_refused() {
    assert_eq!(fault_of::<SaslHandshakeRequest>(b"\xff\xff", 1), DecodeFault::Null { field: "mechanism" });
    // Topics may be null from version 1 on, names from version 10 on: the oracle takes a null name in 9.
    assert_eq!(fault_of::<MetadataRequest>(b"\xff\xff\xff\xff", 0), DecodeFault::Null { field: "topics" });
    assert_eq!(
        fault_of::<MetadataRequest>(b"\x02\x00\x00\x00\x00\x00\x00", 9),
        DecodeFault::Null { field: "name" }
    );
    assert_eq!(fault_of::<MetadataResponse>(b"\xff\xff\xff\xff", 0), DecodeFault::Null { field: "brokers" });
}

#[test]
fn s1_8_a_number_that_does_not_end_is_refused() {
    assert_eq!(fault_of::<MetadataRequest>(b"\x80\x80\x80\x80\x80\x80\x01", 9), DecodeFault::InvalidVarint);
}

#[test]
fn s1_8_half_a_message_is_refused_wherever_it_is_cut() {
    for vector in vectors().iter().filter(|vector| vector.body.len() < 200) {
        for length in 0..vector.body.len() {
            let half = vector.body.slice(..length);
            let result = (vector.entry.recode)(&half, vector.version);
            assert!(
                matches!(result, Err(RecodeError::Decode(_))),
                "{} version {} was read from {length} of {} bytes",
                vector.entry.schema.name,
                vector.version,
                vector.body.len()
            );
        }
    }
}

#[test]
fn s1_8_versions_that_do_not_exist_are_refused() {
    for entry in messages::ALL {
        let versions = entry.schema.versions();
        for version in [i16::MIN, versions.start() - 1, versions.end() + 1, i16::MAX] {
            let Err(RecodeError::Decode(error)) = (entry.recode)(&Bytes::from_static(&[0; 64]), version)
            else {
                panic!("{} was read as version {version}", entry.schema.name);
            };
            assert_eq!(error.fault, DecodeFault::UnsupportedVersion);
        }
    }
}

#[test]
fn s1_8_half_a_request_header_is_refused() {
    let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x01\0\x02ab\0");
    assert!(RequestHeader::decode(&mut Decoder::new(frame.clone())).is_ok());
    for length in 0..frame.len() {
        assert!(RequestHeader::decode(&mut Decoder::new(frame.slice(..length))).is_err(), "{length} bytes");
    }
}

const MUTATIONS_PER_VECTOR: usize = 12;

/// One change of the kinds that break parsers.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    let sharp: &[&[u8]] = &[
        b"\xff",
        b"\x80",
        b"\x7f",
        b"\x00",
        b"\x7f\xff",
        b"\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\x07",
        b"\xff\xff\x03",
        b"\xc3\x28",
    ];
    let piece = sharp[random.below(sharp.len())];
    match random.below(6) {
        _ if bytes.is_empty() => bytes.extend_from_slice(piece),
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, piece.iter().copied())),
        4 => {
            let end = (at + piece.len()).min(bytes.len());
            bytes.splice(at..end, piece.iter().copied());
        }
        _ => {
            let end = (at + 1 + random.below(8)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

#[test]
fn mutated_messages_neither_panic_nor_take_more_memory_than_their_frame_allows() {
    let mut random = Random::new();
    let mut read = 0;
    for vector in vectors() {
        for _ in 0..MUTATIONS_PER_VECTOR {
            let mut bytes = vector.body.to_vec();
            for _ in 0..=random.below(3) {
                mutate(&mut bytes, &mut random);
            }
            let bytes = Bytes::from(bytes);
            let place =
                format!("seed {}: {} version {}", random.seed, vector.entry.schema.name, vector.version);
            let (result, peak) = peak_of(|| (vector.entry.recode)(&bytes, vector.version));
            let max = memory_max(bytes.len());
            let json = vector.entry.schema.json(&mut Decoder::new(bytes.clone()), vector.version);
            assert!(json.is_ok() || result.is_err(), "{place}: read but not printed");
            assert!(peak <= max, "{place}: {peak} bytes for a frame of {}, at most {max}", bytes.len());
            match result {
                Err(RecodeError::Decode(_)) => {}
                Err(RecodeError::Encode(error)) => panic!("{place}: read but not written: {error}"),
                Ok(once) => {
                    read += 1;
                    // What could be read is written in its one proper form.
                    assert_eq!((vector.entry.recode)(&once, vector.version).unwrap(), once, "{place}");
                }
            }
        }
    }
    assert!(read > 1000, "mutations that leave a message readable are part of the test: {read}");
}

#[test]
fn every_request_is_of_an_api_in_the_table() {
    for entry in messages::ALL.iter().filter(|entry| entry.schema.kind == Kind::Request) {
        assert!(klamm::protocol::apis::find(entry.schema.type_key).is_some(), "{}", entry.schema.name);
    }
}
