//! What amdgpu tells in the directory of the PCI function (`Documentation/gpu/amdgpu/`), static facts and moving values.
//!
//! Every attribute is optional: which ones exist depends on the part, on the kernel, and on whether the device is a
//! virtual function. `pcie_bw` is never read: the driver measures for a second before it answers.

use afd_model::{Clock, Engine, ErrorKind, Known, Missing, Quantity, Reading, Sensor};
use afd_probe::{Facts, PciFunction, hwmon, pci};

use crate::{gpu_metrics, gpu_metrics::GpuMetrics};

/// The static attributes of a device.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) vram_bytes: Known<u64>,
    pub(crate) unique_id: Known<u64>,
    pub(crate) serial: Known<String>,
    pub(crate) product_name: Known<String>,
    pub(crate) vbios: Known<String>,
    pub(crate) compute_mode: Known<String>,
    pub(crate) memory_mode: Known<String>,
    pub(crate) hive_id: Known<u64>,
}

pub(crate) fn attributes(facts: &mut Facts<'_>, function: &PciFunction) -> Attributes {
    let at = |name: &str| function.attribute(name);
    Attributes {
        vram_bytes: facts.number("memory_bytes", &at("mem_info_vram_total")),
        unique_id: facts
            .parse("unique_id", &at("unique_id"), |text| u64::from_str_radix(text, 16))
            .and_then(|id| Known::from_option((id > 0).then_some(id), Missing::NotAvailable)),
        serial: facts.text("serial", &at("serial_number")),
        product_name: facts.text("product", &at("product_name")),
        vbios: facts.text("firmware_version", &at("vbios_version")),
        compute_mode: mode(facts, "partitioning", &at("current_compute_partition")),
        memory_mode: mode(facts, "partitioning.memory", &at("current_memory_partition")),
        hive_id: facts
            .number("link_domain", &at("xgmi_hive_info/xgmi_hive_id"))
            .and_then(|id: u64| Known::from_option((id > 0).then_some(id), Missing::NotAvailable)),
    }
}

/// `SPX` or `NPS1`; `UNKNOWN` where the firmware does not tell.
fn mode(facts: &mut Facts<'_>, fact: &str, path: &str) -> Known<String> {
    facts.text(fact, path).and_then(|text| match text.to_uppercase().as_str() {
        "UNKNOWN" => Missing::NotAvailable.into(),
        mode => Known::Value(mode.to_owned()),
    })
}

/// Where a device is sampled.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    function: PciFunction,
    sensors: Vec<String>,
    ras_blocks: Vec<(&'static str, String)>,
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
    pub(crate) fn of(facts: &mut Facts<'_>, function: &PciFunction) -> Place {
        let directories = hwmon::directories(facts, function);
        let ras = function.attribute("ras");
        let present = facts.names("errors", &ras);
        let ras_blocks = RAS_BLOCKS
            .into_iter()
            .map(|block| (block, format!("{block}_err_count")))
            .filter(|(_, file)| present.contains(file))
            .map(|(block, file)| (block, format!("{ras}/{file}")))
            .collect();
        Place {
            function: function.clone(),
            sensors: directories
                .into_iter()
                .filter(|(_, name)| name == "amdgpu")
                .map(|(directory, _)| directory)
                .collect(),
            ras_blocks,
        }
    }

    /// The PCI function of the device.
    pub(crate) fn function(&self) -> &PciFunction {
        &self.function
    }

    /// All that can be read now, one reading for each quantity: what a file of its own tells goes before the table
    /// `gpu_metrics`.
    pub(crate) fn sample(&self, facts: &mut Facts<'_>) -> Vec<Reading> {
        let mut readings = Readings::default();
        let at = |name: &str| self.function.attribute(name);
        readings
            .add(Quantity::MemoryUsedBytes, number(facts, "memory_used_bytes", &at("mem_info_vram_used")));
        for (engine, file) in [(Engine::Compute, "gpu_busy_percent"), (Engine::Memory, "mem_busy_percent")] {
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
        for reading in pci::link_readings(facts, &self.function) {
            readings.add(reading.quantity, Some(reading.value));
        }
        let path = at("gpu_metrics");
        if let Known::Value(bytes) = facts.bytes("gpu_metrics", &path) {
            match gpu_metrics::parse(&bytes) {
                Ok(metrics) => table(&metrics, &mut readings),
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

fn table(metrics: &GpuMetrics, readings: &mut Readings) {
    use afd_model::{Direction, LinkCounter};
    readings.add(Quantity::TemperatureCelsius(Sensor::Junction), metrics.hotspot_celsius);
    readings.add(Quantity::TemperatureCelsius(Sensor::Memory), metrics.memory_celsius);
    readings.add(Quantity::TemperatureCelsius(Sensor::Vrsoc), metrics.vrsoc_celsius);
    readings.add(Quantity::PowerWatts, metrics.socket_watts);
    readings.add(Quantity::Utilization(Engine::Compute), metrics.gfx_ratio);
    readings.add(Quantity::Utilization(Engine::Memory), metrics.umc_ratio);
    readings.add(Quantity::EnergyJoules, metrics.energy_joules);
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
