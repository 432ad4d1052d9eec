mod restored;

use afd_model::{
    AmdFacts, DriverLoad, Handle, HandleKind, IncidentRecord, Missing, Partition, PartitionName,
    Partitioning, PciAddress, Variant, Vendor, VendorFacts, XcpComputeMode,
};

use super::*;
use crate::cper::CperSeverity;

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

fn counted(block: &'static str, counts: Known<ErrorCounts>) -> HealthEvidence {
    HealthEvidence {
        errors: vec![("gfx", self::counts(0, 0, 0)), (block, counts)],
        ..HealthEvidence::default()
    }
}

/// Judges the first of these devices by each of the observations, the last one last; none is one in which it is suspended.
fn observed(devices: &[Device], observations: Vec<Option<HealthEvidence>>) -> (HealthState, Vec<String>) {
    let mut histories = BTreeMap::new();
    let mut health = Health::unknown();
    for evidence in observations {
        let mut devices = devices.to_vec();
        let evidence = evidence.map(|evidence| (devices[0].id, evidence)).into_iter().collect();
        judge(&mut devices, evidence, &mut histories, true);
        health = devices.remove(0).health;
    }
    (health.state, health.reasons.into_iter().map(|reason| reason.code).collect())
}

fn judged(
    devices: Vec<Device>,
    now: HealthEvidence,
    before: Option<HealthEvidence>,
) -> (HealthState, Vec<String>) {
    observed(&devices, before.into_iter().chain([now]).map(Some).collect())
}

fn codes(now: HealthEvidence, before: Option<HealthEvidence>) -> (HealthState, Vec<String>) {
    judged(vec![device(1)], now, before)
}

fn with_reason(state: HealthState, code: &str) -> (HealthState, Vec<String>) {
    (state, vec![code.to_owned()])
}

#[test]
fn a_device_is_healthy_only_with_error_counters() {
    assert_eq!(codes(counted("umc", counts(0, 3, 0)), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(HealthEvidence::default(), None), (HealthState::Unknown, Vec::new()));
}

#[test]
fn an_uncorrectable_error_is_a_failure_and_growth_is_a_reason_of_its_own() {
    let evidence = || counted("umc", counts(2, 0, 0));
    assert_eq!(codes(evidence(), None), with_reason(HealthState::Failed, "UncorrectableErrors"));
    let (state, reasons) = codes(evidence(), Some(counted("umc", counts(1, 0, 0))));
    assert_eq!(state, HealthState::Failed);
    assert_eq!(reasons, ["UncorrectableErrors", "UncorrectableErrorsGrow"]);
    assert_eq!(codes(evidence(), Some(evidence())), with_reason(HealthState::Failed, "UncorrectableErrors"));
}

#[test]
fn a_device_recovers_when_its_counters_do() {
    let before = counted("umc", counts(2, 0, 0));
    assert_eq!(codes(counted("umc", counts(0, 0, 0)), Some(before)), (HealthState::Healthy, Vec::new()));
}

#[test]
fn deferred_errors_and_pages_degrade_and_a_page_that_stays_in_use_fails() {
    assert_eq!(
        codes(counted("umc", counts(0, 0, 1)), None),
        with_reason(HealthState::Degraded, "DeferredErrors")
    );
    let with =
        |pages: BadPages| HealthEvidence { pages: Known::Value(pages), ..counted("umc", counts(0, 0, 0)) };
    let retired = with(BadPages { retired: 5, ..BadPages::default() });
    assert_eq!(codes(retired, None), (HealthState::Healthy, Vec::new()));
    let pending = with(BadPages { pending: 1, ..BadPages::default() });
    assert_eq!(codes(pending, None), with_reason(HealthState::Degraded, "BadPagesPending"));
    let failed = with(BadPages { failed: 1, ..BadPages::default() });
    assert_eq!(codes(failed, None), with_reason(HealthState::Failed, "BadPagesInUse"));
}

#[test]
fn what_could_not_be_read_is_no_sign_of_health() {
    let unknown = with_reason(HealthState::Unknown, "EvidenceUnreadable");
    let with = |pages: Known<BadPages>| HealthEvidence { pages, ..counted("umc", counts(0, 0, 0)) };
    for missing in [Missing::Unreadable, Missing::NotPermitted, Missing::Malformed] {
        assert_eq!(codes(with(missing.into()), None), unknown, "{missing:?}");
        assert_eq!(codes(counted("sdma", missing.into()), None), unknown, "{missing:?}");
    }
    let partly = BadPages { retired: 3, unrecognized: 1, ..BadPages::default() };
    assert_eq!(codes(with(Known::Value(partly)), None), unknown);
    let records =
        |missing: Missing| HealthEvidence { records: missing.into(), ..with(Missing::NotExposed.into()) };
    assert_eq!(codes(records(Missing::Malformed), None), unknown);
    let healthy = (HealthState::Healthy, Vec::new());
    assert_eq!(codes(records(Missing::NotPermitted), None), healthy, "a privilege that is not expected");
    assert_eq!(codes(with(Missing::NotExposed.into()), None), healthy, "a product without the list");
    let failed = HealthEvidence { pages: Missing::Unreadable.into(), ..counted("umc", counts(1, 0, 0)) };
    assert_eq!(codes(failed, None).0, HealthState::Failed, "what was read counts");
}

fn record(severity: CperSeverity, number: u8) -> CperRecord {
    CperRecord { severity, identity: [number; 16] }
}

fn recorded(records: &[CperRecord]) -> HealthEvidence {
    HealthEvidence { records: Known::Value(records.to_vec()), ..counted("umc", counts(0, 0, 0)) }
}

#[test]
fn a_record_of_a_fatal_error_counts_when_it_is_new() {
    let (old, new) = (record(CperSeverity::Fatal, 1), record(CperSeverity::Fatal, 2));
    let healthy = (HealthState::Healthy, Vec::new());
    assert_eq!(
        codes(recorded(&[old]), None),
        healthy,
        "the age of the records of the first discovery is unknown"
    );
    assert_eq!(codes(recorded(&[old]), Some(recorded(&[old]))), healthy);
    assert_eq!(
        codes(recorded(&[old, new]), Some(recorded(&[old]))),
        with_reason(HealthState::Failed, "FatalErrorRecord")
    );
    let corrected = record(CperSeverity::Corrected, 3);
    assert_eq!(codes(recorded(&[old, corrected]), Some(recorded(&[old]))), healthy);
    assert_eq!(
        codes(recorded(&[new]), Some(HealthEvidence::default())),
        healthy,
        "they could not be read before"
    );
}

#[test]
fn a_fatal_error_lasts_until_there_is_evidence_of_a_reset() {
    let fatal = record(CperSeverity::Fatal, 1);
    let failed = with_reason(HealthState::Failed, "FatalErrorRecord");
    let healthy = (HealthState::Healthy, Vec::new());
    let after = |later: Vec<HealthEvidence>| {
        let start = [recorded(&[]), recorded(&[fatal])];
        observed(&[device(1)], start.into_iter().chain(later).map(Some).collect())
    };
    let overflown: Vec<CperRecord> = (1..9).map(|number| record(CperSeverity::Fatal, number)).collect();
    let unread = HealthEvidence { records: Missing::Unreadable.into(), ..recorded(&[]) };
    assert_eq!(after(vec![recorded(&[fatal]); 5]), failed, "the record stays in the ring");
    assert_eq!(after(vec![unread.clone(), recorded(&[fatal])]), failed, "a failed read is no evidence");
    assert_eq!(
        after(vec![recorded(&overflown), recorded(&overflown[3..])]),
        failed,
        "old records are dropped"
    );

    assert_eq!(after(vec![recorded(&[])]), healthy, "the ring is that of another load of the driver");
    let in_reset =
        HealthEvidence { records: Known::Value(vec![fatal]), ..counted("umc", Missing::NotAvailable.into()) };
    assert_eq!(after(vec![in_reset, recorded(&[fatal])]), healthy, "the driver has finished a reset");
    let cycles = |cycles| HealthEvidence {
        residencies: Residencies { cycles: Some(cycles), ..Residencies::default() },
        ..recorded(&[fatal])
    };
    assert_eq!(after(vec![cycles(5000), cycles(6000)]), failed);
    assert_eq!(after(vec![cycles(5000), cycles(60)]), healthy, "the firmware was loaded again");
    assert_eq!(after(vec![cycles(u64::from(u32::MAX)), cycles(60)]), failed, "the counter overflowed");
}

#[test]
fn another_driver_or_another_board_starts_without_the_faults_of_the_one_before() {
    let fatal = record(CperSeverity::Fatal, 1);
    let mut histories = BTreeMap::new();
    let mut state = |device: &Device, records: &[CperRecord]| {
        let mut devices = [device.clone()];
        judge(&mut devices, BTreeMap::from([(device.id, recorded(records))]), &mut histories, true);
        devices[0].health.state
    };
    let unbound = Device { driver: Missing::DriverNotBound.into(), ..device(1) };
    for other in [device_of_driver("6.13.0", "a"), device_of_driver("6.12.12", "b"), unbound] {
        assert_eq!(state(&device_of_driver("6.12.12", "a"), &[]), HealthState::Healthy);
        assert_eq!(state(&device_of_driver("6.12.12", "a"), &[fatal]), HealthState::Failed);
        state(&other, &[fatal]);
        assert_eq!(state(&device_of_driver("6.12.12", "a"), &[fatal]), HealthState::Healthy, "{other:?}");
        assert_eq!(state(&device_of_driver("6.12.12", "c"), &[]), HealthState::Healthy);
    }
}

#[test]
fn a_growth_of_uncorrectable_errors_lasts_until_the_count_falls() {
    let at = |count| Some(counted("umc", counts(count, 0, 0)));
    let grown = ["UncorrectableErrors", "UncorrectableErrorsGrow"];
    let seen = |observations| observed(&[device(1)], observations).1;
    assert_eq!(seen(vec![at(1), at(2), at(2), at(2)]), grown);
    assert_eq!(seen(vec![at(1), at(2), at(1)]), ["UncorrectableErrors"]);
    assert_eq!(seen(vec![at(1), at(2), at(0)]), [""; 0]);
}

#[test]
fn a_suspended_device_keeps_the_verdict_it_had_while_awake() {
    let healthy = (HealthState::Healthy, Vec::new());
    let calm = || Some(counted("umc", counts(0, 0, 0)));
    let failed = Some(counted("umc", counts(2, 0, 0)));
    assert_eq!(observed(&[device(1)], vec![calm(), None, None]), healthy);
    assert_eq!(
        observed(&[device(1)], vec![failed, None]),
        with_reason(HealthState::Failed, "UncorrectableErrors")
    );
    assert_eq!(observed(&[device(1)], vec![None]), with_reason(HealthState::Unknown, "Suspended"));
    assert_eq!(observed(&[device(1)], vec![None, calm()]), healthy);
    let fatal = record(CperSeverity::Fatal, 1);
    let asleep_between = vec![Some(recorded(&[])), None, Some(recorded(&[fatal]))];
    assert_eq!(
        observed(&[device(1)], asleep_between),
        with_reason(HealthState::Failed, "FatalErrorRecord"),
        "what it recorded since is new"
    );
}

#[test]
fn bad_pages_at_the_threshold_are_a_failure() {
    let with = |retired| HealthEvidence {
        pages: Known::Value(BadPages { retired, ..BadPages::default() }),
        ..counted("umc", counts(0, 0, 0))
    };
    let limited = || {
        let facts = AmdFacts { bad_page_threshold: Known::Value(10), ..AmdFacts::default() };
        vec![Device { vendor_facts: Some(VendorFacts::Amd(Box::new(facts))), ..device(1) }]
    };
    assert_eq!(judged(limited(), with(9), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(judged(limited(), with(10), None), with_reason(HealthState::Failed, "BadPageThreshold"));
    assert_eq!(codes(with(10), None), (HealthState::Healthy, Vec::new()), "the threshold is not reported");
}

#[test]
fn the_library_reports_how_many_partitions_there_should_be() {
    let partition = |number: usize| Partition::bare(device(1).id, PartitionName::Xcp(number as u32));
    let partitioning = Partitioning::Xcp { compute: XcpComputeMode::Cpx, memory: Missing::NotExposed.into() };
    let facts = AmdFacts { nominal_partitions: Known::Value(8), ..AmdFacts::default() };
    let partitioned = |count| Device {
        partitioning: Known::Value(partitioning),
        partitions: (0..count).map(partition).collect(),
        vendor_facts: Some(VendorFacts::Amd(Box::new(facts.clone()))),
        ..device(1)
    };
    let evidence = || counted("umc", counts(0, 0, 0));
    assert_eq!(judged(vec![partitioned(8)], evidence(), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(
        judged(vec![partitioned(7)], evidence(), None),
        with_reason(HealthState::Degraded, "PartitionMissing")
    );
}

#[test]
fn corrected_errors_of_links_matter_only_while_they_grow() {
    let evidence = |count| counted("xgmi_wafl", counts(0, count, 0));
    assert_eq!(codes(evidence(9), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(evidence(9), Some(evidence(9))), (HealthState::Healthy, Vec::new()));
    assert_eq!(codes(evidence(9), Some(evidence(8))), with_reason(HealthState::Degraded, "LinkErrorsGrow"));
}

#[test]
fn a_hive_needs_a_link_to_each_of_its_devices() {
    let member = |bus| Device { link_domain: Known::Value("7".to_owned()), ..device(bus) };
    let up = |links| HealthEvidence { xgmi_links_up: Some(links), ..counted("umc", counts(0, 0, 0)) };
    let hive = || vec![member(1), member(2), member(3), device(4)];
    assert_eq!(judged(hive(), up(2), None), (HealthState::Healthy, Vec::new()));
    assert_eq!(judged(hive(), up(1), None), with_reason(HealthState::Degraded, "LinkDown"));
}

#[test]
fn a_partition_is_missing_only_where_all_of_kfd_could_be_read() {
    let partition = Partition::bare(device(1).id, PartitionName::Xcp(0));
    let partitioning = Partitioning::Xcp { compute: XcpComputeMode::Dpx, memory: Missing::NotExposed.into() };
    let partitioned =
        Device { partitioning: Known::Value(partitioning), partitions: vec![partition], ..device(1) };
    let state = |all_nodes_read| {
        let mut devices = [partitioned.clone()];
        let evidence = BTreeMap::from([(partitioned.id, counted("umc", counts(0, 0, 0)))]);
        judge(&mut devices, evidence, &mut BTreeMap::new(), all_nodes_read);
        devices[0].health.state
    };
    assert_eq!((state(true), state(false)), (HealthState::Degraded, HealthState::Healthy));
}

#[test]
fn driver_in_reset_leaves_health_unknown() {
    let inaccessible = counted("umc", Missing::NotAvailable.into());
    assert_eq!(codes(inaccessible, None), with_reason(HealthState::Unknown, "ResetInProgress"));
    let mut with_a_fault = counted("umc", Missing::NotAvailable.into());
    with_a_fault.pages = Known::Value(BadPages { pending: 1, ..BadPages::default() });
    let (state, reasons) = codes(with_a_fault, None);
    assert_eq!((state, reasons[0].as_str()), (HealthState::Unknown, "ResetInProgress"));
}

#[test]
fn the_rules_are_in_the_order_of_their_severity() {
    let severities: Vec<u8> = RULES.iter().map(|rule| rule.state.severity()).collect();
    assert!(severities.is_sorted_by(|before, after| before >= after), "{severities:?}");
}

#[test]
fn heat_degrades_by_its_share_of_the_time() {
    let at = |cycles, memory_thermal| HealthEvidence {
        residencies: Residencies {
            cycles: Some(cycles),
            memory_thermal: Some(memory_thermal),
            power: Some(cycles),
            ..Residencies::default()
        },
        ..counted("umc", counts(0, 0, 0))
    };
    assert_eq!(codes(at(2000, 100), Some(at(1000, 50))), (HealthState::Healthy, Vec::new()));
    assert_eq!(
        codes(at(2000, 300), Some(at(1000, 50))),
        with_reason(HealthState::Degraded, "ThermalThrottling")
    );
    let now = HealthEvidence { throttle_status: Some(1 << 36), ..HealthEvidence::default() };
    assert_eq!(codes(now, None), with_reason(HealthState::Degraded, "ThermalThrottling"));
    let power = HealthEvidence { throttle_status: Some(1), ..HealthEvidence::default() };
    assert_eq!(codes(power, None), (HealthState::Unknown, Vec::new()));
}

#[test]
fn a_device_without_driver_stays_failed() {
    let unbound = Device { health: Health::failed("DriverMissing", ""), ..device(1) };
    assert_eq!(
        judged(vec![unbound], counted("umc", counts(0, 0, 0)), None),
        with_reason(HealthState::Failed, "DriverMissing")
    );
}

#[test]
fn codes_are_camel_case_and_unique() {
    let mut codes = std::collections::BTreeSet::new();
    for rule in RULES {
        assert!(codes.insert(rule.code), "{} is listed twice", rule.code);
        assert!(
            rule.code.chars().all(|c| c.is_ascii_alphanumeric()) && rule.code.starts_with(char::is_uppercase)
        );
    }
}

#[test]
fn the_rules_are_documented_from_their_table() {
    expect_test::expect_file!["../../../../docs/health-amd.md"].assert_eq(&markdown());
}

fn device_of_driver(version: &str, unique_id: &str) -> Device {
    Device {
        driver: Known::Value("amdgpu".to_owned()),
        driver_version: Known::Value(version.to_owned()),
        handles: vec![Handle::new(HandleKind::UniqueId, unique_id)],
        ..device(1)
    }
}
