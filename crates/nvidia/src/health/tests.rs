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
    judge(&mut device, answers, &mut Incidents::default());
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
fn reasons_are_listed_in_the_order_of_the_inputs_and_the_worst_is_the_state() {
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
            "RowRemapPending",
            "FabricFailed",
            "FabricLimited",
            "ThermalSlowdown",
            "PowerBrake",
            "GpuLost"
        ]
    );
}

#[test]
fn an_input_that_changes_is_a_change_and_one_that_only_one_report_has_is_not() {
    let before = answers(&[
        (call::RECOVERY_ACTION, Ok(json!(0))),
        (call::FABRIC, Ok(json!({ "state": 3, "status": 0, "healthSummary": 2 }))),
        (call::CLOCKS_EVENT_REASONS, Ok(json!(0))),
    ]);
    let now = |action: u32, clocks: u64| {
        answers(&[
            (call::RECOVERY_ACTION, Ok(json!(action))),
            (call::CLOCKS_EVENT_REASONS, Ok(json!(clocks))),
            (call::REMAPPED_ROWS, Ok(rows(1, 1))),
        ])
    };
    assert!(!is_changed(&before, &now(0, 0)));
    assert!(!is_changed(&before, &now(0, 0x4)), "the power limit does not affect health");
    assert!(is_changed(&before, &now(0, 0x40)));
    assert!(is_changed(&before, &now(1, 0)));
}

#[test]
fn a_call_that_only_samples_make_causes_no_discovery_when_it_fails() {
    let before = answers(&[(call::RECOVERY_ACTION, Ok(json!(0)))]);
    let refused = answers(&[(call::RECOVERY_ACTION, Ok(json!(0))), (call::UTILIZATION, Err(RESET_REQUIRED))]);
    assert!(!is_changed(&before, &refused));
    let lost = answers(&[(call::RECOVERY_ACTION, Err(GPU_IS_LOST)), (call::UTILIZATION, Err(GPU_IS_LOST))]);
    assert!(is_changed(&before, &lost));
    assert!(!is_changed(&lost, &lost));
}
