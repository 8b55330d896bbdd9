//! The limit on what replication may take, as Kafka's own tool sets it: a rate on the brokers that are concerned, and on
//! the topics which replicas it counts for.
//!
//! What others have set stays: entries are added to a topic's lists and taken out again one by one, and a rate goes only
//! when no other reassignment is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::cli::output::Output;
use crate::cli::queries;
use crate::client::{BrokerError, ClientError, Cluster};
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResult;
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::types::{BrokerId, ByteSize, TopicPartition};

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
/// Sources of a value that was set while the topic, or the broker, was there.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const DYNAMIC_BROKER_CONFIG: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// The sending side, and the side that fetches.
const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const REPLICAS: [&str; 2] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];
/// Below this nothing would ever end.
const RATE_MIN: u64 = 1 << 10;
/// All replicas of a topic.
const ALL: &str = "*";

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate(pub(super) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize =
            text.strip_suffix("/s").unwrap_or(text).parse().map_err(|error| format!("{error}"))?;
        match size.0 {
            0..RATE_MIN => Err(format!("at least {}/s is needed", ByteSize(RATE_MIN))),
            rate if i64::try_from(rate).is_err() => Err("that is more than a broker can count".to_owned()),
            rate => Ok(Self(rate)),
        }
    }
}

/// A partition on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) partition: TopicPartition,
    /// Who has it.
    pub(super) sources: Vec<i32>,
    /// Who gets it.
    pub(super) adding: Vec<i32>,
}

/// The limits that are set.
#[derive(Debug, Clone, Default)]
pub(super) struct Throttles {
    /// By broker: what it may send, what it may fetch.
    rates: BTreeMap<i32, [Option<u64>; 2]>,
    /// By topic: whose sending, whose fetching.
    replicas: BTreeMap<String, [Vec<String>; 2]>,
}

impl Throttles {
    /// Asks for what is set on these brokers and topics.
    ///
    /// # Errors
    /// Where a broker does not answer, or refuses.
    pub(super) async fn read(
        cluster: &Cluster,
        brokers: impl IntoIterator<Item = BrokerId>,
        topics: impl IntoIterator<Item = &String>,
    ) -> Result<Self, ClientError> {
        let mut throttles = Self::default();
        for broker in brokers {
            let resources = vec![resource(BROKER_RESOURCE, &broker.to_string(), &RATES)];
            for result in queries::configs(cluster, Some(broker), resources, false).await? {
                let values = values(&result, &RATES, DYNAMIC_BROKER_CONFIG)?;
                let rates = values.map(|value| value.and_then(|value| value.parse().ok()));
                throttles.rates.insert(broker.0, rates);
            }
        }
        let resources: Vec<_> =
            topics.into_iter().map(|topic| resource(TOPIC_RESOURCE, topic, &REPLICAS)).collect();
        if !resources.is_empty() {
            for result in queries::configs(cluster, None, resources, false).await? {
                let values = values(&result, &REPLICAS, DYNAMIC_TOPIC_CONFIG)?;
                let lists = values.map(|value| entries(value.as_deref().unwrap_or_default()));
                throttles.replicas.insert(result.resource_name.to_string(), lists);
            }
        }
        Ok(throttles)
    }

    fn list(&self, topic: &str, side: usize) -> &[String] {
        self.replicas.get(topic).map(|lists| lists[side].as_slice()).unwrap_or_default()
    }

    fn counts(&self, partition: &TopicPartition, side: usize, broker: i32) -> bool {
        let entry = entry(partition, broker);
        self.list(partition.topic.as_str(), side).iter().any(|one| *one == entry || one == ALL)
    }

    /// What limits the fetching of `broker` from `leader`.
    pub(super) fn rate(&self, partition: &TopicPartition, leader: Option<i32>, broker: i32) -> Option<u64> {
        let of = |id: i32, side: usize| {
            let rate = (*self.rates.get(&id)?)[side]?;
            self.counts(partition, side, id).then_some(rate)
        };
        [leader.and_then(|leader| of(leader, 0)), of(broker, 1)].into_iter().flatten().min()
    }

    /// Whether anything is set for one of these partitions.
    fn has_any(&self, partitions: &BTreeSet<TopicPartition>) -> bool {
        partitions.iter().any(|partition| {
            let prefix = format!("{}:", partition.partition);
            (0..2).any(|side| {
                self.list(partition.topic.as_str(), side).iter().any(|one| one.starts_with(&prefix))
            })
        })
    }
}

/// `0:3`: the replica of partition 0 on broker 3.
fn entry(partition: &TopicPartition, broker: i32) -> String {
    format!("{}:{broker}", partition.partition)
}

fn entries(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn resource(resource_type: i8, name: &str, keys: &[&str]) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: Some(keys.iter().map(|&key| key.into()).collect()),
        ..Default::default()
    }
}

/// The values of two keys that were set at `source`.
fn values(
    result: &DescribeConfigsResult,
    keys: &[&str; 2],
    source: i8,
) -> Result<[Option<String>; 2], BrokerError> {
    let about = || result.resource_name.to_string();
    BrokerError::check(result.error_code, about, result.error_message.as_deref())?;
    Ok(keys.map(|key| {
        let found = result.configs.iter().find(|config| &*config.name == key);
        let set = found.filter(|config| config.config_source == source)?;
        set.value.as_ref().map(ToString::to_string)
    }))
}

/// Limits what is moving to `rate`, before it moves.
///
/// # Errors
/// Where it cannot be set everywhere.
pub(super) async fn set(
    cluster: &Cluster,
    rate: Rate,
    moving: &[Moving],
    output: &mut Output,
) -> Result<(), ClientError> {
    let alive: BTreeSet<BrokerId> = cluster.latest().brokers.keys().copied().collect();
    let concerned: BTreeSet<BrokerId> =
        moving.iter().flat_map(|one| one.sources.iter().chain(&one.adding)).map(|&id| BrokerId(id)).collect();
    let topics: BTreeSet<String> = moving.iter().map(|one| one.partition.topic.to_string()).collect();
    let there = Throttles::read(cluster, concerned.intersection(&alive).copied(), &topics).await?;
    let mut changes: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for one in moving {
        for (side, brokers) in [&one.sources, &one.adding].into_iter().enumerate() {
            let missing = brokers.iter().filter(|&&id| !there.counts(&one.partition, side, id));
            let lists = changes.entry(one.partition.topic.to_string()).or_default();
            lists[side].extend(missing.map(|&id| entry(&one.partition, id)));
        }
    }
    let resources = changes.iter().filter_map(|(topic, lists)| {
        let configs = (0..2).filter(|&side| !lists[side].is_empty());
        let configs: Vec<_> =
            configs.map(|side| change(REPLICAS[side], APPEND, Some(&lists[side].join(",")))).collect();
        (!configs.is_empty()).then(|| altered(TOPIC_RESOURCE, topic, configs))
    });
    alter(cluster, None, resources.collect()).await?;
    for broker in concerned {
        if !alive.contains(&broker) {
            output.warn(format_args!("broker {broker} is down and gets no throttle"));
            continue;
        }
        let configs = RATES.map(|key| change(key, SET, Some(&rate.0.to_string())));
        let resource = altered(BROKER_RESOURCE, &broker.to_string(), configs.into());
        alter(cluster, Some(broker), vec![resource]).await?;
    }
    Ok(())
}

/// What there was to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleared {
    /// Nothing.
    Nothing,
    /// Entries of topics; the rates stay, for they are others' as well.
    Replicas,
    /// Entries of topics, and the rates of brokers.
    All,
}

/// Takes away what limits these partitions, and the rates of brokers unless they limit some of `others` too.
///
/// # Errors
/// Where it cannot be taken away everywhere.
pub(super) async fn clear(
    cluster: &Cluster,
    partitions: &BTreeSet<TopicPartition>,
    others: &BTreeSet<TopicPartition>,
) -> Result<Cleared, ClientError> {
    let of_all = partitions.iter().chain(others);
    let named: BTreeSet<String> = of_all.map(|partition| partition.topic.to_string()).collect();
    let topics: BTreeSet<String> = partitions.iter().map(|partition| partition.topic.to_string()).collect();
    let lists = Throttles::read(cluster, [], &named).await?;
    if !lists.has_any(partitions) {
        return Ok(Cleared::Nothing);
    }
    let limits_others = lists.has_any(others);
    // The rates first: the entries are what says that they are to go, should this be interrupted.
    if !limits_others {
        clear_rates(cluster).await?;
    }
    let resources = topics.iter().filter_map(|topic| {
        let configs: Vec<_> = (0..2).filter_map(|side| without(&lists, topic, side, partitions)).collect();
        (!configs.is_empty()).then(|| altered(TOPIC_RESOURCE, topic, configs))
    });
    alter(cluster, None, resources.collect()).await?;
    Ok(if limits_others { Cleared::Replicas } else { Cleared::All })
}

async fn clear_rates(cluster: &Cluster) -> Result<(), ClientError> {
    let alive: Vec<BrokerId> = cluster.latest().brokers.keys().copied().collect();
    let rates = Throttles::read(cluster, alive, []).await?.rates;
    for (id, set) in rates {
        let configs = (0..2).filter(|&side| set[side].is_some());
        let configs: Vec<_> = configs.map(|side| change(RATES[side], DELETE, None)).collect();
        if !configs.is_empty() {
            let resource = altered(BROKER_RESOURCE, &id.to_string(), configs);
            alter(cluster, Some(BrokerId(id)), vec![resource]).await?;
        }
    }
    Ok(())
}

/// How a topic's list gets rid of the entries of these partitions.
fn without(
    throttles: &Throttles,
    topic: &str,
    side: usize,
    partitions: &BTreeSet<TopicPartition>,
) -> Option<AlterableConfig> {
    let is_ours = |entry: &&String| {
        partitions.iter().any(|partition| {
            partition.topic.as_str() == topic && entry.starts_with(&format!("{}:", partition.partition))
        })
    };
    let (ours, others): (Vec<&String>, Vec<&String>) = throttles.list(topic, side).iter().partition(is_ours);
    let ours: Vec<&str> = ours.into_iter().map(String::as_str).collect();
    match (ours.is_empty(), others.is_empty()) {
        (true, _) => None,
        (false, true) => Some(change(REPLICAS[side], DELETE, None)),
        (false, false) => Some(change(REPLICAS[side], SUBTRACT, Some(&ours.join(",")))),
    }
}

fn change(name: &str, config_operation: i8, value: Option<&str>) -> AlterableConfig {
    AlterableConfig {
        name: name.into(),
        config_operation,
        value: value.map(Into::into),
        ..Default::default()
    }
}

fn altered(resource_type: i8, name: &str, configs: Vec<AlterableConfig>) -> AlterConfigsResource {
    AlterConfigsResource { resource_type, resource_name: name.into(), configs, ..Default::default() }
}

/// Changes configurations: of a broker, by itself; of topics, by the controller.
async fn alter(
    cluster: &Cluster,
    broker: Option<BrokerId>,
    resources: Vec<AlterConfigsResource>,
) -> Result<(), ClientError> {
    if resources.is_empty() {
        return Ok(());
    }
    let request = IncrementalAlterConfigsRequest { resources, ..Default::default() };
    let answer = match broker {
        Some(broker) => cluster.send(broker, &request).await?,
        None => cluster.controller(&request).await?,
    };
    for response in &answer.responses {
        let about = || match response.resource_type {
            BROKER_RESOURCE => format!("broker {}", response.resource_name),
            _ => format!("topic {}", response.resource_name),
        };
        BrokerError::check(response.error_code, about, response.error_message.as_deref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &str) -> TopicPartition {
        TopicPartition::from_dir_name(name).unwrap()
    }

    fn throttles(leader: &str, follower: &str) -> Throttles {
        let lists = [entries(leader), entries(follower)];
        Throttles {
            replicas: [("a".to_owned(), lists)].into(),
            rates: [(1, [Some(5000), Some(9000)]), (2, [None, Some(7000)])].into(),
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        assert_eq!("50MiB".parse(), Ok(Rate(50 << 20)));
        assert_eq!("64KiB/s".parse(), Ok(Rate(64 << 10)));
        for wrong in ["", "x", "0", "1000", "99999999999TiB"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_slower_side_counts_where_its_replica_is_named() {
        let (zero, one) = (partition("a-0"), partition("a-1"));
        let set = throttles("0:1", "*");
        assert_eq!(set.rate(&zero, Some(1), 2), Some(5000));
        assert_eq!(set.rate(&one, Some(1), 2), Some(7000));
        assert_eq!(set.rate(&zero, None, 3), None);
    }

    #[test]
    fn entries_of_others_stay() {
        let ours: BTreeSet<TopicPartition> = [partition("a-1"), partition("b-0")].into();
        let set = throttles("1:1,10:1,0:2", "1:1,1:2");
        let leader = without(&set, "a", 0, &ours).unwrap();
        assert_eq!((leader.config_operation, leader.value.as_deref()), (SUBTRACT, Some("1:1")));
        let follower = without(&set, "a", 1, &ours).unwrap();
        assert_eq!((follower.config_operation, follower.value), (DELETE, None));
        assert!(without(&throttles("*", ""), "a", 0, &ours).is_none(), "a list of all is not ours");
        assert!(set.has_any(&ours) && !throttles("*", "0:1").has_any(&ours));
    }
}
