//! The health of a GPU, from what the kernel and Level Zero report.
//!
//! A GPU is healthy if the kernel or Level Zero reports that it works and no rule of [`RULES`] applies. The health of one of which
//! nothing reports that is unknown unless a rule applies. A GPU recovers when no rule applies any more.

mod rules;

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, Health, HealthState, Known};
use serde_json_borrow::Value;

pub use self::rules::{IntelRule, RULES};
use crate::levelzero::{
    LevelZeroAnswers, SysmanStatus,
    calls::{MEMORY_STATE, PORT_STATE, STATE},
    parts::values,
    readings::uncorrectable_errors,
};

const LOST: SysmanStatus = SysmanStatus::named("DEVICE_LOST");
const REQUIRES_RESET: SysmanStatus = SysmanStatus::named("DEVICE_REQUIRES_RESET");
const IN_SURVIVABILITY_MODE: SysmanStatus = SysmanStatus::named("SURVIVABILITY_MODE_DETECTED");
/// The reason of a GPU that its driver has given up.
pub(crate) const WEDGED: &str = "Wedged";
/// `ZES_RESET_REASON_FLAG_WEDGED` and `_REPAIR`.
const RESET_WEDGED: u64 = 1 << 0;
const RESET_REPAIR: u64 = 1 << 1;
/// The flags of `zes_device_ext_state_t`.
const EXT_WEDGED: u64 = 1 << 1;
const EXT_SURVIVABILITY: u64 = 1 << 2;

/// What one discovery read for the health of a GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntelEvidence {
    /// Whether the driver is in survivability mode.
    pub(crate) is_survivable: bool,
    /// The attribute `gpu_health` of the driver.
    pub(crate) gpu_health: Known<String>,
    /// Whether the driver has given the device up, and was not bound again since.
    pub(crate) is_given_up: bool,
    /// What the library last reported.
    pub(crate) library: SysmanEvidence,
    /// Whether the library reported it now, and not earlier.
    pub(crate) is_fresh: bool,
    /// Whether there is no library, so that nothing can say that what it last reported is over.
    pub(crate) has_no_library: bool,
}

/// What Level Zero reported in a discovery.
#[derive(Clone, Debug, Default)]
pub(crate) struct SysmanEvidence {
    /// Whether it said in which state the device is.
    has_state: bool,
    is_wedged: bool,
    is_repair_pending: bool,
    is_survivable: bool,
    is_lost: bool,
    requires_reset: bool,
    /// The worst health of a memory module (`zes_mem_health_t`).
    memory_health: u64,
    failed_ports: Vec<usize>,
    /// Uncorrectable errors of the hardware, with their categories.
    uncorrectable: Vec<(&'static str, f64)>,
}

/// What earlier discoveries learnt of a GPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntelHistory {
    /// Discoveries in succession in which the library had lost the device.
    lost: u32,
}

impl SysmanEvidence {
    /// What answers say of a device.
    pub(crate) fn of(answers: &LevelZeroAnswers) -> SysmanEvidence {
        let number = |field: &str| answers.field::<u64>(STATE, field).into_value();
        let (reset, flags) = (number("reset"), number("flags").unwrap_or(0));
        let has_failed = |status: SysmanStatus| answers.errors().any(|(_, code)| code == status);
        let is_failed = |(_, port): &(usize, Value<'_>)| port.get("status").as_u64() == Some(FAILED_PORT);
        SysmanEvidence {
            has_state: reset.is_some(),
            is_wedged: reset.is_some_and(|reset| reset & RESET_WEDGED != 0) || flags & EXT_WEDGED != 0,
            is_repair_pending: reset.is_some_and(|reset| reset & RESET_REPAIR != 0),
            is_survivable: flags & EXT_SURVIVABILITY != 0 || has_failed(IN_SURVIVABILITY_MODE),
            is_lost: has_failed(LOST),
            requires_reset: has_failed(REQUIRES_RESET),
            memory_health: values(answers, MEMORY_STATE)
                .iter()
                .filter_map(|module| module.get("health").as_u64())
                .filter(|health| *health <= WORST_MEMORY)
                .max()
                .unwrap_or(0),
            failed_ports: values(answers, PORT_STATE)
                .into_iter()
                .enumerate()
                .filter(is_failed)
                .map(|(n, _)| n)
                .collect(),
            uncorrectable: uncorrectable_errors(answers),
        }
    }
}

/// `ZES_MEM_HEALTH_REPLACE`, the last of `zes_mem_health_t`.
const WORST_MEMORY: u64 = 4;
/// `ZES_FABRIC_PORT_STATUS_FAILED`.
const FAILED_PORT: u64 = 3;

impl IntelEvidence {
    /// Whether a source says that the device works.
    fn is_vouched_for(&self) -> bool {
        self.library.has_state || self.gpu_health.value().is_some_and(|health| health == "ok")
    }
}

impl IntelHistory {
    fn observe(&mut self, evidence: &IntelEvidence) {
        if evidence.has_no_library {
            self.lost = 0;
        } else if evidence.is_fresh {
            self.lost = if evidence.library.is_lost { self.lost.saturating_add(1) } else { 0 };
        }
    }
}

/// Sets the health of all devices, by the evidence of this discovery and by what is known from earlier ones.
pub(crate) fn judge(
    devices: &mut [Device],
    evidence: &BTreeMap<DeviceId, IntelEvidence>,
    histories: &mut BTreeMap<DeviceId, IntelHistory>,
) {
    histories.retain(|id, _| devices.iter().any(|device| device.id == *id));
    for device in devices {
        let Some(evidence) = evidence.get(&device.id) else { continue };
        let history = histories.entry(device.id).or_default();
        history.observe(evidence);
        // A missing driver takes precedence, unless the firmware is why it does not work.
        if device.health.state != HealthState::Failed || evidence.is_survivable {
            device.health = verdict(evidence, history);
        }
    }
}

fn verdict(evidence: &IntelEvidence, history: &IntelHistory) -> Health {
    let verdicts: Vec<Health> = RULES.iter().filter_map(|rule| rule.verdict(evidence, history)).collect();
    if verdicts.is_empty() && !evidence.is_vouched_for() {
        Health::unknown()
    } else {
        Health::worst_of(verdicts)
    }
}

/// The text of `docs/health-intel.md`.
pub fn markdown() -> String {
    let mut text = "# Health of Intel GPUs\n\n\
         Generated from the table in `crates/intel/src/health/rules.rs` by `cargo xtask bless`.\n\n\
         AFD evaluates the rules at each discovery (`--discovery-interval`), from attributes of the driver, an event of the\n\
         kernel and, if it is installed, Level Zero. A GPU is *healthy* if Level Zero reports its state (`zesDeviceGetState`) or the\n\
         driver's `gpu_health` is `ok`, and no rule below applies; where neither is there its health is *unknown* unless a rule\n\
         applies. A GPU recovers when no rule applies any more. If several rules apply, the most severe state counts: failed, then unknown, then degraded.\n\n\
         Quality and stability issues of the PCIe link are metrics (`/compat/xpumd`) and no verdict.\n\n\
         Intel's DRA driver publishes a health of its own (attribute `health` of a device in its ResourceSlices). It overrides nothing\n\
         here, nor is it overridden: `accelerator_device_published_health` is what it says, and where it is the contrary of AFD's verdict\n\
         that is a problem `contradicted` of the GPU, in the inventory, in `afd_probe_problems` and, once it lasts, in the annotation `report`.\n\n\
         | reason | state | condition | source | action |\n|---|---|---|---|---|\n\
         | `DriverMissing` | failed | no kernel driver is bound to the device | PCI | load the driver; check the kernel log |\n"
        .to_owned();
    for rule in RULES {
        let row = [rule.code, rule.state.as_str(), rule.condition, rule.source, rule.action];
        text += &format!("| `{}` | {} | {} | {} | {} |\n", row[0], row[1], row[2], row[3], row[4]);
    }
    text
}

#[cfg(test)]
mod tests;
