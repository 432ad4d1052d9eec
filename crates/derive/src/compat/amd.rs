//! The keys of AMD's node labeller (`cmd/k8s-node-labeller` of ROCm/k8s-device-plugin).
//!
//! A key has two prefixes and two forms. Where all parts agree, both prefixes have the plain key, and `beta.amd.com` also
//! has `key.value = number`; where they do not, both have that form only. A *part* is what the device plugin hands out: a
//! partition, or a device that is not cut.

pub(super) mod families;
mod family;
pub(super) mod left_out;
pub(super) mod unit;

use std::collections::BTreeMap;

use afd_model::{AmdFacts, BlockFirmware, Device, Known, Partitioning};

use super::{CompatLabel, Fill, LeftOut, Scope, room};
use crate::value::{MAX_LENGTH, label_value};

pub(super) const TABLES: [&[CompatLabel]; 2] = [BOTH_FORMS, OTHERS];

macro_rules! both_forms {
    ($($key:literal, $example:literal, $meaning:literal, $tell:ident;)*) => {
        &[$(
            CompatLabel {
                key: concat!("amd.com/gpu.", $key),
                examples: concat!("`", $example, "`"),
                meaning: concat!($meaning, "; only where all agree"),
                fill: Fill::One(|scope| agreed(&$tell(scope))),
            },
            CompatLabel {
                key: concat!("amd.com/gpu.", $key, ".<value>"),
                examples: "`8`",
                meaning: "how many have that value; only where they do not agree",
                fill: Fill::Many(|scope| {
                    let told = $tell(scope);
                    if agreed(&told).is_some() {
                        return Vec::new();
                    }
                    counts(&told, room(concat!("amd.com/gpu.", $key, ".<value>")))
                }),
            },
            CompatLabel {
                key: concat!("beta.amd.com/gpu.", $key),
                examples: concat!("`", $example, "`"),
                meaning: "the same, older prefix",
                fill: Fill::One(|scope| agreed(&$tell(scope))),
            },
            CompatLabel {
                key: concat!("beta.amd.com/gpu.", $key, ".<value>"),
                examples: "`8`",
                meaning: "how many have that value",
                fill: Fill::Many(|scope| {
                    counts(&$tell(scope), room(concat!("beta.amd.com/gpu.", $key, ".<value>")))
                }),
            },
        )*]
    };
}

const BOTH_FORMS: &[CompatLabel] = both_forms! {
    "family", "AI", "family of chips as the driver's interface names it; of parts", family;
    "device-id", "74a1", "PCI device id; of devices", device_id;
    "product-name", "AMD_Instinct_MI300X_OAM", "name on the board, else the marketing name by the library or the product table; of devices", product_name;
    "vram", "192G", "memory in whole GiB; of parts", vram;
    "simd-count", "1216", "SIMD units; of parts", simd_count;
    "cu-count", "304", "compute units; of parts", cu_count;
};

const OTHERS: &[CompatLabel] = &[
    CompatLabel {
        key: "amd.com/gpu.memory",
        examples: "`196592`",
        meaning: "memory of a part in whole MiB; AMD has no such key, llm-d's autoscaler reads it",
        fill: Fill::One(|scope| {
            let told = of_parts(scope, |part| part.memory_bytes.map(|bytes| (bytes >> 20).to_string()));
            agreed(&told)
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.driver-version",
        examples: "`6.12.12`",
        meaning: "version of a driver that is no part of the kernel",
        fill: Fill::One(|scope| of_facts(scope, |facts| facts.module_version.value())),
    },
    CompatLabel {
        key: "amd.com/gpu.driver-src-version",
        examples: "`0BBE9D5F3C2F6E0D9A1B7A4`",
        meaning: "checksum of the driver's sources",
        fill: Fill::One(|scope| of_facts(scope, |facts| facts.module_source_version.value())),
    },
    CompatLabel {
        key: "amd.com/gpu.compute-memory-partition",
        examples: "`spx_nps1`, `cpx_nps4`",
        meaning: "how all devices are cut; only where they agree",
        fill: Fill::One(|scope| agreed(&of_devices(scope, mode_of_partitioning))),
    },
    CompatLabel {
        key: "amd.com/gpu.compute-partitioning-supported",
        examples: "`true`, `false`",
        meaning: "whether the devices' compute units can be cut; only where they agree",
        fill: Fill::One(|scope| {
            supported(scope, |facts| facts.compute_partitioning_supported.value().copied())
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.memory-partitioning-supported",
        examples: "`true`, `false`",
        meaning: "whether the devices' memory can be cut; only where they agree",
        fill: Fill::One(|scope| {
            supported(scope, |facts| facts.memory_partitioning_supported.value().copied())
        }),
    },
    CompatLabel {
        key: "amd.com/gpu.mode",
        examples: "`container`, `vf-passthrough`, `pf-passthrough`",
        meaning: "what the devices' driver makes of them; only where they agree",
        fill: Fill::One(|scope| agreed(&of_devices(scope, mode))),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.mode",
        examples: "`container`, `vf-passthrough`",
        meaning: "the same, older prefix",
        fill: Fill::One(|scope| agreed(&of_devices(scope, mode)).filter(|mode| mode != "pf-passthrough")),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.firmware.<firmware>.fw.<version>",
        examples: "`8`",
        meaning: "how many devices have that version of a firmware (VCE UVD MC ME PFP CE RLC MEC SMC SDMA0), in decimal",
        fill: Fill::Many(|scope| {
            of_firmware(scope, "beta.amd.com/gpu.firmware.<firmware>.fw.<version>", |firmware| {
                Some(format!("{}.fw.{}", firmware.block, firmware.version))
            })
        }),
    },
    CompatLabel {
        key: "beta.amd.com/gpu.firmware.<firmware>.feat.<version>",
        examples: "`8`",
        meaning: "how many devices have that feature version of a firmware; only where the agent may read debugfs",
        fill: Fill::Many(|scope| {
            of_firmware(scope, "beta.amd.com/gpu.firmware.<firmware>.feat.<version>", |firmware| {
                Some(format!("{}.feat.{}", firmware.block, firmware.feature.value()?))
            })
        }),
    },
];

/// Keys of AMD's labeller that are not published.
pub(super) const LEFT_OUT: [LeftOut; 1] = [LeftOut {
    key: "amd.com/gpu.product",
    reason: "AMD has no such key; llm-d's autoscaler asks for it beside `amd.com/gpu.memory`. A key under a vendor's \
                 prefix that ends in `product` is taken by llm-d's benchmark as the name of the model, so none is made up \
                 under a prefix that is not ours: use `accelerator.llm-d.ai/product`.",
}];

/// Where a value or a form is not as AMD's labeller has it.
pub(super) const DIFFERENCES: [&str; 11] = [
    "Every value obeys Kubernetes' rules. AMD's labeller turns blanks into `_` and drops brackets; twelve names of \
     `amdgpu.ids` contain `/` and stay invalid (`AMD Instinct MI250X / MI250`), and one such value makes the API server \
     refuse the whole update of the node. Here a word without letters and digits is dropped: `AMD_Instinct_MI250X_MI250`.",
    "All keys are published; with AMD's labeller each is switched on by a flag of its own.",
    "Values follow the devices: AMD's labeller looks once when it starts.",
    "`family` follows from the instruction set that KFD or the product table tells, `product-name` from the board's name, \
     AMD's library or the product table, `vram` from KFD or, where that is closed to the reader, from the DRM driver. AMD's labeller asks the \
     device node by ioctl for the first two, and knows no `vram` without KFD.",
    "Partitions are counted where the platform devices are called `amdgpu_xcp.N` (older kernels) as well; AMD's labeller \
     counts devices there.",
    "A firmware of version 0 is not counted: the file says so of a block that has none.",
    "The feature version of a firmware is read from debugfs (`amdgpu_firmware_info`), which only root may read; AMD's labeller \
     asks the device node by ioctl. AFD opens no device node, so that it wakes no device. Where debugfs is closed to it there \
     are no `feat` keys.",
    "`driver-version` is absent for the driver of the kernel itself, which has no version of its own; AMD's labeller writes \
     an empty value.",
    "`device-id` is that of the physical devices, without `0x`, in every `mode`; the virtualisation branch of AMD's labeller \
     writes the virtual function's id with `0x`.",
    "`compute-partitioning-supported` and `memory-partitioning-supported` are absent where devices disagree; AMD's labeller \
     takes the first device's word for all.",
    "Integrated GPUs count only with `--include-integrated`; AMD's labeller counts all that its driver drives.",
];

/// What the device plugin hands out: a partition, or a device that is not cut.
struct Part<'i> {
    device: &'i Device,
    memory_bytes: Option<u64>,
    compute_units: Option<u32>,
}

fn of_devices(scope: &Scope<'_>, tell: impl Fn(&Device) -> Option<String>) -> Vec<String> {
    scope.devices.iter().filter_map(|device| tell(device)).collect()
}

fn of_parts(scope: &Scope<'_>, tell: impl Fn(&Part<'_>) -> Option<String>) -> Vec<String> {
    let parts = scope.devices.iter().flat_map(|device| parts(device));
    parts.filter_map(|part| tell(&part)).collect()
}

fn parts(device: &Device) -> Vec<Part<'_>> {
    let cut = matches!(device.partitioning.value(), Some(Partitioning::Xcp { .. }) | None);
    if device.partitions.is_empty() || !cut {
        let compute_units = facts(device).and_then(|facts| facts.compute_units.value().copied());
        return vec![Part { device, memory_bytes: device.memory_bytes.value().copied(), compute_units }];
    }
    let part = |partition: &afd_model::Partition| Part {
        device,
        memory_bytes: partition.memory_bytes.value().copied(),
        compute_units: partition.compute_units.value().copied(),
    };
    device.partitions.iter().map(part).collect()
}

fn facts(device: &Device) -> Option<&AmdFacts> {
    device.amd()
}

/// The value that all have, if anything has one.
fn agreed(told: &[String]) -> Option<String> {
    let (first, rest) = told.split_first()?;
    rest.iter().all(|value| value == first).then(|| first.clone())
}

/// How many have each value, as the end of a key of at most `room` characters.
fn counts(told: &[String], room: usize) -> Vec<(String, String)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in told.iter().filter_map(|value| label_value(value, room)) {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().map(|(value, count)| (value, count.to_string())).collect()
}

fn family(scope: &Scope<'_>) -> Vec<String> {
    of_parts(scope, |part| family::of(part.device.compute.value()?).map(str::to_owned))
}

fn device_id(scope: &Scope<'_>) -> Vec<String> {
    of_devices(scope, |device| device.pci.device_id.value().map(ToString::to_string))
}

fn product_name(scope: &Scope<'_>) -> Vec<String> {
    of_devices(scope, |device| {
        let name =
            |tell: fn(&AmdFacts) -> &Known<String>| facts(device).and_then(|facts| tell(facts).value());
        let board = name(|facts| &facts.board_name).or_else(|| name(|facts| &facts.market_name));
        underscored(board.map(String::as_str).or_else(|| device.product_name())?)
    })
}

fn vram(scope: &Scope<'_>) -> Vec<String> {
    of_parts(scope, |part| {
        let mebibytes = part.memory_bytes? >> 20;
        Some(format!("{}G", (mebibytes + 512) / 1024))
    })
}

fn simd_count(scope: &Scope<'_>) -> Vec<String> {
    of_parts(scope, |part| {
        let per_unit = *facts(part.device)?.simds_per_compute_unit.value()?;
        part.compute_units?.checked_mul(per_unit).map(|simds| simds.to_string())
    })
}

fn cu_count(scope: &Scope<'_>) -> Vec<String> {
    of_parts(scope, |part| part.compute_units.map(|units| units.to_string()))
}

/// Blanks become `_`, brackets go, and so does a word that has neither letter nor digit.
fn underscored(name: &str) -> Option<String> {
    let words: Vec<String> = name
        .split_whitespace()
        .map(|word| word.replace(['(', ')'], ""))
        .filter(|word| word.contains(|c: char| c.is_ascii_alphanumeric()))
        .collect();
    label_value(&words.join("_"), MAX_LENGTH)
}

fn of_facts<'i>(scope: &Scope<'i>, tell: impl Fn(&'i AmdFacts) -> Option<&'i String>) -> Option<String> {
    let told: Vec<String> = scope.devices.iter().filter_map(|device| tell(facts(device)?)).cloned().collect();
    label_value(&agreed(&told)?, MAX_LENGTH)
}

fn supported(scope: &Scope<'_>, tell: impl Fn(&AmdFacts) -> Option<bool>) -> Option<String> {
    agreed(&of_devices(scope, |device| tell(facts(device)?).map(|supported| supported.to_string())))
}

fn mode_of_partitioning(device: &Device) -> Option<String> {
    match device.partitioning.value()? {
        Partitioning::Xcp { compute, memory } => {
            label_value(&format!("{compute}_{}", memory.value()?).to_lowercase(), MAX_LENGTH)
        }
        Partitioning::Whole | Partitioning::Mig | Partitioning::Sriov { .. } => None,
    }
}

fn mode(device: &Device) -> Option<String> {
    let mode = match device.driver.value()?.as_str() {
        "amdgpu" => "container",
        "gim" => "vf-passthrough",
        "vfio-pci" => "pf-passthrough",
        _ => return None,
    };
    Some(mode.to_owned())
}

fn of_firmware(
    scope: &Scope<'_>,
    key: &'static str,
    end: impl Fn(&BlockFirmware) -> Option<String>,
) -> Vec<(String, String)> {
    let told = scope.devices.iter().filter_map(|device| facts(device)).flat_map(|facts| &facts.firmware);
    let ends: Vec<String> = told.filter_map(end).collect();
    counts(&ends, room(key))
}
