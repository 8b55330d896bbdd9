//! What the fetchers of followers need of this broker.

use std::sync::Arc;

use super::node::Node;
use crate::config::BrokerConfig;
use crate::metadata::BrokerRegistration;
use crate::net::outgoing::Address;
use crate::replication::{Partition, PartitionError, Sources};
use crate::types::{BrokerId, Clock};

/// This broker, as its fetchers see it.
pub struct NodeSources(pub Arc<Node>);

impl Sources for NodeSources {
    fn address(&self, broker: BrokerId) -> Option<Address> {
        let image = self.0.image();
        inter_broker_address(&self.0.config(), image.broker(broker.0)?)
    }

    fn config(&self) -> Arc<BrokerConfig> {
        self.0.config()
    }

    fn identity(&self) -> (BrokerId, i64) {
        let epoch = self.0.image().broker(self.0.id.0).map_or(-1, |broker| broker.epoch);
        (self.0.id, epoch)
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    fn is_in_sync(&self, partition: &Partition) -> bool {
        let (image, id) = (self.0.image(), partition.id());
        let registration = image.partition(id.topic.as_str(), id.partition);
        registration.is_some_and(|registration| registration.isr.contains(&self.0.id.0))
    }

    fn note_failure(&self, partition: &Partition, error: &PartitionError) {
        self.0.note_failure(partition, error);
    }
}

/// Where brokers reach each other: `inter.broker.listener.name`, or the first listener that is not TLS or SASL.
fn inter_broker_address(config: &BrokerConfig, broker: &BrokerRegistration) -> Option<Address> {
    let wanted = config.replication.inter_broker_listener.as_deref();
    let endpoint = match wanted {
        Some(name) => broker.endpoints.iter().find(|endpoint| endpoint.name == name),
        None => broker.endpoints.iter().find(|endpoint| endpoint.security_protocol == 0),
    }?;
    Address::from_metadata(&endpoint.host, i32::from(endpoint.port))
}
