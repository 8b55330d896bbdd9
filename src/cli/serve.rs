//! `klamm serve`: one broker in the foreground.
//!
//! Prints one line on stdout when it accepts connections and talks on stderr. SIGTERM, SIGHUP and SIGINT stop it in
//! order: what was read is answered, logs are flushed, the directory is marked clean. Further signals meanwhile
//! change nothing, as in Kafka: `timeout` and impatient supervisors send more than one.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context, anyhow};

use crate::cli::args::parse_property;
use crate::cli::exit::{Exit, Signals, usage};
use crate::cli::output::Output;
use crate::config::{BrokerConfig, Layers, properties};
use crate::observe;
use crate::server::{Broker, BrokerOptions, StartError};
use crate::storage::DirectoryError;
use crate::storage::disk::{LockError, return_large_allocations};

/// Run a broker until it is told to stop
///
/// Accepts clients of Apache Kafka on a log directory of Apache Kafka's format, which is made where it is
/// missing. Prints `ready node=… listener=…` on stdout once it serves; log lines go to stderr, chosen by
/// KLAMM_LOG (error, warn, info, debug).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm serve -d /var/lib/klamm
  klamm serve -d data --listen 127.0.0.1:0 --listen unix:/run/klamm.sock
  klamm serve -d /disk1 -d /disk2 --listen 0.0.0.0:9092 --advertise kafka.example.org:9092
  klamm serve -d n1 --node 1 --listen 127.0.0.1:9092 --quorum 1@127.0.0.1:9192,2@127.0.0.1:9193,3@127.0.0.1:9194
  klamm serve --config server.properties --set log.retention.hours=24")]
pub struct Args {
    /// Log directory; repeated for several disks, the first holds the metadata [env: KLAMM_DIR]
    #[arg(short, long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Where to listen, unix:PATH too; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,

    /// What clients are told to connect to
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,

    /// The node's id; a directory that has one keeps it [default: 1]
    #[arg(long, value_name = "ID")]
    node: Option<i32>,

    /// The voters of the quorum, this node among them or not; the node's own entry is its controller listener
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    quorum: Option<String>,

    /// The id of a new cluster [default: drawn; of several voters, made of their list]
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,

    /// A server.properties of Apache Kafka
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set a broker configuration by Kafka's name; beats the file
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_property)]
    settings: Vec<(String, String)>,
}

/// Serves until a signal comes.
///
/// # Errors
/// A usage mistake, or why the broker cannot start.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    observe::log_to_stderr("info");
    return_large_allocations();
    let layers = args.layers(|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
    let (config, warnings) = BrokerConfig::load(layers).map_err(|error| usage(error.to_string()))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let workers = available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("serve")
        .enable_all()
        .build()?;
    let exit = runtime.block_on(serve(config, output));
    // A thread that still recovers must not hold up an exit that a signal during the start has asked for.
    runtime.shutdown_background();
    exit
}

async fn serve(config: BrokerConfig, output: &mut Output) -> anyhow::Result<Exit> {
    let mut signals = Signals::all()?;
    let broker = tokio::select! {
        started = Broker::start(BrokerOptions::new(config)) => started.map_err(refused)?,
        exit = signals.next() => return Ok(exit),
    };
    output.line(broker.ready())?;
    output.flush_all()?;
    let exit = tokio::select! {
        exit = signals.next() => exit,
        () = broker.failed() => return Err(anyhow!("no disk is left to serve from; the next start will recover")),
    };
    tokio::select! {
        stopped = broker.shutdown() => {
            stopped.context("the directory could not be marked clean; the next start will recover it")?;
            Ok(exit)
        }
        () = ignore(&mut signals) => Ok(exit),
    }
}

/// Why the broker did not start, and what to do where another one runs.
fn refused(error: StartError) -> anyhow::Error {
    match error {
        StartError::Directory(DirectoryError::Lock(held @ LockError::Held { .. })) => {
            anyhow!("{held}: stop that one first, or serve another directory")
        }
        error => error.into(),
    }
}

/// Says of each further signal that it changes nothing; never resolves.
async fn ignore(signals: &mut Signals) {
    loop {
        signals.next().await;
        tracing::warn!("the broker is stopping already; only SIGKILL ends it at once, and unclean");
    }
}

impl Args {
    fn layers(self, environment: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Layers> {
        let mut dirs = self.dirs;
        if dirs.is_empty() && self.config.is_none() {
            match (environment("KLAMM_DIR"), environment("KLAMM_BOOTSTRAP")) {
                (Some(_), Some(_)) => {
                    return Err(usage(
                        "KLAMM_DIR and KLAMM_BOOTSTRAP are both set: say which directory to serve with '-d DIR'",
                    ));
                }
                (Some(dir), None) => dirs.push(dir.into()),
                (None, _) => {
                    return Err(usage("which directory? Say '-d DIR', or '--config FILE' with log.dirs"));
                }
            }
        }
        let file = match &self.config {
            None => Vec::new(),
            Some(path) => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                properties::parse(&text).map_err(|error| usage(format!("{}: {error}", path.display())))?
            }
        };
        let (listen, advertise) = (self.listen, self.advertise);
        let (quorum, cluster_id) = (self.quorum, self.cluster_id);
        Ok(Layers {
            file,
            flags: self.settings,
            listen,
            advertise,
            dirs,
            node: self.node,
            quorum,
            cluster_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Usage;

    fn args() -> Args {
        Args {
            dirs: Vec::new(),
            listen: Vec::new(),
            advertise: Vec::new(),
            node: None,
            quorum: None,
            cluster_id: None,
            config: None,
            settings: Vec::new(),
        }
    }

    #[test]
    fn a_directory_is_needed_from_somewhere() {
        let none = |_: &str| None;
        assert!(args().layers(none).unwrap_err().is::<Usage>());
        let from_environment = |name: &str| (name == "KLAMM_DIR").then(|| OsString::from("/d"));
        assert_eq!(args().layers(from_environment).unwrap().dirs, [PathBuf::from("/d")]);
        let both = |_: &str| Some(OsString::from("x"));
        assert!(args().layers(both).unwrap_err().is::<Usage>());
        let flag = Args { dirs: vec!["/flag".into()], ..args() };
        assert_eq!(flag.layers(both).unwrap().dirs, [PathBuf::from("/flag")]);
    }
}
