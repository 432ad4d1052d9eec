//! The readings of a device, one per quantity, from files and from the table `gpu_metrics`.

use std::collections::BTreeMap;

use afd_model::{
    AmdQuantity, Clock, Direction, Engine, ErrorDetail, ErrorKind, Known, LinkCounter, Missing, PageState,
    Quantity, Reading, Sensor,
};
use afd_probe::Facts;

use crate::{
    gpu_metrics::{self, GpuMetrics, throttle},
    sysfs::ras::RasFiles,
};

/// The temperature sensors of hwmon, by their number.
pub(super) const SENSORS: [(u32, Sensor); 3] =
    [(1, Sensor::Edge), (2, Sensor::Junction), (3, Sensor::Memory)];

/// One reading per quantity: the first that is added stays.
#[derive(Debug, Default)]
pub(super) struct ReadingSet(pub(super) Vec<Reading>);

impl ReadingSet {
    pub(super) fn add(&mut self, quantity: Quantity, value: Option<f64>) {
        if let Some(value) = value
            && !self.0.iter().any(|reading| reading.quantity == quantity)
        {
            self.0.push(Reading { quantity, value });
        }
    }

    pub(super) fn add_extra(&mut self, values: &[(AmdQuantity, f64)]) {
        for (quantity, value) in values {
            self.add((*quantity).into(), Some(*value));
        }
    }
}

/// The number in a file.
pub(super) fn number(facts: &mut Facts<'_>, fact: &str, path: &str) -> Option<f64> {
    facts.number::<u64>(fact, path).into_value().map(|value| value as f64)
}

/// A binary table, parsed; one that cannot be parsed is a problem.
pub(super) fn binary<T>(
    facts: &mut Facts<'_>,
    path: &str,
    parse: fn(&[u8]) -> Result<T, gpu_metrics::GpuMetricsError>,
) -> Option<T> {
    let bytes = facts.bytes("gpu_metrics", path).into_value()?;
    parse(&bytes)
        .map_err(|error| facts.missing::<()>("gpu_metrics", Missing::Malformed, Some(path), error))
        .ok()
}

/// Adds error counts and bad pages.
pub(super) fn errors(facts: &mut Facts<'_>, ras: &RasFiles, readings: &mut ReadingSet) {
    let mut sums: BTreeMap<ErrorKind, f64> = BTreeMap::new();
    let mut is_complete = true;
    for (block, counts) in ras.counts(facts) {
        is_complete &= counts.is_known();
        let counts = counts.into_value().unwrap_or_default();
        for (kind, count) in [
            (ErrorKind::EccUncorrectable, counts.uncorrectable),
            (ErrorKind::EccCorrectable, counts.correctable),
            (ErrorKind::EccDeferred, counts.deferred),
        ] {
            let count = count.map(|count| count as f64);
            readings.add(Quantity::Errors(kind, ErrorDetail::Block(block)), count);
            if let Some(count) = count {
                *sums.entry(kind).or_default() += count;
            }
        }
    }
    // Without one of the blocks a sum would fall.
    for (kind, sum) in sums.into_iter().filter(|_| is_complete) {
        readings.add(AmdQuantity::AllErrors(kind).into(), Some(sum));
    }
    if let Known::Value(pages) = ras.pages(facts) {
        for (state, count) in [
            (PageState::Retired, pages.retired),
            (PageState::Pending, pages.pending),
            (PageState::Failed, pages.failed),
        ] {
            readings.add(Quantity::RetiredPages(state), Some(count as f64));
        }
    }
}

/// Adds the hwmon of amdgpu: microwatts, millidegrees, hertz. Returns whether the power is that of this device: a module with two
/// dies (MI250) counts all of it for the first one, and the driver writes 0 for the other, its limit included.
pub(super) fn sensors(facts: &mut Facts<'_>, directory: &str, readings: &mut ReadingSet) -> bool {
    let at = |name: &str| format!("{directory}/{name}");
    let power = number(facts, "power_watts", &at("power1_average"))
        .or_else(|| number(facts, "power_watts", &at("power1_input")));
    readings.add(Quantity::PowerWatts, power.map(|microwatts| microwatts / 1e6));
    let limit = number(facts, "power_limit_watts", &at("power1_cap"));
    readings.add(Quantity::PowerLimitWatts, limit.map(|microwatts| microwatts / 1e6));
    for (index, sensor) in SENSORS {
        let path = at(&format!("temp{index}_input"));
        readings.add(Quantity::TemperatureCelsius(sensor), celsius(facts, &path));
    }
    for (index, clock) in [(1, Clock::Compute), (2, Clock::Memory)] {
        readings.add(
            Quantity::ClockHertz(clock),
            number(facts, "clock_hertz", &at(&format!("freq{index}_input"))),
        );
    }
    // A chip that is awake draws something.
    limit != Some(0.0) && (limit.is_some() || power != Some(0.0))
}

/// The temperature in a file of hwmon. The driver writes 0 where the hardware has no such sensor.
pub(super) fn celsius(facts: &mut Facts<'_>, path: &str) -> Option<f64> {
    let thousandths = facts.number::<i64>("temperature_celsius", path).into_value()?;
    (thousandths != 0).then_some(thousandths as f64 / 1e3)
}

/// Whether no value of a table is impossible.
pub(super) fn is_plausible(metrics: &GpuMetrics) -> bool {
    let mut readings = ReadingSet::default();
    add_table(metrics, None, &mut readings);
    readings.0.iter().all(|reading| reading.quantity.plausible_range().contains(&reading.value))
}

/// Adds the table `gpu_metrics`.
pub(super) fn add_table(metrics: &GpuMetrics, joules_per_count: Option<f64>, readings: &mut ReadingSet) {
    for (sensor, celsius) in [
        (Sensor::Edge, metrics.edge_celsius),
        (Sensor::Junction, metrics.hotspot_celsius),
        (Sensor::Memory, metrics.memory_celsius),
        (Sensor::Vrsoc, metrics.vrsoc_celsius),
        (Sensor::Soc, metrics.soc_celsius),
    ] {
        readings.add(Quantity::TemperatureCelsius(sensor), celsius);
    }
    readings.add(Quantity::PowerWatts, metrics.socket_watts);
    for (engine, ratio) in [
        (Engine::Compute, metrics.gfx_ratio),
        (Engine::Memory, metrics.umc_ratio),
        (Engine::Media, metrics.vcn_ratio),
        (Engine::Jpeg, metrics.jpeg_ratio),
    ] {
        readings.add(Quantity::Utilization(engine), ratio);
    }
    let by_product = metrics.energy_count.zip(joules_per_count).map(|(count, joules)| count as f64 * joules);
    readings.add(Quantity::EnergyJoules, metrics.energy_joules.or(by_product));
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Receive), metrics.xgmi_read_bytes);
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Transmit), metrics.xgmi_write_bytes);
    for (cause, is_active) in metrics.throttle_status.into_iter().flat_map(throttle::causes) {
        readings.add(Quantity::Throttled(cause), Some(f64::from(u8::from(is_active))));
    }
}
