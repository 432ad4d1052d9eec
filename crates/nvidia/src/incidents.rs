//! Errors that the driver reports by events: NVML's events to incidents of GPUs and MIG devices, and counts of XIDs.
//!
//! An incident is open until a discovery after the one that it caused reads that the driver requests no recovery action;
//! where the driver does not report recovery actions, until the agent is restarted.

use std::collections::BTreeMap;

use afd_model::PciAddress;
use serde::Deserialize;
use serde_json::Value;

use crate::xid::{self, XidSeverity};

/// The instance of an event that concerns the whole GPU.
const WHOLE_GPU: u32 = u32::MAX;

/// `nvmlEventTypeXidCriticalError`.
const XID_EVENT: u64 = 0x8;
/// Other types of events (`nvmlEventType*`): severity, code and message.
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

/// The events since the agent started.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    open: Vec<Incident>,
    xids: BTreeMap<(PciAddress, u32), u64>,
    last_xid: BTreeMap<PciAddress, u32>,
}

/// An error that still counts.
#[derive(Debug)]
pub(crate) struct Incident {
    address: PciAddress,
    /// GPU instance, and compute instance of it; none for the whole GPU.
    pub(crate) instance: Option<(u32, Option<u32>)>,
    pub(crate) severity: XidSeverity,
    pub(crate) code: String,
    pub(crate) message: String,
    discoveries_since: u32,
}

impl Incidents {
    /// Adds an event. Ignores what is not an event of a GPU.
    pub(crate) fn add(&mut self, event: &Value) {
        let Ok(event) = NvmlEvent::deserialize(event) else { return };
        let Some(address) = event.bus_id.as_deref().and_then(|id| id.parse::<PciAddress>().ok()) else {
            return;
        };
        let (severity, code, message) = if event.event_type == XID_EVENT {
            let Ok(number) = u32::try_from(event.event_data) else { return };
            *self.xids.entry((address, number)).or_default() += 1;
            self.last_xid.insert(address, number);
            // A number that the table lacks is newer than the table; an operator should investigate.
            let (severity, meaning) = xid::find(number)
                .map_or((XidSeverity::Degraded, "an error that this version does not know"), |xid| {
                    (xid.severity, xid.meaning)
                });
            (severity, format!("Xid{number}"), format!("XID {number}: {meaning}"))
        } else {
            let listed = EVENT_TYPES.iter().find(|(kind, ..)| *kind == event.event_type);
            let Some((_, severity, code, message)) = listed else { return };
            (*severity, (*code).to_owned(), (*message).to_owned())
        };
        if severity == XidSeverity::Notice {
            return;
        }
        let instance = (event.gpu_instance_id != WHOLE_GPU).then(|| {
            let compute = Some(event.compute_instance_id).filter(|id| *id != WHOLE_GPU);
            (event.gpu_instance_id, compute)
        });
        self.open.retain(|incident| {
            (incident.address, &incident.code, incident.instance) != (address, &code, instance)
        });
        self.open.push(Incident { address, instance, severity, code, message, discoveries_since: 0 });
    }

    /// Notes a discovery of a GPU, and whether the driver requests no recovery action: then older incidents are closed.
    pub(crate) fn discovered(&mut self, address: PciAddress, is_recovered: bool) {
        for incident in self.open.iter_mut().filter(|incident| incident.address == address) {
            incident.discoveries_since += 1;
        }
        if is_recovered {
            self.open.retain(|incident| incident.address != address || incident.discoveries_since < 2);
        }
    }

    /// The open incidents of a GPU.
    pub(crate) fn open(&self, address: PciAddress) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter(move |incident| incident.address == address)
    }

    /// The XIDs of a GPU, each with the number of its events.
    pub(crate) fn xids(&self, address: PciAddress) -> impl Iterator<Item = (u32, u64)> {
        self.xids
            .iter()
            .filter(move |((gpu, _), _)| *gpu == address)
            .map(|((_, number), count)| (*number, *count))
    }

    /// The last XID of a GPU.
    pub(crate) fn last_xid(&self, address: PciAddress) -> Option<u32> {
        self.last_xid.get(&address).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GPU: PciAddress = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };

    fn event(kind: u64, value: u64) -> Value {
        json!({
            "busId": "00000000:01:00.0", "eventType": kind, "eventData": value,
            "gpuInstanceId": WHOLE_GPU, "computeInstanceId": WHOLE_GPU,
        })
    }

    fn open(incidents: &Incidents) -> Vec<&str> {
        incidents.open(GPU).map(|incident| incident.code.as_str()).collect()
    }

    #[test]
    fn an_incident_is_closed_by_the_second_discovery_without_a_recovery_action() {
        let mut incidents = Incidents::default();
        incidents.add(&event(XID_EVENT, 48));
        incidents.discovered(GPU, false);
        assert_eq!(open(&incidents), ["Xid48"]);
        incidents.discovered(GPU, false);
        assert_eq!(open(&incidents), ["Xid48"]);
        incidents.discovered(GPU, true);
        assert!(open(&incidents).is_empty());

        incidents.add(&event(0x4000, 0));
        incidents.discovered(GPU, true);
        assert_eq!(open(&incidents), ["GpuUnavailable"], "the event itself caused this discovery");
    }

    #[test]
    fn a_notice_is_counted_and_opens_no_incident() {
        let mut incidents = Incidents::default();
        incidents.add(&event(XID_EVENT, 31));
        incidents.add(&event(XID_EVENT, 31));
        incidents.add(&event(0x40, 0));
        incidents.add(&json!({ "error": "UNKNOWN" }));
        assert!(open(&incidents).is_empty());
        assert_eq!(
            (incidents.xids(GPU).collect::<Vec<_>>(), incidents.last_xid(GPU)),
            (vec![(31, 2)], Some(31))
        );
    }

    #[test]
    fn an_xid_that_the_table_lacks_is_degraded() {
        let mut incidents = Incidents::default();
        incidents.add(&event(XID_EVENT, 9999));
        let severities: Vec<_> = incidents.open(GPU).map(|incident| incident.severity).collect();
        assert_eq!(severities, [XidSeverity::Degraded]);
    }
}
