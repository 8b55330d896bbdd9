//! `klamm topics`: list, describe, create, alter and delete topics.
//!
//! `view.rs` is what is known of topics, read from a cluster or (by `cli/directory.rs`) from a directory;
//! `show.rs` prints it; `change.rs` creates, alters and deletes.

mod change;
mod show;
mod view;

use clap::Subcommand;
use regex::Regex;

use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::partitions::no_such_topic;

pub use view::{PartitionView, TopicView};

/// List, describe, create, alter and delete topics.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm topics list
  klamm topics describe orders --json
  klamm topics create orders -p 6 --config retention.ms=86400000")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(show::ListArgs),
    Describe(show::DescribeArgs),
    Create(change::CreateArgs),
    Alter(change::AlterArgs),
    Delete(change::DeleteArgs),
}

/// Runs the action.
///
/// # Errors
/// Where the cluster or the directory cannot be asked at all.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::List(args) => show::list(&args, output),
        Action::Describe(args) => show::describe(&args, output),
        Action::Create(args) => change::create(&args, output),
        Action::Alter(args) => change::alter(&args, output),
        Action::Delete(args) => change::delete(&args, output),
    }
}

/// Which of the topics there are.
#[derive(Debug, Clone, clap::Args)]
pub struct Selection {
    /// Topics by name [default: all but internal ones]
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,

    /// Topics whose whole name matches, by RE2 syntax
    #[arg(short = 'e', long, value_name = "REGEX", value_parser = whole_name)]
    regex: Option<Regex>,

    /// Internal topics too, such as __consumer_offsets
    #[arg(long)]
    internal: bool,
}

impl Selection {
    /// Of the topics there are (name, whether internal) those that are meant, and the names that are not there.
    fn choose<'a>(&self, existing: impl IntoIterator<Item = (&'a str, bool)>) -> Chosen {
        let mut chosen = Chosen { names: Vec::new(), missing: self.topics.clone() };
        for (name, is_internal) in existing {
            let named = self.topics.iter().any(|topic| topic == name);
            chosen.missing.retain(|topic| topic != name);
            let visible = self.internal || !is_internal;
            let matched = match &self.regex {
                Some(regex) => visible && regex.is_match(name),
                None => visible && self.topics.is_empty(),
            };
            if named || matched {
                chosen.names.push(name.to_owned());
            }
        }
        chosen
    }
}

/// What a [`Selection`] came to.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    names: Vec<String>,
    missing: Vec<String>,
}

impl Chosen {
    /// Names each topic that was asked for and is not there.
    fn complain(&self, output: &mut Output) -> Exit {
        for topic in &self.missing {
            output.error(no_such_topic(topic));
        }
        Exit::failed_if(!self.missing.is_empty())
    }
}

/// A pattern that must match from the first character to the last.
fn whole_name(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(topics: &[&str], regex: Option<&str>, internal: bool) -> (Vec<String>, Vec<String>) {
        let selection = Selection {
            topics: topics.iter().map(ToString::to_string).collect(),
            regex: regex.map(|pattern| whole_name(pattern).unwrap()),
            internal,
        };
        let existing = [("__consumer_offsets", true), ("orders", false), ("orders.eu", false)];
        let chosen = selection.choose(existing);
        (chosen.names, chosen.missing)
    }

    #[test]
    fn names_are_exact_and_patterns_match_whole_names() {
        assert_eq!(choose(&["orders"], None, false).0, ["orders"]);
        assert_eq!(choose(&[], Some("orders"), false).0, ["orders"]);
        assert_eq!(choose(&[], Some("orders.*"), false).0, ["orders", "orders.eu"]);
        assert_eq!(choose(&["orders"], Some(".*eu"), false).0, ["orders", "orders.eu"]);
        assert_eq!(choose(&["a", "orders"], None, false).1, ["a"]);
    }

    #[test]
    fn internal_topics_are_hidden_unless_named_or_asked_for() {
        assert_eq!(choose(&[], None, false).0, ["orders", "orders.eu"]);
        assert_eq!(choose(&[], None, true).0.len(), 3);
        assert_eq!(choose(&["__consumer_offsets"], None, false).0, ["__consumer_offsets"]);
    }
}
