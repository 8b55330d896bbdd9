//! What the targets share: the property that message targets check, seeds, and limits that fit libFuzzer's.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use klamm::protocol::messages::{self, Entry, RecodeError};
use klamm::protocol::schema::Kind;
use klamm::protocol::{Decoder, apis};
use klamm::record::{BatchFrame, BatchRef, InflateLimits};

/// What can be read can be printed and written, and what is written reads as the same. Memory is bounded by
/// libFuzzer's `-malloc_limit_mb`.
pub fn recode(entry: &Entry, body: &Bytes, version: i16) {
    match (entry.recode)(body, version) {
        Err(RecodeError::Decode(_)) => {}
        Err(RecodeError::Encode(error)) => panic!("read but not written: {error}"),
        Ok(once) => {
            entry.schema.json(&mut Decoder::new(once.clone()), version).expect("read but not printed");
            assert_eq!((entry.recode)(&once, version).expect("written but not read"), once);
        }
    }
}

/// Fills `corpus/TARGET/` from the golden vectors, unless something is there.
pub fn write_seeds(target: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus").join(target);
    if fs::read_dir(&corpus).is_ok_and(|mut entries| entries.next().is_some()) {
        return;
    }
    fs::create_dir_all(&corpus).expect("the corpus folder");
    let golden =
        fs::read_to_string(here.join("../testdata/golden/messages.tsv")).expect("the golden vectors");
    for (number, line) in golden.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        if let Some(seed) = seed(line, target) {
            fs::write(corpus.join(format!("golden-{number}")), seed).expect("a seed");
        }
    }
}

/// The vector as this target wants it, if it is one of its messages.
fn seed(line: &str, target: &str) -> Option<Vec<u8>> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, _, version, body, _] = columns[..] else { return None };
    let name = name.strip_suffix("Data").unwrap_or(name);
    let version: i16 = version.parse().ok()?;
    let index = messages::ALL.iter().position(|entry| entry.schema.name == name)?;
    let (reader, mut seed) = head(index, version);
    seed.extend((0..body.len()).step_by(2).filter_map(|at| u8::from_str_radix(&body[at..at + 2], 16).ok()));
    (reader == target).then_some(seed)
}

/// The target that reads the message, and what stands before the message for it.
fn head(index: usize, version: i16) -> (&'static str, Vec<u8>) {
    let schema = messages::ALL[index].schema;
    let key = schema.type_key.to_be_bytes();
    let version_bytes = version.to_be_bytes();
    match (schema.kind, apis::find(schema.type_key)) {
        (Kind::Request, Some(api)) => {
            let no_tags: &[u8] = if api.request_header_version(version) == 2 { &[0] } else { &[] };
            ("request", [&key[..], &version_bytes, b"\0\0\0\x01\0\x05klamm", no_tags].concat())
        }
        (Kind::Response, Some(api)) => {
            let no_tags: &[u8] = if api.response_header_version(version) == 1 { &[0] } else { &[] };
            ("response", [&key[..], &version_bytes, b"\0\0\0\x01", no_tags].concat())
        }
        _ => ("log_record", [(index as u16).to_be_bytes(), version_bytes].concat()),
    }
}

/// Limits of a broker in small: whatever comes out is held against a megabyte.
pub const LIMITS: InflateLimits = InflateLimits { floor_bytes: 1 << 20, ratio: 10 };

/// Fills `corpus/TARGET/` with what `seed` makes of each batch of the logs that Kafka wrote, unless something is
/// there.
pub fn write_batch_seeds(target: &str, seed: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus").join(target);
    if fs::read_dir(&corpus).is_ok_and(|mut entries| entries.next().is_some()) {
        return;
    }
    fs::create_dir_all(&corpus).expect("the corpus folder");
    let mut folders = vec![here.join("../testdata/kafka")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("testdata").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "log") {
                let bytes = fs::read(&path).expect("a log");
                let mut rest = &bytes[..];
                while let Ok(frame) = BatchFrame::parse(rest) {
                    let Some(batch) = rest.get(..frame.size()) else { break };
                    if let Some(seed) = seed(batch) {
                        let name = format!(
                            "{:016x}",
                            seed.iter().fold(0u64, |h, b| h.rotate_left(7) ^ u64::from(*b))
                        );
                        fs::write(corpus.join(name), seed).expect("a seed");
                    }
                    rest = &rest[batch.len()..];
                }
            }
        }
    }
}

/// Codec and payload of a compressed batch, as the `inflate` target wants them.
pub fn packed(batch: &[u8]) -> Option<Vec<u8>> {
    let batch = BatchRef::first(batch).ok()?;
    let codec = batch.header.codec().ok()?;
    (codec.id() > 0).then(|| [&[codec.id() - 1], batch.payload()].concat())
}
