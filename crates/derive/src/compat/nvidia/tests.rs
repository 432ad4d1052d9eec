use afd_model::{Health, PciAddress, Product, Variant};

use super::*;

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
    labels(&Inventory { devices, ..Inventory::default() }, options)
}

/// GPU Feature Discovery's keys (k8s-device-plugin v0.20.0: docs/gpu-feature-discovery, tests/expected-output*.txt).
const GFD_KEYS: [&str; 37] = [
    "gfd.timestamp",
    "cuda.driver.major",
    "cuda.driver.minor",
    "cuda.driver.rev",
    "cuda.driver-version.major",
    "cuda.driver-version.minor",
    "cuda.driver-version.revision",
    "cuda.driver-version.full",
    "cuda.runtime.major",
    "cuda.runtime.minor",
    "cuda.runtime-version.major",
    "cuda.runtime-version.minor",
    "cuda.runtime-version.full",
    "gpu.machine",
    "gpu.count",
    "gpu.replicas",
    "gpu.sharing-strategy",
    "gpu.product",
    "gpu.memory",
    "gpu.family",
    "gpu.compute.major",
    "gpu.compute.minor",
    "gpu.mode",
    "gpu.clique",
    "mig.capable",
    "mig.strategy",
    "mps.capable",
    "gpu.multiprocessors",
    "gpu.slices.gi",
    "gpu.slices.ci",
    "gpu.engines.copy",
    "gpu.engines.decoder",
    "gpu.engines.encoder",
    "gpu.engines.jpeg",
    "gpu.engines.ofa",
    "vgpu.host-driver-version",
    "vgpu.host-driver-branch",
];

#[test]
fn every_key_of_gpu_feature_discovery_is_published_or_has_a_reason() {
    let ours: Vec<String> = NODE_LABELS
        .iter()
        .map(|label| label.key.to_owned())
        .chain(RESOURCE_LABELS.iter().map(|label| format!("gpu.{}", label.key)))
        .collect();
    let explained = |key: &str| NOT_PUBLISHED.iter().any(|(known, _)| *known == key);
    let missing: Vec<_> =
        GFD_KEYS.iter().filter(|key| !explained(key) && !ours.iter().any(|ours| ours == *key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_model_with_most_gpus_is_described_whatever_their_order() {
    let devices = [gpu(1, "NVIDIA A40"), gpu(2, "NVIDIA L4"), gpu(3, "NVIDIA L4"), gpu(4, "NVIDIA A40")];
    let labels = labelled(devices.to_vec(), &NvidiaOptions::default());
    assert_eq!(
        (labels["nvidia.com/gpu.product"].as_str(), labels["nvidia.com/gpu.count"].as_str()),
        ("NVIDIA-A40", "2")
    );
    assert_eq!(labels, labelled(devices.into_iter().rev().collect(), &NvidiaOptions::default()));
}

#[test]
fn a_shared_gpu_says_so_in_its_product_unless_the_resource_has_another_name() {
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
fn what_nobody_tells_has_no_label() {
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
