//! What surrounds the accelerators: NUMA nodes, the kernel's release, RDMA ports.

use afd_host::Host;
use afd_model::{Inventory, LookedAt, NumaNode};

use crate::{Facts, PciBus, rdma};

/// The kernel's release (`uname -r`).
pub const KERNEL_RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Product name of the machine by its firmware (`drivers/firmware/dmi-id.c`); world-readable.
const MACHINE: &str = "/sys/class/dmi/id/product_name";

/// An inventory without devices, to which the probes' findings are joined.
pub fn surroundings(host: &Host, bus: &PciBus) -> Inventory {
    let mut facts = Facts::new(host, "node");
    let kernel_release = facts.text("kernel_release", KERNEL_RELEASE);
    let machine = facts.text("machine", MACHINE);
    let numa_nodes = numa_nodes(&mut facts);
    let mut problems = facts.into_problems();
    let (nics, nic_problems) = rdma::nics(host, bus);
    problems.extend(nic_problems);
    problems.extend_from_slice(bus.problems());
    Inventory {
        kernel_release,
        machine,
        numa_nodes,
        looked_at: LookedAt {
            pci_functions: u32::try_from(bus.functions().count()).unwrap_or(u32::MAX),
            rdma_devices: u32::try_from(nics.len()).unwrap_or(u32::MAX),
        },
        nics,
        problems,
        ..Inventory::empty()
    }
}

/// `/sys/devices/system/node/node<N>/cpulist`.
fn numa_nodes(facts: &mut Facts<'_>) -> Vec<NumaNode> {
    const NODES: &str = "/sys/devices/system/node";
    let mut nodes: Vec<NumaNode> = facts
        .names("numa_nodes", NODES)
        .iter()
        .filter_map(|name| Some((name, name.strip_prefix("node")?.parse().ok()?)))
        .map(|(name, number)| NumaNode { number, cpus: cpus(facts, &format!("{NODES}/{name}/cpulist")) })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// A node of memory alone has an empty list, which is a value.
fn cpus(facts: &mut Facts<'_>, path: &str) -> afd_model::Known<String> {
    match facts.bytes("numa_nodes.cpus", path) {
        afd_model::Known::Value(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {
            afd_model::Known::Value(String::new())
        }
        afd_model::Known::Value(_) => facts.text("numa_nodes.cpus", path),
        afd_model::Known::Missing { missing } => missing.into(),
    }
}
