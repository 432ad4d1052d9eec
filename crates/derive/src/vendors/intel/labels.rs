//! The keys of Intel's NodeFeatureRules (intel-device-plugins-for-kubernetes), and the memory size, which llm-d's autoscaler reads.

use std::collections::BTreeMap;

use afd_model::{Device, Fact};

use crate::{
    compat::labels::{CompatLabel, LabelFill, LabelScope, LabelSet, LeftOutLabel, agreed},
    value::{MAX_LENGTH, label_value},
    vendors::is_driven,
};

const REMOVED: &str =
    "Intel has removed it from the device plugin with its resource manager; nothing consumes it any more.";
const NO_ACCELERATOR: &str = "It is of hardware that is none of AFD's accelerators.";

pub(super) const LABELS: LabelSet = LabelSet {
    tool: "Intel's NodeFeatureRules (intel-device-plugins-for-kubernetes)",
    notes: "",
    tables: &[ROWS],
    placeholders: &[("class", "[0-9a-f]{4}"), ("device", "[0-9a-f]{4}")],
    left_out: &[
        LeftOutLabel { key: "gpu.intel.com/millicores", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/memory.max", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/tiles", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/cards", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/gpu-numbers", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/numa-gpu-map", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/pci-groups", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/xe-links", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/platform_<name>.present", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/platform_<name>.count", reason: REMOVED },
        LeftOutLabel { key: "gpu.intel.com/platform_<name>.tiles", reason: REMOVED },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/npu", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/dlb", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/dsa", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/iaa", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/qat", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/sgx", reason: NO_ACCELERATOR },
        LeftOutLabel { key: "intel.feature.node.kubernetes.io/fpga-arria10", reason: NO_ACCELERATOR },
    ],
    differences: &[
        "`device-id.<class>-<device>.count` is the number of devices of that id. The rule counts all devices of the class under the id \
         of the first one.",
        "`device.count` is the number of Intel GPUs, whatever their ids. The rules set it for four ids, and the last rule that matches \
         decides.",
        "`product` and `family` are also set for the ids that the rules lack: `product` is the model with underscores (`Pro_B60`), and \
         the family of Battlemage is `B_Series`: a later version of the rules sets it, whose value has not been compared. They are absent where devices differ; the last rule that matches decides upstream.",
        "`gpu` is set if the driver i915 or xe is bound to a GPU. The rule looks for the loaded module.",
        "A GPU that is integrated into a processor counts only with `--include-integrated`, as for AFD's own labels. The rules count \
         every display function of Intel.",
        "`memory` is not of the rules: llm-d's autoscaler reads it. It is that of one GPU in whole MiB.",
    ],
};

const fn row(
    key: &'static str,
    examples: &'static str,
    meaning: &'static str,
    needs: &'static [Fact],
    value: fn(&LabelScope<'_>) -> Option<String>,
) -> CompatLabel {
    CompatLabel { key, examples, meaning, needs, unread: |_| false, fill: LabelFill::One(value) }
}

const ROWS: &[CompatLabel] = &[
    row(
        "intel.feature.node.kubernetes.io/gpu",
        "`true`",
        "a driver is bound to a GPU",
        &[Fact::Driver],
        |scope| {
            let is_bound = |device: &&Device| device.driver.is_known() && is_driven(device);
            scope.devices.iter().any(is_bound).then(|| "true".to_owned())
        },
    ),
    CompatLabel {
        fill: LabelFill::Many(|scope| {
            by_id(scope).into_keys().map(|id| (format!("{id}.present"), "true".to_owned())).collect()
        }),
        ..row(
            "gpu.intel.com/device-id.<class>-<device>.present",
            "`true`",
            "a GPU of this PCI class and device id is there",
            &[],
            |_| None,
        )
    },
    CompatLabel {
        fill: LabelFill::Many(|scope| {
            by_id(scope).into_iter().map(|(id, count)| (format!("{id}.count"), count.to_string())).collect()
        }),
        ..row("gpu.intel.com/device-id.<class>-<device>.count", "`4`", "number of such GPUs", &[], |_| None)
    },
    row("gpu.intel.com/device.count", "`4`", "number of GPUs", &[], |scope| {
        Some(scope.devices.len().to_string())
    }),
    row("gpu.intel.com/product", "`Max_1550`, `Pro_B60`", "model", &[Fact::Product, Fact::Model], |scope| {
        of_devices(scope, |device| {
            let model = device.product.value()?.model.value()?;
            Some(model.replace('-', "_"))
        })
    }),
    row(
        "gpu.intel.com/family",
        "`Max_Series`, `B_Series`",
        "family of products",
        &[Fact::Product, Fact::Architecture],
        |scope| of_devices(scope, |device| family(device).map(str::to_owned)),
    ),
    row("gpu.intel.com/memory", "`131072`", "memory of a GPU in whole MiB", &[Fact::Memory], |scope| {
        of_devices(scope, |device| Some((device.memory_bytes.value()? >> 20).to_string()))
    }),
];

/// The value that all devices have, as a label value.
fn of_devices(scope: &LabelScope<'_>, value: impl Fn(&Device) -> Option<String>) -> Option<String> {
    let values: Option<Vec<String>> = scope.devices.iter().map(|device| value(device)).collect();
    label_value(&agreed(&values?)?, MAX_LENGTH)
}

/// How many devices have each class and device id: `0380-0bd5`.
fn by_id(scope: &LabelScope<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for device in &scope.devices {
        let (Some(class), Some(id)) = (device.pci.class.value(), device.pci.device_id.value()) else {
            continue;
        };
        *counts.entry(format!("{:04x}-{id}", class.base_and_subclass())).or_default() += 1;
    }
    counts
}

/// The family by the architecture, and for the Flex series, which shares that of Arc, by the name.
fn family(device: &Device) -> Option<&'static str> {
    let product = device.product.value()?;
    match product.architecture.value()?.as_str() {
        "xe-hpc" => Some("Max_Series"),
        "xe-hpg" if product.name.contains(" Flex ") => Some("Flex_Series"),
        "xe-hpg" => Some("A_Series"),
        "xe2-hpg" => Some("B_Series"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Inventory, Known, PciClass, PciId, Product};

    use super::*;
    use crate::{vendors::VendorOptions, vendors::bare_device};

    fn gpu(bus: u8, id: u16, model: &str, architecture: &str, gibibytes: u64) -> Device {
        let mut device = bare_device(bus);
        device.pci.class = Known::Value(PciClass(0x03_0000));
        device.pci.device_id = Known::Value(PciId(id));
        device.product = Known::Value(Product {
            name: format!("Intel {model}"),
            model: Known::Value(model.to_owned()),
            architecture: Known::Value(architecture.to_owned()),
        });
        device.memory_bytes = Known::Value(gibibytes << 30);
        device
    }

    fn labels(devices: &[Device]) -> BTreeMap<String, String> {
        let (inventory, options) = (Inventory::default(), VendorOptions::default());
        let scope =
            LabelScope { inventory: &inventory, devices: devices.iter().collect(), options: &options };
        let of_row = |row: &CompatLabel| match row.fill {
            LabelFill::One(value) => value(&scope).map(|value| vec![(row.key.to_owned(), value)]),
            LabelFill::Many(values) => {
                let head = row.key.split('<').next().unwrap_or_default();
                Some(values(&scope).into_iter().map(|(end, value)| (format!("{head}{end}"), value)).collect())
            }
        };
        ROWS.iter().filter_map(of_row).flatten().collect()
    }

    #[test]
    fn each_id_has_its_own_count_and_what_differs_is_absent() {
        let b580 = |bus| gpu(bus, 0xe20b, "B580", "xe2-hpg", 12);
        let labels = labels(&[b580(1), gpu(2, 0x56a5, "A380", "xe-hpg", 6), b580(3)]);
        let get = |key: &str| labels.get(&format!("gpu.intel.com/{key}")).map(String::as_str);
        assert_eq!(get("device-id.0300-e20b.count"), Some("2"));
        assert_eq!(get("device-id.0300-56a5.count"), Some("1"));
        assert_eq!(get("device-id.0300-56a5.present"), Some("true"));
        assert_eq!(get("device.count"), Some("3"));
        assert_eq!((get("product"), get("family"), get("memory")), (None, None, None));
    }

    #[test]
    fn a_family_is_known_for_ids_that_the_rules_lack() {
        let of = |name: &str, architecture: &str| family(&gpu(1, 1, name, architecture, 1));
        assert_eq!(of("Data Center GPU Max 1550", "xe-hpc"), Some("Max_Series"));
        assert_eq!(of("Data Center GPU Flex 140", "xe-hpg"), Some("Flex_Series"));
        assert_eq!(of("Arc A770", "xe-hpg"), Some("A_Series"));
        assert_eq!(of("Arc Pro B60", "xe2-hpg"), Some("B_Series"));
        assert_eq!(of("UHD Graphics 770", "xe-lp"), None);
    }

    #[test]
    fn a_value_is_absent_if_one_device_has_none() {
        let mut unknown = gpu(1, 0xe211, "Pro-B60", "xe2-hpg", 24);
        let known = unknown.clone();
        unknown.memory_bytes = Known::default();
        let labels = labels(&[known, unknown]);
        assert_eq!(labels.get("gpu.intel.com/product").map(String::as_str), Some("Pro_B60"));
        assert_eq!(labels.get("gpu.intel.com/memory"), None);
    }
}
