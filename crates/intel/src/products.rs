//! The product of each Intel PCI id, and facts that no kernel interface exposes.
//!
//! Sources of names: Intel's compute runtime (`shared/source/dll/devices/devices_base.inl`), for the Arc Pro B65 and
//! B70 its DRA driver (`pkg/gpu/device/models.go`), for products without a name the kernel's platform
//! (`include/drm/intel/pciids.h`). Where these sources disagree (0bd6, 0b69) the compute runtime takes
//! precedence.
//! Capacities are the nominal ones of Intel's announcements and product pages, in GiB for one GPU, and only where
//! they are documented; a Flex 140 board has 12 GB for its two GPUs.

mod integrated;

use afd_model::{Known, Missing, Product};

/// A GPU of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct IntelGpu {
    /// Marketing name.
    pub(crate) name: &'static str,
    /// The short model name, if the vendor has one; for integrated GPUs it is derived from the name.
    model: Option<&'static str>,
    /// Silicon generation.
    pub(crate) architecture: &'static str,
    /// Integrated into a processor.
    pub(crate) integrated: bool,
    /// The memory capacities of products with this id in GiB, smallest first. Empty if unknown.
    pub(crate) capacities_gib: &'static [u64],
}

/// Ids, name, model, capacities in GiB.
type IntelProductRow = (&'static [u16], &'static str, Option<&'static str>, &'static [u64]);

/// The GPU with a device id.
pub(crate) fn find(device_id: u16) -> Option<IntelGpu> {
    let discrete = DISCRETE.iter().find_map(|(architecture, rows)| {
        let (_, name, model, capacities_gib) = rows.iter().find(|(ids, ..)| ids.contains(&device_id))?;
        Some(IntelGpu { name, model: *model, architecture, integrated: false, capacities_gib })
    });
    discrete.or_else(|| {
        let (name, architecture) = integrated::find(device_id)?;
        Some(IntelGpu { name, model: None, architecture, integrated: true, capacities_gib: &[] })
    })
}

impl IntelGpu {
    /// The product for the inventory.
    pub(crate) fn product(&self) -> Product {
        let model = match self.model {
            None if self.integrated => Known::Value(short_name(self.name)),
            model => Known::from_option(model.map(str::to_owned), Missing::NotAvailable),
        };
        Product {
            name: self.name.to_owned(),
            model,
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }

    /// Whether the board has a PCIe switch, behind which the GPU's own link files always report 2.5 GT/s x1: the Arc and
    /// Flex series and Battlemage.
    pub(crate) fn is_behind_own_switch(&self) -> bool {
        matches!(self.architecture, "xe-hpg" | "xe2-hpg")
    }
}

/// The short model name: `UHD-Graphics` for `Intel UHD Graphics (Tiger Lake)`.
fn short_name(name: &str) -> String {
    let name = name.split(" (").next().unwrap_or(name);
    name.strip_prefix("Intel ").unwrap_or(name).replace(' ', "-")
}

/// The discrete GPUs by architecture.
const DISCRETE: &[(&str, &[IntelProductRow])] = &[
    (
        "xe-hpc",
        &[
            (&[0x0bd5], "Intel Data Center GPU Max 1550", Some("Max-1550"), &[128]),
            (&[0x0bd6], "Intel Data Center GPU Max 1550", Some("Max-1550"), &[]),
            (&[0x0bd4], "Intel Data Center GPU Max 1550VG", Some("Max-1550VG"), &[]),
            (&[0x0b69], "Intel Data Center GPU Max 1450", Some("Max-1450"), &[]),
            (&[0x0bd7, 0x0bd8], "Intel Data Center GPU Max 1350", Some("Max-1350"), &[96]),
            (&[0x0bd9, 0x0bda, 0x0bdb], "Intel Data Center GPU Max 1100", Some("Max-1100"), &[48]),
            (&[0x0b6e], "Intel Data Center GPU Max 1100C", Some("Max-1100C"), &[]),
            (&[0x0bd0], "Intel Ponte Vecchio", None, &[]),
        ],
    ),
    (
        "xe-hpg",
        &[
            (&[0x56c0], "Intel Data Center GPU Flex 170", Some("Flex-170"), &[16]),
            (&[0x56c1], "Intel Data Center GPU Flex 140", Some("Flex-140"), &[6]),
            (&[0x56c2], "Intel Data Center GPU Flex 170V", Some("Flex-170V"), &[]),
            (&[0x56a0], "Intel Arc A770", Some("A770"), &[8, 16]),
            (&[0x56a1], "Intel Arc A750", Some("A750"), &[8]),
            (&[0x56a2], "Intel Arc A580", Some("A580"), &[8]),
            (&[0x56a5], "Intel Arc A380", Some("A380"), &[6]),
            (&[0x56a6], "Intel Arc A310", Some("A310"), &[4]),
            (&[0x56af], "Intel Arc A760A", Some("A760A"), &[]),
            (&[0x5690], "Intel Arc A770M", Some("A770M"), &[16]),
            (&[0x5691], "Intel Arc A730M", Some("A730M"), &[12]),
            (&[0x5696], "Intel Arc A570M", Some("A570M"), &[8]),
            (&[0x5692], "Intel Arc A550M", Some("A550M"), &[8]),
            (&[0x5697], "Intel Arc A530M", Some("A530M"), &[4, 8]),
            (&[0x5693], "Intel Arc A370M", Some("A370M"), &[4]),
            (&[0x5694], "Intel Arc A350M", Some("A350M"), &[4]),
            (&[0x56b0], "Intel Arc Pro A30M", Some("Pro-A30M"), &[]),
            (&[0x56b1], "Intel Arc Pro A40/A50", Some("Pro-A40-A50"), &[6]),
            (&[0x56b2], "Intel Arc Pro A60M", Some("Pro-A60M"), &[]),
            (&[0x56b3], "Intel Arc Pro A60", Some("Pro-A60"), &[12]),
            (&[0x56ba], "Intel Arc A380E", Some("A380E"), &[]),
            (&[0x56bb], "Intel Arc A310E", Some("A310E"), &[]),
            (&[0x56bc], "Intel Arc A370E", Some("A370E"), &[]),
            (&[0x56bd], "Intel Arc A350E", Some("A350E"), &[]),
            (&[0x56be], "Intel Arc A750E", Some("A750E"), &[]),
            (&[0x56bf], "Intel Arc A580E", Some("A580E"), &[]),
            (&[0x5695, 0x56a3, 0x56a4], "Intel Graphics (DG2)", None, &[]),
        ],
    ),
    (
        "xe2-hpg",
        &[
            (&[0xe20b], "Intel Arc B580", Some("B580"), &[12]),
            (&[0xe209], "Intel Arc B580", Some("B580"), &[]),
            (&[0xe20c], "Intel Arc B570", Some("B570"), &[10]),
            (&[0xe211], "Intel Arc Pro B60", Some("Pro-B60"), &[24]),
            (&[0xe212], "Intel Arc Pro B50", Some("Pro-B50"), &[16]),
            (&[0xe222], "Intel Arc Pro B65", Some("Pro-B65"), &[]),
            (&[0xe223], "Intel Arc Pro B70", Some("Pro-B70"), &[32]),
            (
                &[0xe202, 0xe20d, 0xe210, 0xe215, 0xe216, 0xe220, 0xe221],
                "Intel Graphics (Battlemage)",
                None,
                &[],
            ),
        ],
    ),
    (
        "xe3p-xpc",
        &[(&[0x674c, 0x674d, 0x674e, 0x674f, 0x6750], "Intel Crescent Island", Some("Crescent-Island"), &[])],
    ),
    (
        "xe-lp",
        &[
            (&[0x4905], "Intel Iris Xe MAX Graphics", Some("Iris-Xe-MAX"), &[]),
            (&[0x4906], "Intel Graphics (DG1)", None, &[]),
            (&[0x4907], "Intel Server GPU SG-18M", Some("SG-18M"), &[]),
            (&[0x4908], "Intel Iris Xe Graphics (DG1)", Some("Iris-Xe-DG1"), &[]),
            (&[0x4909], "Intel Iris Xe MAX 100 Graphics", Some("Iris-Xe-MAX-100"), &[]),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_belongs_to_one_discrete_or_integrated_product() {
        let mut seen = BTreeSet::new();
        for id in DISCRETE.iter().flat_map(|(_, rows)| *rows).flat_map(|(ids, ..)| *ids) {
            assert!(seen.insert(id), "{id:04x} is listed twice");
            assert_eq!(integrated::find(*id), None, "{id:04x} is listed as integrated as well");
        }
    }

    #[test]
    fn the_model_of_an_integrated_gpu_is_its_name_without_the_platform() {
        let model = |id| find(id).and_then(|gpu| gpu.product().model.into_value());
        assert_eq!(model(0x9a60).as_deref(), Some("UHD-Graphics"));
        assert_eq!(model(0x3e92).as_deref(), Some("UHD-Graphics-630"));
        assert_eq!(model(0xe211).as_deref(), Some("Pro-B60"));
        assert_eq!(model(0xe202), None);
    }

    #[test]
    fn capacities_are_listed_smallest_first() {
        for (_, name, _, capacities) in DISCRETE.iter().flat_map(|(_, rows)| *rows) {
            assert!(capacities.is_sorted(), "{name}");
        }
    }
}
