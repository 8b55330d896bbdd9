//! Noticing that a broker is gone before its session ends. A process that dies takes its connections and its listening
//! socket along: when the connection over which its heartbeats came has ended and its port refuses, the active
//! controller fences it at once. A node that takes office has no such connections yet: it tries every port once.
//!
//! A broker that is only cut off, or stopped, refuses nothing: its session has to end.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::info;

use super::call::Call;
use super::session::Session;
use crate::controller::Controller;
use crate::metadata::BrokerRegistration;
use crate::net::Reply;
use crate::net::outgoing::{Address, Connection, ConnectionError, ConnectionOptions};
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::{DecodeError, ErrorCode};
use crate::types::{Clock as _, SystemClock};

/// How long a port may take to answer; one that takes longer refuses nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a port is tried: a process that dies closes its sockets one after the other.
const PROBES: usize = 5;
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// What stands in the session of a connection over which a broker's heartbeats come.
#[derive(Debug)]
pub struct Lifeline {
    controller: Controller,
    broker: i32,
    epoch: i64,
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // The runtime may be going down with everything else.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(probe(self.controller.clone(), self.broker, self.epoch));
        }
    }
}

/// BrokerHeartbeat (63), versions 0 to 2, on the controller's listener.
///
/// # Errors
/// The request is malformed.
pub fn heartbeat(
    controller: &Controller,
    session: &mut Session,
    mut call: Call,
) -> Result<Reply, DecodeError> {
    let request: BrokerHeartbeatRequest = call.decode()?;
    call.forget_frame();
    let (broker, epoch) = (request.broker_id, request.broker_epoch);
    let known = session.lifeline.as_ref().map(|lifeline| (lifeline.broker, lifeline.epoch));
    // A stranger who names a broker costs that broker nothing but a look at its port.
    if known != Some((broker, epoch)) && is_its_life(controller, broker, epoch) {
        session.lifeline = Some(Lifeline { controller: controller.clone(), broker, epoch });
    }
    let controller = controller.clone();
    Ok(Reply::Later(Box::pin(async move {
        let response = controller.heartbeat(request).await;
        if response.should_shut_down && response.error_code == ErrorCode::None.code() {
            info!(broker, "has handed its leaderships over and may stop");
        }
        call.answer(&response)
    })))
}

fn is_its_life(controller: &Controller, broker: i32, epoch: i64) -> bool {
    controller.image().broker(broker).is_some_and(|registered| registered.epoch == epoch)
}

/// Looks at every broker's port when this node takes office. Runs until it is stopped.
pub(super) async fn watch(controller: Controller, own: i32) {
    let mut leader = controller.leader();
    loop {
        if leader.borrow_and_update().is_active {
            for broker in controller.image().brokers().values().filter(|broker| broker.id != own) {
                tokio::spawn(probe(controller.clone(), broker.id, broker.epoch));
            }
        }
        if leader.changed().await.is_err() {
            return;
        }
    }
}

/// Has the broker fenced if nobody is where it was in that life.
async fn probe(controller: Controller, broker: i32, epoch: i64) {
    let unfenced = |registered: &&BrokerRegistration| registered.epoch == epoch && !registered.fenced;
    let image = controller.image();
    let Some(registered) = image.broker(broker).map(AsRef::as_ref).filter(unfenced) else { return };
    let endpoint = registered.endpoints.first();
    let address =
        endpoint.and_then(|endpoint| Address::from_metadata(&endpoint.host, i32::from(endpoint.port)));
    let Some(address) = address else { return };
    let clock = SystemClock::new();
    for _ in 0..PROBES {
        if is_gone(&address).await {
            if is_its_life(&controller, broker, epoch) {
                info!(broker, "its connection is gone and its port refuses: it is fenced");
                controller.connection_lost(broker);
            }
            return;
        }
        clock.wait(PROBE_PAUSE).await;
    }
}

/// Whether nobody listens there. Whoever is silent, or answers nonsense, is there.
async fn is_gone(address: &Address) -> bool {
    let options = ConnectionOptions {
        client_id: "klamm-controller".into(),
        connect_timeout: PATIENCE,
        ..ConnectionOptions::default()
    };
    match Connection::connect(address, &options).await {
        Err(ConnectionError::Connect { source, .. }) => {
            matches!(source.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_refuses_is_given_up_and_one_that_answers_nonsense_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let accepted = tokio::spawn(async move {
            // Hangs up at once, as a listener whose connections are all taken.
            drop(listener.accept().await.unwrap());
        });
        assert!(!is_gone(&address).await);
        accepted.await.unwrap();
        assert!(is_gone(&address).await, "its listener is closed by now");
    }
}
