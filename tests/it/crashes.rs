//! The real program as a process: killed under load, stopped in order, started where it cannot start.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use klamm::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use klamm::protocol::messages::produce_request::ProduceRequest;
use klamm::storage::{Disk as _, FileKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;

use crate::harness::{Client, TestBroker, batch, idempotent, name_of, produce_request};

/// A `klamm serve` that dies with its test.
struct Server {
    child: Child,
    socket: PathBuf,
    ready: String,
}

impl Server {
    fn command(dir: &Path, extra: &[&str]) -> Command {
        Self::command_of(Command::new(env!("CARGO_BIN_EXE_klamm")), dir, extra)
    }

    fn command_of(mut command: Command, dir: &Path, extra: &[&str]) -> Command {
        command
            .arg("serve")
            .arg("-d")
            .arg(dir)
            .args(extra)
            .env_remove("KLAMM_BOOTSTRAP")
            .env("KLAMM_LOG", "warn");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts on `dir` and waits for the ready line.
    fn start(dir: &Path) -> Self {
        Self::start_of(Command::new(env!("CARGO_BIN_EXE_klamm")), dir)
    }

    /// The same, with SIGHUP as `env` sets it up (`--default-signal=HUP`, `--ignore-signal=HUP`).
    fn start_with_hangup(dir: &Path, hangup: &str) -> Self {
        let mut program = Command::new("env");
        program.arg(hangup).arg(env!("CARGO_BIN_EXE_klamm"));
        Self::start_of(program, dir)
    }

    fn start_of(program: Command, dir: &Path) -> Self {
        let socket = dir.with_extension("socket");
        let listen = format!("unix:{}", socket.display());
        let mut command = Self::command_of(program, dir, &["--listen", &listen]);
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Self { child, socket, ready }
    }

    async fn connect(&self) -> Client {
        Client::over(UnixStream::connect(&self.socket).await.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// What a producer has sent and heard.
#[derive(Default)]
struct Sent {
    next: u32,
    unanswered: VecDeque<u32>,
    acknowledged: Vec<(u32, i64)>,
}

impl Sent {
    async fn send(&mut self, client: &mut Client, topic: &str, producer: Option<i64>, number: u32) {
        let value = number.to_be_bytes();
        let records = match producer {
            Some(id) => idempotent((id, 0), number as i32, &[&value]),
            None => batch([&value[..]]),
        };
        client.send(9, &produce_request(topic, 0, -1, records)).await;
    }

    /// Produces until the broker dies, with as many requests under way as it knows duplicates of an idempotent
    /// producer: five.
    async fn produce(&mut self, mut client: Client, topic: &str, producer: Option<i64>) {
        for number in self.unanswered.clone() {
            self.send(&mut client, topic, producer, number).await;
        }
        loop {
            while self.unanswered.len() < 5 {
                let number = self.next;
                self.next += 1;
                self.unanswered.push_back(number);
                self.send(&mut client, topic, producer, number).await;
            }
            let Some(response) = client.try_receive::<ProduceRequest>().await else { return };
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, 0, "{}: {:?}", name_of(answer.error_code), answer.error_message);
            self.acknowledged.push((self.unanswered.pop_front().unwrap(), answer.base_offset));
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_9_in_order_and_once() {
    let (seed, folder) = (random(), tempfile::tempdir().unwrap());
    eprintln!("seed {seed}");
    let dir = folder.path().join("data");
    let mut server = Server::start(&dir);
    let mut client = server.connect().await;
    client.create_topic("plain", 1, &[("segment.bytes", "1048576")]).await;
    client.create_topic("once", 1, &[("segment.bytes", "1048576")]).await;
    let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let producer = client.ask(4, &request).await.producer_id;
    let (mut plain, mut once) = (Sent::default(), Sent::default());
    for round in 0..5 {
        let (to_plain, to_once) = (server.connect().await, server.connect().await);
        let pause = Duration::from_millis((seed >> (round * 8)) % 250 + 20);
        let killer = async {
            tokio::time::sleep(pause).await;
            server.signal(Signal::SIGKILL);
        };
        // A request that is not answered may or may not be in the log: the plain producer forgets it.
        plain.unanswered.clear();
        tokio::join!(
            plain.produce(to_plain, "plain", None),
            once.produce(to_once, "once", Some(producer)),
            killer
        );
        server.wait();
        server = Server::start(&dir);
    }
    let mut client = server.connect().await;
    let mut last = server.connect().await;
    for number in once.unanswered.clone() {
        once.send(&mut last, "once", Some(producer), number).await;
        assert_eq!(last.receive::<ProduceRequest>().await.responses[0].partition_responses[0].error_code, 0);
    }
    let number = |value: &[u8]| u32::from_be_bytes(value.try_into().unwrap());
    let read = client.read_all("once", 0).await;
    let numbers: Vec<u32> = read.iter().map(|(_, value)| number(value)).collect();
    assert_eq!(numbers, (0..once.next).collect::<Vec<_>>(), "each once, in order");
    let read = client.read_all("plain", 0).await;
    assert!(read.windows(2).all(|pair| number(&pair[0].1) < number(&pair[1].1)), "in order");
    for (sent, offset) in &plain.acknowledged {
        let at = read.binary_search_by_key(offset, |(offset, _)| *offset).expect("an acknowledged offset");
        assert_eq!(number(&read[at].1), *sent);
    }
    assert!(plain.acknowledged.len() > 50 && once.acknowledged.len() > 50, "there was load");
}

#[tokio::test]
async fn a_clean_restart_reads_nothing_of_the_logs() {
    let mut broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 4, &[]).await;
    for partition in 0..4 {
        for _ in 0..50 {
            client.produce("t", partition, batch([&[1; 2_000][..]])).await;
        }
    }
    broker.restart().await;
    let read = broker.disk.stats().of(FileKind::Log).bytes_read.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(read, 0, "bytes of .log files");
    assert_eq!(broker.connect().read_all("t", 3).await.len(), 50);
}

#[test]
fn sigterm_leaves_a_clean_directory_and_exit_0() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let mut server = Server::start(&dir);
    assert!(server.ready.starts_with("ready node=1 listener=unix:"), "{}", server.ready);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    assert!(dir.join(".kafka_cleanshutdown").exists());
    assert!(!server.socket.exists());
    let mut server = Server::start(&dir);
    assert!(!dir.join(".kafka_cleanshutdown").exists(), "a running broker's directory is not clean");
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait(), Some(130));
    assert!(dir.join(".kafka_cleanshutdown").exists());
}

#[tokio::test]
async fn a_terminal_that_closes_stops_the_broker_in_order_unless_it_was_started_to_ignore_that() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let mut server = Server::start_with_hangup(&dir, "--default-signal=HUP");
    server.signal(Signal::SIGHUP);
    assert_eq!(server.wait(), Some(0));
    assert!(dir.join(".kafka_cleanshutdown").exists());
    let mut server = Server::start_with_hangup(&dir, "--ignore-signal=HUP");
    server.signal(Signal::SIGHUP);
    server.connect().await.create_topic("t", 1, &[]).await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test]
async fn signals_repeated_while_it_stops_change_nothing_and_a_kill_is_recovered_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let mut server = Server::start(&dir);
    let mut client = server.connect().await;
    client.create_topic("t", 2, &[]).await;
    for value in [&b"one"[..], b"two"] {
        client.produce("t", 0, batch([value])).await;
    }
    drop(client);
    for _ in 0..5 {
        server.signal(Signal::SIGTERM);
    }
    assert_eq!(server.wait(), Some(0));
    assert!(dir.join(".kafka_cleanshutdown").exists());

    let recovered = |said: &str| said.lines().filter(|line| line.contains("recovered after")).count();
    let serve = |end: Signal| {
        let listen = format!("unix:{}", dir.with_extension("socket").display());
        let mut command = Server::command(&dir, &["--listen", &listen]);
        let mut child = command.env("KLAMM_LOG", "info").spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        kill(Pid::from_raw(child.id() as i32), end).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        said
    };
    let said = serve(Signal::SIGKILL);
    assert_eq!(recovered(&said), 0, "{said}");
    let said = serve(Signal::SIGTERM);
    assert_eq!(recovered(&said), 1, "{said}");
    assert!(said.contains("142B in 2 segments of 2 logs checked, nothing cut off in "), "{said}");
    assert!(!said.contains("conflicting leader epochs"), "{said}");
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_start_that_cannot_be_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let server = Server::start(&dir);
    let (code, said) = run(&mut Server::command(&dir, &["--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("data is in use by another broker"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = run(&mut Server::command(&folder.path().join("other"), &["--listen", &address]));
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    drop(server);
    let (code, said) = run(&mut Server::command(&dir, &["--node", "7"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("node 1") && said.contains('7'), "{said}");
    for wrong in [&["--set", "no.such.key=1"][..], &["--listen", "nonsense"], &["--set", "num.partitions=x"]]
    {
        let (code, said) = run(&mut Server::command(&dir, wrong));
        assert_eq!(code, Some(2), "{wrong:?}: {said}");
    }
    let meta = dir.join("meta.properties");
    let newer = std::fs::read_to_string(&meta).unwrap().replace("version=1", "version=9");
    std::fs::write(&meta, newer).unwrap();
    let (code, said) = run(&mut Server::command(&dir, &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("meta.properties") && said.contains('9'), "{said}");
}

#[test]
fn s1_8_a_tls_hello_on_a_plain_port_costs_one_log_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        Server::command(&folder.path().join("data"), &["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.trim().rsplit_once("listener=").unwrap().1;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]).unwrap();
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("TLS") && said.contains("127.0.0.1"), "{said}");
}
