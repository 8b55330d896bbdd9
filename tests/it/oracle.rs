//! Random messages against another implementation, the crate `kafka-protocol`: both must read them, and write
//! the same bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use klamm::protocol::messages::{self, Entry};
use klamm::protocol::schema::Kind;

use crate::random::Random;
use crate::random_message::random_message;

const MESSAGES_PER_VERSION: usize = 6;

/// Versions that the oracle announces and cannot read.
const ORACLE_FAULTS: &[(&str, i16)] = &[
    ("InitProducerIdRequest", 6),
    ("InitProducerIdResponse", 6),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("OffsetFetchResponse", 10),
];

fn their_bytes(kind: Kind, key: TheirKey, version: i16, bytes: &Bytes) -> Result<Bytes, String> {
    let mut input = bytes.clone();
    let mut output = BytesMut::new();
    let result =
        match kind {
            Kind::Request => RequestKind::decode(key, &mut input, version)
                .and_then(|kind| kind.encode(&mut output, version)),
            _ => ResponseKind::decode(key, &mut input, version)
                .and_then(|kind| kind.encode(&mut output, version)),
        };
    result.map_err(|error| error.to_string())?;
    if input.is_empty() { Ok(output.freeze()) } else { Err(format!("{} bytes left", input.len())) }
}

fn check(entry: &Entry, version: i16, random: &mut Random) -> Option<String> {
    let schema = entry.schema;
    let key = TheirKey::try_from(schema.type_key).ok()?;
    let range = key.valid_versions();
    if !(range.min..=range.max).contains(&version) || ORACLE_FAULTS.contains(&(schema.name, version)) {
        return None;
    }
    let bytes = Bytes::from(random_message(schema, version, random));
    let place = format!("{} version {version}: {bytes:?}", schema.name);
    let ours = match (entry.recode)(&bytes, version) {
        Ok(ours) => ours,
        Err(error) => return Some(format!("{place}: ours: {error:?}")),
    };
    match their_bytes(schema.kind, key, version, &bytes) {
        Err(error) => Some(format!("{place}: theirs: {error}")),
        Ok(theirs) if theirs != ours => Some(format!("{place}\n  ours   {ours:?}\n  theirs {theirs:?}")),
        Ok(_) => None,
    }
}

#[test]
fn random_messages_leave_as_they_leave_another_implementation() {
    let mut random = Random::new();
    let mut findings = Vec::new();
    let mut checked = 0;
    for entry in
        messages::ALL.iter().filter(|entry| matches!(entry.schema.kind, Kind::Request | Kind::Response))
    {
        for version in entry.schema.versions() {
            for _ in 0..MESSAGES_PER_VERSION {
                checked += 1;
                findings.extend(check(entry, version, &mut random));
            }
        }
    }
    assert!(checked > 3000);
    let shown = findings.len().min(10);
    assert!(
        findings.is_empty(),
        "seed {}: {} finding(s):\n{}",
        random.seed,
        findings.len(),
        findings[..shown].join("\n")
    );
}

#[test]
fn random_messages_are_read_and_written_without_loss() {
    let mut random = Random::new();
    for entry in messages::ALL {
        for version in entry.schema.versions() {
            let bytes = Bytes::from(random_message(entry.schema, version, &mut random));
            let place = format!("seed {}: {} version {version}: {bytes:?}", random.seed, entry.schema.name);
            let once = (entry.recode)(&bytes, version).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            // A tagged field that holds its default is left out; nothing else changes.
            assert!(once.len() <= bytes.len(), "{place}");
            assert_eq!((entry.recode)(&once, version).unwrap(), once, "{place}");
        }
    }
}
