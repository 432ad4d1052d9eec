//! The values that are shown of a device or partition, out of all that were read.

use afd_model::{Engine, Known, Missing, Quantity, Reading, Sample, Sensor};
use serde::{Deserialize, Serialize};

/// The engines whose utilization is shown, the first that is reported.
const ENGINES: [Engine; 3] = [Engine::Compute, Engine::Graphics, Engine::Sm];

/// The sensors whose temperature is shown, the first that is reported.
const SENSORS: [Sensor; 8] = [
    Sensor::Gpu,
    Sensor::Junction,
    Sensor::Edge,
    Sensor::Package,
    Sensor::Device,
    Sensor::Soc,
    Sensor::Board,
    Sensor::Memory,
];

/// The present values of a device or partition.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct UnitValues {
    /// Share of the time in which it computed, 0 to 1.
    pub utilization_ratio: Known<f64>,
    /// Memory in use, bytes.
    pub memory_used_bytes: Known<f64>,
    /// Memory, bytes.
    pub memory_total_bytes: Known<f64>,
    /// Power drawn, watts.
    pub power_watts: Known<f64>,
    /// Power limit, watts.
    pub power_limit_watts: Known<f64>,
    /// Temperature, degrees Celsius.
    pub temperature_celsius: Known<f64>,
}

/// Everything that was read of a device or partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings<'t>(Vec<&'t [Reading]>);

impl<'t> Readings<'t> {
    pub(super) fn add(&mut self, sample: &'t Sample) {
        self.0.push(&sample.readings);
    }

    /// The value of a quantity. The one that was read first counts, as in `/metrics`.
    fn value(&self, quantity: Quantity) -> Option<f64> {
        let mut readings = self.0.iter().flat_map(|readings| readings.iter());
        readings.find(|reading| reading.quantity == quantity).map(|reading| reading.value)
    }
}

impl UnitValues {
    /// The values of a unit with so much memory. `why` is the reason why a value is missing, by the names of its facts, the
    /// most exact first.
    pub(super) fn new(
        readings: &Readings<'_>,
        memory: Known<u64>,
        why: impl Fn(&[&str]) -> Missing,
    ) -> UnitValues {
        let first = |quantities: &[Quantity], facts: &[&str]| {
            let value = quantities.iter().find_map(|quantity| readings.value(*quantity));
            value.map_or_else(|| why(facts).into(), Known::Value)
        };
        let one = |quantity, facts: &[&str]| first(&[quantity], facts);
        let total = one(Quantity::MemoryTotalBytes, &["memory_total", "memory_bytes"]);
        UnitValues {
            utilization_ratio: first(&ENGINES.map(Quantity::Utilization), &["utilization"]),
            memory_used_bytes: one(Quantity::MemoryUsedBytes, &["memory_used_bytes", "memory_used"]),
            memory_total_bytes: memory.map(|bytes| bytes as f64).or_else(|| total),
            power_watts: one(Quantity::PowerWatts, &["power_watts", "power", "energy"]),
            power_limit_watts: one(Quantity::PowerLimitWatts, &["power_limit_watts", "power_limit"]),
            temperature_celsius: first(
                &SENSORS.map(Quantity::TemperatureCelsius),
                &["temperature_celsius", "temperature"],
            ),
        }
    }
}
