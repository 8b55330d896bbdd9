//! `cluster nodes` and `cluster unregister`.

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::brokers;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::client::{BrokerError, Topics};
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;

use super::quorum;

/// Show the nodes of the cluster: address, rack, whether the cluster counts on them, what they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A fenced broker is registered and down, or not ready; clusters before Kafka 4.0 do not name it.

Exit code 4: with --fail-if-fenced, a broker is.

Examples:
  klamm cluster nodes
  klamm cluster nodes --json | jq 'select(.fenced)'
  klamm cluster nodes --fail-if-fenced || alert")]
pub(super) struct Args {
    /// Exit with 4 where a broker is fenced
    #[arg(long)]
    fail_if_fenced: bool,

    /// One JSON object a line: node, host, port, rack, state, fenced, quorum, replicas, leaders
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Remove a broker that is gone for good from the cluster's registrations.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A broker that runs registers itself again. Move its partitions away first: 'klamm reassign plan --decommission ID'.

Examples:
  klamm cluster unregister 3             # shows what it would do
  klamm cluster unregister 3 --execute")]
pub(super) struct UnregisterArgs {
    /// The broker
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: i32,

    /// Do it; without this only what would be done is shown
    #[arg(long)]
    execute: bool,

    /// One JSON object: broker, replicas, unregistered
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Prints the nodes.
pub(super) fn show(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let (cluster_id, registered) = brokers::registered(&cluster).await?;
        let metadata = cluster.metadata(Topics::All).await?;
        let quorum = match quorum::describe(&cluster).await {
            Ok(quorum) => Some(quorum),
            Err(error) => {
                output.warn(format_args!("the quorum is not known: {error}"));
                None
            }
        };
        let partitions = || metadata.topics.values().flat_map(|topic| &topic.partitions);
        let mut table = Table::new([">NODE", "ADDRESS", "RACK", "STATE", "QUORUM", ">REPLICAS", ">LEADERS"]);
        for broker in registered.values() {
            let is_it = |id: &crate::types::BrokerId| id.0 == broker.id;
            let replicas = partitions().filter(|one| one.replicas.iter().any(is_it)).count();
            let leaders = partitions().filter(|one| one.leader.as_ref().is_some_and(is_it)).count();
            let role = quorum.as_ref().and_then(|quorum| quorum.role(broker.id));
            let state = if broker.is_fenced { "fenced" } else { "active" };
            if args.json {
                output.json(&json!({
                    "node": broker.id,
                    "host": broker.host,
                    "port": broker.port,
                    "rack": broker.rack,
                    "state": state,
                    "fenced": broker.is_fenced,
                    "quorum": role,
                    "replicas": replicas,
                    "leaders": leaders,
                }))?;
                continue;
            }
            table.row([
                broker.id.to_string(),
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone().unwrap_or_default(),
                state.to_owned(),
                role.unwrap_or_default().to_owned(),
                replicas.to_string(),
                leaders.to_string(),
            ]);
        }
        // Nodes of the quorum that are no brokers.
        for node in quorum.iter().flat_map(|quorum| &quorum.nodes) {
            if registered.contains_key(&node.id) {
                continue;
            }
            if args.json {
                output.json(&json!({ "node": node.id, "state": "controller", "quorum": node.role }))?;
                continue;
            }
            let address = node.address.clone().unwrap_or_default();
            let cells = [node.id.to_string(), address, String::new(), "controller".to_owned()];
            let rest = [node.role.to_owned(), String::new(), String::new()];
            table.row(cells.into_iter().chain(rest));
        }
        output.table(&table)?;
        if !args.json {
            output.say(format_args!("cluster {cluster_id}"));
        }
        let is_any_fenced = registered.values().any(|broker| broker.is_fenced);
        Ok(if args.fail_if_fenced && is_any_fenced { Exit::Condition } else { Exit::Done })
    })
}

/// Unregisters a broker.
pub(super) fn unregister(args: &UnregisterArgs, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let id = args.broker;
        let (_, registered) = brokers::registered(&cluster).await?;
        let Some(broker) = registered.get(&id) else {
            let there: Vec<String> = registered.keys().map(ToString::to_string).collect();
            anyhow::bail!("there is no broker {id}: the cluster has {}", there.join(","));
        };
        let metadata = cluster.metadata(Topics::All).await?;
        let partitions = metadata.topics.values().flat_map(|topic| &topic.partitions);
        let replicas = partitions.filter(|one| one.replicas.iter().any(|one| one.0 == id)).count();
        if replicas > 0 {
            output.warn(format_args!(
                "broker {id} keeps {replicas} replicas: 'klamm reassign plan --decommission {id}' moves them away"
            ));
        }
        if !broker.is_fenced {
            output.warn(format_args!("broker {id} runs: it registers itself again when it starts"));
        }
        if args.execute {
            let request = UnregisterBrokerRequest { broker_id: id, ..Default::default() };
            let answer = cluster.controller(&request).await?;
            let words = answer.error_message.as_deref();
            BrokerError::check(answer.error_code, || format!("broker {id}"), words)?;
        }
        if args.json {
            let object = json!({ "broker": id, "replicas": replicas, "unregistered": args.execute });
            output.json(&object)?;
        } else if args.execute {
            output.say(format_args!("broker {id} is unregistered"));
        } else {
            output.say(format_args!("broker {id} would be unregistered; '--execute' does it"));
        }
        Ok(Exit::Done)
    })
}
