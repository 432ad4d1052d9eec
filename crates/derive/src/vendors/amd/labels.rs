//! The keys of AMD's node labeller (`cmd/k8s-node-labeller` of ROCm/k8s-device-plugin).
//!
//! A key has two prefixes and two forms. Where all units agree, both prefixes have the plain key, and `beta.amd.com` also has
//! `key.value = number`; where they do not, both have that form only. A *unit* is what the device plugin allocates: a
//! partition, or a device without partitions.

mod chip_family;
mod values;

use afd_model::Fact;

use self::values::{
    compute_units_are_unread, cu_count, device_id, family, feature_is_unread, mode, name_is_unread,
    of_devices, of_facts, of_firmware, of_units, partitioning_mode, product_name, simd_count, supported,
    vram,
};
use crate::compat::labels::{
    CompatLabel, LabelFill, LabelScope, LabelSet, LeftOutLabel, agreed, counts, room,
};

pub(super) const LABELS: LabelSet = LabelSet {
    tool: "AMD's node labeller (ROCm/k8s-device-plugin)",
    notes: "",
    tables: &[BOTH_FORMS, OTHERS],
    placeholders: &[],
    left_out: &[LeftOutLabel {
        key: "amd.com/gpu.product",
        reason: "AMD has no such key; llm-d's autoscaler reads it besides `amd.com/gpu.memory`. llm-d's benchmark takes a key \
                 under a vendor's prefix that ends in `product` as the name of the model, so AFD adds none under a prefix that \
                 is not its own: use `accelerator.llm-d.ai/product`.",
    }],
    differences: &[
        "Every value obeys Kubernetes' rules. AMD's labeller replaces blanks by `_` and removes brackets; twelve names of \
         `amdgpu.ids` contain `/` and stay invalid (`AMD Instinct MI250X / MI250`), and one such value makes the API server \
         refuse the whole update of the node. AFD removes a word without letters and digits: `AMD_Instinct_MI250X_MI250`.",
        "All keys are published; with AMD's labeller each is enabled by a flag of its own.",
        "Values follow the devices: AMD's labeller reads them once when it starts.",
        "`family` follows from the instruction set that KFD or the product table reports, `product-name` from the board's name, \
         AMD's library or the product table, `vram` from KFD or, where KFD is not permitted, from the DRM driver. AMD's \
         labeller opens the device node for the first two (ioctl), and has no `vram` without KFD.",
        "Partitions are counted where the platform devices are called `amdgpu_xcp.N` (older kernels) as well; AMD's labeller \
         counts devices there.",
        "A firmware of version 0 is not counted: the file has it for a block without firmware.",
        "The feature version of a firmware is read from debugfs (`amdgpu_firmware_info`), which only root may read; AMD's \
         labeller opens the device node (ioctl). AFD opens no device node, so that it wakes no device. Without access to \
         debugfs there are no `feat` keys.",
        "`driver-version` is absent for the driver of the kernel itself, which has no version of its own; AMD's labeller writes \
         an empty value.",
        "`device-id` is that of the physical devices, without `0x`, in every `mode`; the virtualisation branch of AMD's labeller \
         writes the virtual function's id with `0x`.",
        "`compute-partitioning-supported` and `memory-partitioning-supported` are absent where devices disagree; AMD's labeller \
         writes the value of the first device.",
        "A device that is given to virtual machines as a whole (`vfio-pci`) has no labels, since pods cannot have it; the \
         virtualisation branch of AMD's labeller describes it, with the mode `pf-passthrough`.",
        "Integrated GPUs count only with `--include-integrated`; AMD's labeller counts every device of its driver.",
    ],
};

macro_rules! both_forms {
    ($($key:literal, $example:literal, $meaning:literal, $needs:expr, $unread:expr, $values:ident;)*) => {
        &[$(
            CompatLabel {
                key: concat!("amd.com/gpu.", $key),
                examples: concat!("`", $example, "`"),
                meaning: concat!($meaning, "; only where all agree"),
                needs: $needs,
                unread: $unread,
                fill: LabelFill::One(|scope| agreed(&$values(scope))),
            },
            CompatLabel {
                key: concat!("amd.com/gpu.", $key, ".<value>"),
                examples: "`8`",
                meaning: "how many have that value; only where they do not agree",
                needs: $needs,
                unread: $unread,
                fill: LabelFill::Many(|scope| {
                    let values = $values(scope);
                    if agreed(&values).is_some() {
                        return Vec::new();
                    }
                    counts(&values, room(concat!("amd.com/gpu.", $key, ".<value>")))
                }),
            },
            CompatLabel {
                key: concat!("beta.amd.com/gpu.", $key),
                examples: concat!("`", $example, "`"),
                meaning: "the same, older prefix",
                needs: $needs,
                unread: $unread,
                fill: LabelFill::One(|scope| agreed(&$values(scope))),
            },
            CompatLabel {
                key: concat!("beta.amd.com/gpu.", $key, ".<value>"),
                examples: "`8`",
                meaning: "how many have that value",
                needs: $needs,
                unread: $unread,
                fill: LabelFill::Many(|scope| {
                    counts(&$values(scope), room(concat!("beta.amd.com/gpu.", $key, ".<value>")))
                }),
            },
        )*]
    };
}

/// Of the device, or of its partitions.
const COMPUTE_UNITS: &[Fact] = &[Fact::VendorFacts, Fact::Partitioning];
const VENDOR: &[Fact] = &[Fact::VendorFacts];
/// The row needs no part of the vendor's facts.
const ALL_READ: fn(&LabelScope<'_>) -> bool = |_| false;

const BOTH_FORMS: &[CompatLabel] = both_forms! {
    "family", "AI", "chip family as the driver's user-space interface calls it; of units",
        &[Fact::Compute, Fact::Partitioning], ALL_READ, family;
    "device-id", "74a1", "PCI device id; of devices",
        &[], ALL_READ, device_id;
    "product-name", "AMD_Instinct_MI300X_OAM", "name on the board, else the marketing name from the library or the product table; of devices",
        &[Fact::Product, Fact::VendorFacts], name_is_unread, product_name;
    "vram", "192G", "memory in whole GiB; of units",
        &[Fact::Memory, Fact::Partitioning], ALL_READ, vram;
    "simd-count", "1216", "SIMD units; of units",
        COMPUTE_UNITS, compute_units_are_unread, simd_count;
    "cu-count", "304", "compute units; of units",
        COMPUTE_UNITS, compute_units_are_unread, cu_count;
};

const OTHERS: &[CompatLabel] = &[
    CompatLabel {
        key: "amd.com/gpu.memory",
        examples: "`196592`",
        meaning: "memory of a unit in whole MiB; AMD has no such key, llm-d's autoscaler reads it",
        needs: &[Fact::Memory, Fact::Partitioning],
        unread: ALL_READ,
        fill: LabelFill::One(|scope| {
            agreed(&of_units(scope, |unit| unit.memory_bytes.map(|bytes| (bytes >> 20).to_string())))
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.driver-version",
        examples: "`6.12.12`",
        meaning: "version of a driver that is not part of the kernel",
        needs: VENDOR,
        unread: |scope| scope.is_unread(|device| device.amd()?.module_version.missing()),
        fill: LabelFill::One(|scope| of_facts(scope, |facts| facts.module_version.value())),
    },
    CompatLabel {
        key: "amd.com/gpu.driver-src-version",
        examples: "`0BBE9D5F3C2F6E0D9A1B7A4`",
        meaning: "checksum of the driver's sources",
        needs: VENDOR,
        unread: |scope| scope.is_unread(|device| device.amd()?.module_source_version.missing()),
        fill: LabelFill::One(|scope| of_facts(scope, |facts| facts.module_source_version.value())),
    },
    CompatLabel {
        key: "amd.com/gpu.compute-memory-partition",
        examples: "`spx_nps1`, `cpx_nps4`",
        meaning: "partitioning mode; only where all devices agree",
        needs: &[Fact::Partitioning],
        unread: ALL_READ,
        fill: LabelFill::One(|scope| agreed(&of_devices(scope, partitioning_mode))),
    },
    CompatLabel {
        key: "amd.com/gpu.compute-partitioning-supported",
        examples: "`true`, `false`",
        meaning: "whether the devices support compute partitioning; only where they agree",
        needs: VENDOR,
        unread: |scope| scope.is_unread(|device| device.amd()?.compute_partitioning_supported.missing()),
        fill: LabelFill::One(|scope| {
            supported(scope, |facts| facts.compute_partitioning_supported.value().copied())
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.memory-partitioning-supported",
        examples: "`true`, `false`",
        meaning: "whether the devices support memory partitioning; only where they agree",
        needs: VENDOR,
        unread: |scope| scope.is_unread(|device| device.amd()?.memory_partitioning_supported.missing()),
        fill: LabelFill::One(|scope| {
            supported(scope, |facts| facts.memory_partitioning_supported.value().copied())
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.mode",
        examples: "`container`, `vf-passthrough`",
        meaning: "use of the devices by their driver; only where they agree",
        needs: &[Fact::Driver],
        unread: ALL_READ,
        fill: LabelFill::One(|scope| agreed(&of_devices(scope, mode))),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.mode",
        examples: "`container`, `vf-passthrough`",
        meaning: "the same, older prefix",
        needs: &[Fact::Driver],
        unread: ALL_READ,
        fill: LabelFill::One(|scope| agreed(&of_devices(scope, mode))),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.firmware.<firmware>.fw.<version>",
        examples: "`8`",
        meaning: "how many devices have that version of a firmware (VCE UVD MC ME PFP CE RLC MEC SMC SDMA0), in decimal",
        needs: VENDOR,
        unread: ALL_READ,
        fill: LabelFill::Many(|scope| {
            of_firmware(scope, "beta.amd.com/gpu.firmware.<firmware>.fw.<version>", |firmware| {
                Some(format!("{}.fw.{}", firmware.block, firmware.version))
            })
        }),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.firmware.<firmware>.feat.<version>",
        examples: "`8`",
        meaning: "how many devices have that feature version of a firmware; only where the agent may read debugfs",
        needs: VENDOR,
        unread: feature_is_unread,
        fill: LabelFill::Many(|scope| {
            of_firmware(scope, "beta.amd.com/gpu.firmware.<firmware>.feat.<version>", |firmware| {
                Some(format!("{}.feat.{}", firmware.block, firmware.feature.value()?))
            })
        }),
    },
];

#[cfg(test)]
mod tests;
