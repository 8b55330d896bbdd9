//! `klamm log-dirs`: what brokers keep in which directory, how much it is, and how much room is left; and
//! `log-dirs move`.

mod relocate;

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::no_such_topic;
use crate::cli::queries::{self, LogDir};
use crate::client::Topics;
use crate::types::{BrokerId, ByteSize};

/// Show log directories: sizes, free space, lag; and move partitions between them.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  klamm log-dirs
  klamm log-dirs orders --partitions
  klamm log-dirs --broker 1 --broker 2 --json
  klamm log-dirs -d /var/lib/klamm --partitions
  klamm log-dirs move orders:0=/disk2"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    /// Only these topics [default: all]
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,

    /// Only these brokers [default: all]
    #[arg(long, value_name = "ID", conflicts_with = "dir")]
    broker: Vec<i32>,

    /// A line for each partition instead of one for each directory
    #[arg(short, long)]
    partitions: bool,

    /// One JSON object a line, a line a directory
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Move(relocate::Args),
}

/// Prints the directories, or moves partitions between them.
///
/// # Errors
/// Where the cluster or the directory cannot be asked.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if let Some(Action::Move(args)) = &args.action {
        return relocate::run(args, output);
    }
    match args.connection.target()? {
        Target::Dir(dir) => {
            let directory = Directory::open(&dir)?;
            let mut dir = directory.log_dir()?;
            if !args.topics.is_empty() {
                dir.replicas.retain(|replica| {
                    args.topics.iter().any(|topic| topic == replica.partition.topic.as_str())
                });
            }
            let exit = print(args, &[dir], output)?;
            let missing = args.topics.iter().filter(|topic| directory.partitions_of(topic).is_none());
            let missing = missing.map(|topic| output.error(no_such_topic(topic))).count();
            Ok(if missing > 0 { Exit::Failed } else { exit })
        }
        Target::Cluster(_) => block_on(0, ask(args, output)),
    }
}

async fn ask(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let cluster = args.connection.cluster(output).await?;
    let mut failed = false;
    let wanted = match args.topics.as_slice() {
        [] => None,
        names => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let metadata = cluster.metadata(Topics::Named { names: &names, create: false }).await?;
            let mut wanted = BTreeMap::new();
            for name in names {
                let partitions =
                    metadata.topics.get(name).map(|topic| &topic.partitions).filter(|p| !p.is_empty());
                match partitions {
                    Some(partitions) => {
                        wanted.insert(name.to_owned(), partitions.iter().map(|p| p.partition).collect());
                    }
                    None => {
                        failed = true;
                        output.error(no_such_topic(name));
                    }
                }
            }
            Some(wanted)
        }
    };
    let brokers: Vec<BrokerId> = match args.broker.as_slice() {
        [] => cluster.latest().brokers.keys().copied().collect(),
        brokers => brokers.iter().copied().map(BrokerId).collect(),
    };
    let mut dirs = Vec::new();
    for broker in brokers {
        match queries::log_dirs(&cluster, broker, wanted.as_ref()).await {
            Ok(found) => dirs.extend(found),
            Err(error) => {
                failed = true;
                output.error(error);
            }
        }
    }
    let exit = print(args, &dirs, output)?;
    Ok(if failed { Exit::Failed } else { exit })
}

/// Prints them; a directory that cannot be used fails the command.
fn print(args: &Args, dirs: &[LogDir], output: &mut Output) -> anyhow::Result<Exit> {
    if args.json {
        for dir in dirs {
            output.json(&as_json(dir))?;
        }
    } else if args.partitions {
        output.table(&partition_table(dirs))?;
    } else {
        output.table(&directory_table(dirs))?;
    }
    for dir in dirs {
        if let Some(error) = &dir.error {
            let broker = dir.broker.map(|broker| format!("broker {broker}: ")).unwrap_or_default();
            output.error(format_args!("{broker}{}: {error}", dir.path));
        }
    }
    Ok(Exit::failed_if(dirs.iter().any(|dir| dir.error.is_some())))
}

fn size_of(dir: &LogDir) -> i64 {
    dir.replicas.iter().map(|replica| replica.size_bytes).sum()
}

fn bytes(number: i64) -> ByteSize {
    ByteSize(u64::try_from(number).unwrap_or(0))
}

fn broker_text(dir: &LogDir) -> String {
    dir.broker.map(|broker| broker.to_string()).unwrap_or_default()
}

fn directory_table(dirs: &[LogDir]) -> Table {
    let mut table = Table::new([">BROKER", "DIRECTORY", ">REPLICAS", ">SIZE", ">FREE", ">TOTAL", "STATE"]);
    for dir in dirs {
        let known = |number: Option<i64>| number.map(|number| bytes(number).to_string()).unwrap_or_default();
        let state = match (&dir.error, dir.is_cordoned) {
            (Some(_), _) => "offline",
            (None, true) => "cordoned",
            (None, false) => "online",
        };
        table.row([
            broker_text(dir),
            dir.path.clone(),
            dir.replicas.len().to_string(),
            bytes(size_of(dir)).to_string(),
            known(dir.usable_bytes),
            known(dir.total_bytes),
            state.to_owned(),
        ]);
    }
    table
}

fn partition_table(dirs: &[LogDir]) -> Table {
    let mut table = Table::new([">BROKER", "DIRECTORY", "TOPIC", ">PARTITION", ">SIZE", ">LAG", "FUTURE"]);
    for dir in dirs {
        for replica in &dir.replicas {
            table.row([
                broker_text(dir),
                dir.path.clone(),
                replica.partition.topic.to_string(),
                replica.partition.partition.to_string(),
                bytes(replica.size_bytes).to_string(),
                replica.offset_lag.to_string(),
                if replica.is_future { "yes".to_owned() } else { String::new() },
            ]);
        }
    }
    table
}

fn as_json(dir: &LogDir) -> serde_json::Value {
    let partitions = dir.replicas.iter().map(|replica| {
        json!({
            "topic": replica.partition.topic.as_str(),
            "partition": replica.partition.partition,
            "size_bytes": replica.size_bytes,
            "offset_lag": replica.offset_lag,
            "is_future": replica.is_future,
        })
    });
    json!({
        "broker": dir.broker.map(|broker| broker.0),
        "directory": dir.path,
        "error": dir.error,
        "size_bytes": size_of(dir),
        "usable_bytes": dir.usable_bytes,
        "total_bytes": dir.total_bytes,
        "is_cordoned": dir.is_cordoned,
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::queries::ReplicaSize;
    use crate::types::TopicPartition;

    #[test]
    fn a_directory_is_a_row_with_its_totals() {
        let replica = |name: &str, size_bytes| ReplicaSize {
            partition: TopicPartition::from_dir_name(name).unwrap(),
            size_bytes,
            offset_lag: 0,
            is_future: false,
        };
        let dir = LogDir {
            broker: Some(BrokerId(1)),
            path: "/data".to_owned(),
            error: None,
            total_bytes: Some(10 << 30),
            usable_bytes: None,
            is_cordoned: false,
            replicas: vec![replica("a-0", 1024), replica("a-1", 512)],
        };
        let mut output = Output::for_test();
        output.table(&directory_table(std::slice::from_ref(&dir))).unwrap();
        let expected = "\
BROKER  DIRECTORY  REPLICAS    SIZE  FREE   TOTAL  STATE
     1  /data             2  1.5KiB     -  10GiB  online
";
        // Columns are as wide as their widest cell.
        assert_eq!(
            output.text().split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(as_json(&dir)["partitions"][1]["topic"], "a");
    }
}
