//! `groups list`, `groups describe` and `groups members`.

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};

use super::lag::progress_table;
use super::source::Source;
use super::view::{GroupView, Listed, MemberView, in_words};

/// Kafka's types of groups, and what it calls offsets that nobody's member committed.
const TYPES: [&str; 5] = ["classic", "consumer", "share", "streams", "simple"];
/// Kafka's states of groups.
const STATES: [&str; 8] = [
    "Assigning",
    "CompletingRebalance",
    "Dead",
    "Empty",
    "NotReady",
    "PreparingRebalance",
    "Reconciling",
    "Stable",
];

/// List groups with their type and state.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups list
  klamm groups list --state empty,dead
  klamm groups list --type simple -d /var/lib/klamm --json")]
pub(super) struct ListArgs {
    /// Only groups in these states: stable, empty, dead, preparing-rebalance, …
    #[arg(long, value_name = "STATE,…", value_delimiter = ',', value_parser = parse_state)]
    state: Vec<&'static str>,

    /// Only groups of these types: classic, consumer, share, streams; simple: offsets that no member committed
    #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',', value_parser = parse_type)]
    kind: Vec<&'static str>,

    /// One JSON object a line: group, type, state, protocol_type, coordinator
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Describe groups: state, members, and how far they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups describe billing
  klamm groups describe billing --json -b kafka1:9092
  klamm groups describe --all -d /var/lib/klamm")]
pub(super) struct DescribeArgs {
    #[command(flatten)]
    which: Which,

    /// One JSON object a line, a line a group
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// List the members of groups and what they have.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups members billing
  klamm groups members --all --json")]
pub(super) struct MembersArgs {
    #[command(flatten)]
    which: Which,

    /// One JSON object a line, a line a member
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Which groups a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The groups
    #[arg(value_name = "GROUP")]
    pub(super) groups: Vec<String>,

    /// All groups
    #[arg(long, conflicts_with = "groups")]
    pub(super) all: bool,
}

impl Which {
    /// What is named; nothing for all.
    pub(super) fn named(&self) -> anyhow::Result<&[String]> {
        match self.all || !self.groups.is_empty() {
            true => Ok(&self.groups),
            false => Err(usage("name the groups: 'GROUP…', or '--all'")),
        }
    }
}

/// As people write it: `preparing-rebalance`, `PreparingRebalance`, `preparing_rebalance`.
fn parse_state(text: &str) -> Result<&'static str, String> {
    let plain = text.replace(['-', '_'], "");
    let known = STATES.into_iter().find(|state| state.eq_ignore_ascii_case(&plain));
    known.ok_or_else(|| format!("one of {} is expected", STATES.join(", ")))
}

fn parse_type(text: &str) -> Result<&'static str, String> {
    let known = TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(text));
    known.ok_or_else(|| format!("one of {} is expected", TYPES.join(", ")))
}

/// Prints one line a group.
pub(super) fn list(args: &ListArgs, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let source = Source::open(&args.connection, output).await?;
        let (listed, failed) = source.list(output).await;
        let mut table = Table::new(["GROUP", "TYPE", "STATE", "PROTOCOL", ">COORDINATOR"]);
        for group in listed.iter().filter(|group| args.shows(group)) {
            if args.json {
                output.json(group)?;
                continue;
            }
            let coordinator = group.coordinator.map(|broker| broker.to_string()).unwrap_or_default();
            let (name, kind) = (group.group.clone(), group.kind.clone());
            table.row([name, kind, group.state.clone(), group.protocol_type.clone(), coordinator]);
        }
        output.table(&table)?;
        Ok(Exit::failed_if(failed))
    })
}

impl ListArgs {
    fn shows(&self, group: &Listed) -> bool {
        let is_simple = group.kind == "classic" && group.protocol_type.is_empty();
        let of_kind = |kind: &&str| group.kind.eq_ignore_ascii_case(kind) || (*kind == "simple" && is_simple);
        (self.state.is_empty() || self.state.iter().any(|state| group.state.eq_ignore_ascii_case(state)))
            && (self.kind.is_empty() || self.kind.iter().any(of_kind))
    }
}

/// The groups that are meant and are there; what is missing or cannot be asked is said.
pub(super) async fn views(
    source: &Source,
    named: &[String],
    output: &mut Output,
) -> anyhow::Result<(Vec<GroupView>, bool)> {
    let (names, mut failed) = source.names(named, output).await;
    let mut views = Vec::new();
    let described = source.describe_all(&names).await;
    for (name, described) in names.iter().zip(described) {
        match described {
            Ok(Some(view)) => views.push(view),
            // One that was listed may have gone meanwhile.
            Ok(None) if named.is_empty() => {}
            Ok(None) => {
                failed = true;
                output.error(format_args!("group {name} does not exist"));
            }
            Err(error) => {
                failed = true;
                output.error(format_args!("{error:#}"));
            }
        }
    }
    Ok((views, failed))
}

/// Prints everything there is to know.
pub(super) fn describe(args: &DescribeArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let named = args.which.named()?;
    block_on(0, async {
        let source = Source::open(&args.connection, output).await?;
        let (views, mut failed) = views(&source, named, output).await?;
        let (progress, some_failed) = source.progress(&views, output).await?;
        failed |= some_failed;
        for (index, (view, progress)) in views.iter().zip(progress).enumerate() {
            if args.json {
                let mut object = serde_json::to_value(view)?;
                object["offsets"] = serde_json::to_value(&progress)?;
                output.json(&object)?;
                continue;
            }
            if index > 0 {
                output.line("")?;
            }
            output.line(headline(view))?;
            output.table(&member_table(std::slice::from_ref(view)))?;
            output.table(&progress_table(&progress, false))?;
        }
        Ok(Exit::failed_if(failed))
    })
}

fn headline(view: &GroupView) -> String {
    let mut line = format!("group {}: {}, {}", view.group, view.kind, view.state);
    if !view.assignor.is_empty() {
        line += &format!(", assignor {}", view.assignor);
    }
    if let (Some(epoch), Some(assigned)) = (view.epoch, view.assignment_epoch) {
        line += &format!(", epoch {epoch}");
        if assigned != epoch {
            line += &format!(" (assignment of epoch {assigned})");
        }
    }
    if let Some(coordinator) = view.coordinator {
        line += &format!(", coordinator {coordinator}");
    }
    match view.members.len() {
        1 => line + ", 1 member",
        count => line + &format!(", {count} members"),
    }
}

/// Prints one line a member.
pub(super) fn members(args: &MembersArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let named = args.which.named()?;
    block_on(0, async {
        let source = Source::open(&args.connection, output).await?;
        let (views, failed) = views(&source, named, output).await?;
        if !args.json {
            output.table(&member_table(&views))?;
            return Ok(Exit::failed_if(failed));
        }
        for view in &views {
            for member in &view.members {
                let mut object = serde_json::json!({ "group": view.group });
                if let (Some(object), serde_json::Value::Object(fields)) =
                    (object.as_object_mut(), serde_json::to_value(member)?)
                {
                    object.extend(fields);
                }
                output.json(&object)?;
            }
        }
        Ok(Exit::failed_if(failed))
    })
}

fn member_table(views: &[GroupView]) -> Table {
    let mut table =
        Table::new(["GROUP", "MEMBER", "INSTANCE", "CLIENT", "HOST", ">EPOCH", ">COUNT", "ASSIGNED"]);
    for view in views {
        for member in &view.members {
            table.row(member_row(&view.group, member));
        }
    }
    table
}

fn member_row(group: &str, member: &MemberView) -> [String; 8] {
    let count: usize = member.assignment.values().map(Vec::len).sum();
    let mut assigned = in_words(&member.assignment);
    if let Some(target) = &member.target {
        assigned += &format!(" -> {}", in_words(target));
    }
    [
        group.to_owned(),
        member.member.clone(),
        member.instance.clone().unwrap_or_default(),
        member.client.clone(),
        member.host.trim_start_matches('/').to_owned(),
        member.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        count.to_string(),
        assigned,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_taken_as_people_write_them() {
        assert_eq!(parse_state("preparing-rebalance"), Ok("PreparingRebalance"));
        assert_eq!(parse_state("Empty"), Ok("Empty"));
        assert!(parse_state("asleep").unwrap_err().contains("Stable"));
        assert_eq!(parse_type("Consumer"), Ok("consumer"));
        assert!(parse_type("x").is_err());
    }
}
