use afd_model::{PciAddress, Variant, Vendor};
use serde_json::{Value, json};

use super::*;
use crate::nvml::table::call;

const GPU: PciAddress = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };

fn answers(of: &[(afd_probe::answers::LibraryCall, Result<Value, NvmlCode>)]) -> NvmlAnswers {
    let mut answers = NvmlAnswers::default();
    for (call, result) in of {
        answers.put(*call, result.clone());
    }
    answers
}

fn judged(answers: &NvmlAnswers) -> (HealthState, Vec<String>) {
    let mut device = Device::bare(GPU, Vendor::Nvidia, Variant::Gpu);
    let evidence = GpuHealthEvidence { discovered: Some(answers), ..GpuHealthEvidence::default() };
    judge(&mut device, evidence, &Incidents::default());
    (device.health.state, device.health.reasons.into_iter().map(|reason| reason.code).collect())
}

fn rows(pending: u32, failed: u32) -> Value {
    json!({ "corrRows": 0, "uncRows": 0, "isPending": pending, "failureOccurred": failed })
}

#[test]
fn a_gpu_without_a_reason_against_it_is_healthy() {
    let fine = answers(&[
        (call::RECOVERY_ACTION, Ok(json!(0))),
        (call::REMAPPED_ROWS, Ok(rows(0, 0))),
        (call::CLOCKS_EVENT_REASONS, Ok(json!(0x4))),
        (call::FABRIC, Ok(json!({ "state": 3, "status": 0, "healthSummary": null }))),
    ]);
    assert_eq!(judged(&fine), (HealthState::Healthy, vec![]));
    assert_eq!(judged(&NvmlAnswers::default()), (HealthState::Healthy, vec![]));
}

#[test]
fn an_answer_that_failed_is_no_sign_of_health() {
    let with = |rows: Result<Value, NvmlCode>, throttled: u64| {
        judged(&answers(&[(call::REMAPPED_ROWS, rows), (call::CLOCKS_EVENT_REASONS, Ok(json!(throttled)))]))
    };
    let unreadable = |more: &[&str]| {
        let codes = ["EvidenceUnreadable"].iter().chain(more).map(|code| (*code).to_owned());
        (HealthState::Unknown, codes.collect::<Vec<_>>())
    };
    let failed = || Err(NvmlCode::named("UNKNOWN"));
    assert_eq!(with(failed(), 0), unreadable(&[]));
    assert_eq!(
        with(failed(), 0x40),
        unreadable(&["ThermalSlowdown"]),
        "the first reason is that of the state"
    );
    assert_eq!(with(Err(report::FUNCTION_NOT_FOUND), 0), (HealthState::Healthy, vec![]), "an old library");
    assert_eq!(with(Err(NvmlCode::named("NOT_SUPPORTED")), 0), (HealthState::Healthy, vec![]));
    assert_eq!(with(Err(report::NO_PERMISSION), 0), unreadable(&[]), "as with every vendor");
    let lost = with(Err(GPU_IS_LOST), 0x40);
    assert_eq!(lost, (HealthState::Failed, vec!["GpuLost".to_owned(), "ThermalSlowdown".to_owned()]));
}

#[test]
fn a_failure_comes_before_what_could_not_be_read() {
    let unread = answers(&[(call::REMAPPED_ROWS, Err(NvmlCode::named("UNKNOWN")))]);
    let mut device = Device::bare(GPU, Vendor::Nvidia, Variant::Gpu);
    let lost = of_code(GPU_IS_LOST);
    let evidence = GpuHealthEvidence { discovered: Some(&unread), inaccessible: Some(&lost), sampled: None };
    judge(&mut device, evidence, &Incidents::default());
    assert_eq!(device.health, lost);
    let mut incidents = Incidents::default();
    incidents.watched(GPU, true);
    incidents.add(&json!({
        "busId": "00000000:01:00.0", "eventType": 8, "eventData": 79,
        "gpuInstanceId": u32::MAX, "computeInstanceId": u32::MAX,
    }));
    let evidence = GpuHealthEvidence { discovered: Some(&unread), ..GpuHealthEvidence::default() };
    judge(&mut device, evidence, &incidents);
    assert_eq!((device.health.state, device.health.reasons[0].code.as_str()), (HealthState::Failed, "Xid79"));
}

#[test]
fn reasons_are_listed_by_severity_and_in_the_order_of_the_inputs() {
    let unwell = answers(&[
        (call::CLOCKS_EVENT_REASONS, Err(report::FUNCTION_NOT_FOUND)),
        (call::CLOCKS_THROTTLE_REASONS, Ok(json!(0xc0))),
        (call::FABRIC, Ok(json!({ "state": 3, "status": 999, "healthSummary": 3 }))),
        (call::REMAPPED_ROWS, Ok(rows(1, 0))),
        (call::RECOVERY_ACTION, Ok(json!(2))),
        (call::NAME, Err(GPU_IS_LOST)),
    ]);
    let (state, codes) = judged(&unwell);
    assert_eq!(state, HealthState::Failed);
    assert_eq!(
        codes,
        [
            "NodeRebootRequired",
            "GpuLost",
            "RowRemapPending",
            "FabricFailed",
            "FabricLimited",
            "ThermalSlowdown",
            "PowerBrake"
        ]
    );
}

#[test]
fn a_gpu_that_is_not_registered_with_the_fabric_cannot_take_work() {
    let waiting = answers(&[(call::FABRIC, Ok(json!({ "state": 2, "status": 0, "healthSummary": null })))]);
    assert_eq!(judged(&waiting), (HealthState::Failed, vec!["FabricNotReady".to_owned()]));
}

#[test]
fn without_an_answer_health_is_unknown_and_a_refused_gpu_has_failed() {
    let mut device = Device::bare(GPU, Vendor::Nvidia, Variant::Gpu);
    judge(&mut device, GpuHealthEvidence::default(), &Incidents::default());
    assert_eq!(device.health, Health::unknown());
    let lost = of_code(GPU_IS_LOST);
    let evidence = GpuHealthEvidence { inaccessible: Some(&lost), ..GpuHealthEvidence::default() };
    judge(&mut device, evidence, &Incidents::default());
    assert_eq!(device.health, lost);
}

#[test]
fn a_sampled_call_that_requires_a_reset_fails_the_gpu() {
    let fine = answers(&[(call::RECOVERY_ACTION, Ok(json!(0)))]);
    let sampled = HealthSigns::of(&answers(&[(call::UTILIZATION, Err(RESET_REQUIRED))]));
    let mut device = Device::bare(GPU, Vendor::Nvidia, Variant::Gpu);
    let evidence = GpuHealthEvidence { discovered: Some(&fine), inaccessible: None, sampled: Some(&sampled) };
    judge(&mut device, evidence, &Incidents::default());
    assert_eq!(device.health.reasons[0].code, "GpuResetRequired");
}

#[test]
fn only_a_change_between_two_samples_is_a_change() {
    let of = |action: u32, clocks: u64| {
        HealthSigns::of(&answers(&[
            (call::RECOVERY_ACTION, Ok(json!(action))),
            (call::CLOCKS_EVENT_REASONS, Ok(json!(clocks))),
        ]))
    };
    let mut signs = of(0, 0);
    assert!(!signs.update(&of(0, 0x4)), "the power limit does not affect health");
    assert!(signs.update(&of(0, 0x40)));
    assert!(!signs.update(&of(0, 0x40)), "it stays");
    assert!(signs.update(&of(1, 0x40)));
    let failed = HealthSigns::of(&answers(&[(call::RECOVERY_ACTION, Err(NvmlCode::named("UNKNOWN")))]));
    assert!(!signs.update(&failed), "a call that fails says nothing");
    assert!(!signs.update(&of(1, 0x40)));
    let lost = HealthSigns::of(&answers(&[(call::UTILIZATION, Err(RESET_REQUIRED))]));
    assert!(signs.update(&lost));
    assert!(!signs.update(&lost));
    assert!(signs.update(&of(1, 0x40)), "it works again");
}

#[test]
fn an_error_that_only_a_discovery_meets_is_no_change() {
    let refused = (call::INFOROM_VERSION, Err(RESET_REQUIRED));
    let discovered = HealthSigns::of(&answers(&[(call::RECOVERY_ACTION, Ok(json!(0))), refused]));
    let sampled = HealthSigns::of(&answers(&[(call::RECOVERY_ACTION, Ok(json!(0)))]));
    assert!(!discovered.is_changed_by_first(&sampled));
    let lost = HealthSigns::of(&answers(&[(call::RECOVERY_ACTION, Err(GPU_IS_LOST))]));
    assert!(sampled.is_changed_by_first(&lost));
}
