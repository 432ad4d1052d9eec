//! A real Prometheus scrapes the agent, and its promtool reports no problem of any page.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use afd_tests::{agent::Agent, fixture, fixture::Fixture, stdout};

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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

#[test]
fn prometheus_scrapes_the_agent_and_answers_a_query() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes"]));
    check_with_promtool("the running agent", agent.get("/metrics").text());

    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let configuration = folder.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs:\n- job_name: afd\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{}']\n",
        agent.address()
    );
    fs::write(&configuration, text).expect("the configuration can be written");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("loopback has a free port").to_string();
    let _prometheus = Prometheus(
        Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed by `cargo xtask setup`"),
    );
    let query = || {
        Command::new("promtool")
            .args(["query", "instant", &format!("http://{address}"), "count(accelerator_device_info)"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    };
    agent.until("Prometheus counts eight devices", |_| query().contains("=> 8 @"));
}
