//! `groups lag`: how far groups are behind, once or again and again, and whether that is too far.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, StdoutClosed, block_on};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::Partitions;
use crate::types::{Clock, SystemClock, parse_duration};

use super::show::views;
use super::source::Source;
use super::view::Progress;

/// Show how far groups are behind the ends of the logs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A partition that a member has and nothing is committed for counts from its beginning. Where a group has committed \
nothing and nobody in it has a partition, how far it is behind is not known: - in tables, null in JSON, and too far \
for --fail-above.

Examples:
  klamm groups lag
  klamm groups lag billing --topic orders:0-3
  klamm groups lag billing --watch 5s
  klamm groups lag --total --json
  klamm groups lag billing --fail-above 1000 || alert")]
pub(super) struct LagArgs {
    /// The groups; all where none is named
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,

    /// Only these topics and partitions; may be repeated
    #[arg(long, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<Partitions>,

    /// One line a group instead of one a partition
    #[arg(long)]
    total: bool,

    /// Exit with 4 where a group's total is above this, or not known
    #[arg(long, value_name = "N")]
    fail_above: Option<i64>,

    /// Show it again and again, until interrupted or above --fail-above
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_duration)]
    watch: Option<Duration>,

    /// One JSON object a line: group, topic, partition, current, start, end, lag, member, client, host
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub(super) fn run(args: &LagArgs, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let clock = SystemClock::new();
        let mut source = Source::open(&args.connection, output).await?;
        let mut exit = look(args, &source, clock.now_ms(), output).await?;
        while let Some(interval) = args.watch
            && exit != Exit::Condition
        {
            output.flush_all()?;
            clock.wait(interval).await;
            if matches!(source, Source::Directory(_)) {
                source = Source::open(&args.connection, output).await?;
            }
            exit = match look(args, &source, clock.now_ms(), output).await {
                Ok(exit) => exit,
                Err(error) if StdoutClosed::is_in(&error) => return Err(error),
                // A broker that restarts is no reason to stop watching.
                Err(error) => {
                    output.error(format_args!("{error:#}"));
                    Exit::Failed
                }
            };
        }
        Ok(exit)
    })
}

async fn look(args: &LagArgs, source: &Source, now_ms: i64, output: &mut Output) -> anyhow::Result<Exit> {
    let (views, mut failed) = views(source, &args.groups, output).await?;
    let (progress, some_failed) = source.progress(&views, output).await?;
    failed |= some_failed;
    let all: Vec<Progress> = progress.into_iter().flatten().filter(|one| args.shows(one)).collect();
    let mut totals: Totals<'_> = views.iter().map(|view| (view.group.as_str(), None)).collect();
    for one in &all {
        add(totals.entry(&one.group).or_default(), one.lag);
    }
    if args.groups.is_empty() && !args.topic.is_empty() {
        // Of all groups those are meant that have something to do with these topics.
        totals.retain(|group, _| all.iter().any(|one| one.group == *group));
    }
    print(args, &all, &totals, now_ms, output)?;
    let is_above = judge(args, &all, &totals, failed, output);
    // What could not be asked may be anything: that is a failure before it is a condition.
    Ok(if failed {
        Exit::Failed
    } else if is_above {
        Exit::Condition
    } else {
        Exit::Done
    })
}

/// How far each group is behind in sum, where that is known.
type Totals<'a> = BTreeMap<&'a str, Option<i64>>;

fn add(total: &mut Option<i64>, lag: Option<i64>) {
    if let Some(lag) = lag {
        *total = Some(total.unwrap_or(0) + lag);
    }
}

/// Says which groups are too far behind, and of which nobody knows; true where that is too far for `--fail-above`. Where
/// something failed, what is not known has been said.
fn judge(
    args: &LagArgs,
    all: &[Progress],
    totals: &Totals<'_>,
    has_failed: bool,
    output: &mut Output,
) -> bool {
    let mut is_above = false;
    for (group, total) in totals {
        let of_group = || all.iter().filter(|one| one.group == *group);
        let lost = of_group().find(|one| one.lag.is_none() && one.member.is_some());
        let why = match (total, lost) {
            (_, Some(one)) => format!("{}-{} is a member's and not there", one.topic, one.partition),
            (Some(_), None) => String::new(),
            (None, None) if of_group().next().is_some() => {
                "what it has committed is of partitions that are gone".to_owned()
            }
            (None, None) => "it has committed nothing, and nobody in it has a partition".to_owned(),
        };
        if let (Some(total), Some(most)) = (total, args.fail_above)
            && *total > most
        {
            is_above = true;
            output.error(format_args!("group {group} is {total} records behind, more than {most}"));
        } else if !why.is_empty() && !has_failed {
            let message = format!("how far group {group} is behind is not known: {why}");
            match args.fail_above {
                Some(_) => output.error(message),
                None => output.warn(message),
            }
            is_above |= args.fail_above.is_some();
        }
    }
    is_above
}

impl LagArgs {
    fn shows(&self, one: &Progress) -> bool {
        self.topic.is_empty() || self.topic.iter().any(|wanted| wanted.names(&one.topic, one.partition))
    }
}

fn print(
    args: &LagArgs,
    all: &[Progress],
    totals: &Totals<'_>,
    now_ms: i64,
    output: &mut Output,
) -> anyhow::Result<()> {
    if args.json {
        let stamp = |mut object: serde_json::Value| {
            if args.watch.is_some() {
                object["time"] = json!(now_ms);
            }
            object
        };
        if args.total {
            for (group, total) in totals {
                output.json(&stamp(json!({ "group": group, "lag": total })))?;
            }
        } else {
            for one in all {
                output.json(&stamp(serde_json::to_value(one)?))?;
            }
        }
        return Ok(());
    }
    if args.watch.is_some() && output.is_terminal() {
        // The cursor home, and everything behind it gone.
        std::io::Write::write_all(output, b"\x1b[H\x1b[2J")?;
    }
    if args.total {
        let mut table = Table::new(["GROUP", ">LAG"]);
        totals.iter().for_each(|(group, total)| table.row([(*group).to_owned(), number(*total)]));
        return Ok(output.table(&table)?);
    }
    Ok(output.table(&progress_table(all, true))?)
}

/// A number that is known, or a dash.
fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Groups' progress as a table, with a total of each group where that is wanted.
pub(super) fn progress_table(all: &[Progress], has_totals: bool) -> Table {
    let mut table =
        Table::new(["GROUP", "TOPIC", ">PARTITION", ">CURRENT", ">END", ">LAG", "MEMBER", "CLIENT", "HOST"]);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut total = None;
    for (index, one) in all.iter().enumerate() {
        add(&mut total, one.lag);
        table.row([
            one.group.clone(),
            one.topic.clone(),
            one.partition.to_string(),
            number(one.current),
            number(one.end),
            number(one.lag),
            text(&one.member),
            text(&one.client),
            text(&one.host).trim_start_matches('/').to_owned(),
        ]);
        let is_last = all.get(index + 1).is_none_or(|next| next.group != one.group);
        if has_totals && is_last {
            let mut cells = [const { String::new() }; 9];
            (cells[0], cells[1], cells[5]) = (one.group.clone(), "(total)".to_owned(), number(total));
            table.row(cells);
        }
        if is_last {
            total = None;
        }
    }
    table
}
