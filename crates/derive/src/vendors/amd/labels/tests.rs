use std::collections::BTreeMap;

use afd_model::{
    AmdFacts, BlockFirmware, Device, Inventory, Known, Missing, Partition, PartitionName, Partitioning,
    PciAddress, PciId, Product, Variant, Vendor, VendorFacts, XcpComputeMode, XcpMemoryMode,
};

use super::{super::AMD, *};
use crate::{labels::LabelOptions, vendors::VendorOptions};

fn device(bus: u8) -> Device {
    Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
}

fn labelled(devices: Vec<Device>) -> BTreeMap<String, String> {
    let inventory = Inventory { devices, ..Inventory::default() };
    let families = LABELS.families(&AMD, &inventory, &LabelOptions::default(), &VendorOptions::default());
    families.into_iter().flat_map(|family| family.values).collect()
}

fn named(bus: u8, name: &str) -> Device {
    let unknown = Missing::Unrecognized;
    let product = Product { name: name.to_owned(), model: unknown.into(), architecture: unknown.into() };
    Device { product: Known::Value(product), ..device(bus) }
}

/// As in the test run of AMD's labeller over an MI300X.
fn mi300x(bus: u8) -> Device {
    let facts = AmdFacts {
        board_name: Known::Value("AMD Instinct MI300X OAM".to_owned()),
        compute_units: Known::Value(304),
        simds_per_compute_unit: Known::Value(4),
        ..AmdFacts::default()
    };
    let mut device = Device {
        compute: Known::Value("gfx942".to_owned()),
        memory_bytes: Known::Value(206_141_652_992),
        vendor_facts: Some(VendorFacts::Amd(Box::new(facts))),
        ..device(bus)
    };
    device.pci.device_id = Known::Value(PciId(0x74a1));
    device
}

#[test]
fn eight_equal_devices_have_the_plain_keys_and_counts_in_the_older_prefix() {
    let labels = labelled((0..8).map(mi300x).collect());
    for (key, value) in [
        ("cu-count", "304"),
        ("simd-count", "1216"),
        ("vram", "192G"),
        ("device-id", "74a1"),
        ("product-name", "AMD_Instinct_MI300X_OAM"),
        ("family", "AI"),
    ] {
        assert_eq!(labels.get(&format!("amd.com/gpu.{key}")).map(String::as_str), Some(value), "{key}");
        assert_eq!(labels.get(&format!("beta.amd.com/gpu.{key}")).map(String::as_str), Some(value));
        assert_eq!(labels.get(&format!("beta.amd.com/gpu.{key}.{value}")).map(String::as_str), Some("8"));
        assert!(!labels.contains_key(&format!("amd.com/gpu.{key}.{value}")), "{key}");
    }
    assert_eq!(labels["amd.com/gpu.memory"], "196592");
}

#[test]
fn values_that_differ_are_counted_in_both_prefixes() {
    let other = Device { compute: Known::Value("gfx1100".to_owned()), ..device(9) };
    let labels = labelled(vec![mi300x(1), mi300x(2), other]);
    for prefix in ["amd.com", "beta.amd.com"] {
        assert_eq!(labels[&format!("{prefix}/gpu.family.AI")], "2");
        assert_eq!(labels[&format!("{prefix}/gpu.family.GC_11_0_0")], "1");
        assert!(!labels.contains_key(&format!("{prefix}/gpu.family")));
    }
}

#[test]
fn partitions_are_counted_instead_of_a_partitioned_device() {
    let partition = |number: u32| Partition {
        memory_bytes: Known::Value(48 << 30),
        compute_units: Known::Value(20),
        ..Partition::bare(mi300x(0).id, PartitionName::Xcp(number))
    };
    let partitioned = |bus: u8| Device {
        partitioning: Known::Value(Partitioning::Xcp {
            compute: XcpComputeMode::Cpx,
            memory: Known::Value(XcpMemoryMode::Nps4),
        }),
        partitions: (0..4).map(partition).collect(),
        ..mi300x(bus)
    };
    let labels = labelled((0..8).map(partitioned).collect());
    assert_eq!(labels["beta.amd.com/gpu.cu-count.20"], "32");
    assert_eq!(labels["beta.amd.com/gpu.vram.48G"], "32");
    assert_eq!(labels["amd.com/gpu.simd-count"], "80");
    assert_eq!(labels["beta.amd.com/gpu.device-id.74a1"], "8");
    assert_eq!(labels["beta.amd.com/gpu.product-name.AMD_Instinct_MI300X_OAM"], "8");
    assert_eq!(labels["amd.com/gpu.compute-memory-partition"], "cpx_nps4");
    assert_eq!(labels["amd.com/gpu.memory"], "49152");
}

#[test]
fn a_name_with_a_slash_becomes_a_valid_value() {
    let labels = labelled(vec![named(1, "AMD Instinct MI250X / MI250")]);
    assert_eq!(labels["amd.com/gpu.product-name"], "AMD_Instinct_MI250X_MI250");
    assert_eq!(labels["beta.amd.com/gpu.product-name.AMD_Instinct_MI250X_MI250"], "1");
}

#[test]
fn an_unknown_fact_gives_no_key() {
    assert!(labelled(vec![device(1)]).is_empty());
    let unknown = Device { vendor_facts: Some(VendorFacts::Amd(Box::default())), ..device(1) };
    assert!(labelled(vec![unknown]).is_empty());
}

#[test]
fn firmware_is_counted_by_version() {
    let firmware = vec![BlockFirmware { block: "MEC".to_owned(), version: 177, feature: Known::Value(33) }];
    let facts = AmdFacts { firmware, ..AmdFacts::default() };
    let of = |bus| Device { vendor_facts: Some(VendorFacts::Amd(Box::new(facts.clone()))), ..device(bus) };
    let labels = labelled(vec![of(1), of(2)]);
    assert_eq!(labels["beta.amd.com/gpu.firmware.MEC.fw.177"], "2");
    assert_eq!(labels["beta.amd.com/gpu.firmware.MEC.feat.33"], "2");
}

#[test]
fn another_vendors_devices_give_no_key() {
    assert!(labelled(vec![Device { vendor: Vendor::Nvidia, ..mi300x(1) }]).is_empty());
}

#[test]
fn the_mode_follows_from_the_driver() {
    let driven = |driver: &str| Device { driver: Known::Value(driver.to_owned()), ..device(1) };
    let labels = labelled(vec![driven("amdgpu")]);
    assert_eq!((&*labels["amd.com/gpu.mode"], &*labels["beta.amd.com/gpu.mode"]), ("container", "container"));
    let labels = labelled(vec![driven("gim")]);
    assert_eq!(labels["amd.com/gpu.mode"], "vf-passthrough");
    assert!(labelled(vec![driven("vfio-pci")]).is_empty());
}
