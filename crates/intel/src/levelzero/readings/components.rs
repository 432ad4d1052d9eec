//! The readings of each component, for the names of Intel's own exporters.

use afd_model::{Direction, IntelQuantity, IntelValue, Reading};
use serde_json_borrow::Value;

use super::{
    device::{bandwidth_share, celsius, joules, limit_watts, pcie_counters, ras, share, watts},
    reading,
};
use crate::drm;
use crate::levelzero::{
    calls::{
        ENGINE_ACTIVITY, ENGINE_PROPERTIES, FREQUENCY_PROPERTIES, FREQUENCY_RANGE, FREQUENCY_STATE,
        MEMORY_BANDWIDTH, MEMORY_PROPERTIES, MEMORY_STATE, PCI_STATE, PORT_PROPERTIES, PORT_STATE,
        PORT_THROUGHPUT, POWER_ENERGY, POWER_LIMITS, POWER_PROPERTIES, TEMPERATURE, TEMPERATURE_PROPERTIES,
    },
    parts::{BYTE_COUNTERS, POWER_LEVELS, POWER_SOURCES, SampledComponent, SampledDevice, THROTTLE_REASONS},
};

const MEMORY_HEALTH: [&str; 5] = ["unknown", "ok", "degraded", "critical", "replace"];
/// `zes_pci_link_qual_issue_flags_t` and `zes_pci_link_stab_issue_flags_t`.
const PCIE_ISSUES: [(&str, u64, &str); 3] = [
    ("qualityIssues", 1 << 0, "replays_issue"),
    ("qualityIssues", 1 << 1, "speed_issue"),
    ("stabilityIssues", 1 << 0, "retraining_issue"),
];
/// `ZES_FABRIC_PORT_STATUS_HEALTHY` and `_DEGRADED`.
const UP: [u64; 2] = [1, 2];

/// The readings of the components of a device.
pub(super) fn readings(device: &SampledDevice<'_>) -> Vec<Reading> {
    let mut readings = ComponentReadings(Vec::new());
    for group in device.components(ENGINE_PROPERTIES, ENGINE_ACTIVITY) {
        readings.add(&group, IntelValue::EngineRatio, group.rate("activeTime").and_then(share));
    }
    memory(device, &mut readings);
    power(device, &mut readings);
    for sensor in device.components(TEMPERATURE_PROPERTIES, TEMPERATURE) {
        readings.add(&sensor, IntelValue::Temperature, celsius(&sensor));
    }
    frequencies(device, &mut readings);
    for (set, category, count) in ras(device) {
        readings.add(&set, IntelValue::RasErrors(category), Some(count));
    }
    ports(device, &mut readings);
    pcie(device, &mut readings);
    readings.0
}

struct ComponentReadings(Vec<Reading>);

impl ComponentReadings {
    fn add(&mut self, component: &SampledComponent<'_>, value: IntelValue, number: Option<f64>) {
        self.put(component.index, value, number);
    }

    fn put(&mut self, component: u8, value: IntelValue, number: Option<f64>) {
        self.0.extend(number.map(|number| reading(IntelQuantity { value, component }, number)));
    }
}

fn memory(device: &SampledDevice<'_>, readings: &mut ComponentReadings) {
    let modules = device.components(MEMORY_PROPERTIES, MEMORY_STATE);
    let used = |module: &SampledComponent<'_>| Some(module.number("size")? - module.number("free")?);
    // All free is what a reader without privilege sees; of several modules one may be unused.
    let location = |module: &SampledComponent<'_>| module.properties.get("location").as_u64();
    let is_shown = |of: Option<u64>| {
        modules.iter().filter(|module| location(module) == of).filter_map(used).any(|used| used > 0.0)
    };
    for module in &modules {
        readings.add(module, IntelValue::MemorySize, module.number("size").filter(|size| *size > 0.0));
        let used = used(module).filter(|used| *used >= 0.0 && is_shown(location(module)));
        readings.add(module, IntelValue::MemoryUsed, used);
        let health = module.now.get("health").as_u64().and_then(|number| usize::try_from(number).ok());
        for (number, name) in MEMORY_HEALTH.into_iter().enumerate() {
            let state = health.map(|health| f64::from(u8::from(health == number)));
            readings.add(module, IntelValue::MemoryHealth(name), state);
        }
    }
    if modules.is_empty() {
        let tiles = drm::tiles(device.now);
        let is_shown = tiles.iter().any(|(size, free)| free < size);
        for (index, (size, free)) in (0..=u8::MAX).zip(tiles) {
            readings.put(index, IntelValue::MemorySize, Some(size as f64));
            readings.put(index, IntelValue::MemoryUsed, is_shown.then_some((size - free) as f64));
        }
    }
    for module in device.components(MEMORY_PROPERTIES, MEMORY_BANDWIDTH) {
        let counters = [(Direction::Receive, "readCounter"), (Direction::Transmit, "writeCounter")];
        for (direction, field) in counters {
            readings.add(&module, IntelValue::MemoryBytes(direction), module.number(field));
            let rate = module.rate(field).map(|rate| rate * 1e6);
            readings.add(&module, IntelValue::MemoryBytesPerSecond(direction), rate);
        }
        let limit = module.number("maxBandwidth").filter(|limit| *limit > 0.0);
        readings.add(&module, IntelValue::MemoryBandwidthLimit, limit);
        readings.add(&module, IntelValue::MemoryBandwidthRatio, bandwidth_share(&module));
    }
}

fn power(device: &SampledDevice<'_>, readings: &mut ComponentReadings) {
    for domain in device.components(POWER_PROPERTIES, POWER_ENERGY) {
        readings.add(&domain, IntelValue::Energy, joules(&domain));
        readings.add(&domain, IntelValue::Power, watts(&domain));
    }
    for domain in device.components(POWER_PROPERTIES, POWER_LIMITS) {
        let name = |names: &[&'static str], number: &Value<'_>| {
            names.get(usize::try_from(number.as_u64()?).ok()?).copied()
        };
        for limit in domain.now.as_array().into_iter().flatten() {
            let names =
                name(&POWER_LEVELS, limit.get("level")).zip(name(&POWER_SOURCES, limit.get("source")));
            if let Some((level, source)) = names {
                readings.add(&domain, IntelValue::PowerLimit { level, source }, limit_watts(limit));
            }
        }
    }
}

fn frequencies(device: &SampledDevice<'_>, readings: &mut ComponentReadings) {
    // A negative number is unknown.
    let hertz = |megahertz: Option<f64>| megahertz.filter(|value| *value >= 0.0).map(|value| value * 1e6);
    for domain in device.components(FREQUENCY_PROPERTIES, FREQUENCY_STATE) {
        readings.add(&domain, IntelValue::Frequency, hertz(domain.number("actual")));
        readings.add(&domain, IntelValue::FrequencyRequest, hertz(domain.number("request")));
        for (bit, reason) in THROTTLE_REASONS.into_iter().enumerate() {
            let is_set = domain.now.get("throttleReasons").as_u64().map(|bits| bits >> bit & 1 == 1);
            readings.add(&domain, IntelValue::Throttled(reason), is_set.map(|set| f64::from(u8::from(set))));
        }
    }
    for domain in device.components(FREQUENCY_PROPERTIES, FREQUENCY_RANGE) {
        readings.add(&domain, IntelValue::FrequencyMin, hertz(domain.number("min")));
        readings.add(&domain, IntelValue::FrequencyMax, hertz(domain.number("max")));
    }
}

/// 1 if a port with this state is up, else 0; none where its state is unknown.
pub(super) fn is_port_up(port: &SampledComponent<'_>) -> Option<f64> {
    let status = port.now.get("status").as_u64().filter(|status| *status != 0)?;
    Some(f64::from(u8::from(UP.contains(&status))))
}

fn ports(device: &SampledDevice<'_>, readings: &mut ComponentReadings) {
    for port in device.components(PORT_PROPERTIES, PORT_STATE) {
        readings.add(&port, IntelValue::PortUp, is_port_up(&port));
    }
    for port in device.components(PORT_PROPERTIES, PORT_THROUGHPUT) {
        for (direction, field) in BYTE_COUNTERS {
            readings.add(&port, IntelValue::PortBytes(direction), port.number(field));
            let rate = port.rate(field).map(|rate| rate * 1e6);
            readings.add(&port, IntelValue::PortBytesPerSecond(direction), rate);
        }
    }
}

fn pcie(device: &SampledDevice<'_>, readings: &mut ComponentReadings) {
    if let Some(stats) = pcie_counters(device, "haveBandwidthCounters") {
        for (direction, field) in BYTE_COUNTERS {
            readings.put(0, IntelValue::PcieBytes(direction), stats.get(field).as_f64());
        }
    }
    let Some(state) = device.now.known::<Value>(PCI_STATE).into_value() else { return };
    // 0 is unknown.
    let Some(status) = state.get("status").as_u64().filter(|status| *status != 0) else { return };
    let flag = |set: bool| Some(f64::from(u8::from(set)));
    readings.put(0, IntelValue::PcieState("ok"), flag(status == 1));
    for (field, bit, name) in PCIE_ISSUES {
        let is_set = state.get(field).as_u64().is_some_and(|bits| bits & bit != 0);
        readings.put(0, IntelValue::PcieState(name), flag(is_set));
    }
}
