//! `klamm cluster`: the nodes of a cluster and its quorum, its features, and what changes them.
//!
//! `nodes.rs` shows brokers, and unregisters one; `quorum.rs` shows the voters and observers of the metadata log, and
//! adds and removes voters; `features.rs` shows and changes features; `elect.rs` has leaders elected.

mod elect;
mod features;
mod nodes;
mod quorum;

use clap::Subcommand;

use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// Show the nodes, quorum and features of a cluster, and change them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster nodes
  klamm cluster quorum --json
  klamm cluster features
  klamm cluster elect-leaders
  klamm cluster unregister 3 --execute")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Nodes(nodes::Args),
    Quorum(quorum::Args),
    AddVoter(quorum::AddArgs),
    RemoveVoter(quorum::RemoveArgs),
    Features(features::Args),
    SetFeature(features::SetArgs),
    ElectLeaders(elect::Args),
    Unregister(nodes::UnregisterArgs),
}

/// Runs the action.
///
/// # Errors
/// Where the cluster cannot be asked, or refuses.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::Nodes(args) => nodes::show(&args, output),
        Action::Quorum(args) => quorum::show(&args, output),
        Action::AddVoter(args) => quorum::add(&args, output),
        Action::RemoveVoter(args) => quorum::remove(&args, output),
        Action::Features(args) => features::show(&args, output),
        Action::SetFeature(args) => features::set(&args, output),
        Action::ElectLeaders(args) => elect::run(&args, output),
        Action::Unregister(args) => nodes::unregister(&args, output),
    }
}
