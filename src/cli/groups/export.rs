//! `groups export`: committed offsets as a file that `groups reset --from-file`, and Kafka's own tool, read back.

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::Output;
use crate::cli::partitions::Partitions;

use super::show::{Which, views};
use super::source::Source;

/// Print what groups have committed, to be kept or moved elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups export billing > billing.json
  klamm groups export --all --csv > offsets.csv
  klamm groups export billing -b old:9092 | klamm groups reset billing --from-file - --execute -b new:9092")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    which: Which,

    /// Only these topics and partitions; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<Partitions>,

    /// Kafka's CSV instead: topic,partition,offset, the group before them where there are several
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// One JSON object a line, as without it
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub(super) fn run(args: &ExportArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let named = args.which.named()?;
    block_on(0, async {
        let source = Source::open(&args.connection, output).await?;
        let (views, mut failed) = views(&source, named, output).await?;
        for view in &views {
            let (committed, some_failed) = source.committed(&view.group, output).await?;
            failed |= some_failed;
            for (partition, committed) in &committed {
                let (topic, number) = (partition.topic.as_str(), partition.partition);
                if !args.topic.is_empty() && !args.topic.iter().any(|wanted| wanted.names(topic, number)) {
                    continue;
                }
                if args.csv {
                    // Kafka's tool expects the group's name where it is given several, and only there.
                    let group = if views.len() > 1 { format!("{},", view.group) } else { String::new() };
                    output.line(format_args!("{group}{topic},{number},{}", committed.offset))?;
                } else {
                    output.json(&json!({
                        "group": view.group,
                        "topic": topic,
                        "partition": number,
                        "offset": committed.offset,
                        "leader_epoch": committed.leader_epoch,
                        "metadata": committed.metadata,
                    }))?;
                }
            }
        }
        Ok(Exit::failed_if(failed))
    })
}
