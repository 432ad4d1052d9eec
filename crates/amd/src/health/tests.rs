use afd_model::{
    AmdFacts, Missing, Partition, PartitionName, Partitioning, PciAddress, Variant, Vendor, VendorFacts,
    XcpComputeMode,
};

use super::*;
use crate::cper::Severity;

fn device(bus: u8) -> Device {
    Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
}

fn counts(uncorrectable: u64, correctable: u64, deferred: u64) -> Known<ErrorCounts> {
    Known::Value(ErrorCounts {
        uncorrectable: Some(uncorrectable),
        correctable: Some(correctable),
        deferred: Some(deferred),
    })
}

fn counted(block: &'static str, counts: Known<ErrorCounts>) -> Seen {
    Seen { errors: vec![("gfx", self::counts(0, 0, 0)), (block, counts)], ..Seen::default() }
}

fn judged(mut devices: Vec<Device>, now: Seen, before: Option<Seen>) -> (HealthState, Vec<String>) {
    let id = devices[0].id;
    let before = before.map(|seen| (id, seen)).into_iter().collect();
    judge(&mut devices, &BTreeMap::from([(id, now)]), &before, true);
    let health = devices.remove(0).health;
    (health.state, health.reasons.into_iter().map(|reason| reason.code).collect())
}

fn codes(now: Seen, before: Option<Seen>) -> (HealthState, Vec<String>) {
    judged(vec![device(1)], now, before)
}

fn said(state: HealthState, code: &str) -> (HealthState, Vec<String>) {
    (state, vec![code.to_owned()])
}

#[test]
fn a_device_is_healthy_only_where_counters_say_so() {
    assert_eq!(codes(counted("umc", counts(0, 3, 0)), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(Seen::default(), None), (HealthState::Unknown, Vec::new()));
}

#[test]
fn an_uncorrectable_error_is_a_failure_and_growth_is_told_as_well() {
    let seen = || counted("umc", counts(2, 0, 0));
    assert_eq!(codes(seen(), None), said(HealthState::Failed, "UncorrectableErrors"));
    let (state, reasons) = codes(seen(), Some(counted("umc", counts(1, 0, 0))));
    assert_eq!(state, HealthState::Failed);
    assert_eq!(reasons, ["UncorrectableErrors", "UncorrectableErrorsGrow"]);
    assert_eq!(codes(seen(), Some(seen())), said(HealthState::Failed, "UncorrectableErrors"));
}

#[test]
fn a_device_recovers_when_its_counters_do() {
    let before = counted("umc", counts(2, 0, 0));
    assert_eq!(codes(counted("umc", counts(0, 0, 0)), Some(before)), (HealthState::Healthy, Vec::new()));
}

#[test]
fn deferred_errors_and_pages_degrade_and_a_page_that_stays_in_use_fails() {
    assert_eq!(codes(counted("umc", counts(0, 0, 1)), None), said(HealthState::Degraded, "DeferredErrors"));
    let with = |pages: Pages| Seen { pages: Some(pages), ..counted("umc", counts(0, 0, 0)) };
    let retired = with(Pages { retired: 5, ..Pages::default() });
    assert_eq!(codes(retired, None), (HealthState::Healthy, Vec::new()));
    let pending = with(Pages { pending: 1, ..Pages::default() });
    assert_eq!(codes(pending, None), said(HealthState::Degraded, "BadPagesPending"));
    let failed = with(Pages { failed: 1, ..Pages::default() });
    assert_eq!(codes(failed, None), said(HealthState::Failed, "BadPagesInUse"));
}

#[test]
fn a_record_of_a_fatal_error_counts_when_it_is_new() {
    let record = |severity, number| Record { severity, identity: [number; 16] };
    let with = |records: &[Record]| Seen {
        records: Known::Value(records.to_vec()),
        ..counted("umc", counts(0, 0, 0))
    };
    let (old, new) = (record(Severity::Fatal, 1), record(Severity::Fatal, 2));
    let healthy = (HealthState::Healthy, Vec::new());
    assert_eq!(codes(with(&[old]), None), healthy, "nobody knows how old the records of a first look are");
    assert_eq!(codes(with(&[old]), Some(with(&[old]))), healthy);
    assert_eq!(codes(with(&[old, new]), Some(with(&[old]))), said(HealthState::Failed, "FatalErrorRecord"));
    let corrected = record(Severity::Corrected, 3);
    assert_eq!(codes(with(&[old, corrected]), Some(with(&[old]))), healthy);
    assert_eq!(codes(with(&[new]), Some(Seen::default())), healthy, "they could not be read before");
}

#[test]
fn as_many_bad_pages_as_the_part_may_have_are_a_failure() {
    let with = |retired| Seen {
        pages: Some(Pages { retired, ..Pages::default() }),
        ..counted("umc", counts(0, 0, 0))
    };
    let limited = || {
        let facts = AmdFacts { bad_page_threshold: Known::Value(10), ..AmdFacts::default() };
        vec![Device { vendor_facts: Some(VendorFacts::Amd(Box::new(facts))), ..device(1) }]
    };
    assert_eq!(judged(limited(), with(9), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(judged(limited(), with(10), None), said(HealthState::Failed, "BadPageThreshold"));
    assert_eq!(codes(with(10), None), (HealthState::Healthy, Vec::new()), "nobody told the limit");
}

#[test]
fn the_library_tells_how_many_partitions_there_should_be() {
    let part = |number: usize| Partition::bare(device(1).id, PartitionName::Xcp(number as u32));
    let partitioning = Partitioning::Xcp { compute: XcpComputeMode::Cpx, memory: Missing::NotExposed.into() };
    let facts = AmdFacts { nominal_partitions: Known::Value(8), ..AmdFacts::default() };
    let cut = |count| Device {
        partitioning: Known::Value(partitioning),
        partitions: (0..count).map(part).collect(),
        vendor_facts: Some(VendorFacts::Amd(Box::new(facts.clone()))),
        ..device(1)
    };
    let seen = || counted("umc", counts(0, 0, 0));
    assert_eq!(judged(vec![cut(8)], seen(), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(judged(vec![cut(7)], seen(), None), said(HealthState::Degraded, "PartitionMissing"));
}

#[test]
fn corrected_errors_of_links_matter_only_as_long_as_they_grow() {
    let seen = |count| counted("xgmi_wafl", counts(0, count, 0));
    assert_eq!(codes(seen(9), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(seen(9), Some(seen(9))), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(seen(9), Some(seen(8))), said(HealthState::Degraded, "LinkErrorsGrow"));
}

#[test]
fn a_hive_needs_a_link_to_each_of_its_devices() {
    let member = |bus| Device { link_domain: Known::Value("7".to_owned()), ..device(bus) };
    let up = |links| Seen { xgmi_links_up: Some(links), ..counted("umc", counts(0, 0, 0)) };
    let hive = || vec![member(1), member(2), member(3), device(4)];
    assert_eq!(judged(hive(), up(2), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(judged(hive(), up(1), None), said(HealthState::Degraded, "LinkDown"));
}

#[test]
fn a_partition_is_missing_only_where_all_of_kfd_could_be_read() {
    let part = Partition::bare(device(1).id, PartitionName::Xcp(0));
    let partitioning = Partitioning::Xcp { compute: XcpComputeMode::Dpx, memory: Missing::NotExposed.into() };
    let cut = Device { partitioning: Known::Value(partitioning), partitions: vec![part], ..device(1) };
    let state = |all_nodes_read| {
        let mut devices = [cut.clone()];
        let seen = BTreeMap::from([(cut.id, counted("umc", counts(0, 0, 0)))]);
        judge(&mut devices, &seen, &BTreeMap::new(), all_nodes_read);
        devices[0].health.state
    };
    assert_eq!((state(true), state(false)), (HealthState::Degraded, HealthState::Healthy));
}

#[test]
fn driver_in_reset_leaves_health_unknown() {
    let refused = counted("umc", Missing::NotAvailable.into());
    assert_eq!(codes(refused, None), said(HealthState::Unknown, "ResetInProgress"));
}

#[test]
fn heat_degrades_by_its_share_of_the_time() {
    let at = |cycles, memory_thermal| Seen {
        residencies: Residencies {
            cycles: Some(cycles),
            memory_thermal: Some(memory_thermal),
            power: Some(cycles),
            ..Residencies::default()
        },
        ..counted("umc", counts(0, 0, 0))
    };
    assert_eq!(codes(at(2000, 100), Some(at(1000, 50))), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(at(2000, 300), Some(at(1000, 50))), said(HealthState::Degraded, "ThermalThrottling"));
    let now = Seen { throttle_status: Some(1 << 36), ..Seen::default() };
    assert_eq!(codes(now, None), said(HealthState::Degraded, "ThermalThrottling"));
    let power = Seen { throttle_status: Some(1), ..Seen::default() };
    assert_eq!(codes(power, None), (HealthState::Unknown, Vec::new()));
}

#[test]
fn a_device_without_driver_stays_failed() {
    let lost = Device { health: Health::failed("DriverMissing", ""), ..device(1) };
    assert_eq!(
        judged(vec![lost], counted("umc", counts(0, 0, 0)), None),
        said(HealthState::Failed, "DriverMissing")
    );
}

#[test]
fn codes_are_words_in_camel_case_and_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for rule in RULES {
        assert!(seen.insert(rule.code), "{} is there twice", rule.code);
        assert!(
            rule.code.chars().all(|c| c.is_ascii_alphanumeric()) && rule.code.starts_with(char::is_uppercase)
        );
    }
}

#[test]
fn the_rules_are_documented_from_their_table() {
    expect_test::expect_file!["../../../../docs/health-amd.md"].assert_eq(&markdown());
}
