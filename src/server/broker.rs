//! A running node, and its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{info, warn};

use super::lifecycle::{self, Registration};
use super::lone_controller::LoneController;
use super::node::Node;
use super::quorum::door::Door;
use crate::config::ListenAddress;
use crate::net::Peer;
use crate::net::listener::Gate;
use crate::net::socket::Socket;
use crate::storage::{LogDirectories, LogPoint};

/// How long a stop waits for clients to take the answers they are owed.
pub(super) const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How many logs are closed at a time, for each processor: they wait for the disk, not for it.
const CLOSING_THREADS: usize = 8;

/// What the ready line says.
#[derive(Debug, Clone)]
pub struct Ready {
    /// `node.id`.
    pub node: i32,
    /// Where clients are served, with the real ports; nowhere by a controller alone.
    pub listeners: Vec<ListenAddress>,
    /// Where the quorum is served; none for a node that is alone.
    pub controllers: Vec<ListenAddress>,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ready node={}", self.node)?;
        if !self.listeners.is_empty() {
            f.write_str(" listener=")?;
            list(f, &self.listeners)?;
        }
        if self.controllers.is_empty() {
            return Ok(());
        }
        f.write_str(" controller=")?;
        list(f, &self.controllers)
    }
}

fn list(f: &mut fmt::Formatter<'_>, listeners: &[ListenAddress]) -> fmt::Result {
    for (index, listener) in listeners.iter().enumerate() {
        f.write_str(if index > 0 { "," } else { "" })?;
        match listener {
            // Without a host it is every address of this machine: one that can be connected to stands for it.
            ListenAddress::Tcp { host, port } if host.is_empty() => write!(f, "0.0.0.0:{port}")?,
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

/// Why a directory was not left clean. The next start recovers it.
#[derive(Debug, Error)]
pub enum StopError {
    /// A disk failed, or a log could not be closed.
    #[error("{unclean} of {all} log directories could not be marked clean")]
    Unclean {
        /// How many.
        unclean: usize,
        /// Of how many.
        all: usize,
    },
    /// A part of the broker has panicked.
    #[error("the broker could not be taken apart: {0}")]
    Broken(String),
}

/// A running node: a broker, or a controller alone. Dropping it without [`Broker::shutdown`] is what a crash is.
pub struct Broker {
    pub(super) part: Part,
    pub(super) ready: Ready,
}

/// What runs.
pub(super) enum Part {
    Broker(Box<Serving>),
    Controller(Box<LoneController>),
}

/// The parts of a broker, and of its controller where it is one.
pub(super) struct Serving {
    pub(super) node: Arc<Node>,
    pub(super) gate: Gate<Node>,
    /// The quorum's door.
    pub(super) quorum: Option<Door>,
    /// What it is registered as, in a cluster of several.
    pub(super) registration: Option<Registration>,
    pub(super) tasks: Vec<JoinHandle<()>>,
    /// They end by themselves when the broker stops.
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) threads: usize,
}

impl Broker {
    /// What the ready line says.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Serves a connected stream: the embedded mode's way in.
    pub fn attach(&self, stream: UnixStream) {
        let peer = Peer { listener: "PLAINTEXT".into(), address: "embedded".into(), ip: None };
        if let Part::Broker(serving) = &self.part {
            serving.gate.attach(Socket::Unix(stream), peer);
        }
    }

    /// Resolves when the node can no longer serve: every log directory has failed.
    pub async fn failed(&self) {
        match &self.part {
            Part::Broker(serving) => {
                let mut failed = serving.node.failures.failed.subscribe();
                // The sender lives in the node.
                let _ = failed.wait_for(|failed| *failed).await;
            }
            Part::Controller(controller) => controller.failed().await,
        }
    }

    /// Stops in order: what was read is answered, logs are closed, directories marked clean.
    ///
    /// # Errors
    /// [`StopError`]: not every directory is clean.
    pub async fn shutdown(self) -> Result<(), StopError> {
        match self.part {
            Part::Broker(serving) => serving.shutdown().await,
            Part::Controller(controller) => controller.shutdown().await,
        }
    }
}

impl Serving {
    async fn shutdown(self) -> Result<(), StopError> {
        let Self { node, gate, quorum, registration, tasks, workers, threads } = self;
        if let Some(registration) = registration
            && node.config().cluster.controlled_shutdown_enable
        {
            lifecycle::hand_over(&node, &registration).await;
        }
        node.stopping.send_replace(true);
        gate.close(DRAIN_PATIENCE).await;
        for task in tasks {
            task.abort();
            // Cancelled is what it should be.
            let _ = task.await;
        }
        for worker in workers {
            worker.await.map_err(|error| StopError::Broken(error.to_string()))?;
        }
        let broker_epoch = node.image().broker(node.id.0).map_or(-1, |broker| broker.epoch);
        let closing = Arc::clone(&node);
        let points = spawn_blocking(move || {
            closing.flusher.close();
            closing.partitions.close(threads * CLOSING_THREADS)
        });
        let points = points.await.map_err(|error| StopError::Broken(error.to_string()))?;
        node.controller.shutdown().await.map_err(|error| StopError::Broken(error.to_string()))?;
        if let Some(quorum) = quorum {
            quorum.close(DRAIN_PATIENCE).await;
        }
        mark_clean(&node.directories, &points, broker_epoch)
    }
}

/// Marks the directories clean, the last thing that is done.
pub(super) fn mark_clean(
    directories: &LogDirectories,
    points: &[LogPoint],
    broker_epoch: i64,
) -> Result<(), StopError> {
    let all = directories.all().len() + directories.failed().len();
    let clean = directories.finish_clean(points, broker_epoch);
    if clean < all {
        warn!("{} of {all} log directories are not marked clean", all - clean);
        return Err(StopError::Unclean { unclean: all - clean, all });
    }
    info!("stopped; every log directory is clean");
    Ok(())
}
