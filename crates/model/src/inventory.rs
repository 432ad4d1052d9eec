//! All devices of the node, assembled from the findings of the probes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Device, HostFacts, Known, LibraryStatus, Link, Missing, MissingDevice, Nic, Problem};

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
        self.nics.sort_by(|left, right| natural(&left.name).cmp(&natural(&right.name)));
        self.problems.sort();
        self.problems.dedup();
        self
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

    #[test]
    fn nics_are_sorted_by_number() {
        let mut names = ["mlx5_10", "mlx5_2", "bnxt_re0"];
        names.sort_by(|left, right| natural(left).cmp(&natural(right)));
        assert_eq!(names, ["bnxt_re0", "mlx5_2", "mlx5_10"]);
    }
}
