//! `reassign cancel`: gives up what is under way; partitions stay where they were.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::cli::partitions::Partitions;
use crate::types::TopicPartition;

use super::assignment::Targets;
use super::facts::{Ongoing, ongoing};
use super::ids;
use super::run::{alter, remove_throttle};

/// Give up reassignments that are under way: partitions stay where they were.
///
/// What was copied to the new brokers is deleted there. The throttle of these partitions is removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm reassign cancel orders:0             # shows what it would give up
  klamm reassign cancel orders --execute
  klamm reassign cancel --all --execute")]
pub(super) struct Args {
    /// Topics and partitions: orders, orders:0,2-4
    #[arg(value_name = "TOPIC[:PARTITIONS]", required_unless_present = "all")]
    partitions: Vec<Partitions>,

    /// All that is under way
    #[arg(long, conflicts_with = "partitions")]
    all: bool,

    /// Do it; without this only what would be given up is shown
    #[arg(long)]
    execute: bool,

    /// Leave throttles as they are
    #[arg(long)]
    preserve_throttles: bool,

    /// One JSON object a line: topic, partition, replicas, cancelled
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Gives up, or shows what would be.
pub(super) fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if args.partitions.is_empty() && !args.all {
        return Err(usage("say which: 'TOPIC[:PARTITIONS]', or '--all'"));
    }
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let mut under_way = ongoing(&cluster).await?;
        let is_meant = |partition: &TopicPartition, wanted: &Partitions| {
            wanted.names(partition.topic.as_str(), partition.partition)
        };
        let mut failed = false;
        for wanted in &args.partitions {
            if !under_way.keys().any(|partition| is_meant(partition, wanted)) {
                failed = true;
                output.error(format_args!(
                    "nothing of topic {} that is named is being reassigned",
                    wanted.topic
                ));
            }
        }
        under_way.retain(|partition, _| {
            args.all || args.partitions.iter().any(|wanted| is_meant(partition, wanted))
        });
        if under_way.is_empty() {
            if args.all {
                output.say("nothing is being reassigned");
            }
            return Ok(Exit::failed_if(failed));
        }
        let refused = match args.execute {
            true => alter(&cluster, under_way.keys().map(|partition| (partition, None))).await?,
            false => BTreeMap::new(),
        };
        refused.values().for_each(|error| output.error(error));
        under_way.retain(|partition, _| !refused.contains_key(partition));
        for (partition, one) in &under_way {
            tell(args, partition, one, output)?;
        }
        if args.execute && !args.preserve_throttles {
            let targets: Targets =
                under_way.iter().map(|(partition, one)| (partition.clone(), one.before())).collect();
            remove_throttle(&cluster, &targets, output).await?;
        }
        if !args.execute {
            output.say("nothing was changed; '--execute' does it");
        }
        Ok(Exit::failed_if(failed || !refused.is_empty()))
    })
}

fn tell(args: &Args, partition: &TopicPartition, one: &Ongoing, output: &mut Output) -> anyhow::Result<()> {
    let before = one.before();
    if args.json {
        output.json(&json!({
            "topic": partition.topic.as_str(),
            "partition": partition.partition,
            "replicas": before,
            "cancelled": args.execute,
        }))?;
    } else {
        let verb = if args.execute { "stays" } else { "would stay" };
        output.say(format_args!(
            "{partition} {verb} on {}: it does not go to {}",
            ids(&before),
            ids(&one.target())
        ));
    }
    Ok(())
}
