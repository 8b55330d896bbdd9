//! `buffer.memory`: how much may be on its way.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts bytes that are on their way.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
    freed: Notify,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, freed: Notify::new() }
    }

    /// Takes `bytes`, whether they fit or not: they exist already.
    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_one();
    }

    /// Whether there is room beside `open` bytes that are not counted yet.
    pub(super) fn has_room(&self, open: usize) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(open) < self.max
    }

    /// Waits until there is.
    pub(super) async fn room(&self) {
        while !self.has_room(0) {
            self.freed.notified().await;
        }
    }
}
