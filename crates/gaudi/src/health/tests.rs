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
        is_fresh: true,
        ..by_status(GaudiStatus::Operational)
    }
}

/// The states and first reasons of a device over several discoveries.
fn judged(discoveries: &[GaudiEvidence]) -> Vec<(HealthState, Option<String>)> {
    let address = PciAddress { domain: 0, bus: 0x19, device: 0, function: 0 };
    let mut histories = BTreeMap::new();
    let verdict = |evidence: &GaudiEvidence| {
        let mut devices = [Device::bare(address, Vendor::Intel, Variant::Hpu)];
        let evidence = BTreeMap::from([(address.into(), evidence.clone())]);
        judge(&mut devices, &evidence, &mut histories);
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
    GaudiEvidence { is_fresh: true, ..evidence }
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
    let in_reset = GaudiEvidence { status: Some(GaudiStatus::InReleaseReset), ..lost };
    let reset = reason(HealthState::Unknown, "WorkloadReset");
    assert_eq!(judged(&[in_reset.clone(), in_reset]), vec![reset; 2]);
}

#[test]
fn pending_rows_and_a_link_that_is_down_degrade() {
    let pending = by_library(|answers| answers.put(ROWS_PENDING, Ok(json!(1))));
    assert_eq!(first(pending), reason(HealthState::Degraded, "RowReplacementPending"));
    let ports = |internal: [bool; 2], external: bool| {
        by_library(|answers| {
            answers.put(NIC_PORTS, Ok(json!({ "mask": [7, 0], "ext_mask": [4, 0] })));
            for (port, up) in [internal[0], internal[1], external].into_iter().enumerate() {
                answers.put(NIC_LINK.with(&[port as u32]), Ok(json!(up)));
            }
        })
    };
    assert_eq!(first(ports([true, false], true)), reason(HealthState::Degraded, "LinkDown"));
    assert_eq!(first(ports([true, true], false)).0, HealthState::Healthy, "the switch may be off");
    assert_eq!(first(ports([false, false], false)).0, HealthState::Healthy, "the ports are not in use");
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
}

#[test]
fn the_document_has_every_rule() {
    expect_test::expect_file!["../../../../docs/health-gaudi.md"].assert_eq(&markdown());
}
