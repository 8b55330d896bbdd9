//! `cluster quorum`, `cluster add-voter` and `cluster remove-voter`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::brokers;
use crate::cli::exit::{Exit, block_on};
use crate::cli::output::{Output, Table};
use crate::client::{BrokerError, ClientError, Cluster};
use crate::protocol::messages::add_raft_voter_request::{AddRaftVoterRequest, Listener};
use crate::protocol::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use crate::protocol::messages::describe_quorum_response::ReplicaState;
use crate::protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use crate::types::{Uuid, print_duration};

const METADATA_TOPIC: &str = "__cluster_metadata";
/// How long the quorum may take to agree on another voter.
const TIMEOUT_MS: i32 = 30_000;

/// Show the quorum: leader, voters, observers, and how far each is behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 4: with --fail-above, a voter is further behind.

Examples:
  klamm cluster quorum
  klamm cluster quorum --json | jq 'select(.role == \"voter\")'
  klamm cluster quorum --fail-above 1000 || alert")]
pub(super) struct Args {
    /// Exit with 4 where a voter is behind by more than so many records
    #[arg(long, value_name = "N")]
    fail_above: Option<i64>,

    /// One JSON object a line: node, role, directory, end_offset, lag, last_fetch_ms, last_caught_up_ms, leader_epoch,
    /// high_watermark
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Give a controller a vote.
///
/// The node runs already and follows the quorum: 'klamm cluster quorum' shows it as an observer, with its directory's id.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster add-voter 4 --directory mXJmoq9CT3uoKpLeYT9eXQ --listener CONTROLLER=10.0.0.4:9093")]
pub(super) struct AddArgs {
    /// The node
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,

    /// The id of its directory, as 'klamm cluster quorum' shows it [default: the one it is an observer with]
    #[arg(long, value_name = "UUID")]
    directory: Option<Uuid>,

    /// Where the other voters reach it; may be repeated
    #[arg(long, required = true, value_name = "NAME=HOST:PORT")]
    listener: Vec<Endpoint>,

    /// One JSON object: node, directory, voter
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Take a controller's vote away.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster remove-voter 4             # shows what it would do
  klamm cluster remove-voter 4 --execute")]
pub(super) struct RemoveArgs {
    /// The node
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,

    /// The id of its directory [default: the one it is a voter with]
    #[arg(long, value_name = "UUID")]
    directory: Option<Uuid>,

    /// Do it; without this only what would be done is shown
    #[arg(long)]
    execute: bool,

    /// One JSON object: node, directory, voter
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// `CONTROLLER=HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            // Kafka writes NAME://HOST:PORT.
            let (name, address) = text.split_once("://").or_else(|| text.split_once('='))?;
            let (host, port) = address.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse().ok().filter(|&port| port != 0)?;
            let is_whole = !name.is_empty() && !host.is_empty();
            is_whole.then(|| Self { name: name.to_owned(), host: host.to_owned(), port })
        };
        parts().ok_or_else(|| "NAME=HOST:PORT is expected".to_owned())
    }
}

/// One member of the quorum.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: i32,
    /// `leader`, `voter` or `observer`.
    pub(super) role: &'static str,
    pub(super) address: Option<String>,
    directory: Option<Uuid>,
    end_offset: Option<i64>,
    last_fetch_ms: Option<i64>,
    last_caught_up_ms: Option<i64>,
}

/// The quorum as its leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Quorum {
    leader_epoch: i32,
    high_watermark: i64,
    pub(super) nodes: Vec<Member>,
}

impl Quorum {
    /// What a node is in it.
    pub(super) fn role(&self, id: i32) -> Option<&'static str> {
        self.nodes.iter().find(|node| node.id == id).map(|node| node.role)
    }

    fn leader(&self) -> Option<&Member> {
        self.nodes.iter().find(|node| node.role == "leader")
    }

    fn lag(&self, member: &Member) -> Option<i64> {
        Some((self.leader()?.end_offset? - member.end_offset?).max(0))
    }
}

/// Asks for the quorum.
pub(super) async fn describe(cluster: &Cluster) -> Result<Quorum, ClientError> {
    let request = DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![PartitionData { partition_index: 0, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let ask = || async {
        let answer = cluster.any(&request).await?;
        let about = || "the quorum".to_owned();
        BrokerError::check(answer.error_code, about, answer.error_message.as_deref())?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            BrokerError::check(partition.error_code, about, partition.error_message.as_deref())?;
        }
        Ok(answer)
    };
    let answer = cluster.retrying(ask).await?;
    let addresses: BTreeMap<i32, String> = answer
        .nodes
        .iter()
        .filter_map(|node| {
            let listener = node.listeners.first()?;
            Some((node.node_id, format!("{}:{}", listener.host, listener.port)))
        })
        .collect();
    let mut quorum = Quorum { leader_epoch: -1, high_watermark: -1, nodes: Vec::new() };
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        quorum.leader_epoch = partition.leader_epoch;
        quorum.high_watermark = partition.high_watermark;
        let voters = partition.current_voters.iter().map(|state| {
            member(
                state,
                if state.replica_id == partition.leader_id { "leader" } else { "voter" },
                &addresses,
            )
        });
        let observers = partition.observers.iter().map(|state| member(state, "observer", &addresses));
        quorum.nodes.extend(voters.chain(observers));
    }
    quorum.nodes.sort_by_key(|node| (node.role == "observer", node.id));
    Ok(quorum)
}

fn member(state: &ReplicaState, role: &'static str, addresses: &BTreeMap<i32, String>) -> Member {
    let known = |number: i64| (number >= 0).then_some(number);
    Member {
        id: state.replica_id,
        role,
        address: addresses.get(&state.replica_id).cloned(),
        directory: (!state.replica_directory_id.is_zero()).then_some(state.replica_directory_id),
        end_offset: known(state.log_end_offset),
        last_fetch_ms: known(state.last_fetch_timestamp),
        last_caught_up_ms: known(state.last_caught_up_timestamp),
    }
}

/// Prints the quorum.
pub(super) fn show(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let quorum = describe(&cluster).await?;
        let now_ms = cluster.options().clock.now_ms();
        let mut table =
            Table::new([">NODE", "ROLE", "ADDRESS", "DIRECTORY", ">END", ">LAG", ">FETCHED", ">CAUGHT UP"]);
        let mut is_behind = false;
        for member in &quorum.nodes {
            let lag = quorum.lag(member);
            let is_voter = member.role != "observer";
            is_behind |= is_voter && args.fail_above.is_some_and(|most| lag.is_none_or(|lag| lag > most));
            if args.json {
                output.json(&as_json(&quorum, member))?;
                continue;
            }
            let ago = |at: Option<i64>| match (member.role, at) {
                ("leader", _) | (_, None) => String::new(),
                (_, Some(at)) => {
                    let ago = u64::try_from(now_ms - at).unwrap_or(0);
                    format!("{} ago", print_duration(Duration::from_millis(ago.max(1))))
                }
            };
            let text = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
            table.row([
                member.id.to_string(),
                member.role.to_owned(),
                member.address.clone().unwrap_or_default(),
                member.directory.map(|id| id.to_string()).unwrap_or_default(),
                text(member.end_offset),
                text(lag),
                ago(member.last_fetch_ms),
                ago(member.last_caught_up_ms),
            ]);
        }
        output.table(&table)?;
        if !args.json {
            let leader = quorum.leader().map_or_else(|| "nobody".to_owned(), |leader| leader.id.to_string());
            output.say(format_args!(
                "{leader} leads in epoch {}; the high watermark is {}",
                quorum.leader_epoch, quorum.high_watermark
            ));
        }
        Ok(if is_behind { Exit::Condition } else { Exit::Done })
    })
}

fn as_json(quorum: &Quorum, member: &Member) -> serde_json::Value {
    json!({
        "node": member.id,
        "role": member.role,
        "address": member.address,
        "directory": member.directory.map(|id| id.to_string()),
        "end_offset": member.end_offset,
        "lag": quorum.lag(member),
        "last_fetch_ms": member.last_fetch_ms,
        "last_caught_up_ms": member.last_caught_up_ms,
        "leader_epoch": quorum.leader_epoch,
        "high_watermark": quorum.high_watermark,
    })
}

/// Gives a node a vote.
pub(super) fn add(args: &AddArgs, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let quorum = describe(&cluster).await?;
        if quorum.role(args.node).is_some_and(|role| role != "observer") {
            anyhow::bail!("node {} is a voter already", args.node);
        }
        let Some(directory) = directory_of(&quorum, args.node, args.directory, "observer") else {
            anyhow::bail!(
                "node {} does not follow the quorum, or does not say with which directory: start it as a \
                 controller, or give '--directory'",
                args.node
            );
        };
        let listeners = args.listener.iter().map(|endpoint| Listener {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            ..Default::default()
        });
        let (cluster_id, _) = brokers::registered(&cluster).await?;
        let request = AddRaftVoterRequest {
            cluster_id: Some(cluster_id.as_str().into()),
            timeout_ms: TIMEOUT_MS,
            voter_id: args.node,
            voter_directory_id: directory,
            listeners: listeners.collect(),
            ..Default::default()
        };
        let answer = cluster.controller(&request).await?;
        let about = || format!("voter {}", args.node);
        BrokerError::check(answer.error_code, about, answer.error_message.as_deref())?;
        tell(args.node, directory, true, true, args.json, output)
    })
}

/// Takes a node's vote away.
pub(super) fn remove(args: &RemoveArgs, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let quorum = describe(&cluster).await?;
        if quorum.role(args.node).is_none_or(|role| role == "observer") {
            anyhow::bail!("node {} is no voter", args.node);
        }
        let directory = directory_of(&quorum, args.node, args.directory, "voter").unwrap_or_default();
        let (cluster_id, _) = brokers::registered(&cluster).await?;
        if args.execute {
            let request = RemoveRaftVoterRequest {
                cluster_id: Some(cluster_id.as_str().into()),
                voter_id: args.node,
                voter_directory_id: directory,
                ..Default::default()
            };
            let answer = cluster.controller(&request).await?;
            let about = || format!("voter {}", args.node);
            BrokerError::check(answer.error_code, about, answer.error_message.as_deref())?;
        }
        tell(args.node, directory, false, args.execute, args.json, output)
    })
}

/// Of a node whose disk was replaced the leader remembers the old directory for a while: the one it fetches with counts.
fn directory_of(quorum: &Quorum, node: i32, given: Option<Uuid>, role: &str) -> Option<Uuid> {
    let is_it = |member: &&Member| member.id == node && (member.role == "observer") == (role == "observer");
    given.or_else(|| quorum.nodes.iter().filter(is_it).max_by_key(|member| member.last_fetch_ms)?.directory)
}

fn tell(
    node: i32,
    directory: Uuid,
    voter: bool,
    done: bool,
    json: bool,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    if json {
        let is_voter = if done { voter } else { !voter };
        output.json(&json!({ "node": node, "directory": directory.to_string(), "voter": is_voter }))?;
    } else {
        output.say(match (voter, done) {
            (true, _) => format!("node {node} has a vote"),
            (false, true) => format!("node {node} has no vote any more"),
            (false, false) => format!("node {node} would lose its vote; '--execute' does it"),
        });
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_disk_was_replaced_is_known_by_the_directory_it_fetches_with() {
        let member = |directory: u8, last_fetch_ms| Member {
            id: 3,
            role: "observer",
            address: None,
            directory: Some(Uuid([directory; 16])),
            end_offset: Some(1),
            last_fetch_ms,
            last_caught_up_ms: None,
        };
        for nodes in [vec![member(1, Some(5)), member(2, Some(9))], vec![member(2, Some(9)), member(1, None)]]
        {
            let quorum = Quorum { leader_epoch: 1, high_watermark: 1, nodes };
            assert_eq!(directory_of(&quorum, 3, None, "observer"), Some(Uuid([2; 16])));
            assert_eq!(directory_of(&quorum, 3, None, "voter"), None);
        }
    }

    #[test]
    fn an_endpoint_has_a_name_and_an_address() {
        let endpoint = |text: &str| text.parse::<Endpoint>().map(|e| (e.name, e.host, e.port));
        assert_eq!(endpoint("CONTROLLER=h:9093"), Ok(("CONTROLLER".into(), "h".into(), 9093)));
        assert_eq!(endpoint("C://[::1]:1"), Ok(("C".into(), "::1".into(), 1)));
        for wrong in ["h:9093", "C=h", "=h:1", "C=:1", "C=h:0", "C=h:x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
