//! The status page in a real browser: it fits every window, its values change, nothing else is requested, and no text of the host
//! is code.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "status_page/served.rs"]
mod served;

use std::fs;

use afd_tests::{
    agent::Agent,
    browser::Browser,
    fixture::{Fixture, FixtureHost},
};
use serde_json::{Value, json};

use served::{ServedReport, busy_devices};

/// What is wrong with the layout: something is wider than the window or its cell, or a text has too little contrast (WCAG 2.2, level
/// AA) to what is behind it.
const FAULTS: &str = r"(() => {
const wrong = [], root = document.documentElement;
if (root.scrollWidth > root.clientWidth) wrong.push('wider than the window: ' + root.scrollWidth);
for (const cell of document.querySelectorAll('td, th'))
  if (cell.scrollWidth > cell.clientWidth + 1) wrong.push('clipped: ' + cell.textContent);
const rgb = text => text.match(/[\d.]+/g).map(Number);
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = element => {
  for (; element; element = element.parentElement) {
    const color = rgb(getComputedStyle(element).backgroundColor);
    if (color[3] !== 0) return color;
  }
  return [255, 255, 255];
};
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || element.closest('svg, script') || !element.checkVisibility()) continue;
  const ratio = contrast(rgb(getComputedStyle(element).color), behind(element));
  if (ratio < 4.5) wrong.push('contrast ' + ratio.toFixed(1) + ': ' + texts.currentNode.data);
}
for (const path of document.querySelectorAll('.spark path')) {
  const ratio = contrast(rgb(getComputedStyle(path).stroke), behind(path.parentElement));
  if (ratio < 3) wrong.push('contrast of a history: ' + ratio.toFixed(1));
}
// In the drawing, a text is on the last box that is drawn around it.
const boxes = [...document.querySelectorAll('svg[role] rect')].map(box => [box, box.getBoundingClientRect()]);
for (const text of document.querySelectorAll('svg[role] text')) {
  const { left, right, top, bottom } = text.getBoundingClientRect(), x = (left + right) / 2, y = (top + bottom) / 2;
  const around = boxes.filter(([, box]) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom);
  if (!around.length) { wrong.push('outside of the drawing: ' + text.textContent); continue; }
  const [box] = around.pop();
  const ratio = contrast(rgb(getComputedStyle(text).fill), rgb(getComputedStyle(box).fill));
  if (ratio < 4.5) wrong.push('contrast ' + ratio.toFixed(1) + ' in the drawing: ' + text.textContent);
}
return [...new Set(wrong)].slice(0, 9);
})()";

/// Windows: name, width, whether it is that of a phone, and the preferred colours.
const WINDOWS: [(&str, u32, bool, &str); 3] =
    [("light", 1400, false, "light"), ("dark", 900, false, "dark"), ("phone", 360, true, "light")];

/// Opens a page, and waits until its script has read the values once.
fn open(browser: &mut Browser, url: &str) {
    browser.open(url);
    browser.until("the page is live", "document.getElementById('age').textContent !== ''");
}

fn assert_only_requested(browser: &Browser, url: &str) {
    let foreign: Vec<&String> = browser.requests().iter().filter(|other| !other.starts_with(url)).collect();
    assert!(!browser.requests().is_empty() && foreign.is_empty(), "{foreign:?}");
}

#[test]
fn the_page_fits_every_window_and_can_be_read() {
    let mut browser = Browser::start();
    let served = ServedReport::new(&busy_devices(64));
    let names = ["nvidia-h100x8-nvml", "amd-mi300x8-cpx-nps4", "unhappy", "amd-strix-halo", "no-accelerator"];
    let agents: Vec<(&str, (FixtureHost, Agent))> = names.map(|name| (name, start(name))).into();
    let pages = agents.iter().map(|(name, (_, agent))| (*name, agent.address()));
    for (name, address) in pages.chain([("64-devices", served.address())]) {
        let url = format!("http://{address}/");
        for (window, width, is_phone, colors) in WINDOWS {
            browser.set_size(width, 900, is_phone);
            browser.set_colors(colors);
            open(&mut browser, &url);
            assert_eq!(browser.value(FAULTS), json!([]), "{name}, {window}");
            assert_eq!(browser.errors(), [""; 0], "{name}, {window}");
            assert_only_requested(&browser, &url);
            browser.screenshot(&format!("{name}-{window}"));
        }
    }
}

fn start(name: &str) -> (FixtureHost, Agent) {
    let host = Fixture::named(name).lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--sample-interval", "0.5"]));
    (host, agent)
}

#[test]
fn values_change_and_their_history_grows_while_the_page_is_visible() {
    let host = Fixture::named("amd-mi210x8-two-hives").copy();
    let (_, function) = host.pci_link("0x740f");
    let busy = host.root().join("sys/bus/pci/devices").join(function).join("gpu_busy_percent");
    let set = |percent: u32| fs::write(&busy, format!("{percent}\n")).expect("a file can be written");
    set(13);
    let options = ["run", "--no-kubernetes", "--no-libraries", "--sample-interval", "0.3"];
    let agent = Agent::start(host.afd(options));
    let mut browser = Browser::start();
    let url = format!("http://{}/", agent.address());
    open(&mut browser, &url);
    let shows = |text: &str| {
        format!("[...document.querySelectorAll('td')].some(cell => cell.textContent.trim() === '{text}')")
    };
    browser.until("the value is shown", &shows("13 %"));
    // Two values are drawn as a line.
    browser.value("window.first = document.querySelector('h1')");
    set(87);
    browser.until("the value has changed", &shows("87 %"));
    browser.until(
        "its history has grown",
        "[...document.querySelectorAll('.spark')].some(svg => svg.dataset.v === '0.87' && \
         svg.firstElementChild.getAttribute('d').split('L').length >= 2)",
    );
    assert_eq!(browser.value("window.first.isConnected"), json!(true), "the page was not loaded again");
    // A page that is hidden requests nothing.
    browser.value(
        "Object.defineProperty(document, 'hidden', { get: () => window.isHidden, configurable: true }); \
         window.isHidden = true; document.dispatchEvent(new Event('visibilitychange')); 0",
    );
    // One request may be under way.
    browser.value("new Promise(done => setTimeout(done, 1500))");
    let before = browser.requests().len();
    browser.value("new Promise(done => setTimeout(done, 5000))");
    assert_eq!(browser.requests().len(), before, "{:?}", browser.requests());
    set(42);
    browser.value("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange')); 0");
    browser.until("it goes on", &shows("42 %"));
    assert_only_requested(&browser, &url);
    // An agent that is gone is said, and the last values stay.
    drop(agent);
    browser.until("the agent is gone", "document.getElementById('age').textContent.startsWith('No answer')");
    assert_eq!(browser.value(&shows("42 %")), json!(true));
}

#[test]
fn no_text_of_the_host_is_code() {
    let hostile = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=2</script>";
    let mut inventory = busy_devices(2);
    inventory.devices[0].health = afd_model::Health::failed(hostile, hostile);
    inventory.devices[1].driver = afd_model::Known::Value(hostile.to_owned());
    let served = ServedReport::new(&inventory);
    let mut browser = Browser::start();
    let url = format!("http://{}/", served.address());
    open(&mut browser, &url);
    assert_eq!(browser.value("window.hacked === undefined && document.images.length === 0"), json!(true));
    let text = browser.value("document.querySelector('main').innerText");
    assert!(text.as_str().is_some_and(|text| text.matches(hostile).count() >= 3), "it is shown: {text}");
    assert_eq!(browser.errors(), [""; 0]);
    // Neither does code run that would be on the page all the same.
    let added = "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.hacked=3\">'); \
                 new Promise(done => setTimeout(() => done(window.hacked === undefined), 500))";
    assert_eq!(browser.value(added), json!(true), "the policy of the page forbids it");
    assert!(!browser.errors().is_empty(), "and the browser reports it");
}

#[test]
fn a_page_of_a_stuck_loop_says_how_old_it_is() {
    let served = ServedReport::new(&busy_devices(1));
    served.set_age(95);
    let mut browser = Browser::start();
    open(&mut browser, &format!("http://{}/", served.address()));
    let age = browser.value("document.getElementById('age').textContent");
    let seconds = |age: &Value| {
        let text = age.as_str()?.strip_prefix("The agent’s loop is stuck: these values are ")?;
        text.strip_suffix(" s old")?.parse::<u32>().ok()
    };
    assert!(seconds(&age).is_some_and(|seconds| (95..200).contains(&seconds)), "{age}");
    browser.until("it counts", &format!("document.getElementById('age').textContent !== {age}"));
    served.set_age(0);
    browser.until("it is current", "document.getElementById('age').textContent.startsWith('Updated')");
}

#[test]
fn without_a_script_the_page_has_the_present_values() {
    let host = Fixture::named("nvidia-a100x2-no-driver").lay_out();
    let docs = "https://docs.example.com/PAGE.html";
    let agent =
        Agent::start(host.afd(["run", "--no-kubernetes", "--node-name", "gpu-7", "--docs-url", docs]));
    let response = agent.get("/");
    assert_eq!(response.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "age: ",
        "cache-control: no-store",
    ] {
        assert!(response.headers.contains(header), "{header} is missing: {}", response.headers);
    }
    let html = response.text();
    for expected in [
        "<h1>Accelerators of gpu-7</h1>",
        "<span class=\"id\">0000:",
        "NVIDIA A100 80GB PCIe",
        "<span class=\"bad\">failed</span><p><a href=\"https://docs.example.com/conditions.html#reason-drivermissing\">\
         DriverMissing</a>: ",
        "–<small>no driver is bound</small>",
        ">optimized-baseline</a></th><td data-l=\"Ready\"><span class=\"bad\">no</span></td><td data-l=\"Why\">\
         <p>TooFewDevices: ",
        "<svg ",
    ] {
        assert!(html.contains(expected), "{expected} is missing: {html}");
    }
    let part = agent.get("/live.html");
    assert!(part.text().starts_with("<main ") && part.text().ends_with("</main>\n"), "{}", part.text());
    let live: Value = serde_json::from_slice(&agent.get("/live").body).expect("it is JSON");
    assert_eq!((&live["node"], &live["devices"][0]["health"]), (&json!("gpu-7"), &json!("failed")));
}
