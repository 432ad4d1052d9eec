//! `afd topology`: where devices and NICs are attached, and the path between each two devices.
//!
//! The plan contains what is drawn; `text` and `svg` draw it.

mod fabric;
pub mod svg;
pub mod text;

use std::collections::BTreeMap;

use afd_derive::vendors;
use afd_model::{Device, DeviceId, Inventory, Known, Missing, Nic, NumaNode, PciAddress, PortState};

/// What is drawn: NUMA nodes, the devices and NICs below each of their root ports, and the paths between devices.
#[derive(Clone, Debug)]
pub struct TopologyPlan<'i> {
    /// NUMA nodes; last, what belongs to no known one.
    pub numa_groups: Vec<NumaGroup<'i>>,
    /// The devices in drawing order.
    pub devices: Vec<&'i Device>,
    paths: BTreeMap<(DeviceId, DeviceId), DevicePath>,
    /// Lines on fabrics and links, below the table of paths.
    fabric: Vec<String>,
}

/// A NUMA node, or an unknown one.
#[derive(Clone, Debug)]
pub struct NumaGroup<'i> {
    /// `NUMA node 0`.
    pub title: String,
    /// Its CPUs, if known.
    pub cpus: Option<&'i str>,
    /// What is attached to it, by root port.
    pub branches: Vec<RootPortBranch<'i>>,
}

/// What is below one root port.
#[derive(Clone, Debug)]
pub struct RootPortBranch<'i> {
    /// The root port, if known.
    pub root_port: Option<PciAddress>,
    /// Accelerators.
    pub devices: Vec<&'i Device>,
    /// RDMA devices, except those of accelerators.
    pub nics: Vec<&'i Nic>,
}

/// The path between two devices, from near to far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DevicePath {
    /// A direct link.
    Link(&'static str),
    /// Through a PCIe switch.
    Switch,
    /// Through the CPUs of one NUMA node.
    Node,
    /// From one NUMA node to another.
    System,
    /// Not known.
    Unknown,
}

impl DevicePath {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DevicePath::Link(kind) => kind,
            DevicePath::Switch => "switch",
            DevicePath::Node => "node",
            DevicePath::System => "system",
            DevicePath::Unknown => "?",
        }
    }

    /// Explains the words that a drawing may contain.
    pub const LEGEND: &'static str = "xgmi, nvlink, xelink: direct link; switch: a PCIe switch; node: the CPUs of one NUMA node; system: from one NUMA node to another; ?: not known";
}

impl<'i> TopologyPlan<'i> {
    /// The plan of an inventory.
    pub fn new(inventory: &'i Inventory) -> TopologyPlan<'i> {
        let mut branches: BTreeMap<RootPortKey, RootPortBranch<'i>> = BTreeMap::new();
        for device in &inventory.devices {
            let key = key(device.numa_node.value(), &device.pci.upstream, Some(device.id.0));
            branches.entry(key).or_insert_with(|| RootPortBranch::below(key.1)).devices.push(device);
        }
        for nic in inventory.nics.iter().filter(|nic| !nic.of_accelerator) {
            let key = key(nic.numa_node.value(), &nic.upstream, nic.pci_address.value().copied());
            branches.entry(key).or_insert_with(|| RootPortBranch::below(key.1)).nics.push(nic);
        }
        let mut groups: BTreeMap<Option<u32>, Vec<RootPortBranch<'i>>> = BTreeMap::new();
        for ((numa, ..), branch) in branches {
            groups.entry(numa).or_default().push(branch);
        }
        // One without CPUs is memory of a device or an expander, and no place where something runs.
        let has_cpus = |node: &&NumaNode| node.cpus.value().is_none_or(|cpus| !cpus.is_empty());
        for node in inventory.numa_nodes.iter().filter(has_cpus) {
            groups.entry(Some(node.number)).or_default();
        }
        let unknown = groups.remove(&None);
        let numa_groups: Vec<NumaGroup<'i>> = groups
            .into_iter()
            .chain(unknown.map(|branches| (None, branches)))
            .map(|(numa, branches)| numa_group(inventory, numa, branches))
            .collect();
        let devices: Vec<&Device> = numa_groups
            .iter()
            .flat_map(|group| &group.branches)
            .flat_map(|branch| branch.devices.clone())
            .collect();
        let mut plan =
            TopologyPlan { paths: paths(inventory, &devices), numa_groups, devices, fabric: Vec::new() };
        plan.fabric = fabric::lines(&plan, inventory);
        plan
    }

    /// The path between two devices.
    pub fn path(&self, from: &Device, to: &Device) -> DevicePath {
        self.paths.get(&(from.id.min(to.id), from.id.max(to.id))).copied().unwrap_or(DevicePath::Unknown)
    }
}

type RootPortKey = (Option<u32>, Option<PciAddress>, Option<PciAddress>);

/// Everything below one root port shares a branch; without a root port each has a branch of its own.
fn key(numa: Option<&u32>, upstream: &[PciAddress], own: Option<PciAddress>) -> RootPortKey {
    let root_port = upstream.first().copied();
    (numa.copied(), root_port, if root_port.is_some() { None } else { own })
}

impl RootPortBranch<'_> {
    fn below(root_port: Option<PciAddress>) -> Self {
        RootPortBranch { root_port, devices: Vec::new(), nics: Vec::new() }
    }
}

fn numa_group<'i>(
    inventory: &'i Inventory,
    numa: Option<u32>,
    branches: Vec<RootPortBranch<'i>>,
) -> NumaGroup<'i> {
    let node = inventory.numa_nodes.iter().find(|node| Some(node.number) == numa);
    NumaGroup {
        title: numa.map_or_else(|| "NUMA node not known".to_owned(), |number| format!("NUMA node {number}")),
        cpus: node.and_then(|node| node.cpus.value()).map(String::as_str).filter(|cpus| !cpus.is_empty()),
        branches,
    }
}

fn paths(inventory: &Inventory, devices: &[&Device]) -> BTreeMap<(DeviceId, DeviceId), DevicePath> {
    let mut paths = BTreeMap::new();
    for (index, from) in devices.iter().enumerate() {
        for to in &devices[index + 1..] {
            // Over PCIe only where there is no link of their own, or where that is known not to be up.
            let path = if may_be_linked(from, to) { DevicePath::Unknown } else { over_pci(from, to) };
            paths.insert((from.id.min(to.id), from.id.max(to.id)), path);
        }
    }
    for link in &inventory.links {
        paths.insert((link.a.min(link.b), link.a.max(link.b)), DevicePath::Link(link.kind.as_str()));
    }
    paths
}

/// Whether two devices may have a link that only the vendor's library reports, and it has reported none of them.
fn may_be_linked(from: &Device, to: &Device) -> bool {
    let may_be = |device: &Device| {
        let of_library = vendors::of_device(device).is_some_and(|record| record.links_by_library);
        of_library && device.interconnect.missing().is_some_and(|missing| missing != Missing::NotAvailable)
    };
    (from.vendor, from.variant) == (to.vendor, to.variant) && may_be(from) && may_be(to)
}

fn over_pci(from: &Device, to: &Device) -> DevicePath {
    let (above, other) = (&from.pci.upstream, &to.pci.upstream);
    if !above.is_empty() && above.first() == other.first() {
        return DevicePath::Switch;
    }
    match (from.numa_node, to.numa_node) {
        (Known::Value(left), Known::Value(right)) if left == right => DevicePath::Node,
        (Known::Value(_), Known::Value(_)) => DevicePath::System,
        _ => DevicePath::Unknown,
    }
}

/// One line about a device: its product, and how many partitions it has.
fn device_line(device: &Device) -> String {
    let name = device.product_name().unwrap_or("unrecognized");
    match device.partitions.len() {
        0 => name.to_owned(),
        count => format!("{name}, {count} partitions"),
    }
}

/// One line about a NIC: its ports' protocol, rate and state.
fn nic_line(nic: &Nic) -> String {
    let Some(port) = nic.ports.first() else { return "no ports".to_owned() };
    let mut words = Vec::new();
    if let Some(protocol) = port.protocol.value() {
        words.push(protocol.as_str().to_owned());
    }
    if let Some(rate) = port.rate_bits_per_second.value() {
        words.push(format!("{} Gb/s", *rate as f64 / 1e9));
    }
    words.push(port.state.value().map_or("state not known", |state: &PortState| state.as_str()).to_owned());
    words.join(" ")
}
