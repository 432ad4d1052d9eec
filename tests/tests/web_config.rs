//! TLS, client certificates, users and tokens of the HTTP endpoints, through the binary.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "web_config/authority.rs"]
mod authority;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use afd_tests::{
    agent::Agent,
    attack::{Attack, BadClient},
    fixture::{Fixture, FixtureHost},
    output,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tempfile::TempDir;
use tokio_rustls::rustls::ClientConfig;

use authority::{TLS, TestAuthority, tls_get};

const CLIENT_CA: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";

fn host() -> FixtureHost {
    Fixture::named("nvidia-h100x8").lay_out()
}

/// Starts an agent with the configuration in a folder, and waits until it is ready.
fn start(host: &FixtureHost, folder: &Path) -> Agent {
    let mut command = host.afd(["run", "--no-kubernetes", "--listen", "127.0.0.1:0"]);
    command.args(["--health-listen", "127.0.0.1:0", "--web.config.file"]).arg(folder.join("web-config.yml"));
    let agent = Agent::start_listening(command);
    agent.until("the agent is ready", |agent| {
        Agent::get_from(agent.health_address(), "/readyz").status == 200
    });
    agent
}

/// The status of a GET request over TLS, and the response.
fn get(
    agent: &Agent,
    client: &Arc<ClientConfig>,
    path: &str,
    headers: &str,
) -> Result<(u16, String), String> {
    tls_get(agent.address(), client, path, headers)
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn users(password: &str, cost: u32) -> String {
    let hash = bcrypt::hash(password, cost).expect("the cost is valid");
    format!("basic_auth_users:\n  alice: {hash}\n")
}

#[test]
fn pages_need_tls_and_a_password_and_health_needs_neither() {
    let (authority, folder, host) = (TestAuthority::new(), folder(), host());
    authority.write(folder.path(), &format!("{TLS}{}", users("secret", 4)));
    let agent = start(&host, folder.path());
    let client = authority.client(None);
    let status = |path: &str, headers: &str| get(&agent, &client, path, headers).map(|(status, _)| status);
    assert_eq!(status("/metrics", &basic("alice", "secret")), Ok(200));
    assert_eq!(status("/metrics", &basic("alice", "wrong")), Ok(401));
    assert_eq!(status("/metrics", &basic("bob", "secret")), Ok(401));
    assert_eq!(status("/inventory", ""), Ok(401));
    assert_eq!(status("/healthz", ""), Ok(200));
    let other = TestAuthority::new().client(None);
    assert!(get(&agent, &other, "/healthz", "").is_err(), "the certificate is of another authority");
    let mut plain = TcpStream::connect(agent.address()).expect("the agent accepts connections");
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request can be sent");
    let mut response = Vec::new();
    let _ = plain.read_to_end(&mut response);
    assert!(!response.starts_with(b"HTTP"), "nothing is served without TLS");
    agent.until("the rejections are counted", |agent| {
        let (_, page) = get(agent, &client, "/metrics", &basic("alice", "secret")).expect("it is served");
        let count = |reason: &str, number: u32| {
            let line =
                format!("afd_http_rejected_total{{listener=\"agent\",reason=\"{reason}\"}} {number}\n");
            page.contains(&line)
        };
        count("unauthorized", 3) && count("handshake_failed", 2)
    });
    assert_eq!(Agent::get_from(agent.health_address(), "/healthz").status, 200);
    assert_eq!(Agent::get_from(agent.health_address(), "/metrics").status, 404);
}

#[test]
fn a_client_certificate_is_required_where_it_is_configured() {
    let (authority, folder, host) = (TestAuthority::new(), folder(), host());
    authority.write(folder.path(), &format!("{TLS}{CLIENT_CA}"));
    let agent = start(&host, folder.path());
    let own = authority.client(Some(authority.issue()));
    assert_eq!(get(&agent, &own, "/metrics", "").map(|(status, _)| status), Ok(200));
    assert!(get(&agent, &authority.client(None), "/healthz", "").is_err(), "there is no certificate");
    let foreign = authority.client(Some(TestAuthority::new().issue()));
    assert!(get(&agent, &foreign, "/metrics", "").is_err(), "the certificate is of another authority");
}

#[test]
fn a_secret_that_changes_is_used_without_a_restart() {
    let (folder, host) = (folder(), host());
    // As the kubelet lays out a Secret: links through a link to a folder, which is replaced.
    let version = |name: &str, authority: &TestAuthority, config: &str| {
        let data = folder.path().join(name);
        fs::create_dir(&data).expect("the folder is writable");
        authority.write(&data, config);
        let next = folder.path().join("next");
        symlink(name, &next).expect("a link can be made");
        fs::rename(next, folder.path().join("..data")).expect("a link can be replaced");
    };
    let (first, second) = (TestAuthority::new(), TestAuthority::new());
    version("1", &first, TLS);
    for file in ["ca.crt", "server.crt", "server.key", "web-config.yml"] {
        symlink(Path::new("..data").join(file), folder.path().join(file)).expect("a link can be made");
    }
    let agent = start(&host, folder.path());
    let status = |authority: &TestAuthority| {
        get(&agent, &authority.client(None), "/metrics", "").map(|(status, _)| status)
    };
    assert_eq!(status(&first), Ok(200));
    version("2", &second, TLS);
    agent.until("the new certificate is used", |_| status(&second) == Ok(200));
    assert!(status(&first).is_err(), "the old one is not used any more");
    version("3", &first, "basic_auth_users: {alice: broken}\n");
    agent.until("the error is counted", |agent| {
        let metrics = get(agent, &second.client(None), "/metrics", "");
        metrics.is_ok_and(|(_, text)| text.contains("\nafd_web_config_errors_total 1\n"))
    });
    version("4", &first, "http_server_config: {headers: {X-Frame-Options: deny}}\n");
    agent.until("the loss of TLS is counted", |agent| {
        let metrics = get(agent, &second.client(None), "/metrics", "");
        metrics.is_ok_and(|(_, text)| text.contains("\nafd_web_config_errors_total 2\n"))
    });
}

#[test]
fn wrong_passwords_do_not_delay_scrapes() {
    let (authority, folder, host) = (TestAuthority::new(), folder(), host());
    // Each wrong password takes tenths of a second.
    authority.write(folder.path(), &format!("{TLS}{}", users("secret", 10)));
    let agent = start(&host, folder.path());
    let client = authority.client(None);
    let scrape = || get(&agent, &client, "/metrics", &basic("alice", "secret")).map(|(status, _)| status);
    agent.until("the password was checked", |_| scrape() == Ok(200));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (agent, client) = (&agent, &client);
            scope.spawn(move || {
                for guess in 0..20 {
                    let wrong = basic("alice", &format!("{thread}-{guess}"));
                    let status = get(agent, client, "/metrics", &wrong).map(|(status, _)| status);
                    assert!(matches!(status, Ok(401 | 429)), "{status:?}");
                }
            });
        }
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(scrape(), Ok(200));
        }
        println!("20 scrapes among wrong passwords: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    });
}

#[test]
fn handshakes_that_do_not_begin_take_no_place_from_scrapes() {
    let (authority, folder, host) = (TestAuthority::new(), folder(), host());
    authority.write(folder.path(), TLS);
    let agent = start(&host, folder.path());
    let client = authority.client(None);
    for kind in [BadClient::Silent, BadClient::HugeHeader, BadClient::NeverReads] {
        // From another address: a flood displaces its own connections.
        let attack = Attack::start("127.0.0.2", agent.address(), kind, 300);
        for _ in 0..20 {
            let start = Instant::now();
            let status = get(&agent, &client, "/metrics", "").map(|(status, _)| status);
            assert_eq!(status, Ok(200), "{kind:?} after {} connections", attack.opened());
            assert!(start.elapsed() < Duration::from_secs(30), "{kind:?}: {:?}", start.elapsed());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What the agent prints when it does not start.
fn refusal(arguments: &[&str]) -> String {
    let mut command = host().afd(["run", "--node-name", "node"]);
    let output = output(command.args(arguments));
    assert!(!output.status.success(), "it must not start");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_broken_configuration_is_an_error_at_the_start() {
    let folder = folder();
    let file = folder.path().join("web-config.yml");
    fs::write(&file, "tls_server_config: {cipher_suites: [X]}\n").expect("the folder is writable");
    let error = refusal(&[
        "--no-kubernetes",
        "--listen",
        "127.0.0.1:0",
        "--web-config-file",
        file.to_str().expect("it is UTF-8"),
    ]);
    assert!(error.contains("web-config.yml") && error.contains("cipher_suites"), "{error}");
    let error = refusal(&[
        "--no-kubernetes",
        "--listen",
        "127.0.0.1:0",
        "--web-config-file",
        "/nothing/web-config.yml",
    ]);
    assert!(error.contains("/nothing/web-config.yml cannot be read"), "{error}");
}

#[test]
fn tokens_are_not_accepted_without_tls() {
    let folder = folder();
    let file = folder.path().join("kubeconfig");
    let config = "{clusters: [{name: c, cluster: {server: \"http://127.0.0.1:9\"}}], users: [{name: u, user: {}}], \
                  contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x}";
    fs::write(&file, config).expect("the folder is writable");
    let file = file.to_str().expect("it is UTF-8");
    let error = refusal(&["--kubernetes-auth", "--listen", "[::]:0", "--kubeconfig", file]);
    assert!(error.contains("would send tokens unencrypted"), "{error}");
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder can be made")
}
