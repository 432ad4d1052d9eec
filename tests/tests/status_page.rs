//! The status page in a real browser: nothing overflows, nothing fails, and the content is there.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, process::Command};

use afd_tests::{agent::Agent, fixture::Fixture};

/// Measures the layout of the page and appends the problems to it. Only the test's copy contains this script.
const MEASURE: &str = r"
<script>
const wrong = [...failed], root = document.documentElement;
if (root.scrollWidth > root.clientWidth) wrong.push('wider than the window: ' + root.scrollWidth);
for (const cell of document.querySelectorAll('td, th'))
  if (cell.scrollWidth > cell.clientWidth + 1) wrong.push('clipped: ' + cell.textContent);
const rows = document.querySelectorAll('tbody tr').length;
document.body.append('RESULT rows=' + rows + ' wrong=[' + wrong.join('; ') + ']');
</script>";

const WATCH: &str = r"<script>
const failed = [];
addEventListener('error', event => failed.push('error: ' + event.message), true);
addEventListener('securitypolicyviolation', event => failed.push('refused: ' + event.blockedURI));
</script>";

#[test]
fn the_page_fits_and_works_in_a_browser() {
    for (name, width) in [
        ("nvidia-h100x8-nvml", 1400),
        ("amd-mi300x8-cpx-nps4", 700),
        ("unhappy", 1400),
        ("no-accelerator", 500),
    ] {
        let host = Fixture::named(name).lay_out();
        let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--discovery-interval", "0.5"]));
        let response = agent.get("/");
        assert_eq!(response.status, 200);
        assert!(response.headers.contains("content-type: text/html; charset=utf-8"), "{}", response.headers);
        let html = response.text();
        assert!(!html.contains("<script"), "the page itself has no script");
        // The Content-Security-Policy of the page would refuse the script that measures it.
        let policy = html.find("<meta http-equiv").expect("the page has a policy");
        let end = policy + html[policy..].find('\n').expect("the element ends");
        let page = format!("{}{WATCH}{}{MEASURE}", &html[..policy], &html[end..]);
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let file = folder.path().join("page.html");
        fs::write(&file, page).expect("the page can be written");
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--virtual-time-budget=2000", "--dump-dom"])
            .arg(format!("--window-size={width},1000"))
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("file://{}", file.display()))
            .output()
            .expect("chromium is installed by `cargo xtask setup`");
        let dom = String::from_utf8_lossy(&output.stdout);
        let result = dom.rsplit("RESULT ").next().unwrap_or_default();
        let rows: u32 = result
            .strip_prefix("rows=")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name}: no result: {dom}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(rows >= 9, "{name} has only {rows} rows");
        assert!(result.contains("wrong=[]"), "{name}: {}", result.split("</").next().unwrap_or_default());
    }
}

#[test]
fn the_page_shows_devices_health_and_paths() {
    let host = Fixture::named("nvidia-a100x2-no-driver").lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--node-name", "gpu-7"]));
    let response = agent.get("/");
    let html = response.text();
    for expected in [
        "<h1>Accelerators of gpu-7</h1>",
        "<th scope=\"row\">0000:",
        "NVIDIA A100 80GB PCIe",
        "<span class=\"bad\">failed</span><p>DriverMissing: ",
        "<th scope=\"row\">optimized-baseline</th><td><span class=\"bad\">no</span></td><td><p>TooFewDevices: ",
        "<svg ",
    ] {
        assert!(html.contains(expected), "{expected} is missing: {html}");
    }
}
