//! How often events may cause a discovery in addition to the regular ones.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// The shortest time between a discovery and one that an event causes. It grows while such discoveries find nothing new, so that
/// a source of endless events costs little.
#[derive(Clone, Copy, Debug)]
pub struct DiscoveryPace {
    floor: Duration,
    is_requested: bool,
}

impl Default for DiscoveryPace {
    fn default() -> DiscoveryPace {
        DiscoveryPace { floor: SHORTEST, is_requested: false }
    }
}

impl DiscoveryPace {
    /// An event requests a discovery.
    pub fn request(&mut self) {
        self.is_requested = true;
    }

    /// An event that is known to have changed what a discovery shows requests one, however many before found nothing.
    pub fn request_now(&mut self) {
        self.floor = SHORTEST;
        self.is_requested = true;
    }

    /// The time until a requested discovery may happen, `since_last` after the last one; none if none is requested.
    pub fn due_in(&mut self, since_last: Duration) -> Option<Duration> {
        if since_last > LONGEST {
            self.floor = SHORTEST;
        }
        self.is_requested.then(|| self.floor.saturating_sub(since_last))
    }

    /// A discovery took place, and the inventory has changed or not.
    pub fn discovered(&mut self, is_changed: bool) {
        if is_changed {
            self.floor = SHORTEST;
        } else if self.is_requested {
            self.floor = (self.floor * 2).min(LONGEST);
        }
        self.is_requested = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discoveries_that_find_nothing_become_rare() {
        let mut pace = DiscoveryPace::default();
        assert_eq!(pace.due_in(Duration::ZERO), None);
        let mut floors = Vec::new();
        for _ in 0..10 {
            pace.request();
            floors.push(pace.due_in(Duration::ZERO).expect("it is requested").as_millis());
            pace.discovered(false);
        }
        assert_eq!(floors, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000]);
        pace.request();
        assert_eq!(pace.due_in(Duration::from_secs(60)), Some(Duration::ZERO));
        pace.discovered(true);
        pace.request();
        assert_eq!(pace.due_in(Duration::ZERO), Some(SHORTEST));
    }

    #[test]
    fn what_is_known_to_have_changed_does_not_wait_for_a_back_off() {
        let mut pace = DiscoveryPace::default();
        for _ in 0..10 {
            pace.request();
            pace.discovered(false);
        }
        pace.request_now();
        assert_eq!(pace.due_in(Duration::ZERO), Some(SHORTEST));
    }

    #[test]
    fn a_regular_discovery_lengthens_nothing() {
        let mut pace = DiscoveryPace::default();
        pace.discovered(false);
        pace.request();
        assert_eq!(pace.due_in(Duration::ZERO), Some(SHORTEST));
        pace.discovered(false);
        pace.request();
        assert_eq!(pace.due_in(Duration::from_secs(61)), Some(Duration::ZERO), "after a quiet minute");
    }
}
