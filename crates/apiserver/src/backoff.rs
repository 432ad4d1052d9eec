//! The delay after consecutive failures.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::MAX_RETRY_AFTER;

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// The longest delay, without its jitter, unless the server asks for more (up to [`MAX_RETRY_AFTER`]).
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// An exponential back-off with jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After a successful call: the next delay is the initial one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next delay: doubled each time up to [`MAX_BACKOFF`], and never shorter than `retry_after`, of which at
    /// most [`MAX_RETRY_AFTER`] counts. Jitter is added, so that the agents of a cluster do not retry at the same time.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Duration {
        let delay = INITIAL_BACKOFF.saturating_mul(1 << self.failures.min(6)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        retry_after.unwrap_or_default().min(MAX_RETRY_AFTER).max(delay) + jitter(delay / 4)
    }

    /// The delay after a watch that has ended. A long one resets the back-off; short ones must not become a hot loop.
    pub fn after_watch(&mut self, duration: Duration) -> Duration {
        if duration > MAX_BACKOFF {
            self.reset();
        }
        self.next_delay(None)
    }
}

/// A random duration up to a maximum.
pub fn jitter(max: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) >> 11;
    max.mul_f64(random as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_is_reset_by_success() {
        let mut backoff = Backoff::default();
        let about = |delay: Duration, seconds: f64| (seconds..=seconds * 1.25).contains(&delay.as_secs_f64());
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let delay = backoff.next_delay(None);
            assert!(about(delay, seconds), "{delay:?} instead of {seconds} s");
        }
        backoff.reset();
        let delay = backoff.next_delay(Some(Duration::from_secs(30)));
        assert!(delay >= Duration::from_secs(30) && delay < Duration::from_secs(31), "{delay:?}");
        assert!(about(backoff.after_watch(Duration::from_secs(2)), 2.0));
        assert!(about(backoff.after_watch(Duration::from_secs(290)), 1.0));
    }

    #[test]
    fn a_server_that_asks_for_a_day_gets_minutes() {
        let delay = Backoff::default().next_delay(Some(Duration::from_secs(86_400)));
        assert!(delay >= MAX_RETRY_AFTER && delay < MAX_RETRY_AFTER + Duration::from_secs(1), "{delay:?}");
    }

    #[test]
    fn jitter_stays_within_its_maximum() {
        for _ in 0..100 {
            assert!(jitter(Duration::from_secs(10)) <= Duration::from_secs(10));
        }
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
