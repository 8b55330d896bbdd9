//! A broker's configuration in force: the layers merged and checked, and what acts as typed fields.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cleaner::CleanerConfig;
use super::cluster::ClusterConfig;
use super::error::{ConfigError, Warning};
use super::groups::GroupSettings;
use super::key::{Effect, Scope, Value};
use super::layers::{BrokerLayers, key};
use super::listeners::{AdvertisedListener, Listener, ListenerSettings, from_flags};
use super::nearest::{nearest, suggest};
use super::quorum::{self, QuorumConfig};
use super::replication::ReplicationConfig;
use super::table;
use super::topic::TopicConfig;

/// What a broker is started with, the weakest first.
#[derive(Clone, Default, Debug)]
pub struct Layers {
    /// The pairs of `server.properties`, as [`super::properties::parse`] gives them.
    pub file: Vec<(String, String)>,
    /// `--set key=value`.
    pub flags: Vec<(String, String)>,
    /// `--listen`, each an address or `unix:PATH`; they replace `listeners`.
    pub listen: Vec<String>,
    /// `--advertise`.
    pub advertise: Vec<String>,
    /// `-d`; they replace `log.dirs`, and the first holds the metadata.
    pub dirs: Vec<PathBuf>,
    /// `--node`.
    pub node: Option<i32>,
    /// `--quorum ID@HOST:PORT,…`
    pub quorum: Option<String>,
    /// `--cluster-id`
    pub cluster_id: Option<String>,
}

/// Every setting of a broker that something here reads. Times are milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerConfig {
    layers: BrokerLayers,
    /// `node.id` or `broker.id`, where one is set.
    pub node_id: Option<i32>,
    /// `broker.rack`
    pub rack: Option<String>,
    /// `listeners`, the controller's included.
    pub listeners: Vec<Listener>,
    /// `advertised.listeners`, or what follows from `listeners`.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// `log.dirs` or `log.dir`; the first holds the metadata where `metadata.log.dir` is not set.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`
    pub metadata_log_dir: PathBuf,
    /// `auto.create.topics.enable`
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`
    pub delete_topic_enable: bool,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
    /// `offsets.topic.replication.factor`, where it is set.
    pub offsets_topic_replication_factor: Option<i16>,
    /// `transaction.state.log.replication.factor`, where it is set.
    pub transaction_state_log_replication_factor: Option<i16>,
    /// `share.coordinator.state.topic.replication.factor`, where it is set.
    pub share_state_topic_replication_factor: Option<i16>,
    /// `fetch.max.bytes`
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_session_slots_max: usize,
    /// `max.request.partition.size.limit`
    pub max_request_partition_size_limit: usize,
    /// `socket.request.max.bytes`
    pub socket_request_max_bytes: u32,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub socket_send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub socket_receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`
    pub socket_listen_backlog_size: u32,
    /// `queued.max.request.bytes`; `None` is no limit.
    pub queued_max_request_bytes: Option<u64>,
    /// `max.connections`
    pub max_connections: usize,
    /// `max.connections.per.ip`
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`
    pub max_connections_per_ip_overrides: BTreeMap<String, usize>,
    /// `connections.max.idle.ms`; below zero is never.
    pub connections_max_idle_ms: i64,
    /// `request.timeout.ms`
    pub request_timeout_ms: i64,
    /// `log.retention.check.interval.ms`
    pub log_retention_check_interval_ms: i64,
    /// `log.initial.task.delay.ms`
    pub log_initial_task_delay_ms: i64,
    /// `log.flush.scheduler.interval.ms`
    pub log_flush_scheduler_interval_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms`
    pub log_flush_offset_checkpoint_interval_ms: i64,
    /// `log.flush.start.offset.checkpoint.interval.ms`
    pub log_flush_start_offset_checkpoint_interval_ms: i64,
    /// `replica.high.watermark.checkpoint.interval.ms`
    pub replica_high_watermark_checkpoint_interval_ms: i64,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`
    pub producer_id_expiration_check_interval_ms: i64,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`
    pub alter_log_dirs_max_bytes_per_second: i64,
    /// `metadata.log.segment.bytes`
    pub metadata_log_segment_bytes: u32,
    /// `metadata.log.segment.ms`
    pub metadata_log_segment_ms: i64,
    /// What group coordinators keep to.
    pub groups: GroupSettings,
    /// `metadata.log.max.record.bytes.between.snapshots`
    pub metadata_log_max_record_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; 0 is never.
    pub metadata_log_max_snapshot_interval_ms: i64,
    /// `metadata.max.retention.bytes`; below zero is no limit.
    pub metadata_max_retention_bytes: i64,
    /// `metadata.max.retention.ms`; below zero is no limit.
    pub metadata_max_retention_ms: i64,
    /// The log cleaner.
    pub cleaner: CleanerConfig,
    /// The life of brokers.
    pub cluster: ClusterConfig,
    /// The quorum of a node that is not alone.
    pub quorum: Option<QuorumConfig>,
    /// The id that a new cluster gets (`--cluster-id`).
    pub cluster_id: Option<String>,
    /// Replication.
    pub replication: ReplicationConfig,
    /// What holds for a topic without settings of its own.
    pub topic_defaults: TopicConfig,
}

impl BrokerConfig {
    /// Merges and checks what the broker is started with.
    ///
    /// # Errors
    /// The first thing that is wrong; the broker must not start.
    pub fn load(layers: Layers) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let mut fixed = BTreeMap::new();
        let mut unknown = Vec::new();
        let has_file = !layers.file.is_empty();
        for (name, value) in layers.file {
            if is_known(&name)? {
                fixed.insert(name, value);
            } else {
                check_unknown_in_file(&name)?;
                unknown.push(name);
            }
        }
        for (name, value) in layers.flags {
            if !is_known(&name)? {
                return Err(unknown_key(&name));
            }
            fixed.insert(name, value);
        }
        if !layers.dirs.is_empty() {
            let dirs: Vec<String> = layers.dirs.iter().map(|dir| dir.display().to_string()).collect();
            fixed.insert("log.dirs".to_owned(), dirs.join(","));
            fixed.remove("metadata.log.dir");
        }
        if let Some(node) = layers.node {
            fixed.insert("node.id".to_owned(), node.to_string());
            fixed.remove("broker.id");
        }
        if let Some(quorum) = &layers.quorum {
            let node_id =
                fixed.get("node.id").or_else(|| fixed.get("broker.id")).and_then(|id| id.parse().ok());
            let listeners = fixed.get("listeners").cloned().unwrap_or_else(|| default_text("listeners"));
            fixed.extend(quorum::from_flag(quorum, node_id, &listeners)?);
        }
        fixed.extend(from_flags(&layers.listen, &layers.advertise, &fixed)?);
        // Empty, it only takes the place of what a file advertises.
        fixed.retain(|name, value| name != "advertised.listeners" || !value.is_empty());
        if !unknown.is_empty() {
            warnings.push(Warning::UnknownKeys(unknown));
        }
        check_built(&fixed, &mut warnings)?;
        if let Some(node) = fixed.get("node.id").cloned() {
            fixed.entry("broker.id".to_owned()).or_insert(node);
        }
        let mut config = Self::build(BrokerLayers { fixed, has_file, ..BrokerLayers::default() })?;
        if !layers.dirs.is_empty() {
            config.metadata_log_dir.clone_from(&layers.dirs[0]);
            config.log_dirs = layers.dirs;
        }
        config.cluster_id = layers.cluster_id;
        Ok((config, warnings))
    }

    /// The same broker with these dynamic settings instead of those it has: the cluster's default, and its
    /// own. Keys that may not change while a broker runs are passed over.
    ///
    /// # Errors
    /// A value that is wrong, or does not go with the others.
    pub fn with_dynamic(
        &self,
        cluster: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let known = |settings: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            settings
                .iter()
                .filter(|(name, _)| table::find(Scope::Broker, name).is_some())
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let layers = BrokerLayers { cluster: known(cluster), broker: known(broker), ..self.layers.clone() };
        let built = Self::build(layers)?;
        Ok(Self {
            log_dirs: self.log_dirs.clone(),
            metadata_log_dir: self.metadata_log_dir.clone(),
            cluster_id: self.cluster_id.clone(),
            ..built
        })
    }

    /// The same broker, once its directory or a default has said which node it is.
    #[must_use]
    pub fn with_node_id(mut self, node_id: i32) -> Self {
        for key in ["node.id", "broker.id"] {
            self.layers.fixed.insert(key.to_owned(), node_id.to_string());
        }
        Self { node_id: Some(node_id), ..self }
    }

    pub(super) fn layers(&self) -> &BrokerLayers {
        &self.layers
    }

    /// The value in force of any key, as text; `None` where there is none or no such key.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.layers.text(name).ok().flatten()
    }

    pub(super) fn build(layers: BrokerLayers) -> Result<Self, ConfigError> {
        for name in [&layers.fixed, &layers.cluster, &layers.broker].into_iter().flat_map(BTreeMap::keys) {
            if table::find(Scope::Broker, name).is_some() {
                layers.value(name)?;
            }
        }
        let (listeners, advertised_listeners) = resolve_listeners(&layers)?;
        let log_dirs = log_dirs(&layers)?;
        let metadata_log_dir = match layers.text("metadata.log.dir")? {
            Some(dir) => PathBuf::from(dir),
            None => log_dirs.first().cloned().unwrap_or_default(),
        };
        let factor = |name: &str| -> Result<Option<i16>, ConfigError> {
            Ok(layers.optional_integer(name)?.and_then(|number| i16::try_from(number).ok()))
        };
        let buffer = |name: &str| -> Result<Option<u32>, ConfigError> {
            Ok(u32::try_from(layers.integer(name)?).ok().filter(|bytes| *bytes > 0))
        };
        let count = |name: &str| layers.size::<usize>(name);
        let node_id = node_id(&layers)?;
        let quorum = QuorumConfig::resolve(&layers, node_id, &listeners)?;
        Ok(Self {
            node_id,
            rack: layers.text("broker.rack")?,
            listeners,
            advertised_listeners,
            log_dirs,
            metadata_log_dir,
            auto_create_topics_enable: layers.boolean("auto.create.topics.enable")?,
            delete_topic_enable: layers.boolean("delete.topic.enable")?,
            num_partitions: i32::try_from(layers.integer("num.partitions")?).unwrap_or(1),
            default_replication_factor: factor("default.replication.factor")?.unwrap_or(i16::MAX),
            offsets_topic_replication_factor: factor("offsets.topic.replication.factor")?,
            transaction_state_log_replication_factor: factor("transaction.state.log.replication.factor")?,
            share_state_topic_replication_factor: factor("share.coordinator.state.topic.replication.factor")?,
            fetch_max_bytes: layers.size("fetch.max.bytes")?,
            fetch_session_slots_max: count("max.incremental.fetch.session.cache.slots")?,
            max_request_partition_size_limit: count("max.request.partition.size.limit")?,
            socket_request_max_bytes: layers.size("socket.request.max.bytes")?,
            socket_send_buffer_bytes: buffer("socket.send.buffer.bytes")?,
            socket_receive_buffer_bytes: buffer("socket.receive.buffer.bytes")?,
            socket_listen_backlog_size: layers.size("socket.listen.backlog.size")?,
            queued_max_request_bytes: u64::try_from(layers.integer("queued.max.request.bytes")?)
                .ok()
                .filter(|bytes| *bytes > 0),
            max_connections: count("max.connections")?,
            max_connections_per_ip: count("max.connections.per.ip")?,
            max_connections_per_ip_overrides: connection_overrides(&layers)?,
            connections_max_idle_ms: layers.integer("connections.max.idle.ms")?,
            request_timeout_ms: layers.integer("request.timeout.ms")?,
            log_retention_check_interval_ms: layers.integer("log.retention.check.interval.ms")?,
            log_initial_task_delay_ms: layers.integer("log.initial.task.delay.ms")?,
            log_flush_scheduler_interval_ms: layers.integer("log.flush.scheduler.interval.ms")?,
            log_flush_offset_checkpoint_interval_ms: layers
                .integer("log.flush.offset.checkpoint.interval.ms")?,
            log_flush_start_offset_checkpoint_interval_ms: layers
                .integer("log.flush.start.offset.checkpoint.interval.ms")?,
            replica_high_watermark_checkpoint_interval_ms: layers
                .integer("replica.high.watermark.checkpoint.interval.ms")?,
            producer_id_expiration_ms: layers.integer("producer.id.expiration.ms")?,
            producer_id_expiration_check_interval_ms: layers
                .integer("producer.id.expiration.check.interval.ms")?,
            alter_log_dirs_max_bytes_per_second: layers
                .integer("replica.alter.log.dirs.io.max.bytes.per.second")?,
            metadata_log_segment_bytes: layers.size("metadata.log.segment.bytes")?,
            metadata_log_segment_ms: layers.integer("metadata.log.segment.ms")?,
            groups: GroupSettings::build(&layers)?,
            metadata_log_max_record_bytes_between_snapshots: layers
                .size("metadata.log.max.record.bytes.between.snapshots")?,
            metadata_log_max_snapshot_interval_ms: layers.integer("metadata.log.max.snapshot.interval.ms")?,
            metadata_max_retention_bytes: layers.integer("metadata.max.retention.bytes")?,
            metadata_max_retention_ms: layers.integer("metadata.max.retention.ms")?,
            cleaner: CleanerConfig::resolve(&layers)?,
            cluster: ClusterConfig::resolve(&layers)?,
            quorum,
            cluster_id: None,
            replication: ReplicationConfig::resolve(&layers)?,
            topic_defaults: topic_defaults(&layers)?,
            layers,
        })
    }

    /// The listeners that serve clients.
    pub fn client_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| !listener.controller)
    }

    /// The listeners that serve the quorum.
    pub fn controller_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.controller)
    }
}

impl Default for BrokerConfig {
    /// A broker nobody has configured.
    fn default() -> Self {
        let built = Self::build(BrokerLayers::default());
        // Every default of the table parses: a test holds that.
        assert!(built.is_ok(), "the defaults of the table are legal");
        built.unwrap_or_else(|_| unreachable!("checked above"))
    }
}

fn unknown_key(name: &str) -> ConfigError {
    let nearest = suggest(name, table::keys(Scope::Broker).map(|key| key.name)).map(str::to_owned);
    ConfigError::UnknownKey { name: name.to_owned(), nearest }
}

/// Whether `name` is a broker's key, or one for a single listener. The latter are known, and refused where
/// they would change what is promised.
fn is_known(name: &str) -> Result<bool, ConfigError> {
    Ok(table::find(Scope::Broker, name).is_some() || listener_key(name).is_some())
}

/// `listener.name.<listener>.<key>`, and SASL's `listener.name.<listener>.<mechanism>.<key>`: the key.
fn listener_key(name: &str) -> Option<&'static super::key::ConfigKey> {
    let (_, rest) = name.strip_prefix("listener.name.")?.split_once('.')?;
    let with_mechanism = || rest.split_once('.').and_then(|(_, key)| table::find(Scope::Broker, key));
    table::find(Scope::Broker, rest).or_else(with_mechanism)
}

/// A key of a file that is almost a known one is a mistake; any other may belong to a plug-in or a newer
/// Kafka.
fn check_unknown_in_file(name: &str) -> Result<(), ConfigError> {
    match nearest(name, table::keys(Scope::Broker).map(|key| key.name)) {
        Some((_, edits)) if edits <= 2 => Err(unknown_key(name)),
        _ => Ok(()),
    }
}

/// Refuses what is not built, and says what does nothing.
fn check_built(fixed: &BTreeMap<String, String>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    for (name, value) in fixed {
        let (row, for_listener) = match table::find(Scope::Broker, name) {
            Some(row) => (row, false),
            None => match listener_key(name) {
                Some(row) => (row, true),
                None => continue,
            },
        };
        row.check_built(value)?;
        if row.is_default(value) {
            continue;
        }
        let why = match row.effect {
            Effect::NoEffect(why) => why.to_owned(),
            Effect::Waits(part) => format!("klamm does not have {part} yet"),
            Effect::Acts if for_listener => {
                return Err(ConfigError::NotBuilt {
                    name: name.clone(),
                    value: value.clone(),
                    part: format!("{} for one listener alone", row.name),
                });
            }
            Effect::Acts | Effect::LoneNode | Effect::RefusedUntil(_) => continue,
        };
        warnings.push(Warning::NoEffect { name: name.clone(), value: value.clone(), why });
    }
    Ok(())
}

fn resolve_listeners(layers: &BrokerLayers) -> Result<(Vec<Listener>, Vec<AdvertisedListener>), ConfigError> {
    let text = |name: &str| Ok(layers.text(name)?.unwrap_or_default());
    let roles = layers.list("process.roles")?;
    let has_role = |wanted: &str| roles.iter().any(|role| role == wanted);
    ListenerSettings {
        listeners: &text("listeners")?,
        advertised: layers.text("advertised.listeners")?.as_deref(),
        protocol_map: &text("listener.security.protocol.map")?,
        protocol_map_is_set: layers.set("listener.security.protocol.map").is_some(),
        controller_names: &layers.list("controller.listener.names")?,
        is_controller: has_role("controller"),
        is_broker: has_role("broker"),
    }
    .resolve()
}

/// Kafka's default of a key, or ours.
pub(super) fn default_text(name: &str) -> String {
    match table::find(Scope::Broker, name).map(|key| key.fallback()) {
        Some(super::Fallback::Value(text)) => text.to_owned(),
        _ => String::new(),
    }
}

fn log_dirs(layers: &BrokerLayers) -> Result<Vec<PathBuf>, ConfigError> {
    let dirs = match layers.list("log.dirs")? {
        dirs if dirs.is_empty() => layers.list("log.dir")?,
        dirs => dirs,
    };
    for (index, dir) in dirs.iter().enumerate() {
        let why = if dir.is_empty() {
            "a directory has no name"
        } else if dirs[..index].contains(dir) {
            "a directory stands in the list twice"
        } else {
            continue;
        };
        return Err(ConfigError::InvalidValue {
            name: "log.dirs".to_owned(),
            value: dirs.join(","),
            why: why.to_owned(),
        });
    }
    Ok(dirs.into_iter().map(PathBuf::from).collect())
}

fn node_id(layers: &BrokerLayers) -> Result<Option<i32>, ConfigError> {
    let set = |name: &str| -> Result<Option<i32>, ConfigError> {
        let number = match layers.optional_integer(name)? {
            // Kafka's default of `broker.id`: not set.
            Some(-1) => None,
            Some(number @ ..0) => {
                return Err(ConfigError::InvalidValue {
                    name: name.to_owned(),
                    value: number.to_string(),
                    why: "a node's id is 0 or more".to_owned(),
                });
            }
            number => number,
        };
        Ok(number.and_then(|number| i32::try_from(number).ok()))
    };
    match (set("node.id")?, set("broker.id")?) {
        (Some(node), Some(broker)) if node != broker => {
            Err(ConfigError::Conflict(format!("node.id={node} and broker.id={broker} differ; set one")))
        }
        (node, broker) => Ok(node.or(broker)),
    }
}

fn connection_overrides(layers: &BrokerLayers) -> Result<BTreeMap<String, usize>, ConfigError> {
    const KEY: &str = "max.connections.per.ip.overrides";
    let text = layers.text(KEY)?.unwrap_or_default();
    let mut overrides = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let pair = entry.rsplit_once(':').and_then(|(host, limit)| Some((host, limit.trim().parse().ok()?)));
        let (host, limit) = pair.ok_or_else(|| ConfigError::InvalidValue {
            name: KEY.to_owned(),
            value: text.clone(),
            why: format!("{entry:?} is not HOST:COUNT"),
        })?;
        overrides.insert(host.trim().to_owned(), limit);
    }
    Ok(overrides)
}

/// The values of the keys behind topics, checked as a topic's would be.
fn topic_defaults(layers: &BrokerLayers) -> Result<TopicConfig, ConfigError> {
    for name in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
        if layers.value(name)? == Some(Value::Integer(0)) {
            return Err(ConfigError::InvalidValue {
                name: name.to_owned(),
                value: "0".to_owned(),
                why: "it must be -1 or at least 1".to_owned(),
            });
        }
    }
    for (name, least) in [("log.roll.ms", 1), ("log.roll.jitter.ms", 0)] {
        if let Some(Value::Integer(number)) = layers.value(name)?
            && number < least
        {
            return Err(ConfigError::InvalidValue {
                name: key(name)?.name.to_owned(),
                value: number.to_string(),
                why: format!("Value must be at least {least}"),
            });
        }
    }
    TopicConfig::resolve_layers(layers, &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::super::properties;
    use super::*;

    fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(settings: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<String>), String> {
        load(Layers { file: pairs(settings), ..Layers::default() })
    }

    fn load(layers: Layers) -> Result<(BrokerConfig, Vec<String>), String> {
        let (config, warnings) = BrokerConfig::load(layers).map_err(|error| error.to_string())?;
        Ok((config, warnings.iter().map(ToString::to_string).collect()))
    }

    /// What Kafka 4.3.1 ships as `config/server.properties`, comments off.
    const SHIPPED: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

    #[test]
    fn the_server_properties_that_kafka_ships_are_accepted_unchanged() {
        let layers = Layers { file: properties::parse(SHIPPED).unwrap(), ..Layers::default() };
        let (config, warnings) = load(layers).unwrap();
        assert_eq!(config.node_id, Some(1));
        assert_eq!(config.log_dirs, [PathBuf::from("/tmp/kraft-combined-logs")]);
        assert_eq!(config.client_listeners().count(), 1);
        assert_eq!(config.controller_listeners().count(), 1);
        assert_eq!(config.offsets_topic_replication_factor, Some(1));
        assert_eq!(
            warnings,
            ["num.recovery.threads.per.data.dir=1 has no effect: klamm sizes its threads itself"]
        );
    }

    #[test]
    fn nobodys_broker_listens_on_loopback() {
        let (config, warnings) = load(Layers::default()).unwrap();
        assert_eq!(config, BrokerConfig::default());
        assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:9092");
        assert_eq!((config.node_id, config.max_connections), (None, 10_000));
        assert_eq!(config.queued_max_request_bytes, Some(64 << 20));
        assert!(warnings.is_empty());
    }

    #[test]
    fn flags_beat_the_file_and_dynamic_values_beat_both() {
        let layers = Layers {
            file: pairs(&[("num.partitions", "2"), ("message.max.bytes", "10"), ("log.dirs", "/a,/b")]),
            flags: pairs(&[("num.partitions", "3")]),
            dirs: vec!["/c".into()],
            node: Some(7),
            ..Layers::default()
        };
        let (config, _) = load(layers).unwrap();
        assert_eq!((config.num_partitions, config.node_id), (3, Some(7)));
        assert_eq!(config.log_dirs, [PathBuf::from("/c")]);
        assert_eq!(config.topic_defaults.max_message_bytes, 10);
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let cluster = config.with_dynamic(&map("message.max.bytes", "20"), &BTreeMap::new()).unwrap();
        assert_eq!(cluster.topic_defaults.max_message_bytes, 20);
        let own =
            cluster.with_dynamic(&map("message.max.bytes", "20"), &map("message.max.bytes", "30")).unwrap();
        assert_eq!(own.topic_defaults.max_message_bytes, 30);
        assert_eq!(own.log_dirs, [PathBuf::from("/c")]);
        let read_only = own.with_dynamic(&map("num.partitions", "9"), &BTreeMap::new()).unwrap();
        assert_eq!(read_only.num_partitions, 3);
        assert!(config.with_dynamic(&map("message.max.bytes", "x"), &BTreeMap::new()).is_err());
    }

    #[test]
    fn unknown_keys_are_warned_of_in_a_file_and_refused_by_flag() {
        let (_, warnings) = file(&[("zookeeper.connect", "x"), ("my.plugin", "y")]).unwrap();
        assert_eq!(warnings, ["unknown configurations, ignored: zookeeper.connect, my.plugin"]);
        let error = file(&[("log.retention.huors", "1")]).unwrap_err();
        assert!(error.contains("did you mean \"log.retention.hours\"?"), "{error}");
        let flags = pairs(&[("log.retenton.ms", "1")]);
        let error = load(Layers { flags, ..Layers::default() }).unwrap_err();
        assert!(error.contains("did you mean \"log.retention.ms\"?"), "{error}");
    }

    #[test]
    fn what_changes_a_promise_and_is_not_built_is_refused() {
        for (name, value) in [
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("ssl.keystore.location", "/k"),
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("remote.log.storage.system.enable", "true"),
            ("listener.name.internal.ssl.keystore.location", "/k"),
            ("listener.name.external.max.connections", "5"),
            ("create.topic.policy.class.name", "x.Y"),
        ] {
            let error = file(&[(name, value)]).unwrap_err();
            assert!(error.contains("does not have"), "{name}: {error}");
        }
        assert!(file(&[("ssl.client.auth", "none"), ("sasl.enabled.mechanisms", "GSSAPI")]).is_ok());
        assert!(file(&[("controller.quorum.voters", "1@localhost:9093"), ("node.id", "1")]).is_ok());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for settings in [
            &[("node.id", "1"), ("broker.id", "2")][..],
            &[("log.retention.ms", "0")],
            &[("log.roll.ms", "0")],
            &[("log.dirs", "/a,/a")],
            &[("max.connections.per.ip.overrides", "host")],
            &[("num.partitions", "0")],
            &[("broker.id", "-5")],
            &[("log.cleaner.dedupe.buffer.size", "1048576"), ("log.cleaner.threads", "2")],
        ] {
            assert!(file(settings).is_err(), "{settings:?}");
        }
    }
}
