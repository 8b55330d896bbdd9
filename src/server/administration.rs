//! ElectLeaders (43), versions 0 to 2, UpdateFeatures (57), versions 0 to 2, and UnregisterBroker (64): decided by the
//! controller, answered when this broker has followed.

use std::sync::Arc;

use super::call::Call;
use super::node::Node;
use crate::net::Reply;
use crate::protocol::DecodeError;
use crate::protocol::messages::elect_leaders_request::ElectLeadersRequest;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use crate::protocol::messages::update_features_request::UpdateFeaturesRequest;

/// ElectLeaders.
///
/// # Errors
/// The request is malformed.
pub fn elect_leaders(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: ElectLeadersRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.elect_leaders(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}

/// UpdateFeatures.
///
/// # Errors
/// The request is malformed.
pub fn update_features(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: UpdateFeaturesRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.update_features(request).await;
        call.answer(&response)
    })))
}

/// UnregisterBroker.
///
/// # Errors
/// The request is malformed.
pub fn unregister_broker(node: &Arc<Node>, mut call: Call) -> Result<Reply, DecodeError> {
    let request: UnregisterBrokerRequest = call.decode()?;
    call.forget_frame();
    let node = Arc::clone(node);
    Ok(Reply::Later(Box::pin(async move {
        let response = node.controller.unregister_broker(request).await;
        node.partitions_made().await;
        call.answer(&response)
    })))
}
