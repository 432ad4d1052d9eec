//! Recordings of real hosts, each with the truth that was read from it by hand. They are no part of this repository:
//! they lie beside the checkout, in `../shared/captures/roots`. Where they are absent the trial says so and counts as
//! ignored.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeMap, fs::File, path::Path};

use afd_model::{Device, Inventory, Known};
use afd_tests::{afd, stdout, workspace};
use flate2::read::GzDecoder;
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// Where a recording and its truth cannot agree: the host, the facts that differ, and why. The reasons can be checked by
/// looking at the recording.
const DIFFERENCES: [(&str, &[&str], &str); 8] = [
    (
        "xeon-phi-se10-sysfs",
        &["devices"],
        "a Xeon Phi coprocessor (8086:225c, class 0b40, discontinued in 2018) is neither GPU, HPU nor TPU: llm-d has no word for it",
    ),
    (
        "max1550-sriov-lspci",
        &["parts"],
        "the truth counts physical devices only; four virtual functions are enabled on one",
    ),
    (
        "vega10-kfd",
        &["memory"],
        "the truth tells the memory of each KFD node, and node 2 is a copy of node 1 made by hand; the device has their sum",
    ),
    ("xml-coral-lassen", LIBRARY, TOLD_BY_LIBRARY),
    ("xml-cts1-pascal", LIBRARY, TOLD_BY_LIBRARY),
    ("xml-epyc-corona-p2", LIBRARY, TOLD_BY_LIBRARY),
    ("xml-nvidiaDGX2", LIBRARY, TOLD_BY_LIBRARY),
    ("xml-arm64-ulna-hwloc1", LIBRARY, TOLD_BY_LIBRARY),
];
const LIBRARY: &[&str] = &["UUID", "name"];
const TOLD_BY_LIBRARY: &str =
    "the recording program asked a vendor library for UUID and name; no file of the root has them";

#[derive(Debug, Deserialize)]
struct Truth {
    captures: Vec<Capture>,
}

#[derive(Debug, Deserialize)]
struct Capture {
    accelerators: Vec<Accelerator>,
}

/// What is known of one accelerator, or of one partition of it (the function digit of its address is above 0 then).
#[derive(Debug, Deserialize)]
struct Accelerator {
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
    let roots = workspace().join("../shared/captures/roots");
    let mut trials = Vec::new();
    if let Ok(entries) = std::fs::read_dir(&roots) {
        let mut archives: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        archives.sort();
        for archive in archives.into_iter().filter(|path| path.extension().is_some_and(|end| end == "gz")) {
            let name = archive.file_name().map(|name| name.to_string_lossy().replace(".tar.gz", ""));
            let name = name.expect("a file has a name");
            trials.push(Trial::test(name.clone(), move || check(&name, &archive)));
        }
    } else {
        eprintln!("no recordings of real hosts at ../shared/captures/roots: nothing is compared with them");
        trials.push(Trial::test("recordings_beside_the_checkout", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn check(name: &str, archive: &Path) -> Result<(), Failed> {
    let folder = tempfile::TempDir::new()?;
    tar::Archive::new(GzDecoder::new(File::open(archive)?)).unpack(folder.path())?;
    let host = folder.path().join(name);
    let truth: Truth = serde_json::from_reader(File::open(host.join("truth.json"))?)?;
    let root = host.join("root").to_string_lossy().into_owned();
    let inventory: Inventory =
        serde_json::from_str(&stdout(&mut afd(["show", "--output", "json", "--host-root", &root])))?;
    let accelerators: Vec<Accelerator> =
        truth.captures.into_iter().flat_map(|capture| capture.accelerators).collect();
    let mut wrong = compare(&inventory, &accelerators);
    if let Some((_, facts, _)) = DIFFERENCES.iter().find(|(host, ..)| *host == name) {
        wrong.retain(|difference| !facts.contains(&difference.fact));
    }
    let wrong: Vec<String> = wrong.into_iter().map(|difference| difference.told).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// A fact that is not as the truth has it.
struct Wrong {
    fact: &'static str,
    told: String,
}

/// All that is not as the truth has it.
fn compare(inventory: &Inventory, accelerators: &[Accelerator]) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut by_device: BTreeMap<String, Vec<&Accelerator>> = BTreeMap::new();
    for accelerator in accelerators {
        by_device.entry(physical(accelerator)).or_default().push(accelerator);
    }
    let found: Vec<String> = inventory.devices.iter().map(|device| device.id.to_string()).collect();
    let expected: Vec<String> = by_device.keys().cloned().collect();
    if found != expected {
        wrong.push(Wrong { fact: "devices", told: format!("devices are {found:?}, in truth {expected:?}") });
    }
    for device in &inventory.devices {
        let Some(listed) = by_device.get(&device.id.to_string()) else { continue };
        let parts = device.partitions.len().max(1);
        if parts != listed.len() {
            let told = format!("{} has {parts} parts, in truth {}", device.id, listed.len());
            wrong.push(Wrong { fact: "parts", told });
        }
        wrong.extend(facts(device, listed[0]));
    }
    wrong
}

/// A partition of an AMD device has a function number of its own in KFD, and no PCI function.
fn physical(accelerator: &Accelerator) -> String {
    match (accelerator.kfd_node, accelerator.bdf.split_once('.')) {
        (Some(_), Some((slot, _))) => format!("{slot}.0"),
        _ => accelerator.bdf.clone(),
    }
}

fn facts(device: &Device, truth: &Accelerator) -> impl Iterator<Item = Wrong> {
    let id = device.id;
    let text = |known: &Known<String>| known.value().cloned();
    let hexadecimal = |text: String| format!("0x{text}");
    let pci = &device.pci;
    let told = [
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
            // Gaudi's and TPU's memory is no fact of a file; the truth has it from a tool.
            truth.vram_bytes.map(|bytes| bytes.to_string()),
            device.memory_bytes.value().map(ToString::to_string),
        ),
        ("UUID", truth.uuid.clone(), text(&device.uuid)),
        ("name", truth.model.clone(), device.product_name().map(str::to_owned)),
    ];
    let unknown_numa = (truth.numa_node == Some(-1) && device.numa_node.is_known()).then(|| Wrong {
        fact: "NUMA node",
        told: format!("{id}: a NUMA node is told where the kernel says -1"),
    });
    told.into_iter()
        .filter(|(_, truth, found)| truth.is_some() && truth != found)
        .map(move |(fact, truth, found)| Wrong {
            fact,
            told: format!("{id}: {fact} is {found:?}, in truth {truth:?}"),
        })
        .chain(unknown_numa)
}
