//! AMD SMI and ROCm SMI through the real binary and the fake libraries: what they add to the facts of the kernel, and that
//! their failures affect none of those.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use afd_model::{AmdFacts, Device, HandleKind, HealthState, Inventory, Known, Missing, VendorFacts};
use afd_tests::{
    agent::Agent,
    driver_root::FakeDriverRoot,
    fixture::{Fixture, FixtureHost},
    stdout, workspace,
};
use serde_json::{Value, json};

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const MI300X: &str = "amd-mi300x8-spx";
const MI210: &str = "amd-mi210x8-two-hives";
const UTILIZATION: &str = "accelerator_device_utilization_ratio{";
const POWER: &str = "accelerator_device_power_watts{";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"amd\"}";

/// Series of compute utilization, which only the library reports on a host from [`without_utilization`].
fn utilizations(agent: &Agent) -> usize {
    let text = agent.get("/metrics").text().to_owned();
    text.lines().filter(|line| line.starts_with(UTILIZATION) && line.contains("engine=\"compute\"")).count()
}

fn restarts(agent: &Agent) -> f64 {
    agent.value(RESTARTS).expect("restarts are counted")
}

fn shown(host: &FixtureHost) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

fn facts(device: &Device) -> &AmdFacts {
    match device.vendor_facts.as_ref() {
        Some(VendorFacts::Amd(facts)) => facts,
        _ => panic!("{} has no facts of AMD", device.id),
    }
}

fn labels(host: &FixtureHost, arguments: &[&str]) -> BTreeSet<String> {
    let show = ["show", "--output", "labels", "--compat", "amd=on"];
    let labels = stdout(&mut host.afd(show.into_iter().chain(arguments.iter().copied())));
    labels.lines().map(str::to_owned).collect()
}

/// A host whose kernel does not report the utilization of its GPUs, so that the library is asked for it at each sample.
fn without_utilization(name: &str) -> FixtureHost {
    let host = Fixture::named(name).copy();
    let mut removed = 0;
    for file in files(&host.root().join("sys/devices")) {
        if file.ends_with("gpu_busy_percent") || file.ends_with("gpu_metrics") {
            fs::remove_file(file).expect("a file can be removed");
            removed += 1;
        }
    }
    assert!(removed > 0, "{name} reports no utilization");
    host
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        match entry.file_type().expect("an entry has a type") {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn start(host: &FixtureHost) -> Agent {
    let agent = Agent::start(host.afd(RUN));
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    agent
}

/// Everything that the kernel reports is there: every device with its facts and samples.
fn assert_kernel_facts(agent: &Agent) {
    let devices = agent.inventory().devices;
    assert_eq!(devices.len(), 8);
    for device in &devices {
        assert_eq!(device.product_name(), Some("AMD Instinct MI300X"));
        assert!(device.uuid.is_known() && device.memory_bytes.is_known() && device.serial.is_known());
        assert_eq!(device.health.state, HealthState::Healthy, "{:?}", device.health);
    }
    assert_eq!(agent.count(POWER), 8);
    let scrape = agent.median_scrape();
    assert!(scrape < Duration::from_secs(1), "scrapes took {scrape:?}");
}

#[test]
fn a_missing_library_is_no_problem_and_affects_no_fact_of_the_kernel() {
    for name in [MI300X, MI210] {
        let host = Fixture::named(name).lay_out();
        let with = shown(&host);
        let root = host.root().to_str().expect("temporary paths are UTF-8");
        let json = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
        let mut without: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
        assert!(without.problems.is_empty(), "{:?}", without.problems);
        for (device, enriched) in without.devices.iter_mut().zip(&with.devices) {
            assert!(!facts(device).market_name.is_known());
            device.vendor_facts.clone_from(&enriched.vendor_facts);
            // The UUID as newer releases of the library write it is one more name.
            assert_eq!(device.uuid, enriched.uuid);
            device.handles.clone_from(&enriched.handles);
        }
        assert_eq!(without, with, "the library changes only AMD's own facts");
        assert_eq!(labels(&host, &["--no-libraries"]), labels(&host, &[]), "{name}");
    }
}

#[test]
fn the_library_reports_what_the_kernel_does_not() {
    let device = &shown(&Fixture::named(MI300X).lay_out()).devices[0];
    let text = |text: &str| Known::Value(text.to_owned());
    assert_eq!(facts(device).market_name, text("AMD Instinct MI300X"));
    assert_eq!(facts(device).vbios_version, text("022.040.003.043.000001"));
    assert_eq!(facts(device).virtualization, text("baremetal"));
    assert_eq!(facts(device).bad_page_threshold, Known::Value(256));
    assert_eq!(facts(device).nominal_partitions, Known::Value(1));

    let guest = &shown(&Fixture::named("amd-mi300x-vf-guest").lay_out()).devices[0];
    assert_eq!(facts(guest).virtualization, text("guest"));
    assert!(!guest.uuid.is_known(), "a UUID of zeros is not a value");
    assert_eq!(facts(guest).bad_page_threshold.missing(), Some(Missing::NotAvailable));
}

#[test]
fn structs_are_read_in_the_layouts_of_known_releases_only() {
    let host = Fixture::named(MI300X).lay_out();
    let newest = shown(&host);
    host.driver_root().update(|recording| recording["header"] = json!(24));
    assert_eq!(shown(&host), newest);
    host.driver_root().update(|recording| recording["header"] = json!(99));
    let unknown = shown(&host);
    assert_eq!(facts(&unknown.devices[0]).market_name.missing(), Some(Missing::Malformed));
    assert_eq!(unknown.problems.len(), 8, "one for each device: {:?}", unknown.problems);
    assert_eq!(unknown.devices[0].product_name(), Some("AMD Instinct MI300X"));
}

#[test]
fn a_device_without_a_table_entry_has_the_name_from_the_library() {
    let host = Fixture::named(MI300X).copy();
    for file in files(&host.root().join("sys/devices")) {
        match file.file_name().and_then(|name| name.to_str()) {
            Some("product_name") => fs::remove_file(file).expect("a file can be removed"),
            Some("device") if fs::read_to_string(&file).is_ok_and(|id| id.trim() == "0x74a1") => {
                fs::write(file, "0x75ff\n").expect("a file can be written");
            }
            _ => {}
        }
    }
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    assert_eq!(inventory.devices[0].product_name(), Some("AMD Instinct MI300X"));
}

#[test]
fn rocm_smi_is_used_where_amd_smi_is_missing() {
    let host = without_utilization(MI210);
    let amd =
        FakeDriverRoot::new(&workspace().join("fixtures/hosts").join(MI300X).join("libraries/amdsmi.json"));
    let agent = Agent::start(host.afd(RUN));
    agent.until("ROCm SMI is sampled", |agent| utilizations(agent) == 8);
    let text = agent.get("/metrics").text().to_owned();
    assert!(text.lines().any(|line| line.starts_with(UTILIZATION) && line.ends_with("} 0.21")), "{text}");
    // AMD SMI takes precedence once it is installed. This one reports other devices, so it adds nothing.
    host.driver_root().add(&amd);
    agent.until("AMD SMI is used instead", |agent| utilizations(agent) == 0);
    assert_eq!(agent.count(POWER), 8);
    fs::remove_file(amd_smi_of(&host)).expect("a library can be removed");
    agent.until("ROCm SMI is used again", |agent| utilizations(agent) == 8);
    assert_eq!(restarts(&agent), 0.0, "nothing failed");
}

/// The AMD SMI that was added to the driver root of a host.
fn amd_smi_of(host: &FixtureHost) -> std::path::PathBuf {
    host.driver_root().library().with_file_name("libamd_smi.so")
}

#[test]
fn a_file_that_is_not_a_library_is_a_problem_and_affects_no_fact_of_the_kernel() {
    for content in [&b"no ELF"[..], &other_library()] {
        let host = Fixture::named(MI300X).lay_out();
        fs::write(host.driver_root().library(), content).expect("a file can be written");
        let inventory = shown(&host);
        assert_eq!(inventory.devices.len(), 8);
        assert!(inventory.devices.iter().all(|device| device.health.state == HealthState::Healthy));
        assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
        assert!(inventory.problems[0].message.contains("ended (exit status: 1)"), "{:?}", inventory.problems);
    }
}

/// A library that is neither AMD SMI nor ROCm SMI.
fn other_library() -> Vec<u8> {
    fs::read(afd_tests::fake_nvml()).expect("the library is built")
}

#[test]
fn a_library_that_cannot_be_initialised_is_a_problem_and_is_retried() {
    let host = without_utilization(MI300X);
    host.driver_root()
        .update(|recording| recording["system"]["amdsmi_init"] = json!({ "error": "NOT_INIT" }));
    let agent = Agent::start(host.afd(RUN));
    agent.until("the problem is reported", |agent| {
        agent.inventory().problems.iter().any(|problem| problem.message.contains("initialised: NOT_INIT"))
    });
    assert_kernel_facts(&agent);
    assert_eq!(utilizations(&agent), 0);
    host.driver_root()
        .update(|recording| recording["system"]["amdsmi_init"] = json!({ "value": Value::Null }));
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    assert!(agent.inventory().problems.is_empty());
}

#[test]
fn a_library_without_some_symbols_reports_everything_else() {
    let host = Fixture::named(MI300X).lay_out();
    for symbol in ["amdsmi_get_gpu_virtualization_mode", "amdsmi_get_gpu_accelerator_partition_profile"] {
        host.driver_root().remove_symbol(symbol);
    }
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let facts = facts(&inventory.devices[0]);
    assert_eq!(facts.virtualization.missing(), Some(Missing::NotExposed));
    assert_eq!(facts.nominal_partitions.missing(), Some(Missing::NotExposed));
    assert!(facts.market_name.is_known());
}

#[test]
fn refused_calls_are_a_problem_of_their_device_only() {
    let host = Fixture::named(MI300X).lay_out();
    for call in ["amdsmi_get_gpu_asic_info", "amdsmi_get_gpu_vbios_info"] {
        host.driver_root().answer(3, call, json!({ "error": "NO_PERM" }));
    }
    let inventory = shown(&host);
    let problems: Vec<_> =
        inventory.problems.iter().map(|problem| (problem.device, problem.reason)).collect();
    assert_eq!(problems, [(Some(inventory.devices[3].id), Missing::NotPermitted)]);
    assert_eq!(facts(&inventory.devices[3]).market_name.missing(), Some(Missing::NotPermitted));
    assert!(facts(&inventory.devices[4]).market_name.is_known());
}

#[test]
fn a_gpu_that_the_library_loses_affects_no_other_gpu_and_no_fact_of_the_kernel() {
    let host = without_utilization(MI300X);
    let agent = start(&host);
    host.driver_root().answer(5, "amdsmi_get_processor_handles", json!({ "error": "NOT_FOUND" }));
    agent.until("its utilization is absent", |agent| utilizations(agent) == 7);
    assert_kernel_facts(&agent);
    let devices = agent.inventory().devices;
    assert!(devices.iter().all(|device| facts(device).market_name.is_known()), "static facts stay");
    host.driver_root().update(|recording| {
        let answers = recording["devices"][5]["answers"].as_object_mut().expect("answers are an object");
        answers.remove("amdsmi_get_processor_handles");
    });
    agent.until("its utilization is back", |agent| utilizations(agent) == 8);
}

#[test]
fn a_call_that_fails_once_is_repeated_with_the_next_sample() {
    let host = without_utilization(MI300X);
    let run = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "3600"];
    let agent = Agent::start(host.afd(run));
    agent.until("the library is sampled", |agent| utilizations(agent) == 8);
    let set_all = |answer: &Value| {
        host.driver_root().update(|recording| {
            for device in recording["devices"].as_array_mut().expect("a list") {
                device["answers"]["amdsmi_get_gpu_activity"] = answer.clone();
            }
        });
    };
    let activity = json!({ "value": { "gfx_activity": 42, "umc_activity": 7, "mm_activity": 0 } });
    for status in ["API_FAILED", "TIMEOUT"] {
        set_all(&json!({ "error": status }));
        agent.until("its calls fail", |agent| utilizations(agent) == 0);
        set_all(&activity);
        agent.until("the library is sampled again", |agent| utilizations(agent) == 8);
    }
    assert_eq!(restarts(&agent), 0.0, "nothing was restarted, and nothing was discovered again");
}

#[test]
fn a_call_that_hangs_ends_the_library_process_and_delays_no_scrape() {
    let host = without_utilization(MI300X);
    let before = labels(&host, &[]);
    let agent = start(&host);
    host.driver_root().fault("hang", &["amdsmi_get_gpu_activity"]);
    agent.until("what the library reports is absent", |agent| utilizations(agent) == 0);
    assert_kernel_facts(&agent);
    assert!(facts(&agent.inventory().devices[0]).market_name.is_known(), "static facts stay");
    host.driver_root().fault("hang", &[]);
    agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    assert!(restarts(&agent) >= 1.0);
    assert_eq!(labels(&host, &[]), before);
}

#[test]
fn the_agent_survives_a_crash_and_an_abort_in_the_library() {
    for kind in ["crash", "abort"] {
        let host = without_utilization(MI300X);
        let agent = start(&host);
        host.driver_root().fault(kind, &["amdsmi_get_gpu_activity"]);
        agent.until("what the library reports is absent", |agent| utilizations(agent) == 0);
        assert_kernel_facts(&agent);
        host.driver_root().fault(kind, &[]);
        agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    }
}

#[test]
fn a_library_that_leaks_memory_is_restarted() {
    let host = without_utilization(MI300X);
    let agent = start(&host);
    host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
    agent.until("the library process was restarted", |agent| restarts(agent) >= 1.0);
    host.driver_root().update(|recording| recording["faults"] = json!({}));
    agent.until("the library process has restarted", |agent| utilizations(agent) == 8);
    assert_kernel_facts(&agent);
}

#[test]
fn a_device_with_more_bad_pages_than_the_library_allows_has_failed() {
    let host = Fixture::named(MI300X).copy();
    let counts =
        files(&host.root().join("sys/devices")).into_iter().find(|file| file.ends_with("umc_err_count"));
    let pages = counts.expect("the host counts errors").with_file_name("gpu_vram_bad_pages");
    fs::write(pages, "0x00000001 : 0x00001000 : R\n0x00000002 : 0x00001000 : R\n")
        .expect("a file can be written");
    host.driver_root().update(|recording| {
        for device in recording["devices"].as_array_mut().expect("a list") {
            device["answers"]["amdsmi_get_gpu_bad_page_threshold"] = json!({ "value": 2 });
        }
    });
    let devices = shown(&host).devices;
    let failed: Vec<&str> = devices
        .iter()
        .filter(|device| device.health.state == HealthState::Failed)
        .flat_map(|device| device.health.reasons.iter().map(|reason| reason.code.as_str()))
        .collect();
    assert_eq!(failed, ["BadPageThreshold"]);
}

#[test]
fn a_recording_answers_as_the_node_did_and_contains_no_secret() {
    for (name, file) in [(MI300X, "amdsmi.json"), (MI210, "rocmsmi.json")] {
        let host = Fixture::named(name).lay_out();
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let target = folder.path().join("recorded");
        let target_text = target.to_str().expect("temporary paths are UTF-8");
        stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
        let replay = FakeDriverRoot::new(&target.join("libraries").join(file));
        let mut command = afd_tests::afd(["show", "--output", "json", "--host-root"]);
        let json = stdout(command.arg(target.join("root")).arg(replay.option()).arg(replay.path()));
        let recorded: Inventory = serde_json::from_str(&json).expect("the inventory is JSON");
        let live = shown(&host);
        assert_eq!(recorded, live);

        let redacted = folder.path().join("redacted");
        stdout(&mut host.afd(["record", redacted.to_str().expect("temporary paths are UTF-8")]));
        let text = fs::read_to_string(redacted.join("libraries").join(file)).expect("answers were recorded");
        for device in &live.devices {
            let id = device.handle(HandleKind::UniqueId).expect("the device has a unique id");
            let number = u64::from_str_radix(id, 16).expect("a unique id is hexadecimal").to_string();
            let uuid = device.uuid.value().expect("the device has a UUID");
            for secret in [id, &id.to_uppercase(), &number, uuid] {
                assert!(!text.contains(secret), "{secret} is in {file}");
            }
        }
    }
}
