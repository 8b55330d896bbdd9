//! Before the clock runs: find the brokers, the partitions and where they begin and end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::PollTimeout;

use super::wire::Wire;
use crate::cli::args::{Connection, Target};
use crate::cli::exit::usage;
use crate::client::{Address, Bootstrap, BrokerError};
use crate::protocol::ErrorCode;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

/// Between attempts at what may soon succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Where `ListOffsets` answers with the first offset.
pub const EARLIEST: i64 = -2;
/// Where `ListOffsets` answers with the high watermark.
pub const LATEST: i64 = -1;

/// One partition, and the broker that leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Its leader.
    pub address: Address,
}

/// All partitions of `topics`, in order.
///
/// # Errors
/// Where no broker answers, a topic does not exist, or a partition has no leader.
pub fn places(connection: &Connection, topics: &[String]) -> anyhow::Result<Vec<Place>> {
    let bootstrap = match connection.target()? {
        Target::Cluster(bootstrap) => bootstrap,
        Target::Dir(_) => {
            return Err(usage("a socket to measure is needed: say which with '-b HOST:PORT'"));
        }
    };
    let Bootstrap::Addresses(addresses) = Bootstrap::parse(&bootstrap).map_err(|e| usage(e.to_string()))?
    else {
        bail!("no address in {bootstrap}");
    };
    let mut wire = first_that_answers(&addresses, connection.timeout)?;
    let answer = wire.call(&MetadataRequest {
        topics: Some(
            topics
                .iter()
                .map(|name| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() })
                .collect(),
        ),
        allow_auto_topic_creation: false,
        ..Default::default()
    })?;
    let brokers: BTreeMap<i32, Address> = answer
        .brokers
        .iter()
        .filter_map(|broker| Some((broker.node_id, Address::from_metadata(&broker.host, broker.port)?)))
        .collect();
    let mut places = Vec::new();
    for topic in &answer.topics {
        places.extend(places_of(topic, &brokers)?);
    }
    places.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    if places.is_empty() { bail!("the topics have no partitions") } else { Ok(places) }
}

fn places_of(topic: &MetadataResponseTopic, brokers: &BTreeMap<i32, Address>) -> anyhow::Result<Vec<Place>> {
    let name = topic.name.as_deref().unwrap_or_default();
    if ErrorCode::from_wire(topic.error_code) == ErrorCode::UnknownTopicOrPartition {
        bail!("topic {name} does not exist: `klamm topics create {name} -p 1` makes it");
    }
    BrokerError::check(topic.error_code, || format!("topic {name}"), None)?;
    let place = |partition: &MetadataResponsePartition| {
        let partition_index = partition.partition_index;
        let address = brokers.get(&partition.leader_id);
        let address = address.with_context(|| format!("{name}-{partition_index} has no leader"))?;
        Ok(Place { topic: name.to_owned(), partition: partition_index, address: address.clone() })
    };
    topic.partitions.iter().map(place).collect()
}

/// Tries them in turn until `timeout` is over: the broker may just be starting.
fn first_that_answers(addresses: &[Address], timeout: Duration) -> anyhow::Result<Wire> {
    let begun = Instant::now();
    loop {
        let mut last = None;
        for address in addresses {
            match Wire::connect(address, timeout) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = Some(error),
            }
        }
        if begun.elapsed() + RETRY_PAUSE >= timeout {
            return Err(last.unwrap_or_else(|| anyhow::anyhow!("no broker to ask")));
        }
        pause();
    }
}

/// Waits for [`RETRY_PAUSE`].
pub fn pause() {
    let milliseconds = PollTimeout::try_from(RETRY_PAUSE).unwrap_or(PollTimeout::ZERO);
    // Waiting for nothing can only end too early.
    let _ = nix::poll::poll(&mut [], milliseconds);
}

/// The offset at `timestamp` ([`EARLIEST`], [`LATEST`]) of a partition.
///
/// # Errors
/// Where the broker refuses or breaks off.
pub fn offset_at(wire: &mut Wire, place: &Place, timestamp: i64) -> anyhow::Result<i64> {
    let answer = wire.call(&ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: place.topic.as_str().into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: place.partition,
                timestamp,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.context("ListOffsets was answered with nothing")?;
    BrokerError::check(partition.error_code, || format!("{}-{}", place.topic, place.partition), None)?;
    Ok(partition.offset)
}
