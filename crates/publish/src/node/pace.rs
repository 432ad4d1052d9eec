//! How often the Node is written at most.

use std::time::Duration;

use tokio::time::Instant;

/// How often the Node is written at most. Holds for metadata and for the status, each by itself.
#[derive(Clone, Copy, Debug)]
pub struct WriteLimits {
    /// Writes that may follow each other at once.
    pub burst: u32,
    /// The time after which one more is allowed.
    pub interval: Duration,
    /// How often the heartbeat of the conditions is written while nothing changes; none turns it off.
    pub heartbeat: Option<Duration>,
}

impl Default for WriteLimits {
    /// One write a minute after the first two, and an hourly heartbeat.
    fn default() -> WriteLimits {
        WriteLimits {
            burst: 2,
            interval: Duration::from_secs(60),
            heartbeat: Some(Duration::from_secs(3600)),
        }
    }
}

/// The writes of one kind that are allowed now: a token bucket.
#[derive(Debug, Default)]
pub(super) struct WriteBudget {
    /// When all writes of the burst are allowed again.
    full_at: Option<Instant>,
}

impl WriteBudget {
    /// How long to wait until a write is allowed.
    pub(super) fn wait(&self, limits: &WriteLimits, now: Instant) -> Duration {
        let until_full = self.full_at.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
        until_full.saturating_sub(limits.interval * limits.burst.saturating_sub(1))
    }

    /// Counts a write.
    pub(super) fn spend(&mut self, limits: &WriteLimits, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + limits.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writes_follow_at_once_and_then_one_a_minute() {
        let (limits, start) = (WriteLimits::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = WriteBudget::default();
        let mut wait_and_spend = |seconds| {
            let wait = budget.wait(&limits, at(seconds)).as_secs();
            budget.spend(&limits, at(seconds + wait));
            wait
        };
        assert_eq!([wait_and_spend(0), wait_and_spend(0), wait_and_spend(0)], [0, 0, 60]);
        assert_eq!(wait_and_spend(61), 59);
        // The first change after a quiet minute.
        assert_eq!([wait_and_spend(181), wait_and_spend(181)], [0, 59]);
        assert_eq!([wait_and_spend(1000), wait_and_spend(1000), wait_and_spend(1000)], [0, 0, 60]);
    }
}
