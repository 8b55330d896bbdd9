//! Nodes of one cluster as real processes on loopback, and what is asked of them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use klamm::net::outgoing::{Address, Connection, ConnectionOptions};
use klamm::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use klamm::protocol::messages::describe_quorum_request::{
    DescribeQuorumRequest, PartitionData as Asked, TopicData,
};
use klamm::protocol::messages::describe_quorum_response::PartitionData;
use klamm::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use klamm::protocol::messages::metadata_response::{MetadataResponse, MetadataResponsePartition};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Below the ports that the system gives to outgoing connections, so that nobody takes one meanwhile.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

fn free_port() -> u16 {
    let first = 11_000 + (std::process::id() % 1_000) as u16 * 20;
    loop {
        let port = first.wrapping_add(NEXT_PORT.fetch_add(1, Ordering::Relaxed)).clamp(1_024, 32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One node: how it is started, and its process while it runs.
pub struct Node {
    pub id: i32,
    pub client: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

/// The nodes of a cluster; they are killed with their owner.
pub struct Nodes {
    folder: TempDir,
    pub controllers: Vec<u16>,
    pub nodes: Vec<Node>,
}

impl Nodes {
    /// Three nodes, each broker and controller.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut nodes = Self::none();
        (1..=3).for_each(|id| {
            nodes.add(id, arguments);
        });
        nodes.start_all();
        nodes
    }

    /// The places of three controllers, and no node yet.
    pub fn none() -> Self {
        let controllers = (0..3).map(|_| free_port()).collect();
        Self { folder: tempfile::tempdir().unwrap(), controllers, nodes: Vec::new() }
    }

    /// Starts those that do not run, and waits until all of them serve.
    pub fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].process.is_none() {
                self.nodes[index].process = Some(self.spawn(index));
            }
        }
        self.nodes.iter_mut().for_each(Node::await_ready);
    }

    /// Starts this one and waits until it serves.
    pub fn start_one(&mut self, index: usize) {
        self.nodes[index].process = Some(self.spawn(index));
        self.nodes[index].await_ready();
    }

    /// Another node of this cluster; not started yet. Its place.
    pub fn add(&mut self, id: i32, arguments: &[&str]) -> usize {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.nodes.push(Node { id, client: free_port(), arguments, process: None });
        self.nodes.len() - 1
    }

    /// A node that is told everything by a server.properties of this role. Its place.
    pub fn add_by_file(&mut self, id: i32, role: &str) -> usize {
        let place = self.add(id, &[]);
        let listeners = match role {
            "controller" => format!("CONTROLLER://127.0.0.1:{}", self.controllers[place]),
            _ => format!("PLAINTEXT://127.0.0.1:{}", self.nodes[place].client),
        };
        let text = format!(
            "process.roles={role}\nnode.id={id}\ncontroller.quorum.voters={}\n\
             controller.listener.names=CONTROLLER\nlisteners={listeners}\nlog.dirs={}\n",
            self.quorum(),
            self.dir(place).display(),
        );
        let file = self.folder.path().join(format!("n{place}.properties"));
        fs::write(&file, text).unwrap();
        self.nodes[place].arguments = vec!["--config".to_owned(), file.display().to_string()];
        place
    }

    /// The list of voters.
    pub fn quorum(&self) -> String {
        let voters = self.controllers.iter().enumerate();
        voters.map(|(n, port)| format!("{}@127.0.0.1:{port}", n + 1)).collect::<Vec<_>>().join(",")
    }

    fn spawn(&self, index: usize) -> Child {
        let node = &self.nodes[index];
        let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
        command.arg("serve").args(&node.arguments);
        if node.arguments.first().is_none_or(|first| first != "--config") {
            command
                .args(["--node", &node.id.to_string(), "--quorum", &self.quorum()])
                .args(["--listen", &format!("127.0.0.1:{}", node.client), "-d"])
                .arg(self.dir(index));
        }
        command
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(self.log_file(index)).unwrap())
            .spawn()
            .unwrap()
    }

    pub fn dir(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{index}"))
    }

    fn log_file(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{index}.log"))
    }

    /// What a node has said on stderr.
    pub fn log(&self, index: usize) -> String {
        fs::read_to_string(self.log_file(index)).unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self, index: usize) {
        let mut process = self.nodes[index].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends a signal to one that runs.
    pub fn signal(&self, index: usize, signal: Signal) {
        let process = self.nodes[index].process.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self, index: usize) -> ExitStatus {
        self.signal(index, Signal::SIGTERM);
        self.nodes[index].process.take().unwrap().wait().unwrap()
    }

    /// Starts one that does not serve and waits until it has given up; how.
    pub fn fails(&mut self, index: usize) -> (ExitStatus, String) {
        let mut process = self.spawn(index);
        let status = process.wait().unwrap();
        (status, self.log(index))
    }

    /// A connection to this broker.
    pub async fn client(&self, index: usize) -> Connection {
        connect(self.nodes[index].client).await
    }

    /// All client addresses.
    pub fn bootstrap(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A command with these brokers; what it reads, and what came of it.
    pub fn klamm(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_klamm"))
            .args(arguments)
            .args(["-b", &self.bootstrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let input = input.to_owned();
        let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = process.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        output
    }

    /// As [`Nodes::klamm`], where all goes well: what it printed.
    pub fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.klamm(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the quorum says of itself, asked of this broker, once it has a leader.
    pub async fn describe(&self, index: usize) -> PartitionData {
        eventually("the quorum has a leader", || async {
            let partitions = vec![Asked::default()];
            let topic = TopicData { topic_name: METADATA_TOPIC.into(), partitions, ..Default::default() };
            let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
            let answer = self.client(index).await.call(&request).await.unwrap();
            let partition = answer.topics[0].partitions[0].clone();
            (partition.error_code == 0).then_some(partition)
        })
        .await
    }

    /// Makes a topic, asked of this broker.
    pub async fn create(&self, index: usize, name: &str, partitions: i32, factor: i16) -> i16 {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: factor,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        self.client(index).await.call(&request).await.unwrap().topics[0].error_code
    }

    pub async fn metadata(&self, index: usize, topic: &str) -> MetadataResponse {
        let topic = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.client(index).await.call(&request).await.unwrap()
    }

    /// The topic's partitions, once this broker knows them so.
    pub async fn partitions(
        &self,
        index: usize,
        topic: &str,
        what: &str,
        is_so: impl Fn(&MetadataResponsePartition) -> bool,
    ) -> Vec<MetadataResponsePartition> {
        eventually(what, || async {
            let mut answer = self.metadata(index, topic).await;
            let mut partitions = answer.topics.remove(0).partitions;
            partitions.sort_by_key(|partition| partition.partition_index);
            (!partitions.is_empty() && partitions.iter().all(&is_so)).then_some(partitions)
        })
        .await
    }

    /// The place of the node with this id.
    pub fn place(&self, id: i32) -> usize {
        self.nodes.iter().position(|node| node.id == id).unwrap()
    }
}

impl Node {
    /// It gives up early where the cluster does not take it.
    pub fn stop_soon(&mut self) {
        let patience = "initial.broker.registration.timeout.ms=3000";
        self.arguments.extend(["--set".to_owned(), patience.to_owned()]);
    }

    /// Waits for the ready line.
    fn await_ready(&mut self) {
        let Some(stdout) = self.process.as_mut().and_then(|process| process.stdout.take()) else { return };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(line.starts_with(&format!("ready node={} ", self.id)), "{line:?}");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            if let Some(mut process) = self.nodes[index].process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(self.log_file(index)).unwrap_or_default();
                eprintln!("node {}:\n{log}", self.nodes[index].id);
            }
        }
    }
}

/// A connection to somebody on this machine.
pub async fn connect(port: u16) -> Connection {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    Connection::connect(&address, &ConnectionOptions::default()).await.unwrap()
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        tokio::task::yield_now().await;
    }
}
