//! AMD SMI and ROCm SMI through the real binary and the fake libraries: what they add to the kernel's word, and how they
//! fail without costing any of it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::BTreeSet,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use afd_model::{AmdFacts, Device, HandleKind, HealthState, Inventory, Known, Missing, VendorFacts};
use afd_tests::{
    agent::Agent,
    driver_root::DriverRoot,
    fixture::{Fixture, LaidOut},
    stdout, workspace,
};
use serde_json::{Value, json};

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];
const MI300X: &str = "amd-mi300x8-spx";
const MI210: &str = "amd-mi210x8-two-hives";
const LOAD: &str = "accelerator_device_utilization_ratio{";
const POWER: &str = "accelerator_device_power_watts{";
const RESTARTS: &str = "afd_probe_restarts_total{probe=\"amd\"}";

fn count(agent: &Agent, what: &str) -> usize {
    agent.get("/metrics").text().lines().filter(|line| line.starts_with(what)).count()
}

/// Series of the load of compute units, which the library alone tells on a host from [`without_load`].
fn loads(agent: &Agent) -> usize {
    let text = agent.get("/metrics").text().to_owned();
    text.lines().filter(|line| line.starts_with(LOAD) && line.contains("engine=\"compute\"")).count()
}

fn restarts(agent: &Agent) -> f64 {
    let text = agent.get("/metrics").text().to_owned();
    text.lines().find_map(|line| line.strip_prefix(RESTARTS)?.trim().parse().ok()).expect("it is counted")
}

fn inventory(agent: &Agent) -> Inventory {
    serde_json::from_slice(&agent.get("/inventory").body).expect("the inventory is JSON")
}

fn shown(host: &LaidOut) -> Inventory {
    serde_json::from_str(&stdout(&mut host.afd(["show", "--output", "json"]))).expect("the inventory is JSON")
}

fn facts(device: &Device) -> &AmdFacts {
    match device.vendor_facts.as_ref() {
        Some(VendorFacts::Amd(facts)) => facts,
        None => panic!("{} has no facts of AMD", device.id),
    }
}

fn labels(host: &LaidOut, arguments: &[&str]) -> BTreeSet<String> {
    let asked = ["show", "--output", "labels", "--compat", "amd=on"];
    let told = stdout(&mut host.afd(asked.into_iter().chain(arguments.iter().copied())));
    told.lines().map(str::to_owned).collect()
}

/// A host whose kernel does not tell the load of its GPUs, so that the library is asked for it with every sample.
fn without_load(name: &str) -> LaidOut {
    let host = Fixture::named(name).copy();
    let mut removed = 0;
    for file in files(&host.root().join("sys/devices")) {
        if file.ends_with("gpu_busy_percent") || file.ends_with("gpu_metrics") {
            fs::remove_file(file).expect("a file can be removed");
            removed += 1;
        }
    }
    assert!(removed > 0, "{name} tells no load");
    host
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        match entry.file_type().expect("it has a type") {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn start(host: &LaidOut) -> Agent {
    let agent = Agent::start(host.afd(RUN));
    agent.until("the library is sampled", |agent| loads(agent) == 8);
    agent
}

/// The kernel's word is all there: every device with its facts and what moves.
fn kernels_word_goes_on(agent: &Agent) {
    let devices = inventory(agent).devices;
    assert_eq!(devices.len(), 8);
    for device in &devices {
        assert_eq!(device.product_name(), Some("AMD Instinct MI300X"));
        assert!(device.uuid.is_known() && device.memory_bytes.is_known() && device.serial.is_known());
        assert_eq!(device.health.state, HealthState::Healthy, "{:?}", device.health);
    }
    assert_eq!(count(agent, POWER), 8);
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(agent.get("/metrics").status, 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "a scrape took {:?}", begun.elapsed());
    }
}

#[test]
fn no_library_is_no_problem_and_costs_nothing_that_the_kernel_tells() {
    for name in [MI300X, MI210] {
        let host = Fixture::named(name).lay_out();
        let with = shown(&host);
        let root = host.root().to_str().expect("our paths are UTF-8");
        let told = stdout(&mut afd_tests::afd(["show", "--output", "json", "--host-root", root]));
        let mut without: Inventory = serde_json::from_str(&told).expect("the inventory is JSON");
        assert!(without.problems.is_empty(), "{:?}", without.problems);
        for (device, enriched) in without.devices.iter_mut().zip(&with.devices) {
            assert!(!facts(device).market_name.is_known());
            device.vendor_facts.clone_from(&enriched.vendor_facts);
        }
        assert_eq!(without, with, "but for AMD's own facts the library changes nothing");
        assert_eq!(labels(&host, &["--no-libraries"]), labels(&host, &[]), "{name}");
    }
}

#[test]
fn the_library_tells_what_the_kernel_does_not() {
    let device = &shown(&Fixture::named(MI300X).lay_out()).devices[0];
    let text = |text: &str| Known::Value(text.to_owned());
    assert_eq!(facts(device).market_name, text("AMD Instinct MI300X"));
    assert_eq!(facts(device).vbios_version, text("022.040.003.043.000001"));
    assert_eq!(facts(device).virtualization, text("baremetal"));
    assert_eq!(facts(device).bad_page_threshold, Known::Value(256));
    assert_eq!(facts(device).nominal_partitions, Known::Value(1));

    let guest = &shown(&Fixture::named("amd-mi300x-vf-guest").lay_out()).devices[0];
    assert_eq!(facts(guest).virtualization, text("guest"));
    assert!(!guest.uuid.is_known(), "a UUID of zeros is none");
    assert_eq!(facts(guest).bad_page_threshold.missing(), Some(Missing::NotAvailable));
}

#[test]
fn structs_are_read_in_the_layout_of_older_releases_and_in_no_other() {
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
fn a_device_that_no_table_knows_has_the_librarys_name() {
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
fn rocm_smi_is_asked_where_amd_smi_is_not() {
    let host = without_load(MI210);
    let amd = DriverRoot::new(&workspace().join("fixtures/hosts").join(MI300X).join("libraries/amdsmi.json"));
    let agent = Agent::start(host.afd(RUN));
    agent.until("ROCm SMI is sampled", |agent| loads(agent) == 8);
    let text = agent.get("/metrics").text().to_owned();
    assert!(text.lines().any(|line| line.starts_with(LOAD) && line.ends_with("} 0.21")), "{text}");
    // Once AMD SMI is there it goes before. The one put here tells of other devices, so it has nothing to add.
    host.driver_root().add(&amd);
    agent.until("AMD SMI is asked instead", |agent| loads(agent) == 0);
    assert_eq!(count(&agent, POWER), 8);
    fs::remove_file(amd_smi_of(&host)).expect("a library can be removed");
    agent.until("ROCm SMI is asked again", |agent| loads(agent) == 8);
    assert_eq!(restarts(&agent), 0.0, "nothing failed");
}

/// The AMD SMI that was put beside a host's own library.
fn amd_smi_of(host: &LaidOut) -> std::path::PathBuf {
    host.driver_root().library().with_file_name("libamd_smi.so")
}

#[test]
fn a_file_that_is_no_library_is_a_problem_and_the_kernels_word_goes_on() {
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
    fs::read(afd_tests::fake_nvml()).expect("it was just built")
}

#[test]
fn a_library_that_cannot_be_initialised_is_a_problem_and_is_tried_again() {
    let host = without_load(MI300X);
    host.driver_root()
        .update(|recording| recording["system"]["amdsmi_init"] = json!({ "error": "NOT_INIT" }));
    let agent = Agent::start(host.afd(RUN));
    agent.until("it is told", |agent| {
        inventory(agent).problems.iter().any(|problem| problem.message.contains("initialised: NOT_INIT"))
    });
    kernels_word_goes_on(&agent);
    assert_eq!(loads(&agent), 0);
    host.driver_root()
        .update(|recording| recording["system"]["amdsmi_init"] = json!({ "value": Value::Null }));
    agent.until("it is asked", |agent| loads(agent) == 8);
    assert!(inventory(&agent).problems.is_empty());
}

#[test]
fn a_library_that_lacks_symbols_tells_the_rest() {
    let host = Fixture::named(MI300X).lay_out();
    for symbol in ["amdsmi_get_gpu_virtualization_mode", "amdsmi_get_gpu_accelerator_partition_profile"] {
        host.driver_root().without_symbol(symbol);
    }
    let inventory = shown(&host);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let told = facts(&inventory.devices[0]);
    assert_eq!(told.virtualization.missing(), Some(Missing::NotExposed));
    assert_eq!(told.nominal_partitions.missing(), Some(Missing::NotExposed));
    assert!(told.market_name.is_known());
}

#[test]
fn refused_calls_are_a_problem_of_their_device_alone() {
    let host = Fixture::named(MI300X).lay_out();
    for call in ["amdsmi_get_gpu_asic_info", "amdsmi_get_gpu_vbios_info"] {
        host.driver_root().answer(3, call, json!({ "error": "NO_PERM" }));
    }
    let inventory = shown(&host);
    let told: Vec<_> = inventory.problems.iter().map(|problem| (problem.device, problem.reason)).collect();
    assert_eq!(told, [(Some(inventory.devices[3].id), Missing::NotPermitted)]);
    assert_eq!(facts(&inventory.devices[3]).market_name.missing(), Some(Missing::NotPermitted));
    assert!(facts(&inventory.devices[4]).market_name.is_known());
}

#[test]
fn a_gpu_that_the_library_loses_hides_no_other_and_keeps_what_the_kernel_tells() {
    let host = without_load(MI300X);
    let agent = start(&host);
    host.driver_root().answer(5, "amdsmi_get_processor_handles", json!({ "error": "NOT_FOUND" }));
    agent.until("its load is gone", |agent| loads(agent) == 7);
    kernels_word_goes_on(&agent);
    let devices = inventory(&agent).devices;
    assert!(devices.iter().all(|device| facts(device).market_name.is_known()), "what does not move stays");
    host.driver_root().update(|recording| {
        let answers = recording["devices"][5]["answers"].as_object_mut().expect("answers are an object");
        answers.remove("amdsmi_get_processor_handles");
    });
    agent.until("it is back", |agent| loads(agent) == 8);
}

#[test]
fn a_call_that_hangs_costs_a_process_and_no_answer_of_ours() {
    let host = without_load(MI300X);
    let before = labels(&host, &[]);
    let agent = start(&host);
    host.driver_root().fault("hang", &["amdsmi_get_gpu_activity"]);
    agent.until("what the library tells is absent", |agent| loads(agent) == 0);
    kernels_word_goes_on(&agent);
    assert!(facts(&inventory(&agent).devices[0]).market_name.is_known(), "what does not move stays");
    host.driver_root().fault("hang", &[]);
    agent.until("the process came back", |agent| loads(agent) == 8);
    assert!(restarts(&agent) >= 1.0);
    assert_eq!(labels(&host, &[]), before);
}

#[test]
fn a_crash_and_an_abort_within_the_library_are_survived() {
    for kind in ["crash", "abort"] {
        let host = without_load(MI300X);
        let agent = start(&host);
        host.driver_root().fault(kind, &["amdsmi_get_gpu_activity"]);
        agent.until("what the library tells is absent", |agent| loads(agent) == 0);
        kernels_word_goes_on(&agent);
        host.driver_root().fault(kind, &[]);
        agent.until("the process came back", |agent| loads(agent) == 8);
    }
}

#[test]
fn a_library_that_leaks_is_started_anew_before_it_hurts() {
    let host = without_load(MI300X);
    let agent = start(&host);
    host.driver_root().update(|recording| recording["faults"] = json!({ "leak_bytes": 8 << 20 }));
    agent.until("it was started anew", |agent| restarts(agent) >= 1.0);
    host.driver_root().update(|recording| recording["faults"] = json!({}));
    agent.until("the process came back", |agent| loads(agent) == 8);
    kernels_word_goes_on(&agent);
}

#[test]
fn more_bad_pages_than_the_library_allows_fail_a_device() {
    let host = Fixture::named("amd-mi300x8-spx").copy();
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
fn a_recording_of_a_node_answers_as_the_node_did_and_keeps_no_secret() {
    for (name, file) in [(MI300X, "amdsmi.json"), (MI210, "rocmsmi.json")] {
        let host = Fixture::named(name).lay_out();
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let target = folder.path().join("recorded");
        let target_text = target.to_str().expect("our paths are UTF-8");
        stdout(host.afd(["record", "--no-redact", target_text]).stdin(Stdio::null()));
        let again = DriverRoot::new(&target.join("libraries").join(file));
        let mut command = afd_tests::afd(["show", "--output", "json", "--host-root"]);
        let told = stdout(command.arg(target.join("root")).arg(again.option()).arg(again.path()));
        let recorded: Inventory = serde_json::from_str(&told).expect("the inventory is JSON");
        let live = shown(&host);
        assert_eq!(recorded, live);

        let redacted = folder.path().join("redacted");
        stdout(&mut host.afd(["record", redacted.to_str().expect("our paths are UTF-8")]));
        let text = fs::read_to_string(redacted.join("libraries").join(file)).expect("answers were recorded");
        for device in &live.devices {
            let id = device.handle(HandleKind::UniqueId).expect("it has a unique id");
            let number = u64::from_str_radix(id, 16).expect("it is hexadecimal").to_string();
            let uuid = device.uuid.value().expect("it has a UUID");
            for secret in [id, &id.to_uppercase(), &number, uuid] {
                assert!(!text.contains(secret), "{secret} is in {file}");
            }
        }
    }
}
