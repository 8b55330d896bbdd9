//! Records to topics: appended without waiting, batched by partition, delivered in order and once, and each
//! reported.
//!
//! [`Producer`] is the caller's side: it is owned by one thread, never blocks and takes no lock a record.
//! Batches go to the sender's task; what became of them comes back as [`Delivery`]s. Backpressure is the
//! caller's to ask for: [`Producer::has_room`], [`Producer::room`]. There is no timer on this side either:
//! whoever appends knows when its input pauses, and says so with [`Producer::send_open`].

mod budget;
mod delivery;
mod judgement;
mod pool;
mod queue;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::record::{BATCH_HEADER_SIZE, BatchBuilder, HeaderRef};

use super::cluster::Cluster;
use super::config::{Acks, ConfigError, ProducerOptions};
use super::error::ClientError;
use super::metadata::TopicMetadata;
use super::partitioner::Draw;

use budget::Budget;
use pool::Pool;
use queue::{Batch, Content, Rules};
use sender::{Event, Sender};

pub use delivery::{Delivered, Delivery, DeliveryCause, DeliveryError, Tags};

/// A producer. Dropping it forgets what was not flushed.
pub struct Producer {
    cluster: Cluster,
    options: ProducerOptions,
    rules: Rules,
    pool: Pool,
    budget: Arc<Budget>,
    events: mpsc::UnboundedSender<Event>,
    topics: Vec<Topic>,
    by_name: HashMap<String, TopicHandle>,
    queues: usize,
    /// Bytes in batches that are still being filled.
    open_bytes: usize,
    /// Records handed over so far: ids of batches.
    records: u64,
}

/// A topic that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicHandle(usize);

struct Topic {
    metadata: Arc<TopicMetadata>,
    /// What the sender has heard since: partitions may have been added.
    newest: watch::Receiver<Arc<TopicMetadata>>,
    /// The queue of each partition.
    queues: Vec<usize>,
    draw: Draw,
    open: Vec<Option<OpenBatch>>,
}

struct OpenBatch {
    builder: Box<BatchBuilder>,
    tags: Tags,
    born: Duration,
}

/// A record to be appended; its headers come apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Where it must go; `None` lets the partitioner choose.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// Why a record was not taken. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    /// Larger than any request may be.
    #[error("the record takes {size} bytes; at most {max} are sent (max.request.size)")]
    TooLarge {
        /// What it would take.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic} has no partition {partition}: it has {count}")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
}

impl Producer {
    /// Starts the sender on the current runtime. The receiver gets one [`Delivery`] for every batch.
    ///
    /// # Errors
    /// Where the codec has no such level.
    pub fn start(
        cluster: Cluster,
        options: ProducerOptions,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Delivery>), ConfigError> {
        let (events, heard) = mpsc::unbounded_channel();
        let (deliveries, delivered) = mpsc::unbounded_channel();
        let is_repeating = options.retries > 0 && options.acks != Acks::None;
        let rules = Rules {
            is_idempotent: options.is_idempotent(),
            // Without sequences a batch could overtake one that is sent again.
            window: if is_repeating && !options.is_idempotent() { 1 } else { options.in_flight_max },
            retries: options.retries,
            backoff: cluster.options().backoff,
            compression: options.compression()?,
        };
        let (pool, budget) = (Pool::default(), Arc::new(Budget::new(options.buffer_bytes)));
        let shared = (pool.clone(), Arc::clone(&budget));
        let sender = Sender::new(
            cluster.clone(),
            options.clone(),
            rules.clone(),
            shared,
            deliveries,
            events.downgrade(),
        );
        tokio::spawn(sender.run(heard));
        let producer = Self {
            cluster,
            options,
            rules,
            pool,
            budget,
            events,
            topics: Vec::new(),
            by_name: HashMap::new(),
            queues: 0,
            open_bytes: 0,
            records: 0,
        };
        Ok((producer, delivered))
    }

    /// Makes a topic ready to be appended to; it is created where it is missing and may be.
    ///
    /// # Errors
    /// The topic's error code, or that no broker answers.
    pub async fn open_topic(&mut self, name: &str) -> Result<TopicHandle, ClientError> {
        if let Some(&handle) = self.by_name.get(name) {
            return Ok(handle);
        }
        let metadata = self.cluster.topic(name, self.options.create_topics).await?;
        let handle = TopicHandle(self.topics.len());
        let mut seed = [0; 8];
        // Without randomness every producer would stick to the same partition first; no more than that.
        let _ = getrandom::fill(&mut seed);
        let (tell, newest) = watch::channel(Arc::clone(&metadata));
        let count = metadata.partitions.len();
        self.topics.push(Topic {
            metadata: Arc::clone(&metadata),
            newest,
            queues: (self.queues..).take(count).collect(),
            draw: Draw::new(self.options.partitioner, u64::from_ne_bytes(seed)),
            open: metadata.partitions.iter().map(|_| None).collect(),
        });
        self.by_name.insert(name.to_owned(), handle);
        self.queues += count;
        self.tell(Event::Opened { topic: metadata, newest: tell });
        Ok(handle)
    }

    /// Takes up what the sender has heard of a topic, partitions that were added among it.
    fn catch_up(&mut self, handle: TopicHandle) {
        let topic = &mut self.topics[handle.0];
        if !topic.newest.has_changed().unwrap_or(false) {
            return;
        }
        let metadata = Arc::clone(&topic.newest.borrow_and_update());
        topic.metadata = Arc::clone(&metadata);
        let count = metadata.partitions.len();
        // Of a topic that was made anew with fewer, the others fail when they are sent.
        if count <= topic.queues.len() {
            return;
        }
        let more = count - topic.queues.len();
        topic.queues.extend((self.queues..).take(more));
        topic.open.resize_with(count, || None);
        self.queues += more;
        self.tell(Event::Grown { topic: handle.0, metadata });
    }

    /// How many partitions an opened topic has.
    #[must_use]
    pub fn partition_count(&self, topic: TopicHandle) -> usize {
        self.topics[topic.0].open.len()
    }

    /// Appends a record to the batch of its partition. `tag` comes back in the [`Delivery`].
    ///
    /// # Errors
    /// [`AppendError`]; the record is then not taken, and nothing else is harmed.
    pub fn append<'h>(
        &mut self,
        topic: TopicHandle,
        record: NewRecord<'_>,
        headers: impl IntoIterator<Item = HeaderRef<'h>, IntoIter: Clone>,
        tag: u64,
    ) -> Result<(), AppendError> {
        let headers = headers.into_iter();
        let size = BatchBuilder::record_size_max(record.key, record.value)
            + headers.clone().map(|h| 10 + h.key.len() + h.value.map_or(0, <[u8]>::len)).sum::<usize>();
        let max = self.options.request_bytes_max;
        if size + BATCH_HEADER_SIZE > max {
            return Err(AppendError::TooLarge { size: size + BATCH_HEADER_SIZE, max });
        }
        let known = self.topics[topic.0].queues.len();
        if record.partition.is_some_and(|partition| usize::try_from(partition).is_ok_and(|at| at >= known)) {
            self.catch_up(topic);
        }
        let mut partition = self.topics[topic.0].choose(&record)?;
        if self.is_full(topic, partition, size) {
            self.seal(topic, partition);
            self.catch_up(topic);
            if record.partition.is_none() && self.topics[topic.0].draw.is_sticky(record.key) {
                // The record goes to the next partition, whose batch keyed records may have filled.
                self.topics[topic.0].batch_is_full();
                partition = self.topics[topic.0].choose(&record)?;
                if self.is_full(topic, partition, size) {
                    self.seal(topic, partition);
                }
            }
        }
        let open = &mut self.topics[topic.0].open[partition];
        let open = open.get_or_insert_with(|| OpenBatch {
            builder: self.pool.builder(self.rules.compression),
            tags: Tags::default(),
            born: self.cluster.clock().elapsed(),
        });
        let before = open.builder.size_estimate();
        open.builder.append(record.timestamp_ms, record.key, record.value, headers);
        open.tags.push(tag);
        self.open_bytes += open.builder.size_estimate() - before;
        Ok(())
    }

    /// Hands over every batch that was begun: the input pauses.
    pub fn send_open(&mut self) {
        self.send_begun_before(Duration::MAX);
    }

    /// Hands over the batches that have been open for `linger.ms`: to be called now and then while the input
    /// does not pause.
    pub fn send_lingering(&mut self) {
        let now = self.cluster.clock().elapsed();
        self.send_begun_before(now.saturating_sub(self.options.linger));
    }

    /// Whether `buffer.memory` leaves room. Where it does not, [`Producer::room`] waits for it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.budget.has_room(self.open_bytes)
    }

    /// Hands over what was begun, and waits until deliveries have made room.
    pub async fn room(&mut self) {
        if !self.has_room() {
            self.send_open();
            self.budget.room().await;
        }
    }

    /// Hands over what was begun, and waits until everything has come to its end.
    pub async fn flush(&mut self) {
        self.send_open();
        let (done, is_done) = oneshot::channel();
        self.tell(Event::Flush(done));
        let _ = is_done.await;
    }

    fn is_full(&self, topic: TopicHandle, partition: usize, size: usize) -> bool {
        let Some(open) = &self.topics[topic.0].open[partition] else { return false };
        let size_max = self.options.batch_bytes.min(self.options.request_bytes_max);
        open.builder.size_estimate() + size > size_max
            || open.builder.record_count() as usize >= self.options.batch_records_max
    }

    fn send_begun_before(&mut self, time: Duration) {
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].open.len() {
                let open = &self.topics[topic].open[partition];
                if open.as_ref().is_some_and(|open| open.born <= time) {
                    self.seal(TopicHandle(topic), partition);
                    self.catch_up(TopicHandle(topic));
                    self.topics[topic].batch_is_full();
                }
            }
        }
    }

    /// Hands a batch to the sender.
    fn seal(&mut self, topic: TopicHandle, partition: usize) {
        let topic = &mut self.topics[topic.0];
        let Some(open) = topic.open[partition].take() else { return };
        let queue = topic.queues[partition];
        let weight = open.builder.size_estimate();
        let records = open.builder.record_count();
        let id = self.records;
        self.records += records as u64;
        self.open_bytes = self.open_bytes.saturating_sub(weight);
        self.budget.take(weight);
        let batch = Batch {
            id,
            content: Content::Records(open.builder),
            tags: open.tags,
            records,
            weight,
            born: open.born,
            sequence: None,
            attempts: 0,
            maybe_written: false,
            last_failure: None,
        };
        self.tell(Event::Sealed { queue, batch });
    }

    /// The sender ends after its producer, never before.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Topic {
    /// The place of the record's partition.
    fn choose(&mut self, record: &NewRecord<'_>) -> Result<usize, AppendError> {
        let count = self.open.len();
        match record.partition {
            Some(partition) => {
                usize::try_from(partition).ok().filter(|&partition| partition < count).ok_or_else(|| {
                    AppendError::NoSuchPartition { topic: self.metadata.name.clone(), partition, count }
                })
            }
            None => {
                let partitions = &self.metadata.partitions;
                Ok(self.draw.partition(record.key, count, |place| {
                    partitions.get(place).is_some_and(|partition| partition.leader.is_some())
                }))
            }
        }
    }

    fn batch_is_full(&mut self) {
        let partitions = &self.metadata.partitions;
        self.draw.batch_is_full(self.open.len(), |place| {
            partitions.get(place).is_some_and(|partition| partition.leader.is_some())
        });
    }
}
