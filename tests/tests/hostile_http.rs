//! Clients of the HTTP endpoints that read nothing, send nothing, or send too much: scrapes and probes are answered meanwhile,
//! memory is bounded and returned, and SIGTERM ends the agent.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use afd_agent::{
    live::{LiveInputs, LiveReport},
    render::{DoorPage, PageInputs, SharedFrame},
};
use afd_derive::{
    paths::PathVerdict,
    series::{InCluster, SeriesDetail},
};
use afd_model::{Inventory, Sampling};
use afd_tests::{
    agent::Agent,
    attack::{Attack, BadClient, connect_from},
    fixture::{self, Fixture, FixtureHost},
    memory::{AttackMemory, RETURNED},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The address of bad clients; the others come from 127.0.0.1. A flood displaces its own connections. One from the same address
/// as a scrape may displace that as well, if its request does not arrive in time.
const ATTACKER: &str = "127.0.0.2";
/// Half of the responses take at most this long: the kubelet's timeout in the chart. On an idle machine it is a millisecond.
const MAX_MEDIAN: Duration = Duration::from_secs(5);
/// The limit of each response. A machine that runs other tests as well needs some of it.
const MAX_LATENCY: Duration = Duration::from_secs(30);
/// What an attack may add to the private memory. The budget is of a release build: 24 MiB resident in all.
const MAX_GROWTH_KIB: u64 = 12 * 1024;

fn start(host: &FixtureHost) -> Agent {
    Agent::start(host.afd(["run", "--no-kubernetes", "--health-listen", "127.0.0.1:0"]))
}

/// An agent with eight GPUs: its page of metrics has 100 kB.
fn host() -> FixtureHost {
    Fixture::named("nvidia-h100x8").lay_out()
}

/// What was seen during an attack.
struct Service {
    median: Duration,
    slowest: Duration,
}

/// Scrapes and probes during an attack.
fn serve_during(agent: &Agent, attack: &Attack, duration: Duration, memory: &mut AttackMemory) -> Service {
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < duration || latencies.len() < 20 {
        for (address, path) in [
            (agent.address(), "/metrics"),
            (agent.address(), "/healthz"),
            (agent.health_address(), "/healthz"),
            (agent.health_address(), "/readyz"),
        ] {
            let asked = Instant::now();
            let response = Agent::get_from(address, path);
            assert_eq!(response.status, 200, "{path} of {address} after {} connections", attack.opened());
            latencies.push(asked.elapsed());
        }
        memory.observe(agent);
        thread::sleep(Duration::from_millis(50));
    }
    latencies.sort();
    let (median, slowest) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    assert!(median < MAX_MEDIAN && slowest < MAX_LATENCY, "median {median:?}, slowest {slowest:?}");
    Service { median, slowest }
}

fn withstands(kind: BadClient, connections: usize) {
    let host = host();
    let agent = start(&host);
    let warm_up = Attack::start(ATTACKER, agent.address(), kind, connections);
    serve_during(&agent, &warm_up, Duration::from_secs(3), &mut AttackMemory::before(&agent));
    drop(warm_up);
    thread::sleep(RETURNED);
    let mut memory = AttackMemory::before(&agent);
    let attack = Attack::start(ATTACKER, agent.address(), kind, connections);
    let Service { median, slowest } = serve_during(&agent, &attack, Duration::from_secs(8), &mut memory);
    let opened = attack.opened();
    drop(attack);
    println!("{kind:?}: {opened} connections; median response {median:?}, slowest {slowest:?}");
    assert!(opened >= connections, "the attack took place: {opened}");
    memory.assert_within_limits(&format!("{connections} clients, {kind:?}"), &agent, MAX_GROWTH_KIB);
}

#[test]
fn clients_that_never_read_are_withstood() {
    withstands(BadClient::NeverReads, 300);
}

#[test]
fn clients_that_never_finish_a_header_are_withstood() {
    withstands(BadClient::NeverFinishesHeader, 300);
}

#[test]
fn huge_headers_are_withstood() {
    withstands(BadClient::HugeHeader, 510);
}

#[test]
fn slow_readers_are_withstood() {
    withstands(BadClient::ReadsSlowly, 300);
}

#[test]
fn a_flood_of_connections_is_withstood() {
    withstands(BadClient::Flood, 200);
}

#[test]
fn probes_are_answered_while_their_own_port_is_attacked() {
    let host = host();
    let agent = start(&host);
    let attack = Attack::start(ATTACKER, agent.health_address(), BadClient::NeverReads, 100);
    serve_during(&agent, &attack, Duration::from_secs(3), &mut AttackMemory::before(&agent));
}

#[test]
fn sigterm_ends_the_agent_while_every_place_is_taken() {
    for kind in [BadClient::NeverReads, BadClient::NeverFinishesHeader, BadClient::Silent] {
        let host = host();
        let agent = start(&host);
        let attack = Attack::start(ATTACKER, agent.address(), kind, 300);
        serve_during(&agent, &attack, Duration::from_secs(1), &mut AttackMemory::before(&agent));
        let asked = Instant::now();
        agent.terminate();
        assert!(agent.wait(), "the exit status is 0");
        println!("{kind:?}: ended after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(30), "the drain is bounded: {:?}", asked.elapsed());
    }
}

fn rejected(reason: &str) -> String {
    format!("afd_http_rejected_total{{listener=\"agent\",reason=\"{reason}\"}}")
}

#[test]
fn connections_are_counted_and_every_rejection_has_its_reason() {
    let host = host();
    let agent = start(&host);
    let reasons = [
        "displaced",
        "slow_handshake",
        "handshake_failed",
        "slow_request",
        "malformed_request",
        "method_not_allowed",
        "unauthorized",
        "forbidden",
        "busy",
        "unavailable",
        "stalled",
        "slow_response",
    ];
    for reason in reasons {
        assert_eq!(agent.value(&rejected(reason)), Some(0.0), "{reason}");
    }
    let open = || agent.value("afd_http_connections{listener=\"agent\"}");
    let kept: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(agent.address()).expect("the agent accepts connections")).collect();
    agent.until("the connections are counted", |_| open() >= Some(5.0));
    drop(kept);
    agent.until("they are gone", |_| open().is_some_and(|open| open < 5.0));
    let send = |text: &str| {
        let mut client = TcpStream::connect(agent.address()).expect("the agent accepts connections");
        client.write_all(text.as_bytes()).expect("a request can be sent");
        client
    };
    let malformed = send("no request at all\r\n\r\n");
    let method = send("POST /metrics HTTP/1.1\r\nHost: afd\r\nConnection: close\r\n\r\n");
    let slow = send("GET /metrics HTTP/1.1\r\nHost:");
    for reason in ["malformed_request", "method_not_allowed", "slow_request"] {
        agent.until(reason, |agent| agent.value(&rejected(reason)) == Some(1.0));
    }
    drop((malformed, method, slow));
    // A kept connection without a further request is closed and was not rejected.
    let mut idle = TcpStream::connect(agent.address()).expect("the agent accepts connections");
    assert_eq!(kept_request(&mut idle), "HTTP/1.1 200 OK");
    assert_eq!(idle.read(&mut [0; 1]).expect("the agent closes it"), 0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.value(&rejected("slow_request")), Some(1.0));
}

#[test]
fn a_connection_that_does_not_read_is_ended_after_some_seconds() {
    let host = host();
    let agent = start(&host);
    let mut client = TcpStream::connect(agent.address()).expect("the agent accepts connections");
    client
        .write_all(&b"GET /metrics HTTP/1.1\r\nHost: afd\r\n\r\n".repeat(2000))
        .expect("requests can be sent");
    agent.until("the connection is ended", |agent| agent.value(&rejected("stalled")) == Some(1.0));
}

/// A request on a connection that stays open; its status line.
fn kept_request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: afd\r\n\r\n").expect("the connection is open");
    let mut response = [0; 512];
    let length = stream.read(&mut response).expect("the connection is open");
    String::from_utf8_lossy(&response[..length]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_flood_does_not_displace_the_connection_of_another_client() {
    let host = host();
    let agent = start(&host);
    let mut other = connect_from("127.0.0.1", agent.address()).expect("the agent accepts connections");
    let attack = Attack::start(ATTACKER, agent.address(), BadClient::NeverFinishesHeader, 200);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) || attack.opened() < 300 {
        assert_eq!(kept_request(&mut other), "HTTP/1.1 200 OK", "after {} connections", attack.opened());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn both_families_are_served_where_ipv6_sockets_accept_ipv6_only() {
    let host = host();
    let run = host.afd(["run", "--no-kubernetes", "--listen", "[::]:9109"]);
    // In a network of its own, whose settings can be changed.
    let mut command = Command::new("unshare");
    let prepare = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/bindv6only && exec \"$@\"";
    command.args(["--net", "sh", "-c", prepare, "sh"]).arg(run.get_program()).args(run.get_args());
    let agent = Agent::start_listening(command);
    let network = File::open(format!("/proc/{}/ns/net", agent.pid())).expect("the agent runs");
    let statuses = thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("this needs root");
        ["127.0.0.1:9109", "[::1]:9109"].map(|address| Agent::get_from(address, "/healthz").status)
    });
    assert_eq!(statuses.join().expect("both families are accepted"), [200, 200]);
}

/// `/` and `/live` of an inventory without samples.
fn live_pages(inventory: &Inventory, paths: &[PathVerdict<'_>], frame: &SharedFrame) -> String {
    let sampling = Sampling::default();
    let inputs = LiveInputs {
        page: PageInputs {
            inventory,
            paths,
            sampling: &sampling,
            cluster: InCluster::default(),
            door: DoorPage::default(),
            detail: SeriesDetail::default(),
        },
        conditions: None,
        node: Some("node"),
        sampled_at: None,
        interval: Duration::from_secs(5),
        stale_after: Duration::from_secs(40),
    };
    let pages = afd_agent::render::live(frame, LiveReport::new(inputs), None);
    let texts = [pages.status_page.plain(), pages.part.plain(), pages.json.plain()].concat();
    String::from_utf8(texts).expect("pages are text")
}

#[test]
fn what_clients_of_the_network_read_has_no_serial_numbers() {
    let rules = afd_derive::paths::PathRules::built_in();
    let mut serials = 0;
    for fixture in fixture::all() {
        let Ok(json) = std::fs::read_to_string(fixture.expected("inventory.json")) else { continue };
        let inventory: Inventory = serde_json::from_str(&json).expect("expected output is an inventory");
        let inventory = std::sync::Arc::new(inventory);
        let pages = afd_agent::render::inventory(&inventory, Some("node"));
        let text = |page: &afd_publish::page::Page| String::from_utf8_lossy(&page.plain()).into_owned();
        let public = text(&pages.inventory.public);
        let page = live_pages(&inventory, &rules.verdicts(&inventory, false), &pages.frame);
        let complete = text(&pages.inventory.complete);
        for device in &inventory.devices {
            if let Some(serial) = device.serial.value() {
                serials += 1;
                let field = format!("\"serial\": \"{serial}\"");
                assert!(complete.contains(&field), "{}", fixture.name);
                assert!(!public.contains(&field) && !page.contains(serial.as_str()), "{}", fixture.name);
            }
            if let Some(uuid) = device.uuid.value() {
                assert!(public.contains(uuid.as_str()), "{}: UUIDs stay", fixture.name);
            }
        }
    }
    assert!(serials > 8, "fixtures have serial numbers: {serials}");
}
