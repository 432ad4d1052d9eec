//! What moves: amdgpu's attributes, its hwmon, error counters, clocks and the table `gpu_metrics`.
//!
//! `pcie_bw` is never read: the driver measures for a second before it answers. A device that sleeps is not asked at
//! all: it would have to be woken, or the driver answers EPERM, which says nothing about permission.

use afd_model::{
    Clock, Device, DeviceId, Direction, Engine, ErrorKind, HandleKind, Known, LinkCounter, Missing, Quantity,
    Reading, Sample, Sensor,
};
use afd_probe::{Facts, PciFunction, hwmon, pci};

use crate::{gpu_metrics, gpu_metrics::GpuMetrics, kfd};

/// Where a device is sampled.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    function: PciFunction,
    device: DeviceId,
    link: PciFunction,
    sensors: Vec<String>,
    ras_blocks: Vec<(&'static str, String)>,
    /// Joules for each count of an energy counter whose unit is the part's.
    joules_per_count: Option<f64>,
    /// Names of the partitions, and the file that tells the memory used of each.
    partitions: Vec<(String, String)>,
}

/// Blocks with error counters (`amdgpu_ras.c`, `ras_block_string`).
const RAS_BLOCKS: [&str; 19] = [
    "umc",
    "sdma",
    "gfx",
    "mmhub",
    "athub",
    "pcie_bif",
    "hdp",
    "xgmi_wafl",
    "df",
    "smn",
    "sem",
    "mp0",
    "mp1",
    "fuse",
    "mca",
    "vcn",
    "jpeg",
    "ih",
    "mpio",
];

impl Place {
    pub(crate) fn of(
        facts: &mut Facts<'_>,
        function: &PciFunction,
        link: &PciFunction,
        device: &Device,
    ) -> Place {
        let directories = hwmon::directories(facts, function);
        let ras = function.attribute("ras");
        let present = facts.names("errors", &ras);
        let ras_blocks = RAS_BLOCKS
            .into_iter()
            .map(|block| (block, format!("{block}_err_count")))
            .filter(|(_, file)| present.contains(file))
            .map(|(block, file)| (block, format!("{ras}/{file}")))
            .collect();
        let partitions = device.partitions.iter().filter_map(|partition| {
            let node = partition.handles.iter().find(|handle| handle.kind == HandleKind::KfdNode)?;
            Some((partition.name.clone(), kfd::used_memory_path(&node.value)))
        });
        // The unit of revision 1.3 is that of 1.4 on Aldebaran; on Radeon parts it is another one.
        let is_aldebaran = device.compute.value().is_some_and(|compute| compute == "gfx90a");
        Place {
            function: function.clone(),
            device: device.id,
            link: link.clone(),
            joules_per_count: is_aldebaran.then_some(gpu_metrics::JOULES_PER_COUNT),
            partitions: partitions.collect(),
            sensors: directories
                .into_iter()
                .filter(|(_, name)| name == "amdgpu")
                .map(|(directory, _)| directory)
                .collect(),
            ras_blocks,
        }
    }

    /// A sample of the device and one of each partition; none of a device that sleeps.
    pub(crate) fn sample(&self, facts: &mut Facts<'_>) -> Vec<Sample> {
        facts.about(Some(self.device));
        let runtime = facts.text("power_state", &self.function.attribute("power/runtime_status"));
        if runtime.value().is_some_and(|status| status == "suspended") {
            return Vec::new();
        }
        let mut samples =
            vec![Sample { device: self.device, partition: None, readings: self.readings(facts) }];
        for (name, path) in &self.partitions {
            let used = number(facts, "memory_used_bytes", path);
            let reading = used.map(|value| Reading { quantity: Quantity::MemoryUsedBytes, value });
            samples.push(Sample {
                device: self.device,
                partition: Some(name.clone()),
                readings: reading.into_iter().collect(),
            });
        }
        samples.retain(|sample| !sample.readings.is_empty());
        samples
    }

    /// All that can be read now, one reading for each quantity: what a file of its own tells goes before the table
    /// `gpu_metrics`.
    fn readings(&self, facts: &mut Facts<'_>) -> Vec<Reading> {
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
        for (clock, file) in
            [(Clock::Compute, "pp_dpm_sclk"), (Clock::Memory, "pp_dpm_mclk"), (Clock::Soc, "pp_dpm_socclk")]
        {
            let levels = facts.parse("clocks", &at(file), parse_levels).into_value();
            readings.add(Quantity::ClockMaxHertz(clock), levels.map(|levels| levels.max_hertz));
            readings.add(Quantity::ClockHertz(clock), levels.and_then(|levels| levels.current_hertz));
        }
        for (block, path) in &self.ras_blocks {
            let counts =
                facts.parse_known("errors", path, parse_error_counts).into_value().unwrap_or_default();
            for (kind, count) in [
                (ErrorKind::EccUncorrectable, counts.uncorrectable),
                (ErrorKind::EccCorrectable, counts.correctable),
                (ErrorKind::EccDeferred, counts.deferred),
            ] {
                readings.add(Quantity::Errors(kind, block), count.map(|count| count as f64));
            }
        }
        let replays = number(facts, "errors", &at("pcie_replay_count"));
        readings.add(Quantity::Errors(ErrorKind::PcieReplay, ""), replays);
        for reading in pci::link_readings(facts, &self.link) {
            readings.add(reading.quantity, Some(reading.value));
        }
        let path = at("gpu_metrics");
        if let Known::Value(bytes) = facts.bytes("gpu_metrics", &path) {
            match gpu_metrics::parse(&bytes) {
                Ok(metrics) => table(&metrics, self.joules_per_count, &mut readings),
                Err(error) => {
                    let _: Known<()> = facts.missing("gpu_metrics", Missing::Malformed, Some(&path), error);
                }
            }
        }
        readings.0
    }
}

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
}

fn number(facts: &mut Facts<'_>, fact: &str, path: &str) -> Option<f64> {
    facts.number::<u64>(fact, path).into_value().map(|value| value as f64)
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

fn table(metrics: &GpuMetrics, joules_per_count: Option<f64>, readings: &mut Readings) {
    readings.add(Quantity::TemperatureCelsius(Sensor::Junction), metrics.hotspot_celsius);
    readings.add(Quantity::TemperatureCelsius(Sensor::Memory), metrics.memory_celsius);
    readings.add(Quantity::TemperatureCelsius(Sensor::Vrsoc), metrics.vrsoc_celsius);
    readings.add(Quantity::PowerWatts, metrics.socket_watts);
    readings.add(Quantity::Utilization(Engine::Compute), metrics.gfx_ratio);
    readings.add(Quantity::Utilization(Engine::Memory), metrics.umc_ratio);
    let by_part = metrics.energy_count.zip(joules_per_count).map(|(count, joules)| count as f64 * joules);
    readings.add(Quantity::EnergyJoules, metrics.energy_joules.or(by_part));
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Receive), metrics.xgmi_read_bytes);
    readings.add(Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Transmit), metrics.xgmi_write_bytes);
}

/// What `pp_dpm_sclk` and its kin tell.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Levels {
    max_hertz: f64,
    current_hertz: Option<f64>,
}

/// Lines such as `1: 2100Mhz *`; the star marks the current level, `S:` is deep sleep.
fn parse_levels(text: &str) -> Result<Levels, &'static str> {
    const WRONG: &str = "no levels such as \"1: 2100Mhz *\"";
    let mut levels = Levels { max_hertz: 0.0, current_hertz: None };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (_, level) = line.split_once(':').ok_or(WRONG)?;
        let (number, rest) = level.trim().split_once("Mhz").ok_or(WRONG)?;
        let hertz = number.parse::<u32>().map_err(|_| WRONG)? as f64 * 1e6;
        levels.max_hertz = levels.max_hertz.max(hertz);
        if rest.contains('*') {
            levels.current_hertz = Some(hertz);
        }
    }
    if levels.max_hertz > 0.0 { Ok(levels) } else { Err(WRONG) }
}

/// Error counts of one block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct ErrorCounts {
    uncorrectable: Option<u64>,
    correctable: Option<u64>,
    deferred: Option<u64>,
}

/// Lines `ue: 0`, `ce: 3` and, on newer kernels, `de: 0`; or `Query currently inaccessible`.
fn parse_error_counts(text: &str) -> Result<Known<ErrorCounts>, &'static str> {
    if text.contains("inaccessible") {
        return Ok(Missing::NotAvailable.into());
    }
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok())
    };
    let counts = ErrorCounts { uncorrectable: count("ue"), correctable: count("ce"), deferred: count("de") };
    if counts == ErrorCounts::default() {
        Err("no counts such as \"ue: 0\"")
    } else {
        Ok(Known::Value(counts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_of_clocks() {
        let levels = parse_levels("S: 132Mhz *\n0: 500Mhz\n1: 2100Mhz\n").expect("the lines are right");
        assert_eq!(levels, Levels { max_hertz: 2.1e9, current_hertz: Some(1.32e8) });
        assert!(parse_levels("0: fast").is_err());
    }

    #[test]
    fn counts_of_errors() {
        let counts = parse_error_counts("ue: 0\nce: 3\n").expect("the lines are right");
        let told = ErrorCounts { uncorrectable: Some(0), correctable: Some(3), deferred: None };
        assert_eq!(counts, Known::Value(told));
        assert_eq!(
            parse_error_counts("Query currently inaccessible").map(|known| known.is_known()),
            Ok(false)
        );
        assert!(parse_error_counts("nonsense").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_levels(&text);
            let _ = parse_error_counts(&text);
        }
    }
}
