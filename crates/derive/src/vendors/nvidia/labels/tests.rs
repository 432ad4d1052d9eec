use std::collections::BTreeMap;

use afd_model::{
    Health, Inventory, NvidiaFacts, PciAddress, PciClass, Product, Variant, Vendor, VendorFacts,
};

use super::{
    super::{NVIDIA, options::Sharing},
    *,
};
use crate::{labels::LabelOptions, vendors::VendorOptions};

fn gpu(bus: u8, name: &str) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    Device {
        product: Known::Value(Product {
            name: name.to_owned(),
            model: Missing::Unrecognized.into(),
            architecture: Known::Value("hopper".to_owned()),
        }),
        health: Health::healthy(),
        ..Device::bare(address, Vendor::Nvidia, Variant::Gpu)
    }
}

fn labelled(devices: Vec<Device>, options: &NvidiaOptions) -> BTreeMap<String, String> {
    let inventory = Inventory { devices, ..Inventory::default() };
    let options = VendorOptions { nvidia: options.clone() };
    let families = LABELS.families(&NVIDIA, &inventory, &LabelOptions::default(), &options);
    families.into_iter().flat_map(|family| family.values).collect()
}

#[test]
fn the_labels_describe_the_model_with_most_gpus_in_any_order() {
    let devices = [gpu(1, "NVIDIA A40"), gpu(2, "NVIDIA L4"), gpu(3, "NVIDIA L4"), gpu(4, "NVIDIA A40")];
    let labels = labelled(devices.to_vec(), &NvidiaOptions::default());
    assert_eq!(
        (labels["nvidia.com/gpu.product"].as_str(), labels["nvidia.com/gpu.count"].as_str()),
        ("NVIDIA-A40", "2")
    );
    assert_eq!(labels, labelled(devices.into_iter().rev().collect(), &NvidiaOptions::default()));
}

#[test]
fn the_product_of_a_shared_gpu_has_a_suffix_unless_the_resource_is_renamed() {
    let replicas = BTreeMap::from([("nvidia.com/gpu".to_owned(), 4)]);
    let sharing = Sharing { strategy: SharingStrategy::TimeSlicing, renamed: false, replicas };
    let options = |sharing| NvidiaOptions { mig_strategy: MigStrategy::None, sharing: Some(sharing) };
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &options(sharing.clone()));
    assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-L4-SHARED");
    assert_eq!(labels["nvidia.com/gpu.replicas"], "4");
    assert_eq!(labels["nvidia.com/gpu.sharing-strategy"], "time-slicing");
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &options(Sharing { renamed: true, ..sharing }));
    assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-L4");
}

/// The keys that say how GPUs are shared.
const OF_SHARING: [&str; 3] =
    ["nvidia.com/gpu.replicas", "nvidia.com/gpu.sharing-strategy", "nvidia.com/mps.capable"];

#[test]
fn without_the_plugins_configuration_no_label_says_how_gpus_are_shared() {
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &NvidiaOptions::default());
    assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-L4");
    assert_eq!(labels["nvidia.com/gpu.count"], "1");
    assert_eq!(OF_SHARING.map(|key| labels.get(key)), [None; 3]);
}

#[test]
fn a_configuration_that_shares_nothing_is_published_so() {
    let read = NvidiaOptions { sharing: Some(Sharing::default()), ..NvidiaOptions::default() };
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &read);
    assert_eq!(OF_SHARING.map(|key| labels[key].as_str()), ["1", "none", "false"]);
}

/// MPS excludes MIG mode, and a GPU whose MIG devices are offered is not offered itself.
#[test]
fn what_mig_mode_decides_of_sharing_needs_no_configuration() {
    let in_mig_mode = |bus| {
        let facts = NvidiaFacts { mig_enabled: Known::Value(true), ..NvidiaFacts::default() };
        Device { vendor_facts: Some(VendorFacts::Nvidia(Box::new(facts))), ..gpu(bus, "NVIDIA A30") }
    };
    let mixed = NvidiaOptions { mig_strategy: MigStrategy::Mixed, ..NvidiaOptions::default() };
    let labels = labelled(vec![in_mig_mode(1), in_mig_mode(2)], &mixed);
    let expected = [Some("0"), None, Some("false")];
    assert_eq!(OF_SHARING.map(|key| labels.get(key).map(String::as_str)), expected);
}

#[test]
fn the_mode_is_absent_where_gpus_differ_or_have_another_class() {
    let of_class = |bus, class| {
        let mut gpu = gpu(bus, "NVIDIA L4");
        gpu.pci.class = Known::Value(PciClass(class));
        gpu
    };
    let mode = |gpus| labelled(gpus, &NvidiaOptions::default()).remove("nvidia.com/gpu.mode");
    assert_eq!(mode(vec![of_class(1, 0x03_0200), of_class(2, 0x03_0200)]).as_deref(), Some("compute"));
    assert_eq!(mode(vec![of_class(1, 0x03_0000)]).as_deref(), Some("graphics"));
    assert_eq!(mode(vec![of_class(1, 0x03_0200), of_class(2, 0x03_0000)]), None);
    assert_eq!(mode(vec![of_class(1, 0x12_0000)]), None);
    assert_eq!(mode(vec![of_class(1, 0x03_0200), gpu(2, "NVIDIA L4")]), None);
}

#[test]
fn an_unknown_fact_has_no_label() {
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &NvidiaOptions::default());
    for key in [
        "gpu.memory",
        "gpu.machine",
        "cuda.driver-version.full",
        "cuda.runtime-version.full",
        "mig.capable",
        "gpu.clique",
    ] {
        assert!(!labels.contains_key(&format!("nvidia.com/{key}")), "{key}");
    }
    assert!(labelled(Vec::new(), &NvidiaOptions::default()).is_empty());
}
