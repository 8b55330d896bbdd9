//! Partitions on their way from one log directory to another, with nothing lost on it.

use std::fs;
use std::path::{Path, PathBuf};

use klamm::protocol::Str;
use klamm::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use klamm::protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use klamm::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use klamm::protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use klamm::protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use klamm::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;

use crate::harness::{Client, TestBroker, batch, idempotent, name_of};

const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// The log directory that `t-0` is in, and the other one.
pub fn here_and_there(broker: &TestBroker) -> (PathBuf, PathBuf) {
    let (first, second) = (broker.dir_at(0).to_owned(), broker.dir_at(1).to_owned());
    if first.join("t-0").exists() { (first, second) } else { (second, first) }
}

pub async fn move_to(client: &mut Client, topic: &str, partition: i32, path: &Path) -> &'static str {
    let topic = AlterReplicaLogDirTopic {
        name: Str::from(topic),
        partitions: vec![partition],
        ..AlterReplicaLogDirTopic::default()
    };
    let dir = AlterReplicaLogDir {
        path: Str::from(path.display().to_string()),
        topics: vec![topic],
        ..AlterReplicaLogDir::default()
    };
    let request = AlterReplicaLogDirsRequest { dirs: vec![dir], ..AlterReplicaLogDirsRequest::default() };
    name_of(client.ask_latest(&request).await.results[0].partitions[0].error_code)
}

/// Directory, lag and whether it is a future replica, of each log of `t-0`.
async fn replicas(client: &mut Client) -> Vec<(PathBuf, i64, bool)> {
    let asked = DescribeLogDirsRequest { topics: None, ..DescribeLogDirsRequest::default() };
    let described = client.ask_latest(&asked).await;
    let mut found = Vec::new();
    for dir in &described.results {
        for topic in &dir.topics {
            for partition in &topic.partitions {
                let path = PathBuf::from(dir.log_dir.to_string());
                found.push((path, partition.offset_lag, partition.is_future_key));
            }
        }
    }
    found
}

/// Waits until the move has ended, by asking again and again.
pub async fn arrived(client: &mut Client, there: &Path) {
    loop {
        match &replicas(client).await[..] {
            [(path, 0, false)] if path == there => return,
            _ => tokio::task::yield_now().await,
        }
    }
}

fn folders(dir: &Path, ending: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("t-0.") && name.ends_with(ending)).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<(i64, Vec<u8>)> {
    range.map(|number| (i64::from(number), number.to_string().into_bytes())).collect()
}

async fn produce(client: &mut Client, range: std::ops::Range<u32>) {
    for number in range {
        let value = number.to_string();
        let answer = client.produce("t", 0, batch([value.as_bytes()])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(number)));
    }
}

#[tokio::test]
async fn a_partition_moves_while_it_is_written_and_keeps_all_that_is_known_of_it() {
    let mut broker = TestBroker::with(2, &[]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let (here, there) = here_and_there(&broker);
    let first = client.produce("t", 0, idempotent((7, 0), 0, &[b"0"])).await;
    assert_eq!((first.error_code, first.base_offset), (0, 0));
    produce(&mut client, 1..2_500).await;
    let topic = DeleteRecordsTopic {
        name: Str::from("t"),
        partitions: vec![DeleteRecordsPartition { offset: 1_000, ..DeleteRecordsPartition::default() }],
        ..DeleteRecordsTopic::default()
    };
    let request =
        DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000, ..DeleteRecordsRequest::default() };
    assert_eq!(client.ask_latest(&request).await.topics[0].partitions[0].low_watermark, 1_000);
    assert_eq!(move_to(&mut client, "t", 0, &there).await, "NONE");
    let mut writer = broker.connect();
    tokio::join!(produce(&mut writer, 2_500..2_700), arrived(&mut client, &there));

    assert!(!here.join("t-0").exists() && there.join("t-0").exists());
    assert_eq!(folders(&here, "-delete").len(), 1, "the old folder goes after file.delete.delay.ms");
    assert_eq!(folders(&there, "-future").len(), 0);
    let repeated = client.produce("t", 0, idempotent((7, 0), 0, &[b"0"])).await;
    assert_eq!((repeated.error_code, repeated.base_offset), (0, 0), "its producers are known");
    let answer = client.produce("t", 0, idempotent((7, 0), 5, &[b"x"])).await;
    assert_eq!(name_of(answer.error_code), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    produce(&mut client, 2_700..2_701).await;

    broker.restart().await;
    let mut client = broker.connect();
    let described = client.ask_latest(&DescribeTopicPartitionsRequest::default()).await;
    assert!(described.topics.is_empty() || described.topics[0].partitions[0].offline_replicas.is_empty());
    assert!(folders(&here, "-delete").is_empty() || !here.join("t-0").exists());
    assert!(there.join("t-0").exists());
    assert_eq!(client.read_from("t", 0, 1_000).await, numbered(1_000..2_701));
    assert_eq!(client.fetch_code("t", 0, 999).await, "OFFSET_OUT_OF_RANGE", "the log start went along");
}

#[tokio::test]
async fn a_move_that_a_stop_interrupts_goes_on_at_the_next_start() {
    let mut broker = TestBroker::with(2, &[(RATE, "1000")]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[("segment.bytes", "1048576")]).await;
    let (here, there) = here_and_there(&broker);
    let large = vec![7_u8; 700_000];
    for _ in 0..4 {
        assert_eq!(client.produce("t", 0, batch([&large[..]])).await.error_code, 0);
    }
    produce_small(&mut client, 1_100).await;
    let before = client.read_all("t", 0).await;
    assert_eq!(move_to(&mut client, "t", 0, &there).await, "NONE");
    loop {
        let found = replicas(&mut client).await;
        let future =
            found.iter().find(|(_, _, is_future)| *is_future).expect("it takes minutes at that rate");
        assert_eq!(future.0, there);
        if future.1 < 1_104 {
            break;
        }
    }
    assert_eq!(folders(&there, "-future").len(), 1);
    broker.stop().await;
    assert!(here.join(".kafka_cleanshutdown").exists() && there.join(".kafka_cleanshutdown").exists());
    broker.set(&[]);
    broker.restart_stopped().await;
    let mut client = broker.connect();
    arrived(&mut client, &there).await;
    assert_eq!(client.read_all("t", 0).await, before);
}

async fn produce_small(client: &mut Client, count: usize) {
    for _ in 0..count {
        assert_eq!(client.produce("t", 0, batch([&b"small"[..]])).await.error_code, 0);
    }
}

#[tokio::test]
async fn kafkas_tool_finds_no_reassignment_and_may_keep_the_replicas_it_finds() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let listed = client.ask_latest(&ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
    let mut outcomes = Vec::new();
    for (index, replicas) in [(0, Some(vec![1])), (0, Some(vec![2])), (0, None), (7, Some(vec![1]))] {
        let partition =
            ReassignablePartition { partition_index: index, replicas, ..ReassignablePartition::default() };
        let topic = ReassignableTopic {
            name: Str::from("t"),
            partitions: vec![partition],
            ..ReassignableTopic::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = client.ask_latest(&request).await;
        outcomes.push(name_of(answer.responses[0].partitions[0].error_code));
    }
    assert_eq!(
        outcomes,
        ["NONE", "INVALID_REPLICA_ASSIGNMENT", "NO_REASSIGNMENT_IN_PROGRESS", "UNKNOWN_TOPIC_OR_PARTITION"]
    );
}

#[tokio::test]
async fn a_move_is_given_up_redirected_or_refused_as_in_kafka() {
    let broker = TestBroker::with(3, &[(RATE, "1000")]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let dirs: Vec<PathBuf> = (0..3).map(|index| broker.dir_at(index).to_owned()).collect();
    let here = dirs.iter().find(|dir| dir.join("t-0").exists()).unwrap();
    let others: Vec<&PathBuf> = dirs.iter().filter(|dir| *dir != here).collect();
    for _ in 0..4 {
        client.produce("t", 0, batch([&vec![7_u8; 900_000][..]])).await;
    }
    produce_small(&mut client, 1_100).await;
    assert_eq!(move_to(&mut client, "t", 0, Path::new("/nowhere")).await, "LOG_DIR_NOT_FOUND");
    assert_eq!(move_to(&mut client, "t", 7, others[0]).await, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(move_to(&mut client, "no", 0, others[0]).await, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(move_to(&mut client, "a/b", 0, others[0]).await, "INVALID_TOPIC_EXCEPTION");
    assert_eq!(move_to(&mut client, "t", 0, here).await, "NONE");
    assert_eq!(replicas(&mut client).await.len(), 1, "it is there already");
    assert_eq!(move_to(&mut client, "t", 0, others[0]).await, "NONE");
    assert_eq!(move_to(&mut client, "t", 0, others[0]).await, "NONE", "asked again, it goes on");
    assert_eq!(folders(others[0], "-future").len(), 1);
    assert_eq!(move_to(&mut client, "t", 0, others[1]).await, "NONE", "elsewhere, it begins anew");
    assert_eq!((folders(others[0], "-future").len(), folders(others[1], "-future").len()), (0, 1));
    assert_eq!(folders(others[0], "-delete").len(), 1);
    assert_eq!(move_to(&mut client, "t", 0, here).await, "NONE", "back, it ends");
    assert_eq!(folders(others[1], "-future").len(), 0);
    assert_eq!(replicas(&mut client).await, [(here.clone(), 0, false)]);
    assert_eq!(client.read_all("t", 0).await.len(), 1_104);
}

/// All of a directory, at another place.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_kill_between_the_two_renames_leaves_the_partition_where_the_metadata_says() {
    let mut broker = TestBroker::with(2, &[]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let (here, there) = here_and_there(&broker);
    produce(&mut client, 0..10).await;
    assert_eq!(move_to(&mut client, "t", 0, &there).await, "NONE");
    arrived(&mut client, &there).await;
    produce(&mut client, 10..20).await;
    broker.stop().await;
    // As a kill leaves it: the new folder has its name, the old one still has its own.
    let old = folders(&here, "-delete");
    fs::rename(here.join(&old[0]), here.join("t-0")).unwrap();
    broker.restart_stopped().await;
    let mut client = broker.connect();
    assert_eq!(client.read_all("t", 0).await, numbered(0..20));
    assert!(!here.join("t-0").exists());
    broker.stop().await;
    // A copy that somebody has left in a directory where nobody expects it, and no other, is where it is now.
    copy_folder(&there.join("t-0"), &here.join("t-0"));
    fs::remove_dir_all(there.join("t-0")).unwrap();
    broker.restart_stopped().await;
    let mut client = broker.connect();
    assert_eq!(client.read_all("t", 0).await, numbered(0..20));
    assert_eq!(replicas(&mut client).await, [(here.clone(), 0, false)]);
    broker.stop().await;
    // Two of them, after the metadata has followed: the one it names counts.
    copy_folder(&here.join("t-0"), &there.join("t-0"));
    broker.restart_stopped().await;
    let mut client = broker.connect();
    assert_eq!(replicas(&mut client).await, [(here.clone(), 0, false)]);
    assert_eq!(client.read_all("t", 0).await, numbered(0..20));
}

/// `klamm serve` on two directories, which is killed with its owner.
struct Server(std::process::Child);

impl Server {
    fn start(dirs: &[PathBuf; 2], socket: &Path) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_klamm"));
        command.arg("serve").arg("--listen").arg(format!("unix:{}", socket.display()));
        command.args(dirs.iter().flat_map(|dir| [std::ffi::OsStr::new("-d"), dir.as_os_str()]));
        command.env_remove("KLAMM_DIR").env_remove("KLAMM_BOOTSTRAP").env("KLAMM_LOG", "warn");
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready)
            .unwrap();
        assert!(ready.starts_with("ready "), "{ready:?}");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// KLAMM_MOVE_KILLS makes it longer.
#[tokio::test]
async fn what_was_acknowledged_outlives_kills_at_any_point_of_a_move() {
    let kills = std::env::var("KLAMM_MOVE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().unwrap();
    let dirs = [folder.path().join("a"), folder.path().join("b")];
    let socket = folder.path().join("socket");
    let mut next = 0_u32;
    let mut moved = 0;
    for round in 0..kills {
        let server = Server::start(&dirs, &socket);
        let mut client = Client::over(tokio::net::UnixStream::connect(&socket).await.unwrap());
        if round == 0 {
            client.create_topic("t", 1, &[]).await;
        }
        assert_eq!(client.read_all("t", 0).await, numbered(0..next), "round {round}");
        let there = if dirs[0].join("t-0").exists() { &dirs[1] } else { &dirs[0] };
        assert_eq!(move_to(&mut client, "t", 0, there).await, "NONE");
        // The move takes a few tens of milliseconds: it is killed a little later each time.
        for _ in 0..round * 3 {
            produce(&mut client, next..next + 1).await;
            next += 1;
        }
        drop(server);
        moved += usize::from(there.join("t-0").exists());
    }
    let _server = Server::start(&dirs, &socket);
    let mut client = Client::over(tokio::net::UnixStream::connect(&socket).await.unwrap());
    assert_eq!(client.read_all("t", 0).await, numbered(0..next));
    assert!(next > 100, "there was load");
    eprintln!("{moved} of {kills} moves were over before the kill");
}

#[tokio::test]
async fn a_deleted_topics_move_leaves_nothing_behind() {
    let mut broker = TestBroker::with(2, &[(RATE, "1000")]).await;
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]).await;
    let (_, there) = here_and_there(&broker);
    for _ in 0..3 {
        client.produce("t", 0, batch([&vec![7_u8; 900_000][..]])).await;
    }
    produce_small(&mut client, 1_100).await;
    assert_eq!(move_to(&mut client, "t", 0, &there).await, "NONE");
    assert_eq!(folders(&there, "-future").len(), 1);
    let state = klamm::protocol::messages::delete_topics_request::DeleteTopicState {
        name: Some(Str::from("t")),
        ..Default::default()
    };
    let request = klamm::protocol::messages::delete_topics_request::DeleteTopicsRequest {
        topics: vec![state],
        ..Default::default()
    };
    assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
    assert_eq!((folders(&there, "-future").len(), folders(&there, "-delete").len()), (0, 1));
    broker.restart().await;
    assert!(broker.dir_at(0).join(".lock").exists());
    assert_eq!(folders(&there, "-future").len(), 0);
}
