//! The running agent: endpoints, devices that come and go, the end.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, io::Read, time::Duration};

use afd_model::Inventory;
use afd_tests::{agent::Agent, fixture::Fixture, fixture::LaidOut};
use flate2::read::GzDecoder;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];

fn start(host: &LaidOut) -> Agent {
    Agent::start(host.afd(RUN))
}

fn devices(agent: &Agent) -> usize {
    let inventory: Inventory =
        serde_json::from_slice(&agent.get("/inventory").body).expect("the inventory is JSON");
    inventory.devices.len()
}

#[test]
fn endpoints_answer() {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let agent = start(&host);
    let metrics = agent.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.headers.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.headers);
    assert_eq!(metrics.text().matches("\naccelerator_device_info{").count(), 8);
    for family in
        ["afd_build_info{version=", "afd_probe_duration_seconds_bucket{", "process_resident_memory_bytes "]
    {
        assert!(metrics.text().contains(family), "{family} is missing");
    }
    assert_eq!(devices(&agent), 8);
    assert_eq!(agent.get("/healthz").status, 200);
    assert_eq!(agent.get("/nothing").status, 404);
}

#[test]
fn a_compressed_answer_is_the_same() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    let agent = start(&host);
    let compressed = agent.get_with("/inventory", "Accept-Encoding: gzip\r\n");
    assert!(compressed.headers.contains("content-encoding: gzip"));
    let mut text = Vec::new();
    GzDecoder::new(compressed.body.as_slice())
        .read_to_end(&mut text)
        .expect("the answer is in gzip's format");
    assert_eq!(text, agent.get("/inventory").body);
}

#[test]
fn a_device_that_goes_or_comes_is_seen_by_the_periodic_look() {
    let host = Fixture::named("gaudi2-x8").copy();
    let agent = start(&host);
    let devices_folder = host.root().join("sys/bus/pci/devices");
    let link = fs::read_dir(&devices_folder)
        .expect("the bus can be listed")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| fs::read_to_string(path.join("device")).is_ok_and(|id| id.trim() == "0x1020"))
        .expect("the host has a Gaudi 2");
    let target = fs::read_link(&link).expect("a function is a link");
    fs::remove_file(&link).expect("a link can be removed");
    agent.until("the device is gone", |agent| devices(agent) == 7);
    std::os::unix::fs::symlink(target, &link).expect("a link can be made");
    agent.until("the device is back", |agent| devices(agent) == 8);
}

#[test]
fn a_value_that_moves_is_sampled_and_one_that_vanishes_is_absent() {
    let host = Fixture::named("amd-mi300x8-spx").copy();
    let agent = start(&host);
    let power = "accelerator_device_memory_used_bytes{";
    let before = agent.get("/metrics").text().matches(power).count();
    assert_eq!(before, 8);
    let devices = host.root().join("sys/bus/pci/devices");
    let file = fs::read_dir(devices)
        .expect("the bus can be listed")
        .filter_map(|entry| Some(entry.ok()?.path().join("mem_info_vram_used")))
        .find(|path| path.exists())
        .expect("an MI300X tells the memory in use");
    fs::write(&file, "123456789\n").expect("the host is ours");
    agent.until("the value is seen", |agent| agent.get("/metrics").text().contains(" 123456789\n"));
    fs::remove_file(&file).expect("the host is ours");
    agent.until("the series is absent", |agent| agent.get("/metrics").text().matches(power).count() == 7);
}

#[test]
fn a_device_fails_with_its_error_counter_and_recovers_with_it() {
    let host = Fixture::named("amd-mi210x8-two-hives").copy();
    let agent = start(&host);
    let state = |agent: &Agent, state: &str| {
        let line = format!(
            "device=\"0000:21:00.0\",uuid=\"af00740f-0000-1000-80d0-000000000200\",partition=\"\",state=\"{state}\"}} 1"
        );
        agent.get("/metrics").text().contains(&line)
    };
    assert!(state(&agent, "healthy"));
    let file = host.root().join("sys/bus/pci/devices/0000:21:00.0/ras/umc_err_count");
    fs::write(&file, "ue: 1\nce: 0\n").expect("the host is ours");
    agent.until("the device has failed", |agent| state(agent, "failed"));
    assert!(agent.get("/metrics").text().contains("reason=\"UncorrectableErrors\"} 1"));
    fs::write(&file, "ue: 0\nce: 0\n").expect("the host is ours");
    agent.until("the device has recovered", |agent| state(agent, "healthy"));
}

#[test]
fn processes_are_told_when_asked_for() {
    let host = Fixture::named("amd-mi210x8-two-hives").lay_out();
    let family = "accelerator_device_process_memory_used_bytes{";
    assert!(!start(&host).get("/metrics").text().contains(family));
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--per-process"])));
    assert_eq!(agent.get("/metrics").text().matches(family).count(), 8);
}

#[test]
fn a_vendors_metrics_are_served_only_when_asked_for() {
    let host = Fixture::named("amd-mi308x8-cpx").copy();
    assert_eq!(start(&host).get("/compat/amd").status, 404);
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--compat-metrics", "amd"])));
    let answer = agent.get("/compat/amd");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("\ngpu_nodes_total 32\n"));
    assert!(!agent.get("/metrics").text().contains("gpu_nodes_total"));
    // The table of the first device, with 100 more cycles, the power limit having held it back in 25 of them.
    let file = host.root().join("sys/bus/pci/devices/0000:0c:00.0/gpu_metrics");
    let mut table = fs::read(&file).expect("the host is ours");
    for (offset, more) in [(32, 100), (40, 25)] {
        let bytes: [u8; 4] = table[offset..offset + 4].try_into().expect("four bytes");
        table[offset..offset + 4].copy_from_slice(&(u32::from_le_bytes(bytes) + more).to_le_bytes());
    }
    let share = |agent: &Agent| {
        let text = agent.get("/compat/amd").text().to_owned();
        text.lines().any(|line| {
            line.starts_with("gpu_violation_ppt_residency_percentage{gpu_id=\"0\"") && line.ends_with(" 25")
        })
    };
    fs::write(&file, table).expect("the host is ours");
    agent.until("the share of the time is seen", share);
    let seconds = agent.get("/metrics").text().to_owned();
    let line = seconds.lines().find(|line| {
        line.starts_with("accelerator_device_throttle_seconds_total{")
            && line.contains("0000:0c:00.0")
            && line.contains("cause=\"power\"")
    });
    let value: f64 =
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the family is there");
    assert!(value > 0.01 && value < 5.0, "a quarter of one interval: {value}");
}

#[test]
fn a_kernel_event_causes_a_look() {
    // A real event of the kernel: root may ask for one of a device that is there.
    let Some(uevent) = fs::read_dir("/sys/bus/pci/devices")
        .ok()
        .and_then(|mut functions| Some(functions.next()?.ok()?.path().join("uevent")))
        .filter(|path| fs::OpenOptions::new().write(true).open(path).is_ok())
    else {
        panic!("this test raises a uevent and needs root and a PCI function under /sys");
    };
    let host = Fixture::named("gaudi2-x8").copy();
    let agent = Agent::start(host.afd([
        "run",
        "--no-kubernetes",
        "--sample-interval",
        "60",
        "--discovery-interval",
        "86400",
    ]));
    let buses = host.root().join("sys/bus/pci");
    fs::rename(buses.join("devices"), buses.join("away")).expect("the host is ours");
    fs::create_dir(buses.join("devices")).expect("the host is ours");
    agent.until("the event has caused a look", |agent| {
        fs::write(&uevent, "change").expect("the event can be raised");
        std::thread::sleep(Duration::from_millis(300));
        !agent.get("/metrics").text().contains("accelerator_device_info{")
    });
}

#[test]
fn sigterm_ends_it_within_a_second() {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let agent = start(&host);
    let pid = rustix::process::Pid::from_raw(i32::try_from(agent.pid()).expect("a process id is an i32"));
    rustix::process::kill_process(pid.expect("a process id is above 0"), rustix::process::Signal::TERM)
        .expect("our child can be signalled");
    let (duration, success) = agent.wait();
    assert!(success);
    assert!(duration < Duration::from_secs(1), "it took {duration:?}");
}
