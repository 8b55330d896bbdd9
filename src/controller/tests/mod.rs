//! A controller without a log: decisions are taken on an image and applied to it at once, and after each the image
//! is held against what must be true of every image.

mod features;
mod life;
mod partitions;
mod placed;
mod random;
mod reassigned;

use std::sync::Arc;

use super::brokers::{FEATURES, NodeIdentity, register_broker as broker_record};
use super::decision::{Context, Decision};
use super::heartbeats::{connection_lost, heartbeat, tick};
use super::registrations::register_broker;
use super::sessions::BrokerSessions;
use super::topics::create;
use crate::config::{BrokerConfig, Layers};
use crate::metadata::{Image, MetadataRecord, PartitionRegistration};
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use crate::protocol::messages::alter_partition_response::AlterPartitionResponse;
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use crate::protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use crate::protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::types::{LeaderEpoch, Offset, Uuid};

const CLUSTER_ID: &str = "the-cluster";
const SESSION_MS: i64 = 9_000;

/// The cluster as its active controller sees it.
struct Cluster {
    image: Image,
    sessions: BrokerSessions,
    config: Arc<BrokerConfig>,
    elapsed_ms: i64,
    next_id: u64,
    next_start: usize,
    /// The incarnation with which each broker registered last.
    lives: u8,
}

impl Cluster {
    /// All features of Kafka 4.3, and no broker.
    fn new() -> Self {
        Self::at_level(30, true)
    }

    fn at_level(level: i16, tracks_eligible: bool) -> Self {
        let (config, _) = BrokerConfig::load(Layers { node: Some(100), ..Layers::default() }).unwrap();
        let mut cluster = Self {
            image: Image::default(),
            sessions: BrokerSessions::new(&Image::default(), SESSION_MS, None, 0),
            config: Arc::new(config),
            elapsed_ms: 0,
            next_id: 0,
            next_start: 0,
            lives: 0,
        };
        let finalised = FEATURES.iter().filter(|(name, ..)| tracks_eligible || !name.starts_with("eligible"));
        let records = finalised.map(|&(name, .., default)| {
            let feature_level = if name == "metadata.version" { level } else { default };
            FeatureLevelRecord { name: name.into(), feature_level, ..Default::default() }.into()
        });
        cluster.write(records.collect());
        cluster
    }

    /// Brokers 1 to `brokers`, registered and serving.
    fn with_brokers(brokers: i32) -> Self {
        let mut cluster = Self::new();
        (1..=brokers).for_each(|broker| cluster.start(broker));
        cluster
    }

    fn write(&mut self, records: Vec<MetadataRecord>) {
        let before = self.image.clone();
        let mut builder = self.image.builder();
        let end = before.end_offset() + records.len() as i64;
        for record in records {
            builder.apply(record).unwrap();
        }
        self.image = builder.finish(end, LeaderEpoch(1));
        check_image(&self.image);
        check_growth(&before, &self.image);
    }

    /// Takes a decision and writes its records.
    fn decide<A>(&mut self, decide: impl FnOnce(&mut Context<'_>) -> Decision<A>) -> A {
        let mut builder = self.image.builder();
        let next_id = &mut self.next_id;
        let mut draw_id = || {
            *next_id += 1;
            Uuid(u128::from(*next_id + (1 << 40)).to_be_bytes())
        };
        let mut context = Context {
            builder: &mut builder,
            config: &self.config,
            static_config: &self.config,
            node_id: 100,
            draw_id: &mut draw_id,
            next_start: &mut self.next_start,
            sessions: &mut self.sessions,
            elapsed_ms: self.elapsed_ms,
            next_offset: self.image.end_offset().0,
            cluster_id: CLUSTER_ID,
        };
        let Decision { records, answer } = decide(&mut context);
        let decided = builder.finish(self.image.end_offset() + records.len() as i64, LeaderEpoch(1));
        self.write(records);
        assert_eq!(self.image, decided, "what is decided on is what the records say");
        answer
    }

    fn epoch_of(&self, broker: i32) -> i64 {
        self.image.broker(broker).map_or(-1, |broker| broker.epoch)
    }

    fn registration(&mut self, broker: i32, previous_broker_epoch: i64) -> BrokerRegistrationRequest {
        self.lives += 1;
        registration(broker, self.lives, previous_broker_epoch)
    }

    fn register(&mut self, request: &BrokerRegistrationRequest) -> BrokerRegistrationResponse {
        self.decide(|context| register_broker(context, request))
    }

    /// Registers a new life that follows a clean stop, and serves.
    fn start(&mut self, broker: i32) {
        let request = self.registration(broker, self.epoch_of(broker));
        self.start_with(&request);
    }

    /// The same after a crash.
    fn start_uncleanly(&mut self, broker: i32) {
        let request = self.registration(broker, -1);
        self.start_with(&request);
    }

    fn start_with(&mut self, request: &BrokerRegistrationRequest) {
        let answer = self.register(request);
        assert_eq!(ErrorCode::from_wire(answer.error_code), ErrorCode::None);
        let beat = self.beat(request.broker_id);
        assert!(!beat.is_fenced && beat.is_caught_up);
    }

    /// A heartbeat that wants nothing.
    fn beat(&mut self, broker: i32) -> BrokerHeartbeatResponse {
        self.beat_with(&BrokerHeartbeatRequest {
            broker_id: broker,
            broker_epoch: self.epoch_of(broker),
            current_metadata_offset: self.image.end_offset().0 - 1,
            ..Default::default()
        })
    }

    fn beat_with(&mut self, request: &BrokerHeartbeatRequest) -> BrokerHeartbeatResponse {
        self.decide(|context| heartbeat(context, request))
    }

    /// A heartbeat that wants to stop.
    fn ask_to_stop(&mut self, broker: i32) -> BrokerHeartbeatResponse {
        self.beat_with(&BrokerHeartbeatRequest {
            broker_id: broker,
            broker_epoch: self.epoch_of(broker),
            current_metadata_offset: self.image.end_offset().0 - 1,
            want_shut_down: true,
            ..Default::default()
        })
    }

    /// The process is gone and its connection was reset.
    fn kill(&mut self, broker: i32) {
        self.decide(|context| connection_lost(context, broker));
    }

    /// Time passes, and what is due by then is decided.
    fn pass(&mut self, ms: i64) {
        self.elapsed_ms += ms;
        self.decide(|context| Decision { records: tick(context), answer: () });
    }

    /// A topic whose partitions have these replicas.
    fn create(&mut self, name: &str, replicas: &[&[i32]], settings: &[(&str, &str)]) {
        let assignment = |(partition_index, broker_ids): (i32, &&[i32])| CreatableReplicaAssignment {
            partition_index,
            broker_ids: broker_ids.to_vec(),
            ..Default::default()
        };
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
            ..Default::default()
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(replicas).map(assignment).collect(),
            configs: settings.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = self.decide(|context| create(context, &request));
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }

    fn partition(&self, topic: &str, partition: i32) -> &PartitionRegistration {
        self.image.partition(topic, partition).unwrap()
    }

    /// The first partition as `leader isr elr`, for short.
    fn standing(&self, topic: &str) -> (i32, Vec<i32>, Vec<i32>) {
        let partition = self.partition(topic, 0);
        (partition.leader, partition.isr.clone(), partition.eligible_leader_replicas.clone())
    }

    /// The leader's request to have these replicas in sync, made on the registration as it is now.
    fn isr_request(&self, topic: &str, isr: &[i32]) -> AlterPartitionRequest {
        let partition = self.partition(topic, 0);
        let state = |broker: &i32| BrokerState {
            broker_id: *broker,
            broker_epoch: self.epoch_of(*broker),
            ..Default::default()
        };
        let asked = PartitionData {
            partition_index: 0,
            leader_epoch: partition.leader_epoch,
            new_isr_with_epochs: isr.iter().map(state).collect(),
            partition_epoch: partition.partition_epoch,
            ..Default::default()
        };
        let topic_id = self.image.topic(topic).unwrap().id;
        AlterPartitionRequest {
            broker_id: partition.leader,
            broker_epoch: self.epoch_of(partition.leader),
            topics: vec![TopicData { topic_id, partitions: vec![asked], ..Default::default() }],
            ..Default::default()
        }
    }

    fn alter(&mut self, request: &AlterPartitionRequest) -> AlterPartitionResponse {
        self.decide(|context| super::alter_partition::alter_partition(context, request))
    }

    /// The leader has these replicas in sync; the code of its partition.
    fn set_isr(&mut self, topic: &str, isr: &[i32]) -> ErrorCode {
        let request = self.isr_request(topic, isr);
        partition_code(&self.alter(&request))
    }

    fn set_cluster_setting(&mut self, name: &str, value: &str) {
        let record = ConfigRecord {
            resource_type: 4,
            name: name.into(),
            value: Some(value.into()),
            ..Default::default()
        };
        self.write(vec![record.into()]);
        let settings = self.image.configs(&crate::metadata::ConfigResource::cluster_default());
        self.config = Arc::new(self.config.with_dynamic(&settings, &Default::default()).unwrap());
    }
}

fn partition_code(answer: &AlterPartitionResponse) -> ErrorCode {
    assert_eq!(answer.error_code, 0);
    ErrorCode::from_wire(answer.topics[0].partitions[0].error_code)
}

fn directory_of(broker: i32) -> Uuid {
    Uuid([u8::try_from(broker).unwrap() + 0x20; 16])
}

/// A broker's registration in its life number `life`.
fn registration(broker_id: i32, life: u8, previous_broker_epoch: i64) -> BrokerRegistrationRequest {
    let feature = |&(name, min, max, _): &(&'static str, i16, i16, i16)| Feature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
        ..Default::default()
    };
    BrokerRegistrationRequest {
        broker_id,
        cluster_id: CLUSTER_ID.into(),
        incarnation_id: Uuid([life; 16]),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            ..Default::default()
        }],
        features: FEATURES.iter().map(feature).collect(),
        rack: None,
        log_dirs: vec![directory_of(broker_id)],
        previous_broker_epoch,
        ..Default::default()
    }
}

/// What is true of every image.
fn check_image(image: &Image) {
    for topic in image.topics().iter() {
        for (index, partition) in &topic.partitions {
            check_partition(image, partition).unwrap_or_else(|why| {
                let brokers = image.brokers().values();
                let standing: Vec<_> =
                    brokers.map(|it| (it.id, it.fenced, it.in_controlled_shutdown, &it.log_dirs)).collect();
                panic!("{}-{index}: {why}\n{partition:?}\n{standing:?}", topic.name)
            });
        }
    }
}

fn check_partition(image: &Image, partition: &PartitionRegistration) -> Result<(), &'static str> {
    let PartitionRegistration { replicas, isr, eligible_leader_replicas: eligible, leader, .. } = partition;
    let tracks = super::partition_change::tracks_eligible(image);
    let is_set = |ids: &[i32]| (0..ids.len()).all(|at| !ids[..at].contains(&ids[at]));
    let rules = [
        (is_set(replicas) && is_set(isr) && is_set(eligible), "a replica stands twice"),
        (!replicas.is_empty(), "nobody holds it"),
        (isr.iter().all(|id| replicas.contains(id)), "who is in sync holds no replica"),
        (eligible.iter().all(|id| replicas.contains(id)), "who is eligible holds no replica"),
        (eligible.iter().all(|id| !isr.contains(id)), "somebody is in sync and eligible"),
        (tracks || eligible.is_empty(), "somebody is eligible though nobody keeps track"),
        (tracks || !isr.is_empty(), "nobody is in sync, and nobody keeps track of who was"),
        (*leader == -1 || isr.contains(leader), "the leader is not in sync"),
        (*leader == -1 || image.broker(*leader).is_some_and(|it| !it.fenced), "the leader is fenced"),
        (*leader == -1 || partition.last_known_elr.is_empty(), "there is a leader, and a last known one"),
        (!tracks || *leader != -1 || isr.is_empty(), "somebody in sync does not lead"),
        (
            partition
                .adding_replicas
                .iter()
                .chain(&partition.removing_replicas)
                .all(|it| replicas.contains(it)),
            "who comes or goes is no replica",
        ),
        (tracks_only_active(image, partition, tracks), "a broker that is fenced is in sync"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}

/// Where nobody keeps track, the last replica in sync stays in sync though its broker is gone.
fn tracks_only_active(image: &Image, partition: &PartitionRegistration, tracks: bool) -> bool {
    let is_up = |id: &i32| image.broker(*id).is_some_and(|broker| !broker.fenced);
    partition.isr.iter().all(is_up) || (!tracks && partition.isr.len() == 1 && partition.leader == -1)
}

/// Epochs never go back, and every change of a registration counts.
fn check_growth(before: &Image, after: &Image) {
    for topic in after.topics().iter() {
        let Some(earlier) = before.topic_by_id(topic.id) else { continue };
        for (index, now) in &topic.partitions {
            let Some(then) = earlier.partitions.get(index) else { continue };
            assert!(now.leader_epoch >= then.leader_epoch && now.partition_epoch >= then.partition_epoch);
            assert!(now.partition_epoch > then.partition_epoch || now == then, "{then:?} {now:?}");
            assert!(now.leader == then.leader || now.leader_epoch > then.leader_epoch, "{then:?} {now:?}");
        }
    }
    for (id, broker) in after.brokers() {
        assert!(before.broker(*id).is_none_or(|earlier| broker.epoch >= earlier.epoch));
    }
}

/// The record of a broker that a lone node writes; both ways to register say the same.
#[test]
fn a_registration_on_the_wire_says_what_a_lone_node_writes_of_itself() {
    let mut cluster = Cluster::new();
    cluster.write(Vec::new());
    let end = cluster.image.end_offset();
    assert!(end > Offset(0));
    let request = registration(1, 1, -1);
    cluster.register(&request);
    let identity = NodeIdentity {
        node_id: 1,
        incarnation_id: Uuid([1; 16]),
        endpoints: vec![crate::metadata::BrokerEndpoint {
            name: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security_protocol: 0,
        }],
        controller_endpoint: super::default_controller_endpoint(),
        rack: None,
        log_dirs: vec![directory_of(1)],
    };
    let mut other = Cluster::new();
    other.write(vec![broker_record(&identity, end.0)]);
    let (mut ours, theirs) =
        (cluster.image.broker(1).unwrap().as_ref().clone(), other.image.broker(1).unwrap().as_ref().clone());
    // The quorum's own feature is registered by a node that is the quorum.
    ours.features.extend(theirs.features.iter().map(|(name, range)| (name.clone(), *range)));
    assert_eq!(ours, theirs);
}
