//! The rules, as data: each with the state of a device to which it applies, its condition, the source and the action to take.

use afd_model::{Health, HealthState};

use super::{GaudiEvidence, GaudiHistory};
use crate::{incidents, interpret::GaudiStatus};

/// One rule.
#[derive(Clone, Copy)]
pub struct GaudiRule {
    /// The code of the reason.
    pub code: &'static str,
    /// The state of a device to which it applies, unless another rule is more severe.
    pub state: HealthState,
    /// When it applies.
    pub condition: &'static str,
    /// What reports it.
    pub source: &'static str,
    /// What an operator should do.
    pub action: &'static str,
    /// The evidence, if it applies.
    pub(super) applies: fn(&GaudiEvidence, &GaudiHistory) -> Option<String>,
}

impl std::fmt::Debug for GaudiRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GaudiRule")
            .field("code", &self.code)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl GaudiRule {
    /// The verdict, if the rule applies.
    pub(super) fn verdict(&self, evidence: &GaudiEvidence, history: &GaudiHistory) -> Option<Health> {
        let found = (self.applies)(evidence, history)?;
        let message = format!("{}: {found}. Action: {}", self.condition, self.action);
        Some(Health { state: self.state, ..Health::failed(self.code, message) })
    }
}

/// The driver's attribute, else HLML's call or the driver's ioctl.
const STATUS: &str =
    "`status` of the driver, else `hlml_device_get_oper_status` or, without HLML, `HL_INFO_DEVICE_STATUS`";

/// All rules. Where several apply, the reason of the first is the first of the device.
pub const RULES: [GaudiRule; 9] = [
    GaudiRule {
        code: "NeedsReset",
        state: HealthState::Failed,
        condition: "the driver reports that the device malfunctions or needs a reset",
        source: STATUS,
        action: "drain the node and reset the device; see the kernel log",
        applies: |evidence, _| {
            status(
                evidence,
                &[(GaudiStatus::NeedsReset, "Needs reset"), (GaudiStatus::Malfunction, "Malfunction")],
            )
        },
    },
    GaudiRule {
        code: "Disabled",
        state: HealthState::Failed,
        condition: "the driver has disabled the device",
        source: STATUS,
        action: "see the kernel log; reset or replace the device",
        applies: |evidence, _| status(evidence, &[(GaudiStatus::Disabled, "Disabled")]),
    },
    GaudiRule {
        code: "InReset",
        state: HealthState::Failed,
        condition: "the driver resets or initialises the device, other than after a workload",
        source: STATUS,
        action: "wait; see the kernel log if it persists",
        applies: |evidence, _| {
            status(
                evidence,
                &[(GaudiStatus::InReset, "In reset"), (GaudiStatus::InCreation, "In device creation")],
            )
        },
    },
    GaudiRule {
        code: incidents::CODE,
        state: HealthState::Failed,
        condition: "the driver has reported a critical error, and the device was not reset since",
        source: "an event of HLML (bit 1), `hard_reset_cnt` and `soft_reset_cnt` of the driver",
        action: "drain the node and reset the device; see the kernel log",
        applies: |evidence, _| evidence.has_critical_error.then(|| "a critical error".to_owned()),
    },
    GaudiRule {
        code: "DeviceLost",
        state: HealthState::Failed,
        condition: "the library has lost the device in two discoveries in succession, and the driver does not reset it",
        source: "code 15 (`AIP_IS_LOST`) of any call of HLML, or a device that HLML does not list or of which it refuses the handle",
        action: "see the kernel log; reset or replace the device",
        applies: |evidence, history| {
            let is_lost = evidence.is_answering && history.lost > 1;
            is_lost.then(|| format!("AIP_IS_LOST or not listed in {} discoveries", history.lost))
        },
    },
    GaudiRule {
        code: "WorkloadReset",
        state: HealthState::Unknown,
        condition: "the driver resets the device after its last workload",
        source: STATUS,
        action: "none: it accepts work when that is finished; see the kernel log if it persists",
        applies: |evidence, _| {
            status(evidence, &[(GaudiStatus::InReleaseReset, "In reset after device release")])
        },
    },
    GaudiRule {
        code: "RowReplacementPending",
        state: HealthState::Degraded,
        condition: "a faulty row of the memory waits for its replacement",
        source: "`hlml_device_get_replaced_rows_pending_status`, or `HL_INFO_DRAM_PENDING_ROWS`",
        action: "reset the device when it is idle",
        applies: |evidence, _| evidence.library.are_rows_pending.then(|| "pending".to_owned()),
    },
    GaudiRule {
        code: "UncorrectedEccGrows",
        state: HealthState::Degraded,
        condition: "the memory has counted more uncorrected errors while AFD observed it, and the device was not reset since",
        source: "`hlml_device_get_total_ecc_errors` (aggregate), `hard_reset_cnt` and `soft_reset_cnt` of the driver",
        action: "reset the device when it is idle; replace it if the errors continue",
        applies: |_, history| (history.grown > 0).then(|| format!("{} more", history.grown)),
    },
    GaudiRule {
        code: "LinkDown",
        state: HealthState::Degraded,
        condition: "the link of an internal port has been down for 30 seconds in which no device was reset, while others are up",
        source: "`hlml_get_mac_addr_info` and `hlml_nic_get_link`, or `HL_INFO_HW_IP_INFO` and `HL_INFO_NIC_LINK_STATE`",
        action: "check the devices at the other ends; reset them, and check the board if the link stays down",
        applies: |evidence, history| {
            let (up, down) = (evidence.library.internal_up, &history.down);
            let numbers: Vec<String> = down.iter().map(u8::to_string).collect();
            (up > 0 && !down.is_empty()).then(|| format!("ports {}; {up} are up", numbers.join(", ")))
        },
    },
];

/// The text of the status, if it is one of these.
fn status(evidence: &GaudiEvidence, of: &[(GaudiStatus, &str)]) -> Option<String> {
    let (_, text) = of.iter().find(|(status, _)| Some(*status) == evidence.status())?;
    Some(format!("\"{text}\""))
}
