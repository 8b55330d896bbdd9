//! `-X key=value`: client properties by Kafka's Java names and librdkafka's, from one table.
//!
//! Each name either sets something, or says why it means nothing to klamm, or is refused because it would
//! change what is promised. A name that no client knows is an error that names the nearest one.

use std::time::Duration;

use thiserror::Error;

use crate::record::{Codec, Compression};

use super::membership::Assignor;
use super::options::{Backoff, ClientOptions};
use super::partitioner::Partitioner;
use super::properties::{PROPERTIES, Property};

/// Everything that `-X` can set.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// What every connection needs.
    pub client: ClientOptions,
    /// What producing needs.
    pub producer: ProducerOptions,
    /// What consuming needs.
    pub consumer: ConsumerOptions,
    /// What consuming in a group needs.
    pub group: GroupOptions,
    /// The names of properties that were set and mean something to members of groups alone.
    pub only_in_groups: Vec<String>,
}

/// When a broker answers a Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Never: what was sent counts as delivered.
    None,
    /// When the leader has it.
    Leader,
    /// When every in-sync replica has it.
    #[default]
    All,
}

/// What a [`super::Producer`] needs to know.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`; unset, it is on where acks=all.
    pub idempotence: Option<bool>,
    /// `batch.size`: a batch is sent when it has grown to this.
    pub batch_bytes: usize,
    /// `batch.num.messages`: the most records in a batch.
    pub batch_records_max: usize,
    /// `linger.ms`: how long the input may pause before what is there is sent.
    pub linger: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub in_flight_max: usize,
    /// `max.request.size`: the largest request, and so the largest record.
    pub request_bytes_max: usize,
    /// `buffer.memory`: how much may wait for acknowledgement.
    pub buffer_bytes: usize,
    /// `delivery.timeout.ms`: when a record that was not acknowledged counts as failed.
    pub delivery_timeout: Duration,
    /// `retries`: the most attempts after the first.
    pub retries: u32,
    /// `compression.type`.
    pub codec: Codec,
    /// `compression.<codec>.level`, as far as set; librdkafka's one level for all stands under `none`.
    pub levels: Vec<(Codec, i32)>,
    /// `partitioner.class`.
    pub partitioner: Partitioner,
    /// `allow.auto.create.topics`.
    pub create_topics: bool,
}

/// What a consumer sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Everything up to the high watermark.
    ReadUncommitted,
    /// Committed transactions, up to the last stable offset.
    #[default]
    ReadCommitted,
}

/// What to do where the offset asked for is no more (or not yet) there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Go on at the log's start, and say so.
    #[default]
    Earliest,
    /// Go on at the log's end, and say so.
    Latest,
    /// Fail.
    None,
}

/// What a [`super::Consumer`] needs to know.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// `isolation.level`.
    pub isolation: IsolationLevel,
    /// `fetch.min.bytes`.
    pub fetch_bytes_min: i32,
    /// `fetch.max.bytes`: the most a broker may answer at once.
    pub fetch_bytes_max: i32,
    /// `max.partition.fetch.bytes`.
    pub partition_bytes_max: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_wait_max: Duration,
    /// `auto.offset.reset`.
    pub offset_reset: OffsetReset,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `client.rack`: a replica in the same rack may answer.
    pub rack: String,
}

/// Which of Kafka's group protocols a member speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// Members elect a leader, which shares out.
    #[default]
    Classic,
    /// The coordinator shares out (KIP-848).
    Consumer,
}

/// What a [`super::Membership`] needs to know.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// `group.protocol`.
    pub protocol: GroupProtocol,
    /// `group.remote.assignor`: what the coordinator shares out by.
    pub remote_assignor: Option<String>,
    /// `partition.assignment.strategy`, what is liked best first.
    pub assignors: Vec<Assignor>,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
    /// `session.timeout.ms`: silent for so long, a member counts as dead.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long the reader may be at work without coming back for more.
    pub poll_interval_max: Duration,
    /// `enable.auto.commit`.
    pub commits: bool,
    /// `auto.commit.interval.ms`.
    pub commit_interval: Duration,
    /// `exclude.internal.topics`: patterns pass over Kafka's own topics.
    pub excludes_internal: bool,
}

/// Why a property cannot be set. A wrong use of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No client knows the name.
    #[error("no client property is called {name:?}{}", .nearest.map_or_else(|| "; the names are those of Kafka's Java clients and of librdkafka".to_owned(), |n| format!("; the nearest is {n:?}")))]
    Unknown {
        /// As it was given.
        name: String,
        /// The nearest name there is.
        nearest: Option<&'static str>,
    },
    /// The value is none of the property's.
    #[error("{name}={value}: {why}")]
    Value {
        /// The property.
        name: String,
        /// As it was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two properties contradict each other.
    #[error("{0}")]
    Conflict(String),
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: None,
            // Large enough that requests cost nothing beside their bytes, small enough for a CPU's cache.
            batch_bytes: 256 << 10,
            batch_records_max: 1_000_000,
            linger: Duration::from_millis(5),
            in_flight_max: 5,
            request_bytes_max: 1 << 20,
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            retries: i32::MAX as u32,
            codec: Codec::None,
            levels: Vec::new(),
            partitioner: Partitioner::default(),
            create_topics: true,
        }
    }
}

impl ProducerOptions {
    /// Whether the broker removes duplicates: unless told otherwise, wherever it can.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotence.unwrap_or(self.acks == Acks::All)
    }

    /// The codec at its level.
    ///
    /// # Errors
    /// Where the codec has no such level.
    pub fn compression(&self) -> Result<Compression, ConfigError> {
        let of = |codec| self.levels.iter().rev().find(|(of, _)| *of == codec).map(|(_, level)| *level);
        match of(self.codec).or(of(Codec::None)) {
            // librdkafka's "the codec's own".
            None | Some(-1) => Ok(Compression::new(self.codec)),
            Some(level) => Compression::with_level(self.codec, level)
                .map_err(|error| ConfigError::Conflict(error.to_string())),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.compression()?;
        if self.idempotence == Some(true) && self.acks != Acks::All {
            return Err(ConfigError::Conflict("enable.idempotence=true needs acks=all".to_owned()));
        }
        if self.is_idempotent() && self.in_flight_max > 5 {
            let message = "an idempotent producer may have at most 5 requests in flight \
                           (max.in.flight.requests.per.connection), because a broker remembers 5 batches";
            return Err(ConfigError::Conflict(message.to_owned()));
        }
        Ok(())
    }
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            isolation: IsolationLevel::default(),
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            fetch_wait_max: Duration::from_millis(500),
            offset_reset: OffsetReset::default(),
            check_crcs: true,
            rack: String::new(),
        }
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            protocol: GroupProtocol::default(),
            remote_assignor: None,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
            commits: true,
            commit_interval: Duration::from_secs(5),
            excludes_internal: true,
        }
    }
}

impl GroupOptions {
    fn check(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval >= self.session_timeout {
            let message = "heartbeat.interval.ms must be below session.timeout.ms";
            return Err(ConfigError::Conflict(message.to_owned()));
        }
        Ok(())
    }
}

impl ClientConfig {
    /// Sets `properties` one after the other; returns what is to be told about those without effect.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that is wrong.
    pub fn set_all<'a>(
        &mut self,
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut notes = Vec::new();
        for (name, value) in properties {
            notes.extend(self.set(name, value)?);
        }
        self.producer.check()?;
        self.group.check()?;
        Ok(notes)
    }

    /// Sets one property; what is returned is to be told.
    fn set(&mut self, name: &str, value: &str) -> Result<Option<String>, ConfigError> {
        let wrong = |why: String| ConfigError::Value { name: name.to_owned(), value: value.to_owned(), why };
        let row = PROPERTIES.iter().find(|(names, _)| names.contains(&name)).map(|(_, property)| property);
        match row {
            Some(Property::Sets(set)) => set(self, value.trim()).map(|()| None).map_err(wrong),
            Some(Property::SetsInGroups(set)) => {
                self.only_in_groups.push(name.to_owned());
                set(self, value.trim()).map(|()| None).map_err(wrong)
            }
            Some(Property::Nothing(why)) => Ok(Some(format!("{name} has no effect: {why}"))),
            Some(Property::Refused(why)) => Err(wrong((*why).to_owned())),
            None if ["ssl.", "sasl."].iter().any(|family| name.starts_with(family)) => {
                Err(wrong("klamm speaks to plaintext listeners alone".to_owned()))
            }
            None => Err(ConfigError::Unknown { name: name.to_owned(), nearest: nearest(name) }),
        }
    }

    /// The pauses between attempts, for the table.
    pub(super) fn backoff_mut(&mut self) -> &mut Backoff {
        &mut self.client.backoff
    }
}

/// The name that takes the fewest edits; `None` where none is near.
fn nearest(name: &str) -> Option<&'static str> {
    let all = PROPERTIES.iter().flat_map(|(names, _)| names.iter().copied());
    let best = all.map(|known| (edits(name, known), known)).min()?;
    (best.0 <= name.len() / 2).then_some(best.1)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let kept = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(properties: &[(&str, &str)]) -> Result<(ClientConfig, Vec<String>), ConfigError> {
        let mut config = ClientConfig::default();
        let notes = config.set_all(properties.iter().copied())?;
        Ok((config, notes))
    }

    #[test]
    fn java_and_librdkafka_names_set_the_same() {
        for (java, librdkafka, value) in [
            ("acks", "request.required.acks", "1"),
            ("linger.ms", "queue.buffering.max.ms", "50"),
            ("delivery.timeout.ms", "message.timeout.ms", "1234"),
            ("max.request.size", "message.max.bytes", "5000"),
            ("compression.type", "compression.codec", "lz4"),
            ("fetch.max.wait.ms", "fetch.wait.max.ms", "7"),
        ] {
            let (one, notes) = with(&[(java, value)]).unwrap();
            let (other, _) = with(&[(librdkafka, value)]).unwrap();
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "{java}");
            assert_ne!(format!("{one:?}"), format!("{:?}", ClientConfig::default()), "{java}");
            assert!(notes.is_empty());
        }
    }

    #[test]
    fn what_means_nothing_says_so() {
        let (_, notes) = with(&[("statistics.interval.ms", "5")]).unwrap();
        assert!(notes[0].starts_with("statistics.interval.ms has no effect: "), "{notes:?}");
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest() {
        let error = with(&[("linger.sm", "5")]).unwrap_err();
        assert_eq!(error, ConfigError::Unknown { name: "linger.sm".into(), nearest: Some("linger.ms") });
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzzzzzzzzz"), None);
    }

    #[test]
    fn wrong_values_and_contradictions_are_errors() {
        for (name, value) in [
            ("acks", "2"),
            ("linger.ms", "soon"),
            ("linger.ms", "-1"),
            ("compression.type", "rar"),
            ("enable.idempotence", "maybe"),
            ("sasl.username", "x"),
            ("security.protocol", "SSL"),
            ("batch.size", "99999999999"),
        ] {
            assert!(matches!(with(&[(name, value)]), Err(ConfigError::Value { .. })), "{name}={value}");
        }
        assert!(matches!(
            with(&[("acks", "1"), ("enable.idempotence", "true")]),
            Err(ConfigError::Conflict(_))
        ));
        assert!(matches!(with(&[("max.in.flight", "6")]), Err(ConfigError::Conflict(_))));
        assert!(with(&[("max.in.flight", "6"), ("acks", "1")]).is_ok());
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        let mut names: Vec<&str> = PROPERTIES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
