use afd_host::{
    child::{ChildRegistry, Launcher},
    testing::TestHost,
};
use afd_model::{Device, Findings, Known, PciAddress, Sampling, Variant, Vendor};
use serde_json::json;

use super::*;
use crate::ProbeProcess;
use crate::{
    answers::LibraryCall,
    report::{LibraryAnswers, ReportedUnit},
    status::StatusRow,
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Acme;

const STATUSES: &[StatusRow] = &[
    (1, "NO_DRIVER", Missing::Unreadable),
    (2, "NO_PERM", Missing::NotPermitted),
    (3, "NOT_SUPPORTED", Missing::NotAvailable),
];

impl StatusTable for Acme {
    const C_TYPE: &'static str = "acme_t";
    const TABLES: &'static [&'static [StatusRow]] = &[STATUSES];
}

const COUNT: LibraryCall = LibraryCall::new("acmeGetCount");
const BUS: LibraryCall = LibraryCall::new("acmeGetBus");

pub(super) fn address(bus: u8) -> PciAddress {
    PciAddress { domain: 0, bus, device: 0, function: 0 }
}

fn unit_of(answers: &LibraryAnswers<Acme>) -> Option<ReportedUnit> {
    let bus: u8 = answers.known(BUS).into_value()?;
    Some(ReportedUnit { address: address(bus), partition: 0 })
}

static SPEC: LibrarySpec<Acme> = LibrarySpec {
    probe: "acme",
    fact: "acmelib",
    files: &["libacme.so", "libacme.so.1"],
    directories: &[&["/opt/acme/lib", "/opt/acme/*/lib"], &DIRECTORIES],
    roots: &["", "/run/acme/driver"],
    interfaces: &[LibraryInterface {
        init: "acmeInit",
        title: "ACME",
        required: &[COUNT],
        recording: "acme.json",
    }],
    drivers: &["acme", "acme-next"],
    needed_by: &["acme-next"],
    enumerates_once: true,
    start_deadline: Duration::from_secs(1),
    discover_deadline: Duration::from_secs(1),
    sample_deadline: Duration::from_secs(1),
    unit_of,
    retains: Retention {
        calls: |call| call != "acmeGetPeer",
        identity: &[LibraryCall::new("acmeGetUuid")],
        partitions: &[LibraryCall::new("acmeGetMode")],
    },
    init_advice: |_| "load the driver",
};

pub(super) fn report(value: serde_json::Value) -> LibraryReport<Acme> {
    serde_json::from_value(value).expect("it is a report")
}

/// Enrichment whose process cannot be started.
pub(super) fn enrichment(root: Option<&Path>) -> Enrichment<Acme> {
    let launcher =
        Launcher::new("/nonexistent".into(), Duration::from_secs(1), ChildRegistry::adopting_orphans());
    Enrichment::new(&SPEC, launcher, root.map(Path::to_owned))
}

fn findings(driver: &str) -> Findings {
    let address = address(1);
    let mut device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    device.driver = Known::Value(driver.to_owned());
    Findings { devices: vec![device], ..Findings::default() }
}

fn discovered(enrichment: &mut Enrichment<Acme>, host: &TestHost, driver: &str) -> Vec<Missing> {
    let mut findings = findings(driver);
    enrichment.discover(&host.open(), &mut findings, false);
    findings.problems.into_iter().map(|problem| problem.reason).collect()
}

#[test]
fn the_preferred_file_is_looked_up_everywhere_first() {
    let found = |host: &TestHost, root: Option<&Path>| {
        let path = SPEC.find(&host.open(), root)?;
        Some(path.to_string_lossy().rsplit_once('/')?.1.to_owned())
    };
    let host = TestHost::new()
        .file("/opt/acme/lib/libacme.so.1", "")
        .file("/run/acme/driver/usr/lib64/libacme.so", "");
    assert_eq!(found(&host, None).as_deref(), Some("libacme.so"));
    let host = TestHost::new().file("/opt/acme/lib/libacme.so.1", "");
    assert_eq!(found(&host, None).as_deref(), Some("libacme.so.1"));
    let elsewhere = TestHost::new();
    assert_eq!(found(&host, Some(elsewhere.open().root())), None, "a root that is given is the only one");
}

#[test]
fn the_known_places_are_looked_up_under_every_root_that_is_given() {
    for place in [
        "/opt/acme/lib",
        "/opt/acme/2.0/lib",
        "/usr/lib64",
        "/usr/lib/aarch64-linux-gnu",
        "/run/opengl-driver/lib",
        "/run/acme/driver/usr/lib/x86_64-linux-gnu",
        "/run/acme/driver/opt/acme/2.0/lib",
    ] {
        let file = format!("{place}/libacme.so");
        let (host, other) = (TestHost::new(), TestHost::new().file(&file, ""));
        let found = |roots: &[&Path]| {
            let roots = std::env::join_paths(roots).expect("no path has a colon");
            SPEC.find(&host.open(), Some(Path::new(&roots)))
        };
        let (empty, other) = (host.open(), other.open());
        let expected = other.real_path(&file).expect("it is there");
        assert_eq!(found(&[other.root()]), Some(expected.clone()), "{place}");
        assert_eq!(
            found(&[empty.root(), Path::new("/nonexistent"), other.root()]),
            Some(expected),
            "{place}"
        );
        assert_eq!(found(&[empty.root()]), None);
    }
}

#[test]
fn of_several_versions_the_last_one_is_taken() {
    let host =
        TestHost::new().file("/opt/acme/1.9/lib/libacme.so", "").file("/opt/acme/2.0/lib/libacme.so", "");
    assert!(SPEC.find(&host.open(), None).is_some_and(|path| path.ends_with("opt/acme/2.0/lib/libacme.so")));
}

#[test]
fn a_library_that_is_absent_is_a_problem_where_its_root_was_given_or_a_device_needs_it() {
    let host = TestHost::new();
    assert_eq!(discovered(&mut enrichment(None), &host, "acme"), []);
    assert_eq!(discovered(&mut enrichment(Some(host.open().root())), &host, "acme"), [Missing::NotExposed]);
    let mut findings = findings("acme-next");
    enrichment(None).discover(&host.open(), &mut findings, false);
    let message = &findings.problems[0].message;
    for part in ["libacme.so", "acme-next is bound", "/opt/acme/lib, ", "under /, /run/acme/driver"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn only_devices_of_the_librarys_driver_are_a_reason_to_query_it() {
    let host = TestHost::new().file("/usr/lib64/libacme.so", "");
    let mut enrichment = enrichment(None);
    assert_eq!(discovered(&mut enrichment, &host, "vfio-pci"), []);
    assert_eq!(discovered(&mut enrichment, &host, "acme"), [Missing::Unreadable], "it cannot be started");
}

#[test]
fn a_released_library_is_not_queried_until_it_is_reacquired() {
    let host = TestHost::new().file("/usr/lib64/libacme.so", "");
    let mut enrichment = enrichment(None);
    assert!(enrichment.release().is_empty(), "no process runs");
    assert_eq!(discovered(&mut enrichment, &host, "acme"), [Missing::Released]);
    enrichment.reacquire();
    assert_eq!(discovered(&mut enrichment, &host, "acme"), [Missing::Unreadable]);
}

#[test]
fn a_library_that_reported_no_device_is_not_sampled() {
    let host = TestHost::new().file("/usr/lib64/libacme.so", "");
    let mut sampling = Sampling::default();
    assert!(!enrichment(None).sample(&host.open(), SAMPLE, &mut sampling, false));
    assert_eq!(sampling, Sampling::default());
}

#[test]
fn refused_calls_are_one_problem_per_reason() {
    let reported = report(json!({ "system": {}, "devices": [{ "answers": {
        "a": { "error": "NO_PERM" }, "b": { "error": "NOT_SUPPORTED" }, "c": { "error": "NO_PERM" },
        "d": { "error": 77 },
    } }] }));
    let device = address(1).into();
    let refused = SPEC.refused(device, reported.devices[0].answers.errors());
    let refused: Vec<_> = refused.iter().map(|problem| (problem.reason, problem.message.as_str())).collect();
    assert_eq!(
        refused,
        [
            (Missing::NotPermitted, "the library refused: a NO_PERM, c NO_PERM"),
            (Missing::Unreadable, "the library refused: d 77"),
        ]
    );
}

#[test]
fn a_failed_initialisation_names_the_interface_and_gives_advice() {
    let failed = report(json!({ "system": { "acmeInit": { "error": "NO_DRIVER" } } }));
    let code = SPEC.init_error(&failed).expect("it failed");
    assert_eq!(
        SPEC.init_problem(&failed, code).message,
        "ACME cannot be initialised: NO_DRIVER; load the driver"
    );
}

#[test]
fn static_facts_of_lost_devices_and_failed_calls_are_retained() {
    let device = |bus: u8, name: serde_json::Value| {
        json!({ "answers": {
            "acmeGetBus": { "value": bus }, "acmeGetName": name, "acmeGetPeer": { "value": 9 },
        } })
    };
    let earlier = report(json!({ "system": {}, "devices": [
        device(1, json!({ "value": "A" })), device(2, json!({ "value": "B" })),
    ] }));
    let mut now = report(json!({ "system": {}, "devices": [
        { "answers": { "acmeGetBus": { "value": 2 }, "acmeGetName": { "error": "NO_PERM" } } },
        { "answers": { "acmeGetHandle": { "error": "NO_DRIVER" } } },
    ] }));
    now.retain_missing(&earlier, unit_of, &SPEC.retains);
    assert_eq!(now.devices.len(), 3);
    let name = |bus| {
        let answers = &now.device(address(bus), unit_of).expect("it is retained").answers;
        assert_eq!(answers.get("acmeGetPeer"), None, "peers are by index, which may be another one now");
        answers.known::<String>("acmeGetName").into_value()
    };
    assert_eq!((name(1).as_deref(), name(2).as_deref()), (Some("A"), Some("B")));
}

#[test]
fn partitions_are_retained_unless_their_device_says_otherwise() {
    let device = |answers: serde_json::Value, partitions: serde_json::Value| {
        let mut all = json!({ "acmeGetBus": { "value": 1 } });
        all.as_object_mut().expect("an object").extend(answers.as_object().expect("an object").clone());
        report(json!({ "system": {}, "devices": [{ "answers": all, "mig": partitions }] }))
    };
    let partition = |uuid: &str| json!({ "acmeGetUuid": { "value": uuid }, "acmeGetName": { "value": "P" } });
    let earlier = device(json!({ "acmeGetMode": { "value": 1 } }), json!([partition("A"), partition("B")]));
    let retained = |mut now: LibraryReport<Acme>| {
        now.retain_missing(&earlier, unit_of, &SPEC.retains);
        let names = now.devices[0].partitions.iter().map(|partition| {
            partition.as_ref().and_then(|answers| answers.known::<String>("acmeGetName").into_value())
        });
        names.map(|name| name.is_some()).collect::<Vec<_>>()
    };
    let failed = json!({ "acmeGetMode": { "error": "NO_PERM" } });
    assert_eq!(retained(device(failed, json!([]))), [true, true], "the mode is not known");
    assert_eq!(retained(device(json!({}), json!([]))), [true, true], "nothing was asked");
    let on = || json!({ "acmeGetMode": { "value": 1 } });
    assert!(retained(device(on(), json!([]))).is_empty(), "they were removed");
    let refused = json!({ "acmeGetHandle": { "error": "NO_PERM" } });
    assert_eq!(retained(device(on(), json!([refused, null]))), [true, false]);
    let another = json!({ "acmeGetUuid": { "value": "C" } });
    assert_eq!(retained(device(on(), json!([another]))), [false], "another one in its place");
}

#[test]
fn a_recording_holds_the_sample_of_each_device() {
    let reported = json!({ "system": { "acmeInit": { "value": null } }, "devices": [
        { "answers": { "acmeGetHandle": { "error": "NO_DRIVER" } } },
        { "socket": 1, "answers": { "acmeGetBus": { "value": 1 } }, "mig": [null, { "acmeGetName": { "value": "M" } }] },
    ] });
    let mut reported_now = report(reported.clone());
    assert_eq!(serde_json::to_value(&reported_now).expect("it can be written"), reported);
    let sampled = report(json!({ "system": {}, "devices": [{
        "answers": { "acmeGetBus": { "value": 1 }, "acmeGetPower": { "value": 7 } },
        "mig": [null, { "acmeGetPower": { "value": 3 } }],
    }] }));
    reported_now.extend(&sampled, unit_of);
    assert_eq!(reported_now.devices[0].answers.get("acmeGetPower"), None);
    assert_eq!(reported_now.devices[1].answers.known("acmeGetPower"), Known::Value(7));
    let partition = reported_now.devices[1].partitions[1].as_ref().expect("there is one");
    assert_eq!(partition.known("acmeGetPower"), Known::Value(3));
}

#[test]
fn a_library_is_injected_if_the_root_in_which_it_is_is_not_the_hosts() {
    let (host, container) = (TestHost::new().file("/here", ""), TestHost::new().file("/here", ""));
    let roots = |host: &TestHost, container: &TestHost| {
        let (host, container) = (host.open(), container.open());
        let joined = std::env::join_paths([container.root(), &host.root().join("driver")]);
        let roots = joined.expect("no path has a colon");
        enrichment(Some(Path::new(&roots))).is_injected(&host)
    };
    assert!(!roots(&host, &container), "it is nowhere");
    let host = host.file("/driver/usr/lib64/libacme.so", "");
    assert!(!roots(&host, &container), "it is the host's");
    let container = container.file("/usr/lib64/libacme.so", "");
    assert!(roots(&host, &container), "the first root has it");
}

#[test]
fn the_problem_of_a_library_that_is_not_there_names_the_roots_and_a_few_places() {
    let devices = findings("acme-next").devices;
    let problem = SPEC.absence(false, Some(Path::new("/given")), &devices).expect("a driver needs it");
    assert!(problem.message.len() < 400, "{}", problem.message);
    let more = SPEC.directories().count() - NAMED_PLACES;
    for text in ["/given", "acme-next", "/opt/acme/lib", "/run/acme/driver", &format!("{more} more")] {
        assert!(problem.message.contains(text), "{text}: {}", problem.message);
    }
}
