//! `produce` and `consume` as a shell uses them: what goes in comes out unchanged, what fails is said and
//! decides the exit code.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::random::Random;
use crate::serving::{Serving, klamm};

/// Records with all that a record can have, lengths first: what it prints it reads.
const EVERYTHING: &str = "%T{big64}%K{big32}%k%V{big32}%v%H{big16}%h{%K{big32}%k%V{big32}%v}";

/// Runs `klamm` on a directory with `input` on its stdin.
fn pipe(dir: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = klamm()
        .args(arguments)
        .arg("-d")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that ends early closes its end.
        let _ = stdin.write_all(&input);
    });
    let ended = child.wait_with_output().unwrap();
    writer.join().unwrap();
    ended
}

#[track_caller]
fn well(ended: Output) -> Vec<u8> {
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    ended.stdout
}

fn sequence(count: u64) -> Vec<u8> {
    let mut text = String::new();
    for number in 1..=count {
        writeln!(text, "{number}").unwrap();
    }
    text.into_bytes()
}

/// A debug build is twenty times slower; it shows the same with less.
fn many(release: u64) -> u64 {
    if cfg!(debug_assertions) { release / 10 } else { release }
}

#[test]
fn a_million_lines_come_back_identical() {
    let dir = tempfile::tempdir().unwrap();
    let lines = sequence(many(1_000_000));
    well(pipe(dir.path(), &["produce", "t"], &lines));
    let back = well(pipe(dir.path(), &["consume", "t", "-e"], b""));
    assert!(back == lines, "{} bytes went in, {} came out", lines.len(), back.len());
}

/// `count` records in the form of [`EVERYTHING`].
fn random_records(random: &mut Random, count: u64) -> Vec<u8> {
    fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
        let length = random.below(most);
        let is_text = random.one_in(2);
        (0..length)
            .map(|_| if is_text { b' ' + random.below(95) as u8 } else { random.next() as u8 })
            .collect()
    }
    fn sized(random: &mut Random, most: usize, out: &mut Vec<u8>) {
        if random.one_in(8) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return;
        }
        let bytes = bytes(random, most);
        out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    let mut out = Vec::new();
    for _ in 0..count {
        out.extend_from_slice(&(1_600_000_000_000 + random.below(1 << 37) as i64).to_be_bytes());
        sized(random, 20, &mut out);
        sized(random, 200, &mut out);
        let headers = if random.one_in(3) { random.below(4) } else { 0 };
        out.extend_from_slice(&(headers as u16).to_be_bytes());
        for _ in 0..headers {
            let key = bytes(random, 10);
            out.extend_from_slice(&(key.len() as i32).to_be_bytes());
            out.extend_from_slice(&key);
            sized(random, 30, &mut out);
        }
    }
    out
}

#[test]
fn random_binary_records_survive_lengths_json_and_every_codec() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new();
    let records = random_records(&mut random, many(100_000));
    // The timestamps are of any day: a topic refuses those of the future, so they are of the past.
    well(pipe(dir.path(), &["produce", "a", "-f", EVERYTHING], &records));
    let back = well(pipe(dir.path(), &["consume", "a", "-e", "-f", EVERYTHING], b""));
    assert!(back == records, "lengths; seed {}", random.seed);
    let json = well(pipe(dir.path(), &["consume", "a", "-e", "--json"], b""));
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("b-{codec}");
        well(pipe(dir.path(), &["produce", &topic, "--json", "-z", codec], &json));
        let back = well(pipe(dir.path(), &["consume", &topic, "-e", "-f", EVERYTHING], b""));
        assert!(back == records, "JSON, {codec}; seed {}", random.seed);
    }
}

#[test]
fn random_binary_records_survive_delimiters() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new();
    let mut records = Vec::new();
    for _ in 0..many(100_000) {
        for delimiter in [&b"\x00:"[..], b"\xff\x00\xfe"] {
            // Anything but the bytes that delimiters begin with.
            let part = (0..random.below(60)).map(|_| 1 + random.below(254) as u8);
            records.extend(part);
            records.extend_from_slice(delimiter);
        }
    }
    let flags = ["-K", "\\x00:", "-D", "\\xff\\x00\\xfe", "-Z"];
    let send: Vec<&str> = ["produce", "t"].into_iter().chain(flags).collect();
    well(pipe(dir.path(), &send, &records));
    // Nulls print as nothing unless -Z asks for a word.
    let read: Vec<&str> = ["consume", "t", "-e"].into_iter().chain(flags[..4].iter().copied()).collect();
    let back = well(pipe(dir.path(), &read, b""));
    assert!(back == records, "seed {}", random.seed);
}

#[test]
fn a_file_is_one_record_and_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("picture");
    let picture: Vec<u8> = (0..700_000u32).map(|n| (n * 7 / 3) as u8).collect();
    std::fs::write(&file, &picture).unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let log = dir.path().join("log");
    let paths = [file.to_str().unwrap(), empty.to_str().unwrap()];
    well(pipe(&log, &["produce", "t", paths[0], paths[1], "-D", "", "-H", "type=x"], b""));
    assert!(well(pipe(&log, &["consume", "t", "-c", "1", "-D", ""], b"")) == picture);
    let sizes = well(pipe(&log, &["consume", "t", "-e", "-f", "%S %h\\n"], b""));
    assert_eq!(String::from_utf8(sizes).unwrap(), "700000 type=x\n0 type=x\n");
}

#[test]
fn what_cannot_be_sent_is_named_by_its_line_and_the_rest_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = b"a:1\nno key\n".to_vec();
    input.extend_from_slice(b"k:");
    input.resize(input.len() + (2 << 20), b'x');
    input.extend_from_slice(b"\nb:2\n");
    let ended = pipe(dir.path(), &["produce", "t", "-K", ":"], &input);
    let complaint = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("stdin:2: ") && complaint.contains("stdin:3: "), "{complaint}");
    assert!(complaint.contains("2 of 4 records were not acknowledged"), "{complaint}");
    assert_eq!(well(pipe(dir.path(), &["consume", "t", "-e", "-K", ":"], b"")), b"a:1\nb:2\n");
}

#[test]
fn ranges_tails_filters_and_counts_print_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = String::new();
    for number in 0..100 {
        writeln!(
            records,
            "{{\"value\":\"v{number}\",\"key\":\"k{}\",\"timestamp\":{}}}",
            number % 7,
            1_000 + number
        )
        .unwrap();
    }
    well(pipe(dir.path(), &["produce", "t", "--json"], records.as_bytes()));
    let offsets = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["consume", "t", "-e", "-f", "%o "].into_iter().chain(arguments.iter().copied()).collect();
        String::from_utf8(well(pipe(dir.path(), &all, b""))).unwrap()
    };
    assert_eq!(offsets(&["-o", "3:6"]), "3 4 5 ");
    assert_eq!(offsets(&["-o", "-2"]), "98 99 ");
    assert_eq!(offsets(&["-o", "end"]), "");
    assert_eq!(offsets(&["-o", "@1970-01-01T00:00:01.050Z:@1970-01-01T00:00:01.053Z"]), "50 51 52 ");
    assert_eq!(offsets(&["-o", "end-5:end-3"]), "95 96 ");
    assert_eq!(offsets(&["--tail", "2"]), "98 99 ");
    assert_eq!(offsets(&["--tail", "2", "--grep", "k:k3"]), "87 94 ");
    assert_eq!(offsets(&["--grep", "v:^v9", "--grep", "!9$"]), "90 91 92 93 94 95 96 97 98 ");
    assert_eq!(offsets(&["-c", "2", "-p", "0"]), "0 1 ");
    assert_eq!(
        offsets(&["-o", "0:500"]).split(' ').count(),
        101,
        "an end that is not there ends all the same"
    );
}

#[test]
fn committed_records_alone_are_read_from_a_directory_of_kafka_and_the_end_is_exact() {
    let kafka = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka/clean");
    let count = |arguments: &[&str]| {
        let all: Vec<&str> = ["consume", "-e"].into_iter().chain(arguments.iter().copied()).collect();
        well(pipe(&kafka, &all, b"")).iter().filter(|&&byte| byte == b'\n').count()
    };
    // Six transactions of four records, the second and the fifth taken back.
    let committed = count(&["transactions"]);
    let all = count(&["transactions", "--uncommitted"]);
    assert!(committed > 0 && committed < all, "{committed} of {all}");
    assert!(count(&["transactions", "--uncommitted", "--control-records"]) > all);
    assert_eq!(count(&["open-transaction"]), 0, "nothing behind an open transaction is shown");
    assert!(count(&["open-transaction", "--uncommitted"]) > 0);
    assert!(count(&["compacted"]) > 0 && count(&["emptied"]) == 0);
}

#[test]
fn wrong_usage_is_2_and_what_is_not_there_is_1() {
    let dir = tempfile::tempdir().unwrap();
    well(pipe(dir.path(), &["produce", "t"], b"x\n"));
    for (arguments, code, named) in [
        (&["consume", "gone", "-e"][..], 1, "gone"),
        (&["consume", "t", "-e", "-p", "7"], 1, "partition 7"),
        (&["consume", "t", "-e", "-o", "99"], 1, "99"),
        (&["consume", "t", "-o", "soon"], 2, "soon"),
        (&["consume", "t", "-X", "fetch.min.bites=1"], 2, "fetch.min.bytes"),
        (&["consume", "t", "-f", "%q"], 2, "%q"),
        (&["produce", "t", "-p", "7"], 1, "partition 7"),
        (&["produce", "t", "/no/such/file"], 1, "/no/such/file"),
        (&["produce", "bad/name"], 2, "bad/name"),
        (&["produce", "t", "-z", "rar"], 2, "rar"),
        (&["produce", "t", "-a", "1", "-X", "enable.idempotence=true"], 2, "idempotence"),
        (&["produce"], 2, "topic"),
    ] {
        let ended = pipe(dir.path(), arguments, b"x\n");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    assert_eq!(well(pipe(dir.path(), &["consume", "t", "-e"], b"")), b"x\n", "nothing of that was sent");
}

#[test]
fn a_missing_topic_is_not_made_by_reading_it() {
    let serving = Serving::start(&[]);
    serving.ask(&["consume", "gone", "-e"]).failed(1);
    assert_eq!(serving.ask(&["topics", "list"]).well(), "");
}

#[test]
fn an_unreachable_broker_is_said_within_the_timeout() {
    let begin = Instant::now();
    for command in ["consume", "produce"] {
        let ended = klamm()
            .args([command, "t", "-b", "127.0.0.1:1", "--timeout", "300ms"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("127.0.0.1:1"));
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
}

fn spawn(serving: &Serving, arguments: &[&str]) -> Child {
    klamm()
        .args(arguments)
        .args(["-b", serving.address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_pause_of_the_input_sends_what_came_and_a_follower_prints_it() {
    let serving = Serving::start(&[]);
    serving.ask(&["topics", "create", "t"]).well();
    let mut follower = spawn(&serving, &["consume", "t"]);
    let mut producer = spawn(&serving, &["produce", "t", "--report"]);
    let mut input = producer.stdin.take().unwrap();
    let mut reported = BufReader::new(producer.stdout.take().unwrap());
    let mut followed = BufReader::new(follower.stdout.take().unwrap());
    for number in 0..3 {
        writeln!(input, "line {number}").unwrap();
        let (mut report, mut line) = (String::new(), String::new());
        reported.read_line(&mut report).unwrap();
        assert_eq!(report, format!("t\t0\t{number}\n"));
        followed.read_line(&mut line).unwrap();
        assert_eq!(line, format!("line {number}\n"));
    }
    drop(input);
    assert_eq!(producer.wait().unwrap().code(), Some(0));
    kill(Pid::from_raw(follower.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(130));
}

#[test]
fn an_interrupted_producer_flushes_what_it_read() {
    let serving = Serving::start(&[]);
    let mut producer = spawn(&serving, &["produce", "t", "-T", "-X", "linger.ms=600000"]);
    let mut input = producer.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").unwrap();
    // Its echo shows that it has read them; they are not sent yet.
    let mut echoed = BufReader::new(producer.stdout.take().unwrap());
    let mut line = String::new();
    echoed.read_line(&mut line).unwrap();
    let pid = Pid::from_raw(producer.id() as i32);
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(producer.wait().unwrap().code(), Some(130));
    assert_eq!(serving.ask(&["consume", "t", "-e"]).well(), "one\ntwo\n");
}

#[test]
fn a_reader_that_leaves_ends_consume_quietly() {
    let dir = tempfile::tempdir().unwrap();
    well(pipe(dir.path(), &["produce", "t"], &sequence(50_000)));
    let (reader, writer) = std::io::pipe().unwrap();
    let child = klamm()
        .args(["consume", "t", "-e", "-d"])
        .arg(dir.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    let mut first = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, "1\n");
    drop(reader);
    let ended = child.unwrap().wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn keys_land_where_javas_client_puts_them() {
    // From Kafka 4.3.1's own producer: murmur2 of each key over ten partitions.
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(&["--set", "num.partitions=10"]);
    let input = dir.path().join("keys");
    std::fs::write(&input, "21:a\nfoobar:b\nabc:c\n").unwrap();
    serving.ask(&["produce", "t", input.to_str().unwrap(), "-K", ":"]).well();
    let placed = serving.ask(&["consume", "t", "-e", "-f", "%k %p\\n"]).well();
    let mut placed: Vec<&str> = placed.lines().collect();
    placed.sort_unstable();
    let partition = |hash: i32| (hash & 0x7fff_ffff) % 10;
    let expected = [("21", -973_932_308), ("abc", 479_470_107), ("foobar", -790_332_482)];
    let expected: Vec<String> = expected.map(|(key, hash)| format!("{key} {}", partition(hash))).to_vec();
    assert_eq!(placed, expected);
}
