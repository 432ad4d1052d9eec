//! The rules, as data: each with the state of a device to which it applies, its condition and the action to take.

use afd_model::{Device, EVIDENCE_UNREADABLE, HealthState, Known, Partitioning, XcpComputeMode};

use super::{
    FATAL_ERROR_RECORD, HealthEvidence,
    history::{self, HealthHistory},
};
use crate::{
    gpu_metrics::throttle,
    sysfs::ras::{BadPages, ErrorCounts},
    throttle_time::{self, ThrottleCounter},
};

/// The input of a rule.
pub(super) struct HealthCase<'a> {
    pub(super) device: &'a Device,
    pub(super) evidence: &'a HealthEvidence,
    /// What is known from earlier discoveries.
    pub(super) history: &'a HealthHistory,
    /// The number of devices in the same hive, including this one.
    pub(super) hive: usize,
    /// The greatest number of partitions of a device of the same product and mode.
    pub(super) max_partitions: usize,
    /// Whether every node of KFD could be read, so that an unlisted partition is missing.
    pub(super) all_nodes_read: bool,
}

/// One rule.
#[derive(Clone, Copy)]
pub struct HealthRule {
    /// The code of the reason.
    pub code: &'static str,
    /// The state of a device to which it applies, unless another rule is more severe.
    pub state: HealthState,
    /// When it applies.
    pub condition: &'static str,
    /// What an operator should do.
    pub action: &'static str,
    /// The evidence, if it applies.
    pub(super) applies: fn(&HealthCase<'_>) -> Option<String>,
}

impl std::fmt::Debug for HealthRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthRule")
            .field("code", &self.code)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Throttling for a greater share of the time between two discoveries is a fault.
const MAX_THROTTLED_SHARE: f64 = 0.1;

/// All rules, most severe first.
pub const RULES: [HealthRule; 13] = [
    HealthRule {
        code: "UncorrectableErrors",
        state: HealthState::Failed,
        condition: "a block has counted an uncorrectable error since the driver was loaded; AMD's exporter uses the same threshold",
        action: "drain the node, then reset the device or reload the driver",
        applies: |case| blocks(case.evidence, |counts| counts.uncorrectable),
    },
    HealthRule {
        code: "UncorrectableErrorsGrow",
        state: HealthState::Failed,
        condition: "a block has counted more uncorrectable errors while AFD observed it, and the device was not reset since",
        action: "take the device out of service; replace it if the errors continue after a reset",
        applies: |case| {
            let blocks = case.history.faults.uncorrectable.iter();
            joined(blocks.map(|(block, more)| format!("{block} {more} more")))
        },
    },
    HealthRule {
        code: FATAL_ERROR_RECORD,
        state: HealthState::Failed,
        condition: "the driver has recorded a fatal error (CPER) while AFD observed it, where the records can be read, and the device was not reset since",
        action: "drain the node, then reset the device; replace it if the error recurs",
        applies: |case| {
            let records = case.history.faults.fatal_records;
            (records > 0).then(|| format!("{records} records"))
        },
    },
    HealthRule {
        code: "BadPagesInUse",
        state: HealthState::Failed,
        condition: "a bad page of memory could not be retired",
        action: "reset the device; replace it if the page stays in use",
        applies: |case| pages(case, |pages| pages.failed),
    },
    HealthRule {
        code: "BadPageThreshold",
        state: HealthState::Failed,
        condition: "the number of bad pages of memory has reached the threshold that AMD SMI reports",
        action: "replace the device: the driver may refuse it at its next start",
        applies: |case| {
            let pages = case.evidence.pages.value()?;
            let bad = pages.retired.saturating_add(pages.pending).saturating_add(pages.failed);
            let threshold = u64::from(*case.device.amd()?.bad_page_threshold.value()?);
            (bad >= threshold).then(|| format!("{bad} bad pages, threshold {threshold}"))
        },
    },
    HealthRule {
        code: EVIDENCE_UNREADABLE,
        state: HealthState::Unknown,
        condition: "error counters, bad pages or error records could not be read, or not completely, so that a failure may be in what is missing",
        action: "check the problems that the agent reports, and the kernel log",
        applies: |case| joined(case.evidence.unread().into_iter().map(str::to_owned)),
    },
    HealthRule {
        code: "ResetInProgress",
        state: HealthState::Unknown,
        condition: "the error counters are not accessible, as while the driver resets the device",
        action: "wait; check the kernel log if it persists",
        applies: |case| {
            let blocks = case.evidence.inaccessible_blocks();
            (blocks > 0).then(|| format!("{blocks} blocks are not accessible"))
        },
    },
    HealthRule {
        code: "BadPagesPending",
        state: HealthState::Degraded,
        condition: "a bad page of memory is pending retirement",
        action: "reset the device when it is idle",
        applies: |case| pages(case, |pages| pages.pending),
    },
    HealthRule {
        code: "DeferredErrors",
        state: HealthState::Degraded,
        condition: "a block counts deferred errors: poison that has not been consumed",
        action: "reset the device when it is idle",
        applies: |case| blocks(case.evidence, |counts| counts.deferred),
    },
    HealthRule {
        code: "LinkErrorsGrow",
        state: HealthState::Degraded,
        condition: "the XGMI links count more corrected errors than at the last discovery",
        action: "check the link partners and the board; replace them if the errors continue",
        applies: |case| {
            let before = case.history.before.as_ref()?;
            let grown = history::growth(before, case.evidence, |counts| counts.correctable);
            let (_, more) = grown.into_iter().find(|(block, _)| *block == "xgmi_wafl")?;
            Some(format!("{more} more since the last discovery"))
        },
    },
    HealthRule {
        code: "LinkDown",
        state: HealthState::Degraded,
        condition: "fewer XGMI links are up than the hive has other devices",
        action: "reset all devices of the hive; check the board if the link stays down",
        applies: |case| {
            let (up, others) = (case.evidence.xgmi_links_up?, case.hive.checked_sub(1)?);
            ((up as usize) < others)
                .then(|| format!("{up} links are up, the hive has {others} other devices"))
        },
    },
    HealthRule {
        code: "PartitionMissing",
        state: HealthState::Degraded,
        condition: "KFD, all of which can be read, lists fewer partitions than the mode has by its name, by AMD SMI, or on another device of the product in that mode",
        action: "set the partition mode again; check the kernel log",
        applies: |case| {
            let (listed, nominal) = (case.device.partitions.len(), nominal_partitions(case)?);
            (case.all_nodes_read && listed > 0 && listed < nominal)
                .then(|| format!("{listed} of {nominal} are listed"))
        },
    },
    HealthRule {
        code: "ThermalThrottling",
        state: HealthState::Degraded,
        condition: "the device is throttled by the temperature of the die, the memory or a regulator, for more than a tenth of the time between two discoveries or at present",
        action: "check cooling and air flow",
        applies: thermal,
    },
];

/// The blocks that have counted errors: `umc 2, gfx 1`.
fn blocks(evidence: &HealthEvidence, count: fn(&ErrorCounts) -> Option<u64>) -> Option<String> {
    let of_block = |(block, counts): &(&'static str, Known<ErrorCounts>)| {
        let count = count(counts.value()?).filter(|count| *count > 0)?;
        Some(format!("{block} {count}"))
    };
    joined(evidence.errors.iter().filter_map(of_block))
}

/// The evidence as a list; none if there is none.
fn joined(evidence: impl Iterator<Item = String>) -> Option<String> {
    let evidence: Vec<String> = evidence.collect();
    (!evidence.is_empty()).then(|| evidence.join(", "))
}

fn pages(case: &HealthCase<'_>, count: fn(&BadPages) -> u64) -> Option<String> {
    let pages = count(case.evidence.pages.value()?);
    (pages > 0).then(|| format!("pages: {pages}"))
}

/// The number of partitions of the device's mode. In CPX it is the number of XCCs, which depends on the product: by the library,
/// or by other devices of the product.
fn nominal_partitions(case: &HealthCase<'_>) -> Option<usize> {
    let Partitioning::Xcp { compute, .. } = case.device.partitioning.value()? else { return None };
    match compute {
        XcpComputeMode::Dpx => Some(2),
        XcpComputeMode::Tpx => Some(3),
        XcpComputeMode::Qpx => Some(4),
        XcpComputeMode::Cpx => {
            let reported = case.device.amd().and_then(|facts| facts.nominal_partitions.value().copied());
            Some(reported.map_or(0, |number| number as usize).max(case.max_partitions))
        }
        XcpComputeMode::Spx => None,
    }
}

fn thermal(case: &HealthCase<'_>) -> Option<String> {
    const COUNTERS: [(&str, ThrottleCounter); 3] = [
        ("socket", |counters| counters.socket_thermal),
        ("regulator", |counters| counters.regulator_thermal),
        ("memory", |counters| counters.memory_thermal),
    ];
    use afd_model::ThrottleCause::{MemoryThermal, RegulatorThermal, Thermal};
    let since_last_discovery = COUNTERS.into_iter().filter_map(|(name, counter)| {
        let before = &case.history.before.as_ref()?.residencies;
        let share = throttle_time::share(before, &case.evidence.residencies, counter)?;
        (share > MAX_THROTTLED_SHARE).then(|| format!("{name} {:.0} % of the time", share * 100.0))
    });
    let now = case.evidence.throttle_status.into_iter().flat_map(throttle::causes).filter_map(
        |(cause, is_active)| {
            let is_thermal = matches!(cause, Thermal | MemoryThermal | RegulatorThermal);
            (is_active && is_thermal).then(|| format!("{} now", cause.as_str()))
        },
    );
    joined(since_last_discovery.chain(now))
}
