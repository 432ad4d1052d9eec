//! `afd topology`: who sits where, and how one reaches the other.
//!
//! The plan says what is drawn; `text` and `svg` draw it.

mod fabric;
pub mod svg;
pub mod text;

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Inventory, Known, Nic, PciAddress, PortState};

/// What is drawn: the sockets of the node, what hangs on each root port of theirs, and the paths between devices.
#[derive(Clone, Debug)]
pub struct Plan<'i> {
    /// NUMA nodes, and at the end what belongs to none.
    pub places: Vec<Place<'i>>,
    /// The devices in the order in which they are drawn.
    pub devices: Vec<&'i Device>,
    paths: BTreeMap<(DeviceId, DeviceId), Path>,
    /// Lines about fabrics and links, below the table of paths.
    fabric: Vec<String>,
}

/// A NUMA node, or nowhere.
#[derive(Clone, Debug)]
pub struct Place<'i> {
    /// `NUMA node 0`.
    pub title: String,
    /// Its processors, where the kernel tells.
    pub cpus: Option<&'i str>,
    /// What hangs on it, by root port.
    pub branches: Vec<Branch<'i>>,
}

/// What one root port leads to.
#[derive(Clone, Debug)]
pub struct Branch<'i> {
    /// The root port, where the kernel tells.
    pub root_port: Option<PciAddress>,
    /// Accelerators.
    pub devices: Vec<&'i Device>,
    /// RDMA devices, those of accelerators aside.
    pub nics: Vec<&'i Nic>,
}

/// How one device reaches another, from near to far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// A direct link.
    Link(&'static str),
    /// Through a PCIe switch.
    Switch,
    /// Through the processors of one NUMA node.
    Node,
    /// From one NUMA node to another.
    System,
    /// The kernel does not tell.
    Unknown,
}

impl Path {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Link(kind) => kind,
            Path::Switch => "switch",
            Path::Node => "node",
            Path::System => "system",
            Path::Unknown => "?",
        }
    }

    /// The words that a drawing may contain, explained.
    pub const LEGEND: &'static str = "xgmi, nvlink, xelink: direct link; switch: a PCIe switch; node: the processors of one NUMA node; system: from one NUMA node to another; ?: not told";
}

impl<'i> Plan<'i> {
    /// The plan of an inventory.
    pub fn of(inventory: &'i Inventory) -> Plan<'i> {
        let mut branches: BTreeMap<BranchKey, Branch<'i>> = BTreeMap::new();
        for device in &inventory.devices {
            let key = key(device.numa_node.value(), &device.pci.upstream, Some(device.id.0));
            branches.entry(key).or_insert_with(|| Branch::at(key.1)).devices.push(device);
        }
        for nic in inventory.nics.iter().filter(|nic| !nic.of_accelerator) {
            let key = key(nic.numa_node.value(), &nic.upstream, nic.pci_address.value().copied());
            branches.entry(key).or_insert_with(|| Branch::at(key.1)).nics.push(nic);
        }
        let mut places: BTreeMap<Option<u32>, Vec<Branch<'i>>> = BTreeMap::new();
        for ((numa, ..), branch) in branches {
            places.entry(numa).or_default().push(branch);
        }
        for node in &inventory.numa_nodes {
            places.entry(Some(node.number)).or_default();
        }
        let nowhere = places.remove(&None);
        let places: Vec<Place<'i>> = places
            .into_iter()
            .chain(nowhere.map(|branches| (None, branches)))
            .map(|(numa, branches)| place(inventory, numa, branches))
            .collect();
        let devices: Vec<&Device> = places
            .iter()
            .flat_map(|place| &place.branches)
            .flat_map(|branch| branch.devices.clone())
            .collect();
        let mut plan = Plan { paths: paths(inventory, &devices), places, devices, fabric: Vec::new() };
        plan.fabric = fabric::lines(&plan, inventory);
        plan
    }

    /// How one device reaches another.
    pub fn path(&self, from: &Device, to: &Device) -> Path {
        self.paths.get(&(from.id.min(to.id), from.id.max(to.id))).copied().unwrap_or(Path::Unknown)
    }
}

type BranchKey = (Option<u32>, Option<PciAddress>, Option<PciAddress>);

/// Things below one root port share a branch; without a root port each has its own.
fn key(numa: Option<&u32>, upstream: &[PciAddress], own: Option<PciAddress>) -> BranchKey {
    let root_port = upstream.first().copied();
    (numa.copied(), root_port, if root_port.is_some() { None } else { own })
}

impl Branch<'_> {
    fn at(root_port: Option<PciAddress>) -> Self {
        Branch { root_port, devices: Vec::new(), nics: Vec::new() }
    }
}

fn place<'i>(inventory: &'i Inventory, numa: Option<u32>, branches: Vec<Branch<'i>>) -> Place<'i> {
    let node = inventory.numa_nodes.iter().find(|node| Some(node.number) == numa);
    Place {
        title: numa.map_or_else(|| "NUMA node not told".to_owned(), |number| format!("NUMA node {number}")),
        cpus: node.and_then(|node| node.cpus.value()).map(String::as_str).filter(|cpus| !cpus.is_empty()),
        branches,
    }
}

fn paths(inventory: &Inventory, devices: &[&Device]) -> BTreeMap<(DeviceId, DeviceId), Path> {
    let mut paths = BTreeMap::new();
    for (index, from) in devices.iter().enumerate() {
        for to in &devices[index + 1..] {
            paths.insert((from.id.min(to.id), from.id.max(to.id)), over_pci(from, to));
        }
    }
    for link in &inventory.links {
        paths.insert((link.a.min(link.b), link.a.max(link.b)), Path::Link(link.kind.as_str()));
    }
    paths
}

fn over_pci(from: &Device, to: &Device) -> Path {
    let (above, other) = (&from.pci.upstream, &to.pci.upstream);
    if !above.is_empty() && above.first() == other.first() {
        return Path::Switch;
    }
    match (from.numa_node, to.numa_node) {
        (Known::Value(left), Known::Value(right)) if left == right => Path::Node,
        (Known::Value(_), Known::Value(_)) => Path::System,
        _ => Path::Unknown,
    }
}

/// One line about a device: its product, and how it is cut.
fn device_line(device: &Device) -> String {
    let name = device.product_name().unwrap_or("unrecognized");
    match device.partitions.len() {
        0 => name.to_owned(),
        parts => format!("{name}, {parts} partitions"),
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
    words.push(port.state.value().map_or("state not told", |state: &PortState| state.as_str()).to_owned());
    words.join(" ")
}
