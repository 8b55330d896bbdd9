//! The table of client properties: every name of Kafka's Java clients and of librdkafka that a user may
//! bring along, and what it means here.

use std::time::Duration;

use crate::record::Codec;

use super::config::{Acks, ClientConfig, GroupProtocol, IsolationLevel, OffsetReset};
use super::membership::Assignor;
use super::partitioner::Partitioner;

/// What a property does.
pub(super) enum Property {
    /// It sets something.
    Sets(fn(&mut ClientConfig, &str) -> Result<(), String>),
    /// It sets something that only a member of a consumer group has.
    SetsInGroups(fn(&mut ClientConfig, &str) -> Result<(), String>),
    /// It is accepted and does nothing, for this reason.
    Nothing(&'static str),
    /// It would change what is promised, and klamm cannot do it.
    Refused(&'static str),
}

use Property::{Nothing, Refused, Sets, SetsInGroups};

const BY_FLAG: &str = "it is given by a flag of the command";
const IN_ITS_OWN_TIME: &str = "klamm decides in its own time";
const NO_JVM: &str = "it configures Java classes";
const OWN_TRANSPORT: &str = "the system's own socket settings are used";
const OWN_RUNTIME: &str = "it tunes the inside of another client";
const BYTES_BOUND: &str = "klamm bounds its buffers in bytes: buffer.memory";
const NO_TRANSACTIONS: &str = "klamm produces without transactions";

/// All of them: the names that mean the same, Java's first, and the meaning.
pub(super) const PROPERTIES: &[(&[&str], Property)] = &[
    (&["client.id"], Sets(|c, v| set(&mut c.client.client_id, v))),
    (
        &["request.timeout.ms", "socket.timeout.ms"],
        Sets(|c, v| millis(v).map(|d| c.client.request_timeout = d)),
    ),
    (&["default.api.timeout.ms", "max.block.ms"], Sets(|c, v| millis(v).map(|d| c.client.api_timeout = d))),
    (&["socket.connection.setup.timeout.ms"], Sets(|c, v| millis(v).map(|d| c.client.connect_timeout = d))),
    (&["retry.backoff.ms"], Sets(|c, v| millis(v).map(|d| c.backoff_mut().first = d))),
    (&["retry.backoff.max.ms"], Sets(|c, v| millis(v).map(|d| c.backoff_mut().max = d))),
    (
        &["metadata.max.age.ms", "topic.metadata.refresh.interval.ms"],
        Sets(|c, v| millis(v).map(|d| c.client.metadata_age_max = d)),
    ),
    (
        &["receive.message.max.bytes"],
        Sets(|c, v| number(v, 1_000, i32::MAX as u64).map(|n| c.client.receive_bytes_max = n as usize)),
    ),
    (&["acks", "request.required.acks"], Sets(|c, v| acks(v).map(|a| c.producer.acks = a))),
    (&["enable.idempotence"], Sets(|c, v| boolean(v).map(|b| c.producer.idempotence = Some(b)))),
    (
        &["batch.size"],
        Sets(|c, v| number(v, 0, i32::MAX as u64).map(|n| c.producer.batch_bytes = n as usize)),
    ),
    (
        &["batch.num.messages"],
        Sets(|c, v| number(v, 1, 1_000_000).map(|n| c.producer.batch_records_max = n as usize)),
    ),
    (&["linger.ms", "queue.buffering.max.ms"], Sets(|c, v| millis(v).map(|d| c.producer.linger = d))),
    (
        &["buffer.memory"],
        Sets(|c, v| number(v, 1, i64::MAX as u64).map(|n| c.producer.buffer_bytes = n as usize)),
    ),
    (
        &["queue.buffering.max.kbytes"],
        Sets(|c, v| number(v, 1, i32::MAX as u64).map(|n| c.producer.buffer_bytes = (n as usize) << 10)),
    ),
    (
        &["max.in.flight.requests.per.connection", "max.in.flight"],
        Sets(|c, v| number(v, 1, 1_000_000).map(|n| c.producer.in_flight_max = n as usize)),
    ),
    (
        &["max.request.size", "message.max.bytes"],
        Sets(|c, v| number(v, 1_000, 1 << 30).map(|n| c.producer.request_bytes_max = n as usize)),
    ),
    (
        &["delivery.timeout.ms", "message.timeout.ms"],
        Sets(|c, v| millis(v).map(|d| c.producer.delivery_timeout = d)),
    ),
    (
        &["retries", "message.send.max.retries"],
        Sets(|c, v| number(v, 0, i32::MAX as u64).map(|n| c.producer.retries = n as u32)),
    ),
    (&["compression.type", "compression.codec"], Sets(|c, v| codec(v).map(|k| c.producer.codec = k))),
    (&["compression.level"], Sets(|c, v| level(v).map(|n| c.producer.levels.push((Codec::None, n))))),
    (&["compression.gzip.level"], Sets(|c, v| level(v).map(|n| c.producer.levels.push((Codec::Gzip, n))))),
    (&["compression.lz4.level"], Sets(|c, v| level(v).map(|n| c.producer.levels.push((Codec::Lz4, n))))),
    (&["compression.zstd.level"], Sets(|c, v| level(v).map(|n| c.producer.levels.push((Codec::Zstd, n))))),
    (&["partitioner.class", "partitioner"], Sets(|c, v| partitioner(v).map(|p| c.producer.partitioner = p))),
    (&["allow.auto.create.topics"], Sets(|c, v| boolean(v).map(|b| c.producer.create_topics = b))),
    (&["isolation.level"], Sets(|c, v| isolation(v).map(|i| c.consumer.isolation = i))),
    (
        &["fetch.min.bytes"],
        Sets(|c, v| number(v, 0, i32::MAX as u64).map(|n| c.consumer.fetch_bytes_min = n as i32)),
    ),
    (
        &["fetch.max.bytes"],
        Sets(|c, v| number(v, 0, i32::MAX as u64).map(|n| c.consumer.fetch_bytes_max = n as i32)),
    ),
    (
        &["max.partition.fetch.bytes", "fetch.message.max.bytes"],
        Sets(|c, v| number(v, 0, i32::MAX as u64).map(|n| c.consumer.partition_bytes_max = n as i32)),
    ),
    (
        &["fetch.max.wait.ms", "fetch.wait.max.ms"],
        Sets(|c, v| millis(v).map(|d| c.consumer.fetch_wait_max = d)),
    ),
    (&["auto.offset.reset"], Sets(|c, v| reset(v).map(|r| c.consumer.offset_reset = r))),
    (&["check.crcs"], Sets(|c, v| boolean(v).map(|b| c.consumer.check_crcs = b))),
    (&["client.rack"], Sets(|c, v| set(&mut c.consumer.rack, v))),
    (&["security.protocol"], Sets(|_, v| plaintext(v))),
    (&["bootstrap.servers", "metadata.broker.list"], Refused("brokers are given by -b")),
    (&["transactional.id"], Refused(NO_TRANSACTIONS)),
    (&["transaction.timeout.ms", "transaction.two.phase.commit.enable"], Nothing(NO_TRANSACTIONS)),
    (&["group.protocol"], SetsInGroups(|c, v| protocol(v).map(|p| c.group.protocol = p))),
    (&["group.remote.assignor"], SetsInGroups(|c, v| name(v).map(|n| c.group.remote_assignor = n))),
    (&["group.instance.id"], SetsInGroups(|c, v| name(v).map(|n| c.group.instance_id = n))),
    (&["partition.assignment.strategy"], SetsInGroups(|c, v| assignors(v).map(|a| c.group.assignors = a))),
    (&["session.timeout.ms"], SetsInGroups(|c, v| millis(v).map(|d| c.group.session_timeout = d))),
    (&["heartbeat.interval.ms"], SetsInGroups(|c, v| millis(v).map(|d| c.group.heartbeat_interval = d))),
    (&["max.poll.interval.ms"], SetsInGroups(|c, v| millis(v).map(|d| c.group.poll_interval_max = d))),
    (&["enable.auto.commit"], SetsInGroups(|c, v| boolean(v).map(|b| c.group.commits = b))),
    (&["auto.commit.interval.ms"], SetsInGroups(|c, v| millis(v).map(|d| c.group.commit_interval = d))),
    (&["exclude.internal.topics"], SetsInGroups(|c, v| boolean(v).map(|b| c.group.excludes_internal = b))),
    (&["group.id"], Nothing(BY_FLAG)),
    (
        &[
            "group.protocol.type",
            "enable.auto.offset.store",
            "offset.store.method",
            "coordinator.query.interval.ms",
            "share.acknowledgement.mode",
            "share.acquire.mode",
        ],
        Nothing(IN_ITS_OWN_TIME),
    ),
    (&["topic.blacklist"], Nothing("a pattern can say what it leaves out")),
    (&["enable.partition.eof"], Nothing(BY_FLAG)),
    (&["max.poll.records", "consume.callback.max.messages"], Nothing(OWN_RUNTIME)),
    (
        &[
            "key.serializer",
            "value.serializer",
            "key.deserializer",
            "value.deserializer",
            "interceptor.classes",
            "metric.reporters",
            "security.providers",
            "config.providers",
        ],
        Nothing(NO_JVM),
    ),
    (
        &[
            "send.buffer.bytes",
            "socket.send.buffer.bytes",
            "receive.buffer.bytes",
            "socket.receive.buffer.bytes",
            "socket.keepalive.enable",
            "socket.nagle.disable",
            "socket.max.fails",
            "socket.connection.setup.timeout.max.ms",
            "connections.max.idle.ms",
            "broker.address.ttl",
            "broker.address.family",
            "client.dns.lookup",
            "reconnect.backoff.ms",
            "reconnect.backoff.max.ms",
            "reconnect.backoff.jitter.ms",
            "metadata.recovery.strategy",
            "metadata.recovery.rebootstrap.trigger.ms",
            "metadata.max.idle.ms",
        ],
        Nothing(OWN_TRANSPORT),
    ),
    (
        &["queue.buffering.max.messages", "queued.min.messages", "queued.max.messages.kbytes"],
        Nothing(BYTES_BOUND),
    ),
    (
        &[
            "metrics.num.samples",
            "metrics.recording.level",
            "metrics.sample.window.ms",
            "enable.metrics.push",
            "statistics.interval.ms",
            "auto.include.jmx.reporter",
        ],
        Nothing("klamm's commands keep no metrics"),
    ),
    (
        &[
            "partitioner.adaptive.partitioning.enable",
            "partitioner.availability.timeout.ms",
            "partitioner.ignore.keys",
            "sticky.partitioning.linger.ms",
            "queue.buffering.backpressure.threshold",
            "queuing.strategy",
            "enable.gapless.guarantee",
            "produce.offset.report",
            "msg_order_cmp",
            "delivery.report.only.error",
            "dr_cb",
            "dr_msg_cb",
        ],
        Nothing(OWN_RUNTIME),
    ),
    (
        &[
            "builtin.features",
            "debug",
            "log_level",
            "log_cb",
            "log.queue",
            "log.thread.name",
            "log.connection.close",
            "enable.random.seed",
            "internal.termination.signal",
            "api.version.request",
            "api.version.request.timeout.ms",
            "api.version.fallback.ms",
            "broker.version.fallback",
            "message.copy.max.bytes",
            "metadata.request.timeout.ms",
            "topic.metadata.refresh.fast.interval.ms",
            "topic.metadata.refresh.fast.cnt",
            "topic.metadata.refresh.sparse",
            "topic.metadata.propagation.max.ms",
            "fetch.error.backoff.ms",
            "fetch.queue.backoff.ms",
            "enable.sparse.connections",
            "allow.hostname.override",
        ],
        Nothing(OWN_RUNTIME),
    ),
];

fn set(text: &mut String, value: &str) -> Result<(), String> {
    value.clone_into(text);
    Ok(())
}

fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("a number from {min} to {max} is expected"))
}

fn millis(text: &str) -> Result<Duration, String> {
    // librdkafka takes fractions of a millisecond for linger.
    let millis: f64 = text.parse().map_err(|_| "a number of milliseconds is expected".to_owned())?;
    Duration::try_from_secs_f64(millis / 1e3).map_err(|_| "a number of milliseconds is expected".to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

/// `acks` as the property and the flag take it.
pub(super) fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" | "none" => Ok(Acks::None),
        "1" | "leader" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("0, 1 or all is expected".to_owned()),
    }
}

/// A codec by Kafka's name.
pub(super) fn codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| "none, gzip, snappy, lz4 or zstd is expected".to_owned())
}

fn level(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "a number is expected".to_owned())
}

fn partitioner(text: &str) -> Result<Partitioner, String> {
    text.parse()
}

fn isolation(text: &str) -> Result<IsolationLevel, String> {
    match text {
        "read_committed" => Ok(IsolationLevel::ReadCommitted),
        "read_uncommitted" => Ok(IsolationLevel::ReadUncommitted),
        _ => Err("read_committed or read_uncommitted is expected".to_owned()),
    }
}

fn reset(text: &str) -> Result<OffsetReset, String> {
    match text {
        "earliest" | "beginning" | "smallest" => Ok(OffsetReset::Earliest),
        "latest" | "end" | "largest" => Ok(OffsetReset::Latest),
        "none" | "error" => Ok(OffsetReset::None),
        _ => Err("earliest, latest or none is expected".to_owned()),
    }
}

fn protocol(text: &str) -> Result<GroupProtocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "classic" => Ok(GroupProtocol::Classic),
        "consumer" => Ok(GroupProtocol::Consumer),
        _ => Err("classic or consumer is expected".to_owned()),
    }
}

fn assignors(text: &str) -> Result<Vec<Assignor>, String> {
    let known: Option<Vec<Assignor>> = text.split(',').map(|name| Assignor::from_name(name.trim())).collect();
    known.ok_or_else(|| {
        "a list of range, roundrobin, sticky and cooperative-sticky is expected, the liked best first"
            .to_owned()
    })
}

/// Nothing is no name.
#[allow(clippy::unnecessary_wraps, reason = "the table's functions may all fail")]
fn name(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn plaintext(text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("plaintext") {
        Ok(())
    } else {
        Err("klamm speaks to plaintext listeners alone".to_owned())
    }
}
