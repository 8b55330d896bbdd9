//! `klamm verify`: nothing is found in what is sound, and every changed byte of a directory is found, or is named here
//! as one that says nothing.
//!
//! `KLAMM_VERIFY_ALL=1` flips every bit of every byte, cuts and adds one at every place; without it a sample is taken.
//! A part of a path instead of the 1 does so with the files whose paths hold it, and leaves the others alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use klamm::cli::output::Output;
use klamm::cli::verify::{Checked, Pass};
use klamm::record::BatchRef;
use klamm::storage::verify::{Finding, Severity};

use crate::harness::{TestBroker, batch_at as batch_at_time, idempotent, now_ms};
use crate::random::Random;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka").join(name)
}

fn check(path: &Path) -> Checked {
    let mut pass = Pass::new(2);
    pass.add(path);
    let mut checked = pass.run(&Output::new());
    assert_eq!(pass.failed, [""; 0], "{}", path.display());
    checked.remove(0)
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {finding}\n", finding.severity.name())).collect()
}

fn damage(checked: &Checked) -> Vec<Finding> {
    checked.findings.iter().filter(|finding| finding.severity == Severity::Damage).cloned().collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn nothing_is_found_in_directories_that_apache_kafka_stopped_in_order() {
    for name in ["clean", "static-voters", "cluster-node"] {
        let checked = check(&testdata(name));
        assert_eq!(lines(&checked.findings), "", "{name}");
        assert_eq!(checked.state.name(), "clean");
        assert!(checked.counts.batches > 20 && checked.files > 30, "{checked:?}");
    }
}

#[test]
fn what_a_killed_broker_leaves_is_noted_and_no_damage() {
    let checked = check(&testdata("killed"));
    assert_eq!(lines(&damage(&checked)), "");
    assert!(checked.findings.iter().any(|finding| finding.what.contains("zero bytes at the end")));
    assert!(checked.findings.iter().any(|finding| finding.what.contains("on its way out")));
    assert_eq!(lines(&damage(&check(&testdata("old-magic")))), "");
}

#[test]
fn a_stray_that_no_start_recovered_is_no_damage_in_a_clean_directory() {
    let folder = tempfile::tempdir().unwrap();
    copy(&testdata("clean"), folder.path());
    let killed = testdata("killed");
    let unfinished =
        check(&killed).findings.into_iter().find(|finding| finding.what.contains("zero bytes at the end"));
    let torn = unfinished.unwrap().file.parent().unwrap().to_owned();
    let name = format!("gone-0.{}-stray", "ab".repeat(16));
    copy(&torn, &folder.path().join(&name));
    let checked = check(folder.path());
    assert_eq!((lines(&damage(&checked)).as_str(), checked.state.name()), ("", "clean"));
    assert!(checked.findings.iter().any(|finding| finding.what.contains("zero bytes at the end")));
}

#[test]
fn each_damaged_partition_is_found_with_its_place() {
    for (name, position, what) in [
        ("flipped-0", Some(0), "CRC-32C mismatch"),
        ("flipped-value-0", Some(0), "CRC-32C mismatch"),
        ("flipped-inside-0", Some(0), "CRC-32C mismatch"),
        ("torn-0", Some(1_156), "246 bytes behind the last whole batch"),
        ("zero-tail-0", Some(1_409), "100 bytes behind the last whole batch"),
        ("gap-0", Some(251), "offsets 8 to 15 are missing"),
        ("index-0", Some(0), "where no batch begins"),
        ("index-offset-0", Some(0), "ends with 9"),
        ("timeindex-0", Some(0), "an entry says time"),
        ("snapshot-0", None, "CRC-32C mismatch"),
    ] {
        let checked = check(&testdata("damaged").join(name));
        let found = checked.findings.iter().any(|one| one.position == position && one.what.contains(what));
        assert!(found, "{name}: {}", lines(&checked.findings));
        // A torn end is what a crash leaves.
        let is_damage = !["torn-0", "zero-tail-0"].contains(&name);
        assert_eq!(checked.damage > 0, is_damage, "{name}");
    }
}

/// Runs the command on `path`: its exit code and stdout.
fn verify(path: &Path, args: &[&str]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_klamm")).arg("verify").args(args).arg(path).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn findings_are_lines_and_the_exit_code_says_whether_there_is_damage() {
    let (code, text) = verify(&testdata("clean"), &[]);
    assert_eq!((code, text.lines().count()), (0, 2), "{text}");
    let (code, text) = verify(&testdata("damaged/flipped-0"), &["--json"]);
    assert_eq!(code, 3);
    let json: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[0]["severity"], "damage");
    assert_eq!(json[0]["position"], 0);
    assert_eq!(json[0]["offset"], 0);
    assert!(json[0]["file"].as_str().unwrap().ends_with("flipped-0/00000000000000000000.log"));
    assert_eq!(json[1]["damage"], 1);
    let index = testdata("damaged/index-0/00000000000000000000.index");
    assert_eq!(verify(&index, &["-q"]).0, 3);
    assert_eq!(verify(&index.with_extension("log"), &["-q"]).0, 0);
    assert_eq!(verify(&testdata("no-such-directory"), &[]).0, 1);
}

/// What a changed byte may say without anybody being able to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nothing {
    /// A comment of `meta.properties`.
    Comment,
    /// The cluster's id in `meta.properties`: nothing else in a directory says it.
    ClusterId,
    /// The number of the last leader epoch in its checkpoint, if no batch is of it: any that the metadata log does
    /// not contradict will do.
    UnusedEpoch,
    /// Where the first leader epoch began, in the checkpoint of a log whose first batches were cleaned away: any offset up to
    /// the first that is left will do.
    StartBeforeHole,
    /// Where cleaning goes on, in `cleaner-offset-checkpoint`: any offset of the log will do.
    CleanedUpTo,
    /// The leader epoch of a batch whose records were all deleted.
    EpochOfDeleted,
    /// The base offset of a batch beside a hole that cleaning left: any that keeps the order will do.
    OffsetBesideHole,
    /// The first offset of an aborted transaction or the last stable offset beside it, where cleaning took the records.
    CleanedTransaction,
    /// A record of the same batch with the same time.
    SameTime,
    /// `quorum-state`: the epoch, if it is later than the log's.
    LaterEpoch,
}

/// Why nothing can be said about a change at `place`.
fn says_nothing(root: &Path, file: &Path, place: usize, sound: &[u8]) -> Option<Nothing> {
    let name = file.file_name()?.to_str()?;
    let text = String::from_utf8_lossy(sound);
    let line_start =
        sound[..place.min(sound.len())].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..)?.lines().next().unwrap_or_default();
    let folder = file.parent()?.file_name()?.to_str()?;
    let is_compacted = folder == "compacted-0" || folder.starts_with("__consumer_offsets");
    match name {
        // A byte that is added or changed at the end of the line before may hide in a comment too.
        "meta.properties" if line.starts_with('#') || line.is_empty() => Some(Nothing::Comment),
        "meta.properties" if line.starts_with("cluster.id=") && place >= line_start + 11 => {
            Some(Nothing::ClusterId)
        }
        "leader-epoch-checkpoint"
            if is_compacted && (6..=text.match_indices('\n').nth(2)?.0).contains(&place) =>
        {
            Some(Nothing::StartBeforeHole)
        }
        "leader-epoch-checkpoint" => {
            let (epoch, start) = text.lines().last()?.split_once(' ')?;
            let last_line = text.trim_end().rfind('\n')? + 1;
            let is_number = (last_line..=last_line + epoch.len()).contains(&place);
            (is_number && start == end_of(root, folder)?).then_some(Nothing::UnusedEpoch)
        }
        "cleaner-offset-checkpoint" => {
            let words: Vec<&str> = line.split(' ').collect();
            let offset_at = line_start + line.rfind(' ')?;
            (words.len() == 3 && place > offset_at).then_some(Nothing::CleanedUpTo)
        }
        "quorum-state" => {
            let value = text.find("leaderEpoch\":")? + 13;
            (value..value + 10).contains(&place).then_some(Nothing::LaterEpoch)
        }
        _ if name.ends_with(".txnindex") && is_compacted && place % 34 >= 10 => {
            Some(Nothing::CleanedTransaction)
        }
        _ if name.ends_with(".timeindex") && place % 12 >= 8 => Some(Nothing::SameTime),
        _ if name.ends_with(".log") => {
            let batch = batch_at(sound, place)?;
            match place - batch {
                0..8 if is_compacted => Some(Nothing::OffsetBesideHole),
                12..16 if folder == "emptied-0" || folder == "trimmed-0" => Some(Nothing::EpochOfDeleted),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Where a partition's log ends, by the checkpoint.
fn end_of(root: &Path, folder: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("recovery-point-offset-checkpoint")).unwrap();
    let (topic, partition) = folder.rsplit_once('-')?;
    let entry = format!("{topic} {partition} ");
    text.lines().find_map(|line| Some(line.strip_prefix(&entry)?.to_owned()))
}

/// Where the batch begins that `place` is in.
fn batch_at(log: &[u8], place: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = u32::from_be_bytes(log.get(at + 8..at + 12)?.try_into().ok()?) as usize;
        if place < at + 12 + length {
            return Some(at);
        }
        at += 12 + length;
    }
}

/// Changes to files of a directory, one at a time, and whether each is found.
struct Changes {
    root: PathBuf,
    made: u64,
    silent: BTreeMap<Nothing, u64>,
    /// Changes that nothing was said about, and that say something.
    unseen: Vec<String>,
}

impl Changes {
    fn on(root: &Path) -> Self {
        Self { root: root.to_owned(), made: 0, silent: BTreeMap::new(), unseen: Vec::new() }
    }

    /// What is checked after a change of this file: its partition's folder, or the whole directory.
    fn target(&self, file: &Path) -> PathBuf {
        let parent = file.parent().unwrap();
        if parent == self.root { self.root.clone() } else { parent.to_owned() }
    }

    fn try_one(&mut self, file: &Path, place: usize, how: &str, sound: &[u8], changed: &[u8]) {
        fs::write(file, changed).unwrap();
        self.made += 1;
        let mut pass = Pass::new(1);
        pass.add(&self.target(file));
        let checked = pass.run(&Output::new());
        fs::write(file, sound).unwrap();
        if checked.iter().any(|one| one.damage > 0) || !pass.failed.is_empty() {
            return;
        }
        match says_nothing(&self.root, file, place, sound) {
            Some(nothing) => *self.silent.entry(nothing).or_default() += 1,
            None => self.unseen.push(format!("{} at {place}: {how}", file.display())),
        }
    }

    fn flip(&mut self, file: &Path, place: usize, bit: usize, sound: &[u8]) {
        let mut changed = sound.to_vec();
        changed[place] ^= 1 << bit;
        self.try_one(file, place, &format!("bit {bit} flipped"), sound, &changed);
    }

    fn cut_and_add(&mut self, file: &Path, place: usize, byte: u8, sound: &[u8]) {
        if let Some((_, rest)) = sound[place..].split_first() {
            self.try_one(file, place, "a byte cut out", sound, &[&sound[..place], rest].concat());
        }
        let added = [&sound[..place], &[byte], &sound[place..]].concat();
        self.try_one(file, place, "a byte added", sound, &added);
    }

    fn everything(&mut self, file: &Path) {
        let sound = fs::read(file).unwrap();
        for place in 0..sound.len() {
            (0..8).for_each(|bit| self.flip(file, place, bit, &sound));
            self.cut_and_add(file, place, 0x5a, &sound);
        }
        self.cut_and_add(file, sound.len(), 0, &sound);
    }

    fn some(&mut self, file: &Path, random: &mut Random) {
        let sound = fs::read(file).unwrap();
        if !sound.is_empty() {
            let place = random.below(sound.len());
            self.flip(file, place, random.below(8), &sound);
        }
        if random.one_in(3) {
            let place = random.below(sound.len() + 1);
            self.cut_and_add(file, place, random.next() as u8, &sound);
        }
    }

    fn run(mut self) {
        let mut random = Random::new();
        let all = std::env::var("KLAMM_VERIFY_ALL").ok();
        for file in files_below(&self.root) {
            match all.as_deref() {
                None => self.some(&file, &mut random),
                Some("1") => self.everything(&file),
                Some(part) if file.to_string_lossy().contains(part) => self.everything(&file),
                Some(_) => {}
            }
        }
        eprintln!("{}: {} changes, not to be told: {:?}", self.root.display(), self.made, self.silent);
        assert!(self.unseen.is_empty(), "{} unseen\n{}", self.unseen.len(), self.unseen.join("\n"));
    }
}

#[test]
fn every_changed_byte_of_kafkas_directory_is_found_or_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("d");
    copy(&testdata("clean"), &root);
    Changes::on(&root).run();
}

/// A broker's directory with a bit of everything, still in use.
async fn written() -> TestBroker {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("plain", 1, &[("segment.ms", "1000"), ("index.interval.bytes", "100")]).await;
    client.create_topic("sure", 1, &[]).await;
    for round in 0..12i64 {
        let values = [&b"value"[..], b"", b"another value that is a little longer"];
        let produced =
            client.produce("plain", 0, batch_at_time(now_ms() - 100_000 + round * 400, values)).await;
        assert_eq!(produced.error_code, 0);
        let batch = idempotent((4_000, 0), round as i32 * 3, &values);
        assert_eq!(client.produce("sure", 0, batch).await.error_code, 0);
    }
    drop(client);
    broker.restart().await;
    let mut client = broker.connect();
    assert_eq!(client.produce("plain", 0, batch_at_time(now_ms(), [&b"last"[..]])).await.error_code, 0);
    broker
}

#[tokio::test]
async fn every_changed_byte_of_our_directory_is_found_or_says_nothing() {
    let mut broker = written().await;
    broker.stop().await;
    let checked = check(broker.dir());
    assert_eq!(lines(&checked.findings), "");
    assert_eq!((checked.state.name(), checked.logs), ("clean", 3));
    let root = broker.dir().to_owned();
    tokio::task::spawn_blocking(move || Changes::on(&root).run()).await.unwrap();
}

#[tokio::test]
async fn a_directory_in_use_is_sound_at_every_moment() {
    let broker = written().await;
    let checked = check(broker.dir());
    assert_eq!((lines(&damage(&checked)), checked.state.name()), (String::new(), "in use"));
    let root = broker.dir().to_owned();
    let checking = tokio::task::spawn_blocking(move || {
        for _ in 0..10 {
            assert_eq!(lines(&damage(&check(&root))), "");
        }
    });
    let mut client = broker.connect();
    let mut round = 0;
    while !checking.is_finished() {
        let values: Vec<Vec<u8>> = (0..round % 50).map(|size| vec![7; size * 3]).collect();
        let batch =
            batch_at_time(now_ms() + round as i64, values.iter().map(Vec::as_slice).chain([&b"x"[..]]));
        assert_eq!(client.produce("plain", 0, batch).await.error_code, 0);
        round += 1;
    }
    checking.await.unwrap();
    // What a copy of it would have, and what a killed broker leaves: never damage.
    let copied = tempfile::tempdir().unwrap();
    copy(broker.dir(), copied.path());
    let checked = check(copied.path());
    assert_eq!((lines(&damage(&checked)), checked.state.name()), (String::new(), "not marked clean"));
}

/// The payload of every sound batch in the logs below `folder`, whatever its place.
fn sound_batches(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for file in files_below(folder).iter().filter(|file| file.extension().is_some_and(|name| name == "log")) {
        let log = fs::read(file).unwrap();
        let mut at = 0;
        while let Ok(batch) = BatchRef::first(log.get(at..).unwrap_or_default()) {
            if batch.check_crc().is_ok() && batch.header.record_count > 0 {
                found.push(batch.bytes[21..].to_vec());
            }
            at += batch.bytes.len();
        }
    }
    found
}

/// Repairs `root`: the exit code and what was said.
fn repair(root: &Path) -> (i32, String) {
    verify(root, &["--repair", "-q"])
}

#[test]
fn a_repair_takes_out_what_is_bad_and_keeps_every_sound_batch() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("d");
    copy(&testdata("clean"), &root);
    let before = sound_batches(&root);
    let log = |partition: &str| root.join(partition).join("00000000000000000000.log");
    let change = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    };
    // The second batch of six, in a sealed segment; a base offset; an epoch; the end; and files beside.
    change(&log("segments-0"), &|bytes| bytes[500] ^= 4);
    change(&log("segments-1"), &|bytes| bytes[451 + 7] ^= 1);
    change(&log("idempotent-0"), &|bytes| bytes.extend([0; 33]));
    change(&root.join("transactions-0/00000000000000000002.txnindex"), &|bytes| bytes[20] ^= 1);
    change(&root.join("transactions-1/00000000000000000002.timeindex"), &|bytes| bytes[5] ^= 1);
    change(&root.join("grouped-0/leader-epoch-checkpoint"), &|bytes| bytes[6] ^= 1);
    change(&root.join("grouped-1/partition.metadata"), &|bytes| bytes[30] ^= 1);
    change(&root.join("recovery-point-offset-checkpoint"), &|bytes| bytes[20] ^= 1);
    change(&root.join(".kafka_cleanshutdown"), &|bytes| bytes[26] ^= 1);
    assert_eq!(verify(&root, &["-q"]).0, 3);
    let (code, said) = repair(&root);
    assert_eq!(code, 0, "{said}");
    assert_eq!(lines(&damage(&check(&root))), "");
    assert_eq!(check(&root).state.name(), "clean", "a directory that was clean is clean again");
    let after = sound_batches(&root);
    let lost: Vec<_> = before.iter().filter(|batch| !after.contains(batch)).collect();
    assert_eq!(lost.len(), 1, "only the batch that was damaged: {said}");
    let kept = fs::read(root.join("segments-0/00000000000000000000.log.451.kept")).unwrap();
    assert_eq!(kept.len(), 451, "{said}");
    assert!(said.contains("an empty batch holds offsets 5 to 9"), "{said}");
    assert!(said.contains("base offset set to 5"), "{said}");
    let cut = fs::read(root.join("idempotent-0/00000000000000000000.log.1760.kept")).unwrap();
    assert_eq!(cut, [0; 33]);
    // Whoever repairs again has nothing to do.
    let (code, said) = repair(&root);
    assert!(code == 0 && !said.contains("mended"), "{said}");
}

/// A change to one file of a clean directory, what `verify` says of it, and what the repair does.
fn repair_one(
    file: &str,
    change: &dyn Fn(&mut Vec<u8>),
) -> (String, i32, String, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("d");
    copy(&testdata("clean"), &root);
    let path = root.join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let found = lines(&damage(&check(&root)));
    assert_ne!(found, "", "{file}");
    let (code, said) = repair(&root);
    (found, code, said, root, folder)
}

#[test]
fn a_repair_mends_what_another_file_says_too() {
    let snapshot = "__cluster_metadata-0/00000000000000000194-0000000001.checkpoint";
    for (file, at, remedy) in [
        (snapshot, 300, "--repair puts it aside: the log, and the snapshot before it"),
        (
            "__cluster_metadata-0/00000000000000000089-0000000001.checkpoint",
            300,
            "puts it aside: a later snapshot",
        ),
        ("__cluster_metadata-0/quorum-state", 3, "--repair puts it aside: this node is the only voter"),
        ("bootstrap.checkpoint", 30, "--repair puts it aside: the metadata log has begun"),
        ("meta.properties", 0, ""),
    ] {
        let is_properties = file == "meta.properties";
        let change = |bytes: &mut Vec<u8>| {
            let key = b"directory.id=";
            let at_id =
                bytes.windows(key.len()).position(|window| window == key).map(|found| found + key.len());
            let at = if is_properties { at_id.unwrap() } else { at };
            bytes[at] ^= 2;
        };
        let (found, code, said, root, _folder) = repair_one(file, &change);
        let remedy = if is_properties { "--repair writes cluster.id=" } else { remedy };
        assert!(found.contains(remedy), "{file}: {found}");
        assert_eq!((code, lines(&damage(&check(&root)))), (0, String::new()), "{file}: {said}");
        assert!(root.join(format!("{file}.kept")).exists(), "{file}: {said}");
        assert!(said.contains("mended"), "{said}");
    }
}

#[test]
fn what_quorum_state_says_is_held_against_the_log() {
    let says = |directory: &str, was: &str, is: &str| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("d");
        copy(&testdata(directory), &root);
        let file = root.join("__cluster_metadata-0/quorum-state");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(was), "{directory}: {text}");
        fs::write(&file, text.replacen(was, is, 1)).unwrap();
        lines(&damage(&check(&root)))
    };
    // One of several voters voted for the leader: Kafka's directories as they are, with one thing changed in each.
    for (directory, was, is, what) in [
        ("clean", r#""leaderId":1"#, r#""leaderId":0"#, "the log says that 1 leads in epoch 2"),
        ("static-voters", r#""leaderId":1"#, r#""leaderId":3"#, "its leader 3 is no voter"),
        ("cluster-node", r#""leaderId":1"#, r#""leaderId":2"#, "the log says that 1 leads in epoch 1"),
        ("cluster-node", r#""votedId":1"#, r#""votedId":5"#, "its vote is for 5, which is no voter"),
        ("clean", r#""leaderEpoch":2"#, r#""leaderEpoch":1"#, "the log has batches of a later one"),
    ] {
        let found = says(directory, was, is);
        assert!(found.contains(what), "{directory}, {is}: {found}");
    }
    // A node may hear of an election before it has the leader's first batch, and may have voted for who lost.
    for (directory, was, is) in [
        ("clean", r#""leaderEpoch":2"#, r#""leaderEpoch":3"#),
        ("clean", r#""leaderId":1"#, r#""leaderId":-1"#),
        ("cluster-node", r#""votedId":1"#, r#""votedId":3"#),
        ("cluster-node", r#""leaderId":1,"leaderEpoch":1"#, r#""leaderId":2,"leaderEpoch":4"#),
    ] {
        assert_eq!(says(directory, was, is), "", "{directory}, {is}");
    }
}

#[test]
fn a_hole_in_the_metadata_log_is_mended_where_a_snapshot_covers_it_and_else_explained() {
    let log = "__cluster_metadata-0/00000000000000000000.log";
    let bytes = fs::read(testdata("clean").join(log)).unwrap();
    let start_of = |offset: i64| {
        let mut at = 0;
        while let Ok(batch) = BatchRef::first(&bytes[at..]) {
            if batch.header.base_offset.0 >= offset {
                return at;
            }
            at += batch.bytes.len();
        }
        panic!("no batch at {offset}");
    };
    let (found, code, said, root, _folder) = repair_one(log, &|bytes| bytes[start_of(40) + 30] ^= 1);
    assert!(found.contains("--repair takes out the bytes"), "{found}");
    assert_eq!((code, lines(&damage(&check(&root)))), (0, String::new()), "{said}");
    let hole = start_of(200) + 30;
    let (found, code, said, root, _folder) = repair_one(log, &|bytes| bytes[hole] ^= 1);
    assert!(found.contains("no repair mends it: what the cluster decided at offsets"), "{found}");
    assert_eq!(code, 3, "{said}");
    let mut expected = bytes.clone();
    expected[hole] ^= 1;
    assert_eq!(fs::read(root.join(log)).unwrap(), expected, "left alone: {said}");
}

#[test]
fn files_that_are_missing_are_found() {
    for (file, what) in [
        ("meta.properties", "nothing says whose directory this is"),
        ("recovery-point-offset-checkpoint", "it is missing"),
        ("replication-offset-checkpoint", "it is missing"),
        ("log-start-offset-checkpoint", ""),
        ("segments-0/00000000000000000030.index", "the index is missing"),
        ("segments-0/00000000000000000030.timeindex", "the index is missing"),
        ("segments-0/00000000000000000030.log", "an index without its log"),
        ("segments-0/leader-epoch-checkpoint", "it lists nothing"),
        ("segments-0/partition.metadata", "the topic's id is missing"),
        ("segments-0/00000000000000000121.snapshot", "the producers' snapshot where the log ends is missing"),
        ("transactions-0/00000000000000000002.txnindex", "is not in it"),
        ("compacted-0/00000000000000000041.txnindex", "is not in it"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("d");
        copy(&testdata("clean"), &root);
        fs::remove_file(root.join(file)).unwrap();
        let found = damage(&check(&root));
        assert!(found.iter().any(|finding| finding.what.contains(what)), "{file}: {}", lines(&found));
    }
}

#[test]
fn a_repair_leaves_lost_offsets_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("gap-0");
    copy(&testdata("damaged/gap-0"), &root);
    let before = sound_batches(&root);
    let (code, said) = repair(&root);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("offsets 8 to 15 are missing"), "{said}");
    assert_eq!(sound_batches(&root), before);
}

#[test]
fn a_repair_of_random_damage_never_loses_a_sound_batch() {
    let mut random = Random::new();
    for _ in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("d");
        copy(&testdata("clean"), &root);
        let files: Vec<PathBuf> =
            files_below(&root).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
        for _ in 0..5 {
            let file = &files[random.below(files.len())];
            let mut bytes = fs::read(file).unwrap();
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
            fs::write(file, bytes).unwrap();
        }
        let sound = sound_batches(&root);
        let (_, said) = repair(&root);
        let after = sound_batches(&root);
        assert!(sound.iter().all(|batch| after.contains(batch)), "{said}");
        let left = damage(&check(&root));
        let is_known = |finding: &Finding| !finding.remedy.mends();
        assert!(left.iter().all(is_known), "{}\n{said}", lines(&left));
    }
}

#[tokio::test]
async fn a_directory_in_use_is_not_repaired() {
    let broker = TestBroker::start().await;
    let root = broker.dir().to_owned();
    let output =
        Command::new(env!("CARGO_BIN_EXE_klamm")).args(["verify", "--repair"]).arg(&root).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is in use by a broker: stop it before it is repaired"), "{said}");
}
