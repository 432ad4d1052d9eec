//! What ends a fault that only a load of the driver ends, and what a later process restores of it.

use super::*;

/// The records of a process that found a new record of a fatal error, and those records of the driver.
fn process_with_fatal_record(gpu: &Device) -> (IncidentRecord, Vec<CperRecord>) {
    let records = [record(CperSeverity::Fatal, 1), record(CperSeverity::Fatal, 2)];
    let mut histories = BTreeMap::new();
    for records in [&records[..1], &records[..]] {
        judge(&mut [gpu.clone()], BTreeMap::from([(gpu.id, recorded(records))]), &mut histories, true);
    }
    (histories[&gpu.id].incident(gpu.id).expect("a fatal error was recorded"), records.to_vec())
}

/// The state after a discovery of a process that restored a record after its first discovery.
fn restored(gpu: &Device, incident: IncidentRecord, records: &[CperRecord]) -> HealthState {
    let mut histories = BTreeMap::new();
    let mut devices = [gpu.clone()];
    for _ in 0..2 {
        devices = [gpu.clone()];
        judge(&mut devices, BTreeMap::from([(gpu.id, recorded(records))]), &mut histories, true);
        histories.entry(gpu.id).or_default().restore(incident.clone());
    }
    judge(&mut devices, BTreeMap::from([(gpu.id, recorded(records))]), &mut histories, true);
    devices[0].health.state
}

#[test]
fn a_restart_of_the_agent_does_not_forget_a_fatal_error() {
    let gpu = device_of_driver("6.12", "0123456789abcdef");
    let (incident, records) = process_with_fatal_record(&gpu);
    assert_eq!(restored(&gpu, incident, &records), HealthState::Failed);
}

#[test]
fn a_fatal_error_of_another_board_or_driver_is_not_restored() {
    let (incident, records) = process_with_fatal_record(&device_of_driver("6.12", "0123456789abcdef"));
    for other in [("6.12", "fedcba9876543210"), ("6.14", "0123456789abcdef")] {
        let gpu = device_of_driver(other.0, other.1);
        assert_eq!(restored(&gpu, incident.clone(), &records), HealthState::Healthy);
    }
}

/// The version of the driver is the same, and so are the records in its ring.
#[test]
fn a_fatal_error_ends_when_the_driver_was_bound_again() {
    let gpu = device_of_driver("6.12", "0123456789abcdef");
    let fatal = record(CperSeverity::Fatal, 1);
    let bound = |binding, records: &[CperRecord]| {
        Some(HealthEvidence { binding: Some(binding), ..recorded(records) })
    };
    let seen = |last| observed(std::slice::from_ref(&gpu), vec![bound(7, &[]), bound(7, &[fatal]), last]).0;
    assert_eq!(seen(bound(7, &[fatal])), HealthState::Failed);
    assert_eq!(seen(bound(8, &[fatal])), HealthState::Healthy);
    let unread = HealthEvidence { binding: None, ..recorded(&[fatal]) };
    assert_eq!(seen(Some(unread)), HealthState::Failed, "what cannot be read is no difference");
}

#[test]
fn a_fatal_error_of_an_earlier_binding_is_not_restored() {
    let gpu = device_of_driver("6.12", "0123456789abcdef");
    let (incident, records) = process_with_fatal_record(&gpu);
    let of_binding = |recorded_binding, binding| {
        let mut histories = BTreeMap::new();
        let load = DriverLoad { driver_binding: recorded_binding, ..incident.load.clone() };
        let incident = IncidentRecord { load, ..incident.clone() };
        histories.entry(gpu.id).or_insert_with(HealthHistory::default).restore(incident);
        let evidence = HealthEvidence { binding, ..recorded(&records) };
        let mut devices = [gpu.clone()];
        judge(&mut devices, BTreeMap::from([(gpu.id, evidence)]), &mut histories, true);
        let [device] = devices;
        device.health.state
    };
    assert_eq!(of_binding(Some(7), Some(7)), HealthState::Failed);
    assert_eq!(of_binding(Some(7), Some(8)), HealthState::Healthy);
    assert_eq!(of_binding(None, Some(8)), HealthState::Failed, "the record of an earlier release");
}

#[test]
fn an_empty_ring_ends_a_restored_fatal_error_and_so_does_clear() {
    let gpu = device_of_driver("6.12", "0123456789abcdef");
    let (incident, _) = process_with_fatal_record(&gpu);
    assert_eq!(restored(&gpu, incident.clone(), &[]), HealthState::Healthy);
    let mut history = HealthHistory::default();
    history.restore(incident);
    assert!(history.clear());
    assert!(history.incident(gpu.id).is_none());
    assert!(!history.clear());
}
