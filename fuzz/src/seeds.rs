//! What fuzzing begins with: vectors of Kafka's encoder, and the files that it wrote.

use std::fs;
use std::path::{Path, PathBuf};

use klamm::protocol::apis;
use klamm::protocol::messages;
use klamm::protocol::schema::Kind;
use klamm::record::{BatchFrame, BatchRef, Scratch};

use crate::{LIMITS, SMALL_FILES};

/// A corpus that is still to be filled.
struct Corpus {
    folder: PathBuf,
    count: usize,
}

impl Corpus {
    /// `None` where something is there.
    fn empty(target: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return None;
        }
        fs::create_dir_all(&folder).expect("the corpus folder");
        Some(Self { folder, count: 0 })
    }

    fn add(&mut self, seed: &[u8]) {
        self.count += 1;
        fs::write(self.folder.join(format!("seed-{}", self.count)), seed).expect("a seed");
    }
}

/// Every file that Kafka wrote, in the order of paths.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/kafka")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("testdata").flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn batches_of(file: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).expect("a file of testdata");
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while let Ok(frame) = BatchFrame::parse(rest) {
        let Some(batch) = rest.get(..frame.size()) else { break };
        found.push(batch.to_vec());
        rest = &rest[batch.len()..];
    }
    found
}

/// A piece as [`crate::pieces`] takes it apart.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Fills `corpus/TARGET/` from the golden vectors, unless something is there.
pub fn write_seeds(target: &str) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden =
        fs::read_to_string(here.join("../testdata/golden/messages.tsv")).expect("the golden vectors");
    golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| seed(line, target))
        .for_each(|seed| corpus.add(&seed));
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

/// Fills `corpus/TARGET/` with what `seed` makes of each batch of the logs that Kafka wrote, unless something is
/// there.
pub fn write_batch_seeds(target: &str, seed: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    for file in files().iter().filter(|file| file.extension().is_some_and(|suffix| suffix == "log")) {
        batches_of(file).iter().filter_map(|batch| seed(batch)).for_each(|seed| corpus.add(&seed));
    }
}

/// Fills `corpus/TARGET/` with the records of the logs below folders of this name, their keys (where they are wanted)
/// and values as pieces, unless something is there.
pub fn write_record_seeds(target: &str, folder: &str, with_keys: bool) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    for file in files() {
        let text = file.to_string_lossy();
        if !text.contains(folder) || !(text.ends_with(".log") || text.ends_with(".checkpoint")) {
            continue;
        }
        let mut seed = Vec::new();
        for bytes in batches_of(&file) {
            let batch = BatchRef::first(&bytes).expect("a batch of Kafka");
            let mut scratch = Scratch::new();
            let Ok(mut records) = batch.records(&LIMITS, &mut scratch) else { continue };
            while let Some(Ok(record)) = records.next() {
                if with_keys {
                    seed.extend(piece(record.key.unwrap_or_default()));
                }
                seed.extend(piece(record.value.unwrap_or_default()));
            }
            corpus.add(&seed);
        }
    }
}

/// Fills `corpus/TARGET/` with Kafka's folders, each as a byte and the pieces that `names` says, unless something is
/// there.
pub fn write_folder_seeds(target: &str, names: &[&str]) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    let all = files();
    let logs = all.iter().filter(|file| file.extension().is_some_and(|suffix| suffix == "log"));
    for folder in logs.filter_map(|file| file.parent()) {
        let files = names.iter().flat_map(|name| piece(&fs::read(folder.join(name)).unwrap_or_default()));
        let seed: Vec<u8> = [0].into_iter().chain(files).collect();
        if seed.len() < 1 << 17 {
            corpus.add(&seed);
        }
    }
}

/// Fills `corpus/TARGET/` with Kafka's log directories, each as a byte and the pieces that `names` says, one seed for each
/// partition of theirs that stands where `names` says `t-0`, unless something is there.
pub fn write_directory_seeds(target: &str, names: &[&str]) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    let all = files();
    let roots = all.iter().filter(|file| file.ends_with("meta.properties")).filter_map(|file| file.parent());
    for root in roots {
        let mut folders: Vec<&Path> = all.iter().filter_map(|file| file.parent()).collect();
        folders.retain(|folder| folder.parent() == Some(root));
        folders.dedup();
        for folder in &folders {
            let place = |name: &str| match name.strip_prefix("t-0/") {
                Some(name) => folder.join(name),
                None => root.join(name),
            };
            let files = names.iter().flat_map(|name| piece(&fs::read(place(name)).unwrap_or_default()));
            let seed: Vec<u8> = [0].into_iter().chain(files).collect();
            corpus.add(&seed);
        }
    }
}

/// Fills `corpus/TARGET/` with what people write, each behind a byte that says how it is read, unless something is there.
pub fn write_texts(target: &str, texts: &[(u8, &str)]) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    for (kind, text) in texts {
        corpus.add(&[&[*kind], text.as_bytes()].concat());
    }
}

/// Fills `corpus/TARGET/` with Kafka's small files, behind a byte that says which kind they are, unless something is
/// there.
pub fn write_file_seeds(target: &str) {
    let Some(mut corpus) = Corpus::empty(target) else { return };
    for file in files() {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(&file).expect("a file of testdata");
        if let Some(kind) = SMALL_FILES.iter().position(|ending| name.ends_with(ending)) {
            corpus.add(&[&[kind as u8], &bytes[..]].concat());
        }
        corpus.add(&[&[u8::MAX], name.as_bytes()].concat());
    }
}

/// Codec and payload of a compressed batch, as the `inflate` target wants them.
pub fn packed(batch: &[u8]) -> Option<Vec<u8>> {
    let batch = BatchRef::first(batch).ok()?;
    let codec = batch.header.codec().ok()?;
    (codec.id() > 0).then(|| [&[codec.id() - 1], batch.payload()].concat())
}
