//! A real Prometheus scrapes the agent, and its promtool reports no problem of any page.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use afd_tests::{agent::Agent, fixture, fixture::Fixture, prometheus::Prometheus, stdout};
use serde_json::json;

fn check_with_promtool(what: &str, text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by `cargo xtask setup`");
    child.stdin.take().expect("standard input is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let problems =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && problems.is_empty(), "{what}: {problems}");
}

#[test]
fn promtool_reports_no_problem_of_any_fixture() {
    for fixture in fixture::all() {
        let text = stdout(&mut fixture.lay_out().afd(["show", "--output", "metrics"]));
        if !text.is_empty() {
            check_with_promtool(&fixture.name, &text);
        }
    }
}

/// The names of a platform, whose units are its own, and whose sums must be right.
#[test]
fn promtool_reports_no_problem_of_the_common_metrics_of_any_vendor() {
    for name in
        ["amd-mi300x8-cpx-nps4", "gaudi2-x8", "intel-max1550-x2", "mixed-nvidia-amd", "nvidia-h100x2-mig"]
    {
        let host = Fixture::named(name).lay_out();
        let arguments = ["show", "--output", "metrics", "--compat-metrics", "openshift"];
        let text = stdout(&mut host.afd(arguments));
        check_with_promtool(name, &text);
        let temperature = "accelerator_temperature_celsius{";
        let devices: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(temperature))
            .filter_map(|line| line.split("accelerator_id=\"").nth(1)?.split('"').next())
            .collect();
        let distinct: std::collections::BTreeSet<&str> = devices.iter().copied().collect();
        assert!(!devices.is_empty() && devices.len() == distinct.len(), "{name}: {devices:?}");
    }
}

#[test]
fn prometheus_scrapes_the_agent_and_answers_a_query() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes"]));
    check_with_promtool("the running agent", agent.get("/metrics").text());

    let prometheus = Prometheus::scraping(agent.address());
    agent.until("Prometheus counts eight devices", |_| {
        prometheus.query("count(accelerator_device_info)") == [8.0]
    });
}

/// A counter that appeared with its first event would have no increase in Prometheus.
#[test]
fn the_first_xid_of_a_gpu_is_an_increase() {
    const XIDS: &str = "accelerator_device_errors_total{device=\"0000:19:00.0\",kind=\"xid\",detail=\"48\"}";
    let host = Fixture::named("nvidia-h100x8-nvml").copy();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--sample-interval", "0.2"]));
    let prometheus = Prometheus::scraping(agent.address());
    agent.until("Prometheus knows the counter at 0", |_| {
        prometheus.query(XIDS) == [0.0] && prometheus.query(&format!("count_over_time({XIDS}[5m])"))[0] >= 2.0
    });
    host.driver_root().raise(json!({ "device": 0, "eventType": 8, "eventData": 48 }));
    agent.until("it has increased", |_| {
        // Prometheus extrapolates the increase to the whole time.
        prometheus.query(&format!("increase({XIDS}[5m])")).first().is_some_and(|increase| *increase > 0.9)
    });
    assert_eq!(prometheus.query(XIDS), [1.0]);
}
