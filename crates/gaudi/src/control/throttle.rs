//! How long clocks were lowered, from what the driver reports of the last time: when it began and how long it took.

use afd_model::{Quantity, Reading, ThrottleCause};
use serde::Deserialize;

/// The causes, in the order of their bits and of the driver's fields.
pub(crate) const CAUSES: [ThrottleCause; 2] = [ThrottleCause::Power, ThrottleCause::Thermal];

/// The answer of the operation.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ThrottleReport {
    reason: u64,
    timestamp_us: [u64; 2],
    duration_ns: [u64; 2],
}

/// The time for which a device was observed to be throttled. A time that begins and ends between two samples, followed by another
/// one, is not counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThrottledPeriods {
    /// For each cause: the last time that was reported.
    last: Option<[(u64, u64); 2]>,
    nanoseconds: [u64; 2],
}

impl ThrottledPeriods {
    /// Adds what is new in a report; the readings.
    pub(crate) fn observe(&mut self, report: ThrottleReport) -> impl Iterator<Item = Reading> + use<> {
        let now = [0, 1].map(|cause| (report.timestamp_us[cause], report.duration_ns[cause]));
        // What was before the first sample may be long ago.
        let last = self.last.replace(now).unwrap_or(now);
        for cause in 0..CAUSES.len() {
            let (began, duration) = now[cause];
            let known = if last[cause].0 == began { last[cause].1 } else { 0 };
            self.nanoseconds[cause] = self.nanoseconds[cause].saturating_add(duration.saturating_sub(known));
        }
        let (nanoseconds, reason) = (self.nanoseconds, report.reason);
        CAUSES.into_iter().enumerate().flat_map(move |(index, cause)| {
            let throttled = f64::from(u8::from(reason >> index & 1 == 1));
            [
                Reading { quantity: Quantity::Throttled(cause), value: throttled },
                Reading {
                    quantity: Quantity::ThrottleSeconds(cause),
                    value: nanoseconds[index] as f64 / 1e9,
                },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_that_was_observed_is_counted() {
        let mut time = ThrottledPeriods::default();
        let mut thermal = |began: u64, seconds: u64, reason: u64| {
            let report = ThrottleReport {
                reason,
                timestamp_us: [0, began],
                duration_ns: [0, seconds * 1_000_000_000],
            };
            let of = |quantity: Quantity, readings: &[Reading]| {
                readings.iter().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
            };
            let readings: Vec<Reading> = time.observe(report).collect();
            assert_eq!(of(Quantity::ThrottleSeconds(ThrottleCause::Power), &readings), Some(0.0));
            (
                of(Quantity::ThrottleSeconds(ThrottleCause::Thermal), &readings),
                of(Quantity::Throttled(ThrottleCause::Thermal), &readings),
            )
        };
        assert_eq!(thermal(10, 60, 0), (Some(0.0), Some(0.0)), "it was before the first sample");
        assert_eq!(thermal(90, 2, 2), (Some(2.0), Some(1.0)));
        assert_eq!(thermal(90, 5, 2), (Some(5.0), Some(1.0)), "it goes on");
        assert_eq!(thermal(90, 6, 0), (Some(6.0), Some(0.0)), "it has ended");
        assert_eq!(thermal(200, 1, 0), (Some(7.0), Some(0.0)), "another one began and ended");
        assert_eq!(thermal(0, 0, 0), (Some(7.0), Some(0.0)), "the driver was loaded again");
    }
}
