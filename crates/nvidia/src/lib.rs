//! NVIDIA GPUs: the kernel's word, and NVML's.
//!
//! What is peculiar to this vendor:
//!
//! - A GPU is a function of class 0300 or 0302. NVSwitches (0680), audio (0403), USB (0c03) and UCSI (0c80) functions of
//!   the same vendor are none.
//! - The driver tells model, UUID, VBIOS and minor number of each GPU in `/proc/driver/nvidia/gpus/<address>/information`,
//!   world-readable and without a library. Memory, MIG, ECC, utilisation, power and NVLink need NVML.
//! - NVML runs in a process of its own (`afd probe nvidia`), which is started only if there is a GPU and a library. While it
//!   is away the kernel's word goes on, what it told last of what does not move stays, and what moves is absent. It holds
//!   the driver, so it is ended before the driver is replaced ([`upgrade`]).
//! - One device id can be sold under several names, which the board's subsystem id tells apart; so the driver's own word
//!   goes before the table for the name.

mod handles;
mod health;
mod incidents;
mod interpret;
mod library;
pub mod nvml;
mod processes;
mod procfs;
mod products;
mod readings;
pub mod upgrade;
mod vgpu;
mod xid;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use afd_host::{
    Host,
    child::{Launcher, RequestError},
};
use afd_model::{
    Device, Findings, Health, Known, MemorySource, Missing, NvidiaFacts, PciAddress, Product, Sample,
    Sampling, Variant, Vendor, VendorFacts,
};
use afd_probe::{Facts, PciBus, PciFunction, Probe, device, pci};
use serde_json::Value;

use self::{
    handles::HandleSet,
    incidents::Incidents,
    library::Library,
    nvml::answers::{Answers, Report},
};

const NAME: &str = "nvidia";
const VENDOR_ID: u16 = 0x10de;
const DISPLAY: u16 = 0x0300;
const CONTROLLER_3D: u16 = 0x0302;

/// The first discovery initialises every GPU, which takes seconds for each where nothing keeps them initialised.
const DISCOVER_DEADLINE: Duration = Duration::from_secs(120);
const SAMPLE_DEADLINE: Duration = Duration::from_secs(10);

/// How NVML is asked.
#[derive(Debug, Default)]
pub struct Options {
    /// Where the library is looked for; beneath the host if there is none.
    pub driver_root: Option<PathBuf>,
    /// The memory of each process.
    pub per_process: bool,
}

/// The probe of NVIDIA GPUs.
#[derive(Debug, Default)]
pub struct Nvidia {
    functions: Vec<PciFunction>,
    library: Option<Library>,
    per_process: bool,
    told: Option<Report>,
    sampled: Report,
    incidents: Incidents,
}

impl Nvidia {
    /// A probe that asks NVML as well, in processes that `launcher` starts.
    pub fn with_library(launcher: Launcher, options: Options) -> Nvidia {
        Nvidia {
            library: Some(Library::new(launcher, options.driver_root)),
            per_process: options.per_process,
            ..Nvidia::default()
        }
    }

    /// Asks the library, and joins its word, or its last, to the kernel's.
    fn ask_library(&mut self, host: &Host, findings: &mut Findings) {
        let Some(library) = &mut self.library else { return };
        for event in library.events() {
            self.incidents.add(&event);
        }
        let present = !findings.devices.is_empty();
        match library.ask(host, present, nvml::DISCOVER, DISCOVER_DEADLINE) {
            Ok(Some(report)) => self.told = Some(report),
            // A driver that is replaced takes its library along for a while: what it told stays.
            Ok(None) if present => findings.problems.extend(library.absence(self.told.is_some())),
            Ok(None) => self.told = None,
            Err(error) => findings.problems.extend(library::problem(&error)),
        }
        let Some(report) = &self.told else { return };
        if let Some(code) = interpret::init_error(report) {
            findings.problems.push(library::init_problem(code));
            for device in &mut findings.devices {
                if let Some(health) = health::of_init(code) {
                    device.health = health;
                }
            }
            return;
        }
        interpret::enrich(&mut findings.devices, &mut findings.links, &mut findings.problems, report);
        shared_memory(host, findings);
        for device in &mut findings.devices {
            let told =
                report.devices.iter().find(|told| interpret::address(&told.answers) == Some(device.id.0));
            // What the kernel says goes before: a GPU that the driver left out is no healthy one.
            if let Some(told) = told
                && device.health == Health::unknown()
            {
                health::judge(device, &told.answers, &mut self.incidents);
            }
        }
    }

    /// Asks the library for moving values, and whether what discovery tells has changed.
    fn sample_library(&mut self, host: &Host, sampling: &mut Sampling) {
        let Some(library) = &mut self.library else { return };
        if library.has_events() {
            sampling.rediscover = true;
        }
        // Nothing was discovered by the library, so there is nothing to sample; the next look asks it again.
        let Some(told) = self.told.as_ref().filter(|told| interpret::init_error(told).is_none()) else {
            return;
        };
        let ask = if self.per_process { nvml::SAMPLE_WITH_PROCESSES } else { nvml::SAMPLE };
        match library.ask(host, true, ask, SAMPLE_DEADLINE) {
            Ok(Some(report)) => {
                sampling.rediscover |= begun_anew(told, &report) || wellbeing_changed(told, &report);
                self.sampled = report;
            }
            Ok(None) | Err(RequestError::Pending) => return,
            Err(error) => {
                sampling.problems.extend(library::problem(&error));
                return;
            }
        }
        for told in &self.sampled.devices {
            let Some(address) = interpret::address(&told.answers) else { continue };
            readings::add(sampling, address, told, &self.incidents);
            processes::add(sampling, address, &told.answers);
        }
    }
}

/// NVML tells no memory of a GPU that shares the system's (GB10): the system's is what it has.
fn shared_memory(host: &Host, findings: &mut Findings) {
    let mut facts = Facts::new(host, NAME);
    for device in &mut findings.devices {
        if device.runtime_version.is_known() && device.memory_bytes.missing() == Some(Missing::NotAvailable) {
            facts.about(Some(device.id));
            device.memory_bytes = facts.parse("memory_bytes", "/proc/meminfo", parse_total);
            device.memory_source = device.memory_bytes.map(|_| MemorySource::System);
        }
    }
    findings.problems.extend(facts.into_problems());
}

/// `MemTotal:  125596480 kB` (proc_meminfo(5)): bytes.
fn parse_total(text: &str) -> Result<u64, &'static str> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes
        .and_then(|kibibytes| kibibytes.checked_mul(1024))
        .ok_or("no line such as \"MemTotal: 16384 kB\"")
}

/// Whether the process samples nothing, since it was started anew and has discovered nothing yet.
fn begun_anew(told: &Report, sampled: &Report) -> bool {
    sampled.devices.is_empty()
        && told.devices.iter().any(|device| interpret::address(&device.answers).is_some())
}

/// Whether something that health is read from is no longer as it was discovered.
fn wellbeing_changed(before: &Report, now: &Report) -> bool {
    let of = |report: &Report, address: Option<PciAddress>| -> Option<Answers> {
        let device = report.devices.iter().find(|device| interpret::address(&device.answers) == address)?;
        Some(device.answers.clone())
    };
    now.devices.iter().any(|device| {
        let before = of(before, interpret::address(&device.answers));
        before.is_none_or(|before| health::signs(&before) != health::signs(&device.answers))
    })
}

impl Probe for Nvidia {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let mut facts = Facts::new(host, NAME);
        self.functions =
            bus.of_vendor(VENDOR_ID).filter(|function| is_gpu(host, function)).cloned().collect();
        let mut devices: Vec<Device> =
            self.functions.iter().map(|function| device_of(&mut facts, bus, function)).collect();
        devices.extend(beside_pci(&mut facts, bus));
        facts.about(None);
        let mut findings = Findings { devices, links: Vec::new(), problems: facts.into_problems() };
        self.ask_library(host, &mut findings);
        findings
    }

    fn sample(&mut self, host: &Host, _: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let samples = self
            .functions
            .iter()
            .map(|function| {
                facts.about(Some(function.address.into()));
                let readings = pci::link_readings(&mut facts, function);
                Sample { unit: function.address.into(), readings }
            })
            .filter(|sample| !sample.readings.is_empty())
            .collect();
        let mut sampling = Sampling { samples, problems: facts.into_problems(), rediscover: false };
        self.sample_library(host, &mut sampling);
        sampling
    }

    fn recording(&self) -> Option<(&'static str, Value)> {
        let mut report = self.told.clone()?;
        for (told, sampled) in report.devices.iter_mut().zip(&self.sampled.devices) {
            told.answers.extend(sampled.answers.clone());
            for (told, sampled) in told.mig.iter_mut().zip(&sampled.mig) {
                if let (Some(told), Some(sampled)) = (told, sampled) {
                    told.extend(sampled.clone());
                }
            }
        }
        Some(("nvml.json", serde_json::to_value(report).ok()?))
    }

    fn release(&mut self) -> bool {
        self.library.as_mut().is_none_or(Library::release)
    }

    fn reacquire(&mut self) {
        if let Some(library) = &mut self.library {
            library.reacquire();
        }
    }

    fn restarts(&self) -> Option<u64> {
        self.library.as_ref().map(Library::restarts)
    }
}

fn is_gpu(host: &Host, function: &PciFunction) -> bool {
    let of_class = match function.class() {
        Some(class) => class == DISPLAY || class == CONTROLLER_3D,
        None => function.device_id().is_some_and(|id| products::find(id).is_some()),
    };
    of_class && function.physical_function(host).is_none()
}

fn device_of(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> Device {
    let mut device = device::begin(facts, bus, function, Vendor::Nvidia, Variant::Gpu);
    describe(facts, &mut device);
    // Absent or refused is what a reader without privilege meets, and then nobody tells whether it is a vGPU.
    let configuration = facts.host().read(&function.attribute("config")).unwrap_or_default();
    if let Some(guest) = vgpu::guest(&configuration) {
        let facts = NvidiaFacts { vgpu: Some(guest), ..NvidiaFacts::default() };
        device.vendor_facts = Some(VendorFacts::Nvidia(Box::new(facts)));
    }
    device
}

/// GPUs that the driver tells of and PCI does not, as in reduced copies of a host.
fn beside_pci(facts: &mut Facts<'_>, bus: &PciBus) -> Vec<Device> {
    facts.about(None);
    let names = facts.names("devices", procfs::GPUS);
    let addresses = names.iter().filter_map(|name| name.parse().ok());
    let unseen: Vec<PciAddress> = addresses.filter(|address| bus.function(*address).is_none()).collect();
    unseen
        .into_iter()
        .map(|address| {
            facts.about(Some(address.into()));
            let mut device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
            device.driver = Known::Value(NAME.to_owned());
            describe(facts, &mut device);
            device
        })
        .collect()
}

/// Fills in what the driver and the table tell.
fn describe(facts: &mut Facts<'_>, device: &mut Device) {
    let information = procfs::information(facts, device.id.0);
    let row = device.pci.device_id.value().and_then(|id| products::find(id.0));
    device.product = product(facts, device, row, &information.model);
    device.compute = Known::from_option(row.map(|row| row.compute.to_owned()), Missing::Unrecognized);
    device.driver_version.fill(|| procfs::driver_version(facts));
    device.firmware_version = information.video_bios;
    let mut handles = HandleSet(&mut device.handles);
    if let Known::Value(uuid) = &information.uuid {
        handles.add_uuid(uuid);
    }
    if let Known::Value(minor) = information.minor {
        handles.add_minor(minor);
    }
    device.uuid = information.uuid;
    if information.excluded == Known::Value(true) {
        device.health = Health::failed(
            "GpuExcluded",
            "the driver was told to leave this GPU out (module option NVreg_ExcludedGpus)",
        );
    }
}

fn product(
    facts: &mut Facts<'_>,
    device: &Device,
    row: Option<&products::NvidiaProductRow>,
    model: &Known<String>,
) -> Known<Product> {
    let known = |text: Option<&str>| Known::from_option(text.map(str::to_owned), Missing::Unrecognized);
    match (model.value(), row) {
        (None, None) => {
            let id = device.pci.device_id.value().map_or_else(|| "????".to_owned(), ToString::to_string);
            facts.missing(
                "product",
                Missing::Unrecognized,
                None,
                format_args!("device id {id} is not in the table"),
            )
        }
        (name, row) => Known::Value(Product {
            name: name.cloned().or_else(|| row.map(|row| row.name.to_owned())).unwrap_or_default(),
            model: known(row.map(|row| row.model)),
            architecture: known(row.map(|row| row.architecture)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use afd_model::{HandleKind, HealthState};

    use super::*;

    fn discovered(folder: &TestHost) -> Findings {
        let host = folder.open();
        Nvidia::default().discover(&host, &PciBus::read(&host))
    }

    fn function(folder: TestHost, address: &str, device: &str, class: &str) -> TestHost {
        let path = |file: &str| format!("/sys/bus/pci/devices/{address}/{file}");
        folder
            .file(&path("vendor"), "0x10de\n")
            .file(&path("device"), format!("{device}\n"))
            .file(&path("class"), format!("{class}\n"))
    }

    #[test]
    fn switches_and_audio_are_no_gpus() {
        let folder = function(TestHost::new(), "0000:01:00.0", "0x2330", "0x030200");
        let folder = function(folder, "0000:01:00.1", "0x10f0", "0x040300");
        let folder = function(folder, "0000:02:00.0", "0x22a3", "0x068000");
        let devices = discovered(&folder).devices;
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].product_name(), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!(devices[0].compute, Known::Value("9.0".to_owned()));
        assert_eq!(devices[0].memory_bytes.missing(), Some(Missing::NotExposed));
    }

    #[test]
    fn an_unknown_id_is_a_device_with_a_problem() {
        let findings = discovered(&function(TestHost::new(), "0000:01:00.0", "0xffff", "0x030200"));
        assert_eq!(findings.devices[0].product.missing(), Some(Missing::Unrecognized));
        assert_eq!(findings.problems.len(), 1);
    }

    #[test]
    fn the_drivers_word_goes_before_the_table() {
        let folder = function(TestHost::new(), "0000:01:00.0", "0x20b5", "0x030200").file(
            "/proc/driver/nvidia/gpus/0000:01:00.0/information",
            "Model: \t\t NVIDIA A100 80GB PCIe\nGPU UUID: \t GPU-00000000-0000-0000-0000-000000000001\nDevice Minor: \t 3\nGPU Excluded:\t Yes\n",
        );
        let device = &discovered(&folder).devices[0];
        assert_eq!(device.product_name(), Some("NVIDIA A100 80GB PCIe"));
        assert_eq!(device.handle(HandleKind::Minor), Some("3"));
        let plugin_ids: Vec<&str> = device
            .handles
            .iter()
            .filter(|handle| handle.kind == HandleKind::DevicePlugin)
            .map(|handle| handle.value.as_str())
            .collect();
        assert_eq!(plugin_ids, ["GPU-00000000-0000-0000-0000-000000000001", "nvidia3"]);
        assert_eq!(device.handle(HandleKind::Dra), Some("gpu-3"));
        assert_eq!(device.health.state, HealthState::Failed);
    }

    #[test]
    fn a_gpu_that_only_the_driver_shows_is_a_device() {
        let folder = TestHost::with_files([(
            "/proc/driver/nvidia/gpus/0000:04:00.0/information",
            "Model: \t\t Tesla K80\nIRQ:   \t\t 33\n",
        )]);
        let devices = discovered(&folder).devices;
        assert_eq!(devices[0].product_name(), Some("Tesla K80"));
        assert_eq!(devices[0].id.to_string(), "0000:04:00.0");
    }
}
