//! A node that is a controller and no broker (`process.roles=controller`): it votes, keeps the metadata log, decides where
//! it is in office, and serves the controller's listener. It has no partitions and no clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::warn;

use super::broker::{DRAIN_PATIENCE, StopError, mark_clean};
use super::lifecycle::{self, Registration};
use super::lifeline;
use super::quorum::door::Door;
use crate::controller::Controller;
use crate::storage::LogDirectories;
use crate::types::Clock;

/// How often the metadata log is looked at: its retention, snapshots by time, and whether its disk works.
const METADATA_LOOK: Duration = Duration::from_secs(60);
/// The pause before a registration that nobody took is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The broker epoch of who is no broker.
const NO_BROKER: i64 = -1;

/// A controller alone.
pub(super) struct LoneController {
    controller: Controller,
    door: Door,
    directories: Arc<LogDirectories>,
    clock: Arc<dyn Clock>,
    tasks: Vec<JoinHandle<()>>,
}

impl LoneController {
    /// Begins its life: it is registered as soon as the quorum has a leader, which may need it to begin with.
    pub(super) fn start(
        registration: Registration,
        controller: Controller,
        door: Door,
        directories: Arc<LogDirectories>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let node_id = registration.node_id;
        let tasks = vec![
            tokio::spawn(register(controller.clone(), registration, Arc::clone(&clock))),
            tokio::spawn(maintain(controller.clone(), Arc::clone(&clock))),
            tokio::spawn(lifeline::watch(controller.clone(), node_id)),
        ];
        Self { controller, door, directories, clock, tasks }
    }

    /// Resolves when the disk of the metadata log has failed.
    pub(super) async fn failed(&self) {
        loop {
            if self.directories.all().iter().all(|directory| directory.health().failure().is_some()) {
                return;
            }
            self.clock.wait(METADATA_LOOK).await;
        }
    }

    /// Hands the office over, closes the log and marks the directory clean.
    pub(super) async fn shutdown(self) -> Result<(), StopError> {
        for task in self.tasks {
            task.abort();
            // Cancelled is what it should be.
            let _ = task.await;
        }
        self.controller.shutdown().await.map_err(|error| StopError::Broken(error.to_string()))?;
        self.door.close(DRAIN_PATIENCE).await;
        mark_clean(&self.directories, &[], NO_BROKER)
    }
}

async fn register(controller: Controller, registration: Registration, clock: Arc<dyn Clock>) {
    let mut is_said = false;
    while let Err(code) = lifecycle::register_controller(&controller, &registration).await {
        if !std::mem::replace(&mut is_said, true) {
            warn!(code = code.name(), "this node is not registered as a controller yet; it goes on asking");
        }
        clock.wait(RETRY_PAUSE).await;
    }
}

async fn maintain(controller: Controller, clock: Arc<dyn Clock>) {
    loop {
        clock.wait(METADATA_LOOK).await;
        controller.maintain();
    }
}
