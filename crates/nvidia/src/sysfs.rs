//! GPUs as the kernel reports them: PCI functions, and what NVIDIA's driver reports of each in procfs.

use afd_host::Host;
use afd_model::{
    Device, Health, Known, LinkKind, MemorySource, Missing, NvidiaFacts, PciAddress, Problem, Product,
    Variant, Vendor, VendorFacts,
};
use afd_probe::{Facts, PciBus, PciFunction, device, node};

use crate::{
    NAME,
    handles::HandleSet,
    procfs,
    products::{self, NvidiaProductRow},
    vgpu,
};

const VENDOR_ID: u16 = 0x10de;
const DISPLAY: u16 = 0x0300;
const CONTROLLER_3D: u16 = 0x0302;
/// The fact of the problem of an unknown product.
const PRODUCT: &str = "product";

/// The PCI functions that are GPUs. One whose vendor is not known, as in partial copies of a host, is a GPU if the driver lists it.
pub(crate) fn gpus(host: &Host, bus: &PciBus) -> Vec<PciFunction> {
    let listed = host.list(procfs::GPUS).unwrap_or_default();
    let is_listed = |function: &PciFunction| listed.contains(&function.address.to_string());
    let is_of_vendor = |function: &&PciFunction| match function.vendor_id {
        Known::Value(vendor) => vendor.0 == VENDOR_ID,
        Known::Missing { .. } => is_listed(function),
    };
    let is_gpu = |function: &&PciFunction| {
        let is_of_class = match function.class() {
            Some(class) => class == DISPLAY || class == CONTROLLER_3D,
            None => {
                function.device_id().is_some_and(|id| products::find(id).is_some()) || is_listed(function)
            }
        };
        is_of_class && function.physical_function(host).is_none()
    };
    bus.functions().filter(is_of_vendor).filter(is_gpu).cloned().collect()
}

/// The device of a PCI function, and whether the driver reports its name.
pub(crate) fn device(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> (Device, bool) {
    let mut device = device::begin(facts, bus, function, Vendor::Nvidia, Variant::Gpu);
    // What the driver lists is bound to it, though a partial copy of a host lacks the link.
    if device.driver.missing() == Some(Missing::DriverNotBound)
        && facts.host().exists(&format!("{}/{}", procfs::GPUS, device.id))
    {
        device.driver = Known::Value(NAME.to_owned());
        device.driver_version = procfs::driver_version(facts);
        device.health = Health::unknown();
    }
    let is_named = describe(facts, &mut device);
    // An unprivileged reader gets no file or a part of it; whether it is a vGPU is unknown then.
    let configuration = facts.host().read(&function.attribute("config")).unwrap_or_default();
    if let Some(guest) = vgpu::guest(&configuration) {
        let facts = NvidiaFacts { vgpu: Some(guest), ..NvidiaFacts::default() };
        device.vendor_facts = Some(VendorFacts::Nvidia(Box::new(facts)));
    }
    (device, is_named)
}

/// GPUs that the driver reports where PCI has none, as in partial copies of a host. Elsewhere a GPU without a function is gone.
pub(crate) fn devices_without_function(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    gpus: &[PciFunction],
) -> Vec<(Device, bool)> {
    if !gpus.is_empty() || bus.of_vendor(VENDOR_ID).next().is_some() {
        return Vec::new();
    }
    facts.about(None);
    let names = facts.names("devices", procfs::GPUS);
    let addresses = names.iter().filter_map(|name| name.parse().ok());
    addresses
        .map(|address: PciAddress| {
            facts.about(Some(address.into()));
            let mut device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
            device.driver = Known::Value(NAME.to_owned());
            let is_named = describe(facts, &mut device);
            (device, is_named)
        })
        .collect()
}

/// Fills in the system's memory for GPUs that share it (GB10), of which NVML reports no memory.
pub(crate) fn shared_memory(facts: &mut Facts<'_>, devices: &mut [Device]) {
    for device in devices {
        if device.runtime_version.is_known() && device.memory_bytes.missing() == Some(Missing::NotAvailable) {
            facts.about(Some(device.id));
            device.memory_bytes = facts.parse("memory_bytes", node::MEMORY, node::parse_memory_total);
            device.memory_source = device.memory_bytes.map(|_| MemorySource::System);
        }
    }
}

/// Fills in what the driver reports, and the facts of the product table; whether the driver reports the name.
fn describe(facts: &mut Facts<'_>, device: &mut Device) -> bool {
    let information = procfs::information(facts, device.id.0);
    let reported = information.model.value().map(String::as_str);
    let row = products::of_device(&device.pci, reported);
    device.product = product(facts, device, row, reported);
    device.display_only = device.product_name().is_some_and(products::is_display_only);
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
            "the driver is configured to exclude this GPU (module option NVreg_ExcludedGpus)",
        );
    }
    information.model.is_known()
}

/// The driver's name takes precedence over the table's.
fn product(
    facts: &mut Facts<'_>,
    device: &Device,
    row: Option<&NvidiaProductRow>,
    reported: Option<&str>,
) -> Known<Product> {
    match (reported, row) {
        (None, None) => {
            let id = device.pci.device_id.value().map_or_else(|| "????".to_owned(), ToString::to_string);
            facts.missing(
                PRODUCT,
                Missing::Unrecognized,
                None,
                format_args!("device id {id} is not in the table"),
            )
        }
        (reported, Some(row)) => Known::Value(row.product(reported)),
        (Some(reported), None) => Known::Value(Product {
            name: reported.to_owned(),
            model: Missing::Unrecognized.into(),
            architecture: Missing::Unrecognized.into(),
        }),
    }
}

/// Gives a GPU of which the driver reports no name the product of others with its device and subsystem ids, all of which are known, where
/// these agree: one that cannot be opened is no other product. `is_named`: whether the driver reports the name of a GPU.
pub(crate) fn adopt_names(devices: &mut [Device], is_named: impl Fn(PciAddress) -> bool) {
    let kind = |device: &Device| {
        let pci = &device.pci;
        Some((
            pci.device_id.into_value()?,
            pci.subsystem_vendor_id.into_value()?,
            pci.subsystem_device_id.into_value()?,
        ))
    };
    let named: Vec<_> = devices
        .iter()
        .filter(|device| is_named(device.id.0))
        .filter_map(|device| Some((kind(device)?, device.product.value()?.clone())))
        .collect();
    for device in devices.iter_mut().filter(|device| !is_named(device.id.0)) {
        let Some(own) = kind(device) else { continue };
        let mut products = named.iter().filter(|(kind, _)| *kind == own).map(|(_, product)| product);
        let Some(first) = products.next() else { continue };
        if products.all(|product| product == first) {
            device.product = Known::Value(first.clone());
            device.display_only = products::is_display_only(&first.name);
        }
    }
}

/// Fills in PCIe as the link between GPUs of which the product table knows that they have no other, and removes it where there is
/// no other GPU.
pub(crate) fn complete_interconnect(devices: &mut [Device]) {
    let is_alone = devices.len() < 2;
    for device in devices {
        let row = products::of_device(&device.pci, device.product_name());
        if row.is_some_and(NvidiaProductRow::has_no_nvlink) {
            device.interconnect.fill(|| Known::Value(LinkKind::Pcie));
        }
        if is_alone && device.interconnect == Known::Value(LinkKind::Pcie) {
            device.interconnect = Missing::NotAvailable.into();
        }
    }
}

/// Removes the problem of a product that another source has reported since.
pub(crate) fn retract_solved(problems: &mut Vec<Problem>, devices: &[Device]) {
    let is_solved = |problem: &Problem| {
        problem.fact == PRODUCT
            && devices.iter().any(|device| Some(device.id) == problem.device && device.product.is_known())
    };
    problems.retain(|problem| !is_solved(problem));
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use afd_model::{Findings, HandleKind, HealthState};
    use afd_probe::Probe;

    use super::*;

    fn discovered(folder: &TestHost) -> Findings {
        let host = folder.open();
        crate::Nvidia::default().discover(&host, &PciBus::read(&host))
    }

    fn function(folder: TestHost, address: &str, device: &str, class: &str) -> TestHost {
        let path = |file: &str| format!("/sys/bus/pci/devices/{address}/{file}");
        folder
            .file(&path("vendor"), "0x10de\n")
            .file(&path("device"), format!("{device}\n"))
            .file(&path("class"), format!("{class}\n"))
    }

    #[test]
    fn switches_and_audio_functions_are_not_gpus() {
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
    fn a_gpu_without_a_name_is_what_those_with_its_ids_are() {
        let gpu = |folder: TestHost, bus: u8, subsystem: &str, model: Option<&str>| {
            let address = format!("0000:{bus:02x}:00.0");
            let path = |name: &str| format!("/sys/bus/pci/devices/{address}/subsystem_{name}");
            let mut folder = function(folder, &address, "0x25b6", "0x030200");
            if !subsystem.is_empty() {
                folder =
                    folder.file(&path("vendor"), "0x10de\n").file(&path("device"), format!("{subsystem}\n"));
            }
            match model {
                Some(model) => folder.file(
                    &format!("/proc/driver/nvidia/gpus/{address}/information"),
                    format!("Model: \t\t {model}\n"),
                ),
                None => folder,
            }
        };
        let names = |folder: &TestHost| -> Vec<String> {
            let devices = discovered(folder).devices;
            devices.iter().filter_map(|device| device.product_name()).map(str::to_owned).collect()
        };
        let folder = gpu(TestHost::new(), 1, "0x0001", Some("NVIDIA A2"));
        let folder = gpu(folder, 2, "0x0001", None);
        let folder = gpu(folder, 3, "0x0002", None);
        assert_eq!(
            names(&folder),
            ["NVIDIA A2", "NVIDIA A2", "NVIDIA A2 / A16"],
            "another board says nothing"
        );
        let folder = gpu(folder, 4, "0x0001", Some("NVIDIA A16"));
        assert_eq!(names(&folder)[1], "NVIDIA A2 / A16", "the others differ");
        let unread = gpu(gpu(TestHost::new(), 1, "", Some("NVIDIA A2")), 2, "", None);
        assert_eq!(names(&unread)[1], "NVIDIA A2 / A16", "ids that are not known are not the same");
    }

    #[test]
    fn gpus_that_have_no_nvlink_reach_each_other_over_pcie() {
        let interconnect = |ids: &[&str]| {
            let folder = ids.iter().enumerate().fold(TestHost::new(), |folder, (bus, id)| {
                function(folder, &format!("0000:{bus:02x}:00.0"), id, "0x030200")
            });
            discovered(&folder).devices[0].interconnect
        };
        for without in ["0x1eb8", "0x26b9", "0x27b8", "0x2bb5", "0x2684", "0x102d", "0x2236"] {
            assert_eq!(interconnect(&[without, without]), Known::Value(LinkKind::Pcie), "{without}");
            assert!(!interconnect(&[without]).is_known(), "it is alone");
        }
        for perhaps in ["0x2330", "0x20b5", "0x2230", "0x1db6", "0xffff"] {
            assert!(!interconnect(&[perhaps, perhaps]).is_known(), "{perhaps}");
        }
    }

    #[test]
    fn a_jetson_whose_gpu_is_no_pci_function_is_a_problem_and_one_with_a_function_is_none() {
        let jetson = |family: &str| TestHost::new().file("/sys/devices/soc0/family", family);
        let problems = |folder: &TestHost| discovered(folder).problems;
        assert!(problems(&jetson("Tegra\n"))[0].message.contains("Jetson"));
        assert!(
            problems(&TestHost::new().file("/etc/nv_tegra_release", "# R36"))[0].message.contains("Tegra")
        );
        assert!(problems(&jetson("Snapdragon\n")).is_empty());
        assert!(problems(&function(jetson("Tegra\n"), "0000:01:00.0", "0x2b00", "0x030000")).is_empty());
    }

    #[test]
    fn a_product_that_a_later_source_reports_is_no_problem() {
        let findings = discovered(&function(TestHost::new(), "0000:01:00.0", "0xfffe", "0x030200"));
        let mut problems = findings.problems.clone();
        retract_solved(&mut problems, &findings.devices);
        assert_eq!(problems.len(), 1);
        let name = "NVIDIA New".to_owned();
        let product = Product { name, model: Known::default(), architecture: Known::default() };
        let named = Device { product: Known::Value(product), ..findings.devices[0].clone() };
        retract_solved(&mut problems, &[named]);
        assert!(problems.is_empty());
    }

    #[test]
    fn what_the_driver_reports_takes_precedence_over_the_table() {
        let folder = function(TestHost::new(), "0000:01:00.0", "0x20b5", "0x030200").file(
            "/proc/driver/nvidia/gpus/0000:01:00.0/information",
            "Model: \t\t NVIDIA A100 80GB PCIe\nGPU UUID: \t GPU-00000000-0000-0000-0000-000000000001\nDevice Minor: \t 3\nGPU Excluded:\t Yes\n",
        );
        let device = &discovered(&folder).devices[0];
        assert_eq!(device.product_name(), Some("NVIDIA A100 80GB PCIe"));
        assert_eq!(device.health.state, HealthState::Failed);
    }

    #[test]
    fn a_gpu_has_its_plugin_ids_and_dra_name_without_nvml() {
        let folder = function(TestHost::new(), "0000:01:00.0", "0x20b5", "0x030200").file(
            "/proc/driver/nvidia/gpus/0000:01:00.0/information",
            "GPU UUID: \t GPU-00000000-0000-0000-0000-000000000001\nDevice Minor: \t 3\n",
        );
        let device = &discovered(&folder).devices[0];
        let values = |kind| -> Vec<&str> {
            let handles = device.handles.iter().filter(|handle| handle.kind == kind);
            handles.map(|handle| handle.value.as_str()).collect()
        };
        assert_eq!(values(HandleKind::DevicePlugin), ["GPU-00000000-0000-0000-0000-000000000001", "nvidia3"]);
        assert_eq!((values(HandleKind::Minor), values(HandleKind::Dra)), (vec!["3"], vec!["gpu-3"]));
    }

    #[test]
    fn a_function_with_a_class_alone_is_a_gpu_if_the_driver_lists_it() {
        let class = |folder: TestHost, bus: u8| {
            folder.file(&format!("/sys/bus/pci/devices/0000:{bus:02x}:00.0/class"), "0x030200\n")
        };
        let folder = class(class(TestHost::new(), 4), 5)
            .file(
                "/proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.59  Wed\n",
            )
            .file("/proc/driver/nvidia/gpus/0000:05:00.0/information", "Model: \t\t Tesla K80\n");
        let devices = discovered(&folder).devices;
        let [device] = &devices[..] else { panic!("there is one: {devices:?}") };
        assert_eq!((device.product_name(), device.id.0.bus), (Some("Tesla K80"), 5));
        assert_eq!(device.driver_version, Known::Value("390.59".to_owned()));
        assert_eq!(device.health.state, HealthState::Unknown);
        assert!(discovered(&class(TestHost::new(), 4)).devices.is_empty(), "it may be any vendor's");
    }

    #[test]
    fn a_gpu_that_only_the_driver_reports_is_a_device() {
        let folder = TestHost::with_files([(
            "/proc/driver/nvidia/gpus/0000:04:00.0/information",
            "Model: \t\t Tesla K80\nIRQ:   \t\t 33\n",
        )]);
        let devices = discovered(&folder).devices;
        assert_eq!(devices[0].product_name(), Some("Tesla K80"));
        assert_eq!(devices[0].id.to_string(), "0000:04:00.0");
    }
}
