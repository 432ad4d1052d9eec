//! What Level Zero's Sysman (`libze_loader.so.1`) reports, queried by a process of its own (`afd probe intel`).
//!
//! In goes the path of the loader, out come [`LevelZeroReport`]s: each call with its value or its error, not interpreted. No
//! call that changes a device or clears a counter is made, and only Sysman (`zes...`) is used.
//!
//! # The driver
//!
//! The loader finds the driver (`libze_intel_gpu.so.1`) by its name in the system's folders, or takes the paths in
//! `ZE_ENABLE_ALT_DRIVERS`. A driver beside the loader is named there, so that a loader under another root uses its own driver. What
//! the driver needs and opens by name is loaded from the same folder before.
//!
//! # What it adds to what the kernel reports
//!
//! | fact | calls |
//! |---|---|
//! | utilization by engine | `zesEngineGetActivity` (user 0 alone, by counters that Level Zero keeps open) |
//! | memory in use, its bandwidth | `zesMemoryGetState`, `zesMemoryGetBandwidth` |
//! | energy, power limits, temperatures, memory clock, throttling | `zesPower...`, `zesTemperature...`, `zesFrequency...` |
//! | errors (RAS), PCIe replays and bytes | `zesRasGetState`, `zesRasGetStateExp`, `zesDevicePciGetStats` |
//! | ports of Xe Link, with what is at their other ends | `zesFabricPort...` |
//! | serial number, firmware, ECC, need of a reset | `zesDeviceGetProperties`, `zesFirmwareGetProperties`, `zesDeviceGetEccState`, `zesDeviceGetState` |
//!
//! Devices are matched by their PCI address: the library also lists GPUs that are integrated into a processor, in an order of its
//! own. Its UUID is made of the address and the PCI ids, the same on every node, and is not read. The components of all
//! sub-devices (tiles) are enumerated on their device; each says which one it belongs to.

pub mod calls;
mod ffi;
pub mod layout;
pub(crate) mod parts;
pub(crate) mod readings;

use std::{
    ffi::OsStr,
    path::Path,
    time::{Duration, Instant},
};

use afd_host::Host;
use afd_model::{Known, PciAddress};
use afd_probe::{
    ffi::LoadedLibrary,
    library::{DIRECTORIES, LibraryInterface, LibrarySpec},
    report::{DeviceAnswers, LibraryAnswers, LibraryReport, ReportedUnit, Retention},
    status::{StatusCode, StatusRow, StatusTable, UnlistedStatus},
};
use serde::Deserialize;
use serde_json::Value;

pub use self::calls::STATUSES;
use self::{
    calls::{
        COMPONENTS, ComponentKind, DEVICE_CHANGING, DEVICE_CONSTANT, DEVICES, DRIVERS, INIT, PCI_PROPERTIES,
        PROPERTIES, SysmanRow, SysmanSource,
    },
    ffi::{SysmanApi, SysmanHandle},
};
use crate::{
    NAME,
    counters::COUNTERS,
    drm::{ADDRESS, ERRNOS, REGIONS, VERSION},
};

/// `ze_result_t`, by the name without `ZE_RESULT_ERROR_`.
pub type SysmanStatus = StatusCode<SysmanStatuses>;
/// What Level Zero reported: `libraries/levelzero.json` of a recording.
pub type LevelZeroReport = LibraryReport<SysmanStatuses>;
/// Answers by call.
pub type LevelZeroAnswers = LibraryAnswers<SysmanStatuses>;
/// The value of a call, or its status.
pub(crate) type SysmanResult = Result<Value, SysmanStatus>;

/// The statuses of Level Zero, and the errors of the driver's queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SysmanStatuses;

impl StatusTable for SysmanStatuses {
    const C_TYPE: &'static str = "ze_result_t";
    const TABLES: &'static [&'static [StatusRow]] = &[STATUSES, ERRNOS];
    const UNLISTED: UnlistedStatus = UnlistedStatus::Number;
}

/// Where the loader is.
pub(crate) static LIBRARY: LibrarySpec<SysmanStatuses> = LibrarySpec {
    probe: NAME,
    fact: "levelzero",
    files: &["libze_loader.so.1"],
    directories: &[&DIRECTORIES],
    roots: &[""],
    interfaces: &[
        LibraryInterface {
            init: INIT.symbol,
            title: "Level Zero",
            required: &[DRIVERS, DEVICES],
            recording: "levelzero.json",
        },
        LibraryInterface {
            init: VERSION.symbol,
            title: "the query of the render nodes",
            required: &[],
            recording: "intel-drm.json",
        },
        LibraryInterface {
            init: COUNTERS.symbol,
            title: "the counters of the driver",
            required: &[],
            recording: "intel-drm.json",
        },
    ],
    drivers: &["i915", "xe"],
    needed_by: &[],
    enumerates_once: true,
    start_deadline: Duration::from_secs(60),
    discover_deadline: Duration::from_secs(60),
    sample_deadline: Duration::from_secs(10),
    unit_of,
    retains: Retention {
        calls: |call| {
            calls::is_constant(call) || REGIONS.iter().chain(&[ADDRESS]).any(|known| known.symbol == call)
        },
        identity: &[PROPERTIES],
        partitions: &[],
    },
    init_advice,
};

fn init_advice(status: SysmanStatus) -> &'static str {
    if ERRNOS.iter().any(|(_, name, _)| SysmanStatus::named(name) == status) {
        "this process needs the render nodes of the devices (/dev/dri/renderD*) for their memory in use"
    } else if status == SysmanStatus::NO_SYMBOL {
        "the loader is older than 1.9 and has no Sysman of its own: install a newer Level Zero"
    } else {
        "the driver (libze_intel_gpu.so.1) may be missing or lack a library that it needs, or the render nodes may not be visible here"
    }
}

/// `zes_pci_address_t`.
#[derive(Deserialize)]
struct SysmanAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The device that answers are about.
pub(crate) fn unit_of(answers: &LevelZeroAnswers) -> Option<ReportedUnit> {
    let Known::Value(address) = answers.field::<SysmanAddress>(PCI_PROPERTIES, "address") else {
        // Of the driver.
        let text: &str = answers.known(ADDRESS).into_value()?;
        return Some(ReportedUnit { address: text.parse().ok()?, partition: 0 });
    };
    let SysmanAddress { domain, bus, device, function } = address;
    let address = PciAddress { domain, bus, device, function };
    Some(ReportedUnit { address, partition: 0 })
}

/// The driver, and older versions of it for older GPUs.
const DRIVER_FILES: [&str; 2] = ["libze_intel_gpu.so.1", "libze_intel_gpu_legacy1.so.1"];
/// What the driver needs, and what it opens by name when it first needs it: firmware versions and ECC (igsc), events (udev).
const NEEDED_FILES: [&str; 3] = ["libigdgmm.so.12", "libigsc.so.1", "libigsc.so.0"];
/// The paths of drivers, which the loader takes instead of searching.
const DRIVER_PATHS: &str = "ZE_ENABLE_ALT_DRIVERS";

/// The shortest time between two reads of a counter: the hardware updates them no sooner. A discovery counts as a read only before
/// the first sample, which is compared with it.
const COUNTER_INTERVAL: Duration = Duration::from_millis(100);

/// Level Zero, loaded and queried.
pub struct LevelZero {
    api: SysmanApi,
    initialised: bool,
    slots: Vec<SysmanSlot>,
    /// When the first discovery, or the last sample, has read the counters.
    counted: Option<Instant>,
    /// Libraries that the driver finds because they are loaded.
    _needed: Vec<LoadedLibrary>,
}

/// An element of the report: a device of the last discovery.
struct SysmanSlot {
    device: SysmanHandle,
    /// The answer that identifies the device.
    pci_properties: Option<Value>,
    /// The components of each of [`COMPONENTS`].
    components: Vec<Vec<SysmanHandle>>,
}

impl LevelZero {
    /// Loads the loader; it is initialised at the first discovery. Without the calls of Sysman it is not usable, which the reports
    /// say.
    ///
    /// # Errors
    /// The message of the dynamic linker.
    pub fn open(path: &OsStr) -> Result<LevelZero, String> {
        let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
        let beside = |name: &&str| Host::open(folder).is_ok_and(|host| host.exists(&format!("/{name}")));
        let load = |name: &&str| LoadedLibrary::open(folder.join(name).as_os_str()).ok();
        let needed = NEEDED_FILES.iter().filter(|name| beside(name)).filter_map(load).collect();
        let drivers: Vec<_> =
            DRIVER_FILES.iter().filter(|name| beside(name)).map(|name| folder.join(name)).collect();
        if !drivers.is_empty() {
            let paths: Vec<&OsStr> = drivers.iter().map(|path| path.as_os_str()).collect();
            ffi::set_variable(DRIVER_PATHS, &paths.join(OsStr::new(",")));
        }
        let api = SysmanApi(LoadedLibrary::open(path)?);
        Ok(LevelZero { api, initialised: false, slots: Vec::new(), counted: None, _needed: needed })
    }

    /// The devices and all that the library says of them. Where the library cannot be initialised the report holds that alone; the
    /// next discovery tries again.
    pub fn discover(&mut self) -> LevelZeroReport {
        let mut report = LevelZeroReport::default();
        let is_first = !self.initialised;
        if is_first {
            if let Err(status) = self.api.init() {
                report.system.put(INIT, Err(status));
                return report;
            }
            self.initialised = true;
        }
        report.system.put(INIT, Ok(Value::Null));
        let devices = self.devices(&mut report.system);
        let earlier = std::mem::take(&mut self.slots);
        for device in devices {
            let known = earlier.iter().find(|slot| slot.device == device);
            let (slot, answers) = self.describe(device, known);
            self.slots.push(slot);
            report.devices.push(DeviceAnswers { answers, ..DeviceAnswers::default() });
        }
        if is_first {
            self.counted = Some(Instant::now());
        }
        report
    }

    /// The devices of all drivers.
    fn devices(&self, system: &mut LevelZeroAnswers) -> Vec<SysmanHandle> {
        let drivers = self.api.drivers();
        system.put(DRIVERS, drivers.as_ref().map(|drivers| Value::from(drivers.len())).map_err(|code| *code));
        let of_drivers: Result<Vec<_>, _> =
            drivers.unwrap_or_default().into_iter().map(|driver| self.api.devices(driver)).collect();
        let devices = of_drivers.map(|devices| devices.concat());
        system.put(DEVICES, devices.as_ref().map(|devices| Value::from(devices.len())).map_err(|code| *code));
        devices.unwrap_or_default()
    }

    fn describe(&self, device: SysmanHandle, known: Option<&SysmanSlot>) -> (SysmanSlot, LevelZeroAnswers) {
        let mut answers = LevelZeroAnswers::default();
        let pci_properties =
            self.api.query(device, PCI_PROPERTIES, SysmanSource::Struct(&layout::PCI_PROPERTIES));
        // A device that is lost keeps its address, so that its errors are recognised as its own.
        let address =
            pci_properties.clone().ok().or_else(|| known.and_then(|slot| slot.pci_properties.clone()));
        answers.put(PCI_PROPERTIES, address.clone().map_or(pci_properties, Ok));
        for (call, source) in DEVICE_CONSTANT {
            answers.put(*call, self.api.query(device, *call, *source));
        }
        let mut slot = SysmanSlot { device, pci_properties: address, components: Vec::new() };
        for kind in COMPONENTS {
            let components = self.api.enumerate(kind.enumerate, device);
            let number = components.as_ref().map(|components| Value::from(components.len()));
            answers.put(kind.enumerate, number.map_err(|code| *code));
            slot.components.push(components.unwrap_or_default());
        }
        for (kind, components) in COMPONENTS.iter().zip(&slot.components) {
            self.query_components(kind.constant, components, &mut answers);
        }
        self.query_changing(&slot, &mut answers);
        (slot, answers)
    }

    fn query_changing(&self, slot: &SysmanSlot, answers: &mut LevelZeroAnswers) {
        for (call, source) in DEVICE_CHANGING {
            answers.put(*call, self.api.query(slot.device, *call, *source));
        }
        for (ComponentKind { changing, .. }, components) in COMPONENTS.iter().zip(&slot.components) {
            self.query_components(changing, components, answers);
        }
    }

    fn query_components(
        &self,
        rows: &[SysmanRow],
        components: &[SysmanHandle],
        answers: &mut LevelZeroAnswers,
    ) {
        for (call, source) in rows {
            let results: Vec<SysmanResult> =
                components.iter().map(|component| self.api.query(*component, *call, *source)).collect();
            match same_status(&results) {
                Some(status) => answers.put(*call, Err(status)),
                None if results.is_empty() => {}
                None => answers.put_components(*call, results),
            }
        }
    }

    /// The changing values of the devices of the last discovery, in the same order.
    pub fn sample(&mut self) -> LevelZeroReport {
        let elapsed = self.counted.map_or(COUNTER_INTERVAL, |counted| counted.elapsed());
        std::thread::sleep(COUNTER_INTERVAL.saturating_sub(elapsed));
        let mut report = LevelZeroReport::default();
        report.system.put(INIT, Ok(Value::Null));
        for slot in &self.slots {
            let mut answers = LevelZeroAnswers::default();
            if let Some(pci_properties) = &slot.pci_properties {
                answers.put(PCI_PROPERTIES, Ok(pci_properties.clone()));
                self.query_changing(slot, &mut answers);
            }
            report.devices.push(DeviceAnswers { answers, ..DeviceAnswers::default() });
        }
        self.counted = Some(Instant::now());
        report
    }
}

/// The status that all components returned: it is that of the call.
fn same_status(results: &[SysmanResult]) -> Option<SysmanStatus> {
    let status = *results.first()?.as_ref().err()?;
    results.iter().all(|result| *result == Err(status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_device_is_recognised_by_its_pci_address() {
        let unit = |address: Value| {
            let mut answers = LevelZeroAnswers::default();
            answers.put(PCI_PROPERTIES, Ok(json!({ "address": address })));
            unit_of(&answers)
        };
        let device = PciAddress { domain: 0, bus: 0x29, device: 0, function: 1 };
        let known = unit(json!({ "domain": 0, "bus": 0x29, "device": 0, "function": 1 }));
        assert!(known.is_some_and(|unit| unit.is_device(device)));
        assert_eq!(unit(json!({ "domain": 0, "bus": 0x129, "device": 0, "function": 1 })), None);
        assert_eq!(unit(json!({})), None);
    }

    #[test]
    fn a_status_of_all_components_is_that_of_the_call() {
        const REFUSED: SysmanStatus = SysmanStatus::named("INSUFFICIENT_PERMISSIONS");
        const ABSENT: SysmanStatus = SysmanStatus::named("UNSUPPORTED_FEATURE");
        assert_eq!(same_status(&[Err(REFUSED), Err(REFUSED)]), Some(REFUSED));
        assert_eq!(same_status(&[Err(REFUSED), Err(ABSENT)]), None);
        assert_eq!(same_status(&[Err(REFUSED), Ok(Value::Null)]), None);
        assert_eq!(same_status(&[]), None);
    }

    #[test]
    fn a_recording_is_read_back_as_it_was_written() {
        let text = json!({
            "system": {"zesInit": {"value": null}},
            "devices": [{"answers": {
                "zesDeviceGetEccState": {"error": "UNSUPPORTED_FEATURE"},
                "zesEngineGetActivity": {"value": [{"value": {"activeTime": 1, "timestamp": 2}}, {"error": 4711}]},
            }}],
        });
        let report: LevelZeroReport = serde_json::from_value(text.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), text);
    }
}
