//! `klamm bench`: what a broker can do, measured from outside. Batches are encoded before the clock runs, one
//! thread drives one blocking socket, and what is sent again is patched in place: so that the broker is what
//! is measured, and any Kafka can be measured alike.
//!
//! `run.rs` drives prepared lanes and takes the time; `produce.rs`, `consume.rs` and `latency.rs` are the
//! lanes; `wire.rs` is the socket, `template.rs` the request encoded beforehand, `report.rs` what is said.

mod consume;
mod latency;
mod process;
mod produce;
mod report;
mod run;
mod setup;
mod template;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::cli::args::{Connection, Target, WHERE_TO};
use crate::cli::embedded::Embedded;
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::types::{ByteSize, parse_duration};

use report::Report;

/// How long a run takes that nothing else ends.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Measure a broker: throughput, latency, processor time and memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm bench produce events --batch 128 --record-size 100 --depth 8 --pid \"$(pgrep -n klamm)\"
  klamm bench produce events -d /tmp/events --duration 5s
  klamm bench consume events --repeat --duration 10s --json
  klamm bench latency events --rate 1000 --end-to-end")]
pub struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Produce(produce::Args),
    Consume(consume::Args),
    Latency(latency::Args),
}

/// What the three share.
#[derive(Debug, Clone, clap::Args)]
struct Shared {
    /// Topics that exist; connections are dealt over all their partitions
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Sockets, each with a thread of its own
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    connections: usize,

    /// Run for so long, not counting the warm-up [default: 10s, unless another end is given]
    #[arg(short = 't', long, value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Run for so long before anything is counted
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,

    /// Touch so much memory first and give it back: on virtual machines fresh memory costs more than a broker
    #[arg(long, value_name = "SIZE")]
    warm_memory: Option<ByteSize>,

    /// Report the processor time and memory of this process, the broker; may be repeated
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,

    /// One JSON object
    #[arg(long)]
    json: bool,

    /// Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]
    #[arg(short, long, value_name = "HOST:PORT[,…]", conflicts_with = "dir", help_heading = WHERE_TO)]
    bootstrap: Option<String>,

    /// Measure a broker in this process on a log directory [env: KLAMM_DIR]
    #[arg(short, long, value_name = "DIR", help_heading = WHERE_TO)]
    dir: Option<PathBuf>,

    /// Give up when no broker answers for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration,
          help_heading = WHERE_TO)]
    timeout: Duration,
}

impl Shared {
    fn connection(&self) -> Connection {
        Connection {
            bootstrap: self.bootstrap.clone(),
            dir: self.dir.clone(),
            timeout: self.timeout,
            x: Vec::new(),
        }
    }
}

/// Runs the one that was asked for.
///
/// # Errors
/// Where the broker cannot be reached, refuses, or breaks off.
pub fn run(mut args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    let shared = args.bench.shared();
    let json = shared.json;
    let report = match shared.connection().target()? {
        Target::Cluster(_) => args.bench.run(output)?,
        Target::Dir(dir) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let (embedded, address) = runtime.block_on(Embedded::listening(&dir))?;
            (shared.bootstrap, shared.dir) = (Some(address), None);
            let report = args.bench.run(output);
            runtime.block_on(embedded.stop())?;
            report?
        }
    };
    report.print(json, output)?;
    Ok(Exit::Done)
}

impl Bench {
    fn shared(&mut self) -> &mut Shared {
        match self {
            Self::Produce(args) => &mut args.shared,
            Self::Consume(args) => &mut args.shared,
            Self::Latency(args) => &mut args.shared,
        }
    }

    fn run(&self, output: &mut Output) -> anyhow::Result<Report> {
        match self {
            Self::Produce(args) => produce::run(args, output),
            Self::Consume(args) => consume::run(args, output),
            Self::Latency(args) => latency::run(args, output),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a number above 0 is expected".to_owned()),
    }
}
