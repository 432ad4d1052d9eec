//! Whether a device may take work, by the kernel's word and a library's.
//!
//! Healthy is only what a source calls so: a part whose driver answers for the error counters of at least one block, all of
//! which are 0, and that no rule of [`RULES`] speaks against. A part without such counters (Radeon, processors, virtual
//! functions) is of unknown health unless a rule says more. Nothing is remembered but the counters of the last look, so
//! that a device recovers when what is said of it no longer holds.

mod rules;

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Health, HealthState, Known, Missing};

use self::rules::Case;
pub use self::rules::{RULES, Rule};
use crate::{
    cper::Record,
    gpu_metrics::Residencies,
    sysfs::ras::{ErrorCounts, Pages},
};

/// What was read of a device's health in one look.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The error counts of each block that has a file.
    pub(crate) errors: Vec<(&'static str, Known<ErrorCounts>)>,
    pub(crate) pages: Option<Pages>,
    pub(crate) residencies: Residencies,
    pub(crate) throttle_status: Option<u64>,
    pub(crate) xgmi_links_up: Option<u32>,
    /// The records of errors that the driver keeps.
    pub(crate) records: Known<Vec<Record>>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            errors: Vec::new(),
            pages: None,
            residencies: Residencies::default(),
            throttle_status: None,
            xgmi_links_up: None,
            records: Missing::NotExposed.into(),
        }
    }
}

/// The text of `docs/health-amd.md`.
pub fn markdown() -> String {
    let mut text = "# Health of AMD GPUs\n\n\
         Generated from the table in `crates/amd/src/health/rules.rs`; `cargo xtask bless` writes it anew.\n\n\
         AFD judges at each look for devices (`--discovery-interval`), by what the kernel and, where it is there, AMD SMI tell. A device is *healthy* if its\n\
         driver answers for the error counters of at least one block (`ras/*_err_count`) and no rule below holds. Where there\n\
         are no such counters, as on Radeon cards, processors and virtual functions, no source calls a device healthy: it is\n\
         *unknown* unless a rule holds. A retired page alone is no fault. When a rule no longer holds, the device has\n\
         recovered. Of several rules that hold the gravest state counts: failed, then unknown, then degraded.\n\n\
         | reason | state | when | what to do |\n|---|---|---|---|\n\
         | `DriverMissing` | failed | no kernel driver is bound to the device | load the driver; look into the kernel log |\n"
        .to_owned();
    for rule in RULES {
        let row = [rule.code, rule.state.as_str(), rule.when, rule.recovery];
        text += &format!("| `{}` | {} | {} | {} |\n", row[0], row[1], row[2], row[3]);
    }
    text
}

/// Judges all devices by what was seen of each, now and in the look before.
pub(crate) fn judge(
    devices: &mut [Device],
    seen: &BTreeMap<DeviceId, Seen>,
    before: &BTreeMap<DeviceId, Seen>,
    all_nodes_read: bool,
) {
    let verdicts: Vec<Option<Health>> = devices
        .iter()
        .map(|device| {
            let case = Case {
                device,
                seen: seen.get(&device.id)?,
                before: before.get(&device.id),
                hive: devices.iter().filter(|other| same_hive(device, other)).count(),
                most_partitions: devices
                    .iter()
                    .filter(|other| same_cut(device, other))
                    .map(|other| other.partitions.len())
                    .max()?,
                all_nodes_read,
            };
            verdict(&case)
        })
        .collect();
    for (device, verdict) in devices.iter_mut().zip(verdicts) {
        // That no driver is bound goes before all else.
        if let Some(verdict) = verdict.filter(|_| device.health.state != HealthState::Failed) {
            device.health = verdict;
        }
    }
}

fn verdict(case: &Case<'_>) -> Option<Health> {
    let verdict_of = |rule: &Rule| {
        let evidence = (rule.holds)(case)?;
        let message = format!("{}: {evidence}. What to do: {}", rule.when, rule.recovery);
        Some(Health { state: rule.state, ..Health::failed(rule.code, message) })
    };
    let verdicts: Vec<Health> = RULES.iter().filter_map(verdict_of).collect();
    let has_counters = case.seen.errors.iter().any(|(_, counts)| counts.is_known());
    (has_counters || !verdicts.is_empty()).then(|| Health::worst_of(verdicts))
}

fn same_hive(device: &Device, other: &Device) -> bool {
    device.link_domain.is_known() && device.link_domain == other.link_domain
}

fn same_cut(device: &Device, other: &Device) -> bool {
    device.pci.device_id == other.pci.device_id && device.partitioning == other.partitioning
}

#[cfg(test)]
mod tests;
