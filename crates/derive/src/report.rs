//! Inventory and paths to the node's annotation `report`: for people and tools, no scheduler needs it.

use std::collections::BTreeSet;

use afd_model::{DeviceId, Inventory, PartitionName, PciAddress};
use serde::Serialize;
use serde_json::Value;

use crate::{
    offer::{OfferVerdict, Offered},
    paths,
};

/// The longest report. All annotations of a node together may have 256 KiB.
pub const MOST_BYTES: usize = 16 << 10;

#[derive(Serialize)]
struct Report<'a> {
    devices: Vec<DeviceReport<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    offers: Vec<OfferReport<'a>>,
    paths: Vec<PathReport<'a>>,
    problems: Vec<ProblemReport<'a>>,
    /// Whether something was left out to stay below [`MOST_BYTES`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct DeviceReport<'a> {
    id: String,
    product: Option<&'a str>,
    health: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<PartitionName>,
}

/// What pods may have; who holds it changes too often for an annotation.
#[derive(Serialize)]
struct OfferReport<'a> {
    resource: &'a str,
    mechanism: &'static str,
    discovered: Option<u64>,
    allocatable: u64,
}

#[derive(Serialize)]
struct PathReport<'a> {
    path: &'a str,
    /// `null` where a fact is not known.
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<&'a str>,
}

#[derive(Serialize)]
struct ProblemReport<'a> {
    probe: &'a str,
    device: Option<String>,
    fact: &'a str,
    message: &'a str,
}

/// Compact JSON: devices with product, health and partitions, what Kubernetes offers of them, paths with reasons, and
/// problems. What does not fit is left out from the end: problems first, then partitions, then devices.
pub fn report(inventory: &Inventory, offered: &Offered, paths: &[paths::PathVerdict<'_>]) -> String {
    let devices = inventory.devices.iter().map(|device| DeviceReport {
        id: device.id.to_string(),
        product: device.product_name(),
        health: device.health.state.as_str(),
        reasons: device.health.reasons.iter().map(|reason| reason.code.as_str()).collect(),
        partitions: device.partitions.iter().map(|partition| partition.name).collect(),
    });
    let problems = inventory.problems.iter().map(|problem| ProblemReport {
        probe: &problem.probe,
        device: problem.device.map(|device| device.to_string()),
        fact: &problem.fact,
        message: &problem.message,
    });
    let offers = offered.counts.iter().map(|count| OfferReport {
        resource: &count.resource,
        mechanism: count.mechanism.as_str(),
        discovered: count.discovered,
        allocatable: count.allocatable,
    });
    let mismatch = match &offered.verdict {
        OfferVerdict::Incomplete(message) | OfferVerdict::Duplicate(message) => {
            Some(ProblemReport { probe: "kubernetes", device: None, fact: "offer", message })
        }
        OfferVerdict::Complete | OfferVerdict::Unknown => None,
    };
    let paths = paths.iter().map(|verdict| {
        let ready = verdict.answer().ready();
        PathReport {
            path: &verdict.path.name,
            ready,
            reasons: verdict.unmet().map(|outcome| outcome.requirement.reason.as_str()).collect(),
            unknown: if ready.is_none() { verdict.missing() } else { Vec::new() },
        }
    });
    let mut report = Report {
        devices: devices.collect(),
        offers: offers.collect(),
        paths: paths.collect(),
        problems: mismatch.into_iter().chain(problems).collect(),
        truncated: false,
    };
    loop {
        let text = serde_json::to_string(&report).expect("texts and lists can always be written");
        if text.len() <= MOST_BYTES {
            return text;
        }
        report.truncated = true;
        let cut = report.devices.iter_mut().rev().find(|device| !device.partitions.is_empty());
        if report.problems.pop().is_none() {
            match cut {
                Some(device) => device.partitions.clear(),
                None => drop(report.devices.pop()),
            }
        }
    }
}

/// The devices of a report, of whichever version; none of a text that is no report.
pub fn devices(report: &str) -> BTreeSet<DeviceId> {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let devices = report["devices"].as_array().into_iter().flatten();
    devices.filter_map(|device| device["id"].as_str()?.parse::<PciAddress>().ok()).map(DeviceId).collect()
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, Missing, PciAddress, Problem, Variant, Vendor};

    use super::*;
    use crate::paths::Rules;

    #[test]
    fn paths_are_told_with_what_is_against_them() {
        let rules = Rules::built_in();
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let device = Device::bare(address, Vendor::Amd, Variant::Gpu);
        let inventory = Inventory { devices: vec![device], ..Inventory::default() };
        let text = report(&inventory, &Offered::default(), &rules.ask(&inventory, false));
        let agentic = r#"{"path":"agentic-serving","ready":false,"reasons":["AcceleratorNotCovered"]}"#;
        assert!(text.contains(agentic), "{text}");
        assert!(text.contains(
            r#"{"path":"optimized-baseline","ready":null,"unknown":["node.architecture is not known""#
        ));
    }

    #[test]
    fn a_report_is_compact_and_has_an_end() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let device = Device::bare(address, Vendor::Intel, Variant::Xpu);
        let mut inventory = Inventory { devices: vec![device], ..Inventory::default() };
        assert_eq!(
            report(&inventory, &Offered::default(), &[]),
            r#"{"devices":[{"id":"0000:01:00.0","product":null,"health":"unknown"}],"paths":[],"problems":[]}"#
        );
        let problem = |number: usize| Problem {
            probe: "intel".to_owned(),
            device: None,
            fact: format!("fact-{number}"),
            reason: Missing::Malformed,
            path: None,
            message: "x".repeat(200),
        };
        inventory.problems = (0..1000).map(problem).collect();
        let text = report(&inventory, &Offered::default(), &[]);
        assert!(
            text.len() <= MOST_BYTES && text.contains("fact-0") && text.ends_with("\"truncated\":true}"),
            "{text}"
        );
    }
}
