//! DescribeConfigs (32) at the controller's listener, for tools that are pointed at one of the controllers
//! (`--bootstrap-controller`, KIP-919): what a broker answers, from the image and this node's own settings.

use std::sync::Arc;

use super::QuorumService;
use crate::net::Reply;
use crate::protocol::DecodeError;
use crate::server::call::Call;
use crate::server::configs::{Described, describe_of};
use crate::server::start::in_force;

/// DescribeConfigs, versions 1 to 4.
pub(super) fn describe(service: &Arc<QuorumService>, call: &Call) -> Result<Reply, DecodeError> {
    let image = service.controller.image();
    let config = in_force(&service.config, &image, service.node_id);
    describe_of(&Described { node_id: service.node_id, image: &image, config: &config }, call)
}
