//! The controller of a node that is its own quorum: it alone decides on topics, configurations, registrations
//! and producer ids, and keeps every decision in the log `__cluster_metadata` before anybody hears of it.
//!
//! Decisions are pure functions of a request and an [`Image`] (`topics`, `topic_changes`, `configs`,
//! `producer_ids`, `brokers`, `placement`). What acts is `driver`: one thread with the log, on which requests
//! that wait together are written together. Every start is a new leader epoch and a new broker epoch.
//!
//! Promised: what an answer says was done is on disk and in [`Controller::image`]; a request's records count
//! together or not at all; a directory of another quorum, cluster or newer format is refused before a byte of
//! it is changed.

mod alter_partition;
mod brokers;
mod configs;
mod decision;
mod deferred_sync;
mod driver;
mod elect_leaders;
mod elections;
mod error;
mod features;
mod forward;
mod found;
mod heartbeats;
mod incarnation;
mod log_dirs;
mod member;
mod metadata_log;
mod partition_change;
mod placement;
mod producer_ids;
mod question;
pub mod quorum;
mod quorum_state;
mod reassignments;
mod registrations;
mod replay;
mod sessions;
mod snapshots;
mod term;
#[cfg(test)]
mod tests;
mod topic_changes;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::config::BrokerConfig;
use crate::metadata::record::LEVEL_DIRECTORIES;
use crate::metadata::snapshot::SnapshotId;
use crate::metadata::{BrokerEndpoint, Image, METADATA_VERSION, ReplicaDirectory};
use crate::protocol::ErrorCode;
use crate::protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use crate::protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use crate::protocol::messages::alter_configs_request::AlterConfigsRequest;
use crate::protocol::messages::alter_configs_response::AlterConfigsResponse;
use crate::protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use crate::protocol::messages::alter_partition_reassignments_response::AlterPartitionReassignmentsResponse;
use crate::protocol::messages::alter_partition_request::AlterPartitionRequest;
use crate::protocol::messages::alter_partition_response::AlterPartitionResponse;
use crate::protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use crate::protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use crate::protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use crate::protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use crate::protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use crate::protocol::messages::controller_registration_response::ControllerRegistrationResponse;
use crate::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use crate::protocol::messages::create_partitions_response::CreatePartitionsResponse;
use crate::protocol::messages::create_topics_request::CreateTopicsRequest;
use crate::protocol::messages::create_topics_response::CreateTopicsResponse;
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::delete_topics_response::DeleteTopicsResponse;
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::protocol::messages::elect_leaders_response::ElectLeadersResponse;
use crate::protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use crate::protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use crate::protocol::messages::unregister_broker_response::UnregisterBrokerResponse;
use crate::protocol::messages::update_features_request::UpdateFeaturesRequest;
use crate::protocol::messages::update_features_response::UpdateFeaturesResponse;
use crate::storage::{Disk, LogHome};
use crate::types::{Clock, Uuid};

pub use brokers::supported as supported_features;
pub use decision::Refusal;
pub use error::ControllerError;
pub use found::{Claimant, FoundMetadata};
pub use incarnation::mark as mark_incarnation;
pub use member::{Leader, MemberOptions, QuorumDescription};
pub use question::{Decided, Question, Reply};
pub use term::{Around, Term};

use brokers::NodeIdentity;
use decision::{Answer, Context, Decision};
use deferred_sync::DeferredSync;
use driver::{Command, Driver, DriverThread, Pending, Shared};
use forward::Channel;
use metadata_log::Home;
use sessions::BrokerSessions;

/// How many replicas' directories are noted at once, as in Kafka.
const ASSIGNMENTS_MAX: usize = 2_250;

/// What a controller is started with.
#[derive(Clone)]
pub struct ControllerOptions {
    /// The directory's disk and deletions. The directory is locked by the caller.
    pub home: LogHome,
    /// The log directory that holds, or will hold, `__cluster_metadata-0`.
    pub metadata_dir: PathBuf,
    /// Its id in `meta.properties`.
    pub metadata_dir_id: Uuid,
    /// The ids of all online log directories.
    pub log_dir_ids: Vec<Uuid>,
    /// The cluster's id in `meta.properties`.
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// Whether the quorum has, or may have, other voters.
    pub has_several_voters: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The configuration that the broker was started with.
    pub config: Arc<BrokerConfig>,
    /// What clients are told: the advertised listeners with their real hosts and ports.
    pub endpoints: Vec<BrokerEndpoint>,
    /// What voters are told. A lone node without a controller listener has `CONTROLLER://localhost:9093`, the
    /// one of the `server.properties` that Kafka ships: another broker can take the directory over by it.
    pub controller_endpoint: Option<BrokerEndpoint>,
    /// The broker epoch in `.kafka_cleanshutdown`, where every directory was left clean.
    pub clean_broker_epoch: Option<i64>,
}

impl ControllerOptions {
    /// Whose the metadata must be.
    #[must_use]
    pub fn claimant(&self) -> Claimant {
        Claimant {
            disk: Arc::clone(&self.home.disk),
            metadata_dir: self.metadata_dir.clone(),
            metadata_dir_id: self.metadata_dir_id,
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            has_several_voters: self.has_several_voters,
        }
    }
}

/// The way to the controller's thread, until it is told to end.
type Commands = Arc<Mutex<Option<Sender<Command>>>>;

/// A handle on the controller; clones are the same controller.
#[derive(Clone, Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    commands: Commands,
    /// Behind the way to it: that is given up first.
    _thread: Arc<DriverThread>,
    node_id: i32,
    cluster_id: Arc<str>,
    config: Arc<BrokerConfig>,
    is_member: bool,
    /// Whether it asks the active controller where that is another node.
    forwards: bool,
    channel: Arc<Channel>,
}

impl Controller {
    /// Reads the metadata of a directory and says whether this node may have it. Writes nothing.
    ///
    /// # Errors
    /// [`ControllerError`]: it is another quorum's, newer or damaged, or says what klamm does not honour yet.
    pub fn examine(claimant: &Claimant) -> Result<FoundMetadata, ControllerError> {
        claimant.examine()
    }

    /// [`Controller::examine`] and [`Controller::start_on`] in one.
    ///
    /// # Errors
    /// As both.
    pub fn start(options: ControllerOptions) -> Result<Self, ControllerError> {
        let found = Self::examine(&options.claimant())?;
        Self::start_on(found, options)
    }

    /// Formats the directory where nothing was found, takes office in a new epoch, registers and unfences this
    /// broker, and starts the thread. What it writes is on disk before the first change is acknowledged.
    ///
    /// # Errors
    /// The disk failed.
    pub fn start_on(found: FoundMetadata, options: ControllerOptions) -> Result<Self, ControllerError> {
        let now_ms = options.clock.now_ms();
        let claimant = options.claimant();
        let start_disk = DeferredSync::new(Arc::clone(&options.home.disk));
        let home = LogHome { disk: Arc::clone(&start_disk) as Arc<dyn Disk>, ..options.home };
        let node = NodeIdentity {
            node_id: options.node_id,
            incarnation_id: incarnation::mark(driver::draw_id(), found.is_adopted(options.node_id)),
            endpoints: options.endpoints,
            controller_endpoint: options.controller_endpoint.unwrap_or_else(default_controller_endpoint),
            rack: options.config.rack.clone(),
            log_dirs: options.log_dir_ids,
        };
        let is_clean = options.clean_broker_epoch.is_some();
        let config = &*options.config;
        let opening = Home { home: &home, claimant: &claimant, node: &node, config, is_clean, now_ms };
        let mut opened = opening.open(found)?;
        let image = driver::begin(&mut opened, &node, &options.config, options.clean_broker_epoch, now_ms)?;
        let shared = Shared::new(image, opened.log.snapshots().latest(), opened.log.kraft_version());
        let image = shared.image.load_full();
        let commands = Arc::new(Mutex::new(None));
        let cluster_id: Arc<str> = options.cluster_id.as_str().into();
        let timeout_ms = options.config.cluster.session_timeout_ms;
        let clock = Arc::clone(&options.clock);
        let thread = Driver {
            log: opened.log,
            start_disk,
            shared: Arc::clone(&shared),
            config: driver::dynamic_config(&options.config, &image, options.node_id),
            sessions: BrokerSessions::new(&image, timeout_ms, Some(options.node_id), 0),
            image,
            static_config: Arc::clone(&options.config),
            node_id: options.node_id,
            cluster_id: Arc::clone(&cluster_id),
            clock: options.clock,
            next_start: 0,
            commands: Arc::downgrade(&commands),
            last_snapshot_ms: now_ms,
            writing: None,
            failure: None,
        };
        let (sender, thread) = driver::spawn(move |receiver| thread.run(receiver))?;
        *commands.lock() = Some(sender);
        Ok(Self::of((shared, commands, thread), options.node_id, cluster_id, options.config, clock, false))
    }

    fn of(
        (shared, commands, thread): (Arc<Shared>, Commands, DriverThread),
        node_id: i32,
        cluster_id: Arc<str>,
        config: Arc<BrokerConfig>,
        clock: Arc<dyn Clock>,
        is_member: bool,
    ) -> Self {
        let channel = Channel::new(node_id, clock);
        let _thread = Arc::new(thread);
        Self { shared, commands, _thread, node_id, cluster_id, config, is_member, forwards: true, channel }
    }

    /// Whether this node is one of several; a lone one decides everything itself, its own registration too.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.is_member
    }

    /// What the cluster has agreed on so far.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    /// The quorum's protocol: 0 with configured voters, 1 with those in the log.
    #[must_use]
    pub fn kraft_version(&self) -> i16 {
        self.shared.kraft_version.load(Ordering::Relaxed)
    }

    /// The image, and every one that follows; a slow receiver sees the newest.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Image>> {
        self.shared.changes.subscribe()
    }

    /// The newest snapshot; changes once another is on disk and what it stands for is deleted.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Option<SnapshotId>> {
        self.shared.snapshot.subscribe()
    }

    /// Looks whether a snapshot is due by now, and what need not be kept any more. Called by the clock.
    pub fn maintain(&self) {
        self.send(Command::Maintain);
    }

    /// The epoch this broker registered with: what `.kafka_cleanshutdown` is to say.
    #[must_use]
    pub fn broker_epoch(&self) -> i64 {
        self.image().broker(self.node_id).map_or(-1, |broker| broker.epoch)
    }

    /// The broker's configuration with the dynamic values of the current image.
    #[must_use]
    pub fn broker_config(&self) -> Arc<BrokerConfig> {
        driver::dynamic_config(&self.config, &self.image(), self.node_id)
    }

    /// Creates topics; each is answered by itself.
    pub async fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        self.ask(request, topics::create).await
    }

    /// Deletes topics by name or by id; each is answered by itself.
    pub async fn delete_topics(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        self.ask(request, topic_changes::delete).await
    }

    /// Adds partitions; each topic is answered by itself.
    pub async fn create_partitions(&self, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        self.ask(request, topic_changes::create_partitions).await
    }

    /// Replaces the settings of resources; each is answered by itself.
    pub async fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        self.ask(request, configs::alter).await
    }

    /// Changes settings of resources; each is answered by itself.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        self.ask(request, configs::alter_incrementally).await
    }

    /// A block of producer ids that nobody has been given.
    pub async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIdsRequest,
    ) -> AllocateProducerIdsResponse {
        self.ask(request, producer_ids::allocate).await
    }

    /// Registers a broker: its life in the cluster begins, closed to clients.
    pub async fn register_broker(&self, request: BrokerRegistrationRequest) -> BrokerRegistrationResponse {
        self.ask(request, registrations::register_broker).await
    }

    /// Registers a controller.
    pub async fn register_controller(
        &self,
        request: ControllerRegistrationRequest,
    ) -> ControllerRegistrationResponse {
        self.ask(request, registrations::register_controller).await
    }

    /// Forgets a broker.
    pub async fn unregister_broker(&self, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
        self.ask(request, registrations::unregister_broker).await
    }

    /// Takes note that a broker lives, and of what it wants.
    pub async fn heartbeat(&self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse {
        self.ask(request, heartbeats::heartbeat).await
    }

    /// Closes a broker to clients at once: its connection was reset and nobody answers at its port.
    pub fn connection_lost(&self, broker: i32) {
        let (reply, _) = oneshot::channel();
        let job = move |context: &mut Context<'_>| heartbeats::connection_lost(context, broker);
        self.send(Command::Decide(Box::new(Pending::new(job, reply))));
    }

    /// Changes who is in sync, as the leader says.
    pub async fn alter_partition(&self, request: AlterPartitionRequest) -> AlterPartitionResponse {
        self.ask(request, alter_partition::alter_partition).await
    }

    /// Elects leaders.
    pub async fn elect_leaders(&self, request: ElectLeadersRequest) -> ElectLeadersResponse {
        self.ask(request, elect_leaders::elect_leaders).await
    }

    /// Begins, changes or cancels moves of replicas to other brokers.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        self.ask(request, reassignments::alter).await
    }

    /// The moves of replicas that are on their way.
    pub async fn list_partition_reassignments(
        &self,
        request: ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        self.ask(request, reassignments::list).await
    }

    /// Changes the levels of features.
    pub async fn update_features(&self, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
        let shared = Arc::clone(&self.shared);
        let decide = move |context: &mut Context<'_>, request: &UpdateFeaturesRequest| {
            features::update(context, request, shared.kraft_version.load(Ordering::Relaxed))
        };
        self.ask(request, decide).await
    }

    /// Notes which directories of a broker hold its replicas.
    pub async fn assign_replicas_to_dirs(
        &self,
        request: AssignReplicasToDirsRequest,
    ) -> AssignReplicasToDirsResponse {
        self.ask(request, log_dirs::assign).await
    }

    /// Notes which directories hold this broker's replicas.
    ///
    /// # Errors
    /// The metadata log failed or is closed, or no controller answers.
    pub async fn assign_directories(&self, replicas: Vec<ReplicaDirectory>) -> Result<(), ErrorCode> {
        if self.image().feature(METADATA_VERSION) < LEVEL_DIRECTORIES {
            return Ok(());
        }
        // Records of one decision stand in one batch.
        for replicas in replicas.chunks(ASSIGNMENTS_MAX) {
            let request = log_dirs::request(self.node_id, self.broker_epoch(), replicas);
            match ErrorCode::from_wire(self.assign_replicas_to_dirs(request).await.error_code) {
                ErrorCode::None => {}
                code => return Err(code),
            }
        }
        Ok(())
    }

    /// Notes that directories of this broker are out of use. Does not wait until it is on disk.
    pub fn note_failed_directories(&self, failed: BTreeSet<Uuid>) {
        let (reply, _) = oneshot::channel();
        let job = Pending::new(move |context: &mut Context<'_>| log_dirs::fail(context, &failed), reply);
        self.send(Command::Decide(Box::new(job)));
    }

    /// Closes the metadata log; afterwards everything is refused.
    ///
    /// # Errors
    /// The log could not be left clean.
    pub async fn shutdown(&self) -> Result<(), ControllerError> {
        let Some(commands) = self.commands.lock().take() else { return Ok(()) };
        let (reply, closed) = oneshot::channel();
        if commands.send(Command::Shutdown(reply)).is_err() {
            return Ok(());
        }
        closed.await.unwrap_or(Ok(()))
    }

    /// Hands a decision to the thread and waits for its answer.
    async fn decide<A: Answer>(
        &self,
        decide: impl Fn(&mut Context<'_>) -> Decision<A> + Send + Sync + 'static,
    ) -> A {
        let decide = Arc::new(decide);
        let (reply, answer) = oneshot::channel();
        let job = Pending::new(
            {
                let decide = Arc::clone(&decide);
                move |context: &mut Context<'_>| decide(context)
            },
            reply,
        );
        self.send(Command::Decide(Box::new(job)));
        // A job that could not be sent, or was not decided, is gone and its reply with it.
        match answer.await {
            Ok(answer) => answer,
            Err(_) => {
                let why = "The controller is shutting down.";
                self.refuse_all(&*decide, &Refusal::new(ErrorCode::NotController, why))
            }
        }
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &*self.commands.lock() {
            let _ = commands.send(command);
        }
    }

    /// The answer that refuses everything: decided as ever, and then not done.
    fn refuse_all<A: Answer>(
        &self,
        decide: &(impl Fn(&mut Context<'_>) -> Decision<A> + ?Sized),
        refusal: &Refusal,
    ) -> A {
        let mut builder = self.image().builder();
        let config = self.broker_config();
        let mut context = Context {
            builder: &mut builder,
            config: &config,
            static_config: &self.config,
            node_id: self.node_id,
            draw_id: &mut driver::draw_id,
            next_start: &mut 0,
            sessions: &mut BrokerSessions::default(),
            elapsed_ms: 0,
            next_offset: self.image().end_offset().0,
            cluster_id: &self.cluster_id,
        };
        let mut answer = decide(&mut context).answer;
        answer.refuse(refusal);
        answer
    }
}

fn default_controller_endpoint() -> BrokerEndpoint {
    BrokerEndpoint {
        name: "CONTROLLER".to_owned(),
        host: "localhost".to_owned(),
        port: 9093,
        security_protocol: 0,
    }
}
