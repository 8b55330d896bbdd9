//! The brokers that have registered.

use std::collections::BTreeMap;

use crate::protocol::Str;
use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use crate::protocol::messages::register_broker_record::{
    BrokerEndpoint as EndpointRecord, BrokerFeature, RegisterBrokerRecord,
};
use crate::types::Uuid;

/// Where clients and other brokers reach a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerEndpoint {
    /// The listener's name.
    pub name: String,
    /// Host name, address, or the path of a Unix socket (port 0).
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the security protocol; 0 is PLAINTEXT.
    pub security_protocol: i16,
}

/// The versions of a feature that a node supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    /// Lowest.
    pub min: i16,
    /// Highest.
    pub max: i16,
}

/// A broker as it registered, and what became of it since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerRegistration {
    /// `node.id`
    pub id: i32,
    /// The offset of its registration: a later incarnation has a larger one.
    pub epoch: i64,
    /// Drawn anew at every start.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<BrokerEndpoint>,
    /// What it supports.
    pub features: BTreeMap<String, VersionRange>,
    /// Its rack.
    pub rack: Option<String>,
    /// It may not lead and is not told to clients.
    pub fenced: bool,
    /// It is handing its leaderships over.
    pub in_controlled_shutdown: bool,
    /// It came from a cluster with ZooKeeper.
    pub is_migrating_zk_broker: bool,
    /// Its online directories.
    pub log_dirs: Vec<Uuid>,
    /// Directories that take no new partitions.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl BrokerRegistration {
    pub(super) fn from_record(record: &RegisterBrokerRecord) -> Self {
        let endpoint = |endpoint: &EndpointRecord| BrokerEndpoint {
            name: endpoint.name.to_string(),
            host: endpoint.host.to_string(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        };
        let feature = |feature: &BrokerFeature| {
            let range =
                VersionRange { min: feature.min_supported_version, max: feature.max_supported_version };
            (feature.name.to_string(), range)
        };
        Self {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: record.end_points.iter().map(endpoint).collect(),
            features: record.features.iter().map(feature).collect(),
            rack: record.rack.as_ref().map(ToString::to_string),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            is_migrating_zk_broker: record.is_migrating_zk_broker,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone(),
        }
    }

    pub(super) fn to_record(&self) -> RegisterBrokerRecord {
        let endpoint = |endpoint: &BrokerEndpoint| EndpointRecord {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
            ..EndpointRecord::default()
        };
        let feature = |(name, range): (&String, &VersionRange)| BrokerFeature {
            name: name.as_str().into(),
            min_supported_version: range.min,
            max_supported_version: range.max,
            ..BrokerFeature::default()
        };
        RegisterBrokerRecord {
            broker_id: self.id,
            is_migrating_zk_broker: self.is_migrating_zk_broker,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: self.endpoints.iter().map(endpoint).collect(),
            features: self.features.iter().map(feature).collect(),
            rack: self.rack.as_deref().map(Str::from),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.log_dirs.clone(),
            cordoned_log_dirs: self.cordoned_log_dirs.clone(),
            ..RegisterBrokerRecord::default()
        }
    }

    /// A change names only what changes: 1 sets a flag, -1 (of `fenced`) clears it, 0 leaves it.
    pub(super) fn change(&mut self, change: &BrokerRegistrationChangeRecord) {
        match change.fenced {
            1 => self.fenced = true,
            -1 => self.fenced = false,
            _ => {}
        }
        if change.in_controlled_shutdown == 1 {
            self.in_controlled_shutdown = true;
        }
        if !change.log_dirs.is_empty() {
            self.log_dirs.clone_from(&change.log_dirs);
        }
        if change.cordoned_log_dirs.is_some() {
            self.cordoned_log_dirs.clone_from(&change.cordoned_log_dirs);
        }
    }
}
