//! Recordings of real hosts, each with its facts, which were read from it by hand. They are not part of this repository but
//! stand beside the checkout, in `../shared/captures/roots`, or where `AFD_CAPTURES` says. Where they are missing, one ignored test
//! says so.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeMap, fs::File};

use afd_model::{Device, Inventory, Known};
use afd_tests::{
    afd,
    data_set::{CAPTURES, HostArchive},
    stdout,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// Where a recording and its truth cannot agree: the host, the facts that differ, and why. The reasons can be checked in
/// the recording.
const DIFFERENCES: [(&str, &[&str], &str); 9] = [
    (
        "xeon-phi-se10-sysfs",
        &["devices"],
        "a Xeon Phi coprocessor (8086:225c, class 0b40, discontinued in 2018) is neither GPU, HPU nor TPU: llm-d has no variant for it",
    ),
    (
        "max1550-sriov-lspci",
        &["partitions"],
        "the truth counts physical devices only; four virtual functions are enabled on one",
    ),
    (
        "vega10-kfd",
        &["memory"],
        "the truth has the memory of each KFD node, and node 2 is a copy of node 1 made by hand; the device has their sum",
    ),
    (
        "strixpoint-890m",
        &["memory"],
        "the truth has the memory that the firmware sets aside for the display, 512 MiB (mem_info_vram_total); ROCm can allocate the \
         16441004032 bytes of KFD node 1, which are those of mem_info_gtt_total",
    ),
    ("xml-coral-lassen", LIBRARY, FROM_LIBRARY),
    ("xml-cts1-pascal", LIBRARY, FROM_LIBRARY),
    ("xml-epyc-corona-p2", LIBRARY, FROM_LIBRARY),
    ("xml-nvidiaDGX2", LIBRARY, FROM_LIBRARY),
    ("xml-arm64-ulna-hwloc1", LIBRARY, FROM_LIBRARY),
];
const LIBRARY: &[&str] = &["UUID", "name"];
const FROM_LIBRARY: &str =
    "the recording program asked a vendor library for UUID and name; no file of the root contains them";

#[derive(Debug, Deserialize)]
struct Truth {
    captures: Vec<Capture>,
}

#[derive(Debug, Deserialize)]
struct Capture {
    accelerators: Vec<TrueAccelerator>,
}

/// The facts of an accelerator, or of one of its partitions (where the function digit of the address is above 0).
#[derive(Debug, Deserialize)]
struct TrueAccelerator {
    bdf: String,
    vendor: Option<String>,
    device: Option<String>,
    class: Option<String>,
    numa_node: Option<i64>,
    driver: Option<String>,
    vram_bytes: Option<u64>,
    uuid: Option<String>,
    model: Option<String>,
    kfd_node: Option<u32>,
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    if let Some(archives) = CAPTURES.archives() {
        for archive in archives {
            trials.push(Trial::test(archive.name.clone(), move || check(&archive)));
        }
    } else {
        trials.push(Trial::test("recordings_beside_the_checkout", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn check(archive: &HostArchive) -> Result<(), Failed> {
    let folder = archive.unpack()?;
    let root = archive.root(folder.path());
    let truth: Truth = serde_json::from_reader(File::open(root.with_file_name("truth.json"))?)?;
    let root = root.to_string_lossy();
    let inventory: Inventory =
        serde_json::from_str(&stdout(&mut afd(["show", "--output", "json", "--host-root", &root])))?;
    let accelerators: Vec<TrueAccelerator> =
        truth.captures.into_iter().flat_map(|capture| capture.accelerators).collect();
    let mut differences = compare(&inventory, &accelerators);
    if let Some((_, facts, _)) = DIFFERENCES.iter().find(|(host, ..)| *host == archive.name) {
        differences.retain(|difference| !facts.contains(&difference.fact));
    }
    let messages: Vec<String> = differences.into_iter().map(|difference| difference.message).collect();
    if messages.is_empty() { Ok(()) } else { Err(messages.join("\n").into()) }
}

/// A fact that differs from the truth.
struct FactDifference {
    fact: &'static str,
    message: String,
}

fn compare(inventory: &Inventory, accelerators: &[TrueAccelerator]) -> Vec<FactDifference> {
    let mut differences = Vec::new();
    let mut by_device: BTreeMap<String, Vec<&TrueAccelerator>> = BTreeMap::new();
    for accelerator in accelerators {
        by_device.entry(physical(accelerator)).or_default().push(accelerator);
    }
    let found: Vec<String> = inventory.devices.iter().map(|device| device.id.to_string()).collect();
    let expected: Vec<String> = by_device.keys().cloned().collect();
    if found != expected {
        let message = format!("devices are {found:?}, in truth {expected:?}");
        differences.push(FactDifference { fact: "devices", message });
    }
    for device in &inventory.devices {
        let Some(listed) = by_device.get(&device.id.to_string()) else { continue };
        let partitions = device.partitions.len().max(1);
        if partitions != listed.len() {
            let message = format!("{} has {partitions} partitions, in truth {}", device.id, listed.len());
            differences.push(FactDifference { fact: "partitions", message });
        }
        differences.extend(facts(device, listed[0]));
    }
    differences
}

/// The address of the physical device. A partition of an AMD device has its own function number in KFD, but no PCI function.
fn physical(accelerator: &TrueAccelerator) -> String {
    match (accelerator.kfd_node, accelerator.bdf.split_once('.')) {
        (Some(_), Some((slot, _))) => format!("{slot}.0"),
        _ => accelerator.bdf.clone(),
    }
}

fn facts(device: &Device, truth: &TrueAccelerator) -> impl Iterator<Item = FactDifference> {
    let id = device.id;
    let text = |known: &Known<String>| known.value().cloned();
    let hexadecimal = |text: String| format!("0x{text}");
    let pci = &device.pci;
    let facts = [
        ("vendor", truth.vendor.clone(), pci.vendor_id.value().map(ToString::to_string).map(hexadecimal)),
        ("device", truth.device.clone(), pci.device_id.value().map(ToString::to_string).map(hexadecimal)),
        ("class", truth.class.clone(), pci.class.value().map(ToString::to_string).map(hexadecimal)),
        (
            "NUMA node",
            truth.numa_node.filter(|node| *node >= 0).map(|node| node.to_string()),
            device.numa_node.value().map(ToString::to_string),
        ),
        ("driver", truth.driver.clone(), text(&device.driver)),
        (
            "memory",
            // No file contains the memory of Gaudi and TPU; the truth has it from a tool.
            truth.vram_bytes.map(|bytes| bytes.to_string()),
            device.memory_bytes.value().map(ToString::to_string),
        ),
        ("UUID", truth.uuid.clone(), text(&device.uuid)),
        ("name", truth.model.clone(), device.product_name().map(str::to_owned)),
    ];
    let unknown_numa = (truth.numa_node == Some(-1) && device.numa_node.is_known()).then(|| FactDifference {
        fact: "NUMA node",
        message: format!("{id}: there is a NUMA node where the kernel reports -1"),
    });
    facts
        .into_iter()
        .filter(|(_, truth, found)| truth.is_some() && truth != found)
        .map(move |(fact, truth, found)| FactDifference {
            fact,
            message: format!("{id}: {fact} is {found:?}, in truth {truth:?}"),
        })
        .chain(unknown_numa)
}
