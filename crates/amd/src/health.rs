//! Whether a device may take work, by the kernel's word.
//!
//! Healthy is only what a source calls so: a part whose driver answers for the error counters of at least one block, all of
//! which are 0, and that no rule of [`RULES`] speaks against. A part without such counters (Radeon, processors, virtual
//! functions) is of unknown health unless a rule says more. Nothing is remembered but the counters of the last look, so
//! that a device recovers when what is said of it no longer holds.

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Health, HealthReason, HealthState, Known, Missing, Partitioning};

use crate::{
    gpu_metrics::{Residencies, throttle},
    sysfs::ras::{ErrorCounts, Pages},
    throttle_time::{self, Counter},
};

/// What was read of a device's health in one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The error counts of each block that has a file.
    pub(crate) errors: Vec<(&'static str, Known<ErrorCounts>)>,
    pub(crate) pages: Option<Pages>,
    pub(crate) residencies: Residencies,
    pub(crate) throttle_status: Option<u64>,
    pub(crate) xgmi_links_up: Option<u32>,
}

/// What a rule judges.
struct Case<'a> {
    device: &'a Device,
    seen: &'a Seen,
    before: Option<&'a Seen>,
    /// Devices in the same hive, this one included.
    hive: usize,
    /// The most partitions that a device of the same product and mode has.
    most_partitions: usize,
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
    holds: fn(&Case<'_>) -> Option<String>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("code", &self.code).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A cause that holds for a greater share of the time between two looks is a fault.
const MUCH_OF_THE_TIME: f64 = 0.1;

/// All rules, the gravest first.
pub const RULES: [Rule; 10] = [
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
        code: "BadPagesInUse",
        state: HealthState::Failed,
        when: "a bad page of memory could not be taken out of use",
        recovery: "reset the device; if the page stays, have it replaced",
        holds: |case| pages(case, |pages| pages.failed),
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
        when: "KFD lists fewer partitions than the mode makes, or than another device of the product has in that mode",
        recovery: "set the partition mode anew; look into the kernel log",
        holds: |case| {
            let (listed, nominal) = (case.device.partitions.len(), nominal_partitions(case)?);
            (listed > 0 && listed < nominal).then(|| format!("{listed} of {nominal} are listed"))
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

/// The text of `docs/health-amd.md`.
pub fn markdown() -> String {
    let mut text = "# Health of AMD GPUs\n\n\
         Generated from the table in `crates/amd/src/health.rs`; `cargo xtask bless` writes it anew.\n\n\
         AFD judges at each look for devices (`--look-interval`), by what the kernel tells. A device is *healthy* if its\n\
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
    let held: Vec<(&Rule, String)> =
        RULES.iter().filter_map(|rule| Some((rule, (rule.holds)(case)?))).collect();
    let worst = held.iter().map(|(rule, _)| rule.state).max_by_key(|state| gravity(*state));
    let reasons = held
        .into_iter()
        .map(|(rule, what)| HealthReason {
            code: rule.code.to_owned(),
            message: format!("{}: {what}. What to do: {}", rule.when, rule.recovery),
        })
        .collect();
    let answers = case.seen.errors.iter().any(|(_, counts)| counts.is_known());
    match worst {
        Some(state) => Some(Health { state, reasons }),
        None => answers.then(Health::healthy),
    }
}

fn gravity(state: HealthState) -> u8 {
    match state {
        HealthState::Healthy => 0,
        HealthState::Degraded => 1,
        HealthState::Unknown => 2,
        HealthState::Failed => 3,
    }
}

fn same_hive(device: &Device, other: &Device) -> bool {
    device.link_domain.is_known() && device.link_domain == other.link_domain
}

fn same_cut(device: &Device, other: &Device) -> bool {
    device.pci.device_id == other.pci.device_id && device.partitioning == other.partitioning
}

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

/// How many partitions the device's mode makes. Each XCC is one in CPX; their number is the product's, so that other devices
/// of it tell.
fn nominal_partitions(case: &Case<'_>) -> Option<usize> {
    let Partitioning::Xcp { compute, .. } = case.device.partitioning.value()? else { return None };
    match compute.as_str() {
        "DPX" => Some(2),
        "TPX" => Some(3),
        "QPX" => Some(4),
        "CPX" => Some(case.most_partitions),
        _ => None,
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

#[cfg(test)]
mod tests;
