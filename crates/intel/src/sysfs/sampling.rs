//! Locates the files of a GPU's changing values once, and reads them: `sysfs-driver-intel-i915-hwmon`,
//! `sysfs-driver-intel-xe-hwmon`, and the frequency and throttle files of the GTs of i915 and xe.
//!
//! Most of these files wake a device that sleeps: all of hwmon, and of a GT what the driver reads from the hardware, with xe even
//! the name of its idle state. They are not read while it is suspended, and what was known before counts on.
//!
//! Power is not reported; it is computed from two readings of the energy counter ([`energy`]). Used memory is not read: without
//! CAP_PERFMON the drivers report 0 or "all free".

mod contradiction;
pub(crate) mod energy;

use std::{collections::BTreeSet, time::Instant};

use afd_model::{Clock, Device, HandleKind, Known, PcieLink, Quantity, Reading, ThrottleCause};
use afd_probe::{Facts, PciFunction, hwmon, pci};

use self::energy::EnergyCounter;
use super::unknown_link;
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
    /// Whether it was suspended at the last look.
    pub(crate) is_suspended: bool,
    /// Its PCIe link, the current one and the largest. On new kernels a look at it wakes the device.
    pub(crate) links: [PcieLink; 2],
    /// Its directory.
    directory: String,
    /// The last answer of `gpu_health`.
    gpu_health: Known<String>,
    /// The function whose link files are read.
    pub(crate) link: Option<PciFunction>,
    /// The hwmon directory of the driver, and the name of the driver.
    hwmon: Option<(String, String)>,
    /// The limits of its temperatures.
    limits: Vec<Reading>,
    gts: Vec<Gt>,
}

/// A GT: a unit of a tile with its own clock domain, for compute or for media.
#[derive(Clone, Debug)]
struct Gt {
    clock: Clock,
    /// Whether a look at its clocks wakes the device.
    wakes: bool,
    actual: String,
    maximum: String,
    throttles: Vec<(ThrottleCause, String)>,
}

impl IntelSource {
    /// Locates the files of a GPU. While it is suspended, what `earlier` had counts on.
    pub(crate) fn find(
        facts: &mut Facts<'_>,
        function: &PciFunction,
        device: &Device,
        link: Option<&PciFunction>,
        earlier: Option<&IntelSource>,
    ) -> IntelSource {
        let is_suspended = is_suspended(facts, &function.directory);
        let asleep = earlier.filter(|_| is_suspended);
        let drivers = |(_, name): &(String, String)| matches!(name.as_str(), "i915" | "xe");
        let tiles = numbered(facts, &function.directory, "tile");
        let mut gts = match asleep {
            _ if !is_suspended => xe_gts(facts, &tiles),
            Some(earlier) if !tiles.is_empty() => earlier.gts.clone(),
            _ => Vec::new(),
        };
        let is_of_i915 = gts.is_empty() && (tiles.is_empty() || !is_suspended);
        if let (true, Some(card)) = (is_of_i915, device.handle(HandleKind::DrmCard)) {
            gts = i915_gts(facts, &function.attribute(&format!("drm/{card}")), device.integrated);
        }
        let links = match (asleep, link) {
            (Some(earlier), _) => earlier.links,
            (None, Some(port)) => ["current", "max"].map(|which| pci::pcie_link(facts, port, which)),
            (None, None) => [unknown_link(), unknown_link()],
        };
        let gpu_health = match asleep {
            _ if !is_suspended => facts.text("health", &function.attribute("gpu_health")),
            earlier => earlier.map_or_else(Known::default, |earlier| earlier.gpu_health.clone()),
        };
        let hwmon = hwmon::directories(facts, function).into_iter().find(drivers);
        let limits = match asleep {
            _ if !is_suspended => {
                hwmon.iter().flat_map(|(path, driver)| temperature_limits(facts, path, driver)).collect()
            }
            earlier => earlier.map(|earlier| earlier.limits.clone()).unwrap_or_default(),
        };
        IntelSource {
            device: device.id,
            is_integrated: device.integrated,
            has_node: device.handle(HandleKind::DrmRender).is_some(),
            nodes: [HandleKind::DrmCard, HandleKind::DrmRender]
                .iter()
                .filter_map(|kind| Some(device.handle(*kind)?.to_owned()))
                .collect(),
            is_suspended,
            links,
            directory: function.directory.clone(),
            gpu_health,
            link: link.cloned(),
            limits,
            hwmon,
            gts,
        }
    }

    /// Looks whether the device is suspended, so that the library or a look at its values would wake it.
    pub(crate) fn look(&mut self, facts: &mut Facts<'_>) {
        facts.about(Some(self.device));
        self.is_suspended = is_suspended(facts, &self.directory);
    }

    /// What the driver says of the health of the device.
    pub(crate) fn health(&self, facts: &mut Facts<'_>) -> IntelEvidence {
        IntelEvidence {
            is_survivable: facts.host().exists(&format!("{}/survivability_mode", self.directory)),
            gpu_health: self.gpu_health.clone(),
            ..IntelEvidence::default()
        }
    }

    /// Chooses the source of the energy counter, unless it has one, or the device sleeps.
    pub(crate) fn choose_energy(&self, facts: &mut Facts<'_>, counter: &mut EnergyCounter) {
        if let Some((directory, _)) = self.sensors() {
            counter.choose(facts, directory);
        }
    }

    /// The hwmon directory and its driver, while the device is awake.
    fn sensors(&self) -> Option<&(String, String)> {
        self.hwmon.as_ref().filter(|_| !self.is_suspended)
    }

    /// Reads the values that do not wake the device; the power is that since the last reading of the energy counter.
    pub(crate) fn read(
        &self,
        facts: &mut Facts<'_>,
        now: Instant,
        counter: Option<&mut EnergyCounter>,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut put = |quantity, value| readings.push(Reading { quantity, value });
        if let Some((directory, driver)) = self.sensors() {
            let (joules, watts) = counter.map_or((None, None), |counter| counter.read(facts, now));
            joules.into_iter().for_each(|joules| put(Quantity::EnergyJoules, joules));
            watts.into_iter().for_each(|watts| put(Quantity::PowerWatts, watts));
            // 0 means that the limit is disabled. PL2 (`cap`) limits bursts: it applies if there is no PL1.
            let limits = ["power1_max", "power2_max", "power1_cap", "power2_cap"];
            if let Some(microwatts) = first_nonzero(facts, "power_limit", directory, &limits) {
                put(Quantity::PowerLimitWatts, microwatts as f64 / 1e6);
            }
            temperatures(facts, directory, driver, &mut put);
        } else {
            counter.into_iter().for_each(EnergyCounter::pause);
        }
        self.limits.iter().for_each(|limit| put(limit.quantity, limit.value));
        for clock in [Clock::Compute, Clock::Media] {
            let is_read = move |gt: &&Gt| gt.clock == clock && !(self.is_suspended && gt.wakes);
            let gts = || self.gts.iter().filter(is_read);
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
        if self.is_suspended {
            return readings;
        }
        let mut causes = self.throttled(facts);
        if let Some((directory, _)) = self.sensors() {
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

    /// The throttle causes that the GTs report. The GPU is throttled if one GT is. The drivers compute the file for any cause from the
    /// register of all the others, so that these are not read where it is 0; a recording has all of them.
    fn throttled(&self, facts: &mut Facts<'_>) -> Vec<(ThrottleCause, bool)> {
        let mut causes: Vec<(ThrottleCause, bool)> = Vec::new();
        let is_recording = facts.host().is_recording();
        for gt in &self.gts {
            let mut read = |path: &str| facts.number::<u32>("throttled", path).into_value();
            let any = gt.throttles.iter().find(|(cause, _)| *cause == ThrottleCause::Any);
            let any = any.and_then(|(_, path)| read(path));
            for (cause, path) in &gt.throttles {
                let is_known = *cause == ThrottleCause::Any || any == Some(0) && !is_recording;
                let value = if is_known { any } else { read(path) };
                let Some(value) = value else { continue };
                match causes.iter_mut().find(|(other, _)| other == cause) {
                    Some((_, throttled)) => *throttled |= value != 0,
                    None => causes.push((*cause, value != 0)),
                }
            }
        }
        causes
    }
}

/// Whether the device with this directory is suspended. A look at that does not wake it.
fn is_suspended(facts: &mut Facts<'_>, directory: &str) -> bool {
    let runtime = facts.text("power_state", &format!("{directory}/power/runtime_status"));
    runtime.value().is_some_and(|status| status == "suspended")
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
fn xe_gts(facts: &mut Facts<'_>, tiles: &[String]) -> Vec<Gt> {
    let mut gts = Vec::new();
    for tile in tiles {
        for gt in numbered(facts, tile, "gt") {
            let idle = facts.text("clock", &format!("{gt}/gtidle/name"));
            let is_media = idle.value().is_some_and(|name| name.ends_with("-mc"));
            gts.push(Gt {
                clock: if is_media { Clock::Media } else { Clock::Compute },
                wakes: true,
                actual: format!("{gt}/freq0/act_freq"),
                maximum: format!("{gt}/freq0/max_freq"),
                throttles: throttles(facts, &format!("{gt}/freq0/throttle")),
            });
        }
    }
    gts
}

/// `gt/gt<G>` of i915, whose clocks are 0 or remembered by the driver while the device sleeps: the tiles of a discrete GPU, or GT 0 and the media GT of an integrated one. Kernels before
/// 5.18 have the clocks of the only GT in the directory of the DRM card.
fn i915_gts(facts: &mut Facts<'_>, card: &str, integrated: bool) -> Vec<Gt> {
    let directories = numbered(facts, &format!("{card}/gt"), "gt");
    if directories.is_empty() {
        return vec![Gt {
            clock: Clock::Compute,
            wakes: true,
            actual: format!("{card}/gt_act_freq_mhz"),
            maximum: format!("{card}/gt_max_freq_mhz"),
            throttles: Vec::new(),
        }];
    }
    directories
        .into_iter()
        .map(|gt| Gt {
            clock: if integrated && !gt.ends_with("/gt0") { Clock::Media } else { Clock::Compute },
            wakes: false,
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
