//! Which brokers a cluster has, those included that are down: what the commands about a cluster ask first.

use std::collections::BTreeMap;

use crate::client::{BrokerError, ClientError, Cluster, ConnectionError};
use crate::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use crate::protocol::messages::describe_cluster_response::DescribeClusterResponse;

/// A broker that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredBroker {
    /// Its id.
    pub id: i32,
    /// Where it is reached.
    pub host: String,
    /// The port there.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it is fenced: the controller does not count on it. Clusters before Kafka 4.0 name only those that are not.
    pub is_fenced: bool,
}

/// The cluster's id and its brokers, in the order of their ids.
///
/// # Errors
/// Where no broker answers, or it refuses.
pub async fn registered(cluster: &Cluster) -> Result<(String, BTreeMap<i32, RegisteredBroker>), ClientError> {
    let answer = cluster.retrying(|| ask(cluster)).await?;
    let brokers = answer.brokers.iter().map(|broker| {
        let registered = RegisteredBroker {
            id: broker.broker_id,
            host: broker.host.to_string(),
            port: broker.port,
            rack: broker.rack.as_ref().map(ToString::to_string),
            is_fenced: broker.is_fenced,
        };
        (broker.broker_id, registered)
    });
    Ok((answer.cluster_id.to_string(), brokers.collect()))
}

async fn ask(cluster: &Cluster) -> Result<DescribeClusterResponse, ClientError> {
    let request = |include_fenced_brokers| DescribeClusterRequest {
        include_fenced_brokers,
        endpoint_type: 1,
        ..Default::default()
    };
    let answer = match cluster.any(&request(true)).await {
        // A version that cannot ask for fenced brokers.
        Err(ClientError::Connection(ConnectionError::Encode { .. })) => cluster.any(&request(false)).await?,
        answer => answer?,
    };
    BrokerError::check(answer.error_code, || "the cluster".to_owned(), answer.error_message.as_deref())?;
    Ok(answer)
}
