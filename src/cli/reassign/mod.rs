//! `klamm reassign`: which brokers keep which partitions, planned, carried out, watched and taken back.
//!
//! `assignment.rs` reads and prints Kafka's own JSON; `planner.rs` decides where replicas go, and `balance.rs` evens out
//! what is there, both without asking anybody; `facts.rs` asks the cluster what is under way, `why.rs` says what it waits
//! for; `throttle.rs` sets and removes the limits. `plan.rs`, `run.rs`, `status.rs` and `cancel.rs` are the commands.

mod assignment;
mod balance;
mod cancel;
mod facts;
mod plan;
mod planner;
mod run;
mod status;
mod throttle;
mod watch;
mod why;

use clap::Subcommand;

pub use assignment::parse as read_assignment;

use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// Move partitions between brokers: plan, run, watch, cancel.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm reassign plan --decommission 3 > plan.json
  klamm reassign run plan.json --throttle 50MiB
  klamm reassign run orders:0=1,2,3
  klamm reassign status
  klamm reassign cancel orders --execute")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Plan(plan::Args),
    Run(run::Args),
    Status(status::Args),
    Cancel(cancel::Args),
}

/// Runs the action.
///
/// # Errors
/// Where the cluster cannot be asked, or what is wished cannot be meant.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::Plan(args) => plan::run(&args, output),
        Action::Run(args) => run::run(&args, output),
        Action::Status(args) => status::run(&args, output),
        Action::Cancel(args) => cancel::run(&args, output),
    }
}

/// `1,2,3`.
fn ids(brokers: &[i32]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
