//! All devices of the node, assembled from the findings of the probes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Device, HostFacts, Known, LibraryStatus, Link, LinkKind, Missing, MissingDevice, Nic, Problem};

/// What one probe found, and what it could not read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// Devices, in any order.
    pub devices: Vec<Device>,
    /// Links between them, in any order.
    pub links: Vec<Link>,
    /// Facts that could not be read.
    pub problems: Vec<Problem>,
    /// What the vendor's library last did.
    pub library: LibraryStatus,
}

/// The accelerators of a node and their surroundings.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Inventory {
    /// Kernel release of the host, e.g. `6.12.41`.
    pub kernel_release: Known<String>,
    /// Machine type as the firmware reports it (DMI product name).
    pub machine: Known<String>,
    /// What it offers to pods.
    pub host: HostFacts,
    /// The NUMA nodes of the host.
    pub numa_nodes: Vec<NumaNode>,
    /// Physical devices, sorted by id.
    pub devices: Vec<Device>,
    /// Devices that are expected and not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingDevice>,
    /// Links between devices, sorted.
    pub links: Vec<Link>,
    /// RDMA devices, sorted by name.
    pub nics: Vec<Nic>,
    /// Facts that could not be read, sorted.
    pub problems: Vec<Problem>,
    /// How much was examined, which distinguishes "no accelerator" from "nothing visible".
    pub scanned: Scanned,
}

impl Inventory {
    /// The inventory without serial numbers of boards, which identify a purchase. UUIDs stay: metrics and other tools refer
    /// to devices by them.
    pub fn without_serials(&self) -> Inventory {
        let mut public = self.clone();
        for device in &mut public.devices {
            if device.serial.value().is_some() {
                device.serial = Missing::NotPermitted.into();
            }
        }
        public
    }
}

/// A NUMA node of the host.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NumaNode {
    /// Its number.
    pub number: u32,
    /// The CPUs in it, as the kernel lists them: `0-31,64-95`.
    pub cpus: Known<String>,
}

/// How much of the host was examined.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Scanned {
    /// PCI functions.
    pub pci_functions: u32,
    /// RDMA devices.
    pub rdma_devices: u32,
}

impl Inventory {
    /// Merges the findings of the probes into `self`, sorted, so that equal nodes give equal inventories whatever the
    /// order of listing. A device that two probes claim stays with the first.
    #[must_use]
    pub fn assemble(mut self, findings: impl IntoIterator<Item = Findings>) -> Inventory {
        for found in findings {
            self.devices.extend(found.devices);
            self.links.extend(found.links);
            self.problems.extend(found.problems);
        }
        self.devices.sort_by_key(|device| device.id);
        self.devices.dedup_by_key(|device| device.id);
        for device in &mut self.devices {
            device.handles.sort();
            device.handles.dedup();
        }
        self.links.sort_by_key(|link| (link.a, link.b, link.kind));
        self.links.dedup_by_key(|link| (link.a, link.b, link.kind));
        self.count_links();
        self.nics.sort_by(|left, right| natural(&left.name).cmp(&natural(&right.name)));
        self.problems.sort();
        self.problems.dedup();
        self
    }

    /// Counts the devices that each one is linked with, unless its probe could not read all links.
    fn count_links(&mut self) {
        let is_unread = |device: &Device| device.linked_devices.missing().is_some_and(Missing::is_undecided);
        for device in self.devices.iter_mut().filter(|device| !is_unread(device)) {
            let is_end = |link: &&Link| link.kind != LinkKind::Pcie && [link.a, link.b].contains(&device.id);
            let linked = self.links.iter().filter(is_end).count() as u32;
            device.linked_devices = match device.interconnect {
                Known::Value(LinkKind::Pcie) => Known::Value(0),
                // The source reports that there are links, and not where they lead.
                Known::Value(_) if linked == 0 => Missing::NotExposed.into(),
                Known::Value(_) => Known::Value(linked),
                Known::Missing { missing } => missing.into(),
            };
        }
    }
}

/// Orders `mlx5_2` before `mlx5_10`: the text before the last run of digits, then the number.
fn natural(name: &str) -> (&str, u64, &str) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (head, name[head.len()..].parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PciAddress, Variant, Vendor};

    #[test]
    fn nics_are_sorted_by_number() {
        let mut names = ["mlx5_10", "mlx5_2", "bnxt_re0"];
        names.sort_by(|left, right| natural(left).cmp(&natural(right)));
        assert_eq!(names, ["bnxt_re0", "mlx5_2", "mlx5_10"]);
    }

    #[test]
    fn linked_devices_are_counted_where_the_links_are_known() {
        let device = |bus, interconnect| {
            let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
            Device { interconnect, ..Device::bare(address, Vendor::Nvidia, Variant::Gpu) }
        };
        let nvlink = Known::Value(LinkKind::Nvlink);
        let unreadable: Known<LinkKind> = Missing::Unreadable.into();
        let mut unread = device(3, nvlink);
        unread.linked_devices = Missing::Pending.into();
        let devices =
            vec![device(1, nvlink), device(2, nvlink), unread, device(4, Known::Value(LinkKind::Pcie))];
        let unlinked = [device(5, nvlink), device(6, unreadable)];
        let link = |a: usize, b: usize| Link {
            a: devices[a].id,
            b: devices[b].id,
            kind: LinkKind::Nvlink,
            weight: Known::default(),
            bandwidth_bytes_per_second: Known::default(),
        };
        let links = vec![link(0, 1), link(1, 2)];
        let found =
            Findings { devices: devices.into_iter().chain(unlinked).collect(), links, ..Findings::default() };
        let inventory = Inventory::default().assemble([found]);
        let counts: Vec<Known<u32>> = inventory.devices.iter().map(|device| device.linked_devices).collect();
        let expected = [
            Known::Value(1),
            Known::Value(2),
            Missing::Pending.into(),
            Known::Value(0),
            Missing::NotExposed.into(),
            Missing::Unreadable.into(),
        ];
        assert_eq!(counts, expected);
    }
}
