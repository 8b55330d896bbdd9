//! `consume -g` and `groups` against a running broker, and beside it on its directory.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::serving::{Said, Serving, klamm, run};

const PROTOCOLS: [&str; 2] = ["group.protocol=classic", "group.protocol=consumer"];

/// A broker with topic `t` of two partitions, whose groups do not wait for more members.
fn serving() -> Serving {
    let broker = Serving::start(&["--set", "group.initial.rebalance.delay.ms=0"]);
    broker.ask(&["topics", "create", "t", "-p", "2"]).well();
    broker
}

fn produce(broker: &Serving, numbers: std::ops::RangeInclusive<u32>) {
    let file = broker.dir().join("lines");
    let lines: String = numbers.map(|number| format!("{}:{number}\n", number % 7)).collect();
    std::fs::write(&file, lines).unwrap();
    broker.ask(&["produce", "t", "-K", ":", file.to_str().unwrap()]).well();
}

fn consume(broker: &Serving, more: &[&str]) -> Said {
    let mut arguments = vec!["consume", "t", "-g", "g"];
    arguments.extend(more);
    broker.ask(&arguments)
}

fn count(said: Said) -> usize {
    said.well().lines().count()
}

fn total_lag(broker: &Serving) -> i64 {
    broker.ask(&["groups", "lag", "g", "--total", "--json"]).json()[0]["lag"].as_i64().unwrap()
}

fn spawn(broker: &Serving, more: &[&str]) -> Child {
    let mut command = klamm();
    command.args(["consume", "t", "-g", "g", "-b", broker.address()]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_group_goes_on_behind_what_was_printed() {
    for protocol in PROTOCOLS {
        let broker = serving();
        produce(&broker, 1..=100);
        let mut seen = consume(&broker, &["-X", protocol, "-c", "37"]).well();
        // A partition that was not come to yet counts from where it would begin.
        assert_eq!((seen.lines().count(), total_lag(&broker)), (37, 63), "{protocol}");
        seen += &consume(&broker, &["-X", protocol, "-e"]).well();
        let mut numbers: Vec<u32> = seen.lines().map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=100), "{protocol}: each once");
        assert_eq!(count(consume(&broker, &["-X", protocol, "-e"])), 0, "{protocol}");
        // The directory says the same, beside the broker.
        let asked = broker.ask(&["groups", "export", "g"]).well();
        assert_eq!(broker.read(&["groups", "export", "g"]).well(), asked, "{protocol}");
    }
}

#[test]
fn commits_come_before_after_or_never() {
    let broker = serving();
    produce(&broker, 1..=10);
    assert_eq!(count(consume(&broker, &["-e", "--commit", "never"])), 10);
    assert_eq!(total_lag_or_none(&broker), None);
    assert_eq!(count(consume(&broker, &["-c", "4", "--commit", "before"])), 4);
    assert_eq!(count(consume(&broker, &["-e"])), 6);
    assert_eq!(count(consume(&broker, &["-e", "-X", "enable.auto.commit=false"])), 0);
}

fn total_lag_or_none(broker: &Serving) -> Option<i64> {
    let said = broker.ask(&["groups", "export", "g"]);
    (said.code == Some(0) && !said.out.is_empty()).then(|| total_lag(broker))
}

#[test]
fn what_a_reader_leaves_in_the_pipe_is_read_again() {
    let broker = serving();
    produce(&broker, 1..=500);
    // A reader that goes away without having read anything.
    let mut child = spawn(&broker, &[]);
    let stdout = child.stdout.take().unwrap();
    let mut buffered = BufReader::with_capacity(1, stdout);
    buffered.fill_buf().unwrap();
    drop(buffered);
    assert_eq!(child.wait().unwrap().code(), Some(0), "a closed pipe ends it quietly");
    assert_eq!(count(consume(&broker, &["-e"])), 500, "one byte is no record");
}

/// A fetch has a hundred thousands of records here: none of them waits for all of them.
#[test]
fn a_reader_that_takes_its_time_keeps_neither_commits_nor_signals_waiting() {
    const RECORDS: u32 = 400_000;
    let broker = serving();
    let file = broker.dir().join("lines");
    let lines: String = (0..RECORDS).map(|number| format!("a record with a number: {number:08}\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    broker.ask(&["produce", "t", "-p", "0", "-X", "compression.type=zstd", file.to_str().unwrap()]).well();
    let mut child = spawn(&broker, &["-X", "auto.commit.interval.ms=100"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    while total_lag_or_none(&broker).is_none_or(|lag| lag == i64::from(RECORDS)) {
        assert!(seen.len() < lines.len() / 2, "half is read and nothing committed");
        let mut piece = [0; 4 << 10];
        let size = stdout.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..size]);
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    stdout.read_to_end(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(seen.len() < lines.len(), "everything was written first");
    let read = i64::try_from(seen.split(|byte| *byte == b'\n').count() - 1).unwrap();
    assert_eq!((seen.last(), i64::from(RECORDS) - total_lag(&broker)), (Some(&b'\n'), read));
}

#[test]
fn signals_leave_the_group_with_everything_committed() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 0)] {
        for protocol in PROTOCOLS {
            let broker = serving();
            produce(&broker, 1..=5);
            let mut child = spawn(&broker, &["-X", protocol]);
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            for _ in 0..5 {
                lines.read_line(&mut String::new()).unwrap();
            }
            let described = broker.ask(&["groups", "describe", "g", "--json"]).json();
            assert_eq!(described[0]["members"].as_array().unwrap().len(), 1);
            let refused =
                broker.ask(&["groups", "reset", "g", "t", "--to", "earliest", "--execute"]).failed(1);
            assert!(refused.contains("stop its members first"), "{refused}");
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(code), "{signal} {protocol}");
            let described = broker.ask(&["groups", "describe", "g", "--json"]).json();
            assert_eq!((&described[0]["state"], total_lag(&broker)), (&"Empty".into(), 0));
        }
    }
}

#[test]
fn a_second_signal_does_not_wait_for_a_broker_that_stands_still() {
    let broker = serving();
    produce(&broker, 1..=5);
    let mut child = spawn(&broker, &["-X", "auto.commit.interval.ms=600000"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..5 {
        lines.read_line(&mut String::new()).unwrap();
    }
    kill(Pid::from_raw(i32::try_from(broker.pid()).unwrap()), Signal::SIGSTOP).unwrap();
    // Of two that are the same, one may be all that comes.
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("not committed"), "it waited: {said}");
}

#[test]
fn what_comes_after_a_first_look_at_the_end_is_not_passed_over() {
    let broker = serving();
    produce(&broker, 1..=10);
    let latest = ["-e", "-X", "auto.offset.reset=latest"];
    assert_eq!(count(consume(&broker, &latest)), 0);
    produce(&broker, 11..=15);
    assert_eq!(count(consume(&broker, &latest)), 5);
}

#[test]
fn two_members_share_and_the_second_takes_over_what_the_first_left() {
    for protocol in PROTOCOLS {
        let broker = serving();
        produce(&broker, 1..=50);
        let mut first = spawn(&broker, &["-X", protocol]);
        let mut lines = BufReader::new(first.stdout.take().unwrap());
        for _ in 0..50 {
            lines.read_line(&mut String::new()).unwrap();
        }
        kill(Pid::from_raw(i32::try_from(first.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), first.wait().unwrap().code()), ("", Some(0)));
        produce(&broker, 51..=60);
        assert_eq!(count(consume(&broker, &["-X", protocol, "-e"])), 10, "{protocol}: no more and no less");
    }
}

#[test]
fn patterns_find_the_topics_and_pass_over_kafkas_own() {
    for protocol in PROTOCOLS {
        let broker = serving();
        broker.ask(&["topics", "create", "other"]).well();
        produce(&broker, 1..=3);
        let said =
            broker.ask(&["consume", "^t", "^__.*", "-g", "g", "-c", "3", "-X", protocol, "-f", "%t\\n"]);
        assert_eq!(said.well(), "t\nt\nt\n", "{protocol}");
    }
}

#[test]
fn a_topic_that_is_deleted_under_a_pattern_is_no_failure() {
    for protocol in PROTOCOLS {
        let broker = serving();
        broker.ask(&["topics", "create", "t2"]).well();
        produce(&broker, 1..=3);
        let file = broker.dir().join("lines");
        broker.ask(&["produce", "t2", file.to_str().unwrap()]).well();
        let mut command = klamm();
        command.args(["consume", "^t.*", "-g", "g", "-b", broker.address(), "-X", protocol]);
        // Nothing is committed before the topic is gone.
        command.args(["-X", "auto.commit.interval.ms=600000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.by_ref().take(6).map(Result::unwrap).count(), 6, "{protocol}");
        broker.ask(&["topics", "delete", "t2", "--execute"]).well();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut words = String::new();
        said.read_line(&mut words).unwrap();
        assert!(words.starts_with("warning: topic t2 is gone"), "{protocol}: {words}");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("", Some(0)), "{protocol}");
        assert_eq!(total_lag(&broker), 0, "{protocol}");
    }
}

#[test]
fn lag_that_nobody_knows_is_no_lag_of_zero() {
    let broker = serving();
    produce(&broker, 1..=10);
    assert_eq!(count(consume(&broker, &["-e", "--commit", "never"])), 10);
    let lag = |more: &[&str]| {
        let mut arguments = vec!["groups", "lag", "g"];
        arguments.extend(more);
        broker.ask(&arguments)
    };
    assert!(lag(&["--total", "--json"]).json()[0]["lag"].is_null());
    assert!(lag(&["--total"]).well().ends_with("  -\n"));
    assert!(lag(&["--fail-above", "1000"]).failed(4).contains("committed nothing"));
    assert!(broker.ask(&["groups", "lag", "--topic", "other", "--fail-above", "9"]).well().is_empty());
    assert_eq!(count(consume(&broker, &["-e"])), 10);
    lag(&["--fail-above", "0"]).well();
    assert!(lag(&["--topic", "other", "--fail-above", "9"]).failed(4).contains("not known"));
}

#[test]
fn offsets_move_by_every_means_and_only_when_told_to() {
    let broker = serving();
    produce(&broker, 1..=20);
    consume(&broker, &["-e"]).well();
    let reset = |more: &[&str]| {
        let mut arguments = vec!["groups", "reset", "g", "--json"];
        arguments.extend(more);
        broker.ask(&arguments)
    };
    assert_eq!(reset(&["t", "--to", "earliest"]).json()[0]["executed"], false);
    assert_eq!(total_lag(&broker), 0);
    assert_eq!(reset(&["t", "--to", "earliest", "--execute"]).json()[0]["executed"], true);
    assert_eq!(total_lag(&broker), 20);
    reset(&["--all-topics", "--to", "latest", "--execute"]).well();
    reset(&["t:0", "--shift-by", "-2", "--execute"]).well();
    assert_eq!(total_lag(&broker), 2);
    assert!(broker.ask(&["groups", "lag", "g", "--fail-above", "1"]).failed(4).contains("2 records behind"));
    let saved = broker.dir().join("saved");
    std::fs::write(&saved, broker.ask(&["groups", "export", "g"]).well()).unwrap();
    reset(&["t", "--to", "@-1h", "--execute"]).well();
    assert_eq!(total_lag(&broker), 20);
    reset(&["--from-file", saved.to_str().unwrap(), "--execute"]).well();
    assert_eq!(total_lag(&broker), 2);
    // They may be another group's, too.
    let moved = broker.ask(&["groups", "reset", "h", "--from-file", saved.to_str().unwrap(), "--execute"]);
    moved.well();
    let of_h = broker.ask(&["groups", "lag", "h", "--total", "--json"]).json();
    assert_eq!(of_h[0]["lag"], 2);
    let kafkas = broker.dir().join("kafkas.csv");
    std::fs::write(&kafkas, "t,0,0\nt,1,0\n").unwrap();
    reset(&["--from-file", kafkas.to_str().unwrap(), "--execute"]).well();
    assert_eq!(total_lag(&broker), 20);
    assert!(reset(&["nothere", "--to", "earliest"]).failed(1).contains("does not exist"));
}

#[test]
fn groups_and_offsets_are_deleted_only_when_told_to() {
    let broker = serving();
    produce(&broker, 1..=20);
    consume(&broker, &["-e"]).well();
    let group = |arguments: &[&str]| {
        let mut all = vec!["groups"];
        all.extend(arguments);
        broker.ask(&all)
    };
    assert!(group(&["delete", "g"]).well().contains("would delete group g"));
    assert!(group(&["delete-offsets", "g", "t:0"]).well().contains("would delete offset"));
    assert_eq!(group(&["export", "g"]).well().lines().count(), 2);
    group(&["delete-offsets", "g", "t:0", "--execute"]).well();
    assert_eq!(group(&["export", "g"]).well().lines().count(), 1);
    group(&["delete", "g", "--execute"]).well();
    assert!(group(&["describe", "g"]).failed(1).contains("group g does not exist"));
    assert!(group(&["delete", "g", "--execute"]).failed(1).contains("group g does not exist"));
    assert_eq!(group(&["list"]).well(), "");
}

#[test]
fn a_group_is_moved_in_a_directory_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines");
    std::fs::write(&lines, "a\nb\nc\n").unwrap();
    let node = dir.path().join("node");
    let on_node = |arguments: &[&str]| run(klamm().args(arguments).arg("-d").arg(&node));
    on_node(&["produce", "t", lines.to_str().unwrap()]).well();
    on_node(&["groups", "reset", "g", "t", "--to", "2", "--execute"]).well();
    let lag = on_node(&["groups", "lag", "g", "--json"]).json();
    assert_eq!((&lag[0]["current"], &lag[0]["lag"]), (&2.into(), &1.into()));
    let listed = on_node(&["groups", "list", "--type", "simple", "--json"]).json();
    assert_eq!(listed[0]["group"], "g");
}
