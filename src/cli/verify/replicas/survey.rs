//! What there is to compare: partitions, their copies, where each begins, and where the high watermark is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::output::Output;
use crate::cli::partitions::no_such_topic;
use crate::cli::queries::{self, LATEST};
use crate::cli::verify::replicas::partition::Task;
use crate::cli::verify::replicas::source::{self, CopyStarts, Which};
use crate::client::{Cluster, PartitionMetadata, TopicMetadata, Topics};
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResult;
use crate::types::{BrokerId, TopicName, TopicPartition};

/// `DescribeConfigs`' type of a topic.
const TOPIC_RESOURCE: i8 = 2;
const CLEANUP_POLICY: &str = "cleanup.policy";
/// How long a broker may take to say where its copies begin, while the others wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// So many topics are asked about in one request.
const TOPICS_MAX: usize = 500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) tasks: Vec<Task>,
    /// Copies that cannot be read, and why.
    pub(super) unread: Vec<(TopicPartition, i32, String)>,
    /// Topics that were asked for and are not there.
    pub(super) is_incomplete: bool,
}

/// Asks the cluster; all topics where none is named.
///
/// # Errors
/// Where it does not answer.
pub(super) async fn survey(
    cluster: &Cluster,
    names: &[String],
    output: &mut Output,
) -> anyhow::Result<Survey> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wanted = if names.is_empty() { Topics::All } else { Topics::Named { names: &names, create: false } };
    let metadata = cluster.metadata(wanted).await?;
    let mut survey = Survey::default();
    let mut topics = Vec::new();
    for topic in metadata.topics.values() {
        match topic.error {
            ErrorCode::None => topics.push(topic.as_ref()),
            ErrorCode::UnknownTopicOrPartition => {
                output.error(no_such_topic(&topic.name));
                survey.is_incomplete = true;
            }
            code => {
                output.error(format_args!("topic {}: {} ({})", topic.name, code.message(), code.name()));
                survey.is_incomplete = true;
            }
        }
    }
    let compacted = compacted(cluster, &topics, output).await?;
    let partitions = partitions(&topics);
    let ends = ends(cluster, &partitions).await;
    let starts = Starts::ask(cluster, &partitions).await;
    for (partition, topic, one) in &partitions {
        let mut copies = Vec::new();
        for broker in &one.replicas {
            match starts.of(partition, *broker) {
                Ok(start) => copies.push((*broker, start, one.in_sync.contains(broker))),
                Err(why) => survey.unread.push((partition.clone(), broker.0, why)),
            }
        }
        let end = ends.get(partition).copied();
        if !copies.is_empty() {
            survey.tasks.push(Task {
                which: Which { partition: partition.clone(), topic_id: topic.id },
                copies,
                end,
                is_compacted: compacted.contains(topic.name.as_str()),
            });
        }
    }
    Ok(survey)
}

type Found<'a> = Vec<(TopicPartition, &'a TopicMetadata, &'a PartitionMetadata)>;

fn partitions<'a>(topics: &[&'a TopicMetadata]) -> Found<'a> {
    let mut found = Vec::new();
    for topic in topics {
        let Ok(name) = TopicName::new(&topic.name) else { continue };
        for one in &topic.partitions {
            found.push((TopicPartition::new(name.clone(), one.partition), *topic, one));
        }
    }
    found
}

/// The high watermarks of partitions that are led.
async fn ends(cluster: &Cluster, partitions: &Found<'_>) -> BTreeMap<TopicPartition, i64> {
    let led: Vec<TopicPartition> = partitions
        .iter()
        .filter(|(_, _, one)| one.leader.is_some())
        .map(|(partition, ..)| partition.clone())
        .collect();
    let found = queries::offsets_at(cluster, &led, LATEST, 0).await;
    let end = |(partition, outcome): (TopicPartition, Result<queries::FoundOffset, _>)| {
        Some((partition, outcome.ok()?.offset?.0))
    };
    found.into_iter().filter_map(end).collect()
}

/// Where copies begin, by broker; or why a broker does not say.
struct Starts {
    found: BTreeMap<BrokerId, Result<CopyStarts, String>>,
}

impl Starts {
    /// Asks all brokers side by side.
    async fn ask(cluster: &Cluster, partitions: &Found<'_>) -> Self {
        let mut by_broker: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, _, one) in partitions {
            for broker in &one.replicas {
                by_broker.entry(*broker).or_default().push(partition.clone());
            }
        }
        let live: BTreeSet<BrokerId> = cluster.latest().brokers.keys().copied().collect();
        let mut found = BTreeMap::new();
        let mut asked = tokio::task::JoinSet::new();
        for (broker, partitions) in by_broker {
            if !live.contains(&broker) {
                found.insert(broker, Err("the broker is down".to_owned()));
                continue;
            }
            let cluster = cluster.clone();
            asked.spawn(async move {
                let clock = Arc::clone(&cluster.options().clock);
                let starts = tokio::select! {
                    starts = source::starts(&cluster, broker, &partitions) => {
                        starts.map_err(|error| error.to_string())
                    }
                    () = clock.wait(ANSWER_MAX) => Err("the broker does not answer".to_owned()),
                };
                (broker, starts)
            });
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok((broker, starts)) = answered {
                found.insert(broker, starts);
            }
        }
        Self { found }
    }

    fn of(&self, partition: &TopicPartition, broker: BrokerId) -> Result<i64, String> {
        match self.found.get(&broker) {
            Some(Ok(starts)) => match starts.get(partition) {
                Some(Ok(start)) => Ok(*start),
                Some(Err(code)) => Err(format!("{} ({})", code.message(), code.name())),
                None => Err("the broker did not answer for it".to_owned()),
            },
            Some(Err(why)) => Err(why.clone()),
            None => Err("the broker was not asked".to_owned()),
        }
    }
}

/// Which topics are compacted.
async fn compacted(
    cluster: &Cluster,
    topics: &[&TopicMetadata],
    output: &mut Output,
) -> anyhow::Result<BTreeSet<String>> {
    let mut compacted = BTreeSet::new();
    for some in topics.chunks(TOPICS_MAX) {
        let resource = |topic: &&TopicMetadata| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.name.as_str().into(),
            configuration_keys: Some(vec![CLEANUP_POLICY.into()]),
            ..Default::default()
        };
        let resources = some.iter().map(resource).collect();
        for result in queries::configs(cluster, None, resources, false).await? {
            match is_compacted(&result) {
                Ok(true) => drop(compacted.insert(result.resource_name.to_string())),
                Ok(false) => {}
                Err(code) => output.warn(format_args!(
                    "topic {}: whether it is compacted is not known: {} ({})",
                    result.resource_name,
                    code.message(),
                    code.name()
                )),
            }
        }
    }
    Ok(compacted)
}

fn is_compacted(result: &DescribeConfigsResult) -> Result<bool, ErrorCode> {
    match ErrorCode::from_wire(result.error_code) {
        ErrorCode::None => {}
        code => return Err(code),
    }
    let policy = result.configs.iter().find(|config| *config.name == *CLEANUP_POLICY);
    Ok(policy.and_then(|config| config.value.as_deref()).is_some_and(|value| value.contains("compact")))
}
