//! What PCI, its drivers and SR-IOV report of any accelerator: the device as a vendor's probe begins to describe it.

use afd_host::Host;
use afd_model::{
    Device, DeviceId, Handle, HandleKind, Health, Known, Missing, Partition, PartitionFunction,
    PartitionName, Partitioning, PciAddress, Variant, Vendor,
};

use crate::{
    Facts, PciBus, PciFunction,
    pci::{DEVICES, parse_numa_node},
};

/// A device with all facts that do not depend on the vendor. The others are not exposed until the vendor's probe fills them
/// in.
pub fn begin(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    function: &PciFunction,
    vendor: Vendor,
    variant: Variant,
) -> Device {
    let id = function.address.into();
    facts.about(Some(id));
    let driver = driver_of(facts, &function.attribute("driver"));
    let mut device = Device::bare(function.address, vendor, variant);
    device.pci = function.describe(facts);
    device.numa_node = facts.parse_known("numa_node", &function.attribute("numa_node"), parse_numa_node);
    device.driver_version = driver_version(facts, &driver);
    if driver.missing() == Some(Missing::DriverNotBound) {
        device.health = Health::failed(
            "DriverMissing",
            "no kernel driver is bound to the device; load the vendor's driver and check the kernel log",
        );
    }
    device.driver = driver;
    device.handles = drm_handles(facts, function);
    (device.partitioning, device.partitions) = virtual_functions(facts, bus, function);
    device
}

/// The driver that a `driver` link points at; without the link, none is bound.
fn driver_of(facts: &mut Facts<'_>, link: &str) -> Known<String> {
    match facts.link_name("driver", link) {
        Known::Missing { missing: Missing::NotExposed } => Missing::DriverNotBound.into(),
        driver => driver,
    }
}

/// The present binding of a device to its driver: a number that is another one after the driver was loaded again, or bound again,
/// in the same boot. The kernel makes the link each time. Times of sysfs say nothing of that: they are those at which a file was
/// looked up first.
pub fn driver_binding(host: &Host, device: DeviceId) -> Option<u64> {
    host.file_number(&format!("{}/{device}/driver", DEVICES)).ok()
}

/// `/sys/module/<driver>/version`. A loaded module without that file is part of the kernel, and its version is the release of
/// the kernel.
pub fn driver_version(facts: &mut Facts<'_>, driver: &Known<String>) -> Known<String> {
    let Some(name) = driver.value() else {
        return driver.missing().unwrap_or(Missing::NotExposed).into();
    };
    let module = format!("/sys/module/{}", name.replace('-', "_"));
    match facts.text("driver_version", &format!("{module}/version")) {
        Known::Missing { missing: Missing::NotExposed } if facts.host().exists(&module) => {
            facts.text("driver_version", crate::node::KERNEL_RELEASE)
        }
        version => version,
    }
}

/// `card0` and `renderD128` of `<function>/drm`.
fn drm_handles(facts: &mut Facts<'_>, function: &PciFunction) -> Vec<Handle> {
    facts
        .names("drm_nodes", &function.attribute("drm"))
        .into_iter()
        .filter_map(|name| {
            let kind = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "card" => HandleKind::DrmCard,
                "renderD" => HandleKind::DrmRender,
                _ => return None,
            };
            Some(Handle::new(kind, name))
        })
        .collect()
}

/// The virtual functions of a function: `sriov_numvfs` and the links `virtfn0`, `virtfn1`, ...
fn virtual_functions(
    facts: &mut Facts<'_>,
    bus: &PciBus,
    function: &PciFunction,
) -> (Known<Partitioning>, Vec<Partition>) {
    let count: Known<u16> = facts.number("partitioning", &function.attribute("sriov_numvfs"));
    let Known::Value(count @ 1..) = count else {
        // Without the file the function has no SR-IOV capability; with 0 it is not used. Other ways of partitioning are up to the
        // vendor's probe.
        return (Missing::NotExposed.into(), Vec::new());
    };
    let id = function.address;
    let partitions = (0..count)
        .filter_map(|index| {
            let target = facts.link_name("partitions", &function.attribute(&format!("virtfn{index}")));
            let address: PciAddress = target.into_value()?.parse().ok()?;
            let directory = bus.function(address).map_or_else(
                || format!("{DEVICES}/{address}"),
                |virtual_function| virtual_function.directory.clone(),
            );
            Some(Partition {
                function: Known::Value(PartitionFunction {
                    address,
                    driver: driver_of(facts, &format!("{directory}/driver")),
                }),
                numa_node: facts.parse_known("numa_node", &format!("{directory}/numa_node"), parse_numa_node),
                ..Partition::bare(id.into(), PartitionName::VirtualFunction(index.into()))
            })
        })
        .collect();
    (Known::Value(Partitioning::Sriov { functions: u32::from(count) }), partitions)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use afd_model::HealthState;

    use super::*;

    fn described(folder: &TestHost) -> (Device, usize) {
        let host = folder.open();
        let bus = PciBus::read(&host);
        let function = bus.functions().next().expect("the host has a function");
        let mut facts = Facts::new(&host, "intel");
        let device = begin(&mut facts, &bus, function, Vendor::Intel, Variant::Xpu);
        (device, facts.into_problems().len())
    }

    #[test]
    fn virtual_functions_are_partitions_of_their_physical_function() {
        let folder = TestHost::with_files([
            ("/sys/bus/pci/devices/0000:3a:00.0/vendor", "0x8086\n"),
            ("/sys/bus/pci/devices/0000:3a:00.0/sriov_numvfs", "2\n"),
            ("/sys/bus/pci/devices/0000:3a:00.1/vendor", "0x8086\n"),
        ])
        .link("/sys/bus/pci/devices/0000:3a:00.0/virtfn0", "../0000:3a:00.1")
        .link("/sys/bus/pci/devices/0000:3a:00.0/virtfn1", "../0000:3a:00.2")
        .link("/sys/bus/pci/devices/0000:3a:00.1/physfn", "../0000:3a:00.0")
        .link("/sys/bus/pci/devices/0000:3a:00.1/driver", "../../../bus/pci/drivers/vfio-pci");
        let (device, problems) = described(&folder);
        let partitions: Vec<_> = device.partitions.iter().map(|partition| partition.id.to_string()).collect();
        assert_eq!(partitions, ["0000:3a:00.0/vf0", "0000:3a:00.0/vf1"]);
        assert_eq!(device.partitioning, Known::Value(Partitioning::Sriov { functions: 2 }));
        assert_eq!(problems, 0);
    }

    #[test]
    fn a_device_without_a_driver_cannot_take_work() {
        let folder = TestHost::with_files([("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n")]);
        let (device, _) = described(&folder);
        assert_eq!(device.driver.missing(), Some(Missing::DriverNotBound));
        assert_eq!(device.health.state, HealthState::Failed);
    }

    #[test]
    fn a_module_without_a_version_has_that_of_the_kernel() {
        let files = [
            ("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n"),
            ("/proc/sys/kernel/osrelease", "6.12.41\n"),
        ];
        let bound = |folder: TestHost| {
            folder.link("/sys/bus/pci/devices/0000:01:00.0/driver", "../../../bus/pci/drivers/vfio-pci")
        };
        let (device, _) = described(&bound(TestHost::with_files(files)));
        assert_eq!(device.driver_version.missing(), Some(Missing::NotExposed), "the module is not loaded");
        let (device, _) =
            described(&bound(TestHost::with_files(files).file("/sys/module/vfio_pci/initstate", "live\n")));
        assert_eq!(device.driver_version, Known::Value("6.12.41".to_owned()));
    }
}
