//! Who waits for a partition to move: fetches for bytes, acknowledgements for the flushed offset.
//!
//! A waiter registers first and looks at the partition afterwards; the partition changes first and notifies
//! afterwards. So no change falls between the two, and nobody polls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::types::Offset;

/// One waiting request. It may be registered with many partitions; dropping it ends its registrations.
#[derive(Debug)]
pub struct Waiter {
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct Signal {
    /// Bytes that still have to come before it is worth looking again.
    missing_bytes: AtomicI64,
    fired: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    fn fire(&self) {
        if !self.fired.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

impl Waiter {
    /// A waiter that fires when `missing_bytes` have been appended to its partitions together, or at the
    /// first [`Waiters::notify_all`].
    #[must_use]
    pub fn new(missing_bytes: i64) -> Self {
        let signal = Signal {
            missing_bytes: AtomicI64::new(missing_bytes),
            fired: AtomicBool::new(false),
            waker: Mutex::new(None),
        };
        Self { signal: Arc::new(signal) }
    }
}

impl Future for Waiter {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.signal.waker.lock();
        if self.signal.is_over() {
            return Poll::Ready(());
        }
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        // `fire` sets the flag before it takes the waker: seen unset here under the lock, it will wake us.
        if self.signal.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.signal.fired.store(true, Ordering::Release);
    }
}

/// The waiters of one partition. An append to a partition that nobody waits for pays one atomic load.
#[derive(Debug, Default)]
pub struct Waiters {
    count: AtomicUsize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    bytes: Vec<Arc<Signal>>,
    offsets: Vec<(Offset, Arc<Signal>)>,
    /// How long the lists may grow before the dead are looked for.
    sweep_at: usize,
}

impl Lists {
    fn len(&self) -> usize {
        self.bytes.len() + self.offsets.len()
    }

    fn sweep(&mut self) {
        if self.len() >= self.sweep_at {
            self.bytes.retain(|signal| !signal.is_over());
            self.offsets.retain(|(_, signal)| !signal.is_over());
            self.sweep_at = (self.len() * 2).max(16);
        }
    }
}

impl Waiters {
    /// `waiter` fires when enough bytes are appended here or in its other partitions.
    pub fn wait_for_bytes(&self, waiter: &Waiter) {
        let mut lists = self.lists.lock();
        lists.sweep();
        lists.bytes.push(Arc::clone(&waiter.signal));
        self.count.store(lists.len(), Ordering::Release);
    }

    /// `waiter` fires when `offset` is reached.
    pub fn wait_for_offset(&self, waiter: &Waiter, offset: Offset) {
        let mut lists = self.lists.lock();
        lists.sweep();
        lists.offsets.push((offset, Arc::clone(&waiter.signal)));
        self.count.store(lists.len(), Ordering::Release);
    }

    /// `bytes` more of records can be read.
    pub fn notify_bytes(&self, bytes: usize) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut lists = self.lists.lock();
        lists.bytes.retain(|signal| {
            let missing = signal.missing_bytes.fetch_sub(bytes, Ordering::AcqRel);
            if missing <= bytes {
                signal.fire();
            }
            !signal.is_over()
        });
        self.count.store(lists.len(), Ordering::Release);
    }

    /// The offset that acknowledgements wait for is `reached` now.
    pub fn notify_offset(&self, reached: Offset) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut lists = self.lists.lock();
        lists.offsets.retain(|(offset, signal)| {
            if *offset <= reached {
                signal.fire();
            }
            !signal.is_over()
        });
        self.count.store(lists.len(), Ordering::Release);
    }

    /// Something else has changed that every waiter has to look at: the partition failed, moved or was
    /// deleted.
    pub fn notify_all(&self) {
        let mut lists = self.lists.lock();
        lists.bytes.drain(..).for_each(|signal| signal.fire());
        lists.offsets.drain(..).for_each(|(_, signal)| signal.fire());
        self.count.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(waiter: &mut Waiter) -> bool {
        Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn bytes_of_several_partitions_add_up() {
        let (one, other) = (Waiters::default(), Waiters::default());
        let mut waiter = Waiter::new(100);
        one.wait_for_bytes(&waiter);
        other.wait_for_bytes(&waiter);
        one.notify_bytes(60);
        assert!(!fired(&mut waiter));
        other.notify_bytes(40);
        assert!(fired(&mut waiter));
    }

    #[test]
    fn an_acknowledgement_waits_for_its_offset() {
        let waiters = Waiters::default();
        let (mut early, mut late) = (Waiter::new(i64::MAX), Waiter::new(i64::MAX));
        waiters.wait_for_offset(&early, Offset(5));
        waiters.wait_for_offset(&late, Offset(9));
        waiters.notify_offset(Offset(5));
        assert!(fired(&mut early) && !fired(&mut late));
        waiters.notify_all();
        assert!(fired(&mut late));
    }

    #[test]
    fn waiters_that_gave_up_do_not_pile_up() {
        let waiters = Waiters::default();
        for _ in 0..1_000 {
            waiters.wait_for_bytes(&Waiter::new(1));
        }
        assert!(waiters.lists.lock().len() <= 17);
    }
}
