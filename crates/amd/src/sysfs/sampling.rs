//! Changing values: the attributes of amdgpu, its hwmon, error counters, clocks and the table `gpu_metrics`.
//!
//! `pcie_bw` is never read: the driver measures for a second before it answers. The files of a suspended device are not read:
//! that would wake the device, or fail with EPERM although no permission is missing.

mod contradiction;
mod partition;
mod readings;

use std::time::Instant;

use afd_model::{
    AmdQuantity, Clock, Device, DeviceId, Engine, ErrorDetail, ErrorKind, Known, MemorySource, Missing,
    Quantity, Reading, Sample,
};
use afd_probe::{Facts, PciFunction, device, hwmon, pci};

use self::{
    contradiction::contradicted,
    partition::PartitionSource,
    readings::{ReadingSet, SENSORS, add_table, binary, errors, is_plausible, number, sensors},
};
use super::{levels::read_levels, ras::RasFiles};
use crate::{
    AmdOptions, debugfs,
    gpu_metrics::{self, GpuMetrics, PartitionMetrics, throttle},
    health::HealthEvidence,
    throttle_time::{self, ThrottleTime},
};

/// Where to sample one device.
#[derive(Clone, Debug)]
pub(crate) struct AmdSource {
    function: PciFunction,
    device: DeviceId,
    link: PciFunction,
    /// The file with its used memory.
    memory_used: &'static str,
    sensors: Vec<String>,
    /// The limits of its temperatures.
    limits: Vec<Reading>,
    ras: RasFiles,
    /// Joules per count of an energy counter whose unit depends on the product.
    joules_per_count: Option<f64>,
    partitions: Vec<PartitionSource>,
    /// The directory in debugfs; none for a virtual function, for which the driver would query the host of the physical
    /// function.
    debugfs: Option<String>,
}

impl AmdSource {
    /// Locates the files of a device.
    pub(crate) fn find(
        facts: &mut Facts<'_>,
        function: &PciFunction,
        link: &PciFunction,
        device: &Device,
    ) -> AmdSource {
        let directories = hwmon::directories(facts, function);
        let sensors: Vec<String> = directories
            .into_iter()
            .filter(|(_, name)| name == "amdgpu")
            .map(|(directory, _)| directory)
            .collect();
        let limits = sensors.iter().flat_map(|directory| SENSORS.map(|sensor| (directory, sensor)));
        let limits = limits
            .flat_map(|(directory, (number, sensor))| {
                hwmon::temperature_limits(facts, directory, number, sensor).collect::<Vec<_>>()
            })
            .collect();
        // The unit of revision 1.3 is that of 1.4 on Aldebaran; Radeon products have another one.
        let is_aldebaran = device.compute.value().is_some_and(|compute| compute == "gfx90a");
        AmdSource {
            function: function.clone(),
            device: device.id,
            link: link.clone(),
            memory_used: memory_used(facts, function, device),
            joules_per_count: is_aldebaran.then_some(gpu_metrics::JOULES_PER_COUNT),
            partitions: device
                .partitions
                .iter()
                .map(|partition| PartitionSource::find(function, partition))
                .collect(),
            sensors,
            limits,
            ras: RasFiles::find(facts, function),
            debugfs: debugfs::directory(device).filter(|_| !device.virtual_function),
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// Whether the device is suspended, so that reading its files would wake it.
    pub(crate) fn is_suspended(&self, facts: &mut Facts<'_>) -> bool {
        let runtime = facts.text("power_state", &self.function.attribute("power/runtime_status"));
        runtime.value().is_some_and(|status| status == "suspended")
    }

    /// The evidence for the health of the device; none while it is suspended.
    pub(crate) fn health_evidence(&self, facts: &mut Facts<'_>) -> Option<HealthEvidence> {
        facts.about(Some(self.device));
        if self.is_suspended(facts) {
            return None;
        }
        let table = self.table(facts).unwrap_or_default();
        Some(HealthEvidence {
            errors: self.ras.counts(facts),
            pages: self.ras.pages(facts),
            residencies: table.residencies,
            throttle_status: table.throttle_status,
            xgmi_links_up: table.xgmi_links_up,
            binding: device::driver_binding(facts.host(), self.device),
            records: match &self.debugfs {
                Some(directory) => debugfs::records(facts, directory),
                None => Missing::NotExposed.into(),
            },
        })
    }

    /// A sample of the device and of each partition; none while the device is suspended. With the values that `options` add.
    pub(crate) fn sample(
        &self,
        facts: &mut Facts<'_>,
        throttle_time: &mut ThrottleTime,
        now: Instant,
        options: AmdOptions,
    ) -> Vec<Sample> {
        facts.about(Some(self.device));
        if self.is_suspended(facts) {
            return Vec::new();
        }
        let metrics = self.table(facts).unwrap_or_default();
        let mut readings = self.readings(facts, &metrics);
        for (cause, seconds) in throttle_time.advance(now, &metrics.residencies) {
            readings.add(Quantity::ThrottleSeconds(cause), Some(seconds));
        }
        if options.exporter || options.per_link {
            metrics.links.iter().for_each(|link| readings.add(link.quantity, Some(link.value)));
        }
        if options.exporter {
            self.exporter_readings(facts, &metrics, &mut readings);
            readings.add_extra(&throttle_time::raw(&metrics.residencies, throttle_time));
        }
        let mut samples = vec![Sample { unit: self.device.into(), readings: readings.0 }];
        for partition in &self.partitions {
            let of_device = partition.number.and_then(|number| metrics.partitions.get(number));
            samples.push(Sample {
                unit: partition.id.into(),
                readings: partition.readings(facts, of_device, options.exporter),
            });
        }
        samples.retain(|sample| !sample.readings.is_empty());
        samples
    }

    /// The table `gpu_metrics`. One that was torn while it was read has values that are impossible. Of such a table only values
    /// are used that are checked one by one: a counter that falls would show a reset that did not happen. Some firmware sets bits
    /// of the throttle status for good: those that a sensor contradicts are dropped.
    fn table(&self, facts: &mut Facts<'_>) -> Option<GpuMetrics> {
        let table = binary(facts, &self.function.attribute("gpu_metrics"), gpu_metrics::parse)?;
        let mut table = if is_plausible(&table) { table } else { table.without_unchecked() };
        if let Some(status) = table.throttle_status.filter(|status| *status != 0) {
            table.throttle_status =
                Some(throttle::without(status, &contradicted(facts, &self.sensors, &table)));
        }
        Some(table)
    }

    /// All readings of the device, one per quantity. A file of its own takes precedence over the table `gpu_metrics`.
    fn readings(&self, facts: &mut Facts<'_>, metrics: &GpuMetrics) -> ReadingSet {
        let mut readings = ReadingSet::default();
        let at = |name: &str| self.function.attribute(name);
        let used = number(facts, "memory_used_bytes", &at(self.memory_used));
        readings.add(Quantity::MemoryUsedBytes, used);
        for (engine, file) in [
            (Engine::Compute, "gpu_busy_percent"),
            (Engine::Memory, "mem_busy_percent"),
            (Engine::Media, "vcn_busy_percent"),
        ] {
            let busy = number(facts, "utilization", &at(file)).filter(|percent| *percent <= 100.0);
            readings.add(Quantity::Utilization(engine), busy.map(|percent| percent / 100.0));
        }
        self.limits.iter().for_each(|limit| readings.add(limit.quantity, Some(limit.value)));
        let mut has_own_power = true;
        for directory in &self.sensors {
            has_own_power &= sensors(facts, directory, &mut readings);
        }
        for (clock, file) in CLOCKS {
            let levels = read_levels(facts, &at(file));
            readings.add(Quantity::ClockMaxHertz(clock), levels.map(|levels| levels.max_hertz));
            readings.add(Quantity::ClockHertz(clock), levels.and_then(|levels| levels.current_hertz));
        }
        errors(facts, &self.ras, &mut readings);
        let replays = number(facts, "errors", &at("pcie_replay_count"));
        readings.add(Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), replays);
        for reading in pci::link_readings(facts, &self.link) {
            readings.add(reading.quantity, Some(reading.value));
        }
        add_table(metrics, self.joules_per_count, &mut readings);
        if let Some(only) = self.only_partition(metrics) {
            partition::add_table(only, &mut readings);
        }
        if !has_own_power {
            readings.0.retain(|reading| !POWER.contains(&reading.quantity));
        }
        readings
    }

    /// The only partition of the table, of an unpartitioned device.
    fn only_partition<'m>(&self, metrics: &'m GpuMetrics) -> Option<&'m PartitionMetrics> {
        match (self.partitions.as_slice(), metrics.partitions.as_slice()) {
            ([], [only]) => Some(only),
            _ => None,
        }
    }

    /// Adds the values that only AMD's exporter publishes.
    fn exporter_readings(&self, facts: &mut Facts<'_>, metrics: &GpuMetrics, readings: &mut ReadingSet) {
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
            let levels = read_levels(facts, &self.function.attribute(file));
            let min = levels.map(|levels| levels.min_hertz);
            readings.add(AmdQuantity::ClockMinHertz(clock).into(), min);
        }
        readings.add_extra(&metrics.extra);
        if let Some(only) = self.only_partition(metrics) {
            readings.add_extra(&only.extra);
        }
    }
}

/// The file with the used part of the memory: of the pool whose size KFD reports, where that is system memory. It is where the device
/// has no memory of its own (MI300A), whatever share of the system's memory KFD ascribes to each socket.
fn memory_used(facts: &mut Facts<'_>, function: &PciFunction, device: &Device) -> &'static str {
    let mut total = |file: &str| facts.number::<u64>("memory_bytes", &function.attribute(file));
    let is_system_memory = device.memory_source == Known::Value(MemorySource::Kfd) && {
        let shared = total("mem_info_gtt_total");
        total("mem_info_vram_total") == Known::Value(0) || shared.is_known() && shared == device.memory_bytes
    };
    if is_system_memory { "mem_info_gtt_used" } else { "mem_info_vram_used" }
}

/// What a die without a power limit of its own has no value of.
const POWER: [Quantity; 3] = [Quantity::PowerWatts, Quantity::PowerLimitWatts, Quantity::EnergyJoules];

/// The clocks that have a file of levels.
const CLOCKS: [(Clock, &str); 3] =
    [(Clock::Compute, "pp_dpm_sclk"), (Clock::Memory, "pp_dpm_mclk"), (Clock::Soc, "pp_dpm_socclk")];
