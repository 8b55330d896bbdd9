//! `klamm offsets`: where partitions begin and end, which offset belongs to a time, and cutting off the front.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::{Partitions, expand};
use crate::cli::queries::{self, EARLIEST, FoundOffset, LATEST, MAX_TIMESTAMP};
use crate::client::{BrokerError, Cluster, Topics};
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::protocol::messages::delete_records_response::DeleteRecordsPartitionResult;
use crate::types::{BrokerId, Clock, Offset, SystemClock, TopicPartition, UnitError, parse_time};

/// `DeleteRecords` up to the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;
/// How long a leader may wait for its followers to cut as well.
const TIMEOUT_MS: i32 = 30_000;

/// Look up offsets, and cut off the front of partitions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm offsets get orders
  klamm offsets get orders:0 --at -15m
  klamm offsets trim orders:0=1000 --execute")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Get(GetArgs),
    Trim(TrimArgs),
}

/// Look up the offset at a point of partitions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm offsets get orders
  klamm offsets get orders:0,2-4 returns --at earliest --at latest
  klamm offsets get orders --at 2026-01-01T00:00:00Z --json
  klamm offsets get orders --at -15m -d /var/lib/klamm")]
struct GetArgs {
    /// Topics and partitions: orders, orders:0, orders:0,2-4
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    partitions: Vec<Partitions>,

    /// earliest, latest, max-timestamp, or a time: the first record at or after it; may be repeated
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = parse_point, allow_hyphen_values = true)]
    at: Vec<Point>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Delete the records before an offset, for good.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm offsets trim orders:0=1000             # shows what it would delete
  klamm offsets trim orders:0=1000 --execute
  klamm offsets trim orders=end --execute      # all partitions, everything")]
struct TrimArgs {
    /// Partitions and the first offset to keep; 'end' keeps nothing
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]=OFFSET", value_parser = parse_cut)]
    cuts: Vec<Cut>,

    /// Do it; without this only what would be deleted is shown
    #[arg(long)]
    execute: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// A point in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    /// As it was written.
    text: String,
    /// As `ListOffsets` takes it.
    timestamp: i64,
}

fn parse_point(text: &str) -> Result<Point, UnitError> {
    let timestamp = match text {
        "earliest" | "beginning" => EARLIEST,
        "latest" | "end" => LATEST,
        "max-timestamp" => MAX_TIMESTAMP,
        time => parse_time(time, SystemClock::new().now_ms()).map_err(|error| UnitError {
            expected: "earliest, latest, max-timestamp, ISO 8601, epoch milliseconds, or relative to now (-15m)",
            ..error
        })?,
    };
    Ok(Point { text: text.to_owned(), timestamp })
}

/// Where partitions are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    partitions: Partitions,
    before: i64,
}

fn parse_cut(text: &str) -> Result<Cut, String> {
    let expected = || "TOPIC[:PARTITIONS]=OFFSET is expected, OFFSET a number or 'end'".to_owned();
    let (partitions, offset) = text.rsplit_once('=').ok_or_else(expected)?;
    let before = match offset {
        "end" | "latest" => TO_HIGH_WATERMARK,
        number => number.parse().ok().filter(|&offset: &i64| offset >= 0).ok_or_else(expected)?,
    };
    Ok(Cut { partitions: partitions.parse()?, before })
}

/// Runs the action.
///
/// # Errors
/// Where the cluster or the directory cannot be asked at all.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::Get(args) => get(&args, output),
        Action::Trim(args) => trim(&args, output),
    }
}

fn get(args: &GetArgs, output: &mut Output) -> anyhow::Result<Exit> {
    match args.connection.target()? {
        Target::Dir(dir) => {
            let directory = Directory::open(&dir)?;
            let (partitions, complete) =
                expand(&args.partitions, |topic| directory.partitions_of(topic), output);
            let mut printer = Printer::new(args);
            for point in &args.at {
                for partition in &partitions {
                    let found = directory.offset_at(partition, point.timestamp);
                    printer.add(partition, point, found, output)?;
                }
            }
            printer.finish(complete, output)
        }
        Target::Cluster(_) => block_on(0, async {
            let isolation = args.connection.client_config(output)?.consumer.isolation as i8;
            let cluster = args.connection.cluster(output).await?;
            let (partitions, complete) = expand_in_cluster(&cluster, &args.partitions, output).await?;
            let mut printer = Printer::new(args);
            for point in &args.at {
                let found = queries::offsets_at(&cluster, &partitions, point.timestamp, isolation).await;
                for (partition, found) in found {
                    printer.add(&partition, point, found.map_err(anyhow::Error::from), output)?;
                }
            }
            printer.finish(complete, output)
        }),
    }
}

/// The partitions that are meant, by the cluster's metadata; false where some are not there.
async fn expand_in_cluster<'a>(
    cluster: &Cluster,
    wanted: impl IntoIterator<Item = &'a Partitions> + Clone,
    output: &mut Output,
) -> anyhow::Result<(Vec<TopicPartition>, bool)> {
    let names: Vec<&str> = wanted.clone().into_iter().map(|wanted| wanted.topic.as_str()).collect();
    let metadata = cluster.metadata(Topics::Named { names: &names, create: false }).await?;
    let of_topic = |topic: &str| {
        let topic = metadata.topics.get(topic)?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition).collect();
        (!partitions.is_empty()).then_some(partitions)
    };
    Ok(expand(wanted, of_topic, output))
}

/// Prints rows at once as JSON, or at the end as a table.
struct Printer<'a> {
    args: &'a GetArgs,
    table: Table,
    failed: bool,
}

impl<'a> Printer<'a> {
    fn new(args: &'a GetArgs) -> Self {
        let table = Table::new(["TOPIC", ">PARTITION", "AT", ">OFFSET", ">TIMESTAMP", ">EPOCH"]);
        Self { args, table, failed: false }
    }

    fn add(
        &mut self,
        partition: &TopicPartition,
        point: &Point,
        found: anyhow::Result<FoundOffset>,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.failed = true;
                output.error(format_args!("{error:#}"));
                return Ok(());
            }
        };
        let offset = found.offset.map(|offset| offset.0);
        let epoch = found.leader_epoch.map(|epoch| epoch.0);
        if self.args.json {
            output.json(&json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition,
                "at": point.text,
                "offset": offset,
                "timestamp": found.timestamp_ms,
                "leader_epoch": epoch,
            }))?;
        } else {
            let text = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
            self.table.row([
                partition.topic.to_string(),
                partition.partition.to_string(),
                point.text.clone(),
                text(offset),
                text(found.timestamp_ms),
                text(epoch.map(i64::from)),
            ]);
        }
        Ok(())
    }

    fn finish(self, complete: bool, output: &mut Output) -> anyhow::Result<Exit> {
        output.table(&self.table)?;
        Ok(Exit::failed_if(self.failed || !complete))
    }
}

/// One partition, where it is cut and what lies before and behind.
struct PlannedCut {
    partition: TopicPartition,
    before: i64,
    start: i64,
    end: i64,
}

/// What the cuts come to, and whether some partition cannot be cut.
#[derive(Default)]
struct Plan {
    cuts: Vec<PlannedCut>,
    failed: bool,
}

impl Plan {
    fn add(
        &mut self,
        partition: TopicPartition,
        before: i64,
        start: anyhow::Result<FoundOffset>,
        end: anyhow::Result<FoundOffset>,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        if self.cuts.iter().any(|other| other.partition == partition) {
            bail!("{partition} is named twice");
        }
        let both = start.and_then(|start| Ok((start.offset, end?.offset)));
        match both {
            Ok((Some(start), Some(end))) => {
                self.cuts.push(PlannedCut { partition, before, start: start.0, end: end.0 });
                return Ok(());
            }
            Ok(_) => output.error(format_args!("{partition}: nobody says where it begins and ends")),
            Err(error) => output.error(format_args!("{error:#}")),
        }
        self.failed = true;
        Ok(())
    }
}

fn trim(args: &TrimArgs, output: &mut Output) -> anyhow::Result<Exit> {
    if args.execute {
        return args.connection.for_changing(output, async |cluster, output| {
            let plan = plan(args, &cluster, output).await?;
            let failed = execute_cuts(args, &cluster, &plan.cuts, output).await?;
            Ok(Exit::failed_if(failed || plan.failed))
        });
    }
    let plan = match args.connection.target()? {
        // Showing needs no broker, and no lock.
        Target::Dir(dir) => plan_in(args, &Directory::open(&dir)?, output)?,
        Target::Cluster(_) => {
            let mut planned = Plan::default();
            let exit = block_on(0, async {
                let cluster = args.connection.cluster(output).await?;
                planned = plan(args, &cluster, output).await?;
                Ok(Exit::Done)
            })?;
            if exit != Exit::Done {
                return Ok(exit);
            }
            planned
        }
    };
    for cut in &plan.cuts {
        show_cut(args, cut, output)?;
    }
    if !plan.cuts.is_empty() {
        output.say("nothing was deleted: add --execute to delete");
    }
    Ok(Exit::failed_if(plan.failed))
}

async fn plan(args: &TrimArgs, cluster: &Cluster, output: &mut Output) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for cut in &args.cuts {
        let (partitions, complete) = expand_in_cluster(cluster, [&cut.partitions], output).await?;
        plan.failed |= !complete;
        let starts = queries::offsets_at(cluster, &partitions, EARLIEST, 0).await;
        let ends = queries::offsets_at(cluster, &partitions, LATEST, 0).await;
        // Both hold the same partitions, in the same order.
        for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
            plan.add(partition, cut.before, start.map_err(Into::into), end.map_err(Into::into), output)?;
        }
    }
    Ok(plan)
}

fn plan_in(args: &TrimArgs, directory: &Directory, output: &mut Output) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for cut in &args.cuts {
        let of_topic = |topic: &str| directory.partitions_of(topic);
        let (partitions, complete) = expand([&cut.partitions], of_topic, output);
        plan.failed |= !complete;
        for partition in partitions {
            let start = directory.offset_at(&partition, EARLIEST);
            let end = directory.offset_at(&partition, LATEST);
            plan.add(partition, cut.before, start, end, output)?;
        }
    }
    Ok(plan)
}

/// Cuts; true where some partition was not cut.
async fn execute_cuts(
    args: &TrimArgs,
    cluster: &Cluster,
    cuts: &[PlannedCut],
    output: &mut Output,
) -> anyhow::Result<bool> {
    let mut by_leader: BTreeMap<BrokerId, Vec<&PlannedCut>> = BTreeMap::new();
    for cut in cuts {
        let (leader, _) = cluster.leader(&cut.partition).await?;
        by_leader.entry(leader).or_default().push(cut);
    }
    let mut failed = false;
    for (leader, cuts) in by_leader {
        let answer = cluster.send(leader, &delete_records_request(&cuts)).await?;
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let asked = cuts.iter().find(|cut| {
                    cut.partition.topic.as_str() == topic.name
                        && cut.partition.partition == partition.partition_index
                });
                failed |= !report_cut(args, asked.copied(), &topic.name, partition, output)?;
            }
        }
    }
    Ok(failed)
}

/// Says what became of one partition; whether it is well.
fn report_cut(
    args: &TrimArgs,
    asked: Option<&PlannedCut>,
    topic: &str,
    partition: &DeleteRecordsPartitionResult,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let about = format!("{topic}-{}", partition.partition_index);
    if let Err(error) = BrokerError::check(partition.error_code, || about.clone(), None) {
        match asked.filter(|_| error.code == ErrorCode::OffsetOutOfRange) {
            Some(PlannedCut { before, start, end, .. }) => output.error(format_args!(
                "{about}: {before} is outside of {start} to {end} ({}); '{topic}:{}=end' cuts everything",
                error.code.name(),
                partition.partition_index
            )),
            None => output.error(error),
        }
        return Ok(false);
    }
    if args.json {
        output.json(&json!({
            "topic": topic,
            "partition": partition.partition_index,
            "start_offset": partition.low_watermark,
            "deleted": true,
        }))?;
    } else {
        output.say(format_args!("{about} now begins at {}", partition.low_watermark));
    }
    Ok(true)
}

fn show_cut(args: &TrimArgs, cut: &PlannedCut, output: &mut Output) -> anyhow::Result<()> {
    let before = if cut.before == TO_HIGH_WATERMARK { cut.end } else { cut.before };
    let count = (Offset(before.min(cut.end)) - Offset(cut.start)).max(0);
    if args.json {
        return Ok(output.json(&json!({
            "topic": cut.partition.topic.as_str(),
            "partition": cut.partition.partition,
            "start_offset": cut.start,
            "end_offset": cut.end,
            "before": before,
            "offsets": count,
            "deleted": false,
        }))?);
    }
    let beyond = if before > cut.end { "; beyond its end: the broker will refuse" } else { "" };
    Ok(output.line(format_args!(
        "would delete {count} offsets of {}: from {} up to {before} (it ends at {}){beyond}",
        cut.partition, cut.start, cut.end
    ))?)
}

fn delete_records_request(cuts: &[&PlannedCut]) -> DeleteRecordsRequest {
    let mut topics: BTreeMap<&str, Vec<DeleteRecordsPartition>> = BTreeMap::new();
    for cut in cuts {
        topics.entry(cut.partition.topic.as_str()).or_default().push(DeleteRecordsPartition {
            partition_index: cut.partition.partition,
            offset: cut.before,
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| DeleteRecordsTopic {
        name: name.into(),
        partitions,
        ..Default::default()
    });
    DeleteRecordsRequest { topics: topics.collect(), timeout_ms: TIMEOUT_MS, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_names_or_times() {
        assert_eq!(parse_point("earliest").unwrap().timestamp, EARLIEST);
        assert_eq!(parse_point("2026-01-01").unwrap().timestamp, 1_767_225_600_000);
        assert!(parse_point("soon").unwrap_err().to_string().contains("max-timestamp"));
    }

    #[test]
    fn cuts_name_partitions_and_the_first_offset_to_keep() {
        let cut = parse_cut("orders:0=1000").unwrap();
        assert_eq!((cut.partitions.topic.as_str(), cut.before), ("orders", 1000));
        assert_eq!(parse_cut("orders=end").unwrap().before, TO_HIGH_WATERMARK);
        for bad in ["orders", "orders:0=-1", "orders:0=x", "=1", "orders:x=1"] {
            assert!(parse_cut(bad).is_err(), "{bad}");
        }
    }
}
