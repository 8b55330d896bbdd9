//! `topics create`, `topics alter` and `topics delete`. Each topic is judged alone: one that is refused does
//! not keep the others from being done, and the exit code says that something was refused.

use anyhow::bail;
use serde_json::json;

use super::Selection;
use super::view::{self, TopicView};
use crate::cli::args::{Connection, Target, parse_property};
use crate::cli::directory::Directory;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::client::{BrokerError, Cluster, Topics};
use crate::protocol::ErrorCode;
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::create_topics_response::CreatableTopicResult;
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::types::{ByteSize, TopicName};

/// How long the controller may take over one request.
const TIMEOUT_MS: i32 = 30_000;

/// Create topics.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics create orders
  klamm topics create orders returns -p 6 -r 3 --config retention.ms=86400000 --if-not-exists
  klamm topics create orders --replica-assignment 1:2,2:3,3:1")]
pub struct CreateArgs {
    /// Topics to create
    #[arg(required = true, value_name = "TOPIC", value_parser = parse_topic)]
    topics: Vec<TopicName>,

    /// Number of partitions [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,

    /// Replicas of each partition [default: the broker's default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,

    /// Brokers of each partition: 1:2,2:3 puts partition 0 on brokers 1 and 2, partition 1 on 2 and 3
    #[arg(long, value_name = "LIST", value_parser = parse_assignment,
          conflicts_with_all = ["partitions", "replication_factor"])]
    replica_assignment: Option<Assignment>,

    /// Set a configuration of the topics; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_property)]
    config: Vec<(String, String)>,

    /// A topic that is there already is no failure
    #[arg(long)]
    if_not_exists: bool,

    /// Only ask the cluster whether it would
    #[arg(long)]
    validate_only: bool,

    /// One JSON object a topic
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Add partitions to topics.
///
/// Keyed records go to other partitions than before; `klamm configs set topic:NAME` changes configurations.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics alter orders -p 12
  klamm topics alter orders -p 8 --replica-assignment 1:2,2:3")]
pub struct AlterArgs {
    #[command(flatten)]
    selection: Selection,

    /// Number of partitions afterwards; a topic never loses any
    #[arg(short, long, required = true, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,

    /// Brokers of each new partition: 1:2,2:3
    #[arg(long, value_name = "LIST", value_parser = parse_assignment)]
    replica_assignment: Option<Assignment>,

    /// Only ask the cluster whether it would
    #[arg(long)]
    validate_only: bool,

    /// One JSON object a topic
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Delete topics with all their records.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics delete orders              # shows what it would delete
  klamm topics delete orders --execute
  klamm topics delete -e 'test-.*' --execute")]
pub struct DeleteArgs {
    #[command(flatten)]
    selection: Selection,

    /// Do it; without this only what would be deleted is shown
    #[arg(long)]
    execute: bool,

    /// A topic that is not there is no failure
    #[arg(long)]
    if_exists: bool,

    /// One JSON object a topic
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// For each partition its brokers, the preferred leader first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment(Vec<Vec<i32>>);

fn parse_topic(text: &str) -> Result<TopicName, crate::types::InvalidTopicName> {
    TopicName::new(text)
}

fn parse_assignment(text: &str) -> Result<Assignment, String> {
    let expected =
        || "1:2,2:3 is expected: brokers of a partition joined by ':', partitions by ','".to_owned();
    let partitions = text.split(',').map(|partition| {
        let brokers: Result<Vec<i32>, _> = partition.split(':').map(|broker| broker.trim().parse()).collect();
        let brokers = brokers.map_err(|_| expected())?;
        let doubled = brokers.iter().enumerate().any(|(index, broker)| brokers[..index].contains(broker));
        match doubled || brokers.iter().any(|&broker| broker < 0) {
            true => Err(format!("{partition:?} names a broker twice, or one below 0")),
            false => Ok(brokers),
        }
    });
    partitions.collect::<Result<_, _>>().map(Assignment)
}

/// Creates them.
pub fn create(args: &CreateArgs, output: &mut Output) -> anyhow::Result<Exit> {
    args.connection.for_writing(output, async |cluster, output| {
        let request = create_request(args);
        let answer = cluster.controller(&request).await?;
        let mut failed = false;
        for topic in &answer.topics {
            failed |= !report_created(args, topic, output)?;
        }
        Ok(Exit::failed_if(failed))
    })
}

fn create_request(args: &CreateArgs) -> CreateTopicsRequest {
    let assignments: Vec<CreatableReplicaAssignment> = match &args.replica_assignment {
        None => Vec::new(),
        Some(Assignment(partitions)) => (0..)
            .zip(partitions)
            .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: brokers.clone(),
                ..Default::default()
            })
            .collect(),
    };
    let configs: Vec<CreatableTopicConfig> = args
        .config
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
            ..Default::default()
        })
        .collect();
    let topics = args.topics.iter().map(|name| CreatableTopic {
        name: name.as_str().into(),
        num_partitions: args.partitions.unwrap_or(-1),
        replication_factor: args.replication_factor.unwrap_or(-1),
        assignments: assignments.clone(),
        configs: configs.clone(),
        ..Default::default()
    });
    CreateTopicsRequest {
        topics: topics.collect(),
        timeout_ms: TIMEOUT_MS,
        validate_only: args.validate_only,
        ..Default::default()
    }
}

/// Says what became of one topic; whether it is well.
fn report_created(
    args: &CreateArgs,
    topic: &CreatableTopicResult,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let exists = ErrorCode::from_wire(topic.error_code) == ErrorCode::TopicAlreadyExists;
    let kept = exists && args.if_not_exists;
    if !kept {
        let message = topic.error_message.as_deref();
        if let Err(error) = BrokerError::check(topic.error_code, || format!("topic {}", topic.name), message)
        {
            output.error(error);
            return Ok(false);
        }
    }
    let known = |number: i32| (number >= 0).then_some(number);
    let (partitions, replicas) = (known(topic.num_partitions), known(topic.replication_factor.into()));
    if args.json {
        output.json(&json!({
            "topic": &*topic.name,
            "id": (!topic.topic_id.is_zero()).then(|| topic.topic_id.to_string()),
            "created": !kept && !args.validate_only,
            "partitions": partitions,
            "replication_factor": replicas,
        }))?;
        return Ok(true);
    }
    let verb = match (kept, args.validate_only) {
        (true, _) => "is there already:",
        (_, true) => "could be created:",
        (_, false) => "created:",
    };
    match (partitions, replicas) {
        (Some(partitions), Some(replicas)) => output.say(format_args!(
            "topic {} {verb} {partitions} partition(s), replication factor {replicas}",
            topic.name
        )),
        _ => output.say(format_args!("topic {} {}", topic.name, verb.trim_end_matches(':'))),
    }
    Ok(true)
}

/// Adds partitions.
pub fn alter(args: &AlterArgs, output: &mut Output) -> anyhow::Result<Exit> {
    require_choice(&args.selection)?;
    args.connection.for_changing(output, async |cluster, output| {
        let (topics, missing) = chosen_topics(&cluster, &args.selection, false, output).await?;
        if topics.is_empty() {
            return Ok(missing);
        }
        let answer = cluster.controller(&alter_request(args, &topics)).await?;
        let mut failed = missing != Exit::Done;
        for result in &answer.results {
            let before = topics.iter().find(|topic| topic.topic == *result.name);
            failed |=
                !report_altered(args, result, before.map_or(0, |topic| topic.partitions.len()), output)?;
        }
        Ok(Exit::failed_if(failed))
    })
}

fn alter_request(args: &AlterArgs, topics: &[TopicView]) -> CreatePartitionsRequest {
    let assignments = args.replica_assignment.as_ref().map(|Assignment(partitions)| {
        let one = |brokers: &Vec<i32>| CreatePartitionsAssignment {
            broker_ids: brokers.clone(),
            ..Default::default()
        };
        partitions.iter().map(one).collect::<Vec<_>>()
    });
    let topics = topics.iter().map(|topic| CreatePartitionsTopic {
        name: topic.topic.as_str().into(),
        count: args.partitions,
        assignments: assignments.clone(),
        ..Default::default()
    });
    CreatePartitionsRequest {
        topics: topics.collect(),
        timeout_ms: TIMEOUT_MS,
        validate_only: args.validate_only,
        ..Default::default()
    }
}

/// Says what became of one topic; whether it is well.
fn report_altered(
    args: &AlterArgs,
    result: &CreatePartitionsTopicResult,
    before: usize,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let name = &result.name;
    let checked =
        BrokerError::check(result.error_code, || format!("topic {name}"), result.error_message.as_deref());
    if let Err(error) = checked {
        output.error(error);
        return Ok(false);
    }
    if args.json {
        output.json(&json!({
            "topic": &**name,
            "partitions_before": before,
            "partitions": args.partitions,
            "altered": !args.validate_only,
        }))?;
    } else {
        let verb = if args.validate_only { "could go from" } else { "went from" };
        output.say(format_args!("topic {name} {verb} {before} to {} partition(s)", args.partitions));
    }
    Ok(true)
}

/// Deletes them, or shows what would be deleted.
pub fn delete(args: &DeleteArgs, output: &mut Output) -> anyhow::Result<Exit> {
    require_choice(&args.selection)?;
    if args.execute {
        return args.connection.for_changing(output, async |cluster, output| {
            let (topics, missing) = chosen_topics(&cluster, &args.selection, args.if_exists, output).await?;
            let failed = execute_deletion(args, &cluster, &topics, output).await?;
            Ok(if failed { Exit::Failed } else { missing })
        });
    }
    match args.connection.target()? {
        // Showing needs no broker, and no lock.
        Target::Dir(dir) => {
            let directory = Directory::open(&dir)?;
            let existing = directory.topics()?;
            let (mut topics, missing) = choose(existing, &args.selection, args.if_exists, output)?;
            let troubles = directory.complete(&mut topics);
            show_deletion(args, &topics, &troubles, output)?;
            Ok(missing)
        }
        Target::Cluster(_) => block_on(0, async {
            let cluster = args.connection.cluster(output).await?;
            let (mut topics, missing) =
                chosen_topics(&cluster, &args.selection, args.if_exists, output).await?;
            let troubles = view::complete(&cluster, &mut topics).await;
            show_deletion(args, &topics, &troubles, output)?;
            Ok(missing)
        }),
    }
}

fn show_deletion<E: std::fmt::Display>(
    args: &DeleteArgs,
    topics: &[TopicView],
    troubles: &[E],
    output: &mut Output,
) -> anyhow::Result<()> {
    for trouble in troubles {
        output.warn(trouble);
    }
    for topic in topics {
        let sum =
            |of: fn(&view::PartitionView) -> Option<i64>| topic.partitions.iter().filter_map(of).sum::<i64>();
        let records = sum(|partition| Some(partition.end_offset? - partition.start_offset?));
        let bytes = sum(|partition| partition.size_bytes);
        if args.json {
            output.json(&json!({
                "topic": topic.topic,
                "deleted": false,
                "partitions": topic.partitions.len(),
                "offsets": records,
                "size_bytes": bytes,
            }))?;
        } else {
            let size = ByteSize(u64::try_from(bytes).unwrap_or(0));
            output.line(format_args!(
                "would delete {}: {} partition(s), {records} offsets, {size}",
                topic.topic,
                topic.partitions.len()
            ))?;
        }
    }
    if !topics.is_empty() {
        output.say("nothing was deleted: add --execute to delete");
    }
    Ok(())
}

async fn execute_deletion(
    args: &DeleteArgs,
    cluster: &Cluster,
    topics: &[TopicView],
    output: &mut Output,
) -> anyhow::Result<bool> {
    if topics.is_empty() {
        return Ok(false);
    }
    let names = || topics.iter().map(|topic| topic.topic.as_str().into());
    // By name in every version: 6 takes names in another field.
    let states = names().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let answer = cluster
        .controller(&DeleteTopicsRequest {
            topics: states.collect(),
            topic_names: names().collect(),
            timeout_ms: TIMEOUT_MS,
            ..Default::default()
        })
        .await?;
    let mut failed = false;
    for result in &answer.responses {
        let name = result.name.as_deref().unwrap_or_default();
        let gone =
            args.if_exists && ErrorCode::from_wire(result.error_code) == ErrorCode::UnknownTopicOrPartition;
        let checked = match gone {
            true => Ok(()),
            false => BrokerError::check(
                result.error_code,
                || format!("topic {name}"),
                result.error_message.as_deref(),
            ),
        };
        match checked {
            Err(error) => {
                failed = true;
                output.error(error);
            }
            Ok(()) if args.json => output.json(&json!({ "topic": name, "deleted": true }))?,
            Ok(()) => output.say(format_args!("topic {name} deleted")),
        }
    }
    Ok(failed)
}

/// What changes something must be told which topics: all of them is never meant by silence.
fn require_choice(selection: &Selection) -> anyhow::Result<()> {
    if selection.topics.is_empty() && selection.regex.is_none() {
        return Err(usage("name the topics: 'TOPIC…', or '--regex REGEX'"));
    }
    Ok(())
}

/// The topics that are meant, and whether all that were named are there.
async fn chosen_topics(
    cluster: &Cluster,
    selection: &Selection,
    may_miss: bool,
    output: &mut Output,
) -> anyhow::Result<(Vec<TopicView>, Exit)> {
    let existing = view::outline(&*cluster.metadata(Topics::All).await?);
    choose(existing, selection, may_miss, output)
}

fn choose(
    mut topics: Vec<TopicView>,
    selection: &Selection,
    may_miss: bool,
    output: &mut Output,
) -> anyhow::Result<(Vec<TopicView>, Exit)> {
    let chosen = selection.choose(topics.iter().map(|topic| (topic.topic.as_str(), topic.internal)));
    topics.retain(|topic| chosen.names.contains(&topic.topic));
    let exit = if may_miss { Exit::Done } else { chosen.complain(output) };
    if topics.is_empty() && selection.topics.is_empty() {
        bail!("no topic matches the pattern");
    }
    Ok((topics, exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_brokers_by_partition() {
        assert_eq!(parse_assignment("1:2,2:3"), Ok(Assignment(vec![vec![1, 2], vec![2, 3]])));
        for bad in ["", "1:1", "1,x", "-1", "1:"] {
            assert!(parse_assignment(bad).is_err(), "{bad:?}");
        }
    }
}
