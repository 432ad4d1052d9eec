//! The health of a device, from what the kernel and a library report.
//!
//! A device is healthy if its driver reports the error counters of at least one block and no rule of [`RULES`] applies. The health
//! of a device without error counters (Radeon, processors, virtual functions) is unknown unless a rule applies. A device
//! recovers when no rule applies any more; faults that only a reset ends are kept until there is evidence of one (`history`).
//! A suspended device keeps the verdict that it had while it was awake.

pub(crate) mod history;
mod rules;

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Health, HealthState, Known, Missing};

pub use self::rules::{HealthRule, RULES};
use self::{history::HealthHistory, rules::HealthCase};
use crate::{
    cper::CperRecord,
    gpu_metrics::Residencies,
    sysfs::ras::{BadPages, ErrorCounts},
};

/// The code of the rule on new records of fatal errors.
pub(crate) const FATAL_ERROR_RECORD: &str = "FatalErrorRecord";

/// What one discovery read for the health of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthEvidence {
    /// The error counts of each block that has a file.
    pub(crate) errors: Vec<(&'static str, Known<ErrorCounts>)>,
    pub(crate) pages: Known<BadPages>,
    pub(crate) residencies: Residencies,
    pub(crate) throttle_status: Option<u64>,
    pub(crate) xgmi_links_up: Option<u32>,
    /// The binding to the driver, which is another one after the driver was loaded again.
    pub(crate) binding: Option<u64>,
    /// The error records of the driver.
    pub(crate) records: Known<Vec<CperRecord>>,
}

impl HealthEvidence {
    /// The blocks whose counters are not accessible, as while the driver resets the device.
    fn inaccessible_blocks(&self) -> usize {
        self.errors.iter().filter(|(_, counts)| counts.missing() == Some(Missing::NotAvailable)).count()
    }

    /// What could not be read of that from which a failure follows. The error records need a privilege that is not expected.
    fn unread(&self) -> Vec<&'static str> {
        let is_unread = |missing: Option<Missing>| missing.is_some_and(Missing::is_undecided);
        let blocks = self.errors.iter().filter(|(_, counts)| is_unread(counts.missing()));
        let pages = self.pages.missing();
        let has_unknown_pages = self.pages.value().is_some_and(|pages| pages.unrecognized > 0);
        let records = self.records.missing().filter(|missing| *missing != Missing::NotPermitted);
        let others =
            [("bad pages", is_unread(pages) || has_unknown_pages), ("error records", is_unread(records))];
        blocks
            .map(|(block, _)| *block)
            .chain(others.into_iter().filter_map(|(name, is_unread)| is_unread.then_some(name)))
            .collect()
    }

    /// Whether the driver resets the device.
    fn is_in_reset(&self) -> bool {
        self.inaccessible_blocks() > 0
    }
}

/// The text of `docs/health-amd.md`.
pub fn markdown() -> String {
    let mut text = "# Health of AMD GPUs\n\n\
         Generated from the table in `crates/amd/src/health/rules.rs` by `cargo xtask bless`.\n\n\
         AFD evaluates the rules at each discovery (`--discovery-interval`), from what the kernel and, if it is installed, AMD SMI\n\
         report. A device is *healthy* if its driver reports the error counters of at least one block (`ras/*_err_count`) and no\n\
         rule below applies. Radeon boards, processors and virtual functions have no error counters: their health is *unknown*\n\
         unless a rule applies. A retired page alone is not a fault. A device recovers when no rule applies any more. If several\n\
         rules apply, the most severe state counts: failed, then unknown, then degraded.\n\n\
         `FatalErrorRecord` and `UncorrectableErrorsGrow` apply until the device was reset or its driver loaded again. The evidence\n\
         of that: no driver was bound, the driver was bound again, the driver version or the unique id of the device differs, the driver\n\
         has finished a reset, a counter of errors or of firmware cycles fell, or the newest error record is gone.\n\
         `FatalErrorRecord` survives a restart of the agent in the same boot by the annotation `incidents`, and `afd clear` ends\n\
         both. A suspended device keeps its last verdict.\n\n\
         | reason | state | condition | action |\n|---|---|---|---|\n\
         | `DriverMissing` | failed | no kernel driver is bound to the device | load the driver; check the kernel log |\n\
         | `Suspended` | unknown | the device is suspended and has not been seen awake | none: it wakes when it is used |\n"
        .to_owned();
    for rule in RULES {
        let row = [rule.code, rule.state.as_str(), rule.condition, rule.action];
        text += &format!("| `{}` | {} | {} | {} |\n", row[0], row[1], row[2], row[3]);
    }
    text
}

/// Sets the health of all devices, by the evidence of this discovery and by what is known from earlier ones. A device without
/// evidence is suspended.
pub(crate) fn judge(
    devices: &mut [Device],
    evidence: BTreeMap<DeviceId, HealthEvidence>,
    histories: &mut BTreeMap<DeviceId, HealthHistory>,
    all_nodes_read: bool,
) {
    histories.retain(|id, _| devices.iter().any(|device| device.id == *id));
    for device in devices.iter() {
        let history = histories.entry(device.id).or_default();
        history.observe(device, evidence.get(&device.id));
    }
    let verdicts: Vec<Option<Health>> = devices
        .iter()
        .map(|device| {
            let case = HealthCase {
                device,
                evidence: evidence.get(&device.id)?,
                history: histories.get(&device.id)?,
                hive: devices.iter().filter(|other| same_hive(device, other)).count(),
                max_partitions: devices
                    .iter()
                    .filter(|other| same_partitioning(device, other))
                    .map(|other| other.partitions.len())
                    .max()?,
                all_nodes_read,
            };
            Some(verdict(&case))
        })
        .collect();
    for (device, verdict) in devices.iter_mut().zip(verdicts) {
        let history = histories.entry(device.id).or_default();
        let verdict = match verdict {
            Some(verdict) => history.verdict.insert(verdict).clone(),
            None => history.verdict.clone().unwrap_or_else(suspended),
        };
        // A missing driver takes precedence.
        if device.health.state != HealthState::Failed {
            device.health = verdict;
        }
    }
    for (id, evidence) in evidence {
        histories.entry(id).or_default().keep(evidence);
    }
}

/// The health of a device that is suspended and was never seen awake.
fn suspended() -> Health {
    let message = "the device is suspended; it is judged when it wakes, and asleep is no fault";
    Health { state: HealthState::Unknown, ..Health::failed("Suspended", message) }
}

/// The verdict of the rules; unknown where the device has no error counters and no rule applies.
fn verdict(case: &HealthCase<'_>) -> Health {
    let verdict_of = |rule: &HealthRule| {
        let evidence = (rule.applies)(case)?;
        let message = format!("{}: {evidence}. Action: {}", rule.condition, rule.action);
        Some(Health { state: rule.state, ..Health::failed(rule.code, message) })
    };
    let verdicts: Vec<Health> = RULES.iter().filter_map(verdict_of).collect();
    let has_counters = case.evidence.errors.iter().any(|(_, counts)| counts.is_known());
    if has_counters || !verdicts.is_empty() { Health::worst_of(verdicts) } else { Health::unknown() }
}

fn same_hive(device: &Device, other: &Device) -> bool {
    device.link_domain.is_known() && device.link_domain == other.link_domain
}

fn same_partitioning(device: &Device, other: &Device) -> bool {
    device.pci.device_id == other.pci.device_id && device.partitioning == other.partitioning
}

#[cfg(test)]
mod tests;
