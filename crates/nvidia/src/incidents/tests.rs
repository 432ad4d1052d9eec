use afd_model::{PciId, Variant, Vendor};
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
    incidents.of(GPU).map(|incident| incident.code.as_str()).collect()
}

fn device(uuid: &str, driver_version: &str) -> Device {
    let mut device = Device::bare(GPU, Vendor::Nvidia, Variant::Gpu);
    device.driver = Known::Value(NAME.to_owned());
    (device.pci.vendor_id, device.pci.device_id) = (Known::Value(PciId(0x10de)), Known::Value(PciId(0x2330)));
    device.uuid = Known::Value(uuid.to_owned());
    device.driver_version = Known::Value(driver_version.to_owned());
    device
}

fn of_discovered_gpu() -> Incidents {
    let mut incidents = Incidents::default();
    incidents.discovered(&device("GPU-a", "580.1"), Some(7));
    incidents
}

fn with_xid_48() -> Incidents {
    let mut incidents = of_discovered_gpu();
    incidents.watched(GPU, true);
    incidents.add(&event(XID_EVENT, 48));
    assert_eq!(open(&incidents), ["Xid48"]);
    incidents
}

fn count(incidents: &Incidents) -> f64 {
    incidents.xids(GPU).expect("they are watched").readings().map(|reading| reading.value).sum()
}

#[test]
fn an_incident_ends_only_by_evidence() {
    let mut incidents = with_xid_48();
    for _ in 0..3 {
        incidents.discovered(&device("GPU-a", "580.1"), Some(7));
        incidents.discovered(&device("GPU-a", "580.1"), None);
        incidents.recovery_action(GPU, 0);
        incidents.energy(GPU, 700.0);
    }
    assert_eq!(open(&incidents), ["Xid48"], "that the driver requests nothing is no change");
    incidents.recovery_action(GPU, 1);
    assert_eq!(open(&incidents), ["Xid48"]);
    incidents.recovery_action(GPU, 0);
    assert!(open(&incidents).is_empty());
    assert!(count(&incidents) > 0.0, "counts live with the driver, not with the incident");

    let mut incidents = with_xid_48();
    incidents.energy(GPU, 700.0);
    incidents.energy(GPU, 3.0);
    assert!(open(&incidents).is_empty(), "a reset starts the energy again");

    let mut incidents = with_xid_48();
    assert!(incidents.close(GPU));
    assert!(!incidents.close(GPU));
}

#[test]
fn another_driver_another_gpu_and_an_unloaded_driver_end_incidents_and_counts() {
    let ends: [fn(&mut Incidents); 4] = [
        |incidents| incidents.discovered(&device("GPU-a", "590.2"), Some(7)),
        |incidents| incidents.discovered(&device("GPU-b", "580.1"), Some(7)),
        |incidents| incidents.discovered(&device("GPU-a", "580.1"), Some(8)),
        Incidents::unloaded,
    ];
    for end in ends {
        let mut incidents = with_xid_48();
        end(&mut incidents);
        assert!(open(&incidents).is_empty());
        assert!(count(&incidents).abs() < f64::EPSILON);
    }
}

#[test]
fn a_device_without_the_driver_is_no_evidence() {
    let mut incidents = with_xid_48();
    let mut unbound = device("GPU-a", "6.8.0-60-generic");
    unbound.driver = Known::default();
    incidents.discovered(&unbound, Some(7));
    assert_eq!(open(&incidents), ["Xid48"]);
}

#[test]
fn incidents_survive_in_records_unless_gpu_or_driver_is_another_one() {
    let mut first = with_xid_48();
    let of_instance = json!({
        "busId": "00000000:01:00.0", "eventType": XID_EVENT, "eventData": 95,
        "gpuInstanceId": 1, "computeInstanceId": WHOLE_GPU,
    });
    first.add(&of_instance);
    let mut records = first.records();
    assert_eq!(records[0].load.pci_id.as_deref(), Some("10de:2330"));
    assert_eq!((records[1].code.as_str(), records[1].partition.as_deref()), ("Xid95", Some("gi1")));
    records[0].first_seen = Some(1_700_000_000);
    let text = serde_json::to_string(&records).expect("it can be written");
    let records: Vec<afd_model::IncidentRecord> = serde_json::from_str(&text).expect("it was just written");

    let mut next = Incidents::default();
    next.restore(records.clone());
    next.discovered(&device("GPU-a", "580.1"), Some(7));
    assert_eq!(next.records(), records);
    for (uuid, driver, binding) in [("GPU-b", "580.1", 7), ("GPU-a", "590.2", 7), ("GPU-a", "580.1", 8)] {
        let mut later = Incidents::default();
        later.restore(records.clone());
        later.discovered(&device(uuid, driver), Some(binding));
        assert!(open(&later).is_empty(), "{uuid} {driver} {binding}");
        let mut earlier = Incidents::default();
        earlier.discovered(&device(uuid, driver), Some(binding));
        earlier.restore(records.clone());
        assert!(open(&earlier).is_empty(), "{uuid} {driver} {binding}");
    }
}

#[test]
fn a_notice_is_counted_and_opens_no_incident() {
    let mut incidents = of_discovered_gpu();
    incidents.add(&event(XID_EVENT, 31));
    incidents.add(&event(XID_EVENT, 31));
    incidents.add(&event(0x40, 0));
    assert!(open(&incidents).is_empty());
    assert!(incidents.xids(GPU).is_none(), "they are not watched");
    incidents.watched(GPU, true);
    assert!(incidents.xids(GPU).is_some());
}

#[test]
fn a_wait_that_fails_is_known_until_it_succeeds() {
    let mut incidents = Incidents::default();
    incidents.add(&json!({ "error": "GPU_IS_LOST" }));
    assert_eq!(incidents.wait_error(), Some("GPU_IS_LOST"));
    incidents.add(&json!({ "error": null }));
    assert_eq!(incidents.wait_error(), None);
}

#[test]
fn an_xid_that_the_table_lacks_is_degraded() {
    let mut incidents = of_discovered_gpu();
    incidents.add(&event(XID_EVENT, 9999));
    let severities: Vec<_> = incidents.of(GPU).map(|incident| incident.severity).collect();
    assert_eq!(severities, [XidSeverity::Degraded]);
}

#[test]
fn events_without_end_open_a_limited_number_of_incidents() {
    let mut incidents = of_discovered_gpu();
    incidents.watched(GPU, true);
    let news = (1000..2000).filter(|number| incidents.add(&event(XID_EVENT, *number))).count();
    assert_eq!((news, open(&incidents).len()), (MAX_OPEN, MAX_OPEN));
    let [record] = &incidents.count_records()[..] else { panic!("there is one GPU") };
    assert_eq!((record.counts.len(), record.counts.values().sum::<u64>(), record.last), (257, 1000, 1999));
    assert!(incidents.add(&event(XID_EVENT, 79)), "a failure finds room");
    assert_eq!(incidents.count_records()[0].counts[&79], 1, "it has a counter of its own");

    let mut other = event(XID_EVENT, 48);
    other["busId"] = json!("00000000:02:00.0");
    assert!(!incidents.add(&other), "no discovery has found it");
    incidents.energy(PciAddress { bus: 2, ..GPU }, 1.0);
    assert_eq!(incidents.gpus.len(), 1);
}
