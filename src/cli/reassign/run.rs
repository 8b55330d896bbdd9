//! `reassign run`: has the cluster do it, waits until it is done, and takes the throttle away.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cli::args::Connection;
use crate::cli::brokers;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::Output;
use crate::client::{BrokerError, ClientError, Cluster};
use crate::protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::types::{TopicPartition, parse_duration};

use super::assignment::{Source, Targets, Wanted};
use super::facts::{Look, TIMEOUT_MS, ongoing};
use super::ids;
use super::throttle::{self, Cleared, Moving, Rate};
use super::watch::Watch;

/// Carry out a reassignment, and wait until it is done.
///
/// The cluster does the work: when this is interrupted it goes on, and the same command again takes up the wait. At the
/// end the throttle is removed that was set for these partitions, by this command or by Kafka's own tool, whether or not
/// --throttle is given again: the entries of these partitions on their topics, and the rates on brokers unless other
/// reassignments are under way. While nothing moves it is said why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 4: not done within --give-up-after; the cluster goes on.

Examples:
  klamm reassign run plan.json
  klamm reassign plan --decommission 3 | klamm reassign run - --throttle 50MiB
  klamm reassign run orders:0=1,2,3 orders:1-3=2,3,1")]
pub(super) struct Args {
    /// Kafka's reassignment JSON ('-': standard input), or partitions and their brokers, the preferred leader first
    #[arg(required = true, value_name = "FILE|TOPIC[:PARTITIONS]=BROKERS")]
    sources: Vec<Source>,

    /// Limit the copying to so many bytes a second on each broker
    #[arg(long, value_name = "RATE")]
    throttle: Option<Rate>,

    /// Leave throttles as they are at the end
    #[arg(long)]
    preserve_throttles: bool,

    /// Write what undoes it to a new file, as the same JSON, before anything is changed
    #[arg(long, value_name = "FILE")]
    rollback: Option<String>,

    /// Do not wait for the end; a throttle then stays
    #[arg(long, conflicts_with = "give_up_after")]
    no_wait: bool,

    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    give_up_after: Option<Duration>,

    /// One JSON object a line for each partition that is done: topic, partition, replicas, moved
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Carries it out.
pub(super) fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let wanted = Wanted::read(&args.sources)?;
    let has_begun = Cell::new(false);
    let exit = block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        carry_out(args, &cluster, wanted, &has_begun, output).await
    })?;
    if exit == Exit::Interrupted && has_begun.get() {
        output.say(
            "the cluster goes on with it; the same command again waits for its end, and removes its throttle",
        );
    }
    Ok(exit)
}

async fn carry_out(
    args: &Args,
    cluster: &Cluster,
    wanted: Wanted,
    has_begun: &Cell<bool>,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let topics: BTreeSet<String> = wanted.topics().into_iter().collect();
    let look = Look::at(cluster, &topics).await?;
    let (targets, complete) = wanted.resolve(&look.metadata, output)?;
    let stands = Stand::of(&look, &targets);
    let is_possible = check(cluster, &look, &targets, &stands, output).await?;
    if !(complete && is_possible) {
        output.error("nothing was changed");
        return Ok(Exit::Failed);
    }
    if let Some(path) = &args.rollback {
        write_rollback(path, &look, &targets)?;
    }
    let moving = moving(&look, &targets);
    has_begun.set(true);
    if let (Some(rate), false) = (args.throttle, moving.is_empty()) {
        throttle::set(cluster, rate, &moving, output).await?;
    }
    let to_begin: Vec<&TopicPartition> =
        targets.keys().filter(|partition| stands[*partition] == Stand::Elsewhere).collect();
    let refused =
        alter(cluster, to_begin.iter().map(|&partition| (partition, targets.get(partition)))).await?;
    refused.values().for_each(|error| output.error(error));
    let mut failed = !refused.is_empty();
    let begun: Targets =
        targets.iter().filter(|(partition, _)| !refused.contains_key(*partition)).map(owned).collect();
    if args.no_wait {
        output.say(format_args!("{} partition(s) are on their way", begun.len()));
        return Ok(Exit::failed_if(failed));
    }
    let mut watch = Watch::new(cluster, begun, args.json, output);
    let exit = watch.wait(args.give_up_after, output).await?;
    if exit == Exit::Condition {
        return Ok(exit);
    }
    failed |= exit != Exit::Done;
    if !args.preserve_throttles {
        remove_throttle(cluster, &targets, output).await?;
    }
    Ok(Exit::failed_if(failed))
}

fn owned((partition, replicas): (&TopicPartition, &Vec<i32>)) -> (TopicPartition, Vec<i32>) {
    (partition.clone(), replicas.clone())
}

/// Where a partition is on the way to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// There.
    Done,
    /// On its way there.
    UnderWay,
    /// On its way to other brokers.
    GoesElsewhere(Vec<i32>),
    /// Not on its way.
    Elsewhere,
}

impl Stand {
    /// How all of them stand.
    pub(super) fn of(look: &Look, targets: &Targets) -> BTreeMap<TopicPartition, Self> {
        let stand = |partition: &TopicPartition, target: &Vec<i32>| match look.ongoing.get(partition) {
            Some(ongoing) if ongoing.target() == *target => Self::UnderWay,
            Some(ongoing) => Self::GoesElsewhere(ongoing.target()),
            None if look.replicas(partition) == *target => Self::Done,
            None => Self::Elsewhere,
        };
        targets.iter().map(|(partition, target)| (partition.clone(), stand(partition, target))).collect()
    }
}

/// Whether all of it can be begun; says what cannot.
async fn check(
    cluster: &Cluster,
    look: &Look,
    targets: &Targets,
    stands: &BTreeMap<TopicPartition, Stand>,
    output: &mut Output,
) -> Result<bool, ClientError> {
    let (_, registered) = brokers::registered(cluster).await?;
    let mut is_possible = true;
    let mut down = BTreeSet::new();
    for (partition, target) in targets {
        for id in target {
            if !registered.contains_key(id) {
                let there: Vec<i32> = registered.keys().copied().collect();
                output.error(format_args!(
                    "{partition}: there is no broker {id}: the cluster has {}",
                    ids(&there)
                ));
                is_possible = false;
            } else if !look.is_alive(*id) && stands[partition] != Stand::Done {
                down.insert(*id);
            }
        }
        if let Stand::GoesElsewhere(to) = &stands[partition] {
            output.error(format_args!(
                "{partition} is on its way to {} already; 'klamm reassign cancel {}:{}' ends that",
                ids(to),
                partition.topic,
                partition.partition
            ));
            is_possible = false;
        }
    }
    for id in down {
        output.warn(format_args!("broker {id} is down: what goes there waits for it"));
    }
    Ok(is_possible)
}

/// What is copied: what is on its way, and what will be.
fn moving(look: &Look, targets: &Targets) -> Vec<Moving> {
    let one = |(partition, target): (&TopicPartition, &Vec<i32>)| {
        let sources = match look.ongoing.get(partition) {
            Some(ongoing) => ongoing.before(),
            None => look.replicas(partition),
        };
        let adding: Vec<i32> = target.iter().copied().filter(|id| !sources.contains(id)).collect();
        (!adding.is_empty()).then(|| Moving { partition: partition.clone(), sources, adding })
    };
    targets.iter().filter_map(one).collect()
}

fn write_rollback(path: &str, look: &Look, targets: &Targets) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let before: Targets = targets
        .keys()
        .map(|partition| {
            let before = look.ongoing.get(partition).map(|ongoing| ongoing.before());
            (partition.clone(), before.unwrap_or_else(|| look.replicas(partition)))
        })
        .collect();
    let file = std::fs::File::create_new(path).with_context(|| format!("--rollback {path}"))?;
    let assignments = before.iter().map(|(partition, replicas)| (partition, replicas.as_slice()));
    serde_json::to_writer(file, &super::assignment::to_json(assignments))?;
    Ok(())
}

/// Asks the controller for these replicas (`None`: to give up what is under way); what it refuses comes back.
pub(super) async fn alter<'a>(
    cluster: &Cluster,
    wanted: impl Iterator<Item = (&'a TopicPartition, Option<&'a Vec<i32>>)>,
) -> Result<BTreeMap<TopicPartition, BrokerError>, ClientError> {
    let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
    let mut asked: Vec<&TopicPartition> = Vec::new();
    for (partition, replicas) in wanted {
        asked.push(partition);
        topics.entry(partition.topic.as_str()).or_default().push(ReassignablePartition {
            partition_index: partition.partition,
            replicas: replicas.cloned(),
            ..Default::default()
        });
    }
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let topics = topics.into_iter().map(|(name, partitions)| ReassignableTopic {
        name: name.into(),
        partitions,
        ..Default::default()
    });
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: TIMEOUT_MS,
        allow_replication_factor_change: true,
        topics: topics.collect(),
        ..Default::default()
    };
    // To ask for the same again does nothing, so that what was perhaps done may be asked for again.
    let answer = cluster
        .retrying(|| async {
            let answer = cluster.controller(&request).await?;
            let words = answer.error_message.as_deref();
            BrokerError::check(answer.error_code, || "the reassignment".to_owned(), words)?;
            Ok(answer)
        })
        .await?;
    let mut refused = BTreeMap::new();
    for topic in &answer.responses {
        for result in &topic.partitions {
            let is_it = |one: &&&TopicPartition| {
                one.topic.as_str() == &*topic.name && one.partition == result.partition_index
            };
            let Some(&partition) = asked.iter().find(is_it) else { continue };
            let about = || partition.to_string();
            if let Err(error) = BrokerError::check(result.error_code, about, result.error_message.as_deref())
            {
                refused.insert(partition.clone(), error);
            }
        }
    }
    Ok(refused)
}

/// Takes the throttle of these partitions away, and says so.
pub(super) async fn remove_throttle(
    cluster: &Cluster,
    targets: &Targets,
    output: &mut Output,
) -> Result<(), ClientError> {
    let partitions: BTreeSet<TopicPartition> = targets.keys().cloned().collect();
    let mut others: BTreeSet<TopicPartition> = ongoing(cluster).await?.into_keys().collect();
    others.retain(|partition| !partitions.contains(partition));
    match throttle::clear(cluster, &partitions, &others).await? {
        Cleared::Nothing => return Ok(()),
        Cleared::Replicas => {
            output.say(
                "the throttle of these partitions is removed; its rates stay for others that are under way",
            );
            return Ok(());
        }
        Cleared::All => {}
    }
    output.say("the throttle is removed");
    let (_, registered) = brokers::registered(cluster).await?;
    for broker in registered.values().filter(|broker| broker.is_fenced) {
        output.warn(format_args!(
            "broker {} is down: should it have a throttle's rate, it keeps it",
            broker.id
        ));
    }
    Ok(())
}
