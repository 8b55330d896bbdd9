//! `groups reset`: moves a group's committed offsets, or shows what that would change.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::{Partitions, expand};
use crate::client::{Committed, Group, Identity};
use crate::protocol::ErrorCode;
use crate::types::{Clock, SystemClock, TopicName, TopicPartition, parse_duration, parse_time};

use super::plan::{Change, FileOffsets, Target, parse_file};
use super::source::Source;
use super::view::GroupView;

/// Move a group's committed offsets.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nobody may be in the group: its members would commit over what is set. What lies outside of a log becomes the \
nearest offset in it. A file that has one group's offsets may be taken for another group; of a file that has several, \
the lines of the group named here count. Leader epochs are of the log that they were read from, and are left out.

Examples:
  klamm groups reset billing orders --to earliest            # shows what it would change
  klamm groups reset billing orders:0,2-4 --to 1000 --execute
  klamm groups reset billing --all-topics --to @2026-01-01T00:00:00Z --execute
  klamm groups reset billing orders --shift-by -100 --execute
  klamm groups export billing > saved.json; klamm groups reset billing --from-file saved.json --execute")]
pub(super) struct ResetArgs {
    /// The group; one that does not exist is made
    #[arg(value_name = "GROUP")]
    group: String,

    /// Topics and partitions: orders, orders:0, orders:0,2-4
    #[arg(value_name = "TOPIC[:PARTITIONS]", conflicts_with = "from_file")]
    partitions: Vec<Partitions>,

    /// All partitions that the group has committed offsets for
    #[arg(long, conflicts_with_all = ["partitions", "from_file"])]
    all_topics: bool,

    #[command(flatten)]
    to: To,

    /// Do it; without this only what would change is shown
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,

    /// Kafka's name for leaving out --execute
    #[arg(long, hide = true)]
    dry_run: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// Kafka's CSV: topic,partition,offset
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Where to. What is hidden are the names of kafka-consumer-groups.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct To {
    /// earliest, latest, current, an offset, or a time: @2026-01-01T00:00:00Z, @-15m
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Option<String>,

    /// So many records on, or back where it is negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,

    /// What 'klamm groups export' wrote, or Kafka's CSV; - for standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,

    #[arg(long, hide = true)]
    to_earliest: bool,

    #[arg(long, hide = true)]
    to_latest: bool,

    #[arg(long, hide = true)]
    to_current: bool,

    #[arg(long, hide = true, value_name = "N", allow_hyphen_values = true)]
    to_offset: Option<i64>,

    #[arg(long, hide = true, value_name = "TIME")]
    to_datetime: Option<String>,

    #[arg(long, hide = true, value_name = "DURATION")]
    by_duration: Option<String>,
}

/// What was asked for.
enum Wish {
    Target(Target),
    File(FileOffsets),
}

impl To {
    fn wish(&self, group: &str, now_ms: i64) -> anyhow::Result<Wish> {
        let wrong = |flag: &str, error: &dyn std::fmt::Display| usage(format!("'--{flag}': {error}"));
        let target = if let Some(text) = &self.to {
            Target::parse(text, now_ms).map_err(|error| wrong("to", &error))?
        } else if let Some(by) = self.shift_by {
            Target::Shift(by)
        } else if let Some(offset) = self.to_offset {
            Target::parse(&offset.to_string(), now_ms).map_err(|error| wrong("to-offset", &error))?
        } else if let Some(time) = &self.to_datetime {
            Target::TimeMs(parse_time(time, now_ms).map_err(|error| wrong("to-datetime", &error))?)
        } else if let Some(text) = &self.by_duration {
            Target::TimeMs(now_ms - duration_ms(text).map_err(|error| wrong("by-duration", &error))?)
        } else if let Some(file) = &self.from_file {
            let text = read_file(file)?;
            let found = parse_file(&text, group).map_err(|error| wrong("from-file", &error))?;
            return Ok(Wish::File(found));
        } else if self.to_earliest {
            Target::Earliest
        } else if self.to_latest {
            Target::Latest
        } else if self.to_current {
            Target::Current
        } else {
            return Err(usage("say where to: '--to WHERE', '--shift-by N' or '--from-file FILE'"));
        };
        Ok(Wish::Target(target))
    }
}

/// ISO 8601 as Kafka's tool takes it (`PT15M`), or ours (`15m`).
fn duration_ms(text: &str) -> Result<i64, String> {
    if text.starts_with(['P', 'p']) {
        let span: jiff::Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        let day = jiff::SpanRelativeTo::days_are_24_hours();
        let duration = span.to_duration(day).map_err(|error| error.to_string())?;
        return i64::try_from(duration.as_millis()).map_err(|error| error.to_string());
    }
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    i64::try_from(duration.as_millis()).map_err(|error| error.to_string())
}

fn read_file(path: &PathBuf) -> anyhow::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Runs the command.
pub(super) fn run(args: &ResetArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let wish = args.to.wish(&args.group, SystemClock::new().now_ms())?;
    if matches!(wish, Wish::Target(_)) && args.partitions.is_empty() && !args.all_topics {
        return Err(usage("name the topics: 'TOPIC[:PARTITIONS]…', or '--all-topics'"));
    }
    if let Wish::File(FileOffsets { of: Some(of), .. }) = &wish {
        output.say(format_args!(
            "the file has the offsets of group {of}; they are taken for group {}",
            args.group
        ));
    }
    if !args.execute {
        return block_on(0, async {
            let source = Source::open(&args.connection, output).await?;
            let (changes, failed) = plan(args, &wish, &source, output).await?;
            show(args, &changes, output)?;
            if !changes.is_empty() {
                output.say("nothing was changed: add --execute to commit these offsets");
            }
            Ok(Exit::failed_if(failed))
        });
    }
    args.connection.for_changing(output, async |cluster, output| {
        let group = Group::new(&cluster, &args.group);
        let source = Source::Cluster(cluster);
        let (changes, failed) = plan(args, &wish, &source, output).await?;
        let (done, refused) = commit(&group, changes, output).await?;
        show(args, &done, output)?;
        Ok(Exit::failed_if(failed || refused))
    })
}

/// What would change. What cannot be is said, and the second value is true.
async fn plan(
    args: &ResetArgs,
    wish: &Wish,
    source: &Source,
    output: &mut Output,
) -> anyhow::Result<(Vec<Change>, bool)> {
    match source.describe(&args.group).await? {
        Some(view) if view.is_active() => bail!(refusal(&view)),
        Some(_) => {}
        None => output.say(format_args!("group {} does not exist yet", args.group)),
    }
    let (committed, mut failed) = source.committed(&args.group, output).await?;
    let (partitions, complete) = scope(args, wish, &committed, source, output).await?;
    failed |= !complete;
    let (bounds, some_failed) = source.bounds(&partitions, output).await?;
    failed |= some_failed;
    let times = match wish {
        Wish::Target(Target::TimeMs(time)) => source.offsets(&partitions, *time).await,
        _ => BTreeMap::new(),
    };
    let mut changes = Vec::new();
    for partition in &partitions {
        let Some(&bounds) = bounds.get(partition) else { continue };
        let current = committed.get(partition).map(|committed| committed.offset);
        match wanted(wish, partition, current, bounds, &times) {
            Ok(wanted) => {
                let mut change = Change::new(&args.group, partition, current, wanted.offset, bounds);
                change.metadata = wanted.metadata;
                if change.is_clamped {
                    let (start, end) = bounds;
                    let (wanted, nearest) = (wanted.offset, change.offset);
                    output.warn(format_args!(
                        "{partition}: offset {wanted} is not in its log ({start} to {end}); the nearest is {nearest}"
                    ));
                }
                changes.push(change);
            }
            Err(why) => {
                failed = true;
                output.error(format_args!("{partition}: {why}"));
            }
        }
    }
    Ok((changes, failed))
}

fn refusal(view: &GroupView) -> String {
    let who = match view.members.is_empty() {
        true => String::new(),
        false => format!(" by {}", view.members_in_words()),
    };
    format!(
        "group {} is in use{who} ({}): stop its members first, or wait until their sessions have ended",
        view.group, view.state
    )
}

async fn scope(
    args: &ResetArgs,
    wish: &Wish,
    committed: &BTreeMap<TopicPartition, Committed>,
    source: &Source,
    output: &mut Output,
) -> anyhow::Result<(Vec<TopicPartition>, bool)> {
    let wanted: Vec<Partitions> = match wish {
        Wish::Target(_) if args.all_topics => {
            if committed.is_empty() {
                bail!("group {} has committed nothing: name the topics", args.group);
            }
            return Ok((committed.keys().cloned().collect(), true));
        }
        Wish::Target(_) => args.partitions.clone(),
        Wish::File(FileOffsets { offsets, .. }) => {
            if offsets.is_empty() {
                bail!("the file holds no offsets of group {}", args.group);
            }
            let text = |partition: &TopicPartition| format!("{}:{}", partition.topic, partition.partition);
            let parsed = offsets.keys().map(|partition| text(partition).parse().map_err(anyhow::Error::msg));
            parsed.collect::<anyhow::Result<_>>()?
        }
    };
    let names: Vec<&str> = wanted.iter().map(|wanted| wanted.topic.as_str()).collect();
    let existing = source.partitions_of(&names).await?;
    Ok(expand(&wanted, |topic| existing.get(topic).cloned(), output))
}

fn wanted(
    wish: &Wish,
    partition: &TopicPartition,
    current: Option<i64>,
    (start, end): (i64, i64),
    times: &BTreeMap<TopicPartition, Result<i64, String>>,
) -> Result<Committed, String> {
    let target = match wish {
        Wish::File(FileOffsets { offsets, .. }) => {
            return Ok(offsets.get(partition).cloned().unwrap_or_default());
        }
        Wish::Target(target) => *target,
    };
    let offset = match target {
        Target::Earliest => start,
        Target::Latest => end,
        Target::Current => current.unwrap_or(end),
        Target::Offset(offset) => offset,
        Target::Shift(by) => match current {
            Some(current) => current.saturating_add(by),
            None => return Err("nothing is committed that could be shifted".to_owned()),
        },
        Target::TimeMs(_) => match times.get(partition) {
            Some(Ok(found)) if *found >= 0 => *found,
            Some(Err(why)) => return Err(why.clone()),
            _ => end,
        },
    };
    Ok(Committed { offset, ..Default::default() })
}

/// Commits; what was refused is said.
async fn commit(
    group: &Group,
    changes: Vec<Change>,
    output: &mut Output,
) -> anyhow::Result<(Vec<Change>, bool)> {
    let mut offsets = BTreeMap::new();
    for change in &changes {
        let partition = TopicPartition::new(TopicName::new(&change.topic)?, change.partition);
        let metadata = change.metadata.clone();
        // An epoch of another cluster's log, or of a topic that was deleted and made again, would have a member believe that
        // records were taken back, or wait for a leader that does not come.
        offsets.insert(partition, Committed { offset: change.offset, leader_epoch: -1, metadata });
    }
    let outcomes = group.commit(&Identity::default(), &offsets).await?;
    let mut refused = false;
    let mut done = Vec::new();
    for change in changes {
        let partition = TopicPartition::new(TopicName::new(&change.topic)?, change.partition);
        match outcomes.get(&partition).copied().unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => done.push(change),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress => {
                refused = true;
                output.error(format_args!(
                    "{partition}: a member has joined the group meanwhile: stop it first"
                ));
            }
            code => {
                refused = true;
                output.error(format_args!("{partition}: {} ({})", code.message(), code.name()));
            }
        }
    }
    Ok((done, refused))
}

fn show(args: &ResetArgs, changes: &[Change], output: &mut Output) -> anyhow::Result<()> {
    let mut table = Table::new(["GROUP", "TOPIC", ">PARTITION", ">CURRENT", ">NEW", ">LAG"]);
    for change in changes {
        let Change { group, topic, partition, current, offset, end, .. } = change;
        if args.json {
            let mut object = serde_json::to_value(change)?;
            object["executed"] = args.execute.into();
            output.json(&object)?;
        } else if args.csv {
            output.line(format_args!("{topic},{partition},{offset}"))?;
        } else {
            let current = current.map(|current| current.to_string()).unwrap_or_default();
            let lag = (end - offset).max(0).to_string();
            table.row([
                group.clone(),
                topic.clone(),
                partition.to_string(),
                current,
                offset.to_string(),
                lag,
            ]);
        }
    }
    Ok(output.table(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kafkas_or_ours() {
        assert_eq!(duration_ms("PT15M"), Ok(900_000));
        assert_eq!(duration_ms("P1DT1H"), Ok(90_000_000));
        assert_eq!(duration_ms("15m"), Ok(900_000));
        assert!(duration_ms("P").is_err() && duration_ms("soon").is_err());
    }

    #[test]
    fn every_target_comes_to_an_offset() {
        let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
        let times = BTreeMap::from([(partition.clone(), Ok(6))]);
        let offset = |target, current| {
            wanted(&Wish::Target(target), &partition, current, (5, 10), &times).map(|wanted| wanted.offset)
        };
        assert_eq!(offset(Target::Earliest, None), Ok(5));
        assert_eq!(offset(Target::Latest, None), Ok(10));
        assert_eq!(offset(Target::Current, Some(7)), Ok(7));
        assert_eq!(offset(Target::Current, None), Ok(10));
        assert_eq!(offset(Target::Shift(-2), Some(7)), Ok(5));
        assert!(offset(Target::Shift(-2), None).is_err());
        assert_eq!(offset(Target::TimeMs(0), None), Ok(6));
        let none = BTreeMap::from([(partition.clone(), Ok(-1))]);
        let young = wanted(&Wish::Target(Target::TimeMs(0)), &partition, None, (5, 10), &none);
        assert_eq!(young.map(|wanted| wanted.offset), Ok(10));
    }
}
