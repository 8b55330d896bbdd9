//! How a broker starts: sockets bound, directories locked, metadata replayed, logs opened, doors opened. Nothing
//! is accepted before everything else is done, and an error leaves no directory marked clean.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::broker::{Broker, Part, Ready, Serving};
use super::flusher::Flusher;
use super::groups::{self, Groups};
use super::isr::{self, IsrQueue};
use super::lifecycle::{self, Registration};
use super::lifeline;
use super::lone_controller::LoneController;
use super::mover::{self, Mover};
use super::node::{Failures, Node};
use super::producers::ProducerIds;
use super::quorum::QuorumService;
use super::quorum::cluster;
use super::quorum::door::{Door, DoorRuntime};
use super::sources::NodeSources;
use super::whereabouts::{self, Untold};
use super::{cleaner, housekeeping};
use crate::config::{AdvertisedListener, BrokerConfig, ListenAddress};
use crate::controller::{
    Claimant, Controller, ControllerError, ControllerOptions, FoundMetadata, mark_incarnation,
};
use crate::metadata::{BrokerEndpoint, ConfigResource, Image};
use crate::net::Limits;
use crate::net::budget::Budget;
use crate::net::listener::{BindError, Gate, Listener};
use crate::net::quotas::ConnectionQuotas;
use crate::protocol::ErrorCode;
use crate::replication::{Fetchers, Partitions, SessionCache, Throttle};
use crate::storage::{DirectoryError, Disk, LogDirectories, RealDisk, StorageError};
use crate::types::{BrokerId, Clock, SystemClock, Uuid};

/// A time that does not come, and can be added to another all the same.
const NEVER_MS: u64 = i64::MAX as u64;
/// The node id of a directory that has none, where nobody gives one.
const DEFAULT_NODE_ID: i32 = 1;

/// What a broker is started with.
pub struct BrokerOptions {
    /// The configuration: directories and listeners are in it.
    pub config: BrokerConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The disk under every directory.
    pub disk: Arc<dyn Disk>,
    /// Whether it listens at all: the embedded mode only attaches.
    pub listens: bool,
}

impl BrokerOptions {
    /// The machine's clock and disk.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Self {
        Self { config, clock: SystemClock::new(), disk: RealDisk::new(), listens: true }
    }
}

/// Why a broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A log directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory belongs to another node.
    #[error("the directory belongs to node {found}, but node {asked} was asked for (--node, node.id)")]
    NodeId {
        /// In `meta.properties`.
        found: i32,
        /// In the configuration.
        asked: i32,
    },
    /// The directory belongs to another cluster.
    #[error("the directory belongs to cluster {found}, but {asked} was asked for (--cluster-id)")]
    ClusterId {
        /// In `meta.properties`.
        found: String,
        /// In the configuration.
        asked: String,
    },
    /// A new directory is to join a cluster, and nothing says which.
    #[error(
        "the directory is new, and without controller.quorum.voters nothing says which cluster it joins: give its id with \
         --cluster-id ('klamm cluster describe' of the cluster shows it)"
    )]
    NoClusterId,
    /// The cluster does not take this broker.
    #[error("the cluster does not take this broker: {} ({})", .0.message(), .0.name())]
    Registration(ErrorCode),
    /// The metadata log cannot be opened, or holds what this version does not understand.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no log directory.
    #[error("no log directory is given")]
    NoDirectory,
    /// An address of `max.connections.per.ip.overrides` is none.
    #[error("max.connections.per.ip.overrides: {0:?} is no IP address")]
    Override(String),
    /// A thread of the start has panicked, or there is no randomness.
    #[error("the broker could not be put together: {0}")]
    Broken(String),
}

impl Broker {
    /// Starts a broker. It serves when this returns.
    ///
    /// # Errors
    /// [`StartError`], with what to do about it.
    pub async fn start(options: BrokerOptions) -> Result<Self, StartError> {
        let BrokerOptions { config, clock, disk, listens } = options;
        let threads = available_parallelism().map_or(2, usize::from);
        let door_runtime = match &config.quorum {
            Some(quorum) if listens && quorum.is_controller => {
                Some(DoorRuntime::new().map_err(|error| StartError::Broken(error.to_string()))?)
            }
            _ => None,
        };
        let (listeners, quorum_listeners) =
            if listens { bind(&config, door_runtime.as_ref())? } else { Default::default() };
        let overrides = overrides(&config)?;
        let endpoints = endpoints(&config, &listeners);
        // Replaying and recovering block for as long as the disk takes.
        let opened = spawn_blocking(move || open_metadata(config, &disk, clock, endpoints)).await;
        let opened = opened.map_err(|error| StartError::Broken(error.to_string()))??;
        let controllers: Vec<ListenAddress> =
            quorum_listeners.iter().map(|listener| listener.address().clone()).collect();
        let quorum = door_runtime.map(|runtime| open_quorum(&opened, quorum_listeners, runtime));
        let quorum = match quorum {
            Some(door) if opened.config.quorum.as_ref().is_some_and(|quorum| !quorum.is_broker) => {
                return Ok(lone_controller(opened, door, controllers));
            }
            quorum => quorum,
        };
        let registration = join(&opened).await?;
        let node = spawn_blocking(move || open_logs(opened, threads)).await;
        let node = node.map_err(|error| StartError::Broken(error.to_string()))??;
        let config = node.config();
        let node_id = node.id.0;
        let limits = limits(&config);
        let quotas = ConnectionQuotas::new(config.max_connections, per_ip_max(&config), overrides);
        let budget =
            Budget::new(config.queued_max_request_bytes.map_or(usize::MAX / 2, |bytes| bytes as usize));
        let gate = Gate::new(Arc::clone(&node), limits, quotas.clone(), budget, Arc::clone(&node.clock));
        let ready = Ready {
            node: node_id,
            listeners: listeners.iter().map(|listener| listener.address().clone()).collect(),
            controllers,
        };
        let mut untold = Untold::default();
        if !node.controller.is_member() {
            // Its own controller answers at once.
            untold.tell(&node).await;
        }
        let mut tasks = vec![tokio::spawn(groups::run(Arc::clone(&node)))];
        node.groups.follow(&node);
        let mut workers = vec![
            tokio::spawn(follow(Arc::clone(&node), quotas)),
            tokio::spawn(housekeeping::run(Arc::clone(&node))),
            tokio::spawn(cleaner::run(Arc::clone(&node))),
            tokio::spawn(mover::run(Arc::clone(&node))),
            tokio::spawn(isr::run(Arc::clone(&node))),
            tokio::spawn(whereabouts::run(Arc::clone(&node), untold)),
        ];
        if let Some(registration) = registration.clone() {
            workers.push(tokio::spawn(lifecycle::run(Arc::clone(&node), registration)));
            tasks.push(tokio::spawn(lifeline::watch(node.controller.clone(), node_id)));
        }
        listeners.into_iter().for_each(|listener| gate.open(listener));
        if registration.is_some() {
            // The sender lives in the node.
            let _ = node.unfenced.subscribe().wait_for(|unfenced| *unfenced).await;
        }
        let serving = Serving { registration, node, gate, quorum, tasks, workers, threads };
        Ok(Self { part: Part::Broker(Box::new(serving)), ready })
    }
}

/// A node that is no broker is ready once its door is open: the others may wait for it.
fn lone_controller(opened: Opened, door: Door, controllers: Vec<ListenAddress>) -> Broker {
    let ready = Ready { node: opened.node_id, listeners: Vec::new(), controllers };
    let registration = registration(&opened);
    let Opened { controller, directories, clock, .. } = opened;
    let controller = LoneController::start(registration, controller, door, directories, clock);
    Broker { part: Part::Controller(Box::new(controller)), ready }
}

/// The metadata, open; the logs are not yet.
struct Opened {
    node_id: i32,
    cluster_id: String,
    config: Arc<BrokerConfig>,
    directories: Arc<LogDirectories>,
    controller: Controller,
    /// What clients are told.
    endpoints: Vec<BrokerEndpoint>,
    /// Its topics were made under the settings of a broker that was not klamm.
    is_adopted: bool,
    clock: Arc<dyn Clock>,
}

/// Opens the directories and the metadata.
fn open_metadata(
    config: BrokerConfig,
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    endpoints: Vec<BrokerEndpoint>,
) -> Result<Opened, StartError> {
    let mut paths = config.log_dirs.clone();
    if !paths.contains(&config.metadata_log_dir) {
        paths.insert(0, config.metadata_log_dir.clone());
    }
    let directories = Arc::new(LogDirectories::open(disk, &paths)?);
    let node_id = node_id(&directories, &config)?;
    let cluster_id = cluster::id(&directories, &config)?;
    // A directory that is not for us stays as it is: everything is looked at before anything is written.
    let found = Controller::examine(&claimant(&config, &directories, node_id, &cluster_id)?)?;
    directories.claim(&cluster_id, node_id, random_id)?;
    let is_adopted = found.is_adopted(node_id);
    let config = if is_adopted { adopted(config) } else { config };
    let config = Arc::new(config.with_node_id(node_id));
    let told = endpoints.clone();
    let controller = start_controller(found, &config, &directories, &clock, told, node_id, &cluster_id)?;
    Ok(Opened { node_id, cluster_id, config, directories, controller, endpoints, is_adopted, clock })
}

/// Opens the logs that the metadata has.
fn open_logs(opened: Opened, threads: usize) -> Result<Arc<Node>, StartError> {
    let Opened { node_id, cluster_id, config, directories, controller, clock, .. } = opened;
    let image = controller.image();
    let config = Arc::new(in_force(&config, &image, node_id));
    let partitions = Partitions::open(
        BrokerId(node_id),
        Arc::clone(&directories),
        Arc::clone(&clock),
        image,
        Arc::clone(&config),
        threads,
    )?;
    Ok(assemble(node_id, cluster_id, config, controller, Arc::new(partitions), directories, clock))
}

/// Opens the controller's door: the others of the quorum must get in before this broker can be registered.
fn open_quorum(opened: &Opened, listeners: Vec<Listener>, runtime: DoorRuntime) -> Door {
    let service = QuorumService::new(&opened.controller, &opened.cluster_id, opened.node_id, &opened.config);
    let limits = limits(&opened.config);
    let quotas = ConnectionQuotas::new(usize::MAX, u32::MAX, HashMap::new());
    let gate = Gate::new(service, limits, quotas, Budget::new(usize::MAX / 2), Arc::clone(&opened.clock));
    {
        let _inside = runtime.enter();
        listeners.into_iter().for_each(|listener| gate.open(listener));
    }
    Door { gate, runtime }
}

/// One of several waits until the cluster has it: then the image says which logs are its own.
async fn join(opened: &Opened) -> Result<Option<Registration>, StartError> {
    if !opened.controller.is_member() {
        return Ok(None);
    }
    let registration = registration(opened);
    lifecycle::register(&opened.controller, &registration, &opened.config, &*opened.clock).await?;
    Ok(Some(registration))
}

/// What this node says of itself in this life.
fn registration(opened: &Opened) -> Registration {
    let Opened { node_id, config, directories, .. } = opened;
    Registration {
        node_id: *node_id,
        cluster_id: opened.cluster_id.clone(),
        incarnation_id: mark_incarnation(random_id(), opened.is_adopted),
        endpoints: opened.endpoints.clone(),
        controller_endpoint: controller_endpoint(config),
        rack: config.rack.clone(),
        log_dir_ids: directories.all().iter().filter_map(|directory| directory.id()).collect(),
        previous_broker_epoch: directories.clean_broker_epoch().unwrap_or(-1),
    }
}

/// The configuration for a directory whose topics were made by a server.properties of Kafka.
fn adopted(config: BrokerConfig) -> BrokerConfig {
    let (config, kept_in_doubt) = config.with_unknown_file();
    if !kept_in_doubt.is_empty() {
        warn!(
            "Apache Kafka served this directory, and its server.properties is not in it: nothing is deleted by age \
             in topics without settings of their own, and committed offsets do not expire. Give its file with \
             --config, or say it with {}",
            kept_in_doubt.iter().map(|key| format!("--set {key}=…")).collect::<Vec<_>>().join(" ")
        );
    }
    config
}

fn claimant(
    config: &BrokerConfig,
    directories: &LogDirectories,
    node_id: i32,
    cluster_id: &str,
) -> Result<Claimant, StartError> {
    let metadata = directories.at(&config.metadata_log_dir).ok_or(StartError::NoDirectory)?;
    Ok(Claimant {
        disk: Arc::clone(&metadata.home().disk),
        metadata_dir: metadata.path().to_owned(),
        metadata_dir_id: metadata.id().unwrap_or_default(),
        cluster_id: cluster_id.to_owned(),
        node_id,
        has_several_voters: config.quorum.is_some(),
    })
}

fn start_controller(
    found: FoundMetadata,
    config: &Arc<BrokerConfig>,
    directories: &LogDirectories,
    clock: &Arc<dyn Clock>,
    endpoints: Vec<BrokerEndpoint>,
    node_id: i32,
    cluster_id: &str,
) -> Result<Controller, StartError> {
    let metadata = directories.at(&config.metadata_log_dir).ok_or(StartError::NoDirectory)?;
    let options = ControllerOptions {
        home: metadata.home().clone(),
        metadata_dir: metadata.path().to_owned(),
        metadata_dir_id: metadata.id().unwrap_or_default(),
        log_dir_ids: directories.all().iter().filter_map(|directory| directory.id()).collect(),
        cluster_id: cluster_id.to_owned(),
        node_id,
        has_several_voters: config.quorum.is_some(),
        clock: Arc::clone(clock),
        config: Arc::clone(config),
        endpoints,
        controller_endpoint: controller_endpoint(config),
        clean_broker_epoch: directories.clean_broker_epoch(),
    };
    match &config.quorum {
        None => Ok(Controller::start_on(found, options)?),
        Some(quorum) => Ok(Controller::start_member(&found, options, cluster::member(quorum, config))?),
    }
}

/// What the configuration says of a controller's listener: nobody listens there while the node is alone, but
/// another broker finds it in the directory.
fn controller_endpoint(config: &BrokerConfig) -> Option<BrokerEndpoint> {
    let advertised = config.advertised_listeners.iter().find(|advertised| advertised.controller)?;
    Some(endpoint(advertised, None))
}

/// An id that nobody has had. As in Kafka, its text does not begin with a dash.
pub(super) fn random_id() -> Uuid {
    loop {
        let mut bytes = [0; 16];
        assert!(getrandom::fill(&mut bytes).is_ok(), "the system gives randomness");
        let id = Uuid::from_random_bytes(bytes);
        if !id.is_reserved() && !id.to_string().starts_with('-') {
            return id;
        }
    }
}

fn assemble(
    node_id: i32,
    cluster_id: String,
    config: Arc<BrokerConfig>,
    controller: Controller,
    partitions: Arc<Partitions>,
    directories: Arc<LogDirectories>,
    clock: Arc<dyn Clock>,
) -> Arc<Node> {
    let seed = random_id().0.iter().fold(0_u64, |seed, byte| (seed << 4) ^ u64::from(*byte));
    let failures = Failures {
        partitions: Arc::clone(&partitions),
        directories: Arc::clone(&directories),
        controller: controller.clone(),
        metadata_dir: config.metadata_log_dir.clone(),
        failed: watch::Sender::new(false),
        known: watch::Sender::new(0),
    };
    let flusher = {
        let failures = failures.clone();
        Flusher::new(Box::new(move |partition, error| {
            error!(partition = %partition.id(), "cannot be flushed: {error}");
            failures.look();
        }))
    };
    let isr = IsrQueue::new(Box::new(controller.clone()));
    Arc::new(Node {
        id: BrokerId(node_id),
        cluster_id,
        sessions: SessionCache::new(config.fetch_session_slots_max, seed),
        config: ArcSwap::new(config),
        clock,
        controller,
        partitions,
        directories,
        flusher,
        groups: Arc::new(Groups::default()),
        mover: Mover::default(),
        isr,
        leader_throttle: Throttle::default(),
        producer_ids: ProducerIds::default(),
        stopping: watch::Sender::new(false),
        unfenced: watch::Sender::new(false),
        failures,
    })
}

/// Follows the images until the broker begins to stop: dynamic configuration first, then partitions. What it is at
/// then it ends.
async fn follow(node: Arc<Node>, quotas: ConnectionQuotas) {
    let mut changes = node.controller.changes();
    let fetchers = Fetchers::new(Arc::new(NodeSources(Arc::clone(&node))));
    loop {
        let image = Arc::clone(&changes.borrow_and_update());
        let (worker, quotas) = (Arc::clone(&node), quotas.clone());
        let applied = spawn_blocking(move || {
            let before = worker.config();
            let config = Arc::new(in_force(&before, &image, worker.id.0));
            // The same settings keep their identity: nothing is applied anew.
            let is_same = *before == *config;
            let config = if is_same { before } else { config };
            worker.config.store(Arc::clone(&config));
            if !is_same {
                limit_connections(&quotas, &config);
            }
            worker.partitions.apply(image, config);
            worker.groups.follow(&worker);
        });
        if let Err(error) = applied.await {
            error!("the metadata could not be followed: {error}");
        }
        fetchers.follow(&node.partitions.take_changed());
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = node.stopping() => break,
        }
    }
    fetchers.close().await;
}

fn per_ip_max(config: &BrokerConfig) -> u32 {
    u32::try_from(config.max_connections_per_ip).unwrap_or(u32::MAX)
}

fn limit_connections(quotas: &ConnectionQuotas, config: &BrokerConfig) {
    match overrides(config) {
        Ok(overrides) => quotas.set_limits(config.max_connections, per_ip_max(config), overrides),
        Err(error) => warn!("{error}"),
    }
}

/// The configuration with what the image sets for all brokers and for this one.
pub(super) fn in_force(config: &BrokerConfig, image: &Image, node_id: i32) -> BrokerConfig {
    let cluster = image.configs(&ConfigResource::cluster_default());
    let own = image.configs(&ConfigResource::broker(node_id));
    config.with_dynamic(&cluster, &own).unwrap_or_else(|error| {
        warn!("dynamic settings are passed over: {error}");
        config.clone()
    })
}

/// The listeners for clients, and those for the quorum.
fn bind(
    config: &BrokerConfig,
    door: Option<&DoorRuntime>,
) -> Result<(Vec<Listener>, Vec<Listener>), BindError> {
    let backlog = i32::try_from(config.socket_listen_backlog_size).unwrap_or(i32::MAX);
    let bind = |it: &crate::config::Listener| Listener::bind(&it.name, &it.address, backlog);
    let clients = config.client_listeners().map(bind).collect::<Result<_, _>>()?;
    let controllers = config.controller_listeners();
    if config.quorum.is_some() {
        let _inside = door.and_then(DoorRuntime::enter);
        return Ok((clients, controllers.map(bind).collect::<Result<_, _>>()?));
    }
    for controller in controllers {
        info!(address = %controller.address, "a lone node opens no controller listener");
    }
    Ok((clients, Vec::new()))
}

fn node_id(directories: &LogDirectories, config: &BrokerConfig) -> Result<i32, StartError> {
    let first = directories.all().first().ok_or(StartError::NoDirectory)?;
    match (first.meta().and_then(|meta| meta.node_id), config.node_id) {
        (Some(found), Some(asked)) if found != asked => Err(StartError::NodeId { found, asked }),
        (found, asked) => Ok(found.or(asked).unwrap_or(DEFAULT_NODE_ID)),
    }
}

/// What clients are told: the advertised addresses, with the real port where 0 was asked for.
fn endpoints(config: &BrokerConfig, listeners: &[Listener]) -> Vec<BrokerEndpoint> {
    let clients = config.advertised_listeners.iter().filter(|advertised| !advertised.controller);
    clients
        .map(|advertised| {
            let bound = listeners.iter().find(|listener| listener.name() == advertised.name);
            endpoint(advertised, bound.map(Listener::address))
        })
        .collect()
}

fn endpoint(advertised: &AdvertisedListener, bound: Option<&ListenAddress>) -> BrokerEndpoint {
    let (host, port) = match (&advertised.address, bound) {
        (ListenAddress::Tcp { host, port: 0 }, Some(ListenAddress::Tcp { port, .. })) => {
            (host.clone(), *port)
        }
        (ListenAddress::Tcp { host, port }, _) => (host.clone(), *port),
        (ListenAddress::Unix(path), _) => (path.display().to_string(), 0),
    };
    let host = if host.is_empty() { host_name() } else { host };
    BrokerEndpoint { name: advertised.name.clone(), host, port, security_protocol: advertised.protocol.id() }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

fn overrides(config: &BrokerConfig) -> Result<HashMap<IpAddr, u32>, StartError> {
    let parsed = config.max_connections_per_ip_overrides.iter().map(|(address, max)| {
        let ip = address.parse().map_err(|_| StartError::Override(address.clone()))?;
        Ok((ip, u32::try_from(*max).unwrap_or(u32::MAX)))
    });
    parsed.collect()
}

fn limits(config: &BrokerConfig) -> Limits {
    let defaults = Limits::default();
    Limits {
        request_bytes_max: config.socket_request_max_bytes as usize,
        idle_max: Duration::from_millis(u64::try_from(config.connections_max_idle_ms).unwrap_or(NEVER_MS)),
        send_buffer_bytes: config.socket_send_buffer_bytes.map(|bytes| bytes as usize),
        receive_buffer_bytes: config.socket_receive_buffer_bytes.map(|bytes| bytes as usize),
        ..defaults
    }
}
