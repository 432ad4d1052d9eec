//! What moves: amdgpu's attributes, its hwmon, error counters, clocks and the table `gpu_metrics`.
//!
//! `pcie_bw` is never read: the driver measures for a second before it answers. A device that sleeps is not asked at
//! all: it would have to be woken, or the driver answers EPERM, which says nothing about permission.

mod parts;

use std::time::Instant;

use afd_model::{
    AmdQuantity, Clock, Device, DeviceId, Direction, Engine, ErrorDetail, ErrorKind, Known, LinkCounter,
    Missing, PageState, Quantity, Reading, Sample, Sensor,
};
use afd_probe::{Facts, PciFunction, hwmon, pci};

use self::parts::PartPlace;
use super::{levels::parse_levels, ras};
use crate::{
    debugfs,
    gpu_metrics::{self, GpuMetrics, PartitionMetrics, throttle},
    health::Seen,
    throttle_time::{self, ThrottleTime},
};

/// Where a device is sampled.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    function: PciFunction,
    device: DeviceId,
    link: PciFunction,
    sensors: Vec<String>,
    ras: ras::Files,
    /// Joules for each count of an energy counter whose unit is the part's.
    joules_per_count: Option<f64>,
    partitions: Vec<PartPlace>,
    /// The directory in debugfs. Of a virtual function none: the host that has the whole device would be asked for what it
    /// knows.
    debugfs: Option<String>,
}

impl Place {
    pub(crate) fn of(
        facts: &mut Facts<'_>,
        function: &PciFunction,
        link: &PciFunction,
        device: &Device,
    ) -> Place {
        let directories = hwmon::directories(facts, function);
        // The unit of revision 1.3 is that of 1.4 on Aldebaran; on Radeon parts it is another one.
        let is_aldebaran = device.compute.value().is_some_and(|compute| compute == "gfx90a");
        Place {
            function: function.clone(),
            device: device.id,
            link: link.clone(),
            joules_per_count: is_aldebaran.then_some(gpu_metrics::JOULES_PER_COUNT),
            partitions: device.partitions.iter().map(|part| PartPlace::of(function, part)).collect(),
            sensors: directories
                .into_iter()
                .filter(|(_, name)| name == "amdgpu")
                .map(|(directory, _)| directory)
                .collect(),
            ras: ras::Files::of(facts, function),
            debugfs: debugfs::directory(device).filter(|_| !device.virtual_function),
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// Whether the device sleeps, so that asking it would wake it.
    pub(crate) fn sleeps(&self, facts: &mut Facts<'_>) -> bool {
        let runtime = facts.text("power_state", &self.function.attribute("power/runtime_status"));
        runtime.value().is_some_and(|status| status == "suspended")
    }

    /// What is to be known of the device's health; nothing of one that sleeps.
    pub(crate) fn observe(&self, facts: &mut Facts<'_>) -> Seen {
        facts.about(Some(self.device));
        if self.sleeps(facts) {
            return Seen::default();
        }
        let table = self.table(facts).unwrap_or_default();
        Seen {
            errors: self.ras.counts(facts),
            pages: self.ras.pages(facts).into_value(),
            residencies: table.residencies,
            throttle_status: table.throttle_status,
            xgmi_links_up: table.xgmi_links_up,
            records: match &self.debugfs {
                Some(directory) => debugfs::records(facts, directory),
                None => Missing::NotExposed.into(),
            },
        }
    }

    /// A sample of the device and one of each partition; none of a device that sleeps. With what only AMD's exporter
    /// publishes if `exporter` is set.
    pub(crate) fn sample(
        &self,
        facts: &mut Facts<'_>,
        throttled: &mut ThrottleTime,
        now: Instant,
        exporter: bool,
    ) -> Vec<Sample> {
        facts.about(Some(self.device));
        if self.sleeps(facts) {
            return Vec::new();
        }
        let metrics = self.table(facts).unwrap_or_default();
        let mut readings = self.readings(facts, &metrics);
        for (cause, seconds) in throttled.advance(now, &metrics.residencies) {
            readings.add(Quantity::ThrottleSeconds(cause), Some(seconds));
        }
        if exporter {
            self.exporter_readings(facts, &metrics, &mut readings);
            readings.add_extra(&throttle_time::raw(&metrics.residencies, throttled));
        }
        let mut samples = vec![Sample { unit: self.device.into(), readings: readings.0 }];
        for part in &self.partitions {
            let of_device = part.number.and_then(|number| metrics.partitions.get(number));
            samples.push(Sample {
                unit: part.id.into(),
                readings: parts::readings(facts, part, of_device, exporter),
            });
        }
        samples.retain(|sample| !sample.readings.is_empty());
        samples
    }

    fn table(&self, facts: &mut Facts<'_>) -> Option<GpuMetrics> {
        binary(facts, &self.function.attribute("gpu_metrics"), gpu_metrics::parse)
    }

    /// All that can be read now, one reading for each quantity: what a file of its own tells goes before the table
    /// `gpu_metrics`.
    fn readings(&self, facts: &mut Facts<'_>, metrics: &GpuMetrics) -> Readings {
        let mut readings = Readings::default();
        let at = |name: &str| self.function.attribute(name);
        readings
            .add(Quantity::MemoryUsedBytes, number(facts, "memory_used_bytes", &at("mem_info_vram_used")));
        for (engine, file) in [
            (Engine::Compute, "gpu_busy_percent"),
            (Engine::Memory, "mem_busy_percent"),
            (Engine::Media, "vcn_busy_percent"),
        ] {
            let busy = number(facts, "utilization", &at(file)).filter(|percent| *percent <= 100.0);
            readings.add(Quantity::Utilization(engine), busy.map(|percent| percent / 100.0));
        }
        for directory in &self.sensors {
            sensors(facts, directory, &mut readings);
        }
        for (clock, file) in CLOCKS {
            let levels = facts.parse("clocks", &at(file), parse_levels).into_value();
            readings.add(Quantity::ClockMaxHertz(clock), levels.map(|levels| levels.max_hertz));
            readings.add(Quantity::ClockHertz(clock), levels.and_then(|levels| levels.current_hertz));
        }
        errors(facts, &self.ras, &mut readings);
        let replays = number(facts, "errors", &at("pcie_replay_count"));
        readings.add(Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), replays);
        for reading in pci::link_readings(facts, &self.link) {
            readings.add(reading.quantity, Some(reading.value));
        }
        of_table(metrics, self.joules_per_count, &mut readings);
        if let Some(whole) = self.whole(metrics) {
            parts::of_partition(whole, &mut readings);
        }
        readings
    }

    /// What the table tells of the one partition of a device that is not cut.
    fn whole<'m>(&self, metrics: &'m GpuMetrics) -> Option<&'m PartitionMetrics> {
        match (self.partitions.as_slice(), metrics.partitions.as_slice()) {
            ([], [whole]) => Some(whole),
            _ => None,
        }
    }

    /// What only AMD's exporter publishes.
    fn exporter_readings(&self, facts: &mut Facts<'_>, metrics: &GpuMetrics, readings: &mut Readings) {
        for (quantity, file) in [
            (AmdQuantity::GttTotalBytes, "mem_info_gtt_total"),
            (AmdQuantity::GttUsedBytes, "mem_info_gtt_used"),
            (AmdQuantity::VisibleTotalBytes, "mem_info_vis_vram_total"),
            (AmdQuantity::VisibleUsedBytes, "mem_info_vis_vram_used"),
        ] {
            let bytes = number(facts, "memory_used_bytes", &self.function.attribute(file));
            readings.add(quantity.into(), bytes);
        }
        for (clock, file) in CLOCKS {
            let levels = facts.parse("clocks", &self.function.attribute(file), parse_levels).into_value();
            let min = levels.map(|levels| levels.min_hertz);
            readings.add(AmdQuantity::ClockMinHertz(clock).into(), min);
        }
        readings.add_extra(&metrics.extra);
        if let Some(whole) = self.whole(metrics) {
            readings.add_extra(&whole.extra);
        }
    }
}

/// The clocks whose levels have a file.
const CLOCKS: [(Clock, &str); 3] =
    [(Clock::Compute, "pp_dpm_sclk"), (Clock::Memory, "pp_dpm_mclk"), (Clock::Soc, "pp_dpm_socclk")];

/// Readings with one for each quantity: the first that is added stays.
#[derive(Debug, Default)]
struct Readings(Vec<Reading>);

impl Readings {
    fn add(&mut self, quantity: Quantity, value: Option<f64>) {
        if let Some(value) = value
            && !self.0.iter().any(|reading| reading.quantity == quantity)
        {
            self.0.push(Reading { quantity, value });
        }
    }

    fn add_extra(&mut self, told: &[(AmdQuantity, f64)]) {
        for (quantity, value) in told {
            self.add((*quantity).into(), Some(*value));
        }
    }
}

fn number(facts: &mut Facts<'_>, fact: &str, path: &str) -> Option<f64> {
    facts.number::<u64>(fact, path).into_value().map(|value| value as f64)
}

/// What `parse` makes of a binary table; a table that cannot be read is a problem.
fn binary<T>(
    facts: &mut Facts<'_>,
    path: &str,
    parse: fn(&[u8]) -> Result<T, gpu_metrics::TableError>,
) -> Option<T> {
    let bytes = facts.bytes("gpu_metrics", path).into_value()?;
    parse(&bytes)
        .map_err(|error| facts.missing::<()>("gpu_metrics", Missing::Malformed, Some(path), error))
        .ok()
}

fn errors(facts: &mut Facts<'_>, ras: &ras::Files, readings: &mut Readings) {
    for (block, counts) in ras.counts(facts) {
        let counts = counts.into_value().unwrap_or_default();
        for (kind, count) in [
            (ErrorKind::EccUncorrectable, counts.uncorrectable),
            (ErrorKind::EccCorrectable, counts.correctable),
            (ErrorKind::EccDeferred, counts.deferred),
        ] {
            readings.add(Quantity::Errors(kind, ErrorDetail::Block(block)), count.map(|count| count as f64));
        }
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

/// hwmon of amdgpu: microwatts, millidegrees, hertz.
fn sensors(facts: &mut Facts<'_>, directory: &str, readings: &mut Readings) {
    let at = |name: &str| format!("{directory}/{name}");
    let power = number(facts, "power_watts", &at("power1_average"))
        .or_else(|| number(facts, "power_watts", &at("power1_input")));
    readings.add(Quantity::PowerWatts, power.map(|microwatts| microwatts / 1e6));
    let limit = number(facts, "power_limit_watts", &at("power1_cap"));
    readings.add(Quantity::PowerLimitWatts, limit.map(|microwatts| microwatts / 1e6));
    for (index, usual) in [(1, Sensor::Edge), (2, Sensor::Junction), (3, Sensor::Memory)] {
        let path = at(&format!("temp{index}_input"));
        let celsius = facts.number::<i64>("temperature_celsius", &path).into_value();
        readings.add(Quantity::TemperatureCelsius(usual), celsius.map(|milli| milli as f64 / 1e3));
    }
    for (index, clock) in [(1, Clock::Compute), (2, Clock::Memory)] {
        readings.add(
            Quantity::ClockHertz(clock),
            number(facts, "clock_hertz", &at(&format!("freq{index}_input"))),
        );
    }
}

fn of_table(metrics: &GpuMetrics, joules_per_count: Option<f64>, readings: &mut Readings) {
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
    let by_part = metrics.energy_count.zip(joules_per_count).map(|(count, joules)| count as f64 * joules);
    readings.add(Quantity::EnergyJoules, metrics.energy_joules.or(by_part));
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Receive), metrics.xgmi_read_bytes);
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Transmit), metrics.xgmi_write_bytes);
    for (cause, holds) in metrics.throttle_status.into_iter().flat_map(throttle::causes) {
        readings.add(Quantity::Throttled(cause), Some(f64::from(u8::from(holds))));
    }
}
