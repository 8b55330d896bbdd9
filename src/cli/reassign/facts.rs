//! What a cluster says about its reassignments at one moment: what is under way, who has how much of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::queries;
use crate::client::{BrokerError, ClientError, Cluster, ClusterMetadata, PartitionMetadata, Topics};
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::types::{BrokerId, TopicName, TopicPartition};

/// How long the controller may take over one request.
pub(super) const TIMEOUT_MS: i32 = 30_000;
/// How long a broker may take to say what it has, while the others wait.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A reassignment that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ongoing {
    /// All that have a replica now or are to have one.
    pub(super) replicas: Vec<i32>,
    /// Who of them is new.
    pub(super) adding: Vec<i32>,
    /// Who of them goes at the end.
    pub(super) removing: Vec<i32>,
}

impl Ongoing {
    /// Who keeps the partition in the end.
    pub(super) fn target(&self) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id)).collect()
    }

    /// Who kept it before.
    pub(super) fn before(&self) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| !self.adding.contains(id)).collect()
    }
}

/// All reassignments of the cluster that are under way.
pub(super) async fn ongoing(cluster: &Cluster) -> Result<BTreeMap<TopicPartition, Ongoing>, ClientError> {
    let request =
        ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None, ..Default::default() };
    let ask = || async {
        let answer = cluster.controller(&request).await?;
        let words = answer.error_message.as_deref();
        BrokerError::check(answer.error_code, || "reassignments".to_owned(), words)?;
        Ok(answer)
    };
    let answer = cluster.retrying(ask).await?;
    let mut found = BTreeMap::new();
    for topic in answer.topics {
        let Ok(name) = TopicName::new(&topic.name) else { continue };
        for partition in topic.partitions {
            let one = Ongoing {
                replicas: partition.replicas,
                adding: partition.adding_replicas,
                removing: partition.removing_replicas,
            };
            found.insert(TopicPartition::new(name.clone(), partition.partition_index), one);
        }
    }
    Ok(found)
}

/// What brokers have of partitions, and what keeps them from saying so.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes {
    by_replica: BTreeMap<(TopicPartition, i32), u64>,
    /// Log directories that are offline, and brokers that do not answer.
    pub(super) troubles: BTreeMap<i32, String>,
}

impl Sizes {
    /// Asks brokers side by side; one that does not answer costs [`ANSWER_MAX`].
    pub(super) async fn ask<'a>(
        cluster: &Cluster,
        brokers: impl IntoIterator<Item = BrokerId>,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Self {
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic.to_string()).or_default().push(partition.partition);
        }
        let topics = Arc::new(topics);
        let mut asked = tokio::task::JoinSet::new();
        for broker in brokers {
            let (cluster, topics) = (cluster.clone(), Arc::clone(&topics));
            asked.spawn(async move {
                let clock = Arc::clone(&cluster.options().clock);
                let answer = tokio::select! {
                    answer = queries::log_dirs(&cluster, broker, Some(&topics)) => {
                        answer.map_err(|error| error.to_string())
                    }
                    () = clock.wait(ANSWER_MAX) => Err("it does not answer".to_owned()),
                };
                (broker.0, answer)
            });
        }
        let mut sizes = Self::default();
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((broker, Ok(dirs))) => sizes.add(broker, dirs),
                Ok((broker, Err(why))) => drop(sizes.troubles.insert(broker, why)),
                Err(_) => {}
            }
        }
        sizes
    }

    fn add(&mut self, broker: i32, dirs: Vec<queries::LogDir>) {
        for dir in dirs {
            if let Some(error) = dir.error {
                self.troubles.insert(broker, format!("log directory {}: {error}", dir.path));
            }
            for replica in dir.replicas.into_iter().filter(|replica| !replica.is_future) {
                let bytes = u64::try_from(replica.size_bytes).unwrap_or(0);
                self.by_replica.insert((replica.partition, broker), bytes);
            }
        }
    }

    /// What a broker has of a partition.
    pub(super) fn of(&self, partition: &TopicPartition, broker: i32) -> Option<u64> {
        self.by_replica.get(&(partition.clone(), broker)).copied()
    }

    /// The size of a partition, as its leader has it, else as whoever has most.
    pub(super) fn of_partition(&self, partition: &TopicPartition, leader: Option<i32>) -> u64 {
        let of_leader = leader.and_then(|leader| self.of(partition, leader));
        let of_all = self.by_replica.range((partition.clone(), i32::MIN)..=(partition.clone(), i32::MAX));
        of_leader.or_else(|| of_all.map(|(_, bytes)| *bytes).max()).unwrap_or(0)
    }
}

/// One look at a cluster.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) ongoing: BTreeMap<TopicPartition, Ongoing>,
    pub(super) metadata: Arc<ClusterMetadata>,
    pub(super) sizes: Sizes,
}

/// How many bytes of how many the new replicas of a partition have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) of: u64,
}

impl Copied {
    pub(super) fn left(self) -> u64 {
        self.of.saturating_sub(self.bytes)
    }
}

impl Look {
    /// Looks at the partitions of `topics`.
    ///
    /// # Errors
    /// Where no broker answers.
    pub(super) async fn at(cluster: &Cluster, topics: &BTreeSet<String>) -> Result<Self, ClientError> {
        // In this order: what is no longer under way has its replicas in the metadata by then, but for brokers that
        // learn of it late.
        let mut ongoing = ongoing(cluster).await?;
        ongoing.retain(|partition, _| topics.contains(partition.topic.as_str()));
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let metadata = cluster.metadata(Topics::Named { names: &names, create: false }).await?;
        let concerned: BTreeSet<i32> =
            ongoing.values().flat_map(|one| one.replicas.iter().copied()).collect();
        let alive = metadata.brokers.keys().copied().filter(|broker| concerned.contains(&broker.0));
        let sizes = match ongoing.is_empty() {
            true => Sizes::default(),
            false => Sizes::ask(cluster, alive.collect::<Vec<_>>(), ongoing.keys()).await,
        };
        Ok(Self { ongoing, metadata, sizes })
    }

    /// What the metadata says of a partition.
    pub(super) fn partition(&self, partition: &TopicPartition) -> Option<&PartitionMetadata> {
        self.metadata.topics.get(partition.topic.as_str())?.partition(partition.partition)
    }

    /// Who keeps a partition, by the metadata.
    pub(super) fn replicas(&self, partition: &TopicPartition) -> Vec<i32> {
        let known = self.partition(partition);
        known.map(|known| known.replicas.iter().map(|id| id.0).collect()).unwrap_or_default()
    }

    /// Who leads it.
    pub(super) fn leader(&self, partition: &TopicPartition) -> Option<i32> {
        self.partition(partition)?.leader.map(|leader| leader.0)
    }

    /// Whether a broker is there.
    pub(super) fn is_alive(&self, id: i32) -> bool {
        self.metadata.brokers.contains_key(&BrokerId(id))
    }

    /// How far the copies of a partition are.
    pub(super) fn copied(&self, partition: &TopicPartition) -> Copied {
        let Some(ongoing) = self.ongoing.get(partition) else { return Copied::default() };
        let whole = self.sizes.of_partition(partition, self.leader(partition));
        let mut copied = Copied::default();
        for &id in &ongoing.adding {
            copied.of += whole;
            copied.bytes += self.sizes.of(partition, id).unwrap_or(0).min(whole);
        }
        copied
    }
}
