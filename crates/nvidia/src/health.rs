//! Whether a GPU or MIG device can take work: NVML's health inputs, and the errors that the driver reported by events.
//!
//! A GPU is healthy if NVML answers for it and no rule below applies. What a silent library last reported is still judged here; how
//! long that is believed is decided by its reader.

use std::{borrow::Cow, collections::BTreeMap};

use afd_model::{Device, EVIDENCE_UNREADABLE, Health, HealthState, Known, MigInstance};

use crate::{
    incidents::{Incident, Incidents},
    nvml::{
        report::{self, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, NvmlAnswers, NvmlCode, RESET_REQUIRED},
        table::{FABRIC_COMPLETED, HEALTH_ROWS, HealthInput},
    },
    xid::XidSeverity,
};

/// What is known of the health of a GPU besides its incidents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GpuHealthEvidence<'a> {
    /// What the discovery reported of it.
    pub(crate) discovered: Option<&'a NvmlAnswers>,
    /// Why it cannot be used at all, as the last discovery that NVML answered found.
    pub(crate) inaccessible: Option<&'a Health>,
    /// What the last sample found.
    pub(crate) sampled: Option<&'a HealthSigns>,
}

/// Sets the health of a GPU and of its MIG devices. It stays unknown where there is no evidence.
pub(crate) fn judge(device: &mut Device, evidence: GpuHealthEvidence<'_>, incidents: &Incidents) {
    let GpuHealthEvidence { discovered, inaccessible, sampled } = evidence;
    let is_known = discovered.is_some() || inaccessible.is_some();
    let unjudged = if is_known { Health::healthy() } else { Health::unknown() };
    let mut verdicts = vec![unjudged.clone()];
    if let Some(answers) = discovered {
        let inputs: HealthInputs =
            inputs(answers).filter_map(|(input, value)| Some((input, value.into_value()?))).collect();
        let rules = inputs.iter().filter_map(|(input, value)| rule(*input, *value, &inputs));
        verdicts.extend(rules.filter_map(|(severity, code, message)| verdict(severity, code, &message)));
    }
    let fatal = discovered.and_then(|answers| fatal_codes(answers).map(|(_, code)| code).next());
    verdicts.extend(fatal.or(sampled.and_then(|signs| signs.fatal)).map(of_code));
    verdicts.extend(inaccessible.cloned());
    let of_gpu = incidents.of(device.id.0).filter(|incident| incident.instance.is_none());
    verdicts.extend(of_gpu.filter_map(of_incident));
    let has_failed = verdicts.iter().any(|verdict| verdict.state == HealthState::Failed);
    // What could not be read adds nothing to a failure.
    verdicts.extend(discovered.filter(|_| !has_failed).and_then(unread));
    for partition in &mut device.partitions {
        let Some(mig) = partition.mig else { continue };
        let mut of_partition = vec![unjudged.clone()];
        for incident in incidents.of(device.id.0).filter(|incident| concerns(incident, mig)) {
            of_partition.extend(of_incident(incident));
            let message = format!("{} of MIG device {}", incident.message, partition.name);
            verdicts.push(Health::degraded("MigInstanceUnhealthy", message));
        }
        if has_failed {
            of_partition.push(Health::failed("GpuFailed", "the GPU of this MIG device cannot take work"));
        }
        partition.health = Health::worst_of(of_partition);
    }
    device.health = Health::worst_of(verdicts);
}

/// The verdict where it could not be read whether memory has failed. NVML refuses the other inputs of old drivers with various
/// codes.
fn unread(answers: &NvmlAnswers) -> Option<Health> {
    let mut rows = inputs(answers).filter(|(input, _)| *input == HealthInput::RowRemapFailure);
    let missing = rows.find_map(|(_, value)| value.missing())?;
    missing.is_undecided().then(|| {
        let message =
            "NVML cannot report whether a faulty memory row could not be replaced; see the kernel log";
        Health { state: HealthState::Unknown, ..Health::failed(EVIDENCE_UNREADABLE, message) }
    })
}

fn of_incident(incident: &Incident) -> Option<Health> {
    verdict(incident.severity, &incident.code, &incident.message)
}

fn verdict(severity: XidSeverity, code: &str, message: &str) -> Option<Health> {
    match severity {
        XidSeverity::Notice => None,
        XidSeverity::Degraded => Some(Health::degraded(code, message)),
        XidSeverity::Failed => Some(Health::failed(code, message)),
    }
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

/// What of a report decides whether health may have changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthSigns {
    inputs: HealthInputs,
    fatal: Option<NvmlCode>,
}

impl HealthSigns {
    /// The signs in the answers of a GPU.
    pub(crate) fn of(answers: &NvmlAnswers) -> HealthSigns {
        let inputs = inputs(answers).filter_map(|(input, value)| Some((input, value.into_value()?)));
        HealthSigns { inputs: inputs.collect(), fatal: fatal_codes(answers).map(|(_, code)| code).next() }
    }

    /// The recovery action that the driver requests.
    pub(crate) fn recovery_action(&self) -> Option<u64> {
        self.inputs.get(&HealthInput::RecoveryAction).copied()
    }

    /// Takes over the signs of the next sample; whether one is another than before. A call that failed says nothing, and a sample
    /// makes the same calls as the one before it.
    pub(crate) fn update(&mut self, now: &HealthSigns) -> bool {
        let is_changed = self.differs_in_input(now) || self.fatal != now.fatal;
        self.inputs.extend(&now.inputs);
        self.fatal = now.fatal;
        is_changed
    }

    /// Whether the first sample after a discovery has another sign. It makes other calls: an error that only the discovery met
    /// is no difference.
    pub(crate) fn is_changed_by_first(&self, now: &HealthSigns) -> bool {
        self.differs_in_input(now) || now.fatal.is_some() && now.fatal != self.fatal
    }

    fn differs_in_input(&self, now: &HealthSigns) -> bool {
        now.inputs.iter().any(|(input, value)| self.inputs.get(input).is_some_and(|before| before != value))
    }
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
    incident.instance.is_some_and(|place| {
        place.gpu_instance == mig.gpu_instance
            && place.compute_instance.is_none_or(|id| id == mig.compute_instance)
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
        // Every CUDA program ends with "system not yet initialized" until it is registered.
        (Input::FabricState, 1 | 2) => (
            Failed,
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

#[cfg(test)]
mod tests;
