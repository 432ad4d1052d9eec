//! The Google PCI ids, and what all chips of a TPU generation have in common.
//!
//! Ids: `device.py` of tpu-info and `jax/_src/hardware_utils.py`, which agree where both have one; 0056 is in JAX
//! only. The DRA driver also lists "v4 lite" under 005e, unlike both of them; v4 is used. v2 and v3 share an id and
//! differ by the subsystem. Logical devices: tpu-info. TensorCores: two of v4
//! (cloud.google.com/tpu/docs/v4, system architecture) and v5p (cloud.google.com/tpu/docs/v5p-training, "Number of TensorCores
//! per chip"), which a framework sees as one device. Memory: the nominal HBM of a chip in Google's documentation;
//! the runtime leaves less to workloads (v6e: 31.25 of 32 GiB). ICI: every generation but v4i. Functions: GKE's device plugin
//! (ai-on-gke/tpu-device-plugin) refuses a TPU 7x whose slot has any other number than two.

use afd_probe::products::{ProductRow, rows_of};

/// A generation of the table.
pub(crate) type TpuGeneration = ProductRow<TpuFacts>;

/// What all chips of a generation have in common besides their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TpuFacts {
    /// Set if several generations share the device id.
    subsystem_id: Option<u16>,
    /// The HBM capacity of a chip in GiB.
    memory_gib: u64,
    /// The number of devices that a framework sees per chip.
    pub(crate) logical_devices: u32,
    /// Whether its chips are connected by ICI.
    pub(crate) has_ici: bool,
    /// Its TensorCores; a framework may see two of them as one device.
    pub(crate) cores: usize,
    /// Whether vfio-pci is its driver, which the image of the machine binds at boot; else Google's own.
    pub(crate) has_vfio: bool,
    /// The number of PCI functions of a chip, all in one slot.
    pub(crate) functions: usize,
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
    if rows_of(&[GENERATIONS], device_id).next().is_some() {
        GoogleDeviceKind::Tpu
    } else if OTHER_DEVICE_IDS.contains(&device_id) {
        GoogleDeviceKind::Other
    } else {
        GoogleDeviceKind::Unknown
    }
}

/// Whether the subsystem id is needed to determine the generation.
pub(crate) fn needs_subsystem(device_id: u16) -> bool {
    rows_of(&[GENERATIONS], device_id).any(|generation| generation.facts.subsystem_id.is_some())
}

/// The generation of a device id and, if needed, a subsystem id.
pub(crate) fn find(device_id: u16, subsystem_id: Option<u16>) -> Option<&'static TpuGeneration> {
    rows_of(&[GENERATIONS], device_id).find(|generation| {
        let own = generation.facts.subsystem_id;
        own.is_none() || own == subsystem_id
    })
}

impl TpuFacts {
    /// The memory size of a chip.
    pub(crate) fn memory_bytes(self) -> u64 {
        self.memory_gib << 30
    }

    const fn subsystem(self, id: u16) -> TpuFacts {
        TpuFacts { subsystem_id: Some(id), ..self }
    }

    const fn of_functions(self, functions: usize) -> TpuFacts {
        TpuFacts { functions, ..self }
    }

    const fn of_cores(self, cores: usize) -> TpuFacts {
        TpuFacts { cores, ..self }
    }

    const fn with_vfio(self) -> TpuFacts {
        TpuFacts { has_vfio: true, ..self }
    }

    const fn without_ici(self) -> TpuFacts {
        TpuFacts { has_ici: false, ..self }
    }
}

/// NVMe 001f and gVNIC 0042 (the DRA driver's `hardware.go`, the public PCI id list); Ethernet 001d and 002d, FPGA
/// 0065, fabric controller 0084 (public lspci dumps); abcd, the image processor of a phone (the public PCI id list).
const OTHER_DEVICE_IDS: [u16; 7] = [0x001d, 0x001f, 0x002d, 0x0042, 0x0065, 0x0084, 0xabcd];

const fn chip(memory_gib: u64, logical_devices: u32) -> TpuFacts {
    TpuFacts {
        subsystem_id: None,
        memory_gib,
        logical_devices,
        has_ici: true,
        cores: logical_devices as usize,
        has_vfio: false,
        functions: 1,
    }
}

const fn generation(
    ids: &'static [u16],
    name: &'static str,
    model: &'static str,
    architecture: &'static str,
    facts: TpuFacts,
) -> TpuGeneration {
    ProductRow { ids, name, model: Some(model), architecture, facts }
}

const GENERATIONS: &[TpuGeneration] = &[
    generation(&[0x0027], "Google TPU v2", "v2", "v2", chip(16, 2).subsystem(0x004e)),
    generation(&[0x0027], "Google TPU v3", "v3", "v3", chip(32, 2).subsystem(0x004f)),
    generation(&[0x0056], "Google TPU v4i", "v4i", "v4i", chip(8, 1).without_ici()),
    generation(&[0x005e], "Google TPU v4", "v4", "v4", chip(32, 1).of_cores(2)),
    generation(&[0x0063], "Google TPU v5e", "v5e", "v5e", chip(16, 1).with_vfio()),
    generation(&[0x0062], "Google TPU v5p", "v5p", "v5p", chip(95, 1).of_cores(2).with_vfio()),
    generation(&[0x006f], "Google TPU v6e", "v6e", "trillium", chip(32, 1).with_vfio()),
    generation(&[0x0076], "Google TPU 7x", "7x", "ironwood", chip(192, 2).of_functions(2).with_vfio()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_and_v3_differ_in_their_subsystem() {
        let model = |subsystem| find(0x0027, subsystem).and_then(|generation| generation.model);
        assert_eq!(model(Some(0x004e)), Some("v2"));
        assert_eq!(model(Some(0x004f)), Some("v3"));
        assert_eq!(model(Some(0x0050)), None);
        assert_eq!(model(None), None);
    }

    #[test]
    fn no_tpu_is_listed_as_something_else() {
        assert!(
            GENERATIONS.iter().flat_map(|generation| generation.ids).all(|id| !OTHER_DEVICE_IDS.contains(id))
        );
    }
}
