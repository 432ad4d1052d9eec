//! The readings of a whole device.

use std::collections::BTreeMap;

use afd_model::{
    Clock, Engine, ErrorDetail, ErrorKind, LinkCounter, Quantity, Reading, Sensor, ThrottleCause,
};
use serde_json_borrow::Value;

use super::{KernelReadings, links::ERROR_COUNTERS, reading};
use crate::levelzero::{
    LevelZeroAnswers,
    calls::{
        ENGINE_ACTIVITY, ENGINE_PROPERTIES, FREQUENCY_PROPERTIES, FREQUENCY_STATE, MEMORY_BANDWIDTH,
        MEMORY_PROPERTIES, MEMORY_STATE, PCI_PROPERTIES, PCI_STATS, PORT_ERRORS, PORT_PROPERTIES,
        PORT_THROUGHPUT, POWER_ENERGY, POWER_LIMITS, POWER_PROPERTIES, RAS_PROPERTIES, RAS_STATE,
        RAS_STATE_EXP, TEMPERATURE, TEMPERATURE_PROPERTIES, THROTTLE_TIME,
    },
    parts::{BYTE_COUNTERS, DEVICE_MEMORY, RAS_CATEGORIES, SampledComponent, SampledDevice, rate, values},
};
use crate::{counters, drm};

/// The groups of engines by which an engine is known, preferred first (`zes_engine_group_t`).
const ENGINE_GROUPS: [(Engine, &[u64]); 5] = [
    // All compute engines; where the device has none of its own, those that compute and render.
    (Engine::Compute, &[1, 11, 4, 5]),
    (Engine::Copy, &[3, 8]),
    (Engine::Media, &[2]),
    (Engine::Decode, &[6]),
    (Engine::Encode, &[7]),
];
const SENSORS: [(u64, Sensor); 4] =
    [(1, Sensor::Gpu), (2, Sensor::Memory), (6, Sensor::Board), (8, Sensor::Regulator)];
const CLOCKS: [(u64, Clock); 3] = [(0, Clock::Compute), (1, Clock::Memory), (2, Clock::Media)];
/// The bits of the throttle reasons. Those of ranges and of the voltage have no cause: a clock that was set is no throttling.
const THROTTLE_BITS: [(ThrottleCause, u64); 4] = [
    (ThrottleCause::Power, 1 << 0 | 1 << 1 | 1 << 9),
    (ThrottleCause::Current, 1 << 2),
    (ThrottleCause::Thermal, 1 << 3 | 1 << 8),
    (ThrottleCause::PowerBrake, 1 << 4),
];
/// `ZES_POWER_LEVEL_SUSTAINED` and `ZES_LIMIT_UNIT_POWER`.
const SUSTAINED: u64 = 1;
const MILLIWATTS: u64 = 2;

/// The readings of a device.
pub(super) fn readings(device: &SampledDevice<'_>, kernel: KernelReadings) -> Vec<Reading> {
    let mut readings = engines(device);
    if !kernel.is_integrated {
        readings.extend(memory(device));
    }
    readings.extend(power(device, kernel.counts_energy));
    readings.extend(temperatures(device));
    readings.extend(clocks(device));
    readings.extend(errors(device));
    readings.extend(pcie(device));
    readings.extend(links(device));
    readings
}

fn engines(device: &SampledDevice<'_>) -> Vec<Reading> {
    let groups = device.all_components(ENGINE_PROPERTIES, ENGINE_ACTIVITY);
    let utilization = |(engine, kinds): (Engine, &[u64])| {
        let group =
            kinds.iter().map(|kind| whole_or_tiles(&groups, *kind)).find(|group| !group.is_empty())?;
        let shares: Option<Vec<f64>> = group.iter().map(|group| share(group.rate("activeTime")?)).collect();
        Some(reading(Quantity::Utilization(engine), mean(&shares?)))
    };
    if !counters::has_activity(device.now) {
        return counters::utilization(device.now);
    }
    ENGINE_GROUPS.into_iter().filter_map(utilization).collect()
}

/// The components of a type for the whole device, else those of its tiles.
fn whole_or_tiles<'c, 'a>(
    components: &'c [SampledComponent<'a>],
    kind: u64,
) -> Vec<&'c SampledComponent<'a>> {
    let of_kind = || components.iter().filter(|component| component.kind() == Some(kind));
    let whole: Vec<_> = of_kind().filter(|component| component.tile().is_none()).collect();
    if whole.is_empty() { of_kind().collect() } else { whole }
}

/// A share of the time: the counters are read one after the other, so that a full one may exceed 1 a little.
pub(crate) fn share(ratio: f64) -> Option<f64> {
    (ratio <= 1.5).then(|| ratio.min(1.0))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn modules<'a>(
    device: &SampledDevice<'a>,
    call: afd_probe::answers::LibraryCall,
) -> Vec<SampledComponent<'a>> {
    let is_own =
        |module: &SampledComponent<'_>| module.properties.get("location").as_u64() == Some(DEVICE_MEMORY);
    device.all_components(MEMORY_PROPERTIES, call).into_iter().filter(is_own).collect()
}

/// The bytes of all modules, and those that are free, by the library, or else by the driver. None if a module did not answer.
fn memory_bytes(device: &SampledDevice<'_>) -> Option<(f64, f64)> {
    let modules = modules(device, MEMORY_STATE);
    if modules.is_empty() {
        return drm::memory_bytes(device.now).map(|(size, free)| (size as f64, free as f64));
    }
    let sum = |field: &str| modules.iter().map(|module| module.number(field)).sum::<Option<f64>>();
    let (size, free) = (sum("size")?, sum("free")?);
    (size > 0.0 && free <= size).then_some((size, free))
}

/// Whether the driver reports all memory as free. It does so to readers without `CAP_PERFMON`; to others it reports at least what
/// it uses itself.
pub(crate) fn is_memory_hidden(answers: &LevelZeroAnswers) -> bool {
    let device = SampledDevice { discovered: answers, now: answers, before: None };
    memory_bytes(&device).is_some_and(|(size, free)| (size - free).abs() < 1.0)
}

fn memory(device: &SampledDevice<'_>) -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Some((size, free)) = memory_bytes(device)
        && free < size
    {
        readings.push(reading(Quantity::MemoryUsedBytes, size - free));
    }
    let modules = modules(device, MEMORY_BANDWIDTH);
    let shares: Option<Vec<f64>> = modules.iter().map(bandwidth_share).collect();
    if let Some(shares) = shares.filter(|shares| !shares.is_empty()) {
        readings.push(reading(Quantity::MemoryBandwidthRatio, mean(&shares)));
    }
    readings
}

/// The share of a module's bandwidth that was used. Timestamps are in microseconds.
pub(super) fn bandwidth_share(module: &SampledComponent<'_>) -> Option<f64> {
    let limit = module.number("maxBandwidth").filter(|limit| *limit > 0.0)?;
    share((module.rate("readCounter")? + module.rate("writeCounter")?) * 1e6 / limit)
}

/// The domain of the card, else of the package, else one of the whole device that the driver does not name.
fn main_domain<'c, 'a>(domains: &'c [SampledComponent<'a>]) -> Option<&'c SampledComponent<'a>> {
    let whole = || domains.iter().filter(|domain| domain.tile().is_none());
    let of_kind = |kind: u64| whole().find(|domain| domain.properties.get("domain").as_u64() == Some(kind));
    of_kind(1).or_else(|| of_kind(2)).or_else(|| of_kind(0))
}

fn power(device: &SampledDevice<'_>, kernel_counts: bool) -> Vec<Reading> {
    let mut readings = Vec::new();
    let domains = device.components(POWER_PROPERTIES, POWER_ENERGY);
    if let Some(domain) = main_domain(&domains).filter(|_| !kernel_counts) {
        readings.extend(joules(domain).map(|joules| reading(Quantity::EnergyJoules, joules)));
        readings.extend(watts(domain).map(|watts| reading(Quantity::PowerWatts, watts)));
    }
    let domains = device.components(POWER_PROPERTIES, POWER_LIMITS);
    let limits = main_domain(&domains).and_then(|domain| domain.now.as_array());
    let sustained =
        limits.into_iter().flatten().filter(|limit| limit.get("level").as_u64() == Some(SUSTAINED));
    if let Some(watts) = sustained.filter_map(limit_watts).next() {
        readings.push(reading(Quantity::PowerLimitWatts, watts));
    }
    readings
}

/// The energy of a domain. 0 is what one reports that does not count.
pub(super) fn joules(domain: &SampledComponent<'_>) -> Option<f64> {
    domain.number("energy").filter(|microjoules| *microjoules > 0.0).map(|microjoules| microjoules / 1e6)
}

/// The power of a domain that counts energy: microjoules in a microsecond.
pub(super) fn watts(domain: &SampledComponent<'_>) -> Option<f64> {
    joules(domain).and_then(|_| domain.rate("energy"))
}

/// The temperature of a sensor. 0 is what one reports that does not measure.
pub(super) fn celsius(sensor: &SampledComponent<'_>) -> Option<f64> {
    sensor.now.as_f64().filter(|celsius| *celsius > 0.0)
}

/// A limit that is in force, in watts.
pub(super) fn limit_watts(limit: &Value<'_>) -> Option<f64> {
    let is_in_force =
        limit.get("enabled").as_bool() == Some(true) && limit.get("limitUnit").as_u64() == Some(MILLIWATTS);
    let milliwatts = limit.get("limit").as_f64().filter(|milliwatts| *milliwatts > 0.0);
    milliwatts.filter(|_| is_in_force).map(|milliwatts| milliwatts / 1e3)
}

fn temperatures(device: &SampledDevice<'_>) -> Vec<Reading> {
    let sensors = device.components(TEMPERATURE_PROPERTIES, TEMPERATURE);
    let hottest = |(kind, sensor): (u64, Sensor)| {
        let of_kind = sensors.iter().filter(|component| component.kind() == Some(kind));
        Some(reading(Quantity::TemperatureCelsius(sensor), of_kind.filter_map(celsius).reduce(f64::max)?))
    };
    SENSORS.into_iter().filter_map(hottest).collect()
}

fn clocks(device: &SampledDevice<'_>) -> Vec<Reading> {
    let mut readings = Vec::new();
    let domains = device.components(FREQUENCY_PROPERTIES, FREQUENCY_STATE);
    for (kind, clock) in CLOCKS {
        let of_kind = || domains.iter().filter(move |domain| domain.kind() == Some(kind));
        let highest = |megahertz: fn(&SampledComponent<'_>) -> Option<f64>| {
            // A negative number is unknown.
            of_kind().filter_map(megahertz).filter(|megahertz| *megahertz >= 0.0).reduce(f64::max)
        };
        if let Some(megahertz) = highest(|domain| domain.number("actual")) {
            readings.push(reading(Quantity::ClockHertz(clock), megahertz * 1e6));
        }
        let max = highest(|domain| domain.properties.get("max").as_f64());
        if let Some(megahertz) = max.filter(|megahertz| *megahertz > 0.0) {
            readings.push(reading(Quantity::ClockMaxHertz(clock), megahertz * 1e6));
        }
    }
    let reasons = domains.iter().filter_map(|domain| domain.now.get("throttleReasons").as_u64());
    if let Some(reasons) = reasons.reduce(|all, reasons| all | reasons) {
        let any = THROTTLE_BITS.iter().fold(0, |bits, (_, own)| bits | own);
        for (cause, bits) in THROTTLE_BITS.into_iter().chain([(ThrottleCause::Any, any)]) {
            readings.push(reading(Quantity::Throttled(cause), f64::from(u8::from(reasons & bits != 0))));
        }
    }
    let times = device.components(FREQUENCY_PROPERTIES, THROTTLE_TIME);
    let longest = times.iter().filter_map(|domain| domain.number("throttleTime")).reduce(f64::max);
    if let Some(microseconds) = longest {
        readings.push(reading(Quantity::ThrottleSeconds(ThrottleCause::Any), microseconds / 1e6));
    }
    readings
}

fn errors(device: &SampledDevice<'_>) -> Vec<Reading> {
    let kind = |properties: &Value<'_>| match properties.get("type").as_u64() {
        Some(0) => Some(ErrorKind::RasCorrectable),
        Some(1) => Some(ErrorKind::RasUncorrectable),
        _ => None,
    };
    let sets = values(device.discovered, RAS_PROPERTIES);
    let mut counts: BTreeMap<(ErrorKind, &str), (usize, f64)> = BTreeMap::new();
    for (set, category, count) in ras(device) {
        let Some(kind) = kind(&set.properties) else { continue };
        let (added, sum) = counts.entry((kind, category)).or_default();
        *added += 1;
        *sum += count;
    }
    // Without one of its sets a sum would fall.
    let is_any_unread = sets.iter().any(Value::is_null);
    let is_complete = |of: ErrorKind, added: usize| {
        !is_any_unread && sets.iter().filter(|set| kind(set) == Some(of)).count() == added
    };
    let of_category = |((kind, category), (added, sum))| {
        is_complete(kind, added).then(|| reading(Quantity::Errors(kind, ErrorDetail::Block(category)), sum))
    };
    counts.into_iter().filter_map(of_category).collect()
}

/// Categories of errors of the hardware; the others are of software, of the display, or resets.
const OF_HARDWARE: [&str; 8] =
    ["compute", "non_compute", "cache", "memory", "scale", "l3fabric", "fabric", "soc_internal"];

/// The uncorrectable errors of the hardware that the answers of one time count, by category.
pub(crate) fn uncorrectable_errors(answers: &LevelZeroAnswers) -> Vec<(&'static str, f64)> {
    let device = SampledDevice { discovered: answers, now: answers, before: None };
    let mut counts: Vec<(&'static str, f64)> = Vec::new();
    for (set, category, count) in ras(&device) {
        if set.kind() != Some(1) || !OF_HARDWARE.contains(&category) || count == 0.0 {
            continue;
        }
        match counts.iter_mut().find(|(known, _)| *known == category) {
            Some((_, sum)) => *sum += count,
            None => counts.push((category, count)),
        }
    }
    counts
}

/// The error counters of each set by category. The older call has those of the first seven categories.
pub(super) fn ras<'a>(device: &SampledDevice<'a>) -> Vec<(SampledComponent<'a>, &'static str, f64)> {
    let mut counters: Vec<(SampledComponent<'a>, &'static str, f64)> = Vec::new();
    for set in device.components(RAS_PROPERTIES, RAS_STATE) {
        let counts = set.now.get("category").as_array().unwrap_or_default();
        for (category, count) in RAS_CATEGORIES.into_iter().zip(counts) {
            counters.extend(count.as_f64().map(|count| (set.clone(), category, count)));
        }
    }
    for set in device.components(RAS_PROPERTIES, RAS_STATE_EXP) {
        for counter in set.now.as_array().unwrap_or_default() {
            let number = counter.get("category").as_u64().and_then(|number| usize::try_from(number).ok());
            let category = number.and_then(|number| RAS_CATEGORIES.get(number).copied());
            let (Some(category), Some(count)) = (category, counter.get("errorCounter").as_f64()) else {
                continue;
            };
            let known =
                counters.iter_mut().find(|(known, own, _)| known.index == set.index && *own == category);
            match known {
                Some((_, _, known)) => *known = count,
                None => counters.push((set.clone(), category, count)),
            }
        }
    }
    counters
}

/// The counters of PCIe, where the device has them.
pub(super) fn pcie_counters<'a>(device: &SampledDevice<'a>, having: &str) -> Option<Value<'a>> {
    let has = device.discovered.field(PCI_PROPERTIES, having).into_value() == Some(true);
    has.then(|| device.now.known::<Value>(PCI_STATS).into_value())?
}

fn pcie(device: &SampledDevice<'_>) -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Some(replays) =
        pcie_counters(device, "haveReplayCounters").and_then(|stats| stats.get("replayCounter").as_f64())
    {
        readings.push(reading(Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), replays));
    }
    let stats = pcie_counters(device, "haveBandwidthCounters");
    let before = device.before.and_then(|before| before.known::<Value>(PCI_STATS).into_value());
    if let (Some(now), Some(before)) = (stats, before) {
        for (direction, field) in BYTE_COUNTERS {
            if let Some(per_microsecond) = rate(&now, &before, field) {
                readings.push(reading(Quantity::PcieBytesPerSecond(direction), per_microsecond * 1e6));
            }
        }
    }
    readings
}

fn links(device: &SampledDevice<'_>) -> Vec<Reading> {
    let mut readings = Vec::new();
    let ports = device.all_components(PORT_PROPERTIES, PORT_THROUGHPUT);
    for (direction, field) in BYTE_COUNTERS {
        let bytes: Option<f64> = ports.iter().map(|port| port.number(field)).sum();
        if let Some(bytes) = bytes.filter(|_| !ports.is_empty()) {
            readings.push(reading(Quantity::LinkBytes(LinkCounter::Xelink, direction), bytes));
        }
    }
    let ports = device.all_components(PORT_PROPERTIES, PORT_ERRORS);
    let count = |port: &SampledComponent<'_>| {
        ERROR_COUNTERS.iter().map(|(_, field)| port.number(field)).sum::<Option<f64>>()
    };
    let errors: Option<f64> = ports.iter().map(count).sum();
    if let Some(errors) = errors.filter(|_| !ports.is_empty()) {
        readings.push(reading(Quantity::Errors(ErrorKind::Link, ErrorDetail::Device), errors));
    }
    readings
}
