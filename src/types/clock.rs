//! The one door to time. Everything that waits or stamps goes through a [`Clock`], so that a test or a
//! simulator moves time and nothing sleeps.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Wall time for stamps, monotonic time for timers.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump, as the system's clock may.
    fn now_ms(&self) -> i64;

    /// Time since this clock was made; never goes back.
    fn elapsed(&self) -> Duration;

    /// Resolves when [`Clock::elapsed`] has reached `deadline`; at once where it has already.
    fn wait_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Resolves after `duration`.
    fn wait(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.wait_until(self.elapsed().saturating_add(duration))
    }
}

/// The machine's clock, with tokio's timers.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts at zero now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // Beyond tokio's range a timer never fires; a day is re-armed by nobody, so it is capped far out.
        let far = Duration::from_secs(3600 * 24 * 365 * 30);
        Box::pin(tokio::time::sleep_until((self.start + deadline.min(far)).into()))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: Mutex<i64>,
    elapsed: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that shows `now_ms` and has run for no time.
    #[must_use]
    pub fn new(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { now_ms: Mutex::new(now_ms), elapsed: watch::Sender::new(Duration::ZERO) })
    }

    /// Moves wall and monotonic time forward together and wakes every timer that is due.
    pub fn advance(&self, by: Duration) {
        *self.now_ms.lock() += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }

    /// Lets the wall clock jump, as NTP or an administrator does; timers stay.
    pub fn set_now_ms(&self, now_ms: i64) {
        *self.now_ms.lock() = now_ms;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.now_ms.lock()
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn wait_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut elapsed = self.elapsed.subscribe();
        Box::pin(async move {
            // The sender lives in `self`, which outlives this future: the wait cannot fail.
            let _ = elapsed.wait_for(|&now| now >= deadline).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_timers_fire_when_time_is_moved() {
        let clock = ManualClock::new(1_000);
        let waiting = tokio::spawn({
            let clock = Arc::clone(&clock);
            async move { clock.wait_until(Duration::from_secs(5)).await }
        });
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance(Duration::from_secs(1));
        waiting.await.unwrap();
        assert_eq!(clock.now_ms(), 6_000);
    }
}
