//! What all partitions of a broker look at: who they are, what time it is, and how the other brokers stand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use super::leader::{Standing, Terms};
use crate::config::BrokerConfig;
use crate::metadata::Image;
use crate::types::{BrokerId, Clock};

/// See the module.
pub struct Surroundings {
    node: BrokerId,
    clock: Arc<dyn Clock>,
    /// `replica.lag.time.max.ms`
    lag_max_ms: AtomicI64,
    standings: ArcSwap<HashMap<i32, Standing>>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Surroundings of node {}", self.node)
    }
}

impl Surroundings {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(node: BrokerId, clock: Arc<dyn Clock>) -> Self {
        Self { node, clock, lag_max_ms: AtomicI64::new(i64::MAX), standings: ArcSwap::default() }
    }

    /// Takes over what the metadata says of the brokers now.
    pub fn follow(&self, image: &Image, config: &BrokerConfig) {
        self.lag_max_ms.store(config.replication.lag_time_max_ms, Ordering::Relaxed);
        let standings: HashMap<i32, Standing> = image
            .brokers()
            .iter()
            .map(|(id, broker)| {
                let is_active = !broker.fenced && !broker.in_controlled_shutdown;
                (*id, Standing { epoch: broker.epoch, is_active })
            })
            .collect();
        if **self.standings.load() != standings {
            self.standings.store(Arc::new(standings));
        }
    }

    /// This broker.
    #[must_use]
    pub fn node(&self) -> BrokerId {
        self.node
    }

    /// Milliseconds on a clock that does not go back.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// What holds now for a topic with this `min.insync.replicas`.
    #[must_use]
    pub fn terms(&self, insync_min: i32) -> Terms {
        Terms {
            now_ms: self.now_ms(),
            lag_max_ms: self.lag_max_ms.load(Ordering::Relaxed),
            insync_min: usize::try_from(insync_min).unwrap_or(1),
        }
    }

    /// How a broker stands; `None` where none of this id has registered.
    #[must_use]
    pub fn standing(&self, id: i32) -> Option<Standing> {
        self.standings.load().get(&id).copied()
    }
}
