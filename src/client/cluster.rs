//! Many brokers as one: bootstrap, metadata, leaders, and a connection to each broker per lane of traffic.
//!
//! A call goes to any broker, to a named one, to the controller or to a partition's leader. What was
//! certainly not sent is tried again elsewhere; what may have been acted on is the caller's to judge. Every
//! wait has a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::net::outgoing::{Address, Connection, ConnectionError, Target};
use crate::protocol::{ApiKey, ErrorCode, Request};
use crate::types::{BrokerId, Clock, LeaderEpoch, TopicPartition};

use super::address::Bootstrap;
use super::error::{BrokerError, ClientError};
use super::metadata::{ClusterMetadata, TopicMetadata, Topics};
use super::options::ClientOptions;

/// How long the last attempt at a first broker may take beyond the time that was given.
const LAST_ATTEMPT: Duration = Duration::from_millis(250);

/// Traffic that must not wait behind other traffic gets a connection of its own: answers come in order, and
/// a long poll would hold everything behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything that is answered at once.
    Requests,
    /// Produce.
    Produce,
    /// Fetch, which waits for data.
    Fetch,
    /// JoinGroup and its kin, which wait for a group's other members.
    Group,
}

/// A cluster. Cheap to clone; the clones share connections and metadata.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

struct Inner {
    bootstrap: Bootstrap,
    options: ClientOptions,
    /// The latest brokers and controller; its topics are those of the latest question alone.
    latest: Mutex<Arc<ClusterMetadata>>,
    topics: Mutex<HashMap<String, (Arc<TopicMetadata>, Duration)>>,
    home: Slot,
    slots: Mutex<HashMap<(BrokerId, Lane), Slot>>,
}

impl Cluster {
    /// Finds a broker and learns the others from it.
    ///
    /// # Errors
    /// [`ClientError::NoBroker`] where none answers within [`ClientOptions::bootstrap_timeout`].
    pub async fn connect(bootstrap: Bootstrap, options: ClientOptions) -> Result<Self, ClientError> {
        let inner = Inner {
            bootstrap,
            options,
            latest: Mutex::default(),
            topics: Mutex::default(),
            home: Slot::default(),
            slots: Mutex::default(),
        };
        let cluster = Self { inner: Arc::new(inner) };
        cluster.metadata(Topics::None).await?;
        Ok(cluster)
    }

    /// What it was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// Brokers and controller as last heard.
    #[must_use]
    pub fn latest(&self) -> Arc<ClusterMetadata> {
        Arc::clone(&self.inner.latest.lock())
    }

    /// Asks any broker about `topics`.
    ///
    /// # Errors
    /// Where no broker answers. A topic's own error stands in its [`TopicMetadata::error`].
    pub async fn metadata(&self, topics: Topics<'_>) -> Result<Arc<ClusterMetadata>, ClientError> {
        let request = topics.to_request();
        let response = self.retrying(|| self.any(&request)).await?;
        BrokerError::check(response.error_code, || "metadata".to_owned(), None)?;
        let metadata = Arc::new(ClusterMetadata::new(&response));
        let now = self.clock().elapsed();
        let mut known = self.inner.topics.lock();
        for (name, topic) in &metadata.topics {
            known.insert(name.clone(), (Arc::clone(topic), now));
        }
        drop(known);
        *self.inner.latest.lock() = Arc::clone(&metadata);
        Ok(metadata)
    }

    /// A topic that exists, from memory where it is fresh. With `create` the broker may create it, and the
    /// call waits (as long as for a first broker) until it is there.
    ///
    /// # Errors
    /// The topic's error code, or that no broker answers.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Arc<TopicMetadata>, ClientError> {
        let known = self.inner.topics.lock().get(name).cloned();
        if let Some((topic, asked)) = known {
            let age = self.clock().elapsed().saturating_sub(asked);
            if topic.error == ErrorCode::None && age < self.inner.options.metadata_age_max {
                return Ok(topic);
            }
        }
        let deadline = self.clock().elapsed() + self.inner.options.bootstrap_timeout;
        let mut failures = 0;
        loop {
            let metadata = self.metadata(Topics::Named { names: &[name], create }).await?;
            let topic = metadata.topics.get(name).cloned();
            let code = topic.as_ref().map_or(ErrorCode::UnknownTopicOrPartition, |topic| topic.error);
            let may_come = match code {
                ErrorCode::None => match topic {
                    Some(topic) => return Ok(topic),
                    None => false,
                },
                ErrorCode::UnknownTopicOrPartition => create,
                code => code.is_retriable(),
            };
            if !may_come || self.clock().elapsed() >= deadline {
                return Err(BrokerError { code, about: format!("topic {name}"), message: None }.into());
            }
            failures += 1;
            self.pause(failures).await;
        }
    }

    /// Forgets what is known about a topic: its leader turned out to be another.
    pub fn forget_topic(&self, name: &str) {
        self.inner.topics.lock().remove(name);
    }

    /// Who leads a partition, and in which epoch.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE (where it stays so), or that no broker answers.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<(BrokerId, LeaderEpoch), ClientError> {
        self.retrying(|| async {
            let topic = self.topic(partition.topic.as_str(), false).await?;
            let found = topic.partition(partition.partition);
            let code = found.map_or(ErrorCode::UnknownTopicOrPartition, |p| match p.leader {
                Some(_) => ErrorCode::None,
                None => ErrorCode::LeaderNotAvailable,
            });
            if let Some((leader, found)) = found.and_then(|p| Some((p.leader?, p))) {
                return Ok((leader, found.leader_epoch));
            }
            self.forget_topic(partition.topic.as_str());
            Err(BrokerError { code, about: partition.to_string(), message: None }.into())
        })
        .await
    }

    /// Sends `request` to whichever broker is at hand. What any of them answers at once it need not answer for longer
    /// than [`ClientOptions::patience`], where there are others.
    ///
    /// # Errors
    /// Where none can be reached, or the request was sent and not answered.
    pub async fn any<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let connection = self.home().await?;
        let version = connection.version_of::<R>(i16::MAX)?;
        Ok(connection.start(request, version, self.patience_with_any(R::KEY))?.answer().await?)
    }

    /// How long a broker may take that any other one could stand in for.
    pub(super) fn patience_with_any(&self, key: ApiKey) -> Duration {
        let options = &self.inner.options;
        let is_one_of_many = is_answered_at_once(key) && self.has_others();
        if is_one_of_many { options.patience.min(options.request_timeout) } else { options.request_timeout }
    }

    /// What `pending` comes to, an answer that `broker` owes. Where it lets wait for longer than
    /// [`ClientOptions::patience`], the others are asked; one that they have fenced is waited for no longer: it is
    /// stopped or cut off, and may stay silent for a long time yet.
    ///
    /// # Errors
    /// The connection's.
    pub(super) async fn answer<T>(
        &self,
        (broker, connection): (BrokerId, &Connection),
        pending: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let mut pending = std::pin::pin!(pending);
        loop {
            tokio::select! {
                biased;
                answer = &mut pending => return answer,
                () = self.clock().wait(self.inner.options.patience) => {}
            }
            tokio::select! {
                biased;
                answer = &mut pending => return answer,
                latest = self.metadata(Topics::None), if self.has_others() => {
                    if latest.is_ok_and(|latest| !latest.brokers.contains_key(&broker)) {
                        connection.close("it does not answer, and the cluster has fenced it");
                    }
                }
            }
        }
    }

    /// Whether there is more than one broker to ask.
    fn has_others(&self) -> bool {
        let told = match &self.inner.bootstrap {
            Bootstrap::Addresses(addresses) => addresses.len(),
            Bootstrap::Dial(_) => 1,
        };
        self.latest().brokers.len().max(told) > 1
    }

    /// Sends `request` to one broker.
    ///
    /// # Errors
    /// Where it cannot be reached, or does not answer.
    pub async fn send<R: Request>(&self, broker: BrokerId, request: &R) -> Result<R::Response, ClientError> {
        Ok(self.connection(broker, Lane::Requests).await?.call(request).await?)
    }

    /// Sends `request` to the controller, or to the broker that forwards to it.
    ///
    /// # Errors
    /// Where it cannot be reached, or does not answer.
    pub async fn controller<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let controller = self.latest().controller;
        match controller {
            Some(controller) => self.send(controller, request).await,
            None => self.any(request).await,
        }
    }

    /// Sends `request` to the leader of `partition`.
    ///
    /// # Errors
    /// Where there is no leader, or it cannot be reached, or does not answer.
    pub async fn to_leader<R: Request>(
        &self,
        partition: &TopicPartition,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let (leader, _) = self.leader(partition).await?;
        self.send(leader, request).await
    }

    /// The connection to `broker` for one kind of traffic; made where there is none that works.
    ///
    /// # Errors
    /// [`ClientError::NoSuchBroker`], or why it cannot be reached.
    pub async fn connection(&self, broker: BrokerId, lane: Lane) -> Result<Connection, ClientError> {
        let slot = Arc::clone(self.inner.slots.lock().entry((broker, lane)).or_default());
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.broken().is_none()) {
            return Ok(connection.clone());
        }
        let address = match self.address_of(broker) {
            Some(address) => address,
            None => {
                self.metadata(Topics::None).await?;
                self.address_of(broker).ok_or(ClientError::NoSuchBroker(broker))?
            }
        };
        let connection = self.open(&address).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Runs `attempt` until it succeeds, fails for good, or [`ClientOptions::api_timeout`] is up.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn retrying<T, F, Fut>(&self, attempt: F) -> Result<T, ClientError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let deadline = self.clock().elapsed() + self.inner.options.api_timeout;
        let mut failures = 0;
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && !matches!(error, ClientError::NoBroker { .. }) => {
                    failures += 1;
                    let pause = self.inner.options.backoff.after(failures);
                    if self.clock().elapsed() + pause >= deadline {
                        return Err(error);
                    }
                    self.clock().wait(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The pause after `failures` failures in a row.
    pub(super) async fn pause(&self, failures: u32) {
        self.clock().wait(self.inner.options.backoff.after(failures)).await;
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.options.clock
    }

    fn address_of(&self, broker: BrokerId) -> Option<Address> {
        self.latest().brokers.get(&broker)?.address.clone().or_else(|| self.stand_in())
    }

    /// A broker in this process has no address, and needs none.
    fn stand_in(&self) -> Option<Address> {
        matches!(self.inner.bootstrap, Bootstrap::Dial(_)).then(|| Address::Unix("in-process".into()))
    }

    /// A connection to whichever broker answers first, kept for the next call.
    pub(super) async fn home(&self) -> Result<Connection, ClientError> {
        let mut home = self.inner.home.lock().await;
        if let Some(connection) = home.as_ref().filter(|connection| connection.broken().is_none()) {
            return Ok(connection.clone());
        }
        let start = self.clock().elapsed();
        let deadline = start + self.inner.options.bootstrap_timeout;
        let mut failures = 0;
        loop {
            let mut why = "there is no address to try".to_owned();
            // The last attempt begins when the time is up: a broker that came meanwhile is still met.
            let until = deadline.max(self.clock().elapsed() + LAST_ATTEMPT);
            let mut candidates = self.candidates();
            // Who failed last is asked last.
            if let Some(failed) = home.as_ref().map(|connection| connection.peer().to_owned()) {
                candidates.sort_by_key(|address| address.to_string() == failed);
            }
            for (tried, address) in candidates.iter().enumerate() {
                // One that takes the connection and says nothing must leave the others their share of the time.
                let now = self.clock().elapsed();
                let left = u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
                let share = until.saturating_sub(now) / left;
                match self.open_until(address, now + share.max(LAST_ATTEMPT)).await {
                    Ok(connection) => return Ok(home.insert(connection).clone()),
                    Err(error) => why = error.to_string(),
                }
            }
            failures += 1;
            let now = self.clock().elapsed();
            let pause = self.inner.options.backoff.after(failures);
            if now >= deadline {
                let bootstrap = self.inner.bootstrap.to_string();
                let after = now.saturating_sub(start);
                return Err(ClientError::NoBroker { bootstrap, why, after });
            }
            self.clock().wait(pause.min(deadline.saturating_sub(now))).await;
        }
    }

    /// Where a broker may be: those of the command line, then those the cluster named.
    fn candidates(&self) -> Vec<Address> {
        let mut candidates = match &self.inner.bootstrap {
            Bootstrap::Addresses(addresses) => addresses.clone(),
            Bootstrap::Dial(_) => self.stand_in().into_iter().collect(),
        };
        let learned = self.latest();
        for address in learned.brokers.values().filter_map(|broker| broker.address.as_ref()) {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }

    async fn open(&self, address: &Address) -> Result<Connection, ClientError> {
        let deadline = self.clock().elapsed() + self.inner.options.connect_timeout;
        self.open_until(address, deadline).await
    }

    async fn open_until(&self, address: &Address, deadline: Duration) -> Result<Connection, ClientError> {
        let target = match &self.inner.bootstrap {
            Bootstrap::Dial(dial) => Target::Dial(dial.as_ref()),
            Bootstrap::Addresses(_) => Target::Address(address),
        };
        Ok(Connection::connect_until(&target, &self.inner.options.of_connection(), deadline).await?)
    }
}

/// Questions that any broker answers from its memory, and that do no harm when they are asked twice.
fn is_answered_at_once(key: ApiKey) -> bool {
    matches!(key, ApiKey::Metadata | ApiKey::FindCoordinator | ApiKey::InitProducerId)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::fake::{Fake, Reply};
    use super::*;
    use crate::net::outgoing::fake::listen;
    use crate::protocol::ApiKey;
    use crate::protocol::messages::metadata_response::{MetadataResponse, MetadataResponseBroker};
    use crate::protocol::messages::produce_request::ProduceRequest;

    #[tokio::test]
    async fn a_broker_that_hangs_up_fails_what_waits_and_is_called_anew() {
        let bootstrap = Fake::bootstrap(|asked| match asked.key() {
            ApiKey::Metadata if asked.connection == 0 => Reply::Close,
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => asked.answer(&MetadataResponse { controller_id: 7, ..Default::default() }),
        });
        let cluster = Cluster::connect(bootstrap, ClientOptions::default()).await.unwrap();
        assert_eq!(cluster.latest().controller, Some(BrokerId(7)));
    }

    #[tokio::test]
    async fn a_broker_that_is_stopped_leaves_time_for_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let (stopped, alive) = (folder.path().join("stopped"), folder.path().join("alive"));
        listen(&stopped, |_| Reply::Nothing);
        listen(&alive, |asked| match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => asked.answer(&MetadataResponse { controller_id: 7, ..Default::default() }),
        });
        let bootstrap = Bootstrap::Addresses(vec![Address::Unix(stopped), Address::Unix(alive)]);
        let options =
            ClientOptions { bootstrap_timeout: Duration::from_millis(600), ..ClientOptions::default() };
        let cluster = Cluster::connect(bootstrap, options).await.unwrap();
        assert_eq!(cluster.latest().controller, Some(BrokerId(7)));
    }
    #[tokio::test]
    async fn a_broker_that_is_silent_and_fenced_is_waited_for_no_longer_than_it_takes_to_hear_so() {
        let folder = tempfile::tempdir().unwrap();
        let (stopped, alive) = (folder.path().join("stopped"), folder.path().join("alive"));
        let broker = |id, path: &std::path::Path| MetadataResponseBroker {
            node_id: id,
            host: path.to_str().unwrap().into(),
            ..Default::default()
        };
        let brokers = [broker(1, &stopped), broker(2, &alive)];
        let (asked_first, all) = (AtomicUsize::new(0), brokers.to_vec());
        listen(&stopped, move |asked| match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata if asked_first.fetch_add(1, Ordering::SeqCst) == 0 => {
                asked.answer(&MetadataResponse { brokers: all.clone(), ..Default::default() })
            }
            _ => Reply::Nothing,
        });
        // Fenced from the second question on.
        let asked_second = AtomicUsize::new(0);
        listen(&alive, move |asked| match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => {
                let from = usize::from(asked_second.fetch_add(1, Ordering::SeqCst) > 0);
                asked.answer(&MetadataResponse { brokers: brokers[from..].to_vec(), ..Default::default() })
            }
        });
        let patience = Duration::from_millis(20);
        let cluster = Cluster::connect(
            Bootstrap::Addresses(vec![Address::Unix(stopped)]),
            ClientOptions { patience, ..ClientOptions::default() },
        );
        let cluster = cluster.await.unwrap();
        let connection = cluster.connection(BrokerId(1), Lane::Produce).await.unwrap();
        let pending = connection.start(&ProduceRequest::default(), 9, Duration::from_secs(600)).unwrap();
        let answer = cluster.answer((BrokerId(1), &connection), pending.answer()).await;
        assert!(matches!(&answer, Err(ConnectionError::Disconnected { .. })), "{answer:?}");
        assert!(connection.broken().is_some());
        assert_eq!(cluster.latest().brokers.len(), 1);
    }
}
