//! Errors that the driver reports by events: NVML's events to incidents of GPUs and MIG devices, and counts of XIDs.
//!
//! An incident is open until there is evidence that it ended: the recovery action that the driver requests went to none, another
//! version of the driver is loaded, or the driver was unloaded or bound to the GPU again, another GPU is in the place, an energy
//! counter began again, or an operator cleared it. The counts restart with the driver and with the GPU.

mod record;

use std::collections::BTreeMap;

use afd_model::{Device, DriverLoad, Known, PciAddress};
use afd_probe::library::events::EventWait;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    NAME,
    nvml::table::XID_EVENT,
    xid::{self, XidSeverity},
    xid_counts::XidCounts,
};

/// The open incidents of a GPU that are of one severity, at most. There are some dozens of codes; the process of a library may send any.
const MAX_OPEN: usize = 32;
/// The instance of an event that concerns the whole GPU.
const WHOLE_GPU: u32 = u32::MAX;

/// Types of events other than XIDs (`nvmlEventType*`): severity, code and message.
const EVENT_TYPES: [(u64, XidSeverity, &str, &str); 7] = [
    (0x2, XidSeverity::Failed, "EccDoubleBit", "an uncorrectable ECC error"),
    (0x200, XidSeverity::Degraded, "EccStorm", "a storm of single-bit ECC errors"),
    (0x400, XidSeverity::Degraded, "DramRetirement", "memory was retired"),
    (0x800, XidSeverity::Failed, "DramRetirementFailed", "memory could not be retired"),
    (0x1000, XidSeverity::Degraded, "Poison", "poisoned data was contained"),
    (0x2000, XidSeverity::Failed, "PoisonFatal", "poisoned data was used"),
    (0x4000, XidSeverity::Failed, "GpuUnavailable", "the driver marked the GPU unavailable"),
];

/// An event as the querying process sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NvmlEvent {
    bus_id: Option<String>,
    event_type: u64,
    event_data: u64,
    gpu_instance_id: u32,
    compute_instance_id: u32,
}

/// The open incidents, and what ends them.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    open: Vec<Incident>,
    gpus: BTreeMap<PciAddress, KnownGpu>,
    wait: EventWait,
}

/// An error that still counts.
#[derive(Debug)]
pub(crate) struct Incident {
    address: PciAddress,
    pub(crate) instance: Option<MigPlace>,
    pub(crate) severity: XidSeverity,
    pub(crate) code: String,
    pub(crate) message: String,
    /// When it was first seen, as the record from which it was restored says.
    first_seen: Option<i64>,
}

/// The GPU instance of an incident, and the compute instance if it is one's; an incident without is that of the whole GPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MigPlace {
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: Option<u32>,
}

/// What was last read of the GPU at an address.
#[derive(Debug, Default)]
struct KnownGpu {
    load: DriverLoad,
    recovery_action: Option<u64>,
    energy: Option<f64>,
    counts: XidCounts,
    /// Whether its XIDs are watched.
    is_watched: bool,
}

impl Incidents {
    /// Adds an event; whether it changes what a discovery shows. Ignores what is not an event of a GPU.
    pub(crate) fn add(&mut self, event: &Value) -> bool {
        let Ok(event) = NvmlEvent::deserialize(event) else {
            return self.wait.update(event);
        };
        let Some(address) = event.bus_id.as_deref().and_then(|id| id.parse::<PciAddress>().ok()) else {
            return false;
        };
        // The process of the library may name any.
        let Some(gpu) = self.gpus.get_mut(&address) else { return false };
        let code = if event.event_type == XID_EVENT {
            let Ok(number) = u32::try_from(event.event_data) else { return false };
            gpu.counts.add(number);
            format!("Xid{number}")
        } else {
            let listed = EVENT_TYPES.iter().find(|(kind, ..)| *kind == event.event_type);
            let Some((_, _, code, _)) = listed else { return false };
            (*code).to_owned()
        };
        let instance = (event.gpu_instance_id != WHOLE_GPU).then(|| MigPlace {
            gpu_instance: event.gpu_instance_id,
            compute_instance: Some(event.compute_instance_id).filter(|id| *id != WHOLE_GPU),
        });
        self.open(address, code, instance, None)
    }

    /// Opens an incident, unless its code is a notice or it is open already; whether it was opened.
    fn open(
        &mut self,
        address: PciAddress,
        code: String,
        instance: Option<MigPlace>,
        first_seen: Option<i64>,
    ) -> bool {
        let Some((severity, message)) = describe(&code) else { return false };
        let is_open = self.open.iter().any(|incident| {
            (incident.address, &incident.code, incident.instance) == (address, &code, instance)
        });
        // A failure finds room beside any number of what is less.
        let is_alike = |incident: &&Incident| incident.severity == severity;
        let has_room = self.of(address).filter(is_alike).count() < MAX_OPEN;
        let is_new = severity != XidSeverity::Notice && !is_open && has_room;
        if is_new {
            self.open.push(Incident { address, instance, severity, code, message, first_seen });
        }
        is_new
    }

    /// Notes what a discovery read of a GPU, and closes the incidents that this ends.
    pub(crate) fn discovered(&mut self, device: &Device, binding: Option<u64>) {
        if device.driver != Known::Value(NAME.to_owned()) {
            return;
        }
        let address = device.id.0;
        let gpu = self.gpus.entry(address).or_default();
        if gpu.load.update(DriverLoad::of(device, binding)) {
            gpu.restart();
            self.close(address);
        }
    }

    /// Notes the recovery action that the driver requests for a GPU.
    pub(crate) fn recovery_action(&mut self, address: PciAddress, action: u64) {
        let Some(gpu) = self.gpus.get_mut(&address) else { return };
        let before = gpu.recovery_action.replace(action);
        if action == 0 && before.is_some_and(|before| before != 0) {
            self.close(address);
        }
    }

    /// Notes the energy that a GPU has counted, which begins again with a reset; whether this closed incidents.
    pub(crate) fn energy(&mut self, address: PciAddress, energy: f64) -> bool {
        let before = self.gpus.get_mut(&address).and_then(|gpu| gpu.energy.replace(energy));
        before.is_some_and(|before| energy < before) && self.close(address)
    }

    /// Notes that the driver is not loaded.
    pub(crate) fn unloaded(&mut self) {
        self.open.clear();
        self.gpus.values_mut().for_each(KnownGpu::restart);
    }

    /// Notes whether the XIDs of a GPU, which the kernel reports, are watched.
    pub(crate) fn watched(&mut self, address: PciAddress, is_watched: bool) {
        self.gpus.entry(address).or_default().is_watched = is_watched;
    }

    /// Closes the incidents of a GPU; whether there were any.
    pub(crate) fn close(&mut self, address: PciAddress) -> bool {
        let before = self.open.len();
        self.open.retain(|incident| incident.address != address);
        self.open.len() < before
    }

    /// The open incidents of a GPU.
    pub(crate) fn of(&self, address: PciAddress) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter(move |incident| incident.address == address)
    }

    /// The XIDs of a GPU, if they are watched.
    pub(crate) fn xids(&self, address: PciAddress) -> Option<&XidCounts> {
        self.gpus.get(&address).filter(|gpu| gpu.is_watched).map(|gpu| &gpu.counts)
    }

    /// Why events cannot be waited for, if they cannot.
    pub(crate) fn wait_error(&self) -> Option<&str> {
        self.wait.error()
    }
}

impl KnownGpu {
    /// The driver or the GPU is another one: what the last one counted and requested is over.
    fn restart(&mut self) {
        let KnownGpu { load, is_watched, .. } = std::mem::take(self);
        *self = KnownGpu { load, is_watched, ..KnownGpu::default() };
    }
}

/// Severity and message of a code.
fn describe(code: &str) -> Option<(XidSeverity, String)> {
    if let Some(number) = code.strip_prefix("Xid") {
        let number: u32 = number.parse().ok()?;
        // A number that the table lacks is newer than the table; an operator should investigate.
        let (severity, meaning) = xid::find(number)
            .map_or((XidSeverity::Degraded, "an error that this version does not know"), |xid| {
                (xid.severity, xid.meaning)
            });
        return Some((severity, format!("XID {number}: {meaning}")));
    }
    let (_, severity, _, message) = EVENT_TYPES.iter().find(|(_, _, known, _)| *known == code)?;
    Some((*severity, (*message).to_owned()))
}

#[cfg(test)]
mod tests;
