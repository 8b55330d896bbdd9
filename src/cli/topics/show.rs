//! `topics list` and `topics describe`.

use super::view::{self, PartitionView, TopicView};
use super::{Chosen, Selection};
use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::client::Topics;
use crate::types::ByteSize;

/// List topics, one a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics list
  klamm topics list -e 'orders\\..*' -b kafka1:9092
  klamm topics list -d /var/lib/klamm --json")]
pub struct ListArgs {
    #[command(flatten)]
    selection: Selection,

    /// One JSON object a line: topic, id, partitions, replication_factor, internal
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Describe topics: leaders, replicas, offsets, sizes, configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 4: with --fail-if-any, a partition is shown.

Examples:
  klamm topics describe orders
  klamm topics describe --under-replicated
  klamm topics describe --under-min-isr --fail-if-any || alert
  klamm topics describe orders -d /var/lib/klamm --json")]
pub struct DescribeArgs {
    #[command(flatten)]
    selection: Selection,

    /// Only partitions with replicas that are not in sync
    #[arg(long)]
    under_replicated: bool,

    /// Only partitions without a leader
    #[arg(long, visible_alias = "unavailable")]
    offline: bool,

    /// Only partitions with as many replicas in sync as min.insync.replicas asks for, or fewer
    #[arg(long)]
    at_min_isr: bool,

    /// Only partitions with fewer replicas in sync than min.insync.replicas asks for
    #[arg(long)]
    under_min_isr: bool,

    /// Exit with 4 where a partition is shown: for scripts, with the filters above
    #[arg(long)]
    fail_if_any: bool,

    /// One JSON object a line, a line a topic
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Prints the names.
pub fn list(args: &ListArgs, output: &mut Output) -> anyhow::Result<Exit> {
    match args.connection.target()? {
        Target::Dir(dir) => {
            let topics = Directory::open(&dir)?.topics()?;
            print_list(args, topics, output)
        }
        Target::Cluster(_) => block_on(0, async {
            let cluster = args.connection.cluster(output).await?;
            let topics = view::outline(&*cluster.metadata(Topics::All).await?);
            print_list(args, topics, output)
        }),
    }
}

fn print_list(args: &ListArgs, topics: Vec<TopicView>, output: &mut Output) -> anyhow::Result<Exit> {
    let (topics, chosen) = keep(&args.selection, topics);
    for topic in &topics {
        if args.json {
            output.json(&serde_json::json!({
                "topic": topic.topic,
                "id": topic.id,
                "partitions": topic.partitions.len(),
                "replication_factor": topic.replication_factor(),
                "internal": topic.internal,
            }))?;
        } else {
            output.line(&topic.topic)?;
        }
    }
    Ok(chosen.complain(output))
}

/// Prints everything there is to know.
pub fn describe(args: &DescribeArgs, output: &mut Output) -> anyhow::Result<Exit> {
    match args.connection.target()? {
        Target::Dir(dir) => {
            let directory = Directory::open(&dir)?;
            let (mut topics, chosen) = keep(&args.selection, directory.topics()?);
            let troubles = directory.complete(&mut topics);
            print_descriptions(args, topics, &chosen, &troubles, output)
        }
        Target::Cluster(_) => block_on(0, async {
            let cluster = args.connection.cluster(output).await?;
            let topics = view::outline(&*cluster.metadata(Topics::All).await?);
            let (mut topics, chosen) = keep(&args.selection, topics);
            let troubles = view::complete(&cluster, &mut topics).await;
            print_descriptions(args, topics, &chosen, &troubles, output)
        }),
    }
}

fn keep(selection: &Selection, mut topics: Vec<TopicView>) -> (Vec<TopicView>, Chosen) {
    let chosen = selection.choose(topics.iter().map(|topic| (topic.topic.as_str(), topic.internal)));
    topics.retain(|topic| chosen.names.contains(&topic.topic));
    (topics, chosen)
}

impl DescribeArgs {
    /// Whether a partition passes the filters; all must hold.
    fn shows(&self, topic: &TopicView, partition: &PartitionView) -> bool {
        let at_min_isr = topic.min_insync_replicas.is_some_and(|least| partition.isr.len() <= least);
        let under_min_isr = topic.min_insync_replicas.is_some_and(|least| partition.isr.len() < least);
        (!self.under_replicated || partition.is_under_replicated())
            && (!self.offline || partition.leader.is_none())
            && (!self.at_min_isr || at_min_isr)
            && (!self.under_min_isr || under_min_isr)
    }

    fn filters(&self) -> bool {
        self.under_replicated || self.offline || self.at_min_isr || self.under_min_isr
    }
}

fn print_descriptions<E: std::fmt::Display>(
    args: &DescribeArgs,
    mut topics: Vec<TopicView>,
    chosen: &Chosen,
    troubles: &[E],
    output: &mut Output,
) -> anyhow::Result<Exit> {
    for topic in &mut topics {
        let mut partitions = std::mem::take(&mut topic.partitions);
        partitions.retain(|partition| args.shows(topic, partition));
        topic.partitions = partitions;
    }
    if args.filters() {
        topics.retain(|topic| !topic.partitions.is_empty());
    }
    for (index, topic) in topics.iter().enumerate() {
        if args.json {
            output.json(topic)?;
        } else {
            if index > 0 {
                output.line("")?;
            }
            print_description(topic, output)?;
        }
    }
    for trouble in troubles {
        output.error(trouble);
    }
    let exit = chosen.complain(output);
    let is_any_shown = topics.iter().any(|topic| !topic.partitions.is_empty());
    Ok(match (troubles.is_empty(), exit) {
        // What could not be asked may be anything: that is a failure before it is a condition.
        (false, _) => Exit::Failed,
        (true, Exit::Done) if args.fail_if_any && is_any_shown => Exit::Condition,
        (true, exit) => exit,
    })
}

fn print_description(topic: &TopicView, output: &mut Output) -> std::io::Result<()> {
    let id = topic.id.as_ref().map(|id| format!("  id {id}")).unwrap_or_default();
    let internal = if topic.internal { "  internal" } else { "" };
    output.line(format_args!("{}{id}{internal}", topic.topic))?;
    for (key, value) in &topic.configs {
        output.line(format_args!("  {key}={}", value.as_deref().unwrap_or_default()))?;
    }
    // The column is there only where anyone stands in it.
    let has_elr = topic.partitions.iter().any(|partition| !partition.elr.is_empty());
    let mut headings = vec![">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "ISR"];
    headings.extend(has_elr.then_some("ELR"));
    headings.extend([">START", ">END", ">SIZE"]);
    let mut table = Table::new(headings);
    for partition in &topic.partitions {
        let mut cells = vec![
            partition.partition.to_string(),
            partition.leader.map(|leader| leader.to_string()).unwrap_or_else(|| "none".to_owned()),
            text(partition.leader_epoch),
            ids(&partition.replicas),
            ids(&partition.isr),
        ];
        cells.extend(has_elr.then(|| ids(&partition.elr)));
        cells.extend([text(partition.start_offset), text(partition.end_offset), size(partition.size_bytes)]);
        table.row(cells);
    }
    output.table(&table)
}

fn text(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn size(bytes: Option<i64>) -> String {
    text(bytes.and_then(|bytes| u64::try_from(bytes).ok()).map(ByteSize))
}

/// `1,2,3`.
fn ids(brokers: &[i32]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32, leader: Option<i32>, isr: &[i32]) -> PartitionView {
        PartitionView {
            partition,
            leader,
            leader_epoch: Some(3),
            replicas: vec![1, 2],
            isr: isr.to_vec(),
            start_offset: Some(0),
            end_offset: Some(1_000_000),
            size_bytes: Some(1536),
            ..Default::default()
        }
    }

    #[test]
    fn a_description_is_a_head_and_a_table() {
        let mut output = Output::for_test();
        let topic = TopicView {
            topic: "orders".to_owned(),
            id: Some("AAAAAAAAAAAAAAAAAAAAAQ".to_owned()),
            partitions: vec![partition(0, Some(1), &[1, 2]), partition(10, None, &[])],
            configs: [("retention.ms".to_owned(), Some("1000".to_owned()))].into(),
            ..Default::default()
        };
        print_description(&topic, &mut output).unwrap();
        let expected = "\
orders  id AAAAAAAAAAAAAAAAAAAAAQ
  retention.ms=1000
PARTITION  LEADER  EPOCH  REPLICAS  ISR  START      END    SIZE
        0       1      3  1,2       1,2      0  1000000  1.5KiB
       10    none      3  1,2       -        0  1000000  1.5KiB
";
        assert_eq!(output.text(), expected);
    }
}
