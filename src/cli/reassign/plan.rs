//! `reassign plan`: Kafka's reassignment JSON on stdout, and for people on stderr what would move.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::args::Connection;
use crate::cli::brokers::{self, RegisteredBroker};
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::{Partitions, expand};
use crate::client::{Cluster, ClusterMetadata, Topics};
use crate::types::{BrokerId, ByteSize, TopicPartition};

use super::assignment::to_json;
use super::facts::Sizes;
use super::ids;
use super::planner::{self, Broker, Change, Placed, Role, Wishes};

/// Lines of the table before the rest is only counted.
const ROWS_MAX: usize = 100;

/// Plan where partitions go: the least that must move.
///
/// Prints Kafka's reassignment JSON, for 'klamm reassign run' or kafka-reassign-partitions, and on stderr what it
/// comes to. Nothing is changed. A replica that may stay where it is does; without --decommission, --replication-factor
/// or --brokers (or with --balance) replicas are evened out over brokers, topic by topic, and preferred leaders too.
/// Replicas of a partition go to different racks where there are enough; a broker that is down gets nothing new.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm reassign plan > plan.json
  klamm reassign plan --decommission 3 | klamm reassign run - --throttle 50MiB
  klamm reassign plan orders --replication-factor 3
  klamm reassign plan orders:0-5 --brokers 4,5,6")]
pub(super) struct Args {
    /// Topics and partitions: orders, orders:0,2-4 [default: all, internal ones too]
    #[arg(value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Partitions>,

    /// Give each partition so many replicas
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replication_factor: Option<u16>,

    /// Leave nothing on this broker; may be repeated
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    decommission: Vec<i32>,

    /// Use these brokers only [default: all]
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "decommission")]
    brokers: Vec<i32>,

    /// Even out what could stay as well
    #[arg(long)]
    balance: bool,

    /// Do not look at racks
    #[arg(long)]
    ignore_racks: bool,

    /// Only the JSON, nothing on stderr
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Prints the plan.
pub(super) fn run(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let (_, registered) = brokers::registered(&cluster).await?;
        let brokers = roles(args, &registered)?;
        let metadata = cluster.metadata(Topics::All).await?;
        let Some(placed) = placed(args, &cluster, &metadata, output).await else {
            return Ok(Exit::Failed);
        };
        let wishes = Wishes {
            replication_factor: args.replication_factor.map(usize::from),
            balances: args.balance || args.wishes_nothing(),
            ignores_racks: args.ignore_racks,
        };
        let changes = planner::plan(&placed, &brokers, wishes)?;
        let assignments = changes.iter().map(|change| (&change.partition, change.to.as_slice()));
        output.json(&to_json(assignments))?;
        if !args.quiet {
            explain(&placed, &brokers, &changes, output);
        }
        Ok(Exit::Done)
    })
}

impl Args {
    fn wishes_nothing(&self) -> bool {
        self.replication_factor.is_none() && self.decommission.is_empty() && self.brokers.is_empty()
    }
}

/// What each broker is good for.
fn roles(args: &Args, registered: &BTreeMap<i32, RegisteredBroker>) -> anyhow::Result<Vec<Broker>> {
    for id in args.decommission.iter().chain(&args.brokers) {
        if !registered.contains_key(id) {
            let there: Vec<i32> = registered.keys().copied().collect();
            return Err(anyhow::anyhow!("there is no broker {id}: the cluster has {}", ids(&there)));
        }
    }
    let role = |broker: &RegisteredBroker| {
        let leaves = args.decommission.contains(&broker.id)
            || (!args.brokers.is_empty() && !args.brokers.contains(&broker.id));
        match (leaves, broker.is_fenced) {
            (true, _) => Role::Leaves,
            (false, true) => Role::Keeps,
            (false, false) => Role::Takes,
        }
    };
    let brokers = registered.values();
    let brokers: Vec<Broker> = brokers
        .map(|broker| Broker { id: broker.id, rack: broker.rack.clone(), role: role(broker) })
        .collect();
    if !brokers.iter().any(|broker| broker.role == Role::Takes) {
        return Err(usage("no broker is left that could keep anything"));
    }
    Ok(brokers)
}

/// All partitions, those marked that are meant; `None` where something that is asked for is not there.
async fn placed(
    args: &Args,
    cluster: &Cluster,
    metadata: &ClusterMetadata,
    output: &mut Output,
) -> Option<Vec<Placed>> {
    let of_topic = |topic: &str| {
        let topic = metadata.topics.get(topic)?;
        Some(topic.partitions.iter().map(|one| one.partition).collect::<Vec<_>>())
    };
    let (meant, complete) = expand(&args.topics, of_topic, output);
    let meant: BTreeSet<TopicPartition> = meant.into_iter().collect();
    let mut placed = Vec::new();
    for topic in metadata.topics.values() {
        let Ok(name) = crate::types::TopicName::new(&topic.name) else { continue };
        for one in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), one.partition);
            placed.push(Placed {
                is_planned: args.topics.is_empty() || meant.contains(&partition),
                partition,
                replicas: one.replicas.iter().map(|id| id.0).collect(),
                size_bytes: 0,
            });
        }
    }
    let alive: Vec<BrokerId> = metadata.brokers.keys().copied().collect();
    let sizes = Sizes::ask(cluster, alive, placed.iter().map(|one| &one.partition)).await;
    for (broker, why) in &sizes.troubles {
        output.warn(format_args!("sizes are not known in full: broker {broker}: {why}"));
    }
    for one in &mut placed {
        let known = metadata.topics.get(one.partition.topic.as_str());
        let leader = known.and_then(|topic| topic.partition(one.partition.partition)?.leader);
        one.size_bytes = sizes.of_partition(&one.partition, leader.map(|leader| leader.0));
    }
    complete.then_some(placed)
}

/// Says what moves, and what brokers have before and after.
fn explain(placed: &[Placed], brokers: &[Broker], changes: &[Change], output: &mut Output) {
    if changes.is_empty() {
        output.say("nothing has to move");
        return;
    }
    let mut table = Table::new(["TOPIC", ">PARTITION", "FROM", "TO", ">COPIES", ">SIZE"]);
    for change in changes.iter().take(ROWS_MAX) {
        table.row([
            change.partition.topic.to_string(),
            change.partition.partition.to_string(),
            ids(&change.from),
            ids(&change.to),
            change.adding().count().to_string(),
            ByteSize(change.copied_bytes()).to_string(),
        ]);
    }
    output.say_table(&table);
    if changes.len() > ROWS_MAX {
        output.say(format_args!("… and {} more", changes.len() - ROWS_MAX));
    }
    output.say_table(&by_broker(placed, brokers, changes));
    let copies: usize = changes.iter().map(|change| change.adding().count()).sum();
    let bytes: u64 = changes.iter().map(Change::copied_bytes).sum();
    output.say(format_args!(
        "{} of {} partitions change, {copies} replicas are copied, {}",
        changes.len(),
        placed.len(),
        ByteSize(bytes)
    ));
}

#[derive(Debug, Default)]
struct Share {
    before: usize,
    after: usize,
    leads: usize,
    will_lead: usize,
    incoming_bytes: u64,
}

fn by_broker(placed: &[Placed], brokers: &[Broker], changes: &[Change]) -> Table {
    let mut shares: BTreeMap<i32, Share> =
        brokers.iter().map(|broker| (broker.id, Share::default())).collect();
    let changed: BTreeMap<&TopicPartition, &Change> =
        changes.iter().map(|change| (&change.partition, change)).collect();
    for one in placed {
        let change = changed.get(&one.partition);
        let after = change.map_or(&one.replicas, |change| &change.to);
        for (place, id) in one.replicas.iter().enumerate() {
            let share = shares.entry(*id).or_default();
            share.before += 1;
            share.leads += usize::from(place == 0);
        }
        for (place, id) in after.iter().enumerate() {
            let share = shares.entry(*id).or_default();
            share.after += 1;
            share.will_lead += usize::from(place == 0);
        }
        for id in change.iter().flat_map(|change| change.adding()) {
            shares.entry(id).or_default().incoming_bytes += one.size_bytes;
        }
    }
    let mut table = Table::new([">BROKER", "RACK", ">REPLICAS", ">AFTER", ">LEADERS", ">AFTER", ">INCOMING"]);
    for (id, share) in shares {
        let rack = brokers.iter().find(|broker| broker.id == id).and_then(|broker| broker.rack.clone());
        table.row([
            id.to_string(),
            rack.unwrap_or_default(),
            share.before.to_string(),
            share.after.to_string(),
            share.leads.to_string(),
            share.will_lead.to_string(),
            ByteSize(share.incoming_bytes).to_string(),
        ]);
    }
    table
}
