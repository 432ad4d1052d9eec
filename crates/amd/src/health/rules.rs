//! The rules, as data: each with the state that it leaves a device in, when it holds and what mends it.

use afd_model::{AmdFacts, Device, HealthState, Known, Missing, Partitioning, XcpComputeMode};

use super::Seen;
use crate::{
    cper::Severity,
    gpu_metrics::throttle,
    sysfs::ras::{ErrorCounts, Pages},
    throttle_time::{self, Counter},
};

/// What a rule judges.
pub(super) struct Case<'a> {
    pub(super) device: &'a Device,
    pub(super) seen: &'a Seen,
    pub(super) before: Option<&'a Seen>,
    /// Devices in the same hive, this one included.
    pub(super) hive: usize,
    /// The most partitions that a device of the same product and mode has.
    pub(super) most_partitions: usize,
    /// Whether every node of KFD could be read, so that one which is not there is missing.
    pub(super) all_nodes_read: bool,
}

/// One rule: what is said of a device where it holds.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The reason's code.
    pub code: &'static str,
    /// The state that the device is in at best.
    pub state: HealthState,
    /// When it holds.
    pub when: &'static str,
    /// What mends it.
    pub recovery: &'static str,
    /// What was seen, if it holds.
    pub(super) holds: fn(&Case<'_>) -> Option<String>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("code", &self.code).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A cause that holds for a greater share of the time between two looks is a fault.
const MUCH_OF_THE_TIME: f64 = 0.1;

/// All rules, the gravest first.
pub const RULES: [Rule; 12] = [
    Rule {
        code: "UncorrectableErrors",
        state: HealthState::Failed,
        when: "a block counts an uncorrectable error since the driver was loaded; AMD's exporter has the same threshold",
        recovery: "drain the node, then reset the device or load the driver anew",
        holds: |case| blocks(case.seen, |counts| counts.uncorrectable, |count| count > 0),
    },
    Rule {
        code: "UncorrectableErrorsGrow",
        state: HealthState::Failed,
        when: "a block counts more uncorrectable errors than at the last look",
        recovery: "take the device out of use; if it goes on after a reset, have it replaced",
        holds: |case| growth(case, |counts| counts.uncorrectable),
    },
    Rule {
        code: "FatalErrorRecord",
        state: HealthState::Failed,
        when: "the driver wrote a record of a fatal error (CPER) since the last look, where it may be read",
        recovery: "drain the node, then reset the device; if it comes again, have it replaced",
        holds: |case| {
            let before = case.before?.records.value()?;
            let fatal = case.seen.records.value()?.iter().filter(|record| record.severity == Severity::Fatal);
            let new = fatal.filter(|record| !before.contains(record)).count();
            (new > 0).then(|| format!("{new} records"))
        },
    },
    Rule {
        code: "BadPagesInUse",
        state: HealthState::Failed,
        when: "a bad page of memory could not be taken out of use",
        recovery: "reset the device; if the page stays, have it replaced",
        holds: |case| pages(case, |pages| pages.failed),
    },
    Rule {
        code: "BadPageThreshold",
        state: HealthState::Failed,
        when: "as many pages of memory are bad as AMD SMI says that the part may have",
        recovery: "have the device replaced: the driver may refuse it at its next start",
        holds: |case| {
            let pages = case.seen.pages.as_ref()?;
            let (bad, most) = (pages.retired + pages.pending + pages.failed, facts(case)?.bad_page_threshold);
            let most = u64::from(*most.value()?);
            (bad >= most).then(|| format!("{bad} pages are bad, {most} may be"))
        },
    },
    Rule {
        code: "BadPagesPending",
        state: HealthState::Degraded,
        when: "a bad page of memory waits for being taken out of use",
        recovery: "reset the device when it is idle",
        holds: |case| pages(case, |pages| pages.pending),
    },
    Rule {
        code: "DeferredErrors",
        state: HealthState::Degraded,
        when: "a block counts errors that nothing has consumed yet",
        recovery: "reset the device when it is idle",
        holds: |case| blocks(case.seen, |counts| counts.deferred, |count| count > 0),
    },
    Rule {
        code: "LinkErrorsGrow",
        state: HealthState::Degraded,
        when: "the XGMI links count more corrected errors than at the last look",
        recovery: "look at the link partners and the board; if it goes on, have them replaced",
        holds: |case| {
            let block = |seen: &Seen| {
                let counts = seen.errors.iter().find(|(block, _)| *block == "xgmi_wafl")?;
                counts.1.value()?.correctable
            };
            let more = block(case.seen)?.checked_sub(block(case.before?)?).filter(|more| *more > 0)?;
            Some(format!("{more} more since the last look"))
        },
    },
    Rule {
        code: "LinkDown",
        state: HealthState::Degraded,
        when: "fewer XGMI links are up than the hive has other devices",
        recovery: "reset all devices of the hive; if the link stays down, look at the board",
        holds: |case| {
            let (up, others) = (case.seen.xgmi_links_up?, case.hive.checked_sub(1)?);
            ((up as usize) < others)
                .then(|| format!("{up} links are up, the hive has {others} other devices"))
        },
    },
    Rule {
        code: "PartitionMissing",
        state: HealthState::Degraded,
        when: "KFD, all of which can be read, lists fewer partitions than the mode makes by its name or AMD SMI's word, or than another device of the product has in that mode",
        recovery: "set the partition mode anew; look into the kernel log",
        holds: |case| {
            let (listed, nominal) = (case.device.partitions.len(), nominal_partitions(case)?);
            (case.all_nodes_read && listed > 0 && listed < nominal)
                .then(|| format!("{listed} of {nominal} are listed"))
        },
    },
    Rule {
        code: "ThermalThrottling",
        state: HealthState::Degraded,
        when: "the device is slowed down by a temperature, of the die, the memory or a regulator, for more than a tenth of the time between two looks, or says so now",
        recovery: "look at cooling and air flow",
        holds: thermal,
    },
    Rule {
        code: "ResetInProgress",
        state: HealthState::Unknown,
        when: "the driver lets nobody ask for error counts, which it does as long as it resets the device",
        recovery: "wait; if it stays, look into the kernel log",
        holds: |case| {
            let refused = |counts: &Known<ErrorCounts>| counts.missing() == Some(Missing::NotAvailable);
            let blocks = case.seen.errors.iter().filter(|(_, counts)| refused(counts)).count();
            (blocks > 0).then(|| format!("{blocks} blocks do not answer"))
        },
    },
];

/// The blocks whose count is such, as `umc 2, gfx 1`.
fn blocks(seen: &Seen, count: fn(&ErrorCounts) -> Option<u64>, such: impl Fn(u64) -> bool) -> Option<String> {
    let of_block = |(block, counts): &(&'static str, Known<ErrorCounts>)| {
        let count = count(counts.value()?).filter(|count| such(*count))?;
        Some(format!("{block} {count}"))
    };
    let told: Vec<String> = seen.errors.iter().filter_map(of_block).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The blocks whose count is higher than at the last look.
fn growth(case: &Case<'_>, count: fn(&ErrorCounts) -> Option<u64>) -> Option<String> {
    let before = case.before?;
    let of_block = |(block, counts): &(&'static str, Known<ErrorCounts>)| {
        let (_, old) = before.errors.iter().find(|(other, _)| other == block)?;
        let more = count(counts.value()?)?.checked_sub(count(old.value()?)?).filter(|more| *more > 0)?;
        Some(format!("{block} {more} more"))
    };
    let told: Vec<String> = case.seen.errors.iter().filter_map(of_block).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn pages(case: &Case<'_>, count: fn(&Pages) -> u64) -> Option<String> {
    let pages = count(case.seen.pages.as_ref()?);
    (pages > 0).then(|| format!("{pages} pages"))
}

fn facts<'c>(case: &'c Case<'_>) -> Option<&'c AmdFacts> {
    case.device.amd()
}

/// How many partitions the device's mode makes. Each XCC is one in CPX; their number is the product's, so that the library
/// or other devices of it tell.
fn nominal_partitions(case: &Case<'_>) -> Option<usize> {
    let Partitioning::Xcp { compute, .. } = case.device.partitioning.value()? else { return None };
    match compute {
        XcpComputeMode::Dpx => Some(2),
        XcpComputeMode::Tpx => Some(3),
        XcpComputeMode::Qpx => Some(4),
        XcpComputeMode::Cpx => {
            let told = facts(case).and_then(|facts| facts.nominal_partitions.value().copied());
            Some(told.map_or(0, |told| told as usize).max(case.most_partitions))
        }
        XcpComputeMode::Spx => None,
    }
}

fn thermal(case: &Case<'_>) -> Option<String> {
    const COUNTERS: [(&str, Counter); 3] = [
        ("socket", |counters| counters.socket_thermal),
        ("regulator", |counters| counters.regulator_thermal),
        ("memory", |counters| counters.memory_thermal),
    ];
    use afd_model::ThrottleCause::{MemoryThermal, RegulatorThermal, Thermal};
    let since_last_look = COUNTERS.into_iter().filter_map(|(name, counter)| {
        let before = &case.before?.residencies;
        let share = throttle_time::share(before, &case.seen.residencies, counter)?;
        (share > MUCH_OF_THE_TIME).then(|| format!("{name} {:.0} % of the time", share * 100.0))
    });
    let now =
        case.seen.throttle_status.into_iter().flat_map(throttle::causes).filter_map(|(cause, holds)| {
            let by_temperature = matches!(cause, Thermal | MemoryThermal | RegulatorThermal);
            (holds && by_temperature).then(|| format!("{} now", cause.as_str()))
        });
    let told: Vec<String> = since_last_look.chain(now).collect();
    (!told.is_empty()).then(|| told.join(", "))
}
