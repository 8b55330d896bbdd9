//! Tells the metadata which log directories hold replicas that were made or found elsewhere than it says: somebody
//! moved folders while no broker ran, a move ended before it was told, or this broker has chosen.
//!
//! What could not be told is told again: until the metadata knows it, nobody takes a replica of a directory that fails
//! out of the ISR.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::node::Node;
use crate::metadata::ReplicaDirectory;
use crate::types::Uuid;

/// The pause before what could not be told is told again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What is to be told: of each replica the directory that it was found in last.
#[derive(Default)]
pub(super) struct Untold {
    replicas: BTreeMap<(Uuid, i32), Uuid>,
    /// That it could not be told has been said.
    is_said: bool,
}

impl Untold {
    /// Takes what has come up; whether everything is told.
    pub(super) async fn tell(&mut self, node: &Node) -> bool {
        for replica in node.partitions.take_misplaced() {
            self.replicas.insert((replica.topic_id, replica.partition), replica.directory);
        }
        let told = self.replicas.iter().map(|((topic_id, partition), directory)| ReplicaDirectory {
            topic_id: *topic_id,
            partition: *partition,
            directory: *directory,
        });
        let count = self.replicas.len();
        match node.controller.assign_directories(told.collect()).await {
            Ok(()) => {
                if count > 0 {
                    debug!(partitions = count, "the metadata knows where their logs are");
                }
                self.replicas.clear();
                self.is_said = false;
                true
            }
            Err(code) => {
                if !std::mem::replace(&mut self.is_said, true) {
                    warn!(
                        partitions = count,
                        "the metadata does not follow yet where logs are: {}",
                        code.message()
                    );
                }
                false
            }
        }
    }
}

/// Follows the images until the broker begins to stop. Nobody waits for it: a controller may be away for long.
pub(super) async fn run(node: Arc<Node>, mut untold: Untold) {
    let mut applied = node.partitions.applied();
    loop {
        let is_told = tokio::select! {
            is_told = untold.tell(&node) => is_told,
            () = node.stopping() => return,
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = node.clock.wait(RETRY_PAUSE), if !is_told => {}
            () = node.stopping() => return,
        }
    }
}
