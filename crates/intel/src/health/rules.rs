//! The rules, as data: each with the state of a GPU to which it applies, its condition, the source and the action to take.

use afd_model::{EVIDENCE_UNREADABLE, Health, HealthState};

use super::{IntelEvidence, IntelHistory, WEDGED};

/// One rule.
#[derive(Clone, Copy)]
pub struct IntelRule {
    /// The code of the reason.
    pub code: &'static str,
    /// The state of a GPU to which it applies, unless another rule is more severe.
    pub state: HealthState,
    /// When it applies.
    pub condition: &'static str,
    /// What reports it.
    pub source: &'static str,
    /// What an operator should do.
    pub action: &'static str,
    /// The evidence, if it applies.
    pub(super) applies: fn(&IntelEvidence, &IntelHistory) -> Option<String>,
}

impl std::fmt::Debug for IntelRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntelRule")
            .field("code", &self.code)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl IntelRule {
    /// The verdict, if the rule applies.
    pub(super) fn verdict(&self, evidence: &IntelEvidence, history: &IntelHistory) -> Option<Health> {
        let found = (self.applies)(evidence, history)?;
        let message = format!("{}: {found}. Action: {}", self.condition, self.action);
        Some(Health { state: self.state, ..Health::failed(self.code, message) })
    }
}

fn text(applies: bool, found: &str) -> Option<String> {
    applies.then(|| found.to_owned())
}

/// The state that the driver's `gpu_health` names, if it is one of these.
fn gpu_health(evidence: &IntelEvidence, of: &[&str]) -> Option<String> {
    let health = evidence.gpu_health.value().filter(|health| of.contains(&health.as_str()))?;
    Some(format!("gpu_health is {health:?}"))
}

/// All rules. Where several apply, the reason of the first is the first of the device.
pub const RULES: [IntelRule; 12] = [
    IntelRule {
        code: "SurvivabilityMode",
        state: HealthState::Failed,
        condition: "the firmware of the GPU failed and the driver is in survivability mode",
        source: "`survivability_mode` of the driver; flag 2 of `zes_device_ext_state_t`; status 0x78000020 of any call",
        action: "flash the firmware",
        applies: |evidence, _| {
            text(evidence.is_survivable, "survivability_mode is there")
                .or_else(|| text(evidence.library.is_survivable, "Level Zero reports it"))
        },
    },
    IntelRule {
        code: WEDGED,
        state: HealthState::Failed,
        condition: "the driver has marked the GPU as wedged, since resets did not help",
        source: "the event of the kernel with `WEDGED=` and a way to recover, until the driver is bound again or `afd clear`, also across a restart of the agent in the same boot; `zesDeviceGetState`: reset reason 0, or flag 1 of `zes_device_ext_state_t`",
        action: "see the kernel log; rebind the driver or restart the node",
        applies: |evidence, _| {
            text(evidence.is_given_up, "the kernel has said so")
                .or_else(|| text(evidence.library.is_wedged, "Level Zero reports it"))
        },
    },
    IntelRule {
        code: "NeedsReset",
        state: HealthState::Failed,
        condition: "the GPU works again after a reset only",
        source: "status 0x70000006 of any call of Level Zero",
        action: "drain the node and reset the GPU; see the kernel log",
        applies: |evidence, _| text(evidence.library.requires_reset, "DEVICE_REQUIRES_RESET"),
    },
    IntelRule {
        code: "DeviceLost",
        state: HealthState::Failed,
        condition: "the library has lost the GPU in two discoveries in succession",
        source: "status 0x70000001 of any call of Level Zero",
        action: "see the kernel log; reset or replace the GPU",
        applies: |_, history| {
            (history.lost > 1).then(|| format!("DEVICE_LOST in {} discoveries", history.lost))
        },
    },
    IntelRule {
        code: "GpuHealthCritical",
        state: HealthState::Failed,
        condition: "the driver reports that the GPU is in a critical state or has failed",
        source: "`gpu_health` of the driver",
        action: "drain the node; see the kernel log; reset or replace the GPU",
        applies: |evidence, _| gpu_health(evidence, &["critical", "failed"]),
    },
    IntelRule {
        code: "MemoryFailed",
        state: HealthState::Failed,
        condition: "the memory of the GPU is to be replaced",
        source: "`zesMemoryGetState`: health 4",
        action: "drain the node and replace the GPU",
        applies: |evidence, _| text(evidence.library.memory_health == 4, "health is replace"),
    },
    IntelRule {
        code: EVIDENCE_UNREADABLE,
        state: HealthState::Unknown,
        condition: "the state that the driver reports could not be read, so that it may be a failure",
        source: "`gpu_health` of the driver",
        action: "check the problems that the agent reports, and the kernel log",
        applies: |evidence, _| {
            let missing = evidence.gpu_health.missing().filter(|missing| missing.is_undecided())?;
            Some(missing.explain().to_owned())
        },
    },
    IntelRule {
        code: "MemoryDegraded",
        state: HealthState::Degraded,
        condition: "the memory of the GPU has errors that may become too many to correct",
        source: "`zesMemoryGetState`: health 2 or 3",
        action: "reset the GPU when it is idle; replace it if the state stays",
        applies: |evidence, _| {
            let name = match evidence.library.memory_health {
                2 => "degraded",
                3 => "critical",
                _ => return None,
            };
            Some(format!("health is {name}"))
        },
    },
    IntelRule {
        code: "GpuHealthWarning",
        state: HealthState::Degraded,
        condition: "the driver warns of the health of the GPU",
        source: "`gpu_health` of the driver",
        action: "see the kernel log; reset the GPU when it is idle",
        applies: |evidence, _| gpu_health(evidence, &["warning"]),
    },
    IntelRule {
        code: "RepairPending",
        state: HealthState::Degraded,
        condition: "the GPU needs a reset to complete repairs",
        source: "`zesDeviceGetState`: reset reason 1",
        action: "reset the GPU when it is idle",
        applies: |evidence, _| text(evidence.library.is_repair_pending, "Level Zero reports it"),
    },
    IntelRule {
        code: "UncorrectableRasErrors",
        state: HealthState::Degraded,
        condition: "the hardware has counted uncorrectable errors since the driver was loaded",
        source: "`zesRasGetState` and `zesRasGetStateExp` of the uncorrectable set: compute, non_compute, cache, memory, scale, l3fabric, fabric, soc_internal",
        action: "reset the GPU when it is idle; replace it if the errors continue",
        applies: |evidence, _| {
            let errors = &evidence.library.uncorrectable;
            let counts: Vec<String> =
                errors.iter().map(|(category, count)| format!("{category} {count}")).collect();
            (!counts.is_empty()).then(|| counts.join(", "))
        },
    },
    IntelRule {
        code: "LinkDown",
        state: HealthState::Degraded,
        condition: "a port of Xe Link has failed",
        source: "`zesFabricPortGetState`: status 3",
        action: "check the GPU at the other end; reset both, and check the board if the port stays down",
        applies: |evidence, _| {
            let ports: Vec<String> = evidence.library.failed_ports.iter().map(usize::to_string).collect();
            (!ports.is_empty()).then(|| format!("ports {}", ports.join(", ")))
        },
    },
];
