//! `klamm verify`: whether the files of a log directory are sound, every byte of them.
//!
//! Reads only, unless it is to repair; a directory may be in use. What a running broker changes under the reader is
//! looked at again before it is called damage.

mod known;
mod pass;
mod repair;
mod report;
mod workers;

use std::path::PathBuf;

use crate::cli::exit::{Exit, usage};
use crate::cli::output::Output;
pub use crate::cli::verify::pass::{Checked, Pass};

/// Check the files of log directories, every byte.
///
/// Any directory of klamm or Apache Kafka, stopped in order, killed or in use: every batch (checksum, offsets, counts,
/// records, what is compressed), leader epochs, producers' sequences, every entry of every index, aborted
/// transactions, snapshots, checkpoints and names, on all cores. A partition's folder or a single file may be given
/// too: the directory around it is consulted. Give all directories of a broker at once, so that each is held against
/// the metadata log in the first.
///
/// One finding a line, with file, position, offset, what it is, and what recovery or a repair makes of it. Damage is
/// what no start mends, or does not mend in silence; in a directory that was stopped in order, anything that is off. A
/// note is what the next start takes care of: bytes behind the last whole batch, indexes that were not cut. In a log
/// that was compacted, a base offset that was changed and keeps the order cannot be seen.
///
/// --repair does what recovery does, under the directory's lock, but never drops a byte that is sound: of a bad batch
/// with sound ones behind it only the bad one goes, and its offsets get an empty batch. What goes is kept in .kept files
/// beside its own. Replicas of a damaged partition are a better remedy, where there are any: then delete its folder.
///
/// Exit code 3: damage was found, or is left after a repair.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm verify /var/lib/klamm
  klamm verify /data/1 /data/2 --json | jq 'select(.severity == \"damage\")'
  klamm verify /var/lib/klamm/orders-0
  klamm verify /backup/orders-0/00000000000000000000.log && echo sound
  klamm verify /var/lib/klamm --repair")]
pub struct Args {
    /// Log directories, folders of partitions, or files in one
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// One JSON object a line: a finding, or what a directory comes to
    #[arg(long)]
    json: bool,

    /// Mend what can be mended, as recovery does; what goes is kept in .kept files. The directory must not be in use
    #[arg(long)]
    repair: bool,

    /// Leave notes out
    #[arg(short, long)]
    quiet: bool,

    /// Threads that read; as many as there are cores unless given
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
}

/// Checks what the arguments name.
///
/// # Errors
/// Wrong usage, or stdout that takes no more.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if args.threads == Some(0) {
        return Err(usage("'--threads': at least one thread has to read"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores);
    let shown = report::Shown { json: args.json, quiet: args.quiet };
    if args.repair {
        return match args.paths.as_slice() {
            [path] => repair::run(path, threads, shown, output),
            _ => Err(usage("'--repair' mends one directory at a time")),
        };
    }
    let mut pass = Pass::new(threads);
    for path in &args.paths {
        pass.add(path);
    }
    let checked = pass.run(output);
    report::conclude(&checked, &pass, shown, output)
}
