//! `klamm topics`: list, describe, create, alter and delete topics.

use anyhow::bail;
use clap::Subcommand;

use crate::cli::args::{Connection, Target};
use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// List, describe, create, alter and delete topics.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics list
  klamm topics describe orders --json")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
}

/// List topics, one a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics list
  klamm topics list -d /var/lib/klamm --json")]
struct List {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the action.
///
/// # Errors
/// Where the cluster or the directory cannot be asked.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    let Action::List(list) = args.action;
    match list.connection.target()? {
        Target::Cluster(bootstrap) => bail!("no broker answers at {bootstrap}"),
        Target::Dir(dir) => list_directory(&dir, list.json, output),
    }
}

fn list_directory(dir: &std::path::Path, json: bool, output: &mut Output) -> anyhow::Result<Exit> {
    let mut topics = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let partition = name.to_str().and_then(crate::types::TopicPartition::from_dir_name);
        topics.extend(partition.map(|partition| partition.topic));
    }
    for topic in topics {
        if json { output.json(&serde_json::json!({"topic": topic.as_str()}))? } else { output.line(topic)? }
    }
    Ok(Exit::Done)
}
