//! The running agent: endpoints, added and removed devices, shutdown.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use afd_model::Inventory;
use afd_tests::{agent::Agent, fixture::Fixture, fixture::FixtureHost};
use flate2::read::GzDecoder;

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.5"];

fn start(host: &FixtureHost) -> Agent {
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
        ["afd_build_info{node=", "afd_probe_duration_seconds_bucket{", "process_resident_memory_bytes "]
    {
        assert!(metrics.text().contains(family), "{family} is missing");
    }
    assert_eq!(devices(&agent), 8);
    assert_eq!(agent.get("/healthz").status, 200);
    assert_eq!(agent.get("/nothing").status, 404);
}

#[test]
fn the_build_names_the_node() {
    let host = Fixture::named("tpu-v5e-x1").lay_out();
    for (options, node) in [(vec![], ""), (vec!["--node-name", "node-7"], "node-7")] {
        let agent = Agent::start(host.afd(RUN.into_iter().chain(options)));
        let info = format!("afd_build_info{{node=\"{node}\",version=");
        assert!(agent.get("/metrics").text().contains(&info), "{}", agent.get("/metrics").text());
    }
}

#[test]
fn a_compressed_response_has_the_same_content() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    let agent = start(&host);
    let compressed = agent.get_with("/inventory", "Accept-Encoding: gzip\r\n");
    assert!(compressed.headers.contains("content-encoding: gzip"));
    let mut text = Vec::new();
    GzDecoder::new(compressed.body.as_slice())
        .read_to_end(&mut text)
        .expect("the response is gzip-compressed");
    assert_eq!(text, agent.get("/inventory").body);
}

#[test]
fn a_device_that_is_removed_or_added_is_seen_by_the_periodic_discovery() {
    let host = Fixture::named("gaudi2-x8").copy();
    let agent = start(&host);
    let (link, target) = host.pci_link("0x1020");
    fs::remove_file(&link).expect("a link can be removed");
    agent.until("the device is gone", |agent| devices(agent) == 7);
    std::os::unix::fs::symlink(target, &link).expect("a link can be made");
    agent.until("the device is back", |agent| devices(agent) == 8);
}

#[test]
fn a_value_that_changes_is_sampled_and_one_that_disappears_is_absent() {
    let host = Fixture::named("amd-mi300x8-spx").copy();
    let agent = start(&host);
    let family = "accelerator_device_memory_used_bytes{";
    let before = agent.get("/metrics").text().matches(family).count();
    assert_eq!(before, 8);
    let devices = host.root().join("sys/bus/pci/devices");
    let file = fs::read_dir(devices)
        .expect("the bus can be listed")
        .filter_map(|entry| Some(entry.ok()?.path().join("mem_info_vram_used")))
        .find(|path| path.exists())
        .expect("an MI300X reports the memory in use");
    fs::write(&file, "123456789\n").expect("the host root is a copy");
    agent.until("the value is seen", |agent| agent.get("/metrics").text().contains(" 123456789\n"));
    fs::remove_file(&file).expect("the host root is a copy");
    agent.until("the series is absent", |agent| agent.get("/metrics").text().matches(family).count() == 7);
}

#[test]
fn a_device_fails_with_its_error_counter_and_recovers_with_it() {
    let host = Fixture::named("amd-mi210x8-two-hives").copy();
    let agent = start(&host);
    let state = |agent: &Agent, state: &str| {
        let line = format!(
            "device=\"0000:21:00.0\",uuid=\"afff740f-0000-1000-80d0-000000000200\",partition=\"\",state=\"{state}\"}} 1"
        );
        agent.get("/metrics").text().contains(&line)
    };
    assert!(state(&agent, "healthy"));
    let file = host.root().join("sys/bus/pci/devices/0000:21:00.0/ras/umc_err_count");
    fs::write(&file, "ue: 1\nce: 0\n").expect("the host root is a copy");
    agent.until("the device has failed", |agent| state(agent, "failed"));
    assert!(agent.get("/metrics").text().contains("reason=\"UncorrectableErrors\"} 1"));
    fs::write(&file, "ue: 0\nce: 0\n").expect("the host root is a copy");
    agent.until("the device has recovered", |agent| state(agent, "healthy"));
}

#[test]
fn the_memory_of_processes_is_published_on_request() {
    let host = Fixture::named("amd-mi210x8-two-hives").lay_out();
    let family = "accelerator_device_process_memory_used_bytes{";
    assert!(!start(&host).get("/metrics").text().contains(family));
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--per-process"])));
    assert_eq!(agent.get("/metrics").text().matches(family).count(), 8);
}

#[test]
fn the_metrics_of_a_vendor_are_served_only_on_request() {
    let host = Fixture::named("amd-mi308x8-cpx").copy();
    assert_eq!(start(&host).get("/compat/amd").status, 404);
    let agent = Agent::start(host.afd(RUN.into_iter().chain(["--compat-metrics", "amd"])));
    let response = agent.get("/compat/amd");
    assert_eq!(response.status, 200);
    assert!(response.text().contains("\ngpu_nodes_total 32\n"));
    assert!(!agent.get("/metrics").text().contains("gpu_nodes_total"));
    let start = Instant::now();
    let file = host.root().join("sys/bus/pci/devices/0000:0c:00.0/gpu_metrics");
    // The table of the first device, with 100 more cycles, throttled by the power limit in 25 of them.
    let advance = || {
        let mut table = fs::read(&file).expect("the host root is a copy");
        for (offset, more) in [(32, 100), (40, 25)] {
            let bytes: [u8; 4] = table[offset..offset + 4].try_into().expect("four bytes");
            table[offset..offset + 4].copy_from_slice(&(u32::from_le_bytes(bytes) + more).to_le_bytes());
        }
        let next = file.with_extension("next");
        fs::write(&next, table).expect("the host root is a copy");
        fs::rename(next, &file).expect("a file can be replaced");
    };
    let share = |agent: &Agent| {
        let text = agent.get("/compat/amd").text().to_owned();
        text.lines().any(|line| {
            line.starts_with("gpu_violation_ppt_residency_percentage{gpu_id=\"0\"") && line.ends_with(" 25")
        })
    };
    // However many of these steps a sample sees, a quarter of its cycles was throttled.
    agent.until("the share is published", |agent| {
        advance();
        share(agent)
    });
    let metrics = agent.get("/metrics").text().to_owned();
    let line = metrics.lines().find(|line| {
        line.starts_with("accelerator_device_throttle_seconds_total{")
            && line.contains("0000:0c:00.0")
            && line.contains("cause=\"power\"")
    });
    let value: f64 =
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the family is published");
    assert!(value > 0.01 && value < start.elapsed().as_secs_f64(), "a part of the time: {value}");
}

#[test]
fn a_uevent_triggers_a_discovery() {
    // A real uevent: root may trigger one for any device.
    let Some(uevent) = fs::read_dir("/sys/bus/pci/devices")
        .ok()
        .and_then(|mut functions| Some(functions.next()?.ok()?.path().join("uevent")))
        .filter(|path| fs::OpenOptions::new().write(true).open(path).is_ok())
    else {
        panic!("this test triggers a uevent and needs root and a PCI function under /sys");
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
    fs::rename(buses.join("devices"), buses.join("away")).expect("the host root is a copy");
    fs::create_dir(buses.join("devices")).expect("the host root is a copy");
    agent.until("the uevent has triggered a discovery", |agent| {
        fs::write(&uevent, "change").expect("the uevent can be triggered");
        std::thread::sleep(Duration::from_millis(300));
        !agent.get("/metrics").text().contains("accelerator_device_info{")
    });
}

#[test]
fn sigterm_ends_the_agent_without_waiting_for_a_cycle() {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let intervals = ["--sample-interval", "3600", "--discovery-interval", "3600"];
    let agent = Agent::start(host.afd(["run", "--no-kubernetes"].into_iter().chain(intervals)));
    let pid = rustix::process::Pid::from_raw(i32::try_from(agent.pid()).expect("a process id is an i32"));
    rustix::process::kill_process(pid.expect("a process id is above 0"), rustix::process::Signal::TERM)
        .expect("a child can be signalled");
    assert!(agent.wait(), "the exit status is 0");
}

/// dcgm-exporter may have the port that endpoint pickers scrape.
#[test]
fn a_port_for_endpoint_pickers_that_is_taken_costs_nothing_else() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--dcgm-listen", address.as_str()]));
    agent.until("the loss is counted", |agent| {
        agent.value("afd_http_taken_ports_total{listener=\"dcgm\"}").is_some_and(|times| times >= 1.0)
    });
    assert_eq!(agent.get("/readyz").status, 200);
    drop(taken);
    agent.until("the port is served once it is free", |_| TcpStream::connect(&address).is_ok());
    assert_eq!(Agent::get_from(&address, "/metrics").status, 200);
}
