//! The seconds for which a device was throttled, from counters of cycles whose duration is not documented: the share of the
//! cycles between two samples, times the time between them. The sum starts at 0 with the first sample.

use std::time::Instant;

use afd_model::{AmdQuantity, ThrottleCause};

use crate::gpu_metrics::Residencies;

/// A counter of a table.
pub(crate) type ThrottleCounter = fn(&Residencies) -> Option<u64>;

/// The causes that have a counter.
const CAUSES: [(ThrottleCause, ThrottleCounter); 5] = [
    (ThrottleCause::Prochot, |counters| counters.prochot),
    (ThrottleCause::Power, |counters| counters.power),
    (ThrottleCause::Thermal, |counters| counters.socket_thermal),
    (ThrottleCause::RegulatorThermal, |counters| counters.regulator_thermal),
    (ThrottleCause::MemoryThermal, |counters| counters.memory_thermal),
];

/// The throttle times of one device.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThrottleTime {
    last: Option<(Instant, Residencies)>,
    seconds: [f64; CAUSES.len()],
    shares: [Option<f64>; CAUSES.len()],
}

impl ThrottleTime {
    /// Adds the time since the last call; the sum of each cause that the device counts.
    pub(crate) fn advance(&mut self, now: Instant, counters: &Residencies) -> Vec<(ThrottleCause, f64)> {
        if let Some((then, before)) = &self.last {
            let elapsed = now.saturating_duration_since(*then).as_secs_f64();
            self.shares = CAUSES.map(|(_, counter)| share(before, counters, counter));
            for (sum, share) in self.seconds.iter_mut().zip(self.shares) {
                *sum += share.unwrap_or(0.0) * elapsed;
            }
        }
        if counters.cycles.is_none() {
            return Vec::new();
        }
        self.last = Some((now, *counters));
        let sums = CAUSES.iter().zip(self.seconds);
        sums.filter(|((_, counter), _)| counter(counters).is_some())
            .map(|((cause, _), sum)| (*cause, sum))
            .collect()
    }
}

/// The counters as AMD's exporter publishes them: their values, and the shares since the last sample.
pub(crate) fn raw(counters: &Residencies, times: &ThrottleTime) -> Vec<(AmdQuantity, f64)> {
    let cycles = counters.cycles.map(|cycles| (AmdQuantity::Cycles, cycles as f64));
    let throttled = CAUSES.into_iter().zip(times.shares).flat_map(|((cause, counter), share)| {
        let count = counter(counters).map(|count| (AmdQuantity::ThrottledCycles(cause), count as f64));
        count.into_iter().chain(share.map(|share| (AmdQuantity::ThrottledShare(cause), share)))
    });
    cycles.into_iter().chain(throttled).collect()
}

/// The share of the cycles between two observations in which a cause held; none where a counter was reset.
pub(crate) fn share(before: &Residencies, now: &Residencies, counter: ThrottleCounter) -> Option<f64> {
    let cycles = now.cycles?.checked_sub(before.cycles?).filter(|cycles| *cycles > 0)?;
    let throttled = counter(now)?.checked_sub(counter(before)?)?;
    (throttled <= cycles).then(|| throttled as f64 / cycles as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counters(cycles: u64, power: u64) -> Residencies {
        Residencies { cycles: Some(cycles), power: Some(power), ..Residencies::default() }
    }

    #[test]
    fn seconds_are_the_share_of_the_cycles_times_the_time_between() {
        let start = Instant::now();
        let mut time = ThrottleTime::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(time.advance(at(0), &counters(1000, 900)), [(ThrottleCause::Power, 0.0)]);
        assert_eq!(time.advance(at(10), &counters(2000, 1400)), [(ThrottleCause::Power, 5.0)]);
        assert_eq!(time.advance(at(20), &counters(2000, 1400)), [(ThrottleCause::Power, 5.0)]);
    }

    #[test]
    fn counters_that_were_reset_add_nothing() {
        let start = Instant::now();
        let mut time = ThrottleTime::default();
        time.advance(start, &counters(u64::from(u32::MAX), 5000));
        let seconds = time.advance(start + Duration::from_secs(5), &counters(10, 2));
        assert_eq!(seconds, [(ThrottleCause::Power, 0.0)]);
        let seconds = time.advance(start + Duration::from_secs(6), &counters(20, 12));
        assert_eq!(seconds, [(ThrottleCause::Power, 1.0)]);
    }

    #[test]
    fn a_table_without_cycles_has_no_throttle_time() {
        let none = Residencies { power: Some(1), ..Residencies::default() };
        assert!(ThrottleTime::default().advance(Instant::now(), &none).is_empty());
    }
}
