use afd_model::{PciAddress, Variant, Vendor};
use serde_json::json;

use super::*;
use crate::hlml::calls::{NIC_LINK, NIC_PORTS, SERIAL};

fn by_status(status: GaudiStatus) -> GaudiEvidence {
    GaudiEvidence { status: Some(status), ..GaudiEvidence::default() }
}

fn by_library(fill: impl FnOnce(&mut HlmlAnswers)) -> GaudiEvidence {
    let mut answers = HlmlAnswers::default();
    fill(&mut answers);
    GaudiEvidence {
        library: LibraryEvidence::of(&answers),
        is_answering: true,
        is_fresh: true,
        ..by_status(GaudiStatus::Operational)
    }
}

/// The states and first reasons of a device over several discoveries, a minute apart.
fn judged(discoveries: &[GaudiEvidence]) -> Vec<(HealthState, Option<String>)> {
    let discoveries: Vec<_> =
        (0..).step_by(60).zip(discoveries.iter().cloned().map(|own| (own, None))).collect();
    judged_with_peer(&discoveries)
}

/// The same, each discovery with its time in seconds, and with the status of another device of the node.
fn judged_with_peer(
    discoveries: &[(u64, (GaudiEvidence, Option<GaudiStatus>))],
) -> Vec<(HealthState, Option<String>)> {
    let start = Instant::now();
    let peer = PciAddress { domain: 0, bus: 0x1a, device: 0, function: 0 };
    let address = PciAddress { domain: 0, bus: 0x19, device: 0, function: 0 };
    let mut histories = BTreeMap::new();
    let verdict = |(seconds, (evidence, status)): &(u64, (GaudiEvidence, Option<GaudiStatus>))| {
        let mut devices = [Device::bare(address, Vendor::Intel, Variant::Hpu)];
        let of_peer = GaudiEvidence { status: *status, ..GaudiEvidence::default() };
        let evidence = BTreeMap::from([(address.into(), evidence.clone()), (peer.into(), of_peer)]);
        judge(&mut devices, &evidence, &mut histories, start + Duration::from_secs(*seconds));
        let [device] = devices;
        (device.health.state, device.health.reasons.first().map(|reason| reason.code.clone()))
    };
    discoveries.iter().map(verdict).collect()
}

fn first(evidence: GaudiEvidence) -> (HealthState, Option<String>) {
    judged(&[evidence]).remove(0)
}

fn reason(state: HealthState, code: &str) -> (HealthState, Option<String>) {
    (state, Some(code.to_owned()))
}

#[test]
fn the_status_decides() {
    assert_eq!(first(by_status(GaudiStatus::Operational)), (HealthState::Healthy, None));
    assert_eq!(first(GaudiEvidence::default()), (HealthState::Unknown, None));
    for (status, code) in [
        (GaudiStatus::InReset, "InReset"),
        (GaudiStatus::InCreation, "InReset"),
        (GaudiStatus::NeedsReset, "NeedsReset"),
        (GaudiStatus::Malfunction, "NeedsReset"),
        (GaudiStatus::Disabled, "Disabled"),
    ] {
        assert_eq!(first(by_status(status)), reason(HealthState::Failed, code));
    }
}

#[test]
fn a_reset_after_a_workload_is_no_fault_and_hides_none() {
    let released = by_status(GaudiStatus::InReleaseReset);
    assert_eq!(first(released), reason(HealthState::Unknown, "WorkloadReset"));
    let mut pending = by_library(|answers| answers.put(ROWS_PENDING, Ok(json!(1))));
    pending.status = Some(GaudiStatus::InReleaseReset);
    assert_eq!(first(pending), reason(HealthState::Unknown, "WorkloadReset"));
}

#[test]
fn the_status_of_the_library_counts_where_the_driver_reports_none() {
    let of = |text: &str| GaudiEvidence {
        status: None,
        ..by_library(|answers| answers.put(STATUS, Ok(json!(text))))
    };
    assert_eq!(first(of("OPERATIONAL")), (HealthState::Healthy, None));
    assert_eq!(first(of("Malfunction")), reason(HealthState::Failed, "NeedsReset"));
    assert_eq!(first(of("something new")), (HealthState::Unknown, None));
}

#[test]
fn a_critical_error_fails_a_device_that_says_it_is_operational() {
    let evidence = GaudiEvidence { has_critical_error: true, ..by_status(GaudiStatus::Operational) };
    assert_eq!(first(evidence), reason(HealthState::Failed, "CriticalEvent"));
}

#[test]
fn what_the_driver_reports_by_ioctl_counts_where_hlml_is_not_installed() {
    let of = |status: u32| GaudiEvidence {
        status: None,
        ..by_library(|answers| answers.put(DEVICE_STATUS.call, Ok(json!(status))))
    };
    assert_eq!(first(of(0)), (HealthState::Healthy, None));
    assert_eq!(first(of(2)), reason(HealthState::Failed, "NeedsReset"));
    assert_eq!(first(of(5)), reason(HealthState::Unknown, "WorkloadReset"));
    assert_eq!(first(of(99)), (HealthState::Unknown, None));
    let pending = by_library(|answers| answers.put(PENDING_ROWS.call, Ok(json!(3))));
    assert_eq!(first(pending), reason(HealthState::Degraded, "RowReplacementPending"));
}

fn operational_and_fresh(evidence: GaudiEvidence) -> GaudiEvidence {
    GaudiEvidence { is_fresh: true, is_answering: true, ..evidence }
}

#[test]
fn a_lost_device_has_failed_when_that_is_confirmed() {
    let lost = by_library(|answers| answers.put(SERIAL, Err(LOST)));
    let healthy = (HealthState::Healthy, None);
    let failed = reason(HealthState::Failed, "DeviceLost");
    assert_eq!(judged(&[lost.clone(), lost.clone()]), [healthy.clone(), failed]);
    let operational = by_status(GaudiStatus::Operational);
    assert_eq!(
        judged(&[lost.clone(), operational_and_fresh(operational), lost.clone()]),
        vec![healthy.clone(); 3]
    );
    let silent = GaudiEvidence { is_fresh: false, ..lost.clone() };
    assert_eq!(judged(&[lost.clone(), silent.clone(), silent]), vec![healthy; 3], "it was reported once");
    let removed = by_status(GaudiStatus::Operational);
    let of_removed = judged(&[lost.clone(), lost.clone(), removed]).pop();
    assert_eq!(of_removed, Some((HealthState::Healthy, None)), "the library does not answer any more");
    let in_reset = GaudiEvidence { status: Some(GaudiStatus::InReleaseReset), ..lost };
    let reset = reason(HealthState::Unknown, "WorkloadReset");
    assert_eq!(judged(&[in_reset.clone(), in_reset]), vec![reset; 2]);
}

#[test]
fn pending_rows_degrade() {
    let pending = by_library(|answers| answers.put(ROWS_PENDING, Ok(json!(1))));
    assert_eq!(first(pending), reason(HealthState::Degraded, "RowReplacementPending"));
}

/// A device with two internal ports and an external one.
fn with_ports(internal: [bool; 2], external: bool) -> GaudiEvidence {
    by_library(|answers| {
        answers.put(NIC_PORTS, Ok(json!({ "mask": [7, 0], "ext_mask": [4, 0] })));
        for (port, up) in [internal[0], internal[1], external].into_iter().enumerate() {
            answers.put(NIC_LINK.with(&[port as u32]), Ok(json!(up)));
        }
    })
}

#[test]
fn a_link_that_stays_down_degrades() {
    let states = |internal, external| judged(&vec![with_ports(internal, external); 2]);
    let down = reason(HealthState::Degraded, "LinkDown");
    let healthy = (HealthState::Healthy, None);
    assert_eq!(states([true, false], true), [healthy.clone(), down]);
    assert_eq!(states([true, true], false), vec![healthy.clone(); 2], "the switch may be off");
    assert_eq!(states([false, false], false), vec![healthy; 2], "the ports are not in use");
}

#[test]
fn a_link_is_not_down_while_a_device_is_reset_and_until_it_had_time_to_go_up() {
    use GaudiStatus::{InReleaseReset, Operational};
    let (up, down) = (with_ports([true, true], true), with_ports([true, false], true));
    let at = |seconds: u64, evidence: &GaudiEvidence, peer| (seconds, (evidence.clone(), Some(peer)));
    let sequence = [
        at(0, &up, Operational),
        at(60, &down, InReleaseReset),
        at(120, &down, InReleaseReset),
        at(121, &down, Operational),
        at(140, &down, Operational),
        at(150, &up, Operational),
        at(200, &down, Operational),
        at(229, &down, Operational),
    ];
    assert_eq!(judged_with_peer(&sequence), vec![(HealthState::Healthy, None); 8]);
    let fault = reason(HealthState::Degraded, "LinkDown");
    let sequence = [
        at(0, &down, Operational),
        at(60, &down, Operational),
        at(120, &down, InReleaseReset),
        at(180, &up, Operational),
    ];
    let verdicts = judged_with_peer(&sequence);
    let healthy = (HealthState::Healthy, None);
    assert_eq!(verdicts, [healthy.clone(), fault.clone(), fault, healthy], "jobs do not hide a fault");
}

#[test]
fn ports_that_are_all_down_are_unused_once_that_is_certain() {
    let mut history = GaudiHistory::default();
    let start = Instant::now();
    let mut unused = |seconds: u64, up: bool, has_reset: bool| {
        history.observe(&with_ports([up; 2], true), has_reset, start + Duration::from_secs(seconds));
        history.are_ports_unused()
    };
    assert!(unused(0, false, false), "none was ever up");
    assert!(!unused(60, true, false));
    assert!(!unused(120, false, true));
    assert!(!unused(121, false, false), "they go up late");
    assert!(!unused(150, false, false));
    assert!(unused(151, false, false));
}

#[test]
fn uncorrected_errors_degrade_while_they_grow_until_a_reset() {
    let errors = |count: u64, resets: u64| GaudiEvidence {
        resets: Some(resets),
        ..by_library(|answers| answers.put(UNCORRECTED, Ok(json!(count))))
    };
    let states = |discoveries: &[GaudiEvidence]| -> Vec<HealthState> {
        judged(discoveries).into_iter().map(|(state, _)| state).collect()
    };
    use HealthState::{Degraded, Healthy};
    assert_eq!(
        states(&[errors(5, 1), errors(7, 1), errors(7, 1), errors(7, 2), errors(7, 2)]),
        [Healthy, Degraded, Degraded, Healthy, Healthy]
    );
    assert_eq!(states(&[errors(5, 1), errors(0, 1)]), [Healthy, Healthy], "another load of the driver");
    // The library is silent while the device is reset, which adds an error.
    let silent = GaudiEvidence { is_fresh: false, ..errors(5, 2) };
    assert_eq!(states(&[errors(5, 1), silent.clone(), errors(6, 2)]), vec![Healthy; 3]);
    assert_eq!(states(&[errors(4, 1), errors(5, 1), silent]), [Healthy, Degraded, Healthy]);
}

#[test]
fn the_document_has_every_rule() {
    expect_test::expect_file!["../../../../docs/health-gaudi.md"].assert_eq(&markdown());
}
