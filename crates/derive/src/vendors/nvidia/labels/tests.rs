use afd_model::{Health, Inventory, PciAddress, Product, Variant, Vendor};

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
    let options = |sharing| NvidiaOptions { mig_strategy: MigStrategy::None, sharing };
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &options(sharing.clone()));
    assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-L4-SHARED");
    assert_eq!(labels["nvidia.com/gpu.replicas"], "4");
    assert_eq!(labels["nvidia.com/gpu.sharing-strategy"], "time-slicing");
    let labels = labelled(vec![gpu(1, "NVIDIA L4")], &options(Sharing { renamed: true, ..sharing }));
    assert_eq!(labels["nvidia.com/gpu.product"], "NVIDIA-L4");
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
