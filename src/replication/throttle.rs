//! How much throttled replication there was in the last seconds, against a rate. As in Kafka nothing is cut short:
//! what has been sent is counted, and while the rate is exceeded throttled replicas wait.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How far it is looked back.
const WINDOW_MS: i64 = 10_000;
/// What is counted together.
const SAMPLE_MS: i64 = 1_000;

/// Bytes of throttled replication in one direction.
#[derive(Debug, Default)]
pub struct Throttle {
    samples: Mutex<VecDeque<(i64, i64)>>,
}

impl Throttle {
    /// `bytes` have gone by.
    pub fn record(&self, now_ms: i64, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut samples = self.samples.lock();
        match samples.back_mut() {
            Some((begun_ms, sum)) if now_ms - *begun_ms < SAMPLE_MS => *sum = sum.saturating_add(bytes),
            _ => samples.push_back((now_ms, bytes)),
        }
        while samples.front().is_some_and(|(begun_ms, _)| now_ms - begun_ms > WINDOW_MS) {
            samples.pop_front();
        }
    }

    /// Whether more has gone by than `rate` bytes a second allow.
    #[must_use]
    pub fn is_exceeded(&self, now_ms: i64, rate: i64) -> bool {
        let samples = self.samples.lock();
        let recent = samples.iter().filter(|(begun_ms, _)| now_ms - begun_ms <= WINDOW_MS);
        let (mut first_ms, mut bytes) = (now_ms, 0_i64);
        for (begun_ms, sum) in recent {
            first_ms = first_ms.min(*begun_ms);
            bytes = bytes.saturating_add(*sum);
        }
        // A burst at the start is not a rate: it counts as if it had taken a sample's time at least.
        let lasted_ms = (now_ms - first_ms).max(SAMPLE_MS);
        i128::from(bytes) * 1_000 > i128::from(rate) * i128::from(lasted_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_by_is_held_against_the_rate_until_enough_time_has_passed() {
        let throttle = Throttle::default();
        assert!(!throttle.is_exceeded(0, 1_000));
        throttle.record(0, 1_000);
        assert!(!throttle.is_exceeded(0, 1_000));
        throttle.record(100, 4_000);
        assert!(throttle.is_exceeded(200, 1_000));
        assert!(throttle.is_exceeded(4_900, 1_000));
        assert!(!throttle.is_exceeded(5_000, 1_000));
        assert!(!throttle.is_exceeded(20_000, 0), "what is long ago does not count");
    }
}
