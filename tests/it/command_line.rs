//! How every command behaves in a pipe and at a terminal: closed readers, signals, unreachable brokers.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn klamm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
    command.env_remove("KLAMM_BOOTSTRAP").env_remove("KLAMM_DIR");
    command
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = klamm()
        .args(["topics", "list", "-d", "testdata/kafka/clean"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = klamm()
        .args(["topics", "list", "-d", "testdata/kafka/clean"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("No space left"));
}

#[test]
fn an_interrupt_is_130() {
    // Accepts in the kernel, and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = klamm()
        .args(["topics", "list", "--timeout", "60s", "-b", &mute.local_addr().unwrap().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The handler is there before the first byte is sent.
    let (mut connection, _) = mute.accept().unwrap();
    connection.read_exact(&mut [0; 4]).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_broker_that_cannot_be_reached_is_given_up_after_the_timeout() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let ended =
        klamm().args(["topics", "list", "--timeout", "300ms", "-b", &gone.to_string()]).output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains(&gone.to_string()) && said.contains("Connection refused"), "{said}");
}

#[test]
fn the_environment_says_where_to_unless_it_says_two_places() {
    let list = |variables: &[(&str, &str)]| {
        let mut command = klamm();
        command.args(["topics", "list"]).envs(variables.iter().copied());
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
    };
    let dir = ("KLAMM_DIR", "testdata/kafka/cluster-node");
    let bootstrap = ("KLAMM_BOOTSTRAP", "127.0.0.1:1");
    assert_eq!(list(&[dir]), (Some(0), "elsewhere\nreplicated\n".to_owned()));
    assert_eq!(list(&[dir, bootstrap]), (Some(2), String::new()));
}
