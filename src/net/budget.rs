//! One count of bytes that all connections share: requests being received and answers waiting in memory.
//!
//! `used <= capacity`, but for one connection at a time that may overdraw: whoever holds the overdraft can
//! finish its frame, so that many half-received frames cannot block each other for ever. At worst the
//! broker holds `capacity` and one largest frame.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

/// The shared budget. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    used: usize,
    overdrawn: bool,
    waiting: Vec<Waker>,
}

impl Budget {
    /// A budget of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shared = Shared { capacity, used: 0, overdrawn: false, waiting: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// An empty share of it.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0, overdraws: false }
    }

    /// How many bytes are taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared.lock().used
    }
}

/// What one connection has taken; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
    overdraws: bool,
}

impl Share {
    /// Takes more, or less, so that `bytes` are taken. `false`: not now; `waker` is called when bytes have
    /// been given back.
    pub fn set(&mut self, bytes: usize, waker: &Waker) -> bool {
        if bytes == self.taken {
            return true;
        }
        let mut shared = self.budget.shared.lock();
        let others = shared.used - self.taken;
        if bytes > self.taken && others + bytes > shared.capacity && !self.overdraws {
            if shared.overdrawn {
                shared.waiting.push(waker.clone());
                return false;
            }
            shared.overdrawn = true;
            self.overdraws = true;
        }
        if self.overdraws && others + bytes <= shared.capacity {
            self.overdraws = false;
            shared.overdrawn = false;
        }
        let gave_back = bytes < self.taken;
        shared.used = others + bytes;
        self.taken = bytes;
        let waiting = if gave_back { std::mem::take(&mut shared.waiting) } else { Vec::new() };
        drop(shared);
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        if self.taken > 0 {
            let given_back = self.set(0, Waker::noop());
            assert!(given_back, "giving back always succeeds");
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_share_may_overdraw_and_the_others_wait_for_it() {
        let budget = Budget::new(100);
        let (mut a, mut b, mut c) = (budget.share(), budget.share(), budget.share());
        let waker = Waker::noop();
        assert!(a.set(80, waker));
        assert!(b.set(50, waker), "the first beyond the capacity overdraws");
        assert!(!c.set(1, waker), "the second does not");
        assert!(b.set(70, waker), "the overdraft grows until its frame is whole");
        b.release();
        assert!(c.set(20, waker));
        drop((a, b, c));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn giving_back_ends_an_overdraft() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.set(11, Waker::noop()));
        assert!(!b.set(1, Waker::noop()));
        assert!(a.set(9, Waker::noop()));
        assert!(b.set(1, Waker::noop()));
    }
}
