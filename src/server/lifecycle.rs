//! A broker's life in a cluster of several: it registers, tells the active controller that it lives, is opened to
//! clients once it has followed the metadata to its own registration, and hands its leaderships over before it goes.
//! A lone node does none of this: its controller is its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::node::Node;
use super::start::StartError;
use crate::config::BrokerConfig;
use crate::controller::{Controller, supported_features};
use crate::metadata::BrokerEndpoint;
use crate::protocol::ErrorCode;
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use crate::protocol::messages::controller_registration_request::{
    ControllerRegistrationRequest, Feature as ControllerFeature, Listener as ControllerListener,
};
use crate::types::{Clock, Uuid};

/// The pause before a registration that was refused for now is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often a broker that is not open to clients yet says how far it has got.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// How long leaderships are handed over at most.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);
/// How long a broker that stops waits for a controller: the last one to go finds none.
const LAST_WORD_MAX: Duration = Duration::from_secs(2);

/// What a broker says of itself when it registers.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub node_id: i32,
    pub cluster_id: String,
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    /// Where its controller listens, if it is one.
    pub controller_endpoint: Option<BrokerEndpoint>,
    pub rack: Option<String>,
    pub log_dir_ids: Vec<Uuid>,
    /// The epoch that it left its directories clean in; -1 where it did not.
    pub previous_broker_epoch: i64,
}

impl Registration {
    fn of_broker(&self) -> BrokerRegistrationRequest {
        let listener = |endpoint: &BrokerEndpoint| Listener {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
            ..Listener::default()
        };
        let feature = |(name, min, max): (&'static str, i16, i16)| Feature {
            name: name.into(),
            min_supported_version: min,
            max_supported_version: max,
            ..Feature::default()
        };
        BrokerRegistrationRequest {
            broker_id: self.node_id,
            cluster_id: self.cluster_id.as_str().into(),
            incarnation_id: self.incarnation_id,
            listeners: self.endpoints.iter().map(listener).collect(),
            features: supported_features().map(feature).collect(),
            rack: self.rack.as_deref().map(Into::into),
            log_dirs: self.log_dir_ids.clone(),
            previous_broker_epoch: self.previous_broker_epoch,
            ..BrokerRegistrationRequest::default()
        }
    }

    fn of_controller(&self, endpoint: &BrokerEndpoint) -> ControllerRegistrationRequest {
        let feature = |(name, min, max): (&'static str, i16, i16)| ControllerFeature {
            name: name.into(),
            min_supported_version: min,
            max_supported_version: max,
            ..ControllerFeature::default()
        };
        let listener = ControllerListener {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
            ..ControllerListener::default()
        };
        ControllerRegistrationRequest {
            controller_id: self.node_id,
            incarnation_id: self.incarnation_id,
            listeners: vec![listener],
            features: supported_features().map(feature).collect(),
            ..ControllerRegistrationRequest::default()
        }
    }
}

/// Registers, and waits until this node has the image that says so. Tries again while no controller answers and
/// while the broker's last life may still go on, for `initial.broker.registration.timeout.ms`.
///
/// # Errors
/// The cluster refuses this broker, or nobody answered in time.
pub(super) async fn register(
    controller: &Controller,
    registration: &Registration,
    config: &BrokerConfig,
    clock: &dyn Clock,
) -> Result<i64, StartError> {
    let patience_ms = u64::try_from(config.cluster.registration_timeout_ms).unwrap_or(0);
    let deadline = clock.elapsed() + Duration::from_millis(patience_ms);
    let mut last = None;
    loop {
        let answer = tokio::select! {
            answer = controller.register_broker(registration.of_broker()) => answer,
            () = clock.wait_until(deadline) => {
                return Err(StartError::Registration(last.unwrap_or(ErrorCode::NotController)));
            }
        };
        let code = ErrorCode::from_wire(answer.error_code);
        match code {
            ErrorCode::None => {
                let mut changes = controller.changes();
                // The sender lives as long as the controller.
                let _ = changes
                    .wait_for(|image| {
                        image
                            .broker(registration.node_id)
                            .is_some_and(|broker| broker.epoch >= answer.broker_epoch)
                    })
                    .await;
                if let Err(code) = register_controller(controller, registration).await {
                    // No reason not to serve.
                    warn!(code = code.name(), "this node's registration as a controller is refused");
                }
                info!(epoch = answer.broker_epoch, "registered");
                return Ok(answer.broker_epoch);
            }
            ErrorCode::NotController
            | ErrorCode::DuplicateBrokerRegistration
            | ErrorCode::RequestTimedOut => {
                if last.replace(code) != Some(code) {
                    warn!(code = code.name(), "the cluster does not take this broker yet; it goes on asking");
                }
            }
            code => return Err(StartError::Registration(code)),
        }
        if clock.elapsed() >= deadline {
            return Err(StartError::Registration(code));
        }
        clock.wait(RETRY_PAUSE).await;
    }
}

/// A controller is known by its registration too. A node that is none has nothing to say.
///
/// # Errors
/// It was refused, or nobody answered.
pub(super) async fn register_controller(
    controller: &Controller,
    registration: &Registration,
) -> Result<(), ErrorCode> {
    let Some(endpoint) = &registration.controller_endpoint else { return Ok(()) };
    let answer = controller.register_controller(registration.of_controller(endpoint)).await;
    match ErrorCode::from_wire(answer.error_code) {
        ErrorCode::None => Ok(()),
        code => Err(code),
    }
}

/// Tells the controller that this broker lives, until it stops.
pub(super) async fn run(node: Arc<Node>, mut registration: Registration) {
    let mut failed_directories = node.failures.known.subscribe();
    let mut leader = node.controller.leader();
    loop {
        failed_directories.mark_unchanged();
        leader.mark_unchanged();
        let answer = tokio::select! {
            answer = node.controller.heartbeat(heartbeat(&node, &registration, false)) => answer,
            () = node.stopping() => return,
        };
        match ErrorCode::from_wire(answer.error_code) {
            ErrorCode::None => {
                let opens = !answer.is_fenced;
                if node.unfenced.send_replace(opens) != opens {
                    info!(open = opens, "the cluster's word on this broker");
                }
            }
            ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered => {
                registration.previous_broker_epoch = node.controller.broker_epoch();
                let config = node.config();
                let again = register(&node.controller, &registration, &config, &*node.clock);
                tokio::select! {
                    outcome = again => if let Err(error) = outcome {
                        warn!(%error, "this broker is no longer registered");
                    },
                    () = node.stopping() => return,
                }
            }
            code => warn!(code = code.name(), "the controller does not take this broker's word"),
        }
        let interval_ms = u64::try_from(node.config().cluster.heartbeat_interval_ms).unwrap_or(1);
        let is_open = *node.unfenced.borrow();
        let pause = if is_open { Duration::from_millis(interval_ms) } else { CATCH_UP_PAUSE };
        tokio::select! {
            () = node.clock.wait(pause) => {}
            // The leaderships in one that has failed do not wait; the sender lives in this node.
            Ok(()) = failed_directories.changed() => {}
            // A new controller notices at once that this broker is gone only if it has heard from it.
            Ok(()) = leader.changed() => {}
            () = node.stopping() => return,
        }
    }
}

fn heartbeat(node: &Node, registration: &Registration, want_shut_down: bool) -> BrokerHeartbeatRequest {
    let online = node.directories.all().iter().filter(|directory| directory.health().failure().is_none());
    let online: BTreeSet<Uuid> = online.filter_map(|directory| directory.id()).collect();
    let offline = registration.log_dir_ids.iter().filter(|id| !online.contains(id)).copied();
    BrokerHeartbeatRequest {
        broker_id: node.id.0,
        broker_epoch: node.controller.broker_epoch(),
        // What the broker's logs have followed, not what is merely known.
        current_metadata_offset: node.partitions.applied().borrow().0 - 1,
        want_shut_down,
        offline_log_dirs: offline.collect(),
        ..BrokerHeartbeatRequest::default()
    }
}

/// Hands the leaderships over: returns when the controller says that the broker may go, or will not say it in time.
pub(super) async fn hand_over(node: &Node, registration: &Registration) {
    let deadline = node.clock.elapsed() + HAND_OVER_MAX;
    while node.clock.elapsed() < deadline {
        let asking = node.controller.heartbeat(heartbeat(node, registration, true));
        let answer = tokio::select! {
            answer = asking => answer,
            () = node.clock.wait(LAST_WORD_MAX) => break,
        };
        if answer.should_shut_down || answer.error_code != 0 {
            return;
        }
        node.clock.wait(CATCH_UP_PAUSE).await;
    }
    warn!("leaderships were not handed over in time");
}
