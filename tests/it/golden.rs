//! Every message in every version against the bytes that Apache Kafka 4.3.1 itself writes.
//!
//! `testdata/golden/messages.tsv`: name, API key or record type, version, body in hex, Kafka's JSON of it.

use bytes::Bytes;
use klamm::protocol::Decoder;
use klamm::protocol::messages::{self, Entry};
use serde_json::Value;

/// A line of the file.
pub struct Vector {
    pub entry: &'static Entry,
    pub version: i16,
    pub body: Bytes,
    pub json: Value,
}

pub fn vectors() -> Vec<Vector> {
    let text = include_str!("../../testdata/golden/messages.tsv");
    text.lines().filter(|line| !line.starts_with('#')).map(vector).collect()
}

fn vector(line: &str) -> Vector {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, type_key, version, body, json] = columns[..] else { panic!("five columns: {line}") };
    let name = name.strip_suffix("Data").unwrap_or(name);
    let entry = messages::ALL
        .iter()
        .find(|entry| entry.schema.name == name)
        .unwrap_or_else(|| panic!("no table has {name}"));
    assert_eq!(entry.schema.type_key, type_key.parse::<i16>().unwrap(), "the key of {name}");
    let mut json: Value = serde_json::from_str(json).unwrap();
    // Kafka holds a uint32 as a long and prints all of it, but writes its lower half.
    if let Some(crc) = json.get_mut("crc").filter(|_| name == "ProducerSnapshot") {
        *crc = (crc.as_i64().unwrap() & 0xffff_ffff).into();
    }
    Vector { entry, version: version.parse().unwrap(), body: unhex(body), json }
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_message_decodes_prints_and_encodes_as_kafka_does() {
    let mut findings = Vec::new();
    for vector in vectors() {
        let place = format!("{} version {}", vector.entry.schema.name, vector.version);
        match (vector.entry.recode)(&vector.body, vector.version) {
            Err(error) => findings.push(format!("{place}: {error:?}")),
            Ok(bytes) => {
                if bytes != vector.body {
                    findings.push(format!("{place}: bytes\n  {:?}\n  {bytes:?}", vector.body));
                }
                let json = vector.entry.schema.json(&mut Decoder::new(bytes), vector.version).unwrap();
                if json != vector.json {
                    findings.push(format!("{place}: JSON\n  {}\n  {json}", vector.json));
                }
            }
        }
    }
    assert!(
        findings.is_empty(),
        "{} finding(s):\n{}",
        findings.len(),
        findings[..findings.len().min(8)].join("\n")
    );
}

#[test]
fn every_version_of_every_message_has_a_vector() {
    let vectors = vectors();
    for entry in messages::ALL {
        for version in entry.schema.versions() {
            let found =
                vectors.iter().any(|vector| std::ptr::eq(vector.entry, entry) && vector.version == version);
            assert!(found, "{} version {version} has no golden vector", entry.schema.name);
        }
    }
}
