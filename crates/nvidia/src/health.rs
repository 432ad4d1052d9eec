//! Whether a GPU or MIG device may take work: NVML's recovery action, remapped rows, retired pages, fabric, clocks, and
//! the XIDs and other events that the driver told.
//!
//! A GPU is healthy if NVML answers for it and nothing below is the matter.

use afd_model::{Device, Health, HealthReason, HealthState, Known};

use crate::{
    incidents::Incidents,
    interpret,
    nvml::{
        answers::{Answers, Code},
        field,
    },
    xid::XidSeverity as Severity,
};

/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
const RECOVERY_ACTION: u32 = 230;
/// The verdict on a GPU for which NVML answered, and on its MIG devices.
pub(crate) fn judge(device: &mut Device, answers: &Answers, incidents: &mut Incidents) {
    let address = device.id.0;
    let action = answers.known::<u32>(&field(RECOVERY_ACTION, 0));
    incidents.discovered(address, action == Known::Value(0));
    let mut verdict = Verdict::default();
    recovery(&mut verdict, &action);
    rows(&mut verdict, answers);
    fabric(&mut verdict, answers);
    clocks(&mut verdict, answers);
    let fatal = answers.errors().find(|(_, code)| matches!(*code, Code::GPU_IS_LOST | Code::RESET_REQUIRED));
    if let Some((_, code)) = fatal {
        verdict.merge(of_code(code));
    }
    let ours = || incidents.open(address);
    for incident in ours().filter(|incident| incident.instance.is_none()) {
        verdict.add(incident.severity, &incident.code, &incident.message);
    }
    for partition in &mut device.partitions {
        let Some(mig) = partition.mig else { continue };
        let mut part = Verdict::default();
        for incident in ours() {
            let Some((gpu_instance, compute_instance)) = incident.instance else { continue };
            if gpu_instance == mig.gpu_instance
                && compute_instance.is_none_or(|id| id == mig.compute_instance)
            {
                part.add(incident.severity, &incident.code, &incident.message);
                verdict.add(
                    Severity::Degraded,
                    "MigInstanceUnhealthy",
                    &format!("{} of MIG device {}", incident.message, partition.name),
                );
            }
        }
        if verdict.state == HealthState::Failed {
            part.add(Severity::Failed, "GpuFailed", "the GPU that it is a part of cannot take work");
        }
        partition.health = part.into();
    }
    device.health = verdict.into();
}

/// The verdict on a GPU whose handle, or a call on it, gave this.
pub(crate) fn of_code(code: Code) -> Health {
    match code {
        Code::GPU_IS_LOST => Health::failed(
            "GpuLost",
            "the GPU has fallen off the bus or cannot be reached; look into the kernel log, reset or replace it",
        ),
        Code::RESET_REQUIRED => {
            Health::failed("GpuResetRequired", "the GPU must be reset (nvidia-smi --gpu-reset)")
        }
        code => Health::failed("GpuInaccessible", format!("NVML cannot open the GPU: {code}")),
    }
}

/// What a driver of another version than the library means for every GPU of the node.
pub(crate) fn of_init(code: Code) -> Option<Health> {
    (code == Code::LIB_RM_VERSION_MISMATCH).then(|| {
        Health::failed(
            "DriverLibraryMismatch",
            "the NVIDIA library and the loaded kernel driver are of different versions; no new program can use the GPU \
             until the driver is reloaded or the node restarted",
        )
    })
}

/// What health is read from, to see whether it changed.
pub(crate) fn signs(answers: &Answers) -> impl PartialEq {
    let rows = |field: &str| answers.field::<u32>("nvmlDeviceGetRemappedRows", field);
    (
        answers.known::<u32>(&field(RECOVERY_ACTION, 0)),
        (rows("failureOccurred"), rows("isPending")),
        answers.known::<u32>("nvmlDeviceGetRetiredPagesPendingStatus"),
        throttle_reasons(answers).map(|reasons| reasons & 0xc0),
        answers.errors().any(|(_, code)| matches!(code, Code::GPU_IS_LOST | Code::RESET_REQUIRED)),
    )
}

fn recovery(verdict: &mut Verdict, action: &Known<u32>) {
    let Known::Value(action) = action else { return };
    let (severity, code, message) = match action {
        0 => return,
        1 => (Severity::Failed, "GpuResetRequired", "the driver asks for a reset of the GPU"),
        2 => (Severity::Failed, "NodeRebootRequired", "the driver asks for a restart of the node"),
        3 => (Severity::Degraded, "DrainP2p", "the driver asks to end programs that use peer-to-peer access"),
        4 => {
            (Severity::Degraded, "DrainAndReset", "the driver asks to let the GPU run empty and to reset it")
        }
        5 => (Severity::Degraded, "ImexRecoveryRequired", "the driver asks to recover the IMEX domain"),
        6 => (Severity::Failed, "BusResetRequired", "the driver asks for a reset of the GPU's PCIe bus"),
        7 => (Severity::Failed, "NodeRebootRequired", "the driver asks for a restart of the system"),
        _ => (
            Severity::Degraded,
            "RecoveryRequired",
            "the driver asks for an action that this version does not know",
        ),
    };
    verdict.add(severity, code, message);
}

fn rows(verdict: &mut Verdict, answers: &Answers) {
    let rows = |field: &str| answers.field::<u32>("nvmlDeviceGetRemappedRows", field);
    if rows("failureOccurred").value().is_some_and(|failed| *failed != 0) {
        verdict.add(
            Severity::Failed,
            "RowRemapFailure",
            "a faulty memory row could not be replaced, since no spare one is left; replace the GPU",
        );
    }
    if rows("isPending").value().is_some_and(|pending| *pending != 0) {
        verdict.add(
            Severity::Degraded,
            "RowRemapPending",
            "a faulty memory row is replaced at the next reset of the GPU",
        );
    }
    if answers.known("nvmlDeviceGetRetiredPagesPendingStatus") == Known::Value(1_u32) {
        verdict.add(
            Severity::Degraded,
            "PageRetirementPending",
            "faulty memory pages are retired at the next load of the driver",
        );
    }
}

fn fabric(verdict: &mut Verdict, answers: &Answers) {
    let state: Known<u32> = interpret::fabric_field(answers, "state");
    let status: Known<u32> = interpret::fabric_field(answers, "status");
    match (state, status) {
        (Known::Value(1 | 2), _) => verdict.add(
            Severity::Degraded,
            "FabricNotReady",
            "the GPU is not yet registered with the NVLink fabric; is the fabric manager running?",
        ),
        (Known::Value(3), Known::Value(status)) if status != 0 => verdict.add(
            Severity::Degraded,
            "FabricFailed",
            &format!("registration with the NVLink fabric failed: {}", Code(status)),
        ),
        _ => {}
    }
    // NVML_GPU_FABRIC_HEALTH_SUMMARY: 1 healthy, 2 unhealthy, 3 limited capacity.
    match interpret::fabric_field::<Option<u32>>(answers, "healthSummary") {
        Known::Value(Some(2)) => {
            verdict.add(
                Severity::Degraded,
                "FabricUnhealthy",
                "the NVLink fabric reports that it is unhealthy",
            );
        }
        Known::Value(Some(3)) => {
            verdict.add(Severity::Degraded, "FabricLimited", "the NVLink fabric runs with limited capacity");
        }
        _ => {}
    }
}

fn clocks(verdict: &mut Verdict, answers: &Answers) {
    let reasons = throttle_reasons(answers).unwrap_or(0);
    if reasons & 0x40 != 0 {
        verdict.add(
            Severity::Degraded,
            "ThermalSlowdown",
            "the hardware slows itself down since it is too hot",
        );
    }
    if reasons & 0x80 != 0 {
        verdict.add(Severity::Degraded, "PowerBrake", "the power supply asks the GPU to slow down");
    }
}

/// Why clocks are lower than they could be (`nvmlClocksEventReasons`).
pub(crate) fn throttle_reasons(answers: &Answers) -> Option<u64> {
    answers
        .known("nvmlDeviceGetCurrentClocksEventReasons")
        .or_else(|| answers.known("nvmlDeviceGetCurrentClocksThrottleReasons"))
        .into_value()
}

/// A verdict in the making: the worst of what was seen.
#[derive(Debug)]
struct Verdict {
    state: HealthState,
    reasons: Vec<HealthReason>,
}

impl Default for Verdict {
    fn default() -> Self {
        Verdict { state: HealthState::Healthy, reasons: Vec::new() }
    }
}

impl Verdict {
    fn add(&mut self, severity: Severity, code: &str, message: &str) {
        let state = match severity {
            Severity::Notice => return,
            Severity::Degraded => HealthState::Degraded,
            Severity::Failed => HealthState::Failed,
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

impl From<Verdict> for Health {
    fn from(verdict: Verdict) -> Health {
        Health { state: verdict.state, reasons: verdict.reasons }
    }
}
