//! Inventory and paths to the Node's annotation `report`: for people and tools; no scheduler needs it.

use std::collections::BTreeSet;

use afd_model::{
    Decision, Device, DeviceId, Fact, Inventory, Missing, OfferVerdict, PartitionName, PciAddress,
};
use serde::Serialize;
use serde_json::Value;

use crate::{decided::is_undecided, offer::Offered, paths};

/// Maximum size of the report. All annotations of an object together may have 256 KiB.
pub const MAX_REPORT_BYTES: usize = 16 << 10;

#[derive(Serialize)]
struct NodeReport<'a> {
    devices: Vec<ReportedDevice<'a>>,
    /// The versions that the firmware of the devices has.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    firmware: BTreeSet<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<ReportedMissing<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    offers: Vec<ReportedOffer<'a>>,
    paths: Vec<ReportedPath<'a>>,
    problems: Vec<ReportedProblem<'a>>,
    /// Whether something was left out to stay within [`MAX_REPORT_BYTES`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct ReportedDevice<'a> {
    id: String,
    product: Option<&'a str>,
    health: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<PartitionName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_devices: Option<u32>,
}

#[derive(Serialize)]
struct ReportedMissing<'a> {
    id: &'a str,
    product: Option<&'a str>,
    message: &'a str,
}

/// What is offered to pods; allocations change too often for an annotation.
#[derive(Serialize)]
struct ReportedOffer<'a> {
    resource: &'a str,
    mechanism: &'static str,
    discovered: Option<u64>,
    allocatable: u64,
}

#[derive(Serialize)]
struct ReportedPath<'a> {
    path: &'a str,
    /// `null` where a fact is not known.
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<&'a str>,
    /// What the node lacks that the path works better with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'a str>,
}

#[derive(Serialize)]
struct ReportedProblem<'a> {
    probe: &'a str,
    device: Option<String>,
    fact: &'a str,
    message: &'a str,
}

/// The report as it is decided: absent where no device is present or missing, and undecided while no source has judged a device
/// or reported its firmware or links yet.
pub fn decided_report(
    inventory: &Inventory,
    offered: &Offered,
    paths: &[paths::PathVerdict<'_>],
) -> Decision<String> {
    if inventory.devices.is_empty() && inventory.missing.is_empty() {
        Decision::Absent
    } else if is_undecided(&inventory.devices, &[Fact::Health, Fact::FirmwareVersion])
        || is_undecided(inventory.devices.iter().filter(awaits_links), &[Fact::LinkedDevices])
    {
        Decision::Undecided
    } else {
        Decision::Decided(report(inventory, offered, paths))
    }
}

/// Whether the number of a device's links can be undecided. Where its source answers and cannot say it, the number is left out.
fn awaits_links(device: &&Device) -> bool {
    use Missing::{Malformed, NotPermitted, Unreadable};
    !matches!(device.linked_devices.missing(), Some(Malformed | NotPermitted | Unreadable))
}

/// Compact JSON: devices with product, health, partitions and the number of linked devices, their firmware, missing devices, what Kubernetes offers, paths with reasons, and
/// problems. Nothing in it moves by itself. To fit, entries are removed from the end: problems first, then firmware, then
/// partitions, then devices, then missing ones.
pub fn report(inventory: &Inventory, offered: &Offered, paths: &[paths::PathVerdict<'_>]) -> String {
    let devices = inventory.devices.iter().map(|device| ReportedDevice {
        id: device.id.to_string(),
        product: device.product_name(),
        health: device.health.state.as_str(),
        reasons: device.health.reasons.iter().map(|reason| reason.code.as_str()).collect(),
        partitions: device.partitions.iter().map(|partition| partition.name).collect(),
        linked_devices: device.linked_devices.value().copied(),
    });
    let problems = inventory.problems.iter().map(|problem| ReportedProblem {
        probe: &problem.probe,
        device: problem.device.map(|device| device.to_string()),
        fact: &problem.fact,
        message: &problem.message,
    });
    let offers = offered.counts.iter().map(|count| ReportedOffer {
        resource: &count.resource,
        mechanism: count.mechanism.as_str(),
        discovered: count.discovered,
        allocatable: count.allocatable,
    });
    let mismatch = match &offered.verdict {
        OfferVerdict::Incomplete(message) | OfferVerdict::Duplicate(message) => {
            Some(ReportedProblem { probe: "kubernetes", device: None, fact: "offer", message })
        }
        OfferVerdict::Complete | OfferVerdict::Unknown => None,
    };
    let paths = paths.iter().map(|verdict| {
        let ready = verdict.answer().ready();
        ReportedPath {
            path: &verdict.path.name,
            ready,
            reasons: verdict.unmet().map(|outcome| outcome.requirement.reason.as_str()).collect(),
            unknown: if ready.is_none() { verdict.missing() } else { Vec::new() },
            notes: verdict.notes().map(|outcome| outcome.requirement.reason.as_str()).collect(),
        }
    });
    let missing = inventory.missing.iter().map(|missing| ReportedMissing {
        id: &missing.id,
        product: missing.product.as_deref(),
        message: &missing.message,
    });
    let mut report = NodeReport {
        devices: devices.collect(),
        firmware: inventory
            .devices
            .iter()
            .filter_map(|device| Some(device.firmware_version.value()?.as_str()))
            .collect(),
        missing: missing.collect(),
        offers: offers.collect(),
        paths: paths.collect(),
        problems: mismatch.into_iter().chain(problems).collect(),
        truncated: false,
    };
    loop {
        let text = serde_json::to_string(&report).expect("strings and lists can always be encoded");
        if text.len() <= MAX_REPORT_BYTES {
            return text;
        }
        report.truncated = true;
        if !report.shorten() {
            return text;
        }
    }
}

impl NodeReport<'_> {
    /// Removes the least important entry; false if only what is always small is left.
    fn shorten(&mut self) -> bool {
        if self.problems.pop().is_some() || !std::mem::take(&mut self.firmware).is_empty() {
            return true;
        }
        match self.devices.iter_mut().rev().find(|device| !device.partitions.is_empty()) {
            Some(device) => device.partitions.clear(),
            None => return self.devices.pop().is_some() || self.missing.pop().is_some(),
        }
        true
    }
}

/// The devices of a report of any version; none if the text is not a report.
pub fn devices(report: &str) -> BTreeSet<DeviceId> {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let devices = report["devices"].as_array().into_iter().flatten();
    devices.filter_map(|device| device["id"].as_str()?.parse::<PciAddress>().ok()).map(DeviceId).collect()
}

#[cfg(test)]
mod tests {
    use afd_model::{MissingDevice, Problem};

    use super::*;
    use crate::{paths::PathRules, vendors::bare_device};

    #[test]
    fn paths_have_the_reasons_against_them() {
        let mut rules = PathRules::default();
        let path = |name: &str, require: &str| {
            format!(
                "[[path]]\nname = '{name}'\ntitle = 'T'\n[[requirement]]\npaths = ['{name}']\nrequire = '{require}'\n\
                 reason = 'TooFewDevices'\nmessage = 'm'\n"
            )
        };
        assert_eq!(rules.add("few", &path("few", "node.count > 1")), []);
        assert_eq!(rules.add("new", &path("new", "node.healthy > 0")), []);
        let inventory = Inventory { devices: vec![bare_device(1)], ..Inventory::default() };
        let text = report(&inventory, &Offered::default(), &rules.verdicts(&inventory, false));
        let expected = r#""paths":[{"path":"few","ready":false,"reasons":["TooFewDevices"]},{"path":"new","ready":null,"unknown":["node.healthy is not known"]}]"#;
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_report_is_compact_and_limited_in_size() {
        let mut inventory = Inventory { devices: vec![bare_device(1)], ..Inventory::default() };
        assert_eq!(
            report(&inventory, &Offered::default(), &[]),
            r#"{"devices":[{"id":"0000:01:00.0","product":null,"health":"unknown"}],"paths":[],"problems":[]}"#
        );
        let problem = |number: usize| Problem {
            probe: "test".to_owned(),
            device: None,
            fact: format!("fact-{number}"),
            reason: Missing::Malformed,
            path: None,
            message: "x".repeat(200),
        };
        inventory.problems = (0..1000).map(problem).collect();
        let text = report(&inventory, &Offered::default(), &[]);
        assert!(
            text.len() <= MAX_REPORT_BYTES
                && text.contains("fact-0")
                && text.ends_with("\"truncated\":true}"),
            "{text}"
        );
    }

    fn missing(number: usize) -> MissingDevice {
        MissingDevice {
            id: format!("missing-{number}"),
            probe: "test".to_owned(),
            vendor_id: None,
            device_id: None,
            product: Some("A 1".to_owned()),
            uuid: None,
            last_id: None,
            message: "it was at 0000:09:00.0".to_owned(),
        }
    }

    #[test]
    fn missing_devices_are_reported_and_kept_longest() {
        let mut inventory = Inventory { missing: vec![missing(1)], ..Inventory::default() };
        assert_eq!(
            report(&inventory, &Offered::default(), &[]),
            r#"{"devices":[],"missing":[{"id":"missing-1","product":"A 1","message":"it was at 0000:09:00.0"}],"paths":[],"problems":[]}"#
        );
        inventory.devices = vec![bare_device(1); 400];
        let text = report(&inventory, &Offered::default(), &[]);
        assert!(text.len() <= MAX_REPORT_BYTES && text.contains("missing-1"), "{text}");
        inventory.missing = (0..400).map(missing).collect();
        assert!(report(&inventory, &Offered::default(), &[]).len() <= MAX_REPORT_BYTES);
    }

    #[test]
    fn a_report_is_undecided_until_every_device_is_judged() {
        let decided = |inventory: &Inventory| decided_report(inventory, &Offered::default(), &[]).map(|_| ());
        let device = Device { undecided: [Fact::Health].into_iter().collect(), ..bare_device(1) };
        let mut inventory = Inventory { devices: vec![device], ..Inventory::default() };
        assert_eq!(decided(&inventory), Decision::Undecided);
        inventory.devices = vec![bare_device(1)];
        assert_eq!(decided(&inventory), Decision::Decided(()));
        assert_eq!(decided(&Inventory::default()), Decision::Absent);
        let of_links = |linked_devices| {
            let undecided = [Fact::LinkedDevices].into_iter().collect();
            decided(&Inventory {
                devices: vec![Device { linked_devices, undecided, ..bare_device(1) }],
                ..Inventory::default()
            })
        };
        assert_eq!(of_links(Missing::NotExposed.into()), Decision::Undecided, "its source has not answered");
        assert_eq!(of_links(Missing::Unreadable.into()), Decision::Decided(()), "it may never say");
    }
}
