//! `log.cleaner.io.max.bytes.per.second`: how long to rest after so many bytes. Knows no clock but what it is told.

use std::time::Duration;

/// How long nobody rests at once, whatever the rate: a rate that is changed acts after this.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// See the module. One for all that is cleaned at the same time.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When the bytes so far are paid for.
    paid_at: Duration,
}

impl Throttle {
    /// Notes that `bytes` were read or written by `now`; returns how long to rest.
    pub fn rest(&mut self, bytes: u64, bytes_per_second: f64, now: Duration) -> Duration {
        let seconds = bytes as f64 / bytes_per_second.max(f64::MIN_POSITIVE);
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(REST_MAX).min(REST_MAX);
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
        self.paid_at.saturating_sub(now).min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_add_up_to_the_rate() {
        let mut throttle = Throttle::default();
        let mut now = Duration::from_secs(50);
        for _ in 0..10 {
            now += throttle.rest(1_000, 500.0, now);
        }
        assert_eq!(now, Duration::from_secs(70));
        assert_eq!(throttle.rest(1 << 40, f64::MAX, now), Duration::ZERO);
        assert_eq!(Throttle::default().rest(u64::MAX, 0.1, now), REST_MAX);
    }
}
