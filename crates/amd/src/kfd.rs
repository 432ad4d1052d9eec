//! The topology of KFD, the compute driver of amdgpu (`/sys/class/kfd/kfd/topology`, kernel
//! `drivers/gpu/drm/amd/amdkfd/kfd_topology.c`).
//!
//! A node with SIMDs is a GPU or one partition of it. Reading its files fails with EPERM unless the device cgroup of the reader
//! allows its render node; the device then has the facts of PCI and DRM only.

mod location;
pub(crate) mod processes;

use std::{collections::BTreeMap, convert::Infallible};

use afd_model::{DeviceId, Known, Missing, PciAddress};
use afd_probe::Facts;

use self::location::KfdLocation;

const NODES: &str = "/sys/class/kfd/kfd/topology/nodes";
/// Link types of `struct crat_subtype_iolink`.
const XGMI: u64 = 11;

/// A GPU, or one partition of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KfdNode {
    pub(crate) number: u32,
    /// The device that it belongs to.
    pub(crate) device: DeviceId,
    /// The number of the partition.
    pub(crate) partition: u32,
    pub(crate) gpu_id: Option<u64>,
    pub(crate) render_minor: Option<u64>,
    pub(crate) unique_id: Option<u64>,
    pub(crate) hive_id: Option<u64>,
    pub(crate) gfx_target_version: Option<u64>,
    pub(crate) compute_units: Option<u32>,
    pub(crate) simds_per_compute_unit: Option<u32>,
    pub(crate) memory_bytes: Known<u64>,
    /// Those that could be read.
    pub(crate) links: Vec<KfdLink>,
    /// Why a link could not be read, if one could not.
    pub(crate) unread_link: Option<Missing>,
}

/// An XGMI link to another node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KfdLink {
    pub(crate) to: u32,
    pub(crate) weight: u64,
    /// Megabytes per second; 0 if unknown.
    pub(crate) max_bandwidth: u64,
}

/// The GPU nodes of KFD.
#[derive(Clone, Debug, Default)]
pub(crate) struct KfdTopology {
    /// Those of the devices, in the order of their numbers.
    pub(crate) nodes: Vec<KfdNode>,
    /// Why a node could not be read, if one could not.
    pub(crate) unread: Option<Missing>,
}

/// The nodes of the devices at these addresses.
pub(crate) fn topology(facts: &mut Facts<'_>, devices: &[PciAddress]) -> KfdTopology {
    let names = facts.listing("kfd_nodes", NODES);
    // Without KFD there are no nodes.
    let mut topology =
        KfdTopology { nodes: Vec::new(), unread: names.missing().filter(|missing| missing.is_undecided()) };
    let mut numbers: Vec<u32> =
        names.into_value().unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers {
        match node(facts, number, devices) {
            Known::Value(node) => topology.nodes.extend(node),
            Known::Missing { missing: Missing::NotPermitted } => {
                topology.unread = Some(Missing::NotPermitted)
            }
            Known::Missing { .. } => topology.unread = Some(Missing::Unreadable),
        }
    }
    topology
}

/// The file with the used memory of a node. Only AMD's build of the driver has it.
pub(crate) fn used_memory_path(node: &str) -> String {
    format!("{NODES}/{node}/mem_banks/0/used_memory")
}

/// The node with a number, as far as its properties can be read; `None` if it is none of the devices.
fn node(facts: &mut Facts<'_>, number: u32, devices: &[PciAddress]) -> Known<Option<KfdNode>> {
    let directory = format!("{NODES}/{number}");
    let properties = properties(facts, "kfd_properties", &format!("{directory}/properties"));
    properties.map(|properties| gpu(facts, number, &directory, &properties, devices))
}

fn gpu(
    facts: &mut Facts<'_>,
    number: u32,
    directory: &str,
    properties: &BTreeMap<String, u64>,
    devices: &[PciAddress],
) -> Option<KfdNode> {
    let get = |key: &str| properties.get(key).copied();
    let simds = get("simd_count").filter(|simds| *simds > 0)?;
    let location = KfdLocation { domain: get("domain"), location_id: get("location_id")? };
    let (device, partition) = location.resolve(devices)?;
    let per_unit = get("simd_per_cu").filter(|per_unit| *per_unit > 0);
    let mut links = KfdLinks::default();
    ["io_links", "p2p_links"].into_iter().for_each(|kind| links.read(facts, directory, kind));
    let compute_units = per_unit.map(|per_unit| simds / per_unit);
    Some(KfdNode {
        number,
        device: device.into(),
        partition,
        gpu_id: facts.number("kfd_gpu_id", &format!("{directory}/gpu_id")).into_value(),
        render_minor: get("drm_render_minor").filter(|minor| *minor > 0),
        unique_id: get("unique_id").filter(|id| *id > 0),
        hive_id: get("hive_id").filter(|id| *id > 0),
        gfx_target_version: get("gfx_target_version").filter(|version| *version > 0),
        compute_units: compute_units.and_then(|units| u32::try_from(units).ok()),
        simds_per_compute_unit: per_unit.and_then(|simds| u32::try_from(simds).ok()),
        memory_bytes: memory(facts, directory),
        links: links.links,
        unread_link: links.unread,
    })
}

/// The properties in a file. Lines that cannot be parsed are skipped, with a problem.
fn properties(facts: &mut Facts<'_>, fact: &str, path: &str) -> Known<BTreeMap<String, u64>> {
    let read = |text: &str| Ok::<_, Infallible>(parse_properties(text));
    facts.parse(fact, path, read).map(|KfdProperties { values, unparsed }| {
        if let Some(line) = unparsed.first() {
            let message =
                format_args!("{} lines are not \"key number\", the first is {line:?}", unparsed.len());
            let _: Known<()> = facts.missing(fact, Missing::Malformed, Some(path), message);
        }
        values
    })
}

/// The sum of the node's memory banks. A bank that could not be read may be any part of it.
fn memory(facts: &mut Facts<'_>, directory: &str) -> Known<u64> {
    let banks = match facts.listing("memory_bytes", &format!("{directory}/mem_banks")) {
        Known::Value(banks) => banks,
        Known::Missing { missing } => return missing.into(),
    };
    let mut total: Known<u64> = Missing::NotExposed.into();
    for bank in banks {
        let path = format!("{directory}/mem_banks/{bank}/properties");
        let size = facts.parse_known("memory_bytes", &path, |text| {
            let size = parse_properties(text).values.get("size_in_bytes").copied();
            size.map(Known::Value).ok_or("the line size_in_bytes is missing")
        });
        match (size, total) {
            (Known::Value(0), _) => {}
            (Known::Missing { missing }, _) if missing.is_undecided() => return missing.into(),
            (Known::Value(size), Known::Value(sum)) => total = Known::Value(sum.saturating_add(size)),
            (size, Known::Missing { .. }) => total = size,
            (Known::Missing { missing }, Known::Value(_)) => return missing.into(),
        }
    }
    total
}

/// The XGMI links of a node.
#[derive(Default)]
struct KfdLinks {
    links: Vec<KfdLink>,
    unread: Option<Missing>,
}

impl KfdLinks {
    /// Adds those in one of the node's directories. A kernel may have no such directory.
    fn read(&mut self, facts: &mut Facts<'_>, directory: &str, kind: &str) {
        let parent = format!("{directory}/{kind}");
        let names = facts.listing("links", &parent);
        self.unread = self.unread.or(names.missing().filter(|missing| missing.is_undecided()));
        for name in names.into_value().unwrap_or_default() {
            let properties = properties(facts, "links", &format!("{parent}/{name}/properties"));
            match properties.and_then(|properties| xgmi_link(&properties)) {
                Known::Value(link) => self.links.extend(link),
                Known::Missing { missing } => {
                    self.unread = self.unread.or(Some(missing).filter(|missing| missing.is_undecided()));
                }
            }
        }
    }
}

/// The link that a file describes; `None` if it is of another type.
fn xgmi_link(properties: &BTreeMap<String, u64>) -> Known<Option<KfdLink>> {
    let get = |key: &str| Known::from_option(properties.get(key).copied(), Missing::Malformed);
    get("type").and_then(|kind| match kind {
        XGMI => get("node_to")
            .and_then(|to| Known::from_option(u32::try_from(to).ok(), Missing::Malformed))
            .map(|to| {
                let or_zero = |key: &str| get(key).into_value().unwrap_or(0);
                Some(KfdLink { to, weight: or_zero("weight"), max_bandwidth: or_zero("max_bandwidth") })
            }),
        _ => Known::Value(None),
    })
}

/// The content of a file of properties.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KfdProperties {
    /// The numbers by their keys.
    pub values: BTreeMap<String, u64>,
    /// The beginnings of the lines that could not be parsed.
    pub unparsed: Vec<String>,
}

/// Lines of a key, a space and a decimal number. Unknown keys are allowed.
pub fn parse_properties(text: &str) -> KfdProperties {
    let mut properties = KfdProperties::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let pair = line.split_once(' ').and_then(|(key, value)| {
            let value = value.trim();
            // `parse` accepts a sign, which the kernel never writes here.
            let value = value.starts_with(|c: char| c.is_ascii_digit()).then(|| value.parse().ok())??;
            Some((key.to_owned(), value))
        });
        match pair {
            Some((key, value)) => drop(properties.values.insert(key, value)),
            None => properties.unparsed.push(line.chars().take(40).collect()),
        }
    }
    properties
}

/// The LLVM target of a version: 90402 is `gfx942`, 90010 is `gfx90a`.
pub(crate) fn isa(gfx_target_version: u64) -> Option<String> {
    let (major, minor, stepping) =
        (gfx_target_version / 10000, gfx_target_version / 100 % 100, gfx_target_version % 100);
    (major > 0).then(|| format!("gfx{major}{minor:x}{stepping:x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn properties_are_keys_and_numbers() {
        let read = parse_properties("simd_count 1216\nunique_id 16404946649897475633\n");
        assert_eq!(read.values["unique_id"], 16_404_946_649_897_475_633);
        assert!(read.unparsed.is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_parsed_is_skipped() {
        let read = parse_properties("simd_count 1216\nname\ndomain -1\nlocation_id +5\nsimd_per_cu 4\n");
        assert_eq!(read.values.len(), 2);
        assert_eq!(read.unparsed, ["name", "domain -1", "location_id +5"]);
    }

    #[test]
    fn isa_names() {
        assert_eq!(isa(90402).as_deref(), Some("gfx942"));
        assert_eq!(isa(90010).as_deref(), Some("gfx90a"));
        assert_eq!(isa(110501).as_deref(), Some("gfx1151"));
        assert_eq!(isa(0), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*", number in any::<u64>()) {
            let _ = parse_properties(&text);
            let _ = isa(number);
        }
    }
}
