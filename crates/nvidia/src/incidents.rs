//! What the driver told of errors by events, and how long it counts.
//!
//! An event counts until a discovery after the one that it caused finds the driver asking for no action any more; where the
//! driver does not tell of actions, until the GPU or the agent is started anew.

use std::collections::BTreeMap;

use afd_model::{Known, PciAddress};
use serde::Deserialize;
use serde_json::Value;

use crate::xid::{self, XidSeverity as Severity};

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

/// An event that is not over.
#[derive(Debug)]
pub(crate) struct Incident {
    address: PciAddress,
    /// GPU instance, and compute instance of it.
    pub(crate) instance: Option<(u32, Option<u32>)>,
    pub(crate) severity: Severity,
    pub(crate) code: String,
    pub(crate) message: String,
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
            // One that the table lacks is newer than it, and somebody should look into it.
            let (severity, meaning) = xid::find(number)
                .map_or((Severity::Degraded, "an error that this version does not know"), |xid| {
                    (xid.severity, xid.meaning)
                });
            (severity, format!("Xid{number}"), format!("XID {number}: {meaning}"))
        } else {
            let known = KINDS.iter().find(|(kind, ..)| *kind == event.event_type);
            let Some((_, severity, code, message)) = known else { return true };
            (*severity, (*code).to_owned(), (*message).to_owned())
        };
        if severity != Severity::Notice {
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
    pub(crate) fn looked(&mut self, address: PciAddress, action: &Known<u32>) {
        for incident in self.open.iter_mut().filter(|incident| incident.address == address) {
            incident.looks += 1;
        }
        if *action == Known::Value(0) {
            self.open.retain(|incident| incident.address != address || incident.looks < 2);
        }
    }

    /// What is not over on a GPU.
    pub(crate) fn open(&self, address: PciAddress) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter(move |incident| incident.address == address)
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
