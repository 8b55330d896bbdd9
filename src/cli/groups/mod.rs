//! `klamm groups`: consumer groups, who is in them, how far they are, and moving or forgetting their offsets.

mod ask;
mod delete;
mod export;
mod lag;
mod plan;
mod reset;
mod show;
mod source;
mod stored;
mod view;

use clap::Subcommand;

pub use plan::parse_file as read_offsets;

use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// List and describe consumer groups, watch their lag, move and delete their offsets.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm groups list
  klamm groups lag billing --watch
  klamm groups lag --fail-above 10000          # exit 4 where any group is further behind
  klamm groups reset billing orders --to @-1h  # shows what it would change
  klamm groups reset billing orders --to @-1h --execute")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(show::ListArgs),
    Describe(show::DescribeArgs),
    Members(show::MembersArgs),
    Lag(lag::LagArgs),
    Reset(Box<reset::ResetArgs>),
    Delete(delete::DeleteArgs),
    DeleteOffsets(delete::DeleteOffsetsArgs),
    Export(export::ExportArgs),
}

/// Runs the action.
///
/// # Errors
/// Where the cluster or the directory cannot be asked at all.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::List(args) => show::list(&args, output),
        Action::Describe(args) => show::describe(&args, output),
        Action::Members(args) => show::members(&args, output),
        Action::Lag(args) => lag::run(&args, output),
        Action::Reset(args) => reset::run(&args, output),
        Action::Delete(args) => delete::groups(&args, output),
        Action::DeleteOffsets(args) => delete::offsets(&args, output),
        Action::Export(args) => export::run(&args, output),
    }
}
