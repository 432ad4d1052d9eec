//! XPU Manager 2.x: `hw_*`, by the semantic conventions of OpenTelemetry.

use afd_model::{Direction, HealthState, IntelComponent, IntelValue, Missing};

use super::{ComponentList, component_readings, own_readings, tile};
use crate::compat::metrics::{
    CompatFamily, ExporterUnit, LeftOutFamilies, MetricSet, SeriesOrder, SharedUnits, UnitLabel, UnitSeries,
    compat_families, whole_units,
};

pub(crate) const XPUMD: MetricSet = MetricSet {
    exporter: "XPU Manager 2.x (xpumd)",
    page: "xpumd",
    always_served: false,
    notes: "A series is of one component, by `hw_name`; `com_intel_subdevice_id` is its tile, empty for the whole GPU.",
    units: whole_units,
    unit_labels: &[UnitLabel { name: "pci_bdf", value: |unit| Some(unit.device.id.to_string()) }],
    holder_labels: &[],
    tables: &[FAMILIES],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByUnit,
    left_out: &[
        LeftOutFamilies {
            names: &["hw_frequency_samples"],
            reason: "There is no source: it counts XPU Manager's own samples.",
        },
        LeftOutFamilies {
            names: &["hw_memory_free_bytes"],
            reason: "There is no source: the exporter publishes it only where the size is not known, and then AFD has neither.",
        },
    ],
    differences: &[
        "A value that was not read is an absent series.",
        "`hw_power_limit_watts` is in watts; the exporter publishes a number that is a million times too great.",
        "Power above 2000 W is published, and errors are published at 0, so that their first increase is seen.",
        "`hw_status` has the states of memory and of the PCIe link from the beginning; the exporter publishes issues from when they \
         first occur. Of the GPU it has `ok` and `reset_needed`, and none while AFD does not know the health. It has no series of the \
         types `frequency` and `temperature`, nor the other states of the GPU: throttling is `hw_frequency_throttle_status`.",
        "`hw_memory_ecc` is `available`, `unavailable` or, where it was not read, `unknown`; never `configurable`.",
        "`hw_frequency_hertz` has the aggregation `avg` alone, and `hw_temperature_celsius` the statistic `max`: they are the last \
         sample.",
        "`hw_id` is the PCI address with `hw_name`; the exporter makes it of a UUID that is the same on every node.",
        "`hw_model` is the product by AFD's table, `hw_memory_demand_paging` is empty.",
        "Names of rates and limits have the suffix that OpenTelemetry's conventions give for bytes per second.",
        "`otel_scope_*` labels are left out.",
        "Where Level Zero does not report the memory, it is that of each tile by the driver, which does not report the type: \
         `hw_memory_type` is empty.",
    ],
};

/// The labels that every series has: `hw_id`, `hw_name`, `com_intel_subdevice_id`.
fn labels(unit: &ExporterUnit<'_>, name: String, of_tile: Option<u32>, own: &[&str]) -> Vec<String> {
    let own = own.iter().map(|label| (*label).to_owned());
    [format!("{}/{name}", unit.device.id), name, tile(of_tile)].into_iter().chain(own).collect()
}

/// The series of the components of a kind: the beginning of their names, and their own labels.
fn series<'s>(
    unit: &'s ExporterUnit<'_>,
    (list, name): (ComponentList, &str),
    own: impl Fn(&'s IntelComponent, IntelValue) -> Option<Vec<&'s str>>,
) -> UnitSeries {
    let readings = component_readings(unit, list, |_| true);
    let of_reading = |reading: &super::ComponentReading<'s>| {
        let own = own(reading.component, reading.value)?;
        let name = match name {
            "engine" => format!("engine-{}-{}", reading.index, reading.component.kind.replace('_', "-")),
            name => format!("{name}-{}", reading.index),
        };
        Some((labels(unit, name, reading.component.tile, &own), reading.number))
    };
    readings.iter().filter_map(of_reading).collect()
}

const ENGINES: (ComponentList, &str) = (|facts| &facts.engines, "engine");
const MEMORY: (ComponentList, &str) = (|facts| &facts.memory_modules, "mem");
const POWER: (ComponentList, &str) = (|facts| &facts.power_domains, "power");
const SENSORS: (ComponentList, &str) = (|facts| &facts.sensors, "temp");
const FREQUENCIES: (ComponentList, &str) = (|facts| &facts.frequency_domains, "freq");
const ERRORS: (ComponentList, &str) = (|facts| &facts.error_sets, "errorset");

fn info(unit: &ExporterUnit<'_>) -> UnitSeries {
    let device = unit.device;
    let Some(facts) = device.intel() else { return Vec::new() };
    let firmware = facts.firmware.iter().enumerate().map(|(index, image)| {
        let version: String = image
            .version
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c.to_string()
                } else {
                    format!("%{:02X}", u32::from(c))
                }
            })
            .collect();
        format!("{index}:{}:{}:{version}", image.name, tile(image.tile))
    });
    let id = |id: Option<&afd_model::PciId>| id.map(|id| format!("0x{id}")).unwrap_or_default();
    let generation =
        device.pci.max_link.transfers_per_second.value().and_then(|transfers| generation(*transfers));
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let own = [
        id(device.pci.vendor_id.value()),
        id(device.pci.device_id.value()),
        device.product_name().unwrap_or_default().to_owned(),
        device.serial.value().cloned().unwrap_or_default(),
        "Intel(R) Corporation".to_owned(),
        firmware.collect::<Vec<_>>().join(","),
        if device.integrated { "integrated" } else { "discrete" }.to_owned(),
        number(facts.tiles.value().copied()),
        number(device.pci.max_link.width.value().copied()),
        number(generation),
        String::new(),
        match facts.ecc_enabled.missing() {
            None => "available",
            Some(Missing::NotAvailable) => "unavailable",
            Some(_) => "unknown",
        }
        .to_owned(),
    ];
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    vec![(labels(unit, format!("gpu-{}", unit.number), None, &own), 1.0)]
}

/// The generation of PCIe with this many transfers per second.
fn generation(transfers: u64) -> Option<u32> {
    let rates = [2_500_000_000, 5_000_000_000, 8_000_000_000, 16_000_000_000, 32_000_000_000, 64_000_000_000];
    (1..).zip(rates).find(|(_, rate)| *rate == transfers).map(|(generation, _)| generation)
}

fn power_limits(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, POWER, |domain, value| match value {
        IntelValue::PowerLimit { level, source } => Some(vec![domain.kind.as_str(), level, source]),
        _ => None,
    })
}

/// Sensors of the minimum have the location of the others.
fn temperatures(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, SENSORS, |sensor, value| {
        (value == IntelValue::Temperature).then(|| match sensor.kind.strip_suffix("_min") {
            Some(location) => vec![location, "min"],
            None => vec![sensor.kind.as_str(), "max"],
        })
    })
}

fn frequency_limits(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, FREQUENCIES, |domain, value| match value {
        IntelValue::FrequencyMin => Some(vec![domain.kind.as_str(), "min"]),
        IntelValue::FrequencyMax => Some(vec![domain.kind.as_str(), "max"]),
        _ => None,
    })
}

fn throttled(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, FREQUENCIES, |domain, value| match value {
        IntelValue::Throttled(reason) => Some(vec![domain.kind.as_str(), reason]),
        _ => None,
    })
}

fn engines(unit: &ExporterUnit<'_>) -> UnitSeries {
    let tasks: Vec<String> = unit
        .device
        .intel()
        .map(|facts| facts.engines.iter().map(|engine| engine.kind.replace('_', "-")).collect())
        .unwrap_or_default();
    let readings = component_readings(unit, ENGINES.0, |value| value == IntelValue::EngineRatio);
    let of_reading = |reading: &super::ComponentReading<'_>| {
        let task = tasks.get(reading.index)?;
        let name = format!("engine-{}-{task}", reading.index);
        Some((labels(unit, name, reading.component.tile, &[task]), reading.number))
    };
    readings.iter().filter_map(of_reading).collect()
}

fn location(module: &IntelComponent) -> &'static str {
    if module.is_of_system { "system" } else { "device" }
}

/// The values of one quantity of memory modules.
fn memory(unit: &ExporterUnit<'_>, wanted: IntelValue) -> UnitSeries {
    series(unit, MEMORY, |module, value| {
        (value == wanted).then(|| vec![location(module), module.kind.as_str()])
    })
}

fn memory_utilization(unit: &ExporterUnit<'_>) -> UnitSeries {
    let sizes = memory(unit, IntelValue::MemorySize);
    let used = memory(unit, IntelValue::MemoryUsed).into_iter();
    let ratio = |(labels, used): (Vec<String>, f64)| {
        let (_, size) = sizes.iter().find(|(known, size)| *known == labels && *size > 0.0)?;
        Some((labels, used / size))
    };
    used.filter_map(ratio).collect()
}

fn memory_bytes(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, MEMORY, |module, value| match value {
        IntelValue::MemoryBytes(direction) => {
            Some(vec![location(module), module.kind.as_str(), name_of(direction)])
        }
        _ => None,
    })
}

/// The rate in both directions.
fn memory_rate(unit: &ExporterUnit<'_>) -> UnitSeries {
    let of = |direction| memory(unit, IntelValue::MemoryBytesPerSecond(direction));
    let (read, written) = (of(Direction::Receive), of(Direction::Transmit));
    let sum = |(labels, read): (Vec<String>, f64)| {
        let (_, written) = written.iter().find(|(known, _)| *known == labels)?;
        Some((labels, read + written))
    };
    read.into_iter().filter_map(sum).collect()
}

fn name_of(direction: Direction) -> &'static str {
    direction.as_str()
}

fn pci_name(unit: &ExporterUnit<'_>) -> String {
    format!("gpu-{}-pci", unit.number)
}

fn pcie_bytes(unit: &ExporterUnit<'_>) -> UnitSeries {
    let bytes = own_readings(unit, |value| match value {
        IntelValue::PcieBytes(direction) => Some(direction),
        _ => None,
    });
    let of_direction = |(_, direction, bytes): (usize, Direction, f64)| {
        (labels(unit, pci_name(unit), None, &[name_of(direction)]), bytes)
    };
    bytes.into_iter().map(of_direction).collect()
}

/// The rate in both directions, bytes per second.
fn pcie_rate(unit: &ExporterUnit<'_>) -> UnitSeries {
    use afd_model::Quantity::PcieBytesPerSecond;
    let rate = |direction| unit.value(PcieBytesPerSecond(direction), 1.0);
    let sum = rate(Direction::Receive).zip(rate(Direction::Transmit)).map(|(a, b)| a + b);
    sum.map(|sum| (labels(unit, pci_name(unit), None, &[]), sum)).into_iter().collect()
}

/// Bytes per second that the link can transfer in one direction: by the rate of a lane, its encoding and the lanes.
fn pcie_limit(unit: &ExporterUnit<'_>) -> Option<f64> {
    let link = unit.device.pci.link;
    let (transfers, width) = (link.transfers_per_second.value()?, link.width.value()?);
    let share = if *transfers <= 5_000_000_000 { 8.0 / 10.0 } else { 128.0 / 130.0 };
    Some(*transfers as f64 * f64::from(*width) * share / 8.0)
}

fn pcie_limit_series(unit: &ExporterUnit<'_>) -> UnitSeries {
    let limit = pcie_limit(unit).filter(|_| unit.device.intel().is_some());
    limit.map(|limit| (labels(unit, pci_name(unit), None, &[]), limit)).into_iter().collect()
}

/// The share of both directions together.
fn pcie_utilization(unit: &ExporterUnit<'_>) -> UnitSeries {
    let Some(limit) = pcie_limit(unit).filter(|limit| *limit > 0.0) else { return Vec::new() };
    pcie_rate(unit).into_iter().map(|(labels, rate)| (labels, (rate / 2.0 / limit).min(1.0))).collect()
}

fn errors(unit: &ExporterUnit<'_>) -> UnitSeries {
    series(unit, ERRORS, |set, value| match value {
        IntelValue::RasErrors(category) => {
            let hardware = match category {
                "memory" => "memory",
                "pcie" => "pci_link",
                _ => "gpu",
            };
            Some(vec![hardware, set.kind.as_str(), category])
        }
        _ => None,
    })
}

/// The reasons of a device's health that a reset ends.
const NEED_RESET: [&str; 3] = ["Wedged", "NeedsReset", "RepairPending"];

fn status(unit: &ExporterUnit<'_>) -> UnitSeries {
    let mut all = series(unit, MEMORY, |_, value| match value {
        IntelValue::MemoryHealth(state) => Some(vec!["memory", state]),
        _ => None,
    });
    let link = own_readings(unit, |value| match value {
        IntelValue::PcieState(state) => Some(state),
        _ => None,
    });
    all.extend(
        link.into_iter()
            .map(|(_, state, set)| (labels(unit, pci_name(unit), None, &["pci_link", state]), set)),
    );
    let health = &unit.device.health;
    if unit.device.intel().is_some() && health.state != HealthState::Unknown {
        let needs_reset = health.reasons.iter().any(|reason| NEED_RESET.contains(&reason.code.as_str()));
        for (state, is_set) in [("ok", health.state == HealthState::Healthy), ("reset_needed", needs_reset)] {
            let labels = labels(unit, format!("gpu-{}", unit.number), None, &["gpu", state]);
            all.push((labels, f64::from(u8::from(is_set))));
        }
    }
    all
}

const FAMILIES: &[CompatFamily] = compat_families! {
    Gauge "hw_gpu_info",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "pci_vendor_id", "pci_device_id", "hw_model", "hw_serial_number",
         "hw_vendor", "hw_firmware_version", "hw_gpu_type", "com_intel_subdevice_count", "pci_lanes", "pci_link_gen",
         "hw_memory_demand_paging", "hw_memory_ecc"],
        "The GPU; always 1.", info;
    Counter "hw_energy_joules_total", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_sensor_location"], "Energy, J.",
        |unit| series(unit, POWER, |domain, value| (value == IntelValue::Energy).then(|| vec![domain.kind.as_str()]));
    Gauge "hw_power_watts", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_sensor_location"], "Power, W.",
        |unit| series(unit, POWER, |domain, value| (value == IntelValue::Power).then(|| vec![domain.kind.as_str()]));
    Gauge "hw_power_limit_watts",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_sensor_location", "com_intel_power_limit_level",
         "com_intel_power_limit_source"],
        "Power limit, W.", power_limits;
    Gauge "hw_temperature_celsius", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_sensor_location", "statistic"],
        "Temperature, degrees Celsius.", temperatures;
    Gauge "hw_frequency_hertz", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_frequency_domain", "aggregation"],
        "Clock, Hz.",
        |unit| series(unit, FREQUENCIES, |domain, value| (value == IntelValue::Frequency).then(|| vec![domain.kind.as_str(), "avg"]));
    Gauge "hw_frequency_limit_hertz", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_frequency_domain", "hw_limit_type"],
        "Limits of the clock, Hz.", frequency_limits;
    Gauge "hw_frequency_request_hertz", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_frequency_domain"],
        "Clock that is requested, Hz.",
        |unit| series(unit, FREQUENCIES, |domain, value| (value == IntelValue::FrequencyRequest).then(|| vec![domain.kind.as_str()]));
    Gauge "hw_frequency_throttle_status",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_frequency_domain", "com_intel_speed_throttle_reason"],
        "1 while the clock is throttled for a reason.", throttled;
    Gauge "hw_gpu_utilization_ratio", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_gpu_task"],
        "Share of the time in which engines were busy, 0 to 1.", engines;
    Counter "hw_gpu_io_bytes_total", ["hw_id", "hw_name", "com_intel_subdevice_id", "network_io_direction"], "Bytes over PCIe.",
        pcie_bytes;
    Gauge "hw_gpu_io_rate_bytes_per_second", ["hw_id", "hw_name", "com_intel_subdevice_id"],
        "Bytes per second over PCIe, both directions.", pcie_rate;
    Gauge "hw_gpu_bandwidth_limit_bytes_per_second", ["hw_id", "hw_name", "com_intel_subdevice_id"],
        "Bytes per second that the PCIe link can transfer in a direction.", pcie_limit_series;
    Gauge "hw_gpu_bandwidth_utilization_ratio", ["hw_id", "hw_name", "com_intel_subdevice_id"],
        "Share of the bandwidth of PCIe in use, 0 to 1.", pcie_utilization;
    Gauge "hw_memory_size_bytes", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Size of a memory module.", |unit| memory(unit, IntelValue::MemorySize);
    Gauge "hw_memory_usage_bytes", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Memory in use.", |unit| memory(unit, IntelValue::MemoryUsed);
    Gauge "hw_memory_utilization_ratio", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Share of the memory in use, 0 to 1.", memory_utilization;
    Counter "hw_memory_io_bytes_total",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type", "network_io_direction"],
        "Bytes read (receive) and written (transmit).", memory_bytes;
    Gauge "hw_memory_io_rate_bytes_per_second",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Bytes per second read and written.", memory_rate;
    Gauge "hw_memory_bandwidth_limit_bytes_per_second",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Greatest bandwidth of a memory module, bytes per second.", |unit| memory(unit, IntelValue::MemoryBandwidthLimit);
    Gauge "hw_memory_bandwidth_utilization_ratio",
        ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_memory_location", "hw_memory_type"],
        "Share of the bandwidth in use, 0 to 1.", |unit| memory(unit, IntelValue::MemoryBandwidthRatio);
    Counter "hw_errors_total", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_type", "error_type", "error_category"],
        "Errors.", errors;
    Gauge "hw_status", ["hw_id", "hw_name", "com_intel_subdevice_id", "hw_type", "hw_state"],
        "1 if a component is in a state.", status;
};
