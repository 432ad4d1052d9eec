//! Locates the files of a GPU's changing values once, and reads them: `sysfs-driver-intel-i915-hwmon`,
//! `sysfs-driver-intel-xe-hwmon`, and the frequency and throttle files of the GTs of i915 and xe.
//!
//! Power is not reported; it is computed from two readings of the energy counter ([`energy`]). Used memory is not read: without
//! CAP_PERFMON the drivers report 0 or "all free".

mod contradiction;
pub(crate) mod energy;

use std::{collections::BTreeSet, time::Instant};

use afd_model::{Clock, Device, HandleKind, Quantity, Reading, ThrottleCause};
use afd_probe::{Facts, PciFunction, hwmon, pci};

use self::energy::EnergyCounter;
use crate::{
    health::IntelEvidence,
    interpret::{sensor, throttle_cause},
};

/// Where to sample one GPU.
#[derive(Debug)]
pub(crate) struct IntelSource {
    /// The GPU.
    pub(crate) device: afd_model::DeviceId,
    /// Whether it is a part of the processor.
    pub(crate) is_integrated: bool,
    /// Whether the driver has a node for it, which the library would open.
    pub(crate) has_node: bool,
    /// The names of its DRM nodes.
    pub(crate) nodes: Vec<String>,
    /// Its directory.
    directory: String,
    /// The function whose link files are read.
    pub(crate) link: Option<PciFunction>,
    /// The hwmon directory of the driver, and the name of the driver.
    hwmon: Option<(String, String)>,
    /// The limits of its temperatures.
    limits: Vec<Reading>,
    gts: Vec<Gt>,
}

/// A GT: a unit of a tile with its own clock domain, for compute or for media.
#[derive(Debug)]
struct Gt {
    clock: Clock,
    actual: String,
    maximum: String,
    throttles: Vec<(ThrottleCause, String)>,
}

impl IntelSource {
    /// Locates the files of a GPU.
    pub(crate) fn find(
        facts: &mut Facts<'_>,
        function: &PciFunction,
        device: &Device,
        link: Option<&PciFunction>,
    ) -> IntelSource {
        let drivers = |(_, name): &(String, String)| matches!(name.as_str(), "i915" | "xe");
        let mut gts = xe_gts(facts, function);
        if let (true, Some(card)) = (gts.is_empty(), device.handle(HandleKind::DrmCard)) {
            gts = i915_gts(facts, &function.attribute(&format!("drm/{card}")), device.integrated);
        }
        let hwmon = hwmon::directories(facts, function).into_iter().find(drivers);
        IntelSource {
            device: device.id,
            is_integrated: device.integrated,
            has_node: device.handle(HandleKind::DrmRender).is_some(),
            nodes: [HandleKind::DrmCard, HandleKind::DrmRender]
                .iter()
                .filter_map(|kind| Some(device.handle(*kind)?.to_owned()))
                .collect(),
            directory: function.directory.clone(),
            link: link.cloned(),
            limits: hwmon.iter().flat_map(|(path, driver)| temperature_limits(facts, path, driver)).collect(),
            hwmon,
            gts,
        }
    }

    /// Whether the device is suspended, so that the library would wake it.
    pub(crate) fn is_suspended(&self, facts: &mut Facts<'_>) -> bool {
        facts.about(Some(self.device));
        let runtime = facts.text("power_state", &format!("{}/power/runtime_status", self.directory));
        runtime.value().is_some_and(|status| status == "suspended")
    }

    /// What the driver says of the health of the device.
    pub(crate) fn health(&self, facts: &mut Facts<'_>) -> IntelEvidence {
        facts.about(Some(self.device));
        IntelEvidence {
            is_survivable: facts.host().exists(&format!("{}/survivability_mode", self.directory)),
            gpu_health: facts.text("health", &format!("{}/gpu_health", self.directory)),
            ..IntelEvidence::default()
        }
    }

    /// Chooses the source of the energy counter, unless it has one.
    pub(crate) fn choose_energy(&self, facts: &mut Facts<'_>, counter: &mut EnergyCounter) {
        if let Some((directory, _)) = &self.hwmon {
            counter.choose(facts, directory);
        }
    }

    /// Reads the values; the power is that since the last reading of the energy counter.
    pub(crate) fn read(
        &self,
        facts: &mut Facts<'_>,
        now: Instant,
        counter: Option<&mut EnergyCounter>,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut put = |quantity, value| readings.push(Reading { quantity, value });
        if let Some((directory, driver)) = &self.hwmon {
            let (joules, watts) = counter.map_or((None, None), |counter| counter.read(facts, now));
            joules.into_iter().for_each(|joules| put(Quantity::EnergyJoules, joules));
            watts.into_iter().for_each(|watts| put(Quantity::PowerWatts, watts));
            // 0 means that the limit is disabled. PL2 (`cap`) limits bursts: it applies if there is no PL1.
            let limits = ["power1_max", "power2_max", "power1_cap", "power2_cap"];
            if let Some(microwatts) = first_nonzero(facts, "power_limit", directory, &limits) {
                put(Quantity::PowerLimitWatts, microwatts as f64 / 1e6);
            }
            temperatures(facts, directory, driver, &mut put);
        }
        self.limits.iter().for_each(|limit| put(limit.quantity, limit.value));
        for clock in [Clock::Compute, Clock::Media] {
            let gts = || self.gts.iter().filter(move |gt| gt.clock == clock);
            let mut maximum = |path: fn(&Gt) -> &str| {
                gts().filter_map(|gt| facts.number::<u32>("clock", path(gt)).into_value()).max()
            };
            if let Some(megahertz) = maximum(|gt| &gt.actual) {
                put(Quantity::ClockHertz(clock), f64::from(megahertz) * 1e6);
            }
            if let Some(megahertz) = maximum(|gt| &gt.maximum) {
                put(Quantity::ClockMaxHertz(clock), f64::from(megahertz) * 1e6);
            }
        }
        let mut causes = self.throttled(facts);
        if let Some((directory, _)) = &self.hwmon {
            contradiction::drop_heat(facts, directory, &mut causes);
        }
        for (cause, throttled) in causes {
            put(Quantity::Throttled(cause), f64::from(u8::from(throttled)));
        }
        if let Some(port) = &self.link {
            readings.extend(pci::link_readings(facts, port));
        }
        readings
    }

    /// The throttle causes that the GTs report. The GPU is throttled if one GT is.
    fn throttled(&self, facts: &mut Facts<'_>) -> Vec<(ThrottleCause, bool)> {
        let mut causes: Vec<(ThrottleCause, bool)> = Vec::new();
        for (cause, path) in self.gts.iter().flat_map(|gt| &gt.throttles) {
            let Some(value) = facts.number::<u32>("throttled", path).into_value() else { continue };
            match causes.iter_mut().find(|(other, _)| other == cause) {
                Some((_, throttled)) => *throttled |= value != 0,
                None => causes.push((*cause, value != 0)),
            }
        }
        causes
    }
}

/// The value of the first of these files that is not 0.
fn first_nonzero(facts: &mut Facts<'_>, fact: &str, directory: &str, files: &[&str]) -> Option<u64> {
    files
        .iter()
        .filter_map(|file| facts.number(fact, &format!("{directory}/{file}")).into_value())
        .find(|value| *value != 0)
}

/// `temp<N>_input` in thousandths of a degree, with `temp<N>_label`.
fn temperatures(facts: &mut Facts<'_>, directory: &str, driver: &str, put: &mut impl FnMut(Quantity, f64)) {
    for name in facts.names("temperature", directory) {
        let number = name.strip_prefix("temp").and_then(|rest| rest.strip_suffix("_input"));
        let Some(number) = number.and_then(|number| number.parse().ok()) else { continue };
        let label = facts.text("temperature", &format!("{directory}/temp{number}_label"));
        let Some(sensor) = sensor(driver, number, label.value().map(String::as_str)) else { continue };
        if let Some(thousandths) =
            facts.number::<i32>("temperature", &format!("{directory}/{name}")).into_value()
        {
            put(Quantity::TemperatureCelsius(sensor), f64::from(thousandths) / 1000.0);
        }
    }
}

/// The limits of the sensors that have one.
fn temperature_limits(facts: &mut Facts<'_>, directory: &str, driver: &str) -> Vec<Reading> {
    let numbers = |name: String| name.strip_prefix("temp")?.split_once('_')?.0.parse::<u32>().ok();
    let numbers: BTreeSet<u32> =
        facts.names("temperature", directory).into_iter().filter_map(numbers).collect();
    let mut limits = Vec::new();
    for number in numbers {
        let label = facts.text("temperature", &format!("{directory}/temp{number}_label"));
        if let Some(sensor) = sensor(driver, number, label.value().map(String::as_str)) {
            limits.extend(hwmon::temperature_limits(facts, directory, number, sensor));
        }
    }
    limits
}

/// `tile<T>/gt<G>` of xe. The idle state of a media GT has a name like `gt1-mc`, that of others like `gt0-rc`.
fn xe_gts(facts: &mut Facts<'_>, function: &PciFunction) -> Vec<Gt> {
    let mut gts = Vec::new();
    for tile in numbered(facts, &function.directory, "tile") {
        for gt in numbered(facts, &tile, "gt") {
            let idle = facts.text("clock", &format!("{gt}/gtidle/name"));
            let is_media = idle.value().is_some_and(|name| name.ends_with("-mc"));
            gts.push(Gt {
                clock: if is_media { Clock::Media } else { Clock::Compute },
                actual: format!("{gt}/freq0/act_freq"),
                maximum: format!("{gt}/freq0/max_freq"),
                throttles: throttles(facts, &format!("{gt}/freq0/throttle")),
            });
        }
    }
    gts
}

/// `gt/gt<G>` of i915: the tiles of a discrete GPU, or GT 0 and the media GT of an integrated one. Kernels before
/// 5.18 have the clocks of the only GT in the directory of the DRM card.
fn i915_gts(facts: &mut Facts<'_>, card: &str, integrated: bool) -> Vec<Gt> {
    let directories = numbered(facts, &format!("{card}/gt"), "gt");
    if directories.is_empty() {
        return vec![Gt {
            clock: Clock::Compute,
            actual: format!("{card}/gt_act_freq_mhz"),
            maximum: format!("{card}/gt_max_freq_mhz"),
            throttles: Vec::new(),
        }];
    }
    directories
        .into_iter()
        .map(|gt| Gt {
            clock: if integrated && !gt.ends_with("/gt0") { Clock::Media } else { Clock::Compute },
            actual: format!("{gt}/rps_act_freq_mhz"),
            maximum: format!("{gt}/rps_max_freq_mhz"),
            throttles: throttles(facts, &gt),
        })
        .collect()
}

fn throttles(facts: &mut Facts<'_>, directory: &str) -> Vec<(ThrottleCause, String)> {
    let cause = |name: String| Some((throttle_cause(&name)?, format!("{directory}/{name}")));
    facts.names("throttled", directory).into_iter().filter_map(cause).collect()
}

/// The paths of the entries of a directory that are named `<prefix><number>`.
pub(crate) fn numbered(facts: &mut Facts<'_>, directory: &str, prefix: &str) -> Vec<String> {
    let names = facts.names("tiles", directory).into_iter();
    names
        .filter(|name| pci::numbered(name, prefix).is_some())
        .map(|name| format!("{directory}/{name}"))
        .collect()
}
