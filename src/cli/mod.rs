//! The command line: one clap tree, shared arguments, one way to print, one table of exit codes.
//!
//! A command is one file with `pub struct Args` (clap derive, its examples as `after_help`) and
//! `pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit>`; [`Command`] lists them all and
//! [`Command::run`] calls them. What a command prints as data goes through [`output::Output`] to stdout; what
//! it says goes through the same to stderr. Nothing else in klamm prints.
//!
//! `man/` and `completions/` are made from this tree; `tests/it/manual.rs` fails when they are stale.

pub mod args;
pub mod audit;
pub mod bench;
pub mod brokers;
pub mod cluster;
pub mod configs;
pub mod consume;
pub mod directory;
pub mod dump_segment;
pub mod embedded;
pub mod exit;
pub mod format;
pub mod groups;
pub mod log_dirs;
pub mod offsets;
pub mod output;
pub mod partitions;
pub mod produce;
pub mod queries;
pub mod reassign;
pub mod serve;
pub mod topics;
pub mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::exit::{Exit, StdoutClosed, Usage};
use crate::cli::output::Output;

/// Apache Kafka's core as one Unix program.
///
/// One binary: a broker on Kafka's own log directories and wire protocol, and the tools around it. Every
/// command talks to any Kafka cluster with -b, or works on a log directory with -d and no server at all.
#[derive(Debug, Parser)]
#[command(
    name = "klamm",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Where to: -b HOST:PORT[,…] (or KLAMM_BOOTSTRAP) a cluster, -d DIR (or KLAMM_DIR) a log directory; neither: \
localhost:9092.
Exit codes: 0 done, 1 failed in whole or in part, 2 wrong usage, 3 damage or mismatch found, 4 the condition \
asked for does not hold, 130 interrupted.

Examples:
  klamm topics list
  klamm topics create orders -p 6 -b kafka1:9092
  klamm topics describe orders -d /var/lib/klamm --json"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command, in the order in which `--help` shows them.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Produce(Box<produce::Args>),
    Consume(Box<consume::Args>),
    DumpSegment(dump_segment::Args),
    Verify(verify::Args),
    Audit(audit::Args),
    Topics(topics::Args),
    Configs(configs::Args),
    Offsets(offsets::Args),
    Groups(groups::Args),
    LogDirs(log_dirs::Args),
    Reassign(reassign::Args),
    Cluster(cluster::Args),
    Bench(bench::Args),
}

impl Command {
    fn run(self, output: &mut Output) -> anyhow::Result<Exit> {
        match self {
            Self::Serve(args) => serve::run(args, output),
            Self::Produce(args) => produce::run(&args, output),
            Self::Consume(args) => consume::run(&args, output),
            Self::DumpSegment(args) => dump_segment::run(args, output),
            Self::Verify(args) => verify::run(&args, output),
            Self::Audit(args) => audit::run(&args, output),
            Self::Topics(args) => topics::run(args, output),
            Self::Configs(args) => configs::run(args, output),
            Self::Offsets(args) => offsets::run(args, output),
            Self::Groups(args) => groups::run(args, output),
            Self::LogDirs(args) => log_dirs::run(&args, output),
            Self::Reassign(args) => reassign::run(args, output),
            Self::Cluster(args) => cluster::run(args, output),
            Self::Bench(args) => bench::run(args, output),
        }
    }
}

/// The whole tree, unbuilt: what the manual pages and completions are made from.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that `args` (the program's name first) ask for, and says what the shell shall see.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return print_clap(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return print_clap(&error),
    };
    let mut output = Output::new();
    let mut outcome = cli.command.run(&mut output);
    // What is still buffered belongs to the reader, whatever the outcome is.
    if let Err(error) = output.flush_all() {
        outcome = outcome.and(Err(error.into()));
    }
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => judge(&error, &matches, &mut output),
    }
}

/// The exit code of an error, after saying it where anyone shall hear of it.
fn judge(error: &anyhow::Error, matches: &ArgMatches, output: &mut Output) -> ExitCode {
    if StdoutClosed::is_in(error) {
        return Exit::Done.into();
    }
    if let Some(Usage(message)) = error.downcast_ref::<Usage>() {
        return print_clap(&as_clap_error(matches, message));
    }
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return (*exit).into();
    }
    output.error(in_one_line(error));
    Exit::Failed.into()
}

/// An error with its causes, those left out that the text before them already says.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.is_empty() {
        true => cause,
        false if said.contains(&cause) => said,
        false => format!("{said}: {cause}"),
    })
}

/// A usage mistake that clap could not see, in clap's own style, with the usage line of the right command.
fn as_clap_error(matches: &ArgMatches, message: &str) -> clap::Error {
    let mut command = command();
    command.build();
    let mut level = matches;
    while let Some((name, below)) = level.subcommand() {
        if let Some(next) = command.find_subcommand(name).cloned() {
            command = next;
        }
        level = below;
    }
    command.error(ErrorKind::ValueValidation, message)
}

fn print_clap(error: &clap::Error) -> ExitCode {
    // Where even this cannot be printed there is nobody left to tell.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}
