//! The topology drawing in a real browser: no text leaves its box and no box overlaps another.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, process::Command};

use afd_tests::{fixture::Fixture, stdout};

/// Measures the layout of the drawing and appends the problems to the page.
const MEASURE: &str = r"
<script>
const inside = (inner, outer) => inner.left >= outer.left - 0.5 && inner.right <= outer.right + 0.5
    && inner.top >= outer.top - 0.5 && inner.bottom <= outer.bottom + 0.5;
const apart = (a, b) => a.right <= b.left + 0.5 || b.right <= a.left + 0.5 || a.bottom <= b.top + 0.5 || b.bottom <= a.top + 0.5;
const wrong = [], page = document.querySelector('svg').getBoundingClientRect();
let texts = 0;
for (const text of document.querySelectorAll('text')) {
  texts += 1;
  const box = text.getBoundingClientRect(), own = text.parentElement.querySelector(':scope > rect');
  if (!inside(box, page)) wrong.push('outside the page: ' + text.textContent);
  if (own && !own.classList.contains('near') && !own.classList.contains('middle') && !own.classList.contains('far')
      && !inside(box, own.getBoundingClientRect())) wrong.push('clipped: ' + text.textContent);
}
const all = [...document.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length; j++)
  if (!apart(all[i][1], all[j][1])) wrong.push('overlap: ' + all[i][0] + ' / ' + all[j][0]);
for (const kind of ['place', 'branch', 'device, .nic']) {
  const boxes = [...document.querySelectorAll('.' + kind)].map(box => box.getBoundingClientRect());
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++)
    if (!apart(boxes[i], boxes[j])) wrong.push('boxes overlap: ' + kind + ' ' + i + ' ' + j);
}
document.title = 'texts=' + texts + ' wrong=' + wrong.length;
document.body.append('RESULT texts=' + texts + ' wrong=[' + wrong.join('; ') + ']');
</script>";

#[test]
fn topology_drawings_are_readable_in_a_browser() {
    for name in [
        "nvidia-h100x8",
        "amd-mi300x8-spx",
        "amd-mi300x8-cpx-nps4",
        "amd-mi210x8-two-hives",
        "amd-mi250x-x4",
        "gaudi3-x8",
        "tpu-v6e-x8",
        "mixed-nvidia-amd",
    ] {
        let host = Fixture::named(name).lay_out();
        let drawing = stdout(&mut host.afd(["topology", "--output", "svg"]));
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let page = folder.path().join("page.html");
        let html = format!("<!doctype html><meta charset=utf-8><body style='margin:0'>{drawing}{MEASURE}");
        fs::write(&page, html).expect("the page can be written");
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--window-size=1700,1400", "--virtual-time-budget=2000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .expect("chromium is installed by `cargo xtask setup`");
        let dom = String::from_utf8_lossy(&output.stdout);
        let result = dom.rsplit("RESULT ").next().unwrap_or_default();
        let texts: u32 = result
            .strip_prefix("texts=")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name}: no result: {dom}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(texts > 10, "{name} has only {texts} texts");
        assert!(result.contains("wrong=[]"), "{name}: {}", result.split("</").next().unwrap_or_default());
    }
}
