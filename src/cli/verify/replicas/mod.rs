//! `klamm verify -b`: whether the replicas of each partition hold the same, as their brokers serve them, while everything
//! goes on. Works on any cluster whose brokers answer a consumer's Fetch of version 11 or later.
//!
//! `survey.rs` finds what there is, `partition.rs` reads the copies of one partition side by side out of `source.rs`,
//! `batches.rs` and `records.rs` compare them without asking anybody, and `report.rs` says what came of it.

mod batches;
mod partition;
mod read;
mod records;
mod report;
mod source;
mod survey;

use crate::cli::args::parse_property;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::client::{Bootstrap, ClientConfig, Cluster};
use crate::types::TopicPartition;

use partition::{Compared, Partition, Task};
use report::Report;

/// So many partitions are compared at a time, unless told otherwise; each holds a MiB or so of each copy.
const PARTITIONS_AT_ONCE: usize = 8;

/// Which cluster, and what of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) bootstrap: &'a str,
    pub(super) topics: &'a [String],
    pub(super) properties: &'a [(String, String)],
    pub(super) timeout: std::time::Duration,
    pub(super) at_once: Option<usize>,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// Reads a client property.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    parse_property(text)
}

/// Compares.
///
/// # Errors
/// Wrong usage, a cluster that does not answer, or stdout that takes no more.
pub(super) fn run(wish: Wish<'_>, output: &mut Output) -> anyhow::Result<Exit> {
    let bootstrap =
        Bootstrap::parse(wish.bootstrap).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
    let mut config = ClientConfig::default();
    config.client.bootstrap_timeout = wish.timeout;
    let properties = wish.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for note in config.set_all(properties).map_err(|error| usage(format!("'-X': {error}")))? {
        output.warn(note);
    }
    block_on(2, async {
        let cluster = Cluster::connect(bootstrap, config.client).await?;
        compare(&cluster, wish, output).await
    })
}

async fn compare(cluster: &Cluster, wish: Wish<'_>, output: &mut Output) -> anyhow::Result<Exit> {
    let survey = survey::survey(cluster, wish.topics, output).await?;
    let span = |task: &Task| {
        let from = task.copies.iter().map(|copy| copy.1).max().unwrap_or(0);
        u64::try_from(task.end.unwrap_or(from) - from).unwrap_or(0)
    };
    let bar = output.progress(survey.tasks.iter().map(span).sum(), "comparing");
    let mut report = Report::new(wish.json, wish.quiet);
    for (partition, broker, why) in survey.unread {
        report.not_compared(&partition, broker, why, output)?;
    }
    let mut waiting = survey.tasks.into_iter();
    let mut running = tokio::task::JoinSet::new();
    let at_once = wish.at_once.unwrap_or(PARTITIONS_AT_ONCE).max(1);
    loop {
        while running.len() < at_once
            && let Some(task) = waiting.next()
        {
            let name = task.which.partition.clone();
            let partition = Partition::new(cluster.clone(), task, bar.clone());
            running.spawn(async move { (name, partition.run().await) });
        }
        match running.join_next().await {
            Some(done) => {
                let (name, compared): (TopicPartition, Compared) = done?;
                bar.suspend(|| report.take(&name, compared, output))?;
            }
            None => break,
        }
    }
    bar.finish_and_clear();
    let exit = report.conclude(output)?;
    Ok(if exit == Exit::Done { Exit::failed_if(survey.is_incomplete) } else { exit })
}
