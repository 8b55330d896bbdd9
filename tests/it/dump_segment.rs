//! `klamm dump-segment` beside `kafka-dump-log`: what Kafka said of the directories in `testdata/kafka` stands in
//! `testdata/kafka/dump`, and we say the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the command in the project's root, as Kafka's was run.
fn dump(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klamm"))
        .arg("dump-segment")
        .args(args)
        .current_dir(root())
        .output()
        .unwrap()
}

fn stdout(args: &[&str]) -> String {
    String::from_utf8(dump(args).stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// What Kafka's tool said of one file.
struct Said {
    name: String,
    args: Vec<String>,
    stdout: Vec<u8>,
    /// It ended with an exception: then what we say begins with what it said.
    broke_off: bool,
    /// It complained on stderr of more than an exception.
    complaint: Option<String>,
}

fn said(path: &Path) -> Said {
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    let command = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let args = command.strip_prefix("$ kafka-dump-log ").unwrap().split(' ').map(str::to_owned).collect();
    let rest = &bytes[end + 1..];
    let mark = b"--- stderr\n";
    let split = rest.windows(mark.len()).position(|window| window == mark);
    let stdout = rest[..split.unwrap_or(rest.len())].to_vec();
    let complaint = split.map(|at| String::from_utf8(rest[at + mark.len()..].to_vec()).unwrap());
    let broke_off = complaint.as_ref().is_some_and(|text| text.contains("Exception"));
    let name = path.strip_prefix(root().join("testdata/kafka/dump")).unwrap().display().to_string();
    Said { name, args, stdout, broke_off, complaint }
}

fn all_said() -> Vec<Said> {
    let mut files = Vec::new();
    files_below(&root().join("testdata/kafka/dump"), &mut files);
    files.sort();
    assert!(files.len() > 400, "testdata/kafka/dump is there");
    files.iter().map(|path| said(path)).collect()
}

#[test]
fn prints_what_kafka_dump_log_prints_to_the_letter() {
    let mut differing = Vec::new();
    for case in all_said() {
        let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
        let ours = dump(&args).stdout;
        // Where Kafka broke off, its last line may be half a line.
        let whole = if case.broke_off {
            case.stdout.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
        } else {
            case.stdout.len()
        };
        let same = if case.broke_off { ours.starts_with(&case.stdout[..whole]) } else { ours == case.stdout };
        if !same {
            let kafka = String::from_utf8_lossy(&case.stdout).into_owned();
            let ours = String::from_utf8_lossy(&ours).into_owned();
            let first = kafka.lines().zip(ours.lines()).find(|(a, b)| a != b);
            differing.push(format!("{}\n  first difference: {first:#?}", case.name));
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn finds_the_damage_that_kafka_finds_and_nothing_in_sound_directories() {
    for case in all_said() {
        let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
        let output = dump(&args);
        let text = String::from_utf8_lossy(&case.stdout);
        // Kafka takes every segment that does not begin at 0 for one with a gap before it, and a cleaned log for
        // one with gaps: neither is damage.
        let only_gaps = case.complaint.as_ref().is_some_and(|text| text.starts_with("Non-consecutive"));
        // An index that was made and not yet written to holds one zero for Kafka's tool, which matches nothing.
        let unwritten =
            ["\noffset: 0 position: 0\n", "\noffset: 20 position: 0\n", "\ntimestamp: 0 offset: "];
        if case.name.starts_with("killed/") && unwritten.iter().any(|line| text.contains(line)) {
            assert_eq!(output.status.code(), Some(0), "{}: {}", case.name, stderr(&output));
            continue;
        }
        let is_damaged = (case.complaint.is_some() && !only_gaps)
            || text.contains("isvalid: false")
            || text.contains("invalid bytes at the end");
        // An index is not to blame for what stands at the end of its log.
        if case.broke_off && case.name.contains("zero-tail") && case.name.contains("index") {
            continue;
        }
        let expected = if is_damaged { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{}: {}", case.name, stderr(&output));
        if !is_damaged && !only_gaps {
            assert_eq!(stderr(&output), "", "{}", case.name);
        }
    }
}

#[test]
fn damage_is_named_with_file_and_position() {
    let cases = [
        (
            "flipped-value-0",
            "00000000000000000000.log",
            "position 0: CRC-32C mismatch: the batch says 3085663363",
        ),
        ("torn-0", "00000000000000000000.log", "bytes are no whole batch"),
        ("zero-tail-0", "00000000000000000000.log", "no batch begins here: its length is 0"),
        ("flipped-0", "00000000000000000000.log", "record 1: it counts -1 headers"),
        ("flipped-inside-0", "00000000000000000000.log", "zstd data is broken"),
        ("index-0", "00000000000000000000.index", "Mismatches in :"),
        (
            "timeindex-0",
            "00000000000000000000.timeindex",
            "Index timestamp: 1700000000281, log timestamp: 1700000000025",
        ),
        ("snapshot-0", "00000000000000000056.snapshot", "the snapshot is corrupt: CRC-32C mismatch"),
    ];
    for (folder, file, expected) in cases {
        let path = format!("testdata/kafka/damaged/{folder}/{file}");
        let output = dump(&[&path, "--deep-iteration"]);
        let said = stderr(&output);
        assert!(said.contains(expected) && said.contains(&path), "{folder}: {said}");
        assert_eq!(output.status.code(), Some(3), "{folder}");
    }
}

#[test]
fn what_follows_a_broken_batch_is_dumped_all_the_same() {
    let out = stdout(&["testdata/kafka/damaged/flipped-0/00000000000000000000.log", "--deep-iteration"]);
    assert!(out.contains("\nbaseOffset: 8 "), "{out}");
    assert!(out.contains("\n| offset: 33 "), "{out}");
}

#[test]
fn a_folder_stands_for_all_its_files() {
    let out = stdout(&["testdata/kafka/clean/segments-0"]);
    let dumped: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("Dumping ")).collect();
    let expected = [
        "00000000000000000000.log",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000030.log",
    ];
    for (path, name) in dumped.iter().zip(expected) {
        assert_eq!(*path, format!("testdata/kafka/clean/segments-0/{name}"));
    }
    assert!(out.contains("epoch: 0 startOffset: 0"), "{out}");
    assert!(out.contains("version: 0 topicId: "), "{out}");
    assert_eq!(dump(&["testdata/kafka/killed"]).status.code(), Some(0), "torn by kill -9 is not damaged");
    let out = dump(&["testdata/kafka/clean"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.contains("topic: segments partition: 0 offset: 121"), "{out}");
    assert!(out.contains("cluster.id: "), "{out}");
}

#[test]
fn ranges_by_offset_and_time_leave_the_end_out() {
    let offsets = |args: &[&str]| -> Vec<u64> {
        let mut all = vec!["testdata/kafka/clean/segments-0/00000000000000000030.log", "--deep-iteration"];
        all.extend(args);
        let out = stdout(&all);
        let records = out.lines().filter_map(|line| line.strip_prefix("| offset: "));
        records.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(offsets(&["--from", "41", "--to", "44"]), [41, 42, 43]);
    assert_eq!(offsets(&["--from", "58"]), [58, 59]);
    assert_eq!(offsets(&["--to", "32"]), [30, 31]);
    let whole = offsets(&[]);
    let by_time = offsets(&["--from", "@1970-01-01T00:00:00Z", "--to", "@2100-01-01"]);
    assert_eq!(by_time, whole);
    assert!(offsets(&["--from", "@2100-01-01"]).is_empty());
}

#[test]
fn json_is_one_object_a_line_and_safe_for_any_bytes() {
    let path = "testdata/kafka/clean/binary-0/00000000000000000000.log";
    let out = stdout(&[path, "--json", "--print-data-log"]);
    let records: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[0]["topic"], "binary");
    assert_eq!(records[0]["partition"], 0);
    assert!(records[0]["value_base64"].is_string() && records[0].get("value").is_none());
    assert_eq!(records[3]["key"], "a: b");
    // Without metadata a record has the fields that `produce --json` takes, and no other.
    let bare = stdout(&[path, "--json", "--print-data-log", "--skip-record-metadata"]);
    let record: serde_json::Value = serde_json::from_str(bare.lines().last().unwrap()).unwrap();
    let fields: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers"]
    );
    let batches = stdout(&[path, "--json"]);
    let batch: serde_json::Value = serde_json::from_str(batches.lines().next().unwrap()).unwrap();
    assert_eq!((&batch["base_offset"], &batch["count"]), (&0.into(), &4.into()));
    let decoded = stdout(&[
        "testdata/kafka/clean/__consumer_offsets-0/00000000000000000000.log",
        "--json",
        "--offsets-decoder",
    ]);
    let first: serde_json::Value = serde_json::from_str(decoded.lines().next().unwrap()).unwrap();
    assert_eq!(first["key"]["data"]["group"], "classic-group");
}

#[test]
fn summary_has_a_row_a_segment() {
    let out = stdout(&["testdata/kafka/clean/segments-0", "--summary"]);
    assert_eq!(out.lines().count(), 6, "{out}");
    assert!(out.lines().next().unwrap().starts_with("FILE"), "{out}");
    let row = out.lines().nth(2).unwrap();
    assert!(row.contains(" 30 ") && row.contains(" 59 ") && row.contains("2.6KiB"), "{row}");
    let json = dump(&["testdata/kafka/damaged", "--summary", "--json"]);
    assert_eq!(json.status.code(), Some(3));
    for line in String::from_utf8(json.stdout).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["damage"].is_array());
    }
}

#[test]
fn old_message_formats_are_named() {
    let out = stdout(&["testdata/kafka/old-magic", "--summary"]);
    assert_eq!(out.matches("old message format").count(), 2, "{out}");
}

#[test]
fn wrong_usage_and_missing_files_are_told_apart() {
    assert_eq!(dump(&[]).status.code(), Some(2));
    assert_eq!(dump(&["x.log", "--from", "soon"]).status.code(), Some(2));
    let output = dump(&["x.log", "--value-decoder-class", "com.example.Avro"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("StringDecoder"));
    let missing = dump(&["no-such-folder/00000000000000000000.log"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("no-such-folder/00000000000000000000.log"), "{}", stderr(&missing));
    let unknown = dump(&["Cargo.toml"]);
    assert!(stderr(&unknown).contains("Ignoring unknown file Cargo.toml"), "{}", stderr(&unknown));
}
