//! The topology that KFD, amdgpu's compute driver, tells (`/sys/class/kfd/kfd/topology`, kernel
//! `drivers/gpu/drm/amd/amdkfd/kfd_topology.c`).
//!
//! A node with SIMDs is a GPU or one partition of it. Its files answer EPERM unless the reader's device cgroup allows its
//! render node; then nothing is known of it, and PCI and DRM go on telling what they know.

use std::collections::BTreeMap;

use afd_model::{Known, PciAddress};
use afd_probe::Facts;

const NODES: &str = "/sys/class/kfd/kfd/topology/nodes";
/// Link types of `struct crat_subtype_iolink`.
const XGMI: u64 = 11;

/// A GPU, or one partition of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    pub(crate) number: u32,
    /// The PCI function that it belongs to.
    pub(crate) address: PciAddress,
    /// Which partition of the function it is by its own word.
    pub(crate) partition: u32,
    pub(crate) gpu_id: Option<u64>,
    pub(crate) render_minor: Option<u64>,
    pub(crate) unique_id: Option<u64>,
    pub(crate) hive_id: Option<u64>,
    pub(crate) gfx_target_version: Option<u64>,
    pub(crate) compute_units: Option<u32>,
    pub(crate) memory_bytes: Known<u64>,
    pub(crate) links: Vec<NodeLink>,
}

/// An XGMI link to another node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NodeLink {
    pub(crate) to: u32,
    pub(crate) weight: u64,
    /// Megabytes per second; 0 where the kernel does not know.
    pub(crate) max_bandwidth: u64,
}

/// The GPU nodes, in the order of their numbers.
pub(crate) fn nodes(facts: &mut Facts<'_>) -> Vec<Node> {
    let mut numbers: Vec<u32> =
        facts.names("kfd_nodes", NODES).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|number| node(facts, number)).collect()
}

/// The file that tells how much memory of a node is used. Only AMD's own build of the driver has it.
pub(crate) fn used_memory_path(node: &str) -> String {
    format!("{NODES}/{node}/mem_banks/0/used_memory")
}

fn node(facts: &mut Facts<'_>, number: u32) -> Option<Node> {
    let directory = format!("{NODES}/{number}");
    let properties =
        facts.parse("kfd_properties", &format!("{directory}/properties"), parse_properties).into_value()?;
    let get = |key: &str| properties.get(key).copied();
    let simds = get("simd_count").filter(|simds| *simds > 0)?;
    let location = get("location_id")?;
    let compute_units = get("simd_per_cu").filter(|per_unit| *per_unit > 0).map(|per_unit| simds / per_unit);
    Some(Node {
        number,
        address: PciAddress {
            domain: u32::try_from(get("domain").unwrap_or(0)).ok()?,
            bus: (location >> 8) as u8,
            device: (location >> 3) as u8 & 0x1f,
            function: 0,
        },
        // The kernel writes the partition into the function's bits; AMD's own build of the driver into the highest four.
        partition: ((location & 7) | ((location >> 28) & 0xf)) as u32,
        gpu_id: facts.number("kfd_gpu_id", &format!("{directory}/gpu_id")).into_value(),
        render_minor: get("drm_render_minor").filter(|minor| *minor > 0),
        unique_id: get("unique_id").filter(|id| *id > 0),
        hive_id: get("hive_id").filter(|id| *id > 0),
        gfx_target_version: get("gfx_target_version").filter(|version| *version > 0),
        compute_units: compute_units.and_then(|units| u32::try_from(units).ok()),
        memory_bytes: memory(facts, &directory),
        links: ["io_links", "p2p_links"]
            .into_iter()
            .flat_map(|kind| links(facts, &directory, kind))
            .collect(),
    })
}

/// The sum of the node's memory banks.
fn memory(facts: &mut Facts<'_>, directory: &str) -> Known<u64> {
    let banks = facts.names("memory_bytes", &format!("{directory}/mem_banks"));
    let mut total: Known<u64> = afd_model::Missing::NotExposed.into();
    for bank in banks {
        let path = format!("{directory}/mem_banks/{bank}/properties");
        let size = facts.parse("memory_bytes", &path, |text| {
            parse_properties(text).map(|properties| properties.get("size_in_bytes").copied().unwrap_or(0))
        });
        match (size, total) {
            (Known::Value(0), _) => {}
            (Known::Value(size), Known::Value(sum)) => total = Known::Value(sum.saturating_add(size)),
            (size, Known::Missing { .. }) => total = size,
            (Known::Missing { missing }, Known::Value(_)) => return missing.into(),
        }
    }
    total
}

fn links(facts: &mut Facts<'_>, directory: &str, kind: &str) -> Vec<NodeLink> {
    let parent = format!("{directory}/{kind}");
    let names = facts.names("links", &parent);
    names
        .into_iter()
        .filter_map(|name| {
            let path = format!("{parent}/{name}/properties");
            let properties = facts.parse("links", &path, parse_properties).into_value()?;
            let get = |key: &str| properties.get(key).copied();
            (get("type") == Some(XGMI)).then_some(())?;
            Some(NodeLink {
                to: u32::try_from(get("node_to")?).ok()?,
                weight: get("weight").unwrap_or(0),
                max_bandwidth: get("max_bandwidth").unwrap_or(0),
            })
        })
        .collect()
}

/// Lines of a key, a blank and a decimal number. Keys that are not known do not matter; a line of another form does.
///
/// # Errors
/// When a line has no key and number.
pub fn parse_properties(text: &str) -> Result<BTreeMap<String, u64>, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (key, value) =
                line.split_once(' ').ok_or_else(|| format!("no \"key number\": {line:.40}"))?;
            let value = value.trim().parse().map_err(|_| format!("no number after {key:.40}"))?;
            Ok((key.to_owned(), value))
        })
        .collect()
}

/// How a compiler names what the number stands for: 90402 is `gfx942`, 90010 is `gfx90a`.
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
        let read = parse_properties("simd_count 1216\nunique_id 16404946649897475633\n")
            .expect("the lines are right");
        assert_eq!(read["unique_id"], 16_404_946_649_897_475_633);
        assert!(parse_properties("simd_count").is_err());
        assert!(parse_properties("simd_count -1").is_err());
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
