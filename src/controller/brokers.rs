//! This node in the metadata: what it registers as, and what its return does to the partitions it holds.

use crate::config::BrokerConfig;
use crate::metadata::{BrokerEndpoint, Image, MetadataRecord, PartitionRegistration};
use crate::protocol::Str;
use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::register_broker_record::{
    BrokerEndpoint as BrokerEndpointRecord, BrokerFeature, RegisterBrokerRecord,
};
use crate::protocol::messages::register_controller_record::{
    ControllerEndpoint, ControllerFeature, RegisterControllerRecord,
};
use crate::types::Uuid;

use super::log_dirs::{is_online, stop_leading};

/// The features of Kafka 4.3: name, lowest and highest version that a node supports, and the level that a
/// new cluster begins with. In the order in which Kafka writes them down.
pub(super) const FEATURES: &[(&str, i16, i16, i16)] = &[
    ("metadata.version", 7, 30, 30),
    ("eligible.leader.replicas.version", 0, 1, 1),
    ("group.version", 0, 1, 1),
    ("share.version", 0, 1, 1),
    ("streams.version", 0, 1, 1),
    ("transaction.version", 0, 2, 2),
];

/// The quorum's own feature; its level stands in the control records, not among the others.
pub(super) const KRAFT_FEATURE: (&str, i16, i16) = ("kraft.version", 0, 1);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(super) struct NodeIdentity {
    pub node_id: i32,
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub controller_endpoint: BrokerEndpoint,
    pub rack: Option<String>,
    /// The ids of its online directories.
    pub log_dirs: Vec<Uuid>,
}

/// The levels that a new cluster begins with.
pub(super) fn feature_records() -> impl Iterator<Item = MetadataRecord> {
    FEATURES.iter().map(|&(name, _, _, feature_level)| {
        FeatureLevelRecord { name: name.into(), feature_level, ..FeatureLevelRecord::default() }.into()
    })
}

/// With eligible leader replicas, the least in-sync replicas are set for the whole cluster from the start.
pub(super) fn min_isr_record(min_insync_replicas: i32) -> MetadataRecord {
    MetadataRecord::from(ConfigRecord {
        resource_type: crate::metadata::ConfigResourceType::Broker.id(),
        resource_name: Str::empty(),
        name: "min.insync.replicas".into(),
        value: Some(min_insync_replicas.to_string().into()),
        ..ConfigRecord::default()
    })
}

/// The features that a node of this version supports: name, lowest and highest level.
pub fn supported() -> impl Iterator<Item = (&'static str, i16, i16)> {
    FEATURES.iter().map(|&(name, min, max, _)| (name, min, max)).chain([KRAFT_FEATURE])
}

/// The controller's own registration.
pub(super) fn register_controller(node: &NodeIdentity) -> MetadataRecord {
    let endpoint = &node.controller_endpoint;
    let feature = |(name, min, max): (&'static str, i16, i16)| ControllerFeature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
        ..ControllerFeature::default()
    };
    MetadataRecord::from(RegisterControllerRecord {
        controller_id: node.node_id,
        incarnation_id: node.incarnation_id,
        end_points: vec![ControllerEndpoint {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
            ..ControllerEndpoint::default()
        }],
        features: supported().map(feature).collect(),
        ..RegisterControllerRecord::default()
    })
}

/// The broker's registration; its epoch is the offset that the record gets. It begins fenced.
pub(super) fn register_broker(node: &NodeIdentity, broker_epoch: i64) -> MetadataRecord {
    let endpoint = |endpoint: &BrokerEndpoint| BrokerEndpointRecord {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..BrokerEndpointRecord::default()
    };
    let feature = |(name, min, max): (&'static str, i16, i16)| BrokerFeature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
        ..BrokerFeature::default()
    };
    MetadataRecord::from(RegisterBrokerRecord {
        broker_id: node.node_id,
        incarnation_id: node.incarnation_id,
        broker_epoch,
        end_points: node.endpoints.iter().map(endpoint).collect(),
        features: supported().map(feature).collect(),
        rack: node.rack.as_deref().map(Str::from),
        fenced: true,
        log_dirs: node.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    })
}

/// Opens the broker for clients.
pub(super) fn unfence(broker_id: i32, broker_epoch: i64) -> MetadataRecord {
    change_fence(broker_id, broker_epoch, -1)
}

/// Closes it to them.
pub(super) fn fence(broker_id: i32, broker_epoch: i64) -> MetadataRecord {
    change_fence(broker_id, broker_epoch, 1)
}

fn change_fence(broker_id: i32, broker_epoch: i64, fenced: i8) -> MetadataRecord {
    MetadataRecord::from(BrokerRegistrationChangeRecord {
        broker_id,
        broker_epoch,
        fenced,
        ..BrokerRegistrationChangeRecord::default()
    })
}

/// What the return of a lone broker does to the partitions it holds: those without a leader get it back, and
/// after an unclean stop every one begins a new epoch, since records that nobody had synced may be gone. One whose
/// directory is not there has no leader.
pub(super) fn elect_after_return(
    image: &Image,
    config: &BrokerConfig,
    node: &NodeIdentity,
    was_clean: bool,
) -> Vec<MetadataRecord> {
    let broker_id = node.node_id;
    let mut records = stop_leading(image, config, broker_id, &node.log_dirs);
    for topic in image.topics().iter() {
        for (&partition_id, partition) in &topic.partitions {
            let leads = partition.leader == broker_id && partition.isr == [broker_id];
            let is_there = is_online(partition.directory_of(broker_id), &node.log_dirs);
            if !is_there || (was_clean && leads) || !may_lead(partition, broker_id) {
                continue;
            }
            records.push(MetadataRecord::from(PartitionChangeRecord {
                partition_id,
                topic_id: topic.id,
                ..lead(partition, broker_id)
            }));
        }
    }
    records
}

/// The change that makes `broker_id` the leader, alone in sync.
fn lead(partition: &PartitionRegistration, broker_id: i32) -> PartitionChangeRecord {
    let clear = |ids: &Vec<i32>| (!ids.is_empty()).then(Vec::new);
    PartitionChangeRecord {
        leader: broker_id,
        isr: (partition.isr != [broker_id]).then(|| vec![broker_id]),
        eligible_leader_replicas: clear(&partition.eligible_leader_replicas),
        last_known_elr: clear(&partition.last_known_elr),
        ..PartitionChangeRecord::default()
    }
}

/// It is in sync, or was the last that was: whoever else holds a replica has no committed record more.
fn may_lead(partition: &PartitionRegistration, broker_id: i32) -> bool {
    let in_sync =
        partition.isr.contains(&broker_id) || partition.eligible_leader_replicas.contains(&broker_id);
    let nobody_else = partition.isr.is_empty() && partition.eligible_leader_replicas.is_empty();
    in_sync || (nobody_else && partition.last_known_elr.contains(&broker_id))
}
