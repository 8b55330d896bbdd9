//! `cluster elect-leaders`: preferred leaders lead again, or whoever is left where nobody may.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::cli::partitions::{Partitions, expand};
use crate::client::{BrokerError, Topics};
use crate::protocol::ErrorCode;
use crate::protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use crate::types::{TopicName, TopicPartition};

/// How long the controller may take.
const TIMEOUT_MS: i32 = 30_000;
/// `ElectLeaders`: the kinds of election.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Have partitions led by their preferred leaders again.
///
/// The preferred leader is the first replica. With --unclean, partitions that nobody leads, for no replica that is in
/// sync is there, get a leader that may lack acknowledged records: those are lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster elect-leaders
  klamm cluster elect-leaders orders:0,2-4
  klamm cluster elect-leaders orders:0 --unclean             # shows what it would do
  klamm cluster elect-leaders orders:0 --unclean --execute")]
pub(super) struct Args {
    /// Topics and partitions: orders, orders:0,2-4 [default: all]
    #[arg(value_name = "TOPIC[:PARTITIONS]")]
    partitions: Vec<Partitions>,

    /// Give partitions without a leader one that is not in sync; acknowledged records are lost
    #[arg(long)]
    unclean: bool,

    /// Do it, where that loses records; without --unclean it is done anyway
    #[arg(long)]
    execute: bool,

    /// One JSON object a line for each partition that is led by another now: topic, partition, elected
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Has leaders elected.
pub(super) fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if args.unclean && args.partitions.is_empty() {
        return Err(usage("'--unclean' loses records: name the partitions, 'TOPIC[:PARTITIONS]'"));
    }
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let metadata = cluster.metadata(Topics::All).await?;
        let of_topic = |topic: &str| {
            let topic = metadata.topics.get(topic)?;
            Some(topic.partitions.iter().map(|one| one.partition).collect::<Vec<_>>())
        };
        let (mut meant, complete) = expand(&args.partitions, of_topic, output);
        if args.partitions.is_empty() {
            meant = metadata
                .topics
                .values()
                .filter_map(|topic| Some((TopicName::new(&topic.name).ok()?, &topic.partitions)))
                .flat_map(|(name, all)| {
                    all.iter().map(move |one| TopicPartition::new(name.clone(), one.partition))
                })
                .collect();
        }
        // Who is led as wished need not be asked about.
        meant.retain(|partition| {
            let topic = metadata.topics.get(partition.topic.as_str());
            let known = topic.and_then(|topic| topic.partition(partition.partition));
            known.is_some_and(|one| match args.unclean {
                true => one.leader.is_none(),
                false => one.leader.is_none() || one.leader != one.replicas.first().copied(),
            })
        });
        if meant.is_empty() {
            if complete {
                output.say("no partition needs another leader");
            }
            return Ok(Exit::failed_if(!complete));
        }
        if args.unclean && !args.execute {
            for partition in &meant {
                output.say(format_args!(
                    "{partition} would be led by a replica that may lack acknowledged records"
                ));
            }
            output.say("nothing was changed; '--execute' does it");
            return Ok(Exit::failed_if(!complete));
        }
        let request = request(args, &meant);
        let answer = cluster.controller(&request).await?;
        BrokerError::check(answer.error_code, || "the election".to_owned(), None)?;
        let mut failed = !complete;
        let mut elected = 0;
        for topic in &answer.replica_election_results {
            for result in &topic.partition_result {
                let about = || format!("{}-{}", topic.topic, result.partition_id);
                match BrokerError::check(result.error_code, about, result.error_message.as_deref()) {
                    Ok(()) => elected += 1,
                    Err(error) if error.code == ErrorCode::ElectionNotNeeded => continue,
                    Err(error) => {
                        failed = true;
                        output.error(error);
                        continue;
                    }
                }
                if args.json {
                    output.json(&json!({
                        "topic": &*topic.topic,
                        "partition": result.partition_id,
                        "elected": true,
                    }))?;
                }
            }
        }
        if !args.json {
            output.say(format_args!("{elected} partition(s) got another leader"));
        }
        Ok(Exit::failed_if(failed))
    })
}

fn request(args: &Args, partitions: &[TopicPartition]) -> ElectLeadersRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str()).or_default().push(partition.partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| TopicPartitions {
        topic: topic.into(),
        partitions,
        ..Default::default()
    });
    ElectLeadersRequest {
        election_type: if args.unclean { UNCLEAN } else { PREFERRED },
        topic_partitions: Some(topics.collect()),
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    }
}
