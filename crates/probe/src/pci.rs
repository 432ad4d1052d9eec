//! The PCI functions of a host (`Documentation/ABI/testing/sysfs-bus-pci`).

mod link;

use std::collections::BTreeMap;

use afd_host::Host;
use afd_model::{Known, Missing, Pci, PciAddress, PciClass, PciId, Problem};

pub(crate) use self::link::giga;
pub use self::link::{link_readings, parse_link_speed, parse_link_width, pcie_link};
use crate::Facts;

/// Where the kernel lists PCI functions.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// All PCI functions of a host.
#[derive(Clone, Debug, Default)]
pub struct PciBus {
    functions: BTreeMap<PciAddress, PciFunction>,
    problems: Vec<Problem>,
}

/// One PCI function, with the attributes that identify it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PciFunction {
    /// Its address.
    pub address: PciAddress,
    /// The directory of its attributes.
    pub directory: String,
    /// Vendor id.
    pub vendor_id: Known<PciId>,
    /// Device id.
    pub device_id: Known<PciId>,
    /// Class code.
    pub class: Known<PciClass>,
    /// The bridges above it, root port first.
    pub upstream: Vec<PciAddress>,
}

impl PciBus {
    /// Reads the bus. Functions that only the DRM class lists (as in reduced copies of a host) are read as well.
    pub fn read(host: &Host) -> PciBus {
        let mut facts = Facts::new(host, "pci");
        let mut functions = BTreeMap::new();
        for name in facts.names("pci_functions", DEVICES) {
            if let Ok(address) = name.parse() {
                let function = PciFunction::read(&mut facts, address, format!("{DEVICES}/{name}"));
                functions.insert(address, function);
            }
        }
        for card in facts
            .names("drm_cards", "/sys/class/drm")
            .into_iter()
            .filter(|name| numbered(name, "card").is_some())
        {
            let directory = format!("/sys/class/drm/{card}/device");
            let address = match host.link(&directory) {
                Ok(text) => text.rsplit('/').next().and_then(|name| name.parse().ok()),
                Err(_) => slot_of(host, &directory),
            };
            if let Some(address) = address
                && !functions.contains_key(&address)
            {
                functions.insert(address, PciFunction::read(&mut facts, address, directory));
            }
        }
        PciBus { functions, problems: facts.into_problems() }
    }

    /// All functions, in the order of their addresses.
    pub fn functions(&self) -> impl Iterator<Item = &PciFunction> {
        self.functions.values()
    }

    /// The functions of a vendor.
    pub fn of_vendor(&self, vendor_id: u16) -> impl Iterator<Item = &PciFunction> {
        self.functions().filter(move |function| function.vendor_id == Known::Value(PciId(vendor_id)))
    }

    /// The function at an address.
    pub fn function(&self, address: PciAddress) -> Option<&PciFunction> {
        self.functions.get(&address)
    }

    /// The devices of a vendor: the functions for which `is_device` is true. A virtual function whose physical function is on this
    /// host is a partition of that one and no device.
    pub fn devices<'b>(
        &'b self,
        host: &Host,
        vendor_id: u16,
        is_device: impl Fn(&PciFunction) -> bool,
    ) -> Vec<&'b PciFunction> {
        let is_partition = |function: &PciFunction| {
            function.physical_function(host).is_some_and(|physical| self.function(physical).is_some())
        };
        self.of_vendor(vendor_id).filter(|function| is_device(function) && !is_partition(function)).collect()
    }

    /// The two bridges directly above a function and below another one, upstream port first: the ports of a switch on the board,
    /// if it has one. None where the upper one is not visible, as in a virtual machine.
    pub fn ports_above(&self, function: &PciFunction) -> Option<(&PciFunction, Option<&PciFunction>)> {
        let [.., _slot, upstream, downstream] = function.upstream.as_slice() else { return None };
        Some((self.function(*upstream)?, self.function(*downstream)))
    }

    /// What could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl PciFunction {
    fn read(facts: &mut Facts<'_>, address: PciAddress, directory: String) -> PciFunction {
        facts.about(Some(address.into()));
        let mut uevent = None;
        let mut function = PciFunction {
            address,
            vendor_id: facts.number("pci.vendor_id", &format!("{directory}/vendor")),
            device_id: facts.number("pci.device_id", &format!("{directory}/device")),
            class: facts.number("pci.class", &format!("{directory}/class")),
            upstream: upstream(facts.host(), &directory, address),
            directory,
        };
        facts.about(None);
        // uevent repeats the ids; it is read only where a file of its own is missing.
        let host = facts.host();
        let directory = function.directory.clone();
        let mut by_uevent = |key: &str| {
            let text = uevent.get_or_insert_with(|| uevent_text(host, &directory));
            uevent_value(text, key).map(str::to_owned)
        };
        if !function.vendor_id.is_known()
            && let Some((vendor, device)) = by_uevent("PCI_ID").as_deref().and_then(pci_id_pair)
        {
            function.vendor_id = Known::Value(vendor);
            function.device_id = function.device_id.or_else(|| Known::Value(device));
        }
        if !function.device_id.is_known()
            && let Some((_, device)) = by_uevent("PCI_ID").as_deref().and_then(pci_id_pair)
        {
            function.device_id = Known::Value(device);
        }
        if !function.class.is_known()
            && let Some(class) = by_uevent("PCI_CLASS").and_then(|class| class.parse().ok())
        {
            function.class = Known::Value(class);
        }
        function
    }

    /// The path of one of its attributes.
    pub fn attribute(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Base class and subclass, if the class is known.
    pub fn class(&self) -> Option<u16> {
        self.class.value().map(|class| class.base_and_subclass())
    }

    /// Device id, if it is known.
    pub fn device_id(&self) -> Option<u16> {
        self.device_id.value().map(|id| id.0)
    }

    /// The physical function of which this is a virtual one, where both are on this host.
    pub fn physical_function(&self, host: &Host) -> Option<PciAddress> {
        let text = host.link(&self.attribute("physfn")).ok()?;
        text.rsplit('/').next()?.parse().ok()
    }

    /// All that PCI reports of the function.
    pub fn describe(&self, facts: &mut Facts<'_>) -> Pci {
        Pci {
            address: self.address,
            vendor_id: self.vendor_id,
            device_id: self.device_id,
            class: self.class,
            revision: facts.parse("pci.revision", &self.attribute("revision"), |text| {
                u8::from_str_radix(text.trim_start_matches("0x"), 16)
            }),
            subsystem_vendor_id: facts.number("pci.subsystem_vendor_id", &self.attribute("subsystem_vendor")),
            subsystem_device_id: facts.number("pci.subsystem_device_id", &self.attribute("subsystem_device")),
            link: pcie_link(facts, self, "current"),
            max_link: pcie_link(facts, self, "max"),
            upstream: self.upstream.clone(),
            removable: self.is_removable(facts.host()),
        }
    }

    /// Whether the kernel says that it can be unplugged. The file exists only where the firmware describes the port.
    fn is_removable(&self, host: &Host) -> bool {
        host.read(&self.attribute("removable")).is_ok_and(|text| text.starts_with(b"removable"))
    }
}

/// NUMA node number; the kernel writes -1 where it has none.
///
/// # Errors
/// When the text is no number.
pub fn parse_numa_node(text: &str) -> Result<Known<u32>, std::num::ParseIntError> {
    text.parse::<i32>().map(|node| Known::from_option(u32::try_from(node).ok(), Missing::NotAvailable))
}

/// `10DE:2330`, the PCI_ID of a uevent.
fn pci_id_pair(text: &str) -> Option<(PciId, PciId)> {
    let (vendor, device) = text.split_once(':')?;
    Some((vendor.parse().ok()?, device.parse().ok()?))
}

/// The number in a name of the kernel: 3 in `card3`, for the prefix `card`.
pub fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The value of a key in the `KEY=value` lines of a uevent.
pub fn uevent_value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches(['\0', ' ']))
}

fn uevent_text(host: &Host, directory: &str) -> String {
    let bytes = host.read(&format!("{directory}/uevent")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn slot_of(host: &Host, directory: &str) -> Option<PciAddress> {
    uevent_value(&uevent_text(host, directory), "PCI_SLOT_NAME")?.parse().ok()
}

/// The addresses in the path from the root complex, `../../../devices/pci0000:15/0000:15:01.0/0000:16:00.0`.
fn upstream(host: &Host, directory: &str, address: PciAddress) -> Vec<PciAddress> {
    let text = host.link(directory).unwrap_or_default();
    text.split('/').filter_map(|name| name.parse().ok()).filter(|bridge| *bridge != address).collect()
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_come_from_uevent_where_a_file_of_their_own_is_missing() {
        let folder = TestHost::with_files([
            (
                "/sys/bus/pci/devices/0000:01:00.0/uevent",
                "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:2330\n",
            ),
            ("/sys/bus/pci/devices/0000:02:00.0/vendor", "0x1002\n"),
            ("/sys/bus/pci/devices/0000:02:00.0/device", "0x74a1\n"),
            ("/sys/bus/pci/devices/0000:02:00.0/class", "0x120000\n"),
        ]);
        let bus = PciBus::read(&folder.open());
        let ids: Vec<_> = bus.functions().map(|function| (function.device_id(), function.class())).collect();
        assert_eq!(ids, [(Some(0x2330), Some(0x0302)), (Some(0x74a1), Some(0x1200))]);
        assert_eq!(bus.of_vendor(0x10de).count(), 1);
        assert!(bus.problems().is_empty());
    }

    #[test]
    fn the_path_from_the_root_complex_is_in_the_link() {
        let folder =
            TestHost::with_files([("/sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0/vendor", "0x8086\n")])
                .link(
                    "/sys/bus/pci/devices/0000:16:00.0",
                    "../../../devices/pci0000:15/0000:15:01.0/0000:16:00.0",
                );
        let bus = PciBus::read(&folder.open());
        let upstream: Vec<_> =
            bus.functions().flat_map(|function| &function.upstream).map(ToString::to_string).collect();
        assert_eq!(upstream, ["0000:15:01.0"]);
    }

    #[test]
    fn only_digits_after_the_prefix_are_a_number() {
        assert_eq!(numbered("card12", "card"), Some(12));
        for name in ["card", "card+1", "card1-DP-1", "card_controlD10", "renderD128", "card99999999999"] {
            assert_eq!(numbered(name, "card"), None, "{name}");
        }
    }

    #[test]
    fn a_virtual_function_is_a_device_only_without_its_physical_function() {
        let virtual_function = "/sys/bus/pci/devices/0000:01:00.1";
        let of = |folder: TestHost| {
            let folder = folder
                .file(&format!("{virtual_function}/vendor"), "0x1002\n")
                .link(&format!("{virtual_function}/physfn"), "../0000:01:00.0");
            let host = folder.open();
            let bus = PciBus::read(&host);
            bus.devices(&host, 0x1002, |_| true)
                .iter()
                .map(|function| function.address.function)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(TestHost::new().file("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x1002\n")), [0]);
        assert_eq!(of(TestHost::new()), [1]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = numbered(&text, "");
            let _ = parse_numa_node(&text);
            let _ = pci_id_pair(&text);
            let _ = uevent_value(&text, "PCI_ID");
            let _ = text.parse::<PciAddress>();
            let _ = text.parse::<PciClass>();
        }
    }
}
