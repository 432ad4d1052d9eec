//! Critical errors, which HLML reports by events. Each is counted, and fails its device until the device was reset and works
//! again.
//!
//! Events of memory errors open nothing: they request a discovery, which reads the counters of the errors.

use std::collections::BTreeMap;

use afd_model::{
    Device, DeviceId, DriverLoad, ErrorCountRecord, ErrorDetail, ErrorKind, IncidentRecord, Missing, Problem,
    Quantity, Reading, Sampling,
};
use afd_probe::library::events::EventWait;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    NAME,
    hlml::events::{CRITICAL, MEMORY_EVENTS},
};

/// The reason of the health of a device with a critical error.
pub(crate) const CODE: &str = "CriticalEvent";
/// The number under which the events are remembered.
const NUMBER: u32 = CRITICAL as u32;

/// An event as the querying process sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HlmlEvent {
    bus_id: Option<String>,
    event_type: u64,
}

/// The critical errors of all devices.
#[derive(Debug, Default)]
pub(crate) struct GaudiIncidents {
    devices: BTreeMap<DeviceId, CriticalErrors>,
    wait: EventWait,
}

/// The critical errors of a device.
#[derive(Debug, Default)]
struct CriticalErrors {
    load: DriverLoad,
    /// Whether its events are registered.
    is_watched: bool,
    events: u64,
    open: Option<OpenError>,
}

/// An error that still counts.
#[derive(Debug, Default)]
struct OpenError {
    first_seen: Option<i64>,
    /// Resets that the driver had counted in the first discovery after it.
    resets: Option<u64>,
}

impl GaudiIncidents {
    /// Adds an event, and notes in `sampling` whether it changes what a discovery shows. Ignores what is not an event of a device.
    pub(crate) fn add(&mut self, event: &Value, sampling: &mut Sampling) {
        let Ok(event) = HlmlEvent::deserialize(event) else {
            sampling.has_news |= self.wait.update(event);
            return;
        };
        let text = event.bus_id.unwrap_or_default();
        let address = text.parse().or_else(|_| format!("0000:{text}").parse());
        let Ok(device) = address.map(|address: afd_model::PciAddress| DeviceId::from(address)) else {
            return;
        };
        if event.event_type & CRITICAL == 0 {
            // What it changes is not known, and they may be many: such discoveries become rare while they find nothing.
            sampling.rediscover |= event.event_type & MEMORY_EVENTS != 0;
            return;
        }
        let errors = self.devices.entry(device).or_default();
        errors.events = errors.events.saturating_add(1);
        sampling.has_news |= errors.open.is_none();
        // A reset that follows another error ends that one, not this one.
        errors.open =
            Some(OpenError { first_seen: errors.open.take().and_then(|open| open.first_seen), resets: None });
    }

    /// Notes what a discovery read of a device, and closes the error of another device or load of the driver, and that of a
    /// device that works after a reset.
    pub(crate) fn discovered(
        &mut self,
        device: &Device,
        binding: Option<u64>,
        is_operational: bool,
        resets: Option<u64>,
    ) {
        let errors = self.devices.entry(device.id).or_default();
        if errors.load.update(DriverLoad::of(device, binding)) {
            (errors.open, errors.events) = (None, 0);
        }
        let Some(open) = &mut errors.open else { return };
        match (open.resets, resets) {
            (None, resets) => open.resets = resets,
            (Some(before), Some(now)) if now < before => open.resets = Some(now),
            (Some(before), Some(now)) if now > before && is_operational => errors.open = None,
            _ => {}
        }
    }

    /// Notes whether the events of a device are registered.
    pub(crate) fn watched(&mut self, device: DeviceId, is_watched: bool) {
        self.devices.entry(device).or_default().is_watched = is_watched;
    }

    /// Forgets devices that are not there.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&DeviceId) -> bool) {
        self.devices.retain(|device, _| is_there(device));
    }

    /// Whether a device has an open error.
    pub(crate) fn is_open(&self, device: DeviceId) -> bool {
        self.devices.get(&device).is_some_and(|errors| errors.open.is_some())
    }

    /// Closes the error of a device; whether there was one.
    pub(crate) fn close(&mut self, device: DeviceId) -> bool {
        self.devices.get_mut(&device).is_some_and(|errors| errors.open.take().is_some())
    }

    /// How often each device whose events are registered reported a critical error.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (DeviceId, Reading)> {
        let watched = self.devices.iter().filter(|(_, errors)| errors.is_watched || errors.events > 0);
        watched.map(|(device, errors)| {
            let quantity = Quantity::Errors(ErrorKind::Critical, ErrorDetail::Device);
            (*device, Reading { quantity, value: errors.events as f64 })
        })
    }

    /// That events cannot be waited for, if they cannot.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let error = self.wait.error()?;
        Some(Problem {
            probe: NAME.to_owned(),
            device: None,
            fact: "events".to_owned(),
            reason: Missing::Unreadable,
            path: None,
            message: format!("events cannot be waited for: {error}"),
        })
    }

    /// All open errors, in the form in which they outlive this process.
    pub(crate) fn records(&self) -> Vec<IncidentRecord> {
        let record = |(device, errors): (&DeviceId, &CriticalErrors)| {
            let open = errors.open.as_ref()?;
            Some(IncidentRecord {
                probe: NAME.to_owned(),
                device: *device,
                load: errors.load.clone(),
                partition: None,
                code: CODE.to_owned(),
                first_seen: open.first_seen,
                resets: open.resets,
            })
        };
        self.devices.iter().filter_map(record).collect()
    }

    /// Opens the errors of records, unless they are of another device or driver. A reset while no agent ran counts, where the
    /// record says how many there were before.
    pub(crate) fn restore(&mut self, records: Vec<IncidentRecord>) {
        for record in records.into_iter().filter(|record| record.probe == NAME && record.code == CODE) {
            let errors = self.devices.entry(record.device).or_default();
            if errors.load.adopt(record.load) {
                errors.open = Some(OpenError { first_seen: record.first_seen, resets: record.resets });
            }
        }
    }

    /// The counts, in the form in which they outlive this process.
    pub(crate) fn count_records(&self) -> Vec<ErrorCountRecord> {
        let counted = self.devices.iter().filter(|(_, errors)| errors.events > 0);
        let record = |(device, errors): (&DeviceId, &CriticalErrors)| ErrorCountRecord {
            probe: NAME.to_owned(),
            device: *device,
            load: errors.load.clone(),
            counts: BTreeMap::from([(NUMBER, errors.events)]),
            last: NUMBER,
        };
        counted.map(record).collect()
    }

    /// Continues the counts of records, unless they are of another device or driver.
    pub(crate) fn restore_counts(&mut self, records: Vec<ErrorCountRecord>) {
        for record in records.into_iter().filter(|record| record.probe == NAME) {
            let errors = self.devices.entry(record.device).or_default();
            if errors.load.adopt(record.load) {
                let before = record.counts.get(&NUMBER).copied().unwrap_or_default();
                errors.events = errors.events.saturating_add(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Known, PciAddress, Variant, Vendor};
    use serde_json::json;

    use super::*;

    const ADDRESS: PciAddress = PciAddress { domain: 0, bus: 0x19, device: 0, function: 0 };

    fn device(uuid: &str) -> Device {
        let mut device = Device::bare(ADDRESS, Vendor::Intel, Variant::Hpu);
        device.uuid = Known::Value(uuid.to_owned());
        device
    }

    fn critical() -> Value {
        json!({ "busId": "0000:19:00.0", "eventType": CRITICAL })
    }

    /// Whether an event is news, and whether it only requests a discovery.
    fn add(incidents: &mut GaudiIncidents, event: &Value) -> (bool, bool) {
        let mut sampling = Sampling::default();
        incidents.add(event, &mut sampling);
        (sampling.has_news, sampling.rediscover)
    }

    #[test]
    fn an_error_is_open_until_the_device_works_after_a_reset() {
        let mut incidents = GaudiIncidents::default();
        let is_open = |incidents: &GaudiIncidents| incidents.is_open(ADDRESS.into());
        assert_eq!(add(&mut incidents, &critical()), (true, false));
        assert!(is_open(&incidents));
        assert_eq!(add(&mut incidents, &critical()), (false, false), "nothing new for a discovery");
        incidents.discovered(&device("A"), Some(7), true, Some(3));
        assert!(is_open(&incidents), "it says that it is operational before it is reset as well");
        incidents.discovered(&device("A"), Some(7), false, Some(4));
        assert!(is_open(&incidents));
        incidents.discovered(&device("A"), Some(7), true, Some(4));
        assert!(!is_open(&incidents));
        let counted: Vec<f64> = incidents.readings().map(|(_, reading)| reading.value).collect();
        assert_eq!(counted, [2.0]);
    }

    #[test]
    fn an_event_of_the_memory_requests_a_discovery_and_is_no_news() {
        let mut incidents = GaudiIncidents::default();
        let mut of = |event: Value| add(&mut incidents, &event);
        assert_eq!(
            of(json!({ "busId": "19:00.0", "eventType": 1 })),
            (false, true),
            "a storm of them backs off"
        );
        assert_eq!(of(json!({ "busId": "19:00.0", "eventType": 4 })), (false, false), "of the clock");
        assert_eq!(of(json!({ "busId": null, "eventType": CRITICAL })), (false, false), "no one's event");
        assert!(incidents.records().is_empty());
    }

    #[test]
    fn another_agent_continues_and_another_device_does_not() {
        let mut first = GaudiIncidents::default();
        first.discovered(&device("A"), Some(7), true, Some(1));
        add(&mut first, &critical());
        let restored = |uuid: &str| {
            let mut next = GaudiIncidents::default();
            next.restore(first.records());
            next.restore_counts(first.count_records());
            next.discovered(&device(uuid), Some(7), true, Some(1));
            (next.is_open(ADDRESS.into()), next.readings().map(|(_, reading)| reading.value).sum::<f64>())
        };
        assert_eq!(restored("A"), (true, 1.0));
        assert_eq!(restored("B"), (false, 0.0));
    }

    #[test]
    fn a_reset_while_no_agent_runs_ends_an_error() {
        let mut first = GaudiIncidents::default();
        add(&mut first, &critical());
        first.discovered(&device("A"), Some(7), true, Some(1));
        let text = serde_json::to_string(&first.records()).expect("records are JSON");
        let is_open_after = |resets: u64| {
            let mut next = GaudiIncidents::default();
            next.restore(serde_json::from_str(&text).expect("they are read back"));
            next.discovered(&device("A"), Some(7), true, Some(resets));
            next.is_open(ADDRESS.into())
        };
        assert!(is_open_after(1));
        assert!(!is_open_after(2));
    }

    #[test]
    fn a_wait_that_fails_is_a_problem_until_it_works() {
        let mut incidents = GaudiIncidents::default();
        assert_eq!(add(&mut incidents, &json!({ "error": "UNKNOWN" })), (true, false));
        assert!(incidents.problem().is_some_and(|problem| problem.message.contains("UNKNOWN")));
        assert_eq!(add(&mut incidents, &json!({ "error": null })), (true, false));
        assert_eq!(incidents.problem(), None);
    }
}
