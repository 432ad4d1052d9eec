//! The values of panels that do not change: what the fixture hosts are known to have.

use crate::observed::ObservedPanel;

/// The file of the dashboard, the title of the panel, the letter of the query, labels of the series, and its value.
type KnownValue = (&'static str, &'static str, char, &'static [(&'static str, &'static str)], f64);

const KNOWN: &[KnownValue] = &[
    ("fleet", "Present", 'A', &[], 34.0),
    ("fleet", "Can take work", 'A', &[], 32.0),
    ("fleet", "Offered to pods", 'A', &[], 34.0),
    ("fleet", "Missing", 'A', &[], 0.0),
    ("fleet", "Failed", 'A', &[], 2.0),
    (
        "fleet",
        "Devices that are not healthy",
        'A',
        &[("node", "gaudi3-0"), ("state", "failed"), ("reason", "InReset")],
        1.0,
    ),
    (
        "fleet",
        "Pods on devices that are not healthy",
        'A',
        &[("node", "gaudi3-0"), ("namespace", "serving"), ("pod", "decode-gaudi3-0"), ("state", "failed")],
        1.0,
    ),
    (
        "fleet",
        "Nodes and the paths that they can serve",
        'A',
        &[("node", "h100-0"), ("path", "optimized-baseline")],
        1.0,
    ),
    (
        "fleet",
        "Nodes and the paths that they can serve",
        'A',
        &[("node", "h100-0"), ("path", "wide-ep")],
        0.0,
    ),
    (
        "fleet",
        "Why a node cannot serve a path",
        'A',
        &[("node", "mi300x-0"), ("path", "wide-ep"), ("reason", "RdmaMissing")],
        1.0,
    ),
    ("fleet", "Drivers and firmware in use", 'A', &[("driver_version", "580.105.08")], 8.0),
    (
        "fleet",
        "Drivers and firmware in use",
        'A',
        &[("product", "Google TPU v6e"), ("driver_version", "")],
        8.0,
    ),
    (
        "node",
        "Reasons for the health of the devices",
        'A',
        &[("node", "gaudi3-0"), ("reason", "InReset")],
        1.0,
    ),
    ("node", "PCIe links", 'A', &[("node", "h100-0"), ("device", "0000:19:00.0")], 16.0),
    ("node", "PCIe links", 'D', &[("node", "h100-0"), ("device", "0000:19:00.0")], 32e9),
    ("node", "RDMA ports", 'A', &[("node", "gaudi3-0"), ("nic", "hbl_0"), ("port", "1")], 1.0),
    ("node", "RDMA ports", 'A', &[("node", "gaudi3-0"), ("nic", "hbl_0"), ("port", "4")], 0.0),
    ("node", "Memory repair", 'A', &[("node", "h100-0"), ("device", "0000:19:00.0")], 0.0),
    (
        "node",
        "Paths of llm-d",
        'A',
        &[("node", "max1550-0"), ("path", "tiered-prefix-cache"), ("reason", "TooFewDevices")],
        0.0,
    ),
    (
        "holders",
        "Devices and their holders",
        'A',
        &[("node", "v6e-0"), ("pod", "decode-v6e-0"), ("resource", "google.com/tpu")],
        1.0,
    ),
    (
        "holders",
        "Held and idle for two hours",
        'A',
        &[("node", "h100-0"), ("namespace", "research"), ("pod", "notebook-0")],
        0.0,
    ),
    ("llm-d", "Devices of model servers", 'A', &[], 22.0),
    (
        "llm-d",
        "Model servers on devices that are not healthy",
        'A',
        &[("pod", "decode-gaudi3-0"), ("state", "failed")],
        1.0,
    ),
];

/// What is wrong with a panel whose values are known, or ought to be.
pub(crate) fn problems(observed: &ObservedPanel<'_>) -> Vec<String> {
    let (file, title) = (observed.dashboard.file.as_str(), observed.panel.title.as_str());
    let known: Vec<&KnownValue> = KNOWN.iter().filter(|known| known.0 == file && known.1 == title).collect();
    let mut problems = Vec::new();
    if observed.panel.constant.is_some() && known.is_empty() {
        problems.push(format!("{file} / {title}: no value is known"));
    }
    for (_, _, letter, labels, value) in known {
        let found = observed.value(*letter, labels);
        if found != Some(*value) {
            problems.push(format!("{file} / {title}: {letter}{labels:?} is {found:?}, not {value}"));
        }
    }
    problems
}
