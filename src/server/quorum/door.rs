//! The controller's door: its listener and connections on a runtime of their own, with one thread, so that a crowd of
//! clients costs neither an election nor a broker its session.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Runtime};

use super::QuorumService;
use crate::net::listener::Gate;

/// The runtime. It ends with its owner, without waiting for anybody.
pub(in crate::server) struct DoorRuntime(Option<Runtime>);

impl DoorRuntime {
    pub(in crate::server) fn new() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("quorum-door").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// What is bound and spawned while the guard lives belongs to this runtime.
    pub(in crate::server) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for DoorRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It may be dropped inside another runtime, which must not block.
            runtime.shutdown_background();
        }
    }
}

/// The open door.
pub(in crate::server) struct Door {
    pub(in crate::server) gate: Gate<QuorumService>,
    pub(in crate::server) runtime: DoorRuntime,
}

impl Door {
    /// Answers what was read, and ends.
    pub(in crate::server) async fn close(self, patience: Duration) {
        self.gate.close(patience).await;
        drop(self.runtime);
    }
}
