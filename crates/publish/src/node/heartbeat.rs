//! When the heartbeat of the conditions is due. A heartbeat that does not come shows that the agent is gone.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A heartbeat this share of the interval after another write of the conditions is left out.
const MIN_SHARE: u32 = 20;

/// Heartbeats at a fixed interval. The name of the Node decides when in the interval, so that those of a cluster are spread over it
/// even if all agents were started together, and a restarted agent keeps its time.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// None: there is none.
    interval: Option<Duration>,
    /// A time of this Node, as a share of the interval.
    phase: f64,
    next: Option<Instant>,
    is_overdue: bool,
}

impl Heartbeat {
    pub(super) fn new(interval: Option<Duration>, node: &str) -> Heartbeat {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let phase = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        Heartbeat { interval, phase, next: None, is_overdue: false }
    }

    /// Starts it, if it was not started. `age` is that of the last one, also of a previous agent.
    pub(super) fn start(&mut self, age: Duration, now: Instant) {
        let Some(interval) = self.interval.filter(|_| self.next.is_none()) else { return };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = until_phase(wall, interval, self.phase);
        self.next = Some(now + until);
        // A restart over the moment of the last one must not make the pause of two intervals.
        self.is_overdue = age + until > interval + interval / MIN_SHARE;
    }

    /// How long until it is due, if it was started.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        let until = self.next?.saturating_duration_since(now);
        Some(if self.is_overdue { Duration::ZERO } else { until })
    }

    /// The conditions were written, as a heartbeat or because they changed.
    pub(super) fn written(&mut self, now: Instant) {
        self.is_overdue = false;
        let (Some(interval), Some(mut next)) = (self.interval, self.next) else { return };
        while next < now + interval / MIN_SHARE {
            next += interval;
        }
        self.next = Some(next);
    }
}

/// The time from `wall` to the next moment of a phase of the interval.
fn until_phase(wall: Duration, interval: Duration, phase: f64) -> Duration {
    let intervals = wall.as_secs_f64() / interval.as_secs_f64();
    interval.mul_f64((phase - intervals).rem_euclid(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn nodes_are_spread_over_the_interval_and_keep_their_time() {
        let phase = |number: u32| Heartbeat::new(Some(HOUR), &format!("node-{number}")).phase;
        assert!(phase(1).to_bits() == phase(1).to_bits());
        for tenth in 0..10 {
            let count = (0..1000).filter(|number| (phase(*number) * 10.0) as u32 == tenth).count();
            assert!((60..=140).contains(&count), "{count} of 1000 nodes in a tenth of the interval");
        }
        let minutes =
            |wall: u64, phase| until_phase(Duration::from_secs(wall * 60), HOUR, phase).as_secs() / 60;
        assert_eq!([minutes(6000, 0.5), minutes(6015, 0.5), minutes(6045, 0.5)], [30, 15, 45]);
    }

    #[test]
    fn a_heartbeat_comes_once_in_an_interval_and_an_overdue_one_at_once() {
        let (mut heartbeat, start) = (Heartbeat::new(Some(HOUR), "node"), Instant::now());
        assert_eq!(heartbeat.due(start), None);
        heartbeat.start(2 * HOUR, start);
        assert_eq!(heartbeat.due(start), Some(Duration::ZERO), "the last agent ended long ago");
        heartbeat.written(start);
        let first = heartbeat.due(start).expect("it was started");
        assert!(first >= HOUR / MIN_SHARE && first <= HOUR + HOUR / MIN_SHARE, "{first:?}");
        heartbeat.written(start + first);
        assert_eq!(heartbeat.due(start + first), Some(HOUR));
        let soon = start + first + HOUR - HOUR / 100;
        heartbeat.written(soon);
        assert_eq!(heartbeat.due(soon), Some(HOUR + HOUR / 100), "the conditions were just written");
    }

    #[test]
    fn a_restart_over_the_moment_of_a_heartbeat_makes_no_pause_of_two_intervals() {
        let start = Instant::now();
        let due = |age: Duration| {
            let mut heartbeat = Heartbeat::new(Some(HOUR), "node");
            heartbeat.start(age, start);
            heartbeat.due(start).expect("it was started")
        };
        let until = due(Duration::ZERO);
        assert_eq!(due(HOUR + HOUR / 10 - until), Duration::ZERO);
        assert!(due(HOUR - until) > Duration::ZERO, "it comes an hour after the last one");
    }

    #[test]
    fn no_interval_is_no_heartbeat() {
        let mut heartbeat = Heartbeat::new(None, "node");
        heartbeat.start(HOUR, Instant::now());
        heartbeat.written(Instant::now());
        assert_eq!(heartbeat.due(Instant::now()), None);
    }
}
