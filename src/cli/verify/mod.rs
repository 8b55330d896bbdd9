//! `klamm verify`: whether the files of a log directory are sound, every byte of them; with `-b`, whether the replicas
//! in a cluster hold the same (`replicas/`).
//!
//! Reads only, unless it is to repair; a directory may be in use. What a running broker changes under the reader is
//! looked at again before it is called damage.

mod known;
mod pass;
mod repair;
mod replicas;
mod report;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::{Exit, usage};
use crate::cli::output::Output;
pub use crate::cli::verify::pass::{Checked, Pass};
use crate::storage::{Disk, RealDisk};
use crate::types::{TopicName, parse_duration};

/// Check the files of log directories, every byte; or that the replicas in a cluster hold the same.
///
/// Any directory of klamm or Apache Kafka, stopped in order, killed or in use: every batch (checksum, offsets, counts,
/// records, what is compressed), leader epochs, producers' sequences, every entry of every index, aborted
/// transactions, snapshots, checkpoints and names, on all cores. A partition's folder or a single file may be given
/// too: the directory around it is consulted. Give all directories of a node at once: they are held against each other
/// and against the metadata log in one of them, which says what should be there. Where that is not among them, what is
/// missing cannot be seen.
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
/// With -b the replicas of each partition are read from their own brokers, klamm's or Apache Kafka's, while everything
/// goes on, and compared from the first offset that all have up to the high watermark as it is at the beginning. They
/// must hold the same batches, byte for byte, each with a sound checksum. Replicas of a compacted topic clean alone: of
/// these the records at the same offset must be the same, and the last record of each key must be in all of them; a
/// record that is missing and was written again later cannot be told from one that was cleaned away. The log may begin
/// elsewhere in each replica: retention is no difference. A topic that was compacted before and is no more may show
/// differences that are none.
///
/// Exit code 3: damage was found, or is left after a repair; replicas differ. 1: something could not be looked at, such
/// as a replica whose broker is down.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm verify /var/lib/klamm
  klamm verify /data/1 /data/2 --json | jq 'select(.severity == \"damage\")'
  klamm verify /var/lib/klamm/orders-0
  klamm verify /backup/orders-0/00000000000000000000.log && echo sound
  klamm verify /var/lib/klamm --repair
  klamm verify -b kafka1:9092
  klamm verify -b kafka1:9092 orders payments --json")]
pub struct Args {
    /// Log directories, folders of partitions, or files in one; with -b topics [default: all]
    #[arg(value_name = "PATH|TOPIC", required_unless_present = "bootstrap")]
    paths: Vec<PathBuf>,

    /// Compare the replicas in this cluster
    #[arg(short, long, value_name = "HOST:PORT[,…]", conflicts_with = "repair")]
    bootstrap: Option<String>,

    /// One JSON object a line: a finding, or what a directory comes to
    #[arg(long)]
    json: bool,

    /// Mend what can be mended, as recovery does; what goes is kept in .kept files. No directory may be in use
    #[arg(long)]
    repair: bool,

    /// Leave notes out; with -b, what is the same
    #[arg(short, long)]
    quiet: bool,

    /// Threads that read, as many as there are cores unless given; with -b, partitions at a time [default: 8]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,

    /// With -b: give up when no broker answers for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,

    /// With -b: set a client property by its Java name or librdkafka's
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = replicas::property)]
    x: Vec<(String, String)>,
}

/// Checks what the arguments name.
///
/// # Errors
/// Wrong usage, or stdout that takes no more.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    if args.threads == Some(0) {
        return Err(usage("'--threads': at least one thread has to read"));
    }
    if let Some(bootstrap) = &args.bootstrap {
        return compare(args, bootstrap, output);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores);
    let shown = report::Shown { json: args.json, quiet: args.quiet };
    if args.repair {
        let real: Arc<dyn Disk> = RealDisk::new();
        return repair::run(&real, &args.paths, threads, shown, output);
    }
    let mut pass = Pass::new(threads);
    for path in &args.paths {
        pass.add(path);
    }
    let checked = pass.run(output);
    report::conclude(&checked, &pass, shown, output)
}

/// Mends what can be mended in a log directory on `disk`, or in a partition's folder, and checks it again.
///
/// # Errors
/// The directory is in use, or the disk failed.
pub fn repair(disk: &Arc<dyn Disk>, path: &Path, output: &mut Output) -> anyhow::Result<Exit> {
    repair::run(disk, &[path.to_owned()], 1, report::Shown { json: false, quiet: true }, output)
}

/// The other half of the command: replicas in a cluster.
fn compare(args: &Args, bootstrap: &str, output: &mut Output) -> anyhow::Result<Exit> {
    let topics: Vec<String> = args.paths.iter().map(|topic| topic.display().to_string()).collect();
    for topic in &topics {
        TopicName::new(topic)
            .map_err(|error| usage(format!("{topic:?}: with '-b' topics are meant: {error}")))?;
    }
    let wish = replicas::Wish {
        bootstrap,
        topics: &topics,
        properties: &args.x,
        timeout: args.timeout,
        at_once: args.threads,
        json: args.json,
        quiet: args.quiet,
    };
    replicas::run(wish, output)
}
