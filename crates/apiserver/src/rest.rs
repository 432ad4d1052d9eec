//! How long to wait after failures in a row.

use std::time::Duration;

/// The first rest after a failure; it doubles each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Rests that grow.
#[derive(Debug, Default)]
pub struct Rest(u32);

impl Rest {
    /// A call went well: the next rest is the first again.
    pub fn over(&mut self) {
        self.0 = 0;
    }

    /// The next rest: doubled each time up to a minute, and never less than the server asks for.
    pub fn longer(&mut self, asked: Option<Duration>) -> Duration {
        let rest = FIRST.saturating_mul(1 << self.0.min(6)).min(LONGEST);
        self.0 += 1;
        asked.map_or(rest, |asked| asked.max(rest))
    }

    /// The rest after a watch that has ended. One that lived for long was well; one that ends at once would be a hot loop.
    pub fn after_watch(&mut self, lived: Duration) -> Duration {
        if lived > LONGEST {
            self.over();
        }
        self.longer(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_minute_and_begin_anew_when_all_is_well() {
        let mut rest = Rest::default();
        let seconds: Vec<u64> = (0..8).map(|_| rest.longer(None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        rest.over();
        assert_eq!(rest.longer(Some(Duration::from_secs(30))).as_secs(), 30);
        assert_eq!(rest.after_watch(Duration::from_secs(2)).as_secs(), 2);
        assert_eq!(rest.after_watch(Duration::from_secs(290)).as_secs(), 1);
    }
}
