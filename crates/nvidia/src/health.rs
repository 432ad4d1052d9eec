//! Whether a GPU or MIG device may take work: NVML's recovery action, remapped rows, retired pages, fabric, clocks, and
//! the XIDs and other events that the driver told.
//!
//! A GPU is healthy if NVML answers for it and nothing below is the matter. An event counts until a discovery after the
//! one that it caused finds the driver asking for no action any more; where the driver does not tell of actions, until
//! the GPU or the agent is started anew.

use std::collections::BTreeMap;

use afd_model::{Device, Health, HealthReason, HealthState, Known, PciAddress};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    interpret,
    nvml::{
        answers::{Answers, Code},
        field,
    },
    xids::{self, Severity},
};

/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
const RECOVERY_ACTION: u32 = 230;
/// What NVML gives as instance of an event that concerns the whole GPU.
const WHOLE: u32 = u32::MAX;

/// Kinds of events (`nvmlEventType*`).
const XID: u64 = 0x8;
const KINDS: [(u64, Severity, &str, &str); 7] = [
    (0x2, Severity::Failed, "EccDoubleBit", "an ECC error that could not be put right"),
    (0x200, Severity::Degraded, "EccStorm", "a storm of single-bit ECC errors"),
    (0x400, Severity::Degraded, "DramRetirement", "memory was retired"),
    (0x800, Severity::Failed, "DramRetirementFailed", "memory could not be retired"),
    (0x1000, Severity::Degraded, "Poison", "poisoned data was contained"),
    (0x2000, Severity::Failed, "PoisonFatal", "poisoned data was used"),
    (0x4000, Severity::Failed, "GpuUnavailable", "the driver gave the GPU up"),
];

/// An event as the child sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    bus_id: Option<String>,
    event_type: u64,
    event_data: u64,
    gpu_instance_id: u32,
    compute_instance_id: u32,
}

/// What the driver told since the agent looks.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    open: Vec<Incident>,
    xids: BTreeMap<(PciAddress, u32), u64>,
    last_xid: BTreeMap<PciAddress, u32>,
}

#[derive(Debug)]
struct Incident {
    address: PciAddress,
    /// GPU instance, and compute instance of it.
    instance: Option<(u32, Option<u32>)>,
    severity: Severity,
    code: String,
    message: String,
    /// Discoveries since.
    looks: u32,
}

impl Incidents {
    /// Takes in an event; whether it was one of ours.
    pub(crate) fn happened(&mut self, event: &Value) -> bool {
        let Ok(event) = Event::deserialize(event) else { return false };
        let Some(address) = event.bus_id.as_deref().and_then(|id| id.parse::<PciAddress>().ok()) else {
            return false;
        };
        let (severity, code, message) = if event.event_type == XID {
            let Ok(number) = u32::try_from(event.event_data) else { return false };
            *self.xids.entry((address, number)).or_default() += 1;
            self.last_xid.insert(address, number);
            let row = xids::find(number);
            (row.severity, format!("Xid{number}"), format!("XID {number}: {}", row.meaning))
        } else {
            let known = KINDS.iter().find(|(kind, ..)| *kind == event.event_type);
            let Some((_, severity, code, message)) = known else { return true };
            (*severity, (*code).to_owned(), (*message).to_owned())
        };
        if severity != Severity::Program {
            let instance = (event.gpu_instance_id != WHOLE).then(|| {
                let compute = Some(event.compute_instance_id).filter(|id| *id != WHOLE);
                (event.gpu_instance_id, compute)
            });
            self.open.retain(|incident| {
                (incident.address, &incident.code, incident.instance) != (address, &code, instance)
            });
            self.open.push(Incident { address, instance, severity, code, message, looks: 0 });
        }
        true
    }

    /// A discovery has read the GPU: what no longer counts is closed.
    fn looked(&mut self, address: PciAddress, action: &Known<u32>) {
        for incident in self.open.iter_mut().filter(|incident| incident.address == address) {
            incident.looks += 1;
        }
        if *action == Known::Value(0) {
            self.open.retain(|incident| incident.address != address || incident.looks < 2);
        }
    }

    /// XIDs of a GPU with how often each came.
    pub(crate) fn xids(&self, address: PciAddress) -> impl Iterator<Item = (u32, u64)> {
        self.xids
            .iter()
            .filter(move |((of, _), _)| *of == address)
            .map(|((_, number), count)| (*number, *count))
    }

    /// The last XID of a GPU.
    pub(crate) fn last_xid(&self, address: PciAddress) -> Option<u32> {
        self.last_xid.get(&address).copied()
    }
}

/// The verdict on a GPU for which NVML answered, and on its MIG devices.
pub(crate) fn judge(device: &mut Device, answers: &Answers, incidents: &mut Incidents) {
    let address = device.id.0;
    let action = answers.known::<u32>(&field(RECOVERY_ACTION, 0));
    incidents.looked(address, &action);
    let mut verdict = Verdict::default();
    recovery(&mut verdict, &action);
    rows(&mut verdict, answers);
    fabric(&mut verdict, answers);
    clocks(&mut verdict, answers);
    let fatal = answers.errors().find(|(_, code)| matches!(*code, Code::GPU_IS_LOST | Code::RESET_REQUIRED));
    if let Some((_, code)) = fatal {
        verdict.merge(of_code(code));
    }
    let ours = || incidents.open.iter().filter(|incident| incident.address == address);
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
            Severity::Program => return,
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
