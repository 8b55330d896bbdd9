//! `groups delete` and `groups delete-offsets`: what is forgotten is shown first.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::Output;
use crate::cli::partitions::Partitions;
use crate::client::{BrokerError, Cluster, Committed, Group};
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use crate::protocol::messages::delete_groups_response::DeleteGroupsResponse;
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_delete_response::OffsetDeleteResponse;
use crate::types::TopicPartition;

use super::show::views;
use super::source::Source;
use super::view::GroupView;

/// Delete groups, with all that they have committed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups delete billing             # shows what it would delete
  klamm groups delete billing --execute")]
pub(super) struct DeleteArgs {
    /// The groups; nobody may be in them
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,

    /// Do it; without this only what would be deleted is shown
    #[arg(long)]
    execute: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Delete what a group has committed for some partitions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups delete-offsets billing orders             # shows what it would delete
  klamm groups delete-offsets billing orders:0,2-4 --execute")]
pub(super) struct DeleteOffsetsArgs {
    /// The group; nobody in it may read the topics
    #[arg(value_name = "GROUP")]
    group: String,

    /// Topics and partitions: orders, orders:0, orders:0,2-4
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    partitions: Vec<Partitions>,

    /// Do it; without this only what would be deleted is shown
    #[arg(long)]
    execute: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Deletes groups.
pub(super) fn groups(args: &DeleteArgs, output: &mut Output) -> anyhow::Result<Exit> {
    if !args.execute {
        return block_on(0, async {
            let source = Source::open(&args.connection, output).await?;
            let (found, mut failed) = views(&source, &args.groups, output).await?;
            let mut is_any = false;
            for view in &found {
                if is_in_use(view, output) {
                    failed = true;
                    continue;
                }
                let (committed, _) = source.committed(&view.group, output).await?;
                is_any = true;
                match args.json {
                    true => output.json(&json!({
                        "group": view.group, "type": view.kind, "offsets": committed.len(), "deleted": false,
                    }))?,
                    false => output.line(format_args!(
                        "would delete group {}: {}, {}, {} offsets committed",
                        view.group,
                        view.kind,
                        view.state,
                        committed.len()
                    ))?,
                }
            }
            if is_any {
                output.say("nothing was deleted: add --execute to delete");
            }
            Ok(Exit::failed_if(failed))
        });
    }
    args.connection.for_changing(output, async |cluster, output| {
        let mut failed = false;
        for name in &args.groups {
            match delete_group(&cluster, name).await {
                Ok(()) if args.json => output.json(&json!({ "group": name, "deleted": true }))?,
                Ok(()) => output.say(format_args!("group {name} is deleted")),
                Err(error) => {
                    failed = true;
                    output.error(format_args!("{error:#}"));
                }
            }
        }
        Ok(Exit::failed_if(failed))
    })
}

fn is_in_use(view: &GroupView, output: &mut Output) -> bool {
    if view.is_active() {
        output.error(format_args!(
            "group {} is in use by {}: stop its members first",
            view.group,
            view.members_in_words()
        ));
    }
    view.is_active()
}

async fn delete_group(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let group = Group::new(cluster, name);
    let request = |_| DeleteGroupsRequest { groups_names: vec![name.into()], ..Default::default() };
    let first_code =
        |response: &DeleteGroupsResponse| response.results.first().map_or(0, |result| result.error_code);
    let response = group.ask(request, i16::MAX, first_code).await?;
    match ErrorCode::from_wire(first_code(&response)) {
        ErrorCode::None => Ok(()),
        ErrorCode::NonEmptyGroup => bail!("group {name} is in use: stop its members first"),
        ErrorCode::GroupIdNotFound => bail!("group {name} does not exist"),
        code => Err(BrokerError { code, about: format!("group {name}"), message: None }.into()),
    }
}

/// Deletes offsets.
pub(super) fn offsets(args: &DeleteOffsetsArgs, output: &mut Output) -> anyhow::Result<Exit> {
    if !args.execute {
        return block_on(0, async {
            let source = Source::open(&args.connection, output).await?;
            let meant = meant(args, &source, output).await?;
            for (partition, committed) in &meant {
                match args.json {
                    true => output.json(&row(&args.group, partition, committed.offset, false))?,
                    false => output.line(format_args!(
                        "would delete offset {} of {partition} in group {}",
                        committed.offset, args.group
                    ))?,
                }
            }
            output.say("nothing was deleted: add --execute to delete");
            Ok(Exit::Done)
        });
    }
    args.connection.for_changing(output, async |cluster, output| {
        let group = Group::new(&cluster, &args.group);
        let meant = meant(args, &Source::Cluster(cluster), output).await?;
        let outcomes = delete_offsets(&group, &meant).await?;
        let mut failed = false;
        for (partition, committed) in &meant {
            let key = (partition.topic.to_string(), partition.partition);
            match outcomes.get(&key).copied().unwrap_or(ErrorCode::UnknownServerError) {
                ErrorCode::None if args.json => {
                    output.json(&row(&args.group, partition, committed.offset, true))?;
                }
                ErrorCode::None => {
                    output.say(format_args!("the offset of {partition} in group {} is deleted", args.group));
                }
                ErrorCode::GroupSubscribedToTopic => {
                    failed = true;
                    output.error(format_args!(
                        "{partition}: members of group {} read this topic: stop them first",
                        args.group
                    ));
                }
                code => {
                    failed = true;
                    output.error(format_args!("{partition}: {} ({})", code.message(), code.name()));
                }
            }
        }
        Ok(Exit::failed_if(failed))
    })
}

fn row(group: &str, partition: &TopicPartition, offset: i64, deleted: bool) -> serde_json::Value {
    json!({
        "group": group,
        "topic": partition.topic.as_str(),
        "partition": partition.partition,
        "offset": offset,
        "deleted": deleted,
    })
}

/// What is committed for the partitions that are named. The topics themselves may be gone.
async fn meant(
    args: &DeleteOffsetsArgs,
    source: &Source,
    output: &mut Output,
) -> anyhow::Result<BTreeMap<TopicPartition, Committed>> {
    if source.describe(&args.group).await?.is_none() {
        bail!("group {} does not exist", args.group);
    }
    let (mut committed, _) = source.committed(&args.group, output).await?;
    let is_named = |partition: &TopicPartition| {
        args.partitions.iter().any(|named| named.names(partition.topic.as_str(), partition.partition))
    };
    committed.retain(|partition, _| is_named(partition));
    if committed.is_empty() {
        bail!("group {} has committed nothing there", args.group);
    }
    Ok(committed)
}

async fn delete_offsets(
    group: &Group,
    meant: &BTreeMap<TopicPartition, Committed>,
) -> anyhow::Result<BTreeMap<(String, i32), ErrorCode>> {
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for partition in meant.keys() {
        let one = OffsetDeleteRequestPartition { partition_index: partition.partition };
        topics.entry(partition.topic.as_str()).or_default().push(one);
    }
    let topics: Vec<OffsetDeleteRequestTopic> = topics
        .into_iter()
        .map(|(name, partitions)| OffsetDeleteRequestTopic { name: name.into(), partitions })
        .collect();
    let request = |_| OffsetDeleteRequest { group_id: group.id().into(), topics: topics.clone() };
    let response =
        group.ask(request, i16::MAX, |response: &OffsetDeleteResponse| response.error_code).await?;
    BrokerError::check(response.error_code, || format!("group {}", group.id()), None)?;
    let outcomes = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            ((topic.name.to_string(), partition.partition_index), ErrorCode::from_wire(partition.error_code))
        })
    });
    Ok(outcomes.collect())
}
