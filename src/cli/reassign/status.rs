//! `reassign status`: what is under way, how much is left, and what it waits for.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::client::Topics;
use crate::types::{BrokerId, ByteSize, TopicPartition};

use super::assignment::{Source, Targets, Wanted};
use super::facts::{Copied, Look, ongoing};
use super::ids;
use super::run::Stand;
use super::throttle::Throttles;
use super::why::{self, Wait};

/// Show what is being reassigned, how much is left, and what it waits for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 4: a plan is given, and some of it is not done.

Examples:
  klamm reassign status
  klamm reassign status plan.json && echo done
  klamm reassign status --json | jq .left_bytes")]
pub(super) struct Args {
    /// Show how these stand [default: all that is under way]
    #[arg(value_name = "FILE|TOPIC[:PARTITIONS]=BROKERS")]
    sources: Vec<Source>,

    /// One JSON object a line: topic, partition, state, replicas, adding, removing, size_bytes, left_bytes, waits_for
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// One line.
struct Row {
    partition: TopicPartition,
    state: &'static str,
    replicas: Vec<i32>,
    adding: Vec<i32>,
    removing: Vec<i32>,
    copied: Copied,
    waits: Vec<Wait>,
}

/// Prints it.
pub(super) fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let wanted = Wanted::read(&args.sources)?;
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let is_asked = !args.sources.is_empty();
        let (topics, targets, complete) = if is_asked {
            let topics: BTreeSet<String> = wanted.topics().into_iter().collect();
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let metadata = cluster.metadata(Topics::Named { names: &names, create: false }).await?;
            let (targets, complete) = wanted.resolve(&metadata, output)?;
            (topics, targets, complete)
        } else {
            let all = ongoing(&cluster).await?;
            let topics = all.keys().map(|partition| partition.topic.to_string()).collect();
            (topics, all.iter().map(|(partition, one)| (partition.clone(), one.target())).collect(), true)
        };
        let look = Look::at(&cluster, &topics).await?;
        let alive: Vec<BrokerId> = match look.ongoing.is_empty() {
            true => Vec::new(),
            false => look.metadata.brokers.keys().copied().collect(),
        };
        let throttles = Throttles::read(&cluster, alive, &topics).await?;
        let rows = rows(&look, &targets, &throttles);
        print(args, &rows, output)?;
        let is_done = rows.iter().all(|row| row.state == "done");
        Ok(match (complete, is_asked && !is_done) {
            (false, _) => Exit::Failed,
            (true, true) => Exit::Condition,
            (true, false) => Exit::Done,
        })
    })
}

fn rows(look: &Look, targets: &Targets, throttles: &Throttles) -> Vec<Row> {
    let stands = Stand::of(look, targets);
    let row = |(partition, stand): (TopicPartition, Stand)| {
        let ongoing = look.ongoing.get(&partition);
        Row {
            state: match stand {
                Stand::Done => "done",
                Stand::UnderWay => "moving",
                Stand::GoesElsewhere(_) => "moving elsewhere",
                Stand::Elsewhere => "not begun",
            },
            replicas: ongoing.map_or_else(|| look.replicas(&partition), |one| one.target()),
            adding: ongoing.map(|one| one.adding.clone()).unwrap_or_default(),
            removing: ongoing.map(|one| one.removing.clone()).unwrap_or_default(),
            copied: look.copied(&partition),
            waits: why::waits(look, &partition, throttles),
            partition,
        }
    };
    stands.into_iter().map(row).collect()
}

fn print(args: &Args, rows: &[Row], output: &mut Output) -> anyhow::Result<()> {
    let mut table = Table::new([
        "TOPIC",
        ">PARTITION",
        "STATE",
        "REPLICAS",
        "ADDING",
        "REMOVING",
        ">SIZE",
        ">LEFT",
        "WAITS FOR",
    ]);
    for row in rows {
        if args.json {
            output.json(&json!({
                "topic": row.partition.topic.as_str(),
                "partition": row.partition.partition,
                "state": row.state,
                "replicas": row.replicas,
                "adding": row.adding,
                "removing": row.removing,
                "size_bytes": row.copied.of,
                "left_bytes": row.copied.left(),
                "waits_for": row.waits.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "needs_help": row.waits.iter().any(Wait::is_trouble),
            }))?;
            continue;
        }
        let size = |bytes: u64| match row.adding.is_empty() {
            true => String::new(),
            false => ByteSize(bytes).to_string(),
        };
        table.row([
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            row.state.to_owned(),
            ids(&row.replicas),
            ids(&row.adding),
            ids(&row.removing),
            size(row.copied.of),
            size(row.copied.left()),
            why::in_words(&row.waits),
        ]);
    }
    output.table(&table)?;
    if rows.is_empty() && !args.json {
        output.say("nothing is being reassigned");
    }
    Ok(())
}
