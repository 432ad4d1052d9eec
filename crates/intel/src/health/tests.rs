use afd_model::{Missing, PciAddress, Variant, Vendor};
use expect_test::expect_file;
use serde_json::json;

use super::*;
use crate::levelzero::calls::{PROPERTIES, RAS_PROPERTIES, RAS_STATE};

fn by_library(fill: impl FnOnce(&mut LevelZeroAnswers)) -> IntelEvidence {
    let mut answers = LevelZeroAnswers::default();
    answers.put(STATE, Ok(json!({ "reset": 0, "repaired": 0, "flags": 1 })));
    fill(&mut answers);
    IntelEvidence { library: SysmanEvidence::of(&answers), is_fresh: true, ..IntelEvidence::default() }
}

/// The states and first reasons of a device over several discoveries.
fn judged(discoveries: &[IntelEvidence]) -> Vec<(HealthState, Option<String>)> {
    let address = PciAddress { domain: 0, bus: 0x19, device: 0, function: 0 };
    let mut histories = BTreeMap::new();
    let verdict = |evidence: &IntelEvidence| {
        let mut devices = [Device::bare(address, Vendor::Intel, Variant::Xpu)];
        let evidence = BTreeMap::from([(address.into(), evidence.clone())]);
        judge(&mut devices, &evidence, &mut histories);
        let [device] = devices;
        (device.health.state, device.health.reasons.first().map(|reason| reason.code.clone()))
    };
    discoveries.iter().map(verdict).collect()
}

fn first(evidence: IntelEvidence) -> (HealthState, Option<String>) {
    judged(&[evidence]).remove(0)
}

fn reason(state: HealthState, code: &str) -> (HealthState, Option<String>) {
    (state, Some(code.to_owned()))
}

#[test]
fn a_device_is_healthy_only_if_a_source_says_so() {
    assert_eq!(first(IntelEvidence::default()), (HealthState::Unknown, None));
    assert_eq!(first(by_library(|_| {})), (HealthState::Healthy, None));
    let by_kernel = |health: &str| IntelEvidence {
        gpu_health: Known::Value(health.to_owned()),
        ..IntelEvidence::default()
    };
    assert_eq!(first(by_kernel("ok")), (HealthState::Healthy, None));
    assert_eq!(first(by_kernel("new word")), (HealthState::Unknown, None));
    assert_eq!(first(by_kernel("warning")), reason(HealthState::Degraded, "GpuHealthWarning"));
    for health in ["critical", "failed"] {
        assert_eq!(first(by_kernel(health)), reason(HealthState::Failed, "GpuHealthCritical"));
    }
}

#[test]
fn a_state_that_could_not_be_read_is_no_sign_of_health() {
    let with = |missing: Missing| IntelEvidence { gpu_health: missing.into(), ..by_library(|_| {}) };
    for missing in [Missing::Unreadable, Missing::Malformed, Missing::NotPermitted] {
        assert_eq!(first(with(missing)), reason(HealthState::Unknown, "EvidenceUnreadable"));
    }
    assert_eq!(first(with(Missing::NotExposed)), (HealthState::Healthy, None));
}

#[test]
fn the_state_of_the_library_decides() {
    let state = |reset: u32, flags: u32| {
        first(by_library(|answers| answers.put(STATE, Ok(json!({ "reset": reset, "flags": flags })))))
    };
    assert_eq!(state(1, 0), reason(HealthState::Failed, "Wedged"));
    assert_eq!(state(0, 2), reason(HealthState::Failed, "Wedged"));
    assert_eq!(state(0, 4), reason(HealthState::Failed, "SurvivabilityMode"));
    assert_eq!(state(2, 1), reason(HealthState::Degraded, "RepairPending"));
    assert_eq!(state(0, 1), (HealthState::Healthy, None));
    let requires_reset = by_library(|answers| answers.put(PROPERTIES, Err(REQUIRES_RESET)));
    assert_eq!(first(requires_reset), reason(HealthState::Failed, "NeedsReset"));
    let memory = |health: u32| {
        first(by_library(|answers| answers.put_components(MEMORY_STATE, [Ok(json!({ "health": health }))])))
    };
    assert_eq!(memory(1), (HealthState::Healthy, None));
    assert_eq!(memory(3), reason(HealthState::Degraded, "MemoryDegraded"));
    assert_eq!(memory(4), reason(HealthState::Failed, "MemoryFailed"));
    let modules = [Ok(json!({ "health": 4 })), Ok(json!({ "health": 9 }))];
    let with_unlisted = first(by_library(|answers| answers.put_components(MEMORY_STATE, modules)));
    assert_eq!(with_unlisted, reason(HealthState::Failed, "MemoryFailed"), "9 is no health");
    let port = |status: u32| {
        first(by_library(|answers| answers.put_components(PORT_STATE, [Ok(json!({ "status": status }))])))
    };
    assert_eq!(port(3), reason(HealthState::Degraded, "LinkDown"));
    assert_eq!(port(4), (HealthState::Healthy, None), "a port that is not connected is disabled");
}

#[test]
fn a_device_is_lost_after_two_discoveries_and_recovers() {
    let lost = || by_library(|answers| answers.put(PROPERTIES, Err(LOST)));
    let stale = IntelEvidence { is_fresh: false, ..lost() };
    let states = judged(&[lost(), stale, lost(), by_library(|_| {})]);
    assert_eq!(states[0], (HealthState::Healthy, None));
    assert_eq!(states[1], (HealthState::Healthy, None), "an earlier answer is no second loss");
    assert_eq!(states[2], reason(HealthState::Failed, "DeviceLost"));
    assert_eq!(states[3], (HealthState::Healthy, None));
    let uninstalled = IntelEvidence { has_no_library: true, ..IntelEvidence::default() };
    let states = judged(&[lost(), lost(), IntelEvidence::default(), uninstalled, lost()]);
    assert_eq!(
        states[2],
        reason(HealthState::Failed, "DeviceLost"),
        "a library that is silent has not recovered it"
    );
    assert_eq!(states[3], (HealthState::Unknown, None));
    assert_eq!(states[4], (HealthState::Healthy, None), "it is counted from the beginning");
}

#[test]
fn errors_of_the_hardware_that_were_not_corrected_degrade() {
    let of_set = |kind: u32, category: usize| {
        let mut counts = [0; 7];
        counts[category] = 2;
        first(by_library(|answers| {
            answers.put_components(RAS_PROPERTIES, [Ok(json!({ "type": kind }))]);
            answers.put_components(RAS_STATE, [Ok(json!({ "category": counts }))]);
        }))
    };
    assert_eq!(of_set(1, 5), reason(HealthState::Degraded, "UncorrectableRasErrors"));
    assert_eq!(of_set(0, 5), (HealthState::Healthy, None), "they were corrected");
    assert_eq!(of_set(1, 1), (HealthState::Healthy, None), "an error of a program is none of the hardware");
}

#[test]
fn the_rules_are_documented() {
    expect_file!["../../../../docs/health-intel.md"].assert_eq(&markdown());
}
