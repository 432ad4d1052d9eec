//! How long to wait after failures in a row.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first rest after a failure; it doubles each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest rest, but for its random part and for what the server asks for.
pub const LONGEST_REST: Duration = Duration::from_secs(60);

/// Rests that grow.
#[derive(Debug, Default)]
pub struct Rest(u32);

impl Rest {
    /// A call went well: the next rest is the first again.
    pub fn over(&mut self) {
        self.0 = 0;
    }

    /// The next rest: doubled each time up to a minute, and never less than the server asks for. A random part of it is
    /// added, so that the agents of a cluster do not come back all at once.
    pub fn longer(&mut self, asked: Option<Duration>) -> Duration {
        let rest = FIRST.saturating_mul(1 << self.0.min(6)).min(LONGEST_REST);
        self.0 += 1;
        asked.unwrap_or_default().max(rest) + random_part(rest / 4)
    }

    /// The rest after a watch that has ended. One that lived for long was well; one that ends at once would be a hot loop.
    pub fn after_watch(&mut self, lived: Duration) -> Duration {
        if lived > LONGEST_REST {
            self.over();
        }
        self.longer(None)
    }
}

/// A random part of a time.
pub fn random_part(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) >> 11;
    time.mul_f64(random as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_minute_and_begin_anew_when_all_is_well() {
        let mut rest = Rest::default();
        let about = |rest: Duration, seconds: f64| (seconds..=seconds * 1.25).contains(&rest.as_secs_f64());
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let next = rest.longer(None);
            assert!(about(next, seconds), "{next:?} instead of {seconds} s");
        }
        rest.over();
        let asked = rest.longer(Some(Duration::from_secs(30)));
        assert!(asked >= Duration::from_secs(30) && asked < Duration::from_secs(31), "{asked:?}");
        assert!(about(rest.after_watch(Duration::from_secs(2)), 2.0));
        assert!(about(rest.after_watch(Duration::from_secs(290)), 1.0));
    }

    #[test]
    fn a_random_part_is_a_part() {
        for _ in 0..100 {
            assert!(random_part(Duration::from_secs(10)) <= Duration::from_secs(10));
        }
        assert_eq!(random_part(Duration::ZERO), Duration::ZERO);
    }
}
