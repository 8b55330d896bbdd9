//! The task that gets batches to their leaders: one loop over events, all state in one place.
//!
//! Everything slow (connecting, metadata, waiting for an answer) is a task of its own that ends in an event;
//! the loop itself only decides and queues requests, so that the order of requests is the order of decisions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::net::outgoing::{Connection, Pending, Written};
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use crate::protocol::{ErrorCode, Records};
use crate::types::{BrokerId, ProducerEpoch, ProducerId, Uuid};

use super::super::cluster::{Cluster, Lane};
use super::super::config::{Acks, ProducerOptions};
use super::super::error::{BrokerError, ClientError};
use super::super::metadata::TopicMetadata;
use super::budget::Budget;
use super::delivery::{Delivered, Delivery, DeliveryCause, DeliveryError};
use super::judgement::{judge, leader_is_elsewhere};
use super::pool::Pool;
use super::queue::{Batch, Identity, Outcome, Queue, Rules, Verdict};

/// The first Produce version that names topics by their ids alone.
const TOPIC_IDS_FROM: i16 = 13;

/// What the loop hears.
pub(super) enum Event {
    /// A topic was opened: its partitions become the next queues. What is heard of it later is told to `newest`.
    Opened {
        topic: Arc<TopicMetadata>,
        newest: watch::Sender<Arc<TopicMetadata>>,
    },
    /// A topic has more partitions than before: the new ones become the next queues.
    Grown {
        topic: usize,
        metadata: Arc<TopicMetadata>,
    },
    /// A batch for a queue.
    Sealed {
        queue: usize,
        batch: Batch,
    },
    /// Answer once nothing is on its way.
    Flush(oneshot::Sender<()>),
    Answered {
        broker: BrokerId,
        sent: Vec<(usize, u64)>,
        answer: Result<ProduceResponse, ClientError>,
    },
    Connected {
        broker: BrokerId,
        connection: Result<Connection, ClientError>,
    },
    Refreshed {
        topic: usize,
        metadata: Result<Arc<TopicMetadata>, ClientError>,
    },
    Identified(Result<Identity, ClientError>),
}

/// The loop's state.
pub(super) struct Sender {
    cluster: Cluster,
    options: ProducerOptions,
    rules: Rules,
    pool: Pool,
    budget: Arc<Budget>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    /// Weak, so that the loop ends when the producer is gone.
    events: mpsc::WeakUnboundedSender<Event>,
    topics: Vec<Topic>,
    roads: Vec<Road>,
    /// Queues that are not empty.
    active: BTreeSet<usize>,
    links: HashMap<BrokerId, Link>,
    identity: IdentityState,
    flushes: Vec<oneshot::Sender<()>>,
    /// When it was last looked for what can be sent: what was due then is not due again.
    looked_at: Duration,
}

struct Topic {
    name: Arc<str>,
    id: Uuid,
    /// The queue of each partition.
    queues: Vec<usize>,
    /// Where the producer sees what is heard of the topic.
    newest: watch::Sender<Arc<TopicMetadata>>,
    is_refreshing: bool,
    failures: u32,
    /// Not before this time.
    refresh_at: Duration,
    /// By this time at the latest: partitions are added while nothing fails.
    stale_at: Duration,
}

/// One partition: its queue and where it leads.
struct Road {
    topic: usize,
    partition: i32,
    leader: Option<BrokerId>,
    queue: Queue,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    is_connecting: bool,
    in_flight: usize,
    /// Ends when the newest answer that is awaited has been heard: the next one is heard behind it, so that batches of
    /// a partition are reported in their order.
    newest: Option<oneshot::Receiver<()>>,
}

enum IdentityState {
    /// None is being asked for; not before this time.
    Idle {
        ask_at: Duration,
        failures: u32,
    },
    Asked {
        failures: u32,
    },
}

impl Sender {
    pub(super) fn new(
        cluster: Cluster,
        options: ProducerOptions,
        rules: Rules,
        (pool, budget): (Pool, Arc<Budget>),
        deliveries: mpsc::UnboundedSender<Delivery>,
        events: mpsc::WeakUnboundedSender<Event>,
    ) -> Self {
        Self {
            cluster,
            options,
            rules,
            pool,
            budget,
            deliveries,
            events,
            topics: Vec::new(),
            roads: Vec::new(),
            active: BTreeSet::new(),
            links: HashMap::new(),
            identity: IdentityState::Idle { ask_at: Duration::ZERO, failures: 0 },
            flushes: Vec::new(),
            looked_at: Duration::ZERO,
        }
    }

    /// Runs until the producer is gone and no answer is due.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let clock = Arc::clone(self.cluster.clock());
        loop {
            let wake_at = self.wake_at();
            let event = tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = clock.wait_until(wake_at.unwrap_or(Duration::MAX)), if wake_at.is_some() => None,
            };
            if let Some(event) = event {
                self.hear(event);
                while let Ok(event) = events.try_recv() {
                    self.hear(event);
                }
            }
            self.expire();
            self.refresh_what_is_stale();
            self.send_what_can_be_sent();
            self.answer_flushes();
        }
    }

    fn now(&self) -> Duration {
        self.cluster.clock().elapsed()
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Opened { topic, newest } => self.open(&topic, newest),
            Event::Grown { topic, metadata } => self.grow(topic, &metadata),
            Event::Sealed { queue, batch } => {
                self.roads[queue].queue.push(batch);
                self.active.insert(queue);
            }
            Event::Flush(done) => self.flushes.push(done),
            Event::Answered { broker, sent, answer } => self.answered(broker, &sent, answer),
            Event::Connected { broker, connection } => self.connected(broker, connection),
            Event::Refreshed { topic, metadata } => self.refreshed(topic, metadata),
            Event::Identified(identity) => self.identified(identity),
        }
    }

    /// Runs `work` beside the loop; what it ends in is heard.
    fn beside(&self, work: impl Future<Output = Event> + Send + 'static) {
        // A producer that is gone has nothing more to be told, but for batches: they end in `run`.
        if let Some(events) = self.events.upgrade() {
            tokio::spawn(async move {
                let _ = events.send(work.await);
            });
        }
    }

    fn open(&mut self, metadata: &TopicMetadata, newest: watch::Sender<Arc<TopicMetadata>>) {
        let topic = self.topics.len();
        self.topics.push(Topic {
            name: metadata.name.as_str().into(),
            id: metadata.id,
            queues: Vec::new(),
            newest,
            is_refreshing: false,
            failures: 0,
            refresh_at: Duration::ZERO,
            stale_at: self.now() + self.cluster.options().metadata_age_max,
        });
        self.grow(topic, metadata);
    }

    /// Adds the queues of partitions that are not known yet. The producer numbers them alike.
    fn grow(&mut self, topic: usize, metadata: &TopicMetadata) {
        let queues = &mut self.topics[topic].queues;
        for partition in metadata.partitions.iter().skip(queues.len()) {
            queues.push(self.roads.len());
            self.roads.push(Road {
                topic,
                partition: partition.partition,
                leader: partition.leader,
                queue: Queue::new(),
            });
        }
    }

    // --- sending ---

    fn send_what_can_be_sent(&mut self) {
        let now = self.now();
        self.looked_at = now;
        if self.active.iter().any(|&queue| self.roads[queue].queue.wants_identity(&self.rules)) {
            self.ask_for_identity(now);
        }
        let mut by_leader: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        let active: Vec<usize> = self.active.iter().copied().collect();
        for queue in active {
            let road = &self.roads[queue];
            match road.leader {
                _ if road.queue.send_at(&self.rules).is_none_or(|at| at > now) => {}
                Some(leader) => by_leader.entry(leader).or_default().push(queue),
                None => self.refresh(road.topic, now),
            }
        }
        for (leader, queues) in by_leader {
            self.send_to(leader, queues, now);
        }
    }

    /// Fills requests to one broker until its window or the queues are exhausted.
    fn send_to(&mut self, broker: BrokerId, mut queues: Vec<usize>, now: Duration) {
        let link = self.links.entry(broker).or_default();
        let Some(connection) = link.connection.clone().filter(|c| c.broken().is_none()) else {
            link.connection = None;
            if !std::mem::replace(&mut link.is_connecting, true) {
                let cluster = self.cluster.clone();
                self.beside(async move {
                    let connection = cluster.connection(broker, Lane::Produce).await;
                    Event::Connected { broker, connection }
                });
            }
            return;
        };
        while !queues.is_empty()
            && self.links.get(&broker).is_some_and(|l| l.in_flight < self.options.in_flight_max)
        {
            let sent = self.take_batches(&mut queues);
            if !sent.is_empty() {
                self.send_request(broker, &connection, sent);
            }
            queues.retain(|&queue| self.roads[queue].queue.send_at(&self.rules).is_some_and(|at| at <= now));
        }
    }

    /// One batch of each queue, as many as fit a request.
    fn take_batches(&mut self, queues: &mut [usize]) -> Vec<(usize, u64, bytes::Bytes)> {
        let (mut taken, mut size) = (Vec::new(), 0);
        // Who was first last time is last this time.
        queues.rotate_left(usize::from(queues.len() > 1));
        for &queue in queues.iter() {
            let weight = self.roads[queue].queue.next_weight();
            if !taken.is_empty() && size + weight > self.options.request_bytes_max {
                break;
            }
            match self.roads[queue].queue.send_next(&self.rules, &self.pool) {
                Ok((id, bytes)) => {
                    size += bytes.len();
                    taken.push((queue, id, bytes));
                }
                Err(failed) => {
                    let (batch, error) = *failed;
                    let refused = DeliveryCause::Refused {
                        code: ErrorCode::CorruptMessage,
                        message: Some(error.to_string()),
                        records: Vec::new(),
                    };
                    self.over(queue, batch, Err(refused));
                }
            }
        }
        taken
    }

    fn send_request(
        &mut self,
        broker: BrokerId,
        connection: &Connection,
        batches: Vec<(usize, u64, bytes::Bytes)>,
    ) {
        let sent: Vec<(usize, u64)> = batches.iter().map(|&(queue, id, _)| (queue, id)).collect();
        let request = self.request(batches);
        let has_ids = request.topic_data.iter().all(|topic| !topic.topic_id.is_zero());
        let at_most = if has_ids { i16::MAX } else { TOPIC_IDS_FROM - 1 };
        let started = connection.version_of::<ProduceRequest>(at_most).and_then(|version| {
            let timeout = self.cluster.options().request_timeout;
            match self.options.acks {
                Acks::None => connection.start_unanswered(&request, version).map(Started::Unanswered),
                _ => connection.start(&request, version, timeout).map(Started::Answered),
            }
        });
        let link = self.links.entry(broker).or_default();
        link.in_flight += 1;
        let waiting = match started {
            Ok(waiting) => waiting,
            Err(error) => return self.answered(broker, &sent, Err(error.into())),
        };
        let (is_heard, heard) = oneshot::channel::<()>();
        let before = link.newest.replace(heard);
        let Some(events) = self.events.upgrade() else { return };
        let (cluster, connection) = (self.cluster.clone(), connection.clone());
        tokio::spawn(async move {
            let answer = match waiting {
                Started::Answered(pending) => cluster.answer((broker, &connection), pending.answer()).await,
                Started::Unanswered(written) => written.done().await.map(|()| ProduceResponse::default()),
            };
            if let Some(before) = before {
                let _ = before.await;
            }
            let _ = events.send(Event::Answered { broker, sent, answer: answer.map_err(ClientError::from) });
            drop(is_heard);
        });
    }

    fn request(&self, batches: Vec<(usize, u64, bytes::Bytes)>) -> ProduceRequest {
        let mut by_topic: BTreeMap<usize, Vec<PartitionProduceData>> = BTreeMap::new();
        for (queue, _, bytes) in batches {
            let road = &self.roads[queue];
            by_topic.entry(road.topic).or_default().push(PartitionProduceData {
                index: road.partition,
                records: Some(Records::Inline(bytes)),
                ..Default::default()
            });
        }
        let topic_data = by_topic.into_iter().map(|(topic, partition_data)| TopicProduceData {
            name: (&*self.topics[topic].name).into(),
            topic_id: self.topics[topic].id,
            partition_data,
            ..Default::default()
        });
        ProduceRequest {
            acks: match self.options.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: i32::try_from(self.cluster.options().request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topic_data.collect(),
            ..Default::default()
        }
    }

    // --- answers ---

    fn answered(
        &mut self,
        broker: BrokerId,
        sent: &[(usize, u64)],
        answer: Result<ProduceResponse, ClientError>,
    ) {
        if let Some(link) = self.links.get_mut(&broker) {
            link.in_flight -= 1;
        }
        match answer {
            Ok(_) if self.options.acks == Acks::None => {
                for &(queue, id) in sent {
                    let nowhere = Delivered { base_offset: None, log_append_time_ms: None };
                    self.settle(queue, id, Outcome::Written, Ok(nowhere));
                }
            }
            Ok(response) => {
                let mut partitions = self.by_partition(response);
                for &(queue, id) in sent {
                    let road = &self.roads[queue];
                    match partitions.remove(&(road.topic, road.partition)) {
                        Some(partition) => self.partition_answered(queue, id, partition),
                        None => {
                            let why = "the broker's answer leaves the partition out".to_owned();
                            self.retry(queue, id, Outcome::Retry { maybe_written: true, why });
                        }
                    }
                }
            }
            Err(error) if error.is_retriable() => {
                let maybe_written = !error.is_before_sending();
                for &(queue, id) in sent {
                    self.roads[queue].leader = None;
                    self.retry(queue, id, Outcome::Retry { maybe_written, why: error.to_string() });
                }
                self.forget(sent);
            }
            Err(error) => {
                for &(queue, id) in sent {
                    self.settle(queue, id, Outcome::Refused, Err(DeliveryCause::Client(error.clone())));
                }
            }
        }
    }

    fn by_partition(&self, response: ProduceResponse) -> HashMap<(usize, i32), PartitionProduceResponse> {
        let mut found = HashMap::new();
        for topic in response.responses {
            let is_it = |known: &Topic| {
                if topic.name.is_empty() { known.id == topic.topic_id } else { *known.name == *topic.name }
            };
            let Some(known) = self.topics.iter().position(is_it) else { continue };
            found.extend(topic.partition_responses.into_iter().map(|p| ((known, p.index), p)));
        }
        found
    }

    fn partition_answered(&mut self, queue: usize, id: u64, answer: PartitionProduceResponse) {
        let code = ErrorCode::from_wire(answer.error_code);
        let message = answer.error_message.as_ref().map(ToString::to_string);
        if leader_is_elsewhere(code) {
            self.roads[queue].leader = None;
            self.forget(&[(queue, id)]);
        }
        match judge(code, message.as_deref()) {
            Outcome::Written => {
                let delivered = Delivered {
                    base_offset: (answer.base_offset >= 0).then_some(answer.base_offset),
                    log_append_time_ms: (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms),
                };
                self.settle(queue, id, Outcome::Written, Ok(delivered));
            }
            outcome @ (Outcome::Refused | Outcome::TooLarge) => {
                let records = answer.record_errors.into_iter().map(|error| {
                    let words = error.batch_index_error_message.as_ref().map(ToString::to_string);
                    (usize::try_from(error.batch_index).unwrap_or(0), words.unwrap_or_default())
                });
                let refused = DeliveryCause::Refused { code, message, records: records.collect() };
                self.settle(queue, id, outcome, Err(refused));
            }
            outcome => self.retry(queue, id, outcome),
        }
    }

    /// An attempt failed; where no further one is allowed, the batch has.
    fn retry(&mut self, queue: usize, id: u64, outcome: Outcome) {
        let gave_up = DeliveryCause::GaveUp { after: Duration::ZERO, last: None };
        self.settle(queue, id, outcome, Err(gave_up));
    }

    fn settle(&mut self, queue: usize, id: u64, outcome: Outcome, end: Result<Delivered, DeliveryCause>) {
        let now = self.now();
        if let Verdict::Over(batch) = self.roads[queue].queue.answered(id, outcome, &self.rules, now) {
            self.over(queue, batch, end);
        }
    }

    /// Reports a batch, frees its share of the memory.
    fn over(&mut self, queue: usize, batch: Batch, end: Result<Delivered, DeliveryCause>) {
        let road = &self.roads[queue];
        let after = self.now().saturating_sub(batch.born);
        let maybe_written = batch.maybe_written;
        let outcome = end.map_err(|cause| match cause {
            DeliveryCause::GaveUp { .. } => {
                let cause = DeliveryCause::GaveUp { after, last: batch.last_failure.clone() };
                DeliveryError { cause, maybe_written }
            }
            cause => DeliveryError { cause, maybe_written },
        });
        self.budget.give_back(batch.weight);
        // Nobody listening is nobody interested.
        let _ = self.deliveries.send(Delivery {
            topic: Arc::clone(&self.topics[road.topic].name),
            partition: road.partition,
            batch: batch.bytes(),
            tags: batch.tags,
            outcome,
        });
        if self.roads[queue].queue.is_empty() {
            self.active.remove(&queue);
        }
    }

    fn answer_flushes(&mut self) {
        if self.active.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    // --- time ---

    fn expire(&mut self) {
        let (now, patience) = (self.now(), self.options.delivery_timeout);
        let active: Vec<usize> = self.active.iter().copied().collect();
        for queue in active {
            while let Some(batch) = self.roads[queue].queue.expire(now, patience) {
                self.over(queue, batch, Err(DeliveryCause::GaveUp { after: patience, last: None }));
            }
        }
    }

    /// When something is to be done though nothing is heard.
    fn wake_at(&self) -> Option<Duration> {
        let now = self.looked_at;
        let roads = self.active.iter().map(|&queue| &self.roads[queue]);
        let mut wakes: Vec<Duration> = Vec::new();
        for road in roads {
            wakes.extend(road.queue.expires_at(self.options.delivery_timeout));
            let send_at = road.queue.send_at(&self.rules);
            match road.leader {
                // What could be sent by now waits for an answer or a connection, which are heard.
                Some(_) => wakes.extend(send_at.filter(|&at| at > now)),
                None if self.topics[road.topic].is_refreshing => {}
                None => wakes.extend(send_at.map(|at| at.max(self.topics[road.topic].refresh_at))),
            }
            if let (true, IdentityState::Idle { ask_at, .. }) =
                (road.queue.wants_identity(&self.rules), &self.identity)
            {
                wakes.push(*ask_at);
            }
        }
        let idle = self.topics.iter().filter(|topic| !topic.is_refreshing);
        wakes.extend(idle.map(|topic| topic.stale_at.max(topic.refresh_at)));
        wakes.into_iter().min()
    }

    // --- leaders, connections, identities ---

    /// What memory holds of these queues' topics is stale.
    fn forget(&self, sent: &[(usize, u64)]) {
        for &(queue, _) in sent {
            self.cluster.forget_topic(&self.topics[self.roads[queue].topic].name);
        }
    }

    fn refresh(&mut self, topic: usize, now: Duration) {
        let state = &mut self.topics[topic];
        if state.is_refreshing || state.refresh_at > now {
            return;
        }
        state.is_refreshing = true;
        let (cluster, name) = (self.cluster.clone(), Arc::clone(&state.name));
        self.beside(async move {
            cluster.forget_topic(&name);
            Event::Refreshed { topic, metadata: cluster.topic(&name, false).await }
        });
    }

    fn refresh_what_is_stale(&mut self) {
        let now = self.now();
        for topic in 0..self.topics.len() {
            if self.topics[topic].stale_at <= now {
                self.refresh(topic, now);
            }
        }
    }

    fn refreshed(&mut self, index: usize, metadata: Result<Arc<TopicMetadata>, ClientError>) {
        let now = self.now();
        let topic = &mut self.topics[index];
        topic.is_refreshing = false;
        topic.failures += 1;
        topic.refresh_at = now + self.rules.backoff.after(topic.failures);
        match metadata {
            Ok(metadata) => {
                topic.id = metadata.id;
                topic.stale_at = now + self.cluster.options().metadata_age_max;
                let mut all_led = true;
                for partition in &metadata.partitions {
                    let number = usize::try_from(partition.partition).unwrap_or(usize::MAX);
                    let Some(&queue) = topic.queues.get(number) else { continue };
                    let road = &mut self.roads[queue];
                    road.leader = partition.leader;
                    all_led &= road.leader.is_some();
                }
                if all_led {
                    topic.failures = 0;
                }
                topic.newest.send_replace(metadata);
            }
            Err(error) if error.is_retriable() => {}
            Err(error) => self.give_up_topic(index, &error),
        }
    }

    fn give_up_topic(&mut self, topic: usize, error: &ClientError) {
        let is_its = |&queue: &usize| self.roads[queue].topic == topic;
        let active: Vec<usize> = self.active.iter().copied().filter(is_its).collect();
        for queue in active {
            let batches: Vec<Batch> = self.roads[queue].queue.take_all_waiting().collect();
            for batch in batches {
                self.over(queue, batch, Err(DeliveryCause::Client(error.clone())));
            }
        }
    }

    fn connected(&mut self, broker: BrokerId, connection: Result<Connection, ClientError>) {
        let link = self.links.entry(broker).or_default();
        link.is_connecting = false;
        match connection {
            Ok(connection) => link.connection = Some(connection),
            Err(_) => {
                // Perhaps it is gone for good: ask who leads now, after a pause.
                let now = self.now();
                for road in self.roads.iter_mut().filter(|road| road.leader == Some(broker)) {
                    road.leader = None;
                    let topic = &mut self.topics[road.topic];
                    if topic.refresh_at <= now {
                        topic.failures += 1;
                        topic.refresh_at = now + self.rules.backoff.after(topic.failures);
                    }
                }
            }
        }
    }

    fn ask_for_identity(&mut self, now: Duration) {
        let failures = match self.identity {
            IdentityState::Idle { ask_at, failures } if ask_at <= now => failures,
            _ => return,
        };
        self.identity = IdentityState::Asked { failures };
        let cluster = self.cluster.clone();
        self.beside(async move { Event::Identified(identify(&cluster).await) });
    }

    fn identified(&mut self, identity: Result<Identity, ClientError>) {
        let IdentityState::Asked { failures } = self.identity else { return };
        let now = self.now();
        self.identity = IdentityState::Idle { ask_at: now, failures: 0 };
        match identity {
            Ok(identity) => {
                for road in self.roads.iter_mut().filter(|road| road.queue.wants_identity(&self.rules)) {
                    road.queue.set_identity(identity);
                }
            }
            Err(error) if error.is_retriable() => {
                let failures = failures + 1;
                let ask_at = now + self.rules.backoff.after(failures);
                self.identity = IdentityState::Idle { ask_at, failures };
            }
            Err(error) => (0..self.topics.len()).for_each(|topic| self.give_up_topic(topic, &error)),
        }
    }
}

enum Started {
    Answered(Pending<ProduceRequest>),
    Unanswered(Written),
}

async fn identify(cluster: &Cluster) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let response = cluster.any(&request).await?;
    BrokerError::check(response.error_code, || "a producer id".to_owned(), None)?;
    Ok(Identity { id: ProducerId(response.producer_id), epoch: ProducerEpoch(response.producer_epoch) })
}
