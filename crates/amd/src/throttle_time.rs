//! Seconds for which a device was slowed down, from counters of cycles whose length nobody documents: the share of the
//! cycles between two samples, times the time between them. The sum begins at 0 with the first sample.

use std::time::Instant;

use afd_model::{AmdQuantity, ThrottleCause};

use crate::gpu_metrics::Residencies;

/// Which counter of a table.
pub(crate) type Counter = fn(&Residencies) -> Option<u64>;

/// The causes that the table counts.
const CAUSES: [(ThrottleCause, Counter); 5] = [
    (ThrottleCause::Prochot, |counters| counters.prochot),
    (ThrottleCause::Power, |counters| counters.power),
    (ThrottleCause::Thermal, |counters| counters.socket_thermal),
    (ThrottleCause::RegulatorThermal, |counters| counters.regulator_thermal),
    (ThrottleCause::MemoryThermal, |counters| counters.memory_thermal),
];

/// What one device has gathered.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThrottleTime {
    last: Option<(Instant, Residencies)>,
    seconds: [f64; CAUSES.len()],
    shares: [Option<f64>; CAUSES.len()],
}

impl ThrottleTime {
    /// Takes the counters as they stand now, and tells the sum of each cause that has a counter.
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
        let told = CAUSES.iter().zip(self.seconds);
        told.filter(|((_, counter), _)| counter(counters).is_some())
            .map(|((cause, _), sum)| (*cause, sum))
            .collect()
    }
}

/// What AMD's exporter publishes of the counters: as they stand, and the share since the last sample.
pub(crate) fn raw(counters: &Residencies, gathered: &ThrottleTime) -> Vec<(AmdQuantity, f64)> {
    let cycles = counters.cycles.map(|cycles| (AmdQuantity::Cycles, cycles as f64));
    let held = CAUSES.into_iter().zip(gathered.shares).flat_map(|((cause, counter), share)| {
        let count = counter(counters).map(|count| (AmdQuantity::ThrottledCycles(cause), count as f64));
        count.into_iter().chain(share.map(|share| (AmdQuantity::ThrottledShare(cause), share)))
    });
    cycles.into_iter().chain(held).collect()
}

/// In which share of the cycles between two looks a cause held; none where a counter began anew.
pub(crate) fn share(before: &Residencies, now: &Residencies, counter: Counter) -> Option<f64> {
    let cycles = now.cycles?.checked_sub(before.cycles?).filter(|cycles| *cycles > 0)?;
    let held = counter(now)?.checked_sub(counter(before)?)?;
    (held <= cycles).then(|| held as f64 / cycles as f64)
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
        let begun = Instant::now();
        let mut time = ThrottleTime::default();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(time.advance(at(0), &counters(1000, 900)), [(ThrottleCause::Power, 0.0)]);
        assert_eq!(time.advance(at(10), &counters(2000, 1400)), [(ThrottleCause::Power, 5.0)]);
        assert_eq!(time.advance(at(20), &counters(2000, 1400)), [(ThrottleCause::Power, 5.0)]);
    }

    #[test]
    fn counters_that_began_anew_add_nothing() {
        let begun = Instant::now();
        let mut time = ThrottleTime::default();
        time.advance(begun, &counters(u64::from(u32::MAX), 5000));
        let told = time.advance(begun + Duration::from_secs(5), &counters(10, 2));
        assert_eq!(told, [(ThrottleCause::Power, 0.0)]);
        let told = time.advance(begun + Duration::from_secs(6), &counters(20, 12));
        assert_eq!(told, [(ThrottleCause::Power, 1.0)]);
    }

    #[test]
    fn a_table_without_cycles_tells_nothing() {
        let none = Residencies { power: Some(1), ..Residencies::default() };
        assert!(ThrottleTime::default().advance(Instant::now(), &none).is_empty());
    }
}
