//! `log-dirs move`: partitions from one log directory of a broker to another, while they are used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::args::{Connection, Target};
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::cli::partitions::{Partitions, expand};
use crate::cli::queries::{self, LogDir, ReplicaSize};
use crate::client::{BrokerError, Cluster, ClusterMetadata, Topics};
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use crate::types::{BrokerId, Clock, SystemClock, TopicPartition};

/// How often the broker is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Move partitions to another log directory of their broker, while they are used.
///
/// Ends when they are there. The broker goes on if it is interrupted; to move a partition back to where it is
/// ends a move that is under way.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm log-dirs move orders:0=/disk2
  klamm log-dirs move orders=/disk2 returns:0,2-4=/disk3 --broker 1
  klamm log-dirs move orders:0=/disk2 --no-wait --json")]
pub struct Args {
    /// Partitions, and the log directory as the broker names it
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]=DIR")]
    moves: Vec<Wish>,

    /// The broker whose replicas are meant; needed where there are several
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,

    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,

    /// One JSON object for each partition: topic, partition, broker, directory, moved
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// What is to go where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    partitions: Partitions,
    directory: String,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (partitions, directory) = text
            .split_once('=')
            .filter(|(_, directory)| !directory.is_empty())
            .ok_or("TOPIC[:PARTITIONS]=DIR is expected")?;
        // Brokers compare names letter by letter.
        let directory = Path::new(directory).components().collect::<PathBuf>().display().to_string();
        Ok(Self { partitions: partitions.parse()?, directory })
    }
}

/// One replica on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    partition: TopicPartition,
    broker: BrokerId,
    directory: String,
}

/// Has them moved.
///
/// # Errors
/// Where the cluster cannot be asked, or it is not said which replicas are meant.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if let Target::Dir(_) = args.connection.target()? {
        return Err(usage("partitions are moved by the broker that runs: say which with '-b HOST:PORT'"));
    }
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let (moves, mut failed) = plan(args, &cluster, output).await?;
        let begun = begin(&cluster, moves, &mut failed, output).await?;
        if args.no_wait {
            for each in &begun {
                tell(args, each, false, output)?;
            }
        } else {
            failed |= wait(args, &cluster, begun, output).await?;
        }
        Ok(Exit::failed_if(failed))
    })
}

/// The single replicas, and whether something that was asked for is not there.
async fn plan(args: &Args, cluster: &Cluster, output: &mut Output) -> anyhow::Result<(Vec<Move>, bool)> {
    let names: Vec<&str> = args.moves.iter().map(|wish| wish.partitions.topic.as_str()).collect();
    let metadata = cluster.metadata(Topics::Named { names: &names, create: false }).await?;
    let of_topic = |topic: &str| {
        let topic = metadata.topics.get(topic)?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition).collect();
        (!partitions.is_empty()).then_some(partitions)
    };
    let mut moves: Vec<Move> = Vec::new();
    let mut failed = false;
    for wish in &args.moves {
        let (partitions, complete) = expand([&wish.partitions], of_topic, output);
        failed |= !complete;
        for partition in partitions {
            if moves.iter().any(|other| other.partition == partition) {
                return Err(usage(format!("{partition} is given twice")));
            }
            let broker = broker_of(args, &metadata, &partition)?;
            let directory = wish.directory.clone();
            moves.push(Move { partition, broker, directory });
        }
    }
    Ok((moves, failed))
}

fn broker_of(
    args: &Args,
    metadata: &ClusterMetadata,
    partition: &TopicPartition,
) -> anyhow::Result<BrokerId> {
    let topic = metadata.topics.get(partition.topic.as_str());
    let known = topic.and_then(|topic| topic.partition(partition.partition));
    let replicas = known.map(|known| known.replicas.as_slice()).unwrap_or_default();
    match (args.broker.map(BrokerId), replicas) {
        (Some(broker), replicas) if replicas.contains(&broker) => Ok(broker),
        (Some(broker), _) => Err(anyhow::anyhow!("broker {broker} has no replica of {partition}")),
        (None, [broker]) => Ok(*broker),
        (None, _) => Err(usage(format!(
            "{partition} has {} replicas: say which is meant with '--broker ID'",
            replicas.len()
        ))),
    }
}

/// Asks the brokers to move; what they refuse is said. Returns what has begun.
async fn begin(
    cluster: &Cluster,
    moves: Vec<Move>,
    failed: &mut bool,
    output: &mut Output,
) -> anyhow::Result<Vec<Move>> {
    let mut by_broker: BTreeMap<BrokerId, Vec<Move>> = BTreeMap::new();
    for each in moves {
        by_broker.entry(each.broker).or_default().push(each);
    }
    let mut begun = Vec::new();
    for (broker, moves) in by_broker {
        let answer = cluster.send(broker, &request(&moves)).await?;
        let mut refused = BTreeMap::new();
        for topic in &answer.results {
            for result in topic.partitions.iter().filter(|result| result.error_code != 0) {
                let partition = format!("{}-{}", topic.topic_name, result.partition_index);
                refused.insert(partition, result.error_code);
            }
        }
        for each in moves {
            match refused.get(&each.partition.to_string()) {
                None => begun.push(each),
                Some(&code) => {
                    *failed = true;
                    explain(cluster, &each, code, output).await?;
                }
            }
        }
    }
    Ok(begun)
}

fn request(moves: &[Move]) -> AlterReplicaLogDirsRequest {
    let mut dirs: BTreeMap<&str, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for Move { partition, directory, .. } in moves {
        let topics = dirs.entry(directory).or_default();
        topics.entry(partition.topic.as_str()).or_default().push(partition.partition);
    }
    let dirs = dirs.into_iter().map(|(path, topics)| AlterReplicaLogDir {
        path: path.into(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| AlterReplicaLogDirTopic {
                name: name.into(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    AlterReplicaLogDirsRequest { dirs: dirs.collect(), ..Default::default() }
}

async fn explain(cluster: &Cluster, each: &Move, code: i16, output: &mut Output) -> anyhow::Result<()> {
    let Move { partition, broker, directory } = each;
    if ErrorCode::from_wire(code) == ErrorCode::LogDirNotFound {
        let dirs = queries::log_dirs(cluster, *broker, Some(&BTreeMap::new())).await?;
        let names: Vec<&str> = dirs.iter().map(|dir| dir.path.as_str()).collect();
        let names = names.join(", ");
        output.error(format_args!("broker {broker} has no log directory {directory}: it has {names}"));
    } else if let Err(error) = BrokerError::check(code, || partition.to_string(), None) {
        output.error(error);
    }
    Ok(())
}

/// Waits until all have arrived, or were given up; true where one was.
async fn wait(
    args: &Args,
    cluster: &Cluster,
    mut moves: Vec<Move>,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let clock = SystemClock::new();
    let bar = output.progress_bytes(0, "moving");
    let mut failed = false;
    let (mut done_bytes, mut is_first) = (0, true);
    while !moves.is_empty() {
        if !is_first {
            clock.wait(LOOK).await;
        }
        is_first = false;
        let dirs = look(cluster, &moves).await?;
        let (mut total, mut copied) = (done_bytes, done_bytes);
        let mut left = Vec::new();
        for each in moves {
            match stands(&each, &dirs).with_context(|| format!("broker {}", each.broker))? {
                Stand::Arrived(bytes) => {
                    done_bytes += bytes;
                    tell(args, &each, true, output)?;
                }
                Stand::UnderWay { of, bytes } => {
                    (total, copied) = (total + of, copied + bytes.min(of));
                    left.push(each);
                }
                Stand::GivenUp => {
                    failed = true;
                    let Move { partition, broker, directory } = &each;
                    output.error(format_args!(
                        "{partition} is not on its way to {directory} any more: see the log of broker {broker}"
                    ));
                }
            }
        }
        bar.set_length(total);
        bar.set_position(copied);
        moves = left;
    }
    bar.finish_and_clear();
    Ok(failed)
}

async fn look(cluster: &Cluster, moves: &[Move]) -> anyhow::Result<Vec<LogDir>> {
    let mut wanted: BTreeMap<BrokerId, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
    for Move { partition, broker, .. } in moves {
        let topics = wanted.entry(*broker).or_default();
        topics.entry(partition.topic.to_string()).or_default().push(partition.partition);
    }
    let mut dirs = Vec::new();
    for (broker, topics) in wanted {
        dirs.extend(queries::log_dirs(cluster, broker, Some(&topics)).await?);
    }
    Ok(dirs)
}

/// How far a move is.
enum Stand {
    /// The replica is there, with so many bytes.
    Arrived(u64),
    /// So many bytes of so many are.
    UnderWay { of: u64, bytes: u64 },
    /// It is not, and no copy of it.
    GivenUp,
}

fn stands(each: &Move, dirs: &[LogDir]) -> anyhow::Result<Stand> {
    let of_broker = dirs.iter().filter(|dir| dir.broker == Some(each.broker));
    let replicas: Vec<(&LogDir, &ReplicaSize)> = of_broker
        .flat_map(|dir| dir.replicas.iter().map(move |replica| (dir, replica)))
        .filter(|(_, replica)| replica.partition == each.partition)
        .collect();
    let bytes = |replica: &ReplicaSize| u64::try_from(replica.size_bytes).unwrap_or(0);
    let is_there = |dir: &LogDir| dir.path == each.directory;
    let there = replicas.iter().find(|(dir, _)| is_there(dir)).map(|(_, replica)| *replica);
    let current = replicas.iter().map(|(_, replica)| *replica).find(|replica| !replica.is_future);
    Ok(match (there, current) {
        (Some(replica), _) if !replica.is_future => Stand::Arrived(bytes(replica)),
        (Some(replica), current) => Stand::UnderWay { of: current.map_or(0, bytes), bytes: bytes(replica) },
        (None, Some(_)) => Stand::GivenUp,
        (None, None) => anyhow::bail!("{} is in none of its log directories", each.partition),
    })
}

fn tell(args: &Args, each: &Move, moved: bool, output: &mut Output) -> anyhow::Result<()> {
    let Move { partition, broker, directory } = each;
    if args.json {
        output.json(&json!({
            "topic": partition.topic.as_str(),
            "partition": partition.partition,
            "broker": broker.0,
            "directory": directory,
            "moved": moved,
        }))?;
    } else {
        let words = if moved { "is in" } else { "is on its way to" };
        output.say(format_args!("{partition} {words} {directory}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_names_partitions_and_a_directory() {
        let wish: Wish = "orders:0,2=/disk=2/".parse().unwrap();
        assert_eq!((wish.partitions.topic.as_str(), wish.directory.as_str()), ("orders", "/disk=2"));
        for wrong in ["orders", "orders:0=", "=/disk2", "orders:x=/d"] {
            assert!(wrong.parse::<Wish>().is_err(), "{wrong}");
        }
    }
}
