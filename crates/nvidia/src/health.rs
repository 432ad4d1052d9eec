//! Whether a GPU or MIG device can take work: NVML's health inputs, and the errors that the driver reported by events.
//!
//! A GPU is healthy if NVML answers for it and no rule below applies.

use std::{borrow::Cow, collections::BTreeMap};

use afd_model::{Device, Health, HealthReason, HealthState, Known, MigInstance};

use crate::{
    incidents::{Incident, Incidents},
    nvml::{
        report::{self, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, NvmlAnswers, NvmlCode, RESET_REQUIRED},
        table::{FABRIC_COMPLETED, HEALTH_ROWS, HealthInput},
    },
    xid::XidSeverity,
};

/// Sets the health of a GPU for which NVML answered, and of its MIG devices. Closes incidents that no longer count.
pub(crate) fn judge(device: &mut Device, answers: &NvmlAnswers, incidents: &mut Incidents) {
    let address = device.id.0;
    let inputs: HealthInputs =
        inputs(answers).filter_map(|(input, value)| Some((input, value.into_value()?))).collect();
    incidents.discovered(address, inputs.get(&HealthInput::RecoveryAction) == Some(&0));
    let mut verdict = HealthVerdict::default();
    for (input, value) in &inputs {
        if let Some((severity, code, message)) = rule(*input, *value, &inputs) {
            verdict.add(severity, code, &message);
        }
    }
    if let Some(code) = fatal_codes(answers).map(|(_, code)| code).next() {
        verdict.merge(of_code(code));
    }
    let of_gpu = incidents.open(address).filter(|incident| incident.instance.is_none());
    for incident in of_gpu {
        verdict.add(incident.severity, &incident.code, &incident.message);
    }
    for partition in &mut device.partitions {
        let Some(mig) = partition.mig else { continue };
        let mut of_partition = HealthVerdict::default();
        for incident in incidents.open(address).filter(|incident| concerns(incident, mig)) {
            of_partition.add(incident.severity, &incident.code, &incident.message);
            let message = format!("{} of MIG device {}", incident.message, partition.name);
            verdict.add(XidSeverity::Degraded, "MigInstanceUnhealthy", &message);
        }
        if verdict.state == HealthState::Failed {
            of_partition.add(XidSeverity::Failed, "GpuFailed", "the GPU of this MIG device cannot take work");
        }
        partition.health = of_partition.into();
    }
    device.health = verdict.into();
}

/// The health of a GPU whose handle, or a call on it, returned this.
pub(crate) fn of_code(code: NvmlCode) -> Health {
    match code {
        GPU_IS_LOST => Health::failed(
            "GpuLost",
            "the GPU has fallen off the bus or cannot be reached; see the kernel log, reset or replace it",
        ),
        RESET_REQUIRED => {
            Health::failed("GpuResetRequired", "the GPU must be reset (nvidia-smi --gpu-reset)")
        }
        code => Health::failed("GpuInaccessible", format!("NVML cannot open the GPU: {code}")),
    }
}

/// The health of every GPU of the node where NVML cannot be initialised for this reason.
pub(crate) fn of_init_error(code: NvmlCode) -> Option<Health> {
    (code == LIB_RM_VERSION_MISMATCH).then(|| {
        Health::failed(
            "DriverLibraryMismatch",
            "the NVIDIA library and the loaded kernel driver are of different versions; no new program can use the GPU \
             until the driver is reloaded or the node restarted",
        )
    })
}

/// Whether a health input differs between two reports of a GPU. A call that is not in both of them is no difference.
pub(crate) fn is_changed(before: &NvmlAnswers, now: &NvmlAnswers) -> bool {
    let inputs_before: BTreeMap<HealthInput, Known<u64>> = inputs(before).collect();
    let is_fatal = |answers: &NvmlAnswers, others: &NvmlAnswers| {
        fatal_codes(answers).any(|(call, _)| others.get(call).is_some())
    };
    inputs(now).any(|(input, value)| inputs_before.get(&input).is_some_and(|before| *before != value))
        || is_fatal(before, now) != is_fatal(now, before)
}

type HealthInputs = BTreeMap<HealthInput, u64>;

/// The health inputs whose calls were made.
fn inputs(answers: &NvmlAnswers) -> impl Iterator<Item = (HealthInput, Known<u64>)> {
    HEALTH_ROWS.iter().filter(|row| answers.get(row.call).is_some()).map(|row| {
        let value = match row.field {
            Some(field) => report::field(answers, row.call, field),
            None => report::known::<u64>(answers, row.call),
        };
        (row.input, value.map(|value| value & row.bits))
    })
}

/// Calls that failed because the GPU cannot be used.
fn fatal_codes(answers: &NvmlAnswers) -> impl Iterator<Item = (&str, NvmlCode)> {
    answers.errors().filter(|(_, code)| [GPU_IS_LOST, RESET_REQUIRED].contains(code))
}

fn concerns(incident: &Incident, mig: MigInstance) -> bool {
    incident.instance.is_some_and(|(gpu_instance, compute_instance)| {
        gpu_instance == mig.gpu_instance && compute_instance.is_none_or(|id| id == mig.compute_instance)
    })
}

/// The reason against health that a value of an input is, if it is one.
fn rule(
    input: HealthInput,
    value: u64,
    inputs: &HealthInputs,
) -> Option<(XidSeverity, &'static str, Cow<'static, str>)> {
    use HealthInput as Input;
    use XidSeverity::{Degraded, Failed};

    let (severity, code, message) = match (input, value) {
        (Input::RecoveryAction, 0) => return None,
        (Input::RecoveryAction, 1) => (Failed, "GpuResetRequired", "the driver requests a reset of the GPU"),
        (Input::RecoveryAction, 2) => {
            (Failed, "NodeRebootRequired", "the driver requests a restart of the node")
        }
        (Input::RecoveryAction, 3) => {
            (Degraded, "DrainP2p", "the driver requests to end programs that use peer-to-peer access")
        }
        (Input::RecoveryAction, 4) => {
            (Degraded, "DrainAndReset", "the driver requests to drain the GPU and to reset it")
        }
        (Input::RecoveryAction, 5) => {
            (Degraded, "ImexRecoveryRequired", "the driver requests to recover the IMEX domain")
        }
        (Input::RecoveryAction, 6) => {
            (Failed, "BusResetRequired", "the driver requests a reset of the GPU's PCIe bus")
        }
        (Input::RecoveryAction, 7) => {
            (Failed, "NodeRebootRequired", "the driver requests a restart of the system")
        }
        (Input::RecoveryAction, _) => (
            Degraded,
            "RecoveryRequired",
            "the driver requests a recovery action that this version does not know",
        ),
        (Input::RowRemapFailure, 1..) => (
            Failed,
            "RowRemapFailure",
            "a faulty memory row could not be replaced, since no spare one is left; replace the GPU",
        ),
        (Input::RowRemapPending, 1..) => {
            (Degraded, "RowRemapPending", "a faulty memory row is replaced at the next reset of the GPU")
        }
        (Input::PageRetirementPending, 1) => (
            Degraded,
            "PageRetirementPending",
            "faulty memory pages are retired at the next load of the driver",
        ),
        (Input::FabricState, 1 | 2) => (
            Degraded,
            "FabricNotReady",
            "the GPU is not yet registered with the NVLink fabric; is the fabric manager running?",
        ),
        (Input::FabricStatus, 1..) if inputs.get(&Input::FabricState) == Some(&FABRIC_COMPLETED) => {
            let code = report::code(u32::try_from(value).unwrap_or(u32::MAX));
            let message = format!("registration with the NVLink fabric failed: {code}");
            return Some((Degraded, "FabricFailed", message.into()));
        }
        (Input::FabricHealth, 2) => {
            (Degraded, "FabricUnhealthy", "the NVLink fabric reports that it is unhealthy")
        }
        (Input::FabricHealth, 3) => {
            (Degraded, "FabricLimited", "the NVLink fabric runs with limited capacity")
        }
        (Input::ThermalSlowdown, 1..) => {
            (Degraded, "ThermalSlowdown", "the hardware reduces its clocks because it is too hot")
        }
        (Input::PowerBrake, 1..) => {
            (Degraded, "PowerBrake", "the power supply requests the GPU to reduce its clocks")
        }
        _ => return None,
    };
    Some((severity, code, message.into()))
}

/// The worst state so far, and all reasons.
#[derive(Debug)]
struct HealthVerdict {
    state: HealthState,
    reasons: Vec<HealthReason>,
}

impl Default for HealthVerdict {
    fn default() -> Self {
        HealthVerdict { state: HealthState::Healthy, reasons: Vec::new() }
    }
}

impl HealthVerdict {
    fn add(&mut self, severity: XidSeverity, code: &str, message: &str) {
        let state = match severity {
            XidSeverity::Notice => return,
            XidSeverity::Degraded => HealthState::Degraded,
            XidSeverity::Failed => HealthState::Failed,
        };
        self.merge(Health {
            state,
            reasons: vec![HealthReason { code: code.to_owned(), message: message.to_owned() }],
        });
    }

    fn merge(&mut self, health: Health) {
        // Healthy, Degraded and Failed are declared in this order.
        self.state = self.state.max(health.state);
        for reason in health.reasons {
            if self.reasons.iter().all(|known| known.code != reason.code) {
                self.reasons.push(reason);
            }
        }
    }
}

impl From<HealthVerdict> for Health {
    fn from(verdict: HealthVerdict) -> Health {
        Health { state: verdict.state, reasons: verdict.reasons }
    }
}

#[cfg(test)]
mod tests;
