//! The Google PCI ids, and what all chips of a TPU generation have in common.
//!
//! Ids: `device.py` of tpu-info and `jax/_src/hardware_utils.py`, which agree where both have one; 0056 is in JAX
//! only. The DRA driver also lists "v4 lite" under 005e, unlike both of them; v4 is used. v2 and v3 share an id and
//! differ by the subsystem. Logical devices: tpu-info. Memory: the nominal HBM of a chip in Google's documentation;
//! the runtime leaves less to workloads (v6e: 31.25 of 32 GiB). ICI: every generation but v4i.

use afd_model::{Known, Product};

/// A generation of the table.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct TpuGeneration {
    device_id: u16,
    /// Set if several generations share the device id.
    subsystem_id: Option<u16>,
    model: &'static str,
    architecture: &'static str,
    /// The HBM capacity of a chip in GiB.
    memory_gib: u64,
    /// The number of devices that a framework sees per chip.
    pub(crate) logical_devices: u32,
    /// Whether its chips are connected by ICI.
    pub(crate) has_ici: bool,
}

/// The kind of device that a Google device id stands for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum GoogleDeviceKind {
    /// A TPU, of one of these generations.
    Tpu,
    /// Known to be something else: network, disk, fabric.
    Other,
    /// Unknown.
    Unknown,
}

/// The kind of a Google device id.
pub(crate) fn kind(device_id: u16) -> GoogleDeviceKind {
    if GENERATIONS.iter().any(|generation| generation.device_id == device_id) {
        GoogleDeviceKind::Tpu
    } else if OTHER_DEVICE_IDS.contains(&device_id) {
        GoogleDeviceKind::Other
    } else {
        GoogleDeviceKind::Unknown
    }
}

/// Whether the subsystem id is needed to determine the generation.
pub(crate) fn needs_subsystem(device_id: u16) -> bool {
    GENERATIONS
        .iter()
        .any(|generation| generation.device_id == device_id && generation.subsystem_id.is_some())
}

/// The generation of a device id and, if needed, a subsystem id.
pub(crate) fn find(device_id: u16, subsystem_id: Option<u16>) -> Option<&'static TpuGeneration> {
    GENERATIONS.iter().find(|generation| {
        generation.device_id == device_id
            && (generation.subsystem_id.is_none() || generation.subsystem_id == subsystem_id)
    })
}

impl TpuGeneration {
    /// The product for the inventory.
    pub(crate) fn product(&self) -> Product {
        Product {
            name: format!("Google TPU {}", self.model),
            model: Known::Value(self.model.to_owned()),
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }

    /// The memory size of a chip.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_gib << 30
    }
}

/// NVMe 001f and gVNIC 0042 (the DRA driver's `hardware.go`, the public PCI id list); Ethernet 001d and 002d, FPGA
/// 0065, fabric controller 0084 (public lspci dumps); abcd, the image processor of a phone (the public PCI id list).
const OTHER_DEVICE_IDS: [u16; 7] = [0x001d, 0x001f, 0x002d, 0x0042, 0x0065, 0x0084, 0xabcd];

const fn generation(
    (device_id, subsystem_id): (u16, Option<u16>),
    (model, architecture): (&'static str, &'static str),
    memory_gib: u64,
    logical_devices: u32,
) -> TpuGeneration {
    TpuGeneration { device_id, subsystem_id, model, architecture, memory_gib, logical_devices, has_ici: true }
}

const GENERATIONS: &[TpuGeneration] = &[
    generation((0x0027, Some(0x004e)), ("v2", "v2"), 16, 2),
    generation((0x0027, Some(0x004f)), ("v3", "v3"), 32, 2),
    TpuGeneration { has_ici: false, ..generation((0x0056, None), ("v4i", "v4i"), 8, 1) },
    generation((0x005e, None), ("v4", "v4"), 32, 1),
    generation((0x0063, None), ("v5e", "v5e"), 16, 1),
    generation((0x0062, None), ("v5p", "v5p"), 95, 1),
    generation((0x006f, None), ("v6e", "trillium"), 32, 1),
    generation((0x0076, None), ("7x", "ironwood"), 192, 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_and_v3_differ_in_their_subsystem() {
        let model = |subsystem| find(0x0027, subsystem).map(|generation| generation.model);
        assert_eq!(model(Some(0x004e)), Some("v2"));
        assert_eq!(model(Some(0x004f)), Some("v3"));
        assert_eq!(model(Some(0x0050)), None);
        assert_eq!(model(None), None);
    }

    #[test]
    fn no_tpu_is_listed_as_something_else() {
        assert!(GENERATIONS.iter().all(|generation| !OTHER_DEVICE_IDS.contains(&generation.device_id)));
    }
}
